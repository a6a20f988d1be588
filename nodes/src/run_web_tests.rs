//! A whole node as browsers meet it: SIP over WebSocket with and without TLS, and the pages.

use std::net::{SocketAddr, UdpSocket};

use contract::Secret;
use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use sip::digest::{Challenge, Question, answer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::tests::{Folder, Running, WAIT, loaded_with, start};
use crate::env_os::within;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

const CONTACT: &str = "sip:abc@df7jal23ls0d.invalid;transport=ws";

/// A node with digest on its WebSocket listeners and none on the others.
fn node(folder: &Folder) -> Running {
    let extra = "[[profile]]\nname = \"web\"\nws = [\"127.0.0.1:0\"]\nwss = [\"127.0.0.1:0\"]\n\
                 tls = [\"127.0.0.1:0\"]\n\
                 [[route]]\nname = \"users\"\nmatch = { destination = '^(1000)$' }\n\
                 do = [{ bridge = \"user/$1\" }]\nmedia = \"bypass\"\n";
    let sets = [
        "http.listen=[\"127.0.0.1:0\"]",
        "http.tls=[\"127.0.0.1:0\"]",
    ];
    start(loaded_with(&folder.0, extra, &sets)).expect("starts")
}

impl Running {
    /// Returns the address of the listener of a profile's protocol, the HTTP ports last.
    fn address(&self, profile: &str, word: &str, is_http: bool) -> SocketAddr {
        let plans = self.loaded.plan.listeners.iter().zip(self.node.listeners());
        let mut found = plans.filter(|(plan, _)| {
            plan.profile == profile
                && plan.protocol.word() == word
                && plan.key.starts_with("http.") == is_http
        });
        *found.next().expect("the listener").1
    }
}

async fn stream(address: SocketAddr, is_tls: bool) -> Box<dyn Stream> {
    let stream = TcpStream::connect(address).await.expect("connected");
    if !is_tls {
        return Box::new(stream);
    }
    let connector = crate::net::tls::connector(None).expect("a connector");
    let name = ServerName::try_from("localhost").expect("a name");
    Box::new(connector.connect(name, stream).await.expect("secured"))
}

/// A phone in a browser, as far as signalling goes.
struct Browser {
    socket: WebSocketStream<Box<dyn Stream>>,
    transport: &'static str,
    number: u32,
    cseq: u32,
}

impl Browser {
    async fn open(address: SocketAddr, is_tls: bool, number: u32) -> Browser {
        let url = format!("ws://{address}/ws");
        let mut request = url.into_client_request().expect("a request");
        let headers = request.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", HeaderValue::from_static("sip"));
        let own = format!("http://{address}");
        headers.insert("Origin", HeaderValue::from_str(&own).expect("a value"));
        let stream = stream(address, is_tls).await;
        let (socket, _) = tokio_tungstenite::client_async(request, stream)
            .await
            .expect("101");
        Browser {
            socket,
            transport: if is_tls { "WSS" } else { "WS" },
            number,
            cseq: 0,
        }
    }

    async fn get(&mut self) -> String {
        loop {
            let message = within(WAIT, self.socket.next()).await.expect("in time");
            match message.expect("open").expect("fine") {
                Message::Text(text) => return text.to_string(),
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Binary(_) | Message::Close(_) | Message::Frame(_) => panic!("text"),
            }
        }
    }

    async fn put(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.expect("sent");
    }

    /// Registers without Content-Length, as RFC 7118 allows; returns the last response.
    async fn register(&mut self) -> String {
        let mut proof = String::new();
        loop {
            self.cseq += 1;
            let request = format!(
                "REGISTER sip:weft.test SIP/2.0\r\nVia: SIP/2.0/{} df7jal23ls0d.invalid;\
                 branch=z9hG4bK{}{}\r\nFrom: <sip:1000@weft.test>;tag=f\r\n\
                 To: <sip:1000@weft.test>\r\nCall-ID: browser-{}\r\nCSeq: {} REGISTER\r\n\
                 Max-Forwards: 70\r\nContact: <{CONTACT}>;expires=3600\r\n{proof}\r\n",
                self.transport, self.number, self.cseq, self.number, self.cseq
            );
            self.put(request).await;
            let response = self.get().await;
            let challenge = response
                .lines()
                .find_map(|line| line.strip_prefix("WWW-Authenticate: "));
            let (Some(challenge), true) = (challenge, proof.is_empty()) else {
                return response;
            };
            let question = Question {
                username: "1000",
                password: &Secret::new("p"),
                method: "REGISTER",
                uri: "sip:weft.test",
                cnonce: "c",
                count: 1,
            };
            let challenge = Challenge::read(challenge).expect("a challenge");
            let value = answer(&challenge, &question).expect("an answer");
            proof = format!("Authorization: {value}\r\n");
        }
    }
}

/// Calls 1000 over UDP, where nobody is asked who they are; returns the phone.
fn call(server: SocketAddr, number: u32) -> UdpSocket {
    let phone = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    phone.set_read_timeout(Some(WAIT)).expect("set");
    let from = phone.local_addr().expect("bound");
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
               m=audio 40000 RTP/AVP 0\r\n";
    let invite = format!(
        "INVITE sip:1000@weft.test SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKi{number};rport\r\n\
         From: <sip:1001@weft.test>;tag=c{number}\r\nTo: <sip:1000@weft.test>\r\n\
         Call-ID: call-{number}\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\
         Contact: <sip:1001@{from}>\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    phone.send_to(invite.as_bytes(), server).expect("sent");
    phone
}

fn answered(phone: &UdpSocket) -> String {
    let mut buffer = [0; 8_192];
    loop {
        let (length, _) = phone.recv_from(&mut buffer).expect("an answer");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if !text.starts_with("SIP/2.0 1") {
            return text;
        }
    }
}

/// Refuses an INVITE as a busy phone does.
fn busy(invite: &str) -> String {
    let kept = ["Via:", "From:", "Call-ID:", "CSeq:"];
    let mut response = "SIP/2.0 486 Busy Here\r\n".to_owned();
    for line in invite.lines().take_while(|line| !line.is_empty()) {
        if kept.iter().any(|name| line.starts_with(name)) {
            response += &format!("{line}\r\n");
        }
        if line.starts_with("To:") {
            response += &format!("{line};tag=b\r\n");
        }
    }
    response + "\r\n"
}

#[test]
fn a_browser_registers_and_is_called_on_its_connection_over_each_websocket() {
    let folder = Folder::new("browser");
    let running = node(&folder);
    let udp = running.address("internal", "udp", false);
    let table = [
        ("web", "ws", false, 401),
        ("web", "wss", false, 401),
        ("internal", "ws", true, 200),
        ("internal", "wss", true, 200),
    ];
    for (number, (profile, word, is_http, first)) in (1..).zip(table) {
        let address = running.address(profile, word, is_http);
        running.runtime.block_on(async {
            let mut browser = Browser::open(address, word == "wss", number).await;
            let response = browser.register().await;
            assert!(response.starts_with("SIP/2.0 200 "), "{word}: {response}");
            assert_eq!(browser.cseq, if first == 401 { 2 } else { 1 }, "{word}");
            assert!(response.contains(CONTACT), "{response}");
            browser.put("\r\n\r\n".to_owned()).await;
            assert_eq!(browser.get().await, "\r\n");
            let caller = tokio::task::block_in_place(|| call(udp, number));
            let invite = browser.get().await;
            assert!(
                invite.starts_with(&format!("INVITE {CONTACT} SIP/2.0\r\n")),
                "{invite}"
            );
            let via = format!("Via: SIP/2.0/{} {address};", word.to_uppercase());
            assert!(invite.contains(&via), "{invite}");
            let contact = format!("@{address};transport=ws>");
            assert!(invite.contains(&contact), "{invite}");
            browser.put(busy(&invite)).await;
            let ack = browser.get().await;
            assert!(ack.starts_with("ACK "), "{ack}");
            let refused = tokio::task::block_in_place(|| answered(&caller));
            assert!(refused.starts_with("SIP/2.0 486 "), "{refused}");
            browser.socket.close(None).await.expect("closed");
        });
    }
    running.stop();
}

async fn fetch(address: SocketAddr, is_tls: bool, path: &str, lines: &str) -> (String, Vec<u8>) {
    let mut stream = stream(address, is_tls).await;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    stream.flush().await.expect("flushed");
    let mut octets = Vec::new();
    let read = within(WAIT, stream.read_to_end(&mut octets)).await;
    assert!(read.is_some(), "ended in time");
    let end = octets
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head");
    let head = String::from_utf8_lossy(&octets[..end]).to_lowercase();
    (head, octets[end + 4..].to_vec())
}

#[test]
fn the_pages_are_served_with_their_types_and_policy() {
    let folder = Folder::new("pages");
    let running = node(&folder);
    let table = [
        ("/phone", "text/html"),
        ("/phone.css", "text/css"),
        ("/phone.js", "text/javascript"),
        ("/weft.js", "text/javascript"),
        ("/favicon.svg", "image/svg+xml"),
    ];
    for (word, is_tls) in [("ws", false), ("wss", true)] {
        let address = running.address("internal", word, true);
        running.runtime.block_on(async {
            let (head, _) = fetch(address, is_tls, "/", "").await;
            assert!(head.starts_with("http/1.1 302 ") && head.contains("location: /phone"));
            for (path, form) in table {
                // The pages are for everybody, by whatever name they come.
                let (head, body) = fetch(address, is_tls, path, "").await;
                assert!(head.starts_with("http/1.1 200 "), "{path}: {head}");
                assert!(head.contains(&format!("content-type: {form}")), "{head}");
                for line in [
                    "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; \
                     img-src 'self' data:; connect-src 'self' ws: wss:; media-src 'self' blob:; \
                     base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
                    "x-content-type-options: nosniff",
                    "referrer-policy: no-referrer",
                    "cache-control: no-cache",
                ] {
                    assert!(head.contains(line), "{path}: {line}\n{head}");
                }
                assert!(!body.is_empty(), "{path}");
                let tag = head.lines().find_map(|line| line.strip_prefix("etag: "));
                let tag = tag.expect("a tag").to_owned();
                let known = format!("If-None-Match: \"x\", W/{tag}\r\n");
                let (head, body) = fetch(address, is_tls, path, &known).await;
                assert!(head.starts_with("http/1.1 304 "), "{path}: {head}");
                assert!(body.is_empty() && head.contains(&tag), "{head}");
            }
            let (head, _) = fetch(address, is_tls, "/phone.exe", "").await;
            assert!(head.starts_with("http/1.1 404 "), "{head}");
            let (head, _) = fetch(address, is_tls, "/healthz", "").await;
            assert!(head.starts_with("http/1.1 200 ") && head.contains("no-store"));
            let (head, _) = fetch(address, is_tls, "/ws", "").await;
            assert!(head.starts_with("http/1.1 426 "), "{head}");
            let evil = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: x\r\nOrigin: https://evil.example\r\n";
            let (head, _) = fetch(address, is_tls, "/ws", evil).await;
            assert!(head.starts_with("http/1.1 403 "), "{head}");
        });
    }
    running.stop();
}
