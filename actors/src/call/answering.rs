//! The 200 to the caller: what it says, when it goes, what its ACK brings.
//!
//! In: whom the caller shall talk to, descriptions of legs, the ACK. Out: `Accept`, joined legs.
//! Each stage can be asked for again, which is what a restart does.

use bytes::Bytes;
use contract::CallNews;

use super::core::{AnswerStage, CALLER, Call, CallCtx, Peer, State, Timer};
use super::early::rewritten;
use crate::dialog::wire::Wire;
use crate::media_leg::{Codecs, Destination, Report, Want};
use crate::{dialog, media_leg};

impl Call {
    /// Answers the caller, or joins it at once if it has been answered.
    pub(super) fn begin_answer(&mut self, peer: Peer, ctx: &mut CallCtx<'_>) {
        if self.data.answered.is_some() {
            return self.talk(peer, ctx);
        }
        if self.data.is_bypassed && !matches!(peer, Peer::Side(_)) {
            tracing::warn!(call = %self.data.key, "a route with media = bypass answers by itself");
            return self.end(488, "INCOMPATIBLE_DESTINATION", "weft", ctx);
        }
        self.enter(State::Answering {
            peer,
            stage: AnswerStage::Caller,
        });
        self.drive_answer(ctx);
    }

    /// A callee answered; its leg reads the answer unless it has.
    pub(super) fn begin_callee_answer(&mut self, peer: Peer, is_read: bool, ctx: &mut CallCtx<'_>) {
        if self.data.is_bypassed || is_read {
            return self.begin_answer(peer, ctx);
        }
        self.enter(State::Answering {
            peer,
            stage: AnswerStage::Callee,
        });
        self.drive_answer(ctx);
    }

    /// Asks for what the present stage needs.
    pub(super) fn drive_answer(&mut self, ctx: &mut CallCtx<'_>) {
        let State::Answering { peer, stage } = self.data.state.clone() else {
            return ctx.ignore("nothing is being answered");
        };
        match stage {
            // The dialog sees to it that the ACK comes.
            AnswerStage::Sent => {
                self.timers.clear(Timer::Ring);
            }
            AnswerStage::Callee | AnswerStage::Caller | AnswerStage::Closing(_) => {
                self.wait_for_leg(ctx);
            }
        }
        match stage {
            AnswerStage::Callee => self.ask_callee(peer),
            AnswerStage::Caller if self.data.is_bypassed => self.pass_answer(peer, ctx),
            AnswerStage::Caller if self.data.answer.is_some() => self.send_answer(peer, ctx),
            AnswerStage::Caller => self.ask_caller(peer, ctx),
            AnswerStage::Sent => {
                let sdp = Wire::bytes(self.data.answer.as_ref());
                self.tell_dialog(CALLER, dialog::Message::Accept { sdp });
            }
            AnswerStage::Closing(sdp) => {
                self.tell_leg(CALLER, media_leg::Message::TakeAnswer { sdp: sdp.0 });
            }
        }
    }

    fn ask_callee(&mut self, peer: Peer) {
        let Peer::Side(side) = peer else { return };
        let sdp = self
            .data
            .sides
            .get(&side)
            .and_then(|side| Wire::bytes(side.sdp.as_ref()));
        if let Some(sdp) = sdp {
            self.tell_leg(side, media_leg::Message::TakeAnswer { sdp });
        }
    }

    /// Has the caller's leg answer its offer, or make one if it had none.
    fn ask_caller(&mut self, peer: Peer, ctx: &CallCtx<'_>) {
        let is_offered = self.data.offer.is_some();
        let want = match peer {
            Peer::Side(side) => match self.stream_of(side) {
                Some(stream) => Want::of(stream),
                None => Want::both_ways(self.configured(CALLER, ctx.site())),
            },
            Peer::Tone { .. } => Want::both_ways(Codecs::Tone),
            Peer::Echo | Peer::Parked | Peer::Nobody if is_offered => {
                Want::both_ways(self.any_codec())
            }
            Peer::Echo | Peer::Parked | Peer::Nobody => {
                Want::both_ways(self.configured(CALLER, ctx.site()))
            }
        };
        let ask = if is_offered {
            media_leg::Message::MakeAnswer { want }
        } else {
            media_leg::Message::MakeOffer { want }
        };
        self.tell_leg(CALLER, ask);
    }

    /// Bypass: the callee's description is the caller's.
    fn pass_answer(&mut self, peer: Peer, ctx: &mut CallCtx<'_>) {
        let Peer::Side(side) = peer else { return };
        let sdp = self
            .data
            .sides
            .get(&side)
            .and_then(|side| Wire::bytes(side.sdp.as_ref()));
        match sdp.as_ref().and_then(rewritten) {
            Some(sdp) => {
                self.data.answer = Some(Wire(sdp));
                self.send_answer(peer, ctx);
            }
            None => self.end(488, "INCOMPATIBLE_DESTINATION", "weft", ctx),
        }
    }

    fn send_answer(&mut self, peer: Peer, ctx: &mut CallCtx<'_>) {
        self.count_from_now(ctx);
        if let Peer::Side(side) = peer {
            self.data.owes_offer = self.data.early.is_some_and(|early| early != side)
                && self.data.answer.is_some()
                && !self.data.is_bypassed;
        }
        self.enter(State::Answering {
            peer,
            stage: AnswerStage::Sent,
        });
        self.emit(CallNews::Answered);
        // Media may come before the ACK does.
        self.connect(peer);
        self.drive_answer(ctx);
    }

