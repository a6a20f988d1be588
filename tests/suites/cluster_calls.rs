//! Registrations and calls of three processes: each node knows them, and goes on with them when the
//! one that had them is killed (`cluster.md` §7).

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use std::time::{Duration, Instant};

use serde_json::Value;
use weft_tests::cluster::{NAMES, Three};
use weft_tests::media::Pump;
use weft_tests::node::Node;
use weft_tests::phone::{Message, Phone};
use weft_tests::roaming::{Party, Roaming, all_hear, attend, attend_until, attend_while};
use weft_tests::wait::{self, PATIENCE};

const BOB: &str = "registration:1001@weft.test";

/// All nodes say that there is one registration; returns the number of its node.
fn one_registration<'a>(three: &Three, nodes: impl Iterator<Item = &'a Node> + Clone) -> usize {
    let rows = three.agree(nodes, "registration", |rows| {
        rows.len() == 1 && rows[0]["id"] == BOB
    });
    three.at(rows[0]["node"].as_str().expect("a node"))
}

/// Returns the contacts of the one registration as a node knows it.
fn bindings(node: &Node) -> Vec<Value> {
    let view = node.get(&format!("/api/v1/actors/{BOB}"));
    let bindings = view["snapshot"]["bindings"].as_array();
    bindings
        .unwrap_or_else(|| panic!("bindings in {view}"))
        .clone()
}

/// A call from a phone of one node to the one that is registered, ended by either.
fn call_works(from: &Node, bob: Phone, pump: &Pump, is_ended_by_caller: bool) -> Phone {
    let mut call = Roaming::connect(Phone::roaming(from.sip, "1000"), bob, pump);
    all_hear(std::slice::from_mut(&mut call), pump, 5);
    call.end(is_ended_by_caller, pump);
    call.callee.phone
}

#[test]
fn a_registration_is_one_for_all_nodes() {
    let three = Three::start();
    let pump = Pump::new();
    let mut bob = Phone::roaming(three.nodes[0].sip, "1001");
    assert_eq!(bob.register(600).status(), 200);
    one_registration(&three, three.nodes.iter());
    for node in &three.nodes {
        let table = node.cli(&["actors", "--kind", "registration"]);
        let table = String::from_utf8_lossy(&table.stdout).into_owned();
        assert_eq!(table.matches(BOB).count(), 1, "{table}");
        assert_eq!(bindings(node).len(), 1);
    }
    for (number, node) in three.nodes.iter().enumerate() {
        for is_ended_by_caller in [true, false] {
            bob = call_works(node, bob, &pump, is_ended_by_caller);
        }
        three.no_calls_left();
        assert_eq!(three.call_records().len(), 2 * (number + 1));
    }
    // The same contact through other nodes: refreshed there, and gone from there.
    bob.turn_to(three.nodes[1].sip);
    assert_eq!(bob.register(900).status(), 200);
    one_registration(&three, three.nodes.iter());
    for node in &three.nodes {
        assert_eq!(bindings(node).len(), 1, "{:#?}", bindings(node));
    }
    bob = call_works(&three.nodes[2], bob, &pump, true);
    bob.turn_to(three.nodes[2].sip);
    assert_eq!(bob.register(0).status(), 200);
    for node in &three.nodes {
        assert_eq!(bindings(node), Vec::<Value>::new());
        let mut alice = Phone::roaming(node.sip, "1000");
        let calling = alice.call("1001", 40_000);
        let answer = alice.progress(&calling, 200, PATIENCE).expect("an answer");
        assert_eq!(answer.status(), 480, "{answer:?}");
    }
    three.no_calls_left();
    three.no_errors();
}

#[test]
fn a_registration_outlives_the_node_that_has_it() {
    let mut three = Three::start();
    let pump = Pump::new();
    let mut bob = Phone::roaming(three.nodes[0].sip, "1001");
    assert_eq!(bob.register(600).status(), 200);
    for turn in 0..2 {
        let owner = one_registration(&three, three.nodes.iter());
        let killed = Instant::now();
        three.nodes[owner].kill();
        let asked = three.others(owner).next().expect("another");
        let mut call = Roaming::connect(Phone::roaming(asked.sip, "1000"), bob, &pump);
        println!(
            "{} had it and was killed; called through {} {:?} later",
            NAMES[owner],
            asked.sip,
            killed.elapsed()
        );
        all_hear(std::slice::from_mut(&mut call), &pump, 5);
        call.end(turn == 0, &pump);
        bob = call.callee.phone;
        let heir = one_registration(&three, three.others(owner));
        assert_ne!(heir, owner);
        three.start_again(owner);
        one_registration(&three, three.nodes.iter());
        for node in &three.nodes {
            assert_eq!(bindings(node).len(), 1, "{:#?}", bindings(node));
        }
        bob = call_works(&three.nodes[owner], bob, &pump, true);
        // The one that has it now is refreshed through the one that was away.
        bob.turn_to(three.nodes[owner].sip);
        assert_eq!(bob.register(600).status(), 200);
        for node in &three.nodes {
            assert_eq!(bindings(node).len(), 1, "{:#?}", bindings(node));
        }
    }
    three.no_calls_left();
    three.no_errors();
}

