//! I13: copies of a registration become one, the same whatever their order, and nothing newer is
//! lost or comes back. Cases are drawn from seeds; a failure names its seed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use contract::limits::{BINDINGS_PER_AOR_MAX, REMOVALS_BYTES_MAX, REMOVALS_PER_AOR_MAX};
use contract::{
    ActorId, Door, Entropy, FlowRef, NodeId, Now, Roster, StoredDeadline, Time, UtcMillis, codec,
};

use super::merge::merge;
use super::past::{Key, Went};
use super::settings::{Settings, StoredSettings};
use super::snapshot::{BindingV1, BindingV2, RemovalV2, Snapshot, SnapshotV1, SnapshotV2};
use super::stamp::Stamp;
use crate::AnyCore;

const NOW: UtcMillis = UtcMillis(1_700_000_000_000);
const SEEDS: u64 = 6_000;
const AOR: &str = "1000@example.org";

fn now() -> Now {
    Now {
        mono: Time::from_micros(5_000_000),
        utc: NOW,
    }
}

fn id() -> ActorId {
    ActorId::Registration(AOR.into())
}

fn chance(seed: u64) -> Entropy {
    let mut octets = [0x5a; 32];
    octets[..8].copy_from_slice(&seed.to_le_bytes());
    Entropy::from_seed(octets)
}

fn stamp(ms: u64, node: u16) -> Stamp {
    Stamp {
        ms,
        counter: 0,
        node: NodeId(node),
    }
}

fn ends_in(seconds: i64) -> StoredDeadline {
    StoredDeadline {
        at: UtcMillis(NOW.0.saturating_add_signed(seconds * 1_000)),
        length_ms: 3_600_000,
    }
}

fn flow(number: u64, door: Door) -> FlowRef {
    FlowRef::Stream {
        node: NodeId(1),
        number,
        listener: contract::ListenerId(2),
        remote: "192.0.2.7:40000".parse().expect("an address"),
        door,
    }
}

fn binding(contact: &str, call_id: &str, cseq: u32, stamp: Stamp) -> BindingV2 {
    BindingV2 {
        contact: contact.parse().expect("a contact"),
        call_id: call_id.to_owned(),
        era: 0,
        cseq,
        stamp,
        touched: 0,
        q: None,
        instance: None,
        reg_id: None,
        path: Vec::new(),
        flow: flow(1, Door::Sip),
        user_agent: String::new(),
        unreachable: false,
        is_extended: false,
        expires: ends_in(1_000),
        until: ends_in(1_000),
    }
}

fn removal(key: Key, call_id: &str, cseq: u32, stamp: Stamp, went: Went) -> RemovalV2 {
    RemovalV2 {
        key,
        call_id: call_id.to_owned(),
        era: 0,
        cseq,
        stamp,
        went,
        until: ends_in(2_000),
    }
}

fn copy(bindings: Vec<BindingV2>, removals: Vec<RemovalV2>) -> Snapshot {
    let mut snapshot = Snapshot {
        engaged: Vec::new(),
        aor: AOR.parse().expect("an AoR"),
        bindings,
        lost: Vec::new(),
        removals,
        clock: Stamp::default(),
        settings: None,
    };
    snapshot.clock = snapshot.newest();
    snapshot
}

/// The octets of a copy as the roster writes them: the sixth form of any part, or the thirteenth.
fn octets(copy: &Snapshot) -> Bytes {
    let octets = match copy.clone().oldest() {
        Ok(second) => codec::encode(&(5_u32, second)),
        Err(third) => codec::encode(&(12_u32, third)),
    };
    octets.expect("encodes").into()
}

fn merged(copies: &[&Snapshot]) -> Snapshot {
    let copies = copies.iter().map(|copy| (*copy).clone()).collect();
    merge(copies, NOW).expect("a copy")
}

