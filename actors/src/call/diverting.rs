//! A call goes elsewhere than to the user it was for, as that user has set
//! (`registration/settings.rs`).
//!
//! In: what a user has set, what became of the attempt to reach it. Out: the route of the other number
//! instead, for the same caller.
//!
//! | occasion | when | without a number for it |
//! |---|---|---|
//! | always | the user is found | the phones ring |
//! | busy | it is not to be disturbed, or in another call (`waiting.rs`); 486, 600, 603; 480 of a phone that rang | 486, or its response |
//! | no answer | the phones rang as long as the user set, or any call does | 480, `NO_ANSWER` |
//! | unreachable | no phone is there; 408, 430, 480, 5xx of one that did not ring | 480, or its response |
//!
//! Nobody is called twice who has diverted the call: it ends as it would have without the last
//! diversion, 482 if that was for every call. More than `DIVERSIONS_MAX` diversions are not made. The
//! callee is told by Diversion (RFC 5806) and History-Info (RFC 7044).

use std::time::Duration;

use contract::limits::DIVERSIONS_MAX;
use contract::{ActorId, CallKey, CallNews};
use serde::{Deserialize, Serialize};
use sip::Aor;

use super::core::{CALLER, Call, CallCtx, State, Timer};
use crate::registration::settings::{Change, DiversionReason, Fault, Set, Settings};
use crate::site::Step;
use crate::wire::FORM_3_SINCE;
use crate::{dialog, registration, router};

/// Who has sent a call elsewhere, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diversion {
    /// Whose call it was.
    pub by: Aor,
    /// Why it went elsewhere.
    pub on: DiversionReason,
    /// What was dialled instead, in the domain of `by`.
    pub to: String,
}

/// What users have set for this call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Diverting {
    /// What the user has set who is being called.
    settings: Option<Box<Settings>>,
    /// Who has sent the call on, the first one first. Bound: `DIVERSIONS_MAX`.
    path: Vec<Diversion>,
    /// What a step of the route changes, until the registration has said how it went.
    change: Option<Box<Change>>,
    /// An emergency service calls back.
    is_callback: bool,
}

impl Diverting {
    /// Returns how long its phones ring before nobody answers, if the user said so.
    pub(super) fn patience(&self) -> Option<Duration> {
        let settings = self.settings.as_ref()?;
        settings.no_answer.as_ref()?;
        let seconds = settings.no_answer_s?;
        Some(Duration::from_secs(seconds.into()))
    }

    /// Tells whether an emergency service calls back.
    pub(super) const fn is_callback(&self) -> bool {
        self.is_callback
    }

    /// An emergency service calls back: also whom another call keeps busy.
    pub(super) const fn call_back(&mut self) {
        self.is_callback = true;
    }

    /// Forgets what the last callee has set.
    pub(super) fn begin(&mut self) {
        self.settings = None;
    }

    /// Returns who has sent the call on.
    pub(super) fn path(&self) -> &[Diversion] {
        &self.path
    }

    /// Returns how many hops they took.
    pub(super) fn hops(&self) -> u8 {
        u8::try_from(self.path.len()).unwrap_or(u8::MAX)
    }

    /// Forgets who has sent it on: another number is dialled.
    pub(super) fn clear(&mut self) {
        *self = Diverting::default();
    }
}

impl Call {
    /// A registration says where its user is, and what that has set.
    pub(super) fn on_located_as(
        &mut self,
        aor: &Aor,
        targets: Vec<crate::Target>,
        settings: Box<Settings>,
        engaged: Vec<CallKey>,
        ctx: &mut CallCtx<'_>,
    ) {
        let is_sought = match self.is_hunting() {
            true => self.seeks(aor),
            false => matches!(self.data.state, State::Locating { .. }) && self.looks_for(aor),
        };
        if !is_sought || !self.ask_engaged(aor, &targets, &settings, engaged, ctx) {
            self.on_found(aor, targets, settings, false, ctx);
        }
    }

    /// It is known where the user is, what it has set, and whether another call keeps it busy.
    pub(super) fn on_found(
        &mut self,
        aor: &Aor,
        targets: Vec<crate::Target>,
        settings: Box<Settings>,
        is_engaged: bool,
        ctx: &mut CallCtx<'_>,
    ) {
        let is_busy = is_engaged || settings.do_not_disturb;
        if self.is_hunting() {
            return self.on_member_located(aor, targets, is_busy, ctx);
        }
        if !matches!(self.data.state, State::Locating { .. }) || !self.looks_for(aor) {
            return ctx.ignore("somebody else was looked for");
        }
        self.diverting.settings = Some(settings);
        self.is_changed = true;
        if self.divert(DiversionReason::Always, ctx) {
            return;
        }
        if !is_busy {
            return self.on_located(aor, targets, ctx);
        }
        if !self.divert(DiversionReason::Busy, ctx) {
            self.give_up(486, "USER_BUSY", "callee", ctx);
        }
    }

