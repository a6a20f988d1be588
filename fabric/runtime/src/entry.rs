//! One actor as the fabric knows it: its inbox, which outlives panics of its core and deaths of its
//! ractor actor, and what a listing shows.
//!
//! In: events of anybody. Out: the same, in order, to the shell. Bound by kind (`limits.rs`); what
//! the runtime itself has to say (commits, verdicts, questions) goes first and is not bounded away:
//! it is as much as the actor has caused.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use cluster::Epoch;
use contract::core::{Event, Roster};
use contract::limits::{FLOW_INBOX_EVENTS_MAX, INBOX_EVENTS_MAX, LANE_INBOX_EVENTS_MAX};
use contract::{ActorId, Kind, StoreFault, Time, UtcMillis};
use ractor::ActorRef;
use tokio::sync::Notify;

use crate::gate::Ticket;
use crate::intensity::Verdict;
use crate::replicas::Claimed;
use crate::ring::Ring;
use crate::shell::Wake;

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is in the inbox.
    Accepted,
    /// The inbox is full.
    Busy,
    /// There is no such actor.
    Absent,
}

/// What the runtime tells a shell.
#[derive(Debug)]
pub(crate) enum Side {
    /// A commit ended; somebody waits for it if it has a ticket.
    Committed {
        ticket: Option<Ticket>,
        result: Result<(), StoreFault>,
    },
    /// The end of the record could not be written.
    EndFailed {
        ticket: Option<Ticket>,
        fault: StoreFault,
    },
    /// What came of the wish to own the record.
    Claimed(Claimed),
    /// What was found is this node's now, and safe; or not.
    Adopted(Result<(), StoreFault>),
    /// Another node has won the record under this epoch.
    Fenced(Epoch),
    /// The record is to be held as placement wants, and its header to say what is.
    Mend,
    /// A commit that mends is safe.
    Mended,
    /// It is to be handed over, under this number.
    Move(u64),
    /// The record it is a part of is to be handed over.
    Freeze,
    /// A side of its record rests.
    Still(ActorId),
    /// Nothing comes of that: it goes on.
    Thaw,
    /// The supervisor has judged a panic.
    Judged(Verdict),
    /// Somebody asks for a view.
    Inspect { asker: ActorId, token: u64 },
    /// End without a word.
    End,
}

/// An event on its way into an inbox, or out of one that is left.
pub(crate) struct Letter<R: Roster> {
    pub(crate) event: Event<R::Message, ()>,
    /// How often it was sent on: to another node, or after an actor that is gone from here. Without
    /// it, a message could go after its actor without end.
    pub(crate) hops: u8,
}

impl<R: Roster> From<Event<R::Message, ()>> for Letter<R> {
    fn from(event: Event<R::Message, ()>) -> Self {
        Letter { event, hops: 0 }
    }
}

struct Inbox<R: Roster> {
    events: VecDeque<Letter<R>>,
    side: VecDeque<Side>,
    closed: bool,
}

/// What a listing shows, written by the shell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    pub(crate) state: String,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) deadline: Option<Time>,
    pub(crate) children: Vec<ActorId>,
}

/// A part as it is on disk.
#[derive(Clone, Debug)]
pub(crate) struct Safe {
    pub(crate) part: Bytes,
    pub(crate) deadline: Option<UtcMillis>,
}

pub(crate) struct Entry<R: Roster> {
    pub(crate) id: ActorId,
    pub(crate) parent: Option<ActorId>,
    inbox: Mutex<Inbox<R>>,
    scheduled: AtomicBool,
    cell: Mutex<Option<ActorRef<Wake>>>,
    status: Mutex<Status>,
    safe: Mutex<Option<Safe>>,
    pub(crate) ring: Mutex<Ring<R>>,
    pub(crate) restarts: AtomicU32,
    /// Commits that the store has not answered.
    pub(crate) under_way: AtomicU32,
    /// The children of its record are in the table.
    pub(crate) has_children: AtomicBool,
    /// Somebody starts it or gives it back: a side that waits for its call is neither yet.
    is_claimed: AtomicBool,
    /// It takes no more events and starts no more children.
    pub(crate) is_ending: AtomicBool,
    pub(crate) room: Notify,
}

fn cap(kind: Kind) -> usize {
    match kind {
        Kind::Registration
        | Kind::Call
        | Kind::Dialog
        | Kind::MediaLeg
        | Kind::Gateway
        | Kind::Parking => INBOX_EVENTS_MAX,
        Kind::Flow | Kind::DoorSession | Kind::Console | Kind::Member => FLOW_INBOX_EVENTS_MAX,
        Kind::Lane => LANE_INBOX_EVENTS_MAX,
    }
}

impl<R: Roster> Entry<R> {
    pub(crate) fn new(id: ActorId, parent: Option<ActorId>) -> Arc<Self> {
        Arc::new(Entry {
            id,
            parent,
            inbox: Mutex::new(Inbox {
                events: VecDeque::new(),
                side: VecDeque::new(),
                closed: false,
            }),
            scheduled: AtomicBool::new(false),
            cell: Mutex::new(None),
            status: Mutex::new(Status::default()),
            safe: Mutex::new(None),
            ring: Mutex::new(Ring::new()),
            restarts: AtomicU32::new(0),
            under_way: AtomicU32::new(0),
            has_children: AtomicBool::new(false),
            is_claimed: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            room: Notify::new(),
        })
    }

