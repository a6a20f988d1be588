//! What cores read of the configuration: built once from the files (`nodes/src/config`), replaced
//! as a whole by a reload. Nothing in it is taken from the wire.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub use cluster::{CommitMode, FloatingAddress};
use contract::{
    FlowRef, IdHasher, ListenerId, NodeId, NodeInst, SchemaVersion, Secret, SrtpProfile, TokenMaker,
};
use regex::Regex;
use serde::{Deserialize, Serialize};
use sip::digest::Algorithm;
use sip::{Aor, Host, Uri};

use crate::call::Replaces;
use crate::hours::Hours;
use crate::registration::settings::Change;

/// The configuration as cores see it.
#[derive(Clone, Debug)]
pub struct Site {
    /// This node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Written into Server and User-Agent headers.
    pub product: String,
    /// Hashes natural keys.
    pub ids: IdHasher,
    /// Makes and reads wire tokens.
    pub tokens: TokenMaker,
    /// Key of digest nonces.
    pub nonce_key: Secret,
    /// Hash of the media certificate, as SDP writes it: `sha-256 AB:CD…` (RFC 8122).
    pub media_fingerprint: String,
    /// Membership in a cluster; `None`: the node is alone.
    pub cluster: Option<Cluster>,
    /// Number of lanes.
    pub lanes: u16,
    /// Listeners; a `ListenerId` is the index.
    pub listeners: Vec<Listener>,
    /// Domains; the first is the default: any host name or address that is no configured domain.
    pub domains: Vec<Domain>,
    /// Limits and timers that the operator may set.
    pub limits: Limits,
}

impl Site {
    /// Returns the settings of a listener; of one at a floating address that is not here, those of
    /// the listener that stands in for it.
    #[must_use]
    pub fn listener(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.get(usize::from(self.usable(id).0))
    }

    /// Tells whether an account of a listener's requests has been proven: elsewhere it is what From says.
    pub(crate) fn is_proving(&self, id: ListenerId) -> bool {
        let listener = self.listener(id);
        listener.is_some_and(|listener| listener.auth == Auth::Digest)
    }

    /// Returns the listener that is bound here: itself, or the one that stands in for it: that at the
    /// floating address of this node, which takes along what is told of it, or the node's own.
    #[must_use]
    pub fn usable(&self, id: ListenerId) -> ListenerId {
        let listener = self.listeners.get(usize::from(id.0));
        match listener.and_then(|one| one.floating) {
            Some(floating) if !floating.is_here => self.at_home(floating.base),
            Some(_) | None => id,
        }
    }

    fn at_home(&self, base: ListenerId) -> ListenerId {
        let addresses = self.cluster.iter().flat_map(|cluster| &cluster.floating);
        let homes = addresses.filter(|one| one.home == self.name);
        let mut homes = homes.map(|one| one.address);
        let is_here = |one: &Listener| {
            let floating = one.floating.filter(|floating| floating.is_here);
            floating.is_some_and(|floating| floating.base == base)
        };
        let at = homes.find_map(|home| {
            let mut listeners = self.listeners.iter();
            listeners.position(|one| one.local.ip() == home && is_here(one))
        });
        let at = at.and_then(|at| u16::try_from(at).ok());
        at.map_or(base, ListenerId)
    }

    /// Tells whether two requests come from the same source: the same connection, or the same address
    /// and port, to whichever address of a listener (`threats.md`, policy).
    #[must_use]
    pub fn is_same_source(&self, one: &FlowRef, other: &FlowRef) -> bool {
        let base = |id: ListenerId| {
            let listener = self.listeners.get(usize::from(id.0));
            let floating = listener.and_then(|one| one.floating);
            floating.map_or(id, |floating| floating.base)
        };
        match (one, other) {
            (
                FlowRef::Datagram { listener, remote },
                FlowRef::Datagram {
                    listener: known,
                    remote: peer,
                },
            ) => remote == peer && base(*listener) == base(*known),
            (FlowRef::Datagram { .. } | FlowRef::Stream { .. }, _) => one == other,
        }
    }

    /// Returns the flow by which a peer is reached from here: no connection has another one.
    #[must_use]
    pub fn flow_from_here(&self, flow: FlowRef) -> FlowRef {
        match flow {
            FlowRef::Datagram { listener, remote } => FlowRef::Datagram {
                listener: self.usable(listener),
                remote,
            },
            FlowRef::Stream { .. } => flow,
        }
    }

    /// Tells whether a listener is at a floating address that is here: who was told of it need not be
    /// told anything when its calls come here.
    #[must_use]
    pub fn moves_along(&self, id: ListenerId) -> bool {
        let listener = self.listeners.get(usize::from(id.0));
        listener.is_some_and(|one| one.floating.is_some_and(|floating| floating.is_here))
    }

