//! `door_session:<node>/<n>`: one WebSocket that speaks JSON signalling. It never moves and is not
//! stored.
//!
//! In: text frames and the end of a connection; what registrations and dialogs want said. Out:
//! text frames, orders for dialogs, calls that begin. It knows who is registered, and no call:
//! everything about a call is in its dialog, so that a kill loses nothing of it.
//!
//! | state | event | does | next | source |
//! |---|---|---|---|---|
//! | New | Opened | `register` is awaited for 10 s | Open | – |
//! | Open | 10 s over | close 1008 | Closing | `threats.md` 8 |
//! | Open | register, right password | registration is asked to bind | Open | – |
//! | Open | register, wrong password or number | `registerFailed` 401; the third closes 1008 | Open, Closing | `threats.md` 6 |
//! | Open | resumeSession, right token | registration is asked | Open | – |
//! | Open | Bound | `registered` | Registered | – |
//! | Open | Bound after resumeSession | the dialogs of its calls are asked; then `registered` | Registered | `architecture.md` §7 |
//! | Open | the binding ends while they are asked | `registerFailed` 410, then what waited | Open | `cluster.md` I4 |
//! | Open | Refused | `registerFailed` | Open | – |
//! | Open | an order for a call | `error` 401 | Open | – |
//! | Registered | call | `call::Message::Dial` | Registered | – |
//! | Registered | an order for a call | `dialog::Message::Client` | Registered | – |
//! | Registered | settings, IsSet | `Set` to its registration, `settings` or `error` | Registered | – |
//! | Registered | unregister, Unbound | `unregistered` | Open | – |
//! | Registered | the binding has ended | `unregistered` | Open | – |
//! | Registered | Replaced | `replaced`, close 1000 | Closing | – |
//! | Open, Registered | Deliver | written with id and seq | same | – |
//! | Open, Registered | no message, unknown type | `error` 400 | same | `threats.md` 1 |
//! | Open, Registered | more than 50 messages a second | `error` 429; twice as many: close 1008 | same, Closing | `threats.md` 7 |
//! | any | Deliver for another connection | its dialog is told `FlowGone` | same | – |
//! | any | Closed | watchers are told, Stop | Closing | – |
//!
//! | file | rule |
//! |---|---|
//! | `password.rs` | what proves a client |
//! | `binding.rs` | register, resumeSession, unregister |
//! | `orders.rs` | what a client wants of its calls |
//! | `settings.rs` | what it sets for the calls to it |
//! | `rate.rs` | messages a second |

mod binding;
mod core;
mod orders;
mod password;
mod rate;
mod settings;
mod snapshot;
#[cfg(test)]
mod tests;

use contract::{ActorId, FlowRef};
use doors::json::ServerMessage;
use serde::{Deserialize, Serialize};

pub(crate) use self::core::first_number;
pub use self::core::{DoorSession, Timer};
pub use self::snapshot::Snapshot;
use crate::registration::settings::{Fault, Settings};

/// What a session may be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// The registration has the binding, safe on disk.
    Bound {
        /// What remains of it, in seconds.
        expires_s: u32,
    },
    /// The registration has it no more.
    Unbound,
    /// The registration refuses.
    Refused {
        /// SIP status.
        status: u16,
        /// For people.
        why: String,
    },
    /// The same instance has registered over another connection.
    Replaced {
        /// The connection that is meant: numbers start anew when the node does.
        flow: FlowRef,
    },
    /// Tell me of the end of the connection; told at once if it is another one by now.
    Watch {
        /// Who asks.
        watcher: ActorId,
        /// The connection it means.
        flow: FlowRef,
    },
    /// A dialog has something for the client.
    Deliver(Box<Delivery>),
    /// A dialog says how far its call is.
    CallState {
        /// Name that the client gave in its question.
        name: String,
        /// In a word.
        state: String,
    },
    /// The registration answers `Set`.
    IsSet {
        /// Id of the client's message; empty: it had none.
        echo: String,
        /// What is set now.
        result: Result<Settings, Fault>,
    },
}

