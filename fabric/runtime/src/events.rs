//! The event log of a node: what its actors and the cluster say happened, kept, written, sent to the
//! other nodes, and read from any of them (`weft-cluster`, `events`).
//!
//! In: what performers hand on behind the commit gate, the view, batches of other nodes, the time.
//! Out: batches for the store and for other nodes; what readers see. Nobody waits for any of it: an
//! event that is not written when the node is killed is what readers hear a gap of.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cluster::{CallLog, Cursor, EventBatch, EventLog, EventsHeld, Frame, Seen, Taken};
use contract::core::Roster;
use contract::env::Store;
use contract::limits::{EVENT_BATCH_MS, EVENT_COMPARE_MS, EVENTS_PER_READ_MAX};
use contract::{
    Batch, CallKey, Emitted, FrameClass, LogEvent, Member, MemberState, NodeId, NodeInst, NodeNews,
    Now, SchemaVersion, StoreFault, Time, What,
};
use tokio::sync::{Notify, watch};

use crate::fabric::Fabric;
use crate::mesh::FIRST_VIEW;

/// The first schema that has words for events.
const EVENTS_SINCE: SchemaVersion = SchemaVersion(2);
/// After which time a node that has just started asks one of the others for all it has.
const FIRST_COMPARE: Duration = Duration::from_millis(500);

/// The log, and what wakes those who wait for it.
pub(crate) struct Events {
    log: Mutex<EventLog>,
    /// The lives of other nodes that were told up, with their names.
    nodes: Mutex<BTreeMap<NodeId, Known>>,
    /// There is something to write or to send.
    dirty: Notify,
    /// Rises when readers see more.
    changed: watch::Sender<u64>,
    /// The store has refused events: until then it is left alone.
    refused_until: Mutex<Option<Time>>,
}

struct Known {
    life: NodeInst,
    name: String,
    is_draining: bool,
}

impl Events {
    pub(crate) fn new(me: NodeInst) -> Self {
        Events {
            log: Mutex::new(EventLog::new(me)),
            nodes: Mutex::default(),
            dirty: Notify::new(),
            changed: watch::Sender::new(0),
            refused_until: Mutex::new(None),
        }
    }

    fn log(&self) -> MutexGuard<'_, EventLog> {
        self.log.lock().expect("no holder of the log panics")
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Known>> {
        self.nodes.lock().expect("no holder of the nodes panics")
    }

    fn refused(&self) -> MutexGuard<'_, Option<Time>> {
        self.refused_until
            .lock()
            .expect("no holder of the time panics")
    }

    fn tell_readers(&self) {
        self.changed.send_modify(|changed| *changed += 1);
    }

    /// Reads what former lives have written. With other nodes there, a store that lacks something
    /// counts as empty: they have it without holes.
    pub(crate) fn load(
        &self,
        store: &dyn Store,
        now: Now,
        me: NodeInst,
        is_alone: bool,
    ) -> Result<(), StoreFault> {
        let (mut log, mut unread) = (self.log(), 0_u64);
        store.scan(EventLog::stored_prefix(), &mut |key, value| {
            unread += u64::from(!log.load(now.mono, key, value));
            ControlFlow::Continue(())
        })?;
        if unread > 0 {
            tracing::warn!(unread, "batches of the event log cannot be read");
        }
        if store.is_quarantined() && !is_alone {
            *log = EventLog::new(me);
        }
        Ok(())
    }
}

impl<R: Roster> Fabric<R> {
    fn events(&self) -> &Events {
        &self.inner.events
    }

    /// Hands what an actor emits to the event log, if that is to have it.
    pub fn log_emitted(&self, emitted: &Emitted) {
        if let Some(what) = emitted.logged() {
            self.publish(what);
        }
    }

    fn publish(&self, what: What) {
        let at = self.now().utc;
        if self.is_revoked() || self.events().log().publish(at, what).is_none() {
            return;
        }
        self.events().tell_readers();
        self.events().dirty.notify_one();
    }

    pub(crate) fn publish_node(&self, life: NodeInst, name: String, news: NodeNews) {
        self.publish(What::Node { life, name, news });
    }

    /// Publishes that of this very node.
    pub(crate) fn publish_own(&self, news: NodeNews) {
        let name = self.inner.parts.name.clone();
        self.publish_node(self.me(), name, news);
    }

    /// Returns the cursor of a reader who wants to know what happens from now on.
    #[must_use]
    pub fn events_end(&self) -> Cursor {
        self.events().log().end()
    }

