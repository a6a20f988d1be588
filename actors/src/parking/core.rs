//! The transitions of a place.

use std::collections::BTreeSet;
use std::time::Duration;

use contract::limits::PARKING_WAITERS_MAX;
use contract::{
    Action, ActorId, CallKey, Core, Ctx, Event, Now, RestoreError, Store, Time, Undelivered,
};

use super::{Message, Snapshot, Word};
use crate::{Site, call};

/// One place.
#[derive(Clone, Debug, Default)]
pub struct Parking {
    held: Option<CallKey>,
    /// When who has it is asked whether it is there: not stored.
    look_at: Option<Time>,
    /// Who wants it while that is asked: not stored, they ask again. Bound: `PARKING_WAITERS_MAX`.
    waiting: BTreeSet<CallKey>,
}

/// Names of its deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Nothing was heard of who has it.
    Look,
}

/// Time after which a call of which nothing was heard is asked: three announcements.
const LOOK_AFTER: Duration = Duration::from_secs(60);
/// Quiet time after which an empty place is forgotten.
const QUIET: Duration = Duration::from_secs(2);
/// How long it is known that the record has ended: longer than a call asks for a place.
const TOMBSTONE: Duration = Duration::from_secs(64);

type Context<'a> = Ctx<'a, crate::Message, Site>;

impl Parking {
    /// Begins a place: a call that wants it does.
    #[must_use]
    pub fn create(message: &Message) -> Option<Self> {
        match message {
            Message::Take { .. } => Some(Parking::default()),
            Message::Leave { .. } => None,
        }
    }

    /// Returns the state in a word.
    #[must_use]
    pub fn state(&self) -> String {
        match self.held {
            Some(_) => "held",
            None => "empty",
        }
        .to_owned()
    }

    /// Returns the quiet time after which it may passivate: an empty place has no record.
    #[must_use]
    pub fn passivates_after(&self) -> Option<Duration> {
        self.held.is_none().then_some(QUIET)
    }

    fn take(&mut self, call: CallKey, ctx: &mut Context<'_>) {
        match self.held {
            None => {
                self.held = Some(call);
                ctx.act(Action::Store(Store::Put { gate: true }));
                self.hear_of(call, ctx);
            }
            Some(held) if held == call => self.hear_of(call, ctx),
            Some(held) => {
                if self.waiting.len() >= PARKING_WAITERS_MAX {
                    return ctx.ignore("it asks again");
                }
                self.waiting.insert(call);
                say(held, Word::AreYouThere, ctx);
            }
        }
    }

    /// Who has it is there.
    fn hear_of(&mut self, call: CallKey, ctx: &mut Context<'_>) {
        self.look_at = Some(ctx.now().mono + LOOK_AFTER);
        say(call, Word::Yours, ctx);
        for other in std::mem::take(&mut self.waiting) {
            say(other, Word::Taken { by: call }, ctx);
        }
    }

    fn leave(&mut self, call: CallKey, ctx: &mut Context<'_>) {
        self.waiting.remove(&call);
        if self.held != Some(call) {
            return ctx.ignore("it does not have the place");
        }
        self.held = None;
        self.look_at = None;
        let (gate, keep) = (false, TOMBSTONE);
        ctx.act(Action::Store(Store::End { gate, keep }));
        for other in std::mem::take(&mut self.waiting) {
            self.take(other, ctx);
        }
    }

    /// Asks who has it whether it is there.
    fn look(&mut self, ctx: &mut Context<'_>) {
        let Some(held) = self.held else {
            self.look_at = None;
            return ctx.ignore("nobody is there");
        };
        self.look_at = Some(ctx.now().mono + LOOK_AFTER);
        say(held, Word::AreYouThere, ctx);
    }

    fn on_undelivered(
        &mut self,
        to: &ActorId,
        message: &crate::Message,
        why: Undelivered,
        ctx: &mut Context<'_>,
    ) {
        let is_question = matches!(
            message,
            crate::Message::Call(call::Message::Park {
                word: Word::AreYouThere,
                ..
            })
        );
        match (to, why) {
            (ActorId::Call(call), Undelivered::Absent) if is_question => self.leave(*call, ctx),
            (_, Undelivered::Absent | Undelivered::Busy) => ctx.ignore("it asks again"),
        }
    }
}

fn say(call: CallKey, word: Word, ctx: &mut Context<'_>) {
    let place = ctx.me().clone();
    let message = call::Message::Park { place, word };
    ctx.tell(ActorId::Call(call), message.into());
}

impl Core for Parking {
    type Event = Event<Message, Timer, crate::Message>;
    type Message = crate::Message;
    type Timer = Timer;
    type Snapshot = Snapshot;
    type Site = Site;

    fn handle(&mut self, event: Self::Event, ctx: &mut Context<'_>) {
        match event {
            Event::Message { message, .. } => match message {
                Message::Take { call } => self.take(call, ctx),
                Message::Leave { call } => self.leave(call, ctx),
            },
            Event::Timer(Timer::Look) | Event::Restored(_) => self.look(ctx),
            Event::Undelivered { to, message, why } => {
                self.on_undelivered(&to, &message, why, ctx);
            }
            Event::Datagram { .. }
            | Event::Opened { .. }
            | Event::Bytes(_)
            | Event::Closed { .. }
            | Event::Media(_)
            | Event::Answer { .. }
            | Event::ChildLost { .. } => ctx.ignore("nothing that a place asked for"),
        }
    }

    fn next_deadline(&self) -> Option<(Time, Timer)> {
        self.look_at.map(|at| (at, Timer::Look))
    }

    fn snapshot(&self, _now: Now) -> Snapshot {
        Snapshot { held: self.held }
    }

    fn restore(snapshot: Snapshot, _now: Now) -> Result<Self, RestoreError> {
        Ok(Parking {
            held: snapshot.held,
            ..Parking::default()
        })
    }
}
