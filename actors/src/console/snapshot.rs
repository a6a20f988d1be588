//! What the console shows of itself. It has no record: its requests end with its node.

use serde::{Deserialize, Serialize};

/// The console, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Tickets that wait for answers of the node.
    pub waiting: Vec<u64>,
    /// Requests since the start.
    pub requests: u64,
}
