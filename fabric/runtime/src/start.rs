//! How actors come to run: from nothing, from their record, and all at once when the node starts.
//!
//! In: IDs. Out: shells. The record is read by the shell itself (`shell.rs`); here it is decided
//! under whom it runs.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contract::core::{Roster, Undelivered};
use contract::{ActorId, Kind, NodeNews, SchemaVersion};
use ractor::ActorRef;

use crate::entry::{Entry, Letter};
use crate::fabric::{Fabric, Parts, StartError};
use crate::leave::Fate;
use crate::shell::{Given, Shell, Wake};
use crate::supervisor::Supervisor;

/// Time over which deadlines that passed while the node was down are spread (`cluster.md` §8).
const OVERDUE_SPREAD_MS: u64 = 5_000;

impl<R: Roster> Fabric<R> {
    /// Starts the supervisors, adopts the calls that a former life of this node owned, and
    /// rebuilds the index of deadlines. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// If a supervisor does not start, or the records cannot be read.
    ///
    /// # Panics
    /// If a holder of the fabric's locks panicked.
    pub async fn start(parts: Parts<R>) -> Result<Fabric<R>, StartError> {
        let fabric = Fabric::new(parts);
        let failed = |name: &str, why: &dyn std::fmt::Display| StartError::Supervisor {
            name: name.to_owned(),
            why: why.to_string(),
        };
        let root = Supervisor::root(&fabric)
            .await
            .map_err(|error| failed("root", &error))?;
        fabric.name(&root, "root".to_owned());
        for kind in Kind::ALL {
            let name = format!("{} supervisor", kind.word());
            let supervisor = Supervisor::of_kind(&fabric, &root)
                .await
                .map_err(|error| failed(&name, &error))?;
            fabric.name(&supervisor, name);
            let mut supervisors = fabric.inner.supervisors.lock().expect("no holder panics");
            supervisors.insert(kind, supervisor);
        }
        *fabric
            .inner
            .root
            .lock()
            .expect("no holder of the root panics") = Some(root);
        let store = fabric.env().store();
        let is_alone = fabric.inner.replicas.is_none();
        let (now, me) = (fabric.now(), fabric.me());
        let events = &fabric.inner.events;
        let loaded = events.load(store.as_ref(), now, me, is_alone);
        if let Err(fault) = loaded {
            tracing::warn!(%fault, "the event log of former lives cannot be read");
        }
        fabric.publish_own(NodeNews::Up);
        fabric.adopt()?;
        let driver = fabric.clone();
        fabric.env().spawn("deadlines", Box::pin(driver.drive()));
        let driver = fabric.clone();
        fabric
            .env()
            .spawn("events", Box::pin(driver.drive_events()));
        Ok(fabric)
    }

    /// Remembers whose ractor actor this is, for the tree.
    pub(crate) fn name(&self, cell: &ActorRef<Wake>, name: String) {
        let mut names = self
            .inner
            .names
            .lock()
            .expect("no holder of the names panics");
        names.insert(cell.get_id().pid(), name);
    }

    pub(crate) fn unname(&self, pid: u64) -> Option<String> {
        self.inner
            .names
            .lock()
            .expect("no holder of the names panics")
            .remove(&pid)
    }

    /// Takes up the records of this node; not yet if its store has lost some and others have them.
    fn adopt(&self) -> Result<(), StartError> {
        if let Some(replicas) = &self.inner.replicas
            && self.env().store().is_quarantined()
        {
            replicas.set_quarantined();
            return Ok(());
        }
        self.adopt_all()
    }

