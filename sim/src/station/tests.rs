//! Which connection a phone uses when one ends.

use std::sync::atomic::AtomicBool;

use contract::{Entropy, FlowRef, ListenerId, NetSink, NodeId, Work};

use super::*;
use crate::mesh::Stall;
use crate::stream::listen;
use crate::trace::Trace;

const LISTENER: ListenerId = ListenerId(2);

/// Says what it is told to say, and counts what it lost.
struct Talker {
    losses: u32,
}

impl Peer for Talker {
    fn address(&self) -> SocketAddr {
        SocketAddr::from(([10, 1, 0, 2], 5_060))
    }

    fn door(&self) -> Option<Door> {
        Some(Door::Json)
    }

    fn framer(&self) -> Option<Framer> {
        None
    }

    fn next_deadline(&self) -> Time {
        Time::from_micros(3_600_000_000)
    }

    fn on_time(&mut self, _: Time, _: &mut Vec<Out>) {}

    fn on_message(&mut self, _: Time, _: Bytes, _: &mut Vec<Out>) {}

    fn on_datagram(&mut self, _: Time, _: SocketAddr, _: SocketAddr, _: Bytes, _: &mut Vec<Out>) {}

    fn lost_connection(&mut self, _: Time) {
        self.losses += 1;
    }

    fn complaints(&mut self) -> Vec<Complaint> {
        Vec::new()
    }

    fn done(&mut self) -> Vec<(String, u64)> {
        Vec::new()
    }
}

/// A node: connections that it accepted, and what it heard over them.
#[derive(Default)]
struct Heard {
    flows: Mutex<Vec<FlowRef>>,
    words: Mutex<Vec<(FlowRef, Bytes)>>,
}

impl NetSink for Heard {
    fn datagram(&self, _: ListenerId, _: SocketAddr, _: Bytes) {}

    fn accepted(&self, listener: ListenerId, remote: SocketAddr, door: Door) -> Option<FlowRef> {
        let mut flows = self.flows.lock().expect("no test panics with it");
        let flow = FlowRef::Stream {
            node: NodeId(1),
            number: flows.len() as u64 + 1,
            listener,
            remote,
            door,
        };
        flows.push(flow);
        Some(flow)
    }

    fn opened(&self, _: FlowRef) {}

    fn bytes(&self, flow: &FlowRef, bytes: Bytes) -> Option<Work> {
        let mut words = self.words.lock().expect("no test panics with it");
        words.push((*flow, bytes));
        None
    }

    fn closed(&self, _: &FlowRef, _: String) {}
}

struct Scene {
    world: Arc<World>,
    station: Arc<Station<Talker>>,
    heard: Arc<Heard>,
}

impl Scene {
    fn begin() -> Scene {
        let world = World::new(7, Trace::new(None));
        let node = SocketAddr::from(([10, 0, 0, 1], 80));
        let heard = Arc::new(Heard::default());
        let (alive, stall) = (Arc::new(AtomicBool::new(true)), Arc::new(Stall::default()));
        listen(&world, node, LISTENER, heard.clone(), (alive, stall));
        let ways = Ways::only(node, Entropy::from_seed([1; 32]));
        let station = Station::place(&world, Talker { losses: 0 }, ways);
        Scene {
            world,
            station,
            heard,
        }
    }

    fn say(&self, word: &'static str) {
        let say = |_: &mut Talker, _: Time, out: &mut Vec<Out>| {
            out.push(Out::Sip(Bytes::from_static(word.as_bytes())));
        };
        self.station.drive(&self.world, say);
    }

    fn pass(&self) {
        let end = self.world.now().mono + Duration::from_millis(5);
        while let Some(happening) = self.world.next(end) {
            happening(&self.world);
        }
        self.world.advance(end);
    }

    fn flow(&self, at: usize) -> FlowRef {
        self.heard.flows.lock().expect("no test panics with it")[at]
    }

    fn node_closes(&self, at: usize) {
        let wire = self.world.wires().find(&self.flow(at)).expect("it is open");
        wire.close(&self.world, Far::Node);
    }

    /// Returns the words that came, each with its connection, counted from 0.
    fn words(&self) -> Vec<(usize, String)> {
        let flows = self.heard.flows.lock().expect("no test panics with it");
        let words = self.heard.words.lock().expect("no test panics with it");
        let at = |flow: &FlowRef| flows.iter().position(|known| known == flow);
        let word = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let heard = words.iter().map(|(flow, bytes)| (at(flow), word(bytes)));
        heard
            .map(|(at, word)| (at.expect("it was accepted"), word))
            .collect()
    }

    fn losses(&self) -> u32 {
        self.station.with(|talker| talker.losses)
    }
}

#[test]
fn a_connection_that_was_given_up_takes_no_other_along() {
    let scene = Scene::begin();
    scene.say("one");
    scene.pass();
    scene.node_closes(0);
    scene.station.unplug(&scene.world);
    scene.say("two");
    scene.pass();
    scene.say("three");
    scene.pass();
    let wanted = [(0, "one"), (1, "two"), (1, "three")];
    assert_eq!(
        scene.words(),
        wanted.map(|(at, word)| (at, word.to_owned()))
    );
    assert_eq!(scene.losses(), 1);
}

#[test]
fn what_is_said_before_the_end_is_known_is_lost() {
    let scene = Scene::begin();
    scene.say("one");
    scene.pass();
    scene.node_closes(0);
    scene.say("two");
    scene.pass();
    assert_eq!(scene.losses(), 1);
    scene.say("three");
    scene.pass();
    let wanted = [(0, "one"), (1, "three")];
    assert_eq!(
        scene.words(),
        wanted.map(|(at, word)| (at, word.to_owned()))
    );
    assert_eq!(scene.losses(), 1);
}
