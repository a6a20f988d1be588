//! What members say of themselves: state, zone, roles, versions, load.
//!
//! In: entries from broadcasts and tables. Out: the newest entry of each node. An entry is newer
//! by a later start of its node, then by its counter (`cluster.md` §2); older ones never overwrite.

use std::collections::BTreeMap;

use contract::limits::{NODE_NAME_BYTES_MAX, NODES_MAX, ZONE_BYTES_MAX};
use contract::{Boot, MemberState, NodeId, NodeInst, codec};
use foca::{BroadcastHandler, Invalidates};
use serde::{Deserialize, Serialize};

use super::identity::Identity;

/// What a node is for; a set of bits, so that later roles do not change the form.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Roles(pub u32);

impl Roles {
    /// It carries calls and registrations.
    pub const CALLS: Roles = Roles(1);
    /// It talks to SIP trunks (`cluster.md` §1: placement of gateways).
    pub const TRUNK: Roles = Roles(2);

    /// Tells whether all of `other` are in here.
    #[must_use]
    pub const fn contains(self, other: Roles) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the roles of both.
    #[must_use]
    pub const fn with(self, other: Roles) -> Roles {
        Roles(self.0 | other.0)
    }
}

/// Versions that a program reads and writes, both ends included (`cluster.md` §12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionRange {
    /// The oldest one.
    pub low: u16,
    /// The newest one.
    pub high: u16,
}

impl VersionRange {
    /// The range of a program that knows one version.
    #[must_use]
    pub const fn only(version: u16) -> Self {
        VersionRange {
            low: version,
            high: version,
        }
    }
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMeta {
    /// Its name. At most `NODE_NAME_BYTES_MAX` octets.
    pub name: String,
    /// What it is doing.
    pub state: MemberState,
    /// Where it stands; holders of one record should differ in it. At most `ZONE_BYTES_MAX` octets.
    pub zone: String,
    /// What it is for.
    pub roles: Roles,
    /// Load in thousandths of its capacity.
    pub load_permille: u16,
    /// Versions of the protocol between nodes.
    pub proto: VersionRange,
    /// Versions of stored and shipped forms.
    pub schema: VersionRange,
}

impl NodeMeta {
    /// What is assumed of a member that has not been heard of yet: it takes no share.
    #[must_use]
    pub fn unheard() -> Self {
        NodeMeta {
            name: String::new(),
            state: MemberState::Joining,
            zone: String::new(),
            roles: Roles::default(),
            load_permille: 0,
            proto: VersionRange::only(1),
            schema: VersionRange::only(1),
        }
    }

    fn is_sound(&self) -> bool {
        self.zone.len() <= ZONE_BYTES_MAX
            && self.name.len() <= NODE_NAME_BYTES_MAX
            && self.proto.low <= self.proto.high
            && self.schema.low <= self.schema.high
    }
}

/// One version of what a node said of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaEntry {
    /// Which life of which node.
    pub inst: NodeInst,
    /// Grows with each change in that life.
    pub counter: u64,
    /// What it said.
    pub meta: NodeMeta,
}

impl MetaEntry {
    fn version(&self) -> (Boot, u64) {
        (self.inst.boot, self.counter)
    }

    /// Reads an entry from a broadcast.
    pub(super) fn read(octets: &[u8]) -> Option<MetaEntry> {
        let entry: MetaEntry = codec::decode(octets).ok()?;
        let sound = entry.inst.boot != Boot(0) && entry.meta.is_sound();
        sound.then_some(entry)
    }

    /// Writes an entry for a broadcast.
    pub(super) fn write(&self) -> Vec<u8> {
        codec::encode(self).expect("an entry with bounded texts is far below the codec's limit")
    }
}

/// What a table did with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merged {
    /// It is newer and was taken.
    Taken,
    /// A newer one, or the same, is known.
    Known,
    /// It is unsound, or there is no room for one more node.
    Refused,
}

/// The newest entry of each node. Bound: `NODES_MAX`.
#[derive(Clone, Debug, Default)]
pub(super) struct MetaTable {
    entries: BTreeMap<NodeId, MetaEntry>,
}

impl MetaTable {
    /// Takes an entry if it is newer than what is known of its node.
    pub(super) fn merge(&mut self, entry: MetaEntry) -> Merged {
        if !entry.meta.is_sound() || entry.inst.boot == Boot(0) {
            return Merged::Refused;
        }
        match self.entries.get(&entry.inst.node) {
            Some(known) if known.version() >= entry.version() => Merged::Known,
            None if self.entries.len() >= NODES_MAX => Merged::Refused,
            Some(_) | None => {
                self.entries.insert(entry.inst.node, entry);
                Merged::Taken
            }
        }
    }

    /// Returns what this life of a node said, if it said anything.
    pub(super) fn meta(&self, inst: NodeInst) -> Option<&NodeMeta> {
        let entry = self.entries.get(&inst.node)?;
        (entry.inst == inst).then_some(&entry.meta)
    }

    /// Returns every entry, by node.
    pub(super) fn all(&self) -> Vec<MetaEntry> {
        self.entries.values().cloned().collect()
    }

    /// Returns the entries that are newer here than in `others`, or missing there.
    pub(super) fn newer_than(&self, others: &[MetaEntry]) -> Vec<MetaEntry> {
        let theirs: BTreeMap<NodeId, (Boot, u64)> = others
            .iter()
            .map(|entry| (entry.inst.node, entry.version()))
            .collect();
        self.entries
            .values()
            .filter(|entry| theirs.get(&entry.inst.node) < Some(&entry.version()))
            .cloned()
            .collect()
    }
}

/// foca's side of the broadcasts: decides by versions what is passed on.
///
/// The entries themselves are kept by the machine, which reads every item before foca does: foca
/// gives nothing back.
#[derive(Default)]
pub(super) struct Relay {
    newest: BTreeMap<NodeId, (Boot, u64)>,
}

/// Which entry a queued broadcast carries.
pub(super) struct RelayKey {
    node: NodeId,
    version: (Boot, u64),
}

impl Invalidates for RelayKey {
    fn invalidates(&self, other: &Self) -> bool {
        self.node == other.node && self.version >= other.version
    }
}

/// The relay never fails: what cannot be read was dropped before foca saw it.
#[derive(Debug, thiserror::Error)]
#[error("no broadcast fails")]
pub(super) enum RelayError {}

impl BroadcastHandler<Identity> for Relay {
    type Key = RelayKey;
    type Error = RelayError;

    fn receive_item(
        &mut self,
        octets: &[u8],
        _sender: Option<&Identity>,
    ) -> Result<Option<RelayKey>, RelayError> {
        let Some(entry) = MetaEntry::read(octets) else {
            return Ok(None);
        };
        let node = entry.inst.node;
        let version = entry.version();
        let known = self.newest.get(&node);
        let room = known.is_some() || self.newest.len() < NODES_MAX;
        if !room || known >= Some(&version) {
            return Ok(None);
        }
        self.newest.insert(node, version);
        Ok(Some(RelayKey { node, version }))
    }
}
