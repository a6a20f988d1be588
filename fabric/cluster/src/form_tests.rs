//! Stored forms are frozen: golden octets, and no octet of a damaged form panics or passes.
//! `UPDATE_GOLDEN=1` writes the goldens anew; only ever for a form that was never released.

use std::fmt::Write;
use std::path::PathBuf;

use bytes::Bytes;
use contract::{ActorId, Boot, CallKey, FabricKeys, NodeId, NodeInst, SchemaVersion, UtcMillis};

use crate::form::*;
use crate::*;

fn call() -> CallKey {
    CallKey::from_bits(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef)
}

fn version(n: u64, sequence: u64) -> Version {
    let by = NodeId(2);
    Version {
        epoch: Epoch { n, by },
        sequence,
    }
}

fn instance(node: u16) -> NodeInst {
    NodeInst {
        node: NodeId(node),
        boot: Boot(1_700_000_000),
    }
}

fn part(id: ActorId, sequence: u64, length: u32, deadline: Option<u64>) -> PartEntry {
    PartEntry {
        id,
        version: version(3, sequence),
        length,
        deadline: deadline.map(UtcMillis),
    }
}

fn call_header() -> Header {
    let set = |nodes: &[u16]| HolderSet::new(nodes.iter().map(|node| NodeId(*node)).collect());
    Header {
        id: ActorId::Call(call()),
        version: version(3, 17),
        owner: instance(2),
        state: RecordState::Moving { to: instance(4) },
        conf: Conf::Joint {
            old: set(&[1, 2, 3]).unwrap(),
            new: set(&[2, 4]).unwrap(),
        },
        expires: UtcMillis(0),
        schema: SchemaVersion::OLDEST,
        degraded: true,
        parts: vec![
            part(ActorId::Call(call()), 16, 4, None),
            part(
                ActorId::Dialog(call().side(1)),
                2,
                300,
                Some(1_760_000_000_500),
            ),
            part(ActorId::MediaLeg(call().side(255)), 17, 0, Some(7)),
        ],
    }
}

fn tombstone() -> Header {
    Header {
        id: ActorId::Registration("alice@example.org".into()),
        version: version(1, 9),
        owner: instance(2),
        state: RecordState::Ended,
        conf: Conf::Settled(HolderSet::alone(NodeId(2))),
        expires: UtcMillis(1_760_000_000_000),
        schema: SchemaVersion::OLDEST,
        degraded: false,
        parts: Vec::new(),
    }
}

pub(crate) fn goldens() -> Vec<(&'static str, Vec<u8>)> {
    let (epoch, ids) = (version(3, 0).epoch, FabricKeys::new([9; 32]).ids());
    let (header, ended) = (call_header(), tombstone());
    let active = Header {
        state: RecordState::Active,
        ..ended.clone()
    };
    let claimed = Header {
        state: RecordState::Claimed,
        ..ended.clone()
    };
    let side = ActorId::MediaLeg(call().side(255));
    let of_part = part_key(ids.record_key(&side), &side).unwrap();
    vec![
        (
            "header_call_v1",
            write_stored(epoch, Some(&header), Some(b"part")),
        ),
        ("header_ended_v1", write_stored(epoch, Some(&ended), None)),
        ("header_active_v1", write_stored(epoch, Some(&active), None)),
        (
            "header_claimed_v1",
            write_stored(epoch, Some(&claimed), None),
        ),
        ("fence_v1", write_stored(epoch, None, None)),
        ("part_v1", write_part(version(3, 17), b"leg")),
        ("key_header", header_key(ids.record_key(&header.id))),
        ("key_registration", header_key(ids.record_key(&ended.id))),
        (
            "key_gateway",
            header_key(ids.record_key(&ActorId::Gateway("tel:nyx".into()))),
        ),
        ("key_part", of_part),
    ]
}

#[test]
fn stored_forms_and_keys_are_their_golden_octets() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, octets) in goldens() {
        let mut text = String::new();
        for line in octets.chunks(32) {
            line.iter()
                .for_each(|octet| write!(text, "{octet:02x}").unwrap());
            text.push('\n');
        }
        let path = folder.join(name).with_extension("hex");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{name}");
    }
}

#[test]
fn stored_forms_read_back() {
    let epoch = version(4, 0).epoch;
    for header in [call_header(), tombstone()] {
        let own = header.part(&header.id).map(|_| &b"part"[..]);
        let value = write_stored(epoch, Some(&header), own);
        let stored = read_stored(&value).unwrap();
        assert_eq!(
            (stored.fence, stored.header.as_ref()),
            (epoch, Some(&header))
        );
        assert_eq!(stored.own_part_at.map(|at| &value[at..]), own);
    }
    let fence = read_stored(&write_stored(epoch, None, None)).unwrap();
    assert_eq!((fence.fence, fence.header), (epoch, None));
    let value = Bytes::from(write_part(version(3, 17), b"leg"));
    assert_eq!(
        read_part(&value).unwrap(),
        (version(3, 17), Bytes::from_static(b"leg"))
    );
}

#[test]
fn forms_and_schemas_of_a_later_release_are_refused_by_name() {
    let mut value = write_stored(Epoch::ZERO, Some(&tombstone()), None);
    value[0] = 2;
    assert_eq!(
        read_stored(&value),
        Err(Unread::Newer { form: 2, known: 1 })
    );
    let later = Header {
        schema: SchemaVersion(SchemaVersion::NEWEST.0 + 1),
        ..tombstone()
    };
    let (form, known) = (SchemaVersion::NEWEST.0 + 1, SchemaVersion::NEWEST.0);
    let value = write_stored(Epoch::ZERO, Some(&later), None);
    assert_eq!(read_stored(&value), Err(Unread::Newer { form, known }));
    let error = Unread::Newer { form, known }.of("x".into());
    assert_eq!(error.class(), contract::FaultClass::Config);
}

#[test]
fn cut_and_flipped_forms_never_panic_and_cut_ones_never_pass() {
    for (name, octets) in goldens() {
        if name.starts_with("key") {
            continue;
        }
        for length in 0..octets.len() {
            let cut = Bytes::copy_from_slice(&octets[..length]);
            if name == "part_v1" {
                assert_eq!(read_part(&cut).is_err(), length < 20, "{length}");
            } else {
                assert!(read_stored(&cut).is_err(), "{name} {length}");
            }
        }
        for bit in 0..octets.len() * 8 {
            let mut flipped = octets.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let flipped = Bytes::from(flipped);
            // The store's checksum catches flips; here they only must not panic.
            let _ = read_part(&flipped);
            if let Ok(stored) = read_stored(&flipped) {
                let parts = stored.header.map_or(0, |header| header.parts.len());
                assert!(parts <= 3, "{name} {bit}");
            }
        }
    }
}
