//! The trace of a run: a hash of everything that happened, and, on demand, its lines.
//!
//! In: what the world does, in order. Out: a hash that two runs of one seed share (I20).

use std::io::Write;

use contract::Time;
use xxhash_rust::xxh3::Xxh3;

/// Hash and optional lines of a run.
pub struct Trace {
    hash: Xxh3,
    lines: u64,
    file: Option<std::io::BufWriter<std::fs::File>>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trace({} lines)", self.lines)
    }
}

impl Trace {
    /// Starts a trace; lines go to `file` as well, if there is one.
    #[must_use]
    pub fn new(file: Option<std::fs::File>) -> Self {
        Trace {
            hash: Xxh3::new(),
            lines: 0,
            file: file.map(std::io::BufWriter::new),
        }
    }

    /// Adds one happening: a time, a constant word, and octets.
    pub fn add(&mut self, at: Time, what: &str, octets: &[u8]) {
        let text = || String::from_utf8_lossy(octets).escape_debug().to_string();
        self.add_as(at, what, octets, text);
    }

    /// The same, where `text` is what the file shows of the octets.
    pub fn add_as(&mut self, at: Time, what: &str, octets: &[u8], text: impl FnOnce() -> String) {
        self.lines += 1;
        self.hash.update(&at.as_micros().to_le_bytes());
        self.hash.update(what.as_bytes());
        self.hash.update(octets);
        if let Some(file) = &mut self.file {
            // A trace that cannot be written is missed by the person who asked for it, at once.
            let _ = writeln!(file, "{at} {what} {}", text());
        }
    }

    /// Adds a line for the reader alone: it is not part of the hash.
    pub fn note(&mut self, at: Time, text: &str) {
        if let Some(file) = &mut self.file {
            // As above.
            let _ = writeln!(file, "{at} log {text}");
        }
    }

    /// Writes out the lines that are still in memory.
    pub fn flush(&mut self) {
        if let Some(file) = &mut self.file {
            // As above.
            let _ = file.flush();
        }
    }

    /// Returns the hash so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.digest()
    }

    /// Returns the number of happenings so far.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.lines
    }
}
