//! What happens, for the event log (`architecture.md` §7): what readers are told of calls,
//! registrations and nodes.
//!
//! In: what cores emit. Out: typed events, and their JSON for people and programs. It numbers
//! nothing and stores nothing: `cluster::events` does. To add a kind, add it here and to the stored
//! form there.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::limits::EVENT_TEXT_BYTES_MAX;
use crate::{ActorId, CallKey, NodeInst, UtcMillis};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// When, on the clock of the node where it happened.
    pub at: UtcMillis,
    /// What.
    pub what: What,
}

/// What happened, to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// To a call.
    Call {
        /// Which.
        call: CallKey,
        /// What.
        news: CallNews,
    },
    /// To a binding of a registration.
    Registration {
        /// Whose.
        aor: String,
        /// Which binding.
        contact: String,
        /// What.
        news: BindingNews,
    },
    /// To a node, as the node sees it whose event this is.
    Node {
        /// Which life of which node.
        life: NodeInst,
        /// Its name; empty: not known.
        name: String,
        /// What.
        news: NodeNews,
    },
}

/// What happened to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallNews {
    /// It was let in.
    Started {
        /// Who calls.
        from: String,
        /// What was dialled.
        to: String,
    },
    /// A callee rings.
    Ringing {
        /// Status of its response, 101 to 189.
        status: u16,
    },
    /// The caller is given its 200.
    Answered,
    /// A party holds the other.
    Held,
    /// Both hear each other again.
    Resumed,
    /// It was handed over to the node whose event this is.
    Moved {
        /// State it was handed over in: a reader who has missed something knows it from here.
        state: String,
    },
    /// The node whose event this is goes on with it, where another one, or a former life, ended.
    TakenOver {
        /// State it was recorded in: what was not recorded has not happened to anybody.
        state: String,
    },
    /// A party is being put through to somebody else.
    Transferring {
        /// Who wants it: `caller`, `callee`.
        by: String,
        /// What was dialled for it.
        to: String,
    },
    /// It talks to somebody there.
    Transferred {
        /// What was dialled for it.
        to: String,
    },
    /// It was not put through: the parties talk on.
    TransferFailed {
        /// SIP status.
        status: u16,
    },
    /// Whom it was for has sent it on.
    Diverted {
        /// Whose call it was.
        by: String,
        /// Why: `always`, `busy`, `no_answer`, `unreachable`.
        on: String,
        /// What was dialled instead.
        to: String,
    },
    /// A party of another call has come in the place of one of its own (RFC 3891).
    Replaced {
        /// Whose place it was: `caller`, `callee`.
        party: String,
        /// Who has come.
        by: String,
    },
    /// A party is parked, and waits there for whoever takes its call.
    Parked {
        /// Where: `5901@weft.test`.
        place: String,
    },
    /// It is over: the last event of a call.
    Ended {
        /// Q.850 cause in FreeSWITCH's words.
        cause: String,
        /// SIP status it ended with.
        status: u16,
        /// Which end ended it: `caller`, `callee`, `weft`.
        by: String,
    },
}

/// What happened to a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BindingNews {
    /// It came.
    Added,
    /// It was refreshed: too often to be an event of the log.
    Refreshed,
    /// It was taken away.
    Removed,
    /// Its time was over.
    Expired,
}

/// What happened to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeNews {
    /// It works.
    Up,
    /// It takes nothing new and gives away what it has.
    Draining,
    /// It cannot be reached any more, or has left.
    Gone,
    /// It has ended in order: the last event of this life. Only the node itself says so.
    Left,
}

impl CallNews {
    /// Returns the word for logs and metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            CallNews::Started { .. } => "started",
            CallNews::Ringing { .. } => "ringing",
            CallNews::Answered => "answered",
            CallNews::Held => "held",
            CallNews::Resumed => "resumed",
            CallNews::Moved { .. } => "moved",
            CallNews::TakenOver { .. } => "taken_over",
            CallNews::Transferring { .. } => "transferring",
            CallNews::Transferred { .. } => "transferred",
            CallNews::Diverted { .. } => "diverted",
            CallNews::TransferFailed { .. } => "transfer_failed",
            CallNews::Replaced { .. } => "replaced",
            CallNews::Parked { .. } => "parked",
            CallNews::Ended { .. } => "ended",
        }
    }
}

