//! WebSockets on the loopback: what is let in, what goes through, and how it ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use bytes::Bytes;
use contract::{CloseCode, Door, FlowRef, ListenerId, StreamKind};
use futures_util::{SinkExt, StreamExt};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::tests::{Recorder, Seen, WAIT, runtime};
use super::ws::Pace;
use super::{Haste, Network, Streams, WebRules};

struct Web {
    runtime: Runtime,
    network: Arc<Network>,
    sink: Arc<Recorder>,
    seen: Receiver<Seen>,
    bound: SocketAddr,
}

fn web_with(rules: WebRules, pace: Pace) -> Web {
    let runtime = runtime();
    let streams = Streams {
        rules,
        ..Streams::default()
    };
    let mut network = Network::new(runtime.handle().clone(), streams);
    network.pace = pace;
    let network = Arc::new(network);
    let (sink, seen) = Recorder::new();
    let local = "127.0.0.1:0".parse().expect("an address");
    let bound = network
        .bind_stream(ListenerId(4), local, StreamKind::Ws, sink.clone())
        .expect("bound");
    Web {
        runtime,
        network,
        sink,
        seen,
        bound,
    }
}

fn web() -> Web {
    web_with(WebRules::default(), Pace::default())
}

/// A client of octets: it can do what no library would.
struct Raw(TcpStream);

impl Web {
    fn ask(&self, lines: &str) -> (Raw, String) {
        let mut stream = TcpStream::connect(self.bound).expect("connected");
        stream.set_read_timeout(Some(WAIT * 2)).expect("set");
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: SGVsbG8sIHdvcmxkIQ==\r\n{lines}\r\n",
            self.bound
        );
        stream.write_all(request.as_bytes()).expect("written");
        let mut raw = Raw(stream);
        let head = raw.head();
        (raw, head)
    }

    fn open(&self, lines: &str) -> Raw {
        let (raw, head) = self.ask(lines);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        raw
    }

    fn sip(&self) -> (Raw, FlowRef) {
        let mut raw = self.open("Sec-WebSocket-Protocol: sip\r\n");
        assert_eq!(self.next(), Seen::Accepted);
        raw.text("hello");
        let Seen::Bytes(flow, octets) = self.next() else {
            panic!("a message")
        };
        assert_eq!(octets, "hello");
        (raw, flow)
    }

    fn next(&self) -> Seen {
        self.seen.recv_timeout(WAIT * 2).expect("something")
    }
}

/// One frame of a client: masked, with any first octet.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![first];
    match u16::try_from(payload.len()) {
        Ok(short @ 0..=125) => octets.push(0x80 | short.to_be_bytes()[1]),
        Ok(length) => {
            octets.push(0x80 | 126);
            octets.extend(length.to_be_bytes());
        }
        Err(_) => {
            octets.push(0x80 | 127);
            octets.extend((payload.len() as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    octets.extend(mask);
    octets.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
    octets
}

impl Raw {
    fn head(&mut self) -> String {
        let mut head = Vec::new();
        let mut octet = [0];
        while !head.ends_with(b"\r\n\r\n") && self.0.read_exact(&mut octet).is_ok() {
            head.push(octet[0]);
        }
        String::from_utf8_lossy(&head).into_owned()
    }

    fn put(&mut self, octets: &[u8]) {
        // The server may have closed in the middle of it.
        let _ = self.0.write_all(octets);
    }

    fn text(&mut self, text: &str) {
        self.put(&frame(0x81, text.as_bytes()));
    }

    /// Reads a frame: first octet and payload; `None` at the end.
    fn get(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).ok()?;
        assert_eq!(head[1] & 0x80, 0, "a server masks nothing");
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length).ok()?;
                usize::from(u16::from_be_bytes(length))
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).ok()?;
        Some((head[0], payload))
    }

    /// Reads up to the close frame and the end of the connection; returns code and reason.
    fn closed(&mut self) -> (u16, String) {
        loop {
            match self.get() {
                Some((0x88, payload)) => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    let reason = String::from_utf8(payload[2..].to_vec()).expect("UTF-8");
                    self.put(&frame(0x88, &payload[..2]));
                    assert_eq!(self.get(), None, "the connection ends");
                    return (code, reason);
                }
                Some(_) => {}
                None => panic!("no close frame"),
            }
        }
    }
}

