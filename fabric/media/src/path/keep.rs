//! Phases and deadlines: what is checked when, and where media goes.
//!
//! In: time, and what `answer` learnt. Out: checks of ours, changes of the selected address.

use std::net::SocketAddr;
use std::time::Duration;

use contract::Time;
use contract::limits::STUN_MESSAGE_BYTES_MAX;

use crate::stun::{Class, Role, TransactionId, Writer};

use super::remote::Check;
use super::{CONSENT, PROOF, Path, PathOutput, SILENCE};

/// Pause between checks in the first second.
const FAST: Duration = Duration::from_millis(50);
/// How long checks are fast.
const FAST_FOR: Duration = Duration::from_secs(1);
/// Longest pause between checks without an answer.
const SLOW: Duration = Duration::from_millis(500);
/// Checks of one tick beside the selected address: one while they are fast (RFC 8445 §14.2), more
/// when they are slow, so that a round over all candidates ends.
const OTHERS_FAST: usize = 1;
const OTHERS_SLOW: usize = 3;
/// Pause between checks that requests trigger: the least of RFC 8445 §14.2.
const TRIGGERED: Duration = Duration::from_millis(5);

/// A series of checks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) since: Time,
    pub(super) next: Time,
    interval: Duration,
    fast_until: Time,
    /// Everything known is checked, not only the selected address.
    pub(super) is_wide: bool,
}

impl Probe {
    /// Checks everything each 50 ms for a second, then ever slower down to 500 ms.
    pub(super) fn fast(now: Time) -> Self {
        Probe {
            since: now,
            next: now + FAST,
            interval: FAST,
            fast_until: now + FAST_FOR,
            is_wide: true,
        }
    }

    /// Checks the selected address after `pause`, then ever slower.
    fn patient(now: Time, pause: Duration) -> Self {
        Probe {
            since: now,
            next: now + pause,
            interval: pause,
            fast_until: now,
            is_wide: false,
        }
    }

    fn is_fast(&self, now: Time) -> bool {
        now < self.fast_until
    }

    fn advance(&mut self, now: Time) {
        if !self.is_fast(now) {
            self.interval = (self.interval * 2).min(SLOW);
        }
        self.next = now + self.interval;
    }
}

/// An address of before an ICE restart that still gets media.
#[derive(Clone, Copy, Debug)]
pub(super) struct Old {
    pub(super) address: SocketAddr,
    pub(super) expires: Time,
    pub(super) since: Time,
}

/// Where the path stands; the table is in the module's documentation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    Searching {
        probe: Probe,
        old: Option<Old>,
    },
    Checking {
        to: SocketAddr,
        probe: Probe,
        expires: Time,
    },
    Kept {
        to: SocketAddr,
        next: Time,
        expires: Time,
    },
    Lost {
        to: SocketAddr,
        probe: Probe,
    },
}

impl Path {
    /// Sends media to a remembered address and checks whatever is known.
    pub(super) fn resume(&mut self, to: SocketAddr, now: Time) {
        self.phase = Phase::Checking {
            to,
            probe: Probe::fast(now),
            expires: now + CONSENT,
        };
        self.check_all(now);
    }

    /// Checks everything known again, wherever the path stands.
    pub(super) fn check_again(&mut self, now: Time) {
        let fresh = Probe::fast(now);
        match &mut self.phase {
            Phase::Searching { probe, .. }
            | Phase::Checking { probe, .. }
            | Phase::Lost { probe, .. } => *probe = fresh,
            Phase::Kept { to, expires, .. } => {
                self.phase = Phase::Checking {
                    to: *to,
                    probe: fresh,
                    expires: *expires,
                };
            }
        }
        self.check_all(now);
    }

    /// Searches with new credentials; the old address keeps what is left of its consent.
    pub(super) fn search_again(&mut self, now: Time) {
        let old = match self.phase {
            Phase::Searching { old, .. } => old,
            Phase::Checking { to, expires, .. } | Phase::Kept { to, expires, .. } => Some(Old {
                address: to,
                expires,
                since: now,
            }),
            Phase::Lost { .. } => None,
        };
        let probe = Probe::fast(now);
        self.phase = Phase::Searching { probe, old };
        self.check_all(now);
    }

