//! Messages that came back: nobody is there, or has room for them.
//!
//! In: a message of ours, and why it came back. Out: the same once more, or the end of what it was
//! for.

use std::time::Duration;

use contract::limits::CALL_RETELLS_MAX;
use contract::{ActorId, Undelivered};

use super::Message;
use super::admission::Arrival;
use super::core::{CALLER, Call, CallCtx, State, Timer};
use crate::{dialog, registration};

/// Time before a message to a full inbox is told again.
const RETELL_AFTER: Duration = Duration::from_millis(100);

impl Call {
    /// A message came back.
    pub(super) fn on_undelivered(
        &mut self,
        to: ActorId,
        message: crate::Message,
        why: Undelivered,
        ctx: &mut CallCtx<'_>,
    ) {
        if let crate::Message::Call(Message::IsWith { aor, .. }) = &message
            && let (Some(call), Undelivered::Absent) = (to.call(), why)
        {
            return self.on_with(aor, call, false, ctx);
        }
        // Who was to hear it need not.
        let is_word = matches!(
            message,
            crate::Message::Registration(registration::Message::InCall { .. })
                | crate::Message::Call(Message::IsWith { .. } | Message::With { .. })
        );
        if is_word {
            return ctx.ignore("nobody needs it");
        }
        let is_own = to.call() == Some(self.data.key);
        match (to, why) {
            (ActorId::Registration(of), why) => self.on_not_located_at(&of, why, ctx),
            (to, Undelivered::Busy) if is_own => self.retell(to, message, ctx),
            (ActorId::Dialog(side), Undelivered::Absent) if is_own => {
                self.on_dialog_absent(side.number(), message, ctx);
            }
            (ActorId::MediaLeg(side), Undelivered::Absent) if is_own => {
                self.on_leg_closed(side.number(), ctx);
            }
            (to @ (ActorId::Dialog(_) | ActorId::Call(_)), Undelivered::Absent) if !is_own => {
                self.on_joined_absent(&to, ctx);
            }
            (_, Undelivered::Absent | Undelivered::Busy) => ctx.ignore("nobody needs it"),
        }
    }

    fn retell(&mut self, to: ActorId, message: crate::Message, ctx: &mut CallCtx<'_>) {
        if self.retells.len() >= CALL_RETELLS_MAX {
            return self.end(503, "SWITCH_CONGESTION", "weft", ctx);
        }
        self.retells.push_back((to, message));
        self.timers.set(Timer::Retell, ctx.now().mono, RETELL_AFTER);
    }

    /// A dialog is not there: it was not safe before a crash, or has stopped.
    fn on_dialog_absent(&mut self, side: u8, message: crate::Message, ctx: &mut CallCtx<'_>) {
        let is_ending = matches!(self.data.state, State::Ending(_) | State::Over);
        let is_early = self.data.answered.is_none() && !is_ending;
        let is_known = self.data.sides.contains_key(&side);
        let crate::Message::Dialog(message) = message else {
            return ctx.ignore("not for a dialog");
        };
        if side == CALLER && is_early && is_known {
            // Nothing of it was ever sent, so the caller's INVITE will come again.
            if let dialog::Message::Retransmitted(inbound) = message {
                return self.serve(Arrival::Invite(inbound));
            }
            if let dialog::Message::Dial(dial) = message {
                return self.serve(Arrival::Dial(dial));
            }
            if matches!(message, dialog::Message::Report) {
                return ctx.ignore("its INVITE will come again");
            }
        }
        tracing::debug!(call = %self.data.key, side, ?message, "a dialog is gone");
        self.on_side_lost(side, ctx);
    }
}
