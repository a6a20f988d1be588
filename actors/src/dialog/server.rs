//! The INVITE of a caller: provisional responses, the final one, CANCEL (RFC 3261 §13.3, §9.2).
//!
//! In: the INVITE, orders of the call. Out: its responses. What follows the ACK is in `inside.rs`.

use bytes::Bytes;
use rsip::Method;
use sip::dialog::DialogState;
use sip::{HeaderName, Writer};

use super::core::{ACK_WAIT, Accepted, Dialog, DialogCtx, Outcome, State, T1, T2, Timer, written};
use super::session_timer::SessionTimer;
use super::wire::{Wire, WireMessage};
use super::writing;
use crate::policy::{ACCEPT, ALLOW, SUPPORTED};
use crate::{Inbound, call};

/// Seconds in Retry-After of a 503.
const RETRY_AFTER_S: u32 = 5;

impl Dialog {
    /// Takes the caller's INVITE; its lane has answered 100.
    pub(super) fn serve(&mut self, inbound: Inbound, ctx: &mut DialogCtx<'_>) {
        if self.data.invite.is_some() {
            return self.on_retransmitted(inbound, ctx);
        }
        let site = ctx.site();
        self.data.tag = writing::tag(site, self.data.side, ctx.rng());
        let Ok(dialog) = DialogState::of_server(&inbound.request, &self.data.tag) else {
            self.answer(&inbound, 400, ctx, |_| {});
            self.data.outcome = Some(Outcome::Cancelled);
            self.out.call(call::Message::Cancelled {
                side: self.number(),
            });
            return self.enter(State::Ended, ctx);
        };
        self.data.dialog = Some(dialog);
        self.data.transaction = Some(inbound.transaction);
        self.data.invite = Some(WireMessage(inbound.request));
        self.out.save();
    }

    /// The INVITE came again: its transaction was lost, so ours answers on the new one. A copy that
    /// came over another node only hears the last response there: the first one's lane still has
    /// its transaction, and is where the ACK of a refusal is brought to.
    pub(super) fn on_retransmitted(&mut self, inbound: Inbound, ctx: &mut DialogCtx<'_>) {
        let is_same = self.is_from_peer(&inbound, ctx);
        if !is_same || self.data.transaction.is_none() {
            return ctx.ignore("an INVITE of another source");
        }
        let is_same_way =
            !self.data.is_flow_gone && ctx.site().is_same_source(&inbound.flow, &self.data.flow);
        let first = self.data.transaction.as_ref().and_then(|first| first.node);
        let is_elsewhere = first.is_some_and(|first| Some(first) != inbound.transaction.node);
        if !(is_same_way && is_elsewhere) {
            self.data.flow = inbound.flow;
            self.data.is_flow_gone = false;
            self.data.transaction = Some(inbound.transaction.clone());
            if let Some(accepted) = &mut self.data.accepted {
                accepted.transaction = inbound.transaction.clone();
            }
            self.out.save();
        }
        if let Some(response) = self.data.response.clone() {
            self.respond(inbound.transaction, inbound.flow, response.0, ctx);
        }
    }

    /// Sends an 18x.
    pub(super) fn progress(&mut self, status: u16, sdp: Option<&Bytes>, ctx: &mut DialogCtx<'_>) {
        if !matches!(self.data.state, State::Incoming | State::Early) {
            return ctx.ignore("answered finally already");
        }
        if self.reply(status, sdp, ctx, |_| {}) {
            self.enter(State::Early, ctx);
            self.out.save_first();
        }
    }

    /// Sends 200 and repeats it until the ACK comes.
    pub(super) fn accept(&mut self, sdp: Option<&Bytes>, ctx: &mut DialogCtx<'_>) {
        if !matches!(self.data.state, State::Incoming | State::Early) {
            return ctx.ignore("answered finally already");
        }
        let Some(invite) = self.data.invite.clone() else {
            return ctx.ignore("no INVITE to accept");
        };
        let session = SessionTimer::asked_by(&invite.0);
        let is_sent = self.reply(200, sdp, ctx, |response| {
            if let Some(session) = session {
                session.write_answer(response);
            }
        });
        let cseq = invite.0.cseq().map_or(0, |cseq| cseq.number);
        let (Some(transaction), Some(response)) =
            (self.data.transaction.clone(), self.data.response.clone())
        else {
            return ctx.ignore("no transaction to answer");
        };
        if !is_sent {
            return self.lose("PROTOCOL_ERROR", ctx);
        }
        self.set_session(session, ctx);
        self.enter(State::Accepted, ctx);
        self.await_ack(cseq, transaction, response, ctx);
        self.out.save_first();
    }

    /// Repeats a 2xx until its ACK comes.
    pub(super) fn await_ack(
        &mut self,
        cseq: u32,
        transaction: crate::TransactionRef,
        response: Wire,
        ctx: &DialogCtx<'_>,
    ) {
        let interval_ms = u64::try_from(T1.as_millis()).unwrap_or(u64::MAX);
        self.data.accepted = Some(Accepted {
            cseq,
            transaction,
            response,
            interval_ms,
        });
        let now = ctx.now().mono;
        self.timers.set(Timer::RepeatAccepted, now, T1);
        self.timers.set(Timer::AwaitAck, now, ACK_WAIT);
    }

