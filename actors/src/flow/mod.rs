//! `flow:<node>/<n>`: one connection that carries SIP. It never moves and is not stored.
//!
//! In: octets and the end of a connection. Out: whole messages for lanes, pongs, and the news
//! that the connection is gone. It reads no message: framing only (RFC 3261 §18.3, RFC 5626 §3.5.1).
//! What is sent on a flow goes straight to the socket and does not pass here.
//!
//! | state | event | does | next | source |
//! |---|---|---|---|---|
//! | New | Opened | first message is awaited | Open | – |
//! | Open | Bytes, message whole | `lane::Message::Received` | Open | §18.3 |
//! | Open | Bytes, CRLFCRLF | CRLF | Open | RFC 5626 §4.4.1 |
//! | Open | Bytes, a WebSocket message | the same; a wrong one is answered 400 and no more | Open | RFC 7118 §5 |
//! | Open | Bytes, message part | deadline of 10 s from its first octet | Open | `threats.md` 8 |
//! | Open | Bytes, no framing | 400 if it can be answered, Close | Closing | `threats.md` 9 |
//! | Open | deadline | Close | Closing | `threats.md` 8 |
//! | Open | Watch | remembers who is told of the end | Open | – |
//! | any | Closed | `FlowGone` to every lane and watcher, Stop | Closing | – |

mod core;
mod snapshot;
#[cfg(test)]
mod tests;
mod whole;

use contract::{ActorId, FlowRef};
use serde::{Deserialize, Serialize};

pub use self::core::{Flow, Timer};
pub use self::snapshot::Snapshot;

/// What a flow may be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// A registration has a binding over this flow and wants to be told of its end
    /// (`registration::Message::FlowGone`); told at once if the flow is another one by now.
    Watch {
        /// The registration.
        watcher: ActorId,
        /// The flow it means: numbers start anew when the node does.
        flow: FlowRef,
    },
}

impl Message {
    /// Returns what a trace line says, and the weight in octets.
    #[must_use]
    pub fn describe(&self) -> (String, usize) {
        match self {
            Message::Watch { watcher, .. } => (format!("watched by {watcher}"), 64),
        }
    }
}
