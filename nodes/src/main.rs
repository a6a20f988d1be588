//! The `weft` program: reads the command line and hands over (`interfaces.md` §1).

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use weft::cli::{self, Cli, Command, EXIT_DONE, Failure, Paint};

fn main() -> ExitCode {
    let done = match Cli::parse() {
        Cli { command: None, run } => weft::run::run(&run),
        Cli {
            command: Some(command),
            ..
        } => carry_out(&command),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(Failure { code, text }) => {
            let _ = writeln!(std::io::stderr(), "weft: {text}");
            ExitCode::from(code)
        }
    }
}

fn carry_out(command: &Command) -> Result<u8, Failure> {
    if let Some(answer) = cli::ask(command, Paint::for_stdout()) {
        return print(&answer?);
    }
    match command {
        Command::Run(arguments) => weft::run::run(arguments),
        Command::Local(arguments) => cli::local(arguments),
        Command::Events(arguments) => cli::follow(arguments),
        Command::Check(layers) => print(&cli::check(layers)?),
        Command::Defaults { key } => print(&cli::defaults(key.as_deref())?),
        Command::Init(arguments) => print(&cli::initial(arguments)?),
        Command::Version(arguments) => print(&cli::version(arguments.json)),
        Command::Actors(_)
        | Command::Inspect(_)
        | Command::Trace(_)
        | Command::Nodes(_)
        | Command::Stop(_)
        | Command::Move(_)
        | Command::Drain(_) => Err(Failure::run("a command that nobody carries out")),
    }
}

/// Prints for people or programs; a reader that has gone away is no failure.
fn print(text: &str) -> Result<u8, Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::run(error)),
        Ok(()) | Err(_) => Ok(EXIT_DONE),
    }
}
