//! What comparing asks of the runtime, and where it stands with one other node ([`crate::Repair`]).
//!
//! In: nothing. Out: actions, counts, the entry of the table of nodes. The rules are in `repair.rs`.

use std::collections::{BTreeSet, VecDeque};
use std::hash::Hasher;

use contract::{NodeId, Now, Time, UtcMillis};
use siphasher::sip::SipHasher24;

use crate::exchange::{Page, REPAIR_ORDER, Range, Wanted};
use crate::{Frame, Image, ShardSet};

/// What the runtime has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairAction {
    /// Send this, in the class of bulk.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        frame: Frame,
    },
    /// Read the digests of this shard ([`crate::Desk::digests`]); then [`crate::Repair::loaded`].
    LoadShard(u8),
    /// Read a page ([`crate::Desk::page`]) and send it as `Exchange::Listed`.
    List {
        /// Whom for, and to.
        to: NodeId,
        /// The number of the frame.
        number: u64,
        /// Of what.
        range: Range,
    },
    /// Read records ([`crate::Desk::images`]) and send what comes of it.
    Read {
        /// Whom to.
        to: NodeId,
        /// The number of the frame.
        number: u64,
        /// Which.
        wanted: Vec<Wanted>,
    },
    /// Compare with what is held ([`crate::Desk::compare`]); then [`crate::Repair::compared`].
    Compare {
        /// Comes back.
        number: u64,
        /// Whose page it is.
        peer: NodeId,
        /// Of what.
        range: Range,
        /// The page.
        page: Page,
    },
    /// Store a copy ([`crate::Desk::copy`]). What comes of it, [`crate::DeskAction::Copied`], goes
    /// to [`crate::Repair::stored`].
    Store {
        /// Comes back.
        number: u64,
        /// The record.
        image: Box<Image>,
    },
    /// Tell the desk ([`crate::Desk::shard_settled`]).
    Settled(u8),
    /// Nothing is settled any more: tell the desk ([`crate::Desk::view_changed`] with others).
    Unsettled,
}

/// What was done so far, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairCounts {
    /// Comparisons with a node that came to their end.
    pub rounds: u64,
    /// Comparisons given up because a step took too long.
    pub given_up: u64,
    /// Pages of listings that were read.
    pub pages: u64,
    /// Records mended.
    pub mended: u64,
    /// Octets of records received.
    pub bytes: u64,
}

/// Another node.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    pub(crate) is_up: bool,
    pub(crate) is_connected: bool,
    /// Shards of which this node has had everything it holds, since it was restarted here.
    pub(crate) in_step: ShardSet,
    /// The same in this comparison, and in the last one.
    this_round: ShardSet,
    pub(crate) last_round: ShardSet,
    /// Comparisons so far.
    pub(crate) round: u64,
    /// What it has said of its own comparisons with this node.
    said: Option<Said>,
    pub(crate) due: Time,
    pub(crate) stage: Stage,
}

/// What another node has said of its comparisons with this one.
#[derive(Debug)]
struct Said {
    /// Which it is at, and when that began here.
    round: u64,
    since: UtcMillis,
    /// It has what this node held at that time, of these shards.
    has_of: Option<UtcMillis>,
    has: ShardSet,
}

#[derive(Debug, Default)]
pub(crate) enum Stage {
    /// Until the next comparison is due.
    #[default]
    Idle,
    /// It was sent our digests, for the how-manieth time in a row, or one number of all.
    Looking {
        number: u64,
        is_glance: bool,
        looks: u8,
        suspects: ShardSet,
        deadline: Time,
    },
    /// Until the next look at what has differed each time.
    Pausing {
        looks: u8,
        suspects: ShardSet,
        until: Time,
    },
    /// What has differed each time is listed and mended.
    Working(Box<Work>),
}

/// The mending: all suspects for the first kind, then for the next.
#[derive(Debug)]
pub(crate) struct Work {
    suspects: ShardSet,
    /// Suspects of which something could not be mended.
    failed: ShardSet,
    /// Where it is: the kind's place in `REPAIR_ORDER`, the suspects left for it, the page.
    order: usize,
    left: ShardSet,
    after: Option<u128>,
    has_begun: bool,
    /// Where the next page starts; `None`: this is the shard's last.
    pub(crate) next: Option<u128>,
    /// What of this page is still to be fetched.
    pub(crate) wanted: VecDeque<Wanted>,
    pub(crate) doing: Doing,
    pub(crate) deadline: Time,
}

