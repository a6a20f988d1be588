//! Identities: every one a type of its own with one text form that parses back.
//!
//! In: natural keys (an AoR, the first INVITE's headers) or text. Out: IDs and record keys.
//! It knows nobody's state. To add a kind of actor, add it to `Kind` and `ActorId`.

use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::SchemaVersion;

/// Number of a node in its cluster.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NodeId(pub u16);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Count of starts of a node, durable before its first packet (`cluster.md` §1).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Boot(pub u64);

/// One life of one node.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NodeInst {
    /// Which node.
    pub node: NodeId,
    /// Which of its starts.
    pub boot: Boot,
}

impl fmt::Display for NodeInst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.boot.0)
    }
}

/// Kind of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// All bindings of one AoR.
    Registration,
    /// The B2BUA that joins dialogs and media legs.
    Call,
    /// One signalling relation of a call.
    Dialog,
    /// The media side of one dialog.
    MediaLeg,
    /// One SIP trunk.
    Gateway,
    /// One connection.
    Flow,
    /// One client of a door other than SIP.
    DoorSession,
    /// One transaction shard.
    Lane,
    /// The inspector of a node.
    Console,
    /// One node as gossip sees it.
    Member,
    /// One place where a call is parked.
    Parking,
}

impl Kind {
    /// Every kind, in the order consoles list them.
    pub const ALL: [Kind; 11] = [
        Kind::Registration,
        Kind::Call,
        Kind::Dialog,
        Kind::MediaLeg,
        Kind::Gateway,
        Kind::Flow,
        Kind::DoorSession,
        Kind::Lane,
        Kind::Console,
        Kind::Member,
        Kind::Parking,
    ];

    /// Returns the word before the colon of an ID's text form.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Registration => "registration",
            Kind::Call => "call",
            Kind::Dialog => "dialog",
            Kind::MediaLeg => "media_leg",
            Kind::Gateway => "gateway",
            Kind::Flow => "flow",
            Kind::DoorSession => "door_session",
            Kind::Lane => "lane",
            Kind::Console => "console",
            Kind::Member => "member",
            Kind::Parking => "parking",
        }
    }

    /// Returns the schema that it came with: nodes that read less know nothing of it.
    #[must_use]
    pub const fn since(self) -> SchemaVersion {
        match self {
            Kind::Parking => SchemaVersion(3),
            Kind::Registration
            | Kind::Call
            | Kind::Dialog
            | Kind::MediaLeg
            | Kind::Gateway
            | Kind::Flow
            | Kind::DoorSession
            | Kind::Lane
            | Kind::Console
            | Kind::Member => SchemaVersion::OLDEST,
        }
    }

    /// Tells whether actors of this kind have a record (alone, or a part of their call's).
    #[must_use]
    pub const fn is_recorded(self) -> bool {
        match self {
            Kind::Registration
            | Kind::Call
            | Kind::Dialog
            | Kind::MediaLeg
            | Kind::Gateway
            | Kind::Parking => true,
            Kind::Flow | Kind::DoorSession | Kind::Lane | Kind::Console | Kind::Member => false,
        }
    }
}

impl FromStr for Kind {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let found = Kind::ALL.into_iter().find(|kind| kind.word() == text);
        found.ok_or_else(|| IdError {
            text: text.to_owned(),
            wanted: "a kind of actor",
        })
    }
}

/// A text is no ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct IdError {
    /// What was read.
    pub text: String,
    /// What it should have been.
    pub wanted: &'static str,
}

/// Key of a call: 120 bits and a last octet of 0; printed as a UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallKey(u128);

/// Key of one side of a call: the call's key with the side's number (1..=255) in the last octet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SideKey(u128);

const SIDE_MASK: u128 = 0xff;
const UUID_FIXED: u128 = 0xf000_c000_0000_0000_0000;
const UUID_V8: u128 = 0x8000_8000_0000_0000_0000;

impl CallKey {
    /// Makes a key from 128 bits; version, variant and side bits are overwritten.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        CallKey((bits & !SIDE_MASK & !UUID_FIXED) | UUID_V8)
    }

    /// Returns the 128 bits.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// Returns the key of side `number`.
    #[must_use]
    pub const fn side(self, number: u8) -> SideKey {
        SideKey(self.0 | number as u128)
    }
}

impl SideKey {
    /// Reads a side key from 128 bits; `None` if the last octet, the side's number, is 0.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Option<Self> {
        if bits & SIDE_MASK == 0 {
            None
        } else {
            Some(SideKey(bits))
        }
    }

    /// Returns the 128 bits.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// Returns the call this is a side of.
    #[must_use]
    pub const fn call(self) -> CallKey {
        CallKey(self.0 & !SIDE_MASK)
    }

    /// Tells whether the bits are as [`CallKey::from_bits`] makes them (RFC 9562 §5.8), which no
    /// random UUID is.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        self.0 & UUID_FIXED == UUID_V8
    }

    /// Returns the side's number, 1..=255.
    #[must_use]
    pub const fn number(self) -> u8 {
        (self.0 & SIDE_MASK) as u8
    }
}

