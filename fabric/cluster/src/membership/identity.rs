//! Who a member is to gossip: its address, which life of which node, and how often it came back.
//!
//! In: what the node knows of itself, or octets. Out: identities that foca compares. A later start
//! of a node wins over an earlier one, a return over what was declared down.

use std::net::SocketAddr;

use contract::{Boot, NodeId, NodeInst};
use serde::{Deserialize, Serialize};

/// A member as gossip names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Which life of which node.
    pub inst: NodeInst,
    /// How often this life came back after it was declared down.
    pub bump: u32,
    /// Where its cluster port is.
    pub address: SocketAddr,
}

impl Identity {
    /// Makes the identity of a node that has just started. Only address and port count: a scope or
    /// flow label is not shipped, and would make our own identity differ from its echo.
    pub(super) fn new(inst: NodeInst, address: SocketAddr) -> Self {
        Identity {
            inst,
            bump: 0,
            address: SocketAddr::new(address.ip(), address.port()),
        }
    }

    /// Names whoever listens at a seed's address. No start of a node has the number 0
    /// (`cluster.md` §1), so this is nobody's identity.
    pub(super) fn whoever(address: SocketAddr) -> Self {
        Identity::new(
            NodeInst {
                node: NodeId(0),
                boot: Boot(0),
            },
            address,
        )
    }

    /// Tells whether this names a seed of which only the address is known.
    pub(super) fn is_whoever(&self) -> bool {
        self.inst.boot == Boot(0)
    }

    /// Tells whether a datagram could be sent there, and a node could be so called.
    pub(super) fn is_sound(&self) -> bool {
        let ip = self.address.ip();
        !self.is_whoever() && self.address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
    }

    fn order(&self) -> (Boot, u32, SocketAddr) {
        (self.inst.boot, self.bump, self.address)
    }
}

impl foca::Identity for Identity {
    /// One member a node, wherever it runs: a pod that returns elsewhere replaces itself.
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        let bump = self.bump.checked_add(1)?;
        Some(Identity { bump, ..*self })
    }

    fn addr(&self) -> NodeId {
        self.inst.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.order() > adversary.order()
    }
}
