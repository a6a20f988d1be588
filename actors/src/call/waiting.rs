//! Whether a user whom a call is for, and who wants none beside another (`call_waiting`), is in one.
//!
//! In: the calls of which its registration knows that the user began them or was looked for by them
//! (`registration/engaged.rs`). Out: each is asked whether the user is with it; what they say decides, so that
//! nothing that was lost makes anybody busy for ever.
//!
//! | event | does |
//! |---|---|
//! | LocatedAs, no call waiting, other calls known | each of those is asked |
//! | With, it is | the user is busy: 486, or elsewhere as it has set; a group passes it over |
//! | With, it is not; there is no such call | its registration forgets that call |
//! | the last one says no, or 500 ms | the phones ring |
//! | IsWith | whether the user calls, is called, rings or talks here |
//! | the call begins, or somebody comes from another one | the registration of who is there now is told |
//!
//! Of two calls that look for a user at once the one that was first there is let in: only calls that the
//! registration knew before are asked. Whoever is called back by an emergency service is called
//! (RFC 7090: `Priority: psap-callback`).

use std::collections::BTreeSet;
use std::time::Duration;

use contract::{ActorId, CallKey};
use sip::{Aor, HeaderName};

use super::Message;
use super::core::{Call, CallCtx, State, Timer};
use crate::registration::settings::Settings;
use crate::wire::FORM_3_SINCE;
use crate::{Inbound, Target, registration};

/// How long other calls have to say whether a user is with them: the user's own phone may still say that it
/// is busy.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// A user who was found, and the calls that have not said whether it is with them; not stored: it is looked for
/// again by whoever goes on.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Bound: `ENGAGED_CALLS_MAX`.
    asked: BTreeSet<CallKey>,
    targets: Vec<Target>,
    settings: Box<Settings>,
}

/// Tells whether an emergency service calls back.
pub(super) fn is_callback(inbound: &Inbound) -> bool {
    let priority = inbound.request.header(HeaderName::Priority);
    priority.is_some_and(|value| value.trim().eq_ignore_ascii_case("psap-callback"))
}

impl Call {
    /// Somebody is in this call who was not looked for: its registration is told.
    pub(super) fn tell_in_call(&mut self, account: Option<&Aor>, ctx: &CallCtx<'_>) {
        let Some(account) = account.filter(|account| ctx.site().account(account).is_some()) else {
            return;
        };
        if ctx.health().schema >= FORM_3_SINCE {
            self.tell_whether_in_call(account, self.data.key, true);
        }
    }

    fn tell_whether_in_call(&mut self, account: &Aor, call: CallKey, is_in: bool) {
        let to = ActorId::Registration(account.as_str().into());
        let message = registration::Message::InCall { call, is_in };
        self.tell(to, message.into());
    }

    /// Asks the calls that a user may be in; tells whether there are any.
    pub(super) fn ask_engaged(
        &mut self,
        aor: &Aor,
        targets: &[Target],
        settings: &Settings,
        engaged: Vec<CallKey>,
        ctx: &CallCtx<'_>,
    ) -> bool {
        let asked: BTreeSet<CallKey> = engaged.into_iter().collect();
        let is_open = settings.call_waiting || settings.do_not_disturb;
        if is_open || asked.is_empty() || self.diverting.is_callback() {
            return false;
        }
        for call in &asked {
            let (aor, reply) = (aor.clone(), self.data.key);
            self.tell(ActorId::Call(*call), Message::IsWith { aor, reply }.into());
        }
        let waiting = Waiting {
            asked,
            targets: targets.to_vec(),
            settings: Box::new(settings.clone()),
        };
        self.waiting.insert(aor.clone(), waiting);
        if self.timers.due(Timer::LocateAgain).is_none() {
            self.timers
                .set(Timer::LocateAgain, ctx.now().mono, ANSWER_WITHIN);
        }
        true
    }

    /// Another call says whether a user is with it, or is not there.
    pub(super) fn on_with(
        &mut self,
        aor: &Aor,
        call: CallKey,
        is_with: bool,
        ctx: &mut CallCtx<'_>,
    ) {
        let waiting = self.waiting.get_mut(aor);
        let Some(waiting) = waiting.filter(|waiting| waiting.asked.contains(&call)) else {
            return ctx.ignore("it was not asked, or no longer");
        };
        waiting.asked.remove(&call);
        let is_last = waiting.asked.is_empty();
        if is_with {
            return self.settle_waiting(aor, true, ctx);
        }
        self.tell_whether_in_call(aor, call, false);
        if is_last {
            self.settle_waiting(aor, false, ctx);
        }
    }

    /// Calls that have not answered are not waited for.
    pub(super) fn on_with_late(&mut self, ctx: &mut CallCtx<'_>) {
        let late: Vec<Aor> = self.waiting.keys().cloned().collect();
        for aor in late {
            self.settle_waiting(&aor, false, ctx);
        }
    }

    fn settle_waiting(&mut self, aor: &Aor, is_busy: bool, ctx: &mut CallCtx<'_>) {
        let Some(Waiting {
            targets, settings, ..
        }) = self.waiting.remove(aor)
        else {
            return;
        };
        if self.waiting.is_empty() && !self.is_hunting() {
            self.timers.clear(Timer::LocateAgain);
        }
        if is_busy {
            tracing::info!(call = %self.data.key, callee = %aor, "in another call");
            self.tell_whether_in_call(aor, self.data.key, false);
        }
        self.on_found(aor, targets, settings, is_busy, ctx);
    }

    /// Another call asks whether a user is with this one.
    pub(super) fn on_is_with(&mut self, aor: Aor, reply: CallKey) {
        let is_with = self.has_party(&aor);
        let call = self.data.key;
        let word = Message::With { aor, call, is_with };
        self.tell(ActorId::Call(reply), word.into());
    }

    fn has_party(&self, aor: &Aor) -> bool {
        let calls = self.identity().account.as_ref() == Some(aor);
        let is_called = self.data.callee.as_ref() == Some(aor);
        match self.data.state {
            State::New | State::Ending(_) | State::Over => false,
            State::Preparing => calls,
            State::Locating { .. } | State::Ringing if self.is_hunting() => {
                calls || self.hunts(aor)
            }
            State::Locating { .. } => calls || self.looks_for(aor),
            State::Ringing => calls || is_called,
            State::Answering { .. } | State::Talking { .. } => {
                calls || (is_called && self.callee_side().is_some())
            }
        }
    }
}
