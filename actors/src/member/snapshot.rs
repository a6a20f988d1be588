//! What people see of a member; it has no record.

use std::net::IpAddr;

use contract::{Member, NodeInst};
use serde::{Deserialize, Serialize};

/// A member, as `weft inspect member:<node>` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// The nodes as gossip sees them.
    pub members: Vec<Member>,
    /// Datagrams and entries that were dropped, and lateness of our own that was forgiven.
    pub dropped: String,
    /// Floating addresses, and who has each.
    pub addresses: Vec<(IpAddr, Option<NodeInst>)>,
}
