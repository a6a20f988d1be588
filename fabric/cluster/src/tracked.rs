//! What the owner's side of commits keeps of each record and of each peer ([`crate::Replicator`]).
//!
//! In: nothing. Out: the two tables' entries. The rules are in `replication.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use contract::limits::{COMMIT_AGAIN_MS, REPLICATION_PER_PEER_MAX};
use contract::{ActorId, NodeId, Time};

use crate::{Conf, Version};

/// What went wrong or was left out, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicationCounts {
    /// Commits refused at a bound.
    pub refused: u64,
    /// Commits acknowledged with fewer holders than wanted.
    pub degraded: u64,
    /// Whole records sent again because a holder lacked parts or did not answer.
    pub wholes: u64,
    /// Records of which it was forgotten that a holder lacks them.
    pub forgotten: u64,
}

/// A record with commits that wait, or that a holder lacks.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) newest: Version,
    pub(crate) conf: Conf,
    pub(crate) have: BTreeMap<NodeId, Version>,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) due: Option<Time>,
    pub(crate) is_degraded: bool,
}

#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) version: Version,
    pub(crate) conf: Conf,
    /// `None` if only this node holds the record: nobody else is waited for.
    pub(crate) deadline: Option<Time>,
    pub(crate) is_own_failed: bool,
}

/// What is under way to one peer.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) is_connected: bool,
    pub(crate) in_flight: BTreeMap<u64, Flight>,
    /// The runtime was asked for these, for this version or a later one.
    pub(crate) asked: BTreeMap<ActorId, Version>,
    /// To be sent as a whole once there is room and a connection.
    pub(crate) lacking: BTreeSet<ActorId>,
}

#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) id: ActorId,
    pub(crate) version: Version,
    pub(crate) sent: Time,
    pub(crate) is_whole: bool,
}

impl Record {
    pub(crate) fn has(&self, node: NodeId, version: Version) -> bool {
        self.have.get(&node).is_some_and(|has| *has >= version)
    }

    pub(crate) fn is_wanted_by(&self, node: NodeId) -> bool {
        let is_holder = self.conf.sets().any(|set| set.nodes().contains(&node));
        is_holder && !self.has(node, self.newest)
    }

    pub(crate) fn waits(&self) -> bool {
        !self.pending.is_empty()
    }
}

impl Line {
    pub(crate) fn has_room(&self) -> bool {
        self.in_flight.len() + self.asked.len() < REPLICATION_PER_PEER_MAX
    }

    /// Numbers rise with time, so the first is the oldest.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let (_, oldest) = self.in_flight.first_key_value()?;
        Some(oldest.sent + Duration::from_millis(COMMIT_AGAIN_MS))
    }
}
