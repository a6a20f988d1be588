//! What the membership machine asks for and tells.
//!
//! In: nothing. Out: the closed list of its actions, and the frames it exchanges with others.

use std::net::SocketAddr;

use bytes::Bytes;
use contract::NodeInst;
use serde::{Deserialize, Serialize};

use super::evidence::Proof;
use super::meta::MetaEntry;
use super::view::View;

/// One effect of the membership machine, to be performed in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A datagram of gossip is sent; it may be lost. At most `GOSSIP_BYTES_MAX` octets.
    Gossip {
        /// The cluster port of a node.
        to: SocketAddr,
        /// What is sent, not yet sealed.
        bytes: Bytes,
    },
    /// A connection with a seed is opened; the announcement over gossip is an action of its own.
    Greet(SocketAddr),
    /// A frame is queued (`FrameClass::Membership`); losing it does no harm.
    Tell {
        /// To whom.
        to: NodeInst,
        /// What it says.
        body: MembershipFrame,
    },
    /// Who is there has changed, or what they say of themselves.
    View(View),
    /// A member of the last view is not there any more; told after the view without it. With
    /// `Silent` it may be told once more, when its death is proven later.
    Down(NodeInst, Proof),
    /// We were declared down while alive, and came back: every ownership is doubtful.
    Rejoin,
    /// A later start of this very node runs elsewhere: this one has fallen silent for good and its
    /// process must end.
    Superseded(NodeInst),
}

/// What members tell each other in frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipFrame {
    /// The sender's connections with `peer` were reset and new ones refused, or (`refused` false)
    /// it is connected again.
    Witness {
        /// Of whom this is said.
        peer: NodeInst,
        /// Whether it refuses connections.
        refused: bool,
    },
    /// Metadata of nodes.
    Table(Table),
    /// The sender leaves, by its own will.
    Leave,
}

/// Metadata of nodes, at most `NODES_MAX` entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The newest entry of each node that the sender knows.
    pub entries: Vec<MetaEntry>,
    /// Whether the sender wants what is newer here.
    pub is_asking: bool,
}
