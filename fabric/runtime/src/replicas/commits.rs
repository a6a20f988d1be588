//! Commits of this node's records: written here, at the holders, and judged.
//!
//! In: deltas of records, answers of the own desk and of holders. Out: word to whoever waits for a
//! version, once. A record that another node has won is taken from its shell.

use std::collections::{BTreeMap, VecDeque};

use cluster::{
    Conf, DeskAction, Frame, Header, HolderReply, HolderRequest, Image, ReplicationAction, Version,
    commit_quorum,
};
use contract::core::{Rivals, Roster};
use contract::{ActorId, FrameClass, NodeId, NodeInst, StoreFault};

use super::{Input, Parcel, Turn, Work};
use crate::entry::Side;

/// Told once what became of a commit.
pub(crate) type Done = Box<dyn FnOnce(Result<(), StoreFault>) + Send>;

/// Who waits for what.
#[derive(Default)]
pub(super) struct Commits {
    /// Commits without a verdict, in the order of their versions.
    waiting: BTreeMap<ActorId, VecDeque<(Version, Done)>>,
    /// Requests to the own desk.
    own: BTreeMap<u64, Own>,
    last_own: u64,
}

/// What the own desk was asked for.
pub(super) enum Own {
    /// A commit; the whole record if `is_whole`.
    Commit {
        id: ActorId,
        version: Version,
        is_whole: bool,
    },
    /// A claim.
    Claim(ActorId),
}

