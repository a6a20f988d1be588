//! The stored form of a JSON dialog: all that is needed to go on after a kill -9.
//!
//! | form | since | has besides |
//! |---|---|---|
//! | `SnapshotV1` | 1.0 | – |
//! | `Snapshot` | schema 3 | where it goes on, whence it comes |
//!
//! A dialog that goes nowhere is written in the first form, which every release reads.

use std::collections::VecDeque;

use contract::{Deadlines, Now, SideKey, StoredDeadline};
use serde::{Deserialize, Serialize};

use super::connection::Repeat;
use super::core::{Data, JsonDialog, Role, State, Timer};
use crate::bequest::Callee;
use crate::dialog::joining::{Onward, Origin};
use crate::dialog::outbox::Outbox;

/// The first stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotV1 {
    pub(super) data: Data,
    pub(super) timers: Vec<(Timer, StoredDeadline)>,
}

/// The stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub(super) data: Data,
    pub(super) timers: Vec<(Timer, StoredDeadline)>,
    onward: Option<Onward>,
    origin: Option<Origin>,
}

impl From<SnapshotV1> for Snapshot {
    fn from(first: SnapshotV1) -> Self {
        Snapshot {
            data: first.data,
            timers: first.timers,
            onward: None,
            origin: None,
        }
    }
}

impl Snapshot {
    /// Returns what another copy of the call needs to know of a callee; `None` of a caller's dialog.
    pub(crate) fn callee(&self) -> Option<Callee> {
        let data = &self.data;
        let name = format!("{} {} {}", data.account, data.contact, data.name);
        (data.role == Role::Callee).then_some(Callee {
            name,
            has_ended: data.state == State::Ended || self.onward.is_some(),
            // One word ends it, whether it was answered or not.
            has_answered: false,
            takes_bye: true,
        })
    }

    /// Returns the oldest form that holds all of it: the first, or this one.
    ///
    /// # Errors
    /// Not a fault: the dialog itself, if the first form cannot hold it.
    pub fn oldest(self) -> Result<SnapshotV1, Box<Self>> {
        if self.onward.is_some() || self.origin.is_some() {
            return Err(Box::new(self));
        }
        Ok(SnapshotV1 {
            data: self.data,
            timers: self.timers,
        })
    }
}

impl JsonDialog {
    /// Builds the core of a side that goes on with a dialog of another copy of its call, to end it.
    pub(crate) fn inherit(snapshot: Snapshot, side: SideKey) -> Self {
        Self::new(Data {
            side,
            ..snapshot.data
        })
    }

    pub(super) fn to_snapshot(&self, now: Now) -> Snapshot {
        Snapshot {
            data: self.data.clone(),
            timers: self.timers.to_stored(now),
            onward: self.onward,
            origin: self.origin,
        }
    }

    pub(super) fn of_snapshot(snapshot: Snapshot, now: Now) -> Self {
        JsonDialog {
            data: snapshot.data,
            timers: Deadlines::from_stored(&snapshot.timers, now),
            out: Outbox::default(),
            retells: VecDeque::new(),
            repeat: Repeat::default(),
            transfer: None,
            onward: snapshot.onward,
            origin: snapshot.origin,
        }
    }
}
