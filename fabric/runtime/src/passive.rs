//! The two ends of a life: beginning (from a record, from a message, as part of the node) and
//! passivation to the record.
//!
//! In: an entry whose shell runs for the first time, or has been quiet. Out: a core, or an empty
//! place in the table. A passive actor costs its record and one entry of the deadline index.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use contract::action::Store;
use contract::core::{Event, Restored, Roster, Undelivered};
use contract::{ActorId, Kind, Now};

use crate::entry::{Entry, Safe, Side};
use crate::fabric::{Origin, Part};
use crate::records::Found;
use crate::replicas::Input;
use crate::shell::{Adopting, Claiming, Given, State};

impl<R: Roster> State<R> {
    /// Builds the core; false if there is nothing to build it from.
    pub(crate) fn begin(&mut self) -> bool {
        let id = self.entry.id.clone();
        if let Some(Given { part, why }) = self.given.take() {
            let is_restored = self.restore(&part);
            self.is_lost = !is_restored;
            if is_restored {
                self.take(Event::Restored(why));
            }
            return is_restored;
        }
        if !id.kind().is_recorded() {
            self.core = R::create_system(&id, &self.fabric.site());
            return self.core.is_some();
        }
        if id.record_owner() != id {
            return self.create();
        }
        if self.fabric.inner.replicas.is_some() {
            self.claiming = Some(Claiming::Asked);
            self.fabric.give(Input::Begin { id });
            return true;
        }
        self.begin_alone(&id)
    }

    /// Begins from the record of a node that is alone.
    fn begin_alone(&mut self, id: &ActorId) -> bool {
        let store = self.fabric.env().store();
        let found = self.fabric.inner.records.open(store.as_ref(), id);
        match found {
            Ok(Found::Nothing(fence, has_ended)) => {
                if has_ended {
                    self.clear_tombstone();
                }
                // A call is made by one INVITE: what comes after its end starts no second one.
                let may_begin = !(has_ended && id.kind() == Kind::Call);
                let created = may_begin && self.create();
                if created {
                    self.fabric.inner.records.begin(id, fence);
                    self.entry.has_children.store(true, Ordering::SeqCst);
                }
                self.fabric.release_sides(&self.entry.id, self.fate());
                created
            }
            Ok(Found::Record {
                parts,
                claim,
                is_from_former_life,
            }) => {
                self.forget_passive_deadline();
                let why = if is_from_former_life {
                    Restored::NodeStart
                } else {
                    Restored::Wake
                };
                let Some(claim) = claim else {
                    return self.adopt(&parts, why);
                };
                self.claiming = Some(Claiming::Found(parts, why));
                self.commit_claim(claim.batch);
                true
            }
            Err(error) => {
                tracing::error!(%error, "a record cannot be read");
                self.fabric.release_sides(&self.entry.id, self.fate());
                false
            }
        }
    }

    pub(crate) fn follows_the_end(&self) -> bool {
        let first = self.entry.first_message();
        first.is_some_and(|first| R::follows_the_end(&first))
    }

    pub(crate) fn create(&mut self) -> bool {
        let Some(first) = self.entry.first_message() else {
            return false;
        };
        self.core = R::create(&self.entry.id, &first, &self.fabric.site());
        self.first = Some(first);
        self.core.is_some()
    }

    fn restore(&mut self, part: &Bytes) -> bool {
        let now = self.fabric.now();
        match R::restore(&self.entry.id, part, now) {
            Ok(core) => {
                self.core = Some(core);
                self.stored_at = Some(now);
                let records = &self.fabric.inner.records;
                let deadline = records.change(&self.entry.id, |owned| {
                    let part = owned.header().part(&self.entry.id);
                    part.and_then(|part| part.deadline)
                });
                self.entry.set_safe(Some(Safe {
                    part: part.clone(),
                    deadline: deadline.flatten(),
                }));
                true
            }
            Err(error) => {
                tracing::error!(%error, "a part cannot be restored");
                false
            }
        }
    }

    /// Restores the own part, then starts every side of the record.
    pub(crate) fn adopt(&mut self, parts: &BTreeMap<ActorId, Bytes>, why: Restored) -> bool {
        let id = self.entry.id.clone();
        let Some(own) = parts.get(&id).filter(|_| !self.is_ending()) else {
            tracing::error!("a record without its owner's part");
            self.fabric.release_sides(&self.entry.id, self.fate());
            return false;
        };
        if !self.restore(own) {
            self.fabric.release_sides(&self.entry.id, self.fate());
            return false;
        }
        let sides: BTreeMap<_, _> = parts.iter().filter(|(part, _)| **part != id).collect();
        self.entry.status().children = sides.keys().map(|side| (*side).clone()).collect();
        for (side, part) in &sides {
            let entry = self.place_of_side(side);
            self.fabric.launch(
                &entry,
                Some(Given {
                    part: (*part).clone(),
                    why,
                }),
            );
        }
        self.entry.has_children.store(true, Ordering::SeqCst);
        self.fabric.release_sides(&id, self.fate());
        self.take(Event::Restored(why));
        true
    }

