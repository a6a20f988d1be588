//! The STUN corpus: what has a key verifies, what browsers sent is read, everything else survives.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::tests::octets;
use super::*;

fn folder() -> PathBuf {
    std::env::var_os("WEFT_DATA")
        .map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
            PathBuf::from,
        )
        .join("stun")
}

/// One line of the manifest.
struct Case {
    file: String,
    packet: Vec<u8>,
    must_parse: bool,
    key: Option<Vec<u8>>,
    has_fingerprint: bool,
}

fn cases() -> Vec<Case> {
    let Ok(manifest) = std::fs::read_to_string(folder().join("MANIFEST.jsonl")) else {
        println!("stun: no data, nothing run");
        return Vec::new();
    };
    manifest
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
            let text = |name: &str| row[name].as_str().unwrap_or("").to_owned();
            let file = text("file");
            Case {
                packet: std::fs::read(folder().join(&file)).expect("readable data"),
                must_parse: text("parse") == "ok",
                key: row["key_hex"].as_str().map(octets),
                has_fingerprint: text("verified_here").contains("fp"),
                file,
            }
        })
        .collect()
}

#[test]
fn the_stun_corpus_verifies_or_survives() {
    let cases = cases();
    let (mut read, mut verified) = (0, 0);
    for case in &cases {
        #[expect(clippy::disallowed_methods, reason = "a test measures its own bound")]
        let start = Instant::now();
        let _ = username(&case.packet);
        let message = Message::read(&case.packet);
        assert!(
            start.elapsed() < Duration::from_millis(100),
            "{}",
            case.file
        );
        read += usize::from(message.is_ok());
        assert!(
            message.is_ok() || !case.must_parse,
            "{}: {message:?}",
            case.file
        );
        if let (Ok(message), Some(key)) = (message, &case.key) {
            assert!(
                message.is_authentic(&IntegrityKey::new(key)),
                "{}",
                case.file
            );
            assert_eq!(
                message.has_fingerprint, case.has_fingerprint,
                "{}",
                case.file
            );
            verified += 1;
        }
    }
    let count = cases.len();
    println!("stun corpus: {count} cases, {read} read, {verified} verified, 0 panics");
    assert!(cases.is_empty() || (verified == 2 && read >= 15));
}

#[test]
fn one_flipped_bit_of_a_verified_file_fails() {
    let mut flips = 0;
    for mut case in cases() {
        let Some(key) = case.key.take().map(|key| IntegrityKey::new(&key)) else {
            continue;
        };
        for bit in 0..case.packet.len() * 8 {
            case.packet[bit / 8] ^= 1 << (bit % 8);
            let passes = Message::read(&case.packet).is_ok_and(|message| {
                message.is_authentic(&key) && message.has_fingerprint == case.has_fingerprint
            });
            assert!(!passes, "{} bit {bit}", case.file);
            case.packet[bit / 8] ^= 1 << (bit % 8);
            flips += 1;
        }
    }
    println!("stun corpus: {flips} flipped bits fail");
}
