//! Octets that promise much more than they bring: what the decoders of frames, stored values and
//! gossip allocate for them.

use bytes::Bytes;

use crate::Frame;
use crate::form::{read_part, read_stored};
use crate::membership::bombs::{datagram, read_datagram, read_item};

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
fn no_frame_makes_its_reader_allocate_for_what_is_not_there() {
    let (mut cases, mut most) = (0, 0);
    for frame in crate::frame_tests::every() {
        let octets = frame
            .write(contract::SchemaVersion::NEWEST)
            .expect("it fits");
        let (count, held) = worst(&octets, |octets| drop(Frame::read(octets)));
        cases += count;
        most = most.max(held);
    }
    println!("frames: {cases} bombs, at most {most} octets at once");
    assert!(most < ALLOCATED_MAX, "{most}");
    assert!(cases > 10_000, "{cases}");
}

#[test]
fn no_stored_value_makes_its_reader_allocate_for_what_is_not_there() {
    let (mut cases, mut most) = (0, 0);
    let (key, batch) = crate::events::tests::stored();
    let (count, held) = worst(&batch, |octets| {
        let inst = contract::NodeInst::default();
        crate::EventLog::new(inst).load(contract::Time::ZERO, &key, octets);
    });
    cases += count;
    most = most.max(held);
    for (_, octets) in crate::form_tests::goldens() {
        let (count, held) = worst(&octets, |octets| {
            let _ = read_stored(octets);
            let _ = read_part(&Bytes::copy_from_slice(octets));
        });
        cases += count;
        most = most.max(held);
    }
    println!("stored values: {cases} bombs, at most {most} octets at once");
    assert!(most < ALLOCATED_MAX, "{most}");
    assert!(cases > 5_000, "{cases}");
}

#[test]
fn no_gossip_makes_its_reader_allocate_for_what_is_not_there() {
    let (octets, item) = datagram();
    assert!(read_datagram(&octets), "a good one is read");
    assert!(read_item(&item), "a good one is read");
    let (count, held) = worst(&octets, |octets| {
        read_datagram(octets);
    });
    let (more, of_item) = worst(&item, |octets| {
        read_item(octets);
    });
    let (cases, most) = (count + more, held.max(of_item));
    println!("gossip: {cases} bombs, at most {most} octets at once");
    assert!(most < ALLOCATED_MAX, "{most}");
    assert!(cases > 3_000, "{cases}");
}
