//! REFER in a dialog, and NOTIFY of how it goes (RFC 3515, RFC 6665, RFC 4488).
//!
//! In: a REFER of the peer, what the call says of it. Out: its response, NOTIFY requests. One reference
//! at a time. What it leads to is the call's business, also whose dialog a Replaces in it names (RFC 3891).

use contract::limits::{CALL_MESSAGE_BYTES_MAX, DIALOG_REQUESTS_MAX};
use rsip::Method;
use serde::{Deserialize, Serialize};
use sip::{HeaderName, NameAddr, Scheme};

use super::core::{Dialog, DialogCtx, Purpose, State};
use super::offer::Content;
use super::wire::WireMessage;
use crate::wire::FORM_3_SINCE;
use crate::{Inbound, Site, TransactionRef, call};

/// Body of a NOTIFY: the status line of a response (RFC 3420).
const FRAGMENT: &str = "message/sipfrag;version=2.0";
/// Seconds that a reference may take: longer than anybody rings.
const EXPIRES_S: u32 = 660;

/// What the peer has referred to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Referral {
    /// CSeq of the REFER: which one a NOTIFY is of (RFC 3515 §2.4.6).
    cseq: u32,
    /// The REFER, while it has no answer.
    open: Option<Box<Open>>,
    /// It wants to be told how it goes (RFC 4488 §4).
    is_told: bool,
}

/// A REFER without an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Open {
    transaction: TransactionRef,
    request: WireMessage,
    refer: call::Refer,
}

impl Dialog {
    /// The peer refers us to somebody.
    pub(super) fn on_refer(&mut self, inbound: Inbound, ctx: &mut DialogCtx<'_>) {
        if ctx.health().schema < FORM_3_SINCE {
            return self.answer(&inbound, 503, ctx, |_| {});
        }
        if inbound.request.bytes().len() > CALL_MESSAGE_BYTES_MAX {
            return self.answer(&inbound, 513, ctx, |_| {});
        }
        let cseq = inbound.request.cseq().map_or(0, |cseq| cseq.number);
        if let Some(known) = self.referral.as_mut().filter(|known| known.cseq == cseq) {
            // The same once more: its transaction was lost.
            return match &mut known.open {
                Some(open) => open.transaction = inbound.transaction,
                None => {
                    let is_told = known.is_told;
                    self.answer_refer(&inbound, is_told, ctx);
                }
            };
        }
        if self.referral.is_some() || self.data.state != State::Confirmed {
            return self.answer(&inbound, 491, ctx, |_| {});
        }
        let (target, replaces) = match target_of(&inbound.request, ctx.site()) {
            Ok(target) => target,
            Err(status) => return self.answer(&inbound, status, ctx, |_| {}),
        };
        let refer = call::Refer {
            to: target.uri,
            listener: self.data.flow.listener(),
            is_proven: ctx.site().is_proving(self.data.flow.listener()),
            replaces,
        };
        let wish = inbound.request.header(HeaderName::ReferSub);
        let is_told = !wish.is_some_and(|wish| wish.trim().eq_ignore_ascii_case("false"));
        self.referral = Some(Referral {
            cseq,
            open: Some(Box::new(Open {
                transaction: inbound.transaction,
                request: WireMessage(inbound.request),
                refer: refer.clone(),
            })),
            is_told,
        });
        self.out.call(call::Message::Refer {
            side: self.number(),
            refer: Box::new(refer),
        });
    }

    fn answer_refer(&mut self, inbound: &Inbound, is_told: bool, ctx: &DialogCtx<'_>) {
        let contact = self.contact(ctx);
        self.answer(inbound, 202, ctx, |response| {
            if let Some(contact) = contact {
                response.header(HeaderName::Contact, contact);
            }
            if !is_told {
                response.header(HeaderName::ReferSub, "false");
            }
        });
    }

    /// Tells whether a REFER has no answer yet.
    pub(super) fn has_open_referral(&self) -> bool {
        self.referral
            .as_ref()
            .is_some_and(|known| known.open.is_some())
    }

