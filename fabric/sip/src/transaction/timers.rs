//! Lengths of the transaction timers (RFC 3261 table 4, RFC 6026 §7) and the two a machine may run.
//!
//! In: the estimates T1, T2, T4. Out: lengths by letter, deadlines. A machine never runs more than
//! one repeating timer and one limit at a time, so both stand in the machine itself: a table by
//! name would cost more than the rest of a completed transaction (benchmarks.md B-R1).

use std::time::Duration;

use contract::Time;

/// The estimates from which all timers follow, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// T1: an estimate of the round trip.
    pub t1_ms: u32,
    /// T2: the longest interval between retransmissions of anything but INVITE.
    pub t2_ms: u32,
    /// T4: how long a message may stay in the network.
    pub t4_ms: u32,
    /// Timer D: how long a client absorbs final responses to INVITE on datagrams.
    pub d_ms: u32,
    /// How long an INVITE may stay without any answer before we send 100 (RFC 3261 §17.2.1).
    pub trying_ms: u32,
}

impl Default for Timers {
    /// The values of RFC 3261 table 4.
    fn default() -> Self {
        Self {
            t1_ms: 500,
            t2_ms: 4_000,
            t4_ms: 5_000,
            d_ms: 32_000,
            trying_ms: 200,
        }
    }
}

impl Timers {
    /// Returns 64·T1: timers B, F, H, J, L and M, and the wait for a 2xx's ACK (§13.3.1.4).
    #[must_use]
    pub const fn limit_ms(&self) -> u32 {
        self.t1_ms.saturating_mul(64)
    }

    /// Returns the interval after `interval_ms` of timers E and G and of 2xx retransmissions: twice
    /// as long, T2 at most.
    #[must_use]
    pub fn next_interval_ms(&self, interval_ms: u32) -> u32 {
        interval_ms.saturating_mul(2).min(self.t2_ms)
    }
}

/// The timers that run in a machine; `K` names them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed<K> {
    repeat: Option<(K, Time)>,
    limit: Option<(K, Time)>,
    interval_ms: u32,
}

impl<K> Default for Armed<K> {
    fn default() -> Self {
        Self {
            repeat: None,
            limit: None,
            interval_ms: 0,
        }
    }
}

impl<K: Copy> Armed<K> {
    /// Sets the timer that retransmits, to run out `interval_ms` after `now`; at least 1 ms, so
    /// that a configured T1 of 0 cannot repeat without end at one time.
    pub(super) fn set_repeat(&mut self, timer: K, now: Time, interval_ms: u32) {
        let interval_ms = interval_ms.max(1);
        self.repeat = Some((timer, now + millis(interval_ms)));
        self.interval_ms = interval_ms;
    }

    /// Sets the timer that ends the state, to run out `length_ms` after `now`.
    pub(super) fn set_limit(&mut self, timer: K, now: Time, length_ms: u32) {
        self.limit = Some((timer, now + millis(length_ms)));
    }

    /// Returns the interval that the retransmitting timer was last set to.
    pub(super) const fn interval_ms(&self) -> u32 {
        self.interval_ms
    }

    /// Returns when the next timer runs out.
    pub(super) fn next(&self) -> Option<Time> {
        match (self.repeat, self.limit) {
            (Some((_, repeat)), Some((_, limit))) => Some(repeat.min(limit)),
            (Some((_, at)), None) | (None, Some((_, at))) => Some(at),
            (None, None) => None,
        }
    }

    /// Takes a timer that has run out; the limit first, since nothing is repeated after it.
    pub(super) fn take_due(&mut self, now: Time) -> Option<K> {
        let is_due = |slot: &Option<(K, Time)>| slot.as_ref().is_some_and(|(_, at)| *at <= now);
        let slot = if is_due(&self.limit) {
            &mut self.limit
        } else {
            &mut self.repeat
        };
        if !is_due(slot) {
            return None;
        }
        slot.take().map(|(timer, _)| timer)
    }
}

fn millis(length_ms: u32) -> Duration {
    Duration::from_millis(u64::from(length_ms))
}
