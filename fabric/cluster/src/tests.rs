//! Records of one node: begun, changed, adopted, ended, forgotten, and what rot does to them.

use std::ops::ControlFlow;

use contract::limits::{PARTS_PER_RECORD_MAX, RECORD_BYTES_MAX};
use contract::{
    ActorId, Boot, CallKey, FabricKeys, FaultClass, IdHasher, NodeId, NodeInst, UtcMillis,
};

use crate::test_store::TestStore;
use crate::*;

fn ids() -> IdHasher {
    FabricKeys::new([5; 32]).ids()
}

fn life(boot: u64) -> NodeInst {
    NodeInst {
        node: NodeId(1),
        boot: Boot(boot),
    }
}

fn call() -> CallKey {
    CallKey::from_bits(77 << 8)
}

fn dialog(side: u8) -> ActorId {
    ActorId::Dialog(call().side(side))
}

/// A call with its own part and two dialogs, stored.
fn stored_call(store: &TestStore) -> Owned {
    let id = ActorId::Call(call());
    let mut owned = Owned::begin(&id, Epoch::ZERO, life(1), &ids());
    for (part, text, due) in [(id, "own", 9), (dialog(1), "one", 5), (dialog(2), "two", 7)] {
        let commit = owned.put(&part, text.into(), Some(UtcMillis(due))).unwrap();
        store.apply(commit.batch);
    }
    owned
}

fn loaded(store: &TestStore, id: &ActorId) -> Loaded {
    load(store, &ids(), id)
        .unwrap()
        .expect("the record is there")
}

#[test]
fn a_record_is_loaded_as_it_was_put_by_any_of_its_actors() {
    let store = TestStore::default();
    let owned = stored_call(&store);
    for id in [ActorId::Call(call()), dialog(2), dialog(9)] {
        let loaded = loaded(&store, &id);
        assert_eq!(&loaded.header, owned.header());
        assert_eq!(loaded.parts, owned.image().parts);
        assert_eq!(&loaded.parts[&dialog(2)][..], b"two");
        assert_eq!(loaded.missing, []);
    }
    let header = owned.header();
    assert_eq!(header.deadline(), Some(UtcMillis(5)));
    assert_eq!((header.bytes(), header.version.sequence), (9, 3));
    assert_eq!(header.version.epoch, Epoch::ZERO.next(NodeId(1)));
    assert_eq!(
        load(&store, &ids(), &ActorId::Gateway("g".into())),
        Ok(None)
    );
}

#[test]
fn a_part_that_is_removed_leaves_store_and_header() {
    let store = TestStore::default();
    let mut owned = stored_call(&store);
    store.apply(owned.remove(&dialog(1)).unwrap().batch);
    assert_eq!(owned.remove(&dialog(1)), None);
    assert_eq!(store.values.lock().unwrap().len(), 2);
    let loaded = loaded(&store, &dialog(1));
    assert!(!loaded.parts.contains_key(&dialog(1)) && loaded.missing.is_empty());
    assert_eq!(owned.header().deadline(), Some(UtcMillis(7)));
    assert_eq!(owned.last(&dialog(1)), None);
}

#[test]
fn a_restart_claims_the_next_epoch_and_the_same_life_does_not() {
    let store = TestStore::default();
    stored_call(&store);
    let id = ActorId::Call(call());
    let (same, commit) = Owned::adopt(loaded(&store, &id), life(1), &ids());
    assert_eq!((same.epoch().n, commit), (1, None));
    let (next, commit) = Owned::adopt(loaded(&store, &id), life(2), &ids());
    let commit = commit.expect("another life claims");
    assert!(commit.batch.essential);
    assert_eq!(commit.version, next.header().version);
    assert_eq!((next.epoch().n, next.header().version.sequence), (2, 4));
    store.apply(commit.batch);
    let again = loaded(&store, &id);
    assert_eq!((again.header.owner, again.fence), (life(2), next.epoch()));
    assert_eq!(again.parts, next.image().parts);
}

