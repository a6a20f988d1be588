//! Committing: from a `Store` action to the record and the disk.
//!
//! In: the part of an actor as it is after an event. Out: a commit, and word of it to the actor's
//! shell. What cannot be recorded for our own fault counts as a failed commit: nobody is told
//! anything that is not safe.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cluster::RecordError;
use contract::action::Store;
use contract::core::Roster;
use contract::{ActorId, StoreFault};

use crate::entry::Side;
use crate::fabric::{Fabric, Origin};

/// Commits the part of the actor that an action comes from.
pub(crate) fn commit<R: Roster>(fabric: &Fabric<R>, origin: &Origin<'_>, store: Store) {
    let Some(entry) = fabric.find(origin.id) else {
        return;
    };
    let records = &fabric.inner.records;
    entry.under_way.fetch_add(1, Ordering::Relaxed);
    let (ticket, done_entry) = (origin.ticket, Arc::clone(&entry));
    let done = move |result: Result<(), StoreFault>| {
        done_entry.under_way.fetch_sub(1, Ordering::Relaxed);
        match (ticket, result) {
            (Some(ticket), result) => done_entry.push_side(Side::Committed { ticket, result }),
            (None, Ok(())) => done_entry.schedule(),
            (None, Err(error)) => tracing::warn!(actor = %done_entry.id, %error, "a commit failed"),
        }
    };
    let disk = fabric.env().store();
    let mut done = Some(done);
    let mut failed = None;
    match store {
        Store::Put { .. } => {
            let part = origin.part.map(|part| part.to_vec()).unwrap_or_default();
            for _ in 0..2 {
                let put = records.put(origin.id, part.clone(), origin.deadline, |commit| {
                    if let Some(done) = done.take() {
                        disk.commit(commit.batch, Box::new(done));
                    }
                });
                let is_owner = origin.id.record_owner() == *origin.id;
                match put {
                    Some(Ok(())) => return,
                    Some(Err(RecordError::Ended { .. })) if may_begin_again(origin.id) => {
                        records.begin_again(origin.id);
                    }
                    // A side of a call that has ended has nothing left to protect.
                    Some(Err(RecordError::Ended { .. })) | None if !is_owner => break,
                    Some(Err(error)) => failed = Some(error.to_string()),
                    None => failed = Some("it has no record".to_owned()),
                }
            }
        }
        Store::End { keep, .. } => {
            let until = fabric.now().utc.after(keep);
            let end =
                |owned: &mut cluster::Owned| (!owned.header().is_ended()).then(|| owned.end(until));
            records.commit_change(origin.id, end, |commit| {
                if let Some(done) = done.take() {
                    disk.commit(commit.batch, Box::new(done));
                }
            });
        }
    }
    let Some(done) = done else { return };
    match failed {
        None => done(Ok(())),
        Some(why) => {
            tracing::error!(actor = %origin.id, cause = %why, "a part cannot be recorded");
            done(Err(StoreFault::Poisoned { why }));
        }
    }
}

/// A call is made once; whoever else comes back begins a record of a higher epoch.
fn may_begin_again(id: &ActorId) -> bool {
    id.record_owner() == *id && id.kind() != contract::Kind::Call
}
