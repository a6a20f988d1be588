//! The fabric of one node: actors by ID, live or passive, and how to reach them.
//!
//! In: events for IDs, and what the performer hands back of a core's actions. Out: events in
//! inboxes. To change how an actor starts see `start.rs`, how it runs `shell.rs`, how it is judged
//! `supervisor.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use bytes::Bytes;
use cluster::Spoken;
use contract::core::{Event, Health, Roster, Space, Undelivered};
use contract::limits::{ACTORS_MAX, QUARANTINE_MAX};
use contract::{
    Action, ActorId, Answer, Batch, Entropy, Env, IdHasher, Kind, Lookup, NodeInst, NodeNews, Now,
    SchemaVersion, Work,
};
use ractor::ActorRef;

use crate::deadline_index::DeadlineIndex;
use crate::drain::Wish;
use crate::entry::{Delivery, Entry, Letter, Side};
use crate::events::Events;
use crate::gate::Ticket;
use crate::mesh::Mesh;
use crate::records::Records;
use crate::replicas::{Input, Parcel, Replicas};
use crate::shell::Wake;

/// Performs the actions of cores: `nodes/src/perform.rs`.
pub trait Performer<R: Roster>: Send + Sync + 'static {
    /// Performs one action of the actor that `origin` names.
    fn perform(&self, fabric: &Fabric<R>, origin: &Origin<'_>, action: Action<R::Message>);
}

/// The actor an action comes from.
#[derive(Debug)]
pub struct Origin<'a> {
    /// Its ID.
    pub id: &'a ActorId,
    pub(crate) part: Option<Part<'a>>,
    pub(crate) ticket: Option<Ticket>,
}

/// An actor's part as it is to be recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) bytes: &'a Bytes,
    pub(crate) deadline: Option<contract::UtcMillis>,
    /// The schema that it was written for.
    pub(crate) schema: SchemaVersion,
}

/// What a fabric is made of.
pub struct Parts<R: Roster> {
    /// The world.
    pub env: Arc<dyn Env>,
    /// The configuration.
    pub site: Arc<R::Site>,
    /// Hashes natural keys.
    pub ids: IdHasher,
    /// This life of this node.
    pub me: NodeInst,
    /// Name of the node.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Performs actions.
    pub performer: Arc<dyn Performer<R>>,
    /// How many nodes of a cluster are to hold a record, 1 to `HOLDERS_MAX`.
    pub holders: usize,
    /// What counts when fewer holders answer than wanted.
    pub commit: cluster::CommitMode,
    /// The newest schema that is written: less than this program knows while others are upgraded.
    pub schema: SchemaVersion,
}

impl<R: Roster> std::fmt::Debug for Parts<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parts({})", self.me)
    }
}

/// Why a fabric could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// ractor gave no actor.
    #[error("starting supervisor {name}: {why}")]
    Supervisor {
        /// Its name.
        name: String,
        /// What ractor said.
        why: String,
    },
    /// The records cannot be read.
    #[error("reading the records of this node")]
    Records(#[source] cluster::RecordError),
    /// No record is found under the secret there is.
    #[error(
        "the {count} records of this node were written with another cluster.key: put that back, or \
         move the data folder away"
    )]
    OtherSecret {
        /// How many there are.
        count: usize,
    },
}

type Table<R> = RwLock<BTreeMap<ActorId, Arc<Entry<R>>>>;

pub(crate) struct Inner<R: Roster> {
    pub(crate) parts: Parts<R>,
    pub(crate) site: RwLock<Arc<R::Site>>,
    pub(crate) records: Records,
    pub(crate) index: DeadlineIndex,
    pub(crate) mesh: Mesh,
    pub(crate) events: Arc<Events>,
    /// `None`: this node is alone.
    pub(crate) replicas: Option<Replicas<R>>,
    pub(crate) wish: Wish,
    pub(crate) tables: Vec<Table<R>>,
    counts: Vec<AtomicUsize>,
    pub(crate) supervisors: Mutex<BTreeMap<Kind, ActorRef<Wake>>>,
    pub(crate) root: Mutex<Option<ActorRef<Wake>>>,
    pub(crate) names: Mutex<BTreeMap<u64, String>>,
    pub(crate) health: RwLock<Health>,
    pub(crate) listeners: Mutex<Vec<String>>,
    /// Events that were set aside, oldest first.
    pub(crate) quarantine: Mutex<VecDeque<(ActorId, String)>>,
    pub(crate) entropy: Entropy,
    pub(crate) started: Now,
    starts: AtomicUsize,
    /// Nothing comes in from outside any more.
    pub(crate) closed: AtomicBool,
    /// Nothing has an effect any more.
    pub(crate) revoked: AtomicBool,
    handle: tokio::runtime::Handle,
}

