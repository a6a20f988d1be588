//! The command line (`interfaces.md` §1): what may be said, and who does it.
//!
//! In: arguments. Out: an exit code: 0 done, 1 failed at run time, 2 the operator's input is wrong.
//! Commands that ask a running node go through its HTTP API like everybody else.

mod ask;
mod client;
mod fleet;
mod follow;
mod ladder;
mod local;
mod steer;
mod table;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use contract::limits::DRAIN_MAX_S;

pub use ask::ask;
pub use fleet::local;
pub use follow::follow;
pub(crate) use local::sources;
pub use local::{check, defaults, initial, version};
pub use table::Paint;

/// Done.
pub const EXIT_DONE: u8 = 0;
/// Failed at run time.
pub const EXIT_FAILED: u8 = 1;
/// The operator's input is wrong.
pub const EXIT_INPUT: u8 = 2;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "weft",
    about = "A distributed call fabric: phones, trunks and calls as supervised actors",
    args_conflicts_with_subcommands = true,
    disable_version_flag = true
)]
pub struct Cli {
    /// What to run if there is no command.
    #[command(flatten)]
    pub run: RunArgs,
    /// The command.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node (also without a command).
    Run(RunArgs),
    /// Run a whole cluster on this machine, for trying things out.
    Local(LocalArgs),
    /// Load and validate a configuration and print the effective one.
    Check(LayerArgs),
    /// Print the default configuration, a table or a key of it, with unit, range and meaning.
    Defaults {
        /// As `media` or `media.workers`.
        key: Option<String>,
    },
    /// Write a first site configuration with random passwords, and print each phone's settings.
    Init(InitArgs),
    /// List actors.
    Actors(ActorsArgs),
    /// Show everything about one actor.
    Inspect(OneArgs),
    /// Show what an actor was told and told others; for a call as a ladder.
    Trace(TraceArgs),
    /// List nodes.
    Nodes(AskArgs),
    /// Follow what happens to calls, registrations and nodes of the cluster.
    Events(EventsArgs),
    /// End an actor: a call hangs up, a registration loses its bindings.
    Stop(StopArgs),
    /// Move a call, a registration or a gateway to another node.
    Move(MoveArgs),
    /// Move everything of a node to the others and end it.
    Drain(DrainArgs),
    /// Print version, commit, and schema and protocol ranges.
    Version(VersionArgs),
}

/// Layers of configuration.
#[derive(Clone, Debug, Default, Args)]
pub struct LayerArgs {
    /// Configuration file; a later one overrides an earlier one.
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Load the demo accounts and routes also with --config.
    #[arg(long)]
    pub demo: bool,
    /// Override one key, as media.rtp_timeout_s=30.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Arguments of `run`.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// Layers of configuration.
    #[command(flatten)]
    pub layers: LayerArgs,
    /// Form of the log on stderr; overrides log.format.
    #[arg(long, value_name = "FORMAT")]
    pub log: Option<LogForm>,
}

/// Arguments of `local`.
#[derive(Clone, Debug, Args)]
pub struct LocalArgs {
    /// How many nodes, 1-9; the first one is 127.0.0.1, the next 127.0.0.2, …
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// Folder of their state, configurations and logs.
    #[arg(long, value_name = "FOLDER", default_value = "weft-data/local")]
    pub data: PathBuf,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Arguments of `init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// Address of this node that phones can reach.
    #[arg(long, value_name = "ADDRESS")]
    pub address: String,
    /// Domain of the accounts.
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// File to write; an existing one is kept.
    #[arg(long, value_name = "FILE", default_value = "weft.toml")]
    pub output: PathBuf,
}

/// How a running node is asked.
#[derive(Clone, Debug, Args)]
pub struct AskArgs {
    /// A node's HTTP listener.
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: String,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
    /// Folder whose admin.token is used if WEFT_TOKEN is not set.
    #[arg(long, default_value = "weft-data", value_name = "FOLDER")]
    pub data: PathBuf,
}

/// Arguments of `actors`.
#[derive(Clone, Debug, Args)]
pub struct ActorsArgs {
    /// How to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Of this kind only, as call, dialog, registration.
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// On this node only.
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// Whose ID contains this.
    #[arg(short, long, value_name = "TEXT")]
    pub query: Option<String>,
    /// Most rows, 1-1000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub limit: u16,
    /// Rows to pass over.
    #[arg(long, default_value_t = 0)]
    pub offset: usize,
}

/// Arguments of `events`.
#[derive(Clone, Debug, Args)]
pub struct EventsArgs {
    /// How to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Go on where a reader was, whatever node it read; `oldest`: everything that is kept.
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
    /// Of this call only.
    #[arg(long, value_name = "ID")]
    pub call: Option<String>,
    /// Of these kinds only, as call.answered,call.ended.
    #[arg(long, value_name = "KINDS")]
    pub kind: Option<String>,
}

/// Arguments of `inspect`.
#[derive(Clone, Debug, Args)]
pub struct OneArgs {
    /// How to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// ID of the actor, as call:… or registration:1000@weft.local.
    pub id: String,
}

/// Arguments of `trace`.
#[derive(Clone, Debug, Args)]
pub struct TraceArgs {
    /// How to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// ID of the actor.
    pub id: String,
    /// Every line, not only the signalling of the two ends.
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `stop`.
#[derive(Clone, Debug, Args)]
pub struct StopArgs {
    /// How to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// ID of the actor.
    pub id: String,
    /// Only if it still has this epoch.
    #[arg(long, value_name = "EPOCH")]
    pub epoch: Option<u64>,
}

/// Arguments of `move`.
#[derive(Clone, Debug, Args)]
pub struct MoveArgs {
    /// How to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// ID of the actor.
    pub id: String,
    /// Name or number of the node.
    #[arg(long, value_name = "NODE")]
    pub to: String,
    /// Only if it still has this epoch.
    #[arg(long, value_name = "EPOCH")]
    pub epoch: Option<u64>,
}

/// Arguments of `drain`.
#[derive(Clone, Debug, Args)]
pub struct DrainArgs {
    /// How to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Name or number of the node; the one that is asked if there is none.
    pub node: Option<String>,
    /// Seconds after which it ends though something is left.
    #[arg(long, value_name = "SECONDS", default_value_t = DRAIN_MAX_S, value_parser = clap::value_parser!(u32).range(1..=i64::from(DRAIN_MAX_S)))]
    pub max: u32,
}

/// Arguments of `version`.
#[derive(Clone, Debug, Args)]
pub struct VersionArgs {
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Something that a command could not do.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// For people, on stderr.
    pub text: String,
}

impl Failure {
    /// The operator's input is wrong.
    #[must_use]
    pub fn input(text: impl std::fmt::Display) -> Self {
        Failure {
            code: EXIT_INPUT,
            text: text.to_string(),
        }
    }

    /// It failed at run time.
    #[must_use]
    pub fn run(text: impl std::fmt::Display) -> Self {
        Failure {
            code: EXIT_FAILED,
            text: text.to_string(),
        }
    }
}
