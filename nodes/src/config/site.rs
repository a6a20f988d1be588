//! From the configuration to what cores read of it.
//!
//! In: a loaded configuration and the node's keys. Out: one `Site`; `Node::start` writes the addresses
//! that its listeners got into it.

use contract::{ListenerId, NodeInst, SchemaVersion, SrtpProfile};
use sip::digest::Algorithm;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actors::registration::settings::Change;
use actors::site::{
    Account, Auth, Cluster, CommitMode, Credential, Domain, FloatingAddress, FloatingListener,
    Group, GroupOrder, Limits, Listener, MediaPolicy, Route, Site, Step,
};
use contract::{FabricKeys, Secret};
use regex::{Regex, RegexBuilder};

use super::{
    Auth as ConfigAuth, Config, Loaded, Order, Plan, Protocol, RouteMedia, Step as ConfigStep,
    UserMedia,
};

/// Octets a compiled route may take; a larger one is refused (threats.md 25).
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// Written into Server and User-Agent headers.
const PRODUCT: &str = concat!("weft/", env!("CARGO_PKG_VERSION"));

/// What a site needs besides the configuration.
#[derive(Debug)]
pub struct SiteKeys<'a> {
    /// Keys derived from the cluster's secret.
    pub keys: &'a FabricKeys,
    /// This life of the node.
    pub me: NodeInst,
    /// Number of lanes.
    pub lanes: u16,
    /// Hash of the media certificate, as SDP writes it.
    pub media_fingerprint: &'a str,
}

/// Builds what cores read.
#[must_use]
pub fn to_site(loaded: &Loaded, with: &SiteKeys<'_>) -> Site {
    let Loaded { config, plan, .. } = loaded;
    let nonces = with.keys.nonces();
    let nonce_key: String = nonces.iter().map(|octet| format!("{octet:02x}")).collect();
    Site {
        node: plan.node,
        name: config.node.name.clone(),
        product: PRODUCT.to_owned(),
        ids: with.keys.ids(),
        tokens: with.keys.tokens(),
        nonce_key: Secret::new(nonce_key),
        media_fingerprint: with.media_fingerprint.to_owned(),
        cluster: plan.cluster.as_ref().map(|cluster| Cluster {
            instance: with.me,
            address: cluster.listen,
            seeds: cluster.seeds.clone(),
            zone: config.cluster.zone.clone(),
            replicas: usize::from(config.cluster.replicas),
            commit: match config.cluster.commit.as_str() {
                "strict" => CommitMode::Strict,
                _ => CommitMode::Available,
            },
            schema: config
                .cluster
                .schema
                .map_or(SchemaVersion::NEWEST, SchemaVersion),
            floating: floating(plan),
        }),
        lanes: with.lanes,
        listeners: listeners(plan),
        domains: domains(config, plan),
        limits: limits(config),
    }
}

fn floating(plan: &Plan) -> Vec<FloatingAddress> {
    let addresses = plan.addresses.iter();
    addresses
        .map(|(address, said)| FloatingAddress {
            address: *address,
            home: said.home.clone(),
        })
        .collect()
}

fn listeners(plan: &Plan) -> Vec<Listener> {
    let listeners = plan.listeners.iter().map(|listener| {
        let (address, port) = listener.advertise;
        Listener {
            profile: listener.profile.as_str().into(),
            transport: match listener.protocol {
                Protocol::Udp => rsip::Transport::Udp,
                Protocol::Tcp => rsip::Transport::Tcp,
                Protocol::Tls => rsip::Transport::Tls,
                Protocol::Ws => rsip::Transport::Ws,
                Protocol::Wss => rsip::Transport::Wss,
            },
            local: listener.local,
            advertise: SocketAddr::new(address, port.unwrap_or(listener.local.port())),
            rtp_local: listener.local.ip(),
            rtp_advertise: listener.rtp_advertise,
            auth: match listener.auth {
                ConfigAuth::Digest => Auth::Digest,
                ConfigAuth::None => Auth::None,
            },
            digest: if listener.digest.is_empty() {
                vec![Algorithm::Md5]
            } else {
                listener.digest.clone()
            },
            nat: listener.nat,
            floating: listener.base.map(|base| FloatingListener {
                base: ListenerId(u16::try_from(base).unwrap_or(u16::MAX)),
                is_here: false,
            }),
        }
    });
    listeners.collect()
}