    /// Reads on from a cursor, which goes with it; see [`EventLog::read`].
    pub fn read_events(&self, cursor: &mut Cursor, wants: impl FnMut(&LogEvent) -> bool) -> Seen {
        let log = self.events().log();
        log.read(cursor, EVENTS_PER_READ_MAX, wants)
    }

    /// Returns what changes when there is more to read: to be taken before reading.
    #[must_use]
    pub fn events_changed(&self) -> watch::Receiver<u64> {
        self.events().changed.subscribe()
    }

    /// Returns what is kept of one call.
    #[must_use]
    pub fn events_of(&self, call: CallKey) -> CallLog {
        self.events().log().of_call(call)
    }

    /// Says which nodes have come, drain, or are in the view no more.
    pub(crate) fn log_view(&self, members: &[Member]) {
        let me = self.me().node;
        let mut news = Vec::new();
        {
            let mut nodes = self.events().nodes();
            nodes.retain(|node, known| {
                let life = known.life;
                let is_there = members.iter().any(|member| member.peer.inst == life);
                if !is_there {
                    let name = std::mem::take(&mut known.name);
                    news.push((life, name, NodeNews::Gone));
                }
                is_there && *node != me
            });
            for member in members.iter().filter(|one| one.peer.inst.node != me) {
                let life = member.peer.inst;
                let is_draining = member.state == MemberState::Draining;
                if member.state == MemberState::Joining {
                    continue;
                }
                let name = member.name.clone();
                let known = nodes.entry(life.node).or_insert_with(|| {
                    news.push((life, name.clone(), NodeNews::Up));
                    let is_draining = false;
                    Known {
                        life,
                        name: name.clone(),
                        is_draining,
                    }
                });
                if is_draining && !std::mem::replace(&mut known.is_draining, true) {
                    news.push((life, name, NodeNews::Draining));
                }
            }
        }
        for (life, name, news) in news {
            self.publish_node(life, name, news);
        }
        self.look_at_lives();
    }

    /// Says that a node is gone, once: the view that lacks it may come before or after.
    pub(crate) fn log_down(&self, life: NodeInst) {
        let known = {
            let mut nodes = self.events().nodes();
            let is_it = nodes
                .get(&life.node)
                .is_some_and(|known| known.life == life);
            is_it.then(|| nodes.remove(&life.node)).flatten()
        };
        if let Some(known) = known {
            self.publish_node(life, known.name, NodeNews::Gone);
        }
    }

    /// Tells a node that has just been connected what there is of its own events, so that it sends
    /// what is lacking.
    pub(crate) fn log_connected(&self, life: NodeInst) {
        let held = self.events().log().held(Some(life.node));
        self.send_events(life, &Frame::EventsHeld(held));
    }

    /// Another node says what it has: it gets what it lacks.
    pub(crate) fn on_events_held(&self, peer: NodeInst, held: &EventsHeld) {
        let answer = self.events().log().answer(held);
        for batch in answer {
            self.send_events(peer, &Frame::Events(batch));
        }
    }

    /// Another node says what happened.
    pub(crate) fn on_events(&self, peer: NodeInst, batch: EventBatch) {
        let (of, has_more) = (batch.life.node, batch.has_more);
        let (taken, held) = {
            let mut log = self.events().log();
            let taken = log.take(batch);
            let held = match taken {
                Taken::Hole => Some(log.held(Some(of))),
                Taken::News | Taken::Known if has_more => Some(log.held(None)),
                Taken::News | Taken::Known => None,
            };
            (taken, held)
        };
        if let Some(held) = held {
            self.send_events(peer, &Frame::EventsHeld(held));
        }
        if taken == Taken::News {
            self.events().tell_readers();
            self.events().dirty.notify_one();
        }
    }

    /// A frame of the log; one that cannot go is made good by the next comparison.
    fn send_events(&self, to: NodeInst, frame: &Frame) {
        if self.schema_for(to) < EVENTS_SINCE {
            return;
        }
        if let Err(fault) = self.frame(to, FrameClass::Bulk, frame) {
            tracing::debug!(node = %to, %fault, "events wait for the next comparison");
        }
    }

