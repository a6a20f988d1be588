//! One life of the simulated node: the node as it ships, on the simulator's `Env`.
//!
//! In: the world, a disk, the cluster's keys. Out: a running node. Its roster is the real one
//! behind `sabotage.rs`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::phone::{SDES_AT, SDES_EVERY};
use actors::Site;
use actors::console::{Page, Request};
use actors::registration::settings::{Change, DiversionReason};
use actors::site::{
    Account, Auth, Cluster, Credential, Domain, Group, GroupOrder, Limits, Listener, MediaPolicy,
    Route, Step,
};
use cluster::{Cursor, Item};
use contract::Env;
use contract::{
    ActorRow, FabricKeys, Kind, Member, NodeId, NodeInst, SchemaVersion, Secret, SideKey,
    SrtpProfile, Time,
};
use regex::Regex;
use runtime::Balance;
use weft::doors::{ConsoleDoor, Tickets};
use weft::node::{Node, NodeParts};

use crate::env::SimEnv;
use crate::sabotage::Saboteur;
use crate::store::SimStore;
use crate::world::World;

/// Where a node listens for datagrams and streams; `number` counts from 1 on.
#[must_use]
pub fn sip_address(number: u16) -> SocketAddr {
    SocketAddr::from((host(number), 5_060))
}

/// Where it takes WebSockets.
#[must_use]
pub fn web_address(number: u16) -> SocketAddr {
    SocketAddr::from((host(number), 5_066))
}

/// Where other nodes reach it.
#[must_use]
pub fn cluster_address(number: u16) -> SocketAddr {
    SocketAddr::from((host(number), 7_946))
}

/// Returns the number of the node that has an address.
#[must_use]
pub fn number_of(host: IpAddr) -> Option<u16> {
    match host {
        IpAddr::V4(host) => {
            let [_, _, high, low] = host.octets();
            Some(u16::from_be_bytes([high, low]))
        }
        IpAddr::V6(_) => None,
    }
}

fn host(number: u16) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    [10, 0, high, low]
}

/// Which node of how many is started, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// Its number, from 1 on.
    pub number: u16,
    /// Nodes of the cluster; 1: it is alone.
    pub nodes: u16,
    /// Phones of every make use it.
    pub mixed: bool,
    /// Accounts there are.
    pub users: u32,
    /// The newest schema that its release knows.
    pub schema: SchemaVersion,
}

/// Lanes: more than one, so that what lanes tell each other is exercised.
const LANES: u16 = 3;
/// Phones are few, and a run is short.
const BALANCE_EVERY: Duration = Duration::from_secs(2);

/// A running node.
pub struct SimNode {
    me: NodeInst,
    env: Arc<SimEnv>,
    node: Arc<Node<Saboteur>>,
}

impl std::fmt::Debug for SimNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimNode")
    }
}

impl SimNode {
    /// Starts the node on a disk.
    ///
    /// # Panics
    /// If it does not start: nothing in a simulated world forbids it.
    pub async fn start(
        world: &Arc<World>,
        disk: &Arc<SimStore>,
        keys: &FabricKeys,
        role: Role,
    ) -> SimNode {
        let id = NodeId(role.number);
        let address = (role.nodes > 1).then(|| cluster_address(role.number));
        let env = SimEnv::begin(world, id, disk, address);
        let me = NodeInst {
            node: id,
            boot: env.store().boot(),
        };
        let parts = NodeParts {
            env: Arc::clone(&env) as Arc<dyn Env>,
            site: site(keys, role, me),
            acl: Vec::new(),
            me,
            version: "sim".to_owned(),
            tickets: Arc::new(Tickets::default()),
            balance: (role.nodes > 1).then_some(Balance {
                every: BALANCE_EVERY,
                least: 1,
            }),
            addresses: std::collections::BTreeMap::new(),
        };
        let node = Node::start(parts).await.expect("a simulated node starts");
        SimNode { me, env, node }
    }

