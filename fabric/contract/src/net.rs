//! Ways to reach a peer, as cores name them.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{ActorId, NodeId};

/// Number of a listener in the node's configuration, in the order of its profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ListenerId(pub u16);

/// Where gossip between nodes comes in and goes out: no configured listener has this number.
pub const GOSSIP: ListenerId = ListenerId(u16::MAX);

/// Protocol spoken on a connection: which kind of actor has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Door {
    /// SIP: its actor is `flow:<node>/<n>`.
    Sip,
    /// JSON signalling: its actor is `door_session:<node>/<n>`.
    Json,
}

/// How a listener for connections carries octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Octets of TCP.
    Tcp,
    /// The same under TLS.
    Tls,
    /// Messages of a WebSocket (RFC 6455, RFC 7118): each is given and sent whole.
    Ws,
    /// The same under TLS.
    Wss,
}

/// Why a connection is closed, as a WebSocket close frame says it (RFC 6455 §7.4.1); other
/// connections are just closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// 1000: its work is done.
    Normal,
    /// 1001: the node goes away.
    GoingAway,
    /// 1002: the peer broke the protocol.
    Protocol,
    /// 1008: the peer broke a rule of ours.
    Policy,
    /// 1009: a message is too long.
    TooLong,
    /// 1011: a fault of ours.
    Internal,
    /// 1012: the node restarts; come back.
    Restart,
    /// 1013: too much to do; come back later.
    TryLater,
}

impl CloseCode {
    /// Returns the number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            CloseCode::Normal => 1_000,
            CloseCode::GoingAway => 1_001,
            CloseCode::Protocol => 1_002,
            CloseCode::Policy => 1_008,
            CloseCode::TooLong => 1_009,
            CloseCode::Internal => 1_011,
            CloseCode::Restart => 1_012,
            CloseCode::TryLater => 1_013,
        }
    }
}

/// One way to reach a peer: a connection, or a UDP listener with a remote address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FlowRef {
    /// Datagrams from a listener of ours to a remote address.
    Datagram {
        /// Our socket.
        listener: ListenerId,
        /// The peer.
        remote: SocketAddr,
    },
    /// A connection; gone for good when its node restarts.
    Stream {
        /// Node that has the socket.
        node: NodeId,
        /// Its number, never used twice by one boot.
        number: u64,
        /// Listener it came in on, or whose profile it was opened for.
        listener: ListenerId,
        /// The peer: as a trusted proxy names it, if one is in between.
        remote: SocketAddr,
        /// What is spoken on it.
        door: Door,
    },
}

impl FlowRef {
    /// Returns the peer's address.
    #[must_use]
    pub const fn remote(&self) -> SocketAddr {
        match self {
            FlowRef::Datagram { remote, .. } | FlowRef::Stream { remote, .. } => *remote,
        }
    }

    /// Returns the listener.
    #[must_use]
    pub const fn listener(&self) -> ListenerId {
        match self {
            FlowRef::Datagram { listener, .. } | FlowRef::Stream { listener, .. } => *listener,
        }
    }

    /// Tells whether bytes arrive in order and without loss, so that nothing is retransmitted.
    #[must_use]
    pub const fn is_reliable(&self) -> bool {
        match self {
            FlowRef::Datagram { .. } => false,
            FlowRef::Stream { .. } => true,
        }
    }

    /// Tells whether it is a connection of that node: gone when the node restarts.
    #[must_use]
    pub fn ends_at(&self, node: NodeId) -> bool {
        matches!(self, FlowRef::Stream { node: at, .. } if *at == node)
    }

    /// Returns the protocol that is spoken on it.
    #[must_use]
    pub const fn door(&self) -> Door {
        match self {
            FlowRef::Datagram { .. } => Door::Sip,
            FlowRef::Stream { door, .. } => *door,
        }
    }

    /// Returns the flow's actor; datagrams have none.
    #[must_use]
    pub const fn actor(&self) -> Option<ActorId> {
        match self {
            FlowRef::Datagram { .. } => None,
            FlowRef::Stream {
                node, number, door, ..
            } => Some(match door {
                Door::Sip => ActorId::Flow(*node, *number),
                Door::Json => ActorId::DoorSession(*node, *number),
            }),
        }
    }

    /// Tells whether a request on `other` comes from the same source: the same connection, or the
    /// same address and port on the same listener (`threats.md`, policy).
    #[must_use]
    pub fn is_same_source(&self, other: &FlowRef) -> bool {
        self == other
    }
}

impl fmt::Display for FlowRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlowRef::Datagram { listener, remote } => write!(f, "udp/{}/{remote}", listener.0),
            FlowRef::Stream {
                node,
                number,
                remote,
                ..
            } => {
                write!(f, "flow:{node}/{number}/{remote}")
            }
        }
    }
}
