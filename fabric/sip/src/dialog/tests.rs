//! Dialogs as RFC 3261 §12 tells: creation on both sides, routing, order, reserves.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::header::HeaderName;

const ROUTES: &str = "Record-Route: <sip:p2.example;lr>, <sip:p1.example;lr>\r\n";

#[test]
fn server_side_takes_routes_in_order() {
    // RFC 3261 §12.1.1.
    let dialog = DialogState::of_server(&invite(ROUTES), "ours").expect("dialog");
    assert_eq!(dialog.call_id, "a84b4c76e66710");
    assert_eq!(dialog.local.tag(), Some("ours"));
    assert_eq!(dialog.remote.tag(), Some("1928301774"));
    assert_eq!(
        dialog.remote_target.to_string(),
        "sip:alice@pc33.atlanta.example"
    );
    assert_eq!(
        texts(&dialog.route_set),
        ["sip:p2.example;lr", "sip:p1.example;lr"]
    );
    assert_eq!((dialog.local_cseq, dialog.remote_cseq), (0, Some(314_159)));
    assert!(!dialog.secure);
}

#[test]
fn client_side_takes_routes_in_reverse() {
    // RFC 3261 §12.1.2.
    let dialog = client(ROUTES);
    assert_eq!(dialog.local.tag(), Some("1928301774"));
    assert_eq!(dialog.remote.tag(), Some("a6c85cf"));
    assert_eq!(dialog.remote_target.to_string(), "sip:bob@192.0.2.4");
    assert_eq!(
        texts(&dialog.route_set),
        ["sip:p1.example;lr", "sip:p2.example;lr"]
    );
    assert_eq!((dialog.local_cseq, dialog.remote_cseq), (314_159, None));
}

#[test]
fn both_sides_of_one_call_match_each_others_requests() {
    let mut server = DialogState::of_server(&invite(""), "a6c85cf").expect("dialog");
    let mut client = client("");
    let from_client = read(client.request(Method::Bye, 314_160, VIA, None));
    let from_server = read(server.request(Method::Bye, 1, VIA, None));
    assert_eq!(server.accept_request(&from_client), Ok(()));
    assert_eq!(client.accept_request(&from_server), Ok(()));
    assert!(!server.matches(&from_server));
    assert_eq!(
        client.accept_request(&from_client),
        Err(DialogRefusal::NoDialog)
    );
}

#[test]
fn secure_needs_sips_and_a_protected_transport() {
    // RFC 3261 §12.1.1.
    let rows = [
        ("sip:bob", "UDP", false),
        ("sips:bob", "UDP", false),
        ("sip:bob", "TLS", false),
        ("sips:bob", "TLS", true),
        ("sips:bob", "WSS", true),
    ];
    for (user, transport, is_secure) in rows {
        let text = text_of(&invite(""))
            .replacen("sip:bob", user, 1)
            .replace("UDP", transport);
        let dialog = DialogState::of_server(&parse(&text), "t").expect("dialog");
        assert_eq!(dialog.secure, is_secure, "{user} {transport}");
    }
}

#[test]
fn messages_without_a_usable_contact_make_no_dialog() {
    let without = text_of(&invite("")).replace("Contact: <sip:alice@pc33.atlanta.example>\r\n", "");
    let refused = DialogState::of_server(&parse(&without), "t").expect_err("no contact");
    assert_eq!((refused, refused.status()), (DialogError::NoContact, 400));
    let star = text_of(&invite("")).replace("<sip:alice@pc33.atlanta.example>", "*");
    assert_eq!(
        DialogState::of_server(&parse(&star), "t"),
        Err(DialogError::NoContact)
    );
    let bad = text_of(&invite("")).replace("<sip:alice@pc33.atlanta.example>", "<sip:>");
    let refused = DialogState::of_server(&parse(&bad), "t").expect_err("bad contact");
    assert_eq!(refused.status(), 400);
    let many = format!(
        "Record-Route: <sip:p.example;lr>{}\r\n",
        ", <sip:p.example;lr>".repeat(32)
    );
    let refused = DialogState::of_server(&parse(&text_of(&invite(&many))), "t").expect_err("many");
    assert_eq!(
        (refused, refused.status()),
        (DialogError::TooManyRoutes, 513)
    );
}

