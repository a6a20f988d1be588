//! Damage at rest: flips, zeroed pages, cut tails, deleted files. Nothing of it makes a wrong value,
//! a silent loss, a panic, or a store that does not open. `WEFT_DAMAGES=500` for the whole number.

use std::collections::BTreeMap;
use std::path::Path;

use contract::Entropy;

use super::tests::{
    Folder, commit, copy_folder, count_missing, key_of, open, put, roomy, value_of,
};
use super::*;

/// Damages, unless `WEFT_DAMAGES` says otherwise.
const COUNT: u32 = 60;
const VALUES: usize = 400;
const LENGTH: usize = 700;

/// Files of a data folder, with how often each is hurt: the database most.
const VICTIMS: [(&str, u32); 6] = [
    ("sled/db", 12),
    ("sled/conf", 2),
    ("sled/snap", 1),
    ("watermark", 2),
    ("boot", 1),
    ("ballast", 1),
];

/// Hurts a file; returns what was done, or none if there is no such file.
fn hurt(folder: &Path, chance: &mut Entropy) -> Option<String> {
    let sum: u32 = VICTIMS.iter().map(|(_, share)| share).sum();
    let mut drawn = chance.below(sum);
    let (name, _) = VICTIMS.iter().find(|(_, share)| {
        let is_it = drawn < *share;
        drawn = drawn.saturating_sub(*share);
        is_it
    })?;
    let named = folder.join(name);
    // sled numbers its snapshots.
    let path = match *name {
        "sled/snap" => {
            let entries = std::fs::read_dir(folder.join("sled")).ok()?.flatten();
            let is_snap = |path: &Path| path.to_string_lossy().contains("/snap");
            entries
                .map(|entry| entry.path())
                .find(|path| is_snap(path))?
        }
        _ => named,
    };
    let mut octets = std::fs::read(&path).ok()?;
    let length = u32::try_from(octets.len())
        .ok()
        .filter(|length| *length > 0)?;
    // Most of a log of few records is zeros.
    let used = octets.iter().rposition(|octet| *octet != 0).unwrap_or(0);
    let used = u32::try_from(used + 1).ok()?;
    let at = chance.below(used) as usize;
    let what = match chance.below(5) {
        0 => {
            octets[at] ^= 1 << chance.below(8);
            format!("a bit at {at}")
        }
        1 => {
            let end = (at + 8).min(octets.len());
            for octet in &mut octets[at..end] {
                *octet = u8::try_from(chance.below(256)).ok()?;
            }
            format!("noise at {at}")
        }
        2 => {
            let page = at / 4096 * 4096;
            let end = (page + 4096).min(octets.len());
            octets[page..end].fill(0);
            format!("the page at {page}")
        }
        3 => {
            octets.truncate(at);
            format!("cut to {at} of {length}")
        }
        _ => {
            std::fs::remove_file(&path).ok()?;
            return Some(format!("{name}: deleted"));
        }
    };
    std::fs::write(&path, octets).ok()?;
    Some(format!("{name}: {what}"))
}

/// Opens what was hurt, checks it, and goes on with it; returns a word for what came of it.
fn check(data: &Path, what: &str) -> &'static str {
    let config = StoreConfig {
        folder: data.to_owned(),
        thresholds: roomy(),
    };
    let (store, opened) = match SledStore::open(config, 1_000) {
        Ok(opened) => opened,
        Err(error) => panic!("{what}: it does not open: {error}"),
    };
    let missing = count_missing(&store, VALUES, LENGTH);
    let is_known = opened.quarantined && store.is_quarantined();
    assert!(
        missing == 0 || is_known,
        "{what}: {missing} are missing unnoticed"
    );
    assert!(!store.is_poisoned(), "{what}");
    // It takes new entries, and once lifted is as good as new.
    assert_eq!(commit(&store, put("h-new", b"goes on")), Ok(()), "{what}");
    store.lift_quarantine();
    assert!(!store.is_quarantined(), "{what}");
    drop(store);
    let (store, again) = open(data);
    assert!(!again.quarantined, "{what}: {again:?}");
    assert_eq!(count_missing(&store, VALUES, LENGTH), missing, "{what}");
    match (is_known, missing, opened.missing.aside.is_some()) {
        (false, ..) => "whole",
        (true, 0, false) => "quarantined, nothing missing",
        (true, 0, true) => "put aside, nothing missing",
        (true, VALUES, _) => "quarantined, all missing",
        (true, _, false) => "quarantined, some missing",
        (true, _, true) => "put aside, some rescued",
    }
}

/// A data folder as a node writes it: in many groups, not in one.
fn written() -> Folder {
    const AT_ONCE: usize = 8;
    let folder = Folder::new();
    let (store, _) = open(&folder.path("data"));
    for first in (0..VALUES).step_by(AT_ONCE) {
        let one = |number| put(&key_of(number), &value_of(number, LENGTH)).changes;
        let batch = Batch {
            changes: (first..first + AT_ONCE).flat_map(one).collect(),
            essential: false,
        };
        assert_eq!(commit(&store, batch), Ok(()));
    }
    drop(store);
    folder
}

#[test]
fn no_damage_at_rest_is_silent_or_keeps_the_store_shut() {
    let wanted = std::env::var("WEFT_DAMAGES").ok();
    let count = wanted.map_or(COUNT, |text| {
        text.parse().expect("WEFT_DAMAGES is a number")
    });
    let folder = written();
    let (mut verdicts, mut done) = (BTreeMap::<&str, u32>::new(), 0);
    for round in 0_u64.. {
        if done == count {
            break;
        }
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&round.to_le_bytes());
        let data = folder.path("hurt");
        copy_folder(&folder.path("data"), &data);
        if let Some(what) = hurt(&data, &mut Entropy::from_seed(seed)) {
            let verdict = check(&data, &format!("round {round}, {what}"));
            *verdicts.entry(verdict).or_default() += 1;
            done += 1;
        }
        std::fs::remove_dir_all(&data).expect("it goes away");
    }
    println!("{done} damages: {verdicts:?}");
    assert!(verdicts.len() > 1, "the damage hit nothing");
}

/// A page in the middle that cannot be read takes only itself along.
#[test]
fn what_can_be_read_of_a_damaged_database_is_rescued() {
    let folder = Folder::new();
    let data = folder.path("data");
    let (store, _) = open(&data);
    for number in 0..VALUES {
        let value = value_of(number, LENGTH);
        commit(&store, put(&key_of(number), &value)).expect("written");
    }
    let shared = Arc::clone(&store.shared);
    let fresh = data.join("copy");
    salvage::check(&store.database, &shared).expect("it is whole");
    salvage::copy(store.database.clone(), &fresh).expect("copied");
    let copy = database::open(&fresh).expect("opens").expect("sound");
    assert_eq!(copy.len(), VALUES + 1);
    for number in 0..VALUES {
        let key = key_of(number);
        let (was, is) = (store.database.get(&key), copy.get(&key));
        assert_eq!(was.expect("read"), is.expect("read"), "{key}");
    }
}
