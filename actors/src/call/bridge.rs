//! Targets of a bridge, the forks to them, and which of them wins (RFC 3261 §16.6, §16.7).
//!
//! In: a target of a route, bindings, what forks tell. Out: sides 2 and up; 18x for the caller; the
//! winner. Equal q rings at once, the next q when all of those failed.

use std::time::Duration;

use bytes::Bytes;
use contract::limits::{FORKS_BYTES_MAX, SIDES_PER_CALL_MAX};
use contract::{ActorId, Undelivered};
use sip::Aor;

use super::core::{CALLER, Call, CallCtx, Peer, Side, Stage, State, Timer};
use super::dial_string;
use super::early::rewritten;
use super::offering::{self, Attempt};
use super::outcome;
use crate::dialog::wire::Wire;
use crate::media_leg::{Offering, Report, Stream, Want};
use crate::registration::settings::DiversionReason;
use crate::{Site, Target, dialog, media_leg};

/// Time between look-ups for a phone whose connection is gone, and how many are made
/// (`architecture.md` §7: 8 s).
pub(super) const LOCATE_AGAIN_AFTER: Duration = Duration::from_secs(1);
pub(super) const LOCATES_MAX: u8 = 8;
/// Time before the second look-up for a registration that has no time, or whose node has just died and
/// not been replaced; each next one waits so much longer.
pub(super) const LOCATE_BUSY_AFTER: Duration = Duration::from_millis(100);
/// How long after a call has come from another node a registration of that node may still have no heir:
/// forks are called anew after up to 8 s, and looked for 8 times.
const HEIR_WITHIN: Duration = Duration::from_secs(16);

/// Octets that a side fills in the record besides three times its offer.
const SIDE_BYTES: usize = 1_536;

impl Call {
    pub(super) fn stream_of(&self, side: u8) -> Option<&Stream> {
        self.data.sides.get(&side)?.stream.as_ref()
    }

    pub(super) fn set_stream(&mut self, side: u8, stream: Stream) {
        if let Some(side) = self.data.sides.get_mut(&side) {
            side.stream = Some(stream);
            self.is_changed = true;
        }
    }

    /// Calls the targets of a route (`dial_string.rs`).
    pub(super) fn bridge(&mut self, target: &str, ctx: &mut CallCtx<'_>) {
        let site = ctx.site();
        let is_one = dial_string::is_one_user(target);
        if !is_one && self.hunt(target, ctx) {
            return;
        }
        let domain = site.domain_of(&self.identity().domain);
        let user = target.strip_prefix("user/").filter(|_| is_one);
        let Some(aor) = user.and_then(|user| dial_string::aor(user, domain)) else {
            tracing::warn!(call = %self.data.key, target, "a target that nobody serves");
            return self.give_up(404, "NO_ROUTE_DESTINATION", "weft", ctx);
        };
        if self.is_loop(&aor, ctx) {
            return;
        }
        self.data.callee = Some(aor);
        self.diverting.begin();
        self.enter(State::Locating { tries: 0 });
        // A registration that never answers must not hold the call for ever.
        let ring_timeout = ctx.site().limits.ring_timeout;
        self.timers.set(Timer::Ring, ctx.now().mono, ring_timeout);
        self.locate(ctx);
    }

    pub(super) fn locate_again(&mut self, ctx: &mut CallCtx<'_>) {
        if !self.waiting.is_empty() {
            self.on_with_late(ctx);
            if !self.is_anybody_sought() {
                return;
            }
        }
        match self.data.state {
            State::Locating { .. } if self.picking.is_some() => self.on_who_calls_late(ctx),
            State::Locating { .. } if self.is_parking() => self.ask_place(ctx),
            State::Locating { .. } => self.locate(ctx),
            State::Ringing if self.is_anybody_sought() => self.locate(ctx),
            State::New
            | State::Preparing
            | State::Ringing
            | State::Answering { .. }
            | State::Talking { .. }
            | State::Ending(_)
            | State::Over => ctx.ignore("located already"),
        }
    }

    fn locate_after(&mut self, tries: u8, wait: Duration, ctx: &CallCtx<'_>) {
        self.enter(State::Locating { tries: tries + 1 });
        self.timers.set(Timer::LocateAgain, ctx.now().mono, wait);
    }

    /// There is no such registration, or it has no time.
    pub(super) fn on_not_located_at(
        &mut self,
        registration: &str,
        why: Undelivered,
        ctx: &mut CallCtx<'_>,
    ) {
        match registration.parse() {
            Ok(aor) if self.picking.is_some() => self.on_who_calls_back(&aor, why, ctx),
            Ok(aor) if self.is_hunting() => self.on_member_not_located(&aor, why, ctx),
            Ok(_) | Err(_) => self.on_not_located(why, ctx),
        }
    }

