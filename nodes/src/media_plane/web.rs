//! WebRTC legs of one worker: whose a datagram of the shared port is, their paths and handshakes.
//!
//! In: datagrams, configurations, what agents and handshakes found. Out: datagrams of checks, media for
//! the relay table, events. An agent sets a path up, then the path core keeps it; a handshake runs in
//! a task and only its keys come back. It relays nothing itself.
//!
//! ```text
//!  datagram ─ STUN request ── user fragment ──▶ leg: agent while it sets up, else path
//!             STUN response ─ number ────────▶ whoever asked
//!             DTLS, RTP, RTCP ─ source ──────▶ leg whose checks came from there last
//! ```
//!
//! A source is a leg's only by a check with the right password (threats.md 19, 21): what a
//! description says, or what anybody sends, teaches nothing.

mod leg;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use contract::limits::{DTLS_DATAGRAMS_MAX, PATH_REMOTES_MAX, STUN_EARLY_MAX};
use contract::{IceConfig, MediaEvent, SideKey, SrtpKeys, Time, WebrtcConfig};
use media::path::{Path, PathConfig, PathOutput};
use media::stun::{self, Class, IntegrityKey, Message};
use tokio::runtime::Handle;

use super::Orders;
use super::asked::{Asked, Asker};
use super::certificate::MediaCertificate;
use super::feed::send_to;
use leg::{Tools, WebLeg};

/// PRIORITY of our checks: of a peer-reflexive candidate (RFC 8445 §7.1.1).
const PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sorted {
    /// It is done with.
    Taken,
    /// It is media of this leg.
    Media(SideKey),
}

/// All of one worker.
pub(super) struct WebLegs {
    tools: Tools,
    legs: BTreeMap<SideKey, WebLeg>,
    /// Legs by shared socket and user fragment of ours; looked up only.
    by_ufrag: HashMap<SocketAddr, HashMap<String, SideKey>>,
    /// Legs by shared socket and the peer's address; looked up only. Bound: `PATH_REMOTES_MAX` a leg.
    by_peer: HashMap<(SocketAddr, SocketAddr), SideKey>,
    /// When paths have something to do.
    due: BTreeSet<(Time, SideKey)>,
    out: Vec<(SideKey, WebOutput)>,
}

/// What is to be done for a leg.
#[derive(Debug)]
pub(super) enum WebOutput {
    /// Media goes there now.
    Target(Option<SocketAddr>),
    /// The media leg is to be told.
    Event(MediaEvent),
}

impl WebLegs {
    pub(super) fn new(runtime: Handle, certificate: MediaCertificate, orders: Orders) -> Self {
        WebLegs {
            tools: Tools {
                runtime,
                certificate,
                orders,
                asked: Asked::default(),
            },
            legs: BTreeMap::new(),
            by_ufrag: HashMap::new(),
            by_peer: HashMap::new(),
            due: BTreeSet::new(),
            out: Vec::new(),
        }
    }

    /// Gives a leg a shared socket.
    pub(super) fn open(&mut self, leg: SideKey, local: SocketAddr, socket: Arc<UdpSocket>) {
        let made = WebLeg {
            key: leg,
            local,
            socket,
            config: None,
            integrity: IntegrityKey::new(&[]),
            path: None,
            agent: None,
            handshake: None,
            rivals: Vec::new(),
            fragments: Vec::new(),
            peers: Vec::new(),
            early: Vec::new(),
            target: None,
            scheduled: None,
            set_ups: 0,
            paths_set_up: 0,
            begun: 0,
            handshakes: 0,
        };
        self.legs.insert(leg, made);
    }

    /// Returns the address of a leg's socket.
    pub(super) fn local(&self, leg: SideKey) -> Option<SocketAddr> {
        self.legs.get(&leg).map(|known| known.local)
    }

    /// Puts a packet of a leg on its socket. What the system does not take is lost.
    pub(super) fn send(&self, leg: SideKey, to: SocketAddr, octets: &[u8]) {
        if let Some(known) = self.legs.get(&leg) {
            let _ = send_to(&known.socket, octets, to);
        }
    }

