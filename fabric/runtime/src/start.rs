//! How actors come to run: from nothing, from their record, and all at once when the node starts.
//!
//! In: IDs. Out: shells. The record is read by the shell itself (`shell.rs`); here it is decided
//! under whom it runs.

use std::ops::ControlFlow;
use std::sync::Arc;

use contract::core::Roster;
use contract::{ActorId, Kind};
use ractor::ActorRef;

use crate::entry::Entry;
use crate::fabric::{Fabric, Parts, StartError};
use crate::shell::{Given, Shell, Wake};
use crate::supervisor::Supervisor;

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
        fabric.adopt_all()?;
        let driver = fabric.clone();
        fabric.env().spawn("deadlines", Box::pin(driver.drive()));
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

    fn adopt_all(&self) -> Result<(), StartError> {
        let now = self.now();
        let (mut calls, mut expired) = (Vec::new(), Vec::new());
        let index = &self.inner.index;
        cluster::scan(self.env().store().as_ref(), &mut |header| {
            if header.is_ended() {
                if header.expires <= now.utc {
                    expired.push(header.clone());
                } else {
                    index.set_passive(&header.id, header.expires);
                }
            } else if header.id.kind() == Kind::Call {
                calls.push(header.id.clone());
            } else if let Some(deadline) = header.deadline() {
                index.set_passive(&header.id, deadline);
            }
            ControlFlow::Continue(())
        })
        .map_err(StartError::Records)?;
        for header in expired {
            self.commit_lazily(cluster::forget(&header, self.inner.records.ids()));
        }
        for call in calls {
            self.awaken(&call);
        }
        Ok(())
    }

    /// Starts the core of a connection, a lane or the console; false if it runs already.
    pub fn start_system(&self, id: ActorId) -> bool {
        let entry = Entry::new(id, None);
        if self.is_full() || self.enlist(&entry).is_err() {
            return false;
        }
        self.launch(&entry, None);
        true
    }

    /// Makes the entry of an actor that is not live; `None` if there can be none.
    pub(crate) fn awaken(&self, id: &ActorId) -> Option<Arc<Entry<R>>> {
        if !id.kind().is_recorded() {
            return None;
        }
        let owner = id.record_owner();
        if owner == *id {
            let entry = Entry::new(id.clone(), None);
            return match self.enlist(&entry) {
                Ok(()) => {
                    self.launch(&entry, None);
                    Some(entry)
                }
                Err(known) => Some(known),
            };
        }
        // A side of a call: the call starts its sides; a message may be there before.
        let call = self.find(&owner);
        if call.is_some_and(|call| call.has_children.load(std::sync::atomic::Ordering::SeqCst)) {
            return None;
        }
        let entry = Entry::new(id.clone(), Some(owner.clone()));
        let entry = match self.enlist(&entry) {
            Ok(()) => entry,
            Err(known) => known,
        };
        self.find(&owner).or_else(|| self.awaken(&owner))?;
        Some(entry)
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
                self.name(&cell, entry.id.to_string());
                entry.set_cell(cell.clone());
                // It may have to begin without an event: a call of a former life.
                let _ = cell.cast(Wake::Run);
            }
            Err(error) => {
                tracing::error!(actor = %entry.id, %error, "an actor could not be started");
                entry.close();
                self.delist(entry);
            }
        }
    }
}
