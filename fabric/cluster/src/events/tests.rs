//! The event log: order, numbers, bounds, gaps, what nodes tell each other, damaged octets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use contract::limits::*;
use contract::{
    BindingNews, Boot, CallKey, CallNews, LogEvent, NodeId, NodeInst, NodeNews, Time, UtcMillis,
    What,
};
use proptest::prelude::*;

use super::form::{batch_key, read_batch, write_batch};
use super::*;

const NOW: Time = Time::from_micros(1_000_000);

fn inst(node: u16, boot: u64) -> NodeInst {
    NodeInst {
        node: NodeId(node),
        boot: Boot(boot),
    }
}

fn key(number: u128) -> CallKey {
    CallKey::from_bits(number << 8)
}

fn ringing(number: u128) -> What {
    What::Call {
        call: key(number),
        news: CallNews::Ringing { status: 180 },
    }
}

/// A log that has published so many events, one a millisecond.
fn log_of(life: NodeInst, count: u64) -> EventLog {
    let mut log = EventLog::new(life);
    for number in 1..=count {
        let published = log.publish(UtcMillis(1_000 + number), ringing(number.into()));
        assert_eq!(published, Some(number));
    }
    log
}

/// What a reader is told from a cursor on: the events, then the gaps.
fn told(log: &EventLog, cursor: &mut Cursor) -> (Vec<(NodeInst, u64)>, Vec<Gap>) {
    let (mut events, mut gaps) = (Vec::new(), Vec::new());
    loop {
        let seen = log.read(cursor, 7, |_| true);
        for (item, _) in seen.items {
            match item {
                Item::Event { life, number, .. } => events.push((life, number)),
                Item::Gap(gap) => gaps.push(gap),
            }
        }
        if !seen.has_more {
            return (events, gaps);
        }
    }
}

/// One gives the other what it lacks, until it lacks nothing.
fn catch_up(from: &EventLog, to: &mut EventLog) {
    for _ in 0..10_000 {
        let answer = from.answer(&to.held(None));
        if answer.is_empty() {
            return;
        }
        for batch in answer {
            assert_ne!(to.take(batch), Taken::Hole, "an answer has no hole");
        }
    }
    panic!("it never ends");
}

fn numbers(life: NodeInst, range: std::ops::RangeInclusive<u64>) -> Vec<(NodeInst, u64)> {
    range.map(|number| (life, number)).collect()
}

#[test]
fn a_reader_sees_each_event_once_and_in_order() {
    let me = inst(1, 10);
    let mut log = log_of(me, 20);
    let mut cursor = Cursor::default();
    assert_eq!(told(&log, &mut cursor), (numbers(me, 1..=20), Vec::new()));
    assert_eq!(told(&log, &mut cursor), (Vec::new(), Vec::new()));
    log.publish(UtcMillis(2_000), ringing(21));
    assert_eq!(told(&log, &mut cursor), (numbers(me, 21..=21), Vec::new()));
    let mut from_now = log.end();
    assert_eq!(told(&log, &mut from_now), (Vec::new(), Vec::new()));
}

#[test]
fn a_cursor_means_the_same_on_every_node() {
    let (one, two) = (inst(1, 10), inst(2, 20));
    let mut first = log_of(one, 5);
    let mut second = log_of(two, 5);
    catch_up(&second, &mut first);
    let mut cursor = Cursor::default();
    assert_eq!(told(&first, &mut cursor).0.len(), 10);
    let text = cursor.to_string();
    let mut cursor: Cursor = text.parse().expect("it reads its own");
    assert_eq!(cursor.to_string(), text);
    // The second node lacks what the reader has seen: it waits for what comes after.
    assert_eq!(told(&second, &mut cursor), (Vec::new(), Vec::new()));
    first.publish(UtcMillis(3_000), ringing(6));
    second.publish(UtcMillis(3_001), ringing(6));
    catch_up(&first, &mut second);
    assert_eq!(
        told(&second, &mut cursor),
        (vec![(one, 6), (two, 6)], Vec::new())
    );
}

