//! Calls on floating addresses: when the node is killed, another one takes the address and nobody in
//! the call is told anything (`cluster.md` §7).

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use std::time::{Duration, Instant, SystemTime};

use weft_tests::cluster::{NAMES, Three};
use weft_tests::media::Pump;
use weft_tests::phone::Phone;
use weft_tests::roaming::{Roaming, all_hear, attend_until, attend_while};

/// Calls of one node, all at its floating address.
fn connect(three: &Three, pump: &Pump, at: usize, count: usize) -> Vec<Roaming> {
    let connected = (0..count).map(|number| {
        let mut bob = Phone::roaming(three.floating(at), &(1010 + number).to_string());
        assert_eq!(bob.register(3600).status(), 200);
        let alice = Phone::roaming(three.floating(at), &(1000 + number).to_string());
        Roaming::connect(alice, bob, pump)
    });
    connected.collect()
}

/// Nobody was offered anything.
fn nobody_is_told(calls: &[Roaming]) {
    for call in calls {
        for party in [&call.caller, &call.callee] {
            let offers = &party.offers;
            assert!(offers.is_empty(), "{}: {offers:?}", party.phone.user);
        }
    }
}

/// Says how often somebody was told: a record that only two nodes hold, when a kill follows a kill, may
/// have an heir that is not the one of the address.
fn count_told(calls: &[Roaming]) {
    let parties = calls.iter().flat_map(|call| [&call.caller, &call.callee]);
    let told: usize = parties.map(|party| party.offers.len()).sum();
    println!("offers to parties: {told}");
}

#[test]
fn calls_go_on_at_the_address_that_moves() {
    let mut three = Three::start_floating(None);
    let pump = Pump::new();
    let mut calls = connect(&three, &pump, 0, 4);
    all_hear(&mut calls, &pump, 10);
    for call in &calls {
        for party in [&call.caller, &call.callee] {
            assert_eq!(party.side.media.ip(), three.floating(0).ip());
            let at = three.floating(0).to_string();
            assert!(party.side.target.contains(&at), "{}", party.side.target);
        }
    }
    pump.forget_pauses();
    let killed = Instant::now();
    three.nodes[0].kill();
    all_hear(&mut calls, &pump, 20);
    println!("all hear again within {:?}", killed.elapsed());
    let gaps: Vec<Duration> = calls
        .iter()
        .flat_map(Roaming::sockets)
        .map(|number| pump.heard(number).pause)
        .collect();
    println!("no sound for {gaps:?}");
    nobody_is_told(&calls);
    let rows = three.agree(three.others(0), "call", |rows| rows.len() == 4);
    let heir = three.at(rows[0]["node"].as_str().expect("a node"));
    assert!(rows.iter().all(|row| row["node"] == NAMES[heir]));
    three.address_is_at(0, heir, heir);
    // The node that comes back leaves it where calls are.
    three.start_again(0);
    three.address_is_at(0, heir, 0);
    all_hear(&mut calls, &pump, 10);
    for (number, call) in calls.iter_mut().enumerate() {
        call.digits_pass(5, &pump);
        call.reinvite(number % 2 == 0, "sendrecv", &pump);
        all_hear(std::slice::from_mut(call), &pump, 5);
        call.end(number % 2 == 1, &pump);
    }
    three.no_calls_left();
    assert_eq!(three.call_records().len(), 4);
    // Nobody needs it any more: it goes home.
    three.address_is_at(0, 0, heir);
    let mut calls = connect(&three, &pump, 0, 1);
    all_hear(&mut calls, &pump, 10);
    calls[0].end(true, &pump);
    three.no_errors();
}

/// Kills to be survived in a row; `WEFT_KILLS` says another number.
fn kills(usual: u32) -> u32 {
    let said = std::env::var("WEFT_KILLS").ok();
    said.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |hundredth: usize| times[(times.len() - 1) * hundredth / 100];
    println!(
        "{what}: p50 {:?}, p99 {:?}, max {:?}, of {}",
        at(50),
        at(99),
        at(100),
        times.len()
    );
}

/// Calls of each node at its floating address, phones on the bridge.
fn connect_apart(three: &Three, pump: &Pump) -> Vec<Roaming> {
    let bridge = three.bridge.as_ref().expect("a bridge");
    let ours = bridge.ours().into();
    let connected = (0..6).map(|number| {
        let at = three.floating(number % 3);
        let mut bob = Phone::roaming_at(ours, at, &(1010 + number).to_string());
        assert_eq!(bob.register(3600).status(), 200);
        let alice = Phone::roaming_at(ours, at, &(1000 + number).to_string());
        Roaming::connect(alice, bob, pump)
    });
    connected.collect()
}

/// Registrations of phones that are called by nobody.
fn keep_apart(three: &Three) -> Vec<Phone> {
    let bridge = three.bridge.as_ref().expect("a bridge");
    let phones = (6..10).map(|number| {
        let at = three.floating(number % 3);
        let user = (1000 + number).to_string();
        let mut phone = Phone::roaming_at(bridge.ours().into(), at, &user);
        assert_eq!(phone.register(3600).status(), 200);
        phone
    });
    phones.collect()
}

/// Longest pauses of the parties of calls that a node had.
fn pauses(calls: &[Roaming], pump: &Pump, count: usize) -> Vec<Duration> {
    let sockets = calls.iter().flat_map(Roaming::sockets);
    let mut pauses: Vec<_> = sockets.map(|number| pump.heard(number).pause).collect();
    pauses.sort();
    pauses.split_off(pauses.len() - count)
}

