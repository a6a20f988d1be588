//! Several users are called for one another: groups, and dial strings of more than one user.
//!
//! In: the rounds of a dial string, what the registrations of a round say, what becomes of the forks. Out:
//! forks to all members of a round; the next round when nobody of this one has answered.
//!
//! | event | does |
//! |---|---|
//! | a round begins | all of its registrations are asked |
//! | Located | the member's phones of the best q ring; those of a lower one are not called |
//! | the same, it is not to be disturbed, or in another call | it counts as busy |
//! | the same, its calls go elsewhere | its phones ring all the same: the call is the group's |
//! | only unreachable ones, or no time | asked again, 8 times, while the others ring |
//! | the same, the record has no room for another fork | it is called after this round, before the next one |
//! | 6xx of a member | its other phones stop ringing (RFC 3261 §16.7: its own forks); for the group it is 486 |
//! | the round has rung for its time | its forks are cancelled, the next one begins; 480 before who was busy |
//! | everybody of it has failed | the next one begins |
//! | no round is left | the best response of all |
//! | a member answers | it is the callee, the others are cancelled |
//! | another node goes on with it | forks are cancelled, their members located again; who has refused is not called again |
//!
//! Whoever calls, or has sent the call there, is not called. The order of the rounds is drawn once, when the
//! route calls them. Numbers of sides are few: the second phone of a member rings only if one is left for
//! the first phone of everybody else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use contract::limits::HUNT_SIDES_MAX;
use contract::{ActorId, Undelivered};
use serde::{Deserialize, Serialize};
use sip::Aor;

use super::core::{Call, CallCtx, Stage, State, Timer};
use super::{dial_string, outcome};
use crate::{Target, registration};

/// Users that are called at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Round {
    /// Who. Bound: `GROUP_MEMBERS_MAX` in all rounds of a call.
    pub(super) members: Vec<Aor>,
    /// Seconds for which they ring; `None`: as any call.
    pub(super) ring_s: Option<u16>,
}

impl Round {
    /// Has others called at the same time.
    pub(super) fn join(&mut self, other: Round) {
        self.members.extend(other.members);
        self.ring_s = self.ring_s.max(other.ring_s);
    }
}

/// How long a round takes at least after a take-over: phones come back for 8 s, and ring for the shortest time
/// that a group may.
const ROUND_AFTER_ARRIVAL: Duration = Duration::from_secs(12);

/// Several users are being called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hunting {
    /// Who is called when nobody of the present round has answered.
    later: VecDeque<Round>,
    /// Who of this round is looked for, and how often it was in vain.
    sought: BTreeMap<Aor, u8>,
    /// Whose phone a side is.
    members: BTreeMap<u8, Aor>,
    ring_s: Option<u16>,
    /// Who of this round is called when its forks have ended: the record had no room.
    left_over: Vec<Aor>,
    /// Somebody has no phone here: that counts for less than what phones say.
    has_absent: bool,
}

impl Hunting {
    /// Tells whether somebody was called who has no phone here.
    pub(super) const fn has_absent(&self) -> bool {
        self.has_absent
    }
}

impl Call {
    /// Tells whether several users are called, or may be.
    pub(super) const fn is_hunting(&self) -> bool {
        self.hunting.is_some()
    }

    /// Returns how long phones ring, if a group says so.
    pub(super) fn group_patience(&self) -> Option<Duration> {
        let seconds = self.hunting.as_ref()?.ring_s?;
        Some(Duration::from_secs(seconds.into()))
    }

    /// Returns who is called by a side.
    pub(super) fn callee_of(&self, side: u8) -> Option<&Aor> {
        let hunting = self.hunting.as_ref();
        let member = hunting.and_then(|hunting| hunting.members.get(&side));
        member.or(self.data.callee.as_ref())
    }

