//! Strangers, and what they reach: nothing (`cluster.md` I17, `threats.md` 27).

use bytes::BytesMut;
use contract::SchemaVersion;
use contract::limits::PEER_UNPROVEN_PER_ADDRESS_MAX;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::client::TlsStream;

use super::super::keys::{PROOF_BYTES, Role};
use super::super::wire::{self, Kind};
use super::*;

const LABEL: &[u8] = b"EXPERIMENTAL weft peer 1";

/// Two honest nodes that are connected, and what they had seen before the attack.
pub(super) struct Scene {
    pub(super) one: Node,
    two: Node,
    before: usize,
}

impl Scene {
    pub(super) async fn set() -> Scene {
        let (one, two) = (Node::new(1), Node::new(2));
        mesh(&[&one, &two]).await;
        let before = one.seen.all().len();
        Scene { one, two, before }
    }

    /// Nothing of the attack has reached the first node, and the two still talk.
    pub(super) async fn is_unmoved(&self) {
        let text = b"still here";
        let news = self.one.seen.all().split_off(self.before);
        assert_eq!(news, []);
        for class in FrameClass::ALL {
            self.two.send(&self.one, class, text).unwrap();
            self.one.hears(&self.two, class, text).await;
        }
        let news = self.one.seen.all().split_off(self.before);
        let is_honest =
            |seen: &Seen| matches!(seen, Seen::Frame(from, ..) if *from == self.two.me().inst);
        assert!(news.iter().all(is_honest), "{news:?}");
    }
}

pub(super) async fn tls(to: SocketAddr) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(to).await.unwrap();
    let name = ServerName::IpAddress(to.ip().into());
    let connector = Ends::make().unwrap().connector;
    connector.connect(name, stream).await.unwrap()
}

pub(super) fn exported(stream: &TlsStream<TcpStream>) -> [u8; PROOF_BYTES] {
    let value = [0; PROOF_BYTES];
    let session = stream.get_ref().1;
    session.export_keying_material(value, LABEL, None).unwrap()
}

pub(super) async fn say(stream: &mut (impl AsyncWrite + Unpin), kind: Kind, body: &[u8]) {
    let mut out = BytesMut::new();
    wire::put(&mut out, kind, body);
    // The other end may have closed already; that is what is looked at next.
    let _ = stream.write_all(&out).await;
    let _ = stream.flush().await;
}

/// Reads one frame; `None` at the end.
pub(super) async fn hear(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> Option<(Kind, Bytes)> {
    loop {
        if let Some(frame) = wire::take(buffer, LONGEST).unwrap() {
            return Some(frame);
        }
        if !matches!(stream.read_buf(buffer).await, Ok(length) if length > 0) {
            return None;
        }
    }
}

/// Reads to the end, which must come, and says what came.
pub(super) async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = within(PATIENCE, stream.read_to_end(&mut all))
        .await
        .unwrap();
    all
}

pub(super) fn hello_of(node: u16, boot: u64, track: Track, link: u64) -> Hello {
    Hello {
        inst: inst(node, boot),
        cluster: ClusterId::of("test"),
        advertise: "127.0.0.1:9".parse().unwrap(),
        track,
        link,
        view_hash: 0,
        required: SchemaVersion::OLDEST,
        reads: SchemaVersion::NEWEST,
    }
}

/// Proves the secret as a member would, and greets.
pub(super) async fn greet(to: SocketAddr, hello: &Hello) -> TlsStream<TcpStream> {
    let mut stream = tls(to).await;
    let proof = Keys::of(&ring(1)).prove(Role::Dialler, &exported(&stream));
    say(&mut stream, Kind::Proof, &proof).await;
    let mut buffer = BytesMut::new();
    let (kind, _) = hear(&mut stream, &mut buffer).await.unwrap();
    assert_eq!(kind, Kind::Proof);
    let (kind, _) = hear(&mut stream, &mut buffer).await.unwrap();
    assert_eq!(kind, Kind::Hello);
    assert!(buffer.is_empty());
    say(&mut stream, Kind::Hello, &hello.encode()).await;
    stream
}