fn domains(config: &Config, plan: &Plan) -> Vec<Domain> {
    let belongs = |said: &Option<String>, name: &str| config.domain_name(said.as_deref()) == name;
    let domains = config.domain.iter().map(|domain| {
        let name = domain.name.to_ascii_lowercase();
        let mut users = BTreeMap::new();
        for (user, password) in config.user.iter().zip(&plan.passwords) {
            let hash = user.ha1.as_ref().map(|hash| Credential::Ha1 {
                realm: name.clone(),
                hash: Secret::new(hash.expose().to_ascii_lowercase()),
            });
            let credential = password.clone().map(Credential::Password).or(hash);
            if let (true, Some(credential)) = (belongs(&user.domain, &name), credential) {
                let display = user.display.clone();
                let account = Account {
                    display,
                    credential,
                    max_contacts: user.max_contacts,
                    media: match user.media {
                        UserMedia::Auto => MediaPolicy::Auto,
                        UserMedia::Rtp => MediaPolicy::Rtp,
                        UserMedia::Sdes => MediaPolicy::Sdes,
                        UserMedia::Webrtc => MediaPolicy::Webrtc,
                    },
                    codecs: user.codecs.clone(),
                };
                users.insert(user.name.clone(), account);
            }
        }
        let routes = config
            .route
            .iter()
            .filter(|route| belongs(&route.domain, &name));
        let groups = config.group.iter();
        let groups = groups
            .filter(|group| belongs(&group.domain, &name))
            .map(|group| (group.name.clone(), self::group(group)));
        Domain {
            users,
            groups: groups.collect(),
            routes: routes.filter_map(|one| route(one, config)).collect(),
            calls_max: domain.limits.calls,
            name,
        }
    });
    domains.collect()
}

fn group(group: &super::Group) -> Group {
    Group {
        members: group.members.clone(),
        order: match group.order {
            Order::All => GroupOrder::All,
            Order::InTurn => GroupOrder::InTurn,
            Order::Random => GroupOrder::Random,
        },
        ring_s: group.ring_s,
    }
}

fn route(route: &super::Route, config: &Config) -> Option<Route> {
    let hours = route.matches.hours.as_deref();
    let hours = hours.map(|text| config.at_hours(route.domain.as_deref(), text));
    Some(Route {
        name: route.name.clone(),
        profile: route.profile.as_deref().map(Arc::from),
        destination: pattern(&route.matches.destination).ok()?,
        // One whose hours nobody knows would be taken at all times.
        hours: match hours {
            Some(hours) => Some(hours?),
            None => None,
        },
        steps: route.steps.iter().filter_map(step).collect(),
        bypass: route.media == RouteMedia::Bypass,
    })
}

fn step(step: &ConfigStep) -> Option<Step> {
    match step {
        ConfigStep::Answer(wanted) => wanted.then_some(Step::Answer),
        ConfigStep::Bridge(target) => Some(Step::Bridge {
            target: target.clone(),
        }),
        ConfigStep::Pickup(target) => Some(Step::PickUp {
            target: target.clone(),
        }),
        ConfigStep::Park(place) => Some(Step::Park {
            place: place.clone(),
        }),
        ConfigStep::Echo(wanted) => wanted.then_some(Step::Echo),
        ConfigStep::Tone(tone) => Some(match tone.for_ms {
            Some(for_ms) => Step::Play {
                hertz: tone.hertz,
                level_dbm0: tone.level_dbm0,
                for_ms,
            },
            None => Step::Tone {
                hertz: tone.hertz,
                level_dbm0: tone.level_dbm0,
            },
        }),
        ConfigStep::Dnd(is_on) => Some(Step::Set {
            change: Box::new(Change::DoNotDisturb(*is_on)),
        }),
        ConfigStep::CallWaiting(is_on) => Some(Step::Set {
            change: Box::new(Change::CallWaiting(*is_on)),
        }),
        ConfigStep::Forward(forward) => Some(Step::Set {
            change: Box::new(Change::Divert {
                on: forward.on,
                to: forward.to.clone(),
            }),
        }),
        ConfigStep::Hangup(cause) => Some(Step::Hangup {
            cause: cause.clone(),
        }),
        ConfigStep::Log(text) => Some(Step::Log { text: text.clone() }),
    }
}

fn limits(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        calls_max: limits.calls,
        ring_timeout: Duration::from_secs(limits.ring_timeout_s),
        call_max: Duration::from_secs(limits.call_max_s),
        park_timeout: Duration::from_secs(limits.park_timeout_s),
        rtp_timeout: Duration::from_secs(config.media.rtp_timeout_s),
        rtp_hold_timeout: Duration::from_secs(config.media.rtp_hold_timeout_s),
        expires_min: Duration::from_secs(limits.expires_min_s),
        expires_default: Duration::from_secs(limits.expires_default_s),
        expires_max: Duration::from_secs(limits.expires_max_s),
        codecs: config.media.codecs.clone(),
        srtp: config
            .media
            .srtp
            .iter()
            .filter_map(|name| SrtpProfile::of_suite(name))
            .collect(),
    }
}

/// Compiles a route's expression within bounds.
///
/// # Errors
/// If it is none, or takes too much.
pub(super) fn pattern(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .nest_limit(32)
        .build()
}

/// Returns the numbers of the groups a target uses: `$1`, `${1}`.
pub(super) fn groups(target: &str) -> impl Iterator<Item = usize> {
    target.split('$').skip(1).filter_map(|rest| {
        let digits = rest.trim_start_matches('{');
        let end = digits
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(digits.len());
        digits[..end].parse().ok()
    })
}
