//! A node whose store has lost something: it owns nothing and answers nobody until the others have
//! given it what it lacks (I19).

use contract::limits::QUARANTINE_ALONE_MS;
use contract::{Boot, NodeId, NodeInst};

use super::kit::{PUT, Step, act, reg};
use super::replicas::Cluster;
use super::world::{pass, settle};

fn next_life(of: NodeInst) -> NodeInst {
    NodeInst {
        node: of.node,
        boot: Boot(of.boot.0 + 1),
    }
}

/// Records on three nodes, each begun at another one.
async fn cluster() -> Cluster {
    let cluster = Cluster::of(3).await;
    for (at, name) in ["a", "b", "c", "d", "e", "f"].into_iter().enumerate() {
        let steps = act([Step::Add(7), PUT]);
        cluster.say(at % 3, &reg(name), steps).await;
    }
    cluster
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lost_everything_owns_nothing_until_the_others_gave_it_back() {
    let mut cluster = cluster().await;
    let life = cluster.nodes[0].fabric.me();
    let had = cluster.nodes[0].disk.len();
    assert!(had >= 6, "it holds all of them");
    let disk = cluster.kill(0);
    disk.lose();
    cluster.add(next_life(life), disk).await;
    let at = cluster.nodes.len() - 1;
    let fabric = cluster.nodes[at].fabric.clone();
    assert!(fabric.is_quarantined());
    let health = fabric.health();
    assert!(health.quarantined && health.draining, "nothing new here");
    // Its own records were taken up by others, and are found through it.
    for name in ["a", "b", "c", "d", "e", "f"] {
        cluster.say(at, &reg(name), act([Step::Add(1), PUT])).await;
        assert!(
            !cluster.hosts(&reg(name)).contains(&at),
            "{name} runs there"
        );
    }
    // One that is just being taken over may be busy; that it is not there, nobody may say.
    let back = cluster.nodes[at].log();
    assert!(back.iter().all(|line| !line.contains("Absent")), "{back:?}");
    pass(20_000).await;
    assert!(!fabric.is_quarantined(), "it is over");
    assert!(!fabric.health().draining);
    cluster.show();
    pass(10_000).await;
    assert!(cluster.nodes[at].disk.len() >= had, "it has them again");
    for name in ["a", "b", "c", "d", "e", "f"] {
        let hosts = cluster.hosts(&reg(name));
        assert!(hosts.len() <= 1, "{name} runs once");
        cluster.say(at, &reg(name), act([Step::Add(1), PUT])).await;
        let hosts = cluster.hosts(&reg(name));
        let row = cluster.nodes[hosts[0]].row(&reg(name)).expect("it runs");
        let busy = format!("lane0 Busy from {name}");
        let undone = back.iter().filter(|line| **line == busy).count();
        let expected = (9 - undone).to_string();
        assert_eq!(row.state, expected, "{name}: nothing is forgotten");
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_node_that_loses_what_it_holds_keeps_its_actors_and_is_repaired() {
    let cluster = cluster().await;
    let lost = 1;
    let before: Vec<_> = ["a", "b", "c", "d", "e", "f"]
        .into_iter()
        .filter(|name| cluster.hosts(&reg(name)) == [lost])
        .collect();
    let had = cluster.nodes[lost].disk.len();
    cluster.nodes[lost].disk.lose();
    settle().await;
    let fabric = &cluster.nodes[lost].fabric;
    assert!(!fabric.is_quarantined(), "it goes on with what it knows");
    pass(20_000).await;
    assert!(!cluster.nodes[lost].fabric.env().store().is_quarantined());
    assert!(cluster.nodes[lost].disk.len() >= had, "it has them again");
    for name in before {
        cluster.say(0, &reg(name), act([Step::Add(1), PUT])).await;
        assert_eq!(cluster.hosts(&reg(name)), [lost], "{name} has stayed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_finds_nobody_goes_on_after_a_while() {
    let mut cluster = cluster().await;
    let life = cluster.nodes[0].fabric.me();
    let disk = cluster.kill(0);
    disk.lose();
    cluster.kill(0);
    cluster.kill(0);
    cluster.add(next_life(life), disk).await;
    assert_eq!(life.node, NodeId(1));
    pass(QUARANTINE_ALONE_MS - 1_000).await;
    assert!(cluster.nodes[0].fabric.is_quarantined());
    pass(3_000).await;
    assert!(!cluster.nodes[0].fabric.is_quarantined());
    cluster.show();
    cluster.say(0, &reg("a"), act([Step::Add(1), PUT])).await;
    assert_eq!(cluster.hosts(&reg("a")), [0], "it takes new work");
}
