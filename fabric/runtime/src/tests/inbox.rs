//! Inboxes: order, bounds, what comes back.

use contract::NodeId;
use contract::core::Event;
use contract::limits::INBOX_EVENTS_MAX;
use contract::{ActorId, FlowRef, ListenerId};

use super::kit::{PUT, Step, act, call, dialog, lane, note, reg};
use super::world::{Mode, Node, pass, settle};
use crate::Delivery;

#[tokio::test(start_paused = true)]
async fn events_are_taken_in_the_order_they_came() {
    let node = Node::new().await;
    for number in 0..50 {
        assert_eq!(
            node.give(&reg("a"), act([Step::Out(number)])),
            Delivery::Accepted
        );
    }
    settle().await;
    let wanted: Vec<String> = (0..50).map(|number| format!("a out {number}")).collect();
    assert_eq!(node.outs(), wanted);
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_refuses_and_the_sender_gets_its_message_back() {
    let node = Node::new().await;
    node.disk.set(Mode::Held);
    let tell = |number| Step::Tell(reg("a"), Box::new(act([Step::Out(number)])));
    let steps: Vec<Step> = (0..70).map(tell).collect();
    node.tell(&lane(), act(steps)).await;
    let log = node.log();
    let back = log
        .iter()
        .filter(|line| *line == "lane0 Busy from a")
        .count();
    assert_eq!(back, 70 - INBOX_EVENTS_MAX);
    let taken = log.iter().filter(|line| line.starts_with("a out")).count();
    assert_eq!(taken, INBOX_EVENTS_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_message_to_nobody_comes_back_absent_once() {
    let node = Node::new().await;
    node.tell(
        &lane(),
        act([Step::Tell(reg("a"), Box::new(note("hello")))]),
    )
    .await;
    assert_eq!(node.log(), ["lane0 do", "lane0 Absent from a"]);
    node.tell(&lane(), act([Step::Tell(dialog(3), Box::new(act([])))]))
        .await;
    assert_eq!(node.log(), ["lane0 do", "lane0 Absent from dialog3"]);
    assert!(node.row(&call()).is_none() && node.row(&dialog(3)).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_to_somebody_who_is_gone_is_dropped() {
    let node = Node::new().await;
    node.fabric.tell(&reg("gone"), reg("a"), note("hello"));
    settle().await;
    assert_eq!(node.log(), Vec::<String>::new());
    assert!(node.row(&reg("gone")).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_an_actor_is_owed_reaches_a_full_inbox() {
    let node = Node::new().await;
    node.disk.set(Mode::Held);
    // Its gate is full: the inbox waits.
    let mut steps = vec![PUT];
    steps.extend((0..64).map(Step::Out));
    steps.insert(1, Step::TellUrgent(reg("nobody"), Box::new(note("hello"))));
    node.tell(&reg("a"), act(steps)).await;
    while node.give(&reg("a"), act([])) == Delivery::Accepted {}
    assert_eq!(node.give(&reg("a"), act([])), Delivery::Busy);
    let lost = Event::ChildLost { id: call() };
    assert_eq!(node.fabric.deliver(&reg("a"), lost), Delivery::Accepted);
    node.log();
    node.answer(true).await;
    pass(1).await;
    let log = node.log();
    assert!(log.contains(&"a Absent from nobody".to_owned()), "{log:?}");
    assert_eq!(log.last().unwrap(), "a lost call");
}

#[tokio::test(start_paused = true)]
async fn more_than_a_turn_of_events_lets_others_run_in_between() {
    let node = Node::new().await;
    let busy = ActorId::Lane(NodeId(1), 1);
    assert!(node.fabric.start_system(busy.clone()));
    settle().await;
    for _ in 0..1_000 {
        assert_eq!(node.give(&busy, note("busy")), Delivery::Accepted);
    }
    assert_eq!(node.give(&lane(), note("quick")), Delivery::Accepted);
    settle().await;
    let log = node.log();
    assert_eq!(log.len(), 1_001);
    let at = log.iter().position(|line| line == "lane0 quick").unwrap();
    assert!(
        at <= 2 * crate::shell::EVENTS_PER_TURN,
        "came as number {at}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_crowded_inbox_says_when_there_is_room() {
    let node = Node::new().await;
    assert!(node.fabric.room(&reg("a")).is_none());
    for _ in 0..INBOX_EVENTS_MAX {
        assert_eq!(node.give(&reg("a"), act([])), Delivery::Accepted);
    }
    let room = node.fabric.room(&reg("a")).unwrap();
    room.await;
    assert!(node.fabric.room(&reg("a")).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_panics_is_closed_and_gone() {
    let node = Node::new().await;
    let flow = FlowRef::Stream {
        node: NodeId(1),
        number: 9,
        listener: ListenerId(0),
        remote: "127.0.0.1:9".parse().unwrap(),
        door: contract::Door::Sip,
    };
    let id = flow.actor().unwrap();
    assert!(node.fabric.start_system(id.clone()));
    node.fabric.deliver(&id, Event::Opened { flow });
    settle().await;
    node.bomb(1);
    node.tell(&id, act([Step::Bomb])).await;
    let closed = format!("close {flow}: its actor was given up");
    assert!(node.log().contains(&closed));
    assert!(node.row(&id).is_none());
    assert_eq!(node.give(&id, act([])), Delivery::Absent);
}
