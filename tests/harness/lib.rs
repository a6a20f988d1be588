//! What the suites share: a node as a child process on free ports of the loopback, sipp as a
//! peer, the HTTP API as a client.
//!
//! In: what a suite wants. Out: processes that end with it. It knows nothing of Weft's insides:
//! all that it sees comes over sockets, files and exit codes.

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

pub mod baresip;
pub mod bridge;
pub mod browser;
pub mod capture;
pub mod cluster;
pub mod crowd;
pub mod events;
pub mod http;
pub mod media;
pub mod node;
pub mod pair;
pub mod phone;
pub mod plain;
pub mod ports;
pub mod ringing;
pub mod roaming;
pub mod sipp;
pub mod wait;
pub mod wire;

use std::path::PathBuf;
use std::process::{Child, Command};

/// Returns the workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("tests lies in the workspace")
        .to_path_buf()
}

/// Tells whether a peer was left out on the command line (`tests/run --without NAME`).
#[must_use]
pub fn is_left_out(peer: &str) -> bool {
    std::env::var("WEFT_WITHOUT").is_ok_and(|names| names.split_whitespace().any(|n| n == peer))
}

/// Tells whether one of the peers was left out on the command line (`tests/run --without NAME`),
/// and says so.
#[must_use]
pub fn lacks(peers: &[&str]) -> bool {
    let lacking = peers.iter().find(|peer| is_left_out(peer));
    if let Some(peer) = lacking {
        println!("left out: {peer}");
    }
    lacking.is_some()
}

/// Sends a signal, by its name, to a process of the suite's. The shell's own `kill` does it: the
/// program of that name is not on every machine.
pub fn signal(child: &Child, name: &str) {
    let command = format!("kill -{name} {}", child.id());
    let _ = Command::new("sh").args(["-c", &command]).status();
}
