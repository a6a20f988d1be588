//! The configuration: one typed [`Config`], read from layers, checked before anything starts.
//!
//! In: the embedded default, files, `--set`. Out: a [`Loaded`] configuration, or the file, key, value
//! and allowed range of what is wrong (exit code 2). To add a key: a field here, a line in
//! `schema.rs`, a documented line in `cluster-config/default.toml`; a test holds the three together.

mod address;
mod credential;
mod floating;
mod group;
mod hours;
mod initial;
mod overlay;
mod print;
mod route;
mod rules;
mod schema;
mod site;
#[cfg(test)]
mod tests;
mod web;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use contract::{FaultClass, Secret};
use serde::{Deserialize, Serialize};
use toml::Table;

pub use address::{Interfaces, Listen, Network, RtpPorts};
pub use credential::{SecretFileError, administrator_token, cluster_key, read_token};
pub use group::{Group, Order};
pub use hours::Hours;
pub use initial::{Initial, InitialError, initial};
pub use overlay::Origins;
pub use print::{defaults, effective, open};
pub use route::{Forward, Match, Route, RouteMedia, Step, Tone};
pub use rules::{ListenerPlan, Plan, Protocol};
pub use site::{SiteKeys, to_site};
pub use web::{HttpPlan, TlsPlan};

/// The embedded default: values, then the demo part.
pub const DEFAULT: &str = include_str!("../../../cluster-config/default.toml");

/// Name of the embedded default in refusals.
pub const DEFAULT_NAME: &str = "the built-in default";

/// Where the demo part begins.
const DEMO_MARK: &str = "#== demo";

/// The configuration of one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// Its cluster.
    pub cluster: Cluster,
    /// Sets of SIP listeners.
    #[serde(default)]
    pub profile: Vec<Profile>,
    /// The media plane.
    pub media: Media,
    /// The HTTP door.
    pub http: Http,
    /// Certificates.
    pub tls: Tls,
    /// Limits and timers.
    pub limits: Limits,
    /// The log.
    pub log: Log,
    /// Tenants; the first is the default one.
    #[serde(default)]
    pub domain: Vec<Domain>,
    /// Accounts.
    #[serde(default)]
    pub user: Vec<User>,
    /// Users who are called for one another.
    #[serde(default)]
    pub group: Vec<Group>,
    /// When somewhere is open.
    #[serde(default)]
    pub hours: Vec<Hours>,
    /// Routes, first match wins.
    #[serde(default)]
    pub route: Vec<Route>,
}

/// `[node]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: NodeNumber,
    /// Folder of its state.
    pub data: PathBuf,
    /// Public address where a profile says none.
    pub advertise: Option<String>,
}

/// `node.id`: a number, or `"auto"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NodeNumber {
    /// Said.
    Number(u16),
    /// `auto`: the number the name ends in, else 1.
    Word(String),
}

/// `[cluster]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Address of gossip and of connections between nodes; none: the node is alone.
    pub listen: Option<String>,
    /// Nodes to ask to be let in.
    pub seeds: Vec<String>,
    /// Where the node stands.
    pub zone: String,
    /// File of the cluster's secret, from the data folder.
    pub secret_file: PathBuf,
    /// How many nodes hold a record.
    pub replicas: u8,
    /// `available` or `strict`.
    pub commit: String,
    /// `registrations` or `off`.
    pub rebalance: String,
    /// The newest schema that the node writes; none: the newest it knows.
    pub schema: Option<u16>,
    /// Addresses that move with the calls of a node.
    pub floating: Vec<FloatingEntry>,
}

/// One of `cluster.floating`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FloatingEntry {
    /// The address.
    pub address: IpAddr,
    /// Name of the node that has it as long as it is up.
    pub node: String,
    /// Program that moves it; none is needed where every node can bind it.
    #[serde(default)]
    pub hook: Option<PathBuf>,
}

/// `[[profile]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// UDP listeners.
    #[serde(default)]
    pub udp: Vec<String>,
    /// TCP listeners.
    #[serde(default)]
    pub tcp: Vec<String>,
    /// TLS listeners.
    #[serde(default)]
    pub tls: Vec<String>,
    /// WebSocket listeners.
    #[serde(default)]
    pub ws: Vec<String>,
    /// WebSocket listeners under TLS.
    #[serde(default)]
    pub wss: Vec<String>,
    /// `digest` or `none`.
    #[serde(default)]
    pub auth: Auth,
    /// Algorithms of challenges, in order; empty: MD5.
    #[serde(default)]
    pub digest: Vec<String>,
    /// Media may come from any source in its first 5 s.
    #[serde(default)]
    pub nat: bool,
    /// Networks that may send here; empty: all.
    #[serde(default)]
    pub acl: Vec<String>,
    /// Address of Via and Contact.
    pub advertise: Option<String>,
    /// Address of SDP.
    pub rtp_advertise: Option<String>,
    /// Code point that packets of signalling are marked with.
    #[serde(default = "signalling_dscp")]
    pub dscp: u8,
}

