//! The call that a party joins, in the place of one of its own (RFC 3891 §3).
//!
//! | event | does |
//! |---|---|
//! | Ask, of a dialog with other tags or Call-ID | 481, by the dialog |
//! | Ask, early only, and it was answered | 486, by the dialog |
//! | Ask, by another account than that of who shall be replaced | 403 |
//! | Ask while a callee is called, of the caller | let in: it is called for on |
//! | Ask while parties talk | let in |
//! | Ask, an exchange, a transfer or another ask is open, or the 200 is on its way | 491: it is asked again |
//! | Ask of a dialog that ends | 603, by the dialog |
//! | Ask of a dialog that is proven, by somebody who is not | 403, by the dialog |
//! | Ask by a party of this very call | 482 |
//! | Ask of a call without media legs | 488 |
//! | Ask while nodes of the former release are there, or with all sides taken | 503 |
//! | Ask once more | the same place again |
//! | who shall be replaced hangs up meanwhile | it leaves; the others wait for who comes |
//! | Come | dialog and leg go on here, who was replaced leaves, who comes is offered what the peer speaks |
//! | its answer came | the peer, if it was on hold or speaks something else, is offered what it speaks |
//! | Come once more | Came again |
//! | Come, nobody was let in, or the call is over | Came: nobody is there |
//! | NotComing, or its call is over | the parties talk on; if who was to be replaced has left, the call ends |
//! | it does not come for 32 s | the same |
//! | PickUp, Retrieve | `picking.rs`, `parking.rs` |

use contract::{ActorId, CallNews, SideKey};
use serde::{Deserialize, Serialize};
use sip::{Aor, NameAddr};

use super::super::Message;
use super::super::core::{
    AnswerStage, CALLER, Call, CallCtx, Caller, Peer, Side, Stage, State, Timer,
};
use super::{Ask, COME_WITHIN, Coming, PickUp, Word};
use crate::media_leg::{self, Stream, Want};
use crate::parking::Retrieve;
use crate::wire::FORM_3_SINCE;
use crate::{Site, dialog};
use media::sdp::Direction;

/// The side in whose place comes who takes a parked call.
const NOBODY: u8 = 0;

/// Who was let in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Awaited {
    /// In whose place.
    side: u8,
    /// Who.
    from: SideKey,
    /// As which side.
    place: u8,
    /// It comes as the callee of a call that rings, where `side` rings whom it picks up, or is parked, where
    /// `side` is `NOBODY`.
    is_picking: bool,
}

/// Who has come.
struct Newcomer {
    name: NameAddr,
    account: Option<Aor>,
}

impl Call {
    /// A party of another call wants to come in the place of a side.
    pub(super) fn on_ask(&mut self, side: u8, ask: &Ask, ctx: &mut CallCtx<'_>) {
        let result = self.let_in(side, ask, ctx);
        self.answer_ask(ask.from, result);
    }

    /// Tells who has asked whether, and as which side, it may come.
    fn answer_ask(&mut self, from: SideKey, result: Result<u8, u16>) {
        let result = result.map(|place| self.side_key(place));
        let (to, side) = (ActorId::Call(from.call()), from.number());
        let word = Word::Asked(result);
        self.tell(to, Message::Join { side, word }.into());
    }

    /// Keeps a place for who is let in.
    fn await_party(
        &mut self,
        side: u8,
        from: SideKey,
        is_picking: bool,
        ctx: &CallCtx<'_>,
    ) -> Result<u8, u16> {
        let place = self.take_side().ok_or(503_u16)?;
        self.joining.awaited = Some(Awaited {
            side,
            from,
            place,
            is_picking,
        });
        self.timers.set(Timer::Join, ctx.now().mono, COME_WITHIN);
        self.is_changed = true;
        Ok(place)
    }

