//! re-INVITE and UPDATE, both ways (RFC 3261 §14, RFC 3311), and requests of ours in the dialog.
//!
//! In: orders of the call, responses. Out: requests, answers to the peer's. SDP is not read here.

use std::time::Duration;

use bytes::Bytes;
use contract::limits::{CALL_MESSAGE_BYTES_MAX, DIALOG_REQUESTS_MAX};
use rsip::Method;
use sip::{HeaderName, Writer};

use super::RequestFailure;
use super::core::{Dialog, DialogCtx, Incoming, Outgoing, Parked, Purpose, State, Timer, written};
use super::inside::sdp_of;
use super::session_timer::SessionTimer;
use super::wire::Wire;
use super::writing::Hop;
use crate::policy::{ACCEPT, ALLOW};
use crate::{Inbound, call};

/// What a request in the dialog holds besides what every one has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'a> {
    pub(super) purpose: Purpose,
    pub(super) method: Method,
    /// Content type and body.
    pub(super) body: Option<(&'a str, &'a [u8])>,
    pub(super) reason: Option<&'a str>,
    /// Event and Subscription-State of a NOTIFY (RFC 6665 §8.2).
    pub(super) event: Option<(&'a str, &'a str)>,
    pub(super) retries: bool,
}

impl Dialog {
    /// Sends a request in the dialog; tells whether it could be written.
    pub(super) fn send(&mut self, content: &Content<'_>, ctx: &mut DialogCtx<'_>) -> bool {
        let site = ctx.site();
        let Some(listener) = self.listener(site) else {
            return false;
        };
        let hop = Hop::draw(site, listener, self.data.side, ctx.rng());
        let is_offer = matches!(content.method, Method::Invite | Method::Update);
        let has_contact = is_offer || content.method == Method::Notify;
        let contact = self.contact(ctx).filter(|_| has_contact);
        let session = self.data.session.filter(|_| is_offer);
        let Some(dialog) = &mut self.data.dialog else {
            return false;
        };
        let Ok(taken) = dialog.take_cseq() else {
            return false;
        };
        let mut writer = dialog.request(content.method, taken.number, &hop.via, contact.as_deref());
        fill(&mut writer, content, session, &site.product);
        let Some(request) = written(writer) else {
            return false;
        };
        let is_invite = content.method == Method::Invite;
        self.data.outgoing.push(Outgoing {
            purpose: content.purpose,
            is_invite,
            cseq: taken.number,
            branch: hop.branch,
            lane: hop.lane,
            request: Wire(request.clone()),
            has_sdp: is_offer && content.body.is_some(),
            retries: content.retries,
        });
        // A new block is safe before its first number is used; an offer before it is made.
        if taken.must_commit || is_offer {
            self.out.save_first();
        } else {
            self.out.save();
        }
        self.request(hop.lane, request, ctx);
        true
    }

    /// Sends a re-INVITE that the call orders.
    pub(super) fn offer(&mut self, sdp: Option<&Bytes>, retries: bool, ctx: &mut DialogCtx<'_>) {
        if self.data.state != State::Confirmed {
            self.out.call(call::Message::OfferRefused {
                side: self.number(),
                status: 481,
            });
            return;
        }
        let is_open = |sent: &Outgoing| sent.purpose == Purpose::Offer;
        if self.data.outgoing.iter().any(is_open) || self.data.glare.is_some() {
            return ctx.ignore("ordered already");
        }
        let is_busy = self.data.incoming.is_some()
            || self.data.accepted.is_some()
            || self.data.unacknowledged.is_some()
            || self.data.outgoing.iter().any(|sent| sent.is_invite);
        if is_busy {
            return self.on_glare(sdp.cloned(), retries, ctx);
        }
        if self.data.is_flow_gone {
            self.data.parked.push(Parked::Offer { sdp: Wire::of(sdp) });
            self.await_connection(ctx);
            return self.out.save();
        }
        let content = Content {
            purpose: Purpose::Offer,
            method: Method::Invite,
            body: sdp.map(|sdp| (ACCEPT, sdp.as_ref())),
            reason: None,
            event: None,
            retries,
        };
        if self.send(&content, ctx) {
            if sdp.is_some() {
                self.data.sdp = Wire::of(sdp);
            }
        } else {
            self.out.call(call::Message::OfferRefused {
                side: self.number(),
                status: 500,
            });
        }
    }