    /// Takes the right to start it or to give it back; one caller gets it.
    pub(crate) fn claim(&self) -> bool {
        !self.is_claimed.swap(true, Ordering::SeqCst)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox<R>> {
        self.inbox.lock().expect("no holder of an inbox panics")
    }

    pub(crate) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().expect("no holder of a status panics")
    }

    pub(crate) fn cell(&self) -> Option<ActorRef<Wake>> {
        self.cell
            .lock()
            .expect("no holder of a cell panics")
            .clone()
    }

    /// Tells whether it has a shell; a side that waits for its call has none yet.
    pub(crate) fn has_shell(&self) -> bool {
        let cell = self.cell.lock().expect("no holder of a cell panics");
        cell.is_some()
    }

    pub(crate) fn set_cell(&self, cell: ActorRef<Wake>) {
        *self.cell.lock().expect("no holder of a cell panics") = Some(cell);
    }

    /// Puts an event into the inbox; gives it back if it does not fit or the actor is gone.
    pub(crate) fn push(&self, letter: impl Into<Letter<R>>) -> Result<(), (Letter<R>, Delivery)> {
        let letter = letter.into();
        {
            let mut inbox = self.inbox();
            if inbox.closed {
                return Err((letter, Delivery::Absent));
            }
            if inbox.events.len() >= cap(self.id.kind()) && !is_owed(&letter.event) {
                return Err((letter, Delivery::Busy));
            }
            inbox.events.push_back(letter);
        }
        self.schedule();
        Ok(())
    }

    /// Puts an event back to where it was taken from.
    pub(crate) fn push_front(&self, event: Event<R::Message, ()>) {
        self.inbox().events.push_front(event.into());
    }

    /// Tells the shell something before all events; false if there is none any more.
    pub(crate) fn push_side(&self, side: Side) -> bool {
        {
            let mut inbox = self.inbox();
            if inbox.closed {
                return false;
            }
            inbox.side.push_back(side);
        }
        self.schedule();
        true
    }

    /// A commit ended.
    pub(crate) fn written(&self, ticket: Option<Ticket>, result: Result<(), StoreFault>) {
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        self.push_side(Side::Committed { ticket, result });
    }

    /// Returns the part as it is on disk.
    pub(crate) fn safe(&self) -> Option<Safe> {
        self.safe
            .lock()
            .expect("no holder of a part panics")
            .clone()
    }

    pub(crate) fn set_safe(&self, safe: Option<Safe>) {
        *self.safe.lock().expect("no holder of a part panics") = safe;
    }

    /// Wakes the shell, once for any number of events.
    pub(crate) fn schedule(&self) {
        if !self.scheduled.swap(true, Ordering::SeqCst)
            && let Some(cell) = self.cell()
        {
            // An actor that is gone needs no waking.
            let _ = cell.cast(Wake::Run);
        }
    }

    /// The shell runs: what comes from now on wakes it again.
    pub(crate) fn unschedule(&self) {
        self.scheduled.store(false, Ordering::SeqCst);
    }

    pub(crate) fn pop_side(&self) -> Option<Side> {
        self.inbox().side.pop_front()
    }

    pub(crate) fn pop(&self) -> Option<Event<R::Message, ()>> {
        let (letter, is_half_empty) = {
            let mut inbox = self.inbox();
            let letter = inbox.events.pop_front();
            (letter, inbox.events.len() < cap(self.id.kind()) / 2)
        };
        if is_half_empty {
            self.room.notify_waiters();
        }
        letter.map(|letter| letter.event)
    }

    /// Looks at the first message, for making the core.
    pub(crate) fn first_message(&self) -> Option<R::Message> {
        let inbox = self.inbox();
        match inbox.events.front().map(|letter| &letter.event) {
            Some(Event::Message { message, .. }) => Some(message.clone()),
            Some(_) | None => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        let inbox = self.inbox();
        inbox.events.len() + inbox.side.len()
    }

    /// Tells whether the inbox is over half full.
    pub(crate) fn is_crowded(&self) -> bool {
        self.inbox().events.len() > cap(self.id.kind()) / 2
    }

    /// Closes the inbox if it is empty; then nothing gets in any more.
    pub(crate) fn close_if_empty(&self) -> bool {
        let mut inbox = self.inbox();
        if inbox.events.is_empty() && inbox.side.is_empty() {
            inbox.closed = true;
        }
        inbox.closed
    }

    /// Closes the inbox and gives what is in it.
    pub(crate) fn close(&self) -> Left<R> {
        let left = {
            let mut inbox = self.inbox();
            inbox.closed = true;
            Left {
                events: std::mem::take(&mut inbox.events),
                side: std::mem::take(&mut inbox.side),
            }
        };
        self.room.notify_waiters();
        left
    }
}

/// What was in an inbox when it was closed.
pub(crate) struct Left<R: Roster> {
    pub(crate) events: VecDeque<Letter<R>>,
    pub(crate) side: VecDeque<Side>,
}

/// Tells whether an actor must be told whatever waits already: what it has caused itself, so that
/// there is no more of it than it has asked for.
fn is_owed<M>(event: &Event<M, ()>) -> bool {
    match event {
        Event::Undelivered { .. }
        | Event::ChildLost { .. }
        | Event::Answer { .. }
        | Event::Opened { .. }
        | Event::Closed { .. } => true,
        Event::Message { .. }
        | Event::Timer(())
        | Event::Datagram { .. }
        | Event::Bytes(_)
        | Event::Media(_)
        | Event::Restored(_) => false,
    }
}
