//! The rules of `cluster.md` §4 under every interleaving that seeds find: commits, claims, changes
//! of the holder set, crashes, lost, doubled and late messages. No acknowledged commit may be lost
//! or reordered; without the claim quorum or without the joint holder change some must be.

use std::collections::BTreeMap;

use contract::{ActorId, Boot, FabricKeys, IdHasher, NodeId, NodeInst};

use crate::test_store::TestStore;
use crate::{
    Acks, Activation, Conf, Epoch, HolderReply, HolderRequest, HolderSet, Image, Owned, Standing,
    Step, Version, decide, hold,
};

const NODES: u16 = 5;
const STEPS: usize = 400;
const PENDING_MAX: usize = 4;
const MESSAGES_MAX: usize = 40;

#[derive(Clone, Copy)]
struct Rules {
    claim_quorum: bool,
    joint_change: bool,
}

#[test]
fn no_acknowledged_commit_is_lost_or_reordered() {
    let rules = Rules {
        claim_quorum: true,
        joint_change: true,
    };
    let mut seen = Seen::default();
    for seed in 0..3_000 {
        let mut world = World::new(seed, rules);
        if let Err(why) = world.run() {
            panic!("seed {seed}: {why}");
        }
        seen.add(&world.seen);
    }
    println!("3000 seeds: {seen:?}");
    assert!(seen.acknowledged > 20_000, "{seen:?}");
    assert!(seen.take_overs > 5_000, "{seen:?}");
    assert!(seen.holder_changes > 1_500, "{seen:?}");
    assert!(seen.fenced > 2_000, "{seen:?}");
    assert!(seen.incomplete > 500, "{seen:?}");
    assert!(seen.asked_more > 200, "{seen:?}");
    assert!(seen.crashes > 2_000, "{seen:?}");
}

#[test]
fn without_the_claim_quorum_commits_are_lost() {
    let broken = count_broken(Rules {
        claim_quorum: false,
        joint_change: true,
    });
    assert!(broken > 100, "only {broken} of 1000 seeds");
}

#[test]
fn without_the_joint_holder_change_commits_are_lost() {
    let broken = count_broken(Rules {
        claim_quorum: true,
        joint_change: false,
    });
    assert!(broken > 20, "only {broken} of 1000 seeds");
}

fn count_broken(rules: Rules) -> usize {
    let broken = (0..1_000).filter(|seed| World::new(*seed, rules).run().is_err());
    let count = broken.count();
    println!("{count} of 1000 seeds broken");
    count
}

#[derive(Debug, Default)]
struct Seen {
    acknowledged: usize,
    take_overs: usize,
    holder_changes: usize,
    fenced: usize,
    incomplete: usize,
    asked_more: usize,
    crashes: usize,
}

impl Seen {
    fn add(&mut self, other: &Seen) {
        self.acknowledged += other.acknowledged;
        self.take_overs += other.take_overs;
        self.holder_changes += other.holder_changes;
        self.fenced += other.fenced;
        self.incomplete += other.incomplete;
        self.asked_more += other.asked_more;
        self.crashes += other.crashes;
    }
}

struct Node {
    inst: NodeInst,
    store: TestStore,
    owner: Option<Owner>,
    claim: Option<(Activation, Epoch)>,
}

struct Owner {
    owned: Owned,
    pending: Vec<Pending>,
    joint_since: Version,
    acked: Version,
}

struct Pending {
    acks: Acks,
    operation: Option<u64>,
    acknowledged_before: usize,
    chain: Vec<u64>,
}

#[derive(Clone)]
enum Frame {
    Request(HolderRequest),
    Reply(HolderReply),
}

#[derive(Clone)]
struct Message {
    from: NodeInst,
    to: NodeId,
    to_boot: Option<Boot>,
    frame: Frame,
}

struct World {
    rules: Rules,
    random: u64,
    id: ActorId,
    ids: IdHasher,
    placed: HolderSet,
    nodes: Vec<Node>,
    wire: Vec<Message>,
    next_operation: u64,
    acknowledged: Vec<(u64, Version)>,
    adopted: BTreeMap<Epoch, Vec<u64>>,
    seen: Seen,
}

