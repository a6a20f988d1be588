//! How often each nonce was used: the check that no credentials are accepted twice
//! (RFC 7616 §3.4, threats.md 5).
//!
//! In: nonces that passed `NonceMaker::check` and credentials that passed `verify`. Out: whether
//! the count is new. One table a lane. Bound: `NONCES_PER_LANE_MAX`; the oldest nonce goes, and no
//! nonce made before it is taken for a new one afterwards.

use std::collections::BTreeMap;

use contract::limits::NONCES_PER_LANE_MAX;
use contract::{FaultClass, UtcMillis};

use super::nonce::NonceInfo;

/// The counts of the nonces of one lane.
#[derive(Clone, Debug)]
pub struct NonceCounts {
    /// The highest count of each nonce; its order is that of making.
    counts: BTreeMap<NonceInfo, u32>,
    /// Nonces made up to here and not in the table may have been used: before a restart, or before
    /// their entry was dropped.
    forgotten: Option<UtcMillis>,
    entries_max: usize,
}

/// Why a count is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CountError {
    /// The count was used, or a higher one: credentials are repeated. Answered with a new challenge
    /// without `stale`.
    #[error("nonce count was used")]
    Replay,
    /// Whether it was used is no longer known. Answered with `stale=true`.
    #[error("nonce count is forgotten")]
    Forgotten,
}

impl CountError {
    /// Tells whether the new challenge says `stale=true`.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        match self {
            CountError::Replay => false,
            CountError::Forgotten => true,
        }
    }

    /// Returns whose fault it is: the peer's, or the limit's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            CountError::Replay => FaultClass::Reject,
            CountError::Forgotten => FaultClass::Overload,
        }
    }
}

impl NonceCounts {
    /// Begins an empty table at the start of a lane: nonces made before `started` are forgotten,
    /// since an earlier life of this lane may have accepted them.
    #[must_use]
    pub const fn new(started: UtcMillis) -> Self {
        Self::with_max(started, NONCES_PER_LANE_MAX)
    }

    const fn with_max(started: UtcMillis, entries_max: usize) -> Self {
        let forgotten = match started.0.checked_sub(1) {
            Some(before) => Some(UtcMillis(before)),
            None => None,
        };
        Self {
            counts: BTreeMap::new(),
            forgotten,
            entries_max,
        }
    }

    /// Accepts a count that is higher than all before it.
    ///
    /// Order: after `verify`, at the lane that made the nonce. A lower count is a replay even if it
    /// was never seen: a client that overtakes itself is challenged once more.
    /// Errors: see `CountError`.
    pub fn accept(
        &mut self,
        nonce: &NonceInfo,
        count: u32,
        now: UtcMillis,
    ) -> Result<(), CountError> {
        self.drop_expired(now);
        if let Some(highest) = self.counts.get_mut(nonce) {
            if count <= *highest {
                return Err(CountError::Replay);
            }
            *highest = count;
            return Ok(());
        }
        if self
            .forgotten
            .is_some_and(|forgotten| nonce.made <= forgotten)
        {
            return Err(CountError::Forgotten);
        }
        if count == 0 {
            return Err(CountError::Replay);
        }
        self.counts.insert(*nonce, count);
        if self.counts.len() > self.entries_max {
            self.drop_oldest();
        }
        Ok(())
    }

    /// Returns how many nonces are counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Tells whether none is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Removes what `NonceMaker::check` refuses anyway; remembers it, should the clock be set back.
    fn drop_expired(&mut self, now: UtcMillis) {
        while self
            .counts
            .keys()
            .next()
            .is_some_and(|oldest| now > oldest.expiry())
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((oldest, _)) = self.counts.pop_first() {
            self.forgotten = self.forgotten.max(Some(oldest.made));
        }
    }
}

#[cfg(test)]
mod tests;
