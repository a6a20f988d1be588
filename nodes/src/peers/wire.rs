//! Frames as they stand on a connection: length (4 octets), class (1), body; and the greeting.
//!
//! In: octets of a stream. Out: frames, or why there is none. A length is compared with the bound
//! before anything is kept for it. It reads no socket.

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use contract::limits::PEER_HELLO_BYTES_MAX;
use contract::{FrameClass, NodeInst, SchemaVersion, codec};
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// Octets before a body.
pub(super) const HEADER_BYTES: usize = 5;
/// Bodies up to this length are copied, so that whoever keeps one does not keep a whole buffer.
const COPY_BYTES_MAX: usize = 2_048;

/// One of the two connections with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Track {
    /// Membership, commits, dialogs.
    Urgent,
    /// New calls and registrations, moves.
    Bulk,
}

impl Track {
    /// Returns the track of a class.
    pub(super) const fn of(class: FrameClass) -> Track {
        match class {
            FrameClass::Membership | FrameClass::Commit | FrameClass::InDialog => Track::Urgent,
            FrameClass::Invite | FrameClass::Register | FrameClass::Bulk => Track::Bulk,
        }
    }

    /// Returns its classes, the most urgent first.
    pub(super) const fn classes(self) -> [FrameClass; 3] {
        match self {
            Track::Urgent => [
                FrameClass::Membership,
                FrameClass::Commit,
                FrameClass::InDialog,
            ],
            Track::Bulk => [FrameClass::Invite, FrameClass::Register, FrameClass::Bulk],
        }
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody's message.
    Frame(FrameClass),
    /// A sign of life.
    Ping,
    /// The last frame: the connection is closed in order.
    Close,
    /// Proof of the cluster's secret.
    Proof,
    /// Who speaks.
    Hello,
    /// The connection counts.
    Welcome,
}

impl Kind {
    const fn octet(self) -> u8 {
        match self {
            Kind::Frame(FrameClass::Membership) => 0,
            Kind::Frame(FrameClass::Commit) => 1,
            Kind::Frame(FrameClass::InDialog) => 2,
            Kind::Frame(FrameClass::Invite) => 3,
            Kind::Frame(FrameClass::Register) => 4,
            Kind::Frame(FrameClass::Bulk) => 5,
            Kind::Ping => 16,
            Kind::Close => 17,
            Kind::Proof => 18,
            Kind::Hello => 19,
            Kind::Welcome => 20,
        }
    }

    const fn of(octet: u8) -> Option<Kind> {
        Some(match octet {
            0 => Kind::Frame(FrameClass::Membership),
            1 => Kind::Frame(FrameClass::Commit),
            2 => Kind::Frame(FrameClass::InDialog),
            3 => Kind::Frame(FrameClass::Invite),
            4 => Kind::Frame(FrameClass::Register),
            5 => Kind::Frame(FrameClass::Bulk),
            16 => Kind::Ping,
            17 => Kind::Close,
            18 => Kind::Proof,
            19 => Kind::Hello,
            20 => Kind::Welcome,
            _ => return None,
        })
    }
}

/// Appends a frame.
///
/// # Panics
/// If the body is longer than 4 GiB; senders compare it with a bound far below.
pub(super) fn put(out: &mut BytesMut, kind: Kind, body: &[u8]) {
    let length = u32::try_from(body.len()).expect("bodies are bounded by FRAME_BYTES_MAX");
    out.reserve(HEADER_BYTES + body.len());
    out.put_u32(length);
    out.put_u8(kind.octet());
    out.put_slice(body);
}

/// Takes the first frame off `buffer`, if it is whole.
///
/// # Errors
/// `TooLong`, `Frame` for an unknown class: nothing after it can be read.
pub(super) fn take(
    buffer: &mut BytesMut,
    body_max: usize,
) -> Result<Option<(Kind, Bytes)>, Refusal> {
    let Some((length, octet)) = header(buffer) else {
        return Ok(None);
    };
    let kind = Kind::of(octet).ok_or(Refusal::Frame)?;
    let length = usize::try_from(length).map_err(|_| Refusal::TooLong)?;
    if length > body_max {
        return Err(Refusal::TooLong);
    }
    if buffer.len() < HEADER_BYTES + length {
        return Ok(None);
    }
    let frame = buffer.split_to(HEADER_BYTES + length);
    let body = if length <= COPY_BYTES_MAX {
        Bytes::copy_from_slice(&frame[HEADER_BYTES..])
    } else {
        frame.freeze().slice(HEADER_BYTES..)
    };
    Ok(Some((kind, body)))
}

fn header(buffer: &[u8]) -> Option<(u32, u8)> {
    let (length, rest) = buffer.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*length), *rest.first()?))
}

/// Which cluster: two with the same secret by mistake are still two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClusterId(pub(super) [u8; 16]);

impl ClusterId {
    /// Derives it from the cluster's name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        use sha2::{Digest as _, Sha256};
        let digest: [u8; 32] = Sha256::new()
            .chain_update(b"weft cluster\0")
            .chain_update(name.as_bytes())
            .finalize()
            .into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        ClusterId(id)
    }
}

/// Who speaks, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Which life of which node.
    pub inst: NodeInst,
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Where its cluster port is reached.
    pub advertise: SocketAddr,
    /// What the connection is for, as the one who dialled says.
    pub track: Track,
    /// Drawn by the one who dialled: both connections of one pair have the same.
    pub link: u64,
    /// Hash of its view of the members.
    pub view_hash: u64,
    /// The schema that its records need; stands before all else.
    #[serde(skip)]
    pub required: SchemaVersion,
    /// The newest one that its program reads; stands there, too.
    #[serde(skip)]
    pub reads: SchemaVersion,
}

impl Hello {
    /// Writes the body of the frame: the schema that its records need and the newest that it reads
    /// stand first, in a form that stays.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(PEER_HELLO_BYTES_MAX);
        body.put_u16(self.required.0);
        body.put_u16(self.reads.0);
        let rest = codec::encode(self).expect("a greeting is shorter than 1 MiB");
        body.extend_from_slice(&rest);
        body
    }

    /// Reads the body of the frame of somebody who must read the schema `needed`.
    ///
    /// # Errors
    /// `Older` if it does not; `Newer` if its records are of one that this program does not read;
    /// `Frame` if it is none, or names no address.
    pub(super) fn decode(body: &[u8], needed: SchemaVersion) -> Result<Hello, Refusal> {
        let (versions, rest) = body.split_first_chunk::<4>().ok_or(Refusal::Frame)?;
        let required = SchemaVersion(u16::from_be_bytes([versions[0], versions[1]]));
        let read = SchemaVersion(u16::from_be_bytes([versions[2], versions[3]]));
        if required > SchemaVersion::NEWEST {
            return Err(Refusal::Newer);
        }
        if read < needed {
            return Err(Refusal::Older);
        }
        let mut hello: Hello = codec::decode(rest).map_err(|_| Refusal::Frame)?;
        hello.required = required;
        hello.reads = read;
        if hello.advertise.port() == 0 || hello.advertise.ip().is_unspecified() {
            return Err(Refusal::Frame);
        }
        Ok(hello)
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
