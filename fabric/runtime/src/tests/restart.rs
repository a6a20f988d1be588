//! The node starts again on the same disk; and it ends.

use contract::Kind;
use contract::core::Event;

use super::kit::{BEGIN, PUT, Step, act, call, dialog, lane, note, reg};
use super::world::{Disk, Mode, Node, pass, settle};
use crate::Delivery;

async fn again(node: Node) -> Node {
    node.fabric.kill();
    settle().await;
    node.disk.set(Mode::AtOnce);
    Node::start(node.disk.clone(), 2).await
}

async fn with_call() -> Node {
    let node = Node::new().await;
    let side = |number: u8| Step::Spawn(dialog(number), Box::new(act([Step::Add(1), PUT])));
    node.tell(&call(), act([Step::Add(7), PUT, side(1), side(2)]))
        .await;
    node.log();
    node
}

#[tokio::test(start_paused = true)]
async fn calls_are_adopted_with_their_sides_under_a_higher_epoch() {
    let node = with_call().await;
    assert_eq!(node.row(&call()).unwrap().epoch, 1);
    let node = again(node).await;
    let mut log = node.log();
    log.sort();
    let wanted = [
        "call restored NodeStart 7",
        "dialog1 restored NodeStart 1",
        "dialog2 restored NodeStart 1",
    ];
    assert_eq!(log, wanted);
    assert_eq!(node.row(&call()).unwrap().epoch, 2);
    assert_eq!(node.row(&dialog(1)).unwrap().parent, call().to_string());
    assert_eq!(
        node.view(&call()).await.unwrap().children,
        [dialog(1), dialog(2)]
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_happens_before_the_claim_is_safe() {
    let node = with_call().await;
    let disk = node.disk.clone();
    node.fabric.kill();
    disk.set(Mode::Held);
    let node = Node::start(disk, 2).await;
    node.tell(&dialog(1), act([Step::Out(1)])).await;
    pass(1_000).await;
    assert_eq!(node.log(), Vec::<String>::new());
    node.answer(true).await;
    let log = node.log();
    assert_eq!(log.len(), 5, "{log:?}");
    assert_eq!(log[0], "call restored NodeStart 7");
    assert!(log.contains(&"dialog1 out 1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_fails_leaves_the_record_as_it_was() {
    let node = with_call().await;
    let disk = node.disk.clone();
    node.fabric.kill();
    disk.set(Mode::Held);
    let node = Node::start(disk, 2).await;
    node.tell(&dialog(1), act([Step::Out(1)])).await;
    node.answer(false).await;
    assert_eq!(node.log(), ["lane0 Busy from dialog1"]);
    assert_eq!(
        (node.fabric.live(Kind::Call), node.fabric.live(Kind::Dialog)),
        (0, 0)
    );
    node.disk.set(Mode::AtOnce);
    node.tell(&dialog(1), act([Step::Out(2)])).await;
    assert_eq!(node.outs(), ["dialog1 out 2"]);
}

#[tokio::test(start_paused = true)]
async fn registrations_are_only_indexed_and_woken_by_their_deadline() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([Step::Deadline(10_000), PUT]))
        .await;
    node.tell(&reg("b"), act([Step::Add(1), PUT])).await;
    let node = again(node).await;
    assert_eq!(node.fabric.live(Kind::Registration), 0);
    assert!(!node.row(&reg("b")).unwrap().live);
    pass(9_900).await;
    assert!(node.log().is_empty());
    pass(200).await;
    let log = node.log();
    assert_eq!(log[0], "a restored NodeStart 0");
    assert!(log[1..].contains(&"a timer".to_owned()), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn overdue_deadlines_are_spread() {
    let node = Node::new().await;
    for number in 0..50 {
        node.tell(
            &reg(&format!("r{number}")),
            act([Step::Deadline(3_000), PUT]),
        )
        .await;
    }
    node.fabric.kill();
    pass(60_000).await;
    let node = again(node).await;
    pass(2_500).await;
    let half = node.outs().len();
    assert!((20..=30).contains(&half), "{half} of 50 in half the time");
    pass(2_600).await;
    assert_eq!(half + node.outs().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn expired_tombstones_are_removed_and_others_in_time() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([PUT])).await;
    node.tell(&reg("a"), act([Step::End { gate: true }])).await;
    node.tell(&reg("b"), act([PUT])).await;
    pass(30_000).await;
    node.tell(&reg("b"), act([Step::End { gate: true }])).await;
    pass(5_000).await;
    node.fabric.kill();
    pass(30_000).await;
    let headers = |node: &Node| {
        let mut count = 0;
        cluster::scan(node.disk.as_ref(), &mut |_| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        count
    };
    assert_eq!(headers(&node), 2);
    let node = again(node).await;
    assert_eq!(headers(&node), 1);
    pass(30_000).await;
    assert_eq!(headers(&node), 0);
    assert_eq!(node.fabric.live(Kind::Registration), 0);
}

#[tokio::test(start_paused = true)]
async fn the_tombstone_of_a_call_starts_no_second_call() {
    let node = with_call().await;
    let end = [
        Step::Stop(dialog(1)),
        Step::Stop(dialog(2)),
        Step::End { gate: true },
        Step::Stop(call()),
    ];
    node.tell(&call(), act(end)).await;
    assert_eq!(
        (node.fabric.live(Kind::Call), node.fabric.live(Kind::Dialog)),
        (0, 0)
    );
    node.log();
    node.tell(&call(), act([Step::Out(1)])).await;
    assert_eq!(node.log(), ["lane0 Absent from call"]);
    let node = again(node).await;
    node.tell(&call(), act([Step::Out(1)])).await;
    assert_eq!(node.log(), ["lane0 Absent from call"]);
    pass(61_000).await;
    node.tell(&call(), act([Step::Out(2)])).await;
    assert_eq!(node.outs(), ["call out 2"], "the tombstone is gone");
}

#[tokio::test(start_paused = true)]
async fn a_registration_after_its_tombstone_begins_with_a_higher_epoch() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([PUT])).await;
    node.tell(&reg("a"), act([Step::End { gate: true }])).await;
    pass(5_000).await;
    assert_eq!(node.fabric.live(Kind::Registration), 0);
    node.tell(&reg("a"), act([Step::Add(1), PUT])).await;
    let row = node.row(&reg("a")).unwrap();
    assert_eq!((row.epoch, row.sequence), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_side_that_was_stopped_is_not_adopted() {
    let node = with_call().await;
    node.tell(&call(), act([Step::Stop(dialog(1))])).await;
    node.tell(&dialog(2), act([Step::Stop(dialog(2))])).await;
    assert_eq!(node.fabric.live(Kind::Dialog), 0);
    let node = again(node).await;
    assert_eq!(node.log(), ["call restored NodeStart 7"]);
}

#[tokio::test(start_paused = true)]
async fn messages_for_sides_that_a_record_lacks_come_back() {
    let node = with_call().await;
    let disk = node.disk.clone();
    node.fabric.kill();
    disk.set(Mode::Held);
    let node = Node::start(disk, 2).await;
    // Before the call has begun: one side is there, one is not.
    node.tell(&dialog(1), act([Step::Out(1)])).await;
    node.tell(&dialog(9), act([Step::Out(9)])).await;
    node.answer(true).await;
    let log = node.log();
    assert!(
        log.contains(&"lane0 Absent from dialog9".to_owned()),
        "{log:?}"
    );
    assert!(log.contains(&"dialog1 out 1".to_owned()), "{log:?}");
    node.tell(&dialog(8), act([])).await;
    assert_eq!(node.log(), ["lane0 Absent from dialog8"]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_lets_nothing_out() {
    let node = with_call().await;
    node.disk.set(Mode::Held);
    node.tell(&reg("a"), act([PUT, Step::Out(1), Step::Deadline(100)]))
        .await;
    assert_eq!(node.give(&lane(), act([Step::Out(2)])), Delivery::Accepted);
    node.fabric.kill();
    let before = node.disk.counts();
    node.log();
    node.answer(true).await;
    pass(5_000).await;
    assert_eq!(node.give(&lane(), act([Step::Out(3)])), Delivery::Absent);
    assert!(
        !node
            .fabric
            .start_system(contract::ActorId::Console(contract::NodeId(1)))
    );
    node.fabric
        .spawn_child(&call(), dialog(5), act([Step::Out(4)]));
    node.fabric.tell(&call(), lane(), note("hello"));
    settle().await;
    assert_eq!(node.log(), Vec::<String>::new());
    assert_eq!(node.disk.counts(), before);
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_waits_for_the_disk() {
    let node = Node::new().await;
    node.disk.set(Mode::Held);
    node.tell(&reg("a"), act([PUT, Step::Out(1)])).await;
    let fabric = node.fabric.clone();
    let (end, ()) = tokio::join!(fabric.shutdown(), async {
        pass(100).await;
        assert_eq!(node.give(&lane(), act([])), Delivery::Busy);
        node.answer(true).await;
    });
    assert_eq!((end, node.outs()), ((), vec!["a out 1".to_owned()]));
    assert_eq!(node.give(&lane(), act([])), Delivery::Busy);
    assert!(node.fabric.tree().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_does_not_wait_for_ever() {
    let node = Node::new().await;
    node.disk.set(Mode::Held);
    node.tell(&reg("a"), act([PUT, Step::Out(1)])).await;
    let before = tokio::time::Instant::now();
    node.fabric.shutdown().await;
    assert!(before.elapsed().as_secs() <= 4);
    node.answer(true).await;
    assert!(node.outs().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_grows_with_the_number_of_lives() {
    let node = Node::start(Disk::new(), 1).await;
    for round in 0..20 {
        node.tell(&reg("a"), act([Step::Add(1), PUT])).await;
        let side = Step::Spawn(dialog(1), Box::new(act([PUT])));
        node.tell(&reg(&format!("r{round}")), act([])).await;
        node.tell(&call(), act([side, Step::Stop(call())])).await;
        pass(5_000).await;
    }
    let inner = &node.fabric.inner;
    // The root, a supervisor a kind, the lane.
    assert_eq!(inner.names.lock().unwrap().len(), 2 + Kind::ALL.len());
    assert_eq!(node.fabric.tree().len(), 1 + Kind::ALL.len());
    assert!(inner.records.of(&reg("a")).is_none() && inner.records.of(&call()).is_none());
    assert!(inner.index.next(node.fabric.now()).is_none());
    assert!(BEGIN.0 < node.fabric.now().utc.0);
    node.fabric
        .deliver(&lane(), Event::ChildLost { id: call() });
}
