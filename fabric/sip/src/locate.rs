//! Where a request goes next, as far as its text tells (RFC 3263 without the DNS).
//!
//! In: Request-URI and route set. Out: transport, host and port. Names are resolved by the caller;
//! `wants_srv` tells when SRV records decide about the port.

use crate::headers::NameAddr;
use crate::uri::{Host, Scheme, Uri};
use crate::via::ViaTransport;

/// The next hop of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// How to send.
    pub transport: ViaTransport,
    /// Where to; a name is still to be resolved.
    pub host: Host,
    /// The port, or the transport's default.
    pub port: u16,
    /// Whether every hop must be protected: a `sips` URI (RFC 3261 §26.2.2).
    pub secure: bool,
    /// Whether SRV records may name another port: a host name without a port (RFC 3263 §4.2).
    pub wants_srv: bool,
}

/// Why there is no next hop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocateError {
    /// Neither sip nor sips, and no route: 416.
    #[error("scheme {0} cannot be sent to")]
    Scheme(String),
    /// `maddr` is no host.
    #[error("malformed maddr")]
    Maddr,
    /// A transport that contradicts `sips`, or that nobody here speaks.
    #[error("transport {0} cannot be used")]
    Transport(String),
}

impl LocateError {
    /// Returns whose fault it is: the peer's.
    #[must_use]
    pub const fn class(&self) -> contract::FaultClass {
        contract::FaultClass::Reject
    }

    /// Returns the status that answers it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            LocateError::Scheme(_) => 416,
            LocateError::Maddr => 400,
            LocateError::Transport(_) => 503,
        }
    }
}

/// Returns where a request goes: to its first route, else to its URI.
///
/// Errors: see `LocateError`. Source: RFC 3261 §8.1.2, §16.6 item 7; RFC 3263 §4.
pub fn next_hop(uri: &Uri, route: &[NameAddr]) -> Result<Hop, LocateError> {
    let target = route.first().map_or(uri, |first| &first.uri);
    let secure = match target.scheme() {
        Scheme::Sip => uri.is_secure(),
        Scheme::Sips => true,
        scheme @ (Scheme::Tel | Scheme::Other(_)) => {
            return Err(LocateError::Scheme(scheme.as_str().to_owned()));
        }
    };
    let own_host = target
        .host()
        .ok_or_else(|| LocateError::Scheme(target.scheme().as_str().to_owned()))?;
    let host = match target.params().value("maddr") {
        Some(maddr) => maddr.parse().map_err(|_| LocateError::Maddr)?,
        None => own_host.clone(),
    };
    let transport = transport_of(target, secure)?;
    let port = target.port().unwrap_or_else(|| transport.default_port());
    let wants_srv = target.port().is_none() && host.address().is_none();
    Ok(Hop {
        transport,
        host,
        port,
        secure,
        wants_srv,
    })
}

/// Returns the transport a URI asks for; UDP, or TLS for sips (RFC 3263 §4.1).
fn transport_of(uri: &Uri, secure: bool) -> Result<ViaTransport, LocateError> {
    let asked = uri.params().value("transport").map(ViaTransport::of);
    match (asked, secure) {
        (None, false) => Ok(ViaTransport::Udp),
        (None | Some(ViaTransport::Tcp | ViaTransport::Tls), true) => Ok(ViaTransport::Tls),
        (Some(ViaTransport::Ws | ViaTransport::Wss), true) => Ok(ViaTransport::Wss),
        (Some(ViaTransport::Other(name)), _) => Err(LocateError::Transport(name)),
        (Some(other), false) => Ok(other),
        (Some(other @ (ViaTransport::Udp | ViaTransport::Sctp | ViaTransport::TlsSctp)), true) => {
            Err(LocateError::Transport(other.as_str().to_owned()))
        }
    }
}

#[cfg(test)]
mod tests;
