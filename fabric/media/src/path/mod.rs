//! The one path of a WebRTC leg: keeps, resumes and moves it (`browser.md` rule 1).
//!
//! In: what ICE set-up found or a record remembers, STUN datagrams, time. Out: STUN datagrams, and
//! where media goes now. It gathers nothing, orders no pairs and opens no socket: `webrtc-ice` sets
//! up toward lite peers, and toward browsers the path starts here with nothing selected.
//!
//! | phase | event | what happens | next phase | source |
//! |---|---|---|---|---|
//! | any | request, integrity or user fragment wrong | 401, 400; at most ten a second, never larger than the request | same | RFC 8489 §9.1.3, threats.md 21 |
//! | any | request, unknown attribute | 420 | same | RFC 8489 §6.3.1 |
//! | any | request, both ends in one role | 487, or the role is switched | same | RFC 8445 §7.3.1.1 |
//! | any | request | answered; its source is learnt and checked | as below | RFC 8445 §7.3.1.3, §7.3.1.4 |
//! | Searching | tick | what is known is checked, paced | Searching | RFC 8445 §14 |
//! | Searching, Lost | nominating request | its source is selected | Checking | RFC 8445 §7.3.1.5 |
//! | Searching, Lost | answer to a check of ours | its source is selected | Kept | RFC 8445 §12.1 |
//! | Checking, Kept | nominating request from elsewhere | selected at once if it is proven or the selected address is silent for 2.5 s; else as soon as it answers a check | Checking or Kept | RFC 8445 §7.3.1.5, §8.1.1 |
//! | Checking | the selected address answers | consent for 30 s | Kept | RFC 7675 §5.1 |
//! | Checking | silent for 2.5 s, another address answers | that one is selected | Kept | `browser.md` Q3 |
//! | Kept | 5 s × 0.8..1.2 passed | the selected address is checked | Checking | RFC 7675 §5.1 |
//! | Checking, Kept | no answer for 30 s | no media any more; checks go on | Lost | RFC 7675 §5.1 |
//! | Lost | request from the lost address | media goes there again | Checking | `browser.md` Q2 |
//!
//! An address that was selected by requests alone has to answer a check of ours within 5 s.
//!
//! After an ICE restart the path is `Searching`, but media goes on to the old address until a new
//! one is selected or consent for the old one ends (RFC 8445 §9), and checks with the old user
//! fragment are answered for `PATH_PREVIOUS_S`.
//!
//! Deviation: a check without an answer is followed by others after 100 to 500 ms, each with a
//! number of its own, where RFC 7675 §5.1 waits for the next interval: a lost packet must not look
//! like a dead peer. Test: `a_lost_consent_check_is_followed_by_another`.
//! Deviation: checks go on after consent has ended, and any valid one revives the path, where
//! RFC 7675 §5.1 asks for an ICE restart: a browser has dropped its pairs by then and waits to be
//! checked. Test: `a_browser_is_revived_after_every_outage`.
//!
//! A check that comes a second time from another source is a copy: answered, but it teaches
//! nothing. To a source that has not answered a check goes at most one answer, no larger than its
//! request, and one check of ours for each authentic request that it sends.

mod answer;
mod credentials;
mod keep;
mod remote;

#[cfg(test)]
mod browser_tests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use contract::limits::{ICE_CANDIDATES_MAX, PATH_PREVIOUS_S, PATH_SENDS_MAX};
use contract::{Entropy, IceCredentials, Time};

use crate::stun::{BINDING, Class, Message};
use credentials::Credentials;
use keep::{Phase, Probe};
use remote::{Pending, Remotes, RoundTrip, Seen};

/// Consent without an answer ends after this (RFC 7675 §5.1).
const CONSENT: Duration = Duration::from_secs(30);
/// An address selected by requests alone answers a check of ours within this.
const PROOF: Duration = Duration::from_secs(5);
/// Silence of the selected address after which another one that answers takes over: browsers
/// check at least this often (`browser.md` Q3).
const SILENCE: Duration = Duration::from_millis(2_500);
/// Events that wait for `poll`; the oldest go.
const EVENTS_MAX: usize = 8;

