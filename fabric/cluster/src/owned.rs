//! A live record that this node owns: every change becomes a commit (`cluster.md` §3, §4, §8).
//!
//! In: parts as the actors stored them. Out: commits, each one a batch with the next version.
//! It does not wait for answers: [`crate::Acks`] counts those, the runtime keeps the gate.
//!
//! | state | call | next |
//! |---|---|---|
//! | (none) | `begin`, `adopt`, `take_over` | Active |
//! | Active | `put`, `remove`, `propose_holders`, `settle_holders` | Active |
//! | Active | `end` | Ended |
//! | Ended | `put`, `remove`: refused; `forget` after `expires` | (none) |
//! | Ended | `revive`, by the same owner | Active |

use std::collections::BTreeMap;

use bytes::Bytes;
use contract::limits::{PARTS_PER_RECORD_MAX, RECORD_BYTES_MAX};
use contract::{ActorId, Batch, IdHasher, NodeInst, RecordKey, SchemaVersion, UtcMillis};

use crate::form::{header_key, part_key, write_part, write_stored};
use crate::{
    Conf, Epoch, Header, HolderSet, Image, Loaded, PartEntry, RecordError, RecordState, Version,
};

/// A live record that this node owns. One per materialised record.
#[derive(Clone, Debug)]
pub struct Owned {
    key: RecordKey,
    header: Header,
    parts: BTreeMap<ActorId, Bytes>,
}

/// One change of a record, to be made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The version it makes.
    pub version: Version,
    /// What the store of a node alone writes. In a cluster the own store is a holder like the
    /// others: it gets [`Owned::delta`] through [`crate::decide`]. `essential` if it renews, removes or ends something; set it for
    /// any other commit that must be written while the disk takes anything.
    pub batch: Batch,
}

impl Owned {
    /// Begins a record of this node alone. Nothing is stored before the first `put`.
    ///
    /// In: `id`, an actor that has a record of its own; `fence`, the highest epoch known for it:
    /// that of its tombstone ([`Owned::epoch`], [`Loaded::fence`]) or [`Epoch::ZERO`].
    ///
    /// # Panics
    /// If the actor has no record of its own (a bug in the caller).
    #[must_use]
    pub fn begin(id: &ActorId, fence: Epoch, me: NodeInst, ids: &IdHasher) -> Self {
        Owned::begin_at(id, fence.next(me.node), me, ids)
    }

    /// Begins a record under the epoch of a claim that was won and found nothing.
    ///
    /// # Panics
    /// As [`Owned::begin`].
    #[must_use]
    pub fn begin_at(id: &ActorId, epoch: Epoch, me: NodeInst, ids: &IdHasher) -> Self {
        assert!(
            id.kind().is_recorded() && id.record_owner() == *id,
            "{id} has no record of its own"
        );
        Owned {
            key: ids.record_key(id),
            header: Header {
                id: id.clone(),
                version: Version { epoch, sequence: 0 },
                owner: me,
                state: RecordState::Active,
                conf: Conf::Settled(HolderSet::alone(me.node)),
                expires: UtcMillis(0),
                schema: SchemaVersion::OLDEST,
                degraded: false,
                parts: Vec::new(),
            },
            parts: BTreeMap::new(),
        }
    }

    /// Sets who holds a record that was only begun, as placement names them.
    ///
    /// # Panics
    /// If something was put already: then the set changes by [`Owned::propose_holders`].
    #[must_use]
    pub fn held_by(mut self, holders: HolderSet) -> Self {
        assert_eq!(self.header.version.sequence, 0, "the record was only begun");
        self.header.conf = Conf::Settled(holders);
        self
    }

    /// Adopts a record of this node's own store as the only holder there is (one node, R = W = 1).
    ///
    /// Out: with a commit unless this very life of the node owns it already, or it is a tombstone:
    /// the claim of a new epoch, which must be durable before any effect (`cluster.md` §7).
    /// In a cluster the claim goes to all holders instead: [`crate::Activation`].
    #[must_use]
    pub fn adopt(loaded: Loaded, me: NodeInst, ids: &IdHasher) -> (Self, Option<Commit>) {
        let same = loaded.header.owner == me && loaded.fence == loaded.header.version.epoch;
        let ended = loaded.header.is_ended();
        let epoch = loaded.fence.next(me.node);
        let image = Image {
            header: loaded.header,
            parts: loaded.parts,
        };
        if same || ended {
            return (Owned::of(image, ids), None);
        }
        let (mut owned, _) = Owned::take_over(image, epoch, false, me, ids);
        owned.header.conf = Conf::Settled(HolderSet::alone(me.node));
        let commit = owned.whole_commit();
        (owned, Some(commit))
    }

