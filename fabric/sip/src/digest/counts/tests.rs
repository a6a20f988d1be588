//! Replays of every kind against the table of nonce counts.

use super::*;

fn nonce(made: u64, random: u64) -> NonceInfo {
    NonceInfo {
        made: UtcMillis(made),
        random,
        node: 1,
        lane: 0,
    }
}

#[test]
fn only_a_higher_count_is_accepted() {
    let mut counts = NonceCounts::new(UtcMillis(0));
    let (one, two, now) = (nonce(10, 1), nonce(10, 2), UtcMillis(20));
    let rows = [
        ("0", &one, 0, Err(CountError::Replay)),
        ("first", &one, 1, Ok(())),
        ("again", &one, 1, Err(CountError::Replay)),
        ("next", &one, 2, Ok(())),
        ("leap", &one, 7, Ok(())),
        ("lower, never seen", &one, 5, Err(CountError::Replay)),
        ("other nonce", &two, 1, Ok(())),
        ("last there is", &one, u32::MAX, Ok(())),
        ("after the last", &one, u32::MAX, Err(CountError::Replay)),
    ];
    for (what, nonce, count, expected) in rows {
        assert_eq!(counts.accept(nonce, count, now), expected, "{what}");
    }
    assert_eq!(counts.len(), 2);
}

#[test]
fn nonces_of_an_earlier_life_are_forgotten() {
    let mut counts = NonceCounts::new(UtcMillis(1_000));
    let before = counts.accept(&nonce(999, 1), 1, UtcMillis(1_001));
    assert_eq!(before, Err(CountError::Forgotten));
    assert!(CountError::Forgotten.is_stale() && !CountError::Replay.is_stale());
    assert_eq!(counts.accept(&nonce(1_000, 1), 1, UtcMillis(1_001)), Ok(()));
}

#[test]
fn oldest_goes_at_the_bound_and_cannot_be_replayed() {
    let mut counts = NonceCounts::with_max(UtcMillis(0), 2);
    let now = UtcMillis(100);
    for made in [10, 20, 30] {
        assert_eq!(counts.accept(&nonce(made, 1), 1, now), Ok(()));
    }
    assert_eq!(counts.len(), 2);
    assert_eq!(
        counts.accept(&nonce(10, 1), 1, now),
        Err(CountError::Forgotten)
    );
    assert_eq!(
        counts.accept(&nonce(10, 1), 2, now),
        Err(CountError::Forgotten)
    );
    assert_eq!(
        counts.accept(&nonce(20, 1), 1, now),
        Err(CountError::Replay)
    );
    assert_eq!(counts.accept(&nonce(20, 1), 2, now), Ok(()));
}

#[test]
fn expired_entries_go_and_stay_forgotten_when_the_clock_is_set_back() {
    let mut counts = NonceCounts::new(UtcMillis(0));
    assert_eq!(counts.accept(&nonce(10, 1), 1, UtcMillis(20)), Ok(()));
    assert_eq!(
        counts.accept(&nonce(70_000, 1), 1, UtcMillis(70_020)),
        Ok(())
    );
    assert_eq!(counts.len(), 1);
    assert_eq!(
        counts.accept(&nonce(10, 1), 1, UtcMillis(20)),
        Err(CountError::Forgotten)
    );
}
