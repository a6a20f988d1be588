//! re-INVITE and UPDATE across a call: hold, codecs, addresses (RFC 3261 §14, RFC 3264 §8).
//!
//! In: offers of one party, descriptions of legs, answers of the other party. Out: an offer for the
//! other party, an answer for the first; legs joined anew. One exchange at a time: another offer
//! meanwhile gets 491. A failed one leaves the streams as they were. While parties are told that
//! another node has the call (`takeover.rs`) each has an exchange of our own, both at once.
//!
//! ```text
//! offer:     Reading → Offering → Waiting → Closing → Answering
//! no offer:  Describing → Accepted → Settling → (if it changed anything: Offering → … → Closing)
//! ```

use bytes::Bytes;
use contract::CallNews;
use serde::{Deserialize, Serialize};

use super::core::{Call, CallCtx, Peer, State};
use super::early::rewritten;
use crate::dialog::wire::Wire;
use crate::media_leg::{Codecs, Report, Stream, Want};
use crate::{dialog, media_leg};
use media::sdp::Direction;

/// One exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Exchange {
    /// Who offered, and waits for an answer; nobody if we began it.
    from: Option<u8>,
    /// Who is offered.
    to: Option<u8>,
    stage: Stage,
}

/// How far an exchange is, with what asking again needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Stage {
    /// The leg of `from` reads the offer.
    Reading(Wire),
    /// The leg of `to` makes an offer.
    Offering(Want),
    /// The party `to` has the offer.
    Waiting(Option<Wire>),
    /// The leg of `to` reads the answer.
    Closing(Wire),
    /// The leg of `from` makes the answer.
    Answering(Want),
    /// The leg of `from` makes an offer for our 200.
    Describing,
    /// The party `from` has it; its ACK brings the answer.
    Accepted,
    /// The leg of `from` reads that answer.
    Settling(Wire),
}

impl Exchange {
    /// Begins one that tells `to` where we are: it is offered `want`, or, without a leg, what it was
    /// described last.
    pub(super) fn to_move(to: u8, want: Option<Want>) -> Self {
        let stage = want.map_or(Stage::Waiting(None), Stage::Offering);
        Exchange {
            from: None,
            to: Some(to),
            stage,
        }
    }

    /// Tells whether a side takes part in it.
    fn concerns(&self, side: u8) -> bool {
        self.from == Some(side) || self.to == Some(side)
    }

    /// Returns who takes part in it.
    pub(super) fn sides(&self) -> impl Iterator<Item = u8> {
        [self.from, self.to].into_iter().flatten()
    }

    /// Returns who offered, if somebody did.
    pub(super) const fn offerer(&self) -> Option<u8> {
        self.from
    }

    /// Begins one of our own.
    pub(super) const fn to_settle(to: u8, want: Want) -> Self {
        Exchange {
            from: None,
            to: Some(to),
            stage: Stage::Offering(want),
        }
    }
}

impl Call {
    /// Returns the party opposite to a party.
    pub(super) fn other_side(&self, side: u8) -> Option<u8> {
        let callee = self.callee_side()?;
        match side {
            side if side == self.anchor() => Some(callee),
            side if side == callee => Some(self.anchor()),
            _ => None,
        }
    }

    /// A party offers anew, or wants an offer.
    pub(super) fn on_offered(&mut self, side: u8, sdp: Option<Bytes>, ctx: &mut CallCtx<'_>) {
        if !matches!(self.data.state, State::Talking { .. }) || !self.is_party(side) {
            return self.tell_dialog(side, dialog::Message::RefuseOffer { status: 491 });
        }
        let open = self.data.exchange.as_ref();
        if open.is_some_and(|open| open.from == Some(side)) {
            return ctx.ignore("told once more");
        }
        if self.is_busy() {
            return self.tell_dialog(side, dialog::Message::RefuseOffer { status: 491 });
        }
        let to = self.other_side(side);
        let stage = match (sdp, self.data.is_bypassed) {
            (Some(sdp), false) => Stage::Reading(Wire(sdp)),
            (None, false) => Stage::Describing,
            (Some(sdp), true) => match rewritten(&sdp) {
                Some(sdp) => Stage::Waiting(Some(Wire(sdp))),
                None => {
                    let refuse = dialog::Message::RefuseOffer { status: 488 };
                    return self.tell_dialog(side, refuse);
                }
            },
            (None, true) => Stage::Waiting(None),
        };
        self.data.exchange = Some(Exchange {
            from: Some(side),
            to,
            stage,
        });
        self.is_changed = true;
        self.drive_exchange(ctx);
    }

