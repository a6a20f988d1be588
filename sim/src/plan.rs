//! The plan of a run: everything that the seed decides before it starts, so that it can be shrunk.
//!
//! In: a seed, the faults that are allowed. Out: phones, and faults with their times.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use contract::{Entropy, Kind};

use crate::planted::Bug;
use crate::store::{Damage, DiskMood};
use crate::world::Weather;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The node's process ends as by `kill -9`, and starts again on the same disk.
    Crash,
    /// A core panics at its next event.
    Panic,
    /// Datagrams are lost, doubled, held back.
    Weather,
    /// The disk takes its time.
    SlowDisk,
    /// The disk takes no new entries for a while.
    FullDisk,
    /// Nothing gets from one node to the others, nor back.
    Cut,
    /// Nothing gets from one node to the others, or nothing back.
    OneWayCut,
    /// Trips between two nodes take long.
    SlowLink,
    /// A node's process does not run for a while.
    Stall,
    /// What lies on a node's disk is damaged, mostly while it is away.
    Damage,
}

impl FaultKind {
    /// Every kind that one node alone can have.
    pub const ALL: [FaultKind; 5] = [
        FaultKind::Crash,
        FaultKind::Panic,
        FaultKind::Weather,
        FaultKind::SlowDisk,
        FaultKind::FullDisk,
    ];

    /// Every kind that only a cluster can have.
    pub const CLUSTER: [FaultKind; 5] = [
        FaultKind::Cut,
        FaultKind::OneWayCut,
        FaultKind::SlowLink,
        FaultKind::Stall,
        FaultKind::Damage,
    ];

    /// Returns the kinds that so many nodes can have.
    #[must_use]
    pub fn all(nodes: u16) -> Vec<FaultKind> {
        let mut all = FaultKind::ALL.to_vec();
        if nodes > 1 {
            all.extend(FaultKind::CLUSTER);
        }
        all
    }

    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            FaultKind::Crash => "crash",
            FaultKind::Panic => "panic",
            FaultKind::Weather => "weather",
            FaultKind::SlowDisk => "slow_disk",
            FaultKind::FullDisk => "full_disk",
            FaultKind::Cut => "cut",
            FaultKind::OneWayCut => "one_way_cut",
            FaultKind::SlowLink => "slow_link",
            FaultKind::Stall => "stall",
            FaultKind::Damage => "damage",
        }
    }
}

impl FromStr for FaultKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = FaultKind::all(u16::MAX);
        let found = all.iter().copied().find(|kind| kind.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|kind| kind.name()).collect();
            format!(
                "{text:?} is no fault; there are: all, none, {}",
                names.join(", ")
            )
        })
    }
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `FaultKind::Crash`: how long the node is away.
    Crash {
        /// Which node of a cluster, from 1 on; 0: the only one.
        node: u16,
        /// Outage.
        away: Duration,
    },
    /// `FaultKind::Panic`: which kind of actor, and how many of its events are let pass.
    Panic {
        /// The kind.
        kind: Kind,
        /// Events let pass.
        after: u32,
        /// How often the same event kills: twice quarantines it.
        times: u32,
    },
    /// `FaultKind::Weather`.
    Weather {
        /// How bad.
        weather: Weather,
        /// How long.
        lasts: Duration,
    },
    /// `FaultKind::SlowDisk` and `FaultKind::FullDisk`.
    Disk {
        /// Which node of a cluster, from 1 on; 0: the only one.
        node: u16,
        /// How bad.
        mood: DiskMood,
        /// How long.
        lasts: Duration,
    },
    /// `FaultKind::Cut` and `FaultKind::OneWayCut`.
    Cut {
        /// Which node, from 1 on.
        node: u16,
        /// It is not heard.
        outward: bool,
        /// It does not hear.
        inward: bool,
        /// How long.
        lasts: Duration,
    },
    /// `FaultKind::SlowLink`.
    SlowLink {
        /// One node, from 1 on.
        node: u16,
        /// The other one.
        other: u16,
        /// What each trip takes longer, at least; at most twice that.
        extra_us: u32,
        /// How long.
        lasts: Duration,
    },
    /// `FaultKind::Stall`.
    Stall {
        /// Which node, from 1 on.
        node: u16,
        /// How long.
        lasts: Duration,
    },
    /// `FaultKind::Damage`. The runner leaves it out where it could take the last copy.
    Damage {
        /// Which node, from 1 on.
        node: u16,
        /// What.
        damage: Damage,
        /// How long the node is away; zero: it runs on.
        away: Duration,
    },
}