    /// An offer of ours met one of the peer: the call is told, or it is made again later
    /// (RFC 3261 §14.1: who made the Call-ID waits 2.1 to 4 s, the other 0 to 2 s).
    fn on_glare(&mut self, sdp: Option<Bytes>, retries: bool, ctx: &mut DialogCtx<'_>) {
        let Some(sdp) = sdp.filter(|_| retries) else {
            self.out.call(call::Message::OfferRefused {
                side: self.number(),
                status: 491,
            });
            return;
        };
        let (least_ms, steps) = if self.owns_call_id() {
            (2_100, 191)
        } else {
            (0, 201)
        };
        let wait = Duration::from_millis(least_ms + 10 * u64::from(ctx.rng().below(steps)));
        self.data.glare = Some(Wire(sdp));
        self.timers.set(Timer::Glare, ctx.now().mono, wait);
        self.out.save();
    }

    pub(super) fn offer_after_glare(&mut self, ctx: &mut DialogCtx<'_>) {
        if let Some(sdp) = self.data.glare.take() {
            self.offer(Some(&sdp.0), false, ctx);
        }
    }

    /// Keeps the session alive (RFC 4028 §10).
    pub(super) fn refresh(&mut self, ctx: &mut DialogCtx<'_>) {
        let Some(session) = self.data.session else {
            return;
        };
        self.timers
            .set(Timer::Refresh, ctx.now().mono, session.wait());
        let is_quiet = self.data.outgoing.is_empty()
            && self.data.incoming.is_none()
            && self.data.accepted.is_none();
        if self.data.state != State::Confirmed || !is_quiet || self.data.is_flow_gone {
            return ctx.ignore("not now");
        }
        let sdp = self.data.sdp.clone();
        let content = Content {
            purpose: Purpose::Refresh,
            method: if session.has_update {
                Method::Update
            } else {
                Method::Invite
            },
            body: sdp
                .as_ref()
                .filter(|_| !session.has_update)
                .map(|sdp| (ACCEPT, sdp.0.as_ref())),
            reason: None,
            event: None,
            retries: false,
        };
        self.send(&content, ctx);
    }

    /// Sends an INFO.
    pub(super) fn send_info(&mut self, content_type: &str, body: &Bytes, ctx: &mut DialogCtx<'_>) {
        let is_full = self.data.outgoing.len() >= DIALOG_REQUESTS_MAX;
        if self.data.state != State::Confirmed || is_full || self.data.is_flow_gone {
            return ctx.ignore("no way for an INFO");
        }
        let content = Content {
            purpose: Purpose::Info,
            method: Method::Info,
            body: Some((content_type, body)),
            reason: None,
            event: None,
            retries: false,
        };
        self.send(&content, ctx);
    }

    /// Accepts the peer's open offer.
    pub(super) fn accept_offer(&mut self, sdp: Option<&Bytes>, ctx: &mut DialogCtx<'_>) {
        let Some(incoming) = self.data.incoming.take() else {
            return ctx.ignore("no offer is open");
        };
        let request = &incoming.request.0;
        if let Some(dialog) = &mut self.data.dialog {
            dialog.refresh_target(request);
        }
        let session = SessionTimer::asked_by(request);
        let contact = self.contact(ctx);
        let mut response = sip::respond(request, 200, Some(&self.data.tag));
        if let Some(contact) = contact {
            response.header(HeaderName::Contact, contact);
        }
        response
            .header(HeaderName::Allow, ALLOW)
            .header(HeaderName::Server, &ctx.site().product);
        if let Some(session) = session {
            session.write_answer(&mut response);
        }
        if let Some(sdp) = sdp {
            response.body(ACCEPT, sdp);
            self.data.sdp = Wire::of(Some(sdp));
        }
        let Some(bytes) = written(response) else {
            return;
        };
        self.set_session(session, ctx);
        let Incoming {
            transaction,
            cseq,
            is_update,
            ..
        } = incoming;
        if !is_update {
            self.await_ack(cseq, transaction.clone(), Wire(bytes.clone()), ctx);
        }
        self.out.save_first();
        self.respond(transaction, self.data.flow, bytes, ctx);
    }

    /// Refuses the peer's open offer; the session stays as it was (RFC 3261 §14.2).
    pub(super) fn refuse_offer(&mut self, status: u16, ctx: &mut DialogCtx<'_>) {
        if self.data.incoming.is_none() {
            return ctx.ignore("no offer is open");
        }
        self.refuse_open_offer(status, ctx);
        self.out.save();
    }

    pub(super) fn refuse_open_offer(&mut self, status: u16, ctx: &DialogCtx<'_>) {
        let Some(Incoming {
            transaction,
            request,
            ..
        }) = self.data.incoming.take()
        else {
            return;
        };
        let inbound = Inbound {
            transaction,
            flow: self.data.flow,
            request: request.0,
            identity: None,
        };
        self.answer(&inbound, status, ctx, |response| {
            if status == 500 {
                response.header(HeaderName::RetryAfter, 2);
            }
        });
    }

