//! The header of a record: identity, version, owner, holders (`cluster.md` §1, §3).
//!
//! In: nothing. Out: the types all other modules here work on. The stored form is in `form.rs`.

use std::fmt;

use contract::limits::HOLDERS_MAX;
use contract::{ActorId, NodeId, NodeInst, SchemaVersion, UtcMillis};
use serde::{Deserialize, Serialize};

/// Generation of ownership; ordered by `n`, then by node, so no two nodes share one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch {
    /// Generation.
    pub n: u64,
    /// Node that claimed it.
    pub by: NodeId,
}

impl Epoch {
    /// Before any ownership.
    pub const ZERO: Epoch = Epoch {
        n: 0,
        by: NodeId(0),
    };

    /// Returns the epoch that node `by` claims when `self` is the highest it knows.
    #[must_use]
    pub const fn next(self, by: NodeId) -> Epoch {
        Epoch {
            n: self.n.saturating_add(1),
            by,
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.n, self.by)
    }
}

/// Version of a record; ordered by epoch, then by sequence.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Version {
    /// The owner's epoch.
    pub epoch: Epoch,
    /// Count of commits; goes on over changes of the owner.
    pub sequence: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.sequence)
    }
}

/// What the owner does with the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// It runs the actor.
    Active,
    /// It has the epoch but not yet a sign of life of the call (`cluster.md` §7).
    Claimed,
    /// It hands the actor to another node (`cluster.md` §6).
    Moving {
        /// Where to.
        to: NodeInst,
    },
    /// Nobody runs it: a tombstone that goes away at `expires`.
    Ended,
}

/// The nodes that keep a record: 1 to `HOLDERS_MAX`, ascending, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderSet(Vec<NodeId>);

impl HolderSet {
    /// Makes a set; `None` if it would be empty or larger than `HOLDERS_MAX`.
    #[must_use]
    pub fn new(mut nodes: Vec<NodeId>) -> Option<Self> {
        nodes.sort_unstable();
        nodes.dedup();
        (1..=HOLDERS_MAX)
            .contains(&nodes.len())
            .then_some(HolderSet(nodes))
    }

    /// Makes the set of one node.
    #[must_use]
    pub fn alone(node: NodeId) -> Self {
        HolderSet(vec![node])
    }

    /// Returns its nodes, ascending.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.0
    }
}

/// Holder sets whose answers count for a record (`cluster.md` §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conf {
    /// One set.
    Settled(HolderSet),
    /// The set is changing: both count.
    Joint {
        /// The set until now.
        old: HolderSet,
        /// The set from the next commit on.
        new: HolderSet,
    },
}

impl Conf {
    /// Visits its sets: one, or the old and the new one.
    pub fn sets(&self) -> impl Iterator<Item = &HolderSet> {
        let (first, second) = match self {
            Conf::Settled(set) => (set, None),
            Conf::Joint { old, new } => (old, Some(new)),
        };
        std::iter::once(first).chain(second)
    }

    /// Returns every node of its sets, ascending, each once.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.sets().flat_map(|set| set.nodes()).copied().collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
}

/// One part of a record, as its header lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartEntry {
    /// The actor whose snapshot it is: the record's owner or a side of the call.
    pub id: ActorId,
    /// The record's version when this part was stored last.
    pub version: Version,
    /// Octets of the part.
    pub length: u32,
    /// Earliest deadline of the actor, if it has one.
    pub deadline: Option<UtcMillis>,
}

/// The header of a record: all that is known of it without its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The actor whose record it is (never a side of a call).
    pub id: ActorId,
    /// Its version.
    pub version: Version,
    /// The life of the node that runs it.
    pub owner: NodeInst,
    /// What the owner does with it.
    pub state: RecordState,
    /// Who holds it.
    pub conf: Conf,
    /// When a tombstone goes away; 0 unless `Ended`.
    pub expires: UtcMillis,
    /// Schema of the parts.
    pub schema: SchemaVersion,
    /// The last commit had fewer answers than wanted, this one cannot have as many, or a take-over went on
    /// with fewer.
    pub degraded: bool,
    /// Its parts, in the order of their IDs. Bound: `PARTS_PER_RECORD_MAX`.
    pub parts: Vec<PartEntry>,
}

impl Header {
    /// Returns the earliest deadline of any part: the record must be awake by then.
    #[must_use]
    pub fn deadline(&self) -> Option<UtcMillis> {
        self.parts.iter().filter_map(|part| part.deadline).min()
    }

    /// Returns the octets of all parts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.length as usize).sum()
    }

    /// Tells whether it is a tombstone.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.state, RecordState::Ended)
    }

    /// Returns the entry of an actor's part.
    #[must_use]
    pub fn part(&self, id: &ActorId) -> Option<&PartEntry> {
        let at = self.parts.binary_search_by(|part| part.id.cmp(id)).ok()?;
        self.parts.get(at)
    }

    pub(crate) fn set_part(&mut self, entry: PartEntry) {
        match self.parts.binary_search_by(|part| part.id.cmp(&entry.id)) {
            Ok(at) => self.parts[at] = entry,
            Err(at) => self.parts.insert(at, entry),
        }
    }
}
