//! Requests in a dialog: whose they are, and what each method does.
//!
//! In: requests with a tag of ours. Out: their responses, news for the call. A request counts only
//! with both tags and the Call-ID *and* from the peer's own source, or with the digest of the
//! peer's account (`threats.md` 24).

use bytes::Bytes;
use contract::limits::CALL_MESSAGE_BYTES_MAX;
use rsip::Method;
use sip::{HeaderName, MethodName};

use super::core::{Dialog, DialogCtx, Incoming, Outcome, Role, State, Timer};
use super::session_timer::SessionTimer;
use super::signal::DTMF_RELAY;
use super::trickle;
use super::wire::WireMessage;
use crate::policy::{ACCEPT, ALLOW};
use crate::site::Auth;
use crate::{Inbound, call, lane};

/// Seconds after which a peer may offer anew (RFC 3261 §14.2: 0 to 10).
const OFFER_AGAIN_S: u32 = 2;

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The peer's: its connection or address.
    Same,
    /// The peer's: its account's digest, over another flow, or the flow that was lost.
    Proven,
    /// Perhaps the peer's, whose connection is gone, or may be: nobody tells us of that before we
    /// send on it.
    Unproven,
    /// Somebody else's.
    Stranger,
}

/// Returns the SDP of a message, if it has any.
pub(super) fn sdp_of(message: &sip::Message) -> Option<Bytes> {
    let is_sdp = message.content_type().is_none_or(|content_type| {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case(ACCEPT)
    });
    (is_sdp && !message.body().is_empty()).then(|| message.body_bytes())
}

impl Dialog {
    /// Takes a request with a tag of ours.
    pub(super) fn on_request(&mut self, inbound: Inbound, ctx: &mut DialogCtx<'_>) {
        let is_ack = Self::is_method(&inbound.request, Method::Ack);
        let is_ours = self
            .data
            .dialog
            .as_ref()
            .is_some_and(|dialog| dialog.matches(&inbound.request));
        let source = if is_ours {
            self.source_of(&inbound, ctx)
        } else {
            Source::Stranger
        };
        match source {
            Source::Same => {}
            Source::Proven => {
                // A peer that hangs up wants nothing of what waits for it.
                if Self::is_method(&inbound.request, Method::Bye) {
                    self.data.parked.clear();
                }
                self.rebind(inbound.flow, ctx);
            }
            Source::Unproven | Source::Stranger if is_ack => {
                return ctx.ignore("an ACK of another source");
            }
            Source::Unproven => return self.challenge(inbound, ctx),
            Source::Stranger => {
                return self.answer(&inbound, 481, ctx, |_| {});
            }
        }
        if is_ack {
            return self.on_ack(&inbound.request, ctx);
        }
        let dialog = self.data.dialog.as_mut();
        let last = dialog.as_ref().and_then(|dialog| dialog.remote_cseq);
        let accepted = dialog.map(|dialog| dialog.accept_request(&inbound.request));
        if let Some(Err(refusal)) = accepted {
            return self.answer(&inbound, refusal.status(), ctx, |_| {});
        }
        let cseq = inbound.request.cseq().ok().map(|cseq| cseq.number);
        self.on_accepted_request(inbound, cseq == last, ctx);
    }

    fn source_of(&self, inbound: &Inbound, ctx: &DialogCtx<'_>) -> Source {
        if ctx.site().is_same_source(&inbound.flow, &self.data.flow) {
            // A connection that was out of reach with its node for a moment, and speaks, is there.
            return match self.data.is_flow_gone {
                true => Source::Proven,
                false => Source::Same,
            };
        }
        let listener = ctx.site().listener(inbound.flow.listener());
        let has_digest = listener.is_some_and(|listener| listener.auth == Auth::Digest);
        // Where nobody proves who they are, an identity is only what From says.
        if has_digest && inbound.identity.is_some() && inbound.identity == self.data.account {
            return Source::Proven;
        }
        if self.data.is_flow_gone || (has_digest && self.data.flow.is_reliable()) {
            Source::Unproven
        } else {
            Source::Stranger
        }
    }

    /// Tells whether a request outside the dialog (its INVITE once more) is the peer's.
    pub(super) fn is_from_peer(&self, inbound: &Inbound, ctx: &DialogCtx<'_>) -> bool {
        matches!(self.source_of(inbound, ctx), Source::Same | Source::Proven)
    }

    fn challenge(&mut self, inbound: Inbound, ctx: &DialogCtx<'_>) {
        let to = inbound.transaction.home(ctx.site().node);
        let Inbound {
            transaction,
            flow,
            request,
            ..
        } = inbound;
        self.out.peer(
            to,
            lane::Message::Challenge {
                transaction,
                flow,
                request,
            },
        );
    }

