//! A claim under way: how a node becomes the owner of a record (`cluster.md` §4, `activate`).
//!
//! In: answers of holders. Out: whom to ask, and the verdict. The shell sends, keeps the time
//! and, before the first request leaves, makes the claim durable in its own store.
//!
//! One claim per ID in flight on a node, always with a fresh epoch: one above its own fence.

use std::collections::BTreeMap;

use contract::{ActorId, Batch, IdHasher, NodeId};

use crate::holder::fence_batch;
use crate::quorum::has_quorum;
use crate::{Conf, Epoch, Held, HolderReply, HolderRequest, HolderSet, Image, claim_quorum};

/// A claim under way.
#[derive(Clone, Debug)]
pub struct Activation {
    id: ActorId,
    epoch: Epoch,
    assumed: Conf,
    asked: Vec<NodeId>,
    answers: BTreeMap<NodeId, Option<Image>>,
    verdict: Option<Step>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for more answers.
    Wait,
    /// Ask these nodes too: a newer record names them as holders.
    Ask(Vec<NodeId>),
    /// Won: take this version over ([`crate::Owned::take_over`]), or begin a record if there is
    /// none, provided the own fence still is this claim's epoch.
    Won {
        /// The newest version of all answers.
        newest: Option<Box<Image>>,
        /// Fewer answers than wanted: whoever goes on marks the record degraded.
        degraded: bool,
    },
    /// Lost to this epoch: forward to its node.
    Lost(Epoch),
}

impl Activation {
    /// Starts a claim of node `me`.
    ///
    /// In: `held`, what this node itself holds; `placed`, the holders that placement names, used if
    /// no record is held here. Out: the claim, and the batch that must be durable here before any
    /// request leaves: it makes the epoch unique over crashes.
    #[must_use]
    pub fn begin(
        id: &ActorId,
        held: &Held,
        placed: HolderSet,
        me: NodeId,
        ids: &IdHasher,
    ) -> (Self, Batch) {
        let epoch = held.next_epoch(me);
        let known = held.image.as_ref().map(|image| image.header.conf.clone());
        let assumed = known.unwrap_or(Conf::Settled(placed));
        let claim = Activation {
            id: id.clone(),
            epoch,
            asked: assumed.nodes(),
            assumed,
            answers: BTreeMap::new(),
            verdict: None,
        };
        (claim, fence_batch(held, id, epoch, ids))
    }

    /// Returns the epoch that is claimed.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Returns the nodes asked so far that have not answered.
    #[must_use]
    pub fn unanswered(&self) -> Vec<NodeId> {
        let silent = |node: &&NodeId| !self.answers.contains_key(*node);
        self.asked.iter().filter(silent).copied().collect()
    }

    /// Tells whether any answer so far holds the record.
    #[must_use]
    pub fn knows_a_record(&self) -> bool {
        self.newest().is_some()
    }

    /// Tells whether holders that have not answered may have let another node win the same copy: less
    /// than a majority of a set has answered, as where one of two is a quorum.
    #[must_use]
    pub fn may_have_rival(&self) -> bool {
        !self.have_answered(|set| set.nodes().len() / 2 + 1)
    }

    /// Tells whether holders that have not answered may have let another node win the same copy as a
    /// majority, which looks for no rival: less than half of a set has answered.
    #[must_use]
    pub fn may_be_outvoted(&self) -> bool {
        !self.have_answered(|set| set.nodes().len().div_ceil(2))
    }

    /// Tells whether so many of each set have answered.
    fn have_answered(&self, wanted: fn(&HolderSet) -> usize) -> bool {
        let newest = self.newest();
        let conf = newest.map_or(&self.assumed, |image| &image.header.conf);
        has_quorum(conf, wanted, |node| self.answers.contains_key(&node))
    }

    /// Returns what each of them is asked.
    #[must_use]
    pub fn request(&self) -> HolderRequest {
        HolderRequest::Claim {
            id: self.id.clone(),
            epoch: self.epoch,
        }
    }

