//! Nodes on loopback: what they tell each other, how they are lost, what strangers can do.

use std::sync::Mutex;
use std::time::Duration;

use contract::limits::{GOSSIP_BYTES_MAX, PEER_QUEUE_FRAMES_MAX};
use contract::{FabricKeys, Loss, SchemaVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use super::*;
use crate::env_os::pause;

#[path = "attack_tests.rs"]
mod attack;
#[path = "flood_tests.rs"]
mod flood;
#[path = "loss_tests.rs"]
mod loss;

/// Longest wait for a state on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(2);
const LONGEST: usize = FRAME_BYTES_MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Frame(NodeInst, FrameClass, Bytes),
    Gossip(SocketAddr, Bytes),
    Connected(Peer),
    Lost(Peer, Loss),
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Seen>>);

impl Recorder {
    fn put(&self, seen: Seen) {
        self.0.lock().unwrap().push(seen);
    }

    fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    fn frames(&self, from: NodeInst, class: FrameClass) -> Vec<Bytes> {
        let all = self.all();
        all.into_iter()
            .filter_map(|seen| match seen {
                Seen::Frame(node, of, frame) if node == from && of == class => Some(frame),
                Seen::Frame(..) | Seen::Gossip(..) | Seen::Connected(_) | Seen::Lost(..) => None,
            })
            .collect()
    }

    fn count(&self, wanted: impl Fn(&Seen) -> bool) -> usize {
        self.0
            .lock()
            .unwrap()
            .iter()
            .filter(|seen| wanted(seen))
            .count()
    }

    /// Waits until something was seen that is wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Seen) -> bool) {
        state(what, || self.count(&wanted) > 0).await;
    }
}

impl PeerSink for Recorder {
    fn frame(&self, from: NodeInst, class: FrameClass, frame: Bytes) {
        self.put(Seen::Frame(from, class, frame));
    }

    fn gossip(&self, from: SocketAddr, datagram: Bytes) {
        self.put(Seen::Gossip(from, datagram));
    }

    fn connected(&self, peer: Peer, _: SchemaVersion) {
        self.put(Seen::Connected(peer));
    }

    fn lost(&self, peer: Peer, why: Loss) {
        self.put(Seen::Lost(peer, why));
    }
}

/// Waits for a state.
async fn state(what: &str, is: impl Fn() -> bool) {
    let clock = Clock::start();
    while !is() {
        let waited = clock.now().mono.since(contract::Time::ZERO);
        assert!(waited < PATIENCE, "waited {waited:?} for: {what}");
        pause(STEP).await;
    }
}

struct Node {
    peers: Arc<TcpPeers>,
    seen: Arc<Recorder>,
}

fn inst(node: u16, boot: u64) -> NodeInst {
    NodeInst {
        node: NodeId(node),
        boot: Boot(boot),
    }
}

fn ring(current: u8) -> KeyRing {
    KeyRing {
        current: FabricKeys::new([current; 32]),
        previous: None,
    }
}

fn settings(node: u16, boot: u64) -> PeerSettings {
    PeerSettings {
        me: inst(node, boot),
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: "127.0.0.1:0".parse().unwrap(),
        keys: ring(1),
        cluster: ClusterId::of("test"),
    }
}

impl Node {
    fn start(settings: PeerSettings) -> Node {
        let peers = TcpPeers::bind(settings, Clock::start(), Handle::current()).unwrap();
        let seen = Arc::new(Recorder::default());
        peers.attach(Arc::<Recorder>::clone(&seen));
        Node { peers, seen }
    }

    fn new(node: u16) -> Node {
        Node::start(settings(node, 1))
    }

    fn me(&self) -> Peer {
        self.peers.me()
    }

    fn send(&self, to: &Node, class: FrameClass, frame: &[u8]) -> Result<(), PeerFault> {
        let frame = Bytes::copy_from_slice(frame);
        self.peers.send(to.me().inst, class, frame)
    }

    async fn connected(&self, to: Peer) {
        self.seen
            .until(&format!("{} connected", to.inst), |seen| {
                *seen == Seen::Connected(to)
            })
            .await;
    }

    /// Waits until a frame of another node arrives.
    async fn hears(&self, from: &Node, class: FrameClass, frame: &[u8]) {
        let wanted = Seen::Frame(from.me().inst, class, Bytes::copy_from_slice(frame));
        self.seen.until("a frame", |seen| *seen == wanted).await;
    }

