//! Stored forms, frozen a version each (`cluster.md` §12), and the keys they lie under.
//!
//! ```text
//! key  h kind hash            1 + 1 + 16 octets
//! value  form u16 | length of head u32 | head (bincode) | the owner's part as it is
//! key  p kind hash kind side  1 + 1 + 16 + 1 + 1 octets
//! value  form u16 | epoch n u64 | epoch by u16 | sequence u64 | the side's part as it is
//! ```
//!
//! Numbers of values are little-endian, those of keys big-endian. A head without a header is a
//! bare fence. To change a form: add a struct and a number, keep the old reader and its golden.

use std::str::FromStr;

use bytes::Bytes;
use contract::limits::{HOLDERS_MAX, PARTS_PER_RECORD_MAX};
use contract::{ActorId, Boot, NodeId, NodeInst, RecordKey, SchemaVersion, UtcMillis, codec};
use serde::{Deserialize, Serialize};

use crate::{Conf, Epoch, Header, HolderSet, PartEntry, RecordError, RecordState, Version};

/// Form of header and part values this program writes.
pub(crate) const FORM: u16 = 1;

/// First octet of the keys of headers.
pub(crate) const HEADER_PREFIX: &[u8] = b"h";
const PART_PREFIX: &[u8] = b"p";
const HEAD_AT: usize = 6;
const PART_AT: usize = 20;

