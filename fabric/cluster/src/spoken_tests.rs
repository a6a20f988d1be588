//! A node writes what all read: less at once, more after a while, never more than is allowed.

use std::time::Duration;

use contract::limits::SCHEMA_STEP_MS;
use contract::{SchemaVersion, Time};

use super::Spoken;

const OLD: SchemaVersion = SchemaVersion(1);
const NEW: SchemaVersion = SchemaVersion::NEWEST;

fn at(ms: u64) -> Time {
    Time::default() + Duration::from_millis(ms)
}

#[test]
fn alone_it_writes_what_its_operator_allows() {
    assert_eq!(Spoken::new(NEW, true).at(at(0)), NEW);
    assert_eq!(Spoken::new(OLD, true).at(at(0)), OLD);
    assert_eq!(Spoken::new(SchemaVersion(9), true).at(at(0)), NEW);
}

#[test]
fn in_a_cluster_it_begins_with_what_everybody_reads() {
    let spoken = Spoken::new(NEW, false);
    assert_eq!(spoken.at(at(0)), OLD);
    assert_eq!(spoken.at(at(1_000_000)), OLD);
}

#[test]
fn it_writes_more_when_all_have_taken_more_for_a_while() {
    let mut spoken = Spoken::new(NEW, false);
    spoken.seen(at(0), &[NEW, NEW], false);
    assert_eq!(spoken.at(at(SCHEMA_STEP_MS - 1)), OLD);
    // Looked at again without a change: the time goes on.
    spoken.seen(at(SCHEMA_STEP_MS - 1), &[NEW, NEW], false);
    assert_eq!(spoken.at(at(SCHEMA_STEP_MS)), NEW);
    spoken.seen(at(SCHEMA_STEP_MS + 1), &[NEW, NEW], false);
    assert_eq!(spoken.at(at(SCHEMA_STEP_MS + 1)), NEW);
}

#[test]
fn one_node_that_takes_less_holds_all_back_at_once() {
    let mut spoken = Spoken::new(NEW, false);
    spoken.seen(at(0), &[NEW], false);
    assert_eq!(spoken.at(at(SCHEMA_STEP_MS)), NEW);
    spoken.seen(at(SCHEMA_STEP_MS), &[NEW, OLD], false);
    assert_eq!(spoken.at(at(SCHEMA_STEP_MS)), OLD);
    assert_eq!(spoken.at(at(9 * SCHEMA_STEP_MS)), OLD);
    // It is upgraded: the time begins anew.
    spoken.seen(at(9 * SCHEMA_STEP_MS), &[NEW, NEW], false);
    assert_eq!(spoken.at(at(10 * SCHEMA_STEP_MS - 1)), OLD);
    assert_eq!(spoken.at(at(10 * SCHEMA_STEP_MS)), NEW);
}

#[test]
fn a_node_that_has_said_nothing_yet_counts_as_one_that_reads_the_oldest() {
    let mut spoken = Spoken::new(NEW, false);
    spoken.seen(at(0), &[NEW], false);
    spoken.seen(at(SCHEMA_STEP_MS), &[NEW], true);
    assert_eq!(spoken.at(at(SCHEMA_STEP_MS)), OLD);
}

#[test]
fn a_node_that_is_left_alone_takes_no_step_by_itself() {
    let mut spoken = Spoken::new(NEW, false);
    spoken.seen(at(0), &[OLD], false);
    spoken.seen(at(1), &[], false);
    assert_eq!(spoken.at(at(9 * SCHEMA_STEP_MS)), OLD);
    // Nor one that was begun with others.
    spoken.seen(at(2), &[NEW], false);
    spoken.seen(at(3), &[], false);
    assert_eq!(spoken.at(at(9 * SCHEMA_STEP_MS)), OLD);
}

#[test]
fn a_pinned_node_never_writes_more() {
    let mut spoken = Spoken::new(OLD, false);
    spoken.seen(at(0), &[NEW, SchemaVersion(3)], false);
    assert!(spoken.holds(NEW));
    spoken.seen(at(1), &[NEW], false);
    assert_eq!(spoken.at(at(9 * SCHEMA_STEP_MS)), OLD);
}

#[test]
fn records_of_a_newer_schema_need_no_second_wait() {
    let mut spoken = Spoken::new(NEW, false);
    assert!(!spoken.holds(OLD));
    assert!(spoken.holds(NEW));
    assert!(!spoken.holds(NEW));
    assert_eq!(spoken.held(), NEW);
    spoken.seen(at(0), &[NEW], false);
    assert_eq!(spoken.at(at(0)), NEW);
}
