//! One worker thread: sockets in, relay table, sockets out.
//!
//! In: readiness, commands. Out: packets and events. It waits for readiness or the table's next
//! deadline and never sleeps to gather a batch: what is there is drained in batches until the
//! sockets are empty.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, IoSliceMut};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use contract::env::MediaSink;
use contract::{MediaCommand, MediaEvent, SideKey};
use media::relay::{RelayTable, Verdict};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};

use super::Clock;
use super::ports::Ports;

/// Octets of one packet buffer: an Ethernet frame, and what reassembled fragments may bring.
const PACKET_BYTES: usize = 2_048;
/// Readiness taken at a time.
const EVENTS: usize = 1_024;
/// Batches drained from one socket before the others get their turn.
const BATCHES_PER_TURN: usize = 8;
/// Longest wait: commands wake the thread, so this only bounds what a lost wake-up costs.
const WAIT_MAX: Duration = Duration::from_secs(1);

const WAKE: Token = Token(usize::MAX);

/// One worker.
pub struct Worker {
    poll: Poll,
    waker: Arc<Waker>,
    commands: Receiver<MediaCommand>,
    ports: Arc<Mutex<Ports>>,
    sink: Arc<OnceLock<Arc<dyn MediaSink>>>,
    clock: Clock,
    table: RelayTable,
    legs: BTreeMap<SideKey, usize>,
    sockets: Vec<Option<Sockets>>,
    free: Vec<usize>,
    buffers: Vec<u8>,
    unfinished: Vec<Token>,
}

/// The sockets of one leg. Tokens are twice the slot, plus one for RTCP.
struct Sockets {
    leg: SideKey,
    local: SocketAddr,
    rtp: Socket,
    rtcp: Socket,
}

struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Worker {
    /// Makes a worker; `run` is its thread.
    ///
    /// # Errors
    /// If the system gives no poll.
    pub fn new(
        commands: Receiver<MediaCommand>,
        ports: Arc<Mutex<Ports>>,
        sink: Arc<OnceLock<Arc<dyn MediaSink>>>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        Ok(Worker {
            poll,
            waker,
            commands,
            ports,
            sink,
            clock,
            table: RelayTable::new(),
            legs: BTreeMap::new(),
            sockets: Vec::new(),
            free: Vec::new(),
            buffers: vec![0; PACKET_BYTES * BATCH_SIZE],
            unfinished: Vec::new(),
        })
    }

    /// Returns what wakes the thread.
    #[must_use]
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Runs until the plane is dropped.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let wait = if self.unfinished.is_empty() {
                self.wait()
            } else {
                Duration::ZERO
            };
            match self.poll.poll(&mut events, Some(wait)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "a media worker lost its poll and ends");
                    return;
                }
            }
            let mut ready = std::mem::take(&mut self.unfinished);
            ready.extend(
                events
                    .iter()
                    .map(mio::event::Event::token)
                    .filter(|at| *at != WAKE),
            );
            if !self.obey() {
                return;
            }
            for token in ready {
                self.drain(token);
            }
            self.tick();
            self.tell();
        }
    }

    fn wait(&self) -> Duration {
        let Some(due) = self.table.next_deadline() else {
            return WAIT_MAX;
        };
        let left = due.since((self.clock)());
        // epoll counts in milliseconds: one more than is left, so as not to spin at the end.
        left.min(WAIT_MAX).max(Duration::from_micros(1))
    }

    /// Carries out what is queued; false when the plane is gone.
    fn obey(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.carry_out(command),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn carry_out(&mut self, command: MediaCommand) {
        match command {
            MediaCommand::Open {
                leg,
                address,
                port,
                beside: _,
            } => {
                let opened = self.open(leg, address, port);
                let event = match opened {
                    Ok(rtp) => MediaEvent::Opened { rtp },
                    Err(error) => {
                        let port = port.map_or_else(|| "a free port".to_owned(), |p| p.to_string());
                        MediaEvent::Failed {
                            why: format!("binding RTP {address} {port}: {error}"),
                        }
                    }
                };
                self.send_event(leg, event);
            }
            MediaCommand::Configure { leg, config } => {
                let now = (self.clock)();
                if let Err(error) = self.table.configure(leg, &config, now) {
                    tracing::warn!(%leg, %error, "a media leg keeps its former configuration");
                }
            }
            MediaCommand::Reserved { leg, sequence_end } => self.table.reserved(leg, sequence_end),
            MediaCommand::Close { leg } => self.close(leg),
        }
    }

    fn open(
        &mut self,
        leg: SideKey,
        address: std::net::IpAddr,
        port: Option<u16>,
    ) -> Result<SocketAddr, Error> {
        if let Some(known) = self
            .legs
            .get(&leg)
            .and_then(|slot| self.sockets[*slot].as_ref())
        {
            return Ok(known.local);
        }
        let pair = {
            let mut ports = self.ports.lock().expect("no holder of the ports panics");
            ports.bind(address, port)?
        };
        let (local, slot) = (pair.local, self.free.pop().unwrap_or(self.sockets.len()));
        let registered = self.register(pair.rtp, slot * 2).and_then(|rtp| {
            let rtcp = self.register(pair.rtcp, slot * 2 + 1)?;
            self.table.open(leg).map_err(Error::other)?;
            Ok(Sockets {
                leg,
                local,
                rtp,
                rtcp,
            })
        });
        if slot == self.sockets.len() {
            self.sockets.push(None);
        }
        match registered {
            Ok(sockets) => {
                self.sockets[slot] = Some(sockets);
                self.legs.insert(leg, slot);
                Ok(local)
            }
            Err(error) => {
                self.free.push(slot);
                self.release(local.port());
                Err(error)
            }
        }
    }

    fn register(&self, socket: std::net::UdpSocket, token: usize) -> Result<Socket, Error> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let mut socket = UdpSocket::from_std(socket);
        self.poll
            .registry()
            .register(&mut socket, Token(token), Interest::READABLE)?;
        Ok(Socket { socket, state })
    }

    fn close(&mut self, leg: SideKey) {
        let counters = self.table.close(leg);
        if let Some(slot) = self.legs.remove(&leg)
            && let Some(sockets) = self.sockets[slot].take()
        {
            self.free.push(slot);
            let port = sockets.local.port();
            drop(sockets);
            self.release(port);
        }
        // Told last: whoever hears it may take the port.
        if let Some(counters) = counters {
            self.send_event(leg, MediaEvent::Counted(counters));
        }
    }

    fn release(&self, port: u16) {
        self.ports
            .lock()
            .expect("no holder of the ports panics")
            .release(port);
    }

    /// Takes what a socket has, batch after batch, and sends it on.
    fn drain(&mut self, token: Token) {
        let (slot, is_rtcp) = (token.0 / 2, token.0 % 2 == 1);
        for _ in 0..BATCHES_PER_TURN {
            let Some(Some(sockets)) = self.sockets.get(slot) else {
                return;
            };
            let leg = sockets.leg;
            let socket = if is_rtcp { &sockets.rtcp } else { &sockets.rtp };
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let count = {
                let mut chunks = self.buffers.chunks_exact_mut(PACKET_BYTES);
                let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| {
                    IoSliceMut::new(chunks.next().expect("a buffer for each packet of a batch"))
                });
                socket
                    .state
                    .recv(UdpSockRef::from(&socket.socket), &mut slices, &mut metas)
            };
            match count {
                Ok(count) => {
                    for (at, meta) in metas.iter().take(count).enumerate() {
                        self.relay(leg, is_rtcp, at * PACKET_BYTES, meta);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // An ICMP error of a peer that is away (RFC 1122 §4.1.3.3): the next packet counts.
                Err(_) => {}
            }
        }
        self.unfinished.push(token);
    }

    /// Gives each packet of one receive to the table and sends what it says.
    fn relay(&mut self, leg: SideKey, is_rtcp: bool, start: usize, meta: &RecvMeta) {
        let now = (self.clock)();
        let stride = meta.stride.max(1);
        let end = start + meta.len.min(PACKET_BYTES);
        let mut at = start;
        while at < end {
            let packet = &mut self.buffers[at..end.min(at + stride)];
            let verdict = if is_rtcp {
                self.table.on_rtcp(leg, meta.addr, now, packet)
            } else {
                self.table.on_packet(leg, meta.addr, now, packet)
            };
            let (from, to, length) = match verdict {
                Verdict::Forward { to_leg, to, length } => (to_leg, to, length),
                Verdict::Reflect { to, length } => (leg, to, length),
                Verdict::Drop(_) => (leg, meta.addr, 0),
            };
            if length > 0 {
                send(
                    &self.legs,
                    &self.sockets,
                    from,
                    is_rtcp,
                    to,
                    &packet[..length],
                );
            }
            at += stride;
        }
    }

    fn tick(&mut self) {
        let now = (self.clock)();
        let (legs, sockets) = (&self.legs, &self.sockets);
        self.table.on_tick(now, &mut |leg, to, packet| {
            send(legs, sockets, leg, false, to, packet);
        });
    }

    fn tell(&mut self) {
        while let Some((leg, event)) = self.table.poll_event() {
            self.send_event(leg, event);
        }
    }

    fn send_event(&self, leg: SideKey, event: MediaEvent) {
        if let Some(sink) = self.sink.get() {
            sink.media(leg, event);
        }
    }
}

/// Sends a packet from a leg's socket. A packet that the system does not take is lost, as on any
/// network: media is never queued.
fn send(
    legs: &BTreeMap<SideKey, usize>,
    sockets: &[Option<Sockets>],
    leg: SideKey,
    is_rtcp: bool,
    to: SocketAddr,
    packet: &[u8],
) {
    let Some(Some(pair)) = legs.get(&leg).and_then(|slot| sockets.get(*slot)) else {
        return;
    };
    let socket = if is_rtcp { &pair.rtcp } else { &pair.rtp };
    let _ = socket.socket.send_to(packet, to);
}
