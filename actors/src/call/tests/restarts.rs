//! Kills and panics at every step: the call goes on, no number is used twice, one record.

use std::collections::BTreeSet;
use std::time::Duration;

use contract::limits::CSEQ_BLOCK;
use contract::{ActorId, MediaCommand};

use super::fixture::*;
use crate::call;

/// A whole call, step by step: what is done, and in which state it must end.
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

#[test]
fn a_kill_between_any_two_steps_is_survived() {
    for killed in 0..STEPS - 1 {
        let mut world = World::new();
        for number in 0..STEPS {
            step(&mut world, number);
            if number == killed {
                world.restart();
            }
        }
        let record = world.record();
        assert_eq!(
            record.cause, "NORMAL_CLEARING",
            "killed after step {killed}"
        );
        assert!(record.answered.is_some());
    }
}

#[test]
fn a_kill_between_all_steps_is_survived() {
    let mut world = World::new();
    for number in 0..STEPS {
        step(&mut world, number);
        if number < STEPS - 1 {
            world.restart();
        }
    }
    assert_eq!(world.record().cause, "NORMAL_CLEARING");
}

#[test]
fn a_panic_of_any_actor_between_any_two_steps_is_survived() {
    for panicked in 0..STEPS - 1 {
        for actor in 0..5 {
            let mut world = World::new();
            for number in 0..STEPS {
                step(&mut world, number);
                if number == panicked {
                    let id = match actor {
                        0 => world.call_id(),
                        1 => world.dialog(1),
                        2 => world.dialog(2),
                        3 => world.leg(1),
                        _ => world.leg(2),
                    };
                    world.panic(&id);
                }
            }
            let record = world.record();
            assert_eq!(
                record.cause, "NORMAL_CLEARING",
                "actor {actor} after step {panicked}"
            );
        }
    }
}

#[test]
fn a_kill_in_the_middle_of_the_events_of_a_step_ends_in_one_record_at_most() {
    // A kill loses what is on its way between actors; peers repeat what was not answered.
    let mut ended = 0;
    for every in 2..40 {
        let mut world = World::new();
        for number in 0..4 {
            world.kills_after = Some(every);
            attempt(&mut world, number);
            world.kills_after = None;
        }
        for _ in 0..4 {
            world.pass(Duration::from_secs(60));
            hang_up(&mut world);
        }
        let records = world.records();
        assert!(
            records.len() <= 1,
            "killed every {every} events: {records:?}"
        );
        let is_over = world.cores.is_empty() && world.stored.is_empty();
        assert!(
            is_over,
            "killed every {every} events: left {:?}",
            world.stored.keys()
        );
        ended += records.len();
    }
    println!("{ended} of 38 calls left a record");
    assert!(ended >= 30);
}

/// A step, if what it answers was sent at all.
fn attempt(world: &mut World, number: usize) {
    let has_invite = world.count(B, "INVITE") > 0;
    let has_ok = world.count(A, "200") > 0;
    match number {
        1 | 2 if !has_invite => world.call("1001", SDP_A),
        3 if !has_ok => {}
        _ => step(world, number),
    }
}

fn hang_up(world: &mut World) {
    if world.count(B, "CANCEL") > 0 {
        world.answer(B, "INVITE", 487, "");
    }
    for peer in [A, B] {
        if world.count(peer, "BYE") > 0 {
            world.answer(peer, "BYE", 200, "");
        }
    }
    let id = world.call_id();
    if world.cores.contains_key(&id) {
        world.tell(
            id,
            call::Message::Hangup {
                cause: "NORMAL_CLEARING".to_owned(),
            },
        );
    }
}

#[test]
fn a_restored_call_goes_on_ringing() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    let first = world.last(B, "INVITE").message;
    world.restart();
    let again = world.last(B, "INVITE").message;
    assert_eq!(
        first.bytes(),
        again.bytes(),
        "the same INVITE, for B a retransmission"
    );
    assert_eq!(world.count(A, "180"), 1);
    assert_eq!(world.count(B, "CANCEL"), 0);
    world.answer(B, "INVITE", 200, SDP_B);
    assert_eq!(world.count(A, "200"), 1);
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn an_invite_that_comes_again_gets_the_last_response() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    world.restart();
    world.call("1001", SDP_A);
    assert_eq!(world.count(A, "180"), 2);
    let again = world.last(A, "180");
    assert!(!again.is_urgent, "the first may still wait behind the gate");
    assert_eq!(
        world.count(B, "INVITE"),
        2,
        "no fork is made twice: only the copy of the restart"
    );
    world.answer(B, "INVITE", 200, SDP_B);
    world.call("1001", SDP_A);
    assert_eq!(world.count(A, "200"), 2);
}

#[test]
fn a_2xx_that_comes_again_after_a_restart_gets_the_same_ack() {
    let mut world = World::connected();
    let (invite, ack) = (world.last(B, "INVITE"), world.last(B, "ACK").message);
    world.restart();
    world.answer_to(&invite, 200, "b1", SDP_B);
    assert_eq!(world.last(B, "ACK").message.bytes(), ack.bytes());
}

