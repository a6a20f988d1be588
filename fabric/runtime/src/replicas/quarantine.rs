//! A node whose store has lost something (`cluster.md` §9, I19).
//!
//! In: what the store says of itself, how far the comparing of shards is. Out: whether this node may
//! answer as a holder, own records, begin actors.
//!
//! | the loss is found | the node | until |
//! |---|---|---|
//! | at the start | joins as `Joining`, begins nothing, owns nothing, says `Unsettled` | all shards are compared with every member |
//! | while it runs | keeps its live actors, which know their state; says `Unsettled` | the same, after all digests were read anew |
//! | nobody else is there | the same | 30 s; then it says what nobody has and goes on |
//!
//! As a holder it grants no claim, since it may have forgotten a fence, and stores commits without
//! saying so: what it has counts for nobody's quorum, and nothing is missing when it is asked again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::{HolderRequest, ShardSet};
use contract::core::Roster;
use contract::limits::QUARANTINE_ALONE_MS;
use contract::{ActorId, MemberState, NodeId, Time};

use super::{Replicas, Turn};
use crate::fabric::Fabric;

/// Between two looks at how far the repair is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is known of a loss.
#[derive(Default)]
pub(super) struct Quarantine {
    on: Option<Since>,
    look_at: Option<Time>,
}

struct Since {
    at: Time,
    /// It was there at the start: nothing was begun yet.
    is_from_start: bool,
    /// Since when nobody else has been there.
    alone: Option<Time>,
    /// Records mended before.
    mended: u64,
}

impl Quarantine {
    pub(super) const fn next_deadline(&self) -> Option<Time> {
        self.look_at
    }

    pub(super) const fn is_on(&self) -> bool {
        self.on.is_some()
    }
}

impl<R: Roster> Turn<'_, R> {
    /// Tells whether what this node holds does not count: to be asked after what is held was read,
    /// which may have brought it to light.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.state.quarantine.is_on() || self.fabric.env().store().is_quarantined()
    }

    /// Tells whether a request of another node is to be left alone: its sender asks somebody else,
    /// or again.
    pub(super) fn is_unfit_for(&self, request: &HolderRequest) -> bool {
        self.is_in_doubt() && matches!(request, HolderRequest::Claim { .. })
    }

    /// Looks whether the store has lost something, or is whole again.
    pub(super) fn quarantine_due(&mut self) {
        let now = self.now.mono;
        let is_missing = self.fabric.env().store().is_quarantined();
        match &self.state.quarantine.on {
            None if is_missing => self.begin_quarantine(),
            None => {}
            Some(_) if self.state.quarantine.look_at.is_some_and(|at| at > now) => {}
            Some(_) => self.look_at_repair(),
        }
    }

    fn begin_quarantine(&mut self) {
        let now = self.now.mono;
        let is_from_start = self.replicas.is_quarantined.load(Ordering::SeqCst);
        self.state.quarantine = Quarantine {
            on: Some(Since {
                at: now,
                is_from_start,
                alone: None,
                mended: self.state.repair.counts().mended,
            }),
            look_at: Some(now + LOOK_EVERY),
        };
        if is_from_start {
            tracing::warn!("quarantined: the others are asked for what the store has lost");
        } else {
            tracing::warn!("the store has lost records of this running node: all are compared");
            // What was counted of them is not what is there.
            let actions = self.state.repair.reload(self.now);
            self.repair(actions);
            self.fabric.save_events_again();
        }
    }

    fn look_at_repair(&mut self) {
        let now = self.now.mono;
        let me = self.me().node;
        let has_others = self.state.lives.iter().any(|life| life.node != me);
        let repair = &self.state.repair;
        let is_compared = repair.is_loaded() && repair.settled() == ShardSet::ALL;
        let mended = repair.counts().mended;
        let Some(since) = &mut self.state.quarantine.on else {
            return;
        };
        self.state.quarantine.look_at = Some(now + LOOK_EVERY);
        if has_others {
            since.alone = None;
            if is_compared {
                let (took, count) = (now.since(since.at), mended - since.mended);
                let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                tracing::warn!(
                    count,
                    took_us,
                    "quarantine over: the others had these records"
                );
                self.lift();
            }
            return;
        }
        let alone = *since.alone.get_or_insert(now);
        if now >= alone + Duration::from_millis(QUARANTINE_ALONE_MS) {
            tracing::warn!(
                "quarantine over, and nobody was there who could have what this node has lost: \
                 registrations come back as phones renew them, calls do not"
            );
            self.lift();
        }
    }

    fn lift(&mut self) {
        let store = self.fabric.env().store();
        store.lift_quarantine();
        if store.is_quarantined() {
            // The store has said why.
            return;
        }
        let since = std::mem::take(&mut self.state.quarantine).on;
        if since.is_some_and(|since| since.is_from_start) {
            self.replicas.is_quarantined.store(false, Ordering::SeqCst);
            if let Err(error) = self.fabric.adopt_all() {
                tracing::error!(%error, "the records of this node cannot be read");
            }
            self.sweep_view();
        }
    }
}

impl<R: Roster> Replicas<R> {
    /// Has the node own nothing until its store is mended; to be called before anything begins.
    pub(crate) fn set_quarantined(&self) {
        self.is_quarantined.store(true, Ordering::SeqCst);
    }

    /// Tells whether the node is to own nothing.
    pub(crate) fn is_quarantined(&self) -> bool {
        self.is_quarantined.load(Ordering::SeqCst)
    }
}

impl<R: Roster> Fabric<R> {
    /// Tells whether this node owns and begins nothing: its store had lost records when it started,
    /// and they are not mended yet (`cluster.md` §9).
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        let replicas = self.inner.replicas.as_ref();
        replicas.is_some_and(Replicas::is_quarantined)
    }

    /// Tells whether an actor cannot begin here now.
    pub(crate) fn is_shut_to(&self, id: &ActorId) -> bool {
        id.kind().is_recorded() && self.is_quarantined()
    }

    /// Tells whether a member has said that it cannot own anything yet: its store lacks records. Of
    /// one that has not been heard of yet nothing is known.
    pub(super) fn is_unfit(&self, node: NodeId) -> bool {
        let member = self.inner.mesh.member(node);
        member.is_some_and(|member| member.state == MemberState::Joining && member.is_heard())
    }
}
