//! A node's desk as a holder: requests for records are decided one after the other, answered when
//! their effect is durable (`cluster.md` §3, §4).
//!
//! In: requests of nodes, this one included (its own store is a holder like the others), and word
//! of the store. Out: [`DeskAction`]s. It reads the store that is handed in and writes nothing
//! itself. It has no deadlines: a store answers, or the node ends.
//!
//! Every request of an ID is decided on what the last one leaves, durable or not; its answer waits
//! for everything before it. Each batch carries all changes of its ID that are not durable yet, so
//! that a write that fails takes nothing with it that came before or comes after: without that, a
//! header written after a part that was not would hide the older part it replaced.

use std::collections::{BTreeMap, VecDeque};

use contract::env::Store;
use contract::limits::{DESK_BYTES_MAX, DESK_PER_RECORD_MAX, DESK_WAITING_MAX, SHARDS};
use contract::{ActorId, Batch, IdHasher, NodeId, NodeInst, RecordKey};

use crate::holder::left_by;
use crate::{
    Epoch, Held, HolderReply, HolderRequest, RecordError, Whereabouts, decide, load::hold,
};

/// What the runtime has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeskAction {
    /// If this node runs the actor under a lower epoch, it has lost: its actor emits nothing more,
    /// and [`crate::Replicator::saw`] is told. Before any other action.
    Fence {
        /// Which actor.
        id: ActorId,
        /// The epoch that won.
        epoch: Epoch,
    },
    /// Write this; then call [`Desk::stored`]. Batches are written in the order of their numbers.
    Store {
        /// Comes back.
        number: u64,
        /// What.
        batch: Batch,
    },
    /// Answer a request.
    Answer {
        /// Who asked; may be this node.
        to: NodeInst,
        /// Under which number.
        number: u64,
        /// What to say.
        reply: HolderReply,
    },
    /// A request is not answered: at a bound, or because a write failed. Another node is told
    /// nothing and asks again; if this node asked, its own store does not have the commit
    /// ([`crate::Replicator::not_stored`]), or its claim is not begun.
    Drop {
        /// Who asked.
        to: NodeInst,
        /// Under which number.
        number: u64,
    },
}

/// What was not answered, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeskCounts {
    /// Requests not taken at a bound.
    pub busy: u64,
    /// Requests not answered because a write failed.
    pub failed: u64,
    /// Requests not taken because what is stored could not be read.
    pub unread: u64,
}

/// The desk of one node.
#[derive(Debug)]
pub struct Desk {
    me: NodeId,
    ids: IdHasher,
    lines: BTreeMap<ActorId, Line>,
    stores: BTreeMap<u64, ActorId>,
    last_store: u64,
    waiting: usize,
    bytes: usize,
    settled: Vec<bool>,
    counts: DeskCounts,
}

/// One ID of which something is not durable yet.
#[derive(Debug)]
struct Line {
    held: Held,
    waiting: VecDeque<Waiting>,
    /// Changes that are not durable yet, with the batch each came first in.
    fresh: BTreeMap<Vec<u8>, (u64, Option<Vec<u8>>)>,
}

#[derive(Debug)]
struct Waiting {
    /// The batch it waits for, until that is durable.
    store: Option<u64>,
    to: NodeInst,
    number: u64,
    /// `None`: a write it rests on failed.
    reply: Option<HolderReply>,
    bytes: usize,
}

/// Returns the shard a record is compared in with other holders.
#[must_use]
pub fn shard(key: RecordKey) -> u8 {
    key.to_bytes()[1]
}

impl Desk {
    /// Makes the desk of a node whose records have not been compared with anybody's.
    #[must_use]
    pub fn new(me: NodeId, ids: IdHasher) -> Self {
        Desk {
            me,
            ids,
            lines: BTreeMap::new(),
            stores: BTreeMap::new(),
            last_store: 0,
            waiting: 0,
            bytes: 0,
            settled: vec![false; SHARDS],
            counts: DeskCounts::default(),
        }
    }

    /// Takes a request of a node.
    ///
    /// Out: `Drop` at a bound (`DESK_PER_RECORD_MAX`, `DESK_WAITING_MAX`, `DESK_BYTES_MAX`) or if
    /// what is stored cannot be read.
    pub fn request(
        &mut self,
        store: &dyn Store,
        from: NodeInst,
        number: u64,
        request: HolderRequest,
    ) -> Vec<DeskAction> {
        let id = id_of(&request).record_owner();
        if !self.has_room(&id) {
            self.counts.busy += 1;
            return vec![DeskAction::Drop { to: from, number }];
        }
        let Ok(held) = self.held(store, &id) else {
            self.counts.unread += 1;
            return vec![DeskAction::Drop { to: from, number }];
        };
        let (reply, batch) = decide(&held, request.clone(), &self.ids);
        let mut actions = Vec::new();
        let Some(batch) = batch else {
            match self.lines.get_mut(&id) {
                None => actions.push(DeskAction::Answer {
                    to: from,
                    number,
                    reply,
                }),
                Some(line) => {
                    self.waiting += 1;
                    line.waiting.push_back(Waiting {
                        store: None,
                        to: from,
                        number,
                        reply: Some(reply),
                        bytes: 0,
                    });
                }
            }
            return actions;
        };
        let before = held.fence;
        let held = left_by(held, request, &reply);
        if before.by == self.me && before != Epoch::ZERO && held.fence.by != self.me {
            let epoch = held.fence;
            let id = id.clone();
            actions.push(DeskAction::Fence { id, epoch });
        }
        let batch = self.write(&id, held, batch);
        let values = batch.changes.iter().filter_map(|(_, value)| value.as_ref());
        let bytes = values.map(Vec::len).sum();
        actions.push(DeskAction::Store {
            number: self.last_store,
            batch,
        });
        self.wait(&id, from, number, reply, bytes);
        actions
    }