    /// Frees a leg; returns how many paths agents set up and how many handshakes were completed.
    pub(super) fn close(&mut self, leg: SideKey) -> Option<(u32, u32)> {
        let closed = self.legs.remove(&leg)?;
        if let Some(fragments) = self.by_ufrag.get_mut(&closed.local) {
            for fragment in &closed.fragments {
                fragments.remove(fragment);
            }
        }
        for peer in &closed.peers {
            self.by_peer.remove(&(closed.local, *peer));
        }
        if let Some(due) = closed.scheduled {
            self.due.remove(&(due, leg));
        }
        Some((closed.paths_set_up, closed.handshakes))
    }

    /// Takes a configuration.
    pub(super) fn configure(&mut self, leg: SideKey, config: &WebrtcConfig, now: Time) {
        let Some(known) = self.legs.get_mut(&leg) else {
            return;
        };
        let ice = &config.ice;
        let fragments = self.by_ufrag.entry(known.local).or_default();
        if !known.answer_to(&ice.local, fragments) {
            tracing::warn!(%leg, "a user fragment is another leg's; this one keeps its former path");
            return;
        }
        let former = known.config.replace(config.clone());
        let is_new = former
            .is_none_or(|former| former.ice.local != ice.local || former.ice.remote != ice.remote);
        if let (Some(remote), None, None) = (ice.selected, &known.path, &known.agent) {
            // A restart: where it was is where the peer is, until a check says otherwise.
            known.path = Some(Path::new(&path_config(ice, Some(remote)), now));
        } else if is_new && ice.remote.is_some() {
            known.start_agent(ice, &self.tools);
        }
        known.trickle(ice, now);
        let early = match ice.remote {
            Some(_) => std::mem::take(&mut known.early),
            None => Vec::new(),
        };
        let local = known.local;
        self.settle(leg, false);
        for (from, octets) in early {
            self.check(local, from, &octets, now);
        }
    }

    /// An agent has selected an address, or has given up.
    pub(super) fn on_path(
        &mut self,
        leg: SideKey,
        set_up: u32,
        selected: Option<SocketAddr>,
        now: Time,
    ) {
        let Some(known) = self.legs.get_mut(&leg) else {
            return;
        };
        let ended = known.agent.take_if(|agent| agent.set_up == set_up);
        let Some(config) = known.config.clone().filter(|_| ended.is_some()) else {
            return;
        };
        let path = path_config(&config.ice, selected);
        match &mut known.path {
            Some(former) => former.restart(&path, now),
            None => known.path = Some(Path::new(&path, now)),
        }
        known.trickle(&config.ice, now);
        known.paths_set_up += u32::from(selected.is_some());
        match selected {
            Some(remote) => self.learn(leg, remote),
            None => tracing::debug!(%leg, "no pair was selected in time; the path core waits on"),
        }
        self.settle(leg, selected.is_some());
    }

    /// A handshake is done, or has failed.
    pub(super) fn on_keys(
        &mut self,
        leg: SideKey,
        number: u32,
        keys: Result<Box<SrtpKeys>, String>,
    ) {
        let Some(known) = self.legs.get_mut(&leg) else {
            return;
        };
        if keys.is_err() && !known.give_up(number) {
            return;
        }
        let present = known.handshake.as_mut();
        let Some(present) = present.filter(|handshake| handshake.number == number) else {
            return;
        };
        let association = present.association;
        present.left = DTLS_DATAGRAMS_MAX;
        let result = if keys.is_ok() { "done" } else { "failed" };
        metrics::counter!("weft_media_handshakes_total", "result" => result).increment(1);
        let event = match keys {
            Ok(keys) => {
                known.handshakes += 1;
                MediaEvent::Keyed { keys, association }
            }
            Err(why) => MediaEvent::Unkeyed { why },
        };
        self.out.push((leg, WebOutput::Event(event)));
    }

    /// Sorts a datagram of a shared socket (RFC 7983 §7).
    pub(super) fn sort(
        &mut self,
        local: SocketAddr,
        from: SocketAddr,
        octets: &[u8],
        now: Time,
    ) -> Sorted {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        match octets.first() {
            Some(128..=191) => match self.by_peer.get(&(local, from)) {
                Some(leg) => Sorted::Media(*leg),
                None => Sorted::Taken,
            },
            Some(20..=63) => {
                self.shake(local, from, octets);
                Sorted::Taken
            }
            Some(_) if stun::is_stun(octets) => {
                self.check(local, from, octets, now);
                Sorted::Taken
            }
            Some(_) | None => Sorted::Taken,
        }
    }

