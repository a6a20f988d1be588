//! Planned moves of actors between living nodes (`cluster.md` §6).
//!
//! In: wishes to move, shells at rest, frames of the other node. Out: leave for it to claim what
//! this node owns, claims of what others hand over, messages that wait and follow, one outcome for
//! whoever wanted the move. Ownership itself changes by the claim alone (`claims.rs`).
//!
//! ```text
//!  S: move ─▶ shell rests ─▶ Take ──────────▶ T: claims, takes over
//!  S: fenced; what comes waits here     ◀── Taken
//!  S: what waited goes there, then Left ───▶ T: messages of others have waited for it
//! ```
//!
//! If nothing comes of it S goes on, or claims it back if T's claim has fenced it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::{Epoch, Frame, Version, home};
use contract::core::Roster;
use contract::limits::{
    BUFFER_END_MS, MOVE_WAIT_MS, MOVES_MAX, PARCELS_MAX, PARCELS_PER_ACTOR_MAX,
};
use contract::{ActorId, FrameClass, Kind, MemberState, MoveFault, NodeInst, Time, Undelivered};

use super::{Parcel, Standing, Turn};
use crate::entry::Side;

/// Told once what came of a move.
pub(crate) type Moved = Box<dyn FnOnce(Result<(), MoveFault>) + Send>;

/// Between two tries to claim what a former shell has not left yet.
const AGAIN: Duration = Duration::from_millis(10);

/// Moves under way.
pub(super) struct Moves<R: Roster> {
    /// Out of this node, by number.
    out: BTreeMap<u64, Leaving<R>>,
    by_id: BTreeMap<ActorId, u64>,
    last: u64,
    /// To this node.
    takes: BTreeMap<ActorId, Taking<R>>,
    /// Fenced by a claim that came to nothing: claimed again once their shells have left.
    reclaims: BTreeMap<ActorId, Time>,
}

impl<R: Roster> Default for Moves<R> {
    fn default() -> Self {
        Moves {
            out: BTreeMap::new(),
            by_id: BTreeMap::new(),
            last: 0,
            takes: BTreeMap::new(),
            reclaims: BTreeMap::new(),
        }
    }
}

/// An actor on its way out.
struct Leaving<R: Roster> {
    id: ActorId,
    to: NodeInst,
    done: Option<Moved>,
    due: Time,
    /// The epoch that the other node was given leave for.
    sent: Option<Epoch>,
    is_taken: bool,
    /// Messages that came after its shell had ended, and those it had not read.
    waiting: Vec<Parcel<R>>,
}

/// An actor on its way in.
struct Taking<R: Roster> {
    from: NodeInst,
    number: u64,
    /// The epoch that its owner gives away.
    epoch: Epoch,
    stage: Stage,
    due: Time,
    /// When it is given up.
    until: Time,
    /// Messages of others, behind those that the former owner had.
    waiting: Vec<Parcel<R>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A shell that knows nothing of it leaves first.
    Waiting,
    Claiming,
    /// It runs here; what the former owner had not read is awaited.
    Running,
}

impl<R: Roster> Moves<R> {
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let out = self.out.values().map(|leaving| leaving.due);
        let takes = self.takes.values().map(|taking| taking.due);
        out.chain(takes).min()
    }

    /// Returns who hands it over, if the claim is of that epoch's successor.
    pub(super) fn giver(&self, id: &ActorId) -> Option<(NodeInst, Epoch)> {
        let taking = self.takes.get(id)?;
        (taking.stage == Stage::Claiming).then_some((taking.from, taking.epoch))
    }

    /// Tells whether another node was given leave to claim it.
    pub(super) fn is_given_away(&self, id: &ActorId) -> bool {
        let number = self.by_id.get(id);
        let leaving = number.and_then(|number| self.out.get(number));
        leaving.is_some_and(|leaving| leaving.sent.is_some())
    }

    fn forget(&mut self, number: u64) -> Option<Leaving<R>> {
        let leaving = self.out.remove(&number)?;
        self.by_id.remove(&leaving.id);
        Some(leaving)
    }
}

