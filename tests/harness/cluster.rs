//! Three nodes of one cluster, each with a loopback address of its own for SIP and RTP.
//!
//! In: nothing, or what each node is told besides. Out: nodes that know each other; what all of them
//! say together.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::bridge::Bridge;
use crate::node::{Node, Setup};
use crate::ports::free_port;
use crate::wait::{self, PATIENCE};

/// Names of the nodes.
pub const NAMES: [&str; 3] = ["weft-1", "weft-2", "weft-3"];

/// Three nodes, all with the first one as their seed.
#[derive(Debug)]
pub struct Three {
    /// `weft-1` on 127.0.0.1 to `weft-3` on 127.0.0.3.
    pub nodes: Vec<Node>,
    /// Folder of the secret.
    pub folder: PathBuf,
    /// Address of the first one for the others.
    pub seed: SocketAddr,
    /// Floating addresses, that of the first node first.
    floating: Vec<Ipv4Addr>,
    /// Namespaces that they run in; after the nodes, which go first.
    pub bridge: Option<Bridge>,
}

/// Writes a secret that only its owner can read.
///
/// # Panics
/// If it cannot.
#[must_use]
pub fn secret(folder: &Path, name: &str, octet: u8) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, [octet; 32]).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("mode");
    file
}

/// Returns an address for nodes to reach each other at.
#[must_use]
pub fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// Starts a node of a cluster, its SIP and RTP on 127.0.0.`host`.
#[must_use]
pub fn start(name: &str, host: u8, listen: SocketAddr, seed: SocketAddr, secret: &Path) -> Node {
    start_with(name, host, (listen, seed), secret, &More::default())
}

/// What nodes are told besides.
#[derive(Debug, Default)]
struct More<'a> {
    /// Tables before `[cluster]`.
    tables: &'a str,
    /// More keys of `[cluster]`.
    cluster: &'a str,
    /// Port of SIP, the same for all.
    sip_port: Option<u16>,
    /// How many, if not all three.
    count: Option<u8>,
    /// Namespaces, one a node; otherwise the loopback.
    bridge: Option<&'a Bridge>,
}

fn start_with(
    name: &str,
    host: u8,
    (listen, seed): (SocketAddr, SocketAddr),
    secret: &Path,
    more: &More<'_>,
) -> Node {
    let secret = secret.display();
    let (tables, keys) = (more.tables, more.cluster);
    let extra = format!(
        "{tables}[cluster]\nlisten = \"{listen}\"\nseeds = [\"{seed}\"]\nzone = \"east\"\n\
         secret_file = \"{secret}\"\n{keys}"
    );
    let place = more.bridge.map(|bridge| {
        let at = host - 1;
        let acl = format!("acl = [\"{}\"]\n", bridge.network());
        (bridge.at(at), bridge.namespace(at), acl)
    });
    let (ip, namespace, profile) = match &place {
        Some((ip, namespace, acl)) => (*ip, Some(namespace.as_str()), acl.as_str()),
        None => (Ipv4Addr::new(127, 0, 0, host), None, ""),
    };
    Node::set_up(&Setup {
        name,
        ip,
        sip_port: more.sip_port,
        namespace,
        profile,
        extra: &extra,
        ..Setup::default()
    })
}

impl Default for Three {
    fn default() -> Self {
        Three::start()
    }
}

impl Three {
    /// Starts them and waits until they know each other.
    ///
    /// # Panics
    /// If they do not.
    #[must_use]
    pub fn start() -> Three {
        Three::start_with("")
    }

    /// The same with more tables of the configuration.
    ///
    /// # Panics
    /// If they do not.
    #[must_use]
    pub fn start_with(tables: &str) -> Three {
        Three::told(&More {
            tables,
            ..More::default()
        })
    }

    /// The same with more keys of `[cluster]`.
    ///
    /// # Panics
    /// If they do not.
    #[must_use]
    pub fn start_as(tables: &str, cluster: &str) -> Three {
        Three::told(&More {
            tables,
            cluster,
            ..More::default()
        })
    }

