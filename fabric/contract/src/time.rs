//! Time as cores see it: handed in, never read.
//!
//! In: the clock readings that the shell passes with each event. Out: deadlines by name.
//! It reads no clock itself; `nodes/src/env_os.rs` and the simulator's world do.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on the node's monotonic clock, in microseconds since the node started.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(u64);

impl Time {
    /// The start of the clock.
    pub const ZERO: Time = Time(0);

    /// Makes a time from microseconds since the clock's start.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Time(micros)
    }

    /// Returns the microseconds since the clock's start.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns how long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, length: Duration) -> Time {
        let micros = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(micros))
    }
}

impl Sub<Time> for Time {
    type Output = Duration;

    fn sub(self, earlier: Time) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z.
///
/// For what people, certificates and other processes read, and for deadlines at rest on disk.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct UtcMillis(pub u64);

impl UtcMillis {
    /// Returns this point plus `length`, saturating.
    #[must_use]
    pub fn after(self, length: Duration) -> UtcMillis {
        let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        UtcMillis(self.0.saturating_add(millis))
    }
}

/// Both clocks, read once for one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time: the only clock deadlines are set on.
    pub mono: Time,
    /// Wall-clock time: for snapshots and for what people read.
    pub utc: UtcMillis,
}

impl Now {
    /// Returns the stored form of `deadline`, which was set to last `length` from its start.
    #[must_use]
    pub fn store_deadline(&self, deadline: Time, length: Duration) -> StoredDeadline {
        let at = self.utc.after(deadline.since(self.mono));
        StoredDeadline {
            at,
            length_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Returns when a stored deadline is due on this node's clock.
    ///
    /// What remains is clamped to 0..=length, so a wall clock that jumped can neither fire a
    /// deadline in the past nor stretch it (`cluster.md` §8).
    #[must_use]
    pub fn restore_deadline(&self, stored: StoredDeadline) -> Time {
        let remaining = stored.at.0.saturating_sub(self.utc.0).min(stored.length_ms);
        self.mono + Duration::from_millis(remaining)
    }
}

/// A deadline at rest: wall-clock due time and the length it was set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDeadline {
    /// When it is due.
    pub at: UtcMillis,
    /// Length it was set for, in milliseconds: the most that may remain after a restart.
    pub length_ms: u64,
}

/// The named deadlines of one core.
///
/// Setting a name again replaces it. Bound: one entry a name, so the number of names.
#[derive(Clone, Debug)]
pub struct Deadlines<K: Ord + Copy> {
    by_name: BTreeMap<K, (Time, Duration)>,
}

impl<K: Ord + Copy> Default for Deadlines<K> {
    fn default() -> Self {
        Deadlines {
            by_name: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Copy> Deadlines<K> {
    /// Sets `name` to be due `length` after `now`, replacing what it was set to.
    pub fn set(&mut self, name: K, now: Time, length: Duration) {
        self.by_name.insert(name, (now + length, length));
    }

    /// Sets `name` to a restored point in time with the length it originally had.
    pub fn set_at(&mut self, name: K, at: Time, length: Duration) {
        self.by_name.insert(name, (at, length));
    }

    /// Removes `name`; tells whether it was set.
    pub fn clear(&mut self, name: K) -> bool {
        self.by_name.remove(&name).is_some()
    }

    /// Removes every deadline.
    pub fn clear_all(&mut self) {
        self.by_name.clear();
    }

    /// Returns when `name` is due.
    #[must_use]
    pub fn due(&self, name: K) -> Option<Time> {
        self.by_name.get(&name).map(|(at, _)| *at)
    }

    /// Returns the earliest deadline; equal times in the order of their names.
    #[must_use]
    pub fn next(&self) -> Option<(Time, K)> {
        self.by_name
            .iter()
            .map(|(name, (at, _))| (*at, *name))
            .min()
    }

    /// Returns the stored form of every deadline, in the order of the names.
    #[must_use]
    pub fn to_stored(&self, now: Now) -> Vec<(K, StoredDeadline)> {
        self.by_name
            .iter()
            .map(|(name, (at, length))| (*name, now.store_deadline(*at, *length)))
            .collect()
    }

    /// Restores deadlines from their stored form.
    #[must_use]
    pub fn from_stored(stored: &[(K, StoredDeadline)], now: Now) -> Self {
        let mut deadlines = Self::default();
        for (name, at) in stored {
            let length = Duration::from_millis(at.length_ms);
            deadlines.set_at(*name, now.restore_deadline(*at), length);
        }
        deadlines
    }
}
