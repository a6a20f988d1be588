//! Where a phone sends what it has to say when there are several nodes.
//!
//! | who | request | where to |
//! |---|---|---|
//! | any | response | where the request's top Via says (RFC 3261 §18.2.2) |
//! | behind a balancer that is not sticky | each datagram | a node that chance names |
//! | another phone that sends datagrams | within a dialog | where the remote target is |
//! | the same | any other | its own node |
//! | with a connection | any | the connection; lost, and not to be had again: another node after 1 to 4 s |
//!
//! In: datagrams, the fate of connections. Out: addresses. A node alone is the only answer, and
//! nothing is drawn.

use std::net::SocketAddr;
use std::time::Duration;

use contract::{Entropy, Time};
use sip::{HeaderName, Message};

/// How long the answer to a request is awaited before a connection counts as dead.
const SILENCE: Duration = Duration::from_secs(5);

/// A time in which a node was a phone's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// Where the node is.
    pub node: SocketAddr,
    /// When it began.
    pub from: Time,
    /// When it ended.
    pub until: Time,
}

/// The ways of one phone.
#[derive(Debug)]
pub struct Ways {
    nodes: Vec<SocketAddr>,
    home: usize,
    /// Which node was its own before, and until when, in this order.
    former: Vec<(Time, usize)>,
    is_balanced: bool,
    /// What it waits for a node that refuses or says nothing.
    patience: Duration,
    lost_since: Option<Time>,
    asked_at: Option<Time>,
    rng: Entropy,
}

impl Ways {
    /// Draws the ways of a phone: `nodes` by their numbers, `home` is its own at first.
    #[must_use]
    pub fn draw(nodes: Vec<SocketAddr>, home: usize, mut rng: Entropy) -> Ways {
        Ways {
            is_balanced: nodes.len() > 1 && rng.below(2) == 0,
            patience: Duration::from_millis(u64::from(1_000 + rng.below(3_000))),
            nodes,
            home,
            former: Vec::new(),
            lost_since: None,
            asked_at: None,
            rng,
        }
    }

    /// Makes the ways of a phone that knows one node.
    #[must_use]
    pub fn only(node: SocketAddr, rng: Entropy) -> Ways {
        Ways::draw(vec![node], 0, rng)
    }

    /// Tells whether each of its datagrams goes to any node.
    #[must_use]
    pub const fn is_balanced(&self) -> bool {
        self.is_balanced
    }

    /// Returns its node: where it connects.
    #[must_use]
    pub fn home(&self) -> SocketAddr {
        self.nodes[self.home]
    }

    /// Returns which nodes were its own meanwhile, one after the other.
    #[must_use]
    pub fn stays(&self, (from, until): (Time, Time)) -> Vec<Stay> {
        let mut start = from;
        let all = self.former.iter().copied().chain([(until, self.home)]);
        let stays = all.map(|(left, home)| {
            let stay = Stay {
                node: self.nodes[home],
                from: start,
                until: left.min(until),
            };
            start = start.max(stay.until);
            stay
        });
        stays.filter(|stay| stay.from < stay.until).collect()
    }

    /// Returns where a datagram goes.
    pub fn datagram(&mut self, octets: &[u8]) -> SocketAddr {
        if self.nodes.len() == 1 {
            return self.home();
        }
        let message = Message::read(octets.to_vec().into()).ok();
        let known = |address: &SocketAddr| self.nodes.contains(address);
        let named = message.and_then(|message| named(&message)).filter(known);
        let is_response = octets.starts_with(b"SIP/2.0 ");
        match named {
            Some(named) if is_response || !self.is_balanced => named,
            Some(_) | None if self.is_balanced && !is_response => {
                let count = u32::try_from(self.nodes.len()).unwrap_or(1);
                self.nodes[self.rng.below(count) as usize]
            }
            Some(_) | None => self.home(),
        }
    }

    /// A connection is gone, or is not to be had.
    pub fn lost(&mut self, now: Time) {
        self.asked_at = None;
        self.lost_since = self.lost_since.or(Some(now));
        // Who comes back may come through a balancer.
        if self.nodes.len() > 1 && self.rng.below(4) == 0 {
            self.move_on(now);
        }
    }

    /// A connection is wanted: it goes to another node if this one was tried for long enough.
    pub fn connecting(&mut self, now: Time) {
        let is_tired = |since| now.since(since) >= self.patience;
        if self.nodes.len() > 1 && self.lost_since.is_some_and(is_tired) {
            self.lost_since = Some(now);
            self.move_on(now);
        }
    }

    /// Something was said over the connection; tells whether the node has been silent for so long
    /// that the connection counts as dead.
    pub fn asked(&mut self, now: Time, octets: &[u8]) -> bool {
        if self.nodes.len() == 1 || !wants_answer(octets) {
            return false;
        }
        let since = *self.asked_at.get_or_insert(now);
        let is_dead = now.since(since) >= SILENCE + self.patience;
        if is_dead {
            self.move_on(now);
        }
        is_dead
    }

    /// The node was heard.
    pub fn heard(&mut self) {
        self.lost_since = None;
        self.asked_at = None;
    }

    fn move_on(&mut self, now: Time) {
        self.former.push((now, self.home));
        let count = self.nodes.len();
        let others = u32::try_from(count - 1).unwrap_or(1);
        let step = 1 + self.rng.below(others) as usize;
        self.home = (self.home + step) % count;
    }
}

/// Tells whether a node that lives answers this, whatever it thinks of it.
fn wants_answer(octets: &[u8]) -> bool {
    let starts = [&b"REGISTER "[..], b"INVITE ", b"BYE "];
    let ends = ["register", "resumeSession", "call", "hangup", "ping"];
    let ends = ends.map(|kind| format!(r#""type":"{kind}"}}"#));
    starts.iter().any(|start| octets.starts_with(start))
        || ends.iter().any(|end| octets.ends_with(end.as_bytes()))
}

/// Returns the address that a message itself says it goes to: the top Via of a response, the remote
/// target of a request within a dialog.
fn named(message: &Message) -> Option<SocketAddr> {
    let text = if message.is_request() {
        message.to().ok()?.tag()?;
        let line = std::str::from_utf8(message.bytes()).ok()?;
        line.split(' ').nth(1)?.to_owned()
    } else {
        let via = message.header(HeaderName::Via)?;
        via.split_whitespace().nth(1)?.to_owned()
    };
    let host = text.rsplit('@').next()?.trim_start_matches("sip:");
    host.split([';', '>', ',']).next()?.parse().ok()
}

#[cfg(test)]
mod tests;
