//! The shell: the one ractor actor that runs any core.
//!
//! In: its entry's inbox. Out: turns: what the runtime has to say first, then events (`act.rs`),
//! then deadlines. It ends when its core is gone, its children are, and nothing is under way.
//!
//! ```text
//!  starting ──▶ running ──panic──▶ suspended ──verdict──▶ running
//!     │            │ quiet                         └────▶ given up ──▶ ending ──▶ ended
//!     ▼            ├──▶ passive (record only)                            ▲
//!  claiming        └─────────────────── End ─────────────────────────────┘
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cluster::{Owned, Version};
use contract::core::{Event, Restored, Roster, Undelivered};
use contract::{ActorId, CloseCode, Entropy, FlowRef, Kind, Now, Time};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::entry::{Entry, Side};
use crate::fabric::Fabric;
use crate::freeze::Frozen;
use crate::gate::{Gate, Ticket};
use crate::intensity::Intensity;
use crate::leave::Fate;
use crate::recover::{Suspended, Unwritten};
use crate::replicas::Input;

/// Events taken before other actors get their turn.
pub(crate) const EVENTS_PER_TURN: usize = 64;

/// What ractor carries to a shell: the inbox has the rest.
#[derive(Debug)]
pub(crate) enum Wake {
    /// Look at the inbox and the deadlines.
    Run,
    /// A child's core has panicked and waits for a verdict.
    Unwound { id: ActorId, is_second: bool },
}

/// A shell that is to own a record, and does not yet.
pub(crate) enum Claiming {
    /// The other holders are asked.
    Asked,
    /// The record was found; its claim is being written.
    Found(BTreeMap<ActorId, Bytes>, Restored),
}

