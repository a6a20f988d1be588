//! `sim`: runs seeds, prints hashes, what was exercised, and for a failure the line that repeats it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use sim::ledger::{Entry, append};
use sim::marks;
use sim::mesh::{GOSSIP_OCTETS, OCTETS};
use sim::plan::{FaultKind, Plan, Steady};
use sim::planted::Bug;
use sim::run::{Outcome, run};
use sim::shrink::shrink;

/// The deterministic simulator of Weft.
#[derive(Clone, Debug, Parser)]
#[command(name = "sim", version)]
struct Arguments {
    /// Run this seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run this many seeds, from --first on.
    #[arg(long)]
    seeds: Option<u64>,
    /// First seed of --seeds.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: u16,
    /// Length of the hostile phase in minutes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    minutes: u64,
    /// Faults: all, none, or names with commas (crash, panic, weather, slow_disk, full_disk; in a cluster
    /// also cut, one_way_cut, slow_link, stall).
    #[arg(long, default_value = "all")]
    faults: String,
    /// Keep only the faults of these numbers (as a shrunk failure prints them).
    #[arg(long, value_delimiter = ',')]
    keep: Option<Vec<usize>>,
    /// Number of phones instead of the seed's.
    #[arg(long)]
    phones: Option<u32>,
    /// Phones set where calls to them go, and that they are not to be disturbed, by feature codes.
    #[arg(long)]
    forwards: bool,
    /// Phones put each other through, to numbers and to whom they talk to.
    #[arg(long)]
    transfers: bool,
    /// Phones call groups: all of one at once, or in turn.
    #[arg(long)]
    groups: bool,
    /// Phones park each other, and take who is parked.
    #[arg(long)]
    parking: bool,
    /// Every phone stays with its node; else some are behind a balancer, or go to another node.
    #[arg(long)]
    sticky: bool,
    /// So many long calls without sound, and registrations of ten minutes, instead of what the seed's phones
    /// like; ends with the simulated seconds per second.
    #[arg(long)]
    steady: Option<u32>,
    /// With --steady: the last node joins at half time.
    #[arg(long, requires = "steady")]
    join: bool,
    /// Plant a bug (deaf, lonely_claim, forgetful_merge, early_word): it must be found.
    #[arg(long)]
    plant: Option<Bug>,
    /// Write every happening of the run to a file (one seed).
    #[arg(long, requires = "seed")]
    trace: Option<PathBuf>,
    /// Write the faults of each run, with numbers and times, to a file.
    #[arg(long)]
    events: Option<PathBuf>,
    /// Write the hash of each seed to a file.
    #[arg(long)]
    hashes: Option<PathBuf>,
    /// Append what was run to this ledger.
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// Shrink the first failure.
    #[arg(long)]
    shrink: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let allowed = match allowed(&arguments.faults, arguments.nodes) {
        Ok(allowed) => allowed,
        Err(error) => {
            eprintln!("--faults: {error}");
            return ExitCode::from(2);
        }
    };
    // A panic that was ordered is told in the log; the default hook would print it as well.
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        if !text.contains(sim::sabotage::WORD) {
            eprintln!("{text}");
        }
    }));
    match carry_out(&arguments, &allowed) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn allowed(text: &str, nodes: u16) -> Result<Vec<FaultKind>, String> {
    match text {
        "all" => Ok(FaultKind::all(nodes)),
        "none" => Ok(Vec::new()),
        names => names.split(',').map(|name| name.trim().parse()).collect(),
    }
}

