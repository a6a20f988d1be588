//! Replicator, desk and directory of three to five nodes together, under a network that loses,
//! doubles and reorders, stores that lose what was not synced, failing writes, claims of several
//! nodes at once and changes of the holder set. I1 to I4 of `cluster.md` §14 hold at every step, and
//! no later claim loses what was acknowledged with enough copies; four planted bugs are found.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use contract::{
    ActorId, Batch, Boot, CallKey, FabricKeys, IdHasher, NodeId, NodeInst, Now, Time, UtcMillis,
};

use crate::test_store::TestStore;
use crate::{
    Activation, Candidate, CommitMode, Conf, Desk, DeskAction, Directory, DirectoryAction, Epoch,
    Frame, HolderReply, HolderRequest, HolderSet, Image, Owned, ReplicationAction, Replicator,
    Route, Step, Version, Whereabouts, commit_quorum, hold, shard,
};

const SEEDS: u64 = 4_000;
const STEPS: usize = 420;
const PENDING_MAX: usize = 5;
const MESSAGES_MAX: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// The own store counts before it has written.
    SafeBeforeOwnStore,
    /// The desk is told that a batch is durable when it is only handed over.
    AnswerBeforeDurable,
    /// The own actor is not told that it has lost.
    GrantWithoutFence,
    /// The directory takes any version.
    CacheKeepsLower,
}

#[test]
fn every_interleaving_keeps_the_invariants() {
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
    ("safe", 10_000),
    ("safe alone", 100),
    ("degraded", 500),
    ("unsafe", 100),
    ("healed", 100),
    ("fenced by a holder", 50),
    ("fenced at the own desk", 500),
    ("incomplete", 200),
    ("whole sent", 500),
    ("whole sent late", 100),
    ("take-over", 3_000),
    ("claim lost", 200),
    ("claim asked more", 100),
    ("holder change", 300),
    ("crash", 1_000),
    ("crash with an unsynced tail", 200),
    ("write failed", 200),
    ("own write failed", 50),
    ("several of one ID in flight", 1_000),
    ("search", 500),
    ("search found", 100),
    ("search found nobody", 50),
    ("search unknown", 50),
    ("search went to the next rank", 100),
    ("told", 500),
    ("redirected", 50),
    ("passed too often", 1),
    ("lower version ignored", 5),
    ("healed at the end", 1_000),
];

#[test]
fn safe_before_the_own_store_is_found() {
    assert_found(Bug::SafeBeforeOwnStore, "I4");
}

#[test]
fn an_answer_before_it_is_durable_is_found() {
    assert_found(Bug::AnswerBeforeDurable, "I1");
}

#[test]
fn a_grant_without_fencing_the_own_actor_is_found() {
    assert_found(Bug::GrantWithoutFence, "I3");
}

#[test]
fn a_cache_that_keeps_a_lower_version_is_found() {
    assert_found(Bug::CacheKeepsLower, "cache");
}

fn assert_found(bug: Bug, by: &str) {
    let broken: Vec<(u64, String)> = (0..300)
        .filter_map(|seed| Some((seed, World::new(seed, bug).run().err()?)))
        .collect();
    let as_expected = broken.iter().filter(|(_, why)| why.starts_with(by)).count();
    println!(
        "{bug:?}: {} of 300 seeds, {as_expected} by {by}",
        broken.len()
    );
    assert!(as_expected > 0, "{bug:?} is not found by {by}: {broken:?}");
}

struct Node {
    inst: NodeInst,
    durable: TestStore,
    visible: TestStore,
    tail: VecDeque<(u64, Batch)>,
    desk: Desk,
    replicator: Replicator,
    directory: Directory,
    owners: BTreeMap<usize, Owner>,
    claims: BTreeMap<usize, Claim>,
    /// Requests to the own desk.
    locals: BTreeMap<u64, Local>,
    /// Claims asked of others, by number.
    claimed: BTreeMap<u64, usize>,
    wholes: Vec<(NodeId, usize)>,
    last_number: u64,
    saw: [Epoch; 2],
    learned: [Version; 2],
}

struct Owner {
    owned: Owned,
    pending: VecDeque<Pending>,
    joint_since: Version,
    safe: Version,
    last_verdict: Version,
}

struct Pending {
    version: Version,
    conf: Conf,
    operation: Option<u64>,
    acknowledged_before: usize,
    chain: BTreeSet<u64>,
}

struct Claim {
    activation: Activation,
    before: Epoch,
    is_durable: bool,
}

#[derive(Clone, Copy)]
enum Local {
    Commit(usize, Version),
    Claim(usize),
}

#[derive(Clone)]
struct Message {
    from: NodeInst,
    to: NodeId,
    to_boot: Option<Boot>,
    frame: Frame,
}

type Check = Result<(), String>;

struct World {
    bug: Bug,
    random: u64,
    now: Now,
    mode: CommitMode,
    reads_ahead: bool,
    ids: IdHasher,
    objects: [ActorId; 2],
    candidates: Vec<Candidate>,
    nodes: Vec<Node>,
    cuts: BTreeSet<(usize, usize)>,
    wire: Vec<Message>,
    is_calm: bool,
    next_operation: u64,
    acknowledged: [Vec<(u64, Version)>; 2],
    adopted: [BTreeMap<Epoch, BTreeSet<u64>>; 2],
    seen: BTreeMap<&'static str, usize>,
}