    /// Returns the domain a host name or address means: the configured one of that name, else the
    /// default.
    #[must_use]
    pub fn domain_of(&self, host: &str) -> &Domain {
        let wanted = host.to_ascii_lowercase();
        let found = self.domains.iter().find(|domain| domain.name == wanted);
        found
            .or(self.domains.first())
            .expect("the configuration refuses to load without a domain")
    }

    /// Returns the canonical AoR of a user at a host; `None` for an empty user.
    #[must_use]
    pub fn aor(&self, user: &str, host: &str) -> Option<Aor> {
        self.domain_of(host).aor(user)
    }

    /// Returns the canonical AoR that a SIP URI names; `None` without user or host.
    #[must_use]
    pub fn aor_of(&self, uri: &Uri) -> Option<Aor> {
        self.aor(uri.user_raw()?, &uri.host()?.to_string())
    }

    /// Returns the account of an AoR.
    #[must_use]
    pub fn account(&self, aor: &Aor) -> Option<&Account> {
        let domain = self
            .domains
            .iter()
            .find(|domain| domain.name == aor.domain())?;
        domain.users.get(aor.user())
    }
}

/// How this node takes part in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// This life of this node.
    pub instance: NodeInst,
    /// Where other nodes reach it.
    pub address: SocketAddr,
    /// Hosts and ports of nodes to ask to be let in.
    pub seeds: Vec<(String, u16)>,
    /// Where it stands; empty: nobody said.
    pub zone: String,
    /// How many nodes are to hold a record, 1 to `HOLDERS_MAX`.
    pub replicas: usize,
    /// What counts when fewer holders answer than wanted.
    pub commit: CommitMode,
    /// The newest schema that this node lets be written.
    pub schema: SchemaVersion,
    /// Addresses that move between nodes.
    pub floating: Vec<FloatingAddress>,
}

/// One bound address of a profile.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Profile it belongs to.
    pub profile: Arc<str>,
    /// Transport: written into Via and Contact.
    pub transport: rsip::Transport,
    /// Address it is bound to (the port is the real one, also if 0 was configured).
    pub local: SocketAddr,
    /// Host and port that Via and Contact say.
    pub advertise: SocketAddr,
    /// Address RTP sockets of calls on this listener are bound to.
    pub rtp_local: IpAddr,
    /// Address that SDP says.
    pub rtp_advertise: IpAddr,
    /// How requests prove who they are from.
    pub auth: Auth,
    /// Algorithms that challenges offer, in order.
    pub digest: Vec<Algorithm>,
    /// Peers may be behind a NAT: RTP may be latched to any source in its first seconds.
    pub nat: bool,
    /// It is at an address that moves between nodes.
    pub floating: Option<FloatingListener>,
}

/// How a listener at a floating address stands on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloatingListener {
    /// The listener that stands in for it while the address is elsewhere.
    pub base: ListenerId,
    /// The address is here, and bound.
    pub is_here: bool,
}

/// How requests on a listener prove who they are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Digest access authentication (RFC 8760).
    Digest,
    /// Not at all: load tests and closed networks.
    None,
}

/// One tenant: it owns its users and routes.
#[derive(Clone, Debug)]
pub struct Domain {
    /// Name, lower case: also the digest realm.
    pub name: String,
    /// Accounts by name.
    pub users: BTreeMap<String, Account>,
    /// Routes, first match wins.
    pub routes: Vec<Route>,
    /// Groups by name.
    pub groups: BTreeMap<String, Group>,
    /// Calls at a time; 0 without limit.
    pub calls_max: u32,
}

impl Domain {
    /// Returns the canonical AoR of one of its users; `None` for an empty name.
    #[must_use]
    pub fn aor(&self, user: &str) -> Option<Aor> {
        let host = self.name.parse();
        let host = host.unwrap_or_else(|_| Host::Name(self.name.clone()));
        Aor::new(user, &host).ok()
    }

    /// Returns a name without the host behind its `@`; `None` if that is another domain.
    #[must_use]
    pub fn own_name<'a>(&self, name: &'a str) -> Option<&'a str> {
        match name.rsplit_once('@') {
            Some((name, host)) => host.eq_ignore_ascii_case(&self.name).then_some(name),
            None => Some(name),
        }
    }
}

/// Users of a domain who are called for one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Their names. Bound: `GROUP_MEMBERS_MAX`.
    pub members: Vec<String>,
    /// Who is called when.
    pub order: GroupOrder,
    /// Seconds for which all, or each, ring.
    pub ring_s: u16,
}

