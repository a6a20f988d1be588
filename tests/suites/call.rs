//! Calls between phones through one node: sipp on both sides, then the harness's phone where a
//! step must be held or looked at.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use weft_tests::lacks;
use weft_tests::media::Pump;
use weft_tests::node::Node;
use weft_tests::pair::{Pair, all_hear};
use weft_tests::phone::Phone;
use weft_tests::sipp::{self, Sipp};
use weft_tests::wait::{self, PATIENCE};
use weft_tests::wire::{Fault, Wire};

const CALLER: &str = "1000;[authentication username=1000 password=weft-1000];";

fn caller(node: &Node, scenario: &str) -> Sipp {
    Sipp::new(scenario, node.sip)
        .key("called", "1001")
        .lines(&[CALLER.to_owned()])
        .calls(1, 1)
}

#[test]
fn sipp_calls_sipp_and_hangs_up() {
    if lacks(&["sipp"]) {
        return;
    }
    let node = Node::start("");
    let callee = sipp::callee(node.sip, "answer.xml");
    caller(&node, "call.xml").run().must_succeed();
    callee.wait().must_succeed();
    node.no_calls_left();
}

#[test]
fn sipp_calls_sipp_over_tcp() {
    if lacks(&["sipp"]) {
        return;
    }
    let node = Node::start("");
    let callee = sipp::callee(node.sip, "answer.xml");
    caller(&node, "call.xml").tcp().run().must_succeed();
    callee.wait().must_succeed();
    node.no_calls_left();
}

#[test]
fn the_callee_hangs_up() {
    if lacks(&["sipp"]) {
        return;
    }
    let node = Node::start("");
    let callee = sipp::callee(node.sip, "answer_callee_ends.xml");
    caller(&node, "call_callee_ends.xml").run().must_succeed();
    callee.wait().must_succeed();
    node.no_calls_left();
}

#[test]
fn early_media_passes() {
    if lacks(&["sipp"]) {
        return;
    }
    let node = Node::start("");
    let callee = sipp::callee(node.sip, "answer_early.xml");
    let ended = caller(&node, "call.xml").run();
    ended.must_succeed();
    assert!(ended.messages.contains("SIP/2.0 183"), "{}", ended.messages);
    callee.wait().must_succeed();
}

#[test]
fn a_delayed_offer_is_offered_by_us() {
    if lacks(&["sipp"]) {
        return;
    }
    let node = Node::start("");
    let callee = sipp::callee(node.sip, "answer.xml");
    caller(&node, "call_delayed_offer.xml").run().must_succeed();
    callee.wait().must_succeed();
}

#[test]
fn a_caller_that_gives_up_gets_487_and_the_callee_a_cancel() {
    if lacks(&["sipp"]) {
        return;
    }
    let node = Node::start("");
    let callee = sipp::callee(node.sip, "ring_cancelled.xml");
    caller(&node, "call_cancel.xml").run().must_succeed();
    callee.wait().must_succeed();
    node.no_calls_left();
}

#[test]
fn busy_is_passed_on() {
    if lacks(&["sipp"]) {
        return;
    }
    let node = Node::start("");
    let callee = sipp::callee(node.sip, "busy.xml");
    refused(&node, "1001", "486");
    callee.wait().must_succeed();
    node.no_calls_left();
}

#[test]
fn nobody_there_is_480_and_no_such_number_404() {
    if lacks(&["sipp"]) {
        return;
    }
    let node = Node::start("");
    refused(&node, "1007", "480");
    refused(&node, "7777", "404");
    node.no_calls_left();
}

#[test]
fn no_answer_ends_in_480_and_the_callee_gets_a_cancel() {
    if lacks(&["sipp"]) {
        return;
    }
    let node = Node::start("[limits]\nring_timeout_s = 5\n");
    let callee = sipp::callee(node.sip, "ring_cancelled.xml");
    refused(&node, "1001", "480");
    callee.wait().must_succeed();
    node.no_calls_left();
}

fn refused(node: &Node, called: &str, status: &str) {
    Sipp::with("call_refused.xml", node.sip, &[("[status]", status)])
        .key("called", called)
        .lines(&[CALLER.to_owned()])
        .calls(1, 1)
        .run()
        .must_succeed();
}

