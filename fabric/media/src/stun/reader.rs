//! Reading: a datagram becomes a typed view that borrows from it.
//!
//! In: octets of anybody. Out: what ICE needs of them, or why they are no message. Everything that
//! follows MESSAGE-INTEGRITY but FINGERPRINT is passed over (RFC 8489 §14.5), and so is a repeated
//! attribute (§14). Integrity is verified only on demand, in constant time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use contract::limits::{STUN_ATTRIBUTES_MAX, STUN_UNKNOWN_MAX};
use hmac::Mac;

use super::{
    BINDING, Class, HEADER_BYTES, INTEGRITY_BYTES, IntegrityKey, MAGIC_COOKIE, Role, StunError,
    TransactionId, attribute, fingerprint, is_stun,
};

/// ERROR-CODE (RFC 8489 §14.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode<'a> {
    /// 300 to 699.
    pub code: u16,
    /// For people.
    pub reason: &'a str,
}

/// Attributes that a reader must understand (numbers below 0x8000) and this one does not.
///
/// Bound: `STUN_UNKNOWN_MAX` are named, others only counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unknown {
    named: [u16; STUN_UNKNOWN_MAX],
    count: usize,
}

impl Unknown {
    /// Tells whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the first of them, in their order.
    #[must_use]
    pub fn named(&self) -> &[u16] {
        &self.named[..self.count.min(STUN_UNKNOWN_MAX)]
    }

    fn add(&mut self, kind: u16) {
        if let Some(place) = self.named.get_mut(self.count) {
            *place = kind;
        }
        self.count += 1;
    }
}

/// A STUN message, borrowed from its datagram.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    packet: &'a [u8],
    /// What it is.
    pub class: Class,
    /// What it is about; `BINDING` in ICE.
    pub method: u16,
    /// Which answer belongs to which request.
    pub transaction: TransactionId,
    /// USERNAME (RFC 8489 §14.3): in checks `receiver:sender`.
    pub username: Option<&'a str>,
    /// XOR-MAPPED-ADDRESS (RFC 8489 §14.2).
    pub mapped: Option<SocketAddr>,
    /// PRIORITY (RFC 8445 §7.1.1).
    pub priority: Option<u32>,
    /// USE-CANDIDATE is there (RFC 8445 §7.1.2).
    pub is_nominated: bool,
    /// NOMINATION: the highest wins.
    pub nomination: Option<u32>,
    /// ICE-CONTROLLING or ICE-CONTROLLED (RFC 8445 §7.1.3).
    pub role: Option<Role>,
    /// ERROR-CODE.
    pub error: Option<ErrorCode<'a>>,
    /// What must be understood and is not.
    pub unknown: Unknown,
    /// FINGERPRINT is there, and right.
    pub has_fingerprint: bool,
    /// Where MESSAGE-INTEGRITY stands.
    integrity: Option<usize>,
}

impl<'a> Message<'a> {
    /// Reads a datagram.
    ///
    /// Errors: `Malformed`, `TooMany`, `Fingerprint`.
    /// Source: RFC 8489 §5, §6.3, §14.
    pub fn read(packet: &'a [u8]) -> Result<Self, StunError> {
        if !is_stun(packet) || packet.len() != HEADER_BYTES + usize::from(word(packet, 2)) {
            return Err(StunError::Malformed);
        }
        if !packet.len().is_multiple_of(4) {
            return Err(StunError::Malformed);
        }
        let mut message = Message::header(packet);
        for (count, item) in Attributes::new(packet).enumerate() {
            let item = item?;
            if count >= STUN_ATTRIBUTES_MAX {
                return Err(StunError::TooMany);
            }
            if message.has_fingerprint {
                return Err(StunError::Malformed);
            }
            if item.kind == attribute::FINGERPRINT {
                message.check_fingerprint(item)?;
            } else if message.integrity.is_none() {
                message.take(item)?;
            }
        }
        Ok(message)
    }

