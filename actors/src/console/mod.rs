//! `console:<node>`: every inspection and command of HTTP, CLI and terminal is a message to it.
//!
//! In: requests of the HTTP door, each with a ticket. Out: one `Http` action a ticket, with JSON
//! or `application/problem+json` (`interfaces.md` §4). It reads no table and no store: it asks its
//! node by `Lookup`, those of the cluster through their consoles, and waits for the answers in a
//! bounded table. So every node answers the same.
//!
//! | request | asks | answers |
//! |---|---|---|
//! | Nodes | Node, of every node | 200, list |
//! | Actors | Actors | 200, page of rows |
//! | Calls, Registrations | Actors, then each actor of the page | 200, page of rows with snapshots |
//! | Inspect | Actor | 200, the actor; 404 |
//! | Trace | Trace | 200, lines |
//! | User | registration of the number | 200, bindings; 404 |
//! | Settings | registration of the number: `Set` | 200, what is set now; its fault |
//! | Steer | the call: `Steer` | 202, done or begun; its fault |
//! | Stop | Actor | 202, told; 404, 409 |
//! | Move | Actor, then Move of the node that has it | 200, moved; 404, 409, 503, 504 with the reason |
//! | Drain | Drain of that node | 202, draining; 404 |
//! | Here | Node, of this node only | 200, list of one |
//! | any | a node is silent for 1 s | what the others said, and its name under `missing` |
//! | any | no answer of this node in 5 s | 504 |
//! | any | table full | 503 |

mod answer;
#[cfg(test)]
mod cluster_tests;
mod core;
mod gather;
mod moving;
#[cfg(test)]
mod moving_tests;
mod orders;
mod reply;
mod snapshot;
#[cfg(test)]
mod tests;

use contract::{ActorId, Answer, CallKey, Kind, Lookup};
use serde::{Deserialize, Serialize};

pub use self::core::{Console, Timer};
pub use self::snapshot::Snapshot;
use crate::call::Order;
use crate::registration::settings::{Fault, Settings};

/// What the console may be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// The HTTP door has a request; answered by `Action::Http` with the same ticket.
    Request {
        /// The door's number of it.
        ticket: u64,
        /// What is wanted.
        request: Request,
    },
    /// The console of another node asks what only this node knows; told `Answered`.
    Ask {
        /// Comes back with the answer.
        number: u64,
        /// The question.
        what: Lookup,
    },
    /// What the other node knows.
    Answered {
        /// Of the question.
        number: u64,
        /// The answer.
        answer: Answer,
    },
    /// The console of another node was told to end an actor that is here.
    End {
        /// Which.
        id: ActorId,
    },
    /// A registration answers `Set`.
    IsSet {
        /// Our number of the request.
        echo: String,
        /// What is set now.
        result: Result<Settings, Fault>,
    },
    /// A call answers `Steer`.
    Steered {
        /// Our number of the request.
        echo: String,
        /// Whether it is done, or begun.
        result: Result<(), Fault>,
    },
}

/// Which rows of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Rows to pass over.
    pub offset: usize,
    /// Most rows; at most `PAGE_ROWS_MAX` are given.
    pub limit: usize,
}

/// What is wanted of the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Nodes of the cluster.
    Nodes,
    /// Actors, by kind, node (name or number) and part of the ID.
    Actors {
        /// Of this kind only.
        kind: Option<Kind>,
        /// On this node only.
        node: Option<String>,
        /// Whose ID contains this.
        contains: Option<String>,
        /// Which rows.
        page: Page,
    },
    /// Everything about one actor.
    Inspect {
        /// Which.
        id: ActorId,
    },
    /// Trace ring of one actor, or of a call and its sides.
    Trace {
        /// Which.
        id: ActorId,
    },
    /// Ends an actor: a call hangs up, a registration loses its bindings.
    Stop {
        /// Which.
        id: ActorId,
        /// Epoch the operator saw; another one by now: 409.
        epoch: Option<u64>,
    },
    /// Moves an actor to another node.
    Move {
        /// Which.
        id: ActorId,
        /// Where to: name or number of a node.
        to: String,
        /// Epoch the operator saw; another one by now: 409.
        epoch: Option<u64>,
    },
    /// Calls, with their snapshots.
    Calls {
        /// Whose ID contains this.
        contains: Option<String>,
        /// Which rows.
        page: Page,
    },
    /// Registrations, with their snapshots.
    Registrations {
        /// Whose AoR contains this.
        contains: Option<String>,
        /// Which rows.
        page: Page,
    },
    /// One number: `1000`, or `1000@example.org`.
    User {
        /// The number.
        dn: String,
    },
    /// Hands everything of a node over to the others and ends it.
    Drain {
        /// Name or number of the node; this one if nobody says.
        node: Option<String>,
        /// Seconds after which it ends though something is left.
        max_s: u32,
    },
    /// This node alone: what readiness asks for.
    Here,
    /// What a user has set for the calls to it.
    Settings {
        /// The number.
        dn: String,
        /// All of them as they shall be; `None`: they are only asked for.
        set: Option<Box<Settings>>,
    },
    /// Something is ordered of a call.
    Steer {
        /// Which.
        call: CallKey,
        /// Name of the command: said once more, it is not carried out again.
        command: Option<String>,
        /// What.
        order: Order,
    },
}

impl Message {
    /// Returns what a trace line says, and the weight in octets.
    #[must_use]
    pub fn describe(&self) -> (String, usize) {
        match self {
            Message::Request { ticket, request } => (format!("ticket {ticket}: {request:?}"), 128),
            Message::Ask { number, what } => (format!("question {number}: {what:?}"), 128),
            Message::Answered { number, .. } => (format!("answer {number}"), 1_024),
            Message::End { id } => (format!("end {id}"), 64),
            Message::IsSet { echo, .. } => (format!("settings of {echo}"), 128),
            Message::Steered { echo, .. } => (format!("order {echo}"), 64),
        }
    }
}
