//! Listings, views and traces.

use std::collections::BTreeSet;

use contract::limits::{TRACE_BYTES_MAX, TRACE_EVENTS_MAX};
use contract::{Answer, Kind, Lookup};

use super::kit::{PUT, Say, Step, act, call, dialog, lane, note, reg};
use super::world::{Mode, Node, pass, settle};

/// Returns who is listed as live, and under whom.
fn listed(node: &Node) -> BTreeSet<(String, String)> {
    let rows = node.fabric.rows(None).into_iter();
    rows.filter(|row| row.live)
        .map(|row| (row.id.to_string(), row.parent))
        .collect()
}

/// Returns whom ractor runs, and under whom.
fn tree(node: &Node) -> BTreeSet<(String, String)> {
    let pairs = node.fabric.tree().into_iter();
    pairs
        .filter(|(child, _)| !child.ends_with(" supervisor"))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_listing_of_live_actors_is_ractor_s_own_tree() {
    let node = Node::new().await;
    let side = |number: u8| Step::Spawn(dialog(number), Box::new(act([PUT])));
    node.tell(&call(), act([PUT, side(1), side(2)])).await;
    node.tell(&reg("a"), act([PUT])).await;
    node.tell(&call(), act([Step::Stop(dialog(1))])).await;
    assert_eq!(listed(&node).len(), 4);
    assert_eq!(listed(&node), tree(&node));
    let kinds = node
        .fabric
        .tree()
        .into_iter()
        .filter(|(_, parent)| parent == "root");
    assert_eq!(kinds.count(), Kind::ALL.len());
}

#[tokio::test(start_paused = true)]
async fn a_side_that_waits_for_its_call_is_listed_and_does_not_run() {
    let node = Node::new().await;
    let side = Step::Spawn(dialog(1), Box::new(act([PUT])));
    node.tell(&call(), act([PUT, side])).await;
    let disk = node.disk.clone();
    node.fabric.kill();
    disk.set(Mode::Held);
    let node = Node::start(disk, 2).await;
    // The call's claim is not safe: it has no sides yet.
    node.tell(&dialog(1), act([Step::Out(1)])).await;
    let row = node.row(&dialog(1)).unwrap();
    assert_eq!(
        (row.live, row.inbox, row.state.as_str()),
        (false, 1, "waiting")
    );
    assert_eq!(row.parent, call().to_string());
    assert!(node.row(&call()).unwrap().live);
    assert_eq!(listed(&node), tree(&node));
    node.answer(true).await;
    assert!(node.row(&dialog(1)).unwrap().live);
    assert_eq!(listed(&node), tree(&node));
}

#[tokio::test(start_paused = true)]
async fn a_view_shows_an_actor_live_and_passive() {
    let node = Node::new().await;
    node.disk.set(Mode::Held);
    node.tell(
        &reg("a"),
        act([Step::Add(4), Step::Deadline(60_000), PUT, Step::Out(1)]),
    )
    .await;
    let view = node.view(&reg("a")).await.unwrap();
    assert_eq!((view.gated, view.snapshot.as_str()), (1, "{\"number\":4}"));
    assert_eq!(view.next_deadline_ms, Some(60_000));
    node.answer(true).await;
    node.disk.set(Mode::AtOnce);
    pass(10_000).await;
    let view = node.view(&reg("a")).await.unwrap();
    assert!(!view.row.live);
    assert_eq!((view.row.epoch, view.row.state.as_str()), (1, "4"));
    assert_eq!(view.next_deadline_ms, Some(50_000));
    assert!(node.view(&reg("nobody")).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_question_to_an_actor_that_leaves_is_answered() {
    let node = Node::new().await;
    node.tell(&call(), act([PUT])).await;
    let entry = node.fabric.find(&call()).unwrap();
    // It is told to end, then asked, before it runs.
    entry.push_side(crate::entry::Side::End);
    let what = Lookup::Actor { id: call() };
    node.fabric.look_up(&lane(), 5, what);
    settle().await;
    assert_eq!(node.site.answers.lock().unwrap().len(), 1);
    assert!(!entry.push_side(crate::entry::Side::End), "it is closed");
}

#[tokio::test(start_paused = true)]
async fn a_listing_is_paged_and_counted() {
    let node = Node::new().await;
    for name in ["x1", "x2", "x3", "y"] {
        node.tell(&reg(name), act([PUT])).await;
    }
    pass(5_000).await;
    let what = Lookup::Actors {
        kind: Some(Kind::Registration),
        contains: Some("x".to_owned()),
        offset: 1,
        limit: 1,
    };
    node.fabric.look_up(&lane(), 1, what);
    node.fabric.look_up(&lane(), 2, Lookup::Node);
    settle().await;
    let answers = node.site.answers.lock().unwrap();
    let [Answer::Actors { rows, total }, Answer::Node(view)] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!((rows[0].id.clone(), *total), (reg("x2"), 3));
    assert!(view.actors.contains(&(Kind::Registration, 0, 4)));
    assert!(view.actors.contains(&(Kind::Lane, 1, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_trace_keeps_the_newest_lines_within_its_bounds() {
    let node = Node::new().await;
    for _ in 0..TRACE_EVENTS_MAX {
        node.tell(&lane(), note("old")).await;
    }
    node.tell(&lane(), note("new")).await;
    let trace = |node: &Node| {
        node.site.answers.lock().unwrap().clear();
        node.fabric
            .look_up(&reg("nobody"), 1, Lookup::Trace { id: lane() });
        let entry = node.fabric.find(&lane()).unwrap();
        entry.ring.lock().unwrap().lines(&lane())
    };
    let lines = trace(&node);
    assert_eq!(lines.len(), TRACE_EVENTS_MAX);
    assert_eq!(lines.last().unwrap().text, "new");
    for _ in 0..10 {
        node.tell(&lane(), Say::Note("heavy", TRACE_BYTES_MAX / 4))
            .await;
    }
    assert_eq!(trace(&node).len(), 3);
    node.tell(&lane(), Say::Note("heaviest", TRACE_BYTES_MAX))
        .await;
    assert!(trace(&node).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_trace_of_a_call_has_the_lines_of_its_sides_in_the_order_of_time() {
    let node = Node::new().await;
    let side = Step::Spawn(dialog(1), Box::new(act([PUT])));
    node.tell(&call(), act([PUT, side])).await;
    pass(5).await;
    node.tell(&dialog(1), note("first")).await;
    pass(5).await;
    node.tell(&call(), note("second")).await;
    node.fabric
        .look_up(&lane(), 1, Lookup::Trace { id: call() });
    settle().await;
    let answers = node.site.answers.lock().unwrap();
    let [Answer::Trace(lines)] = &answers[..] else {
        panic!("{answers:?}")
    };
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(&texts[texts.len() - 2..], ["first", "second"]);
    assert!(lines.is_sorted_by_key(|line| line.mono));
}
