//! The key by which datagrams are spread over lanes, found without reading the message.
//!
//! In: octets. Out: the topmost branch and sent-by, as written. All messages of one transaction
//! give the same key, since their sender repeats its Via. What is malformed gives a key or none;
//! the full reader judges it later.

use crate::header::HeaderName;
use crate::scan::{is_space, is_token, trim};

/// What belongs to one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LaneKey<'a> {
    /// A request from a peer that makes branches (RFC 3261 §17.2.3).
    Request {
        /// The branch of the topmost Via.
        branch: &'a str,
        /// Its host and port, as written.
        sent_by: &'a str,
    },
    /// A response to a request of ours.
    Response {
        /// The branch of the topmost Via, made by us.
        branch: &'a str,
    },
    /// A request without a branch (RFC 2543): its Call-ID.
    Legacy {
        /// The Call-ID.
        call_id: &'a str,
    },
}

/// Finds the key of a datagram or frame.
#[must_use]
pub fn lane_key(bytes: &[u8]) -> Option<LaneKey<'_>> {
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        rest = after;
    }
    let is_response = rest.get(..4)?.eq_ignore_ascii_case(b"SIP/");
    let head = rest.get(memchr::memchr(b'\n', rest)? + 1..)?;
    let via = find(head, HeaderName::Via)?;
    let (sent_by, branch) = read_via(via)?;
    match (is_response, branch) {
        (true, branch) => Some(LaneKey::Response { branch: branch? }),
        (false, Some(branch)) => Some(LaneKey::Request { branch, sent_by }),
        (false, None) => Some(LaneKey::Legacy {
            call_id: find(head, HeaderName::CallId)?,
        }),
    }
}

/// Returns the value of the first field of a name, folds included.
fn find(head: &[u8], wanted: HeaderName) -> Option<&str> {
    let mut rest = head;
    loop {
        if rest.is_empty() || rest.starts_with(b"\r\n") {
            return None;
        }
        let end = field_end(rest);
        let line = rest.get(..end)?;
        let width = line.iter().take_while(|octet| is_token(**octet)).count();
        if HeaderName::of(line.get(..width)?) == wanted {
            let text = std::str::from_utf8(line.get(width..)?).ok()?;
            return Some(trim(trim(text).strip_prefix(':')?));
        }
        rest = rest.get(end..)?;
    }
}

/// Returns the length of a field with its folded lines and line end.
fn field_end(text: &[u8]) -> usize {
    for feed in memchr::memchr_iter(b'\n', text) {
        if !matches!(text.get(feed + 1), Some(b' ' | b'\t')) {
            return feed + 1;
        }
    }
    text.len()
}

/// Returns sent-by and branch of the first value of a Via field.
fn read_via(value: &str) -> Option<(&str, Option<&str>)> {
    let value = value.split(',').next()?;
    let mut pieces = value.split(';');
    let mut slashes = pieces.next()?.splitn(3, '/');
    let sent = trim(slashes.nth(2)?);
    let sent_by = trim(
        sent.split_once(|character: char| character.is_ascii() && is_space(character as u8))?
            .1,
    );
    let branch = pieces.find_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        trim(name)
            .eq_ignore_ascii_case("branch")
            .then(|| trim(value))
    });
    Some((sent_by, branch.filter(|branch| !branch.is_empty())))
}

#[cfg(test)]
mod tests;