fn any_binding(chance: &mut Entropy) -> BindingV2 {
    let which = chance.below(5);
    let call_id = format!("c{}", chance.below(3));
    let mut one = binding(&format!("sip:k{which}@192.0.2.9"), &call_id, 0, stamp(0, 0));
    if which == 3 {
        (one.instance, one.reg_id) = (Some("urn:i".to_owned()), Some(1));
        one.contact = format!("sip:x{}@192.0.2.9", chance.below(2))
            .parse()
            .expect("a contact");
    }
    if which == 4 {
        one.instance = Some("tab".to_owned());
        one.flow = flow(u64::from(chance.below(2)), Door::Json);
    }
    one.cseq = chance.below(4);
    one.era = u32::from(chance.below(8) == 0);
    one.stamp = any_stamp(chance);
    one.touched = chance.below(3);
    one.unreachable = chance.below(2) == 0;
    one.expires = ends_in([-500, 0, 500, 1_000][chance.below(4) as usize]);
    one.until = ends_in([-500, 500, 1_000, 1_500][chance.below(4) as usize]);
    one
}

fn any_stamp(chance: &mut Entropy) -> Stamp {
    Stamp {
        ms: u64::from(chance.below(6)),
        counter: chance.below(2),
        node: NodeId(1 + u16::try_from(chance.below(3)).expect("small")),
    }
}

fn any_copy(chance: &mut Entropy) -> Snapshot {
    let list = |chance: &mut Entropy, most: u32| -> Vec<BindingV2> {
        (0..chance.below(most))
            .map(|_| any_binding(chance))
            .collect()
    };
    let bindings = list(chance, 6);
    let lost = list(chance, 3);
    let mut removals = Vec::new();
    for _ in 0..chance.below(5) {
        let is_all = chance.below(4) == 0;
        let of = any_binding(chance);
        let is_void = !is_all && chance.below(2) == 0;
        removals.push(RemovalV2 {
            key: if is_all { Key::All } else { of.place().0 },
            call_id: of.call_id,
            era: of.era,
            cseq: of.cseq,
            stamp: of.stamp,
            went: if is_void { Went::Void } else { Went::Asked },
            until: of.until,
        });
    }
    let mut snapshot = copy(bindings, removals);
    snapshot.lost = lost;
    snapshot.clock = snapshot.newest();
    snapshot
}

#[test]
fn i13_merging_is_commutative_associative_and_idempotent() {
    for seed in 0..SEEDS {
        let mut chance = chance(seed);
        let [a, b, c] = [(); 3].map(|()| any_copy(&mut chance));
        let whole = merged(&[&a, &b, &c]);
        for other in [
            [&a, &c, &b],
            [&b, &a, &c],
            [&b, &c, &a],
            [&c, &a, &b],
            [&c, &b, &a],
        ] {
            assert_eq!(merged(&other), whole, "commutative, seed {seed}");
        }
        let (ab, bc) = (merged(&[&a, &b]), merged(&[&b, &c]));
        assert_eq!(merged(&[&ab, &c]), whole, "associative, seed {seed}");
        assert_eq!(merged(&[&a, &bc]), whole, "associative, seed {seed}");
        assert_eq!(merged(&[&ab, &bc]), whole, "idempotent, seed {seed}");
        assert_eq!(merged(&[&whole]), whole, "idempotent, seed {seed}");
        assert_eq!(
            merged(&[&whole, &whole, &a]),
            whole,
            "idempotent, seed {seed}"
        );
        let bytes: Vec<Bytes> = [&a, &b, &c].map(octets).to_vec();
        let roster = AnyCore::merge(&id(), &bytes, now());
        assert_eq!(roster, octets(&whole), "the roster, seed {seed}");
        AnyCore::restore(&id(), &roster, now()).expect("a merged copy is restored");
    }
    println!("{SEEDS} cases of three copies");
}

