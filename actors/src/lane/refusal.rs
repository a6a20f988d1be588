//! The responses that a lane makes itself: refusals, challenges, 100 Trying, the answer to OPTIONS.
//!
//! In: a request and a reason. Out: octets. Before its sender is known a request is answered
//! without a transaction, so that a flood leaves nothing behind (RFC 3261 §26.3.2.4); the To tag is
//! then a keyed hash of the request, the same for each retransmission (§8.2.7).

use bytes::Bytes;
use contract::{Action, CallKey, Ctx, Emitted, Token, TokenUse};
use rsip::Method;
use sip::{HeaderName, Message, Writer};

use crate::{Site, policy};

/// Why a request is refused, and with which header fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    pub why: &'static str,
    pub headers: Vec<(HeaderName, String)>,
}

impl Refusal {
    /// Makes a refusal with the header fields that its status asks for.
    pub(super) fn new(status: u16, why: &'static str) -> Self {
        let headers = match status {
            405 => vec![(HeaderName::Allow, policy::ALLOW.to_owned())],
            415 => vec![
                (HeaderName::Accept, policy::ACCEPT.to_owned()),
                (HeaderName::AcceptEncoding, "identity".to_owned()),
            ],
            _ => Vec::new(),
        };
        Refusal {
            status,
            why,
            headers,
        }
    }

    /// Makes a 503 that tells when to come back: between 5 and 10 seconds, by chance.
    pub(super) fn busy(why: &'static str, ctx: &mut Ctx<'_, crate::Message, Site>) -> Self {
        let after_s = 5 + ctx.rng().below(6);
        let headers = vec![(HeaderName::RetryAfter, after_s.to_string())];
        Refusal {
            status: 503,
            why,
            headers,
        }
    }

    /// Makes a 420 that names what is not supported (RFC 3261 §8.2.2.3).
    pub(super) fn extension(unknown: String) -> Self {
        let headers = vec![(HeaderName::Unsupported, unknown)];
        Refusal {
            status: 420,
            why: "required extension",
            headers,
        }
    }
}

/// Number of the side in a tag that names no dialog: no call has so many.
pub(super) const NOBODY: u8 = u8::MAX;

/// Writes a refusal and counts it.
pub(super) fn write(
    request: &Message,
    refusal: &Refusal,
    ctx: &mut Ctx<'_, crate::Message, Site>,
) -> Option<Bytes> {
    let tag = tag_of(request, ctx.site());
    write_with(&tag, request, refusal, ctx)
}

/// Writes the refusal that ends a transaction, and counts it. In a cluster the ACK may come to
/// another node: its tag names this one.
pub(super) fn write_final(
    request: &Message,
    refusal: &Refusal,
    ctx: &mut Ctx<'_, crate::Message, Site>,
) -> Option<Bytes> {
    let site = ctx.site();
    if site.cluster.is_none() || !request.method().is(Method::Invite) {
        return write(request, refusal, ctx);
    }
    let token = Token {
        hint: site.node,
        lane: 0,
        side: CallKey::from_bits(0).side(NOBODY),
    };
    let tag = site
        .tokens
        .write(TokenUse::Tag, token, ctx.rng().next_u64());
    write_with(&tag, request, refusal, ctx)
}

fn write_with(
    tag: &str,
    request: &Message,
    refusal: &Refusal,
    ctx: &mut Ctx<'_, crate::Message, Site>,
) -> Option<Bytes> {
    let method = request.method().to_string();
    let (status, why) = (refusal.status, refusal.why);
    ctx.act(Action::Emit(Emitted::Refused {
        method,
        status,
        why,
    }));
    let mut writer = sip::respond(request, status, Some(tag));
    for (name, value) in &refusal.headers {
        writer.header(*name, value);
    }
    finish(writer)
}

/// Writes the answer to OPTIONS outside dialogs (RFC 3261 §11.2): nothing about any user.
pub(super) fn options(request: &Message, site: &Site) -> Option<Bytes> {
    let mut writer = sip::respond(request, 200, Some(&tag_of(request, site)));
    writer.header(HeaderName::Allow, policy::ALLOW);
    writer.header(HeaderName::Supported, policy::SUPPORTED);
    writer.header(HeaderName::Accept, policy::ACCEPT);
    writer.header(HeaderName::AcceptEncoding, "identity");
    finish(writer)
}

/// Writes 100 Trying.
pub(super) fn trying(request: &Message) -> Option<Bytes> {
    finish(sip::respond(request, 100, None))
}

/// Returns the To tag of an answer without a transaction.
fn tag_of(request: &Message, site: &Site) -> String {
    let call_id = request.call_id().unwrap_or_default();
    let via = request.vias().next().unwrap_or_default();
    let hash = site.ids.call_key(call_id, "to tag", via).bits();
    format!("{hash:032x}")
}

fn finish(mut writer: Writer) -> Option<Bytes> {
    writer
        .finish()
        .map_err(|error| tracing::debug!(%error, "a response was not written"))
        .ok()
}
