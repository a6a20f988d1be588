//! A holder of a record: what it answers to a commit and to a claim (`cluster.md` §4).
//!
//! In: what it holds, and a request. Out: the answer, and a batch that must be durable before the
//! answer leaves. It keeps nothing itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use contract::{ActorId, Batch, IdHasher, NodeId};

use crate::form::{header_key, part_key, write_part, write_stored};
use crate::{Epoch, Header, RecordError, Version};

/// A record as it travels: its header and parts, all or only the changed ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The header.
    pub header: Header,
    /// Parts by the actor they are of.
    pub parts: BTreeMap<ActorId, Bytes>,
}

/// What a node holds of one ID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Highest epoch seen.
    pub fence: Epoch,
    /// The record, if one was ever stored. A part that is listed but not here was lost (rot).
    pub image: Option<Image>,
}

/// What a holder is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HolderRequest {
    /// Store this version: the header, and the parts that changed or all of them.
    Commit(Image),
    /// Refuse every owner below this epoch and tell what you have.
    Claim {
        /// The actor.
        id: ActorId,
        /// Epoch of the claimant.
        epoch: Epoch,
    },
}

/// What a holder answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HolderReply {
    /// It has the commit, or a later one of the same epoch: this version.
    Stored(Version),
    /// It lacks parts that the commit did not carry: send them all.
    Incomplete {
        /// The parts.
        missing: Vec<ActorId>,
    },
    /// The claim holds; this is the newest it has.
    Granted {
        /// Epoch of the claim.
        epoch: Epoch,
        /// The record.
        newest: Option<Box<Image>>,
    },
    /// It has seen this higher epoch.
    Fenced(Epoch),
}

/// Decides a request.
///
/// Out: the answer; with a batch, the answer leaves only once the batch is durable.
/// Order: requests of one ID are decided one after the other, each on what the last one left.
/// Source: `cluster.md` §4.
#[must_use]
pub fn decide(held: &Held, request: HolderRequest, ids: &IdHasher) -> (HolderReply, Option<Batch>) {
    match request {
        HolderRequest::Commit(image) => decide_commit(held, image, ids),
        HolderRequest::Claim { id, epoch } => {
            // What was written under an epoch was won by a claim of it. Its node may have forgotten that,
            // with a tombstone or a disk: no version may come twice.
            let written = held.image.as_ref().map(|image| image.header.version.epoch);
            if epoch < held.fence || written == Some(epoch) {
                return (HolderReply::Fenced(held.fence), None);
            }
            let newest = held.image.clone().map(Box::new);
            let batch = (epoch > held.fence).then(|| fence_batch(held, &id, epoch, ids));
            (HolderReply::Granted { epoch, newest }, batch)
        }
    }
}

fn decide_commit(held: &Held, image: Image, ids: &IdHasher) -> (HolderReply, Option<Batch>) {
    let epoch = image.header.version.epoch;
    if epoch < held.fence {
        return (HolderReply::Fenced(held.fence), None);
    }
    let current = held.image.as_ref();
    if let Some(newer) = current.filter(|now| now.header.version >= image.header.version) {
        // Of the same epoch, since that epoch is at most the fence: a retransmission. A part that
        // was lost (rot, a write that failed before this one) is asked for, never passed over.
        let (missing, version) = (held.missing(), newer.header.version);
        if missing.is_empty() {
            return (HolderReply::Stored(version), None);
        }
        if version > image.header.version {
            return (HolderReply::Incomplete { missing }, None);
        }
    }
    let missing = missing_parts(current, &image);
    if !missing.is_empty() {
        let id = &image.header.id;
        let batch = (epoch > held.fence).then(|| fence_batch(held, id, epoch, ids));
        return (HolderReply::Incomplete { missing }, batch);
    }
    let version = image.header.version;
    let batch = store_batch(current, &image, epoch, ids);
    (HolderReply::Stored(version), Some(batch))
}

/// Decides what another holder knew that this one lacked: a copy, not a commit (`cluster.md` §8).
///
/// In: `image`, whole. Out: what is held then and the batch for it; `None` if it is not whole, or
/// what is held is as new and whole itself.
///
/// It counts for nobody's quorum, so it is taken below the fence too, which stays where it is: as
/// if the commit had come before the claim. Otherwise a holder whose claimant died before it could
/// commit would lack the record until the next claim, and call it none.
#[must_use]
pub(crate) fn decide_copy(held: &Held, image: Image, ids: &IdHasher) -> Option<(Held, Batch)> {
    let current = held.image.as_ref();
    if !missing_parts(None, &image).is_empty() {
        return None;
    }
    let version = image.header.version;
    let now = current.map(|now| now.header.version);
    if now > Some(version) || (now == Some(version) && held.missing().is_empty()) {
        return None;
    }
    let fence = held.fence.max(version.epoch);
    let batch = store_batch(current, &image, fence, ids);
    let image = Some(image);
    Some((Held { fence, image }, batch))
}

