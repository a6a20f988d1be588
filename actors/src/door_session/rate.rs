//! Messages a second of one client.
//!
//! In: the time of each message. Out: what is done with it. A bucket that holds a second's worth.

use std::time::Duration;

use contract::Time;
use contract::limits::JSON_MESSAGES_PER_S_MAX;

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is read.
    Take,
    /// It is answered 429.
    TooMany,
    /// The client does not stop: the connection is closed.
    Flood,
}

/// The count.
#[derive(Clone, Debug, Default)]
pub(super) struct Rate {
    since: Time,
    count: u32,
}

const WINDOW: Duration = Duration::from_secs(1);

impl Rate {
    /// Counts a message.
    pub(super) fn count(&mut self, now: Time) -> Verdict {
        if now.since(self.since) >= WINDOW {
            self.since = now;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        if self.count <= JSON_MESSAGES_PER_S_MAX {
            Verdict::Take
        } else if self.count <= 2 * JSON_MESSAGES_PER_S_MAX {
            Verdict::TooMany
        } else {
            Verdict::Flood
        }
    }
}
