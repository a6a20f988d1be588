//! Cuts a stream into messages and keep-alives (RFC 3261 §18.3, RFC 5626 §3.5.1, §4.4.1).
//!
//! In: octets as they arrive, in any pieces. Out: frames; how the pieces were cut makes no
//! difference. After an error nothing more comes out: the stream cannot be trusted again, the
//! caller answers 400 and closes. Between `push` and the loop over `next` it holds one message and
//! one push.

use bytes::{Buf, Bytes, BytesMut};
use contract::FaultClass;
use contract::limits::{SIP_HEADERS_MAX, SIP_LINE_BYTES_MAX, SIP_MESSAGE_BYTES_MAX};

use crate::header::HeaderName;
use crate::scan::{is_space, is_token, number};

/// A piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message by its own Content-Length; not yet read.
    Message(Bytes),
    /// The second of two empty lines in a row: a ping, answered with one CR LF.
    Ping,
    /// An empty line: the answer to our ping. It is also the first half of a ping, so a server
    /// that sends no pings ignores it.
    Pong,
}

/// Why a stream cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No Content-Length (RFC 3261 §18.3: mandatory on streams).
    #[error("no Content-Length")]
    NoLength,
    /// Content-Length is negative, too large to count, or no number.
    #[error("bad Content-Length")]
    BadLength,
    /// More than one Content-Length.
    #[error("more than one Content-Length")]
    TwoLengths,
    /// A line longer than `SIP_LINE_BYTES_MAX`.
    #[error("line too long")]
    LineTooLong,
    /// More lines than `SIP_HEADERS_MAX`.
    #[error("too many header fields")]
    TooManyHeaders,
    /// A message longer than `SIP_MESSAGE_BYTES_MAX`.
    #[error("message too large")]
    TooLarge,
    /// A line that does not end in CR LF.
    #[error("line ends without CR LF")]
    BareLineFeed,
}

impl FrameError {
    /// Returns the status with which the broken request is answered before the close.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            FrameError::NoLength
            | FrameError::BadLength
            | FrameError::TwoLengths
            | FrameError::BareLineFeed => 400,
            FrameError::LineTooLong | FrameError::TooManyHeaders | FrameError::TooLarge => 513,
        }
    }

    /// Returns whose fault it is: too much is overload, all else the peer's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            FrameError::NoLength
            | FrameError::BadLength
            | FrameError::TwoLengths
            | FrameError::BareLineFeed => FaultClass::Reject,
            FrameError::LineTooLong | FrameError::TooManyHeaders | FrameError::TooLarge => {
                FaultClass::Overload
            }
        }
    }
}

/// The state of one stream.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    line: usize,
    lines: usize,
    searched: usize,
    length: Option<usize>,
    after_empty_line: bool,
    is_broken: bool,
}

impl Framer {
    /// Returns the state of a new stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds octets; the caller then takes frames until there is none. Ignored after an error.
    pub fn push(&mut self, octets: &[u8]) {
        if !self.is_broken {
            self.buffer.extend_from_slice(octets);
        }
    }

    /// Tells whether a message has begun and not ended: the deadline `HEADER_DEADLINE_S` runs.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Returns the octets of the message that broke the stream, for `Message::read_for_error`; an
    /// empty line is put behind them if it was not reached.
    #[must_use]
    pub fn offending(&self) -> Bytes {
        let mut octets = self
            .buffer
            .get(..self.line)
            .unwrap_or(&self.buffer)
            .to_vec();
        octets.truncate(SIP_MESSAGE_BYTES_MAX - 2);
        if !octets.ends_with(b"\r\n\r\n") {
            octets.extend_from_slice(b"\r\n");
        }
        Bytes::from(octets)
    }

