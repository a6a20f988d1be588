//! Frames: there and back, frozen octets, octets of anybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use contract::limits::{REPAIR_FETCH_MAX, REPAIR_PAGE_MAX, SHARDS};
use contract::{
    ActorId, Boot, CallKey, CallNews, Door, FlowRef, Kind, ListenerId, LogEvent, MoveFault, NodeId,
    NodeInst, SchemaVersion, Undelivered, UtcMillis, What,
};
use proptest::prelude::*;

use crate::frame::{Frame, FrameError, Whereabouts};
use crate::{
    Conf, Entry, Epoch, EventBatch, EventsHeld, Exchange, Glance, Header, HolderReply,
    HolderRequest, HolderSet, Image, Look, Mark, Page, PartEntry, Range, RecordState, ShardSet,
    Version, Wanted,
};

fn inst(node: u16) -> NodeInst {
    NodeInst {
        node: NodeId(node),
        boot: Boot(1_700_000_000 + u64::from(node)),
    }
}

fn version(n: u64, sequence: u64) -> Version {
    Version {
        epoch: Epoch { n, by: NodeId(2) },
        sequence,
    }
}

fn image() -> Image {
    let key = CallKey::from_bits(0x1234_5678_9abc_def0_1122_3344_5566_7788);
    let id = ActorId::Call(key);
    let parts: BTreeMap<ActorId, Bytes> = [
        (id.clone(), Bytes::from_static(b"call")),
        (ActorId::Dialog(key.side(1)), Bytes::from_static(b"dialog")),
        (ActorId::MediaLeg(key.side(2)), Bytes::from_static(b"leg")),
    ]
    .into();
    let entries = parts.iter().map(|(id, bytes)| PartEntry {
        id: id.clone(),
        version: version(3, 7),
        length: u32::try_from(bytes.len()).expect("short"),
        deadline: Some(UtcMillis(1_700_000_000_123)),
    });
    Image {
        header: Header {
            id,
            version: version(3, 7),
            owner: inst(2),
            state: RecordState::Moving { to: inst(3) },
            conf: Conf::Joint {
                old: HolderSet::alone(NodeId(2)),
                new: HolderSet::new(vec![NodeId(1), NodeId(2), NodeId(3)]).expect("a set"),
            },
            expires: UtcMillis(0),
            schema: SchemaVersion::OLDEST,
            degraded: true,
            parts: entries.collect(),
        },
        parts,
    }
}

