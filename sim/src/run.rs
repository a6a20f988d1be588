//! One run: a hostile phase, then a calm one in which everything must come right.
//!
//! In: a plan. Out: the hash of what happened, what was exercised, the first broken promise.

mod harm;
mod settled;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use contract::{FabricKeys, NodeId, NodeInst, SchemaVersion, Time};

use crate::checkers::denied::Denied;
use crate::checkers::durable::Durable;
use crate::checkers::fence;
use crate::checkers::forwarding::Forwarding;
use crate::checkers::kept_call;
use crate::checkers::order::Order;
use crate::checkers::quarantined::Quarantined;
use crate::checkers::sequence::Sequence;
use crate::checkers::taken_over::Orphans;
use crate::checkers::told::Reader;
use crate::cluster::Watch;
use crate::crowd::Crowd;
use crate::log;
use crate::marks::{self, Marks};
use crate::mesh::{GOSSIP_OCTETS, OCTETS};
use crate::node::{Role, SimNode, sip_address, web_address};
use crate::plan::{Fault, Plan};
use crate::planted;
use crate::sabotage;
use crate::store::{DiskMood, SimStore};
use crate::trace::Trace;
use crate::world::{Broken, Weather, World};

/// Time in which everything must come right again (`cluster.md` §14: 10 s), and the longest a
/// phone waits for an answer that will not come any more.
const CALM: Duration = Duration::from_secs(60);
/// Time after a fault in which nodes find each other, or a record its holders.
const AFTERMATH: Duration = Duration::from_secs(10);
/// Time in which an operator has upgraded a node that is not let in.
const UPGRADE: Duration = Duration::from_millis(500);
/// Time after which no transaction, tombstone or retransmission of an ended call is left.
const QUIET: Duration = Duration::from_secs(180);

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Hash of everything that happened, in order.
    pub hash: u64,
    /// Number of happenings.
    pub steps: u64,
    /// What was exercised, by name.
    pub counts: BTreeMap<String, u64>,
    /// The first broken promise.
    pub broken: Option<Broken>,
    /// Length of the run on its own clock.
    pub length: Duration,
    /// What nodes have said to each other in the second half of the hostile phase.
    pub cost: Cost,
    /// How long deaths of nodes took to be noticed where that had to be quick.
    pub noticed: Vec<Duration>,
}

/// Runs a plan; every happening goes to `trace` as a line, if there is one.
///
/// # Panics
/// If the system gives no runtime.
#[must_use]
pub fn run(plan: &Plan, trace: Option<File>) -> Outcome {
    sabotage::clear();
    planted::plant(plan.planted);
    // What a former run of this thread left.
    let _ = (sabotage::fired(), sabotage::merges());
    let world = World::new(plan.seed, Trace::new(trace));
    let _guard = log::watch(&world);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of this thread");
    // What a former run of this thread left.
    let _ = sabotage::news();
    let (length, noticed, cost) = runtime.block_on(Box::pin(Run::new(&world, plan).play(plan)));
    let mut state = world.state();
    state.trace.flush();
    Outcome {
        hash: state.trace.hash(),
        steps: state.trace.lines(),
        counts: state.counts.clone(),
        broken: state.broken.clone(),
        length,
        noticed,
        cost,
    }
}

/// What nodes say to each other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Octets of frames, without TLS and signs of life.
    pub frames: u64,
    /// Octets of gossip.
    pub gossip: u64,
}

impl Cost {
    fn so_far(world: &World) -> Cost {
        let state = world.state();
        let of = |what| state.counts.get(what).copied().unwrap_or_default();
        Cost {
            frames: of(OCTETS),
            gossip: of(GOSSIP_OCTETS),
        }
    }

    fn since(self, before: Cost) -> Cost {
        Cost {
            frames: self.frames - before.frames,
            gossip: self.gossip - before.gossip,
        }
    }
}

/// One node's place in the world: it outlives the node's crashes.
struct Place {
    number: u16,
    disk: Arc<SimStore>,
    node: Option<SimNode>,
    /// Lives that it has left with the former release.
    former: u32,
}

struct Run {
    world: Arc<World>,
    keys: FabricKeys,
    places: Vec<Place>,
    disks: Arc<[Arc<SimStore>]>,
    watch: Watch,
    crowd: Crowd,
    orphans: Orphans,
    /// None where nodes of the former release are: they keep no log, and are told nothing of it.
    reader: Option<Reader>,
    /// When a disk was damaged last.
    hurt_at: Option<Time>,
    /// Faults so far.
    faults: u64,
    mixed: bool,
    users: u32,
    /// What is measured is the load, without operators.
    is_steady: bool,
    is_calm: bool,
    /// What is done to the world, by the runner, between two happenings.
    due: Vec<(Time, Change)>,
}

