//! One event: into the core, and its actions out, through the gate.
//!
//! In: an event. Out: actions in the order given, a line in the trace ring, or a caught unwind for
//! `recover.rs`. What an action does is the performer's affair.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use contract::action::Store;
use contract::core::{Ctx, Event, Roster};
use contract::{Action, Now};

use crate::fabric::{Origin, Part};
use crate::gate::Ticket;
use crate::ring::Noted;
use crate::shell::State;

/// Deadlines fired in a row: a core that sets them into the past must not hold its thread.
const DEADLINES_PER_TURN: usize = 64;

impl<R: Roster> State<R> {
    /// Gives one event to the core and performs what it wants.
    pub(crate) fn take(&mut self, event: Event<R::Message, ()>) {
        let now = self.fabric.now();
        self.note(now, &event);
        let Some(core) = &mut self.core else { return };
        if let Event::Opened { flow } = &event {
            self.flow = Some(*flow);
        }
        let kept = event.clone();
        let mut actions = Vec::new();
        let site = self.fabric.site();
        let health = self.fabric.health();
        let (id, entropy) = (&self.entry.id, &mut self.entropy);
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let mut ctx = Ctx::new(now, id, health, site.as_ref(), entropy, &mut actions);
            core.handle(event, &mut ctx);
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
        self.entry
            .ring
            .lock()
            .expect("no holder of a ring panics")
            .note(now, inward, noted);
    }

    /// Performs the actions of one event in the order given; what must wait, waits.
    fn perform_all(
        &mut self,
        actions: Vec<Action<R::Message>>,
        cause: Event<R::Message, ()>,
        now: Now,
    ) {
        let stores = actions
            .iter()
            .any(|action| matches!(action, Action::Store(_)));
        let core = self.core.as_ref().filter(|_| stores);
        let schema = self.fabric.spoken();
        let part = core.map(|core| Bytes::from(core.snapshot(now, schema)));
        let deadline = core
            .and_then(R::next_deadline)
            .map(|at| now.utc.after(at.since(now.mono)));
        if part.is_some() {
            self.has_ended_record = false;
            self.stored_at = Some(now);
            self.unsaved = None;
            self.first = None;
        }
        // If any commit of the event fails, its cause goes back.
        let last_gate = actions.iter().rposition(is_gate);
        let mut cause = Some(cause);
        for (at, action) in actions.into_iter().enumerate() {
            if let Action::Tell { to, message, .. }
            | Action::Spawn {
                id: to,
                first: message,
            } = &action
            {
                self.note_line(now, false, Noted::Message(to.clone(), message.clone()));
            }
            if let Action::Adopt { parts } = action {
                // Whatever follows is of the copy that is given up.
                return self.adopt_copy(parts, cause);
            }
            if let Action::Store(store) = &action {
                // An event may end it and begin it again.
                self.has_ended_record = matches!(store, Store::End { .. });
                let ticket = is_gate(&action).then(|| self.gate.shut());
                if let Some(ticket) = ticket.filter(|_| last_gate == Some(at))
                    && let Some(cause) = cause.take()
                {
                    self.causes.push_back((ticket, cause));
                }
                let part = part.as_ref().map(|bytes| Part {
                    bytes,
                    deadline,
                    schema,
                });
                self.perform(action, part, ticket);
            } else if let Some(action) = self.gate.pass(action) {
                self.perform(action, None, None);
            }
        }
    }

    pub(crate) fn perform(
        &self,
        action: Action<R::Message>,
        part: Option<Part<'_>>,
        ticket: Option<Ticket>,
    ) {
        if self.fabric.is_revoked() {
            return;
        }
        let origin = Origin {
            id: &self.entry.id,
            part,
            ticket,
        };
        self.fabric
            .inner
            .parts
            .performer
            .perform(&self.fabric, &origin, action);
    }

    /// Fires what is due; tells whether more may be.
    ///
    /// Several deadlines may be due at one time, but not `DEADLINES_PER_TURN` of them.
    pub(crate) fn fire(&mut self) -> bool {
        let first = self.core.as_ref().and_then(R::next_deadline);
        for _ in 0..DEADLINES_PER_TURN {
            if self.is_waiting() || !self.is_due() {
                return false;
            }
            self.take(Event::Timer(()));
        }
        let last = self.core.as_ref().and_then(R::next_deadline);
        if self.core.is_some() && last == first && !self.has_many_timers() {
            tracing::error!("a core leaves a deadline set that has fired");
            self.give_up();
        }
        true
    }

    /// Tells whether a deadline has passed.
    pub(crate) fn is_due(&self) -> bool {
        let now = self.fabric.now().mono;
        let next = self.core.as_ref().and_then(R::next_deadline);
        next.is_some_and(|at| at <= now)
    }

    /// Lanes hold the timers of many transactions: any number may be due at one time.
    fn has_many_timers(&self) -> bool {
        self.entry.id.kind() == contract::Kind::Lane
    }
}

fn is_gate<M>(action: &Action<M>) -> bool {
    matches!(
        action,
        Action::Store(Store::Put { gate: true } | Store::End { gate: true, .. })
    )
}