/// What a path starts from.
#[derive(Clone, Debug)]
pub struct PathConfig {
    /// Our user fragment and password.
    pub local: IceCredentials,
    /// The peer's; without them its checks are answered, and none of ours are sent.
    pub remote: Option<IceCredentials>,
    /// We nominate (RFC 8445 §6.1.1).
    pub is_controlling: bool,
    /// Breaks role conflicts (RFC 8445 §16.1).
    pub tie_breaker: u64,
    /// Address that set-up selected, or that media went to before a restart.
    pub selected: Option<SocketAddr>,
    /// Seed of transaction numbers and pauses.
    pub seed: u64,
    /// PRIORITY of our checks (RFC 8445 §7.1.1).
    pub priority: u32,
}

/// What a path asks and tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathOutput {
    /// A STUN message is to be sent.
    Send {
        /// Where.
        to: SocketAddr,
        /// The datagram.
        octets: Vec<u8>,
    },
    /// Media goes to this address from now on.
    Selected {
        /// The peer's address.
        remote: SocketAddr,
    },
    /// Nothing proves any more that the peer wants media: `target` is empty.
    Lost,
    /// Media goes again after `Lost`, possibly elsewhere.
    Revived {
        /// The peer's address.
        remote: SocketAddr,
    },
}

/// The path of one leg. Bounds: the `PATH_*` limits and `ICE_CANDIDATES_MAX`.
#[derive(Debug)]
pub struct Path {
    credentials: Credentials,
    /// Those of before an ICE restart, and until when they count.
    previous: Option<(Credentials, Time)>,
    is_controlling: bool,
    tie_breaker: u64,
    priority: u32,
    entropy: Entropy,
    phase: Phase,
    candidates: Vec<SocketAddr>,
    remotes: Remotes,
    seen: Seen,
    pending: Pending,
    round_trip: RoundTrip,
    /// Nominated by the peer, selected when it answers a check of ours.
    nominated: Option<SocketAddr>,
    /// Highest NOMINATION of the peer.
    nomination: u32,
    /// Next address of a round of checks.
    round: usize,
    /// No check that a request triggers goes out before this.
    triggered_next: Time,
    refusals: (Time, u32),
    sends: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<PathOutput>,
}

impl Path {
    /// Starts a path; a selected address gets media, and checks of ours, at once.
    #[must_use]
    pub fn new(config: &PathConfig, now: Time) -> Path {
        let mut seed = [0u8; 32];
        seed[..8].copy_from_slice(&config.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&now.as_micros().to_le_bytes());
        let mut path = Path {
            credentials: Credentials::new(config),
            previous: None,
            is_controlling: config.is_controlling,
            tie_breaker: config.tie_breaker,
            priority: config.priority,
            entropy: Entropy::from_seed(seed),
            phase: Phase::Searching {
                probe: Probe::fast(now),
                old: None,
            },
            candidates: Vec::new(),
            remotes: Remotes::default(),
            seen: Seen::default(),
            pending: Pending::default(),
            round_trip: RoundTrip::default(),
            nominated: None,
            nomination: 0,
            round: 0,
            triggered_next: now,
            refusals: (now, 0),
            sends: VecDeque::new(),
            events: VecDeque::new(),
        };
        if let Some(address) = config.selected {
            path.resume(canonical(address), now);
        }
        path
    }

    /// Takes the credentials of an ICE restart (RFC 8445 §9), or those of the peer if they were
    /// missing; with the same ones everything known is checked again. Candidates of before a
    /// restart are forgotten; the old address keeps getting media until there is a new one.
    pub fn restart(&mut self, config: &PathConfig, now: Time) {
        let next = Credentials::new(config);
        if self.credentials.is_completed_by(&next) {
            self.credentials = next;
            match config.selected.map(canonical) {
                Some(address) if self.target() != Some(address) => self.resume(address, now),
                Some(_) | None => self.check_again(now),
            }
            return;
        }
        let until = now + Duration::from_secs(PATH_PREVIOUS_S);
        let before = std::mem::replace(&mut self.credentials, next);
        self.previous = Some((before, until));
        self.is_controlling = config.is_controlling;
        self.tie_breaker = config.tie_breaker;
        self.priority = config.priority;
        self.candidates.clear();
        self.pending.clear();
        self.remotes.disprove();
        self.nominated = None;
        self.nomination = 0;
        match config.selected {
            Some(address) => self.resume(canonical(address), now),
            None => self.search_again(now),
        }
    }

