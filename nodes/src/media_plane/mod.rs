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

mod agent;
mod asked;
pub mod certificate;
mod feed;
mod handshake;
pub(crate) mod ports;
mod records;
pub mod srtp;
mod web;
mod worker;

#[cfg(test)]
mod certificate_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod web_tests;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock};

use contract::env::{MediaPlane, MediaSink};
use contract::{MediaCommand, SideKey, SrtpKeys, Time};

use certificate::MediaCertificate;
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

/// What the plane is made of.
#[derive(Clone)]
pub struct MediaSettings {
    /// Worker threads.
    pub workers: usize,
    /// Ports of legs with sockets of their own.
    pub ports: RangeInclusive<u16>,
    /// WebRTC port of the first worker, the others follow; 0: any that are free.
    pub webrtc_port: u16,
    /// Code point that packets are marked with, 0-63 (RFC 2474).
    pub dscp: u8,
    /// The node's clock.
    pub clock: Clock,
    /// Where agents and handshakes run.
    pub runtime: tokio::runtime::Handle,
    /// What handshakes show.
    pub certificate: MediaCertificate,
}

impl std::fmt::Debug for MediaSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MediaSettings({} workers)", self.workers)
    }
}

/// What a worker is told.
#[derive(Debug)]
enum WorkerOrder {
    /// By a media leg.
    Command(MediaCommand),
    /// By an agent: the set-up of a path has ended.
    Path {
        leg: SideKey,
        /// Which set-up of the leg.
        set_up: u32,
        selected: Option<SocketAddr>,
    },
    /// By a handshake.
    Keys {
        leg: SideKey,
        /// Which handshake of the leg it was.
        number: u32,
        keys: Result<Box<SrtpKeys>, String>,
    },
    /// The plane is dropped.
    End,
}

/// The way to tell a worker.
#[derive(Clone, Debug)]
struct Orders {
    queue: Sender<WorkerOrder>,
    waker: Arc<mio::Waker>,
}

impl Orders {
    fn give(&self, order: WorkerOrder) {
        if self.queue.send(order).is_ok() {
            // A wake-up that fails is made good by the next packet or tick.
            let _ = self.waker.wake();
        }
    }
}

/// Worker threads and which leg is on which.
pub struct MediaWorkers {
    workers: Vec<Handle>,
    sink: Arc<OnceLock<Arc<dyn MediaSink>>>,
    /// Legs that other nodes have.
    lingering: Arc<AtomicUsize>,
}

struct Handle {
    orders: Orders,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for MediaWorkers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MediaWorkers({})", self.workers.len())
    }
}

impl MediaWorkers {
    /// Starts the worker threads.
    ///
    /// # Errors
    /// If the system gives no thread or no poll.
    pub fn start(settings: &MediaSettings) -> Result<Arc<Self>, MediaPlaneError> {
        let sink = Arc::new(OnceLock::new());
        let lingering = Arc::new(AtomicUsize::new(0));
        let ports = Arc::new(Mutex::new(Ports::new(
            settings.ports.clone(),
            settings.dscp,
        )));
        let count = settings.workers.max(1);
        let mut workers = Vec::with_capacity(count);
        for number in 0..count {
            let failed = |source| MediaPlaneError { number, source };
            let (ports, sink) = (Arc::clone(&ports), Arc::clone(&sink));
            let lingering = Arc::clone(&lingering);
            let (worker, orders) =
                Worker::new(number, settings, ports, sink, lingering).map_err(failed)?;
            let thread = std::thread::Builder::new()
                .name(format!("media-{number}"))
                .spawn(move || worker.run())
                .map_err(failed)?;
            workers.push(Handle {
                orders,
                thread: Some(thread),
            });
        }
        Ok(Arc::new(MediaWorkers {
            workers,
            sink,
            lingering,
        }))
    }

    /// Returns the worker of a leg: all legs of a call share one, after a restart too, when their
    /// shared port must be the one they had.
    fn worker(&self, leg: SideKey) -> &Handle {
        let bits = leg.call().bits();
        let folded = (bits >> 96) ^ (bits >> 64) ^ (bits >> 32) ^ (bits >> 8);
        let folded = usize::try_from(folded & 0xffff).unwrap_or(0);
        &self.workers[folded % self.workers.len()]
    }
}

impl MediaPlane for MediaWorkers {
    fn attach(&self, sink: Arc<dyn MediaSink>) {
        if self.sink.set(sink).is_err() {
            tracing::error!("the media plane was attached twice; the first one stays");
        }
    }

    fn command(&self, command: MediaCommand) {
        let worker = self.worker(command.leg());
        worker.orders.give(WorkerOrder::Command(command));
    }

    fn lingering(&self) -> usize {
        self.lingering.load(Ordering::Relaxed)
    }
}

impl Drop for MediaWorkers {
    fn drop(&mut self) {
        for handle in &self.workers {
            handle.orders.give(WorkerOrder::End);
        }
        for handle in &mut self.workers {
            if let Some(thread) = handle.thread.take() {
                let _ = thread.join();
            }
        }
    }
}
