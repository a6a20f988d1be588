//! What is kept of each life, and how it gets there.
//!
//! In: events of this node, batches of others, what the disk has, who is in the view, the time. Out:
//! batches for the other nodes, changes for the store. It decides nothing about readers
//! (`reading.rs`), and never waits for disk or network: what is lost there, others have.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use contract::limits::{
    EVENT_FRAMES_PER_ANSWER_MAX, EVENT_LIVES_MAX, EVENT_TAIL_MS, EVENTS_KEPT_MS, EVENTS_MAX,
    EVENTS_PER_BATCH_MAX, EVENTS_PER_FRAME_MAX, EVENTS_PER_LIFE_MAX,
};
use contract::{Boot, LogEvent, NodeId, NodeInst, NodeNews, Time, UtcMillis, What};

use super::form::{PREFIX, batch_key, read_batch, read_key, write_batch};

/// An event with its number in its life.
pub(crate) type Numbered = (u64, Arc<LogEvent>);

/// What a life has from one number to another: all of it that the sender keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBatch {
    /// Where it happened.
    pub life: NodeInst,
    /// The first number it speaks for.
    pub from: u64,
    /// The last number it speaks for.
    pub until: u64,
    /// The sender has more than that.
    pub has_more: bool,
    /// The events in between that the sender keeps, by number.
    pub events: Vec<(u64, Arc<LogEvent>)>,
}

/// What a node has of the log: the last number of each life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsHeld {
    /// Only the lives of this node are spoken of; `None`: all.
    pub of: Option<NodeId>,
    /// Lives and their last numbers.
    pub lives: Vec<(NodeInst, u64)>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Readers see more than before.
    News,
    /// All of it was known.
    Known,
    /// It begins behind what is kept here: its sender is to be asked for what lies between.
    Hole,
}

/// What is to be done with what has come together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flush {
    /// For the store; nobody waits for it.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// For every node that is connected.
    pub batches: Vec<EventBatch>,
}

/// The event log as one node keeps it.
#[derive(Debug)]
pub struct EventLog {
    me: NodeInst,
    pub(super) lives: BTreeMap<NodeInst, Life>,
    /// Own events up to here were sent.
    sent: u64,
    count: usize,
}

/// What is kept of one life.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub events: VecDeque<Numbered>,
    /// The highest number known of, kept or not.
    pub last: u64,
    /// Since when it is in no view.
    over: Option<Time>,
    /// Readers may be told that its last events may be lost.
    pub is_tail_lost: bool,
    /// Its last event says that it was the last.
    pub has_left: bool,
    /// Up to here it was given to the store.
    saved: u64,
    /// First and last numbers of stored batches.
    stored: VecDeque<(u64, u64)>,
}

impl EventLog {
    /// Makes the log of a life of a node, with nothing in it.
    #[must_use]
    pub fn new(me: NodeInst) -> Self {
        EventLog {
            me,
            lives: BTreeMap::from([(me, Life::default())]),
            sent: 0,
            count: 0,
        }
    }

