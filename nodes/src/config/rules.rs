//! What keys must be to one another, and what the configuration makes the node do.
//!
//! In: a typed configuration whose values are in range. Out: a [`Plan`], or a refusal. Safe by
//! default: what would open the node to strangers by accident is refused (threats.md 12).

use sip::digest::Algorithm;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use contract::{NodeId, Secret};

use super::address::{Interfaces, Listen, Network, RtpPorts, advertised};
use super::overlay::Origins;
use super::web::{HttpPlan, TlsPlan};
use crate::addresses::AddressPlan;

use super::{
    Auth, Config, ConfigError, Forward, NodeNumber, Profile, Step, User, credential, site,
};

/// Transport of a SIP listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
    /// Connections under TLS.
    Tls,
    /// WebSockets.
    Ws,
    /// WebSockets under TLS.
    Wss,
}

impl Protocol {
    /// Returns its word, which is also its key in a profile.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Protocol::Udp => "udp",
            Protocol::Tcp => "tcp",
            Protocol::Tls => "tls",
            Protocol::Ws => "ws",
            Protocol::Wss => "wss",
        }
    }

    /// Tells whether it needs a certificate.
    #[must_use]
    pub const fn is_tls(self) -> bool {
        match self {
            Protocol::Udp | Protocol::Tcp | Protocol::Ws => false,
            Protocol::Tls | Protocol::Wss => true,
        }
    }

    /// Tells whether both would want the same port.
    fn shares_ports(self, other: Protocol) -> bool {
        (self == Protocol::Udp) == (other == Protocol::Udp)
    }
}

/// One SIP listener to bind; its number is its place in the plan.
#[derive(Clone, Debug)]
pub struct ListenerPlan {
    /// Profile it belongs to.
    pub profile: String,
    /// Transport.
    pub protocol: Protocol,
    /// Address to bind.
    pub local: SocketAddr,
    /// Address of Via and Contact; the port is the bound one if it says none.
    pub advertise: (IpAddr, Option<u16>),
    /// Address of SDP.
    pub rtp_advertise: IpAddr,
    /// How requests prove who they are from.
    pub auth: Auth,
    /// Algorithms of challenges, in order.
    pub digest: Vec<Algorithm>,
    /// Media may come from any source in its first 5 s.
    pub nat: bool,
    /// Code point that packets are marked with.
    pub dscp: u8,
    /// Networks that may send here; empty: all.
    pub acl: Vec<Network>,
    /// At a floating address: the number of the listener that stands in for it.
    pub base: Option<usize>,
    /// Key it is from, for refusals.
    pub key: String,
    /// Layer it is from, for refusals.
    pub file: String,
}

/// What the configuration makes the node do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its number.
    pub node: NodeId,
    /// SIP listeners, then the WebSockets of the HTTP listeners, then those at floating addresses.
    pub listeners: Vec<ListenerPlan>,
    /// HTTP listeners.
    pub http: Vec<HttpPlan>,
    /// Certificates.
    pub tls: TlsPlan,
    /// Proxies whose word about their clients' addresses is taken.
    pub trusted_proxies: Vec<Network>,
    /// Ports of plain RTP legs.
    pub rtp_ports: RtpPorts,
    /// First port of WebRTC media, one a worker; 0: any that is free.
    pub webrtc_port: u16,
    /// Folder of the state.
    pub data: PathBuf,
    /// File of the cluster's secret.
    pub secret_file: PathBuf,
    /// Where other nodes reach this one, and whom it asks to be let in; `None`: it is alone.
    pub cluster: Option<ClusterPlan>,
    /// Floating addresses of the cluster.
    pub addresses: BTreeMap<IpAddr, AddressPlan>,
    /// Passwords of accounts, in the order of `config.user`; hashes stay where they are.
    pub passwords: Vec<Option<Secret>>,
}

/// Membership in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPlan {
    /// Address of gossip and of connections between nodes.
    pub listen: SocketAddr,
    /// Hosts and ports of nodes to ask to be let in.
    pub seeds: Vec<(String, u16)>,
}

pub(super) struct Check<'a> {
    pub(super) config: &'a Config,
    pub(super) origins: &'a Origins,
    pub(super) interfaces: &'a Interfaces,
}

