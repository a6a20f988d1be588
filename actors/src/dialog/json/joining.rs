//! A dialog of a JSON client that goes on in another call: it is replaced there, or goes there; the same
//! steps as in SIP (`dialog/joining.rs`).
//!
//! In: who wants to come in its place; the order to stop; what another call's side has stopped with. Out:
//! its own stored form for the call; orders of the client, passed on: a client that comes back looks for
//! a call of that name where it began.

use contract::{ActorId, SideKey};

use super::core::{DialogCtx, JsonDialog, State, Timer};
use crate::call::{self, Ask, Stopped, Word};
use crate::dialog::Message;
use crate::dialog::joining::{LOOK_AFTER, Onward, Origin};
use crate::roster;

impl JsonDialog {
    /// Somebody wants to come in the client's place: only the call knows whether it may.
    pub(super) fn on_replace(&mut self, ask: Box<Ask>) {
        let is_up = matches!(
            self.data.state,
            State::Incoming | State::Early | State::Confirmed
        );
        if is_up && ask.is_proven && ask.replaces.call_id == self.data.name {
            let side = self.number();
            let word = Word::Ask(ask);
            return self.out.call(call::Message::Join { side, word });
        }
        let (side, word) = (ask.from.number(), Word::Asked(Err(481)));
        let refused = call::Message::Join { side, word };
        self.out.other(ActorId::Call(ask.from.call()), refused);
    }

    /// Stops, and gives the call what it goes on with elsewhere; ordered again, it gives the same.
    pub(super) fn hand_over(&mut self, to: SideKey, ctx: &mut DialogCtx<'_>) {
        let stopped = if self.data.state == State::Confirmed {
            // What crosses with the order is answered here: nobody there knows of it.
            if let Some(open) = self.data.incoming.take() {
                self.error(open.id, 491, "it is put through");
            }
            if self.transfer.is_some() {
                self.refuse_transfer(491, ctx);
            }
            self.onward = None;
            let part = roster::part_of_json_dialog(contract::Core::snapshot(self, ctx.now()));
            self.onward = Some(Onward::new(to));
            self.timers.clear_all();
            self.out.save();
            Stopped::Dialog(part)
        } else {
            Stopped::Stays
        };
        let (side, word) = (self.number(), Word::Stopped(stopped));
        self.out.call(call::Message::Join { side, word });
    }

    /// Looks whether it still is where it goes on.
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
            message @ (Message::Client(_) | Message::Dial(_) | Message::Replace(_)) => {
                self.out.other(onward.dialog(), message);
            }
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
                self.end(status, &cause, ctx);
            }
            _ => ctx.ignore("it goes on elsewhere"),
        }
    }

    /// Where it goes on nobody is any more: it ends here, too, and the client hears it.
    pub(super) fn on_onward_gone(&mut self, message: &crate::Message, ctx: &DialogCtx<'_>) {
        if let crate::Message::Dialog(Message::Client(order)) = message
            && let Some((to, refusal)) = super::refusal(order, 404, "no such call")
        {
            self.out.other(to, refusal);
        }
        self.enter(State::Ended, ctx);
    }

    /// Goes on here with what another call's side has stopped with.
    pub(super) fn take_up(&mut self, from: SideKey, ctx: &mut DialogCtx<'_>) {
        if self.origin.is_some_and(|origin| origin.from == from) {
            return ctx.ignore("taken up already");
        }
        self.origin = Some(Origin { from, cseq: 0 });
        self.take_over(ctx);
    }
}