#[derive(Serialize, Deserialize)]
struct StoredV1 {
    fence: EpochV1,
    header: Option<HeaderV1>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct EpochV1 {
    n: u64,
    by: u16,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct VersionV1 {
    epoch: EpochV1,
    sequence: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct HeaderV1 {
    id: String,
    version: VersionV1,
    owner: InstV1,
    state: StateV1,
    conf: Vec<Vec<u16>>,
    expires_ms: u64,
    schema: u16,
    degraded: bool,
    parts: Vec<PartEntryV1>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct InstV1 {
    node: u16,
    boot: u64,
}

#[derive(Serialize, Deserialize)]
enum StateV1 {
    Active,
    Claimed,
    Moving(InstV1),
    Ended,
}

/// `kind` 0: the record's owner; 1: a dialog; 2: a media leg.
#[derive(Serialize, Deserialize)]
struct PartEntryV1 {
    kind: u8,
    side: u8,
    version: VersionV1,
    length: u32,
    deadline_ms: Option<u64>,
}

/// What lies under the key of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) fence: Epoch,
    pub(crate) header: Option<Header>,
    /// Where the owner's part starts in the value; it goes to its end.
    pub(crate) own_part_at: Option<usize>,
}

/// Returns the key of a record's header.
pub(crate) fn header_key(key: RecordKey) -> Vec<u8> {
    [HEADER_PREFIX, &key.to_bytes()].concat()
}

/// Returns the key of a side's part; `None` for the owner's part, which lies in the header's value.
pub(crate) fn part_key(key: RecordKey, part: &ActorId) -> Option<Vec<u8>> {
    let (kind, side) = part_place(part);
    (kind != 0).then(|| [PART_PREFIX, &key.to_bytes(), &[kind, side]].concat())
}

/// Encodes what lies under the key of a header.
pub(crate) fn write_stored(fence: Epoch, header: Option<&Header>, own: Option<&[u8]>) -> Vec<u8> {
    let head = StoredV1 {
        fence: fence.into(),
        header: header.map(HeaderV1::from),
    };
    let head = codec::encode(&head).expect("an ID and 64 entries are below CODEC_BYTES_MAX");
    let length = u32::try_from(head.len()).expect("CODEC_BYTES_MAX fits u32");
    let own = own.unwrap_or_default();
    [&FORM.to_le_bytes()[..], &length.to_le_bytes(), &head, own].concat()
}

/// Encodes the value of a side's part.
pub(crate) fn write_part(version: Version, part: &[u8]) -> Vec<u8> {
    let Version { epoch, sequence } = version;
    let (n, by) = (epoch.n.to_le_bytes(), epoch.by.0.to_le_bytes());
    [
        &FORM.to_le_bytes()[..],
        &n,
        &by,
        &sequence.to_le_bytes(),
        part,
    ]
    .concat()
}

/// Decodes fence and header, and tells where the owner's part starts, if there is one.
pub(crate) fn read_stored(value: &[u8]) -> Result<Stored, Unread> {
    read_form(value)?;
    let length = value
        .get(2..HEAD_AT)
        .and_then(|octets| octets.try_into().ok());
    let length = u32::from_le_bytes(length.ok_or("cut before its head")?) as usize;
    let end = HEAD_AT.saturating_add(length);
    let head = value.get(HEAD_AT..end).ok_or("cut in its head")?;
    let head: StoredV1 = codec::decode(head).map_err(|error| error.to_string())?;
    let header = head.header.map(Header::try_from).transpose()?;
    let own = header.as_ref().and_then(|header| header.part(&header.id));
    if value.len() - end != own.map_or(0, |entry| entry.length as usize) {
        return Err("its own part has another length".into());
    }
    Ok(Stored {
        fence: head.fence.into(),
        own_part_at: own.map(|_| end),
        header,
    })
}

/// Decodes the value of a side's part: the version it was stored with, and its octets.
pub(crate) fn read_part(value: &Bytes) -> Result<(Version, Bytes), Unread> {
    read_form(value)?;
    let octets = value.get(2..PART_AT).ok_or("cut in its version")?;
    let number = |from: usize| {
        let octets = octets[from..from + 8].try_into();
        u64::from_le_bytes(octets.expect("18 octets were taken"))
    };
    let epoch = Epoch {
        n: number(0),
        by: NodeId(u16::from_le_bytes([octets[8], octets[9]])),
    };
    let sequence = number(10);
    Ok((Version { epoch, sequence }, value.slice(PART_AT..)))
}

/// Why a stored value could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    Newer { form: u16, known: u16 },
    Damaged(String),
}

impl Unread {
    pub(crate) fn of(self, id: String) -> RecordError {
        match self {
            Unread::Newer { form, known } => RecordError::Newer { id, form, known },
            Unread::Damaged(why) => RecordError::Damaged { id, why },
        }
    }
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Unread::Damaged(why)
    }
}

impl From<&str> for Unread {
    fn from(why: &str) -> Self {
        Unread::Damaged(why.to_owned())
    }
}

fn read_form(value: &[u8]) -> Result<(), Unread> {
    let form = value.get(..2).ok_or("cut before its form")?;
    match u16::from_le_bytes([form[0], form[1]]) {
        FORM => Ok(()),
        0 => Err("form 0".into()),
        form => Err(Unread::Newer { form, known: FORM }),
    }
}

/// Returns how a part is named within its record: kind and side.
pub(crate) fn part_place(part: &ActorId) -> (u8, u8) {
    match part {
        ActorId::Dialog(side) => (1, side.number()),
        ActorId::MediaLeg(side) => (2, side.number()),
        ActorId::Registration(_)
        | ActorId::Call(_)
        | ActorId::Gateway(_)
        | ActorId::Parking(_)
        | ActorId::Flow(..)
        | ActorId::DoorSession(..)
        | ActorId::Lane(..)
        | ActorId::Console(_)
        | ActorId::Member(_) => (0, 0),
    }
}

impl From<Epoch> for EpochV1 {
    fn from(epoch: Epoch) -> Self {
        EpochV1 {
            n: epoch.n,
            by: epoch.by.0,
        }
    }
}

impl From<EpochV1> for Epoch {
    fn from(epoch: EpochV1) -> Self {
        Epoch {
            n: epoch.n,
            by: NodeId(epoch.by),
        }
    }
}

impl From<Version> for VersionV1 {
    fn from(version: Version) -> Self {
        VersionV1 {
            epoch: version.epoch.into(),
            sequence: version.sequence,
        }
    }
}

impl From<VersionV1> for Version {
    fn from(version: VersionV1) -> Self {
        Version {
            epoch: version.epoch.into(),
            sequence: version.sequence,
        }
    }
}

impl From<NodeInst> for InstV1 {
    fn from(instance: NodeInst) -> Self {
        InstV1 {
            node: instance.node.0,
            boot: instance.boot.0,
        }
    }
}

impl From<InstV1> for NodeInst {
    fn from(instance: InstV1) -> Self {
        NodeInst {
            node: NodeId(instance.node),
            boot: Boot(instance.boot),
        }
    }
}

impl From<&Header> for HeaderV1 {
    fn from(header: &Header) -> Self {
        let numbers = |set: &HolderSet| set.nodes().iter().map(|node| node.0).collect();
        HeaderV1 {
            id: header.id.to_string(),
            version: header.version.into(),
            owner: header.owner.into(),
            state: match header.state {
                RecordState::Active => StateV1::Active,
                RecordState::Claimed => StateV1::Claimed,
                RecordState::Moving { to } => StateV1::Moving(to.into()),
                RecordState::Ended => StateV1::Ended,
            },
            conf: header.conf.sets().map(numbers).collect(),
            expires_ms: header.expires.0,
            schema: header.schema.0,
            degraded: header.degraded,
            parts: header.parts.iter().map(PartEntryV1::from).collect(),
        }
    }
}

impl From<&PartEntry> for PartEntryV1 {
    fn from(entry: &PartEntry) -> Self {
        let (kind, side) = part_place(&entry.id);
        PartEntryV1 {
            kind,
            side,
            version: entry.version.into(),
            length: entry.length,
            deadline_ms: entry.deadline.map(|at| at.0),
        }
    }
}

impl TryFrom<HeaderV1> for Header {
    type Error = Unread;

