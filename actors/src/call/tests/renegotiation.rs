//! re-INVITE and UPDATE: hold, resume, glare, delayed offers, session timers, digits.

use std::time::Duration;

use contract::Emitted;
use sip::HeaderName;

use super::fixture::*;
use crate::dialog;

fn body_of(sent: &Sent) -> String {
    String::from_utf8_lossy(sent.message.body()).into_owned()
}

#[test]
fn hold_and_resume_reach_the_other_side() {
    let mut world = World::connected();
    world.request(1, A, "INVITE", 11, &format!("{SDP_A}a=sendonly\r\n"));
    let offer = world.last(B, "INVITE");
    assert!(offer.is_gated);
    assert!(
        body_of(&offer).contains("a=sendonly"),
        "{}",
        body_of(&offer)
    );
    world.answer(B, "INVITE", 200, &format!("{SDP_B}a=recvonly\r\n"));
    let ok = world.last(A, "200");
    assert!(
        ok.is_gated && body_of(&ok).contains("a=recvonly"),
        "{}",
        body_of(&ok)
    );
    world.request(1, A, "ACK", 11, "");
    assert!(!world.config(1).sends && world.config(1).receives);
    assert!(world.config(2).sends && !world.config(2).receives);
    assert_eq!(
        world.config(2).timeout,
        Some(Duration::from_secs(300)),
        "hold may be silent"
    );
    assert_eq!(world.state(&world.call_id()), "held");

    world.request(1, A, "INVITE", 12, &format!("{SDP_A}a=sendrecv\r\n"));
    world.answer(B, "INVITE", 200, &format!("{SDP_B}a=sendrecv\r\n"));
    world.request(1, A, "ACK", 12, "");
    assert!(world.config(1).sends && world.config(1).receives);
    assert_eq!(world.state(&world.call_id()), "talking");
    let told = |what: &str| {
        let is = |emitted: &&Emitted| matches!(emitted, Emitted::CallState { news, .. } if news.word() == what);
        world.emitted.iter().filter(is).count()
    };
    assert_eq!((told("held"), told("resumed")), (1, 1));
}

#[test]
fn the_callee_may_hold_too() {
    let mut world = World::connected();
    world.request(2, B, "INVITE", 1, &format!("{SDP_B}a=inactive\r\n"));
    assert!(body_of(&world.last(A, "INVITE")).contains("a=inactive"));
    world.answer(A, "INVITE", 200, &format!("{SDP_A}a=inactive\r\n"));
    assert!(body_of(&world.last(B, "200")).contains("a=inactive"));
}

#[test]
fn versions_of_our_descriptions_rise_only_when_they_change() {
    let mut world = World::connected();
    let version = |sent: &Sent| {
        let body = body_of(sent);
        let line = body
            .lines()
            .find(|line| line.starts_with("o="))
            .expect("o=")
            .to_owned();
        let fields: Vec<String> = line.split(' ').map(str::to_owned).collect();
        (
            fields[1].clone(),
            fields[2].parse::<u64>().expect("a version"),
        )
    };
    let first = version(&world.last(A, "200"));
    world.request(1, A, "INVITE", 11, SDP_A);
    world.answer(B, "INVITE", 200, SDP_B);
    assert_eq!(version(&world.last(A, "200")), first);
    world.request(1, A, "ACK", 11, "");
    world.request(1, A, "INVITE", 12, &format!("{SDP_A}a=sendonly\r\n"));
    world.answer(B, "INVITE", 200, &format!("{SDP_B}a=recvonly\r\n"));
    assert_eq!(version(&world.last(A, "200")), (first.0, first.1 + 1));
}

#[test]
fn an_update_is_relayed_and_needs_no_ack() {
    let mut world = World::connected();
    world.request(1, A, "UPDATE", 11, &format!("{SDP_A}a=sendonly\r\n"));
    world.answer(B, "INVITE", 200, &format!("{SDP_B}a=recvonly\r\n"));
    let ok = world.last(A, "200");
    assert!(ok.message.method().is(rsip::Method::Update));
    world.pass(Duration::from_secs(40));
    assert_eq!(world.state(&world.call_id()), "held");
}

