//! How many answers make a commit safe and a claim good (`cluster.md` §3, §4).
//!
//! In: holder sets and answers. Out: counts and verdicts.

use std::collections::BTreeSet;

use contract::NodeId;

use crate::{Conf, Epoch, HolderReply, HolderSet, Version};

/// Returns W: how many of a set must have a commit.
#[must_use]
pub fn commit_quorum(set: &HolderSet) -> usize {
    set.nodes().len().min(2)
}

/// Returns R - W + 1: how many of a set must have answered a claim, so that at least one of them
/// has every safe commit.
#[must_use]
pub fn claim_quorum(set: &HolderSet) -> usize {
    set.nodes().len() - commit_quorum(set) + 1
}

/// Tells whether `answered` has as many of every set of `conf` as `quorum` asks for.
pub(crate) fn has_quorum(
    conf: &Conf,
    quorum: fn(&HolderSet) -> usize,
    answered: impl Fn(NodeId) -> bool,
) -> bool {
    conf.sets().all(|set| {
        let count = set.nodes().iter().filter(|node| answered(**node)).count();
        count >= quorum(set)
    })
}

/// How a commit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// More answers are needed.
    Waiting,
    /// W of every set have it: effects may leave.
    Safe,
    /// Another owner is known: this one has lost and must emit nothing more.
    Fenced(Epoch),
}

/// Counts the answers to one commit.
///
/// A holder that has a later version of the same epoch has this one too: parts only go forward.
#[derive(Clone, Debug)]
pub struct Acks {
    version: Version,
    conf: Conf,
    have: BTreeSet<NodeId>,
    fenced: Option<Epoch>,
}

impl Acks {
    /// Starts to count for a commit of this version under these holder sets.
    #[must_use]
    pub const fn new(version: Version, conf: Conf) -> Self {
        Acks {
            version,
            conf,
            have: BTreeSet::new(),
            fenced: None,
        }
    }

    /// Takes the answer of a holder. Answers of nodes outside the sets do not count.
    pub fn answer(&mut self, from: NodeId, reply: &HolderReply) -> Standing {
        match reply {
            HolderReply::Stored(version) => {
                if version.epoch == self.version.epoch && *version >= self.version {
                    self.have.insert(from);
                }
            }
            HolderReply::Fenced(epoch) => {
                if *epoch > self.version.epoch {
                    self.fenced = self.fenced.max(Some(*epoch));
                }
            }
            HolderReply::Incomplete { .. } | HolderReply::Granted { .. } => {}
        }
        self.standing()
    }

    /// Returns how the commit stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        if let Some(epoch) = self.fenced {
            Standing::Fenced(epoch)
        } else if has_quorum(&self.conf, commit_quorum, |node| self.have.contains(&node)) {
            Standing::Safe
        } else {
            Standing::Waiting
        }
    }

    /// Returns the version that is counted for.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }
}