    /// Returns what the keys of stored batches begin with: they are handed to [`EventLog::load`] in
    /// their order before anything else.
    #[must_use]
    pub const fn stored_prefix() -> &'static [u8] {
        PREFIX
    }

    /// Takes a stored batch; false if it cannot be read.
    pub fn load(&mut self, now: Time, key: &[u8], value: &[u8]) -> bool {
        let Some((life, events)) = read_batch(key, value) else {
            return false;
        };
        let (Some((first, _)), Some((last, _))) = (events.first(), events.last()) else {
            return false;
        };
        let (first, last) = (*first, *last);
        let is_former = life.node == self.me.node;
        if life == self.me || !self.has_room_for(life) {
            return false;
        }
        let kept = self.lives.entry(life).or_default();
        kept.stored.push_back((first, last));
        if is_former {
            kept.over = Some(now);
        }
        for event in events {
            self.push(life, event);
        }
        if let Some(kept) = self.lives.get_mut(&life) {
            kept.saved = kept.last;
        }
        true
    }

    /// Adds an event of this node; `None` for what is no event of the log.
    pub fn publish(&mut self, at: UtcMillis, what: What) -> Option<u64> {
        let event = LogEvent::new(at, what)?;
        let number = self.lives.get(&self.me).map_or(0, |life| life.last) + 1;
        self.push(self.me, (number, Arc::new(event)));
        Some(number)
    }

    /// Adds the last event of this life, if it is not there: nobody is told of a gap then. If
    /// something happens all the same, it was not the last, and is to be added again.
    pub fn close(&mut self, at: UtcMillis, name: String) {
        if self.lives.get(&self.me).is_some_and(|own| own.has_left) {
            return;
        }
        let what = What::Node {
            life: self.me,
            name,
            news: NodeNews::Left,
        };
        self.publish(at, what);
    }

    /// Takes a batch of another node.
    pub fn take(&mut self, batch: EventBatch) -> Taken {
        let EventBatch {
            life, from, until, ..
        } = batch;
        // Nobody knows more of this life than itself.
        if life == self.me {
            return Taken::Known;
        }
        let last = self.lives.get(&life).map_or(0, |kept| kept.last);
        if until <= last {
            return Taken::Known;
        }
        if from > last + 1 {
            return Taken::Hole;
        }
        if !self.has_room_for(life) {
            return Taken::Known;
        }
        for event in batch.events {
            if event.0 > last && event.0 <= until {
                self.push(life, event);
            }
        }
        let kept = self.lives.entry(life).or_default();
        kept.last = kept.last.max(until);
        Taken::News
    }

    /// Returns what is had, of all lives or of those of one node.
    #[must_use]
    pub fn held(&self, of: Option<NodeId>) -> EventsHeld {
        let lives = self.lives.iter();
        let lives = lives.filter(|(life, _)| of.is_none_or(|node| life.node == node));
        EventsHeld {
            of,
            lives: lives.map(|(life, kept)| (*life, kept.last)).collect(),
        }
    }

    /// Returns what another node lacks, `EVENT_FRAMES_PER_ANSWER_MAX` batches at most: one that says
    /// that there is more is followed by another question.
    #[must_use]
    pub fn answer(&self, held: &EventsHeld) -> Vec<EventBatch> {
        let theirs: BTreeMap<NodeInst, u64> = held.lives.iter().copied().collect();
        let mut batches = Vec::new();
        for (life, kept) in &self.lives {
            if held.of.is_some_and(|node| life.node != node) {
                continue;
            }
            let known = theirs.get(life).copied();
            // Of what nothing is left, only those hear who know of it.
            if (known.is_none() && kept.events.is_empty()) || kept.last <= known.unwrap_or(0) {
                continue;
            }
            if batches.len() == EVENT_FRAMES_PER_ANSWER_MAX {
                if let Some(batch) = batches.last_mut() {
                    EventBatch::mark_more(batch);
                }
                break;
            }
            batches.push(kept.batch(*life, known.unwrap_or(0) + 1, EVENTS_PER_FRAME_MAX));
        }
        batches
    }

    /// Takes who is in the view; returns the nodes whose lives are over since: what others have of
    /// them is to be asked for.
    pub fn set_lives(&mut self, now: Time, view: &[NodeInst]) -> Vec<NodeId> {
        let me = self.me;
        let mut gone = Vec::new();
        for (life, kept) in &mut self.lives {
            let is_there = *life == me || view.contains(life);
            if is_there {
                kept.over = None;
                kept.is_tail_lost = false;
            } else if kept.over.is_none() {
                kept.over = Some(now);
                gone.push(life.node);
            }
        }
        gone.dedup();
        gone
    }

    /// Takes the time; true if readers are to look again.
    pub fn tick(&mut self, now: Time) -> bool {
        let mut is_news = false;
        for kept in self.lives.values_mut() {
            if kept.tail_due().is_some_and(|due| due <= now) {
                kept.is_tail_lost = true;
                is_news = true;
            }
        }
        is_news
    }

    /// Returns when [`EventLog::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.lives.values().filter_map(Life::tail_due).min()
    }

    /// Returns what is to be sent, and written if the store `may_save`, and forgets what is too old.
    pub fn flush(&mut self, utc: UtcMillis, may_save: bool) -> Flush {
        let mut flush = Flush::default();
        self.forget_old(utc);
        for (life, kept) in self.lives.iter_mut().filter(|_| may_save) {
            kept.save(*life, &mut flush.changes);
        }
        self.forget_lives();
        if let Some(own) = self.lives.get(&self.me) {
            while self.sent < own.last {
                let batch = own.batch(self.me, self.sent + 1, EVENTS_PER_FRAME_MAX);
                self.sent = batch.until;
                let has_more = false;
                flush.batches.push(EventBatch { has_more, ..batch });
            }
        }
        flush
    }

    /// Returns the changes that write once more what the store has been given and may have lost.
    #[must_use]
    pub fn saved_again(&self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut changes = Vec::new();
        for (life, kept) in &self.lives {
            for (first, last) in &kept.stored {
                let all = first.saturating_sub(1)..*last;
                let range = kept.index_after(all.start)..kept.index_after(all.end);
                let batch: Vec<Numbered> = kept.events.range(range).cloned().collect();
                // One of which events are forgotten goes soon.
                if batch.first().is_some_and(|(number, _)| number == first) {
                    changes.push((batch_key(*life, *first), Some(write_batch(&batch))));
                }
            }
        }
        changes
    }

    /// Takes word that changes were not written: the batches in them are written again, without a
    /// hole, by the next flush that may.
    pub fn not_saved(&mut self, changes: &[Vec<u8>]) {
        for (life, first) in changes.iter().filter_map(|key| read_key(key)) {
            if let Some(kept) = self.lives.get_mut(&life) {
                kept.saved = kept.saved.min(first.saturating_sub(1));
                kept.stored.retain(|(stored, _)| *stored < first);
            }
        }
    }

    /// Tells whether there is something to send, or to write if the store `may_save`.
    #[must_use]
    pub fn is_dirty(&self, may_save: bool) -> bool {
        let own = self.lives.get(&self.me).map_or(0, |own| own.last);
        let is_unsaved = |kept: &Life| kept.saved < kept.last;
        own > self.sent || (may_save && self.lives.values().any(is_unsaved))
    }

    /// Returns how many events are kept.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Tells whether no event is kept.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Tells whether a life is over here: its node has a later one, or is in no view.
    #[cfg(test)]
    pub(super) fn is_over(&self, life: NodeInst) -> bool {
        self.lives
            .get(&life)
            .is_some_and(|kept| kept.over.is_some())
    }

    fn push(&mut self, life: NodeInst, event: Numbered) {
        let kept = self.lives.entry(life).or_default();
        if event.0 <= kept.last {
            return;
        }
        kept.last = event.0;
        kept.has_left = event.1.is_last();
        kept.events.push_back(event);
        self.count += 1;
        if kept.events.len() > EVENTS_PER_LIFE_MAX {
            kept.events.pop_front();
            self.count -= 1;
        }
        if self.count > EVENTS_MAX {
            let largest = self.lives.values_mut().max_by_key(|kept| kept.events.len());
            if largest.is_some_and(|kept| kept.events.pop_front().is_some()) {
                self.count -= 1;
            }
        }
    }

    /// Makes room for one more life: the one goes whose last event is the oldest of those that are
    /// over. False if all are there.
    fn has_room_for(&mut self, life: NodeInst) -> bool {
        if self.lives.contains_key(&life) || self.lives.len() < EVENT_LIVES_MAX {
            return true;
        }
        let over = self.lives.iter().filter(|(_, kept)| kept.over.is_some());
        let oldest = over.min_by_key(|(life, kept)| (kept.last_at(), **life));
        let Some(oldest) = oldest.map(|(life, _)| *life) else {
            return false;
        };
        if let Some(kept) = self.lives.get_mut(&oldest) {
            // Its stored batches go with the next flush.
            self.count -= kept.events.len();
            kept.events.clear();
            kept.saved = kept.last;
        }
        self.lives.len() < 2 * EVENT_LIVES_MAX
    }

    fn forget_old(&mut self, utc: UtcMillis) {
        let kept_for = Duration::from_millis(EVENTS_KEPT_MS);
        for kept in self.lives.values_mut() {
            while kept
                .events
                .front()
                .is_some_and(|(_, event)| event.at.after(kept_for) < utc)
            {
                kept.events.pop_front();
                self.count -= 1;
            }
        }
    }

    /// Forgets lives of which nothing is left, and whose node has a later one; beyond the bound also
    /// those of nodes that never came back.
    fn forget_lives(&mut self) {
        let mut excess = self.lives.len().saturating_sub(EVENT_LIVES_MAX);
        let newest: BTreeMap<NodeId, Boot> = self
            .lives
            .keys()
            .map(|life| (life.node, life.boot))
            .collect();
        let me = self.me;
        self.lives.retain(|life, kept| {
            let is_empty = kept.events.is_empty() && kept.stored.is_empty();
            let is_replaced = newest.get(&life.node).is_some_and(|boot| *boot > life.boot);
            if *life == me || !is_empty || kept.over.is_none() {
                return true;
            }
            let goes = is_replaced || excess > 0;
            excess = excess.saturating_sub(usize::from(goes));
            !goes
        });
    }
}