    async fn lost(&self, peer: Peer, why: Loss) {
        self.seen
            .until(&format!("{} lost: {why:?}", peer.inst), |seen| {
                *seen == Seen::Lost(peer, why)
            })
            .await;
    }
}

/// Has nodes keep each other, and waits until all are connected.
async fn mesh(nodes: &[&Node]) {
    for node in nodes {
        let others = nodes.iter().map(|other| other.me());
        node.peers.keep(others.collect());
    }
    for node in nodes {
        for other in nodes.iter().filter(|other| other.me() != node.me()) {
            node.connected(other.me()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_exchange_frames_of_all_classes_in_order() {
    const COUNT: usize = 200;
    let nodes = [Node::new(3), Node::new(1), Node::new(2)];
    let all: Vec<&Node> = nodes.iter().collect();
    mesh(&all).await;
    for number in 0..COUNT {
        for from in &nodes {
            for to in nodes.iter().filter(|to| to.me() != from.me()) {
                for class in FrameClass::ALL {
                    let body = vec![u8::try_from(number % 251).unwrap(); number * 7];
                    from.send(to, class, &body).unwrap();
                }
            }
        }
    }
    for to in &nodes {
        for from in nodes.iter().filter(|from| from.me() != to.me()) {
            for class in FrameClass::ALL {
                let sender = from.me().inst;
                let heard = || to.seen.frames(sender, class);
                state("all frames", || heard().len() == COUNT).await;
                for (number, frame) in heard().into_iter().enumerate() {
                    assert_eq!(frame.len(), number * 7);
                    let octet = u8::try_from(number % 251).unwrap();
                    assert!(frame.iter().all(|other| *other == octet));
                }
            }
        }
    }
    for node in &nodes {
        let connected = node.seen.count(|seen| matches!(seen, Seen::Connected(_)));
        let lost = node.seen.count(|seen| matches!(seen, Seen::Lost(..)));
        assert_eq!((connected, lost), (2, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_frame_passes_and_a_longer_one_does_not() {
    let (one, two) = (Node::new(1), Node::new(2));
    mesh(&[&one, &two]).await;
    let longest: Vec<u8> = (0..LONGEST).map(|at| (at % 253) as u8).collect();
    for class in FrameClass::ALL {
        one.send(&two, class, &longest).unwrap();
        two.hears(&one, class, &longest).await;
    }
    let longer = vec![0; LONGEST + 1];
    let refused = one.send(&two, FrameClass::Bulk, &longer);
    assert_eq!(refused, Err(PeerFault::TooLong));
    one.send(&two, FrameClass::Commit, b"").unwrap();
    two.hears(&one, FrameClass::Commit, b"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_busy_and_all_it_took_arrives() {
    let (one, two) = (Node::new(1), Node::new(2));
    mesh(&[&one, &two]).await;
    let stranger = one.peers.send(inst(9, 1), FrameClass::Bulk, Bytes::new());
    assert_eq!(stranger, Err(PeerFault::Absent));
    let other_life = one.peers.send(inst(2, 2), FrameClass::Bulk, Bytes::new());
    assert_eq!(other_life, Err(PeerFault::Absent));
    // The sender is faster than the wire: long before a hundred times the bound it is full.
    let mut sent = 0;
    let frame = vec![7; 64 * 1024];
    let refused = loop {
        match one.send(&two, FrameClass::Bulk, &frame) {
            Ok(()) => sent += 1,
            Err(why) => break why,
        }
        assert!(sent < 100 * PEER_QUEUE_FRAMES_MAX);
    };
    assert_eq!(refused, PeerFault::Busy);
    one.send(&two, FrameClass::Invite, b"urgent").unwrap();
    two.hears(&one, FrameClass::Invite, b"urgent").await;
    let from = one.me().inst;
    state("all that was taken", || {
        two.seen
            .count(|seen| matches!(seen, Seen::Frame(node, FrameClass::Bulk, _) if *node == from))
            == sent
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_is_greeted_by_its_address_whoever_has_the_lower_number() {
    for (seed, joiner) in [(1, 2), (2, 1)] {
        let (seed, joiner) = (Node::new(seed), Node::new(joiner));
        seed.peers.announce(77);
        joiner.peers.greet(seed.me().address);
        joiner.connected(seed.me()).await;
        seed.connected(joiner.me()).await;
        joiner.send(&seed, FrameClass::Membership, b"join").unwrap();
        seed.hears(&joiner, FrameClass::Membership, b"join").await;
        assert_eq!(joiner.peers.view_hash_of(seed.me().inst), Some(77));
        assert_eq!(joiner.peers.view_hash_of(inst(9, 1)), None);
        // Membership learns of it only now: the connection has stayed.
        seed.peers.keep(vec![]);
        joiner.peers.keep(vec![seed.me()]);
        seed.peers.keep(vec![joiner.me()]);
        seed.send(&joiner, FrameClass::Bulk, b"table").unwrap();
        joiner.hears(&seed, FrameClass::Bulk, b"table").await;
        assert_eq!(seed.seen.count(|seen| matches!(seen, Seen::Lost(..))), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_greet_each_other_at_once_end_up_with_one_pair() {
    for round in 0..20 {
        let (one, two) = (Node::new(1), Node::new(2));
        one.peers.greet(two.me().address);
        two.peers.greet(one.me().address);
        one.peers.keep(vec![two.me()]);
        two.peers.keep(vec![one.me()]);
        one.connected(two.me()).await;
        two.connected(one.me()).await;
        // Whatever was tried besides has come to its end once a frame has passed both ways.
        for (from, to) in [(&one, &two), (&two, &one)] {
            state("a frame passes", || {
                from.send(to, FrameClass::Commit, b"x").is_ok()
                    && to.seen.count(|seen| matches!(seen, Seen::Frame(..))) > 0
            })
            .await;
        }
        for node in [&one, &two] {
            let connected = node.seen.count(|seen| matches!(seen, Seen::Connected(_)));
            let lost = node.seen.count(|seen| matches!(seen, Seen::Lost(..)));
            assert_eq!(connected, lost + 1, "round {round}: {:?}", node.seen.all());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_higher_number_dials_if_the_lower_one_does_not() {
    let (one, two) = (Node::new(1), Node::new(2));
    two.peers.keep(vec![one.me()]);
    two.connected(one.me()).await;
    one.connected(two.me()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_nobody_keeps_any_more_is_closed_in_order() {
    let (one, two) = (Node::new(1), Node::new(2));
    mesh(&[&one, &two]).await;
    one.send(&two, FrameClass::Bulk, b"last words").unwrap();
    two.peers.keep(vec![]);
    one.peers.keep(vec![]);
    one.lost(two.me(), Loss::Closed).await;
    two.lost(one.me(), Loss::Closed).await;
    let refused = one.send(&two, FrameClass::Bulk, b"");
    assert_eq!(refused, Err(PeerFault::Absent));
    mesh(&[&one, &two]).await;
    state("connected again", || {
        one.send(&two, FrameClass::Bulk, b"").is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_queued_leaves_before_a_node_closes() {
    let (one, two) = (Node::new(1), Node::new(2));
    mesh(&[&one, &two]).await;
    let long = vec![9; LONGEST];
    one.send(&two, FrameClass::Bulk, &long).unwrap();
    one.send(&two, FrameClass::Commit, b"goodbye").unwrap();
    one.peers.close().await;
    two.lost(one.me(), Loss::Closed).await;
    one.lost(two.me(), Loss::Closed).await;
    two.hears(&one, FrameClass::Commit, b"goodbye").await;
    let refused = one.send(&two, FrameClass::Commit, b"");
    assert_eq!(refused, Err(PeerFault::Absent));
    let address = one.me().address;
    let gone = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(gone.kind(), std::io::ErrorKind::ConnectionRefused);
    one.peers.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_and_an_address_that_is_none_are_said() {
    let one = Node::new(1);
    let taken = PeerSettings {
        listen: one.peers.local(),
        ..settings(2, 1)
    };
    let error = TcpPeers::bind(taken, Clock::start(), Handle::current()).unwrap_err();
    assert_eq!((error.what, error.address), ("tcp", one.peers.local()));
    let nowhere = PeerSettings {
        advertise: "0.0.0.0:7000".parse().unwrap(),
        ..settings(2, 1)
    };
    let error = TcpPeers::bind(nowhere, Clock::start(), Handle::current()).unwrap_err();
    assert_eq!(error.what, "advertised");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_passes_and_forged_replayed_and_cut_datagrams_do_not() {
    let (one, two) = (Node::new(1), Node::new(2));
    let longest = Bytes::from(vec![5; GOSSIP_BYTES_MAX]);
    for text in [Bytes::from_static(b"alive"), Bytes::new(), longest] {
        one.peers.gossip(two.me().address, text.clone());
        let wanted = Seen::Gossip(one.peers.local(), text);
        two.seen.until("gossip", |seen| *seen == wanted).await;
    }
    let too_long = Bytes::from(vec![5; GOSSIP_BYTES_MAX + 1]);
    one.peers.gossip(two.me().address, too_long);
    assert_eq!(one.peers.dropped(Dropped::Unsent), 1);

    // The same words through a wire that the attacker has.
    let wire = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to_wire = wire.local_addr().unwrap();
    let heard = two.seen.all().len();
    one.peers.gossip(to_wire, Bytes::from_static(b"once"));
    let mut datagram = vec![0; 2_048];
    let (length, _) = wire.recv_from(&mut datagram).await.unwrap();
    datagram.truncate(length);
    let mut forged = datagram.clone();
    *forged.last_mut().unwrap() ^= 1;
    let cut = datagram[..length - 1].to_vec();
    let too_short = datagram[..30].to_vec();
    for attack in [&forged, &cut, &too_short, &b"hello".to_vec(), &Vec::new()] {
        wire.send_to(attack, two.me().address).await.unwrap();
    }
    for _ in 0..50 {
        wire.send_to(&datagram, two.me().address).await.unwrap();
    }
    state("49 replays", || two.peers.dropped(Dropped::Replayed) == 49).await;
    assert_eq!(two.peers.dropped(Dropped::Forged), 2);
    assert_eq!(two.peers.dropped(Dropped::Shape), 3);
    let news = two.seen.all().split_off(heard);
    assert_eq!(news, [Seen::Gossip(to_wire, Bytes::from_static(b"once"))]);
    // Sent back to where it came from, it is not heard either.
    wire.send_to(&datagram, one.me().address).await.unwrap();
    state("own", || one.peers.dropped(Dropped::Own) == 1).await;
    assert!(one.seen.all().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_changed_step_by_step_while_nodes_talk() {
    let (one, two) = (Node::new(1), Node::new(2));
    mesh(&[&one, &two]).await;
    let both = |current: u8, previous: u8| KeyRing {
        current: FabricKeys::new([current; 32]),
        previous: Some(FabricKeys::new([previous; 32])),
    };
    let mut number = 0;
    for step in [both(1, 2), both(2, 1), ring(2)] {
        for turned in [&one, &two] {
            turned.peers.turn(&step);
            for (from, to) in [(&one, &two), (&two, &one)] {
                number += 1;
                let text = Bytes::from(format!("gossip {number}"));
                from.peers.gossip(to.me().address, text.clone());
                let wanted = Seen::Gossip(from.peers.local(), text);
                to.seen.until("gossip", |seen| *seen == wanted).await;
            }
            // A new connection is proven with the keys of now.
            let number = 10 + number;
            let newcomer = Node::start(PeerSettings {
                keys: step.clone(),
                ..settings(number, 1)
            });
            let other = if std::ptr::eq(turned, &one) {
                &two
            } else {
                &one
            };
            newcomer.peers.greet(other.me().address);
            newcomer.connected(other.me()).await;
        }
    }
    let late = Node::start(settings(99, 1));
    late.peers.greet(one.me().address);
    late.peers
        .gossip(one.me().address, Bytes::from_static(b"old"));
    state("the old secret is refused", || {
        one.peers.refused(Refusal::Proof) == 1
    })
    .await;
    state("and not heard", || one.peers.dropped(Dropped::Forged) == 1).await;
    assert_eq!(late.seen.all(), []);
}

/// Records of a later release: who cannot read them is not let in, and both sides know why, whoever
/// dialled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_records_are_of_a_later_schema_is_refused_on_both_sides() {
    let (ahead, behind) = (Node::new(1), Node::new(2));
    ahead
        .peers
        .require(SchemaVersion(SchemaVersion::NEWEST.0 + 1));
    for (dialler, other) in [(&behind, &ahead), (&ahead, &behind)] {
        let before = [
            ahead.peers.refused(Refusal::Older),
            behind.peers.refused(Refusal::Newer),
        ];
        dialler.peers.greet(other.me().address);
        state("both have refused", || {
            ahead.peers.refused(Refusal::Older) > before[0]
                && behind.peers.refused(Refusal::Newer) > before[1]
        })
        .await;
    }
    let met = |node: &Node| {
        node.seen
            .count(|seen| matches!(seen, Seen::Connected(..) | Seen::Frame(..)))
    };
    assert_eq!((met(&ahead), met(&behind)), (0, 0));
    // What was written so far is read by both: they meet.
    let (one, two) = (Node::new(3), Node::new(4));
    one.peers.require(SchemaVersion::NEWEST);
    two.peers.greet(one.me().address);
    two.connected(one.me()).await;
    one.connected(two.me()).await;
}
