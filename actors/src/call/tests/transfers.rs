//! REFER: a party is put through to somebody else, or is not (RFC 3515, RFC 5589).

use std::time::Duration;

use contract::{Emitted, MediaRoute, SchemaVersion};
use sip::HeaderName;

use super::fixture::*;
use super::taken_over::body_of;
use crate::dialog;

/// A call that is up, in a cluster whose nodes know of transfers; 1002 is at C.
fn connected() -> World {
    let mut world = World::new();
    world.health.schema = SchemaVersion::NEWEST;
    world.connect();
    world.registered.push(aor("1002@example.org"));
    world.targets = vec![target(C, 1000)];
    world
}

fn refer_with(world: &mut World, side: u8, peer: &str, cseq: u32, fields: &str) {
    let text = world.request_text(side, "REFER", cseq, "", fields);
    let inbound = world.inbound(peer, text, None);
    let id = world.dialog(side);
    world.tell(id, dialog::Message::Request(inbound));
}

fn refer(world: &mut World, side: u8, peer: &str, cseq: u32, number: &str) {
    let fields = format!("Refer-To: <sip:{number}@example.org>\r\n");
    refer_with(world, side, peer, cseq, &fields);
}

/// What a peer was told of its reference: status lines, and whether nothing follows.
fn told(world: &World, peer: &str) -> Vec<(String, bool)> {
    let sent = world.sent.iter().filter(|sent| {
        sent.flow.remote() == peer.parse().expect("an address") && is_of(&sent.message, "NOTIFY")
    });
    let read = |sent: &Sent| {
        let field = |name| sent.message.header(name).unwrap_or_default().to_owned();
        assert!(field(HeaderName::Event).starts_with("refer;id="));
        assert_eq!(
            field(HeaderName::ContentType),
            "message/sipfrag;version=2.0"
        );
        let state = field(HeaderName::SubscriptionState);
        let line = body_of(sent);
        let line = line.strip_prefix("SIP/2.0 ").expect("a status line");
        (line.trim_end().to_owned(), state.starts_with("terminated"))
    };
    sent.map(read).collect()
}

fn step(line: &str, is_last: bool) -> (String, bool) {
    (line.to_owned(), is_last)
}

fn news(world: &World) -> Vec<&'static str> {
    let news = world.emitted.iter().filter_map(|emitted| match emitted {
        Emitted::CallState { news, .. } => Some(news.word()),
        _ => None,
    });
    news.collect()
}

#[test]
fn a_callee_puts_the_caller_through() {
    let mut world = connected();
    refer(&mut world, 2, B, 1, "1002");
    assert!(world.last(B, "202").is_gated);
    let invite = world.last(C, "INVITE");
    assert!(body_of(&invite).contains("a=sendrecv") || !body_of(&invite).contains("a=inactive"));
    let from = invite.message.from().expect("From");
    assert_eq!(from.uri.to_string(), "sip:1000@example.org");
    assert_eq!(told(&world, B), [step("100 Trying", false)]);
    assert_eq!(
        world.config(1).route,
        MediaRoute::Drop,
        "B is heard no more"
    );
    assert_eq!(world.config(2).route, MediaRoute::Drop);

    world.answer(C, "INVITE", 180, "");
    assert_eq!(told(&world, B)[1..], [step("180 Ringing", false)]);
    assert!(matches!(world.config(1).route, MediaRoute::RingBack { .. }));
    assert_eq!(world.count(A, "180"), 1, "the caller has its 200");

    world.answer(C, "INVITE", 200, SDP_C);
    assert_eq!(told(&world, B)[2..], [step("200 OK", true)]);
    assert_eq!(world.count(B, "BYE"), 1);
    assert_eq!(world.config(1).route, MediaRoute::Relay(world.side(3)));
    assert_eq!(world.config(3).route, MediaRoute::Relay(world.side(1)));
    // With B it spoke PCMA, C speaks PCMU.
    let offer = world.last(A, "INVITE");
    assert!(body_of(&offer).contains("RTP/AVP 0"), "{}", body_of(&offer));
    world.answer(A, "INVITE", 200, SDP_C);
    assert_eq!(world.config(1).payloads, [(0, 0)]);
    world.answer(B, "BYE", 200, "");
    assert!(world.is_closed(2));
    assert_eq!(world.state(&world.call_id()), "talking");
    assert_eq!(
        news(&world),
        [
            "started",
            "ringing",
            "answered",
            "transferring",
            "transferred"
        ]
    );

    world.request(1, A, "BYE", 11, "");
    world.answer(C, "BYE", 200, "");
    let record = world.record();
    assert_eq!((record.ended_by.as_str(), record.status), ("caller", None));
}

