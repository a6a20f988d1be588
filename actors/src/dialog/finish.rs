//! The end of a side, and what waits for a lost connection (RFC 3261 §15, `architecture.md` §7).
//!
//! In: orders of the call, losses, a connection that came back. Out: BYE, CANCEL or a refusal.

use contract::FlowRef;
use rsip::Method;

use super::core::{
    Dialog, DialogCtx, GIVE_UP_AFTER, Outcome, Outgoing, PARK, Parked, Purpose, State, Timer,
};
use super::offer::Content;
use super::wire::Wire;
use crate::call;

impl Dialog {
    /// Ends this side, whatever its state.
    pub(super) fn end(&mut self, status: u16, cause: &str, ctx: &mut DialogCtx<'_>) {
        match self.data.state {
            State::Incoming | State::Early => {
                self.refuse(status, cause, ctx);
            }
            State::Calling => {
                self.data.end = Some(cause.to_owned());
                self.timers.set(Timer::GiveUp, ctx.now().mono, GIVE_UP_AFTER);
                self.out.save();
            }
            State::Proceeding => {
                self.data.end = Some(cause.to_owned());
                self.cancel(ctx);
            }
            // A callee may not send BYE before the ACK (RFC 3261 §15).
            State::Accepted => {
                self.data.end = Some(cause.to_owned());
                self.out.save();
            }
            State::Confirmed => {
                self.refuse_open_offer(487, ctx);
                if self.data.unacknowledged.is_some() {
                    self.acknowledge_late(None, ctx);
                }
                self.send_bye(cause, ctx);
            }
            State::Cancelling | State::Ending => ctx.ignore("ending already"),
            State::Ended => self.out.call(call::Message::Ended { side: self.number() }),
        }
    }

    /// Sends BYE, or waits a while for the connection to send it on.
    pub(super) fn send_bye(&mut self, cause: &str, ctx: &mut DialogCtx<'_>) {
        self.timers.clear_all();
        self.data.session = None;
        self.data.accepted = None;
        self.data.glare = None;
        self.enter(State::Ending, ctx);
        self.timers.set(Timer::GiveUp, ctx.now().mono, GIVE_UP_AFTER);
        if self.data.is_flow_gone {
            self.data.parked = vec![Parked::Bye];
            return self.timers.set(Timer::Park, ctx.now().mono, PARK);
        }
        let reason = call::outcome::reason_header(cause);
        let content = Content {
            purpose: Purpose::Bye,
            method: Method::Bye,
            body: None,
            reason: reason.as_deref(),
            retries: false,
        };
        if !self.send(&content, ctx) {
            self.enter(State::Ended, ctx);
        }
    }

    /// The peer is lost: BYE to it, and the call is told.
    pub(super) fn lose(&mut self, cause: &str, ctx: &mut DialogCtx<'_>) {
        if matches!(self.data.state, State::Ending | State::Ended) {
            return ctx.ignore("ending already");
        }
        let outcome = self.data.end.take().unwrap_or_else(|| cause.to_owned());
        self.data.outcome = Some(Outcome::HungUp(outcome.clone()));
        self.out.call(call::Message::HungUp { side: self.number(), cause: outcome.clone() });
        self.send_bye(&outcome, ctx);
    }

    /// The connection is gone: what was sent on it waits for it to come back.
    pub(super) fn park(&mut self, sent: &Outgoing, ctx: &mut DialogCtx<'_>) {
        let parked = match sent.purpose {
            Purpose::Bye => Parked::Bye,
            Purpose::Offer => Parked::Offer {
                sdp: self.data.sdp.clone().filter(|_| sent.has_sdp),
            },
            Purpose::Refresh | Purpose::Info => return ctx.ignore("lost with its connection"),
        };
        self.data.parked.push(parked);
        self.timers.set(Timer::Park, ctx.now().mono, PARK);
    }

    /// The connection did not come back.
    pub(super) fn give_up_on_connection(&mut self, ctx: &mut DialogCtx<'_>) {
        self.out.save();
        for parked in std::mem::take(&mut self.data.parked) {
            match parked {
                Parked::Offer { .. } => {
                    self.out.call(call::Message::OfferRefused { side: self.number(), status: 480 });
                }
                Parked::Bye => return self.enter(State::Ended, ctx),
            }
        }
    }

    /// The peer has shown itself on another flow: what waits is sent there.
    pub(super) fn rebind(&mut self, flow: FlowRef, ctx: &mut DialogCtx<'_>) {
        self.data.flow = flow;
        self.data.is_flow_gone = false;
        self.timers.clear(Timer::Park);
        self.out.save();
        for parked in std::mem::take(&mut self.data.parked) {
            match parked {
                Parked::Offer { sdp } => {
                    let sdp = Wire::bytes(sdp.as_ref());
                    self.offer(sdp.as_ref(), false, ctx);
                }
                Parked::Bye => self.send_bye("NORMAL_CLEARING", ctx),
            }
        }
    }
}
