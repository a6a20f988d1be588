//! Addresses as the configuration writes them: listeners, networks, ports, names of interfaces.
//!
//! In: texts. Out: socket addresses. The interfaces of the machine are read by `Interfaces::read`,
//! once; everything else is pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Where to listen: `127.0.0.1:5060`, `[::1]:5060`, `eth0:5060`, or `:5060` for every address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address or name of an interface; empty for every address.
    pub host: String,
    /// Port; 0 lets the system choose.
    pub port: u16,
}

/// A text is no address of the wanted form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {0}")]
pub struct AddressError(pub &'static str);

impl FromStr for Listen {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bad = AddressError("`address:port`, `interface:port` or `:port`");
        let (host, port) = text.rsplit_once(':').ok_or(bad)?;
        let port = port.parse().map_err(|_| bad)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let is_fine = match bare {
            Some(bare) => bare.parse::<Ipv6Addr>().is_ok(),
            None => host.is_empty() || host.parse::<Ipv4Addr>().is_ok() || is_interface(host),
        };
        if !is_fine {
            return Err(bad);
        }
        Ok(Listen {
            host: bare.unwrap_or(host).to_owned(),
            port,
        })
    }
}

/// Names of interfaces have at most 15 octets (IFNAMSIZ); a name of digits and dots is a mistyped
/// address.
fn is_interface(text: &str) -> bool {
    text.len() <= 15
        && text.bytes().any(|octet| octet.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || b"._-@".contains(&octet))
}

/// An address with the length of its network part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl FromStr for Network {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bad = AddressError("a network as `192.0.2.0/24`, or an address");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| bad)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most {
            return Err(bad);
        }
        Ok(Network { address, bits })
    }
}

impl Network {
    /// Tells whether an address lies in the network; an IPv4 address written as IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(mine), IpAddr::V4(theirs)) => {
                let shift = 32 - u32::from(self.bits);
                let cut = |address: Ipv4Addr| u32::from(address).checked_shr(shift).unwrap_or(0);
                cut(mine) == cut(theirs)
            }
            (IpAddr::V6(mine), IpAddr::V6(theirs)) => {
                let shift = 128 - u32::from(self.bits);
                let cut = |address: Ipv6Addr| u128::from(address).checked_shr(shift).unwrap_or(0);
                cut(mine) == cut(theirs)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// The ports of plain RTP legs: an even first port, at least two pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPorts {
    /// First port, even.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

impl FromStr for RtpPorts {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bad = AddressError("`first-last` within 1024-65535, the first even");
        let (first, last) = text.split_once('-').ok_or(bad)?;
        let first: u16 = first.parse().map_err(|_| bad)?;
        let last: u16 = last.parse().map_err(|_| bad)?;
        let fits = first >= 1_024 && first.is_multiple_of(2) && last.checked_sub(first) >= Some(3);
        if fits {
            Ok(RtpPorts { first, last })
        } else {
            Err(bad)
        }
    }
}

/// The interfaces of this machine with their addresses.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    addresses: Vec<(String, IpAddr)>,
}

impl Interfaces {
    /// Reads them from the system; none if it does not say.
    #[must_use]
    pub fn read() -> Self {
        let Ok(found) = nix::ifaddrs::getifaddrs() else {
            return Interfaces::default();
        };
        let addresses = found.filter_map(|interface| {
            let address = interface.address?;
            let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                (Some(v4), _) => IpAddr::V4(v4.ip()),
                (None, Some(v6)) => IpAddr::V6(v6.ip()),
                (None, None) => return None,
            };
            Some((interface.interface_name, ip))
        });
        Interfaces {
            addresses: addresses.collect(),
        }
    }

    /// Makes a list by hand (tests).
    #[must_use]
    pub fn of(addresses: Vec<(String, IpAddr)>) -> Self {
        Interfaces { addresses }
    }

    /// Tells whether this machine has any IPv6 address.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(|(_, address)| address.is_ipv6())
    }

    /// Returns the addresses that a host part means: itself, those of the interface of that name
    /// (link-local ones left out), or the wildcards of both families if it is empty.
    #[must_use]
    pub fn resolve(&self, host: &str) -> Vec<IpAddr> {
        if host.is_empty() {
            let mut every = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
            if self.has_ipv6() {
                every.push(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
            }
            return every;
        }
        if let Ok(address) = host.parse() {
            return vec![address];
        }
        let of_name = self.addresses.iter().filter(|(name, address)| {
            name == host && !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
        });
        of_name.map(|(_, address)| *address).collect()
    }

    /// Returns an address of a family that peers elsewhere may use: the first that is neither
    /// loopback nor link-local, else the loopback.
    #[must_use]
    pub fn outward(&self, is_ipv6: bool) -> IpAddr {
        let found = self
            .addresses
            .iter()
            .map(|(_, address)| *address)
            .find(|address| {
                let is_local = match address {
                    IpAddr::V4(v4) => v4.is_link_local(),
                    IpAddr::V6(v6) => v6.is_unicast_link_local(),
                };
                address.is_ipv6() == is_ipv6 && !address.is_loopback() && !is_local
            });
        found.unwrap_or(if is_ipv6 {
            IpAddr::V6(Ipv6Addr::LOCALHOST)
        } else {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        })
    }
}

/// Reads an address to advertise: an IP address or the name of an interface, with or without a port.
#[must_use]
pub fn advertised(
    text: &str,
    interfaces: &Interfaces,
    is_ipv6: bool,
) -> Option<(IpAddr, Option<u16>)> {
    let of_family = |host: &str| {
        interfaces
            .resolve(host)
            .into_iter()
            .find(|address| address.is_ipv6() == is_ipv6)
    };
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.is_ipv6() == is_ipv6).then_some((address.ip(), Some(address.port())));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return (address.is_ipv6() == is_ipv6).then_some((address, None));
    }
    match text.parse::<Listen>() {
        Ok(listen) if !listen.host.is_empty() => {
            Some((of_family(&listen.host)?, Some(listen.port)))
        }
        Ok(_) | Err(_) => Some((of_family(text)?, None)),
    }
}
