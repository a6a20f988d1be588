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
use cluster::RecordError;
use contract::action::Store;
use contract::core::{Ctx, Event, Restored, Roster, Undelivered};
use contract::{Action, ActorId, Entropy, Now, StoreFault, Time, UtcMillis};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::entry::{Entry, Side};
use crate::fabric::{Fabric, Origin};
use crate::gate::{Gate, Ticket};
use crate::intensity::{Intensity, Verdict};
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
struct Suspended<M> {
    event: Event<M, ()>,
    until: Option<Time>,
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
    causes: VecDeque<(Ticket, Event<R::Message, ()>)>,
    suspended: Option<Suspended<R::Message>>,
    /// The event under way has killed the core before.
    is_retry: bool,
    indexed: Option<Time>,
    pub(crate) quiet_since: Time,
    pub(crate) ending: bool,
    pub(crate) has_ended_record: bool,
    children: BTreeMap<ActorId, Intensity>,
    myself: ActorRef<Wake>,
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
                let verdict = state.children.entry(id.clone()).or_default().judge(now, is_second);
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
        let span = tracing::info_span!(
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
        let is_new = self.core.is_none() && self.suspended.is_none();
        if is_new && !self.begin() {
            return self.finish();
        }
        if is_new {
            let epoch = self.fabric.inner.records.change(&self.entry.id, |owned| owned.epoch().n);
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
        if self.core.is_none() && self.suspended.is_none() {
            return self.finish();
        }
        if self.ending && self.suspended.is_none() && self.gate.is_open() && self.are_children_gone()
        {
            return self.finish();
        }
        let now = self.fabric.now();
        if self.passivate_if_quiet(now) {
            return;
        }
        self.show();
        let next = self.next_wake(now);
        self.fabric.inner.index.set_live(&self.entry.id, self.indexed, next);
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
        let quiet = core.passivates_after().map(|after| (self.quiet_since + after).max(now.mono));
        core.next_deadline().into_iter().chain(quiet).min()
    }

    /// Writes what a listing shows.
    fn show(&self) {
        let Some(core) = &self.core else { return };
        let version =
            self.fabric.inner.records.change(&self.entry.id, |owned| owned.header().version);
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
            Side::Committed { ticket, result: Ok(()) } => {
                self.causes.retain(|(of, _)| *of > ticket);
                for action in self.gate.open(ticket) {
                    self.perform(action, None, None);
                }
            }
            Side::Committed { result: Err(fault), .. } => self.on_commit_failed(&fault),
            Side::Judged(verdict) => self.on_verdict(verdict),
            Side::Inspect { asker, token } => crate::inspect::show_live(self, &asker, token),
            Side::End => self.end(),
        }
    }

    fn end(&mut self) {
        self.ending = true;
        let children = self.entry.status().children.clone();
        for child in children {
            if let Some(child) = self.fabric.find(&child) {
                child.push_side(Side::End);
            }
        }
    }

    fn are_children_gone(&self) -> bool {
        let children = self.entry.status().children.clone();
        children.iter().all(|child| self.fabric.find(child).is_none())
    }

