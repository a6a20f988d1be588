//! `weft run`: from a configuration to a node that runs until it is told to end.
//!
//! In: arguments. Out: a running process; an exit code. Everything that the operator can get wrong
//! is found here, before the first packet, and named with file, key, value and range.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use actors::AnyCore;
use contract::env::{MediaPlane, Store};
use contract::limits::{BALANCE_EVERY_S, BALANCE_LEAST};
use contract::{CloseCode, FabricKeys, ListenerId, NodeInst};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use runtime::Balance;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::banner::banner;
use crate::cli::{EXIT_DONE, EXIT_FAILED, Failure, LogForm, RunArgs, sources};
use crate::config::{
    self, ConfigError, Interfaces, Loaded, LogFormat, SiteKeys, administrator_token, cluster_key,
    to_site,
};
use crate::doors::{self, HttpListener, HttpParts, Tickets};
use crate::env_os::{Clock, OsEnv, OsParts, pause, random};
use crate::log;
use crate::media_plane::certificate::MediaCertificate;
use crate::media_plane::{MediaSettings, MediaWorkers};
use crate::net::tls::{self, CertificateError, Certificates};
use crate::net::{Haste, Streams, WebRules};
use crate::node::{Node, NodeError, NodeParts};
use crate::peers::{ClusterId, KeyRing, PeerSettings, TcpPeers};
use crate::store_sled::{Missing, SledStore, StoreConfig};

/// Longest wait for calls to end when the node is told to; with the ends of connections and tasks it
/// stays under the 5 s of `interfaces.md` §1.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3);
/// Name of the cluster; two clusters differ by their secrets.
const CLUSTER: &str = "weft";
/// Lanes of one node; a lane is a core's work.
const LANES_MAX: usize = 64;

/// Runs a node until a signal or a poisoned store ends it.
///
/// # Errors
/// If it cannot start.
pub fn run(arguments: &RunArgs) -> Result<u8, Failure> {
    let clock = Clock::start();
    let loaded = config::load(&sources(&arguments.layers), &Interfaces::read());
    let loaded = loaded.map_err(Failure::input)?;
    start_log(arguments, &loaded, clock)?;
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(Failure::run)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors)
        .enable_all()
        .build()
        .map_err(Failure::run)?;
    let ground = Ground::prepare(&loaded, clock, processors, &runtime)?;
    let code = runtime.block_on(live(&loaded, &ground, &runtime, clock, metrics))?;
    // Tasks of connections end with the runtime; the store writes what is queued when it is dropped.
    runtime.shutdown_timeout(Duration::from_millis(500));
    if Arc::strong_count(&ground.store) > 1 {
        tracing::warn!("the store is still in use; what was not gated may be lost");
    }
    drop(ground);
    Ok(code)
}

fn start_log(arguments: &RunArgs, loaded: &Loaded, clock: Clock) -> Result<(), Failure> {
    let format = match arguments.log {
        Some(LogForm::Text) => LogFormat::Text,
        Some(LogForm::Json) => LogFormat::Json,
        None => loaded.config.log.format,
    };
    let node = &loaded.config.node.name;
    log::start(&loaded.config.log.level, format, node, clock).map_err(Failure::run)
}

/// What lies under the fabric: store, media plane, keys.
struct Ground {
    store: Arc<SledStore>,
    media: Arc<MediaWorkers>,
    keys: FabricKeys,
    token: contract::Secret,
    certificates: Option<Arc<Certificates>>,
    media_fingerprint: String,
    me: NodeInst,
    lanes: u16,
}

