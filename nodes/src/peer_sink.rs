//! From the other nodes to actors: frames to the fabric, gossip and news of connections to the
//! member actor.
//!
//! In: calls of `PeerSink`. Out: events. It reads nothing of what it passes on.

use std::net::SocketAddr;

use actors::{Message, Site, member};
use bytes::Bytes;
use contract::net::GOSSIP;
use contract::{ActorId, Event, FrameClass, Loss, NodeInst, Peer, PeerSink, Roster, SchemaVersion};
use runtime::Delivery;

use crate::sockets::Sockets;

impl<R> PeerSink for Sockets<R>
where
    R: Roster<Message = Message, Site = Site>,
{
    fn frame(&self, from: NodeInst, _: FrameClass, frame: Bytes) {
        let Some(fabric) = self.fabric() else { return };
        let is_taken = fabric.on_frame(from, &frame);
        let taken = if is_taken { "true" } else { "false" };
        metrics::counter!("weft_frames_total", "taken" => taken).increment(1);
    }

    fn gossip(&self, from: SocketAddr, datagram: Bytes) {
        self.tell_member(Event::Datagram {
            listener: GOSSIP,
            remote: from,
            bytes: datagram,
        });
    }

    fn connected(&self, peer: Peer, reads: SchemaVersion) {
        let Some(fabric) = self.fabric() else { return };
        tracing::info!(node = %peer.inst, address = %peer.address, "connected with a node");
        fabric.set_connected(peer.inst, reads);
        self.tell_member(self.news(member::Message::Connected(peer)));
    }

    fn lost(&self, peer: Peer, why: Loss) {
        let Some(fabric) = self.fabric() else { return };
        tracing::info!(node = %peer.inst, ?why, "connection with a node lost");
        fabric.set_lost(peer.inst);
        self.tell_member(self.news(member::Message::Lost(peer, why)));
    }
}

impl<R> Sockets<R>
where
    R: Roster<Message = Message, Site = Site>,
{
    fn news(&self, message: member::Message) -> Event<Message, ()> {
        Event::Message {
            from: ActorId::Member(self.node()),
            message: message.into(),
        }
    }

    fn tell_member(&self, event: Event<Message, ()>) {
        let Some(fabric) = self.fabric() else { return };
        let member = ActorId::Member(self.node());
        if fabric.deliver(&member, event) != Delivery::Accepted {
            metrics::counter!("weft_member_events_lost_total").increment(1);
        }
    }
}