    /// Tells whether it is of no cluster.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.env.peers_model().is_none()
    }

    /// Returns which life of which node it is.
    #[must_use]
    pub const fn life(&self) -> NodeInst {
        self.me
    }

    /// Returns the cluster as it sees it.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.node.fabric().members()
    }

    /// Tells whether it is connected with a life of another node.
    #[must_use]
    pub fn is_connected(&self, other: NodeInst) -> bool {
        let peers = self.env.peers_model();
        peers.is_some_and(|peers| peers.is_connected(other))
    }

    /// Lets nothing happen in its process until a time.
    pub fn stall(&self, until: Time) {
        self.env.stall(until);
    }

    /// Asks its console for the nodes; false if it does not listen.
    #[must_use]
    pub fn ask_nodes(&self, ticket: u64) -> bool {
        self.node.ask(ticket, Request::Nodes)
    }

    /// Ends the node as `kill -9` does.
    pub fn crash(self) {
        self.env.crash();
        self.node.kill();
    }

    /// Tells whether it says of itself that its store lacks something.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.node.fabric().is_quarantined()
    }

    /// Reads all that its event log has behind a cursor.
    #[must_use]
    pub fn events(&self, cursor: &mut Cursor) -> Vec<Item> {
        let mut items = Vec::new();
        loop {
            let seen = self.node.fabric().read_events(cursor, |_| true);
            items.extend(seen.items.into_iter().map(|(item, _)| item));
            if !seen.has_more {
                return items;
            }
        }
    }

    /// Returns a row for each actor.
    #[must_use]
    pub fn rows(&self) -> Vec<ActorRow> {
        self.node.fabric().rows(None)
    }

    /// Returns a row for each actor that has an inbox.
    #[must_use]
    pub fn tabled_rows(&self) -> Vec<ActorRow> {
        self.node.fabric().tabled_rows(None)
    }

    /// Asks the console something, a different thing for each number; tells whether it listens.
    pub fn ask_console(&self, number: u64) -> bool {
        let page = Page {
            offset: 0,
            limit: 50,
        };
        self.node.ask(number, self.question(number, page))
    }

    fn question(&self, number: u64, page: Page) -> Request {
        let contains = number.is_multiple_of(3).then(|| "10".to_owned());
        let rows = match number % 10 {
            0..=3 | 5 => Vec::new(),
            _ => self.rows(),
        };
        let some = usize::try_from(number / 10).unwrap_or(0) % rows.len().max(1);
        let id = rows.get(some).map(|row| row.id.clone());
        match (number % 10, id) {
            (1, _) => Request::Calls { contains, page },
            (2, _) => Request::Registrations { contains, page },
            (3, _) => Request::User {
                dn: format!("10{:02}", number % 12),
            },
            (4, _) => Request::Actors {
                kind: Some(Kind::ALL[some % Kind::ALL.len()]),
                node: None,
                contains,
                page,
            },
            (5, _) => Request::Actors {
                kind: None,
                node: Some("sim".to_owned()),
                contains,
                page: Page { offset: 5, ..page },
            },
            (6, Some(id)) => Request::Inspect { id },
            (7, Some(id)) => Request::Trace { id },
            (8, Some(id)) => Request::Move {
                id,
                // One of the first three nodes; alone, nobody.
                to: format!("sim-{}", 1 + number / 10 % 3),
                epoch: None,
            },
            (9, Some(id)) => Request::Stop {
                id,
                // No epoch of ours is so high: refused.
                epoch: Some(1 << 40),
            },
            _ => Request::Nodes,
        }
    }

    /// Returns the media legs with open ports.
    #[must_use]
    pub fn open_legs(&self) -> Vec<SideKey> {
        self.env.media_model().open_legs()
    }

    /// Requires that the listing of live actors is ractor's own supervision tree.
    pub fn check_tree(&self, world: &Arc<World>) {
        let listed: BTreeMap<_, _> = self
            .tabled_rows()
            .into_iter()
            .filter(|row| row.live)
            .map(|row| (row.id.to_string(), row.parent))
            .collect();
        let tree: BTreeMap<_, _> = self
            .node
            .fabric()
            .tree()
            .into_iter()
            .filter(|(child, _)| !child.ends_with(" supervisor"))
            .collect();
        if listed != tree {
            world.broken("tree", format!("listed {listed:?}, ractor has {tree:?}"));
        }
    }
}

fn site(keys: &FabricKeys, role: Role, me: NodeInst) -> Site {
    let (local, web) = (sip_address(role.number), web_address(role.number));
    let listener = |transport, local: SocketAddr| Listener {
        profile: "internal".into(),
        transport,
        local,
        advertise: local,
        rtp_local: local.ip(),
        rtp_advertise: local.ip(),
        auth: Auth::Digest,
        digest: vec![sip::digest::Algorithm::Md5],
        nat: false,
        floating: None,
    };
    let hex = keys
        .nonces()
        .iter()
        .fold(String::new(), |hex, octet| format!("{hex}{octet:02x}"));
    Site {
        node: me.node,
        name: if role.nodes == 1 {
            "sim".to_owned()
        } else {
            format!("sim-{}", role.number)
        },
        product: "Weft".to_owned(),
        ids: keys.ids(),
        tokens: keys.tokens(),
        nonce_key: Secret::new(hex),
        media_fingerprint: crate::media::FINGERPRINT.to_owned(),
        cluster: cluster(role, me),
        lanes: LANES,
        listeners: vec![
            listener(rsip::Transport::Udp, local),
            listener(rsip::Transport::Tcp, local),
            listener(rsip::Transport::Ws, web),
        ],
        domains: vec![domain(role.mixed, role.users)],
        limits: Limits {
            calls_max: 1_000,
            ring_timeout: Duration::from_secs(30),
            call_max: Duration::from_secs(3_600),
            park_timeout: Duration::from_secs(10),
            rtp_timeout: Duration::from_secs(60),
            // A phone that hung up while the node was away is missed before the run ends.
            rtp_hold_timeout: Duration::from_secs(120),
            expires_min: Duration::from_secs(30),
            expires_default: Duration::from_secs(60),
            expires_max: Duration::from_secs(600),
            codecs: vec!["pcmu".to_owned(), "pcma".to_owned()],
            srtp: SrtpProfile::ALL.to_vec(),
        },
    }
}