    /// Calls whom a dial string means; tells whether it means anybody.
    pub(super) fn hunt(&mut self, target: &str, ctx: &mut CallCtx<'_>) -> bool {
        let site = ctx.site();
        let domain = site.domain_of(&self.identity().domain);
        let diverted = self.diverting.path().iter().map(|one| &one.by);
        let absent: BTreeSet<_> = self.identity().account.iter().chain(diverted).collect();
        let Some(rounds) = dial_string::rounds(target, domain, &absent, ctx.rng()) else {
            return false;
        };
        self.data.callee = None;
        self.data.best = None;
        self.diverting.begin();
        self.hunting = Some(Box::new(Hunting {
            later: rounds.into(),
            ..Hunting::default()
        }));
        if !self.next_round(ctx) {
            // Nobody but who calls is in it.
            self.give_up(480, "SUBSCRIBER_ABSENT", "weft", ctx);
        }
        true
    }

    /// Calls the users of the next round; tells whether there is one.
    pub(super) fn next_round(&mut self, ctx: &mut CallCtx<'_>) -> bool {
        let Some(hunting) = &mut self.hunting else {
            return false;
        };
        let members = std::mem::take(&mut hunting.left_over);
        let ring_s = hunting.ring_s;
        let left_over = (!members.is_empty()).then_some(Round { members, ring_s });
        let Some(round) = left_over.or_else(|| hunting.later.pop_front()) else {
            return false;
        };
        hunting.sought = round.members.into_iter().map(|one| (one, 0)).collect();
        hunting.members.clear();
        hunting.ring_s = round.ring_s;
        for timer in [Timer::LocateAgain, Timer::CallAnew] {
            self.timers.clear(timer);
        }
        self.enter(State::Locating { tries: 0 });
        self.begin_to_wait(ctx);
        self.locate_members(ctx);
        true
    }

    /// The round has its time from now on.
    pub(super) fn begin_to_wait(&mut self, ctx: &CallCtx<'_>) {
        let mut wait = self.ring_timeout(ctx.site());
        if self.is_hunting() && self.has_just_come(ctx) {
            wait = wait.max(ROUND_AFTER_ARRIVAL);
        }
        self.timers.set(Timer::Ring, ctx.now().mono, wait);
    }

    /// Asks for everybody of the round who was not found yet.
    pub(super) fn locate_members(&mut self, ctx: &CallCtx<'_>) {
        let hunting = self.hunting.as_ref();
        let sought: Vec<Aor> =
            hunting.map_or_else(Vec::new, |hunting| hunting.sought.keys().cloned().collect());
        for member in sought {
            let to = ActorId::Registration(member.as_str().into());
            let reply = ctx.me().clone();
            self.tell(to, registration::Message::Locate { reply }.into());
        }
    }

    /// Tells whether it is asked where a member is.
    pub(super) fn seeks(&self, aor: &Aor) -> bool {
        let may_be = matches!(self.data.state, State::Locating { .. } | State::Ringing);
        let hunting = self.hunting.as_ref().filter(|_| may_be);
        hunting.is_some_and(|hunting| hunting.sought.contains_key(aor))
    }

    /// Tells whether a member is looked for, or rings.
    pub(super) fn hunts(&self, aor: &Aor) -> bool {
        let rings = |hunting: &Hunting| hunting.members.values().any(|member| member == aor);
        self.seeks(aor) || self.hunting.as_deref().is_some_and(rings)
    }

    /// The registration of a member says where it is.
    pub(super) fn on_member_located(
        &mut self,
        aor: &Aor,
        targets: Vec<Target>,
        is_busy: bool,
        ctx: &mut CallCtx<'_>,
    ) {
        if !self.seeks(aor) {
            return ctx.ignore("it is not looked for, or no longer");
        }
        if is_busy {
            return self.member_fails(aor, 486, ctx);
        }
        let some_gone = targets.iter().any(|target| target.unreachable);
        let reachable = super::bridge::reachable(targets, ctx.site());
        let Some(best) = reachable.iter().map(|target| target.q).max() else {
            if some_gone && self.seek_again(aor, super::bridge::LOCATE_AGAIN_AFTER, ctx) {
                return;
            }
            return self.member_fails(aor, 480, ctx);
        };
        if let Some(hunting) = &mut self.hunting {
            hunting.sought.remove(aor);
        }
        if self.data.state != State::Ringing {
            self.enter(State::Ringing);
            self.begin_to_wait(ctx);
        }
        let targets = reachable.into_iter().filter(|target| target.q == best);
        self.call_member(aor, targets, ctx);
        self.go_on_without_ringing(ctx);
    }

