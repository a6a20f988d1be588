//! The comparing of one node, event by event, and what a desk reads for it.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::limits::{
    REPAIR_BYTES_PER_S, REPAIR_CHECKS_MAX, REPAIR_EVERY_MS, REPAIR_FETCH_MAX,
    REPAIR_IMAGES_BYTES_MAX, REPAIR_LOOK_MS, REPAIR_LOOKS, REPAIR_PAGE_MAX, REPAIR_TABLES_MAX,
    REPAIR_WAIT_MS, SHARDS,
};
use contract::{
    ActorId, Boot, CallKey, FabricKeys, IdHasher, Kind, NodeId, NodeInst, Now, Time, UtcMillis,
};

use crate::test_store::TestStore;
use crate::{
    Conf, Desk, DeskAction, Entry, Epoch, Exchange, Frame, HolderRequest, HolderSet, Image, Look,
    Mark, Owned, Page, Range, Repair, RepairAction, ShardDigests, ShardSet, Version, Wanted,
    Whereabouts, hold, shard,
};

const ME: NodeInst = NodeInst {
    node: NodeId(1),
    boot: Boot(1),
};
const PEER: NodeId = NodeId(2);
const OTHER: NodeId = NodeId(3);
/// Until when a copy that names others is kept.
const KEPT: UtcMillis = UtcMillis(5_000);

fn ids() -> IdHasher {
    FabricKeys::new([1; 32]).ids()
}

fn at(millis: u64) -> Now {
    Now {
        mono: Time::from_micros(millis * 1_000),
        utc: UtcMillis(millis),
    }
}

/// A call of shard 7, in the order of its number.
fn call(number: u64) -> ActorId {
    ActorId::Call(CallKey::from_bits(7 << 120 | u128::from(number) << 8))
}

/// A record of PEER's, held by it and this node.
fn record(id: &ActorId, octets: usize) -> Owned {
    let owner = NodeInst {
        node: PEER,
        boot: Boot(1),
    };
    let holders = HolderSet::new(vec![ME.node, PEER]).unwrap();
    let mut owned = Owned::begin(id, Epoch::ZERO, owner, &ids()).held_by(holders);
    owned.put(id, vec![1; octets], None).unwrap();
    owned
}

/// A node with all shards loaded, a view of PEER and OTHER, connected with both.
fn repair() -> Repair {
    let mut repair = Repair::new(ME.node);
    load(&mut repair);
    repair.view_changed(at(0), &[PEER, OTHER]);
    repair.connected(at(0), PEER);
    repair.connected(at(0), OTHER);
    repair
}

fn load(repair: &mut Repair) {
    let mut actions = repair.tick(at(0));
    for shard in 0..=u8::MAX {
        assert_eq!(actions, [RepairAction::LoadShard(shard)]);
        assert!(!repair.is_loaded());
        actions = repair.loaded(at(0), shard, &ShardDigests::default());
    }
    assert_eq!(actions, []);
    assert!(repair.is_loaded());
}

/// A tick of a node whose others read no glances: they are sent digests at once.
fn tick(repair: &mut Repair, now: Now) -> Vec<RepairAction> {
    let mut said = Vec::new();
    for action in repair.tick(now) {
        if let RepairAction::Send { to, frame } = &action
            && let Frame::Repair { exchange, .. } = frame
            && matches!(exchange, Exchange::Glance(_))
        {
            said.extend(repair.unread_glance(now, *to));
        } else {
            said.push(action);
        }
    }
    said
}

/// Sorts what is sent by whom it goes to.
fn sent(actions: &[RepairAction]) -> BTreeMap<NodeId, Vec<(u64, Exchange)>> {
    let mut sent: BTreeMap<NodeId, Vec<(u64, Exchange)>> = BTreeMap::new();
    for action in actions {
        if let RepairAction::Send { to, frame } = action {
            let Frame::Repair { number, exchange } = frame.clone() else {
                panic!("{frame:?}");
            };
            sent.entry(*to).or_default().push((number, exchange));
        }
    }
    sent
}

fn number(actions: &[RepairAction], to: NodeId) -> u64 {
    sent(actions)[&to][0].0
}

fn settled(actions: &[RepairAction]) -> usize {
    let is_settled = |action: &&RepairAction| matches!(action, RepairAction::Settled(_));
    actions.iter().filter(is_settled).count()
}

fn only(shard: u8) -> ShardSet {
    let mut shards = ShardSet::NONE;
    shards.insert(shard);
    shards
}

fn differing(repair: &mut Repair, now: Now, number: u64, shards: ShardSet) -> Vec<RepairAction> {
    repair.frame(now, PEER, number, Exchange::Differing(shards))
}

