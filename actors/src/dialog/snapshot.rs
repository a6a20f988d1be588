//! The stored form of a dialog: all that is needed to answer after a kill -9.

use std::collections::VecDeque;

use contract::{Deadlines, Now, StoredDeadline};
use serde::{Deserialize, Serialize};

use super::core::{Data, Dialog, Timer};
use super::outbox::Outbox;

/// The stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub(super) data: Data,
    pub(super) timers: Vec<(Timer, StoredDeadline)>,
}

impl Dialog {
    pub(super) fn to_snapshot(&self, now: Now) -> Snapshot {
        Snapshot {
            data: self.data.clone(),
            timers: self.timers.to_stored(now),
        }
    }

    pub(super) fn of_snapshot(snapshot: Snapshot, now: Now) -> Self {
        let timers = Deadlines::from_stored(&snapshot.timers, now);
        let mut data = snapshot.data;
        if let Some(dialog) = &mut data.dialog {
            // What was used of the block is not known: it is passed over.
            dialog.skip_reserve();
        }
        Dialog {
            data,
            timers,
            out: Outbox::default(),
            retells: VecDeque::new(),
        }
    }
}
