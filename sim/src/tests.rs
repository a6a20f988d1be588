//! The simulator itself: same seed, same hash; seeds that failed once hold now.

use std::path::PathBuf;

use crate::plan::{FaultKind, Plan};
use crate::run::run;

fn plan(seed: u64, minutes: u64) -> Plan {
    Plan::draw(seed, minutes, &FaultKind::ALL)
}

/// Reads `minutes seed`, perhaps the one kind of fault (or `all`) the seed was found with, and
/// `mixed` if phones of every make took part.
fn recorded(line: &str) -> Plan {
    let mut words = line.split_whitespace();
    let mut number = |what| {
        let word = words.next().expect(what);
        word.parse::<u64>().expect("a number")
    };
    let (minutes, seed) = (number("minutes"), number("a seed"));
    let mut plan = match words.next() {
        None | Some("all") => plan(seed, minutes),
        Some(kind) => Plan::draw(seed, minutes, &[kind.parse().expect("a kind of fault")]),
    };
    // Seeds found before there were browsers are what they were.
    plan.mixed = words.next() == Some("mixed");
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

#[test]
fn another_seed_gives_another_hash() {
    assert_ne!(run(&plan(1, 1), None).hash, run(&plan(2, 1), None).hash);
}

/// Each file of `sim/seeds/` is a seed that failed: why (`#` lines), then minutes, seed, fault.
#[test]
fn seeds_that_failed_once_hold_now() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let files = std::fs::read_dir(folder).expect("the folder sim/seeds/");
    let mut count = 0;
    for file in files.flatten() {
        let text = std::fs::read_to_string(file.path()).expect("a seed");
        let line = text
            .lines()
            .find(|line| !line.starts_with('#'))
            .expect("minutes and seed");
        let outcome = run(&recorded(line), None);
        assert_eq!(outcome.broken, None, "{}", file.path().display());
        count += 1;
    }
    println!("{count} seeds");
}
