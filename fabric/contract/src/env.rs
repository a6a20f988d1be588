//! The only way out of the process: clock, chance, tasks, network, store, media plane.
//!
//! Production (`nodes/src/env_os.rs`) and the simulator differ in nothing else.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{
    Boot, CloseCode, Door, FaultClass, FlowRef, ListenerId, MediaCommand, MediaEvent, Now, Peers,
    SideKey, Space, StreamKind, Time,
};

/// A boxed future, as `Env` hands them around.
pub type Work<T = ()> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// The world outside.
pub trait Env: Send + Sync + 'static {
    /// Reads both clocks.
    fn now(&self) -> Now;
    /// Ends when the monotonic clock has reached `at`.
    fn sleep_until(&self, at: Time) -> Work;
    /// Runs a task to its end.
    fn spawn(&self, name: &'static str, work: Work);
    /// Returns the seed of this life of the node: different for each start.
    fn seed(&self) -> [u8; 32];
    /// Binds a UDP socket; datagrams go to `sink` from then on.
    ///
    /// # Errors
    /// If the address cannot be bound.
    fn bind_datagram(
        &self,
        listener: ListenerId,
        local: SocketAddr,
        sink: Arc<dyn NetSink>,
    ) -> Result<SocketAddr, BindError>;
    /// Binds a listener for connections of a kind; they go to `sink` from then on.
    ///
    /// # Errors
    /// If the address cannot be bound.
    fn bind_stream(
        &self,
        listener: ListenerId,
        local: SocketAddr,
        kind: StreamKind,
        sink: Arc<dyn NetSink>,
    ) -> Result<SocketAddr, BindError>;
    /// Closes the socket of a listener; connections that came in stay.
    fn unbind(&self, _listener: ListenerId) {}
    /// Runs a program of the operator to its end, no longer than `limit`; without a world of programs
    /// that fails.
    fn run(
        &self,
        _program: PathBuf,
        _arguments: Vec<String>,
        _environment: Vec<(String, String)>,
        _limit: Duration,
    ) -> Work<Result<(), String>> {
        Box::pin(async { Err("there are no programs".to_owned()) })
    }
    /// Opens a connection from a listener's address; `opened` or `closed` of `sink` tells how it went.
    fn connect(&self, flow: FlowRef, sink: Arc<dyn NetSink>);
    /// Puts octets on a flow. A full or dead connection is closed, a datagram that does not go out
    /// is lost, as on any network; both are counted.
    fn send(&self, flow: &FlowRef, bytes: Bytes);
    /// Closes a connection after what is queued is written.
    fn close(&self, flow: &FlowRef, code: CloseCode, why: &'static str);
    /// Resolves a host name; `done` is called once.
    fn resolve(&self, name: String, done: Box<dyn FnOnce(Result<Vec<IpAddr>, String>) + Send>);
    /// Returns the store.
    fn store(&self) -> Arc<dyn Store>;
    /// Returns the way to other nodes; `None`: this node is alone.
    fn peers(&self) -> Option<Arc<dyn Peers>> {
        None
    }
    /// Returns the media plane.
    fn media(&self) -> Arc<dyn MediaPlane>;
}

/// Where sockets deliver. Called from reading tasks; must not block.
pub trait NetSink: Send + Sync + 'static {
    /// A datagram came.
    fn datagram(&self, listener: ListenerId, remote: SocketAddr, bytes: Bytes);
    /// Tells whether a listener lets an address in at all: asked before a WebSocket is opened.
    fn lets_in(&self, _listener: ListenerId, _remote: SocketAddr) -> bool {
        true
    }
    /// A connection came in; returns the number to give it, or `None` to refuse it.
    fn accepted(&self, listener: ListenerId, remote: SocketAddr, door: Door) -> Option<FlowRef>;
    /// A connection we asked for is open.
    fn opened(&self, flow: FlowRef);
    /// Octets came on a connection: one whole message on a WebSocket. The reader waits for the future, if there is one, before it
    /// reads on: a full inbox pushes back to the peer.
    fn bytes(&self, flow: &FlowRef, bytes: Bytes) -> Option<Work>;
    /// A connection is gone. Called once each.
    fn closed(&self, flow: &FlowRef, why: String);
}

/// An address could not be bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("binding {what} {address}: {why}")]
pub struct BindError {
    /// `udp` or `tcp`.
    pub what: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub why: String,
}

impl BindError {
    /// Tells whose fault it is: the operator's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Config
    }
}

/// Shown each key and value of a scan until it says to stop.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Records on disk. Reads may block a little; writes never do.
pub trait Store: Send + Sync + 'static {
    /// Reads the value of a key. A damaged value is treated as missing and counted (`Rot`).
    ///
    /// # Errors
    /// If the store is poisoned.
    fn read(&self, key: &[u8]) -> Result<Option<Bytes>, StoreFault>;
    /// Visits the values whose keys start with `prefix`, in the order of keys, until told to stop.
    ///
    /// # Errors
    /// If the store is poisoned.
    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreFault>;
    /// Writes a batch, whole or not at all, in the order of calls; `done` is called, in the same
    /// order, once it is on stable storage, or has failed.
    fn commit(&self, batch: Batch, done: Box<dyn FnOnce(Result<(), StoreFault>) + Send>);
    /// Returns the number of this start, durable before this returned first.
    fn boot(&self) -> Boot;
    /// Returns the room left, and the octets free.
    fn space(&self) -> (Space, u64);
    /// Tells whether entries that were acknowledged are missing (`cluster.md` §9).
    fn is_quarantined(&self) -> bool;
    /// Ends that: what was missing was fetched from other holders, or nobody has it any more. What
    /// is still rotten is removed. If that cannot be made durable, the store stays quarantined.
    fn lift_quarantine(&self);
    /// Tells whether an I/O error has poisoned it.
    fn is_poisoned(&self) -> bool;
}

/// Changes that become durable together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Keys with their new values; `None` removes.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// A renewal or a tombstone: written as long as the disk takes anything.
    pub essential: bool,
}

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    /// The disk is full: nothing was written.
    #[error("no room: {free_bytes} octets free")]
    Full {
        /// Octets free.
        free_bytes: u64,
    },
    /// An I/O error; the store takes nothing any more.
    #[error("poisoned: {why}")]
    Poisoned {
        /// What the system said.
        why: String,
    },
    /// Fewer holders than wanted have it, and that is not enough (`cluster.md` §5).
    #[error("too few holders have it")]
    TooFewHolders,
    /// Another node owns the record.
    #[error("another node owns the record")]
    Fenced,
}

impl StoreFault {
    /// Tells whose fault it is.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            StoreFault::Full { .. } => FaultClass::Overload,
            StoreFault::Poisoned { .. } | StoreFault::TooFewHolders | StoreFault::Fenced => {
                FaultClass::Transient
            }
        }
    }
}

/// Sockets and relay table of all media legs.
pub trait MediaPlane: Send + Sync + 'static {
    /// Tells where events go; called once, before any command.
    fn attach(&self, sink: Arc<dyn MediaSink>);
    /// Carries out a command; commands of one leg in order.
    fn command(&self, command: MediaCommand);
    /// Returns how many legs still pass packets on though another node has them (`Linger`); commands
    /// that were given are counted a moment later.
    fn lingering(&self) -> usize;
}

/// Where the media plane tells its events. Must not block.
pub trait MediaSink: Send + Sync + 'static {
    /// A leg has something to be told.
    fn media(&self, leg: SideKey, event: MediaEvent);
}
