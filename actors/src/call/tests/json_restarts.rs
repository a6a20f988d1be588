//! Clients whose connection, or whose node, goes away in the middle of a call.

use std::time::Duration;

use serde_json::json;

use super::fixture::*;
use super::json::{ALICE, BOB, browser, sdp_of};

/// The node is killed; the client comes back over another connection with its token.
fn come_back(world: &mut World, number: u64, token: &str, calls: &[&str]) {
    world.open(number);
    world.say(
        number,
        "resumeSession",
        json!({ "token": token, "calls": calls }),
    );
}

#[test]
fn a_call_that_is_up_survives_a_kill_and_its_client_comes_back() {
    let mut world = World::new();
    let token = world.register(ALICE, "1000");
    world.dial("1001");
    world.answer(B, "INVITE", 200, SDP_B);
    world.restart();
    world.pass(Duration::from_secs(30));
    assert_eq!(world.state(&world.json_call()), "talking");
    come_back(&mut world, 21, &token, &["c1", "c2"]);
    let registered = world.told(21, "registered");
    assert_eq!(registered["resumed"], true);
    assert_eq!(
        registered["calls"],
        json!([{ "callId": "c1", "state": "talking" }, { "callId": "c2", "state": "gone" }])
    );
    // It has not shown that it knows of the answer: it is told once more.
    assert_eq!(world.kinds(21), ["registered", "callAccepted"]);
    let sdp = browser("actpass", "sendrecv").replace("abcd", "wxyz");
    let payload = json!({ "callId": "c1", "sdp": sdp, "iceRestart": true });
    world.say(21, "reoffer", payload);
    world.answer(B, "INVITE", 200, SDP_B);
    assert!(sdp_of(&world.told(21, "reanswer")).contains("a=ice-lite"));
    world.say(21, "hangup", json!({ "callId": "c1" }));
    world.answer(B, "BYE", 200, "");
    assert_eq!(world.record().cause, "NORMAL_CLEARING");
}

#[test]
fn an_incoming_call_survives_a_kill_and_is_shown_again() {
    let mut world = World::new();
    let token = world.register(BOB, "1001");
    world.call("1001", SDP_A);
    let before = world.heard(BOB, "incoming")[0].clone();
    world.restart();
    world.pass(Duration::from_secs(3));
    come_back(&mut world, 22, &token, &[]);
    world.pass(Duration::from_secs(2));
    let again = world.heard(22, "incoming")[0].clone();
    assert_eq!(
        (&again["id"], &again["payload"]),
        (&before["id"], &before["payload"])
    );
    let call_id = again["payload"]["callId"].clone();
    let payload = json!({ "callId": call_id, "sdp": browser("active", "sendrecv") });
    world.say(22, "answer", payload);
    assert_eq!(world.count(A, "200"), 1);
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn a_client_that_rang_and_does_not_come_back_is_given_up_after_eight_seconds() {
    let mut world = World::new();
    world.register(BOB, "1001");
    world.call("1001", SDP_A);
    let call_id = world.incoming();
    world.say(BOB, "ringing", json!({ "callId": call_id }));
    world.drop_connection(BOB);
    world.pass(Duration::from_secs(7));
    assert_eq!(world.count(A, "480"), 0);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.count(A, "480"), 1);
    assert_eq!(world.record().status, Some(480));
}

#[test]
fn a_call_to_a_client_that_is_away_waits_for_it() {
    let mut world = World::new();
    let token = world.register(BOB, "1001");
    world.drop_connection(BOB);
    world.call("1001", SDP_A);
    assert_eq!(world.state(&world.call_id()), "locating");
    world.pass(Duration::from_secs(4));
    come_back(&mut world, 22, &token, &[]);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.heard(22, "incoming").len(), 1);

    let mut world = World::new();
    world.register(BOB, "1001");
    world.drop_connection(BOB);
    world.call("1001", SDP_A);
    world.pass(Duration::from_secs(9));
    assert_eq!(world.count(A, "480"), 1);
}

