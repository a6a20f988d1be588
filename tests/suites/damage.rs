//! Three processes of one cluster; one after the other is killed, has its data damaged, and starts
//! again: nothing is lost, nothing panics, and what was damaged is repaired from the others. A node
//! alone says what it lost and goes on. `WEFT_DAMAGES=500` for the whole number.

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use weft_tests::cluster::Three;
use weft_tests::http;
use weft_tests::node::Node;
use weft_tests::phone::Phone;
use weft_tests::wait::{self, PATIENCE};

/// Damages, unless `WEFT_DAMAGES` says otherwise.
const COUNT: u64 = 12;
const USERS: u32 = 20;

/// A generator of our own: a round repeats with its number alone.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bound = u64::try_from(bound.max(1)).expect("small");
        usize::try_from((mixed ^ (mixed >> 31)) % bound).expect("below a usize")
    }
}

/// Every file of a data folder, the largest named three times: the log of the database.
fn victims(data: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![data.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            let is_aside = path.to_string_lossy().contains("damaged");
            if path.is_dir() && !is_aside {
                left.push(path);
            } else if path.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    let log = data.join("sled/db");
    if log.exists() {
        let more = found.len();
        found.extend(std::iter::repeat_n(log, more));
    }
    found
}

/// Damages one file; returns what was done.
fn hurt(data: &Path, chance: &mut Chance) -> String {
    let files = victims(data);
    let path = &files[chance.below(files.len())];
    let name = path
        .strip_prefix(data)
        .expect("inside")
        .display()
        .to_string();
    let mut octets = fs::read(path).expect("read");
    let used = octets.iter().rposition(|octet| *octet != 0).unwrap_or(0) + 1;
    let at = chance.below(used);
    let what = match chance.below(6) {
        0 if !octets.is_empty() => {
            octets[at] ^= 1 << chance.below(8);
            format!("{name}: a bit at {at}")
        }
        1 if !octets.is_empty() => {
            let page = at / 4096 * 4096;
            let end = (page + 4096).min(octets.len());
            octets[page..end].fill(0);
            format!("{name}: the page at {page}")
        }
        2 | 3 if !octets.is_empty() => {
            octets.truncate(at);
            format!("{name}: cut to {at}")
        }
        4 if data.join("sled").exists() => {
            fs::remove_dir_all(data.join("sled")).expect("removed");
            return "the whole database: deleted".to_owned();
        }
        _ => {
            fs::remove_file(path).expect("removed");
            return format!("{name}: deleted");
        }
    };
    fs::write(path, octets).expect("written");
    what
}

/// Waits until a node that was started is ready, or has refused to start; true if it is ready.
fn starts(node: &mut Node) -> bool {
    wait::until("readiness, or a refusal", PATIENCE, || {
        if node.ended().is_some() {
            return Some(false);
        }
        let answer = http::ask(node.http, "GET", "/readyz", &[]);
        answer.filter(|answer| answer.status == 200).map(|_| true)
    })
}

/// Returns what a node has logged since `from`, which must be no panic of ours.
fn since(node: &Node, from: usize, what: &str) -> String {
    let log = node.log().split_off(from);
    // sled's own panics are caught, and are named as such.
    for line in log.lines().filter(|line| line.contains("panicked at")) {
        assert!(line.contains("/sled-"), "{what}: {line}");
    }
    log
}

/// Returns the registrations that a node answers for, by user, with where they are reached.
fn registered(node: &Node) -> BTreeMap<String, String> {
    let answer = node.get("/api/v1/registrations?limit=1000");
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    items
        .iter()
        .map(|item| (item["id"].to_string(), item["snapshot"].to_string()))
        .collect()
}

/// Every phone is found through a node, where it said it is.
fn finds_all(node: &Node, phones: &[Phone], what: &str) {
    wait::until_or(
        &format!("{what}: all registrations"),
        PATIENCE,
        || {
            let found = registered(node);
            let text = found.values().cloned().collect::<String>();
            let is_there = |phone: &Phone| text.contains(&phone.address().to_string());
            if found.len() == phones.len() && phones.iter().all(is_there) {
                Ok(())
            } else {
                Err(found)
            }
        },
        |found| format!("{found:#?}\n{}", node.log()),
    );
}

fn count() -> u64 {
    let wanted = std::env::var("WEFT_DAMAGES").ok();
    wanted.map_or(COUNT, |text| {
        text.parse().expect("WEFT_DAMAGES is a number")
    })
}

#[test]
fn damage_to_one_node_after_the_other_loses_nothing() {
    let mut three = Three::start();
    let mut phones = Vec::new();
    for user in 1000..1000 + USERS {
        let node = &three.nodes[user as usize % 3];
        let mut phone = Phone::new(node.sip, &user.to_string());
        assert_eq!(phone.register(3_600).status(), 200);
        phones.push(phone);
    }
    let begun = Instant::now();
    let (mut verdicts, mut repaired) = (BTreeMap::<String, u32>::new(), Vec::new());
    for round in 0..count() {
        let at = usize::try_from(round % 3).expect("small");
        three.kill(at);
        let data = three.nodes[at].folder.join("data");
        let what = format!("round {round}, {}", hurt(&data, &mut Chance(round)));
        let from = three.nodes[at].log().len();
        let started = Instant::now();
        three.nodes[at].start_again();
        let mut is_up = starts(&mut three.nodes[at]);
        let log = since(&three.nodes[at], from, &what);
        let verdict = if !is_up {
            // It says which file, and its operator moves that away: the others have the rest.
            let name = what
                .split(": ")
                .next()
                .and_then(|text| text.split(", ").nth(1));
            let file = name.expect("a name").rsplit('/').next().expect("a file");
            assert!(
                log.contains(file),
                "{what}: the refusal names no file: {log}"
            );
            let moved = data.with_extension("moved");
            let _ = fs::remove_dir_all(&moved);
            fs::rename(&data, moved).expect("moved");
            three.nodes[at].start_again();
            is_up = starts(&mut three.nodes[at]);
            assert!(is_up, "{what}: {}", since(&three.nodes[at], from, &what));
            "refused, naming the file"
        } else if log.contains("quarantine over: the others had") {
            repaired.push(started.elapsed());
            "quarantined and repaired"
        } else {
            assert!(!log.contains("quarantined"), "{what}: {log}");
            "whole"
        };
        *verdicts.entry(verdict.to_owned()).or_default() += 1;
        three.all_see_all();
        for node in &three.nodes {
            finds_all(node, &phones, &what);
        }
    }
    repaired.sort();
    println!("{} damages in {:?}: {verdicts:?}", count(), begun.elapsed());
    if let (Some(middle), Some(last)) = (repaired.get(repaired.len() / 2), repaired.last()) {
        println!("ready again after a quarantine: half within {middle:?}, all within {last:?}");
    }
    let log: BTreeSet<bool> = three
        .nodes
        .iter()
        .map(|node| node.log().contains("took_us"))
        .collect();
    assert!(log.contains(&true), "nobody was quarantined");
}

/// Alone there is nobody to ask: it says so, goes on, and is as good as new.
#[test]
fn a_node_alone_says_what_it_lost_and_goes_on() {
    let mut node = Node::start("");
    let mut phone = Phone::new(node.sip, "1000");
    assert_eq!(phone.register(3_600).status(), 200);
    node.kill();
    fs::remove_dir_all(node.folder.join("data/sled")).expect("removed");
    node.start_again();
    node.wait_ready();
    let log = since(&node, 0, "no database");
    assert!(
        log.contains("acknowledged records are lost: this node is alone"),
        "{log}"
    );
    assert!(registered(&node).is_empty());
    assert_eq!(phone.register(3_600).status(), 200);
    node.kill();
    node.start_again();
    node.wait_ready();
    assert_eq!(registered(&node).len(), 1);
    let told = node.log().matches("acknowledged records are lost").count();
    assert_eq!(told, 1, "it is said once");
}

/// Without the secret no record is found: a new one is not made in its place.
#[test]
fn a_lost_secret_is_a_refusal_that_names_it() {
    let mut node = Node::start("");
    node.kill();
    let key = node.folder.join("data/cluster.key");
    let octets = fs::read(&key).expect("a key");
    fs::remove_file(&key).expect("removed");
    node.start_again();
    assert!(!starts(&mut node), "it starts without its key");
    let log = node.log();
    assert!(
        log.contains("cluster.key") && log.contains("put it back"),
        "{log}"
    );
    fs::write(&key, octets).expect("put back");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
    node.start_again();
    node.wait_ready();
}
