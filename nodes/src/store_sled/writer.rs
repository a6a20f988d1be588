//! The one writer: group commit without a timer.
//!
//! In: jobs of the queue, in order. Out: each job's `done`, in order. While one group is flushed
//! the next one gathers; it is taken whole when the flush returns, up to the bounds below.
//! A group is one sled batch (so atomic), one `flush`, one `fdatasync` of the log file.

use std::collections::VecDeque;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use contract::{Batch, StoreFault};

use super::boot::Watermark;
use super::{NUMBER_KEY, Shared, StoreError, Thresholds, value};

/// Batches of one group: what waits behind one flush.
const GROUP_BATCHES_MAX: usize = 1_024;
/// Octets of one group: about the time of one more flush.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Batches that wait; more are refused as `Full`: each actor has few commits under way.
const QUEUE_BATCHES_MAX: usize = 262_144;
/// Batches after which the watermark is written.
const MARK_BATCHES: u64 = 64;
/// Time after which it is written.
const MARK_AFTER: Duration = Duration::from_millis(100);
/// Time between two looks at the room on disk.
const POLL_AFTER: Duration = Duration::from_millis(250);

/// A batch and whom to tell.
pub(super) struct Job {
    pub(super) batch: Batch,
    pub(super) done: Box<dyn FnOnce(Result<(), StoreFault>) + Send>,
}

impl Job {
    fn bytes(&self) -> usize {
        let changes = self.batch.changes.iter();
        changes
            .map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len))
            .sum()
    }
}

/// Jobs that wait for the writer.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}

impl Queue {
    /// Appends a job; gives it back if the queue is full or closed.
    pub(super) fn push(&self, job: Job) -> Result<(), Job> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.closed || waiting.jobs.len() >= QUEUE_BATCHES_MAX {
            return Err(job);
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes no more jobs; the writer ends when those that wait are done.
    pub(super) fn close(&self) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = true;
        self.changed.notify_one();
    }

    /// Waits for jobs and takes a group; an empty one after `patience`, `None` at the end.
    fn take(&self, patience: Duration) -> Option<Vec<Job>> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |waiting: &mut Waiting| waiting.jobs.is_empty() && !waiting.closed;
        let waited = self.changed.wait_timeout_while(waiting, patience, idle);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if waiting.closed && waiting.jobs.is_empty() {
            return None;
        }
        let (mut group, mut bytes) = (Vec::new(), 0);
        while group.len() < GROUP_BATCHES_MAX && bytes < GROUP_BYTES_MAX {
            let Some(job) = waiting.jobs.pop_front() else {
                break;
            };
            bytes += job.bytes();
            group.push(job);
        }
        Some(group)
    }
}

/// All that the writer's thread owns.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) database: sled::Db,
    /// sled's log, opened once more: its own flush stops short of the device barrier.
    pub(super) file: File,
    /// Number of the last batch.
    pub(super) number: u64,
    pub(super) watermark: Watermark,
    pub(super) ballast: PathBuf,
    pub(super) thresholds: Thresholds,
}

