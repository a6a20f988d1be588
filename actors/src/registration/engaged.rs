//! The calls that a user may be in, of one who wants none beside another (`call_waiting`).
//!
//! In: calls that look for the user, calls that it begins or comes to. Out: the calls that were known before,
//! for the call that looks for it: that asks them (`call/waiting.rs`) and says which are over. Nobody counts on
//! hearing that: a call that is known here and is none is forgotten when it is next asked for. They are
//! recorded, not safe first. Of users who want calls beside others nothing is kept.

use std::collections::BTreeSet;

use contract::CallKey;
use contract::limits::ENGAGED_CALLS_MAX;

use super::core::{Context, Registration};

impl Registration {
    fn counts_calls(&self) -> bool {
        let set = self.settings.as_ref();
        set.is_some_and(|kept| !kept.settings.call_waiting)
    }

    /// A call looks for the user: returns the others that it may be in, which came before.
    pub(super) fn engage(&mut self, call: CallKey, ctx: &mut Context<'_>) -> Vec<CallKey> {
        if !self.counts_calls() {
            return Vec::new();
        }
        let others = self.engaged.iter().take_while(|known| **known != call);
        let others = others.copied().collect();
        self.note_engaged(call, ctx);
        others
    }

    /// The user is in a call, or no longer.
    pub(super) fn on_in_call(&mut self, call: CallKey, is_in: bool, ctx: &mut Context<'_>) {
        if is_in && self.counts_calls() {
            return self.note_engaged(call, ctx);
        }
        let before = self.engaged.len();
        self.engaged.retain(|known| is_in || *known != call);
        if self.engaged.len() == before {
            return ctx.ignore("its calls are not counted, or this one is not known");
        }
        self.record(false, false, ctx);
    }

    fn note_engaged(&mut self, call: CallKey, ctx: &mut Context<'_>) {
        if self.engaged.contains(&call) {
            return;
        }
        if self.engaged.len() >= ENGAGED_CALLS_MAX {
            self.engaged.remove(0);
        }
        self.engaged.push(call);
        self.record(false, false, ctx);
    }
}

/// Merges what two copies know: an order of their own is theirs no more if they differ.
pub(super) fn merged(one: Vec<CallKey>, other: &[CallKey]) -> Vec<CallKey> {
    if one == other {
        return one;
    }
    let all: BTreeSet<CallKey> = one.into_iter().chain(other.iter().copied()).collect();
    all.into_iter().take(ENGAGED_CALLS_MAX).collect()
}
