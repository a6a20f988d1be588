//! `kill -9` of the node, and a start on the same data: nobody is told anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};

use weft_tests::media::Pump;
use weft_tests::node::Node;
use weft_tests::pair::{Pair, all_hear};
use weft_tests::phone::Phone;
use weft_tests::ports::free_port;
use weft_tests::sipp;
use weft_tests::wait::{self, PATIENCE};

/// Phones share twenty accounts: each pair has a caller and a callee of its own. The callee is
/// registered only while it is called.
fn connect(node: &Node, pump: &Pump, index: u32) -> Pair {
    let (caller, called) = (1000 + index % 10, 1010 + index % 10);
    let (caller, called) = (caller.to_string(), called.to_string());
    let mut pair = Pair::connect(node.sip, pump, &caller, &called);
    assert_eq!(pair.bob.register(0).status(), 200);
    pair
}

fn hear(node: &Node, pump: &Pump, pairs: &[Pair], more: u64) {
    all_hear(pump, pairs, more, || {
        let rows = node.actors("media_leg");
        let line = |row: &serde_json::Value| format!("{} {}", row["id"], row["state"]);
        rows.iter().map(line).collect::<Vec<_>>().join("\n")
    });
}

/// Re-INVITE and BYE work from either end, and no CSeq of ours was used twice.
fn works_from_both_ends(number: usize, pair: &mut Pair) {
    pair.reinvite_from_caller();
    pair.reinvite_from_callee();
    if number.is_multiple_of(2) {
        pair.end_from_caller();
    } else {
        pair.end_from_callee();
    }
    pair.no_number_was_used_twice();
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
    hear(&node, &pump, &pairs, 5);
    let kills = 50;
    let mut gaps = Vec::new();
    for _ in 0..kills {
        pump.forget_pauses();
        node.kill();
        node.start_again();
        hear(&node, &pump, &pairs, 3);
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
    for (number, pair) in pairs.iter_mut().enumerate() {
        works_from_both_ends(number, pair);
    }
    node.no_calls_left();
}

#[test]
fn a_thousand_registrations_and_twenty_calls_are_there_after_a_kill() {
    let mut accounts = String::new();
    for number in 2000..3000 {
        accounts.push_str(&format!(
            "[[user]]\nname = \"{number}\"\npassword = \"weft-{number}\"\n"
        ));
    }
    let mut node = Node::start(&accounts);
    let pump = Pump::new();
    let mut pairs: Vec<_> = (0..20).map(|index| connect(&node, &pump, index)).collect();
    let mut acknowledged = BTreeMap::new();
    for number in 2000..3000 {
        let mut phone = Phone::new(node.sip, &number.to_string());
        let answer = phone.register(3600);
        assert_eq!(answer.status(), 200, "{number}: {answer:?}");
        let id = format!("registration:{number}@weft.test");
        acknowledged.insert(id, phone.address().to_string());
    }
    hear(&node, &pump, &pairs, 5);
    node.kill();
    node.start_again();
    node.wait_ready();
    // Those of the callees left before.
    assert_eq!(acknowledged.len(), 1000);
    let rows = node.actors("registration");
    let ids: BTreeSet<_> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    let expected: BTreeSet<_> = acknowledged.keys().map(String::as_str).collect();
    assert_eq!(ids, expected);
    for (id, address) in &acknowledged {
        let view = node.get(&format!("/api/v1/actors/{id}")).to_string();
        assert!(view.contains(address), "{address} is not in {view}");
    }
    assert_eq!(node.actors("call").len(), 20);
    hear(&node, &pump, &pairs, 5);
    for pair in &pairs {
        pair.hears_from_where_it_was_told(&pump);
    }
    for (number, pair) in pairs.iter_mut().enumerate() {
        works_from_both_ends(number, pair);
    }
    node.no_calls_left();
    assert_eq!(node.call_records().len(), 20);
}

#[test]
fn a_call_over_ipv6_goes_on_after_a_kill() {
    let port = free_port();
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let mut node = Node::start(&format!(
        "[[profile]]\nname = \"six\"\nudp = [\"{six}\"]\nauth = \"digest\"\n"
    ));
    let pump = Pump::new();
    let mut pairs = [Pair::connect(six, &pump, "1000", "1001")];
    assert!(pairs[0].alice_side.media.is_ipv6() && pairs[0].bob_side.media.is_ipv6());
    hear(&node, &pump, &pairs, 10);
    node.kill();
    node.start_again();
    node.wait_ready();
    hear(&node, &pump, &pairs, 10);
    pairs[0].hears_from_where_it_was_told(&pump);
    works_from_both_ends(0, &mut pairs[0]);
    node.no_calls_left();
}

#[test]
fn a_call_to_sipp_over_ipv6_goes_on_after_a_kill() {
    if weft_tests::lacks(&["sipp"]) {
        return;
    }
    let port = free_port();
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let mut node = Node::start(&format!(
        "[[profile]]\nname = \"six\"\nudp = [\"{six}\"]\nauth = \"digest\"\n"
    ));
    let callee = sipp::callee(six, "answer.xml");
    let pump = Pump::new();
    let mut alice = Phone::new(six, "1000");
    let (number, rtp_port) = pump.add_at(six.ip());
    let calling = alice.call("1001", rtp_port);
    let answer = alice.outcome(&calling, PATIENCE).expect("an answer");
    assert_eq!(answer.status(), 200, "{answer:?}");
    let mut side = alice.established(&calling, &answer);
    pump.aim(number, Some(side.media));
    // sipp sends back what it hears: our own sound comes all the way round.
    let echoes = || {
        let before = pump.heard(number).packets;
        wait::until("the echo", PATIENCE, || {
            (pump.heard(number).packets > before + 10).then_some(())
        });
        assert_eq!(pump.heard(number).source, Some(side.media));
    };
    echoes();
    node.kill();
    node.start_again();
    node.wait_ready();
    echoes();
    assert_eq!(alice.bye(&mut side), 200);
    callee.wait().must_succeed();
    node.no_calls_left();
}

#[test]
fn a_ringing_call_rings_on_and_can_be_answered() {
    let mut node = Node::start("");
    let pump = Pump::new();
    let (mut alice, mut bob) = (Phone::new(node.sip, "1000"), Phone::new(node.sip, "1001"));
    assert_eq!(bob.register(3600).status(), 200);
    let ((a, a_port), (b, b_port)) = (pump.add(), pump.add());
    let calling = alice.call("1001", a_port);
    let invite = bob.ringing(PATIENCE).expect("an INVITE");
    bob.respond(&invite, "180 Ringing", None);
    assert!(alice.progress(&calling, 180, PATIENCE).is_some());
    node.kill();
    node.start_again();
    node.wait_ready();
    assert_eq!(node.actors("call").len(), 1);
    let mut bob_side = bob.answer(&invite, b_port);
    let answer = alice.progress(&calling, 200, PATIENCE).expect("200");
    let mut alice_side = alice.established(&calling, &answer);
    pump.aim(a, Some(alice_side.media));
    pump.aim(b, Some(bob_side.media));
    wait::until("sound both ways", PATIENCE, || {
        (pump.heard(a).packets > 5 && pump.heard(b).packets > 5).then_some(())
    });
    assert_eq!(alice.bye(&mut alice_side), 200);
    assert!(bob.serve(&bob_side, "BYE", None, PATIENCE).is_some());
    bob_side.call_id.clear();
}

#[test]
fn a_call_that_rang_during_the_kill_can_still_be_cancelled() {
    let mut node = Node::start("");
    let (mut alice, mut bob) = (Phone::new(node.sip, "1000"), Phone::new(node.sip, "1001"));
    assert_eq!(bob.register(3600).status(), 200);
    let calling = alice.call("1001", 40_000);
    let invite = bob.ringing(PATIENCE).expect("an INVITE");
    bob.respond(&invite, "180 Ringing", None);
    assert!(alice.progress(&calling, 180, PATIENCE).is_some());
    node.kill();
    node.start_again();
    node.wait_ready();
    // The INVITE comes once more, and a phone repeats its last provisional response
    // (RFC 3261 §17.2.1): from then on it may be cancelled (§9.1).
    let again = bob.ringing(PATIENCE).expect("the INVITE once more");
    assert_eq!(again.header("Via"), invite.header("Via"));
    bob.respond(&again, "180 Ringing", None);
    alice.cancel(&calling);
    let ended = alice
        .progress(&calling, 300, PATIENCE)
        .expect("a final response");
    assert_eq!(ended.status(), 487);
    let cancelled = bob.take(PATIENCE, |message| message.method() == "CANCEL");
    assert!(cancelled.is_some(), "the callee is told");
}