    /// Returns the entry of a side: the one that waits for it already, or a new one.
    fn place_of_side(&self, side: &ActorId) -> Arc<Entry<R>> {
        let entry = Entry::new(side.clone(), Some(self.entry.id.clone()));
        entry.claim();
        while let Err(waiting) = self.fabric.enlist(&entry) {
            if waiting.claim() {
                return waiting;
            }
            // Somebody gives it back right now.
            self.fabric.delist(&waiting);
        }
        entry
    }

    /// The claim of a new epoch must be safe before any effect (`cluster.md` §7).
    fn commit_claim(&mut self, mut batch: contract::Batch) {
        // A claim renews what is there: it is written as long as the disk takes anything.
        batch.essential = true;
        let entry = Arc::clone(&self.entry);
        let done = move |result| {
            entry.push_side(Side::Adopted(result));
        };
        self.fabric.env().store().commit(batch, Box::new(done));
    }

    /// The claim is safe, or was refused: then the record stays as it is and nobody acts for it.
    pub(crate) fn on_adopted(&mut self, result: Result<(), contract::StoreFault>) {
        let Some(Claiming::Found(parts, why)) = self.claiming.take() else {
            return;
        };
        match result {
            Ok(()) => {
                self.adopting = None;
                if self.adopt(&parts, why) {
                    let id = self.entry.id.clone();
                    self.fabric.give(Input::TakenIn { id });
                } else {
                    self.core = None;
                }
                self.mend_if_asked();
            }
            // `lose` has done what there is to do.
            Err(contract::StoreFault::Fenced) => {}
            Err(fault) if self.fabric.inner.replicas.is_some() => {
                tracing::warn!(cause = %fault, "the claim of a record is tried again");
                self.claiming = Some(Claiming::Asked);
                // No holder may have the copy it was to go on with: what has brought it is read again.
                if let Some(Adopting::Written(version, cause)) = self.adopting.take() {
                    self.entry.push_front(cause);
                    self.adopting = Some(Adopting::Unwritten(version));
                }
                let id = self.entry.id.clone();
                self.fabric.give(Input::BeginLater { id });
            }
            Err(fault) => {
                tracing::error!(cause = %fault, "the claim of a record failed");
                self.leave = Undelivered::Busy;
                self.fabric.release_sides(&self.entry.id, self.fate());
            }
        }
    }

    pub(crate) fn forget_passive_deadline(&self) {
        let id = &self.entry.id;
        let records = &self.fabric.inner.records;
        let deadline = records
            .change(id, |owned| owned.header().deadline())
            .flatten();
        if let Some(deadline) = deadline {
            self.fabric.inner.index.clear_passive(id, deadline);
        }
    }

    /// Removes a tombstone that has been kept long enough, or looks again when it has.
    fn clear_tombstone(&self) {
        let (fabric, id) = (&self.fabric, &self.entry.id);
        let ids = fabric.inner.records.ids();
        let store = fabric.env().store();
        let Ok(Some(loaded)) = cluster::load(store.as_ref(), ids, id) else {
            return;
        };
        if loaded.header.expires <= fabric.now().utc {
            fabric.commit_lazily(cluster::forget(&loaded.header, ids));
        } else {
            fabric.inner.index.set_passive(id, loaded.header.expires);
        }
    }

    /// Leaves the table for the record if the core allows it and nothing is under way.
    pub(crate) fn passivate_if_quiet(&mut self, now: Now) -> bool {
        let Some(core) = &self.core else { return false };
        let Some(after) = core.passivates_after() else {
            return false;
        };
        let is_quiet = now.mono >= self.quiet_since + after
            && self.may_leave()
            && core.next_deadline().is_none_or(|at| at > now.mono);
        if !is_quiet {
            return false;
        }
        let id = self.entry.id.clone();
        let stored = self.fabric.inner.records.last(&id);
        if !self.has_ended_record {
            let same = self
                .stored_at
                .map(|at| core.snapshot(at, self.fabric.spoken()));
            let is_stored = stored.is_some() && same.as_deref() == stored.as_deref();
            if stored.is_some() && !is_stored {
                // What has changed since is recorded first; the next quiet moment finds it stored.
                self.store_now(now);
                self.quiet_since = now.mono;
                return false;
            }
        }
        if !self.entry.close_if_empty() {
            return false;
        }
        let deadline = self.fabric.inner.records.change(&id, |owned| {
            let header = owned.header();
            if header.is_ended() {
                None
            } else {
                header.deadline()
            }
        });
        if let Some(Some(deadline)) = deadline {
            self.fabric.inner.index.set_passive(&id, deadline);
        }
        self.finish();
        true
    }

    /// Records the part as it is; nobody waits.
    pub(crate) fn store_now(&mut self, now: Now) {
        let Some(core) = &self.core else { return };
        let schema = self.fabric.spoken();
        let bytes = Bytes::from(core.snapshot(now, schema));
        let deadline = core
            .next_deadline()
            .map(|at| now.utc.after(at.since(now.mono)));
        let origin = Origin {
            id: &self.entry.id,
            part: Some(Part {
                bytes: &bytes,
                deadline,
                schema,
            }),
            ticket: None,
        };
        self.fabric.store(&origin, Store::Put { gate: false });
        self.stored_at = Some(now);
    }
}