/// Who of a group is called when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupOrder {
    /// All at once.
    #[default]
    All,
    /// One after another, as they are listed.
    InTurn,
    /// One after another, in an order that is drawn for each call.
    Random,
}

/// One account.
#[derive(Clone, Debug)]
pub struct Account {
    /// Shown to callees, if set.
    pub display: Option<String>,
    /// What its digest is checked against.
    pub credential: Credential,
    /// Bindings at a time.
    pub max_contacts: usize,
    /// How its media is protected.
    pub media: MediaPolicy,
    /// Codecs offered to it, by preference; `None`: `Limits::codecs`.
    pub codecs: Option<Vec<String>>,
}

/// How the media of an account's phones is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaPolicy {
    /// As the phone offers, or as its transport suggests: browsers speak WebRTC.
    #[default]
    Auto,
    /// Plain RTP.
    Rtp,
    /// SRTP with keys in SDP (RFC 4568).
    Sdes,
    /// SRTP with keys of DTLS, and ICE.
    Webrtc,
}

/// What a digest is checked against.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Works with every realm and algorithm.
    Password(Secret),
    /// H(user:realm:password) in MD5: only for that realm and MD5.
    Ha1 {
        /// Realm it was made for.
        realm: String,
        /// 32 hexadecimal digits.
        hash: Secret,
    },
}

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name, for traces.
    pub name: String,
    /// Only for calls that came in on this profile.
    pub profile: Option<Arc<str>>,
    /// Matched against the dialled user part; linear in time (threats.md 25).
    pub destination: Regex,
    /// Only at these times.
    pub hours: Option<AtHours>,
    /// What is done, in order; `$1` in a target is the first group of the match.
    pub steps: Vec<Step>,
    /// Pass the SDP and open no media legs.
    pub bypass: bool,
}

/// At which times a route is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct AtHours {
    /// Whose.
    pub hours: Arc<Hours>,
    /// While it is open there; otherwise while it is closed.
    pub while_open: bool,
}

/// One step of a route: the words of ESL applications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Answers the caller.
    Answer,
    /// Calls targets and joins who answers: `user/1001`, `user/$1@domain`, `group/sales`; `,` between those
    /// that are called at once, `|` between those that are called one after another.
    Bridge {
        /// The targets, with `$n` groups.
        target: String,
    },
    /// Sends the caller's sound back.
    Echo,
    /// Sends a tone.
    Tone {
        /// Frequency.
        hertz: u32,
        /// Level in dBm0.
        level_dbm0: i32,
    },
    /// Ends the call.
    Hangup {
        /// Cause in Q.850 words, as `NORMAL_CLEARING`, `USER_BUSY`.
        cause: String,
    },
    /// Writes a line to the log.
    Log {
        /// The line.
        text: String,
    },
    /// Sends a tone for a while; then the route goes on.
    Play {
        /// Frequency.
        hertz: u32,
        /// Level in dBm0.
        level_dbm0: i32,
        /// How long.
        for_ms: u32,
    },
    /// Changes what the caller has set for the calls to it.
    Set {
        /// What; a number with `$n` groups.
        change: Box<Change>,
    },
    /// Picks up a call that rings one of the targets, or, `groups`: somebody with whom the caller is in a group.
    PickUp {
        /// The targets, with `$n` groups.
        target: String,
    },
    /// Parks the caller in a place of its domain, or has it talk to who is parked there.
    Park {
        /// The place, with `$n` groups.
        place: String,
    },
    /// Puts the caller in the place of a party of another call (RFC 3891). No route has it: an INVITE does.
    Replace {
        /// Of which.
        replaces: Box<Replaces>,
    },
}

/// Limits and timers that the operator may set.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Calls of this node at a time; one more: 503 with Retry-After.
    pub calls_max: u32,
    /// Ringing longer than this ends in 480 (`NO_ANSWER`).
    pub ring_timeout: Duration,
    /// Longest call; 0 without limit.
    pub call_max: Duration,
    /// How long a call stays parked before it goes back, or on.
    pub park_timeout: Duration,
    /// Silence after which a call ends (`MEDIA_TIMEOUT`).
    pub rtp_timeout: Duration,
    /// The same while it is on hold.
    pub rtp_hold_timeout: Duration,
    /// Shortest expiry of a binding that is granted; shorter: 423.
    pub expires_min: Duration,
    /// Expiry if the phone says none.
    pub expires_default: Duration,
    /// Longest expiry that is granted.
    pub expires_max: Duration,
    /// Codecs offered where the far side's are not known, by preference.
    pub codecs: Vec<String>,
    /// How SRTP may be protected, by preference.
    pub srtp: Vec<SrtpProfile>,
}
