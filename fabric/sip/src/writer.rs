//! Writes messages; the one place where SIP text is put together.
//!
//! In: typed values. Out: octets. Every value is refused if it holds CR, LF or NUL, so that no
//! value can become a header field or a body (threats.md 10). Content-Length is written here only.

use std::fmt::{self, Display, Write};

use bytes::Bytes;
use contract::FaultClass;
use contract::limits::SIP_MESSAGE_BYTES_MAX;

use crate::header::HeaderName;
use crate::method::MethodOwned;
use crate::scan::is_token;
use crate::status::reason as usual_reason;
use crate::uri::Uri;

/// Why a message was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A value holds CR, LF or NUL.
    #[error("control character in {0}")]
    ControlCharacter(String),
    /// A field name or method is not a token; a URI holds white space.
    #[error("malformed name: {0}")]
    BadName(String),
    /// A field that only the writer writes: Content-Length.
    #[error("field is written by the writer: {0}")]
    OwnField(String),
    /// A status outside 100 to 699.
    #[error("status {0}")]
    BadStatus(u16),
    /// More than `SIP_MESSAGE_BYTES_MAX`.
    #[error("message too large")]
    TooLarge,
}

impl WriteError {
    /// Returns whose fault it is: the input's, which the caller passed on.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Reject
    }
}

/// A message being written. The first error is kept and reported by `finish`.
#[derive(Debug)]
pub struct Writer {
    text: String,
    body: Option<Vec<u8>>,
    error: Option<WriteError>,
}

impl Writer {
    /// Begins a request (RFC 3261 §7.1).
    #[must_use]
    pub fn request(method: &MethodOwned, uri: &Uri) -> Self {
        let mut writer = Self::empty();
        if !is_name(method.as_str()) {
            writer.fail(WriteError::BadName(shown(method.as_str())));
        }
        writer.push_start(format_args!("{method} {uri} SIP/2.0"));
        if writer.text.bytes().filter(|octet| *octet == b' ').count() != 2 {
            writer.fail(WriteError::BadName("Request-URI".to_owned()));
        }
        writer
    }

    /// Begins a response (RFC 3261 §7.2) with a phrase or the usual one.
    #[must_use]
    pub fn response(status: u16, reason: Option<&str>) -> Self {
        let mut writer = Self::empty();
        if !(100..700).contains(&status) {
            writer.fail(WriteError::BadStatus(status));
        }
        let reason = reason.unwrap_or_else(|| usual_reason(status));
        writer.push_start(format_args!("SIP/2.0 {status} {reason}"));
        writer
    }

    /// Adds a header field.
    pub fn header(&mut self, name: HeaderName, value: impl Display) -> &mut Self {
        self.push_field(name.as_str(), format_args!("{value}"));
        self
    }

    /// Adds a header field of any name.
    pub fn other(&mut self, name: &str, value: &str) -> &mut Self {
        self.push_field(name, format_args!("{value}"));
        self
    }

    /// Sets the body and its Content-Type; an empty body has no Content-Type.
    pub fn body(&mut self, content_type: &str, body: &[u8]) -> &mut Self {
        if !body.is_empty() {
            self.header(HeaderName::ContentType, content_type);
        }
        self.body = Some(body.to_vec());
        self
    }

    /// Ends the message and returns its octets; the writer is empty afterwards.
    ///
    /// Errors: the first of all errors since the beginning.
    pub fn finish(&mut self) -> Result<Bytes, WriteError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let body = self.body.take().unwrap_or_default();
        let mut octets = std::mem::take(&mut self.text).into_bytes();
        octets.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        octets.extend_from_slice(&body);
        if octets.len() > SIP_MESSAGE_BYTES_MAX {
            return Err(WriteError::TooLarge);
        }
        Ok(Bytes::from(octets))
    }

    /// Adds a value that the reader accepted, as it was written, quoted NUL included: an answer
    /// must repeat From and To as they came (RFC 3261 §8.2.6.2).
    pub(crate) fn copy(&mut self, name: HeaderName, value: &str) -> &mut Self {
        if value.bytes().any(|octet| matches!(octet, b'\r' | b'\n')) {
            self.fail(WriteError::ControlCharacter(name.to_string()));
        }
        self.text.push_str(name.as_str());
        self.text.push_str(": ");
        self.text.push_str(value);
        self.text.push_str("\r\n");
        self
    }

    fn empty() -> Self {
        Self {
            text: String::with_capacity(1024),
            body: None,
            error: None,
        }
    }

    fn push_start(&mut self, line: fmt::Arguments<'_>) {
        let start = self.text.len();
        self.write(line);
        self.end_line(start, "start line");
    }

    fn push_field(&mut self, name: &str, value: fmt::Arguments<'_>) {
        if !is_name(name) {
            return self.fail(WriteError::BadName(shown(name)));
        }
        if HeaderName::of(name.as_bytes()) == HeaderName::ContentLength {
            return self.fail(WriteError::OwnField(shown(name)));
        }
        let start = self.text.len();
        self.text.push_str(name);
        self.text.push_str(": ");
        self.write(value);
        self.end_line(start, name);
    }

    fn write(&mut self, value: fmt::Arguments<'_>) {
        if self.text.write_fmt(value).is_err() {
            self.fail(WriteError::BadName("value without text".to_owned()));
        }
    }

    /// Ends the line that began at `start`, or takes it back if it holds what would end it early.
    fn end_line(&mut self, start: usize, what: &str) {
        let line = self.text.as_bytes().get(start..).unwrap_or(&[]);
        let is_unsafe = memchr::memchr3(b'\r', b'\n', 0, line).is_some();
        if is_unsafe {
            self.text.truncate(start);
            return self.fail(WriteError::ControlCharacter(shown(what)));
        }
        self.text.push_str("\r\n");
    }

    /// Keeps the first error.
    pub(crate) fn fail(&mut self, error: WriteError) {
        self.error.get_or_insert(error);
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_token)
}

/// Returns a name fit for a log: escaped and short.
pub(crate) fn shown(name: &str) -> String {
    name.chars()
        .take(32)
        .flat_map(char::escape_default)
        .collect()
}

#[cfg(test)]
mod tests;