/// One of each; a new variant belongs here.
pub(crate) fn every() -> Vec<Frame> {
    let user = ActorId::Registration("1000@weft.test".into());
    let lane = ActorId::Lane(NodeId(1), 3);
    let reply = |reply| Frame::Reply { number: 9, reply };
    let found = |whereabouts| Frame::Found {
        number: 10,
        whereabouts,
    };
    let ask = |request| Frame::Ask { number: 8, request };
    vec![
        Frame::Tell {
            from: lane.clone(),
            origin: inst(1),
            to: user.clone(),
            hops: 2,
            message: Bytes::from_static(b"message"),
        },
        Frame::Returned {
            to: user.clone(),
            from: lane,
            message: Bytes::from_static(b"message"),
            why: Undelivered::Busy,
        },
        ask(HolderRequest::Commit(image())),
        ask(HolderRequest::Claim {
            id: user.clone(),
            epoch: version(4, 0).epoch,
        }),
        reply(HolderReply::Stored(version(3, 7))),
        reply(HolderReply::Incomplete {
            missing: vec![image().header.id],
        }),
        reply(HolderReply::Granted {
            epoch: version(4, 0).epoch,
            newest: Some(Box::new(image())),
        }),
        reply(HolderReply::Granted {
            epoch: version(4, 0).epoch,
            newest: None,
        }),
        reply(HolderReply::Fenced(version(5, 0).epoch)),
        Frame::Where {
            number: 10,
            id: user.clone(),
        },
        found(Whereabouts::At {
            owner: inst(2),
            version: version(3, 7),
        }),
        found(Whereabouts::None),
        found(Whereabouts::Unsettled),
        Frame::Redirect {
            id: user,
            version: version(3, 7),
            owner: inst(3),
        },
        Frame::Send {
            flow: FlowRef::Stream {
                node: NodeId(2),
                number: 5,
                listener: ListenerId(1),
                remote: "192.0.2.1:5060".parse().expect("an address"),
                door: Door::Sip,
            },
            bytes: Bytes::from_static(b"BYE"),
        },
        repair(Exchange::Digests(Box::new(look()))),
        repair(Exchange::Differing(shards())),
        repair(Exchange::List(Range {
            kind: Kind::Registration,
            shard: 7,
            after: Some(9),
        })),
        repair(Exchange::Listed(Page {
            entries: vec![
                entry(image().header.id, Mark::Live),
                entry(ActorId::Gateway("trunk".into()), Mark::Ended),
                entry(ActorId::Gateway("old".into()), Mark::Expired),
            ],
            until: Some(11),
        })),
        repair(Exchange::Fetch(vec![wanted()])),
        repair(Exchange::Images {
            images: vec![image()],
            passed: 2,
        }),
        Frame::Take {
            number: 13,
            id: image().header.id,
            epoch: version(3, 7).epoch,
        },
        Frame::Taken {
            number: 13,
            epoch: version(4, 0).epoch,
        },
        Frame::Kept {
            number: 13,
            why: MoveFault::NotUp,
        },
        Frame::Left { number: 13 },
        Frame::EventsHeld(EventsHeld {
            of: Some(NodeId(2)),
            lives: vec![(inst(2), 7)],
        }),
        Frame::Events(EventBatch {
            life: inst(2),
            from: 6,
            until: 9,
            has_more: true,
            events: vec![(7, event(7)), (9, event(9))],
        }),
        repair(Exchange::Glance(Glance {
            round: 3,
            in_step: shards(),
            sum: 4,
        })),
    ]
}

fn event(at: u64) -> Arc<LogEvent> {
    let ended = CallNews::Ended {
        cause: "NORMAL_CLEARING".to_owned(),
        status: 200,
        by: "caller".to_owned(),
    };
    let what = What::Call {
        call: CallKey::from_bits(0x1234_5678_9abc_def0_1122_3344_5566_7788),
        news: ended,
    };
    Arc::new(LogEvent::new(UtcMillis(at), what).expect("an event of the log"))
}

fn repair(exchange: Exchange) -> Frame {
    let number = 12;
    Frame::Repair { number, exchange }
}

fn look() -> Look {
    Look {
        round: 3,
        in_step: shards(),
        digests: std::array::from_fn(|shard| shard as u64),
    }
}

fn shards() -> ShardSet {
    let mut shards = ShardSet::NONE;
    for shard in [0, 65, 255] {
        shards.insert(shard);
    }
    shards
}

fn entry(id: ActorId, mark: Mark) -> Entry {
    let version = version(3, 7);
    Entry { id, version, mark }
}

fn wanted() -> Wanted {
    Wanted {
        id: image().header.id,
        than: version(3, 6),
        is_check: false,
    }
}

#[test]
fn every_frame_is_read_as_it_was_written() {
    for frame in every() {
        let octets = frame.write(SchemaVersion::NEWEST).expect("it fits");
        assert_eq!(Frame::read(&octets), Ok(frame));
    }
}

/// Whether form 1 has a word for a frame.
fn is_of_form_1(frame: &Frame) -> bool {
    let is_glance = matches!(
        frame,
        Frame::Repair {
            exchange: Exchange::Glance(_),
            ..
        }
    );
    !is_glance && !matches!(frame, Frame::EventsHeld(_) | Frame::Events(_))
}

