//! Committing: from a `Store` action to the record and the disk.
//!
//! In: the part of an actor as it is after an event. Out: a commit, and word of it to the actor's
//! shell. What cannot be recorded for our own fault counts as a failed commit: nobody is told
//! anything that is not safe.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cluster::{Commit, Owned, RecordError};
use contract::action::Store;
use contract::core::Roster;
use contract::{ActorId, SchemaVersion, StoreFault};

use crate::entry::{Entry, Safe, Side};
use crate::fabric::{Fabric, Origin, Part};
use crate::gate::Ticket;
use crate::replicas::{Done, Input};

/// Commits the part of the actor that an action comes from.
pub(crate) fn commit<R: Roster>(fabric: &Fabric<R>, origin: &Origin<'_>, store: Store) {
    let Some(entry) = fabric.find(origin.id) else {
        return;
    };
    match store {
        Store::Put { .. } => put(fabric, &entry, origin),
        Store::End { keep, .. } => {
            let until = fabric.now().utc.after(keep);
            let mut is_new = false;
            let end = |owned: &mut Owned| (!owned.header().is_ended()).then(|| owned.end(until));
            let records = &fabric.inner.records;
            records.commit_change(origin.id, end, |owned, commit| {
                is_new = true;
                write_end(fabric, &entry, origin.ticket, owned, commit);
            });
            fabric.work();
            if !is_new {
                entry.under_way.fetch_add(1, Ordering::SeqCst);
                entry.written(origin.ticket, Ok(()));
            }
        }
    }
}

fn put<R: Roster>(fabric: &Fabric<R>, entry: &Arc<Entry<R>>, origin: &Origin<'_>) {
    let records = &fabric.inner.records;
    let Some(part) = origin.part else {
        tracing::error!(actor = %origin.id, "there is nothing to record");
        return;
    };
    let is_owner = origin.id.record_owner() == *origin.id;
    let mut done = Some(done_with(entry, part, origin.ticket));
    entry.under_way.fetch_add(1, Ordering::SeqCst);
    let mut failed = None;
    for _ in 0..2 {
        let put = records.put(origin.id, part, |owned, commit| {
            if let Some(done) = done.take() {
                fabric.write(owned, commit, Box::new(done));
            }
        });
        fabric.work();
        match put {
            Some(Ok(())) => return,
            Some(Err(RecordError::Ended { .. })) if may_begin_again(origin.id) => {
                records.begin_again(origin.id);
                failed = Some("its record has ended twice".to_owned());
            }
            // A side of a call that has ended has nothing left to protect.
            Some(Err(RecordError::Ended { .. })) | None if !is_owner => {
                failed = None;
                break;
            }
            Some(Err(error)) => failed = Some(error.to_string()),
            None => failed = Some("it has no record".to_owned()),
        }
    }
    let result = match failed {
        None => Ok(()),
        Some(why) => {
            tracing::error!(actor = %origin.id, cause = why, "a part cannot be recorded");
            Err(StoreFault::Poisoned { why })
        }
    };
    entry.written(origin.ticket, result);
}

fn done_with<R: Roster>(
    entry: &Arc<Entry<R>>,
    part: Part<'_>,
    ticket: Option<Ticket>,
) -> impl FnOnce(Result<(), StoreFault>) + Send + 'static {
    let entry = Arc::clone(entry);
    let (part, deadline) = (part.bytes.clone(), part.deadline);
    move |result| {
        if result.is_ok() {
            entry.set_safe(Some(Safe { part, deadline }));
        }
        entry.written(ticket, result);
    }
}

impl<R: Roster> Fabric<R> {
    /// Makes a change of a record durable; to be called while the record is locked. In a cluster
    /// [`Fabric::work`] is to follow when it is not locked any more.
    pub(crate) fn write(&self, owned: &Owned, commit: Commit, done: Done) {
        match &self.inner.replicas {
            None => self.env().store().commit(commit.batch, done),
            Some(replicas) => {
                let delta = Box::new(owned.delta());
                replicas.put(Input::Commit { delta, done });
            }
        }
    }
}

/// Writes the end of a record; as [`Fabric::write`].
pub(crate) fn write_end<R: Roster>(
    fabric: &Fabric<R>,
    entry: &Arc<Entry<R>>,
    ticket: Option<Ticket>,
    owned: &Owned,
    commit: Commit,
) {
    entry.under_way.fetch_add(1, Ordering::SeqCst);
    let entry = Arc::clone(entry);
    let done = move |result: Result<(), StoreFault>| match result {
        Ok(()) => {
            entry.set_safe(None);
            entry.written(ticket, Ok(()));
        }
        Err(fault) => {
            entry.under_way.fetch_sub(1, Ordering::SeqCst);
            entry.push_side(Side::EndFailed { ticket, fault });
        }
    };
    fabric.write(owned, commit, Box::new(done));
}

/// Goes back to the last part that was safe, after a commit failed: as a new version, since those
/// in between may have been seen, and later ones of other parts name them. False if there is none.
pub(crate) fn roll_back<R: Roster>(fabric: &Fabric<R>, entry: &Arc<Entry<R>>) -> bool {
    let Some(Safe { part, deadline }) = entry.safe() else {
        return false;
    };
    entry.under_way.fetch_add(1, Ordering::SeqCst);
    let records = &fabric.inner.records;
    let part = Part {
        bytes: &part,
        deadline,
        // The record says already what it was written for.
        schema: SchemaVersion::OLDEST,
    };
    let put = records.put(&entry.id, part, |owned, mut commit| {
        commit.batch.essential = true;
        let entry = Arc::clone(entry);
        let done = move |result| entry.written(None, result);
        fabric.write(owned, commit, Box::new(done));
    });
    fabric.work();
    let is_put = matches!(put, Some(Ok(())));
    if !is_put {
        entry.under_way.fetch_sub(1, Ordering::SeqCst);
    }
    is_put
}

/// A call is made once; whoever else comes back begins a record of a higher epoch.
fn may_begin_again(id: &ActorId) -> bool {
    id.record_owner() == *id && id.kind() != contract::Kind::Call
}