impl Fault {
    /// Returns how long it lasts.
    #[must_use]
    pub const fn lasts(&self) -> Duration {
        match self {
            Fault::Crash { away, .. } | Fault::Damage { away, .. } => *away,
            Fault::Panic { .. } => Duration::ZERO,
            Fault::Weather { lasts, .. }
            | Fault::Disk { lasts, .. }
            | Fault::Cut { lasts, .. }
            | Fault::SlowLink { lasts, .. }
            | Fault::Stall { lasts, .. } => *lasts,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Crash { node: 0, away } => write!(f, "crash, away {away:?}"),
            Fault::Crash { node, away } => write!(f, "crash of node {node}, away {away:?}"),
            Fault::Panic { kind, after, times } => {
                write!(
                    f,
                    "panic of a {} after {after} events, {times} times",
                    kind.word()
                )
            }
            Fault::Weather { weather, lasts } => write!(f, "{weather:?} for {lasts:?}"),
            Fault::Disk {
                node: 0,
                mood,
                lasts,
            } => write!(f, "{mood:?} for {lasts:?}"),
            Fault::Disk { node, mood, lasts } => {
                write!(f, "{mood:?} at node {node} for {lasts:?}")
            }
            Fault::Cut {
                node,
                outward,
                inward,
                lasts,
            } => {
                let what = match (outward, inward) {
                    (true, true) => "is cut off",
                    (true, false) => "is not heard",
                    (false, true) => "does not hear",
                    (false, false) => "is not cut",
                };
                write!(f, "node {node} {what} for {lasts:?}")
            }
            Fault::SlowLink {
                node,
                other,
                extra_us,
                lasts,
            } => write!(
                f,
                "nodes {node} and {other} are {extra_us} us farther apart for {lasts:?}"
            ),
            Fault::Stall { node, lasts } => write!(f, "node {node} stalls for {lasts:?}"),
            Fault::Damage { node, damage, away } => {
                write!(f, "{damage:?} at node {node}, away {away:?}")
            }
        }
    }
}

/// Everything that the seed decides beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Length of the hostile phase.
    pub hostile: Duration,
    /// Number of nodes.
    pub nodes: u16,
    /// Number of phones.
    pub phones: u32,
    /// Phones of every make; without it, those over UDP and TCP with plain media alone.
    pub mixed: bool,
    /// Phones set where calls to them go, by feature codes.
    pub forwards: bool,
    /// Phones put others through.
    pub transfers: bool,
    /// Phones call groups.
    pub groups: bool,
    /// Phones park calls, and take them.
    pub parks: bool,
    /// Every phone stays with its node.
    pub sticky: bool,
    /// Nodes that begin with the former release, and how many lives they have with it.
    pub former: Vec<(u16, u32)>,
    /// A load that does not change, instead of what the seed's phones like.
    pub steady: Option<Steady>,
    /// A bug that is planted.
    pub planted: Option<Bug>,
    /// Faults with their numbers and times from the start.
    pub faults: Vec<(usize, Duration, Fault)>,
}

/// Phones that register and do nothing else, but for some that call each other, and send no sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steady {
    /// Calls at any time.
    pub calls: u32,
    /// The last node comes at half time.
    pub is_joined: bool,
}

/// Kinds whose cores are made to panic.
const PANICKING: [Kind; 7] = [
    Kind::Registration,
    Kind::Call,
    Kind::Dialog,
    Kind::MediaLeg,
    Kind::Lane,
    Kind::Flow,
    Kind::Console,
];

