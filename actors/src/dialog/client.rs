//! The INVITE to a callee: its responses, CANCEL, ACK (RFC 3261 §13.2, §9.1).
//!
//! In: the order to call, responses, failures. Out: INVITE, CANCEL, ACK, news for the call. CANCEL
//! waits for a provisional response; a 2xx is acknowledged each time it comes.

use bytes::Bytes;
use contract::limits::CALL_MESSAGE_BYTES_MAX;
use contract::{ActorId, FlowRef};
use rsip::Method;
use sip::dialog::DialogState;

use super::core::{Birth, Dialog, DialogCtx, GIVE_UP_AFTER, Outcome, State, Timer};
use super::inside::sdp_of;
use super::wire::{Wire, WireMessage};
use super::writing::{self, Hop};
use super::{Invite, RequestFailure};
use crate::{call, lane};

/// CSeq of our INVITE; RFC 3261 §8.1.1.5 leaves it to us.
const FIRST_CSEQ: u32 = 1;

impl Dialog {
    /// Calls somebody, to whom others may have sent the call.
    pub(super) fn invite(
        &mut self,
        invite: &Invite,
        path: &[call::Diversion],
        ctx: &mut DialogCtx<'_>,
    ) {
        if self.data.birth.is_some() {
            return ctx.ignore("called already");
        }
        let (site, side) = (ctx.site(), self.data.side);
        let Some(listener) = self.listener(site) else {
            return self.fail(480, ctx);
        };
        self.data.tag = writing::tag(site, side, ctx.rng());
        let hop = Hop::draw(site, listener, side, ctx.rng());
        let call_id = ctx.rng().call_id();
        let cseq = FIRST_CSEQ;
        let contact = writing::contact(site, listener, side);
        let birth = writing::Birth {
            hop: &hop,
            tag: &self.data.tag,
            call_id: &call_id,
            cseq,
            contact: &contact,
            path,
        };
        let message = writing::invite(site, invite, &birth)
            .ok()
            .and_then(|bytes| sip::Message::read(bytes).ok());
        let Some(message) = message else {
            return self.fail(500, ctx);
        };
        self.data.sdp = Wire::of(invite.sdp.as_ref());
        self.data.birth = Some(Birth {
            cseq,
            branch: hop.branch,
            lane: hop.lane,
        });
        self.data.invite = Some(WireMessage(message));
        self.out.save_first();
        self.send_invite(ctx);
    }

    /// Gives our INVITE to its lane: the first time, and once more after a restart.
    pub(super) fn send_invite(&mut self, ctx: &DialogCtx<'_>) {
        if let (Some(invite), Some(birth)) = (&self.data.invite, &self.data.birth) {
            let (request, lane) = (invite.0.bytes().clone(), birth.lane);
            self.request(lane, request, ctx);
        }
    }

    /// Gives a request to a lane, in a new transaction.
    pub(super) fn request(&mut self, lane: u16, request: Bytes, ctx: &DialogCtx<'_>) {
        let to = ActorId::Lane(ctx.site().node, lane);
        let user = ctx.me().clone();
        self.out.peer(
            to,
            lane::Message::Request {
                flow: self.data.flow,
                request,
                user,
            },
        );
    }

    /// Takes a response to our first INVITE.
    pub(super) fn on_invite_response(
        &mut self,
        response: &sip::Message,
        status: u16,
        ctx: &mut DialogCtx<'_>,
    ) {
        match (self.data.state, status) {
            (_, 200..=299) => self.on_accepted(response, ctx),
            (State::Calling | State::Proceeding, 100..=199) => {
                self.on_provisional(response, status, ctx);
            }
            (State::Calling | State::Proceeding, _) => {
                if self.data.end.is_some() {
                    return self.enter(State::Ended, ctx);
                }
                self.fail(status, ctx);
            }
            (State::Cancelling, 300..=699) => self.enter(State::Ended, ctx),
            (
                State::Cancelling
                | State::Incoming
                | State::Early
                | State::Accepted
                | State::Confirmed
                | State::Ending
                | State::Ended,
                _,
            ) => ctx.ignore("a response that changes nothing any more"),
        }
    }