    /// Calls the phones of a member, as many as there is room for.
    fn call_member(
        &mut self,
        aor: &Aor,
        targets: impl Iterator<Item = Target>,
        ctx: &mut CallCtx<'_>,
    ) {
        let mut is_called = false;
        for target in targets {
            // An offer that cannot be passed on has ended the call.
            if self.data.state != State::Ringing {
                return;
            }
            if self.room_for_forks() == 0 {
                if !is_called && let Some(hunting) = &mut self.hunting {
                    hunting.left_over.push(aor.clone());
                }
                return;
            }
            let side = self.has_number_for(is_called).then(|| self.take_side());
            let Some(side) = side.flatten() else {
                tracing::info!(call = %self.data.key, member = %aor, is_called, "no number is left");
                return;
            };
            is_called = true;
            if let Some(hunting) = &mut self.hunting {
                hunting.members.insert(side, aor.clone());
            }
            self.call_target(side, target, ctx);
        }
    }

    /// Tells whether a member may have a number for its first phone, or for one more.
    fn has_number_for(&self, is_called: bool) -> bool {
        let left = usize::from((HUNT_SIDES_MAX + 1).saturating_sub(self.data.next_side));
        let others = self.hunting.as_ref().map_or(0, |hunting| {
            let later: usize = hunting.later.iter().map(|one| one.members.len()).sum();
            hunting.sought.len() + hunting.left_over.len() + later
        });
        left > if is_called { others } else { 0 }
    }

    /// There is no registration of a member, or it has no time.
    pub(super) fn on_member_not_located(
        &mut self,
        aor: &Aor,
        why: Undelivered,
        ctx: &mut CallCtx<'_>,
    ) {
        if !self.seeks(aor) {
            return ctx.ignore("it is not looked for, or no longer");
        }
        let hunting = self.hunting.as_ref();
        let tries = hunting.and_then(|hunting| hunting.sought.get(aor));
        let wait = match why {
            Undelivered::Busy => {
                let next = u32::from(tries.copied().unwrap_or_default()) + 1;
                Some(super::bridge::LOCATE_BUSY_AFTER * next)
            }
            Undelivered::Absent if self.has_just_come(ctx) => {
                Some(super::bridge::LOCATE_AGAIN_AFTER)
            }
            Undelivered::Absent => None,
        };
        if wait.is_some_and(|wait| self.seek_again(aor, wait, ctx)) {
            return;
        }
        self.member_fails(aor, 480, ctx);
    }

    /// A member will be asked for again; tells whether it is not in vain any more.
    fn seek_again(&mut self, aor: &Aor, wait: Duration, ctx: &CallCtx<'_>) -> bool {
        let hunting = self.hunting.as_mut();
        let tries = hunting.and_then(|hunting| hunting.sought.get_mut(aor));
        let Some(tries) = tries.filter(|tries| **tries < super::bridge::LOCATES_MAX) else {
            return false;
        };
        *tries += 1;
        self.is_changed = true;
        // All are asked at once: whoever needs longest must not be asked too often.
        let due = self.timers.due(Timer::LocateAgain);
        if due.is_none_or(|due| due < ctx.now().mono + wait) {
            self.timers.set(Timer::LocateAgain, ctx.now().mono, wait);
        }
        true
    }

    /// A member cannot be called.
    fn member_fails(&mut self, aor: &Aor, status: u16, ctx: &mut CallCtx<'_>) {
        if let Some(hunting) = &mut self.hunting {
            hunting.sought.remove(aor);
            hunting.has_absent |= status == 480;
        }
        if status != 480 {
            self.note_status(status);
        }
        self.is_changed = true;
        self.go_on_without_ringing(ctx);
    }

    /// The next round begins if nobody rings, or is looked for, any more.
    pub(super) fn go_on_without_ringing(&mut self, ctx: &mut CallCtx<'_>) {
        let is_sought = self.is_anybody_sought();
        if !is_sought && !self.is_ringing() && self.timers.due(Timer::CallAnew).is_none() {
            self.all_failed(ctx);
        }
    }

