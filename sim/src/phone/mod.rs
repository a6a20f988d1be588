//! Simulated phones: pure cores that register, call, answer, hold and hang up.
//!
//! In: octets, the time. Out: octets, and what the phone believes (its bindings and calls), which
//! the checkers hold against what the node says. Written on weft-sip's reader and writer; the
//! transaction rules are few and the phone's own, so that they cannot share a fault with ours.

mod acting;
mod call;
mod habit;
mod hearing;
mod join;
mod make;
mod odd;
mod peer;
mod text;
mod voice;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use contract::{Entropy, Time};
use sip::{Message, MethodName};

use crate::line::Line;

pub(crate) use acting::rtp;
pub use call::{Call, CallState, Role};
pub use habit::Habits;
pub use make::{Make, SDES_AT, SDES_EVERY};
use text::{Fields, credentials};

/// T1 of RFC 3261.
const T1: Duration = Duration::from_millis(500);
/// 64·T1: when a transaction is given up.
const GIVE_UP: Duration = Duration::from_secs(32);
/// Time without a connection after which a call may have ended without word.
const AWAY: Duration = Duration::from_secs(7);
/// Longer than any run.
const NEVER: Duration = Duration::from_secs(1 << 32);
/// Time between RTP packets of a call: ten times the usual, to keep runs short.
pub(crate) const PACKET_EVERY: Duration = Duration::from_millis(200);

/// What a phone wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// A SIP message to the node.
    Sip(Bytes),
    /// An RTP packet.
    Rtp {
        /// From this port of the phone.
        port: u16,
        /// To this address.
        to: SocketAddr,
        /// The packet.
        packet: Bytes,
    },
}

/// A broken promise as the phone sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Which promise.
    pub promise: &'static str,
    /// How.
    pub how: String,
    /// Call-ID of a BYE that was answered 481: no complaint if the node had it before.
    pub unknown_bye: Option<String>,
    /// From when to when the call was believed to be there.
    pub life: (Time, Time),
}

impl Complaint {
    pub(crate) fn new(promise: &'static str, how: String) -> Complaint {
        Complaint {
            promise,
            how,
            unknown_bye: None,
            life: (Time::default(), Time::default()),
        }
    }
}

/// A request on its way.
#[derive(Clone, Debug)]
struct Sent {
    bytes: Bytes,
    call_id: String,
    cseq: u32,
    method: &'static str,
    again: Time,
    wait: Duration,
    end: Time,
}

/// One phone.
#[derive(Debug)]
pub struct Phone {
    /// Account.
    pub user: String,
    /// Its address.
    pub address: SocketAddr,
    make: Make,
    rng: Entropy,
    habits: Habits,
    sent: Vec<Sent>,
    calls: BTreeMap<String, Call>,
    /// Protected media of calls.
    lines: BTreeMap<String, Line>,
    register_id: String,
    register_cseq: u32,
    register_at: Time,
    /// Until when the node has promised to keep the binding.
    pub registered_until: Option<Time>,
    /// Since when it has had no connection over which it is registered.
    lost_at: Option<Time>,
    act_at: Time,
    next_port: u16,
    counter: u64,
    /// Of each dialog, by Call-ID and the node's tag.
    highest: BTreeMap<(String, String), (u32, String)>,
    complaints: Vec<Complaint>,
    /// Feature codes that undo what it may have set, until each was answered.
    undone: Vec<&'static str>,
    /// Calls that were answered.
    pub talked: u64,
}

impl Phone {
    /// Makes a phone that begins to register soon after `now`.
    #[must_use]
    pub fn new(
        user: &str,
        address: SocketAddr,
        make: Make,
        mut rng: Entropy,
        habits: Habits,
        now: Time,
    ) -> Phone {
        let register_id = rng.call_id();
        let start = now + Duration::from_millis(u64::from(rng.below(2_000)));
        Phone {
            user: user.to_owned(),
            address,
            make,
            habits,
            sent: Vec::new(),
            calls: BTreeMap::new(),
            lines: BTreeMap::new(),
            register_id,
            register_cseq: 0,
            register_at: start,
            registered_until: None,
            lost_at: None,
            act_at: start + Duration::from_secs(3),
            next_port: 40_000,
            counter: 0,
            highest: BTreeMap::new(),
            complaints: Vec::new(),
            undone: Vec::new(),
            talked: 0,
            rng,
        }
    }