    /// Tells whether it has come from another node a moment ago: what that one had may have no heir yet.
    pub(super) fn has_just_come(&self, ctx: &CallCtx<'_>) -> bool {
        let is_recent = |at| ctx.now().mono.since(at) < HEIR_WITHIN;
        self.changes_of_node > 0 && self.came_at.is_none_or(is_recent)
    }

    fn on_not_located(&mut self, why: Undelivered, ctx: &mut CallCtx<'_>) {
        let State::Locating { tries } = self.data.state else {
            return ctx.ignore("nobody is looked for");
        };
        if why == Undelivered::Busy && tries < LOCATES_MAX {
            return self.locate_after(tries, LOCATE_BUSY_AFTER * u32::from(tries + 1), ctx);
        }
        if self.has_just_come(ctx) && tries < LOCATES_MAX {
            // The registration may have been of the node that is gone as well.
            return self.locate_after(tries, LOCATE_AGAIN_AFTER, ctx);
        }
        if why == Undelivered::Absent && self.divert(DiversionReason::Unreachable, ctx) {
            return;
        }
        let account = self
            .data
            .callee
            .as_ref()
            .and_then(|aor| ctx.site().account(aor));
        match why {
            Undelivered::Busy => self.give_up(503, "SWITCH_CONGESTION", "weft", ctx),
            Undelivered::Absent if account.is_some() => {
                self.give_up(480, "SUBSCRIBER_ABSENT", "weft", ctx);
            }
            Undelivered::Absent => self.give_up(404, "UNALLOCATED_NUMBER", "weft", ctx),
        }
    }

    /// A registration says where its user can be reached.
    pub(super) fn on_located(&mut self, aor: &Aor, targets: Vec<Target>, ctx: &mut CallCtx<'_>) {
        if self.is_hunting() {
            return self.on_member_located(aor, targets, false, ctx);
        }
        let State::Locating { tries } = self.data.state else {
            return ctx.ignore("nobody is looked for");
        };
        if !self.looks_for(aor) {
            return ctx.ignore("somebody else was looked for");
        }
        let some_gone = targets.iter().any(|target| target.unreachable);
        let mut reachable = reachable(targets, ctx.site());
        if reachable.is_empty() && some_gone && tries < LOCATES_MAX {
            return self.locate_after(tries, LOCATE_AGAIN_AFTER, ctx);
        }
        if reachable.is_empty() {
            return self.on_not_located(Undelivered::Absent, ctx);
        }
        reachable.sort_by_key(|target| std::cmp::Reverse(target.q));
        reachable.truncate(self.room_for_forks());
        self.data.targets = reachable.into();
        self.enter(State::Ringing);
        let ring_timeout = self.ring_timeout(ctx.site());
        self.timers.set(Timer::Ring, ctx.now().mono, ring_timeout);
        self.fork(ctx);
    }

    /// Returns how many more forks fit the call and its record: one at least if there is none.
    pub(super) fn room_for_forks(&self) -> usize {
        let offer = self.data.offer.as_ref().map_or(512, |offer| offer.0.len());
        let sides = self.data.sides.values();
        let leaving = sides.filter(|side| side.stage == Stage::Leaving).count();
        let others = self.data.sides.len().saturating_sub(1 + leaving);
        // Those that have been cancelled are in the record for a while.
        let fitting = (FORKS_BYTES_MAX / (SIDE_BYTES + 3 * offer))
            .saturating_sub(leaving / 3)
            .saturating_sub(others);
        let least = usize::from(!self.is_ringing());
        fitting.clamp(least, usize::from(SIDES_PER_CALL_MAX - CALLER))
    }

    /// Calls the targets of the next q at once.
    fn fork(&mut self, ctx: &mut CallCtx<'_>) {
        let Some(q) = self.data.targets.front().map(|target| target.q) else {
            return self.all_failed(ctx);
        };
        while let Some(target) = self.data.targets.pop_front_if(|target| target.q == q) {
            let Some(side) = self.take_side() else {
                self.data.targets.clear();
                break;
            };
            self.call_target(side, target, ctx);
        }
        // An offer that cannot be passed on has ended the call.
        if self.data.state == State::Ringing && !self.is_ringing() {
            self.all_failed(ctx);
        }
    }

