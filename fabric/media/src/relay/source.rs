//! What a peer's stream looks like to us: sequence, loss, jitter, doubles (RFC 3550 §A.1, §A.3, §A.8).
//!
//! In: headers of packets that the latch took. Out: for each its extended sequence number, or why it
//! is not used; counts. A number is let through once, so that the relay never sends two different
//! packets under one number of ours.

use contract::Time;

use crate::rtp::RtpHeader;

/// Largest step forward that is still loss (RFC 3550 §A.1, `MAX_DROPOUT`).
const DROPOUT_MAX: i64 = 3_000;
/// Largest step backward that is still reordering (RFC 3550 §A.1, `MAX_MISORDER`).
const MISORDER_MAX: i64 = 100;
/// Numbers below the highest that may still come: one bit each.
const WINDOW_BITS: i64 = 64;

/// Place of a packet in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is new: its extended number in the stream with this count of restarts.
    Fresh { sequence: u64, restarts: u32 },
    /// The number was there before.
    Duplicate,
    /// The number is older than the window.
    Late,
    /// The sequence jumped; taken if the next packet follows this one.
    Jump,
}

/// One stream of a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    ssrc: u32,
    restarts: u32,
    base: u64,
    highest: u64,
    /// Bit n: the packet n below the highest has come.
    window: u64,
    received: u64,
    after_jump: Option<u16>,
    transit: Option<u32>,
    /// Jitter times 16, as §A.8 keeps it.
    jitter: u32,
    /// Loss of earlier streams of the leg.
    lost_before: u64,
}

impl Source {
    /// Starts with the first packet of a stream; `former` is the leg's stream before it.
    pub(super) fn new(header: &RtpHeader, former: Option<&Source>) -> Self {
        // One cycle up, so that packets from before the first have a number too.
        let first = 0x1_0000 | u64::from(header.sequence);
        Source {
            ssrc: header.ssrc,
            restarts: former.map_or(0, |former| former.restarts.wrapping_add(1)),
            base: first,
            highest: first,
            window: 0,
            received: 0,
            after_jump: None,
            transit: None,
            jitter: former.map_or(0, |former| former.jitter),
            lost_before: former.map_or(0, Source::lost),
        }
    }

    pub(super) const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Places a packet of this stream.
    pub(super) fn place(&mut self, header: &RtpHeader) -> Arrival {
        let ahead = i64::from(header.sequence.wrapping_sub(self.highest as u16) as i16);
        if self.received == 0 {
            self.window = 1;
        } else if ahead > 0 && ahead < DROPOUT_MAX {
            self.highest += ahead.unsigned_abs();
            self.window = if ahead < WINDOW_BITS {
                self.window << ahead | 1
            } else {
                1
            };
        } else if ahead <= 0 && ahead > -WINDOW_BITS {
            let bit = 1 << ahead.unsigned_abs();
            if self.window & bit != 0 {
                return Arrival::Duplicate;
            }
            self.window |= bit;
        } else if (-MISORDER_MAX..=0).contains(&ahead) {
            return Arrival::Late;
        } else if self.after_jump == Some(header.sequence) {
            *self = Source {
                ssrc: self.ssrc,
                ..Source::new(header, Some(self))
            };
            self.window = 1;
        } else {
            self.after_jump = Some(header.sequence.wrapping_add(1));
            return Arrival::Jump;
        }
        self.after_jump = None;
        self.received += 1;
        let ahead = i64::from(header.sequence.wrapping_sub(self.highest as u16) as i16);
        let sequence = self.highest.wrapping_add_signed(ahead);
        // A packet from before the first one counts as expected too.
        self.base = self.base.min(sequence);
        Arrival::Fresh {
            sequence,
            restarts: self.restarts,
        }
    }

    /// Takes the arrival time of a packet into the jitter (§A.8).
    pub(super) fn time(&mut self, timestamp: u32, now: Time, clock_rate: u32) {
        let transit = ticks(now, clock_rate).wrapping_sub(timestamp);
        if let Some(former) = self.transit {
            let difference = (transit.wrapping_sub(former) as i32).unsigned_abs();
            let decay = self.jitter.saturating_add(8) >> 4;
            self.jitter = self.jitter.saturating_add(difference).saturating_sub(decay);
        }
        self.transit = Some(transit);
    }

    /// Returns the interarrival jitter in clock ticks.
    pub(super) const fn jitter(&self) -> u32 {
        self.jitter >> 4
    }

    /// Returns how many packets are missing, earlier streams of the leg included.
    pub(super) const fn lost(&self) -> u64 {
        let expected = self.highest - self.base + 1;
        self.lost_before + expected.saturating_sub(self.received)
    }
}

/// Returns a time in ticks of an RTP clock, modulo 2^32.
pub(super) fn ticks(time: Time, clock_rate: u32) -> u32 {
    let ticks = u128::from(time.as_micros()) * u128::from(clock_rate) / 1_000_000;
    (ticks & u128::from(u32::MAX)) as u32
}
