//! A caller picks up a call that rings somebody else (a feature code; RFC 5359 §2.17 does it by Replaces).
//!
//! In: whose calls may be picked up, what their registrations know of them. Out: the oldest of those calls is
//! asked to let the caller in as its callee; `joining/` does the rest. The call that picks up is the one that
//! is left, the call that rings is the one that is joined.
//!
//! | in the call that picks up | does |
//! |---|---|
//! | the step | asks the registrations which calls have looked for them lately |
//! | one of them has no time | asks it again, each 100 ms |
//! | all have answered, or 500 ms | asks the call that has looked for any of them first |
//! | it does not ring whom it was asked for any more | asks the next |
//! | it cannot say now (491) | asks the next; once all were asked this one again, each 500 ms, 16 times |
//! | none is left | 480, `NO_PICKUP` |
//!
//! | in the call that rings | does |
//! |---|---|
//! | PickUp, a fork rings whom it names | let in |
//! | PickUp, it is just being called anew | 491: it is asked again |
//! | PickUp, nobody rings that it names | 481 |
//! | Come, somebody still rings | the caller is answered, its forks end (`PICKED_OFF`), who comes is offered what it speaks |
//! | Come, somebody has answered meanwhile | nobody is there: who picks up is hung up |

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use contract::{ActorId, CallKey, SideKey, Undelivered, UtcMillis};
use serde::{Deserialize, Serialize};
use sip::Aor;

use super::core::{Call, CallCtx, Stage, State, Timer};
use super::dial_string;
use crate::registration;
use crate::site::Domain;
use crate::wire::FORM_3_SINCE;

/// How long registrations have to say which calls look for them: so often so long.
const ANSWER_WITHIN: Duration = Duration::from_millis(100);
const ANSWER_WAITS_MAX: u8 = 5;

/// When a call that could not say whether it rings is asked again, and how often.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_millis(500);
const REFUSALS_MAX: u8 = 16;

/// A call that may ring somebody; the oldest is first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Found {
    /// When it began to look for that one, by our clock.
    since: UtcMillis,
    call: CallKey,
    whom: Aor,
    /// How often it could not say whether it rings.
    refusals: u8,
}

/// What a caller that picks up has found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Picking {
    /// Whose registrations have not answered. Bound: `GROUP_MEMBERS_MAX`.
    asked: BTreeSet<Aor>,
    /// Those of them that had no time.
    busy: BTreeSet<Aor>,
    /// How often they were waited for.
    waits: u8,
    /// Calls to ask. Bound: `RINGING_CALLS_MAX` for each of those.
    found: VecDeque<Found>,
    /// The one that is being asked.
    present: Option<Found>,
}

/// Somebody wants to come as the callee of a call that rings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PickUp {
    /// Whom it rings.
    pub whom: Aor,
    /// Which party comes.
    pub from: SideKey,
    /// Whose account that is.
    pub by: Option<Aor>,
    /// It has shown that it is that: it is not only what From says.
    pub is_proven: bool,
}

/// Whose calls a step picks up: those of the targets of a dial string, or `groups`: of everybody with whom
/// the caller is in a group.
fn meant(target: &str, domain: &Domain, caller: &Aor) -> Option<BTreeSet<Aor>> {
    if target != "groups" {
        return dial_string::users(target, domain, caller);
    }
    let groups = domain.groups.values();
    let own = groups.filter(|group| group.members.iter().any(|name| name == caller.user()));
    let members = own.flat_map(|group| dial_string::members(group, domain));
    Some(members.filter(|member| member != caller).collect())
}