/// Calls that a node has, as another one says.
fn calls_of(three: &Three, at: usize) -> usize {
    let rows = three.agree(three.nodes.iter(), "call", |rows| rows.len() == 6);
    rows.iter().filter(|row| row["node"] == NAMES[at]).count()
}

fn is_ready(three: &Three, at: usize) -> bool {
    let answer = three.nodes[at].ask("/readyz");
    answer.is_some_and(|answer| answer.status == 200)
}

fn ends_well(three: &Three, calls: &mut [Roaming], pump: &Pump) {
    three.agree(three.nodes.iter(), "registration", |rows| rows.len() == 10);
    for (number, call) in calls.iter_mut().enumerate() {
        call.digits_pass(3, pump);
        call.end(number % 2 == 0, pump);
    }
    three.no_calls_left();
    assert_eq!(three.call_records().len(), 6);
    three.no_errors();
}

#[test]
fn calls_outlive_kills_of_nodes_whose_addresses_move() {
    let Some(mut three) = Three::start_apart(true) else {
        return;
    };
    let pump = Pump::new();
    let mut calls = connect_apart(&three, &pump);
    let keepers = keep_apart(&three);
    all_hear(&mut calls, &pump, 10);
    let (mut detected, mut gaps) = (Vec::new(), Vec::new());
    for turn in 0..kills(3) {
        let victim = turn as usize % 3;
        let on_victim = calls_of(&three, victim);
        pump.forget_pauses();
        detected.push(attend_while(&mut calls, &pump, || three.kill(victim)));
        all_hear(&mut calls, &pump, 10);
        gaps.extend(pauses(&calls, &pump, 2 * on_victim));
        three.agree(three.others(victim), "registration", |rows| {
            rows.len() == 10
        });
        three.nodes[victim].start_again();
        attend_until("its return", &mut calls, &pump, || is_ready(&three, victim));
        three.all_see_all();
        all_hear(&mut calls, &pump, 5);
        if turn == 0 {
            nobody_is_told(&calls);
        }
    }
    count_told(&calls);
    tell("a death is noticed by both others", detected);
    if !gaps.is_empty() {
        tell("no sound in calls whose address moves", gaps);
    }
    ends_well(&three, &mut calls, &pump);
    drop(keepers);
}

/// A node whose cable is pulled: the others go on with its calls, and it gives in when it is back.
fn cuts(floats: bool) {
    let Some(three) = Three::start_apart(floats) else {
        return;
    };
    let pump = Pump::new();
    let bridge = three.bridge.as_ref().expect("a bridge");
    let mut calls = if floats {
        connect_apart(&three, &pump)
    } else {
        connect_at_nodes(&three, &pump)
    };
    let keepers = keep_at_nodes(&three);
    all_hear(&mut calls, &pump, 10);
    let (mut detected, mut gaps) = (Vec::new(), Vec::new());
    for turn in 0..kills(2) {
        let victim = turn as usize % 3;
        let on_victim = calls_of(&three, victim);
        pump.forget_pauses();
        let clock = SystemTime::now();
        bridge.cut(u8::try_from(victim).expect("one of three"));
        attend_while(&mut calls, &pump, || three.others_see_it_gone(victim));
        all_hear(&mut calls, &pump, 10);
        gaps.extend(pauses(&calls, &pump, 2 * on_victim));
        detected.extend(three.noticed(victim, clock).into_iter().flatten());
        three.agree(three.others(victim), "registration", |rows| {
            rows.len() == 10
        });
        bridge.heal(u8::try_from(victim).expect("one of three"));
        attend_until("its return", &mut calls, &pump, || is_ready(&three, victim));
        three.all_see_all();
        all_hear(&mut calls, &pump, 20);
        calls_of(&three, victim);
        if floats && turn == 0 {
            nobody_is_told(&calls);
        }
    }
    if !detected.is_empty() {
        tell("a cut is noticed", detected);
    }
    if !gaps.is_empty() {
        let what = if floats {
            "no sound in calls whose address moves, of a node that was cut off"
        } else {
            "no sound in calls of a node that was cut off"
        };
        tell(what, gaps);
    }
    count_told(&calls);
    ends_well(&three, &mut calls, &pump);
    drop(keepers);
}

/// Calls of each node at an address of its own.
fn connect_at_nodes(three: &Three, pump: &Pump) -> Vec<Roaming> {
    let bridge = three.bridge.as_ref().expect("a bridge");
    let ours = bridge.ours().into();
    let connected = (0..6).map(|number| {
        let at = three.nodes[number % 3].sip;
        let mut bob = Phone::roaming_at(ours, at, &(1010 + number).to_string());
        assert_eq!(bob.register(3600).status(), 200);
        let alice = Phone::roaming_at(ours, at, &(1000 + number).to_string());
        Roaming::connect(alice, bob, pump)
    });
    connected.collect()
}

fn keep_at_nodes(three: &Three) -> Vec<Phone> {
    let bridge = three.bridge.as_ref().expect("a bridge");
    let phones = (6..10).map(|number| {
        let at = three.nodes[number % 3].sip;
        let user = (1000 + number).to_string();
        let mut phone = Phone::roaming_at(bridge.ours().into(), at, &user);
        assert_eq!(phone.register(3600).status(), 200);
        phone
    });
    phones.collect()
}

#[test]
fn calls_of_a_node_that_is_cut_off_go_on_at_another() {
    cuts(false);
}

#[test]
fn calls_of_a_node_that_is_cut_off_go_on_at_its_address() {
    cuts(true);
}
