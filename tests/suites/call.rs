//! Calls between phones through one node: sipp on both sides, then the harness's phone where a
//! step must be held or looked at.

use std::time::Duration;

use weft_tests::media::Pump;
use weft_tests::node::Node;
use weft_tests::phone::Phone;
use weft_tests::sipp::{Running, Sipp};
use weft_tests::wait;

const CALLER: &str = "1000;[authentication username=1000 password=weft-1000];";

/// Registers 1001 where a sipp will take its calls.
fn callee(node: &Node, scenario: &str) -> Running {
    let callee = Sipp::new(scenario, node.sip).args(&["-m", "1", "-rtp_echo"]);
    let register = ["1001;[authentication username=1001 password=weft-1001];300;".to_owned()];
    // The contact names the callee's port, not the port the REGISTER is sent from.
    let port = callee.port.to_string();
    let contact = format!("[local_ip]:{port}");
    Sipp::with(
        "register.xml",
        node.sip,
        &[("@[local_ip]:[local_port]", &format!("@{contact}"))],
    )
    .lines(&register)
    .calls(1, 1)
    .run()
    .must_succeed();
    callee.start()
}

fn caller(node: &Node, scenario: &str) -> Sipp {
    Sipp::new(scenario, node.sip)
        .key("called", "1001")
        .lines(&[CALLER.to_owned()])
        .calls(1, 1)
}

fn no_calls_left(node: &Node) {
    wait::until("calls to end", Duration::from_secs(10), || {
        node.actors("call").is_empty().then_some(())
    });
}

#[test]
fn sipp_calls_sipp_and_hangs_up() {
    let node = Node::start("");
    let callee = callee(&node, "answer.xml");
    caller(&node, "call.xml").run().must_succeed();
    callee.wait().must_succeed();
    no_calls_left(&node);
}

#[test]
fn sipp_calls_sipp_over_tcp() {
    let node = Node::start("");
    let callee = callee(&node, "answer.xml");
    caller(&node, "call.xml").tcp().run().must_succeed();
    callee.wait().must_succeed();
    no_calls_left(&node);
}

#[test]
fn the_callee_hangs_up() {
    let node = Node::start("");
    let callee = callee(&node, "answer_callee_ends.xml");
    caller(&node, "call_callee_ends.xml").run().must_succeed();
    callee.wait().must_succeed();
    no_calls_left(&node);
}

#[test]
fn early_media_passes() {
    let node = Node::start("");
    let callee = callee(&node, "answer_early.xml");
    let ended = caller(&node, "call.xml").run();
    ended.must_succeed();
    assert!(ended.messages.contains("SIP/2.0 183"), "{}", ended.messages);
    callee.wait().must_succeed();
}

#[test]
fn a_delayed_offer_is_offered_by_us() {
    let node = Node::start("");
    let callee = callee(&node, "answer.xml");
    caller(&node, "call_delayed_offer.xml").run().must_succeed();
    callee.wait().must_succeed();
}

#[test]
fn a_caller_that_gives_up_gets_487_and_the_callee_a_cancel() {
    let node = Node::start("");
    let callee = callee(&node, "ring_cancelled.xml");
    caller(&node, "call_cancel.xml").run().must_succeed();
    callee.wait().must_succeed();
    no_calls_left(&node);
}

#[test]
fn busy_is_passed_on() {
    let node = Node::start("");
    let callee = callee(&node, "busy.xml");
    refused(&node, "1001", "486");
    callee.wait().must_succeed();
    no_calls_left(&node);
}

#[test]
fn nobody_there_is_480_and_no_such_number_404() {
    let node = Node::start("");
    refused(&node, "1007", "480");
    refused(&node, "7777", "404");
    no_calls_left(&node);
}

#[test]
fn no_answer_ends_in_480_and_the_callee_gets_a_cancel() {
    let node = Node::start("[limits]\nring_timeout_s = 5\n");
    let callee = callee(&node, "ring_cancelled.xml");
    refused(&node, "1001", "480");
    callee.wait().must_succeed();
    no_calls_left(&node);
}

fn refused(node: &Node, called: &str, status: &str) {
    Sipp::with("call_refused.xml", node.sip, &[("[status]", status)])
        .key("called", called)
        .lines(&[CALLER.to_owned()])
        .calls(1, 1)
        .run()
        .must_succeed();
}