    /// Takes up the records of this node.
    pub(crate) fn adopt_all(&self) -> Result<(), StartError> {
        let now = self.now();
        let (mut calls, mut expired, mut overdue) = (Vec::new(), Vec::new(), Vec::new());
        let index = &self.inner.index;
        // In a cluster this node holds records of others, too.
        let me = self.me().node;
        let store = self.env().store();
        let ids = self.inner.records.ids();
        let mut newest = SchemaVersion::OLDEST;
        let scanned = cluster::scan_placed(store.as_ref(), ids, &mut |header| {
            newest = newest.max(header.schema);
            if header.is_ended() {
                if header.expires <= now.utc {
                    expired.push(header.clone());
                } else {
                    index.set_passive(&header.id, header.expires);
                }
            } else if header.owner.node != me {
                // Its owner goes on with it, or its heir.
            } else if header.id.kind() == Kind::Call {
                calls.push(header.id.clone());
            } else if let Some(deadline) = header.deadline() {
                if deadline <= now.utc {
                    overdue.push(header.id.clone());
                } else {
                    index.set_passive(&header.id, deadline);
                }
            }
            ControlFlow::Continue(())
        })
        .map_err(StartError::Records)?;
        self.has_record_of(newest);
        match (scanned.misplaced, scanned.visited) {
            (0, _) => {}
            (count, 0) => return Err(StartError::OtherSecret { count }),
            (count, _) => tracing::error!(count, "records that no secret of ours finds"),
        }
        let count = overdue.len().max(1);
        for (at, id) in overdue.iter().enumerate() {
            let share = u64::try_from(at).unwrap_or(0) * OVERDUE_SPREAD_MS;
            let share = share / u64::try_from(count).unwrap_or(1);
            index.set_passive(id, now.utc.after(Duration::from_millis(share)));
        }
        // In a cluster the sweep forgets them, past no desk.
        let is_alone = self.inner.replicas.is_none();
        for header in expired.into_iter().filter(|_| is_alone) {
            self.commit_lazily(cluster::forget(&header, self.inner.records.ids()));
        }
        for call in calls {
            self.awaken(&call, &mut None);
        }
        Ok(())
    }

    /// Starts the core of a connection, a lane or the console; false if it runs already.
    pub fn start_system(&self, id: ActorId) -> bool {
        let entry = Entry::new(id, None);
        if self.is_revoked() || self.is_full() || self.enlist(&entry).is_err() {
            return false;
        }
        self.launch(&entry, None);
        true
    }

    /// Makes the entry of an actor that is not live; `None` if there can be none. The first event is
    /// taken into the inbox before anybody can look at it: the shell makes the core by it.
    pub(crate) fn awaken(
        &self,
        id: &ActorId,
        first: &mut Option<Letter<R>>,
    ) -> Option<Arc<Entry<R>>> {
        if !id.kind().is_recorded() || self.is_shut_to(id) {
            return None;
        }
        let owner = id.record_owner();
        if owner == *id {
            let entry = Entry::new(id.clone(), None);
            return match self.enlist_with(&entry, first) {
                Ok(()) => {
                    self.launch(&entry, None);
                    Some(entry)
                }
                Err(known) => Some(known),
            };
        }
        // A side of a call: the call starts its sides; a message may be there before.
        let has_begun = |fabric: &Self| {
            let call = fabric.find(&owner);
            call.is_some_and(|call| call.has_children.load(Ordering::SeqCst))
        };
        if has_begun(self) {
            return None;
        }
        let entry = Entry::new(id.clone(), Some(owner.clone()));
        let entry = match self.enlist_with(&entry, first) {
            Ok(()) => entry,
            Err(known) => known,
        };
        self.find(&owner)
            .or_else(|| self.awaken(&owner, &mut None))?;
        if has_begun(self) {
            // The call looked for those that wait, maybe before this one was there.
            self.release_sides(&owner, Fate::Returns(Undelivered::Absent));
        }
        Some(entry)
    }

    /// Enlists a new entry with its first event; gives the event back if somebody was faster.
    fn enlist_with(
        &self,
        entry: &Arc<Entry<R>>,
        first: &mut Option<Letter<R>>,
    ) -> Result<(), Arc<Entry<R>>> {
        if let Some(letter) = first.take()
            && let Err((letter, _)) = entry.push(letter)
        {
            *first = Some(letter);
        }
        self.enlist(entry).inspect_err(|_| {
            *first = entry.close().events.pop_front();
        })
    }

    /// Gives an entry its shell, under its parent's or its kind's supervisor.
    pub(crate) fn launch(&self, entry: &Arc<Entry<R>>, given: Option<Given>) {
        let _runtime = self.enter();
        let parent = entry.parent.as_ref().and_then(|parent| self.find(parent));
        let supervisor = match parent.and_then(|parent| parent.cell()) {
            Some(cell) => cell,
            None => {
                let supervisors = self.inner.supervisors.lock().expect("no holder panics");
                let Some(cell) = supervisors.get(&entry.id.kind()) else {
                    return;
                };
                cell.clone()
            }
        };
        let arguments = (self.clone(), Arc::clone(entry), given);
        let spawned = ractor::ActorRuntime::<Shell<R>>::spawn_linked_instant(
            None,
            Shell::new(),
            arguments,
            supervisor.get_cell(),
        );
        match spawned {
            Ok((cell, _)) => {
                entry.set_cell(cell.clone());
                // It may have to begin without an event: a call of a former life.
                let _ = cell.cast(Wake::Run);
            }
            Err(error) => {
                tracing::error!(actor = %entry.id, %error, "an actor could not be started");
                self.abandon(entry);
            }
        }
    }
}
