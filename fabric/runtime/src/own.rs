//! How a shell owns its record beside other nodes: it begins, is fenced, and mends (`cluster.md` §4).
//!
//! In: what came of its claim, a higher epoch, the wish to be held elsewhere. Out: a core, or none
//! and no word to anybody; commits that change the holders.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use cluster::{Commit, Conf, Epoch, HolderSet, Image, Loaded, Owned};
use contract::core::{Event, Restored, Roster, Undelivered};
use contract::{ActorId, Kind, MediaCommand, NodeInst};

use crate::entry::Side;
use crate::replicas::{Claimed, Input};
use crate::shell::{Adopting, Claiming, State};

impl<R: Roster> State<R> {
    /// The other holders have answered.
    pub(crate) fn on_claimed(&mut self, outcome: Claimed) {
        if !matches!(self.claiming, Some(Claiming::Asked)) {
            return;
        }
        self.claiming = None;
        self.drop_spent_cause(&outcome);
        let id = self.entry.id.clone();
        match outcome {
            Claimed::Own(image) => self.wake(*image),
            Claimed::Won {
                epoch,
                newest,
                copies,
                degraded,
                placed,
                giver,
                may_live,
                may_be_outvoted,
            } => match newest {
                // A tombstone of one side of a partition, and bindings of the other.
                Some(newest) if !newest.header.is_ended() || merges(&id, &copies) => {
                    let claim = Claim {
                        epoch,
                        degraded,
                        giver,
                        may_live,
                        may_be_outvoted,
                    };
                    self.take_over(*newest, &copies, claim);
                }
                Some(_) => self.begin_new(epoch, placed, true),
                None => self.begin_new(epoch, placed, false),
            },
            Claimed::Elsewhere => {
                self.is_elsewhere = true;
                self.fabric.release_sides(&self.entry.id, self.fate());
            }
            Claimed::Failed => {
                self.leave = Undelivered::Busy;
                self.fabric.release_sides(&self.entry.id, self.fate());
            }
        }
        self.note_record();
        self.mend_if_asked();
    }

    /// Mends, if that was wanted before there was a record to mend.
    pub(crate) fn mend_if_asked(&mut self) {
        if self.core.is_some() && std::mem::take(&mut self.is_to_mend) {
            self.mend();
        }
    }

    /// What has brought a copy waits in the inbox once more: if the copy was stored all the same, it is
    /// spent.
    fn drop_spent_cause(&mut self, outcome: &Claimed) {
        let Some(Adopting::Unwritten(version)) = self.adopting.take() else {
            return;
        };
        let found = match outcome {
            Claimed::Own(image) => Some(image),
            Claimed::Won { newest, .. } => newest.as_ref(),
            Claimed::Elsewhere | Claimed::Failed => None,
        };
        let is_spent = found.is_some_and(|image| {
            let found = image.header.version;
            found.epoch == version.epoch && found >= version
        });
        if is_spent {
            self.entry.pop();
        }
    }

    /// The record is this life's own.
    fn wake(&mut self, mut image: Image) {
        let records = &self.fabric.inner.records;
        let last = records.change(&self.entry.id, |owned| owned.header().version);
        let version = &mut image.header.version;
        if let Some(last) = last.filter(|last| last.epoch == version.epoch) {
            // What could not be written has had its number: it is not given twice.
            *version = last.max(*version);
        }
        let parts = image.parts.clone();
        let loaded = Loaded {
            fence: image.header.version.epoch,
            header: image.header,
            parts: image.parts,
            missing: Vec::new(),
        };
        let (owned, _) = Owned::adopt(loaded, self.fabric.me(), records.ids());
        records.insert(&self.entry.id, owned);
        self.forget_passive_deadline();
        if !self.adopt(&parts, Restored::Wake) {
            self.core = None;
        }
    }

