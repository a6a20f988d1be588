//! What the console shows of a session. It has no record: its connection ends with its node.

use serde::{Deserialize, Serialize};

/// A client's connection, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// `new`, `open`, `registered` or `closing`.
    pub state: String,
    /// Which connection.
    pub flow: Option<String>,
    /// Who is registered.
    pub aor: Option<String>,
    /// Which of its devices.
    pub instance: Option<String>,
    /// Frames that came.
    pub messages: u64,
    /// `seq` of the last message that we started.
    pub seq: u64,
    /// Calls it has named, by its names.
    pub calls: Vec<String>,
}
