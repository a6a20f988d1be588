//! Simulated JSON clients: browsers' tabs that register, call, answer, hold and come back.
//!
//! In: frames, datagrams, the time, the end of a connection. Out: frames, datagrams, and what the
//! client believes of its binding and calls, which the checkers hold against the node. The protocol
//! is written here as a page would write it, on plain JSON values.
//!
//! | file | what |
//! |---|---|
//! | `call.rs` | one call |
//! | `acting.rs` | what it does of itself |
//! | `hearing.rs` | what it does about messages |
//! | `peer.rs` | what its station asks of it |
//! | `rude.rs` | what broken and hostile pages send |

mod acting;
mod call;
mod hearing;
mod peer;
mod rude;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use contract::{Entropy, Time};
use serde_json::{Value, json};

pub use call::{ClientCall, Stage};

use crate::phone::{Complaint, Habits, Out};

/// Time without a connection after which a call may have ended without word.
const AWAY: Duration = Duration::from_secs(7);
/// How long a reply to a registration is awaited.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request whose reply is open.
#[derive(Clone, Debug)]
struct Asked {
    kind: &'static str,
    call_id: String,
}

/// One tab.
#[derive(Debug)]
pub struct Client {
    /// Account.
    pub user: String,
    /// Its address.
    pub address: SocketAddr,
    rng: Entropy,
    habits: Habits,
    calls: BTreeMap<String, ClientCall>,
    token: Option<String>,
    last_seq: u64,
    heard: BTreeSet<String>,
    asked: BTreeMap<String, Asked>,
    register_at: Time,
    /// Until when the node has promised to keep the binding.
    pub registered_until: Option<Time>,
    lost_at: Option<Time>,
    act_at: Time,
    next_port: u16,
    counter: u64,
    complaints: Vec<Complaint>,
    /// What it did, for the run's counts.
    done: BTreeMap<&'static str, u64>,
    /// Calls that were answered.
    pub talked: u64,
}

impl Client {
    /// Makes a tab that begins to register soon after `now`.
    #[must_use]
    pub fn new(
        user: &str,
        address: SocketAddr,
        mut rng: Entropy,
        habits: Habits,
        now: Time,
    ) -> Client {
        let start = now + Duration::from_millis(u64::from(rng.below(2_000)));
        Client {
            user: user.to_owned(),
            address,
            rng,
            habits,
            calls: BTreeMap::new(),
            token: None,
            last_seq: 0,
            heard: BTreeSet::new(),
            asked: BTreeMap::new(),
            register_at: start,
            registered_until: None,
            lost_at: None,
            act_at: start + Duration::from_secs(4),
            next_port: 40_000,
            counter: 0,
            complaints: Vec::new(),
            done: BTreeMap::new(),
            talked: 0,
        }
    }

    /// Returns its calls by their names.
    #[must_use]
    pub fn calls(&self) -> &BTreeMap<String, ClientCall> {
        &self.calls
    }

    fn did(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    fn instance(&self) -> String {
        format!("tab-{}", self.user)
    }

    /// Returns its contact as the node is to have it.
    #[must_use]
    pub fn contact(&self) -> String {
        format!("sip:{}@{}.invalid", self.user, self.instance())
    }

    fn draw(&mut self, percent: u32) -> bool {
        self.rng.below(100) < percent
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        let millis = u32::try_from(longest.as_millis()).unwrap_or(u32::MAX);
        Duration::from_millis(500 + u64::from(self.rng.below(millis.max(1))))
    }

    /// Tells whether the node had to give up what it wanted to tell this tab.
    fn was_away(&self, now: Time) -> bool {
        self.lost_at.is_some_and(|lost| now.since(lost) > AWAY)
    }

    /// Asks something; the reply repeats the id.
    fn ask(&mut self, kind: &'static str, payload: &Value, out: &mut Vec<Out>) {
        self.counter += 1;
        let id = format!("m{}", self.counter);
        let call_id = payload["callId"].as_str().unwrap_or_default().to_owned();
        self.asked.insert(id.clone(), Asked { kind, call_id });
        self.did(kind);
        say(kind, payload, &id, out);
    }

    /// Registers, or comes back to what it had.
    fn register(&mut self, now: Time, out: &mut Vec<Out>) {
        self.register_at = now + PATIENCE;
        let returns = self.lost_at.is_some() && !self.draw(15);
        match self.token.clone().filter(|_| returns) {
            Some(token) => {
                let calls: Vec<_> = self.open_calls();
                let payload = json!({ "token": token, "lastSeq": self.last_seq, "calls": calls });
                self.ask("resumeSession", &payload, out);
            }
            None => {
                let is_wrong = self.habits.odd > 0 && self.draw(3);
                let word = if is_wrong { "wrong" } else { "weft" };
                let payload = json!({
                    "dn": self.user, "password": format!("{word}-{}", self.user),
                    "instance": self.instance(), "expires": 60, "displayName": "A tab",
                });
                self.ask("register", &payload, out);
            }
        }
    }

    fn open_calls(&self) -> Vec<String> {
        let open = self.calls.iter().filter(|(_, call)| !call.is_over());
        open.map(|(name, _)| name.clone()).collect()
    }

    /// Passes on what lines want sent.
    fn send_media(&mut self, out: &mut Vec<Out>) {
        for call in self.calls.values_mut() {
            while let Some((to, packet)) = call.line.poll() {
                let port = call.port;
                out.push(Out::Rtp { port, to, packet });
            }
        }
    }

    /// Stops the tab from starting new calls.
    pub fn rest(&mut self) {
        self.habits.calls = false;
    }

    /// Hangs up whatever goes on.
    pub fn hang_up(&mut self, now: Time) {
        self.rest();
        for call in self.calls.values_mut().filter(|call| !call.is_over()) {
            call.is_unsure = true;
            call.step_at = Some(now);
        }
    }
}

/// Writes a message.
fn say(kind: &str, payload: &Value, id: &str, out: &mut Vec<Out>) {
    let text = json!({ "type": kind, "payload": payload, "id": id }).to_string();
    out.push(Out::Sip(Bytes::from(text)));
}