    fn let_in(&mut self, side: u8, ask: &Ask, ctx: &mut CallCtx<'_>) -> Result<u8, u16> {
        let known = self.joining.awaited.as_ref();
        if let Some(known) = known.filter(|known| known.from == ask.from && known.side == side) {
            return Ok(known.place);
        }
        let may_be = match self.data.state {
            State::Talking { .. } => self.is_party(side),
            State::Locating { .. } | State::Ringing => {
                side == CALLER && self.anchor() == CALLER && self.data.answered.is_none()
            }
            State::Answering { .. } => return Err(491),
            State::New | State::Preparing | State::Ending(_) | State::Over => false,
        };
        if !may_be {
            return Err(481);
        }
        // One that came from another call: its tags name that one.
        if ask.from.call() == self.data.key {
            return Err(482);
        }
        if self.is_busy() || self.picking.is_some() {
            return Err(491);
        }
        if ask.by.is_none() || self.account_of(side) != ask.by.as_ref() {
            return Err(403);
        }
        if ctx.health().schema < FORM_3_SINCE {
            return Err(503);
        }
        if self.data.is_bypassed {
            return Err(488);
        }
        self.await_party(side, ask.from, false, ctx)
    }

    /// A party wants to come as the callee, which rings.
    pub(super) fn on_pick_up(&mut self, ask: &PickUp, ctx: &mut CallCtx<'_>) {
        let result = self.let_in_as_callee(ask, ctx);
        self.answer_ask(ask.from, result);
    }

    fn let_in_as_callee(&mut self, ask: &PickUp, ctx: &mut CallCtx<'_>) -> Result<u8, u16> {
        let known = self.joining.awaited.as_ref();
        if let Some(known) = known.filter(|known| known.from == ask.from && known.is_picking) {
            return Ok(known.place);
        }
        let side = self.may_pick_up(ask, ctx)?;
        self.await_party(side, ask.from, true, ctx)
    }

    /// A party wants to talk to who is parked here.
    pub(super) fn on_retrieve(&mut self, ask: &Retrieve, ctx: &mut CallCtx<'_>) {
        let result = self.let_in_to_parked(ask, ctx);
        let result = result.map(|place| self.side_key(place));
        let (to, side) = (ActorId::Call(ask.from.call()), ask.from.number());
        let word = Word::Asked(result);
        self.tell(to, Message::Join { side, word }.into());
    }

    fn let_in_to_parked(&mut self, ask: &Retrieve, ctx: &CallCtx<'_>) -> Result<u8, u16> {
        let known = self.joining.awaited.as_ref();
        if let Some(known) = known.filter(|known| known.from == ask.from && known.is_picking) {
            return Ok(known.place);
        }
        self.may_retrieve(ask, ctx)?;
        self.await_party(NOBODY, ask.from, true, ctx)
    }

    /// Who was let in does not come after all. The place tells it from a later attempt.
    pub(super) fn on_not_coming(&mut self, side: u8, from: SideKey, ctx: &mut CallCtx<'_>) {
        let awaited = self.joining.awaited.as_ref();
        if awaited.is_some_and(|awaited| awaited.from == from && awaited.place == side) {
            self.stop_awaiting(ctx);
        } else {
            ctx.ignore("it is not awaited");
        }
    }

    /// The call of who was let in is over: it could not be told that.
    pub(super) fn on_awaited_absent(&mut self, to: &ActorId, ctx: &mut CallCtx<'_>) {
        let awaited = self.joining.awaited.as_ref();
        if awaited.is_some_and(|awaited| *to == ActorId::Call(awaited.from.call())) {
            self.stop_awaiting(ctx);
        } else {
            ctx.ignore("nobody leaves or is awaited");
        }
    }

    /// Who was let in did not come.
    pub(super) fn stop_awaiting(&mut self, ctx: &mut CallCtx<'_>) {
        let Some(awaited) = self.joining.awaited.take() else {
            return ctx.ignore("nobody is awaited");
        };
        self.timers.clear(Timer::Join);
        self.is_changed = true;
        if !awaited.is_picking && !self.is_there(awaited.side) {
            let by = self.word_of(awaited.side);
            self.end(480, "NORMAL_CLEARING", &by, ctx);
        }
    }

