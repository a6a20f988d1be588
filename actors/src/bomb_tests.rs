//! Octets that promise much more than they bring: what the decoders of messages and of stored parts
//! allocate for them. A peer sends both: parts come with records.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use contract::core::Rivals;
use contract::{ActorId, Now, Roster, Time, UtcMillis};

use crate::AnyCore;
use crate::wire_tests::{all_samples, unhex};

/// What a decoder may allocate for octets that only claim much (`threats.md` 28).
const ALLOCATED_MAX: u64 = 64 * 1024;

/// Lengths that are promised: more than the octets that follow, as little more as may be believed.
const CLAIMS: [u64; 7] = [
    u64::MAX,
    1 << 40,
    u32::MAX as u64,
    1 << 20,
    (1 << 20) - 1,
    60_000,
    300,
];

/// Puts every claim at every place of good octets, cut after it and not; returns how many there
/// were, and the most octets that one of them made `read` hold at once.
fn worst(good: &[u8], read: impl Fn(&[u8])) -> (u64, u64) {
    let (mut cases, mut most) = (0, 0);
    for at in 0..good.len() {
        for claim in CLAIMS {
            let mut whole = good.to_vec();
            let end = good.len().min(at + size_of::<u64>());
            whole[at..end].copy_from_slice(&claim.to_le_bytes()[..end - at]);
            for octets in [&whole[..], &whole[..end]] {
                let held = allocation_counter::measure(|| read(octets));
                cases += 1;
                most = most.max(held.bytes_max);
            }
        }
    }
    (cases, most)
}

#[test]
fn no_message_makes_its_reader_allocate_for_what_is_not_there() {
    let (mut cases, mut most) = (0, 0);
    for message in all_samples() {
        let octets = crate::wire::encode(&message, contract::SchemaVersion::NEWEST);
        let (count, held) = worst(&octets, |octets| drop(AnyCore::decode(octets)));
        cases += count;
        most = most.max(held);
    }
    println!("messages: {cases} bombs, at most {most} octets at once");
    assert!(most < ALLOCATED_MAX, "{most}");
    assert!(cases > 100_000, "{cases}");
}

#[test]
fn no_stored_part_makes_its_reader_allocate_for_what_is_not_there() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let now = Now {
        mono: Time::ZERO,
        utc: UtcMillis(1_760_000_000_000),
    };
    let id = ActorId::Registration("1000@weft.test".into());
    let (mut parts, mut cases, mut most) = (0, 0, 0);
    for entry in std::fs::read_dir(folder).expect("the goldens") {
        let path = entry.expect("a golden").path();
        let name = path.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(|name| name.starts_with("stored_")) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a golden");
        let (count, held) = worst(&unhex(&text), |octets| {
            drop(AnyCore::restore(&id, octets, now));
            let copy = Bytes::copy_from_slice(octets);
            let parts = BTreeMap::from([(id.clone(), copy.clone())]);
            for newer in [None, Some(&parts)] {
                let copies = Rivals {
                    former: &parts,
                    ran_here: true,
                    newer,
                };
                drop(AnyCore::bequeath(&id, &copies, now));
            }
            drop(AnyCore::merge(&id, &[copy], now));
        });
        parts += 1;
        cases += count;
        most = most.max(held);
    }
    println!("{parts} stored parts: {cases} bombs, at most {most} octets at once");
    assert!(most < ALLOCATED_MAX, "{most}");
    assert!(parts >= 10 && cases > 30_000, "{parts} {cases}");
}
