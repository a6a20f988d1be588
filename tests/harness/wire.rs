//! A bad wire between a phone and the node: a UDP relay that loses, doubles, swaps or delays what
//! passes by a fixed pattern, so that a run of a suite can be repeated. It remembers what passed.

use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::phone::Message;

/// What the wire does to each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every message is lost when it is sent for the first time, and passes when it is repeated.
    LoseFirst,
    /// Every message comes twice in a row.
    Double,
    /// Every message comes, and once more after this time.
    Again(Duration),
    /// Of every two messages the second comes first.
    Swap,
    /// Every message takes this long: longer than T1 makes both sides repeat all they say.
    Late(Duration),
}

/// One message that was put on the wire.
#[derive(Clone, Debug)]
pub struct Put {
    /// Whether the phone sent it.
    pub is_from_phone: bool,
    /// The message.
    pub message: Message,
    /// Copies that came out at the other end at once or later; 0: it was lost.
    pub copies: u32,
}

/// A wire; it is cut when dropped.
#[derive(Debug)]
pub struct Wire {
    /// Where the phone sends.
    pub near: SocketAddr,
    /// What the node takes for the phone's address.
    pub far: SocketAddr,
    puts: Arc<Mutex<Vec<Put>>>,
    waiting: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A message of a pair waits no longer than this for the other: T1 (RFC 3261 §17.1.1.1).
const PAIR: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(1);

struct Held {
    due: Instant,
    to_node: bool,
    octets: Vec<u8>,
}

struct Relay {
    near: UdpSocket,
    far: UdpSocket,
    server: SocketAddr,
    phone: Option<SocketAddr>,
    fault: Fault,
    known: BTreeSet<String>,
    held: VecDeque<Held>,
    puts: Arc<Mutex<Vec<Put>>>,
    waiting: Arc<AtomicUsize>,
}

impl Wire {
    /// Lays a wire to a node, for a phone that speaks first.
    ///
    /// # Panics
    /// If no socket can be had.
    #[must_use]
    pub fn new(server: SocketAddr, fault: Fault) -> Wire {
        Wire::between(server, None, fault)
    }

    /// Lays a wire between a node and a phone.
    ///
    /// # Panics
    /// If no socket can be had.
    #[must_use]
    pub fn between(server: SocketAddr, phone: Option<SocketAddr>, fault: Fault) -> Wire {
        let socket = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
            socket.set_nonblocking(true).expect("it does not block");
            socket
        };
        let (near, far) = (socket(), socket());
        let address = |socket: &UdpSocket| socket.local_addr().expect("a bound socket");
        let addresses = (address(&near), address(&far));
        let puts = Arc::new(Mutex::new(Vec::new()));
        let waiting = Arc::new(AtomicUsize::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let mut relay = Relay {
            near,
            far,
            server,
            phone,
            fault,
            known: BTreeSet::new(),
            held: VecDeque::new(),
            puts: Arc::clone(&puts),
            waiting: Arc::clone(&waiting),
        };
        let stop = Arc::clone(&stopped);
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                relay.step();
                std::thread::sleep(TICK);
            }
        });
        Wire {
            near: addresses.0,
            far: addresses.1,
            puts,
            waiting,
            stopped,
            thread: Some(thread),
        }
    }

    /// Returns all that was put on the wire so far, in order.
    #[must_use]
    pub fn puts(&self) -> Vec<Put> {
        lock(&self.puts).clone()
    }

    /// Tells whether an ACK for a 2xx has come out at its other end.
    #[must_use]
    pub fn has_acknowledged(&self) -> bool {
        let puts = lock(&self.puts);
        let accepted = |ack: &Put| {
            puts.iter().any(|put| {
                put.is_from_phone != ack.is_from_phone
                    && put.message.status() == 200
                    && put.message.method() == "INVITE"
                    && put.message.cseq() == ack.message.cseq()
                    && put.message.header("Call-ID") == ack.message.header("Call-ID")
            })
        };
        let passed = |put: &&Put| put.message.method() == "ACK" && put.copies > 0;
        self.is_idle() && puts.iter().filter(passed).any(accepted)
    }

    /// Tells whether nothing is under way on it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Relay {
    fn step(&mut self) {
        let mut octets = [0; 65_536];
        while let Ok((count, from)) = self.near.recv_from(&mut octets) {
            self.phone = Some(from);
            self.take(true, octets[..count].to_vec());
        }
        // An ICMP error of a node that is down is read and forgotten here, too.
        while let Ok((count, _)) = self.far.recv_from(&mut octets) {
            self.take(false, octets[..count].to_vec());
        }
        let now = Instant::now();
        while let Some(at) = self.held.iter().position(|held| held.due <= now) {
            let held = self.held.remove(at).expect("just found");
            self.pass(held.to_node, &held.octets);
        }
        self.waiting.store(self.held.len(), Ordering::Relaxed);
    }

    fn take(&mut self, to_node: bool, octets: Vec<u8>) {
        let message = Message::read(&octets);
        let is_new = self.known.insert(name(to_node, &message));
        let copies = match self.fault {
            Fault::LoseFirst => u32::from(!is_new),
            Fault::Swap | Fault::Late(_) => 1,
            Fault::Double | Fault::Again(_) => 2,
        };
        lock(&self.puts).push(Put {
            is_from_phone: to_node,
            message,
            copies,
        });
        match self.fault {
            Fault::LoseFirst if is_new => {}
            Fault::LoseFirst => self.pass(to_node, &octets),
            Fault::Double => {
                self.pass(to_node, &octets);
                self.pass(to_node, &octets);
            }
            Fault::Again(time) => {
                self.pass(to_node, &octets);
                self.hold(time, to_node, octets);
            }
            Fault::Swap => {
                let first = self.held.iter().position(|held| held.to_node == to_node);
                let Some(first) = first else {
                    self.hold(PAIR, to_node, octets);
                    return;
                };
                let first = self.held.remove(first).expect("just found");
                self.pass(to_node, &octets);
                self.pass(to_node, &first.octets);
            }
            Fault::Late(time) => self.hold(time, to_node, octets),
        }
    }

    fn hold(&mut self, time: Duration, to_node: bool, octets: Vec<u8>) {
        self.held.push_back(Held {
            due: Instant::now() + time,
            to_node,
            octets,
        });
    }

    fn pass(&self, to_node: bool, octets: &[u8]) {
        let _ = match (to_node, self.phone) {
            (true, _) => self.far.send_to(octets, self.server),
            (false, Some(phone)) => self.near.send_to(octets, phone),
            (false, None) => Ok(0),
        };
    }
}

/// What makes a message the repetition of an earlier one. The branch is not part of it: an ACK for
/// a 2xx may have a new one each time (RFC 3261 §13.2.2.4).
fn name(to_node: bool, message: &Message) -> String {
    format!(
        "{to_node} {} {} {} {}",
        message.status(),
        message.method(),
        message.cseq(),
        message.header("Call-ID").unwrap_or_default()
    )
}

fn lock(puts: &Mutex<Vec<Put>>) -> MutexGuard<'_, Vec<Put>> {
    puts.lock().expect("the wire does not panic")
}
