//! The plan of a run: everything that the seed decides before it starts, so that it can be shrunk.
//!
//! In: a seed, the faults that are allowed. Out: phones, and faults with their times.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use contract::{Entropy, Kind};

use crate::store::DiskMood;
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
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [FaultKind; 5] = [
        FaultKind::Crash,
        FaultKind::Panic,
        FaultKind::Weather,
        FaultKind::SlowDisk,
        FaultKind::FullDisk,
    ];

    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            FaultKind::Crash => "crash",
            FaultKind::Panic => "panic",
            FaultKind::Weather => "weather",
            FaultKind::SlowDisk => "slow_disk",
            FaultKind::FullDisk => "full_disk",
        }
    }
}

impl FromStr for FaultKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = FaultKind::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
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
        /// How bad.
        mood: DiskMood,
        /// How long.
        lasts: Duration,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Crash { away } => write!(f, "crash, away {away:?}"),
            Fault::Panic { kind, after, times } => {
                write!(
                    f,
                    "panic of a {} after {after} events, {times} times",
                    kind.word()
                )
            }
            Fault::Weather { weather, lasts } => write!(f, "{weather:?} for {lasts:?}"),
            Fault::Disk { mood, lasts } => write!(f, "{mood:?} for {lasts:?}"),
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
    /// Number of phones.
    pub phones: u32,
    /// Phones of every make; without it, those over UDP and TCP with plain media alone.
    pub mixed: bool,
    /// Faults with their numbers and times from the start.
    pub faults: Vec<(usize, Duration, Fault)>,
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
    pub fn draw(seed: u64, minutes: u64, allowed: &[FaultKind]) -> Plan {
        let mut octets = [0; 32];
        octets[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = Entropy::from_seed(octets).split("plan");
        let hostile = Duration::from_secs(minutes * 60);
        let phones = 4 + rng.below(9);
        let mixed: Vec<_> = allowed
            .iter()
            .copied()
            .filter(|_| rng.below(3) > 0)
            .collect();
        let mut faults = Vec::new();
        if !mixed.is_empty() {
            let count = 1 + rng.below(6 * u32::try_from(minutes.max(1)).unwrap_or(1));
            for _ in 0..count {
                let kind = mixed[rng.below(u32::try_from(mixed.len()).unwrap_or(1)) as usize];
                let latest = u32::try_from(hostile.as_millis()).unwrap_or(u32::MAX);
                let at = Duration::from_millis(u64::from(rng.below(latest)));
                faults.push((at, draw_fault(kind, &mut rng)));
            }
        }
        faults.sort_by_key(|(at, _)| *at);
        let numbered = faults.into_iter().enumerate();
        let faults = numbered
            .map(|(number, (at, fault))| (number, at, fault))
            .collect();
        Plan {
            seed,
            hostile,
            phones,
            mixed: true,
            faults,
        }
    }

    /// Keeps only the faults of these numbers.
    pub fn keep(&mut self, numbers: &[usize]) {
        self.faults
            .retain(|(number, _, _)| numbers.contains(number));
    }
}

fn draw_fault(kind: FaultKind, rng: &mut Entropy) -> Fault {
    let lasts = Duration::from_millis(u64::from(500 + rng.below(15_000)));
    match kind {
        FaultKind::Crash => {
            let long = rng.below(5) == 0;
            let away = if long {
                rng.below(15_000)
            } else {
                rng.below(1_500)
            };
            Fault::Crash {
                away: Duration::from_millis(u64::from(20 + away)),
            }
        }
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
            mood: DiskMood {
                flush_us_max: 1_000 + rng.below(400_000),
                full: false,
            },
            lasts,
        },
        FaultKind::FullDisk => Fault::Disk {
            mood: DiskMood {
                flush_us_max: 500,
                full: true,
            },
            lasts,
        },
    }
}
