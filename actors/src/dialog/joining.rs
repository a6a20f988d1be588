//! A dialog that goes on in another call (RFC 3891): it is replaced there, or goes there.
//!
//! In: who wants to come in its place; the order to stop; as the first message of a side, what another
//! call's side has stopped with. Out: its own stored form for the call; requests, passed on to where it
//! goes on. Our tag names the call it began in for as long as it lives: what is left of it there passes
//! everything on, and ends when the other one has ended.

use std::time::Duration;

use contract::{ActorId, SideKey, Undelivered};
use rsip::Method;
use serde::{Deserialize, Serialize};

use super::Message;
use super::core::{Dialog, DialogCtx, State, Timer};
use super::outbox::Outbox;
use crate::call::{self, Ask, Replaces, Stopped, Word};
use crate::roster;

/// Time between looks whether the dialog lives where it goes on.
pub(super) const LOOK_AFTER: Duration = Duration::from_secs(60);

/// Where a dialog goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Onward {
    to: SideKey,
    /// It is known to be there.
    pub(super) is_there: bool,
}

impl Onward {
    pub(super) const fn new(to: SideKey) -> Self {
        let is_there = false;
        Onward { to, is_there }
    }

    /// Returns the same, known to be there.
    pub(super) const fn there(self) -> Self {
        Onward {
            is_there: true,
            ..self
        }
    }

    pub(super) const fn dialog(self) -> ActorId {
        ActorId::Dialog(self.to)
    }

    /// Asks whether it is still there.
    pub(super) fn look(self, out: &mut Outbox) {
        out.other(self.dialog(), Message::Look);
    }

    /// Tells whether a message that came back says that nobody is there any more.
    pub(super) fn is_gone(self, to: &ActorId, why: Undelivered) -> bool {
        self.is_there && why == Undelivered::Absent && *to == self.dialog()
    }
}

/// Whence a dialog comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) from: SideKey,
    /// Our last CSeq there: numbers that follow from an epoch of this call are counted from it.
    pub(super) cseq: u32,
}

impl Origin {
    /// What is left of it there ends, too.
    pub(super) fn tell_left(self, out: &mut Outbox) {
        out.other(ActorId::Dialog(self.from), Message::Left);
    }
}

impl Dialog {
    /// Somebody wants to come in the place of the peer: only the call knows whether it may.
    pub(super) fn on_replace(&mut self, ask: Box<Ask>, ctx: &DialogCtx<'_>) {
        // Where this peer had to show who it is, nobody else comes by what From says.
        let is_guarded = ctx.site().is_proving(self.data.flow.listener());
        let forged = (is_guarded && !ask.is_proven).then_some(403);
        match self.refusal_of(&ask.replaces).or(forged) {
            None => self.out.call(call::Message::Join {
                side: self.number(),
                word: Word::Ask(ask),
            }),
            Some(status) => {
                let refused = call::Message::Join {
                    side: ask.from.number(),
                    word: Word::Asked(Err(status)),
                };
                self.out.other(ActorId::Call(ask.from.call()), refused);
            }
        }
    }

    /// RFC 3891 §3: which status refuses it, if any does.
    fn refusal_of(&self, replaces: &Replaces) -> Option<u16> {
        let Some(dialog) = &self.data.dialog else {
            return Some(481);
        };
        let is_same = dialog.call_id == replaces.call_id
            && dialog.local.tag() == Some(&replaces.our_tag)
            && dialog.remote.tag() == Some(&replaces.peer_tag);
        let is_over = matches!(self.data.state, State::Ending | State::Ended);
        match (is_same, is_over) {
            (false, _) => Some(481),
            (true, true) => Some(603),
            (true, false) => {
                let is_early = matches!(self.data.state, State::Incoming | State::Early);
                (replaces.early_only && !is_early).then_some(486)
            }
        }
    }

    /// Stops, and gives the call what it goes on with elsewhere; ordered again, it gives the same.
    pub(super) fn hand_over(&mut self, to: SideKey, ctx: &mut DialogCtx<'_>) {
        let side = self.number();
        let word = if self.data.state == State::Confirmed {
            // What crosses with the order is answered here: nobody there knows of it.
            self.refuse_open_offer(491, ctx);
            if self.has_open_referral() {
                self.refuse_refer(491, ctx);
            }
            self.onward = None;
            let part = roster::part_of_dialog(contract::Core::snapshot(self, ctx.now()));
            self.onward = Some(Onward::new(to));
            self.timers.clear_all();
            self.out.save();
            Word::Stopped(Stopped::Dialog(part))
        } else {
            Word::Stopped(Stopped::Stays)
        };
        self.out.call(call::Message::Join { side, word });
    }

    /// Looks whether it is still there.
    pub(super) fn look(&mut self, ctx: &DialogCtx<'_>) {
        if let Some(onward) = self.onward {
            onward.look(&mut self.out);
            self.timers.set(Timer::Look, ctx.now().mono, LOOK_AFTER);
        }
    }

    /// Takes what comes to a dialog that goes on elsewhere.
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "all else is for a dialog that is here"
    )]
    pub(super) fn pass_on(&mut self, onward: Onward, message: Message, ctx: &mut DialogCtx<'_>) {
        match message {
            message @ (Message::Request(_)
            | Message::Response { .. }
            | Message::RequestFailed { .. }
            | Message::Retransmitted(_)
            | Message::Cancelled(_)
            | Message::Replace(_)) => self.out.other(onward.dialog(), message),
            Message::HandOver { to } if !onward.is_there => self.hand_over(to, ctx),
            Message::HandedOver => {
                self.onward = Some(onward.there());
                self.out.save();
                self.timers.set(Timer::Look, ctx.now().mono, LOOK_AFTER);
            }
            Message::Left => self.enter(State::Ended, ctx),
            // Nobody has taken it: it is ended from here.
            Message::End { status, cause } if !onward.is_there => {
                self.onward = None;
                if let Some(dialog) = &mut self.data.dialog {
                    dialog.skip_block();
                }
                self.end(status, &cause, ctx);
            }
            _ => ctx.ignore("it goes on elsewhere"),
        }
    }

    /// Where it goes on nobody is any more: it ends here, too, and the peer hears it.
    pub(super) fn on_onward_gone(&mut self, message: crate::Message, ctx: &mut DialogCtx<'_>) {
        if let crate::Message::Dialog(Message::Request(inbound)) = message
            && !Self::is_method(&inbound.request, Method::Ack)
        {
            self.answer(&inbound, 481, ctx, |_| {});
        }
        self.enter(State::Ended, ctx);
    }

    /// Tells whether a message for another dialog is told again: it is not there yet.
    pub(super) fn is_onward(&self, to: &ActorId) -> bool {
        self.onward
            .is_some_and(|one| *to == ActorId::Dialog(one.to))
    }

    /// Goes on here with what another call's side has stopped with.
    pub(super) fn take_up(&mut self, from: SideKey, ctx: &mut DialogCtx<'_>) {
        if self.origin.is_some_and(|origin| origin.from == from) {
            return ctx.ignore("taken up already");
        }
        let cseq = self.data.dialog.as_mut().map_or(0, |dialog| {
            dialog.skip_block();
            dialog.local_cseq
        });
        self.origin = Some(Origin { from, cseq });
        self.set_session(self.data.session, ctx);
        self.go_on_here(ctx);
    }
}
