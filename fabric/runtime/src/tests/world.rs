//! The world: a clock that tokio drives, a disk that answers on command, a performer that notes.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use contract::core::Event;
use contract::env::{BindError, Env, MediaPlane, MediaSink, NetSink, Store, Work};
use contract::{
    Action, ActorId, Batch, Boot, FlowRef, IdHasher, ListenerId, MediaCommand, NodeId, NodeInst,
    Now, Peers, Space, StoreFault, Time, UtcMillis,
};
use tokio::time::Instant;

use super::kit::{BEGIN, Counter, Say, Site, lane, name};
use crate::{Delivery, Fabric, Origin, Parts, Performer};

type Done = Box<dyn FnOnce(Result<(), StoreFault>) + Send>;

/// How the disk answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    AtOnce,
    Held,
    Full,
}

struct Inside {
    mode: Mode,
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    quarantined: bool,
    held: VecDeque<(Batch, Done)>,
    commits: usize,
    full: usize,
}

/// A disk that outlives its node.
pub(super) struct Disk {
    inside: Mutex<Inside>,
    start: Instant,
}

impl Disk {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Disk {
            inside: Mutex::new(Inside {
                mode: Mode::AtOnce,
                values: BTreeMap::new(),
                quarantined: false,
                held: VecDeque::new(),
                commits: 0,
                full: 0,
            }),
            start: Instant::now(),
        })
    }

    /// Loses everything, and knows it.
    pub(super) fn lose(&self) {
        let mut inside = self.inside.lock().unwrap();
        inside.values.clear();
        inside.quarantined = true;
    }

    /// Returns how many values there are.
    pub(super) fn len(&self) -> usize {
        let inside = self.inside.lock().unwrap();
        let prefix = cluster::EventLog::stored_prefix();
        let records = inside.values.keys();
        records.filter(|key| !key.starts_with(prefix)).count()
    }

    pub(super) fn set(&self, mode: Mode) {
        self.inside.lock().unwrap().mode = mode;
    }

    /// Ends the oldest commit that is held.
    pub(super) fn answer(&self, is_safe: bool) {
        let mut inside = self.inside.lock().unwrap();
        let (batch, done) = inside.held.pop_front().expect("a commit is held");
        if is_safe {
            inside.apply(batch);
        }
        drop(inside);
        done(is_safe.then_some(()).ok_or(FULL));
    }

    pub(super) fn held(&self) -> usize {
        self.inside.lock().unwrap().held.len()
    }

    /// Commits asked for, and those refused at once.
    pub(super) fn counts(&self) -> (usize, usize) {
        let inside = self.inside.lock().unwrap();
        (inside.commits, inside.full)
    }
}

const FULL: StoreFault = StoreFault::Full { free_bytes: 0 };

impl Inside {
    fn apply(&mut self, batch: Batch) {
        for (key, value) in batch.changes {
            match value {
                Some(value) => self.values.insert(key, value),
                None => self.values.remove(&key),
            };
        }
    }
}

impl Store for Disk {
    fn read(&self, key: &[u8]) -> Result<Option<Bytes>, StoreFault> {
        let inside = self.inside.lock().unwrap();
        Ok(inside.values.get(key).cloned().map(Bytes::from))
    }

    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreFault> {
        let values = self.inside.lock().unwrap().values.clone();
        for (key, value) in values.iter().filter(|(key, _)| key.starts_with(prefix)) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, batch: Batch, done: Done) {
        let mut inside = self.inside.lock().unwrap();
        let prefix = cluster::EventLog::stored_prefix();
        if batch.changes.iter().all(|(key, _)| key.starts_with(prefix)) && !batch.changes.is_empty()
        {
            // Nobody waits for the event log, and tests of commits do not count it.
            inside.apply(batch);
            drop(inside);
            return done(Ok(()));
        }
        inside.commits += 1;
        let result = match inside.mode {
            Mode::Held => return inside.held.push_back((batch, done)),
            Mode::AtOnce => {
                inside.apply(batch);
                Ok(())
            }
            Mode::Full => {
                inside.full += 1;
                Err(FULL)
            }
        };
        drop(inside);
        done(result);
    }

