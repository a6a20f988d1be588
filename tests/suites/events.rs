//! The event log of real processes: what a reader is told once, whatever node it reads, and whoever is
//! killed meanwhile.

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use weft_tests::browser::Browser;
use weft_tests::cluster::{NAMES, Three};
use weft_tests::events::{Follower, call_kinds, once_and_in_order};
use weft_tests::lacks;
use weft_tests::media::Pump;
use weft_tests::node::{Node, program};
use weft_tests::phone::Phone;
use weft_tests::roaming::{Roaming, all_hear, attend};
use weft_tests::wait::{self, PATIENCE};

fn is(kind: &str) -> impl Fn(&Value) -> bool + '_ {
    move |event| event["kind"] == kind
}

/// A call whose caller is a phone of one node, and the callee of another.
fn connect(three: &Three, pump: &Pump, (caller, callee): (usize, usize)) -> Roaming {
    let mut bob = Phone::roaming(three.nodes[callee].sip, "1001");
    assert_eq!(bob.register(3600).status(), 200);
    let alice = Phone::roaming(three.nodes[caller].sip, "1000");
    Roaming::connect(alice, bob, pump)
}

/// Returns the node of the only call.
fn owner(three: &Three) -> usize {
    let rows = three.agree(three.nodes.iter(), "call", |rows| rows.len() == 1);
    three.at(rows[0]["node"].as_str().expect("a node"))
}

/// Returns the kinds of one call's log as a node tells it.
fn log_of(node: &Node, call: &str) -> Vec<String> {
    let answer = node.ask(&format!("/api/v1/calls/{call}/events"));
    let answer = answer.filter(|answer| answer.status == 200);
    let body = answer.map(|answer| answer.json()).unwrap_or_default();
    let items = body["items"].as_array().cloned().unwrap_or_default();
    call_kinds(&items)
}

/// Waits until a reader was told something; the call goes on meanwhile.
fn attend_until(call: &mut Roaming, pump: &Pump, reader: &Follower, kind: &str) {
    wait::until_or(
        kind,
        PATIENCE,
        || {
            attend(std::slice::from_mut(call), pump);
            let told = reader.told();
            let is_told = told.events.iter().any(is(kind));
            is_told.then_some(()).ok_or(told)
        },
        |told| format!("{told:#?}"),
    );
}

#[test]
fn a_reader_goes_on_at_another_node_when_the_node_of_a_call_is_killed() {
    let mut three = Three::start();
    let pump = Pump::new();
    let reader = Follower::open(three.nodes[0].http, Some("oldest"));
    let mut call = connect(&three, &pump, (1, 2));
    assert_eq!(owner(&three), 1, "a call is where its INVITE came");
    all_hear(std::slice::from_mut(&mut call), &pump, 5);
    attend_until(&mut call, &pump, &reader, "call.answered");
    let before = reader.close();
    let started = before.events.iter().find(|event| is("call.started")(event));
    let id = started.expect("it was told")["call"].clone();
    let id = id.as_str().expect("a call").to_owned();

    three.nodes[1].kill();
    let killed = Instant::now();
    let reader = Follower::open(three.nodes[2].http, Some(&before.cursor));
    attend_until(&mut call, &pump, &reader, "call.taken_over");
    println!(
        "taken over, and told at another node, {:?} after the kill",
        killed.elapsed()
    );
    attend_until(&mut call, &pump, &reader, "gap");
    all_hear(std::slice::from_mut(&mut call), &pump, 5);
    call.end(true, &pump);
    reader.until("the end", is("call.ended"));
    let after = reader.close();

    let all: Vec<Value> = before.events.iter().chain(&after.events).cloned().collect();
    once_and_in_order(&all);
    let kinds = ["started", "ringing", "answered", "taken_over", "ended"];
    let kinds = kinds.map(|kind| format!("call.{kind}"));
    assert_eq!(call_kinds(&all), kinds);
    let taken_over = all.iter().find(|event| is("call.taken_over")(event));
    assert_eq!(taken_over.expect("it was told")["state"], "talking");
    let gaps: Vec<&Value> = all.iter().filter(|event| is("gap")(event)).collect();
    assert_eq!(gaps.len(), 1, "{gaps:#?}");
    assert_eq!(gaps[0]["node"], 2, "what weft-2 said last may be lost");
    let gone = all.iter().filter(|event| is("node.gone")(event));
    let gone: Vec<&Value> = gone.collect();
    assert!(
        gone.iter().all(|event| event["name"] == NAMES[1]),
        "{gone:#?}"
    );

    // Each node tells the same of the call, also the one that had it and is back.
    three.start_again(1);
    for node in &three.nodes {
        wait::until_or(
            "the call's log",
            PATIENCE,
            || {
                let log = log_of(node, &id);
                (log == kinds).then_some(()).ok_or(log)
            },
            |log| format!("{log:?}"),
        );
    }
    three.no_calls_left();
    three.no_errors();
}

