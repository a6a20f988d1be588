//! Limits, domain and route of an INVITE that starts a call.
//!
//! In: the INVITE, the node's health. Out: a refusal, or sides and steps.

use bytes::Bytes;
use contract::limits::CALL_MESSAGE_BYTES_MAX;
use contract::{Action, ActorId, CallNews, Emitted, FlowRef, Space, Token, TokenUse};
use doors::json::ServerMessage;
use sip::{Aor, HeaderName, NameAddr, Uri};

use super::core::{CALLER, Call, CallCtx, Caller, Side, Stage, State};
use super::{Dial, Replaces, outcome};
use crate::dialog::wire::Wire;
use crate::door_session::{self, About, Delivery};
use crate::media_leg::Report;
use crate::wire::FORM_3_SINCE;
use crate::{Inbound, Site, dialog, lane, media_leg, router};

/// Seconds in Retry-After of a 503.
const RETRY_AFTER_S: u32 = 10;

/// Hops of a request that names none (RFC 3261 §8.1.1.6), less the one that we are.
const HOPS_LEFT: u8 = 69;

/// Returns who calls, and whom.
pub(super) fn caller_of(inbound: &Inbound, site: &Site) -> Caller {
    let request = &inbound.request;
    let uri = request.uri().ok();
    let dialled = uri.as_ref().and_then(|uri| uri.user()).unwrap_or_default();
    let host = uri
        .as_ref()
        .and_then(|uri| uri.host())
        .map(ToString::to_string);
    let dialled_domain = site.domain_of(&host.unwrap_or_default()).name.clone();
    let sip_call_id = request.call_id().unwrap_or_default().to_owned();
    Caller {
        from: from_of(inbound, site),
        to: format!("{dialled}@{dialled_domain}"),
        domain: dialled_domain,
        dialled,
        sip_call_id,
        listener: inbound.flow.listener(),
        max_forwards: sip::decrement_max_forwards(request).unwrap_or(HOPS_LEFT),
        account: inbound.identity.clone(),
    }
}

/// Returns From as callees see it: the address that was proven, the account's name. Nothing else
/// the caller claims about itself goes on (`threats.md` 3).
fn from_of(inbound: &Inbound, site: &Site) -> NameAddr {
    let claimed = inbound.request.from().ok();
    let Some(identity) = &inbound.identity else {
        let uri = claimed.map_or_else(anonymous, |claimed| claimed.uri);
        return NameAddr::new(uri);
    };
    let mut from = NameAddr::new(identity.uri());
    from.display = match site.account(identity) {
        Some(account) => account.display.clone(),
        None => claimed.and_then(|claimed| claimed.display),
    };
    from
}

/// RFC 3323 §4.1.1.3.
fn anonymous() -> sip::Uri {
    let host = sip::Host::Name("anonymous.invalid".to_owned());
    sip::Uri::sip(Some("anonymous"), host, None)
}

/// Returns the same of a JSON client: who it is was proven when it registered.
pub(super) fn caller_of_dial(dial: &Dial, site: &Site) -> Caller {
    let (dialled, host) = match dial.to.parse::<Uri>() {
        Ok(uri) if uri.host().is_some() => {
            let host = uri.host().map(ToString::to_string);
            (uri.user().unwrap_or_default(), host)
        }
        Ok(_) | Err(_) => match dial.to.rsplit_once('@') {
            Some((user, host)) => (user.to_owned(), Some(host.to_owned())),
            None => (dial.to.clone(), None),
        },
    };
    let host = host.unwrap_or_else(|| dial.aor.domain().to_owned());
    let dialled_domain = site.domain_of(&host).name.clone();
    let mut from = NameAddr::new(dial.aor.uri());
    from.display = site
        .account(&dial.aor)
        .and_then(|account| account.display.clone());
    Caller {
        from,
        to: format!("{dialled}@{dialled_domain}"),
        domain: dialled_domain,
        dialled,
        sip_call_id: dial.name.clone(),
        listener: dial.flow.listener(),
        max_forwards: HOPS_LEFT,
        account: Some(dial.aor.clone()),
    }
}

/// What starts a call.
#[derive(Clone, Debug)]
pub(super) enum Arrival {
    /// An INVITE.
    Invite(Inbound),
    /// A JSON client.
    Dial(Box<Dial>),
}

