//! The owner's side of commits, event by event.

use bytes::Bytes;
use contract::limits::{
    REPLICATION_PENDING_MAX, REPLICATION_PER_PEER_MAX, REPLICATION_PER_RECORD_MAX,
};
use contract::{ActorId, Boot, FabricKeys, NodeId, NodeInst, Now, Time, UtcMillis};

use crate::{
    CommitMode, Epoch, HolderReply, HolderRequest, HolderSet, Image, Owned, ReplicationAction,
    Replicator, Version,
};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn at(millis: u64) -> Now {
    Now {
        mono: Time::from_micros(millis * 1_000),
        utc: UtcMillis(millis),
    }
}

fn alice() -> ActorId {
    ActorId::Registration("alice@example.org".into())
}

fn owned(id: &ActorId, holders: &[NodeId]) -> Owned {
    let me = NodeInst {
        node: A,
        boot: Boot(1),
    };
    let ids = FabricKeys::new([1; 32]).ids();
    let holders = HolderSet::new(holders.to_vec()).unwrap();
    Owned::begin(id, Epoch::ZERO, me, &ids).held_by(holders)
}

fn put(owned: &mut Owned) -> Image {
    let id = owned.header().id.clone();
    owned.put(&id, b"part".to_vec(), None).unwrap();
    owned.delta()
}

fn connected(mode: CommitMode) -> Replicator {
    let mut replicator = Replicator::new(A, mode);
    assert_eq!(replicator.peer_back(B), []);
    assert_eq!(replicator.peer_back(C), []);
    replicator
}

/// Returns whom a commit was sent to, under which numbers.
fn sent(actions: &[ReplicationAction]) -> Vec<(NodeId, u64)> {
    let sends = actions.iter().filter_map(|action| match action {
        ReplicationAction::Send { to, number, .. } => Some((*to, *number)),
        ReplicationAction::Whole { .. }
        | ReplicationAction::Safe { .. }
        | ReplicationAction::Unsafe { .. }
        | ReplicationAction::Healed { .. }
        | ReplicationAction::Fenced { .. } => None,
    });
    sends.collect()
}

fn safe(version: Version, degraded: bool) -> ReplicationAction {
    let id = alice();
    ReplicationAction::Safe {
        id,
        version,
        degraded,
    }
}

fn version(image: &Image) -> Version {
    image.header.version
}

#[test]
fn a_node_alone_sends_nothing_waits_for_nothing_and_is_safe_when_stored() {
    let mut replicator = Replicator::new(A, CommitMode::Strict);
    let mut record = owned(&alice(), &[A]);
    let first = put(&mut record);
    assert_eq!(replicator.commit(at(0), first.clone()), []);
    assert_eq!(replicator.next_deadline(), None);
    assert_eq!(replicator.tick(at(10_000)), []);
    let done = replicator.stored(at(10_000), &alice(), version(&first));
    assert_eq!(done, [safe(version(&first), false)]);
    assert_eq!(replicator.tracked(), 0);
}

#[test]
fn a_node_alone_whose_store_fails_is_unsafe_in_both_modes() {
    for mode in [CommitMode::Available, CommitMode::Strict] {
        let mut replicator = Replicator::new(A, mode);
        let first = put(&mut owned(&alice(), &[A]));
        replicator.commit(at(0), first.clone());
        let (id, version) = (alice(), version(&first));
        let done = replicator.not_stored(at(1), &id, version);
        assert_eq!(done, [ReplicationAction::Unsafe { id, version }]);
        assert_eq!(replicator.tracked(), 0);
    }
}

#[test]
fn two_of_three_make_it_safe_whichever_they_are() {
    for own_first in [true, false] {
        let mut replicator = connected(CommitMode::Available);
        let first = put(&mut owned(&alice(), &[A, B, C]));
        let version = version(&first);
        let sends = sent(&replicator.commit(at(0), first));
        assert_eq!(sends.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [B, C]);
        assert!(sends.iter().all(|(_, number)| number % 2 == 0));
        let stored = HolderReply::Stored(version);
        let one = if own_first {
            replicator.stored(at(1), &alice(), version)
        } else {
            replicator.answer(at(1), C, sends[1].1, &stored)
        };
        assert_eq!(one, []);
        let other = replicator.answer(at(2), B, sends[0].1, &stored);
        assert_eq!(other, [safe(version, false)]);
    }
}

