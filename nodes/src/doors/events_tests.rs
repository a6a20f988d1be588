//! The event log over HTTP: a real listener, a real log, readers that come, stay, and come back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster::{CallLog, Cursor, EventLog, Seen};
use contract::limits::{EVENT_READERS_MAX, EVENTS_KEPT_MS, EVENTS_PER_READ_MAX};
use contract::{Boot, CallKey, CallNews, LogEvent, NodeId, NodeInst, Secret, UtcMillis, What};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket};

use super::events::EventDoor;
use super::{ConsoleDoor, HttpParts, Tickets, listen, serve};

struct Log {
    log: Mutex<EventLog>,
    changed: watch::Sender<u64>,
}

impl EventDoor for Log {
    fn end(&self) -> Cursor {
        self.log.lock().expect("not poisoned").end()
    }

    fn read(&self, cursor: &mut Cursor, wants: &mut dyn FnMut(&LogEvent) -> bool) -> Seen {
        let log = self.log.lock().expect("not poisoned");
        log.read(cursor, EVENTS_PER_READ_MAX, wants)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn of_call(&self, call: CallKey) -> CallLog {
        self.log.lock().expect("not poisoned").of_call(call)
    }
}

impl Log {
    fn say(&self, at: u64, number: u128, news: CallNews) {
        let call = key(number);
        let mut log = self.log.lock().expect("not poisoned");
        log.publish(UtcMillis(at), What::Call { call, news });
        drop(log);
        self.changed.send_modify(|changed| *changed += 1);
    }
}

struct Nobody;

impl ConsoleDoor for Nobody {
    fn ask(&self, _: u64, _: actors::console::Request) -> bool {
        false
    }
}

const LIFE: NodeInst = NodeInst {
    node: NodeId(1),
    boot: Boot(5),
};

fn key(number: u128) -> CallKey {
    CallKey::from_bits(number << 8)
}

struct Door {
    _runtime: Runtime,
    address: SocketAddr,
    log: Arc<Log>,
}

fn door() -> Door {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("runtime");
    let log = Arc::new(Log {
        log: Mutex::new(EventLog::new(LIFE)),
        changed: watch::Sender::new(0),
    });
    let tickets = Arc::new(Tickets::default());
    let parts = HttpParts::new(Arc::new(Nobody), tickets, log.clone(), Secret::new("token"));
    let inside = runtime.enter();
    let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("bound");
    drop(inside);
    let address = listener.local_addr().expect("bound");
    serve(runtime.handle(), listener, Arc::new(parts));
    Door {
        _runtime: runtime,
        address,
        log,
    }
}

/// A stream of server-sent events.
struct Stream {
    socket: TcpStream,
    text: String,
}

impl Door {
    fn open(&self, query: &str, headers: &str) -> Stream {
        let mut socket = TcpStream::connect(self.address).expect("connected");
        let wait = Some(Duration::from_secs(20));
        socket.set_read_timeout(wait).expect("set");
        let request = format!(
            "GET /api/v1/events{query} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n",
            self.address
        );
        socket.write_all(request.as_bytes()).expect("written");
        let text = String::new();
        Stream { socket, text }
    }

    fn refused(&self, query: &str, headers: &str) -> (u16, String) {
        let mut stream = self.open(query, &format!("Connection: close\r\n{headers}"));
        let mut octets = Vec::new();
        let _ = stream.socket.read_to_end(&mut octets);
        let text = String::from_utf8_lossy(&octets).into_owned();
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        (status.expect("a status"), text)
    }
}

impl Stream {
    /// Reads until the text has come so often.
    fn until(&mut self, wanted: &str, count: usize) -> &str {
        let mut octets = [0; 4_096];
        let whole = |text: &str| {
            let (whole, _) = text.rsplit_once("\n\n").unwrap_or_default();
            format!("{whole}\n\n").matches(wanted).count()
        };
        while whole(&self.text) < count {
            let length = self.socket.read(&mut octets).expect("more comes");
            assert!(length > 0, "it ended: {}", self.text);
            self.text
                .push_str(&String::from_utf8_lossy(&octets[..length]));
        }
        &self.text
    }

    fn events(&self) -> Vec<Value> {
        let (whole, _) = self.text.rsplit_once("\n\n").unwrap_or_default();
        let data = whole.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).expect("JSON"))
            .collect()
    }

    fn cursor(&self) -> String {
        // What is torn does not count.
        let (whole, _) = self.text.rsplit_once("\n\n").expect("a block");
        let mut lines = whole.lines().rev();
        let last = lines.find_map(|line| line.strip_prefix("id: "));
        last.expect("a cursor").to_owned()
    }
}

