//! The HTTP door with a real listener and a console that notes what it is asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::call::{Order, Party};
use actors::console::{Page, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use bytes::Bytes;
use contract::{Kind, Secret};
use tokio::runtime::Runtime;

use super::guard::{Guard, Peer, Refusal};
use super::{ConsoleDoor, HttpParts, Reply, Tickets, listen, serve};

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct FakeConsole {
    tickets: Arc<Tickets>,
    asked: Mutex<Vec<Request>>,
    state: &'static str,
    takes: bool,
}

impl ConsoleDoor for FakeConsole {
    fn ask(&self, ticket: u64, request: Request) -> bool {
        let status = if matches!(request, Request::Stop { .. }) {
            202
        } else {
            200
        };
        self.asked.lock().expect("not poisoned").push(request);
        let body = format!("{{\"items\":[{{\"state\":\"{}\"}}]}}", self.state);
        if self.takes {
            self.tickets.answer(
                ticket,
                Reply {
                    status,
                    body: Bytes::from(body),
                },
            );
        }
        self.takes
    }
}

/// Nothing happens here; what readers are told is tested in `events_tests.rs`.
struct NoLog;

impl super::EventDoor for NoLog {
    fn end(&self) -> cluster::Cursor {
        cluster::Cursor::default()
    }

    fn read(
        &self,
        _: &mut cluster::Cursor,
        _: &mut dyn FnMut(&contract::LogEvent) -> bool,
    ) -> cluster::Seen {
        cluster::Seen::default()
    }

    fn changed(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }

    fn of_call(&self, _: contract::CallKey) -> cluster::CallLog {
        cluster::CallLog::default()
    }
}

struct Door {
    _runtime: Runtime,
    address: SocketAddr,
    console: Arc<FakeConsole>,
}

fn door(state: &'static str, takes: bool) -> Door {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("runtime");
    let tickets = Arc::new(Tickets::default());
    let asked = Mutex::default();
    let console = Arc::new(FakeConsole {
        tickets: tickets.clone(),
        asked,
        state,
        takes,
    });
    let parts = HttpParts::new(
        console.clone(),
        tickets,
        Arc::new(NoLog),
        Secret::new(TOKEN),
    )
    .with_names(
        vec!["pbx.example".to_owned()],
        vec!["https://console.example".to_owned()],
    );
    let inside = runtime.enter();
    let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("bound");
    drop(inside);
    let address = listener.local_addr().expect("bound");
    serve(runtime.handle(), listener, Arc::new(parts));
    Door {
        _runtime: runtime,
        address,
        console,
    }
}

impl Door {
    fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> (u16, String) {
        let host = format!("Host: {}", self.address);
        let mut lines = vec![
            format!("{method} {path} HTTP/1.1"),
            "Connection: close".to_owned(),
        ];
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            lines.push(host);
        }
        lines.extend(headers.iter().map(|header| (*header).to_owned()));
        lines.push(format!("Content-Length: {}", body.len()));
        let mut stream = TcpStream::connect(self.address).expect("connected");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("set");
        let _ = stream.write_all((lines.join("\r\n") + "\r\n\r\n" + body).as_bytes());
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text).into_owned();
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        (status.unwrap_or(0), text)
    }

    /// Each row is one message to the console, and its answer is JSON.
    fn expect_each(&self, table: Vec<(&str, &str, &str, Request)>) {
        let bearer = format!("Authorization: Bearer {TOKEN}");
        for (method, path, body, expected) in table {
            let (status, text) = self.ask(method, path, &[&bearer], body);
            assert!((200..300).contains(&status), "{path}: {text}");
            assert!(
                text.contains("application/json") && text.contains("nosniff"),
                "{text}"
            );
            assert_eq!(self.asked(), [expected], "{path}");
        }
    }

    fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut *self.console.asked.lock().expect("not poisoned"))
    }
}

fn page(offset: usize, limit: usize) -> Page {
    Page { offset, limit }
}

