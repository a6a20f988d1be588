//! Random octets and damaged messages: never a panic, and cutting never matters.

use bytes::Bytes;
use proptest::prelude::*;
use sip::{Framer, Message, NameAddr, Uri, Via, lane_key};

const INVITE: &str = "INVITE sip:bob@biloxi.example.com;transport=tcp SIP/2.0\r\n\
    Via: SIP/2.0/TCP client.atlanta.example.com:5060 ;branch=z9hG4bK74bf9;rport,\
    SIP/2.0/UDP [::1]\r\n\
    v: SIP/2.0/UDP 192.0.2.4;received=192.0.2.9\r\nMax-Forwards: 70\r\n\
    From: \"Alice \\\"A\\\"\" <sip:alice@atlanta.example.com>;tag=9fxced76sl\r\n\
    To: Bob <sip:bob@biloxi.example.com>\r\nCall-ID: 3848276298220188511@atlanta.example.com\r\n\
    CSeq: 1 INVITE\r\n\
    Contact: <sip:alice@client.atlanta.example.com;transport=tcp>;q=0.5,\r\n <tel:+1>\r\n\
    Route: <sip:p1.example.com;lr>\r\nContent-Type: application/sdp\r\nContent-Length: 4\r\n\r\n\
    v=0\n";

fn exercise(octets: &[u8]) {
    let _ = lane_key(octets);
    let bytes = Bytes::copy_from_slice(octets);
    if let Some(request) = Message::read_for_error(bytes.clone()) {
        let _ = sip::respond(&request, 400, Some("t")).finish();
    }
    let Ok(message) = Message::read(bytes) else {
        return;
    };
    let _ = (
        message.check(),
        message.contacts(),
        message.routes(),
        message.vias().count(),
    );
    let stamped = sip::stamp_via(&message, ([192, 0, 2, 1], 9).into());
    let again = Message::read(stamped.bytes().clone()).expect("a stamped message reads");
    assert_eq!(again.body(), message.body());
    for (one, two) in stamped.all_headers().zip(again.all_headers()) {
        assert_eq!(one, two);
    }
}

fn frames(pieces: &[&[u8]]) -> Vec<String> {
    let mut framer = Framer::new();
    let mut list = Vec::new();
    for piece in pieces {
        framer.push(piece);
        while let Some(step) = framer.next() {
            list.push(format!("{step:?}"));
        }
    }
    list
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_octets_do_not_panic(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
        exercise(&octets);
        let _ = frames(&[&octets]);
    }

    #[test]
    fn damaged_messages_do_not_panic(
        edits in proptest::collection::vec(
            (any::<prop::sample::Index>(), any::<u8>(), 0_u8..3),
            1..8,
        ),
    ) {
        let mut octets = INVITE.as_bytes().to_vec();
        for (index, octet, kind) in edits {
            let at = index.index(octets.len());
            match kind {
                0 => octets[at] = octet,
                1 => octets.insert(at, octet),
                _ => { octets.remove(at); }
            }
        }
        exercise(&octets);
        let cut = octets.len() / 3;
        prop_assert_eq!(frames(&[&octets]), frames(&[&octets[..cut], &octets[cut..]]));
    }

    #[test]
    fn values_that_read_are_written_and_read_equal(text in "[ -~]{0,40}") {
        for prefix in ["", "sip:", "sip:a@", "tel:"] {
            let uri = format!("{prefix}{text}");
            if let Ok(uri) = uri.parse::<Uri>() {
                prop_assert_eq!(uri.to_string().parse::<Uri>().expect("written"), uri);
            }
        }
        if let Ok(value) = format!("\"{text}\" <sip:a>;{text}").parse::<NameAddr>() {
            prop_assert_eq!(value.to_string().parse::<NameAddr>().expect("written"), value);
        }
        if let Ok(via) = format!("SIP/2.0/UDP a;{text}").parse::<Via>() {
            prop_assert_eq!(via.to_string().parse::<Via>().expect("written"), via);
        }
    }
}

#[test]
fn the_undamaged_message_is_accepted() {
    let message = Message::read(Bytes::from_static(INVITE.as_bytes())).expect("a message");
    message.check().expect("well-formed fields");
    assert_eq!(message.vias().count(), 3);
    assert_eq!(message.body(), b"v=0\n");
}
