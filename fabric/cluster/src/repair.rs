//! Comparing with other holders, and mending what this node lacks (`cluster.md` §8, anti-entropy).
//!
//! In: what becomes durable here, views, connections, messages of other nodes, answers of the own
//! desk, the time. Out: [`RepairAction`]s. Each node mends itself only; nobody is sent what he has
//! not asked for. It keeps a digest for each other node and shard, and of a comparison one page:
//! nothing of a single record. The store is read by the desk (`listing.rs`).
//!
//! | state with a node | event | action | next |
//! |---|---|---|---|
//! | Idle | due (5 s; at once after a view change or connection) | `Glance` | Looking |
//! | Looking, after a glance | `Differing`: in something | `Digests` | Looking |
//! | Looking | `Differing`: what is equal is in step; the rest has differed less than 4 times | | Pausing |
//! | Pausing | 300 ms over | `Digests` | Looking |
//! | Looking | `Differing`: the rest has differed 4 times | `List` | Working |
//! | Working | a page comes | `Compare`, then `Fetch`, `Store` of what is lacking | Working |
//! | Working | a shard is read to its end, and nothing of it failed: it is in step | `List` | Working |
//! | Working | no shard is left | | Idle |
//! | any | a step takes longer than 5 s | | Idle |
//! | any | view change, connection lost | | Idle, nothing in step |
//!
//! A shard is settled once every other `Up` member is connected and in step. *In step with P* means:
//! at one moment since the last view change and (re)connection, this node had everything that P
//! held of what names both. That is all that saying `None` needs, so it does not matter what P
//! lacks, or whether commits under way make a difference at any one moment: the listing of such a
//! shard is worked off, and it is in step. What is committed later is its owner's affair
//! ([`crate::Replicator`]); when that owner is lost, so is what was settled.

mod mend;

use std::collections::BTreeMap;
use std::time::Duration;

use contract::limits::{
    REPAIR_BYTES_PER_S, REPAIR_EVERY_MS, REPAIR_LOOK_MS, REPAIR_LOOKS, REPAIR_WAIT_MS, SHARDS,
};
use contract::{NodeId, Now, RecordKey, Time, UtcMillis};

use crate::comparison::{Doing, Peer, RepairAction, RepairCounts, Stage, Work, jitter};
use crate::digest::{self, Digests};
use crate::exchange::{Exchange, Glance, Look, Wanted};
use crate::{Frame, Header, ShardDigests, ShardSet};

/// The comparing of one node. Bound: one page of work for each connected node.
#[derive(Debug)]
pub struct Repair {
    me: NodeId,
    digests: Digests,
    is_loading: bool,
    peers: BTreeMap<NodeId, Peer>,
    settled: ShardSet,
    /// Numbers that the own desk comes back with.
    own: BTreeMap<u64, NodeId>,
    last_number: u64,
    budget: i64,
    filled: Time,
    counts: RepairCounts,
    out: Vec<RepairAction>,
}

impl Repair {
    /// Makes one for a node that knows no other yet. The first [`Repair::tick`] is due at once: it
    /// asks for the shards, one after the other.
    #[must_use]
    pub const fn new(me: NodeId) -> Self {
        Repair {
            me,
            digests: Digests::new(me),
            is_loading: false,
            peers: BTreeMap::new(),
            settled: ShardSet::NONE,
            own: BTreeMap::new(),
            last_number: 0,
            budget: BUDGET_MAX,
            filled: Time::ZERO,
            counts: RepairCounts {
                rounds: 0,
                given_up: 0,
                pages: 0,
                mended: 0,
                bytes: 0,
            },
            out: Vec::new(),
        }
    }

    /// Takes a new view: the other members that are `Up` (and draining ones: they hold records as
    /// well). The runtime tells the desk too ([`crate::Desk::view_changed`]).
    pub fn view_changed(&mut self, now: Now, others: &[NodeId]) -> Vec<RepairAction> {
        for node in others.iter().filter(|node| **node != self.me) {
            self.peers.entry(*node).or_default();
        }
        for (node, peer) in &mut self.peers {
            peer.is_up = others.contains(node);
            peer.restart(now);
        }
        self.peers.retain(|_, peer| peer.is_up || peer.is_connected);
        let is_alone = self.peers.values().all(|peer| !peer.is_up);
        self.settled = match is_alone {
            true => ShardSet::ALL,
            false => ShardSet::NONE,
        };
        self.take()
    }

