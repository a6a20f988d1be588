//! A network of membership machines in virtual time: delays, loss, cuts, stalls, deaths.
//!
//! In: faults. Out: what every machine told, with the time. The transport is modelled too: links
//! between nodes that want each other, resets of killed processes, silence after three missed pings.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use contract::{Boot, Entropy, Loss, NodeId, NodeInst, Now, Peer, Time, UtcMillis};

use super::VersionRange;
use super::{Action, Membership, MembershipFrame, NodeMeta, Proof, Roles, View};
use contract::MemberState;

/// Something that arrives at a node.
#[derive(Clone, Debug)]
enum Arrival {
    Datagram(SocketAddr, Bytes),
    Frame(NodeInst, MembershipFrame),
    Connected(Peer),
    Lost(Peer, Loss),
}

/// One process.
pub(super) struct Process {
    pub(super) machine: Membership,
    pub(super) peer: Peer,
    pub(super) has_left: bool,
    stalled_until: Time,
}

/// Something that a machine told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) at: Time,
    pub(super) by: NodeId,
    pub(super) action: Action,
}

/// The network and its nodes.
pub(super) struct World {
    pub(super) now: Time,
    pub(super) nodes: BTreeMap<NodeId, Process>,
    pub(super) told: Vec<Told>,
    /// Chance of a datagram to be lost, in percent.
    pub(super) loss_percent: u32,
    arrivals: BTreeMap<(Time, u64), (NodeInst, Arrival)>,
    sequence: u64,
    entropy: Entropy,
    sides: BTreeMap<NodeId, u8>,
    links: BTreeMap<(NodeInst, NodeInst), Option<Time>>,
    greeted: BTreeSet<(NodeId, SocketAddr)>,
    next_tend: Time,
}

pub(super) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(super) fn meta(state: MemberState) -> NodeMeta {
    NodeMeta {
        name: "a".to_owned(),
        state,
        zone: "alpha".to_owned(),
        roles: Roles::CALLS,
        load_permille: 0,
        proto: VersionRange::only(1),
        schema: VersionRange { low: 1, high: 2 },
    }
}

pub(super) fn address(node: u16) -> SocketAddr {
    let [high, low] = node.to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, 0, high, low), 7_000))
}

pub(super) fn inst(node: u16, boot: u64) -> NodeInst {
    NodeInst {
        node: NodeId(node),
        boot: Boot(boot),
    }
}

pub(super) fn at(time: Time) -> Now {
    Now {
        mono: time,
        utc: UtcMillis(time.as_micros() / 1_000),
    }
}

impl World {
    pub(super) fn new(seed: u8) -> World {
        World {
            now: Time::ZERO,
            nodes: BTreeMap::new(),
            told: Vec::new(),
            loss_percent: 0,
            arrivals: BTreeMap::new(),
            sequence: 0,
            entropy: Entropy::from_seed([seed; 32]),
            sides: BTreeMap::new(),
            links: BTreeMap::new(),
            greeted: BTreeSet::new(),
            next_tend: Time::ZERO,
        }
    }

    /// Makes nodes 1..=count that join by node 1, and lets them settle for 10 s.
    pub(super) fn settled(seed: u8, count: u16) -> World {
        let mut world = World::new(seed);
        for node in 1..=count {
            world.boot(node, 1, &[address(1)]);
        }
        world.run(ms(10_000));
        world
    }

    pub(super) fn boot(&mut self, node: u16, boot: u64, seeds: &[SocketAddr]) {
        let peer = Peer {
            inst: inst(node, boot),
            address: address(node),
        };
        let entropy = self.entropy.split(&format!("{}", peer.inst));
        let machine = Membership::new(peer.inst, peer.address, meta(MemberState::Up), &entropy);
        let process = Process {
            machine,
            peer,
            has_left: false,
            stalled_until: Time::ZERO,
        };
        self.nodes.insert(NodeId(node), process);
        let now = at(self.now);
        self.act(NodeId(node), |machine| machine.start(seeds, now));
    }

    /// Draws a number below `bound`.
    pub(super) fn draw(&mut self, bound: u32) -> u32 {
        self.entropy.below(bound)
    }

    /// Ends a process; its kernel resets what it had open.
    pub(super) fn kill(&mut self, node: u16) {
        self.end(node, Some(Loss::Refused));
    }

    /// Takes a node's power away: nobody is told anything.
    pub(super) fn unplug(&mut self, node: u16) {
        self.end(node, None);
    }

    fn end(&mut self, node: u16, why: Option<Loss>) {
        let process = self.nodes.remove(&NodeId(node)).expect("it runs");
        let gone = process.peer;
        let pairs: Vec<(NodeInst, NodeInst)> = self.links.keys().copied().collect();
        for (a, b) in pairs {
            let other = if a == gone.inst { b } else { a };
            if (a != gone.inst && b != gone.inst) || why.is_none() {
                continue;
            }
            self.links.remove(&(a, b));
            if let Some(loss) = why {
                let delay = ms(1 + u64::from(self.entropy.below(5)));
                self.arrive(other, delay, Arrival::Lost(gone, loss));
            }
        }
    }

