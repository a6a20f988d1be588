//! Whether the connections of bindings are there, on whichever node they end.
//!
//! In: ends of connections, watches that came back, restarts. Out: watches; bindings marked as
//! reachable or not. A connection says only that it is gone: one of another node that could not be
//! asked is asked again when somebody looks for the binding, and counts as there if it says nothing.
//! A mark that another node made says only that it could not reach the connection from there: whoever
//! gets it, by a move, a take-over or a merge, asks anew, also where the connection is its own.

use std::time::Duration;

use bytes::Bytes;
use contract::{FlowRef, Restored, Time, Undelivered};

use super::binding::Binding;
use super::core::{Context, Registration, is_of_node};
use super::merge::merge;
use super::past::Term;
use super::snapshot;
use crate::{message, roster};

/// How long a connection of another node has to say that it is gone: a call asks again after 1 s.
const SILENCE: Duration = Duration::from_millis(500);
/// When a connection whose inbox was full, or whose node had too much to do, is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// What remains at least of a binding after its node's crash (`cluster.md` §8).
const GRACE: Duration = Duration::from_secs(60);

/// Questions to connections; not stored. Bound: one a binding.
#[derive(Clone, Debug, Default)]
pub(super) struct Watching {
    /// Unreachable ones that were asked, and when their silence means that they are there.
    asked: Vec<(Time, FlowRef)>,
    /// When those that were too busy are asked again.
    again: Vec<(Time, FlowRef)>,
}

impl Watching {
    /// Returns when something is due.
    pub(super) fn due(&self) -> Option<Time> {
        let all = self.asked.iter().chain(&self.again);
        all.map(|(at, _)| *at).min()
    }

    fn forget(&mut self, flow: FlowRef) {
        self.asked.retain(|(_, other)| *other != flow);
        self.again.retain(|(_, other)| *other != flow);
    }
}

impl Registration {
    /// Asks the connection's actor to tell of its end.
    pub(super) fn watch(&self, flow: FlowRef, ctx: &mut Context<'_>) {
        if let Some((actor, watch)) = message::watch(flow, ctx.me().clone()) {
            ctx.tell(actor, watch);
        }
    }

    /// A connection is gone.
    pub(super) fn on_flow_gone(&mut self, flow: FlowRef, ctx: &mut Context<'_>) {
        self.watching.forget(flow);
        if self.mark(flow, true) {
            ctx.store();
        } else {
            ctx.ignore("no binding over this flow");
        }
    }

    /// A watch came back.
    pub(super) fn on_unwatched(&mut self, flow: FlowRef, why: Undelivered, ctx: &mut Context<'_>) {
        let is_known = self.bindings.iter().any(|one| one.flow == flow);
        match why {
            Undelivered::Absent => self.on_flow_gone(flow, ctx),
            Undelivered::Busy if is_known => {
                self.watching.forget(flow);
                let at = ctx.now().mono + AGAIN_AFTER;
                self.watching.again.push((at, flow));
            }
            Undelivered::Busy => ctx.ignore("no binding over this flow"),
        }
    }

    /// Asks about unreachable bindings over connections of other nodes: those nodes may have been
    /// out of reach for a moment only. What it marked of its own this node was told by them.
    pub(super) fn ask_unreachable(&mut self, ctx: &mut Context<'_>) {
        let own = ctx.site().node;
        self.ask_about(|flow| !is_of_node(flow, own), ctx);
    }

    /// Asks about all unreachable bindings: another node may have marked them.
    fn ask_anew(&mut self, ctx: &mut Context<'_>) {
        self.ask_about(|_| true, ctx);
    }

    fn ask_about(&mut self, is_meant: impl Fn(FlowRef) -> bool, ctx: &mut Context<'_>) {
        let at = ctx.now().mono + SILENCE;
        let lost = |one: &&Binding| one.unreachable && one.flow.is_reliable() && is_meant(one.flow);
        let flows: Vec<FlowRef> = self
            .bindings
            .iter()
            .filter(lost)
            .map(|one| one.flow)
            .collect();
        for flow in flows {
            let mut open = self.watching.asked.iter().chain(&self.watching.again);
            if !open.any(|(_, other)| *other == flow) {
                self.watching.asked.push((at, flow));
                self.watch(flow, ctx);
            }
        }
    }

