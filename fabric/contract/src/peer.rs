//! The way to the other nodes of the cluster, at message level: frames to a node, sealed datagrams
//! of gossip (`cluster.md` §10).
//!
//! In: octets for a node. Out: octets from a node that has proven the cluster's secret. What they
//! mean is `weft-cluster`'s affair; the simulator replaces the wire, not the protocol.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{FaultClass, NodeInst, SchemaVersion};

/// How urgent a frame is: queues are bounded for each class, and the first one is written first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameClass {
    /// Views and metadata of members.
    Membership,
    /// Commits and claims, and their answers.
    Commit,
    /// What belongs to a dialog, and answers.
    InDialog,
    /// New calls.
    Invite,
    /// New registrations.
    Register,
    /// Anti-entropy and moves of many.
    Bulk,
}

impl FrameClass {
    /// Every class, the most urgent first.
    pub const ALL: [FrameClass; 6] = [
        FrameClass::Membership,
        FrameClass::Commit,
        FrameClass::InDialog,
        FrameClass::Invite,
        FrameClass::Register,
        FrameClass::Bulk,
    ];
}

/// A node that is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Peer {
    /// Which life of which node.
    pub inst: NodeInst,
    /// Where its cluster port is.
    pub address: SocketAddr,
}

/// What a node does, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MemberState {
    /// It is there, but takes nothing yet.
    Joining,
    /// It works.
    Up,
    /// It takes nothing new and gives away what it has.
    Draining,
}

impl MemberState {
    /// Returns the word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            MemberState::Joining => "joining",
            MemberState::Up => "up",
            MemberState::Draining => "draining",
        }
    }
}

/// One node of the cluster as gossip sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which life of which node, and where.
    pub peer: Peer,
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: MemberState,
    /// Where it stands; empty: nobody said.
    pub zone: String,
    /// How much it takes, beside the others; 0: nothing new.
    pub weight: u16,
    /// The newest schema that it lets others write for it, the oldest before it is heard
    /// ([`Member::is_heard`]); not sent, since gossip has it.
    #[serde(skip)]
    pub schema: SchemaVersion,
}

impl Member {
    /// Tells whether it has said anything of itself: gossip knows that a life is there before it knows
    /// what that says. A node has a name.
    #[must_use]
    pub const fn is_heard(&self) -> bool {
        !self.name.is_empty()
    }
}

/// Why a peer cannot be reached any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// Its connections were reset and new ones are refused: the process is gone.
    Refused,
    /// It says nothing: gone, starved or cut off.
    Silent,
    /// It closed the connection in order, or we did.
    Closed,
}

/// Why a frame did not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// The queue of its class is full.
    #[error("the queue to the node is full")]
    Busy,
    /// There is no connection.
    #[error("no connection to the node")]
    Absent,
    /// It is longer than `FRAME_BYTES_MAX`.
    #[error("the frame is too long")]
    TooLong,
}

impl PeerFault {
    /// Tells whose fault it is.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            PeerFault::Busy => FaultClass::Overload,
            PeerFault::Absent => FaultClass::Transient,
            PeerFault::TooLong => FaultClass::Bug,
        }
    }
}

/// Connections with the other nodes.
pub trait Peers: Send + Sync + 'static {
    /// Tells where frames go; called once, before anything else.
    fn attach(&self, sink: Arc<dyn PeerSink>);
    /// Says what another node must read to be let in: records here are of that schema.
    fn require(&self, schema: SchemaVersion);
    /// Says whom to keep connections with; others are closed.
    fn keep(&self, peers: Vec<Peer>);
    /// Opens a connection with a node of which only the address is known: a seed.
    fn greet(&self, address: SocketAddr);
    /// Queues a frame. It arrives once, or not at all; frames of one class in order.
    ///
    /// # Errors
    /// If it cannot even be queued.
    fn send(&self, to: NodeInst, class: FrameClass, frame: Bytes) -> Result<(), PeerFault>;
    /// Sends a datagram of gossip; it may be lost.
    fn gossip(&self, to: SocketAddr, datagram: Bytes);
}

/// Where the other nodes' words are delivered: only what proven members of the cluster say. Must
/// not block.
pub trait PeerSink: Send + Sync + 'static {
    /// A frame came.
    fn frame(&self, from: NodeInst, class: FrameClass, frame: Bytes);
    /// A datagram of gossip came.
    fn gossip(&self, from: SocketAddr, datagram: Bytes);
    /// A node is connected whose program reads up to that schema: frames to it go out from now on.
    fn connected(&self, peer: Peer, reads: SchemaVersion);
    /// A node is not connected any more.
    fn lost(&self, peer: Peer, why: Loss);
}