/// A copy that a shell is to go on with, and that is not safe yet. What has brought it is all there is
/// of it, as long as no holder has the version under which it was committed.
pub(crate) enum Adopting<M> {
    /// It is being written.
    Written(Version, Event<M, ()>),
    /// It could not be: what has brought it is the first in the inbox once more.
    Unwritten(Version),
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

pub(crate) struct State<R: Roster> {
    pub(crate) fabric: Fabric<R>,
    pub(crate) entry: Arc<Entry<R>>,
    pub(crate) core: Option<R>,
    pub(crate) gate: Gate<R::Message>,
    pub(crate) given: Option<Given>,
    span: tracing::Span,
    pub(crate) entropy: Entropy,
    /// What made the core, until something is stored.
    pub(crate) first: Option<R::Message>,
    /// The clocks at the last store: the same snapshot at the same clocks means no change.
    pub(crate) stored_at: Option<Now>,
    pub(crate) causes: VecDeque<(Ticket, Event<R::Message, ()>)>,
    pub(crate) suspended: Option<Suspended<R::Message>>,
    /// It does not have its record yet.
    pub(crate) claiming: Option<Claiming>,
    /// It goes on as another copy of its record has it, and that is not safe yet.
    pub(crate) adopting: Option<Adopting<R::Message>>,
    /// It is held still until its record is another node's.
    pub(crate) frozen: Option<Frozen>,
    /// The event under way has killed the core before.
    pub(crate) is_retry: bool,
    indexed: Option<Time>,
    pub(crate) quiet_since: Time,
    has_begun: bool,
    is_ending: bool,
    is_finished: bool,
    /// Its parent is told that it was given up.
    pub(crate) is_lost: bool,
    /// What senders of unread messages are told.
    pub(crate) leave: Undelivered,
    /// Another node has it: unread messages go there.
    pub(crate) is_elsewhere: bool,
    /// Its record is to be mended once it has it.
    pub(crate) is_to_mend: bool,
    pub(crate) has_ended_record: bool,
    /// The end of the record, until it is on disk.
    pub(crate) unwritten: Option<Unwritten>,
    /// When to store again what could not be stored.
    pub(crate) unsaved: Option<Time>,
    /// Commits that failed.
    pub(crate) failures: Intensity,
    /// The connection, of a flow.
    pub(crate) flow: Option<FlowRef>,
    /// The record it owns: another's of the same ID is not touched.
    pub(crate) record: Option<Arc<Mutex<Owned>>>,
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
        // Before anything runs: its children find their supervisor here.
        fabric.name(&myself, entry.id.to_string());
        entry.set_cell(myself.clone());
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
                let turn = AssertUnwindSafe(|| span.in_scope(|| state.run()));
                match catch_unwind(turn) {
                    Ok(false) => {}
                    // There is more to do, but others are waiting.
                    Ok(true) => tokio::task::yield_now().await,
                    Err(panic) => state.on_broken_turn(panic.as_ref()),
                }
            }
            Wake::Unwound { id, is_second } => state.judge(&id, is_second),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Wake>,
        event: SupervisionEvent,
        state: &mut State<R>,
    ) -> Result<(), ActorProcessingErr> {
        crate::supervisor::on_child(&state.fabric, &event, &mut state.children);
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
            adopting: None,
            frozen: None,
            is_retry: false,
            indexed: None,
            quiet_since,
            has_begun: false,
            is_ending: false,
            is_finished: false,
            is_lost: false,
            leave: Undelivered::Absent,
            is_elsewhere: false,
            is_to_mend: false,
            has_ended_record: false,
            unwritten: None,
            unsaved: None,
            failures: Intensity::default(),
            flow: None,
            record: None,
            children: BTreeMap::new(),
            myself,
        }
    }

    /// Takes what is there, then what is due, and says when it wants to run again. Tells whether
    /// that is at once.
    fn run(&mut self) -> bool {
        self.entry.unschedule();
        if self.is_finished {
            return false;
        }
        if !self.has_begun {
            self.has_begun = true;
            self.start();
        }
        let mut taken = 0;
        loop {
            while let Some(side) = self.entry.pop_side() {
                self.on_side(side);
            }
            self.resume_if_due();
            if self.is_waiting() || taken >= EVENTS_PER_TURN {
                break;
            }
            let Some(event) = self.entry.pop() else { break };
            taken += 1;
            self.quiet_since = self.fabric.now().mono;
            self.take(event);
        }
        self.write_again_if_due();
        let is_turn_over = self.fire() || taken >= EVENTS_PER_TURN;
        self.settle();
        if is_turn_over {
            self.entry.schedule();
        }
        is_turn_over
    }

    fn start(&mut self) {
        if !self.begin() {
            self.core = None;
        }
        self.note_record();
    }

    /// Remembers which record is its own, and its epoch for the log.
    pub(crate) fn note_record(&mut self) {
        let records = &self.fabric.inner.records;
        if self.entry.id.record_owner() == self.entry.id {
            self.record = records.of(&self.entry.id);
        }
        let epoch = records.change(&self.entry.id, |owned| owned.epoch().n);
        self.span.record("epoch", epoch.unwrap_or(0));
    }

    /// Tells whether the inbox stays untouched for now.
    pub(crate) fn is_waiting(&self) -> bool {
        let is_held = self.suspended.is_some() || self.frozen.is_some();
        self.is_ending || is_held || self.gate.is_full() || self.core.is_none()
    }

    /// What is left to do when the inbox is empty or the turn is over.
    fn settle(&mut self) {
        if self.claiming.is_some() {
            return;
        }
        if self.core.is_none() && self.suspended.is_none() {
            self.end();
        }
        let now = self.fabric.now();
        self.come_to_rest(now);
        if self.is_ending && self.is_idle() && self.are_children_gone() {
            return self.finish();
        }
        let may_pass = !self.is_ending && self.frozen.is_none();
        if may_pass && self.passivate_if_quiet(now) {
            return;
        }
        self.show();
        let next = self.next_wake(now);
        let index = &self.fabric.inner.index;
        index.set_live(&self.entry.id, self.indexed, next);
        self.indexed = next;
    }

    /// Tells whether nothing is under way: all it wanted to store is on disk.
    pub(crate) fn is_idle(&self) -> bool {
        self.gate.is_open() && !self.is_writing() && self.unwritten.is_none()
    }

    /// Tells whether its record has all there is; else it is woken when that changes.
    pub(crate) fn may_leave(&self) -> bool {
        self.is_idle() && self.unsaved.is_none()
    }

    fn next_wake(&self, now: Now) -> Option<Time> {
        let unwritten = self.unwritten.as_ref().map(|end| end.at);
        if self.is_ending {
            return unwritten;
        }
        if let Some(frozen) = &self.frozen {
            return Some(frozen.until).into_iter().chain(self.unsaved).min();
        }
        let asleep = self.suspended.as_ref().map(|suspended| suspended.until);
        let own = match (asleep, &self.core) {
            (Some(until), _) => until,
            // The next commit that is safe wakes it.
            (None, Some(core)) if !self.gate.is_full() => {
                let quiet = core.passivates_after().filter(|_| self.may_leave());
                let quiet = quiet.map(|after| (self.quiet_since + after).max(now.mono));
                core.next_deadline().into_iter().chain(quiet).min()
            }
            (None, _) => None,
        };
        let unsaved = self.unsaved.filter(|_| self.core.is_some());
        own.into_iter().chain(unwritten).chain(unsaved).min()
    }

    /// Writes what a listing shows.
    fn show(&self) {
        let records = &self.fabric.inner.records;
        let version = records.change(&self.entry.id, |owned| owned.header().version);
        let (state, deadline) = match &self.core {
            Some(core) => (core.state(), core.next_deadline()),
            None => ("suspended".to_owned(), None),
        };
        let mut status = self.entry.status();
        status.state = state;
        status.deadline = deadline;
        if let Some(version) = version {
            status.epoch = version.epoch.n;
            status.sequence = version.sequence;
        }
    }

    fn on_side(&mut self, side: Side) {
        match side {
            Side::Claimed(outcome) => self.on_claimed(outcome),
            Side::Committed { ticket, result } => match (ticket, result) {
                (Some(ticket), Ok(())) => self.on_safe(ticket),
                (None, Ok(())) => {}
                (ticket, Err(fault)) => self.on_commit_failed(ticket, &fault),
            },
            Side::EndFailed { ticket, fault } => self.on_end_failed(ticket, &fault),
            Side::Adopted(result) => self.on_adopted(result),
            Side::Fenced(epoch) => self.lose(epoch),
            Side::Mend => self.mend(),
            Side::Mended => self.mended(),
            Side::Move(number) => self.freeze(Some(number)),
            Side::Freeze => self.freeze(None),
            Side::Still(side) => self.on_still(side),
            Side::Thaw => self.thaw(),
            Side::Judged(verdict) => self.on_verdict(verdict),
            Side::Inspect { asker, token } => crate::inspect::show_live(self, &asker, token),
            Side::End => self.end(),
        }
    }

    /// A commit is safe: what waited for it is performed.
    pub(crate) fn on_safe(&mut self, ticket: Ticket) {
        self.causes.retain(|(of, _)| *of > ticket);
        for action in self.gate.open(ticket) {
            self.perform(action, None, None);
        }
    }

    /// Takes no more events, ends the children, and ends when nothing is under way.
    pub(crate) fn end(&mut self) {
        if self.is_ending {
            return;
        }
        self.is_ending = true;
        self.entry.is_ending.store(true, Ordering::SeqCst);
        self.suspended = None;
        self.unsaved = None;
        let children = self.entry.status().children.clone();
        for child in children {
            if let Some(child) = self.fabric.find(&child) {
                child.push_side(Side::End);
            }
        }
    }

    pub(crate) const fn is_ending(&self) -> bool {
        self.is_ending
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

    fn judge(&mut self, id: &ActorId, is_second: bool) {
        let (fabric, now) = (&self.fabric, self.fabric.now().mono);
        self.children.retain(|id, _| fabric.find(id).is_some());
        let intensity = self.children.entry(id.clone()).or_default();
        let verdict = intensity.judge(now, is_second);
        if let Some(child) = fabric.find(id) {
            child.push_side(Side::Judged(verdict));
        }
    }

    /// Returns what becomes of messages that it does not read.
    pub(crate) const fn fate(&self) -> Fate {
        if self.is_elsewhere {
            Fate::Follows
        } else {
            Fate::Returns(self.leave)
        }
    }

    /// Leaves: what is still in the inbox goes back to its senders, or after the actor.
    pub(crate) fn finish(&mut self) {
        let fabric = self.fabric.clone();
        let id = self.entry.id.clone();
        fabric.inner.index.set_live(&id, self.indexed.take(), None);
        let left = self.entry.close();
        if let Some(record) = self.record.take() {
            let expires = {
                let owned = record.lock().expect("no holder of a record panics");
                let header = owned.header();
                header.is_ended().then_some(header.expires)
            };
            if let Some(expires) = expires {
                fabric.inner.index.set_passive(&id, expires);
            }
            // Before the place in the table is free: a successor has a record of its own there.
            fabric.inner.records.forget(&id, &record);
        } else if matches!(id.kind(), Kind::Dialog | Kind::MediaLeg) && !self.is_elsewhere {
            fabric.remove_part(&id);
            fabric.close_port(&id);
        }
        fabric.take_out(&self.entry);
        if let Some(flow) = self.flow.as_ref().filter(|_| self.is_lost) {
            // Not before the place is free: whoever says that it is closed finds nobody to tell it to, and
            // tells those itself who wait for this connection.
            let why = "its actor was given up";
            fabric.env().close(flow, CloseCode::Internal, why);
        }
        if fabric.find(&id).is_none() {
            // Whoever came too late; a successor looks itself.
            fabric.release_sides(&id, self.fate());
        }
        fabric.give_back(&id, left, self.fate());
        if self.is_elsewhere && id.record_owner() == id {
            fabric.give(Input::ShellLeft { id: id.clone() });
        }
        fabric.tell_parent(&self.entry, self.is_lost);
        self.core = None;
        self.is_ending = true;
        self.is_finished = true;
        fabric.unname(self.myself.get_id().pid());
        self.myself.stop(None);
    }
}
