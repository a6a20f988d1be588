//! RTP of many calls from one thread: a packet every 20 ms a socket, and the longest pause between
//! packets that came.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::capture::sine;

/// Payload type of telephone events in the phones' SDP.
const EVENTS: u8 = 101;

/// What one socket has seen.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Packets.
    pub packets: u64,
    /// When the last one came.
    pub last: Option<Instant>,
    /// Longest pause between two.
    pub pause: Duration,
    /// Source of the last one.
    pub source: Option<SocketAddr>,
    /// SSRC of the last one.
    pub ssrc: u32,
    /// Sequence numbers that came, in order of arrival, the last 200.
    pub sequence: Vec<u16>,
    /// Payloads that came, in order of arrival, the last second of G.711.
    pub payload: Vec<u8>,
    /// Numbers of the telephone events that came, by their first packet (RFC 4733 §2.3).
    pub events: Vec<u8>,
    event_began: Option<u32>,
}

#[derive(Debug)]
struct Socket {
    socket: UdpSocket,
    to: Option<SocketAddr>,
    sequence: u16,
    ssrc: u32,
    /// A second of what it sends; silence if empty.
    sound: Vec<u8>,
    heard: Heard,
}

/// Sockets that send and listen until it is dropped.
#[derive(Debug)]
pub struct Pump {
    sockets: Arc<Mutex<Vec<Socket>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Default for Pump {
    fn default() -> Self {
        Pump::new()
    }
}

impl Pump {
    /// Starts the thread.
    #[must_use]
    pub fn new() -> Pump {
        let sockets = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let (shared, stop) = (Arc::clone(&sockets), Arc::clone(&stopped));
        let thread = std::thread::spawn(move || {
            let mut due = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let is_due = Instant::now() >= due;
                if is_due {
                    due += Duration::from_millis(20);
                }
                step(&mut lock(&shared), is_due);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Pump {
            sockets,
            stopped,
            thread: Some(thread),
        }
    }

    /// Adds a socket on the loopback of IPv4 and returns its number and its port.
    ///
    /// # Panics
    /// If no socket can be had.
    #[must_use]
    pub fn add(&self) -> (usize, u16) {
        self.add_at(Ipv4Addr::LOCALHOST.into())
    }

    /// Adds a socket on an address and returns its number and its port.
    ///
    /// # Panics
    /// If no socket can be had.
    #[must_use]
    pub fn add_at(&self, ip: IpAddr) -> (usize, u16) {
        let socket = UdpSocket::bind((ip, 0)).expect("a socket");
        socket
            .set_nonblocking(true)
            .expect("a socket that does not block");
        let port = socket.local_addr().expect("a bound socket").port();
        let mut sockets = lock(&self.sockets);
        let ssrc = 0x1000 + u32::from(port);
        sockets.push(Socket {
            socket,
            to: None,
            sequence: 1,
            ssrc,
            sound: Vec::new(),
            heard: Heard::default(),
        });
        (sockets.len() - 1, port)
    }

    /// Sets where a socket sends, or stops it.
    pub fn aim(&self, number: usize, to: Option<SocketAddr>) {
        lock(&self.sockets)[number].to = to;
    }

    /// Lets a socket send a sine in µ-law from now on.
    pub fn play(&self, number: usize, hertz: f64) {
        lock(&self.sockets)[number].sound = sine(hertz, 10_000.0, 8_000);
    }

    /// Sends a telephone event from a socket: its first packet, and its end three times (RFC 4733
    /// §2.5.1.4).
    pub fn press(&self, number: usize, event: u8) {
        let mut sockets = lock(&self.sockets);
        let socket = &mut sockets[number];
        let Some(to) = socket.to else { return };
        let began = u32::from(socket.sequence) * 160;
        for (at, rest) in [[0x0a, 0, 160], [0x8a, 1, 64], [0x8a, 1, 64], [0x8a, 1, 64]]
            .into_iter()
            .enumerate()
        {
            let mark = if at == 0 { 0x80 } else { 0 };
            let mut packet = vec![0x80, mark | EVENTS];
            packet.extend_from_slice(&socket.sequence.to_be_bytes());
            packet.extend_from_slice(&began.to_be_bytes());
            packet.extend_from_slice(&socket.ssrc.to_be_bytes());
            packet.push(event);
            packet.extend_from_slice(&rest);
            socket.sequence = socket.sequence.wrapping_add(1);
            let _ = socket.socket.send_to(&packet, to);
        }
    }

    /// Forgets the sound that a socket has heard.
    pub fn forget_sound(&self, number: usize) {
        lock(&self.sockets)[number].heard.payload.clear();
    }

    /// Returns what a socket has heard.
    #[must_use]
    pub fn heard(&self, number: usize) -> Heard {
        lock(&self.sockets)[number].heard.clone()
    }

    /// Forgets the pauses so far.
    pub fn forget_pauses(&self) {
        for socket in lock(&self.sockets).iter_mut() {
            socket.heard.pause = Duration::ZERO;
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(sockets: &Mutex<Vec<Socket>>) -> MutexGuard<'_, Vec<Socket>> {
    sockets.lock().expect("the pump does not panic")
}

fn step(sockets: &mut [Socket], is_due: bool) {
    for socket in sockets {
        if let (true, Some(to)) = (is_due, socket.to) {
            let mut packet = vec![0x80, 0];
            packet.extend_from_slice(&socket.sequence.to_be_bytes());
            packet.extend_from_slice(&(u32::from(socket.sequence) * 160).to_be_bytes());
            packet.extend_from_slice(&socket.ssrc.to_be_bytes());
            if socket.sound.is_empty() {
                packet.resize(172, 0xd5);
            } else {
                let at = usize::from(socket.sequence) % 50 * 160;
                packet.extend_from_slice(&socket.sound[at..at + 160]);
            }
            socket.sequence = socket.sequence.wrapping_add(1);
            // Nobody may be listening while the node is down.
            let _ = socket.socket.send_to(&packet, to);
        }
        let mut packet = [0; 2048];
        loop {
            match socket.socket.recv_from(&mut packet) {
                Ok((count, from)) if count >= 12 => note(&mut socket.heard, &packet[..count], from),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => break,
            }
        }
    }
}

fn note(heard: &mut Heard, packet: &[u8], from: SocketAddr) {
    let now = Instant::now();
    if let Some(last) = heard.last {
        heard.pause = heard.pause.max(now.duration_since(last));
    }
    heard.last = Some(now);
    heard.packets += 1;
    heard.source = Some(from);
    heard.ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
    heard
        .sequence
        .push(u16::from_be_bytes([packet[2], packet[3]]));
    if heard.sequence.len() > 200 {
        heard.sequence.remove(0);
    }
    if packet[1] & 0x7f == EVENTS {
        let began = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        if heard.event_began.replace(began) != Some(began) {
            heard.events.extend(packet.get(12));
        }
        return;
    }
    heard.payload.extend_from_slice(&packet[12..]);
    let surplus = heard.payload.len().saturating_sub(8_000);
    heard.payload.drain(..surplus);
}
