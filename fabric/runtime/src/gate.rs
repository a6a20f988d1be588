//! The commit gate of one actor: write before you speak.
//!
//! In: actions in order, tickets of gated stores, their outcomes. Out: the actions that may be
//! performed now. A gated store takes a ticket; every action after it waits for that ticket and,
//! as commits are acknowledged in order, for all before it. Bound: `GATE_ACTIONS_MAX`; at the bound
//! the shell takes no further event, so that the bound passes on to the sender.

use std::collections::VecDeque;

use contract::Action;
use contract::limits::GATE_ACTIONS_MAX;

/// Number of a gated store of one actor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

pub(crate) struct Gate<M> {
    issued: Ticket,
    safe: Ticket,
    held: VecDeque<(Ticket, Action<M>)>,
}

impl<M> Gate<M> {
    pub(crate) fn new() -> Self {
        Gate {
            issued: Ticket(0),
            safe: Ticket(0),
            held: VecDeque::new(),
        }
    }

    /// Shuts the gate for what follows.
    pub(crate) fn shut(&mut self) -> Ticket {
        self.issued = Ticket(self.issued.0 + 1);
        self.issued
    }

    pub(crate) fn is_open(&self) -> bool {
        self.safe == self.issued
    }

    /// Tells whether something may wait for this ticket: it is neither safe nor given up.
    pub(crate) fn is_shut_by(&self, ticket: Ticket) -> bool {
        ticket > self.safe
    }

    pub(crate) fn is_full(&self) -> bool {
        self.held.len() >= GATE_ACTIONS_MAX
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Gives the action back if it may be performed now, else keeps it.
    pub(crate) fn pass(&mut self, action: Action<M>) -> Option<Action<M>> {
        let is_urgent = matches!(action, Action::Tell { urgent: true, .. });
        if is_urgent || self.is_open() {
            return Some(action);
        }
        self.held.push_back((self.issued, action));
        None
    }

    /// A commit is safe: gives what waited for it, in order.
    pub(crate) fn open(&mut self, ticket: Ticket) -> Vec<Action<M>> {
        self.safe = self.safe.max(ticket);
        let ready = self
            .held
            .iter()
            .take_while(|(needs, _)| *needs <= self.safe)
            .count();
        self.held.drain(..ready).map(|(_, action)| action).collect()
    }

    /// A commit has failed: what waited for it and for later ones is dropped.
    pub(crate) fn drop_held(&mut self) -> usize {
        let count = self.held.len();
        self.held.clear();
        self.safe = self.issued;
        count
    }
}
