//! The end of a side, and what waits for a lost connection (RFC 3261 §15, `architecture.md` §7).
//!
//! In: orders of the call, losses, a connection that came back. Out: BYE, CANCEL or a refusal. A CANCEL
//! waits without being parked: its state says that it is due.

use std::time::Duration;

use contract::{ActorId, FlowRef};
use rsip::Method;

use super::core::{
    Dialog, DialogCtx, GIVE_UP_AFTER, Outcome, Outgoing, PARK, Parked, Purpose, State, Timer,
};
use super::offer::Content;
use super::wire::Wire;
use crate::site::Auth;
use crate::{Target, call, registration};

/// Time between look-ups for a peer whose connection is gone.
const LOCATE_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Dialog {
    /// Ends this side, whatever its state.
    pub(super) fn end(&mut self, status: u16, cause: &str, ctx: &mut DialogCtx<'_>) {
        match self.data.state {
            State::Incoming | State::Early => {
                self.refuse(status, cause, ctx);
            }
            State::Calling => {
                self.data.end = Some(cause.to_owned());
                self.timers
                    .set(Timer::GiveUp, ctx.now().mono, GIVE_UP_AFTER);
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
            State::Ended => self.out.call(call::Message::Ended {
                side: self.number(),
            }),
        }
    }

    /// Sends BYE, or waits a while for the connection to send it on.
    pub(super) fn send_bye(&mut self, cause: &str, ctx: &mut DialogCtx<'_>) {
        self.timers.clear_all();
        self.data.session = None;
        self.data.accepted = None;
        self.data.glare = None;
        // Nothing is sent after a BYE, and that is sent once.
        self.data.parked.clear();
        self.enter(State::Ending, ctx);
        self.timers
            .set(Timer::GiveUp, ctx.now().mono, GIVE_UP_AFTER);
        if self.data.is_flow_gone {
            self.data.parked = vec![Parked::Bye];
            return self.await_connection(ctx);
        }
        let reason = call::outcome::reason_header(cause);
        let content = Content {
            purpose: Purpose::Bye,
            method: Method::Bye,
            body: None,
            reason: reason.as_deref(),
            event: None,
            retries: false,
        };
        if !self.send(&content, ctx) {
            self.enter(State::Ended, ctx);
        }
    }

    /// A peer that still speaks may not have heard the BYE: what is told to the node that has its
    /// connection may be lost. Where it is on its way, its lane drops the copy.
    pub(super) fn repeat_bye(&mut self, ctx: &DialogCtx<'_>) {
        // One that waits for the connection is sent there.
        if self.data.state != State::Ending || self.data.is_flow_gone {
            return;
        }
        let is_bye = |sent: &&Outgoing| sent.purpose == Purpose::Bye;
        let sent = self.data.outgoing.iter().find(is_bye);
        if let Some((lane, request)) = sent.map(|sent| (sent.lane, sent.request.0.clone())) {
            self.request(lane, request, ctx);
        }
    }

    /// The peer is lost: BYE to it, and the call is told.
    pub(super) fn lose(&mut self, cause: &str, ctx: &mut DialogCtx<'_>) {
        if matches!(self.data.state, State::Ending | State::Ended) {
            return ctx.ignore("ending already");
        }
        let outcome = self.data.end.take().unwrap_or_else(|| cause.to_owned());
        self.data.outcome = Some(Outcome::HungUp(outcome.clone()));
        self.out.call(call::Message::HungUp {
            side: self.number(),
            cause: outcome.clone(),
        });
        self.send_bye(&outcome, ctx);
    }

    /// The connection is gone: what was sent on it waits for it to come back.
    pub(super) fn park(&mut self, sent: &Outgoing, ctx: &mut DialogCtx<'_>) {
        let parked = match sent.purpose {
            Purpose::Bye => Parked::Bye,
            Purpose::Offer => Parked::Offer {
                sdp: self.data.sdp.clone().filter(|_| sent.has_sdp),
            },
            Purpose::Refresh | Purpose::Info | Purpose::Notify => {
                return ctx.ignore("lost with its connection");
            }
        };
        self.data.parked.push(parked);
        self.await_connection(ctx);
    }

    /// What is parked is sent when the peer shows itself on another flow, or its account
    /// registers the same Contact over one.
    pub(super) fn await_connection(&mut self, ctx: &DialogCtx<'_>) {
        self.timers.set(Timer::Park, ctx.now().mono, PARK);
        self.locate(ctx);
    }

    /// The connection of a callee is gone that may ring: for the call it has failed, but its phone
    /// rings on until it hears of the end, over the next connection.
    pub(super) fn lose_fork(&mut self, ctx: &mut DialogCtx<'_>) {
        self.data.is_flow_gone = true;
        let is_known = self.data.state == State::Cancelling || self.data.end.is_some();
        if !is_known {
            self.data.outcome = Some(Outcome::Failed(480));
            self.out.call(call::Message::Failed {
                side: self.number(),
                status: 480,
            });
        }
        self.enter(State::Cancelling, ctx);
        self.timers
            .set(Timer::GiveUp, ctx.now().mono, GIVE_UP_AFTER);
        self.await_connection(ctx);
    }

    /// A CANCEL was sent on a connection. If nothing comes of it, the peer may have left that one, and nobody
    /// has noticed: it is looked for.
    pub(super) fn doubt_connection(&mut self, ctx: &DialogCtx<'_>) {
        if self.data.flow.is_reliable() {
            let now = ctx.now().mono;
            self.timers.set(Timer::Park, now, PARK);
            self.timers.set(Timer::LocateAgain, now, LOCATE_AGAIN_AFTER);
        }
    }

    /// Asks the registration of the peer's account where it is now.
    pub(super) fn locate(&mut self, ctx: &DialogCtx<'_>) {
        let is_waited_for = !self.data.parked.is_empty() || self.data.state == State::Cancelling;
        if let (Some(account), true) = (&self.data.account, is_waited_for) {
            let to = ActorId::Registration(account.as_str().into());
            let reply = ctx.me().clone();
            self.out.other(to, registration::Message::Locate { reply });
            self.timers
                .set(Timer::LocateAgain, ctx.now().mono, LOCATE_AGAIN_AFTER);
        }
    }

    /// Tells whether a binding is the peer's of this dialog. Before there is one, it is whom we called.
    fn is_of_peer(&self, target: &Target) -> bool {
        let contact = self.data.dialog.as_ref().map(|known| &known.remote_target);
        let is_contact = contact.is_some_and(|contact| target.uri.equivalent(contact));
        let is_called = self.data.state == State::Cancelling
            && self.data.invite.as_ref().is_some_and(|invite| {
                let called = invite.0.uri();
                called.is_ok_and(|called| target.uri.equivalent(&called))
            });
        is_contact || is_called
    }

    /// The registration answers: the Contact of this dialog may be reached over another flow.
    pub(super) fn on_located(&mut self, targets: &[Target], ctx: &mut DialogCtx<'_>) {
        let is_gone = self.data.is_flow_gone;
        if !is_gone && self.data.state != State::Cancelling {
            return ctx.ignore("it is where we know");
        }
        let lost = self.data.flow;
        // Not at once: it would be lost again at once.
        let waits_until = self.timers.due(Timer::Park);
        let may_be_back = is_gone
            && waits_until
                .is_some_and(|until| until <= ctx.now().mono + (PARK - LOCATE_AGAIN_AFTER));
        let is_proven = |target: &Target| {
            // Where nobody proves who they are, anybody may have registered.
            let listener = ctx.site().listener(target.flow.listener());
            listener.is_some_and(|listener| listener.auth == Auth::Digest)
        };
        let found = targets.iter().find(|target| {
            // A connection of another node may have been out of reach for a moment only.
            let may_be_it = target.flow != lost || (may_be_back && !lost.ends_at(ctx.site().node));
            let is_reached = !target.unreachable && may_be_it;
            is_reached && self.is_of_peer(target) && is_proven(target)
        });
        match found.map(|target| target.flow) {
            Some(flow) => self.rebind(flow, ctx),
            None => ctx.ignore("it has not come back"),
        }
    }

    /// The connection did not come back.
    pub(super) fn give_up_on_connection(&mut self, ctx: &mut DialogCtx<'_>) {
        self.timers.clear(Timer::LocateAgain);
        self.out.save();
        if self.data.state == State::Cancelling && self.data.is_flow_gone {
            return self.enter(State::Ended, ctx);
        }
        for parked in std::mem::take(&mut self.data.parked) {
            match parked {
                Parked::Offer { .. } => {
                    self.out.call(call::Message::OfferRefused {
                        side: self.number(),
                        status: 480,
                    });
                }
                Parked::Bye => return self.enter(State::Ended, ctx),
            }
        }
    }

    /// The peer has shown itself on another flow: what waits is sent there.
    pub(super) fn rebind(&mut self, flow: FlowRef, ctx: &mut DialogCtx<'_>) {
        self.data.flow = flow;
        self.data.is_flow_gone = false;
        self.out.save();
        if self.data.state == State::Cancelling {
            self.cancel(ctx);
            self.end_early(ctx);
        }
        // Once: who does not answer there either is not looked for again.
        self.timers.clear(Timer::Park);
        self.timers.clear(Timer::LocateAgain);
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
