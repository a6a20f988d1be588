//! One run: a hostile phase, then a calm one in which everything must come right.
//!
//! In: a plan. Out: the hash of what happened, what was exercised, the first broken promise.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use contract::{FabricKeys, Time};

use crate::checkers::{
    bounds, durable::Durable, fence, kept_binding, kept_binding::Promised, kept_call,
    sequence::Sequence,
};
use crate::client::Client;
use crate::log;
use crate::node::SimNode;
use crate::phone::{Habits, Make, Phone};
use crate::plan::{Fault, Plan};
use crate::sabotage;
use crate::station::Station;
use crate::store::{DiskMood, SimStore};
use crate::trace::Trace;
use crate::world::{Broken, Weather, World};

/// Where the node listens.
pub const NODE: &str = "10.0.0.1:5060";
/// Where it takes WebSockets.
pub const NODE_WEB: &str = "10.0.0.1:5066";

/// Time in which everything must come right again (`cluster.md` §14: 10 s), and the longest a
/// phone waits for an answer that will not come any more.
const CALM: Duration = Duration::from_secs(60);
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
    let length = runtime.block_on(Box::pin(Run::new(&world, plan).play(plan)));
    let mut state = world.state();
    state.trace.flush();
    Outcome {
        hash: state.trace.hash(),
        steps: state.trace.lines(),
        counts: state.counts.clone(),
        broken: state.broken.clone(),
        length,
    }
}

struct Run {
    world: Arc<World>,
    disk: Arc<SimStore>,
    keys: FabricKeys,
    node: Option<SimNode>,
    handsets: Vec<Arc<Station<Phone>>>,
    tabs: Vec<Arc<Station<Client>>>,
    mixed: bool,
    is_calm: bool,
    /// What is done to the world, by the runner, between two happenings.
    due: Vec<(Time, Change)>,
}

#[derive(Clone, Copy)]
enum Change {
    Begin(Fault),
    Restart,
    ClearSky,
    HealDisk,
    Look,
}

/// Waits until nothing can run any more: paused time moves on only then.
#[allow(clippy::disallowed_methods, reason = "the barrier of the simulator")]
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