impl BindingNews {
    /// Returns the word for logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            BindingNews::Added => "registered",
            BindingNews::Refreshed => "refreshed",
            BindingNews::Removed => "removed",
            BindingNews::Expired => "expired",
        }
    }
}

/// Every kind of event that a reader may ask for; `gap` comes whatever it asks for.
pub const EVENT_KINDS: [&str; 21] = [
    "call.started",
    "call.ringing",
    "call.answered",
    "call.held",
    "call.resumed",
    "call.moved",
    "call.taken_over",
    "call.ended",
    "registration.added",
    "registration.removed",
    "registration.expired",
    "node.up",
    "node.draining",
    "node.gone",
    "node.left",
    "call.transferring",
    "call.transferred",
    "call.transfer_failed",
    "call.diverted",
    "call.replaced",
    "call.parked",
];

impl LogEvent {
    /// Makes one; texts are cut at `EVENT_TEXT_BYTES_MAX`. `None` for what is no event of the log.
    #[must_use]
    pub fn new(at: UtcMillis, what: What) -> Option<LogEvent> {
        let what = match what {
            What::Registration {
                news: BindingNews::Refreshed,
                ..
            } => return None,
            What::Registration { aor, contact, news } => What::Registration {
                aor: cut(aor),
                contact: cut(contact),
                news,
            },
            What::Call { call, news } => What::Call {
                call,
                news: news.cut(),
            },
            What::Node { life, name, news } => What::Node {
                life,
                name: cut(name),
                news,
            },
        };
        Some(LogEvent { at, what })
    }