/// A member made of this test alone: both connections, proven and welcome.
async fn member(of: &Node, node: u16) -> [TlsStream<TcpStream>; 2] {
    let to = of.peers.local();
    let mut streams = [
        greet(to, &hello_of(node, 1, Track::Urgent, 5)).await,
        greet(to, &hello_of(node, 1, Track::Bulk, 5)).await,
    ];
    for stream in &mut streams {
        let welcome = hear(stream, &mut BytesMut::new()).await;
        assert_eq!(welcome, Some((Kind::Welcome, Bytes::new())));
    }
    streams
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_or_noise_before_tls_is_closed() {
    let scene = Scene::set().await;
    let to = scene.one.peers.local();
    for noise in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 5_000],
        &[0xff; 5_000],
        &[22, 3, 1, 255, 255],
    ] {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let _ = stream.write_all(noise).await;
        rest(&mut stream).await;
    }
    let mut silent = TcpStream::connect(to).await.unwrap();
    let clock = Clock::start();
    assert_eq!(rest(&mut silent).await, b"");
    let took = clock.now().mono.since(contract::Time::ZERO);
    assert!((1_900..4_000).contains(&took.as_millis()), "{took:?}");
    assert!(scene.one.peers.refused(Refusal::Tls) >= 2);
    assert!(scene.one.peers.refused(Refusal::Late) >= 1);
    scene.is_unmoved().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_no_certificate_is_closed() {
    let scene = Scene::set().await;
    let to = scene.one.peers.local();
    // The connector of SIP over TLS: anybody's, without a certificate of its own.
    let connector = crate::net::tls::connector(None).unwrap();
    let stream = TcpStream::connect(to).await.unwrap();
    let name = ServerName::IpAddress(to.ip().into());
    if let Ok(mut stream) = connector.connect(name, stream).await {
        say(&mut stream, Kind::Frame(FrameClass::Commit), b"x").await;
        assert_eq!(rest(&mut stream).await, b"");
    }
    state("refused", || scene.one.peers.refused(Refusal::Tls) == 1).await;
    scene.is_unmoved().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_prove_the_secret_hears_nothing_and_reaches_nothing() {
    let scene = Scene::set().await;
    let to = scene.one.peers.local();
    let hello = hello_of(3, 1, Track::Urgent, 5).encode();
    let wrong = Keys::of(&ring(2));
    let right = Keys::of(&ring(1));
    let mut count = 0;
    for case in 0..9 {
        let mut stream = tls(to).await;
        let exported = exported(&stream);
        match case {
            0 => {
                let proof = wrong.prove(Role::Dialler, &exported);
                say(&mut stream, Kind::Proof, &proof).await;
            }
            // Of the other side of the same connection, and of another connection.
            1 => {
                let proof = right.prove(Role::Listener, &exported);
                say(&mut stream, Kind::Proof, &proof).await;
            }
            2 => {
                let proof = right.prove(Role::Dialler, &[0; PROOF_BYTES]);
                say(&mut stream, Kind::Proof, &proof).await;
            }
            3 => say(&mut stream, Kind::Proof, b"").await,
            4 => say(&mut stream, Kind::Proof, &[0; PROOF_BYTES]).await,
            // A greeting and frames without a proof.
            5 => say(&mut stream, Kind::Hello, &hello).await,
            6 => say(&mut stream, Kind::Frame(FrameClass::Membership), b"frame").await,
            7 => stream.write_all(&[0xff; 300]).await.unwrap(),
            _ => stream.write_all(&[0, 0, 1, 1, 18]).await.unwrap(),
        }
        say(&mut stream, Kind::Hello, &hello).await;
        say(&mut stream, Kind::Frame(FrameClass::Commit), b"frame").await;
        assert_eq!(rest(&mut stream).await, b"", "case {case}");
        count += 1;
    }
    println!("{count} cases");
    assert_eq!(scene.one.peers.refused(Refusal::Proof), 5);
    assert_eq!(scene.one.peers.refused(Refusal::Frame), 3);
    assert_eq!(scene.one.peers.refused(Refusal::TooLong), 1);
    scene.is_unmoved().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_secret_or_of_another_cluster_is_not_let_in() {
    let scene = Scene::set().await;
    let stranger = Node::start(PeerSettings {
        keys: ring(2),
        ..settings(3, 1)
    });
    let other = Node::start(PeerSettings {
        cluster: ClusterId::of("other"),
        ..settings(4, 1)
    });
    let namesake = Node::start(settings(1, 9));
    for (attacker, why) in [
        (&stranger, Refusal::Proof),
        (&other, Refusal::Cluster),
        (&namesake, Refusal::Own),
    ] {
        attacker.peers.greet(scene.one.me().address);
        scene.one.peers.greet(attacker.me().address);
        state("one of them refuses", || {
            scene.one.peers.refused(why) + attacker.peers.refused(why) >= 2
        })
        .await;
        assert_eq!(attacker.seen.all(), []);
    }
    // A node that has itself among its seeds.
    let before = scene.one.peers.refused(Refusal::Own);
    scene.one.peers.greet(scene.one.me().address);
    state("itself", || scene.one.peers.refused(Refusal::Own) > before).await;
    scene.is_unmoved().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_that_is_sent_back_is_none() {
    let scene = Scene::set().await;
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    scene.one.peers.greet(trap.local_addr().unwrap());
    let (stream, _) = trap.accept().await.unwrap();
    let mut stream = Ends::make().unwrap().acceptor.accept(stream).await.unwrap();
    let mut buffer = BytesMut::new();
    let (kind, proof) = hear(&mut stream, &mut buffer).await.unwrap();
    assert_eq!(kind, Kind::Proof);
    say(&mut stream, Kind::Proof, &proof).await;
    let hello = hello_of(3, 1, Track::Urgent, 0).encode();
    say(&mut stream, Kind::Hello, &hello).await;
    say(&mut stream, Kind::Welcome, b"").await;
    assert_eq!(rest(&mut stream).await, b"");
    assert_eq!(scene.one.peers.refused(Refusal::Proof), 1);
    scene.is_unmoved().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_that_is_carried_to_another_connection_is_none() {
    let scene = Scene::set().await;
    // Between two nodes, TLS with each: what one proves is shown to the other.
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let victim = Node::new(3);
    victim.peers.greet(trap.local_addr().unwrap());
    let (stream, _) = trap.accept().await.unwrap();
    let mut near = Ends::make().unwrap().acceptor.accept(stream).await.unwrap();
    let mut far = tls(scene.one.peers.local()).await;
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    assert_eq!(scene.one.peers.refused(Refusal::Proof), 1);
    assert_eq!(victim.seen.all(), []);
    scene.is_unmoved().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_has_said_does_not_help_on_another_connection() {
    let scene = Scene::set().await;
    let to = scene.one.peers.local();
    let hello = hello_of(3, 1, Track::Urgent, 5);
    let mut first = tls(to).await;
    let proof = Keys::of(&ring(1)).prove(Role::Dialler, &exported(&first));
    for is_first in [true, false] {
        let mut again = tls(to).await;
        let stream = if is_first { &mut first } else { &mut again };
        say(stream, Kind::Proof, &proof).await;
        say(stream, Kind::Hello, &hello.encode()).await;
        say(stream, Kind::Frame(FrameClass::Membership), b"x").await;
        let heard = hear(stream, &mut BytesMut::new()).await;
        assert_eq!(heard.is_some(), is_first);
    }
    assert_eq!(scene.one.peers.refused(Refusal::Proof), 1);
    // One connection is not a pair: even the member's own frame has not counted.
    scene.is_unmoved().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_breaks_the_rules_is_closed_and_the_others_go_on() {
    let scene = Scene::set().await;
    let rogue = Peer {
        inst: inst(3, 1),
        address: "127.0.0.1:9".parse().unwrap(),
    };
    let too_long = [0x00, 0x10, 0x00, 0x01, 0];
    let longest_claim = [0xff, 0xff, 0xff, 0xff, 0];
    let unknown = [0, 0, 0, 0, 99];
    // A frame of the bulk connection, a second proof.
    let bulk_frame = [0, 0, 0, 0, 5];
    let proof = [0, 0, 0, 0, 18];
    let cases = [too_long, longest_claim, unknown, bulk_frame, proof];
    for (former, octets) in cases.into_iter().enumerate() {
        let [mut urgent, _bulk] = member(&scene.one, 3).await;
        urgent.write_all(&octets).await.unwrap();
        urgent.flush().await.unwrap();
        state("the rogue is lost", || {
            scene
                .one
                .seen
                .count(|seen| *seen == Seen::Lost(rogue, Loss::Closed))
                == former + 1
        })
        .await;
    }
    assert_eq!(scene.one.peers.refused(Refusal::TooLong), 2);
    assert_eq!(scene.one.peers.refused(Refusal::Frame), 3);
    let frames = scene.one.seen.count(|seen| matches!(seen, Seen::Frame(..)));
    assert_eq!(frames, 0);
    scene
        .two
        .send(&scene.one, FrameClass::Commit, b"on")
        .unwrap();
    scene.one.hears(&scene.two, FrameClass::Commit, b"on").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn greetings_that_are_none_or_of_an_earlier_life_change_nothing() {
    let scene = Scene::set().await;
    let to = scene.one.peers.local();
    let hello = hello_of(2, 1, Track::Urgent, 5);
    let (mut newer, mut older) = (hello.encode(), hello.encode());
    newer[..4].copy_from_slice(&[0, 4, 0, 9]);
    older[..4].copy_from_slice(&[0, 0, 0, 0]);
    let cases = [
        (Vec::new(), Refusal::Frame),
        (newer, Refusal::Newer),
        (older, Refusal::Older),
        (hello.encode()[..20].to_vec(), Refusal::Frame),
        ([hello.encode(), vec![0]].concat(), Refusal::Frame),
        (hello_of(2, 0, Track::Urgent, 5).encode(), Refusal::OldBoot),
        (hello_of(1, 1, Track::Urgent, 5).encode(), Refusal::Own),
    ];
    for (body, why) in cases {
        let before = scene.one.peers.refused(why);
        let mut stream = tls(to).await;
        let proof = Keys::of(&ring(1)).prove(Role::Dialler, &exported(&stream));
        say(&mut stream, Kind::Proof, &proof).await;
        say(&mut stream, Kind::Hello, &body).await;
        say(&mut stream, Kind::Frame(FrameClass::Commit), b"x").await;
        state("refused", || scene.one.peers.refused(why) == before + 1).await;
        rest(&mut stream).await;
    }
    scene.is_unmoved().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_that_say_nothing_keep_nobody_out() {
    let scene = Scene::set().await;
    let to = scene.one.peers.local();
    let mut crowd = Vec::new();
    for number in 0..1_000 {
        crowd.push(TcpStream::connect(to).await.unwrap());
        if number % 100 == 0 {
            scene
                .two
                .send(&scene.one, FrameClass::Commit, b"meanwhile")
                .unwrap();
        }
    }
    // From the same address, and while all places are taken.
    let newcomer = Node::new(3);
    newcomer.peers.keep(vec![scene.one.me()]);
    newcomer.connected(scene.one.me()).await;
    scene.one.connected(newcomer.me()).await;
    newcomer
        .send(&scene.one, FrameClass::Membership, b"join")
        .unwrap();
    scene
        .one
        .hears(&newcomer, FrameClass::Membership, b"join")
        .await;
    let from = scene.two.me().inst;
    state("no frame was lost", || {
        scene.one.seen.frames(from, FrameClass::Commit).len() == 10
    })
    .await;
    assert_eq!(
        scene.one.seen.count(|seen| matches!(seen, Seen::Lost(..))),
        0
    );
    let places = u64::try_from(PEER_UNPROVEN_PER_ADDRESS_MAX).unwrap();
    state("all are closed", || {
        scene.one.peers.refused(Refusal::Late) >= 1_000
    })
    .await;
    assert!(places < 1_000);
    for mut stream in crowd {
        rest(&mut stream).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_octets_under_tls_and_after_the_proof_reach_nothing() {
    const ROUNDS: u64 = 100;
    let scene = Scene::set().await;
    let to = scene.one.peers.local();
    let mut chance = contract::Entropy::from_seed([4; 32]);
    for round in 0..ROUNDS {
        let mut stream = tls(to).await;
        if round % 2 == 0 {
            let proof = Keys::of(&ring(1)).prove(Role::Dialler, &exported(&stream));
            say(&mut stream, Kind::Proof, &proof).await;
        }
        let length = chance.below(400) as usize + 5;
        let noise: Vec<u8> = (0..length).map(|_| chance.below(256) as u8).collect();
        let _ = stream.write_all(&noise).await;
        let _ = stream.shutdown().await;
        rest(&mut stream).await;
    }
    let before = scene.one.peers.dropped(Dropped::Forged);
    let wire = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..ROUNDS {
        let length = chance.below(1_500) as usize;
        let mut noise: Vec<u8> = (0..length).map(|_| chance.below(256) as u8).collect();
        if let Some(first) = noise.first_mut() {
            *first = 1;
        }
        wire.send_to(&noise, to).await.unwrap();
    }
    state("datagrams were read", || {
        scene.one.peers.dropped(Dropped::Forged) > before + 50
    })
    .await;
    println!("{ROUNDS} connections and {ROUNDS} datagrams of noise: 0 reached the sink");
    scene.is_unmoved().await;
}
