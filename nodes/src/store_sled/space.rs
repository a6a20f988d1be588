//! Room on disk: how much is left, when to refuse, and the ballast (`cluster.md` §9).
//!
//! In: `statvfs` of the data folder. Out: the level, and which batches are admitted.
//! Without its ballast the room counts as smaller by it, so removing the ballast lifts no level.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use contract::Space;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use super::StoreError;

const MIB: u64 = 1 << 20;

/// Octets below which the store refuses; the ballast's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Free octets below which space is `Low`; `None`: max(256 MiB, min(5 % of the disk, 2 GiB)).
    pub low: Option<u64>,
    /// Free octets below which it is `Exhausted`: essential batches only.
    pub exhausted: u64,
    /// Free octets, ballast gone, below which nothing is written: two sled segments and more.
    pub floor: u64,
    /// Octets of the ballast.
    pub ballast: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            low: None,
            exhausted: 64 * MIB,
            floor: 24 * MIB,
            ballast: 64 * MIB,
        }
    }
}

/// Free octets as last seen, and the level they make.
#[derive(Debug, Default)]
pub(super) struct Room {
    free: AtomicU64,
    level: AtomicU64,
}

impl Room {
    /// Returns the level as last polled.
    pub(super) fn space(&self) -> Space {
        match self.level.load(Ordering::Relaxed) {
            0 => Space::Ample,
            1 => Space::Low,
            _ => Space::Exhausted,
        }
    }

    /// Returns the free octets as last polled.
    pub(super) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Counts octets that were written since the last poll.
    pub(super) fn spend(&self, bytes: u64) {
        self.set_free(self.free().saturating_sub(bytes));
    }

    fn set_free(&self, free: u64) {
        self.free.store(free, Ordering::Relaxed);
    }

    /// Before the store is opened: removes the ballast if there is too little room to open it.
    pub(super) fn make_way(&self, ballast: &Path, limits: &Thresholds) -> Result<(), StoreError> {
        let folder = ballast.parent().unwrap_or(ballast);
        let (free, _) = free_and_total(folder).map_err(StoreError::io("measuring", folder))?;
        if free < limits.floor && ballast.exists() {
            std::fs::remove_file(ballast).map_err(StoreError::io("removing", ballast))?;
        }
        Ok(())
    }

    /// Measures the room, sets the level, removes the ballast at need and remakes it when there is
    /// room.
    pub(super) fn poll(&self, ballast: &Path, limits: &Thresholds) -> std::io::Result<()> {
        let folder = ballast.parent().unwrap_or(ballast);
        let (mut free, total) = free_and_total(folder)?;
        let low = limits.low.unwrap_or_else(|| default_low(total));
        let mut missing = missing_ballast(ballast, limits);
        if missing > 0 && free >= low.saturating_add(limits.ballast) && fill(ballast, limits) {
            free = free_and_total(folder)?.0;
            missing = 0;
        }
        let counted = free.saturating_sub(missing);
        let level = if counted < limits.exhausted {
            2
        } else {
            u64::from(counted < low)
        };
        if level == 2 && ballast.exists() {
            tracing::warn!(free, "disk is full: the ballast is removed");
            std::fs::remove_file(ballast)?;
            free = free_and_total(folder)?.0;
        }
        if self.level.swap(level, Ordering::Relaxed) != level {
            tracing::warn!(free, space = ?self.space(), "room on disk");
        }
        self.set_free(free);
        Ok(())
    }

    /// Tells whether a batch may be written, `bytes` of its group before it included.
    pub(super) fn admits(&self, essential: bool, bytes: u64, limits: &Thresholds) -> bool {
        match self.space() {
            Space::Ample | Space::Low => self.free() >= limits.floor.saturating_add(bytes),
            Space::Exhausted => essential && self.free() >= limits.floor.saturating_add(bytes),
        }
    }
}

fn default_low(total: u64) -> u64 {
    (total / 20).clamp(256 * MIB, 2048 * MIB)
}

fn missing_ballast(ballast: &Path, limits: &Thresholds) -> u64 {
    let there = std::fs::metadata(ballast).map_or(0, |found| found.len());
    limits.ballast.saturating_sub(there)
}

/// Makes the ballast; a failure is no fault of the store, only less room.
fn fill(ballast: &Path, limits: &Thresholds) -> bool {
    let Ok(length) = i64::try_from(limits.ballast) else {
        return false;
    };
    let options = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(ballast);
    let Ok(file) = options else {
        return false;
    };
    let filled = fallocate(file.as_raw_fd(), FallocateFlags::empty(), 0, length).is_ok();
    if !filled {
        tracing::warn!(path = %ballast.display(), "no ballast on this file system");
        if let Err(error) = std::fs::remove_file(ballast) {
            tracing::warn!(%error, "removing what there is of the ballast");
        }
    }
    filled
}

/// Returns the octets free for this process, and those of the whole file system.
fn free_and_total(folder: &Path) -> std::io::Result<(u64, u64)> {
    let found = statvfs(folder)?;
    let unit = found.fragment_size();
    let free = found.blocks_available().saturating_mul(unit);
    Ok((free, found.blocks().saturating_mul(unit)))
}