    /// Returns the number of a new side; `None` at the limit.
    pub(super) fn take_side(&mut self) -> Option<u8> {
        let side = self.data.next_side;
        if side > SIDES_PER_CALL_MAX {
            return None;
        }
        self.data.next_side += 1;
        self.is_changed = true;
        Some(side)
    }

    pub(super) fn call_target(&mut self, side: u8, target: Target, ctx: &mut CallCtx<'_>) {
        if self.data.is_bypassed {
            self.data
                .sides
                .insert(side, Side::new(Stage::Active, false));
            let sdp = Wire::bytes(self.data.offer.as_ref());
            return match sdp.map(|sdp| rewritten(&sdp)) {
                Some(None) => self.end(488, "INCOMPATIBLE_DESTINATION", "weft", ctx),
                Some(sdp) => self.invite(side, target, sdp),
                None => self.invite(side, target, None),
            };
        }
        let (offering, is_open) = offering::first(&target, self.callee_of(side), ctx.site());
        self.describe(side, target, offering, is_open, ctx);
    }

    /// Has a new leg describe what a target is offered; `is_open`: another kind may follow.
    pub(super) fn describe(
        &mut self,
        side: u8,
        target: Target,
        offering: Offering,
        is_open: bool,
        ctx: &mut CallCtx<'_>,
    ) {
        let start = media_leg::Message::Start {
            listener: target.flow.listener(),
            sip_source: target.flow.remote().ip(),
            beside: Some(self.side_key(self.anchor())),
            offering: Some(offering),
        };
        self.spawn(ActorId::MediaLeg(self.side_key(side)), start.into());
        let attempt = is_open.then(|| Attempt {
            target: target.clone(),
            offering,
        });
        let stage = Stage::Describing(Box::new(target));
        let mut fork = Side::new(stage, true);
        fork.attempt = attempt;
        self.data.sides.insert(side, fork);
        self.ask_offer(side, ctx);
    }

    /// Has a callee's leg describe what the caller offers, or what the configuration knows.
    pub(super) fn ask_offer(&mut self, side: u8, ctx: &CallCtx<'_>) {
        let want = match self.stream_of(self.anchor()).cloned() {
            Some(_) if self.roles.transfer.is_some() => self.want_of_transfer(side, ctx.site()),
            Some(stream) => Want::of(&self.allowed(side, stream, ctx.site())),
            None => Want::both_ways(self.configured(side, ctx.site())),
        };
        self.tell_leg(side, media_leg::Message::MakeOffer { want });
    }

    fn invite(&mut self, side: u8, target: Target, sdp: Option<Bytes>) {
        let Some(callee) = self.callee_of(side).cloned() else {
            return;
        };
        let invite = dialog::Invite {
            target,
            callee,
            from: self.identity().from.clone(),
            max_forwards: self
                .identity()
                .max_forwards
                .saturating_sub(self.diverting.hops()),
            sdp,
        };
        let invite = Box::new(invite);
        let first = match self.diverting.path() {
            [] => dialog::Message::Invite(invite),
            path => dialog::Message::InviteDiverted {
                invite,
                path: path.to_vec(),
            },
        };
        self.spawn(ActorId::Dialog(self.side_key(side)), first.into());
    }

    /// A leg has something for a fork, or for the caller's early media.
    pub(super) fn on_fork_report(&mut self, side: u8, report: Report, ctx: &mut CallCtx<'_>) {
        let stage = self.data.sides.get(&side).map(|side| side.stage.clone());
        match (side, stage, report) {
            (CALLER, _, Report::Described { sdp }) => {
                self.data.answer = Some(Wire(sdp));
                self.is_changed = true;
                self.pass_early_media();
            }
            (CALLER, _, Report::Unfit { .. }) => {
                // What this fork speaks the caller does not: no early media of it.
                self.data.early = None;
                self.is_changed = true;
            }
            (_, Some(Stage::Describing(target)), Report::Described { sdp }) => {
                if let Some(fork) = self.data.sides.get_mut(&side) {
                    fork.stage = Stage::Active;
                    self.is_changed = true;
                }
                self.invite(side, *target, Some(sdp));
            }
            (_, Some(Stage::Describing(_)), Report::Unfit { status }) => {
                self.leave(side, status, "INCOMPATIBLE_DESTINATION");
                self.note_failure(side, status, ctx);
            }
            (_, Some(Stage::Active), Report::AnswerTaken(stream)) => {
                self.set_stream(side, stream);
                self.begin_early_media(side);
            }
            (_, _, _) => ctx.ignore("not asked, or no longer"),
        }
    }