    /// Asks for what the present stage needs.
    pub(super) fn drive_exchange(&mut self, ctx: &mut CallCtx<'_>) {
        match self.data.exchange.clone() {
            Some(open) => self.drive(open, ctx),
            None => ctx.ignore("no exchange is open"),
        }
    }

    pub(super) fn drive(&mut self, open: Exchange, ctx: &mut CallCtx<'_>) {
        let Exchange { from, to, stage } = open;
        self.is_changed = true;
        match (stage, from, to) {
            (Stage::Reading(sdp), Some(from), _) => {
                self.tell_leg(from, media_leg::Message::TakeOffer { sdp: sdp.0 });
            }
            (Stage::Offering(want), _, Some(to)) => {
                let want = self.as_held(to, want);
                self.tell_leg(to, media_leg::Message::MakeOffer { want });
            }
            (Stage::Waiting(sdp), None, Some(to)) if self.is_moving(to) => {
                let sdp = Wire::bytes(sdp.as_ref());
                self.tell_dialog(to, dialog::Message::Move { sdp });
            }
            (Stage::Waiting(sdp), from, Some(to)) => {
                let (sdp, retries) = (Wire::bytes(sdp.as_ref()), from.is_none());
                self.tell_dialog(to, dialog::Message::Offer { sdp, retries });
            }
            (Stage::Closing(sdp), _, Some(to)) => {
                self.tell_leg(to, media_leg::Message::TakeAnswer { sdp: sdp.0 });
            }
            (Stage::Answering(want), Some(from), _) => {
                let want = self.as_held(from, want);
                self.tell_leg(from, media_leg::Message::MakeAnswer { want });
            }
            (Stage::Describing, Some(from), to) => {
                let stream = to.and_then(|to| self.stream_of(to));
                let codecs = match stream {
                    Some(stream) => Codecs::Only(stream.codecs.clone()),
                    None => self.configured(from, ctx.site()),
                };
                let want = self.as_held(from, Want::both_ways(codecs));
                self.tell_leg(from, media_leg::Message::MakeOffer { want });
            }
            (Stage::Settling(sdp), Some(from), _) => {
                self.tell_leg(from, media_leg::Message::TakeAnswer { sdp: sdp.0 });
            }
            (Stage::Accepted, _, _) => ctx.ignore("the ACK is awaited"),
            (_, from, to) => self.abandon(from.or(to).unwrap_or(self.anchor()), 500, ctx),
        }
    }

    /// Returns the open exchange that a side takes part in.
    fn open_with(&self, side: u8) -> Option<Exchange> {
        let open = self.move_of(side).or(self.data.exchange.as_ref());
        open.filter(|open| open.concerns(side)).cloned()
    }

    fn advance(&mut self, side: u8, stage: Stage, ctx: &mut CallCtx<'_>) {
        let Some(open) = self.open_with(side) else {
            return ctx.ignore("no exchange is open");
        };
        let next = Exchange { stage, ..open };
        self.replace_open(side, next.clone());
        self.drive(next, ctx);
    }

    fn replace_open(&mut self, side: u8, next: Exchange) {
        match self.move_of_mut(side) {
            Some(open) => *open = next,
            None => self.data.exchange = Some(next),
        }
    }

