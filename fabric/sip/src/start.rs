//! The first line of a message: Request-Line or Status-Line (RFC 3261 §7.1, §7.2).
//!
//! In: the line without CR LF. Out: spans of its parts. It does not read the Request-URI's inside.

use std::ops::Range;

use crate::error::ReadError;
use crate::method::MethodName;
use crate::scan::is_token;

/// The first line of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// A request.
    Request {
        /// What is asked.
        method: MethodName<'a>,
        /// Of whom, as written.
        uri: &'a str,
    },
    /// A response.
    Response {
        /// 100 to 699.
        status: u16,
        /// The phrase, as written; may be empty.
        reason: &'a str,
    },
}

/// Where the parts of a first line stand in the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StartSpan {
    Request { method: Range<u32>, uri: Range<u32> },
    Response { status: u16, reason: Range<u32> },
}

/// Reads a first line that begins at offset `base` of its message.
pub(crate) fn read_start(line: &[u8], base: u32) -> Result<StartSpan, ReadError> {
    if is_version_start(line) {
        return read_status_line(line, base);
    }
    let mut parts = line.split(|octet| *octet == b' ');
    let (Some(method), Some(uri), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(ReadError::StartLine);
    };
    if method.is_empty() || !method.iter().copied().all(is_token) || !is_uri_like(uri) {
        return Err(ReadError::StartLine);
    }
    read_version(version)?;
    let uri_start = base + width(method) + 1;
    Ok(StartSpan::Request {
        method: base..base + width(method),
        uri: uri_start..uri_start + width(uri),
    })
}

/// Reads what can be known of a broken Request-Line, so that the request can be answered.
pub(crate) fn read_broken_start(line: &[u8], base: u32) -> Option<StartSpan> {
    let method: &[u8] = line.split(|octet| *octet == b' ').next()?;
    let version = line
        .rsplit(|octet| *octet == b' ')
        .find(|part| !part.is_empty())?;
    let is_request = !method.is_empty() && method.iter().copied().all(is_token);
    if !is_request || !is_version_start(version) || is_version_start(line) {
        return None;
    }
    let end = base + width(method);
    Some(StartSpan::Request {
        method: base..end,
        uri: end..end,
    })
}

fn read_status_line(line: &[u8], base: u32) -> Result<StartSpan, ReadError> {
    let mut parts = line.splitn(3, |octet| *octet == b' ');
    let (Some(version), Some(code)) = (parts.next(), parts.next()) else {
        return Err(ReadError::StartLine);
    };
    let reason = parts.next().unwrap_or(b"");
    read_version(version)?;
    let status = match code {
        [
            hundreds @ b'1'..=b'6',
            tens @ b'0'..=b'9',
            ones @ b'0'..=b'9',
        ] => {
            u16::from(hundreds - b'0') * 100 + u16::from(tens - b'0') * 10 + u16::from(ones - b'0')
        }
        _ => return Err(ReadError::StartLine),
    };
    let end = base + width(line);
    Ok(StartSpan::Response {
        status,
        reason: end - width(reason)..end,
    })
}

/// Tells whether text begins with `SIP/`, in any case (RFC 3261 §25.1: strings ignore case).
fn is_version_start(text: &[u8]) -> bool {
    text.get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"))
}

/// Accepts `SIP/2.0`; another number is another version, anything else is malformed.
fn read_version(text: &[u8]) -> Result<(), ReadError> {
    if text.eq_ignore_ascii_case(b"SIP/2.0") {
        return Ok(());
    }
    let Some(number) = text.get(4..).filter(|_| is_version_start(text)) else {
        return Err(ReadError::StartLine);
    };
    let mut halves = number.splitn(2, |octet| *octet == b'.');
    let is_number =
        |half: Option<&[u8]>| half.is_some_and(|digits| !digits.is_empty() && all_digits(digits));
    let is_versioned = is_number(halves.next()) && is_number(halves.next());
    Err(if is_versioned {
        ReadError::Version
    } else {
        ReadError::StartLine
    })
}

fn all_digits(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_digit)
}

/// Tells whether text may be a Request-URI: a scheme and a colon, no brackets, no white space.
fn is_uri_like(text: &[u8]) -> bool {
    let has_scheme = text
        .iter()
        .position(|octet| *octet == b':')
        .is_some_and(|colon| colon > 0 && text[..colon].iter().all(|octet| is_scheme(*octet)));
    has_scheme
        && text
            .iter()
            .all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'<' | b'>'))
}

const fn is_scheme(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.')
}

/// Returns a length that fits, since a message is bounded by `SIP_MESSAGE_BYTES_MAX`.
fn width(text: &[u8]) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}