#[test]
fn a_listener_answers_as_the_requirements_say() {
    let web = web();
    let (_, head) = web.ask("");
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    let lower = head.to_lowercase();
    for line in ["\r\nupgrade: websocket\r\n", "\r\nconnection: upgrade\r\n"] {
        assert!(lower.contains(line), "{head}");
    }
    assert!(
        head.contains(": qGEgH3En71di5rrssAZTmtRTyFk=\r\n"),
        "{head}"
    );
    assert!(!lower.contains("extensions"), "{head}");
    let (_, head) =
        web.ask("Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Extensions: permessage-deflate\r\n");
    let lower = head.to_lowercase();
    assert!(lower.contains("sec-websocket-protocol: sip\r\n"), "{head}");
    assert!(!lower.contains("extensions"), "{head}");
    for (lines, status) in [
        ("Sec-WebSocket-Protocol: chat\r\n", 400),
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Sec-WebSocket-Version: 8\r\n", 426),
    ] {
        let (mut raw, head) = web.ask(lines);
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{lines}: {head}"
        );
        let mut rest = String::new();
        let _ = raw.0.read_to_string(&mut rest);
        assert!(!rest.is_empty(), "it says why");
    }
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "426"),
        ("OPTIONS sip:x SIP/2.0\r\n\r\n", "400"),
    ] {
        let mut stream = TcpStream::connect(web.bound).expect("connected");
        stream.set_read_timeout(Some(WAIT)).expect("set");
        stream.write_all(request.as_bytes()).expect("written");
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {text}"
        );
    }
}

#[test]
fn each_message_is_one_call_whatever_its_frames() {
    let web = web();
    let (mut raw, flow) = web.sip();
    let FlowRef::Stream {
        door,
        listener,
        remote,
        ..
    } = flow
    else {
        panic!("{flow}")
    };
    assert_eq!((door, listener), (Door::Sip, ListenerId(4)));
    assert_eq!(remote, raw.0.local_addr().expect("bound"));
    let bytes = |text: &'static str| Seen::Bytes(flow, Bytes::from_static(text.as_bytes()));
    raw.put(&frame(0x82, b"binary"));
    assert_eq!(web.next(), bytes("binary"));
    // Three fragments, a ping between them; then two messages in one write.
    for part in [
        frame(0x01, b"fra"),
        frame(0x00, b"gmen"),
        frame(0x89, b"?"),
        frame(0x80, b"ted"),
    ] {
        raw.put(&part);
    }
    assert_eq!(raw.get(), Some((0x8a, b"?".to_vec())), "a pong at once");
    assert_eq!(web.next(), bytes("fragmented"));
    raw.put(&[frame(0x81, b"\r\n\r\n"), frame(0x81, b"next")].concat());
    assert_eq!(web.next(), bytes("\r\n\r\n"));
    assert_eq!(web.next(), bytes("next"));
    let long = "x".repeat(64 * 1024);
    raw.text(&long);
    assert_eq!(web.next(), Seen::Bytes(flow, Bytes::from(long)));
    // Each of ours is one frame: text, or binary if it is none.
    web.network.send(&flow, Bytes::from_static(b"one"));
    web.network.send(&flow, Bytes::from_static(b"\xff\xfe"));
    assert_eq!(raw.get(), Some((0x81, b"one".to_vec())));
    assert_eq!(raw.get(), Some((0x82, b"\xff\xfe".to_vec())));
    // The peer's own close is answered in kind.
    raw.put(&frame(0x88, &[0x03, 0xe8]));
    assert_eq!(raw.closed().0, 1_000);
    assert_eq!(
        web.next(),
        Seen::Closed(flow, "closed by the peer".to_owned())
    );
}

#[test]
fn a_library_client_speaks_json() {
    let web = web();
    web.runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(web.bound)
            .await
            .expect("connected");
        let mut request = format!("ws://{}/any/path", web.bound)
            .into_client_request()
            .expect("a request");
        request.headers_mut().insert(
            "Sec-WebSocket-Protocol",
            HeaderValue::from_static("weft.json.v1"),
        );
        let (mut client, response) = tokio_tungstenite::client_async(request, stream)
            .await
            .expect("101");
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "weft.json.v1");
        client
            .send(Message::text("{\"type\":\"ping\"}"))
            .await
            .expect("sent");
        assert_eq!(web.next(), Seen::Accepted);
        let Seen::Bytes(flow, octets) = web.next() else {
            panic!("a message")
        };
        assert_eq!(octets, "{\"type\":\"ping\"}");
        assert!(matches!(
            flow,
            FlowRef::Stream {
                door: Door::Json,
                ..
            }
        ));
        web.network.send(&flow, Bytes::from_static(b"{}"));
        web.network
            .close(&flow, CloseCode::Restart, "the node restarts");
        assert_eq!(
            client.next().await.expect("a message").expect("fine"),
            Message::text("{}")
        );
        let Some(Ok(Message::Close(Some(frame)))) = client.next().await else {
            panic!("a close frame")
        };
        assert_eq!(u16::from(frame.code), 1_012);
        assert_eq!(frame.reason.as_str(), "the node restarts");
    });
}

