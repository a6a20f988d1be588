//! The network between nodes alone: handshakes, resets, cuts, order, bounds.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use contract::limits::PEER_QUEUE_FRAMES_MAX;
use contract::{
    Boot, FrameClass, Loss, NodeId, NodeInst, Peer, PeerFault, PeerSink, Peers, SchemaVersion,
};

use super::{SimPeers, Stall};
use crate::node::cluster_address;
use crate::trace::Trace;
use crate::world::World;

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn add(&self, what: String) {
        self.0.lock().expect("no test panics with it").push(what);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no test panics with it"))
    }
}

impl PeerSink for Heard {
    fn frame(&self, from: NodeInst, _: FrameClass, frame: Bytes) {
        self.add(format!("{} says {}", from.node, frame[0]));
    }

    fn gossip(&self, from: SocketAddr, datagram: Bytes) {
        self.add(format!("{from} gossips {}", datagram[0]));
    }

    fn connected(&self, peer: Peer, _: SchemaVersion) {
        self.add(format!("connected {}", peer.inst));
    }

    fn lost(&self, peer: Peer, why: Loss) {
        self.add(format!("lost {} {why:?}", peer.inst));
    }
}

struct Life {
    peers: Arc<SimPeers>,
    peer: Peer,
    heard: Arc<Heard>,
    alive: Arc<AtomicBool>,
    stall: Arc<Stall>,
}

impl Life {
    fn begin(world: &Arc<World>, number: u16, boot: u64) -> Life {
        let inst = NodeInst {
            node: NodeId(number),
            boot: Boot(boot),
        };
        let address = cluster_address(number);
        let peer = Peer { inst, address };
        let alive = Arc::new(AtomicBool::new(true));
        let stall = Arc::new(Stall::default());
        let peers = SimPeers::begin(world, peer, &alive, &stall);
        let heard = Arc::new(Heard::default());
        peers.attach(heard.clone());
        Life {
            peers,
            peer,
            heard,
            alive,
            stall,
        }
    }

    fn end(&self) {
        self.alive.store(false, Ordering::Relaxed);
        self.peers.crash();
    }

    fn say(&self, to: &Life, word: u8) -> Result<(), PeerFault> {
        let frame = Bytes::from(vec![word]);
        self.peers.send(to.peer.inst, FrameClass::Commit, frame)
    }
}

fn pass(world: &Arc<World>, length: Duration) {
    let end = world.now().mono + length;
    while let Some(happening) = world.next(end) {
        happening(world);
    }
    world.advance(end);
}

/// Two nodes that keep each other and are connected.
fn pair() -> (Arc<World>, Life, Life) {
    let world = World::new(7, Trace::new(None));
    let (one, two) = (Life::begin(&world, 1, 5), Life::begin(&world, 2, 5));
    one.peers.keep(vec![two.peer]);
    two.peers.keep(vec![one.peer]);
    pass(&world, Duration::from_millis(50));
    assert_eq!(one.heard.take(), ["connected 2.5"]);
    assert_eq!(two.heard.take(), ["connected 1.5"]);
    (world, one, two)
}

#[test]
fn frames_come_in_order_and_none_twice() {
    let (world, one, two) = pair();
    for word in 0..50 {
        assert_eq!(one.say(&two, word), Ok(()));
    }
    pass(&world, Duration::from_millis(50));
    let wanted: Vec<_> = (0..50).map(|word| format!("1 says {word}")).collect();
    assert_eq!(two.heard.take(), wanted);
}

#[test]
fn a_killed_process_is_refused_and_met_again_with_its_next_boot() {
    let (world, one, two) = pair();
    two.end();
    pass(&world, Duration::from_millis(50));
    assert_eq!(one.heard.take(), ["lost 2.5 Refused"]);
    assert_eq!(one.say(&two, 1), Err(PeerFault::Absent));
    let again = Life::begin(&world, 2, 6);
    again.peers.greet(one.peer.address);
    pass(&world, Duration::from_secs(3));
    assert_eq!(one.heard.take(), ["connected 2.6"]);
    assert_eq!(again.heard.take(), ["connected 1.5"]);
    again.end();
    pass(&world, Duration::from_millis(50));
    assert_eq!(one.heard.take(), ["lost 2.6 Refused"]);
    let older = Life::begin(&world, 2, 5);
    older.peers.greet(one.peer.address);
    pass(&world, Duration::from_secs(3));
    assert!(older.heard.take().is_empty());
    assert!(one.heard.take().is_empty());
}

#[test]
fn a_cut_is_silent_at_both_ends_and_heals() {
    let (world, one, two) = pair();
    let (here, there) = (one.peer.address.ip(), two.peer.address.ip());
    world.mesh().cut(here, there);
    world.mesh().cut(there, here);
    pass(&world, Duration::from_millis(1_400));
    assert!(one.heard.take().is_empty());
    pass(&world, Duration::from_millis(1_700));
    assert_eq!(one.heard.take(), ["lost 2.5 Silent"]);
    assert_eq!(two.heard.take(), ["lost 1.5 Silent"]);
    world.mesh().heal(here, there);
    world.mesh().heal(there, here);
    pass(&world, Duration::from_secs(6));
    assert_eq!(one.heard.take(), ["connected 2.5"]);
    assert_eq!(two.heard.take(), ["connected 1.5"]);
}

#[test]
fn frames_wait_for_a_short_cut_to_heal_and_are_bounded() {
    let (world, one, two) = pair();
    let (here, there) = (one.peer.address.ip(), two.peer.address.ip());
    world.mesh().cut(here, there);
    for word in 0..PEER_QUEUE_FRAMES_MAX {
        assert_eq!(one.say(&two, (word % 100) as u8), Ok(()));
    }
    assert_eq!(one.say(&two, 0), Err(PeerFault::Busy));
    pass(&world, Duration::from_millis(300));
    assert!(two.heard.take().is_empty());
    world.mesh().heal(here, there);
    pass(&world, Duration::from_millis(300));
    assert_eq!(two.heard.take().len(), PEER_QUEUE_FRAMES_MAX);
}

#[test]
fn gossip_and_frames_wait_for_a_process_that_stalls() {
    let (world, one, two) = pair();
    two.stall
        .stall(world.now().mono + Duration::from_millis(900));
    one.peers.gossip(two.peer.address, Bytes::from_static(&[9]));
    assert_eq!(one.say(&two, 3), Ok(()));
    pass(&world, Duration::from_millis(800));
    assert!(two.heard.take().is_empty());
    pass(&world, Duration::from_millis(200));
    let mut heard = two.heard.take();
    heard.sort();
    assert_eq!(heard, ["1 says 3", "10.0.0.1:7946 gossips 9"]);
    assert!(one.heard.take().is_empty());
}
