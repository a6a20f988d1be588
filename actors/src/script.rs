//! Event scripts for tests of cores: a site, a clock that is moved by hand, and the actions.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it waits for"
)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use contract::{
    Action, ActorId, Core, Ctx, Entropy, Event, FabricKeys, FlowRef, Health, ListenerId, NodeId,
    Now, Secret, Time, UtcMillis,
};

use crate::site::{Account, Auth, Credential, Domain, Limits, Listener};
use crate::{Message, Site, lane};

/// Listeners of the test site.
pub(crate) const DIGEST: ListenerId = ListenerId(0);
pub(crate) const OPEN: ListenerId = ListenerId(1);
pub(crate) const STREAM: ListenerId = ListenerId(2);

/// A core on a stage.
pub(crate) struct Stage<C> {
    pub core: C,
    pub me: ActorId,
    pub site: Site,
    pub now: Now,
    pub health: Health,
    entropy: Entropy,
}

pub(crate) type Actions = Vec<Action<Message>>;

impl<C> Stage<C> {
    pub fn new(core: C, me: ActorId) -> Self {
        let now = Now {
            mono: Time::from_micros(1_000_000_000),
            utc: UtcMillis(1_700_000_000_000),
        };
        let entropy = Entropy::from_seed([5; 32]);
        Stage {
            core,
            me,
            site: site(),
            now,
            health: Health::default(),
            entropy,
        }
    }

    /// Gives one event.
    pub fn event<Own, T>(&mut self, event: Event<Own, T, Message>) -> Actions
    where
        T: Copy + Debug + Ord,
        C: Core<Event = Event<Own, T, Message>, Timer = T, Message = Message, Site = Site>,
    {
        let mut actions = Vec::new();
        let (now, health) = (self.now, self.health);
        let mut ctx = Ctx::new(
            now,
            &self.me,
            health,
            &self.site,
            &mut self.entropy,
            &mut actions,
        );
        self.core.handle(event, &mut ctx);
        actions
    }

    /// Gives one message.
    pub fn tell<Own, T>(&mut self, message: Own) -> Actions
    where
        T: Copy + Debug + Ord,
        C: Core<Event = Event<Own, T, Message>, Timer = T, Message = Message, Site = Site>,
    {
        self.event(Event::Message {
            from: ActorId::Lane(NodeId(1), 0),
            message,
        })
    }

    /// Lets time pass; deadlines fire in their order, at their time.
    pub fn pass<Own, T>(&mut self, length: Duration) -> Actions
    where
        T: Copy + Debug + Ord,
        C: Core<Event = Event<Own, T, Message>, Timer = T, Message = Message, Site = Site>,
    {
        let end = self.now.mono + length;
        let mut actions = Vec::new();
        for _ in 0..100_000 {
            match self.core.next_deadline() {
                Some((at, timer)) if at <= end => {
                    self.set(at.max(self.now.mono));
                    actions.extend(self.event(Event::Timer(timer)));
                }
                Some(_) | None => {
                    self.set(end);
                    return actions;
                }
            }
        }
        panic!("a deadline that never moves");
    }

    /// Moves both clocks; fires nothing.
    pub fn set(&mut self, mono: Time) {
        self.now.utc = self.now.utc.after(mono.since(self.now.mono));
        self.now.mono = mono;
    }
}

/// What went to the wire.
pub(crate) fn sent(actions: &Actions) -> Vec<(FlowRef, String)> {
    let texts = actions.iter().filter_map(|action| match action {
        Action::Send { flow, bytes } => Some((*flow, text(bytes))),
        Action::Tell {
            message: Message::Lane(lane::Message::Respond { flow, response, .. }),
            ..
        } => Some((*flow, text(response))),
        _ => None,
    });
    texts.collect()
}