    /// Tells whether MESSAGE-INTEGRITY is there.
    #[must_use]
    pub const fn has_integrity(&self) -> bool {
        self.integrity.is_some()
    }

    /// Tells whether MESSAGE-INTEGRITY is there and made with `key` (RFC 8489 §14.5); in constant
    /// time for messages of one length.
    #[must_use]
    pub fn is_authentic(&self, key: &IntegrityKey) -> bool {
        let Some(at) = self.integrity else {
            return false;
        };
        let tag = &self.packet[at + 4..at + 4 + INTEGRITY_BYTES];
        key.over(&self.packet[..at]).verify_slice(tag).is_ok()
    }

    /// Splits USERNAME as a check has it: the receiver's user fragment, the sender's
    /// (RFC 8445 §7.1.1 with RFC 8489 §9.1.2).
    #[must_use]
    pub fn fragments(&self) -> Option<(&'a str, &'a str)> {
        self.username?.split_once(':')
    }

    fn header(packet: &'a [u8]) -> Self {
        let kind = word(packet, 0);
        let class = match (kind & 0x0100 != 0, kind & 0x0010 != 0) {
            (false, false) => Class::Request,
            (false, true) => Class::Indication,
            (true, false) => Class::Success,
            (true, true) => Class::Error,
        };
        let mut transaction = TransactionId::default();
        transaction.0.copy_from_slice(&packet[8..HEADER_BYTES]);
        Message {
            packet,
            class,
            method: (kind & 0x000F) | ((kind & 0x00E0) >> 1) | ((kind & 0x3E00) >> 2),
            transaction,
            username: None,
            mapped: None,
            priority: None,
            is_nominated: false,
            nomination: None,
            role: None,
            error: None,
            unknown: Unknown::default(),
            has_fingerprint: false,
            integrity: None,
        }
    }

    fn check_fingerprint(&mut self, item: Item<'_>) -> Result<(), StunError> {
        let value = number_u32(item.value)?;
        if value != fingerprint(&self.packet[..item.at]) {
            return Err(StunError::Fingerprint);
        }
        self.has_fingerprint = true;
        Ok(())
    }

    fn take(&mut self, item: Item<'a>) -> Result<(), StunError> {
        let value = item.value;
        match item.kind {
            attribute::USERNAME => keep(&mut self.username, text(value)?),
            attribute::XOR_MAPPED_ADDRESS => {
                keep(&mut self.mapped, address(value, &self.transaction)?);
            }
            attribute::PRIORITY => keep(&mut self.priority, number_u32(value)?),
            attribute::NOMINATION => keep(&mut self.nomination, number_u32(value)?),
            attribute::USE_CANDIDATE => self.is_nominated = true,
            attribute::ICE_CONTROLLED => {
                keep(&mut self.role, Role::Controlled(number_u64(value)?));
            }
            attribute::ICE_CONTROLLING => {
                keep(&mut self.role, Role::Controlling(number_u64(value)?));
            }
            attribute::ERROR_CODE => keep(&mut self.error, error_code(value)?),
            attribute::MESSAGE_INTEGRITY => {
                if value.len() != INTEGRITY_BYTES {
                    return Err(StunError::Malformed);
                }
                self.integrity = Some(item.at);
            }
            kind if kind < 0x8000 && !is_passed_over(kind) => self.unknown.add(kind),
            _ => {}
        }
        Ok(())
    }
}

/// Returns the user fragments of a check, the receiver's (ours) first, if `packet` is a Binding
/// request that has them: enough to find the leg it is for, not to believe it.
#[must_use]
pub fn username(packet: &[u8]) -> Option<(&str, &str)> {
    let is_request = is_stun(packet) && word(packet, 0) == BINDING;
    if !is_request || packet.len() != HEADER_BYTES + usize::from(word(packet, 2)) {
        return None;
    }
    Attributes::new(packet)
        .take(STUN_ATTRIBUTES_MAX)
        .map_while(Result::ok)
        .find(|item| item.kind == attribute::USERNAME)
        .and_then(|item| std::str::from_utf8(item.value).ok())
        .and_then(|text| text.split_once(':'))
}

