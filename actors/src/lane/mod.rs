//! `lane:<node>/<n>`: one transaction shard. It never moves and is not stored.
//!
//! In: datagrams of our UDP sockets, messages framed by flow actors, responses and requests of
//! the actors behind it. Out: octets on flows, and requests that passed the policy gate for
//! registrations, calls and dialogs. It knows transactions (RFC 3261 §17, RFC 6026), challenges
//! and refusals; it knows no call, and decides nothing about one.
//!
//! | comes | found | does | source |
//! |---|---|---|---|
//! | request | its server transaction | the machine repeats its last response | RFC 3261 §17.2 |
//! | request | nothing | gate below, then a new server transaction | `threats.md`, policy |
//! | ACK | INVITE transaction of the same source | the machine is confirmed | §17.2.1 |
//! | ACK | none, tag of ours | `dialog::Message::Request`; by way of the node that made the tag | §13.3.1.4 |
//! | CANCEL | INVITE transaction of another source | nothing at all | `threats.md` 24 |
//! | CANCEL | else | `call::Message::Cancel` | §9.2 |
//! | response | its client transaction | `dialog::Message::Response` to the user | §17.1 |
//! | response | none, branch of this node | `dialog::Message::Response` to the branch's side | – |
//! | response | none, branch of another node | to that node's lane | `cluster.md` §1 |
//! | `Respond` | its server transaction | the machine sends and keeps it | §17.2 |
//! | `Respond` | nothing (after a restart) | sent by its top Via and kept | §18.2.2 |
//! | `Request` | over a connection of another node | to that node's lane, until that says `Taken` | `cluster.md` §3 |
//! | `Request` | else | new client transaction; whether its connection is there is asked | §17.1 |
//! | `FlowGone`, `NodeGone` | client transactions on it | `dialog::Message::RequestFailed` | §8.1.3.1 |
//!
//! The gate, in this order: form (400, 505), loop and merge (482), admission (503), hops (483),
//! proof (401, 407), identity (403), method (405, 481, 489), extension (420), content (415).
//!
//! Deviation: RFC 7616 §3.4.6, the digest's `uri` need not be the Request-URI. Proxies change the
//! Request-URI and sipp writes the address it sends to (measured); nonce, count and source still
//! bind the credentials: `a_digest_for_the_address_of_the_server_is_taken`.
//!
//! | file | rule |
//! |---|---|
//! | `table.rs` | transactions by key, age and deadline; what is shed at the bound |
//! | `inbound.rs` | a request: the gate, and who is told |
//! | `adopted.rs` | a server transaction whose request was forgotten |
//! | `checks.rs` | what a request says of itself, and RFC 3261 §8.2 |
//! | `outbound.rs` | responses and requests of users; responses of peers |
//! | `elsewhere.rs` | what is for a lane of another node |
//! | `auth.rs` | nonces, credentials, failures of a source |
//! | `refusal.rs` | the responses that a lane makes itself |

mod adopted;
mod auth;
mod checks;
mod core;
mod elsewhere;
mod handed;
mod inbound;
mod outbound;
mod refusal;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use contract::{ActorId, FlowRef, NodeId, TokenUse};
use serde::{Deserialize, Serialize};
use sip::LaneKey;

pub use self::core::{Lane, Timer};
pub use self::snapshot::Snapshot;
use crate::{Site, TransactionRef};

