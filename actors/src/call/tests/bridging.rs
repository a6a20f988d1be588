//! Two parties: set-up, early media, forks, delayed offers.

use std::time::Duration;

use contract::{Emitted, MediaCommand, MediaRoute};
use sip::HeaderName;

use super::fixture::*;

#[test]
fn a_call_rings_is_answered_and_joined() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    let invite = world.last(B, "INVITE");
    assert!(invite.is_gated, "the fork is safe before it is sent");
    world.answer(B, "INVITE", 100, "");
    world.answer(B, "INVITE", 180, "");
    assert!(world.last(A, "180").is_gated);
    assert!(world.last(A, "180").message.body().is_empty());
    world.answer(B, "INVITE", 200, SDP_B);
    let ok = world.last(A, "200");
    assert!(ok.is_gated, "the answer is safe before it is sent");
    assert!(world.last(B, "ACK").is_gated);
    let body = String::from_utf8_lossy(ok.message.body()).into_owned();
    assert!(
        body.contains("m=audio") && body.contains("RTP/AVP 8 101"),
        "{body}"
    );
    assert!(body.contains("c=IN IP4 192.0.2.1"), "{body}");
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
    let (one, two) = (world.config(1), world.config(2));
    assert_eq!(one.route, MediaRoute::Relay(world.side(2)));
    assert_eq!(two.route, MediaRoute::Relay(world.side(1)));
    assert_eq!(
        one.remote,
        Some("192.0.2.10:40000".parse().expect("address"))
    );
    assert_eq!(
        two.remote,
        Some("192.0.2.20:41000".parse().expect("address"))
    );
    assert!(one.payloads.contains(&(8, 8)) && one.payloads.contains(&(101, 101)));
    assert_eq!(two.dtmf_payload, Some(101));
    assert_eq!(one.timeout, Some(Duration::from_secs(60)));
    assert!(one.sends && one.receives);
}

#[test]
fn the_callee_sees_the_proven_caller_and_nothing_it_claims() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    let invite = world.last(B, "INVITE").message;
    let from = invite.from().expect("From");
    assert_eq!(from.uri.to_string(), "sip:1000@example.org");
    assert_eq!(
        from.display, None,
        "the account has no name, so none is shown"
    );
    assert_eq!(invite.header(HeaderName::PAssertedIdentity), None);
    assert_eq!(invite.max_forwards(), Ok(Some(69)));
    assert_ne!(invite.call_id(), Ok("call-1"));
    let text = String::from_utf8_lossy(invite.bytes()).into_owned();
    assert!(
        !text.contains("Mallory") && !text.contains("192.0.2.10"),
        "{text}"
    );
}

#[test]
fn early_media_flows_both_ways_and_the_answer_stays() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 183, SDP_B);
    let early = world.last(A, "183").message;
    assert!(!early.body().is_empty());
    assert_eq!(world.config(1).route, MediaRoute::Relay(world.side(2)));
    assert_eq!(world.config(2).route, MediaRoute::Relay(world.side(1)));
    assert_eq!(world.config(1).timeout, None, "ringing may be silent");
    world.answer(B, "INVITE", 200, SDP_B);
    assert_eq!(world.last(A, "200").message.body(), early.body());
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
    assert!(world.config(1).timeout.is_some());
}

#[test]
fn an_18x_that_came_twice_is_passed_once() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    for _ in 0..3 {
        world.answer(B, "INVITE", 180, "");
    }
    assert_eq!(world.count(A, "180"), 1);
}

