//! The event log of several nodes: what one says is read at all, also after it is gone.

use std::sync::Arc;

use cluster::{Cursor, Gap, Item};
use contract::limits::{EVENT_BATCH_MS, EVENT_COMPARE_MS, EVENT_TAIL_MS};
use contract::{BindingNews, Boot, CallKey, CallNews, Emitted, MemberState, NodeInst};

use super::mesh::{inst, member};
use super::replicas::Cluster;
use super::world::{Node, pass};

fn key(number: u128) -> CallKey {
    CallKey::from_bits(number << 8)
}

fn say(node: &Node, call: u128, news: CallNews) {
    let call = key(call);
    node.fabric.log_emitted(&Emitted::CallState { call, news });
}

/// What a reader is told: life, number, kind; gaps apart.
fn read(node: &Node, cursor: &mut Cursor) -> (Vec<(NodeInst, u64, &'static str)>, Vec<Gap>) {
    let (mut events, mut gaps) = (Vec::new(), Vec::new());
    loop {
        let seen = node.fabric.read_events(cursor, |_| true);
        for (item, _) in seen.items {
            match item {
                Item::Event {
                    life,
                    number,
                    event,
                } => events.push((life, number, event.kind())),
                Item::Gap(gap) => gaps.push(gap),
            }
        }
        if !seen.has_more {
            return (events, gaps);
        }
    }
}

fn kinds(events: &[(NodeInst, u64, &'static str)]) -> Vec<&'static str> {
    events.iter().map(|(_, _, kind)| *kind).collect()
}

#[tokio::test(start_paused = true)]
async fn what_one_node_says_is_read_at_all_of_them() {
    let cluster = Cluster::of(3).await;
    let mut cursors: Vec<Cursor> = cluster
        .nodes
        .iter()
        .map(|node| node.fabric.events_end())
        .collect();
    let changed = cluster.nodes[2].fabric.events_changed();
    say(&cluster.nodes[0], 1, CallNews::Answered);
    let (events, _) = read(&cluster.nodes[0], &mut cursors[0]);
    assert_eq!(
        kinds(&events),
        ["call.answered"],
        "at once where it happened"
    );
    pass(EVENT_BATCH_MS + 10).await;
    assert!(changed.has_changed().expect("it is there"));
    for at in [1, 2] {
        let (there, gaps) = read(&cluster.nodes[at], &mut cursors[at]);
        assert_eq!((there, gaps), (events.clone(), Vec::new()));
    }
    assert_eq!(cursors[0], cursors[1]);
    let refreshed = Emitted::Registration {
        aor: "1000@weft.test".to_owned(),
        news: BindingNews::Refreshed,
        contact: "sip:1000@192.0.2.1".to_owned(),
    };
    cluster.nodes[0].fabric.log_emitted(&refreshed);
    assert!(read(&cluster.nodes[0], &mut cursors[0]).0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_a_node_that_is_killed_goes_on_at_another() {
    let mut cluster = Cluster::of(3).await;
    let mut cursor = cluster.nodes[0].fabric.events_end();
    say(&cluster.nodes[0], 1, CallNews::Answered);
    pass(EVENT_BATCH_MS + 10).await;
    // What it says last, nobody else hears.
    say(&cluster.nodes[0], 1, CallNews::Held);
    let dead = cluster.nodes[0].fabric.me();
    let (events, _) = read(&cluster.nodes[0], &mut cursor);
    assert_eq!(kinds(&events), ["call.answered", "call.held"]);
    cluster.kill(0);
    let state = "held".to_owned();
    say(&cluster.nodes[0], 1, CallNews::TakenOver { state });
    pass(EVENT_BATCH_MS + 10).await;
    let (events, gaps) = read(&cluster.nodes[1], &mut cursor);
    assert_eq!(gaps, [], "the others may still have more of it");
    let calls = events
        .iter()
        .filter(|(_, _, kind)| kind.starts_with("call."));
    assert_eq!(calls.count(), 1, "{events:?}");
    let gone = events.iter().filter(|(_, _, kind)| *kind == "node.gone");
    assert_eq!(gone.count(), 2, "each of the others says so: {events:?}");
    pass(EVENT_TAIL_MS + EVENT_COMPARE_MS).await;
    let gap = |from| Gap {
        life: dead,
        from,
        until: None,
    };
    let (_, gaps) = read(&cluster.nodes[1], &mut cursor);
    let last = gaps[0].from;
    assert_eq!(gaps, [gap(last)]);
    let log = cluster.nodes[1].fabric.events_of(key(1));
    let kinds: Vec<_> = log
        .events
        .iter()
        .map(|(_, _, event)| event.kind())
        .collect();
    assert_eq!(kinds, ["call.answered", "call.taken_over"]);
    assert_eq!(log.gaps, [gap(last - 1)], "here it ends before the hold");
    let cursor: Cursor = cursor.to_string().parse().expect("its own");
    let mut again = cursor.clone();
    assert_eq!(
        read(&cluster.nodes[0], &mut again),
        (Vec::new(), Vec::new())
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_has_all_of_the_log() {
    let mut cluster = Cluster::of(3).await;
    let mut cursor = cluster.nodes[0].fabric.events_end();
    say(&cluster.nodes[0], 1, CallNews::Answered);
    pass(EVENT_BATCH_MS + 10).await;
    let former = cluster.nodes[0].fabric.me();
    let disk = cluster.kill(0);
    for number in 0..600 {
        say(&cluster.nodes[0], number, CallNews::Resumed);
    }
    pass(1_000).await;
    let life = NodeInst {
        node: former.node,
        boot: Boot(former.boot.0 + 1),
    };
    cluster.add(life, disk).await;
    pass(EVENT_COMPARE_MS).await;
    let (events, gaps) = read(&cluster.nodes[2], &mut cursor);
    let resumed = events.iter().filter(|(_, _, kind)| *kind == "call.resumed");
    assert_eq!(resumed.count(), 600);
    assert_eq!(events[0], (former, events[0].1, "call.answered"));
    assert_eq!(gaps.len(), 1, "its own end is unknown: {gaps:?}");
    let own = events.iter().filter(|(of, _, _)| *of == life);
    assert_eq!(own.clone().next().map(|(_, number, _)| *number), Some(1));
}

#[tokio::test(start_paused = true)]
async fn all_nodes_that_start_again_have_what_was_written() {
    let mut cluster = Cluster::of(2).await;
    let mut cursor = cluster.nodes[0].fabric.events_end();
    say(&cluster.nodes[0], 1, CallNews::Answered);
    pass(EVENT_BATCH_MS + 10).await;
    let lives: Vec<NodeInst> = cluster.nodes.iter().map(|node| node.fabric.me()).collect();
    let disks = [cluster.kill(0), cluster.kill(0)];
    for (life, disk) in lives.into_iter().zip(disks) {
        let boot = Boot(life.boot.0 + 1);
        cluster.add(NodeInst { boot, ..life }, disk).await;
    }
    // They were connected before they knew what each other takes.
    pass(EVENT_COMPARE_MS).await;
    let (events, _) = read(&cluster.nodes[1], &mut cursor);
    assert!(kinds(&events).contains(&"call.answered"), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_ends_in_order_says_so_and_leaves_no_gap() {
    let mut cluster = Cluster::of(3).await;
    let mut cursor = cluster.nodes[0].fabric.events_end();
    say(&cluster.nodes[0], 1, CallNews::Answered);
    cluster.nodes[0].fabric.shutdown().await;
    say(&cluster.nodes[0], 1, CallNews::Held);
    cluster.kill(0);
    pass(EVENT_TAIL_MS + EVENT_COMPARE_MS).await;
    let (events, gaps) = read(&cluster.nodes[0], &mut cursor);
    let heard = kinds(&events);
    assert_eq!(heard[..2], ["call.answered", "node.left"], "{events:?}");
    assert_eq!(gaps, []);
}

#[tokio::test(start_paused = true)]
async fn nodes_are_told_as_they_come_drain_and_go() {
    let cluster = Cluster::of(2).await;
    let node = &cluster.nodes[0];
    let mut cursor = Cursor::default();
    let (events, _) = read(node, &mut cursor);
    let own = node.fabric.me();
    let of_own = |events: &[(NodeInst, u64, &'static str)]| -> Vec<&'static str> {
        let own = events.iter().filter(|(life, _, _)| *life == own);
        own.map(|(_, _, kind)| *kind).collect()
    };
    assert_eq!(of_own(&events), ["node.up", "node.up"]);
    let mut other = member(2);
    other.state = MemberState::Draining;
    let view = vec![member(1), other];
    node.fabric.set_view(view.clone());
    node.fabric.set_view(view);
    let (events, _) = read(node, &mut cursor);
    assert_eq!(of_own(&events), ["node.draining"], "once");
    node.fabric.set_down(inst(2), true);
    node.fabric.set_view(vec![member(1)]);
    let (events, _) = read(node, &mut cursor);
    assert_eq!(of_own(&events), ["node.gone"], "once");
    node.fabric.set_health(contract::Space::Ample, true);
    node.fabric.set_health(contract::Space::Ample, true);
    let (events, _) = read(node, &mut cursor);
    assert_eq!(of_own(&events), ["node.draining"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_alone_keeps_its_log_over_a_kill() {
    let node = Node::new().await;
    let mut cursor = node.fabric.events_end();
    say(&node, 1, CallNews::Answered);
    pass(EVENT_BATCH_MS + 10).await;
    let life = node.fabric.me();
    node.fabric.kill();
    let boot = Boot(life.boot.0 + 1);
    let node = Node::start_as(NodeInst { boot, ..life }, Arc::clone(&node.disk), None).await;
    let (events, gaps) = read(&node, &mut cursor);
    assert_eq!(kinds(&events), ["call.answered", "node.up"]);
    assert_eq!(gaps, []);
    pass(EVENT_TAIL_MS + EVENT_COMPARE_MS).await;
    let (events, gaps) = read(&node, &mut cursor);
    assert_eq!((events.len(), gaps.len(), gaps[0].life), (0, 1, life));
}