impl World {
    fn new(seed: u64, rules: Rules) -> Self {
        let node = |number| Node {
            inst: NodeInst {
                node: NodeId(number),
                boot: Boot(1),
            },
            store: TestStore::default(),
            owner: None,
            claim: None,
        };
        World {
            rules,
            random: seed,
            id: ActorId::Registration("alice@example.org".into()),
            ids: FabricKeys::new([1; 32]).ids(),
            placed: HolderSet::new(vec![NodeId(0), NodeId(1), NodeId(2)]).unwrap(),
            nodes: (0..NODES).map(node).collect(),
            wire: Vec::new(),
            next_operation: 1,
            acknowledged: Vec::new(),
            adopted: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    /// SplitMix64.
    fn draw(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % below as u64).unwrap()
    }

    fn run(&mut self) -> Result<(), String> {
        // Each seed has its own mix: how often nodes claim and crash.
        let (claims, crashes) = (4 + self.draw(40), self.draw(8));
        for _ in 0..STEPS {
            let node = self.draw(self.nodes.len());
            match self.draw(1_000) {
                0..780 => self.deliver()?,
                780..860 => self.write(),
                860..890 => self.resend(node),
                890..940 => self.change_holders(node),
                at if at < 940 + claims => self.claim(node),
                at if at >= 1_000 - crashes => self.crash(node),
                _ => self.deliver()?,
            }
        }
        // Calm: what is under way arrives, so that late acknowledgements are judged too.
        while !self.wire.is_empty() {
            self.deliver()?;
        }
        Ok(())
    }

    fn send(&mut self, from: NodeInst, to: NodeId, to_boot: Option<Boot>, frame: Frame) {
        if self.wire.len() >= MESSAGES_MAX {
            let lost = self.draw(self.wire.len());
            self.wire.swap_remove(lost);
        }
        self.wire.push(Message {
            from,
            to,
            to_boot,
            frame,
        });
    }

    fn deliver(&mut self) -> Result<(), String> {
        if self.wire.is_empty() {
            return Ok(());
        }
        let at = self.draw(self.wire.len());
        let message = match self.draw(20) {
            0 if self.wire.len() < MESSAGES_MAX / 2 => self.wire[at].clone(),
            1 => {
                self.wire.swap_remove(at);
                return Ok(());
            }
            _ => self.wire.swap_remove(at),
        };
        let node = usize::from(message.to.0);
        let inst = self.nodes[node].inst;
        if message.to_boot.is_some_and(|boot| boot != inst.boot) {
            return Ok(());
        }
        match message.frame {
            Frame::Request(request) => self.on_request(node, message.from, request),
            Frame::Reply(reply) => self.on_reply(node, message.from.node, reply)?,
        }
        Ok(())
    }

    fn on_request(&mut self, node: usize, from: NodeInst, request: HolderRequest) {
        let store = &self.nodes[node].store;
        let held = hold(store, &self.ids, &self.id).unwrap();
        let (reply, batch) = decide(&held, request, &self.ids);
        if let Some(batch) = batch {
            store.apply(batch);
        }
        let fence = hold(store, &self.ids, &self.id).unwrap().fence;
        assert!(fence >= held.fence, "I1: a fence never falls");
        if matches!(reply, HolderReply::Incomplete { .. }) {
            self.seen.incomplete += 1;
        }
        self.lose_below(node, fence);
        let inst = self.nodes[node].inst;
        self.send(inst, from.node, Some(from.boot), Frame::Reply(reply));
    }

    fn lose_below(&mut self, node: usize, epoch: Epoch) {
        let owner = &mut self.nodes[node].owner;
        if owner
            .as_ref()
            .is_some_and(|owner| owner.owned.epoch() < epoch)
        {
            *owner = None;
            self.seen.fenced += 1;
        }
    }

    fn on_reply(&mut self, node: usize, from: NodeId, reply: HolderReply) -> Result<(), String> {
        self.on_claim_reply(node, from, reply.clone())?;
        let Some(owner) = &mut self.nodes[node].owner else {
            return Ok(());
        };
        if matches!(reply, HolderReply::Incomplete { .. }) {
            let image = owner.owned.image();
            let inst = self.nodes[node].inst;
            let request = HolderRequest::Commit(image);
            self.send(inst, from, None, Frame::Request(request));
            return Ok(());
        }
        let mut safe = 0;
        let mut fence = None;
        for (at, pending) in owner.pending.iter_mut().enumerate() {
            match pending.acks.answer(from, &reply) {
                Standing::Safe => safe = at + 1,
                Standing::Fenced(epoch) => fence = Some(epoch),
                Standing::Waiting => {}
            }
        }
        if let Some(epoch) = fence {
            self.lose_below(node, epoch);
            return Ok(());
        }
        let done: Vec<Pending> = owner.pending.drain(..safe).collect();
        if let Some(last) = done.last() {
            owner.acked = last.acks.version();
        }
        done.into_iter()
            .try_for_each(|pending| self.acknowledge(pending))
    }

    /// What was acknowledged must be in every later owner's record, and what was acknowledged
    /// before this one was begun must stand before it.
    fn acknowledge(&mut self, pending: Pending) -> Result<(), String> {
        let version = pending.acks.version();
        for (earlier, at) in &self.acknowledged[..pending.acknowledged_before] {
            if !pending.chain.contains(earlier) {
                return Err(format!("{version} forgot {earlier} of {at}"));
            }
        }
        let Some(operation) = pending.operation else {
            return Ok(());
        };
        let later = self
            .adopted
            .iter()
            .filter(|(epoch, _)| **epoch > version.epoch);
        for (epoch, chain) in later {
            if !chain.contains(&operation) {
                return Err(format!(
                    "{epoch} took over without {operation} of {version}"
                ));
            }
        }
        self.acknowledged.push((operation, version));
        self.seen.acknowledged += 1;
        Ok(())
    }

    fn on_claim_reply(
        &mut self,
        node: usize,
        from: NodeId,
        reply: HolderReply,
    ) -> Result<(), String> {
        let rules = self.rules;
        let Some((claim, before)) = &mut self.nodes[node].claim else {
            return Ok(());
        };
        let mut step = claim.answer(from, reply);
        if !rules.claim_quorum && claim.images().count() > 0 {
            step = claim.give_up_waiting();
        }
        let (epoch, before) = (claim.epoch(), *before);
        match step {
            Step::Wait => Ok(()),
            Step::Ask(more) => {
                self.seen.asked_more += 1;
                self.ask(node, &more);
                Ok(())
            }
            Step::Lost(_) => {
                self.nodes[node].claim = None;
                Ok(())
            }
            Step::Won { newest, .. } => {
                self.nodes[node].claim = None;
                let held = hold(&self.nodes[node].store, &self.ids, &self.id).unwrap();
                if held.fence == epoch {
                    self.take_over(node, epoch, before, newest.map(|image| *image))?;
                }
                Ok(())
            }
        }
    }

    fn take_over(
        &mut self,
        node: usize,
        epoch: Epoch,
        before: Epoch,
        newest: Option<Image>,
    ) -> Result<(), String> {
        let chain = newest
            .as_ref()
            .map_or_else(Vec::new, |image| chain(image, &self.id));
        for (operation, version) in &self.acknowledged {
            if version.epoch < epoch && !chain.contains(operation) {
                return Err(format!("{epoch} lost {operation} of {version}"));
            }
        }
        self.adopted.insert(epoch, chain);
        self.seen.take_overs += 1;
        let inst = self.nodes[node].inst;
        let owned = match newest {
            Some(image) => Owned::take_over(image, epoch, false, inst, &self.ids).0,
            None => {
                let placed = self.placed.clone();
                let mut owned = Owned::begin(&self.id, before, inst, &self.ids).held_by(placed);
                owned.put(&self.id, Vec::new(), None).unwrap();
                owned
            }
        };
        assert_eq!(owned.epoch(), epoch);
        self.nodes[node].owner = Some(Owner {
            joint_since: owned.header().version,
            acked: Version::default(),
            owned,
            pending: Vec::new(),
        });
        self.commit(node, None, true);
        Ok(())
    }

    fn write(&mut self) {
        // Stale owners write as eagerly as the right one.
        let mut owners: Vec<usize> = (0..self.nodes.len()).collect();
        owners.retain(|node| self.nodes[*node].owner.is_some());
        if owners.is_empty() {
            return;
        }
        let node = owners[self.draw(owners.len())];
        let (operation, id) = (self.next_operation, self.id.clone());
        let Some(owner) = &mut self.nodes[node].owner else {
            return;
        };
        if owner.pending.len() >= PENDING_MAX {
            return;
        }
        self.next_operation += 1;
        let mut bytes = owner.owned.last(&id).unwrap().to_vec();
        bytes.extend_from_slice(&operation.to_le_bytes());
        owner.owned.put(&id, bytes, None).unwrap();
        let whole = self.draw(2) == 0;
        self.commit(node, Some(operation), whole);
    }

    /// Sends what the owner has last changed to every node of its sets.
    fn commit(&mut self, node: usize, operation: Option<u64>, whole: bool) {
        let acknowledged_before = self.acknowledged.len();
        let inst = self.nodes[node].inst;
        let Some(owner) = &mut self.nodes[node].owner else {
            return;
        };
        let header = owner.owned.header().clone();
        let image = owner.owned.image();
        let sent = if whole {
            image.clone()
        } else {
            owner.owned.delta()
        };
        owner.pending.push(Pending {
            acks: Acks::new(header.version, header.conf.clone()),
            operation,
            acknowledged_before,
            chain: chain(&image, &self.id),
        });
        for to in header.conf.nodes() {
            let request = HolderRequest::Commit(sent.clone());
            self.send(inst, to, None, Frame::Request(request));
        }
    }

    fn resend(&mut self, node: usize) {
        let inst = self.nodes[node].inst;
        if let Some(owner) = &self.nodes[node].owner {
            let image = owner.owned.delta();
            for to in image.header.conf.nodes() {
                let request = HolderRequest::Commit(image.clone());
                self.send(inst, to, None, Frame::Request(request));
            }
        }
        if let Some((claim, _)) = &self.nodes[node].claim {
            let silent = claim.unanswered();
            self.ask(node, &silent);
        }
    }

    fn change_holders(&mut self, node: usize) {
        let size = 1 + self.draw(3);
        let set = (0..size).map(|_| NodeId(u16::try_from(self.draw(5)).unwrap()));
        let new = HolderSet::new(set.collect()).unwrap();
        let joint = self.rules.joint_change;
        let Some(owner) = &mut self.nodes[node].owner else {
            return;
        };
        let settles = matches!(owner.owned.header().conf, Conf::Joint { .. });
        if settles {
            if owner.acked < owner.joint_since {
                return;
            }
            owner.owned.settle_holders().unwrap();
            self.seen.holder_changes += 1;
        } else {
            if owner.owned.propose_holders(new).is_none() {
                return;
            }
            owner.joint_since = owner.owned.header().version;
            if !joint {
                owner.owned.settle_holders().unwrap();
            }
        }
        let whole = self.draw(2) == 0;
        self.commit(node, None, whole);
    }

    fn claim(&mut self, node: usize) {
        if self.nodes[node].owner.is_some() {
            return;
        }
        let held = hold(&self.nodes[node].store, &self.ids, &self.id).unwrap();
        let me = self.nodes[node].inst.node;
        let placed = self.placed.clone();
        let (claim, batch) = Activation::begin(&self.id, &held, placed, me, &self.ids);
        self.nodes[node].store.apply(batch);
        let asked = claim.unanswered();
        self.nodes[node].claim = Some((claim, held.fence));
        self.ask(node, &asked);
    }

    fn ask(&mut self, node: usize, nodes: &[NodeId]) {
        let inst = self.nodes[node].inst;
        let Some((claim, _)) = &self.nodes[node].claim else {
            return;
        };
        let request = claim.request();
        for to in nodes {
            self.send(inst, *to, None, Frame::Request(request.clone()));
        }
    }

    fn crash(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.inst.boot.0 += 1;
        node.owner = None;
        node.claim = None;
        self.seen.crashes += 1;
    }
}

/// Reads the operations that a record's own part lists, oldest first.
fn chain(image: &Image, id: &ActorId) -> Vec<u64> {
    let part = image.parts.get(id).expect("the own part is there");
    let octets = part.chunks_exact(8);
    octets
        .map(|eight| u64::from_le_bytes(eight.try_into().unwrap()))
        .collect()
}
