//! Our reader against rsip's: where both accept a message, they must say the same.
//!
//! rsip is the vocabulary of our public signatures; a message that the two understand differently
//! could pass one check and be routed by another.

mod common;

use bytes::Bytes;
use common::{attacks, messages};
use rsip::SipMessage;
use rsip::headers::ToTypedHeader;
use rsip::headers::UntypedHeader;
use rsip::message::HeadersExt;
use sip::Message;

/// Returns what differs, if anything that rsip can type does.
fn differences(ours: &Message, theirs: &SipMessage) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, one: Option<String>, two: Option<String>| {
        if let (Some(one), Some(two)) = (one, two)
            && one != two
        {
            found.push(format!("{what}: {one:?} / {two:?}"));
        }
    };
    match theirs {
        SipMessage::Request(request) => {
            compare(
                "method",
                Some(ours.method().to_string()),
                Some(request.method.to_string()),
            );
            compare("uri", ours.uri().ok().map(text_of), their_uri(&request.uri));
        }
        SipMessage::Response(response) => compare(
            "status",
            ours.status().map(|status| status.to_string()),
            Some(response.status_code.code().to_string()),
        ),
    }
    let call_id = theirs
        .call_id_header()
        .ok()
        .map(|it| it.value().trim().to_owned());
    compare("call-id", ours.call_id().ok().map(str::to_owned), call_id);
    let cseq = theirs.cseq_header().ok().and_then(|it| it.typed().ok());
    compare(
        "cseq",
        ours.cseq().ok().map(|it| it.to_string()),
        cseq.map(|it| it.to_string()),
    );
    let from = theirs.from_header().ok().and_then(|it| it.typed().ok());
    compare(
        "from",
        ours.from().ok().map(|it| text_of(it.uri)),
        from.and_then(|it| their_uri(&it.uri)),
    );
    let to = theirs.to_header().ok().and_then(|it| it.typed().ok());
    compare(
        "to",
        ours.to().ok().map(|it| text_of(it.uri)),
        to.and_then(|it| their_uri(&it.uri)),
    );
    let branch = theirs.via_header().ok().and_then(|it| it.typed().ok());
    let branch = branch.and_then(|it| it.branch().map(|branch| branch.value().to_owned()));
    let our_branch = ours
        .via()
        .ok()
        .and_then(|via| via.branch().map(str::to_owned));
    // rsip cuts a branch at the first octet that is no token; we keep it whole.
    let our_branch = our_branch.filter(|branch| branch.parse::<sip::MethodOwned>().is_ok());
    compare("branch", our_branch, branch);
    found
}

/// Writes the parts that both keep: scheme, user, host and port.
fn text_of(uri: sip::Uri) -> String {
    let host = uri.host().map(ToString::to_string).unwrap_or_default();
    let user = uri.user_raw().unwrap_or("").to_owned();
    format!("{}:{user}@{host}:{:?}", uri.scheme().as_str(), uri.port())
}

fn their_uri(uri: &rsip::Uri) -> Option<String> {
    let scheme = match uri.scheme.as_ref()? {
        rsip::Scheme::Sip => "sip",
        rsip::Scheme::Sips => "sips",
        rsip::Scheme::Other(_) => return None,
    };
    let user = uri
        .auth
        .as_ref()
        .map(|auth| auth.user.clone())
        .unwrap_or_default();
    let host = uri.host_with_port.host.to_string().to_ascii_lowercase();
    // rsip takes a user with a dot or an escape for a part of the host, the `@` included.
    if host.contains('@') {
        return None;
    }
    let port = uri.host_with_port.port.as_ref().map(|port| *port.value());
    Some(format!("{scheme}:{user}@{host}:{port:?}"))
}

#[test]
fn both_readers_agree_on_what_both_accept() {
    let attacks = attacks()
        .into_iter()
        .enumerate()
        .map(|(at, octets)| (format!("#{at}"), octets));
    let (mut both, mut wrong) = (0, Vec::new());
    for (name, octets) in messages().into_iter().chain(attacks) {
        let Ok(ours) = Message::read(Bytes::copy_from_slice(&octets)) else {
            continue;
        };
        let theirs = std::panic::catch_unwind(|| SipMessage::try_from(&octets[..]));
        let Ok(Ok(theirs)) = theirs else { continue };
        both += 1;
        let found =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| differences(&ours, &theirs)));
        let found = found.unwrap_or_default();
        if !found.is_empty() {
            wrong.push(format!("{name}: {}", found.join("; ")));
        }
    }
    let sample = wrong
        .iter()
        .take(40)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        wrong.is_empty(),
        "{} of {both} differ\n{sample}",
        wrong.len()
    );
    println!("{both} messages accepted by both readers");
    assert!(both > 1_000 || common::root().is_none());
}
