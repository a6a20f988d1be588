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
    until_or(what, limit, || ready().ok_or(()), |()| String::new())
}

/// Asks `ready` again and again until it succeeds; `explain` is given its last failure.
///
/// # Panics
/// After `limit`, naming what was waited for, with the explanation.
pub fn until_or<T, E>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<T, E>,
    explain: impl FnOnce(E) -> String,
) -> T {
    let start = Instant::now();
    loop {
        let last = match ready() {
            Ok(value) => return value,
            Err(last) => last,
        };
        if start.elapsed() >= limit {
            panic!("waited {limit:?} for {what}\n{}", explain(last));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
