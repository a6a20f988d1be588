//! From sockets to actors: datagrams to lanes, connections to flow actors, media to media legs.
//!
//! In: calls of `NetSink` and `MediaSink`. Out: events. It reads no more of a message than its lane,
//! and drops what a listener's `acl` does not let in.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use actors::{Message, Site, lane};
use bytes::Bytes;
use contract::env::{Env, MediaSink, NetSink, Work};
use contract::limits::MEDIA_EARLY_MAX;
use contract::{ActorId, CloseCode, Door, Event, FlowRef, ListenerId, MediaEvent};
use contract::{NodeId, NodeInst, Roster, SideKey};
use runtime::{Delivery, Fabric};

use crate::config::Network;

/// Connections that one life of the node can number.
const NUMBERS_PER_LIFE: u64 = 1_000_000_000;

/// What there is between opening and shutting.
struct Live<R: Roster> {
    fabric: Fabric<R>,
    env: Arc<dyn Env>,
}

impl<R: Roster> Clone for Live<R> {
    fn clone(&self) -> Self {
        Live {
            fabric: self.fabric.clone(),
            env: Arc::clone(&self.env),
        }
    }
}

/// Where sockets deliver; deaf before [`Sockets::open`] and after [`Sockets::shut`].
pub(crate) struct Sockets<R: Roster> {
    node: NodeId,
    /// For each listener the networks that may send to it; empty: all.
    acl: Vec<Vec<Network>>,
    /// Numbers of connections that came in.
    numbers: AtomicU64,
    live: RwLock<Option<Live<R>>>,
    /// What the media plane says while legs of a former life come back, before all is open: a leg
    /// that misses it would stay silent. `None` once it was given on.
    early: Mutex<Option<Vec<(SideKey, MediaEvent)>>>,
}

