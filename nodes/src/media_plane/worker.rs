//! One worker thread: sockets in, relay table, sockets out.
//!
//! In: readiness, commands. Out: packets and events. It waits for readiness or the table's next
//! deadline and never sleeps to gather a batch: what is there is drained in batches until the
//! sockets are empty.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, IoSliceMut};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use contract::env::MediaSink;
use contract::{LegCounters, LegSocket, LegTransport, MediaCommand, MediaEvent, SideKey};
use media::relay::{RelayTable, Verdict};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGroSegment;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};

use super::ports::Ports;
use super::web::{Sorted, WebLegs, WebOutput};
use super::{Clock, MediaSettings, Orders, WorkerOrder};

/// Octets of one packet buffer: an Ethernet frame, and what reassembled fragments may bring.
const PACKET_BYTES: usize = 2_048;
/// Readiness taken at a time.
const EVENTS: usize = 1_024;
/// Batches drained from one socket before the others get their turn.
const BATCHES_PER_TURN: usize = 8;
/// Longest wait: commands wake the thread, so this only bounds what a lost wake-up costs.
const WAIT_MAX: Duration = Duration::from_secs(1);

const WAKE: Token = Token(usize::MAX);
/// Tokens from here on are shared sockets.
const SHARED_FIRST: usize = usize::MAX / 2;
/// Octets that protection may add to a packet.
const PROTECTION_ROOM: usize = 64;

/// A socket that many legs share.
struct Shared {
    local: SocketAddr,
    socket: Socket,
    sender: Arc<std::net::UdpSocket>,
}

/// Whose packets a socket brings.
#[derive(Clone, Copy)]
enum Origin {
    Own { leg: SideKey, is_rtcp: bool },
    Shared(SocketAddr),
}