    /// A leg has something for the exchange.
    pub(super) fn on_exchange_report(&mut self, side: u8, report: Report, ctx: &mut CallCtx<'_>) {
        let Some(Exchange { from, to, stage }) = self.open_with(side) else {
            return ctx.ignore("no exchange is open");
        };
        let (is_from, is_to) = (from == Some(side), to == Some(side));
        match (stage, report) {
            (Stage::Reading(_), Report::OfferTaken(stream)) if is_from => {
                let want = Want::of(&stream);
                self.set_stream(side, stream);
                let next = match to {
                    Some(_) => Stage::Offering(want),
                    None => Stage::Answering(self.own_want()),
                };
                self.advance(side, next, ctx);
            }
            (Stage::Offering(_), Report::Described { sdp }) if is_to => {
                self.advance(side, Stage::Waiting(Some(Wire(sdp))), ctx);
            }
            (Stage::Closing(_), Report::AnswerTaken(stream)) if is_to => {
                let want = self.as_if_free(side, Want::of(&stream));
                self.set_stream(side, stream);
                match from {
                    Some(_) => self.advance(side, Stage::Answering(want), ctx),
                    None => self.complete(side, ctx),
                }
            }
            (Stage::Answering(_), Report::Described { sdp }) if is_from => {
                self.tell_dialog(side, dialog::Message::AcceptOffer { sdp: Some(sdp) });
                self.complete(side, ctx);
            }
            (Stage::Describing, Report::Described { sdp }) if is_from => {
                self.tell_dialog(side, dialog::Message::AcceptOffer { sdp: Some(sdp) });
                self.advance(side, Stage::Accepted, ctx);
            }
            (Stage::Settling(_), Report::AnswerTaken(stream)) if is_from => {
                self.settle(side, to, stream, ctx);
            }
            (_, Report::Unfit { status }) if is_from || is_to => self.abandon(side, status, ctx),
            (_, _) => ctx.ignore("not asked, or no longer"),
        }
    }

    /// What an application answers with.
    fn own_want(&self) -> Want {
        match self.data.state {
            State::Talking {
                peer: Peer::Tone { .. },
            } => Want::both_ways(Codecs::Tone),
            State::Talking { .. }
            | State::New
            | State::Preparing
            | State::Locating { .. }
            | State::Ringing
            | State::Answering { .. }
            | State::Ending(_)
            | State::Over => Want::both_ways(self.any_codec()),
        }
    }

    /// The answer of an ACK: the other party is offered what it changed.
    fn settle(&mut self, side: u8, to: Option<u8>, stream: Stream, ctx: &mut CallCtx<'_>) {
        let before = self.stream_of(side).cloned();
        let want = Want::of(&stream);
        let is_changed = before.as_ref() != Some(&stream);
        self.set_stream(side, stream);
        match to {
            Some(to) if is_changed => {
                let stage = Stage::Offering(want);
                self.data.exchange = Some(Exchange {
                    from: None,
                    to: Some(to),
                    stage,
                });
                self.drive_exchange(ctx);
            }
            Some(_) | None => self.complete(side, ctx),
        }
    }

    /// The other party accepted our offer.
    pub(super) fn on_offer_answered(
        &mut self,
        side: u8,
        sdp: Option<Bytes>,
        ctx: &mut CallCtx<'_>,
    ) {
        let Some(Exchange {
            from,
            to,
            stage: Stage::Waiting(offer),
        }) = self.open_with(side)
        else {
            return ctx.ignore("nothing was offered");
        };
        if to != Some(side) {
            return ctx.ignore("somebody else was offered");
        }
        if from.is_none() && self.data.is_bypassed {
            return self.complete(side, ctx);
        }
        let Some(sdp) = sdp else {
            return self.abandon(side, 488, ctx);
        };
        let Some(from) = from.filter(|_| self.data.is_bypassed) else {
            return self.advance(side, Stage::Closing(Wire(sdp)), ctx);
        };
        let sdp = rewritten(&sdp);
        self.tell_dialog(from, dialog::Message::AcceptOffer { sdp });
        if offer.is_some() {
            return self.complete(side, ctx);
        }
        self.advance(side, Stage::Accepted, ctx);
    }

    /// The other party refused our offer.
    pub(super) fn on_offer_refused(&mut self, side: u8, status: u16, ctx: &mut CallCtx<'_>) {
        let is_open = self
            .open_with(side)
            .is_some_and(|open| open.to == Some(side) && matches!(open.stage, Stage::Waiting(_)));
        if !is_open {
            return ctx.ignore("nothing was offered");
        }
        if self.is_moving(side) {
            return self.on_move_refused(side, status, ctx);
        }
        self.abandon(side, super::outcome::passed(status), ctx);
    }

