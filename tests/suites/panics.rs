//! A panic in mid-call, on real sockets: the actor comes back from its part, the call goes on, and
//! nobody else is touched. The node is the real one; its roster is wrapped to panic on order.

#![allow(
    clippy::disallowed_methods,
    reason = "the test is the process around the node"
)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::site::{Account, Auth, Credential, Domain, Limits, Listener, Route, Step};
use actors::{AnyCore, Message, Site};
use bytes::Bytes;
use contract::core::{Ctx, Event, RestoreError, Rivals, Roster};
use contract::{
    ActorId, FabricKeys, FrameClass, Kind, NodeId, NodeInst, Now, SchemaVersion, Secret, Time,
};
use weft::doors::Tickets;
use weft::env_os::{Clock, OsEnv, OsParts};
use weft::media_plane::certificate::MediaCertificate;
use weft::media_plane::{MediaSettings, MediaWorkers};
use weft::node::{Node, NodeParts};
use weft::store_sled::{SledStore, StoreConfig};
use weft_tests::media::Pump;
use weft_tests::pair::{Pair, all_hear};
use weft_tests::phone::Phone;
use weft_tests::ports::{RtpRange, free_port};
use weft_tests::wait::{self, PATIENCE};

static ORDERED: Mutex<Option<Kind>> = Mutex::new(None);

struct Saboteur {
    kind: Kind,
    inner: AnyCore,
}

fn is_ordered(kind: Kind) -> bool {
    let mut ordered = ORDERED.lock().expect("no holder panics");
    let is_due = *ordered == Some(kind);
    if is_due {
        *ordered = None;
    }
    is_due
}

impl Roster for Saboteur {
    type Message = Message;
    type Site = Site;

    fn create(id: &ActorId, first: &Message, site: &Site) -> Option<Self> {
        let kind = id.kind();
        AnyCore::create(id, first, site).map(|inner| Saboteur { kind, inner })
    }

    fn create_system(id: &ActorId, site: &Site) -> Option<Self> {
        let kind = id.kind();
        AnyCore::create_system(id, site).map(|inner| Saboteur { kind, inner })
    }

    fn restore(id: &ActorId, bytes: &[u8], now: Now) -> Result<Self, RestoreError> {
        let kind = id.kind();
        AnyCore::restore(id, bytes, now).map(|inner| Saboteur { kind, inner })
    }

    fn merge(id: &ActorId, copies: &[Bytes], now: Now) -> Bytes {
        AnyCore::merge(id, copies, now)
    }

    fn follows_the_end(message: &Message) -> bool {
        AnyCore::follows_the_end(message)
    }

    fn bequeath(id: &ActorId, copies: &Rivals<'_>, now: Now) -> Option<Message> {
        AnyCore::bequeath(id, copies, now)
    }

    fn handle(&mut self, event: Event<Message, ()>, ctx: &mut Ctx<'_, Message, Site>) {
        let is_message = matches!(event, Event::Message { .. } | Event::Datagram { .. });
        self.inner.handle(event, ctx);
        assert!(
            !is_message || !is_ordered(self.kind),
            "ordered by the suite"
        );
    }

    fn next_deadline(&self) -> Option<Time> {
        self.inner.next_deadline()
    }

    fn snapshot(&self, now: Now, schema: SchemaVersion) -> Vec<u8> {
        self.inner.snapshot(now, schema)
    }

    fn view(&self, now: Now) -> serde_json::Value {
        self.inner.view(now)
    }

    fn state(&self) -> String {
        self.inner.state()
    }

    fn passivates_after(&self) -> Option<Duration> {
        self.inner.passivates_after()
    }

    fn describe(message: &Message) -> (String, usize) {
        AnyCore::describe(message)
    }

    fn is_new_work(message: &Message) -> bool {
        AnyCore::is_new_work(message)
    }

    fn frame_class(message: &Message) -> FrameClass {
        AnyCore::frame_class(message)
    }

    fn encode(message: &Message, schema: SchemaVersion) -> Vec<u8> {
        AnyCore::encode(message, schema)
    }

    fn decode(bytes: &[u8]) -> Option<Message> {
        AnyCore::decode(bytes)
    }
}

