//! Who may open a WebSocket, and for what (RFC 6455 §4.2; `threats.md`, policy and 14).
//!
//! In: the head of a request and the address it came from. Out: what the 101 says, or the status of
//! the refusal. Deny is the last branch of each rule. It opens nothing.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{
    CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use axum::http::{HeaderMap, Method, Version};
use contract::Door;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::config::Network;

/// Subprotocols we speak, with their doors.
const PROTOCOLS: [(&str, Door); 2] = [("sip", Door::Sip), ("weft.json.v1", Door::Json)];
/// Characters of a key; any that is not empty and short is taken, as curl's of the requirements is.
const KEY_CHARACTERS_MAX: usize = 128;
/// Addresses of one X-Forwarded-For that are looked at: no chain of proxies is longer.
const HOPS_MAX: usize = 16;

/// Who may open a WebSocket, and how.
#[derive(Clone, Debug)]
pub(crate) struct WebRules {
    /// Host names of this node, besides addresses and `localhost`: pages of these names are its own.
    pub hosts: Vec<String>,
    /// Origins of pages that may, besides its own.
    pub origins: Vec<String>,
    /// Ports of its own pages.
    pub page_ports: Vec<u16>,
    /// Proxies whose word about their clients' addresses is taken.
    pub trusted_proxies: Vec<Network>,
    /// SIP only with its subprotocol (RFC 7118 §4).
    pub require_sip_subprotocol: bool,
}

impl Default for WebRules {
    fn default() -> Self {
        WebRules {
            hosts: Vec::new(),
            origins: Vec::new(),
            page_ports: Vec::new(),
            trusted_proxies: Vec::new(),
            require_sip_subprotocol: true,
        }
    }
}

/// A request that is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    /// Value of Sec-WebSocket-Accept.
    pub accept: String,
    /// The subprotocol, with its door; without one the first message tells.
    pub protocol: Option<(&'static str, Door)>,
    /// The client, as a trusted proxy names it.
    pub client: SocketAddr,
}

/// A request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Denied {
    pub status: u16,
    pub detail: &'static str,
}

const fn denied(status: u16, detail: &'static str) -> Denied {
    Denied { status, detail }
}

/// Judges the head of a request.
pub(super) fn judge(
    rules: &WebRules,
    method: &Method,
    version: Version,
    headers: &HeaderMap,
    remote: SocketAddr,
) -> Result<Granted, Denied> {
    if !has_token(headers, UPGRADE.as_str(), "websocket")
        || !has_token(headers, CONNECTION.as_str(), "upgrade")
    {
        return Err(denied(426, "this is a WebSocket port"));
    }
    if method != Method::GET || version != Version::HTTP_11 {
        return Err(denied(400, "a WebSocket begins with GET and HTTP/1.1"));
    }
    if only(headers, SEC_WEBSOCKET_VERSION.as_str()) != Some("13") {
        return Err(denied(426, "Sec-WebSocket-Version must be 13"));
    }
    let key = only(headers, SEC_WEBSOCKET_KEY.as_str())
        .filter(|key| (1..=KEY_CHARACTERS_MAX).contains(&key.len()))
        .ok_or(denied(400, "Sec-WebSocket-Key is missing or wrong"))?;
    if !rules.lets_in_page(headers) {
        return Err(denied(
            403,
            "pages of that Origin may not connect; `http.origins` may name it",
        ));
    }
    Ok(Granted {
        accept: derive_accept_key(key.as_bytes()),
        protocol: protocol(headers)?,
        client: rules.client(headers, remote),
    })
}

/// Chooses the subprotocol that the client prefers of those we speak.
fn protocol(headers: &HeaderMap) -> Result<Option<(&'static str, Door)>, Denied> {
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok(None);
    }
    let known = |offered: &str| PROTOCOLS.into_iter().find(|(name, _)| *name == offered);
    let found = tokens(headers, SEC_WEBSOCKET_PROTOCOL.as_str()).find_map(known);
    found.map(Some).ok_or(denied(
        400,
        "the subprotocols here are sip and weft.json.v1",
    ))
}

impl WebRules {
    /// Tells whether an address is a proxy whose word is taken.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let mut proxies = self.trusted_proxies.iter();
        proxies.any(|network| network.contains(address))
    }

    /// The table of Origins: none is no browser; the node's own pages and those configured may.
    fn lets_in_page(&self, headers: &HeaderMap) -> bool {
        if !headers.contains_key(ORIGIN) {
            return true;
        }
        let Some(origin) = only(headers, ORIGIN.as_str()) else {
            return false;
        };
        let mut known = self.origins.iter();
        known.any(|known| known.eq_ignore_ascii_case(origin)) || self.is_own(origin, headers)
    }

    /// A page is our own if it has the very host that is asked, by a name that nobody can have
    /// rebound to us, and came from this port or one of our HTTP ports.
    fn is_own(&self, origin: &str, headers: &HeaderMap) -> bool {
        let page = match (
            origin.strip_prefix("http://"),
            origin.strip_prefix("https://"),
        ) {
            (Some(rest), _) => host_and_port(rest).map(|(host, port)| (host, port.unwrap_or(80))),
            (None, Some(rest)) => {
                host_and_port(rest).map(|(host, port)| (host, port.unwrap_or(443)))
            }
            (None, None) => None,
        };
        let asked = only(headers, HOST.as_str()).and_then(host_and_port);
        let (Some((page, page_port)), Some((host, port))) = (page, asked) else {
            return false;
        };
        let is_ours = |name: &str| {
            let bare = name.trim_matches(['[', ']']);
            bare.parse::<IpAddr>().is_ok()
                || name.eq_ignore_ascii_case("localhost")
                || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
        };
        // A proxy may pass the name without its port.
        let is_port = match port {
            Some(port) => page_port == port,
            None => matches!(page_port, 80 | 443),
        };
        page.eq_ignore_ascii_case(host)
            && is_ours(host)
            && (is_port || self.page_ports.contains(&page_port))
    }

    /// Returns the client's address: a trusted proxy's word, else the connection's own. The port stays
    /// the connection's.
    fn client(&self, headers: &HeaderMap, remote: SocketAddr) -> SocketAddr {
        if !self.trusts(remote.ip()) {
            return remote;
        }
        let hops: Vec<_> = tokens(headers, "x-forwarded-for").collect();
        // Each proxy adds behind: the last one that is no proxy of ours is the client.
        let mut seen = None;
        for hop in hops.iter().rev().take(HOPS_MAX) {
            let Some(address) = address_of(hop) else {
                break;
            };
            seen = Some(address);
            if !self.trusts(address) {
                break;
            }
        }
        let real = || only(headers, "x-real-ip").and_then(address_of);
        match seen.or_else(real) {
            Some(address) => SocketAddr::new(address.to_canonical(), remote.port()),
            None => remote,
        }
    }
}

/// Reads an address, with or without a port.
fn address_of(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.trim_matches(['[', ']']);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse().ok().or_else(with_port)
}

/// Splits `host`, `host:port` or `[v6]:port`.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let end = if text.starts_with('[') {
        text.find(']')? + 1
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (host, rest) = text.split_at(end);
    if host.is_empty() {
        return None;
    }
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(port.parse().ok()?))),
        None => rest.is_empty().then_some((host, None)),
    }
}

/// Returns a header's value if it is there exactly once and readable.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value.trim())
}

/// Returns the elements of a comma-separated header, all its lines together.
fn tokens<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

fn has_token(headers: &HeaderMap, name: &str, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