    /// Returns its kind, one of [`EVENT_KINDS`].
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match &self.what {
            What::Call { news, .. } => match news {
                CallNews::Started { .. } => "call.started",
                CallNews::Ringing { .. } => "call.ringing",
                CallNews::Answered => "call.answered",
                CallNews::Held => "call.held",
                CallNews::Resumed => "call.resumed",
                CallNews::Moved { .. } => "call.moved",
                CallNews::TakenOver { .. } => "call.taken_over",
                CallNews::Transferring { .. } => "call.transferring",
                CallNews::Transferred { .. } => "call.transferred",
                CallNews::Diverted { .. } => "call.diverted",
                CallNews::TransferFailed { .. } => "call.transfer_failed",
                CallNews::Replaced { .. } => "call.replaced",
                CallNews::Parked { .. } => "call.parked",
                CallNews::Ended { .. } => "call.ended",
            },
            What::Registration { news, .. } => match news {
                BindingNews::Added | BindingNews::Refreshed => "registration.added",
                BindingNews::Removed => "registration.removed",
                BindingNews::Expired => "registration.expired",
            },
            What::Node { news, .. } => match news {
                NodeNews::Up => "node.up",
                NodeNews::Draining => "node.draining",
                NodeNews::Gone => "node.gone",
                NodeNews::Left => "node.left",
            },
        }
    }

    /// Returns the call it is of, if it is of one.
    #[must_use]
    pub const fn call(&self) -> Option<CallKey> {
        match self.what {
            What::Call { call, .. } => Some(call),
            What::Registration { .. } | What::Node { .. } => None,
        }
    }

    /// Tells whether it is the last one of the life of a node.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(
            self.what,
            What::Node {
                news: NodeNews::Left,
                ..
            }
        )
    }

    /// Tells whether every text is within the bound: what another node sends may not be.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let fits = |text: &String| text.len() <= EVENT_TEXT_BYTES_MAX;
        match &self.what {
            What::Registration { aor, contact, .. } => fits(aor) && fits(contact),
            What::Node { name, .. } => fits(name),
            What::Call { news, .. } => match news {
                CallNews::Started { from, to } => fits(from) && fits(to),
                CallNews::Moved { state } | CallNews::TakenOver { state } => fits(state),
                CallNews::Ended { cause, by, .. } => fits(cause) && fits(by),
                CallNews::Transferring { by, to } => fits(by) && fits(to),
                CallNews::Transferred { to } => fits(to),
                CallNews::Diverted { by, on, to } => fits(by) && fits(on) && fits(to),
                CallNews::Replaced { party, by } => fits(party) && fits(by),
                CallNews::Parked { place } => fits(place),
                CallNews::TransferFailed { .. }
                | CallNews::Ringing { .. }
                | CallNews::Answered
                | CallNews::Held
                | CallNews::Resumed => true,
            },
        }
    }

    /// Returns it as a JSON object: `kind`, `at_ms`, whose it is, and what belongs to its kind.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| {
            object.insert(name.to_owned(), value);
        };
        put("kind", json!(self.kind()));
        put("at_ms", json!(self.at.0));
        match &self.what {
            What::Call { call, news } => {
                put("actor", json!(ActorId::Call(*call)));
                put("call", json!(call.to_string()));
                match news {
                    CallNews::Started { from, to } => {
                        put("from", json!(from));
                        put("to", json!(to));
                    }
                    CallNews::Ringing { status } => put("status", json!(status)),
                    CallNews::Answered | CallNews::Held | CallNews::Resumed => {}
                    CallNews::Moved { state } | CallNews::TakenOver { state } => {
                        put("state", json!(state));
                    }
                    CallNews::Transferring { by, to } => {
                        put("by", json!(by));
                        put("to", json!(to));
                    }
                    CallNews::Transferred { to } => put("to", json!(to)),
                    CallNews::Diverted { by, on, to } => {
                        put("by", json!(by));
                        put("on", json!(on));
                        put("to", json!(to));
                    }
                    CallNews::TransferFailed { status } => put("status", json!(status)),
                    CallNews::Replaced { party, by } => {
                        put("party", json!(party));
                        put("by", json!(by));
                    }
                    CallNews::Parked { place } => put("place", json!(place)),
                    CallNews::Ended { cause, status, by } => {
                        put("cause", json!(cause));
                        put("status", json!(status));
                        put("by", json!(by));
                    }
                }
            }
            What::Registration { aor, contact, .. } => {
                put("actor", json!(ActorId::Registration(aor.as_str().into())));
                put("aor", json!(aor));
                put("contact", json!(contact));
            }
            What::Node { life, name, .. } => {
                put("actor", json!(ActorId::Member(life.node)));
                put("life", json!(life.to_string()));
                put("name", json!(name));
            }
        }
        object
    }
}

impl CallNews {
    fn cut(self) -> Self {
        match self {
            CallNews::Started { from, to } => CallNews::Started {
                from: cut(from),
                to: cut(to),
            },
            CallNews::Moved { state } => CallNews::Moved { state: cut(state) },
            CallNews::TakenOver { state } => CallNews::TakenOver { state: cut(state) },
            CallNews::Ended { cause, status, by } => CallNews::Ended {
                cause: cut(cause),
                status,
                by: cut(by),
            },
            CallNews::Transferring { by, to } => CallNews::Transferring {
                by: cut(by),
                to: cut(to),
            },
            CallNews::Transferred { to } => CallNews::Transferred { to: cut(to) },
            CallNews::Diverted { by, on, to } => CallNews::Diverted {
                by: cut(by),
                on: cut(on),
                to: cut(to),
            },
            CallNews::Replaced { party, by } => CallNews::Replaced {
                party: cut(party),
                by: cut(by),
            },
            CallNews::Parked { place } => CallNews::Parked { place: cut(place) },
            CallNews::Ringing { .. }
            | CallNews::Answered
            | CallNews::Held
            | CallNews::Resumed
            | CallNews::TransferFailed { .. } => self,
        }
    }
}

/// Cuts a text at the bound, between two characters.
fn cut(mut text: String) -> String {
    if text.len() > EVENT_TEXT_BYTES_MAX {
        let mut ends = (0..=EVENT_TEXT_BYTES_MAX).rev();
        let end = ends.find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}
