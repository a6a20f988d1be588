//! What the console shows of a flow. A flow has no record: its connection ends with its node.

use serde::{Deserialize, Serialize};

/// A connection, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// `new`, `open` or `closing`.
    pub state: String,
    /// Which connection.
    pub flow: Option<String>,
    /// Whole messages that came.
    pub messages: u64,
    /// Registrations that are told of its end.
    pub watchers: usize,
}
