//! Records of actors: who owns them, under which epoch, who holds them, and how they are stored.
//!
//! In: parts (encoded snapshots) and answers of holders. Out: batches for a store, requests for
//! holders, verdicts. Pure: no clock, no chance, no I/O but the [`contract::env::Store`] handed in.
//! It does not know what a part means, nor how frames travel. Rules: `cluster.md` §3, §4, §7, §8.

pub mod activation;
pub mod error;
mod form;
pub mod holder;
pub mod load;
pub mod owned;
pub mod quorum;
pub mod record;

#[cfg(test)]
mod form_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod test_store;
#[cfg(test)]
mod tests;

pub use activation::{Activation, Step};
pub use error::RecordError;
pub use holder::{Held, HolderReply, HolderRequest, Image, decide};
pub use load::{Loaded, Scanned, hold, load, scan};
pub use owned::{Commit, Owned, forget};
pub use quorum::{Acks, Standing, claim_quorum, commit_quorum};
pub use record::{Conf, Epoch, Header, HolderSet, PartEntry, RecordState, SCHEMA, Version};
