//! Lives that are gone, and when what they had may be gone on with (`cluster.md` §5).
//!
//! In: lives that fell silent or are proven dead, nodes that are back, how many nodes are reached, the
//! time. Out: verdicts.
//!
//! | life | may be gone on with |
//! |---|---|
//! | proven dead | at once |
//! | silent | when most of those that were there are reached, and have been for 1.5 s since it fell |
//! | silent, of two | never |
//!
//! A node that was cut off itself knows nothing of the others: what it takes for their silence was its
//! own. Its patience begins anew when it reaches most of them again. A silent life counts as one of
//! those that were there until the rest has gone on without it for a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::{NodeId, NodeInst, Time};

/// Silence after which a node that is not proven dead is taken for dead.
const SILENT_AFTER: Duration = Duration::from_millis(1_500);
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
    /// Since when they are more than those that are silent.
    majority_since: Option<Time>,
}

impl Default for Missing {
    fn default() -> Self {
        Missing {
            gone: BTreeMap::new(),
            reached: 1,
            majority_since: Some(Time::default()),
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
            self.majority_since = None;
        } else {
            self.majority_since.get_or_insert(now);
        }
    }

    fn write_off(&mut self, now: Time) {
        let Some(majority) = self.majority_since else {
            return;
        };
        for gone in self.gone.values_mut() {
            gone.is_written_off |= now >= gone.since.max(majority) + WRITTEN_OFF_AFTER;
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

    /// Returns since when the patience with a life counts.
    #[must_use]
    pub fn counts_since(&self, life: NodeInst) -> Option<Time> {
        let gone = self.gone.get(&life)?;
        let majority = self.majority_since.unwrap_or_default();
        Some(if gone.is_proven {
            gone.since
        } else {
            gone.since.max(majority)
        })
    }

    /// Tells whether what a life had may be gone on with; one that is not known to be gone never.
    #[must_use]
    pub fn verdict(&self, life: NodeInst, now: Time) -> Verdict {
        let (Some(gone), Some(since)) = (self.gone.get(&life), self.counts_since(life)) else {
            return Verdict::No;
        };
        if gone.is_proven {
            return Verdict::Now;
        }
        let of = self.reached + self.silent(Some(life.node)) + 1;
        if self.majority_since.is_none() || of <= 2 || 2 * self.reached <= of {
            Verdict::No
        } else if now < since + SILENT_AFTER {
            Verdict::At(since + SILENT_AFTER)
        } else {
            Verdict::Now
        }
    }
}

#[cfg(test)]
#[path = "missing_tests.rs"]
mod tests;
