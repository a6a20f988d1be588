//! The world: one clock, one queue of what is to happen, one source of chance, and the network.
//!
//! In: a seed, and what nodes and phones do. Out: happenings in an order that only the seed
//! decides. It knows datagrams and streams, not SIP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use cluster::Frame;
use contract::{Entropy, NodeId, NodeInst, Now, Time, UtcMillis};

use crate::checkers::mixed;
use crate::mesh::{GOSSIP_OCTETS, Mesh, OCTETS};
use crate::stream::{Listeners, Wires};
use crate::trace::Trace;

/// Wall-clock time at the start of every run: 2026-01-01T00:00:00Z.
const UTC_START_MS: u64 = 1_767_225_600_000;

/// Something that will happen.
pub type Happening = Box<dyn FnOnce(&Arc<World>) + Send>;

/// Takes what arrives at an address.
pub trait Endpoint: Send + Sync {
    /// A datagram came.
    fn datagram(&self, world: &Arc<World>, from: SocketAddr, to: SocketAddr, bytes: Bytes);
}

/// Sees every datagram that is sent, before the network touches it.
pub trait Observer: Send {
    /// A datagram leaves `from`.
    fn sent(&mut self, now: Now, from: SocketAddr, to: SocketAddr, bytes: &Bytes);
}

/// Sees every frame that one node sends another, before the network touches it.
pub trait Witness: Send {
    /// A frame leaves `from`.
    fn sent(&mut self, world: &World, from: NodeInst, to: NodeInst, frame: &Frame);
}

/// How badly the network behaves. Chances are in parts of 10,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Datagrams that vanish.
    pub lost: u32,
    /// Datagrams that come twice.
    pub doubled: u32,
    /// Datagrams that are held back for up to 300 ms, and so overtaken.
    pub late: u32,
    /// Datagrams with one octet changed (SIP has no checksum of its own: UDP's drops these).
    pub damaged: u32,
}

/// The state of the world.
pub struct State {
    now: Time,
    queue: BTreeMap<(Time, u64), Happening>,
    sequence: u64,
    /// Chance of the network and of the world's own decisions.
    pub chance: Entropy,
    /// The trace.
    pub trace: Trace,
    /// The network's mood.
    pub weather: Weather,
    endpoints: BTreeMap<SocketAddr, Arc<dyn Endpoint>>,
    hosts: BTreeMap<IpAddr, Arc<dyn Endpoint>>,
    /// Counts of what was exercised, by name.
    pub counts: BTreeMap<String, u64>,
    /// How often a living node has received a BYE, by Call-ID: a phone whose BYE is unknown when it
    /// comes again was heard the first time.
    pub byes: BTreeMap<String, u32>,
    /// The call that a Call-ID belongs to: its UUID without the side's number.
    pub calls: BTreeMap<String, String>,
    /// Which nodes ran a call, by the same name.
    pub owners: BTreeMap<String, BTreeSet<NodeId>>,
    /// Calls of which a party is being put through, by the same name: from which look of the runner to
    /// which one that was seen.
    pub transferring: BTreeMap<String, (Time, Time)>,
    /// Ways between nodes that were cut; those between the same two in the order of their beginnings.
    pub cuts: Vec<Cut>,
    /// Until when nodes ran the former release, by their numbers.
    pub former_until: BTreeMap<u16, Time>,
    /// Events that killed twice and were set aside, in the node's words.
    pub set_aside: Vec<String>,
    /// Until when faults keep nodes from writing, and from telling each other what they write.
    pub troubled_until: Time,
    /// No fault will come any more, and the last one is long over.
    pub is_settled: bool,
    /// A second of the run, and the happenings in it so far.
    pace: (u64, u32),
    /// The first broken promise.
    pub broken: Option<Broken>,
}

/// Happenings of one simulated second: a whole run of three nodes over two minutes has some ten thousand
/// (seed 29: 35,000 lines of trace), so who passes it asks and answers without end.
const HAPPENINGS_A_SECOND_MAX: u32 = 200_000;
/// The same for each way from one node to another, when all of them find each other.
const HAPPENINGS_A_WAY_MAX: u32 = 200;

/// A time in which two nodes could not hear each other, or one not the other; with what was between it and
/// the one before, if that was too short for them to find each other again.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Numbers of the nodes, the lower one first.
    pub pair: (u16, u16),
    /// When it began.
    pub from: Time,
    /// When it ends.
    pub until: Time,
}

/// A promise that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which (`I4`, …).
    pub promise: &'static str,
    /// How.
    pub how: String,
    /// When.
    pub at: Time,
    /// Number of the happening.
    pub step: u64,
}

