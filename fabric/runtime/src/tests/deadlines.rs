//! Deadlines: in order, never early, and what a core may not do with them.

use super::kit::{PUT, Step, act, call, lane, reg};
use super::world::{Node, pass, settle};
use crate::Delivery;

#[tokio::test(start_paused = true)]
async fn deadlines_fire_in_order_and_never_early() {
    let node = Node::new().await;
    let deadlines = [300, 100, 200, 100].map(Step::Deadline);
    node.tell(&lane(), act(deadlines)).await;
    pass(99).await;
    assert!(node.outs().is_empty());
    pass(1).await;
    assert_eq!(node.outs(), ["lane0 out 100", "lane0 out 100"]);
    pass(99).await;
    assert!(node.outs().is_empty());
    pass(500).await;
    assert_eq!(node.outs(), ["lane0 out 200", "lane0 out 300"]);
}

#[tokio::test(start_paused = true)]
async fn deadlines_of_several_actors_fire_in_the_order_of_time() {
    let node = Node::new().await;
    for (name, ms) in [("c", 30), ("a", 10), ("b", 20), ("d", 5)] {
        node.tell(&reg(name), act([Step::Deadline(ms)])).await;
    }
    pass(100).await;
    assert_eq!(node.outs(), ["d out 5", "a out 10", "b out 20", "c out 30"]);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_set_earlier_than_the_one_waited_for_is_met() {
    let node = Node::new().await;
    node.tell(&lane(), act([Step::Deadline(60_000)])).await;
    pass(10).await;
    node.tell(&lane(), act([Step::Deadline(50)])).await;
    pass(50).await;
    assert_eq!(node.outs(), ["lane0 out 60"]);
}

#[tokio::test(start_paused = true)]
async fn a_core_that_leaves_its_fired_deadline_set_is_given_up() {
    let node = Node::new().await;
    node.tell(&call(), act([Step::Deadline(10), Step::BeStubborn, PUT]))
        .await;
    pass(20).await;
    let fired = node
        .log()
        .iter()
        .filter(|line| *line == "call timer")
        .count();
    assert_eq!(fired, 64);
    assert_eq!(node.fabric.live(contract::Kind::Call), 0);
    assert_eq!(node.give(&lane(), act([])), Delivery::Accepted);
}

#[tokio::test(start_paused = true)]
async fn many_deadlines_at_one_time_do_not_hold_the_thread() {
    let node = Node::new().await;
    node.tell(&lane(), act(vec![Step::Deadline(10); 1_000]))
        .await;
    node.tell(&reg("a"), act([Step::Deadline(10)])).await;
    node.log();
    pass(10).await;
    let outs = node.outs();
    assert_eq!(outs.len(), 1_001);
    let at = outs.iter().position(|line| line == "a out 10").unwrap();
    assert!(at <= 200, "fired as number {at}");
}

#[tokio::test(start_paused = true)]
async fn a_rebuilt_core_with_more_patience_is_not_fired_early() {
    let node = Node::new().await;
    // Stored with one deadline, then given an earlier one that dies with the core.
    node.tell(&reg("a"), act([Step::Deadline(1_000), PUT]))
        .await;
    node.tell(&reg("a"), act([Step::Deadline(10)])).await;
    node.bomb(1);
    node.tell(&reg("a"), act([Step::Bomb])).await;
    pass(500).await;
    assert!(node.outs().is_empty());
    pass(500).await;
    assert_eq!(node.outs(), ["a out 1000"]);
    settle().await;
}