/// What the other node cannot know is one word on the wire.
#[test]
fn why_an_actor_is_kept_is_read_as_it_was_written() {
    for why in [
        MoveFault::NotUp,
        MoveFault::Stale,
        MoveFault::Moving,
        MoveFault::Crowded,
        MoveFault::NotTaken,
    ] {
        let frame = Frame::Kept { number: 1, why };
        let octets = frame.write(SchemaVersion::OLDEST).expect("it fits");
        assert_eq!(Frame::read(&octets), Ok(frame));
    }
    let of_a_side = Frame::Take {
        number: 1,
        id: ActorId::Dialog(CallKey::from_bits(1 << 64).side(1)),
        epoch: Epoch::ZERO,
    };
    let octets = of_a_side.write(SchemaVersion::OLDEST).expect("it fits");
    assert!(Frame::read(&octets).is_err(), "a side has no record");
}

/// What form 1 has no word for is said in form 2 to whom reads it, and in the nearest word of form 1
/// to others; all else is written in form 1, octet for octet, whatever the schema.
#[test]
fn frames_are_written_for_the_schema_of_the_reader() {
    let new = SchemaVersion::NEWEST;
    for frame in every() {
        let former = frame.write(SchemaVersion::OLDEST);
        match is_of_form_1(&frame) {
            true => assert_eq!(frame.write(new), former),
            false => assert_eq!(former, Err(FrameError::Unspoken(SchemaVersion::OLDEST))),
        }
    }
    let kept = |why| Frame::Kept { number: 13, why };
    let loaded = kept(MoveFault::Loaded);
    let octets = loaded.write(new).expect("it fits");
    let text: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    assert_eq!(text, GOLDEN_KEPT_LOADED);
    assert_eq!(Frame::read(&octets), Ok(loaded.clone()));
    let octets = loaded.write(SchemaVersion::OLDEST).expect("it fits");
    assert_eq!(Frame::read(&octets), Ok(kept(MoveFault::NotTaken)));
}

