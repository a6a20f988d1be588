//! The stored form of a call: who is in it and how far it is.
//!
//! | form | since | has besides |
//! |---|---|---|
//! | `SnapshotV1` | 1.0 | – |
//! | `Snapshot` | calls that another node had | that, and who does not know yet where we are |
//!
//! A call that no other node had is written in the first form, which every release reads.

use std::collections::VecDeque;

use contract::{Deadlines, Now, StoredDeadline};
use serde::{Deserialize, Serialize};

use super::core::{Call, Data, Timer};
use super::takeover::Moves;

/// The first stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotV1 {
    data: Data,
    timers: Vec<(Timer, StoredDeadline)>,
}

/// The stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    data: Data,
    timers: Vec<(Timer, StoredDeadline)>,
    is_inherited: bool,
    moves: Moves,
}

impl From<SnapshotV1> for Snapshot {
    fn from(first: SnapshotV1) -> Self {
        Snapshot {
            data: first.data,
            timers: first.timers,
            is_inherited: false,
            moves: Moves::new(),
        }
    }
}

impl Snapshot {
    /// Tells whether the caller has its 200.
    pub(crate) const fn is_talking(&self) -> bool {
        self.data.state.is_talking()
    }

    /// Tells whether nobody has answered yet.
    pub(crate) const fn is_unanswered(&self) -> bool {
        self.data.state.is_unanswered()
    }

    /// Returns the oldest form that holds all of it: the first, or this one.
    ///
    /// # Errors
    /// Not a fault: the call itself, if the first form cannot hold it.
    pub fn oldest(self) -> Result<SnapshotV1, Box<Self>> {
        if self.is_inherited {
            return Err(Box::new(self));
        }
        Ok(SnapshotV1 {
            data: self.data,
            timers: self.timers,
        })
    }
}

impl Call {
    pub(super) fn to_snapshot(&self, now: Now) -> Snapshot {
        Snapshot {
            data: self.data.clone(),
            timers: self.timers.to_stored(now),
            is_inherited: self.is_inherited,
            moves: self.moves.clone(),
        }
    }

    pub(super) fn of_snapshot(snapshot: Snapshot, now: Now) -> Self {
        let timers = Deadlines::from_stored(&snapshot.timers, now);
        Call {
            data: snapshot.data,
            is_inherited: snapshot.is_inherited,
            moves: snapshot.moves,
            timers,
            is_changed: false,
            out: Vec::new(),
            retells: VecDeque::new(),
        }
    }
}