    /// Takes over the newest version a won claim found, under the epoch of the claim.
    ///
    /// Out: the commit that makes it `Active` here; holders get it as a whole ([`Owned::image`]).
    /// Parts that were lost are no longer listed. `degraded`: the claim went on with fewer answers.
    #[must_use]
    pub fn take_over(
        newest: Image,
        epoch: Epoch,
        degraded: bool,
        me: NodeInst,
        ids: &IdHasher,
    ) -> (Self, Commit) {
        let mut owned = Owned::of(newest, ids);
        owned.header.owner = me;
        owned.header.version.epoch = epoch;
        owned.header.version.sequence += 1;
        owned.header.degraded = degraded;
        if !owned.header.is_ended() {
            owned.header.state = RecordState::Active;
            // That of a copy that was kept for a while only.
            owned.header.expires = UtcMillis(0);
        }
        let commit = owned.whole_commit();
        (owned, commit)
    }

    fn of(image: Image, ids: &IdHasher) -> Self {
        let Image { mut header, parts } = image;
        header.parts.retain(|entry| parts.contains_key(&entry.id));
        Owned {
            key: ids.record_key(&header.id),
            header,
            parts,
        }
    }

    /// Takes that parts are written in forms of a schema from now on. A record never becomes older: parts
    /// that were written before stay as they are.
    pub fn write_in(&mut self, schema: SchemaVersion) {
        self.header.schema = self.header.schema.max(schema);
    }

    /// Replaces an actor's part.
    ///
    /// In: `deadline`, the earliest deadline of that actor.
    ///
    /// # Errors
    /// `Ended`, `Foreign`, `TooLarge` (over `RECORD_BYTES_MAX` in all parts), `TooManyParts` (over
    /// `PARTS_PER_RECORD_MAX`); nothing is changed then.
    pub fn put(
        &mut self,
        part: &ActorId,
        bytes: Vec<u8>,
        deadline: Option<UtcMillis>,
    ) -> Result<Commit, RecordError> {
        let renewed = self.header.part(part).map(|entry| entry.length as usize);
        self.check_put(part, renewed, bytes.len())?;
        self.advance();
        let version = self.header.version;
        self.header.set_part(PartEntry {
            id: part.clone(),
            version,
            length: u32::try_from(bytes.len()).expect("checked against RECORD_BYTES_MAX"),
            deadline,
        });
        let place = part_key(self.key, part);
        let change = place.map(|place| (place, Some(write_part(version, &bytes))));
        self.parts.insert(part.clone(), bytes.into());
        Ok(self.commit(change.into_iter().collect(), renewed.is_some()))
    }

    fn check_put(
        &self,
        part: &ActorId,
        renewed: Option<usize>,
        length: usize,
    ) -> Result<(), RecordError> {
        let id = self.header.id.clone();
        if part.record_owner() != id {
            let part = part.clone();
            return Err(RecordError::Foreign { part, id });
        }
        if self.header.is_ended() {
            return Err(RecordError::Ended { id });
        }
        let bytes = self.header.bytes() - renewed.unwrap_or(0) + length;
        if bytes > RECORD_BYTES_MAX {
            let most = RECORD_BYTES_MAX;
            return Err(RecordError::TooLarge { id, bytes, most });
        }
        if renewed.is_none() && self.header.parts.len() >= PARTS_PER_RECORD_MAX {
            let most = PARTS_PER_RECORD_MAX;
            return Err(RecordError::TooManyParts { id, most });
        }
        Ok(())
    }

