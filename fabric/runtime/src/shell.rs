//! The shell: the one ractor actor that runs any core.
//!
//! In: its entry's inbox. Out: actions, in order, through the gate. It catches the unwind around
//! `handle` and waits for its supervisor's verdict; inbox, gate and children outlive the panic.
//!
//! ```text
//!  starting ──▶ running ──panic──▶ suspended ──verdict──▶ running
//!                  │ quiet                         └────▶ given up
//!                  ├──▶ passive (record only)
//!                  └──▶ ended
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use contract::action::Store;
use contract::core::{Ctx, Event, Restored, Roster, Undelivered};
use contract::{Action, ActorId, Entropy, Now, Time, UtcMillis};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::entry::{Entry, Side};
use crate::fabric::{Fabric, Origin};
use crate::gate::{Gate, Ticket};
use crate::intensity::Intensity;
use crate::ring::Noted;

/// Events taken before other actors get their turn.
const EVENTS_PER_TURN: usize = 64;
/// Deadlines fired in a row: a core that sets them into the past must not hold its thread.
const DEADLINES_PER_TURN: usize = 64;

/// What ractor carries to a shell: the inbox has the rest.
#[derive(Debug)]
pub(crate) enum Wake {
    /// Look at the inbox and the deadlines.
    Run,
    /// A child's core has panicked and waits for a verdict.
    Unwound { id: ActorId, is_second: bool },
}

/// What a parent gives a child that starts from the record.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) part: Bytes,
    pub(crate) why: Restored,
}

pub(crate) struct Shell<R>(std::marker::PhantomData<fn() -> R>);

impl<R: Roster> Shell<R> {
    pub(crate) const fn new() -> Self {
        Shell(std::marker::PhantomData)
    }
}

/// A core that has panicked.
pub(crate) struct Suspended<M> {
    pub(crate) event: Event<M, ()>,
    pub(crate) until: Option<Time>,
}

pub(crate) struct State<R: Roster> {
    pub(crate) fabric: Fabric<R>,
    pub(crate) entry: Arc<Entry<R>>,
    pub(crate) core: Option<R>,
    pub(crate) gate: Gate<R::Message>,
    given: Option<Given>,
    span: tracing::Span,
    entropy: Entropy,
    /// What made the core, until something is stored.
    pub(crate) first: Option<R::Message>,
    /// The clocks at the last store: the same snapshot at the same clocks means no change.
    pub(crate) stored_at: Option<Now>,
    pub(crate) causes: VecDeque<(Ticket, Event<R::Message, ()>)>,
    pub(crate) suspended: Option<Suspended<R::Message>>,
    /// The record that was found, until its claim is safe.
    pub(crate) claiming: Option<(BTreeMap<ActorId, Bytes>, Restored)>,
    /// The event under way has killed the core before.
    pub(crate) is_retry: bool,
    indexed: Option<Time>,
    pub(crate) quiet_since: Time,
    pub(crate) ending: bool,
    pub(crate) has_ended_record: bool,
    children: BTreeMap<ActorId, Intensity>,
    pub(crate) myself: ActorRef<Wake>,
}

type Arguments<R> = (Fabric<R>, Arc<Entry<R>>, Option<Given>);

impl<R: Roster> Actor for Shell<R> {
    type Msg = Wake;
    type State = State<R>;
    type Arguments = Arguments<R>;

    async fn pre_start(
        &self,
        myself: ActorRef<Wake>,
        (fabric, entry, given): Arguments<R>,
    ) -> Result<State<R>, ActorProcessingErr> {
        Ok(State::new(fabric, entry, given, myself))
    }