impl EventBatch {
    fn mark_more(&mut self) {
        self.has_more = true;
    }
}

impl Life {
    /// Returns the place of the first event kept whose number is above `last`.
    pub(super) fn index_after(&self, last: u64) -> usize {
        self.events.partition_point(|(number, _)| *number <= last)
    }

    fn last_at(&self) -> UtcMillis {
        let last = self.events.back();
        last.map_or(UtcMillis(0), |(_, event)| event.at)
    }

    fn tail_due(&self) -> Option<Time> {
        let is_pending = !self.is_tail_lost && !self.has_left;
        let over = self.over.filter(|_| is_pending)?;
        Some(over + Duration::from_millis(EVENT_TAIL_MS))
    }

    /// Returns what there is from a number on, `most` events at most.
    fn batch(&self, life: NodeInst, from: u64, most: usize) -> EventBatch {
        let first = self.index_after(from - 1);
        let events: Vec<Numbered> = self.events.range(first..).take(most).cloned().collect();
        let has_more = first + events.len() < self.events.len();
        let until = match events.last() {
            Some((number, _)) if has_more => *number,
            Some(_) | None => self.last,
        };
        EventBatch {
            life,
            from,
            until,
            has_more,
            events,
        }
    }

    /// Returns the changes of the store that make it hold what is kept here.
    fn save(&mut self, life: NodeInst, changes: &mut Vec<(Vec<u8>, Option<Vec<u8>>)>) {
        let first = self.index_after(self.saved);
        let new: Vec<Numbered> = self.events.range(first..).cloned().collect();
        for batch in new.chunks(EVENTS_PER_BATCH_MAX) {
            let (first, last) = (batch[0].0, batch[batch.len() - 1].0);
            changes.push((batch_key(life, first), Some(write_batch(batch))));
            self.stored.push_back((first, last));
        }
        self.saved = self.last;
        let kept_from = self.events.front().map_or(u64::MAX, |(number, _)| *number);
        while let Some((first, _)) = self.stored.pop_front_if(|(_, last)| *last < kept_from) {
            changes.push((batch_key(life, first), None));
        }
    }
}