#[test]
fn a_caller_puts_the_callee_through() {
    let mut world = connected();
    // B speaks PCMA only.
    let sdp_c = SDP_C.replace("AVP 0", "AVP 8");
    refer(&mut world, 1, A, 11, "1002");
    let invite = world.last(C, "INVITE");
    let from = invite.message.from().expect("From");
    assert_eq!(from.uri.to_string(), "sip:1001@example.org");
    world.answer(C, "INVITE", 200, &sdp_c);
    assert_eq!(
        told(&world, A),
        [step("100 Trying", false), step("200 OK", true)]
    );
    world.answer(A, "BYE", 200, "");
    assert_eq!(world.config(2).route, MediaRoute::Relay(world.side(3)));
    assert_eq!(world.config(3).route, MediaRoute::Relay(world.side(2)));
    // They are parties like any others: one holds the other, and either may be put through.
    world.request(2, B, "INVITE", 1, &format!("{SDP_B}a=sendonly\r\n"));
    assert!(body_of(&world.last(C, "INVITE")).contains("a=sendonly"));
    let hold = world.last(C, "INVITE");
    world.answer_to(&hold, 200, "b1", &format!("{sdp_c}a=recvonly\r\n"));
    world.request(2, B, "ACK", 1, "");
    assert_eq!(world.state(&world.call_id()), "held");
    world.request(2, B, "BYE", 2, "");
    world.answer(C, "BYE", 200, "");
    assert_eq!(world.record().ended_by, "callee");
}

#[test]
fn who_is_held_while_it_is_put_through_is_taken_off() {
    let mut world = connected();
    // As B has left it, A speaks PCMA.
    let sdp_c = SDP_C.replace("AVP 0", "AVP 8");
    world.request(2, B, "INVITE", 1, &format!("{SDP_B}a=sendonly\r\n"));
    world.answer(A, "INVITE", 200, &format!("{SDP_A}a=recvonly\r\n"));
    world.request(2, B, "ACK", 1, "");
    assert_eq!(world.state(&world.call_id()), "held");
    refer(&mut world, 2, B, 2, "1002");
    let invite = world.last(C, "INVITE");
    assert!(!body_of(&invite).contains("a=recvonly") && !body_of(&invite).contains("a=sendonly"));
    world.answer(C, "INVITE", 200, &sdp_c);
    let offer = world.last(A, "INVITE");
    assert!(
        !body_of(&offer).contains("a=sendonly"),
        "{}",
        body_of(&offer)
    );
    world.answer(A, "INVITE", 200, SDP_A);
    assert!(world.config(1).sends && world.config(1).receives);
    assert_eq!(world.state(&world.call_id()), "talking");
    assert_eq!(news(&world).last(), Some(&"resumed"));
}

#[test]
fn who_is_refused_somebody_else_talks_on() {
    for (status, line) in [(486, "486 Busy Here"), (503, "500 Server Internal Error")] {
        let mut world = connected();
        refer(&mut world, 2, B, 1, "1002");
        world.answer(C, "INVITE", 180, "");
        world.answer(C, "INVITE", status, "");
        assert_eq!(told(&world, B).last(), Some(&step(line, true)));
        assert_eq!(world.count(B, "BYE"), 0);
        assert_eq!(world.config(1).route, MediaRoute::Relay(world.side(2)));
        assert_eq!(world.config(2).route, MediaRoute::Relay(world.side(1)));
        assert_eq!(news(&world).last(), Some(&"transfer_failed"));
        // Another one is possible.
        refer(&mut world, 2, B, 2, "9196");
        assert_eq!(told(&world, B).last(), Some(&step("200 OK", true)));
        assert_eq!(world.config(1).route, MediaRoute::Echo);
        world.answer(B, "BYE", 200, "");
        world.request(1, A, "BYE", 11, "");
        assert_eq!(world.record().cause, "NORMAL_CLEARING");
    }
}

#[test]
fn nobody_who_answers_gives_the_party_back() {
    let mut world = connected();
    refer(&mut world, 2, B, 1, "1002");
    world.answer(C, "INVITE", 180, "");
    world.pass(Duration::from_secs(31));
    assert_eq!(world.count(C, "CANCEL"), 1);
    assert_eq!(
        told(&world, B).last(),
        Some(&step("480 Temporarily Unavailable", true))
    );
    assert_eq!(world.config(1).route, MediaRoute::Relay(world.side(2)));
    let invite = world.last(C, "INVITE");
    world.answer_to(&invite, 487, "c1", "");
    assert_eq!(world.state(&world.call_id()), "talking");
    assert!(world.is_closed(3));
}

