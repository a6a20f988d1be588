//! What we write of ourselves: Via, Contact, the INVITE to a callee.
//!
//! In: the site, a side, typed values. Out: header values and requests. No header field of another
//! side is copied: what a callee sees is built here (`threats.md` 3, 11).

use bytes::Bytes;
use contract::{Entropy, SideKey, Token, TokenUse};
use rsip::{Method, Transport};
use sip::{Aor, HeaderName, MethodOwned, Via, ViaTransport, WriteError, Writer};

use super::Invite;
use crate::Site;
use crate::call::Diversion;
use crate::policy::{ACCEPT, ALLOW, SUPPORTED};
use crate::registration::settings::DiversionReason;
use crate::site::Listener;

/// A new client transaction: the lane that will hold it, its branch and Via.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    pub(super) lane: u16,
    pub(super) branch: String,
    pub(super) via: String,
}

impl Hop {
    /// Draws a branch that leads responses to the lane, and from there to the side.
    pub(super) fn draw(site: &Site, listener: &Listener, side: SideKey, rng: &mut Entropy) -> Hop {
        let lane = lane_of_side(site, side);
        let token = Token {
            hint: site.node,
            lane,
            side,
        };
        let branch = site.tokens.write(TokenUse::Branch, token, rng.next_u64());
        let advertise = listener.advertise;
        let transport = ViaTransport::from(listener.transport);
        let via = Via::new(
            transport,
            advertise.ip().into(),
            Some(advertise.port()),
            &branch,
        )
        .to_string();
        Hop { lane, branch, via }
    }
}

/// Returns the lane that holds the client transactions of a side.
pub(super) fn lane_of_side(site: &Site, side: SideKey) -> u16 {
    site.ids.shard(&[&side.bits().to_be_bytes()], site.lanes)
}

/// Draws the tag of a side.
pub(super) fn tag(site: &Site, side: SideKey, rng: &mut Entropy) -> String {
    let token = Token {
        hint: site.node,
        lane: 0,
        side,
    };
    site.tokens.write(TokenUse::Tag, token, rng.next_u64())
}

/// Returns our Contact toward the peer of a side.
pub(super) fn contact(site: &Site, listener: &Listener, side: SideKey) -> String {
    let token = Token {
        hint: site.node,
        lane: 0,
        side,
    };
    let user = site.tokens.write(TokenUse::Contact, token, 0);
    let transport = match listener.transport {
        Transport::Udp => "",
        Transport::Tcp => ";transport=tcp",
        Transport::Tls | Transport::TlsSctp => ";transport=tls",
        Transport::Sctp => ";transport=sctp",
        Transport::Ws | Transport::Wss => ";transport=ws",
    };
    format!("<sip:{user}@{}{transport}>", listener.advertise)
}

/// What the INVITE to a callee needs besides whom to call.
#[derive(Debug)]
pub(super) struct Birth<'a> {
    pub(super) hop: &'a Hop,
    pub(super) tag: &'a str,
    pub(super) call_id: &'a str,
    pub(super) cseq: u32,
    pub(super) contact: &'a str,
    /// Who has sent the call there, the first one first.
    pub(super) path: &'a [Diversion],
}

/// Writes the INVITE to a callee (RFC 3261 §8.1.1, §13.2.1).
pub(super) fn invite(site: &Site, invite: &Invite, birth: &Birth<'_>) -> Result<Bytes, WriteError> {
    let mut from = invite.from.clone();
    from.set_tag(birth.tag);
    let mut writer = Writer::request(&MethodOwned::from(Method::Invite), &invite.target.uri);
    writer
        .header(HeaderName::Via, &birth.hop.via)
        .header(HeaderName::MaxForwards, invite.max_forwards)
        .header(HeaderName::From, from)
        .header(HeaderName::To, format_args!("<{}>", invite.callee.uri()))
        .header(HeaderName::CallId, birth.call_id)
        .header(HeaderName::CSeq, format_args!("{} INVITE", birth.cseq))
        .header(HeaderName::Contact, birth.contact);
    for route in &invite.target.path {
        writer.header(HeaderName::Route, format_args!("<{route}>"));
    }
    writer
        .header(HeaderName::Allow, ALLOW)
        .header(HeaderName::Supported, SUPPORTED)
        .header(HeaderName::Accept, ACCEPT)
        .header(HeaderName::UserAgent, &site.product);
    for (name, value) in diversions(birth.path, &invite.callee) {
        writer.header(name, value);
    }
    if let Some(sdp) = &invite.sdp {
        writer.body(ACCEPT, sdp);
    }
    writer.finish()
}

/// Returns who has sent a call on, the last one first (RFC 5806 §3), and all whom it was for, in order (RFC
/// 7044 §5; causes as RFC 4458 has them).
pub(super) fn diversions(path: &[Diversion], callee: &Aor) -> Vec<(HeaderName, String)> {
    let Some(first) = path.first() else {
        return Vec::new();
    };
    let sent_on = path.iter().rev().map(|one| {
        let (reason, _) = reasons(one.on);
        let value = format!("<{}>;reason={reason};counter=1", one.by.uri());
        (HeaderName::Diversion, value)
    });
    let mut fields: Vec<_> = sent_on.collect();
    let mut index = "1".to_owned();
    let value = format!("<{}>;index={index}", first.by.uri());
    fields.push((HeaderName::HistoryInfo, value));
    let next = path.iter().skip(1).map(|one| &one.by).chain([callee]);
    for (one, to) in path.iter().zip(next) {
        let (_, cause) = reasons(one.on);
        let value = format!("<{};cause={cause}>;index={index}.1;mp={index}", to.uri());
        fields.push((HeaderName::HistoryInfo, value));
        index.push_str(".1");
    }
    fields
}

/// Returns the word of Diversion and the cause of History-Info.
const fn reasons(on: DiversionReason) -> (&'static str, u16) {
    match on {
        DiversionReason::Always => ("unconditional", 302),
        DiversionReason::Busy => ("user-busy", 486),
        DiversionReason::NoAnswer => ("no-answer", 408),
        DiversionReason::Unreachable => ("unavailable", 503),
    }
}
