//! What the fabric says in this node's name to who owns a record, and what could not be said: what only a
//! copy had that another node's has replaced here (`cluster.md` §5, §8; `crate::bequest`).
//!
//! In: such a message that came back as `Busy`. Out: the same once more, until it is there. A copy is
//! often replaced over a third node, before the one that has won is connected; the former copy is gone
//! then, and the message is all there is of what it had.

use std::time::Duration;

use contract::ActorId;
use contract::limits::UNTOLD_MAX;

use super::core::{Context, Member, Timer};

/// Time before it is said again: the longest wait between two tries to connect is twice that.
const RETELL_AFTER: Duration = Duration::from_secs(1);

impl Member {
    /// Keeps what came back.
    pub(super) fn keep_untold(
        &mut self,
        to: ActorId,
        message: crate::Message,
        ctx: &mut Context<'_>,
    ) {
        if self.untold.len() >= UNTOLD_MAX {
            tracing::warn!("what only a lost copy had is told nobody");
            self.untold.pop_front();
        }
        self.untold.push_back((to, message));
        if self.timers.due(Timer::Retell).is_none() {
            self.timers.set(Timer::Retell, ctx.now().mono, RETELL_AFTER);
        }
    }

    /// Says it again; what cannot go now comes back.
    pub(super) fn retell(&mut self, ctx: &mut Context<'_>) {
        self.timers.clear(Timer::Retell);
        for (to, message) in std::mem::take(&mut self.untold) {
            ctx.tell(to, message);
        }
    }
}