/// CS3, what phones mark their signalling with.
const fn signalling_dscp() -> u8 {
    24
}

/// `profile.auth`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Digest access authentication.
    #[default]
    Digest,
    /// Not at all.
    None,
}

/// `[media]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Media {
    /// Ports of plain RTP legs.
    pub rtp_ports: String,
    /// First port of WebRTC media; 0: any that is free.
    pub webrtc_port: u16,
    /// Code point that packets of media are marked with.
    pub dscp: u8,
    /// Threads; 0: one a processor.
    pub workers: u16,
    /// Silence that ends a call, in seconds.
    pub rtp_timeout_s: u64,
    /// The same on hold, in seconds.
    pub rtp_hold_timeout_s: u64,
    /// Codecs offered, best first.
    pub codecs: Vec<String>,
    /// Suites of SRTP, best first.
    pub srtp: Vec<String>,
}

/// `[http]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Listeners.
    pub listen: Vec<String>,
    /// Listeners under TLS.
    pub tls: Vec<String>,
    /// Host names it answers to, besides its own.
    pub hosts: Vec<String>,
    /// Origins of pages that may ask, besides its own.
    pub origins: Vec<String>,
    /// Networks of proxies whose word about their clients' addresses is taken.
    pub trusted_proxies: Vec<String>,
    /// SIP over WebSocket only with its subprotocol.
    pub require_sip_subprotocol: bool,
}

/// `[tls]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// File of the certificate and its chain; a self-signed one if it says none.
    pub certificate: Option<PathBuf>,
    /// File of its key.
    pub key: Option<PathBuf>,
    /// Checks whom a TLS connection of ours leads to.
    pub verify_peers: bool,
    /// File of the certificates that may have signed a peer's.
    pub authorities: Option<PathBuf>,
}

/// `[limits]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Calls of this node at a time.
    pub calls: u32,
    /// Longest ringing, in seconds.
    pub ring_timeout_s: u64,
    /// Longest call, in seconds; 0 without limit.
    pub call_max_s: u64,
    /// Longest parking, in seconds.
    pub park_timeout_s: u64,
    /// Shortest expiry granted, in seconds.
    pub expires_min_s: u64,
    /// Expiry if none is asked for, in seconds.
    pub expires_default_s: u64,
    /// Longest expiry granted, in seconds.
    pub expires_max_s: u64,
}

/// `[log]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Level or filter.
    pub level: String,
    /// Form of a line.
    pub format: LogFormat,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// `[[domain]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// What it may use.
    #[serde(default)]
    pub limits: DomainLimits,
}

/// `domain.limits`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainLimits {
    /// Calls at a time; 0 without limit.
    pub calls: u32,
}

/// `[[user]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// User part of its address of record.
    pub name: String,
    /// Its domain; the first one if it says none.
    pub domain: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// File of the password.
    pub password_file: Option<PathBuf>,
    /// Hash of name, realm and password.
    pub ha1: Option<Secret>,
    /// Shown to callees.
    pub display: Option<String>,
    /// Phones at a time.
    #[serde(default = "max_contacts")]
    pub max_contacts: usize,
    /// How its media is protected.
    #[serde(default)]
    pub media: UserMedia,
    /// Codecs offered to it, best first; `media.codecs` if it says none.
    pub codecs: Option<Vec<String>>,
}

/// `user.media`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserMedia {
    /// As the phone offers, or as its transport suggests.
    #[default]
    Auto,
    /// Plain RTP.
    Rtp,
    /// SRTP with keys in SDP.
    Sdes,
    /// SRTP with keys of DTLS, and ICE.
    Webrtc,
}

const fn max_contacts() -> usize {
    contract::limits::BINDINGS_PER_AOR
}

/// Why the configuration is refused: always the operator's input.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{file}: {why}")]
    File {
        /// The file.
        file: String,
        /// What the system said.
        why: String,
    },
    /// A file is no TOML.
    #[error("{file}: {why}")]
    Syntax {
        /// The file.
        file: String,
        /// What and where, as the reader of TOML says it.
        why: String,
    },
    /// A key that there is not.
    #[error("{file}: unknown key `{key}`; allowed: {allowed}")]
    UnknownKey {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// The keys there are in its place.
        allowed: String,
    },
    /// A value that is not allowed.
    #[error("{file}: `{key}` = {value} is not allowed; allowed: {allowed}")]
    Value {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The range, or what would be right.
        allowed: String,
    },
}

