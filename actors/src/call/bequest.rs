//! Two nodes that were cut apart had the call: the one that took it over waits whether its callees ring
//! elsewhere still, and the other one, which it could not hear, has connected the caller meanwhile
//! (`cluster.md` §5, §8).
//!
//! In: the record of that one, which comes when it hears that it has lost the call. Out: `Adopt`: the
//! call goes on as it was there, its parties are told where we are. Nothing is adopted once callees
//! were called anew: that has ended what they had.

use bytes::Bytes;
use contract::{Action, ActorId};

use super::core::{Call, CallCtx, State, Timer};
use crate::roster::stored_call;

impl Call {
    /// Another node has connected the caller.
    pub(super) fn on_bequest(&mut self, parts: Vec<(ActorId, Bytes)>, ctx: &mut CallCtx<'_>) {
        let own = parts.iter().find(|(part, _)| part == ctx.me());
        let theirs = own.and_then(|(_, part)| stored_call(part));
        let waits = self.data.state == State::Ringing && self.timers.due(Timer::CallAnew).is_some();
        if !waits || !theirs.is_some_and(|theirs| theirs.is_answered()) {
            return ctx.ignore("nothing to go on with in place of what is here");
        }
        tracing::info!(call = %self.data.key, "goes on as the node had it that was cut off");
        self.out.push(Action::Adopt { parts });
    }
}
