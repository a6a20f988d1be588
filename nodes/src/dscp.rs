//! Marks packets by what they carry, so that a network that tells classes apart sends sound before files
//! (DSCP, RFC 2474; which value for what: RFC 4594).
//!
//! In: a socket, a code point of 0-63. Out: packets with it. It does not promise anything: what a network
//! makes of the mark is its own affair.

use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

/// Marks what a socket, and connections that it accepts later, send from now on.
///
/// In: `code`, 0-63; the two bits below it stay the kernel's, which tells of congestion by them
/// (RFC 3168). A system that refuses leaves the packets as they were: no reason to have no call.
pub(crate) fn mark(socket: &impl AsFd, is_ipv6: bool, code: u8) {
    let octet = i32::from(code) << 2;
    // A socket of IPv6 sends to mapped addresses too, by the option of IPv4.
    let four = setsockopt(socket, sockopt::IpTos, &octet);
    let six = match is_ipv6 {
        true => setsockopt(socket, sockopt::Ipv6TClass, &octet),
        false => Ok(()),
    };
    if let Err(error) = six.and(four) {
        tracing::debug!(%error, code, "packets are not marked");
    }
}