fn plan_of(arguments: &Arguments, allowed: &[FaultKind], seed: u64) -> Plan {
    let mut plan = Plan::draw(seed, arguments.minutes, arguments.nodes, allowed);
    if let Some(numbers) = &arguments.keep {
        plan.keep(numbers);
    }
    plan.phones = arguments.phones.unwrap_or(plan.phones);
    plan.planted = arguments.plant;
    if arguments.forwards {
        plan.forward();
    }
    if arguments.transfers {
        plan.transfer();
    }
    if arguments.groups {
        plan.group();
    }
    if arguments.parking {
        plan.park();
    }
    plan.sticky = arguments.sticky;
    plan.steady = arguments.steady.map(|calls| Steady {
        calls,
        is_joined: arguments.join,
    });
    plan.sticky |= arguments.join;
    if plan.steady.is_some() {
        // What is measured is a cluster that nothing ails.
        plan.faults.clear();
        plan.mixed = false;
    }
    plan
}

/// Runs what was asked for and returns how many seeds failed.
fn carry_out(arguments: &Arguments, allowed: &[FaultKind]) -> Result<u64, std::io::Error> {
    let (first, count) = match (arguments.seed, arguments.seeds) {
        (Some(seed), _) => (seed, 1),
        (None, seeds) => (arguments.first, seeds.unwrap_or(1)),
    };
    let plans: Vec<_> = (first..first + count)
        .map(|seed| plan_of(arguments, allowed, seed))
        .collect();
    if let Some(path) = &arguments.events {
        let mut file = File::create(path)?;
        for plan in &plans {
            for (number, at, fault) in &plan.faults {
                writeln!(file, "seed {} fault {number} at {at:?}: {fault}", plan.seed)?;
            }
        }
    }
    let trace = arguments.trace.as_ref().map(File::create).transpose()?;
    let watch = Stopwatch::start();
    let outcomes = run_all(&plans, trace);
    let took = watch.seconds();
    if let Some(path) = &arguments.hashes {
        let mut file = File::create(path)?;
        for (plan, outcome) in plans.iter().zip(&outcomes) {
            writeln!(file, "{} {:016x}", plan.seed, outcome.hash)?;
        }
    }
    report(arguments, &plans, &outcomes);
    if arguments.steady.is_some() {
        let simulated: f64 = outcomes.iter().map(|one| one.length.as_secs_f64()).sum();
        println!("{:.1} simulated seconds per second", simulated / took);
        print_cost(&plans, &outcomes);
    }
    let failed = outcomes
        .iter()
        .filter(|outcome| outcome.broken.is_some())
        .count() as u64;
    if let Some(path) = &arguments.ledger {
        let commit = std::env::var("WEFT_COMMIT").unwrap_or_else(|_| "uncommitted".to_owned());
        let (minutes, faults) = (arguments.minutes, arguments.faults.clone());
        append(
            path,
            &Entry {
                commit,
                first,
                count,
                nodes: arguments.nodes,
                minutes,
                faults,
                failed,
            },
        )?;
    }
    Ok(failed)
}

/// Time as it passes outside of the simulation.
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it is measured, and not simulated"
)]
struct Stopwatch(std::time::Instant);

#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it is measured, and not simulated"
)]
impl Stopwatch {
    fn start() -> Self {
        Stopwatch(std::time::Instant::now())
    }

    fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Runs plans on all cores: each run is one thread's alone.
fn run_all(plans: &[Plan], trace: Option<File>) -> Vec<Outcome> {
    if let ([plan], trace) = (plans, trace) {
        return vec![run(plan, trace)];
    }
    let next = AtomicU64::new(0);
    let results = Mutex::new(BTreeMap::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
                    let Some(plan) = plans.get(at) else { return };
                    let outcome = run(plan, None);
                    results
                        .lock()
                        .expect("no runner holds it in a panic")
                        .insert(at, outcome);
                }
            });
        }
    });
    results
        .into_inner()
        .expect("all runners have ended")
        .into_values()
        .collect()
}

