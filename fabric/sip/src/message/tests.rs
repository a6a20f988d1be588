//! What `message` promises, by example.

use bytes::Bytes;
use rsip::Method;

use crate::{HeaderError, HeaderName, Message, MethodName, ReadError, Start, SyntaxError};

const INVITE: &str = "INVITE sip:bob@example.org SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1, SIP/2.0/TCP h;branch=z9hG4bK0\r\n\
    v: SIP/2.0/UDP 192.0.2.2\r\n\
    Max-Forwards: 70\r\n\
    f: \"Alice\" <sip:alice@example.org>;tag=a1\r\n\
    To : <sip:bob@example.org>\r\n\
    Call-ID: c1@192.0.2.1\r\n\
    CSeq: 314159 INVITE\r\n\
    Supported: 100rel, timer\r\n\
    k: path\r\n\
    x-own: one\r\n\
    X-OWN: two\r\n\
    Record-Route: <sip:p1;lr>, <sip:p2;lr>\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 4\r\n\
    \r\n\
    v=0\nrest";

fn read(text: &str) -> Result<Message, ReadError> {
    Message::read(Bytes::copy_from_slice(text.as_bytes()))
}

fn invite() -> Message {
    read(INVITE).expect("a message")
}

#[test]
fn a_message_gives_its_parts() {
    let message = invite();
    let uri = "sip:bob@example.org";
    let method = MethodName::Known(Method::Invite);
    assert_eq!(message.start(), Start::Request { method, uri });
    assert_eq!((message.is_request(), message.status()), (true, None));
    assert_eq!(
        message.header(HeaderName::To),
        Some("<sip:bob@example.org>")
    );
    assert_eq!(message.vias().count(), 3);
    assert_eq!(message.via().expect("a Via").branch(), Some("z9hG4bK1"));
    assert_eq!(message.from().expect("a From").tag(), Some("a1"));
    assert_eq!(message.cseq().expect("a CSeq").number, 314_159);
    assert_eq!(message.max_forwards(), Ok(Some(70)));
    assert_eq!(message.expires(), Ok(None));
    assert_eq!(message.record_routes().expect("routes").len(), 2);
    assert!(message.lists(HeaderName::Supported, "PATH"));
    assert!(message.lists(HeaderName::Supported, "100rel"));
    assert_eq!(
        (message.other("X-Own"), message.other("T")),
        (Some("one"), message.header(HeaderName::To))
    );
    assert_eq!(message.all_headers().count(), 14);
    assert_eq!(
        (message.body(), &message.body_bytes()[..]),
        (&b"v=0\n"[..], &b"v=0\n"[..])
    );
    assert_eq!(message.content_type(), Some("application/sdp"));
    assert_eq!(message.check(), Ok(()));
    assert_eq!(format!("{message:?}"), "Message(INVITE)");
}

#[test]
fn folds_become_spaces() {
    let text = INVITE.replace(
        "Max-Forwards: 70",
        "Subject:\r\n one\r\n\t two \r\n  three\r\nMax-Forwards:\r\n 70",
    );
    let message = read(&text).expect("a message");
    let words: Vec<&str> = message
        .header(HeaderName::Subject)
        .expect("a subject")
        .split_whitespace()
        .collect();
    assert_eq!(words, ["one", "two", "three"]);
    assert!(
        !message
            .header(HeaderName::Subject)
            .expect("a subject")
            .contains(['\r', '\n'])
    );
    assert_eq!(message.max_forwards(), Ok(Some(70)));
    assert_eq!(message.body(), b"v=0\n");
    let again = Message::read(message.bytes().clone()).expect("the unfolded message");
    assert!(again.all_headers().eq(message.all_headers()));
}

#[test]
fn a_response_gives_its_parts() {
    let text = INVITE.replace(
        "INVITE sip:bob@example.org SIP/2.0",
        "sip/2.0 180 Ring Ring",
    );
    let message = read(&text).expect("a message");
    assert_eq!(
        message.start(),
        Start::Response {
            status: 180,
            reason: "Ring Ring"
        }
    );
    assert!(message.method().is(Method::Invite));
    assert_eq!(message.status(), Some(180));
    assert!(read(&text.replace("180 Ring Ring", "180 ")).is_ok());
    assert!(read(&text.replace("180 Ring Ring", "180")).is_ok());
}

