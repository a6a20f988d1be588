//! Why an actor was not handed over to another node (`cluster.md` §6).
//!
//! In: nothing. Out: one reason, the same in the fabric, between nodes and for people.

use serde::{Deserialize, Serialize};

use crate::FaultClass;

/// Why an actor stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum MoveFault {
    /// There is neither an actor nor a record of that ID here.
    #[error("there is no such actor")]
    Unknown,
    /// Its kind belongs to its node, or moves with its call.
    #[error("it does not move by itself")]
    Fixed,
    /// No member has that number.
    #[error("there is no such node")]
    NoNode,
    /// The node has it.
    #[error("it is there already")]
    There,
    /// Ownership has moved since it was looked at.
    #[error("it has another epoch by now")]
    Stale,
    /// The node drains, or has not joined yet.
    #[error("that node takes nothing now")]
    NotUp,
    /// There is no connection with the node, or it was lost.
    #[error("that node cannot be reached")]
    Unreachable,
    /// It is on its way already.
    #[error("it is being moved already")]
    Moving,
    /// It has not stored anything that could move.
    #[error("it has nothing recorded yet")]
    Unrecorded,
    /// What it had to store did not become safe in time.
    #[error("it did not come to rest in time")]
    Restless,
    /// The other node's claim failed.
    #[error("that node could not get it")]
    NotTaken,
    /// Nothing came back.
    #[error("that node did not answer in time")]
    Silent,
    /// As many as may be are on their way.
    #[error("too many actors are being moved")]
    Crowded,
    /// The node has more to do than it gets done (`cluster.md` §11). Since schema 2.
    #[error("that node is overloaded")]
    Loaded,
}

impl MoveFault {
    /// Tells whose fault it is.
    #[must_use]
    pub const fn class(self) -> FaultClass {
        match self {
            MoveFault::Unknown | MoveFault::Fixed | MoveFault::NoNode | MoveFault::There => {
                FaultClass::Reject
            }
            MoveFault::Stale | MoveFault::Moving => FaultClass::Stale,
            MoveFault::Crowded | MoveFault::Loaded => FaultClass::Overload,
            MoveFault::NotUp
            | MoveFault::Unreachable
            | MoveFault::Unrecorded
            | MoveFault::Restless
            | MoveFault::NotTaken
            | MoveFault::Silent => FaultClass::Transient,
        }
    }
}
