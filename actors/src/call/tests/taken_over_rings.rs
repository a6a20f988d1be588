//! A call that another node takes over before its parties talk: row "early dialog" of `cluster.md`
//! §7, and a 2xx that waits for its ACK.

use std::time::Duration;

use contract::FlowRef;
use sip::HeaderName;

use super::fixture::*;
use super::taken_over::{accept, body_of, branch, cseq, is_from, line, port};

pub(super) fn field(sent: &Sent, name: HeaderName) -> String {
    let value = sent.message.header(name);
    value.unwrap_or_else(|| panic!("no {name:?}")).to_owned()
}

pub(super) fn from_tag(sent: &Sent) -> String {
    let from = sent.message.from().expect("From");
    from.tag().expect("a tag").to_owned()
}

pub(super) fn ringing() -> World {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    world
}

#[test]
fn a_fork_is_cancelled_by_its_branch_and_called_anew() {
    let mut world = ringing();
    let first = world.last(B, "INVITE");
    world.take_over(2);
    let cancel = world.last(B, "CANCEL");
    assert_eq!(
        field(&cancel, HeaderName::Via),
        field(&first, HeaderName::Via)
    );
    assert_eq!(cseq(&cancel), cseq(&first));
    assert_eq!(from_tag(&cancel), from_tag(&first));
    // It may have answered, and nobody heard that: then only this ends it.
    let ghost = world.last(B, "BYE");
    assert_eq!(from_tag(&ghost), from_tag(&first));
    assert!(cseq(&ghost) > cseq(&first));
    let second = world.last(B, "INVITE");
    assert_eq!(world.count(B, "INVITE"), 2);
    is_from(&world, &second, 2);
    assert_ne!(branch(&second), branch(&first));
    assert_ne!(from_tag(&second), from_tag(&first));
    assert_ne!(
        field(&second, HeaderName::CallId),
        field(&first, HeaderName::CallId)
    );
    let sdp = body_of(&second);
    assert_eq!(line(&sdp, "c="), "IN IP4 192.0.2.2");
    assert_ne!(port(&sdp), port(&body_of(&first)));
    assert_eq!(
        world.count(A, "487") + world.count(A, "480"),
        0,
        "A hears it ring"
    );
    world.answer(B, "INVITE", 180, "");
    assert_eq!(world.count(A, "180"), 2);
    is_from(&world, &world.last(A, "180"), 2);
    world.answer(B, "INVITE", 200, SDP_B);
    let accepted = world.last(A, "200");
    is_from(&world, &accepted, 2);
    assert_eq!(line(&body_of(&accepted), "c="), "IN IP4 192.0.2.2");
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
    let offers = [world.count(A, "INVITE"), world.count(B, "INVITE")];
    assert_eq!(offers, [0, 2], "both know where we are");
    world.answer_to(&first, 487, "b1", "");
    world.answer_to(&ghost, 481, "b1", "");
    world.request(1, A, "BYE", 11, "");
    world.answer_to(&world.last(B, "BYE"), 200, "b1", "");
    assert_eq!(world.record().cause, "NORMAL_CLEARING");
}

#[test]
fn an_invite_that_was_not_answered_at_all_is_cancelled_too() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    let first = world.last(B, "INVITE");
    world.take_over(2);
    assert_eq!(branch(&world.last(B, "CANCEL")), branch(&first));
    assert_eq!(world.count(B, "INVITE"), 2);
}