/// Goes on with PEER until it is asked for a listing of the shards; out: when, and the actions.
fn to_listing(repair: &mut Repair, shards: ShardSet) -> (Now, Vec<RepairAction>) {
    let mut now = at(0);
    let mut actions = tick(repair, now);
    for look in 1..=REPAIR_LOOKS {
        let number = number(&actions, PEER);
        actions = differing(repair, now, number, shards);
        if look < REPAIR_LOOKS {
            assert!(sent(&actions).is_empty(), "look {look}");
            now = at(now.utc.0 + REPAIR_LOOK_MS);
            actions = tick(repair, now);
        }
    }
    (now, actions)
}

fn listed(repair: &mut Repair, now: Now, number: u64, until: Option<u128>) -> (u64, Range) {
    let entries = Vec::new();
    let page = Exchange::Listed(Page { entries, until });
    let actions = repair.frame(now, PEER, number, page);
    let [RepairAction::Compare { number, range, .. }] = &actions[..] else {
        panic!("{actions:?}");
    };
    (*number, *range)
}

fn wants(images: &[Image]) -> Vec<Wanted> {
    let wanted = images.iter().map(|image| Wanted {
        id: image.header.id.clone(),
        than: Version::default(),
        is_check: false,
    });
    wanted.collect()
}

#[test]
fn a_shard_is_settled_when_all_members_are_equal_in_it() {
    let mut repair = repair();
    let actions = tick(&mut repair, at(0));
    let (one, other) = (number(&actions, PEER), number(&actions, OTHER));
    let none = Exchange::Differing(ShardSet::NONE);
    let actions = repair.frame(at(1), PEER, one, none.clone());
    assert_eq!(actions, [], "the other one has not answered");
    assert_eq!(repair.frame(at(1), PEER, other, none.clone()), []);
    let actions = repair.frame(at(2), OTHER, other, Exchange::Differing(only(9)));
    assert_eq!(settled(&actions), SHARDS - 1);
    assert!(!actions.contains(&RepairAction::Settled(9)));
    // The difference has passed at the next look.
    let actions = tick(&mut repair, at(2 + REPAIR_LOOK_MS));
    let number = number(&actions, OTHER);
    let actions = repair.frame(at(400), OTHER, number, none);
    assert_eq!(actions, [RepairAction::Settled(9)]);
    assert_eq!(repair.settled(), ShardSet::ALL);
    assert_eq!(repair.counts().rounds, 2);
}

/// Of a node whose release knows glances one number is asked first; the digests follow at once if it
/// is another.
#[test]
fn a_glance_that_finds_all_equal_is_all_that_is_said() {
    let (mut asker, mut other) = (Repair::new(ME.node), Repair::new(PEER));
    for (repair, node) in [(&mut asker, PEER), (&mut other, ME.node)] {
        load(repair);
        repair.view_changed(at(0), &[node]);
        repair.connected(at(0), node);
    }
    let record = record(&call(1), 1);
    let asks = |asker: &mut Repair, time: u64| {
        let actions = asker.tick(at(time));
        let (number, exchange) = sent(&actions)[&PEER][0].clone();
        let is_glance = matches!(exchange, Exchange::Glance(_));
        (number, exchange, is_glance)
    };
    let (number, question, is_glance) = asks(&mut asker, 0);
    assert!(is_glance, "{question:?}");
    let answer = sent(&other.frame(at(1), ME.node, number, question))[&ME.node][0].clone();
    assert_eq!(answer, (number, Exchange::Differing(ShardSet::NONE)));
    let actions = asker.frame(at(2), PEER, number, answer.1);
    assert_eq!(settled(&actions), SHARDS);
    assert_eq!(asker.counts().rounds, 1);
    // The other one holds something more.
    let key = ids().record_key(&call(1));
    other.changed(key, None, Some(record.header()));
    let (number, question, is_glance) = asks(&mut asker, 20_000);
    assert!(is_glance, "{question:?}");
    let answer = sent(&other.frame(at(20_001), ME.node, number, question))[&ME.node][0].clone();
    assert_eq!(answer, (number, Exchange::Differing(ShardSet::ALL)));
    let actions = asker.frame(at(20_002), PEER, number, answer.1);
    let (number, question) = sent(&actions)[&PEER][0].clone();
    assert!(matches!(question, Exchange::Digests(_)), "{question:?}");
    let answer = sent(&other.frame(at(20_003), ME.node, number, question))[&ME.node][0].clone();
    assert_eq!(answer, (number, Exchange::Differing(only(shard(key)))));
}

