//! Strangers in great numbers (`cluster.md` I17, `threats.md` 27): datagrams and frames that are
//! forged, replayed, reflected, of another cluster or too long change nothing. `WEFT_HOSTILE=1000000`
//! sends a million of each; else it is a part of that.

use contract::{Entropy, SchemaVersion, UtcMillis};
use tokio::net::TcpListener;

use super::super::gossip::{DATAGRAM_BYTES_MAX, Sealer};
use super::super::keys::Role;
use super::super::wire::{self, Kind};
use super::attack::{Scene, exported, greet, hello_of, rest, tls};
use super::*;
use bytes::BytesMut;

/// Of each kind, unless `WEFT_HOSTILE` says otherwise.
const COUNT: u64 = 20_000;
/// Datagrams, and octets, that are sent before it is waited until all were read: the socket's buffer
/// holds them.
const BURST: usize = 64;
const BURST_BYTES: usize = 64 * 1024;
/// Frames of one connection.
const FRAMES: u64 = 1_000;
/// Different datagrams of one kind.
const VARIETY: usize = 512;

fn count() -> u64 {
    let wanted = std::env::var("WEFT_HOSTILE").ok();
    wanted.map_or(COUNT, |text| {
        text.parse().expect("WEFT_HOSTILE is a number")
    })
}

/// Datagrams of one kind, and what becomes of each.
struct Wave {
    kind: &'static str,
    datagrams: Vec<Vec<u8>>,
    dropped: Dropped,
}

fn sealed(by: &Sealer, keys: &Keys, now: UtcMillis) -> Vec<Vec<u8>> {
    let text = |number: usize| vec![u8::try_from(number % 251).expect("small"); 1 + number % 1_200];
    (0..VARIETY)
        .map(|number| by.seal(keys, &text(number), now).expect("short"))
        .collect()
}

fn waves(now: UtcMillis) -> Vec<Wave> {
    let (right, wrong) = (Keys::of(&ring(1)), Keys::of(&ring(2)));
    let (ours, other) = (ClusterId::of("test"), ClusterId::of("other"));
    let by = |node, boot, cluster| Sealer::new(inst(node, boot), [9; 6], cluster);
    let mut chance = Entropy::from_seed([6; 32]);
    let mut flipped = sealed(&by(5, 1, ours), &right, now);
    for datagram in &mut flipped {
        // Not the version and not the sender: these have counts of their own.
        let places = u32::try_from(datagram.len() - 11).expect("short");
        let at = 11 + chance.below(places) as usize;
        datagram[at] ^= 1 << chance.below(8);
    }
    let noise = (0..VARIETY).map(|_| {
        let length = DATAGRAM_BYTES_MAX + 1 + chance.below(20_000) as usize;
        (0..length).map(|_| chance.below(256) as u8).collect()
    });
    let oversized = noise.collect();
    let late = UtcMillis(now.0 - 3_600_000);
    let wave = |kind, datagrams, dropped| Wave {
        kind,
        datagrams,
        dropped,
    };
    vec![
        wave(
            "forged: another secret",
            sealed(&by(5, 1, ours), &wrong, now),
            Dropped::Forged,
        ),
        wave("forged: a bit changed", flipped, Dropped::Forged),
        wave(
            "reflected: our own words",
            sealed(&by(1, 1, ours), &right, now),
            Dropped::Own,
        ),
        wave(
            "of another cluster",
            sealed(&by(5, 1, other), &right, now),
            Dropped::Forged,
        ),
        wave("oversized", oversized, Dropped::Shape),
        wave(
            "of an earlier life",
            sealed(&by(2, 0, ours), &right, now),
            Dropped::OldBoot,
        ),
        wave(
            "of another hour",
            sealed(&by(5, 1, ours), &right, late),
            Dropped::Skewed,
        ),
    ]
}

