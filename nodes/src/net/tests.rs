//! Sockets on the loopback: what comes in reaches the sink, what goes out reaches the peer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use contract::env::{NetSink, Work};
use contract::{Door, FlowRef, ListenerId, NodeId, StreamKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use super::{Network, Streams};

#[derive(Debug, PartialEq)]
pub(super) enum Seen {
    Datagram(std::net::SocketAddr, Bytes),
    Accepted,
    Opened(FlowRef),
    Bytes(FlowRef, Bytes),
    Closed(FlowRef, String),
}

pub(super) struct Recorder {
    seen: Mutex<Sender<Seen>>,
    numbers: AtomicU64,
    /// Takes nobody in.
    pub(super) is_full: AtomicBool,
    /// The one address that is not let in.
    pub(super) banned: Mutex<Option<std::net::IpAddr>>,
}

impl Recorder {
    pub(super) fn new() -> (Arc<Self>, Receiver<Seen>) {
        let (sender, receiver) = channel();
        (
            Arc::new(Recorder {
                seen: Mutex::new(sender),
                numbers: AtomicU64::new(1),
                is_full: AtomicBool::new(false),
                banned: Mutex::default(),
            }),
            receiver,
        )
    }

    fn note(&self, seen: Seen) {
        let _ = self.seen.lock().expect("not poisoned").send(seen);
    }
}

impl NetSink for Recorder {
    fn datagram(&self, _listener: ListenerId, remote: std::net::SocketAddr, bytes: Bytes) {
        self.note(Seen::Datagram(remote, bytes));
    }

    fn lets_in(&self, _listener: ListenerId, remote: std::net::SocketAddr) -> bool {
        *self.banned.lock().expect("not poisoned") != Some(remote.ip())
    }

    fn accepted(
        &self,
        listener: ListenerId,
        remote: std::net::SocketAddr,
        door: Door,
    ) -> Option<FlowRef> {
        if self.is_full.load(Ordering::Relaxed) {
            return None;
        }
        self.note(Seen::Accepted);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        Some(FlowRef::Stream {
            node: NodeId(1),
            number,
            listener,
            remote,
            door,
        })
    }

    fn opened(&self, flow: FlowRef) {
        self.note(Seen::Opened(flow));
    }

    fn bytes(&self, flow: &FlowRef, bytes: Bytes) -> Option<Work> {
        self.note(Seen::Bytes(*flow, bytes));
        None
    }

    fn closed(&self, flow: &FlowRef, why: String) {
        self.note(Seen::Closed(*flow, why));
    }
}

pub(super) const WAIT: Duration = Duration::from_secs(10);

/// Returns how a socket marks what it sends: the octet of IPv4 or IPv6 behind its congestion bits.
fn mark_of(socket: &impl std::os::fd::AsFd, is_ipv6: bool) -> i32 {
    use nix::sys::socket::{getsockopt, sockopt};
    let octet = match is_ipv6 {
        true => getsockopt(socket, sockopt::Ipv6TClass),
        false => getsockopt(socket, sockopt::IpTos),
    };
    octet.expect("an octet") >> 2
}

#[test]
fn what_is_sent_is_marked_as_its_listener_says() {
    let runtime = runtime();
    let _inside = runtime.enter();
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let local: std::net::SocketAddr = local.parse().expect("address");
        let Ok((_, reader)) = super::udp::bind(local, 26) else {
            assert!(local.is_ipv6(), "only IPv6 may be missing");
            continue;
        };
        assert_eq!(mark_of(&reader, local.is_ipv6()), 26, "{local}");
        let media = crate::media_plane::ports::bind(local, 46).expect("a socket");
        assert_eq!(mark_of(&media, local.is_ipv6()), 46, "{local}");

        let listener = super::tcp::bind(local).expect("bound");
        let bound = listener.local_addr().expect("bound");
        crate::dscp::mark(&listener, local.is_ipv6(), 24);
        let accepted = runtime.spawn(async move { super::tcp::next(&listener).await.0 });
        let ours = runtime.block_on(super::tcp::open(bound, Some(local), 40));
        assert_eq!(
            mark_of(&ours.expect("connected"), local.is_ipv6()),
            40,
            "{local}"
        );
        let theirs = runtime.block_on(accepted).expect("accepted");
        assert_eq!(
            mark_of(&theirs, local.is_ipv6()),
            24,
            "as its listener: {local}"
        );
    }
}

pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("runtime")
}

