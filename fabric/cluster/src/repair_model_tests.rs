//! Desks and comparisons of three to five nodes together, under commits that miss some holders,
//! claims that nobody follows up, changes of holders, tombstones, a network that loses, doubles and
//! reorders, cuts, views that differ, crashes with unsynced tails and failing writes.
//!
//! At every step: digests are those of what is durable; I12 of `cluster.md` §14; nothing is settled
//! while a member is not connected. When all is mended: every holder has the newest version, every
//! shard is settled, digests are equal. Seven planted bugs are found.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use contract::{
    ActorId, Batch, Boot, CallKey, FabricKeys, IdHasher, NodeId, NodeInst, Now, RecordKey,
    UtcMillis,
};

use crate::test_store::TestStore;
use crate::{
    Desk, DeskAction, Epoch, Exchange, Frame, Header, HolderRequest, HolderSet, Image, Mark, Owned,
    Repair, RepairAction, ShardDigests, Version, Whereabouts, hold, shard,
};

const SEEDS: u64 = 1_200;
const STEPS: usize = 500;
const MESSAGES_MAX: usize = 60;
const OBJECTS: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// Who cannot be reached counts as gone.
    SettleOnLoss,
    /// Tombstones are not listed.
    SkipTombstones,
    /// Digests are not told of every change.
    MissedChange,
    /// The own store is not waited for, and does not get everything.
    StoredTooSoon,
    /// Copies are handed in as commits, which a fence refuses.
    CopyAsCommit,
    /// Tombstones go when their time has passed, known or not.
    ForgetTooSoon,
    /// What was in step before a view change counts after it.
    StepOutlivesLife,
}

#[test]
fn every_interleaving_settles_and_says_none_rightly() {
    let mut seen = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut world = World::new(seed, Bug::None);
        if let Err(why) = world.run() {
            panic!("seed {seed}: {why}");
        }
        for (what, count) in world.seen {
            *seen.entry(what).or_insert(0_usize) += count;
        }
    }
    println!("{SEEDS} seeds: {seen:#?}");
    for (what, least) in RARE {
        let count = seen.get(what).copied().unwrap_or(0);
        assert!(count >= *least, "{what}: only {count}, wanted {least}");
    }
}

/// Branches that must be reached, and how often at least over all seeds.
const RARE: &[(&str, usize)] = &[
    ("commit", 10_000),
    ("commit that misses a holder", 5_000),
    ("claim alone", 5_000),
    ("holder change", 500),
    ("tombstone", 1_000),
    ("begun anew", 300),
    ("forgotten", 1_000),
    ("cut", 1_000),
    ("view change", 1_000),
    ("crash", 1_000),
    ("crash with an unsynced tail", 100),
    ("write failed", 200),
    ("copy", 10_000),
    ("copy below the fence", 2_000),
    ("copy of a tombstone", 1_000),
    ("check answered", 1_000),
    ("settled under load", 10_000),
    ("unsettled", 200),
    ("none said", 100_000),
    ("none said of a tombstone", 50_000),
    ("mended at the end", 5_000),
];

#[test]
fn settling_while_a_member_is_lost_is_found() {
    assert_found(Bug::SettleOnLoss, "settled");
}

#[test]
fn tombstones_that_are_skipped_are_found() {
    assert_found(Bug::SkipTombstones, "lacks");
}

#[test]
fn a_change_that_digests_miss_is_found() {
    assert_found(Bug::MissedChange, "digests");
}

#[test]
fn copies_that_count_before_they_are_stored_are_found() {
    assert_found(Bug::StoredTooSoon, "I12");
}

#[test]
fn copies_that_a_fence_refuses_are_found() {
    assert_found(Bug::CopyAsCommit, "lacks");
}

#[test]
fn being_in_step_with_an_earlier_view_is_found() {
    assert_found(Bug::StepOutlivesLife, "I12");
}

#[test]
fn forgetting_what_others_do_not_know_is_found() {
    assert_found(Bug::ForgetTooSoon, "I12");
}