#[test]
fn requests_follow_loose_and_strict_routes() {
    // RFC 3261 §12.2.1.1.
    let target = "sip:bob@192.0.2.4";
    let rows: &[(&str, &str, &[&str], &str)] = &[
        ("", target, &[], "192.0.2.4"),
        (
            "<sip:p1.example;lr>",
            target,
            &["<sip:p1.example;lr>"],
            "p1.example",
        ),
        (
            "<sip:p2.example;lr>, <sip:p1.example;lr;x=1>",
            target,
            &["<sip:p1.example;lr;x=1>", "<sip:p2.example;lr>"],
            "p1.example",
        ),
        (
            "<sip:p1.example>",
            "sip:p1.example",
            &["<sip:bob@192.0.2.4>"],
            "p1.example",
        ),
        (
            "<sip:p2.example;lr>, <sip:p1.example;method=INVITE>",
            "sip:p1.example",
            &["<sip:p2.example;lr>", "<sip:bob@192.0.2.4>"],
            "p1.example",
        ),
        (
            "<sip:p2.example>, <sip:p1.example;lr>",
            target,
            &["<sip:p1.example;lr>", "<sip:p2.example>"],
            "p1.example",
        ),
    ];
    for (routes, uri, expected, hop) in rows {
        let field = if routes.is_empty() {
            String::new()
        } else {
            format!("Record-Route: {routes}\r\n")
        };
        let dialog = client(&field);
        let message = read(dialog.request(Method::Bye, 7, VIA, None));
        assert_eq!(message.uri().expect("URI").to_string(), *uri, "{routes}");
        let sent: Vec<&str> = message.headers(HeaderName::Route).collect();
        assert_eq!(sent, *expected, "{routes}");
        assert_eq!(
            dialog.next_hop().expect("hop").host.to_string(),
            *hop,
            "{routes}"
        );
    }
}

#[test]
fn requests_have_the_fields_the_section_names() {
    let message = read(client("").request(Method::Invite, 7, VIA, Some("<sip:alice@here>")));
    let expected = "INVITE sip:bob@192.0.2.4 SIP/2.0\r\n\
        Via: SIP/2.0/UDP us.example;branch=z9hG4bKnew\r\n\
        Max-Forwards: 70\r\n\
        From: \"Alice\" <sip:alice@atlanta.example>;tag=1928301774\r\n\
        To: \"Bob\" <sip:bob@biloxi.example>;tag=a6c85cf\r\n\
        Call-ID: a84b4c76e66710\r\n\
        CSeq: 7 INVITE\r\n\
        Contact: <sip:alice@here>\r\n\
        Content-Length: 0\r\n\r\n";
    assert_eq!(text_of(&message), expected);
    let mut refused = client("").request(Method::Bye, 7, "x\r\nEvil: 1", None);
    assert!(refused.finish().is_err());
}

#[test]
fn ack_of_2xx_has_number_and_credentials_of_its_invite() {
    // RFC 3261 §13.2.2.4, §22.1.
    let invite = parse(&text_of(&invite("")).replace(
        "CSeq: 314159 INVITE\r\n",
        "CSeq: 314159 INVITE\r\nProxy-Authorization: Digest a=1\r\nAuthorization: Digest b=2\r\n",
    ));
    let dialog = client(ROUTES);
    let message = read(dialog.ack(&invite, VIA).expect("ACK"));
    assert!(message.method().is(Method::Ack));
    assert_eq!(message.cseq().expect("CSeq").to_string(), "314159 ACK");
    assert_eq!(
        message.header(HeaderName::ProxyAuthorization),
        Some("Digest a=1")
    );
    assert_eq!(
        message.header(HeaderName::Authorization),
        Some("Digest b=2")
    );
    assert_eq!(message.header(HeaderName::Via), Some(VIA));
    assert_eq!(message.routes().expect("routes").len(), 2);
}

#[test]
fn lower_cseq_is_out_of_order() {
    // RFC 3261 §12.2.2.
    let mut dialog = DialogState::of_server(&invite(""), "a6c85cf").expect("dialog");
    let refused = DialogRefusal::OutOfOrder;
    assert_eq!(refused.status(), 500);
    let rows = [
        (314_160, Ok(())),
        (314_159, Err(refused)),
        (314_160, Ok(())),
        (400_000, Ok(())),
        (0, Err(refused)),
    ];
    for (number, expected) in rows {
        let message = read(client("").request(Method::Info, number, VIA, None));
        assert_eq!(dialog.accept_request(&message), expected, "{number}");
    }
    assert_eq!(dialog.remote_cseq, Some(400_000));
}