    /// The same with a floating address for each: 127.0.0.11 of `weft-1` to 127.0.0.13 of `weft-3`, with
    /// SIP at the same port on every node, and a hook if one is given.
    ///
    /// # Panics
    /// If an address does not come to its home.
    #[must_use]
    pub fn start_floating(hook: Option<&Path>) -> Three {
        let floating: Vec<Ipv4Addr> = (11..14)
            .map(|host| Ipv4Addr::new(127, 0, 0, host))
            .collect();
        let cluster = floating_rows(&floating, hook);
        let mut three = Three::told(&More {
            cluster: &cluster,
            sip_port: Some(free_port()),
            ..More::default()
        });
        three.floating = floating;
        three.all_say_addresses(|at| at);
        three
    }

    /// Starts the first two of them, or all, in namespaces of their own on a bridge, which can be parted
    /// from each other; `None`, said on the standard output, if this process may not.
    #[must_use]
    pub fn start_parted(count: u8) -> Option<Three> {
        let bridge = Bridge::new(count)?;
        let mut three = Three::told(&More {
            count: Some(count),
            sip_port: Some(free_port()),
            bridge: Some(&bridge),
            ..More::default()
        });
        three.bridge = Some(bridge);
        Some(three)
    }

    /// Starts them in namespaces of their own on a bridge, with a floating address each and a hook that
    /// moves it if `floats`; `None`, said on the standard output, if this process may not.
    ///
    /// # Panics
    /// If an address does not come to its home.
    #[must_use]
    pub fn start_apart(floats: bool) -> Option<Three> {
        Three::start_apart_with(3, floats, "")
    }

    /// The same with so many namespaces, the first three for the nodes, and more tables.
    ///
    /// # Panics
    /// If an address does not come to its home.
    #[must_use]
    pub fn start_apart_with(spaces: u8, floats: bool, tables: &str) -> Option<Three> {
        let bridge = Bridge::new(spaces)?;
        let folder = std::env::temp_dir().join(format!("weft-hook-{}", free_port()));
        fs::create_dir_all(&folder).expect("a folder");
        let hook = bridge.hook(&folder);
        let floating: Vec<Ipv4Addr> = (0..3).map(|at| bridge.floating(at)).collect();
        let cluster = if floats {
            floating_rows(&floating, Some(&hook))
        } else {
            String::new()
        };
        let mut three = Three::told(&More {
            tables,
            cluster: &cluster,
            sip_port: Some(free_port()),
            bridge: Some(&bridge),
            ..More::default()
        });
        three.floating = floating;
        three.bridge = Some(bridge);
        if floats {
            three.all_say_addresses(|at| at);
        }
        Some(three)
    }

    /// Returns where SIP is at the floating address of a node.
    #[must_use]
    pub fn floating(&self, at: usize) -> SocketAddr {
        SocketAddr::from((self.floating[at], self.nodes[0].sip.port()))
    }

    /// Waits until every node that is `up` says which one has each address.
    ///
    /// # Panics
    /// If it does not come to that.
    pub fn all_say_addresses(&self, holder: impl Fn(usize) -> usize) {
        for at in 0..3 {
            for address in 0..3 {
                self.address_is_at(address, holder(address), at);
            }
        }
    }

    /// Waits until a node says which one has an address.
    ///
    /// # Panics
    /// If it does not come to that.
    pub fn address_is_at(&self, address: usize, holder: usize, asked: usize) {
        let wanted = format!("{}.", holder + 1);
        let ip = self.floating(address).ip().to_string();
        wait::until_or(
            "an address at its node",
            PATIENCE,
            || {
                let said = self.holders(asked);
                let is_it = said
                    .iter()
                    .any(|(of, life)| *of == ip && life.starts_with(&wanted));
                if is_it { Ok(()) } else { Err(said) }
            },
            |said| format!("{ip} at {holder}: {said:?}; logs: {:?}", self.logs()),
        );
    }