#[test]
fn what_is_settled_stays_so_while_the_view_and_the_connections_stay() {
    let mut repair = repair();
    let actions = tick(&mut repair, at(0));
    for node in [PEER, OTHER] {
        let number = number(&actions, node);
        repair.frame(at(1), node, number, Exchange::Differing(ShardSet::NONE));
    }
    assert_eq!(repair.settled(), ShardSet::ALL);
    let actions = tick(&mut repair, at(7_000));
    differing(&mut repair, at(7_000), number(&actions, PEER), only(4));
    assert_eq!(repair.settled(), ShardSet::ALL);
    // A node that is no member may come and go.
    assert_eq!(repair.connected(at(7_000), NodeId(9)), []);
    assert_eq!(repair.lost(at(7_000), NodeId(9)), []);
    assert_eq!(repair.lost(at(7_000), PEER), [RepairAction::Unsettled]);
    assert_eq!(repair.lost(at(7_000), PEER), [], "said once");
    assert_eq!(repair.settled(), ShardSet::NONE);
    // The other one's answers settle nothing as long as one is away.
    let asked = number(&actions, OTHER);
    let none = Exchange::Differing(ShardSet::NONE);
    assert_eq!(repair.frame(at(7_100), OTHER, asked, none.clone()), []);
    // Until the view says that it is gone.
    repair.view_changed(at(14_000), &[OTHER]);
    let actions = tick(&mut repair, at(14_000));
    let actions = repair.frame(at(14_000), OTHER, number(&actions, OTHER), none);
    assert_eq!(settled(&actions), SHARDS);
    assert_eq!(repair.view_changed(at(15_000), &[]), []);
    assert_eq!(repair.settled(), ShardSet::ALL, "alone");
}

#[test]
fn an_answer_from_before_a_view_change_counts_nothing() {
    let mut repair = repair();
    let actions = tick(&mut repair, at(0));
    let old = number(&actions, PEER);
    repair.view_changed(at(1), &[PEER]);
    assert_eq!(differing(&mut repair, at(2), old, ShardSet::NONE), []);
    let actions = tick(&mut repair, at(2));
    let actions = differing(&mut repair, at(3), number(&actions, PEER), ShardSet::NONE);
    assert_eq!(settled(&actions), SHARDS);
}

#[test]
fn comparisons_come_every_five_seconds_more_or_less() {
    let mut repair = repair();
    repair.view_changed(at(0), &[PEER]);
    let (mut now, mut gaps) = (at(0), Vec::new());
    for _ in 0..200 {
        let actions = tick(&mut repair, now);
        differing(&mut repair, now, number(&actions, PEER), ShardSet::NONE);
        let next = repair.next_deadline().unwrap();
        gaps.push(next.since(now.mono).as_millis() as u64);
        now.mono = next;
    }
    let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(*least >= REPAIR_EVERY_MS * 4 / 5 && *most <= REPAIR_EVERY_MS * 6 / 5);
    assert!(most - least > REPAIR_EVERY_MS / 4, "{least} to {most}");
}

#[test]
fn calls_are_listed_before_registrations_and_page_after_page() {
    let mut repair = repair();
    repair.view_changed(at(0), &[PEER]);
    let mut shards = only(3);
    shards.insert(7);
    let (now, mut actions) = to_listing(&mut repair, shards);
    let mut asked = Vec::new();
    loop {
        let Some((number, Exchange::List(range))) =
            sent(&actions).remove(&PEER).and_then(|mut sent| sent.pop())
        else {
            break;
        };
        asked.push((range.kind, range.shard, range.after));
        let is_first = range.kind == Kind::Call && range.shard == 3 && range.after.is_none();
        let (own, of) = listed(&mut repair, now, number, is_first.then_some(5));
        assert_eq!(of, range);
        assert_eq!(repair.settled().contains(3), asked.len() > 8, "{asked:?}");
        actions = repair.compared(now, own, Some(Vec::new()));
    }
    let wanted = [
        (Kind::Call, 3, None),
        (Kind::Call, 3, Some(5)),
        (Kind::Call, 7, None),
        (Kind::Registration, 3, None),
        (Kind::Registration, 7, None),
        (Kind::Gateway, 3, None),
        (Kind::Gateway, 7, None),
        (Kind::Parking, 3, None),
        (Kind::Parking, 7, None),
    ];
    assert_eq!(asked, wanted);
    assert_eq!(repair.settled(), ShardSet::ALL);
    assert_eq!((repair.counts().pages, repair.counts().rounds), (9, 1));
}

/// Plays PEER for one shard up to the first `Fetch`; out: when, and its number.
fn to_fetch(repair: &mut Repair, wanted: Vec<Wanted>) -> (Now, u64) {
    repair.view_changed(at(0), &[PEER]);
    let (now, actions) = to_listing(repair, only(7));
    let (own, _) = listed(repair, now, number(&actions, PEER), None);
    let actions = repair.compared(now, own, Some(wanted));
    let (number, exchange) = sent(&actions)[&PEER][0].clone();
    assert!(matches!(exchange, Exchange::Fetch(_)), "{exchange:?}");
    (now, number)
}