#[test]
fn lost_and_repeated_messages_change_nothing() {
    let node = Node::start("");
    // sipp drops a share of what it sends and of what it gets, and retransmits.
    let callee = Sipp::new("answer.xml", node.sip).args(&["-m", "5", "-lost", "10"]);
    let port = callee.port.to_string();
    let register = ["1001;[authentication username=1001 password=weft-1001];300;".to_owned()];
    let contact = format!("@[local_ip]:{port}");
    Sipp::with(
        "register.xml",
        node.sip,
        &[("@[local_ip]:[local_port]", &contact)],
    )
    .lines(&register)
    .calls(1, 1)
    .run()
    .must_succeed();
    let callee = callee.start();
    // Long enough that a 200 whose ACK was dropped is repeated before the BYE.
    let long = [("milliseconds=\"400\"", "milliseconds=\"6000\"")];
    Sipp::with("call.xml", node.sip, &long)
        .key("called", "1001")
        .lines(&[CALLER.to_owned()])
        .calls(5, 5)
        .run()
        .must_succeed();
    callee.wait().must_succeed();
    // The answer to the last BYE may be among what was dropped: then 64·T1 pass.
    wait::until("calls to end", Duration::from_secs(45), || {
        node.actors("call").is_empty().then_some(())
    });
}

#[test]
fn sound_goes_both_ways_and_hold_stops_it() {
    let node = Node::start("");
    let pump = Pump::new();
    let (mut alice, mut bob) = (Phone::new(node.sip, "1000"), Phone::new(node.sip, "1001"));
    assert_eq!(bob.register(300).status(), 200);
    let ((a, a_port), (b, b_port)) = (pump.add(), pump.add());
    let calling = alice.call("1001", a_port);
    let invite = bob.ringing(Duration::from_secs(5)).expect("an INVITE");
    bob.respond(&invite, "180 Ringing", None);
    assert!(
        alice
            .progress(&calling, 180, Duration::from_secs(5))
            .is_some()
    );
    let mut bob_side = bob.answer(&invite, b_port);
    let answer = alice
        .progress(&calling, 200, Duration::from_secs(5))
        .expect("200");
    let mut alice_side = alice.established(&calling, &answer);
    pump.aim(a, Some(alice_side.media));
    pump.aim(b, Some(bob_side.media));
    let flows = |number: usize, more: u64| {
        let before = pump.heard(number).packets;
        wait::until("packets", Duration::from_secs(5), || {
            (pump.heard(number).packets >= before + more).then_some(())
        });
    };
    flows(a, 10);
    flows(b, 10);
    // Hold: bob is told, and hears nothing; then both again.
    let text_held = {
        let (phone, side) = (&mut alice, &mut alice_side);
        std::thread::scope(|scope| {
            let held = scope
                .spawn(|| bob.serve(&bob_side, "INVITE", Some(b_port), Duration::from_secs(5)));
            let answer = phone.reinvite(side, a_port, "sendonly").expect("an answer");
            assert_eq!(answer.status(), 200, "{answer:?}");
            held.join().expect("bob").expect("a re-INVITE")
        })
    };
    assert!(text_held.body.contains("a=sendonly") || text_held.body.contains("a=inactive"));
    assert_eq!(bob.bye(&mut bob_side), 200);
    assert!(
        alice
            .serve(&alice_side, "BYE", None, Duration::from_secs(5))
            .is_some()
    );
    no_calls_left(&node);
}

#[test]
fn forged_requests_from_elsewhere_have_no_effect() {
    let node = Node::start("");
    let pump = Pump::new();
    let (mut alice, mut bob) = (Phone::new(node.sip, "1000"), Phone::new(node.sip, "1001"));
    assert_eq!(bob.register(300).status(), 200);
    let ((_, a_port), (_, b_port)) = (pump.add(), pump.add());
    let calling = alice.call("1001", a_port);
    let invite = bob.ringing(Duration::from_secs(5)).expect("an INVITE");
    let mut bob_side = bob.answer(&invite, b_port);
    let answer = alice
        .progress(&calling, 200, Duration::from_secs(5))
        .expect("200");
    let mut alice_side = alice.established(&calling, &answer);
    // The same BYE that would end the call, sniffed and sent by somebody else.
    let mut copy = alice_side.clone();
    let forged = alice.inside(&mut copy, "BYE", "", "");
    let refusal = alice.send_from_elsewhere(&forged);
    assert_eq!(refusal.map(|answer| answer.status()), Some(481));
    assert_eq!(node.actors("call").len(), 1);
    assert_eq!(alice.bye(&mut alice_side), 200);
    assert!(
        bob.serve(&bob_side, "BYE", None, Duration::from_secs(5))
            .is_some()
    );
    bob_side.call_id.clear();
    no_calls_left(&node);
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
    let invite = bob.ringing(Duration::from_secs(5)).expect("an INVITE");
    let bob_side = bob.answer(&invite, b_port);
    let answer = alice
        .progress(&calling, 200, Duration::from_secs(5))
        .expect("200");
    let alice_side = alice.established(&calling, &answer);
    assert!(
        alice
            .serve(&alice_side, "BYE", None, Duration::from_secs(15))
            .is_some()
    );
    assert!(
        bob.serve(&bob_side, "BYE", None, Duration::from_secs(15))
            .is_some()
    );
    no_calls_left(&node);
    assert!(node.log().contains("MEDIA_TIMEOUT"));
}