#[test]
fn a_fork_that_answers_late_is_acknowledged_and_ended() {
    let mut world = ringing();
    let first = world.last(B, "INVITE");
    world.take_over(2);
    world.answer_to(&first, 200, "late", SDP_B);
    let (ack, bye) = (world.last(B, "ACK"), world.last(B, "BYE"));
    for sent in [&ack, &bye] {
        assert_eq!(
            field(sent, HeaderName::CallId),
            field(&first, HeaderName::CallId)
        );
    }
    assert_eq!(cseq(&ack), cseq(&first));
    assert!(cseq(&bye) > cseq(&first));
    assert_eq!(world.count(A, "200"), 0);
    world.answer_to(&bye, 200, "late", "");
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn a_fork_that_had_answered_wins() {
    let mut world = ringing();
    // The call's own part was not safe yet when its node died.
    let call = world.stored[&world.call_id()].clone();
    world.answer(B, "INVITE", 200, SDP_B);
    world.stored.insert(world.call_id(), call);
    let legs = [world.leg(1), world.dialog(1)];
    let before = ringing();
    for id in legs {
        world.stored.insert(id.clone(), before.stored[&id].clone());
    }
    world.take_over(2);
    assert_eq!((world.count(B, "CANCEL"), world.count(B, "BYE")), (0, 0));
    assert_eq!(world.count(B, "INVITE"), 1);
    is_from(&world, &world.last(A, "200"), 2);
    world.ack("");
    accept(&mut world, B, SDP_B);
    assert_eq!(world.count(B, "INVITE"), 2, "and it is told where we are");
    assert_eq!(world.state(&world.call_id()), "talking");
}

/// The other node lives and passes it on: simulator, 3 nodes, 10 minutes, seed 81162, where the callee
/// never got its ACK, nor was it told where we are.
#[test]
fn a_fork_that_answers_before_it_is_called_anew_wins_and_is_acknowledged() {
    // Our leg has an offer of its own; without one the caller's is passed, or the ACK has its answer.
    for (number, offer, answer) in [
        ("1001", SDP_A, ""),
        ("1001", "", SDP_A),
        ("71001", SDP_A, ""),
        ("71001", "", SDP_A),
    ] {
        let mut world = World::new();
        world.call(number, offer);
        world.answer(B, "INVITE", 180, "");
        let first = world.last(B, "INVITE");
        world.inherit(2);
        world.answer_to(&first, 200, "b1", SDP_B);
        is_from(&world, &world.last(A, "200"), 2);
        world.ack(answer);
        assert_eq!(cseq(&world.last(B, "ACK")), cseq(&first));
        let told = world.last(B, "INVITE");
        is_from(&world, &told, 2);
        assert!(cseq(&told) > cseq(&first));
        accept(&mut world, B, SDP_B);
        assert_eq!(cseq(&world.last(B, "ACK")), cseq(&told));
        assert_eq!(world.state(&world.call_id()), "talking");
        world.pass(Duration::from_secs(40));
        assert_eq!(world.state(&world.call_id()), "talking");
        let invites = [world.count(A, "INVITE"), world.count(B, "INVITE")];
        assert_eq!(invites, [0, 2], "both know where we are");
        assert_eq!((world.count(B, "CANCEL"), world.count(B, "BYE")), (0, 0));
    }
}

#[test]
fn a_fork_that_is_not_heard_of_leaves_after_34_s() {
    let mut world = ringing();
    let old = world.dialog(2);
    world.take_over(2);
    assert_eq!(world.state(&old), "ending");
    world.pass(Duration::from_secs(35));
    assert!(!world.cores.contains_key(&old));
    assert_eq!(
        world.state(&world.call_id()),
        "ending",
        "nobody answered in 30 s"
    );
}

#[test]
fn a_fork_whose_connection_is_gone_is_tried_anew_when_its_binding_returns() {
    let over = |number: u64, node: u16, remote: &str| {
        let flow = FlowRef::Stream {
            node: contract::NodeId(node),
            number,
            listener: WEB,
            remote: remote.parse().expect("an address"),
            door: contract::Door::Sip,
        };
        let mut target = target(B, 1000);
        target.flow = flow;
        target
    };
    let mut world = World::new();
    world.targets = vec![over(7, 1, B)];
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    let old = world.dialog(2);
    world.targets[0].unreachable = true;
    world.take_over(2);
    assert_eq!(world.count(B, "CANCEL"), 0, "there is no way for it");
    assert_eq!(world.state(&old), "cancelling", "it waits for its phone");
    assert_eq!(world.state(&world.call_id()), "locating");
    world.pass(Duration::from_secs(3));
    world.targets = vec![over(9, 2, C)];
    world.pass(Duration::from_secs(1));
    assert_eq!(world.count(C, "INVITE"), 1);
    let ends = ["CANCEL", "BYE"].map(|method| world.count(C, method));
    assert_eq!(ends, [1, 1], "of what rings since before");
    assert_eq!(world.count(A, "480"), 0);
}

#[test]
fn nobody_rings_longer_than_35_s_for_a_caller_that_may_be_gone() {
    let mut world = World::new();
    world.site.limits.ring_timeout = Duration::from_secs(180);
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    world.pass(Duration::from_secs(100));
    world.take_over(2);
    world.answer(B, "INVITE", 180, "");
    world.pass(Duration::from_secs(34));
    assert_eq!((world.count(B, "CANCEL"), world.count(A, "480")), (1, 0));
    world.pass(Duration::from_secs(2));
    assert_eq!((world.count(B, "CANCEL"), world.count(A, "480")), (2, 1));
}

#[test]
fn a_registration_that_was_of_the_dead_node_too_is_asked_until_it_is_there() {
    let mut world = ringing();
    let registered = std::mem::take(&mut world.registered);
    world.take_over(2);
    assert_eq!(world.state(&world.call_id()), "locating");
    world.pass(Duration::from_secs(3));
    assert_eq!(world.count(B, "INVITE"), 1);
    world.registered = registered;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.count(B, "INVITE"), 2);
    world.registered.clear();
    world.take_over(3);
    world.pass(Duration::from_secs(9));
    assert_eq!(world.count(A, "480"), 1, "it is not there");
}

