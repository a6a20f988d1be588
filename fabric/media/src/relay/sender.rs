//! What we send to a peer: our SSRC, our sequence and timestamps, whatever stream they come from.
//!
//! In: packets of another peer's stream, of this one's (echo) or of a tone. Out: the numbers they go
//! out with. A change of stream goes on where the last one ended; loss and order within a stream
//! are kept. Each number is used once, and only out of a recorded block (`cluster.md` §7): the next
//! block is asked for when three quarters are used, or by the first packet where none is recorded, and
//! without it nothing is sent. Numbers are counted with their roll-overs, as SRTP wants them (RFC 3711 §3.3.1).

use std::time::Duration;

use contract::limits::SEQUENCE_BLOCK;
use contract::{LegConfig, SideKey, Time};

use super::source::ticks;

/// Widest gap in a stream that is kept: about a second of speech. A peer that skips numbers must
/// not use up ours, as each block costs a record.
const GAP_MAX: u64 = 64;

/// Packets without a number after which the next block is asked for once more: a third of a second.
const ASK_AGAIN: u32 = 16;

/// First index that does not exist: the roll-over counter has 32 bits (RFC 3711 §3.3.1).
const INDEX_END: u64 = 1 << 48;

/// A stream that is sent: whose, which, and which restart of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamId {
    pub(super) origin: Origin,
    pub(super) restarts: u32,
}

/// Where a stream comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The peer of a leg, with its SSRC.
    Peer(SideKey, u32),
    /// A tone of ours.
    Tone,
    /// Digits of ours.
    Digits,
}

/// Where numbers may begin at the earliest, because those before are used, and how far they are
/// recorded: roll-over counter times 65,536 plus sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Floor {
    pub(super) next: u64,
    pub(super) limit: u64,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    id: StreamId,
    /// Numbers below came before the stream was joined to ours, and are not used.
    floor: u64,
    sequence_offset: u64,
    timestamp_offset: u32,
}

/// The numbers of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) sequence: u16,
    pub(super) rollover: u32,
    pub(super) timestamp: u32,
    /// First packet after a change of stream.
    pub(super) is_first: bool,
}

/// Why a packet gets no numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unplaced {
    /// It is from before its stream was joined.
    Late,
    /// No recorded number is left.
    Exhausted,
}

/// The sending half of one leg.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    /// What signalling gave us; another value starts anew.
    given: Given,
    ssrc: u32,
    has_collided: bool,
    /// Index after the highest one sent; the low 16 bits go on the wire.
    next: u64,
    /// First index that is not recorded yet.
    limit: u64,
    asked_until: u64,
    /// Something was to be sent.
    is_wanted: bool,
    /// Packets that found no number since the last one that did.
    refused: u32,
    timestamp: u32,
    sent: Option<Time>,
    stream: Option<Stream>,
}

impl Sender {
    pub(super) fn new(config: &LegConfig) -> Self {
        let start = start_index(config);
        let limit = start + u64::from(config.sequence_reserved);
        Sender {
            given: Given::of(config),
            ssrc: config.ssrc,
            has_collided: false,
            next: start,
            limit,
            asked_until: limit,
            is_wanted: false,
            refused: 0,
            timestamp: config.timestamp_start,
            sent: None,
            stream: None,
        }
    }

    /// Tells whether a configuration gives the numbers that this stream began with.
    pub(super) fn is_given(&self, config: &LegConfig) -> bool {
        self.given == Given::of(config)
    }

    /// Begins anew where the configuration says, but not before `floor`.
    pub(super) fn restart(&mut self, config: &LegConfig, floor: Floor) {
        let former = self.clone();
        *self = Sender::new(config);
        self.next = self.next.max(floor.next);
        self.limit = self.limit.max(floor.limit);
        self.asked_until = self.limit;
        let is_same_clock =
            self.given.ssrc == former.given.ssrc && self.given.timestamp == former.given.timestamp;
        if is_same_clock {
            self.timestamp = former.timestamp;
            self.sent = former.sent;
        }
    }

    /// Returns how far the stream is.
    pub(super) const fn floor(&self) -> Floor {
        Floor {
            next: self.next,
            limit: self.limit,
        }
    }

    pub(super) const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Returns the last timestamp sent, or the first to be sent.
    pub(super) const fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// Tells whether an SSRC of the peer is ours, or was before it collided.
    pub(super) const fn is_ours(&self, ssrc: u32) -> bool {
        self.ssrc == ssrc || (self.has_collided && self.given.ssrc == ssrc)
    }

    /// Takes another SSRC because the peer uses ours (RFC 3550 §8.2), once: a peer that follows
    /// sends our own packets back, and running away from it would not end.
    pub(super) fn collide(&mut self) {
        if !self.has_collided {
            self.has_collided = true;
            self.ssrc = self
                .ssrc
                .wrapping_mul(0x9e37_79b1)
                .wrapping_add(0x7f4a_7c15);
        }
    }

