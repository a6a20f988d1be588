//! RTP ports of the configured range: even ones, each with the odd one above it for RTCP
//! (RFC 3550 §11).
//!
//! In: a wish, or none. Out: bound pairs of sockets. A port that was freed rests while others are
//! free, so that late packets of a past call do not meet a new one.

use std::collections::BTreeSet;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

use crate::dscp;

/// Octets of kernel buffer asked for a socket: 50 ms of 1,000 packets a second and more.
const BUFFER_BYTES: usize = 256 * 1024;

/// Which ports of the range are taken.
#[derive(Debug)]
pub struct Ports {
    first: u16,
    count: u16,
    next: u16,
    taken: BTreeSet<u16>,
    dscp: u8,
}

/// A pair of bound sockets.
#[derive(Debug)]
pub struct Pair {
    /// Even port.
    pub rtp: UdpSocket,
    /// Odd port above it.
    pub rtcp: UdpSocket,
    /// Address of `rtp`.
    pub local: SocketAddr,
}

impl Ports {
    /// Takes the configured range, and the code point that packets are marked with.
    #[must_use]
    pub fn new(range: RangeInclusive<u16>, dscp: u8) -> Self {
        let first = range.start().saturating_add(range.start() % 2);
        let count = (range.end().saturating_sub(first).saturating_add(1)) / 2;
        Ports {
            first,
            count,
            next: 0,
            taken: BTreeSet::new(),
            dscp,
        }
    }

    /// Binds the pair at `port`, or the next free one of the range.
    ///
    /// Bound: each pair of the range is tried once.
    ///
    /// # Errors
    /// What the system says for a wished port; `AddrInUse` if no pair of the range can be bound.
    pub fn bind(&mut self, address: IpAddr, port: Option<u16>) -> Result<Pair, Error> {
        if let Some(port) = port {
            let pair = bind_pair(address, port, self.dscp)?;
            self.taken.insert(port);
            return Ok(pair);
        }
        for _ in 0..self.count {
            let port = self.first + self.next * 2;
            self.next = (self.next + 1) % self.count;
            if self.taken.contains(&port) {
                continue;
            }
            if let Ok(pair) = bind_pair(address, port, self.dscp) {
                self.taken.insert(port);
                return Ok(pair);
            }
        }
        let last = self.first + self.count.saturating_sub(1) * 2 + 1;
        let why = format!("no free RTP port in {}-{last}", self.first);
        Err(Error::new(ErrorKind::AddrInUse, why))
    }

    /// Gives a pair back.
    pub fn release(&mut self, port: u16) {
        self.taken.remove(&port);
    }
}

fn bind_pair(address: IpAddr, port: u16, dscp: u8) -> Result<Pair, Error> {
    let local = SocketAddr::new(address, port);
    let above = port.checked_add(1).ok_or(ErrorKind::InvalidInput)?;
    let rtp = bind(local, dscp)?;
    let rtcp = bind(SocketAddr::new(address, above), dscp)?;
    Ok(Pair { rtp, rtcp, local })
}

/// Binds a socket of media that does not block and marks its packets with `dscp`.
pub(crate) fn bind(local: SocketAddr, dscp: u8) -> Result<UdpSocket, Error> {
    let socket = UdpSocket::bind(local)?;
    socket.set_nonblocking(true)?;
    let options = socket2::SockRef::from(&socket);
    // The system may give less than is asked for; that is no reason to have no call.
    let _ = options.set_recv_buffer_size(BUFFER_BYTES);
    let _ = options.set_send_buffer_size(BUFFER_BYTES);
    dscp::mark(&socket, local.is_ipv6(), dscp);
    Ok(socket)
}
