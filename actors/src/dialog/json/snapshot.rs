//! The stored form of a JSON dialog: all that is needed to go on after a kill -9.

use std::collections::VecDeque;

use contract::{Deadlines, Now, StoredDeadline};
use serde::{Deserialize, Serialize};

use super::connection::Repeat;
use super::core::{Data, JsonDialog, Timer};
use crate::dialog::outbox::Outbox;

/// The stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub(super) data: Data,
    pub(super) timers: Vec<(Timer, StoredDeadline)>,
}

impl JsonDialog {
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
        }
    }
}