impl Call {
    /// The caller picks up a call that rings one of the targets.
    pub(super) fn pick_up(&mut self, target: &str, ctx: &mut CallCtx<'_>) {
        let Some(account) = self.own_account() else {
            return self.give_up(403, "CALL_REJECTED", "weft", ctx);
        };
        let domain = ctx.site().domain_of(account.domain());
        let Some(mut asked) = meant(target, domain, &account) else {
            tracing::warn!(call = %self.data.key, target, "a target that nobody serves");
            return self.give_up(404, "NO_ROUTE_DESTINATION", "weft", ctx);
        };
        while asked.len() > contract::limits::GROUP_MEMBERS_MAX {
            asked.pop_last();
        }
        self.picking = Some(Box::new(Picking {
            asked,
            ..Picking::default()
        }));
        self.enter(State::Locating { tries: 0 });
        self.wait_for_leg(ctx);
        self.ask_who_calls(ctx);
    }

    /// Returns whose account the caller is, if it is itself that dials here: not who was sent or put here.
    pub(super) fn own_account(&self) -> Option<Aor> {
        let is_own = self.diverting.path().is_empty() && self.roles.transfer.is_none();
        self.identity().account.clone().filter(|_| is_own)
    }

    /// Asks the registrations that have not answered.
    pub(super) fn ask_who_calls(&mut self, ctx: &mut CallCtx<'_>) {
        let Some(picking) = &self.picking else { return };
        if picking.asked.is_empty() {
            return self.ask_next_found(ctx);
        }
        let asked = picking.asked.clone();
        self.ask_who_call(asked, ctx);
    }

    fn ask_who_call(&mut self, asked: BTreeSet<Aor>, ctx: &CallCtx<'_>) {
        for aor in asked {
            let to = ActorId::Registration(aor.as_str().into());
            let reply = ctx.me().clone();
            self.tell(to, registration::Message::WhoCalls { reply }.into());
        }
        self.timers
            .set(Timer::LocateAgain, ctx.now().mono, ANSWER_WITHIN);
    }

    /// A registration says which calls look for it, and for how many milliseconds.
    pub(super) fn on_who_calls(
        &mut self,
        aor: &Aor,
        calls: &[(CallKey, u32)],
        ctx: &mut CallCtx<'_>,
    ) {
        let is_awaited = matches!(self.data.state, State::Locating { .. });
        let Some(picking) = self.picking.as_mut().filter(|_| is_awaited) else {
            return ctx.ignore("nothing is picked up");
        };
        if !picking.asked.remove(aor) {
            return ctx.ignore("known already");
        }
        let (own, now) = (self.data.key, ctx.now().utc);
        let calls = calls.iter().filter(|(call, _)| *call != own);
        picking.found.extend(calls.map(|(call, age_ms)| Found {
            since: UtcMillis(now.0.saturating_sub(u64::from(*age_ms))),
            call: *call,
            whom: aor.clone(),
            refusals: 0,
        }));
        self.is_changed = true;
        if picking.asked.is_empty() {
            self.ask_next_found(ctx);
        }
    }

    /// There is no such registration, so nobody looks for it; or it has no time.
    pub(super) fn on_who_calls_back(&mut self, aor: &Aor, why: Undelivered, ctx: &mut CallCtx<'_>) {
        match (why, &mut self.picking) {
            (Undelivered::Busy, Some(picking)) if picking.asked.contains(aor) => {
                picking.busy.insert(aor.clone());
                self.is_changed = true;
            }
            (Undelivered::Busy | Undelivered::Absent, _) => self.on_who_calls(aor, &[], ctx),
        }
    }

    /// Registrations have had some time, or a call that could not say whether it rings.
    pub(super) fn on_who_calls_late(&mut self, ctx: &mut CallCtx<'_>) {
        let Some(picking) = &mut self.picking else {
            return;
        };
        picking.waits = picking.waits.saturating_add(1);
        self.is_changed = true;
        if picking.asked.is_empty() {
            return self.ask_found(ctx);
        }
        if picking.waits < ANSWER_WAITS_MAX {
            let busy = std::mem::take(&mut picking.busy);
            return self.ask_who_call(busy, ctx);
        }
        // Those that have not answered are not waited for.
        picking.asked.clear();
        self.ask_next_found(ctx);
    }

