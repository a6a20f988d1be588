//! `kill -9` of the node, and a start on the same data: nobody is told anything.

#![allow(clippy::disallowed_methods, reason = "a limit is timed")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use weft_tests::media::Pump;
use weft_tests::node::Node;
use weft_tests::phone::{Dialog, Phone};
use weft_tests::wait;

/// Two phones in a call.
struct Pair {
    alice: Phone,
    bob: Phone,
    alice_side: Dialog,
    bob_side: Dialog,
    sockets: (usize, usize),
    ports: (u16, u16),
}

fn connect(node: &Node, pump: &Pump, index: u32) -> Pair {
    // Phones share twenty accounts: each pair has a caller and a callee of its own.
    let (caller, called) = (1000 + index % 10, 1010 + index % 10);
    let mut alice = Phone::new(node.sip, &caller.to_string());
    let mut bob = Phone::new(node.sip, &called.to_string());
    assert_eq!(bob.register(3600).status(), 200);
    let ((a, a_port), (b, b_port)) = (pump.add(), pump.add());
    let calling = alice.call(&called.to_string(), a_port);
    let invite = bob.ringing(Duration::from_secs(10)).expect("an INVITE");
    bob.respond(&invite, "180 Ringing", None);
    let bob_side = bob.answer(&invite, b_port);
    let answer = alice
        .progress(&calling, 200, Duration::from_secs(10))
        .expect("200");
    let alice_side = alice.established(&calling, &answer);
    assert_eq!(bob.register(0).status(), 200);
    pump.aim(a, Some(alice_side.media));
    pump.aim(b, Some(bob_side.media));
    Pair {
        alice,
        bob,
        alice_side,
        bob_side,
        sockets: (a, b),
        ports: (a_port, b_port),
    }
}

fn all_hear(node: &Node, pump: &Pump, pairs: &[Pair], more: u64) {
    let numbers: Vec<_> = pairs
        .iter()
        .flat_map(|pair| [pair.sockets.0, pair.sockets.1])
        .collect();
    let heard = |number: &usize| pump.heard(*number).packets;
    let before: Vec<_> = numbers.iter().map(heard).collect();
    let limit = Instant::now() + Duration::from_secs(19);
    wait::until("packets at every phone", Duration::from_secs(20), || {
        let silent = numbers.iter().zip(&before);
        let silent: Vec<_> = silent
            .filter(|(number, before)| heard(number) < **before + more)
            .collect();
        if Instant::now() > limit {
            println!("silent: {silent:?}");
            for row in node.actors("media_leg") {
                println!("{} {}", row["id"], row["state"]);
            }
        }
        silent.is_empty().then_some(())
    });
}

#[test]
fn twenty_calls_and_their_registrations_outlive_fifty_kills() {
    let mut node = Node::start("");
    let pump = Pump::new();
    let mut keepers: Vec<_> = (1000..1020)
        .map(|user| Phone::new(node.sip, &user.to_string()))
        .collect();
    let mut pairs: Vec<_> = (0..20).map(|index| connect(&node, &pump, index)).collect();
    for phone in &mut keepers {
        let answer = phone.register(3600);
        assert_eq!(answer.status(), 200, "{answer:?}");
    }
    all_hear(&node, &pump, &pairs, 5);
    let kills = 50;
    let mut gaps = Vec::new();
    for _ in 0..kills {
        pump.forget_pauses();
        node.kill();
        node.start_again();
        all_hear(&node, &pump, &pairs, 3);
        let longest = pairs
            .iter()
            .flat_map(|pair| [pair.sockets.0, pair.sockets.1])
            .map(|number| pump.heard(number).pause)
            .max();
        gaps.push(longest.unwrap_or_default());
    }
    node.wait_ready();
    gaps.sort();
    println!(
        "{kills} kills, 20 calls: longest gap without sound, median {:?}, worst {:?}",
        gaps[gaps.len() / 2],
        gaps[gaps.len() - 1]
    );
    assert_eq!(node.actors("registration").len(), 20);
    assert_eq!(node.actors("call").len(), 20);
    for pair in &mut pairs {
        check_after(pair);
    }
    wait::until("calls to end", Duration::from_secs(10), || {
        node.actors("call").is_empty().then_some(())
    });
}