    /// Shows a record to the handshake of the leg whose source it came from.
    fn shake(&mut self, local: SocketAddr, from: SocketAddr, octets: &[u8]) {
        let leg = self.by_peer.get(&(local, from));
        let Some(known) = leg.and_then(|leg| self.legs.get_mut(leg)) else {
            return;
        };
        known.shake(octets, from, &self.tools);
    }

    fn check(&mut self, local: SocketAddr, from: SocketAddr, octets: &[u8], now: Time) {
        if let Some((ours, theirs)) = stun::username(octets) {
            let found = self.by_ufrag.get(&local).and_then(|legs| legs.get(ours));
            if let Some(leg) = found.copied() {
                self.request(leg, from, (ours, theirs), octets, now);
            }
        } else if let Some((leg, asker)) = self.tools.asked.take(octets)
            && let Some(known) = self.legs.get_mut(&leg)
        {
            match (asker, &known.agent, &mut known.path) {
                (Asker::Agent, Some(agent), _) => agent.feed.put(octets, from),
                (Asker::Path, _, Some(path)) => {
                    path.on_stun(from, now, octets);
                    self.settle(leg, false);
                }
                (Asker::Agent, None, _) | (Asker::Path, _, None) => {}
            }
        }
    }

    /// Takes a request whose user fragments are `names`, ours first.
    fn request(
        &mut self,
        leg: SideKey,
        from: SocketAddr,
        names: (&str, &str),
        octets: &[u8],
        now: Time,
    ) {
        let Some(known) = self.legs.get_mut(&leg) else {
            return;
        };
        let remote = known.config.as_ref().and_then(|it| it.ice.remote.as_ref());
        let is_present = known.fragments.last().is_some_and(|last| last == names.0);
        if is_present && remote.is_none() && known.path.is_none() {
            if known.early.len() < STUN_EARLY_MAX {
                known.early.push((from, octets.to_vec()));
            }
            return;
        }
        let agent = known.agent.as_ref().filter(|agent| agent.ufrag == names.0);
        if let Some(agent) = agent {
            let is_peer = remote.is_some_and(|remote| remote.ufrag == names.1);
            if is_peer && is_authentic(octets, &known.integrity) {
                agent.feed.put(octets, from);
                self.learn(leg, from);
                self.start_handshake(leg, from);
            }
            return;
        }
        let Some(path) = &mut known.path else {
            return;
        };
        path.on_stun(from, now, octets);
        if path.accepts(from) {
            self.learn(leg, from);
        }
        self.settle(leg, false);
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, now: Time) {
        while let Some((_, leg)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.pop_first();
            if let Some(known) = self.legs.get_mut(&leg) {
                known.scheduled = None;
                if let Some(path) = &mut known.path {
                    path.on_time(now);
                }
            }
            self.settle(leg, false);
            // What is due again at once is so at the next turn.
            if self.due.first().is_some_and(|(_, next)| *next == leg) {
                return;
            }
        }
    }

    /// Returns when `on_time` is to be called next.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes what is to be done.
    pub(super) fn take(&mut self) -> Vec<(SideKey, WebOutput)> {
        std::mem::take(&mut self.out)
    }

