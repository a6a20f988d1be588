//! Hosts: names, IPv4 addresses and IPv6 references (RFC 3261 §25.1 `host`, RFC 5118, RFC 5954).
//!
//! In: text. Out: a typed host that compares as RFC 3261 §19.1.4 wants. It resolves nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::SyntaxError;

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A name, lower case.
    Name(String),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address; written in brackets.
    V6(Ipv6Addr),
}

impl Host {
    /// Returns the address, if it is one.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Host::Name(_) => None,
            Host::V4(address) => Some(IpAddr::V4(*address)),
            Host::V6(address) => Some(IpAddr::V6(*address)),
        }
    }
}

impl FromStr for Host {
    type Err = SyntaxError;

    /// Reads a host.
    ///
    /// Stricter than the grammar: a name that ends in a label of digits must be an IPv4 address of
    /// four decimal numbers without leading zeros, since `127.1` and `010.0.0.1` mean different
    /// hosts to different resolvers. Laxer: a name may hold `_`, as many do.
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(SyntaxError::BadHost)?;
            return inner
                .parse()
                .map(Host::V6)
                .map_err(|_| SyntaxError::BadHost);
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let last = name.rsplit('.').next().unwrap_or("");
        if last.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err(SyntaxError::BadHost);
        }
        if last.bytes().all(|octet| octet.is_ascii_digit()) {
            return text.parse().map(Host::V4).map_err(|_| SyntaxError::BadHost);
        }
        if !name.bytes().all(is_name_octet) || name.split('.').any(str::is_empty) {
            return Err(SyntaxError::BadHost);
        }
        Ok(Host::Name(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::V4(address) => write!(f, "{address}"),
            Host::V6(address) => write!(f, "[{address}]"),
        }
    }
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

const fn is_name_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_')
}

/// Longest host name (RFC 1035 §2.3.4), its final dot included.
const NAME_BYTES_MAX: usize = 255;