fn site(local: SocketAddr, keys: &FabricKeys) -> Site {
    let account = |number: u32| {
        let password = Secret::new(format!("weft-{number}"));
        let account = Account {
            display: None,
            credential: Credential::Password(password),
            max_contacts: 5,
            media: actors::site::MediaPolicy::Auto,
            codecs: None,
        };
        (number.to_string(), account)
    };
    let route = Route {
        name: "users".to_owned(),
        profile: None,
        destination: regex::Regex::new(r"^(10[01]\d)$").expect("a pattern"),
        hours: None,
        steps: vec![Step::Bridge {
            target: "user/$1".to_owned(),
        }],
        bypass: false,
    };
    Site {
        node: NodeId(1),
        name: "panics".to_owned(),
        product: "Weft".to_owned(),
        ids: keys.ids(),
        tokens: keys.tokens(),
        nonce_key: Secret::new("panics"),
        media_fingerprint: format!("sha-256 {}", ["AB"; 32].join(":")),
        cluster: None,
        lanes: 2,
        listeners: vec![Listener {
            profile: "internal".into(),
            transport: rsip::Transport::Udp,
            local,
            advertise: local,
            rtp_local: local.ip(),
            rtp_advertise: local.ip(),
            auth: Auth::Digest,
            digest: vec![sip::digest::Algorithm::Md5],
            nat: false,
            floating: None,
        }],
        domains: vec![Domain {
            name: "weft.test".to_owned(),
            users: (1000..1020).map(account).collect(),
            routes: vec![route],
            groups: BTreeMap::new(),
            calls_max: 0,
        }],
        limits: Limits {
            calls_max: 100,
            ring_timeout: Duration::from_secs(30),
            call_max: Duration::ZERO,
            park_timeout: Duration::from_secs(30),
            rtp_timeout: Duration::from_secs(60),
            rtp_hold_timeout: Duration::from_secs(300),
            expires_min: Duration::from_secs(60),
            expires_default: Duration::from_secs(3_600),
            expires_max: Duration::from_secs(7_200),
            codecs: vec!["pcmu".to_owned()],
            srtp: contract::SrtpProfile::ALL.to_vec(),
        },
    }
}

async fn start(folder: &std::path::Path, local: SocketAddr, first: u16) -> Arc<Node<Saboteur>> {
    let clock = Clock::start();
    let seconds = clock.now().utc.0 / 1_000;
    let (store, opened) = SledStore::open(StoreConfig::new(folder), seconds).expect("a store");
    let mono: weft::media_plane::Clock = Arc::new(move || clock.now().mono);
    let media = MediaWorkers::start(&MediaSettings {
        workers: 2,
        ports: first..=first + 39,
        webrtc_port: 0,
        dscp: 46,
        clock: mono,
        runtime: tokio::runtime::Handle::current(),
        certificate: MediaCertificate::of([3; 32]).expect("a certificate"),
    })
    .expect("workers");
    let keys = FabricKeys::new([9; 32]);
    let handle = tokio::runtime::Handle::current();
    let env = OsEnv::new(OsParts {
        clock,
        handle,
        store,
        media,
    });
    let parts = NodeParts {
        env: Arc::new(env),
        site: site(local, &keys),
        acl: Vec::new(),
        me: NodeInst {
            node: NodeId(1),
            boot: opened.boot,
        },
        version: "test".to_owned(),
        tickets: Arc::new(Tickets::default()),
        balance: None,
        addresses: std::collections::BTreeMap::new(),
    };
    Node::start(parts).await.expect("a node")
}

fn hears(pump: &Pump, pair: &Pair) {
    all_hear(pump, std::slice::from_ref(pair), 5, String::new);
}

fn restarts(node: &Node<Saboteur>) -> BTreeMap<String, u32> {
    let rows = node.fabric().rows(None);
    rows.into_iter()
        .map(|row| (row.id.to_string(), row.restarts))
        .collect()
}

#[test]
fn a_panic_in_mid_call_harms_nobody() {
    let folder = std::env::temp_dir().join(format!("weft-panics-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let rtp = RtpRange::take();
    let node = runtime.block_on(start(&folder, server, rtp.first));
    let pump = Pump::new();
    let mut struck = Pair::connect(server, &pump, "1000", "1001");
    let mut other = Pair::connect(server, &pump, "1002", "1003");
    let other_call: Vec<_> = restarts(&node).into_keys().collect();
    assert!(
        other_call
            .iter()
            .filter(|id| id.starts_with("call:"))
            .count()
            == 2
    );
    for kind in [Kind::Dialog, Kind::MediaLeg, Kind::Call, Kind::Lane] {
        let before = restarts(&node);
        *ORDERED.lock().expect("no holder panics") = Some(kind);
        struck.reinvite_from_caller();
        assert!(!is_ordered(kind), "no {kind:?} was given an event");
        hears(&pump, &struck);
        hears(&pump, &other);
        let after = restarts(&node);
        let restarted: Vec<_> = after
            .iter()
            .filter(|(id, count)| **count > before.get(*id).copied().unwrap_or(0))
            .collect();
        assert_eq!(restarted.len(), 1, "one actor restarts: {restarted:?}");
        assert!(restarted[0].0.starts_with(kind.word()), "{restarted:?}");
    }
    *ORDERED.lock().expect("no holder panics") = Some(Kind::Registration);
    assert_eq!(Phone::new(server, "1004").register(600).status(), 200);
    assert!(
        !is_ordered(Kind::Registration),
        "a registration was given an event"
    );
    other.reinvite_from_caller();
    for pair in [&mut struck, &mut other] {
        pair.end_from_caller();
    }
    wait::until("calls to end", PATIENCE, || {
        (node.fabric().live(Kind::Call) == 0).then_some(())
    });
    runtime.block_on(node.drain(Duration::from_secs(1)));
    let _ = std::fs::remove_dir_all(&folder);
}