    /// Sends the call elsewhere if its callee wants that on an occasion; tells whether it does.
    pub(super) fn divert(&mut self, on: DiversionReason, ctx: &mut CallCtx<'_>) -> bool {
        let set = self.diverting.settings.as_ref();
        let Some(to) = set.and_then(|set| set.target(on)).map(str::to_owned) else {
            return false;
        };
        let Some(by) = self.data.callee.clone() else {
            return false;
        };
        if self.diverting.path.len() >= DIVERSIONS_MAX {
            tracing::info!(call = %self.data.key, %by, to, "sent on too often");
            return false;
        }
        let site = ctx.site();
        let listener = site.listener(self.identity().listener);
        let profile = listener.map_or("", |listener| &listener.profile);
        let now = ctx.now().utc;
        let plan = router::plan(&to, site.domain_of(by.domain()), profile, now);
        // Only who dials a feature code means it.
        let plan = plan.filter(|plan| {
            plan.bypass == self.data.is_bypassed && !plan.steps.iter().any(Step::is_personal)
        });
        let Some(plan) = plan else {
            tracing::info!(call = %self.data.key, %by, to, "no route takes what it is to be sent to");
            return false;
        };
        tracing::debug!(call = %self.data.key, %by, route = plan.route, "diverted");
        self.end_forks("NORMAL_CLEARING");
        self.forget_forks();
        for step in plan.steps.into_iter().rev() {
            self.data.steps.push_front(step);
        }
        self.emit(CallNews::Diverted {
            by: by.to_string(),
            on: on.word().to_owned(),
            to: to.clone(),
        });
        self.diverting.settings = None;
        self.diverting.path.push(Diversion { by, on, to });
        if self.data.answered.is_none() {
            let (status, sdp) = (181, None);
            self.tell_dialog(CALLER, dialog::Message::Progress { status, sdp });
        }
        self.next_step(ctx);
        true
    }

    /// Tells whether somebody has sent this call on already; then it ends.
    pub(super) fn is_loop(&mut self, callee: &Aor, ctx: &mut CallCtx<'_>) -> bool {
        let path = &self.diverting.path;
        let (Some(last), true) = (path.last(), path.iter().any(|one| one.by == *callee)) else {
            return false;
        };
        tracing::info!(call = %self.data.key, %callee, "sent on in a circle");
        let (status, cause) = match last.on {
            DiversionReason::Always => (482, "EXCHANGE_ROUTING_ERROR"),
            DiversionReason::Busy => (486, "USER_BUSY"),
            DiversionReason::NoAnswer => (480, "NO_ANSWER"),
            DiversionReason::Unreachable => (480, "SUBSCRIBER_ABSENT"),
        };
        self.give_up(status, cause, "weft", ctx);
        true
    }

    /// Nobody answered where the callee is: tells whether the call goes on elsewhere.
    pub(super) fn divert_refused(&mut self, status: u16, ctx: &mut CallCtx<'_>) -> bool {
        let has_rung = self.data.passed.is_some();
        let on = match status {
            486 | 600 | 603 => DiversionReason::Busy,
            480 if has_rung => DiversionReason::Busy,
            408 | 430 | 480 | 500..=599 if !has_rung => DiversionReason::Unreachable,
            408 => DiversionReason::NoAnswer,
            _ => return false,
        };
        self.divert(on, ctx)
    }

    /// A step of the route changes what the caller has set.
    pub(super) fn set(&mut self, change: Change, ctx: &mut CallCtx<'_>) {
        let Some(account) = self.own_account() else {
            return self.give_up(403, "CALL_REJECTED", "weft", ctx);
        };
        self.data.callee = Some(account);
        self.diverting.change = Some(Box::new(change));
        self.enter(State::Locating { tries: 0 });
        self.wait_for_leg(ctx);
        self.locate(ctx);
    }

    /// Tells whether it is asked where a user is: not whose settings a step of the route changes.
    pub(super) fn looks_for(&self, aor: &Aor) -> bool {
        self.data.callee.as_ref() == Some(aor) && self.diverting.change.is_none()
    }

    /// Asks the registration of the callee where it is, or to change what it has set.
    pub(super) fn locate(&mut self, ctx: &mut CallCtx<'_>) {
        if self.picking.is_some() {
            return self.ask_who_calls(ctx);
        }
        if self.is_parking() {
            return self.ask_place(ctx);
        }
        if self.is_hunting() {
            return self.locate_members(ctx);
        }
        let Some(callee) = &self.data.callee else {
            return;
        };
        let to = ActorId::Registration(callee.as_str().into());
        let reply = ctx.me().clone();
        let ask = match &self.diverting.change {
            Some(change) => registration::Message::Set(Box::new(Set {
                change: (**change).clone(),
                reply,
                echo: String::new(),
            })),
            None => registration::Message::Locate { reply },
        };
        self.tell(to, ask.into());
    }

    /// The registration says how the change went.
    pub(super) fn on_set(&mut self, result: Result<(), Fault>, ctx: &mut CallCtx<'_>) {
        let is_asked = matches!(self.data.state, State::Locating { .. });
        if !is_asked || self.diverting.change.take().is_none() {
            return ctx.ignore("nothing is being set");
        }
        self.is_changed = true;
        self.data.callee = None;
        self.timers.clear(Timer::Ring);
        match result {
            Ok(()) => self.next_step(ctx),
            Err(Fault { status, why }) => {
                tracing::info!(call = %self.data.key, status, why, "not set");
                let cause = super::outcome::cause_of_status(status);
                self.give_up(status, cause, "weft", ctx);
            }
        }
    }
}

impl Step {
    /// Tells whether it acts in the caller's name: changes what it has set, or picks up what rings others.
    /// Who is called or transfers may not have that done in another's name.
    pub(crate) const fn is_personal(&self) -> bool {
        matches!(self, Step::Set { .. } | Step::PickUp { .. })
    }

    /// Tells whether nodes of an older release know of it.
    pub(super) fn is_known_to(&self, schema: contract::SchemaVersion) -> bool {
        let is_new = match self {
            Step::Set { .. }
            | Step::Play { .. }
            | Step::Replace { .. }
            | Step::PickUp { .. }
            | Step::Park { .. } => true,
            Step::Bridge { target } => !super::dial_string::is_one_user(target),
            Step::Answer
            | Step::Echo
            | Step::Tone { .. }
            | Step::Hangup { .. }
            | Step::Log { .. } => false,
        };
        schema.0 >= FORM_3_SINCE.0 || !is_new
    }
}
