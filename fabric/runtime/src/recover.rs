//! How a core comes back: after a panic, as its supervisor has judged, and after a failed commit.
//!
//! In: a caught unwind, a verdict, a fault of the store. Out: a core built from its last stored
//! part, or none and a word to the parent. Inbox, children and earlier held actions are untouched.
//!
//! | what | then |
//! |---|---|
//! | panic | the verdict is awaited; the part, `Restored`, the event once more |
//! | the same event again | it is set aside; the part, `Restored` |
//! | `Restored` itself panics twice | the part and no word of it |
//! | panic with nothing stored, twice | given up: there is nothing to come back to |
//! | a gated commit fails | what waited is dropped, causes go back `Busy`; the last safe part |
//! | an ungated commit fails | stored again after a while |
//! | the end of a record fails | written again until it is safe; nobody is told before |

use std::any::Any;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contract::core::{Event, Restored, Roster, Undelivered};
use contract::limits::RESTART_BACKOFF_MS_MAX;
use contract::{Kind, StoreFault, Time};

use crate::gate::Ticket;
use crate::intensity::Verdict;
use crate::shell::{State, Wake};

/// After which time a commit that failed is tried again.
const WRITE_AGAIN: Duration = Duration::from_millis(RESTART_BACKOFF_MS_MAX);

/// An actor whose core is gone for a while.
pub(crate) struct Suspended<M> {
    /// What killed it, to be tried once more.
    killer: Option<Event<M, ()>>,
    /// What the rebuilt core is told first.
    announce: Option<Restored>,
    /// It was `announce` that killed it.
    is_announced: bool,
    /// When it is rebuilt; `None` before the verdict.
    pub(crate) until: Option<Time>,
}

/// The end of a record that is not on disk yet.
pub(crate) struct Unwritten {
    pub(crate) at: Time,
    ticket: Option<Ticket>,
}

impl<R: Roster> State<R> {
    pub(crate) fn on_panic(&mut self, event: Event<R::Message, ()>, panic: &(dyn Any + Send)) {
        let (cause, text) = (text_of(panic), brief::<R>(&event));
        tracing::error!(cause, event = text, "a core panicked");
        let (killer, announce) = match event {
            Event::Restored(why) => (None, why),
            Event::Message { .. }
            | Event::Timer(())
            | Event::Datagram { .. }
            | Event::Opened { .. }
            | Event::Bytes(_)
            | Event::Closed { .. }
            | Event::Media(_)
            | Event::Answer { .. }
            | Event::Undelivered { .. }
            | Event::ChildLost { .. } => (Some(event), Restored::Panic),
        };
        self.suspend(killer, announce);
    }

    /// The shell itself panicked in the middle of a turn: our own fault, judged like a core's.
    pub(crate) fn on_broken_turn(&mut self, panic: &(dyn Any + Send)) {
        tracing::error!(cause = text_of(panic), "a shell panicked");
        self.is_retry = false;
        if self.is_ending() {
            return self.finish();
        }
        self.suspend(None, Restored::Panic);
        self.entry.schedule();
    }

    fn suspend(&mut self, killer: Option<Event<R::Message, ()>>, announce: Restored) {
        self.core = None;
        self.entry.restarts.fetch_add(1, Ordering::Relaxed);
        // A connection's state is in the octets that are gone: it is closed instead.
        if matches!(self.entry.id.kind(), Kind::Flow | Kind::DoorSession) {
            return self.give_up();
        }
        let is_announced = killer.is_none();
        self.suspended = Some(Suspended {
            killer,
            announce: Some(announce),
            is_announced,
            until: None,
        });
        let unwound = Wake::Unwound {
            id: self.entry.id.clone(),
            is_second: self.is_retry,
        };
        if let Some(supervisor) = self.myself.get_cell().try_get_supervisor() {
            // A supervisor that is gone takes this actor with it.
            let _ = supervisor.send_message(unwound);
        }
    }