#[test]
fn a_caller_that_is_gone_for_eight_seconds_rings_nobody() {
    let mut world = World::new();
    let token = world.register(ALICE, "1000");
    world.dial("1001");
    world.answer(B, "INVITE", 180, "");
    world.drop_connection(ALICE);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.count(B, "CANCEL"), 0);
    come_back(&mut world, 21, &token, &["c1"]);
    assert_eq!(world.told(21, "registered")["calls"][0]["state"], "ringing");
    assert_eq!(world.heard(21, "ringing").len(), 1);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.count(B, "CANCEL"), 0);
    world.drop_connection(21);
    world.pass(Duration::from_secs(9));
    assert_eq!(world.count(B, "CANCEL"), 1);
    world.answer(B, "INVITE", 487, "");
    assert_eq!(world.record().cause, "ORIGINATOR_CANCEL");
}

#[test]
fn an_answer_that_the_caller_missed_is_said_again() {
    let mut world = World::new();
    let token = world.register(ALICE, "1000");
    world.dial("1001");
    world.drop_connection(ALICE);
    world.answer(B, "INVITE", 200, SDP_B);
    assert!(world.heard(ALICE, "callAccepted").is_empty());
    come_back(&mut world, 21, &token, &["c1"]);
    let accepted = world.heard(21, "callAccepted")[0].clone();
    assert_eq!(accepted["id"], "call-1", "the reply to its call");
    assert!(sdp_of(&accepted["payload"]).contains("a=ice-lite"));
}

#[test]
fn an_end_that_the_client_missed_is_said_when_it_comes_back() {
    let mut world = World::new();
    let token = world.register(ALICE, "1000");
    world.dial("1001");
    world.answer(B, "INVITE", 200, SDP_B);
    world.drop_connection(ALICE);
    world.request(2, B, "BYE", 1, "");
    world.pass(Duration::from_secs(3));
    come_back(&mut world, 21, &token, &["c1"]);
    assert_eq!(world.told(21, "registered")["calls"][0]["state"], "ending");
    assert_eq!(world.told(21, "hangup")["cause"], "NORMAL_CLEARING");
    world.acknowledge(21, "hangup");
    assert_eq!(world.record().ended_by, "callee");
}

#[test]
fn a_reoffer_waits_for_the_client_and_no_longer_than_eight_seconds() {
    let mut world = World::new();
    let token = world.register(ALICE, "1000");
    world.dial("1001");
    world.answer(B, "INVITE", 200, SDP_B);
    world.drop_connection(ALICE);
    let hold = format!("{SDP_B}a=sendonly\r\n");
    world.request(2, B, "INVITE", 1, &hold);
    world.pass(Duration::from_secs(5));
    come_back(&mut world, 21, &token, &["c1"]);
    assert_eq!(world.told(21, "reoffer")["why"], "hold");
    let payload = json!({ "callId": "c1", "sdp": browser("active", "recvonly") });
    world.say(21, "reanswer", payload);
    assert_eq!(world.count(B, "200"), 1);
    world.request(2, B, "ACK", 1, "");
    world.drop_connection(21);
    world.request(2, B, "INVITE", 2, SDP_B);
    world.pass(Duration::from_secs(9));
    assert_eq!(world.count(B, "480"), 1, "refused");
    assert_eq!(world.state(&world.json_call()), "held", "and nothing else");
}

#[test]
fn the_same_instance_again_takes_over_calls_and_binding() {
    let mut world = World::alice_and_phone();
    world.open(21);
    let payload = json!({ "dn": "1000", "password": "weft-1000", "instance": "tab-1000" });
    world.say(21, "register", payload);
    assert_eq!(world.heard(ALICE, "replaced").len(), 1);
    world.say(21, "hangup", json!({ "callId": "c1" }));
    assert_eq!(world.heard(21, "hangup").len(), 1);
    assert_eq!(world.count(B, "BYE"), 1);
}

/// A whole call of two clients, step by step.
const STEPS: usize = 7;

