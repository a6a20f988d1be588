//! How nodes are lost, and come back.

use std::sync::atomic::AtomicBool;

use tokio::net::TcpListener;

use super::*;

/// Forwards connections to a node until it is told to be silent.
struct Wire {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
}

impl Wire {
    async fn to(node: SocketAddr) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        Handle::current().spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let Ok(to) = TcpStream::connect(node).await else {
                    continue;
                };
                let (from_read, from_write) = from.into_split();
                let (to_read, to_write) = to.into_split();
                Handle::current().spawn(forward(from_read, to_write, Arc::clone(&cut)));
                Handle::current().spawn(forward(to_read, from_write, Arc::clone(&cut)));
            }
        });
        Wire { address, is_cut }
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    is_cut: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer).await {
        if is_cut.load(Ordering::Relaxed) {
            // Neither an octet nor an end passes any more.
            std::future::pending::<()>().await;
        }
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

fn millis(clock: Clock) -> u128 {
    clock.now().mono.since(contract::Time::ZERO).as_millis()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_gone_is_refused_quickly() {
    for (dies, stays) in [(1, 2), (2, 1)] {
        let (dies, stays) = (Node::new(dies), Node::new(stays));
        mesh(&[&dies, &stays]).await;
        let gone = dies.me();
        let clock = Clock::start();
        drop(dies);
        stays.lost(gone, Loss::Refused).await;
        let took = millis(clock);
        println!("refused after {took} ms");
        assert!(took < 1_000, "{took} ms");
        assert_eq!(stays.seen.count(|seen| matches!(seen, Seen::Lost(..))), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_says_nothing_is_silent_after_three_pings_and_a_quiet_one_is_not() {
    let (one, far) = (Node::new(1), Node::new(2));
    let wire = Wire::to(far.peers.local()).await;
    // It advertises itself at the wire.
    let far = {
        let listen = far.peers.local();
        far.peers.close().await;
        Node::start(PeerSettings {
            listen,
            advertise: wire.address,
            ..settings(2, 2)
        })
    };
    one.peers.keep(vec![far.me()]);
    far.peers.keep(vec![one.me()]);
    one.connected(far.me()).await;
    far.connected(one.me()).await;
    // Nobody says a word for longer than the silence that would end it: pings keep it alive.
    pause(connection::SILENCE * 2).await;
    assert_eq!(one.seen.count(|seen| matches!(seen, Seen::Lost(..))), 0);
    wire.cut();
    let clock = Clock::start();
    one.lost(far.me(), Loss::Silent).await;
    let took = millis(clock);
    println!("silent after {took} ms");
    assert!((1_400..3_000).contains(&took), "{took} ms");
    far.lost(one.me(), Loss::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_reset_comes_back_at_once_and_the_node_is_not_gone() {
    let (one, far) = (Node::new(1), Node::new(2));
    // A wire that ends: both nodes live on.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, target) = (listener.local_addr().unwrap(), far.peers.local());
    let (snip, mut snipped) = tokio::sync::watch::channel(0);
    Handle::current().spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut to = TcpStream::connect(target).await.unwrap();
            let mut snipped = snipped.clone();
            snipped.mark_unchanged();
            Handle::current().spawn(async move {
                tokio::select! {
                    biased;
                    _ = snipped.changed() => {}
                    _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                }
            });
        }
        snipped.mark_changed();
    });
    let known = Peer {
        inst: far.me().inst,
        address,
    };
    one.peers.keep(vec![known]);
    one.connected(far.me()).await;
    far.connected(one.me()).await;
    snip.send(1).unwrap();
    for (node, other) in [(&one, &far), (&far, &one)] {
        node.lost(other.me(), Loss::Closed).await;
        state("connected again", || {
            node.seen.count(|seen| matches!(seen, Seen::Connected(_))) == 2
        })
        .await;
        assert_eq!(node.seen.count(|seen| matches!(seen, Seen::Lost(..))), 1);
    }
    one.send(&far, FrameClass::Commit, b"again").unwrap();
    far.hears(&one, FrameClass::Commit, b"again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_life_takes_the_place_of_the_earlier_one() {
    for (stays, restarts) in [(1, 2), (2, 1)] {
        let stays = Node::new(stays);
        let first = Node::start(settings(restarts, 7));
        mesh(&[&stays, &first]).await;
        // The first one is still there, as one that hangs would be.
        let second = Node::start(settings(restarts, 8));
        second.peers.greet(stays.me().address);
        second.connected(stays.me()).await;
        stays.connected(second.me()).await;
        let told = stays.seen.all();
        let story = [
            Seen::Connected(first.me()),
            Seen::Lost(first.me(), Loss::Closed),
            Seen::Connected(second.me()),
        ];
        assert_eq!(told, story);
        let to_first = stays.send(&first, FrameClass::Commit, b"");
        assert_eq!(to_first, Err(PeerFault::Absent));
        stays.send(&second, FrameClass::Commit, b"you").unwrap();
        second.hears(&stays, FrameClass::Commit, b"you").await;
        // The first one tries again, and is not let in any more.
        first.peers.greet(stays.me().address);
        state("the earlier life is refused", || {
            stays.peers.refused(Refusal::OldBoot) > 0
        })
        .await;
        let lost = |seen: &Seen| matches!(seen, Seen::Lost(..));
        assert_eq!(stays.seen.count(lost), 1);
        first
            .peers
            .gossip(stays.me().address, Bytes::from_static(b"old"));
        state("nor heard", || stays.peers.dropped(Dropped::OldBoot) == 1).await;
        assert_eq!(stays.seen.count(|seen| matches!(seen, Seen::Gossip(..))), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_at_its_address_is_connected_again() {
    let stays = Node::new(1);
    let first = Node::start(settings(2, 7));
    mesh(&[&stays, &first]).await;
    let (gone, listen) = (first.me(), first.peers.local());
    drop(first);
    stays.lost(gone, Loss::Refused).await;
    let second = Node::start(PeerSettings {
        listen,
        ..settings(2, 8)
    });
    // Membership at the other node knows nothing yet: it still keeps the first life.
    stays.connected(second.me()).await;
    second.connected(stays.me()).await;
    stays.peers.keep(vec![second.me()]);
    stays.send(&second, FrameClass::Invite, b"hello").unwrap();
    second.hears(&stays, FrameClass::Invite, b"hello").await;
    assert_eq!(stays.seen.count(|seen| matches!(seen, Seen::Lost(..))), 1);
}
