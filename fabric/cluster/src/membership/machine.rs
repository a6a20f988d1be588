//! The membership machine: inputs, foca, and the news that come of them.
//!
//! In: events with the time. Out: actions. Suspicion is in `suspicion.rs`, metadata in `table.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use bytes::Bytes;
use contract::limits::{GOSSIP_BYTES_MAX, NODES_MAX, SEEDS_MAX};
use contract::{Entropy, Loss, NodeId, NodeInst, Now, Peer, Time};
use foca::{AccumulatingRuntime, Config, Foca, PeriodicParams};

use super::action::{Action, MembershipFrame};
use super::chance::Chance;
use super::datagram::{Datagram, Wire};
use super::evidence::{Evidence, Proof};
use super::identity::Identity;
use super::meta::{Merged, MetaEntry, MetaTable, NodeMeta, Relay};
use super::news::News;
use super::suspicion::{Doubt, Hint};
use super::timers::{Timer, Timers};
use super::view::View;

/// The gossip engine with our identity, codec, chance and metadata.
pub(super) type Gossip = Foca<Identity, Wire, Chance, Relay>;

/// The output of one call of the gossip engine.
pub(super) type Outbox = AccumulatingRuntime<Identity>;

/// What was dropped or forgiven, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams and items that could not be read.
    pub garbage: u64,
    /// Members that were ignored because `NODES_MAX` are known.
    pub members_refused: u64,
    /// Entries of metadata that were unsound, or of one node too many.
    pub entries_refused: u64,
    /// Datagrams that came from another address than their sender says.
    pub misplaced: u64,
    /// Times that our own scheduler was late by more than the probe's round trip.
    pub lags_forgiven: u64,
    /// Inputs that the gossip engine refused.
    pub gossip_faults: u64,
}

/// Whether the machine takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    New,
    Running,
    Left,
}

/// The membership of one node.
///
/// Every input returns the actions it caused, in the order to perform them. Between inputs the host
/// waits for [`Membership::next_deadline`]. Bound: `NODES_MAX` members, timers and evidence of each.
/// Panics: none that a peer can cause. Source: `cluster.md` §2.
pub struct Membership {
    pub(super) phase: Phase,
    pub(super) gossip: Gossip,
    outbox: Outbox,
    pub(super) timers: Timers,
    pub(super) chance: Entropy,
    pub(super) seeds: Vec<SocketAddr>,
    pub(super) seed_tries: u32,
    pub(super) is_connected: bool,
    pub(super) links: BTreeMap<NodeId, NodeInst>,
    pub(super) evidence: Evidence,
    pub(super) hints: BTreeMap<NodeId, Hint>,
    pub(super) doubts: BTreeMap<NodeId, Doubt>,
    pub(super) heard: BTreeMap<NodeId, (NodeInst, Time)>,
    pub(super) metas: MetaTable,
    pub(super) counter: u64,
    pub(super) view: View,
    pub(super) told_down: BTreeMap<NodeId, (NodeInst, Proof)>,
    pub(super) news: News,
    pub(super) counters: Counters,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Membership({} of {})",
            self.own().inst,
            self.view.members.len()
        )
    }
}

impl Membership {
    /// Makes the membership of a node that has just started, with a durable new `Boot`.
    ///
    /// In: who we are, the address others reach our cluster port at, what we say of ourselves, and
    /// a generator of our own. Panics: as [`Membership::set_meta`].
    #[must_use]
    pub fn new(inst: NodeInst, address: SocketAddr, meta: NodeMeta, entropy: &Entropy) -> Self {
        let own = Identity::new(inst, address);
        let chance = Chance(entropy.split("gossip"));
        let gossip = Foca::with_custom_broadcast(own, config(), chance, Wire, Relay::default());
        let mut membership = Membership {
            phase: Phase::New,
            gossip,
            outbox: Outbox::new(),
            timers: Timers::default(),
            chance: entropy.split("membership"),
            seeds: Vec::new(),
            seed_tries: 0,
            is_connected: false,
            links: BTreeMap::new(),
            evidence: Evidence::default(),
            hints: BTreeMap::new(),
            doubts: BTreeMap::new(),
            heard: BTreeMap::new(),
            metas: MetaTable::default(),
            counter: 0,
            view: View::default(),
            told_down: BTreeMap::new(),
            news: News::default(),
            counters: Counters::default(),
        };
        membership.say(meta);
        membership.view = membership.current_view();
        membership
    }