/// S: the node that has the actor.
impl<R: Roster> Turn<'_, R> {
    pub(super) fn move_out(&mut self, id: ActorId, to: NodeInst, epoch: Option<u64>, done: Moved) {
        let here = match self.may_move(&id, to, epoch) {
            Ok(here) => here,
            Err(why) => return done(Err(why)),
        };
        let moves = &mut self.state.moves;
        moves.last += 1;
        let number = moves.last;
        moves.by_id.insert(id.clone(), number);
        let leaving = Leaving {
            id: id.clone(),
            to,
            done: Some(done),
            due: self.now.mono + Duration::from_millis(MOVE_WAIT_MS),
            sent: None,
            is_taken: false,
            waiting: Vec::new(),
        };
        moves.out.insert(number, leaving);
        let entry = self.fabric.find(&id);
        if entry.is_some_and(|entry| entry.push_side(Side::Move(number))) {
            return;
        }
        // Passive: all there is to know of it is in its record.
        self.at_rest(number, here);
    }

    /// Returns the epoch that this node has it under.
    fn may_move(&self, id: &ActorId, to: NodeInst, epoch: Option<u64>) -> Result<Epoch, MoveFault> {
        match id.kind() {
            Kind::Registration | Kind::Call | Kind::Gateway | Kind::Parking => {}
            Kind::Dialog
            | Kind::MediaLeg
            | Kind::Flow
            | Kind::DoorSession
            | Kind::Lane
            | Kind::Console
            | Kind::Member => return Err(MoveFault::Fixed),
        }
        let here = self.epoch_here(id).ok_or(MoveFault::Unknown)?;
        if epoch.is_some_and(|epoch| epoch != here.n) {
            return Err(MoveFault::Stale);
        }
        if to == self.me() {
            return Err(MoveFault::There);
        }
        let members = self.fabric.members();
        let member = members.iter().find(|member| member.peer.inst == to);
        let member = member.ok_or(MoveFault::NoNode)?;
        if member.state != MemberState::Up {
            return Err(MoveFault::NotUp);
        }
        if self.standing(to) != Standing::Connected {
            return Err(MoveFault::Unreachable);
        }
        if self.state.moves.by_id.contains_key(id) || self.state.moves.takes.contains_key(id) {
            return Err(MoveFault::Moving);
        }
        if self.state.moves.out.len() >= MOVES_MAX {
            return Err(MoveFault::Crowded);
        }
        Ok(here)
    }

    /// Returns the epoch of a record that this life of the node owns.
    fn epoch_here(&self, id: &ActorId) -> Option<Epoch> {
        let records = &self.fabric.inner.records;
        let live = records.change(id, |owned| {
            (!owned.header().is_ended()).then(|| owned.epoch())
        });
        if let Some(live) = live {
            return live;
        }
        let store = self.fabric.env().store();
        let held = self.state.desk.held(store.as_ref(), id).ok()?;
        let seen = self.state.replicator.lost_to_epoch(id).unwrap_or_default();
        let (fence, header) = (held.fence.max(seen), held.image?.header);
        let is_ours = header.owner == self.me() && header.version.epoch == fence;
        (is_ours && !header.is_ended()).then_some(fence)
    }

    /// The shell rests and all it knows is safe: the other node may claim it.
    pub(super) fn at_rest(&mut self, number: u64, epoch: Epoch) {
        let Some(leaving) = self.state.moves.out.get_mut(&number) else {
            return;
        };
        leaving.sent = Some(epoch);
        let (id, to) = (leaving.id.clone(), leaving.to);
        let take = Frame::Take { number, id, epoch };
        if !self.send(to, FrameClass::Commit, &take) {
            self.unmoved(number, MoveFault::Unreachable);
        }
    }

    /// Nothing comes of it: the shell goes on, or claims back what it was fenced from.
    pub(super) fn unmoved(&mut self, number: u64, why: MoveFault) {
        let Some(leaving) = self.state.moves.forget(number) else {
            return;
        };
        let Leaving {
            id,
            done,
            sent,
            waiting,
            ..
        } = leaving;
        tracing::debug!(actor = %id, %why, "not moved");
        if let Some(done) = done {
            done(Err(why));
        }
        match self.fabric.find(&id) {
            Some(entry) => {
                entry.push_side(Side::Thaw);
                if sent.is_some() {
                    let until = self.now.mono + Duration::from_millis(MOVE_WAIT_MS);
                    self.state.moves.reclaims.insert(id, until);
                }
            }
            None if sent.is_some() => self.reclaim(&id),
            None => {}
        }
        for parcel in waiting {
            self.post(parcel);
        }
    }

    /// The shell was at rest for as long as it may be and goes on; the other node may win yet.
    pub(super) fn move_refused(&mut self, number: u64, why: MoveFault) {
        let leaving = self.state.moves.out.get(&number);
        if leaving.is_some_and(|leaving| leaving.sent.is_none()) {
            self.unmoved(number, why);
        }
    }

    /// A record that names this life as its owner, under a fence of somebody who has not written it.
    fn reclaim(&mut self, id: &ActorId) {
        let store = self.fabric.env().store();
        let Ok(held) = self.state.desk.held(store.as_ref(), id) else {
            return;
        };
        let seen = self.state.replicator.lost_to_epoch(id).unwrap_or_default();
        let (me, fence) = (self.me(), held.fence.max(seen));
        let is_left = held.image.is_some_and(|image| {
            let header = &image.header;
            header.owner == me && !header.is_ended() && header.version.epoch < fence
        });
        if is_left {
            self.fabric.awaken(id, &mut None);
        }
    }

    /// A shell of this node has lost its record and left; all that it had not read is posted.
    pub(super) fn shell_left(&mut self, id: &ActorId) {
        let now = self.now.mono;
        let reclaims = &mut self.state.moves.reclaims;
        let is_wanted = reclaims.remove(id).is_some_and(|until| now <= until);
        reclaims.retain(|_, until| now <= *until);
        if is_wanted {
            return self.reclaim(id);
        }
        self.follow_if_taken(id);
    }

    pub(super) fn taken(&mut self, from: NodeInst, number: u64, epoch: Epoch) {
        let leaving = self.state.moves.out.get_mut(&number);
        let Some(leaving) = leaving.filter(|leaving| leaving.to == from) else {
            return;
        };
        leaving.is_taken = true;
        let (id, done) = (leaving.id.clone(), leaving.done.take());
        let version = Version { epoch, sequence: 1 };
        let learned = self.state.directory.learn(&id, from, version);
        self.direct(learned);
        // Its claim has been here, unless this node does not hold the record.
        self.fenced(&id, epoch);
        if let Some(done) = done {
            done(Ok(()));
        }
        self.follow_if_taken(&id);
    }

    /// Sends what waited after the actor, once it is there and its former shell is gone.
    fn follow_if_taken(&mut self, id: &ActorId) {
        let moves = &mut self.state.moves;
        let Some(number) = moves.by_id.get(id).copied() else {
            return;
        };
        let is_taken = moves.out.get(&number).is_some_and(|one| one.is_taken);
        if !is_taken || self.fabric.find(id).is_some() {
            return;
        }
        let Some(leaving) = moves.forget(number) else {
            return;
        };
        for parcel in leaving.waiting {
            self.post(parcel);
        }
        // Behind all of them: of the classes that messages have none is later.
        let left = Frame::Left { number };
        self.send(leaving.to, FrameClass::Register, &left);
    }

    pub(super) fn kept(&mut self, from: NodeInst, number: u64, why: MoveFault) {
        let leaving = self.state.moves.out.get(&number);
        if leaving.is_some_and(|leaving| leaving.to == from) {
            self.unmoved(number, why);
        }
    }
}

