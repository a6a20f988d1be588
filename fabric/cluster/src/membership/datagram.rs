//! Datagrams of gossip: how foca's headers and members are written, and their check at the rim.
//!
//! In: octets from the network. Out: a [`Datagram`] of which every part was read, or an error that
//! changed nothing. foca is only given what passed here.
//!
//! ```text
//! [length u8][header]  ([count u16][length u8][member] ...)  ([length u16][item] ...)
//! ```

use bytes::{Buf, BufMut};
use contract::codec;
use contract::limits::GOSSIP_BYTES_MAX;
use foca::{Header, Member, Message};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::identity::Identity;

/// Why octets are no datagram of gossip, or could not become one.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// A part is missing, too long, or followed by something else.
    #[error("the datagram is cut or too long")]
    Shape,
    /// A header or member could not be read or written.
    #[error("a part of the datagram")]
    Part(#[source] codec::CodecError),
    /// An address or start that no node can have.
    #[error("an identity that no node can have")]
    Identity,
}

/// How foca writes headers and members: the codec of everything shipped, behind a length.
pub(super) struct Wire;

fn write_part<T: Serialize>(part: &T, mut buffer: impl BufMut) -> Result<(), WireError> {
    let octets = codec::encode(part).map_err(WireError::Part)?;
    let length = u8::try_from(octets.len()).map_err(|_| WireError::Shape)?;
    if buffer.remaining_mut() < octets.len() + 1 {
        return Err(WireError::Shape);
    }
    buffer.put_u8(length);
    buffer.put_slice(&octets);
    Ok(())
}

fn read_part<T: DeserializeOwned>(mut buffer: impl Buf) -> Result<T, WireError> {
    if !buffer.has_remaining() {
        return Err(WireError::Shape);
    }
    let length = usize::from(buffer.get_u8());
    if buffer.remaining() < length {
        return Err(WireError::Shape);
    }
    let octets = buffer.copy_to_bytes(length);
    codec::decode(&octets).map_err(WireError::Part)
}

impl foca::Codec<Identity> for Wire {
    type Error = WireError;

    fn encode_header(
        &mut self,
        header: &Header<Identity>,
        buffer: impl BufMut,
    ) -> Result<(), WireError> {
        write_part(header, buffer)
    }

    fn decode_header(&mut self, buffer: impl Buf) -> Result<Header<Identity>, WireError> {
        read_part(buffer)
    }

    fn encode_member(
        &mut self,
        member: &Member<Identity>,
        buffer: impl BufMut,
    ) -> Result<(), WireError> {
        write_part(member, buffer)
    }

    fn decode_member(&mut self, buffer: impl Buf) -> Result<Member<Identity>, WireError> {
        read_part(buffer)
    }
}

/// A datagram that was read to its end.
pub(super) struct Datagram {
    /// Who says what to whom.
    pub(super) header: Header<Identity>,
    /// What it says of members.
    pub(super) members: Vec<Member<Identity>>,
    /// Broadcast metadata, not yet read.
    pub(super) items: Vec<Vec<u8>>,
}

impl Datagram {
    /// Makes a datagram without news.
    pub(super) fn bare(src: Identity, dst: Identity, message: Message<Identity>) -> Self {
        Datagram {
            header: Header {
                src,
                src_incarnation: 0,
                dst,
                message,
            },
            members: Vec::new(),
            items: Vec::new(),
        }
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// If anything in it cannot be read, or an identity is impossible.
    pub(super) fn read(octets: &[u8]) -> Result<Datagram, WireError> {
        if octets.len() > GOSSIP_BYTES_MAX {
            return Err(WireError::Shape);
        }
        let mut rest = octets;
        let header: Header<Identity> = read_part(&mut rest)?;
        check_header(&header)?;
        let mut datagram = Datagram {
            header,
            members: Vec::new(),
            items: Vec::new(),
        };
        match datagram.header.message {
            Message::Announce | Message::TurnUndead => {}
            Message::Broadcast => datagram.items = read_items(&mut rest)?,
            Message::Ping(_)
            | Message::Ack(_)
            | Message::PingReq { .. }
            | Message::IndirectPing { .. }
            | Message::IndirectAck { .. }
            | Message::ForwardedAck { .. }
            | Message::Feed
            | Message::Gossip => {
                datagram.members = read_members(&mut rest)?;
                datagram.items = read_items(&mut rest)?;
            }
        }
        if rest.is_empty() {
            Ok(datagram)
        } else {
            Err(WireError::Shape)
        }
    }

    /// Writes the datagram as foca reads it.
    ///
    /// # Errors
    /// If a part cannot be written; not for what [`Datagram::read`] returned.
    pub(super) fn write(&self) -> Result<Vec<u8>, WireError> {
        let mut octets = Vec::with_capacity(GOSSIP_BYTES_MAX);
        write_part(&self.header, &mut octets)?;
        match self.header.message {
            Message::Announce | Message::TurnUndead | Message::Broadcast => {}
            Message::Ping(_)
            | Message::Ack(_)
            | Message::PingReq { .. }
            | Message::IndirectPing { .. }
            | Message::IndirectAck { .. }
            | Message::ForwardedAck { .. }
            | Message::Feed
            | Message::Gossip => {
                let count = u16::try_from(self.members.len()).map_err(|_| WireError::Shape)?;
                octets.put_u16(count);
                for member in &self.members {
                    write_part(member, &mut octets)?;
                }
            }
        }
        for item in &self.items {
            let length = u16::try_from(item.len()).map_err(|_| WireError::Shape)?;
            octets.put_u16(length);
            octets.put_slice(item);
        }
        Ok(octets)
    }
}

fn check_header(header: &Header<Identity>) -> Result<(), WireError> {
    let named = match &header.message {
        Message::PingReq { target, .. } | Message::IndirectAck { target, .. } => Some(target),
        Message::IndirectPing { origin, .. } | Message::ForwardedAck { origin, .. } => Some(origin),
        Message::Ping(_)
        | Message::Ack(_)
        | Message::Announce
        | Message::Feed
        | Message::Gossip
        | Message::Broadcast
        | Message::TurnUndead => None,
    };
    let announced = header.message == Message::Announce && header.dst.is_whoever();
    let sound = header.src.is_sound()
        && (announced || header.dst.is_sound())
        && named.is_none_or(Identity::is_sound);
    if sound {
        Ok(())
    } else {
        Err(WireError::Identity)
    }
}

/// Every member takes octets, so their count is bounded by the datagram's length.
fn read_members(rest: &mut &[u8]) -> Result<Vec<Member<Identity>>, WireError> {
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    if rest.len() < 2 {
        return Err(WireError::Shape);
    }
    let count = rest.get_u16();
    let mut members = Vec::new();
    for _ in 0..count {
        let member: Member<Identity> = read_part(&mut *rest)?;
        if !member.id().is_sound() {
            return Err(WireError::Identity);
        }
        members.push(member);
    }
    Ok(members)
}

fn read_items(rest: &mut &[u8]) -> Result<Vec<Vec<u8>>, WireError> {
    let mut items = Vec::new();
    while !rest.is_empty() {
        if rest.len() < 2 {
            return Err(WireError::Shape);
        }
        let length = usize::from(rest.get_u16());
        if length == 0 || rest.len() < length {
            return Err(WireError::Shape);
        }
        let (item, after) = rest.split_at(length);
        items.push(item.to_vec());
        *rest = after;
    }
    Ok(items)
}
