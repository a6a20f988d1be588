//! Many threads at once: nothing is lost, nothing is stuck.

use std::time::Duration;

use contract::Kind;

use super::kit::{PUT, Step, act, call, dialog, reg};
use super::world::Node;
use crate::Delivery;

const THREADS: u64 = 4;
const ROUNDS: u64 = 1_000;

/// Waits until the log has so many lines that count, and counts them.
async fn count(node: &Node, wanted: usize, counts: impl Fn(&str) -> bool) -> usize {
    let found = || {
        let log = node.site.log.lock().unwrap();
        log.iter().filter(|line| counts(line)).count()
    };
    let all = async {
        while found() < wanted {
            tokio::task::yield_now().await;
        }
    };
    // Too few: the assertion of the test tells how many.
    let _ = tokio::time::timeout(Duration::from_secs(10), all).await;
    found()
}

fn from_threads(work: impl Fn(u64) -> usize + Sync) -> usize {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || work(thread)))
            .collect();
        threads.into_iter().map(|one| one.join().unwrap()).sum()
    })
}

/// Gives until all are accepted.
fn accept(give: impl Fn(u64) -> Delivery) -> usize {
    for round in 0..ROUNDS {
        while give(round) != Delivery::Accepted {
            std::thread::yield_now();
        }
    }
    usize::try_from(ROUNDS).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_accepted_event_is_handled() {
    let node = Node::new().await;
    let accepted = from_threads(|thread| {
        let give = |round: u64| {
            let id = reg(&format!("r{}", (thread + round) % 5));
            node.give(&id, act([Step::Add(1), PUT, Step::Out(round)]))
        };
        accept(give)
    });
    assert_eq!(
        count(&node, accepted, |line| line.contains(" out ")).await,
        accepted
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_actor_that_ends_and_begins_all_the_time_loses_nothing() {
    let node = Node::new().await;
    let accepted = from_threads(|_| {
        let give = |round: u64| node.give(&call(), act([Step::Out(round), Step::Stop(call())]));
        accept(give)
    });
    // Handled, or given back to the lane.
    let counts = |line: &str| line.contains(" out ") || line.ends_with("from call");
    assert_eq!(count(&node, accepted, counts).await, accepted);
    gone(&node, Kind::Call).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sides_come_and_go_with_their_call() {
    let node = Node::new().await;
    let accepted = from_threads(|thread| {
        let give = |round: u64| {
            let spawn = Step::Spawn(dialog(1), Box::new(act([Step::Deadline(1)])));
            match (thread + round) % 3 {
                0 => node.give(&call(), act([spawn, Step::Out(round)])),
                1 => node.give(&call(), act([Step::Out(round), Step::Stop(call())])),
                _ => node.give(&dialog(1), act([Step::Out(round)])),
            }
        };
        accept(give)
    });
    // Handled, or given back to the lane; deadlines of sides come on top.
    let counts = |line: &str| line.contains(" out ") || line.starts_with("lane0");
    assert!(count(&node, accepted, counts).await >= accepted);
    while node.give(&call(), act([Step::Stop(call())])) != Delivery::Accepted {
        tokio::task::yield_now().await;
    }
    gone(&node, Kind::Call).await;
    gone(&node, Kind::Dialog).await;
}

/// Who finds something due while another thread works gives it one tick, not one after the other: the
/// worker would never come to the end of them.
#[tokio::test(start_paused = true)]
async fn what_is_due_is_found_once() {
    let cluster = super::replicas::Cluster::of(2).await;
    let replicas = cluster.nodes[0].fabric.inner.replicas.as_ref();
    let replicas = replicas.expect("a node of a cluster");
    let due = replicas.due().expect("shards are compared again");
    assert!(!replicas.take_due(contract::Time::ZERO));
    assert!(replicas.take_due(due));
    assert!(!replicas.take_due(due));
    assert_eq!(replicas.due(), None);
    cluster.nodes[0].fabric.give(crate::replicas::Input::Tick);
    assert!(replicas.due().is_some(), "its worker tells the next one");
}

/// Waits until no actor of a kind is left.
async fn gone(node: &Node, kind: Kind) {
    let gone = async {
        while node.fabric.live(kind) > 0 {
            tokio::task::yield_now().await;
        }
    };
    let end = tokio::time::timeout(Duration::from_secs(10), gone).await;
    assert!(
        end.is_ok(),
        "{} of {kind:?} are left",
        node.fabric.live(kind)
    );
}