    fn take_open(&mut self) -> Option<Inbound> {
        let open = self.referral.as_mut()?.open.take()?;
        Some(Inbound {
            transaction: open.transaction,
            flow: self.data.flow,
            request: open.request.0,
            identity: None,
        })
    }

    /// The call puts the other party through.
    pub(super) fn accept_refer(&mut self, ctx: &mut DialogCtx<'_>) {
        let Some(inbound) = self.take_open() else {
            return ctx.ignore("no REFER is open");
        };
        let is_told = self.referral.as_ref().is_some_and(|known| known.is_told);
        self.out.save_first();
        self.answer_refer(&inbound, is_told, ctx);
        self.tell_referral(100, false, ctx);
    }

    /// The call does not.
    pub(super) fn refuse_refer(&mut self, status: u16, ctx: &mut DialogCtx<'_>) {
        let Some(inbound) = self.take_open() else {
            return ctx.ignore("no REFER is open");
        };
        self.referral = None;
        self.out.save();
        self.answer(&inbound, status, ctx, |_| {});
    }

    /// Tells the peer how it goes.
    pub(super) fn tell_referral(&mut self, status: u16, is_last: bool, ctx: &mut DialogCtx<'_>) {
        let Some(known) = &self.referral else {
            return ctx.ignore("nothing was referred to");
        };
        let (cseq, is_told) = (known.cseq, known.is_told);
        if is_last {
            self.referral = None;
            self.out.save_first();
        }
        if !is_last && self.data.outgoing.len() >= DIALOG_REQUESTS_MAX {
            return ctx.ignore("the peer answers nothing: the last word is enough");
        }
        if !is_told || self.data.state != State::Confirmed || self.data.is_flow_gone {
            return ctx.ignore("the peer is not told");
        }
        let reason = sip::reason(status);
        let body = format!("SIP/2.0 {status} {reason}\r\n");
        let event = format!("refer;id={cseq}");
        let state = match is_last {
            true => "terminated;reason=noresource".to_owned(),
            false => format!("active;expires={EXPIRES_S}"),
        };
        let content = Content {
            purpose: Purpose::Notify,
            method: Method::Notify,
            body: Some((FRAGMENT, body.as_bytes())),
            reason: None,
            event: Some((&event, &state)),
            retries: false,
        };
        self.send(&content, ctx);
    }

    /// The call has lost what it knew: it is told of an open REFER once more.
    pub(super) fn announce_refer(&mut self) {
        let side = self.number();
        if let Some(open) = self.referral.as_ref().and_then(|known| known.open.as_ref()) {
            let refer = Box::new(open.refer.clone());
            self.out.call(call::Message::Refer { side, refer });
        }
    }
}

/// Returns the one address of Refer-To, to be called (RFC 3515 §2.1), and the dialog that it replaces
/// (RFC 3891 §6.1).
///
/// # Errors
/// The status that the REFER is refused with: 481 if that dialog is none of ours.
fn target_of(
    request: &sip::Message,
    site: &Site,
) -> Result<(NameAddr, Option<call::Replaces>), u16> {
    let target = request.name_addr(HeaderName::ReferTo);
    let mut target = target.ok().flatten().ok_or(400_u16)?;
    if !matches!(
        target.uri.scheme(),
        Scheme::Sip | Scheme::Sips | Scheme::Tel
    ) {
        return Err(416);
    }
    let mut replaces = None;
    for (name, value) in target.uri.header_fields() {
        if name.eq_ignore_ascii_case("Replaces") && replaces.is_none() {
            replaces = Some(call::Replaces::read(&value, site)?);
        } else if name.eq_ignore_ascii_case("Replaces") {
            return Err(400);
        } else if name.eq_ignore_ascii_case("Require")
            && !value
                .split(',')
                .all(|tag| tag.trim().eq_ignore_ascii_case("replaces"))
        {
            return Err(501);
        }
    }
    let method = target.uri.params().value("method");
    if method.is_some_and(|method| !method.eq_ignore_ascii_case("INVITE")) {
        return Err(501);
    }
    target.uri.clear_headers();
    Ok((target, replaces))
}
