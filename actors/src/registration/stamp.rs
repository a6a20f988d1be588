//! When something was written, in an order that all nodes agree on: a hybrid logical clock.
//!
//! In: the wall clock, the highest stamp seen. Out: the next one. It reads no clock.

use contract::{NodeId, UtcMillis};
use serde::{Deserialize, Serialize};

/// When something was written, and by which node; later ones are greater.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp {
    /// The writer's wall clock, or what it had seen of a later one.
    pub ms: u64,
    /// Counts what was written within that millisecond, or while the clock stood behind it.
    pub counter: u32,
    /// Who wrote it: two nodes never make the same stamp.
    pub node: NodeId,
}

impl Stamp {
    /// Returns the stamp of what `node` writes now, having seen this one: it is later than both
    /// this one and the clock.
    #[must_use]
    pub const fn next(self, utc: UtcMillis, node: NodeId) -> Stamp {
        let (ms, counter) = if utc.0 > self.ms {
            (utc.0, 0)
        } else {
            match self.counter.checked_add(1) {
                Some(counter) => (self.ms, counter),
                None => (self.ms.saturating_add(1), 0),
            }
        };
        Stamp { ms, counter, node }
    }
}