    async fn handle(
        &self,
        _: ActorRef<Wake>,
        wake: Wake,
        state: &mut State<R>,
    ) -> Result<(), ActorProcessingErr> {
        if state.fabric.is_revoked() {
            return Ok(());
        }
        match wake {
            Wake::Run => {
                let span = state.span.clone();
                span.in_scope(|| state.run());
            }
            Wake::Unwound { id, is_second } => {
                let now = state.fabric.now().mono;
                let verdict = state
                    .children
                    .entry(id.clone())
                    .or_default()
                    .judge(now, is_second);
                if let Some(child) = state.fabric.find(&id) {
                    child.push_side(Side::Judged(verdict));
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Wake>,
        event: SupervisionEvent,
        state: &mut State<R>,
    ) -> Result<(), ActorProcessingErr> {
        crate::supervisor::on_child(&state.fabric, &event);
        Ok(())
    }
}

impl<R: Roster> State<R> {
    fn new(
        fabric: Fabric<R>,
        entry: Arc<Entry<R>>,
        given: Option<Given>,
        myself: ActorRef<Wake>,
    ) -> Self {
        let start = fabric.next_start();
        let entropy = fabric.inner.entropy.split(&format!("{} {start}", entry.id));
        let call = entry.id.call().map(|call| call.to_string());
        let span = tracing::error_span!(
            "actor",
            node = %fabric.inner.parts.name,
            epoch = tracing::field::Empty,
            actor = %entry.id,
            call = call.as_deref().unwrap_or(""),
        );
        let quiet_since = fabric.now().mono;
        State {
            fabric,
            entry,
            core: None,
            gate: Gate::new(),
            given,
            span,
            entropy,
            first: None,
            stored_at: None,
            causes: VecDeque::new(),
            suspended: None,
            claiming: None,
            is_retry: false,
            indexed: None,
            quiet_since,
            ending: false,
            has_ended_record: false,
            children: BTreeMap::new(),
            myself,
        }
    }

    /// Takes what is there, then what is due, and says when it wants to run again.
    fn run(&mut self) {
        self.entry.unschedule();
        let is_new = self.core.is_none() && self.suspended.is_none() && self.claiming.is_none();
        if is_new && !self.begin() {
            return self.finish();
        }
        if is_new {
            let epoch = self
                .fabric
                .inner
                .records
                .change(&self.entry.id, |owned| owned.epoch().n);
            self.span.record("epoch", epoch.unwrap_or(0));
        }
        let mut taken = 0;
        loop {
            while let Some(side) = self.entry.pop_side() {
                self.on_side(side);
            }
            self.resume_if_due();
            let is_waiting = self.suspended.is_some() || self.gate.is_full() || self.core.is_none();
            if is_waiting || taken >= EVENTS_PER_TURN {
                break;
            }
            let Some(event) = self.entry.pop() else { break };
            taken += 1;
            self.quiet_since = self.fabric.now().mono;
            self.take(event);
        }
        self.fire();
        self.settle(taken >= EVENTS_PER_TURN);
    }

    /// What is left to do when the inbox is empty or the turn is over.
    fn settle(&mut self, is_turn_over: bool) {
        if self.claiming.is_some() {
            return;
        }
        if self.core.is_none() && self.suspended.is_none() {
            return self.finish();
        }
        // What is under way must be on disk before anybody reads the record again.
        let is_idle = self.suspended.is_none() && self.gate.is_open() && !self.is_writing();
        if self.ending && is_idle && self.are_children_gone() {
            return self.finish();
        }
        let now = self.fabric.now();
        if self.passivate_if_quiet(now) {
            return;
        }
        self.show();
        let next = self.next_wake(now);
        self.fabric
            .inner
            .index
            .set_live(&self.entry.id, self.indexed, next);
        self.indexed = next;
        if is_turn_over {
            self.entry.schedule();
        }
    }

    fn next_wake(&self, now: Now) -> Option<Time> {
        if let Some(suspended) = &self.suspended {
            return suspended.until;
        }
        if self.gate.is_full() {
            return None;
        }
        let core = self.core.as_ref()?;
        let may_leave = self.gate.is_open() && !self.is_writing();
        let quiet = core.passivates_after().filter(|_| may_leave);
        let quiet = quiet.map(|after| (self.quiet_since + after).max(now.mono));
        core.next_deadline().into_iter().chain(quiet).min()
    }

    /// Writes what a listing shows.
    fn show(&self) {
        let Some(core) = &self.core else { return };
        let version = self
            .fabric
            .inner
            .records
            .change(&self.entry.id, |owned| owned.header().version);
        let mut status = self.entry.status();
        status.state = core.state();
        status.deadline = core.next_deadline();
        if let Some(version) = version {
            status.epoch = version.epoch.n;
            status.sequence = version.sequence;
        }
    }

    fn on_side(&mut self, side: Side) {
        match side {
            Side::Claimed(result) => self.on_claimed(result),
            Side::Committed {
                ticket,
                result: Ok(()),
            } => {
                self.causes.retain(|(of, _)| *of > ticket);
                for action in self.gate.open(ticket) {
                    self.perform(action, None, None);
                }
            }
            Side::Committed {
                result: Err(fault), ..
            } => self.on_commit_failed(&fault),
            Side::Judged(verdict) => self.on_verdict(verdict),
            Side::Inspect { asker, token } => crate::inspect::show_live(self, &asker, token),
            Side::End => self.end(),
        }
    }

    fn end(&mut self) {
        self.ending = true;
        self.end_children();
    }

    fn end_children(&self) {
        let children = self.entry.status().children.clone();
        for child in children {
            if let Some(child) = self.fabric.find(&child) {
                child.push_side(Side::End);
            }
        }
    }

    fn are_children_gone(&self) -> bool {
        let children = self.entry.status().children.clone();
        children
            .iter()
            .all(|child| self.fabric.find(child).is_none())
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.entry.under_way.load(Ordering::SeqCst) > 0
    }

    /// Leaves: what is still in the inbox goes back to its senders.
    pub(crate) fn finish(&mut self) {
        let id = self.entry.id.clone();
        self.fabric
            .inner
            .index
            .set_live(&id, self.indexed.take(), None);
        let left = self.entry.close();
        if id.record_owner() == id && id.kind().is_recorded() {
            let expires = self.fabric.inner.records.change(&id, |owned| {
                owned.header().is_ended().then(|| owned.header().expires)
            });
            if let Some(Some(expires)) = expires {
                self.fabric.inner.index.set_passive(&id, expires);
            }
            // Before the place in the table is free: a successor has a record of its own there.
            self.fabric.inner.records.forget(&id);
            self.end_children();
        } else if id.kind().is_recorded() {
            let fabric = self.fabric.clone();
            let remove = |owned: &mut cluster::Owned| owned.remove(&id);
            let commit = |commit: cluster::Commit| fabric.commit_lazily(commit.batch);
            self.fabric.inner.records.commit_change(&id, remove, commit);
        }
        self.fabric.delist(&self.entry);
        for event in left {
            if let Event::Message { from, message } = event {
                self.fabric
                    .bounce(&from, id.clone(), message, Undelivered::Absent);
            }
        }
        if let Some(parent) = self
            .entry
            .parent
            .as_ref()
            .and_then(|id| self.fabric.find(id))
        {
            parent.status().children.retain(|child| *child != id);
            parent.schedule();
        }
        self.core = None;
        self.ending = true;
        self.fabric.unname(self.myself.get_id().pid());
        self.myself.stop(None);
    }

    pub(crate) fn given(&mut self) -> Option<Given> {
        self.given.take()
    }
}
