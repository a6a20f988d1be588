//! What a transport layer does to messages: the path back and the hop count.
//!
//! In: messages and addresses. Out: amended messages and addresses. It sends nothing.

use std::net::SocketAddr;

use crate::error::HeaderError;
use crate::message::{Message, read_vias};
use crate::via::Via;

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HopError {
    /// Max-Forwards is 0.
    #[error("no hops left")]
    NoneLeft,
    /// Max-Forwards is no number of 0 to 255.
    #[error(transparent)]
    Malformed(HeaderError),
}

impl HopError {
    /// Returns the status that answers it: 483 (RFC 3261 §21.4.21) or 400.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            HopError::NoneLeft => 483,
            HopError::Malformed(error) => error.status(),
        }
    }

    /// Returns whose fault it is: the peer's.
    #[must_use]
    pub const fn class(&self) -> contract::FaultClass {
        contract::FaultClass::Reject
    }
}

/// Writes into the topmost Via where a request came from.
///
/// In: the source of the datagram or connection. Out: the message with `rport` filled in if the
/// client asked for it, and `received` if it asked or its sent-by is another host. What the client
/// itself wrote there is replaced, so that it cannot send the answer to a third party.
/// Source: RFC 3261 §18.2.1; RFC 3581 §4.
#[must_use]
pub fn stamp_via(request: &Message, source: SocketAddr) -> Message {
    let Ok(mut via) = request.via() else {
        return request.clone();
    };
    let wants_port = via.params.has("rport");
    let is_same_host = via.host.address() == Some(source.ip().to_canonical());
    if is_same_host && !wants_port && !via.params.has("received") {
        return request.clone();
    }
    if wants_port {
        via.params.set("rport", Some(&source.port().to_string()));
    }
    if wants_port || !is_same_host {
        via.params
            .set("received", Some(&source.ip().to_canonical().to_string()));
    } else {
        via.params.remove("received");
    }
    request.with_top_via(&via)
}

/// Returns where a response goes on a datagram transport; on a connection it goes back there.
///
/// In: the topmost Via as stamped, and the source the request came from, which stands for a sent-by
/// that is a name: nothing is resolved.
/// Deviation: RFC 3261 §18.2.2 sends to `maddr` if there is one, which would make us a reflector;
/// it is not followed; test `response_never_goes_to_a_foreign_maddr`.
/// Source: RFC 3261 §18.2.2; RFC 3581 §4.
#[must_use]
pub fn response_target(via: &Via, source: SocketAddr) -> SocketAddr {
    let address = via
        .received()
        .or_else(|| via.host.address())
        .unwrap_or_else(|| source.ip());
    let port = via
        .rport()
        .flatten()
        .or(via.port)
        .unwrap_or_else(|| via.transport.default_port());
    SocketAddr::new(address, port)
}

/// Returns the Max-Forwards of the request that is sent on; 70 if there was none.
///
/// Errors: `NoneLeft` at 0, `Malformed`.
/// Source: RFC 3261 §16.3 item 3, §16.6 item 3.
pub fn decrement_max_forwards(request: &Message) -> Result<u8, HopError> {
    match request.max_forwards().map_err(HopError::Malformed)? {
        None => Ok(HOPS),
        Some(hops) => hops.checked_sub(1).ok_or(HopError::NoneLeft),
    }
}

/// Tells whether a request has passed here before: whether a Via is `own` (RFC 3261 §16.3 item 4).
pub fn is_loop(request: &Message, own: impl Fn(&Via) -> bool) -> bool {
    let mut is_found = false;
    for value in request.headers(crate::header::HeaderName::Via) {
        // A malformed Via ends the search in its field: it cannot be one that we wrote.
        let read = read_vias(value, |via| is_found |= own(&via));
        is_found |= read.is_ok() && is_found;
    }
    is_found
}

/// What a request starts with (RFC 3261 §8.1.1.6).
pub const HOPS: u8 = 70;

#[cfg(test)]
mod tests;
