//! The user's card: each crate is in `weft`'s tree and used in non-test code for its job
//! (`architecture.md` §6).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use weft_tests::root;

/// Crate, a text that its use leaves in non-test code, and the folder that must have it.
const CARD: [(&str, &str, &str); 14] = [
    ("ractor", "impl<R: Roster> Actor for", "fabric/runtime/src"),
    ("ractor", "handle_supervisor_evt", "fabric/runtime/src"),
    ("tokio", "tokio::net::", "nodes/src"),
    ("tokio", "runtime::Builder", "nodes/src"),
    ("rsip", "rsip::Method", "fabric/sip/src"),
    ("rsip", "rsip::Request", "fabric/sip/src"),
    (
        "webrtc_ice",
        "webrtc_ice::agent::Agent",
        "nodes/src/media_plane",
    ),
    // webrtc-dtls under its name since 0.13.
    (
        "dtls",
        "webrtc_dtls::conn::DTLSConn",
        "nodes/src/media_plane",
    ),
    (
        "webrtc_srtp",
        "webrtc_srtp::context::Context",
        "nodes/src/media_plane",
    ),
    ("webrtc_srtp", "decrypt_rtp", "nodes/src/media_plane"),
    ("sled", "sled::", "nodes/src/store_sled"),
    ("serde", "Serialize", "actors/src"),
    ("bincode", "bincode::serde::", "fabric/contract/src"),
    ("tracing", "tracing::", "fabric/runtime/src"),
];

#[test]
fn every_crate_of_the_card_is_in_the_tree_of_weft() {
    let tree = tree(&["-p", "weft"]);
    for (name, _, _) in CARD {
        assert!(
            tree.iter().any(|line| line == name),
            "{name} is not in `cargo tree -p weft`"
        );
    }
}

#[test]
fn every_crate_of_the_card_does_its_job_in_code_that_ships() {
    for (name, sign, folder) in CARD {
        let files = sources(&root().join(folder));
        let found = files.iter().any(|path| code(path).contains(sign));
        assert!(found, "{name}: nothing in {folder} says {sign:?}");
    }
}

#[test]
fn pure_crates_have_no_runtime_store_or_socket_in_their_tree() {
    for package in [
        "weft-contract",
        "weft-sip",
        "weft-media",
        "weft-doors",
        "weft-cluster",
        "weft-actors",
    ] {
        let tree = tree(&["-p", package]);
        // getrandom is not in the list: rsip, which is on the card, pulls it through uuid. That no
        // pure crate calls it is checked by `tidy`.
        for name in ["tokio", "ractor", "sled", "mio", "socket2", "nix"] {
            assert!(
                !tree.iter().any(|line| line == name),
                "{package} pulls {name}"
            );
        }
    }
}

fn tree(arguments: &[&str]) -> Vec<String> {
    let output = Command::new("cargo")
        .args([
            "tree",
            "-e",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{lib}",
            "--offline",
        ])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| line.trim().to_owned()).collect()
}

fn code(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs")
            && !path
                .file_stem()
                .is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
        {
            found.push(path);
        }
    }
    found
}
