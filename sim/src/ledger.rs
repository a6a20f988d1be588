//! The ledger: which seed ranges were run, with what, and how they ended. One line a range.

use std::fs::OpenOptions;
use std::io::{Error, Write};
use std::path::Path;

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Commit of the code, as `git rev-parse` says it.
    pub commit: String,
    /// First seed.
    pub first: u64,
    /// Number of seeds.
    pub count: u64,
    /// Nodes of the cluster.
    pub nodes: u16,
    /// Minutes of the hostile phase.
    pub minutes: u64,
    /// Faults that were allowed.
    pub faults: String,
    /// Seeds that failed.
    pub failed: u64,
}

/// Appends a line.
///
/// # Errors
/// If the file cannot be written.
pub fn append(path: &Path, entry: &Entry) -> Result<(), Error> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(
        file,
        "{} seeds {}..{} nodes {} minutes {} faults {} failed {}",
        entry.commit,
        entry.first,
        entry.first + entry.count,
        entry.nodes,
        entry.minutes,
        entry.faults,
        entry.failed
    )
}