    pub(super) fn repeat_accepted(&mut self, ctx: &mut DialogCtx<'_>) {
        let flow = self.data.flow;
        let Some(accepted) = &mut self.data.accepted else {
            return ctx.ignore("acknowledged already");
        };
        let longest = u64::try_from(T2.as_millis()).unwrap_or(u64::MAX);
        accepted.interval_ms = accepted.interval_ms.saturating_mul(2).min(longest);
        let interval = std::time::Duration::from_millis(accepted.interval_ms);
        let (transaction, response) = (accepted.transaction.clone(), accepted.response.0.clone());
        self.timers
            .set(Timer::RepeatAccepted, ctx.now().mono, interval);
        // The gate may still be shut for the first one.
        self.respond(transaction, flow, response, ctx);
    }

    /// No ACK for 64·T1: the dialog is confirmed, but of no use (RFC 3261 §13.3.1.4).
    pub(super) fn give_up_on_ack(&mut self, ctx: &mut DialogCtx<'_>) {
        self.data.accepted = None;
        self.timers.clear(Timer::RepeatAccepted);
        self.lose("RECOVERY_ON_TIMER_EXPIRE", ctx);
    }

    /// Sends the final refusal.
    pub(super) fn refuse(&mut self, status: u16, cause: &str, ctx: &mut DialogCtx<'_>) {
        let reason = call::outcome::reason_header(cause);
        self.reply(status, None, ctx, |response| {
            if let Some(reason) = reason {
                response.header(HeaderName::Reason, reason);
            }
            if status == 503 {
                response.header(HeaderName::RetryAfter, RETRY_AFTER_S);
            }
        });
        self.enter(State::Ended, ctx);
    }

    /// A CANCEL: of no effect from another source (`threats.md` 24), or after the final response.
    pub(super) fn on_cancelled(&mut self, inbound: &Inbound, ctx: &mut DialogCtx<'_>) {
        if !ctx.site().is_same_source(&inbound.flow, &self.data.flow) || self.data.is_flow_gone {
            return ctx.ignore("a CANCEL of another source");
        }
        self.answer(inbound, 200, ctx, |_| {});
        match self.data.state {
            State::Incoming | State::Early => {
                self.data.outcome = Some(Outcome::Cancelled);
                self.out.call(call::Message::Cancelled {
                    side: self.number(),
                });
                self.refuse(487, "ORIGINATOR_CANCEL", ctx);
            }
            State::Accepted
            | State::Calling
            | State::Proceeding
            | State::Cancelling
            | State::Confirmed
            | State::Ending
            | State::Ended => ctx.ignore("a CANCEL after the final response"),
        }
    }

    /// Answers the INVITE and keeps the answer; tells whether it could be written.
    fn reply(
        &mut self,
        status: u16,
        sdp: Option<&Bytes>,
        ctx: &DialogCtx<'_>,
        fill: impl FnOnce(&mut Writer),
    ) -> bool {
        let site = ctx.site();
        let (Some(invite), Some(transaction), Some(listener)) = (
            &self.data.invite,
            self.data.transaction.clone(),
            self.listener(site),
        ) else {
            return false;
        };
        let mut response = sip::respond(&invite.0, status, Some(&self.data.tag));
        if status < 300 {
            let contact = writing::contact(site, listener, self.data.side);
            response
                .header(HeaderName::Contact, contact)
                .header(HeaderName::Allow, ALLOW)
                .header(HeaderName::Supported, SUPPORTED);
        }
        response.header(HeaderName::Server, &site.product);
        fill(&mut response);
        if let Some(sdp) = sdp {
            response.body(ACCEPT, sdp);
            self.data.sdp = Some(Wire(sdp.clone()));
        }
        let Some(bytes) = written(response) else {
            return false;
        };
        self.data.response = Some(Wire(bytes.clone()));
        self.respond(transaction, self.data.flow, bytes, ctx);
        true
    }

    /// Takes an ACK of the peer.
    pub(super) fn on_ack(&mut self, request: &sip::Message, ctx: &mut DialogCtx<'_>) {
        let cseq = request.cseq().map_or(0, |cseq| cseq.number);
        let is_awaited = self
            .data
            .accepted
            .as_ref()
            .is_some_and(|known| known.cseq == cseq);
        if !is_awaited {
            return ctx.ignore("an ACK of nothing, or once more");
        }
        self.data.accepted = None;
        self.timers.clear(Timer::RepeatAccepted);
        self.timers.clear(Timer::AwaitAck);
        self.timers.clear(Timer::AssumeAcknowledged);
        let sdp = super::inside::sdp_of(request);
        if self.data.state == State::Accepted {
            self.data.remote_sdp = Wire::of(sdp.as_ref());
            self.enter(State::Confirmed, ctx);
        }
        self.out.save();
        self.out.call(call::Message::Acknowledged {
            side: self.number(),
            sdp,
        });
        if let Some(cause) = self.data.end.take() {
            self.send_bye(&cause, ctx);
        }
    }

    /// Tells whether the method of a request is one that UAs send in any dialog.
    pub(super) fn is_method(request: &sip::Message, method: Method) -> bool {
        request.method().is(method)
    }
}
