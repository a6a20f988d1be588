//! What the desk knows of one node: how it stands, when it is dialled next.
//!
//! In: changes of the desk. Out: answers. It opens, closes and tells nothing.

use std::sync::Arc;
use std::time::Duration;

use contract::{Entropy, NodeInst, Peer, Time};
use tokio::task::AbortHandle;

use super::connection::{Gate, Proven};
use super::outbox::Outbox;

/// Shortest and longest pause between two attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Time in which the node with the lower number should have dialled; then the other one does.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// One node.
#[derive(Debug)]
pub(super) struct Entry {
    /// Whom to keep connected.
    pub wanted: Option<Peer>,
    pub standing: Standing,
    /// The half of a pair that it has dialled.
    pub arriving: Option<Arriving>,
    /// Whose loss is not told yet: a probe runs.
    pub doubted: Option<Peer>,
    /// Its address is being dialled; who is there is not known yet.
    pub is_dialling: bool,
    dial_from: Time,
    backoff: Duration,
}

/// How a node stands.
#[derive(Debug)]
pub(super) enum Standing {
    /// Not connected.
    Idle,
    /// We have met it, and make a pair of connections.
    Dialling {
        inst: NodeInst,
        link: u64,
        task: AbortHandle,
    },
    /// Connected.
    Up(Link),
}

/// Connections that a node has dialled, until both are there.
#[derive(Debug)]
pub(super) struct Arriving {
    pub inst: NodeInst,
    pub link: u64,
    pub urgent: Option<Proven>,
    pub bulk: Option<Proven>,
    /// When the missing one is too late.
    pub until: Time,
}

/// The two connections with a node.
#[derive(Debug)]
pub(super) struct Link {
    /// Drawn by the one who dialled.
    pub number: u64,
    pub peer: Peer,
    pub since: Time,
    /// Somebody has asked to keep it.
    pub was_kept: bool,
    /// The peer has closed one of the two in order.
    pub is_closing: bool,
    pub outboxes: [Arc<Outbox>; 2],
    pub gates: [Arc<Gate>; 2],
    pub tasks: Vec<AbortHandle>,
}

impl Default for Entry {
    fn default() -> Self {
        Entry {
            wanted: None,
            standing: Standing::Idle,
            arriving: None,
            doubted: None,
            is_dialling: false,
            dial_from: Time::ZERO,
            backoff: BACKOFF.0,
        }
    }
}

impl Entry {
    pub(super) fn link(&self) -> Option<&Link> {
        match &self.standing {
            Standing::Up(link) => Some(link),
            Standing::Idle | Standing::Dialling { .. } => None,
        }
    }

    /// The same, to change it.
    pub(super) fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.standing {
            Standing::Up(link) => Some(link),
            Standing::Idle | Standing::Dialling { .. } => None,
        }
    }

    /// Takes the link out; the node is idle then.
    pub(super) fn take_link(&mut self) -> Option<Link> {
        match std::mem::replace(&mut self.standing, Standing::Idle) {
            Standing::Up(link) => Some(link),
            other @ (Standing::Idle | Standing::Dialling { .. }) => {
                self.standing = other;
                None
            }
        }
    }

    /// Gives up making a pair.
    pub(super) fn stop_dialling(&mut self) {
        if let Standing::Dialling { task, .. } = &self.standing {
            task.abort();
            self.standing = Standing::Idle;
        }
    }

    /// Tells whether nothing would be lost with the entry.
    pub(super) fn is_idle(&self) -> bool {
        let is_idle = matches!(self.standing, Standing::Idle);
        is_idle && self.wanted.is_none() && self.arriving.is_none() && self.doubted.is_none()
    }

    /// Tells whether its link may stay as it is wanted now, and remembers whether it is.
    pub(super) fn may_stay(&mut self, now: Time, grace: Duration) -> bool {
        let wanted = self.wanted;
        let Standing::Up(link) = &mut self.standing else {
            return true;
        };
        // A newer life than the one that membership knows of is the one it will want.
        let is_wanted = wanted.is_some_and(|peer| peer.inst.boot <= link.peer.inst.boot);
        link.was_kept |= is_wanted;
        is_wanted || (!link.was_kept && now.since(link.since) < grace)
    }

    /// Returns whom to dial, and from when on.
    pub(super) fn next_dial(&self) -> Option<(Peer, Time)> {
        let is_free = matches!(self.standing, Standing::Idle) && self.arriving.is_none();
        let peer = self.wanted.filter(|_| is_free && !self.is_dialling)?;
        Some((peer, self.dial_from))
    }

    pub(super) fn dial_from(&mut self, at: Time) {
        self.dial_from = at;
    }

    /// Returns how long to wait after a failure: twice as long each time, and somewhat less.
    pub(super) fn back_off(&mut self, chance: &mut Entropy) -> Duration {
        let length = self.backoff;
        self.backoff = (length * 2).min(BACKOFF.1);
        let half = length / 2;
        let micros = u32::try_from(half.as_micros()).unwrap_or(u32::MAX);
        let jitter = Duration::from_micros(u64::from(chance.below(micros)));
        (half + jitter).max(BACKOFF.0)
    }

    /// Returns how long to wait after the loss of a link that lasted `length`: not at all if it was
    /// a good one.
    pub(super) fn after_loss(&mut self, length: Duration, chance: &mut Entropy) -> Duration {
        if length < BACKOFF.1 {
            return self.back_off(chance);
        }
        self.backoff = BACKOFF.0;
        Duration::ZERO
    }
}