#[derive(Clone, Copy)]
enum Change {
    Begin(Fault),
    Restart(usize),
    ClearSky,
    HealDisk(usize),
    /// A cut or a slow link ends.
    Heal(Fault),
    /// Somebody may be late in noticing a death.
    Deaths,
    /// Calls of a dead node must have been taken over.
    Orphans,
    Look,
}

/// Accounts, also of those who have no phone.
const USERS: u32 = 20;

/// How a disk behaves that nothing ails.
const HEALTHY: DiskMood = DiskMood {
    flush_us_max: 500,
    full: false,
};

/// Tells whether the last node comes at half time.
fn is_joined(plan: &Plan) -> bool {
    plan.nodes > 1 && plan.steady.is_some_and(|steady| steady.is_joined)
}

/// The place of a node that a fault names; one alone is named 0.
fn at_place(node: u16) -> usize {
    usize::from(node.max(1)) - 1
}

/// Waits until nothing can run any more: paused time moves on only then.
#[allow(clippy::disallowed_methods, reason = "the barrier of the simulator")]
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

impl Run {
    fn new(world: &Arc<World>, plan: &Plan) -> Run {
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&plan.seed.to_be_bytes());
        let keys = FabricKeys::new(secret);
        let count = plan.nodes.max(1);
        let disks: Arc<[_]> = (0..count).map(|_| SimStore::new(world)).collect();
        let place = |number| {
            let disk = Arc::clone(&disks[at_place(number)]);
            let addresses = (sip_address(number), web_address(number));
            let former = plan.former.iter().find(|(node, _)| *node == number);
            disk.watch(fence::watch(world, keys.ids(), count > 1));
            world.observe(Box::new(Durable::new(world, &disks, addresses, &keys)));
            world.observe(Box::new(Sequence::new(world, addresses)));
            Place {
                number,
                disk,
                node: None,
                former: former.map_or(0, |(_, lives)| *lives),
            }
        };
        let places = (1..=count).map(place).collect();
        if count > 1 {
            let newcomer = is_joined(plan).then_some(NodeId(count));
            world.witness(Box::new(Marks::with_newcomer(newcomer)));
            world.witness(Box::new(Denied::new(&disks, keys.ids())));
            world.witness(Box::new(Quarantined::new(&disks)));
            world.witness(Box::new(Forwarding));
            world.witness(Box::new(Order::default()));
        }
        Run {
            world: Arc::clone(world),
            keys,
            places,
            disks,
            watch: Watch::default(),
            crowd: Crowd::default(),
            orphans: Orphans::default(),
            reader: plan.former.is_empty().then(Reader::default),
            hurt_at: None,
            faults: 0,
            mixed: plan.mixed,
            users: plan.phones.max(USERS),
            is_steady: plan.steady.is_some(),
            is_calm: false,
            due: Vec::new(),
        }
    }

    async fn play(mut self, plan: &Plan) -> (Duration, Vec<Duration>, Cost) {
        let start = self.world.now().mono;
        self.world.trouble(start + AFTERMATH);
        let (all, is_joined) = (self.places.len(), is_joined(plan));
        for at in 0..all - usize::from(is_joined) {
            self.start_node(at).await;
        }
        if is_joined {
            self.plan_change(start + plan.hostile / 2, Change::Restart(all - 1));
        }
        self.crowd.place(&self.world, plan);
        for (_, at, fault) in &plan.faults {
            self.plan_change(start + *at, Change::Begin(*fault));
        }
        self.plan_change(start + Duration::from_secs(1), Change::Look);
        let hostile_end = start + plan.hostile;
        self.until(start + plan.hostile / 2).await;
        let half = Cost::so_far(&self.world);
        self.until(hostile_end).await;
        let cost = Cost::so_far(&self.world).since(half);
        self.calm_down().await;
        let calm_end = self.world.now().mono + CALM;
        self.check_cluster().await;
        self.until(calm_end).await;
        self.check_settled();
        // A planted bug must be found in what goes on by itself, and what is measured is that.
        if plan.planted.is_none() && plan.steady.is_none() {
            self.call_the_roll().await;
        }
        self.crowd.hang_up(&self.world);
        let end = self.world.now().mono + QUIET;
        self.until(end).await;
        self.check_empty();
        for (kind, count) in sabotage::fired() {
            let what = format!("panics of a {}", kind.word());
            self.world.state().counts.insert(what, count);
        }
        if self.is_cluster() {
            let (merged, brought_back) = sabotage::merges();
            let counts = &mut self.world.state().counts;
            counts.insert(marks::MERGED.to_owned(), merged);
            counts.insert(marks::BROUGHT_BACK.to_owned(), brought_back);
        }
        for place in &mut self.places {
            if let Some(node) = place.node.take() {
                node.crash();
            }
        }
        settle().await;
        (end.since(start), self.watch.times(), cost)
    }

    fn plan_change(&mut self, at: Time, change: Change) {
        let place = self.due.partition_point(|(other, _)| *other <= at);
        self.due.insert(place, (at, change));
    }

    /// Lets the world go on until a time, or until a promise is broken.
    async fn until(&mut self, end: Time) {
        loop {
            if self.world.state().broken.is_some() {
                return;
            }
            let change_at = self.due.first().map(|(at, _)| *at).filter(|at| *at <= end);
            let limit = change_at.unwrap_or(end);
            if let Some(happening) = self.world.next(limit) {
                happening(&self.world);
                settle().await;
                self.listen();
                continue;
            }
            self.world.advance(limit);
            if change_at.is_none() {
                return;
            }
            let (_, change) = self.due.remove(0);
            self.change(change).await;
            settle().await;
            self.listen();
        }
    }

    async fn change(&mut self, change: Change) {
        let now = self.world.now().mono;
        match change {
            Change::Begin(fault) => self.begin(fault, now),
            Change::Restart(at) => {
                if self.places[at].node.is_none() {
                    self.start_node(at).await;
                    self.check_bindings(at);
                }
            }
            Change::ClearSky => self.world.state().weather = Weather::default(),
            Change::HealDisk(at) => self.places[at].disk.set_mood(HEALTHY),
            Change::Heal(fault) => self.heal(fault),
            Change::Deaths => self.watch.check_deaths(&self.world),
            Change::Orphans => self.orphans.check(&self.world, &self.crowd, self.faults),
            Change::Look => {
                self.check_bounds();
                self.check_quarantined();
                if !self.is_steady {
                    self.ask_console(now);
                    for node in self.running() {
                        kept_call::look(&self.world, &node.rows());
                    }
                }
                self.read_events();
                if !self.is_calm {
                    self.upgrade_outdated();
                    self.crowd.pull_a_plug(&self.world);
                }
                self.plan_change(now + Duration::from_secs(1), Change::Look);
            }
        }
    }

    fn is_cluster(&self) -> bool {
        self.places.len() > 1
    }

    fn running(&self) -> Vec<&SimNode> {
        let nodes = self.places.iter().filter_map(|place| place.node.as_ref());
        nodes.collect()
    }

    fn listen(&mut self) {
        if self.is_cluster() {
            let nodes = self.places.iter().filter_map(|place| place.node.as_ref());
            let running: Vec<NodeInst> = nodes.map(SimNode::life).collect();
            self.watch.listen(&self.world, &running);
        }
    }

    async fn start_node(&mut self, at: usize) {
        let nodes = u16::try_from(self.places.len()).unwrap_or(u16::MAX);
        let place = &mut self.places[at];
        let schema = if place.former > 0 {
            SchemaVersion(SchemaVersion::NEWEST.0 - 1)
        } else {
            SchemaVersion::NEWEST
        };
        let is_former = schema < SchemaVersion::NEWEST;
        if is_former {
            self.world.count("starts of the former release");
        }
        self.world.runs_former(place.number, is_former);
        place.former = place.former.saturating_sub(1);
        let role = Role {
            number: place.number,
            nodes,
            mixed: self.mixed,
            users: self.users,
            schema,
        };
        self.world.mesh().set_reads(NodeId(role.number), schema);
        let disk = &self.places[at].disk;
        let node = SimNode::start(&self.world, disk, &self.keys, role).await;
        self.world.count("starts");
        self.places[at].node = Some(node);
    }

    /// Upgrades the nodes that are not let in any more: the others have stepped on while they were
    /// cut off.
    fn upgrade_outdated(&mut self) {
        let now = self.world.now().mono;
        for node in self.world.mesh().outdated() {
            let at = at_place(node.0);
            self.places[at].former = 0;
            if self.places[at].node.is_some() {
                self.world.count("upgrades of nodes that were not let in");
                let (node, away) = (node.0, UPGRADE);
                self.begin(Fault::Crash { node, away }, now);
            }
        }
    }

    /// Ends all faults.
    async fn calm_down(&mut self) {
        self.upgrade_outdated();
        self.is_calm = true;
        sabotage::clear();
        self.crowd.be_polite();
        self.due
            .retain(|(_, change)| matches!(change, Change::Look));
        self.world.state().weather = Weather::default();
        self.world.mesh().heal_all();
        for at in 0..self.places.len() {
            self.places[at].disk.set_mood(HEALTHY);
            if self.places[at].node.is_none() {
                self.start_node(at).await;
            }
        }
    }
}