    /// The caller is answered: the longest call begins.
    pub(super) fn count_from_now(&mut self, ctx: &CallCtx<'_>) {
        let now = ctx.now();
        self.data.answered = Some(now.utc);
        let longest = ctx.site().limits.call_max;
        if !longest.is_zero() {
            self.timers.set(Timer::Longest, now.mono, longest);
        }
    }

    /// A leg has something for the 200.
    pub(super) fn on_answer_report(&mut self, side: u8, report: Report, ctx: &mut CallCtx<'_>) {
        let State::Answering { peer, stage } = self.data.state.clone() else {
            return ctx.ignore("nothing is being answered");
        };
        match (report, stage) {
            (Report::AnswerTaken(stream), AnswerStage::Callee) if peer == Peer::Side(side) => {
                self.set_stream(side, stream);
                if self.data.answered.is_some() {
                    return self.talk(peer, ctx);
                }
                self.enter(State::Answering {
                    peer,
                    stage: AnswerStage::Caller,
                });
                self.drive_answer(ctx);
            }
            (Report::AnswerTaken(stream), AnswerStage::Closing(_)) if side == CALLER => {
                self.set_stream(CALLER, stream);
                self.talk(peer, ctx);
            }
            // The answer for early media that was on its way.
            (Report::Described { sdp }, AnswerStage::Callee) if side == CALLER => {
                self.data.answer = Some(Wire(sdp));
                self.is_changed = true;
            }
            (Report::Described { sdp }, AnswerStage::Caller) if side == CALLER => {
                self.data.answer = Some(Wire(sdp));
                self.send_answer(peer, ctx);
            }
            (Report::Unfit { .. }, AnswerStage::Callee) if self.is_party(side) => {
                // The callee's description is at fault, not the caller's request (RFC 3261 §21.4.26).
                self.give_up(488, "INCOMPATIBLE_DESTINATION", "weft", ctx);
            }
            (Report::Unfit { status }, AnswerStage::Closing(_)) if self.is_party(side) => {
                self.end(status, "INCOMPATIBLE_DESTINATION", "weft", ctx);
            }
            (Report::Unfit { status }, AnswerStage::Caller) if side == CALLER => {
                self.end(status, "INCOMPATIBLE_DESTINATION", "weft", ctx);
            }
            (
                Report::OfferTaken(_)
                | Report::AnswerTaken(_)
                | Report::Described { .. }
                | Report::Unfit { .. }
                | Report::NoPort
                | Report::Closed
                | Report::Silent
                | Report::Digit(_)
                | Report::Heard
                | Report::Stays,
                _,
            ) => ctx.ignore("not asked, or no longer"),
        }
    }

    /// The ACK of a 2xx came: of the first one, or of a re-INVITE.
    pub(super) fn on_acknowledged(&mut self, side: u8, sdp: Option<Bytes>, ctx: &mut CallCtx<'_>) {
        match self.data.state.clone() {
            State::Answering {
                peer,
                stage: AnswerStage::Sent,
            } if side == CALLER => {
                self.on_first_ack(peer, sdp, ctx);
            }
            State::Talking { .. } => self.on_offer_acknowledged(side, sdp, ctx),
            State::New
            | State::Preparing
            | State::Locating { .. }
            | State::Ringing
            | State::Answering { .. }
            | State::Ending(_)
            | State::Over => ctx.ignore("not awaited"),
        }
    }

    fn on_first_ack(&mut self, peer: Peer, sdp: Option<Bytes>, ctx: &mut CallCtx<'_>) {
        if self.data.offer.is_some() {
            return self.talk(peer, ctx);
        }
        // Our 200 had the offer: the ACK has the answer (RFC 3261 §13.2.1).
        let Some(sdp) = sdp else {
            if self.moves.contains_key(&CALLER) {
                // It went to another node: what the caller is offered now brings it once more.
                return self.talk(peer, ctx);
            }
            return self.end(488, "INCOMPATIBLE_DESTINATION", "weft", ctx);
        };
        if let (true, Peer::Side(side)) = (self.data.is_bypassed, peer) {
            let sdp = rewritten(&sdp);
            self.tell_dialog(side, dialog::Message::Acknowledge { sdp });
            return self.talk(peer, ctx);
        }
        self.enter(State::Answering {
            peer,
            stage: AnswerStage::Closing(Wire(sdp)),
        });
        self.drive_answer(ctx);
    }

    /// Caller and peer are through.
    pub(super) fn talk(&mut self, peer: Peer, ctx: &mut CallCtx<'_>) {
        self.timers.clear(Timer::Ring);
        self.enter(State::Talking { peer });
        self.connect(peer);
        if peer == Peer::Nobody {
            return self.next_step(ctx);
        }
        self.note_parking(peer);
        self.finish_transfer(peer);
        self.begin_moves(ctx);
        self.offer_owed(ctx);
    }

    /// Joins the legs of caller and peer.
    pub(super) fn connect(&mut self, peer: Peer) {
        if self.data.is_bypassed {
            return;
        }
        let to = match peer {
            Peer::Side(side) => return self.join(side),
            Peer::Echo => Destination::Echo,
            Peer::Tone { hertz, level_dbm0 } => Destination::Tone { hertz, level_dbm0 },
            Peer::Parked => Destination::Parked,
            Peer::Nobody => Destination::Nowhere,
        };
        let is_watched = self.data.answered.is_some();
        self.tell_leg(self.anchor(), media_leg::Message::Join { to, is_watched });
    }
}