    /// Takes word that a batch is durable, or was not written. Unknown numbers are ignored.
    pub fn stored(&mut self, number: u64, is_durable: bool) -> Vec<DeskAction> {
        let Some(id) = self.stores.remove(&number) else {
            return Vec::new();
        };
        let Some(line) = self.lines.get_mut(&id) else {
            return Vec::new();
        };
        let is_it = |waiting: &Waiting| waiting.store == Some(number);
        let Some(at) = line.waiting.iter().position(is_it) else {
            return Vec::new();
        };
        if is_durable {
            line.fresh.retain(|_, (since, _)| *since > number);
        } else {
            // What had nothing to write rests on the write before it; later writes carry all.
            let next = line.waiting.iter().skip(at + 1);
            let next = next.take_while(|next| next.store.is_none()).count();
            for resting in line.waiting.range_mut(at..=at + next) {
                self.counts.failed += u64::from(resting.reply.take().is_some());
            }
        }
        line.waiting[at].store = None;
        let mut actions = Vec::new();
        while let Some(first) = line.waiting.pop_front_if(|first| first.store.is_none()) {
            self.waiting -= 1;
            self.bytes -= first.bytes;
            let (to, number) = (first.to, first.number);
            actions.push(match first.reply {
                Some(reply) => DeskAction::Answer { to, number, reply },
                None => DeskAction::Drop { to, number },
            });
        }
        if line.waiting.is_empty() {
            self.lines.remove(&id);
        }
        actions
    }

    /// Returns what this node holds of an ID, as the next request will find it: what a claim of
    /// this node begins with ([`crate::Activation::begin`]). The claim is then asked of this desk
    /// first, and of the others only after its answer: that makes its epoch durable.
    ///
    /// # Errors
    /// As [`hold`].
    pub fn held(&self, store: &dyn Store, id: &ActorId) -> Result<Held, RecordError> {
        let id = id.record_owner();
        match self.lines.get(&id) {
            Some(line) => Ok(line.held.clone()),
            None => hold(store, &self.ids, &id),
        }
    }

    /// Tells whether everything of an ID is durable: only then may the runtime write to its record
    /// past the desk (to forget a tombstone).
    #[must_use]
    pub fn is_quiet(&self, id: &ActorId) -> bool {
        !self.lines.contains_key(&id.record_owner())
    }

    /// Says where an actor is, as far as this node knows.
    ///
    /// Out: `None` only if the shard was compared with the other holders since the last change of
    /// the view; a tombstone counts as none.
    #[must_use]
    pub fn where_is(&self, store: &dyn Store, id: &ActorId) -> Whereabouts {
        let Ok(held) = self.held(store, id) else {
            return Whereabouts::Unsettled;
        };
        match held.image {
            Some(image) if !image.header.is_ended() => Whereabouts::At {
                owner: image.header.owner,
                version: image.header.version,
            },
            Some(_) | None if self.is_settled(shard(self.ids.record_key(id))) => Whereabouts::None,
            Some(_) | None => Whereabouts::Unsettled,
        }
    }

    /// Takes word that a shard was compared with every other holder and is equal.
    pub fn shard_settled(&mut self, shard: u8) {
        self.settled[usize::from(shard)] = true;
    }

    /// Takes word that the view changed; without any other member there is nobody to compare with.
    pub fn view_changed(&mut self, has_others: bool) {
        self.settled.fill(!has_others);
    }

    /// Tells whether a shard was compared since the last change of the view.
    #[must_use]
    pub fn is_settled(&self, shard: u8) -> bool {
        self.settled[usize::from(shard)]
    }

    /// Returns what was not answered so far.
    #[must_use]
    pub const fn counts(&self) -> DeskCounts {
        self.counts
    }

    /// Returns how many answers wait for the store.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    fn has_room(&self, id: &ActorId) -> bool {
        let of_id = self
            .lines
            .get(id)
            .is_none_or(|line| line.waiting.len() < DESK_PER_RECORD_MAX);
        of_id && self.waiting < DESK_WAITING_MAX && self.bytes < DESK_BYTES_MAX
    }

    /// Takes what is held from now on, and returns the batch with all that is not durable yet.
    fn write(&mut self, id: &ActorId, held: Held, batch: Batch) -> Batch {
        self.last_store += 1;
        self.stores.insert(self.last_store, id.clone());
        let line = self.lines.entry(id.clone()).or_insert_with(|| Line {
            held: Held::default(),
            waiting: VecDeque::new(),
            fresh: BTreeMap::new(),
        });
        line.held = held;
        for (key, value) in batch.changes {
            line.fresh.insert(key, (self.last_store, value));
        }
        let changes = line.fresh.iter();
        let changes = changes.map(|(key, (_, value))| (key.clone(), value.clone()));
        Batch {
            changes: changes.collect(),
            essential: batch.essential,
        }
    }

    fn wait(&mut self, id: &ActorId, to: NodeInst, number: u64, reply: HolderReply, bytes: usize) {
        let Some(line) = self.lines.get_mut(id) else {
            return;
        };
        self.waiting += 1;
        self.bytes += bytes;
        line.waiting.push_back(Waiting {
            store: Some(self.last_store),
            to,
            number,
            reply: Some(reply),
            bytes,
        });
    }
}

const fn id_of(request: &HolderRequest) -> &ActorId {
    match request {
        HolderRequest::Commit(image) => &image.header.id,
        HolderRequest::Claim { id, .. } => id,
    }
}