#[test]
fn datagrams_of_a_burst_all_arrive_in_order() {
    let runtime = runtime();
    let network = Arc::new(Network::new(runtime.handle().clone(), Streams::default()));
    let (sink, seen) = Recorder::new();
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(bound) =
            network.bind_datagram(ListenerId(0), local.parse().expect("address"), sink.clone())
        else {
            assert_eq!(local, "[::1]:0", "only IPv6 may be missing");
            continue;
        };
        let peer = std::net::UdpSocket::bind((bound.ip(), 0)).expect("a socket");
        for number in 0..200u32 {
            peer.send_to(&number.to_be_bytes(), bound).expect("sent");
        }
        for number in 0..200u32 {
            let expected = Bytes::copy_from_slice(&number.to_be_bytes());
            let from = peer.local_addr().expect("bound");
            assert_eq!(seen.recv_timeout(WAIT), Ok(Seen::Datagram(from, expected)));
        }
        let flow = FlowRef::Datagram {
            listener: ListenerId(0),
            remote: peer.local_addr().expect("bound"),
        };
        network.send(&flow, Bytes::from_static(b"back"));
        let mut buffer = [0; 16];
        peer.set_read_timeout(Some(WAIT)).expect("set");
        let (length, from) = peer.recv_from(&mut buffer).expect("received");
        assert_eq!((&buffer[..length], from), (&b"back"[..], bound));
    }
}

#[test]
fn a_port_in_use_is_refused_with_its_address() {
    let runtime = runtime();
    let network = Arc::new(Network::new(runtime.handle().clone(), Streams::default()));
    let (sink, _seen) = Recorder::new();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let taken = udp.local_addr().expect("bound");
    let error = network
        .bind_datagram(ListenerId(0), taken, sink.clone())
        .expect_err("in use");
    assert_eq!((error.what, error.address), ("udp", taken));
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let taken = tcp.local_addr().expect("bound");
    let error = network
        .bind_stream(ListenerId(0), taken, StreamKind::Tcp, sink)
        .expect_err("in use");
    assert_eq!((error.what, error.address), ("tcp", taken));
}

#[test]
fn a_connection_carries_both_ways_and_ends_once() {
    let runtime = runtime();
    let network = Arc::new(Network::new(runtime.handle().clone(), Streams::default()));
    let (sink, seen) = Recorder::new();
    let bound = network
        .bind_stream(
            ListenerId(3),
            "127.0.0.1:0".parse().expect("address"),
            StreamKind::Tcp,
            sink.clone(),
        )
        .expect("bound");
    runtime.block_on(async {
        let mut peer = tokio::net::TcpStream::connect(bound)
            .await
            .expect("connected");
        peer.write_all(b"hello").await.expect("written");
        let flow = FlowRef::Stream {
            node: NodeId(1),
            number: 1,
            listener: ListenerId(3),
            remote: peer.local_addr().expect("bound"),
            door: Door::Sip,
        };
        assert_eq!(seen.recv_timeout(WAIT), Ok(Seen::Accepted));
        assert_eq!(
            seen.recv_timeout(WAIT),
            Ok(Seen::Bytes(flow, Bytes::from_static(b"hello")))
        );
        network.send(&flow, Bytes::from_static(b"one "));
        network.send(&flow, Bytes::from_static(b"two"));
        network.close(&flow, contract::CloseCode::Normal, "enough");
        let mut text = String::new();
        peer.read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "one two");
        assert_eq!(
            seen.recv_timeout(WAIT),
            Ok(Seen::Closed(flow, "enough".to_owned()))
        );
    });
}

#[test]
fn a_connection_of_ours_opens_or_says_why_not() {
    let runtime = runtime();
    let network = Arc::new(Network::new(runtime.handle().clone(), Streams::default()));
    let (sink, seen) = Recorder::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let remote = listener.local_addr().expect("bound");
    let flow = |number| FlowRef::Stream {
        node: NodeId(1),
        number,
        listener: ListenerId(0),
        remote,
        door: Door::Sip,
    };
    network.connect(flow(7), sink.clone());
    assert_eq!(seen.recv_timeout(WAIT), Ok(Seen::Opened(flow(7))));
    drop(listener);
    network.connect(flow(8), sink);
    let mut closed = Vec::new();
    while closed.len() < 2 {
        let event = seen.recv_timeout(WAIT).expect("both end");
        let Seen::Closed(flow, _) = event else {
            panic!("{event:?}")
        };
        closed.push(flow);
    }
    closed.sort();
    assert_eq!(closed, [flow(7), flow(8)]);
}

#[test]
fn a_peer_that_reads_nothing_loses_its_connection() {
    let runtime = runtime();
    let network = Arc::new(Network::new(runtime.handle().clone(), Streams::default()));
    let (sink, seen) = Recorder::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let remote = listener.local_addr().expect("bound");
    let flow = FlowRef::Stream {
        node: NodeId(1),
        number: 1,
        listener: ListenerId(0),
        remote,
        door: Door::Sip,
    };
    network.connect(flow, sink);
    let peer = listener.accept().expect("accepted");
    assert_eq!(seen.recv_timeout(WAIT), Ok(Seen::Opened(flow)));
    for _ in 0..10_000 {
        network.send(&flow, Bytes::from(vec![0; 64 * 1024]));
    }
    let closed = seen.recv_timeout(WAIT);
    assert_eq!(
        closed,
        Ok(Seen::Closed(flow, "the peer takes too little".to_owned()))
    );
    drop(peer);
}
