//! Legs that another node has now: what their peers still send here is passed on until they send it
//! there (`cluster.md` §6, make before break).
//!
//! In: legs, the time, when their peers were heard last. Out: the ones that are over. Whether an end
//! has been told is not known here, and need not be: who sends there is silent here. The legs of a
//! call are over together, since a packet comes to one of them and leaves from another.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::limits::{LINGER_QUIET_MS, LINGER_S_MAX, LINGER_S_MIN};
use contract::{CallKey, SideKey, Time};

/// Between two looks at who is silent.
const LOOK: Duration = Duration::from_millis(500);

/// The legs, and since when.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    since: BTreeMap<SideKey, Time>,
    look: Option<Time>,
}

impl Lingering {
    pub(super) fn add(&mut self, leg: SideKey, now: Time) {
        self.since.entry(leg).or_insert(now);
        self.look.get_or_insert(now + LOOK);
    }

    pub(super) fn forget(&mut self, leg: SideKey) {
        self.since.remove(&leg);
        if self.since.is_empty() {
            self.look = None;
        }
    }

    pub(super) fn has(&self, leg: SideKey) -> bool {
        self.since.contains_key(&leg)
    }

    pub(super) fn len(&self) -> usize {
        self.since.len()
    }

    /// Returns when `over` is to be asked next.
    pub(super) const fn next_look(&self) -> Option<Time> {
        self.look
    }

    /// Returns the legs that are over; asked again, they are the same until they are forgotten.
    ///
    /// In: `heard`, when a leg's peer was heard last.
    pub(super) fn over(
        &mut self,
        now: Time,
        heard: impl Fn(SideKey) -> Option<Time>,
    ) -> Vec<SideKey> {
        if self.look.is_none_or(|look| now < look) {
            return Vec::new();
        }
        self.look = Some(now + LOOK);
        let mut calls: BTreeMap<CallKey, (Time, Time)> = BTreeMap::new();
        for (leg, since) in &self.since {
            let last = heard(*leg).unwrap_or(*since);
            let call = calls.entry(leg.call()).or_insert((*since, last));
            *call = (call.0.max(*since), call.1.max(last));
        }
        let is_over = |leg: &&SideKey| {
            let call = calls.get(&leg.call());
            call.is_some_and(|(since, last)| is_over(now, *since, *last))
        };
        self.since.keys().filter(is_over).copied().collect()
    }
}

fn is_over(now: Time, since: Time, last: Time) -> bool {
    let is_silent = now.since(last) >= Duration::from_millis(LINGER_QUIET_MS);
    let age = now.since(since);
    age >= Duration::from_secs(LINGER_S_MAX)
        || (is_silent && age >= Duration::from_secs(LINGER_S_MIN))
}