/// What is changed in the message above, and what must come of it.
const MALFORMED: &[(&str, &str, ReadError)] = &[
    ("INVITE sip", "INVITE  sip", ReadError::StartLine),
    ("INVITE sip", " INVITE sip", ReadError::StartLine),
    ("INVITE sip", "INV@TE sip", ReadError::StartLine),
    (
        "sip:bob@example.org SIP",
        "<sip:bob@example.org> SIP",
        ReadError::StartLine,
    ),
    ("sip:bob@example.org SIP", "bob SIP", ReadError::StartLine),
    ("SIP/2.0\r\nVia", "SIP/2.0 \r\nVia", ReadError::StartLine),
    ("SIP/2.0\r\nVia", "HTTP/1.1\r\nVia", ReadError::StartLine),
    ("SIP/2.0\r\nVia", "SIP/7.0\r\nVia", ReadError::Version),
    ("Max-Forwards:", "Max-Forwards", ReadError::HeaderLine),
    ("Max-Forwards:", "Max Forwards:", ReadError::HeaderLine),
    ("Max-Forwards: 70", ": 70", ReadError::HeaderLine),
    ("SIP/2.0\r\nVia", "SIP/2.0\r\n Via", ReadError::HeaderLine),
    (
        "Max-Forwards: 70\r\n",
        "Max-Forwards: 70\n",
        ReadError::ControlCharacter,
    ),
    (
        "Max-Forwards: 70",
        "Max-\rForwards: 70",
        ReadError::ControlCharacter,
    ),
    (
        "Max-Forwards: 70",
        "Subject: a\rb",
        ReadError::ControlCharacter,
    ),
    (
        "Max-Forwards: 70",
        "Subject: a\0b",
        ReadError::ControlCharacter,
    ),
    (
        "Max-Forwards: 70",
        "Subject: a\u{1b}b",
        ReadError::ControlCharacter,
    ),
    (
        "Max-Forwards: 70",
        "Max-Forwards: 70\r\nMax-Forwards: 70",
        ReadError::Duplicate(HeaderName::MaxForwards),
    ),
    (
        "Max-Forwards: 70",
        "l: 4",
        ReadError::Duplicate(HeaderName::ContentLength),
    ),
    (
        "Max-Forwards: 70",
        "Content-Length: 5",
        ReadError::Duplicate(HeaderName::ContentLength),
    ),
    (
        "Max-Forwards: 70",
        "i: other",
        ReadError::Duplicate(HeaderName::CallId),
    ),
    (
        "Max-Forwards: 70",
        "t: <sip:x@y>",
        ReadError::Duplicate(HeaderName::To),
    ),
    (
        "To :",
        "X:",
        ReadError::Header(HeaderError::Missing(HeaderName::To)),
    ),
    (
        "Call-ID:",
        "X:",
        ReadError::Header(HeaderError::Missing(HeaderName::CallId)),
    ),
    (
        "Call-ID: c1@192.0.2.1",
        "Call-ID:",
        header(HeaderName::CallId, SyntaxError::BadCharacter),
    ),
    (
        "c1@192",
        "c1 @192",
        header(HeaderName::CallId, SyntaxError::BadCharacter),
    ),
    ("314159 INVITE", "314159 ACK", ReadError::MethodMismatch),
    ("314159 INVITE", "314159 invite", ReadError::MethodMismatch),
    (
        "314159 INVITE",
        "36893488147419103232 INVITE",
        header(HeaderName::CSeq, SyntaxError::BadNumber),
    ),
    (
        "314159 INVITE",
        "-1 INVITE",
        header(HeaderName::CSeq, SyntaxError::BadNumber),
    ),
    (
        "Content-Length: 4",
        "Content-Length: -4",
        header(HeaderName::ContentLength, SyntaxError::BadNumber),
    ),
    (
        "Content-Length: 4",
        "Content-Length: 4 4",
        header(HeaderName::ContentLength, SyntaxError::BadNumber),
    ),
    (
        "Content-Length: 4",
        "Content-Length: 99999999999",
        header(HeaderName::ContentLength, SyntaxError::BadNumber),
    ),
    (
        "Content-Length: 4",
        "Content-Length: 4294967295",
        ReadError::ShortBody,
    ),
    (
        "Content-Length: 4",
        "Content-Length: 9",
        ReadError::ShortBody,
    ),
    ("\r\n\r\nv=0\nrest", "\r\n", ReadError::NoEmptyLine),
];

const fn header(header: HeaderName, cause: SyntaxError) -> ReadError {
    ReadError::Header(HeaderError::Malformed { header, cause })
}

#[test]
fn malformed_messages_are_refused() {
    for (old, new, error) in MALFORMED {
        assert!(INVITE.contains(old), "{old}");
        let text = INVITE.replacen(old, new, 1);
        assert_eq!(read(&text), Err(*error), "{old} => {new}");
        assert!(matches!(error.status(), 400 | 505), "{error}");
    }
}

