//! A process that is killed at any moment has lost nothing that it acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use super::tests::{Folder, key_of, open, put, value_of};
use super::*;

const CHILD: &str = "WEFT_STORE_TEST_CHILD";
const KILLS: usize = 20;

/// The child: commits batches of two keys from the number given, many at once, and prints each
/// number once it is acknowledged, until it is killed.
fn commit_until_killed(folder: &Path, first: usize) {
    let (store, _) = open(folder);
    let (tell, told) = channel();
    for number in first.. {
        let mut batch = put(&key_of(number), &value_of(number, 40 + number % 3_000));
        batch
            .changes
            .push((b"p-last".to_vec(), Some(number.to_string().into())));
        let tell = tell.clone();
        let done = move |done: Result<(), StoreFault>| tell.send((number, done)).unwrap();
        store.commit(batch, Box::new(done));
        if number >= first + 16 {
            let (number, done) = told.recv().unwrap();
            done.unwrap();
            let mut out = std::io::stdout().lock();
            writeln!(out, "acknowledged {number}").unwrap();
            out.flush().unwrap();
        }
    }
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there() {
    if let Some(asked) = std::env::var_os(CHILD) {
        let asked = asked.into_string().unwrap();
        let (first, folder) = asked.split_once(' ').unwrap();
        return commit_until_killed(Path::new(folder), first.parse().unwrap());
    }
    let folder = Folder::new();
    let (mut first, mut acknowledged) = (0, Vec::new());
    for kill in 0..KILLS {
        let mut random = [0];
        getrandom::fill(&mut random).unwrap();
        let lines = kill * 3 + usize::from(random[0]);
        let name = "store_sled::kill_tests::what_was_acknowledged_before_a_kill_is_there";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{first} {}", folder.0.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let number = |line: std::io::Result<String>| {
            let line = line.ok()?;
            line.split_once("acknowledged ")?.1.parse::<usize>().ok()
        };
        acknowledged.extend(said.by_ref().filter_map(number).take(lines + 1));
        child.kill().unwrap();
        acknowledged.extend(said.filter_map(number));
        child.wait().unwrap();
        let (store, opened) = open(&folder.0);
        assert!(!opened.quarantined, "kill {kill}");
        check_acknowledged(&store, &acknowledged);
        let last = acknowledged.last().copied().unwrap_or(0);
        // Batches are whole: the second key is never older than the newest first one there.
        let second = store.read(b"p-last").unwrap().unwrap();
        let second: usize = std::str::from_utf8(&second).unwrap().parse().unwrap();
        assert!(second >= last);
        assert_eq!(store.read(key_of(second + 1).as_bytes()), Ok(None));
        assert!(store.read(key_of(second).as_bytes()).unwrap().is_some());
        first = second + 1;
    }
    println!("{KILLS} kills, {} acknowledged", acknowledged.len());
    assert!(acknowledged.len() > KILLS * 20);
}

fn check_acknowledged(store: &SledStore, acknowledged: &[usize]) {
    for number in acknowledged {
        let found = store.read(key_of(*number).as_bytes()).unwrap();
        let wanted = value_of(*number, 40 + number % 3_000);
        assert_eq!(
            found.as_deref(),
            Some(&wanted[..]),
            "{number} was acknowledged"
        );
    }
}