#[test]
fn requests_with_other_ids_belong_to_no_dialog() {
    // RFC 3261 §12.2.2; threats.md 24.
    let mut dialog = DialogState::of_server(&invite(""), "a6c85cf").expect("dialog");
    let good = text_of(&read(client("").request(Method::Bye, 400_000, VIA, None)));
    let rows = [
        ("a84b4c76e66710", "A84b4c76e66710"),
        ("tag=1928301774", "tag=1928301775"),
        (";tag=1928301774", ""),
        ("tag=a6c85cf", "tag=A6c85cf"),
        (";tag=a6c85cf", ""),
    ];
    for (from, to) in rows {
        let message = parse(&good.replace(from, to));
        let refused = dialog.accept_request(&message).expect_err(to);
        assert_eq!(
            (refused, refused.status()),
            (DialogRefusal::NoDialog, 481),
            "{from} → {to}"
        );
    }
    assert_eq!(dialog.remote_cseq, Some(314_159));
}

#[test]
fn target_follows_refreshing_messages_only() {
    // RFC 3261 §12.2.1.2, §12.2.2.
    let new = Some("<sip:new@192.0.2.9>");
    let base = client("");
    let request = |method| read(base.request(method, 9, VIA, new));
    let response = |status: u16, method: &str| {
        let text = text_of(&answer("")).replace("200 OK", &format!("{status} Text"));
        parse(
            &text
                .replace("INVITE", method)
                .replace("sip:bob@192.0.2.4", "sip:new@192.0.2.9"),
        )
    };
    let rows = [
        ("re-INVITE", request(Method::Invite), true),
        ("UPDATE", request(Method::Update), true),
        ("NOTIFY", request(Method::Notify), true),
        ("INFO", request(Method::Info), false),
        ("BYE", request(Method::Bye), false),
        ("MESSAGE", request(Method::Message), false),
        (
            "no Contact",
            read(base.request(Method::Invite, 9, VIA, None)),
            false,
        ),
        ("2xx", response(200, "INVITE"), true),
        ("2xx to BYE", response(200, "BYE"), false),
        ("1xx", response(183, "INVITE"), false),
        ("failure", response(302, "INVITE"), false),
    ];
    for (what, message, is_changed) in rows {
        let mut dialog = base.clone();
        assert_eq!(dialog.refresh_target(&message), is_changed, "{what}");
        assert_eq!(
            dialog.remote_target != base.remote_target,
            is_changed,
            "{what}"
        );
        assert_eq!(
            dialog.route_set, base.route_set,
            "the route set never changes: {what}"
        );
    }
}

#[test]
fn confirming_response_brings_the_route_set() {
    // RFC 3261 §13.2.2.4.
    let mut dialog = client("");
    dialog.confirm(&answer(ROUTES)).expect("confirmed");
    assert_eq!(
        texts(&dialog.route_set),
        ["sip:p1.example;lr", "sip:p2.example;lr"]
    );
    let before = dialog.clone();
    let without = text_of(&answer("")).replace("Contact: <sip:bob@192.0.2.4>\r\n", "");
    assert_eq!(
        dialog.confirm(&parse(&without)),
        Err(DialogError::NoContact)
    );
    assert_eq!(dialog, before);
}

#[test]
fn cseq_blocks_are_stored_before_they_are_used() {
    // cluster.md §7: blocks of 16, the next at three quarters.
    let mut dialog = DialogState::of_server(&invite(""), "t").expect("dialog");
    let mut commits = Vec::new();
    for expected in 1..=40 {
        let taken = dialog.take_cseq().expect("number");
        assert_eq!(taken.number, expected);
        assert!(taken.number <= dialog.cseq_reserved);
        if taken.must_commit {
            commits.push((taken.number, dialog.cseq_reserved));
        }
    }
    assert_eq!(commits, [(12, 32), (28, 48)]);
}

#[test]
fn last_cseq_is_an_error_and_not_a_wrap() {
    let mut dialog = DialogState::of_server(&invite(""), "t").expect("dialog");
    dialog.local_cseq = CSEQ_LAST - 1;
    assert_eq!(dialog.take_cseq().expect("number").number, CSEQ_LAST);
    assert_eq!(dialog.take_cseq(), Err(DialogError::CseqExhausted));
    dialog.skip_reserve();
    assert_eq!(dialog.take_cseq(), Err(DialogError::CseqExhausted));
}

#[test]
fn an_heir_passes_over_the_block_that_a_cut_off_owner_may_begin() {
    let mut owner = DialogState::of_server(&invite(""), "t").expect("dialog");
    let mut heir = owner.clone();
    heir.skip_reserve();
    heir.skip_block();
    let first = heir.take_cseq().expect("number").number;
    for _ in 0..16 {
        assert!(owner.take_cseq().expect("number").number < first);
    }
}