fn write_uuid(bits: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let hex = format!("{bits:032x}");
    write!(
        f,
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

fn read_uuid(text: &str) -> Option<u128> {
    let dashes = [8, 13, 18, 23];
    let is_uuid = text.len() == 36
        && text.bytes().enumerate().all(|(at, octet)| {
            if dashes.contains(&at) {
                octet == b'-'
            } else {
                octet.is_ascii_hexdigit()
            }
        });
    if !is_uuid {
        return None;
    }
    u128::from_str_radix(&text.replace('-', ""), 16).ok()
}

macro_rules! uuid_text {
    ($name:ident, $wanted:literal, $read:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let read: fn(u128) -> Option<$name> = $read;
                read_uuid(text).and_then(read).ok_or_else(|| IdError {
                    text: text.to_owned(),
                    wanted: $wanted,
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let read: fn(u128) -> Option<$name> = $read;
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    let bits = u128::deserialize(deserializer)?;
                    read(bits).ok_or_else(|| serde::de::Error::custom(concat!("not ", $wanted)))
                }
            }
        }
    };
}

uuid_text!(CallKey, "the UUID of a call", |bits| {
    (bits & SIDE_MASK == 0).then_some(CallKey(bits))
});
uuid_text!(SideKey, "the UUID of a side of a call", SideKey::from_bits);

/// Address of an actor.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActorId {
    /// `registration:<user@domain>`, percent-encoded.
    Registration(Arc<str>),
    /// `call:<uuid>`.
    Call(CallKey),
    /// `dialog:<uuid>`.
    Dialog(SideKey),
    /// `media_leg:<uuid>`.
    MediaLeg(SideKey),
    /// `gateway:<name>`, percent-encoded.
    Gateway(Arc<str>),
    /// `flow:<node>/<n>`.
    Flow(NodeId, u64),
    /// A connection of a door other than SIP: the node and the connection's number.
    DoorSession(NodeId, u64),
    /// `lane:<node>/<n>`.
    Lane(NodeId, u16),
    /// `console:<node>`.
    Console(NodeId),
    /// `member:<node>`.
    Member(NodeId),
    /// `parking:<place@domain>`, percent-encoded.
    Parking(Arc<str>),
}

impl ActorId {
    /// Returns the kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            ActorId::Registration(_) => Kind::Registration,
            ActorId::Call(_) => Kind::Call,
            ActorId::Dialog(_) => Kind::Dialog,
            ActorId::MediaLeg(_) => Kind::MediaLeg,
            ActorId::Gateway(_) => Kind::Gateway,
            ActorId::Flow(..) => Kind::Flow,
            ActorId::DoorSession(..) => Kind::DoorSession,
            ActorId::Lane(..) => Kind::Lane,
            ActorId::Console(_) => Kind::Console,
            ActorId::Member(_) => Kind::Member,
            ActorId::Parking(_) => Kind::Parking,
        }
    }

    /// Returns the call this actor is or belongs to.
    #[must_use]
    pub const fn call(&self) -> Option<CallKey> {
        match self {
            ActorId::Call(key) => Some(*key),
            ActorId::Dialog(side) | ActorId::MediaLeg(side) => Some(side.call()),
            ActorId::Registration(_)
            | ActorId::Gateway(_)
            | ActorId::Parking(_)
            | ActorId::Flow(..)
            | ActorId::DoorSession(..)
            | ActorId::Lane(..)
            | ActorId::Console(_)
            | ActorId::Member(_) => None,
        }
    }

    /// Returns the actor whose record holds this actor's part: the call for its sides, else itself.
    #[must_use]
    pub fn record_owner(&self) -> ActorId {
        match self.call() {
            Some(key) => ActorId::Call(key),
            None => self.clone(),
        }
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.kind().word();
        match self {
            ActorId::Registration(name) | ActorId::Gateway(name) | ActorId::Parking(name) => {
                write!(f, "{word}:")?;
                write_percent(name, f)
            }
            ActorId::Call(key) => write!(f, "{word}:{key}"),
            ActorId::Dialog(side) | ActorId::MediaLeg(side) => write!(f, "{word}:{side}"),
            ActorId::Flow(node, number) | ActorId::DoorSession(node, number) => {
                write!(f, "{word}:{node}/{number}")
            }
            ActorId::Lane(node, number) => write!(f, "{word}:{node}/{number}"),
            ActorId::Console(node) | ActorId::Member(node) => write!(f, "{word}:{node}"),
        }
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn write_percent(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"@.-_+*!~".contains(&octet) {
            write!(f, "{}", char::from(octet))?;
        } else {
            write!(f, "%{octet:02X}")?;
        }
    }
    Ok(())
}

fn read_percent(text: &str) -> Option<Arc<str>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            octets.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            octets.push(octet);
        }
    }
    let name = String::from_utf8(octets).ok()?;
    (!name.is_empty()).then(|| name.into())
}

