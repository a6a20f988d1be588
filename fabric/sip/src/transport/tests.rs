//! What `transport` promises, by example.

use std::net::SocketAddr;

use super::HopError;
use crate::{
    HeaderName, Message, Via, decrement_max_forwards, is_loop, response_target, stamp_via,
};

fn request(via: &str, extra: &str) -> Message {
    let text = format!(
        "OPTIONS sip:a@b SIP/2.0\r\n{extra}Via: {via}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n\
         Call-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 2\r\n\r\nhi"
    );
    Message::read(text.into()).expect("a request")
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Via as sent, source, Via as stamped, where the answer goes.
const TABLE: &[(&str, &str, &str, &str)] = &[
    (
        "SIP/2.0/UDP 192.0.2.1;branch=z",
        "192.0.2.1:9999",
        "SIP/2.0/UDP 192.0.2.1;branch=z",
        "192.0.2.1:5060",
    ),
    (
        "SIP/2.0/UDP 10.1.1.1:4540;rport;branch=z",
        "192.0.2.1:9988",
        "SIP/2.0/UDP 10.1.1.1:4540;rport=9988;branch=z;received=192.0.2.1",
        "192.0.2.1:9988",
    ),
    (
        "SIP/2.0/UDP bobspc.example.org:5070;branch=z",
        "192.0.2.4:1234",
        "SIP/2.0/UDP bobspc.example.org:5070;branch=z;received=192.0.2.4",
        "192.0.2.4:5070",
    ),
    (
        "SIP/2.0/UDP 192.0.2.1;received=198.51.100.7;branch=z",
        "192.0.2.1:5060",
        "SIP/2.0/UDP 192.0.2.1;branch=z",
        "192.0.2.1:5060",
    ),
    (
        "SIP/2.0/UDP 192.0.2.1;rport=1;received=198.51.100.7",
        "192.0.2.1:5060",
        "SIP/2.0/UDP 192.0.2.1;rport=5060;received=192.0.2.1",
        "192.0.2.1:5060",
    ),
    (
        "SIP/2.0/UDP [2001:db8::1]:5080;rport",
        "[2001:db8::9]:7000",
        "SIP/2.0/UDP [2001:db8::1]:5080;rport=7000;received=2001:db8::9",
        "[2001:db8::9]:7000",
    ),
    (
        "SIP/2.0/TLS h",
        "192.0.2.1:40000",
        "SIP/2.0/TLS h;received=192.0.2.1",
        "192.0.2.1:5061",
    ),
];

#[test]
fn the_source_is_stamped_and_the_answer_goes_there() {
    for (sent, source, stamped, target) in TABLE {
        let message = stamp_via(&request(sent, "Subject: x\r\n"), address(source));
        assert_eq!(message.header(HeaderName::Via), Some(*stamped), "{sent}");
        assert_eq!(message.header(HeaderName::CallId), Some("1"));
        assert_eq!(message.body(), b"hi");
        let via = message.via().expect("a Via");
        assert_eq!(
            response_target(&via, address(source)),
            address(target),
            "{sent}"
        );
        let again = Message::read(message.bytes().clone()).expect("a message");
        assert!(again.all_headers().eq(message.all_headers()));
    }
}

#[test]
fn only_the_first_value_of_a_list_is_stamped() {
    let message = request("SIP/2.0/UDP h;rport , SIP/2.0/UDP g;rport", "");
    let stamped = stamp_via(&message, address("192.0.2.1:7"));
    let vias: Vec<&str> = stamped.vias().collect();
    assert_eq!(
        vias,
        [
            "SIP/2.0/UDP h;rport=7;received=192.0.2.1",
            "SIP/2.0/UDP g;rport"
        ]
    );
}

#[test]
fn response_never_goes_to_a_foreign_maddr() {
    let via: Via = "SIP/2.0/UDP 192.0.2.1;maddr=198.51.100.9"
        .parse()
        .expect("a Via");
    assert_eq!(
        response_target(&via, address("192.0.2.1:5060")),
        address("192.0.2.1:5060")
    );
}

#[test]
fn hops_are_counted_down() {
    let hops = |extra: &str| decrement_max_forwards(&request("SIP/2.0/UDP h", extra));
    assert_eq!(hops(""), Ok(70));
    assert_eq!(hops("Max-Forwards: 255\r\n"), Ok(254));
    assert_eq!(hops("Max-Forwards: 1\r\n"), Ok(0));
    assert_eq!(hops("Max-Forwards: 0\r\n"), Err(HopError::NoneLeft));
    assert_eq!(
        hops("Max-Forwards: 256\r\n").map_err(|error| error.status()),
        Err(400)
    );
    assert_eq!(HopError::NoneLeft.status(), 483);
}

#[test]
fn a_via_of_ours_is_a_loop() {
    let is_ours = |via: &Via| via.sent_by() == "ours:5060";
    assert!(!is_loop(
        &request("SIP/2.0/UDP h, SIP/2.0/UDP g", ""),
        is_ours
    ));
    assert!(is_loop(
        &request("SIP/2.0/UDP h, SIP/2.0/UDP OURS", ""),
        is_ours
    ));
    assert!(is_loop(&request("SIP/2.0/UDP ours;branch=x", ""), is_ours));
}
