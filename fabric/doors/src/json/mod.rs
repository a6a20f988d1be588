//! JSON signalling over WebSocket, subprotocol `weft.json.v1`: what may be said, and its codec.
//!
//! In: one text frame. Out: a [`Request`], or why it is none; one text frame of an [`Outbound`].
//! Types are strict, unknown fields are ignored, and no text that may reach a SIP header field has
//! a control character (`threats.md` 10). What a message does is not said here.
//!
//! | file | what |
//! |---|---|
//! | `client.rs` | messages of clients |
//! | `server.rs` | messages of ours |
//! | `text.rs` | texts that were checked |
//! | `read.rs` | frames to messages |

mod client;
mod read;
mod server;
#[cfg(test)]
mod tests;
mod text;

pub use self::client::{
    Call, CallSettings, Candidate, ClientMessage, Describe, DigitMethod, Dtmf, Empty, Hangup, Info,
    Named, Ping, Query, Register, Reject, Reoffer, Resume, Settings, Stats, Unregister,
};
pub use self::read::{JsonError, Refused, Request, read};
pub use self::server::{CallState, IceServer, Outbound, Party, ServerMessage, Why};
pub use self::text::{
    CallName, CandidateText, CommandName, Dialled, Digits, Instance, Label, TextError,
};

/// Subprotocol of the WebSocket handshake (RFC 6455 §1.9).
pub const SUBPROTOCOL: &str = "weft.json.v1";