impl Plan {
    /// Draws a plan. Each seed draws its own mix of the kinds that are allowed.
    #[must_use]
    pub fn draw(seed: u64, minutes: u64, nodes: u16, allowed: &[FaultKind]) -> Plan {
        let mut octets = [0; 32];
        octets[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = Entropy::from_seed(octets).split("plan");
        let hostile = Duration::from_secs(minutes * 60);
        let phones = (4 + rng.below(9)).max(u32::from(nodes) * 2);
        let possible = FaultKind::all(nodes);
        let mixed: Vec<_> = allowed
            .iter()
            .copied()
            .filter(|kind| possible.contains(kind) && *kind != FaultKind::Damage)
            .filter(|_| rng.below(3) > 0)
            .collect();
        let mut faults = Vec::new();
        if !mixed.is_empty() {
            let busy = if nodes > 1 { 12 } else { 6 };
            let count = 1 + rng.below(busy * u32::try_from(minutes.max(1)).unwrap_or(1));
            for _ in 0..count {
                let kind = mixed[rng.below(u32::try_from(mixed.len()).unwrap_or(1)) as usize];
                let latest = u32::try_from(hostile.as_millis()).unwrap_or(u32::MAX);
                let at = Duration::from_millis(u64::from(rng.below(latest)));
                faults.push((at, draw_fault(kind, nodes, &mut rng)));
            }
        }
        if allowed.contains(&FaultKind::Damage) && nodes > 1 {
            // By chances of its own: what else a seed draws is older.
            let mut own = Entropy::from_seed(octets).split("damage");
            faults.extend(draw_damages(hostile, nodes, &mut own));
        }
        let mut own = Entropy::from_seed(octets).split("schema");
        let former = draw_former(nodes, &mut own);
        if !former.is_empty() && allowed.contains(&FaultKind::Crash) {
            faults.extend(draw_upgrades(hostile, &former, &mut own));
        }
        faults.sort_by_key(|(at, _)| *at);
        let numbered = faults.into_iter().enumerate();
        let faults = numbered
            .map(|(number, (at, fault))| (number, at, fault))
            .collect();
        Plan {
            seed,
            hostile,
            nodes,
            phones,
            mixed: true,
            forwards: false,
            transfers: false,
            groups: false,
            parks: false,
            sticky: false,
            former,
            steady: None,
            planted: None,
            faults,
        }
    }

    /// Has phones set where calls to them go; nobody can before all nodes are of this release.
    pub fn forward(&mut self) {
        self.forwards = true;
        self.former.clear();
    }

    /// Has phones put others through; nobody can before all nodes are of this release.
    pub fn transfer(&mut self) {
        self.transfers = true;
        self.former.clear();
    }

    /// Has phones call groups; nobody can before all nodes are of this release.
    pub fn group(&mut self) {
        self.groups = true;
        self.former.clear();
    }

    /// Has phones park calls; nobody can before all nodes are of this release.
    pub fn park(&mut self) {
        self.parks = true;
        self.former.clear();
    }

    /// Keeps only the faults of these numbers.
    pub fn keep(&mut self, numbers: &[usize]) {
        self.faults
            .retain(|(number, _, _)| numbers.contains(number));
    }
}

/// Draws who begins with the former release: some nodes of one seed in two.
fn draw_former(nodes: u16, rng: &mut Entropy) -> Vec<(u16, u32)> {
    if nodes < 2 || rng.below(2) == 0 {
        return Vec::new();
    }
    let all = (1..=nodes).map(|node| (node, rng.below(2) == 0, 1 + rng.below(3)));
    let some: Vec<_> = all.filter(|(_, is_former, _)| *is_former).collect();
    some.iter()
        .map(|(node, _, lives)| (*node, *lives))
        .collect()
}

/// Draws when they are upgraded, as far as they are: by `kill -9`.
fn draw_upgrades(
    hostile: Duration,
    former: &[(u16, u32)],
    rng: &mut Entropy,
) -> Vec<(Duration, Fault)> {
    let latest = u32::try_from(hostile.as_millis()).unwrap_or(u32::MAX);
    let mut upgrades = Vec::new();
    for (node, _) in former {
        if rng.below(3) > 0 {
            let at = Duration::from_millis(u64::from(rng.below(latest)));
            let away = draw_away(rng);
            upgrades.push((at, Fault::Crash { node: *node, away }));
        }
    }
    upgrades
}

/// Draws damages: one seed in three has some.
fn draw_damages(hostile: Duration, nodes: u16, rng: &mut Entropy) -> Vec<(Duration, Fault)> {
    let count = if rng.below(3) == 0 {
        1 + rng.below(3)
    } else {
        0
    };
    let latest = u32::try_from(hostile.as_millis()).unwrap_or(u32::MAX);
    let mut draw = || {
        let at = Duration::from_millis(u64::from(rng.below(latest)));
        let damage = match rng.below(4) {
            0 => Damage::CutTail(1 + rng.below(40)),
            1 => Damage::Wipe,
            _ => Damage::Rot(1 + rng.below(12)),
        };
        let stays = matches!(damage, Damage::Rot(_)) && rng.below(2) == 0;
        let away = if stays {
            Duration::ZERO
        } else {
            draw_away(rng)
        };
        let node = 1 + u16::try_from(rng.below(u32::from(nodes))).unwrap_or(0);
        (at, Fault::Damage { node, damage, away })
    };
    (0..count).map(|_| draw()).collect()
}

fn draw_fault(kind: FaultKind, nodes: u16, rng: &mut Entropy) -> Fault {
    let lasts = Duration::from_millis(u64::from(500 + rng.below(15_000)));
    let node = draw_node(kind, nodes, rng);
    match kind {
        FaultKind::Crash => Fault::Crash {
            node,
            away: draw_away(rng),
        },
        FaultKind::Panic => {
            let kinds = u32::try_from(PANICKING.len()).unwrap_or(1);
            let kind = PANICKING[rng.below(kinds) as usize];
            Fault::Panic {
                kind,
                after: rng.below(40),
                times: 1 + rng.below(2),
            }
        }
        FaultKind::Weather => Fault::Weather {
            weather: Weather {
                lost: rng.below(2_500),
                doubled: rng.below(1_000),
                late: rng.below(1_500),
                damaged: rng.below(300),
            },
            lasts,
        },
        FaultKind::SlowDisk => Fault::Disk {
            node,
            mood: DiskMood {
                flush_us_max: 1_000 + rng.below(400_000),
                full: false,
            },
            lasts,
        },
        FaultKind::FullDisk => Fault::Disk {
            node,
            mood: DiskMood {
                flush_us_max: 500,
                full: true,
            },
            lasts,
        },
        FaultKind::Cut | FaultKind::OneWayCut => {
            let is_one_way = kind == FaultKind::OneWayCut;
            let outward = !is_one_way || rng.below(2) == 0;
            Fault::Cut {
                node,
                outward,
                inward: !is_one_way || !outward,
                lasts,
            }
        }
        FaultKind::SlowLink => Fault::SlowLink {
            node,
            other: node % nodes + 1,
            extra_us: 1_000 + rng.below(150_000),
            lasts,
        },
        FaultKind::Stall => Fault::Stall {
            node,
            lasts: Duration::from_millis(u64::from(50 + rng.below(1_950))),
        },
        FaultKind::Damage => Fault::Damage {
            node,
            damage: Damage::Wipe,
            away: draw_away(rng),
        },
    }
}

/// Draws how long a node is away: mostly as a supervisor starts it again, sometimes longer.
fn draw_away(rng: &mut Entropy) -> Duration {
    let long = rng.below(5) == 0;
    let away = if long {
        rng.below(15_000)
    } else {
        rng.below(1_500)
    };
    Duration::from_millis(u64::from(20 + away))
}

/// Draws the node that a fault is about. One alone draws nothing: its seeds are older than clusters.
fn draw_node(kind: FaultKind, nodes: u16, rng: &mut Entropy) -> u16 {
    match kind {
        FaultKind::Panic | FaultKind::Weather => 0,
        FaultKind::Crash
        | FaultKind::SlowDisk
        | FaultKind::FullDisk
        | FaultKind::Cut
        | FaultKind::OneWayCut
        | FaultKind::SlowLink
        | FaultKind::Stall
        | FaultKind::Damage => match nodes {
            0 | 1 => 0,
            _ => 1 + u16::try_from(rng.below(u32::from(nodes))).unwrap_or(0),
        },
    }
}