/// Two calls over wires with the same fault, one ended by its caller and one by its callee: each
/// is set up once, ends at both phones and leaves one record.
fn calls_over(fault: Fault) {
    let node = Node::start("");
    let pump = Pump::new();
    for is_ended_by_caller in [true, false] {
        let wires = [Wire::new(node.sip, fault), Wire::new(node.sip, fault)];
        let alice = Phone::behind(&wires[0], "1000");
        let mut bob = Phone::behind(&wires[1], "1001");
        assert_eq!(bob.register(600).status(), 200);
        let mut pair = Pair::of(alice, bob, &pump);
        all_hear(&pump, std::slice::from_ref(&pair), 5, || node.log());
        assert_eq!(node.actors("call").len(), 1);
        // The node refuses a new offer with 491 as long as the first call lacks its ACK.
        pair.attend_until("the ACKs to arrive", || {
            wires.iter().all(|wire| wire.has_acknowledged())
        });
        pair.reinvite_from_caller();
        if is_ended_by_caller {
            pair.end_from_caller();
        } else {
            pair.end_from_callee();
        }
        pair.attend_until("the call to end", || node.actors("call").is_empty());
        pair.attend_until("the wires to be idle", || wires.iter().all(Wire::is_idle));
        assert_eq!(pair.bob.register(0).status(), 200);
        once_each(&pair);
        for wire in &wires {
            nothing_was_refused(wire);
        }
    }
    let records = node.call_records();
    assert_eq!(records.len(), 2, "{records:#?}");
    for record in records {
        assert!(record["answered_ms"].is_u64(), "{record}");
        assert_eq!(record["cause"], "NORMAL_CLEARING", "{record}");
    }
    node.must_be_unharmed();
}

/// The callee was invited by two transactions, the second a re-INVITE; one BYE came to one of the
/// two. What came besides were repetitions.
fn once_each(pair: &Pair) {
    let transactions = |phone: &Phone, method: &str| {
        let seen = phone.seen.iter().filter(|seen| seen.method == method);
        seen.map(|seen| seen.branch.clone())
            .collect::<BTreeSet<_>>()
    };
    let (alice, bob) = (&pair.alice, &pair.bob);
    assert_eq!(transactions(bob, "INVITE").len(), 2, "{:#?}", bob.seen);
    assert_eq!(transactions(alice, "INVITE").len(), 0, "{:#?}", alice.seen);
    let ended = transactions(bob, "BYE").len() + transactions(alice, "BYE").len();
    assert_eq!(ended, 1, "{:#?} {:#?}", alice.seen, bob.seen);
    pair.no_number_was_used_twice();
}

/// The node refused nothing but what lacked credentials, and so did the phone.
fn nothing_was_refused(wire: &Wire) {
    let puts = wire.puts();
    assert!(!puts.is_empty());
    for put in &puts {
        let status = put.message.status();
        assert!(status < 300 || [401, 407].contains(&status), "{puts:#?}");
    }
}

#[test]
fn every_message_may_be_lost_once() {
    calls_over(Fault::LoseFirst);
}

#[test]
fn every_message_may_come_twice() {
    calls_over(Fault::Double);
}

#[test]
fn every_message_may_come_once_more_a_second_later() {
    calls_over(Fault::Again(Duration::from_secs(1)));
}

#[test]
fn messages_may_overtake_each_other() {
    calls_over(Fault::Swap);
}

#[test]
fn every_message_may_take_longer_than_it_takes_to_be_repeated() {
    calls_over(Fault::Late(Duration::from_millis(700)));
}

/// sipp behind wires, as a second opinion on what a transaction is.
fn sipp_calls_over(fault: Fault) {
    if lacks(&["sipp"]) {
        return;
    }
    let node = Node::start("");
    // What is lost is repeated within these times, even if a machine is slow: sipp has no way to
    // wait for what its peer has seen.
    let repeats = (
        "</scenario>",
        "<timewait milliseconds=\"5000\"/></scenario>",
    );
    let callee = Sipp::with("answer.xml", node.sip, &[repeats]).calls(1, 1);
    let phone = SocketAddr::new(node.sip.ip(), callee.port);
    let called = Wire::between(node.sip, Some(phone), fault);
    let calling = Wire::new(node.sip, fault);
    sipp::register(node.sip, &called.far.to_string());
    let callee = callee.start();
    let contact = format!("@{}", calling.far);
    let replaced = [
        repeats,
        ("@[local_ip]:[local_port]", contact.as_str()),
        ("milliseconds=\"400\"", "milliseconds=\"5000\""),
    ];
    Sipp::with("call.xml", calling.near, &replaced)
        .key("called", "1001")
        .lines(&[CALLER.to_owned()])
        .calls(1, 1)
        .run()
        .must_succeed();
    callee.wait().must_succeed();
    wait::until("calls to end", PATIENCE * 2, || {
        node.actors("call").is_empty().then_some(())
    });
    assert_eq!(node.call_records().len(), 1);
    node.must_be_unharmed();
    nothing_was_refused(&called);
    nothing_was_refused(&calling);
}

#[test]
fn sipp_may_lose_every_message_once() {
    sipp_calls_over(Fault::LoseFirst);
}

#[test]
fn sipp_may_get_every_message_twice() {
    sipp_calls_over(Fault::Double);
}

/// A call of sipp's to another sipp, or to the echo.
fn sipp_hears_itself(called: &str) {
    if lacks(&["sipp", "tshark"]) {
        return;
    }
    let node = Node::start("");
    let callee = (called == "1001").then(|| sipp::callee(node.sip, "answer.xml"));
    let louder = sipp::hears_itself(&node, called);
    assert!(louder.abs() < 0.5, "{louder} dB");
    if let Some(callee) = callee {
        callee.wait().must_succeed();
    }
    node.no_calls_left();
}

