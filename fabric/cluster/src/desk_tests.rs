//! A holder's desk, event by event.

use contract::limits::{DESK_PER_RECORD_MAX, SHARDS};
use contract::{ActorId, Boot, CallKey, FabricKeys, IdHasher, NodeId, NodeInst, UtcMillis};

use crate::test_store::TestStore;
use crate::{
    Desk, DeskAction, Epoch, HolderReply, HolderRequest, HolderSet, Image, Owned, Whereabouts,
    hold, shard,
};

const ME: NodeInst = NodeInst {
    node: NodeId(1),
    boot: Boot(1),
};
const PEER: NodeInst = NodeInst {
    node: NodeId(2),
    boot: Boot(1),
};
const OTHER: NodeInst = NodeInst {
    node: NodeId(3),
    boot: Boot(1),
};

fn ids() -> IdHasher {
    FabricKeys::new([1; 32]).ids()
}

fn call() -> ActorId {
    ActorId::Call(CallKey::from_bits(5))
}

fn side(number: u8) -> ActorId {
    ActorId::Dialog(CallKey::from_bits(5).side(number))
}

fn desk() -> Desk {
    Desk::new(ME.node, ids())
}

fn owned_by(owner: NodeInst, fence: Epoch) -> Owned {
    let holders = HolderSet::new(vec![ME.node, PEER.node]).unwrap();
    Owned::begin(&call(), fence, owner, &ids()).held_by(holders)
}

fn put(owned: &mut Owned, part: &ActorId) -> Image {
    let bytes = owned.header().version.sequence.to_le_bytes();
    owned.put(part, bytes.to_vec(), None).unwrap();
    owned.delta()
}

fn claim(n: u64, by: NodeInst) -> HolderRequest {
    let epoch = Epoch { n, by: by.node };
    HolderRequest::Claim { id: call(), epoch }
}

/// Does the writes of some actions, in their order, and tells the desk so. Out: without `Changed`.
fn write(desk: &mut Desk, store: &TestStore, actions: &[DeskAction]) -> Vec<DeskAction> {
    let mut answers = Vec::new();
    for action in actions {
        if let DeskAction::Store { number, batch } = action {
            store.apply(batch.clone());
            answers.extend(desk.stored(*number, true));
        }
    }
    answers.retain(|action| !matches!(action, DeskAction::Changed { .. }));
    answers
}

fn number(actions: &[DeskAction]) -> u64 {
    let Some(DeskAction::Store { number, .. }) = actions.last() else {
        panic!("no write in {actions:?}");
    };
    *number
}

#[test]
fn an_answer_leaves_when_its_batch_is_durable() {
    let (mut desk, store) = (desk(), TestStore::default());
    let first = put(&mut owned_by(PEER, Epoch::ZERO), &call());
    let version = first.header.version;
    let actions = desk.request(&store, PEER, 7, HolderRequest::Commit(first));
    assert!(matches!(actions[..], [DeskAction::Store { number: 1, .. }]));
    assert!(!desk.is_quiet(&call()));
    let answer = DeskAction::Answer {
        to: PEER,
        number: 7,
        reply: HolderReply::Stored(version),
    };
    assert_eq!(write(&mut desk, &store, &actions), [answer]);
    assert!(desk.is_quiet(&call()));
    assert_eq!(desk.waiting(), 0);
    assert_eq!(desk.stored(1, true), [], "said twice");
}

#[test]
fn what_needs_no_write_is_answered_at_once_unless_something_is_under_way() {
    let (mut desk, store) = (desk(), TestStore::default());
    let mut record = owned_by(PEER, Epoch::ZERO);
    let first = put(&mut record, &call());
    let version = first.header.version;
    let again = HolderRequest::Commit(first);
    let actions = desk.request(&store, PEER, 1, again.clone());
    // The retransmission rests on a write that is not durable yet.
    assert_eq!(desk.request(&store, PEER, 2, again.clone()), []);
    let answers = write(&mut desk, &store, &actions);
    let answer = |number| DeskAction::Answer {
        to: PEER,
        number,
        reply: HolderReply::Stored(version),
    };
    assert_eq!(answers, [answer(1), answer(2)]);
    assert_eq!(desk.request(&store, PEER, 3, again), [answer(3)]);
}