    fn on_provisional(&mut self, response: &sip::Message, status: u16, ctx: &mut DialogCtx<'_>) {
        if self.data.state == State::Calling {
            self.enter(State::Proceeding, ctx);
        }
        if self.data.end.is_some() {
            return self.cancel(ctx);
        }
        let is_kept = response.bytes().len() <= CALL_MESSAGE_BYTES_MAX;
        if status > 100 {
            self.keep_early(response);
            let sdp = sdp_of(response).filter(|_| is_kept);
            self.out.call(call::Message::Progressed {
                side: self.number(),
                status,
                sdp,
            });
        }
    }

    /// Remembers the early dialog: whoever takes it over can end it (RFC 3261 §12.1, §15).
    fn keep_early(&mut self, response: &sip::Message) {
        let Some(invite) = &self.data.invite else {
            return;
        };
        let Ok(early) = DialogState::of_client(&invite.0, response) else {
            return;
        };
        let known = self.data.dialog.as_ref();
        let is_known = known.is_some_and(|known| known.remote.tag() == early.remote.tag());
        if early.remote.tag().is_some() && !is_known {
            self.data.dialog = Some(early);
            self.out.save();
        }
    }

    /// Sends the CANCEL of our INVITE (RFC 3261 §9.1).
    pub(super) fn cancel(&mut self, ctx: &mut DialogCtx<'_>) {
        let Some(invite) = &self.data.invite else {
            return self.enter(State::Ended, ctx);
        };
        let lane = self.data.birth.as_ref().map_or(0, |birth| birth.lane);
        let reason = self.data.end.as_deref();
        let reason = reason.and_then(call::outcome::reason_of_cancel);
        let cancel = match reason {
            Some(reason) => sip::request::cancel_with_reason(&invite.0, reason),
            None => sip::request::cancel_of(&invite.0),
        };
        self.enter(State::Cancelling, ctx);
        self.timers
            .set(Timer::GiveUp, ctx.now().mono, GIVE_UP_AFTER);
        if self.data.is_flow_gone {
            return self.await_connection(ctx);
        }
        match cancel {
            Ok(cancel) => self.request(lane, cancel, ctx),
            Err(error) => tracing::warn!(%error, "a CANCEL could not be written"),
        }
        self.doubt_connection(ctx);
        // The peer may have answered, and the other node had the 2xx or nobody: no CANCEL ends that,
        // and its responses do not come here.
        if self.is_invite_of_former(ctx) {
            self.end_early(ctx);
        }
    }

    /// Ends the early dialog, too (RFC 3261 §15): no CANCEL ends what was answered meanwhile, and some peers
    /// forget with a connection which INVITE came over it.
    pub(super) fn end_early(&mut self, ctx: &mut DialogCtx<'_>) {
        if self.data.state == State::Cancelling && self.data.dialog.is_some() {
            let cause = self.data.end.take();
            self.send_bye(cause.as_deref().unwrap_or("NORMAL_CLEARING"), ctx);
        }
    }

    /// Takes a 2xx: the first makes the dialog, the same again gets the same ACK, one of another
    /// fork is ended.
    fn on_accepted(&mut self, response: &sip::Message, ctx: &mut DialogCtx<'_>) {
        let tag = response
            .to()
            .ok()
            .and_then(|to| to.tag().map(str::to_owned));
        let Some(tag) = tag else {
            return ctx.ignore("a 2xx without tag");
        };
        if self.acknowledge_again(response, &tag, ctx) {
            return;
        }
        let cseq = self.data.birth.as_ref().map_or(0, |birth| birth.cseq);
        let Some(invite) = self.data.invite.clone() else {
            return ctx.ignore("no INVITE was sent");
        };
        let Ok(dialog) = DialogState::of_client(&invite.0, response) else {
            tracing::debug!(actor = %ctx.me(), "a 2xx without Contact");
            return ctx.ignore("a 2xx that makes no dialog");
        };
        let is_first = matches!(self.data.state, State::Calling | State::Proceeding);
        let is_wanted = is_first && self.data.end.is_none();
        let is_kept = response.bytes().len() <= CALL_MESSAGE_BYTES_MAX;
        if !is_first && self.data.state != State::Cancelling {
            if self
                .data
                .dialog
                .as_ref()
                .is_some_and(|known| known.remote.tag() == Some(&tag))
            {
                return ctx.ignore("its ACK waits for the other side's answer");
            }
            return self.end_fork(dialog, cseq, &tag, ctx);
        }
        if !is_wanted || !is_kept {
            self.data.dialog = Some(dialog);
            self.acknowledge(cseq, &tag, None, ctx);
            if is_wanted {
                self.data.outcome = Some(Outcome::Failed(513));
                self.out.call(call::Message::Failed {
                    side: self.number(),
                    status: 513,
                });
            }
            let cause = self.data.end.take();
            return self.send_bye(cause.as_deref().unwrap_or("NORMAL_CLEARING"), ctx);
        }
        let sdp = sdp_of(response);
        self.data.dialog = Some(dialog);
        self.data.remote_sdp = Wire::of(sdp.as_ref());
        // An heir has dropped its copy (`cancel_anew`): the INVITE says whether this answers an offer.
        self.data.sdp = Wire::of(sdp_of(&invite.0).as_ref());
        self.enter(State::Confirmed, ctx);
        self.out.call(call::Message::Answered {
            side: self.number(),
            sdp,
        });
        if self.data.sdp.is_some() {
            self.acknowledge(cseq, &tag, None, ctx);
        } else {
            self.data.unacknowledged = Some(cseq);
        }
    }

