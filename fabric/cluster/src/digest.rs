//! Digests by which two holders find out in which shards they differ (`cluster.md` §8).
//!
//! In: headers of records, as they come and go. Out: a number for each other holder and shard: the
//! exclusive or, over all records held here that name both nodes, of a hash of key, version and
//! whether it has ended. Nothing is kept of a single record. The same on every node and in every
//! version of the program: the hash and its key never change.

use std::collections::BTreeMap;
use std::hash::Hasher;

use contract::limits::{REPAIR_TABLES_MAX, SHARDS};
use contract::{NodeId, RecordKey};
use siphasher::sip::SipHasher24;

use crate::{Header, desk::shard};

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet([u64; SHARDS / 64]);

impl ShardSet {
    /// None of them.
    pub const NONE: ShardSet = ShardSet([0; SHARDS / 64]);
    /// All of them.
    pub const ALL: ShardSet = ShardSet([u64::MAX; SHARDS / 64]);

    pub(crate) const fn from_words(words: [u64; SHARDS / 64]) -> Self {
        ShardSet(words)
    }

    pub(crate) const fn words(self) -> [u64; SHARDS / 64] {
        self.0
    }

    /// Adds one.
    pub fn insert(&mut self, shard: u8) {
        self.0[usize::from(shard / 64)] |= 1 << (shard % 64);
    }

    /// Takes one out.
    pub fn remove(&mut self, shard: u8) {
        self.0[usize::from(shard / 64)] &= !(1 << (shard % 64));
    }

    /// Tells whether one is in it.
    #[must_use]
    pub const fn contains(&self, shard: u8) -> bool {
        self.0[(shard / 64) as usize] & (1 << (shard % 64)) != 0
    }

    /// Tells whether none is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == ShardSet::NONE
    }

    /// Visits them, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(move |shard| self.contains(*shard))
    }

    pub(crate) fn and(self, other: ShardSet) -> ShardSet {
        ShardSet(std::array::from_fn(|at| self.0[at] & other.0[at]))
    }

    pub(crate) fn or(self, other: ShardSet) -> ShardSet {
        ShardSet(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    pub(crate) fn not(self) -> ShardSet {
        ShardSet(self.0.map(|word| !word))
    }
}

/// The digests of one shard, for each other node that is named with this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardDigests(BTreeMap<NodeId, u64>);

impl ShardDigests {
    /// Counts a record that node `me` holds.
    pub fn add(&mut self, me: NodeId, key: RecordKey, header: &Header) {
        let hash = hash(key, header);
        for node in others(me, header) {
            *self.0.entry(node).or_default() ^= hash;
        }
    }

    /// Returns the one for another node.
    #[must_use]
    pub fn of(&self, node: NodeId) -> u64 {
        self.0.get(&node).copied().unwrap_or_default()
    }
}

/// The digests of one node. Bound: `REPAIR_TABLES_MAX` other nodes; of one more nothing is kept,
/// and everything is listed when it asks.
#[derive(Debug)]
pub(crate) struct Digests {
    me: NodeId,
    tables: BTreeMap<NodeId, Box<[u64; SHARDS]>>,
    loaded: ShardSet,
    is_full: bool,
}

impl Digests {
    pub(crate) const fn new(me: NodeId) -> Self {
        Digests {
            me,
            tables: BTreeMap::new(),
            loaded: ShardSet::NONE,
            is_full: false,
        }
    }

    /// Takes the digests of a shard as it is now.
    pub(crate) fn load(&mut self, shard: u8, digests: &ShardDigests) {
        for table in self.tables.values_mut() {
            table[usize::from(shard)] = 0;
        }
        for (node, digest) in &digests.0 {
            self.toggle(*node, shard, *digest);
        }
        self.loaded.insert(shard);
    }

    /// Takes a change of what is held. One of a shard that is not loaded yet is found by loading it.
    pub(crate) fn change(
        &mut self,
        key: RecordKey,
        before: Option<&Header>,
        after: Option<&Header>,
    ) {
        let shard = shard(key);
        if !self.loaded.contains(shard) {
            return;
        }
        for header in before.into_iter().chain(after) {
            let hash = hash(key, header);
            for node in others(self.me, header) {
                self.toggle(node, shard, hash);
            }
        }
    }

    fn toggle(&mut self, node: NodeId, shard: u8, hash: u64) {
        if !self.tables.contains_key(&node) && self.tables.len() >= REPAIR_TABLES_MAX {
            self.is_full = true;
            return;
        }
        let table = self.tables.entry(node);
        table.or_insert_with(|| Box::new([0; SHARDS]))[usize::from(shard)] ^= hash;
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded == ShardSet::ALL
    }

    /// Returns the next shard that is not loaded.
    pub(crate) fn unloaded(&self) -> Option<u8> {
        self.loaded.not().iter().next()
    }

    /// Returns the digests for another node; `None` if they are not kept.
    pub(crate) fn of(&self, node: NodeId) -> Option<[u64; SHARDS]> {
        match self.tables.get(&node) {
            Some(table) => Some(**table),
            None => (!self.is_full).then_some([0; SHARDS]),
        }
    }

    /// Returns the shards in which another node's digests for this one differ from these.
    pub(crate) fn differing(&self, node: NodeId, theirs: &[u64; SHARDS]) -> ShardSet {
        let Some(ours) = self.of(node) else {
            return ShardSet::ALL;
        };
        let mut shards = ShardSet::NONE;
        for (shard, (ours, theirs)) in (0..=u8::MAX).zip(ours.iter().zip(theirs)) {
            if ours != theirs {
                shards.insert(shard);
            }
        }
        shards
    }
}

/// Returns one number of digests: two nodes whose numbers are equal differ nowhere.
pub(crate) fn sum(digests: &[u64; SHARDS]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0x7765_6674, 0x7375_6d73);
    for digest in digests {
        hasher.write(&digest.to_le_bytes());
    }
    hasher.finish()
}

/// Tells whether two headers of one record count the same: then no digest changes.
pub(crate) fn is_same(before: Option<&Header>, after: Option<&Header>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            before.version == after.version
                && before.is_ended() == after.is_ended()
                && before.conf == after.conf
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Tells whether a record names both nodes as holders.
pub(crate) fn names_both(header: &Header, one: NodeId, other: NodeId) -> bool {
    names(header, one) && names(header, other)
}

/// Tells whether a record names a node as holder.
pub(crate) fn names(header: &Header, node: NodeId) -> bool {
    header.conf.sets().any(|set| set.nodes().contains(&node))
}

/// Returns the other holders, if this node is one.
fn others(me: NodeId, header: &Header) -> impl Iterator<Item = NodeId> {
    let nodes = header.conf.nodes();
    let is_holder = nodes.contains(&me);
    let others = nodes.into_iter().filter(move |node| *node != me);
    others.filter(move |_| is_holder)
}

fn hash(key: RecordKey, header: &Header) -> u64 {
    let version = header.version;
    let mut hasher = SipHasher24::new_with_keys(0x7765_6674, 0x6469_6765_7374);
    hasher.write(&key.to_bytes());
    hasher.write(&version.epoch.n.to_le_bytes());
    hasher.write(&version.epoch.by.0.to_le_bytes());
    hasher.write(&version.sequence.to_le_bytes());
    hasher.write(&[u8::from(header.is_ended())]);
    hasher.finish()
}
