//! Several nodes: messages for actors of another one, what comes back, octets for its sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use contract::{
    ActorId, Boot, Door, FlowRef, FrameClass, ListenerId, Member, MemberState, NodeId, NodeInst,
    Peer, PeerFault, PeerSink, Peers,
};

use super::kit::{Counter, Step, act, lane, note};
use super::world::{Disk, Node, pass};
use crate::Fabric;

/// What connects the nodes of a test; frames arrive at once.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) fabrics: Mutex<BTreeMap<NodeInst, Fabric<Counter>>>,
    is_full: Mutex<bool>,
    /// Frames from the one to the other are lost.
    pub(super) torn: Mutex<Option<(NodeInst, NodeInst)>>,
    kept: Mutex<Vec<(NodeId, Vec<Peer>)>>,
    pub(super) required: Mutex<Vec<(NodeId, contract::SchemaVersion)>>,
}

/// One end of it.
pub(super) struct End(pub(super) NodeInst, pub(super) Arc<Wire>);

impl Peers for End {
    fn attach(&self, _: Arc<dyn PeerSink>) {}

    fn require(&self, schema: contract::SchemaVersion) {
        self.1.required.lock().unwrap().push((self.0.node, schema));
    }

    fn keep(&self, peers: Vec<Peer>) {
        self.1.kept.lock().unwrap().push((self.0.node, peers));
    }

    fn greet(&self, _: SocketAddr) {}

    fn send(&self, to: NodeInst, _: FrameClass, frame: Bytes) -> Result<(), PeerFault> {
        if *self.1.is_full.lock().unwrap() {
            return Err(PeerFault::Busy);
        }
        if *self.1.torn.lock().unwrap() == Some((self.0, to)) {
            return Ok(());
        }
        let fabric = self.1.fabrics.lock().unwrap().get(&to).cloned();
        let fabric = fabric.ok_or(PeerFault::Absent)?;
        assert!(fabric.on_frame(self.0, &frame), "it is expected");
        Ok(())
    }

    fn gossip(&self, _: SocketAddr, _: Bytes) {}
}

pub(super) fn inst(node: u16) -> NodeInst {
    NodeInst {
        node: NodeId(node),
        boot: Boot(5),
    }
}

pub(super) fn lane_of(node: u16) -> ActorId {
    ActorId::Lane(NodeId(node), 0)
}

pub(super) fn member(node: u16) -> Member {
    Member {
        peer: Peer {
            inst: inst(node),
            address: SocketAddr::from(([10, 0, 0, node as u8], 7_946)),
        },
        name: format!("weft-{node}"),
        state: MemberState::Up,
        zone: String::new(),
        weight: 100,
        schema: contract::SchemaVersion::NEWEST,
    }
}

/// Two nodes that are connected with each other.
async fn two() -> (Node, Node, Arc<Wire>) {
    let wire = Arc::new(Wire::default());
    let mut nodes = Vec::new();
    for node in [1, 2] {
        let end: Arc<dyn Peers> = Arc::new(End(inst(node), Arc::clone(&wire)));
        let node = Node::start_as(inst(node), Disk::new(), Some(end)).await;
        let fabric = node.fabric.clone();
        wire.fabrics.lock().unwrap().insert(fabric.me(), fabric);
        nodes.push(node);
    }
    let second = nodes.pop().expect("two");
    let first = nodes.pop().expect("two");
    first
        .fabric
        .set_connected(inst(2), contract::SchemaVersion::OLDEST);
    second
        .fabric
        .set_connected(inst(1), contract::SchemaVersion::OLDEST);
    (first, second, wire)
}

pub(super) fn tell(to: ActorId, text: &'static str) -> Step {
    Step::Tell(to, Box::new(note(text)))
}

