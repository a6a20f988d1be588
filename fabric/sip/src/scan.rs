//! A cursor over the text of one header value, with the few productions all values share.
//!
//! In: text without line ends. Out: pieces of it. It allocates nothing and looks at each octet
//! once.

use crate::error::SyntaxError;

/// Tells whether an octet may stand in a `token` (RFC 3261 §25.1).
pub(crate) const fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
        )
}

/// Tells whether an octet is linear white space; CR and LF count, since a fold may hold them.
pub(crate) const fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

/// A cursor; `at` always stands on a character boundary, since only ASCII is consumed singly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    pub(crate) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Returns the next octet without consuming it.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.at >= self.text.len()
    }

    /// Returns what has not been consumed.
    pub(crate) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Returns the text between an earlier position and this one.
    pub(crate) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or("")
    }

    pub(crate) fn skip_space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    /// Consumes one given ASCII octet, if it is next.
    pub(crate) fn eat(&mut self, octet: u8) -> bool {
        let is_next = self.peek() == Some(octet);
        if is_next {
            self.at += 1;
        }
        is_next
    }

    /// Consumes octets while `wanted` holds; `wanted` must take all octets of a character or none.
    pub(crate) fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
        self.since(start)
    }

    pub(crate) fn token(&mut self) -> Result<&'a str, SyntaxError> {
        let token = self.take_while(is_token);
        if token.is_empty() {
            return Err(self.fault());
        }
        Ok(token)
    }

    /// Consumes a quoted string and returns it with its quotes (RFC 3261 §25.1 `quoted-string`).
    pub(crate) fn quoted(&mut self) -> Result<&'a str, SyntaxError> {
        let start = self.at;
        if !self.eat(b'"') {
            return Err(self.fault());
        }
        while let Some(octet) = self.peek() {
            self.at += 1;
            match octet {
                b'"' => return Ok(self.since(start)),
                b'\\' => self.skip_character(),
                _ => {}
            }
        }
        Err(SyntaxError::Unterminated)
    }

    /// Consumes a bracketed piece `<…>` and returns what is inside.
    pub(crate) fn angled(&mut self) -> Result<&'a str, SyntaxError> {
        if !self.eat(b'<') {
            return Err(self.fault());
        }
        let inner = self.take_while(|octet| octet != b'>' && octet != b'<');
        if !self.eat(b'>') {
            return Err(SyntaxError::Unterminated);
        }
        Ok(inner)
    }

    /// Succeeds if nothing but white space is left.
    pub(crate) fn end(&mut self) -> Result<(), SyntaxError> {
        self.skip_space();
        if self.is_done() {
            Ok(())
        } else {
            Err(SyntaxError::Trailing)
        }
    }

    fn skip_character(&mut self) {
        let width = self.rest().chars().next().map_or(0, char::len_utf8);
        self.at += width;
    }

    fn fault(&self) -> SyntaxError {
        if self.is_done() {
            SyntaxError::Empty
        } else {
            SyntaxError::BadCharacter
        }
    }
}

/// Splits a value at the commas that stand outside quotes and angle brackets (RFC 3261 §7.3.1).
///
/// Pieces are trimmed; an unterminated quote runs to the end of the value. Empty pieces are given
/// too, so that the reader of the piece refuses them.
pub(crate) fn split_list(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = list_comma(text);
        rest = end.and_then(|comma| text.get(comma + 1..));
        Some(
            text.get(..end.unwrap_or(text.len()))
                .unwrap_or("")
                .trim_matches(is_blank),
        )
    })
}

/// Returns where the first list element ends.
fn list_comma(text: &str) -> Option<usize> {
    let (mut is_quoted, mut is_angled, mut is_escaped) = (false, false, false);
    for (at, octet) in text.bytes().enumerate() {
        if is_escaped {
            is_escaped = false;
            continue;
        }
        match octet {
            b'\\' if is_quoted => is_escaped = true,
            b'"' if !is_angled => is_quoted = !is_quoted,
            b'<' if !is_quoted => is_angled = true,
            b'>' if !is_quoted => is_angled = false,
            b',' if !is_quoted && !is_angled => return Some(at),
            _ => {}
        }
    }
    None
}

fn is_blank(character: char) -> bool {
    character.is_ascii() && is_space(character as u8)
}

/// Trims linear white space from both ends.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(is_blank)
}

/// Reads a decimal number of digits only.
pub(crate) fn number<T: std::str::FromStr>(text: &str) -> Result<T, SyntaxError> {
    if text.is_empty() || !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(SyntaxError::BadNumber);
    }
    text.parse().map_err(|_| SyntaxError::BadNumber)
}
