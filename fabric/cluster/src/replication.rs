//! The owner's side of commits: who has to have them, who has them, and when they are safe
//! (`cluster.md` §4, §5, §8).
//!
//! In: commits of records this node owns, what its own store has made durable, answers of holders,
//! connections lost and back, the time. Out: [`ReplicationAction`]s. It keeps no octets of records:
//! what a holder lacks it asks the runtime for. It does not batch: every `Send` is one frame, and
//! the transport writes what is queued for a peer together.
//!
//! | state of a commit | event | action | next |
//! |---|---|---|---|
//! | Waiting | W of every set of its `conf` have it | `Safe` | done |
//! | Waiting | 150 ms over, or too few can still answer; `Available`, one has it | `Safe`, degraded | done |
//! | Waiting | the same; `Strict`, or nobody has it or can | `Unsafe` | done |
//! | any | a higher epoch is seen | `Fenced`, once | all of that epoch are done |
//!
//! The verdicts of one record come in the order of its versions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use contract::limits::{
    COMMIT_WAIT_MS, REPLICATION_FENCED_MAX, REPLICATION_PENDING_MAX, REPLICATION_PER_RECORD_MAX,
    REPLICATION_RECORDS_MAX,
};
use contract::{ActorId, NodeId, Now, Time};

use crate::quorum::{commit_quorum, has_quorum};
pub use crate::tracked::ReplicationCounts;
use crate::tracked::{Flight, Line, Pending, Record};
use crate::{Epoch, HolderReply, HolderRequest, Image, Version};

/// What counts when fewer holders answer than wanted (`cluster.md` §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// The commit is acknowledged all the same, and marked.
    Available,
    /// It is not.
    Strict,
}

/// What the runtime has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicationAction {
    /// Ask a holder. The answer, if one comes, goes to [`Replicator::answer`].
    Send {
        /// Which.
        to: NodeId,
        /// Comes back with the answer; always even, so that claims can use odd ones.
        number: u64,
        /// What.
        request: HolderRequest,
    },
    /// Hand in the whole record, for this holder, by [`Replicator::whole`].
    Whole {
        /// Which record.
        id: ActorId,
        /// Which holder lacks it.
        to: NodeId,
    },
    /// The commit is safe: effects may leave.
    Safe {
        /// Which record.
        id: ActorId,
        /// Which version of it.
        version: Version,
        /// Fewer have it than wanted: the next commit says so in its header.
        degraded: bool,
    },
    /// It is not known to be safe, and is not waited for any longer: no effect may leave.
    Unsafe {
        /// Which record.
        id: ActorId,
        /// Which version of it.
        version: Version,
    },
    /// What was safe with fewer holders than wanted is safe with all that are wanted.
    Healed {
        /// Which record.
        id: ActorId,
        /// Its newest version.
        version: Version,
    },
    /// This node has lost the record: its actor emits nothing more, and no verdict follows for
    /// commits of lower epochs.
    Fenced {
        /// Which record.
        id: ActorId,
        /// The epoch that won.
        epoch: Epoch,
    },
}

/// The commits of one node, over all records it owns.
#[derive(Debug)]
pub struct Replicator {
    me: NodeId,
    mode: CommitMode,
    records: BTreeMap<ActorId, Record>,
    peers: BTreeMap<NodeId, Line>,
    due: BTreeSet<(Time, ActorId)>,
    fenced: BTreeMap<ActorId, Epoch>,
    fenced_order: VecDeque<ActorId>,
    pending: usize,
    last_number: u64,
    counts: ReplicationCounts,
    out: Vec<ReplicationAction>,
}

enum Verdict {
    Wait,
    Safe { degraded: bool },
    Unsafe,
}

impl Replicator {
    /// Makes one for a node that is connected with nobody yet.
    #[must_use]
    pub fn new(me: NodeId, mode: CommitMode) -> Self {
        Replicator {
            me,
            mode,
            records: BTreeMap::new(),
            peers: BTreeMap::new(),
            due: BTreeSet::new(),
            fenced: BTreeMap::new(),
            fenced_order: VecDeque::new(),
            pending: 0,
            last_number: 0,
            counts: ReplicationCounts::default(),
            out: Vec::new(),
        }
    }