#[test]
fn requests_are_decided_on_what_the_last_one_left() {
    let (mut desk, store) = (desk(), TestStore::default());
    let mut record = owned_by(PEER, Epoch::ZERO);
    let first = put(&mut record, &call());
    let second = put(&mut record, &side(1));
    let mut writes = desk.request(&store, PEER, 1, HolderRequest::Commit(first));
    // Without the first in sight this would be incomplete.
    let more = desk.request(&store, PEER, 2, HolderRequest::Commit(second.clone()));
    assert_eq!(more.len(), 1);
    writes.extend(more);
    // A claim of a third node sees both; the commit that crosses it is refused.
    writes.extend(desk.request(&store, OTHER, 3, claim(2, OTHER)));
    let third = put(&mut record, &side(2));
    assert_eq!(
        desk.request(&store, PEER, 4, HolderRequest::Commit(third)),
        []
    );
    let answers = write(&mut desk, &store, &writes);
    let replies: Vec<&HolderReply> = answers
        .iter()
        .map(|action| match action {
            DeskAction::Answer { reply, .. } => reply,
            DeskAction::Fence { .. }
            | DeskAction::Store { .. }
            | DeskAction::Drop { .. }
            | DeskAction::Changed { .. }
            | DeskAction::Copied { .. } => panic!("{action:?}"),
        })
        .collect();
    assert_eq!(*replies[1], HolderReply::Stored(second.header.version));
    let HolderReply::Granted { newest, .. } = replies[2] else {
        panic!("{replies:?}");
    };
    let newest = newest.as_ref().unwrap();
    assert_eq!(newest.header.version, second.header.version);
    assert_eq!(newest.parts.len(), 2);
    let epoch = Epoch {
        n: 2,
        by: OTHER.node,
    };
    assert_eq!(*replies[3], HolderReply::Fenced(epoch));
    let held = hold(&store, &ids(), &call()).unwrap();
    assert_eq!(held.fence, epoch);
    assert_eq!(held.image.as_ref(), Some(&**newest));
}

#[test]
fn the_own_actor_is_fenced_before_anything_else() {
    let own = Epoch { n: 1, by: ME.node };
    let rows = [
        ("a claim", claim(2, PEER)),
        (
            "a commit of another owner",
            HolderRequest::Commit(put(&mut owned_by(PEER, own), &call())),
        ),
        ("one that lacks parts", {
            let mut record = owned_by(PEER, own);
            put(&mut record, &side(1));
            HolderRequest::Commit(put(&mut record, &call()))
        }),
    ];
    for (what, request) in rows {
        let (mut desk, store) = (desk(), TestStore::default());
        let first = put(&mut owned_by(ME, Epoch::ZERO), &call());
        let writes = desk.request(&store, ME, 1, HolderRequest::Commit(first));
        assert_eq!(writes.len(), 1, "nobody is fenced by the own first commit");
        write(&mut desk, &store, &writes);
        let actions = desk.request(&store, PEER, 2, request);
        let fence = DeskAction::Fence {
            id: call(),
            epoch: Epoch {
                n: 2,
                by: PEER.node,
            },
        };
        assert_eq!(actions[0], fence, "{what}");
        assert!(matches!(actions[1], DeskAction::Store { .. }), "{what}");
        assert_eq!(actions.len(), 2, "{what}");
        // The next claim fences nobody here any more.
        let next = desk.request(&store, OTHER, 3, claim(3, OTHER));
        assert!(matches!(next[..], [DeskAction::Store { .. }]), "{what}");
    }
}

#[test]
fn an_own_claim_is_found_by_the_next_one_and_fences_nobody() {
    let (mut desk, store) = (desk(), TestStore::default());
    let held = desk.held(&store, &side(3)).unwrap();
    let epoch = held.next_epoch(ME.node);
    let actions = desk.request(&store, ME, 1, HolderRequest::Claim { id: call(), epoch });
    assert!(matches!(actions[..], [DeskAction::Store { .. }]));
    let next = desk.held(&store, &call()).unwrap().next_epoch(ME.node);
    assert_eq!(next, Epoch { n: 2, by: ME.node });
    // A higher claim while the own one is under way: whoever began it must know.
    let actions = desk.request(&store, PEER, 2, claim(2, PEER));
    assert!(matches!(
        actions[..],
        [DeskAction::Fence { .. }, DeskAction::Store { .. }]
    ));
}