/// T: the node that is to have it.
impl<R: Roster> Turn<'_, R> {
    pub(super) fn take_in(&mut self, from: NodeInst, number: u64, id: ActorId, epoch: Epoch) {
        if let Err(why) = self.may_take(from, &id, epoch) {
            let kept = Frame::Kept { number, why };
            self.send(from, FrameClass::Commit, &kept);
            return;
        }
        self.replicas.parcels.fetch_add(1, Ordering::SeqCst);
        let taking = Taking {
            from,
            number,
            epoch,
            stage: Stage::Waiting,
            due: self.now.mono,
            until: self.now.mono + Duration::from_millis(MOVE_WAIT_MS),
            waiting: Vec::new(),
        };
        self.state.moves.takes.insert(id.clone(), taking);
        self.begin_taking(&id);
    }

    fn may_take(&self, from: NodeInst, id: &ActorId, epoch: Epoch) -> Result<(), MoveFault> {
        let me = self.me();
        let members = self.fabric.members();
        let own = members.iter().find(|member| member.peer.inst == me);
        let is_up = own.is_none_or(|own| own.state == MemberState::Up);
        if self.fabric.health().draining || !is_up || self.fabric.is_full() {
            return Err(MoveFault::NotUp);
        }
        if self.fabric.health().overloaded {
            return Err(MoveFault::Loaded);
        }
        if self.standing(from) != Standing::Connected || home(id).is_some() {
            return Err(MoveFault::NotTaken);
        }
        if self.state.moves.takes.contains_key(id) || self.state.moves.by_id.contains_key(id) {
            return Err(MoveFault::Moving);
        }
        if self.state.moves.takes.len() >= MOVES_MAX {
            return Err(MoveFault::Crowded);
        }
        let store = self.fabric.env().store();
        let held = self.state.desk.held(store.as_ref(), id);
        let held = held.map_err(|_| MoveFault::NotTaken)?;
        if held.fence > epoch {
            return Err(MoveFault::Stale);
        }
        Ok(())
    }

    /// Starts a shell that claims it; a shell that is leaving is waited for.
    fn begin_taking(&mut self, id: &ActorId) {
        let (now, is_occupied) = (self.now.mono, self.fabric.find(id).is_some());
        let Some(taking) = self.state.moves.takes.get_mut(id) else {
            return;
        };
        if is_occupied && now < taking.until {
            taking.due = now + AGAIN;
            return;
        }
        taking.stage = Stage::Claiming;
        taking.due = taking.until;
        if is_occupied || self.fabric.awaken(id, &mut None).is_none() {
            self.not_taken(id, MoveFault::NotTaken);
        }
    }

    /// The claim came to nothing.
    pub(super) fn not_taken(&mut self, id: &ActorId, why: MoveFault) {
        let stage = self.state.moves.takes.get(id).map(|taking| taking.stage);
        if stage.is_none_or(|stage| stage == Stage::Running) {
            return;
        }
        if let Some((from, number)) = self.end_taking(id) {
            let kept = Frame::Kept { number, why };
            self.send(from, FrameClass::Commit, &kept);
        }
    }

    /// It runs here, under a claim that is safe.
    pub(super) fn taken_in(&mut self, id: &ActorId) {
        let epoch = self.fabric.inner.records.change(id, |owned| owned.epoch());
        let until = self.now.mono + Duration::from_millis(BUFFER_END_MS);
        let Some(taking) = self.state.moves.takes.get_mut(id) else {
            return;
        };
        taking.stage = Stage::Running;
        taking.due = until;
        let (from, number) = (taking.from, taking.number);
        let is_told = epoch.is_some_and(|epoch| {
            self.send(from, FrameClass::Commit, &Frame::Taken { number, epoch })
        });
        if !is_told {
            self.end_taking(id);
        }
    }

    /// The former owner has sent all it had.
    pub(super) fn has_left(&mut self, from: NodeInst, number: u64) {
        let mut takes = self.state.moves.takes.iter();
        let taken = takes.find(|(_, one)| one.from == from && one.number == number);
        if let Some(id) = taken.map(|(id, _)| id.clone()) {
            self.end_taking(&id);
        }
    }

    /// Lets through what has waited.
    fn end_taking(&mut self, id: &ActorId) -> Option<(NodeInst, u64)> {
        let taking = self.state.moves.takes.remove(id)?;
        let count = taking.waiting.len() + 1;
        for parcel in taking.waiting {
            self.post(parcel);
        }
        self.replicas.parcels.fetch_sub(count, Ordering::SeqCst);
        Some((taking.from, taking.number))
    }
}