    /// Lets a process do nothing for a while.
    pub(super) fn stall(&mut self, node: u16, length: Duration) {
        let until = self.now + length;
        let process = self.nodes.get_mut(&NodeId(node)).expect("it runs");
        process.stalled_until = until;
    }

    /// Cuts the nodes in `away` from all others.
    pub(super) fn cut(&mut self, away: &[u16]) {
        self.sides = away.iter().map(|node| (NodeId(*node), 1)).collect();
    }

    pub(super) fn heal(&mut self) {
        self.sides.clear();
    }

    fn reaches(&self, a: NodeId, b: NodeId) -> bool {
        self.sides.get(&a) == self.sides.get(&b)
    }

    fn arrive(&mut self, to: NodeInst, delay: Duration, what: Arrival) {
        self.sequence += 1;
        let key = (self.now + delay, self.sequence);
        self.arrivals.insert(key, (to, what));
    }

    /// Gives one input to a node's machine and performs what it wants.
    pub(super) fn act(&mut self, node: NodeId, input: impl FnOnce(&mut Membership) -> Vec<Action>) {
        let Some(process) = self.nodes.get_mut(&node) else {
            return;
        };
        let from = process.peer;
        for action in input(&mut process.machine) {
            self.perform(from, &action);
            let (at, by) = (self.now, node);
            self.told.push(Told { at, by, action });
        }
    }

    fn perform(&mut self, from: Peer, action: &Action) {
        match action {
            Action::Gossip { to, bytes } => {
                assert!(bytes.len() <= contract::limits::GOSSIP_BYTES_MAX);
                let found = self.nodes.values().find(|p| p.peer.address == *to);
                let is_lost = self.entropy.below(100) < self.loss_percent;
                let delay = Duration::from_micros(u64::from(200 + self.entropy.below(2_000)));
                let Some(peer) = found.map(|process| process.peer) else {
                    return;
                };
                if !is_lost && self.reaches(from.inst.node, peer.inst.node) {
                    let what = Arrival::Datagram(from.address, bytes.clone());
                    self.arrive(peer.inst, delay, what);
                }
            }
            Action::Tell { to, body } => {
                let key = (from.inst.min(*to), from.inst.max(*to));
                if self.links.get(&key) == Some(&None) && self.reaches(from.inst.node, to.node) {
                    let delay = Duration::from_micros(u64::from(300 + self.entropy.below(1_000)));
                    self.arrive(*to, delay, Arrival::Frame(from.inst, body.clone()));
                }
            }
            Action::Greet(seed) => {
                self.greeted.insert((from.inst.node, *seed));
            }
            Action::Down(inst, Proof::Dead) => {
                let process = self.nodes.get(&inst.node);
                let lives = process.is_some_and(|p| p.peer.inst == *inst && !p.has_left);
                assert!(!lives, "{inst} was proven dead while it lives");
            }
            Action::View(_)
            | Action::Down(_, Proof::Silent)
            | Action::Rejoin
            | Action::Superseded(_) => {}
        }
    }

    /// Makes links that are wanted and possible, and gives up those that are silent for 1.5 s.
    fn tend_links(&mut self) {
        let peers: Vec<Peer> = self.nodes.values().map(|process| process.peer).collect();
        for (index, a) in peers.iter().enumerate() {
            for b in &peers[index + 1..] {
                let key = (a.inst.min(b.inst), a.inst.max(b.inst));
                let is_possible = self.reaches(a.inst.node, b.inst.node)
                    && !self.is_stalled(a.inst.node)
                    && !self.is_stalled(b.inst.node);
                let is_wanted = self.wants(*a, *b) || self.wants(*b, *a);
                if is_possible && is_wanted && !self.links.contains_key(&key) {
                    self.links.insert(key, None);
                    self.arrive(a.inst, ms(2), Arrival::Connected(*b));
                    self.arrive(b.inst, ms(2), Arrival::Connected(*a));
                }
            }
        }
        let links: Vec<((NodeInst, NodeInst), Option<Time>)> =
            self.links.iter().map(|(key, bad)| (*key, *bad)).collect();
        for ((a, b), bad) in links {
            self.tend_link(a, b, bad);
        }
    }

