//! What two holders say to each other to find and mend what one of them lacks (`cluster.md` §8), and
//! its part of the wire form.
//!
//! In: messages, or their wire forms. Out: the other. Everything is asked for by the node that
//! lacks it; answers need nothing but the store.
//!
//! ```text
//! asker    Glance    ->    do we differ at all?
//!          <-  Differing   in none, or then in any
//!          Digests   ->    in which shards?
//!          <-  Differing
//!          List      ->    what do you hold there that names us both?
//!          <-  Listed      one page, in the order of keys
//!          Fetch     ->    give me these, if you have them newer
//!          <-  Images      as many of the first ones as one answer takes
//! ```

use contract::limits::{REPAIR_FETCH_MAX, REPAIR_PAGE_MAX, SHARDS};
use contract::{ActorId, Kind, RecordKey};
use serde::{Deserialize, Serialize};

use crate::digest::ShardSet;
use crate::form::VersionV1;
use crate::{FrameError, Image, Version};

/// Kinds that have records of their own, in the order in which they are mended.
pub const REPAIR_ORDER: [Kind; 4] = [Kind::Call, Kind::Registration, Kind::Gateway, Kind::Parking];

/// What the one node says to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// One number of all my digests, for you.
    Glance(Glance),
    /// My digests, for you.
    Digests(Box<Look>),
    /// The shards in which mine, for you, differ. After a glance: none, or all.
    Differing(ShardSet),
    /// List what you hold there.
    List(Range),
    /// A page of it.
    Listed(Page),
    /// Give me these. Bound: `REPAIR_FETCH_MAX`.
    Fetch(Vec<Wanted>),
    /// The first ones of these.
    Images {
        /// Those of them that are newer than the asker's, in the order in which they were asked for.
        images: Vec<Image>,
        /// How many of those asked for are dealt with.
        passed: u32,
    },
}

/// What a node that compares says of itself first. Nearly always that is all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// As of a [`Look`].
    pub round: u64,
    /// As of a [`Look`].
    pub in_step: ShardSet,
    /// A hash of its digests.
    pub sum: u64,
}

/// What a node that compares says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Which comparison with this node it is; one higher each time.
    pub round: u64,
    /// The shards of which it has had, in the comparison before, everything that the other held.
    pub in_step: ShardSet,
    /// Its digests.
    pub digests: [u64; SHARDS],
}

/// A part of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Of which kind.
    pub kind: Kind,
    /// Which shard.
    pub shard: u8,
    /// Only keys above this one.
    pub after: Option<u128>,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In the order of their keys. Bound: `REPAIR_PAGE_MAX`.
    pub entries: Vec<Entry>,
    /// Nothing is left out up to this key; `None`: up to the end of the shard.
    pub until: Option<u128>,
}

/// A record in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub id: ActorId,
    /// Its version.
    pub version: Version,
    /// Whether it has ended.
    pub mark: Mark,
}

/// Whether a listed record has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// It has not.
    Live,
    /// It is a tombstone.
    Ended,
    /// It is one whose time has passed: worth knowing only for whoever still holds it live.
    Expired,
}

/// A record that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which.
    pub id: ActorId,
    /// The version the asker has; the default if it has none. Only newer ones are sent.
    pub than: Version,
    /// The other node has not listed it: it may have nothing newer. Not on the wire.
    pub is_check: bool,
}

impl Range {
    /// Tells whether a key lies in it, up to the end of a page.
    pub(crate) fn contains(&self, key: RecordKey, until: Option<u128>) -> bool {
        key.kind == self.kind
            && crate::shard(key) == self.shard
            && self.after.is_none_or(|after| key.hash > after)
            && until.is_none_or(|until| key.hash <= until)
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RangeV1 {
    kind: u8,
    shard: u8,
    after: Option<u128>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct EntryV1 {
    id: ActorId,
    version: VersionV1,
    mark: Mark,
}

impl From<&Range> for RangeV1 {
    fn from(range: &Range) -> Self {
        RangeV1 {
            kind: range.kind as u8,
            shard: range.shard,
            after: range.after,
        }
    }
}

impl RangeV1 {
    pub(crate) fn read(self) -> Result<Range, FrameError> {
        let known = REPAIR_ORDER.into_iter();
        let kind = known.into_iter().find(|kind| *kind as u8 == self.kind);
        let kind = kind.ok_or_else(|| damaged(format!("kind {} has no records", self.kind)))?;
        let (shard, after) = (self.shard, self.after);
        Ok(Range { kind, shard, after })
    }
}

impl From<&Entry> for EntryV1 {
    fn from(entry: &Entry) -> Self {
        EntryV1 {
            id: entry.id.clone(),
            version: entry.version.into(),
            mark: entry.mark,
        }
    }
}

pub(crate) fn read_digests(
    round: u64,
    in_step: [u64; SHARDS / 64],
    words: &[u64],
) -> Result<Exchange, FrameError> {
    let digests = words.try_into();
    let digests = digests.map_err(|_| damaged(format!("{} digests", words.len())))?;
    Ok(Exchange::Digests(Box::new(Look {
        round,
        in_step: ShardSet::from_words(in_step),
        digests,
    })))
}

pub(crate) fn read_page(
    entries: Vec<EntryV1>,
    until: Option<u128>,
) -> Result<Exchange, FrameError> {
    check_count(entries.len(), REPAIR_PAGE_MAX)?;
    let entries = entries.into_iter().map(|entry| {
        Ok(Entry {
            id: record_owner(entry.id)?,
            version: entry.version.into(),
            mark: entry.mark,
        })
    });
    let entries = entries.collect::<Result<_, FrameError>>()?;
    Ok(Exchange::Listed(Page { entries, until }))
}

pub(crate) fn read_wanted(wanted: Vec<(ActorId, VersionV1)>) -> Result<Exchange, FrameError> {
    check_count(wanted.len(), REPAIR_FETCH_MAX)?;
    let wanted = wanted.into_iter().map(|(id, than)| {
        Ok(Wanted {
            id: record_owner(id)?,
            than: than.into(),
            is_check: false,
        })
    });
    let wanted = wanted.collect::<Result<_, FrameError>>()?;
    Ok(Exchange::Fetch(wanted))
}

pub(crate) fn check_count(count: usize, most: usize) -> Result<(), FrameError> {
    if count > most {
        return Err(damaged(format!("{count} entries, most {most}")));
    }
    Ok(())
}

/// Refuses the ID of what has no record of its own.
pub(crate) fn record_owner(id: ActorId) -> Result<ActorId, FrameError> {
    if id.record_owner() != id || !id.kind().is_recorded() {
        return Err(damaged(format!("{id} has no record of its own")));
    }
    Ok(id)
}

fn damaged(why: String) -> FrameError {
    FrameError::Damaged(why)
}