    /// Joins by asking the seeds; our own address among them is left out.
    ///
    /// Bound: the first `SEEDS_MAX` addresses. Out: the view of us alone, then announcements.
    pub fn start(&mut self, seeds: &[SocketAddr], now: Now) -> Vec<Action> {
        if self.phase != Phase::New {
            return Vec::new();
        }
        self.phase = Phase::Running;
        let own = self.own().address;
        let others = seeds.iter().filter(|seed| **seed != own);
        self.seeds = others.take(SEEDS_MAX).copied().collect();
        self.news.actions.push(Action::View(self.view.clone()));
        self.ask_seeds(now.mono);
        self.arm_table(now.mono);
        self.finish(now.mono)
    }

    /// Replaces the seeds that are asked while nobody else is there: their hosts may have moved.
    pub fn set_seeds(&mut self, seeds: &[SocketAddr], now: Now) -> Vec<Action> {
        let own = self.own().address;
        let others = seeds.iter().filter(|seed| **seed != own);
        self.seeds = others.take(SEEDS_MAX).copied().collect();
        self.finish(now.mono)
    }

    /// Takes a datagram that the transport has opened and proven to be of the cluster.
    ///
    /// What cannot be read to its end changes nothing and is counted.
    pub fn on_datagram(&mut self, from: SocketAddr, bytes: &[u8], now: Now) -> Vec<Action> {
        if !self.begin(now.mono) {
            return Vec::new();
        }
        match Datagram::read(bytes) {
            Ok(datagram) => self.take_datagram(from, datagram, now.mono),
            Err(_) => self.counters.garbage += 1,
        }
        self.finish(now.mono)
    }

    /// Handles what is due. Lateness beyond the probe's round trip is forgiven: see
    /// [`Counters::lags_forgiven`].
    pub fn on_timer(&mut self, now: Now) -> Vec<Action> {
        if !self.begin(now.mono) {
            return Vec::new();
        }
        while let Some((timer, event)) = self.timers.take_due(now.mono) {
            match event {
                Some(event) => self.drive(now.mono, |gossip, out| gossip.handle_timer(event, out)),
                None => self.own_timer(timer, now.mono),
            }
        }
        self.finish(now.mono)
    }

