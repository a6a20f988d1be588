//! The stored form of a call: who is in it and how far it is.
//!
//! | form | since | has besides |
//! |---|---|---|
//! | `SnapshotV1` | 1.0 | – |
//! | `SnapshotV2` | calls that another node had | that, and who does not know yet where we are |
//! | `SnapshotV3` | schema 2 | how many nodes have had it |
//! | `Snapshot` | schema 3 | what transfers have made of it, what users have set for it, who comes and leaves, who of a group is called, what applications have ordered, where it is parked |
//!
//! For schema 1 a call is written in the first form if no other node had it, else in the second:
//! whoever reads it there knows of one other node. Nobody is put through before all nodes read
//! schema 3, and a call in which nobody was is written in the third form.

use std::collections::{BTreeMap, VecDeque};

use contract::{Deadlines, Now, SchemaVersion, StoredDeadline};
use serde::{Deserialize, Serialize};

use super::bequest;
use super::core::{Call, Data, End, Stage, State, Timer};
use super::diverting::Diverting;
use super::ending::{BY_THE_OTHER_COPY, GIVE_UP_AFTER};
use super::hunting::Hunting;
use super::joining::Joining;
use super::parking::Parked;
use super::picking::Picking;
use super::steering::Steering;
use super::takeover::Moves;
use super::transfer::Roles;
use crate::site::Step;

/// The first stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotV1 {
    data: Data,
    timers: Vec<(Timer, StoredDeadline)>,
}

/// The second stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotV2 {
    data: Data,
    timers: Vec<(Timer, StoredDeadline)>,
    is_inherited: bool,
    moves: Moves,
}

/// The third stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotV3 {
    data: Data,
    timers: Vec<(Timer, StoredDeadline)>,
    changes_of_node: u32,
    moves: Moves,
}

/// The stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    data: Data,
    timers: Vec<(Timer, StoredDeadline)>,
    /// How often another node has taken it over or been handed it.
    changes_of_node: u32,
    moves: Moves,
    roles: Roles,
    diverting: Diverting,
    joining: Joining,
    hunting: Option<Box<Hunting>>,
    picking: Option<Box<Picking>>,
    steering: Steering,
    parked: Option<Box<Parked>>,
}

impl From<SnapshotV1> for Snapshot {
    fn from(first: SnapshotV1) -> Self {
        Snapshot {
            data: first.data,
            timers: first.timers,
            changes_of_node: 0,
            moves: Moves::new(),
            roles: Roles::default(),
            diverting: Diverting::default(),
            joining: Joining::default(),
            hunting: None,
            picking: None,
            steering: Steering::default(),
            parked: None,
        }
    }
}

impl Snapshot {
    /// Tells whether the caller has its 200.
    pub(crate) const fn is_answered(&self) -> bool {
        self.data.state.is_answered()
    }

    /// Tells whether another copy in which the caller has its 200 knows better.
    pub(crate) const fn is_unanswered(&self) -> bool {
        let is_unanswered =
            self.data.state.is_unanswered() || self.data.has_left_caller_unanswered();
        is_unanswered && self.roles.transfer.is_none()
    }

    /// Tells whether it knows better than another copy, though that one answers the caller, too.
    pub(crate) fn is_ahead_of(&self, other: &Snapshot) -> bool {
        other.data.is_behind(&self.data)
    }

    pub(super) fn into_data(self) -> Data {
        self.data
    }

    /// Returns it as one that ends: its parties know of it only here.
    pub(crate) fn ended_elsewhere(mut self, now: Now) -> Self {
        let end = End {
            cause: bequest::CAUSE.to_owned(),
            status: 502,
            by: BY_THE_OTHER_COPY.to_owned(),
            at: now.utc,
        };
        self.data.state = State::Ending(Box::new(end));
        self.data.exchange = None;
        self.data.targets.clear();
        self.moves.clear();
        self.joining = Joining::default();
        self.hunting = None;
        self.picking = None;
        self.parked = None;
        for side in self.data.sides.values_mut() {
            // A dialog that is only being described was not begun.
            side.has_dialog &= !matches!(side.stage, Stage::Describing(_));
            side.stage = Stage::Leaving;
        }
        let mut timers = Deadlines::default();
        timers.set(Timer::GiveUp, now.mono, GIVE_UP_AFTER);
        self.timers = timers.to_stored(now);
        self
    }
}