/// Returns what is held once a request that was decided on `held` is done: the same as [`crate::hold`]
/// reads when the batch is durable.
#[must_use]
pub(crate) fn left_by(mut held: Held, request: HolderRequest, reply: &HolderReply) -> Held {
    match request {
        HolderRequest::Claim { epoch, .. } => held.fence = held.fence.max(epoch),
        HolderRequest::Commit(mut image) => {
            held.fence = held.fence.max(image.header.version.epoch);
            if *reply == HolderReply::Stored(image.header.version) {
                let before = held.image.take().map(|now| now.parts).unwrap_or_default();
                for (id, bytes) in before {
                    if image.header.part(&id).is_some() {
                        image.parts.entry(id).or_insert(bytes);
                    }
                }
                held.image = Some(image);
            }
        }
    }
    held
}

fn missing_parts(current: Option<&Image>, image: &Image) -> Vec<ActorId> {
    let has = |id: &ActorId, version: Version| {
        current.is_some_and(|now| {
            let entry = now.header.part(id);
            entry.is_some_and(|entry| entry.version == version) && now.parts.contains_key(id)
        })
    };
    let listed = image.header.parts.iter();
    listed
        .filter(|part| !image.parts.contains_key(&part.id) && !has(&part.id, part.version))
        .map(|part| part.id.clone())
        .collect()
}

fn store_batch(current: Option<&Image>, image: &Image, fence: Epoch, ids: &IdHasher) -> Batch {
    let header = &image.header;
    let key = ids.record_key(&header.id);
    let own = image.parts.get(&header.id).or_else(|| {
        let now = current?;
        now.parts.get(&header.id)
    });
    let own = own.filter(|_| header.part(&header.id).is_some());
    let stored = write_stored(fence, Some(header), own.map(|own| &own[..]));
    let mut changes = vec![(header_key(key), Some(stored))];
    for (id, bytes) in &image.parts {
        if let (Some(place), Some(entry)) = (part_key(key, id), header.part(id)) {
            changes.push((place, Some(write_part(entry.version, bytes))));
        }
    }
    for gone in current.map_or(&[][..], |now| &now.header.parts) {
        if let (None, Some(place)) = (header.part(&gone.id), part_key(key, &gone.id)) {
            changes.push((place, None));
        }
    }
    Batch {
        changes,
        // What is there is renewed as long as the disk takes anything. So is what follows a tombstone: that
        // was written over a copy as long as the disk took anything, and what only that copy had comes back
        // so, merged (`cluster.md` §8). Whether there is room for what is new was asked before.
        essential: header.is_ended() || current.is_some(),
    }
}

/// Returns the batch that raises the fence of an ID and leaves its record as it is.
pub(crate) fn fence_batch(held: &Held, id: &ActorId, epoch: Epoch, ids: &IdHasher) -> Batch {
    let key = header_key(ids.record_key(id));
    let header = held.image.as_ref().map(|image| &image.header);
    let own = held
        .image
        .as_ref()
        .and_then(|image| image.parts.get(&image.header.id));
    Batch {
        changes: vec![(
            key,
            Some(write_stored(epoch, header, own.map(|own| &own[..]))),
        )],
        essential: true,
    }
}

impl Held {
    /// Returns the epoch that node `by` may claim: one above the highest seen here.
    #[must_use]
    pub const fn next_epoch(&self, by: NodeId) -> Epoch {
        self.fence.next(by)
    }

    /// Returns the parts that the header lists but that are not here.
    #[must_use]
    pub fn missing(&self) -> Vec<ActorId> {
        let Some(image) = &self.image else {
            return Vec::new();
        };
        let listed = image.header.parts.iter().map(|part| &part.id);
        listed
            .filter(|id| !image.parts.contains_key(*id))
            .cloned()
            .collect()
    }
}

impl Image {
    /// Checks that it is one record: every part listed in the header and of the length given there.
    ///
    /// # Errors
    /// `Damaged` if not. For images that came from another node.
    pub fn check(&self) -> Result<(), RecordError> {
        for (id, bytes) in &self.parts {
            let entry = self.header.part(id);
            if entry.is_none_or(|entry| entry.length as usize != bytes.len()) {
                return Err(RecordError::Damaged {
                    id: self.header.id.to_string(),
                    why: format!("part {id} is not as listed"),
                });
            }
        }
        Ok(())
    }
}
