//! Secrets in files: the cluster's key, the administrator's token, passwords of accounts.
//!
//! In: paths. Out: secrets. A file that others may read is refused; those of the node are made at
//! first start with mode 0600. Nothing of them is printed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use contract::{FabricKeys, FaultClass, Secret};
use zeroize::Zeroize;

/// Octets of a secret file that are read; a longer one is no secret of ours.
const SECRET_BYTES_MAX: u64 = 4_096;

/// Why a secret file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read or made.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{}: mode {mode:04o} lets others read it; allowed: 0600", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It does not hold what it should.
    #[error("{}: it must hold {wanted}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
}

impl SecretFileError {
    /// Tells whose fault it is: the operator's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Config
    }

    /// Tells that the file is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, SecretFileError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads the octets of a secret file.
fn read_octets(path: &Path) -> Result<Vec<u8>, SecretFileError> {
    let io = |source| SecretFileError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Mode {
            path: path.to_owned(),
            mode,
        });
    }
    let mut octets = Vec::new();
    file.take(SECRET_BYTES_MAX)
        .read_to_end(&mut octets)
        .map_err(io)?;
    Ok(octets)
}

/// Reads a secret text; line ends at its end are not part of it.
pub(super) fn read(path: &Path) -> Result<Secret, SecretFileError> {
    let mut octets = read_octets(path)?;
    let text = std::str::from_utf8(&octets).map(|text| text.trim_end_matches(['\r', '\n']));
    let secret = text.map(Secret::new);
    octets.zeroize();
    secret.map_err(|_| SecretFileError::Content {
        path: path.to_owned(),
        wanted: "text",
    })
}

/// Makes a secret file; nobody else has made it meanwhile.
fn make(path: &Path, octets: &[u8]) -> Result<(), SecretFileError> {
    let io = |source| SecretFileError::Io {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    file.write_all(octets)
        .and_then(|()| file.sync_all())
        .map_err(io)
}

/// Reads the cluster's secret of 32 octets, or makes it; `random` is the system's chance.
///
/// # Errors
/// If the file cannot be read or made, others may read it, or it holds something else.
pub fn cluster_key(
    path: &Path,
    random: &dyn Fn() -> [u8; 32],
) -> Result<FabricKeys, SecretFileError> {
    match read_octets(path) {
        Ok(mut octets) => {
            let key = <[u8; 32]>::try_from(octets.as_slice());
            octets.zeroize();
            key.map(FabricKeys::new)
                .map_err(|_| SecretFileError::Content {
                    path: path.to_owned(),
                    wanted: "32 octets",
                })
        }
        Err(error) if error.is_absent() => {
            let key = random();
            make(path, &key)?;
            Ok(FabricKeys::new(key))
        }
        Err(error) => Err(error),
    }
}

/// Reads the administrator's token in the data folder, or makes it at the first start: 32 random
/// octets in hexadecimal.
///
/// # Errors
/// As [`cluster_key`].
pub fn administrator_token(
    data: &Path,
    random: &dyn Fn() -> [u8; 32],
) -> Result<Secret, SecretFileError> {
    let path = token_path(data);
    let token = match read(&path) {
        Err(error) if error.is_absent() => {
            let token: String = random()
                .iter()
                .map(|octet| format!("{octet:02x}"))
                .collect();
            make(&path, format!("{token}\n").as_bytes())?;
            Secret::new(token)
        }
        other => other?,
    };
    if token.expose().len() < 32 {
        return Err(SecretFileError::Content {
            path,
            wanted: "32 characters or more",
        });
    }
    Ok(token)
}

/// Reads the administrator's token as the command line does.
///
/// # Errors
/// If it is not there, or not readable.
pub fn read_token(data: &Path) -> Result<Secret, SecretFileError> {
    read(&token_path(data))
}

fn token_path(data: &Path) -> PathBuf {
    data.join("admin.token")
}
