//! The transactions of a lane: by key, by age, by deadline.
//!
//! In: machines. Out: look-ups in the order of keys, ages or deadlines. Bound:
//! `TRANSACTIONS_PER_LANE_MAX`; at the bound the oldest completed ones are forgotten, and if there
//! is none, new ones are refused. It runs no machine.

use std::collections::{BTreeMap, BTreeSet};

use contract::limits::TRANSACTIONS_PER_LANE_MAX;
use contract::{ActorId, FlowRef, NodeId, Time};
use sip::transaction::{InviteClient, InviteServer, Key, PlainClient, PlainServer};

use super::adopted::Adopted;
use super::inbound::Waiting;

/// Which end of a transaction we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Server,
    Client,
}

/// The machine of a transaction.
#[derive(Debug)]
pub(super) enum Machine {
    InviteServer(InviteServer),
    PlainServer(PlainServer),
    Adopted(Adopted),
    InviteClient(InviteClient),
    PlainClient(PlainClient),
}

/// What makes two INVITEs one that was forked before it came (RFC 3261 §8.2.2.2).
pub(super) type MergeId = (String, String, u32);

/// One transaction.
#[derive(Debug)]
pub(super) struct Entry {
    pub side: Side,
    pub key: Key,
    pub machine: Machine,
    /// Where we send.
    pub flow: FlowRef,
    /// Where its request came from (server).
    pub source: FlowRef,
    /// Who is told the responses (client).
    pub user: Option<ActorId>,
    /// By which a failure is told (client, not CANCEL).
    pub branch: Option<String>,
    pub merge: Option<MergeId>,
    /// Waits for the issuer of its nonce (server).
    pub waiting: Option<Box<Waiting>>,
    pub born: Time,
    pub due: Option<Time>,
    pub completed: bool,
}

/// All transactions of a lane.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: BTreeMap<u64, Entry>,
    keys: BTreeMap<(Side, Key), u64>,
    due: BTreeSet<(Time, u64)>,
    completed: BTreeSet<u64>,
    merges: BTreeMap<MergeId, u64>,
    branches: BTreeMap<String, u64>,
    streams: BTreeSet<((NodeId, u64), u64)>,
    next: u64,
}

impl Table {
    /// Returns the number of a transaction.
    pub(super) fn find(&self, side: Side, key: &Key) -> Option<u64> {
        self.keys.get(&(side, key.clone())).copied()
    }

    /// Returns the transaction of an INVITE that was merged with this one.
    pub(super) fn find_merged(&self, merge: &MergeId) -> Option<u64> {
        self.merges.get(merge).copied()
    }

    /// Returns the client transaction of a branch: of its request, not of a CANCEL.
    pub(super) fn find_branch(&self, branch: &str) -> Option<u64> {
        self.branches.get(branch).copied()
    }

    /// Returns a transaction.
    pub(super) fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&number)
    }

    /// Adds a transaction; `None` if there is no room even without the completed ones.
    pub(super) fn add(&mut self, entry: Entry) -> Option<u64> {
        if self.entries.len() >= TRANSACTIONS_PER_LANE_MAX {
            let oldest = self.completed.first().copied()?;
            self.remove(oldest);
        }
        self.next += 1;
        let number = self.next;
        self.keys.insert((entry.side, entry.key.clone()), number);
        if let Some(merge) = &entry.merge {
            self.merges.insert(merge.clone(), number);
        }
        if let Some(branch) = &entry.branch {
            self.branches.insert(branch.clone(), number);
        }
        if let (Side::Client, Some(stream)) = (entry.side, stream_of(&entry.flow)) {
            self.streams.insert((stream, number));
        }
        self.due.extend(entry.due.map(|at| (at, number)));
        self.entries.insert(number, entry);
        Some(number)
    }

    /// Forgets a transaction.
    pub(super) fn remove(&mut self, number: u64) {
        let Some(entry) = self.entries.remove(&number) else {
            return;
        };
        if let Some(at) = entry.due {
            self.due.remove(&(at, number));
        }
        self.completed.remove(&number);
        if let Some(merge) = &entry.merge {
            self.merges.remove(merge);
        }
        if let Some(branch) = &entry.branch {
            self.branches.remove(branch);
        }
        if let Some(stream) = stream_of(&entry.flow) {
            self.streams.remove(&(stream, number));
        }
        self.keys.remove(&(entry.side, entry.key));
    }

    /// Notes when a transaction is due next, and whether it has had its final response.
    pub(super) fn note(&mut self, number: u64, due: Option<Time>, completed: bool) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        if let Some(at) = entry.due {
            self.due.remove(&(at, number));
        }
        self.due.extend(due.map(|at| (at, number)));
        entry.due = due;
        entry.completed |= completed;
        if entry.completed {
            self.completed.insert(number);
        }
    }

    /// Returns the earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Returns up to `most` transactions that are due, earliest first.
    pub(super) fn due(&self, now: Time, most: usize) -> Vec<u64> {
        let due = self.due.iter().take_while(|(at, _)| *at <= now).take(most);
        due.map(|(_, number)| *number).collect()
    }

    /// Returns the client transactions over a connection, oldest first.
    pub(super) fn clients_over(&self, flow: &FlowRef) -> Vec<u64> {
        let Some(stream) = stream_of(flow) else {
            return Vec::new();
        };
        self.streams
            .range((stream, 0)..=(stream, u64::MAX))
            .map(|(_, number)| *number)
            .collect()
    }

    /// Returns how many there are: server, client, completed, waiting for a nonce.
    pub(super) fn counts(&self) -> [usize; 4] {
        let of = |wanted: fn(&Entry) -> bool| {
            self.entries.values().filter(|entry| wanted(entry)).count()
        };
        [
            of(|entry| entry.side == Side::Server),
            of(|entry| entry.side == Side::Client),
            self.completed.len(),
            of(|entry| entry.waiting.is_some()),
        ]
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// Returns what names a connection: its node and number.
pub(super) const fn stream_of(flow: &FlowRef) -> Option<(NodeId, u64)> {
    match flow {
        FlowRef::Datagram { .. } => None,
        FlowRef::Stream { node, number, .. } => Some((*node, *number)),
    }
}