/// A call whose caller is a phone of one node, and the callee of another.
fn connect(three: &Three, pump: &Pump, (caller, callee): (usize, usize)) -> Roaming {
    let mut bob = Phone::roaming(three.nodes[callee].sip, "1001");
    assert_eq!(bob.register(3600).status(), 200);
    let alice = Phone::roaming(three.nodes[caller].sip, "1000");
    Roaming::connect(alice, bob, pump)
}

/// Kills the node of the only call and waits until both parties were told where it goes on.
fn take_away(three: &mut Three, call: &mut Roaming, pump: &Pump) -> usize {
    let rows = three.agree(three.nodes.iter(), "call", |rows| rows.len() == 1);
    let owner = three.at(rows[0]["node"].as_str().expect("a node"));
    let before = [call.caller.offers.len(), call.callee.offers.len()];
    let killed = Instant::now();
    three.nodes[owner].kill();
    let mut told = [None, None];
    wait::until_or(
        "both parties to be told",
        PATIENCE,
        || {
            attend(std::slice::from_mut(call), pump);
            for (at, party) in [&call.caller, &call.callee].into_iter().enumerate() {
                let offer = party.offers.get(before[at]);
                told[at] = offer.map(|(when, _)| when.duration_since(killed));
            }
            told.iter().all(Option::is_some).then_some(()).ok_or(told)
        },
        |told| format!("told after {told:?}; {:?}", three.logs()),
    );
    println!(
        "{} was killed; its call's parties were told after {told:?}",
        NAMES[owner]
    );
    for party in [&call.caller, &call.callee] {
        let gone = three.nodes[owner].sip.ip();
        assert_ne!(party.side.media.ip(), gone, "media");
        assert!(
            !party.side.target.contains(&gone.to_string()),
            "{}",
            party.side.target
        );
    }
    owner
}

/// Digits pass, either party offers anew, one of them hangs up.
fn works_to_its_end(call: &mut Roaming, pump: &Pump, is_ended_by_caller: bool) {
    call.digits_pass(5, pump);
    call.reinvite(true, "sendonly", pump);
    call.reinvite(true, "sendrecv", pump);
    call.reinvite(false, "sendrecv", pump);
    all_hear(std::slice::from_mut(call), pump, 10);
    call.end(is_ended_by_caller, pump);
}

fn goes_on(at: (usize, usize), is_ended_by_caller: bool) {
    let mut three = Three::start();
    let pump = Pump::new();
    let mut call = connect(&three, &pump, at);
    all_hear(std::slice::from_mut(&mut call), &pump, 10);
    pump.forget_pauses();
    let owner = take_away(&mut three, &mut call, &pump);
    all_hear(std::slice::from_mut(&mut call), &pump, 20);
    let gaps = call.sockets().map(|number| pump.heard(number).pause);
    println!("no sound for {gaps:?}");
    works_to_its_end(&mut call, &pump, is_ended_by_caller);
    three.start_again(owner);
    three.no_calls_left();
    let records = three.call_records();
    assert_eq!(records.len(), 1, "{records:#?}");
    assert!(records[0]["answered_ms"].is_u64(), "{}", records[0]);
    assert_eq!(records[0]["cause"], "NORMAL_CLEARING");
    three.no_errors();
}

#[test]
fn a_call_of_one_node_goes_on_at_another() {
    goes_on((0, 0), true);
}

#[test]
fn a_call_between_two_nodes_goes_on_at_another() {
    goes_on((0, 1), false);
}

#[test]
fn a_held_call_goes_on_at_another_node() {
    let mut three = Three::start();
    let pump = Pump::new();
    let mut call = connect(&three, &pump, (0, 0));
    all_hear(std::slice::from_mut(&mut call), &pump, 10);
    call.reinvite(true, "sendonly", &pump);
    let owner = take_away(&mut three, &mut call, &pump);
    // It is held as before: who holds is not asked to hear, who is held not to speak.
    let offered = |party: &Party| {
        let (_, offer) = party.offers.last().expect("an offer");
        offer.body.clone()
    };
    let (to_caller, to_callee) = (offered(&call.caller), offered(&call.callee));
    assert!(
        to_callee.contains("a=sendonly") || to_callee.contains("a=inactive"),
        "{to_callee}"
    );
    assert!(
        to_caller.contains("a=recvonly") || to_caller.contains("a=inactive"),
        "{to_caller}"
    );
    call.reinvite(true, "sendrecv", &pump);
    all_hear(std::slice::from_mut(&mut call), &pump, 10);
    call.end(true, &pump);
    three.start_again(owner);
    three.no_calls_left();
    assert_eq!(three.call_records().len(), 1);
    three.no_errors();
}

