//! What `headers` promises, by example.

use crate::headers::{Contact, NameAddr};
use crate::{CSeq, Contacts, HeaderName, Message, SyntaxError, Via, ViaTransport};

fn name(text: &str) -> NameAddr {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn request(extra: &str) -> Message {
    let text = format!(
        "REGISTER sip:b SIP/2.0\r\nVia: SIP/2.0/UDP b\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n\
         Call-ID: 1\r\nCSeq: 1 REGISTER\r\n{extra}\r\n"
    );
    Message::read(text.into()).expect("a message")
}

#[test]
fn names_are_found_in_every_spelling() {
    for (text, wanted) in [
        ("Via", HeaderName::Via),
        ("v", HeaderName::Via),
        ("V", HeaderName::Via),
        ("cAlL-iD", HeaderName::CallId),
        ("i", HeaderName::CallId),
        ("l", HeaderName::ContentLength),
        ("CONTENT-LENGTH", HeaderName::ContentLength),
        ("x", HeaderName::SessionExpires),
        ("p-asserted-identity", HeaderName::PAssertedIdentity),
        ("X-Own", HeaderName::Other),
        ("z", HeaderName::Other),
        ("", HeaderName::Other),
        ("Viaa", HeaderName::Other),
        (
            "a-name-that-is-longer-than-any-in-the-table",
            HeaderName::Other,
        ),
    ] {
        assert_eq!(HeaderName::of(text.as_bytes()), wanted, "{text}");
    }
    assert_eq!(HeaderName::ReferTo.compact(), Some('r'));
    assert_eq!(HeaderName::Route.compact(), None);
}

#[test]
fn parameters_outside_brackets_belong_to_the_field() {
    let bare = name("sip:a@b;tag=1");
    assert_eq!(
        (bare.tag(), bare.uri.params().is_empty()),
        (Some("1"), true)
    );
    let angled = name("<sip:a@b;tag=1>");
    assert_eq!(
        (angled.tag(), angled.uri.params().value("tag")),
        (None, Some("1"))
    );
}

#[test]
fn display_names_are_unquoted_and_written_quoted() {
    let value = name("\"A \\\"B\\\" \\\\ \u{e9}\" <sip:a@b>;tag=x");
    assert_eq!(value.display.as_deref(), Some("A \"B\" \\ \u{e9}"));
    assert_eq!(name(&value.to_string()), value);
    assert_eq!(
        name("Mr. Watson <sip:a@b>").display.as_deref(),
        Some("Mr. Watson")
    );
    assert_eq!(name("\"\"<sip:a@b>").display, None);
    assert_eq!(
        name("\"a\\\u{7}b\" <sip:a@b>").display.as_deref(),
        Some("ab")
    );
}

#[test]
fn malformed_values_are_refused() {
    for text in [
        "",
        "<>",
        "<sip:a@b",
        "\"x <sip:a@b>",
        "Bell, A <sip:a@b>",
        "< sip:a@b >",
        "<sip:a@b>;;",
        "<sip:a@b>;",
        "<sip:a@b>;=x",
        "<sip:a@b>;tag=",
        "<sip:a@b> x",
        "\"a\"",
        "sip:a@b x",
        "a",
        "<sip:a@b>,<sip:c@d>",
    ] {
        assert!(text.parse::<NameAddr>().is_err(), "{text}");
    }
}

#[test]
fn contacts_are_typed() {
    let message = request(
        "Contact: \"x, y\" <sip:a@b;ob>;q=0.75;expires=60;+sip.instance=\"<urn:uuid:1>\"\
         ;reg-id=2\r\n\
         m: sip:c@d;q=1.000, <sips:e@f>\r\n",
    );
    let Ok(Contacts::List(list)) = message.contacts() else {
        panic!("a list")
    };
    assert_eq!(list.len(), 3);
    let first = &list[0];
    assert_eq!(
        (first.q, first.expires, first.reg_id),
        (Some(750), Some(60), Some(2))
    );
    assert_eq!(first.instance.as_deref(), Some("<urn:uuid:1>"));
    assert_eq!((list[1].q, list[2].q), (Some(1000), None));
    assert_eq!(request("Contact: *\r\n").contacts(), Ok(Contacts::Star));
    assert_eq!(request("").contacts(), Ok(Contacts::List(Vec::new())));
    for bad in [
        "*, <sip:a@b>",
        "<sip:a@b>;q=1.1",
        "<sip:a@b>;q=0.1234",
        "<sip:a@b>;expires=-1",
        "",
    ] {
        assert!(
            request(&format!("Contact: {bad}\r\n")).contacts().is_err(),
            "{bad}"
        );
    }
    let overflow = Contact::of(name("<sip:a@b>;expires=4294967296"));
    assert_eq!(overflow, Err(SyntaxError::BadNumber));
}

#[test]
fn cseq_is_a_number_below_two_to_the_31_and_a_method() {
    let cseq: CSeq = "2147483647 \t INVITE".parse().expect("a CSeq");
    assert_eq!(cseq.to_string(), "2147483647 INVITE");
    assert!(cseq.method.is(rsip::Method::Invite));
    assert!(
        "1 invite"
            .parse::<CSeq>()
            .is_ok_and(|it| !it.method.is(rsip::Method::Invite))
    );
    for bad in [
        "",
        "1",
        "INVITE",
        "-1 INVITE",
        "2147483648 INVITE",
        "1INVITE",
        "1 INVITE x",
        "1 I@",
    ] {
        assert!(bad.parse::<CSeq>().is_err(), "{bad}");
    }
}

#[test]
fn vias_are_typed() {
    let via: Via = "SIP / 2.0 / udp [2001:db8::9] : 5070 ; branch=z9hG4bK1;rport ;\
                    received=192.0.2.1;maddr=224.2.0.1;ttl=16"
        .parse()
        .expect("a Via");
    assert_eq!(via.transport, ViaTransport::Udp);
    assert_eq!(via.sent_by(), "[2001:db8::9]:5070");
    assert_eq!((via.branch(), via.rport()), (Some("z9hG4bK1"), Some(None)));
    assert_eq!(
        (via.received().map(|it| it.is_ipv4()), via.ttl()),
        (Some(true), Some(16))
    );
    assert!(via.maddr().is_some());
    let wss: Via = "SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9"
        .parse()
        .expect("RFC 7118");
    assert_eq!(
        (wss.sent_by().as_str(), wss.rport()),
        ("df7jal23ls0d.invalid:443", None)
    );
    let both = "SIP/2.0/TCP h;received=[2001:db8::1]"
        .parse::<Via>()
        .expect("RFC 5118 4.5");
    assert!(both.received().is_some_and(|it| it.is_ipv6()));
    for bad in [
        "",
        "SIP/2.0/UDP",
        "SIP/2.0 h",
        "SIP/2.0/UDP h;",
        "SIP/2.0/UDP h:0",
        "SIP/2.0/UDP ::1",
    ] {
        assert!(bad.parse::<Via>().is_err(), "{bad}");
    }
}
