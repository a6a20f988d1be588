//! The stored form of a JSON dialog: all that is needed to go on after a kill -9.

use std::collections::VecDeque;

use contract::{Deadlines, Now, SideKey, StoredDeadline};
use serde::{Deserialize, Serialize};

use super::connection::Repeat;
use super::core::{Data, JsonDialog, Role, State, Timer};
use crate::bequest::Callee;
use crate::dialog::outbox::Outbox;

/// The stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub(super) data: Data,
    pub(super) timers: Vec<(Timer, StoredDeadline)>,
}

impl Snapshot {
    /// Returns what another copy of the call needs to know of a callee; `None` of a caller's dialog.
    pub(crate) fn callee(&self) -> Option<Callee> {
        let data = &self.data;
        let name = format!("{} {} {}", data.account, data.contact, data.name);
        (data.role == Role::Callee).then_some(Callee {
            name,
            has_ended: data.state == State::Ended,
            // One word ends it, whether it was answered or not.
            has_answered: false,
            takes_bye: true,
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
        }
    }
}
