//! Why the store could not be opened.

use std::path::{Path, PathBuf};

use contract::FaultClass;

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the data folder.
    #[error("the data folder {} is in use by another process", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// A file of the data folder could not be read or written.
    #[error("{attempt} {}", path.display())]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// sled could not be opened.
    #[error(
        "opening the database in {}: {why}; mend that, or move the folder away: in a cluster the \
         other nodes have what is in it, alone it is lost",
        path.display()
    )]
    Database {
        /// Its folder.
        path: PathBuf,
        /// What sled said.
        why: String,
    },
}

impl StoreError {
    /// Tells whose fault it is: the operator's, who alone can clear it; the node does not start.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            StoreError::InUse { .. } | StoreError::Io { .. } | StoreError::Database { .. } => {
                FaultClass::Config
            }
        }
    }

    pub(super) fn io(
        attempt: &'static str,
        path: &Path,
    ) -> impl FnOnce(std::io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io {
            attempt,
            path,
            source,
        }
    }
}
