//! The records this node owns and has materialised: one lock a record, shared by a call and its
//! sides, so that the record's sequence rises with every commit of any of them.
//!
//! In: parts of actors. Out: commits for the store. It holds no record of a passive actor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use cluster::{Commit, Epoch, Owned, RecordError};
use contract::env::Store;
use contract::{ActorId, IdHasher, NodeInst};

use crate::fabric::Part;

pub(crate) struct Records {
    ids: IdHasher,
    me: NodeInst,
    owned: Mutex<BTreeMap<ActorId, Arc<Mutex<Owned>>>>,
}

/// What a stored record is to an actor that is to start.
pub(crate) enum Found {
    /// Nothing is stored, or only a tombstone with this fence.
    Nothing(Epoch, bool),
    /// Its record, adopted; the claim is still to be committed if there is one.
    Record {
        parts: BTreeMap<ActorId, Bytes>,
        claim: Option<Commit>,
        /// It was last owned by a former life of the node.
        is_from_former_life: bool,
    },
}

impl Records {
    pub(crate) fn new(ids: IdHasher, me: NodeInst) -> Self {
        Records {
            ids,
            me,
            owned: Mutex::new(BTreeMap::new()),
        }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<ActorId, Arc<Mutex<Owned>>>> {
        self.owned.lock().expect("no holder of the records panics")
    }

    /// Returns the record an actor's part lies in, if it is materialised.
    pub(crate) fn of(&self, id: &ActorId) -> Option<Arc<Mutex<Owned>>> {
        self.table().get(&id.record_owner()).cloned()
    }

    /// Reads a record and adopts it.
    pub(crate) fn open(&self, store: &dyn Store, id: &ActorId) -> Result<Found, RecordError> {
        let loaded = cluster::load(store, &self.ids, id)?;
        let Some(loaded) = loaded else {
            return Ok(Found::Nothing(Epoch::ZERO, false));
        };
        if loaded.header.is_ended() {
            return Ok(Found::Nothing(loaded.fence, true));
        }
        for part in &loaded.missing {
            tracing::warn!(actor = %part, "a part is missing from its record");
        }
        let is_from_former_life = loaded.header.owner != self.me;
        let parts = loaded.parts.clone();
        let (owned, claim) = Owned::adopt(loaded, self.me, &self.ids);
        self.table().insert(id.clone(), Arc::new(Mutex::new(owned)));
        Ok(Found::Record {
            parts,
            claim,
            is_from_former_life,
        })
    }

    /// Begins a new record; nothing is stored before the first part is.
    pub(crate) fn begin(&self, id: &ActorId, fence: Epoch) {
        let owned = Owned::begin(id, fence, self.me, &self.ids);
        self.table().insert(id.clone(), Arc::new(Mutex::new(owned)));
    }

    /// Takes a record that a claim has won, or that lay passive.
    pub(crate) fn insert(&self, id: &ActorId, owned: Owned) {
        self.table().insert(id.clone(), Arc::new(Mutex::new(owned)));
    }

    /// Changes the record an actor's part lies in.
    pub(crate) fn change<T>(
        &self,
        id: &ActorId,
        change: impl FnOnce(&mut Owned) -> T,
    ) -> Option<T> {
        let record = self.of(id)?;
        let mut owned = record.lock().expect("no holder of a record panics");
        Some(change(&mut owned))
    }

    /// Replaces a part and commits it while the record is locked, so that commits of one record
    /// reach the store in the order of their versions.
    pub(crate) fn put(
        &self,
        id: &ActorId,
        part: Part<'_>,
        commit: impl FnOnce(&Owned, Commit),
    ) -> Option<Result<(), RecordError>> {
        self.change(id, |owned| {
            owned.write_in(part.schema);
            let put = owned.put(id, part.bytes.to_vec(), part.deadline)?;
            commit(owned, put);
            Ok(())
        })
    }

    /// Returns an actor's last stored part.
    pub(crate) fn last(&self, part: &ActorId) -> Option<Bytes> {
        self.change(part, |owned| owned.last(part).cloned())
            .flatten()
    }

    /// Ends a record, or removes a part, and commits it while the record is locked, for the same
    /// reason.
    pub(crate) fn commit_change(
        &self,
        id: &ActorId,
        change: impl FnOnce(&mut Owned) -> Option<Commit>,
        commit: impl FnOnce(&Owned, Commit),
    ) {
        self.change(id, |owned| {
            if let Some(changed) = change(owned) {
                commit(owned, changed);
            }
        });
    }

    /// Begins a record anew over its tombstone: a user who registers again.
    pub(crate) fn begin_again(&self, id: &ActorId) {
        self.change(id, Owned::revive);
    }

    /// Forgets a record, unless another of the same ID was materialised meanwhile.
    pub(crate) fn forget(&self, id: &ActorId, record: &Arc<Mutex<Owned>>) {
        let mut table = self.table();
        if table
            .get(id)
            .is_some_and(|known| Arc::ptr_eq(known, record))
        {
            table.remove(id);
        }
    }

    pub(crate) fn ids(&self) -> &IdHasher {
        &self.ids
    }
}
