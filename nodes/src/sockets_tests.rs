//! The end of a connection reaches its lanes, whatever became of its actor; no number comes twice.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use actors::{AnyCore, Message, Site};
use bytes::Bytes;
use contract::core::{Ctx, Event, RestoreError, Rivals, Roster};
use contract::{ActorId, Boot, FrameClass, Kind, NodeId, NodeInst, Now, SchemaVersion, Time};

use super::{NUMBERS_PER_LIFE, Sockets};
use crate::run::tests::{Folder, Running, WAIT, loaded_with, start_as};

/// The cores of a node, but a flow panics at the octets `boom`.
struct Brittle {
    kind: Kind,
    inner: AnyCore,
}

impl Roster for Brittle {
    type Message = Message;
    type Site = Site;

    fn create(id: &ActorId, first: &Message, site: &Site) -> Option<Self> {
        let inner = AnyCore::create(id, first, site)?;
        let kind = id.kind();
        Some(Brittle { kind, inner })
    }

    fn create_system(id: &ActorId, site: &Site) -> Option<Self> {
        let inner = AnyCore::create_system(id, site)?;
        let kind = id.kind();
        Some(Brittle { kind, inner })
    }

    fn restore(id: &ActorId, bytes: &[u8], now: Now) -> Result<Self, RestoreError> {
        let inner = AnyCore::restore(id, bytes, now)?;
        let kind = id.kind();
        Ok(Brittle { kind, inner })
    }

    fn merge(id: &ActorId, copies: &[Bytes], now: Now) -> Bytes {
        AnyCore::merge(id, copies, now)
    }

    fn follows_the_end(message: &Message) -> bool {
        AnyCore::follows_the_end(message)
    }

    fn bequeath(id: &ActorId, copies: &Rivals<'_>, now: Now) -> Option<Message> {
        AnyCore::bequeath(id, copies, now)
    }

    fn handle(&mut self, event: Event<Message, ()>, ctx: &mut Ctx<'_, Message, Site>) {
        if let (Kind::Flow, Event::Bytes(octets)) = (self.kind, &event) {
            assert!(!octets.starts_with(b"boom"), "ordered by the test");
        }
        self.inner.handle(event, ctx);
    }

    fn next_deadline(&self) -> Option<Time> {
        self.inner.next_deadline()
    }

    fn snapshot(&self, now: Now, schema: SchemaVersion) -> Vec<u8> {
        self.inner.snapshot(now, schema)
    }

    fn view(&self, now: Now) -> serde_json::Value {
        self.inner.view(now)
    }

    fn state(&self) -> String {
        self.inner.state()
    }

    fn passivates_after(&self) -> Option<Duration> {
        self.inner.passivates_after()
    }

    fn describe(message: &Message) -> (String, usize) {
        AnyCore::describe(message)
    }

    fn is_new_work(message: &Message) -> bool {
        AnyCore::is_new_work(message)
    }

    fn frame_class(message: &Message) -> FrameClass {
        AnyCore::frame_class(message)
    }

    fn encode(message: &Message, schema: SchemaVersion) -> Vec<u8> {
        AnyCore::encode(message, schema)
    }

    fn decode(bytes: &[u8]) -> Option<Message> {
        AnyCore::decode(bytes)
    }
}

/// Waits until every lane has been told that the flow is gone.
fn wait_for_lanes(running: &Running<Brittle>, flow: &str) {
    for lane in 0..running.node.fabric().site().lanes {
        let id = ActorId::Lane(running.node.fabric().me().node, lane);
        running.until("every lane knows", || {
            let request = actors::console::Request::Trace { id: id.clone() };
            let trace = running.ask(request).to_string();
            trace.contains("gone") && trace.contains(flow)
        });
    }
}

#[test]
fn lanes_learn_of_the_end_of_a_connection_whose_actor_panicked_or_was_ended() {
    let folder = Folder::new("brittle");
    let running = start_as::<Brittle>(loaded_with(&folder.0, "", &[])).expect("starts");
    let tcp = running.node.listeners()[1];
    let first = running.ground_boot() * NUMBERS_PER_LIFE + 1;
    let mut peer = TcpStream::connect(tcp).expect("connected");
    peer.write_all(b"boom").expect("written");
    wait_for_lanes(&running, &first.to_string());
    let mut closed = [0];
    peer.set_read_timeout(Some(WAIT)).expect("set");
    let read = std::io::Read::read(&mut peer, &mut closed);
    assert!(matches!(read, Ok(0)), "its connection is closed: {read:?}");
    // Ended from outside, it tells nobody: the socket does.
    let second = first + 1;
    let fabric = running.node.fabric();
    running.until("the first is gone", || fabric.live(Kind::Flow) == 0);
    let peer = TcpStream::connect(tcp).expect("connected");
    let id = ActorId::Flow(fabric.me().node, second);
    running.until("it is there", || fabric.live(Kind::Flow) > 0);
    fabric.stop(&id, &id);
    running.until("it is gone", || fabric.live(Kind::Flow) == 0);
    drop(peer);
    wait_for_lanes(&running, &second.to_string());
    running.stop();
}

#[test]
fn numbers_of_connections_never_come_twice() {
    let first = |boot: u64| {
        let me = NodeInst {
            node: NodeId(7),
            boot: Boot(boot),
        };
        let sockets = Sockets::<AnyCore>::new(me, Vec::new());
        sockets.numbers.into_inner()
    };
    // Boots are rising, whatever the clock: a life has room for its numbers below the next one's.
    for boot in [1, 2, 1_795_244_651] {
        assert_eq!(first(boot), boot * NUMBERS_PER_LIFE + 1);
        assert!(first(boot) + (NUMBERS_PER_LIFE - 2) < first(boot + 1));
    }
    assert_eq!(
        first(u64::MAX),
        u64::MAX,
        "no overflow at the end of all boots"
    );
}
