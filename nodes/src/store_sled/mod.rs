//! The store on sled: one writer thread, group commit, honest about full and failing disks.
//!
//! In: batches from any thread. Out: values, and one call of each `done`, in order, once the batch
//! is on stable storage. Source: `cluster.md` §9. It knows no record: keys and values are octets.
//!
//! ```text
//! data folder   lock         held by flock while the node lives
//!               boot         number of this start (boot.rs)
//!               watermark    a batch number that was durable (boot.rs)
//!               quarantine   present from a detected loss until `lift_quarantine`
//!               ballast      room kept for tombstones on a full disk (space.rs)
//!               sled/        the database; sled.damaged-<boot>/ is the last one that was put aside
//! ```
//!
//! A reader sees a batch as soon as the writer has handed it to sled, a little before `done`.
//! sled 0.34 writes large pages to files of their own without a sync; segments of
//! `SEGMENT_BYTES` keep every page of ours in the log, which `done` waits for.
//!
//! Measured (2 cores, virtio disk, values of 2 KB, debug build): 1.1 ms a commit alone, 35 us in
//! groups; 200,000 overwrites of 20,000 keys leave a log of 240 MiB, reopened in 0.2 s. The mode
//! `HighThroughput` was no faster and no smaller. Segments of 512 KiB halve the log, but put
//! pages of large records into unsynced files.

mod boot;
mod database;
mod error;
mod salvage;
mod space;
mod value;
mod writer;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod kill_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use contract::env::Store;
use contract::{Batch, Boot, Space, StoreFault};
use nix::fcntl::Flock;

pub use error::StoreError;
pub use space::Thresholds;

use boot::Watermark;
use database::{last_number, open_log, open_sound};
use space::Room;
use writer::{Job, Queue, Writer};

/// Octets of one value: a record's 64 KiB of parts and its header. More is a bug of the caller.
const VALUE_BYTES_MAX: usize = 96 * 1024;
/// Keys of rotten values that are remembered, to be removed when the quarantine is lifted; what is
/// beyond is met again at the next start.
const ROTTEN_KEYS_MAX: usize = 65_536;
/// The key of the number of the last batch: before all others, in no scan.
const NUMBER_KEY: &[u8] = b"\0batch";

/// Where the store lies and when it refuses.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The data folder; made if missing.
    pub folder: PathBuf,
    /// Room below which it refuses.
    pub thresholds: Thresholds,
}

impl StoreConfig {
    /// Makes the configuration of `cluster.md` §9 for a data folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        StoreConfig {
            folder: folder.into(),
            thresholds: Thresholds::default(),
        }
    }
}

/// What opening the store has found.
#[derive(Clone)]
pub struct Opened {
    /// Number of this start; durable.
    pub boot: Boot,
    /// The data folder was empty.
    pub first_start: bool,
    /// Acknowledged entries are missing.
    pub quarantined: bool,
    /// What is missing, as far as that can be said.
    pub missing: Missing,
}

/// What a store has lost, as far as it can tell. What it does not know it lacks is not in here: the
/// other holders do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Batches that were durable and are not there; `None` if nobody can tell: the watermark is
    /// gone.
    pub batches: Option<u64>,
    /// Values whose octets are not what was written.
    pub rotten: u64,
    /// The database that could not be used, put aside.
    pub aside: Option<PathBuf>,
    /// There was no database, though this is not the first start.
    pub is_gone: bool,
}

impl Missing {
    fn is_any(&self) -> bool {
        self.batches != Some(0) || self.rotten > 0 || self.aside.is_some() || self.is_gone
    }

    fn tell(&self) {
        let Missing {
            batches,
            rotten,
            aside,
            is_gone,
        } = self;
        tracing::error!(
            ?batches,
            rotten,
            ?aside,
            is_gone,
            "store has lost acknowledged entries: quarantined"
        );
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("boot", &self.boot)
            .field("first_start", &self.first_start)
            .field("quarantined", &self.quarantined)
            .field("missing", &self.missing)
            .finish_non_exhaustive()
    }
}

/// What the store has counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounters {
    /// Values that failed their checksum or could not be read; treated as missing.
    pub rot: u64,
    /// Groups flushed.
    pub groups: u64,
    /// Batches durable.
    pub batches: u64,
    /// Batches refused: no room, or the queue was full.
    pub refused: u64,
}

