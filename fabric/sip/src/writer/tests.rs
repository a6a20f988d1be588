//! What `writer` promises, by example.

use crate::{HeaderName, Message, MethodOwned, WriteError, Writer, respond};

const REQUEST: &str = "INVITE sip:bob@example.org SIP/2.0\r\n\
    Via: SIP/2.0/UDP h;branch=z9hG4bK1;rport\r\nVia: SIP/2.0/UDP g\r\nMax-Forwards: 70\r\n\
    Record-Route: <sip:p1;lr>\r\nRecord-Route: <sip:p2;lr>\r\nTimestamp: 54\r\n\
    From: Alice <sip:alice@example.org>;tag=a\r\nTo: sip:bob@example.org\r\nCall-ID: c1\r\n\
    CSeq: 7 INVITE\r\nContent-Length: 0\r\n\r\n";

fn answer(request: &str, status: u16, tag: Option<&str>) -> String {
    let request = Message::read(request.to_owned().into()).expect("a request");
    let octets = respond(&request, status, tag).finish().expect("an answer");
    String::from_utf8(octets.to_vec()).expect("text")
}

#[test]
fn an_answer_repeats_what_it_must() {
    assert_eq!(
        answer(REQUEST, 180, Some("b")),
        "SIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1;rport\r\nVia: SIP/2.0/UDP g\r\n\
         Record-Route: <sip:p1;lr>\r\nRecord-Route: <sip:p2;lr>\r\n\
         From: Alice <sip:alice@example.org>;tag=a\r\nTo: sip:bob@example.org;tag=b\r\n\
         Call-ID: c1\r\nCSeq: 7 INVITE\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn trying_has_the_timestamp_and_no_tag() {
    let text = answer(REQUEST, 100, Some("b"));
    assert!(
        text.contains("\r\nTimestamp: 54\r\n") && text.contains("\r\nTo: sip:bob@example.org\r\n")
    );
    assert!(!text.contains("Record-Route"));
}

#[test]
fn a_tag_that_is_there_stays() {
    let request = REQUEST.replace(
        "To: sip:bob@example.org",
        "To: <sip:bob@example.org>;tag=old",
    );
    assert!(
        answer(&request, 200, Some("new")).contains("\r\nTo: <sip:bob@example.org>;tag=old\r\n")
    );
}

#[test]
fn a_final_failure_and_other_methods_have_no_record_route() {
    assert!(!answer(REQUEST, 486, Some("b")).contains("Record-Route"));
    assert!(
        !answer(&REQUEST.replace("INVITE", "OPTIONS"), 200, Some("b")).contains("Record-Route")
    );
}

#[test]
fn a_tag_that_is_no_token_is_refused() {
    let request = Message::read(REQUEST.to_owned().into()).expect("a request");
    assert!(respond(&request, 200, Some("b;x=\"y")).finish().is_err());
}

#[test]
fn a_request_reads_back() {
    let uri = "sip:a@example.org;transport=tcp".parse().expect("a URI");
    let octets = Writer::request(&MethodOwned::Known(rsip::Method::Message), &uri)
        .header(HeaderName::Via, "SIP/2.0/TCP h;branch=z9hG4bK1")
        .header(HeaderName::From, "<sip:b@example.org>;tag=1")
        .header(HeaderName::To, "<sip:a@example.org>")
        .header(HeaderName::CallId, "1")
        .header(HeaderName::CSeq, "1 MESSAGE")
        .header(HeaderName::MaxForwards, 70)
        .other("X-Own", "z\u{e4}")
        .body("text/plain", b"hi\r\n\0")
        .finish()
        .expect("a request");
    let message = Message::read(octets).expect("what we write, we read");
    assert_eq!(message.check(), Ok(()));
    assert_eq!(
        (message.body(), message.content_type()),
        (&b"hi\r\n\0"[..], Some("text/plain"))
    );
    assert_eq!(message.other("x-own"), Some("z\u{e4}"));
}

#[test]
fn what_the_writer_owns_is_refused() {
    let mut writer = Writer::response(200, None);
    let error = writer.header(HeaderName::ContentLength, 5).finish();
    assert_eq!(
        error,
        Err(WriteError::OwnField("Content-Length".to_owned()))
    );
    assert!(
        Writer::response(200, None)
            .other("l", "5")
            .finish()
            .is_err()
    );
    assert!(
        Writer::response(200, None)
            .header(HeaderName::Other, "x")
            .finish()
            .is_err()
    );
    assert_eq!(
        Writer::response(700, None).finish(),
        Err(WriteError::BadStatus(700))
    );
    let large = Writer::response(200, None)
        .body("text/plain", &[b'x'; 70_000])
        .finish();
    assert_eq!(large, Err(WriteError::TooLarge));
}

#[test]
fn phrases_are_the_usual_ones() {
    assert_eq!(
        (crate::reason(404), crate::reason(499)),
        ("Not Found", "Bad Request")
    );
    assert_eq!(
        (crate::reason(199), crate::reason(699)),
        ("Early Dialog Terminated", "Busy Everywhere")
    );
}
