//! Reads a message once and notes where its parts stand; values are typed when somebody asks.
//!
//! In: a datagram or a frame. Out: an index of spans, or what is wrong. One pass over the lines,
//! one over the octets of the header fields. If a field is folded, the octets are copied once and
//! the line ends inside become spaces, which RFC 3261 §7.3.1 calls the same. It checks what every
//! later step relies on (limits, line ends, start line, mandatory and single fields, CSeq,
//! Content-Length); `Message::check` types the rest.

use bytes::{Bytes, BytesMut};
use contract::limits::{SIP_HEADERS_MAX, SIP_LINE_BYTES_MAX, SIP_MESSAGE_BYTES_MAX};

use crate::error::{HeaderError, ReadError, SyntaxError};
use crate::header::HeaderName;
use crate::headers::read_cseq;
use crate::scan::{is_token, number, trim};
use crate::start::{StartSpan, read_broken_start, read_start};

/// One header field: its type, and where its name and value stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: HeaderName,
    pub(crate) name_start: u32,
    pub(crate) name_end: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// Where everything stands in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) start: StartSpan,
    pub(crate) fields: Vec<Field>,
    pub(crate) body: u32,
    pub(crate) end: u32,
}

/// Reads a message strictly.
pub(crate) fn read(bytes: Bytes) -> Result<(Bytes, Index), ReadError> {
    Reader {
        bytes,
        is_lenient: false,
    }
    .run()
}

/// Reads as much of a broken request as an answer needs.
pub(crate) fn read_leniently(bytes: Bytes) -> Option<(Bytes, Index)> {
    Reader {
        bytes,
        is_lenient: true,
    }
    .run()
    .ok()
}

/// What the pass over the lines finds.
struct Head {
    fields: Vec<Field>,
    body: u32,
    has_folds: bool,
}

struct Reader {
    bytes: Bytes,
    is_lenient: bool,
}

impl Reader {
    fn run(mut self) -> Result<(Bytes, Index), ReadError> {
        self.skip_empty_lines();
        if self.bytes.len() > SIP_MESSAGE_BYTES_MAX {
            self.note(ReadError::TooLarge)?;
            self.bytes.truncate(SIP_MESSAGE_BYTES_MAX);
        }
        let first_end = self.line_end(0)?;
        let start = self.read_start(first_end)?;
        let Head {
            fields,
            body,
            has_folds,
        } = self.read_fields(first_end)?;
        self.check_octets(body as usize)?;
        if has_folds {
            self.unfold(body as usize);
        }
        let end = self.check_fields(&start, &fields, body)?;
        Ok((
            self.bytes,
            Index {
                start,
                fields,
                body,
                end,
            },
        ))
    }

    /// Fails, unless reading only for an error answer.
    fn note(&self, error: ReadError) -> Result<(), ReadError> {
        if self.is_lenient { Ok(()) } else { Err(error) }
    }

    /// Drops empty lines before the start line (RFC 3261 §7.5).
    fn skip_empty_lines(&mut self) {
        let octets = &self.bytes[..];
        let empty = octets
            .chunks_exact(2)
            .take_while(|pair| *pair == b"\r\n")
            .count();
        if empty > 0 {
            self.bytes = self.bytes.slice(2 * empty..);
        }
    }

    /// Returns where the line that begins at `from` ends: the offset of its CR, which an LF
    /// follows.
    fn line_end(&self, from: usize) -> Result<usize, ReadError> {
        let rest = self.bytes.get(from..).unwrap_or(&[]);
        let width = memchr::memchr(b'\r', rest).ok_or(ReadError::NoEmptyLine)?;
        match rest.get(width + 1) {
            Some(b'\n') if width <= SIP_LINE_BYTES_MAX => Ok(from + width),
            Some(b'\n') => Err(ReadError::LineTooLong),
            Some(_) => Err(ReadError::ControlCharacter),
            None => Err(ReadError::NoEmptyLine),
        }
    }