/// State that readers, the writer and callers share.
#[derive(Debug, Default)]
struct Shared {
    queue: Queue,
    room: Room,
    fault: OnceLock<String>,
    quarantined: AtomicBool,
    rotten_keys: Mutex<BTreeSet<Vec<u8>>>,
    rot: AtomicU64,
    groups: AtomicU64,
    batches: AtomicU64,
    refused: AtomicU64,
}

impl Shared {
    fn poison(&self, why: String) {
        if self.fault.set(why).is_ok() {
            let why = self.fault.get();
            tracing::error!(why, "store poisoned");
        }
    }

    fn check(&self) -> Result<(), StoreFault> {
        match self.fault.get() {
            Some(why) => Err(StoreFault::Poisoned { why: why.clone() }),
            None => Ok(()),
        }
    }

    fn rotten(&self, key: &[u8], why: &str) {
        let lock = self.rotten_keys.lock();
        let mut keys = lock.unwrap_or_else(PoisonError::into_inner);
        let is_known = keys.contains(key);
        if keys.len() < ROTTEN_KEYS_MAX {
            keys.insert(key.to_vec());
        }
        drop(keys);
        // Before whoever reads it hears that it is not there.
        self.quarantined.store(true, Ordering::Release);
        self.rot.fetch_add(1, Ordering::Relaxed);
        if !is_known {
            tracing::warn!(key = ?Bytes::copy_from_slice(key), why, "stored value is rotten");
        }
    }

    fn full(&self) -> StoreFault {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let free_bytes = self.room.free();
        StoreFault::Full { free_bytes }
    }
}

/// Records on disk. Dropping it writes what is queued and waits for that.
#[derive(Debug)]
pub struct SledStore {
    shared: Arc<Shared>,
    database: sled::Db,
    boot: Boot,
    quarantine_file: PathBuf,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held last, released last: the folder is ours until the writer has ended.
    _lock: Flock<File>,
}

impl SledStore {
    /// Opens or makes the store of a data folder.
    ///
    /// In: `unix_seconds`, the wall clock: the boot number is at least that. Out: the store, and
    /// what was found; the boot number is durable.
    ///
    /// # Errors
    /// `InUse` if another process has the folder; else what failed, and where.
    pub fn open(
        config: StoreConfig,
        unix_seconds: u64,
    ) -> Result<(Arc<SledStore>, Opened), StoreError> {
        let folder = config.folder;
        // Records carry media keys: nobody else reads them.
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder);
        made.map_err(StoreError::io("making", &folder))?;
        let lock = boot::lock(&folder)?;
        // A full disk cannot even be reopened: the ballast goes before anything is written.
        let ballast = folder.join("ballast");
        let shared = Arc::new(Shared::default());
        shared.room.make_way(&ballast, &config.thresholds)?;
        let (boot, first_start) = boot::next_boot(&folder, unix_seconds)?;
        let is_gone = !first_start && !folder.join("sled").exists();
        let sound = open_sound(&folder.join("sled"), boot, &shared)?;
        let database = sound.database;
        boot::sync_folder(&folder.join("sled"))?;
        let (watermark, marked) = Watermark::open(&folder, first_start)?;
        let number = last_number(&database, &shared);
        let missing = Missing {
            batches: marked.map(|marked| marked.saturating_sub(number)),
            rotten: shared.rot.load(Ordering::Relaxed),
            aside: sound.aside,
            is_gone,
        };
        let quarantine_file = folder.join("quarantine");
        if missing.is_any() {
            boot::replace(
                &quarantine_file,
                b"entries that were acknowledged are missing\n",
            )?;
        }
        let quarantined = quarantine_file.exists();
        if quarantined {
            missing.tell();
        }
        shared.quarantined.store(quarantined, Ordering::Release);
        let writer = Writer {
            shared: Arc::clone(&shared),
            database: database.clone(),
            file: open_log(&folder.join("sled").join("db"))?,
            number: number.max(marked.unwrap_or(0)),
            watermark,
            ballast,
            thresholds: config.thresholds,
        };
        let store = SledStore {
            shared,
            database,
            boot,
            quarantine_file,
            writer: Mutex::new(Some(writer.start(&folder)?)),
            _lock: lock,
        };
        let opened = Opened {
            boot,
            first_start,
            quarantined,
            missing,
        };
        Ok((Arc::new(store), opened))
    }

    /// Removes what is still rotten, then the mark of the quarantine.
    fn lift(&self) -> Result<(), StoreError> {
        let lock = self.shared.rotten_keys.lock();
        let keys = std::mem::take(&mut *lock.unwrap_or_else(PoisonError::into_inner));
        let mut removed = Batch {
            changes: Vec::new(),
            essential: true,
        };
        for key in keys {
            let found = self.reading(|| self.database.get(&key));
            if let Ok(Ok(Some(found))) = found
                && value::open(&key, &found).is_err()
            {
                removed.changes.push((key, None));
            }
        }
        if !removed.changes.is_empty() {
            tracing::warn!(count = removed.changes.len(), "rotten values are removed");
            self.commit(removed, Box::new(drop));
        }
        let path = &self.quarantine_file;
        if path.exists() {
            std::fs::remove_file(path).map_err(StoreError::io("removing", path))?;
            boot::sync_folder(path.parent().unwrap_or(path))?;
        }
        self.shared.quarantined.store(false, Ordering::Release);
        Ok(())
    }

    /// Returns what was counted since it was opened.
    #[must_use]
    pub fn counters(&self) -> StoreCounters {
        let shared = &self.shared;
        StoreCounters {
            rot: shared.rot.load(Ordering::Relaxed),
            groups: shared.groups.load(Ordering::Relaxed),
            batches: shared.batches.load(Ordering::Relaxed),
            refused: shared.refused.load(Ordering::Relaxed),
        }
    }

    /// Runs a read; a panic of sled on damaged pages poisons the store instead of the caller.
    fn reading<T>(&self, read: impl FnOnce() -> T) -> Result<T, StoreFault> {
        self.shared.check()?;
        let done = catch_unwind(AssertUnwindSafe(read));
        done.map_err(|_| {
            self.shared.poison("sled panicked while reading".to_owned());
            let why = "sled panicked while reading".to_owned();
            StoreFault::Poisoned { why }
        })
    }

    /// A page that a running sled cannot read: nothing written there would be safe. The next start
    /// saves what can be read ([`salvage`]).
    fn damaged(&self, key: &[u8], error: &sled::Error) {
        self.shared.rotten(key, &error.to_string());
        self.shared
            .poison(format!("a page cannot be read: {error}"));
    }
}