    /// Gives a packet of a stream its numbers.
    pub(super) fn place(
        &mut self,
        id: StreamId,
        sequence: u64,
        timestamp: u32,
        now: Time,
        clock_rate: u32,
    ) -> Result<Placed, Unplaced> {
        self.is_wanted = true;
        if self.next >= self.limit.min(INDEX_END) {
            self.refused += 1;
            if self.refused.is_multiple_of(ASK_AGAIN) {
                // The question or its answer was lost: an inbox was full.
                self.asked_until = self.limit;
            }
            return Err(Unplaced::Exhausted);
        }
        self.refused = 0;
        let known = self.stream.filter(|stream| stream.id == id);
        let mut stream = known.unwrap_or_else(|| Stream {
            id,
            floor: sequence,
            sequence_offset: self.next.wrapping_sub(sequence),
            timestamp_offset: self.next_timestamp(now, clock_rate).wrapping_sub(timestamp),
        });
        if sequence < stream.floor {
            return Err(Unplaced::Late);
        }
        let mut ours = sequence.wrapping_add(stream.sequence_offset);
        if ours >= self.limit.min(INDEX_END) || ours > self.next + GAP_MAX {
            ours = self.next;
            stream.floor = sequence;
            stream.sequence_offset = ours.wrapping_sub(sequence);
        }
        let timestamp = timestamp.wrapping_add(stream.timestamp_offset);
        if ours >= self.next {
            self.next = ours + 1;
            self.timestamp = timestamp;
            self.sent = Some(now);
        }
        self.stream = Some(stream);
        Ok(Placed {
            sequence: ours as u16,
            rollover: (ours >> 16) as u32,
            timestamp,
            is_first: known.is_none(),
        })
    }

    /// Returns the end of the block to be recorded next, once three quarters of this one are used, or
    /// the first number is wanted where none is recorded.
    pub(super) fn wanted_reserve(&self) -> Option<u16> {
        let quarter = u64::from(SEQUENCE_BLOCK / 4);
        let is_low = self.next + quarter >= self.limit;
        let is_due = self.is_wanted && is_low && self.asked_until == self.limit;
        is_due.then(|| (self.limit + u64::from(SEQUENCE_BLOCK)) as u16)
    }

    /// Returns the end of the block that is recorded or asked for.
    pub(super) const fn reserve_end(&self) -> u16 {
        self.asked_until as u16
    }

    /// Notes that the next block has been asked for.
    pub(super) fn reserve_asked(&mut self) {
        self.asked_until = self.limit + u64::from(SEQUENCE_BLOCK);
    }

    /// Allows the numbers of a recorded block, if it is the one that was asked for.
    pub(super) fn extend(&mut self, sequence_end: u16) {
        if sequence_end == self.reserve_end() {
            self.limit = self.asked_until;
        }
    }

    /// Returns the peer's SSRC behind our stream, if it comes from `leg`, with the offsets between
    /// its numbers and ours: sequence and timestamp.
    pub(super) fn behind(&self, leg: SideKey) -> Option<(u32, u32, u32)> {
        let stream = self.stream?;
        let Origin::Peer(from, ssrc) = stream.id.origin else {
            return None;
        };
        if from != leg {
            return None;
        }
        Some((ssrc, stream.sequence_offset as u32, stream.timestamp_offset))
    }

    /// Timestamp of the first packet of a new stream: later than the last by the time that passed.
    fn next_timestamp(&self, now: Time, clock_rate: u32) -> u32 {
        match self.sent {
            None => self.timestamp,
            Some(sent) => {
                let now = now.max(sent);
                let passed = ticks(now, clock_rate).wrapping_sub(ticks(sent, clock_rate));
                self.timestamp.wrapping_add(passed.max(1))
            }
        }
    }
}

/// Returns the timestamp a restarted leg begins with, from the last one recorded and the time since.
///
/// Units: `clock_rate` in hertz. Modulo 2^32, as timestamps are.
#[must_use]
pub fn recovered_timestamp(recorded: u32, passed: Duration, clock_rate: u32) -> u32 {
    let micros = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
    recorded.wrapping_add(ticks(Time::from_micros(micros), clock_rate).max(1))
}

/// What a configuration says of our numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Given {
    ssrc: u32,
    start: u64,
    timestamp: u32,
}

impl Given {
    fn of(config: &LegConfig) -> Self {
        Given {
            ssrc: config.ssrc,
            start: start_index(config),
            timestamp: config.timestamp_start,
        }
    }
}

/// Returns the index a configuration starts with.
pub(super) fn start_index(config: &LegConfig) -> u64 {
    u64::from(config.rollover_start) << 16 | u64::from(config.sequence_start)
}
