//! Finding the test data.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::Read;
use std::path::PathBuf;

use base64::Engine;

/// One line of a manifest.
pub struct Entry {
    pub file: String,
    pub parse: String,
    pub note: String,
}

/// Returns the data folder, if it is there.
pub fn root() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let root = std::env::var_os("WEFT_DATA").map_or(beside, PathBuf::from);
    if !root.is_dir() {
        println!("no test data at {}: 0 cases", root.display());
        return None;
    }
    Some(root)
}

/// Returns the octets of a file of the data folder.
pub fn data(path: &str) -> Option<Vec<u8>> {
    std::fs::read(root()?.join(path)).ok()
}

/// Returns the lines of a folder's manifest; none without data.
pub fn entries(folder: &str) -> Vec<Entry> {
    let Some(root) = root() else {
        return Vec::new();
    };
    let manifest = std::fs::read_to_string(root.join(folder).join("MANIFEST.jsonl"));
    let text = |value: &serde_json::Value, key: &str| value[key].as_str().unwrap_or("").to_owned();
    manifest
        .expect("a manifest in every folder")
        .lines()
        .map(|line| {
            let value = serde_json::from_str(line).expect("a JSON object per line");
            Entry {
                file: text(&value, "file"),
                parse: text(&value, "parse"),
                note: text(&value, "note"),
            }
        })
        .collect()
}

/// Returns the generated attacks; none without data.
pub fn attacks() -> Vec<Vec<u8>> {
    let Some(packed) = data("sip-protos-style/cases.jsonl.gz") else {
        return Vec::new();
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..])
        .read_to_string(&mut text)
        .expect("gzipped text");
    let octets = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("a JSON object per line");
        let packed = value["sip_b64"]
            .as_str()
            .expect("base64 in every case")
            .to_owned();
        base64::engine::general_purpose::STANDARD
            .decode(packed)
            .expect("base64")
    };
    text.lines().map(octets).collect()
}

/// Returns all messages of the corpora of single files.
pub fn messages() -> Vec<(String, Vec<u8>)> {
    [
        "sip-rfc4475",
        "sip-rfc5118",
        "sip-jsip-torture",
        "sip-seeds",
    ]
    .iter()
    .flat_map(|folder| {
        entries(folder).into_iter().filter_map(move |entry| {
            let path = format!("{folder}/{}", entry.file);
            data(&path).map(|octets| (path, octets))
        })
    })
    .collect()
}