#[test]
fn an_answer_to_an_unknown_number_or_of_another_node_counts_nothing() {
    let mut replicator = connected(CommitMode::Available);
    let first = put(&mut owned(&alice(), &[A, B, C]));
    let stored = HolderReply::Stored(version(&first));
    let sends = sent(&replicator.commit(at(0), first.clone()));
    replicator.stored(at(0), &alice(), version(&first));
    assert_eq!(replicator.answer(at(1), C, sends[0].1, &stored), []);
    assert_eq!(replicator.answer(at(1), B, 999, &stored), []);
    let done = replicator.answer(at(1), B, sends[0].1, &stored);
    assert_eq!(done, [safe(version(&first), false)]);
    assert_eq!(replicator.answer(at(1), B, sends[0].1, &stored), []);
}

#[test]
fn verdicts_come_in_the_order_of_versions() {
    let mut replicator = connected(CommitMode::Available);
    let mut record = owned(&alice(), &[A, B]);
    let (first, second) = (put(&mut record), put(&mut record));
    let (one, two) = (version(&first), version(&second));
    replicator.commit(at(0), first);
    let sends = sent(&replicator.commit(at(0), second));
    assert_eq!(replicator.stored(at(1), &alice(), one), []);
    assert_eq!(replicator.stored(at(1), &alice(), two), []);
    // Whoever has the later version has the earlier one.
    let done = replicator.answer(at(2), B, sends[0].1, &HolderReply::Stored(two));
    assert_eq!(done, [safe(one, false), safe(two, false)]);
}

#[test]
fn after_150_ms_the_mode_decides() {
    for (mode, degraded) in [(CommitMode::Available, true), (CommitMode::Strict, false)] {
        let mut replicator = connected(mode);
        let first = put(&mut owned(&alice(), &[A, B, C]));
        let version = version(&first);
        replicator.commit(at(0), first);
        replicator.stored(at(1), &alice(), version);
        assert_eq!(replicator.next_deadline(), Some(at(150).mono));
        assert_eq!(replicator.tick(at(149)), []);
        let verdict = if degraded {
            safe(version, true)
        } else {
            let id = alice();
            ReplicationAction::Unsafe { id, version }
        };
        assert_eq!(replicator.tick(at(150)), [verdict]);
        assert_eq!(replicator.counts().degraded, u64::from(degraded));
    }
}

#[test]
fn a_late_commit_that_nobody_has_waits_for_the_first_copy() {
    let mut replicator = connected(CommitMode::Available);
    let first = put(&mut owned(&alice(), &[A, B, C]));
    replicator.commit(at(0), first.clone());
    assert_eq!(replicator.tick(at(150)), []);
    let done = replicator.stored(at(300), &alice(), version(&first));
    assert_eq!(done, [safe(version(&first), true)]);
}

#[test]
fn a_degraded_commit_is_healed_when_a_holder_answers_after_all() {
    let mut replicator = connected(CommitMode::Available);
    let first = put(&mut owned(&alice(), &[A, B]));
    let (id, version) = (alice(), version(&first));
    let sends = sent(&replicator.commit(at(0), first));
    replicator.stored(at(1), &id, version);
    assert_eq!(replicator.tick(at(150)), [safe(version, true)]);
    let done = replicator.answer(at(400), B, sends[0].1, &HolderReply::Stored(version));
    assert_eq!(done, [ReplicationAction::Healed { id, version }]);
    assert_eq!(replicator.tracked(), 0);
}

#[test]
fn lost_peers_are_not_waited_for_and_get_the_newest_as_a_whole_when_back() {
    let mut replicator = connected(CommitMode::Available);
    let mut record = owned(&alice(), &[A, B, C]);
    replicator.peer_lost(at(0), C);
    let (first, second) = (put(&mut record), put(&mut record));
    replicator.commit(at(0), first.clone());
    replicator.stored(at(0), &alice(), version(&first));
    let done = replicator.peer_lost(at(5), B);
    assert_eq!(done, [safe(version(&first), true)]);
    assert_eq!(replicator.commit(at(6), second.clone()), []);
    let done = replicator.stored(at(6), &alice(), version(&second));
    assert_eq!(done, [safe(version(&second), true)]);

    let id = alice();
    let wanted = [ReplicationAction::Whole { id, to: B }];
    assert_eq!(replicator.peer_back(B), wanted);
    let actions = replicator.whole(at(7), B, &alice(), Some(record.image()));
    let ReplicationAction::Send {
        to,
        number,
        request,
    } = &actions[0]
    else {
        panic!("{actions:?}");
    };
    assert_eq!(*to, B);
    assert_eq!(*request, HolderRequest::Commit(record.image()));
    let stored = HolderReply::Stored(version(&second));
    let (id, version) = (alice(), version(&second));
    let done = replicator.answer(at(8), B, *number, &stored);
    assert_eq!(done, [ReplicationAction::Healed { id, version }]);
    assert_eq!(replicator.tracked(), 1, "C still lacks it");
}