/// What the writer has still to do besides groups.
struct Duties {
    marked: u64,
    marked_at: Instant,
    polled_at: Instant,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(mut self, folder: &Path) -> Result<JoinHandle<()>, StoreError> {
        let polled = self.shared.room.poll(&self.ballast, &self.thresholds);
        polled.map_err(StoreError::io("measuring", folder))?;
        let thread = std::thread::Builder::new().name("store".to_owned());
        let shared = Arc::clone(&self.shared);
        let started = thread.spawn(move || {
            if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
                refuse_all(&shared);
            }
        });
        started.map_err(StoreError::io("starting the writer of", folder))
    }

    fn run(&mut self) {
        let now = monotonic();
        let mut duties = Duties {
            marked: self.number,
            marked_at: now,
            polled_at: now,
        };
        loop {
            let patience = if duties.marked < self.number {
                MARK_AFTER
            } else {
                POLL_AFTER
            };
            let group = self.shared.queue.take(patience);
            let ends = group.is_none();
            self.write(group.unwrap_or_default());
            if let Err(why) = self.perform(&mut duties, ends) {
                self.shared.poison(why);
            }
            if ends {
                return;
            }
        }
    }

    /// Writes a group and tells its callers.
    fn write(&mut self, group: Vec<Job>) {
        let (admitted, refused) = self.admit(group);
        let written = match self.shared.check() {
            Ok(()) if admitted.iter().any(Option::is_some) => self.write_admitted(&admitted),
            checked => checked,
        };
        // In the order of the calls, whatever became of each.
        for (job, refused) in admitted.into_iter().zip(refused) {
            match (job, refused) {
                (Some(job), _) => (job.done)(written.clone()),
                (None, Some(refused)) => {
                    let fault = self.shared.check().err();
                    (refused.done)(Err(fault.unwrap_or_else(|| self.shared.full())));
                }
                (None, None) => {}
            }
        }
    }

    /// Sorts a group by whether there is room for it; both lists keep the places.
    fn admit(&self, group: Vec<Job>) -> (Vec<Option<Job>>, Vec<Option<Job>>) {
        let mut bytes = 0;
        let sort = |job: Job| {
            let more = bytes + job.bytes() as u64;
            let room = &self.shared.room;
            if room.admits(job.batch.essential, more, &self.thresholds) {
                bytes = more;
                (Some(job), None)
            } else {
                (None, Some(job))
            }
        };
        group.into_iter().map(sort).unzip()
    }

    fn write_admitted(&mut self, admitted: &[Option<Job>]) -> Result<(), StoreFault> {
        let jobs: Vec<&Job> = admitted.iter().flatten().collect();
        let count = jobs.len() as u64;
        let number = self.number + count;
        let written = catch_unwind(AssertUnwindSafe(|| self.flush(&jobs, number)));
        let why = match written {
            Ok(Ok(bytes)) => {
                self.number = number;
                self.shared.room.spend(bytes);
                self.shared.groups.fetch_add(1, Ordering::Relaxed);
                self.shared.batches.fetch_add(count, Ordering::Relaxed);
                return Ok(());
            }
            Ok(Err(why)) => format!("writing batch {number}: {why}"),
            Err(_) => format!("writing batch {number}: sled panicked"),
        };
        self.shared.poison(why.clone());
        Err(StoreFault::Poisoned { why })
    }

    /// Puts a group on stable storage; returns its octets.
    fn flush(&self, jobs: &[&Job], number: u64) -> Result<u64, String> {
        let mut batch = sled::Batch::default();
        let mut bytes = 0;
        for (key, payload) in jobs.iter().flat_map(|job| &job.batch.changes) {
            match payload {
                Some(payload) => {
                    bytes += key.len() + payload.len();
                    batch.insert(&key[..], value::seal(key, payload));
                }
                None => batch.remove(&key[..]),
            }
        }
        batch.insert(NUMBER_KEY, value::seal(NUMBER_KEY, &number.to_le_bytes()));
        let failed = |error: sled::Error| error.to_string();
        self.database.apply_batch(batch).map_err(failed)?;
        self.database.flush().map_err(failed)?;
        self.file.sync_data().map_err(|error| error.to_string())?;
        Ok(bytes as u64)
    }

    /// Writes the watermark and looks at the room, each when it is time.
    fn perform(&mut self, duties: &mut Duties, ends: bool) -> Result<(), String> {
        if self.shared.fault.get().is_some() {
            return Ok(());
        }
        let now = monotonic();
        let unmarked = self.number - duties.marked;
        let is_late = now.duration_since(duties.marked_at) >= MARK_AFTER;
        if unmarked >= MARK_BATCHES || unmarked > 0 && (is_late || ends) {
            let marked = self.watermark.mark(self.number);
            marked.map_err(|error| format!("marking batch {}: {error}", self.number))?;
            duties.marked = self.number;
            duties.marked_at = now;
        }
        // Near the floor every group is measured: sled writes more than it is given.
        let is_close = self.shared.room.free() < self.thresholds.floor.saturating_mul(4);
        if is_close || now.duration_since(duties.polled_at) >= POLL_AFTER {
            let polled = self.shared.room.poll(&self.ballast, &self.thresholds);
            polled.map_err(|error| format!("measuring the disk: {error}"))?;
            duties.polled_at = now;
        }
        Ok(())
    }
}

/// After a panic on the writer's thread, which only a `done` can bring about: nothing is written
/// any more, and whoever waits is told so.
fn refuse_all(shared: &Shared) {
    shared.poison("the writer panicked".to_owned());
    shared.queue.close();
    while let Some(group) = shared.queue.take(Duration::ZERO) {
        for job in group {
            (job.done)(shared.check());
        }
    }
}

/// Reads the clock by which the writer's own duties are due.
#[expect(
    clippy::disallowed_methods,
    reason = "the store is a part of Env; nothing that a core sees depends on it"
)]
fn monotonic() -> Instant {
    Instant::now()
}