    /// Takes a candidate of the peer that the caller allows to be sent to. It is checked at once if
    /// nothing is selected or the path resumes.
    pub fn add_remote_candidate(&mut self, address: SocketAddr, now: Time) {
        let address = canonical(address);
        let is_new = !self.candidates.contains(&address);
        if !is_new || address.port() == 0 || self.candidates.len() >= ICE_CANDIDATES_MAX {
            return;
        }
        let was_idle = self.known().is_empty();
        self.candidates.push(address);
        self.on_candidate(address, was_idle, now);
    }

    /// Takes a STUN datagram from `from`. What is no message of a check is dropped.
    pub fn on_stun(&mut self, from: SocketAddr, now: Time, packet: &[u8]) {
        let from = canonical(from);
        let Ok(message) = Message::read(packet) else {
            return;
        };
        // ICE always adds FINGERPRINT (RFC 8445 §7.1, §7.3): without it, it is no check.
        if message.method != BINDING || !message.has_fingerprint {
            return;
        }
        match message.class {
            Class::Request => self.on_request(from, now, packet.len(), &message),
            Class::Success => self.on_success(from, now, &message),
            Class::Error => self.on_error(from, now, &message),
            Class::Indication => {}
        }
        self.run_triggered(now);
    }

    /// Does what is due at `now`.
    pub fn on_time(&mut self, now: Time) {
        self.forget(now);
        self.expire(now);
        self.move_from_silence(now);
        self.tick(now);
        self.run_triggered(now);
    }

    /// Returns when `on_time` is to be called next; it changes with every other call.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        let can_check = self.credentials.can_check();
        let triggered = self
            .remotes
            .wants_check()
            .map(|_| self.triggered_next)
            .filter(|_| can_check);
        let probe = |probe: &Probe| Some(probe.next).filter(|_| can_check);
        let (first, second) = match &self.phase {
            Phase::Searching { probe: due, old } => (
                probe(due).filter(|_| !self.known().is_empty()),
                old.map(|old| old.expires),
            ),
            Phase::Checking {
                probe: due,
                expires,
                ..
            } => (probe(due), Some(*expires)),
            Phase::Kept { next, expires, .. } => (Some(*next), Some(*expires)),
            Phase::Lost { probe: due, .. } => (probe(due), None),
        };
        [triggered, first, second].into_iter().flatten().min()
    }

    /// Takes the next output, if there is one.
    pub fn poll(&mut self) -> Option<PathOutput> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let (to, octets) = self.sends.pop_front()?;
        Some(PathOutput::Send { to, octets })
    }

    /// Returns where media goes now.
    #[must_use]
    pub fn target(&self) -> Option<SocketAddr> {
        match &self.phase {
            Phase::Searching { old, .. } => old.map(|old| old.address),
            Phase::Checking { to, .. } | Phase::Kept { to, .. } => Some(*to),
            Phase::Lost { .. } => None,
        }
    }

    /// Tells whether media of `from` may be the peer's: it passed a check in the last 30 s, or is
    /// where media goes.
    #[must_use]
    pub fn accepts(&self, from: SocketAddr) -> bool {
        let from = canonical(from);
        self.target() == Some(from) || self.remotes.knows(from)
    }

    fn send(&mut self, to: SocketAddr, octets: Vec<u8>) {
        if self.sends.len() < PATH_SENDS_MAX {
            self.sends.push_back((to, octets));
        }
    }

    fn tell(&mut self, event: PathOutput) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// Writes an IPv4 address as itself, however the socket saw it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