/// The rule, written down once more and slowly: who is bound, of all that is known.
fn expected(copies: &[&Snapshot]) -> Vec<(Key, String, u32, Stamp)> {
    struct Seen {
        place: (Key, String),
        number: (u32, u32),
        stamp: Stamp,
        rank: (u8, u32, Vec<u8>),
        is_alive: bool,
        is_void: bool,
    }
    let mut seen: Vec<Seen> = Vec::new();
    let mut sweeps: Vec<&RemovalV2> = Vec::new();
    for copy in copies {
        for one in copy.bindings.iter().chain(&copy.lost) {
            if one.until.at.max(one.expires.at) > NOW {
                let mut plain = one.clone();
                plain.until = ends_in(0);
                seen.push(Seen {
                    place: one.place(),
                    number: (one.era, one.cseq),
                    stamp: one.stamp,
                    rank: (0, one.touched, codec::encode(&plain).expect("encodes")),
                    is_alive: one.expires.at > NOW,
                    is_void: false,
                });
            }
        }
        for one in copy.removals.iter().filter(|one| one.until.at > NOW) {
            if one.key == Key::All {
                sweeps.push(one);
                continue;
            }
            let is_void = one.went == Went::Void;
            seen.push(Seen {
                place: (one.key.clone(), one.call_id.clone()),
                number: (one.era, one.cseq),
                stamp: one.stamp,
                rank: (1 + u8::from(is_void), 0, Vec::new()),
                is_alive: !is_void,
                is_void,
            });
        }
    }
    let is_newest = |one: &Seen| {
        let beats = |other: &Seen| {
            other.place == one.place
                && (other.number, other.stamp, &other.rank) > (one.number, one.stamp, &one.rank)
        };
        !seen.iter().any(beats)
    };
    let is_swept = |one: &Seen| {
        let own = sweeps.iter().filter(|sweep| sweep.call_id == one.place.1);
        let number = own.clone().map(|sweep| (sweep.era, sweep.cseq)).max();
        let newest = own.map(|sweep| sweep.stamp).max();
        let by_own = number
            .zip(newest)
            .is_some_and(|sweep| sweep > (one.number, one.stamp));
        let by_other =
            |sweep: &&&RemovalV2| sweep.call_id != one.place.1 && sweep.stamp > one.stamp;
        by_own || sweeps.iter().any(|sweep| by_other(&sweep))
    };
    let contests = |one: &&Seen| is_newest(one) && !is_swept(one) && one.is_alive && !one.is_void;
    let mut bound = BTreeMap::new();
    for one in seen.iter().filter(contests) {
        let rank = (one.stamp, one.place.1.clone());
        let is_beaten = seen.iter().filter(contests).any(|other| {
            other.place.0 == one.place.0 && (other.stamp, other.place.1.clone()) > rank
        });
        if one.rank.0 == 0 && !is_beaten {
            bound.insert(one.place.clone(), (one.number.1, one.stamp));
        }
    }
    let bound = bound.into_iter();
    bound
        .map(|((key, call_id), (cseq, stamp))| (key, call_id, cseq, stamp))
        .collect()
}

#[test]
fn i13_a_merge_binds_what_the_rule_says_of_all_that_is_known() {
    let (mut bound, mut several) = (0, 0);
    for seed in 0..SEEDS {
        let mut chance = chance(seed ^ 0xabcd);
        let [a, b, c] = [(); 3].map(|()| any_copy(&mut chance));
        let whole = merged(&[&merged(&[&c, &a]), &b]);
        let found: Vec<_> = whole
            .bindings
            .iter()
            .map(|one| {
                let (key, call_id) = one.place();
                (key, call_id, one.cseq, one.stamp)
            })
            .collect();
        assert_eq!(found, expected(&[&a, &b, &c]), "seed {seed}");
        bound += found.len();
        several += usize::from(!whole.lost.is_empty());
    }
    assert!(bound > 5_000 && several > 500, "{bound} bound, {several}");
    println!("{SEEDS} cases, {bound} bindings, {several} with ones that lost");
}

const K: &str = "sip:a@192.0.2.9";

fn bound(copy: &Snapshot) -> Vec<(&str, u32, Stamp)> {
    let bindings = copy.bindings.iter();
    bindings
        .map(|one| (one.call_id.as_str(), one.cseq, one.stamp))
        .collect()
}

fn key() -> Key {
    Key::Contact(K.to_owned())
}

