//! Octets of the wire in a stored form: whole for us, only their first line for people, since
//! header fields may hold credentials.

use std::fmt;

use bytes::Bytes;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Stored octets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Wire(pub(crate) Bytes);

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({} octets)", self.0.len())
    }
}

/// A stored message, read.
#[derive(Clone, Debug)]
pub(crate) struct WireMessage(pub(crate) sip::Message);

impl Wire {
    /// Takes octets that may be missing.
    pub(crate) fn of(bytes: Option<&Bytes>) -> Option<Wire> {
        bytes.map(|bytes| Wire(bytes.clone()))
    }

    /// Returns the octets of what may be missing.
    pub(crate) fn bytes(wire: Option<&Wire>) -> Option<Bytes> {
        wire.map(|wire| wire.0.clone())
    }
}

impl Serialize for Wire {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(&self.0, serializer)
    }
}

impl Serialize for WireMessage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(self.0.bytes(), serializer)
    }
}

impl<'de> Deserialize<'de> for Wire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(|octets| Wire(Bytes::from(octets)))
    }
}

impl<'de> Deserialize<'de> for WireMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let octets = Vec::<u8>::deserialize(deserializer)?;
        let message = sip::Message::read(Bytes::from(octets)).map_err(D::Error::custom)?;
        Ok(WireMessage(message))
    }
}

fn write<S: Serializer>(octets: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&crate::lane::first_line(octets))
    } else {
        octets.as_ref().serialize(serializer)
    }
}
