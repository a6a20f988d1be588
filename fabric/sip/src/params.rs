//! Parameters behind a semicolon, of URIs and of header values.
//!
//! In: `;name=value` pieces. Out: look-ups that ignore the case of names. The text is kept in one
//! string in the order written, without white space around the separators, so that a copy is one
//! allocation and writing is free. Values keep their quotes and escapes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::SyntaxError;
use crate::scan::{Scan, is_space};

/// An ordered list of parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Params {
    text: String,
}

impl Params {
    /// Returns an empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            text: String::new(),
        }
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Returns name and value of each, in order; a flag has no value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        pieces(&self.text).map(|piece| match piece.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (piece, None),
        })
    }

    /// Tells whether the parameter is there, with or without a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.iter()
            .any(|(found, _)| found.eq_ignore_ascii_case(name))
    }

    /// Returns the value as written; `None` if it is missing or a flag.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))?
            .1
    }

    /// Returns the value with its quotes and quoted pairs taken off.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(unquote)
    }

    /// Sets a parameter, in its old place if it was there, else at the end.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        let mut text = String::with_capacity(self.text.len() + name.len() + 24);
        let mut is_set = false;
        for (found, old) in self.iter() {
            if !found.eq_ignore_ascii_case(name) {
                push(&mut text, found, old);
            } else if !is_set {
                push(&mut text, found, value);
                is_set = true;
            }
        }
        if !is_set {
            push(&mut text, name, value);
        }
        self.text = text;
    }

    /// Removes a parameter.
    pub fn remove(&mut self, name: &str) {
        if !self.has(name) {
            return;
        }
        let mut text = String::with_capacity(self.text.len());
        for (found, value) in self
            .iter()
            .filter(|(found, _)| !found.eq_ignore_ascii_case(name))
        {
            push(&mut text, found, value);
        }
        self.text = text;
    }

    /// Reads `*( SEMI generic-param )` (RFC 3261 §25.1), up to a comma or the end.
    pub(crate) fn read(scan: &mut Scan<'_>) -> Result<Self, SyntaxError> {
        let mut params = Self {
            text: String::new(),
        };
        loop {
            scan.skip_space();
            if !scan.eat(b';') {
                return Ok(params);
            }
            let (name, value) = read_param(scan)?;
            if params.text.is_empty() {
                params.text.reserve(name.len() + scan.rest().len() + 32);
            }
            push(&mut params.text, name, value);
        }
    }

    /// Takes over text of the form `;name=value…` whose characters have been checked.
    pub(crate) fn checked(text: &str) -> Self {
        Self {
            text: text.to_owned(),
        }
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads one `name [= value]` of a header field.
pub(crate) fn read_param<'a>(
    scan: &mut Scan<'a>,
) -> Result<(&'a str, Option<&'a str>), SyntaxError> {
    scan.skip_space();
    let name = scan.take_while(|octet| is_plain_value(octet) && octet != b'=');
    if name.is_empty() {
        return Err(SyntaxError::BadParameter);
    }
    scan.skip_space();
    if !scan.eat(b'=') {
        return Ok((name, None));
    }
    scan.skip_space();
    let value = if scan.peek() == Some(b'"') {
        scan.quoted()?
    } else {
        scan.take_while(is_plain_value)
    };
    if value.is_empty() {
        return Err(SyntaxError::BadParameter);
    }
    Ok((name, Some(value)))
}

/// Takes the quotes and quoted pairs off a value (RFC 3261 §25.1 `quoted-string`).
pub(crate) fn unquote(value: &str) -> String {
    let Some(inner) = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return value.to_owned();
    };
    let mut text = String::with_capacity(inner.len());
    let mut is_escaped = false;
    for character in inner.chars() {
        if character == '\\' && !is_escaped {
            is_escaped = true;
        } else {
            text.push(character);
            is_escaped = false;
        }
    }
    text
}

fn push(text: &mut String, name: &str, value: Option<&str>) {
    text.push(';');
    text.push_str(name);
    if let Some(value) = value {
        text.push('=');
        text.push_str(value);
    }
}

/// What a name and an unquoted value may hold: tokens and hosts, and more than the grammar allows,
/// since others generate it; not what would end the parameter.
const fn is_plain_value(octet: u8) -> bool {
    !is_space(octet)
        && octet >= 0x20
        && octet != 0x7f
        && !matches!(octet, b';' | b',' | b'<' | b'>' | b'"')
}

/// Splits at the semicolons outside quotes.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.strip_prefix(';');
    std::iter::from_fn(move || {
        let current = rest?;
        let end = piece_end(current);
        rest = end.and_then(|at| current.get(at + 1..));
        current.get(..end.unwrap_or(current.len()))
    })
}

fn piece_end(text: &str) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b';' if !is_quoted => return Some(at),
            _ => {}
        }
    }
    None
}