#[test]
fn i13_a_removal_beats_a_refresh_of_an_older_cseq_whatever_its_clock_says() {
    let removed = copy(
        vec![],
        vec![removal(key(), "one", 7, stamp(10, 1), Went::Asked)],
    );
    let refreshed = copy(vec![binding(K, "one", 6, stamp(9_000, 2))], vec![]);
    assert!(merged(&[&removed, &refreshed]).bindings.is_empty());
    // A newer REGISTER is newer than the removal, also if its node's clock is behind.
    let newer = copy(vec![binding(K, "one", 8, stamp(2, 2))], vec![]);
    assert_eq!(
        bound(&merged(&[&removed, &newer, &refreshed])),
        bound(&newer)
    );
    // Another Call-ID, by time.
    let rebooted = copy(vec![binding(K, "two", 1, stamp(11, 2))], vec![]);
    assert_eq!(bound(&merged(&[&removed, &rebooted])), bound(&rebooted));
    let before = copy(vec![binding(K, "two", 1, stamp(9, 2))], vec![]);
    assert!(merged(&[&removed, &before]).bindings.is_empty());
}

#[test]
fn i13_what_another_call_id_has_taken_over_does_not_come_back() {
    let void = removal(key(), "one", 7, stamp(10, 1), Went::Void);
    let taken = copy(vec![binding(K, "two", 1, stamp(20, 1))], vec![void]);
    let stale = copy(vec![binding(K, "one", 6, stamp(9_000, 2))], vec![]);
    assert_eq!(bound(&merged(&[&taken, &stale])), bound(&taken));
    let later = copy(vec![binding(K, "one", 8, stamp(9_000, 2))], vec![]);
    assert_eq!(bound(&merged(&[&taken, &later])), bound(&later));
}

#[test]
fn i13_clocks_that_disagree_about_one_phone_make_no_order_that_depends_on_the_way() {
    // By pairs: a beats c, c beats b, b beats a.
    let a = copy(vec![binding(K, "one", 1, stamp(10, 1))], vec![]);
    let b = copy(vec![binding(K, "one", 2, stamp(5, 2))], vec![]);
    let c = copy(vec![binding(K, "two", 1, stamp(7, 3))], vec![]);
    let whole = merged(&[&a, &b, &c]);
    assert_eq!(bound(&whole), bound(&c));
    assert_eq!(whole.lost, b.bindings);
    assert_eq!(merged(&[&merged(&[&a, &c]), &b]), whole);
    assert_eq!(merged(&[&merged(&[&b, &c]), &a]), whole);
}

#[test]
fn i13_a_star_removes_what_its_node_did_not_know_unless_it_is_newer() {
    let star = copy(
        vec![],
        vec![removal(Key::All, "one", 5, stamp(10, 1), Went::Asked)],
    );
    for (call_id, cseq, ms, is_kept) in [
        ("one", 4, 9_000, false),
        ("one", 6, 1, true),
        ("two", 9, 9, false),
        ("two", 1, 11, true),
    ] {
        let other = copy(vec![binding(K, call_id, cseq, stamp(ms, 2))], vec![]);
        let whole = merged(&[&star, &other]);
        assert_eq!(
            whole.bindings.len(),
            usize::from(is_kept),
            "{call_id} {cseq}"
        );
        assert!(whole.removals.iter().any(|one| one.key == Key::All));
    }
}

#[test]
fn i13_of_more_than_a_record_holds_the_newest_stay_and_removals_give_way() {
    let many = |from: u64| -> Snapshot {
        let bindings = (from..from + 20)
            .map(|at| binding(&format!("sip:n{at}@192.0.2.9"), "one", 1, stamp(at, 1)));
        let removals = (from..from + 20).map(|at| {
            let key = Key::Contact(format!("sip:r{at}@{}", "x".repeat(500)));
            let mut one = removal(key, "one", 1, stamp(at, 1), Went::Asked);
            one.until = ends_in(i64::try_from(at).expect("small"));
            one
        });
        copy(bindings.collect(), removals.collect())
    };
    let (one, two) = (many(1), many(21));
    let whole = merged(&[&one, &two]);
    assert_eq!(whole, merged(&[&two, &one]));
    assert_eq!(whole.bindings.len(), BINDINGS_PER_AOR_MAX);
    let oldest = whole.bindings.iter().map(|one| one.stamp.ms).min();
    assert_eq!(oldest, Some(9), "the earliest eight are dropped");
    assert!(whole.removals.len() <= REMOVALS_PER_AOR_MAX);
    let sizes = whole
        .removals
        .iter()
        .map(|one| codec::encode(one).expect("encodes").len());
    assert!(sizes.sum::<usize>() <= REMOVALS_BYTES_MAX);
    let first = whole.removals.iter().map(|one| one.until.at).min();
    assert!(
        first > Some(ends_in(20).at),
        "those forgotten last are kept"
    );
    assert!(octets(&whole).len() <= contract::limits::RECORD_BYTES_MAX);
}

