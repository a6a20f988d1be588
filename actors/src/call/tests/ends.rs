//! Every way a call can end: one record, nothing left.

use std::time::Duration;

use contract::{Event, Space};

use super::fixture::*;
use crate::dialog::RequestFailure;
use crate::{Message, call, dialog, media_leg};

#[test]
fn a_bye_of_the_caller_ends_the_callee() {
    let mut world = World::connected();
    world.request(1, A, "BYE", 11, "");
    assert!(
        !world.last(A, "200").is_gated,
        "the 200 to BYE waits for nothing"
    );
    assert_eq!(world.count(B, "BYE"), 1);
    assert!(world.records().is_empty());
    world.answer(B, "BYE", 200, "");
    let record = world.record();
    assert_eq!(
        (record.cause.as_str(), record.ended_by.as_str()),
        ("NORMAL_CLEARING", "caller")
    );
    assert!(record.answered.is_some());
    assert_eq!(
        (record.from.as_str(), record.to.as_str()),
        ("sip:1000@example.org", "1001@example.org")
    );
    assert!(world.is_closed(1) && world.is_closed(2));
}

#[test]
fn a_bye_of_the_callee_ends_the_caller() {
    let mut world = World::connected();
    world.request(2, B, "BYE", 1, "");
    world.answer(A, "BYE", 200, "");
    assert_eq!(world.record().ended_by, "callee");
}

/// The node with its connection was out of reach when it was sent: simulator, 3 nodes, seed 4.
#[test]
fn a_callee_that_goes_on_speaking_after_its_bye_is_given_the_same_bye_again() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 200, SDP_B);
    let invite = world.last(B, "INVITE");
    world.ack("");
    world.request(1, A, "BYE", 11, "");
    let first = world.last(B, "BYE").message;
    world.request(2, B, "INVITE", 1, SDP_B);
    world.last(B, "481");
    assert_eq!(world.count(B, "BYE"), 2);
    world.answer_to(&invite, 200, "b1", SDP_B);
    assert_eq!((world.count(B, "ACK"), world.count(B, "BYE")), (2, 3));
    let again = world.last(B, "BYE").message;
    assert_eq!(first.bytes(), again.bytes(), "a copy, not a second one");
    world.answer(B, "BYE", 200, "");
    world.record();
}

#[test]
fn a_callee_that_hangs_up_before_the_ack_waits_for_it() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 200, SDP_B);
    world.request(2, B, "BYE", 1, "");
    assert_eq!(world.count(A, "BYE"), 0, "RFC 3261 section 15");
    world.ack("");
    assert_eq!(world.count(A, "BYE"), 1);
    world.answer(A, "BYE", 200, "");
    assert_eq!(world.record().ended_by, "callee");
}

#[test]
fn a_cancel_ends_every_fork() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    world.cancel(A);
    assert_eq!((world.count(A, "200"), world.count(A, "487")), (1, 1));
    assert_eq!(world.count(B, "CANCEL"), 1);
    world.answer(B, "INVITE", 487, "");
    let record = world.record();
    assert_eq!(
        (record.cause.as_str(), record.status),
        ("ORIGINATOR_CANCEL", Some(487))
    );
    assert_eq!(record.answered, None);
}

#[test]
fn a_cancel_waits_for_a_provisional_response() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.cancel(A);
    assert_eq!(world.count(B, "CANCEL"), 0, "RFC 3261 section 9.1");
    world.answer(B, "INVITE", 100, "");
    assert_eq!(world.count(B, "CANCEL"), 1);
    world.answer(B, "INVITE", 487, "");
    assert_eq!(world.records().len(), 1);
}

#[test]
fn a_cancel_that_crosses_the_answer_ends_it_with_bye() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    let invite = world.last(B, "INVITE");
    world.cancel(A);
    world.answer_to(&invite, 200, "b1", SDP_B);
    assert_eq!((world.count(B, "ACK"), world.count(B, "BYE")), (1, 1));
    assert_eq!(world.count(A, "200"), 1, "only the CANCEL's");
    world.answer(B, "BYE", 200, "");
    assert_eq!(world.record().cause, "ORIGINATOR_CANCEL");
}

#[test]
fn busy_is_passed() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 486, "");
    assert_eq!(world.count(A, "486"), 1);
    assert_eq!(world.record().cause, "USER_BUSY");
}