    /// Goes on with what another life had: written under the new epoch before anything is done.
    fn take_over(&mut self, newest: Image, copies: &[Bytes], claim: Claim) {
        let (id, now, me) = (self.entry.id.clone(), self.fabric.now(), self.fabric.me());
        let former = newest.header.owner;
        // Another claim lies between: who won it may have gone on from this same copy, and of what that
        // one has done nothing has come here.
        let is_passed = claim.epoch.n > newest.header.version.epoch.n.saturating_add(1);
        let why = if former == me && id.kind() != Kind::Call {
            // It was lost and is won again: connections are as they were.
            Restored::Wake
        } else if former.node == me.node && (claim.may_live || is_passed) {
            Restored::StartedAlone
        } else if former.node == me.node {
            // Of this very life, too: a call that was lost has no ports any more.
            Restored::NodeStart
        } else if claim.giver == Some(former) {
            Restored::Moved {
                epoch: claim.epoch.n,
            }
        } else if id.kind() == Kind::Call && (is_passed || claim.may_be_outvoted) && !claim.may_live
        {
            // A death that is proven is that of a life: the node may have started again, unheard here,
            // and may go on from this same copy.
            Restored::Adopted {
                epoch: claim.epoch.n,
            }
        } else {
            Restored::TakenOver {
                may_live: claim.may_live,
                epoch: claim.epoch.n,
            }
        };
        let Claim {
            epoch, degraded, ..
        } = claim;
        let records = &self.fabric.inner.records;
        let (mut owned, _) = Owned::take_over(newest, epoch, degraded, me, records.ids());
        owned.revive();
        if copies.len() > 1 || owned.last(&id).is_none() {
            let merged = R::merge(&id, copies, now);
            if owned.last(&id) != Some(&merged) {
                let core = R::restore(&id, &merged, now).ok();
                let deadline = core.as_ref().and_then(R::next_deadline);
                let deadline = deadline.map(|at| now.utc.after(at.since(now.mono)));
                if let Err(error) = owned.put(&id, merged.to_vec(), deadline) {
                    tracing::error!(%error, "what was merged cannot be recorded");
                }
            }
        }
        let delta = Box::new(owned.image());
        let parts = delta.parts.clone();
        records.insert(&id, owned);
        self.forget_passive_deadline();
        self.claiming = Some(Claiming::Found(parts, why));
        let entry = Arc::clone(&self.entry);
        let done = move |result| {
            entry.push_side(Side::Adopted(result));
        };
        let done = Box::new(done);
        self.fabric.give(Input::Commit { delta, done });
    }

    /// Begins under a claim that found nothing to go on with.
    fn begin_new(&mut self, epoch: Epoch, placed: HolderSet, has_ended: bool) {
        let id = self.entry.id.clone();
        // A call is made by one INVITE: what comes after its end starts no second one.
        let is_late = has_ended && id.kind() == Kind::Call;
        let may_begin = !is_late || self.follows_the_end();
        if may_begin && self.create() {
            let records = &self.fabric.inner.records;
            let owned = Owned::begin_at(&id, epoch, self.fabric.me(), records.ids());
            records.insert(&id, owned.held_by(placed));
            if is_late {
                // Its sides are in the copy that the message brings: who waits for one waits on.
                return;
            }
            self.entry.has_children.store(true, Ordering::SeqCst);
        }
        self.fabric.release_sides(&id, self.fate());
    }

    /// Another node has won the record: nothing more is said or done, above all no BYE; what was
    /// not read yet, or not told anybody, goes there.
    pub(crate) fn lose(&mut self, epoch: Epoch) {
        if self.is_elsewhere {
            return;
        }
        tracing::info!(winner = %epoch, "another node has won the record");
        self.is_elsewhere = true;
        self.core = None;
        self.suspended = None;
        self.frozen = None;
        self.claiming = None;
        self.adopting = None;
        self.unwritten = None;
        self.gate.drop_held();
        for (_, cause) in std::mem::take(&mut self.causes) {
            // What a side of its own has said is of this copy, above all that it is gone: the winner has
            // a side for that, and hears from that one.
            if let Event::Message { from, message } = cause
                && from.record_owner() != self.entry.id
            {
                let id = self.entry.id.clone();
                self.fabric.send_after(from, id, 0, message);
            }
        }
        if let ActorId::MediaLeg(leg) = &self.entry.id {
            // A call that was handed over, or gone on with while this node was cut off, is heard here
            // until its ends send their sound there.
            let linger = MediaCommand::Linger { leg: *leg };
            self.fabric.env().media().command(linger);
        }
        let children = self.entry.status().children.clone();
        for child in children.iter().filter_map(|child| self.fabric.find(child)) {
            child.push_side(Side::Fenced(epoch));
        }
        self.end();
    }

