//! What is written is what every node of the view reads, and records say which schema they need.

use contract::limits::SCHEMA_STEP_MS;
use contract::{Member, MemberState, NodeId, SchemaVersion};

use super::kit::*;
use super::mesh::{inst, member};
use super::replicas::Cluster;
use super::world::*;

const OLD: SchemaVersion = SchemaVersion::OLDEST;
const NEW: SchemaVersion = SchemaVersion::NEWEST;

/// Shows every node a cluster in which each takes that schema.
fn show(cluster: &Cluster, schemas: &[SchemaVersion]) {
    let members: Vec<Member> = (1..)
        .zip(schemas)
        .map(|(node, schema)| Member {
            schema: *schema,
            ..member(node)
        })
        .collect();
    for node in &cluster.nodes {
        node.fabric.set_view(members.clone());
    }
}

fn spoken(cluster: &Cluster) -> Vec<SchemaVersion> {
    let nodes = cluster.nodes.iter();
    nodes.map(|node| node.fabric.spoken()).collect()
}

/// Returns the schemas that nodes have asked of others.
fn required(cluster: &Cluster) -> Vec<(NodeId, SchemaVersion)> {
    let mut required = cluster.wire.required.lock().unwrap().clone();
    required.sort();
    required
}

#[tokio::test(start_paused = true)]
async fn a_node_alone_writes_the_newest_schema_and_a_cluster_what_all_have_taken_for_a_while() {
    assert_eq!(Node::new().await.fabric.spoken(), NEW);
    let cluster = Cluster::of(3).await;
    show(&cluster, &[OLD; 3]);
    show(&cluster, &[NEW; 3]);
    assert_eq!(spoken(&cluster), [OLD; 3]);
    pass(SCHEMA_STEP_MS - 1).await;
    assert_eq!(spoken(&cluster), [OLD; 3]);
    pass(1).await;
    assert_eq!(spoken(&cluster), [NEW; 3]);
    // One that takes less is back (its own operator has told it, not this test), or a node that is
    // connected has said nothing yet.
    show(&cluster, &[NEW, OLD, NEW]);
    assert_eq!(spoken(&cluster), [OLD, NEW, OLD]);
    show(&cluster, &[NEW, NEW, NEW]);
    pass(SCHEMA_STEP_MS).await;
    cluster.nodes[0]
        .fabric
        .set_connected(inst(9), contract::SchemaVersion::OLDEST);
    assert_eq!(spoken(&cluster), [OLD, NEW, NEW]);
}

#[tokio::test(start_paused = true)]
async fn what_is_only_said_to_a_node_is_in_its_own_words_also_while_the_view_lacks_it() {
    let cluster = Cluster::of(3).await;
    show(&cluster, &[NEW, NEW, OLD]);
    let fabric = &cluster.nodes[0].fabric;
    assert_eq!(fabric.spoken(), OLD);
    let words = || [2, 3].map(|node| fabric.schema_for(inst(node)));
    assert_eq!(words(), [NEW, OLD]);
    fabric.set_view(vec![member(1)]);
    assert_eq!(words(), [NEW, OLD], "a life's word stays");
    let later = contract::NodeInst {
        boot: contract::Boot(inst(2).boot.0 + 1),
        ..inst(2)
    };
    assert_eq!(
        fabric.schema_for(later),
        OLD,
        "another life has said nothing"
    );
}

/// It was taken for a node of the former release, which has no word for a bequest: simulator, 3 nodes,
/// 10 minutes, seed 30048.
#[tokio::test(start_paused = true)]
async fn what_a_node_said_when_it_connected_counts_until_gossip_has_its_word() {
    let cluster = Cluster::of(3).await;
    let fabric = &cluster.nodes[0].fabric;
    let later = contract::NodeInst {
        boot: contract::Boot(inst(2).boot.0 + 1),
        ..inst(2)
    };
    let mut heard = member(2);
    heard.peer.inst = later;
    heard.schema = OLD;
    // As gossip shows a life that it has just found.
    let found = Member {
        name: String::new(),
        state: MemberState::Joining,
        weight: 0,
        ..heard.clone()
    };
    fabric.set_view(vec![member(1), found.clone(), member(3)]);
    assert_eq!(fabric.schema_for(later), OLD, "nothing was said at all");
    fabric.set_connected(later, NEW);
    assert_eq!(fabric.schema_for(later), NEW);
    fabric.set_view(vec![member(1), found.clone(), member(3)]);
    assert_eq!(fabric.schema_for(later), NEW);
    // Nothing that is stored is written for more than it is known to take.
    assert_eq!(fabric.spoken(), OLD);
    fabric.set_view(vec![member(1), heard, member(3)]);
    assert_eq!(fabric.schema_for(later), OLD, "its own word");
    fabric.set_view(vec![member(1), found, member(3)]);
    assert_eq!(fabric.schema_for(later), OLD, "a life's word stays");
}

#[tokio::test(start_paused = true)]
async fn records_say_what_they_were_written_for_and_every_holder_asks_it_of_newcomers() {
    let cluster = Cluster::of(3).await;
    show(&cluster, &[NEW, NEW, NEW]);
    cluster.say(0, &reg("a"), act([Step::Add(1), PUT])).await;
    pass(SCHEMA_STEP_MS).await;
    assert!(required(&cluster).is_empty(), "nothing was written since");
    cluster.say(0, &reg("a"), act([Step::Add(1), PUT])).await;
    let holders: Vec<_> = (1..=3).map(|node| (NodeId(node), NEW)).collect();
    assert_eq!(required(&cluster), holders);
    // The next life finds it in its store, before anybody can be let in.
    cluster.wire.required.lock().unwrap().clear();
    let disk = std::sync::Arc::clone(&cluster.nodes[0].disk);
    let end = super::mesh::End(inst(1), std::sync::Arc::clone(&cluster.wire));
    let _again = Node::start_as(inst(1), disk, Some(std::sync::Arc::new(end))).await;
    assert_eq!(required(&cluster), [(NodeId(1), NEW)]);
}