/// The world.
pub struct World {
    state: Mutex<State>,
    observers: Mutex<Vec<Box<dyn Observer>>>,
    witnesses: Mutex<Vec<Box<dyn Witness>>>,
    listeners: Listeners,
    wires: Wires,
    mesh: Mesh,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

impl World {
    /// Makes a world from a seed.
    #[must_use]
    pub fn new(seed: u64, trace: Trace) -> Arc<World> {
        let mut octets = [0; 32];
        octets[..8].copy_from_slice(&seed.to_le_bytes());
        let state = State {
            now: Time::from_micros(1_000_000),
            queue: BTreeMap::new(),
            sequence: 0,
            chance: Entropy::from_seed(octets).split("world"),
            trace,
            weather: Weather::default(),
            endpoints: BTreeMap::new(),
            hosts: BTreeMap::new(),
            counts: BTreeMap::new(),
            byes: BTreeMap::new(),
            calls: BTreeMap::new(),
            owners: BTreeMap::new(),
            transferring: BTreeMap::new(),
            cuts: Vec::new(),
            former_until: BTreeMap::new(),
            set_aside: Vec::new(),
            troubled_until: Time::default(),
            is_settled: false,
            pace: (0, 0),
            broken: None,
        };
        Arc::new(World {
            state: Mutex::new(state),
            observers: Mutex::new(Vec::new()),
            witnesses: Mutex::new(Vec::new()),
            listeners: Listeners::default(),
            wires: Wires::default(),
            mesh: Mesh::default(),
        })
    }

    /// Returns who takes connections where.
    #[must_use]
    pub const fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Returns the open connections.
    #[must_use]
    pub const fn wires(&self) -> &Wires {
        &self.wires
    }

    /// Returns the network between nodes.
    #[must_use]
    pub const fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Locks the state; never held while anybody else is called.
    ///
    /// # Panics
    /// If a holder panicked: the run is over anyway.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no holder of the world's lock panics")
    }

    /// Adds an observer of all datagrams.
    pub fn observe(&self, observer: Box<dyn Observer>) {
        self.observers
            .lock()
            .expect("no observer panics")
            .push(observer);
    }

    /// Adds a witness of what nodes tell each other.
    pub fn witness(&self, witness: Box<dyn Witness>) {
        self.witnesses
            .lock()
            .expect("no witness panics")
            .push(witness);
    }

    /// Shows the witnesses a frame.
    pub fn witnessed(&self, from: NodeInst, to: NodeInst, octets: &[u8]) {
        let Ok(frame) = Frame::read(octets) else {
            return self.broken("frames", format!("{from} sends {to} what is no frame"));
        };
        self.add(OCTETS, octets.len());
        mixed::check(self, (from, to), octets, &frame);
        let mut witnesses = self.witnesses.lock().expect("no witness panics");
        for witness in witnesses.iter_mut() {
            witness.sent(self, from, to, &frame);
        }
    }

    /// A node gossips.
    pub fn gossiped(&self, datagram: &[u8]) {
        self.add(GOSSIP_OCTETS, datagram.len());
        self.trace("gossip", datagram);
    }

    /// Returns the time.
    #[must_use]
    pub fn now(&self) -> Now {
        now_of(self.state().now)
    }

    /// Something keeps nodes from writing, or from hearing each other, until a time.
    pub fn trouble(&self, until: Time) {
        let mut state = self.state();
        state.troubled_until = until.max(state.troubled_until);
    }

    /// Tells whether a node may go on with fewer copies than wanted.
    #[must_use]
    pub fn is_troubled(&self) -> bool {
        let state = self.state();
        state.now < state.troubled_until
    }

    /// A node starts, with the former release or not.
    pub fn runs_former(&self, node: u16, is_former: bool) {
        let mut state = self.state();
        if is_former {
            let forever = Time::from_micros(u64::MAX);
            state.former_until.insert(node, forever);
        } else {
            let now = state.now;
            let until = state.former_until.get_mut(&node);
            let until = until.filter(|until| **until > now);
            if let Some(until) = until {
                *until = now;
            }
        }
    }

    /// Adds one to a count.
    pub fn count(&self, what: &str) {
        self.state().count(what);
    }

    /// Adds to a count.
    pub fn add(&self, what: &str, number: usize) {
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        self.state().add(what, number);
    }

    /// Notes a broken promise; the first one counts.
    pub fn broken(&self, promise: &'static str, how: String) {
        let mut state = self.state();
        let at = state.now;
        let step = state.trace.lines();
        state.trace.add(at, "broken", how.as_bytes());
        state.broken.get_or_insert(Broken {
            promise,
            how,
            at,
            step,
        });
    }

    /// Adds to the trace.
    pub fn trace(&self, what: &str, octets: &[u8]) {
        let mut state = self.state();
        let at = state.now;
        state.trace.add(at, what, octets);
    }

    /// Adds to the trace what its file shows as another text.
    pub fn trace_as(&self, what: &str, octets: &[u8], text: impl FnOnce() -> String) {
        let mut state = self.state();
        let at = state.now;
        state.trace.add_as(at, what, octets, text);
    }

    /// Adds a line to the trace's file, not to its hash.
    pub fn note(&self, text: &str) {
        let mut state = self.state();
        let at = state.now;
        state.trace.note(at, text);
    }