    /// Takes an answer. After the verdict it stays what it was.
    pub fn answer(&mut self, from: NodeId, reply: HolderReply) -> Step {
        if let Some(verdict) = &self.verdict {
            return verdict.clone();
        }
        match reply {
            HolderReply::Granted { epoch, newest } if epoch == self.epoch => {
                self.answers.insert(from, newest.map(|image| *image));
                self.judge()
            }
            // The same epoch: an own claim of old has won under it, and is forgotten here.
            HolderReply::Fenced(epoch) if epoch >= self.epoch => self.settle(Step::Lost(epoch)),
            // Answers to something else, or late ones.
            HolderReply::Granted { .. }
            | HolderReply::Fenced(_)
            | HolderReply::Stored(_)
            | HolderReply::Incomplete { .. } => Step::Wait,
        }
    }

    /// Goes on with the answers there are, after the wait of `cluster.md` §4 (1 s; 10 s for calls).
    pub fn give_up_waiting(&mut self) -> Step {
        if let Some(verdict) = &self.verdict {
            return verdict.clone();
        }
        self.win(true)
    }

    /// Visits what all holders answered: registrations are merged from these (`cluster.md` §8). Nothing
    /// if the record is over.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        let is_there = self.newest().is_some();
        self.answers.values().flatten().filter(move |_| is_there)
    }

    fn judge(&mut self) -> Step {
        let newest = self.newest();
        let conf = newest.map_or(&self.assumed, |image| &image.header.conf);
        // Placement may name nodes that did not hold it when it was begun: that there is none, all
        // of them have to say; and all holders, that what a former one has is over.
        let quorum = match newest.filter(|image| self.is_held(image)) {
            Some(_) => claim_quorum,
            None => |set: &HolderSet| set.nodes().len(),
        };
        if has_quorum(conf, quorum, |node| self.answers.contains_key(&node)) {
            return self.win(false);
        }
        let unasked = |node: &NodeId| !self.asked.contains(node);
        let more: Vec<NodeId> = conf.nodes().into_iter().filter(unasked).collect();
        if more.is_empty() {
            return Step::Wait;
        }
        self.asked.extend(&more);
        Step::Ask(more)
    }

    /// Returns the newest of all answers. What only a former holder has says no more than who the
    /// holders are: if these all have nothing, the record has ended, and its tombstone is forgotten.
    fn newest(&self) -> Option<&Image> {
        let images = self.answers.values().flatten();
        let newest = images.max_by_key(|image| image.header.version)?;
        let holders = newest.header.conf.nodes();
        let have_all_answered = holders.iter().all(|node| self.answers.contains_key(node));
        (self.is_held(newest) || !have_all_answered).then_some(newest)
    }

    /// Tells whether its owner or a holder that it names has any version of it.
    fn is_held(&self, image: &Image) -> bool {
        let header = &image.header;
        let mut holders = header.conf.nodes().into_iter().chain([header.owner.node]);
        holders.any(|node| matches!(self.answers.get(&node), Some(Some(_))))
    }

    fn win(&mut self, degraded: bool) -> Step {
        let newest = self.newest().cloned().map(|mut newest| {
            self.fill(&mut newest);
            Box::new(newest)
        });
        self.settle(Step::Won { newest, degraded })
    }

    /// Adds parts that the newest answer lost but another holder has in the same version.
    fn fill(&self, newest: &mut Image) {
        for entry in &newest.header.parts {
            let same = self.images().find_map(|image| {
                let other = image.header.part(&entry.id)?;
                let bytes = image.parts.get(&entry.id)?;
                (other.version == entry.version).then_some(bytes)
            });
            if let (false, Some(bytes)) = (newest.parts.contains_key(&entry.id), same) {
                newest.parts.insert(entry.id.clone(), bytes.clone());
            }
        }
    }

    fn settle(&mut self, verdict: Step) -> Step {
        self.verdict = Some(verdict.clone());
        verdict
    }
}