    /// Returns the next frame, or `None` until more octets come.
    ///
    /// Errors: one, once; then `None` for ever.
    #[allow(
        clippy::should_implement_trait,
        reason = "more may follow None, unlike an iterator"
    )]
    pub fn next(&mut self) -> Option<Result<Frame, FrameError>> {
        if self.is_broken {
            return None;
        }
        if let Some(frame) = self.empty_line() {
            return Some(Ok(frame));
        }
        let step = match self.length {
            Some(length) => Ok(Some(length)),
            None => self.search_end(),
        };
        match step {
            Ok(length) => self.take_message(length?).map(Ok),
            Err(error) => {
                self.is_broken = true;
                Some(Err(error))
            }
        }
    }

    /// Takes an empty line between messages.
    fn empty_line(&mut self) -> Option<Frame> {
        if self.searched > 0 || !self.buffer.starts_with(b"\r\n") {
            return None;
        }
        self.buffer.advance(2);
        self.after_empty_line = !self.after_empty_line;
        Some(if self.after_empty_line {
            Frame::Pong
        } else {
            Frame::Ping
        })
    }

    fn take_message(&mut self, length: usize) -> Option<Frame> {
        if self.buffer.len() < length {
            return None;
        }
        let message = self.buffer.split_to(length).freeze();
        (self.line, self.lines, self.searched) = (0, 0, 0);
        self.length = None;
        self.after_empty_line = false;
        Some(Frame::Message(message))
    }

    /// Looks for the empty line after the header fields, each octet once; returns the message's
    /// length.
    fn search_end(&mut self) -> Result<Option<usize>, FrameError> {
        while let Some(feed) = self
            .buffer
            .get(self.searched..)
            .and_then(|rest| memchr::memchr(b'\n', rest))
        {
            let end = self.searched + feed;
            let is_bare = end == self.line || self.buffer[end - 1] != b'\r';
            if is_bare {
                return Err(FrameError::BareLineFeed);
            }
            self.check_line(end)?;
            let is_empty = end == self.line + 1;
            (self.line, self.searched) = (end + 1, end + 1);
            self.lines += 1;
            if is_empty {
                return self.find_length(end + 1).map(Some);
            }
            if self.lines > LINES_MAX {
                return Err(FrameError::TooManyHeaders);
            }
        }
        // A lone CR at the very start may be half of an empty line: it is not looked at again
        // later.
        self.searched = if &self.buffer[..] == b"\r" {
            0
        } else {
            self.buffer.len()
        };
        self.check_line(self.buffer.len())?;
        Ok(None)
    }

    fn check_line(&self, end: usize) -> Result<(), FrameError> {
        if end.saturating_sub(self.line) > SIP_LINE_BYTES_MAX {
            return Err(FrameError::LineTooLong);
        }
        if end > SIP_MESSAGE_BYTES_MAX {
            return Err(FrameError::TooLarge);
        }
        Ok(())
    }

    /// Reads Content-Length out of the header fields, which end at `head_end`.
    fn find_length(&mut self, head_end: usize) -> Result<usize, FrameError> {
        let head = &self.buffer[..head_end];
        let mut found = None;
        for field in fields(head) {
            let width = field.iter().take_while(|octet| is_token(**octet)).count();
            if HeaderName::of(&field[..width]) != HeaderName::ContentLength {
                continue;
            }
            if found.is_some() {
                return Err(FrameError::TwoLengths);
            }
            found = Some(read_length(&field[width..])?);
        }
        let length = found.ok_or(FrameError::NoLength)?;
        let total = head_end
            .checked_add(length)
            .filter(|total| *total <= SIP_MESSAGE_BYTES_MAX);
        self.length = Some(total.ok_or(FrameError::TooLarge)?);
        Ok(total.unwrap_or(head_end))
    }
}

/// Reads `HCOLON 1*DIGIT`.
fn read_length(text: &[u8]) -> Result<usize, FrameError> {
    let text = text.trim_ascii();
    let digits = text
        .strip_prefix(b":")
        .ok_or(FrameError::BadLength)?
        .trim_ascii();
    let digits = std::str::from_utf8(digits).map_err(|_| FrameError::BadLength)?;
    number(digits).map_err(|_| FrameError::BadLength)
}

/// Cuts a head into its lines, folded lines kept with the line they continue.
fn fields(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let is_end = |feed: &usize| !rest.get(feed + 1).is_some_and(|next| is_blank(*next));
        let end = memchr::memchr_iter(b'\n', rest)
            .find(is_end)
            .map_or(rest.len(), |feed| feed + 1);
        let (field, after) = rest.split_at(end);
        rest = after;
        Some(field)
    })
}

const fn is_blank(octet: u8) -> bool {
    is_space(octet) && octet != b'\r' && octet != b'\n'
}

/// Lines before the body: start line, header fields, and as many folded lines.
const LINES_MAX: usize = 1 + 2 * SIP_HEADERS_MAX;
