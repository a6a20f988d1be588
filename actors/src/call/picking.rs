//! A caller picks up a call that rings somebody else (a feature code; RFC 5359 §2.17 does it by Replaces).
//!
//! In: whose calls may be picked up, what their registrations know of them. Out: the oldest of those calls is
//! asked to let the caller in as its callee; `joining/` does the rest. The call that picks up is the one that
//! is left, the call that rings is the one that is joined.
//!
//! | in the call that picks up | does |
//! |---|---|
//! | the step | asks the registrations which calls have looked for them lately |
//! | all have answered, or 500 ms | asks the call that began to ring first |
//! | it does not ring whom it was asked for any more | asks the next |
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

use contract::{ActorId, CallKey, SideKey};
use serde::{Deserialize, Serialize};
use sip::Aor;

use super::core::{Call, CallCtx, Stage, State, Timer};
use super::dial_string;
use crate::registration;
use crate::site::Domain;
use crate::wire::FORM_3_SINCE;

/// How long registrations have to say which calls look for them.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// A call that may ring somebody, and since when it is known there: the oldest is first.
type Found = (CallKey, Aor);

/// What a caller that picks up has found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Picking {
    /// Whose registrations have not answered. Bound: `GROUP_MEMBERS_MAX`.
    asked: BTreeSet<Aor>,
    /// Calls to ask. Bound: `RINGING_CALLS_MAX` for each of those.
    found: VecDeque<Found>,
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
        let found = VecDeque::new();
        self.picking = Some(Box::new(Picking { asked, found }));
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
        for aor in picking.asked.clone() {
            let to = ActorId::Registration(aor.as_str().into());
            let reply = ctx.me().clone();
            self.tell(to, registration::Message::WhoCalls { reply }.into());
        }
        self.timers
            .set(Timer::LocateAgain, ctx.now().mono, ANSWER_WITHIN);
    }

    /// A registration says which calls look for it; the one that has done so for longest is first.
    pub(super) fn on_who_calls(&mut self, aor: &Aor, calls: &[CallKey], ctx: &mut CallCtx<'_>) {
        let is_awaited = matches!(self.data.state, State::Locating { .. });
        let Some(picking) = self.picking.as_mut().filter(|_| is_awaited) else {
            return ctx.ignore("nothing is picked up");
        };
        if !picking.asked.remove(aor) {
            return ctx.ignore("known already");
        }
        let own = self.data.key;
        let calls = calls.iter().filter(|call| **call != own);
        picking.found.extend(calls.map(|call| (*call, aor.clone())));
        self.is_changed = true;
        if picking.asked.is_empty() {
            self.ask_next_found(ctx);
        }
    }

    /// Those that have not answered are not waited for.
    pub(super) fn on_who_calls_late(&mut self, ctx: &mut CallCtx<'_>) {
        if let Some(picking) = &mut self.picking {
            picking.asked.clear();
            self.is_changed = true;
        }
        self.ask_next_found(ctx);
    }

    /// Asks the next call whether it lets the caller in.
    pub(super) fn ask_next_found(&mut self, ctx: &mut CallCtx<'_>) {
        if self.joining.is_open() {
            return ctx.ignore("one is being asked");
        }
        self.timers.clear(Timer::LocateAgain);
        let next = self.picking.as_mut().and_then(|one| one.found.pop_front());
        self.is_changed = true;
        match next {
            Some((call, whom)) => self.leave_to_pick_up(call, whom, ctx),
            None => {
                self.picking = None;
                self.give_up(480, "NO_PICKUP", "weft", ctx);
            }
        }
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
