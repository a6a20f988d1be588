//! CANCEL, and requests outside dialogs from builder to our own reader.

use proptest::prelude::*;

use super::*;
use crate::uri::Host;
use crate::via::ViaTransport;

#[test]
fn cancel_repeats_what_the_section_names() {
    // RFC 3261 §9.1.
    let expected = "CANCEL sip:bob@biloxi.example;transport=tcp SIP/2.0\r\n\
        Via: SIP/2.0/UDP pc33.atlanta.example;branch=z9hG4bK776asdhds\r\n\
        Route: <sip:p1.example;lr>, <sip:p2.example;lr>\r\n\
        Route: <sip:p3.example;lr>\r\n\
        Max-Forwards: 70\r\n\
        From: Alice <sip:alice@atlanta.example>;tag=1928301774\r\n\
        To: Bob <sip:bob@biloxi.example>\r\n\
        Call-ID: a84b4c76e66710\r\n\
        CSeq: 314159 CANCEL\r\n\
        Content-Length: 0\r\n\r\n";
    let bytes = cancel_of(&invite()).expect("CANCEL");
    assert_eq!(std::str::from_utf8(&bytes).expect("UTF-8"), expected);
}

#[test]
fn cancel_may_say_why() {
    // RFC 3326 §2.
    let reason = "SIP;cause=200;text=\"Call completed elsewhere\"";
    let bytes = cancel_with_reason(&invite(), reason).expect("CANCEL");
    let message = Message::read(bytes).expect("readable");
    assert_eq!(message.header(HeaderName::Reason), Some(reason));
    let refused = cancel_with_reason(&invite(), "SIP\r\nEvil: 1");
    assert!(matches!(
        refused,
        Err(RequestError::Write(WriteError::ControlCharacter(_)))
    ));
}

#[test]
fn register_is_read_back_as_it_was_meant() {
    // RFC 3261 §10.2.
    let parts = Parts::new("sip:[2001:db8::1]:5070;transport=tcp");
    let mut request = parts.originated().register(3_600).expect("built");
    authorize(&mut request, Which::Www, "Digest username=\"a\"");
    authorize(&mut request, Which::Proxy, "Digest username=\"b\"");
    let message = Message::read(to_bytes(&request).expect("written")).expect("readable");
    let expected = "REGISTER sip:[2001:db8::1]:5070;transport=tcp SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx;rport\r\n\
        Route: <sip:edge.example;lr>\r\n\
        Max-Forwards: 70\r\n\
        From: <sip:u@example.org>;tag=t\r\n\
        To: <sip:u@example.org>\r\n\
        Call-ID: c@h\r\n\
        CSeq: 4 REGISTER\r\n\
        Contact: <sip:u@192.0.2.1>\r\n\
        Expires: 3600\r\n\
        Authorization: Digest username=\"a\"\r\n\
        Proxy-Authorization: Digest username=\"b\"\r\n\
        Content-Length: 0\r\n\r\n";
    assert_eq!(
        std::str::from_utf8(message.bytes()).expect("UTF-8"),
        expected
    );
    assert_eq!(message.expires(), Ok(Some(3_600)));
    assert_eq!(message.credential_values(Which::Proxy).count(), 1);
}

#[test]
fn options_and_notify_are_read_back_as_they_were_meant() {
    let parts = Parts::new("sips:u:p@Example.ORG;x;y=1");
    let options = parts.originated().options().expect("built");
    let message = Message::read(to_bytes(&options).expect("written")).expect("readable");
    assert!(message.method().is(Method::Options));
    assert_eq!(message.uri().expect("URI"), parts.uri);
    assert_eq!(message.header(HeaderName::Accept), Some("application/sdp"));

    let body = b"Messages-Waiting: yes\r\n\xff\0";
    let notify = parts.originated().notify(
        "message-summary",
        "active",
        "application/simple-message-summary",
        body,
    );
    let bytes = to_bytes(&notify.expect("built")).expect("written");
    let message = Message::read(bytes).expect("readable");
    assert_eq!(message.header(HeaderName::Event), Some("message-summary"));
    assert_eq!(
        message.header(HeaderName::SubscriptionState),
        Some("active")
    );
    assert_eq!(
        message.content_type(),
        Some("application/simple-message-summary")
    );
    assert_eq!(message.body(), body);
}

#[test]
fn every_known_method_can_be_originated() {
    let parts = Parts::new("sip:u@example.org");
    for method in [
        Method::Message,
        Method::Refer,
        Method::Subscribe,
        Method::Publish,
        Method::Info,
        Method::PRack,
        Method::Update,
        Method::Invite,
    ] {
        let request = parts.originated().request(method).expect("built");
        let message = Message::read(to_bytes(&request).expect("written")).expect("readable");
        assert!(message.method().is(method));
        assert!(message.cseq().expect("CSeq").method.is(method));
    }
}

