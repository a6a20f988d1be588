//! How much a node has to do: what waits in inboxes, and whether it is too much.
//!
//! In: the verdict of whoever measures. Out: counts, and the node's health as every core sees it.

use contract::Kind;
use contract::core::Roster;

use crate::fabric::Fabric;

impl<R: Roster> Fabric<R> {
    /// Returns the number of events that wait for actors of a kind.
    ///
    /// # Panics
    /// If a holder of the table panicked.
    #[must_use]
    pub fn waiting(&self, kind: Kind) -> usize {
        let table = self.table(kind).read();
        let table = table.expect("no holder of a table panics");
        table.values().map(|entry| entry.len()).sum()
    }

    /// Sets whether the node sheds new work because it does not get done what it has.
    ///
    /// # Panics
    /// If a holder of the health's lock panicked.
    pub fn set_overloaded(&self, overloaded: bool) {
        let health = self.inner.health.write();
        let mut health = health.expect("no holder of the health panics");
        health.overloaded = overloaded;
    }
}
