//! Ways to reach a peer, as cores name them.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{ActorId, NodeId};

/// Number of a listener in the node's configuration, in the order of its profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ListenerId(pub u16);

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
        /// The peer.
        remote: SocketAddr,
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

    /// Returns the flow's actor; datagrams have none.
    #[must_use]
    pub const fn actor(&self) -> Option<ActorId> {
        match self {
            FlowRef::Datagram { .. } => None,
            FlowRef::Stream { node, number, .. } => Some(ActorId::Flow(*node, *number)),
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
