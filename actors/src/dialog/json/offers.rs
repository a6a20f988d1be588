//! New offers, both ways: hold, resume, new addresses (RFC 3264 §8).
//!
//! In: offers of the client, offers and answers of the call. Out: the same for the other of them.
//! One is open at a time: another gets 491. Our own descriptions are looked at for their direction
//! only, to tell the client what an offer is for.

use std::time::Duration;

use bytes::Bytes;
use doors::json::{Party, ServerMessage, Why};

use super::OfferKind;
use super::calling::text;
use super::core::{ANSWER_WAIT, DialogCtx, Incoming, JsonDialog, Outgoing, State, Timer};
use crate::call;
use crate::dialog::wire::Wire;
use crate::door_session::About;

/// Tells whether a description of ours says that the far end holds: it does not hear the client. Where we
/// only receive (`recvonly`) it is the client that holds, and need not be told (RFC 3264 §8.4).
fn is_hold(sdp: &Bytes) -> bool {
    let lines = sdp.split(|octet| *octet == b'\n');
    lines
        .map(<[u8]>::trim_ascii_end)
        .any(|line| [&b"a=sendonly"[..], b"a=inactive"].contains(&line))
}

impl JsonDialog {
    /// The client offers anew.
    pub(super) fn on_offer(
        &mut self,
        id: Option<String>,
        sdp: Bytes,
        kind: OfferKind,
        ctx: &DialogCtx<'_>,
    ) {
        if self.data.state != State::Confirmed {
            return self.error(id, 481, "nobody talks");
        }
        if self.data.incoming.is_some() || self.data.outgoing.is_some() {
            return self.error(id, 491, "another offer is open: try again after 2 s");
        }
        tracing::trace!(actor = %ctx.me(), ?kind, "the client offers");
        self.data.incoming = Some(Incoming {
            id,
            kind,
            sdp: Wire(sdp.clone()),
        });
        self.out.save();
        self.out.call(call::Message::Offered {
            side: self.number(),
            sdp: Some(sdp),
        });
    }

    /// The call accepts it.
    pub(super) fn accept_offer(&mut self, sdp: Option<&Bytes>, ctx: &mut DialogCtx<'_>) {
        let Some(Incoming { id, kind, .. }) = self.data.incoming.take() else {
            return ctx.ignore("no offer is open");
        };
        self.out.save();
        let Some(sdp) = sdp else {
            return self.error(id, 500, "no answer");
        };
        self.data.sdp = Wire::of(Some(sdp));
        let (call_id, sdp) = (self.data.name.clone(), text(sdp));
        let by = Party::Local;
        let message = match kind {
            OfferKind::Hold => ServerMessage::Held {
                call_id,
                by,
                sdp: Some(sdp),
            },
            OfferKind::Resume => ServerMessage::Resumed {
                call_id,
                by,
                sdp: Some(sdp),
            },
            OfferKind::Reoffer => ServerMessage::Reanswer { call_id, sdp },
        };
        self.out.save_first();
        self.reply(id, message);
    }

    /// The call refuses it; all stays as it was.
    pub(super) fn refuse_offer(&mut self, status: u16, ctx: &mut DialogCtx<'_>) {
        let Some(open) = self.data.incoming.take() else {
            return ctx.ignore("no offer is open");
        };
        self.out.save();
        let why = match status {
            491 => "another offer is open: try again after 2 s",
            488 | 606 => "no common codec",
            _ => "the offer was refused",
        };
        self.error(open.id, status, why);
    }

    /// The call offers anew.
    pub(super) fn offer(
        &mut self,
        sdp: Option<&Bytes>,
        retries: bool,
        why: Option<Why>,
        ctx: &mut DialogCtx<'_>,
    ) {
        if self.data.outgoing.is_some() || self.data.glare.is_some() {
            return ctx.ignore("ordered already");
        }
        let status = match (self.data.state, sdp) {
            (State::Confirmed, Some(sdp)) if self.data.incoming.is_some() => {
                return self.on_glare(sdp, retries, ctx);
            }
            (State::Confirmed, Some(sdp)) => return self.send_offer(sdp, why, ctx),
            // A client is never asked for an offer.
            (State::Confirmed, None) => 488,
            (
                State::Incoming
                | State::Early
                | State::Calling
                | State::Proceeding
                | State::Ending
                | State::Ended,
                _,
            ) => 481,
        };
        self.refused(status);
    }