/// Re-INVITE and BYE work from either end, and no CSeq of ours was used twice.
fn check_after(pair: &mut Pair) {
    let Pair {
        alice,
        bob,
        alice_side,
        bob_side,
        ports,
        ..
    } = pair;
    std::thread::scope(|scope| {
        let served =
            scope.spawn(|| bob.serve(bob_side, "INVITE", Some(ports.1), Duration::from_secs(10)));
        let answer = alice
            .reinvite(alice_side, ports.0, "sendrecv")
            .expect("an answer");
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert!(
            served.join().expect("bob").is_some(),
            "no re-INVITE at the callee"
        );
    });
    assert_eq!(bob.bye(bob_side), 200);
    assert!(
        alice
            .serve(alice_side, "BYE", None, Duration::from_secs(10))
            .is_some()
    );
    for phone in [alice, bob] {
        let mut used = BTreeSet::new();
        let mut last = 0;
        for (call_id, cseq, method) in &phone.seen {
            if method == "ACK" || method == "CANCEL" {
                continue;
            }
            assert!(used.insert((call_id.clone(), *cseq, method.clone())) || *cseq == last);
            last = *cseq;
        }
    }
}

#[test]
fn a_thousand_registrations_are_there_after_a_kill() {
    let mut accounts = String::new();
    for number in 2000..3000 {
        accounts.push_str(&format!(
            "[[user]]\nname = \"{number}\"\npassword = \"weft-{number}\"\n"
        ));
    }
    let mut node = Node::start(&accounts);
    let mut acknowledged = 0;
    for number in 2000..3000 {
        let mut phone = Phone::new(node.sip, &number.to_string());
        let answer = phone.register(3600);
        assert_eq!(answer.status(), 200, "{number}: {answer:?}");
        assert!(answer.header("Contact").is_some(), "{answer:?}");
        acknowledged += 1;
    }
    assert_eq!(acknowledged, 1000);
    assert_eq!(node.actors("registration").len(), 1000, "before");
    node.kill();
    node.start_again();
    node.wait_ready();
    assert_eq!(node.actors("registration").len(), 1000);
}

#[test]
fn a_ringing_call_rings_on_and_can_be_answered() {
    let mut node = Node::start("");
    let pump = Pump::new();
    let (mut alice, mut bob) = (Phone::new(node.sip, "1000"), Phone::new(node.sip, "1001"));
    assert_eq!(bob.register(3600).status(), 200);
    let ((a, a_port), (b, b_port)) = (pump.add(), pump.add());
    let calling = alice.call("1001", a_port);
    let invite = bob.ringing(Duration::from_secs(5)).expect("an INVITE");
    bob.respond(&invite, "180 Ringing", None);
    assert!(
        alice
            .progress(&calling, 180, Duration::from_secs(5))
            .is_some()
    );
    node.kill();
    node.start_again();
    node.wait_ready();
    assert_eq!(node.actors("call").len(), 1);
    let mut bob_side = bob.answer(&invite, b_port);
    let answer = alice
        .progress(&calling, 200, Duration::from_secs(10))
        .expect("200");
    let mut alice_side = alice.established(&calling, &answer);
    pump.aim(a, Some(alice_side.media));
    pump.aim(b, Some(bob_side.media));
    wait::until("sound both ways", Duration::from_secs(5), || {
        (pump.heard(a).packets > 5 && pump.heard(b).packets > 5).then_some(())
    });
    assert_eq!(alice.bye(&mut alice_side), 200);
    assert!(
        bob.serve(&bob_side, "BYE", None, Duration::from_secs(5))
            .is_some()
    );
    bob_side.call_id.clear();
}

#[test]
fn a_call_that_rang_during_the_kill_can_still_be_cancelled() {
    let mut node = Node::start("");
    let (mut alice, mut bob) = (Phone::new(node.sip, "1000"), Phone::new(node.sip, "1001"));
    assert_eq!(bob.register(3600).status(), 200);
    let calling = alice.call("1001", 40_000);
    let invite = bob.ringing(Duration::from_secs(5)).expect("an INVITE");
    bob.respond(&invite, "180 Ringing", None);
    assert!(
        alice
            .progress(&calling, 180, Duration::from_secs(5))
            .is_some()
    );
    node.kill();
    node.start_again();
    node.wait_ready();
    // The INVITE comes once more, and a phone repeats its last provisional response
    // (RFC 3261 §17.2.1): from then on it may be cancelled (§9.1).
    let again = bob
        .ringing(Duration::from_secs(10))
        .expect("the INVITE once more");
    assert_eq!(again.header("Via"), invite.header("Via"));
    bob.respond(&again, "180 Ringing", None);
    alice.cancel(&calling);
    let ended = alice
        .progress(&calling, 300, Duration::from_secs(10))
        .expect("a final response");
    assert_eq!(ended.status(), 487);
    let cancelled = bob.take(Duration::from_secs(10), |message| {
        message.method() == "CANCEL"
    });
    assert!(cancelled.is_some(), "the callee is told");
}