    /// Takes which lives there are; what others have of those that are over is asked for.
    fn look_at_lives(&self) {
        let now = self.now();
        let lives: Vec<NodeInst> = if self.inner.replicas.is_none() {
            vec![self.me()]
        } else if now.mono < self.inner.started.mono + FIRST_VIEW {
            // Who is not in the view may only not be found yet.
            return;
        } else {
            let members = self.members().into_iter();
            members.map(|member| member.peer.inst).collect()
        };
        let questions: Vec<EventsHeld> = {
            let mut log = self.events().log();
            let gone = log.set_lives(now.mono, &lives);
            gone.into_iter().map(|node| log.held(Some(node))).collect()
        };
        if questions.is_empty() {
            return;
        }
        self.events().dirty.notify_one();
        for held in questions {
            for peer in self.inner.mesh.lives() {
                self.send_events(peer, &Frame::EventsHeld(held.clone()));
            }
        }
    }

    /// Writes and sends what has come together.
    fn flush_events(&self) {
        if self.is_revoked() {
            return;
        }
        let now = self.now();
        let may_save = self.may_save(now.mono);
        let flush = {
            let mut log = self.events().log();
            let is_news = log.tick(now.mono);
            let flush = log.flush(now.utc, may_save);
            drop(log);
            if is_news {
                self.events().tell_readers();
            }
            flush
        };
        if !flush.changes.is_empty() {
            self.save_events(flush.changes);
        }
        if flush.batches.is_empty() {
            return;
        }
        let peers = self.inner.mesh.lives();
        for batch in flush.batches {
            let frame = Frame::Events(batch);
            for peer in &peers {
                self.send_events(*peer, &frame);
            }
        }
    }

    /// The store has lost something of this running node: what it was given of the log is written once
    /// more, or the next life would begin with a hole that nobody fills.
    pub(crate) fn save_events_again(&self) {
        let changes = self.events().log().saved_again();
        if !changes.is_empty() {
            self.save_events(changes);
        }
    }

    fn may_save(&self, now: Time) -> bool {
        let refused = self.events().refused();
        refused.is_none_or(|until| until <= now)
    }

    fn save_events(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
        let written = changes.iter().filter(|(_, value)| value.is_some());
        let keys: Vec<Vec<u8>> = written.map(|(key, _)| key.clone()).collect();
        let batch = Batch {
            changes,
            essential: false,
        };
        // Not the fabric, which has the store: the store would drop itself with its last commit.
        let events = Arc::clone(&self.inner.events);
        let until = self.now().mono + Duration::from_millis(EVENT_COMPARE_MS);
        let done = move |result: Result<(), StoreFault>| {
            let Err(fault) = result else {
                *events.refused() = None;
                return;
            };
            if events.refused().replace(until).is_none() {
                tracing::warn!(%fault, "events are not written now, and tried again");
            }
            events.log().not_saved(&keys);
        };
        self.env().store().commit(batch, Box::new(done));
    }

    /// Says that this node ends in order, and writes and sends all there is.
    ///
    /// # Panics
    /// If a holder of the log panicked.
    pub fn close_events(&self) {
        let name = self.inner.parts.name.clone();
        self.events().log().close(self.now().utc, name);
        self.events().tell_readers();
        self.flush_events();
    }

    /// Writes, sends and compares until the fabric ends.
    pub(crate) async fn drive_events(self) {
        let mut compare_at = self.now().mono + FIRST_COMPARE;
        let mut turn = 0;
        while !self.is_revoked() {
            let now = self.now().mono;
            let (is_dirty, due) = {
                let log = self.events().log();
                (log.is_dirty(self.may_save(now)), log.next_deadline())
            };
            let batched = is_dirty.then(|| now + Duration::from_millis(EVENT_BATCH_MS));
            let next = [batched, due, Some(compare_at)].into_iter().flatten().min();
            let sleep = self.env().sleep_until(next.unwrap_or(now));
            if is_dirty {
                sleep.await;
            } else {
                tokio::select! {
                    biased;
                    () = self.events().dirty.notified() => continue,
                    () = sleep => {}
                }
            }
            self.flush_events();
            let now = self.now().mono;
            if now >= compare_at {
                self.look_at_lives();
                let is_asked = self.compare_events(turn);
                turn += 1;
                compare_at = now
                    + if is_asked || self.inner.replicas.is_none() {
                        Duration::from_millis(EVENT_COMPARE_MS)
                    } else {
                        FIRST_COMPARE
                    };
            }
        }
    }

    /// Asks one of the others for all that is lacking here: each in its turn.
    fn compare_events(&self, turn: usize) -> bool {
        let peers = self.inner.mesh.lives();
        let Some(peer) = peers.get(turn % peers.len().max(1)) else {
            return false;
        };
        let held = self.events().log().held(None);
        self.send_events(*peer, &Frame::EventsHeld(held));
        true
    }
}