#[test]
fn our_2xx_is_repeated_after_a_restart() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 200, SDP_B);
    world.restart();
    let before = world.count(A, "200");
    world.pass(Duration::from_secs(5));
    assert!(world.count(A, "200") > before);
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn no_cseq_is_used_twice_in_a_dialog() {
    let mut world = World::connected();
    for round in 0..40 {
        world.request(1, A, "INVITE", 11 + round, SDP_A);
        if round % 3 == 0 {
            world.restart();
        }
        world.answer(B, "INVITE", 200, SDP_B);
        world.request(1, A, "ACK", 11 + round, "");
        assert_eq!(world.state(&world.call_id()), "talking", "round {round}");
    }
    let mut used = BTreeSet::new();
    for sent in world.sent.iter().filter(|sent| sent.by == world.dialog(2)) {
        if sent.what == Kind::Request && sent.message.method().is(rsip::Method::Invite) {
            let number = sent.message.cseq().expect("CSeq").number;
            let branch = sent.message.via().expect("Via").branch().map(str::to_owned);
            used.insert((number, branch));
        }
    }
    let numbers: BTreeSet<u32> = used.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers.len(), used.len(), "a number went with two branches");
    assert_eq!(numbers.len(), 41, "one for the call, one a round");
}

#[test]
fn a_block_of_cseqs_is_safe_before_it_is_used() {
    let mut world = World::connected();
    let used = world.last(B, "ACK").message.cseq().expect("CSeq").number;
    // Another node may have used the block that came with the dialog.
    world.restart();
    world.request(1, A, "BYE", 11, "");
    let number = world.last(B, "BYE").message.cseq().expect("CSeq").number;
    assert_eq!(number, used + CSEQ_BLOCK + 1);
}

#[test]
fn a_restored_leg_takes_its_port_again_and_skips_its_reserve() {
    let mut world = World::connected();
    let before = world.config(1);
    let leg = world.side(1);
    let port = world.media.iter().find_map(|command| match command {
        MediaCommand::Configure { .. } => None,
        MediaCommand::Open { leg: opened, .. } if *opened == leg => Some(20_002),
        _ => None,
    });
    world.restart();
    let opened = world.media.iter().rev().find_map(|command| match command {
        MediaCommand::Open {
            leg: opened, port, ..
        } if *opened == leg => *port,
        _ => None,
    });
    assert_eq!(opened, port);
    let after = world.config(1);
    assert_eq!(
        after.sequence_start,
        before.sequence_start.wrapping_add(2_048)
    );
    assert_eq!(after.ssrc, before.ssrc);
    assert_eq!(after.negotiation, before.negotiation);
    assert_eq!((after.remote, after.route), (before.remote, before.route));
}

#[test]
fn an_end_that_was_interrupted_is_finished() {
    let mut world = World::connected();
    world.request(1, A, "BYE", 11, "");
    let first = world.last(B, "BYE").message.cseq().expect("CSeq").number;
    world.restart();
    let second = world.last(B, "BYE").message.cseq().expect("CSeq").number;
    assert!(second > first, "a new number");
    world.answer(B, "BYE", 200, "");
    assert_eq!(world.record().ended_by, "caller");
}

#[test]
fn a_snapshot_for_people_holds_no_credentials() {
    let mut world = World::new();
    let fields = "Proxy-Authorization: Digest username=\"1000\", response=\"deadbeefcafe\"\r\n";
    let text = World::invite_text("1001", SDP_A, fields);
    let inbound = world.inbound(A, text, Some("1000@example.org"));
    let id = world.call_id();
    world.tell(id, call::Message::Invite(inbound));
    for (id, core) in &world.cores {
        let view = contract::Roster::view(core, world.now).to_string();
        assert!(!view.contains("deadbeefcafe"), "{id}: {view}");
    }
    let invite = world.last(B, "INVITE").message;
    assert!(!String::from_utf8_lossy(invite.bytes()).contains("deadbeefcafe"));
}

#[test]
fn a_record_stays_within_its_bound() {
    let mut world = World::new();
    world.targets = (0..20)
        .map(|number| target(&format!("192.0.2.{}:5060", 100 + number), 500))
        .collect();
    world.call("1001", SDP_A);
    let octets: usize = world.stored.values().map(Vec::len).sum();
    assert!(
        octets <= contract::limits::RECORD_BYTES_MAX,
        "{octets} octets"
    );
    let forks = world
        .cores
        .keys()
        .filter(|id| matches!(id, ActorId::Dialog(_)))
        .count();
    println!("{} forks, {octets} octets", forks - 1);
    assert!(forks > 8);
}

#[test]
fn ringing_is_passed_again_after_a_restart() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    world.restart();
    world.answer(B, "INVITE", 180, "");
    assert_eq!(
        world.count(A, "180"),
        2,
        "the first may have been lost with the node"
    );
}