    /// Returns which life of which node has each address, as a node says.
    #[must_use]
    pub fn holders(&self, asked: usize) -> Vec<(String, String)> {
        let path = format!("/api/v1/actors/member:{}", asked + 1);
        let view = self.nodes[asked].get(&path);
        let rows = view["snapshot"]["addresses"].as_array();
        let row = |row: &Value| {
            let life = &row[1];
            let number = |key: &str| life[key].as_u64().unwrap_or_default();
            let text = format!("{}.{}", number("node"), number("boot"));
            (row[0].as_str().unwrap_or_default().to_owned(), text)
        };
        rows.map(|rows| rows.iter().map(row).collect())
            .unwrap_or_default()
    }

    fn told(more: &More<'_>) -> Three {
        let folder = std::env::temp_dir().join(format!("weft-cluster-{}", free_port()));
        fs::create_dir_all(&folder).expect("a folder");
        let file = secret(&folder, "cluster.key", 7);
        let mut seed = free_address();
        let mut nodes = Vec::new();
        for (host, name) in (1..=more.count.unwrap_or(3)).zip(NAMES) {
            let mut listen = if host == 1 { seed } else { free_address() };
            if let Some(bridge) = more.bridge {
                listen.set_ip(bridge.at(host - 1).into());
                seed.set_ip(bridge.at(0).into());
            }
            nodes.push(start_with(name, host, (listen, seed), &file, more));
        }
        let three = Three {
            nodes,
            folder,
            seed,
            floating: Vec::new(),
            bridge: None,
        };
        three.all_see_all();
        three
    }

    /// Waits until each node says that all are up.
    ///
    /// # Panics
    /// If one does not.
    pub fn all_see_all(&self) {
        for node in &self.nodes {
            sees(node, &NAMES[..self.nodes.len()]);
        }
    }