    /// Takes a commit: what the record's header says is its version and its holders.
    ///
    /// In: `delta`, as [`crate::Owned::delta`] or `image` returns it. Commits of one record come in
    /// the order of their versions. The runtime writes it to the own store at the same time.
    /// Bounds: `REPLICATION_PER_RECORD_MAX`, `REPLICATION_PENDING_MAX`; beyond them: `Unsafe`.
    pub fn commit(&mut self, now: Now, delta: Image) -> Vec<ReplicationAction> {
        let (id, version) = (delta.header.id.clone(), delta.header.version);
        if let Some(epoch) = self.lost_to(&id, version.epoch) {
            self.out.push(ReplicationAction::Fenced { id, epoch });
            return self.take();
        }
        if !self.has_room(&id, version) {
            self.counts.refused += 1;
            self.out.push(ReplicationAction::Unsafe { id, version });
            return self.take();
        }
        let conf = delta.header.conf.clone();
        let others: Vec<NodeId> = conf.nodes();
        let others: Vec<NodeId> = others.into_iter().filter(|node| *node != self.me).collect();
        let wait = Duration::from_millis(COMMIT_WAIT_MS);
        let pending = Pending {
            version,
            conf: conf.clone(),
            deadline: (!others.is_empty()).then(|| now.mono + wait),
            is_own_failed: false,
        };
        let record = self.records.entry(id.clone()).or_insert_with(|| Record {
            newest: version,
            conf: conf.clone(),
            have: BTreeMap::new(),
            pending: VecDeque::new(),
            due: None,
            is_degraded: false,
        });
        record.newest = version;
        record.conf = conf;
        record.pending.push_back(pending);
        self.pending += 1;
        for to in others {
            self.offer(now, to, &delta);
        }
        self.judge(now, &id);
        self.take()
    }

    /// Takes word that the own store has made a version, or a later one, durable.
    pub fn stored(&mut self, now: Now, id: &ActorId, version: Version) -> Vec<ReplicationAction> {
        self.note(self.me, id, version);
        self.judge(now, id);
        self.take()
    }

    /// Takes word that the own store could not write a version: it does not count any more. The next
    /// commit makes that good.
    pub fn not_stored(
        &mut self,
        now: Now,
        id: &ActorId,
        version: Version,
    ) -> Vec<ReplicationAction> {
        if let Some(record) = self.records.get_mut(id) {
            let failed = record.pending.iter_mut();
            for pending in failed.filter(|pending| pending.version == version) {
                pending.is_own_failed = true;
            }
        }
        self.judge(now, id);
        self.take()
    }

    /// Takes the answer of a holder. Nothing happens if nothing was asked under that number.
    pub fn answer(
        &mut self,
        now: Now,
        from: NodeId,
        number: u64,
        reply: &HolderReply,
    ) -> Vec<ReplicationAction> {
        let line = self.peers.get_mut(&from);
        let Some(flight) = line.and_then(|line| line.in_flight.remove(&number)) else {
            return Vec::new();
        };
        match reply {
            HolderReply::Stored(version) if version.epoch > flight.version.epoch => {
                self.lose(&flight.id, version.epoch);
            }
            HolderReply::Stored(version) => self.note(from, &flight.id, *version),
            HolderReply::Fenced(epoch) if *epoch > flight.version.epoch => {
                self.lose(&flight.id, *epoch)
            }
            // The newest as a whole lacks nothing; if a holder says so, only comparing shards heals.
            HolderReply::Incomplete { .. } if !flight.is_whole || self.is_old(&flight) => {
                self.lacks(from, flight.id.clone());
            }
            HolderReply::Incomplete { .. }
            | HolderReply::Fenced(_)
            | HolderReply::Granted { .. } => {}
        }
        self.judge(now, &flight.id);
        self.pump(from);
        self.take()
    }

