//! Carries out the actions of cores: the one place where they become effects (`architecture.md` §2).
//!
//! In: actions, in the order given. Out: datagrams, messages, commits, log lines. One match over the
//! closed list; it decides nothing.

use std::sync::{Arc, OnceLock};

use actors::{Message, Site};
use bytes::Bytes;
use contract::env::{Env, MediaPlane, NetSink};
use contract::net::GOSSIP;
use contract::peer::Peers;
use contract::{Action, ActorId, Emitted, FlowRef, Roster};
use runtime::{Fabric, Origin};

use crate::addresses::Addresses;
use crate::doors::{Reply, Tickets};
use crate::telemetry;

/// Performs actions on an `Env`.
pub(crate) struct Performer {
    pub env: Arc<dyn Env>,
    pub media: Arc<dyn MediaPlane>,
    /// The way to other nodes, if there may be any.
    pub peers: Option<Arc<dyn Peers>>,
    pub tickets: Arc<Tickets>,
    /// Where connections of ours deliver; set once the fabric runs.
    pub sink: Arc<OnceLock<Arc<dyn NetSink>>>,
    /// Floating addresses.
    pub addresses: Arc<Addresses>,
}

impl<R> runtime::Performer<R> for Performer
where
    R: Roster<Message = Message, Site = Site>,
{
    fn perform(&self, fabric: &Fabric<R>, origin: &Origin<'_>, action: Action<Message>) {
        match action {
            Action::Send { flow, bytes } => self.send(fabric, flow, bytes),
            // `urgent` is the gate's affair; here it is past.
            Action::Tell {
                to,
                message,
                urgent: _,
            } => fabric.tell(origin.id, to, message),
            Action::Spawn { id, first } => fabric.spawn_child(origin.id, id, first),
            Action::Stop { id } => fabric.stop(origin.id, &id),
            Action::Store(store) => fabric.store(origin, store),
            Action::Lookup { token, what } => fabric.look_up(origin.id, token, what),
            Action::Media(command) => self.media.command(command),
            Action::Emit(Emitted::View(members)) => fabric.set_view(members),
            Action::Emit(Emitted::NodeDown {
                instance,
                is_proven,
            }) => {
                fabric.set_down(instance, is_proven);
                let emitted = Emitted::NodeDown {
                    instance,
                    is_proven,
                };
                telemetry::emit(origin.id, emitted);
            }
            Action::Emit(Emitted::Heir { of, node }) => fabric.set_heir(of, node),
            Action::Emit(Emitted::Address { address, order }) => {
                self.addresses
                    .order(fabric, self.sink.get(), address, order);
            }
            Action::Emit(emitted @ Emitted::Superseded { .. }) => {
                fabric.set_superseded();
                telemetry::emit(origin.id, emitted);
            }
            // The shell does that itself.
            Action::Adopt { .. } => {}
            Action::Emit(emitted) => {
                fabric.log_emitted(&emitted);
                telemetry::emit(origin.id, emitted);
            }
            Action::Connect { flow } => self.connect(fabric, flow),
            Action::Close { flow, code, why } => self.env.close(&flow, code, why),
            Action::Http {
                ticket,
                status,
                body,
            } => {
                self.tickets.answer(ticket, Reply { status, body });
            }
        }
    }
}

impl Performer {
    /// Puts octets where they go: a socket of ours, one of another node, gossip.
    fn send<R>(&self, fabric: &Fabric<R>, flow: FlowRef, bytes: Bytes)
    where
        R: Roster<Message = Message, Site = Site>,
    {
        match (&flow, &self.peers) {
            (FlowRef::Datagram { listener, remote }, Some(peers)) if *listener == GOSSIP => {
                peers.gossip(*remote, bytes);
            }
            (FlowRef::Stream { node, .. }, Some(_)) if *node != fabric.me().node => {
                if !fabric.send_away(flow, bytes) {
                    tracing::debug!(%flow, "octets for another node are lost");
                }
            }
            (FlowRef::Datagram { listener, remote }, Some(_)) => {
                // One at a floating address that is elsewhere has a stand-in.
                let listener = fabric.site().usable(*listener);
                let remote = *remote;
                self.env
                    .send(&FlowRef::Datagram { listener, remote }, bytes);
            }
            (FlowRef::Datagram { .. } | FlowRef::Stream { .. }, _) => self.env.send(&flow, bytes),
        }
    }

    fn connect<R>(&self, fabric: &Fabric<R>, flow: FlowRef)
    where
        R: Roster<Message = Message, Site = Site>,
    {
        if let (FlowRef::Datagram { listener, remote }, Some(peers)) = (&flow, &self.peers)
            && *listener == GOSSIP
        {
            return peers.greet(*remote);
        }
        let FlowRef::Stream { node, number, .. } = flow else {
            tracing::debug!(%flow, "a datagram flow needs no connection");
            return;
        };
        let Some(sink) = self.sink.get() else {
            tracing::debug!(%flow, "no connection before the node is up");
            return;
        };
        if fabric.start_system(ActorId::Flow(node, number)) {
            self.env.connect(flow, Arc::clone(sink));
        } else {
            tracing::warn!(%flow, "no room for another connection");
        }
    }
}
