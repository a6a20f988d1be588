//! A value as it lies in sled: what tells rot from a value.
//!
//! ```text
//! magic u16 | schema u16 | length u32 | xxh3 of key and payload u64 | payload
//! ```
//! Little-endian. The key is part of the checksum: a value under a wrong key is rot too.

use xxhash_rust::xxh3::Xxh3;

const MAGIC: u16 = 0x7756;
const SCHEMA: u16 = 1;
const HEAD: usize = 16;

/// Returns the stored form of a payload.
pub(super) fn seal(key: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("VALUE_BYTES_MAX fits u32");
    let mut value = Vec::with_capacity(HEAD + payload.len());
    value.extend_from_slice(&MAGIC.to_le_bytes());
    value.extend_from_slice(&SCHEMA.to_le_bytes());
    value.extend_from_slice(&length.to_le_bytes());
    value.extend_from_slice(&checksum(key, payload).to_le_bytes());
    value.extend_from_slice(payload);
    value
}

/// Returns the payload of a stored form, or why it is rotten.
pub(super) fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], &'static str> {
    let (head, payload) = value.split_at_checked(HEAD).ok_or("cut in its head")?;
    if head[..2] != MAGIC.to_le_bytes() {
        return Err("no magic");
    }
    if head[2..4] != SCHEMA.to_le_bytes() {
        return Err("unknown schema");
    }
    let length = u32::try_from(payload.len()).map_err(|_| "too long")?;
    if head[4..8] != length.to_le_bytes() {
        return Err("another length");
    }
    if head[8..] != checksum(key, payload).to_le_bytes() {
        return Err("checksum does not match");
    }
    Ok(payload)
}

fn checksum(key: &[u8], payload: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&key.len().to_le_bytes());
    hash.update(key);
    hash.update(payload);
    hash.digest()
}