    /// Takes note of a candidate; `was_idle` if nothing was known before.
    pub(super) fn on_candidate(&mut self, address: SocketAddr, was_idle: bool, now: Time) {
        let is_checked = match &mut self.phase {
            Phase::Searching { probe, .. } => {
                if was_idle {
                    *probe = Probe::fast(now);
                }
                true
            }
            Phase::Checking { probe, .. } => probe.is_wide,
            Phase::Kept { .. } => false,
            Phase::Lost { .. } => true,
        };
        if is_checked {
            self.check(address, now);
        }
    }

    /// Selects an address: by an answer of it, or by its nomination alone.
    pub(super) fn select(&mut self, to: SocketAddr, is_proven: bool, now: Time) {
        let event = match self.phase {
            Phase::Searching { .. } => Some(PathOutput::Selected { remote: to }),
            Phase::Checking { to: before, .. } | Phase::Kept { to: before, .. } => {
                (before != to).then_some(PathOutput::Selected { remote: to })
            }
            Phase::Lost { .. } => Some(PathOutput::Revived { remote: to }),
        };
        self.nominated = None;
        if is_proven {
            self.keep(to, now);
        } else {
            let proof = if self.credentials.can_check() {
                PROOF
            } else {
                CONSENT
            };
            self.phase = Phase::Checking {
                to,
                probe: Probe {
                    is_wide: false,
                    ..Probe::fast(now)
                },
                expires: now + proof,
            };
        }
        if let Some(event) = event {
            self.tell(event);
        }
        if !is_proven || self.is_controlling {
            self.check(to, now);
        }
    }

    /// Enters `Kept`: consent is fresh.
    pub(super) fn keep(&mut self, to: SocketAddr, now: Time) {
        let next = match self.phase {
            Phase::Kept {
                to: before, next, ..
            } if before == to => next,
            Phase::Searching { .. }
            | Phase::Checking { .. }
            | Phase::Kept { .. }
            | Phase::Lost { .. } => now + self.consent_pause(),
        };
        self.phase = Phase::Kept {
            to,
            next,
            expires: now + CONSENT,
        };
    }

    /// Tells whether the address that gets media was silent for 2.5 s while it was asked.
    pub(super) fn is_silent(&self, now: Time) -> bool {
        let (address, since) = match &self.phase {
            Phase::Searching { old: None, .. } | Phase::Lost { .. } => return true,
            Phase::Searching { old: Some(old), .. } => (old.address, old.since),
            Phase::Checking { to, probe, .. } => (*to, probe.since),
            Phase::Kept { .. } => return false,
        };
        let heard = self.heard(address).unwrap_or(since).max(since);
        now.since(heard) >= SILENCE
    }

    /// Tells whether nothing valid came for 2.5 s from the address that gets media.
    pub(super) fn is_unheard(&self, now: Time) -> bool {
        self.target()
            .and_then(|address| self.heard(address))
            .is_none_or(|heard| now.since(heard) >= SILENCE)
    }

    /// Asks the selected address whether it is there, if it is not being asked.
    pub(super) fn doubt(&mut self, now: Time) {
        if let Phase::Kept { to, expires, .. } = self.phase {
            self.phase = Phase::Checking {
                to,
                probe: Probe::patient(now, self.round_trip.pause(to)),
                expires,
            };
            self.check(to, now);
        }
    }

    /// Moves media to another address that answers, once the selected one is silent.
    pub(super) fn move_from_silence(&mut self, now: Time) {
        let asked = match &self.phase {
            Phase::Searching { .. } => None,
            Phase::Checking { to, .. } => Some(*to),
            Phase::Kept { .. } | Phase::Lost { .. } => return,
        };
        if !self.is_silent(now) {
            return;
        }
        if let Some(remote) = self.remotes.latest_proven(asked)
            && now.since(remote.heard) < PROOF
        {
            self.select(remote.address, true, now);
        }
    }

    /// Ends consent that nobody renewed (RFC 7675 §5.1).
    pub(super) fn expire(&mut self, now: Time) {
        match &mut self.phase {
            Phase::Searching { old, .. } => {
                if old.is_some_and(|old| now >= old.expires) {
                    *old = None;
                    self.tell(PathOutput::Lost);
                }
            }
            Phase::Checking { to, probe, expires } => {
                if now >= *expires {
                    let mut probe = *probe;
                    probe.is_wide = true;
                    self.phase = Phase::Lost { to: *to, probe };
                    self.tell(PathOutput::Lost);
                }
            }
            Phase::Kept { to, expires, .. } => {
                if now >= *expires {
                    let mut probe = Probe::patient(now, SLOW);
                    probe.is_wide = true;
                    self.phase = Phase::Lost { to: *to, probe };
                    self.tell(PathOutput::Lost);
                }
            }
            Phase::Lost { .. } => {}
        }
    }

