//! Every deadline of the membership machine: foca's and ours.
//!
//! In: what is to happen, and when. Out: what is due, in order. A timer of the same name replaces
//! the earlier one, so the table is bounded: a few names a member. When our own scheduler was late,
//! the timers that end a peer's patience are put off by that (`cluster.md` §2).

use std::collections::BTreeMap;
use std::time::Duration;

use contract::{NodeId, Time};
use foca::Timer as FocaTimer;

use super::identity::Identity;

/// Name of a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// foca asks others to probe.
    Indirect,
    /// foca ends one probe and starts the next.
    Probe,
    /// foca declares a suspect down.
    Suspect(NodeId),
    /// foca tells news.
    Gossip,
    /// foca asks members for members.
    Announce,
    /// foca asks members that are down.
    AnnounceDown,
    /// foca forgets a member that is down; never set while `remove_down_after` is off.
    Forget(NodeId),
    /// A hint that a member is silent: the next step of our own probe.
    Hint(NodeId),
    /// What our own probe suspected is declared down.
    Doubt(NodeId),
    /// What proven dead connections made a suspect is declared down.
    Refused(NodeId),
    /// No active member: the seeds are asked.
    Seeds,
    /// The table of metadata is exchanged.
    Table,
}

impl Timer {
    /// Tells whether this timer ends the patience with a peer, so that our own lag must not count.
    fn is_patience(self) -> bool {
        match self {
            Timer::Indirect
            | Timer::Probe
            | Timer::Suspect(_)
            | Timer::Hint(_)
            | Timer::Doubt(_)
            | Timer::Refused(_) => true,
            Timer::Gossip
            | Timer::Announce
            | Timer::AnnounceDown
            | Timer::Forget(_)
            | Timer::Seeds
            | Timer::Table => false,
        }
    }
}

/// What foca wants back when a timer of its own is due.
type FocaEvent = FocaTimer<Identity>;

/// The deadlines. Bound: five names a node and seven others.
#[derive(Default)]
pub(super) struct Timers {
    due: BTreeMap<Timer, (Time, Option<FocaEvent>)>,
}

impl Timers {
    /// Sets a deadline of ours.
    pub(super) fn set(&mut self, timer: Timer, at: Time) {
        self.due.insert(timer, (at, None));
    }

    /// Removes a deadline.
    pub(super) fn clear(&mut self, timer: Timer) {
        self.due.remove(&timer);
    }

    /// Tells whether a deadline is set.
    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.due.contains_key(&timer)
    }

    /// Sets a deadline of foca's. The same suspicion keeps its earlier deadline; anything else of
    /// the same name is void by foca's own rules (another token or incarnation).
    pub(super) fn set_foca(&mut self, event: FocaEvent, at: Time) {
        let timer = match &event {
            FocaTimer::SendIndirectProbe { .. } => Timer::Indirect,
            FocaTimer::ProbeRandomMember(_) => Timer::Probe,
            FocaTimer::ChangeSuspectToDown { member_id, .. } => Timer::Suspect(member_id.inst.node),
            FocaTimer::PeriodicGossip(_) => Timer::Gossip,
            FocaTimer::PeriodicAnnounce(_) => Timer::Announce,
            FocaTimer::PeriodicAnnounceDown(_) => Timer::AnnounceDown,
            FocaTimer::RemoveDown(id) => Timer::Forget(id.inst.node),
        };
        let same = self
            .due
            .get(&timer)
            .is_some_and(|(_, set)| set.as_ref() == Some(&event));
        if !(same && matches!(timer, Timer::Suspect(_))) {
            self.due.insert(timer, (at, Some(event)));
        }
    }

    /// Returns the earliest deadline.
    pub(super) fn next(&self) -> Option<Time> {
        self.due.values().map(|(at, _)| *at).min()
    }

    /// Takes the earliest timer that is due; equal ones in the order of their names.
    pub(super) fn take_due(&mut self, now: Time) -> Option<(Timer, Option<FocaEvent>)> {
        let (_, timer) = self
            .due
            .iter()
            .map(|(timer, (at, _))| (*at, *timer))
            .filter(|(at, _)| *at <= now)
            .min()?;
        let (_, event) = self.due.remove(&timer)?;
        Some((timer, event))
    }

    /// Puts off what ends the patience with peers if we are late by more than `tolerance`: by our
    /// lateness, and by `tolerance` on top, in which what waited in our sockets can be read.
    /// Returns how late we were, if it was too much.
    pub(super) fn forgive_lag(&mut self, now: Time, tolerance: Duration) -> Option<Duration> {
        let lag = now.since(self.next()?);
        if lag <= tolerance {
            return None;
        }
        for (timer, (at, _)) in &mut self.due {
            if timer.is_patience() {
                *at = *at + lag + tolerance;
            } else {
                // Due now, and not late any more: the same lag is not forgiven twice.
                *at = now.max(*at);
            }
        }
        Some(lag)
    }
}
