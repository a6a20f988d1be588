//! `weft local`: a whole cluster on this machine, for trying things out.
//!
//! In: how many nodes, a folder. Out: one process of this program a node, each on a loopback address
//! of its own, with one secret; a table of where to look. It watches them: a node that ends is told
//! and stays ended, so that its death can be looked at. Ctrl-C ends all.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::table::{Paint, table};
use super::{EXIT_DONE, Failure, LocalArgs};
use crate::config::cluster_key;
use crate::env_os::{pause, random, within};

/// Ports of WebRTC media of one node, as many as there may be workers; below those of plain RTP.
const WEBRTC_PORTS: u16 = 64;
const WEBRTC_FIRST: u16 = 16_300;
/// How often the processes are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Time in which a node must end when it is told to.
const ENDING: Duration = Duration::from_secs(6);

/// One process.
struct Running {
    name: String,
    child: Child,
}

/// Runs the nodes until a signal, or until the last of them has ended.
///
/// # Errors
/// If a file cannot be written or a process not be started.
pub fn local(arguments: &LocalArgs) -> Result<u8, Failure> {
    let folder = std::path::absolute(&arguments.data).map_err(Failure::run)?;
    fs::create_dir_all(&folder)
        .map_err(|error| Failure::input(format!("--data {}: {error}", folder.display())))?;
    cluster_key(&folder.join("cluster.key"), &random).map_err(Failure::input)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::run)?;
    let mut nodes = Vec::new();
    for number in 1..=arguments.nodes {
        match start(&folder, number, arguments.nodes) {
            Ok(node) => nodes.push(node),
            Err(failure) => {
                runtime.block_on(end(&mut nodes));
                return Err(failure);
            }
        }
    }
    say(&banner(&folder, &nodes));
    let watched = runtime.block_on(watch(&mut nodes));
    runtime.block_on(end(&mut nodes));
    watched.map(|()| EXIT_DONE)
}

fn start(folder: &Path, number: u16, count: u16) -> Result<Running, Failure> {
    let name = name(number);
    let file = folder.join(format!("{name}.toml"));
    let failed =
        |what: &Path, error: std::io::Error| Failure::run(format!("{}: {error}", what.display()));
    fs::write(&file, configuration(folder, number, count)).map_err(|error| failed(&file, error))?;
    let log = folder.join(format!("{name}.log"));
    let log_file = File::create(&log).map_err(|error| failed(&log, error))?;
    let program = std::env::current_exe().map_err(Failure::run)?;
    let child = Command::new(&program)
        .args(["run", "--demo", "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log_file)
        .spawn()
        .map_err(|error| failed(&program, error))?;
    Ok(Running { name, child })
}

fn name(number: u16) -> String {
    format!("weft-{number}")
}

/// Returns what a node of the cluster says of itself; the rest is the embedded default.
pub(super) fn configuration(folder: &Path, number: u16, count: u16) -> String {
    let host = format!("127.0.0.{number}");
    let at = |port: u16| format!("[\"{host}:{port}\"]");
    let seeds: Vec<String> = (1..=count)
        .map(|node| format!("\"127.0.0.{node}:7946\""))
        .collect();
    let name = name(number);
    let webrtc_port = WEBRTC_FIRST - (number - 1) * WEBRTC_PORTS;
    let folder = folder.display();
    let mut text =
        format!("# Node {number} of {count} on this machine, as `weft local` runs it.\n\n");
    let _ = write!(
        text,
        "[node]\nname = \"{name}\"\ndata = \"{folder}/{name}\"\n\n\
         [cluster]\nlisten = \"{host}:7946\"\nseeds = [{}]\nsecret_file = \"../cluster.key\"\n\n\
         [[profile]]\nname = \"internal\"\nudp = {}\ntcp = {}\ntls = {}\nws = {}\nwss = {}\n\n\
         [media]\nwebrtc_port = {webrtc_port}\n\n\
         [http]\nlisten = {}\ntls = {}\n",
        seeds.join(", "),
        at(5_060),
        at(5_060),
        at(5_061),
        at(5_066),
        at(7_443),
        at(8_080),
        at(8_443)
    );
    text
}

fn banner(folder: &Path, nodes: &[Running]) -> String {
    let rows: Vec<Vec<String>> = (1..)
        .zip(nodes)
        .map(|(number, node): (u16, &Running)| {
            vec![
                node.name.clone(),
                node.child.id().to_string(),
                format!("127.0.0.{number}:5060"),
                format!("http://127.0.0.{number}:8080/phone"),
                log_of(folder, &node.name).display().to_string(),
            ]
        })
        .collect();
    let heads = ["NODE", "PROCESS", "SIP", "PHONE", "LOG"];
    let mut text = table(&heads, &rows, Paint::for_stdout());
    let first = folder.join(name(1));
    let _ = write!(
        text,
        "Try       weft nodes --data {}\n          kill -9 {}\nEnd       Ctrl-C\n",
        first.display(),
        nodes.last().map_or(0, |node| node.child.id())
    );
    text
}

fn log_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

/// Tells which nodes end, until none is left or the operator wants no more.
async fn watch(nodes: &mut Vec<Running>) -> Result<(), Failure> {
    let mut terminated = signal(SignalKind::terminate()).map_err(Failure::run)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(Failure::run)?;
    while !nodes.is_empty() {
        tokio::select! {
            biased;
            _ = terminated.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
            () = pause(LOOK) => {}
        }
        nodes.retain_mut(|node| match node.child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                say(&format!("{} has ended: {status}\n", node.name));
                false
            }
            Err(error) => {
                say(&format!("{}: {error}\n", node.name));
                false
            }
        });
    }
    Err(Failure::run("every node has ended; their logs say why"))
}

/// Ends what still runs: politely, then not.
async fn end(nodes: &mut Vec<Running>) {
    for node in nodes.iter() {
        if let Ok(pid) = i32::try_from(node.child.id()) {
            // One that has ended meanwhile needs no signal.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
    let all_ended = async {
        loop {
            nodes.retain_mut(|node| matches!(node.child.try_wait(), Ok(None)));
            if nodes.is_empty() {
                return;
            }
            pause(LOOK).await;
        }
    };
    let _ = within(ENDING, all_ended).await;
    for node in nodes {
        let _ = node.child.kill();
        let _ = node.child.wait();
    }
}

/// A reader of the output that has gone away is no failure.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
