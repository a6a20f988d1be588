//! What one WebSocket message is (RFC 7118 §5): a SIP message, a keep-alive, or neither.
//!
//! In: the octets of one message. Out: what they are. Content-Length may be missing; one that is
//! there must be right. It reads no more than that.

use bytes::Bytes;
use sip::{Frame, FrameError, Framer};

/// What a WebSocket message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// A SIP message, not yet read.
    Message(Bytes),
    /// Two empty lines: answered with one (RFC 5626 §4.4.1).
    Ping,
    /// An empty line, or nothing: not answered.
    Pong,
    /// No SIP message.
    Broken {
        /// Status it is answered with, if it can be answered.
        status: u16,
        /// What can be read of it.
        octets: Bytes,
    },
}

/// Judges the octets of one WebSocket message.
pub(super) fn judge(octets: &Bytes) -> Whole {
    let mut framer = Framer::new();
    framer.push(octets);
    let mut last = Whole::Pong;
    loop {
        match framer.next() {
            Some(Ok(Frame::Ping)) => last = Whole::Ping,
            Some(Ok(Frame::Pong)) => {}
            // Octets after the message: its Content-Length is too small.
            Some(Ok(Frame::Message(message))) if framer.is_partial() => {
                return broken(400, message);
            }
            Some(Ok(Frame::Message(message))) => return Whole::Message(message),
            Some(Err(FrameError::NoLength)) => return Whole::Message(octets.clone()),
            Some(Err(error)) => return broken(error.status(), framer.offending()),
            // The header does not end, or Content-Length is too large.
            None if framer.is_partial() => return broken(400, octets.clone()),
            None => return last,
        }
    }
}

fn broken(status: u16, octets: Bytes) -> Whole {
    Whole::Broken { status, octets }
}
