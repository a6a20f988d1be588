//! The world outside, as the operating system gives it: clocks, chance, tasks, sockets, names.
//!
//! In: what `contract::env::Env` is asked. Out: tokio tasks, sockets of `net`, readings of clocks.
//! This file and `net` are the only places of the program that read a clock or wait for one, and
//! this file is the only one that draws on the system's randomness.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use contract::env::{BindError, Env, MediaPlane, NetSink, Store, Work};
use contract::{CloseCode, FlowRef, ListenerId, Now, Peers, StreamKind, Time, UtcMillis};
use tokio::runtime::Handle;

use crate::net::{Network, Streams};
use crate::peers::TcpPeers;

/// Longest wait for the addresses of a host name.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
/// Addresses of one host name that are used (threats.md 30).
const ADDRESSES_MAX: usize = 16;

/// The clocks of this process; monotonic time counts from the making of the first one.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts the monotonic clock.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the clock that everything else is handed"
    )]
    pub fn start() -> Self {
        Clock {
            start: Instant::now(),
        }
    }

    /// Reads both clocks.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the clock that everything else is handed"
    )]
    pub fn now(&self) -> Now {
        let mono = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let utc = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            mono: Time::from_micros(mono),
            utc: UtcMillis(u64::try_from(utc.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// Ends when the monotonic clock has reached `at`.
    #[allow(clippy::disallowed_methods, reason = "deadlines of Env end here")]
    pub fn sleep_until(&self, at: Time) -> impl Future<Output = ()> + Send + 'static {
        let at = self.start + Duration::from_micros(at.as_micros());
        tokio::time::sleep_until(at.into())
    }
}

/// Waits for `work`, but no longer than `length`.
pub(crate) async fn within<T>(length: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(length, work).await.ok()
}

/// Ends after `length`.
#[allow(
    clippy::disallowed_methods,
    reason = "pauses of the operating system's side"
)]
pub(crate) async fn pause(length: Duration) {
    tokio::time::sleep(length).await;
}

/// Draws 32 octets of the system's randomness.
///
/// # Panics
/// If the system has none: nothing safe can be done without.
#[must_use]
pub fn random() -> [u8; 32] {
    let mut octets = [0; 32];
    getrandom::fill(&mut octets).expect("the system's randomness is there after boot");
    octets
}

/// What the operating system's `Env` is put together from.
pub struct OsParts {
    /// The clocks.
    pub clock: Clock,
    /// Where tasks run.
    pub handle: Handle,
    /// Records on disk.
    pub store: Arc<dyn Store>,
    /// Sockets and relay table of media legs.
    pub media: Arc<dyn MediaPlane>,
}

impl std::fmt::Debug for OsParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OsParts").finish_non_exhaustive()
    }
}

/// The operating system as `Env`.
pub struct OsEnv {
    parts: OsParts,
    network: Arc<Network>,
    peers: Option<Arc<TcpPeers>>,
    seed: [u8; 32],
}

impl std::fmt::Debug for OsEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OsEnv").finish_non_exhaustive()
    }
}

impl OsEnv {
    /// Puts it together; draws the seed of this life.
    #[must_use]
    pub fn new(parts: OsParts) -> Self {
        let network = Arc::new(Network::new(parts.handle.clone(), Streams::default()));
        OsEnv {
            parts,
            network,
            peers: None,
            seed: random(),
        }
    }

    /// Adds certificates and the rules of WebSockets; before anything is bound.
    #[must_use]
    pub(crate) fn with_streams(mut self, streams: Streams) -> Self {
        self.network = Arc::new(Network::new(self.parts.handle.clone(), streams));
        self
    }

    /// Adds the way to other nodes.
    #[must_use]
    pub(crate) fn with_peers(mut self, peers: Option<Arc<TcpPeers>>) -> Self {
        self.peers = peers;
        self
    }

    /// Closes the connections with other nodes once what is queued has left.
    pub(crate) async fn close_peers(&self) {
        if let Some(peers) = &self.peers {
            peers.close().await;
        }
    }

