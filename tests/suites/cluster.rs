//! Three processes of one cluster: they find each other, answer as one, notice deaths and starts.

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use std::time::Instant;

use serde_json::Value;
use weft_tests::cluster::{Three, free_address, secret, sees, start};
use weft_tests::media::Pump;
use weft_tests::node::Node;
use weft_tests::pair::Pair;
use weft_tests::wait::{self, PATIENCE};
use weft_tests::{http, phone::Phone};

#[test]
fn each_node_answers_for_all() {
    let three = Three::start();
    for node in &three.nodes {
        let members = node.actors("member");
        let ids: Vec<&str> = members
            .iter()
            .filter_map(|row| row["id"].as_str())
            .collect();
        assert_eq!(ids, ["member:1", "member:2", "member:3"]);
        assert!(
            members.iter().all(|row| row["state"] == "3 nodes"),
            "{members:?}"
        );
        let one = node.get("/api/v1/actors?kind=console&node=weft-2");
        assert_eq!(
            (&one["total"], &one["items"][0]["node"]),
            (&1.into(), &"weft-2".into())
        );
        let none = node.get("/api/v1/actors?kind=console&node=weft-9");
        assert_eq!(none["total"], 0);
        let seen = node.get("/api/v1/actors/member:3");
        assert_eq!(seen["node"], "weft-3");
        assert_eq!(seen["snapshot"]["members"][0]["zone"], "east");
        let table = node.cli(&["nodes"]);
        let table = String::from_utf8_lossy(&table.stdout).into_owned();
        assert_eq!(table.matches(" up ").count(), 3, "{table}");
    }
}

/// A call on one node is listed, traced and ended through the others.
#[test]
fn a_call_is_seen_and_ended_from_every_node() {
    let three = Three::start();
    let [first, second, third] = &three.nodes[..] else {
        panic!("three nodes")
    };
    let pump = Pump::new();
    let mut pair = Pair::connect(second.sip, &pump, "1000", "1001");
    let calls = first.get("/api/v1/calls");
    assert_eq!(calls["total"], 1, "{calls}");
    let call = &calls["items"][0];
    assert_eq!(call["node"], "weft-2");
    assert!(call["snapshot"].is_object(), "{call}");
    let id = call["id"].as_str().expect("an ID");
    let seen = third.get(&format!("/api/v1/actors/{id}"));
    assert_eq!(seen["node"], "weft-2");
    let trace = third.get(&format!("/api/v1/actors/{id}/trace"));
    assert!(trace["total"].as_u64() > Some(10), "{trace}");
    let registered = third.get("/api/v1/registrations");
    assert_eq!(registered["items"][0]["node"], "weft-2", "{registered}");

    let bearer = format!("Authorization: Bearer {}", third.token());
    let path = format!("/api/v1/actors/{id}/stop");
    let answer = http::ask(third.http, "POST", &path, &[&bearer]).expect("an answer");
    assert_eq!(answer.status, 202, "{}", answer.body);
    let (alice, bob) = (&mut pair.alice, &mut pair.bob);
    assert!(
        alice
            .serve(&pair.alice_side, "BYE", None, PATIENCE)
            .is_some()
    );
    assert!(bob.serve(&pair.bob_side, "BYE", None, PATIENCE).is_some());
    for node in &three.nodes {
        node.no_calls_left();
    }
    let answer = http::ask(third.http, "GET", &format!("/api/v1/actors/{id}"), &[]);
    assert_eq!(answer.expect("an answer").status, 404);
}

/// `cluster.md` §2: a killed process is known to be dead in well under a second.
#[test]
fn deaths_and_starts_are_noticed() {
    let mut three = Three::start();
    let mut took = Vec::new();
    for _ in 0..5 {
        let killed = Instant::now();
        three.nodes[2].kill();
        for node in &three.nodes[..2] {
            sees(node, &["weft-1", "weft-2"]);
        }
        took.push(killed.elapsed());
        // It takes nobody's place while it is away: the others work.
        let mut phone = Phone::new(three.nodes[0].sip, "1000");
        assert_eq!(phone.register(60).status(), 200);
        three.nodes[2].start_again();
        three.nodes[2].wait_ready();
        for node in &three.nodes {
            sees(node, &["weft-1", "weft-2", "weft-3"]);
        }
    }
    took.sort();
    println!("a death is noticed by both others, by the API, in {took:?}");
    let log = three.nodes[0].log();
    let mut told: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["message"] == "a node is down")
        .collect();
    let key = |line: &Value| format!("{} {}", line["life"], line["is_proven"]);
    let count = told.len();
    told.sort_by_key(key);
    told.dedup_by_key(|line| key(line));
    assert_eq!(told.len(), count, "nothing is told twice: {log}");
    assert!(told.iter().any(|line| line["is_proven"] == true), "{log}");

    let ended = Instant::now();
    assert_eq!(three.nodes[1].stop(), Some(0));
    for at in [0, 2] {
        sees(&three.nodes[at], &["weft-1", "weft-3"]);
    }
    println!("a node that leaves is gone after {:?}", ended.elapsed());
}

/// I17: without the secret nobody is let in, and nobody is harmed.
#[test]
fn another_secret_is_another_cluster() {
    let three = Three::start();
    let file = secret(&three.folder, "other.key", 8);
    let stranger = start("weft-4", 4, free_address(), three.seed, &file);
    wait::until("the refusal", PATIENCE, || {
        let metrics = http::ask(three.nodes[0].http, "GET", "/metrics", &[])?;
        let mut lines = metrics.body.lines();
        lines
            .any(|line| {
                line.starts_with("weft_peer_connections_refused_total") && !line.ends_with(" 0")
            })
            .then_some(())
    });
    sees(&stranger, &["weft-4"]);
    for node in &three.nodes {
        sees(node, &["weft-1", "weft-2", "weft-3"]);
    }
    // Whoever runs either of them reads what is wrong.
    refuses(
        &three.nodes[0],
        "its proof is of another secret than this node's",
    );
    refuses(
        &stranger,
        "it does not take this node's proof: its secret is another one",
    );
}

/// Waits until a node's log says, at a level that is shown, that it refuses another one and why.
fn refuses(node: &Node, why: &str) {
    let says = |line: &Value| {
        line["message"] == "node refused"
            && line["level"] == "WARN"
            && line["why"]
                .as_str()
                .is_some_and(|text| text.starts_with(why))
            && line["address"].is_string()
    };
    wait::until_or(
        "a line about the secret",
        PATIENCE,
        || {
            let log = node.log();
            let lines = log
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            let found: Vec<Value> = lines.filter(says).collect();
            if found.is_empty() { Err(log) } else { Ok(()) }
        },
        |log| log,
    );
}