    /// Makes a phone that does nothing of itself, and does not register.
    #[must_use]
    pub fn probe(user: &str, address: SocketAddr, mut rng: Entropy, now: Time) -> Phone {
        let mut habits = Habits::draw(&mut rng);
        habits.be_ready();
        let mut phone = Phone::new(user, address, Make::Udp, rng, habits, now);
        phone.register_at = now + NEVER;
        phone.act_at = now + NEVER;
        phone
    }

    /// Calls somebody.
    pub fn ring(&mut self, user: &str, now: Time, out: &mut Vec<Out>) {
        self.dial(user, false, now, out);
    }

    /// Accepts every call from now on, makes none, and does not put anybody on hold.
    pub fn be_ready(&mut self) {
        self.habits.be_ready();
    }

    /// Returns the calls, by Call-ID.
    #[must_use]
    pub fn calls(&self) -> &BTreeMap<String, Call> {
        &self.calls
    }

    /// Stops the phone from starting new calls; what goes on goes on.
    pub fn rest(&mut self) {
        self.habits.calls = false;
    }

    /// Returns the transport of its Via.
    #[must_use]
    pub const fn transport(&self) -> &'static str {
        self.make.transport()
    }

    /// Tells whether its media is protected.
    #[must_use]
    pub const fn is_protected(&self) -> bool {
        self.make.is_protected()
    }

    /// Returns the host that its Via and Contact name (RFC 7118 §5: a browser has none).
    fn host(&self) -> String {
        match self.make {
            Make::Udp | Make::Tcp | Make::Sdes => self.address.to_string(),
            Make::Web | Make::Tab => format!("b{}.invalid", self.user),
        }
    }

    /// Returns its contact as the node is to have it.
    #[must_use]
    pub fn contact(&self) -> String {
        format!(
            "sip:{}@{};transport={}",
            self.user,
            self.host(),
            self.transport().to_lowercase()
        )
    }

    /// Tells whether the node had to give up what it wanted to tell this phone (`architecture.md`
    /// §7: after 8 s).
    fn was_away(&self, now: Time) -> bool {
        self.lost_at.is_some_and(|lost| now.since(lost) > AWAY)
    }

    fn fields(&mut self) -> Fields<'_> {
        self.counter += 1;
        Fields {
            user: &self.user,
            host: self.host(),
            transport: self.make.transport(),
            branch: format!(
                "z9hG4bK{}x{}x{}",
                self.user,
                self.address.port(),
                self.counter
            ),
        }
    }

    fn send_request(
        &mut self,
        now: Time,
        method: &'static str,
        call_id: &str,
        cseq: u32,
        bytes: Bytes,
        out: &mut Vec<Out>,
    ) {
        out.push(Out::Sip(bytes.clone()));
        self.sent.push(Sent {
            bytes,
            call_id: call_id.to_owned(),
            cseq,
            method,
            again: now + T1,
            wait: T1,
            end: now + GIVE_UP,
        });
    }

    fn retransmit(&mut self, now: Time, out: &mut Vec<Out>) {
        let mut given_up = Vec::new();
        for sent in &mut self.sent {
            if now >= sent.end {
                given_up.push((sent.method, sent.call_id.clone()));
            } else if now >= sent.again {
                if !self.make.is_stream() {
                    out.push(Out::Sip(sent.bytes.clone()));
                }
                sent.wait = (sent.wait * 2).min(Duration::from_secs(4));
                sent.again = now + sent.wait;
            }
        }
        self.sent.retain(|sent| now < sent.end);
        for (method, call_id) in given_up {
            match method {
                "REGISTER" => self.register_at = now + Duration::from_secs(2),
                _ => self.gave_up(method, &call_id, now),
            }
        }
    }

    fn register(&mut self, now: Time, challenge: Option<&Message>, out: &mut Vec<Out>) {
        self.register_cseq += 1;
        self.register_at = now + Duration::from_secs(40);
        let authorization = challenge
            .and_then(|challenge| credentials(challenge, &self.user, "REGISTER", "sip:weft.test"));
        let (contact, call_id, cseq) =
            (self.contact(), self.register_id.clone(), self.register_cseq);
        let aor = format!("<sip:{}@weft.test>", self.user);
        let expires = self.habits.expires.as_secs();
        let mut more = format!("Contact: <{contact}>\r\nExpires: {expires}\r\n");
        if let Some(value) = authorization {
            more.push_str(&value);
        }
        let text = self.fields().request(
            "REGISTER",
            "sip:weft.test",
            &format!("{aor};tag=r"),
            &aor,
            &call_id,
            cseq,
            &more,
            "",
        );
        self.sent.retain(|sent| sent.method != "REGISTER");
        self.send_request(now, "REGISTER", &call_id, cseq, text, out);
    }

    /// Takes a SIP message of the node.
    fn on_sip(&mut self, now: Time, bytes: Bytes, out: &mut Vec<Out>) {
        let Ok(message) = Message::read(bytes.clone()) else {
            let text = String::from_utf8_lossy(&bytes);
            if text.contains("Call-ID: broken") {
                // The answer to what was no SIP repeats it (RFC 3261 §8.2.6.2).
                return;
            }
            let how = format!("{} got no SIP: {text:?}", self.user);
            self.complaints.push(Complaint::new("SIP", how));
            return;
        };
        match message.status() {
            Some(status) => self.on_response(now, status, &message, out),
            None => self.on_request(now, &message, out),
        }
        self.send_media(out);
    }

    fn on_response(&mut self, now: Time, status: u16, message: &Message, out: &mut Vec<Out>) {
        let (Ok(call_id), Ok(cseq)) = (message.call_id(), message.cseq()) else {
            return;
        };
        let (call_id, number, method) = (call_id.to_owned(), cseq.number, cseq.method.to_string());
        let matched = self.sent.iter().position(|sent| {
            sent.call_id == call_id && sent.cseq == number && sent.method == method
        });
        if let Some(at) = matched {
            if status >= 200 {
                self.sent.remove(at);
            } else if method == "INVITE" {
                // A provisional response stops retransmissions (RFC 3261 §17.1.1.2).
                self.sent[at].again = now + Duration::from_secs(180);
                self.sent[at].end = now + Duration::from_secs(180);
            }
        }
        if method == "REGISTER" {
            if matched.is_some() && status >= 200 {
                self.registered(now, status, number, message, out);
            }
        } else {
            self.call_on_response(now, &call_id, status, number, &method, message, out);
        }
    }

    fn registered(
        &mut self,
        now: Time,
        status: u16,
        cseq: u32,
        message: &Message,
        out: &mut Vec<Out>,
    ) {
        if cseq != self.register_cseq {
            return;
        }
        match status {
            200 => {
                let granted = text::granted(message, &self.contact());
                match granted {
                    Some(seconds) => {
                        let length = Duration::from_secs(u64::from(seconds));
                        self.registered_until = Some(now + length);
                        self.register_at = now + length / 2;
                    }
                    None => {
                        let how = format!("{}: 200 without its contact", self.user);
                        self.complaints.push(Complaint::new("I6", how));
                    }
                }
                if self.was_away(now) {
                    for call in self.calls.values_mut() {
                        call.was_cut = true;
                    }
                }
                self.lost_at = None;
            }
            401 => {
                let answered = self.register_cseq.is_multiple_of(2);
                let stale = message
                    .header(sip::HeaderName::WwwAuthenticate)
                    .is_some_and(|value| value.contains("stale=true"));
                if answered && !stale {
                    self.register_at = now + Duration::from_secs(1);
                    // The next attempt begins without credentials: it must have an odd number.
                } else {
                    self.register(now, Some(message), out);
                }
            }
            _ => self.register_at = now + Duration::from_secs(2),
        }
    }

    fn on_request(&mut self, now: Time, message: &Message, out: &mut Vec<Out>) {
        let (Ok(call_id), Ok(cseq)) = (message.call_id(), message.cseq()) else {
            return;
        };
        let call_id = call_id.to_owned();
        let method = match message.method() {
            MethodName::Known(method) => method.to_string(),
            MethodName::Other(other) => other.to_owned(),
        };
        if method != "ACK" && method != "CANCEL" {
            self.check_cseq(&call_id, cseq.number, message);
        }
        self.call_on_request(now, &call_id, &method, cseq.number, message, out);
    }

    /// I8: a CSeq toward us rises within its dialog; the same number is the same transaction.
    fn check_cseq(&mut self, call_id: &str, number: u32, message: &Message) {
        let branch = message
            .via()
            .ok()
            .and_then(|via| via.branch().map(str::to_owned))
            .unwrap_or_default();
        // An INVITE that was made again may have met two nodes: two dialogs (RFC 3261 §12.2.1.1).
        let sender = message.from().ok();
        let tag = sender.and_then(|from| from.tag().map(str::to_owned));
        let key = (call_id.to_owned(), tag.unwrap_or_default());
        match self.highest.get(&key) {
            Some((highest, known)) if *highest == number && *known != branch => {
                let how = format!("CSeq {number} of {call_id} is used in two transactions");
                self.complaints.push(Complaint::new("I8", how));
            }
            Some((highest, _)) if *highest >= number => {}
            Some(_) | None => {
                self.highest.insert(key, (number, branch));
            }
        }
    }
}