#[test]
fn what_breaks_the_protocol_is_told_its_code() {
    let web = web();
    let unmasked = vec![0x81, 2, b'h', b'i'];
    // A message of fragments that are too much together.
    let half = vec![b'x'; 40 * 1024];
    let fragments = [frame(0x01, &half), frame(0x80, &half)].concat();
    let table = [
        ("unmasked", unmasked, 1_002),
        ("reserved bit", frame(0xc1, b"hi"), 1_002),
        ("unknown opcode", frame(0x83, b"hi"), 1_002),
        ("no fragment to continue", frame(0x80, b"hi"), 1_002),
        ("fragmented ping", frame(0x09, b"hi"), 1_002),
        ("long ping", frame(0x89, &[b'x'; 126]), 1_002),
        ("bad UTF-8", frame(0x81, b"\xc3\x28"), 1_007),
        ("too long", frame(0x81, &vec![b'x'; 64 * 1024 + 1]), 1_009),
        ("too long in fragments", fragments, 1_009),
        (
            "far too long",
            {
                let mut octets = vec![0x82, 0x80 | 127];
                octets.extend((u64::MAX >> 1).to_be_bytes());
                octets.extend([1, 2, 3, 4]);
                octets
            },
            1_009,
        ),
    ];
    for (name, octets, code) in table {
        let (mut raw, flow) = web.sip();
        raw.put(&octets);
        let (got, reason) = raw.closed();
        assert_eq!(got, code, "{name}: {reason}");
        assert!(!reason.is_empty(), "{name}");
        assert!(
            matches!(web.next(), Seen::Closed(gone, _) if gone == flow),
            "{name}"
        );
    }
}

#[test]
fn our_own_ends_carry_their_code_and_reason() {
    let web = web();
    for code in [
        CloseCode::Normal,
        CloseCode::GoingAway,
        CloseCode::Protocol,
        CloseCode::Policy,
        CloseCode::TooLong,
        CloseCode::Internal,
        CloseCode::Restart,
        CloseCode::TryLater,
    ] {
        let (mut raw, flow) = web.sip();
        web.network.send(&flow, Bytes::from_static(b"last words"));
        web.network.close(&flow, code, "why");
        assert_eq!(raw.get(), Some((0x81, b"last words".to_vec())));
        assert_eq!(raw.closed(), (code.number(), "why".to_owned()));
        assert_eq!(web.next(), Seen::Closed(flow, "why".to_owned()));
    }
    web.sink.is_full.store(true, Ordering::Relaxed);
    let mut raw = web.open("Sec-WebSocket-Protocol: sip\r\n");
    assert_eq!(raw.closed().0, 1_013);
}

#[test]
fn without_a_subprotocol_the_first_octet_tells() {
    let web = web();
    let mut raw = web.open("");
    raw.text("{}");
    assert_eq!(web.next(), Seen::Accepted);
    assert!(matches!(
        web.next(),
        Seen::Bytes(FlowRef::Stream { door: Door::Json, .. }, octets) if octets == "{}"
    ));
    let mut raw = web.open("");
    raw.text("REGISTER sip:x SIP/2.0");
    let (code, reason) = raw.closed();
    assert_eq!(code, 1_002);
    assert!(reason.contains("subprotocol sip"), "{reason}");
    let rules = WebRules {
        require_sip_subprotocol: false,
        ..WebRules::default()
    };
    let pace = Pace {
        message: Duration::from_millis(200),
        ..Pace::default()
    };
    let lax = web_with(rules, pace);
    let mut raw = lax.open("");
    raw.text("REGISTER sip:x SIP/2.0");
    assert_eq!(lax.next(), Seen::Accepted);
    assert!(matches!(
        lax.next(),
        Seen::Bytes(
            FlowRef::Stream {
                door: Door::Sip,
                ..
            },
            _
        )
    ));
    let mut silent = lax.open("");
    assert_eq!(silent.closed().0, 1_008);
}

#[test]
fn a_peer_that_answers_no_ping_is_dead_and_one_that_does_lives() {
    let pace = Pace {
        ping: Duration::from_millis(100),
        message: Duration::from_secs(10),
    };
    let web = web_with(WebRules::default(), pace);
    let (mut dead, _) = web.sip();
    assert_eq!(dead.get(), Some((0x89, Vec::new())));
    assert_eq!(dead.closed().0, 1_008);
    assert!(matches!(web.next(), Seen::Closed(_, why) if why == "pings are not answered"));
    let (mut alive, flow) = web.sip();
    for _ in 0..8 {
        assert_eq!(alive.get(), Some((0x89, Vec::new())));
        alive.put(&frame(0x8a, b""));
    }
    alive.text("still here");
    assert_eq!(
        web.next(),
        Seen::Bytes(flow, Bytes::from_static(b"still here"))
    );
}

