//! Records of actors: who owns them, under which epoch, who holds them, and how they are stored.
//!
//! In: parts (encoded snapshots) and answers of holders. Out: batches for a store, requests for
//! holders, verdicts. Pure: no clock, no chance, no I/O but the [`contract::env::Store`] handed in.
//! It does not know what a part means, nor how frames travel. Rules: `cluster.md` §3, §4, §7, §8.

pub mod activation;
mod comparison;
pub mod desk;
pub mod digest;
pub mod directory;
pub mod error;
pub mod events;
pub mod exchange;
pub mod floating;
mod form;
pub mod frame;
mod frame_v2;
pub mod holder;
mod listing;
pub mod load;
pub mod membership;
pub mod missing;
pub mod owned;
pub mod placement;
pub mod quorum;
pub mod record;
pub mod repair;
pub mod replication;
pub mod spoken;
mod tracked;

#[cfg(test)]
mod bomb_tests;
#[cfg(test)]
mod desk_tests;
#[cfg(test)]
mod directory_tests;
#[cfg(test)]
mod form_tests;
#[cfg(test)]
mod frame_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod repair_model_tests;
#[cfg(test)]
mod repair_tests;
#[cfg(test)]
mod replication_model_tests;
#[cfg(test)]
mod replication_tests;
#[cfg(test)]
mod test_store;
#[cfg(test)]
mod tests;

pub use activation::{Activation, Step};
pub use comparison::{RepairAction, RepairCounts};
pub use desk::{Desk, DeskAction, DeskCounts, shard};
pub use digest::{ShardDigests, ShardSet};
pub use directory::{Directory, DirectoryAction, Route};
pub use error::RecordError;
pub use events::{
    CallLog, Cursor, CursorError, EventBatch, EventLog, EventsHeld, Flush, Gap, Item, Seen, Taken,
};
pub use exchange::{Entry, Exchange, Glance, Look, Mark, Page, REPAIR_ORDER, Range, Wanted};
pub use floating::{Floating, FloatingAction, FloatingAddress, Neighbour, Tenure};
pub use frame::{Frame, FrameError, Whereabouts, home};
pub use holder::{Held, HolderReply, HolderRequest, Image, decide};
pub use load::{Loaded, Scanned, hold, load, scan, scan_placed, scan_shard};
pub use missing::{Gone, Missing, Verdict};
pub use owned::{Commit, Owned, forget};
pub use placement::Candidate;
pub use quorum::{Acks, Standing, claim_quorum, commit_quorum};
pub use record::{Conf, Epoch, Header, HolderSet, PartEntry, RecordState, Version};
pub use repair::Repair;
pub use replication::{CommitMode, ReplicationAction, ReplicationCounts, Replicator};
pub use spoken::Spoken;
