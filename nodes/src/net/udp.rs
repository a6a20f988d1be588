//! UDP sockets of signalling.
//!
//! In: datagrams of the system, taken until its queue is empty, several a wake-up. Out: calls of
//! the sink; datagrams of cores, written at once or lost, as on any network.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use bytes::Bytes;
use contract::ListenerId;
use contract::env::NetSink;
use socket2::{Domain, Protocol, Socket, Type};

use crate::dscp;

/// Octets the system is asked to queue each way: a second of a flood fits.
const QUEUE_BYTES: usize = 8 << 20;
/// Octets of the largest datagram there can be.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Datagrams taken before other tasks of the thread get their turn.
const BURST: usize = 256;

/// The writing side.
///
/// It is the plain socket: tokio's writes wait for a readiness that a fresh socket does not know
/// yet, and a datagram must not wait.
#[derive(Debug)]
pub(super) struct DatagramSocket {
    socket: UdpSocket,
    local: SocketAddr,
}

/// Binds and marks what is sent with `dscp`; must be called inside the runtime.
pub(super) fn bind(
    local: SocketAddr,
    dscp: u8,
) -> io::Result<(DatagramSocket, tokio::net::UdpSocket)> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    widen(&socket);
    dscp::mark(&socket, local.is_ipv6(), dscp);
    socket.bind(&local.into())?;
    let socket: UdpSocket = socket.into();
    let reader = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
    let local = socket.local_addr()?;
    Ok((DatagramSocket { socket, local }, reader))
}

/// Asks for long queues; the system may grant less, which only loses more in a flood.
fn widen(socket: &Socket) {
    use nix::sys::socket::{setsockopt, sockopt};
    if setsockopt(socket, sockopt::RcvBufForce, &QUEUE_BYTES).is_err() {
        let _ = socket.set_recv_buffer_size(QUEUE_BYTES);
    }
    if setsockopt(socket, sockopt::SndBufForce, &QUEUE_BYTES).is_err() {
        let _ = socket.set_send_buffer_size(QUEUE_BYTES);
    }
}

impl DatagramSocket {
    pub(super) const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Writes a datagram; tells whether the system took it.
    pub(super) fn send(&self, remote: SocketAddr, bytes: &[u8]) -> bool {
        loop {
            match self.socket.send_to(bytes, remote) {
                Ok(_) => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An earlier datagram's ICMP refusal is told on the next call: not this one's fault.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return self.socket.send_to(bytes, remote).is_ok();
                }
                Err(error) => {
                    tracing::debug!(%error, "datagram not sent");
                    return false;
                }
            }
        }
    }
}

/// Reads for ever.
pub(super) async fn read(
    socket: tokio::net::UdpSocket,
    listener: ListenerId,
    sink: Arc<dyn NetSink>,
) {
    let received = metrics::counter!("weft_datagrams_received_total");
    // A slice of a shared buffer would keep all of it alive as long as one dialog keeps its INVITE.
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        if let Err(error) = socket.readable().await {
            tracing::warn!(%error, "udp socket is not readable");
            crate::env_os::pause(std::time::Duration::from_millis(100)).await;
            continue;
        }
        let mut count = 0;
        while count < BURST {
            match socket.try_recv_from(&mut buffer) {
                Ok((length, remote)) => {
                    count += 1;
                    sink.datagram(listener, remote, Bytes::copy_from_slice(&buffer[..length]));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // ICMP errors of earlier datagrams arrive here; the socket is still good.
                Err(error) => {
                    count += 1;
                    tracing::trace!(%error, "udp receive");
                }
            }
        }
        received.increment(count as u64);
        tokio::task::yield_now().await;
    }
}