fn assert_found(bug: Bug, by: &str) {
    const TRIED: u64 = 1_000;
    let mut others = Vec::new();
    for seed in 0..TRIED {
        match World::new(seed, bug).run() {
            Err(why) if why.starts_with(by) => return println!("{bug:?}: seed {seed}: {why}"),
            Err(why) => others.push((seed, why)),
            Ok(_) => {}
        }
    }
    panic!("{bug:?} is not found by {by}: {others:?}");
}

struct Node {
    inst: NodeInst,
    durable: TestStore,
    visible: TestStore,
    tail: VecDeque<(u64, Batch)>,
    desk: Desk,
    repair: Repair,
    /// Other members that it thinks are up.
    view: BTreeSet<usize>,
    /// What others had, named for both, when the view last changed or they were (re)connected.
    had: BTreeMap<usize, [Option<Version>; OBJECTS]>,
    /// What is durable of each object, read once.
    headers: [Option<Header>; OBJECTS],
    /// Something was done here since the last check.
    is_touched: bool,
}

struct Object {
    id: ActorId,
    key: RecordKey,
    owned: Option<Owned>,
    fence: Epoch,
}

#[derive(Clone)]
struct Message {
    from: NodeInst,
    to: usize,
    to_boot: Boot,
    frame: Frame,
}

type Check = Result<(), String>;

struct World {
    bug: Bug,
    random: u64,
    now: Now,
    reads_ahead: bool,
    ids: IdHasher,
    objects: Vec<Object>,
    shards: BTreeSet<u8>,
    nodes: Vec<Node>,
    cuts: BTreeSet<(usize, usize)>,
    wire: Vec<Message>,
    is_calm: bool,
    seen: BTreeMap<&'static str, usize>,
}

impl World {
    fn new(seed: u64, bug: Bug) -> Self {
        let ids = FabricKeys::new([1; 32]).ids();
        let call = |bits: u128| ActorId::Call(CallKey::from_bits(bits << 64));
        let objects = [
            call(0x1100_0000_0000_0001),
            call(0x1100_0000_0000_0002),
            call(0x2200_0000_0000_0003),
            ActorId::Registration("alice@example.org".into()),
            ActorId::Registration("bob@example.org".into()),
            ActorId::Gateway("trunk".into()),
        ];
        let shards = objects.iter().map(|id| shard(ids.record_key(id))).collect();
        let objects = objects.map(|id| Object {
            key: ids.record_key(&id),
            id,
            owned: None,
            fence: Epoch::ZERO,
        });
        let mut world = World {
            bug,
            random: seed,
            now: Now::default(),
            reads_ahead: false,
            ids,
            objects: objects.into(),
            shards,
            nodes: Vec::new(),
            cuts: BTreeSet::new(),
            wire: Vec::new(),
            is_calm: false,
            seen: BTreeMap::new(),
        };
        let count = 3 + world.draw(3);
        world.reads_ahead = world.draw(2) == 0;
        for number in 0..u16::try_from(count).unwrap() {
            let inst = NodeInst {
                node: NodeId(number),
                boot: Boot(1),
            };
            world.nodes.push(Node {
                inst,
                durable: TestStore::default(),
                visible: TestStore::default(),
                tail: VecDeque::new(),
                desk: Desk::new(inst.node, world.ids.clone()),
                repair: Repair::new(inst.node),
                view: (0..count)
                    .filter(|other| *other != usize::from(number))
                    .collect(),
                had: BTreeMap::new(),
                headers: Default::default(),
                is_touched: true,
            });
        }
        for node in 0..count {
            world.start(node).unwrap();
        }
        world
    }

