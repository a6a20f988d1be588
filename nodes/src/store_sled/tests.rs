//! What was acknowledged is there after a restart, or is known to be missing.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Receiver, channel};

use contract::FaultClass;

use super::*;

/// A folder that goes away with the test.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weft-store-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Thresholds that no disk of a test machine reaches.
pub(super) fn roomy() -> Thresholds {
    Thresholds {
        low: Some(0),
        exhausted: 0,
        floor: 0,
        ballast: 0,
    }
}

pub(super) fn open_with(folder: &Path, thresholds: Thresholds) -> (Arc<SledStore>, Opened) {
    let mut config = StoreConfig::new(folder);
    config.thresholds = thresholds;
    SledStore::open(config, 1_000).unwrap()
}

pub(super) fn open(folder: &Path) -> (Arc<SledStore>, Opened) {
    open_with(folder, roomy())
}

pub(super) fn put(key: &str, value: &[u8]) -> Batch {
    Batch {
        changes: vec![(key.into(), Some(value.to_vec()))],
        essential: false,
    }
}

pub(super) fn send(store: &SledStore, batch: Batch) -> Receiver<Result<(), StoreFault>> {
    let (tell, told) = channel();
    store.commit(batch, Box::new(move |done| tell.send(done).unwrap()));
    told
}

pub(super) fn commit(store: &SledStore, batch: Batch) -> Result<(), StoreFault> {
    send(store, batch).recv().unwrap()
}

/// A value that can be told from any other key's and any other length's.
pub(super) fn value_of(number: usize, length: usize) -> Vec<u8> {
    let mut value = format!("value {number} of {length} ").into_bytes();
    value.resize(length.max(value.len()), b'.');
    value
}

pub(super) fn key_of(number: usize) -> String {
    format!("h{number:08}")
}

fn damage(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let log = folder.join("sled/db");
    let mut octets = std::fs::read(&log).unwrap();
    change(&mut octets);
    std::fs::write(&log, octets).unwrap();
}

pub(super) fn copy_folder(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .arg("-r")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(copied.success());
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let folder = Folder::new();
    let data = folder.path("data");
    let (store, opened) = open(&data);
    assert!(opened.first_start && !opened.quarantined);
    let mode = std::fs::metadata(&data).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    for number in (0..50).rev() {
        commit(&store, put(&key_of(number), &value_of(number, 900))).unwrap();
    }
    let removal = Batch {
        changes: vec![
            (key_of(7).into(), None),
            (b"p1".to_vec(), Some(b"side".to_vec())),
            (b"p1".to_vec(), Some(b"later".to_vec())),
        ],
        essential: true,
    };
    commit(&store, removal).unwrap();
    drop(store);
    let (store, again) = open(&data);
    assert!(!again.first_start && !again.quarantined);
    assert_eq!(store.read(b"p1").unwrap().as_deref(), Some(&b"later"[..]));
    assert_eq!(store.read(key_of(7).as_bytes()), Ok(None));
    let mut seen = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        seen.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    store.scan(b"h", &mut visit).unwrap();
    let there = (0..50).filter(|number| *number != 7);
    let wanted: Vec<_> = there
        .map(|number| (key_of(number).into_bytes(), value_of(number, 900)))
        .collect();
    assert_eq!(seen, wanted);
    let mut count = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        count += 1;
        if count == 5 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    store.scan(b"", &mut visit).unwrap();
    assert_eq!((count, store.counters().rot), (5, 0));
}

#[test]
fn batches_share_flushes_and_are_told_in_order() {
    let folder = Folder::new();
    let (store, _) = open(&folder.0);
    let (tell, told) = channel();
    for number in 0..3_000_usize {
        let tell = tell.clone();
        let done = move |done: Result<(), StoreFault>| tell.send((number, done)).unwrap();
        store.commit(
            put(&key_of(number % 100), &value_of(number, 300)),
            Box::new(done),
        );
    }
    for number in 0..3_000 {
        assert_eq!(told.recv().unwrap(), (number, Ok(())));
    }
    let counters = store.counters();
    assert_eq!(counters.batches, 3_000);
    assert!(counters.groups < 600, "{counters:?}");
    let last = store.read(key_of(99).as_bytes()).unwrap();
    assert_eq!(last.as_deref(), Some(&value_of(2_999, 300)[..]));
}