#[test]
fn a_tombstone_takes_nothing_keeps_its_fence_and_is_forgotten() {
    let store = TestStore::default();
    let mut owned = stored_call(&store);
    let id = ActorId::Call(call());
    let commit = owned.end(UtcMillis(1_000));
    assert!(commit.batch.essential);
    store.apply(commit.batch);
    let refused = owned.put(&id, vec![1], None).unwrap_err();
    assert_eq!(refused, RecordError::Ended { id: id.clone() });
    assert_eq!(refused.class(), FaultClass::Stale);
    assert_eq!(store.values.lock().unwrap().len(), 1);
    let loaded = loaded(&store, &id);
    assert!(loaded.header.is_ended() && loaded.parts.is_empty());
    assert_eq!(loaded.header.expires, UtcMillis(1_000));
    let (kept, commit) = Owned::adopt(loaded, life(2), &ids());
    assert_eq!(commit, None, "nobody claims a tombstone");
    let anew = Owned::begin(&id, kept.epoch(), life(2), &ids());
    assert!(anew.epoch() > kept.epoch());
    store.apply(forget(kept.header(), &ids()));
    assert!(store.values.lock().unwrap().is_empty());
}

#[test]
fn a_record_beyond_its_bounds_is_refused_and_unchanged() {
    let id = ActorId::Call(call());
    let mut owned = Owned::begin(&id, Epoch::ZERO, life(1), &ids());
    owned
        .put(&id, vec![0; RECORD_BYTES_MAX - 10], None)
        .unwrap();
    let before = owned.header().clone();
    let refused = owned.put(&dialog(1), vec![0; 11], None).unwrap_err();
    assert_eq!(
        (owned.header(), refused.class()),
        (&before, FaultClass::Bug)
    );
    owned.put(&dialog(1), vec![0; 10], None).unwrap();
    owned
        .put(&id, vec![0; RECORD_BYTES_MAX - 10], None)
        .unwrap();
    owned.put(&id, vec![0; 1], None).unwrap();
    for side in 2..PARTS_PER_RECORD_MAX {
        let side = u8::try_from(side).unwrap();
        owned.put(&dialog(side), vec![1], None).unwrap();
    }
    let one_more = owned.put(&dialog(200), vec![1], None);
    assert!(matches!(one_more, Err(RecordError::TooManyParts { .. })));
    let foreign = ActorId::Dialog(CallKey::from_bits(1 << 9).side(1));
    let foreign = owned.put(&foreign, vec![1], None);
    assert!(matches!(foreign, Err(RecordError::Foreign { .. })));
}

#[test]
fn what_renews_is_essential_and_what_is_new_is_not() {
    let id = ActorId::Registration("bob@example.org".into());
    let mut owned = Owned::begin(&id, Epoch::ZERO, life(1), &ids());
    assert!(!owned.put(&id, vec![1], None).unwrap().batch.essential);
    assert!(owned.put(&id, vec![2], None).unwrap().batch.essential);
    assert_eq!(owned.last(&id).map(|part| &part[..]), Some(&[2][..]));
}

#[test]
fn a_holder_writes_what_follows_a_tombstone_as_long_as_it_writes_the_tombstone() {
    let id = ActorId::Registration("bob@example.org".into());
    let is_essential = |held: &Held, owned: &Owned| {
        let (reply, batch) = decide(held, HolderRequest::Commit(owned.image()), &ids());
        assert_eq!(reply, HolderReply::Stored(owned.header().version));
        batch.expect("it is written").essential
    };
    let held_of = |owned: &Owned| Held {
        fence: owned.epoch(),
        image: Some(owned.image()),
    };
    let mut here = Owned::begin(&id, Epoch::ZERO, life(1), &ids());
    here.put(&id, b"bound here".into(), None).unwrap();
    assert!(!is_essential(&Held::default(), &here), "it is new");
    // The other side of a cut has ended it, and knows nothing of what is bound here.
    let mut other = Owned::begin(&id, here.epoch(), life(2), &ids());
    other.end(UtcMillis(1_000));
    assert!(is_essential(&held_of(&here), &other));
    let mut merged = Owned::begin(&id, other.epoch(), life(1), &ids());
    merged.put(&id, b"bound here".into(), None).unwrap();
    assert!(is_essential(&held_of(&other), &merged));
}