    /// Takes the whole record that was asked for; `None` if this node does not own it any more.
    ///
    /// What is older than what was asked for is not sent: the own store could not write the newest, the
    /// actor is passive, and the next time there would be the same, for ever. Who has the newest gives
    /// it when shards are compared.
    pub fn whole(
        &mut self,
        now: Now,
        to: NodeId,
        id: &ActorId,
        image: Option<Image>,
    ) -> Vec<ReplicationAction> {
        let line = self.peers.get_mut(&to);
        let Some(wanted) = line.and_then(|line| line.asked.remove(id)) else {
            return Vec::new();
        };
        let newest = self.records.get(id).map(|record| record.newest);
        if let (Some(image), Some(newest)) = (image, newest)
            && image.header.version.epoch == newest.epoch
            && image.header.version >= wanted
        {
            // Of before a commit that came meanwhile.
            let is_old = image.header.version < newest;
            self.counts.wholes += 1;
            self.send(now, to, image, true);
            if is_old {
                self.lacks(to, id.clone());
            }
        }
        self.pump(to);
        self.take()
    }

    /// Takes word of a higher epoch, seen by the own desk or anywhere else.
    pub fn saw(&mut self, id: &ActorId, epoch: Epoch) -> Vec<ReplicationAction> {
        self.lose(id, epoch);
        self.take()
    }

    /// Takes word that a peer cannot be reached: it counts as one that does not answer.
    pub fn peer_lost(&mut self, now: Now, node: NodeId) -> Vec<ReplicationAction> {
        let Some(line) = self.peers.get_mut(&node) else {
            return Vec::new();
        };
        line.is_connected = false;
        let flights = std::mem::take(&mut line.in_flight).into_values();
        let asked = std::mem::take(&mut line.asked);
        for id in flights.map(|flight| flight.id).chain(asked.into_keys()) {
            self.lacks(node, id);
        }
        let waiting = self.records.iter();
        let waiting: Vec<ActorId> = waiting
            .filter(|(_, record)| record.is_wanted_by(node) && !record.pending.is_empty())
            .map(|(id, _)| id.clone())
            .collect();
        for id in waiting {
            self.judge(now, &id);
        }
        self.take()
    }