    /// Sorts a request that is the peer's. A copy of the last one comes over another node than the
    /// first, or after a take-over: its transaction is not there.
    fn on_accepted_request(&mut self, inbound: Inbound, is_copy: bool, ctx: &mut DialogCtx<'_>) {
        let method = inbound.request.method();
        if method.is(Method::Bye) {
            return self.on_bye(&inbound, ctx);
        }
        if matches!(self.data.state, State::Ending | State::Ended) {
            self.answer(&inbound, 481, ctx, |_| {});
            return self.repeat_bye(ctx);
        }
        self.out.save();
        match method {
            MethodName::Known(Method::Invite) => self.on_offer(inbound, false, ctx),
            MethodName::Known(Method::Update) => self.on_offer(inbound, true, ctx),
            MethodName::Known(Method::Info) if is_copy => self.answer(&inbound, 200, ctx, |_| {}),
            MethodName::Known(Method::Info) => self.on_info(&inbound, ctx),
            // It was answered, and what it led to is over.
            MethodName::Known(Method::Refer) if is_copy && self.referral.is_none() => {
                self.answer(&inbound, 491, ctx, |_| {});
            }
            MethodName::Known(Method::Refer) => self.on_refer(inbound, ctx),
            MethodName::Known(Method::Options) => self.answer(&inbound, 200, ctx, |response| {
                response
                    .header(HeaderName::Allow, ALLOW)
                    .header(HeaderName::Accept, ACCEPT);
            }),
            MethodName::Known(Method::PRack) => self.answer(&inbound, 481, ctx, |_| {}),
            MethodName::Known(
                Method::Ack
                | Method::Bye
                | Method::Cancel
                | Method::Message
                | Method::Notify
                | Method::Publish
                | Method::Register
                | Method::Subscribe,
            )
            | MethodName::Other(_) => self.answer(&inbound, 405, ctx, |response| {
                response.header(HeaderName::Allow, ALLOW);
            }),
        }
    }

    /// The peer hangs up; its 200 waits for nothing (`cluster.md` §8).
    fn on_bye(&mut self, inbound: &Inbound, ctx: &mut DialogCtx<'_>) {
        self.answer(inbound, 200, ctx, |_| {});
        self.refuse_open_offer(487, ctx);
        match self.data.state {
            // A caller may end an early dialog (RFC 3261 §15): the INVITE is answered too.
            State::Incoming | State::Early => {
                self.data.outcome = Some(Outcome::Cancelled);
                self.out.call(call::Message::Cancelled {
                    side: self.number(),
                });
                self.refuse(487, "ORIGINATOR_CANCEL", ctx);
            }
            State::Accepted | State::Confirmed => {
                let cause = call::outcome::cause_of_reason(&inbound.request);
                self.data.outcome = Some(Outcome::HungUp(cause.to_owned()));
                self.out.call(call::Message::HungUp {
                    side: self.number(),
                    cause: cause.to_owned(),
                });
                self.enter(State::Ended, ctx);
            }
            State::Ending => self.enter(State::Ended, ctx),
            State::Calling | State::Proceeding | State::Cancelling | State::Ended => {
                ctx.ignore("no dialog to end");
            }
        }
    }

    /// A digit is relayed, candidates are taken; any other INFO package is unknown.
    fn on_info(&mut self, inbound: &Inbound, ctx: &mut DialogCtx<'_>) {
        let request = &inbound.request;
        let content_type = request.content_type().unwrap_or_default().to_owned();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if request.body().is_empty() {
            return self.answer(inbound, 200, ctx, |_| {});
        }
        if essence.eq_ignore_ascii_case(trickle::SDP_FRAGMENT) {
            return self.on_trickle(inbound, ctx);
        }
        if !essence.eq_ignore_ascii_case(DTMF_RELAY) || request.body().len() > INFO_BYTES_MAX {
            return self.answer(inbound, 415, ctx, |response| {
                response.header(HeaderName::Accept, DTMF_RELAY);
            });
        }
        self.answer(inbound, 200, ctx, |_| {});
        self.out.call(call::Message::Info {
            side: self.number(),
            content_type: DTMF_RELAY.to_owned(),
            body: request.body_bytes(),
        });
    }