    /// A fork answered: the first wins, the others are ended.
    pub(super) fn on_answered(&mut self, side: u8, sdp: Option<Bytes>, ctx: &mut CallCtx<'_>) {
        if !self.is_fork(side) {
            return ctx.ignore("known");
        }
        let is_active = self
            .data
            .sides
            .get(&side)
            .is_some_and(|fork| fork.stage == Stage::Active);
        if self.data.state != State::Ringing || !is_active {
            return self.tell_end(side, 487, "NORMAL_CLEARING");
        }
        self.timers.clear(Timer::Ring);
        self.timers.clear(Timer::LocateAgain);
        self.owe_winner(side);
        self.data.targets.clear();
        self.end_hunt(side);
        self.end_pick_up();
        self.end_forks_but(Some(side), "LOSE_RACE");
        let known = self.data.sides.get(&side).and_then(|fork| fork.sdp.clone());
        let Some(sdp) = sdp.map(Wire).or_else(|| known.clone()) else {
            return self.give_up(488, "INCOMPATIBLE_DESTINATION", "weft", ctx);
        };
        let is_read = known.as_ref() == Some(&sdp) && self.stream_of(side).is_some();
        if let Some(fork) = self.data.sides.get_mut(&side) {
            fork.sdp = Some(sdp);
        }
        self.begin_callee_answer(Peer::Side(side), is_read, ctx);
    }

    /// Ends every fork.
    pub(super) fn end_forks(&mut self, cause: &str) {
        self.end_forks_but(None, cause);
    }

    /// Ends every fork but one.
    fn end_forks_but(&mut self, winner: Option<u8>, cause: &str) {
        let others: Vec<u8> = self
            .data
            .sides
            .keys()
            .copied()
            .filter(|side| self.is_fork(*side) && Some(*side) != winner)
            .collect();
        for side in others {
            self.leave(side, 487, cause);
        }
    }

    /// A fork failed: the next q, or the best response when no fork is left.
    pub(super) fn on_failed(&mut self, side: u8, status: u16, ctx: &mut CallCtx<'_>) {
        if self.callee_side() == Some(side) {
            return self.on_side_lost(side, ctx);
        }
        let Some(fork) = self.data.sides.get_mut(&side) else {
            return ctx.ignore("no such fork");
        };
        if fork.stage == Stage::Leaving {
            return ctx.ignore("told to end already");
        }
        fork.stage = Stage::Leaving;
        self.is_changed = true;
        if self.data.early == Some(side) {
            self.data.early = None;
            // Its phone plays none by itself once it has heard somebody.
            self.ring_back();
        }
        if self.data.state == State::Ringing && self.try_next_kind(side, status, ctx) {
            return;
        }
        self.note_failure(side, status, ctx);
    }

    /// Counts a final response, as it is passed on, among those that the caller may get.
    pub(super) fn note_status(&mut self, status: u16) {
        let best = self.data.best;
        self.data.best = Some(best.map_or(status, |best| outcome::better(best, status)));
        self.is_changed = true;
    }

    pub(super) fn note_failure(&mut self, side: u8, status: u16, ctx: &mut CallCtx<'_>) {
        if self.data.state != State::Ringing {
            return ctx.ignore("nobody is called any more");
        }
        let status = self.status_of_fork(side, outcome::passed(status));
        self.note_status(status);
        if status >= 600 {
            self.data.targets.clear();
            self.end_forks(outcome::cause_of_status(status));
        }
        if self.is_ringing() || self.is_anybody_sought() {
            return;
        }
        if self.timers.due(Timer::CallAnew).is_some() {
            self.call_anew(ctx);
        } else {
            self.fork(ctx);
        }
    }

    pub(super) fn is_ringing(&self) -> bool {
        let mut sides = self.data.sides.iter();
        sides.any(|(side, fork)| self.is_fork(*side) && fork.stage != Stage::Leaving)
    }

    pub(super) fn all_failed(&mut self, ctx: &mut CallCtx<'_>) {
        if self.next_round(ctx) {
            return;
        }
        let hunting = self.hunting.take();
        if hunting.is_some_and(|hunting| hunting.has_absent()) {
            self.note_status(480);
        }
        let status = self.data.best.unwrap_or(480);
        if self.divert_refused(status, ctx) {
            return;
        }
        self.give_up(status, outcome::cause_of_status(status), "callee", ctx);
    }
}

/// Returns where a user can be reached at present, by flows of this node.
pub(super) fn reachable(targets: Vec<Target>, site: &Site) -> Vec<Target> {
    let reachable = targets.into_iter().filter(|target| !target.unreachable);
    reachable
        .map(|target| Target {
            flow: site.flow_from_here(target.flow),
            ..target
        })
        .collect()
}
