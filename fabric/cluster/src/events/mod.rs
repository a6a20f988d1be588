//! The event log of a cluster: what happened, numbered by the node where it did, kept by every node.
//!
//! In: events of this node, what other nodes have, cursors of readers. Out: what is to be written,
//! what is to be sent, what a reader is told. Pure: no clock, no chance, no I/O.
//!
//! Each life of a node numbers its events from 1; a life is a node and the number of its start, which
//! is durable before the first packet, so that no number comes twice, over `kill -9` too. Every node
//! keeps the events of all lives, within the bounds of `contract::limits`. A cursor is the last number
//! read of each life, so it means the same on every node.
//!
//! | file | has |
//! |---|---|
//! | `log.rs` | what is kept of each life, and how it gets there |
//! | `reading.rs` | what a reader is told from its cursor on, gaps too |
//! | `cursor.rs` | the cursor and its text |
//! | `form.rs` | stored batches and frames |
//!
//! | what | then |
//! |---|---|
//! | an event of this node | readers here see it at once; within 100 ms it is written and sent |
//! | a batch that begins where what is kept ends | taken, shown, written |
//! | one that begins later | the sender is asked for what lies between |
//! | a life that is in no view any more | the others are asked for its tail; then readers are told that its last events may be lost, unless its last one was `node.left` |
//! | more than the bounds, or older | the oldest go |

mod cursor;
mod form;
mod log;
mod reading;
#[cfg(test)]
pub(crate) mod tests;

pub use cursor::{Cursor, CursorError};
pub(crate) use form::EventBatchV1;
pub use log::{EventBatch, EventLog, EventsHeld, Flush, Taken};
pub use reading::{CallLog, Gap, Item, Seen};