#[test]
fn sipp_hears_its_own_sound_from_a_sipp_that_sends_it_back() {
    sipp_hears_itself("1001");
}

#[test]
fn sipp_hears_its_own_sound_from_the_echo() {
    sipp_hears_itself("9196");
}

#[test]
fn sound_goes_both_ways_and_hold_stops_it() {
    let node = Node::start("");
    let pump = Pump::new();
    let (mut alice, mut bob) = (Phone::new(node.sip, "1000"), Phone::new(node.sip, "1001"));
    assert_eq!(bob.register(300).status(), 200);
    let ((a, a_port), (b, b_port)) = (pump.add(), pump.add());
    let calling = alice.call("1001", a_port);
    let invite = bob.ringing(PATIENCE).expect("an INVITE");
    bob.respond(&invite, "180 Ringing", None);
    assert!(alice.progress(&calling, 180, PATIENCE).is_some());
    let mut bob_side = bob.answer(&invite, b_port);
    let answer = alice.progress(&calling, 200, PATIENCE).expect("200");
    let mut alice_side = alice.established(&calling, &answer);
    pump.aim(a, Some(alice_side.media));
    pump.aim(b, Some(bob_side.media));
    let flows = |number: usize, more: u64| {
        let before = pump.heard(number).packets;
        wait::until("packets", PATIENCE, || {
            (pump.heard(number).packets >= before + more).then_some(())
        });
    };
    flows(a, 10);
    flows(b, 10);
    // Hold: bob is told, and hears nothing; then both again.
    let text_held = {
        let (phone, side) = (&mut alice, &mut alice_side);
        std::thread::scope(|scope| {
            let held = scope.spawn(|| bob.serve(&bob_side, "INVITE", Some(b_port), PATIENCE));
            let answer = phone.reinvite(side, a_port, "sendonly").expect("an answer");
            assert_eq!(answer.status(), 200, "{answer:?}");
            held.join().expect("bob").expect("a re-INVITE")
        })
    };
    assert!(text_held.body.contains("a=sendonly") || text_held.body.contains("a=inactive"));
    assert_eq!(bob.bye(&mut bob_side), 200);
    assert!(alice.serve(&alice_side, "BYE", None, PATIENCE).is_some());
    node.no_calls_left();
}

#[test]
fn forged_requests_from_elsewhere_have_no_effect() {
    let node = Node::start("");
    let pump = Pump::new();
    let (mut alice, mut bob) = (Phone::new(node.sip, "1000"), Phone::new(node.sip, "1001"));
    assert_eq!(bob.register(300).status(), 200);
    let ((_, a_port), (_, b_port)) = (pump.add(), pump.add());
    let calling = alice.call("1001", a_port);
    let invite = bob.ringing(PATIENCE).expect("an INVITE");
    let mut bob_side = bob.answer(&invite, b_port);
    let answer = alice.progress(&calling, 200, PATIENCE).expect("200");
    let mut alice_side = alice.established(&calling, &answer);
    // The same BYE that would end the call, sniffed and sent by somebody else.
    let mut copy = alice_side.clone();
    let forged = alice.inside(&mut copy, "BYE", "", "");
    let refusal = alice.send_from_elsewhere(&forged);
    assert_eq!(refusal.map(|answer| answer.status()), Some(481));
    assert_eq!(node.actors("call").len(), 1);
    assert_eq!(alice.bye(&mut alice_side), 200);
    assert!(bob.serve(&bob_side, "BYE", None, PATIENCE).is_some());
    bob_side.call_id.clear();
    node.no_calls_left();
}

#[test]
fn silence_ends_a_call() {
    let node = Node::start("");
    let mut node = node;
    node.kill();
    let path = node.folder.join("weft.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let text = text.replace("[media]\n", "[media]\nrtp_timeout_s = 5\n");
    std::fs::write(&path, text).expect("a configuration");
    node.start_again();
    node.wait_ready();
    let pump = Pump::new();
    let (mut alice, mut bob) = (Phone::new(node.sip, "1000"), Phone::new(node.sip, "1001"));
    assert_eq!(bob.register(300).status(), 200);
    let ((_, a_port), (_, b_port)) = (pump.add(), pump.add());
    let calling = alice.call("1001", a_port);
    let invite = bob.ringing(PATIENCE).expect("an INVITE");
    let bob_side = bob.answer(&invite, b_port);
    let answer = alice.progress(&calling, 200, PATIENCE).expect("200");
    let alice_side = alice.established(&calling, &answer);
    assert!(alice.serve(&alice_side, "BYE", None, PATIENCE).is_some());
    assert!(bob.serve(&bob_side, "BYE", None, PATIENCE).is_some());
    node.no_calls_left();
    assert!(node.log().contains("MEDIA_TIMEOUT"));
}