impl Arrival {
    const fn flow(&self) -> FlowRef {
        match self {
            Arrival::Invite(inbound) => inbound.flow,
            Arrival::Dial(dial) => dial.flow,
        }
    }

    const fn identity(&self) -> Option<&Aor> {
        match self {
            Arrival::Invite(inbound) => inbound.identity.as_ref(),
            Arrival::Dial(dial) => Some(&dial.aor),
        }
    }

    fn sdp(&self) -> Option<Bytes> {
        let sdp = match self {
            Arrival::Invite(inbound) => inbound.request.body_bytes(),
            Arrival::Dial(dial) => dial.sdp.clone(),
        };
        Some(sdp).filter(|sdp| !sdp.is_empty())
    }

    /// Returns which dialog it replaces, if it names one, or the status that it is refused with (RFC 3891 §3).
    fn replaces(&self, site: &Site) -> Option<Result<Replaces, u16>> {
        let Arrival::Invite(inbound) = self else {
            return None;
        };
        let value = inbound.request.header(HeaderName::Replaces)?;
        Some(Replaces::read(value, site))
    }

    fn weight(&self) -> usize {
        match self {
            Arrival::Invite(inbound) => inbound.request.bytes().len(),
            Arrival::Dial(dial) => dial.sdp.len(),
        }
    }
}

impl Call {
    /// Looks at what starts the call.
    pub(super) fn admit(&mut self, arrival: Arrival, ctx: &mut CallCtx<'_>) {
        if let Some((status, why)) = self.shed(&arrival, ctx) {
            return self.turn_away(&arrival, status, why, ctx);
        }
        let site = ctx.site();
        self.data.started = ctx.now().utc;
        let profile = site
            .listener(self.data.caller.listener)
            .map(|listener| listener.profile.clone())
            .unwrap_or_default();
        let replaces = arrival.replaces(site);
        let plan = self.may_dial(arrival.identity()).then(|| {
            if let Some(Ok(replaces)) = &replaces {
                return Some(router::Plan::of_replaces(replaces.clone()));
            }
            let domain = site.domain_of(&self.data.caller.domain);
            router::plan(&self.data.caller.dialled, domain, &profile, ctx.now().utc)
        });
        self.data.offer = Wire::of(arrival.sdp().as_ref());
        let flow = arrival.flow();
        let is_callback = match &arrival {
            Arrival::Invite(inbound) => super::waiting::is_callback(inbound),
            Arrival::Dial(_) => false,
        };
        self.data
            .sides
            .insert(CALLER, Side::new(Stage::Active, false));
        self.serve(arrival);
        self.is_changed = true;
        if let Some(Err(status)) = replaces {
            return self.end(status, outcome::cause_of_status(status), "weft", ctx);
        }
        let Some(plan) = plan.flatten() else {
            return self.end(404, "NO_ROUTE_DESTINATION", "weft", ctx);
        };
        let schema = ctx.health().schema;
        if !plan.steps.iter().all(|step| step.is_known_to(schema)) {
            // Another node might have to go on with it that cannot read of it.
            return self.end(503, "SWITCH_CONGESTION", "weft", ctx);
        }
        tracing::debug!(call = %self.data.key, route = plan.route, "routed");
        if is_callback && schema >= FORM_3_SINCE {
            self.diverting.call_back();
        }
        self.tell_in_call(self.data.caller.account.clone().as_ref(), ctx);
        self.data.steps = plan.steps.into();
        self.data.is_bypassed = plan.bypass;
        self.emit(CallNews::Started {
            from: self.data.caller.from.uri.to_string(),
            to: self.data.caller.to.clone(),
        });
        if self.data.is_bypassed {
            return self.next_step(ctx);
        }
        let start = media_leg::Message::Start {
            listener: flow.listener(),
            sip_source: flow.remote().ip(),
            beside: None,
            offering: None,
        };
        self.spawn(ActorId::MediaLeg(self.side_key(CALLER)), start.into());
        self.data
            .sides
            .insert(CALLER, Side::new(Stage::Active, true));
        self.enter(State::Preparing);
        self.prepare(ctx);
    }

    /// Hands the caller's offer to its leg; without one the route begins.
    pub(super) fn prepare(&mut self, ctx: &mut CallCtx<'_>) {
        match Wire::bytes(self.data.offer.as_ref()) {
            Some(sdp) => {
                self.wait_for_leg(ctx);
                self.tell_leg(CALLER, media_leg::Message::TakeOffer { sdp });
            }
            None => self.next_step(ctx),
        }
    }