    /// Makes a source that a check has proven the leg's, and nobody else's any more.
    fn learn(&mut self, leg: SideKey, from: SocketAddr) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let Some(known) = self.legs.get_mut(&leg) else {
            return;
        };
        let key = (known.local, from);
        let before = self.by_peer.insert(key, leg);
        if before == Some(leg) {
            return;
        }
        known.peers.push(from);
        if known.peers.len() > PATH_REMOTES_MAX {
            let oldest = known
                .peers
                .iter()
                .position(|peer| Some(*peer) != known.target);
            let oldest = known.peers.remove(oldest.unwrap_or(0));
            self.by_peer.remove(&(known.local, oldest));
        }
        if let Some(other) = before.and_then(|other| self.legs.get_mut(&other)) {
            other.peers.retain(|peer| *peer != from);
        }
    }

    /// Carries out what the path wants, and starts the handshake once there is a path.
    fn settle(&mut self, leg: SideKey, by_agent: bool) {
        let Some(known) = self.legs.get_mut(&leg) else {
            return;
        };
        let Some(path) = &mut known.path else {
            return;
        };
        let mut told = None;
        while let Some(output) = path.poll() {
            match output {
                PathOutput::Send { to, octets } => {
                    self.tools.asked.note(leg, Asker::Path, &octets);
                    // What the system does not take is lost: the path asks again.
                    let _ = send_to(&known.socket, &octets, to);
                }
                PathOutput::Selected { remote } | PathOutput::Revived { remote } => {
                    told = Some(MediaEvent::PathSelected { remote, by_agent });
                }
                PathOutput::Lost => told = Some(MediaEvent::PathLost),
            }
        }
        let (target, due) = (path.target(), path.next_due());
        if let (true, None, Some(remote)) = (by_agent, &told, target) {
            told = Some(MediaEvent::PathSelected { remote, by_agent });
        }
        self.schedule(leg, due);
        if let Some(event) = told {
            count(&event);
            self.out.push((leg, WebOutput::Event(event)));
        }
        self.aim(leg, target);
    }

    fn schedule(&mut self, leg: SideKey, due: Option<Time>) {
        let Some(known) = self.legs.get_mut(&leg) else {
            return;
        };
        if known.scheduled == due {
            return;
        }
        if let Some(former) = std::mem::replace(&mut known.scheduled, due) {
            self.due.remove(&(former, leg));
        }
        if let Some(due) = due {
            self.due.insert((due, leg));
        }
    }

    /// Sends media and handshake where the path goes.
    fn aim(&mut self, leg: SideKey, target: Option<SocketAddr>) {
        let Some(known) = self.legs.get_mut(&leg) else {
            return;
        };
        if known.target != target {
            known.target = target;
            self.out.push((leg, WebOutput::Target(target)));
        }
        if let Some(target) = target {
            if !known.peers.contains(&target) && !self.by_peer.contains_key(&(known.local, target))
            {
                // After a restart the peer's media comes before its next check.
                self.learn(leg, target);
            }
            self.start_handshake(leg, target);
        }
    }

    /// Starts the handshake of the present association, if it has neither keys nor a handshake, and
    /// sends its records to `to` from now on.
    fn start_handshake(&mut self, leg: SideKey, to: SocketAddr) {
        let Some(known) = self.legs.get_mut(&leg) else {
            return;
        };
        let Some(config) = &known.config else {
            return;
        };
        if let Some(handshake) = &known.handshake
            && handshake.association == config.association
            && (handshake.config == config.dtls || config.keys.is_some())
        {
            let rivals = known.rivals.iter().chain([handshake]);
            return rivals.for_each(|handshake| handshake.conn.aim(to));
        }
        if config.keys.is_none() {
            let of = (config.association, config.dtls.clone());
            known.rivals.clear();
            known.handshake = Some(known.handshake_of(of, to, &self.tools));
        }
    }
}

fn is_authentic(octets: &[u8], key: &IntegrityKey) -> bool {
    Message::read(octets).is_ok_and(|check| {
        check.class == Class::Request && check.has_fingerprint && check.is_authentic(key)
    })
}

fn count(event: &MediaEvent) {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "of all that media legs are told, these two are the path's"
    )]
    match event {
        MediaEvent::PathSelected { by_agent, .. } => {
            let by = if *by_agent { "agent" } else { "path" };
            metrics::counter!("weft_media_paths_selected_total", "by" => by).increment(1);
        }
        MediaEvent::PathLost => metrics::counter!("weft_media_paths_lost_total").increment(1),
        _ => {}
    }
}

fn path_config(ice: &IceConfig, selected: Option<SocketAddr>) -> PathConfig {
    PathConfig {
        local: ice.local.clone(),
        remote: ice.remote.clone(),
        is_controlling: ice.is_controlling,
        tie_breaker: ice.tie_breaker,
        selected,
        seed: ice.seed,
        priority: PRIORITY,
    }
}
