//! The network between the nodes of one world: who listens where, what is cut, what is slow.
//!
//! In: processes with their addresses, faults. Out: trips from one address to another, later, or
//! never. What nodes tell each other over it is `peers.rs`; phones are not on it.

mod describe;
mod link;
mod peers;
mod stall;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use contract::{NodeId, SchemaVersion};

use crate::world::World;

pub use self::peers::SimPeers;
pub use self::stall::Stall;

/// Shortest trip, and what chance adds to it.
const TRIP_US: u32 = 100;
const TRIP_MORE_US: u32 = 400;

/// Counts of what nodes say to each other.
pub const OCTETS: &str = "octets of frames between nodes";
/// Counts of what nodes gossip.
pub const GOSSIP_OCTETS: &str = "octets of gossip";

/// The network between nodes.
#[derive(Default)]
pub struct Mesh(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    processes: BTreeMap<SocketAddr, Arc<SimPeers>>,
    /// How many faults cut the way from one host to another.
    cuts: BTreeMap<(IpAddr, IpAddr), u32>,
    /// What faults add to each trip, in microseconds; chance adds as much again.
    slow: BTreeMap<(IpAddr, IpAddr), Vec<u32>>,
    numbers: u64,
    /// What the releases of nodes read that are not the newest one.
    former: BTreeMap<NodeId, SchemaVersion>,
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mesh")
    }
}

impl Mesh {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().expect("no holder of the mesh panics")
    }

    fn listen(&self, address: SocketAddr, process: Arc<SimPeers>) {
        self.inside().processes.insert(address, process);
    }

    fn deafen(&self, address: SocketAddr) {
        self.inside().processes.remove(&address);
    }

    fn process(&self, address: SocketAddr) -> Option<Arc<SimPeers>> {
        self.inside().processes.get(&address).cloned()
    }

    fn number(&self) -> u64 {
        let mut inside = self.inside();
        inside.numbers += 1;
        inside.numbers
    }

    /// Cuts the way from one host to another, on top of what cuts it already.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        *self.inside().cuts.entry((from, to)).or_default() += 1;
    }

    /// Takes one cut back.
    pub fn heal(&self, from: IpAddr, to: IpAddr) {
        let mut inside = self.inside();
        if let Some(count) = inside.cuts.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                inside.cuts.remove(&(from, to));
            }
        }
    }

    /// Makes every trip from one host to another take longer.
    pub fn slow_down(&self, from: IpAddr, to: IpAddr, extra_us: u32) {
        let mut inside = self.inside();
        inside.slow.entry((from, to)).or_default().push(extra_us);
    }

    /// Takes one slowness back.
    pub fn speed_up(&self, from: IpAddr, to: IpAddr, extra_us: u32) {
        if let Some(extras) = self.inside().slow.get_mut(&(from, to))
            && let Some(at) = extras.iter().position(|extra| *extra == extra_us)
        {
            extras.swap_remove(at);
        }
    }

    /// Ends all faults.
    pub fn heal_all(&self) {
        let mut inside = self.inside();
        inside.cuts.clear();
        inside.slow.clear();
    }

    /// Returns how many ways from one process to another there are.
    #[must_use]
    pub fn ways(&self) -> u32 {
        let count = u32::try_from(self.inside().processes.len()).unwrap_or(u32::MAX);
        count.saturating_mul(count.saturating_sub(1))
    }

    /// A node starts with a release that reads up to that schema.
    pub fn set_reads(&self, node: NodeId, schema: SchemaVersion) {
        self.inside().former.insert(node, schema);
    }

    /// Returns the newest schema that a node's release reads.
    #[must_use]
    pub fn reads(&self, node: NodeId) -> SchemaVersion {
        let known = self.inside().former.get(&node).copied();
        known.unwrap_or(SchemaVersion::NEWEST)
    }

    /// Tells whether the release of either reads what the records of the other one need.
    fn read_each_other(&self, one: &SimPeers, other: &SimPeers) -> bool {
        let (one, other) = (one.needs(), other.needs());
        other.1 <= self.reads(one.0) && one.1 <= self.reads(other.0)
    }

    /// Returns the nodes whose release does not read what the records of others need: these do not
    /// let them in any more.
    #[must_use]
    pub fn outdated(&self) -> Vec<NodeId> {
        let inside = self.inside();
        let processes = inside.processes.values();
        let required = processes.map(|process| process.needs().1).max();
        let former = inside.former.iter();
        let former = former.filter(|(_, reads)| required.is_some_and(|it| it > **reads));
        former.map(|(node, _)| *node).collect()
    }

    /// Tells whether nothing gets from one host to another.
    #[must_use]
    pub fn is_cut(&self, from: IpAddr, to: IpAddr) -> bool {
        self.inside().cuts.contains_key(&(from, to))
    }

    fn extra_us(&self, from: IpAddr, to: IpAddr) -> u32 {
        let inside = self.inside();
        let extras = inside.slow.get(&(from, to));
        extras.map_or(0, |extras| extras.iter().sum())
    }

    /// Draws how long one trip takes.
    fn trip(&self, world: &World, from: IpAddr, to: IpAddr) -> Duration {
        let extra = self.extra_us(from, to);
        let mut state = world.state();
        let mut micros = TRIP_US + state.chance.below(TRIP_MORE_US) + extra;
        if extra > 0 {
            micros += state.chance.below(extra);
        }
        Duration::from_micros(u64::from(micros))
    }
}

/// What happens at the end of a trip: it is told which process is there.
type Arrival = Box<dyn FnOnce(&Arc<World>, Option<Arc<SimPeers>>) + Send>;

/// Carries a piece of a handshake, a ping or a reset; it is lost if the way is cut. Returns how long
/// it takes.
fn carry(
    world: &Arc<World>,
    from: SocketAddr,
    to: SocketAddr,
    arrival: impl FnOnce(&Arc<World>, Option<Arc<SimPeers>>) + Send + 'static,
) -> Duration {
    let mesh = world.mesh();
    let trip = mesh.trip(world, from.ip(), to.ip());
    if mesh.is_cut(from.ip(), to.ip()) {
        world.count("trips between nodes that were cut");
        return trip;
    }
    let arrival: Arrival = Box::new(arrival);
    let land = move |world: &Arc<World>| match world.mesh().process(to) {
        None => arrival(world, None),
        Some(there) => {
            let stall = Arc::clone(there.stall());
            let land = move |world: &Arc<World>| {
                let there = Some(there).filter(|there| there.is_alive());
                arrival(world, there);
            };
            stall.when_awake(world, Box::new(land));
        }
    };
    world.schedule(trip, Box::new(land));
    trip
}