#[test]
fn every_route_is_one_message_to_the_console() {
    let door = door("up", true);
    let lane = || "lane:1/0".parse().expect("an ID");
    let registration = || "registration:1000@weft.local".parse().expect("an ID");
    let table: Vec<(&str, &str, &str, Request)> = vec![
        ("GET", "/api/v1/nodes", "", Request::Nodes),
        (
            "GET",
            "/api/v1/actors?kind=call&node=a&q=10&limit=5000&offset=3",
            "",
            Request::Actors {
                kind: Some(Kind::Call),
                node: Some("a".to_owned()),
                contains: Some("10".to_owned()),
                page: page(3, 1_000),
            },
        ),
        (
            "GET",
            "/api/v1/actors/lane:1%2F0",
            "",
            Request::Inspect { id: lane() },
        ),
        (
            "GET",
            "/api/v1/actors/lane:1%2F0/trace",
            "",
            Request::Trace { id: lane() },
        ),
        (
            "POST",
            "/api/v1/actors/registration:1000@weft.local/stop",
            "{\"epoch\":7}",
            Request::Stop {
                id: registration(),
                epoch: Some(7),
            },
        ),
        (
            "POST",
            "/api/v1/actors/registration:1000@weft.local/stop",
            "",
            Request::Stop {
                id: registration(),
                epoch: None,
            },
        ),
        (
            "POST",
            "/api/v1/actors/registration:1000@weft.local/move",
            "{\"to\":\"b\"}",
            Request::Move {
                id: registration(),
                to: "b".to_owned(),
                epoch: None,
            },
        ),
        (
            "POST",
            "/api/v1/actors/registration:1000@weft.local/move",
            "{\"to\":\"b\",\"epoch\":3}",
            Request::Move {
                id: registration(),
                to: "b".to_owned(),
                epoch: Some(3),
            },
        ),
        (
            "POST",
            "/api/v1/nodes/weft-2/drain",
            "{\"max_s\":60}",
            Request::Drain {
                node: Some("weft-2".to_owned()),
                max_s: 60,
            },
        ),
        (
            "POST",
            "/api/v1/nodes/self/drain",
            "",
            Request::Drain {
                node: None,
                max_s: 1_800,
            },
        ),
        (
            "GET",
            "/api/v1/calls",
            "",
            Request::Calls {
                contains: None,
                page: page(0, 100),
            },
        ),
        (
            "GET",
            "/api/v1/registrations?q=1000%40",
            "",
            Request::Registrations {
                contains: Some("1000@".to_owned()),
                page: page(0, 100),
            },
        ),
        (
            "GET",
            "/api/v1/users/1000",
            "",
            Request::User {
                dn: "1000".to_owned(),
            },
        ),
    ];
    door.expect_each(table);
}

#[test]
fn orders_to_a_call_are_messages_to_the_console() {
    let door = door("up", true);
    let id = "33a41bbe-a201-81d2-a086-d8f4bd7c1a00";
    let steer = |command: Option<&str>, order| Request::Steer {
        call: id.parse().expect("a call"),
        command: command.map(str::to_owned),
        order,
    };
    let path = |name: &str| format!("/api/v1/calls/{id}/{name}");
    let table = [
        (
            path("hangup"),
            "",
            steer(
                None,
                Order::Hangup {
                    cause: "NORMAL_CLEARING".to_owned(),
                },
            ),
        ),
        (
            path("hangup"),
            r#"{"cause":"USER_BUSY","command_id":"c-1"}"#,
            steer(
                Some("c-1"),
                Order::Hangup {
                    cause: "USER_BUSY".to_owned(),
                },
            ),
        ),
        (
            path("transfer"),
            r#"{"party":"caller","to":"1002"}"#,
            steer(
                None,
                Order::Transfer {
                    party: Party::Caller,
                    to: "1002".to_owned(),
                },
            ),
        ),
        (
            path("hold"),
            r#"{"party":"callee"}"#,
            steer(
                None,
                Order::Hold {
                    party: Party::Callee,
                },
            ),
        ),
        (
            format!("/api/v1/calls/call:{id}/unhold"),
            r#"{"party":"callee"}"#,
            steer(
                None,
                Order::Unhold {
                    party: Party::Callee,
                },
            ),
        ),
        (
            path("dtmf"),
            r#"{"party":"caller","digits":"12#","duration_ms":40}"#,
            steer(
                None,
                Order::Digits {
                    party: Party::Caller,
                    digits: "12#".to_owned(),
                    duration: Duration::from_millis(40),
                },
            ),
        ),
    ];
    let table = table.iter();
    let rows = table.map(|(path, body, order)| ("POST", path.as_str(), *body, order.clone()));
    door.expect_each(rows.collect());
}

