//! Actors that lie passive in their record, and what wakes them.

use contract::core::Roster;
use contract::{Kind, Now, Time};

use super::kit::{BEGIN, Counter, PUT, PUT_LAZILY, Step, act, reg};
use super::world::{Mode, Node, pass, settle};
use crate::Delivery;

fn live(node: &Node) -> usize {
    node.fabric.live(Kind::Registration)
}

#[tokio::test(start_paused = true)]
async fn a_quiet_actor_leaves_and_a_message_wakes_it() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([Step::Add(3), PUT])).await;
    pass(1_900).await;
    assert_eq!(live(&node), 1);
    pass(200).await;
    assert_eq!(live(&node), 0);
    node.log();
    node.tell(&reg("a"), act([Step::Add(1), Step::Out(1)]))
        .await;
    assert_eq!(node.log(), ["a restored Wake 3", "a do", "a out 1"]);
    assert_eq!(
        node.row(&reg("a")).unwrap().epoch,
        1,
        "the same life needs no new epoch"
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_wakes_a_passive_actor() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([Step::Deadline(30_000), PUT]))
        .await;
    pass(29_000).await;
    assert_eq!(live(&node), 0);
    pass(990).await;
    assert!(node.outs().is_empty());
    pass(20).await;
    assert_eq!(node.outs(), ["a out 30000"]);
}

#[tokio::test(start_paused = true)]
async fn what_has_not_changed_is_not_stored_again() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([Step::Add(3), Step::Deadline(60_000), PUT]))
        .await;
    let (before, _) = node.disk.counts();
    pass(5_000).await;
    node.tell(&reg("a"), act([])).await;
    pass(5_000).await;
    assert_eq!(live(&node), 0);
    assert_eq!(node.disk.counts().0, before);
}

#[tokio::test(start_paused = true)]
async fn what_has_changed_is_stored_first() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([Step::Add(3), PUT])).await;
    node.tell(&reg("a"), act([Step::Add(4)])).await;
    node.disk.set(Mode::Held);
    pass(10_000).await;
    assert_eq!((live(&node), node.disk.held()), (1, 1));
    node.answer(true).await;
    pass(10_000).await;
    assert_eq!(live(&node), 0);
    node.log();
    node.tell(&reg("a"), act([])).await;
    assert_eq!(node.log()[0], "a restored Wake 7");
}

#[tokio::test(start_paused = true)]
async fn an_actor_with_nothing_stored_just_leaves() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([Step::Add(3)])).await;
    pass(5_000).await;
    assert_eq!(live(&node), 0);
    assert!(node.row(&reg("a")).is_none());
}

#[tokio::test(start_paused = true)]
async fn it_stays_while_a_commit_is_under_way() {
    let node = Node::new().await;
    node.disk.set(Mode::Held);
    node.tell(&reg("a"), act([Step::Add(3), PUT_LAZILY])).await;
    pass(60_000).await;
    assert_eq!(live(&node), 1);
    node.answer(true).await;
    pass(10).await;
    assert_eq!(live(&node), 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_at_the_moment_of_leaving_is_not_lost() {
    for micros in 0..40 {
        let node = Node::new().await;
        node.tell(&reg("a"), act([Step::Add(1), PUT])).await;
        // Around the moment at which it leaves, and between any two steps of it.
        tokio::time::advance(std::time::Duration::from_millis(2_000)).await;
        for _ in 0..micros {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            node.give(&reg("a"), act([Step::Out(1)])),
            Delivery::Accepted
        );
        settle().await;
        assert_eq!(node.outs(), ["a out 1"], "after {micros} steps");
    }
}

#[tokio::test(start_paused = true)]
async fn an_inbox_that_is_closed_under_a_sender_is_replaced() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([Step::Add(1), PUT])).await;
    // As another thread sees it: the inbox is closed, the place in the table is not free yet.
    let entry = node.fabric.find(&reg("a")).unwrap();
    let record = node.fabric.inner.records.of(&reg("a")).unwrap();
    assert!(entry.close_if_empty());
    assert_eq!(
        node.give(&reg("a"), act([Step::Out(1)])),
        Delivery::Accepted
    );
    settle().await;
    assert_eq!(node.outs(), ["a out 1"]);
    // What the leaving one does last does not touch its successor.
    node.fabric.inner.records.forget(&reg("a"), &record);
    node.fabric.delist(&entry);
    node.tell(&reg("a"), act([PUT, Step::Out(2)])).await;
    assert_eq!(node.outs(), ["a out 2"]);
}

#[tokio::test(start_paused = true)]
async fn one_who_registers_again_after_the_end_is_stored_again() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([Step::Add(1), PUT])).await;
    node.tell(&reg("a"), act([Step::End { gate: true }, Step::Out(1)]))
        .await;
    assert_eq!(node.outs(), ["a out 1"]);
    node.disk.set(Mode::Held);
    node.tell(&reg("a"), act([Step::Add(1), PUT, Step::Out(2)]))
        .await;
    assert!(node.outs().is_empty(), "it must be safe first");
    node.answer(true).await;
    assert_eq!(node.outs(), ["a out 2"]);
    assert_eq!(
        node.row(&reg("a")).unwrap().epoch,
        1,
        "it is still its owner's"
    );
    pass(5_000).await;
    let disk = node.disk.clone();
    node.fabric.kill();
    disk.set(Mode::AtOnce);
    let again = Node::start(disk, 2).await;
    again.tell(&reg("a"), act([])).await;
    assert_eq!(again.log()[0], "a restored NodeStart 2");
}

/// A binding expires in the event that registers anew: what comes later is stored before it passivates.
#[tokio::test(start_paused = true)]
async fn one_that_ends_and_begins_in_one_event_has_not_ended() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([Step::Add(1), PUT])).await;
    node.tell(&reg("a"), act([Step::End { gate: false }, PUT]))
        .await;
    node.tell(&reg("a"), act([Step::Add(1)])).await;
    pass(10_000).await;
    assert!(!node.row(&reg("a")).unwrap().live);
    let disk = node.disk.clone();
    node.fabric.kill();
    let again = Node::start(disk, 2).await;
    again.tell(&reg("a"), act([])).await;
    assert_eq!(again.log()[0], "a restored NodeStart 2");
}

#[test]
fn the_same_state_at_the_same_clocks_has_the_same_snapshot() {
    let now = Now {
        mono: Time::from_micros(5_000_000),
        utc: BEGIN,
    };
    let core = Counter::default();
    let part = core.snapshot(now, contract::SchemaVersion::NEWEST);
    let again = Counter::restore(&reg("a"), &part, now).unwrap();
    assert_eq!(again.snapshot(now, contract::SchemaVersion::NEWEST), part);
}
