//! Many registered phones behind one UDP socket: they refresh at a steady rate, and what becomes of
//! each request is counted.
//!
//! In: users, nodes to ask in turn, a rate. Out: a tally. A request is repeated as RFC 3261 §17.1.2
//! says, each time to the next of the nodes that are named then, as a balancer in front of them does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::phone::{Message, credentials};

/// First repetition (RFC 3261 §17.1.2.2, T1).
const REPEAT: Duration = Duration::from_millis(500);
/// Longest time between two (T2).
const REPEAT_MAX: Duration = Duration::from_secs(4);
/// When a request counts as lost (64 T1).
const LOST: Duration = Duration::from_secs(32);

/// What became of requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Registrations that were begun.
    pub begun: u64,
    /// Those that ended with 200.
    pub granted: u64,
    /// Those that nobody answered in 32 s.
    pub lost: u64,
    /// Datagrams sent again.
    pub repeated: u64,
    /// Other final answers, but challenges.
    pub refused: BTreeMap<u16, u64>,
    /// The 200s that did not name the phone's own contact once.
    pub wrong: Vec<String>,
    /// How long those took that were granted, challenge included.
    pub took: Vec<Duration>,
}

/// The phones, until it is ended or dropped.
#[derive(Debug)]
pub struct Crowd {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    nodes: Mutex<Vec<SocketAddr>>,
    tally: Mutex<Tally>,
    is_over: AtomicBool,
}

/// A registration under way.
#[derive(Debug)]
struct Open {
    user: usize,
    cseq: u32,
    text: String,
    begun: Instant,
    repeat_at: Instant,
    wait: Duration,
    is_authorized: bool,
}

struct Phones {
    shared: Arc<Shared>,
    socket: UdpSocket,
    users: Vec<String>,
    /// Last CSeq of each.
    cseqs: Vec<u32>,
    /// By the number in the Call-ID, which is the user's place.
    open: BTreeMap<usize, Open>,
    sent: usize,
    /// Whether a phone stays with its node while that answers.
    stays: bool,
    /// Number of each one's node.
    own: Vec<usize>,
}

impl Crowd {
    /// Starts with users `first` to `first + count - 1`, whose passwords are `weft-` and their names.
    ///
    /// In: `rate`, registrations begun a second.
    ///
    /// # Panics
    /// If no socket can be had.
    #[must_use]
    pub fn start(first: u32, count: u32, nodes: Vec<SocketAddr>, rate: u32) -> Crowd {
        Crowd::of(Ipv4Addr::LOCALHOST, (first, count), nodes, rate, false)
    }

    /// The same at an address of this machine, each phone with a node of its own: it turns to the next
    /// one when it gets no answer.
    ///
    /// # Panics
    /// If no socket can be had.
    #[must_use]
    pub fn start_at(
        ip: Ipv4Addr,
        (first, count): (u32, u32),
        nodes: Vec<SocketAddr>,
        rate: u32,
    ) -> Crowd {
        Crowd::of(ip, (first, count), nodes, rate, true)
    }

