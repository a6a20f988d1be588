//! What a request says of itself: its dialog, its call, what it is merged with, and what RFC 3261
//! §8.2 has us check once its sender is known.
//!
//! In: a request. Out: keys and refusals. It changes nothing; `inbound.rs` decides the order.

use contract::{FlowRef, SideKey, Space, TokenUse};
use rsip::Method;
use sip::{Aor, HeaderName, Message, Uri};

use super::auth;
use super::core::Context;
use super::refusal::{self, Refusal};
use super::table::MergeId;
use crate::Site;
use crate::policy::{self, Place, Ruling};
use crate::site::Auth;

/// Returns where a request stands, and in which side's dialog.
pub(super) fn side_of(request: &Message, site: &Site) -> (Place, Option<SideKey>) {
    let to = request.to().ok();
    let Some(tag) = to.as_ref().and_then(|to| to.tag()) else {
        return (Place::Outside, None);
    };
    match site.tokens.read(TokenUse::Tag, tag) {
        Some(token) if token.side.number() == refusal::NOBODY => (Place::Foreign, None),
        Some(token) => (Place::Inside, Some(token.side)),
        None => (Place::Foreign, None),
    }
}

/// Returns the key of the call that an INVITE starts; of its CANCEL the same.
pub(super) fn call_key(request: &Message, site: &Site) -> contract::CallKey {
    let from = request.from().ok();
    let via = request.via().ok();
    let tag = from
        .as_ref()
        .and_then(|from| from.tag())
        .unwrap_or_default();
    let branch = via
        .as_ref()
        .and_then(|via| via.branch())
        .unwrap_or_default();
    site.ids
        .call_key(request.call_id().unwrap_or_default(), tag, branch)
}

/// Returns what merged copies of an INVITE have in common (RFC 3261 §8.2.2.2).
///
/// Deviation: compared within one lane only; copies whose branches lead to different lanes become
/// two calls. Test: `a_merged_invite_is_refused`.
pub(super) fn merge_of(request: &Message) -> Option<MergeId> {
    let is_outside = request.to().is_ok_and(|to| to.tag().is_none());
    if !is_outside || !request.method().is(Method::Invite) {
        return None;
    }
    let tag = request.from().ok()?.tag()?.to_owned();
    Some((
        request.call_id().ok()?.to_owned(),
        tag,
        request.cseq().ok()?.number,
    ))
}

/// Tells whether the node is too full for this piece of new work. Renewals of registrations pass
/// while there is room to write them; the registration knows which they are. An overloaded node
/// takes calls for help all the same.
pub(super) fn is_shed(request: &Message, ctx: &Context<'_>) -> bool {
    let health = ctx.health();
    let is_new = request.method().is(Method::Invite) || request.method().is(Method::Register);
    if health.overloaded && is_new && !is_for_help(request) {
        return true;
    }
    if request.method().is(Method::Invite) {
        let most = ctx.site().limits.calls_max;
        let is_full = most > 0 && health.calls >= most;
        return health.draining || health.space != Space::Ample || is_full;
    }
    request.method().is(Method::Register) && (health.draining || health.space == Space::Exhausted)
}

/// Numbers that are answered by those who help, in all GSM networks (3GPP TS 22.101 §10.1).
const HELP: [&str; 2] = ["112", "911"];

fn is_for_help(request: &Message) -> bool {
    let uri = request.uri().ok();
    let user = uri.as_ref().and_then(Uri::user_raw);
    request.method().is(Method::Invite) && user.is_some_and(|user| HELP.contains(&user))
}

/// Checks what RFC 3261 §8.2 asks after authentication: identity, method, extension, content.
pub(super) fn check_passage(
    request: &Message,
    flow: FlowRef,
    ruling: Ruling,
    identity: Option<&Aor>,
    ctx: &Context<'_>,
) -> Option<Refusal> {
    let is_outside = match ruling {
        Ruling::Register | Ruling::Call | Ruling::Refuse { .. } => true,
        Ruling::Dialog
        | Ruling::Cancel
        | Ruling::Acknowledge
        | Ruling::Options
        | Ruling::Prove { .. } => false,
    };
    if !is_outside {
        return None;
    }
    let site = ctx.site();
    let asks = site
        .listener(flow.listener())
        .map_or(Auth::Digest, |one| one.auth);
    if asks == Auth::Digest && !auth::speaks_as(request, identity, site) {
        return Some(Refusal::new(403, "speaks as another"));
    }
    if let Ruling::Refuse { status, why } = ruling {
        return Some(Refusal::new(status, why));
    }
    let required = request.headers(HeaderName::Require);
    if let Some(unknown) = policy::unsupported(required, policy::options_of(request.method())) {
        return Some(Refusal::extension(unknown));
    }
    if ruling == Ruling::Call {
        check_content(request)
    } else {
        None
    }
}

/// Checks Request-URI and body of an INVITE (RFC 3261 §8.2.2.1, §8.2.3).
fn check_content(request: &Message) -> Option<Refusal> {
    let is_known = |uri: &Uri| uri.scheme().known().is_some() || *uri.scheme() == sip::Scheme::Tel;
    if !request.uri().is_ok_and(|uri| is_known(&uri)) {
        return Some(Refusal::new(416, "scheme of the Request-URI"));
    }
    let is_optional = request
        .header(HeaderName::ContentDisposition)
        .is_some_and(|value| value.to_ascii_lowercase().contains("handling=optional"));
    if request.body().is_empty() || is_optional {
        return None;
    }
    let content_type = request.content_type().unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let is_plain = request
        .list(HeaderName::ContentEncoding)
        .all(|encoding| encoding.eq_ignore_ascii_case("identity"));
    let is_fit = media_type.eq_ignore_ascii_case(policy::ACCEPT) && is_plain;
    (!is_fit).then(|| Refusal::new(415, "body of another kind"))
}
