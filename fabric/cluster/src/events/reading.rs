//! What a reader is told, from its cursor on.
//!
//! In: a cursor. Out: events and gaps, and the cursor after each. Events of one life come in their
//! order, each once, whatever node the reader comes from; those of several lives by their time as far
//! as they are known. A gap says which numbers of which life are not to be had.

use std::sync::Arc;

use contract::{CallKey, LogEvent, NodeInst, UtcMillis};

use super::cursor::{Cursor, Place};
use super::log::{EventLog, Life};

/// One thing that a reader is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An event.
    Event {
        /// Where it happened.
        life: NodeInst,
        /// Its number there, from 1 on.
        number: u64,
        /// What happened.
        event: Arc<LogEvent>,
    },
    /// Events that are not to be had.
    Gap(Gap),
}

/// Events that are not to be had: too old, or lost with their node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where they happened.
    pub life: NodeInst,
    /// The number of the first one.
    pub from: u64,
    /// The number of the last one; `None`: nobody knows whether there was any.
    pub until: Option<u64>,
}

/// What is known of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallLog {
    /// Its events, by time.
    pub events: Vec<(NodeInst, u64, Arc<LogEvent>)>,
    /// Ends of lives that it was on, whose last events may be lost.
    pub gaps: Vec<Gap>,
}

/// What was read at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What the reader is told, each with the cursor after it.
    pub items: Vec<(Item, Cursor)>,
    /// There is more.
    pub has_more: bool,
}

impl EventLog {
    /// Returns the cursor of a reader who wants to know what happens from now on.
    #[must_use]
    pub fn end(&self) -> Cursor {
        let mut cursor = Cursor::default();
        for (life, kept) in &self.lives {
            let place = Place {
                last: kept.last,
                is_ended: kept.is_tail_lost || kept.has_left,
            };
            cursor.set(*life, place);
        }
        cursor
    }

    /// Reads on from a cursor, which goes with it: `wants` says which events are told, gaps always
    /// are. At most `most` events are looked at.
    pub fn read(
        &self,
        cursor: &mut Cursor,
        most: usize,
        mut wants: impl FnMut(&LogEvent) -> bool,
    ) -> Seen {
        let mut seen = Seen::default();
        let mut looked = 0;
        self.forgotten(cursor, &mut seen);
        loop {
            let Some((life, next)) = self.next(cursor) else {
                return seen;
            };
            if looked == most {
                seen.has_more = true;
                return seen;
            }
            looked += 1;
            let item = match next {
                Next::Event(number, event) => {
                    let is_ended = event.is_last();
                    let last = number;
                    cursor.set(life, Place { last, is_ended });
                    if !wants(&event) {
                        continue;
                    }
                    Item::Event {
                        life,
                        number,
                        event,
                    }
                }
                Next::Gap { from, until } => {
                    let until_known = until.unwrap_or(from - 1);
                    let place = Place {
                        last: until_known,
                        is_ended: until.is_none(),
                    };
                    cursor.set(life, place);
                    Item::Gap(Gap { life, from, until })
                }
            };
            seen.items.push((item, cursor.clone()));
        }
    }

    /// Returns what is kept of one call, by time.
    #[must_use]
    pub fn of_call(&self, call: CallKey) -> CallLog {
        let mut log = CallLog::default();
        for (life, kept) in &self.lives {
            let before = log.events.len();
            let own = kept.events.iter();
            let own = own.filter(|(_, event)| event.call() == Some(call));
            log.events
                .extend(own.map(|(number, event)| (*life, *number, Arc::clone(event))));
            if log.events.len() > before && kept.is_tail_lost && !kept.has_left {
                log.gaps.push(Gap {
                    life: *life,
                    from: kept.last + 1,
                    until: None,
                });
            }
        }
        log.events
            .sort_by_key(|(life, number, event)| (event.at, *life, *number));
        log
    }

    /// Lives that the reader knows and this log has forgotten, since their node has a later one:
    /// whether the reader has all of them, nobody can say any more.
    fn forgotten(&self, cursor: &mut Cursor, seen: &mut Seen) {
        let is_forgotten = |life: &NodeInst| {
            let newest = self.newest_of(*life);
            !self.lives.contains_key(life) && newest.is_some_and(|newest| newest > *life)
        };
        let lives: Vec<(NodeInst, Place)> = cursor
            .lives
            .iter()
            .filter(|(life, _)| is_forgotten(life))
            .map(|(life, place)| (*life, *place))
            .collect();
        for (life, place) in lives {
            if place.is_ended {
                // A later life stands for it once that was read.
                if cursor.lives.range(life..).nth(1).map(|next| next.0.node) == Some(life.node) {
                    cursor.lives.remove(&life);
                }
                continue;
            }
            let is_ended = true;
            cursor.set(life, Place { is_ended, ..place });
            let gap = Gap {
                life,
                from: place.last + 1,
                until: None,
            };
            seen.items.push((Item::Gap(gap), cursor.clone()));
        }
    }

    fn newest_of(&self, life: NodeInst) -> Option<NodeInst> {
        let lives = self.lives.keys().rev();
        lives.copied().find(|known| known.node == life.node)
    }

    /// Returns what comes next: the oldest event of all lives, or a gap before it; ends of lives when
    /// there is no event.
    fn next(&self, cursor: &Cursor) -> Option<(NodeInst, Next)> {
        let next = self.lives.iter().filter_map(|(life, kept)| {
            let place = cursor.place(*life)?;
            let next = kept.after(place)?;
            Some((next.at(), *life, next))
        });
        let first = next.min_by_key(|(at, life, _)| (*at, *life));
        first.map(|(_, life, next)| (life, next))
    }
}

/// What comes next in one life.
enum Next {
    Event(u64, Arc<LogEvent>),
    Gap { from: u64, until: Option<u64> },
}

impl Next {
    /// When it is told beside those of other lives.
    fn at(&self) -> UtcMillis {
        match self {
            Next::Event(_, event) => event.at,
            // What is not to be had is older than what is.
            Next::Gap { until: Some(_), .. } => UtcMillis(0),
            Next::Gap { until: None, .. } => UtcMillis(u64::MAX),
        }
    }
}

impl Life {
    fn after(&self, place: Place) -> Option<Next> {
        let from = place.last.checked_add(1)?;
        match self.events.get(self.index_after(place.last)) {
            Some((number, event)) if *number == from => Some(Next::Event(from, Arc::clone(event))),
            Some((number, _)) => Some(Next::Gap {
                from,
                until: Some(number - 1),
            }),
            None if place.last < self.last => Some(Next::Gap {
                from,
                until: Some(self.last),
            }),
            None if self.is_tail_lost && !self.has_left && !place.is_ended => {
                Some(Next::Gap { from, until: None })
            }
            None => None,
        }
    }
}