#[test]
fn events_of_several_lives_come_by_time() {
    let (one, two) = (inst(1, 10), inst(2, 20));
    let mut first = EventLog::new(one);
    let mut second = EventLog::new(two);
    first.publish(UtcMillis(1), ringing(1));
    second.publish(UtcMillis(2), ringing(2));
    first.publish(UtcMillis(3), ringing(1));
    second.publish(UtcMillis(4), ringing(2));
    catch_up(&second, &mut first);
    let order = [(one, 1), (two, 1), (one, 2), (two, 2)];
    assert_eq!(told(&first, &mut Cursor::default()).0, order);
    let log = first.of_call(key(2));
    let of_call: Vec<u64> = log.events.iter().map(|(_, number, _)| *number).collect();
    assert_eq!(of_call, [1, 2]);
    assert!(log.gaps.is_empty());
}

#[test]
fn a_filter_passes_events_over_but_no_gap() {
    let me = inst(1, 10);
    let log = log_of(me, 20);
    let mut cursor = Cursor::default();
    let seen = log.read(&mut cursor, 100, |event| event.call() == Some(key(7)));
    assert_eq!(seen.items.len(), 1);
    assert_eq!(cursor, log.end(), "it is past the others as well");
}

#[test]
fn what_is_too_old_is_a_gap_that_says_which() {
    let me = inst(1, 10);
    let mut log = log_of(me, 20);
    let later = UtcMillis(1_000 + 10 + EVENTS_KEPT_MS + 1);
    let flush = log.flush(later, true);
    assert_eq!(log.len(), 10);
    assert_eq!(flush.changes.len(), 1, "what is forgotten is not written");
    let gap = |from, until| Gap {
        life: me,
        from,
        until: Some(until),
    };
    let mut cursor = Cursor::default();
    assert_eq!(
        told(&log, &mut cursor),
        (numbers(me, 11..=20), vec![gap(1, 10)])
    );
    let mut cursor: Cursor = "v1_1.10.4".parse().expect("a cursor");
    log.flush(UtcMillis(u64::MAX), true);
    assert_eq!(told(&log, &mut cursor), (Vec::new(), vec![gap(5, 20)]));
    assert_eq!(told(&log, &mut cursor), (Vec::new(), Vec::new()), "once");
}

#[test]
fn counts_are_bounded() {
    let me = inst(1, 10);
    let most = EVENTS_PER_LIFE_MAX as u64;
    let log = log_of(me, most + 5);
    assert_eq!(log.len(), EVENTS_PER_LIFE_MAX);
    let (events, gaps) = told(&log, &mut Cursor::default());
    assert_eq!(events.first(), Some(&(me, 6)));
    assert_eq!((gaps[0].from, gaps[0].until), (1, Some(5)));
    let mut all = EventLog::new(inst(9, 9));
    for node in 1..=5 {
        catch_up(&log_of(inst(node, 10), most), &mut all);
    }
    assert_eq!(all.len(), EVENTS_MAX);
}

#[test]
fn lives_are_bounded_and_those_that_are_over_go_first() {
    let mut log = EventLog::new(inst(1, 1));
    let most = EVENT_LIVES_MAX as u64;
    for boot in 0..2 * most {
        let life = inst(2, 100 + boot);
        log.take(log_of(life, 1).answer(&EventsHeld::default()).remove(0));
        log.set_lives(NOW, &[]);
        log.flush(UtcMillis(1_001), true);
        assert!(log.lives.len() <= EVENT_LIVES_MAX + 1);
    }
    assert!(log.lives.contains_key(&inst(2, 100 + 2 * most - 1)));
    assert!(!log.lives.contains_key(&inst(2, 100)));
}