    fn of(
        ip: Ipv4Addr,
        (first, count): (u32, u32),
        nodes: Vec<SocketAddr>,
        rate: u32,
        stays: bool,
    ) -> Crowd {
        let socket = UdpSocket::bind((ip, 0)).expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(1)))
            .expect("a timeout");
        let shared = Arc::new(Shared {
            nodes: Mutex::new(nodes),
            tally: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let users: Vec<String> = (first..first + count).map(|one| one.to_string()).collect();
        let phones = Phones {
            shared: Arc::clone(&shared),
            socket,
            cseqs: vec![0; users.len()],
            users,
            open: BTreeMap::new(),
            sent: 0,
            stays,
            own: (0..count as usize).collect(),
        };
        let thread = std::thread::spawn(move || phones.run(rate));
        Crowd {
            shared,
            thread: Some(thread),
        }
    }

    /// Sets which nodes are asked from now on.
    pub fn turn_to(&self, nodes: Vec<SocketAddr>) {
        *lock(&self.shared.nodes) = nodes;
    }

    /// Returns what became of requests so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        lock(&self.shared.tally).clone()
    }

    /// Begins nothing more, waits for what is under way and returns the tally.
    #[must_use]
    pub fn end(mut self) -> Tally {
        self.finish();
        self.tally()
    }

    fn finish(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Tally {
    /// Every registration was granted, and named the phone's contact once.
    ///
    /// # Panics
    /// If not.
    pub fn is_clean(&self) {
        assert!(self.begun > 0, "there was no load");
        let rest = self.begun - self.granted;
        assert_eq!(
            (rest, self.lost, &self.refused),
            (0, 0, &BTreeMap::new()),
            "begun {}, granted {}",
            self.begun,
            self.granted
        );
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
    }
}

impl Phones {
    fn run(mut self, rate: u32) {
        let pace = Duration::from_secs(1) / rate.max(1);
        let (mut due, mut next) = (Instant::now(), 0);
        loop {
            let is_over = self.shared.is_over.load(Ordering::Relaxed);
            if is_over && self.open.is_empty() {
                return;
            }
            while !is_over && due <= Instant::now() {
                self.begin(next % self.users.len());
                next += 1;
                due += pace;
            }
            self.listen();
            self.repeat();
        }
    }

    fn begin(&mut self, user: usize) {
        // One at a time each (RFC 3261 §10.2).
        if self.open.contains_key(&user) {
            return;
        }
        lock(&self.shared.tally).begun += 1;
        self.send_new(user, Instant::now(), "", false);
    }

    fn send_new(&mut self, user: usize, begun: Instant, more: &str, is_authorized: bool) {
        self.cseqs[user] += 1;
        let cseq = self.cseqs[user];
        let text = self.request(user, cseq, more);
        self.send(user, &text);
        let open = Open {
            user,
            cseq,
            text,
            begun,
            repeat_at: Instant::now() + REPEAT,
            wait: REPEAT,
            is_authorized,
        };
        self.open.insert(user, open);
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("a bound socket")
    }

    fn contact(&self, user: usize) -> String {
        format!("<sip:{}@{}>", self.users[user], self.address())
    }

    fn request(&self, user: usize, cseq: u32, more: &str) -> String {
        let (name, address) = (&self.users[user], self.address());
        let mut text = String::from("REGISTER sip:weft.test SIP/2.0\r\n");
        let _ = write!(
            text,
            "Via: SIP/2.0/UDP {address};branch=z9hG4bK{user}x{cseq}x{port};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{name}@weft.test>;tag=c{user}\r\n\
             To: <sip:{name}@weft.test>\r\nCall-ID: {user}-crowd-{port}\r\nCSeq: {cseq} REGISTER\r\n\
             Contact: {contact}\r\nExpires: 600\r\n{more}Content-Length: 0\r\n\r\n",
            port = address.port(),
            contact = self.contact(user),
        );
        text
    }

    fn send(&mut self, user: usize, text: &str) {
        let nodes = lock(&self.shared.nodes);
        let turn = if self.stays {
            self.own[user]
        } else {
            self.sent
        };
        let to = nodes[turn % nodes.len()];
        self.sent += 1;
        // A node that is down answers with ICMP: the datagram is lost, as on any network.
        let _ = self.socket.send_to(text.as_bytes(), to);
    }

    fn listen(&mut self) {
        let mut octets = [0; 4096];
        while let Ok((count, _)) = self.socket.recv_from(&mut octets) {
            let message = Message::read(&octets[..count]);
            if message.status() >= 200 && message.method() == "REGISTER" {
                self.answered(&message);
            }
        }
    }

    fn answered(&mut self, answer: &Message) {
        let call_id = answer.header("Call-ID").unwrap_or_default();
        let user = call_id.split('-').next().and_then(|one| one.parse().ok());
        let is_it = |open: &&Open| open.cseq == answer.cseq();
        let Some(open) = user.and_then(|user| self.open.get(&user)).filter(is_it) else {
            return;
        };
        let (user, begun, status) = (open.user, open.begun, answer.status());
        let is_stale = answer
            .header("WWW-Authenticate")
            .is_some_and(|value| value.contains("stale=true"));
        if status == 401 && (!open.is_authorized || is_stale) {
            let name = self.users[user].clone();
            let who = (name.as_str(), &*format!("weft-{name}"));
            let more = credentials(who, answer, "REGISTER", "sip:weft.test");
            return self.send_new(user, begun, &more, true);
        }
        self.open.remove(&user);
        let own = self.contact(user);
        let mut tally = lock(&self.shared.tally);
        if status != 200 {
            *tally.refused.entry(status).or_default() += 1;
            return;
        }
        tally.granted += 1;
        tally.took.push(begun.elapsed());
        let contacts = answer
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("Contact"));
        let contacts: Vec<&str> = contacts.map(|(_, value)| value.as_str()).collect();
        let is_own = |contact: &&str| contact.starts_with(&own);
        if contacts.len() != 1 || !contacts.iter().all(is_own) {
            tally.wrong.push(format!("{own} was told {contacts:?}"));
        }
    }

    fn repeat(&mut self) {
        let now = Instant::now();
        let due: Vec<usize> = self
            .open
            .values()
            .filter(|open| open.repeat_at <= now)
            .map(|open| open.user)
            .collect();
        for user in due {
            let Some(open) = self.open.get_mut(&user) else {
                continue;
            };
            if open.begun.elapsed() >= LOST {
                self.open.remove(&user);
                lock(&self.shared.tally).lost += 1;
                continue;
            }
            open.wait = (open.wait * 2).min(REPEAT_MAX);
            open.repeat_at = now + open.wait;
            let text = open.text.clone();
            lock(&self.shared.tally).repeated += 1;
            self.own[user] += 1;
            self.send(user, &text);
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().expect("the crowd does not panic")
}

/// Returns the value below which `percent` of the values lie, and the highest one.
#[must_use]
pub fn percentile(values: &mut [Duration], percent: usize) -> (Duration, Duration) {
    values.sort_unstable();
    let at = (values.len() * percent / 100).min(values.len().saturating_sub(1));
    let value = |at: usize| values.get(at).copied().unwrap_or_default();
    (value(at), value(values.len().saturating_sub(1)))
}

/// Returns the configuration of users `first` to `first + count - 1`.
#[must_use]
pub fn users(first: u32, count: u32) -> String {
    (first..first + count).fold(String::new(), |mut text, user| {
        let _ = write!(
            text,
            "[[user]]\nname = \"{user}\"\npassword = \"weft-{user}\"\n"
        );
        text
    })
}