impl<R: Roster> Turn<'_, R> {
    pub(super) fn commit(&mut self, mut delta: Image, done: Done) {
        let (id, version) = (delta.header.id.clone(), delta.header.version);
        if !self.reaches_enough(&delta.header.conf) {
            // Said as it is written, and whatever it was to say: this life may end before its next commit,
            // and the next one has only the header to know by what nobody else has.
            delta.header.degraded = true;
            let records = &self.fabric.inner.records;
            records.change(&id, |owned| owned.set_degraded(true));
        }
        let waiting = self.state.commits.waiting.entry(id.clone()).or_default();
        waiting.push_back((version, done));
        let request = HolderRequest::Commit(delta.clone());
        let actions = self.state.replicator.commit(self.now, delta);
        self.replicate(actions);
        let own = Own::Commit {
            id,
            version,
            is_whole: false,
        };
        self.ask_own(request, own);
    }

    /// Tells whether so many holders can be reached now that a commit may become safe with all that are
    /// wanted.
    pub(super) fn reaches_enough(&self, conf: &Conf) -> bool {
        let (me, mesh) = (self.me().node, &self.fabric.inner.mesh);
        let is_reached = |node: &&NodeId| **node == me || mesh.life(**node).is_some();
        conf.sets()
            .all(|set| set.nodes().iter().filter(is_reached).count() >= commit_quorum(set))
    }

    pub(super) fn ask_own(&mut self, request: HolderRequest, own: Own) {
        let commits = &mut self.state.commits;
        commits.last_own += 1;
        let number = commits.last_own;
        commits.own.insert(number, own);
        let me = self.me();
        self.ask(me, number, request);
    }

    /// A node asks this one as a holder.
    pub(super) fn ask(&mut self, from: NodeInst, number: u64, request: HolderRequest) {
        if from != self.me() && self.is_unfit_for(&request) {
            return;
        }
        if let HolderRequest::Commit(image) = &request {
            self.bequeath(image);
        }
        let store = self.fabric.env().store();
        let actions = self
            .state
            .desk
            .request(store.as_ref(), from, number, request);
        let work = actions.into_iter().map(Work::Desk);
        self.state.work.extend(work);
    }

    /// A record of another ownership is about to replace the one that is held: what only that one
    /// has goes to the owner, for kinds that are merged (`cluster.md` §8).
    pub(super) fn bequeath(&mut self, image: &Image) {
        let id = &image.header.id;
        let store = self.fabric.env().store();
        let held = self.state.desk.held(store.as_ref(), id).ok();
        let Some(former) = held.and_then(|held| held.image) else {
            return;
        };
        let has_ended = image.header.is_ended();
        let will_come_whole = !has_ended && image.parts.len() < image.header.parts.len();
        let is_older = former.header.version.epoch < image.header.version.epoch;
        if !is_older || former.header.is_ended() || will_come_whole {
            return;
        }
        let rivals = Rivals {
            former: &former.parts,
            ran_here: self.alone_knows(&former.header),
            newer: (!has_ended).then_some(&image.parts),
        };
        let Some(message) = R::bequeath(id, &rivals, self.now) else {
            return;
        };
        let me = self.me();
        // After what is under way: by then the owner is known here.
        self.replicas.put(Input::Post(Parcel {
            from: ActorId::Member(me.node),
            origin: me,
            to: id.clone(),
            hops: 0,
            message,
        }));
    }

    /// Tells whether what a copy has may be known to no other node: this life ran it, and was not asked
    /// before another one went on; or a former life did, and could not tell the others.
    fn alone_knows(&self, header: &Header) -> bool {
        let (me, owner) = (self.me(), header.owner);
        if self.state.moves.is_given_away(&header.id) {
            return false;
        }
        owner == me || (owner.node == me.node && header.degraded)
    }

    pub(super) fn stored(&mut self, number: u64, result: Result<(), StoreFault>) {
        if let Err(fault) = &result {
            tracing::warn!(cause = %fault, "a record could not be written");
        }
        let actions = self.state.desk.stored(number, result.is_ok());
        let work = actions.into_iter().map(Work::Desk);
        self.state.work.extend(work);
    }

    pub(super) fn on_desk(&mut self, action: DeskAction) {
        match action {
            DeskAction::Fence { id, epoch } => {
                // Before anything else is said or done.
                let actions = self.state.replicator.saw(&id, epoch);
                for action in actions {
                    self.on_replication(action);
                }
                self.claim_fenced(&id, epoch);
            }
            DeskAction::Store { number, batch } => {
                let fabric = self.fabric.clone();
                let done = move |result| fabric.give(Input::Stored { number, result });
                self.fabric.env().store().commit(batch, Box::new(done));
            }
            DeskAction::Answer { to, number, reply } if to == self.me() => {
                self.own_answer(number, reply);
            }
            // It is stored, but what this node holds does not count.
            DeskAction::Answer { .. } if self.is_in_doubt() => {}
            DeskAction::Answer { to, number, reply } => {
                self.send(to, FrameClass::Commit, &Frame::Reply { number, reply });
            }
            DeskAction::Drop { to, number } if to == self.me() => self.own_dropped(number),
            DeskAction::Drop { .. } => {}
            DeskAction::Changed { key, before, after } => {
                let (before, after) = (before.as_deref(), after.as_deref());
                self.state.repair.changed(key, before, after);
                if let Some(after) = after {
                    self.fabric.has_record_of(after.schema);
                    self.check_owner(after);
                }
            }
            DeskAction::Copied { number, is_durable } => {
                let actions = self.state.repair.stored(self.now, number, is_durable);
                self.repair(actions);
            }
        }
    }

    /// A copy of another holder may tell what no claim or commit has told this node: that it has lost
    /// a record while it was cut off.
    fn check_owner(&mut self, header: &Header) {
        let epoch = header.version.epoch;
        let records = &self.fabric.inner.records;
        let own = records.change(&header.id, |owned| owned.epoch());
        if own.is_some_and(|own| own < epoch) && epoch.by != self.me().node {
            let actions = self.state.replicator.saw(&header.id, epoch);
            self.replicate(actions);
        }
    }

    fn own_answer(&mut self, number: u64, reply: HolderReply) {
        let Some(own) = self.state.commits.own.remove(&number) else {
            return;
        };
        let (id, version, is_whole) = match own {
            Own::Claim(id) => {
                let me = self.me().node;
                return self.claim_answer(&id, me, reply);
            }
            Own::Commit {
                id,
                version,
                is_whole,
            } => (id, version, is_whole),
        };
        let actions = match reply {
            HolderReply::Stored(stored) => self.state.replicator.stored(self.now, &id, stored),
            HolderReply::Fenced(epoch) => self.state.replicator.saw(&id, epoch),
            HolderReply::Incomplete { .. } if !is_whole => {
                let image = self.fabric.inner.records.change(&id, |owned| owned.image());
                if let Some(image) = image {
                    let version = image.header.version;
                    let own = Own::Commit {
                        id,
                        version,
                        is_whole: true,
                    };
                    return self.ask_own(HolderRequest::Commit(image), own);
                }
                self.state.replicator.not_stored(self.now, &id, version)
            }
            HolderReply::Incomplete { .. } | HolderReply::Granted { .. } => {
                self.state.replicator.not_stored(self.now, &id, version)
            }
        };
        self.replicate(actions);
    }

    fn own_dropped(&mut self, number: u64) {
        match self.state.commits.own.remove(&number) {
            Some(Own::Commit { id, version, .. }) => {
                let actions = self.state.replicator.not_stored(self.now, &id, version);
                self.replicate(actions);
            }
            Some(Own::Claim(id)) => self.claim_failed(&id, "the own store did not take it"),
            None => {}
        }
    }

    pub(super) fn reply(&mut self, from: NodeInst, number: u64, reply: HolderReply) {
        if number % 2 == 1 {
            return self.claim_reply(from.node, number, reply);
        }
        let actions = self
            .state
            .replicator
            .answer(self.now, from.node, number, &reply);
        self.replicate(actions);
    }

    pub(super) fn on_replication(&mut self, action: ReplicationAction) {
        let records = &self.fabric.inner.records;
        match action {
            ReplicationAction::Send {
                to,
                number,
                request,
            } => {
                // If it does not go out, the machine asks again, or hears that the peer is lost.
                self.send_to(to, FrameClass::Commit, &Frame::Ask { number, request });
            }
            ReplicationAction::Whole { id, to } => {
                let image = records
                    .change(&id, |owned| owned.image())
                    .or_else(|| self.held_image(&id));
                let actions = self.state.replicator.whole(self.now, to, &id, image);
                self.replicate(actions);
            }
            ReplicationAction::Safe {
                id,
                version,
                degraded,
            } => {
                let is_marked = records.change(&id, |owned| {
                    let is_marked = owned.header().degraded;
                    owned.set_degraded(is_marked || degraded);
                    is_marked
                });
                self.verdict(&id, version, &Ok(()));
                if !degraded && is_marked == Some(true) {
                    self.sweep_mend(id);
                }
            }
            ReplicationAction::Unsafe { id, version } => {
                self.verdict(&id, version, &Err(StoreFault::TooFewHolders));
            }
            ReplicationAction::Healed { id, .. } => self.sweep_mend(id),
            ReplicationAction::Fenced { id, epoch } => self.fenced(&id, epoch),
        }
    }

    /// Returns a record as it is stored, if this life of the node owns it.
    fn held_image(&self, id: &ActorId) -> Option<Image> {
        let store = self.fabric.env().store();
        let held = self.state.desk.held(store.as_ref(), id).ok()?;
        let me = self.me();
        held.image.filter(|image| image.header.owner == me)
    }

    fn verdict(&mut self, id: &ActorId, version: Version, result: &Result<(), StoreFault>) {
        let mut ready = Vec::new();
        if let Some(waiting) = self.state.commits.waiting.get_mut(id) {
            while let Some((_, done)) = waiting.pop_front_if(|(of, _)| *of <= version) {
                ready.push(done);
            }
            if waiting.is_empty() {
                self.state.commits.waiting.remove(id);
            }
        }
        for done in ready {
            done(result.clone());
        }
    }

    /// Another node has won the record: its actor here emits nothing more.
    pub(super) fn fenced(&mut self, id: &ActorId, epoch: cluster::Epoch) {
        if epoch.by != self.me().node {
            self.state.claims.has_lost(id, self.now.mono);
            self.sweep_lost(id);
        }
        let winner = self.life_of(epoch.by).filter(|life| *life != self.me());
        if let Some(winner) = winner {
            let actions = self.state.directory.hint(id, winner);
            self.direct(actions);
        }
        if let Some(entry) = self.fabric.find(id) {
            let is_told = self
                .fabric
                .inner
                .records
                .change(id, |owned| owned.epoch() < epoch)
                .unwrap_or(true);
            if is_told {
                entry.push_side(Side::Fenced(epoch));
            }
        }
        let waiting = self.state.commits.waiting.remove(id);
        for (_, done) in waiting.into_iter().flatten() {
            done(Err(StoreFault::Fenced));
        }
    }
}