#[test]
fn dropping_the_store_writes_what_is_queued() {
    let folder = Folder::new();
    let (store, _) = open(&folder.0);
    let waiting: Vec<_> = (0..500)
        .map(|number| send(&store, put(&key_of(number), &value_of(number, 500))))
        .collect();
    drop(store);
    assert!(waiting.into_iter().all(|told| told.recv() == Ok(Ok(()))));
    let (store, _) = open(&folder.0);
    for number in 0..500 {
        let found = store.read(key_of(number).as_bytes()).unwrap();
        assert_eq!(found.as_deref(), Some(&value_of(number, 500)[..]));
    }
}

#[test]
fn boot_numbers_rise() {
    let folder = Folder::new();
    let open_at = |seconds| {
        let mut config = StoreConfig::new(&folder.0);
        config.thresholds = roomy();
        SledStore::open(config, seconds).unwrap().1
    };
    let first = open_at(500);
    assert_eq!(first.boot, Boot(500));
    let (same_second, clock_set_back, later) = (open_at(500), open_at(3), open_at(9_000));
    assert_eq!(
        (same_second.boot, clock_set_back.boot),
        (Boot(501), Boot(502))
    );
    assert_eq!(later.boot, Boot(9_000));
    let found = std::fs::metadata(folder.path("boot")).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    std::fs::write(folder.path("boot"), b"rubbish").unwrap();
    assert_eq!(open_at(10_000).boot, Boot(10_000));
}

#[test]
fn a_second_user_of_the_folder_is_refused() {
    let folder = Folder::new();
    let (store, _) = open(&folder.0);
    let refused = SledStore::open(StoreConfig::new(&folder.0), 1).unwrap_err();
    assert!(
        refused.to_string().contains("in use by another process"),
        "{refused}"
    );
    assert_eq!(refused.class(), FaultClass::Config);
    drop(store);
    open(&folder.0);
}

#[test]
fn a_rotten_value_is_missing_and_counted() {
    let folder = Folder::new();
    let (store, _) = open(&folder.0);
    for number in 0..4 {
        commit(&store, put(&key_of(number), &value_of(number, 64))).unwrap();
    }
    let stored = store.database.get(key_of(1)).unwrap().unwrap();
    for bit in 0..stored.len() * 8 {
        let mut rotten = stored.to_vec();
        rotten[bit / 8] ^= 1 << (bit % 8);
        assert!(
            value::open(key_of(1).as_bytes(), &rotten).is_err(),
            "bit {bit}"
        );
    }
    for length in 0..stored.len() {
        assert!(
            value::open(key_of(1).as_bytes(), &stored[..length]).is_err(),
            "{length}"
        );
    }
    store
        .database
        .insert(key_of(1), &stored[..stored.len() - 1])
        .unwrap();
    store.database.insert(key_of(2), stored).unwrap();
    assert_eq!(store.read(key_of(1).as_bytes()), Ok(None));
    assert_eq!(
        store.read(key_of(2).as_bytes()),
        Ok(None),
        "another key's value"
    );
    assert_eq!(store.counters().rot, 2);
    let mut seen = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        seen += 1;
        ControlFlow::Continue(())
    };
    store.scan(b"h", &mut visit).unwrap();
    assert_eq!((seen, store.counters().rot), (2, 4));
    commit(&store, put(&key_of(1), b"written anew")).unwrap();
    assert!(store.read(key_of(1).as_bytes()).unwrap().is_some());
}

/// Every value is right or missing; returns how many are missing.
pub(super) fn count_missing(store: &SledStore, written: usize, length: usize) -> usize {
    let is_missing = |number: &usize| {
        let Ok(Some(found)) = store.read(key_of(*number).as_bytes()) else {
            return true;
        };
        assert_eq!(&found[..], &value_of(*number, length)[..], "a wrong value");
        false
    };
    (0..written).filter(is_missing).count()
}