#[test]
fn a_transferor_need_not_wait() {
    let mut world = connected();
    refer(&mut world, 2, B, 1, "1002");
    world.request(2, B, "BYE", 2, "");
    assert_eq!(world.count(B, "200"), 1);
    assert!(world.is_closed(2));
    world.answer(C, "INVITE", 180, "");
    world.answer(C, "INVITE", 200, SDP_C);
    assert_eq!(world.config(1).route, MediaRoute::Relay(world.side(3)));
    assert_eq!(told(&world, B).len(), 1);

    let mut world = connected();
    refer(&mut world, 2, B, 1, "1002");
    world.request(2, B, "BYE", 2, "");
    world.answer(C, "INVITE", 486, "");
    world.answer(A, "BYE", 200, "");
    assert_eq!(world.record().cause, "USER_BUSY");
}

#[test]
fn who_is_put_through_may_hang_up() {
    let mut world = connected();
    refer(&mut world, 2, B, 1, "1002");
    world.answer(C, "INVITE", 180, "");
    world.request(1, A, "BYE", 11, "");
    world.answer(C, "CANCEL", 200, "");
    let invite = world.last(C, "INVITE");
    world.answer_to(&invite, 487, "c1", "");
    world.answer(B, "BYE", 200, "");
    assert_eq!(world.record().ended_by, "caller");
}

#[test]
fn what_cannot_be_is_refused() {
    for (fields, status) in [
        ("", "400"),
        ("Refer-To: nonsense\r\n", "400"),
        ("Refer-To: <mailto:a@b.example>\r\n", "416"),
        ("Refer-To: <sip:1002@example.org;method=BYE>\r\n", "501"),
        ("Refer-To: <sip:nobody@example.org>\r\n", "404"),
        (
            "Refer-To: <sip:1002@example.org?Replaces=c%3Bto-tag%3Da%3Bfrom-tag%3Db>\r\n",
            "481",
        ),
        ("Refer-To: <sip:1002@example.org?Require=100rel>\r\n", "501"),
    ] {
        let mut world = connected();
        refer_with(&mut world, 2, B, 1, fields);
        assert_eq!(world.count(B, status), 1, "{fields}: {:#?}", world.lines());
        assert_eq!(world.count(B, "NOTIFY"), 0);
        assert_eq!(world.config(1).route, MediaRoute::Relay(world.side(2)));
    }
    // Before all nodes know of it.
    let mut world = World::connected();
    refer(&mut world, 2, B, 1, "9196");
    assert_eq!(world.count(B, "503"), 1);
    // One at a time, and not while something is open.
    let mut world = connected();
    refer(&mut world, 2, B, 1, "1002");
    refer(&mut world, 2, B, 2, "9196");
    refer(&mut world, 1, A, 11, "9196");
    assert_eq!((world.count(B, "491"), world.count(A, "491")), (1, 1));
    let mut world = connected();
    world.request(1, A, "INVITE", 11, &format!("{SDP_A}a=sendonly\r\n"));
    refer(&mut world, 2, B, 1, "1002");
    assert_eq!(world.count(B, "491"), 1);
}

#[test]
fn a_repeated_refer_is_one() {
    let mut world = connected();
    refer(&mut world, 2, B, 1, "1002");
    refer(&mut world, 2, B, 1, "1002");
    assert_eq!(world.count(B, "202"), 2);
    assert_eq!((world.count(C, "INVITE"), told(&world, B).len()), (1, 1));
}

#[test]
fn who_wants_no_word_of_it_gets_none() {
    let mut world = connected();
    let fields = "Refer-To: <sip:9196@example.org>\r\nRefer-Sub: false\r\n";
    refer_with(&mut world, 2, B, 1, fields);
    let accepted = world.last(B, "202");
    assert_eq!(accepted.message.header(HeaderName::ReferSub), Some("false"));
    assert_eq!(world.count(B, "NOTIFY"), 0);
    assert_eq!(world.count(B, "BYE"), 1);
}

/// The node is killed after every so many events and started again: the transfer goes on.
#[test]
fn a_transfer_outlives_its_node() {
    let mut given_back = 0;
    for every in 1..40 {
        let mut world = connected();
        world.kills_after = Some(every);
        refer(&mut world, 2, B, 1, "1002");
        if world.count(B, "202") == 0 {
            // It was lost with the node: the phone sends it once more.
            refer(&mut world, 2, B, 1, "1002");
        }
        if world.count(C, "INVITE") == 0 {
            world.kills_after = None;
            world.restart();
        }
        if told(&world, B).last().is_some_and(|(_, is_last)| *is_last) {
            // The new callee's leg was lost with the node: the party is given back.
            assert_eq!(world.count(C, "INVITE"), 0, "{every}");
            let (one, other) = (world.config(1).route, world.config(2).route);
            assert_eq!(one, MediaRoute::Relay(world.side(2)), "{every}");
            assert_eq!(other, MediaRoute::Relay(world.side(1)), "{every}");
            given_back += 1;
            continue;
        }
        world.answer(C, "INVITE", 180, "");
        world.kills_after = None;
        world.answer(C, "INVITE", 200, SDP_C);
        assert!(
            told(&world, B).contains(&step("200 OK", true)),
            "{every} {:#?}",
            world.lines()
        );
        assert_eq!(world.count(B, "BYE"), 1, "{every}");
        assert_eq!(
            world.config(1).route,
            MediaRoute::Relay(world.side(3)),
            "{every}"
        );
        assert_eq!(world.state(&world.call_id()), "talking");
    }
    assert!((1..10).contains(&given_back), "{given_back}");
}