    /// Replaces all parts; the holders get them with the next whole record ([`Owned::image`]).
    ///
    /// # Errors
    /// As [`Owned::put`]; nothing is changed then.
    pub fn replace(&mut self, parts: Vec<(ActorId, Bytes)>) -> Result<(), RecordError> {
        let former = self.clone();
        self.parts.clear();
        self.header.parts.clear();
        for (part, bytes) in parts {
            if let Err(error) = self.put(&part, bytes.to_vec(), None) {
                *self = former;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Removes an actor's part; `None` if there is none, or the record has ended.
    pub fn remove(&mut self, part: &ActorId) -> Option<Commit> {
        self.header.part(part)?;
        self.advance();
        self.parts.remove(part);
        self.header.parts.retain(|entry| entry.id != *part);
        let change = part_key(self.key, part).map(|place| (place, None));
        Some(self.commit(change.into_iter().collect(), true))
    }

    /// Ends the record: all parts go, the header stays as a tombstone until `keep_until`.
    ///
    /// On a tombstone it moves the end of its time. The batch is essential.
    pub fn end(&mut self, keep_until: UtcMillis) -> Commit {
        self.advance();
        let gone = part_removals(self.key, &self.header);
        self.parts.clear();
        self.header.parts.clear();
        self.header.state = RecordState::Ended;
        self.header.expires = keep_until;
        self.commit(gone, true)
    }

    /// Starts to change the holder set (`cluster.md` §4): from this commit on both sets count.
    /// `None` if the set is that already, or a change is under way.
    pub fn propose_holders(&mut self, new: HolderSet) -> Option<Commit> {
        let Conf::Settled(old) = &self.header.conf else {
            return None;
        };
        if *old == new {
            return None;
        }
        let old = old.clone();
        self.advance();
        self.header.conf = Conf::Joint { old, new };
        Some(self.commit(Vec::new(), true))
    }

    /// Ends the change of the holder set. Only after the proposing commit, or a later one, is safe.
    /// `None` if none is under way.
    pub fn settle_holders(&mut self) -> Option<Commit> {
        let Conf::Joint { new, .. } = &self.header.conf else {
            return None;
        };
        let new = new.clone();
        self.advance();
        self.header.conf = Conf::Settled(new);
        Some(self.commit(Vec::new(), true))
    }

    /// Begins anew over the own tombstone: the epoch is still this owner's. Nothing is stored before
    /// the next `put`.
    pub fn revive(&mut self) {
        if self.header.is_ended() {
            self.header.state = RecordState::Active;
            self.header.expires = UtcMillis(0);
        }
    }

    /// Commits the header alone: to say what has changed of its state, or to try a commit again.
    pub fn touch(&mut self) -> Commit {
        self.advance();
        self.commit(Vec::new(), true)
    }

    /// Marks that the last commit had fewer answers than wanted, or that the next one will; stored with the
    /// next commit.
    pub fn set_degraded(&mut self, degraded: bool) {
        self.header.degraded = degraded;
    }

    /// Returns the header as of the last commit.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the epoch it is owned under: the fence for a record begun anew after its end.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.header.version.epoch
    }

    /// Returns an actor's part as last put: what it restarts from after a panic.
    #[must_use]
    pub fn last(&self, part: &ActorId) -> Option<&Bytes> {
        self.parts.get(part)
    }

    /// Returns the whole record, for holders that lack it.
    #[must_use]
    pub fn image(&self) -> Image {
        Image {
            header: self.header.clone(),
            parts: self.parts.clone(),
        }
    }

    /// Returns the record with those parts only that the last commit changed.
    #[must_use]
    pub fn delta(&self) -> Image {
        let mut image = self.image();
        let is_new = |id: &ActorId| {
            let entry = self.header.part(id);
            entry.is_some_and(|entry| entry.version == self.header.version)
        };
        image.parts.retain(|id, _| is_new(id));
        image
    }

    fn advance(&mut self) {
        self.header.version.sequence += 1;
    }

    fn commit(&self, more: Vec<(Vec<u8>, Option<Vec<u8>>)>, essential: bool) -> Commit {
        let own = self.parts.get(&self.header.id).map(|part| &part[..]);
        let fence = self.header.version.epoch;
        let stored = write_stored(fence, Some(&self.header), own);
        let mut changes = vec![(header_key(self.key), Some(stored))];
        changes.extend(more);
        Commit {
            version: self.header.version,
            batch: Batch { changes, essential },
        }
    }

    fn whole_commit(&self) -> Commit {
        let parts = self.header.parts.iter().filter_map(|entry| {
            let place = part_key(self.key, &entry.id)?;
            let bytes = self.parts.get(&entry.id)?;
            Some((place, Some(write_part(entry.version, bytes))))
        });
        self.commit(parts.collect(), true)
    }
}

/// Returns the batch that removes a record for good: for a tombstone whose time has passed.
#[must_use]
pub fn forget(header: &Header, ids: &IdHasher) -> Batch {
    let key = ids.record_key(&header.id);
    let mut changes = vec![(header_key(key), None)];
    changes.extend(part_removals(key, header));
    Batch {
        changes,
        essential: true,
    }
}

fn part_removals(key: RecordKey, header: &Header) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let places = header
        .parts
        .iter()
        .filter_map(|entry| part_key(key, &entry.id));
    places.map(|place| (place, None)).collect()
}