    /// Takes word that a node can be reached, for the first time or again.
    pub fn connected(&mut self, now: Now, node: NodeId) -> Vec<RepairAction> {
        self.unsettle(node);
        let peer = self.peers.entry(node).or_default();
        peer.is_connected = true;
        peer.restart(now);
        self.take()
    }

    /// A glance was not sent: that node does not read any (they came with schema 2).
    pub fn unread_glance(&mut self, now: Now, node: NodeId) -> Vec<RepairAction> {
        self.look(now, node, 1, ShardSet::ALL);
        self.take()
    }

    /// Takes word that a node cannot be reached any more: what it holds from now on is not known,
    /// so nothing stays settled if it is a member.
    pub fn lost(&mut self, now: Now, node: NodeId) -> Vec<RepairAction> {
        self.unsettle(node);
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.is_connected = false;
            peer.restart(now);
        }
        self.peers.retain(|_, peer| peer.is_up || peer.is_connected);
        self.take()
    }

    /// Takes the digests of a shard, as the desk reads them at this moment.
    pub fn loaded(&mut self, now: Now, shard: u8, digests: &ShardDigests) -> Vec<RepairAction> {
        self.digests.load(shard, digests);
        match self.digests.unloaded() {
            Some(next) => self.out.push(RepairAction::LoadShard(next)),
            None => {
                for peer in self.peers.values_mut() {
                    peer.restart(now);
                }
            }
        }
        self.take()
    }

    /// Begins anew: what is stored is not what was counted. Nothing is settled until all shards were
    /// read and compared again.
    pub fn reload(&mut self, now: Now) -> Vec<RepairAction> {
        self.digests = Digests::new(self.me);
        self.is_loading = false;
        self.settled = ShardSet::NONE;
        for peer in self.peers.values_mut() {
            peer.restart(now);
        }
        self.out.push(RepairAction::Unsettled);
        self.take()
    }

    /// Takes a change of what is durable here ([`crate::DeskAction::Changed`]), each one once and in
    /// its order.
    pub fn changed(&mut self, key: RecordKey, before: Option<&Header>, after: Option<&Header>) {
        self.digests.change(key, before, after);
    }

    /// Takes a message of another node.
    pub fn frame(
        &mut self,
        now: Now,
        from: NodeId,
        number: u64,
        exchange: Exchange,
    ) -> Vec<RepairAction> {
        match exchange {
            Exchange::Glance(glance) => {
                let ours = self.digests.of(from).map(|ours| digest::sum(&ours));
                let differing = match ours == Some(glance.sum) {
                    true => ShardSet::NONE,
                    false => ShardSet::ALL,
                };
                let said = (glance.round, glance.in_step);
                self.answer_look(now, from, number, differing, said);
            }
            Exchange::Digests(look) => {
                let differing = self.digests.differing(from, &look.digests);
                let said = (look.round, look.in_step);
                self.answer_look(now, from, number, differing, said);
            }
            Exchange::Differing(shards) => self.on_differing(now, from, number, shards),
            Exchange::List(range) => self.out.push(RepairAction::List {
                to: from,
                number,
                range,
            }),
            Exchange::Listed(page) => self.on_listed(now, from, number, page),
            Exchange::Fetch(wanted) => self.out.push(RepairAction::Read {
                to: from,
                number,
                wanted,
            }),
            Exchange::Images { images, passed } => {
                self.on_images(now, from, number, images, passed);
            }
        }
        self.take()
    }

    /// Takes what is to be fetched after a page; `None` if the own store could not be read.
    pub fn compared(
        &mut self,
        now: Now,
        number: u64,
        wanted: Option<Vec<Wanted>>,
    ) -> Vec<RepairAction> {
        let Some(node) = self.own.remove(&number) else {
            return Vec::new();
        };
        let Some(work) = self.work(node) else {
            return Vec::new();
        };
        if work.doing != (Doing::Compare { number }) {
            return Vec::new();
        }
        match wanted {
            Some(wanted) => work.wanted = wanted.into(),
            None => work.fail(),
        }
        self.go_on(now, node);
        self.take()
    }

    /// Takes word of the own desk about a copy.
    pub fn stored(&mut self, now: Now, number: u64, is_durable: bool) -> Vec<RepairAction> {
        let Some(node) = self.own.remove(&number) else {
            return Vec::new();
        };
        self.counts.mended += u64::from(is_durable);
        let Some(work) = self.work(node) else {
            return Vec::new();
        };
        let Doing::Store { left } = &mut work.doing else {
            return Vec::new();
        };
        if !left.remove(&number) {
            return Vec::new();
        }
        let is_done = left.is_empty();
        if !is_durable {
            work.fail();
        }
        if is_done {
            self.go_on(now, node);
        }
        self.take()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) -> Vec<RepairAction> {
        if !self.is_loading {
            self.is_loading = true;
            let first = self.digests.unloaded().map(RepairAction::LoadShard);
            self.out.extend(first);
        }
        let is_due = |peer: &Peer| self.deadline_of(peer).is_some_and(|at| at <= now.mono);
        let due = self.peers.iter().filter(|(_, peer)| is_due(peer));
        // Who mends calls comes before who mends registrations.
        let mut due: Vec<(usize, NodeId)> =
            due.map(|(node, peer)| (peer.urgency(), *node)).collect();
        due.sort_unstable();
        for (_, node) in due {
            self.tick_peer(now, node);
        }
        self.take()
    }

    /// Returns when [`Repair::tick`] is to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        if !self.is_loading {
            return Some(Time::ZERO);
        }
        let peers = self.peers.values();
        peers.filter_map(|peer| self.deadline_of(peer)).min()
    }

    /// Tells whether all shards were loaded: before that it neither asks nor answers.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.digests.is_loaded()
    }

    /// Returns until when every tombstone of a shard that had expired by then is known to all other
    /// members: it may be forgotten ([`crate::Desk::forget`]). `None`: that is not known of any.
    #[must_use]
    pub fn known_until(&self, now: Now, shard: u8) -> Option<UtcMillis> {
        let mut until = now.utc;
        for peer in self.peers.values().filter(|peer| peer.is_up) {
            until = until.min(peer.has_all_of(shard)?);
        }
        Some(until)
    }

    /// Tells which shards are settled.
    #[must_use]
    pub const fn settled(&self) -> ShardSet {
        self.settled
    }

    /// Returns what was done so far.
    #[must_use]
    pub const fn counts(&self) -> RepairCounts {
        self.counts
    }

    /// Returns the digests for another node; `None` if they are not kept (`REPAIR_TABLES_MAX`).
    #[must_use]
    pub fn digests_for(&self, node: NodeId) -> Option<[u64; SHARDS]> {
        self.digests.of(node)
    }

    fn answer_look(
        &mut self,
        now: Now,
        from: NodeId,
        number: u64,
        differing: ShardSet,
        (round, in_step): (u64, ShardSet),
    ) {
        // Not answered before all is loaded: the asker tries again, at once when we ask.
        if !self.digests.is_loaded() {
            return;
        }
        self.send(from, number, Exchange::Differing(differing));
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.says(now, round, in_step);
            if matches!(peer.stage, Stage::Idle) && peer.in_step.is_empty() {
                peer.due = now.mono;
            }
        }
    }

    fn on_differing(&mut self, now: Now, from: NodeId, number: u64, shards: ShardSet) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let Stage::Looking {
            number: asked,
            is_glance,
            looks,
            suspects,
            ..
        } = peer.stage
        else {
            return;
        };
        if asked != number {
            return;
        }
        if is_glance && !shards.is_empty() {
            self.look(now, from, looks, suspects);
            return;
        }
        peer.is_in_step(shards.not());
        let suspects = suspects.and(shards);
        if suspects.is_empty() {
            self.end_round(now, from);
        } else if looks < REPAIR_LOOKS {
            let until = now.mono + Duration::from_millis(REPAIR_LOOK_MS);
            peer.stage = Stage::Pausing {
                looks,
                suspects,
                until,
            };
        } else {
            peer.stage = Stage::Working(Box::new(Work::new(suspects)));
            self.go_on(now, from);
        }
        self.settle();
    }

    fn tick_peer(&mut self, now: Now, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        match &peer.stage {
            Stage::Idle => self.glance(now, node),
            Stage::Pausing {
                looks, suspects, ..
            } => {
                let (looks, suspects) = (looks + 1, *suspects);
                self.look(now, node, looks, suspects);
            }
            Stage::Working(work) if work.doing == Doing::Wait => self.go_on(now, node),
            Stage::Looking { .. } | Stage::Working(_) => self.give_up(now, node),
        }
    }

    /// Asks whether anything differs: one number instead of one for each shard, of which a node with many
    /// others would send most of all that it says.
    fn glance(&mut self, now: Now, node: NodeId) {
        let (looks, suspects) = (1, ShardSet::ALL);
        let Some(digests) = self.digests.of(node) else {
            return self.look(now, node, looks, suspects);
        };
        let sum = digest::sum(&digests);
        if let Some((number, round, in_step)) = self.begin_look(now, node, true, looks, suspects) {
            let glance = Glance {
                round,
                in_step,
                sum,
            };
            self.send(node, number, Exchange::Glance(glance));
        }
    }

    /// Sends the digests.
    fn look(&mut self, now: Now, node: NodeId, looks: u8, suspects: ShardSet) {
        // Without digests everything is to be listed; the other node finds that nothing is equal.
        let digests = self.digests.of(node).unwrap_or([u64::MAX; SHARDS]);
        if let Some((number, round, in_step)) = self.begin_look(now, node, false, looks, suspects) {
            let look = Look {
                round,
                in_step,
                digests,
            };
            self.send(node, number, Exchange::Digests(Box::new(look)));
        }
    }

    /// Returns the number of the question, and of the comparison, and what the one before has found.
    fn begin_look(
        &mut self,
        now: Now,
        node: NodeId,
        is_glance: bool,
        looks: u8,
        suspects: ShardSet,
    ) -> Option<(u64, u64, ShardSet)> {
        self.last_number += 1;
        let number = self.last_number;
        let peer = self.peers.get_mut(&node)?;
        peer.stage = Stage::Looking {
            number,
            is_glance,
            looks,
            suspects,
            deadline: deadline(now),
        };
        Some((number, peer.round, peer.last_round))
    }

    fn give_up(&mut self, now: Now, node: NodeId) {
        self.counts.given_up += 1;
        self.idle(now, node);
    }

    fn end_round(&mut self, now: Now, node: NodeId) {
        self.counts.rounds += 1;
        self.idle(now, node);
    }

    fn idle(&mut self, now: Now, node: NodeId) {
        let every = REPAIR_EVERY_MS * 1_000;
        let me = self.me;
        if let Some(peer) = self.peers.get_mut(&node) {
            let early = every * 4 / 5;
            let micros = early + jitter(me, node, peer.round) % ((every - early) * 2);
            peer.rest(now.mono + Duration::from_micros(micros));
        }
    }

    fn unsettle(&mut self, node: NodeId) {
        let peer = self.peers.get(&node);
        let was_with_us = peer.is_some_and(|peer| peer.is_up && peer.is_connected);
        if was_with_us && !self.settled.is_empty() {
            self.settled = ShardSet::NONE;
            self.out.push(RepairAction::Unsettled);
        }
    }

    /// Says which shards are settled by now.
    fn settle(&mut self) {
        let members = self.peers.values().filter(|peer| peer.is_up);
        let in_step = members.map(|peer| match peer.is_connected {
            true => peer.in_step,
            false => ShardSet::NONE,
        });
        let all = in_step.fold(ShardSet::ALL, ShardSet::and);
        let news = all.and(self.settled.not());
        self.settled = self.settled.or(news);
        self.out.extend(news.iter().map(RepairAction::Settled));
    }

    fn deadline_of(&self, peer: &Peer) -> Option<Time> {
        let takes_part = peer.is_up && peer.is_connected && self.digests.is_loaded();
        takes_part.then(|| peer.deadline())
    }

    fn work(&mut self, node: NodeId) -> Option<&mut Work> {
        match &mut self.peers.get_mut(&node)?.stage {
            Stage::Working(work) => Some(work),
            Stage::Idle | Stage::Looking { .. } | Stage::Pausing { .. } => None,
        }
    }

    fn send(&mut self, to: NodeId, number: u64, exchange: Exchange) {
        let frame = Frame::Repair { number, exchange };
        self.out.push(RepairAction::Send { to, frame });
    }

    fn take(&mut self) -> Vec<RepairAction> {
        std::mem::take(&mut self.out)
    }
}

/// Octets that may be taken at once after a pause.
const BUDGET_MAX: i64 = REPAIR_BYTES_PER_S as i64;
fn deadline(now: Now) -> Time {
    now.mono + Duration::from_millis(REPAIR_WAIT_MS)
}
