//! How actors leave: one at a time, and all of them with the node.
//!
//! In: an entry that is to go, or the end of the node. Out: messages given back, parents told, parts
//! removed from records. What an actor itself does before it leaves is in `shell.rs`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::Directory;
use contract::ActorId;
use contract::core::{Event, Roster, Undelivered};

use crate::entry::{Entry, Left, Side};
use crate::fabric::Fabric;
use crate::replicas::{Input, Parcel};

/// What becomes of messages for an actor that is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// They go back to their senders.
    Returns(Undelivered),
    /// They go where the actor runs now.
    Follows,
}

/// How long an orderly end waits for the disk, and how often it looks.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);
const SHUTDOWN_LOOK: Duration = Duration::from_millis(5);

impl<R: Roster> Fabric<R> {
    /// Ends all actors; waits first, at most two seconds, until what they have stored is safe and
    /// what waited for it is done. What comes meanwhile is refused.
    ///
    /// # Panics
    /// If a holder of the fabric's locks panicked.
    pub async fn shutdown(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
        let end = self.now().mono + SHUTDOWN_MAX;
        while self.is_writing() && self.now().mono < end {
            self.env()
                .sleep_until(self.now().mono + SHUTDOWN_LOOK)
                .await;
        }
        self.close_events();
        self.inner.revoked.store(true, Ordering::SeqCst);
        let root = self.inner.root.lock();
        let root = root.expect("no holder of the root panics").take();
        if let Some(root) = root {
            // Whoever does not end in time is ended with the process.
            let _ = root
                .stop_and_wait(Some("shut down".to_owned()), Some(SHUTDOWN_MAX))
                .await;
        }
        self.inner.index.changed.notify_one();
    }

    fn is_writing(&self) -> bool {
        self.inner.tables.iter().any(|table| {
            let table = table.read().expect("no holder of a table panics");
            let mut entries = table.values();
            entries.any(|entry| entry.under_way.load(Ordering::SeqCst) > 0)
        })
    }

    /// Ends everything at once, as a crash does; nothing has any effect from now on.
    pub fn kill(&self) {
        self.inner.revoked.store(true, Ordering::SeqCst);
        let root = self
            .inner
            .root
            .lock()
            .expect("no holder of the root panics")
            .take();
        if let Some(root) = root {
            root.kill();
        }
        self.inner.index.changed.notify_one();
    }

    /// Gives back what was in an inbox.
    pub(crate) fn give_back(&self, id: &ActorId, left: Left<R>, fate: Fate) {
        for letter in left.events {
            if let Event::Message { from, message } = letter.event {
                match fate {
                    Fate::Returns(why) => self.bounce(&from, id.clone(), message, why),
                    Fate::Follows => self.send_after(from, id.clone(), letter.hops, message),
                }
            }
        }
        for side in left.side {
            if let Side::Inspect { asker, token } = side {
                crate::inspect::answer_passive(self, &asker, token, id);
            }
        }
    }

    /// Sends a message after an actor that another node has now; back to its sender if it has come a
    /// long way already.
    pub(crate) fn send_after(&self, from: ActorId, to: ActorId, hops: u8, message: R::Message) {
        let Some(hops) = Directory::pass_on(hops) else {
            tracing::debug!(actor = %to, "a message has gone after its actor often enough");
            return self.bounce(&from, to, message, Undelivered::Busy);
        };
        self.give(Input::Post(Parcel {
            from,
            origin: self.me(),
            to,
            hops,
            message,
        }));
    }

    /// Gives back what waits for sides that their call does not have.
    pub(crate) fn release_sides(&self, call: &ActorId, fate: Fate) {
        let ActorId::Call(call) = call else {
            return;
        };
        let (first, last) = (call.side(1), call.side(u8::MAX));
        let ranges = [
            ActorId::Dialog(first)..=ActorId::Dialog(last),
            ActorId::MediaLeg(first)..=ActorId::MediaLeg(last),
        ];
        for range in ranges {
            let waiting: Vec<_> = {
                let table = self.table(range.start().kind()).read();
                let table = table.expect("no holder of a table panics");
                table.range(range).map(|(_, entry)| entry.clone()).collect()
            };
            for entry in waiting.into_iter().filter(|entry| entry.claim()) {
                let left = entry.close();
                self.delist(&entry);
                self.give_back(&entry.id, left, fate);
            }
        }
    }

    /// Takes an actor from its parent's list and from the table. In this order: once the place is
    /// free, the parent may start another child of that ID.
    pub(crate) fn take_out(&self, entry: &Arc<Entry<R>>) {
        if let Some(parent) = entry.parent.as_ref().and_then(|id| self.find(id)) {
            parent.status().children.retain(|child| *child != entry.id);
        }
        self.delist(entry);
    }

    /// Tells the parent that a child is gone, and whether it was given up.
    pub(crate) fn tell_parent(&self, entry: &Entry<R>, is_lost: bool) {
        let Some(parent) = entry.parent.as_ref().and_then(|id| self.find(id)) else {
            return;
        };
        let id = entry.id.clone();
        if is_lost && parent.push(Event::ChildLost { id }).is_err() {
            tracing::debug!(actor = %entry.id, "nobody is left to be told of its loss");
        }
        parent.schedule();
    }

    /// A media leg is gone, whether it was told to close before or not: nobody else frees its port.
    pub(crate) fn close_port(&self, id: &ActorId) {
        if let ActorId::MediaLeg(leg) = id {
            let close = contract::MediaCommand::Close { leg: *leg };
            self.env().media().command(close);
        }
    }

    /// A side has ended: its part leaves the record.
    pub(crate) fn remove_part(&self, id: &ActorId) {
        let remove = |owned: &mut cluster::Owned| owned.remove(id);
        let owner = self.find(&id.record_owner());
        self.inner
            .records
            .commit_change(id, remove, |owned, commit| {
                let Some(owner) = owner else {
                    let done = |result| {
                        if let Err(error) = result {
                            tracing::warn!(%error, "a part without an owner could not be removed");
                        }
                    };
                    return self.write(owned, commit, Box::new(done));
                };
                // The owner stays until it is on disk.
                owner.under_way.fetch_add(1, Ordering::SeqCst);
                let done = move |result: Result<(), contract::StoreFault>| {
                    if let Err(error) = &result {
                        tracing::warn!(actor = %owner.id, %error, "a part could not be removed");
                    }
                    owner.written(None, Ok(()));
                };
                self.write(owned, commit, Box::new(done));
            });
        self.work();
    }

    /// Ends an actor whose shell has died, and its children, which died with it.
    pub(crate) fn abandon(&self, entry: &Arc<Entry<R>>) {
        let children = entry.status().children.clone();
        for child in children.iter().filter_map(|child| self.find(child)) {
            self.abandon(&child);
        }
        let left = entry.close();
        if let Some(record) = self.inner.records.of(&entry.id)
            && entry.id.record_owner() == entry.id
        {
            self.inner.records.forget(&entry.id, &record);
        }
        // Before the place in the table is free: a successor opens it anew.
        self.close_port(&entry.id);
        self.take_out(entry);
        self.give_back(&entry.id, left, Fate::Returns(Undelivered::Busy));
        self.tell_parent(entry, true);
        if let Some(cell) = entry.cell() {
            self.unname(cell.get_id().pid());
        }
    }
}
