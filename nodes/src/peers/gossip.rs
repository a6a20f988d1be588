//! Datagrams of gossip: sealed under the cluster's secret, each heard once.
//!
//! ```text
//! version (1) | nonce (24) = node (2), boot (8), epoch (6), counter (8) | sealed: UTC ms (8), text | tag (16)
//! ```
//!
//! The epoch is drawn at each start, so no nonce is used twice even if a boot number were. The
//! version and the cluster's ID are sealed with it as associated data.
//!
//! In: datagrams of membership, datagrams of anybody. Out: sealed datagrams, opened ones, or why one
//! is dropped. Nothing is remembered of a datagram that does not open.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chacha20poly1305::XNonce;
use chacha20poly1305::aead::{Aead as _, Payload};
use contract::limits::{GOSSIP_BYTES_MAX, GOSSIP_SENDERS_MAX, GOSSIP_SKEW_S};
use contract::{Boot, NodeId, NodeInst, Now, PeerSink, Time, UtcMillis};
use tokio::net::UdpSocket;

use super::Shared;
use super::keys::Keys;
use super::refusal::Dropped;
use super::wire::ClusterId;
use crate::env_os::pause;

/// The form of a datagram.
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
const STAMP_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
/// Octets that a seal adds.
const SEAL_BYTES: usize = 1 + NONCE_BYTES + STAMP_BYTES + TAG_BYTES;
/// Octets of the longest sealed datagram.
pub(super) const DATAGRAM_BYTES_MAX: usize = GOSSIP_BYTES_MAX + SEAL_BYTES;
/// Pause after the system could not read a datagram.
const READ_PAUSE: Duration = Duration::from_millis(10);
/// Largest difference between a sender's clock and ours, and so the age at which a datagram is dead.
const SKEW: Duration = Duration::from_secs(GOSSIP_SKEW_S);

/// Seals what this life of this node says.
#[derive(Debug)]
pub(super) struct Sealer {
    me: NodeInst,
    epoch: [u8; 6],
    counter: AtomicU64,
    cluster: ClusterId,
}

impl Sealer {
    pub(super) const fn new(me: NodeInst, epoch: [u8; 6], cluster: ClusterId) -> Self {
        Sealer {
            me,
            epoch,
            counter: AtomicU64::new(0),
            cluster,
        }
    }

    /// Seals a datagram; `None` if it is too long.
    pub(super) fn seal(&self, keys: &Keys, text: &[u8], now: UtcMillis) -> Option<Vec<u8>> {
        if text.len() > GOSSIP_BYTES_MAX {
            return None;
        }
        let nonce = Nonce {
            sender: self.me,
            epoch: self.epoch,
            counter: self.counter.fetch_add(1, Ordering::Relaxed),
        }
        .to_bytes();
        let mut plain = Vec::with_capacity(STAMP_BYTES + text.len());
        plain.extend_from_slice(&now.0.to_be_bytes());
        plain.extend_from_slice(text);
        let aad = associated(self.cluster);
        let payload = Payload {
            msg: &plain,
            aad: &aad,
        };
        let sealed = keys.seal().encrypt(XNonce::from_slice(&nonce), payload);
        let sealed = sealed.expect("a datagram is far below the cipher's 256 GiB");
        let mut datagram = Vec::with_capacity(1 + NONCE_BYTES + sealed.len());
        datagram.push(VERSION);
        datagram.extend_from_slice(&nonce);
        datagram.extend_from_slice(&sealed);
        Some(datagram)
    }
}