#[test]
fn what_is_written_is_read_after_a_restart() {
    let me = inst(1, 10);
    let mut log = log_of(me, 200);
    let mut other = log_of(inst(2, 20), 3);
    catch_up(&other, &mut log);
    let flush = log.flush(UtcMillis(1_000), true);
    assert_eq!(
        flush.changes.len(),
        200_usize.div_ceil(EVENTS_PER_BATCH_MAX) + 1
    );
    let sent: usize = flush.batches.iter().map(|batch| batch.events.len()).sum();
    assert_eq!(sent, 200, "own events only");
    assert!(!log.is_dirty(true));
    assert_eq!(log.flush(UtcMillis(1_000), true), Flush::default());
    let mut cursor = Cursor::default();
    told(&log, &mut cursor);

    let mut next = EventLog::new(inst(1, 11));
    for (key, value) in &flush.changes {
        let value = value.as_ref().expect("a batch");
        assert!(key.starts_with(EventLog::stored_prefix()));
        assert!(next.load(NOW, key, value));
    }
    assert!(!next.is_dirty(true), "it is on disk already");
    assert_eq!(told(&next, &mut cursor), (Vec::new(), Vec::new()));
    assert_eq!(told(&next, &mut Cursor::default()).0.len(), 203);
    // The numbers of the new life begin anew, and are other ones.
    next.publish(UtcMillis(5_000), ringing(1));
    assert_eq!(told(&next, &mut cursor).0, [(inst(1, 11), 1)]);
    // What was in memory when it was killed may be lost: that is said, once.
    assert!(next.tick(NOW + Duration::from_millis(EVENT_TAIL_MS)));
    let gap = Gap {
        life: me,
        from: 201,
        until: None,
    };
    assert_eq!(told(&next, &mut cursor), (Vec::new(), vec![gap]));
    assert_eq!(told(&next, &mut cursor), (Vec::new(), Vec::new()));
    // All of it goes from the disk with its time.
    let gone = next.flush(UtcMillis(u64::MAX), true).changes;
    assert_eq!(gone.iter().filter(|(_, value)| value.is_none()).count(), 5);
    catch_up(&next, &mut other);
}

/// A disk that has lost something under a running node: simulator, 3 nodes, seed 766.
#[test]
fn what_the_disk_may_have_lost_is_written_once_more_as_it_was() {
    let mut log = log_of(inst(1, 10), 200);
    let mut other = log_of(inst(2, 20), 3);
    catch_up(&other, &mut log);
    let mut first = log.flush(UtcMillis(1_000), true).changes;
    let mut again = log.saved_again();
    first.sort();
    again.sort();
    assert_eq!(first, again);
    assert!(!log.is_dirty(true));
    catch_up(&log, &mut other);
    assert_eq!(EventLog::new(inst(1, 11)).saved_again(), []);
}

/// A full disk: what it did not take is written again, all of it, so that nothing is missing between.
#[test]
fn what_the_disk_did_not_take_is_written_again() {
    let me = inst(1, 10);
    let mut log = log_of(me, 3);
    let first = log.flush(UtcMillis(1_000), true);
    for number in 4..=100 {
        log.publish(UtcMillis(1_000 + number), ringing(number.into()));
    }
    let second = log.flush(UtcMillis(1_000), true);
    log.publish(UtcMillis(2_000), ringing(101));
    let lost: Vec<Vec<u8>> = second.changes.into_iter().map(|(key, _)| key).collect();
    assert_eq!(lost.len(), 2);
    log.not_saved(&lost);
    assert!(log.is_dirty(true));
    let sent = log.flush(UtcMillis(1_000), false);
    assert_eq!((sent.changes.len(), sent.batches.len()), (0, 1));
    assert!(!log.is_dirty(false) && log.is_dirty(true));
    let third = log.flush(UtcMillis(1_000), true);
    let mut next = EventLog::new(inst(1, 11));
    for (key, value) in first.changes.iter().chain(&third.changes) {
        assert!(next.load(NOW, key, value.as_ref().expect("a batch")));
    }
    assert_eq!(
        told(&next, &mut Cursor::default()),
        (numbers(me, 1..=101), Vec::new())
    );
    let gone = log.flush(UtcMillis(u64::MAX), true).changes;
    assert_eq!(gone.len(), 3, "all of it goes with its time");
}

#[test]
fn a_life_that_has_left_in_order_leaves_no_gap() {
    let (one, two) = (inst(1, 10), inst(2, 20));
    let mut leaving = log_of(one, 3);
    leaving.close(UtcMillis(9_000), "one".to_owned());
    leaving.close(UtcMillis(9_001), "one".to_owned());
    let mut log = log_of(two, 1);
    catch_up(&leaving, &mut log);
    assert_eq!(log.set_lives(NOW, &[two]), [NodeId(1)]);
    assert!(log.is_over(one));
    assert!(!log.tick(NOW + Duration::from_secs(60)));
    let (events, gaps) = told(&log, &mut Cursor::default());
    assert_eq!((events.len(), gaps), (5, Vec::new()));
    // A word after the last one: how many there were is not known any more.
    assert_eq!(leaving.publish(UtcMillis(9_002), ringing(1)), Some(5));
    catch_up(&leaving, &mut log);
    assert!(log.tick(NOW + Duration::from_secs(60)));
    leaving.close(UtcMillis(9_003), "one".to_owned());
    catch_up(&leaving, &mut log);
    let (events, gaps) = told(&log, &mut Cursor::default());
    assert_eq!((events.len(), gaps.len()), (7, 0));
}