fn step(world: &mut World, number: usize, connections: (u64, u64)) {
    let (alice, bob) = connections;
    let call_id = || {
        let payload = world
            .frames
            .iter()
            .rev()
            .find(|(_, frame)| frame["type"] == "incoming");
        payload.expect("an incoming call").1["payload"]["callId"].clone()
    };
    match number {
        0 => {
            let sdp = browser("actpass", "sendrecv");
            let payload = json!({ "to": "1001", "callId": "c1", "sdp": sdp });
            world.say_as(alice, "call", payload, "call-1");
        }
        1 => {
            let payload = json!({ "callId": call_id() });
            world.say(bob, "ringing", payload);
        }
        2 => {
            let payload = json!({ "callId": call_id(), "sdp": browser("active", "sendrecv") });
            world.say(bob, "answer", payload);
        }
        3 => {
            let payload = json!({ "callId": "c1", "sdp": browser("actpass", "sendonly") });
            world.say(alice, "hold", payload);
        }
        4 => {
            let payload = json!({ "callId": call_id(), "sdp": browser("active", "recvonly") });
            world.say(bob, "reanswer", payload);
        }
        5 => {
            let payload = json!({ "callId": call_id() });
            world.say(bob, "hangup", payload);
        }
        6 => world.pass(Duration::from_secs(9)),
        _ => unreachable!("there are {STEPS} steps"),
    }
}

/// Runs it with a kill after some steps, after which both clients come back.
fn run_killed_after(is_killed: impl Fn(usize) -> bool) -> World {
    let mut world = World::new();
    let tokens = (world.register(ALICE, "1000"), world.register(BOB, "1001"));
    let mut connections = (ALICE, BOB);
    for number in 0..STEPS {
        step(&mut world, number, connections);
        if is_killed(number) && !world.is_tombstone {
            world.restart();
            connections = (connections.0 + 10, connections.1 + 10);
            let bobs = world
                .frames
                .iter()
                .rev()
                .find(|(_, frame)| frame["type"] == "incoming")
                .map(|(_, frame)| {
                    frame["payload"]["callId"]
                        .as_str()
                        .expect("text")
                        .to_owned()
                });
            come_back(&mut world, connections.0, &tokens.0, &["c1"]);
            let calls: Vec<&str> = bobs.iter().map(String::as_str).collect();
            come_back(&mut world, connections.1, &tokens.1, &calls);
        }
    }
    world
}

#[test]
fn a_kill_between_any_two_steps_is_survived() {
    for killed in 0..STEPS - 1 {
        let world = run_killed_after(|number| number == killed);
        let record = world.record();
        assert_eq!(
            record.cause, "NORMAL_CLEARING",
            "killed after step {killed}"
        );
        assert!(record.answered.is_some(), "killed after step {killed}");
    }
}

#[test]
fn a_kill_between_all_steps_is_survived() {
    let world = run_killed_after(|_| true);
    assert_eq!(world.record().cause, "NORMAL_CLEARING");
}

#[test]
fn a_panic_of_any_actor_between_any_two_steps_is_survived() {
    for panicked in 0..STEPS - 1 {
        for actor in 0..5 {
            let mut world = World::new();
            world.register(ALICE, "1000");
            world.register(BOB, "1001");
            for number in 0..STEPS {
                step(&mut world, number, (ALICE, BOB));
                if number == panicked {
                    let id = match actor {
                        0 => world.json_call(),
                        1 => contract::ActorId::Dialog(world.json_side(1)),
                        2 => contract::ActorId::Dialog(world.json_side(2)),
                        3 => contract::ActorId::MediaLeg(world.json_side(1)),
                        _ => contract::ActorId::MediaLeg(world.json_side(2)),
                    };
                    world.panic(&id);
                }
            }
            let cause = world.record().cause;
            assert_eq!(
                cause, "NORMAL_CLEARING",
                "actor {actor} after step {panicked}"
            );
        }
    }
}