fn associated(cluster: ClusterId) -> [u8; 17] {
    let mut aad = [VERSION; 17];
    aad[1..].copy_from_slice(&cluster.0);
    aad
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Nonce {
    sender: NodeInst,
    epoch: [u8; 6],
    counter: u64,
}

impl Nonce {
    fn to_bytes(self) -> [u8; NONCE_BYTES] {
        let mut bytes = [0; NONCE_BYTES];
        bytes[..2].copy_from_slice(&self.sender.node.0.to_be_bytes());
        bytes[2..10].copy_from_slice(&self.sender.boot.0.to_be_bytes());
        bytes[10..16].copy_from_slice(&self.epoch);
        bytes[16..].copy_from_slice(&self.counter.to_be_bytes());
        bytes
    }

    fn of(bytes: &[u8; NONCE_BYTES]) -> Option<Self> {
        let (node, rest) = bytes.split_first_chunk::<2>()?;
        let (boot, rest) = rest.split_first_chunk::<8>()?;
        let (epoch, rest) = rest.split_first_chunk::<6>()?;
        let counter = rest.first_chunk::<8>()?;
        Some(Nonce {
            sender: NodeInst {
                node: NodeId(u16::from_be_bytes(*node)),
                boot: Boot(u64::from_be_bytes(*boot)),
            },
            epoch: *epoch,
            counter: u64::from_be_bytes(*counter),
        })
    }
}

/// Opens what others say.
#[derive(Debug)]
pub(super) struct Opener {
    me: NodeId,
    cluster: ClusterId,
    senders: BTreeMap<(NodeInst, [u8; 6]), Heard>,
}

#[derive(Debug)]
struct Heard {
    window: Window,
    last: Time,
}

impl Opener {
    pub(super) const fn new(me: NodeId, cluster: ClusterId) -> Self {
        Opener {
            me,
            cluster,
            senders: BTreeMap::new(),
        }
    }

    /// Opens a datagram; `newest` tells the latest known life of a node.
    ///
    /// # Errors
    /// Why it is dropped; then nothing has changed.
    pub(super) fn open(
        &mut self,
        keys: &Keys,
        datagram: &[u8],
        newest: impl FnOnce(NodeId) -> Boot,
        now: Now,
    ) -> Result<(NodeInst, Bytes), Dropped> {
        let (nonce, sealed) = split(datagram).ok_or(Dropped::Shape)?;
        let named = Nonce::of(nonce).ok_or(Dropped::Shape)?;
        if named.sender.node == self.me {
            return Err(Dropped::Own);
        }
        if named.sender.boot < newest(named.sender.node) {
            return Err(Dropped::OldBoot);
        }
        let sender = (named.sender, named.epoch);
        let heard = self.senders.get(&sender);
        if heard.is_some_and(|heard| !heard.window.takes(named.counter)) {
            return Err(Dropped::Replayed);
        }
        let aad = associated(self.cluster);
        let nonce = XNonce::from_slice(nonce);
        let opened = keys.seals().find_map(|seal| {
            let payload = Payload {
                msg: sealed,
                aad: &aad,
            };
            seal.decrypt(nonce, payload).ok()
        });
        let plain = Bytes::from(opened.ok_or(Dropped::Forged)?);
        let (stamp, _) = plain
            .split_first_chunk::<STAMP_BYTES>()
            .ok_or(Dropped::Shape)?;
        let stamp = u64::from_be_bytes(*stamp);
        if u128::from(stamp.abs_diff(now.utc.0)) > SKEW.as_millis() {
            return Err(Dropped::Skewed);
        }
        self.remember(sender, named.counter, now.mono)?;
        Ok((named.sender, plain.slice(STAMP_BYTES..)))
    }

    fn remember(
        &mut self,
        sender: (NodeInst, [u8; 6]),
        counter: u64,
        now: Time,
    ) -> Result<(), Dropped> {
        if let Some(heard) = self.senders.get_mut(&sender) {
            heard.window.take(counter);
            heard.last = now;
            return Ok(());
        }
        // Earlier lives of the node are refused by their boot from now on.
        let (inst, _) = sender;
        self.senders
            .retain(|(other, _), _| other.node != inst.node || other.boot >= inst.boot);
        if self.senders.len() >= GOSSIP_SENDERS_MAX {
            // A stamp may lie ahead by the skew, so it takes twice that until none of theirs is fresh.
            self.senders
                .retain(|_, heard| now.since(heard.last) <= SKEW * 2);
        }
        if self.senders.len() >= GOSSIP_SENDERS_MAX {
            return Err(Dropped::Full);
        }
        let window = Window::first(counter);
        self.senders.insert(sender, Heard { window, last: now });
        Ok(())
    }
}

fn split(datagram: &[u8]) -> Option<(&[u8; NONCE_BYTES], &[u8])> {
    let (version, rest) = datagram.split_first()?;
    let is_whole = (SEAL_BYTES..=DATAGRAM_BYTES_MAX).contains(&datagram.len());
    if *version != VERSION || !is_whole {
        return None;
    }
    rest.split_first_chunk::<NONCE_BYTES>()
}

/// Which of the last 64 counters have been heard (the window of RFC 4303 §3.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    highest: u64,
    /// Bit `n` stands for `highest - n`.
    seen: u64,
}

impl Window {
    const fn first(counter: u64) -> Self {
        Window {
            highest: counter,
            seen: 1,
        }
    }

    const fn takes(&self, counter: u64) -> bool {
        if counter > self.highest {
            return true;
        }
        let behind = self.highest - counter;
        behind < 64 && self.seen & (1 << behind) == 0
    }

    /// Marks a counter that it takes.
    fn take(&mut self, counter: u64) {
        if counter > self.highest {
            let ahead = counter - self.highest;
            self.seen = if ahead < 64 { self.seen << ahead } else { 0 };
            self.seen |= 1;
            self.highest = counter;
        } else if self.highest - counter < 64 {
            self.seen |= 1 << (self.highest - counter);
        }
    }
}

/// Hears gossip for ever.
pub(super) async fn hear(
    datagrams: UdpSocket,
    shared: Arc<Shared>,
    sink: Arc<dyn PeerSink>,
) -> Infallible {
    let mut opener = Opener::new(shared.me.node, shared.cluster);
    // One octet more than the longest: what fills it is too long.
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX + 1];
    loop {
        let (length, from) = match datagrams.recv_from(&mut buffer).await {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%error, "reading gossip");
                pause(READ_PAUSE).await;
                continue;
            }
        };
        let newest = |node| shared.newest(node);
        let now = shared.clock.now();
        match opener.open(&shared.keys(), &buffer[..length], newest, now) {
            Ok((sender, text)) => {
                shared.learn(sender);
                sink.gossip(from, text);
            }
            Err(why) => shared.counts.drop_datagram(why),
        }
    }
}

#[cfg(test)]
#[path = "gossip_tests.rs"]
mod tests;