#[test]
fn the_tail_of_a_dead_node_is_asked_for_before_it_counts_as_lost() {
    let (one, two, three) = (inst(1, 10), inst(2, 20), inst(3, 30));
    let mut dead = log_of(one, 3);
    let mut second = log_of(two, 0);
    let mut third = log_of(three, 0);
    catch_up(&dead, &mut second);
    dead.publish(UtcMillis(2_000), ringing(4));
    catch_up(&dead, &mut third);
    let mut cursor = Cursor::default();
    told(&second, &mut cursor);
    assert_eq!(second.set_lives(NOW, &[two, three]), [NodeId(1)]);
    assert_eq!(second.set_lives(NOW, &[two, three]), [], "it is asked once");
    let due = NOW + Duration::from_millis(EVENT_TAIL_MS);
    assert_eq!(second.next_deadline(), Some(due));
    assert_eq!(told(&second, &mut cursor), (Vec::new(), Vec::new()));
    for batch in third.answer(&second.held(Some(NodeId(1)))) {
        assert_eq!(second.take(batch), Taken::News);
    }
    assert_eq!(told(&second, &mut cursor).0, [(one, 4)]);
    assert!(second.tick(due));
    let (_, gaps) = told(&second, &mut cursor);
    assert_eq!((gaps[0].from, gaps[0].until), (5, None));
    // It was cut off only: what it says next is told.
    assert_eq!(second.set_lives(NOW, &[one, two, three]), []);
    dead.publish(UtcMillis(3_000), ringing(4));
    catch_up(&dead, &mut second);
    assert_eq!(told(&second, &mut cursor), (vec![(one, 5)], Vec::new()));
}

#[test]
fn a_batch_behind_a_hole_is_not_taken_before_the_hole_is_filled() {
    let one = inst(1, 10);
    let mut origin = log_of(one, 3);
    let mut log = log_of(inst(2, 20), 0);
    origin.flush(UtcMillis(1_000), true);
    origin.publish(UtcMillis(1_100), ringing(4));
    let batch = origin.flush(UtcMillis(1_200), true).batches.remove(0);
    assert_eq!((batch.from, batch.until), (4, 4));
    assert_eq!(log.take(batch.clone()), Taken::Hole);
    catch_up(&origin, &mut log);
    assert_eq!(log.take(batch), Taken::Known);
    assert_eq!(told(&log, &mut Cursor::default()).0, numbers(one, 1..=4));
    // What its origin does not keep any more is a gap, not an endless question.
    for number in 5..=9 {
        origin.publish(UtcMillis(2_000 + number), ringing(number.into()));
    }
    origin.flush(UtcMillis(2_007 + EVENTS_KEPT_MS + 1), true);
    catch_up(&origin, &mut log);
    let mut cursor: Cursor = "v1_1.10.4".parse().expect("a cursor");
    let (events, gaps) = told(&log, &mut cursor);
    assert_eq!(events, numbers(one, 8..=9));
    assert_eq!((gaps[0].from, gaps[0].until), (5, Some(7)));
}

#[test]
fn nobody_tells_a_life_about_itself() {
    let one = inst(1, 10);
    let mut log = log_of(one, 2);
    let forged = log_of(one, 9);
    for batch in forged.answer(&log.held(None)) {
        assert_eq!(log.take(batch), Taken::Known);
    }
    assert_eq!(log.publish(UtcMillis(9_000), ringing(3)), Some(3));
}

#[test]
fn a_life_that_was_forgotten_is_a_gap_for_who_had_not_read_its_end() {
    let (old, new) = (inst(1, 10), inst(1, 11));
    let log = log_of(new, 2);
    let mut cursor: Cursor = "v1_1.10.4".parse().expect("a cursor");
    let (events, gaps) = told(&log, &mut cursor);
    assert_eq!(events, numbers(new, 1..=2));
    assert_eq!((gaps.len(), gaps[0].life, gaps[0].from), (1, old, 5));
    assert_eq!(told(&log, &mut cursor), (Vec::new(), Vec::new()));
    assert_eq!(cursor.to_string(), "v1_1.11.2", "what is over is left out");
    // A node that still has the former life tells nothing of it to that reader.
    let mut behind = log_of(inst(2, 20), 0);
    catch_up(&log_of(old, 9), &mut behind);
    catch_up(&log, &mut behind);
    assert_eq!(told(&behind, &mut cursor), (Vec::new(), Vec::new()));
}