    /// Returns the number of the node of a name.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn at(&self, name: &str) -> usize {
        let found = NAMES.iter().position(|one| *one == name);
        found.unwrap_or_else(|| panic!("no node {name:?}"))
    }

    /// Kills a node and returns how long it took until both others had noticed, as they log. Who asks
    /// the API meanwhile waits a second for the answer of the node that is gone.
    pub fn kill(&mut self, at: usize) -> Duration {
        let killed = SystemTime::now();
        self.nodes[at].kill();
        self.others_see_it_gone(at);
        let noticed = wait::until("their logs", PATIENCE, || self.noticed(at, killed));
        noticed.into_iter().max().unwrap_or_default()
    }

    /// Returns how long after `killed` each of the others noted that a node is down, if all have.
    #[must_use]
    pub fn noticed(&self, at: usize, killed: SystemTime) -> Option<Vec<Duration>> {
        let killed_ms = killed.duration_since(UNIX_EPOCH).unwrap_or_default();
        let killed_ms = u64::try_from(killed_ms.as_millis()).unwrap_or_default();
        let life = format!("\"life\":\"{}.", at + 1);
        let noted = |log: &str| {
            let lines = log.lines();
            let downs = lines.filter(|line| line.contains("\"a node is down\""));
            let mut of_it = downs.filter(|line| line.contains(&life));
            let after = of_it.find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                line["ts_ms"].as_u64()?.checked_sub(killed_ms)
            });
            after.map(Duration::from_millis)
        };
        self.others(at).map(|node| noted(&node.log())).collect()
    }

    /// Waits until the others say that a node is gone.
    ///
    /// # Panics
    /// If they do not.
    pub fn others_see_it_gone(&self, at: usize) {
        let left: Vec<_> = NAMES[..self.nodes.len()]
            .iter()
            .copied()
            .filter(|name| *name != NAMES[at])
            .collect();
        for other in self.others(at) {
            sees(other, &left);
        }
    }

    /// Starts a killed node again and waits until it knows the others and they know it.
    ///
    /// # Panics
    /// If they do not.
    pub fn start_again(&mut self, at: usize) {
        self.nodes[at].start_again();
        self.nodes[at].wait_ready();
        self.all_see_all();
    }

    /// Returns the nodes but one.
    pub fn others(&self, at: usize) -> impl Iterator<Item = &Node> + Clone {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .filter(move |(number, _)| *number != at)
            .map(|(_, node)| node)
    }

    /// Waits until `nodes` all say the same of actors of a kind, and `accepts` it; returns the rows.
    ///
    /// # Panics
    /// If it does not come to that.
    pub fn agree<'a>(
        &self,
        nodes: impl Iterator<Item = &'a Node> + Clone,
        kind: &str,
        accepts: impl Fn(&[Value]) -> bool,
    ) -> Vec<Value> {
        wait::until_or(
            &format!("nodes that say the same of each {kind}"),
            PATIENCE,
            || {
                let said: Vec<_> = nodes.clone().map(|node| node.actors(kind)).collect();
                let is_same = said.iter().all(|one| brief(one) == brief(&said[0]));
                if is_same && accepts(&said[0]) {
                    Ok(said[0].clone())
                } else {
                    Err(said)
                }
            },
            |said| format!("{said:#?}\nlogs: {:?}", self.logs()),
        )
    }

    /// Waits until no node knows a call any more.
    ///
    /// # Panics
    /// If one is left.
    pub fn no_calls_left(&self) {
        for kind in ["call", "dialog", "media_leg"] {
            self.agree(self.nodes.iter(), kind, <[Value]>::is_empty);
        }
    }

    /// Returns the records of ended calls that all nodes have written.
    #[must_use]
    pub fn call_records(&self) -> Vec<Value> {
        self.nodes.iter().flat_map(Node::call_records).collect()
    }

    /// No node has logged an error.
    ///
    /// # Panics
    /// If one has.
    pub fn no_errors(&self) {
        for node in &self.nodes {
            let log = node.log();
            let errors: Vec<_> = log
                .lines()
                .filter(|line| line.contains("\"ERROR\""))
                .collect();
            assert!(errors.is_empty(), "{errors:#?}");
        }
    }

    /// Returns where the nodes log to.
    #[must_use]
    pub fn logs(&self) -> Vec<PathBuf> {
        self.nodes
            .iter()
            .map(|node| node.folder.join("log"))
            .collect()
    }
}

impl Drop for Three {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn floating_rows(addresses: &[Ipv4Addr], hook: Option<&Path>) -> String {
    let hook = hook.map_or_else(String::new, |hook| {
        format!(", hook = \"{}\"", hook.display())
    });
    let rows = addresses.iter().zip(NAMES);
    let rows: Vec<_> = rows
        .map(|(ip, name)| format!("{{ address = \"{ip}\", node = \"{name}\"{hook} }}"))
        .collect();
    format!("floating = [{}]\n", rows.join(", "))
}

/// What nodes must agree on: who is there, and where.
fn brief(rows: &[Value]) -> BTreeSet<(String, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    rows.iter()
        .map(|row| (text(row, "id"), text(row, "node")))
        .collect()
}

/// Returns names and states of the nodes as one of them answers.
fn nodes_of(node: &Node) -> Vec<(String, String)> {
    let answer = node.get("/api/v1/nodes");
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    let text = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
    items
        .iter()
        .map(|item| (text(item, "name"), text(item, "state")))
        .collect()
}

/// Waits until a node says that these are there and up, and no others.
///
/// # Panics
/// If it does not.
pub fn sees(node: &Node, names: &[&str]) {
    wait::until_or(
        "the nodes of the cluster",
        PATIENCE,
        || {
            let seen = nodes_of(node);
            let is_it = seen.len() == names.len()
                && seen
                    .iter()
                    .zip(names)
                    .all(|((name, state), wanted)| name == wanted && state == "up");
            if is_it { Ok(()) } else { Err(seen) }
        },
        |seen| format!("{seen:?}\n{}", node.log()),
    );
}