/// A node of the next release, or a damaged one, cannot make this one fail: a variant that is not
/// known, a field more, a later form.
#[test]
fn what_a_later_release_adds_is_refused_and_harms_nothing() {
    for frame in every() {
        let octets = frame.write(SchemaVersion::NEWEST).expect("it fits");
        let mut later = octets.to_vec();
        later[2..6].copy_from_slice(&99_u32.to_le_bytes());
        assert!(matches!(Frame::read(&later), Err(FrameError::Damaged(_))));
        let longer = [&octets[..], &[0]].concat();
        assert!(matches!(Frame::read(&longer), Err(FrameError::Damaged(_))));
        for proto in [3_u16, 4, u16::MAX] {
            let later = [&proto.to_le_bytes()[..], &octets[2..]].concat();
            assert_eq!(Frame::read(&later), Err(FrameError::Newer { proto }));
        }
    }
    let unknown_of_form_2 = [2, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    let read = Frame::read(&unknown_of_form_2);
    assert!(matches!(read, Err(FrameError::Damaged(_))), "{read:?}");
}

/// `cluster.md` §12: what a node of the version before writes must be read for ever.
#[test]
fn frames_are_frozen() {
    let frames = every();
    let octets = |at: usize| {
        let octets = frames[at].write(SchemaVersion::NEWEST).expect("it fits");
        octets
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect::<String>()
    };
    assert_eq!(octets(0), GOLDEN_TELL);
    assert_eq!(octets(8), GOLDEN_FENCED);
    let digests = octets(15);
    assert!(digests.starts_with(GOLDEN_DIGESTS), "{digests}");
    assert_eq!(digests.len(), GOLDEN_DIGESTS.len() + 2 * 8 * SHARDS);
    assert_eq!(octets(16), GOLDEN_DIFFERING);
    assert_eq!(octets(17), GOLDEN_LIST);
    assert_eq!(octets(18), GOLDEN_LISTED);
    assert_eq!(octets(19), GOLDEN_FETCH);
    assert_eq!(octets(20), GOLDEN_IMAGES);
    assert_eq!(octets(21), GOLDEN_TAKE);
    assert_eq!(octets(22), GOLDEN_TAKEN);
    assert_eq!(octets(23), GOLDEN_KEPT);
    assert_eq!(octets(24), GOLDEN_LEFT);
    assert_eq!(octets(25), GOLDEN_EVENTS_HELD);
    assert_eq!(octets(26), GOLDEN_EVENTS);
    assert_eq!(octets(27), GOLDEN_GLANCE);
}

const GOLDEN_TELL: &str = "01000000000008000000000000006c616e653a312f33010001f15365000000001b00000000000000726567697374726174696f6e3a3130303040776566742e746573740207000000000000006d657373616765";
const GOLDEN_DIGESTS: &str = "01000e0000000c00000000000000030000000000000001000000000000000200000000000000000000000000000000000000000000800001000000000000";
const GOLDEN_DIFFERING: &str =
    "01000f0000000c000000000000000100000000000000020000000000000000000000000000000000000000000080";
const GOLDEN_LIST: &str = "0100100000000c0000000000000000070109000000000000000000000000000000";
const GOLDEN_LISTED: &str = "0100110000000c000000000000000300000000000000290000000000000063616c6c3a31323334353637382d396162632d386566302d393132322d333334343535363637373030030000000000000002000700000000000000000000000d00000000000000676174657761793a7472756e6b030000000000000002000700000000000000010000000b00000000000000676174657761793a6f6c6403000000000000000200070000000000000002000000010b000000000000000000000000000000";
const GOLDEN_FETCH: &str = "0100120000000c000000000000000100000000000000290000000000000063616c6c3a31323334353637382d396162632d386566302d393132322d333334343535363637373030030000000000000002000600000000000000";
const GOLDEN_IMAGES: &str = "0100130000000c000000000000000100000000000000290000000000000063616c6c3a31323334353637382d396162632d386566302d393132322d333334343535363637373030030000000000000002000700000000000000020002f153650000000002000000030003f1536500000000020000000000000001000000000000000200030000000000000001000200030000000000000000000100010300000000000000000003000000000000000200070000000000000004000000017b68e5cf8b010000010103000000000000000200070000000000000006000000017b68e5cf8b010000020203000000000000000200070000000000000003000000017b68e5cf8b01000003000000000000000000040000000000000063616c6c010106000000000000006469616c6f67020203000000000000006c656702000000";
const GOLDEN_TAKE: &str = "0100140000000d00000000000000290000000000000063616c6c3a31323334353637382d396162632d386566302d393132322d33333434353536363737303003000000000000000200";
const GOLDEN_TAKEN: &str = "0100150000000d0000000000000004000000000000000200";
const GOLDEN_KEPT: &str = "0100160000000d0000000000000000000000";
const GOLDEN_KEPT_LOADED: &str = "0200000000000d00000000000000";
const GOLDEN_LEFT: &str = "0100170000000d00000000000000";
const GOLDEN_EVENTS_HELD: &str =
    "0200010000000102000100000000000000020002f15365000000000700000000000000";
const GOLDEN_EVENTS: &str = "020002000000020002f15365000000000600000000000000090000000000000001020000000000000007000000000000000700000000000000070000000077665544332291f08ebc9a785634120f000000000000004e4f524d414c5f434c454152494e47c800060000000000000063616c6c657209000000000000000900000000000000070000000077665544332291f08ebc9a785634120f000000000000004e4f524d414c5f434c454152494e47c800060000000000000063616c6c6572";
const GOLDEN_GLANCE: &str = "0200030000000c00000000000000030000000000000001000000000000000200000000000000000000000000000000000000000000800400000000000000";
const GOLDEN_FENCED: &str = "010007000000090000000000000005000000000000000200";

#[test]
fn what_is_no_frame_is_refused() {
    let good = every()[2].write(SchemaVersion::OLDEST).expect("it fits");
    for length in 0..good.len() {
        assert!(Frame::read(&good[..length]).is_err(), "cut at {length}");
    }
    let mut newer = good.to_vec();
    newer[0] = 3;
    assert_eq!(Frame::read(&newer), Err(FrameError::Newer { proto: 3 }));
    newer[0] = 0;
    assert!(matches!(Frame::read(&newer), Err(FrameError::Damaged(_))));
    let mut image = image();
    image.parts.insert(
        image.header.id.clone(),
        Bytes::from_static(b"longer than listed"),
    );
    let request = HolderRequest::Commit(image);
    let lie = Frame::Ask { number: 1, request };
    let octets = lie.write(SchemaVersion::OLDEST).expect("it fits");
    assert!(matches!(Frame::read(&octets), Err(FrameError::Damaged(_))));
    let of_a_side = Frame::Ask {
        number: 1,
        request: HolderRequest::Claim {
            id: ActorId::Dialog(CallKey::from_bits(1 << 64).side(1)),
            epoch: Epoch::ZERO,
        },
    };
    let octets = of_a_side.write(SchemaVersion::OLDEST).expect("it fits");
    assert!(Frame::read(&octets).is_err(), "a side has no record");
    let huge = Frame::Send {
        flow: FlowRef::Datagram {
            listener: ListenerId(0),
            remote: "192.0.2.1:5060".parse().expect("an address"),
        },
        bytes: vec![0; contract::limits::FRAME_BYTES_MAX].into(),
    };
    assert!(matches!(
        huge.write(SchemaVersion::OLDEST),
        Err(FrameError::TooLong(_))
    ));
}

#[test]
fn exchanges_beyond_their_bounds_are_refused() {
    let refused = |frame: &Frame, what: &str| {
        let octets = frame.write(SchemaVersion::NEWEST).expect("it fits");
        let read = Frame::read(&octets);
        assert!(matches!(read, Err(FrameError::Damaged(_))), "{what}");
    };
    let page = |count: usize| {
        let entries = vec![entry(ActorId::Gateway("t".into()), Mark::Live); count];
        let until = None;
        repair(Exchange::Listed(Page { entries, until }))
    };
    assert!(
        Frame::read(
            &page(REPAIR_PAGE_MAX)
                .write(SchemaVersion::OLDEST)
                .expect("it fits")
        )
        .is_ok()
    );
    refused(&page(REPAIR_PAGE_MAX + 1), "a page");
    let fetch = |count: usize| repair(Exchange::Fetch(vec![wanted(); count]));
    assert!(
        Frame::read(
            &fetch(REPAIR_FETCH_MAX)
                .write(SchemaVersion::OLDEST)
                .expect("it fits")
        )
        .is_ok()
    );
    refused(&fetch(REPAIR_FETCH_MAX + 1), "a fetch");
    let images = repair(Exchange::Images {
        images: vec![image(); REPAIR_FETCH_MAX + 1],
        passed: 0,
    });
    refused(&images, "images");
    let of_a_side = entry(ActorId::Dialog(CallKey::from_bits(1).side(1)), Mark::Live);
    let listed = repair(Exchange::Listed(Page {
        entries: vec![of_a_side],
        until: None,
    }));
    refused(&listed, "a side has no record");
    let of_a_lane = repair(Exchange::Fetch(vec![Wanted {
        id: ActorId::Lane(NodeId(1), 1),
        ..wanted()
    }]));
    refused(&of_a_lane, "a lane has no record");
    let no_kind = repair(Exchange::List(Range {
        kind: Kind::Dialog,
        shard: 0,
        after: None,
    }));
    refused(&no_kind, "dialogs have no records");
    // A count that the octets do not hold is not allocated for.
    let mut fewer = every()[15]
        .write(SchemaVersion::OLDEST)
        .expect("it fits")
        .to_vec();
    let at = 2 + 4 + 8 + 8 + 32;
    assert_eq!(fewer[at..at + 8], 256_u64.to_le_bytes());
    fewer[at] = 255;
    fewer[at + 1] = 0;
    fewer.truncate(fewer.len() - 8);
    assert!(matches!(Frame::read(&fewer), Err(FrameError::Damaged(_))));
    fewer[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(Frame::read(&fewer), Err(FrameError::Damaged(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn octets_of_anybody_are_survived(
        which in 0..27_usize,
        at in any::<prop::sample::Index>(),
        octet in any::<u8>(),
    ) {
        let mut octets = every()[which].write(SchemaVersion::NEWEST).expect("it fits").to_vec();
        let at = at.index(octets.len());
        octets[at] = octet;
        if let Ok(frame) = Frame::read(&octets) {
            prop_assert!(frame.write(SchemaVersion::NEWEST).is_ok());
        }
    }
}

mod placement {
    use contract::{ActorId, IdHasher, NodeId, RecordKey};

    use crate::placement::{Candidate, holders, rank};

    fn nodes(count: u16) -> Vec<Candidate> {
        (1..=count)
            .map(|node| Candidate {
                node: NodeId(node),
                weight: 100,
                zone: String::new(),
            })
            .collect()
    }

    fn key(number: u32) -> RecordKey {
        let id = ActorId::Registration(format!("{number}@weft.test").into());
        IdHasher::new([7; 16]).record_key(&id)
    }

    #[test]
    fn each_node_gets_its_share() {
        let mut nodes = nodes(5);
        nodes[4].weight = 200;
        let mut counts = [0_u32; 6];
        for number in 0..12_000 {
            counts[usize::from(rank(key(number), &nodes)[0].0)] += 1;
        }
        for count in &counts[1..5] {
            assert!((1_800..2_200).contains(count), "{counts:?}");
        }
        assert!((3_700..4_300).contains(&counts[5]), "{counts:?}");
    }

    #[test]
    fn a_node_that_leaves_changes_nobody_elses_rank() {
        let (all, mut fewer) = (nodes(7), nodes(7));
        fewer.remove(3);
        for number in 0..500 {
            let mut before = rank(key(number), &all);
            before.retain(|node| *node != NodeId(4));
            assert_eq!(before, rank(key(number), &fewer));
        }
    }

    #[test]
    fn ranks_are_frozen() {
        let ranks: Vec<u16> = rank(key(1), &nodes(5)).iter().map(|node| node.0).collect();
        assert_eq!(ranks, [4, 1, 3, 2, 5]);
    }

    #[test]
    fn a_node_without_weight_gets_nothing() {
        let mut nodes = nodes(3);
        nodes[1].weight = 0;
        for number in 0..100 {
            assert!(!rank(key(number), &nodes).contains(&NodeId(2)));
        }
    }

    #[test]
    fn peers_are_of_the_first_ranks_and_of_other_zones() {
        let mut nodes = nodes(6);
        for (at, node) in nodes.iter_mut().enumerate() {
            node.zone = format!("zone {}", at % 2);
        }
        for number in 0..200 {
            let ranked = rank(key(number), &nodes);
            for owner in 1..=6 {
                let set = holders(key(number), NodeId(owner), &nodes, 3);
                assert_eq!(set.nodes().len(), 3);
                assert!(set.nodes().contains(&NodeId(owner)));
                let others = set.nodes().iter().filter(|node| node.0 != owner);
                assert!(others.clone().all(|node| ranked[..3].contains(node)));
            }
            let first = ranked[0];
            let set = holders(key(number), first, &nodes, 2);
            let has_other_zone = ranked[..2].iter().any(|node| node.0 % 2 != first.0 % 2);
            let zones: Vec<u16> = set.nodes().iter().map(|node| node.0 % 2).collect();
            assert_eq!(zones[0] != zones[1], has_other_zone);
        }
    }

    #[test]
    fn alone_it_holds_its_own_records() {
        let set = holders(key(1), NodeId(1), &nodes(1), 3);
        assert_eq!(set.nodes(), [NodeId(1)]);
        assert_eq!(holders(key(1), NodeId(9), &[], 3).nodes(), [NodeId(9)]);
    }
}
