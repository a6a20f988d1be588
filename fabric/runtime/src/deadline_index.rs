//! The node's one index of deadlines: of live actors on the monotonic clock, of passive ones as
//! their records say, on the wall clock.
//!
//! In: who is due when. Out: who is due now, and when to look again. Live actors hold their own
//! entry's time, so that an entry is replaced without a search; passive ones are found by the time
//! in their record's header.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use contract::{ActorId, Now, Time, UtcMillis};
use tokio::sync::Notify;

/// Passive actors woken in one go, and how long the next ones wait: a node that comes back after
/// hours has more of them due than it has memory to run at once.
const WAKES_PER_TURN: usize = 256;
const WAKES_EVERY: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Inside {
    live: BTreeSet<(Time, ActorId)>,
    passive: BTreeSet<(UtcMillis, ActorId)>,
    no_wake_before: Time,
}

/// The index.
#[derive(Default)]
pub(crate) struct DeadlineIndex {
    inside: Mutex<Inside>,
    /// Wakes the driver when an earlier deadline than it waits for was set.
    pub(crate) changed: Notify,
}

/// Who is due.
#[derive(Default)]
pub(crate) struct Due {
    pub(crate) live: Vec<ActorId>,
    pub(crate) passive: Vec<ActorId>,
}

impl DeadlineIndex {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().expect("no holder of the index panics")
    }

    /// Replaces a live actor's deadline; `former` is what it was set to.
    pub(crate) fn set_live(&self, id: &ActorId, former: Option<Time>, next: Option<Time>) {
        let is_first = {
            let mut inside = self.inside();
            if let Some(former) = former {
                inside.live.remove(&(former, id.clone()));
            }
            let first = inside.live.first().map(|(at, _)| *at);
            if let Some(next) = next {
                inside.live.insert((next, id.clone()));
            }
            next.is_some_and(|next| first.is_none_or(|first| next < first))
        };
        if is_first {
            self.changed.notify_one();
        }
    }

    pub(crate) fn set_passive(&self, id: &ActorId, at: UtcMillis) {
        self.inside().passive.insert((at, id.clone()));
        self.changed.notify_one();
    }

    pub(crate) fn clear_passive(&self, id: &ActorId, at: UtcMillis) {
        self.inside().passive.remove(&(at, id.clone()));
    }

    /// Returns when the next one is due, on the monotonic clock.
    pub(crate) fn next(&self, now: Now) -> Option<Time> {
        let inside = self.inside();
        let live = inside.live.first().map(|(at, _)| *at);
        let passive = inside.passive.first().map(|(at, _)| {
            let due = now.mono + Duration::from_millis(at.0.saturating_sub(now.utc.0));
            due.max(inside.no_wake_before)
        });
        live.into_iter().chain(passive).min()
    }

    /// Takes who is due.
    pub(crate) fn take_due(&self, now: Now) -> Due {
        let mut due = Due::default();
        let mut inside = self.inside();
        while let Some((at, id)) = inside.live.pop_first() {
            if at > now.mono {
                inside.live.insert((at, id));
                break;
            }
            due.live.push(id);
        }
        if now.mono < inside.no_wake_before {
            return due;
        }
        while due.passive.len() < WAKES_PER_TURN {
            match inside.passive.first() {
                Some((at, _)) if *at <= now.utc => {}
                Some(_) | None => return due,
            }
            due.passive
                .extend(inside.passive.pop_first().map(|(_, id)| id));
        }
        inside.no_wake_before = now.mono + WAKES_EVERY;
        due
    }
}