    /// Sends the checks that are due.
    pub(super) fn tick(&mut self, now: Time) {
        let is_unanswered = self.is_silent(now);
        let (to, probe) = match &mut self.phase {
            Phase::Searching { probe, .. } => (None, probe),
            Phase::Checking { to, probe, .. } | Phase::Lost { to, probe } => (Some(*to), probe),
            Phase::Kept { next, .. } => {
                if now >= *next {
                    self.doubt(now);
                }
                return;
            }
        };
        if now < probe.next {
            return;
        }
        let others = match (probe.is_wide || is_unanswered, probe.is_fast(now)) {
            (false, _) => 0,
            (true, true) => OTHERS_FAST,
            (true, false) => OTHERS_SLOW,
        };
        probe.advance(now);
        if let Some(to) = to {
            self.check(to, now);
        }
        self.check_others(to, others, now);
    }

    /// Sends the check that a request triggered, if it is time for one.
    pub(super) fn run_triggered(&mut self, now: Time) {
        if now < self.triggered_next {
            return;
        }
        if let Some(to) = self.remotes.wants_check() {
            self.triggered_next = now + TRIGGERED;
            self.check(to, now);
        }
    }

    /// Forgets what is too old to count.
    pub(super) fn forget(&mut self, now: Time) {
        self.remotes.forget(self.target(), now);
        self.pending.forget(now);
        if let Some((_, until)) = self.previous
            && now >= until
        {
            self.previous = None;
        }
    }

    /// Returns every address of the peer there is, each once.
    pub(super) fn known(&self) -> Vec<SocketAddr> {
        let selected = match &self.phase {
            Phase::Searching { old, .. } => old.map(|old| old.address),
            Phase::Checking { to, .. } | Phase::Kept { to, .. } | Phase::Lost { to, .. } => {
                Some(*to)
            }
        };
        let mut known: Vec<SocketAddr> = Vec::new();
        let all = selected
            .into_iter()
            .chain(self.remotes.addresses())
            .chain(self.candidates.iter().copied());
        for address in all {
            if !known.contains(&address) {
                known.push(address);
            }
        }
        known
    }

    /// Sends one check (RFC 8445 §7.1, §7.2.2).
    pub(super) fn check(&mut self, to: SocketAddr, now: Time) {
        self.remotes.checked(to);
        let transaction = self.next_transaction();
        let Some((receiver, sender, key)) = self.credentials.outgoing() else {
            return;
        };
        let role = if self.is_controlling {
            Role::Controlling(self.tie_breaker)
        } else {
            Role::Controlled(self.tie_breaker)
        };
        let mut buffer = [0u8; STUN_MESSAGE_BYTES_MAX];
        let mut writer = Writer::new(&mut buffer, Class::Request, transaction)
            .username(receiver, sender)
            .priority(self.priority)
            .role(role);
        if self.is_controlling && self.target() == Some(to) {
            writer = writer.nominate();
        }
        let Ok(length) = writer.finish(Some(key)) else {
            return;
        };
        self.pending.add(Check {
            transaction,
            to,
            sent: now,
            was_controlling: self.is_controlling,
        });
        self.send(to, buffer[..length].to_vec());
    }

    fn check_all(&mut self, now: Time) {
        for address in self.known() {
            self.check(address, now);
        }
    }

    /// Checks the next `count` known addresses but `but`, in turns.
    fn check_others(&mut self, but: Option<SocketAddr>, count: usize, now: Time) {
        if count == 0 {
            return;
        }
        let mut known = self.known();
        known.retain(|address| Some(*address) != but);
        for _ in 0..count.min(known.len()) {
            let place = self.round % known.len();
            self.round = self.round.wrapping_add(1);
            self.check(known[place], now);
        }
    }

    fn heard(&self, address: SocketAddr) -> Option<Time> {
        self.remotes.find(address).map(|remote| remote.heard)
    }

    /// Draws a transaction number (RFC 8489 §5).
    fn next_transaction(&mut self) -> TransactionId {
        let mut transaction = TransactionId::default();
        transaction
            .0
            .copy_from_slice(&self.entropy.next_u128().to_le_bytes()[..12]);
        transaction
    }

    /// Draws the pause to the next check: 5 s × 0.8..1.2 (RFC 7675 §5.1).
    fn consent_pause(&mut self) -> Duration {
        Duration::from_millis(4_000 + u64::from(self.entropy.below(2_001)))
    }
}
