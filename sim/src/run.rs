//! One run: a hostile phase, then a calm one in which everything must come right.
//!
//! In: a plan. Out: the hash of what happened, what was exercised, the first broken promise.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use contract::{FabricKeys, NodeId, NodeInst, Time};

use crate::checkers::{
    bounds,
    durable::Durable,
    fence, kept_binding,
    kept_binding::Promised,
    kept_call,
    noticed::{PATIENCE, PROMPT},
    sequence::Sequence,
};
use crate::client::Client;
use crate::cluster::Watch;
use crate::log;
use crate::mesh::Mesh;
use crate::node::{Role, SimNode, cluster_address, sip_address, web_address};
use crate::phone::{Habits, Make, Phone};
use crate::plan::{Fault, Plan};
use crate::sabotage;
use crate::station::Station;
use crate::store::{DiskMood, SimStore};
use crate::trace::Trace;
use crate::world::{Broken, Weather, World};

/// Time in which everything must come right again (`cluster.md` §14: 10 s), and the longest a
/// phone waits for an answer that will not come any more.
const CALM: Duration = Duration::from_secs(60);
/// Time after the last fault in which the nodes of a cluster agree (`cluster.md` §14).
const SETTLE: Duration = Duration::from_secs(10);
/// Time that a console has for its answer.
const ANSWER: Duration = Duration::from_secs(2);
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
    // What a former run of this thread left.
    let _ = sabotage::fired();
    let world = World::new(plan.seed, Trace::new(trace));
    let _guard = log::watch(&world);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of this thread");
    // What a former run of this thread left.
    let _ = sabotage::news();
    let (length, noticed) = runtime.block_on(Box::pin(Run::new(&world, plan).play(plan)));
    let mut state = world.state();
    state.trace.flush();
    Outcome {
        hash: state.trace.hash(),
        steps: state.trace.lines(),
        counts: state.counts.clone(),
        broken: state.broken.clone(),
        length,
        noticed,
    }
}

/// One node's place in the world: it outlives the node's crashes.
struct Place {
    number: u16,
    disk: Arc<SimStore>,
    node: Option<SimNode>,
}

struct Run {
    world: Arc<World>,
    keys: FabricKeys,
    places: Vec<Place>,
    watch: Watch,
    /// Phones, and at which place each is.
    handsets: Vec<(usize, Arc<Station<Phone>>)>,
    tabs: Vec<(usize, Arc<Station<Client>>)>,
    mixed: bool,
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
    Look,
}