    /// The caller's leg has read the offer.
    pub(super) fn on_prepared(&mut self, side: u8, report: Report, ctx: &mut CallCtx<'_>) {
        match report {
            Report::OfferTaken(stream) if side == CALLER => {
                self.set_stream(CALLER, stream);
                self.next_step(ctx);
            }
            Report::Unfit { status } => {
                self.end(status, "INCOMPATIBLE_DESTINATION", "weft", ctx);
            }
            Report::OfferTaken(_)
            | Report::AnswerTaken(_)
            | Report::Described { .. }
            | Report::NoPort
            | Report::Closed
            | Report::Silent
            | Report::Digit(_)
            | Report::Heard
            | Report::Stays => ctx.ignore("not asked"),
        }
    }

    /// Returns the status and reason of a refusal before any work is done.
    fn shed(&self, arrival: &Arrival, ctx: &CallCtx<'_>) -> Option<(u16, &'static str)> {
        let (site, health) = (ctx.site(), ctx.health());
        let domain = site.domain_of(&self.data.caller.domain);
        // This call is one of them already.
        let is_full = |most: u32| most > 0 && health.calls > most;
        if health.draining {
            Some((503, "draining"))
        } else if health.space > Space::Ample {
            Some((503, "no room on disk"))
        } else if is_full(site.limits.calls_max) || is_full(domain.calls_max) {
            Some((503, "too many calls"))
        } else if arrival.weight() > CALL_MESSAGE_BYTES_MAX {
            Some((513, "larger than a call keeps"))
        } else {
            None
        }
    }

    /// A call that was not admitted leaves no record: one response, and it is gone.
    fn turn_away(
        &mut self,
        arrival: &Arrival,
        status: u16,
        why: &'static str,
        ctx: &mut CallCtx<'_>,
    ) {
        match arrival {
            Arrival::Invite(inbound) => self.refuse_invite(inbound, status, ctx),
            Arrival::Dial(dial) => self.refuse_dial(dial, status, why),
        }
        let method = "INVITE".to_owned();
        self.out.push(Action::Emit(Emitted::Refused {
            method,
            status,
            why,
        }));
        self.out.push(Action::Stop {
            id: ctx.me().clone(),
        });
        self.data.state = State::Over;
    }

    fn refuse_dial(&mut self, dial: &Dial, status: u16, why: &str) {
        let Some(to) = dial.flow.actor() else { return };
        let message = ServerMessage::CallRejected {
            call_id: dial.name.clone(),
            code: status,
            cause: super::outcome::cause_of_status(status).to_owned(),
            reason: why.to_owned(),
        };
        let delivery = Delivery {
            flow: dial.flow,
            name: dial.name.clone(),
            message,
            about: About::Reply(dial.request.clone()),
            is_last: true,
        };
        self.tell(
            to,
            door_session::Message::Deliver(Box::new(delivery)).into(),
        );
    }

    fn refuse_invite(&mut self, inbound: &Inbound, status: u16, ctx: &mut CallCtx<'_>) {
        let site = ctx.site();
        // It names this node, since the ACK may come to another one.
        let token = Token {
            hint: site.node,
            lane: 0,
            side: self.side_key(CALLER),
        };
        let tag = site
            .tokens
            .write(TokenUse::Tag, token, ctx.rng().next_u64());
        let mut response = sip::respond(&inbound.request, status, Some(&tag));
        response.header(HeaderName::Server, &site.product);
        if status == 503 {
            response.header(HeaderName::RetryAfter, RETRY_AFTER_S);
        }
        if let Ok(response) = response.finish() {
            let transaction = inbound.transaction.clone();
            let to = transaction.home(site.node);
            let flow = inbound.flow;
            self.tell(
                to,
                lane::Message::Respond {
                    transaction,
                    flow,
                    response,
                }
                .into(),
            );
        }
    }

    /// Tells whether a caller may dial into a domain: nobody dials into another one's.
    fn may_dial(&self, identity: Option<&Aor>) -> bool {
        identity.is_none_or(|identity| identity.domain() == self.data.caller.domain)
    }

    /// Ends the caller's side or any other.
    pub(super) fn tell_end(&mut self, side: u8, status: u16, cause: &str) {
        let cause = cause.to_owned();
        self.tell_dialog(side, dialog::Message::End { status, cause });
    }
}
