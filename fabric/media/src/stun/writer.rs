//! Writing: what a message shall say becomes octets in the caller's buffer.
//!
//! In: class, transaction number, attributes in the order they are added. Out: a whole message,
//! closed with MESSAGE-INTEGRITY and FINGERPRINT. A buffer that is too small is told at the end.

use std::net::{IpAddr, SocketAddr};

use hmac::Mac;

use super::{
    BINDING, Class, HEADER_BYTES, INTEGRITY_BYTES, IntegrityKey, MAGIC_COOKIE, Role, StunError,
    TransactionId, attribute, counted_length, fingerprint,
};

/// Writes one Binding message.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    length: usize,
    is_full: bool,
    transaction: TransactionId,
}

impl<'a> Writer<'a> {
    /// Starts a message in `buffer`.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], class: Class, transaction: TransactionId) -> Self {
        let mut writer = Writer {
            buffer,
            length: 0,
            is_full: false,
            transaction,
        };
        let bits = match class {
            Class::Request => 0x0000,
            Class::Indication => 0x0010,
            Class::Success => 0x0100,
            Class::Error => 0x0110,
        };
        writer.push(&(BINDING | bits).to_be_bytes());
        writer.push(&[0, 0]);
        writer.push(&MAGIC_COOKIE.to_be_bytes());
        writer.push(&transaction.0);
        writer
    }

    /// Adds USERNAME as a check has it: the receiver's user fragment, the sender's.
    #[must_use]
    pub fn username(mut self, receiver: &str, sender: &str) -> Self {
        let length = receiver.len() + 1 + sender.len();
        self.open(attribute::USERNAME, length);
        self.push(receiver.as_bytes());
        self.push(b":");
        self.push(sender.as_bytes());
        self.pad(length);
        self
    }

    /// Adds XOR-MAPPED-ADDRESS (RFC 8489 §14.2).
    #[must_use]
    pub fn mapped(mut self, address: SocketAddr) -> Self {
        let cookie = MAGIC_COOKIE.to_be_bytes();
        let port = address.port() ^ u16::from_be_bytes([cookie[0], cookie[1]]);
        match address.ip() {
            IpAddr::V4(ip) => {
                self.open(attribute::XOR_MAPPED_ADDRESS, 8);
                self.push(&[0, 1]);
                self.push(&port.to_be_bytes());
                let octets = ip.octets();
                self.push(&std::array::from_fn::<u8, 4, _>(|at| {
                    octets[at] ^ cookie[at]
                }));
            }
            IpAddr::V6(ip) => {
                self.open(attribute::XOR_MAPPED_ADDRESS, 20);
                self.push(&[0, 2]);
                self.push(&port.to_be_bytes());
                let octets = ip.octets();
                let transaction = self.transaction.0;
                self.push(&std::array::from_fn::<u8, 16, _>(|at| {
                    let mask = if at < 4 {
                        cookie[at]
                    } else {
                        transaction[at - 4]
                    };
                    octets[at] ^ mask
                }));
            }
        }
        self
    }

    /// Adds PRIORITY (RFC 8445 §7.1.1).
    #[must_use]
    pub fn priority(mut self, priority: u32) -> Self {
        self.add(attribute::PRIORITY, &priority.to_be_bytes());
        self
    }

    /// Adds ICE-CONTROLLING or ICE-CONTROLLED (RFC 8445 §7.1.3).
    #[must_use]
    pub fn role(mut self, role: Role) -> Self {
        match role {
            Role::Controlling(tie) => self.add(attribute::ICE_CONTROLLING, &tie.to_be_bytes()),
            Role::Controlled(tie) => self.add(attribute::ICE_CONTROLLED, &tie.to_be_bytes()),
        }
        self
    }

    /// Adds USE-CANDIDATE (RFC 8445 §7.1.2).
    #[must_use]
    pub fn nominate(mut self) -> Self {
        self.add(attribute::USE_CANDIDATE, &[]);
        self
    }

    /// Adds NOMINATION.
    #[must_use]
    pub fn nomination(mut self, number: u32) -> Self {
        self.add(attribute::NOMINATION, &number.to_be_bytes());
        self
    }

    /// Adds ERROR-CODE without a reason phrase (RFC 8489 §14.8); `code` is 300 to 699.
    #[must_use]
    pub fn error(mut self, code: u16) -> Self {
        let class = u8::try_from(code / 100).unwrap_or(0) & 7;
        let number = u8::try_from(code % 100).unwrap_or(0);
        self.add(attribute::ERROR_CODE, &[0, 0, class, number]);
        self
    }

    /// Adds UNKNOWN-ATTRIBUTES (RFC 8489 §14.10).
    #[must_use]
    pub fn unknown(mut self, kinds: &[u16]) -> Self {
        let length = kinds.len() * 2;
        self.open(attribute::UNKNOWN_ATTRIBUTES, length);
        for kind in kinds {
            self.push(&kind.to_be_bytes());
        }
        self.pad(length);
        self
    }

    /// Closes the message with MESSAGE-INTEGRITY, if there is a key, and FINGERPRINT; returns the
    /// octets written.
    ///
    /// Errors: `Full` if the buffer was too small.
    pub fn finish(mut self, key: Option<&IntegrityKey>) -> Result<usize, StunError> {
        if self.is_full {
            return Err(StunError::Full);
        }
        if let Some(key) = key {
            let tag: [u8; INTEGRITY_BYTES] = key
                .over(&self.buffer[..self.length])
                .finalize()
                .into_bytes()
                .into();
            self.add(attribute::MESSAGE_INTEGRITY, &tag);
        }
        let crc = fingerprint(&self.buffer[..self.length]);
        self.add(attribute::FINGERPRINT, &crc.to_be_bytes());
        if self.is_full {
            return Err(StunError::Full);
        }
        self.buffer[2..4].copy_from_slice(&counted_length(self.length));
        debug_assert!(self.length >= HEADER_BYTES && self.length.is_multiple_of(4));
        Ok(self.length)
    }

    fn add(&mut self, kind: u16, value: &[u8]) {
        self.open(kind, value.len());
        self.push(value);
        self.pad(value.len());
    }

    fn open(&mut self, kind: u16, length: usize) {
        match u16::try_from(length) {
            Ok(length) => {
                self.push(&kind.to_be_bytes());
                self.push(&length.to_be_bytes());
            }
            Err(_) => self.is_full = true,
        }
    }

    fn pad(&mut self, length: usize) {
        self.push(&[0; 3][..length.next_multiple_of(4) - length]);
    }

    fn push(&mut self, octets: &[u8]) {
        let end = self.length + octets.len();
        match self.buffer.get_mut(self.length..end) {
            Some(place) if !self.is_full => {
                place.copy_from_slice(octets);
                self.length = end;
            }
            Some(_) | None => self.is_full = true,
        }
    }
}
