//! A reader of the event log: follows a node's stream, keeps what it is told, and its cursor.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::wait::{self, PATIENCE};

/// What a reader was told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Events and gaps, in order.
    pub events: Vec<Value>,
    /// How far it is.
    pub cursor: String,
}

/// A reader of one node's stream; it ends with the connection.
#[derive(Debug)]
pub struct Follower {
    socket: TcpStream,
    told: Arc<Mutex<Told>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Opens a node's stream behind a cursor, or from now on.
    ///
    /// # Panics
    /// If the node does not open one.
    #[must_use]
    pub fn open(server: SocketAddr, after: Option<&str>) -> Follower {
        let mut socket = TcpStream::connect(server).expect("connected");
        let query = after.map_or_else(String::new, |after| format!("?after={after}"));
        let request = format!("GET /api/v1/events{query} HTTP/1.1\r\nHost: {server}\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("written");
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("set");
        let told = Arc::new(Mutex::new(Told::default()));
        let noted = Arc::clone(&told);
        let mut reading = socket.try_clone().expect("a second handle");
        let thread = std::thread::spawn(move || {
            let (mut text, mut octets) = (String::new(), [0; 16 * 1024]);
            let mut block = Told::default();
            while let Ok(length @ 1..) = reading.read(&mut octets) {
                text.push_str(&String::from_utf8_lossy(&octets[..length]));
                // Sizes of chunks are lines of their own: no line of a stream looks like one.
                while let Some(end) = text.find('\n') {
                    note(text[..end].trim_end(), &mut block, &noted);
                    text.drain(..=end);
                }
            }
        });
        let follower = Follower {
            socket,
            told,
            thread: Some(thread),
        };
        wait::until("the stream to begin", PATIENCE, || {
            (!follower.told().cursor.is_empty()).then_some(())
        });
        follower
    }

    /// Returns what it was told so far.
    ///
    /// # Panics
    /// If its reader panicked.
    #[must_use]
    pub fn told(&self) -> Told {
        self.told.lock().expect("the reader is well").clone()
    }

    /// Waits until it was told something.
    ///
    /// # Panics
    /// If it is not.
    pub fn until(&self, what: &str, is_told: impl Fn(&Value) -> bool) {
        wait::until_or(
            what,
            PATIENCE,
            || {
                let told = self.told();
                let is_there = told.events.iter().any(&is_told);
                is_there.then_some(()).ok_or(told)
            },
            |told| format!("{told:#?}"),
        );
    }

    /// Ends it; returns what it was told.
    ///
    /// # Panics
    /// If its reader panicked.
    #[must_use]
    pub fn close(mut self) -> Told {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the reader is well");
        }
        self.told()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

/// Takes a line; an empty one ends a block, which counts as a whole only.
fn note(line: &str, block: &mut Told, told: &Mutex<Told>) {
    if let Some(cursor) = line.strip_prefix("id: ") {
        cursor.clone_into(&mut block.cursor);
    } else if let Some(data) = line.strip_prefix("data: ") {
        let event = serde_json::from_str(data);
        let event = event.unwrap_or_else(|error| panic!("{error} in {data:?}"));
        block.events.push(event);
    } else if line.is_empty() && !block.cursor.is_empty() {
        let mut told = told.lock().expect("nobody panics with it");
        told.events.append(&mut block.events);
        told.cursor = std::mem::take(&mut block.cursor);
    }
}

/// Requires that no event is told twice, and that those of each life come by their numbers, none
/// left out but by a gap.
///
/// # Panics
/// If not so.
pub fn once_and_in_order(events: &[Value]) {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for event in events {
        let id = event["id"].as_str().expect("an ID");
        if event["kind"] == "gap" {
            if let Some(until) = event["until"].as_u64() {
                let life = event["life"].as_str().expect("a life").to_owned();
                last.insert(life, until);
            }
            continue;
        }
        let (life, number) = id.rsplit_once('.').expect("life and number");
        let number: u64 = number.parse().expect("a number");
        if let Some(before) = last.insert(life.to_owned(), number) {
            assert_eq!(number, before + 1, "{id} in {events:#?}");
        }
    }
}

/// Returns the kinds of the events of calls, in order.
#[must_use]
pub fn call_kinds(events: &[Value]) -> Vec<String> {
    let kinds = events.iter().filter_map(|event| event["kind"].as_str());
    let of_calls = kinds.filter(|kind| kind.starts_with("call."));
    of_calls.map(str::to_owned).collect()
}
