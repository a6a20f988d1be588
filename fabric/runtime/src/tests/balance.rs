//! Registrations that go where placement wants them (`cluster.md` §3).

use std::time::Duration;

use contract::{ActorId, NodeInst};

use super::kit::{PUT, Step, act, call, reg};
use super::replicas::{Cluster, header};
use super::world::pass;
use crate::Balance;

const COUNT: usize = 60;

fn name(number: usize) -> String {
    format!("user{number}")
}

/// Three nodes, one of which has all registrations and a call, though placement wants other things.
async fn one_sided() -> Cluster {
    let cluster = Cluster::of(3).await;
    for number in 0..COUNT {
        let id = reg(&name(number));
        cluster.say(0, &id, act([Step::Add(1), PUT])).await;
        let to = cluster.nodes[0].fabric.me();
        for node in cluster.nodes.iter().filter(|node| node.fabric.me() != to) {
            node.fabric.move_to(&id, to, None, |_| {});
        }
        pass(20).await;
    }
    cluster.say(0, &call(), act([Step::Add(1), PUT])).await;
    assert_eq!(owners(&cluster), [COUNT, 0, 0]);
    cluster
}

fn owner(cluster: &Cluster, number: usize) -> NodeInst {
    header(&cluster.nodes[0], &name(number)).owner
}

/// Returns how many registrations each node has.
fn owners(cluster: &Cluster) -> Vec<usize> {
    let of = |life: NodeInst| {
        (0..COUNT)
            .filter(|one| owner(cluster, *one) == life)
            .count()
    };
    let nodes = cluster.nodes.iter();
    nodes.map(|node| of(node.fabric.me())).collect()
}

fn balance(cluster: &Cluster, least: usize) {
    for node in &cluster.nodes {
        let fabric = node.fabric.clone();
        let every = Duration::from_secs(1);
        let env = std::sync::Arc::clone(fabric.env());
        let work = async move { fabric.balance(Balance { every, least }).await };
        env.spawn("balance", Box::pin(work));
    }
}

#[tokio::test(start_paused = true)]
async fn registrations_go_to_a_node_that_lacks_them_once() {
    let cluster = one_sided().await;
    balance(&cluster, 1);
    pass(8_000).await;
    let shares = owners(&cluster);
    assert_eq!(shares.iter().sum::<usize>(), COUNT);
    assert!(shares.iter().all(|share| *share > COUNT / 6), "{shares:?}");
    let epochs = |at: usize| header(&cluster.nodes[0], &name(at)).version.epoch;
    let before: Vec<_> = (0..COUNT).map(epochs).collect();
    pass(20_000).await;
    let after: Vec<_> = (0..COUNT).map(epochs).collect();
    assert_eq!(before, after, "nothing moves again");
    let call: Vec<ActorId> = vec![call()];
    assert!(call.iter().all(|id| cluster.hosts(id) == [0]), "calls stay");
}

#[tokio::test(start_paused = true)]
async fn a_few_registrations_stay_where_they_are() {
    let cluster = one_sided().await;
    balance(&cluster, COUNT);
    pass(8_000).await;
    assert_eq!(owners(&cluster), [COUNT, 0, 0]);
}

/// A node that hands everything over takes part in nothing.
#[tokio::test(start_paused = true)]
async fn a_node_that_drains_balances_nothing() {
    let cluster = one_sided().await;
    cluster.nodes[0]
        .fabric
        .set_health(contract::Space::Ample, true);
    balance(&cluster, 1);
    pass(8_000).await;
    assert_eq!(owners(&cluster), [COUNT, 0, 0]);
}
