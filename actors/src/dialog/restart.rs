//! What a dialog sends and says again after a restart.
//!
//! In: the state as recorded. Out: requests and responses whose transactions were lost, with the
//! same branches, so that the peer takes them for retransmissions; news for the call.

use super::core::{Dialog, DialogCtx, Outcome, Parked, Purpose, Role, State, Timer};
use super::wire::Wire;
use crate::call;

impl Dialog {
    /// The node was started: connections and transactions are gone.
    pub(super) fn start_again(&mut self, ctx: &mut DialogCtx<'_>) {
        self.data.is_flow_gone |= self.data.flow.ends_at(ctx.site().node);
        self.out.save();
        match self.data.state {
            State::Calling | State::Proceeding | State::Cancelling
                if self.is_invite_of_former(ctx) =>
            {
                self.cancel_anew(ctx);
            }
            State::Calling | State::Proceeding | State::Cancelling => self.call_again(ctx),
            State::Confirmed => self.offer_again(ctx),
            State::Ending => self.bye_again(ctx),
            State::Ended => self.refuse_again(ctx),
            State::Incoming | State::Early | State::Accepted => {}
        }
    }

    /// The INVITE goes out once more, with its branch: the callee repeats what it answered.
    fn call_again(&mut self, ctx: &mut DialogCtx<'_>) {
        if self.data.birth.is_none() {
            if self.data.end.is_some() {
                return self.enter(State::Ended, ctx);
            }
            return self.fail(480, ctx);
        }
        if self.data.is_flow_gone {
            return self.lose_fork(ctx);
        }
        if self.data.state == State::Cancelling && self.data.end.is_none() {
            self.data.end = Some("NORMAL_CLEARING".to_owned());
        }
        self.enter(State::Calling, ctx);
        if self.data.end.is_some() {
            self.timers
                .set(Timer::GiveUp, ctx.now().mono, super::core::GIVE_UP_AFTER);
        }
        self.send_invite(ctx);
    }

    fn offer_again(&mut self, ctx: &mut DialogCtx<'_>) {
        let sent = std::mem::take(&mut self.data.outgoing);
        for outgoing in sent {
            if outgoing.purpose != Purpose::Offer {
                continue;
            }
            if self.data.is_flow_gone {
                let sdp = self.data.sdp.clone().filter(|_| outgoing.has_sdp);
                self.data.parked.push(Parked::Offer { sdp });
                self.await_connection(ctx);
                continue;
            }
            let (lane, request) = (outgoing.lane, outgoing.request.0.clone());
            self.data.outgoing.push(outgoing);
            self.request(lane, request, ctx);
        }
    }

    pub(super) fn bye_again(&mut self, ctx: &mut DialogCtx<'_>) {
        self.data.outgoing.clear();
        self.send_bye("NORMAL_CLEARING", ctx);
    }

    /// The caller may not have heard the final refusal.
    pub(super) fn refuse_again(&mut self, ctx: &mut DialogCtx<'_>) {
        let (Role::Server, false, Some(transaction), Some(response)) = (
            self.data.role,
            self.data.is_flow_gone,
            self.data.transaction.clone(),
            self.data.response.clone(),
        ) else {
            return;
        };
        let status = sip::Message::read(response.0.clone())
            .ok()
            .and_then(|read| read.status());
        if status.is_some_and(|status| status >= 300) {
            self.respond(transaction, self.data.flow, response.0, ctx);
        }
    }

    /// Tells the call how far this side is; what it knows already it ignores.
    pub(super) fn announce(&mut self, ctx: &mut DialogCtx<'_>) {
        let side = self.number();
        match (self.data.state, self.data.outcome.clone()) {
            (State::Confirmed, _) => {
                self.announce_confirmed();
                self.announce_refer();
            }
            (State::Ended, outcome) => {
                match outcome {
                    Some(Outcome::Cancelled) => self.out.call(call::Message::Cancelled { side }),
                    Some(Outcome::Failed(status)) => {
                        self.out.call(call::Message::Failed { side, status });
                    }
                    Some(Outcome::HungUp(cause)) => {
                        self.out.call(call::Message::HungUp { side, cause });
                    }
                    None => {}
                }
                self.out.call(call::Message::Ended { side });
            }
            (State::Ending, Some(Outcome::HungUp(cause))) => {
                self.out.call(call::Message::HungUp { side, cause });
            }
            (State::Cancelling | State::Ending, Some(Outcome::Failed(status))) => {
                self.out.call(call::Message::Failed { side, status });
            }
            (
                State::Ending
                | State::Incoming
                | State::Early
                | State::Accepted
                | State::Calling
                | State::Proceeding
                | State::Cancelling,
                _,
            ) => ctx.ignore("nothing to tell"),
        }
    }

    fn announce_confirmed(&mut self) {
        let side = self.number();
        let sdp = Wire::bytes(self.data.remote_sdp.as_ref());
        match self.data.role {
            // While a later 2xx is not acknowledged this would be taken for its ACK.
            Role::Server if self.data.accepted.is_some() => {}
            Role::Server => self.out.call(call::Message::Acknowledged { side, sdp }),
            Role::Client => self.out.call(call::Message::Answered { side, sdp }),
        }
        if let Some(incoming) = &self.data.incoming {
            let sdp = super::inside::sdp_of(&incoming.request.0);
            self.out.call(call::Message::Offered { side, sdp });
        }
    }
}