/// Statuses of the responses that were sent or handed to a lane.
pub(crate) fn statuses(actions: &Actions) -> Vec<u16> {
    let texts = sent(actions).into_iter();
    texts
        .filter_map(|(_, text)| text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok())
        .collect()
}

/// Whom messages went to, lanes' own traffic included.
pub(crate) fn told(actions: &Actions) -> Vec<(ActorId, Message)> {
    let told = actions.iter().filter_map(|action| match action {
        Action::Tell { to, message, .. } => Some((to.clone(), message.clone())),
        _ => None,
    });
    told.collect()
}

pub(crate) fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

pub(crate) fn datagram(listener: ListenerId, remote: &str) -> FlowRef {
    FlowRef::Datagram {
        listener,
        remote: remote.parse().expect("an address"),
    }
}

pub(crate) fn stream(number: u64) -> FlowRef {
    let remote: SocketAddr = "192.0.2.7:40000".parse().expect("an address");
    FlowRef::Stream {
        node: NodeId(1),
        number,
        listener: STREAM,
        remote,
        door: contract::Door::Sip,
    }
}

fn listener(auth: Auth, transport: rsip::Transport) -> Listener {
    let address: SocketAddr = "192.0.2.1:5060".parse().expect("an address");
    Listener {
        profile: "internal".into(),
        transport,
        local: address,
        advertise: address,
        rtp_local: address.ip(),
        rtp_advertise: address.ip(),
        auth,
        digest: vec![sip::digest::Algorithm::Md5, sip::digest::Algorithm::Sha256],
        nat: false,
        floating: None,
    }
}

fn account(credential: Credential) -> Account {
    Account {
        display: None,
        credential,
        max_contacts: 2,
        media: crate::site::MediaPolicy::Auto,
        codecs: None,
    }
}

fn password(text: &str) -> Credential {
    Credential::Password(Secret::new(text))
}

/// A site with two domains, three listeners and four lanes.
pub(crate) fn site() -> Site {
    let keys = FabricKeys::new([9; 32]);
    let users = ["1000", "1001"]
        .into_iter()
        .map(|name| (name.to_owned(), account(password(&format!("weft-{name}")))))
        .collect();
    let hash = sip::digest::ha1(
        sip::digest::Algorithm::Md5,
        "2000",
        "hashed.example",
        "secret",
    );
    let hashed = Credential::Ha1 {
        realm: "hashed.example".to_owned(),
        hash: Secret::new(hash),
    };
    let domain = |name: &str, users| Domain {
        name: name.to_owned(),
        users,
        routes: Vec::new(),
        groups: BTreeMap::new(),
        calls_max: 0,
    };
    Site {
        media_fingerprint: format!("sha-256 {}", ["AB"; 32].join(":")),
        node: NodeId(1),
        name: "a".to_owned(),
        product: "Weft".to_owned(),
        ids: keys.ids(),
        tokens: keys.tokens(),
        nonce_key: Secret::new("0123456789abcdef".repeat(4)),
        cluster: None,
        lanes: 4,
        listeners: vec![
            listener(Auth::Digest, rsip::Transport::Udp),
            listener(Auth::None, rsip::Transport::Udp),
            listener(Auth::Digest, rsip::Transport::Tcp),
        ],
        domains: vec![
            domain("example.org", users),
            domain(
                "hashed.example",
                BTreeMap::from([("2000".to_owned(), account(hashed))]),
            ),
        ],
        limits: Limits {
            calls_max: 0,
            ring_timeout: Duration::from_secs(60),
            call_max: Duration::ZERO,
            park_timeout: Duration::from_secs(30),
            rtp_timeout: Duration::from_secs(60),
            rtp_hold_timeout: Duration::from_secs(300),
            expires_min: Duration::from_secs(60),
            expires_default: Duration::from_secs(3_600),
            expires_max: Duration::from_secs(7_200),
            codecs: Vec::new(),
            srtp: contract::SrtpProfile::ALL.to_vec(),
        },
    }
}
