//! The end of a call: every side ended, one tombstone, one record, in this order.
//!
//! In: whatever ends a call. Out: `End` for each side, `Close` for each leg; when all of them are
//! gone, `Store::End` behind the gate, then `CallEnded`, exactly once: the copy that a cut-off node had says
//! nothing of that (`bequest.rs`).

use std::time::Duration;

use contract::{Action, ActorId, CallNews, CallRecord, Emitted, Store};

use super::core::{Call, CallCtx, End, Stage, State, Timer};
use super::outcome;
use crate::media_leg;
use crate::registration::settings::DiversionReason;

/// How long a tombstone is kept: longer than any copy of the INVITE may travel (64·T1, twice).
const TOMBSTONE: Duration = Duration::from_secs(64);
/// How long sides may take to end: a little longer than a dialog takes to give up.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(40);

/// Who has ended a copy of a call that has ended already, on the other side of a cut (`bequest.rs`).
pub(super) const BY_THE_OTHER_COPY: &str = "other copy";

impl Call {
    /// Ends the call: the first cause counts.
    pub(super) fn end(&mut self, status: u16, cause: &str, by: &str, ctx: &mut CallCtx<'_>) {
        if matches!(self.data.state, State::Ending(_) | State::Over) {
            return ctx.ignore("ending already");
        }
        let end = End {
            cause: cause.to_owned(),
            status,
            by: by.to_owned(),
            at: ctx.now().utc,
        };
        self.leave_place();
        self.data.exchange = None;
        self.moves.clear();
        self.data.targets.clear();
        self.hunting = None;
        self.picking = None;
        self.waiting.clear();
        self.timers.clear_all();
        self.close_transfer(487);
        self.close_joining(487);
        self.enter(State::Ending(Box::new(end)));
        self.timers
            .set(Timer::GiveUp, ctx.now().mono, GIVE_UP_AFTER);
        let sides: Vec<u8> = self.data.sides.keys().copied().collect();
        for side in sides {
            self.leave(side, status, cause);
        }
        self.finish_if_empty();
    }

    /// Ends one side: its leg at once, its dialog as its state wants.
    pub(super) fn leave(&mut self, side: u8, status: u16, cause: &str) {
        let Some(known) = self.data.sides.get_mut(&side) else {
            return;
        };
        let stage = std::mem::replace(&mut known.stage, Stage::Leaving);
        // Who leaves need not know where we are.
        self.moves.remove(&side);
        self.is_changed = true;
        match stage {
            // There is no dialog to end.
            Stage::Describing(_) => known.has_dialog = false,
            Stage::Active => self.tell_end(side, status, cause),
            Stage::Leaving => {}
        }
        self.close_leg(side);
    }

    /// Has a leg free its ports.
    pub(super) fn close_leg(&mut self, side: u8) {
        if self.data.sides.get(&side).is_some_and(|side| side.has_leg) {
            self.tell_leg(side, media_leg::Message::Close);
        }
    }

    /// A leg is asked something that the call does not go on without. What it was asked may kill it,
    /// and is set aside then: a leg that never says anything must not hold the call for ever.
    pub(super) fn wait_for_leg(&mut self, ctx: &CallCtx<'_>) {
        let wait = self.ring_timeout(ctx.site());
        self.timers.set(Timer::Ring, ctx.now().mono, wait);
        self.is_changed = true;
    }

    /// What was waited for did not come: an answer of a callee, or of a leg of ours.
    pub(super) fn on_waited(&mut self, ctx: &mut CallCtx<'_>) {
        if matches!(self.data.state, State::Preparing | State::Answering { .. }) {
            return self.give_up(500, "NORMAL_TEMPORARY_FAILURE", "weft", ctx);
        }
        if self.end_round(ctx) {
            return;
        }
        let rings = self.data.state == State::Ringing;
        if !(rings && self.divert(DiversionReason::NoAnswer, ctx)) {
            self.give_up(480, "NO_ANSWER", "weft", ctx);
        }
    }

    /// A peer hung up, or was lost.
    pub(super) fn on_hung_up(&mut self, side: u8, cause: &str, ctx: &mut CallCtx<'_>) {
        if self.let_party_go(side) {
            return;
        }
        if !self.is_party(side) {
            return ctx.ignore("a fork that has lost");
        }
        let (status, by) = (outcome::status_of_cause(cause), self.word_of(side));
        if side == self.anchor() || self.data.state.is_talking() {
            return self.end(status, cause, &by, ctx);
        }
        // It had answered, and is gone before the anchor heard it.
        self.leave(side, status, cause);
        self.give_up(status, cause, &by, ctx);
    }

    /// A dialog has nothing left to do.
    pub(super) fn on_ended(&mut self, side: u8, ctx: &mut CallCtx<'_>) {
        let Some(known) = self.data.sides.get_mut(&side) else {
            return ctx.ignore("gone already");
        };
        if known.stage == Stage::Active && !self.let_party_go(side) {
            return self.on_side_lost(side, ctx);
        }
        let Some(known) = self.data.sides.get_mut(&side) else {
            return ctx.ignore("gone already");
        };
        if std::mem::take(&mut known.has_dialog) {
            self.is_changed = true;
            self.out.push(Action::Stop {
                id: ActorId::Dialog(self.side_key(side)),
            });
        }
        self.close_leg(side);
        self.remove_if_gone(side);
    }

