//! `name-addr` and `addr-spec` with header parameters: From, To, Route and their kin.
//!
//! In: one value. Out: display name, URI, parameters. Without angle brackets every parameter
//! belongs to the header field, not to the URI (RFC 3261 §20.10).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::SyntaxError;
use crate::params::Params;
use crate::scan::{Scan, is_space, trim};
use crate::uri::Uri;

/// A URI with a display name and header parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr {
    /// The name for people, without quotes, escapes and control characters.
    pub display: Option<String>,
    /// The address.
    pub uri: Uri,
    /// What follows, such as `tag`.
    pub params: Params,
}

impl NameAddr {
    /// Returns an address without display name and parameters.
    #[must_use]
    pub const fn new(uri: Uri) -> Self {
        Self {
            display: None,
            uri,
            params: Params::new(),
        }
    }

    /// Returns the tag (RFC 3261 §19.3).
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.params.value("tag")
    }

    /// Sets the tag.
    pub fn set_tag(&mut self, tag: &str) {
        self.params.set("tag", Some(tag));
    }

    /// Reads one value, up to a comma or the end.
    pub(crate) fn read(scan: &mut Scan<'_>) -> Result<Self, SyntaxError> {
        scan.skip_space();
        let start = *scan;
        let (display, uri) = match scan.peek() {
            None => return Err(SyntaxError::Empty),
            Some(b'"') => (read_quoted_display(scan)?, read_angled_uri(scan)?),
            Some(b'<') => (None, read_angled_uri(scan)?),
            Some(_) => {
                let text = scan.take_while(|octet| !matches!(octet, b'<' | b'"'));
                if scan.peek() == Some(b'<') && is_plain_display(text) {
                    (Some(trim(text).to_owned()), read_angled_uri(scan)?)
                } else {
                    *scan = start;
                    (None, read_bare_uri(scan)?)
                }
            }
        };
        Ok(Self {
            display,
            uri,
            params: Params::read(scan)?,
        })
    }
}

impl FromStr for NameAddr {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut scan = Scan::new(text);
        let value = NameAddr::read(&mut scan)?;
        scan.end()?;
        Ok(value)
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            f.write_str("\"")?;
            for character in display.chars() {
                if matches!(character, '"' | '\\') {
                    f.write_str("\\")?;
                }
                write!(f, "{character}")?;
            }
            f.write_str("\" ")?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

impl Serialize for NameAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NameAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn read_quoted_display(scan: &mut Scan<'_>) -> Result<Option<String>, SyntaxError> {
    let quoted = scan.quoted()?;
    scan.skip_space();
    let mut display = crate::params::unquote(quoted);
    display.retain(|character| !character.is_control());
    Ok(Some(display).filter(|text| !text.is_empty()))
}

fn read_angled_uri(scan: &mut Scan<'_>) -> Result<Uri, SyntaxError> {
    Uri::read(scan.angled()?)
}

/// Reads a URI without brackets; a comma, semicolon or question mark ends it (RFC 3261 §20.10).
fn read_bare_uri(scan: &mut Scan<'_>) -> Result<Uri, SyntaxError> {
    Uri::read(scan.take_while(|octet| !is_space(octet) && !matches!(octet, b',' | b';' | b'?')))
}

/// Tells whether unquoted text may be a display name. Laxer than tokens, since phones send dots,
/// slashes and accents bare; strict about what would make a value ambiguous.
fn is_plain_display(text: &str) -> bool {
    !text.bytes().any(|octet| {
        matches!(octet, b',' | b';' | b'>' | b'\\') || octet.is_ascii_control() && octet != b'\t'
    })
}