/// An attribute: its number, where it starts, its value without padding.
#[derive(Clone, Copy)]
struct Item<'a> {
    kind: u16,
    at: usize,
    value: &'a [u8],
}

/// Walks the attributes; ends after the first error.
struct Attributes<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Attributes<'a> {
    fn new(packet: &'a [u8]) -> Self {
        Attributes {
            packet,
            at: HEADER_BYTES,
        }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Item<'a>, StunError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        if at >= self.packet.len() {
            return None;
        }
        self.at = self.packet.len();
        let rest = &self.packet[at..];
        if rest.len() < 4 {
            return Some(Err(StunError::Malformed));
        }
        let length = usize::from(word(rest, 2));
        let Some(value) = rest.get(4..4 + length) else {
            return Some(Err(StunError::Malformed));
        };
        self.at = at + 4 + length.next_multiple_of(4);
        let kind = word(rest, 0);
        Some(Ok(Item { kind, at, value }))
    }
}

/// Tells of an attribute that must be understood that it is, and says nothing in ICE.
fn is_passed_over(kind: u16) -> bool {
    matches!(
        kind,
        attribute::MAPPED_ADDRESS
            | attribute::UNKNOWN_ATTRIBUTES
            | attribute::REALM
            | attribute::NONCE
            | attribute::MESSAGE_INTEGRITY_SHA256
    )
}

/// Keeps the first of repeated attributes (RFC 8489 §14).
fn keep<T>(place: &mut Option<T>, value: T) {
    if place.is_none() {
        *place = Some(value);
    }
}

/// Reads two octets; the caller knows that they are there.
fn word(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

fn number_u32(value: &[u8]) -> Result<u32, StunError> {
    let octets = value.try_into().map_err(|_| StunError::Malformed)?;
    Ok(u32::from_be_bytes(octets))
}

fn number_u64(value: &[u8]) -> Result<u64, StunError> {
    let octets = value.try_into().map_err(|_| StunError::Malformed)?;
    Ok(u64::from_be_bytes(octets))
}

/// Reads a text of at most 763 octets (RFC 8489 §14.8; USERNAME has fewer).
fn text(value: &[u8]) -> Result<&str, StunError> {
    if value.len() > 763 {
        return Err(StunError::Malformed);
    }
    std::str::from_utf8(value).map_err(|_| StunError::Malformed)
}

/// Reads XOR-MAPPED-ADDRESS (RFC 8489 §14.2).
fn address(value: &[u8], transaction: &TransactionId) -> Result<SocketAddr, StunError> {
    if value.len() < 8 {
        return Err(StunError::Malformed);
    }
    let cookie = MAGIC_COOKIE.to_be_bytes();
    let port = word(value, 2) ^ u16::from_be_bytes([cookie[0], cookie[1]]);
    let ip = match (value[1], value.len()) {
        (1, 8) => {
            let octets: [u8; 4] = std::array::from_fn(|at| value[4 + at] ^ cookie[at]);
            IpAddr::V4(Ipv4Addr::from(octets))
        }
        (2, 20) => {
            let octets: [u8; 16] = std::array::from_fn(|at| {
                let mask = if at < 4 {
                    cookie[at]
                } else {
                    transaction.0[at - 4]
                };
                value[4 + at] ^ mask
            });
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return Err(StunError::Malformed),
    };
    Ok(SocketAddr::new(ip, port))
}

/// Reads ERROR-CODE (RFC 8489 §14.8).
fn error_code(value: &[u8]) -> Result<ErrorCode<'_>, StunError> {
    if value.len() < 4 {
        return Err(StunError::Malformed);
    }
    let (class, number) = (u16::from(value[2] & 7), u16::from(value[3]));
    if !(3..=6).contains(&class) || number > 99 {
        return Err(StunError::Malformed);
    }
    Ok(ErrorCode {
        code: class * 100 + number,
        reason: text(&value[4..])?,
    })
}
