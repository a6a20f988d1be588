//! Lives that are gone, and when what they had may be gone on with (`cluster.md` §5).
//!
//! In: lives that fell silent or are proven dead, nodes that are back, how many nodes are reached, the
//! time. Out: verdicts.
//!
//! | life | may be gone on with |
//! |---|---|
//! | proven dead | at once |
//! | silent | after 1.2 s, when most of those that were there are reached |
//! | silent, and this node was cut off itself | 5 s after it reaches most of them again |
//! | silent, of two | never |
//!
//! A node that was cut off itself knows nothing of the others: what it takes for their silence was its
//! own. Once it reaches most of them again it waits until it can have met the rest. A silent life counts as one of
//! those that were there until the rest has gone on without it for a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::{NodeId, NodeInst, Time};

/// Silence after which a node that is not proven dead is taken for dead. It adds to what gossip takes
/// until it says so, 3 to 4.5 s, and who hears nothing gives up after six.
const SILENT_AFTER: Duration = Duration::from_millis(1_200);
/// How long a node that was cut off waits for those that it has not met again: connections are tried
/// again every two seconds.
const MEET_WITHIN: Duration = Duration::from_secs(5);
/// A node is not cut off when it misses most others for shorter: one of them was back at once.
const CUT_OFF_AFTER: Duration = Duration::from_secs(1);
/// How long most nodes must have gone on without a silent one before they are all there is.
const WRITTEN_OFF_AFTER: Duration = Duration::from_secs(60);

/// A life that is gone.
#[derive(Clone, Copy, Debug)]
pub struct Gone {
    /// When it fell, or its death was proven.
    pub since: Time,
    /// Whether it is known that it does nothing more.
    pub is_proven: bool,
    /// The others have gone on without it for long.
    is_written_off: bool,
}

/// Whether what a life had may be gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Now,
    /// Then, if nothing changes.
    At(Time),
    /// Not as things are.
    No,
}

/// The lives that are gone, seen from one node.
#[derive(Debug)]
pub struct Missing {
    gone: BTreeMap<NodeInst, Gone>,
    /// Nodes that are reached, this one included.
    reached: usize,
    /// Since when they are not more than those that are silent, if that is so.
    cut_off_since: Option<Time>,
    /// When that ended last.
    back_since: Option<Time>,
}

impl Default for Missing {
    fn default() -> Self {
        Missing {
            gone: BTreeMap::new(),
            reached: 1,
            cut_off_since: None,
            back_since: None,
        }
    }
}

impl Missing {
    /// A life is gone since now, or then if that is later. What was known stays, but for a proof.
    pub fn fell(&mut self, life: NodeInst, is_proven: bool, since: Time, now: Time) {
        self.write_off(now);
        let fallen = Gone {
            since,
            is_proven,
            is_written_off: false,
        };
        let gone = self.gone.entry(life).or_insert(fallen);
        if is_proven && !gone.is_proven {
            *gone = fallen;
        }
        self.count(now);
    }

    /// Nodes that are there again, in whatever life, are missed no more.
    pub fn back(&mut self, is_there: impl Fn(NodeId) -> bool, now: Time) {
        self.write_off(now);
        self.gone.retain(|life, _| !is_there(life.node));
        self.count(now);
    }

    /// So many nodes are reached, this one included.
    pub fn reach(&mut self, count: usize, now: Time) {
        self.write_off(now);
        self.reached = count;
        self.count(now);
    }

    fn count(&mut self, now: Time) {
        if self.reached <= self.silent(None) {
            self.cut_off_since.get_or_insert(now);
        } else if let Some(since) = self.cut_off_since.take()
            && now >= since + CUT_OFF_AFTER
        {
            self.back_since = Some(now);
        }
    }

    fn write_off(&mut self, now: Time) {
        if self.cut_off_since.is_some() {
            return;
        }
        let back = self.back_since.unwrap_or_default();
        for gone in self.gone.values_mut() {
            gone.is_written_off |= now >= gone.since.max(back) + WRITTEN_OFF_AFTER;
        }
    }

    /// Returns how many nodes are silent and count, besides one.
    fn silent(&self, besides: Option<NodeId>) -> usize {
        let silent = self.gone.iter().filter(|(life, gone)| {
            !gone.is_proven && !gone.is_written_off && Some(life.node) != besides
        });
        let nodes: BTreeSet<NodeId> = silent.map(|(life, _)| life.node).collect();
        nodes.len()
    }

    /// Returns what is known of a life that is gone.
    #[must_use]
    pub fn get(&self, life: NodeInst) -> Option<Gone> {
        self.gone.get(&life).copied()
    }

    /// Returns all lives that are gone.
    pub fn iter(&self) -> impl Iterator<Item = (NodeInst, Gone)> {
        self.gone.iter().map(|(life, gone)| (*life, *gone))
    }

    /// Tells whether nobody is missed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gone.is_empty()
    }

    /// Tells whether more nodes are silent than `left`.
    #[must_use]
    pub fn is_more_than(&self, left: usize) -> bool {
        self.silent(None) > left
    }

    /// Returns when what a life had may be gone on with at the earliest, if most are reached.
    #[must_use]
    pub fn begins(&self, life: NodeInst) -> Option<Time> {
        let gone = self.gone.get(&life)?;
        if gone.is_proven {
            return Some(gone.since);
        }
        let met = self.back_since.map(|since| since + MEET_WITHIN);
        Some((gone.since + SILENT_AFTER).max(met.unwrap_or_default()))
    }

    /// Tells whether what a life had may be gone on with; one that is not known to be gone never.
    #[must_use]
    pub fn verdict(&self, life: NodeInst, now: Time) -> Verdict {
        let (Some(gone), Some(begins)) = (self.gone.get(&life), self.begins(life)) else {
            return Verdict::No;
        };
        if gone.is_proven {
            return Verdict::Now;
        }
        let of = self.reached + self.silent(Some(life.node)) + 1;
        if self.cut_off_since.is_some() || of <= 2 || 2 * self.reached <= of {
            Verdict::No
        } else if now < begins {
            Verdict::At(begins)
        } else {
            Verdict::Now
        }
    }
}

#[cfg(test)]
#[path = "missing_tests.rs"]
mod tests;
