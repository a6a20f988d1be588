//! What the console shows of a lane. A lane has no record: transactions end with their node, and
//! what actors still answer then is adopted.

use serde::{Deserialize, Serialize};

/// A lane, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its number.
    pub number: u16,
    /// Server transactions, completed ones included.
    pub servers: usize,
    /// Client transactions, completed ones included.
    pub clients: usize,
    /// Transactions that have their final response.
    pub completed: usize,
    /// Requests that wait for another lane's word on their nonce.
    pub waiting: usize,
    /// Requests that other nodes send, because the connection is theirs.
    pub handed: usize,
    /// Responses to nodes that were gone, of which nobody was left to tell.
    pub dropped: u64,
    /// Source addresses with failed log-ins.
    pub failing_sources: usize,
}