impl Ground {
    fn prepare(
        loaded: &Loaded,
        clock: Clock,
        processors: usize,
        runtime: &Runtime,
    ) -> Result<Ground, Failure> {
        let plan = &loaded.plan;
        let unix_seconds = clock.now().utc.0 / 1_000;
        let (store, opened) = SledStore::open(StoreConfig::new(&plan.data), unix_seconds)
            .map_err(|error| refusal(loaded, "node.data", &plan.data.display(), &chain(&error)))?;
        if opened.quarantined && plan.cluster.is_none() {
            go_on_alone(&store, &opened.missing);
        }
        if !opened.first_start && !plan.secret_file.exists() {
            // A new one would find none of the records.
            let why = "it is gone, and the records of this node are found by it alone: put it back \
                       (the other nodes and backups have it), or move the data folder away";
            let path = plan.secret_file.display();
            return Err(refusal(loaded, "cluster.secret_file", &path, why));
        }
        let keys = cluster_key(&plan.secret_file, &random).map_err(Failure::input)?;
        let token = administrator_token(&plan.data, &random).map_err(Failure::input)?;
        let certificates = certificates(loaded)?;
        let workers = match loaded.config.media.workers {
            0 => processors,
            count => usize::from(count),
        };
        let ports = plan.rtp_ports.first..=plan.rtp_ports.last;
        let mono: crate::media_plane::Clock = Arc::new(move || clock.now().mono);
        let certificate =
            MediaCertificate::of(keys.media()).map_err(|error| Failure::run(chain(&error)))?;
        let media_fingerprint = certificate.fingerprint().to_owned();
        let media = MediaWorkers::start(&MediaSettings {
            workers,
            ports,
            webrtc_port: plan.webrtc_port,
            dscp: loaded.config.media.dscp,
            clock: mono,
            runtime: runtime.handle().clone(),
            certificate,
        })
        .map_err(|error| Failure::run(chain(&error)))?;
        let lanes = u16::try_from(processors.clamp(1, LANES_MAX)).unwrap_or(1);
        let me = NodeInst {
            node: plan.node,
            boot: opened.boot,
        };
        Ok(Ground {
            store,
            media,
            keys,
            token,
            certificates,
            media_fingerprint,
            me,
            lanes,
        })
    }
}

/// Nobody has what is missing: that is said, and the node goes on. In a cluster the others have it.
fn go_on_alone(store: &SledStore, missing: &Missing) {
    let Missing {
        batches,
        rotten,
        aside,
        is_gone,
    } = missing;
    tracing::error!(
        ?batches,
        rotten,
        ?aside,
        is_gone,
        "acknowledged records are lost: this node is alone; it goes on with what is left"
    );
    store.lift_quarantine();
}

/// Opens the certificate if a listener needs one, with what this node is called in it.
fn certificates(loaded: &Loaded) -> Result<Option<Arc<Certificates>>, Failure> {
    let plan = &loaded.plan;
    if !plan
        .listeners
        .iter()
        .any(|listener| listener.protocol.is_tls())
    {
        return Ok(None);
    }
    let mut names = host_names(loaded);
    names.push("localhost".to_owned());
    for listener in &plan.listeners {
        let addresses = [listener.local.ip(), listener.advertise.0];
        let addresses = addresses.iter().filter(|ip| !ip.is_unspecified());
        names.extend(addresses.map(ToString::to_string));
    }
    Certificates::open(&plan.tls, &names)
        .map(Some)
        .map_err(|error| bad_certificate(loaded, &error))
}

/// Reads the files that the configuration names, as a start would.
///
/// # Errors
/// The key, the file, and what is wrong with it.
pub(crate) fn check_files(loaded: &Loaded) -> Result<(), Failure> {
    let tls = &loaded.plan.tls;
    if !tls.is_self_made {
        tls::read(&tls.certificate, &tls.key).map_err(|error| bad_certificate(loaded, &error))?;
    }
    tls::connector(tls.authorities.as_deref())
        .map(drop)
        .map_err(|error| bad_certificate(loaded, &error))
}

fn bad_certificate(loaded: &Loaded, error: &CertificateError) -> Failure {
    refusal(loaded, error.key, &error.file.display(), &error.why)
}

/// Returns an error with everything under it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

fn refusal(loaded: &Loaded, key: &str, value: &dyn std::fmt::Display, why: &str) -> Failure {
    let file = loaded.origins.file(key).to_owned();
    Failure::input(ConfigError::Value {
        file,
        key: key.to_owned(),
        value: value.to_string(),
        allowed: format!("what works here ({why})"),
    })
}

