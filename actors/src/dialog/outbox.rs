//! The order of what one event of a dialog leads to: write before you speak.
//!
//! In: tells and the wish to store. Out: actions in this order: 100 Trying; the part, lazily; what
//! the call is told; the part behind the gate; what lanes are told. So the call and its other sides
//! go on at once, and nothing reaches a peer before it is safe: a repetition of what waits behind
//! the gate waits behind it too.

use contract::{ActorId, Ctx};

use sip::Aor;

use crate::{Message, Site, call, lane, registration};

/// How the part is recorded after the event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Save {
    #[default]
    No,
    Lazily,
    Gated,
}

/// What one event leads to.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    call: Vec<call::Message>,
    lane: Vec<(ActorId, lane::Message)>,
    locate: Option<ActorId>,
    save: Save,
}

impl Outbox {
    /// Tells a lane.
    pub(super) fn lane(&mut self, to: ActorId, message: lane::Message) {
        self.lane.push((to, message));
    }

    /// Tells the call.
    pub(super) fn call(&mut self, message: call::Message) {
        self.call.push(message);
    }

    /// Asks a registration where its user can be reached.
    pub(super) fn locate(&mut self, account: &Aor) {
        self.locate = Some(ActorId::Registration(account.as_str().into()));
    }

    /// Records the part; nothing waits.
    pub(super) fn save(&mut self) {
        self.save = self.save.max(Save::Lazily);
    }

    /// Records the part before any lane is told.
    pub(super) fn save_first(&mut self) {
        self.save = Save::Gated;
    }

    /// Performs it all.
    pub(super) fn flush(&mut self, call: &ActorId, ctx: &mut Ctx<'_, Message, Site>) {
        let is_gated = self.save == Save::Gated && !self.lane.is_empty();
        if self.save != Save::No && !(is_gated && self.call.is_empty()) {
            ctx.store();
        }
        for message in self.call.drain(..) {
            ctx.tell(call.clone(), message.into());
        }
        if is_gated {
            ctx.store_and_gate();
        }
        for (to, message) in self.lane.drain(..) {
            ctx.tell(to, message.into());
        }
        if let Some(to) = self.locate.take() {
            let reply = ctx.me().clone();
            ctx.tell(to, registration::Message::Locate { reply }.into());
        }
        self.save = Save::No;
    }
}