/// Checks the whole and plans.
///
/// # Errors
/// The first rule that is broken.
pub(super) fn check(
    config: &Config,
    origins: &Origins,
    interfaces: &Interfaces,
) -> Result<Plan, ConfigError> {
    let check = Check {
        config,
        origins,
        interfaces,
    };
    check.domains()?;
    check.expiries()?;
    let passwords = check.users()?;
    check.groups()?;
    check.hours()?;
    check.routes()?;
    let mut listeners = check.listeners()?;
    let http = check.http(&mut listeners)?;
    let addresses = check.floating(&mut listeners)?;
    check.exposure(&listeners, &passwords)?;
    check.srtp()?;
    let data = config.node.data.clone();
    let rtp_ports = check.rtp_ports()?;
    let proxies = config.http.trusted_proxies.iter();
    Ok(Plan {
        node: number(config),
        listeners,
        http,
        tls: check.tls()?,
        trusted_proxies: proxies.filter_map(|proxy| proxy.parse().ok()).collect(),
        rtp_ports,
        webrtc_port: check.webrtc_port(rtp_ports)?,
        secret_file: data.join(&config.cluster.secret_file),
        cluster: check.cluster()?,
        addresses,
        data,
        passwords,
    })
}

fn number(config: &Config) -> NodeId {
    match &config.node.id {
        NodeNumber::Number(number) => NodeId(*number),
        NodeNumber::Word(_) => {
            let digits = config
                .node
                .name
                .rsplit(|letter: char| !letter.is_ascii_digit())
                .next();
            NodeId(digits.and_then(|digits| digits.parse().ok()).unwrap_or(1))
        }
    }
}

