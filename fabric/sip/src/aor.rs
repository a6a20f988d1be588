//! Addresses of record: `user@domain`, in one canonical form (RFC 3261 §10.3 item 5).
//!
//! In: a SIP URI or text. Out: a key. Scheme, port and parameters are gone; the user is unescaped,
//! its case kept; the domain is lower case. It does not know which domains are ours.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::SyntaxError;
use crate::uri::{Host, Uri, unescape};

/// An address of record. Its text is its identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aor {
    text: Box<str>,
    at: usize,
}

impl Aor {
    /// Returns the address of `user` at `domain`.
    ///
    /// Errors: `NoUser` for an empty user.
    pub fn new(user: &str, domain: &Host) -> Result<Self, SyntaxError> {
        let user = unescape(user);
        if user.is_empty() {
            return Err(SyntaxError::NoUser);
        }
        let domain = domain.to_string();
        let text = format!("{user}@{}", domain.strip_suffix('.').unwrap_or(&domain));
        Ok(Self {
            at: user.len(),
            text: text.into_boxed_str(),
        })
    }

    /// Returns the address a SIP or SIPS URI names.
    ///
    /// Errors: `NoUser` without a user part; `BadHost` for schemes without a host.
    pub fn of(uri: &Uri) -> Result<Self, SyntaxError> {
        let host = uri.host().ok_or(SyntaxError::BadHost)?;
        Self::new(uri.user_raw().unwrap_or(""), host)
    }

    /// Returns the user, unescaped.
    #[must_use]
    pub fn user(&self) -> &str {
        self.text.get(..self.at).unwrap_or("")
    }

    /// Returns the domain, lower case.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or("")
    }

    /// Returns the whole text `user@domain`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the same user at another domain.
    ///
    /// Errors: none that an existing user could cause; see `new`.
    pub fn at_domain(&self, domain: &Host) -> Result<Self, SyntaxError> {
        Self::new(self.user(), domain)
    }

    /// Returns `sip:user@domain`, escaped where it must be.
    #[must_use]
    pub fn uri(&self) -> Uri {
        let host = self
            .domain()
            .parse()
            .unwrap_or_else(|_| Host::Name(self.domain().to_owned()));
        Uri::sip(Some(self.user()), host, None)
    }
}

impl FromStr for Aor {
    type Err = SyntaxError;

    /// Reads `user@domain`, with or without `sip:` before it.
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let scheme = text
            .get(..4)
            .filter(|start| start.eq_ignore_ascii_case("sip:"));
        let address = scheme.map_or(text, |start| &text[start.len()..]);
        let (user, domain) = address.rsplit_once('@').ok_or(SyntaxError::NoUser)?;
        if user.bytes().any(|octet| octet < 0x20 || octet == 0x7f) {
            return Err(SyntaxError::BadCharacter);
        }
        Self::new(user, &domain.parse()?)
    }
}

impl fmt::Display for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Aor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Aor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