#[test]
fn only_what_a_node_has_given_out_is_a_cursor() {
    for good in [
        "v1",
        "v1_1.10.0",
        "v1_1.10.4e_1.11.2_65535.18446744073709551615.7",
    ] {
        let cursor: Cursor = good.parse().expect("a cursor");
        assert_eq!(cursor.to_string(), good);
    }
    let long = format!("v1{}", "_1.1.1".repeat(CURSOR_BYTES_MAX));
    assert_eq!(long.parse::<Cursor>(), Err(CursorError::TooLong));
    assert_eq!("v2_anything".parse::<Cursor>(), Err(CursorError::Newer));
    for bad in [
        "",
        "v",
        "v0",
        "v01",
        "1",
        "v1_",
        "v1_1",
        "v1_1.2",
        "v1_1.2.3.4",
        "v1_1.2.x",
        "v1_65536.1.1",
        "v1_1.2.3_1.2.4",
        "v1_-1.2.3",
        "v1_1.02.3",
        "v1_1.2.3ee",
        "v1_1.2.18446744073709551616",
        "v1_1.2.\u{661}",
        "v1 ",
    ] {
        assert_eq!(bad.parse::<Cursor>(), Err(CursorError::Damaged), "{bad}");
    }
    let many: String = (0..=2 * EVENT_LIVES_MAX)
        .map(|n| format!("_1.{n}.1"))
        .collect();
    assert_eq!(
        format!("v1{many}").parse::<Cursor>(),
        Err(CursorError::Damaged)
    );
}

/// One of each kind; a new one belongs here.
pub(crate) fn every_event() -> Vec<What> {
    let of_call = |news| What::Call { call: key(7), news };
    let binding = |news| What::Registration {
        aor: "1000@weft.test".to_owned(),
        contact: "sip:1000@192.0.2.1".to_owned(),
        news,
    };
    let node = |news| What::Node {
        life: inst(2, 20),
        name: "two".to_owned(),
        news,
    };
    let text = |text: &str| text.to_owned();
    vec![
        of_call(CallNews::Started {
            from: text("sip:1000@weft.test"),
            to: text("1001"),
        }),
        of_call(CallNews::Ringing { status: 180 }),
        of_call(CallNews::Answered),
        of_call(CallNews::Held),
        of_call(CallNews::Resumed),
        of_call(CallNews::Moved {
            state: text("talking"),
        }),
        of_call(CallNews::TakenOver {
            state: text("held"),
        }),
        of_call(CallNews::Ended {
            cause: text("NORMAL_CLEARING"),
            status: 200,
            by: text("caller"),
        }),
        binding(BindingNews::Added),
        binding(BindingNews::Removed),
        binding(BindingNews::Expired),
        node(NodeNews::Up),
        node(NodeNews::Draining),
        node(NodeNews::Gone),
        node(NodeNews::Left),
        of_call(CallNews::Transferring {
            by: text("callee"),
            to: text("1002@weft.test"),
        }),
        of_call(CallNews::Transferred {
            to: text("1002@weft.test"),
        }),
        of_call(CallNews::TransferFailed { status: 486 }),
        of_call(CallNews::Diverted {
            by: "1001@weft.test".to_owned(),
            on: "busy".to_owned(),
            to: "1002".to_owned(),
        }),
        of_call(CallNews::Replaced {
            party: text("caller"),
            by: text("1002@weft.test"),
        }),
        of_call(CallNews::Parked {
            place: text("5901@weft.test"),
        }),
    ]
}

/// Events that every release knows; later ones follow them.
const OLDEST_EVENTS: usize = 15;

/// A batch with one of each kind that every release knows.
pub(crate) fn stored() -> (Vec<u8>, Vec<u8>) {
    batch_of(every_event().into_iter().take(OLDEST_EVENTS))
}

fn batch_of(events: impl Iterator<Item = What>) -> (Vec<u8>, Vec<u8>) {
    let events = events.zip(1..);
    let events: Vec<(u64, Arc<LogEvent>)> = events
        .map(|(what, number)| {
            let event = LogEvent::new(UtcMillis(1_700_000_000_000 + number), what);
            (number, Arc::new(event.expect("an event of the log")))
        })
        .collect();
    (batch_key(inst(2, 20), 1), write_batch(&events))
}