#[test]
fn copies_that_cannot_be_read_are_passed_over() {
    let good = octets(&copy(vec![binding(K, "one", 1, stamp(1, 1))], vec![]));
    let mut others = copy(vec![binding(K, "one", 9, stamp(9, 1))], vec![]);
    others.aor = "1001@example.org".parse().expect("an AoR");
    let (broken, others) = (Bytes::from_static(b"\x05\0\0\0rot"), octets(&others));
    let empty = Bytes::new();
    let copies = [broken.clone(), others, empty.clone(), good.clone()];
    assert_eq!(AnyCore::merge(&id(), &copies, now()), good);
    let copies = [broken.clone(), empty];
    assert_eq!(AnyCore::merge(&id(), &copies, now()), broken);
    assert!(AnyCore::merge(&id(), &[], now()).is_empty());
    // Of other kinds the newest copy is the truth.
    let call = ActorId::Call(contract::CallKey::from_bits(7));
    assert_eq!(AnyCore::merge(&call, &copies, now()), broken);
}

fn old() -> SnapshotV1 {
    let one = |contact: &str, order| BindingV1 {
        contact: contact.parse().expect("a contact"),
        call_id: "one".to_owned(),
        cseq: 7,
        q: Some(500),
        instance: Some("<urn:uuid:7>".to_owned()),
        reg_id: Some(1),
        path: vec!["sip:edge.example.org;lr".parse().expect("a URI")],
        flow: flow(3, Door::Sip),
        user_agent: "phone".to_owned(),
        unreachable: true,
        order,
        expires: ends_in(600),
    };
    let mut second = one("sip:b@192.0.2.9", 4);
    (second.instance, second.reg_id, second.path) = (None, None, Vec::new());
    second.flow = FlowRef::Datagram {
        listener: contract::ListenerId(0),
        remote: "192.0.2.9:5062".parse().expect("an address"),
    };
    SnapshotV1 {
        aor: AOR.parse().expect("an AoR"),
        bindings: vec![one("sip:a@192.0.2.9", 3), second],
        order: 4,
    }
}

fn newest() -> Snapshot {
    let mut snapshot = Snapshot::from(old());
    let mut lost = binding("sip:a@192.0.2.9", "two", 1, stamp(5, 2));
    (lost.instance, lost.reg_id) = (Some("<urn:uuid:7>".to_owned()), Some(1));
    snapshot.lost.push(lost);
    let keys = [
        Key::All,
        Key::Flow {
            instance: "<urn:uuid:7>".to_owned(),
            reg_id: 2,
        },
        Key::Client {
            instance: "tab".to_owned(),
        },
        Key::Contact("sip:c@192.0.2.9".to_owned()),
    ];
    let went = [Went::Asked, Went::Void, Went::Asked, Went::Void];
    for (key, went) in keys.into_iter().zip(went) {
        let removal = removal(key, "one", 6, stamp(NOW.0, 3), went);
        snapshot.removals.push(removal);
    }
    snapshot.clock = snapshot.newest();
    snapshot
}

