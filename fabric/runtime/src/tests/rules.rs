//! The rules that stand alone: how often a core may be restarted, the gate, the index.

use std::time::Duration;

use contract::action::Action;
use contract::limits::{
    GATE_ACTIONS_MAX, RESTART_BACKOFF_MS_MAX, RESTART_WINDOW_S, RESTARTS_GIVE_UP, RESTARTS_MAX,
};
use contract::{ActorId, Now, Time, UtcMillis};

use super::kit::reg;
use crate::deadline_index::DeadlineIndex;
use crate::gate::Gate;
use crate::{Intensity, Verdict};

fn at(ms: u64) -> Time {
    Time::from_micros(ms * 1_000)
}

fn after(ms: u64) -> Verdict {
    Verdict::RestartAfter(Duration::from_millis(ms))
}

#[test]
fn restarts_are_free_up_to_the_bound_and_then_back_off_to_the_longest() {
    let mut one = Intensity::default();
    for count in 0..RESTARTS_MAX {
        assert_eq!(one.judge(at(count as u64), false), Verdict::Restart);
    }
    for wait in [50, 100, 200, 400, 800, 1_600] {
        assert_eq!(one.judge(at(10), false), after(wait));
    }
    assert_eq!(one.judge(at(10), false), after(RESTART_BACKOFF_MS_MAX));
    assert_eq!(one.judge(at(10), false), after(RESTART_BACKOFF_MS_MAX));
}

#[test]
fn a_quiet_window_makes_restarts_free_again() {
    let mut one = Intensity::default();
    for _ in 0..=RESTARTS_MAX {
        one.judge(at(0), false);
    }
    let window = RESTART_WINDOW_S * 1_000;
    assert_eq!(one.judge(at(window - 1), false), after(100));
    assert_eq!(one.judge(at(window), false), Verdict::Restart);
}

#[test]
fn the_event_that_killed_twice_is_set_aside_whatever_the_rate() {
    let mut one = Intensity::default();
    one.judge(at(0), false);
    assert_eq!(one.judge(at(0), true), Verdict::Quarantine);
    for _ in 0..10 {
        one.judge(at(0), false);
    }
    assert_eq!(one.judge(at(0), true), Verdict::Quarantine);
}

#[test]
fn too_many_in_ten_windows_is_the_end_and_older_ones_do_not_count() {
    let windows = RESTART_WINDOW_S * 10_000;
    for is_second in [false, true] {
        let mut one = Intensity::default();
        for _ in 1..RESTARTS_GIVE_UP {
            assert_ne!(one.judge(at(0), false), Verdict::GiveUp);
        }
        let mut late = one.clone();
        assert_eq!(one.judge(at(windows - 1), is_second), Verdict::GiveUp);
        assert_ne!(late.judge(at(windows), is_second), Verdict::GiveUp);
    }
}

fn action(ticket: u64) -> Action<()> {
    Action::Http {
        ticket,
        status: 200,
        body: bytes::Bytes::new(),
    }
}

#[test]
fn a_gate_lets_out_what_its_ticket_covers_and_no_more() {
    let mut gate = Gate::new();
    assert!(gate.pass(action(0)).is_some());
    let first = gate.shut();
    assert!(gate.pass(action(1)).is_none());
    let second = gate.shut();
    assert!(gate.pass(action(2)).is_none());
    assert!(gate.is_shut_by(first) && gate.is_shut_by(second));
    assert_eq!(gate.open(first).len(), 1);
    assert!(!gate.is_open() && !gate.is_shut_by(first));
    assert_eq!(gate.open(second).len(), 1);
    assert!(gate.is_open());
    // Late word of an earlier ticket shuts nothing again.
    assert!(gate.open(first).is_empty() && gate.is_open());
}

#[test]
fn a_gate_that_was_given_up_is_open_and_knows_its_old_tickets() {
    let mut gate = Gate::new();
    let first = gate.shut();
    let second = gate.shut();
    for number in 0..u64::try_from(GATE_ACTIONS_MAX).unwrap() {
        assert!(!gate.is_full());
        gate.pass(action(number));
    }
    assert!(gate.is_full());
    assert_eq!(gate.drop_held(), GATE_ACTIONS_MAX);
    assert!(gate.is_open() && !gate.is_shut_by(first) && !gate.is_shut_by(second));
    let third = gate.shut();
    assert!(gate.is_shut_by(third));
    assert!(gate.open(second).is_empty() && !gate.is_open());
}

fn now(ms: u64) -> Now {
    Now {
        mono: at(ms),
        utc: UtcMillis(1_000_000 + ms),
    }
}

#[test]
fn the_index_gives_live_and_passive_ones_in_order_and_none_early() {
    let index = DeadlineIndex::default();
    index.set_live(&reg("b"), None, Some(at(20)));
    index.set_live(&reg("a"), None, Some(at(30)));
    index.set_live(&reg("a"), Some(at(30)), Some(at(10)));
    index.set_passive(&reg("p"), UtcMillis(1_000_015));
    assert_eq!(index.next(now(0)), Some(at(10)));
    let due = index.take_due(now(9));
    assert!(due.live.is_empty() && due.passive.is_empty());
    let due = index.take_due(now(20));
    assert_eq!(
        (due.live, due.passive),
        (vec![reg("a"), reg("b")], vec![reg("p")])
    );
    assert_eq!(index.next(now(20)), None);
    index.set_passive(&reg("p"), UtcMillis(1_000_030));
    index.clear_passive(&reg("p"), UtcMillis(1_000_030));
    assert_eq!(index.next(now(20)), None);
}

#[test]
fn the_index_wakes_a_bounded_number_at_a_time() {
    let index = DeadlineIndex::default();
    let ids: Vec<ActorId> = (0..600)
        .map(|number| reg(&format!("{number:03}")))
        .collect();
    for id in &ids {
        index.set_passive(id, UtcMillis(1_000_000));
    }
    index.set_live(&reg("live"), None, Some(at(3)));
    let mut woken = index.take_due(now(0)).passive;
    assert_eq!(woken.len(), 256);
    // The next ones wait a little; live ones do not.
    assert_eq!(index.next(now(0)), Some(at(3)));
    let due = index.take_due(now(3));
    assert_eq!((due.live.len(), due.passive.len()), (1, 0));
    assert_eq!(index.next(now(3)), Some(at(10)));
    woken.extend(index.take_due(now(10)).passive);
    woken.extend(index.take_due(now(20)).passive);
    assert_eq!(woken, ids);
}
