//! The steps of a route, in the words of ESL applications.
//!
//! In: the steps that are left. Out: the next one, done.

use std::time::Duration;

use super::core::{Call, CallCtx, Peer, State, Timer};
use super::outcome;
use crate::site::Step;

/// Time between two looks whether the caller has acknowledged its 200: before that no BYE may go (RFC
/// 3261 §15).
const ACK_AGAIN_AFTER: Duration = Duration::from_millis(100);

impl Call {
    /// Does the next step of the route.
    pub(super) fn next_step(&mut self, ctx: &mut CallCtx<'_>) {
        if self.leaves_on(ctx) {
            return;
        }
        while let Some(step) = self.data.steps.pop_front() {
            self.is_changed = true;
            match step {
                Step::Log { text } => {
                    tracing::info!(call = %self.data.key, text, "log");
                }
                Step::Answer if self.data.answered.is_some() => {}
                Step::Answer => return self.begin_answer(Peer::Nobody, ctx),
                Step::Echo => return self.begin_answer(Peer::Echo, ctx),
                Step::Tone { hertz, level_dbm0 } => {
                    return self.begin_answer(Peer::Tone { hertz, level_dbm0 }, ctx);
                }
                Step::Play {
                    hertz,
                    level_dbm0,
                    for_ms,
                } => {
                    let length = Duration::from_millis(for_ms.into());
                    self.timers.set(Timer::Step, ctx.now().mono, length);
                    return self.begin_answer(Peer::Tone { hertz, level_dbm0 }, ctx);
                }
                Step::PickUp { target } => return self.pick_up(&target, ctx),
                Step::Park { place } => return self.park(&place, ctx),
                Step::Set { change } => return self.set(*change, ctx),
                Step::Replace { replaces } => return self.leave_at_once(*replaces, ctx),
                Step::Bridge { target } => return self.bridge(&target, ctx),
                Step::Hangup { cause } => {
                    let cause = outcome::known_cause(&cause);
                    return self.give_up(outcome::status_of_cause(cause), cause, "weft", ctx);
                }
            }
        }
        if !matches!(self.data.state, State::Ending(_) | State::Over) {
            self.give_up(480, "NORMAL_CLEARING", "weft", ctx);
        }
    }

    /// A tone has sounded as long as the route says.
    pub(super) fn on_played(&mut self, ctx: &mut CallCtx<'_>) {
        match self.data.state {
            State::Talking {
                peer: Peer::Tone { .. },
            } => self.next_step(ctx),
            State::Answering {
                peer: Peer::Tone { .. },
                ..
            } => self
                .timers
                .set(Timer::Step, ctx.now().mono, ACK_AGAIN_AFTER),
            State::New
            | State::Preparing
            | State::Locating { .. }
            | State::Ringing
            | State::Answering { .. }
            | State::Talking { .. }
            | State::Ending(_)
            | State::Over => ctx.ignore("no tone sounds"),
        }
    }
}