/// A call that rings, with the caller's and the callee's node killed.
struct Ringing {
    three: Three,
    alice: Phone,
    bob: Phone,
    calling: weft_tests::phone::Calling,
    invite: Message,
    owner: usize,
    a: (usize, u16),
}

fn ring(pump: &Pump) -> Ringing {
    let mut three = Three::start();
    let mut bob = Phone::roaming(three.nodes[0].sip, "1001");
    assert_eq!(bob.register(3600).status(), 200);
    let mut alice = Phone::roaming(three.nodes[0].sip, "1000");
    let a = pump.add();
    let calling = alice.call("1001", a.1);
    let invite = bob.ringing(PATIENCE).expect("an INVITE");
    bob.respond(&invite, "180 Ringing", None);
    assert!(alice.progress(&calling, 180, PATIENCE).is_some());
    let rows = three.agree(three.nodes.iter(), "call", |rows| rows.len() == 1);
    let owner = three.at(rows[0]["node"].as_str().expect("a node"));
    three.nodes[owner].kill();
    Ringing {
        three,
        alice,
        bob,
        calling,
        invite,
        owner,
        a,
    }
}

/// The callee stops to ring by the CANCEL of another node, and rings anew.
fn rings_anew(bob: &mut Phone, invite: &Message) -> Message {
    let killed = Instant::now();
    let cancel = bob.take(PATIENCE, |message| message.method() == "CANCEL");
    let cancel = cancel.expect("a CANCEL");
    assert_eq!(cancel.branch(), invite.branch());
    bob.respond(&cancel, "200 OK", None);
    bob.respond(invite, "487 Request Terminated", None);
    // Had it answered the dead node, only this would end it.
    let bye = bob.take(PATIENCE, |message| message.method() == "BYE");
    let bye = bye.expect("a BYE of the early dialog");
    assert_eq!(bye.header("Call-ID"), invite.header("Call-ID"));
    bob.respond(&bye, "481 Call/Transaction Does Not Exist", None);
    let anew = bob.take(PATIENCE, |message| {
        message.method() == "INVITE" && message.status() == 0 && message.branch() != invite.branch()
    });
    println!("it rings again {:?} after the kill", killed.elapsed());
    let anew = anew.expect("another INVITE");
    bob.respond(&anew, "180 Ringing", None);
    anew
}

/// A phone repeats its final response where its INVITE came from (RFC 3261 §17.2.1): as long as it may
/// come, the fork is remembered.
fn repeats_its_end(three: &Three, bob: &mut Phone, invite: &Message) {
    wait::until("the calls to end", PATIENCE, || {
        bob.respond(invite, "487 Request Terminated", None);
        bob.attend_once();
        let mut nodes = three.nodes.iter();
        nodes
            .all(|node| node.actors("call").is_empty())
            .then_some(())
    });
}

#[test]
fn a_ringing_call_rings_anew_at_another_node() {
    let pump = Pump::new();
    let Ringing {
        mut three,
        mut alice,
        mut bob,
        calling,
        invite,
        owner,
        a,
    } = ring(&pump);
    let anew = rings_anew(&mut bob, &invite);
    let b = pump.add();
    let bob_side = bob.answer(&anew, b.1);
    let answer = alice.progress(&calling, 200, PATIENCE).expect("an answer");
    assert_eq!(answer.status(), 200, "{answer:?}");
    let alice_side = alice.established(&calling, &answer);
    let mut call = Roaming::of((alice, alice_side, a), (bob, bob_side, b), &pump);
    all_hear(std::slice::from_mut(&mut call), &pump, 10);
    works_to_its_end(&mut call, &pump, true);
    three.start_again(owner);
    repeats_its_end(&three, &mut call.callee.phone, &invite);
    three.no_calls_left();
    assert_eq!(three.call_records().len(), 1);
    three.no_errors();
}

#[test]
fn a_ringing_call_is_cancelled_through_the_node_that_was_killed() {
    let pump = Pump::new();
    let Ringing {
        mut three,
        mut alice,
        mut bob,
        calling,
        invite,
        owner,
        ..
    } = ring(&pump);
    let anew = rings_anew(&mut bob, &invite);
    three.start_again(owner);
    alice.cancel(&calling);
    let ended = alice.progress(&calling, 300, PATIENCE).expect("a refusal");
    assert_eq!(ended.status(), 487, "{ended:?}");
    let cancel = bob.take(PATIENCE, |message| {
        message.method() == "CANCEL" && message.branch() == anew.branch()
    });
    bob.respond(&cancel.expect("a CANCEL"), "200 OK", None);
    bob.respond(&anew, "487 Request Terminated", None);
    repeats_its_end(&three, &mut bob, &invite);
    three.no_calls_left();
    assert_eq!(three.call_records().len(), 1);
    three.no_errors();
}