async fn live(
    loaded: &Loaded,
    ground: &Ground,
    runtime: &Runtime,
    clock: Clock,
    metrics: PrometheusHandle,
) -> Result<u8, Failure> {
    // Signals count from here on: a drain that begins during the start is still a drain.
    let mut terminated = signal(SignalKind::terminate()).map_err(Failure::run)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(Failure::run)?;
    let tickets = Arc::new(Tickets::default());
    let http = listen(loaded)?;
    let env = environment(loaded, ground, runtime, clock, &http)?;
    let parts = node_parts(loaded, ground, Arc::clone(&env), Arc::clone(&tickets));
    let node = Node::<AnyCore>::start(parts)
        .await
        .map_err(|error| start_failure(loaded, &error))?;
    let doors = HttpParts::new(node.clone(), tickets, node.clone(), ground.token.clone())
        .with_metrics(metrics)
        .with_names(host_names(loaded), loaded.config.http.origins.clone());
    let doors = Arc::new(doors);
    for listener in equipped(loaded, ground, &env, http) {
        doors::serve(runtime.handle(), listener, Arc::clone(&doors));
    }
    let banner = banner(loaded, node.listeners(), ground.me);
    let _ = std::io::stdout().write_all(banner.as_bytes());
    tracing::info!(instance = %ground.me, "node is up");
    let wished = tokio::select! {
        biased;
        _ = terminated.recv() => Err(EXIT_DONE),
        _ = interrupted.recv() => Err(EXIT_DONE),
        () = node.poisoned() => Err(EXIT_FAILED),
        patience = node.drain_wished() => Ok(patience),
    };
    let (code, patience) = match wished {
        Err(code) => (code, DRAIN_PATIENCE),
        Ok(patience) => tokio::select! {
            biased;
            _ = terminated.recv() => (EXIT_DONE, DRAIN_PATIENCE),
            _ = interrupted.recv() => (EXIT_DONE, DRAIN_PATIENCE),
            () = node.poisoned() => (EXIT_FAILED, DRAIN_PATIENCE),
            () = withdraw(&node, &env, patience) => (EXIT_DONE, Duration::ZERO),
        },
    };
    tracing::info!(code, "node drains");
    tokio::select! {
        biased;
        () = node.drain(patience) => {
            let network = env.network();
            let why = "the node restarts";
            network.dismiss(CloseCode::Restart, why, Haste::Ending).await;
            env.close_peers().await;
        }
        () = pause(DRAIN_PATIENCE + Duration::from_millis(1_500)) => {
            tracing::warn!("actors did not end in time");
        }
        // Told twice: now.
        _ = interrupted.recv() => {}
    }
    tracing::info!("node has ended");
    Ok(code)
}

/// Hands everything over; then those who are connected are sent to the others, in waves.
async fn withdraw(node: &Node<AnyCore>, env: &OsEnv, patience: Duration) {
    tracing::info!(took_us = patience.as_micros(), "node hands everything over");
    node.withdraw(patience).await;
    let network = env.network();
    let why = "the node drains";
    network
        .dismiss(CloseCode::Restart, why, Haste::Draining)
        .await;
}

/// Makes the world outside, with the sockets of the HTTP listeners known to it.
fn environment(
    loaded: &Loaded,
    ground: &Ground,
    runtime: &Runtime,
    clock: Clock,
    http: &[HttpListener],
) -> Result<Arc<OsEnv>, Failure> {
    let plan = &loaded.plan;
    let store: Arc<dyn Store> = ground.store.clone();
    let media: Arc<dyn MediaPlane> = ground.media.clone();
    let bound: Result<Vec<_>, _> = http.iter().map(HttpListener::local_addr).collect();
    let bound = bound.map_err(Failure::run)?;
    let connector = tls::connector(plan.tls.authorities.as_deref())
        .map_err(|error| bad_certificate(loaded, &error))?;
    let streams = Streams {
        rules: WebRules {
            hosts: host_names(loaded),
            origins: loaded.config.http.origins.clone(),
            page_ports: bound.iter().map(std::net::SocketAddr::port).collect(),
            trusted_proxies: plan.trusted_proxies.clone(),
            require_sip_subprotocol: loaded.config.http.require_sip_subprotocol,
        },
        acceptor: ground.certificates.as_ref().map(Certificates::acceptor),
        connector: Some(connector),
        dscp: plan.listeners.iter().map(|one| one.dscp).collect(),
    };
    let env = OsEnv::new(OsParts {
        clock,
        handle: runtime.handle().clone(),
        store,
        media,
    })
    .with_streams(streams)
    .with_peers(peers(loaded, ground, runtime, clock)?);
    for ((place, http), bound) in plan.http.iter().zip(http).zip(bound) {
        let listener = listener_id(place.listener);
        http.mark(bound, env.network().dscp(listener));
        env.network().lend(listener, bound);
    }
    Ok(Arc::new(env))
}

