//! Moves between living nodes under load (`cluster.md` §6): registrations that are refreshed, calls
//! that are heard, a node that drains, all of them one after the other.
//!
//! The counts of a long run are set by the environment: `WEFT_MOVES` (of registrations, 5000),
//! `WEFT_MOVES_USERS` (5000), `WEFT_MOVES_CALLS` (17 at once at most in a move, 100 in a drain),
//! `WEFT_MOVES_ROUNDS` (moves of each call), `WEFT_MOVES_STAY_S` (how long a call stays before it moves
//! again: after half a minute its next numbers go with it). A suite does a few of each.

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use std::time::{Duration, Instant};

use serde_json::Value;
use weft_tests::cluster::{NAMES, Three};
use weft_tests::crowd::{Crowd, percentile, users};
use weft_tests::http;
use weft_tests::media::Pump;
use weft_tests::node::Node;
use weft_tests::phone::Phone;
use weft_tests::roaming::{Roaming, all_hear, attend};
use weft_tests::wait::{self, PATIENCE};

/// First of the users that only refresh, and of those that are called.
const CROWD: u32 = 20_000;
const CALLED: u32 = 1_001;
/// What a call may be without sound where its new address is told while the old one still works.
const GAP_MAX: Duration = Duration::from_millis(200);
/// Packet time of the phones.
const PACKET: Duration = Duration::from_millis(20);