fn written_folder(written: usize, length: usize) -> Folder {
    let folder = Folder::new();
    let (store, _) = open(&folder.path("data"));
    let waiting: Vec<_> = (0..written)
        .map(|number| send(&store, put(&key_of(number), &value_of(number, length))))
        .collect();
    assert!(waiting.into_iter().all(|told| told.recv() == Ok(Ok(()))));
    drop(store);
    folder
}

fn check_damaged(folder: &Folder, what: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
    let hurt = folder.path("hurt");
    copy_folder(&folder.path("data"), &hurt);
    damage(&hurt, change);
    let (store, opened) = open(&hurt);
    let missing = count_missing(&store, 400, 700);
    let known = opened.quarantined || store.is_quarantined() || store.counters().rot > 0;
    let known = known || store.is_poisoned();
    assert!(
        missing == 0 || known,
        "{what}: {missing} are missing unnoticed"
    );
    if opened.quarantined {
        assert!(hurt.join("quarantine").exists());
    }
    drop(store);
    std::fs::remove_dir_all(&hurt).unwrap();
    missing > 0
}

#[test]
fn a_log_cut_anywhere_is_noticed() {
    let folder = written_folder(400, 700);
    let whole = std::fs::metadata(folder.path("data/sled/db"))
        .unwrap()
        .len();
    let whole = usize::try_from(whole).unwrap();
    let mut losses = 0;
    for cut in 0..24 {
        let length = whole * cut / 24;
        let lost = check_damaged(&folder, &format!("cut to {length}"), |log| {
            log.truncate(length)
        });
        losses += usize::from(lost);
    }
    println!("24 cuts of {whole} octets, {losses} lost entries");
    assert!(losses >= 12, "{losses}");
}

#[test]
fn flipped_and_zeroed_octets_never_make_a_wrong_value() {
    let folder = written_folder(400, 700);
    let mut losses = 0;
    for round in 0..40_usize {
        let change = |log: &mut Vec<u8>| {
            let at = (round * 7_919_131 + 13) % log.len();
            let end = (at + 1 + (round % 4) * 300).min(log.len());
            for octet in &mut log[at..end] {
                *octet = if round % 2 == 0 { *octet ^ 0x40 } else { 0 };
            }
        };
        losses += usize::from(check_damaged(&folder, &format!("round {round}"), change));
    }
    println!("40 flips, {losses} lost entries");
    assert!(losses > 0, "the damage hit nothing");
}

#[test]
fn a_lost_database_or_watermark_is_a_quarantine_until_lifted() {
    for victim in ["sled", "watermark"] {
        let folder = written_folder(10, 50);
        let data = folder.path("data");
        let gone = data.join(victim);
        if gone.is_dir() {
            std::fs::remove_dir_all(&gone).unwrap();
        } else {
            std::fs::remove_file(&gone).unwrap();
        }
        let (store, opened) = open(&data);
        assert!(opened.quarantined && store.is_quarantined(), "{victim}");
        commit(&store, put("h1", b"goes on")).unwrap();
        drop(store);
        let (store, opened) = open(&data);
        assert!(opened.quarantined, "{victim}: until lifted");
        store.lift_quarantine();
        assert!(!store.is_quarantined());
        drop(store);
        let (store, opened) = open(&data);
        assert!(!opened.quarantined, "{victim}");
        assert!(store.read(b"h1").unwrap().is_some());
    }
}

#[test]
fn the_largest_records_stay_in_the_synced_log() {
    let folder = Folder::new();
    let (store, _) = open(&folder.0);
    let waiting: Vec<_> = (0..600)
        .map(|number| {
            send(
                &store,
                put(&key_of(number % 200), &value_of(number, 66_000)),
            )
        })
        .collect();
    assert!(waiting.into_iter().all(|told| told.recv() == Ok(Ok(()))));
    let unsynced = std::fs::read_dir(folder.path("sled/blobs"))
        .unwrap()
        .count();
    assert_eq!(unsynced, 0);
    drop(store);
    let (store, _) = open(&folder.0);
    for number in 400..600 {
        let found = store.read(key_of(number % 200).as_bytes()).unwrap();
        assert_eq!(found.as_deref(), Some(&value_of(number, 66_000)[..]));
    }
}
