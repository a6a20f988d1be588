//! Why a record could not be read or changed.

use contract::{ActorId, FaultClass, StoreFault};

/// Why a record could not be read or changed. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The store did not answer.
    #[error("reading the record of {id}")]
    Store {
        /// Whose record.
        id: String,
        /// What the store said.
        #[source]
        source: StoreFault,
    },
    /// The stored octets pass their checksum but are no record.
    #[error("record of {id}: {why}")]
    Damaged {
        /// Whose record, or its key in hexadecimal.
        id: String,
        /// What is wrong with it.
        why: String,
    },
    /// A later release wrote it (`cluster.md` §12).
    #[error("record of {id} has form {form}, this program knows up to {known}")]
    Newer {
        /// Whose record, or its key in hexadecimal.
        id: String,
        /// Its form or schema.
        form: u16,
        /// The newest one this program reads.
        known: u16,
    },
    /// All parts together exceed `RECORD_BYTES_MAX`.
    #[error("record of {id}: {bytes} octets, most {most}")]
    TooLarge {
        /// Whose record.
        id: ActorId,
        /// Octets it would have.
        bytes: usize,
        /// Most octets.
        most: usize,
    },
    /// More parts than `PARTS_PER_RECORD_MAX`.
    #[error("record of {id}: more than {most} parts")]
    TooManyParts {
        /// Whose record.
        id: ActorId,
        /// Most parts.
        most: usize,
    },
    /// The record is a tombstone.
    #[error("record of {id} has ended")]
    Ended {
        /// Whose record.
        id: ActorId,
    },
    /// The actor's part does not lie in this record.
    #[error("{part} is no part of the record of {id}")]
    Foreign {
        /// The actor.
        part: ActorId,
        /// Whose record.
        id: ActorId,
    },
}

impl RecordError {
    /// Tells whose fault it is.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            RecordError::Store { source, .. } => source.class(),
            RecordError::Newer { .. } => FaultClass::Config,
            RecordError::Ended { .. } => FaultClass::Stale,
            RecordError::Damaged { .. }
            | RecordError::TooLarge { .. }
            | RecordError::TooManyParts { .. }
            | RecordError::Foreign { .. } => FaultClass::Bug,
        }
    }
}
