//! `member:<node>`: this node as a member of its cluster (`cluster.md` §2).
//!
//! In: datagrams of gossip, news of connections with other nodes, words of other members. Out:
//! datagrams, words, and the view, which the fabric routes by. The rules are in
//! `cluster::membership`; this actor gives them clocks, chance and sockets. It never moves.
//!
//! | event | does | source |
//! |---|---|---|
//! | first deadline | looks the seeds' hosts up | §2 |
//! | Answer, Host | asks those addresses to be let in | §2 |
//! | Datagram | to gossip | §2 |
//! | Connected, Lost | evidence; the full table to a new peer | §2 |
//! | Word of another member | its evidence, its table | §2 |
//! | deadline | probes, suspicions, rounds of gossip; seeds again while alone | §2 |
//! | Tenures, Taken, GivenBack | who has which floating address (`cluster::floating`) | §7 |
//! | Undelivered, Busy, to the owner of a record | says it again (`untold.rs`) | §5, §8 |

mod addresses;
mod core;
mod snapshot;
#[cfg(test)]
mod tests;
mod untold;

use std::net::IpAddr;

use cluster::Tenure;
use cluster::membership::MembershipFrame;
use contract::{Loss, NodeInst, Peer};
use serde::{Deserialize, Serialize};

pub use self::core::{Member, Timer};
pub use self::snapshot::Snapshot;

/// What a member may be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// A connection with a node is there.
    Connected(Peer),
    /// A connection with a node is gone.
    Lost(Peer, Loss),
    /// Another member says something.
    Word {
        /// Which life of it.
        of: NodeInst,
        /// What.
        body: MembershipFrame,
    },
    /// This node takes nothing new from now on.
    Drain,
    /// This node goes: the others are told.
    Leave,
    /// Another member says who has which floating address.
    Tenures {
        /// Which life of it.
        of: NodeInst,
        /// Who has what.
        tenures: Vec<Tenure>,
    },
    /// This node was to take a floating address.
    Taken {
        /// The address.
        address: IpAddr,
        /// It is bound here.
        is_here: bool,
    },
    /// This node was to give a floating address back.
    GivenBack {
        /// The address.
        address: IpAddr,
        /// It is not here any more; otherwise calls need it.
        is_gone: bool,
    },
}

impl Message {
    /// Returns what a trace line says, and the weight in octets.
    #[must_use]
    pub fn describe(&self) -> (String, usize) {
        match self {
            Message::Connected(peer) => (format!("connected with {}", peer.inst), 32),
            Message::Lost(peer, why) => (format!("lost {}: {why:?}", peer.inst), 32),
            Message::Word { of, body } => (format!("{of} says: {body:?}"), 1_024),
            Message::Drain => ("drain".to_owned(), 8),
            Message::Leave => ("leave".to_owned(), 8),
            Message::Tenures { of, tenures } => {
                (format!("{of} says: {tenures:?}"), 48 * tenures.len())
            }
            Message::Taken { address, is_here } => (format!("{address} is here: {is_here}"), 32),
            Message::GivenBack { address, is_gone } => {
                (format!("{address} is given back: {is_gone}"), 32)
            }
        }
    }
}