    /// Returns when [`Membership::on_timer`] is to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Running => self.timers.next(),
            Phase::New | Phase::Left => None,
        }
    }

    /// Takes that a peer is connected: it is announced to, and gets our table.
    pub fn on_connected(&mut self, peer: Peer, now: Now) -> Vec<Action> {
        if self.begin(now.mono) {
            self.meet(peer, now.mono);
        }
        self.finish(now.mono)
    }

    /// Takes that a peer cannot be reached any more, and why.
    pub fn on_lost(&mut self, peer: Peer, why: Loss, now: Now) -> Vec<Action> {
        if self.begin(now.mono) {
            self.miss(peer.inst, why, now.mono);
        }
        self.finish(now.mono)
    }

    /// Takes a frame of another member.
    pub fn on_frame(&mut self, from: NodeInst, body: MembershipFrame, now: Now) -> Vec<Action> {
        match body {
            MembershipFrame::Witness { peer, refused } => self.witness(from, peer, refused, now),
            MembershipFrame::Table(table) => self.on_table(from, table, now),
            MembershipFrame::Leave => {
                if self.begin(now.mono) {
                    self.take_leave(from, now.mono);
                }
                self.finish(now.mono)
            }
        }
    }

    /// Leaves the cluster: tells everybody, and does nothing more.
    pub fn leave(&mut self, now: Now) -> Vec<Action> {
        if self.begin(now.mono) {
            self.tell_others(&MembershipFrame::Leave, None);
            self.drive(now.mono, |gossip, out| gossip.leave_cluster(out));
            self.phase = Phase::Left;
            self.news.is_view_doubtful = false;
        }
        self.finish(now.mono)
    }

    /// Returns who is there now.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Returns what was dropped or forgiven.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns our own identity as gossip knows it now.
    pub(super) fn own(&self) -> Identity {
        *self.gossip.identity()
    }

    /// Opens an input: forgives our lag; tells whether we take part at all.
    pub(super) fn begin(&mut self, now: Time) -> bool {
        let takes_part = self.phase == Phase::Running;
        if takes_part && self.timers.forgive_lag(now, PROBE_RTT).is_some() {
            self.counters.lags_forgiven += 1;
        }
        takes_part
    }

    /// Runs the gossip engine and takes what it puts out.
    pub(super) fn drive(
        &mut self,
        now: Time,
        call: impl FnOnce(&mut Gossip, &mut Outbox) -> Result<(), foca::Error>,
    ) {
        if call(&mut self.gossip, &mut self.outbox).is_err() {
            self.counters.gossip_faults += 1;
        }
        while let Some((to, bytes)) = self.outbox.to_send() {
            self.send(to, bytes);
        }
        while let Some((after, event)) = self.outbox.to_schedule() {
            self.timers.set_foca(event, now + after);
        }
        while let Some(notification) = self.outbox.to_notify() {
            self.note(notification, now);
        }
    }

    /// Sends a datagram, but never to ourselves (gossip lists our own earlier identities).
    pub(super) fn send(&mut self, to: Identity, bytes: Bytes) {
        if to.inst.node != self.own().inst.node || to.is_whoever() {
            let to = to.address;
            self.news.actions.push(Action::Gossip { to, bytes });
        }
    }

    /// Notes that a later start of our own node exists.
    pub(super) fn heed_successor(&mut self, inst: NodeInst) {
        let own = self.own().inst;
        if inst.node == own.node && inst.boot > own.boot {
            self.news.superseded_by = Some(inst);
        }
    }

    fn take_datagram(&mut self, from: SocketAddr, mut datagram: Datagram, now: Time) {
        let own = self.own();
        let src = datagram.header.src;
        if src.inst.node == own.inst.node {
            self.heed_successor(src.inst);
            return;
        }
        if datagram.header.dst.is_whoever() {
            datagram.header.dst = own;
        }
        if src.address != from {
            self.counters.misplaced += 1;
        }
        if !self.sift(&mut datagram) {
            return;
        }
        self.hear(&datagram, now);
        match datagram.write() {
            Ok(bytes) => self.drive(now, |gossip, out| gossip.handle_data(&bytes, out)),
            Err(_) => self.counters.garbage += 1,
        }
        // Only who knows that we are back calls us by our new name.
        let dst = datagram.header.dst;
        let is_member = self.gossip.iter_members().any(|member| *member.id() == src);
        if !self.is_connected && is_member && dst == self.own() {
            self.settle_in();
        }
    }

    /// Takes out of a datagram what foca must not see: members beyond the bound, later starts of
    /// ourselves, metadata that cannot be read. Tells whether anything is left.
    fn sift(&mut self, datagram: &mut Datagram) -> bool {
        let own = self.own().inst.node;
        let state = self.gossip.iter_membership_state();
        let mut known: Vec<NodeId> = state.map(|member| member.id().inst.node).collect();
        known.push(own);
        known.sort_unstable();
        known.dedup();
        if !admit(&mut known, datagram.header.src.inst.node) {
            self.counters.members_refused += 1;
            return false;
        }
        let mut admitted = Vec::with_capacity(datagram.members.len());
        for member in datagram.members.drain(..) {
            let inst = member.id().inst;
            if inst.node == own && inst.boot > self.gossip.identity().inst.boot {
                self.news.superseded_by = Some(inst);
            } else if admit(&mut known, inst.node) {
                admitted.push(member);
            } else {
                self.counters.members_refused += 1;
            }
        }
        datagram.members = admitted;
        let items = std::mem::take(&mut datagram.items);
        datagram.items = items.into_iter().filter(|item| self.learn(item)).collect();
        true
    }

    /// Reads one item of metadata; tells whether foca may see it.
    fn learn(&mut self, item: &[u8]) -> bool {
        let Some(entry) = MetaEntry::read(item) else {
            self.counters.garbage += 1;
            return false;
        };
        match self.merge_entry(entry) {
            Merged::Taken | Merged::Known => true,
            Merged::Refused => false,
        }
    }

    fn own_timer(&mut self, timer: Timer, now: Time) {
        match timer {
            Timer::Hint(node) => self.pursue_hint(node, now),
            Timer::Doubt(node) => self.end_doubt(node, now),
            Timer::Refused(node) => self.end_refusal(node, now),
            Timer::Seeds => self.ask_seeds(now),
            Timer::Table => self.spread_table(now),
            // foca's own timers carry an event and never come here.
            Timer::Indirect
            | Timer::Probe
            | Timer::Suspect(_)
            | Timer::Gossip
            | Timer::Announce
            | Timer::AnnounceDown
            | Timer::Forget(_) => {}
        }
    }

    /// Queues a frame to every other member but `except`.
    pub(super) fn tell_others(&mut self, body: &MembershipFrame, except: Option<NodeInst>) {
        let mut others: Vec<NodeInst> = self
            .gossip
            .iter_members()
            .map(|member| member.id().inst)
            .filter(|inst| Some(*inst) != except)
            .collect();
        others.sort_unstable();
        for to in others {
            let body = body.clone();
            self.news.actions.push(Action::Tell { to, body });
        }
    }
}