    fn try_from(stored: HeaderV1) -> Result<Self, Unread> {
        let id = ActorId::from_str(&stored.id).map_err(|error| error.to_string())?;
        if id.record_owner() != id || !id.kind().is_recorded() {
            return Err(format!("{id} has no record of its own").into());
        }
        let schema = SchemaVersion(stored.schema);
        if schema > SchemaVersion::NEWEST {
            let (form, known) = (schema.0, SchemaVersion::NEWEST.0);
            return Err(Unread::Newer { form, known });
        }
        if stored.parts.len() > PARTS_PER_RECORD_MAX {
            return Err("too many parts".into());
        }
        let parts: Vec<_> = stored
            .parts
            .into_iter()
            .map(|entry| entry.read(&id))
            .collect::<Result<_, _>>()?;
        if !parts.is_sorted_by(|one, next| one.id < next.id) {
            return Err("parts out of order".into());
        }
        Ok(Header {
            id,
            version: stored.version.into(),
            owner: stored.owner.into(),
            state: match stored.state {
                StateV1::Active => RecordState::Active,
                StateV1::Claimed => RecordState::Claimed,
                StateV1::Moving(to) => RecordState::Moving { to: to.into() },
                StateV1::Ended => RecordState::Ended,
            },
            conf: read_conf(&stored.conf)?,
            expires: UtcMillis(stored.expires_ms),
            schema,
            degraded: stored.degraded,
            parts,
        })
    }
}

/// Returns the part of the record of `id` that is named so.
pub(crate) fn part_of(kind: u8, side: u8, id: &ActorId) -> Result<ActorId, Unread> {
    match (kind, side, id) {
        (0, 0, _) => Ok(id.clone()),
        (1, 1.., ActorId::Call(call)) => Ok(ActorId::Dialog(call.side(side))),
        (2, 1.., ActorId::Call(call)) => Ok(ActorId::MediaLeg(call.side(side))),
        (kind, side, _) => Err(format!("part {kind}/{side} of {id}").into()),
    }
}

impl PartEntryV1 {
    fn read(self, id: &ActorId) -> Result<PartEntry, Unread> {
        Ok(PartEntry {
            id: part_of(self.kind, self.side, id)?,
            version: self.version.into(),
            length: self.length,
            deadline: self.deadline_ms.map(UtcMillis),
        })
    }
}

fn read_conf(sets: &[Vec<u16>]) -> Result<Conf, Unread> {
    let set = |numbers: &[u16]| {
        let nodes = numbers.iter().take(HOLDERS_MAX + 1);
        HolderSet::new(nodes.map(|number| NodeId(*number)).collect())
            .ok_or_else(|| Unread::from("a holder set is empty or too large"))
    };
    match sets {
        [one] => Ok(Conf::Settled(set(one)?)),
        [old, new] => Ok(Conf::Joint {
            old: set(old)?,
            new: set(new)?,
        }),
        _ => Err("neither one nor two holder sets".into()),
    }
}