impl Check<'_> {
    pub(super) fn refusal<T>(
        &self,
        key: &str,
        value: &str,
        allowed: &str,
    ) -> Result<T, ConfigError> {
        Err(ConfigError::Value {
            file: self.origins.file(key).to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
            allowed: allowed.to_owned(),
        })
    }

    fn domains(&self) -> Result<(), ConfigError> {
        if self.config.domain.is_empty() {
            return self.refusal(
                "domain",
                "(nothing)",
                "at least one [[domain]] with a `name`",
            );
        }
        Ok(())
    }

    pub(super) fn has_domain(&self, key: &str, domain: Option<&str>) -> Result<(), ConfigError> {
        let Some(domain) = domain else { return Ok(()) };
        let mut known = self.config.domain.iter().map(|known| known.name.as_str());
        if known.any(|known| known.eq_ignore_ascii_case(domain)) {
            return Ok(());
        }
        self.refusal(&format!("{key}.domain"), domain, "the name of a [[domain]]")
    }

    fn expiries(&self) -> Result<(), ConfigError> {
        let limits = &self.config.limits;
        if limits.expires_min_s > limits.expires_default_s {
            let allowed = format!("{} (expires_min_s) or more", limits.expires_min_s);
            let value = limits.expires_default_s.to_string();
            return self.refusal("limits.expires_default_s", &value, &allowed);
        }
        if limits.expires_default_s > limits.expires_max_s {
            let allowed = format!("{} (expires_default_s) or more", limits.expires_default_s);
            let value = limits.expires_max_s.to_string();
            return self.refusal("limits.expires_max_s", &value, &allowed);
        }
        Ok(())
    }

    fn users(&self) -> Result<Vec<Option<Secret>>, ConfigError> {
        let mut passwords = Vec::with_capacity(self.config.user.len());
        for user in &self.config.user {
            let key = format!("user.{}", user.name);
            self.has_domain(&key, user.domain.as_deref())?;
            passwords.push(self.password(user, &key)?);
        }
        Ok(passwords)
    }

    fn password(&self, user: &User, key: &str) -> Result<Option<Secret>, ConfigError> {
        match (&user.password, &user.password_file, &user.ha1) {
            (Some(password), None, None) => Ok(Some(password.clone())),
            (None, None, Some(_)) => Ok(None),
            (None, Some(file), None) => {
                let key = format!("{key}.password_file");
                let folder = Path::new(self.origins.file(&key)).parent();
                let path = folder.map_or_else(|| file.clone(), |folder| folder.join(file));
                match credential::read(&path) {
                    Ok(password) if !password.expose().is_empty() => Ok(Some(password)),
                    Ok(_) => self.refusal(&key, &path.display().to_string(), "a password in it"),
                    Err(error) => {
                        let allowed = format!("a file of mode 0600 ({error})");
                        self.refusal(&key, &path.display().to_string(), &allowed)
                    }
                }
            }
            (_, _, _) => {
                let allowed = "exactly one of password, password_file, ha1";
                self.refusal(key, "its credential", allowed)
            }
        }
    }

    fn routes(&self) -> Result<(), ConfigError> {
        for route in &self.config.route {
            let key = format!("route.{}", route.name);
            self.has_domain(&key, route.domain.as_deref())?;
            if let Some(profile) = &route.profile
                && !self
                    .config
                    .profile
                    .iter()
                    .any(|known| known.name == *profile)
            {
                let allowed = "the name of a [[profile]]";
                return self.refusal(&format!("{key}.profile"), profile, allowed);
            }
            if let Some(hours) = &route.matches.hours {
                self.condition(&key, route.domain.as_deref(), hours)?;
            }
            for step in &route.steps {
                self.step(&key, &route.matches.destination, step)?;
                if let Step::Bridge(target) | Step::Pickup(target) = step {
                    self.targets(&key, route.domain.as_deref(), target)?;
                }
            }
        }
        Ok(())
    }

    fn step(&self, key: &str, pattern: &str, step: &Step) -> Result<(), ConfigError> {
        let (word, target) = match step {
            Step::Bridge(target) => ("bridge", target),
            Step::Pickup(target) => ("pickup", target),
            Step::Park(place) => ("park", place),
            Step::Forward(Forward { to: Some(to), .. }) => ("forward.to", to),
            Step::Forward(_)
            | Step::Answer(_)
            | Step::Echo(_)
            | Step::Tone(_)
            | Step::Hangup(_)
            | Step::Log(_)
            | Step::Dnd(_)
            | Step::CallWaiting(_) => return Ok(()),
        };
        let groups = site::pattern(pattern).map_or(0, |pattern| pattern.captures_len());
        let used = site::groups(target).max().unwrap_or(0);
        if used < groups.max(1) {
            return Ok(());
        }
        let allowed = format!(
            "$0 to ${}, the groups of its match",
            groups.saturating_sub(1)
        );
        self.refusal(&format!("{key}.do.{word}"), target, &allowed)
    }

    fn listeners(&self) -> Result<Vec<ListenerPlan>, ConfigError> {
        let mut plans = Vec::new();
        for profile in &self.config.profile {
            for (protocol, list) in [
                (Protocol::Udp, &profile.udp),
                (Protocol::Tcp, &profile.tcp),
                (Protocol::Tls, &profile.tls),
                (Protocol::Ws, &profile.ws),
                (Protocol::Wss, &profile.wss),
            ] {
                for text in list {
                    self.listener(profile, protocol, text, &mut plans)?;
                }
            }
        }
        if plans.is_empty() {
            return self.refusal(
                "profile",
                "no listener",
                "udp, tcp, tls, ws or wss of at least one [[profile]]",
            );
        }
        Ok(plans)
    }

    /// The address must be one that other nodes can use: it is how they name this one.
    fn cluster(&self) -> Result<Option<ClusterPlan>, ConfigError> {
        let cluster = &self.config.cluster;
        let Some(text) = &cluster.listen else {
            if cluster.seeds.is_empty() {
                return Ok(None);
            }
            let seeds = format!("{:?}", cluster.seeds);
            return self.refusal("cluster.seeds", &seeds, "none without `cluster.listen`");
        };
        let node = &self.config.node;
        let is_default = self.origins.file("node.name") == super::DEFAULT_NAME;
        let has_number = node.name.ends_with(|letter: char| letter.is_ascii_digit());
        let is_auto = matches!(node.id, NodeNumber::Word(_));
        if is_default || (is_auto && !has_number) {
            // Two nodes of one number would take each other for an earlier life of themselves.
            let allowed =
                "in a cluster: a name of its own that ends in its number, or `node.id` too";
            return self.refusal("node.name", &node.name, allowed);
        }
        let addresses = self.addresses("cluster.listen", text)?;
        let usable = addresses
            .into_iter()
            .find(|address| !address.ip().is_unspecified());
        let Some(listen) = usable else {
            let allowed = "an address that other nodes can reach, not every address";
            return self.refusal("cluster.listen", text, allowed);
        };
        let seeds = cluster
            .seeds
            .iter()
            .filter_map(|text| super::schema::seed(text));
        Ok(Some(ClusterPlan {
            listen,
            seeds: seeds.collect(),
        }))
    }

    fn listener(
        &self,
        profile: &Profile,
        protocol: Protocol,
        text: &str,
        plans: &mut Vec<ListenerPlan>,
    ) -> Result<(), ConfigError> {
        let key = format!("profile.{}.{}", profile.name, protocol.word());
        for local in self.addresses(&key, text)? {
            let is_every = text.starts_with(':');
            self.check_free(&key, text, protocol, local, plans)?;
            let advertise = self.advertise(profile, &key, local, is_every)?;
            plans.push(self.plan(profile, protocol, local, advertise, &key));
        }
        Ok(())
    }

    pub(super) fn check_free(
        &self,
        key: &str,
        text: &str,
        protocol: Protocol,
        local: SocketAddr,
        plans: &[ListenerPlan],
    ) -> Result<(), ConfigError> {
        let is_taken = plans.iter().any(|plan| {
            plan.protocol.shares_ports(protocol) && plan.local == local && local.port() != 0
        });
        if is_taken {
            return self.refusal(key, text, "an address that no other listener has");
        }
        Ok(())
    }

    pub(super) fn plan(
        &self,
        profile: &Profile,
        protocol: Protocol,
        local: SocketAddr,
        advertise: (IpAddr, Option<u16>),
        key: &str,
    ) -> ListenerPlan {
        let rtp_advertise = match &profile.rtp_advertise {
            Some(text) => advertised(text, self.interfaces, local.is_ipv6())
                .map_or(advertise.0, |(address, _)| address),
            None => advertise.0,
        };
        let acl = profile.acl.iter();
        let digest = profile.digest.iter();
        ListenerPlan {
            profile: profile.name.clone(),
            protocol,
            local,
            advertise,
            rtp_advertise,
            auth: profile.auth,
            digest: digest.filter_map(|name| algorithm(name)).collect(),
            nat: profile.nat,
            dscp: profile.dscp,
            acl: acl.filter_map(|network| network.parse().ok()).collect(),
            base: None,
            key: key.to_owned(),
            file: self.origins.file(key).to_owned(),
        }
    }

    pub(super) fn addresses(&self, key: &str, text: &str) -> Result<Vec<SocketAddr>, ConfigError> {
        let Ok(listen) = text.parse::<Listen>() else {
            return self.refusal(key, text, "`address:port`, `interface:port` or `:port`");
        };
        let found = self.interfaces.resolve(&listen.host);
        if found.is_empty() {
            return self.refusal(
                key,
                text,
                "an interface of this machine that has an address",
            );
        }
        Ok(found
            .into_iter()
            .map(|address| SocketAddr::new(address, listen.port))
            .collect())
    }

    /// A listener on every address must say which one peers shall use; only the second family of
    /// `:port` may choose one by itself.
    fn advertise(
        &self,
        profile: &Profile,
        key: &str,
        local: SocketAddr,
        is_every: bool,
    ) -> Result<(IpAddr, Option<u16>), ConfigError> {
        let own = format!("profile.{}.advertise", profile.name);
        let said = [
            (&profile.advertise, own.as_str()),
            (&self.config.node.advertise, "node.advertise"),
        ];
        let said = said
            .into_iter()
            .find_map(|(text, key)| Some((text.as_ref()?, key)));
        if let Some((text, key)) = said {
            let is_known = [false, true]
                .iter()
                .any(|is_ipv6| advertised(text, self.interfaces, *is_ipv6).is_some());
            if !is_known {
                return self.refusal(key, text, "an address, or an interface that has one");
            }
        }
        let fitting = said.and_then(|(text, _)| advertised(text, self.interfaces, local.is_ipv6()));
        match fitting {
            Some(address) => Ok(address),
            None if !local.ip().is_unspecified() => Ok((local.ip(), None)),
            None if is_every && said.is_some() => {
                Ok((self.interfaces.outward(local.is_ipv6()), None))
            }
            None => {
                let allowed = "a profile.advertise or node.advertise beside it";
                self.refusal(key, &local.to_string(), allowed)
            }
        }
    }

    /// Demo accounts and `auth = "none"` stay on the loopback, unless an `acl` names who may come.
    fn exposure(
        &self,
        listeners: &[ListenerPlan],
        passwords: &[Option<Secret>],
    ) -> Result<(), ConfigError> {
        let mut accounts = self.config.user.iter().zip(passwords);
        let demo = accounts.find(|(user, password)| {
            let known = format!("weft-{}", user.name);
            password
                .as_ref()
                .is_some_and(|password| password.expose() == known)
        });
        for plan in listeners {
            if plan.local.ip().is_loopback() || !plan.acl.is_empty() {
                continue;
            }
            let value = plan.local.to_string();
            if plan.auth == Auth::None {
                let allowed =
                    "with auth = \"none\": a loopback address, or an `acl` that names who may";
                return self.refusal(&plan.key, &value, allowed);
            }
            if let Some((user, _)) = demo {
                let allowed = format!(
                    "with the demo password of user {}: a loopback address, or an `acl`",
                    user.name
                );
                return self.refusal(&plan.key, &value, &allowed);
            }
        }
        Ok(())
    }

    fn rtp_ports(&self) -> Result<RtpPorts, ConfigError> {
        let text = &self.config.media.rtp_ports;
        match text.parse() {
            Ok(ports) => Ok(ports),
            Err(_) => self.refusal("media.rtp_ports", text, "`first-last` within 1024-65535"),
        }
    }
}

/// Returns the algorithm of a name as it is written on the wire.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256]
        .into_iter()
        .find(|algorithm| algorithm.as_str() == name)
}