    /// Tells whether members are still looked for.
    pub(super) fn is_anybody_sought(&self) -> bool {
        let hunting = self.hunting.as_ref();
        hunting.is_some_and(|hunting| !hunting.sought.is_empty())
    }

    /// Returns the status of a fork as it counts for the call: whoever declines for good does so for itself.
    pub(super) fn status_of_fork(&mut self, side: u8, status: u16) -> u16 {
        // Whoever could not be reached in the moment of a take-over is called anew with those who rang.
        let is_anew = self.timers.due(Timer::CallAnew).is_some();
        let members = self.hunting.as_mut().map(|hunting| &mut hunting.members);
        let member = members.and_then(|members| match is_anew {
            true => members.get(&side).cloned(),
            false => members.remove(&side),
        });
        let Some(member) = member.filter(|_| status >= 600) else {
            return status;
        };
        let others: Vec<u8> = self.sides_of(&member).collect();
        for other in others {
            self.leave(other, 487, outcome::cause_of_status(status));
            if self.data.early == Some(other) {
                self.data.early = None;
                self.ring_back();
            }
        }
        if let Some(hunting) = &mut self.hunting {
            hunting.members.retain(|_, one| *one != member);
        }
        486
    }

    /// Returns the sides by which a member is being called.
    fn sides_of<'a>(&'a self, member: &'a Aor) -> impl Iterator<Item = u8> {
        let is_active = |side: &u8| {
            let known = self.data.sides.get(side);
            known.is_some_and(|known| known.stage != Stage::Leaving)
        };
        let members = self.hunting.iter().flat_map(|hunting| &hunting.members);
        members
            .filter(move |(_, one)| *one == member)
            .map(|(side, _)| *side)
            .filter(is_active)
    }

    /// A side takes the place of another one: the same member is offered something else.
    pub(super) fn follow_fork(&mut self, former: u8, side: u8) {
        if let Some(hunting) = &mut self.hunting
            && let Some(member) = hunting.members.remove(&former)
        {
            hunting.members.insert(side, member);
        }
    }

    /// The round has rung for its time; tells whether there was one.
    pub(super) fn end_round(&mut self, ctx: &mut CallCtx<'_>) -> bool {
        let is_on = matches!(self.data.state, State::Locating { .. } | State::Ringing);
        if !self.is_hunting() || !is_on {
            return false;
        }
        let has_rung = self.is_ringing();
        self.end_forks("NORMAL_CLEARING");
        self.data.targets.clear();
        if self.data.early.take().is_some() {
            self.ring_back();
        }
        // Somebody might have answered: to people that is another thing than that all are busy. RFC 3261
        // §16.7 step 6 leaves open which one of a class is best.
        if has_rung {
            self.data.best = None;
        }
        self.note_status(480);
        if !self.next_round(ctx) {
            self.hunting = None;
            let status = self.data.best.unwrap_or(480);
            let cause = match status {
                480 => "NO_ANSWER",
                other => outcome::cause_of_status(other),
            };
            self.give_up(status, cause, "weft", ctx);
        }
        true
    }

    /// A member has answered.
    pub(super) fn end_hunt(&mut self, winner: u8) {
        if let Some(mut hunting) = self.hunting.take() {
            self.data.callee = hunting.members.remove(&winner);
            self.is_changed = true;
        }
    }

    /// Those whose phones rang at another node are looked for again.
    pub(super) fn seek_who_rang(&mut self) {
        if let Some(hunting) = &mut self.hunting {
            let rang = std::mem::take(&mut hunting.members).into_values();
            hunting.sought.extend(rang.map(|one| (one, 0)));
        }
    }

    /// Returns the codecs' accounts of both ends of a side.
    pub(super) fn accounts_of(&self, side: u8) -> impl Iterator<Item = &Aor> {
        let callee = match side == self.anchor() {
            true => self.data.callee.as_ref(),
            false => self.callee_of(side),
        };
        let accounts = [self.identity().account.as_ref(), callee];
        accounts.into_iter().flatten()
    }
}
