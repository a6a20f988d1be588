//! Method names: the registered ones as `rsip::Method`, all others as text.
//!
//! In: a token. Out: a name that compares as RFC 3261 §7.1 wants: by case, so `invite` is no
//! INVITE.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use rsip::Method;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::SyntaxError;
use crate::scan::is_token;

/// A method as it stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodName<'a> {
    /// One of the fourteen registered methods.
    Known(Method),
    /// Any other token.
    Other(&'a str),
}

impl<'a> MethodName<'a> {
    /// Returns the name of `text`; the case of the letters counts (RFC 3261 §7.1).
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        known(text).map_or(MethodName::Other(text), MethodName::Known)
    }

    /// Returns the name as written on the wire.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        match self {
            MethodName::Known(method) => method_text(*method),
            MethodName::Other(text) => text,
        }
    }

    /// Tells whether it is the registered `method`.
    #[must_use]
    pub fn is(&self, method: Method) -> bool {
        *self == MethodName::Known(method)
    }

    /// Returns the registered method, if it is one.
    #[must_use]
    pub const fn known(&self) -> Option<Method> {
        match self {
            MethodName::Known(method) => Some(*method),
            MethodName::Other(_) => None,
        }
    }

    /// Returns a copy that borrows nothing.
    #[must_use]
    pub fn to_owned(&self) -> MethodOwned {
        match self {
            MethodName::Known(method) => MethodOwned::Known(*method),
            MethodName::Other(text) => MethodOwned::Other((*text).to_owned()),
        }
    }
}

impl fmt::Display for MethodName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A method that borrows nothing; its text form is the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MethodOwned {
    /// One of the fourteen registered methods.
    Known(Method),
    /// Any other token.
    Other(String),
}

impl MethodOwned {
    /// Returns the borrowed form.
    #[must_use]
    pub fn as_name(&self) -> MethodName<'_> {
        match self {
            MethodOwned::Known(method) => MethodName::Known(*method),
            MethodOwned::Other(text) => MethodName::Other(text),
        }
    }

    /// Returns the name as written on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.as_name().as_str()
    }

    /// Tells whether it is the registered `method`.
    #[must_use]
    pub fn is(&self, method: Method) -> bool {
        self.as_name().is(method)
    }
}

impl From<Method> for MethodOwned {
    fn from(method: Method) -> Self {
        MethodOwned::Known(method)
    }
}

impl From<MethodName<'_>> for MethodOwned {
    fn from(name: MethodName<'_>) -> Self {
        name.to_owned()
    }
}

impl FromStr for MethodOwned {
    type Err = SyntaxError;

    /// Reads a token (RFC 3261 §25.1 `Method`).
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if text.is_empty() {
            return Err(SyntaxError::Empty);
        }
        if !text.bytes().all(is_token) {
            return Err(SyntaxError::BadCharacter);
        }
        Ok(MethodName::of(text).to_owned())
    }
}

impl fmt::Display for MethodOwned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialOrd for MethodOwned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MethodOwned {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl std::hash::Hash for MethodOwned {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Serialize for MethodOwned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MethodOwned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Returns the registered method of exactly this text; rsip's own reader ignores case.
fn known(text: &str) -> Option<Method> {
    Some(match text {
        "INVITE" => Method::Invite,
        "ACK" => Method::Ack,
        "BYE" => Method::Bye,
        "CANCEL" => Method::Cancel,
        "REGISTER" => Method::Register,
        "OPTIONS" => Method::Options,
        "INFO" => Method::Info,
        "MESSAGE" => Method::Message,
        "NOTIFY" => Method::Notify,
        "PRACK" => Method::PRack,
        "PUBLISH" => Method::Publish,
        "REFER" => Method::Refer,
        "SUBSCRIBE" => Method::Subscribe,
        "UPDATE" => Method::Update,
        _ => return None,
    })
}

const fn method_text(method: Method) -> &'static str {
    match method {
        Method::Invite => "INVITE",
        Method::Ack => "ACK",
        Method::Bye => "BYE",
        Method::Cancel => "CANCEL",
        Method::Register => "REGISTER",
        Method::Options => "OPTIONS",
        Method::Info => "INFO",
        Method::Message => "MESSAGE",
        Method::Notify => "NOTIFY",
        Method::PRack => "PRACK",
        Method::Publish => "PUBLISH",
        Method::Refer => "REFER",
        Method::Subscribe => "SUBSCRIBE",
        Method::Update => "UPDATE",
    }
}
