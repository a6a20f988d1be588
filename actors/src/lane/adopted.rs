//! A server transaction of which only the responses are known: its request came before the node's
//! last start, its user still answers (`cluster.md` §8: transaction timers are not stored).
//!
//! In: responses of the user, retransmissions and the ACK of the peer, time. Out: octets to send.
//! It delivers nothing: what the request asked, its user knows from its record.

use std::time::Duration;

use bytes::Bytes;
use contract::Time;

/// How often a final response to INVITE is sent first (RFC 3261 §17.1.1.1, T1), and at most (T2).
const RESEND_FIRST: Duration = Duration::from_millis(500);
const RESEND_MOST: Duration = Duration::from_secs(4);

/// How long a final response is kept: 64 × T1 (Timers H and J).
const KEEP: Duration = Duration::from_secs(32);

/// The last response, and what is still due for it.
#[derive(Debug)]
pub(super) struct Adopted {
    last: Bytes,
    resend: Option<(Time, Duration)>,
    ends: Time,
}

impl Adopted {
    /// Takes a first response; `patience` is how long a provisional one may stand.
    pub(super) fn new(now: Time, patience: Duration) -> Self {
        Adopted {
            last: Bytes::new(),
            resend: None,
            ends: now + patience,
        }
    }

    /// Keeps a response as the last one.
    ///
    /// In: `wants_ack` for a refusal of an INVITE over datagrams: it is sent again until the ACK
    /// comes; a 2xx is sent again by its user (RFC 3261 §13.3.1.4).
    pub(super) fn keep(&mut self, response: Bytes, is_final: bool, wants_ack: bool, now: Time) {
        self.last = response;
        self.resend = wants_ack.then(|| (now + RESEND_FIRST, RESEND_FIRST));
        if is_final {
            self.ends = now + KEEP;
        }
    }

    /// Returns what answers a retransmission of the request.
    pub(super) fn last(&self) -> Bytes {
        self.last.clone()
    }

    /// Notes the ACK: nothing is sent of itself any more.
    pub(super) const fn acknowledge(&mut self) {
        self.resend = None;
    }

    /// Returns when something is due.
    pub(super) fn next_deadline(&self) -> Time {
        self.resend.map_or(self.ends, |(at, _)| at.min(self.ends))
    }

    /// Returns what is sent again now, if anything.
    pub(super) fn on_timer(&mut self, now: Time) -> Option<Bytes> {
        let (at, length) = self.resend?;
        if at > now {
            return None;
        }
        let next = (length * 2).min(RESEND_MOST);
        self.resend = Some((now + next, next));
        Some(self.last.clone())
    }

    /// Tells whether it is over.
    pub(super) fn is_over(&self, now: Time) -> bool {
        self.ends <= now
    }
}