#[tokio::test(start_paused = true)]
async fn a_message_for_a_system_actor_of_another_node_arrives_in_order() {
    let (first, second, _) = two().await;
    let steps: Vec<Step> = ["one", "two", "three"]
        .into_iter()
        .map(|text| tell(lane_of(2), text))
        .collect();
    first.tell(&lane(), act(steps)).await;
    assert_eq!(second.log(), ["lane0 one", "lane0 two", "lane0 three"]);
    assert_eq!(first.log(), ["lane0 do"]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_takes_there_comes_back() {
    let (first, second, _) = two().await;
    let flow = ActorId::Flow(NodeId(2), 77);
    first.tell(&lane(), act([tell(flow, "hello")])).await;
    assert_eq!(first.log(), ["lane0 do", "lane0 Absent from flow77"]);
    assert!(second.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_and_a_lost_connection_give_it_back() {
    let (first, _second, wire) = two().await;
    *wire.is_full.lock().unwrap() = true;
    first.tell(&lane(), act([tell(lane_of(2), "hello")])).await;
    assert_eq!(first.log(), ["lane0 do", "lane0 Busy from lane0"]);
    *wire.is_full.lock().unwrap() = false;
    first.fabric.set_view(vec![member(1), member(2)]);
    first.fabric.set_lost(inst(2));
    // Of a node that has just started, nobody is gone before it has looked.
    first.tell(&lane(), act([tell(lane_of(9), "hello")])).await;
    assert_eq!(first.log(), ["lane0 do", "lane0 Busy from lane0"]);
    pass(5_000).await;
    first.tell(&lane(), act([tell(lane_of(9), "hello")])).await;
    assert_eq!(first.log(), ["lane0 do", "lane0 Absent from lane0"]);
    // A member that cannot be reached may be back at once.
    first.tell(&lane(), act([tell(lane_of(2), "hello")])).await;
    assert_eq!(first.log(), ["lane0 do", "lane0 Busy from lane0"]);
    first.fabric.set_view(vec![member(1)]);
    first.tell(&lane(), act([tell(lane_of(2), "hello")])).await;
    assert_eq!(first.log(), ["lane0 do", "lane0 Absent from lane0"]);
}

/// A life that was lost late does not take the connection of the next one away.
#[tokio::test(start_paused = true)]
async fn a_late_loss_of_an_older_life_changes_nothing() {
    let (first, second, _) = two().await;
    let older = NodeInst {
        boot: Boot(4),
        ..inst(2)
    };
    first.fabric.set_lost(older);
    first.tell(&lane(), act([tell(lane_of(2), "hello")])).await;
    assert_eq!(second.log(), ["lane0 hello"]);
}

#[tokio::test(start_paused = true)]
async fn octets_go_to_the_node_that_has_the_socket() {
    let (first, second, _) = two().await;
    let flow = |node| FlowRef::Stream {
        node: NodeId(node),
        number: 3,
        listener: ListenerId(0),
        remote: "192.0.2.1:5060".parse().expect("an address"),
        door: Door::Sip,
    };
    assert!(first.fabric.send_away(flow(2), Bytes::from_static(b"BYE")));
    assert_eq!(second.log(), ["send flow:2/3/192.0.2.1:5060 3"]);
    assert!(!first.fabric.send_away(flow(9), Bytes::from_static(b"BYE")));
    // A frame for a socket of somebody else is not ours to write.
    let frame = cluster::Frame::Send {
        flow: flow(7),
        bytes: Bytes::from_static(b"BYE"),
    };
    assert!(
        !second.fabric.on_frame(
            inst(1),
            &frame
                .write(contract::SchemaVersion::NEWEST)
                .expect("it fits")
        )
    );
    assert!(second.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn octets_that_are_no_frame_change_nothing() {
    let (first, _second, _) = two().await;
    for octets in [&b""[..], b"\x01", b"\x01\0garbage", b"\x09\0\0\0"] {
        assert!(!first.fabric.on_frame(inst(2), octets));
    }
    assert!(first.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn connections_are_kept_with_the_others_of_the_view() {
    let (first, _second, wire) = two().await;
    let members: Vec<Member> = (1..=3).map(member).collect();
    first.fabric.set_view(members.clone());
    assert_eq!(first.fabric.members(), members);
    let kept = wire.kept.lock().unwrap().pop().expect("told");
    let nodes: Vec<u16> = kept.1.iter().map(|peer| peer.inst.node.0).collect();
    assert_eq!((kept.0, nodes), (NodeId(1), vec![2, 3]));
    // A node that is alone keeps none.
    let alone = Node::new().await;
    alone.fabric.set_view(members);
    assert!(alone.fabric.members().is_empty());
}