#[test]
fn a_refused_offer_leaves_all_as_it_was() {
    let mut world = World::connected();
    let before = (world.config(1), world.config(2));
    world.request(1, A, "INVITE", 11, &format!("{SDP_A}a=sendonly\r\n"));
    world.answer(B, "INVITE", 488, "");
    assert_eq!(world.count(A, "488"), 1);
    assert_eq!((world.config(1), world.config(2)), before);
    assert_eq!(world.state(&world.call_id()), "talking");
    world.request(1, A, "ACK", 11, "");
    world.request(1, A, "INVITE", 12, &format!("{SDP_A}a=sendonly\r\n"));
    world.answer(B, "INVITE", 200, &format!("{SDP_B}a=recvonly\r\n"));
    assert_eq!(world.state(&world.call_id()), "held");
}

/// RFC 3264 §6, §8: what is not wanted is refused in its place, and keeps it in what we offer.
#[test]
fn sections_that_come_later_are_refused_in_place_and_stay() {
    let mut world = World::connected();
    let more = format!(
        "{SDP_A}m=video 40002 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\nm=text 40004 RTP/AVP 98\r\n"
    );
    world.request(1, A, "INVITE", 11, &more);
    let passed = body_of(&world.last(B, "INVITE"));
    assert_eq!(passed.matches("m=").count(), 1, "{passed}");
    world.answer(B, "INVITE", 200, SDP_B);
    let answer = body_of(&world.last(A, "200"));
    let lines = |body: &str| -> Vec<String> {
        let lines = body.lines().filter(|line| line.starts_with("m="));
        lines.map(|line| line.split_at(10).0.to_owned()).collect()
    };
    assert_eq!(
        lines(&answer)[1..],
        ["m=video 0 ", "m=text 0 R"],
        "{answer}"
    );
    world.request(1, A, "ACK", 11, "");

    world.request(2, B, "INVITE", 1, &format!("{SDP_B}a=sendonly\r\n"));
    let offer = body_of(&world.last(A, "INVITE"));
    assert_eq!(lines(&offer)[1..], ["m=video 0 ", "m=text 0 R"], "{offer}");
    let held = format!("{SDP_A}a=recvonly\r\nm=video 0 RTP/AVP 99\r\nm=text 0 RTP/AVP 98\r\n");
    world.answer(A, "INVITE", 200, &held);
    assert!(body_of(&world.last(B, "200")).contains("a=recvonly"));
    assert_eq!(world.state(&world.call_id()), "held");
}

/// RFC 3264 §8.3.3, RFC 3261 §14.2: a fax is not taken; the call goes on as it was.
#[test]
fn a_fax_is_refused_and_the_call_goes_on() {
    let mut world = World::connected();
    let before = (world.config(1), world.config(2));
    let head = SDP_A.split("m=").next().expect("a head");
    let image =
        "m=image 40002 udptl t38\r\na=T38FaxVersion:0\r\na=T38FaxRateManagement:transferredTCF\r\n";
    let asked = world.count(B, "INVITE");
    for (cseq, sdp) in [
        (11, format!("{head}{image}")),
        (12, format!("{head}m=audio 0 RTP/AVP 0\r\n{image}")),
    ] {
        let refused = world.count(A, "488");
        world.request(1, A, "INVITE", cseq, &sdp);
        assert_eq!(world.count(A, "488"), refused + 1, "{sdp}");
        world.request(1, A, "ACK", cseq, "");
        assert_eq!((world.config(1), world.config(2)), before);
    }
    assert_eq!(world.count(B, "INVITE"), asked, "nobody else is asked");
    assert_eq!(world.state(&world.call_id()), "talking");
    world.request(1, A, "INVITE", 13, &format!("{SDP_A}{image}a=sendonly\r\n"));
    world.answer(B, "INVITE", 200, SDP_B);
    let answer = body_of(&world.last(A, "200"));
    assert!(answer.contains("m=image 0 udptl t38\r\n"), "{answer}");
}