    /// Takes a response to a request in the dialog.
    pub(super) fn on_inside_response(
        &mut self,
        response: &sip::Message,
        cseq: u32,
        status: u16,
        ctx: &mut DialogCtx<'_>,
    ) {
        let tag = self.remote_tag();
        if self.acknowledge_again(response, &tag, ctx) || status < 200 {
            return ctx.ignore("provisional, or a 2xx once more");
        }
        let Some(at) = self.data.outgoing.iter().position(|sent| sent.cseq == cseq) else {
            return ctx.ignore("a response to nothing");
        };
        let sent = self.data.outgoing.remove(at);
        self.out.save();
        match sent.purpose {
            Purpose::Bye => self.enter(State::Ended, ctx),
            Purpose::Info => self.lose_if_gone(status, ctx),
            Purpose::Notify => ctx.ignore("whatever it says, the peer goes on"),
            Purpose::Offer | Purpose::Refresh if status < 300 => {
                self.on_offer_accepted(&sent, response, &tag, ctx);
            }
            Purpose::Offer if status == 491 && sent.retries => {
                let sdp = self.data.sdp.clone();
                self.on_glare(Wire::bytes(sdp.as_ref()), true, ctx);
            }
            Purpose::Offer => {
                self.out.call(call::Message::OfferRefused {
                    side: self.number(),
                    status,
                });
                self.lose_if_gone(status, ctx);
            }
            Purpose::Refresh => self.lose_if_gone(status, ctx),
        }
    }

    fn on_offer_accepted(
        &mut self,
        sent: &Outgoing,
        response: &sip::Message,
        tag: &str,
        ctx: &mut DialogCtx<'_>,
    ) {
        if let Some(dialog) = &mut self.data.dialog {
            dialog.refresh_target(response);
        }
        self.is_untold = false;
        let is_kept = response.bytes().len() <= CALL_MESSAGE_BYTES_MAX;
        let sdp = sdp_of(response).filter(|_| is_kept);
        if sent.purpose == Purpose::Offer {
            if let Some(session) = self.data.session {
                self.set_session(session.granted_by(response), ctx);
            }
            self.out.call(call::Message::OfferAnswered {
                side: self.number(),
                sdp,
            });
        }
        if sent.is_invite && sent.has_sdp {
            self.acknowledge(sent.cseq, tag, None, ctx);
        } else if sent.is_invite {
            self.data.unacknowledged = Some(sent.cseq);
        }
    }

    /// 408 and 481 end the dialog (RFC 3261 §12.2.1.2).
    fn lose_if_gone(&mut self, status: u16, ctx: &mut DialogCtx<'_>) {
        if matches!(status, 408 | 481) {
            self.lose("NORMAL_TEMPORARY_FAILURE", ctx);
        }
    }

    /// A request in the dialog got no response.
    pub(super) fn on_inside_failed(
        &mut self,
        branch: &str,
        why: RequestFailure,
        ctx: &mut DialogCtx<'_>,
    ) {
        let Some(at) = self
            .data
            .outgoing
            .iter()
            .position(|sent| sent.branch == branch)
        else {
            return ctx.ignore("a failure of nothing");
        };
        let sent = self.data.outgoing.remove(at);
        self.out.save();
        let is_gone = why == RequestFailure::Unreachable && self.data.flow.is_reliable();
        if is_gone {
            self.data.is_flow_gone = true;
            return self.park(&sent, ctx);
        }
        match sent.purpose {
            Purpose::Bye => self.enter(State::Ended, ctx),
            Purpose::Offer => {
                self.out.call(call::Message::OfferRefused {
                    side: self.number(),
                    status: 408,
                });
                if !self.is_untold {
                    self.lose("RECOVERY_ON_TIMER_EXPIRE", ctx);
                }
            }
            Purpose::Notify => ctx.ignore("other requests tell whether the peer is there"),
            Purpose::Refresh | Purpose::Info if self.is_untold => {
                ctx.ignore("an offer tells whether the peer is there");
            }
            Purpose::Refresh | Purpose::Info => self.lose("RECOVERY_ON_TIMER_EXPIRE", ctx),
        }
    }
}

fn fill(writer: &mut Writer, content: &Content<'_>, session: Option<SessionTimer>, product: &str) {
    writer.header(HeaderName::UserAgent, product);
    if let Some(reason) = content.reason {
        writer.header(HeaderName::Reason, reason);
    }
    if content.method == Method::Invite {
        writer.header(HeaderName::Allow, ALLOW);
    }
    if matches!(content.purpose, Purpose::Refresh | Purpose::Offer)
        && let Some(session) = session
    {
        session.write_refresh(writer);
    }
    if let Some((event, state)) = content.event {
        writer
            .header(HeaderName::Event, event)
            .header(HeaderName::SubscriptionState, state);
    }
    if let Some((content_type, body)) = content.body {
        writer.body(content_type, body);
    }
}