    /// Tells the client our new address: it is offered `sdp`, or what it was described last.
    pub(super) fn tell_address(&mut self, sdp: Option<Bytes>, ctx: &mut DialogCtx<'_>) {
        let sdp = sdp.or_else(|| Wire::bytes(self.data.sdp.as_ref()));
        self.offer(sdp.as_ref(), true, Some(Why::Migrate), ctx);
    }

    fn refused(&mut self, status: u16) {
        let side = self.number();
        self.out.call(call::Message::OfferRefused { side, status });
    }

    /// `why`: what it is for if it neither holds nor resumes.
    fn send_offer(&mut self, sdp: &Bytes, why: Option<Why>, ctx: &mut DialogCtx<'_>) {
        let why = match (is_hold(sdp), self.data.is_held) {
            (true, false) => Why::Hold,
            (false, true) => Why::Resume,
            (true, true) | (false, false) => why.unwrap_or(Why::SessionRefresh),
        };
        let number = self.say_numbered(ServerMessage::Reoffer {
            call_id: self.data.name.clone(),
            sdp: text(sdp),
            why,
        });
        self.data.outgoing = Some(Outgoing {
            number,
            sdp: Wire(sdp.clone()),
            why,
        });
        if self.data.is_flow_gone {
            self.await_connection(ctx);
        } else {
            self.timers
                .set(Timer::AwaitAnswer, ctx.now().mono, ANSWER_WAIT);
        }
        self.out.save_first();
    }

    /// Our offer met one of the client: it tries again after 2 s, we a little later.
    fn on_glare(&mut self, sdp: &Bytes, retries: bool, ctx: &mut DialogCtx<'_>) {
        if !retries {
            return self.refused(491);
        }
        let wait = Duration::from_millis(2_100 + 10 * u64::from(ctx.rng().below(191)));
        self.data.glare = Wire::of(Some(sdp));
        self.timers.set(Timer::Glare, ctx.now().mono, wait);
        self.out.save();
    }

    pub(super) fn offer_after_glare(&mut self, ctx: &mut DialogCtx<'_>) {
        if let Some(sdp) = self.data.glare.take() {
            self.offer(Some(&sdp.0), false, None, ctx);
        }
    }

    /// The client answers our offer.
    pub(super) fn on_reanswer(&mut self, id: Option<String>, sdp: Bytes, ctx: &DialogCtx<'_>) {
        let Some(open) = self.data.outgoing.take() else {
            return self.error(id, 481, "nothing was offered");
        };
        tracing::trace!(actor = %ctx.me(), "the client answers");
        self.timers.clear(Timer::AwaitAnswer);
        self.timers.clear(Timer::Park);
        self.timers.clear(Timer::LocateAgain);
        self.data
            .unacknowledged
            .retain(|known| known.number != open.number);
        self.data.sdp = Some(open.sdp);
        self.out.save();
        self.out.call(call::Message::OfferAnswered {
            side: self.number(),
            sdp: Some(sdp),
        });
        let (call_id, by, sdp) = (self.data.name.clone(), Party::Remote, None);
        match open.why {
            Why::Hold => {
                self.data.is_held = true;
                self.say(ServerMessage::Held { call_id, by, sdp }, About::News);
            }
            Why::Resume => {
                self.data.is_held = false;
                self.say(ServerMessage::Resumed { call_id, by, sdp }, About::News);
            }
            Why::Migrate | Why::SessionRefresh => {}
        }
    }

    /// The client did not answer our offer: the streams stay as they were.
    pub(super) fn give_up_on_answer(&mut self, status: u16) {
        if let Some(open) = self.data.outgoing.take() {
            self.data
                .unacknowledged
                .retain(|known| known.number != open.number);
            self.out.save();
            self.refused(status);
        }
    }
}