/// Answers all further listings with nothing; out: whether shard 7 was settled by that.
fn finish(repair: &mut Repair, now: Now, mut actions: Vec<RepairAction>) -> bool {
    while let Some(sent) = sent(&actions).get(&PEER) {
        let (own, _) = listed(repair, now, sent[0].0, None);
        actions = repair.compared(now, own, Some(Vec::new()));
    }
    repair.settled().contains(7)
}

#[test]
fn what_is_fetched_is_stored_before_its_shard_is_settled() {
    for is_durable in [true, false] {
        let mut repair = repair();
        let image = record(&call(1), 10).image();
        let (now, number) = to_fetch(&mut repair, wants(std::slice::from_ref(&image)));
        let images = vec![image.clone(), record(&call(2), 10).image()];
        let answer = Exchange::Images { images, passed: 1 };
        let actions = repair.frame(now, PEER, number, answer.clone());
        let [
            RepairAction::Store {
                number: own,
                image: stored,
            },
        ] = &actions[..]
        else {
            panic!("{actions:?}");
        };
        assert_eq!(**stored, image, "and not what nobody has asked for");
        assert_eq!(repair.frame(now, PEER, number, answer), [], "said twice");
        let actions = repair.stored(now, *own, is_durable);
        assert_eq!(repair.stored(now, *own, is_durable), [], "said twice");
        assert_eq!(finish(&mut repair, now, actions), is_durable);
        assert_eq!(repair.counts().mended, u64::from(is_durable));
    }
}

#[test]
fn what_was_listed_and_does_not_come_keeps_its_shard_unsettled() {
    for (is_check, than, is_settled) in [
        (false, Version::default(), false),
        (true, Version::default(), true),
        (false, record(&call(1), 1).header().version, false),
    ] {
        let mut repair = repair();
        let image = record(&call(1), 10).image();
        let wanted = Wanted {
            id: call(1),
            than,
            is_check,
        };
        let (now, number) = to_fetch(&mut repair, vec![wanted]);
        // Not newer than what is here counts as nothing.
        let images = match than == Version::default() {
            true => Vec::new(),
            false => vec![image],
        };
        let answer = Exchange::Images { images, passed: 1 };
        let actions = repair.frame(now, PEER, number, answer);
        assert_eq!(finish(&mut repair, now, actions), is_settled, "{is_check}");
    }
}

#[test]
fn an_own_store_that_cannot_be_read_settles_nothing() {
    let mut repair = repair();
    repair.view_changed(at(0), &[PEER]);
    let (now, actions) = to_listing(&mut repair, only(7));
    let (own, _) = listed(&mut repair, now, number(&actions, PEER), None);
    let actions = repair.compared(now, own, None);
    assert!(!finish(&mut repair, now, actions));
    assert_eq!(settled(&tick(&mut repair, now)), 0);
}

#[test]
fn answers_that_lead_nowhere_end_the_comparison() {
    let mut repair = repair();
    let image = record(&call(1), 10).image();
    let (now, number) = to_fetch(&mut repair, wants(&[image]));
    let images = Vec::new();
    let answer = Exchange::Images { images, passed: 0 };
    assert_eq!(repair.frame(now, PEER, number, answer), []);
    assert_eq!(repair.counts().given_up, 1);
    // A page that does not go on: the shard counts as failed, the next one is asked for.
    let mut repair = self::repair();
    repair.view_changed(at(0), &[PEER]);
    let (now, actions) = to_listing(&mut repair, only(7));
    let (own, _) = listed(&mut repair, now, self::number(&actions, PEER), Some(5));
    let actions = repair.compared(now, own, Some(Vec::new()));
    let (own, range) = listed(&mut repair, now, self::number(&actions, PEER), Some(5));
    assert_eq!(range.after, Some(5));
    let actions = repair.compared(now, own, Some(Vec::new()));
    assert!(!finish(&mut repair, now, actions));
}