    /// The ACK of a 2xx that had our offer.
    pub(super) fn on_offer_acknowledged(
        &mut self,
        side: u8,
        sdp: Option<Bytes>,
        ctx: &mut CallCtx<'_>,
    ) {
        let Some(Exchange {
            from,
            to,
            stage: Stage::Accepted,
        }) = self.data.exchange.clone()
        else {
            return ctx.ignore("no answer is awaited");
        };
        if from != Some(side) {
            return ctx.ignore("somebody else's answer is awaited");
        }
        if let (true, Some(to)) = (self.data.is_bypassed, to) {
            let sdp = sdp.as_ref().and_then(rewritten);
            self.tell_dialog(to, dialog::Message::Acknowledge { sdp });
            return self.complete(side, ctx);
        }
        match sdp {
            Some(sdp) => self.advance(side, Stage::Settling(Wire(sdp)), ctx),
            None => self.abandon(side, 488, ctx),
        }
    }

    /// Both parties agreed, or one knows where we are: their legs are joined with what they said.
    fn complete(&mut self, side: u8, ctx: &mut CallCtx<'_>) {
        if self.moves.remove(&side).is_none() {
            self.data.exchange = None;
        }
        self.is_changed = true;
        if let State::Talking { peer } = self.data.state {
            self.connect(peer);
        }
        self.note_hold();
        self.offer_owed(ctx);
    }

    /// Offers the anchor what whom it talks to has described, if it knows something else.
    pub(super) fn offer_owed(&mut self, ctx: &mut CallCtx<'_>) {
        let State::Talking { peer } = self.data.state else {
            return;
        };
        let is_free = self.moves.is_empty() && self.data.exchange.is_none();
        if !is_free {
            return;
        }
        if let Some((side, want)) = self.take_unsettled() {
            self.data.exchange = Some(Exchange::to_settle(side, want));
            return self.drive_exchange(ctx);
        }
        if !std::mem::take(&mut self.data.owes_offer) {
            return;
        }
        self.is_changed = true;
        let want = match peer {
            Peer::Side(side) => self.stream_of(side).map(Want::of),
            Peer::Echo | Peer::Tone { .. } | Peer::Parked => Some(self.own_want()),
            Peer::Nobody => None,
        };
        if let Some(want) = want {
            self.data.exchange = Some(Exchange::to_settle(self.anchor(), want));
            self.drive_exchange(ctx);
        }
    }

    /// Says whether a party holds the other, if that is news.
    pub(super) fn note_hold(&mut self) {
        let parties = self.data.sides.iter();
        let parties = parties.filter(|(side, _)| self.is_party(**side));
        let is_held = parties
            .filter_map(|(_, side)| side.stream.as_ref())
            .any(|stream| stream.direction != Direction::SendRecv);
        if is_held != self.data.is_held {
            self.data.is_held = is_held;
            self.emit(if is_held {
                CallNews::Held
            } else {
                CallNews::Resumed
            });
        }
    }

    /// The exchange failed: who offered hears why, and all stays as it was.
    fn abandon(&mut self, side: u8, status: u16, ctx: &mut CallCtx<'_>) {
        if self.is_moving(side) {
            // A fault of ours is not mended by another try.
            let status = if status == 500 { 488 } else { status };
            return self.on_move_refused(side, status, ctx);
        }
        let Some(Exchange { from, to, .. }) = self.data.exchange.take() else {
            return ctx.ignore("no exchange is open");
        };
        self.is_changed = true;
        if let Some(from) = from {
            self.tell_dialog(from, dialog::Message::RefuseOffer { status });
        }
        if !self.data.is_bypassed {
            for side in [from, to].into_iter().flatten() {
                self.tell_leg(side, media_leg::Message::Rollback);
            }
            if let (None, Some(to)) = (from, to) {
                self.release(to);
            }
        }
    }
}
