//! The stored form of a call: who is in it and how far it is.

use std::collections::VecDeque;

use contract::{Deadlines, Now, StoredDeadline};
use serde::{Deserialize, Serialize};

use super::core::{Call, Data, Timer};

/// The stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub(super) data: Data,
    pub(super) timers: Vec<(Timer, StoredDeadline)>,
}

impl Call {
    pub(super) fn to_snapshot(&self, now: Now) -> Snapshot {
        Snapshot {
            data: self.data.clone(),
            timers: self.timers.to_stored(now),
        }
    }

    pub(super) fn of_snapshot(snapshot: Snapshot, now: Now) -> Self {
        let timers = Deadlines::from_stored(&snapshot.timers, now);
        Call {
            data: snapshot.data,
            timers,
            is_changed: false,
            out: Vec::new(),
            retells: VecDeque::new(),
        }
    }
}
