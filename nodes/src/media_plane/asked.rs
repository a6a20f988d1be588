//! Whose check a STUN response answers.
//!
//! In: requests that agents and paths send, responses. Out: the leg, and which part of it asked. A
//! response names no leg (RFC 8489 §6.3.3), and two legs may ask one address, so the number decides:
//! 96 random bits that only the peer and those on the way to it know.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::SideKey;
use contract::limits::STUN_ASKED_MAX;
use media::stun::{HEADER_BYTES, is_stun};

/// Number of a transaction.
type Number = [u8; 12];

/// Part of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// The agent that sets a path up.
    Agent,
    /// The path core.
    Path,
}

/// Requests of one worker that wait for a response. Bound: `STUN_ASKED_MAX`.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    order: VecDeque<Number>,
    /// Looked up only.
    by_number: HashMap<Number, (SideKey, Asker)>,
}

impl Asked {
    /// Notes a datagram that is sent, if it is a request.
    pub(super) fn note(&self, leg: SideKey, asker: Asker, octets: &[u8]) {
        let (Some(number), Some([0, 1])) = (number(octets), octets.first_chunk()) else {
            return;
        };
        let mut open = self.open();
        if open.by_number.insert(number, (leg, asker)).is_none() {
            open.order.push_back(number);
        }
        if open.order.len() > STUN_ASKED_MAX
            && let Some(oldest) = open.order.pop_front()
        {
            open.by_number.remove(&oldest);
        }
    }

    /// Returns who asked for a response; each is taken once.
    pub(super) fn take(&self, response: &[u8]) -> Option<(SideKey, Asker)> {
        let number = number(response)?;
        self.open().by_number.remove(&number)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(octets: &[u8]) -> Option<Number> {
    if !is_stun(octets) {
        return None;
    }
    octets[..HEADER_BYTES].last_chunk().copied()
}
