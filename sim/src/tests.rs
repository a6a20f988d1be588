//! The simulator itself: same seed, same hash; seeds that failed once hold now.

use std::path::PathBuf;

use crate::plan::{FaultKind, Plan};
use crate::run::run;

fn plan(seed: u64, minutes: u64) -> Plan {
    Plan::draw(seed, minutes, &FaultKind::ALL)
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

/// Each file of `sim/seeds/` is a seed that failed: `minutes`, then the seed, then why (`#` lines).
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
        let mut words = line
            .split_whitespace()
            .map(|word| word.parse::<u64>().expect("a number"));
        let (minutes, seed) = (
            words.next().expect("minutes"),
            words.next().expect("a seed"),
        );
        let outcome = run(&plan(seed, minutes), None);
        assert_eq!(outcome.broken, None, "{}", file.path().display());
        count += 1;
    }
    println!("{count} seeds");
}
