//! A datagram connection that a worker feeds: what webrtc-ice and webrtc-dtls read from and write to.
//!
//! In: datagrams that the worker has sorted out. Out: datagrams, straight from the worker's socket. A
//! full queue drops, as a socket does. It remembers the last flight, which webrtc-dtls never repeats
//! once its handshake is done.

use std::any::Any;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use contract::SideKey;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use webrtc_util::{Conn, Error};

use super::asked::{Asked, Asker};
use super::records;

/// Datagrams that wait for their reader: two flights of a handshake.
const QUEUE: usize = 32;
/// Datagrams of one flight that are remembered: a certificate chain of 4 KiB.
const FLIGHT_MAX: usize = 4;

/// The worker's end.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    queue: mpsc::Sender<(Vec<u8>, SocketAddr)>,
}

impl Feed {
    /// Passes a datagram on, if there is room and somebody who reads.
    pub(super) fn put(&self, octets: &[u8], from: SocketAddr) {
        let _ = self.queue.try_send((octets.to_vec(), from));
    }
}

/// The library's end.
#[derive(Debug)]
pub(super) struct FedConn {
    leg: SideKey,
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    asked: Asked,
    state: Mutex<State>,
    queue: AsyncMutex<mpsc::Receiver<(Vec<u8>, SocketAddr)>>,
}

#[derive(Debug, Default)]
struct State {
    remote: Option<SocketAddr>,
    /// Datagrams sent since the last one was read.
    flight: Vec<Vec<u8>>,
    /// Cookie of the HelloVerifyRequest that was sent.
    cookie: Option<Vec<u8>>,
    is_answer: bool,
}

/// Makes both ends over a worker's socket.
#[must_use]
pub(super) fn feed(
    leg: SideKey,
    socket: &Arc<UdpSocket>,
    local: SocketAddr,
    asked: &Asked,
) -> (Feed, Arc<FedConn>) {
    let (queue, reader) = mpsc::channel(QUEUE);
    let conn = FedConn {
        leg,
        socket: Arc::clone(socket),
        local,
        asked: asked.clone(),
        state: Mutex::default(),
        queue: AsyncMutex::new(reader),
    };
    (Feed { queue }, Arc::new(conn))
}

impl FedConn {
    /// Sets where `send` sends.
    pub(super) fn aim(&self, remote: SocketAddr) {
        self.state().remote = Some(remote);
    }

    /// Returns where `send` sends.
    pub(super) fn aimed(&self) -> Option<SocketAddr> {
        self.state().remote
    }

    /// Takes what was sent since a datagram was read last.
    pub(super) fn take_flight(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.state().flight)
    }

    /// Tells whether a client that returns this cookie has read what was sent here.
    pub(super) fn has_sent(&self, cookie: &[u8]) -> bool {
        self.state().cookie.as_deref() == Some(cookie)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, octets: &[u8], to: SocketAddr) -> usize {
        self.asked.note(self.leg, Asker::Agent, octets);
        // What the system does not take is lost, as on any network: both libraries repeat.
        let _ = send_to(&self.socket, octets, to);
        octets.len()
    }
}

/// Sends from a socket of either family: one of IPv6 wants IPv4 addresses mapped.
pub(super) fn send_to(
    socket: &UdpSocket,
    octets: &[u8],
    to: SocketAddr,
) -> Result<usize, std::io::Error> {
    match (to, socket.send_to(octets, to)) {
        (SocketAddr::V4(four), Err(_)) => {
            let mapped = four.ip().to_ipv6_mapped();
            socket.send_to(octets, SocketAddr::new(mapped.into(), four.port()))
        }
        (_, done) => done,
    }
}

#[async_trait]
impl Conn for FedConn {
    async fn connect(&self, _: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    async fn recv(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.recv_from(buffer).await.map(|(count, _)| count)
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), Error> {
        let taken = self.queue.lock().await.recv().await;
        let Some((octets, from)) = taken else {
            return Err(Error::ErrClosedListener);
        };
        self.state().is_answer = true;
        let count = octets.len().min(buffer.len());
        buffer[..count].copy_from_slice(&octets[..count]);
        Ok((count, from))
    }

    async fn send(&self, octets: &[u8]) -> Result<usize, Error> {
        let to = {
            let mut state = self.state();
            if std::mem::take(&mut state.is_answer) {
                state.flight.clear();
            }
            if let Some(cookie) = records::verify_request(octets) {
                state.cookie = Some(cookie.to_vec());
            }
            if state.flight.len() < FLIGHT_MAX {
                state.flight.push(octets.to_vec());
            }
            state.remote
        };
        match to {
            Some(to) => Ok(self.put(octets, to)),
            None => Ok(octets.len()),
        }
    }

    async fn send_to(&self, octets: &[u8], target: SocketAddr) -> Result<usize, Error> {
        Ok(self.put(octets, target))
    }

    fn local_addr(&self) -> Result<SocketAddr, Error> {
        Ok(self.local)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        self.state().remote
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