/// Binds the cluster's port, if this node is to be of one.
fn peers(
    loaded: &Loaded,
    ground: &Ground,
    runtime: &Runtime,
    clock: Clock,
) -> Result<Option<Arc<TcpPeers>>, Failure> {
    let Some(plan) = &loaded.plan.cluster else {
        return Ok(None);
    };
    let settings = PeerSettings {
        me: ground.me,
        listen: plan.listen,
        advertise: plan.listen,
        keys: KeyRing {
            current: ground.keys.clone(),
            previous: None,
        },
        cluster: ClusterId::of(CLUSTER),
    };
    TcpPeers::bind(settings, clock, runtime.handle().clone())
        .map(Some)
        .map_err(|error| refusal(loaded, "cluster.listen", &plan.listen, &error.why))
}

fn listener_id(place: usize) -> ListenerId {
    ListenerId(u16::try_from(place).unwrap_or(u16::MAX))
}

/// Gives the HTTP listeners their certificate and their WebSockets.
fn equipped(
    loaded: &Loaded,
    ground: &Ground,
    env: &OsEnv,
    http: Vec<HttpListener>,
) -> Vec<HttpListener> {
    let plans = loaded.plan.http.iter();
    let listeners = http.into_iter().zip(plans).map(|(listener, plan)| {
        let listener = listener.with_web_sockets(env.network(), listener_id(plan.listener));
        match &ground.certificates {
            Some(certificates) if plan.is_tls => listener.with_tls(certificates.acceptor()),
            Some(_) | None => listener,
        }
    });
    listeners.collect()
}

fn node_parts(
    loaded: &Loaded,
    ground: &Ground,
    env: Arc<OsEnv>,
    tickets: Arc<Tickets>,
) -> NodeParts {
    let with = SiteKeys {
        keys: &ground.keys,
        me: ground.me,
        lanes: ground.lanes,
        media_fingerprint: &ground.media_fingerprint,
    };
    NodeParts {
        env,
        site: to_site(loaded, &with),
        acl: loaded
            .plan
            .listeners
            .iter()
            .map(|listener| listener.acl.clone())
            .collect(),
        me: ground.me,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tickets,
        balance: (loaded.config.cluster.rebalance == "registrations").then_some(Balance {
            every: Duration::from_secs(BALANCE_EVERY_S),
            least: BALANCE_LEAST,
        }),
        addresses: loaded.plan.addresses.clone(),
    }
}

fn listen(loaded: &Loaded) -> Result<Vec<HttpListener>, Failure> {
    let bound = loaded.plan.http.iter().map(|http| {
        doors::listen(http.local)
            .map_err(|error| refusal(loaded, http.key, &http.local, &error.to_string()))
    });
    bound.collect()
}

fn start_failure(loaded: &Loaded, error: &NodeError) -> Failure {
    match error {
        NodeError::Bind { listener, source } => {
            let plan = loaded.plan.listeners.get(usize::from(listener.0));
            let key = plan.map_or("profile", |plan| plan.key.as_str());
            refusal(loaded, key, &source.address, &source.why)
        }
        NodeError::Fabric(_) | NodeError::System { .. } => Failure::run(chain(error)),
    }
}

/// Names of this node: its own, those of its domains, and those the operator gave.
fn host_names(loaded: &Loaded) -> Vec<String> {
    let config = &loaded.config;
    let mut hosts = config.http.hosts.clone();
    hosts.push(config.node.name.clone());
    hosts.extend(config.domain.iter().map(|domain| domain.name.clone()));
    hosts
}

#[cfg(test)]
#[path = "run_tests.rs"]
pub(crate) mod tests;
#[cfg(test)]
#[path = "run_web_tests.rs"]
mod web_tests;