/// A handle on the fabric; cheap to clone.
pub struct Fabric<R: Roster> {
    pub(crate) inner: Arc<Inner<R>>,
}

impl<R: Roster> Clone for Fabric<R> {
    fn clone(&self) -> Self {
        Fabric {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<R: Roster> std::fmt::Debug for Fabric<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fabric({})", self.inner.parts.me)
    }
}

impl<R: Roster> Fabric<R> {
    pub(crate) fn new(parts: Parts<R>) -> Self {
        let entropy = Entropy::from_seed(parts.env.seed());
        let started = parts.env.now();
        let peers = parts.env.peers();
        let spoken = Spoken::new(parts.schema, peers.is_none());
        let inner = Inner {
            replicas: peers.is_some().then(|| Replicas::new(&parts)),
            mesh: Mesh::new(peers, spoken),
            events: Arc::new(Events::new(parts.me)),
            wish: Wish::default(),
            site: RwLock::new(Arc::clone(&parts.site)),
            records: Records::new(parts.ids.clone(), parts.me),
            index: DeadlineIndex::default(),
            tables: Kind::ALL
                .iter()
                .map(|_| RwLock::new(BTreeMap::new()))
                .collect(),
            counts: Kind::ALL.iter().map(|_| AtomicUsize::new(0)).collect(),
            supervisors: Mutex::new(BTreeMap::new()),
            root: Mutex::new(None),
            names: Mutex::new(BTreeMap::new()),
            health: RwLock::new(Health::default()),
            listeners: Mutex::new(Vec::new()),
            quarantine: Mutex::new(VecDeque::new()),
            entropy,
            started,
            starts: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            revoked: AtomicBool::new(false),
            handle: tokio::runtime::Handle::current(),
            parts,
        };
        Fabric {
            inner: Arc::new(inner),
        }
    }

    pub(crate) fn table(&self, kind: Kind) -> &Table<R> {
        &self.inner.tables[kind as usize]
    }

    pub(crate) fn env(&self) -> &Arc<dyn Env> {
        &self.inner.parts.env
    }

    pub(crate) fn now(&self) -> Now {
        self.env().now()
    }

    /// Returns this life of this node.
    #[must_use]
    pub fn me(&self) -> NodeInst {
        self.inner.parts.me
    }

    /// Returns the configuration.
    ///
    /// # Panics
    /// If a holder of its lock panicked.
    #[must_use]
    pub fn site(&self) -> Arc<R::Site> {
        Arc::clone(
            &self
                .inner
                .site
                .read()
                .expect("no holder of the site panics"),
        )
    }

    /// Replaces the configuration: cores see it with their next event.
    ///
    /// # Panics
    /// If a holder of its lock panicked.
    pub fn set_site(&self, site: Arc<R::Site>) {
        *self
            .inner
            .site
            .write()
            .expect("no holder of the site panics") = site;
    }

    /// Sets what every core sees of the node's health.
    ///
    /// # Panics
    /// If a holder of its lock panicked.
    pub fn set_health(&self, space: Space, draining: bool) {
        let mut health = self
            .inner
            .health
            .write()
            .expect("no holder of the health panics");
        health.space = space;
        let was_draining = std::mem::replace(&mut health.draining, draining);
        drop(health);
        if draining && !was_draining {
            self.publish_own(NodeNews::Draining);
        }
    }

    /// Sets what a listing says of listeners.
    ///
    /// # Panics
    /// If a holder of the list panicked.
    pub fn set_listeners(&self, listeners: Vec<String>) {
        *self
            .inner
            .listeners
            .lock()
            .expect("no holder of the list panics") = listeners;
    }

    /// Returns the node's health.
    ///
    /// # Panics
    /// If a holder of its lock panicked.
    #[must_use]
    pub fn health(&self) -> Health {
        let mut health = *self
            .inner
            .health
            .read()
            .expect("no holder of the health panics");
        health.calls = u32::try_from(self.live(Kind::Call)).unwrap_or(u32::MAX);
        health.quarantined = self.is_quarantined();
        let replicas = self.inner.replicas.as_ref();
        health.cut_off = replicas.is_some_and(super::replicas::Replicas::is_cut_off);
        health.draining |= health.quarantined;
        health.schema = self.spoken();
        health
    }