const CALL_HOLD: &str = "/api/v1/calls/33a41bbe-a201-81d2-a086-d8f4bd7c1a00/hold";
const CALL_TRANSFER: &str = "/api/v1/calls/33a41bbe-a201-81d2-a086-d8f4bd7c1a00/transfer";
const CALL_DTMF: &str = "/api/v1/calls/33a41bbe-a201-81d2-a086-d8f4bd7c1a00/dtmf";

#[test]
fn what_is_no_request_is_a_problem_and_asks_nobody() {
    let door = door("up", true);
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let big = "x".repeat(70_000);
    let table = [
        ("GET", "/api/v1/actors/sheep", "", 400),
        ("GET", "/api/v1/actors?kind=sheep", "", 400),
        ("GET", "/api/v1/actors?limit=many", "", 400),
        ("GET", "/api/v1/actors?wool=1", "", 400),
        (
            "POST",
            "/api/v1/actors/lane:1%2F0/stop",
            "{\"epoch\":\"x\"}",
            400,
        ),
        ("POST", "/api/v1/actors/lane:1%2F0/move", "", 400),
        ("POST", "/api/v1/nodes/a/drain", "{\"max_s\":0}", 400),
        ("POST", "/api/v1/nodes/a/drain", "{\"max_s\":9000}", 400),
        ("GET", "/api/v1/nodes/a/drain", "", 405),
        ("POST", "/api/v1/actors/lane:1%2F0/stop", big.as_str(), 413),
        (
            "POST",
            "/api/v1/calls/x/hold",
            "{\"party\":\"caller\"}",
            400,
        ),
        ("POST", CALL_HOLD, "", 400),
        ("POST", CALL_HOLD, "{\"party\":\"both\"}", 400),
        (
            "POST",
            CALL_HOLD,
            "{\"party\":\"caller\",\"command_id\":\"a b\"}",
            400,
        ),
        ("POST", CALL_TRANSFER, "{\"party\":\"caller\"}", 400),
        (
            "POST",
            CALL_TRANSFER,
            "{\"party\":\"caller\",\"to\":\"1\\r\\nX: y\"}",
            400,
        ),
        (
            "POST",
            CALL_DTMF,
            "{\"party\":\"caller\",\"digits\":\"x\"}",
            400,
        ),
        (
            "POST",
            CALL_DTMF,
            "{\"party\":\"caller\",\"digits\":\"1\",\"duration_ms\":1}",
            400,
        ),
        (
            "POST",
            "/api/v1/calls/33a41bbe-a201-81d2-a086-d8f4bd7c1a00/sing",
            "",
            404,
        ),
        ("GET", CALL_HOLD, "", 405),
        ("GET", "/api/v1/sheep", "", 404),
        ("DELETE", "/api/v1/nodes", "", 405),
    ];
    for (method, path, body, expected) in table {
        let (status, text) = door.ask(method, path, &[&bearer], body);
        assert_eq!(status, expected, "{method} {path}: {text}");
        assert!(text.contains("application/problem+json"), "{text}");
    }
    assert!(door.asked().is_empty());
}