#[test]
fn an_incomplete_holder_gets_the_whole_record_once_more() {
    let mut replicator = connected(CommitMode::Available);
    let mut record = owned(&alice(), &[A, B]);
    let first = put(&mut record);
    let sends = sent(&replicator.commit(at(0), first));
    let incomplete = HolderReply::Incomplete {
        missing: vec![alice()],
    };
    let asked = replicator.answer(at(1), B, sends[0].1, &incomplete);
    let id = alice();
    assert_eq!(asked, [ReplicationAction::Whole { id, to: B }]);
    let whole = replicator.whole(at(1), B, &alice(), Some(record.image()));
    let again = replicator.answer(at(2), B, sent(&whole)[0].1, &incomplete);
    assert_eq!(again, [], "the newest as a whole is not sent in a circle");
    assert_eq!(replicator.counts().wholes, 1);
}

#[test]
fn a_whole_that_is_older_than_a_commit_meanwhile_is_followed_by_another() {
    let mut replicator = connected(CommitMode::Available);
    let mut record = owned(&alice(), &[A, B]);
    let first = put(&mut record);
    let old = record.image();
    let sends = sent(&replicator.commit(at(0), first));
    let missing = vec![alice()];
    replicator.answer(at(1), B, sends[0].1, &HolderReply::Incomplete { missing });
    let second = put(&mut record);
    assert_eq!(sent(&replicator.commit(at(1), second)), []);
    let actions = replicator.whole(at(2), B, &alice(), Some(old));
    assert_eq!(sent(&actions).len(), 1);
    let id = alice();
    assert_eq!(actions[1], ReplicationAction::Whole { id, to: B });
}

/// The own disk was full when the newest was written, and the actor is passive: what can be handed in is
/// older than what was asked for, and would be so the next time.
#[test]
fn a_whole_that_is_older_than_was_asked_for_is_not_asked_for_in_a_circle() {
    let mut replicator = connected(CommitMode::Available);
    let mut record = owned(&alice(), &[A, B, C]);
    put(&mut record);
    let old = record.image();
    replicator.peer_lost(at(0), B);
    let second = put(&mut record);
    let version = version(&second);
    let sends = sent(&replicator.commit(at(0), second));
    assert_eq!(replicator.not_stored(at(0), &alice(), version), []);
    let done = replicator.answer(at(1), C, sends[0].1, &HolderReply::Stored(version));
    assert_eq!(done, [safe(version, true)]);

    let id = alice();
    let wanted = [ReplicationAction::Whole { id, to: B }];
    assert_eq!(replicator.peer_back(B), wanted);
    assert_eq!(replicator.whole(at(2), B, &alice(), Some(old)), []);
    assert_eq!(replicator.next_deadline(), None);

    // The next commit makes that good.
    let sends = sent(&replicator.commit(at(3), put(&mut record)));
    assert_eq!(sends.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [B, C]);
    let missing = vec![alice()];
    let asked = replicator.answer(at(4), B, sends[0].1, &HolderReply::Incomplete { missing });
    let id = alice();
    assert_eq!(asked, [ReplicationAction::Whole { id, to: B }]);
    let whole = replicator.whole(at(4), B, &alice(), Some(record.image()));
    assert_eq!(sent(&whole).len(), 1);
}

#[test]
fn a_silent_holder_is_asked_again_after_a_second() {
    let mut replicator = connected(CommitMode::Available);
    let first = put(&mut owned(&alice(), &[A, B]));
    replicator.commit(at(0), first.clone());
    replicator.stored(at(0), &alice(), version(&first));
    replicator.tick(at(150));
    assert_eq!(replicator.next_deadline(), Some(at(1_000).mono));
    let id = alice();
    let wanted = [ReplicationAction::Whole { id, to: B }];
    assert_eq!(replicator.tick(at(1_000)), wanted);
}

#[test]
fn the_first_higher_epoch_ends_every_commit_and_nothing_follows() {
    let epoch = Epoch { n: 9, by: C };
    for by_desk in [true, false] {
        let mut replicator = connected(CommitMode::Available);
        let mut record = owned(&alice(), &[A, B, C]);
        let first = put(&mut record);
        let sends = sent(&replicator.commit(at(0), first.clone()));
        let second = put(&mut record);
        replicator.commit(at(0), second.clone());
        let done = if by_desk {
            replicator.saw(&alice(), epoch)
        } else {
            replicator.answer(at(1), C, sends[1].1, &HolderReply::Fenced(epoch))
        };
        let id = alice();
        let fenced = ReplicationAction::Fenced { id, epoch };
        assert_eq!(done, std::slice::from_ref(&fenced));
        let stored = HolderReply::Stored(version(&first));
        assert_eq!(replicator.answer(at(2), B, sends[0].1, &stored), []);
        assert_eq!(replicator.stored(at(2), &alice(), version(&second)), []);
        assert_eq!(replicator.saw(&alice(), epoch), []);
        assert_eq!(replicator.tick(at(500)), []);
        assert_eq!(replicator.tracked(), 0);
        // A commit that crossed the news has the same verdict.
        assert_eq!(replicator.commit(at(3), put(&mut record)), [fenced]);
    }
}