#[test]
fn a_caller_that_heard_early_media_is_told_once_it_is_answered() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 183, SDP_B);
    let early = body_of(&world.last(A, "183"));
    world.take_over(2);
    world.answer(B, "INVITE", 200, SDP_B);
    assert_eq!(
        body_of(&world.last(A, "200")),
        early,
        "RFC 3261 §13.2.1: the same"
    );
    assert_eq!(world.count(A, "INVITE"), 0);
    world.ack("");
    let offer = body_of(&world.last(A, "INVITE"));
    assert_eq!(line(&offer, "c="), "IN IP4 192.0.2.2");
    assert_eq!(world.count(B, "INVITE"), 2, "B knows");
    accept(&mut world, A, SDP_A);
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn a_caller_that_was_answered_before_is_told_while_another_rings() {
    let mut world = World::new();
    world.call("81001", SDP_A);
    world.ack("");
    world.answer(B, "INVITE", 180, "");
    world.take_over(2);
    let offer = world.last(A, "INVITE");
    is_from(&world, &offer, 2);
    accept(&mut world, A, SDP_A);
    assert_eq!(world.count(B, "CANCEL"), 1);
    world.answer(B, "INVITE", 200, SDP_B);
    assert_eq!(world.state(&world.call_id()), "talking");
    assert_eq!(world.count(A, "INVITE"), 1);
}

