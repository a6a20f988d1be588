//! The media plane: worker threads that own the sockets of all media legs and run the relay table.
//!
//! In: commands of media legs, packets. Out: packets, events for media legs. It decides nothing:
//! the rules are `media::relay`, which the simulator runs as well. Legs of one call start on one
//! worker, so that a packet never leaves its core.
//!
//! ```text
//!  media leg ─command─▶ plane ─queue─▶ worker: sockets ─▶ relay table ─▶ sockets
//!       ▲                                  └───────────── event ────────────┐
//!       └───────────────────────────────────────────────────────────────────┘
//! ```

mod ports;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use contract::env::{MediaPlane, MediaSink};
use contract::{MediaCommand, SideKey, Time};

use ports::Ports;
use worker::Worker;

/// Reads the node's monotonic clock.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// Why the media plane cannot start.
#[derive(Debug, thiserror::Error)]
#[error("starting media worker {number}: {source}")]
pub struct MediaPlaneError {
    number: usize,
    source: std::io::Error,
}

/// Worker threads and which leg is on which.
pub struct MediaWorkers {
    workers: Vec<Handle>,
    places: Mutex<Places>,
    sink: Arc<OnceLock<Arc<dyn MediaSink>>>,
}

struct Handle {
    queue: Sender<MediaCommand>,
    waker: Arc<mio::Waker>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Places {
    worker_of: BTreeMap<SideKey, usize>,
    legs: Vec<usize>,
}

impl std::fmt::Debug for MediaWorkers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MediaWorkers({})", self.workers.len())
    }
}

impl MediaWorkers {
    /// Starts `count` worker threads that take RTP ports out of `ports`.
    ///
    /// # Errors
    /// If the system gives no thread or no poll.
    pub fn start(
        count: usize,
        ports: RangeInclusive<u16>,
        clock: &Clock,
    ) -> Result<Arc<Self>, MediaPlaneError> {
        let sink = Arc::new(OnceLock::new());
        let ports = Arc::new(Mutex::new(Ports::new(ports)));
        let mut workers = Vec::with_capacity(count);
        for number in 0..count.max(1) {
            let failed = |source| MediaPlaneError { number, source };
            let (queue, commands) = channel();
            let worker = Worker::new(
                commands,
                Arc::clone(&ports),
                Arc::clone(&sink),
                Arc::clone(clock),
            )
            .map_err(failed)?;
            let waker = worker.waker();
            let thread = std::thread::Builder::new()
                .name(format!("media-{number}"))
                .spawn(move || worker.run())
                .map_err(failed)?;
            workers.push(Handle {
                queue,
                waker,
                thread: Some(thread),
            });
        }
        let legs = vec![0; workers.len()];
        let places = Mutex::new(Places {
            legs,
            ..Places::default()
        });
        Ok(Arc::new(MediaWorkers {
            workers,
            places,
            sink,
        }))
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().expect("no holder of the places panics")
    }
}

impl Places {
    /// Returns the worker a command goes to, and keeps count of the legs of each.
    fn worker(&mut self, command: &MediaCommand) -> Option<usize> {
        let leg = command.leg();
        match command {
            MediaCommand::Open { beside, .. } => {
                let beside = beside.and_then(|other| self.worker_of.get(&other).copied());
                // After a restart legs open in any order: the first one decides for its call.
                let (first, last) = (leg.call().side(1), leg.call().side(u8::MAX));
                let kin = self.worker_of.range(first..=last).next();
                let beside = beside.or(kin.map(|(_, worker)| *worker));
                let idlest = self.legs.iter().enumerate().min_by_key(|(_, legs)| **legs);
                let worker = beside.or(idlest.map(|(number, _)| number))?;
                if let Some(former) = self.worker_of.insert(leg, worker) {
                    self.legs[former] -= 1;
                }
                self.legs[worker] += 1;
                Some(worker)
            }
            MediaCommand::Configure { .. } | MediaCommand::Reserved { .. } => {
                self.worker_of.get(&leg).copied()
            }
            MediaCommand::Close { .. } => {
                let worker = self.worker_of.remove(&leg)?;
                self.legs[worker] -= 1;
                Some(worker)
            }
        }
    }
}

impl MediaPlane for MediaWorkers {
    fn attach(&self, sink: Arc<dyn MediaSink>) {
        if self.sink.set(sink).is_err() {
            tracing::error!("the media plane was attached twice; the first one stays");
        }
    }

    fn command(&self, command: MediaCommand) {
        let Some(worker) = self.places().worker(&command) else {
            tracing::debug!(leg = %command.leg(), "a command for a leg that is not open");
            return;
        };
        let handle = &self.workers[worker];
        if handle.queue.send(command).is_ok() {
            // A wake-up that fails is made good by the next packet or tick.
            let _ = handle.waker.wake();
        }
    }
}

impl Drop for MediaWorkers {
    fn drop(&mut self) {
        for handle in &mut self.workers {
            // The worker ends when its queue has no sender left.
            let (nobody, _) = channel();
            handle.queue = nobody;
            let _ = handle.waker.wake();
        }
        for handle in &mut self.workers {
            if let Some(thread) = handle.thread.take() {
                let _ = thread.join();
            }
        }
    }
}