    /// Somebody has answered: who wanted to pick up the call comes too late.
    pub(in super::super) fn end_pick_up(&mut self) {
        let awaited = &mut self.joining.awaited;
        if awaited.take_if(|awaited| awaited.is_picking).is_some() {
            self.timers.clear(Timer::Join);
            self.is_changed = true;
        }
    }

    /// Returns in whose place a side has come, if in anybody's.
    pub(in super::super) fn stands_for(&self, side: u8) -> Option<u8> {
        let mut arrived = self.joining.arrived.iter();
        arrived
            .find(|known| known.place == side)
            .map(|known| known.side)
    }

    /// Who shall be replaced hangs up: the others wait for who comes.
    pub(in super::super) fn let_replaced_go(&mut self, side: u8) -> bool {
        let awaited = self.joining.awaited.as_ref();
        let is_replaced =
            awaited.is_some_and(|awaited| awaited.side == side && !awaited.is_picking);
        if is_replaced {
            self.let_side_go(side);
        }
        is_replaced
    }

    /// A party comes.
    pub(super) fn on_come(&mut self, coming: Coming, ctx: &mut CallCtx<'_>) {
        let mut arrived = self.joining.arrived.iter();
        let is_known = arrived.any(|known| known.from == coming.from);
        let awaited = self.joining.awaited.as_ref();
        let awaited = awaited
            .filter(|awaited| awaited.from == coming.from)
            .cloned();
        let from = coming.from;
        let is_there = match (is_known, awaited, &self.data.state) {
            (true, ..) => true,
            (_, Some(awaited), State::Talking { .. })
                if awaited.is_picking && self.data.exchange.is_some() =>
            {
                return;
            }
            (_, Some(awaited), state) if awaited.is_picking => {
                // A round of a group may be over, or the call be just taken over.
                let rings = match state {
                    State::Ringing | State::Locating { .. } => awaited.side != NOBODY,
                    State::Talking { peer } => *peer == Peer::Parked,
                    State::New
                    | State::Preparing
                    | State::Answering { .. }
                    | State::Ending(_)
                    | State::Over => false,
                };
                match rings {
                    true => self.take_callee(&awaited, coming, ctx),
                    false => self.stop_awaiting(ctx),
                }
                rings
            }
            // What is open is finished first; it is said again. Who has gone finishes nothing.
            (_, Some(awaited), State::Answering { .. }) if self.is_there(awaited.side) => return,
            (_, Some(_), State::Talking { .. }) if self.data.exchange.is_some() => return,
            (
                _,
                Some(awaited),
                State::Talking { .. }
                | State::Locating { .. }
                | State::Ringing
                | State::Answering { .. },
            ) => {
                self.replace(&awaited, coming, ctx);
                true
            }
            (_, _, _) => false,
        };
        let (to, side) = (ActorId::Call(from.call()), from.number());
        let word = Word::Came(is_there);
        self.tell(to, Message::Join { side, word }.into());
    }

    fn is_there(&self, side: u8) -> bool {
        let known = self.data.sides.get(&side);
        known.is_some_and(|known| known.stage == Stage::Active)
    }

    fn replace(&mut self, awaited: &Awaited, coming: Coming, ctx: &mut CallCtx<'_>) {
        let Awaited { side, place, .. } = *awaited;
        let other = self.other_side(side);
        let coming = self.take_in(awaited, coming, other);
        self.tell_in_call(coming.account.as_ref(), ctx);
        let is_anchor = side == self.anchor();
        if is_anchor {
            let identity = Caller {
                from: coming.name,
                account: coming.account,
                ..self.identity().clone()
            };
            self.roles.anchor = place;
            self.roles.identity = Some(Box::new(identity));
        } else {
            self.data.callee = coming.account;
        }
        match self.data.state.clone() {
            State::Talking { peer } => {
                let peer = if is_anchor { peer } else { Peer::Side(place) };
                self.enter(State::Talking { peer });
                self.joining.unsettled = other;
                self.leave(side, 200, "NORMAL_CLEARING");
            }
            State::Answering { peer, stage } => {
                self.call_on(ctx);
                if stage != AnswerStage::Callee {
                    self.begin_answer(peer, ctx);
                }
            }
            State::New
            | State::Preparing
            | State::Locating { .. }
            | State::Ringing
            | State::Ending(_)
            | State::Over => {
                self.leave(side, 487, "ATTENDED_TRANSFER");
                self.call_on(ctx);
            }
        }
        self.owe(place);
        self.begin_moves(ctx);
    }