#[test]
fn a_callee_that_has_answered_is_told_after_the_caller_has_its_200() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 200, SDP_B);
    // The caller's 200 went out; its ACK went to the other node, or the 200 was lost.
    let first = world.last(A, "200");
    world.take_over(2);
    let again = world.last(A, "200");
    assert_eq!(world.count(A, "200"), 2);
    is_from(&world, &again, 2);
    assert_eq!(body_of(&again), body_of(&first));
    assert_eq!(field(&again, HeaderName::To), field(&first, HeaderName::To));
    assert_eq!(
        cseq(&world.last(B, "ACK")),
        cseq(&world.last(B, "INVITE")),
        "once more: it may not have gone out"
    );
    world.ack("");
    for peer in [A, B] {
        is_from(&world, &world.last(peer, "INVITE"), 2);
        accept(&mut world, peer, if peer == A { SDP_A } else { SDP_B });
    }
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn an_ack_that_went_to_the_other_node_is_not_waited_for() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 200, SDP_B);
    world.take_over(2);
    world.pass(Duration::from_millis(1_900));
    assert_eq!(world.count(A, "INVITE"), 0);
    world.pass(Duration::from_millis(200));
    accept(&mut world, A, SDP_A);
    accept(&mut world, B, SDP_B);
    world.pass(Duration::from_secs(40));
    assert_eq!(world.state(&world.call_id()), "talking");
    assert_eq!(world.count(A, "BYE"), 0);
}

#[test]
fn an_answer_that_went_to_the_other_node_comes_with_the_next() {
    let mut world = World::new();
    world.call("1001", "");
    world.answer(B, "INVITE", 200, SDP_B);
    world.take_over(2);
    world.pass(Duration::from_secs(3));
    accept(&mut world, A, SDP_A);
    accept(&mut world, B, SDP_B);
    assert_eq!(world.state(&world.call_id()), "talking");
    let remote = "192.0.2.10:40000".parse().expect("an address");
    assert_eq!(world.config(1).remote, Some(remote));
}

#[test]
fn a_record_with_cancelled_and_new_forks_stays_within_its_bound() {
    for sdp in [
        SDP_A.to_owned(),
        super::json::browser("actpass", "sendrecv") + &candidates(),
    ] {
        let mut world = World::new();
        world.targets = (0..7)
            .map(|number| target(&format!("192.0.2.{}:5060", 100 + number), 500))
            .collect();
        world.call("1001", &sdp);
        let before = world.cores.len();
        world.take_over(2);
        let octets: usize = world.stored.values().map(Vec::len).sum();
        let after = world.cores.len();
        println!("{before} actors, {after} after, {octets} octets");
        assert!(
            octets <= contract::limits::RECORD_BYTES_MAX,
            "{octets} octets"
        );
        assert!(
            world.count("192.0.2.100:5060", "INVITE") == 2,
            "called anew"
        );
    }
}

fn candidates() -> String {
    let line = |number| {
        format!("a=candidate:{number} 1 udp 2122260223 198.51.100.{number} 50009 typ host\r\n")
    };
    (1..20).map(line).collect()
}

#[test]
fn a_call_without_a_number_for_a_further_side_ends() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    for node in 2..40 {
        if world.records().is_empty() && world.count(A, "480") == 0 {
            world.take_over(node);
        }
    }
    assert_eq!(world.count(A, "480"), 1);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.records().len(), 1);
}

/// A whole call, step by step.
const STEPS: usize = 8;

fn step(world: &mut World, number: usize) {
    match number {
        0 => world.call("1001", SDP_A),
        1 => world.answer(B, "INVITE", 180, ""),
        2 => world.answer(B, "INVITE", 200, SDP_B),
        3 => world.ack(""),
        4 => world.request(1, A, "INVITE", 11, &format!("{SDP_A}a=sendonly\r\n")),
        5 => world.answer(B, "INVITE", 200, &format!("{SDP_B}a=recvonly\r\n")),
        6 => world.request(1, A, "ACK", 11, ""),
        7 => {
            world.request(1, A, "BYE", 12, "");
            world.answer(B, "BYE", 200, "");
        }
        _ => unreachable!("there are {STEPS} steps"),
    }
}