#[test]
fn a_lost_or_old_part_is_missing_and_never_taken_for_the_new_one() {
    let store = TestStore::default();
    let mut owned = stored_call(&store);
    let key = |store: &TestStore| {
        let values = store.values.lock().unwrap();
        let parts = values.iter().filter(|(key, _)| key[0] == b'p');
        let mut parts: Vec<_> = parts
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        parts.remove(0)
    };
    let (place, old) = key(&store);
    store.apply(owned.put(&dialog(1), b"new".into(), None).unwrap().batch);
    store.values.lock().unwrap().insert(place.clone(), old);
    assert_eq!(loaded(&store, &dialog(1)).missing, [dialog(1)]);
    store.values.lock().unwrap().remove(&place);
    let rotten = loaded(&store, &dialog(1));
    assert_eq!(rotten.missing, [dialog(1)]);
    let (adopted, commit) = Owned::adopt(rotten, life(2), &ids());
    store.apply(commit.unwrap().batch);
    assert_eq!(adopted.last(&dialog(1)), None);
    assert_eq!(loaded(&store, &dialog(1)).missing, []);
}

#[test]
fn a_scan_visits_every_header_once_in_order_and_passes_over_damage() {
    let store = TestStore::default();
    stored_call(&store);
    for number in 0..50 {
        let id = ActorId::Registration(format!("user{number}@example.org").into());
        let mut owned = Owned::begin(&id, Epoch::ZERO, life(1), &ids());
        store.apply(owned.put(&id, vec![0; 9], None).unwrap().batch);
    }
    store
        .values
        .lock()
        .unwrap()
        .insert(b"hX".to_vec(), b"rubbish".to_vec());
    let mut seen = Vec::new();
    let scanned = scan(&store, &mut |header| {
        seen.push(ids().record_key(&header.id));
        ControlFlow::Continue(())
    });
    let (visited, unread) = (51, 1);
    let misplaced = 0;
    let expected = Scanned {
        visited,
        unread,
        misplaced,
    };
    assert_eq!(scanned, Ok(expected));
    assert!(seen.is_sorted() && seen.len() == 51);
    let mut count = 0;
    let stopped = scan(&store, &mut |_| {
        count += 1;
        if count == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert_eq!(stopped.unwrap().visited, 3);
}

#[test]
fn quorums_are_those_of_the_design() {
    for (size, commits, claims) in [(1, 1, 1), (2, 2, 1), (3, 2, 2)] {
        let set = HolderSet::new((0..size).map(NodeId).collect()).unwrap();
        assert_eq!((commit_quorum(&set), claim_quorum(&set)), (commits, claims));
    }
    assert_eq!(HolderSet::new(Vec::new()), None);
    assert_eq!(HolderSet::new((0..4).map(NodeId).collect()), None);
}

#[test]
fn a_commit_counts_in_both_sets_of_a_change_and_a_fence_ends_it() {
    let set = |nodes: [u16; 3]| HolderSet::new(nodes.map(NodeId).to_vec()).unwrap();
    let (old, new) = (set([1, 2, 3]), set([3, 4, 5]));
    let version = Version {
        epoch: Epoch::ZERO.next(NodeId(1)),
        sequence: 4,
    };
    let stored = HolderReply::Stored(version);
    let mut acks = Acks::new(version, Conf::Joint { old, new });
    for node in [1, 3, 3, 9] {
        assert_eq!(acks.answer(NodeId(node), &stored), Standing::Waiting);
    }
    assert_eq!(acks.answer(NodeId(5), &stored), Standing::Safe);
    let fence = version.epoch.next(NodeId(2));
    let fenced = acks.answer(NodeId(2), &HolderReply::Fenced(fence));
    assert_eq!(fenced, Standing::Fenced(fence));
    assert_eq!(acks.answer(NodeId(4), &stored), Standing::Fenced(fence));
}

#[test]
fn a_claim_that_goes_on_with_fewer_answers_is_degraded() {
    let store = TestStore::default();
    let owned = stored_call(&store);
    let id = ActorId::Call(call());
    let held = hold(&store, &ids(), &id).unwrap();
    let set = HolderSet::new(vec![NodeId(1), NodeId(2), NodeId(3)]).unwrap();
    let (mut claim, batch) = Activation::begin(&id, &Held::default(), set, NodeId(2), &ids());
    assert_eq!((claim.epoch().n, batch.changes.len()), (1, 1));
    let (reply, granted) = decide(&held, claim.request(), &ids());
    store.apply(granted.expect("the fence is raised"));
    assert_eq!(hold(&store, &ids(), &id).unwrap().fence, claim.epoch());
    let (again, nothing) = decide(&hold(&store, &ids(), &id).unwrap(), claim.request(), &ids());
    assert_eq!((&again, nothing), (&reply, None), "the same claim again");
    // The record names node 1 alone, so its answer would be enough; nobody's is less than enough.
    let Step::Won {
        newest: None,
        degraded: true,
    } = claim.clone().give_up_waiting()
    else {
        panic!("it goes on");
    };
    let Step::Won {
        newest: Some(image),
        degraded: false,
    } = claim.answer(NodeId(1), reply)
    else {
        panic!("it has won");
    };
    let me = NodeInst {
        node: NodeId(2),
        boot: Boot(8),
    };
    let (taken, _) = Owned::take_over(*image, claim.epoch(), true, me, &ids());
    assert!(taken.header().degraded && taken.header().owner == me);
    let late = HolderRequest::Commit(owned.image());
    let (reply, batch) = decide(&hold(&store, &ids(), &id).unwrap(), late, &ids());
    assert_eq!((reply, batch), (HolderReply::Fenced(claim.epoch()), None));
}

#[test]
fn what_a_former_holder_has_counts_only_while_a_holder_has_something() {
    let id = ActorId::Call(call());
    let set = |nodes: &[u16]| HolderSet::new(nodes.iter().copied().map(NodeId).collect()).unwrap();
    let owner = NodeInst {
        node: NodeId(3),
        boot: Boot(1),
    };
    // Held by 1 and 3 since node 2 has copied it; node 3 has forgotten that it owned it.
    let owned = Owned::begin(&id, Epoch::ZERO, owner, &ids());
    let mut owned = owned.held_by(set(&[1, 3]));
    owned.put(&id, b"own".into(), None).unwrap();
    let copy = Held {
        fence: owned.epoch(),
        image: Some(owned.image()),
    };
    let claim = |fence: Epoch| {
        let held = Held { fence, image: None };
        let (claim, _) = Activation::begin(&id, &held, set(&[1, 2, 3]), NodeId(3), &ids());
        claim
    };
    // The epoch under which it was written is not won again.
    let mut again = claim(Epoch::ZERO);
    assert_eq!(again.epoch(), owned.epoch());
    let (reply, batch) = decide(&copy, again.request(), &ids());
    assert_eq!(batch, None);
    let lost = again.answer(NodeId(2), reply);
    assert_eq!(lost, Step::Lost(owned.epoch()));
    let next = claim(owned.epoch());
    let nothing = HolderReply::Granted {
        epoch: next.epoch(),
        newest: None,
    };
    let (former, _) = decide(&copy, next.request(), &ids());
    for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
        let mut claim = next.clone();
        let steps = order.map(|node| {
            let is_former = node == 2;
            let reply = if is_former { &former } else { &nothing };
            claim.answer(NodeId(node), reply.clone())
        });
        let over = Step::Won {
            newest: None,
            degraded: false,
        };
        assert_eq!(steps, [Step::Wait, Step::Wait, over], "{order:?}");
        assert_eq!(claim.images().count(), 0);
    }
    // Without the word of all holders it is there.
    let mut fewer = next.clone();
    for (node, reply) in [(2, &former), (3, &nothing)] {
        assert_eq!(fewer.answer(NodeId(node), reply.clone()), Step::Wait);
    }
    let found = |step| {
        matches!(
            step,
            Step::Won {
                newest: Some(_),
                ..
            }
        )
    };
    assert!(found(fewer.give_up_waiting()));
    // Node 1 has it: one holder is enough, as ever.
    let mut held = next.clone();
    assert_eq!(held.answer(NodeId(2), former.clone()), Step::Wait);
    assert!(found(held.answer(NodeId(1), former)));
}