fn count(name: &str, usual: u32) -> u32 {
    let told = std::env::var(name).ok();
    told.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn sip_of(three: &Three, but: Option<usize>) -> Vec<std::net::SocketAddr> {
    let nodes = three.nodes.iter().enumerate();
    let asked = nodes.filter(|(number, _)| Some(*number) != but);
    asked.map(|(_, node)| node.sip).collect()
}

/// Starts `count` phones that are registered, and refresh `rate` times a second.
fn crowd(three: &Three, count: u32, rate: u32) -> Crowd {
    let crowd = Crowd::start(CROWD, count, sip_of(three, None), rate.max(count / 10));
    wait::until_or(
        "all registrations",
        Duration::from_secs(120),
        || {
            let tally = crowd.tally();
            let is_done = tally.granted >= u64::from(count);
            if is_done { Ok(()) } else { Err(tally) }
        },
        |tally| format!("{tally:?}"),
    );
    crowd
}

/// Moves an actor to the next node; returns how long that took.
fn shift(three: &Three, id: &str, to: usize, by: usize) -> Option<Duration> {
    let began = Instant::now();
    let (status, said) = three.nodes[by].move_actor(id, NAMES[to]);
    if status == 409 && said.contains("already") {
        return None;
    }
    assert_eq!(status, 200, "{id} to {}: {said}", NAMES[to]);
    Some(began.elapsed())
}

/// A call of a phone at one node to one that is registered at another.
fn connect(three: &Three, number: u32, pump: &Pump) -> Roaming {
    let at = |shift: u32| three.nodes[((number + shift) % 3) as usize].sip;
    let mut bob = Phone::roaming(at(0), &(CALLED + number).to_string());
    assert_eq!(bob.register(3600).status(), 200);
    Roaming::connect(Phone::roaming(at(1), "1000"), bob, pump)
}

/// The call, its dialogs and its legs are on one node, say all three.
fn all_are_at(three: &Three, call: &str, node: &str) {
    let key = call.trim_start_matches("call:");
    let stem = &key[..key.len() - 2];
    for kind in ["call", "dialog", "media_leg"] {
        let is_there = |rows: &[Value]| {
            let own: Vec<&Value> = rows
                .iter()
                .filter(|row| row["id"].as_str().is_some_and(|id| id.contains(stem)))
                .collect();
            !own.is_empty() && own.iter().all(|row| row["node"] == node)
        };
        let rows = three.agree(three.nodes.iter(), kind, is_there);
        let own = rows
            .iter()
            .filter_map(|row| row["id"].as_str())
            .filter(|id| id.contains(stem));
        for id in own {
            for asked in &three.nodes {
                let view = asked.get(&format!("/api/v1/actors/{id}"));
                assert_eq!(view["node"], node, "{id}: {view}");
                assert!(view["snapshot"].is_object(), "{id}: {view}");
            }
        }
    }
}

#[test]
fn registrations_move_while_they_are_refreshed_and_called() {
    let (people, moves) = (count("WEFT_MOVES_USERS", 60), count("WEFT_MOVES", 150));
    // Nobody else moves them.
    let three = Three::start_as(&users(CROWD, people), "rebalance = \"off\"\n");
    let crowd = crowd(&three, people, 100);
    let pump = Pump::new();
    let mut bob = Phone::roaming(three.nodes[0].sip, "1001");
    assert_eq!(bob.register(3600).status(), 200);
    let (mut took, mut calls, mut at) = (Vec::new(), 0, 0_u32);
    while took.len() < moves as usize {
        at += 1;
        let (to, by) = ((at % 3) as usize, (at / 3 % 3) as usize);
        if at.is_multiple_of(50) {
            let id = "registration:1001@weft.test";
            took.extend(shift(&three, id, to, by));
            let alice = Phone::roaming(three.nodes[by].sip, "1000");
            let mut call = Roaming::connect(alice, bob, &pump);
            call.end(at.is_multiple_of(100), &pump);
            bob = call.callee.phone;
            calls += 1;
        }
        let id = format!("registration:{}@weft.test", CROWD + at * 7 % people);
        took.extend(shift(&three, &id, to, by));
    }
    let mut tally = crowd.end();
    tally.is_clean();
    let (p99, slowest) = percentile(&mut took, 99);
    let (granted, slowest_granted) = percentile(&mut tally.took, 99);
    println!(
        "{} moves of registrations, p99 {p99:?}, slowest {slowest:?}; meanwhile {} refreshes, all \
         granted (p99 {granted:?}, slowest {slowest_granted:?}, {} repetitions), {calls} calls",
        took.len(),
        tally.begun,
        tally.repeated
    );
    three.no_calls_left();
    three.no_errors();
}

/// Waits until each party of each call was offered something more than before.
fn all_are_told(calls: &mut [Roaming], before: &[[usize; 2]], pump: &Pump, three: &Three) {
    wait::until_or(
        "all parties to be told",
        PATIENCE,
        || {
            attend(calls, pump);
            let told = offers(calls);
            let is_told = |(now, then): (&[usize; 2], &[usize; 2])| {
                now.iter().zip(then).all(|(now, then)| now > then)
            };
            let is_done = told.iter().zip(before).all(is_told);
            if is_done { Ok(()) } else { Err(told) }
        },
        |told| format!("offers {told:?}, before {before:?}; {:?}", three.logs()),
    );
}

fn offers(calls: &[Roaming]) -> Vec<[usize; 2]> {
    let of = |call: &Roaming| [call.caller.offers.len(), call.callee.offers.len()];
    calls.iter().map(of).collect()
}

/// Returns the pauses since they were forgotten, less the packet time.
fn gaps(calls: &[Roaming], pump: &Pump) -> Vec<Duration> {
    let sockets = calls.iter().flat_map(Roaming::sockets);
    let pauses = sockets.map(|number| pump.heard(number).pause);
    pauses.map(|pause| pause.saturating_sub(PACKET)).collect()
}

fn report(what: &str, gaps: &mut [Duration]) -> Duration {
    let (p50, _) = percentile(gaps, 50);
    let (p99, longest) = percentile(gaps, 99);
    println!(
        "{what}: {} gaps, p50 {p50:?}, p99 {p99:?}, longest {longest:?}",
        gaps.len()
    );
    p99
}

#[test]
fn calls_move_while_they_are_heard() {
    let (number, rounds) = (
        count("WEFT_MOVES_CALLS", 3).min(17),
        count("WEFT_MOVES_ROUNDS", 3),
    );
    let three = Three::start();
    let pump = Pump::new();
    let mut calls: Vec<Roaming> = (0..number).map(|at| connect(&three, at, &pump)).collect();
    all_hear(&mut calls, &pump, 10);
    let (mut all, mut moved) = (Vec::new(), 0);
    let stay = Duration::from_secs(count("WEFT_MOVES_STAY_S", 0).into());
    for round in 0..rounds {
        let until = Instant::now() + stay;
        while Instant::now() < until {
            attend(&mut calls, &pump);
        }
        let rows = three.agree(three.nodes.iter(), "call", |rows| rows.len() == calls.len());
        let before = offers(&calls);
        pump.forget_pauses();
        for row in &rows {
            let (id, from) = (row["id"].as_str().expect("an ID"), &row["node"]);
            let to = (three.at(from.as_str().expect("a node")) + 1) % 3;
            shift(&three, id, to, (round % 3) as usize).expect("it was elsewhere");
            attend(&mut calls, &pump);
            moved += 1;
        }
        all_are_told(&mut calls, &before, &pump, &three);
        all_hear(&mut calls, &pump, 10);
        all.extend(gaps(&calls, &pump));
        let (id, from) = (rows[0]["id"].as_str().expect("an ID"), &rows[0]["node"]);
        let to = (three.at(from.as_str().expect("a node")) + 1) % 3;
        all_are_at(&three, id, NAMES[to]);
    }
    let p99 = report(&format!("{moved} moves of calls"), &mut all);
    assert!(p99 <= GAP_MAX, "{p99:?}");
    for call in &mut calls {
        call.digits_pass(5, &pump);
    }
    for (at, call) in calls.iter_mut().enumerate() {
        call.end(at % 2 == 0, &pump);
    }
    three.no_calls_left();
    assert_eq!(three.call_records().len(), calls.len());
    three.no_errors();
}

/// A node is drained while it has registrations and calls, ends by itself, and comes back; then the
/// next one: a rolling restart.
#[test]
fn nodes_are_drained_one_after_the_other_under_load() {
    let people = count("WEFT_MOVES_USERS", 60);
    let number = count("WEFT_MOVES_CALLS", 4).min(100);
    let more = users(CROWD, people) + &users(CALLED + 19, number.saturating_sub(19));
    let mut three = Three::start_with(&routed(&more));
    let crowd = crowd(&three, people, 50);
    let pump = Pump::new();
    let mut calls: Vec<Roaming> = (0..number).map(|at| connect(&three, at, &pump)).collect();
    all_hear(&mut calls, &pump, 10);
    let mut all = roll(&mut three, &crowd, &mut calls, &pump, |_| {});
    let p99 = report("three drains", &mut all);
    assert!(p99 <= GAP_MAX, "{p99:?}");
    for (at, call) in calls.iter_mut().enumerate() {
        call.end(at % 2 == 0, &pump);
    }
    let mut tally = crowd.end();
    tally.is_clean();
    let (granted, slowest) = percentile(&mut tally.took, 99);
    println!(
        "meanwhile {} refreshes, all granted (p99 {granted:?}, slowest {slowest:?}, {} repetitions)",
        tally.begun, tally.repeated
    );
    three.no_calls_left();
    assert_eq!(three.call_records().len(), calls.len());
    three.no_errors();
}

/// Drains one node after the other and starts it again, `changed` before; returns the gaps of all
/// calls.
fn roll(
    three: &mut Three,
    crowd: &Crowd,
    calls: &mut [Roaming],
    pump: &Pump,
    changed: impl Fn(&Node),
) -> Vec<Duration> {
    let mut all = Vec::new();
    for (at, name) in NAMES.into_iter().enumerate() {
        pump.forget_pauses();
        let began = Instant::now();
        crowd.turn_to(sip_of(three, Some(at)));
        three.nodes[(at + 1) % 3].drain(name, 600);
        let what = format!("the node to end, see {:?}", three.logs());
        let code = wait::until(&what, Duration::from_secs(180), || {
            attend(calls, pump);
            three.nodes[at].exit_code()
        });
        assert_eq!(code, 0, "{}", three.nodes[at].log());
        println!("{name} was drained in {:?}", began.elapsed());
        all_hear(calls, pump, 10);
        all.extend(gaps(calls, pump));
        changed(&three.nodes[at]);
        three.start_again(at);
        crowd.turn_to(sip_of(three, None));
        let rows = three.agree(three.nodes.iter(), "call", |rows| rows.len() == calls.len());
        let is_clear = rows.iter().all(|row| row["node"] != name);
        assert!(is_clear, "{rows:#?}");
        attend(calls, pump);
    }
    all
}

/// A cluster that is kept at the former schema, as after an upgrade that may still be taken back, is
/// restarted node by node at the newest one, with calls and registrations under way; then all write
/// the newest one, and a node that is kept at the former one again is among them.
#[test]
fn a_cluster_goes_to_the_next_schema_node_by_node_under_load() {
    let people = count("WEFT_MOVES_USERS", 60);
    let number = count("WEFT_MOVES_CALLS", 4).min(100);
    let more = users(CROWD, people) + &users(CALLED + 19, number.saturating_sub(19));
    let mut three = Three::start_as(&routed(&more), FORMER);
    assert_eq!(written(&three), [1, 1, 1]);
    let crowd = crowd(&three, people, 50);
    let pump = Pump::new();
    let mut calls: Vec<Roaming> = (0..number).map(|at| connect(&three, at, &pump)).collect();
    all_hear(&mut calls, &pump, 10);
    roll(&mut three, &crowd, &mut calls, &pump, |node| {
        retold(node, |text| text.replace(FORMER, ""));
    });
    wait::until("the newest schema", Duration::from_secs(90), || {
        attend(&mut calls, &pump);
        (written(&three) == [3, 3, 3]).then_some(())
    });
    // Records of the newest schema, and one node that lets nothing newer be written any more.
    let at = 1;
    retold(&three.nodes[at], |text| {
        text.replace("zone = \"east\"\n", &format!("zone = \"east\"\n{FORMER}"))
    });
    crowd.turn_to(sip_of(&three, Some(at)));
    three.nodes[(at + 1) % 3].drain(NAMES[at], 600);
    wait::until("the node to end", Duration::from_secs(180), || {
        attend(&mut calls, &pump);
        three.nodes[at].exit_code()
    });
    three.start_again(at);
    crowd.turn_to(sip_of(&three, None));
    wait::until("the former schema", PATIENCE, || {
        (written(&three) == [1, 1, 1]).then_some(())
    });
    all_hear(&mut calls, &pump, 10);
    for (at, call) in calls.iter_mut().enumerate() {
        call.end(at % 2 == 0, &pump);
    }
    crowd.end().is_clean();
    three.no_calls_left();
    assert_eq!(
        three.call_records().len(),
        calls.len(),
        "no call was dropped"
    );
    three.no_errors();
}

/// What keeps a node at the former schema.
const FORMER: &str = "schema = 1\n";

/// Changes what a node is told at its next start.
fn retold(node: &Node, change: impl Fn(String) -> String) {
    let file = node.folder.join("weft.toml");
    let text = std::fs::read_to_string(&file).expect("a configuration");
    let changed = change(text.clone());
    assert_ne!(text, changed, "something changes");
    std::fs::write(&file, changed).expect("written");
}

/// Returns the schema that each node writes, as its metrics say.
fn written(three: &Three) -> Vec<u16> {
    let of = |node: &Node| {
        let answer = http::ask(node.http, "GET", "/metrics", &[])?;
        let mut lines = answer.body.lines();
        let value = lines.find_map(|line| line.strip_prefix("weft_schema_written "))?;
        value.trim().parse().ok()
    };
    let nodes = three.nodes.iter();
    nodes.map(|node| of(node).unwrap_or_default()).collect()
}

/// Users beyond those of every suite can be called, too.
fn routed(more: &str) -> String {
    format!(
        "{more}[[route]]\nname = \"crowd\"\nmatch = {{ destination = '^(1[01]\\d\\d)$' }}\n\
         do = [{{ bridge = \"user/$1\" }}]\n"
    )
}