    /// The callee refused, or could not be reached.
    pub(super) fn fail(&mut self, status: u16, ctx: &mut DialogCtx<'_>) {
        self.data.outcome = Some(Outcome::Failed(status));
        self.out.call(call::Message::Failed {
            side: self.number(),
            status,
        });
        self.enter(State::Ended, ctx);
    }

    /// Tells whether a response is to a request of this dialog: it has our tag (RFC 3261 §8.2.6.2). A node
    /// that was cut off and had the call, too, has called the same peer as the same side, with the same
    /// CSeq; what the peer answers to that comes here once that node has lost the call.
    fn has_asked_for(&self, response: &sip::Message) -> bool {
        let from = response.from();
        from.is_ok_and(|from| from.tag() == Some(self.data.tag.as_str()))
    }

    /// Takes a response of a lane, to whatever request.
    pub(super) fn on_response(
        &mut self,
        response: &sip::Message,
        flow: FlowRef,
        ctx: &mut DialogCtx<'_>,
    ) {
        let (Some(status), Ok(cseq)) = (response.status(), response.cseq()) else {
            return ctx.ignore("not a response");
        };
        if flow.remote().ip() != self.data.flow.remote().ip() {
            return ctx.ignore("a response of another source");
        }
        if !self.has_asked_for(response) {
            return ctx.ignore("a response to another copy of the call");
        }
        let is_birth = self
            .data
            .birth
            .as_ref()
            .is_some_and(|birth| birth.cseq == cseq.number);
        // As with a request: a connection that was out of reach with its node, and speaks, is there.
        let is_back = self.data.is_flow_gone && ctx.site().is_same_source(&flow, &self.data.flow);
        if is_birth && cseq.method.is(Method::Invite) {
            self.on_invite_response(response, status, ctx);
        } else if cseq.method.is(Method::Cancel) {
            ctx.ignore("the end of the INVITE tells more");
        } else {
            self.on_inside_response(response, cseq.number, status, ctx);
        }
        // Behind the ACK, if there is one.
        if is_back && self.data.state != State::Ended {
            self.rebind(flow, ctx);
        }
    }

    /// A request of ours ended without a response.
    pub(super) fn on_request_failed(
        &mut self,
        branch: &str,
        why: RequestFailure,
        ctx: &mut DialogCtx<'_>,
    ) {
        let is_birth = self
            .data
            .birth
            .as_ref()
            .is_some_and(|birth| birth.branch == branch);
        if !is_birth {
            return self.on_inside_failed(branch, why, ctx);
        }
        match self.data.state {
            State::Calling | State::Proceeding if self.data.end.is_some() => {
                self.enter(State::Ended, ctx);
            }
            // It rings, and hears of nothing more before it is back.
            State::Proceeding | State::Cancelling
                if why == RequestFailure::Unreachable && self.data.flow.is_reliable() =>
            {
                self.lose_fork(ctx);
            }
            State::Calling | State::Proceeding => {
                let status = match why {
                    RequestFailure::TimedOut => 408,
                    RequestFailure::Unreachable => 480,
                };
                self.fail(status, ctx);
            }
            State::Cancelling => self.enter(State::Ended, ctx),
            State::Incoming
            | State::Early
            | State::Accepted
            | State::Confirmed
            | State::Ending
            | State::Ended => ctx.ignore("the INVITE was answered already"),
        }
    }
}
