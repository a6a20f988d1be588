//! Disks that fill up and fail: never a false acknowledgement, never one that is lost.

use std::path::Path;
use std::process::Command;

use super::tests::{Folder, commit, key_of, open_with, put, roomy, send, value_of};
use super::*;

const MIB: u64 = 1 << 20;

/// A small file system in memory, if this process may mount one.
struct SmallDisk {
    folder: Folder,
    mounted: bool,
}

impl SmallDisk {
    fn new(mib: u64) -> Self {
        let folder = Folder::new();
        let mounted = mount(&format!("size={mib}m"), &folder.0);
        SmallDisk { folder, mounted }
    }

    fn path(&self) -> &Path {
        &self.folder.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            let unmounted = Command::new("umount")
                .arg("-l")
                .arg(&self.folder.0)
                .status();
            assert!(unmounted.is_ok_and(|status| status.success()));
        }
    }
}

fn mount(options: &str, path: &Path) -> bool {
    let mut command = Command::new("mount");
    command
        .args(["-t", "tmpfs", "-o", options, "weft-test"])
        .arg(path);
    command.output().is_ok_and(|done| done.status.success())
}

fn essential(mut batch: Batch) -> Batch {
    batch.essential = true;
    batch
}

/// Commits until the first refusal; returns how many were acknowledged, and the refusal.
fn fill(store: &SledStore, from: usize, is_essential: bool) -> (usize, StoreFault) {
    for number in from..from + 100_000 {
        let mut batch = put(&key_of(number), &value_of(number, 60_000));
        batch.essential = is_essential;
        if let Err(fault) = commit(store, batch) {
            return (number, fault);
        }
    }
    panic!("the disk never got full");
}

fn check_all(store: &SledStore, written: usize) {
    for number in 0..written {
        let found = store.read(key_of(number).as_bytes()).unwrap();
        assert_eq!(
            found.as_deref(),
            Some(&value_of(number, 60_000)[..]),
            "{number}"
        );
    }
}

#[test]
fn a_filling_disk_first_refuses_the_new_then_everything_and_loses_nothing() {
    let disk = SmallDisk::new(160);
    if !disk.mounted {
        return levels_follow_the_thresholds(disk.path());
    }
    let limits = Thresholds {
        low: Some(90 * MIB),
        exhausted: 50 * MIB,
        floor: 24 * MIB,
        ballast: 16 * MIB,
    };
    let (store, _) = open_with(disk.path(), limits);
    assert_eq!(store.space().0, Space::Ample);
    assert!(disk.path().join("ballast").exists());
    let (written, refusal) = fill(&store, 0, false);
    assert!(matches!(refusal, StoreFault::Full { .. }), "{refusal}");
    assert_eq!(store.space().0, Space::Exhausted);
    assert!(
        !disk.path().join("ballast").exists(),
        "the ballast makes way for essential ones"
    );
    let (kept, refusal) = fill(&store, written, true);
    assert!(
        kept > written + 20,
        "only {} essential ones",
        kept - written
    );
    assert!(matches!(refusal, StoreFault::Full { .. }), "{refusal}");
    assert!(!store.is_poisoned());
    drop(store);
    let (store, opened) = open_with(disk.path(), limits);
    assert!(!opened.quarantined);
    check_all(&store, kept);
    assert_eq!(
        store.read(key_of(kept).as_bytes()),
        Ok(None),
        "no false refusal either"
    );
    drop(store);
    // The operator gives it a larger disk: the ballast comes back, and so does the work.
    let larger = Command::new("mount")
        .args(["-o", "remount,size=400m"])
        .arg(disk.path())
        .status();
    assert!(larger.unwrap().success());
    let (store, _) = open_with(disk.path(), limits);
    assert_eq!(store.space().0, Space::Ample);
    assert!(disk.path().join("ballast").exists());
    commit(&store, put("h-new", b"again")).unwrap();
    println!(
        "{written} plain and {} essential batches before the disk was full",
        kept - written
    );
}