    pub(crate) fn on_verdict(&mut self, verdict: Verdict) {
        let now = self.fabric.now().mono;
        let Some(suspended) = &mut self.suspended else {
            return;
        };
        match verdict {
            Verdict::Restart => suspended.until = Some(now),
            Verdict::RestartAfter(wait) => {
                tracing::warn!(took_us = wait.as_micros(), "restarts back off");
                suspended.until = Some(now + wait);
            }
            Verdict::Quarantine => self.set_aside(now),
            Verdict::GiveUp => self.give_up(),
        }
    }

    /// The event that killed twice is kept for the console only.
    fn set_aside(&mut self, now: Time) {
        let id = self.entry.id.clone();
        let is_stored = self.fabric.inner.records.last(&id).is_some();
        let Some(suspended) = &mut self.suspended else {
            return;
        };
        let text = match &suspended.killer {
            Some(killer) => brief::<R>(killer),
            None => format!("restored: {:?}", suspended.announce),
        };
        tracing::warn!(event = text, "an event that killed twice is set aside");
        self.fabric.quarantine(&id, text);
        self.is_retry = false;
        if id.kind().is_recorded() && !is_stored {
            return self.give_up();
        }
        suspended.until = Some(now);
        suspended.killer = None;
        if std::mem::take(&mut suspended.is_announced) {
            suspended.announce = None;
        }
    }

    pub(crate) fn resume_if_due(&mut self) {
        let now = self.fabric.now().mono;
        let is_due = |one: &mut Suspended<_>| one.until.is_some_and(|until| until <= now);
        let Some(suspended) = self.suspended.take_if(is_due) else {
            return;
        };
        let Some(is_from_part) = self.rebuild() else {
            self.bounce_killer(suspended.killer);
            return self.give_up();
        };
        if let Some(why) = suspended.announce.filter(|_| is_from_part) {
            self.is_retry = suspended.is_announced;
            self.take(Event::Restored(why));
        }
        let Some(killer) = suspended.killer else {
            return;
        };
        if self.core.is_none() {
            // It could not even be restored: the event keeps its place.
            return self.entry.push_front(killer);
        }
        // A rebuilt core may have more patience than the one that died.
        if !matches!(killer, Event::Timer(())) || self.is_due() {
            self.is_retry = true;
            self.take(killer);
        }
    }

    /// Builds the core from its last stored part, or as it was made; tells which.
    fn rebuild(&mut self) -> Option<bool> {
        let now = self.fabric.now();
        let id = &self.entry.id;
        let site = self.fabric.site();
        let stored = self.fabric.inner.records.last(id);
        let is_from_part = stored.is_some();
        self.core = match (stored, &self.first) {
            (Some(part), _) => R::restore(id, &part, now).ok(),
            (None, Some(first)) => R::create(id, first, &site),
            (None, None) => R::create_system(id, &site),
        };
        self.stored_at = None;
        self.core.as_ref().map(|_| is_from_part)
    }

    /// Ends for good, with all children; the parent is told at the end.
    pub(crate) fn give_up(&mut self) {
        tracing::warn!("an actor is given up");
        self.core = None;
        self.is_lost = true;
        self.leave = Undelivered::Busy;
        let killer = self.suspended.take().and_then(|one| one.killer);
        self.bounce_killer(killer);
    }

    fn bounce_killer(&self, killer: Option<Event<R::Message, ()>>) {
        if let Some(Event::Message { from, message }) = killer {
            let me = self.entry.id.clone();
            self.fabric.bounce(&from, me, message, Undelivered::Busy);
        }
    }