    /// Gives one event to the core and performs what it wants.
    pub(crate) fn take(&mut self, event: Event<R::Message, ()>) {
        let now = self.fabric.now();
        self.note(now, &event);
        let Some(core) = &mut self.core else { return };
        let kept = event.clone();
        let mut actions = Vec::new();
        let site = self.fabric.site();
        let health = self.fabric.health();
        let fired = matches!(event, Event::Timer(())).then(|| core.next_deadline()).flatten();
        let (id, entropy) = (&self.entry.id, &mut self.entropy);
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let mut ctx = Ctx::new(now, id, health, site.as_ref(), entropy, &mut actions);
            core.handle(event, &mut ctx);
            if let Some(fired) = fired {
                let next = core.next_deadline();
                assert!(next.is_none_or(|next| next > fired), "the fired deadline is still set");
            }
        }));
        match handled {
            Ok(()) => {
                self.is_retry = false;
                self.perform_all(actions, kept, now);
            }
            Err(panic) => self.on_panic(kept, panic.as_ref()),
        }
    }

    fn note(&self, now: Now, event: &Event<R::Message, ()>) {
        let noted = match event {
            Event::Message { from, message } => Noted::Message(from.clone(), message.clone()),
            Event::Undelivered { to, message, why } => {
                let text = format!("not delivered ({why:?}): {}", R::describe(message).0);
                return self.note_line(now, true, Noted::Other("fabric", format!("{to}: {text}")));
            }
            Event::Timer(()) => Noted::Other("clock", "deadline".to_owned()),
            Event::Datagram { .. } | Event::Bytes(_) => return,
            Event::Opened { flow } => Noted::Other("socket", format!("opened {flow}")),
            Event::Closed { why } => Noted::Other("socket", format!("closed: {why}")),
            Event::Media(media) => Noted::Other("media", format!("{media:?}")),
            Event::Answer { .. } => Noted::Other("node", "answer".to_owned()),
            Event::ChildLost { id } => Noted::Other("supervisor", format!("lost {id}")),
            Event::Restored(why) => Noted::Other("fabric", format!("restored: {why:?}")),
        };
        self.note_line(now, true, noted);
    }

    fn note_line(&self, now: Now, inward: bool, noted: Noted<R::Message>) {
        self.entry.ring.lock().expect("no holder of a ring panics").note(now, inward, noted);
    }

    /// Performs the actions of one event in the order given; what must wait, waits.
    fn perform_all(
        &mut self,
        actions: Vec<Action<R::Message>>,
        cause: Event<R::Message, ()>,
        now: Now,
    ) {
        let stores = actions.iter().any(|action| matches!(action, Action::Store(_)));
        let core = self.core.as_ref().filter(|_| stores);
        let part = core.map(|core| Bytes::from(core.snapshot(now)));
        let deadline = core.and_then(R::next_deadline).map(|at| now.utc.after(at.since(now.mono)));
        if part.is_some() {
            self.stored_at = Some(now);
            self.first = None;
        }
        let mut cause = Some(cause);
        for action in actions {
            if let Action::Tell { to, message, .. } | Action::Spawn { id: to, first: message } =
                &action
            {
                self.note_line(now, false, Noted::Message(to.clone(), message.clone()));
            }
            if let Action::Store(store) = &action {
                self.has_ended_record |= matches!(store, Store::End { .. });
                let gates = matches!(store, Store::Put { gate: true } | Store::End { gate: true, .. });
                let ticket = gates.then(|| self.gate.shut());
                if let (Some(ticket), Some(cause)) = (ticket, cause.take()) {
                    self.causes.push_back((ticket, cause));
                }
                self.perform(action, part.as_ref().map(|part| (part, deadline)), ticket);
            } else if let Some(action) = self.gate.pass(action) {
                self.perform(action, None, None);
            }
        }
    }

    fn perform(
        &self,
        action: Action<R::Message>,
        part: Option<(&Bytes, Option<UtcMillis>)>,
        ticket: Option<Ticket>,
    ) {
        if self.fabric.is_revoked() {
            return;
        }
        let origin = Origin {
            id: &self.entry.id,
            part: part.map(|(part, _)| part),
            deadline: part.and_then(|(_, deadline)| deadline),
            ticket,
        };
        self.fabric.inner.parts.performer.perform(&self.fabric, &origin, action);
    }

    fn fire(&mut self) {
        for _ in 0..DEADLINES_PER_TURN {
            let now = self.fabric.now().mono;
            let due = self.core.as_ref().and_then(R::next_deadline).is_some_and(|at| at <= now);
            if !due || self.suspended.is_some() || self.gate.is_full() {
                return;
            }
            self.take(Event::Timer(()));
        }
    }

    fn on_panic(&mut self, event: Event<R::Message, ()>, panic: &(dyn std::any::Any + Send)) {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        tracing::error!(cause = %text, event = ?Brief(&event), "a core panicked");
        self.entry.restarts.fetch_add(1, Ordering::Relaxed);
        self.suspended = Some(Suspended { event, until: None });
        let id = self.entry.id.clone();
        let is_second = self.is_retry;
        let unwound = Wake::Unwound { id, is_second };
        if let Some(supervisor) = self.myself.get_cell().try_get_supervisor() {
            // A supervisor that is gone takes this actor with it.
            let _ = supervisor.send_message(unwound);
        }
    }

    fn on_verdict(&mut self, verdict: Verdict) {
        let now = self.fabric.now().mono;
        let Some(suspended) = &mut self.suspended else { return };
        match verdict {
            Verdict::Restart => suspended.until = Some(now),
            Verdict::RestartAfter(wait) => {
                tracing::warn!(took_us = wait.as_micros(), "restarts back off");
                suspended.until = Some(now + wait);
            }
            Verdict::Quarantine => {
                let text = format!("{:?}", Brief(&suspended.event));
                tracing::warn!(event = %text, "an event that killed twice is set aside");
                let mut status = self.entry.status();
                status.quarantined.push(text);
                let over = status.quarantined.len().saturating_sub(
                    contract::limits::QUARANTINE_MAX / 8,
                );
                status.quarantined.drain(..over);
                drop(status);
                self.suspended = None;
                self.is_retry = false;
                self.rebuild();
            }
            Verdict::GiveUp => self.give_up(),
        }
    }

    fn resume_if_due(&mut self) {
        let now = self.fabric.now().mono;
        let is_due =
            self.suspended.as_ref().is_some_and(|s| s.until.is_some_and(|until| until <= now));
        if !is_due {
            return;
        }
        let Some(suspended) = self.suspended.take() else { return };
        if self.rebuild() {
            self.is_retry = true;
            self.take(suspended.event);
        }
    }

    /// Builds the core from its last stored part, or as it was made.
    fn rebuild(&mut self) -> bool {
        let now = self.fabric.now();
        let id = &self.entry.id;
        let site = self.fabric.site();
        let stored = self.fabric.inner.records.last(id);
        let built = match (stored, &self.first) {
            (Some(part), _) => R::restore(id, &part, now).ok(),
            (None, Some(first)) => R::create(id, first, &site),
            (None, None) => R::create_system(id, &site),
        };
        self.core = built;
        if self.core.is_none() {
            self.give_up();
            return false;
        }
        self.stored_at = None;
        self.take(Event::Restored(Restored::Panic));
        self.suspended.is_none()
    }

    fn give_up(&mut self) {
        tracing::warn!("an actor is given up");
        self.core = None;
        self.suspended = None;
        let id = self.entry.id.clone();
        if let Some(parent) = &self.entry.parent {
            self.fabric.deliver(parent, Event::ChildLost { id: id.clone() });
            self.fabric.stop(parent, &id);
        }
    }

    /// A gated commit failed: nobody was told anything, and nobody will be.
    fn on_commit_failed(&mut self, fault: &StoreFault) {
        let dropped = self.gate.drop_held();
        tracing::warn!(cause = %fault, dropped, "a commit failed; what waited for it is dropped");
        let store = self.fabric.env().store();
        let id = self.entry.id.clone();
        let part = self.fabric.inner.records.reload(store.as_ref(), &id);
        let causes = std::mem::take(&mut self.causes);
        for (_, cause) in causes {
            if let Event::Message { from, message } = cause {
                self.fabric.bounce(&from, id.clone(), message, Undelivered::Busy);
            }
        }
        let now = self.fabric.now();
        self.core = part.and_then(|part| R::restore(&id, &part, now).ok());
        if self.core.is_some() {
            self.take(Event::Restored(Restored::Panic));
        } else {
            self.give_up();
        }
    }

    /// Leaves: what is still in the inbox goes back to its senders.
    pub(crate) fn finish(&mut self) {
        let id = self.entry.id.clone();
        self.fabric.inner.index.set_live(&id, self.indexed.take(), None);
        let left = self.entry.close();
        self.fabric.delist(&self.entry);
        for event in left {
            if let Event::Message { from, message } = event {
                self.fabric.bounce(&from, id.clone(), message, Undelivered::Absent);
            }
        }
        if id.record_owner() == id && id.kind().is_recorded() {
            let expires = self.fabric.inner.records.change(&id, |owned| {
                owned.header().is_ended().then(|| owned.header().expires)
            });
            if let Some(Some(expires)) = expires {
                self.fabric.inner.index.set_passive(&id, expires);
            }
            self.fabric.inner.records.forget(&id);
        }
        if let Some(parent) = self.entry.parent.as_ref().and_then(|id| self.fabric.find(id)) {
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

/// Commits the part of the actor that an action comes from.
pub(crate) fn commit<R: Roster>(fabric: &Fabric<R>, origin: &Origin<'_>, store: Store) {
    let Some(entry) = fabric.find(origin.id) else { return };
    let records = &fabric.inner.records;
    entry.under_way.fetch_add(1, Ordering::Relaxed);
    let (ticket, done_entry) = (origin.ticket, Arc::clone(&entry));
    let done = move |result: Result<(), StoreFault>| {
        done_entry.under_way.fetch_sub(1, Ordering::Relaxed);
        match (ticket, result) {
            (Some(ticket), result) => done_entry.push_side(Side::Committed { ticket, result }),
            (None, Ok(())) => {}
            (None, Err(error)) => tracing::warn!(actor = %done_entry.id, %error, "a commit failed"),
        }
    };
    let disk = fabric.env().store();
    let outcome = match store {
        Store::Put { .. } => {
            let part = origin.part.map(|part| part.to_vec()).unwrap_or_default();
            let mut done = Some(done);
            let put = records.put(origin.id, part, origin.deadline, |commit| {
                if let Some(done) = done.take() {
                    disk.commit(commit.batch, Box::new(done));
                }
            });
            match (put, done) {
                (Some(Ok(())), _) | (_, None) => return,
                (Some(Err(error)), Some(done)) => (Err(error), done),
                (None, Some(done)) => (Ok(()), done),
            }
        }
        Store::End { keep, .. } => {
            let until = fabric.now().utc.after(keep);
            let ended = records.change(origin.id, |owned| {
                (!owned.header().is_ended()).then(|| owned.end(until))
            });
            match ended.flatten() {
                Some(commit) => return disk.commit(commit.batch, Box::new(done)),
                None => (Ok(()), done),
            }
        }
    };
    // Nothing is left to protect in a record that has ended; anything else is our fault.
    let (result, done) = outcome;
    match result {
        Ok(()) | Err(RecordError::Ended { .. }) => {}
        Err(error) => tracing::error!(actor = %origin.id, %error, "a part cannot be recorded"),
    }
    done(Ok(()));
}

/// An event in a few words, for logs: no octets of messages.
struct Brief<'a, M>(&'a Event<M, ()>);

impl<M: std::fmt::Debug> std::fmt::Debug for Brief<'_, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:?}", self.0);
        let short: String = text.chars().take(200).collect();
        f.write_str(&short)
    }
}
