//! Whether this node has more to do than it gets done (`cluster.md` §11).
//!
//! In: how late its own timer was, every `LOOK`, and how many events wait in the lanes. Out: whether
//! new calls and registrations are shed. It refuses nothing itself: cores see it in their health.
//!
//! | state | event | next |
//! |---|---|---|
//! | well | half of the last looks came `OVERLOAD_LAG_MS` late, or `OVERLOAD_EVENTS` wait | overloaded |
//! | overloaded | half of them came less than half as late, and half as many wait | well |
//!
//! Deviation: `cluster.md` §11 says the 99th percentile; half of the looks of two seconds, since a
//! machine that others use too is late once in a while without being short of anything. Test:
//! `a_pause_is_no_overload`.

use std::collections::VecDeque;
use std::time::Duration;

use contract::limits::{OVERLOAD_EVENTS, OVERLOAD_LAG_MS};

/// Time between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(100);
/// Looks that count: two seconds.
const LOOKS: usize = 20;

/// The measure.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    late: VecDeque<Duration>,
    is_over: bool,
}

impl Overload {
    /// Takes one look; tells whether new work is shed.
    pub(crate) fn take(&mut self, late: Duration, waiting: usize) -> bool {
        if self.late.len() == LOOKS {
            self.late.pop_front();
        }
        self.late.push_back(late);
        let most = Duration::from_millis(OVERLOAD_LAG_MS);
        let (lag_max, waiting_max) = if self.is_over {
            (most / 2, OVERLOAD_EVENTS / 2)
        } else {
            (most, OVERLOAD_EVENTS)
        };
        let is_late = self.late.iter().filter(|late| **late > lag_max).count() > LOOKS / 2;
        self.is_over = is_late || waiting > waiting_max;
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Duration = Duration::from_millis(2);
    const LATE: Duration = Duration::from_millis(OVERLOAD_LAG_MS + 1);

    fn taken(overload: &mut Overload, looks: usize, late: Duration, waiting: usize) -> bool {
        (0..looks).fold(false, |_, _| overload.take(late, waiting))
    }

    #[test]
    fn a_pause_is_no_overload() {
        let mut overload = Overload::default();
        assert!(!taken(&mut overload, LOOKS, WELL, 0));
        assert!(!overload.take(Duration::from_secs(30), 0));
        assert!(!taken(&mut overload, LOOKS / 2 - 1, LATE, OVERLOAD_EVENTS));
    }

    #[test]
    fn lateness_that_lasts_is_and_ends_with_it() {
        let mut overload = Overload::default();
        assert!(taken(&mut overload, LOOKS / 2 + 1, LATE, 0));
        // Less late is not well yet.
        let less = Duration::from_millis(OVERLOAD_LAG_MS / 2 + 1);
        assert!(taken(&mut overload, LOOKS, less, 0));
        assert!(!taken(&mut overload, LOOKS, WELL, 0));
    }

    #[test]
    fn full_inboxes_are_at_once_until_they_are_half_empty() {
        let mut overload = Overload::default();
        assert!(overload.take(WELL, OVERLOAD_EVENTS + 1));
        assert!(overload.take(WELL, OVERLOAD_EVENTS / 2 + 1));
        assert!(!overload.take(WELL, OVERLOAD_EVENTS / 2));
        assert!(!overload.take(WELL, OVERLOAD_EVENTS));
    }
}