#[test]
fn offers_that_cross_get_491() {
    let mut world = World::connected();
    world.request(1, A, "INVITE", 11, &format!("{SDP_A}a=sendonly\r\n"));
    let ours = world.last(B, "INVITE");
    world.request(2, B, "INVITE", 1, &format!("{SDP_B}a=sendonly\r\n"));
    assert_eq!(world.count(B, "491"), 1);
    world.answer_to(&ours, 491, "b1", "");
    assert_eq!(
        world.count(A, "491"),
        1,
        "who offered tries again by its own timer"
    );
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn an_offer_of_ours_that_met_another_is_made_again() {
    let mut world = World::connected();
    let id = world.dialog(2);
    let sdp = Some(SDP_A.into());
    world.tell(id, dialog::Message::Offer { sdp, retries: true });
    let before = world.count(B, "INVITE");
    world.answer(B, "INVITE", 491, "");
    world.pass(Duration::from_millis(2_050));
    assert_eq!(
        world.count(B, "INVITE"),
        before,
        "we made the Call-ID: 2.1 s at least"
    );
    world.pass(Duration::from_secs(2));
    assert_eq!(world.count(B, "INVITE"), before + 1);
}

#[test]
fn a_second_offer_before_the_first_is_answered_gets_500() {
    let mut world = World::connected();
    world.request(1, A, "INVITE", 11, SDP_A);
    world.request(1, A, "INVITE", 12, SDP_A);
    let refusal = world.last(A, "500").message;
    assert!(refusal.header(HeaderName::RetryAfter).is_some());
}

#[test]
fn a_lower_cseq_gets_500_and_changes_nothing() {
    let mut world = World::connected();
    world.request(1, A, "BYE", 9, "");
    assert_eq!(world.count(A, "500"), 1);
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn a_re_invite_without_sdp_gets_our_offer_and_its_answer_goes_on() {
    let mut world = World::connected();
    world.request(1, A, "INVITE", 11, "");
    assert!(!body_of(&world.last(A, "200")).is_empty());
    let before = world.count(B, "INVITE");
    world.request(1, A, "ACK", 11, &format!("{SDP_A}a=sendonly\r\n"));
    assert_eq!(world.count(B, "INVITE"), before + 1);
    assert!(body_of(&world.last(B, "INVITE")).contains("a=sendonly"));
    world.answer(B, "INVITE", 200, &format!("{SDP_B}a=recvonly\r\n"));
    assert_eq!(world.state(&world.call_id()), "held");
}

#[test]
fn the_target_follows_the_contact_of_a_re_invite() {
    let mut world = World::connected();
    let text = world.request_text(1, "INVITE", 11, SDP_A, "");
    let text = text.replace(&format!("<sip:1000@{A}>"), "<sip:moved@192.0.2.10:5999>");
    let inbound = world.inbound(A, text, None);
    let id = world.dialog(1);
    world.tell(id, dialog::Message::Request(inbound));
    world.answer(B, "INVITE", 200, SDP_B);
    world.request(1, A, "ACK", 11, "");
    world.request(2, B, "BYE", 1, "");
    let bye = world.last(A, "BYE").message;
    assert_eq!(
        bye.uri().expect("URI").to_string(),
        "sip:moved@192.0.2.10:5999"
    );
}

#[test]
fn a_digit_by_info_is_relayed_and_told() {
    let mut world = World::connected();
    let fields = "Content-Type: application/dtmf-relay\r\n";
    let text = world.request_text(1, "INFO", 11, "Signal=5\r\nDuration=160\r\n", fields);
    let inbound = world.inbound(A, text, None);
    let id = world.dialog(1);
    world.tell(id, dialog::Message::Request(inbound));
    assert!(world.last(A, "200").message.method().is(rsip::Method::Info));
    assert!(body_of(&world.last(B, "INFO")).starts_with("Signal=5"));
    let call = world.call_id().call().expect("a call");
    assert!(world.emitted.contains(&Emitted::Digit {
        call,
        side: 1,
        digit: '5'
    }));
}

#[test]
fn what_a_dialog_does_not_do_is_refused() {
    let mut world = World::connected();
    let fields = "Content-Type: text/plain\r\n";
    let text = world.request_text(1, "INFO", 11, "hello", fields);
    let inbound = world.inbound(A, text, None);
    let id = world.dialog(1);
    world.tell(id, dialog::Message::Request(inbound));
    assert_eq!(world.count(A, "415"), 1);
    world.request(1, A, "MESSAGE", 12, "");
    world.request(1, A, "FROBNICATE", 13, "");
    assert_eq!(world.count(A, "405"), 2);
    assert!(
        world
            .last(A, "405")
            .message
            .header(HeaderName::Allow)
            .is_some()
    );
    world.request(1, A, "OPTIONS", 14, "");
    assert!(
        world
            .last(A, "200")
            .message
            .method()
            .is(rsip::Method::Options)
    );
}

#[test]
fn a_session_timer_is_granted_and_its_end_is_kept() {
    let mut world = World::new();
    let fields = "Supported: timer\r\nSession-Expires: 120\r\n";
    let text = World::invite_text("1001", SDP_A, fields);
    let inbound = world.inbound(A, text, Some("1000@example.org"));
    let id = world.call_id();
    world.tell(id, crate::call::Message::Invite(inbound));
    world.answer(B, "INVITE", 200, SDP_B);
    let ok = world.last(A, "200").message;
    assert_eq!(
        ok.header(HeaderName::SessionExpires),
        Some("120;refresher=uac")
    );
    assert!(ok.lists(HeaderName::Require, "timer"));
    world.ack("");
    world.pass(Duration::from_secs(60));
    let text = world.request_text(1, "UPDATE", 11, "", fields);
    let inbound = world.inbound(A, text, None);
    let id = world.dialog(1);
    world.tell(id, dialog::Message::Request(inbound));
    world.pass(Duration::from_secs(80));
    assert_eq!(world.state(&world.call_id()), "talking", "it was refreshed");
    world.pass(Duration::from_secs(20));
    assert_eq!((world.count(A, "BYE"), world.count(B, "BYE")), (1, 1));
}

#[test]
fn a_session_that_we_shall_refresh_is_refreshed() {
    let mut world = World::new();
    let fields = "Supported: timer\r\nSession-Expires: 120;refresher=uas\r\nAllow: UPDATE\r\n";
    let text = World::invite_text("1001", SDP_A, fields);
    let inbound = world.inbound(A, text, Some("1000@example.org"));
    let id = world.call_id();
    world.tell(id, crate::call::Message::Invite(inbound));
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    world.pass(Duration::from_secs(61));
    let update = world.last(A, "UPDATE").message;
    assert_eq!(
        update.header(HeaderName::SessionExpires),
        Some("120;refresher=uac")
    );
    world.answer(A, "UPDATE", 200, "");
    world.pass(Duration::from_secs(60));
    assert_eq!(world.count(A, "UPDATE"), 2);
}

#[test]
fn trickled_candidates_of_a_phone_reach_its_leg() {
    let mut world = World::new();
    let sdp = super::json::browser("actpass", "sendrecv");
    world.call("1001", &sdp);
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
    let fields = "Content-Type: application/trickle-ice-sdpfrag\r\nInfo-Package: trickle-ice\r\n";
    let body = "a=ice-ufrag:abcd\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
        a=candidate:1 1 udp 2122260223 198.51.100.9 50009 typ host\r\na=end-of-candidates\r\n";
    let text = world.request_text(1, "INFO", 11, body, fields);
    let inbound = world.inbound(A, text, None);
    let id = world.dialog(1);
    world.tell(id.clone(), dialog::Message::Request(inbound));
    assert!(world.last(A, "200").message.method().is(rsip::Method::Info));
    let transport = format!("{:?}", world.config(1).transport);
    assert!(transport.contains("198.51.100.9:50009"), "{transport}");
    assert_eq!(world.count(B, "INFO"), 0, "candidates are no digits");
    let long = format!("{body}a=x:{}\r\n", "y".repeat(4_096));
    let text = world.request_text(1, "INFO", 12, &long, fields);
    let inbound = world.inbound(A, text, None);
    world.tell(id, dialog::Message::Request(inbound));
    assert_eq!(world.count(A, "400"), 1);
}
