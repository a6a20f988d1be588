//! What we send to a peer: our SSRC, our sequence and timestamps, whatever stream they come from.
//!
//! In: packets of another peer's stream, of this one's (echo) or of a tone. Out: the numbers they go
//! out with. A change of stream goes on where the last one ended; loss and order within a stream
//! are kept. Each number is used once, and only out of a recorded block (`cluster.md` §7): the next
//! block is asked for when three quarters are used, and without it nothing is sent.

use std::time::Duration;

use contract::limits::SEQUENCE_BLOCK;
use contract::{LegConfig, SideKey, Time};

use super::source::ticks;

/// Widest gap in a stream that is kept: about a second of speech. A peer that skips numbers must
/// not use up ours, as each block costs a record.
const GAP_MAX: u64 = 64;

/// A stream that is sent on: whose, which, and which restart of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamId {
    pub(super) leg: SideKey,
    pub(super) ssrc: u32,
    pub(super) restarts: u32,
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
    given: (u32, u16, u32),
    ssrc: u32,
    has_collided: bool,
    /// Number after the highest one sent; the low 16 bits go on the wire.
    next: u64,
    /// First number that is not recorded yet.
    limit: u64,
    asked_until: u64,
    timestamp: u32,
    sent: Option<Time>,
    stream: Option<Stream>,
}

impl Sender {
    pub(super) fn new(config: &LegConfig) -> Self {
        let start = 0x1_0000 | u64::from(config.sequence_start);
        let limit = start + u64::from(SEQUENCE_BLOCK);
        Sender {
            given: given(config),
            ssrc: config.ssrc,
            has_collided: false,
            next: start,
            limit,
            asked_until: limit,
            timestamp: config.timestamp_start,
            sent: None,
            stream: None,
        }
    }

    /// Starts anew if the configuration gives other numbers; else goes on.
    pub(super) fn update(&mut self, config: &LegConfig) {
        if self.given != given(config) {
            *self = Sender::new(config);
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
        self.ssrc == ssrc || (self.has_collided && self.given.0 == ssrc)
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
        if self.next >= self.limit {
            return Err(Unplaced::Exhausted);
        }
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
        if ours >= self.limit || ours > self.next + GAP_MAX {
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
            timestamp,
            is_first: known.is_none(),
        })
    }

    /// Returns the end of the block to be recorded next, once three quarters of this one are used.
    pub(super) fn wanted_reserve(&self) -> Option<u16> {
        let quarter = u64::from(SEQUENCE_BLOCK / 4);
        let is_due = self.next + quarter >= self.limit && self.asked_until == self.limit;
        is_due.then(|| (self.limit + u64::from(SEQUENCE_BLOCK)) as u16)
    }

    /// Notes that the next block has been asked for.
    pub(super) fn reserve_asked(&mut self) {
        self.asked_until = self.limit + u64::from(SEQUENCE_BLOCK);
    }

    /// Allows the numbers of a recorded block; ends that are no later than known change nothing.
    pub(super) fn extend(&mut self, sequence_end: u16) {
        let more = sequence_end.wrapping_sub(self.limit as u16);
        if more <= SEQUENCE_BLOCK {
            self.limit += u64::from(more);
            self.asked_until = self.asked_until.max(self.limit);
        }
    }

    /// Returns the peer's SSRC behind our stream, if it comes from `leg`, with the offsets between
    /// its numbers and ours: sequence and timestamp.
    pub(super) fn behind(&self, leg: SideKey) -> Option<(u32, u32, u32)> {
        let stream = self.stream.filter(|stream| stream.id.leg == leg)?;
        Some((
            stream.id.ssrc,
            stream.sequence_offset as u32,
            stream.timestamp_offset,
        ))
    }

    /// Timestamp of the first packet of a new stream: later than the last by the time that passed.
    fn next_timestamp(&self, now: Time, clock_rate: u32) -> u32 {
        match self.sent {
            None => self.timestamp,
            Some(sent) => {
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

const fn given(config: &LegConfig) -> (u32, u16, u32) {
    (config.ssrc, config.sequence_start, config.timestamp_start)
}