impl FromStr for ActorId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError {
            text: text.to_owned(),
            wanted: "the ID of an actor",
        };
        let (word, rest) = text.split_once(':').ok_or_else(bad)?;
        let id = match word.parse::<Kind>().map_err(|_| bad())? {
            Kind::Registration => read_percent(rest).map(ActorId::Registration),
            Kind::Gateway => read_percent(rest).map(ActorId::Gateway),
            Kind::Parking => read_percent(rest).map(ActorId::Parking),
            Kind::Call => rest.parse().ok().map(ActorId::Call),
            Kind::Dialog => rest.parse().ok().map(ActorId::Dialog),
            Kind::MediaLeg => rest.parse().ok().map(ActorId::MediaLeg),
            Kind::Flow => read_pair(rest).map(|(node, number)| ActorId::Flow(node, number)),
            Kind::DoorSession => {
                read_pair(rest).map(|(node, number)| ActorId::DoorSession(node, number))
            }
            Kind::Lane => read_pair(rest).and_then(|(node, number)| {
                u16::try_from(number)
                    .ok()
                    .map(|number| ActorId::Lane(node, number))
            }),
            Kind::Console => rest.parse().ok().map(|node| ActorId::Console(NodeId(node))),
            Kind::Member => rest.parse().ok().map(|node| ActorId::Member(NodeId(node))),
        };
        id.ok_or_else(bad)
    }
}

fn read_pair(text: &str) -> Option<(NodeId, u64)> {
    let (node, number) = text.split_once('/')?;
    Some((NodeId(node.parse().ok()?), number.parse().ok()?))
}

impl Serialize for ActorId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ActorId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Where a record lies in the store: kind and keyed hash of the natural key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RecordKey {
    /// Kind of the record's owner.
    pub kind: Kind,
    /// SipHash-2-4-128 of the natural key under the cluster's key.
    pub hash: u128,
}

impl RecordKey {
    /// Returns the 17 octets this record is stored under.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        bytes[0] = self.kind as u8;
        bytes[1..].copy_from_slice(&self.hash.to_be_bytes());
        bytes
    }
}

/// Hashes natural keys under a key derived from the cluster's secret.
#[derive(Clone)]
pub struct IdHasher {
    key: [u8; 16],
}

impl fmt::Debug for IdHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdHasher")
    }
}

impl IdHasher {
    /// Makes a hasher; `key` comes from [`crate::keys::FabricKeys`].
    #[must_use]
    pub const fn new(key: [u8; 16]) -> Self {
        IdHasher { key }
    }

    fn hash(&self, fields: &[&[u8]]) -> u128 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        for field in fields {
            hasher.write_usize(field.len());
            hasher.write(field);
        }
        hasher.finish128().as_u128()
    }

    /// Returns the key of the call that an INVITE starts: its Call-ID, From tag and top Via branch,
    /// so a retransmission or CANCEL that lands anywhere finds the same actor.
    #[must_use]
    pub fn call_key(&self, call_id: &str, from_tag: &str, branch: &str) -> CallKey {
        CallKey::from_bits(self.hash(&[
            b"call",
            call_id.as_bytes(),
            from_tag.as_bytes(),
            branch.as_bytes(),
        ]))
    }

    /// Returns the key of the call that a JSON client starts: its AoR and the name it gave the call,
    /// so that whatever names it again, on whatever connection, finds the same actor.
    #[must_use]
    pub fn json_call_key(&self, aor: &str, name: &str) -> CallKey {
        CallKey::from_bits(self.hash(&[b"json call", aor.as_bytes(), name.as_bytes()]))
    }

    /// Returns where the record of an actor lies: its call's for the sides of a call.
    #[must_use]
    pub fn record_key(&self, id: &ActorId) -> RecordKey {
        let owner = id.record_owner();
        let hash = match &owner {
            ActorId::Call(key) => key.bits(),
            ActorId::Registration(_)
            | ActorId::Dialog(_)
            | ActorId::MediaLeg(_)
            | ActorId::Gateway(_)
            | ActorId::Parking(_)
            | ActorId::Flow(..)
            | ActorId::DoorSession(..)
            | ActorId::Lane(..)
            | ActorId::Console(_)
            | ActorId::Member(_) => self.hash(&[owner.to_string().as_bytes()]),
        };
        RecordKey {
            kind: owner.kind(),
            hash,
        }
    }

    /// Returns a keyed hash of some content, by which the same is told from other.
    #[must_use]
    pub fn fingerprint(&self, fields: &[&[u8]]) -> u128 {
        self.hash(fields)
    }

    /// Returns which of `count` lanes a key goes to.
    #[must_use]
    pub fn shard(&self, fields: &[&[u8]], count: u16) -> u16 {
        let hash = self.hash(fields) % u128::from(count.max(1));
        u16::try_from(hash).expect("a remainder of a u16 fits")
    }
}
