//! Reading all that a database still gives.
//!
//! In: an open database. Out: word whether every page of it can be read, or another database with
//! what could be read. sled gives no way past a page that it cannot read: what lies behind is asked
//! for by ever longer prefixes of keys. It decides nothing of values: rot is copied as it is.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::{Shared, StoreError, database, value};

/// Octets of a prefix after which what is not read is given up: kind, shard and one of the hash.
const PREFIX_BYTES_MAX: usize = 4;
/// Prefixes that are tried: a page that cannot be read lies under few, unless it is the only one.
const READS_MAX: usize = 20_000;
/// Entries that are copied at once.
const COPY_ENTRIES: usize = 1_024;

/// Reads everything; notes values that are not what was written.
///
/// # Errors
/// Why a page cannot be read.
pub(super) fn check(database: &sled::Db, shared: &Shared) -> Result<(), String> {
    let mut rotten = Vec::new();
    let mut on_entry = |key: &[u8], found: &[u8]| {
        if let Err(why) = value::open(key, found) {
            rotten.push((key.to_vec(), why));
        }
    };
    read(database, &[], &mut on_entry)?;
    for (key, why) in rotten {
        shared.rotten(&key, why);
    }
    Ok(())
}

/// Reads what lies under a prefix, up to the first page that cannot be read.
fn read(
    database: &sled::Db,
    prefix: &[u8],
    on_entry: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<(), String> {
    let walk = || {
        for entry in database.scan_prefix(prefix) {
            let (key, found) = entry.map_err(|error| error.to_string())?;
            on_entry(&key, &found);
        }
        Ok(())
    };
    let done = catch_unwind(AssertUnwindSafe(walk));
    done.unwrap_or_else(|_| Err("sled panicked while reading".to_owned()))
}

/// Copies what can be read into a new database; both are closed then.
///
/// # Errors
/// If the new one cannot be written.
pub(super) fn copy(from: sled::Db, to: &Path) -> Result<(), StoreError> {
    if to.exists() {
        std::fs::remove_dir_all(to).map_err(StoreError::io("removing", to))?;
    }
    let failed = |why: String| StoreError::Database {
        path: to.to_owned(),
        why,
    };
    let target = database::open(to)?.map_err(failed)?;
    let (mut batch, mut count, mut total) = (sled::Batch::default(), 0, 0_u64);
    let mut failure = None;
    let mut on_entry = |key: &[u8], found: &[u8]| {
        batch.insert(key, found);
        count += 1;
        total += 1;
        if count >= COPY_ENTRIES {
            count = 0;
            let applied = target.apply_batch(std::mem::take(&mut batch));
            failure = failure.take().or(applied.err());
        }
    };
    let unread = rescue(&from, &mut on_entry);
    let applied = target.apply_batch(batch);
    let flushed = applied.and_then(|()| target.flush());
    if let Some(error) = failure.or(flushed.err()) {
        return Err(failed(error.to_string()));
    }
    tracing::warn!(
        entries = total,
        unread,
        "saved what could be read of a damaged database"
    );
    drop(target);
    drop(from);
    Ok(())
}

/// Reads all that can be read, past pages that cannot; returns how many prefixes were given up.
///
/// Bound: `READS_MAX` prefixes, the shorter ones first.
fn rescue(database: &sled::Db, on_entry: &mut dyn FnMut(&[u8], &[u8])) -> usize {
    let (mut reads, mut given_up) = (0, 0);
    let mut left = VecDeque::from([Vec::new()]);
    while let Some(prefix) = left.pop_front() {
        reads += 1;
        if read(database, &prefix, on_entry).is_ok() {
            continue;
        }
        if prefix.len() >= PREFIX_BYTES_MAX || reads + left.len() >= READS_MAX {
            given_up += 1;
            continue;
        }
        // What was read already is read again, and is the same.
        left.extend((0..=u8::MAX).map(|octet| [&prefix[..], &[octet]].concat()));
    }
    given_up
}