    fn boot(&self) -> Boot {
        Boot(1)
    }

    fn space(&self) -> (Space, u64) {
        (Space::Ample, 1)
    }

    fn is_quarantined(&self) -> bool {
        self.inside.lock().unwrap().quarantined
    }

    fn lift_quarantine(&self) {
        self.inside.lock().unwrap().quarantined = false;
    }

    fn is_poisoned(&self) -> bool {
        false
    }
}

struct NoMedia;

impl MediaPlane for NoMedia {
    fn attach(&self, _: Arc<dyn MediaSink>) {}
    fn command(&self, _: MediaCommand) {}
    fn lingering(&self) -> usize {
        0
    }
}

struct World {
    disk: Arc<Disk>,
    start: Instant,
    site: Arc<Site>,
    peers: Option<Arc<dyn Peers>>,
}

impl Env for World {
    fn now(&self) -> Now {
        let micros = |length: Duration| u64::try_from(length.as_micros()).unwrap();
        let wall = micros(self.disk.start.elapsed()) / 1_000;
        Now {
            mono: Time::from_micros(micros(self.start.elapsed())),
            utc: UtcMillis(BEGIN.0 + wall),
        }
    }

    fn sleep_until(&self, at: Time) -> Work {
        let at = self.start + Duration::from_micros(at.as_micros());
        Box::pin(tokio::time::sleep_until(at))
    }

    #[allow(clippy::disallowed_methods, reason = "this is an Env")]
    fn spawn(&self, _: &'static str, work: Work) {
        tokio::spawn(work);
    }

    fn seed(&self) -> [u8; 32] {
        [7; 32]
    }

    fn bind_datagram(
        &self,
        _: ListenerId,
        local: SocketAddr,
        _: Arc<dyn NetSink>,
    ) -> Result<SocketAddr, BindError> {
        Ok(local)
    }

    fn bind_stream(
        &self,
        _: ListenerId,
        local: SocketAddr,
        _: contract::StreamKind,
        _: Arc<dyn NetSink>,
    ) -> Result<SocketAddr, BindError> {
        Ok(local)
    }

    fn connect(&self, _: FlowRef, _: Arc<dyn NetSink>) {}

    fn send(&self, flow: &FlowRef, bytes: Bytes) {
        self.site.note(format!("send {flow} {}", bytes.len()));
    }

    fn close(&self, flow: &FlowRef, _: contract::CloseCode, why: &'static str) {
        self.site.note(format!("close {flow}: {why}"));
    }

    fn resolve(&self, _: String, done: Box<dyn FnOnce(Result<Vec<IpAddr>, String>) + Send>) {
        done(Ok(Vec::new()));
    }

    fn peers(&self) -> Option<Arc<dyn Peers>> {
        self.peers.clone()
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.disk) as Arc<dyn Store>
    }

    fn media(&self) -> Arc<dyn MediaPlane> {
        Arc::new(NoMedia)
    }
}

struct Notary(Arc<Site>);

impl Performer<Counter> for Notary {
    fn perform(&self, fabric: &Fabric<Counter>, origin: &Origin<'_>, action: Action<Say>) {
        match action {
            Action::Tell { to, message, .. } => fabric.tell(origin.id, to, message),
            Action::Spawn { id, first } => fabric.spawn_child(origin.id, id, first),
            Action::Stop { id } => fabric.stop(origin.id, &id),
            Action::Store(store) => fabric.store(origin, store),
            Action::Lookup { token, what } => fabric.look_up(origin.id, token, what),
            Action::Http { ticket, .. } => self.0.note(format!("{} out {ticket}", name(origin.id))),
            Action::Send { .. }
            | Action::Media(_)
            | Action::Emit(_)
            | Action::Adopt { .. }
            | Action::Connect { .. }
            | Action::Close { .. } => {}
        }
    }
}