#[test]
fn a_silent_node_is_given_up_until_the_next_time() {
    let mut repair = repair();
    repair.view_changed(at(0), &[PEER]);
    let asked = number(&tick(&mut repair, at(0)), PEER);
    let wait = Time::ZERO + Duration::from_millis(REPAIR_WAIT_MS);
    assert_eq!(repair.next_deadline(), Some(wait));
    assert_eq!(tick(&mut repair, at(REPAIR_WAIT_MS)), []);
    assert_eq!(repair.counts().given_up, 1);
    assert_eq!(differing(&mut repair, at(5_001), asked, ShardSet::NONE), []);
    let next = repair.next_deadline().unwrap();
    assert!(next >= wait + Duration::from_millis(REPAIR_EVERY_MS * 4 / 5));
    // It asks itself, now that it has loaded: so do we, at once.
    let look = Look {
        round: 0,
        in_step: ShardSet::NONE,
        digests: [0; SHARDS],
    };
    let actions = repair.frame(at(5_002), PEER, 77, Exchange::Digests(Box::new(look)));
    let answer = (77, Exchange::Differing(ShardSet::NONE));
    assert_eq!(sent(&actions)[&PEER], [answer]);
    assert_eq!(repair.next_deadline(), Some(at(5_002).mono));
}

#[test]
fn two_megabytes_a_second_are_taken_from_all_nodes_together() {
    let images: Vec<Image> = (0..600)
        .map(|number| record(&call(number), 60_000).image())
        .collect();
    let mut repair = repair();
    let (mut now, mut number) = to_fetch(&mut repair, wants(&images));
    let (begun, mut next) = (now, 0);
    while next < images.len() {
        let upto = images.len().min(next + 5);
        let answer = Exchange::Images {
            images: images[next..upto].to_vec(),
            passed: 5,
        };
        next = upto;
        let stores = repair.frame(now, PEER, number, answer);
        assert_eq!(stores.len(), 5);
        let mut actions = Vec::new();
        for store in stores {
            let RepairAction::Store { number, .. } = store else {
                panic!("{store:?}");
            };
            actions.extend(repair.stored(now, number, true));
        }
        while !sent(&actions).contains_key(&PEER) {
            let due = repair.next_deadline().unwrap();
            now.mono = now.mono.max(due);
            actions = tick(&mut repair, now);
        }
        let (asked, exchange) = sent(&actions)[&PEER][0].clone();
        if let Exchange::Fetch(wanted) = exchange {
            assert_eq!(wanted.len(), REPAIR_FETCH_MAX.min(images.len() - next));
        }
        number = asked;
    }
    let seconds = now.mono.since(begun.mono).as_secs_f64();
    let rate = repair.counts().bytes as f64 / seconds;
    let most = REPAIR_BYTES_PER_S as f64;
    assert!(
        rate > 0.9 * most && rate < 1.1 * most,
        "{rate} in {seconds} s"
    );
    assert_eq!(repair.counts().mended, 600);
}

#[test]
fn of_nodes_beyond_the_bound_everything_is_listed() {
    let mut repair = Repair::new(ME.node);
    load(&mut repair);
    let mut owned = record(&call(1), 1);
    for node in 0..u16::try_from(REPAIR_TABLES_MAX).unwrap() + 1 {
        let holders = HolderSet::new(vec![ME.node, NodeId(1_000 + node)]).unwrap();
        owned = record(&call(u64::from(node)), 1);
        let image = owned.image();
        let mut header = image.header.clone();
        header.conf = crate::Conf::Settled(holders);
        repair.changed(ids().record_key(&header.id), None, Some(&header));
    }
    assert!(repair.digests_for(NodeId(1_000)).is_some());
    let last = NodeId(1_000 + u16::try_from(REPAIR_TABLES_MAX).unwrap());
    assert_eq!(repair.digests_for(last), None);
    let look = Look {
        round: 0,
        in_step: ShardSet::NONE,
        digests: [0; SHARDS],
    };
    let actions = repair.frame(at(0), last, 5, Exchange::Digests(Box::new(look)));
    assert_eq!(
        sent(&actions)[&last],
        [(5, Exchange::Differing(ShardSet::ALL))]
    );
    assert_eq!(owned.header().version.sequence, 1);
}

#[test]
fn a_tombstone_is_known_once_all_members_had_it_in_a_later_comparison() {
    let mut repair = repair();
    assert_eq!(repair.known_until(at(1), 7), None);
    let mut says = |node: NodeId, time: u64, round: u64, in_step: ShardSet| {
        let look = Box::new(Look {
            round,
            in_step,
            digests: [0; SHARDS],
        });
        repair.frame(at(time), node, time, Exchange::Digests(look));
        repair.known_until(at(time), 7)
    };
    assert_eq!(
        says(PEER, 10, 4, ShardSet::ALL),
        None,
        "of before it was seen"
    );
    assert_eq!(says(OTHER, 20, 8, ShardSet::NONE), None);
    assert_eq!(says(PEER, 30, 5, only(7)), None, "the other one is missing");
    assert_eq!(says(OTHER, 40, 9, only(7)), Some(UtcMillis(10)));
    assert_eq!(says(OTHER, 41, 9, ShardSet::NONE), Some(UtcMillis(10)));
    assert_eq!(says(PEER, 50, 6, only(7)), Some(UtcMillis(20)));
    assert_eq!(says(PEER, 60, 8, only(7)), None, "one was missed");
    repair.view_changed(at(70), &[]);
    assert_eq!(repair.known_until(at(71), 7), Some(UtcMillis(71)));
}

