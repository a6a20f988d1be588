//! STUN as ICE uses it (RFC 8489; RFC 8445 §7, §16): a codec without state.
//!
//! In: datagrams, or what a message shall say. Out: a typed view that borrows from the datagram, or
//! octets in the caller's buffer. It sends nothing, keeps no transaction and knows only Binding;
//! who may say what is `path`'s business.
//!
//! ```text
//! 0                   1                   2                   3
//! |0 0|   method + class          |  length of what follows   |
//! |                magic cookie 0x2112A442                    |
//! |                transaction number, 96 bits                |
//! | type | length | value, padded to 4 | ... MESSAGE-INTEGRITY, FINGERPRINT last
//! ```

mod reader;
mod writer;

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod tests;

use contract::FaultClass;
use hmac::{Hmac, Mac};
use sha1::Sha1;

pub use reader::{ErrorCode, Message, Unknown, username};
pub use writer::Writer;

/// Octets of the header (RFC 8489 §5).
pub const HEADER_BYTES: usize = 20;

/// Second word of every message (RFC 8489 §5).
const MAGIC_COOKIE: u32 = 0x2112_A442;

/// Octets of MESSAGE-INTEGRITY's value: a SHA-1 (RFC 8489 §14.5).
const INTEGRITY_BYTES: usize = 20;

/// What the CRC-32 is combined with (RFC 8489 §14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554E;

/// The only method ICE uses (RFC 8489 §18.2).
pub const BINDING: u16 = 0x001;

/// Numbers of attributes (RFC 8489 §18.3; RFC 8445 §16.1).
mod attribute {
    pub(super) const MAPPED_ADDRESS: u16 = 0x0001;
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    pub(super) const REALM: u16 = 0x0014;
    pub(super) const NONCE: u16 = 0x0015;
    pub(super) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const PRIORITY: u16 = 0x0024;
    pub(super) const USE_CANDIDATE: u16 = 0x0025;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    pub(super) const ICE_CONTROLLED: u16 = 0x8029;
    pub(super) const ICE_CONTROLLING: u16 = 0x802A;
    /// draft-thatcher-ice-renomination-01 §3, with the number that browsers use.
    pub(super) const NOMINATION: u16 = 0xC001;
}

/// Class of a message (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Asks.
    Request,
    /// Tells, without an answer.
    Indication,
    /// Answers well.
    Success,
    /// Answers that it could not be done.
    Error,
}

/// Number of a transaction (RFC 8489 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionId(pub [u8; 12]);

/// What the sender of a check thinks it is, with its tie-breaker (RFC 8445 §7.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It nominates.
    Controlling(u64),
    /// The other one does.
    Controlled(u64),
}

/// Why octets are no STUN message, or a message was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// Header, length or an attribute breaks RFC 8489 §5 or §14.
    #[error("the STUN message is malformed")]
    Malformed,
    /// More than `STUN_ATTRIBUTES_MAX` attributes.
    #[error("the STUN message has too many attributes")]
    TooMany,
    /// FINGERPRINT is not the CRC of the message (RFC 8489 §14.7).
    #[error("the FINGERPRINT of the STUN message is wrong")]
    Fingerprint,
    /// What is to be written is larger than the buffer.
    #[error("the STUN message does not fit its buffer")]
    Full,
}

impl StunError {
    /// Returns whose fault it is.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            StunError::Malformed | StunError::TooMany | StunError::Fingerprint => {
                FaultClass::Reject
            }
            StunError::Full => FaultClass::Bug,
        }
    }
}

/// A password made ready for MESSAGE-INTEGRITY (RFC 8489 §9.1.1, short-term credentials).
///
/// Deviation: the OpaqueString profile is not applied: ICE passwords are ice-chars (RFC 8839 §5.4).
#[derive(Clone)]
pub struct IntegrityKey(Hmac<Sha1>);

impl IntegrityKey {
    /// Prepares a key; passwords of any length are keys.
    #[must_use]
    pub fn new(password: &[u8]) -> Self {
        let mac = <Hmac<Sha1> as Mac>::new_from_slice(password);
        IntegrityKey(mac.expect("HMAC takes keys of any length (RFC 2104 §2)"))
    }

    /// Starts the code of a message whose MESSAGE-INTEGRITY would stand at the end of `before`.
    fn over(&self, before: &[u8]) -> Hmac<Sha1> {
        let mut mac = self.0.clone();
        mac.update(&before[..2]);
        mac.update(&counted_length(before.len() + 4 + INTEGRITY_BYTES));
        mac.update(&before[4..]);
        mac
    }
}

impl std::fmt::Debug for IntegrityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IntegrityKey")
    }
}

/// Tells whether a datagram on a shared port is STUN (RFC 7983 §7, RFC 8489 §6.3): its first octet
/// is 0 to 3, and the magic cookie is there.
#[must_use]
pub fn is_stun(packet: &[u8]) -> bool {
    packet.len() >= HEADER_BYTES && packet[0] < 4 && packet[4..8] == MAGIC_COOKIE.to_be_bytes()
}

/// Returns the length field of a message that would end at `end`.
fn counted_length(end: usize) -> [u8; 2] {
    u16::try_from(end - HEADER_BYTES)
        .unwrap_or(u16::MAX)
        .to_be_bytes()
}

/// Returns FINGERPRINT's value for a message of which it would stand at the end of `before`.
fn fingerprint(before: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&before[..2]);
    crc.update(&counted_length(before.len() + 8));
    crc.update(&before[4..]);
    crc.finalize() ^ FINGERPRINT_XOR
}