#[test]
fn every_kind_has_its_word_and_its_json() {
    let kinds: Vec<&str> = every_event()
        .into_iter()
        .map(|what| {
            let event = LogEvent::new(UtcMillis(5), what).expect("an event of the log");
            let json = event.to_json();
            assert_eq!(json["kind"], event.kind());
            assert_eq!(json["at_ms"], 5);
            event.kind()
        })
        .collect();
    assert_eq!(kinds, contract::EVENT_KINDS);
    let refreshed = What::Registration {
        aor: String::new(),
        contact: String::new(),
        news: BindingNews::Refreshed,
    };
    assert_eq!(LogEvent::new(UtcMillis(1), refreshed), None);
}

#[test]
fn long_texts_are_cut_between_characters() {
    let long = format!("a{}", "\u{e9}".repeat(EVENT_TEXT_BYTES_MAX));
    let what = What::Registration {
        aor: long.clone(),
        contact: long,
        news: BindingNews::Added,
    };
    let event = LogEvent::new(UtcMillis(1), what).expect("an event of the log");
    assert!(event.is_bounded());
    let What::Registration { aor, .. } = &event.what else {
        panic!("{event:?}");
    };
    assert_eq!(aor.len(), EVENT_TEXT_BYTES_MAX - 1);
}

/// `cluster.md` §12: what a release has written must be read for ever.
#[test]
fn stored_batches_of_form_1_are_frozen() {
    let (key, value) = stored();
    let hex =
        |octets: &[u8]| -> String { octets.iter().map(|octet| format!("{octet:02x}")).collect() };
    assert_eq!(hex(&key), "65000200000000000000140000000000000001");
    assert_eq!(hex(&value), GOLDEN_BATCH);
    let (life, events) = read_batch(&key, &value).expect("a batch");
    assert_eq!((life, events.len()), (inst(2, 20), 15));
    let whats: Vec<What> = events.iter().map(|(_, event)| event.what.clone()).collect();
    assert_eq!(whats, every_event()[..OLDEST_EVENTS]);
}

/// The same of those that came with schema 3.
#[test]
fn events_of_transfers_are_frozen() {
    let (key, value) = batch_of(every_event().into_iter().skip(OLDEST_EVENTS));
    let hex: String = value.iter().map(|octet| format!("{octet:02x}")).collect();
    assert_eq!(hex, GOLDEN_TRANSFERS);
    let (_, events) = read_batch(&key, &value).expect("a batch");
    let whats: Vec<What> = events.iter().map(|(_, event)| event.what.clone()).collect();
    assert_eq!(whats, every_event()[OLDEST_EVENTS..]);
}

const GOLDEN_TRANSFERS: &str = "0100060000000000000001000000000000000168e5cf8b0100000f00000000070000000000800080000000000000060000000000000063616c6c65650e000000000000003130303240776566742e7465737402000000000000000268e5cf8b01000010000000000700000000008000800000000000000e000000000000003130303240776566742e7465737403000000000000000368e5cf8b0100001100000000070000000000800080000000000000e60104000000000000000468e5cf8b01000012000000000700000000008000800000000000000e000000000000003130303140776566742e7465737404000000000000006275737904000000000000003130303205000000000000000568e5cf8b0100001300000000070000000000800080000000000000060000000000000063616c6c65720e000000000000003130303240776566742e7465737406000000000000000668e5cf8b01000014000000000700000000008000800000000000000e000000000000003539303140776566742e74657374";