// ---- what the desk reads -------------------------------------------------------------------

/// A desk that holds what it is given, all durable.
fn desk_with(images: &[Image]) -> (Desk, TestStore) {
    let (mut desk, store) = (Desk::new(ME.node, ids()), TestStore::default());
    for image in images {
        let actions = desk.copy(&store, 1, image.clone(), KEPT);
        write(&mut desk, &store, &actions);
    }
    (desk, store)
}

fn write(desk: &mut Desk, store: &TestStore, actions: &[DeskAction]) -> Vec<DeskAction> {
    let mut more = Vec::new();
    for action in actions {
        if let DeskAction::Store { number, batch } = action {
            store.apply(batch.clone());
            more.extend(desk.stored(*number, true));
        }
    }
    more
}

const RANGE: Range = Range {
    kind: Kind::Call,
    shard: 7,
    after: None,
};

#[test]
fn a_shard_is_read_in_pages_that_leave_nothing_out() {
    let count = REPAIR_PAGE_MAX as u64 + 10;
    let images: Vec<Image> = (0..count)
        .map(|number| record(&call(number), 1).image())
        .collect();
    let (desk, store) = desk_with(&images);
    assert_eq!(shard(ids().record_key(&call(3))), 7);
    let now = UtcMillis(0);
    let first = desk.page(&store, now, PEER, &RANGE).unwrap();
    assert_eq!(first.entries.len(), REPAIR_PAGE_MAX);
    let after = first.until;
    assert!(after.is_some());
    let rest = desk.page(&store, now, PEER, &Range { after, ..RANGE });
    let rest = rest.unwrap();
    assert_eq!((rest.entries.len(), rest.until), (10, None));
    let listed = first.entries.iter().chain(&rest.entries);
    assert!(
        listed
            .map(|entry| &entry.id)
            .eq((0..count).map(call).collect::<Vec<_>>().iter())
    );
    // Another one is not named, and other kinds and shards are elsewhere.
    let elsewhere = [
        (OTHER, RANGE),
        (PEER, Range { shard: 8, ..RANGE }),
        (
            PEER,
            Range {
                kind: Kind::Gateway,
                ..RANGE
            },
        ),
    ];
    for (peer, range) in elsewhere {
        let page = desk.page(&store, now, peer, &range).unwrap();
        assert_eq!((page.entries.len(), page.until), (0, None));
    }
}

#[test]
fn what_is_lacking_older_or_not_listed_is_asked_for() {
    let mut older = record(&call(2), 1);
    let newer = {
        let mut newer = older.clone();
        newer.put(&call(2), vec![2], None).unwrap();
        newer
    };
    let mut dead = record(&call(4), 1);
    dead.end(UtcMillis(50));
    older.set_degraded(false);
    let unlisted = record(&call(5), 1);
    let here = [&older, &record(&call(3), 1), &unlisted, &dead].map(Owned::image);
    let (desk, store) = desk_with(&here);
    let entry = |owned: &Owned, mark: Mark| Entry {
        id: owned.header().id.clone(),
        version: owned.header().version,
        mark,
    };
    let page = Page {
        entries: vec![
            entry(&record(&call(1), 1), Mark::Live),
            entry(&newer, Mark::Expired),
            entry(&record(&call(3), 1), Mark::Live),
            entry(&record(&call(6), 1), Mark::Ended),
            entry(&record(&call(7), 1), Mark::Expired),
            // Not of this shard: not asked for.
            entry(&record(&ActorId::Gateway("t".into()), 1), Mark::Live),
        ],
        until: None,
    };
    let compare = |now: u64, page: &Page| {
        let wanted = desk.compare(&store, UtcMillis(now), PEER, &RANGE, page);
        let wanted = wanted.unwrap().into_iter();
        let wanted = wanted.map(|one| (one.id, one.than.sequence, one.is_check));
        wanted.collect::<Vec<_>>()
    };
    let fixed = [
        (call(2), 1, false),
        (call(1), 0, false),
        (call(6), 0, false),
    ];
    let check = (call(5), 1, true);
    let tombstone = (call(4), 2, true);
    let wanted: Vec<_> = fixed
        .iter()
        .cloned()
        .chain([tombstone, check.clone()])
        .collect();
    assert_eq!(compare(49, &page), wanted);
    let wanted: Vec<_> = fixed.into_iter().chain([check]).collect();
    assert_eq!(
        compare(50, &page),
        wanted,
        "an expired one is nobody's concern"
    );
    // Beyond the end of the page nothing is known.
    let until = Some(ids().record_key(&call(1)).hash);
    let part = Page { until, ..page };
    assert_eq!(compare(50, &part), [(call(1), 0, false)]);
}

