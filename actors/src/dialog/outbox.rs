//! The order of what one event of a dialog leads to: write before you speak.
//!
//! In: tells and the wish to store. Out: actions in this order: the part, lazily; what the call is
//! told; the part behind the gate; what the peer is told; what others are told. So the call and its
//! other sides go on at once, and nothing reaches the peer before it is safe: a repetition of what
//! waits behind the gate waits behind it too.

use contract::{ActorId, Ctx};

use crate::{Message, Site, call};

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
    peer: Vec<(ActorId, Message)>,
    others: Vec<(ActorId, Message)>,
    save: Save,
}

impl Outbox {
    /// Tells the call.
    pub(super) fn call(&mut self, message: call::Message) {
        self.call.push(message);
    }

    /// Tells the peer, by way of the actor `to`: its lane or its connection.
    pub(super) fn peer(&mut self, to: ActorId, message: impl Into<Message>) {
        self.peer.push((to, message.into()));
    }

    /// Tells somebody else.
    pub(super) fn other(&mut self, to: ActorId, message: impl Into<Message>) {
        self.others.push((to, message.into()));
    }

    /// Records the part; nothing waits.
    pub(super) fn save(&mut self) {
        self.save = self.save.max(Save::Lazily);
    }

    /// Records the part before the peer is told.
    pub(super) fn save_first(&mut self) {
        self.save = Save::Gated;
    }

    /// Performs it all.
    pub(super) fn flush(&mut self, call: &ActorId, ctx: &mut Ctx<'_, Message, Site>) {
        let is_gated = self.save == Save::Gated && !self.peer.is_empty();
        if self.save != Save::No && !(is_gated && self.call.is_empty()) {
            ctx.store();
        }
        for message in self.call.drain(..) {
            ctx.tell(call.clone(), message.into());
        }
        if is_gated {
            ctx.store_and_gate();
        }
        for (to, message) in self.peer.drain(..).chain(self.others.drain(..)) {
            ctx.tell(to, message);
        }
        self.save = Save::No;
    }
}