#[test]
fn a_number_to_go_on_behind_is_passed_but_none_is_used_twice() {
    let mut dialog = DialogState::of_server(&invite(""), "t").expect("dialog");
    dialog.skip_to(4_128);
    assert_eq!(dialog.take_cseq().expect("number").number, 4_129);
    dialog.skip_to(16);
    assert_eq!(dialog.take_cseq().expect("number").number, 4_130);
    dialog.skip_to(u32::MAX);
    assert_eq!(dialog.take_cseq(), Err(DialogError::CseqExhausted));
}

#[test]
fn state_survives_its_stored_form() {
    let dialog = client(ROUTES);
    let stored = serde_json::to_string(&dialog).expect("stored");
    assert_eq!(
        serde_json::from_str::<DialogState>(&stored).expect("restored"),
        dialog
    );
}

proptest! {
    #[test]
    fn no_cseq_is_used_twice_across_crashes(steps in prop::collection::vec(any::<bool>(), 1..200)) {
        let mut dialog = DialogState::of_server(&invite(""), "t").expect("dialog");
        let mut stored = dialog.clone();
        let mut highest = 0;
        for is_crash in steps {
            if is_crash {
                dialog = stored.clone();
                dialog.skip_reserve();
                stored = dialog.clone();
                continue;
            }
            let taken = dialog.take_cseq().expect("number");
            if taken.must_commit {
                stored = dialog.clone();
            }
            prop_assert!(taken.number > highest);
            highest = taken.number;
        }
    }

    #[test]
    fn no_message_breaks_a_dialog(routes in "[ -~]{0,60}", contact in "[ -~]{0,40}") {
        let text = text_of(&invite(&format!("Record-Route: {routes}\r\n")))
            .replace("<sip:alice@pc33.atlanta.example>", &contact);
        let Ok(message) = Message::read(Bytes::from(text)) else { return Ok(()) };
        if let Ok(mut dialog) = DialogState::of_server(&message, "t") {
            let bytes = dialog.request(Method::Bye, 1, VIA, None).finish().expect("writable");
            prop_assert!(Message::read(bytes).is_ok());
            let _ = dialog.next_hop();
            dialog.refresh_target(&message);
        }
    }
}

const VIA: &str = "SIP/2.0/UDP us.example;branch=z9hG4bKnew";

fn client(fields: &str) -> DialogState {
    DialogState::of_client(&invite(""), &answer(fields)).expect("dialog")
}

fn texts(uris: &[Uri]) -> Vec<String> {
    uris.iter().map(Uri::to_string).collect()
}

fn invite(fields: &str) -> Message {
    parse(&format!(
        "INVITE sip:bob@biloxi.example SIP/2.0\r\n\
         Via: SIP/2.0/UDP pc33.atlanta.example;branch=z9hG4bK776asdhds\r\n\
         {fields}Max-Forwards: 70\r\n\
         From: Alice <sip:alice@atlanta.example>;tag=1928301774\r\n\
         To: Bob <sip:bob@biloxi.example>\r\n\
         Call-ID: a84b4c76e66710\r\n\
         CSeq: 314159 INVITE\r\n\
         Contact: <sip:alice@pc33.atlanta.example>\r\n\
         Content-Length: 0\r\n\r\n"
    ))
}

fn answer(fields: &str) -> Message {
    parse(&format!(
        "SIP/2.0 200 OK\r\n\
         Via: SIP/2.0/UDP pc33.atlanta.example;branch=z9hG4bK776asdhds\r\n\
         {fields}From: Alice <sip:alice@atlanta.example>;tag=1928301774\r\n\
         To: Bob <sip:bob@biloxi.example>;tag=a6c85cf\r\n\
         Call-ID: a84b4c76e66710\r\n\
         CSeq: 314159 INVITE\r\n\
         Contact: <sip:bob@192.0.2.4>\r\n\
         Content-Length: 0\r\n\r\n"
    ))
}

fn read(mut writer: Writer) -> Message {
    Message::read(writer.finish().expect("writable")).expect("readable")
}

fn text_of(message: &Message) -> String {
    String::from_utf8(message.bytes().to_vec()).expect("UTF-8")
}

fn parse(text: &str) -> Message {
    Message::read(Bytes::from(text.to_owned())).expect("valid SIP")
}