#[test]
fn checks_of_one_page_are_bounded() {
    let count = REPAIR_CHECKS_MAX as u64 + 5;
    let images: Vec<Image> = (0..count)
        .map(|number| record(&call(number), 1).image())
        .collect();
    let (desk, store) = desk_with(&images);
    let page = Page {
        entries: Vec::new(),
        until: None,
    };
    let wanted = desk
        .compare(&store, UtcMillis(0), PEER, &RANGE, &page)
        .unwrap();
    assert_eq!(wanted.len(), REPAIR_CHECKS_MAX);
    assert!(wanted.iter().all(|one| one.is_check));
}

#[test]
fn images_are_whole_newer_and_bounded() {
    let images: Vec<Image> = (0..9)
        .map(|number| record(&call(number), 60_000).image())
        .collect();
    let (mut desk, store) = desk_with(&images);
    let Exchange::Images {
        images: sent,
        passed,
    } = desk.images(&store, PEER, &wants(&images))
    else {
        panic!("no images");
    };
    assert_eq!(sent, images[..5]);
    assert_eq!(passed, 5);
    let frame = Frame::Repair {
        number: 1,
        exchange: Exchange::Images {
            images: sent,
            passed,
        },
    };
    let octets = frame.write(contract::SchemaVersion::NEWEST).unwrap().len();
    assert!(octets > REPAIR_IMAGES_BYTES_MAX && octets < 2 * REPAIR_IMAGES_BYTES_MAX);
    let read = |desk: &Desk, id: &ActorId, than: Version, peer: NodeId| {
        let wanted = Wanted {
            id: id.clone(),
            than,
            is_check: false,
        };
        let read = desk.images(&store, peer, &[wanted]);
        let Exchange::Images { images, passed: 1 } = read else {
            panic!("{read:?}");
        };
        images.len()
    };
    let version = images[0].header.version;
    assert_eq!(read(&desk, &call(0), version, PEER), 0, "not newer");
    assert_eq!(
        read(&desk, &call(99), Version::default(), PEER),
        0,
        "not here"
    );
    // What is not durable is given to holders only.
    let mut next = record(&call(0), 60_000);
    next.put(&call(0), vec![1], None).unwrap();
    let commit = HolderRequest::Commit(next.image());
    assert_eq!(desk.request(&store, ME, 1, commit).len(), 1);
    assert_eq!(read(&desk, &call(0), version, PEER), 1);
    assert_eq!(read(&desk, &call(0), version, OTHER), 0);
}

#[test]
fn a_copy_is_taken_below_the_fence_which_stays() {
    let (mut desk, store) = desk_with(&[]);
    let epoch = Epoch { n: 9, by: OTHER };
    let id = call(1);
    let claim = HolderRequest::Claim { id, epoch };
    let actions = desk.request(&store, ME, 1, claim);
    write(&mut desk, &store, &actions);
    let image = record(&call(1), 10).image();
    let commit = HolderRequest::Commit(image.clone());
    let actions = desk.request(&store, ME, 2, commit);
    assert!(matches!(actions[..], [DeskAction::Answer { .. }]), "fenced");
    let actions = desk.copy(&store, 3, image.clone(), KEPT);
    assert!(matches!(actions[..], [DeskAction::Store { .. }]));
    let more = write(&mut desk, &store, &actions);
    let key = ids().record_key(&call(1));
    let changed = DeskAction::Changed {
        key,
        before: None,
        after: Some(Box::new(image.header.clone())),
    };
    let copied = |number, is_durable| DeskAction::Copied { number, is_durable };
    assert_eq!(more, [changed, copied(3, true)]);
    let held = hold(&store, &ids(), &call(1)).unwrap();
    assert_eq!((held.fence, held.image), (epoch, Some(image.clone())));
    assert_eq!(
        desk.copy(&store, 4, image.clone(), KEPT),
        [copied(4, true)],
        "it is here"
    );
    let mut bare = image;
    bare.header.version.sequence += 1;
    bare.parts.clear();
    assert_eq!(
        desk.copy(&store, 5, bare, KEPT),
        [copied(5, false)],
        "not whole"
    );
}