    /// Lets something happen `after` from now; equal times in the order of these calls.
    pub fn schedule(&self, after: Duration, happening: Happening) {
        let mut state = self.state();
        let at = state.now + after;
        state.push(at, happening);
    }

    /// Lets something happen at a time; at once if it has passed.
    pub fn schedule_at(&self, at: Time, happening: Happening) {
        let mut state = self.state();
        let at = at.max(state.now);
        state.push(at, happening);
    }

    /// Takes the next happening that is due by `end` and sets the clock to it.
    pub fn next(&self, end: Time) -> Option<Happening> {
        let mut state = self.state();
        let first = state.queue.first_entry()?;
        if first.key().0 > end {
            return None;
        }
        let at = first.key().0;
        let happening = first.remove();
        state.now = at;
        let second = at.as_micros() / 1_000_000;
        let count = match state.pace {
            (known, count) if known == second => count + 1,
            _ => 1,
        };
        state.pace = (second, count);
        drop(state);
        let is_much = count >= HAPPENINGS_A_SECOND_MAX;
        if is_much && count == HAPPENINGS_A_SECOND_MAX + HAPPENINGS_A_WAY_MAX * self.mesh().ways() {
            self.broken("rest", format!("{count} happenings in one second"));
        }
        Some(happening)
    }

    /// Moves the clock on to a time before which nothing is left to happen.
    pub fn advance(&self, to: Time) {
        let mut state = self.state();
        state.now = state.now.max(to);
    }

    /// Puts somebody at an address.
    pub fn attach(&self, address: SocketAddr, endpoint: Arc<dyn Endpoint>) {
        self.state().endpoints.insert(address, endpoint);
    }

    /// Puts somebody at all addresses of a host that nobody else has.
    pub fn attach_host(&self, host: IpAddr, endpoint: Arc<dyn Endpoint>) {
        self.state().hosts.insert(host, endpoint);
    }

    /// Removes who is at an address.
    pub fn detach(&self, address: SocketAddr) {
        self.state().endpoints.remove(&address);
    }

    /// Tells whether an address is taken.
    #[must_use]
    pub fn is_taken(&self, address: SocketAddr) -> bool {
        self.state().endpoints.contains_key(&address)
    }

    /// Sends a datagram through the network.
    pub fn send(self: &Arc<Self>, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        self.observed(from, to, &bytes);
        let copies = {
            let mut state = self.state();
            let at = state.now;
            state.trace.add(at, "sent", &bytes);
            state.route()
        };
        for delay in copies {
            let bytes = bytes.clone();
            self.schedule(delay, Box::new(move |world| world.deliver(from, to, bytes)));
        }
    }

    /// Shows the observers octets that leave an address.
    pub fn observed(&self, from: SocketAddr, to: SocketAddr, bytes: &Bytes) {
        let now = self.now();
        for observer in self
            .observers
            .lock()
            .expect("no observer panics")
            .iter_mut()
        {
            observer.sent(now, from, to, bytes);
        }
    }

    fn deliver(self: &Arc<Self>, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let endpoint = {
            let state = self.state();
            state
                .endpoints
                .get(&to)
                .or_else(|| state.hosts.get(&to.ip()))
                .cloned()
        };
        match endpoint {
            Some(endpoint) => endpoint.datagram(self, from, to, bytes),
            None => self.count("datagrams to nobody"),
        }
    }
}

impl State {
    fn count(&mut self, what: &str) {
        self.add(what, 1);
    }

    fn add(&mut self, what: &str, number: u64) {
        match self.counts.get_mut(what) {
            Some(count) => *count += number,
            None => {
                self.counts.insert(what.to_owned(), number);
            }
        }
    }

    fn push(&mut self, at: Time, happening: Happening) {
        self.sequence += 1;
        let key = (at, self.sequence);
        self.queue.insert(key, happening);
    }

    /// Returns the delays of the copies of one datagram that arrive.
    pub fn route(&mut self) -> Vec<Duration> {
        let weather = self.weather;
        if self.hits(weather.lost) || self.hits(weather.damaged) {
            self.count("datagrams lost");
            return Vec::new();
        }
        let mut copies = vec![self.delay(weather)];
        if self.hits(weather.doubled) {
            self.count("datagrams doubled");
            copies.push(self.delay(weather));
        }
        copies
    }

    fn delay(&mut self, weather: Weather) -> Duration {
        let base = 200 + self.chance.below(3_000);
        let late = if self.hits(weather.late) {
            self.chance.below(300_000)
        } else {
            0
        };
        Duration::from_micros(u64::from(base + late))
    }

    /// Draws whether something of a chance in 10,000 happens; draws nothing at a chance of 0.
    pub fn hits(&mut self, chance: u32) -> bool {
        chance > 0 && self.chance.below(10_000) < chance
    }
}

fn now_of(mono: Time) -> Now {
    Now {
        mono,
        utc: UtcMillis(UTC_START_MS + mono.as_micros() / 1_000),
    }
}