#[test]
fn a_stream_begins_with_its_cursor_and_tells_what_happens() {
    let door = door();
    door.log.say(1_000, 1, CallNews::Answered);
    let mut stream = door.open("", "");
    let head = stream.until("id: v1_1.5.1\n\n", 1).to_ascii_lowercase();
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert!(head.contains("cache-control: no-store"), "{head}");
    assert!(head.contains("retry: 1000"), "{head}");
    door.log.say(1_001, 1, CallNews::Held);
    stream.until("id: v1_1.5.2\n\n", 1);
    let events = stream.events();
    assert_eq!(events[0]["kind"], "call.held");
    assert_eq!(events[0]["id"], "1.5.2");
    assert_eq!(events[0]["at_ms"], 1_001);
    assert_eq!(events[0]["call"], key(1).to_string());
    assert_eq!(events[0]["actor"], format!("call:{}", key(1)));
    assert_eq!(stream.cursor(), "v1_1.5.2");
}

/// What a browser's EventSource does by itself: its header counts more than its first URL.
#[test]
fn a_reader_that_comes_back_goes_on_where_it_was() {
    let door = door();
    let mut stream = door.open("", "");
    stream.until("\n\n: ", 0);
    stream.until("id: v1", 1);
    let first = stream.cursor();
    for number in 1..=600 {
        door.log.say(1_000 + number, 1, CallNews::Resumed);
    }
    drop(stream);
    let mut again = door.open("?after=oldest", &format!("Last-Event-ID: {first}\r\n"));
    again.until("data: ", 300);
    let cursor = again.cursor();
    let middle = again.events();
    let read: u64 = cursor
        .rsplit('.')
        .next()
        .expect("a number")
        .parse()
        .expect("a number");
    drop(again);
    let mut last = door.open(&format!("?after={cursor}"), "");
    last.until("data: ", usize::try_from(600 - read).expect("few"));
    let ids = |events: &[Value]| -> Vec<String> {
        let ids = events.iter().map(|event| event["id"].as_str());
        ids.map(|id| id.expect("an ID").to_owned()).collect()
    };
    let mut all = ids(&middle);
    all.truncate(usize::try_from(read).expect("few"));
    all.extend(ids(&last.events()));
    let wanted: Vec<String> = (1..=600).map(|number| format!("1.5.{number}")).collect();
    assert_eq!(all, wanted);
}

#[test]
fn filters_pass_over_what_is_not_wanted() {
    let door = door();
    for number in 0..1_000 {
        door.log.say(1_000, number % 2, CallNews::Held);
        door.log.say(1_000, number % 2, CallNews::Resumed);
    }
    door.log.say(1_001, 1, CallNews::Answered);
    let call = key(1);
    let query = format!("?after=oldest&call=call:{call}&kind=call.answered,gap,call.ended");
    let mut stream = door.open(&query, "");
    stream.until("data: ", 1);
    assert_eq!(stream.events()[0]["id"], "1.5.2001");
    let mut all = door.open(&format!("?after=oldest&call={call}"), "");
    all.until("data: ", 1_001);
    assert_eq!(all.events().len(), 1_001);
}

#[test]
fn what_is_not_kept_any_more_is_a_gap() {
    let door = door();
    for number in 1..=9 {
        door.log.say(number, 1, CallNews::Resumed);
    }
    let later = UtcMillis(5 + EVENTS_KEPT_MS + 1);
    door.log
        .log
        .lock()
        .expect("not poisoned")
        .flush(later, true);
    let mut stream = door.open("?after=v1_1.5.2&kind=call.ended", "");
    stream.until("data: ", 1);
    let gap = &stream.events()[0];
    assert_eq!(gap["kind"], "gap");
    assert_eq!((&gap["from"], &gap["until"]), (&3.into(), &5.into()));
    assert_eq!(gap["life"], "1.5");
}