/// Another node takes it over while the new callee rings: that is rung anew, and all three are told
/// where we are.
#[test]
fn a_transfer_is_taken_over() {
    let mut world = connected();
    refer(&mut world, 2, B, 1, "1002");
    world.answer(C, "INVITE", 180, "");
    world.take_over(2);
    assert_eq!((world.count(A, "INVITE"), world.count(B, "INVITE")), (1, 2));
    world.answer(A, "INVITE", 200, SDP_A);
    world.answer(B, "INVITE", 200, SDP_B);
    assert_eq!((world.count(C, "CANCEL"), world.count(C, "INVITE")), (1, 2));
    world.answer(C, "INVITE", 200, SDP_C);
    assert_eq!(told(&world, B).last(), Some(&step("200 OK", true)));
    assert_eq!(world.count(B, "BYE"), 1);
    assert_eq!(world.config(1).route, MediaRoute::Relay(world.side(4)));
    assert_eq!(world.state(&world.call_id()), "talking");
}

/// The same, but the new callee answers first, and who transferred takes our BYE for the end of all.
#[test]
fn a_transferor_that_was_not_told_where_we_are_ends_nothing() {
    let mut world = connected();
    refer(&mut world, 2, B, 1, "1002");
    world.answer(C, "INVITE", 180, "");
    world.take_over(2);
    world.answer(A, "INVITE", 200, SDP_A);
    world.answer(C, "INVITE", 200, SDP_C);
    assert_eq!(world.count(B, "BYE"), 1);
    world.answer(B, "INVITE", 487, "");
    world.answer(B, "BYE", 200, "");
    // C speaks PCMU.
    world.answer(A, "INVITE", 200, SDP_C);
    assert_eq!(world.state(&world.call_id()), "talking");
    // Nobody is busy with anything any more.
    world.request(1, A, "INVITE", 11, &format!("{SDP_A}a=sendonly\r\n"));
    assert_eq!(world.count(A, "491"), 0, "{:#?}", world.lines());
}

/// The same, but nobody answers there: the parties talk on at the new node.
#[test]
fn a_transfer_that_is_taken_over_may_fail() {
    let mut world = connected();
    refer(&mut world, 1, A, 11, "1002");
    world.take_over(2);
    world.answer(A, "INVITE", 200, SDP_A);
    world.answer(B, "INVITE", 200, SDP_B);
    world.answer(C, "INVITE", 603, "");
    assert_eq!(told(&world, A).last(), Some(&step("603 Decline", true)));
    assert_eq!(world.config(1).route, MediaRoute::Relay(world.side(2)));
    assert_eq!(world.config(2).route, MediaRoute::Relay(world.side(1)));
    assert_eq!(world.state(&world.call_id()), "talking");
}

/// Who has just come from another node looks for a number again and again: its registration may come, too.
/// Later nobody is there who is not found, and the parties are not kept apart.
#[test]
fn a_number_that_nobody_has_is_not_waited_for_long_after_a_take_over() {
    for (later, is_over) in [(1, false), (60, true)] {
        let mut world = connected();
        world
            .registered
            .retain(|known| *known != aor("1002@example.org"));
        world.take_over(2);
        world.answer(A, "INVITE", 200, SDP_A);
        world.answer(B, "INVITE", 200, SDP_B);
        world.pass(Duration::from_secs(later));
        refer(&mut world, 2, B, 1, "1002");
        let is_told = |world: &World| {
            let told = told(world, B);
            told.last().is_some_and(|(_, is_last)| *is_last)
        };
        assert_eq!(is_told(&world), is_over, "{:#?}", world.lines());
        world.pass(Duration::from_secs(9));
        assert!(is_told(&world), "{:#?}", world.lines());
        assert_eq!(world.config(1).route, MediaRoute::Relay(world.side(2)));
        assert_eq!(world.config(2).route, MediaRoute::Relay(world.side(1)));
        assert_eq!(world.state(&world.call_id()), "talking");
    }
}