#[test]
fn a_write_that_fails_poisons_the_store_and_nothing_acknowledged_is_lost() {
    let disk = SmallDisk::new(48);
    if !disk.mounted {
        return levels_follow_the_thresholds(disk.path());
    }
    // Without any room kept the disk itself refuses: an I/O error in the middle of a group.
    let (store, _) = open_with(disk.path(), roomy());
    let waiting: Vec<_> = (0..2_000)
        .map(|number| send(&store, put(&key_of(number), &value_of(number, 60_000))))
        .collect();
    let told: Vec<_> = waiting.iter().map(|told| told.recv().unwrap()).collect();
    let written = told.iter().take_while(|done| done.is_ok()).count();
    assert!(written > 50 && written < 2_000, "{written}");
    assert!(
        told[written..].iter().all(Result::is_err),
        "none is acknowledged after a failure"
    );
    assert!(store.is_poisoned());
    let refused = commit(&store, essential(put("h", b"x"))).unwrap_err();
    assert!(matches!(refused, StoreFault::Poisoned { .. }), "{refused}");
    assert!(store.read(b"h").is_err());
    drop(store);
    let larger = Command::new("mount")
        .args(["-o", "remount,size=400m"])
        .arg(disk.path())
        .status();
    assert!(larger.unwrap().success());
    let (store, opened) = open_with(disk.path(), roomy());
    assert!(!opened.quarantined);
    check_all(&store, written);
    println!("{written} of 2000 acknowledged before the write failed");
}

#[test]
fn thresholds_make_the_levels_of_space() {
    levels_follow_the_thresholds(&Folder::new().0);
}

/// The levels by thresholds alone, on whatever disk there is.
fn levels_follow_the_thresholds(folder: &Path) {
    let level = |name: &str, limits| {
        let (store, _) = open_with(&folder.join(name), limits);
        let plain = commit(&store, put("h1", b"new"));
        let kept = commit(&store, essential(put("h2", b"renewal")));
        (store.space().0, plain.is_ok(), kept.is_ok())
    };
    let ample = roomy();
    let low = Thresholds {
        low: Some(u64::MAX),
        ..ample
    };
    let exhausted = Thresholds {
        exhausted: u64::MAX,
        ..low
    };
    let full = Thresholds {
        floor: u64::MAX,
        ..exhausted
    };
    assert_eq!(level("ample", ample), (Space::Ample, true, true));
    assert_eq!(level("low", low), (Space::Low, true, true));
    assert_eq!(
        level("exhausted", exhausted),
        (Space::Exhausted, false, true)
    );
    assert_eq!(level("full", full), (Space::Exhausted, false, false));
}

#[test]
fn a_panic_of_a_caller_poisons_the_store_and_nobody_waits_for_ever() {
    let folder = Folder::new();
    let (store, _) = open_with(&folder.0, roomy());
    store.commit(put("h1", b"x"), Box::new(|_| panic!("a bug of the caller")));
    let waiting: Vec<_> = (0..50).map(|_| send(&store, put("h2", b"y"))).collect();
    let told: Vec<_> = waiting.iter().map(|told| told.recv()).collect();
    let is_failed = |told: &Result<_, _>| !matches!(told, Ok(Ok(())));
    assert!(told.iter().any(is_failed));
    assert!(commit(&store, put("h3", b"z")).is_err() && store.is_poisoned());
    drop(store);
    let (store, _) = open_with(&folder.0, roomy());
    assert!(store.read(b"h1").unwrap().is_some());
}

/// Not a benchmark: prints what a commit costs here, and asserts that groups form.
#[test]
fn the_cost_of_a_commit_is_shared_by_those_that_wait() {
    let folder = Folder::new();
    let (store, _) = open_with(&folder.0, roomy());
    #[expect(clippy::disallowed_methods, reason = "prints what a commit costs")]
    let clock = std::time::Instant::now();
    for number in 0..200 {
        commit(&store, put(&key_of(number), &value_of(number, 2_000))).unwrap();
    }
    let alone = clock.elapsed() / 200;
    let waiting: Vec<_> = (0..20_000)
        .map(|number| send(&store, put(&key_of(number), &value_of(number, 2_000))))
        .collect();
    assert!(waiting.iter().all(|told| told.recv() == Ok(Ok(()))));
    let together = (clock.elapsed() - alone * 200) / 20_000;
    let counters = store.counters();
    println!("2 KB: {alone:?} a commit alone, {together:?} in groups; {counters:?}");
    assert!(counters.groups < 200 + 2_000, "{counters:?}");
}