#[test]
fn a_copy_that_names_others_is_forgotten_in_time() {
    let (mut desk, store) = desk_with(&[]);
    let mut image = record(&call(1), 10).image();
    image.header.owner.node = PEER;
    let holders = HolderSet::new(vec![PEER, OTHER]).unwrap();
    image.header.conf = Conf::Settled(holders);
    let actions = desk.copy(&store, 3, image.clone(), KEPT);
    write(&mut desk, &store, &actions);
    let held = |store: &TestStore| hold(store, &ids(), &call(1)).unwrap().image;
    assert_eq!(held(&store).map(|held| held.header.expires), Some(KEPT));
    let early = UtcMillis(KEPT.0 - 1);
    assert_eq!(desk.forget(&store, early, &call(1)), []);
    let actions = desk.forget(&store, KEPT, &call(1));
    write(&mut desk, &store, &actions);
    assert_eq!(held(&store), None);
    // One that names this node stays.
    let image = record(&call(2), 10).image();
    let actions = desk.copy(&store, 4, image, KEPT);
    write(&mut desk, &store, &actions);
    assert_eq!(desk.forget(&store, UtcMillis(u64::MAX), &call(2)), []);
}

#[test]
fn a_copy_whose_write_fails_is_not_held() {
    let (mut desk, store) = desk_with(&[]);
    let image = record(&call(1), 10).image();
    let actions = desk.copy(&store, 3, image.clone(), KEPT);
    let [DeskAction::Store { number, .. }] = actions[..] else {
        panic!("{actions:?}");
    };
    // The next one rests on it.
    assert_eq!(desk.copy(&store, 4, image, KEPT), []);
    let copied = |number| DeskAction::Copied {
        number,
        is_durable: false,
    };
    assert_eq!(desk.stored(number, false), [copied(3), copied(4)]);
    assert_eq!(desk.digests(&store, 7).unwrap(), ShardDigests::default());
}

#[test]
fn digests_are_of_what_is_durable_and_told() {
    let image = record(&call(1), 10).image();
    let (mut desk, store) = desk_with(std::slice::from_ref(&image));
    let before = desk.digests(&store, 7).unwrap();
    let mut owned = record(&call(1), 10);
    owned.put(&call(1), vec![2], None).unwrap();
    let actions = desk.copy(&store, 1, owned.image(), KEPT);
    let [DeskAction::Store { number, batch }] = &actions[..] else {
        panic!("{actions:?}");
    };
    // The store shows it already.
    store.apply(batch.clone());
    assert_eq!(desk.digests(&store, 7).unwrap(), before);
    let page = desk.page(&store, UtcMillis(0), PEER, &RANGE).unwrap();
    assert_eq!(page.entries[0].version, image.header.version);
    desk.stored(*number, true);
    let mut after = ShardDigests::default();
    after.add(ME.node, ids().record_key(&call(1)), owned.header());
    assert_eq!(desk.digests(&store, 7).unwrap(), after);
    assert_ne!(before.of(PEER), after.of(PEER));
    assert_eq!(after.of(OTHER), 0);
}

#[test]
fn digests_are_frozen() {
    let mut digests = ShardDigests::default();
    let owned = record(&call(1), 10);
    digests.add(ME.node, ids().record_key(&call(1)), owned.header());
    assert_eq!(digests.of(PEER), GOLDEN_DIGEST);
    digests.add(ME.node, ids().record_key(&call(1)), owned.header());
    assert_eq!(digests.of(PEER), 0, "twice is never");
    digests.add(OTHER, ids().record_key(&call(1)), owned.header());
    assert_eq!(digests.of(PEER), 0, "who is no holder counts nothing");
}

const GOLDEN_DIGEST: u64 = 15_594_811_966_342_681_727;

#[test]
fn a_tombstone_is_forgotten_when_it_is_known_and_not_before() {
    let mut owned = record(&call(1), 1);
    owned.end(UtcMillis(50));
    let (mut desk, store) = desk_with(&[owned.image(), record(&call(2), 1).image()]);
    assert_eq!(desk.forget(&store, UtcMillis(49), &call(1)), []);
    assert_eq!(desk.forget(&store, UtcMillis(99), &call(2)), [], "it lives");
    assert_eq!(
        desk.forget(&store, UtcMillis(99), &call(3)),
        [],
        "it is not here"
    );
    let actions = desk.forget(&store, UtcMillis(50), &call(1));
    assert_eq!(actions.len(), 1);
    assert_eq!(
        desk.forget(&store, UtcMillis(50), &call(1)),
        [],
        "under way"
    );
    let changed = DeskAction::Changed {
        key: ids().record_key(&call(1)),
        before: Some(Box::new(owned.header().clone())),
        after: None,
    };
    assert_eq!(write(&mut desk, &store, &actions), [changed]);
    assert_eq!(hold(&store, &ids(), &call(1)).unwrap().fence, Epoch::ZERO);
    desk.view_changed(false);
    assert_eq!(desk.where_is(&store, &call(1)), Whereabouts::None);
}