/// What both phones do with what they are offered by the new node.
fn settle(world: &mut World, from: usize) {
    let offers: Vec<Sent> = world.sent[from..]
        .iter()
        .filter(|sent| is_of(&sent.message, "INVITE"))
        .filter(|sent| sent.message.to().is_ok_and(|to| to.tag().is_some()))
        .cloned()
        .collect();
    for offer in offers {
        let is_a = offer.flow.remote() == A.parse().expect("an address");
        let (tag, sdp) = if is_a { ("a1", SDP_A) } else { ("b1", SDP_B) };
        let offered = body_of(&offer);
        let sdp = if offered.contains("a=recvonly") {
            format!("{sdp}a=sendonly\r\n")
        } else if offered.contains("a=sendonly") {
            format!("{sdp}a=recvonly\r\n")
        } else {
            sdp.to_owned()
        };
        world.answer_to(&offer, 200, tag, &sdp);
    }
}

#[test]
fn a_take_over_after_any_step_ends_in_one_record() {
    for taken in 0..STEPS - 1 {
        let mut world = World::new();
        for number in 0..STEPS {
            // An offer that was refused by the take-over is not answered any more.
            if !(taken == 4 && matches!(number, 5 | 6)) {
                step(&mut world, number);
            }
            if number == taken {
                let from = world.sent.len();
                world.take_over(2);
                world.pass(Duration::from_millis(2_500));
                settle(&mut world, from);
            }
        }
        world.pass(Duration::from_secs(40));
        let record = world.record();
        assert_eq!(record.cause, "NORMAL_CLEARING", "taken over after {taken}");
        assert!(record.answered.is_some());
    }
}

#[test]
fn no_cseq_is_used_twice_over_many_take_overs() {
    let mut world = World::connected();
    for round in 0..30_u32 {
        world.request(1, A, "INVITE", 11 + round, SDP_A);
        if round % 2 == 0 {
            accept(&mut world, B, SDP_B);
        }
        let from = world.sent.len();
        world.take_over(u16::try_from(round).expect("small") + 100);
        if round % 3 == 0 {
            world.restart();
        }
        settle(&mut world, from);
        assert_eq!(world.state(&world.call_id()), "talking", "round {round}");
    }
    let mut used = std::collections::BTreeMap::new();
    for sent in world.sent.iter().filter(|sent| sent.what == Kind::Request) {
        let key = (sent.by.clone(), cseq(sent));
        let bytes = sent.message.bytes().clone();
        let former = used.insert(key.clone(), bytes.clone());
        assert!(former.is_none_or(|former| former == bytes), "{key:?}");
    }
    println!("{} requests", used.len());
    assert!(used.len() > 60);
}

#[test]
fn a_take_over_in_the_middle_of_the_events_of_a_step_ends_in_one_record_at_most() {
    let mut ended = 0;
    for every in 2..40 {
        let mut world = World::new();
        world.has_heirs = true;
        for number in 0..4 {
            let from = world.sent.len();
            world.kills_after = Some(every);
            let has_invite = world.count(B, "INVITE") > 0;
            let has_ok = world.count(A, "200") > 0;
            match number {
                1 | 2 if !has_invite => world.call("1001", SDP_A),
                3 if !has_ok => {}
                _ => step(&mut world, number),
            }
            world.kills_after = None;
            settle(&mut world, from);
        }
        for _ in 0..4 {
            world.pass(Duration::from_secs(60));
            for peer in [A, B] {
                if world.count(peer, "BYE") > 0 {
                    world.answer(peer, "BYE", 200, "");
                }
            }
            let id = world.call_id();
            if world.cores.contains_key(&id) {
                let cause = "NORMAL_CLEARING".to_owned();
                world.tell(id, crate::call::Message::Hangup { cause });
            }
        }
        let records = world.records();
        assert!(
            records.len() <= 1,
            "killed every {every} events: {records:?}"
        );
        let is_over = world.cores.is_empty() && world.stored.is_empty();
        assert!(
            is_over,
            "killed every {every}: left {:?}",
            world.stored.keys()
        );
        ended += records.len();
    }
    println!("{ended} of 38 calls left a record");
    assert!(ended >= 30);
}