#[test]
fn limits_are_kept() {
    let many = "A: b\r\n".repeat(115);
    let with = |extra: &str| INVITE.replace("Max-Forwards: 70\r\n", extra);
    assert_eq!(
        read(&with(&many)).map(|it| it.all_headers().count()),
        Ok(128)
    );
    assert_eq!(
        read(&with(&format!("{many}A: b\r\n"))),
        Err(ReadError::TooManyHeaders)
    );
    let line = |length: usize| with(&format!("A: {}\r\n", "x".repeat(length)));
    assert!(read(&line(8_000)).is_ok());
    assert_eq!(read(&line(9_000)), Err(ReadError::LineTooLong));
    let folded = with(&format!(
        "A: {}\r\n",
        format!("{}\r\n ", "x".repeat(1_000)).repeat(9)
    ));
    assert_eq!(read(&folded), Err(ReadError::LineTooLong));
    let large = format!("{INVITE}{}", "x".repeat(65_536));
    assert_eq!(read(&large).map_err(|error| error.status()), Err(513));
}

#[test]
fn quoted_control_characters_are_text() {
    let text = INVITE.replace("\"Alice\"", "\"A\\\u{0}l\\\u{7}ice\\\u{7f}\"");
    let message = read(&text).expect("RFC 4475 3.1.1.2");
    assert_eq!(
        message.from().expect("a From").display.as_deref(),
        Some("Alice")
    );
    let answer = crate::respond(&message, 200, Some("t"))
        .finish()
        .expect("an answer");
    let answer = Message::read(answer).expect("the answer");
    assert_eq!(
        answer.header(HeaderName::From),
        message.header(HeaderName::From)
    );
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let mut octets = INVITE.as_bytes().to_vec();
    let at = INVITE.find("Alice").expect("a name");
    octets[at] = 0xe9;
    assert_eq!(
        Message::read(octets.clone().into()),
        Err(ReadError::NotUtf8)
    );
    let mut octets = INVITE.as_bytes().to_vec();
    let at = INVITE.find("v=0").expect("a body");
    octets[at] = 0xe9;
    assert!(
        Message::read(octets.into()).is_ok(),
        "a body may be anything"
    );
}

#[test]
fn check_types_what_read_leaves_alone() {
    for (old, new) in [
        (
            "sip:bob@example.org SIP",
            "sip:bob@example.org?Route=%3Csip:x%3E SIP",
        ),
        ("sip:bob@example.org SIP", "sip:bob@exa_mple..org SIP"),
        ("z9hG4bK1,", "z9hG4bK1;;,;,,"),
        ("<sip:bob@example.org>", "\"Bob <sip:bob@example.org>"),
        ("f: \"Alice\"", "f: Bell, Alexander"),
        ("Max-Forwards: 70", "Max-Forwards: 256"),
        ("Max-Forwards: 70", "Expires: 4294967296"),
        (
            "Max-Forwards: 70",
            "Contact: \"Joe\" <sip:joe@example.org>;;;;",
        ),
        ("<sip:p2;lr>", "<sip:p2;lr"),
    ] {
        let message = read(&INVITE.replacen(old, new, 1)).expect(new);
        assert!(message.check().is_err(), "{new}");
    }
}

#[test]
fn a_broken_request_is_read_for_its_answer() {
    let lenient = |text: &str| Message::read_for_error(Bytes::copy_from_slice(text.as_bytes()));
    for (old, new) in [
        ("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"),
        ("sip:bob@example.org SIP", "<sip:bob@example.org> SIP"),
        ("Max-Forwards: 70", "CSeq: 1 ACK"),
        ("Content-Length: 4", "Content-Length: 99"),
        ("314159 INVITE", "314159 OPTIONS"),
    ] {
        let text = INVITE.replacen(old, new, 1);
        assert!(read(&text).is_err(), "{new}");
        let request = lenient(&text).expect(new);
        let answer = crate::respond(&request, 400, Some("t"))
            .finish()
            .expect("an answer");
        assert!(answer.starts_with(b"SIP/2.0 400 Bad Request\r\nVia: SIP/2.0/UDP 192.0.2.1"));
    }
    let ack = INVITE
        .replace("INVITE", "ACK")
        .replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia");
    assert_eq!(lenient(&ack), None, "ACK is never answered");
    assert_eq!(lenient("SIP/2.0 4294967301 x\r\n\r\n"), None);
    assert_eq!(lenient(&INVITE.replace("Call-ID", "X")), None);
}

#[test]
fn empty_lines_before_a_message_are_skipped() {
    let message = read(&format!("\r\n\r\n{INVITE}")).expect("a message");
    assert_eq!(message, invite());
    assert_eq!(read("\r\n\r\n"), Err(ReadError::NoEmptyLine));
    assert_eq!(read(""), Err(ReadError::NoEmptyLine));
}
