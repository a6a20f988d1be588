//! The stored form of a media leg: all of it but what the media plane holds.

use contract::{Deadlines, Now, StoredDeadline};
use serde::{Deserialize, Serialize};

use super::core::{Data, MediaLeg, Timer};

/// The stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub(super) data: Data,
    pub(super) timers: Vec<(Timer, StoredDeadline)>,
}

impl MediaLeg {
    pub(super) fn to_snapshot(&self, now: Now) -> Snapshot {
        Snapshot {
            data: self.data.clone(),
            timers: self.timers.to_stored(now),
        }
    }

    pub(super) fn of_snapshot(snapshot: Snapshot, now: Now) -> Self {
        let timers = Deadlines::from_stored(&snapshot.timers, now);
        MediaLeg {
            data: snapshot.data,
            timers,
        }
    }
}
