//! Transactions: one request and its responses, kept reliable over any transport.
//!
//! In: requests and responses of the transport and of the transaction user (TU), times, transport
//! errors. Out: a list of `Output`. A machine owns no socket and no clock; whoever owns it sends
//! what it says, calls `on_timer` at `next_deadline` and drops it after `Output::Terminated`. `Key`
//! finds the machine of a message. The ACK of a 2xx and its repetition belong to the dialog, not
//! here.
//!
//! Sources: RFC 3261 §17, with the states of RFC 6026 §7 for INVITE; the table of each machine
//! stands in its module. Waiting for retransmissions takes no time on streams: a state whose timer
//! D, I, J or K would be zero is left in the same step.
//!
//! ```text
//! client INVITE   Calling → Proceeding → Accepted | Completed → Terminated
//! client other    Trying  → Proceeding → Completed → Terminated
//! server INVITE   Proceeding → Accepted | Completed → Confirmed → Terminated
//! server other    Trying  → Proceeding → Completed → Terminated
//! ```

mod client_invite;
mod client_plain;
mod key;
mod server_invite;
mod server_plain;
mod timers;

use bytes::Bytes;

use crate::message::Message;

pub use client_invite::InviteClient;
pub use client_plain::PlainClient;
pub use key::Key;
pub use server_invite::InviteServer;
pub use server_plain::PlainServer;
pub use timers::Timers;

/// What a transaction wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these octets to the transaction's peer.
    Send(Bytes),
    /// Give the message to the transaction user.
    Deliver(Message),
    /// Tell the transaction user that no answer (client) or no ACK (server) came in time; a
    /// client's user treats it as 408 (RFC 3261 §8.1.3.1).
    TimedOut,
    /// Tell the transaction user that the transport failed; a client's user treats it as 503.
    Failed,
    /// Forget the transaction: always the last output of its life.
    Terminated,
}

/// Whether the transport repeats what is lost (RFC 3261 §17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reliability {
    /// UDP: retransmission is ours.
    Datagram,
    /// TCP, TLS, WebSocket: retransmission is the transport's.
    Stream,
}

/// The classes of responses that transactions tell apart.
enum Class {
    Provisional,
    Success,
    Failure,
}

/// Returns the class of a response; a request has none.
fn class_of(response: &Message) -> Option<Class> {
    Some(match response.status()? {
        ..200 => Class::Provisional,
        200..300 => Class::Success,
        300.. => Class::Failure,
    })
}

#[cfg(test)]
mod tests;