#[test]
fn a_cluster_that_starts_again_has_its_log() {
    let mut three = Three::start();
    let pump = Pump::new();
    let reader = Follower::open(three.nodes[0].http, Some("oldest"));
    let mut call = connect(&three, &pump, (0, 1));
    all_hear(std::slice::from_mut(&mut call), &pump, 5);
    call.end(false, &pump);
    reader.until("the end", is("call.ended"));
    let before = reader.close();
    // Within a tenth of a second it is on disk.
    std::thread::sleep(std::time::Duration::from_millis(400));
    for node in &mut three.nodes {
        node.kill();
    }
    for node in &mut three.nodes {
        node.start_again();
    }
    for node in &three.nodes {
        node.wait_ready();
    }
    three.all_see_all();
    let reader = Follower::open(three.nodes[2].http, Some(&before.cursor));
    reader.until("the new lives", |event| {
        is("node.up")(event) && event["node"] == 1
    });
    let after = reader.close();
    let all: Vec<Value> = before.events.iter().chain(&after.events).cloned().collect();
    once_and_in_order(&all);
    let kinds = ["started", "ringing", "answered", "ended"].map(|kind| format!("call.{kind}"));
    assert_eq!(call_kinds(&all), kinds);
    let id = before.events.iter().find(|event| is("call.ended")(event));
    let id = id.expect("it was told")["call"].as_str().expect("a call");
    for node in &three.nodes {
        assert_eq!(log_of(node, id), kinds);
        // From the beginning: all that a reader of before was told, none of it twice.
        let reader = Follower::open(node.http, Some("oldest"));
        reader.until("the end", is("call.ended"));
        let told = reader.close();
        once_and_in_order(&told.events);
        assert_eq!(call_kinds(&told.events), kinds);
    }
    three.no_errors();
}

#[test]
fn a_call_that_is_moved_and_a_node_that_is_drained_are_told() {
    let three = Three::start();
    let pump = Pump::new();
    let reader = Follower::open(three.nodes[2].http, None);
    let mut call = connect(&three, &pump, (0, 0));
    all_hear(std::slice::from_mut(&mut call), &pump, 5);
    attend_until(&mut call, &pump, &reader, "call.answered");
    let rows = three.agree(three.nodes.iter(), "call", |rows| rows.len() == 1);
    let id = rows[0]["id"].as_str().expect("an ID").to_owned();
    let (status, said) = three.nodes[0].move_actor(&id, NAMES[1]);
    assert_eq!(status, 200, "{said}");
    attend_until(&mut call, &pump, &reader, "call.moved");
    all_hear(std::slice::from_mut(&mut call), &pump, 5);
    call.end(true, &pump);
    reader.until("the end", is("call.ended"));
    three.nodes[0].drain(NAMES[0], 20);
    reader.until("the drain", is("node.draining"));
    reader.until("the last word", is("node.left"));
    let told = reader.close();
    once_and_in_order(&told.events);
    let moved = told.events.iter().find(|event| is("call.moved")(event));
    let moved = moved.expect("it was told");
    assert_eq!(
        (&moved["node"], &moved["state"]),
        (&2.into(), &"talking".into())
    );
    assert!(
        !told.events.iter().any(is("gap")),
        "a node that ends in order loses nothing: {told:#?}"
    );
}

/// Reads lines of a program until one contains a text.
fn read_until(
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
    wanted: &str,
) -> Vec<String> {
    let mut read = Vec::new();
    for line in lines {
        let line = line.expect("text");
        let is_it = line.contains(wanted);
        read.push(line);
        if is_it {
            return read;
        }
    }
    panic!("it ended without {wanted:?}: {read:#?}");
}

#[test]
fn the_command_line_follows_and_says_how_to_go_on() {
    let mut node = Node::start("");
    let mut phone = Phone::new(node.sip, "1000");
    assert_eq!(phone.register(600).status(), 200);
    let url = format!("http://{}", node.http);
    let mut child = Command::new(program())
        .args(["events", "--after", "oldest", "--url", &url])
        .args(["--kind", "registration.added,registration.removed"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let added = read_until(&mut lines, "registration.added");
    assert!(added[0].contains("registration:1000@"), "{added:?}");
    assert_eq!(phone.register(0).status(), 200);
    read_until(&mut lines, "registration.removed");
    node.kill();
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--after v1_1."), "{said}");
    node.start_again();
    node.wait_ready();
    for (after, wanted) in [("nonsense", "not a cursor"), ("v2_1", "does not know")] {
        let output = node.cli(&["events", "--after", after]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(wanted), "{said}");
    }
}

/// A page's EventSource: it comes back by itself, with the last cursor it was told.
#[test]
fn an_event_source_of_a_page_goes_on_by_itself() {
    if lacks(&["chromium", "node"]) {
        return;
    }
    let mut node = Node::start("");
    let browser = Browser::start();
    let page = |what: &str, mut given: Value| -> Value {
        given["do"] = json!(what);
        given["page"] = json!("events");
        let done = browser.ask(given);
        done.unwrap_or_else(|error| panic!("{what}: {error}"))
    };
    page(
        "open",
        json!({ "url": format!("http://{}/phone", node.http) }),
    );
    let code = "(() => {
        window.told = [];
        window.source = new EventSource(
            '/api/v1/events?kind=registration.added,registration.removed');
        window.source.onmessage = (event) => window.told.push(JSON.parse(event.data).kind);
        return true;
    })()";
    page("evaluate", json!({ "code": code }));
    page("until", json!({ "code": "source.readyState === 1" }));
    let mut phone = Phone::new(node.sip, "1000");
    assert_eq!(phone.register(600).status(), 200);
    page("until", json!({ "code": "told.length === 1" }));
    // Within a tenth of a second it is on disk.
    std::thread::sleep(std::time::Duration::from_millis(400));
    node.kill();
    page("until", json!({ "code": "source.readyState === 0" }));
    node.start_again();
    node.wait_ready();
    // What happens before it is there again, it is told as well.
    assert_eq!(phone.register(0).status(), 200);
    // The end of the former life, of which nobody knows more, is a gap.
    page(
        "until",
        json!({ "code": "told.includes('gap') && told.length === 3" }),
    );
    let told = page("evaluate", json!({ "code": "told" }));
    let told: Vec<&Value> = told
        .as_array()
        .expect("a list")
        .iter()
        .filter(|kind| **kind != "gap")
        .collect();
    assert_eq!(told, ["registration.added", "registration.removed"]);
    node.must_be_unharmed();
}
