//! Opening sled: its configuration, and what to do with a database it cannot open.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{NUMBER_KEY, Shared, StoreError, value};

/// Octets of sled's page cache: the records of some 20,000 calls; the rest is read from disk.
const CACHE_BYTES: u64 = 64 << 20;
/// Octets of one sled segment. A page goes to a file of its own, unsynced, above a quarter of it;
/// a page has at most 17 values, so at most 1.2 MiB.
const SEGMENT_BYTES: usize = 8 << 20;
/// Opens sled's log once more, for `fdatasync`.
pub(super) fn open_log(path: &Path) -> Result<File, StoreError> {
    let opened = File::options().read(true).write(true).open(path);
    opened.map_err(StoreError::io("opening", path))
}

/// Opens sled; a database that sled takes for corrupt is put aside, and an empty one opened: the
/// watermark then tells that entries are missing.
pub(super) fn open_database(path: &Path) -> Result<sled::Db, StoreError> {
    wait_for_log(&path.join("db"))?;
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .mode(sled::Mode::LowSpace)
        .flush_every_ms(None);
    let failed = |why: String| StoreError::Database {
        path: path.to_owned(),
        why,
    };
    let damage = match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(Ok(database)) => return Ok(database),
        Ok(Err(sled::Error::Corruption { .. })) => "corrupt",
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => "sled panicked",
    };
    let aside = path.with_extension("damaged");
    tracing::error!(path = %path.display(), damage, "database put aside");
    if aside.exists() {
        std::fs::remove_dir_all(&aside).map_err(StoreError::io("removing", &aside))?;
    }
    std::fs::rename(path, &aside).map_err(StoreError::io("putting aside", path))?;
    config.open().map_err(|error| failed(error.to_string()))
}

/// Returns the number of the last batch sled has; 0 if there is none or it is damaged.
pub(super) fn last_number(database: &sled::Db, shared: &Shared) -> u64 {
    let found = catch_unwind(AssertUnwindSafe(|| database.get(NUMBER_KEY)));
    let Ok(Ok(found)) = found else {
        shared.rotten(NUMBER_KEY, "unreadable");
        return 0;
    };
    let Some(found) = found else {
        return 0;
    };
    let payload = value::open(NUMBER_KEY, &found).ok();
    let octets = payload.and_then(|payload| payload.try_into().ok());
    octets.map_or(0, u64::from_le_bytes)
}

/// Waits until nobody has sled's log any more. The data folder is locked, so only a store that
/// this process has just closed can have it: sled's workers hold it a moment longer.
///
/// Bound: 5 s; then sled itself says that it is locked.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing tells when a lock of a thread of sled goes"
)]
fn wait_for_log(path: &Path) -> Result<(), StoreError> {
    let found = File::options().write(true).open(path);
    let Ok(mut file) = found else {
        return Ok(());
    };
    for _ in 0..1_000 {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(_) => return Ok(()),
            Err((again, Errno::EWOULDBLOCK)) => file = again,
            Err((_, errno)) => return Err(StoreError::io("locking", path)(errno.into())),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
