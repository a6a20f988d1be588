//! `parking:<place@domain>`: which call is parked in a place of a domain.
//!
//! In: calls that want the place, say that they are still there, or leave. Out: one answer a call, its
//! record. It knows no party and moves nobody: who takes a parked call is let in by that call itself
//! (`call/parking.rs`).
//!
//! | state | event | does | next |
//! |---|---|---|---|
//! | empty | Take | its record, gated; then `Yours` | held |
//! | held | Take by who has it | `Yours`; whoever waits hears `Taken` | held |
//! | held | Take by another | who has it is asked whether it is there | held |
//! | held | Leave by who has it; the question comes back: there is no such call | the record ends; who waits may take it | empty |
//! | held | Leave by another; the question finds it busy | nothing | held |
//! | held | nothing was heard of who has it for 60 s | it is asked whether it is there | held |
//! | held | Restored | the same | held |
//!
//! Who has it says so again every 20 s, so that two halves of a cluster that have both given the place away
//! come to one holder after they are joined: the other one hears `Taken`, and leaves.

mod core;
mod snapshot;
#[cfg(test)]
mod tests;

use contract::{CallKey, SideKey};
use serde::{Deserialize, Serialize};

pub use self::core::{Parking, Timer};
pub use self::snapshot::Snapshot;

/// What a place may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A call wants it, or says that it is still there.
    Take {
        /// Which.
        call: CallKey,
    },
    /// A call is not there any more.
    Leave {
        /// Which.
        call: CallKey,
    },
}

/// What a place says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// You have it.
    Yours,
    /// Another call has it, and has said so just now.
    Taken {
        /// Which.
        by: CallKey,
    },
    /// Are you there? `Take` or `Leave` answers.
    AreYouThere,
}

/// A party wants to talk to who is parked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retrieve {
    /// Where.
    pub place: contract::ActorId,
    /// Which party comes.
    pub from: SideKey,
    /// Whose account that is.
    pub by: Option<sip::Aor>,
    /// It has shown that it is that: it is not only what From says.
    pub is_proven: bool,
}

impl Message {
    /// Returns what a trace line says, and the weight in octets.
    #[must_use]
    pub fn describe(&self) -> (String, usize) {
        match self {
            Message::Take { call } => (format!("{call} takes it"), 32),
            Message::Leave { call } => (format!("{call} leaves it"), 32),
        }
    }
}

impl Word {
    /// Returns what a trace line says.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Word::Yours => "it has the place".to_owned(),
            Word::Taken { by } => format!("{by} has the place"),
            Word::AreYouThere => "is it there".to_owned(),
        }
    }
}