    /// Asks the next call, at once if it was not asked yet.
    fn ask_next_found(&mut self, ctx: &mut CallCtx<'_>) {
        let Some(picking) = &mut self.picking else {
            return;
        };
        picking
            .found
            .make_contiguous()
            .sort_by_key(|one| (one.refusals, one.clone()));
        let next = picking.found.front();
        if next.is_some_and(|next| next.refusals > 0) && !self.joining.is_open() {
            self.is_changed = true;
            return self
                .timers
                .set(Timer::LocateAgain, ctx.now().mono, REFUSED_AGAIN_AFTER);
        }
        self.ask_found(ctx);
    }

    /// Asks the next call whether it lets the caller in.
    fn ask_found(&mut self, ctx: &mut CallCtx<'_>) {
        if self.joining.is_open() {
            return ctx.ignore("one is being asked");
        }
        self.timers.clear(Timer::LocateAgain);
        let next = self.picking.as_mut().and_then(|one| one.found.pop_front());
        self.is_changed = true;
        match next {
            Some(found) => {
                let (call, whom) = (found.call, found.whom.clone());
                if let Some(picking) = &mut self.picking {
                    picking.present = Some(found);
                }
                self.leave_to_pick_up(call, whom, ctx);
            }
            None => {
                self.picking = None;
                self.give_up(480, "NO_PICKUP", "weft", ctx);
            }
        }
    }

    /// The call that was asked does not let the caller in; 491: not now.
    pub(super) fn on_not_picked_up(&mut self, status: u16, ctx: &mut CallCtx<'_>) {
        let Some(picking) = &mut self.picking else {
            return;
        };
        let present = picking.present.take();
        if let Some(mut found) = present.filter(|_| status == 491) {
            found.refusals += 1;
            if found.refusals < REFUSALS_MAX {
                picking.found.push_back(found);
            }
        }
        self.ask_next_found(ctx);
    }

    /// Returns by which fork somebody is rung.
    ///
    /// # Errors
    /// 491 if it may ring again in a moment, 481 if it does not ring.
    pub(super) fn fork_to(&self, whom: &Aor) -> Result<u8, u16> {
        let is_sought = match &self.hunting {
            Some(_) => self.seeks(whom),
            None => self.looks_for(whom),
        };
        match self.data.state {
            State::Locating { .. } if is_sought => Err(491),
            State::Ringing => {
                let mut sides = self.data.sides.iter();
                let rings = sides.find(|(side, known)| {
                    self.is_fork(**side)
                        && known.stage != Stage::Leaving
                        && self.callee_of(**side) == Some(whom)
                });
                rings.map(|(side, _)| *side).ok_or(481)
            }
            State::Locating { .. }
            | State::New
            | State::Preparing
            | State::Answering { .. }
            | State::Talking { .. }
            | State::Ending(_)
            | State::Over => Err(481),
        }
    }

    /// Returns by which fork whom somebody wants to pick up is rung.
    ///
    /// # Errors
    /// The status why it may not.
    pub(super) fn may_pick_up(&self, ask: &PickUp, ctx: &CallCtx<'_>) -> Result<u8, u16> {
        let side = self.fork_to(&ask.whom)?;
        if ask.from.call() == self.data.key {
            return Err(482);
        }
        let by = ask.by.as_ref().map(Aor::domain);
        if by != Some(ask.whom.domain()) {
            return Err(403);
        }
        // Where the caller had to show who it is, nobody else comes by what From says.
        if ctx.site().is_proving(self.identity().listener) && !ask.is_proven {
            return Err(403);
        }
        if ctx.health().schema < FORM_3_SINCE {
            return Err(503);
        }
        if self.data.is_bypassed {
            return Err(488);
        }
        // Who has not been answered is told where we are by its 200.
        let is_being_told = self.data.answered.is_some() && !self.moves.is_empty();
        let is_called_anew = self.timers.due(Timer::CallAnew).is_some();
        if self.joining.is_open() || is_being_told || is_called_anew {
            return Err(491);
        }
        Ok(side)
    }
}
