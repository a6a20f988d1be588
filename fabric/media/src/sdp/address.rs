//! Which addresses of a peer's description media may be sent to (threats.md 21).
//!
//! In: a target of `c=` or a candidate, the source of the leg's signalling, configured networks.
//! Out: yes or no. It sends nothing and resolves nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use contract::FaultClass;
use serde::{Deserialize, Serialize};

/// Reach of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Routed everywhere.
    Global,
    /// Private to the named block: RFC 1918, RFC 6598, RFC 4193.
    Private(&'static str),
    /// This host.
    Loopback,
    /// This link, cloud metadata services among them.
    LinkLocal,
    /// Never a place for media: unspecified, multicast, broadcast, reserved.
    Never,
}

impl Scope {
    /// Returns the reach of an address; an IPv4 address inside an IPv6 one counts as itself.
    #[must_use]
    pub fn of(address: IpAddr) -> Scope {
        match address.to_canonical() {
            IpAddr::V4(address) => Scope::of_v4(address),
            IpAddr::V6(address) => Scope::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Scope {
        match address.octets() {
            [0, ..] | [224..=255, ..] => Scope::Never,
            [127, ..] => Scope::Loopback,
            [169, 254, ..] => Scope::LinkLocal,
            [10, ..] => Scope::Private("10.0.0.0/8"),
            [172, 16..=31, ..] => Scope::Private("172.16.0.0/12"),
            [192, 168, ..] => Scope::Private("192.168.0.0/16"),
            [100, 64..=127, ..] => Scope::Private("100.64.0.0/10"),
            _ => Scope::Global,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Scope {
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => Scope::Loopback,
            // Unspecified and the obsolete IPv4-compatible form.
            [0, 0, 0, 0, 0, 0, _, _] => Scope::Never,
            // Translated and tunnelled forms reach what they hold; only global targets are let
            // through, and those as any other address.
            [0x64, 0xff9b, .., high, low] | [0x2002, high, low, ..] => {
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                match Scope::of_v4(Ipv4Addr::new(a, b, c, d)) {
                    Scope::Global => Scope::Global,
                    Scope::Private(_) | Scope::Loopback | Scope::LinkLocal | Scope::Never => {
                        Scope::Never
                    }
                }
            }
            [0xff00..=0xffff, ..] => Scope::Never,
            [0xfe80..=0xfebf, ..] => Scope::LinkLocal,
            [0xfc00..=0xfdff, ..] => Scope::Private("fc00::/7"),
            _ => Scope::Global,
        }
    }
}

/// Tells whether media may be sent to `target`.
///
/// Global addresses always; those of a configured network; others only if the leg's own signalling
/// came from the same network (same block for private ones). Never multicast or unspecified ones.
#[must_use]
pub fn may_send(target: IpAddr, sip_source: IpAddr, allowed: &[Network]) -> bool {
    match Scope::of(target) {
        Scope::Never => false,
        Scope::Global => true,
        scope @ (Scope::Private(_) | Scope::Loopback | Scope::LinkLocal) => {
            allowed.iter().any(|network| network.contains(target)) || Scope::of(sip_source) == scope
        }
    }
}

/// A block of addresses, `10.1.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reading a network: not an address with a prefix length, such as 10.1.0.0/16")]
pub struct NetworkError;

impl NetworkError {
    /// Tells whose fault it is: the operator's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Config
    }
}

impl Network {
    /// Tells whether an address is in the block.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let prefix = u32::from(self.prefix);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = text.split_once('/').ok_or(NetworkError)?;
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let prefix: u8 = super::attribute::number(prefix).ok_or(NetworkError)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix > longest {
            return Err(NetworkError);
        }
        Ok(Network { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