    /// Goes on as another copy of the record has it: what is here ends as if it were lost, and nothing
    /// of the copy is done before it is safe. What has brought the copy is kept until then.
    pub(crate) fn adopt_copy(
        &mut self,
        copy: Vec<(ActorId, Bytes)>,
        cause: Option<Event<R::Message, ()>>,
    ) {
        let (records, id) = (&self.fabric.inner.records, self.entry.id.clone());
        let adopted = records.change(&id, |owned| {
            let epoch = owned.epoch();
            owned.replace(copy).map(|()| (epoch, owned.image()))
        });
        let (epoch, delta) = match adopted {
            Some(Ok(adopted)) if self.fabric.inner.replicas.is_some() => adopted,
            Some(Err(error)) => {
                tracing::warn!(%error, "a copy of the record cannot be gone on with");
                let is_begun = records.last(&id).is_some();
                if !is_begun {
                    self.core = None;
                    self.end();
                }
                return;
            }
            Some(Ok(_)) | None => return,
        };
        self.core = None;
        self.suspended = None;
        self.unwritten = None;
        self.gate.drop_held();
        self.causes.clear();
        let children = std::mem::take(&mut self.entry.status().children);
        for child in children.iter().filter_map(|child| self.fabric.find(child)) {
            child.push_side(Side::Fenced(epoch));
        }
        // Its sides are those of the copy: who wants one waits for them.
        self.entry.has_children.store(false, Ordering::SeqCst);
        let version = delta.header.version;
        self.adopting = cause.map(|cause| Adopting::Written(version, cause));
        let why = Restored::Adopted { epoch: epoch.n };
        self.claiming = Some(Claiming::Found(delta.parts.clone(), why));
        let entry = Arc::clone(&self.entry);
        let done = move |result| {
            entry.push_side(Side::Adopted(result));
        };
        let (delta, done) = (Box::new(delta), Box::new(done));
        self.fabric.give(Input::Commit { delta, done });
    }

    /// Changes the record's holders towards what placement wants, or says that it is whole again.
    pub(crate) fn mend(&mut self) {
        if self.claiming.is_some() {
            self.is_to_mend = true;
            return;
        }
        let wanted = self.fabric.placed(&self.entry.id);
        self.commit_mend(move |owned| match &owned.header().conf {
            Conf::Settled(set) => {
                let mut nodes = wanted.nodes().iter();
                if nodes.any(|node| !set.nodes().contains(node)) {
                    owned.propose_holders(wanted)
                } else {
                    owned.header().degraded.then(|| without_mark(owned))
                }
            }
            // A change that did not become safe.
            Conf::Joint { .. } => Some(without_mark(owned)),
        });
    }

    /// A commit that mends is safe: with all holders that were wanted, the change is at its end.
    pub(crate) fn mended(&mut self) {
        self.commit_mend(|owned| match owned.header().degraded {
            true => None,
            false => owned.settle_holders(),
        });
    }

    fn commit_mend(&self, change: impl FnOnce(&mut Owned) -> Option<Commit>) {
        if self.core.is_none() || self.has_ended_record {
            return;
        }
        let (fabric, entry) = (&self.fabric, Arc::clone(&self.entry));
        let records = &fabric.inner.records;
        records.commit_change(&self.entry.id, change, |owned, commit| {
            entry.under_way.fetch_add(1, Ordering::SeqCst);
            let is_joint = matches!(owned.header().conf, Conf::Joint { .. });
            let done = move |result: Result<(), contract::StoreFault>| {
                if is_joint && result.is_ok() {
                    entry.push_side(Side::Mended);
                }
                // If it failed, the next look at the headers finds it.
                entry.written(None, Ok(()));
            };
            fabric.write(owned, commit, Box::new(done));
        });
        fabric.work();
    }
}

/// What was won.
struct Claim {
    epoch: Epoch,
    degraded: bool,
    /// Who has handed it over, and lives.
    giver: Option<NodeInst>,
    /// Who owned it is not proven to be dead; or it was this node, and another may go on with it.
    may_live: bool,
    /// Most of its holders have not been heard: they may go on with it among themselves.
    may_be_outvoted: bool,
}

/// Commits that nothing is lacking; if something is, the verdict marks it again.
fn without_mark(owned: &mut Owned) -> Commit {
    owned.set_degraded(false);
    owned.touch()
}

/// Tells whether copies are one truth together, also beside a tombstone (`cluster.md` §8).
fn merges(id: &ActorId, copies: &[Bytes]) -> bool {
    id.kind() == Kind::Registration && !copies.is_empty()
}