#[test]
fn a_failed_write_is_not_answered_and_hides_nothing() {
    let (mut desk, store) = (desk(), TestStore::default());
    let mut record = owned_by(PEER, Epoch::ZERO);
    put(&mut record, &call());
    put(&mut record, &side(1));
    let writes = desk.request(&store, PEER, 1, HolderRequest::Commit(record.image()));
    write(&mut desk, &store, &writes);

    let failing = HolderRequest::Commit(put(&mut record, &side(1)));
    let lost = desk.request(&store, PEER, 2, failing.clone());
    assert_eq!(desk.request(&store, PEER, 3, failing), []);
    let later = desk.request(
        &store,
        PEER,
        4,
        HolderRequest::Commit(put(&mut record, &call())),
    );
    let drop = |number| DeskAction::Drop { to: PEER, number };
    assert_eq!(desk.stored(number(&lost), false), [drop(2), drop(3)]);
    assert_eq!(desk.counts().failed, 2);
    let answers = write(&mut desk, &store, &later);
    assert!(matches!(
        answers[..],
        [DeskAction::Answer { number: 4, .. }]
    ));
    // The later batch carried what the failed one should have written.
    let held = hold(&store, &ids(), &call()).unwrap();
    assert_eq!(held.missing(), []);
    assert_eq!(held.image, Some(record.image()));
}

#[test]
fn after_a_failed_write_alone_the_store_is_read_anew() {
    let (mut desk, store) = (desk(), TestStore::default());
    let lost = desk.request(&store, PEER, 1, claim(5, PEER));
    assert_eq!(desk.held(&store, &call()).unwrap().fence.n, 5);
    desk.stored(number(&lost), false);
    assert_eq!(desk.held(&store, &call()).unwrap().fence, Epoch::ZERO);
}

#[test]
fn one_record_is_bounded() {
    let (mut desk, store) = (desk(), TestStore::default());
    for n in 1..=DESK_PER_RECORD_MAX as u64 {
        assert_eq!(desk.request(&store, PEER, n, claim(n, PEER)).len(), 1);
    }
    let over = desk.request(&store, PEER, 9_999, claim(9_999, PEER));
    let number = 9_999;
    assert_eq!(over, [DeskAction::Drop { to: PEER, number }]);
    assert_eq!(desk.counts().busy, 1);
    assert_eq!(desk.waiting(), DESK_PER_RECORD_MAX);
}

#[test]
fn a_part_that_was_lost_is_asked_for_even_on_a_retransmission() {
    let (mut desk, store) = (desk(), TestStore::default());
    let mut record = owned_by(PEER, Epoch::ZERO);
    put(&mut record, &call());
    let second = put(&mut record, &side(1));
    let whole = HolderRequest::Commit(record.image());
    let writes = desk.request(&store, PEER, 1, whole.clone());
    write(&mut desk, &store, &writes);
    store.values.lock().unwrap().retain(|key, _| key[0] == b'h');
    let mut bare = second.clone();
    bare.parts.clear();
    let actions = desk.request(&store, PEER, 2, HolderRequest::Commit(bare));
    let missing = vec![side(1)];
    let answer = DeskAction::Answer {
        to: PEER,
        number: 2,
        reply: HolderReply::Incomplete { missing },
    };
    assert_eq!(actions, [answer]);
    let writes = desk.request(&store, PEER, 3, whole);
    assert_eq!(write(&mut desk, &store, &writes).len(), 1);
    assert_eq!(hold(&store, &ids(), &call()).unwrap().missing(), []);
}

#[test]
fn where_is_says_none_only_of_a_shard_in_step() {
    let (mut desk, store) = (desk(), TestStore::default());
    let of_call = shard(ids().record_key(&call()));
    let whereabouts = |desk: &Desk| desk.where_is(&store, &side(1));
    assert_eq!(whereabouts(&desk), Whereabouts::Unsettled);
    desk.shard_settled(of_call.wrapping_add(1));
    assert_eq!(whereabouts(&desk), Whereabouts::Unsettled);
    desk.shard_settled(of_call);
    assert_eq!(whereabouts(&desk), Whereabouts::None);
    desk.view_changed(true);
    assert_eq!(whereabouts(&desk), Whereabouts::Unsettled);
    desk.view_changed(false);
    assert_eq!(whereabouts(&desk), Whereabouts::None);
    assert!((0..SHARDS).all(|shard| desk.is_settled(u8::try_from(shard).unwrap())));

    let mut record = owned_by(PEER, Epoch::ZERO);
    let first = put(&mut record, &call());
    let at = Whereabouts::At {
        owner: PEER,
        version: first.header.version,
    };
    let mut writes = desk.request(&store, PEER, 1, HolderRequest::Commit(first));
    assert_eq!(whereabouts(&desk), at, "even before it is durable");
    record.end(UtcMillis(99));
    writes.extend(desk.request(&store, PEER, 2, HolderRequest::Commit(record.delta())));
    write(&mut desk, &store, &writes);
    assert_eq!(whereabouts(&desk), Whereabouts::None, "a tombstone is none");
}