const GOLDEN_BATCH: &str = "01000f0000000000000001000000000000000168e5cf8b010000000000000007000000000080008000000000000012000000000000007369703a3130303040776566742e7465737404000000000000003130303102000000000000000268e5cf8b0100000100000000070000000000800080000000000000b40003000000000000000368e5cf8b010000020000000007000000000080008000000000000004000000000000000468e5cf8b010000030000000007000000000080008000000000000005000000000000000568e5cf8b010000040000000007000000000080008000000000000006000000000000000668e5cf8b0100000500000000070000000000800080000000000000070000000000000074616c6b696e6707000000000000000768e5cf8b0100000600000000070000000000800080000000000000040000000000000068656c6408000000000000000868e5cf8b01000007000000000700000000008000800000000000000f000000000000004e4f524d414c5f434c454152494e47c800060000000000000063616c6c657209000000000000000968e5cf8b010000080000000e000000000000003130303040776566742e7465737412000000000000007369703a31303030403139322e302e322e310a000000000000000a68e5cf8b010000090000000e000000000000003130303040776566742e7465737412000000000000007369703a31303030403139322e302e322e310b000000000000000b68e5cf8b0100000a0000000e000000000000003130303040776566742e7465737412000000000000007369703a31303030403139322e302e322e310c000000000000000c68e5cf8b0100000b00000002001400000000000000030000000000000074776f0d000000000000000d68e5cf8b0100000c00000002001400000000000000030000000000000074776f0e000000000000000e68e5cf8b0100000d00000002001400000000000000030000000000000074776f0f000000000000000f68e5cf8b0100000e00000002001400000000000000030000000000000074776f";

#[test]
fn a_batch_of_another_form_or_place_is_not_read() {
    let (key, value) = stored();
    let mut log = EventLog::new(inst(1, 1));
    for length in 0..value.len() {
        assert!(!log.load(NOW, &key, &value[..length]), "cut at {length}");
    }
    for length in 0..key.len() {
        assert!(!log.load(NOW, &key[..length], &value), "cut at {length}");
    }
    let mut newer = value.clone();
    newer[0] = 2;
    assert!(!log.load(NOW, &key, &newer));
    assert!(!log.load(NOW, &batch_key(inst(2, 20), 2), &value));
    assert!(log.is_empty());
    assert!(log.load(NOW, &key, &value));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Three nodes publish, lose batches and compare; a reader goes from node to node: what it is told
    /// of each life are its numbers in order, each once, and all of them in the end.
    #[test]
    fn a_wandering_reader_is_told_everything_once(
        steps in prop::collection::vec((0..6_u8, 0..3_usize, 0..3_usize), 1..200),
    ) {
        let lives = [inst(1, 10), inst(2, 20), inst(3, 30)];
        let mut logs = lives.map(EventLog::new);
        let mut cursor = Cursor::default();
        let mut heard: Vec<(NodeInst, u64)> = Vec::new();
        for (number, (step, one, other)) in (0_u64..).zip(steps) {
            match step {
                0 | 1 => {
                    logs[one].publish(UtcMillis(1_000 + number), ringing(number.into()));
                }
                2 => {
                    for batch in logs[one].flush(UtcMillis(1_000), true).batches {
                        if one != other && logs[other].take(batch) == Taken::Hole {
                            let held = logs[other].held(Some(lives[one].node));
                            for batch in logs[one].answer(&held) {
                                logs[other].take(batch);
                            }
                        }
                    }
                }
                3 if one != other => {
                    for batch in logs[one].answer(&logs[other].held(None)) {
                        logs[other].take(batch);
                    }
                }
                _ => {
                    let text = cursor.to_string();
                    cursor = text.parse().expect("its own");
                    let (events, gaps) = told(&logs[one], &mut cursor);
                    prop_assert!(gaps.is_empty());
                    heard.extend(events);
                }
            }
        }
        for one in 0..3 {
            for other in 0..3 {
                if one != other {
                    for batch in logs[one].answer(&logs[other].held(None)) {
                        logs[other].take(batch);
                    }
                }
            }
        }
        heard.extend(told(&logs[2], &mut cursor).0);
        let unique: BTreeSet<_> = heard.iter().copied().collect();
        prop_assert_eq!(unique.len(), heard.len(), "each once");
        for (life, log) in lives.iter().zip(&logs) {
            let own: Vec<u64> = heard.iter().filter(|(of, _)| of == life).map(|(_, n)| *n).collect();
            let last = log.lives[life].last;
            prop_assert_eq!(own, (1..=last).collect::<Vec<_>>());
        }
    }

    #[test]
    fn octets_of_a_damaged_disk_are_survived(
        at in any::<prop::sample::Index>(),
        octet in any::<u8>(),
    ) {
        let (key, mut value) = stored();
        let at = at.index(value.len());
        value[at] = octet;
        let mut log = EventLog::new(inst(1, 1));
        if log.load(NOW, &key, &value) {
            prop_assert!(log.len() <= 15);
        }
    }
}