    /// A commit failed. If others waited for it: nobody was told anything, and nobody will be.
    pub(crate) fn on_commit_failed(&mut self, ticket: Option<Ticket>, fault: &StoreFault) {
        if *fault == StoreFault::Fenced {
            // The record is another node's: `lose` has done what there is to do.
            return;
        }
        let now = self.fabric.now().mono;
        let Some(ticket) = ticket else {
            tracing::warn!(cause = %fault, "a commit that nobody waits for failed");
            self.unsaved = Some(now + WRITE_AGAIN);
            return;
        };
        if !self.gate.is_shut_by(ticket) {
            // An earlier one has failed: everything behind it was dropped then.
            return;
        }
        let dropped = self.gate.drop_held();
        tracing::warn!(cause = %fault, dropped, "a commit failed; what waited for it is dropped");
        for (_, cause) in std::mem::take(&mut self.causes) {
            self.bounce_killer(Some(cause));
        }
        if self.is_ending() {
            return;
        }
        self.core = None;
        if !crate::commit::roll_back(&self.fabric, &self.entry) {
            return self.give_up();
        }
        let longest = Duration::from_millis(RESTART_BACKOFF_MS_MAX);
        let wait = match self.failures.judge(now, false) {
            Verdict::Restart => Duration::ZERO,
            Verdict::RestartAfter(wait) => wait,
            Verdict::Quarantine | Verdict::GiveUp => longest,
        };
        match &mut self.suspended {
            // It has panicked as well: whatever takes longer.
            Some(one) => one.until = one.until.map(|until| until.max(now + wait)),
            None => {
                self.suspended = Some(Suspended {
                    killer: None,
                    announce: Some(Restored::Panic),
                    is_announced: false,
                    until: Some(now + wait),
                });
            }
        }
    }

    /// What has ended has ended: it is written again until it is safe.
    pub(crate) fn on_end_failed(&mut self, ticket: Option<Ticket>, fault: &StoreFault) {
        if *fault == StoreFault::Fenced {
            return;
        }
        tracing::warn!(cause = %fault, "the end of a record could not be written");
        let at = self.fabric.now().mono + WRITE_AGAIN;
        self.unwritten = Some(Unwritten { at, ticket });
    }

    /// Writes again what could not be written, if it is time.
    pub(crate) fn write_again_if_due(&mut self) {
        let now = self.fabric.now();
        if let Some(end) = self.unwritten.take_if(|end| end.at <= now.mono) {
            let (fabric, entry) = (self.fabric.clone(), self.entry.clone());
            let mut is_over = true;
            let again = |owned: &mut cluster::Owned| {
                let (is_ended, until) = (owned.header().is_ended(), owned.header().expires);
                is_ended.then(|| owned.end(until))
            };
            fabric
                .inner
                .records
                .commit_change(&entry.id, again, |owned, commit| {
                    is_over = false;
                    crate::commit::write_end(&fabric, &entry, end.ticket, owned, commit);
                });
            fabric.work();
            // The record was begun again: there is nothing left to end.
            if let (true, Some(ticket)) = (is_over, end.ticket) {
                self.on_safe(ticket);
            }
        }
        if self.core.is_some() && self.unsaved.is_some_and(|at| at <= now.mono) {
            self.unsaved = None;
            if !self.has_ended_record {
                self.store_now(now);
            }
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or_default()
}

/// An event in a few words, for logs and the console: no octets of messages.
pub(crate) fn brief<R: Roster>(event: &Event<R::Message, ()>) -> String {
    match event {
        Event::Message { from, message } => format!("{from}: {}", R::describe(message).0),
        Event::Timer(()) => "deadline".to_owned(),
        Event::Datagram { remote, bytes, .. } => format!("{} octets from {remote}", bytes.len()),
        Event::Opened { flow } => format!("opened {flow}"),
        Event::Bytes(bytes) => format!("{} octets", bytes.len()),
        Event::Closed { why } => format!("closed: {why}"),
        Event::Media(media) => format!("{media:?}"),
        Event::Answer { token, .. } => format!("answer {token}"),
        Event::Undelivered { to, message, why } => {
            format!("{to}: not delivered ({why:?}): {}", R::describe(message).0)
        }
        Event::ChildLost { id } => format!("lost {id}"),
        Event::Restored(why) => format!("restored: {why:?}"),
    }
}