impl Config {
    /// Returns the domain that a user, a route or a group is of: the one it says, or the first one.
    fn domain_name(&self, said: Option<&str>) -> String {
        let first = self.domain.first();
        let first = first.map_or("", |domain| domain.name.as_str());
        said.unwrap_or(first).to_ascii_lowercase()
    }
}

impl ConfigError {
    /// Tells whose fault it is.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Config
    }
}

/// What to load.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Files, later ones over earlier ones.
    pub files: Vec<PathBuf>,
    /// The demo part also with files.
    pub demo: bool,
    /// `key=value`, over all files.
    pub sets: Vec<String>,
}

/// A configuration that has been read, with what is needed to name what is wrong in it.
#[derive(Debug)]
pub struct Loaded {
    /// The typed form.
    pub config: Config,
    /// The same as TOML, for printing.
    pub table: Table,
    /// Which layer said what.
    pub origins: Origins,
    /// What it makes the node do: listeners, folders, numbers.
    pub plan: Plan,
}

/// Splits the embedded default into values and demo.
#[must_use]
pub(crate) fn default_parts() -> (&'static str, &'static str) {
    let at = DEFAULT
        .find(DEMO_MARK)
        .expect("the embedded default has a demo part");
    DEFAULT.split_at(at)
}

/// Reads, lays over one another and checks.
///
/// # Errors
/// The first thing that is wrong.
pub fn load(sources: &Sources, interfaces: &Interfaces) -> Result<Loaded, ConfigError> {
    let (table, origins) = read_layers(sources)?;
    let config = typed(&table, &origins)?;
    let plan = rules::check(&config, &origins, interfaces)?;
    Ok(Loaded {
        config,
        table,
        origins,
        plan,
    })
}

fn read_layers(sources: &Sources) -> Result<(Table, Origins), ConfigError> {
    let mut table = Table::new();
    let mut origins = Origins::default();
    let (values, demo) = default_parts();
    overlay::lay(
        &mut table,
        parse(values, DEFAULT_NAME)?,
        DEFAULT_NAME,
        &mut origins,
    )?;
    if sources.demo || sources.files.is_empty() {
        overlay::lay(
            &mut table,
            parse(demo, DEFAULT_NAME)?,
            DEFAULT_NAME,
            &mut origins,
        )?;
    }
    for path in &sources.files {
        let file = path.display().to_string();
        overlay::lay(&mut table, read_file(path)?, &file, &mut origins)?;
    }
    for text in &sources.sets {
        overlay::lay(&mut table, overlay::read_set(text)?, "--set", &mut origins)?;
    }
    Ok((table, origins))
}

fn parse(text: &str, file: &str) -> Result<Table, ConfigError> {
    text.parse()
        .map_err(|error: toml::de::Error| ConfigError::Syntax {
            file: file.to_owned(),
            why: error.message().to_owned() + &line_of(text, error.span()),
        })
}

/// The reader's own message quotes the line, which may hold a password: the number must do.
fn line_of(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let Some(before) = span.and_then(|span| text.get(..span.start)) else {
        return String::new();
    };
    format!(" (line {})", before.matches('\n').count() + 1)
}

fn read_file(path: &Path) -> Result<Table, ConfigError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File {
        file: file.clone(),
        why: error.to_string(),
    })?;
    parse(&text, &file)
}

fn typed(table: &Table, origins: &Origins) -> Result<Config, ConfigError> {
    // Ranges and names are checked by now; what may still be missing are required keys of entries.
    for (list, wanted) in [("route", ["match", "do"])] {
        let entries = table.get(list).and_then(toml::Value::as_array);
        for entry in entries.into_iter().flatten() {
            let name = entry
                .get("name")
                .and_then(toml::Value::as_str)
                .unwrap_or_default();
            if let Some(missing) = wanted.iter().find(|key| entry.get(**key).is_none()) {
                return Err(ConfigError::Value {
                    file: origins.file(&format!("{list}.{name}")).to_owned(),
                    key: format!("{list}.{name}.{missing}"),
                    value: "(nothing)".to_owned(),
                    allowed: "it must be set".to_owned(),
                });
            }
        }
    }
    table
        .clone()
        .try_into()
        .map_err(|error: toml::de::Error| ConfigError::Syntax {
            file: "the configuration".to_owned(),
            why: error.message().to_owned(),
        })
}