#[test]
fn a_message_that_dribbles_is_cut_off() {
    let pace = Pace {
        ping: Duration::from_secs(30),
        message: Duration::from_millis(300),
    };
    let web = web_with(WebRules::default(), pace);
    let (mut raw, _) = web.sip();
    let octets = frame(0x81, &[b'x'; 60]);
    let mut sent = 0;
    raw.0
        .set_read_timeout(Some(Duration::from_millis(20)))
        .expect("set");
    let mut head = [0];
    // One octet each 20 ms, until the server has enough of it.
    while raw.0.peek(&mut head).is_err() && sent < octets.len() {
        raw.put(&octets[sent..=sent]);
        sent += 1;
    }
    assert!(sent < octets.len(), "it was cut off");
    raw.0.set_read_timeout(Some(WAIT)).expect("set");
    assert_eq!(raw.closed(), (1_008, "a message took too long".to_owned()));
    // Whole messages, however many, are no dribble.
    let (mut busy, flow) = web.sip_after_close();
    for _ in 0..10 {
        busy.text("hello");
        assert_eq!(web.next(), Seen::Bytes(flow, Bytes::from_static(b"hello")));
        std::thread::park_timeout(Duration::from_millis(60));
    }
}

impl Web {
    fn sip_after_close(&self) -> (Raw, FlowRef) {
        assert!(matches!(self.next(), Seen::Closed(..)));
        self.sip()
    }
}

#[test]
fn half_a_handshake_is_cut_off() {
    let web = web();
    let mut stream = TcpStream::connect(web.bound).expect("connected");
    stream
        .set_read_timeout(Some(Duration::from_secs(15)))
        .expect("set");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nUpgr")
        .expect("written");
    let mut rest = Vec::new();
    assert!(
        stream.read_to_end(&mut rest).is_ok(),
        "ended within the deadline of 10 s"
    );
    while !web.network.tables().of_address.is_empty() {
        std::thread::yield_now();
    }
}

#[test]
fn a_drain_tells_all_to_come_back_and_lets_nobody_in() {
    let web = web();
    let mut all: Vec<_> = (0..20).map(|_| web.sip().0).collect();
    let dismissed = {
        let network = Arc::clone(&web.network);
        web.runtime.spawn(async move {
            network
                .dismiss(CloseCode::Restart, "the node restarts", Haste::Ending)
                .await;
        })
    };
    for raw in &mut all {
        assert_eq!(raw.closed(), (1_012, "the node restarts".to_owned()));
    }
    web.runtime.block_on(dismissed).expect("done");
    let mut late = TcpStream::connect(web.bound).expect("connected");
    late.set_read_timeout(Some(WAIT)).expect("set");
    let mut text = Vec::new();
    let _ = late.read_to_end(&mut text);
    assert!(text.is_empty());
}

#[test]
fn a_peer_that_reads_nothing_loses_its_websocket() {
    let web = web();
    let (raw, flow) = web.sip();
    for _ in 0..10_000 {
        web.network.send(&flow, Bytes::from(vec![b'x'; 60 * 1024]));
    }
    let closed = Seen::Closed(flow, "the peer takes too little".to_owned());
    assert_eq!(web.next(), closed);
    drop(raw);
}

#[test]
fn behind_a_trusted_proxy_the_client_is_who_it_says() {
    let trusting = WebRules {
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        hosts: vec!["phone.example".to_owned()],
        ..WebRules::default()
    };
    let web = web_with(trusting, Pace::default());
    // What nginx sends with the settings of S0-20.
    let lines = "X-Real-IP: 203.0.113.9\r\nX-Forwarded-For: 203.0.113.9\r\n\
                 X-Forwarded-Proto: https\r\nSec-WebSocket-Protocol: sip\r\n";
    let mut raw = web.open(lines);
    assert_eq!(web.next(), Seen::Accepted);
    raw.text("hello");
    let Seen::Bytes(flow, _) = web.next() else {
        panic!("a message")
    };
    assert_eq!(flow.remote().ip().to_string(), "203.0.113.9");
    {
        let tables = web.network.tables();
        let counted: Vec<_> = tables.of_address.keys().map(ToString::to_string).collect();
        assert_eq!(
            counted,
            ["203.0.113.9"],
            "the client is counted, not the proxy"
        );
    }
    *web.sink.banned.lock().expect("not poisoned") = "203.0.113.9".parse().ok();
    let (_, head) = web.ask(lines);
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let (_, head) = web.ask("Sec-WebSocket-Protocol: sip\r\n");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}