/// What is waited for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// A page.
    List { number: u64 },
    /// The own desk's view of it.
    Compare { number: u64 },
    /// Octets that may be taken.
    Wait,
    /// Records.
    Fetch { number: u64 },
    /// The own desk's word that these are durable.
    Store { left: BTreeSet<u64> },
}

impl Peer {
    /// Begins anew: nothing that was known of it counts.
    pub(crate) fn restart(&mut self, now: Now) {
        self.in_step = ShardSet::NONE;
        self.this_round = ShardSet::NONE;
        self.last_round = ShardSet::NONE;
        self.said = None;
        self.stage = Stage::Idle;
        self.due = now.mono;
    }

    /// Takes the shards that are in step by what this comparison has found.
    pub(crate) fn is_in_step(&mut self, shards: ShardSet) {
        self.in_step = self.in_step.or(shards);
        self.this_round = self.this_round.or(shards);
    }

    /// Waits for the next comparison.
    pub(crate) fn rest(&mut self, until: Time) {
        self.round += 1;
        self.last_round = std::mem::take(&mut self.this_round);
        self.stage = Stage::Idle;
        self.due = until;
    }

    /// Takes what it says of itself.
    pub(crate) fn says(&mut self, now: Now, of_round: u64, in_step: ShardSet) {
        let before = self.said.as_ref().map(|said| (said.round, said.since));
        if before.is_some_and(|(round, _)| of_round <= round) {
            return;
        }
        let before = before.filter(|(round, _)| round + 1 == of_round);
        self.said = Some(Said {
            round: of_round,
            since: now.utc,
            has_of: before.map(|(_, since)| since),
            has: in_step,
        });
    }

    /// Returns when this node held no more of a shard than what it has; `None`: that is not known.
    pub(crate) fn has_all_of(&self, shard: u8) -> Option<UtcMillis> {
        let said = self.said.as_ref().filter(|said| said.has.contains(shard))?;
        said.has_of
    }

    pub(crate) fn deadline(&self) -> Time {
        match &self.stage {
            Stage::Idle => self.due,
            Stage::Looking { deadline, .. } => *deadline,
            Stage::Pausing { until, .. } => *until,
            Stage::Working(work) => work.deadline,
        }
    }

    /// Orders those who wait for octets: calls first.
    pub(crate) fn urgency(&self) -> usize {
        match &self.stage {
            Stage::Working(work) => work.order,
            Stage::Idle | Stage::Looking { .. } | Stage::Pausing { .. } => REPAIR_ORDER.len(),
        }
    }
}

impl Work {
    pub(crate) fn new(suspects: ShardSet) -> Self {
        Work {
            suspects,
            failed: ShardSet::NONE,
            order: 0,
            left: suspects,
            after: None,
            has_begun: false,
            next: None,
            wanted: VecDeque::new(),
            doing: Doing::Wait,
            deadline: Time::ZERO,
        }
    }

    /// Goes to the next page. Out: the shard that is in step by that, if one is.
    pub(crate) fn advance(&mut self) -> ShardSet {
        let mut in_step = ShardSet::NONE;
        if !std::mem::replace(&mut self.has_begun, true) {
            return in_step;
        }
        self.after = self.next.take();
        if self.after.is_some() {
            return in_step;
        }
        if let Some(shard) = self.left.iter().next() {
            self.left.remove(shard);
            if self.order + 1 == REPAIR_ORDER.len() && !self.failed.contains(shard) {
                in_step.insert(shard);
            }
        }
        if self.left.is_empty() && self.order + 1 < REPAIR_ORDER.len() {
            self.order += 1;
            self.left = self.suspects;
        }
        in_step
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left.is_empty()
    }

    /// Returns what page it is at. Not once it is over.
    pub(crate) fn range(&self) -> Range {
        Range {
            kind: REPAIR_ORDER[self.order],
            shard: self.left.iter().next().unwrap_or_default(),
            after: self.after,
        }
    }

    /// The shard it is at is not in step after this comparison.
    pub(crate) fn fail(&mut self) {
        let shard = self.range().shard;
        self.failed.insert(shard);
    }
}

/// Returns a number that differs for each node, other node and comparison.
pub(crate) fn jitter(me: NodeId, node: NodeId, round: u64) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0x7765_6674, 0x6a69_7474_6572);
    hasher.write(&me.0.to_le_bytes());
    hasher.write(&node.0.to_le_bytes());
    hasher.write(&round.to_le_bytes());
    hasher.finish()
}
