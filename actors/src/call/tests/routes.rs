//! Routes that need no callee: echo, tone, hang-up; and answer before bridge.

use contract::MediaRoute;

use super::fixture::*;

#[test]
fn echo_answers_and_sends_the_sound_back() {
    let mut world = World::new();
    world.call("9196", SDP_A);
    let body = world.last(A, "200").message.body_bytes();
    assert!(String::from_utf8_lossy(&body).contains("RTP/AVP 0 8 101"));
    world.ack("");
    assert_eq!(world.config(1).route, MediaRoute::Echo);
    assert!(world.config(1).payloads.contains(&(0, 0)));
    world.request(1, A, "BYE", 11, "");
    assert_eq!(world.record().ended_by, "caller");
}

#[test]
fn echo_without_offer_makes_one() {
    let mut world = World::new();
    world.call("9196", "");
    assert!(!world.last(A, "200").message.body().is_empty());
    world.ack(SDP_A);
    assert_eq!(world.config(1).route, MediaRoute::Echo);
}

#[test]
fn a_tone_is_sent_as_the_caller_speaks() {
    for (formats, payload) in [("0 8 101", 0), ("8 101", 8)] {
        let mut world = World::new();
        world.call("9197", &SDP_A.replace("0 8 101", formats));
        world.ack("");
        let expected = MediaRoute::Tone {
            hertz: 1004,
            level_dbm0: -16,
            payload,
        };
        assert_eq!(world.config(1).route, expected);
    }
}

#[test]
fn a_tone_for_a_codec_that_cannot_carry_it_is_488() {
    let mut world = World::new();
    world.call("9197", &SDP_A.replace("0 8 101", "9 101"));
    assert_eq!(world.count(A, "488"), 1);
    assert_eq!(world.record().cause, "INCOMPATIBLE_DESTINATION");
}

#[test]
fn hangup_ends_with_its_cause() {
    let mut world = World::new();
    world.call("9000", SDP_A);
    assert_eq!(world.count(A, "486"), 1);
    assert_eq!(world.record().cause, "USER_BUSY");
}

#[test]
fn a_caller_that_was_answered_is_bridged_afterwards() {
    let mut world = World::new();
    world.call("81001", SDP_A);
    assert_eq!(world.count(A, "200"), 1);
    assert_eq!(world.count(B, "INVITE"), 0, "the ACK comes first");
    world.ack("");
    world.answer(B, "INVITE", 180, "");
    assert_eq!(world.count(A, "180"), 0);
    world.answer(B, "INVITE", 200, SDP_B);
    assert_eq!(world.state(&world.call_id()), "talking");
    assert_eq!(world.config(1).route, MediaRoute::Relay(world.side(2)));
    assert_eq!(world.count(A, "200"), 1);
}

#[test]
fn a_caller_that_was_answered_hears_a_failed_bridge_as_bye() {
    let mut world = World::new();
    world.call("81001", SDP_A);
    world.ack("");
    world.answer(B, "INVITE", 486, "");
    assert_eq!(world.count(A, "BYE"), 1);
    world.answer(A, "BYE", 200, "");
    assert_eq!(world.record().cause, "USER_BUSY");
}

#[test]
fn hold_of_an_echo_is_answered_by_the_leg() {
    let mut world = World::new();
    world.call("9196", SDP_A);
    world.ack("");
    world.request(1, A, "INVITE", 11, &format!("{SDP_A}a=sendonly\r\n"));
    let body = world.last(A, "200").message.body_bytes();
    assert!(String::from_utf8_lossy(&body).contains("a=recvonly"));
    assert!(!world.config(1).sends);
}