impl<R> Sockets<R>
where
    R: Roster<Message = Message, Site = Site>,
{
    pub(crate) fn new(me: NodeInst, acl: Vec<Vec<Network>>) -> Self {
        // A stored `FlowRef` must never mean a connection of a later life.
        let first = me.boot.0.saturating_mul(NUMBERS_PER_LIFE).saturating_add(1);
        Sockets {
            node: me.node,
            acl,
            numbers: AtomicU64::new(first),
            live: RwLock::new(None),
            early: Mutex::new(Some(Vec::new())),
        }
    }

    /// Lets events through from now on.
    pub(crate) fn open(&self, fabric: Fabric<R>, env: Arc<dyn Env>) {
        let live = Live { fabric, env };
        // Held to the end, so that what comes meanwhile stays behind what came before.
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(live.clone());
        for (leg, event) in early.take().unwrap_or_default() {
            deliver_media(&live.fabric, leg, event);
        }
    }

    /// Lets nothing through any more, and lets go of fabric and `Env`: the sockets and media plane
    /// inside the `Env` hold this, so neither would ever be freed.
    pub(crate) fn shut(&self) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn live(&self) -> Option<Live<R>> {
        self.live
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn fabric(&self) -> Option<Fabric<R>> {
        self.live().map(|live| live.fabric)
    }

    pub(crate) const fn node(&self) -> NodeId {
        self.node
    }

    fn may_send(&self, listener: ListenerId, remote: SocketAddr) -> bool {
        let networks = self
            .acl
            .get(usize::from(listener.0))
            .map_or(&[][..], Vec::as_slice);
        is_let_in(networks, remote.ip())
    }
}

/// Delivers the end of a connection even if the flow's inbox is full at the moment. A flow that
/// was given up tells nobody: its lanes learn it here, so that nothing waits on a dead connection.
fn deliver_closed<R>(live: &Live<R>, flow: FlowRef, actor: ActorId, why: String)
where
    R: Roster<Message = Message, Site = Site>,
{
    match live
        .fabric
        .deliver(&actor, Event::Closed { why: why.clone() })
    {
        Delivery::Accepted => {}
        Delivery::Absent => {
            for number in 0..live.fabric.site().lanes {
                let (from, gone) = (actor.clone(), lane::Message::FlowGone { flow });
                let message = Message::Lane(gone);
                let lane = ActorId::Lane(live.fabric.me().node, number);
                live.fabric.deliver(&lane, Event::Message { from, message });
            }
        }
        Delivery::Busy => {
            let fabric = live.fabric.clone();
            let work: Work = Box::pin(async move {
                if let Some(room) = fabric.room(&actor) {
                    room.await;
                }
                fabric.deliver(&actor, Event::Closed { why });
            });
            live.env.spawn("closed", work);
        }
    }
}

/// Tells whether an `acl` lets an address in: an empty one lets all in.
fn is_let_in(networks: &[Network], address: IpAddr) -> bool {
    networks.is_empty() || networks.iter().any(|network| network.contains(address))
}

impl<R> NetSink for Sockets<R>
where
    R: Roster<Message = Message, Site = Site>,
{
    fn datagram(&self, listener: ListenerId, remote: SocketAddr, bytes: Bytes) {
        let Some(Live { fabric, .. }) = self.live() else {
            return;
        };
        if !self.may_send(listener, remote) {
            metrics::counter!("weft_acl_dropped_total").increment(1);
            return;
        }
        let lane = ActorId::Lane(self.node, lane::lane_of(&fabric.site(), &bytes));
        match fabric.deliver(
            &lane,
            Event::Datagram {
                listener,
                remote,
                bytes,
            },
        ) {
            Delivery::Accepted => {}
            Delivery::Busy | Delivery::Absent => {
                metrics::counter!("weft_datagrams_shed_total").increment(1);
            }
        }
    }

    fn lets_in(&self, listener: ListenerId, remote: SocketAddr) -> bool {
        self.may_send(listener, remote)
    }

    fn accepted(&self, listener: ListenerId, remote: SocketAddr, door: Door) -> Option<FlowRef> {
        let fabric = self.live()?.fabric;
        if !self.may_send(listener, remote) {
            metrics::counter!("weft_acl_dropped_total").increment(1);
            return None;
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let flow = FlowRef::Stream {
            node: self.node,
            number,
            listener,
            remote,
            door,
        };
        let actor = flow.actor()?;
        if !fabric.start_system(actor.clone()) {
            return None;
        }
        match fabric.deliver(&actor, Event::Opened { flow }) {
            Delivery::Accepted => Some(flow),
            Delivery::Busy | Delivery::Absent => None,
        }
    }

    fn opened(&self, flow: FlowRef) {
        let (Some(live), Some(actor)) = (self.live(), flow.actor()) else {
            return;
        };
        match live.fabric.deliver(&actor, Event::Opened { flow }) {
            Delivery::Accepted => {}
            Delivery::Busy | Delivery::Absent => {
                let why = "its actor is gone";
                live.env.close(&flow, CloseCode::Internal, why);
            }
        }
    }

    fn bytes(&self, flow: &FlowRef, bytes: Bytes) -> Option<Work> {
        let (Live { fabric, env }, actor) = (self.live()?, flow.actor()?);
        match fabric.deliver(&actor, Event::Bytes(bytes)) {
            Delivery::Accepted => fabric.room(&actor),
            // The reader waits for room at half of the inbox: past it, octets would be missing.
            Delivery::Busy | Delivery::Absent => {
                env.close(flow, CloseCode::TryLater, "its actor takes nothing");
                None
            }
        }
    }

    fn closed(&self, flow: &FlowRef, why: String) {
        if let (Some(live), Some(actor)) = (self.live(), flow.actor()) {
            deliver_closed(&live, *flow, actor, why);
        }
    }
}

impl<R> MediaSink for Sockets<R>
where
    R: Roster<Message = Message, Site = Site>,
{
    fn media(&self, leg: SideKey, event: MediaEvent) {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        match early.as_mut() {
            Some(kept) if kept.len() < MEDIA_EARLY_MAX => return kept.push((leg, event)),
            Some(_) | None => drop(early),
        }
        if let Some(Live { fabric, .. }) = self.live() {
            deliver_media(&fabric, leg, event);
        }
    }
}

fn deliver_media<R>(fabric: &Fabric<R>, leg: SideKey, event: MediaEvent)
where
    R: Roster<Message = Message, Site = Site>,
{
    match fabric.deliver(&ActorId::MediaLeg(leg), Event::Media(event)) {
        Delivery::Accepted => {}
        Delivery::Busy | Delivery::Absent => {
            metrics::counter!("weft_media_events_lost_total").increment(1);
        }
    }
}

#[cfg(test)]
#[path = "sockets_tests.rs"]
mod tests;
