//! Nothing from the wire panics a lane, and nothing of it is answered to more than its source.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::*;
use crate::script::{DIGEST, OPEN, datagram, sent};

fn data() -> Option<PathBuf> {
    let named = std::env::var_os("WEFT_DATA").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    named
        .into_iter()
        .chain([beside])
        .find(|folder| folder.is_dir())
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn published_torture_messages_are_survived_and_answered_to_their_source_only() {
    let Some(data) = data() else {
        println!("0 cases: no test data");
        return;
    };
    let mut cases = 0;
    for folder in [
        "sip-rfc4475",
        "sip-rfc5118",
        "sip-jsip-torture",
        "sip-seeds",
    ] {
        let mut found = Vec::new();
        files(&data.join(folder), &mut found);
        found.sort();
        for path in found {
            let octets = Bytes::from(std::fs::read(&path).expect("a readable file"));
            for listener in [DIGEST, OPEN] {
                let source = datagram(listener, "198.51.100.3:5060");
                let mut stage = stage();
                for _ in 0..2 {
                    let actions = receive(&mut stage, source, octets.clone());
                    for (flow, text) in sent(&actions) {
                        let is_home = flow.remote().ip() == source.remote().ip();
                        assert!(is_home && text.starts_with("SIP/2.0 "), "{path:?}: {flow}");
                    }
                }
                stage.pass(std::time::Duration::from_secs(4_000));
                assert_eq!(stage.core.state(), "0 transactions", "{path:?}");
            }
            cases += 1;
        }
    }
    println!("{cases} cases");
    assert!(cases > 40);
}

#[test]
fn a_message_cut_anywhere_is_survived() {
    let whole = draft("INVITE")
        .with("Proxy-Authorization: Digest username=\"x\"")
        .text();
    for end in 0..whole.len() {
        for listener in [DIGEST, OPEN] {
            let source = datagram(listener, "198.51.100.3:5060");
            let actions = receive(&mut stage(), source, whole.slice(..end));
            assert!(sent(&actions).len() <= 1, "{end}");
        }
    }
}
