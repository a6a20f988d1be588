//! The stored form of a place: who has it.

use contract::CallKey;
use serde::{Deserialize, Serialize};

/// The stored form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Which call is parked there; a record without one is about to end.
    pub held: Option<CallKey>,
}
