//! The stored form of a media leg: all of it but what the media plane holds.
//!
//! | form | since | has besides |
//! |---|---|---|
//! | `SnapshotV1` | 1.0 | – |
//! | `Snapshot` | legs that another node had | what they keep of that |
//!
//! A leg that no other node had is written in the first form, which every release reads.

use contract::{Deadlines, Now, SideKey, StoredDeadline};
use serde::{Deserialize, Serialize};

use super::Destination;
use super::core::{Data, MediaLeg, Timer};
use super::restart::Moved;

/// The first stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotV1 {
    data: Data,
    timers: Vec<(Timer, StoredDeadline)>,
}

/// The stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub(super) data: Data,
    timers: Vec<(Timer, StoredDeadline)>,
    moved: Option<Moved>,
}

impl From<SnapshotV1> for Snapshot {
    fn from(first: SnapshotV1) -> Self {
        Snapshot {
            data: first.data,
            timers: first.timers,
            moved: None,
        }
    }
}

impl Snapshot {
    /// Returns the oldest form that holds all of it: the first, or this one.
    ///
    /// # Errors
    /// Not a fault: the leg itself, if the first form cannot hold it.
    pub fn oldest(self) -> Result<SnapshotV1, Box<Self>> {
        match self.moved {
            Some(_) => Err(Box::new(self)),
            None => Ok(SnapshotV1 {
                data: self.data,
                timers: self.timers,
            }),
        }
    }
}

impl MediaLeg {
    pub(super) fn to_snapshot(&self, now: Now) -> Snapshot {
        Snapshot {
            data: self.data.clone(),
            timers: self.timers.to_stored(now),
            moved: self.moved,
        }
    }

    /// Builds the core of a leg that goes on with one of another call; `TakeUp` does the rest.
    pub(crate) fn goes_on_as(snapshot: Snapshot, side: SideKey) -> Self {
        let data = Data {
            side,
            to: Destination::Nowhere,
            is_watched: false,
            ..snapshot.data
        };
        MediaLeg {
            data,
            timers: Deadlines::default(),
            moved: snapshot.moved,
            stays: false,
            cut_off_blocks: 0,
        }
    }

    pub(super) fn of_snapshot(snapshot: Snapshot, now: Now) -> Self {
        let timers = Deadlines::from_stored(&snapshot.timers, now);
        MediaLeg {
            data: snapshot.data,
            timers,
            moved: snapshot.moved,
            stays: false,
            cut_off_blocks: 0,
        }
    }
}