/// Sends them round and round; returns when each was read and dropped.
async fn send(scene: &Scene, wire: &UdpSocket, wave: &Wave, count: u64) {
    let (peers, to) = (&scene.one.peers, scene.one.peers.local());
    let before = peers.dropped(wave.dropped);
    let (mut sent, mut octets) = (0, 0);
    for datagram in wave.datagrams.iter().cycle() {
        if sent == count {
            break;
        }
        wire.send_to(datagram, to).await.expect("loopback takes it");
        sent += 1;
        octets += datagram.len();
        if sent % (BURST as u64) == 0 || octets > BURST_BYTES || sent == count {
            octets = 0;
            let clock = Clock::start();
            while peers.dropped(wave.dropped) < before + sent {
                let waited = clock.now().mono.since(contract::Time::ZERO);
                assert!(waited < PATIENCE, "{}: one is not accounted for", wave.kind);
                tokio::task::yield_now().await;
            }
        }
    }
    assert_eq!(peers.dropped(wave.dropped), before + count, "{}", wave.kind);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_datagrams_change_nothing() {
    let (scene, count) = (Scene::set().await, count());
    let (wire, clock) = (
        UdpSocket::bind("127.0.0.1:0").await.expect("a port"),
        Clock::start(),
    );
    let all = waves(clock.now().utc);
    for wave in &all {
        send(&scene, &wire, wave, count).await;
    }
    let took = clock.now().mono.since(contract::Time::ZERO);
    println!(
        "{} kinds of {count} datagrams: 0 were heard; {took:?}",
        all.len()
    );
    scene.is_unmoved().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_datagrams_are_heard_once() {
    let (scene, count) = (Scene::set().await, count());
    let (wire, clock) = (
        UdpSocket::bind("127.0.0.1:0").await.expect("a port"),
        Clock::start(),
    );
    let sealer = Sealer::new(inst(5, 1), [9; 6], ClusterId::of("test"));
    let keys = Keys::of(&ring(1));
    // What a member says: heard once, whatever is done with it afterwards.
    let is_gossip = |seen: &Seen| matches!(seen, Seen::Gossip(..));
    let mut datagrams = sealed(&sealer, &keys, clock.now().utc);
    datagrams.truncate(BURST);
    for (number, datagram) in datagrams.iter().enumerate() {
        let to = scene.one.peers.local();
        wire.send_to(datagram, to).await.expect("loopback takes it");
        state("the first time", || {
            scene.one.seen.count(is_gossip) == number + 1
        })
        .await;
    }
    let wave = Wave {
        kind: "replayed",
        datagrams,
        dropped: Dropped::Replayed,
    };
    send(&scene, &wire, &wave, count).await;
    let took = clock.now().mono.since(contract::Time::ZERO);
    println!("{count} datagrams were replayed: 0 were heard again; {took:?}");
    assert_eq!(scene.one.seen.count(is_gossip), BURST);
}

/// Frames of every class, as a member would send them.
fn frames() -> BytesMut {
    let mut out = BytesMut::new();
    for number in 0..FRAMES {
        let classes = FrameClass::ALL;
        let class = classes[usize::try_from(number).expect("small") % classes.len()];
        wire::put(&mut out, Kind::Frame(class), &number.to_le_bytes());
    }
    out
}

/// Writes what the other end may not want to read to its end.
async fn push(stream: &mut (impl tokio::io::AsyncWrite + Unpin), octets: &[u8]) {
    let _ = stream.write_all(octets).await;
    let _ = stream.flush().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_frames_change_nothing() {
    let (scene, clock) = (Scene::set().await, Clock::start());
    let (to, frames) = (scene.one.peers.local(), frames());
    let connections = count().div_ceil(FRAMES);
    let (wrong, right) = (Keys::of(&ring(2)), Keys::of(&ring(1)));
    let counts = |why| scene.one.peers.refused(why);
    let before = [
        Refusal::Proof,
        Refusal::Frame,
        Refusal::Cluster,
        Refusal::TooLong,
    ]
    .map(counts);
    // A proof that another connection has heard already.
    let mut first = tls(to).await;
    let replayed = right.prove(Role::Dialler, &exported(&first));
    let mut out = BytesMut::new();
    wire::put(&mut out, Kind::Proof, &replayed);
    push(&mut first, &out).await;
    for _ in 0..connections {
        // Forged, and replayed: a proof that is none here, and frames behind it.
        for proof in [wrong.prove(Role::Dialler, &[7; 32]), replayed] {
            let mut stream = tls(to).await;
            let mut out = BytesMut::new();
            wire::put(&mut out, Kind::Proof, &proof);
            out.extend_from_slice(&frames);
            push(&mut stream, &out).await;
            assert_eq!(rest(&mut stream).await, b"");
        }
        // Without any proof.
        let mut stream = tls(to).await;
        push(&mut stream, &frames).await;
        assert_eq!(rest(&mut stream).await, b"");
        // Of another cluster that has the same secret.
        let mut hello = hello_of(3, 1, Track::Urgent, 5);
        hello.cluster = ClusterId::of("other");
        let mut stream = greet(to, &hello).await;
        push(&mut stream, &frames).await;
        rest(&mut stream).await;
        // Longer than any frame may be, then more.
        let mut stream = tls(to).await;
        push(
            &mut stream,
            &[&[0xff, 0xff, 0xff, 0xff, 0][..], &frames].concat(),
        )
        .await;
        assert_eq!(rest(&mut stream).await, b"");
    }
    let after = [
        Refusal::Proof,
        Refusal::Frame,
        Refusal::Cluster,
        Refusal::TooLong,
    ]
    .map(counts);
    let refused: Vec<u64> = after
        .iter()
        .zip(before)
        .map(|(now, was)| now - was)
        .collect();
    assert_eq!(
        refused,
        [2 * connections, connections, connections, connections]
    );
    let took = clock.now().mono.since(contract::Time::ZERO);
    let sent = connections * FRAMES;
    println!("5 kinds of {sent} frames on {connections} connections each: 0 were read; {took:?}");
    scene.is_unmoved().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_sent_back_change_nothing() {
    let (scene, clock) = (Scene::set().await, Clock::start());
    let trap = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (at, frames) = (trap.local_addr().expect("bound"), frames());
    let connections = count().div_ceil(FRAMES).min(1_000);
    let ends = Ends::make().expect("certificates");
    for number in 0..connections {
        // It dials an address once at a time.
        state("the last one is refused", || {
            scene.one.peers.refused(Refusal::Proof) == number
        })
        .await;
        scene.one.peers.greet(at);
        let (stream, _) = trap.accept().await.expect("it dials");
        let mut stream = ends.acceptor.accept(stream).await.expect("TLS");
        let mut heard = [0; 64];
        let length = stream.read(&mut heard).await.expect("its proof");
        // Its own proof, then frames.
        push(&mut stream, &[&heard[..length], &frames].concat()).await;
        rest(&mut stream).await;
    }
    state("the last one is refused", || {
        scene.one.peers.refused(Refusal::Proof) == connections
    })
    .await;
    let took = clock.now().mono.since(contract::Time::ZERO);
    let sent = connections * FRAMES;
    println!("{sent} frames behind reflected proofs: 0 were read; {took:?}");
    scene.is_unmoved().await;
}

/// What a connection holds for a peer is what it was sent, not what it was promised.
#[test]
fn no_greeting_and_no_datagram_makes_its_reader_allocate_for_what_is_not_there() {
    const ALLOCATED_MAX: u64 = 64 * 1024;
    let hello = hello_of(3, 1, Track::Bulk, 5).encode();
    let mut framed = BytesMut::new();
    wire::put(&mut framed, Kind::Frame(FrameClass::Commit), &hello);
    let mut cases = 0;
    let mut most = 0;
    for claim in [u64::MAX, 1 << 40, 1 << 20, 60_000, 300] {
        for good in [&hello[..], &framed[..]] {
            for at in 0..good.len() {
                let mut octets = good.to_vec();
                let end = good.len().min(at + 8);
                octets[at..end].copy_from_slice(&claim.to_le_bytes()[..end - at]);
                let held = allocation_counter::measure(|| {
                    let _ = Hello::decode(&octets, SchemaVersion::OLDEST);
                    let mut buffer = BytesMut::from(&octets[..]);
                    while let Ok(Some(_)) = wire::take(&mut buffer, FRAME_BYTES_MAX) {}
                });
                cases += 1;
                most = most.max(held.bytes_max);
            }
        }
    }
    println!("greetings and frames: {cases} bombs, at most {most} octets at once");
    assert!(most < ALLOCATED_MAX && cases > 500, "{most} {cases}");
}