impl<R: Roster> Turn<'_, R> {
    /// A message for an actor that is on its way waits, or is given back for the usual one.
    ///
    /// In: `via`, the node that passed it on; `None` for one of this node.
    pub(super) fn wait_for_move(
        &mut self,
        via: Option<NodeInst>,
        parcel: Parcel<R>,
    ) -> Option<Parcel<R>> {
        let owner = parcel.to.record_owner();
        let moves = &mut self.state.moves;
        if let Some(taking) = moves.takes.get_mut(&owner) {
            if via == Some(taking.from) {
                return Some(parcel);
            }
            let count = self.replicas.parcels.load(Ordering::SeqCst);
            if taking.waiting.len() >= PARCELS_PER_ACTOR_MAX || count >= PARCELS_MAX {
                self.bounce(parcel, Undelivered::Busy);
                return None;
            }
            self.replicas.parcels.fetch_add(1, Ordering::SeqCst);
            taking.waiting.push(parcel);
            return None;
        }
        let number = moves.by_id.get(&owner);
        let leaving = number.and_then(|number| moves.out.get_mut(number));
        let Some(leaving) = leaving.filter(|leaving| leaving.sent.is_some()) else {
            return Some(parcel);
        };
        if self.fabric.find(&owner).is_some() {
            return Some(parcel);
        }
        if leaving.waiting.len() >= PARCELS_PER_ACTOR_MAX {
            self.bounce(parcel, Undelivered::Busy);
            return None;
        }
        leaving.waiting.push(parcel);
        None
    }

    /// Does what is due.
    pub(super) fn moves_due(&mut self) {
        let now = self.now.mono;
        let out = self.state.moves.out.iter();
        let out = out.filter(|(_, leaving)| leaving.due <= now);
        let late: Vec<(u64, bool)> = out.map(|(number, one)| (*number, one.is_taken)).collect();
        for (number, is_taken) in late {
            if !is_taken {
                self.unmoved(number, MoveFault::Silent);
            } else if let Some(leaving) = self.state.moves.forget(number) {
                for parcel in leaving.waiting {
                    self.post(parcel);
                }
            }
        }
        let takes = self.state.moves.takes.iter();
        let takes = takes.filter(|(_, taking)| taking.due <= now);
        let due: Vec<(ActorId, Stage)> = takes.map(|(id, one)| (id.clone(), one.stage)).collect();
        for (id, stage) in due {
            match stage {
                Stage::Waiting => self.begin_taking(&id),
                Stage::Claiming => self.not_taken(&id, MoveFault::NotTaken),
                Stage::Running => {
                    self.end_taking(&id);
                }
            }
        }
    }

    /// A node cannot be reached any more: what it was to take stays, what it had is here.
    pub(super) fn moves_lost(&mut self, life: NodeInst) {
        let out = self.state.moves.out.iter();
        let lost: Vec<u64> = out
            .filter(|(_, leaving)| leaving.to == life && !leaving.is_taken)
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            self.unmoved(number, MoveFault::Unreachable);
        }
        let takes = self.state.moves.takes.iter();
        let lost: Vec<ActorId> = takes
            .filter(|(_, one)| one.from == life && one.stage == Stage::Running)
            .map(|(id, _)| id.clone())
            .collect();
        for id in lost {
            self.end_taking(&id);
        }
    }
}
