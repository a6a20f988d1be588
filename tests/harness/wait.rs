//! Waiting for a state, never for a duration.

use std::time::{Duration, Instant};

/// How long a state that must come may take. A test that passes does not wait for it, so it is
/// meant for the slowest machine; only what a claim itself limits has a limit of its own.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `ready` again and again until it gives something.
///
/// # Panics
/// After `limit`, naming what was waited for.
pub fn until<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