/// A running node and what it is made of.
pub(super) struct Node {
    pub(super) fabric: Fabric<Counter>,
    pub(super) disk: Arc<Disk>,
    pub(super) site: Arc<Site>,
}

impl Node {
    pub(super) async fn new() -> Node {
        Node::start(Disk::new(), 1).await
    }

    /// Starts a node on a disk; `boot` is which of its lives.
    pub(super) async fn start(disk: Arc<Disk>, boot: u64) -> Node {
        let me = NodeInst {
            node: NodeId(1),
            boot: Boot(boot),
        };
        Node::start_as(me, disk, None).await
    }

    /// Starts a node that may have a way to others.
    pub(super) async fn start_as(
        me: NodeInst,
        disk: Arc<Disk>,
        peers: Option<Arc<dyn Peers>>,
    ) -> Node {
        let site = Arc::new(Site::default());
        let world = World {
            disk: Arc::clone(&disk),
            start: Instant::now(),
            site: Arc::clone(&site),
            peers,
        };
        let fabric = Fabric::start(Parts {
            env: Arc::new(world),
            site: Arc::clone(&site),
            ids: IdHasher::new([3; 16]),
            me,
            name: "one".to_owned(),
            version: "0".to_owned(),
            performer: Arc::new(Notary(Arc::clone(&site))),
            holders: 3,
            commit: cluster::CommitMode::Available,
            schema: contract::SchemaVersion::NEWEST,
        })
        .await
        .unwrap();
        assert!(fabric.start_system(ActorId::Lane(me.node, 0)));
        settle().await;
        Node { fabric, disk, site }
    }

    /// Tells an actor something, from the lane; takes what comes of it at once.
    pub(super) async fn tell(&self, to: &ActorId, message: Say) {
        self.fabric.tell(&lane(), to.clone(), message);
        settle().await;
    }

    pub(super) fn give(&self, to: &ActorId, message: Say) -> Delivery {
        let from = lane();
        self.fabric.deliver(to, Event::Message { from, message })
    }

    /// Answers a held commit and takes what comes of it.
    pub(super) async fn answer(&self, is_safe: bool) {
        self.disk.answer(is_safe);
        settle().await;
    }

    /// Takes the log.
    pub(super) fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.site.log.lock().unwrap())
    }

    /// Takes the log without what cores were given: only effects and fates.
    pub(super) fn outs(&self) -> Vec<String> {
        let is_out = |line: &String| line.contains(" out ");
        self.log().into_iter().filter(is_out).collect()
    }

    pub(super) fn bomb(&self, count: u32) {
        *self.site.bombs.lock().unwrap() = count;
    }

    pub(super) fn row(&self, id: &ActorId) -> Option<contract::ActorRow> {
        self.fabric.rows(None).into_iter().find(|row| row.id == *id)
    }

    /// Looks an actor up, as the console does.
    pub(super) async fn view(&self, id: &ActorId) -> Option<contract::ActorView> {
        self.site.answers.lock().unwrap().clear();
        self.tell(
            &lane(),
            Say::Do(vec![super::kit::Step::LookUp(1, id.clone())]),
        )
        .await;
        match self.site.answers.lock().unwrap().pop() {
            Some(contract::Answer::Actor(view)) => view.map(|view| *view),
            other => panic!("no view: {other:?}"),
        }
    }
}

/// Lets everybody run until nobody has anything to do at this point in time.
pub(super) async fn settle() {
    for _ in 0..400 {
        tokio::task::yield_now().await;
    }
}

/// Lets time pass.
pub(super) async fn pass(ms: u64) {
    tokio::time::sleep_until(Instant::now() + Duration::from_millis(ms)).await;
    settle().await;
}
