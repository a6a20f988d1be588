//! `registration:<user@domain>`: all bindings of one AoR (RFC 3261 §10, RFC 5626, RFC 3327).
//!
//! In: REGISTER requests that passed a lane's gate, questions of calls, ends of connections. Out:
//! one response a request, targets for calls, its record. It checks no password and sends nothing
//! to a phone but through a lane.
//!
//! The state is the list of bindings; empty and not. Every change of it is safe on disk before
//! the 200 that tells of it leaves: write before you speak.
//!
//! | event | condition | does | source |
//! |---|---|---|---|
//! | Register | identity is another | 403 | RFC 3261 §10.3 (4) |
//! | Register | no Contact | 200 with the list | §10.3 (6) |
//! | Register | `*` | Expires 0: all removed, gated, 200; else 400 | §10.3 (6) |
//! | Register | Call-ID known, CSeq the same | 200 as a repeat | `architecture.md` §7 |
//! | Register | Call-ID known, CSeq lower | 500 | §10.3 (7) |
//! | Register | expiry below the minimum | 423 with Min-Expires | §10.3 (7) |
//! | Register | more bindings than allowed | 403 | `threats.md` 7 |
//! | Register | new binding, no room on disk | 503 with Retry-After | `cluster.md` §9 |
//! | Register | only the expiry, before half life | 200 with what remains, nothing stored | `cluster.md` §8 |
//! | Register | the same, lengthened by a take-over | refreshed: gated, 200 | `cluster.md` §8 |
//! | Register | else | added, refreshed, removed: gated, 200 | §10.3 (8) |
//! | Register | over WebSocket | 600 s at most | `architecture.md` §7 |
//! | Bind | as a REGISTER with a right digest | added or refreshed: gated, `Bound` | `architecture.md` §7 |
//! | Bind, Resume | the instance was bound over another connection | that session is told `Replaced` | – |
//! | Resume | no such binding | `Refused` 410 | – |
//! | Unbind | the binding is over this connection | removed, gated, `Unbound` | – |
//! | Locate | | targets: q, then the newest first | §16.6 |
//! | FlowGone | bindings over it | kept as `unreachable`, stored | RFC 5626 §7 |
//! | a watch came back | there is no such connection | the same | – |
//! | a watch came back | it is too busy | asked again after 1 s | – |
//! | Locate | unreachable over another node's connection | that is asked again | `cluster.md` §3 |
//! | Merge, Restored, not by a start | unreachable, by whose word soever | its connection is asked again | `cluster.md` §8 |
//! | Watch | it has said nothing | reachable again, stored | – |
//! | Clear | | all removed, gated | – |
//! | Set | no account, a bad number, no room, an older release in the cluster | the fault | – |
//! | Set | else | changed, gated; what is set now | – |
//! | Locate | the user has set something | the same with it | – |
//! | Locate, InCall | the user wants no call beside another | that call is kept; the others go with Located | – |
//! | InCall, no longer | | it is forgotten | – |
//! | WhoCalls | | calls that have asked for targets and may ring, the oldest first | – |
//! | Expire | due bindings | removed, stored; the last one: the record ends | §10.3 |
//! | Forget | nothing is bound or set, and no removal is to be remembered | the record ends | `cluster.md` §8 |
//! | Restored | the node was started | bindings over its own connections are unreachable | – |
//! | Restored | another node's was taken over | 60 s remain at least, once until a refresh | `cluster.md` §8 |
//! | Restored | | all other connections are watched | – |
//!
//! In a cluster it remembers what went (`past.rs`), so that a copy of its record that was cut off
//! brings nothing back when copies are merged (`merge.rs`); the record then ends when the last
//! removal may be forgotten.
//!
//! | file | rule |
//! |---|---|
//! | `register.rs`, `bind.rs` | what a REGISTER or a JSON client does to the bindings |
//! | `answer.rs` | responses |
//! | `watching.rs` | connections of bindings, restarts |
//! | `past.rs`, `stamp.rs` | what is remembered, and in which order |
//! | `engaged.rs` | the calls of who wants none beside another |
//! | `merge.rs` | one registration out of several copies |

mod answer;
mod bind;
pub mod binding;
#[cfg(test)]
mod cluster_tests;
mod core;
mod engaged;
mod merge;
#[cfg(test)]
mod merge_tests;
pub mod past;
mod register;
pub mod settings;
#[cfg(test)]
mod settings_tests;
mod snapshot;
pub mod stamp;
#[cfg(test)]
mod tests;
mod watching;

use bytes::Bytes;
use contract::{ActorId, CallKey, FlowRef};
use serde::{Deserialize, Serialize};

pub use self::bind::{Client, contact};
pub use self::core::{Registration, Timer};
pub(crate) use self::merge::merge;
use self::settings::Set;
pub use self::snapshot::Snapshot;
pub(crate) use self::snapshot::{SnapshotV1, SnapshotV2};
use crate::Inbound;

/// What a registration may be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// A REGISTER; its identity is the AoR.
    Register(Inbound),
    /// A JSON client whose password was right registers; answered by its session's `Bound`.
    Bind {
        /// Who.
        client: Client,
        /// Lifetime that is wished, in seconds.
        expires_s: Option<u32>,
    },
    /// A JSON client whose session token was right has a new connection; answered the same way.
    Resume {
        /// Who.
        client: Client,
    },
    /// A JSON client leaves; answered by its session's `Unbound`.
    Unbind {
        /// Who.
        client: Client,
    },
    /// A call or a dialog looks for targets; answered by its own `Located`.
    Locate {
        /// Who asks.
        reply: ActorId,
    },
    /// A connection is gone.
    FlowGone {
        /// Which.
        flow: FlowRef,
    },
    /// The operator removes all bindings.
    Clear,
    /// A holder had another copy of this registration: what is newer in it is taken in.
    Merge {
        /// The copy, as it was stored.
        copy: Bytes,
    },
    /// What the user has set is changed, or asked for; answered by the asker's own word for it.
    Set(Box<Set>),
    /// A call asks which others have looked for it lately; answered by `WhoCalls`.
    WhoCalls {
        /// Who asks.
        reply: ActorId,
    },
    /// The user has begun a call, or come to one, or is not in one.
    InCall {
        /// Which.
        call: CallKey,
        /// It is in it.
        is_in: bool,
    },
}

impl Message {
    /// Returns what a trace line says, and the weight in octets.
    #[must_use]
    pub fn describe(&self) -> (String, usize) {
        match self {
            Message::Register(inbound) => (
                format!("REGISTER on {}", inbound.flow),
                inbound.request.bytes().len(),
            ),
            Message::Bind { client, .. } => (format!("bind {}", client.flow), 96),
            Message::Resume { client } => (format!("resume {}", client.flow), 96),
            Message::Unbind { client } => (format!("unbind {}", client.flow), 96),
            Message::Locate { reply } => (format!("locate for {reply}"), 32),
            Message::FlowGone { flow } => (format!("gone: {flow}"), 32),
            Message::Clear => ("clear".to_owned(), 16),
            Message::Merge { copy } => ("merge".to_owned(), copy.len()),
            Message::Set(set) => (format!("set for {}", set.reply), 128),
            Message::WhoCalls { reply } => (format!("who calls, for {reply}"), 32),
            Message::InCall { call, is_in: true } => (format!("in call {call}"), 32),
            Message::InCall { call, is_in: false } => (format!("not in call {call}"), 32),
        }
    }
}