    fn tend_link(&mut self, a: NodeInst, b: NodeInst, bad_since: Option<Time>) {
        let runs = |inst: NodeInst| {
            let process = self.nodes.get(&inst.node);
            process.is_some_and(|p| p.peer.inst == inst) && !self.is_stalled(inst.node)
        };
        let is_good = runs(a) && runs(b) && self.reaches(a.node, b.node);
        match bad_since {
            _ if is_good => {
                self.links.insert((a, b), None);
            }
            None => {
                self.links.insert((a, b), Some(self.now));
            }
            Some(since) if self.now.since(since) >= ms(1_500) => {
                self.links.remove(&(a, b));
                for (inst, other) in [(a, b), (b, a)] {
                    let peer = Peer {
                        inst: other,
                        address: address(other.node.0),
                    };
                    self.arrive(inst, ms(1), Arrival::Lost(peer, Loss::Silent));
                }
            }
            Some(_) => {}
        }
    }

    fn wants(&self, a: Peer, b: Peer) -> bool {
        let view = self.nodes[&a.inst.node].machine.view();
        view.contains(b.inst) || self.greeted.contains(&(a.inst.node, b.address))
    }

    fn is_stalled(&self, node: NodeId) -> bool {
        let process = self.nodes.get(&node);
        process.is_some_and(|process| process.stalled_until > self.now)
    }

    /// Lets `length` pass.
    pub(super) fn run(&mut self, length: Duration) {
        let end = self.now + length;
        loop {
            let timer = self
                .nodes
                .iter()
                .filter_map(|(node, process)| {
                    let due = process.machine.next_deadline()?;
                    Some((due.max(process.stalled_until).max(self.now), *node))
                })
                .min();
            let arrival = self.arrivals.keys().next().copied();
            let timer_at = timer.map_or(end, |(at, _)| at);
            let arrival_at = arrival.map_or(end, |(at, _)| at);
            let next = timer_at.min(arrival_at).min(self.next_tend);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = next;
            if self.next_tend == next {
                self.next_tend = next + ms(50);
                self.tend_links();
            } else if let Some((at, node)) = timer
                && at == next
            {
                let now = self.clock();
                self.act(node, |machine| machine.on_timer(now));
            } else if let Some(key) = arrival {
                let (to, what) = self.arrivals.remove(&key).expect("it was just seen");
                self.deliver(to, what);
            }
        }
    }

    fn clock(&self) -> Now {
        at(self.now)
    }

    fn deliver(&mut self, to: NodeInst, what: Arrival) {
        let Some(process) = self.nodes.get(&to.node).filter(|p| p.peer.inst == to) else {
            return;
        };
        if process.stalled_until > self.now {
            let wait = process.stalled_until.since(self.now);
            self.arrive(to, wait, what);
            return;
        }
        let now = self.clock();
        self.act(to.node, |machine| match what {
            Arrival::Datagram(from, bytes) => machine.on_datagram(from, &bytes, now),
            Arrival::Frame(from, body) => machine.on_frame(from, body, now),
            Arrival::Connected(peer) => machine.on_connected(peer, now),
            Arrival::Lost(peer, why) => machine.on_lost(peer, why, now),
        });
    }

    pub(super) fn view(&self, node: u16) -> &View {
        self.nodes[&NodeId(node)].machine.view()
    }

    /// Tells whether every node sees exactly the nodes that run, all of them `Up`.
    pub(super) fn agrees(&self) -> bool {
        let all: Vec<NodeInst> = self.nodes.values().map(|p| p.peer.inst).collect();
        self.nodes.values().all(|process| {
            let view = process.machine.view();
            let seen: Vec<NodeInst> = view.up().map(|member| member.inst).collect();
            seen == all && view.members.len() == all.len()
        })
    }

    /// Lets time pass until all agree, at most `most`; returns how long it took.
    pub(super) fn run_until_agreed(&mut self, most: Duration) -> Duration {
        let start = self.now;
        while !self.agrees() && self.now.since(start) < most {
            self.run(ms(10));
        }
        assert!(self.agrees(), "no agreement within {most:?}");
        self.now.since(start)
    }

    /// Returns who told that `gone` is down since `since`: when, and with which proof.
    pub(super) fn downs(&self, gone: NodeInst, since: Time) -> Vec<(NodeId, Duration, Proof)> {
        let told = self.told.iter().filter(|told| told.at >= since);
        let mut all = Vec::new();
        for told in told {
            if let Action::Down(inst, proof) = told.action
                && inst == gone
            {
                all.push((told.by, told.at.since(since), proof));
            }
        }
        all
    }

    pub(super) fn any_down_since(&self, since: Time) -> Vec<(NodeId, NodeInst)> {
        let told = self.told.iter().filter(|told| told.at >= since);
        let mut all = Vec::new();
        for told in told {
            if let Action::Down(inst, _) = told.action {
                all.push((told.by, inst));
            }
        }
        all
    }

    pub(super) fn rejoins(&self, since: Time) -> Vec<NodeId> {
        let told = self.told.iter().filter(|told| told.at >= since);
        told.filter(|told| told.action == Action::Rejoin)
            .map(|told| told.by)
            .collect()
    }
}