/// One worker.
pub struct Worker {
    poll: Poll,
    orders: Receiver<WorkerOrder>,
    /// First port of the worker's shared sockets; 0: any.
    webrtc_port: u16,
    /// Code point that packets are marked with.
    dscp: u8,
    shared: Vec<Shared>,
    web: WebLegs,
    ports: Arc<Mutex<Ports>>,
    sink: Arc<OnceLock<Arc<dyn MediaSink>>>,
    clock: Clock,
    table: RelayTable,
    legs: BTreeMap<SideKey, usize>,
    sockets: Vec<Option<Sockets>>,
    free: Vec<usize>,
    buffers: Vec<u8>,
    /// A packet on its way, with room for its protection.
    packet: Vec<u8>,
    unfinished: Vec<Token>,
    /// Legs of all workers that other nodes have, and how many of them were this one's.
    lingering: Arc<AtomicUsize>,
    lingering_told: usize,
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
        number: usize,
        settings: &MediaSettings,
        ports: Arc<Mutex<Ports>>,
        sink: Arc<OnceLock<Arc<dyn MediaSink>>>,
        lingering: Arc<AtomicUsize>,
    ) -> Result<(Self, Orders), Error> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (queue, orders) = channel();
        let way = Orders { queue, waker };
        let first = settings.webrtc_port;
        let own = first.saturating_add(u16::try_from(number).unwrap_or(u16::MAX));
        let certificate = settings.certificate.clone();
        let worker = Worker {
            poll,
            orders,
            webrtc_port: if first == 0 { 0 } else { own },
            dscp: settings.dscp,
            shared: Vec::new(),
            web: WebLegs::new(settings.runtime.clone(), certificate, way.clone()),
            ports,
            sink,
            clock: Arc::clone(&settings.clock),
            table: RelayTable::new(Arc::new(super::srtp::LibraryMaker)),
            legs: BTreeMap::new(),
            sockets: Vec::new(),
            free: Vec::new(),
            buffers: vec![0; PACKET_BYTES * BATCH_SIZE],
            packet: vec![0; PACKET_BYTES + PROTECTION_ROOM],
            unfinished: Vec::new(),
            lingering,
            lingering_told: 0,
        };
        Ok((worker, way))
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
        let due = [self.table.next_deadline(), self.web.next_due()];
        let Some(due) = due.into_iter().flatten().min() else {
            return WAIT_MAX;
        };
        let left = due.since((self.clock)());
        // epoll counts in milliseconds: one more than is left, so as not to spin at the end.
        left.min(WAIT_MAX).max(Duration::from_micros(1))
    }

    /// Carries out what is queued; false when the plane is gone.
    fn obey(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(WorkerOrder::Command(command)) => self.carry_out(command),
                Ok(WorkerOrder::Path {
                    leg,
                    set_up,
                    selected,
                }) => {
                    let now = (self.clock)();
                    self.web.on_path(leg, set_up, selected, now);
                    self.settle();
                }
                Ok(WorkerOrder::Keys { leg, number, keys }) => {
                    self.web.on_keys(leg, number, keys);
                    self.settle();
                }
                Err(TryRecvError::Empty) => return true,
                Ok(WorkerOrder::End) | Err(TryRecvError::Disconnected) => return false,
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
                socket,
            } => {
                let opened = match socket {
                    LegSocket::Own => self.open(leg, address, port),
                    LegSocket::Shared => self.share(leg, address, port),
                };
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
                if let LegTransport::Webrtc(web) = &config.transport {
                    self.web.configure(leg, web, now);
                    self.settle();
                }
            }
            MediaCommand::Reserved { leg, block } => self.table.reserved(leg, block),
            MediaCommand::Digits {
                leg,
                digits,
                duration,
            } => {
                let now = (self.clock)();
                self.table.digits(leg, &digits, duration, now);
            }
            MediaCommand::Linger { leg } => {
                let now = (self.clock)();
                if !self.table.linger(leg, now) {
                    self.close(leg);
                }
            }
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
            self.table.resume(leg);
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

    /// Gives a leg the shared socket of an address, bound for the first one.
    fn share(
        &mut self,
        leg: SideKey,
        address: std::net::IpAddr,
        port: Option<u16>,
    ) -> Result<SocketAddr, Error> {
        if let Some(local) = self.web.local(leg) {
            self.table.resume(leg);
            return Ok(local);
        }
        let wanted = port.unwrap_or(self.webrtc_port);
        let fits = |one: &&Shared| {
            let is_port = one.local.port() == wanted || (port.is_none() && wanted == 0);
            one.local.ip() == address && is_port
        };
        let (local, sender) = match self.shared.iter().find(fits) {
            Some(known) => (known.local, Arc::clone(&known.sender)),
            None => self.bind_shared(SocketAddr::new(address, wanted))?,
        };
        self.table.open(leg).map_err(Error::other)?;
        self.web.open(leg, local, sender);
        Ok(local)
    }

    fn bind_shared(
        &mut self,
        wanted: SocketAddr,
    ) -> Result<(SocketAddr, Arc<std::net::UdpSocket>), Error> {
        let socket = super::ports::bind(wanted, self.dscp)?;
        let local = socket.local_addr()?;
        let sender = Arc::new(socket.try_clone()?);
        let socket = self.register(socket, SHARED_FIRST + self.shared.len())?;
        self.shared.push(Shared {
            local,
            socket,
            sender: Arc::clone(&sender),
        });
        Ok((local, sender))
    }

    fn register(&self, socket: std::net::UdpSocket, token: usize) -> Result<Socket, Error> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Joined packets (quinn-udp asks for them) would not fit the buffers; media comes in batches.
        let _ = setsockopt(&socket, UdpGroSegment, &false);
        let mut socket = UdpSocket::from_std(socket);
        self.poll
            .registry()
            .register(&mut socket, Token(token), Interest::READABLE)?;
        Ok(Socket { socket, state })
    }

    fn close(&mut self, leg: SideKey) {
        let is_ours = !self.table.is_lingering(leg);
        let mut counters = self.table.close(leg);
        let web = self.web.close(leg);
        let is_web = web.is_some();
        if let (Some((paths, handshakes)), Some(counters)) = (web, &mut counters) {
            counters.paths_set_up = paths;
            counters.handshakes = handshakes;
        }
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
            count(&counters, is_web);
            if is_ours {
                self.send_event(leg, MediaEvent::Counted(counters));
            }
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
        for _ in 0..BATCHES_PER_TURN {
            // The buffers are lent to the receive: the socket is borrowed from the same worker.
            let mut buffers = std::mem::take(&mut self.buffers);
            let Some((socket, origin)) = self.origin(token) else {
                self.buffers = buffers;
                return;
            };
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let count = {
                let mut chunks = buffers.chunks_exact_mut(PACKET_BYTES);
                let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| {
                    IoSliceMut::new(chunks.next().expect("a buffer for each packet of a batch"))
                });
                socket
                    .state
                    .recv(UdpSockRef::from(&socket.socket), &mut slices, &mut metas)
            };
            self.buffers = buffers;
            match count {
                Ok(count) => {
                    for (at, meta) in metas.iter().take(count).enumerate() {
                        self.take(origin, at * PACKET_BYTES, meta);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // An ICMP error of a peer that is away (RFC 1122 §4.1.3.3): the next packet counts.
                Err(_) => {}
            }
        }
        self.unfinished.push(token);
    }

    /// Returns the socket of a token, and whose packets it brings.
    fn origin(&self, token: Token) -> Option<(&Socket, Origin)> {
        if let Some(number) = token.0.checked_sub(SHARED_FIRST) {
            let shared = self.shared.get(number)?;
            return Some((&shared.socket, Origin::Shared(shared.local)));
        }
        let (slot, is_rtcp) = (token.0 / 2, token.0 % 2 == 1);
        let sockets = self.sockets.get(slot)?.as_ref()?;
        let leg = sockets.leg;
        let socket = if is_rtcp { &sockets.rtcp } else { &sockets.rtp };
        Some((socket, Origin::Own { leg, is_rtcp }))
    }

    /// Takes each packet of one receive.
    fn take(&mut self, origin: Origin, start: usize, meta: &RecvMeta) {
        let now = (self.clock)();
        let stride = meta.stride.max(1);
        let end = start + meta.len.min(PACKET_BYTES);
        let mut at = start;
        while at < end {
            let octets = &self.buffers[at..end.min(at + stride)];
            let length = octets.len();
            self.packet[..length].copy_from_slice(octets);
            match origin {
                Origin::Own { leg, is_rtcp } => self.relay(leg, is_rtcp, meta.addr, length, now),
                Origin::Shared(local) => {
                    let packet = &self.packet[..length];
                    match self.web.sort(local, meta.addr, packet, now) {
                        Sorted::Media(leg) => self.relay(leg, false, meta.addr, length, now),
                        Sorted::Taken => self.settle(),
                    }
                }
            }
            at += stride;
        }
    }

    /// Gives the packet to the table and sends what it says.
    fn relay(
        &mut self,
        leg: SideKey,
        is_rtcp: bool,
        source: SocketAddr,
        length: usize,
        now: contract::Time,
    ) {
        let packet = &mut self.packet[..];
        let verdict = if is_rtcp {
            self.table.on_rtcp(leg, source, now, packet, length)
        } else {
            self.table.on_packet(leg, source, now, packet, length)
        };
        let (from, is_rtcp, to, length) = match verdict {
            Verdict::Forward {
                to_leg,
                to,
                length,
                is_rtcp,
            } => (to_leg, is_rtcp, to, length),
            Verdict::Reflect { to, length } => (leg, false, to, length),
            Verdict::Drop(_) => return,
        };
        let ways = Ways {
            legs: &self.legs,
            sockets: &self.sockets,
            web: &self.web,
        };
        ways.send(from, is_rtcp, to, &self.packet[..length]);
    }

    fn tick(&mut self) {
        let now = (self.clock)();
        let ways = Ways {
            legs: &self.legs,
            sockets: &self.sockets,
            web: &self.web,
        };
        self.table.on_tick(now, &mut |leg, to, packet| {
            ways.send(leg, false, to, packet);
        });
        if self.web.next_due().is_some_and(|due| due <= now) {
            self.web.on_time(now);
            self.settle();
        }
        for leg in self.table.over(now) {
            self.close(leg);
        }
        let lingering = self.table.lingering();
        if lingering != self.lingering_told {
            let (told, total) = (self.lingering_told, &self.lingering);
            total.fetch_add(lingering.wrapping_sub(told), Ordering::Relaxed);
            self.lingering_told = lingering;
        }
    }

    /// Carries out what paths and handshakes found.
    fn settle(&mut self) {
        for (leg, output) in self.web.take() {
            match output {
                WebOutput::Target(target) => self.table.set_target(leg, target),
                WebOutput::Event(_) if self.table.is_lingering(leg) => {}
                WebOutput::Event(event) => self.send_event(leg, event),
            }
        }
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

/// The sockets of all legs, to send from.
struct Ways<'a> {
    legs: &'a BTreeMap<SideKey, usize>,
    sockets: &'a [Option<Sockets>],
    web: &'a WebLegs,
}

impl Ways<'_> {
    /// Sends a packet from a leg's socket. A packet that the system does not take is lost, as on any
    /// network: media is never queued.
    fn send(&self, leg: SideKey, is_rtcp: bool, to: SocketAddr, packet: &[u8]) {
        let slot = self.legs.get(&leg);
        match slot.and_then(|slot| self.sockets.get(*slot)) {
            Some(Some(pair)) => {
                let socket = if is_rtcp { &pair.rtcp } else { &pair.rtp };
                let _ = socket.socket.send_to(packet, to);
            }
            Some(None) | None => self.web.send(leg, to, packet),
        }
    }
}

/// Counts a leg that ends, by what carried it in the life of this process.
fn count(counters: &LegCounters, is_web: bool) {
    let is_protected = counters.srtp_packets > 0;
    let transport = match (is_web, is_protected) {
        (true, _) => "webrtc",
        (false, true) => "sdes",
        (false, false) => "rtp",
    };
    let done = |is_done: bool| if is_done { "true" } else { "false" };
    metrics::counter!(
        "weft_media_legs_ended_total",
        "transport" => transport,
        "agent" => done(counters.paths_set_up > 0),
        "handshake" => done(counters.handshakes > 0),
        "srtp" => done(is_protected)
    )
    .increment(1);
}