/// The first two nodes are those that the others ask to be let in.
fn cluster(role: Role, me: NodeInst) -> Option<Cluster> {
    let seed = |number| {
        let address = cluster_address(number);
        (address.ip().to_string(), address.port())
    };
    (role.nodes > 1).then(|| Cluster {
        instance: me,
        address: cluster_address(role.number),
        seeds: vec![seed(1), seed(2)],
        zone: String::new(),
        replicas: 3,
        commit: cluster::CommitMode::Available,
        schema: role.schema,
        floating: Vec::new(),
    })
}

/// Numbers of groups: all at once, in turn, in an order that is drawn.
pub const GROUPS: [&str; 3] = ["2000", "2001", "2002"];

/// What picks up a call that rings somebody of one's own groups.
pub const PICK_UP: &str = "*8";

/// Places where calls are parked.
pub const PLACES: [&str; 3] = ["5901", "5902", "5903"];

fn pick_up(target: &str) -> Step {
    Step::PickUp {
        target: target.to_owned(),
    }
}

fn groups() -> BTreeMap<String, Group> {
    let orders = [GroupOrder::All, GroupOrder::InTurn, GroupOrder::Random];
    let group = |(number, order): (&str, GroupOrder)| {
        let group = Group {
            members: (1000..1006).map(|user| user.to_string()).collect(),
            order,
            ring_s: 5,
        };
        (number.to_owned(), group)
    };
    GROUPS.into_iter().zip(orders).map(group).collect()
}

fn domain(mixed: bool, users: u32) -> Domain {
    let account = |number: u32| {
        let is_sdes = mixed && (number - 1000) % SDES_EVERY == SDES_AT;
        let account = Account {
            display: None,
            credential: Credential::Password(Secret::new(format!("weft-{number}"))),
            max_contacts: 5,
            media: if is_sdes {
                MediaPolicy::Sdes
            } else {
                MediaPolicy::Auto
            },
            codecs: None,
        };
        (number.to_string(), account)
    };
    let route = |name: &str, pattern: &str, steps| Route {
        name: name.to_owned(),
        profile: None,
        destination: Regex::new(pattern).expect("a pattern"),
        hours: None,
        steps,
        bypass: false,
    };
    let tone = Step::Tone {
        hertz: 1_004,
        level_dbm0: -16,
    };
    let bridge = Step::Bridge {
        target: "user/$1".to_owned(),
    };
    Domain {
        name: "weft.test".to_owned(),
        users: (1000..1000 + users).map(account).collect(),
        routes: vec![
            route("echo", "^9196$", vec![Step::Answer, Step::Echo]),
            route("tone", "^9197$", vec![Step::Answer, tone]),
            route("users", r"^(1\d\d\d)$", vec![bridge]),
        ]
        .into_iter()
        .chain(feature_codes(route))
        .chain(GROUPS.map(|number| {
            let bridge = Step::Bridge {
                target: format!("group/{number}"),
            };
            route(number, &format!("^{number}$"), vec![bridge])
        }))
        .chain([
            route(PICK_UP, r"^\*8$", vec![pick_up("groups")]),
            route("pick-up-user", r"^\*\*(1\d\d\d)$", vec![pick_up("user/$1")]),
            route(
                "park",
                "^(590[1-3])$",
                vec![Step::Park {
                    place: "$1".to_owned(),
                }],
            ),
        ])
        .collect(),
        groups: groups(),
        calls_max: 0,
    }
}

/// The feature codes of the embedded default.
fn feature_codes(route: impl Fn(&str, &str, Vec<Step>) -> Route) -> impl Iterator<Item = Route> {
    let forward = |on, to: Option<&str>| Change::Divert {
        on,
        to: to.map(str::to_owned),
    };
    let codes = [
        (r"^\*78$", Change::DoNotDisturb(true)),
        (r"^\*79$", Change::DoNotDisturb(false)),
        (r"^\*72(\d+)$", forward(DiversionReason::Always, Some("$1"))),
        (r"^\*73$", forward(DiversionReason::Always, None)),
        (r"^\*90(\d+)$", forward(DiversionReason::Busy, Some("$1"))),
        (r"^\*91$", forward(DiversionReason::Busy, None)),
        (
            r"^\*52(\d+)$",
            forward(DiversionReason::NoAnswer, Some("$1")),
        ),
        (r"^\*53$", forward(DiversionReason::NoAnswer, None)),
        (
            r"^\*62(\d+)$",
            forward(DiversionReason::Unreachable, Some("$1")),
        ),
        (r"^\*63$", forward(DiversionReason::Unreachable, None)),
    ];
    codes.into_iter().map(move |(pattern, change)| {
        let change = Box::new(change);
        let (hertz, level_dbm0, for_ms) = (440, -13, 600);
        let tone = Step::Play {
            hertz,
            level_dbm0,
            for_ms,
        };
        let cause = "NORMAL_CLEARING".to_owned();
        let steps = vec![
            Step::Set { change },
            Step::Answer,
            tone,
            Step::Hangup { cause },
        ];
        route("code", pattern, steps)
    })
}