#[test]
fn a_wrong_question_is_a_problem() {
    let door = door();
    for (query, headers, why) in [
        ("?after=nonsense", "", "not a cursor"),
        ("?after=v2_1.5.1", "", "a form that this node does not know"),
        ("?after=v1_1.5", "", "not a cursor"),
        ("", "Last-Event-ID: nonsense\r\n", "not a cursor"),
        ("", "Last-Event-ID: \u{e9}\r\n", "no cursor"),
        ("?kind=call.nonsense", "", "no kind"),
        ("?call=nonsense", "", "UUID of a call"),
        ("?call=console:1", "", "is no call"),
        ("?nonsense=1", "", "nonsense"),
        ("", "Upgrade: websocket\r\n", "Sec-WebSocket-Version"),
        (
            "",
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            "Sec-WebSocket-Key",
        ),
    ] {
        let (status, text) = door.refused(query, headers);
        assert_eq!(status, 400, "{query}{headers}: {text}");
        assert!(text.contains("application/problem+json"), "{text}");
        assert!(text.contains(why), "{why}: {text}");
    }
    let (status, _) = door.refused("", "Authorization: Bearer wrong\r\n");
    assert_eq!(status, 401);
    let (status, _) = door.refused("", "Origin: http://evil.example\r\n");
    assert_eq!(status, 403);
    let upgrade = "Origin: http://evil.example\r\nUpgrade: websocket\r\n";
    assert_eq!(door.refused("", upgrade).0, 403);
}

#[test]
fn readers_are_bounded_and_give_their_place_back() {
    let door = door();
    let mut readers = Vec::new();
    // Of one address fewer connections are let in: the rest of the places is taken by hand.
    for _ in 0..100 {
        let mut stream = door.open("", "");
        stream.until("id: v1", 1);
        readers.push(stream);
    }
    let parts = super::events::Readers::default();
    let places: Vec<_> = (0..EVENT_READERS_MAX).map(|_| parts.take()).collect();
    assert!(places.iter().all(Option::is_some));
    assert!(parts.take().is_none(), "one too many");
    assert!(parts.take().is_none(), "who was refused has no place");
    drop(places);
    assert!(parts.take().is_some());
}

#[test]
fn a_web_socket_tells_the_same_with_its_cursors() {
    let door = door();
    door.log.say(1_000, 1, CallNews::Answered);
    let request = format!("ws://{}/api/v1/events?after=oldest", door.address);
    let request = request.into_client_request().expect("a request");
    let mut lines = format!(
        "GET /api/v1/events?after=oldest HTTP/1.1\r\nHost: {}\r\n",
        door.address
    );
    for (name, value) in request.headers() {
        if name != "host" {
            lines.push_str(&format!("{name}: {}\r\n", value.to_str().expect("text")));
        }
    }
    let mut socket = TcpStream::connect(door.address).expect("connected");
    let wait = Some(Duration::from_secs(20));
    socket.set_read_timeout(wait).expect("set");
    socket
        .write_all(format!("{lines}\r\n").as_bytes())
        .expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        socket.read_exact(&mut octet).expect("a head");
        head.push(octet[0]);
    }
    let head = String::from_utf8(head).expect("text");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let mut socket = WebSocket::from_raw_socket(socket, Role::Client, None);
    let mut told = || -> Value {
        let Message::Text(text) = socket.read().expect("a text") else {
            panic!("no text");
        };
        serde_json::from_str(&text).expect("JSON")
    };
    let first = told();
    assert_eq!(
        (&first["kind"], &first["cursor"]),
        (&"call.answered".into(), &"v1_1.5.1".into())
    );
    door.log.say(1_001, 1, CallNews::Held);
    let second = told();
    assert_eq!(
        (&second["kind"], &second["cursor"]),
        (&"call.held".into(), &"v1_1.5.2".into())
    );
    socket.send(Message::Ping("x".into())).expect("sent");
    assert!(matches!(socket.read(), Ok(Message::Pong(_))));
    socket.close(None).expect("sent");
    assert!(matches!(socket.read(), Ok(Message::Close(_)) | Err(_)));
}

#[test]
fn the_log_of_one_call_is_a_list() {
    let door = door();
    door.log.say(1_000, 1, CallNews::Answered);
    door.log.say(1_001, 2, CallNews::Answered);
    door.log.say(1_002, 1, CallNews::Held);
    let ask = |id: &str| {
        let mut socket = TcpStream::connect(door.address).expect("connected");
        let request = format!(
            "GET /api/v1/calls/{id}/events HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            door.address
        );
        socket.write_all(request.as_bytes()).expect("written");
        let mut text = String::new();
        socket.read_to_string(&mut text).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a body");
        let status = head.split(' ').nth(1).expect("a status").to_owned();
        (status, serde_json::from_str::<Value>(body).expect("JSON"))
    };
    for id in [key(1).to_string(), format!("call:{}", key(1))] {
        let (status, body) = ask(&id);
        assert_eq!(status, "200");
        let kinds: Vec<&Value> = body["items"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|event| &event["kind"])
            .collect();
        assert_eq!(kinds, ["call.answered", "call.held"]);
        assert_eq!(body["gaps"], serde_json::json!([]));
    }
    assert_eq!(ask(&key(9).to_string()).0, "404");
    assert_eq!(ask("nonsense").0, "400");
}