impl Store for SledStore {
    fn read(&self, key: &[u8]) -> Result<Option<Bytes>, StoreFault> {
        let found = match self.reading(|| self.database.get(key))? {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.damaged(key, &error);
                self.shared.check()?;
                return Ok(None);
            }
        };
        match value::open(key, &found) {
            Ok(payload) => Ok(Some(Bytes::copy_from_slice(payload))),
            Err(why) => {
                self.shared.rotten(key, why);
                Ok(None)
            }
        }
    }

    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreFault> {
        let mut entries = self.reading(|| self.database.scan_prefix(prefix))?;
        while let Some(entry) = self.reading(|| entries.next())? {
            let (key, found) = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.damaged(prefix, &error);
                    return self.shared.check();
                }
            };
            if &*key == NUMBER_KEY {
                continue;
            }
            match value::open(&key, &found) {
                Ok(payload) => {
                    if visit(&key, payload).is_break() {
                        return Ok(());
                    }
                }
                Err(why) => self.shared.rotten(&key, why),
            }
        }
        Ok(())
    }

    fn commit(&self, batch: Batch, done: Box<dyn FnOnce(Result<(), StoreFault>) + Send>) {
        let values = batch.changes.iter().filter_map(|(_, value)| value.as_ref());
        let largest = values.map(Vec::len).max().unwrap_or(0);
        assert!(largest <= VALUE_BYTES_MAX, "a value of {largest} octets");
        if let Err(fault) = self.shared.check() {
            return done(Err(fault));
        }
        if let Err(job) = self.shared.queue.push(Job { batch, done }) {
            let fault = self.shared.check().err();
            (job.done)(Err(fault.unwrap_or_else(|| self.shared.full())));
        }
    }

    fn boot(&self) -> Boot {
        self.boot
    }

    fn space(&self) -> (Space, u64) {
        (self.shared.room.space(), self.shared.room.free())
    }

    fn is_quarantined(&self) -> bool {
        self.shared.quarantined.load(Ordering::Acquire)
    }

    fn lift_quarantine(&self) {
        if let Err(error) = self.lift() {
            tracing::error!(%error, "the quarantine of the store cannot be lifted");
        }
    }

    fn is_poisoned(&self) -> bool {
        self.shared.fault.get().is_some()
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.shared.queue.close();
        let writer = self.writer.lock().map(|mut writer| writer.take());
        if let Ok(Some(writer)) = writer
            && writer.join().is_err()
        {
            tracing::error!("the store's writer has panicked");
        }
    }
}
