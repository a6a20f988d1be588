//! The trace ring of one actor: its last messages, formatted only when somebody asks.
//!
//! Bound: `TRACE_EVENTS_MAX` items and `TRACE_BYTES_MAX` octets; the oldest go.

use std::collections::VecDeque;

use contract::core::Roster;
use contract::limits::{TRACE_BYTES_MAX, TRACE_EVENTS_MAX};
use contract::{ActorId, Now, TraceLine};

/// What one line is made from.
#[derive(Clone, Debug)]
pub(crate) enum Noted<M> {
    /// A message from or to an actor.
    Message(ActorId, M),
    /// Something else that happened to the actor, and its origin.
    Other(&'static str, String),
}

struct Item<M> {
    now: Now,
    inward: bool,
    noted: Noted<M>,
    weight: usize,
}

pub(crate) struct Ring<R: Roster> {
    items: VecDeque<Item<R::Message>>,
    bytes: usize,
}

impl<R: Roster> Ring<R> {
    pub(crate) fn new() -> Self {
        Ring {
            items: VecDeque::new(),
            bytes: 0,
        }
    }

    pub(crate) fn note(&mut self, now: Now, inward: bool, noted: Noted<R::Message>) {
        // A message keeps its octets alive.
        let weight = match &noted {
            Noted::Message(_, message) => 64 + R::describe(message).1,
            Noted::Other(_, text) => 64 + text.len(),
        };
        self.bytes += weight;
        self.items.push_back(Item {
            now,
            inward,
            noted,
            weight,
        });
        while self.items.len() > TRACE_EVENTS_MAX || self.bytes > TRACE_BYTES_MAX {
            let Some(oldest) = self.items.pop_front() else {
                return;
            };
            self.bytes -= oldest.weight;
        }
    }

    pub(crate) fn lines(&self, actor: &ActorId) -> Vec<TraceLine> {
        let line = |item: &Item<R::Message>| {
            let (peer, text) = match &item.noted {
                Noted::Message(peer, message) => (peer.to_string(), R::describe(message).0),
                Noted::Other(peer, text) => ((*peer).to_owned(), text.clone()),
            };
            TraceLine {
                at: item.now.utc,
                mono: item.now.mono,
                actor: actor.clone(),
                peer,
                inward: item.inward,
                text,
            }
        };
        self.items.iter().map(line).collect()
    }
}
