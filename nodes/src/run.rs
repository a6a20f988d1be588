//! `weft run`: from a configuration to a node that runs until it is told to end.
//!
//! In: arguments. Out: a running process; an exit code. Everything that the operator can get wrong
//! is found here, before the first packet, and named with file, key, value and range.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actors::AnyCore;
use contract::env::{Env, MediaPlane, Store};
use contract::{FabricKeys, NodeInst};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{EXIT_DONE, EXIT_FAILED, Failure, LogForm, RunArgs, sources};
use crate::config::{
    self, ConfigError, Interfaces, Loaded, LogFormat, SiteKeys, administrator_token, cluster_key,
    to_site,
};
use crate::doors::{self, HttpParts, Tickets};
use crate::env_os::{Clock, OsEnv, OsParts, pause, random};
use crate::log;
use crate::media_plane::MediaWorkers;
use crate::node::{Node, NodeError, NodeParts};
use crate::store_sled::{SledStore, StoreConfig};

/// Longest wait for calls to end when the node is told to; with the ends of tasks it stays under
/// the 5 s of `interfaces.md` §1.
const DRAIN_PATIENCE: Duration = Duration::from_secs(4);
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
    let ground = Ground::prepare(&loaded, clock, processors)?;
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
    me: NodeInst,
    lanes: u16,
}

impl Ground {
    fn prepare(loaded: &Loaded, clock: Clock, processors: usize) -> Result<Ground, Failure> {
        let plan = &loaded.plan;
        let unix_seconds = clock.now().utc.0 / 1_000;
        let (store, opened) = SledStore::open(StoreConfig::new(&plan.data), unix_seconds)
            .map_err(|error| refusal(loaded, "node.data", &plan.data.display(), &chain(&error)))?;
        if opened.quarantined {
            // A node alone has nobody to fetch the missing entries from: it says so and goes on.
            tracing::error!("acknowledged records are missing and this node is alone; it goes on");
            store
                .lift_quarantine()
                .map_err(|error| Failure::run(chain(&error)))?;
        }
        let keys = cluster_key(&plan.secret_file, &random).map_err(Failure::input)?;
        let token = administrator_token(&plan.data, &random).map_err(Failure::input)?;
        let workers = match loaded.config.media.workers {
            0 => processors,
            count => usize::from(count),
        };
        let ports = plan.rtp_ports.first..=plan.rtp_ports.last;
        let mono: crate::media_plane::Clock = Arc::new(move || clock.now().mono);
        let media = MediaWorkers::start(workers, ports, &mono)
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
            me,
            lanes,
        })
    }
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
    let parts = node_parts(loaded, ground, runtime, clock, Arc::clone(&tickets));
    let http = listen(loaded)?;
    let node = Node::<AnyCore>::start(parts)
        .await
        .map_err(|error| start_failure(loaded, &error))?;
    let doors = HttpParts::new(node.clone(), tickets, ground.token.clone())
        .with_metrics(metrics)
        .with_names(host_names(loaded), loaded.config.http.origins.clone());
    let doors = Arc::new(doors);
    let mut addresses = Vec::new();
    for listener in http {
        addresses.extend(listener.local_addr());
        doors::serve(runtime.handle(), listener, Arc::clone(&doors));
    }
    let banner = banner(loaded, &node, ground.me, &addresses);
    let _ = std::io::stdout().write_all(banner.as_bytes());
    tracing::info!(instance = %ground.me, "node is up");
    let code = tokio::select! {
        biased;
        _ = terminated.recv() => EXIT_DONE,
        _ = interrupted.recv() => EXIT_DONE,
        () = node.poisoned() => EXIT_FAILED,
    };
    tracing::info!(code, "node drains");
    tokio::select! {
        biased;
        () = node.drain(DRAIN_PATIENCE) => {}
        () = pause(DRAIN_PATIENCE + Duration::from_millis(500)) => {
            tracing::warn!("actors did not end in time");
        }
        // Told twice: now.
        _ = interrupted.recv() => {}
    }
    tracing::info!("node has ended");
    Ok(code)
}

fn node_parts(
    loaded: &Loaded,
    ground: &Ground,
    runtime: &Runtime,
    clock: Clock,
    tickets: Arc<Tickets>,
) -> NodeParts {
    let store: Arc<dyn Store> = ground.store.clone();
    let media: Arc<dyn MediaPlane> = ground.media.clone();
    let handle = runtime.handle().clone();
    let env: Arc<dyn Env> = Arc::new(OsEnv::new(OsParts {
        clock,
        handle,
        store,
        media,
    }));
    let with = SiteKeys {
        keys: &ground.keys,
        lanes: ground.lanes,
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
    }
}

fn listen(loaded: &Loaded) -> Result<Vec<tokio::net::TcpListener>, Failure> {
    let bound = loaded.plan.http.iter().map(|(address, _)| {
        doors::listen(*address)
            .map_err(|error| refusal(loaded, "http.listen", address, &error.to_string()))
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

/// Names under which the API may be asked: the node's, and those the operator gave.
fn host_names(loaded: &Loaded) -> Vec<String> {
    let mut hosts = loaded.config.http.hosts.clone();
    hosts.push(loaded.config.node.name.clone());
    hosts
}

/// Where to look, and one line to try each (`interfaces.md` §1).
fn banner(loaded: &Loaded, node: &Node<AnyCore>, me: NodeInst, http: &[SocketAddr]) -> String {
    let mut text = format!(
        "Weft {} - node {} ({me})\n",
        env!("CARGO_PKG_VERSION"),
        loaded.config.node.name
    );
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "  {label:<10}{value}");
    };
    let urls: Vec<String> = http
        .iter()
        .map(|address| format!("http://{address}"))
        .collect();
    for url in &urls {
        line(
            "API",
            &format!("{url}/api/v1/nodes  /metrics  /healthz  /readyz"),
        );
    }
    let sip = loaded.plan.listeners.iter().zip(node.listeners());
    let sip: Vec<String> = sip
        .map(|(plan, bound)| format!("{} {bound}", plan.protocol.word()))
        .collect();
    line("SIP", &sip.join(", "));
    line("RTP", &format!("udp {}", loaded.config.media.rtp_ports));
    line(
        "Data",
        &format!("{} (admin.token is there)", loaded.plan.data.display()),
    );
    let demo = loaded
        .plan
        .passwords
        .iter()
        .zip(&loaded.config.user)
        .find(|(password, user)| {
            let known = format!("weft-{}", user.name);
            password
                .as_ref()
                .is_some_and(|password| password.expose() == known)
        });
    if demo.is_some() {
        let domain = loaded
            .config
            .domain
            .first()
            .map_or("", |domain| domain.name.as_str());
        let shown = "1000 ... 1019, password weft-1000 ... weft-1019, domain";
        line("Accounts", &format!("{shown} {domain} (demo)"));
        line("Call", "9196 echo, 9197 tone, 1000 ... 1019 each other");
    }
    if let Some(url) = urls.first() {
        line(
            "Try",
            &format!("curl {url}/api/v1/actors?kind=registration"),
        );
        line("", &format!("weft nodes --url {url}"));
        line("", &format!("weft actors --url {url}"));
    }
    line("End", "Ctrl-C");
    text
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