#[test]
fn no_answer_is_480_and_the_forks_are_cancelled() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    world.pass(Duration::from_secs(30));
    assert_eq!((world.count(A, "480"), world.count(B, "CANCEL")), (1, 1));
    world.answer(B, "INVITE", 487, "");
    assert_eq!(world.record().cause, "NO_ANSWER");
}

#[test]
fn an_unknown_account_is_404_and_an_unregistered_one_480() {
    for (dialled, status, cause) in [
        ("1777", "404", "UNALLOCATED_NUMBER"),
        ("1000", "480", "SUBSCRIBER_ABSENT"),
    ] {
        let mut world = World::new();
        world.call(dialled, SDP_A);
        assert_eq!(world.count(A, status), 1, "{dialled}");
        assert_eq!(world.record().cause, cause);
    }
}

#[test]
fn a_number_without_route_is_404() {
    let mut world = World::new();
    world.call("+882123", SDP_A);
    assert_eq!(world.count(A, "404"), 1);
    assert_eq!(world.record().cause, "NO_ROUTE_DESTINATION");
}

#[test]
fn a_challenge_of_a_callee_is_never_answered_or_passed() {
    for status in [401, 407] {
        let mut world = World::new();
        world.call("1001", SDP_A);
        world.answer(B, "INVITE", status, "");
        assert_eq!(world.count(A, "502"), 1);
        assert_eq!(world.count(B, "INVITE"), 1);
        assert_eq!(world.record().cause, "NETWORK_OUT_OF_ORDER");
    }
}

#[test]
fn a_callee_that_does_not_respond_is_408() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    let invite = world.last(B, "INVITE");
    let branch = invite
        .message
        .via()
        .expect("Via")
        .branch()
        .expect("branch")
        .to_owned();
    let why = RequestFailure::TimedOut;
    world.tell(invite.by, dialog::Message::RequestFailed { branch, why });
    assert_eq!(world.count(A, "408"), 1);
    assert_eq!(world.record().status, Some(408));
}

#[test]
fn silence_of_a_leg_ends_both_sides() {
    let mut world = World::connected();
    let leg = world.leg(2);
    world.give(leg, silence());
    assert_eq!((world.count(A, "BYE"), world.count(B, "BYE")), (1, 1));
    world.answer(A, "BYE", 200, "");
    world.answer(B, "BYE", 481, "");
    let record = world.record();
    assert_eq!(
        (record.cause.as_str(), record.ended_by.as_str()),
        ("MEDIA_TIMEOUT", "weft")
    );
}

#[test]
fn silence_before_the_answer_means_nothing() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 183, SDP_B);
    let leg = world.leg(2);
    world.give(leg, silence());
    assert_eq!(world.state(&world.call_id()), "ringing");
}

#[test]
fn a_2xx_without_ack_is_repeated_and_then_ended() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 200, SDP_B);
    world.pass(Duration::from_secs(31));
    let repeats = world.count(A, "200");
    assert!(
        (9..=12).contains(&repeats),
        "{repeats} copies at 0.5, 1, 2, 4, 4 … s"
    );
    let again = world.last(A, "200");
    assert!(!again.is_urgent, "the first may still wait behind the gate");
    world.pass(Duration::from_secs(2));
    assert_eq!((world.count(A, "BYE"), world.count(B, "BYE")), (1, 1));
    world.answer(A, "BYE", 200, "");
    world.answer(B, "BYE", 200, "");
    assert_eq!(world.record().cause, "RECOVERY_ON_TIMER_EXPIRE");
}