/// How a disk behaves that nothing ails.
const HEALTHY: DiskMood = DiskMood {
    flush_us_max: 500,
    full: false,
};

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
        let place = |number| {
            let disk = SimStore::new(world);
            let addresses = (sip_address(number), web_address(number));
            disk.watch(fence::watch(world, keys.ids()));
            world.observe(Box::new(Durable::new(world, &disk, addresses, &keys)));
            world.observe(Box::new(Sequence::new(world, addresses)));
            Place {
                number,
                disk,
                node: None,
            }
        };
        let places = (1..=plan.nodes.max(1)).map(place).collect();
        Run {
            world: Arc::clone(world),
            keys,
            places,
            watch: Watch::default(),
            handsets: Vec::new(),
            tabs: Vec::new(),
            mixed: plan.mixed,
            is_calm: false,
            due: Vec::new(),
        }
    }

    async fn play(mut self, plan: &Plan) -> (Duration, Vec<Duration>) {
        let start = self.world.now().mono;
        for at in 0..self.places.len() {
            self.start_node(at).await;
        }
        self.place_phones(plan);
        for (_, at, fault) in &plan.faults {
            self.plan_change(start + *at, Change::Begin(*fault));
        }
        self.plan_change(start + Duration::from_secs(1), Change::Look);
        let hostile_end = start + plan.hostile;
        self.until(hostile_end).await;
        self.calm_down().await;
        let calm_end = self.world.now().mono + CALM;
        self.check_cluster().await;
        self.until(calm_end).await;
        self.check_settled();
        let hang_up = |phone: &mut Phone, now| phone.hang_up(now);
        for (_, handset) in self.handsets.clone() {
            handset.drive(&self.world, |phone, now, _| hang_up(phone, now));
        }
        for (_, tab) in self.tabs.clone() {
            tab.drive(&self.world, |client, now, _| client.hang_up(now));
        }
        let end = self.world.now().mono + QUIET;
        self.until(end).await;
        self.check_empty();
        for (kind, count) in sabotage::fired() {
            let what = format!("panics of a {}", kind.word());
            self.world.state().counts.insert(what, count);
        }
        for place in &mut self.places {
            if let Some(node) = place.node.take() {
                node.crash();
            }
        }
        settle().await;
        (end.since(start), self.watch.times())
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
            Change::Look => {
                self.check_bounds();
                self.ask_console(now);
                self.pull_a_plug();
                self.plan_change(now + Duration::from_secs(1), Change::Look);
            }
        }
    }

    fn begin(&mut self, fault: Fault, now: Time) {
        self.world.trace("fault", fault.to_string().as_bytes());
        match fault {
            Fault::Crash { node, away } => self.crash(at_place(node), away, now),
            Fault::Panic { kind, after, times } => {
                self.world.count("panics ordered");
                sabotage::order(kind, after, times);
            }
            Fault::Weather { weather, lasts } => {
                self.world.count("spells of bad weather");
                self.world.state().weather = weather;
                self.plan_change(now + lasts, Change::ClearSky);
            }
            Fault::Disk { node, mood, lasts } => {
                self.world.count(if mood.full {
                    "full disks"
                } else {
                    "slow disks"
                });
                let at = at_place(node);
                self.places[at].disk.set_mood(mood);
                self.plan_change(now + lasts, Change::HealDisk(at));
            }
            Fault::Cut { node, lasts, .. } => {
                self.world.count("cuts between nodes");
                self.each_way(fault, |mesh, from, to| mesh.cut(from, to));
                self.watch.cut(NodeId(node), now + lasts);
                self.plan_change(now + lasts, Change::Heal(fault));
            }
            Fault::SlowLink {
                extra_us, lasts, ..
            } => {
                self.world.count("slow links");
                self.each_way(fault, |mesh, from, to| mesh.slow_down(from, to, extra_us));
                self.watch.trouble(now + lasts);
                self.plan_change(now + lasts, Change::Heal(fault));
            }
            Fault::Stall { node, lasts } => {
                let place = &self.places[at_place(node)];
                if let Some(node) = &place.node {
                    self.world.count("stalls");
                    node.stall(now + lasts);
                    place.disk.stall(now + lasts);
                    self.watch.trouble(now + lasts);
                }
            }
        }
    }

    fn crash(&mut self, at: usize, away: Duration, now: Time) {
        let Some(node) = self.places[at].node.take() else {
            return;
        };
        self.world.count("crashes");
        if self.is_cluster() {
            let others = self.places.iter().filter_map(|place| place.node.as_ref());
            let others: Vec<_> = others.collect();
            self.watch.died(node.life(), away, &others, now);
            self.plan_change(now + PROMPT, Change::Deaths);
            self.plan_change(now + PATIENCE, Change::Deaths);
        }
        node.crash();
        self.places[at].disk.crash();
        self.plan_change(now + away, Change::Restart(at));
    }

    /// Does something to each way between hosts that a cut or a slow link is about.
    fn each_way(&self, fault: Fault, change: impl Fn(&Mesh, IpAddr, IpAddr)) {
        let host = |number| cluster_address(number).ip();
        let mesh = self.world.mesh();
        match fault {
            Fault::Cut {
                node,
                outward,
                inward,
                ..
            } => {
                let others = self.places.iter().map(|place| place.number);
                for other in others.filter(|other| *other != node) {
                    if outward {
                        change(mesh, host(node), host(other));
                    }
                    if inward {
                        change(mesh, host(other), host(node));
                    }
                }
            }
            Fault::SlowLink { node, other, .. } => {
                change(mesh, host(node), host(other));
                change(mesh, host(other), host(node));
            }
            Fault::Crash { .. }
            | Fault::Panic { .. }
            | Fault::Weather { .. }
            | Fault::Disk { .. }
            | Fault::Stall { .. } => {}
        }
    }

    fn heal(&self, fault: Fault) {
        self.each_way(fault, |mesh, from, to| match fault {
            Fault::SlowLink { extra_us, .. } => mesh.speed_up(from, to, extra_us),
            Fault::Cut { .. }
            | Fault::Crash { .. }
            | Fault::Panic { .. }
            | Fault::Weather { .. }
            | Fault::Disk { .. }
            | Fault::Stall { .. } => mesh.heal(from, to),
        });
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

    /// At settle: the nodes agree on who is there, and each console answers for all.
    async fn check_cluster(&mut self) {
        if !self.is_cluster() {
            return;
        }
        let settled = self.world.now().mono + SETTLE;
        self.until(settled).await;
        Watch::check_views(&self.world, &self.running());
        let nodes = self.places.iter().filter_map(|place| place.node.as_ref());
        let nodes: Vec<_> = nodes.collect();
        self.watch.ask_consoles(&self.world, &nodes);
        self.until(settled + ANSWER).await;
        self.watch.check_answers(&self.world, &self.running());
    }

    async fn start_node(&mut self, at: usize) {
        let role = Role {
            number: self.places[at].number,
            nodes: u16::try_from(self.places.len()).unwrap_or(u16::MAX),
            mixed: self.mixed,
        };
        let disk = &self.places[at].disk;
        let node = SimNode::start(&self.world, disk, &self.keys, role).await;
        self.world.count("starts");
        self.places[at].node = Some(node);
    }

    fn place_phones(&mut self, plan: &Plan) {
        let nodes = u32::from(plan.nodes.max(1));
        for number in 0..plan.phones {
            let own = number % nodes;
            let at = own as usize;
            let (node, web) = (
                sip_address(self.places[at].number),
                web_address(self.places[at].number),
            );
            let mut rng = self.world.state().chance.split(&format!("phone {number}"));
            let mut habits = Habits::draw(&mut rng);
            habits.nodes = (nodes, own);
            let is_stream = rng.below(4) == 0;
            let host = u8::try_from(number % 200).unwrap_or(0);
            let address = SocketAddr::from(([10, 1, 0, host], 5060));
            let user = (1000 + number).to_string();
            let now = self.world.now().mono;
            let make = if plan.mixed {
                Make::draw(number, is_stream, &mut rng)
            } else {
                Make::plain(is_stream)
            };
            if plan.mixed {
                habits.odd = 30;
            }
            self.world.count(make.name());
            if make == Make::Tab {
                let client = Client::new(&user, address, rng, habits, now);
                self.tabs
                    .push((at, Station::place(&self.world, client, web)));
                continue;
            }
            let node = if make == Make::Web { web } else { node };
            let phone = Phone::new(&user, address, make, rng, habits, now);
            self.handsets
                .push((at, Station::place(&self.world, phone, node)));
        }
    }

    /// Ends all faults.
    async fn calm_down(&mut self) {
        self.is_calm = true;
        sabotage::clear();
        for (_, handset) in &self.handsets {
            handset.with(Phone::be_polite);
        }
        for (_, tab) in &self.tabs {
            tab.with(Client::be_polite);
        }
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

    /// Checks what the phones of a place were promised.
    fn check_bindings(&self, at: usize) {
        let is_here = |(place, _): &&(usize, _)| *place == at;
        let phones = self.handsets.iter().filter(is_here).map(|(_, handset)| {
            handset.with(|phone| Promised {
                user: phone.user.clone(),
                contact: phone.contact(),
                until: phone.registered_until,
            })
        });
        let is_here = |(place, _): &&(usize, _)| *place == at;
        let tabs = self.tabs.iter().filter(is_here).map(|(_, tab)| {
            tab.with(|client| Promised {
                user: client.user.clone(),
                contact: client.contact(),
                until: client.registered_until,
            })
        });
        for promised in phones.chain(tabs) {
            let disk = &self.places[at].disk;
            kept_binding::check(&self.world, disk, &self.keys.ids(), &promised);
        }
    }

    /// Networks change under phones: now and then a connection ends.
    fn pull_a_plug(&self) {
        let count = self.handsets.len() + self.tabs.len();
        if !self.mixed || self.is_calm || count == 0 {
            return;
        }
        let at = {
            let mut state = self.world.state();
            let is_due = state.hits(400);
            let most = u32::try_from(count).unwrap_or(u32::MAX);
            is_due.then(|| state.chance.below(most) as usize)
        };
        let Some(at) = at else { return };
        self.world.count("plugs pulled");
        match self.handsets.get(at) {
            Some((_, handset)) => handset.unplug(&self.world),
            None => self.tabs[at - self.handsets.len()].1.unplug(&self.world),
        }
    }

    /// An operator looks once a second, each time at something else.
    fn ask_console(&self, now: Time) {
        for place in &self.places {
            let Some(node) = &place.node else { continue };
            // Each console is asked something else.
            let number = now.as_micros() / 1_000_000 + u64::from(place.number - 1);
            let heard = node.ask_console(number);
            self.world.count(if heard {
                "questions to the console"
            } else {
                "questions refused"
            });
        }
    }

    fn check_bounds(&self) {
        for node in self.running() {
            bounds::check(&self.world, &node.rows());
        }
    }

    fn check_settled(&self) {
        for at in 0..self.places.len() {
            self.check_bindings(at);
        }
        for (_, handset) in &self.handsets {
            handset.with(|phone| {
                kept_call::check_sound(&self.world, phone);
                if phone.registered_until.is_none() {
                    self.world
                        .broken("V2", format!("{} is not registered at settle", phone.user));
                }
            });
        }
        for (_, tab) in &self.tabs {
            tab.with(|client| {
                kept_call::check_client(&self.world, client);
                if client.registered_until.is_none() {
                    self.world
                        .broken("V2", format!("{} is not registered at settle", client.user));
                }
            });
        }
        for node in self.running() {
            node.check_tree(&self.world);
        }
    }

    fn check_empty(&self) {
        if self.world.state().broken.is_some() {
            return;
        }
        for node in self.running() {
            bounds::check_empty(&self.world, &node.rows(), &node.open_legs());
        }
        let talked: u64 = self
            .handsets
            .iter()
            .map(|(_, handset)| handset.with(|phone| phone.talked))
            .chain(
                self.tabs
                    .iter()
                    .map(|(_, tab)| tab.with(|client| client.talked)),
            )
            .sum();
        *self
            .world
            .state()
            .counts
            .entry("calls answered".to_owned())
            .or_default() += talked;
    }
}