fn report(arguments: &Arguments, plans: &[Plan], outcomes: &[Outcome]) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut simulated = 0.0;
    for outcome in outcomes {
        simulated += outcome.length.as_secs_f64();
        for (what, count) in &outcome.counts {
            *counts.entry(what.as_str()).or_default() += count;
        }
    }
    if let ([plan], [outcome]) = (plans, outcomes) {
        println!(
            "seed {} hash {:016x} steps {}",
            plan.seed, outcome.hash, outcome.steps
        );
    } else {
        println!("{} seeds, {simulated:.0} simulated seconds", plans.len());
    }
    if arguments.nodes > 1 {
        for mark in marks::ALL {
            counts.entry(mark).or_default();
        }
    }
    for (what, count) in counts {
        println!("  {count:>10}  {what}");
    }
    print_noticed(outcomes);
    let mut failures = plans
        .iter()
        .zip(outcomes)
        .filter(|(_, outcome)| outcome.broken.is_some())
        .peekable();
    if failures.peek().is_none() {
        println!("all promises held");
    }
    for (number, (plan, outcome)) in failures.enumerate() {
        let (plan, outcome) = if arguments.shrink && number == 0 {
            println!("seed {} fails; shrinking", plan.seed);
            shrink(plan, outcome)
        } else {
            (plan.clone(), outcome.clone())
        };
        print_failure(arguments, &plan, &outcome);
    }
}

/// Prints what nodes say to each other: a node, a second, without TLS and signs of life; in the second
/// half, when they have found each other.
fn print_cost(plans: &[Plan], outcomes: &[Outcome]) {
    for (plan, outcome) in plans.iter().zip(outcomes) {
        let share = (plan.hostile / 2).as_secs_f64() * f64::from(plan.nodes);
        let said = [
            (OCTETS, outcome.cost.frames),
            (GOSSIP_OCTETS, outcome.cost.gossip),
        ];
        for (what, octets) in said {
            let octets = u32::try_from(octets).map_or(f64::INFINITY, f64::from);
            println!(
                "{:.2} kB a node and second: {what}",
                octets / share / 1000.0
            );
        }
    }
}

/// Prints how long deaths of nodes took to be noticed.
fn print_noticed(outcomes: &[Outcome]) {
    let all = outcomes.iter().flat_map(|outcome| &outcome.noticed);
    let mut times: Vec<_> = all.collect();
    times.sort_unstable();
    let Some(last) = times.last() else { return };
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_millis();
    println!(
        "deaths noticed by untouched survivors: {}, after ms p50 {} p99 {} max {}",
        times.len(),
        at(50),
        at(99),
        last.as_millis()
    );
}

fn print_failure(arguments: &Arguments, plan: &Plan, outcome: &Outcome) {
    let Some(broken) = &outcome.broken else {
        return;
    };
    println!(
        "seed {}: {} does not hold: {}",
        plan.seed, broken.promise, broken.how
    );
    println!("  at {} s, happening {}", broken.at, broken.step);
    for (number, at, fault) in &plan.faults {
        println!("  fault {number} at {at:?}: {fault}");
    }
    let numbers: Vec<_> = plan
        .faults
        .iter()
        .map(|(number, _, _)| number.to_string())
        .collect();
    // Numbers none of which exists keep nothing.
    let keep = if numbers.is_empty() {
        "99999".to_owned()
    } else {
        numbers.join(",")
    };
    let nodes = if plan.nodes > 1 {
        format!(" --nodes {}", plan.nodes)
    } else {
        String::new()
    };
    let bug = plan
        .planted
        .map_or(String::new(), |bug| format!(" --plant {}", bug.name()));
    let sticky = if plan.sticky { " --sticky" } else { "" };
    let forwards = if plan.forwards { " --forwards" } else { "" };
    let transfers = if plan.transfers { " --transfers" } else { "" };
    let groups = if plan.groups { " --groups" } else { "" };
    let parking = if plan.parks { " --parking" } else { "" };
    println!(
        "repeat: cargo run --release -p sim -- --seed {}{nodes}{bug}{sticky}{forwards}{transfers}{groups}{parking} --minutes {} --faults {} --phones {} --keep {keep}",
        plan.seed, arguments.minutes, arguments.faults, plan.phones
    );
}