    /// A dialog is gone that should not be.
    pub(super) fn on_side_lost(&mut self, side: u8, ctx: &mut CallCtx<'_>) {
        let is_party = self.is_party(side);
        let is_waiting = self.let_party_go(side);
        let Some(known) = self.data.sides.get_mut(&side) else {
            return ctx.ignore("gone already");
        };
        let was_leaving = known.stage == Stage::Leaving;
        known.stage = Stage::Leaving;
        self.moves.remove(&side);
        known.has_dialog = false;
        self.is_changed = true;
        self.out.push(Action::Stop {
            id: ActorId::Dialog(self.side_key(side)),
        });
        self.close_leg(side);
        self.remove_if_gone(side);
        if is_waiting {
            ctx.ignore("the others go on without it");
        } else if side == self.anchor() || (is_party && self.data.state.is_talking()) {
            self.end(500, "NORMAL_TEMPORARY_FAILURE", "weft", ctx);
        } else if is_party {
            self.give_up(500, "NORMAL_TEMPORARY_FAILURE", "weft", ctx);
        } else if !was_leaving {
            self.note_failure(side, 480, ctx);
        }
    }

    /// A leg has no port.
    pub(super) fn on_leg_lost(&mut self, side: u8, ctx: &mut CallCtx<'_>) {
        let stage = self.data.sides.get(&side).map(|side| side.stage.clone());
        match stage {
            Some(_) if self.is_going(side) => ctx.ignore("it goes on elsewhere"),
            None | Some(Stage::Leaving) => ctx.ignore("its side is ending"),
            // It waits how its transfer goes, and may wait without sound.
            Some(Stage::Active | Stage::Describing(_)) if self.transferor() == Some(side) => {
                self.leave(side, 503, "NORMAL_CIRCUIT_CONGESTION");
                self.let_transferor_go(side);
            }
            Some(Stage::Active | Stage::Describing(_)) if self.is_party(side) => {
                self.end(503, "NORMAL_CIRCUIT_CONGESTION", "weft", ctx);
            }
            Some(Stage::Active | Stage::Describing(_)) => {
                self.leave(side, 503, "NORMAL_CIRCUIT_CONGESTION");
                self.note_failure(side, 503, ctx);
            }
        }
    }

    /// A leg says that it is closed. Legs close when they are told to: what was not told here is said
    /// of a copy of the call that was lost, since messages that copy had not read come after the call.
    pub(super) fn on_closed_word(&mut self, side: u8, ctx: &mut CallCtx<'_>) {
        let known = self.data.sides.get(&side);
        if known.is_some_and(|known| known.stage != Stage::Leaving) {
            // If it is gone after all, this comes back.
            return self.tell_leg(side, media_leg::Message::Report);
        }
        self.on_leg_closed(side, ctx);
    }

    /// A leg is gone, as it was told, or for good.
    pub(super) fn on_leg_closed(&mut self, side: u8, ctx: &mut CallCtx<'_>) {
        let Some(known) = self.data.sides.get_mut(&side) else {
            return ctx.ignore("gone already");
        };
        known.has_leg = false;
        self.is_changed = true;
        if known.stage == Stage::Leaving {
            return self.remove_if_gone(side);
        }
        self.on_leg_lost(side, ctx);
    }

    /// Nothing was heard of a party for too long.
    pub(super) fn on_silence(&mut self, side: u8, ctx: &mut CallCtx<'_>) {
        if self.is_nobody_reached() {
            ctx.ignore("they may be heard on the other side of a parted network");
        } else if self.data.answered.is_some() && self.is_party(side) {
            self.end(480, "MEDIA_TIMEOUT", "weft", ctx);
        } else {
            ctx.ignore("silence counts once a call is answered");
        }
    }

    /// Forgets a side of which nothing is left.
    fn remove_if_gone(&mut self, side: u8) {
        let known = self.data.sides.get(&side);
        if known.is_some_and(|known| !known.has_dialog && !known.has_leg) {
            self.data.sides.remove(&side);
            self.is_changed = true;
        }
        self.finish_if_empty();
    }

    pub(super) fn finish_if_empty(&mut self) {
        if matches!(self.data.state, State::Ending(_)) && self.data.sides.is_empty() {
            self.finish();
        }
    }

    /// Tells whether it ends here what a cut-off node had of it: its end was told already.
    pub(super) fn is_other_copy(&self) -> bool {
        matches!(&self.data.state, State::Ending(end) if end.by == BY_THE_OTHER_COPY)
    }

    /// The tombstone, then the record of the call, then nothing more.
    pub(super) fn finish(&mut self) {
        let State::Ending(end) = self.data.state.clone() else {
            return;
        };
        let is_other_copy = self.is_other_copy();
        let sides = std::mem::take(&mut self.data.sides);
        for key in sides.keys().map(|side| self.data.key.side(*side)) {
            self.out.push(Action::Stop {
                id: ActorId::Dialog(key),
            });
            self.out.push(Action::Stop {
                id: ActorId::MediaLeg(key),
            });
        }
        let record = CallRecord {
            call: self.data.key,
            from: self.data.caller.from.uri.to_string(),
            to: self.data.caller.to.clone(),
            sip_call_id: self.data.caller.sip_call_id.clone(),
            started: self.data.started,
            answered: self.data.answered,
            ended: end.at,
            status: self.data.answered.is_none().then_some(end.status),
            cause: end.cause.clone(),
            ended_by: end.by.clone(),
        };
        self.out.push(Action::Store(Store::End {
            gate: true,
            keep: TOMBSTONE,
        }));
        if !is_other_copy {
            self.out
                .push(Action::Emit(Emitted::CallEnded(Box::new(record))));
            self.emit(CallNews::Ended {
                cause: end.cause,
                status: end.status,
                by: end.by,
            });
        }
        self.out.push(Action::Stop {
            id: ActorId::Call(self.data.key),
        });
        self.timers.clear_all();
        self.enter(State::Over);
    }
}