    /// Returns the number of live actors of a kind.
    #[must_use]
    pub fn live(&self, kind: Kind) -> usize {
        self.inner.counts[kind as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.inner.revoked.load(Ordering::SeqCst)
    }

    /// Enters the tokio runtime: some callers are threads of the store or of media.
    pub(crate) fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.inner.handle.enter()
    }

    pub(crate) fn find(&self, id: &ActorId) -> Option<Arc<Entry<R>>> {
        self.table(id.kind())
            .read()
            .expect("no holder of a table panics")
            .get(id)
            .cloned()
    }

    /// Puts an entry into the table; gives the one that is there already, if there is.
    pub(crate) fn enlist(&self, entry: &Arc<Entry<R>>) -> Result<(), Arc<Entry<R>>> {
        let kind = entry.id.kind();
        let mut table = self
            .table(kind)
            .write()
            .expect("no holder of a table panics");
        if let Some(known) = table.get(&entry.id) {
            return Err(Arc::clone(known));
        }
        table.insert(entry.id.clone(), Arc::clone(entry));
        self.inner.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn delist(&self, entry: &Arc<Entry<R>>) {
        let kind = entry.id.kind();
        let mut table = self
            .table(kind)
            .write()
            .expect("no holder of a table panics");
        if table
            .get(&entry.id)
            .is_some_and(|known| Arc::ptr_eq(known, entry))
        {
            table.remove(&entry.id);
            self.inner.counts[kind as usize].fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.inner
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum::<usize>()
            >= ACTORS_MAX
    }

    /// Returns a number that no other start of an actor on this life of the node has.
    pub(crate) fn next_start(&self) -> usize {
        self.inner.starts.fetch_add(1, Ordering::Relaxed)
    }

    /// Gives an event to an actor, starting it if it is passive or can be made by the event.
    pub fn deliver(&self, to: &ActorId, event: Event<R::Message, ()>) -> Delivery {
        if self.inner.closed.load(Ordering::SeqCst) {
            return Delivery::Busy;
        }
        match self.try_deliver(to, event) {
            Ok(()) => Delivery::Accepted,
            Err((_, why)) => why,
        }
    }

    pub(crate) fn try_deliver(
        &self,
        to: &ActorId,
        letter: impl Into<Letter<R>>,
    ) -> Result<(), (Event<R::Message, ()>, Delivery)> {
        let letter = letter.into();
        if self.is_revoked() {
            return Err((letter.event, Delivery::Absent));
        }
        let mut left = Some(letter);
        // A passivating actor closes its inbox a moment before it leaves the table: once more.
        for _ in 0..3 {
            let found = match self.find(to) {
                None if self.is_full() || self.is_shut_to(to) => {
                    return refused(left, Delivery::Busy);
                }
                None => self.awaken(to, &mut left),
                found => found,
            };
            let Some(entry) = found else { break };
            let Some(letter) = left.take() else {
                return Ok(());
            };
            match entry.push(letter) {
                Ok(()) => return Ok(()),
                Err((back, Delivery::Absent)) => {
                    self.delist(&entry);
                    left = Some(back);
                }
                Err((back, why)) => return Err((back.event, why)),
            }
        }
        refused(left, Delivery::Absent)
    }

    /// Tells an actor something; what cannot be delivered comes back to the sender.
    pub fn tell(&self, from: &ActorId, to: ActorId, message: R::Message) {
        if let Some(node) = self.elsewhere(&to) {
            return self.tell_away(node, from, to, message);
        }
        if let Some(replicas) = &self.inner.replicas
            && to.kind().is_recorded()
            && (replicas.has_parcels() || self.find(&to.record_owner()).is_none())
        {
            return self.give(Input::Post(Parcel {
                from: from.clone(),
                origin: self.me(),
                to,
                hops: 0,
                message,
            }));
        }
        let event = Event::Message {
            from: from.clone(),
            message,
        };
        if let Err((Event::Message { message, .. }, why)) = self.try_deliver(&to, event) {
            let why = match why {
                Delivery::Busy => Undelivered::Busy,
                Delivery::Absent | Delivery::Accepted => Undelivered::Absent,
            };
            self.bounce(from, to, message, why);
        }
    }

    /// Gives a message back to its sender; if that is gone too, it is dropped.
    pub(crate) fn bounce(
        &self,
        from: &ActorId,
        to: ActorId,
        message: R::Message,
        why: Undelivered,
    ) {
        if let Some(sender) = self.find(from) {
            let back = Event::Undelivered { to, message, why };
            if sender.push(back).is_err() {
                tracing::debug!(actor = %from, "an undelivered message could not be given back");
            }
        } else if let Some(node) = self.elsewhere(from) {
            self.return_away(node, from, to, &message, why);
        }
    }

    /// Starts a child with its first message.
    pub fn spawn_child(&self, parent: &ActorId, id: ActorId, first: R::Message) {
        let Some(father) = self.find(parent) else {
            return;
        };
        if self.is_revoked() || father.is_ending.load(Ordering::SeqCst) {
            return;
        }
        if self.is_full() {
            return self.bounce(parent, id, first, Undelivered::Busy);
        }
        let mut entry = Entry::new(id.clone(), Some(parent.clone()));
        entry.claim();
        if let Err(known) = self.enlist(&entry) {
            if !known.claim() {
                return self.tell(parent, id, first);
            }
            // A message for it was faster.
            entry = known;
        }
        entry.push_front(Event::Message {
            from: parent.clone(),
            message: first,
        });
        father.status().children.push(id);
        self.launch(&entry, None);
    }

    /// Ends an actor: the caller itself, or its child, whose part then leaves the record.
    pub fn stop(&self, by: &ActorId, id: &ActorId) {
        let Some(entry) = self.find(id) else { return };
        tracing::trace!(actor = %id, by = %by, "is to end");
        entry.push_side(Side::End);
    }

    /// Keeps an event that was set aside, for the console.
    pub(crate) fn quarantine(&self, id: &ActorId, text: String) {
        let lock = self.inner.quarantine.lock();
        let mut kept = lock.expect("no holder of the quarantine panics");
        if kept.len() >= QUARANTINE_MAX {
            kept.pop_front();
        }
        kept.push_back((id.clone(), text));
    }

    pub(crate) fn commit_lazily(&self, batch: Batch) {
        self.env().store().commit(
            batch,
            Box::new(|result| {
                if let Err(error) = result {
                    tracing::warn!(%error, "a commit that nobody waits for failed");
                }
            }),
        );
    }

    /// Records the part of the actor an action comes from.
    pub fn store(&self, origin: &Origin<'_>, store: contract::action::Store) {
        if self.is_revoked() {
            return;
        }
        crate::commit::commit(self, origin, store);
    }

    /// Answers a question to the node with an `Answer` event.
    pub fn look_up(&self, from: &ActorId, token: u64, what: Lookup) {
        if let Lookup::Host { name } = what {
            let (fabric, from) = (self.clone(), from.clone());
            let done = move |found| {
                let answer = Answer::Host(found);
                fabric.deliver(&from, Event::Answer { token, answer });
            };
            return self.env().resolve(name, Box::new(done));
        }
        crate::inspect::answer(self, from, token, what);
    }

    /// Returns what to wait for before more is given to a crowded inbox.
    #[must_use]
    pub fn room(&self, id: &ActorId) -> Option<Work> {
        let entry = self.find(id).filter(|entry| entry.is_crowded())?;
        Some(Box::pin(async move {
            loop {
                let room = entry.room.notified();
                if !entry.is_crowded() {
                    return;
                }
                room.await;
            }
        }))
    }

    /// Drives the deadlines until the fabric ends.
    pub(crate) async fn drive(self) {
        while !self.is_revoked() {
            let now = self.now();
            let replicas = self.inner.replicas.as_ref();
            if replicas.is_some_and(|replicas| replicas.take_due(now.mono)) {
                self.give(Input::Tick);
                continue;
            }
            let replicas = replicas.and_then(Replicas::due);
            let next = self.inner.index.next(now);
            if next.is_some_and(|next| next <= now.mono) {
                self.wake_due(now);
                continue;
            }
            let next = [replicas, next].into_iter().flatten().min();
            let env = Arc::clone(self.env());
            let sleep = env.sleep_until(next.unwrap_or(now.mono + Duration::from_secs(3600)));
            tokio::select! {
                biased;
                () = self.inner.index.changed.notified() => {}
                () = sleep => {}
            }
        }
    }

    fn wake_due(&self, now: Now) {
        let due = self.inner.index.take_due(now);
        for id in due.live {
            if let Some(entry) = self.find(&id) {
                entry.schedule();
            }
        }
        for id in due.passive {
            if self.find(&id).is_some() {
                continue;
            }
            if self.inner.replicas.is_some() {
                self.give(Input::Wake { id });
            } else {
                self.awaken(&id, &mut None);
            }
        }
    }
}

/// An event that could not be delivered; `Ok` if it is in an inbox after all.
fn refused<R: Roster>(
    left: Option<Letter<R>>,
    why: Delivery,
) -> Result<(), (Event<R::Message, ()>, Delivery)> {
    left.map_or(Ok(()), |letter| Err((letter.event, why)))
}
