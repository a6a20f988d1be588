//! Opening sled: its configuration, and what to do with a database it cannot open.

use std::fs::File;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::Boot;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{NUMBER_KEY, Shared, StoreError, salvage, value};

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

/// A database of which every page can be read.
pub(super) struct Sound {
    pub(super) database: sled::Db,
    /// Where the one is that could not be used.
    pub(super) aside: Option<PathBuf>,
}

/// Opens sled and reads all there is: a value that is not what was written is noted as rotten.
///
/// A database that sled cannot open, or a page of which it cannot read, is put aside; what can still
/// be read of it is in the new one. In: `boot`, a number that no former start had.
pub(super) fn open_sound(path: &Path, boot: Boot, shared: &Shared) -> Result<Sound, StoreError> {
    let damage = match open(path)? {
        Ok(database) => match salvage::check(&database, shared) {
            Ok(()) => {
                return Ok(Sound {
                    database,
                    aside: None,
                });
            }
            Err(why) => {
                let fresh = path.with_extension("new");
                salvage::copy(database, &fresh)?;
                why
            }
        },
        Err(why) => why,
    };
    let aside = path.with_extension(format!("damaged-{}", boot.0));
    tracing::error!(path = %path.display(), aside = %aside.display(), damage, "database put aside");
    put_aside(path, &aside)?;
    let database = open(path)?.map_err(|why| refused(path, why))?;
    Ok(Sound {
        database,
        aside: Some(aside),
    })
}

/// Puts the database aside, and the rescued one in its place. Only the last one is kept: they are
/// large.
fn put_aside(path: &Path, aside: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(path);
    let entries = std::fs::read_dir(folder).map_err(StoreError::io("reading", folder))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("sled.damaged") {
            let former = entry.path();
            std::fs::remove_dir_all(&former).map_err(StoreError::io("removing", &former))?;
        }
    }
    wait_for_log(&path.join("db"))?;
    std::fs::rename(path, aside).map_err(StoreError::io("putting aside", path))?;
    let fresh = path.with_extension("new");
    if fresh.exists() {
        wait_for_log(&fresh.join("db"))?;
        std::fs::rename(&fresh, path).map_err(StoreError::io("putting in place", &fresh))?;
    }
    super::boot::sync_folder(folder)
}

fn refused(path: &Path, why: String) -> StoreError {
    StoreError::Database {
        path: path.to_owned(),
        why,
    }
}

/// Opens sled; the inner error says why the database cannot be used, whatever the system does.
///
/// # Errors
/// What only an operator can mend: no right to read, no room.
pub(super) fn open(path: &Path) -> Result<Result<sled::Db, String>, StoreError> {
    wait_for_log(&path.join("db"))?;
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .mode(sled::Mode::LowSpace)
        .flush_every_ms(None);
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(Ok(database)) => Ok(Ok(database)),
        Ok(Err(sled::Error::Io(error))) if is_operators(&error) => {
            Err(refused(path, error.to_string()))
        }
        Ok(Err(error)) => Ok(Err(error.to_string())),
        Err(_) => Ok(Err("sled panicked".to_owned())),
    }
}

/// Tells whether an error is of the system around the database, which another one would meet too.
fn is_operators(error: &std::io::Error) -> bool {
    let known = [
        ErrorKind::PermissionDenied,
        ErrorKind::StorageFull,
        ErrorKind::QuotaExceeded,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::OutOfMemory,
        ErrorKind::WouldBlock,
    ];
    known.contains(&error.kind()) || is_few_files(error)
}

fn is_few_files(error: &std::io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE | Errno::EIO))
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