    /// Nothing was heard of connections that were asked, or some are to be asked again.
    pub(super) fn on_watch_due(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        let is_due = |(at, _): &(Time, FlowRef)| *at <= now;
        let silent: Vec<_> = self
            .watching
            .asked
            .extract_if(.., |one| is_due(one))
            .collect();
        let busy: Vec<_> = self
            .watching
            .again
            .extract_if(.., |one| is_due(one))
            .collect();
        let mut is_changed = false;
        for (_, flow) in silent {
            is_changed |= self.mark(flow, false);
        }
        if is_changed {
            ctx.store();
        }
        for (_, flow) in busy {
            if self
                .bindings
                .iter()
                .any(|one| one.flow == flow && !one.unreachable)
            {
                self.watch(flow, ctx);
            }
        }
    }

    pub(super) fn on_restored(&mut self, why: Restored, ctx: &mut Context<'_>) {
        let is_changed = match why {
            Restored::NodeStart | Restored::StartedAlone => self.lose_own(ctx),
            Restored::TakenOver { .. } | Restored::Adopted { .. } => self.extend(ctx),
            Restored::Panic | Restored::Wake | Restored::Moved { .. } => false,
        };
        if is_changed {
            ctx.store();
        }
        // What another node has may live or not: its actor knows. A record from before the node's
        // last start may name a connection that is another one by now: its actor knows too.
        for binding in self.bindings.iter().filter(|one| !one.unreachable) {
            self.watch(binding.flow, ctx);
        }
        match why {
            // Its own ended with its former life.
            Restored::NodeStart | Restored::StartedAlone => self.ask_unreachable(ctx),
            Restored::TakenOver { .. }
            | Restored::Adopted { .. }
            | Restored::Moved { .. }
            | Restored::Panic
            | Restored::Wake => self.ask_anew(ctx),
        }
    }

    /// Takes in what the other side of a partition accepted (`cluster.md` §8).
    pub(super) fn on_merge(&mut self, copy: &Bytes, ctx: &mut Context<'_>) {
        let now = ctx.now();
        let ours = snapshot::take(self, now);
        let theirs =
            roster::stored_registration(copy).filter(|copy| copy.is_of(&self.aor.to_string()));
        let Some(theirs) = theirs else {
            return ctx.ignore("no copy of this registration");
        };
        let plain = merge(vec![ours.clone()], now.utc);
        let merged = merge(vec![ours, theirs], now.utc);
        if merged == plain {
            return ctx.ignore("nothing new in it");
        }
        let Some(Ok(merged)) = merged.map(|merged| snapshot::restore(merged, now)) else {
            return ctx.ignore("it cannot be merged");
        };
        let known: Vec<FlowRef> = self.bindings.iter().map(|one| one.flow).collect();
        // What is asked of connections stays; all else is the merged one's.
        let watching = std::mem::take(&mut self.watching);
        let callers = std::mem::take(&mut self.callers);
        *self = Registration {
            watching,
            callers,
            ..merged
        };
        ctx.store();
        for binding in &self.bindings {
            if !binding.unreachable && !known.contains(&binding.flow) {
                self.watch(binding.flow, ctx);
            }
        }
        self.ask_anew(ctx);
    }

    /// Connections of this node's former life are gone for good.
    fn lose_own(&mut self, ctx: &Context<'_>) -> bool {
        let own = ctx.site().node;
        let flows: Vec<FlowRef> = self.bindings.iter().map(|one| one.flow).collect();
        let mut is_changed = false;
        for flow in flows.into_iter().filter(|flow| is_of_node(*flow, own)) {
            is_changed |= self.mark(flow, true);
        }
        is_changed
    }

    /// After a crash phones get time to find another node: once, until they refresh.
    fn extend(&mut self, ctx: &Context<'_>) -> bool {
        let now = ctx.now().mono;
        let mut is_changed = false;
        for binding in &mut self.bindings {
            // What has ended stays so: nothing is found longer than a minute after its end (I15).
            let is_short = !binding.is_expired(now) && binding.expires < now + GRACE;
            if is_short && !binding.is_extended {
                binding.expires = now + GRACE;
                binding.granted = binding.granted.max(GRACE);
                binding.until = binding.until.later(Term::new(now, GRACE));
                binding.is_extended = true;
                binding.touched = binding.touched.saturating_add(1);
                is_changed = true;
            }
        }
        is_changed
    }

    /// Notes whether the bindings over a connection can be reached; tells whether that is news.
    fn mark(&mut self, flow: FlowRef, unreachable: bool) -> bool {
        let of_flow = self.bindings.iter_mut().filter(|one| one.flow == flow);
        let mut is_changed = false;
        for binding in of_flow.filter(|one| one.flow.is_reliable()) {
            if binding.unreachable != unreachable {
                binding.unreachable = unreachable;
                binding.touched = binding.touched.saturating_add(1);
                is_changed = true;
            }
        }
        is_changed
    }
}