    fn read_start(&self, end: usize) -> Result<StartSpan, ReadError> {
        let line = &self.bytes[..end];
        match read_start(line, 0) {
            Ok(start) => Ok(start),
            Err(error) if self.is_lenient => read_broken_start(line, 0).ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// Notes the fields up to the empty line.
    fn read_fields(&self, first_end: usize) -> Result<Head, ReadError> {
        let mut fields: Vec<Field> = Vec::with_capacity(24);
        let mut has_folds = false;
        let mut at = first_end + 2;
        loop {
            let end = self.line_end(at)?;
            let next = end + 2;
            if end == at {
                return Ok(Head {
                    fields,
                    body: offset(next),
                    has_folds,
                });
            }
            if matches!(self.bytes[at], b' ' | b'\t') {
                has_folds = true;
                self.extend_last(&mut fields, at, end)?;
            } else if fields.len() == SIP_HEADERS_MAX {
                return Err(ReadError::TooManyHeaders);
            } else if let Some(field) = self.read_field(at, end) {
                fields.push(field);
            } else {
                self.note(ReadError::HeaderLine)?;
            }
            at = next;
        }
    }

    /// Adds a folded line to the field before it.
    fn extend_last(&self, fields: &mut [Field], at: usize, end: usize) -> Result<(), ReadError> {
        let Some(last) = fields.last_mut() else {
            return self.note(ReadError::HeaderLine);
        };
        if end - last.name_start as usize > SIP_LINE_BYTES_MAX {
            return Err(ReadError::LineTooLong);
        }
        let line = trimmed(&self.bytes, at, end);
        if line.is_empty() {
            return Ok(());
        }
        if last.start == last.end {
            last.start = offset(line.start);
        }
        last.end = offset(line.end);
        Ok(())
    }

    /// Reads `name HCOLON value` (RFC 3261 §7.3.1).
    fn read_field(&self, at: usize, end: usize) -> Option<Field> {
        let line = self.bytes.get(at..end)?;
        let colon = memchr::memchr(b':', line)?;
        let mut width = colon;
        while width > 0 && is_blank(line[width - 1]) {
            width -= 1;
        }
        let written = line.get(..width)?;
        let name = HeaderName::of(written);
        let is_sound = name != HeaderName::Other
            || !written.is_empty() && written.iter().copied().all(is_token);
        let value = trimmed(&self.bytes, at + colon + 1, end);
        is_sound.then(|| Field {
            name,
            name_start: offset(at),
            name_end: offset(at + width),
            start: offset(value.start),
            end: offset(value.end),
        })
    }

    /// Refuses control octets outside quoted pairs, bare LF, and text that is not UTF-8.
    ///
    /// Every CR has been seen to end a line. Only bitwise steps, so that the loop is done many
    /// octets at a time; the first octet belongs to the start line and is a letter.
    fn check_octets(&self, end: usize) -> Result<(), ReadError> {
        let head = &self.bytes[..end];
        let (mut odd, mut bare, mut wide) = (0_u8, 0_u8, 0_u8);
        for (before, octet) in head.iter().zip(&head[1..]) {
            let is_feed = u8::from(*octet == b'\n');
            let is_plain = u8::from(*octet == b'\t') | u8::from(*octet == b'\r') | is_feed;
            let is_control = u8::from(*octet < 0x20) | u8::from(*octet == 0x7f);
            odd |= is_control & (is_plain ^ 1);
            bare |= is_feed & u8::from(*before != b'\r');
            wide |= *octet;
        }
        if bare != 0 {
            return Err(ReadError::ControlCharacter);
        }
        if odd != 0 && !head.iter().enumerate().all(|(at, _)| is_sound(head, at)) {
            return Err(ReadError::ControlCharacter);
        }
        if wide >= 0x80 && std::str::from_utf8(head).is_err() {
            return Err(ReadError::NotUtf8);
        }
        Ok(())
    }

    /// Makes spaces of the line ends inside folded fields.
    fn unfold(&mut self, body: usize) {
        let mut copy = BytesMut::from(&self.bytes[..]);
        for at in 2..body.saturating_sub(2) {
            let is_fold = copy[at - 2] == b'\r' && copy[at - 1] == b'\n' && is_blank(copy[at]);
            if is_fold {
                copy[at - 2] = b' ';
                copy[at - 1] = b' ';
            }
        }
        self.bytes = copy.freeze();
    }

    /// Checks single and mandatory fields, CSeq and Content-Length; returns where the body ends.
    fn check_fields(
        &self,
        start: &StartSpan,
        fields: &[Field],
        body: u32,
    ) -> Result<u32, ReadError> {
        let mut seen = 0_u128;
        for field in fields {
            let bit = 1_u128 << (field.name as u8);
            if seen & bit != 0 && field.name.is_single() {
                self.note(ReadError::Duplicate(field.name))?;
            }
            seen |= bit;
        }
        for name in MANDATORY {
            if seen & (1 << (name as u8)) == 0 {
                return Err(ReadError::Header(HeaderError::Missing(name)));
            }
        }
        let of = |name| fields.iter().find(|field| field.name == name);
        self.check_call_id(of(HeaderName::CallId))?;
        self.check_cseq(start, of(HeaderName::CSeq))?;
        self.body_end(of(HeaderName::ContentLength), body)
    }

    fn check_call_id(&self, field: Option<&Field>) -> Result<(), ReadError> {
        let text = field.map_or("", |field| self.value(field));
        if text.is_empty() || text.bytes().any(|octet| octet.is_ascii_whitespace()) {
            // Not even an error answer could be matched by it.
            return Err(malformed(HeaderName::CallId, SyntaxError::BadCharacter));
        }
        Ok(())
    }

    fn check_cseq(&self, start: &StartSpan, field: Option<&Field>) -> Result<(), ReadError> {
        let text = field.map_or("", |field| self.value(field));
        let (_, cseq_method) = match read_cseq(text) {
            Ok(cseq) => cseq,
            Err(cause) => return self.note(malformed(HeaderName::CSeq, cause)),
        };
        match start {
            StartSpan::Request { method, .. } => {
                let method = &self.bytes[method.start as usize..method.end as usize];
                if method == cseq_method.as_bytes() {
                    Ok(())
                } else {
                    self.note(ReadError::MethodMismatch)
                }
            }
            StartSpan::Response { .. } => Ok(()),
        }
    }

    /// Returns where the body ends (RFC 3261 §18.3): octets after Content-Length do not belong to
    /// it.
    fn body_end(&self, field: Option<&Field>, body: u32) -> Result<u32, ReadError> {
        let all = offset(self.bytes.len());
        let Some(field) = field else { return Ok(all) };
        let length: u32 = match number(self.value(field)) {
            Ok(length) => length,
            Err(cause) => {
                self.note(malformed(HeaderName::ContentLength, cause))?;
                return Ok(body);
            }
        };
        match body.checked_add(length).filter(|end| *end <= all) {
            Some(end) => Ok(end),
            None => {
                self.note(ReadError::ShortBody)?;
                Ok(body)
            }
        }
    }

    fn value(&self, field: &Field) -> &str {
        let octets = self
            .bytes
            .get(field.start as usize..field.end as usize)
            .unwrap_or(&[]);
        trim(std::str::from_utf8(octets).unwrap_or(""))
    }
}

/// Fields without which nothing can be answered or matched (RFC 3261 §8.1.1, §8.2.6.2).
/// Max-Forwards is not among them: RFC 2543 peers send none (§16.3 item 3).
const MANDATORY: [HeaderName; 5] = [
    HeaderName::Via,
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
];

const fn malformed(header: HeaderName, cause: SyntaxError) -> ReadError {
    ReadError::Header(HeaderError::Malformed { header, cause })
}

const fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// Tells whether an octet is text, part of a line end (checked before), or quoted by a backslash.
fn is_sound(head: &[u8], at: usize) -> bool {
    let octet = head[at];
    let before = at.checked_sub(1).map(|before| head[before]);
    match octet {
        b'\t' | b'\r' | b'\n' => true,
        0..=0x1f | 0x7f => before == Some(b'\\'),
        _ => true,
    }
}

/// Returns the part of a line without white space around it; an empty one stands at the line's end.
fn trimmed(bytes: &[u8], mut start: usize, mut end: usize) -> std::ops::Range<usize> {
    while start < end && is_blank(bytes[start]) {
        start += 1;
    }
    while end > start && is_blank(bytes[end - 1]) {
        end -= 1;
    }
    start..end
}

/// Returns an offset that fits, since a message is bounded by `SIP_MESSAGE_BYTES_MAX`.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