#[test]
fn an_ack_stops_the_copies() {
    let mut world = World::connected();
    world.pass(Duration::from_secs(40));
    assert_eq!(world.count(A, "200"), 1);
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn the_longest_call_ends_by_itself() {
    let mut world = World::new();
    world.site.limits.call_max = Duration::from_secs(600);
    world.connect();
    world.pass(Duration::from_secs(601));
    world.answer(A, "BYE", 200, "");
    world.answer(B, "BYE", 200, "");
    assert_eq!(world.record().cause, "ALLOTTED_TIMEOUT");
}

#[test]
fn the_operator_ends_a_call() {
    let mut world = World::connected();
    let id = world.call_id();
    world.tell(
        id,
        call::Message::Hangup {
            cause: "CALL_REJECTED".to_owned(),
        },
    );
    let bye = world.last(A, "BYE").message;
    assert!(
        bye.header(sip::HeaderName::Reason)
            .is_some_and(|reason| reason.contains("cause=21"))
    );
    world.answer(A, "BYE", 200, "");
    world.answer(B, "BYE", 200, "");
    assert_eq!(world.record().ended_by, "weft");
}

#[test]
fn peers_that_are_dead_do_not_keep_the_record() {
    let mut world = World::connected();
    world.request(1, A, "BYE", 11, "");
    world.pass(Duration::from_secs(41));
    assert_eq!(world.record().cause, "NORMAL_CLEARING");
}

#[test]
fn a_dialog_that_is_given_up_ends_the_call() {
    let mut world = World::connected();
    let (id, lost) = (world.call_id(), world.dialog(2));
    world.cores.remove(&lost);
    world.give(id, Event::ChildLost { id: lost });
    world.answer(A, "BYE", 200, "");
    assert_eq!(world.record().cause, "NORMAL_TEMPORARY_FAILURE");
}

#[test]
fn a_full_node_sheds_before_any_work() {
    for shed in 0..4 {
        let mut world = World::new();
        match shed {
            0 => world.health.draining = true,
            1 => world.health.space = Space::Low,
            2 => {
                world.site.limits.calls_max = 10;
                world.health.calls = 11;
            }
            _ => {
                world.site.domains[0].calls_max = 10;
                world.health.calls = 11;
            }
        }
        world.call("1001", SDP_A);
        let refusal = world.last(A, "503").message;
        assert!(refusal.header(sip::HeaderName::RetryAfter).is_some());
        assert!(world.stored.is_empty() && world.cores.is_empty() && world.media.is_empty());
        assert!(world.records().is_empty(), "it never was a call");
    }
}

#[test]
fn the_last_call_that_is_allowed_is_let_in() {
    let mut world = World::new();
    world.site.limits.calls_max = 10;
    world.health.calls = 10;
    world.call("1001", SDP_A);
    assert_eq!(world.count(B, "INVITE"), 1);
}

#[test]
fn an_invite_larger_than_a_call_keeps_is_513() {
    let mut world = World::new();
    let sdp = format!("{SDP_A}a=x:{}\r\n", "y".repeat(7_000));
    world.call("1001", &sdp);
    assert_eq!(world.count(A, "513"), 1);
    assert!(world.stored.is_empty());
}

#[test]
fn re_invite_that_meets_a_dead_dialog_ends_the_call() {
    let mut world = World::connected();
    world.request(1, A, "INVITE", 11, SDP_A);
    world.answer(B, "INVITE", 481, "");
    world.answer(A, "BYE", 200, "");
    world.answer(B, "BYE", 481, "");
    assert_eq!(world.record().cause, "NORMAL_TEMPORARY_FAILURE");
}

/// Simulator, 3 nodes, seed 524.
#[test]
fn a_leg_that_never_says_anything_holds_no_call_for_ever() {
    let kills: [fn(&Message) -> bool; 2] = [
        |message| {
            let Message::MediaLeg(message) = message else {
                return false;
            };
            matches!(message, media_leg::Message::TakeOffer { .. })
        },
        |message| {
            let Message::MediaLeg(message) = message else {
                return false;
            };
            matches!(message, media_leg::Message::MakeAnswer { .. })
        },
    ];
    for kills in kills {
        let mut world = World::new();
        world.kills = kills;
        world.call("9196", SDP_A);
        world.pass(Duration::from_secs(29));
        assert_eq!(world.count(A, "500"), 0);
        world.pass(Duration::from_secs(2));
        assert_eq!(world.count(A, "500"), 1);
        world.ack("");
        world.pass(Duration::from_secs(41));
        assert_eq!(world.record().cause, "NORMAL_TEMPORARY_FAILURE");
        assert!(world.stored.is_empty());
    }
}

/// What a copy of the call has said that another node has lost: simulator, 3 nodes, seed 461.
#[test]
fn a_leg_that_is_there_is_not_taken_for_closed() {
    let mut world = World::connected();
    world.take_over(2);
    let closed = call::Message::Media {
        side: 1,
        report: media_leg::Report::Closed,
    };
    world.tell(world.call_id(), closed);
    assert_eq!(world.state(&world.call_id()), "talking");
    assert_eq!(world.count(A, "BYE") + world.count(B, "BYE"), 0);
    world.request(1, A, "BYE", 11, "");
    world.answer_to(&world.last(B, "BYE"), 200, "b1", "");
    assert!(world.is_closed(1) && world.is_closed(2));
    assert_eq!(world.record().cause, "NORMAL_CLEARING");
}