impl From<SnapshotV2> for Snapshot {
    fn from(second: SnapshotV2) -> Self {
        Snapshot {
            data: second.data,
            timers: second.timers,
            changes_of_node: u32::from(second.is_inherited),
            moves: second.moves,
            roles: Roles::default(),
            diverting: Diverting::default(),
            joining: Joining::default(),
            hunting: None,
            picking: None,
            steering: Steering::default(),
            parked: None,
        }
    }
}

impl From<SnapshotV3> for Snapshot {
    fn from(third: SnapshotV3) -> Self {
        Snapshot {
            data: third.data,
            timers: third.timers,
            changes_of_node: third.changes_of_node,
            moves: third.moves,
            roles: Roles::default(),
            diverting: Diverting::default(),
            joining: Joining::default(),
            hunting: None,
            picking: None,
            steering: Steering::default(),
            parked: None,
        }
    }
}

impl Snapshot {
    /// Returns the oldest form of schema 2 or 3 that holds it.
    ///
    /// # Errors
    /// Not a fault: the call itself, if the third form cannot hold it.
    pub(crate) fn oldest(self) -> Result<SnapshotV3, Box<Self>> {
        let has_new_step = |step: &Step| !step.is_known_to(SchemaVersion(2));
        let is_new = !self.roles.is_first()
            || self.diverting != Diverting::default()
            || self.joining != Joining::default()
            || self.hunting.is_some()
            || self.picking.is_some()
            || self.steering != Steering::default()
            || self.parked.is_some()
            || self.data.steps.iter().any(has_new_step)
            || self.timers.iter().any(|(timer, _)| *timer == Timer::Step);
        if is_new {
            return Err(Box::new(self));
        }
        Ok(SnapshotV3 {
            data: self.data,
            timers: self.timers,
            changes_of_node: self.changes_of_node,
            moves: self.moves,
        })
    }

    /// Returns the form of schema 1 that holds it: the first, or the second.
    pub(crate) fn into_schema_1(self) -> Result<SnapshotV1, Box<SnapshotV2>> {
        let (data, timers) = (self.data, self.timers);
        if self.changes_of_node == 0 {
            return Ok(SnapshotV1 { data, timers });
        }
        Err(Box::new(SnapshotV2 {
            data,
            timers,
            is_inherited: true,
            moves: self.moves,
        }))
    }
}

impl Call {
    pub(super) fn to_snapshot(&self, now: Now) -> Snapshot {
        Snapshot {
            data: self.data.clone(),
            timers: self.timers.to_stored(now),
            changes_of_node: self.changes_of_node,
            moves: self.moves.clone(),
            roles: self.roles.clone(),
            diverting: self.diverting.clone(),
            joining: self.joining.clone(),
            hunting: self.hunting.clone(),
            picking: self.picking.clone(),
            steering: self.steering.clone(),
            parked: self.parked.clone(),
        }
    }

    pub(super) fn of_snapshot(snapshot: Snapshot, now: Now) -> Self {
        let timers = Deadlines::from_stored(&snapshot.timers, now);
        Call {
            data: snapshot.data,
            changes_of_node: snapshot.changes_of_node,
            came_at: None,
            moves: snapshot.moves,
            roles: snapshot.roles,
            diverting: snapshot.diverting,
            joining: snapshot.joining,
            hunting: snapshot.hunting,
            picking: snapshot.picking,
            steering: snapshot.steering,
            parked: snapshot.parked,
            waiting: BTreeMap::new(),
            timers,
            is_changed: false,
            out: Vec::new(),
            retells: VecDeque::new(),
        }
    }
}
