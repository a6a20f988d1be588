//! re-INVITE and UPDATE across a call: hold, codecs, addresses (RFC 3261 §14, RFC 3264 §8).
//!
//! In: offers of one party, descriptions of legs, answers of the other party. Out: an offer for the
//! other party, an answer for the first; legs joined anew. One exchange at a time: another offer
//! meanwhile gets 491. A failed one leaves the streams as they were.
//!
//! ```text
//! offer:     Reading → Offering → Waiting → Closing → Answering
//! no offer:  Describing → Accepted → Settling → (if it changed anything: Offering → … → Closing)
//! ```

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::core::{CALLER, Call, CallCtx, Peer, State};
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
    /// Begins one of our own: `to` is offered what the other party said.
    pub(super) fn to_settle(to: u8, stream: &Stream) -> Self {
        Exchange {
            from: None,
            to: Some(to),
            stage: Stage::Offering(Want::of(stream)),
        }
    }
}

impl Call {
    /// A party offers anew, or wants an offer.
    pub(super) fn on_offered(&mut self, side: u8, sdp: Option<Bytes>, ctx: &mut CallCtx<'_>) {
        if !matches!(self.data.state, State::Talking { .. }) || !self.is_party(side) {
            return self.tell_dialog(side, dialog::Message::RefuseOffer { status: 491 });
        }
        if let Some(open) = &self.data.exchange {
            if open.from == Some(side) {
                return ctx.ignore("told once more");
            }
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
        let Some(Exchange { from, to, stage }) = self.data.exchange.clone() else {
            return ctx.ignore("no exchange is open");
        };
        self.is_changed = true;
        match (stage, from, to) {
            (Stage::Reading(sdp), Some(from), _) => {
                self.tell_leg(from, media_leg::Message::TakeOffer { sdp: sdp.0 });
            }
            (Stage::Offering(want), _, Some(to)) => {
                self.tell_leg(to, media_leg::Message::MakeOffer { want });
            }
            (Stage::Waiting(sdp), from, Some(to)) => {
                let (sdp, retries) = (Wire::bytes(sdp.as_ref()), from.is_none());
                self.tell_dialog(to, dialog::Message::Offer { sdp, retries });
            }
            (Stage::Closing(sdp), _, Some(to)) => {
                self.tell_leg(to, media_leg::Message::TakeAnswer { sdp: sdp.0 });
            }
            (Stage::Answering(want), Some(from), _) => {
                self.tell_leg(from, media_leg::Message::MakeAnswer { want });
            }
            (Stage::Describing, Some(from), to) => {
                let stream = to.and_then(|to| self.stream_of(to));
                let codecs = match stream {
                    Some(stream) => Codecs::Only(stream.codecs.clone()),
                    None => self.configured(from, ctx.site()),
                };
                let want = Want::both_ways(codecs);
                self.tell_leg(from, media_leg::Message::MakeOffer { want });
            }
            (Stage::Settling(sdp), Some(from), _) => {
                self.tell_leg(from, media_leg::Message::TakeAnswer { sdp: sdp.0 });
            }
            (Stage::Accepted, _, _) => ctx.ignore("the ACK is awaited"),
            (_, _, _) => self.abandon(500, ctx),
        }
    }

    fn advance(&mut self, stage: Stage, ctx: &mut CallCtx<'_>) {
        if let Some(exchange) = &mut self.data.exchange {
            exchange.stage = stage;
        }
        self.drive_exchange(ctx);
    }

    /// A leg has something for the exchange.
    pub(super) fn on_exchange_report(&mut self, side: u8, report: Report, ctx: &mut CallCtx<'_>) {
        let Some(Exchange { from, to, stage }) = self.data.exchange.clone() else {
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
                self.advance(next, ctx);
            }
            (Stage::Offering(_), Report::Described { sdp }) if is_to => {
                self.advance(Stage::Waiting(Some(Wire(sdp))), ctx);
            }
            (Stage::Closing(_), Report::AnswerTaken(stream)) if is_to => {
                let want = Want::of(&stream);
                self.set_stream(side, stream);
                match from {
                    Some(_) => self.advance(Stage::Answering(want), ctx),
                    None => self.complete(),
                }
            }
            (Stage::Answering(_), Report::Described { sdp }) if is_from => {
                self.tell_dialog(side, dialog::Message::AcceptOffer { sdp: Some(sdp) });
                self.complete();
            }
            (Stage::Describing, Report::Described { sdp }) if is_from => {
                self.tell_dialog(side, dialog::Message::AcceptOffer { sdp: Some(sdp) });
                self.advance(Stage::Accepted, ctx);
            }
            (Stage::Settling(_), Report::AnswerTaken(stream)) if is_from => {
                self.settle(side, to, stream, ctx);
            }
            (_, Report::Unfit { status }) if is_from || is_to => self.abandon(status, ctx),
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
            Some(_) | None => self.complete(),
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
        }) = self.data.exchange.clone()
        else {
            return ctx.ignore("nothing was offered");
        };
        if to != Some(side) {
            return ctx.ignore("somebody else was offered");
        }
        let Some(sdp) = sdp else {
            return self.abandon(488, ctx);
        };
        if !self.data.is_bypassed {
            return self.advance(Stage::Closing(Wire(sdp)), ctx);
        }
        let Some(from) = from else {
            return self.complete();
        };
        let sdp = rewritten(&sdp);
        self.tell_dialog(from, dialog::Message::AcceptOffer { sdp });
        if offer.is_some() {
            return self.complete();
        }
        self.advance(Stage::Accepted, ctx);
    }

    /// The other party refused our offer.
    pub(super) fn on_offer_refused(&mut self, side: u8, status: u16, ctx: &mut CallCtx<'_>) {
        let is_open =
            self.data.exchange.as_ref().is_some_and(|open| {
                open.to == Some(side) && matches!(open.stage, Stage::Waiting(_))
            });
        if !is_open {
            return ctx.ignore("nothing was offered");
        }
        self.abandon(super::outcome::passed(status), ctx);
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
            return self.complete();
        }
        match sdp {
            Some(sdp) => self.advance(Stage::Settling(Wire(sdp)), ctx),
            None => self.abandon(488, ctx),
        }
    }

    /// Both parties agreed: their legs are joined with what they said.
    fn complete(&mut self) {
        self.data.exchange = None;
        self.is_changed = true;
        if let State::Talking { peer } = self.data.state {
            self.connect(peer);
        }
        let directions = self
            .data
            .sides
            .values()
            .filter_map(|side| side.stream.as_ref());
        let is_held = directions
            .into_iter()
            .any(|stream| stream.direction != Direction::SendRecv);
        if is_held != self.data.is_held {
            self.data.is_held = is_held;
            self.emit_state(if is_held { "held" } else { "resumed" }, String::new());
        }
    }

    /// The exchange failed: who offered hears why, and all stays as it was.
    fn abandon(&mut self, status: u16, ctx: &mut CallCtx<'_>) {
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
        }
    }

    /// Tells whether a side is the caller.
    pub(super) const fn is_caller(side: u8) -> bool {
        side == CALLER
    }
}
