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
use contract::{ActorId, Batch, IdHasher, Kind, NodeId, NodeInst, RecordKey, UtcMillis};

use crate::digest::{is_same, names};
use crate::holder::{decide_copy, left_by};
use crate::{
    Epoch, Header, Held, HolderReply, HolderRequest, Image, RecordError, Whereabouts, decide,
    load::hold,
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
    /// What is durable here has changed: tell [`crate::Repair::changed`]. Comes when it is durable,
    /// before the answers that rest on it, so that a write that fails is never thought to be held.
    Changed {
        /// Of which record.
        key: RecordKey,
        /// What was durable before.
        before: Option<Box<Header>>,
        /// What is now.
        after: Option<Box<Header>>,
    },
    /// A copy of another holder is durable here, or what was here is as new; or it is not: tell
    /// [`crate::Repair::stored`].
    Copied {
        /// As it came with the copy.
        number: u64,
        /// Whether it is.
        is_durable: bool,
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
    /// The header that is durable, and by which batch; 0: by none of this line.
    durable: Option<Box<Header>>,
    durable_by: u64,
}

#[derive(Debug)]
struct Waiting {
    /// The batch it waits for, until that is durable.
    store: Option<u64>,
    /// The header in that batch.
    header: Option<Box<Header>>,
    done: Done,
    bytes: usize,
}

/// What follows when all that something rests on is durable.
#[derive(Debug)]
enum Done {
    Answer {
        to: NodeInst,
        number: u64,
        /// `None`: a write it rests on failed.
        reply: Option<HolderReply>,
    },
    Copied {
        number: u64,
        is_durable: bool,
    },
    Nothing,
}

impl Done {
    /// Takes word that a write it rests on failed; says whether that is news.
    fn fail(&mut self) -> bool {
        match self {
            Done::Answer { reply, .. } => reply.take().is_some(),
            Done::Copied { is_durable, .. } => std::mem::replace(is_durable, false),
            Done::Nothing => false,
        }
    }

    fn action(self) -> Option<DeskAction> {
        match self {
            Done::Answer { to, number, reply } => Some(match reply {
                Some(reply) => DeskAction::Answer { to, number, reply },
                None => DeskAction::Drop { to, number },
            }),
            Done::Copied { number, is_durable } => Some(DeskAction::Copied { number, is_durable }),
            Done::Nothing => None,
        }
    }
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
        let left = batch.map(|batch| (left_by(held.clone(), request, &reply), batch));
        let reply = Some(reply);
        let to = from;
        self.take(&id, held, left, Done::Answer { to, number, reply })
    }

    /// Takes a copy of a record that another holder had and this one lacked
    /// ([`crate::RepairAction::Store`]). It must be whole, and counts for no quorum: so it is taken
    /// below the fence too, which stays where it is.
    ///
    /// In: `keep_until`: a copy that does not name this node is here only to tell others that the
    /// holders have changed, and is forgotten after that time ([`Desk::forget`]).
    ///
    /// Out: `Copied` comes once, now or when it is durable; bounds as of [`Desk::request`].
    pub fn copy(
        &mut self,
        store: &dyn Store,
        number: u64,
        mut image: Image,
        keep_until: UtcMillis,
    ) -> Vec<DeskAction> {
        let id = image.header.id.clone();
        if !image.header.is_ended() {
            // Whom it comes from may have it as such a copy.
            let is_stray = is_stray(&image.header, self.me);
            image.header.expires = if is_stray { keep_until } else { UtcMillis(0) };
        }
        let refused = |number| {
            let is_durable = false;
            vec![DeskAction::Copied { number, is_durable }]
        };
        if !self.has_room(&id) {
            self.counts.busy += 1;
            return refused(number);
        }
        let Ok(held) = self.held(store, &id) else {
            self.counts.unread += 1;
            return refused(number);
        };
        let version = image.header.version;
        let left = decide_copy(&held, image, &self.ids);
        let left_held = left.as_ref().map_or(&held, |(left, _)| left);
        let newest = left_held.image.as_ref().map(|image| image.header.version);
        let is_durable = newest.is_some_and(|newest| newest >= version);
        self.take(&id, held, left, Done::Copied { number, is_durable })
    }

    /// Forgets a tombstone, or a copy that does not name this node, whose time had passed at
    /// `known_until` ([`crate::Repair::known_until`]: others have it then, and will not give an
    /// older version back), with its fence. Does nothing
    /// if that is not so, or something of the ID is not durable yet; the runtime asks again later.
    pub fn forget(
        &mut self,
        store: &dyn Store,
        known_until: UtcMillis,
        id: &ActorId,
    ) -> Vec<DeskAction> {
        let id = id.record_owner();
        if !self.is_quiet(&id) {
            return Vec::new();
        }
        let Ok(held) = self.held(store, &id) else {
            return Vec::new();
        };
        let header = held.image.as_ref().map(|image| &image.header);
        let is_over = |header: &&Header| {
            (header.is_ended() || is_stray(header, self.me)) && header.expires <= known_until
        };
        let header = header.filter(is_over);
        let batch = header.map(|header| crate::forget(header, &self.ids));
        let left = batch.map(|batch| (Held::default(), batch));
        self.take(&id, held, left, Done::Nothing)
    }

    /// Goes on with what was decided on `held`: nothing to write, or what is left and its batch.
    fn take(
        &mut self,
        id: &ActorId,
        held: Held,
        left: Option<(Held, Batch)>,
        done: Done,
    ) -> Vec<DeskAction> {
        let Some((left, batch)) = left else {
            let Some(line) = self.lines.get_mut(id) else {
                return done.action().into_iter().collect();
            };
            self.waiting += 1;
            line.waiting.push_back(Waiting {
                store: None,
                header: None,
                done,
                bytes: 0,
            });
            return Vec::new();
        };
        let mut actions = Vec::new();
        let before = held.fence;
        if before.by == self.me && before != Epoch::ZERO && left.fence.by != self.me {
            let (id, epoch) = (id.clone(), left.fence);
            actions.push(DeskAction::Fence { id, epoch });
        }
        let batch = self.write(id, held, left, batch, done);
        actions.push(DeskAction::Store {
            number: self.last_store,
            batch,
        });
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
        let mut actions = Vec::new();
        if is_durable {
            line.fresh.retain(|_, (since, _)| *since > number);
            let header = line.waiting[at].header.take();
            actions.extend(line.now_durable(number, header, self.ids.record_key(&id)));
        } else {
            // What had nothing to write rests on the write before it; later writes carry all.
            let next = line.waiting.iter().skip(at + 1);
            let next = next.take_while(|next| next.store.is_none()).count();
            for resting in line.waiting.range_mut(at..=at + next) {
                self.counts.failed += u64::from(resting.done.fail());
            }
        }
        line.waiting[at].store = None;
        while let Some(first) = line.waiting.pop_front_if(|first| first.store.is_none()) {
            self.waiting -= 1;
            self.bytes -= first.bytes;
            actions.extend(first.done.action());
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

    /// Tells whether everything of an ID is durable. The runtime writes to no record past the desk:
    /// digests would not know.
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

    /// Takes word that this node has everything of a shard that the others hold of theirs
    /// ([`crate::RepairAction::Settled`]).
    pub fn shard_settled(&mut self, shard: u8) {
        self.settled[usize::from(shard)] = true;
    }

    /// Takes word that the view changed, or that a member was lost
    /// ([`crate::RepairAction::Unsettled`]); without any other member there is nobody to compare with.
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

    /// Takes what is left from now on, and returns the batch with all that is not durable yet.
    fn write(&mut self, id: &ActorId, held: Held, left: Held, batch: Batch, done: Done) -> Batch {
        self.last_store += 1;
        self.stores.insert(self.last_store, id.clone());
        let line = self.lines.entry(id.clone()).or_insert_with(|| Line {
            held: Held::default(),
            waiting: VecDeque::new(),
            fresh: BTreeMap::new(),
            durable: header_of(&held),
            durable_by: 0,
        });
        for (key, value) in batch.changes {
            line.fresh.insert(key, (self.last_store, value));
        }
        let changes = line.fresh.iter();
        let changes: Vec<_> = changes
            .map(|(key, (_, value))| (key.clone(), value.clone()))
            .collect();
        let values = changes.iter().filter_map(|(_, value)| value.as_ref());
        let bytes = values.map(Vec::len).sum();
        self.waiting += 1;
        self.bytes += bytes;
        line.waiting.push_back(Waiting {
            store: Some(self.last_store),
            header: header_of(&left),
            done,
            bytes,
        });
        line.held = left;
        Batch {
            changes,
            essential: batch.essential,
        }
    }

    /// Returns the headers of a shard's records that are durable while something newer is not: what
    /// the store shows of these may be ahead of what [`DeskAction::Changed`] has told.
    pub(crate) fn unfinished(
        &self,
        kind: Kind,
        of_shard: u8,
    ) -> impl Iterator<Item = (RecordKey, Option<&Header>)> {
        let lines = self.lines.iter();
        let lines = lines.map(|(id, line)| (self.ids.record_key(id), line.durable.as_deref()));
        lines.filter(move |(key, _)| key.kind == kind && shard(*key) == of_shard)
    }

    pub(crate) const fn me(&self) -> NodeId {
        self.me
    }

    pub(crate) const fn ids(&self) -> &IdHasher {
        &self.ids
    }
}

impl Line {
    /// Takes a header that has become durable; says what has changed by it.
    fn now_durable(
        &mut self,
        number: u64,
        header: Option<Box<Header>>,
        key: RecordKey,
    ) -> Option<DeskAction> {
        if number < self.durable_by {
            return None;
        }
        self.durable_by = number;
        let before = std::mem::replace(&mut self.durable, header.clone());
        let is_same = is_same(before.as_deref(), header.as_deref());
        (!is_same).then_some(DeskAction::Changed {
            key,
            before,
            after: header,
        })
    }
}

/// Tells whether a copy at a node says that others hold the record.
#[must_use]
pub fn is_stray(header: &Header, me: NodeId) -> bool {
    !header.is_ended() && header.owner.node != me && !names(header, me)
}

fn header_of(held: &Held) -> Option<Box<Header>> {
    let image = held.image.as_ref();
    image.map(|image| Box::new(image.header.clone()))
}

const fn id_of(request: &HolderRequest) -> &ActorId {
    match request {
        HolderRequest::Commit(image) => &image.header.id,
        HolderRequest::Claim { id, .. } => id,
    }
}
