//! The other nodes of the cluster: messages to and from their actors, octets for their sockets.
//!
//! In: the view of gossip, frames of proven members, messages for actors whose home is elsewhere.
//! Out: frames, events in inboxes. What cannot be delivered comes back to its sender over any
//! distance. A node that is alone has none of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use cluster::{Frame, home};
use contract::core::{Event, Roster, Undelivered};
use contract::{ActorId, FlowRef, FrameClass, Member, NodeId, NodeInst, PeerFault, Peers};

use crate::entry::Delivery;
use crate::fabric::Fabric;

/// What a node knows of the others.
pub(crate) struct Mesh {
    peers: Option<Arc<dyn Peers>>,
    members: RwLock<BTreeMap<NodeId, Member>>,
    /// Nodes that a connection is there with, also before gossip knows them.
    connected: RwLock<BTreeMap<NodeId, NodeInst>>,
    /// A later start of this node runs elsewhere.
    is_superseded: AtomicBool,
}

impl Mesh {
    pub(crate) fn new(peers: Option<Arc<dyn Peers>>) -> Self {
        Mesh {
            peers,
            members: RwLock::new(BTreeMap::new()),
            connected: RwLock::new(BTreeMap::new()),
            is_superseded: AtomicBool::new(false),
        }
    }

    /// Returns the life of a node that frames can go to.
    fn life(&self, node: NodeId) -> Option<NodeInst> {
        let connected = self.connected.read();
        connected
            .expect("no holder of the connections panics")
            .get(&node)
            .copied()
    }
}

impl<R: Roster> Fabric<R> {
    /// Takes the cluster as gossip sees it: connections are kept with its nodes, messages go there.
    ///
    /// # Panics
    /// If a holder of the view panicked.
    pub fn set_view(&self, members: Vec<Member>) {
        let mesh = &self.inner.mesh;
        let Some(peers) = &mesh.peers else { return };
        let me = self.me().node;
        let others = members.iter().map(|member| member.peer);
        peers.keep(others.filter(|peer| peer.inst.node != me).collect());
        let by_node = members
            .into_iter()
            .map(|member| (member.peer.inst.node, member));
        *mesh.members.write().expect("no holder of the view panics") = by_node.collect();
    }

    /// Takes that a node is connected, or is not any more.
    ///
    /// # Panics
    /// If a holder of the connections panicked.
    pub fn set_connected(&self, life: NodeInst, is_connected: bool) {
        let connected = self.inner.mesh.connected.write();
        let mut connected = connected.expect("no holder of the connections panics");
        if is_connected {
            connected.insert(life.node, life);
        } else if connected.get(&life.node) == Some(&life) {
            connected.remove(&life.node);
        }
    }

    /// Takes that a later start of this node runs elsewhere: this one is to end.
    pub fn set_superseded(&self) {
        self.inner.mesh.is_superseded.store(true, Ordering::Release);
    }

    /// Tells whether a later start of this node runs elsewhere.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.inner.mesh.is_superseded.load(Ordering::Acquire)
    }

    /// Returns the nodes of the cluster as gossip sees them, in the order of their numbers.
    ///
    /// # Panics
    /// If a holder of the view panicked.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let members = self.inner.mesh.members.read();
        let members = members.expect("no holder of the view panics");
        members.values().cloned().collect()
    }

    /// Returns the other node that an actor is at home at.
    pub(crate) fn elsewhere(&self, id: &ActorId) -> Option<NodeId> {
        self.inner.mesh.peers.as_ref()?;
        home(id).filter(|node| *node != self.me().node)
    }

    /// Sends a message to an actor of another node; it comes back if it cannot go.
    pub(crate) fn tell_away(&self, node: NodeId, from: &ActorId, to: ActorId, message: R::Message) {
        let class = R::frame_class(&message);
        let frame = Frame::Tell {
            from: from.clone(),
            origin: self.me(),
            to: to.clone(),
            hops: 1,
            message: R::encode(&message).into(),
        };
        let Some(life) = self.inner.mesh.life(node) else {
            return self.bounce(from, to, message, Undelivered::Absent);
        };
        if let Err(fault) = self.frame(life, class, &frame) {
            let why = match fault {
                PeerFault::Absent => Undelivered::Absent,
                PeerFault::Busy | PeerFault::TooLong => Undelivered::Busy,
            };
            self.bounce(from, to, message, why);
        }
    }

    /// Puts octets on a connection that another node has; false if they cannot go there.
    pub fn send_away(&self, flow: FlowRef, bytes: Bytes) -> bool {
        let FlowRef::Stream { node, .. } = flow else {
            return false;
        };
        let Some(life) = self.inner.mesh.life(node) else {
            return false;
        };
        let frame = Frame::Send { flow, bytes };
        self.frame(life, FrameClass::InDialog, &frame).is_ok()
    }

    fn frame(&self, to: NodeInst, class: FrameClass, frame: &Frame) -> Result<(), PeerFault> {
        let peers = self.inner.mesh.peers.as_ref().ok_or(PeerFault::Absent)?;
        let octets = frame.write().map_err(|error| {
            tracing::error!(%error, "a frame cannot be written");
            PeerFault::TooLong
        })?;
        peers.send(to, class, octets)
    }

    /// Takes a frame of another node; false if it is none, or none that is expected.
    pub fn on_frame(&self, peer: NodeInst, octets: &[u8]) -> bool {
        let frame = match Frame::read(octets) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(%peer, %error, "a frame cannot be read");
                return false;
            }
        };
        match frame {
            Frame::Tell {
                from,
                origin,
                to,
                message,
                hops: _,
            } => self.told(origin, from, to, &message),
            Frame::Returned {
                to,
                from,
                message,
                why,
            } => {
                let Some(message) = R::decode(&message) else {
                    return false;
                };
                self.bounce(&from, to, message, why);
                true
            }
            Frame::Send { flow, bytes } => {
                let is_ours =
                    matches!(flow, FlowRef::Stream { node, .. } if node == self.me().node);
                if is_ours {
                    self.env().send(&flow, bytes);
                }
                is_ours
            }
            Frame::Ask { .. }
            | Frame::Reply { .. }
            | Frame::Where { .. }
            | Frame::Found { .. }
            | Frame::Redirect { .. } => false,
        }
    }

    /// A message for an actor of this node; what cannot be delivered goes back to its origin.
    fn told(&self, origin: NodeInst, from: ActorId, to: ActorId, octets: &Bytes) -> bool {
        let why = match R::decode(octets) {
            Some(message) if home(&to) == Some(self.me().node) => {
                let event = Event::Message {
                    from: from.clone(),
                    message,
                };
                match self.try_deliver(&to, event) {
                    Ok(()) => return true,
                    Err((_, Delivery::Busy)) => Undelivered::Busy,
                    Err((_, Delivery::Absent | Delivery::Accepted)) => Undelivered::Absent,
                }
            }
            Some(_) | None => Undelivered::Absent,
        };
        let back = Frame::Returned {
            to,
            from,
            message: octets.clone(),
            why,
        };
        self.frame(origin, FrameClass::InDialog, &back).is_ok()
    }
}