/// Something for a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delivery {
    /// The connection that is meant.
    pub flow: FlowRef,
    /// The call, as the client names it.
    pub name: String,
    /// What to say.
    #[serde(with = "crate::wire::json_text")]
    pub message: ServerMessage,
    /// What it is about.
    pub about: About,
    /// Nothing follows about this call.
    pub is_last: bool,
}

/// What a message to a client is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum About {
    /// A request of the client, with its id.
    Reply(Option<String>),
    /// Something that happened; it need not be acknowledged.
    News,
    /// Something that must be acknowledged, by its number.
    Numbered(u64),
}

impl Message {
    /// Returns what a trace line says, and the weight in octets.
    #[must_use]
    pub fn describe(&self) -> (String, usize) {
        match self {
            Message::Bound { expires_s } => (format!("bound for {expires_s} s"), 16),
            Message::Unbound => ("unbound".to_owned(), 16),
            Message::Refused { status, why } => (format!("refused {status} {why}"), 32),
            Message::Replaced { flow } => (format!("replaced: {flow}"), 32),
            Message::Watch { watcher, .. } => (format!("watched by {watcher}"), 64),
            Message::Deliver(delivery) => {
                (format!("say {}", word(&delivery.message)), weight(delivery))
            }
            Message::CallState { name, state } => (format!("{name} is {state}"), 96),
            Message::IsSet { .. } => ("settings".to_owned(), 128),
        }
    }
}

fn weight(delivery: &Delivery) -> usize {
    let sdp = match &delivery.message {
        ServerMessage::Incoming { sdp, .. }
        | ServerMessage::Reoffer { sdp, .. }
        | ServerMessage::Reanswer { sdp, .. } => sdp.len(),
        ServerMessage::Ringing { sdp, .. }
        | ServerMessage::CallAccepted { sdp, .. }
        | ServerMessage::Held { sdp, .. }
        | ServerMessage::Resumed { sdp, .. } => sdp.as_ref().map_or(0, String::len),
        ServerMessage::Registered { .. }
        | ServerMessage::RegisterFailed { .. }
        | ServerMessage::Unregistered { .. }
        | ServerMessage::Trying { .. }
        | ServerMessage::CallRejected { .. }
        | ServerMessage::Cancelled { .. }
        | ServerMessage::Hangup { .. }
        | ServerMessage::Dtmf { .. }
        | ServerMessage::TransferProgress { .. }
        | ServerMessage::Settings(_)
        | ServerMessage::Info(_)
        | ServerMessage::Pong { .. }
        | ServerMessage::Replaced { .. }
        | ServerMessage::Expiring { .. }
        | ServerMessage::Error { .. } => 0,
    };
    sdp + 128
}

/// Returns the word for a message in traces.
const fn word(message: &ServerMessage) -> &'static str {
    match message {
        ServerMessage::Registered { .. } => "registered",
        ServerMessage::RegisterFailed { .. } => "registerFailed",
        ServerMessage::Unregistered { .. } => "unregistered",
        ServerMessage::Trying { .. } => "trying",
        ServerMessage::Ringing { .. } => "ringing",
        ServerMessage::CallAccepted { .. } => "callAccepted",
        ServerMessage::CallRejected { .. } => "callRejected",
        ServerMessage::Incoming { .. } => "incoming",
        ServerMessage::Cancelled { .. } => "cancelled",
        ServerMessage::Hangup { .. } => "hangup",
        ServerMessage::Held { .. } => "held",
        ServerMessage::Resumed { .. } => "resumed",
        ServerMessage::Reoffer { .. } => "reoffer",
        ServerMessage::Reanswer { .. } => "reanswer",
        ServerMessage::Dtmf { .. } => "dtmf",
        ServerMessage::TransferProgress { .. } => "transferProgress",
        ServerMessage::Settings(_) => "settings",
        ServerMessage::Info(_) => "info",
        ServerMessage::Pong { .. } => "pong",
        ServerMessage::Replaced { .. } => "replaced",
        ServerMessage::Expiring { .. } => "expiring",
        ServerMessage::Error { .. } => "error",
    }
}
