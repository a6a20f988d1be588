//! Who may ask what over HTTP (threats.md 14–16): Host, Origin, token.
//!
//! In: a request's head and the addresses of its connection. Out: pass, or a refusal. Deny is the
//! last branch of each rule.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Method};
use contract::Secret;
use subtle::ConstantTimeEq;

/// Addresses of the connection a request came on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// Ours.
    pub local: SocketAddr,
    /// Theirs.
    pub remote: SocketAddr,
}

/// What is compared with.
#[derive(Debug)]
pub(super) struct Guard {
    /// The administrator's token.
    pub token: Secret,
    /// Host names it answers to, besides addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Origins of pages that may ask, besides its own.
    pub origins: Vec<String>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The Host names somebody else: a page may have rebound its own name to us.
    Host,
    /// A page of another origin asks.
    Origin,
    /// The token is missing or wrong.
    Token,
}

impl Refusal {
    pub(super) const fn status(self) -> u16 {
        match self {
            Refusal::Host | Refusal::Origin => 403,
            Refusal::Token => 401,
        }
    }

    pub(super) const fn detail(self) -> &'static str {
        match self {
            Refusal::Host => "this node is not called by that Host; `http.hosts` may name it",
            Refusal::Origin => "pages of that Origin may not ask; `http.origins` may name it",
            Refusal::Token => "a Bearer token is needed; it is in admin.token of the data folder",
        }
    }
}

impl Guard {
    /// Lets a request pass or not.
    pub(super) fn check(
        &self,
        method: &Method,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<(), Refusal> {
        let host = self.host(headers).ok_or(Refusal::Host)?;
        self.origin(headers, host)?;
        self.proof(method, headers, peer)
    }

    /// Returns the Host if it is one of ours. Addresses are: only a name can be rebound.
    fn host<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let host = only(headers, HOST.as_str())?;
        let name = host_name(host)?;
        let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let is_known = name.eq_ignore_ascii_case("localhost")
            || self
                .hosts
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name));
        (is_address || is_known).then_some(host)
    }

    fn origin(&self, headers: &HeaderMap, host: &str) -> Result<(), Refusal> {
        if !headers.contains_key(ORIGIN) {
            return Ok(());
        }
        let origin = only(headers, ORIGIN.as_str()).ok_or(Refusal::Origin)?;
        let own = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        let is_own = own.is_some_and(|own| own.eq_ignore_ascii_case(host));
        let is_known = self
            .origins
            .iter()
            .any(|known| known.eq_ignore_ascii_case(origin));
        if is_own || is_known {
            Ok(())
        } else {
            Err(Refusal::Origin)
        }
    }

    fn proof(&self, method: &Method, headers: &HeaderMap, peer: Peer) -> Result<(), Refusal> {
        if headers.contains_key(AUTHORIZATION) {
            let said = only(headers, AUTHORIZATION.as_str()).ok_or(Refusal::Token)?;
            let (scheme, token) = said.split_once(' ').ok_or(Refusal::Token)?;
            let is_right = scheme.eq_ignore_ascii_case("bearer")
                && bool::from(
                    token
                        .trim()
                        .as_bytes()
                        .ct_eq(self.token.expose().as_bytes()),
                );
            return if is_right {
                Ok(())
            } else {
                Err(Refusal::Token)
            };
        }
        let is_here = peer.local.ip().to_canonical().is_loopback()
            && peer.remote.ip().to_canonical().is_loopback();
        let is_view = method == Method::GET || method == Method::HEAD;
        if is_here && is_view {
            Ok(())
        } else {
            Err(Refusal::Token)
        }
    }
}

/// Returns a header's value if it is there exactly once and readable.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Returns the host part of `host:port`, `[v6]:port` or `host`.
fn host_name(host: &str) -> Option<&str> {
    if host.starts_with('[') {
        let end = host.find(']')?;
        let rest = &host[end + 1..];
        return (rest.is_empty() || is_port(rest)).then_some(&host[..=end]);
    }
    match host.split_once(':') {
        Some((name, _)) => is_port(&host[name.len()..]).then_some(name),
        None => Some(host),
    }
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|digits| digits.parse::<u16>().is_ok())
}
