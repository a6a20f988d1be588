//! How often an actor may be restarted: a pure rule that its supervisor applies.
//!
//! In: the time of a panic, and whether the same event had killed before. Out: a verdict.
//!
//! | panics | verdict |
//! |---|---|
//! | the event has killed twice | `Quarantine`: set it aside, restart |
//! | up to `RESTARTS_MAX` in `RESTART_WINDOW_S` | `Restart` |
//! | more | `RestartAfter`, doubling to `RESTART_BACKOFF_MS_MAX` |
//! | `RESTARTS_GIVE_UP` in ten windows | `GiveUp`: end it and tell its parent |

use std::collections::VecDeque;
use std::time::Duration;

use contract::Time;
use contract::limits::{RESTART_BACKOFF_MS_MAX, RESTART_WINDOW_S, RESTARTS_GIVE_UP, RESTARTS_MAX};

/// First back-off.
const BACKOFF_MS_FIRST: u64 = 50;

/// What a supervisor says after a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Restart from the last stored part and try the event once more.
    Restart,
    /// The same, after a while.
    RestartAfter(Duration),
    /// Restart from the last stored part without the event.
    Quarantine,
    /// End the actor and tell its parent.
    GiveUp,
}

/// The panics of one actor.
#[derive(Clone, Debug, Default)]
pub struct Intensity {
    panics: VecDeque<Time>,
}

impl Intensity {
    /// Judges a panic at `now`; `is_second`: the same event has killed this actor before.
    ///
    /// Bound: `RESTARTS_GIVE_UP` times are kept.
    pub fn judge(&mut self, now: Time, is_second: bool) -> Verdict {
        let window = Duration::from_secs(RESTART_WINDOW_S);
        self.panics.retain(|at| now.since(*at) < window * 10);
        self.panics.push_back(now);
        if self.panics.len() >= RESTARTS_GIVE_UP {
            return Verdict::GiveUp;
        }
        if is_second {
            return Verdict::Quarantine;
        }
        let recent = self
            .panics
            .iter()
            .filter(|at| now.since(**at) < window)
            .count();
        let Some(over) = recent.checked_sub(RESTARTS_MAX + 1) else {
            return Verdict::Restart;
        };
        let doublings = u32::try_from(over).unwrap_or(u32::MAX).min(16);
        let wait = BACKOFF_MS_FIRST << doublings;
        Verdict::RestartAfter(Duration::from_millis(wait.min(RESTART_BACKOFF_MS_MAX)))
    }
}
