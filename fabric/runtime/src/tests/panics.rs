//! Panics of cores: who dies, who does not, what comes back.

use contract::ActorId;
use contract::limits::QUARANTINE_MAX;

use super::kit::{PUT, Step, act, call, dialog, lane, note, reg};
use super::world::{Mode, Node, pass, settle};
use crate::Delivery;

#[tokio::test(start_paused = true)]
async fn a_core_comes_back_from_its_last_part_and_tries_the_event_once_more() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([Step::Add(1), PUT])).await;
    node.tell(&reg("a"), act([Step::Add(50)])).await;
    node.log();
    node.bomb(1);
    assert_eq!(
        node.give(&reg("a"), act([Step::Add(2), Step::Bomb, Step::Out(1)])),
        Delivery::Accepted
    );
    assert_eq!(
        node.give(&reg("a"), act([Step::Out(2)])),
        Delivery::Accepted
    );
    settle().await;
    let wanted = [
        "a do",
        "a restored Panic 1",
        "a do",
        "a out 1",
        "a do",
        "a out 2",
    ];
    assert_eq!(node.log(), wanted);
    let row = node.row(&reg("a")).unwrap();
    assert_eq!((row.state.as_str(), row.restarts), ("3", 1));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_kills_twice_is_set_aside_and_shown() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([Step::Add(1), PUT])).await;
    node.bomb(2);
    node.tell(&reg("a"), act([Step::Bomb, Step::Out(1)])).await;
    node.tell(&reg("a"), act([Step::Out(2)])).await;
    assert_eq!(node.outs(), ["a out 2"]);
    let view = node.view(&reg("a")).await.unwrap();
    assert_eq!(view.quarantined, ["lane:1/0: do 2 steps"]);
    assert_eq!(view.row.restarts, 2);
}

