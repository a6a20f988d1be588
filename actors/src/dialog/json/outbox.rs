//! The order of what one event of a JSON dialog leads to: write before you speak.
//!
//! In: tells and the wish to store. Out: actions in this order: the part, lazily; what the call is
//! told; the part behind the gate; what the client is told; questions.

use contract::{ActorId, Ctx};

use crate::door_session::{self, Delivery};
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
    client: Vec<Delivery>,
    others: Vec<(ActorId, Message)>,
    save: Save,
}

impl Outbox {
    /// Tells the call.
    pub(super) fn call(&mut self, message: call::Message) {
        self.call.push(message);
    }

    /// Says something to the client.
    pub(super) fn client(&mut self, delivery: Delivery) {
        self.client.push(delivery);
    }

    /// Tells somebody else.
    pub(super) fn other(&mut self, to: ActorId, message: Message) {
        self.others.push((to, message));
    }

    /// Records the part; nothing waits.
    pub(super) fn save(&mut self) {
        self.save = self.save.max(Save::Lazily);
    }

    /// Records the part before the client is told.
    pub(super) fn save_first(&mut self) {
        self.save = Save::Gated;
    }

    /// Performs it all.
    pub(super) fn flush(&mut self, call: &ActorId, ctx: &mut Ctx<'_, Message, Site>) {
        let is_gated = self.save == Save::Gated && !self.client.is_empty();
        if self.save != Save::No && !(is_gated && self.call.is_empty()) {
            ctx.store();
        }
        for message in self.call.drain(..) {
            ctx.tell(call.clone(), message.into());
        }
        if is_gated {
            ctx.store_and_gate();
        }
        for delivery in self.client.drain(..) {
            if let Some(to) = delivery.flow.actor() {
                ctx.tell(
                    to,
                    door_session::Message::Deliver(Box::new(delivery)).into(),
                );
            }
        }
        for (to, message) in self.others.drain(..) {
            ctx.tell(to, message);
        }
        self.save = Save::No;
    }
}