/// Tells whether a node is known, or there is room to know it; then it is noted.
fn admit(known: &mut Vec<NodeId>, node: NodeId) -> bool {
    match known.binary_search(&node) {
        Ok(_) => true,
        Err(_) if known.len() >= NODES_MAX => false,
        Err(place) => {
            known.insert(place, node);
            true
        }
    }
}

/// The engine's parameters (`cluster.md` §2) over its settings for a local network.
fn config() -> Config {
    let most = u32::try_from(NODES_MAX).unwrap_or(u32::MAX);
    let every = |frequency, members: usize| PeriodicParams {
        frequency,
        num_members: NonZeroUsize::new(members).unwrap_or(NonZeroUsize::MIN),
    };
    Config {
        probe_period: PROBE_PERIOD,
        probe_rtt: PROBE_RTT,
        suspect_to_down_after: SUSPECT_TO_DOWN,
        remove_down_after: None,
        max_packet_size: NonZeroUsize::new(GOSSIP_BYTES_MAX).unwrap_or(NonZeroUsize::MIN),
        notify_down_members: true,
        periodic_gossip: Some(every(GOSSIP_PERIOD, 3)),
        periodic_announce_to_down_members: Some(every(ANNOUNCE_TO_DOWN_PERIOD, 3)),
        ..Config::new_lan(NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN))
    }
}

/// One probe: direct, then through others.
pub(super) const PROBE_PERIOD: Duration = Duration::from_millis(500);
/// When others are asked to probe; also the most that our own scheduler may be late.
pub(super) const PROBE_RTT: Duration = Duration::from_millis(200);
/// How long a suspect may refute.
pub(super) const SUSPECT_TO_DOWN: Duration = Duration::from_millis(2_500);
const GOSSIP_PERIOD: Duration = Duration::from_millis(200);
const ANNOUNCE_TO_DOWN_PERIOD: Duration = Duration::from_secs(5);