    /// Returns the sockets: the HTTP door shares them.
    pub(crate) fn network(&self) -> Arc<Network> {
        Arc::clone(&self.network)
    }
}

/// Between two looks whether a program has ended.
const PROGRAM_LOOK: Duration = Duration::from_millis(2);

/// Runs a program to its end, or ends it at the limit.
async fn run(
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    limit: Duration,
) -> Result<(), String> {
    let shown = program.display().to_string();
    let mut child = Command::new(program)
        .args(arguments)
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{shown}: {error}"))?;
    let ended = within(limit, async {
        loop {
            match child.try_wait() {
                Ok(None) => pause(PROGRAM_LOOK).await,
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("{shown}: {status}")),
                Err(error) => return Err(format!("{shown}: {error}")),
            }
        }
    })
    .await;
    ended.unwrap_or_else(|| {
        let _ = child.kill();
        // Reaped: it has just been ended.
        let _ = child.wait();
        Err(format!("{shown}: not ended within {limit:?}"))
    })
}

impl Env for OsEnv {
    fn now(&self) -> Now {
        self.parts.clock.now()
    }

    fn sleep_until(&self, at: Time) -> Work {
        Box::pin(self.parts.clock.sleep_until(at))
    }

    fn spawn(&self, _name: &'static str, work: Work) {
        // The name is for the simulator's trace; tokio names no tasks.
        self.parts.handle.spawn(work);
    }

    fn seed(&self) -> [u8; 32] {
        self.seed
    }

    fn bind_datagram(
        &self,
        listener: ListenerId,
        local: SocketAddr,
        sink: Arc<dyn NetSink>,
    ) -> Result<SocketAddr, BindError> {
        self.network.bind_datagram(listener, local, sink)
    }

    fn bind_stream(
        &self,
        listener: ListenerId,
        local: SocketAddr,
        kind: StreamKind,
        sink: Arc<dyn NetSink>,
    ) -> Result<SocketAddr, BindError> {
        self.network.bind_stream(listener, local, kind, sink)
    }

    fn unbind(&self, listener: ListenerId) {
        self.network.unbind(listener);
    }

    fn run(
        &self,
        program: PathBuf,
        arguments: Vec<String>,
        environment: Vec<(String, String)>,
        limit: Duration,
    ) -> Work<Result<(), String>> {
        Box::pin(run(program, arguments, environment, limit))
    }

    fn connect(&self, flow: FlowRef, sink: Arc<dyn NetSink>) {
        self.network.connect(flow, sink);
    }

    fn send(&self, flow: &FlowRef, bytes: Bytes) {
        self.network.send(flow, bytes);
    }

    fn close(&self, flow: &FlowRef, code: CloseCode, why: &'static str) {
        self.network.close(flow, code, why);
    }

    fn resolve(&self, name: String, done: Box<dyn FnOnce(Result<Vec<IpAddr>, String>) + Send>) {
        self.parts.handle.spawn(async move {
            done(
                match within(
                    RESOLVE_DEADLINE,
                    tokio::net::lookup_host((name.as_str(), 0)),
                )
                .await
                {
                    Some(Ok(found)) => {
                        let mut addresses = Vec::new();
                        for address in found.map(|address| address.ip()).take(ADDRESSES_MAX) {
                            if !addresses.contains(&address) {
                                addresses.push(address);
                            }
                        }
                        Ok(addresses)
                    }
                    Some(Err(error)) => Err(format!("resolving {name}: {error}")),
                    None => Err(format!(
                        "resolving {name}: no answer in {RESOLVE_DEADLINE:?}"
                    )),
                },
            );
        });
    }

    fn peers(&self) -> Option<Arc<dyn Peers>> {
        let peers = self.peers.as_ref()?;
        Some(Arc::<TcpPeers>::clone(peers))
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.parts.store)
    }

    fn media(&self) -> Arc<dyn MediaPlane> {
        Arc::clone(&self.parts.media)
    }
}