/// Kills to be survived in a row; `WEFT_KILLS` says another number.
fn kills() -> u32 {
    let said = std::env::var("WEFT_KILLS").ok();
    said.and_then(|text| text.parse().ok()).unwrap_or(6)
}

/// Chance that can be repeated (xorshift).
fn next(seed: &mut u64) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    usize::try_from(*seed >> 33).unwrap_or(0)
}

fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |hundredth: usize| times[(times.len() - 1) * hundredth / 100];
    println!(
        "{what}: p50 {:?}, p99 {:?}, of {}",
        at(50),
        at(99),
        times.len()
    );
}

#[test]
fn twenty_registrations_and_ten_calls_outlive_kills_of_any_node() {
    let mut three = Three::start();
    let pump = Pump::new();
    let mut calls: Vec<_> = (0..10)
        .map(|number| {
            let at = |more: usize| three.nodes[(number + more) % 3].sip;
            let mut bob = Phone::roaming(at(number / 3), &(1010 + number).to_string());
            assert_eq!(bob.register(3600).status(), 200);
            let alice = Phone::roaming(at(0), &(1000 + number).to_string());
            let mut call = Roaming::connect(alice, bob, &pump);
            // Who is called later is the keeper alone.
            assert_eq!(call.callee.phone.register(0).status(), 200);
            call
        })
        .collect();
    let mut keepers: Vec<_> = (0..20)
        .map(|number| Phone::roaming(three.nodes[number % 3].sip, &(1000 + number).to_string()))
        .collect();
    for phone in &mut keepers {
        assert_eq!(phone.register(3600).status(), 200);
    }
    all_hear(&mut calls, &pump, 5);
    let mut seed = u64::from(std::process::id()) | 1;
    println!("seed {seed}");
    let (mut detected, mut gaps) = (Vec::new(), Vec::new());
    for _ in 0..kills() {
        let victim = next(&mut seed) % 3;
        let rows = three.agree(three.nodes.iter(), "call", |rows| rows.len() == 10);
        let on_victim = rows.iter().filter(|row| row["node"] == NAMES[victim]);
        let on_victim = on_victim.count();
        pump.forget_pauses();
        detected.push(attend_while(&mut calls, &pump, || three.kill(victim)));
        all_hear(&mut calls, &pump, 10);
        let owned = three.agree(three.others(victim), "registration", |rows| {
            rows.len() == 20
        });
        assert!(owned.iter().all(|row| row["node"] != NAMES[victim]));
        let pauses = calls.iter().flat_map(Roaming::sockets);
        let mut pauses: Vec<_> = pauses.map(|number| pump.heard(number).pause).collect();
        pauses.sort();
        gaps.extend(pauses.into_iter().rev().take(2 * on_victim));
        three.nodes[victim].start_again();
        attend_until("its return", &mut calls, &pump, || {
            let asked = weft_tests::http::ask(three.nodes[victim].http, "GET", "/readyz", &[]);
            asked.is_some_and(|answer| answer.status == 200)
        });
        three.all_see_all();
        all_hear(&mut calls, &pump, 5);
    }
    if !detected.is_empty() {
        tell("a death is noticed by both others", detected);
    }
    if !gaps.is_empty() {
        tell("no sound at the parties of calls of a killed node", gaps);
    }
    three.agree(three.nodes.iter(), "registration", |rows| rows.len() == 20);
    three.agree(three.nodes.iter(), "call", |rows| rows.len() == 10);
    for (number, call) in calls.iter_mut().enumerate() {
        call.digits_pass(3, &pump);
        call.end(number % 2 == 0, &pump);
    }
    three.no_calls_left();
    assert_eq!(three.call_records().len(), 10);
    // Each is called at the phone that registered last.
    for (number, phone) in keepers.into_iter().enumerate().skip(10) {
        let mut alice = Phone::roaming(three.nodes[number % 3].sip, "1000");
        let mut bob = phone;
        let calling = alice.call(&bob.user.clone(), 40_000);
        let invite = bob.ringing(PATIENCE).expect("an INVITE");
        bob.respond(&invite, "486 Busy Here", None);
        let answer = alice.progress(&calling, 200, PATIENCE).expect("an answer");
        assert!(answer.status() >= 400, "{answer:?}");
    }
    three.no_errors();
}