#[test]
fn only_sip_and_sips_are_originated() {
    for uri in ["tel:+123", "urn:service:sos"] {
        let parts = Parts::new(uri);
        assert_eq!(
            parts.originated().options(),
            Err(RequestError::Scheme),
            "{uri}"
        );
    }
}

#[test]
fn values_cannot_become_fields() {
    // threats.md 10.
    for bad in [
        "a\r\nEvil: 1",
        "a\nEvil: 1",
        "a\rEvil",
        "a\0",
        "\r\n\r\nbody",
    ] {
        let mut parts = Parts::new("sip:u@example.org");
        parts.call_id = bad.to_owned();
        let request = parts.originated().options().expect("built");
        assert_eq!(
            to_bytes(&request),
            Err(RequestError::ControlCharacter),
            "{bad:?}"
        );
        let mut request = Parts::new("sip:u@example.org")
            .originated()
            .options()
            .expect("built");
        request
            .headers
            .push(rsip::Header::Other(bad.to_owned(), "x".to_owned()));
        assert_eq!(
            to_bytes(&request),
            Err(RequestError::ControlCharacter),
            "{bad:?}"
        );
    }
}

#[test]
fn content_length_is_ours() {
    // threats.md 9: a builder's wrong length would desynchronise a stream.
    let mut request = Parts::new("sip:u@example.org")
        .originated()
        .options()
        .expect("built");
    request
        .headers
        .push(fields::ContentLength::from("999").into());
    set_body(&mut request, "text/plain", b"four");
    let message = Message::read(to_bytes(&request).expect("written")).expect("readable");
    let lengths: Vec<&str> = message.headers(HeaderName::ContentLength).collect();
    assert_eq!((lengths, message.body()), (vec!["4"], b"four".as_slice()));
}

proptest! {
    #[test]
    fn whatever_is_written_reads_back(
        call_id in "\\PC{0,20}",
        event in any::<String>(),
        kind in "\\PC{0,20}",
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut parts = Parts::new("sip:u@example.org");
        parts.call_id = call_id;
        let request = parts.originated().notify(&event, "active", &kind, &body).expect("built");
        if let Ok(bytes) = to_bytes(&request) {
            let message = Message::read(bytes).expect("to_bytes has read it");
            prop_assert_eq!(message.body(), &body[..]);
            prop_assert!(message.method().is(Method::Notify));
            prop_assert_eq!(message.header(HeaderName::SubscriptionState), Some("active"));
        }
    }
}

/// What an `Originated` borrows.
struct Parts {
    uri: Uri,
    via: Via,
    from: NameAddr,
    to: NameAddr,
    call_id: String,
    routes: Vec<Uri>,
    contact: NameAddr,
}

impl Parts {
    fn new(uri: &str) -> Self {
        let host = Host::V4([192, 0, 2, 1].into());
        Self {
            uri: uri.parse().expect("URI"),
            via: Via::new(ViaTransport::Udp, host, Some(5060), "z9hG4bKx"),
            from: "<sip:u@example.org>;tag=t".parse().expect("From"),
            to: "<sip:u@example.org>".parse().expect("To"),
            call_id: "c@h".to_owned(),
            routes: vec!["sip:edge.example;lr".parse().expect("route")],
            contact: "<sip:u@192.0.2.1>".parse().expect("contact"),
        }
    }

    fn originated(&self) -> Originated<'_> {
        Originated {
            uri: &self.uri,
            via: &self.via,
            from: &self.from,
            to: &self.to,
            call_id: &self.call_id,
            cseq: 4,
            routes: &self.routes,
            contact: Some(&self.contact),
        }
    }
}

fn invite() -> Message {
    Message::read(Bytes::from_static(
        b"INVITE sip:bob@biloxi.example;transport=tcp SIP/2.0\r\n\
          Via: SIP/2.0/UDP pc33.atlanta.example;branch=z9hG4bK776asdhds\r\n\
          Route: <sip:p1.example;lr>, <sip:p2.example;lr>\r\n\
          Route: <sip:p3.example;lr>\r\n\
          Max-Forwards: 70\r\n\
          Require: 100rel\r\n\
          Proxy-Require: x\r\n\
          From: Alice <sip:alice@atlanta.example>;tag=1928301774\r\n\
          To: Bob <sip:bob@biloxi.example>\r\n\
          Call-ID: a84b4c76e66710\r\n\
          CSeq: 314159 INVITE\r\n\
          Contact: <sip:alice@pc33.atlanta.example>\r\n\
          Content-Length: 0\r\n\r\n",
    ))
    .expect("valid SIP")
}
