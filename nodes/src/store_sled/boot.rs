//! The small files beside sled: lock, boot number, watermark (`cluster.md` §1, §9).
//!
//! In: the data folder. Out: what they say, each made durable before it is used.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use contract::Boot;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use xxhash_rust::xxh3::xxh3_64;

use super::StoreError;

/// Locks the data folder against a second process.
pub(super) fn lock(folder: &Path) -> Result<Flock<File>, StoreError> {
    let path = folder.join("lock");
    let options = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let file = options.map_err(StoreError::io("opening", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        if errno == Errno::EWOULDBLOCK {
            let folder = folder.to_owned();
            StoreError::InUse { folder }
        } else {
            StoreError::io("locking", &path)(errno.into())
        }
    })
}

/// Makes the number of this start durable: max(stored + 1, `unix_seconds`); tells whether it is
/// the first start here.
pub(super) fn next_boot(folder: &Path, unix_seconds: u64) -> Result<(Boot, bool), StoreError> {
    let path = folder.join("boot");
    let stored = read(&path)?;
    let last = stored.as_deref().map(|text| {
        let number = read_sealed(text);
        if number.is_none() {
            tracing::error!(path = %path.display(), "boot number is damaged: the clock decides");
        }
        number.unwrap_or(0)
    });
    let boot = last.unwrap_or(0).saturating_add(1).max(unix_seconds);
    replace(&path, &sealed(boot))?;
    // With any of the others there, it is only this file that was lost.
    let others = ["watermark", "sled"];
    let is_empty = others.iter().all(|name| !folder.join(name).exists());
    Ok((Boot(boot), last.is_none() && is_empty))
}

/// Replaces a file whole: temporary file of mode 0600, fsync, rename, fsync of the folder.
pub(super) fn replace(path: &Path, octets: &[u8]) -> Result<(), StoreError> {
    let temporary = path.with_extension("new");
    let written = || {
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(octets)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    written().map_err(StoreError::io("writing", path))?;
    sync_folder(path.parent().unwrap_or(path))
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(StoreError::io("syncing", folder))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match std::fs::read(path) {
        Ok(octets) => Ok(Some(octets)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("reading", path)(error)),
    }
}

/// A number with its checksum, 16 octets.
fn sealed(number: u64) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&number.to_le_bytes());
    octets[8..].copy_from_slice(&xxh3_64(&number.to_le_bytes()).to_le_bytes());
    octets
}

fn read_sealed(octets: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(octets.get(..8)?.try_into().ok()?);
    (octets == sealed(number)).then_some(number)
}

/// Distance of the two slots of the watermark: one sector is written, the other stays whole.
const SLOT: usize = 4096;

/// The side file with a batch number that was durable: what sled has must not be less.
#[derive(Debug)]
pub(super) struct Watermark {
    file: File,
    path: PathBuf,
    next_slot: usize,
}

impl Watermark {
    /// Opens the watermark and reads it. Out: the highest number marked; `None` if the file was
    /// lost or both slots are damaged, so that nothing can be said for sled.
    pub(super) fn open(
        folder: &Path,
        first_start: bool,
    ) -> Result<(Watermark, Option<u64>), StoreError> {
        let path = folder.join("watermark");
        if first_start && !path.exists() {
            let mut empty = vec![0; SLOT + 16];
            empty[..16].copy_from_slice(&sealed(0));
            replace(&path, &empty)?;
        }
        let failed = |error| StoreError::io("opening", &path)(error);
        let mut options = File::options();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        let mut octets = Vec::new();
        file.read_to_end(&mut octets).map_err(failed)?;
        let slot = |at: usize| octets.get(at * SLOT..at * SLOT + 16).and_then(read_sealed);
        let (first, second) = (slot(0), slot(1));
        let marked = first.max(second);
        let next_slot = usize::from(first >= second);
        let watermark = Watermark {
            file,
            path: path.clone(),
            next_slot,
        };
        Ok((watermark, marked))
    }

    /// Marks that batch `number` and all before it are durable in sled.
    pub(super) fn mark(&mut self, number: u64) -> Result<(), StoreError> {
        let at = u64::try_from(self.next_slot * SLOT).expect("two slots");
        let written = self.file.write_all_at(&sealed(number), at);
        let synced = written.and_then(|()| self.file.sync_data());
        synced.map_err(StoreError::io("writing", &self.path))?;
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }
}