#[test]
fn equal_q_rings_at_once_and_the_first_answer_wins() {
    let mut world = World::new();
    world.targets = vec![target(B, 1000), target(C, 1000)];
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    world.answer(C, "INVITE", 180, "");
    let lost = world.last(B, "INVITE");
    world.answer(C, "INVITE", 200, SDP_C);
    world.ack("");
    assert_eq!(world.count(B, "CANCEL"), 1);
    world.answer_to(&lost, 487, "b1", "");
    assert_eq!(world.state(&world.dialog(2)), "", "the loser is gone");
    assert!(world.is_closed(2));
    assert_eq!(world.config(1).route, MediaRoute::Relay(world.side(3)));
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn a_fork_that_answers_too_late_is_acknowledged_and_ended() {
    let mut world = World::new();
    world.targets = vec![target(B, 1000), target(C, 1000)];
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    let late = world.last(B, "INVITE");
    world.answer(C, "INVITE", 200, SDP_C);
    world.answer_to(&late, 200, "b1", SDP_B);
    assert_eq!((world.count(B, "ACK"), world.count(B, "BYE")), (1, 1));
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
    assert_eq!(world.count(A, "200"), 1);
}

#[test]
fn a_second_2xx_of_another_tag_on_one_branch_is_ended() {
    let mut world = World::connected();
    let invite = world.last(B, "INVITE");
    world.answer_to(&invite, 200, "other", SDP_B);
    assert_eq!((world.count(B, "ACK"), world.count(B, "BYE")), (2, 1));
    assert_eq!(
        world.last(B, "BYE").message.to().expect("To").tag(),
        Some("other")
    );
    world.answer_to(&invite, 200, "b1", SDP_B);
    assert_eq!((world.count(B, "ACK"), world.count(B, "BYE")), (3, 1));
    let again = world.last(B, "ACK");
    assert!(!again.is_urgent, "the first may still wait behind the gate");
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn the_next_q_is_tried_when_the_first_failed() {
    let mut world = World::new();
    world.targets = vec![target(B, 1000), target(C, 500)];
    world.call("1001", SDP_A);
    assert_eq!(world.count(C, "INVITE"), 0);
    world.answer(B, "INVITE", 486, "");
    assert_eq!(world.count(C, "INVITE"), 1);
    world.answer(C, "INVITE", 200, SDP_C);
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn a_6xx_ends_the_search() {
    let mut world = World::new();
    world.targets = vec![target(B, 1000), target(C, 500)];
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 603, "");
    assert_eq!(world.count(C, "INVITE"), 0);
    assert_eq!(world.count(A, "603"), 1);
    assert_eq!(world.record().cause, "CALL_REJECTED");
}

#[test]
fn early_media_of_a_loser_is_followed_by_an_offer_for_the_winner() {
    let mut world = World::new();
    world.targets = vec![target(B, 1000), target(C, 1000)];
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 183, SDP_B);
    world.answer(C, "INVITE", 200, SDP_C);
    world.ack("");
    let offer = world.last(A, "INVITE").message;
    let body = String::from_utf8_lossy(offer.body()).into_owned();
    assert!(body.contains("RTP/AVP 0"), "{body}");
    world.answer(A, "INVITE", 200, SDP_A);
    assert_eq!(world.count(A, "ACK"), 1);
    assert!(world.config(1).payloads.contains(&(0, 0)));
}

/// RFC 3264 §6, RFC 3261 §13.2.1: an early answer is an answer, and has all sections too; so has the
/// offer for who answers instead.
#[test]
fn an_early_answer_refuses_sections_in_place_as_the_last_one_does() {
    let mut world = World::new();
    world.targets = vec![target(B, 1000), target(C, 1000)];
    let head = SDP_A.split("m=").next().expect("a head");
    let audio = &SDP_A[head.len()..];
    world.call(
        "1001",
        &format!("{head}m=video 40002 RTP/AVP 31\r\n{audio}"),
    );
    let of = |sent: &Sent| -> Vec<String> {
        let body = String::from_utf8_lossy(sent.message.body()).into_owned();
        let lines = body.lines().filter(|line| line.starts_with("m="));
        lines
            .map(|line| line.split(" RTP").next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(
        of(&world.last(B, "INVITE")).len(),
        1,
        "nothing but audio is asked for"
    );
    world.answer(B, "INVITE", 183, SDP_B);
    let early = of(&world.last(A, "183"));
    assert_eq!(early.len(), 2, "{early:?}");
    assert!(
        early[0] == "m=video 0" && early[1].starts_with("m=audio "),
        "{early:?}"
    );
    world.answer(C, "INVITE", 200, SDP_C);
    assert_eq!(of(&world.last(A, "200")), early);
    world.ack("");
    assert_eq!(of(&world.last(A, "INVITE")), early);
}

#[test]
fn an_invite_without_sdp_gets_our_offer_in_the_200() {
    let mut world = World::new();
    world.call("1001", "");
    let body = world.last(B, "INVITE").message.body_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    assert!(
        body.contains("RTP/AVP 0 8 101"),
        "B gets what the configuration knows: {body}"
    );
    world.answer(B, "INVITE", 183, SDP_B);
    assert!(
        world.last(A, "183").message.body().is_empty(),
        "no offer in an 18x"
    );
    world.answer(B, "INVITE", 200, SDP_B);
    assert_eq!(world.count(B, "ACK"), 1);
    assert!(!world.last(A, "200").message.body().is_empty());
    world.ack(SDP_A);
    assert_eq!(world.state(&world.call_id()), "talking");
    assert!(world.config(1).payloads.contains(&(8, 8)));
    assert_eq!(world.config(2).route, MediaRoute::Relay(world.side(1)));
}

#[test]
fn an_ack_without_the_answer_it_owes_ends_the_call() {
    let mut world = World::new();
    world.call("1001", "");
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    assert_eq!((world.count(A, "BYE"), world.count(B, "BYE")), (1, 1));
    world.answer(A, "BYE", 200, "");
    world.answer(B, "BYE", 200, "");
    assert_eq!(world.record().cause, "INCOMPATIBLE_DESTINATION");
}

#[test]
fn no_shared_codec_is_488() {
    let mut world = World::new();
    let sdp = SDP_A.replace("RTP/AVP 0 8 101", "RTP/AVP 101");
    world.call("1001", &sdp);
    assert_eq!(world.count(A, "488"), 1);
    assert_eq!(world.count(B, "INVITE"), 0);
    assert_eq!(world.record().cause, "INCOMPATIBLE_DESTINATION");
}

#[test]
fn no_free_port_is_503() {
    let mut world = World::new();
    world.is_full = true;
    world.call("1001", SDP_A);
    let refusal = world.last(A, "503").message;
    assert!(refusal.header(HeaderName::RetryAfter).is_some());
    assert_eq!(world.record().cause, "NORMAL_CIRCUIT_CONGESTION");
}

#[test]
fn a_private_address_of_a_public_peer_is_never_sent_to() {
    let mut world = World::new();
    world.call(
        "1001",
        &SDP_A.replace("c=IN IP4 192.0.2.10", "c=IN IP4 169.254.169.254"),
    );
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    assert_eq!(world.config(1).remote, None);
    assert_eq!(world.config(1).remote_rtcp, None);
    assert_eq!(
        world.config(1).sip_source,
        Some("192.0.2.10".parse().expect("address"))
    );
}

#[test]
fn legs_of_a_call_share_a_worker() {
    let world = World::connected();
    let beside = world.media.iter().find_map(|command| match command {
        MediaCommand::Open { leg, beside, .. } if *leg == world.side(2) => *beside,
        _ => None,
    });
    assert_eq!(beside, Some(world.side(1)));
}

#[test]
fn a_phone_whose_connection_is_gone_is_looked_for_again() {
    let mut world = World::new();
    world.targets[0].unreachable = true;
    world.call("1001", SDP_A);
    assert_eq!(world.count(B, "INVITE"), 0);
    world.pass(Duration::from_secs(3));
    world.targets[0].unreachable = false;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.count(B, "INVITE"), 1);
}

#[test]
fn a_phone_that_does_not_come_back_in_8_s_is_480() {
    let mut world = World::new();
    world.targets[0].unreachable = true;
    world.call("1001", SDP_A);
    world.pass(Duration::from_secs(10));
    assert_eq!(world.count(A, "480"), 1);
    assert_eq!(world.record().cause, "SUBSCRIBER_ABSENT");
}

/// Its node may have died a moment ago, and another not have it yet.
#[test]
fn a_registration_that_has_no_time_is_asked_again() {
    let mut world = World::new();
    world.busy = 2;
    world.call("1001", SDP_A);
    assert_eq!(world.count(B, "INVITE"), 0);
    world.pass(Duration::from_millis(299));
    assert_eq!((world.count(B, "INVITE"), world.busy), (0, 0));
    world.pass(Duration::from_millis(1));
    assert_eq!(world.count(B, "INVITE"), 1);
    assert_eq!(world.count(A, "503"), 0);
}

#[test]
fn a_registration_that_never_has_time_ends_the_call() {
    let mut world = World::new();
    world.busy = 100;
    world.call("1001", SDP_A);
    world.pass(Duration::from_secs(4));
    assert_eq!((world.count(A, "503"), world.busy), (1, 100 - 9));
    assert_eq!(world.record().cause, "SWITCH_CONGESTION");
}

#[test]
fn a_registration_that_never_answers_does_not_hold_the_call() {
    let mut world = World::new();
    world.is_deaf = true;
    world.call("1001", SDP_A);
    let ring_timeout = world.site.limits.ring_timeout;
    world.pass(ring_timeout - Duration::from_secs(1));
    assert_eq!(world.count(A, "480"), 0);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.count(A, "480"), 1);
    assert_eq!(world.record().cause, "NO_ANSWER");
}

#[test]
fn states_are_told_in_order() {
    let mut world = World::connected();
    world.request(1, A, "BYE", 11, "");
    world.answer(B, "BYE", 200, "");
    let states: Vec<&str> = world
        .emitted
        .iter()
        .filter_map(|emitted| match emitted {
            Emitted::CallState { news, .. } => Some(news.word()),
            _ => None,
        })
        .collect();
    assert_eq!(states, ["started", "ringing", "answered", "ended"]);
}

#[test]
fn bypass_passes_descriptions_and_opens_no_leg() {
    let mut world = World::new();
    world.call(
        "71001",
        &format!("{SDP_A}a=evil\u{7f}\r\n").replace("a=evil\u{7f}\r\n", ""),
    );
    let body = world.last(B, "INVITE").message.body_bytes();
    assert!(String::from_utf8_lossy(&body).contains("m=audio 40000"));
    world.answer(B, "INVITE", 200, SDP_B);
    let body = world.last(A, "200").message.body_bytes();
    assert!(String::from_utf8_lossy(&body).contains("m=audio 41000"));
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
    assert!(world.media.is_empty());
    world.request(1, A, "INVITE", 11, &SDP_A.replace("40000", "40010"));
    let body = world.last(B, "INVITE").message.body_bytes();
    assert!(String::from_utf8_lossy(&body).contains("m=audio 40010"));
}

#[test]
fn bypass_without_offer_acknowledges_the_callee_with_the_callers_answer() {
    let mut world = World::new();
    world.call("71001", "");
    assert!(world.last(B, "INVITE").message.body().is_empty());
    world.answer(B, "INVITE", 200, SDP_B);
    assert_eq!(world.count(B, "ACK"), 0, "its answer is not known yet");
    world.ack(SDP_A);
    let ack = world.last(B, "ACK").message;
    assert!(String::from_utf8_lossy(ack.body()).contains("m=audio 40000"));
}