impl World {
    fn new(seed: u64, bug: Bug) -> Self {
        let ids = FabricKeys::new([1; 32]).ids();
        let call = ActorId::Call(CallKey::from_bits(77));
        let mut world = World {
            bug,
            random: seed,
            now: Now::default(),
            mode: CommitMode::Available,
            reads_ahead: false,
            ids,
            objects: [ActorId::Registration("alice@example.org".into()), call],
            candidates: Vec::new(),
            nodes: Vec::new(),
            cuts: BTreeSet::new(),
            wire: Vec::new(),
            is_calm: false,
            next_operation: 1,
            acknowledged: Default::default(),
            adopted: Default::default(),
            seen: BTreeMap::new(),
        };
        let count = 3 + world.draw(3);
        if world.draw(4) == 0 {
            world.mode = CommitMode::Strict;
        }
        world.reads_ahead = world.draw(2) == 0;
        for number in 0..u16::try_from(count).unwrap() {
            let inst = NodeInst {
                node: NodeId(number),
                boot: Boot(1),
            };
            world.candidates.push(Candidate {
                node: inst.node,
                weight: 1,
                zone: String::new(),
            });
            world.nodes.push(Node {
                inst,
                durable: TestStore::default(),
                visible: TestStore::default(),
                tail: VecDeque::new(),
                desk: Desk::new(inst.node, world.ids.clone()),
                replicator: Replicator::new(inst.node, world.mode),
                directory: Directory::new(inst),
                owners: BTreeMap::new(),
                claims: BTreeMap::new(),
                locals: BTreeMap::new(),
                claimed: BTreeMap::new(),
                wholes: Vec::new(),
                last_number: 1,
                saw: [Epoch::ZERO; 2],
                learned: [Version::default(); 2],
            });
        }
        for node in 0..count {
            world.connect_all(node).unwrap();
            world.settle_shards(node);
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
        // Each seed has its own mix: how often nodes claim, crash and are cut off.
        let (claims, crashes, cuts) = (6 + self.draw(30), self.draw(10), self.draw(10));
        for _ in 0..STEPS {
            self.pass(self.random % 3_000)?;
            let node = self.draw(self.nodes.len());
            let object = self.draw(2);
            match self.draw(1_000) {
                0..440 => self.deliver()?,
                440..740 => self.sync(node)?,
                740..840 => self.write(object)?,
                840..870 => self.change_holders(node, object)?,
                870..900 => self.find(node, object)?,
                900..915 => self.hand_in_wholes(node)?,
                915..930 => self.ask_again(node, object),
                at if at < 930 + claims => self.claim(node, object)?,
                at if at >= 1_000 - crashes => self.crash(node)?,
                at if at >= 1_000 - crashes - cuts => self.cut(node)?,
                _ => self.deliver()?,
            }
        }
        self.calm()
    }

    fn pass(&mut self, micros: u64) -> Check {
        self.now.mono = self.now.mono + Duration::from_micros(micros);
        for node in 0..self.nodes.len() {
            let is_due = |at: Option<Time>| at.is_some_and(|at| at <= self.now.mono);
            if is_due(self.nodes[node].replicator.next_deadline()) {
                let actions = self.nodes[node].replicator.tick(self.now);
                self.replicate(node, actions)?;
            }
            let is_due = |at: Option<Time>| at.is_some_and(|at| at <= self.now.mono);
            if is_due(self.nodes[node].directory.next_deadline()) {
                self.see("search went to the next rank");
                let actions = self.nodes[node].directory.tick(self.now);
                self.direct(node, actions)?;
            }
        }
        Ok(())
    }

    /// Everything is mended: all verdicts come, and the last owner's holders catch up.
    fn calm(&mut self) -> Check {
        self.is_calm = true;
        for (one, other) in std::mem::take(&mut self.cuts) {
            self.connect(one, other)?;
        }
        for _ in 0..3_000 {
            self.pass(5_000)?;
            let is_idle = self.wire.is_empty() && self.nodes.iter().all(|node| node.is_idle());
            if is_idle {
                break;
            }
            self.deliver()?;
            for node in 0..self.nodes.len() {
                self.sync(node)?;
                self.hand_in_wholes(node)?;
            }
        }
        for object in 0..2 {
            let owners = self
                .nodes
                .iter()
                .filter_map(|node| node.owners.get(&object));
            if let Some(waiting) = owners.clone().find(|owner| !owner.pending.is_empty()) {
                let version = waiting.pending[0].version;
                return Err(format!("liveness: {version} has no verdict"));
            }
            let Some(last) = owners.max_by_key(|owner| owner.owned.epoch()) else {
                continue;
            };
            let is_highest = self.nodes.iter().all(|node| {
                let held = hold(&node.durable, &self.ids, &self.objects[object]).unwrap();
                held.fence <= last.owned.epoch()
            });
            let header = last.owned.header().clone();
            if !is_highest {
                continue;
            }
            for node in header.conf.nodes() {
                let node = &self.nodes[usize::from(node.0)];
                // Its own failed write is made good by the owner's next commit, not by resending.
                let is_owner = node.inst == header.owner;
                if is_owner && node.desk.counts().failed > 0 {
                    continue;
                }
                let held = hold(&node.durable, &self.ids, &self.objects[object]).unwrap();
                if held.image.is_none_or(|image| image.header != header) {
                    let why = format!("{} lacks {}", node.inst, header.version);
                    return Err(format!("liveness: {why}"));
                }
            }
            self.see("healed at the end");
        }
        Ok(())
    }

    // ---- network -------------------------------------------------------------------------

    fn send(&mut self, node: usize, to: NodeId, to_boot: Option<Boot>, frame: Frame) {
        if self.wire.len() >= MESSAGES_MAX && !self.is_calm {
            let lost = self.draw(self.wire.len());
            self.wire.swap_remove(lost);
        }
        let from = self.nodes[node].inst;
        self.wire.push(Message {
            from,
            to,
            to_boot,
            frame,
        });
    }

    fn deliver(&mut self) -> Check {
        if self.wire.is_empty() {
            return Ok(());
        }
        let at = self.draw(self.wire.len());
        let message = match self.draw(24) {
            0 if !self.is_calm && self.wire.len() < MESSAGES_MAX / 2 => self.wire[at].clone(),
            1 if !self.is_calm => {
                self.wire.swap_remove(at);
                return Ok(());
            }
            _ => self.wire.swap_remove(at),
        };
        let node = usize::from(message.to.0);
        let from = usize::from(message.from.node.0);
        let is_stale = message
            .to_boot
            .is_some_and(|boot| boot != self.nodes[node].inst.boot);
        // An older life of a peer is not listened to (I17).
        let is_dead = self.nodes[from].inst.boot != message.from.boot;
        if is_stale || is_dead || self.is_cut(node, from) {
            return Ok(());
        }
        self.receive(node, message.from, message.frame)
    }

    fn receive(&mut self, node: usize, from: NodeInst, frame: Frame) -> Check {
        let now = self.now;
        match frame {
            Frame::Ask { number, request } => self.ask_desk(node, from, number, request),
            Frame::Reply { number, reply } => {
                if let HolderReply::Fenced(epoch) = &reply {
                    self.note_claimed(node, number, *epoch);
                }
                if matches!(reply, HolderReply::Incomplete { .. }) {
                    self.see("incomplete");
                }
                if let Some(object) = self.nodes[node].claimed.remove(&number) {
                    return self.on_claim_reply(node, object, from.node, reply);
                }
                let replicator = &mut self.nodes[node].replicator;
                let actions = replicator.answer(now, from.node, number, &reply);
                if actions
                    .iter()
                    .any(|action| matches!(action, ReplicationAction::Fenced { .. }))
                {
                    self.see("fenced by a holder");
                }
                self.replicate(node, actions)
            }
            Frame::Where { number, id } => {
                let here = &self.nodes[node];
                let store = here.store(self.reads_ahead);
                let whereabouts = here.desk.where_is(store, &id);
                let frame = Frame::Found {
                    number,
                    whereabouts,
                };
                self.send(node, from.node, Some(from.boot), frame);
                Ok(())
            }
            Frame::Found {
                number,
                whereabouts,
            } => {
                if let Whereabouts::At { version, .. } = whereabouts {
                    self.plant_lower(node, version);
                }
                let directory = &mut self.nodes[node].directory;
                let actions = directory.found(now, from.node, number, whereabouts);
                self.direct(node, actions)
            }
            Frame::Redirect { id, version, owner } => self.learn(node, &id, owner, version),
            Frame::Tell {
                origin, to, hops, ..
            } => self.on_tell(node, origin, to, hops),
            Frame::Returned { .. }
            | Frame::Send { .. }
            | Frame::Repair { .. }
            | Frame::Take { .. }
            | Frame::Taken { .. }
            | Frame::Kept { .. }
            | Frame::Left { .. }
            | Frame::EventsHeld(_)
            | Frame::Events(_) => Ok(()),
        }
    }

    /// A fence that the node has heard of counts as seen only where its machines hear it too.
    fn note_claimed(&mut self, node: usize, number: u64, epoch: Epoch) {
        if let Some(object) = self.nodes[node].claimed.get(&number).copied() {
            let claim = self.nodes[node].claims.get(&object);
            if claim.is_some_and(|claim| claim.activation.epoch() < epoch) {
                self.see("claim lost");
            }
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
        self.cuts.insert(pair);
        self.disconnect(one, other)
    }

    fn disconnect(&mut self, one: usize, other: usize) -> Check {
        for (here, there) in [(one, other), (other, one)] {
            let peer = self.nodes[there].inst.node;
            let actions = self.nodes[here].replicator.peer_lost(self.now, peer);
            self.replicate(here, actions)?;
        }
        Ok(())
    }

    fn connect(&mut self, one: usize, other: usize) -> Check {
        for (here, there) in [(one, other), (other, one)] {
            let peer = self.nodes[there].inst.node;
            let actions = self.nodes[here].replicator.peer_back(peer);
            self.replicate(here, actions)?;
        }
        Ok(())
    }

    fn connect_all(&mut self, node: usize) -> Check {
        for other in 0..self.nodes.len() {
            if other != node && !self.is_cut(node, other) {
                self.connect(node, other)?;
            }
        }
        Ok(())
    }

    // ---- desk and store ------------------------------------------------------------------

    fn ask_desk(
        &mut self,
        node: usize,
        from: NodeInst,
        number: u64,
        request: HolderRequest,
    ) -> Check {
        let object = self.object_of(match &request {
            HolderRequest::Commit(image) => &image.header.id,
            HolderRequest::Claim { id, .. } => id,
        });
        let id = self.objects[object].clone();
        let here = &mut self.nodes[node];
        if !here.desk.is_quiet(&id) {
            *self.seen.entry("several of one ID in flight").or_default() += 1;
        }
        let store = if self.reads_ahead {
            &here.visible
        } else {
            &here.durable
        };
        let actions = here.desk.request(store, from, number, request);
        let fence = here.desk.held(store, &id).unwrap().fence;
        here.saw[object] = here.saw[object].max(fence);
        self.serve(node, actions)
    }

    fn serve(&mut self, node: usize, actions: Vec<DeskAction>) -> Check {
        for action in actions {
            match action {
                DeskAction::Fence { id, epoch } => {
                    if self.bug != Bug::GrantWithoutFence {
                        self.see("fenced at the own desk");
                        self.lose(node, &id, epoch)?;
                    }
                }
                DeskAction::Store { number, batch } => {
                    let here = &mut self.nodes[node];
                    here.visible.apply(batch.clone());
                    here.tail.push_back((number, batch));
                    if self.bug == Bug::AnswerBeforeDurable {
                        let actions = here.desk.stored(number, true);
                        self.serve(node, actions)?;
                    }
                }
                DeskAction::Answer { to, number, reply } => self.answer(node, to, number, reply)?,
                DeskAction::Drop { to, number } => {
                    if to == self.nodes[node].inst {
                        self.see("own write failed");
                        self.on_dropped(node, number)?;
                    }
                }
                // Comparing shards has a model of its own.
                DeskAction::Changed { .. } | DeskAction::Copied { .. } => {}
            }
        }
        Ok(())
    }

    /// What an answer promises must be durable when it leaves.
    fn answer(&mut self, node: usize, to: NodeInst, number: u64, reply: HolderReply) -> Check {
        if to != self.nodes[node].inst {
            self.check_promise(node, &reply)?;
            let frame = Frame::Reply { number, reply };
            self.send(node, to.node, Some(to.boot), frame);
            return Ok(());
        }
        let Some(local) = self.nodes[node].locals.remove(&number) else {
            return Ok(());
        };
        let now = self.now;
        match (local, reply) {
            (Local::Claim(object), reply) => {
                if let Some(claim) = self.nodes[node].claims.get_mut(&object)
                    && matches!(reply, HolderReply::Granted { epoch, .. }
                        if epoch == claim.activation.epoch())
                {
                    claim.is_durable = true;
                }
                let me = to.node;
                self.on_claim_reply(node, object, me, reply)?;
                self.ask_holders(node, object);
                Ok(())
            }
            (Local::Commit(object, _), HolderReply::Stored(version)) => {
                let id = self.objects[object].clone();
                let actions = self.nodes[node].replicator.stored(now, &id, version);
                self.replicate(node, actions)
            }
            (Local::Commit(object, _), HolderReply::Fenced(epoch)) => {
                let id = self.objects[object].clone();
                if self.bug == Bug::GrantWithoutFence {
                    return Ok(());
                }
                self.lose(node, &id, epoch)
            }
            (Local::Commit(object, version), HolderReply::Incomplete { .. }) => {
                let Some(owner) = self.nodes[node].owners.get(&object) else {
                    return Ok(());
                };
                let image = owner.owned.image();
                self.store_own(node, object, version, image)
            }
            (Local::Commit(..), HolderReply::Granted { .. }) => Ok(()),
        }
    }

    fn check_promise(&mut self, node: usize, reply: &HolderReply) -> Check {
        let durable = &self.nodes[node].durable;
        let fences = self.objects.iter();
        let fences: Vec<Epoch> = fences
            .map(|id| hold(durable, &self.ids, id).unwrap().fence)
            .collect();
        let promised = match reply {
            HolderReply::Granted { epoch, .. } => *epoch,
            HolderReply::Stored(version) => version.epoch,
            HolderReply::Incomplete { .. } | HolderReply::Fenced(_) => return Ok(()),
        };
        if fences.iter().all(|fence| *fence < promised) {
            return Err(format!("I1: {promised} promised, durable are {fences:?}"));
        }
        Ok(())
    }

    fn on_dropped(&mut self, node: usize, number: u64) -> Check {
        match self.nodes[node].locals.remove(&number) {
            Some(Local::Claim(object)) => {
                self.nodes[node].claims.remove(&object);
                Ok(())
            }
            Some(Local::Commit(object, version)) => {
                let id = self.objects[object].clone();
                let now = self.now;
                let actions = self.nodes[node].replicator.not_stored(now, &id, version);
                self.replicate(node, actions)
            }
            None => Ok(()),
        }
    }

    fn sync(&mut self, node: usize) -> Check {
        let count = 1 + self.draw(3);
        for _ in 0..count {
            // A store that shows what it has not written yet cannot refuse it any more here.
            let fails = !self.reads_ahead && !self.is_calm && self.draw(40) == 0;
            let here = &mut self.nodes[node];
            let Some((number, batch)) = here.tail.pop_front() else {
                return Ok(());
            };
            let before: Vec<_> = self
                .objects
                .iter()
                .map(|id| {
                    let fence = hold(&here.durable, &self.ids, id).unwrap().fence;
                    (fence, here.desk.held(&here.durable, id).unwrap())
                })
                .collect();
            if fails {
                *self.seen.entry("write failed").or_default() += 1;
            } else {
                here.durable.apply(batch);
            }
            let was_quiet: Vec<bool> = self
                .objects
                .iter()
                .map(|id| here.desk.is_quiet(id))
                .collect();
            let actions = here.desk.stored(number, !fails);
            for (object, id) in self.objects.iter().enumerate() {
                let (fence, overlay) = &before[object];
                let held = hold(&here.durable, &self.ids, id).unwrap();
                if held.fence < *fence {
                    return Err(format!("I1: {id} fell from {fence} to {}", held.fence));
                }
                let is_done = !was_quiet[object] && here.desk.is_quiet(id);
                if is_done && here.desk.counts().failed == 0 && held != *overlay {
                    return Err(format!(
                        "desk: {id} was thought to be {overlay:?}, is {held:?}"
                    ));
                }
            }
            self.serve(node, actions)?;
        }
        Ok(())
    }

    fn crash(&mut self, node: usize) -> Check {
        self.see("crash");
        let mode = self.mode;
        let here = &mut self.nodes[node];
        let tail = here.tail.len();
        let old = here.inst;
        here.inst.boot.0 += 1;
        here.tail.clear();
        let values = here.durable.values.lock().unwrap().clone();
        here.visible = TestStore {
            values: values.into(),
        };
        here.desk = Desk::new(old.node, self.ids.clone());
        here.replicator = Replicator::new(old.node, mode);
        here.directory = Directory::new(here.inst);
        here.owners.clear();
        here.claims.clear();
        here.locals.clear();
        here.claimed.clear();
        here.wholes.clear();
        for object in 0..2 {
            let held = hold(&here.durable, &self.ids, &self.objects[object]).unwrap();
            here.saw[object] = held.fence;
            here.learned[object] = Version::default();
        }
        if tail > 0 {
            self.see("crash with an unsynced tail");
        }
        for other in 0..self.nodes.len() {
            if other != node && !self.is_cut(node, other) {
                self.disconnect(node, other)?;
                let actions = self.nodes[other].directory.node_down(self.now, old);
                self.reset_learned(other);
                self.nodes[other].desk.view_changed(true);
                self.direct(other, actions)?;
                if self.draw(3) == 0 {
                    self.settle_shards(other);
                }
            }
        }
        self.connect_all(node)
    }

    fn settle_shards(&mut self, node: usize) {
        for object in 0..2 {
            let key = self.ids.record_key(&self.objects[object]);
            self.nodes[node].desk.shard_settled(shard(key));
        }
    }

    // ---- owner ---------------------------------------------------------------------------

    fn replicate(&mut self, node: usize, actions: Vec<ReplicationAction>) -> Check {
        for action in actions {
            match action {
                ReplicationAction::Send {
                    to,
                    number,
                    request,
                } => self.send(node, to, None, Frame::Ask { number, request }),
                ReplicationAction::Whole { id, to } => {
                    let object = self.object_of(&id);
                    if self.draw(3) == 0 {
                        self.nodes[node].wholes.push((to, object));
                        self.see("whole sent late");
                    } else {
                        self.hand_in(node, to, object)?;
                    }
                }
                ReplicationAction::Safe {
                    id,
                    version,
                    degraded,
                } => self.on_safe(node, &id, version, degraded)?,
                ReplicationAction::Unsafe { id, version } => {
                    self.see("unsafe");
                    let object = self.object_of(&id);
                    self.verdict(node, object, version)?;
                }
                ReplicationAction::Healed { id, version } => {
                    self.see("healed");
                    let object = self.object_of(&id);
                    if let Some(owner) = self.nodes[node].owners.get_mut(&object) {
                        owner.safe = owner.safe.max(version);
                    }
                }
                ReplicationAction::Fenced { id, epoch } => self.lose(node, &id, epoch)?,
            }
        }
        Ok(())
    }

    /// The verdicts come in the order of the versions, and only to an owner that has not lost.
    fn verdict(&mut self, node: usize, object: usize, version: Version) -> Result<Pending, String> {
        let here = &mut self.nodes[node];
        let saw = here.saw[object];
        if saw > version.epoch {
            return Err(format!("I3: a verdict on {version} after {saw} was seen"));
        }
        let Some(owner) = here.owners.get_mut(&object) else {
            return Err(format!("I3: a verdict on {version} without an owner"));
        };
        let first = owner.pending.pop_front();
        let first = first.filter(|first| first.version == version);
        if version <= owner.last_verdict {
            return Err(format!("I2: {version} after {}", owner.last_verdict));
        }
        owner.last_verdict = version;
        first.ok_or_else(|| format!("I2: {version} is not the next"))
    }

    fn on_safe(&mut self, node: usize, id: &ActorId, version: Version, degraded: bool) -> Check {
        let object = self.object_of(id);
        let pending = self.verdict(node, object, version)?;
        if degraded {
            self.see("degraded");
            if self.mode == CommitMode::Strict {
                return Err("a strict commit is never degraded".to_owned());
            }
            let copies = pending.conf.nodes().into_iter();
            if !copies
                .into_iter()
                .any(|holder| self.has_copy(holder, object, version))
            {
                return Err(format!("I4: {version} is nowhere"));
            }
            return Ok(());
        }
        self.see("safe");
        if pending.conf.nodes().len() == 1 {
            self.see("safe alone");
        }
        for set in pending.conf.sets() {
            let nodes = set.nodes().iter();
            let copies = nodes.filter(|holder| self.has_copy(**holder, object, version));
            let (copies, wanted) = (copies.count(), commit_quorum(set));
            if copies < wanted {
                return Err(format!("I4: {version} has {copies} of {wanted}"));
            }
        }
        if let Some(owner) = self.nodes[node].owners.get_mut(&object) {
            owner.safe = owner.safe.max(version);
        }
        self.acknowledge(object, pending)
    }

    fn has_copy(&self, node: NodeId, object: usize, version: Version) -> bool {
        let durable = &self.nodes[usize::from(node.0)].durable;
        let held = hold(durable, &self.ids, &self.objects[object]).unwrap();
        let is_whole = held.missing().is_empty();
        held.image
            .is_some_and(|image| image.header.version >= version)
            && is_whole
    }

    /// What was acknowledged must be in every later owner's record, and what was acknowledged
    /// before this one was begun must stand before it.
    fn acknowledge(&mut self, object: usize, pending: Pending) -> Check {
        let version = pending.version;
        for (earlier, at) in &self.acknowledged[object][..pending.acknowledged_before] {
            if !pending.chain.contains(earlier) || *at >= version {
                return Err(format!("I2: {version} forgot {earlier} of {at}"));
            }
        }
        let Some(operation) = pending.operation else {
            return Ok(());
        };
        let later = self.adopted[object].iter();
        for (epoch, chain) in later.filter(|(epoch, _)| **epoch > version.epoch) {
            if !chain.contains(&operation) {
                return Err(format!(
                    "lost: {epoch} took over without {operation} of {version}"
                ));
            }
        }
        self.acknowledged[object].push((operation, version));
        Ok(())
    }

    fn lose(&mut self, node: usize, id: &ActorId, epoch: Epoch) -> Check {
        let object = self.object_of(id);
        let here = &mut self.nodes[node];
        here.saw[object] = here.saw[object].max(epoch);
        let owner = here.owners.get(&object);
        if owner.is_some_and(|owner| owner.owned.epoch() < epoch) {
            here.owners.remove(&object);
        }
        let actions = here.replicator.saw(id, epoch);
        self.replicate(node, actions)
    }

    fn hand_in(&mut self, node: usize, to: NodeId, object: usize) -> Check {
        self.see("whole sent");
        let (id, now) = (self.objects[object].clone(), self.now);
        let here = &mut self.nodes[node];
        let image = here.owners.get(&object).map(|owner| owner.owned.image());
        let actions = here.replicator.whole(now, to, &id, image);
        self.replicate(node, actions)
    }

    fn hand_in_wholes(&mut self, node: usize) -> Check {
        for (to, object) in std::mem::take(&mut self.nodes[node].wholes) {
            self.hand_in(node, to, object)?;
        }
        Ok(())
    }

    fn write(&mut self, object: usize) -> Check {
        // Stale owners write as eagerly as the right one.
        let mut owners: Vec<usize> = (0..self.nodes.len()).collect();
        owners.retain(|node| self.nodes[*node].owners.contains_key(&object));
        if owners.is_empty() {
            return Ok(());
        }
        let node = owners[self.draw(owners.len())];
        let (operation, side) = (self.next_operation, self.draw(3));
        let id = &self.objects[object];
        let part = match id.call().filter(|_| side > 0) {
            Some(key) => ActorId::Dialog(key.side(u8::try_from(side).unwrap())),
            None => id.clone(),
        };
        let Some(owner) = self.nodes[node].owners.get_mut(&object) else {
            return Ok(());
        };
        if owner.pending.len() >= PENDING_MAX {
            return Ok(());
        }
        self.next_operation += 1;
        let mut bytes = owner
            .owned
            .last(&part)
            .map_or(Vec::new(), |part| part.to_vec());
        bytes.extend_from_slice(&operation.to_le_bytes());
        owner
            .owned
            .put(&part, bytes, Some(UtcMillis(operation)))
            .unwrap();
        let whole = self.draw(4) == 0;
        self.commit(node, object, Some(operation), whole)
    }

    fn commit(&mut self, node: usize, object: usize, operation: Option<u64>, whole: bool) -> Check {
        let acknowledged_before = self.acknowledged[object].len();
        let now = self.now;
        let here = &mut self.nodes[node];
        let me = here.inst.node;
        let Some(owner) = here.owners.get_mut(&object) else {
            return Ok(());
        };
        let header = owner.owned.header().clone();
        let image = owner.owned.image();
        let sent = match whole {
            true => image.clone(),
            false => owner.owned.delta(),
        };
        owner.pending.push_back(Pending {
            version: header.version,
            conf: header.conf.clone(),
            operation,
            acknowledged_before,
            chain: chain(&image),
        });
        let actions = here.replicator.commit(now, sent.clone());
        self.replicate(node, actions)?;
        if self.bug == Bug::SafeBeforeOwnStore {
            let id = self.objects[object].clone();
            let actions = self.nodes[node].replicator.stored(now, &id, header.version);
            self.replicate(node, actions)?;
        }
        if header.conf.nodes().contains(&me) {
            self.store_own(node, object, header.version, sent)?;
        }
        Ok(())
    }

    fn store_own(&mut self, node: usize, object: usize, version: Version, image: Image) -> Check {
        let number = self.number(node);
        let here = &mut self.nodes[node];
        here.locals.insert(number, Local::Commit(object, version));
        let inst = here.inst;
        self.ask_desk(node, inst, number, HolderRequest::Commit(image))
    }

    fn number(&mut self, node: usize) -> u64 {
        let here = &mut self.nodes[node];
        here.last_number += 2;
        here.last_number
    }

    fn change_holders(&mut self, node: usize, object: usize) -> Check {
        let count = self.nodes.len();
        let size = 1 + self.draw(3);
        let set = (0..size).map(|_| NodeId(u16::try_from(self.draw(count)).unwrap()));
        let mut set: Vec<NodeId> = set.collect();
        set[0] = self.nodes[node].inst.node;
        let new = HolderSet::new(set).unwrap();
        let Some(owner) = self.nodes[node].owners.get_mut(&object) else {
            return Ok(());
        };
        if let Conf::Joint { .. } = owner.owned.header().conf {
            if owner.safe < owner.joint_since {
                return Ok(());
            }
            owner.owned.settle_holders().unwrap();
            self.see("holder change");
        } else {
            if owner.owned.propose_holders(new).is_none() {
                return Ok(());
            }
            owner.joint_since = owner.owned.header().version;
        }
        let whole = self.draw(2) == 0;
        self.commit(node, object, None, whole)
    }

    // ---- claims --------------------------------------------------------------------------

    fn claim(&mut self, node: usize, object: usize) -> Check {
        let number = self.number(node);
        let id = self.objects[object].clone();
        let here = &mut self.nodes[node];
        if here.owners.contains_key(&object) {
            return Ok(());
        }
        let held = here.desk.held(here.store(self.reads_ahead), &id).unwrap();
        let placed = HolderSet::new(vec![NodeId(0), NodeId(1), NodeId(2)]).unwrap();
        let me = here.inst;
        let (activation, _) = Activation::begin(&id, &held, placed, me.node, &self.ids);
        let request = activation.request();
        let claim = Claim {
            activation,
            before: held.fence,
            is_durable: false,
        };
        here.claims.insert(object, claim);
        here.locals.insert(number, Local::Claim(object));
        self.ask_desk(node, me, number, request)
    }

    /// Asks the other holders, once the claim is durable here.
    fn ask_holders(&mut self, node: usize, object: usize) {
        let here = &self.nodes[node];
        let Some(claim) = here.claims.get(&object).filter(|claim| claim.is_durable) else {
            return;
        };
        let (silent, request) = (claim.activation.unanswered(), claim.activation.request());
        let me = here.inst.node;
        for to in silent.into_iter().filter(|to| *to != me) {
            let number = self.number(node);
            self.nodes[node].claimed.insert(number, object);
            let request = request.clone();
            self.send(node, to, None, Frame::Ask { number, request });
        }
    }

    fn ask_again(&mut self, node: usize, object: usize) {
        if self.draw(4) == 0 {
            self.nodes[node].claims.remove(&object);
        }
        self.ask_holders(node, object);
    }

    fn on_claim_reply(
        &mut self,
        node: usize,
        object: usize,
        from: NodeId,
        reply: HolderReply,
    ) -> Check {
        let here = &mut self.nodes[node];
        let Some(claim) = here
            .claims
            .get_mut(&object)
            .filter(|claim| claim.is_durable)
        else {
            return Ok(());
        };
        let step = claim.activation.answer(from, reply);
        let (epoch, before) = (claim.activation.epoch(), claim.before);
        match step {
            Step::Wait => Ok(()),
            Step::Ask(_) => {
                self.see("claim asked more");
                self.ask_holders(node, object);
                Ok(())
            }
            Step::Lost(_) => {
                here.claims.remove(&object);
                Ok(())
            }
            Step::Won { newest, .. } => {
                here.claims.remove(&object);
                let store = here.store(self.reads_ahead);
                let held = here.desk.held(store, &self.objects[object]).unwrap();
                if held.fence != epoch {
                    return Ok(());
                }
                self.take_over(node, object, epoch, before, newest.map(|image| *image))
            }
        }
    }

    fn take_over(
        &mut self,
        node: usize,
        object: usize,
        epoch: Epoch,
        before: Epoch,
        newest: Option<Image>,
    ) -> Check {
        let chain = newest.as_ref().map_or_else(BTreeSet::new, chain);
        for (operation, version) in &self.acknowledged[object] {
            if version.epoch < epoch && !chain.contains(operation) {
                return Err(format!(
                    "lost: {epoch} took over without {operation} of {version}"
                ));
            }
        }
        self.adopted[object].insert(epoch, chain);
        self.see("take-over");
        let id = self.objects[object].clone();
        let inst = self.nodes[node].inst;
        let owned = match newest {
            Some(image) => Owned::take_over(image, epoch, false, inst, &self.ids).0,
            None => {
                let placed = HolderSet::new(vec![NodeId(0), NodeId(1), NodeId(2)]).unwrap();
                let mut owned = Owned::begin(&id, before, inst, &self.ids).held_by(placed);
                owned.put(&id, Vec::new(), None).unwrap();
                owned
            }
        };
        assert_eq!(owned.epoch(), epoch);
        let owner = Owner {
            joint_since: owned.header().version,
            safe: Version::default(),
            last_verdict: Version::default(),
            owned,
            pending: VecDeque::new(),
        };
        self.nodes[node].owners.insert(object, owner);
        self.commit(node, object, None, true)
    }

    // ---- directory -----------------------------------------------------------------------

    fn find(&mut self, node: usize, object: usize) -> Check {
        let origin = self.nodes[node].inst;
        let id = self.objects[object].clone();
        self.pass_to(node, origin, &id, 0)
    }

    /// Sends a message for an actor on from `node`, or looks for it.
    fn pass_to(&mut self, node: usize, origin: NodeInst, id: &ActorId, hops: u8) -> Check {
        let now = self.now;
        let key = self.ids.record_key(id);
        let here = &mut self.nodes[node];
        let held = here.desk.held(here.store(self.reads_ahead), id).unwrap();
        let own = held.image.as_ref().map(|image| &image.header);
        let is_settled = here.desk.is_settled(shard(key));
        match here
            .directory
            .route(id, key, &self.candidates, own, is_settled)
        {
            Route::Here => Ok(()),
            Route::Home(_) => Err("a record has no home".to_owned()),
            Route::At(owner) if owner.node == here.inst.node => Ok(()),
            Route::At(owner) => {
                if let Some((owner, version)) = here.directory.known(id)
                    && origin != here.inst
                {
                    let redirect = Frame::Redirect {
                        id: id.clone(),
                        version,
                        owner,
                    };
                    self.send(node, origin.node, Some(origin.boot), redirect);
                }
                let tell = Frame::Tell {
                    from: id.clone(),
                    origin,
                    to: id.clone(),
                    hops,
                    message: bytes::Bytes::new(),
                };
                self.send(node, owner.node, Some(owner.boot), tell);
                Ok(())
            }
            Route::Ask { nodes, quorum } => {
                *self.seen.entry("search").or_default() += 1;
                let actions = here.directory.search(now, id, nodes, quorum);
                self.direct(node, actions)
            }
        }
    }

    fn on_tell(&mut self, node: usize, origin: NodeInst, to: ActorId, hops: u8) -> Check {
        let object = self.object_of(&to);
        if hops > crate::frame::HOPS_MAX {
            return Err(format!("hops: {hops}"));
        }
        if self.nodes[node].owners.contains_key(&object) {
            self.see("told");
            return Ok(());
        }
        match Directory::pass_on(hops) {
            Some(hops) => self.pass_to(node, origin, &to, hops),
            None => {
                self.see("passed too often");
                Ok(())
            }
        }
    }

    fn learn(&mut self, node: usize, id: &ActorId, owner: NodeInst, version: Version) -> Check {
        self.see("redirected");
        let object = self.object_of(id);
        if version < self.nodes[node].learned[object] {
            self.see("lower version ignored");
        }
        self.plant_lower(node, version);
        let actions = self.nodes[node].directory.learn(id, owner, version);
        let here = &mut self.nodes[node];
        here.learned[object] = here.learned[object].max(version);
        self.check_cache(node)?;
        self.direct(node, actions)
    }

    fn plant_lower(&mut self, node: usize, version: Version) {
        if self.bug == Bug::CacheKeepsLower {
            for id in &self.objects {
                let known = self.nodes[node].directory.known(id);
                if let Some((owner, _)) = known.filter(|(_, known)| *known > version) {
                    self.nodes[node].directory.forget(id, owner);
                }
            }
        }
    }

    fn check_cache(&self, node: usize) -> Check {
        let here = &self.nodes[node];
        for (id, learned) in self.objects.iter().zip(here.learned) {
            let known = here.directory.known(id).map(|(_, version)| version);
            if known.unwrap_or_default() < learned {
                return Err(format!("cache: {known:?} of {id} after {learned}"));
            }
        }
        Ok(())
    }

    fn reset_learned(&mut self, node: usize) {
        let here = &mut self.nodes[node];
        for (object, id) in self.objects.iter().enumerate() {
            let known = here.directory.known(id).map(|(_, version)| version);
            here.learned[object] = known.unwrap_or_default();
        }
    }

    fn direct(&mut self, node: usize, actions: Vec<DirectoryAction>) -> Check {
        for action in actions {
            match action {
                DirectoryAction::Ask { to, number, id } => {
                    self.send(node, to, None, Frame::Where { number, id });
                }
                DirectoryAction::Found { id, version, .. } => {
                    self.see("search found");
                    let object = self.object_of(&id);
                    let here = &mut self.nodes[node];
                    here.learned[object] = here.learned[object].max(version);
                    self.find(node, object)?;
                }
                DirectoryAction::Nobody { .. } => self.see("search found nobody"),
                DirectoryAction::Unknown { .. } => self.see("search unknown"),
            }
        }
        self.check_cache(node)
    }

    fn object_of(&self, id: &ActorId) -> usize {
        let found = self.objects.iter().position(|object| object == id);
        found.expect("one of the two")
    }
}

impl Node {
    fn store(&self, reads_ahead: bool) -> &TestStore {
        match reads_ahead {
            true => &self.visible,
            false => &self.durable,
        }
    }

    fn is_idle(&self) -> bool {
        let has_deadline = self
            .replicator
            .next_deadline()
            .or(self.directory.next_deadline());
        self.tail.is_empty() && self.wholes.is_empty() && has_deadline.is_none()
    }
}

/// Reads the operations that the parts list.
fn chain(image: &Image) -> BTreeSet<u64> {
    let octets = image.parts.values().flat_map(|part| part.chunks_exact(8));
    octets
        .map(|eight| u64::from_le_bytes(eight.try_into().unwrap()))
        .collect()
}