#[test]
fn a_later_ownership_of_this_node_commits_again() {
    let mut replicator = connected(CommitMode::Available);
    let mut record = owned(&alice(), &[A, B]);
    replicator.commit(at(0), put(&mut record));
    replicator.saw(&alice(), Epoch { n: 4, by: B });
    let me = record.header().owner;
    let ids = FabricKeys::new([1; 32]).ids();
    let epoch = Epoch { n: 5, by: A };
    let (again, _) = Owned::take_over(record.image(), epoch, false, me, &ids);
    let sends = sent(&replicator.commit(at(2), again.image()));
    assert_eq!(sends.len(), 1);
    let version = again.header().version;
    replicator.stored(at(3), &alice(), version);
    let done = replicator.answer(at(3), B, sends[0].1, &HolderReply::Stored(version));
    assert_eq!(done, [safe(version, false)]);
}

#[test]
fn while_the_holders_change_both_sets_count() {
    let mut replicator = connected(CommitMode::Available);
    let mut record = owned(&alice(), &[A, B]);
    put(&mut record);
    let new = HolderSet::new(vec![A, C]).unwrap();
    record.propose_holders(new).unwrap();
    let joint = record.image();
    let version = version(&joint);
    let sends = sent(&replicator.commit(at(0), joint));
    replicator.stored(at(1), &alice(), version);
    let stored = HolderReply::Stored(version);
    assert_eq!(replicator.answer(at(1), C, sends[1].1, &stored), []);
    let done = replicator.answer(at(1), B, sends[0].1, &stored);
    assert_eq!(done, [safe(version, false)]);
}

#[test]
fn one_record_and_one_peer_are_bounded() {
    let mut replicator = connected(CommitMode::Available);
    let mut record = owned(&alice(), &[A, B]);
    for _ in 0..REPLICATION_PER_RECORD_MAX {
        assert_eq!(sent(&replicator.commit(at(0), put(&mut record))).len(), 1);
    }
    let over = put(&mut record);
    let (id, version) = (alice(), version(&over));
    let refused = [ReplicationAction::Unsafe { id, version }];
    assert_eq!(replicator.commit(at(0), over), refused);

    let mut sends = 0;
    for number in 0..REPLICATION_PER_PEER_MAX {
        let id = ActorId::Registration(format!("{number}@example.org").into());
        sends += sent(&replicator.commit(at(0), put(&mut owned(&id, &[A, B])))).len();
    }
    assert_eq!(sends, REPLICATION_PER_PEER_MAX - REPLICATION_PER_RECORD_MAX);
    // An answer makes room, and the next one is asked for as a whole.
    let missing = Vec::new();
    let asked = replicator.answer(at(1), B, 2, &HolderReply::Incomplete { missing });
    assert_eq!(asked.len(), 1);
    assert!(matches!(asked[0], ReplicationAction::Whole { to: B, .. }));
}

#[test]
fn all_commits_together_are_bounded() {
    let mut replicator = Replicator::new(A, CommitMode::Available);
    for number in 0..REPLICATION_PENDING_MAX {
        let id = ActorId::Registration(format!("{number}@example.org").into());
        assert_eq!(replicator.commit(at(0), put(&mut owned(&id, &[A]))), []);
    }
    let over = put(&mut owned(&alice(), &[A]));
    let (id, version) = (alice(), version(&over));
    let refused = [ReplicationAction::Unsafe { id, version }];
    assert_eq!(replicator.commit(at(0), over), refused);
    assert_eq!(replicator.counts().refused, 1);
}

#[test]
fn a_record_that_is_gone_is_not_sent() {
    let mut replicator = connected(CommitMode::Available);
    let mut record = owned(&alice(), &[A, B]);
    let sends = sent(&replicator.commit(at(0), put(&mut record)));
    let missing = vec![alice()];
    replicator.answer(at(1), B, sends[0].1, &HolderReply::Incomplete { missing });
    assert_eq!(replicator.whole(at(2), B, &alice(), None), []);
    assert_eq!(
        replicator.whole(at(2), B, &alice(), Some(record.image())),
        []
    );
    let part: Option<&Bytes> = record.last(&alice());
    assert!(part.is_some());
}