    /// Dialog and leg of who comes go on here; returns who that is.
    fn take_in(&mut self, awaited: &Awaited, coming: Coming, beside: Option<u8>) -> Newcomer {
        let (party, place) = (self.word_of(awaited.side), awaited.place);
        self.joining.awaited = None;
        self.joining.arrived.push(awaited.clone());
        self.timers.clear(Timer::Join);
        self.is_changed = true;
        self.release_all();
        self.data
            .sides
            .insert(place, Side::new(Stage::Active, true));
        let leg = media_leg::Message::TakeUp {
            part: coming.leg,
            beside: beside.map(|beside| self.side_key(beside)),
        };
        self.spawn(ActorId::MediaLeg(self.side_key(place)), leg.into());
        let dialog = dialog::Message::TakeUp {
            part: coming.dialog,
            from: coming.from,
        };
        self.spawn(ActorId::Dialog(self.side_key(place)), dialog.into());
        let by = coming.account.as_ref().map_or_else(
            || coming.name.uri.to_string(),
            |account| account.as_str().to_owned(),
        );
        self.emit(CallNews::Replaced { party, by });
        Newcomer {
            name: coming.name,
            account: coming.account,
        }
    }

    /// A party comes as the callee of a call that rings: the caller is answered, nobody rings any more. Or of
    /// one that is parked: its place is free.
    fn take_callee(&mut self, awaited: &Awaited, coming: Coming, ctx: &mut CallCtx<'_>) {
        let (anchor, place) = (self.anchor(), awaited.place);
        self.data.targets.clear();
        self.hunting = None;
        self.leave_place();
        for timer in [Timer::Ring, Timer::LocateAgain, Timer::CallAnew] {
            self.timers.clear(timer);
        }
        self.end_forks("PICKED_OFF");
        let coming = self.take_in(awaited, coming, Some(anchor));
        self.tell_in_call(coming.account.as_ref(), ctx);
        self.data.callee = coming.account;
        self.joining.unsettled = Some(anchor);
        self.owe(place);
        self.begin_answer(Peer::Side(place), ctx);
    }

    /// Returns what who has come is offered: what the other party speaks, and what it may know besides.
    pub(in super::super) fn want_of_arrival(&self, side: u8, site: &Site) -> Option<Want> {
        let is_new = self.stream_of(side).is_none();
        let other = self.other_side(side).filter(|_| is_new)?;
        (self.joining.unsettled == Some(other)).then(|| {
            let theirs = self.stream_of(other);
            let known = theirs.into_iter().flat_map(|stream| stream.codecs.clone());
            self.want_of_all(side, known, theirs.and_then(|stream| stream.ptime), site)
        })
    }

    /// Returns who is to be offered what who has come speaks, and what that is: if it was put on hold,
    /// or might send what that one does not know.
    pub(in super::super) fn take_unsettled(&mut self) -> Option<(u8, Want)> {
        let side = self.joining.unsettled.take()?;
        self.is_changed = true;
        let theirs = self
            .other_side(side)
            .and_then(|other| self.stream_of(other))?;
        let ours = self.stream_of(side)?;
        let is_open = |stream: &Stream| stream.direction == Direction::SendRecv;
        let goes_on =
            is_open(ours) && super::super::transfer::goes_on(&ours.codecs, &theirs.codecs);
        (!goes_on).then(|| {
            let want = Want {
                direction: Direction::SendRecv,
                ..Want::of(theirs)
            };
            (side, want)
        })
    }
}