/// What a lane may be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// A flow framed a message for this lane (`lane_of`).
    Received {
        /// The connection.
        flow: FlowRef,
        /// One whole message.
        message: Bytes,
    },
    /// A user answers a request. A transaction that is not known (the lane was restarted) is
    /// adopted: the response goes to `flow` as its top Via says and is kept for retransmissions.
    Respond {
        /// As the request came: `Inbound::transaction`.
        transaction: TransactionRef,
        /// As the request came: `Inbound::flow`.
        flow: FlowRef,
        /// The response.
        response: Bytes,
    },
    /// A user sends a request other than ACK in a new client transaction. Its top Via carries a
    /// branch that is a `TokenUse::Branch` token naming this lane and the user's side.
    ///
    /// Failures come back as `dialog::Message::RequestFailed`, but never for a CANCEL: it has the
    /// branch of its INVITE, whose own end the user waits for.
    Request {
        /// Where to.
        flow: FlowRef,
        /// The request.
        request: Bytes,
        /// Who is told the responses.
        user: ActorId,
    },
    /// A user acknowledges a 2xx: sent as it is, outside any transaction (RFC 3261 §13.2.2.4).
    SendAck {
        /// Where to.
        flow: FlowRef,
        /// The ACK.
        request: Bytes,
    },
    /// A user wants proof of who sent a request: answered 407 with a fresh nonce.
    Challenge {
        /// As the request came.
        transaction: TransactionRef,
        /// As the request came.
        flow: FlowRef,
        /// The request.
        #[serde(with = "crate::wire::sip_message")]
        request: sip::Message,
    },
    /// Another lane asks the issuer of a nonce whether a count is fresh. The digest was right.
    CheckNonce {
        /// The nonce, as read.
        #[serde(with = "crate::wire::NonceForm")]
        nonce: sip::digest::NonceInfo,
        /// The nonce count of the credentials.
        count: u32,
        /// Request that waits for it at the asking lane.
        transaction: TransactionRef,
    },
    /// The issuer's answer.
    NonceChecked {
        /// Request that waited.
        transaction: TransactionRef,
        /// What the issuer says.
        verdict: NonceVerdict,
    },
    /// A connection of this node is gone.
    FlowGone {
        /// Which.
        flow: FlowRef,
    },
    /// A lane of another node got a response or an ACK whose transaction is here.
    Strayed {
        /// How it came there.
        flow: FlowRef,
        /// The message; a request with its top Via stamped.
        message: Bytes,
    },
    /// Another node is dead: nothing is heard of what it was given to send.
    NodeGone {
        /// Which.
        node: NodeId,
    },
    /// The lane of the node that has a connection has what it was given to send.
    Taken {
        /// Client transaction of the request.
        key: sip::transaction::Key,
    },
}

/// What the issuer of a nonce says of a nonce count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NonceVerdict {
    /// Not used before.
    Fresh,
    /// Used before: a new challenge.
    Replayed,
    /// Whether it was used is no longer known: a new challenge with `stale=true` (RFC 7616 §3.3).
    Forgotten,
}

impl Message {
    /// Returns what a trace line says, and the weight in octets.
    #[must_use]
    pub fn describe(&self) -> (String, usize) {
        match self {
            Message::Received { flow, message } => (
                format!("received on {flow}: {}", first_line(message)),
                message.len(),
            ),
            Message::Respond { response, .. } => {
                (format!("respond {}", first_line(response)), response.len())
            }
            Message::Request {
                flow,
                request,
                user,
            } => {
                let line = first_line(request);
                (
                    format!("request of {user} to {flow}: {line}"),
                    request.len(),
                )
            }
            Message::SendAck { flow, request } => (format!("ACK to {flow}"), request.len()),
            Message::Challenge { flow, request, .. } => (
                format!("challenge {flow}: {}", request.method()),
                request.bytes().len(),
            ),
            Message::CheckNonce { count, .. } => (format!("check nonce count {count}"), 64),
            Message::NonceChecked { verdict, .. } => (format!("nonce is {verdict:?}"), 64),
            Message::FlowGone { flow } => (format!("gone: {flow}"), 32),
            Message::Strayed { flow, message } => (
                format!("passed on from {flow}: {}", first_line(message)),
                message.len(),
            ),
            Message::NodeGone { node } => (format!("node {node} is dead"), 32),
            Message::Taken { key } => (format!("has the request of {key}"), 64),
        }
    }
}

/// Returns the first line of a message, cut to what a trace line shows.
#[must_use]
pub(crate) fn first_line(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|octet| matches!(octet, b'\r' | b'\n'))
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end.min(80)])
        .escape_debug()
        .to_string()
}

/// Returns the number of the lane that a message from the wire belongs to.
///
/// A request goes by the branch and sent-by of its top Via, so that its retransmissions, its
/// CANCEL and the ACK of a refusal meet the transaction; a response goes to the lane that our own
/// branch names. What cannot be read goes to lane 0, which answers or drops it.
#[must_use]
pub fn lane_of(site: &Site, bytes: &[u8]) -> u16 {
    match sip::lane_key(bytes) {
        Some(LaneKey::Request { branch, sent_by }) => site
            .ids
            .shard(&[branch.as_bytes(), sent_by.as_bytes()], site.lanes),
        Some(LaneKey::Legacy { call_id }) => site.ids.shard(&[call_id.as_bytes()], site.lanes),
        Some(LaneKey::Response { branch }) => {
            let token = site.tokens.read(TokenUse::Branch, branch);
            token
                .map(|token| token.lane)
                .filter(|lane| *lane < site.lanes)
                .unwrap_or_default()
        }
        None => 0,
    }
}
