//! How a shell is brought to rest before its record is another node's (`cluster.md` §6, step 1).
//!
//! In: the wish to hand it over. Out: a shell that takes nothing from its inbox and has stored what
//! it knows, with all sides of its record, or one that goes on as if nothing had been.
//!
//! | frozen | then |
//! |---|---|
//! | it has changed since it was stored | it is stored |
//! | a side of its record is not at rest | that one is frozen, too |
//! | nothing is under way | the other node may claim it |
//! | fenced | it leaves, its inbox follows (`own.rs`) |
//! | ending, or dead, or `FREEZE_MS` are over | it goes on; whoever wanted it hears so |

use std::collections::BTreeSet;
use std::time::Duration;

use contract::core::Roster;
use contract::limits::FREEZE_MS;
use contract::{ActorId, MoveFault, Now, Time};

use crate::entry::Side;
use crate::replicas::Input;
use crate::shell::State;

/// A shell that is held still.
pub(crate) struct Frozen {
    /// The move, at the owner of the record; `None` at its sides.
    number: Option<u64>,
    pub(crate) until: Time,
    /// Sides that were told to rest, and those that do.
    asked: BTreeSet<ActorId>,
    still: BTreeSet<ActorId>,
    /// What it knows was compared with what is stored.
    is_stored: bool,
    /// Whoever wanted it knows that it rests.
    is_told: bool,
}

impl<R: Roster> State<R> {
    /// Is to be handed over (`number`), or to rest as a side of what is.
    pub(crate) fn freeze(&mut self, number: Option<u64>) {
        if self.frozen.is_some() || self.is_ending() {
            if let Some(number) = number {
                let why = MoveFault::Moving;
                self.fabric.give(Input::Unmoved { number, why });
            }
            return;
        }
        let until = self.fabric.now().mono + Duration::from_millis(FREEZE_MS);
        self.frozen = Some(Frozen {
            number,
            until,
            asked: BTreeSet::new(),
            still: BTreeSet::new(),
            is_stored: false,
            is_told: false,
        });
    }

    /// A side of its record rests.
    pub(crate) fn on_still(&mut self, side: ActorId) {
        if let Some(frozen) = &mut self.frozen {
            frozen.still.insert(side);
        }
    }

    /// Goes on, with all its sides.
    pub(crate) fn thaw(&mut self) {
        let Some(frozen) = self.frozen.take() else {
            return;
        };
        self.quiet_since = self.fabric.now().mono;
        for side in frozen.asked {
            if let Some(side) = self.fabric.find(&side) {
                side.push_side(Side::Thaw);
            }
        }
        self.entry.schedule();
    }

    /// Gives up being handed over.
    fn refuse_move(&mut self, why: MoveFault) {
        let number = self.frozen.as_ref().and_then(|frozen| frozen.number);
        self.thaw();
        if let Some(number) = number {
            self.fabric.give(Input::Unmoved { number, why });
        }
    }

    /// Does what is left to do until it rests, and says so then. Called at the end of each turn.
    pub(crate) fn come_to_rest(&mut self, now: Now) {
        let Some(frozen) = &self.frozen else { return };
        let is_owner = frozen.number.is_some();
        if self.core.is_none() || self.is_ending() || (is_owner && self.has_ended_record) {
            return self.refuse_move(MoveFault::Restless);
        }
        if now.mono >= frozen.until {
            // The other node may still win it: then this one is fenced as ever.
            return self.refuse_move(MoveFault::Restless);
        }
        if !frozen.is_stored && self.gate.is_open() && !self.is_writing() && self.unsaved.is_none()
        {
            let Some(is_stored) = self.store_change(now, is_owner) else {
                return self.refuse_move(MoveFault::Unrecorded);
            };
            if let Some(frozen) = &mut self.frozen {
                frozen.is_stored = true;
            }
            if is_stored {
                return;
            }
        }
        let is_stored = self.frozen.as_ref().is_some_and(|frozen| frozen.is_stored);
        if is_stored && self.may_leave() && self.are_sides_still() {
            self.say_still();
        }
    }

    /// Stores what has changed; tells whether that is under way. `None` if it has never stored
    /// anything and is the owner of its record: there is nothing to hand over.
    fn store_change(&mut self, now: Now, is_owner: bool) -> Option<bool> {
        let core = self.core.as_ref()?;
        let stored = self.fabric.inner.records.last(&self.entry.id);
        if stored.is_none() && is_owner {
            return None;
        }
        let same = self
            .stored_at
            .map(|at| core.snapshot(at, self.fabric.spoken()));
        if stored.is_some() && same.as_deref() == stored.as_deref() {
            return Some(false);
        }
        self.store_now(now);
        Some(true)
    }

    /// Tells all sides of its record to rest, those that come meanwhile as well.
    fn are_sides_still(&mut self) -> bool {
        let children = self.entry.status().children.clone();
        let Some(frozen) = &mut self.frozen else {
            return false;
        };
        let mut is_still = true;
        for child in children {
            let Some(entry) = self.fabric.find(&child) else {
                continue;
            };
            if frozen.asked.insert(child.clone()) {
                entry.push_side(Side::Freeze);
            }
            is_still &= frozen.still.contains(&child);
        }
        is_still
    }

    fn say_still(&mut self) {
        let Some(frozen) = &mut self.frozen else {
            return;
        };
        if std::mem::replace(&mut frozen.is_told, true) {
            return;
        }
        match frozen.number {
            Some(number) => {
                let id = &self.entry.id;
                let records = &self.fabric.inner.records;
                let epoch = records.change(id, |owned| owned.epoch());
                let Some(epoch) = epoch else {
                    return self.refuse_move(MoveFault::Unrecorded);
                };
                self.fabric.give(Input::AtRest { number, epoch });
            }
            None => {
                let parent = self.entry.parent.as_ref();
                if let Some(parent) = parent.and_then(|id| self.fabric.find(id)) {
                    parent.push_side(Side::Still(self.entry.id.clone()));
                }
            }
        }
    }
}
