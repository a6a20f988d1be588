//! The steps of a route, in the words of ESL applications.
//!
//! In: the steps that are left. Out: the next one, done.

use super::core::{Call, CallCtx, Peer, State};
use super::outcome;
use crate::site::Step;

impl Call {
    /// Does the next step of the route.
    pub(super) fn next_step(&mut self, ctx: &mut CallCtx<'_>) {
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
}
