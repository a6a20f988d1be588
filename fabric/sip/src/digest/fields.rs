//! The comma list of `name=value` behind `Digest`, shared by challenges and credentials
//! (RFC 7616 §3.3, §3.4).
//!
//! In: the value of a header field. Out: values by name, quotes and escapes taken off. A name that
//! stands twice is refused: two readers of the message might pick different ones.

use contract::FaultClass;

use crate::error::SyntaxError;
use crate::params::{read_param, unquote};
use crate::scan::Scan;

/// Why a challenge or credentials cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Another scheme than Digest.
    #[error("scheme is not Digest")]
    NotDigest,
    /// Not a list of `name=value`.
    #[error("malformed: {0}")]
    Malformed(SyntaxError),
    /// A parameter stands twice.
    #[error("parameter stands twice")]
    Duplicate,
    /// A parameter that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A parameter has a value it cannot have.
    #[error("{0} has a bad value")]
    BadValue(&'static str),
    /// A way of naming the user that we never offer: `userhash` or `username*`.
    #[error("hashed or extended user name")]
    UserForm,
}

impl DigestError {
    /// Returns whose fault it is: the peer's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Reject
    }
}

/// Parameters of one Digest value, in order.
pub(super) struct Fields<'a> {
    list: Vec<(&'a str, &'a str)>,
}

impl<'a> Fields<'a> {
    pub(super) fn read(value: &'a str) -> Result<Self, DigestError> {
        let mut scan = Scan::new(value);
        scan.skip_space();
        let scheme = scan.token().map_err(DigestError::Malformed)?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return Err(DigestError::NotDigest);
        }
        let mut fields = Fields { list: Vec::new() };
        loop {
            let (name, value) = read_param(&mut scan).map_err(DigestError::Malformed)?;
            let value = value.ok_or(DigestError::Malformed(SyntaxError::BadParameter))?;
            if fields.raw(name).is_some() {
                return Err(DigestError::Duplicate);
            }
            fields.list.push((name, value));
            scan.skip_space();
            if !scan.eat(b',') {
                scan.end().map_err(DigestError::Malformed)?;
                return Ok(fields);
            }
            if fields.list.len() >= FIELDS_MAX {
                return Err(DigestError::Malformed(SyntaxError::BadParameter));
            }
        }
    }

    /// Returns a value without its quotes.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.raw(name).map(unquote)
    }

    /// Returns a value without its quotes, or which one is missing.
    pub(super) fn require(&self, name: &'static str) -> Result<String, DigestError> {
        self.text(name).ok_or(DigestError::Missing(name))
    }

    fn raw(&self, name: &str) -> Option<&'a str> {
        let mut found = self
            .list
            .iter()
            .filter(|(given, _)| given.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| *value)
    }
}

/// Writes a quoted string (RFC 3261 §25.1).
pub(super) fn quote(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
    text
}

/// Parameters of one value: twice those that RFC 7616 and RFC 8760 define.
const FIELDS_MAX: usize = 32;
