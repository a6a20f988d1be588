//! The one codec of everything stored or shipped: bincode 2 with a size limit.
//!
//! In: values with serde. Out: bytes, and values back from untrusted bytes. A length that the
//! input claims is checked against the octets that are left before anything is allocated
//! (`codec/wary.rs`).

mod wary;

use std::cell::Cell;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::serde::OwnedSerdeDecoder;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::wary::{Octets, Wary};

use crate::FaultClass;
use crate::limits::CODEC_BYTES_MAX;

type Config = Configuration<LittleEndian, Fixint, Limit<{ CODEC_BYTES_MAX }>>;

fn config() -> Config {
    bincode::config::standard()
        .with_fixed_int_encoding()
        .with_limit::<{ CODEC_BYTES_MAX }>()
}

/// Why bytes could not be turned into a value, or a value into bytes.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value does not fit the limit or cannot be encoded.
    #[error("encoding {what}: {detail}")]
    Encode {
        /// Name of the type.
        what: &'static str,
        /// What the encoder said.
        detail: String,
    },
    /// The bytes are not a value of this type.
    #[error("decoding {what}: {detail}")]
    Decode {
        /// Name of the type.
        what: &'static str,
        /// What the decoder said.
        detail: String,
    },
}

impl CodecError {
    /// Tells whose fault it is.
    #[must_use]
    pub fn class(&self) -> FaultClass {
        match self {
            CodecError::Encode { .. } => FaultClass::Bug,
            CodecError::Decode { .. } => FaultClass::Reject,
        }
    }
}

/// Encodes a value.
///
/// # Errors
/// `Encode` if the value is larger than `CODEC_BYTES_MAX`.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    bincode::serde::encode_to_vec(value, config()).map_err(|error| CodecError::Encode {
        what: std::any::type_name::<T>(),
        detail: error.to_string(),
    })
}

/// Decodes a value that must fill the bytes exactly.
///
/// # Errors
/// `Decode` if the bytes are no such value, or bytes are left over.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let what = std::any::type_name::<T>();
    let refused = |detail| CodecError::Decode { what, detail };
    if bytes.len() > CODEC_BYTES_MAX {
        return Err(refused(format!("{} octets", bytes.len())));
    }
    let at = Cell::new(0);
    let octets = Octets {
        all: bytes,
        at: &at,
    };
    let mut decoder = OwnedSerdeDecoder::from_reader(octets, config());
    let inner = decoder.as_deserializer();
    let value = T::deserialize(Wary { inner, octets }).map_err(|why| refused(why.to_string()))?;
    let used = at.get();
    if used == bytes.len() {
        Ok(value)
    } else {
        Err(refused(format!("{} octets left over", bytes.len() - used)))
    }
}