    /// SplitMix64.
    fn draw(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % below as u64).unwrap()
    }

    fn see(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn run(&mut self) -> Check {
        // Each seed has its own mix: how much is committed, how often nodes crash and are cut off.
        let (commits, crashes, cuts) = (20 + self.draw(120), self.draw(8), self.draw(16));
        for _ in 0..STEPS {
            let micros = self.draw(120_000) as u64;
            self.pass(micros)?;
            let (node, object) = (self.draw(self.nodes.len()), self.draw(OBJECTS));
            match self.draw(1_000) {
                0..260 => self.sync(node)?,
                260..280 => self.claim_alone(object)?,
                280..330 => self.forget(node, object)?,
                330..340 => self.change_view(node)?,
                at if at < 340 + commits => self.commit(object)?,
                at if at >= 1_000 - crashes => self.crash(node)?,
                at if at >= 1_000 - crashes - cuts => self.cut(node)?,
                _ => {
                    for _ in 0..3 {
                        self.deliver()?;
                    }
                }
            }
            self.check()?;
        }
        self.calm()
    }

    fn pass(&mut self, micros: u64) -> Check {
        self.now.mono = self.now.mono + Duration::from_micros(micros);
        self.now.utc = UtcMillis(self.now.mono.as_micros() / 1_000);
        for node in 0..self.nodes.len() {
            let deadline = self.nodes[node].repair.next_deadline();
            if deadline.is_some_and(|at| at <= self.now.mono) {
                let actions = self.nodes[node].repair.tick(self.now);
                self.mend(node, actions)?;
            }
        }
        Ok(())
    }

    /// Everything is mended: what was missed is found.
    fn calm(&mut self) -> Check {
        self.is_calm = true;
        let count = self.nodes.len();
        for (one, other) in std::mem::take(&mut self.cuts) {
            self.connect(one, other)?;
        }
        for node in 0..count {
            let all: BTreeSet<usize> = (0..count).filter(|other| *other != node).collect();
            if self.nodes[node].view != all {
                self.nodes[node].view = all;
                self.tell_view(node)?;
            }
        }
        self.rest(24)?;
        for object in 0..OBJECTS {
            self.check_mended(object)?;
        }
        // Then tombstones go, and what is left is equal.
        self.now.mono = self.now.mono + Duration::from_secs(60);
        self.rest(12)?;
        for node in 0..count {
            for object in 0..OBJECTS {
                self.forget(node, object)?;
            }
        }
        self.rest(12)?;
        for (one, other) in (0..count).flat_map(|one| (0..one).map(move |other| (one, other))) {
            let [a, b] = [one, other].map(|node| &self.nodes[node]);
            let digests = (
                a.repair.digests_for(b.inst.node),
                b.repair.digests_for(a.inst.node),
            );
            if digests.0 != digests.1 {
                return Err(format!("V1: {one} and {other} differ"));
            }
        }
        Ok(())
    }

    /// Lets the nodes work for some seconds without faults.
    fn rest(&mut self, seconds: u64) -> Check {
        let until = self.now.mono + Duration::from_secs(seconds);
        for _ in 0..20_000 {
            while !self.wire.is_empty() {
                self.deliver()?;
            }
            for node in 0..self.nodes.len() {
                while !self.nodes[node].tail.is_empty() {
                    self.sync(node)?;
                }
            }
            self.check()?;
            if !self.wire.is_empty() {
                continue;
            }
            let deadlines = self.nodes.iter();
            let next = deadlines.filter_map(|node| node.repair.next_deadline());
            let next = next.min().unwrap_or(until).min(until);
            let micros = next.since(self.now.mono).as_micros();
            if next >= until {
                return Ok(());
            }
            self.pass(u64::try_from(micros).unwrap())?;
        }
        Err("liveness: they never rest".to_owned())
    }

    fn check_mended(&mut self, object: usize) -> Check {
        let Object { id, key, .. } = &self.objects[object];
        let nodes = self.nodes.iter();
        let mut headers: Vec<Option<Header>> =
            nodes.map(|node| node.headers[object].clone()).collect();
        // Until when a former holder keeps its copy is its own affair.
        for header in headers.iter_mut().flatten().filter(|one| !one.is_ended()) {
            header.expires = UtcMillis(0);
        }
        let newest = headers.iter().flatten();
        let newest = newest.max_by_key(|header| header.version).cloned();
        for node in &self.nodes {
            if !node.desk.is_settled(shard(*key)) {
                return Err(format!("liveness: {id} is not settled at {}", node.inst));
            }
        }
        let Some(newest) = newest else {
            return Ok(());
        };
        for (at, held) in headers.iter().enumerate() {
            let is_holder = newest.conf.nodes().contains(&self.nodes[at].inst.node);
            // A tombstone whose time has passed is not given to who holds nothing.
            let may_lack = newest.is_ended() && held.is_none();
            if is_holder && !may_lack && held.as_ref() != Some(&newest) {
                let has = held.as_ref().map(|header| header.version);
                return Err(format!("lacks: {at} has {has:?} of {id}, {newest:?}"));
            }
        }
        self.see("mended at the end");
        Ok(())
    }

    // ---- what must hold at every step ------------------------------------------------------

    fn check(&mut self) -> Check {
        for node in 0..self.nodes.len() {
            if !std::mem::replace(&mut self.nodes[node].is_touched, false) {
                continue;
            }
            self.check_settled(node)?;
            for object in 0..OBJECTS {
                self.check_none(node, object)?;
            }
            self.check_digests(node)?;
        }
        Ok(())
    }

    /// Nothing is settled while what a member holds cannot be known.
    fn check_settled(&self, node: usize) -> Check {
        let here = &self.nodes[node];
        let is_apart = here.view.iter().any(|other| self.is_cut(node, *other));
        let settled = self
            .shards
            .iter()
            .find(|shard| here.desk.is_settled(**shard));
        match settled {
            Some(shard) if is_apart => Err(format!("settled: {shard} at {node}, with a cut")),
            Some(_) | None => Ok(()),
        }
    }

    /// I12: `None` is not said of what a member had before the view changed or it was connected,
    /// still has, and names this node for.
    fn check_none(&mut self, node: usize, object: usize) -> Check {
        let is_short = self.draw(8) > 0;
        let Object { id, key, .. } = &self.objects[object];
        let here = &self.nodes[node];
        // Reading the store each time would be most of the work: here it says `At`, or `Unsettled`.
        let is_live = here.headers[object]
            .as_ref()
            .is_some_and(|header| !header.is_ended());
        let is_clear = is_live && here.desk.is_quiet(id) || !here.desk.is_settled(shard(*key));
        if is_short && is_clear {
            return Ok(());
        }
        let store = here.store(self.reads_ahead);
        if here.desk.where_is(store, id) != Whereabouts::None {
            return Ok(());
        }
        let held = here.desk.held(store, id).unwrap().image;
        let has = held.map_or(Version::default(), |image| image.header.version);
        for other in &here.view {
            let had = here.had.get(other).and_then(|had| had[object]);
            let header = self.nodes[*other].headers[object].as_ref();
            let is_live = header.is_some_and(|header| !header.is_ended());
            if let Some(had) = had.filter(|had| is_live && *had > has) {
                return Err(format!("I12: none at {node} of {id}, {other} had {had}"));
            }
        }
        let what = match has == Version::default() {
            true => "none said",
            false => "none said of a tombstone",
        };
        self.see(what);
        Ok(())
    }

    fn check_digests(&self, node: usize) -> Check {
        let here = &self.nodes[node];
        if !here.repair.is_loaded() {
            return Ok(());
        }
        for shard in &self.shards {
            let mut fresh = ShardDigests::default();
            for (object, header) in self.objects.iter().zip(&here.headers) {
                let header = header
                    .as_ref()
                    .filter(|_| object.key.hash >> 120 == u128::from(*shard));
                if let Some(header) = header {
                    fresh.add(here.inst.node, object.key, header);
                }
            }
            for other in &self.nodes {
                let digests = here.repair.digests_for(other.inst.node).unwrap();
                if digests[usize::from(*shard)] != fresh.of(other.inst.node) {
                    return Err(format!("digests: {shard} at {node}"));
                }
            }
        }
        Ok(())
    }

    // ---- network ---------------------------------------------------------------------------

    fn send(&mut self, from: NodeInst, to: usize, frame: Frame) {
        if self.wire.len() >= MESSAGES_MAX && !self.is_calm {
            let lost = self.draw(self.wire.len());
            self.wire.swap_remove(lost);
        }
        // Now and then through the octets: what is sent must be readable.
        let frame = match self.draw(16) {
            0 => Frame::read(&frame.write(contract::SchemaVersion::NEWEST).unwrap()).unwrap(),
            _ => frame,
        };
        self.wire.push(Message {
            from,
            to,
            to_boot: self.nodes[to].inst.boot,
            frame,
        });
    }

    fn deliver(&mut self) -> Check {
        if self.wire.is_empty() {
            return Ok(());
        }
        let at = self.draw(self.wire.len());
        let message = match self.draw(40) {
            0 if !self.is_calm && self.wire.len() < MESSAGES_MAX / 2 => self.wire[at].clone(),
            1 if !self.is_calm => {
                self.wire.swap_remove(at);
                return Ok(());
            }
            _ => self.wire.swap_remove(at),
        };
        let (node, from) = (message.to, usize::from(message.from.node.0));
        let is_stale =
            message.to_boot != self.nodes[node].inst.boot || message.from != self.nodes[from].inst;
        if is_stale || self.is_cut(node, from) {
            return Ok(());
        }
        match message.frame {
            Frame::Repair {
                number,
                mut exchange,
            } => {
                if let Exchange::Listed(page) = &mut exchange
                    && self.bug == Bug::SkipTombstones
                {
                    page.entries.retain(|entry| entry.mark == Mark::Live);
                }
                let here = &mut self.nodes[node];
                let actions = here
                    .repair
                    .frame(self.now, message.from.node, number, exchange);
                self.mend(node, actions)
            }
            Frame::Ask { number, request } => self.ask_desk(node, message.from, number, request),
            frame @ (Frame::Tell { .. }
            | Frame::Returned { .. }
            | Frame::Reply { .. }
            | Frame::Where { .. }
            | Frame::Found { .. }
            | Frame::Redirect { .. }
            | Frame::Take { .. }
            | Frame::Taken { .. }
            | Frame::Kept { .. }
            | Frame::Left { .. }
            | Frame::EventsHeld(_)
            | Frame::Events(_)
            | Frame::Send { .. }) => Err(format!("nobody sends {frame:?}")),
        }
    }

    fn is_cut(&self, one: usize, other: usize) -> bool {
        self.cuts.contains(&(one.min(other), one.max(other)))
    }

    fn cut(&mut self, one: usize) -> Check {
        let other = self.draw(self.nodes.len());
        if one == other {
            return Ok(());
        }
        let pair = (one.min(other), one.max(other));
        if self.cuts.remove(&pair) {
            return self.connect(one, other);
        }
        self.see("cut");
        self.cuts.insert(pair);
        self.disconnect(one, other)?;
        self.disconnect(other, one)
    }

    fn disconnect(&mut self, node: usize, other: usize) -> Check {
        let peer = self.nodes[other].inst.node;
        let actions = self.nodes[node].repair.lost(self.now, peer);
        self.mend(node, actions)?;
        if self.bug == Bug::SettleOnLoss {
            let here = &mut self.nodes[node];
            let others = here.view.iter().filter(|one| **one != other);
            let others: Vec<NodeId> = others.map(|one| node_id(*one)).collect();
            let actions = here.repair.view_changed(self.now, &others);
            here.desk.view_changed(!others.is_empty());
            self.mend(node, actions)?;
        }
        Ok(())
    }

    fn connect(&mut self, one: usize, other: usize) -> Check {
        for (here, there) in [(one, other), (other, one)] {
            let had = self.what_it_has(here, there);
            self.nodes[here].had.insert(there, had);
            let peer = self.nodes[there].inst.node;
            let actions = self.nodes[here].repair.connected(self.now, peer);
            self.mend(here, actions)?;
        }
        Ok(())
    }

    fn what_it_has(&self, here: usize, there: usize) -> [Option<Version>; OBJECTS] {
        let names = |header: &Header| {
            let nodes = header.conf.nodes();
            nodes.contains(&node_id(here)) && nodes.contains(&node_id(there))
        };
        std::array::from_fn(|object| {
            let header = self.nodes[there].headers[object].as_ref();
            let header = header.filter(|header| names(header) && !header.is_ended());
            header.map(|header| header.version)
        })
    }

    fn change_view(&mut self, node: usize) -> Check {
        let other = self.draw(self.nodes.len());
        if node == other {
            return Ok(());
        }
        self.see("view change");
        let view = &mut self.nodes[node].view;
        if !view.remove(&other) {
            view.insert(other);
        }
        self.tell_view(node)
    }

    fn tell_view(&mut self, node: usize) -> Check {
        for other in 0..self.nodes.len() {
            if other != node {
                let had = self.what_it_has(node, other);
                self.nodes[node].had.insert(other, had);
            }
        }
        let here = &mut self.nodes[node];
        let others: Vec<NodeId> = here.view.iter().map(|other| node_id(*other)).collect();
        let before = here.repair.settled();
        here.desk.view_changed(!others.is_empty());
        let actions = here.repair.view_changed(self.now, &others);
        if self.bug == Bug::StepOutlivesLife {
            before
                .iter()
                .for_each(|shard| here.desk.shard_settled(shard));
        }
        self.mend(node, actions)
    }

    // ---- comparing -------------------------------------------------------------------------

    fn mend(&mut self, node: usize, actions: Vec<RepairAction>) -> Check {
        let now = self.now;
        self.nodes[node].is_touched = true;
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            let here = &mut self.nodes[node];
            let store = match self.reads_ahead {
                true => &here.visible,
                false => &here.durable,
            };
            let me = here.inst;
            match action {
                // Every other node knows no glances.
                RepairAction::Send {
                    to,
                    frame:
                        Frame::Repair {
                            exchange: Exchange::Glance(_),
                            ..
                        },
                } if to.0 % 2 == 1 => actions.extend(here.repair.unread_glance(now, to)),
                RepairAction::Send { to, frame } => self.send(me, usize::from(to.0), frame),
                RepairAction::LoadShard(shard) => {
                    let digests = here.desk.digests(store, shard).unwrap();
                    actions.extend(here.repair.loaded(now, shard, &digests));
                }
                RepairAction::List { to, number, range } => {
                    let page = here.desk.page(store, now.utc, to, &range).unwrap();
                    let exchange = Exchange::Listed(page);
                    let frame = Frame::Repair { number, exchange };
                    self.send(me, usize::from(to.0), frame);
                }
                RepairAction::Read { to, number, wanted } => {
                    let exchange = here.desk.images(store, to, &wanted);
                    let frame = Frame::Repair { number, exchange };
                    self.send(me, usize::from(to.0), frame);
                }
                RepairAction::Compare {
                    number,
                    peer,
                    range,
                    page,
                } => {
                    let wanted = here.desk.compare(store, now.utc, peer, &range, &page);
                    actions.extend(here.repair.compared(now, number, wanted.ok()));
                }
                RepairAction::Store { number, image } => self.copy(node, number, *image)?,
                RepairAction::Settled(shard) => {
                    here.desk.shard_settled(shard);
                    if !self.is_calm {
                        self.see("settled under load");
                    }
                }
                RepairAction::Unsettled => {
                    here.desk.view_changed(true);
                    self.see("unsettled");
                }
            }
        }
        Ok(())
    }

    fn copy(&mut self, node: usize, number: u64, image: Image) -> Check {
        self.see("copy");
        let here = &mut self.nodes[node];
        let store = here.store(self.reads_ahead);
        let held = here.desk.held(store, &image.header.id).unwrap();
        if held.fence > image.header.version.epoch {
            self.see("copy below the fence");
        }
        if image.header.is_ended() {
            self.see("copy of a tombstone");
        }
        if !image.header.conf.nodes().contains(&node_id(node)) {
            self.see("check answered");
        }
        let now = self.now;
        if self.bug == Bug::StoredTooSoon && self.draw(4) == 0 {
            let actions = self.nodes[node].repair.stored(now, number, true);
            return self.mend(node, actions);
        }
        let here = &mut self.nodes[node];
        let store = match self.reads_ahead {
            true => &here.visible,
            false => &here.durable,
        };
        let actions = if self.bug == Bug::CopyAsCommit {
            let actions = here.repair.stored(now, number, true);
            let request = HolderRequest::Commit(image);
            let asked = here.desk.request(store, here.inst, number, request);
            self.mend(node, actions)?;
            asked
        } else {
            here.desk.copy(store, number, image, UtcMillis(u64::MAX))
        };
        self.serve(node, actions)
    }

    // ---- desk and store --------------------------------------------------------------------

    fn ask_desk(
        &mut self,
        node: usize,
        from: NodeInst,
        number: u64,
        request: HolderRequest,
    ) -> Check {
        let here = &mut self.nodes[node];
        let store = match self.reads_ahead {
            true => &here.visible,
            false => &here.durable,
        };
        let actions = here.desk.request(store, from, number, request);
        self.serve(node, actions)
    }

    fn serve(&mut self, node: usize, actions: Vec<DeskAction>) -> Check {
        self.nodes[node].is_touched = true;
        for action in actions {
            match action {
                DeskAction::Store { number, batch } => {
                    let here = &mut self.nodes[node];
                    here.visible.apply(batch.clone());
                    here.tail.push_back((number, batch));
                }
                DeskAction::Changed { key, before, after } => {
                    if self.bug != Bug::MissedChange || self.draw(10) > 0 {
                        let repair = &mut self.nodes[node].repair;
                        repair.changed(key, before.as_deref(), after.as_deref());
                    }
                }
                DeskAction::Copied { number, is_durable } => {
                    let repair = &mut self.nodes[node].repair;
                    let actions = repair.stored(self.now, number, is_durable);
                    self.mend(node, actions)?;
                }
                // Who commits and claims here waits for nobody.
                DeskAction::Fence { .. } | DeskAction::Answer { .. } | DeskAction::Drop { .. } => {}
            }
        }
        Ok(())
    }

    fn sync(&mut self, node: usize) -> Check {
        // A store that shows what it has not written yet cannot refuse it any more here.
        let fails = !self.reads_ahead && !self.is_calm && self.draw(40) == 0;
        let here = &mut self.nodes[node];
        let Some((number, batch)) = here.tail.pop_front() else {
            return Ok(());
        };
        if !fails {
            let written: Vec<Vec<u8>> = batch.changes.iter().map(|(key, _)| key.clone()).collect();
            here.durable.apply(batch);
            for (object, header) in self.objects.iter().zip(&mut here.headers) {
                let place = [&b"h"[..], &object.key.to_bytes()].concat();
                if written.contains(&place) {
                    let held = hold(&here.durable, &self.ids, &object.id).unwrap();
                    *header = held.image.map(|image| image.header);
                }
            }
            self.strike_out(node);
        }
        let here = &mut self.nodes[node];
        let actions = here.desk.stored(number, !fails);
        if fails {
            self.see("write failed");
        }
        self.serve(node, actions)
    }

    /// What a node had for another does not count any more once it has ended, or has moved to
    /// holders without that other one.
    fn strike_out(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            let has = self.what_it_has(other, node);
            if let Some(had) = self.nodes[other].had.get_mut(&node) {
                let gone = has.iter().zip(had).filter(|(has, _)| has.is_none());
                gone.for_each(|(_, had)| *had = None);
            }
        }
    }

    fn start(&mut self, node: usize) -> Check {
        for other in 0..self.nodes.len() {
            if other != node && !self.is_cut(node, other) {
                self.connect(node, other)?;
            }
        }
        self.tell_view(node)
    }

    fn crash(&mut self, node: usize) -> Check {
        self.see("crash");
        for other in 0..self.nodes.len() {
            if other != node && !self.is_cut(node, other) {
                self.disconnect(other, node)?;
            }
        }
        let here = &mut self.nodes[node];
        if !here.tail.is_empty() {
            *self.seen.entry("crash with an unsynced tail").or_default() += 1;
        }
        here.inst.boot.0 += 1;
        here.tail.clear();
        let values = here.durable.values.lock().unwrap().clone();
        here.visible = TestStore {
            values: values.into(),
        };
        here.desk = Desk::new(here.inst.node, self.ids.clone());
        here.repair = Repair::new(here.inst.node);
        self.start(node)?;
        for other in 0..self.nodes.len() {
            if self.nodes[other].view.contains(&node) {
                self.tell_view(other)?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, node: usize, object: usize) -> Check {
        let id = &self.objects[object].id;
        let here = &mut self.nodes[node];
        let store = match self.reads_ahead {
            true => &here.visible,
            false => &here.durable,
        };
        let of_shard = shard(self.objects[object].key);
        let until = match self.bug == Bug::ForgetTooSoon {
            true => Some(self.now.utc),
            false => here.repair.known_until(self.now, of_shard),
        };
        let Some(until) = until else {
            return Ok(());
        };
        let actions = here.desk.forget(store, until, id);
        if !actions.is_empty() {
            self.see("forgotten");
        }
        self.serve(node, actions)
    }

    // ---- owners ----------------------------------------------------------------------------

    /// An owner commits something; some holders do not hear of it.
    fn commit(&mut self, object: usize) -> Check {
        self.see("commit");
        let (what, side) = (self.draw(16), self.draw(3));
        let owner = self.draw(self.nodes.len());
        let owner = self.nodes[owner].inst;
        let holders = self.some_holders(owner);
        let ids = self.ids.clone();
        let kept = Duration::from_secs(1 + self.draw(20) as u64);
        let expires = self.now.utc.after(kept);
        let Object {
            id, owned, fence, ..
        } = &mut self.objects[object];
        let part = match id.call().filter(|_| side > 0) {
            Some(key) => ActorId::Dialog(key.side(u8::try_from(side).unwrap())),
            None => id.clone(),
        };
        let mut seen = Vec::new();
        let current = match owned.take().filter(|owned| !owned.header().is_ended()) {
            Some(current) if what == 0 => {
                *fence = fence.next(owner.node);
                Owned::take_over(current.image(), *fence, false, owner, &ids).0
            }
            Some(current) => current,
            None => {
                seen.push("begun anew");
                let begun = Owned::begin(id, *fence, owner, &ids).held_by(holders.clone());
                *fence = begun.epoch();
                begun
            }
        };
        let current = owned.insert(current);
        match what {
            1 | 2 if current.header().version.sequence > 0 => {
                seen.push("tombstone");
                current.end(expires);
            }
            3 | 4 if current.header().version.sequence > 0 => {
                if current.settle_holders().is_some() {
                    seen.push("holder change");
                } else if current.propose_holders(holders).is_none() {
                    return Ok(());
                }
            }
            _ => {
                current.put(&part, vec![7; 1 + side], None).unwrap();
            }
        }
        let image = current.image();
        for what in seen {
            self.see(what);
        }
        let mut misses = false;
        for node in image.header.conf.nodes() {
            let is_apart = self.is_cut(usize::from(node.0), usize::from(owner.node.0));
            if is_apart || self.draw(3) == 0 {
                misses = true;
                continue;
            }
            let request = HolderRequest::Commit(image.clone());
            let frame = Frame::Ask { number: 0, request };
            self.send(owner, usize::from(node.0), frame);
        }
        if misses {
            self.see("commit that misses a holder");
        }
        Ok(())
    }

    fn some_holders(&mut self, owner: NodeInst) -> HolderSet {
        let mut nodes = vec![owner.node];
        for _ in 0..2 {
            nodes.push(node_id(self.draw(self.nodes.len())));
        }
        HolderSet::new(nodes).unwrap()
    }

    /// Somebody claims at one holder, and dies.
    fn claim_alone(&mut self, object: usize) -> Check {
        self.see("claim alone");
        let node = self.draw(self.nodes.len());
        let claimant = self.draw(self.nodes.len());
        let claimant = self.nodes[claimant].inst;
        let object = &mut self.objects[object];
        object.fence = object.fence.next(claimant.node);
        let request = HolderRequest::Claim {
            id: object.id.clone(),
            epoch: object.fence,
        };
        self.ask_desk(node, claimant, 0, request)
    }
}

impl Node {
    fn store(&self, reads_ahead: bool) -> &TestStore {
        match reads_ahead {
            true => &self.visible,
            false => &self.durable,
        }
    }
}

fn node_id(node: usize) -> NodeId {
    NodeId(u16::try_from(node).unwrap())
}