#[test]
fn readiness_is_what_the_console_says() {
    for (state, takes, expected) in [
        ("up", true, 200),
        ("quarantined", true, 503),
        ("draining", true, 503),
        ("up", false, 503),
    ] {
        let door = door(state, takes);
        assert_eq!(
            door.ask("GET", "/readyz", &[], "").0,
            expected,
            "{state} {takes}"
        );
        // Health and readiness are open to every balancer.
        assert_eq!(
            door.ask("GET", "/healthz", &["Host: any.example"], "").0,
            200
        );
    }
}

#[test]
fn a_request_needs_host_origin_and_token() {
    let door = door("up", true);
    let own = format!("Origin: http://{}", door.address);
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let wrong = format!("Authorization: Bearer {}", TOKEN.replace('0', "1"));
    let table: [(&str, &[&str], u16); 14] = [
        ("GET", &[], 200),
        ("POST", &[], 401),
        ("POST", &[&bearer], 202),
        ("POST", &[&wrong], 401),
        ("GET", &[&wrong], 401),
        ("POST", &["Authorization: Basic eA=="], 401),
        ("GET", &["Host: pbx.example:8080"], 200),
        ("GET", &["Host: evil.example"], 403),
        ("GET", &["Host: localhost.evil.example"], 403),
        ("GET", &[&own], 200),
        ("GET", &["Origin: https://console.example"], 200),
        ("GET", &["Origin: https://console.example.evil"], 403),
        ("GET", &["Origin: null"], 403),
        ("POST", &[&bearer, "Origin: http://evil.example"], 403),
    ];
    for (method, headers, expected) in table {
        let path = if method == "GET" {
            "/api/v1/nodes"
        } else {
            "/api/v1/actors/registration:1@a/stop"
        };
        let (status, text) = door.ask(method, path, headers, "");
        assert_eq!(status, expected, "{method} {headers:?}: {text}");
        assert!(!text.contains(TOKEN), "{text}");
    }
}

#[test]
fn off_the_loopback_even_a_look_needs_the_token() {
    let guard = Guard {
        token: Secret::new(TOKEN),
        hosts: Vec::new(),
        origins: Vec::new(),
    };
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let here = Peer {
        local: address("127.0.0.1:8080"),
        remote: address("127.0.0.1:9"),
    };
    let mapped = Peer {
        local: address("[::ffff:127.0.0.1]:8080"),
        remote: address("[::1]:9"),
    };
    let away = Peer {
        local: address("192.0.2.1:8080"),
        remote: address("192.0.2.9:9"),
    };
    let headers = |lines: &[(&str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    };
    let plain = headers(&[("host", "192.0.2.1:8080")]);
    assert_eq!(guard.check(&Method::GET, &plain, here), Ok(()));
    assert_eq!(guard.check(&Method::GET, &plain, mapped), Ok(()));
    assert_eq!(guard.check(&Method::GET, &plain, away), Err(Refusal::Token));
    let proven = headers(&[
        ("host", "[2001:db8::1]:8080"),
        ("authorization", &format!("bearer {TOKEN}")),
    ]);
    assert_eq!(guard.check(&Method::GET, &proven, away), Ok(()));
    for host in ["", "a:b", "[::1", "evil", "127.0.0.1:99999", "[::1]x"] {
        let headers = headers(&[("host", host)]);
        assert_eq!(
            guard.check(&Method::GET, &headers, here),
            Err(Refusal::Host),
            "{host}"
        );
    }
    let twice = headers(&[("host", "127.0.0.1"), ("host", "127.0.0.1")]);
    assert_eq!(guard.check(&Method::GET, &twice, here), Err(Refusal::Host));
    assert_eq!(
        guard.check(&Method::GET, &HeaderMap::new(), here),
        Err(Refusal::Host)
    );
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    let door = door("up", true);
    let mut stream = TcpStream::connect(door.address).expect("connected");
    stream
        .write_all(b"GET /api/v1/nodes HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        .expect("written");
    stream
        .set_read_timeout(Some(Duration::from_secs(15)))
        .expect("set");
    let mut rest = Vec::new();
    // The deadline of 10 s ends it: the read returns instead of timing out.
    assert!(stream.read_to_end(&mut rest).is_ok());
}
