//! Which transaction a message belongs to (RFC 3261 §17.1.3, §17.2.3).
//!
//! In: a message as stamped by the transport. Out: a key that compares, orders and hashes. ACK has
//! the key of its INVITE. CANCEL has a key of its own and, by `cancelled_by`, that of the request
//! it cancels. Branches compare without case, as tokens do (§7.3.1).

use std::fmt;

use rsip::Method;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::HeaderError;
use crate::header::HeaderName;
use crate::message::Message;
use crate::start::Start;
use crate::via::Via;

/// The identity of one transaction. Bound: `KEY_BYTES_MAX`; longer ones are hashed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(Box<str>);

impl Key {
    /// Returns the key of the server transaction of a request.
    ///
    /// A peer of RFC 2543 writes no branch with the magic cookie; its requests are told apart by
    /// Request-URI, tags, Call-ID, CSeq and topmost Via. The To tag counts except for INVITE and
    /// ACK, since the ACK has the tag of our answer; `InviteServer` compares that.
    /// Errors: a field that this needs is missing or malformed. Source: RFC 3261 §17.2.3.
    pub fn of_request(request: &Message) -> Result<Key, HeaderError> {
        let method = request.method();
        if method.is(Method::Ack) {
            return server_key(request, "INVITE", false);
        }
        server_key(request, method.as_str(), !method.is(Method::Invite))
    }

    /// Returns the key of the INVITE that a CANCEL cancels.
    ///
    /// Errors: as `of_request`. Source: RFC 3261 §9.2.
    pub fn cancelled_by(cancel: &Message) -> Result<Key, HeaderError> {
        server_key(cancel, "INVITE", false)
    }

    /// Returns the key of the client transaction of a response: branch and method of CSeq.
    ///
    /// Errors: Via or CSeq is missing or malformed, or Via has no branch.
    /// Source: RFC 3261 §17.1.3.
    pub fn of_response(response: &Message) -> Result<Key, HeaderError> {
        client_key(response)
    }

    /// Returns the key of the client transaction of a request of ours.
    ///
    /// Errors: as `of_response`.
    pub fn of_sent(request: &Message) -> Result<Key, HeaderError> {
        client_key(request)
    }

    /// Returns the key as text, for logs.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of_text(text: String) -> Key {
        if text.len() <= KEY_BYTES_MAX {
            return Key(text.into_boxed_str());
        }
        let mut hasher = Sha256::new();
        hasher.update(text.as_bytes());
        Key::of_hash(hasher)
    }

    fn of_hash(hasher: Sha256) -> Key {
        Key(crate::digest::to_hex(&hasher.finalize()).into_boxed_str())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tells whether a request comes from a peer that makes no unique branches (RFC 2543).
pub(super) fn is_legacy(request: &Message) -> bool {
    request.via().is_ok_and(|via| unique_branch(&via).is_none())
}

fn client_key(message: &Message) -> Result<Key, HeaderError> {
    let via = message.via()?;
    let branch = via.branch().ok_or(HeaderError::Missing(HeaderName::Via))?;
    let method = message.cseq()?.method;
    Ok(Key::of_text(format!(
        "c {} {method}",
        branch.to_ascii_lowercase()
    )))
}

fn server_key(request: &Message, method: &str, has_to_tag: bool) -> Result<Key, HeaderError> {
    let via = request.via()?;
    match unique_branch(&via) {
        Some(branch) => {
            let branch = branch.to_ascii_lowercase();
            Ok(Key::of_text(format!(
                "s {branch} {} {method}",
                via.sent_by()
            )))
        }
        None => legacy_key(request, via, method, has_to_tag),
    }
}

fn legacy_key(
    request: &Message,
    mut via: Via,
    method: &str,
    has_to_tag: bool,
) -> Result<Key, HeaderError> {
    via.params.remove("received");
    via.params.remove("rport");
    let (from, to) = (request.from()?, request.to()?);
    let uri = match request.start() {
        Start::Request { uri, .. } => uri,
        Start::Response { .. } => "",
    };
    let parts = [
        method,
        uri,
        request.call_id()?,
        from.tag().unwrap_or(""),
        to.tag().filter(|_| has_to_tag).unwrap_or(""),
        &request.cseq()?.number.to_string(),
        &via.to_string(),
    ];
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    Ok(Key::of_hash(hasher))
}

/// Returns the branch if its maker promises that it is unique (RFC 3261 §8.1.1.7).
fn unique_branch(via: &Via) -> Option<&str> {
    let branch = via.branch()?;
    let cookie = branch.get(..COOKIE.len())?;
    (cookie.eq_ignore_ascii_case(COOKIE) && branch.len() > COOKIE.len()).then_some(branch)
}

/// The magic cookie.
const COOKIE: &str = "z9hG4bK";

/// Longest key kept as text, in octets: branches of common phones and proxies fit.
const KEY_BYTES_MAX: usize = 160;
