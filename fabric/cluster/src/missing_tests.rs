//! When what a life had may be gone on with: events in, verdicts out.

use std::time::Duration;

use contract::{Boot, NodeId, NodeInst, Time};

use super::*;

fn at(ms: u64) -> Time {
    Time::from_micros(1_000_000) + Duration::from_millis(ms)
}

fn life(node: u16) -> NodeInst {
    NodeInst {
        node: NodeId(node),
        boot: Boot(1),
    }
}

/// One node of so many that reaches all.
fn of(count: usize) -> Missing {
    let mut missing = Missing::default();
    missing.reach(count, at(0));
    missing
}

impl Missing {
    fn falls(&mut self, node: u16, reached: usize, ms: u64) {
        self.reach(reached, at(ms));
        self.fell(life(node), false, at(ms), at(ms));
    }

    fn comes_back(&mut self, node: u16, reached: usize, ms: u64) {
        self.back(|back| back == NodeId(node), at(ms));
        self.reach(reached, at(ms));
    }
}

#[test]
fn one_of_three_is_gone_on_with_after_its_patience() {
    let mut missing = of(3);
    missing.falls(3, 2, 100);
    assert_eq!(
        missing.verdict(life(3), at(100)),
        Verdict::At(at(1_300)),
        "silent"
    );
    assert_eq!(missing.verdict(life(3), at(1_300)), Verdict::Now);
    assert_eq!(missing.verdict(life(2), at(1_300)), Verdict::No, "is there");
    missing.fell(life(3), true, at(200), at(200));
    assert_eq!(missing.verdict(life(3), at(200)), Verdict::Now, "proven");
}

#[test]
fn of_two_neither_goes_on() {
    let mut missing = of(2);
    missing.falls(2, 1, 0);
    assert_eq!(missing.verdict(life(2), at(100_000)), Verdict::No);
}

#[test]
fn who_is_left_alone_goes_on_with_nobody() {
    let mut missing = of(3);
    missing.falls(2, 2, 0);
    missing.falls(3, 1, 500);
    for second in [2, 20, 200, 2_000] {
        for node in [2, 3] {
            let verdict = missing.verdict(life(node), at(second * 1_000));
            assert_eq!(verdict, Verdict::No, "{node} after {second} s");
        }
    }
}

/// Two of five see three others fall one after the other.
#[test]
fn a_minority_that_sees_the_others_fall_one_by_one_stays_one() {
    let mut missing = of(5);
    missing.falls(3, 4, 0);
    missing.falls(4, 3, 400);
    missing.falls(5, 2, 900);
    for node in [3, 4, 5] {
        assert_eq!(missing.verdict(life(node), at(100_000)), Verdict::No);
    }
    assert!(missing.is_more_than(2));
}

/// Both others are told gone at once, one of them is back within milliseconds.
#[test]
fn who_is_back_counts_again() {
    let mut missing = of(3);
    missing.reach(1, at(0));
    missing.fell(life(2), false, at(0), at(0));
    missing.fell(life(3), false, at(1), at(1));
    missing.comes_back(3, 2, 6);
    assert_eq!(missing.verdict(life(2), at(10)), Verdict::At(at(1_200)));
    assert_eq!(missing.verdict(life(2), at(1_200)), Verdict::Now);
}

/// A node that was cut off meets one of the others again, and not yet the second.
#[test]
fn silence_that_was_ones_own_does_not_count() {
    let mut missing = of(3);
    missing.falls(2, 2, 0);
    missing.falls(3, 1, 500);
    missing.comes_back(2, 2, 60_000);
    assert_eq!(
        missing.verdict(life(3), at(60_000)),
        Verdict::At(at(65_000))
    );
    missing.comes_back(3, 3, 60_400);
    assert!(missing.is_empty());
}

#[test]
fn what_the_rest_has_gone_on_without_for_a_minute_counts_no_more() {
    let mut missing = of(5);
    missing.falls(5, 4, 0);
    missing.falls(4, 3, 1_000);
    missing.falls(3, 2, 100_000);
    assert_eq!(missing.verdict(life(3), at(101_200)), Verdict::Now);
    let mut missing = of(5);
    missing.falls(5, 4, 0);
    missing.falls(4, 3, 1_000);
    missing.falls(3, 2, 50_000);
    assert_eq!(missing.verdict(life(3), at(200_000)), Verdict::No);
}