    /// Takes word that a peer can be reached: it gets the newest of what it lacks.
    pub fn peer_back(&mut self, node: NodeId) -> Vec<ReplicationAction> {
        self.peers.entry(node).or_default().is_connected = true;
        self.pump(node);
        self.take()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) -> Vec<ReplicationAction> {
        while let Some((at, id)) = self.due.first().cloned() {
            if at > now.mono {
                break;
            }
            self.judge(now, &id);
        }
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            while let Some(id) = self.expired(now, node) {
                self.lacks(node, id);
            }
            self.pump(node);
        }
        self.take()
    }

    /// Returns when [`Replicator::tick`] is to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let judged = self.due.first().map(|(at, _)| *at);
        let repeated = self.peers.values().filter_map(Line::next_deadline).min();
        [judged, repeated].into_iter().flatten().min()
    }

    /// Returns the epoch that a record was lost to, if that is remembered: a claim goes above it.
    #[must_use]
    pub fn lost_to_epoch(&self, id: &ActorId) -> Option<Epoch> {
        self.fenced.get(id).copied()
    }

    /// Returns what went wrong so far.
    #[must_use]
    pub const fn counts(&self) -> ReplicationCounts {
        self.counts
    }

    /// Returns how many records have a commit that waits, or a holder that lacks the newest.
    #[must_use]
    pub fn tracked(&self) -> usize {
        self.records.len()
    }

    /// Returns the higher epoch that won, if a commit of `epoch` comes too late. A commit of a
    /// higher epoch than known is a new ownership of this node: what waited of the old one has lost.
    fn lost_to(&mut self, id: &ActorId, epoch: Epoch) -> Option<Epoch> {
        if let Some(fenced) = self.fenced.get(id).copied() {
            if fenced > epoch {
                return Some(fenced);
            }
            self.fenced.remove(id);
            self.fenced_order.retain(|known| known != id);
        }
        let known = self.records.get(id).map(|record| record.newest.epoch)?;
        if known > epoch {
            return Some(known);
        }
        if known < epoch {
            let waited = self.records.get(id).is_some_and(Record::waits);
            self.drop_record(id);
            if waited {
                let id = id.clone();
                self.out.push(ReplicationAction::Fenced { id, epoch });
            }
        }
        None
    }

    fn has_room(&self, id: &ActorId, version: Version) -> bool {
        let fits = self.records.get(id).is_none_or(|record| {
            record.pending.len() < REPLICATION_PER_RECORD_MAX && record.newest < version
        });
        fits && self.pending < REPLICATION_PENDING_MAX
    }

    /// Sends a commit, or remembers that the peer lacks it.
    fn offer(&mut self, now: Now, to: NodeId, delta: &Image) {
        let id = &delta.header.id;
        let line = self.peers.entry(to).or_default();
        if line.asked.contains_key(id) {
            return;
        }
        if line.is_connected && line.has_room() && !line.lacking.contains(id) {
            self.send(now, to, delta.clone(), false);
        } else {
            line.lacking.insert(id.clone());
        }
    }

    fn send(&mut self, now: Now, to: NodeId, image: Image, is_whole: bool) {
        self.last_number += 2;
        let number = self.last_number;
        let flight = Flight {
            id: image.header.id.clone(),
            version: image.header.version,
            sent: now.mono,
            is_whole,
        };
        let line = self.peers.entry(to).or_default();
        line.in_flight.insert(number, flight);
        let request = HolderRequest::Commit(image);
        self.out.push(ReplicationAction::Send {
            to,
            number,
            request,
        });
    }

    fn note(&mut self, node: NodeId, id: &ActorId, version: Version) {
        let Some(record) = self.records.get_mut(id) else {
            return;
        };
        if version.epoch == record.newest.epoch {
            let has = record.have.entry(node).or_default();
            *has = version.max(*has);
        }
    }

    fn is_old(&self, flight: &Flight) -> bool {
        let record = self.records.get(&flight.id);
        record.is_some_and(|record| record.newest > flight.version)
    }

    fn lacks(&mut self, node: NodeId, id: ActorId) {
        let record = self.records.get(&id);
        if record.is_some_and(|record| record.is_wanted_by(node)) {
            self.peers.entry(node).or_default().lacking.insert(id);
        }
    }

    fn expired(&mut self, now: Now, node: NodeId) -> Option<ActorId> {
        let line = self.peers.get_mut(&node)?;
        if line.next_deadline()? > now.mono {
            return None;
        }
        line.in_flight.pop_first().map(|(_, flight)| flight.id)
    }

    /// Asks for what a peer lacks, as far as there is room.
    fn pump(&mut self, to: NodeId) {
        let Some(line) = self.peers.get_mut(&to) else {
            return;
        };
        while line.is_connected && line.has_room() {
            let Some(id) = line.lacking.pop_first() else {
                return;
            };
            let record = self.records.get(&id);
            if let Some(record) = record.filter(|record| record.is_wanted_by(to)) {
                line.asked.insert(id.clone(), record.newest);
                self.out.push(ReplicationAction::Whole { id, to });
            }
        }
    }

    /// Gives verdicts on a record's commits, the oldest first, and forgets it when nothing waits
    /// and nobody lacks it.
    fn judge(&mut self, now: Now, id: &ActorId) {
        while let Some((version, verdict)) = self.verdict(now, id) {
            let Some(record) = self.records.get_mut(id) else {
                return;
            };
            match verdict {
                Verdict::Wait => break,
                Verdict::Safe { degraded } => {
                    record.is_degraded = degraded;
                    self.counts.degraded += u64::from(degraded);
                    let id = id.clone();
                    self.out.push(ReplicationAction::Safe {
                        id,
                        version,
                        degraded,
                    });
                }
                Verdict::Unsafe => {
                    let id = id.clone();
                    self.out.push(ReplicationAction::Unsafe { id, version });
                }
            }
            record.pending.pop_front();
            self.pending -= 1;
        }
        self.rearm(now, id);
        self.settle(id);
    }

    fn verdict(&self, now: Now, id: &ActorId) -> Option<(Version, Verdict)> {
        let record = self.records.get(id)?;
        let first = record.pending.front()?;
        let has = |node: NodeId| record.has(node, first.version);
        let can = |node: NodeId| {
            let is_connected = || self.peers.get(&node).is_some_and(|line| line.is_connected);
            let may_come = if node == self.me {
                !first.is_own_failed
            } else {
                is_connected()
            };
            may_come || has(node)
        };
        let is_late = first.deadline.is_some_and(|deadline| deadline <= now.mono);
        let is_futile = || !has_quorum(&first.conf, commit_quorum, can);
        let verdict = if has_quorum(&first.conf, commit_quorum, has) {
            Verdict::Safe { degraded: false }
        } else if !is_late && !is_futile() {
            Verdict::Wait
        } else if self.mode == CommitMode::Strict {
            Verdict::Unsafe
        } else if first.conf.nodes().into_iter().any(has) {
            Verdict::Safe { degraded: true }
        } else if first.conf.nodes().into_iter().any(can) {
            Verdict::Wait
        } else {
            Verdict::Unsafe
        };
        Some((first.version, verdict))
    }

    fn rearm(&mut self, now: Now, id: &ActorId) {
        let Some(record) = self.records.get_mut(id) else {
            return;
        };
        // A deadline that has passed without a verdict: the first copy gives it.
        let first = record.pending.front().and_then(|first| first.deadline);
        let due = first.filter(|deadline| *deadline > now.mono);
        if due == record.due {
            return;
        }
        let before = std::mem::replace(&mut record.due, due);
        before.map(|at| self.due.remove(&(at, id.clone())));
        due.map(|at| self.due.insert((at, id.clone())));
    }

    fn settle(&mut self, id: &ActorId) {
        let Some(record) = self.records.get_mut(id) else {
            return;
        };
        if !record.pending.is_empty() {
            return;
        }
        let version = record.newest;
        let is_safe = has_quorum(&record.conf, commit_quorum, |node| {
            record.has(node, version)
        });
        if record.is_degraded && is_safe {
            record.is_degraded = false;
            let id = id.clone();
            self.out.push(ReplicationAction::Healed { id, version });
        }
        let nodes = record.conf.nodes();
        let mut others = nodes.into_iter().filter(|node| *node != self.me);
        if others.all(|node| record.has(node, version)) && !record.is_degraded {
            self.drop_record(id);
        } else if self.records.len() > REPLICATION_RECORDS_MAX {
            self.counts.forgotten += 1;
            self.drop_record(id);
        }
    }

    fn lose(&mut self, id: &ActorId, epoch: Epoch) {
        if self.fenced.get(id).is_some_and(|known| *known >= epoch) {
            return;
        }
        let own = self.records.get(id).map(|record| record.newest.epoch);
        if own.is_some_and(|own| own >= epoch) {
            return;
        }
        let is_first = self.fenced.insert(id.clone(), epoch).is_none();
        if is_first {
            self.fenced_order.push_back(id.clone());
            let id = id.clone();
            self.out.push(ReplicationAction::Fenced { id, epoch });
        }
        if self.fenced_order.len() > REPLICATION_FENCED_MAX {
            let oldest = self.fenced_order.pop_front();
            oldest.map(|oldest| self.fenced.remove(&oldest));
        }
        self.drop_record(id);
    }

    fn drop_record(&mut self, id: &ActorId) {
        let Some(record) = self.records.remove(id) else {
            return;
        };
        self.pending -= record.pending.len();
        record.due.map(|at| self.due.remove(&(at, id.clone())));
        for line in self.peers.values_mut() {
            line.lacking.remove(id);
        }
    }

    fn take(&mut self) -> Vec<ReplicationAction> {
        std::mem::take(&mut self.out)
    }
}
