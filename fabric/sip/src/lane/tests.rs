//! What `lane` promises, by example.

use crate::{LaneKey, lane_key};

#[test]
fn requests_are_keyed_by_branch_and_sent_by() {
    let text =
        b"INVITE sip:a@b SIP/2.0\r\nSubject: via\r\n x\r\nv :\r\n SIP / 2.0 / UDP \r\n h : 5070 ;\
                 rport; branch = z9hG4bK1 ,SIP/2.0/UDP g;branch=0\r\n\r\n";
    let key = lane_key(text);
    assert!(
        matches!(
            key,
            Some(LaneKey::Request {
                branch: "z9hG4bK1",
                sent_by: "h : 5070"
            })
        ),
        "{key:?}"
    );
    let text = b"\r\n\r\nACK sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP [::1]:5;branch=z9\r\n\r\n";
    assert_eq!(
        lane_key(text),
        Some(LaneKey::Request {
            branch: "z9",
            sent_by: "[::1]:5"
        })
    );
}

#[test]
fn responses_are_keyed_by_our_branch() {
    let text = b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\r\n";
    assert_eq!(
        lane_key(text),
        Some(LaneKey::Response { branch: "z9hG4bK1" })
    );
    assert_eq!(
        lane_key(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h\r\n\r\n"),
        None
    );
}

#[test]
fn old_peers_are_keyed_by_call_id() {
    let text = b"BYE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h\r\ni: c@h\r\n\r\n";
    assert_eq!(lane_key(text), Some(LaneKey::Legacy { call_id: "c@h" }));
}

#[test]
fn what_is_no_message_has_no_key() {
    for text in [
        &b""[..],
        b"\r\n\r\n",
        b"x",
        b"INVITE",
        b"INVITE a b\r\n",
        b"A b c\r\n\r\nVia: SIP/2.0/UDP h\r\n",
        b"A b c\r\nVia: x\r\n\r\n",
    ] {
        assert_eq!(lane_key(text), None, "{}", String::from_utf8_lossy(text));
    }
}