#[tokio::test(start_paused = true)]
async fn the_quarantine_of_a_node_is_bounded() {
    let node = Node::new().await;
    for number in 0..QUARANTINE_MAX + 9 {
        node.fabric.quarantine(&reg("a"), number.to_string());
    }
    let kept = node.fabric.quarantined(&reg("a"));
    assert_eq!((kept.len(), kept[0].as_str()), (QUARANTINE_MAX, "9"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_leaves_siblings_children_and_the_parent_alone() {
    let node = Node::new().await;
    let side = |number: u8| Step::Spawn(dialog(number), Box::new(act([Step::Add(1), PUT])));
    node.tell(&call(), act([Step::Add(1), PUT, side(1), side(2)]))
        .await;
    node.tell(&dialog(1), act([Step::Add(5)])).await;
    node.log();
    node.bomb(1);
    node.tell(&call(), act([Step::Bomb])).await;
    assert_eq!(node.log(), ["call do", "call restored Panic 1", "call do"]);
    node.bomb(1);
    node.tell(&dialog(2), act([Step::Bomb])).await;
    assert_eq!(
        node.log(),
        ["dialog2 do", "dialog2 restored Panic 1", "dialog2 do"]
    );
    assert_eq!(
        node.row(&dialog(1)).unwrap().state,
        "6",
        "its memory was touched"
    );
    assert_eq!(node.row(&dialog(1)).unwrap().restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_the_gate_outlives_a_panic() {
    let node = Node::new().await;
    node.disk.set(Mode::Held);
    node.tell(&reg("a"), act([Step::Add(1), PUT, Step::Out(1)]))
        .await;
    node.bomb(1);
    node.tell(&reg("a"), act([Step::Bomb, Step::Out(2)])).await;
    assert!(node.outs().is_empty());
    node.answer(true).await;
    assert_eq!(node.outs(), ["a out 1", "a out 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_core_without_a_part_is_made_anew_by_its_first_message() {
    let node = Node::new().await;
    node.bomb(1);
    node.tell(&reg("a"), act([Step::Bomb, PUT, Step::Out(1)]))
        .await;
    assert_eq!(node.log(), ["a do", "a do", "a out 1"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_stored_and_killed_twice_is_given_up_and_the_parent_told() {
    let node = Node::new().await;
    node.bomb(2);
    let side = Step::Spawn(dialog(1), Box::new(act([Step::Bomb, PUT])));
    node.tell(&call(), act([PUT, side])).await;
    let log = node.log();
    assert!(log.contains(&"call lost dialog1".to_owned()), "{log:?}");
    assert!(
        log.contains(&"call Busy from dialog1".to_owned()),
        "{log:?}"
    );
    assert!(node.row(&dialog(1)).is_none());
    assert!(node.view(&call()).await.unwrap().children.is_empty());
}

#[tokio::test(start_paused = true)]
async fn too_many_panics_give_up_a_child_with_its_part() {
    let node = Node::new().await;
    let side = |number: u8| Step::Spawn(dialog(number), Box::new(act([Step::Add(1), PUT])));
    node.tell(&call(), act([PUT, side(1), side(2)])).await;
    for _ in 0..40 {
        node.bomb(1);
        node.tell(&dialog(1), act([Step::Bomb])).await;
        pass(2_100).await;
    }
    let log = node.log();
    assert!(log.contains(&"call lost dialog1".to_owned()));
    assert!(
        log.contains(&"lane0 Busy from dialog1".to_owned()),
        "the last one goes back"
    );
    assert_eq!(node.give(&dialog(1), act([])), Delivery::Absent);
    assert_eq!(node.view(&call()).await.unwrap().children, [dialog(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_ends_its_sides_first() {
    let node = Node::new().await;
    let side = |number: u8| Step::Spawn(dialog(number), Box::new(act([Step::Add(1), PUT])));
    node.tell(&call(), act([PUT, side(1), side(2)])).await;
    for _ in 0..40 {
        node.bomb(1);
        if node.give(&call(), act([Step::Bomb])) != Delivery::Accepted {
            break;
        }
        pass(2_100).await;
        if node.fabric.live(contract::Kind::Call) == 0 {
            break;
        }
    }
    assert_eq!(node.fabric.live(contract::Kind::Call), 0);
    assert_eq!(node.fabric.live(contract::Kind::Dialog), 0);
    let left: Vec<_> = node
        .fabric
        .tree()
        .into_iter()
        .filter(|(child, _)| child.contains("dialog:"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_core_that_dies_of_its_restoration_loses_no_event() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([Step::Add(1), Step::BeCursed, PUT]))
        .await;
    // The event, then its restoration.
    node.bomb(2);
    node.tell(&reg("a"), act([Step::Bomb, Step::Out(1)])).await;
    assert_eq!(node.outs(), ["a out 1"]);
    // Killed by the restoration twice: it goes on without.
    node.bomb(3);
    node.tell(&reg("a"), act([Step::Bomb, Step::Out(2)])).await;
    assert_eq!(node.outs(), ["a out 2"]);
    let set_aside = node.view(&reg("a")).await.unwrap().quarantined;
    assert_eq!(set_aside, ["restored: Some(Panic)"]);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_actor_that_is_told_to_end_ends() {
    let node = Node::new().await;
    let side = Step::Spawn(dialog(1), Box::new(act([Step::Add(1), PUT])));
    node.tell(&call(), act([PUT, side])).await;
    // Enough for a back-off.
    for _ in 0..6 {
        node.bomb(1);
        node.tell(&dialog(1), act([Step::Bomb])).await;
    }
    assert_eq!(node.row(&dialog(1)).unwrap().state, "suspended");
    node.tell(&call(), act([Step::Stop(dialog(1))])).await;
    assert!(node.row(&dialog(1)).is_none());
}

#[tokio::test(start_paused = true)]
async fn lanes_and_others_go_on_while_one_backs_off() {
    let node = Node::new().await;
    node.tell(&reg("a"), act([PUT])).await;
    for _ in 0..6 {
        node.bomb(1);
        node.tell(&reg("a"), act([Step::Bomb])).await;
    }
    node.log();
    node.tell(&reg("a"), act([Step::Out(1)])).await;
    node.tell(&reg("b"), act([Step::Out(2)])).await;
    assert_eq!(node.outs(), ["b out 2"]);
    pass(100).await;
    assert_eq!(node.outs(), ["a out 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_shell_that_dies_leaves_no_empty_place() {
    let node = Node::new().await;
    let side = Step::Spawn(dialog(1), Box::new(act([Step::Add(1), PUT])));
    node.tell(&call(), act([Step::Add(7), PUT, side])).await;
    let kill = |id: &ActorId| {
        let entry = node.fabric.find(id).unwrap();
        node.fabric.abandon(&entry);
    };
    kill(&call());
    settle().await;
    assert!(node.fabric.find(&dialog(1)).is_none());
    node.log();
    node.tell(&call(), note("hello")).await;
    let log = node.log();
    assert!(log.contains(&"call restored Wake 7".to_owned()), "{log:?}");
    assert!(
        log.contains(&"dialog1 restored Wake 1".to_owned()),
        "{log:?}"
    );
    assert!(log.contains(&"call hello".to_owned()), "{log:?}");
    assert_eq!(node.give(&lane(), note("x")), Delivery::Accepted);
}
