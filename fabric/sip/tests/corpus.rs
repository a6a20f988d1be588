//! The published and collected messages: every one is read, and its verdict compared.
//!
//! In: `WEFT_DATA` or `../shared/data`; without it the tests say so and count nothing. A verdict
//! that we do not share stands in `EXCEPTIONS` with its reason.

mod common;

use bytes::Bytes;
use common::{attacks, data, entries};
use sip::{Framer, HeaderName, Message, Start, lane_key, respond};

/// Reads and types a message as a server does with a new one.
fn accept(octets: &[u8]) -> Result<Message, String> {
    let message = Message::read(Bytes::copy_from_slice(octets)).map_err(|e| e.to_string())?;
    message.check().map_err(|error| error.to_string())?;
    Ok(message)
}

/// Verdicts that are not ours: file, whether we accept it, and why.
const EXCEPTIONS: &[(&str, bool, &str)] = &[
    (
        "jsip-006.sip",
        true,
        "an unknown scheme is well-formed: 416, RFC 3261 8.2.2.1, RFC 4475 3.3.2",
    ),
    (
        "jsip-014.sip",
        false,
        "white space inside <>: not in the grammar, RFC 4475 3.1.2.14",
    ),
    (
        "jsip-017.sip",
        false,
        "a fold before the colon: HCOLON has only SP and HTAB, RFC 3261 25.1",
    ),
    (
        "jsip-024.sip",
        false,
        "a response without From, To and Call-ID: RFC 3261 8.2.6.2",
    ),
    (
        "jsip-136.sip",
        false,
        "LWS inside a URI: RFC 3261 25.1 addr-spec",
    ),
    (
        "jsip-144.sip",
        false,
        "LWS inside a URI: RFC 3261 25.1 addr-spec",
    ),
    (
        "jsip-146.sip",
        false,
        "LWS inside a URI: RFC 3261 25.1 addr-spec",
    ),
    (
        "jsip-152.sip",
        false,
        "LWS inside a URI: RFC 3261 25.1 addr-spec",
    ),
    (
        "jsip-153.sip",
        false,
        "LWS inside a URI: RFC 3261 25.1 addr-spec",
    ),
    (
        "jsip-229.sip",
        false,
        "LWS inside a URI: RFC 3261 25.1 addr-spec",
    ),
    (
        "jsip-336.sip",
        false,
        "LWS inside a URI: RFC 3261 25.1 addr-spec",
    ),
    (
        "jsip-339.sip",
        false,
        "LWS inside a URI: RFC 3261 25.1 addr-spec",
    ),
    (
        "jsip-358.sip",
        false,
        "the archive lost the empty line between the two messages",
    ),
    (
        "jsip-363.sip",
        false,
        "the status line holds the archive's notation <hex>20</hex>, not a space",
    ),
    (
        "jsip-391.sip",
        false,
        "two Call-IDs, CSeqs, Froms and Tos: 400, RFC 4475 3.3.8",
    ),
];

/// Gives back the empty line that the archive's XML took from the end of messages without a body.
fn with_empty_line(mut octets: Vec<u8>) -> Vec<u8> {
    let start = octets
        .iter()
        .position(|octet| !octet.is_ascii_whitespace())
        .unwrap_or(0);
    if !octets[start..].windows(4).any(|end| end == b"\r\n\r\n") {
        while octets.ends_with(b"\r\n") {
            octets.truncate(octets.len() - 2);
        }
        octets.extend_from_slice(b"\r\n\r\n");
    }
    octets
}

fn compare(folder: &str) -> usize {
    let mut wrong = Vec::new();
    let list = entries(folder);
    for entry in &list {
        let octets = data(&format!("{folder}/{}", entry.file)).expect("listed file");
        let octets = if folder == "sip-jsip-torture" {
            with_empty_line(octets)
        } else {
            octets
        };
        let read = accept(&octets);
        let exception = EXCEPTIONS.iter().find(|(file, ..)| *file == entry.file);
        let wanted = match (exception, entry.parse.as_str()) {
            (Some((_, is_accepted, _)), _) => Some(*is_accepted),
            (None, "ok") => Some(true),
            (None, "error") => Some(false),
            (None, _) => None,
        };
        if wanted.is_some_and(|wanted| wanted != read.is_ok()) {
            wrong.push(format!("{} {}: {:?}", entry.file, entry.note, read.err()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{folder}: {} of {}\n{}",
        wrong.len(),
        list.len(),
        wrong.join("\n")
    );
    println!("{folder}: {} messages", list.len());
    list.len()
}

#[test]
fn rfc4475_messages_get_their_verdict() {
    compare("sip-rfc4475");
}

#[test]
fn rfc5118_messages_get_their_verdict() {
    compare("sip-rfc5118");
}

#[test]
fn jsip_messages_get_their_verdict() {
    compare("sip-jsip-torture");
}

#[test]
fn seeds_get_their_verdict() {
    compare("sip-seeds");
}

#[test]
fn generated_attacks_are_survived_and_inject_no_line() {
    let attacks = attacks();
    let (mut read, mut accepted, mut answered) = (0, 0, 0);
    for octets in &attacks {
        exercise(octets);
        read += usize::from(Message::read(Bytes::copy_from_slice(octets)).is_ok());
        let accepts = accept(octets);
        accepted += usize::from(accepts.is_ok());
        let answerable = accepts
            .ok()
            .or_else(|| Message::read_for_error(Bytes::copy_from_slice(octets)));
        if let Some(request) = answerable.filter(Message::is_request) {
            let answer = respond(&request, 400, Some("ours"))
                .finish()
                .expect("a writable answer");
            let text = String::from_utf8(answer.to_vec()).expect("text");
            let lines: Vec<&str> = text.split("\r\n").collect();
            let repeated = request.headers(HeaderName::Via).count();
            assert_eq!(lines.len(), 1 + repeated + 4 + 1 + 2, "{text}");
            assert!(lines.iter().all(|line| !line.contains(['\r', '\n'])));
            assert!(lines.iter().all(|line| !line.starts_with("X-Injected")));
            answered += 1;
        }
    }
    println!(
        "{} attacks: {read} read, {accepted} accepted, {answered} answered",
        attacks.len()
    );
    assert!(attacks.is_empty() || (read > 100 && accepted < read && answered > 1_000));
}

/// Calls every accessor; whatever they say, they must not panic.
fn exercise(octets: &[u8]) {
    let _ = lane_key(octets);
    let mut framer = Framer::new();
    framer.push(octets);
    while framer.next().is_some() {}
    let _ = framer.offending();
    let Ok(message) = Message::read(Bytes::copy_from_slice(octets)) else {
        return;
    };
    let _ = (
        message.via(),
        message.from(),
        message.to(),
        message.cseq(),
        message.contacts(),
    );
    let _ = (
        message.routes(),
        message.record_routes(),
        message.paths(),
        message.expires(),
    );
    let _ = (
        message.max_forwards(),
        message.rseq(),
        message.min_expires(),
    );
    let source = "192.0.2.9:4444".parse().expect("an address");
    let stamped = sip::stamp_via(&message, source);
    assert_eq!(stamped.body(), message.body());
    assert_eq!(
        stamped.header(HeaderName::CallId),
        message.header(HeaderName::CallId)
    );
    assert_eq!(stamped.all_headers().count(), message.all_headers().count());
    if let Start::Request { uri, .. } = message.start() {
        assert!(!uri.is_empty());
    }
}
