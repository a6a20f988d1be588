//! The bounded tables of a path: sources of the peer, its last checks, checks of ours.
//!
//! In: what was heard, what was sent, when. Out: whether it is known. Nothing here decides where
//! media goes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use contract::Time;
use contract::limits::{PATH_PENDING_MAX, PATH_REMOTES_MAX, PATH_SEEN_MAX};

use crate::stun::TransactionId;

/// How long a source counts as the peer's after its last valid check.
const KNOWN: Duration = Duration::from_secs(30);
/// How long an answer to a check of ours is waited for.
const ANSWER: Duration = Duration::from_secs(5);
/// Bounds of the pause before a check without an answer is followed by another, and what it is
/// before a round trip was measured (RFC 8489 §6.2.1).
const RTO_MIN: Duration = Duration::from_millis(100);
const RTO_MAX: Duration = Duration::from_millis(500);

/// A source of the peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote {
    pub(super) address: SocketAddr,
    /// Last valid request or answer.
    pub(super) heard: Time,
    /// Last answer to a check of ours, of this generation.
    pub(super) proven: Option<Time>,
    /// It sent a request that triggers a check (RFC 8445 §7.3.1.4).
    pub(super) wants_check: bool,
}

/// The sources of the peer. Bound: `PATH_REMOTES_MAX`.
#[derive(Debug, Default)]
pub(super) struct Remotes(Vec<Remote>);

impl Remotes {
    pub(super) fn find(&self, address: SocketAddr) -> Option<&Remote> {
        self.0.iter().find(|remote| remote.address == address)
    }

    pub(super) fn knows(&self, address: SocketAddr) -> bool {
        self.find(address).is_some()
    }

    pub(super) fn is_proven(&self, address: SocketAddr) -> bool {
        self.find(address)
            .is_some_and(|remote| remote.proven.is_some())
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.0.iter().map(|remote| remote.address)
    }

    /// Returns a source that waits to be checked: the one heard last, as that is where the peer is.
    pub(super) fn wants_check(&self) -> Option<SocketAddr> {
        self.0
            .iter()
            .filter(|remote| remote.wants_check)
            .max_by_key(|remote| remote.heard)
            .map(|remote| remote.address)
    }

    /// Returns the proven source that was heard last, other than `but`.
    pub(super) fn latest_proven(&self, but: Option<SocketAddr>) -> Option<Remote> {
        self.0
            .iter()
            .filter(|remote| remote.proven.is_some() && Some(remote.address) != but)
            .max_by_key(|remote| remote.heard)
            .copied()
    }

    /// Notes a valid check of `address`, and makes place for it: of the sources but `keep` the one
    /// heard longest ago goes, those that were never proven first.
    pub(super) fn hear(
        &mut self,
        address: SocketAddr,
        keep: Option<SocketAddr>,
        now: Time,
    ) -> &mut Remote {
        let place = match self.0.iter().position(|remote| remote.address == address) {
            Some(place) => place,
            None => self.admit(address, keep, now),
        };
        let remote = &mut self.0[place];
        remote.heard = now;
        remote
    }

    /// Notes a valid check of a source that is known.
    pub(super) fn hear_again(&mut self, address: SocketAddr, now: Time) {
        for remote in &mut self.0 {
            if remote.address == address {
                remote.heard = now;
            }
        }
    }

    pub(super) fn checked(&mut self, address: SocketAddr) {
        for remote in &mut self.0 {
            remote.wants_check &= remote.address != address;
        }
    }

    /// Forgets the proofs: they were of another generation.
    pub(super) fn disprove(&mut self) {
        for remote in &mut self.0 {
            remote.proven = None;
            remote.wants_check = false;
        }
    }

    /// Forgets sources that were not heard for 30 s, but `keep`, and proofs as old.
    pub(super) fn forget(&mut self, keep: Option<SocketAddr>, now: Time) {
        self.0
            .retain(|remote| now.since(remote.heard) < KNOWN || Some(remote.address) == keep);
        for remote in &mut self.0 {
            remote.proven = remote.proven.filter(|proven| now.since(*proven) < KNOWN);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn admit(&mut self, address: SocketAddr, keep: Option<SocketAddr>, now: Time) -> usize {
        if self.0.len() >= PATH_REMOTES_MAX {
            let leaves = self
                .0
                .iter()
                .enumerate()
                .filter(|(_, remote)| Some(remote.address) != keep)
                .min_by_key(|(_, remote)| (remote.proven.is_some(), remote.heard))
                .map(|(place, _)| place);
            if let Some(place) = leaves {
                self.0.swap_remove(place);
            }
        }
        self.0.push(Remote {
            address,
            heard: now,
            proven: None,
            wants_check: false,
        });
        self.0.len() - 1
    }
}

/// Numbers of the peer's last checks. Bound: `PATH_SEEN_MAX`, the oldest go.
#[derive(Debug, Default)]
pub(super) struct Seen(VecDeque<(TransactionId, SocketAddr)>);

impl Seen {
    /// Notes a check; tells whether one of this number came from another source before.
    pub(super) fn is_copy(&mut self, transaction: TransactionId, from: SocketAddr) -> bool {
        if let Some((_, source)) = self.0.iter().find(|(seen, _)| *seen == transaction) {
            return *source != from;
        }
        if self.0.len() >= PATH_SEEN_MAX {
            self.0.pop_front();
        }
        self.0.push_back((transaction, from));
        false
    }
}

/// A check of ours that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    pub(super) transaction: TransactionId,
    pub(super) to: SocketAddr,
    pub(super) sent: Time,
    pub(super) was_controlling: bool,
}

/// The checks that wait, oldest first. Bound: `PATH_PENDING_MAX`.
#[derive(Debug, Default)]
pub(super) struct Pending(VecDeque<Check>);

impl Pending {
    pub(super) fn add(&mut self, check: Check) {
        self.forget(check.sent);
        if self.0.len() >= PATH_PENDING_MAX {
            self.0.pop_front();
        }
        self.0.push_back(check);
    }

    /// Returns the check that an answer of `from` belongs to: addresses must be symmetric
    /// (RFC 8445 §7.2.5.2.1).
    pub(super) fn find(&self, transaction: TransactionId, from: SocketAddr) -> Option<Check> {
        self.0
            .iter()
            .find(|check| check.transaction == transaction && check.to == from)
            .copied()
    }

    pub(super) fn remove(&mut self, transaction: TransactionId) {
        self.0.retain(|check| check.transaction != transaction);
    }

    pub(super) fn forget(&mut self, now: Time) {
        while let Some(first) = self.0.front()
            && now.since(first.sent) > ANSWER
        {
            self.0.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The measured round trip (RFC 6298 §2, as RFC 8489 §6.2.1 asks).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrip(Option<(Duration, Duration)>);

impl RoundTrip {
    pub(super) fn measure(&mut self, sample: Duration) {
        self.0 = Some(match self.0 {
            None => (sample, sample / 2),
            Some((smooth, variation)) => (
                (smooth * 7 + sample) / 8,
                (variation * 3 + smooth.abs_diff(sample)) / 4,
            ),
        });
    }

    /// Returns the pause before an unanswered check to `to` is followed by another.
    pub(super) fn pause(&self, to: SocketAddr) -> Duration {
        let pause = match self.0 {
            Some((smooth, variation)) => smooth + variation * 4,
            None if to.ip().is_loopback() => RTO_MIN,
            None => RTO_MAX,
        };
        pause.clamp(RTO_MIN, RTO_MAX)
    }
}