    /// Candidates of the peer (RFC 8840 §4.4).
    fn on_trickle(&mut self, inbound: &Inbound, ctx: &mut DialogCtx<'_>) {
        let body = inbound.request.body();
        let fragment = Some(body).filter(|body| body.len() <= trickle::BYTES_MAX);
        let Some(fragment) = fragment.and_then(trickle::read) else {
            return self.answer(inbound, 400, ctx, |_| {});
        };
        self.answer(inbound, 200, ctx, |_| {});
        let candidates = fragment.candidates.into_iter().map(Some);
        for candidate in candidates.chain(fragment.is_end.then_some(None)) {
            let side = self.number();
            self.out.call(call::Message::Trickle { side, candidate });
        }
    }

    /// A re-INVITE or UPDATE of the peer (RFC 3261 §14.2, RFC 3311 §5.2).
    fn on_offer(&mut self, inbound: Inbound, is_update: bool, ctx: &mut DialogCtx<'_>) {
        let cseq = inbound.request.cseq().map_or(0, |cseq| cseq.number);
        if self.is_repeated_offer(&inbound, cseq, ctx) {
            return;
        }
        if inbound.request.bytes().len() > CALL_MESSAGE_BYTES_MAX {
            return self.answer(&inbound, 513, ctx, |_| {});
        }
        let sdp = sdp_of(&inbound.request);
        if is_update && sdp.is_none() {
            return self.answer_refresh(&inbound, ctx);
        }
        if self.data.incoming.is_some() {
            return self.answer(&inbound, 500, ctx, |response| {
                response.header(HeaderName::RetryAfter, OFFER_AGAIN_S);
            });
        }
        let is_offering = self
            .data
            .outgoing
            .iter()
            .any(|sent| sent.has_sdp || sent.is_invite);
        let is_busy = is_offering || self.data.accepted.is_some();
        if is_busy || self.data.unacknowledged.is_some() || self.data.state != State::Confirmed {
            return self.answer(&inbound, 491, ctx, |_| {});
        }
        self.data.incoming = Some(Incoming {
            transaction: inbound.transaction,
            request: WireMessage(inbound.request),
            cseq,
            is_update,
        });
        self.out.call(call::Message::Offered {
            side: self.number(),
            sdp,
        });
    }

    /// The same request once more, because its transaction was lost: answered on the new one.
    fn is_repeated_offer(&mut self, inbound: &Inbound, cseq: u32, ctx: &DialogCtx<'_>) -> bool {
        if let Some(incoming) = self.data.incoming.as_mut().filter(|open| open.cseq == cseq) {
            incoming.transaction = inbound.transaction.clone();
            return true;
        }
        if let Some(accepted) = self.data.accepted.as_mut().filter(|open| open.cseq == cseq) {
            accepted.transaction = inbound.transaction.clone();
            let response = accepted.response.0.clone();
            self.respond(inbound.transaction.clone(), inbound.flow, response, ctx);
            return true;
        }
        false
    }

    /// An UPDATE without SDP: a refreshed target or session.
    fn answer_refresh(&mut self, inbound: &Inbound, ctx: &mut DialogCtx<'_>) {
        if let Some(dialog) = &mut self.data.dialog {
            dialog.refresh_target(&inbound.request);
        }
        let session = SessionTimer::asked_by(&inbound.request);
        let contact = self.contact(ctx);
        self.answer(inbound, 200, ctx, |response| {
            if let Some(contact) = contact {
                response.header(HeaderName::Contact, contact);
            }
            if let Some(session) = session {
                session.write_answer(response);
            }
        });
        self.set_session(session, ctx);
    }

    /// Takes over a granted session timer; a request without one turns it off (RFC 4028 §9).
    pub(super) fn set_session(&mut self, session: Option<SessionTimer>, ctx: &DialogCtx<'_>) {
        self.data.session = session;
        self.timers.clear(Timer::Refresh);
        self.timers.clear(Timer::SessionExpired);
        if let Some(session) = session {
            let timer = if session.is_ours {
                Timer::Refresh
            } else {
                Timer::SessionExpired
            };
            self.timers.set(timer, ctx.now().mono, session.wait());
        }
    }

    pub(super) fn contact(&self, ctx: &DialogCtx<'_>) -> Option<String> {
        let listener = self.listener(ctx.site())?;
        Some(super::writing::contact(
            ctx.site(),
            listener,
            self.data.side,
        ))
    }

    /// Tells whether we made the Call-ID: it decides who waits longer (RFC 3261 §14.1).
    pub(super) fn owns_call_id(&self) -> bool {
        self.data.role == Role::Client
    }
}

/// Octets of a relayed INFO body: a digit and its length in words.
const INFO_BYTES_MAX: usize = 256;
