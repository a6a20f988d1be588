//! The simulator itself: same seed, same hash; seeds that failed once hold now.

use std::path::PathBuf;

use crate::plan::{FaultKind, Plan};
use crate::planted::Bug;
use crate::run::run;

fn plan(seed: u64, minutes: u64) -> Plan {
    Plan::draw(seed, minutes, 1, &FaultKind::ALL)
}

/// Reads `minutes seed`, perhaps the one kind of fault (or `all`) the seed was found with, `mixed`
/// if phones of every make took part, the number of nodes, and `forwards` if phones set where calls
/// go, `transfers` if they put others through, `groups` if they call those, or `parking` if they park.
fn recorded(line: &str) -> Plan {
    let mut words = line.split_whitespace();
    let mut number = |what| {
        let word = words.next().expect(what);
        word.parse::<u64>().expect("a number")
    };
    let (minutes, seed) = (number("minutes"), number("a seed"));
    let kind = words.next().filter(|kind| *kind != "all");
    // Seeds found before there were browsers are what they were.
    let mixed = words.next() == Some("mixed");
    let nodes = words.next().map_or(1, |word| word.parse().expect("nodes"));
    let wish = words.next();
    let allowed = kind.map_or(FaultKind::all(nodes), |kind| {
        vec![kind.parse().expect("a kind of fault")]
    });
    let mut plan = Plan::draw(seed, minutes, nodes, &allowed);
    plan.mixed = mixed;
    match wish {
        Some("forwards") => plan.forward(),
        Some("transfers") => plan.transfer(),
        Some("groups") => plan.group(),
        Some("parking") => plan.park(),
        Some(_) | None => {}
    }
    plan
}

#[test]
fn the_same_seed_gives_the_same_hash() {
    for seed in 1..4 {
        let (one, two) = (run(&plan(seed, 1), None), run(&plan(seed, 1), None));
        assert_eq!(one.hash, two.hash, "seed {seed}");
        assert_ne!(one.steps, 0);
    }
}

fn cluster(seed: u64, nodes: u16) -> Plan {
    Plan::draw(seed, 1, nodes, &FaultKind::all(nodes))
}

#[test]
fn the_same_seed_of_three_nodes_gives_the_same_hash() {
    for seed in 1..4 {
        let (one, two) = (run(&cluster(seed, 3), None), run(&cluster(seed, 3), None));
        assert_eq!(one.hash, two.hash, "seed {seed}");
        assert_eq!(one.broken, None, "seed {seed}");
        let views = one.counts.get("views that agree at settle");
        let consoles = one.counts.get("consoles that know all nodes at settle");
        assert_eq!((views, consoles), (Some(&3), Some(&3)), "seed {seed}");
    }
}

/// Finds the first promise that breaks with a planted bug, and not without it.
fn found(bug: Bug, faults: &[FaultKind], seeds: u64) -> Option<&'static str> {
    let run_one = |seed, planted| {
        let mut plan = Plan::draw(seed, 1, 3, faults);
        plan.planted = planted;
        run(&plan, None).broken.map(|broken| broken.promise)
    };
    (1..=seeds).find_map(|seed| {
        let promise = run_one(seed, Some(bug))?;
        (run_one(seed, None) != Some(promise)).then_some(promise)
    })
}

/// Members that do not hear of losses notice a death by probes alone, seconds late.
#[test]
fn members_that_do_not_hear_of_losses_are_found() {
    let promise = found(Bug::Deaf, &[FaultKind::Crash], 20);
    assert_eq!(promise, Some("a dead node is noticed"));
}

#[test]
fn another_seed_gives_another_hash() {
    assert_ne!(run(&plan(1, 1), None).hash, run(&plan(2, 1), None).hash);
}

/// Each file of `sim/seeds/` is a seed that failed: why (`#` lines), then minutes, seed, fault. Runs every
/// second one, from the first or the second: two processors share them.
fn seeds_hold(from: usize) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let files = std::fs::read_dir(folder).expect("the folder sim/seeds/");
    let mut seeds: Vec<_> = files
        .flatten()
        .map(|file| {
            let text = std::fs::read_to_string(file.path()).expect("a seed");
            let mut lines = text.lines();
            let line = lines.find(|line| !line.starts_with('#'));
            (line.expect("minutes and seed").to_owned(), file.path())
        })
        .collect();
    // The long ones are shared, too.
    seeds.sort();
    let count = seeds.len();
    let shared = seeds.into_iter().enumerate();
    for (_, (line, file)) in shared.filter(|(at, _)| at % 2 == from) {
        let outcome = run(&recorded(&line), None);
        assert_eq!(outcome.broken, None, "{}", file.display());
    }
    println!("{count} seeds, every second");
}

#[test]
fn seeds_that_failed_once_hold_now() {
    seeds_hold(0);
}

#[test]
fn seeds_that_failed_once_hold_now_as_well() {
    seeds_hold(1);
}
