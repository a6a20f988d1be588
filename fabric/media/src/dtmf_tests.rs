//! Telephone events as RFC 4733 §2.5 sends them, with loss, doubles and reordering.

use std::time::Duration;

use super::DtmfChange::{Ended, Started};
use super::*;

/// Packet of a script: milliseconds, timestamp, event, end bit, duration.
type Step = (u64, u32, u8, bool, u16);

fn run(steps: &[Step]) -> Vec<DtmfChange> {
    let mut reader = DtmfReader::default();
    let mut changes = Vec::new();
    for (ms, timestamp, event, is_end, duration) in steps {
        let now = Time::from_micros(ms * 1_000);
        changes.extend(reader.on_time(now));
        let [high, low] = duration.to_be_bytes();
        let payload = [*event, u8::from(*is_end) << 7 | 10, high, low];
        changes.extend(
            reader
                .on_packet(*timestamp, &payload, now)
                .into_iter()
                .flatten(),
        );
    }
    changes.extend(reader.on_time(Time::from_micros(1_000_000_000)));
    changes
}

#[test]
fn each_event_starts_and_ends_once() {
    let (start, end) = (Started { event: 5 }, |duration| Ended {
        event: 5,
        duration,
    });
    let table: [(&str, &[Step], Vec<DtmfChange>); 9] = [
        (
            "three packets, three ends",
            &[
                (0, 100, 5, false, 160),
                (20, 100, 5, false, 320),
                (40, 100, 5, true, 480),
                (40, 100, 5, true, 480),
                (40, 100, 5, true, 480),
            ],
            vec![start, end(480)],
        ),
        (
            "all but one end lost",
            &[(0, 100, 5, true, 480)],
            vec![start, end(480)],
        ),
        (
            "all ends lost",
            &[(0, 100, 5, false, 160), (20, 100, 5, false, 320)],
            vec![start, end(320)],
        ),
        (
            "the same digit twice",
            &[(0, 100, 5, true, 400), (200, 1_700, 5, true, 400)],
            vec![start, end(400), start, end(400)],
        ),
        (
            "ends lost, next digit at once",
            &[(0, 100, 5, false, 160), (100, 900, 6, true, 160)],
            vec![
                start,
                end(160),
                Started { event: 6 },
                Ended {
                    event: 6,
                    duration: 160,
                },
            ],
        ),
        (
            "an old packet after the next began",
            &[
                (0, 900, 5, false, 160),
                (1, 100, 4, false, 160),
                (2, 900, 5, true, 320),
            ],
            vec![start, end(320)],
        ),
        (
            "durations out of order",
            &[
                (0, 100, 5, false, 480),
                (1, 100, 5, false, 160),
                (2, 100, 5, true, 480),
            ],
            vec![start, end(480)],
        ),
        (
            "segments of a long event (§2.5.1.3)",
            &[
                (0, 0, 5, false, u16::MAX),
                (50, 65_535, 5, false, 800),
                (99, 65_535, 5, true, 1_600),
            ],
            vec![start, end(u16::MAX)],
        ),
        (
            "the timestamp wraps",
            &[(0, u32::MAX - 10, 5, true, 400), (200, 2_000, 5, true, 400)],
            vec![start, end(400), start, end(400)],
        ),
    ];
    for (name, steps, expected) in table {
        assert_eq!(run(steps), expected, "{name}");
    }
}

#[test]
fn silence_ends_an_event_at_its_deadline() {
    let mut reader = DtmfReader::default();
    assert_eq!(reader.deadline(), None);
    let now = Time::from_micros(1_000);
    assert_eq!(
        reader.on_packet(1, &[11, 0, 0, 9], now)[1],
        Some(Started { event: 11 })
    );
    let due = now + Duration::from_millis(200);
    assert_eq!(reader.deadline(), Some(due));
    assert_eq!(reader.on_time(now), None);
    assert_eq!(
        reader.on_time(due),
        Some(Ended {
            event: 11,
            duration: 9
        })
    );
    assert_eq!((reader.deadline(), reader.on_time(due)), (None, None));
}

#[test]
fn short_payloads_are_ignored_and_digits_named() {
    let mut reader = DtmfReader::default();
    for length in 0..4 {
        assert_eq!(
            reader.on_packet(1, &[0x80; 4][..length], Time::ZERO),
            [None; 3]
        );
    }
    let digits: String = (0..=16).filter_map(digit).collect();
    assert_eq!(digits, "0123456789*#ABCD");
    let event = TelephoneEvent::read(&[1, 0xbf, 0x12, 0x34]).expect("four octets");
    assert_eq!(
        event,
        TelephoneEvent {
            event: 1,
            is_end: true,
            volume: 63,
            duration: 0x1234
        }
    );
}

#[test]
fn a_change_of_source_ends_what_is_pressed() {
    let mut reader = DtmfReader::default();
    reader.on_packet(1, &[3, 0, 0, 80], Time::ZERO);
    assert_eq!(
        reader.reset(),
        Some(Ended {
            event: 3,
            duration: 80
        })
    );
    assert_eq!(reader.reset(), None);
    assert_eq!(
        reader.on_packet(0, &[3, 0, 0, 80], Time::ZERO)[1],
        Some(Started { event: 3 })
    );
}
