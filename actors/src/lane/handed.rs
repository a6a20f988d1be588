//! Requests that other nodes send, because their connections end there (`cluster.md` §3).
//!
//! In: requests that were given to another node's lane, that lane's word that it has them. Out:
//! what is given again, and whose users are told if a node dies. What is told between nodes may be
//! lost with the connection between them, unlike what is written into the connection to a phone:
//! over that a transaction repeats nothing, so this repeats, as Timer E does (RFC 3261 §17.1.2.2),
//! until the other lane has it. There a copy of what is on its way changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::limits::HANDED_REQUESTS_MAX;
use contract::{ActorId, NodeId, Time};
use sip::transaction::Key;

use super::Message;

/// First time between two copies: T1 of RFC 3261.
const REPEAT_FIRST: Duration = Duration::from_millis(500);
/// Longest time between two copies: T2 of RFC 3261.
const REPEAT_LONGEST: Duration = Duration::from_secs(4);
/// How long copies are sent: 64 × T1. Then its user has given up too.
const REPEAT_FOR: Duration = Duration::from_secs(32);

/// A request that another node sends.
#[derive(Debug)]
pub(super) struct Handed {
    pub node: NodeId,
    pub user: ActorId,
    /// By which a failure is told; none of a CANCEL.
    pub branch: Option<String>,
    /// After that it has been answered, or its user has given up.
    pub until: Time,
    /// As long as its lane does not say that it has it.
    pub unheard: Option<Unheard>,
}

/// What is given again.
#[derive(Debug)]
pub(super) struct Unheard {
    to: ActorId,
    order: Message,
    again_at: Time,
    interval: Duration,
    until: Time,
}

impl Unheard {
    /// Makes that of an order given now.
    pub(super) fn new(to: ActorId, order: Message, now: Time) -> Self {
        Unheard {
            to,
            order,
            again_at: now + REPEAT_FIRST,
            interval: REPEAT_FIRST,
            until: now + REPEAT_FOR,
        }
    }
}

/// Requests that other nodes send, oldest first. Bound: `HANDED_REQUESTS_MAX`.
#[derive(Debug, Default)]
pub(super) struct HandedRequests {
    all: BTreeMap<u64, (Key, Handed)>,
    numbers: BTreeMap<Key, u64>,
    due: BTreeSet<(Time, u64)>,
    next: u64,
}

impl HandedRequests {
    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns when the next one is given again.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Keeps one. The oldest makes room, and ends by the timers of its user.
    pub(super) fn add(&mut self, key: Key, handed: Handed, now: Time) {
        self.remove(&key);
        while let Some((number, (_, oldest))) = self.all.first_key_value()
            && (oldest.until <= now || self.all.len() >= HANDED_REQUESTS_MAX)
        {
            let number = *number;
            self.forget(number);
        }
        self.next += 1;
        if let Some(unheard) = &handed.unheard {
            self.due.insert((unheard.again_at, self.next));
        }
        self.numbers.insert(key.clone(), self.next);
        self.all.insert(self.next, (key, handed));
    }

    /// The other lane has it; a CANCEL is of no interest any more then.
    pub(super) fn taken(&mut self, key: &Key) {
        let Some(number) = self.numbers.get(key).copied() else {
            return;
        };
        let Some((_, handed)) = self.all.get_mut(&number) else {
            return;
        };
        if let Some(unheard) = handed.unheard.take() {
            self.due.remove(&(unheard.again_at, number));
        }
        if handed.branch.is_none() {
            self.forget(number);
        }
    }

    /// Forgets one.
    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(number) = self.numbers.get(key).copied() {
            self.forget(number);
        }
    }

    /// Takes those that a node was to send.
    pub(super) fn take_of(&mut self, node: NodeId) -> Vec<Handed> {
        let numbers: Vec<u64> = self
            .all
            .iter()
            .filter(|(_, (_, one))| one.node == node)
            .map(|(number, _)| *number)
            .collect();
        numbers
            .into_iter()
            .filter_map(|number| self.forget(number))
            .collect()
    }

    /// Returns what is given again now, and to whom.
    pub(super) fn due(&mut self, now: Time) -> Vec<(ActorId, Message)> {
        let mut again = Vec::new();
        while let Some((at, number)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            let Some((_, handed)) = self.all.get_mut(&number) else {
                continue;
            };
            let Some(unheard) = handed.unheard.as_mut().filter(|one| one.until > now) else {
                handed.unheard = None;
                continue;
            };
            unheard.interval = (unheard.interval * 2).min(REPEAT_LONGEST);
            unheard.again_at = now + unheard.interval;
            self.due.insert((unheard.again_at, number));
            again.push((unheard.to.clone(), unheard.order.clone()));
        }
        again
    }

    fn forget(&mut self, number: u64) -> Option<Handed> {
        let (key, handed) = self.all.remove(&number)?;
        self.numbers.remove(&key);
        if let Some(unheard) = &handed.unheard {
            self.due.remove(&(unheard.again_at, number));
        }
        Some(handed)
    }
}