#[test]
fn stored_forms_are_their_golden_octets_and_both_are_read() {
    let goldens: [(&str, Bytes); 2] = [
        (
            "stored_registration_v1",
            codec::encode(&(0_u32, old())).expect("encodes").into(),
        ),
        ("stored_registration_v2", octets(&newest())),
    ];
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, octets) in goldens {
        let mut text = String::new();
        for line in octets.chunks(32) {
            line.iter()
                .for_each(|octet| write!(text, "{octet:02x}").expect("writes"));
            text.push('\n');
        }
        let path = folder.join(name).with_extension("hex");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).expect("writes");
        }
        let golden = std::fs::read_to_string(&path).expect("a golden");
        assert_eq!(golden, text, "{name}");
        let core = AnyCore::restore(&id(), &octets, now()).expect("restores");
        assert_eq!(core.state(), "2 bindings", "{name}");
        let again = core.snapshot(now(), contract::SchemaVersion::NEWEST);
        let form = u32::from_le_bytes(again[..4].try_into().expect("four octets"));
        assert_eq!(form, 5, "written in version 2");
        let (_, read): (u32, SnapshotV2) = codec::decode(&again).expect("decodes");
        let read = Snapshot::from(read);
        let wanted = if name.ends_with("v1") {
            old().into()
        } else {
            newest()
        };
        assert_eq!(read, wanted, "{name}");
    }
}

#[test]
fn a_copy_in_version_1_is_merged_with_one_in_version_2() {
    let one = Bytes::from(codec::encode(&(0_u32, old())).expect("encodes"));
    let mut newer = binding("sip:b@192.0.2.9", "boot", 1, stamp(NOW.0, 2));
    newer.expires = ends_in(60);
    let two = octets(&copy(vec![newer.clone()], vec![]));
    for copies in [[one.clone(), two.clone()], [two, one]] {
        let (_, whole): (u32, SnapshotV2) =
            codec::decode(&AnyCore::merge(&id(), &copies, now())).expect("decodes");
        let whole = Snapshot::from(whole);
        assert_eq!(whole.bindings.len(), 2);
        assert!(whole.bindings.contains(&newer), "{whole:?}");
        assert_eq!(whole.lost.len(), 1);
    }
}

#[test]
fn what_was_set_later_counts_as_a_whole_and_earlier_bindings_stay() {
    let set = |dnd, at, until| StoredSettings {
        settings: Settings {
            do_not_disturb: dnd,
            ..Settings::default()
        },
        stamp: stamp(at, 1),
        until,
    };
    let with = |settings: StoredSettings| {
        let bound = binding("sip:a@192.0.2.9", "one", 1, stamp(1, 1));
        let mut copy = copy(vec![bound], vec![]);
        copy.settings = Some(settings);
        copy.clock = copy.newest();
        copy
    };
    let early = with(set(true, 5, None));
    let late = with(set(false, 9, Some(ends_in(60))));
    let plain = copy(vec![], vec![]);
    for copies in [
        vec![early.clone(), late.clone(), plain.clone()],
        vec![plain.clone(), late.clone(), early.clone()],
    ] {
        let merged = merge(copies, NOW).expect("a registration");
        assert_eq!(merged.settings, late.settings);
        assert_eq!((merged.bindings.len(), merged.clock), (1, stamp(9, 1)));
    }
    // That nothing is set is forgotten when no copy can have anything any more.
    let over = with(set(false, 9, Some(ends_in(-1))));
    let merged = merge(vec![plain, over], NOW).expect("a registration");
    assert_eq!(merged.settings, None);
}

#[test]
fn a_stamp_is_later_than_the_clock_and_than_all_that_was_seen() {
    let seen = stamp(1_000, 9);
    let next = seen.next(UtcMillis(2_000), NodeId(1));
    assert_eq!((next.ms, next.counter, next.node), (2_000, 0, NodeId(1)));
    // The clock of another node is ahead, or ours went back.
    let next = seen.next(UtcMillis(400), NodeId(1));
    assert_eq!((next.ms, next.counter, next.node), (1_000, 1, NodeId(1)));
    assert!(next > seen && next.next(UtcMillis(0), NodeId(0)) > next);
    let full = Stamp {
        counter: u32::MAX,
        ..seen
    };
    assert!(full.next(UtcMillis(0), NodeId(0)) > full);
    assert!(Duration::from_millis(full.next(UtcMillis(0), NodeId(0)).ms) > Duration::from_secs(1));
}