impl Run {
    fn new(world: &Arc<World>, plan: &Plan) -> Run {
        let disk = SimStore::new(world);
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&plan.seed.to_be_bytes());
        let keys = FabricKeys::new(secret);
        let node: SocketAddr = NODE.parse().expect("an address");
        disk.watch(fence::watch(world, keys.ids()));
        world.observe(Box::new(Durable::new(world, &disk, node, &keys)));
        world.observe(Box::new(Sequence::new(world, node)));
        Run {
            world: Arc::clone(world),
            disk,
            keys,
            node: None,
            handsets: Vec::new(),
            tabs: Vec::new(),
            mixed: plan.mixed,
            is_calm: false,
            due: Vec::new(),
        }
    }

    async fn play(mut self, plan: &Plan) -> Duration {
        let start = self.world.now().mono;
        self.start_node().await;
        self.place_phones(plan);
        for (_, at, fault) in &plan.faults {
            self.plan_change(start + *at, Change::Begin(*fault));
        }
        self.plan_change(start + Duration::from_secs(1), Change::Look);
        let hostile_end = start + plan.hostile;
        self.until(hostile_end).await;
        self.calm_down().await;
        let calm_end = self.world.now().mono + CALM;
        self.until(calm_end).await;
        self.check_settled();
        let hang_up = |phone: &mut Phone, now| phone.hang_up(now);
        for handset in self.handsets.clone() {
            handset.drive(&self.world, |phone, now, _| hang_up(phone, now));
        }
        for tab in self.tabs.clone() {
            tab.drive(&self.world, |client, now, _| client.hang_up(now));
        }
        let end = self.world.now().mono + QUIET;
        self.until(end).await;
        self.check_empty();
        for (kind, count) in sabotage::fired() {
            let what = format!("panics of a {}", kind.word());
            self.world.state().counts.insert(what, count);
        }
        if let Some(node) = self.node.take() {
            node.crash();
        }
        settle().await;
        end.since(start)
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
                continue;
            }
            self.world.advance(limit);
            if change_at.is_none() {
                return;
            }
            let (_, change) = self.due.remove(0);
            self.change(change).await;
            settle().await;
        }
    }

    async fn change(&mut self, change: Change) {
        let now = self.world.now().mono;
        match change {
            Change::Begin(fault) => self.begin(fault, now),
            Change::Restart => {
                if self.node.is_none() {
                    self.start_node().await;
                    self.check_bindings();
                }
            }
            Change::ClearSky => self.world.state().weather = Weather::default(),
            Change::HealDisk => self.disk.set_mood(DiskMood {
                flush_us_max: 500,
                full: false,
            }),
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
            Fault::Crash { away } => {
                if let Some(node) = self.node.take() {
                    self.world.count("crashes");
                    node.crash();
                    self.disk.crash();
                    self.plan_change(now + away, Change::Restart);
                }
            }
            Fault::Panic { kind, after, times } => {
                self.world.count("panics ordered");
                sabotage::order(kind, after, times);
            }
            Fault::Weather { weather, lasts } => {
                self.world.count("spells of bad weather");
                self.world.state().weather = weather;
                self.plan_change(now + lasts, Change::ClearSky);
            }
            Fault::Disk { mood, lasts } => {
                self.world.count(if mood.full {
                    "full disks"
                } else {
                    "slow disks"
                });
                self.disk.set_mood(mood);
                self.plan_change(now + lasts, Change::HealDisk);
            }
        }
    }

    async fn start_node(&mut self) {
        let node = SimNode::start(&self.world, &self.disk, &self.keys, self.mixed).await;
        self.world.count("starts");
        self.node = Some(node);
    }

    fn place_phones(&mut self, plan: &Plan) {
        let node: SocketAddr = NODE.parse().expect("an address");
        let web: SocketAddr = NODE_WEB.parse().expect("an address");
        for number in 0..plan.phones {
            let mut rng = self.world.state().chance.split(&format!("phone {number}"));
            let mut habits = Habits::draw(&mut rng);
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
                self.tabs.push(Station::place(&self.world, client, web));
                continue;
            }
            let node = if make == Make::Web { web } else { node };
            let phone = Phone::new(&user, address, make, rng, habits, now);
            self.handsets.push(Station::place(&self.world, phone, node));
        }
    }

    /// Ends all faults.
    async fn calm_down(&mut self) {
        self.is_calm = true;
        sabotage::clear();
        for handset in &self.handsets {
            handset.with(Phone::be_polite);
        }
        for tab in &self.tabs {
            tab.with(Client::be_polite);
        }
        self.due
            .retain(|(_, change)| matches!(change, Change::Look));
        self.world.state().weather = Weather::default();
        self.disk.set_mood(DiskMood {
            flush_us_max: 500,
            full: false,
        });
        if self.node.is_none() {
            self.start_node().await;
        }
    }

    fn check_bindings(&self) {
        let phones = self.handsets.iter().map(|handset| {
            handset.with(|phone| Promised {
                user: phone.user.clone(),
                contact: phone.contact(),
                until: phone.registered_until,
            })
        });
        let tabs = self.tabs.iter().map(|tab| {
            tab.with(|client| Promised {
                user: client.user.clone(),
                contact: client.contact(),
                until: client.registered_until,
            })
        });
        for promised in phones.chain(tabs) {
            kept_binding::check(&self.world, &self.disk, &self.keys.ids(), &promised);
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
            Some(handset) => handset.unplug(&self.world),
            None => self.tabs[at - self.handsets.len()].unplug(&self.world),
        }
    }

    /// An operator looks once a second, each time at something else.
    fn ask_console(&self, now: Time) {
        let Some(node) = &self.node else { return };
        let heard = node.ask_console(now.as_micros() / 1_000_000);
        self.world.count(if heard {
            "questions to the console"
        } else {
            "questions refused"
        });
    }

    fn check_bounds(&self) {
        if let Some(node) = &self.node {
            bounds::check(&self.world, &node.rows());
        }
    }

    fn check_settled(&self) {
        self.check_bindings();
        for handset in &self.handsets {
            handset.with(|phone| {
                kept_call::check_sound(&self.world, phone);
                if phone.registered_until.is_none() {
                    self.world
                        .broken("V2", format!("{} is not registered at settle", phone.user));
                }
            });
        }
        for tab in &self.tabs {
            tab.with(|client| {
                kept_call::check_client(&self.world, client);
                if client.registered_until.is_none() {
                    self.world
                        .broken("V2", format!("{} is not registered at settle", client.user));
                }
            });
        }
        if let Some(node) = &self.node {
            node.check_tree(&self.world);
        }
    }

    fn check_empty(&self) {
        if self.world.state().broken.is_some() {
            return;
        }
        if let Some(node) = &self.node {
            bounds::check_empty(&self.world, &node.rows(), &node.open_legs());
        }
        let talked: u64 = self
            .handsets
            .iter()
            .map(|handset| handset.with(|phone| phone.talked))
            .chain(self.tabs.iter().map(|tab| tab.with(|client| client.talked)))
            .sum();
        *self
            .world
            .state()
            .counts
            .entry("calls answered".to_owned())
            .or_default() += talked;
    }
}
