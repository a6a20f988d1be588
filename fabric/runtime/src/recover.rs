//! How a core comes back: after a panic, as its supervisor has judged, and after a failed commit.
//!
//! In: a caught unwind, a verdict, a fault of the store. Out: a core built from its last stored
//! part, or none and a word to the parent. Inbox, children and earlier held actions are untouched.

use std::sync::atomic::Ordering;

use contract::StoreFault;
use contract::core::{Event, Restored, Roster, Undelivered};

use crate::intensity::Verdict;
use crate::shell::{State, Suspended, Wake};

impl<R: Roster> State<R> {
    pub(crate) fn on_panic(
        &mut self,
        event: Event<R::Message, ()>,
        panic: &(dyn std::any::Any + Send),
    ) {
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
            Verdict::Quarantine => {
                let text = format!("{:?}", Brief(&suspended.event));
                tracing::warn!(event = %text, "an event that killed twice is set aside");
                let mut status = self.entry.status();
                status.quarantined.push(text);
                let over = status
                    .quarantined
                    .len()
                    .saturating_sub(contract::limits::QUARANTINE_MAX / 8);
                status.quarantined.drain(..over);
                drop(status);
                self.suspended = None;
                self.is_retry = false;
                self.rebuild();
            }
            Verdict::GiveUp => self.give_up(),
        }
    }

    pub(crate) fn resume_if_due(&mut self) {
        let now = self.fabric.now().mono;
        let is_due = self
            .suspended
            .as_ref()
            .is_some_and(|s| s.until.is_some_and(|until| until <= now));
        if !is_due {
            return;
        }
        let Some(suspended) = self.suspended.take() else {
            return;
        };
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

    pub(crate) fn give_up(&mut self) {
        tracing::warn!("an actor is given up");
        self.core = None;
        self.suspended = None;
        let id = self.entry.id.clone();
        if let Some(parent) = &self.entry.parent {
            self.fabric.deliver(parent, Event::ChildLost { id });
        }
    }

    /// A gated commit failed: nobody was told anything, and nobody will be.
    pub(crate) fn on_commit_failed(&mut self, fault: &StoreFault) {
        let dropped = self.gate.drop_held();
        tracing::warn!(cause = %fault, dropped, "a commit failed; what waited for it is dropped");
        let store = self.fabric.env().store();
        let id = self.entry.id.clone();
        let part = self.fabric.inner.records.roll_back(store.as_ref(), &id);
        let causes = std::mem::take(&mut self.causes);
        for (_, cause) in causes {
            if let Event::Message { from, message } = cause {
                self.fabric
                    .bounce(&from, id.clone(), message, Undelivered::Busy);
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
