//! What nodes say to each other, and its form on the wire, frozen a version each (`cluster.md` §10,
//! §12).
//!
//! In: a frame, or octets of a proven member. Out: the other. Octets that are no frame are an
//! error, never a panic. Messages of actors travel as octets: what they mean is `actors`' affair.
//!
//! ```text
//! proto u16 little-endian | frame (bincode)
//! ```
//!
//! A form holds what the one before cannot: all else is written in the older one, whatever the
//! schema.

use bytes::Bytes;
use contract::codec::{self, CodecError};
use contract::limits::{FRAME_BYTES_MAX, REPAIR_FETCH_MAX, SHARDS};
use contract::{
    ActorId, FaultClass, FlowRef, MoveFault, NodeId, NodeInst, SchemaVersion, Undelivered,
};
use serde::{Deserialize, Serialize};

use crate::digest::ShardSet;
use crate::events::{EventBatch, EventsHeld};
use crate::exchange::{
    EntryV1, Exchange, RangeV1, check_count, read_digests, read_page, read_wanted, record_owner,
};
use crate::form::{EpochV1, HeaderV1, InstV1, Unread, VersionV1, part_of, part_place};
use crate::frame_v2::FrameV2;
use crate::{Epoch, Header, HolderReply, HolderRequest, Image, Version};

/// The highest form of frames that this program reads.
pub const PROTO: u16 = 2;
const PROTO_1: u16 = 1;
/// Nodes a message may pass before it counts as lost (`cluster.md` §3).
pub const HOPS_MAX: u8 = 3;

/// What one node says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message for an actor.
    Tell {
        /// Who tells.
        from: ActorId,
        /// The node it ran on when it did: where the message comes back to.
        origin: NodeInst,
        /// Who is told.
        to: ActorId,
        /// Nodes it has passed.
        hops: u8,
        /// What, as `Roster::encode` wrote it.
        message: Bytes,
    },
    /// A message comes back to the node that sent it first.
    Returned {
        /// Who was to be told.
        to: ActorId,
        /// Who told.
        from: ActorId,
        /// What.
        message: Bytes,
        /// Why.
        why: Undelivered,
    },
    /// A question to a holder.
    Ask {
        /// Comes back with the answer.
        number: u64,
        /// What.
        request: HolderRequest,
    },
    /// The answer of a holder.
    Reply {
        /// Of the question.
        number: u64,
        /// What.
        reply: HolderReply,
    },
    /// Where is an actor?
    Where {
        /// Comes back with the answer.
        number: u64,
        /// Which.
        id: ActorId,
    },
    /// What a holder knows of that.
    Found {
        /// Of the question.
        number: u64,
        /// What it knows.
        whereabouts: Whereabouts,
    },
    /// An actor is elsewhere: messages for it go there from now on.
    Redirect {
        /// Which.
        id: ActorId,
        /// Version of the record that says so.
        version: Version,
        /// Where.
        owner: NodeInst,
    },
    /// Octets for a connection that the other node has.
    Send {
        /// The connection.
        flow: FlowRef,
        /// The octets.
        bytes: Bytes,
    },
    /// Something said to find and mend what one of the two lacks.
    Repair {
        /// Chosen by the asker; comes back with the answer.
        number: u64,
        /// What.
        exchange: Exchange,
    },
    /// The receiver may claim an actor, though its owner, who says so, lives (`cluster.md` §6).
    Take {
        /// Of the move; comes back with the answer.
        number: u64,
        /// Which.
        id: ActorId,
        /// The epoch that its owner has it under.
        epoch: Epoch,
    },
    /// It is the sender's now, and that is safe.
    Taken {
        /// Of the move.
        number: u64,
        /// The epoch that it has now.
        epoch: Epoch,
    },
    /// The sender does not take it.
    Kept {
        /// Of the move.
        number: u64,
        /// Why.
        why: MoveFault,
    },
    /// The former owner has sent all that it had not read.
    Left {
        /// Of the move.
        number: u64,
    },
    /// What the sender has of the event log; what it lacks is the answer.
    EventsHeld(EventsHeld),
    /// Events that the receiver may lack.
    Events(EventBatch),
}

/// What a holder knows of where an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// Its record says: there.
    At {
        /// The life of the node that runs it.
        owner: NodeInst,
        /// Version of the record.
        version: Version,
    },
    /// There is none: only said by a holder that is in step with the others.
    None,
    /// It does not know.
    Unsettled,
}

/// Why octets are no frame, or a frame cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A form that this program does not know.
    #[error("frame of proto {proto}, known up to {PROTO}")]
    Newer {
        /// Its number.
        proto: u16,
    },
    /// Damaged, or not ours.
    #[error("no frame: {0}")]
    Damaged(String),
    /// Longer than `FRAME_BYTES_MAX`.
    #[error("a frame of {0} octets is too long")]
    TooLong(usize),
    /// The former release has no word for it.
    #[error("no word for it in schema {0}")]
    Unspoken(SchemaVersion),
}

impl FrameError {
    /// Tells whose fault it is.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            FrameError::Newer { .. } | FrameError::Damaged(_) => FaultClass::Reject,
            FrameError::TooLong(_) => FaultClass::Overload,
            FrameError::Unspoken(_) => FaultClass::Transient,
        }
    }
}

impl From<Unread> for FrameError {
    fn from(unread: Unread) -> Self {
        FrameError::Damaged(unread.of("a frame".to_owned()).to_string())
    }
}

impl Frame {
    /// The first schema whose programs read [`Exchange::Glance`].
    pub const GLANCES_SINCE: SchemaVersion = FrameV2::SINCE;

    /// Writes it as a node that takes frames of that schema reads it.
    ///
    /// # Errors
    /// `TooLong`, `Unspoken`.
    pub fn write(&self, schema: SchemaVersion) -> Result<Bytes, FrameError> {
        let newer = FrameV2::of(self).filter(|_| schema >= FrameV2::SINCE);
        let (proto, body) = match newer {
            Some(form) => (PROTO, codec::encode(&form)),
            None => {
                let form = FrameV1::of(self).ok_or(FrameError::Unspoken(schema))?;
                (PROTO_1, codec::encode(&form))
            }
        };
        let body = body.map_err(|_| FrameError::TooLong(FRAME_BYTES_MAX))?;
        if body.len() + 2 > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(body.len() + 2));
        }
        Ok([&proto.to_le_bytes()[..], &body].concat().into())
    }

    /// Reads it.
    ///
    /// # Errors
    /// `Newer`, `Damaged`, `TooLong`.
    pub fn read(octets: &[u8]) -> Result<Frame, FrameError> {
        if octets.len() > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(octets.len()));
        }
        let Some((proto, body)) = octets.split_first_chunk() else {
            return Err(FrameError::Damaged("cut before its form".to_owned()));
        };
        let damaged = |error: CodecError| FrameError::Damaged(error.to_string());
        match u16::from_le_bytes(*proto) {
            PROTO_1 => codec::decode::<FrameV1>(body).map_err(damaged)?.read(),
            PROTO => codec::decode::<FrameV2>(body).map_err(damaged)?.read(),
            0 => Err(FrameError::Damaged("form 0".to_owned())),
            proto => Err(FrameError::Newer { proto }),
        }
    }
}

#[derive(Serialize, Deserialize)]
enum FrameV1 {
    Tell(ActorId, InstV1, ActorId, u8, Bytes),
    Returned(ActorId, ActorId, Bytes, bool),
    Commit(u64, ImageV1),
    Claim(u64, ActorId, EpochV1),
    Stored(u64, VersionV1),
    Incomplete(u64, Vec<ActorId>),
    Granted(u64, EpochV1, Option<ImageV1>),
    Fenced(u64, EpochV1),
    Where(u64, ActorId),
    At(u64, InstV1, VersionV1),
    None(u64),
    Unsettled(u64),
    Redirect(ActorId, VersionV1, InstV1),
    Send(FlowRef, Bytes),
    Digests(u64, u64, [u64; SHARDS / 64], Vec<u64>),
    Differing(u64, [u64; SHARDS / 64]),
    List(u64, RangeV1),
    Listed(u64, Vec<EntryV1>, Option<u128>),
    Fetch(u64, Vec<(ActorId, VersionV1)>),
    Images(u64, Vec<ImageV1>, u32),
    Take(u64, ActorId, EpochV1),
    Taken(u64, EpochV1),
    Kept(u64, KeptV1),
    Left(u64),
}

/// Why an actor was not taken, as far as the other node can know.
#[derive(Serialize, Deserialize)]
enum KeptV1 {
    NotUp,
    Stale,
    Moving,
    Crowded,
    NotTaken,
}

impl From<MoveFault> for KeptV1 {
    fn from(why: MoveFault) -> Self {
        match why {
            MoveFault::NotUp => KeptV1::NotUp,
            MoveFault::Stale => KeptV1::Stale,
            MoveFault::Moving => KeptV1::Moving,
            MoveFault::Crowded => KeptV1::Crowded,
            MoveFault::NotTaken
            | MoveFault::Unknown
            | MoveFault::Fixed
            | MoveFault::NoNode
            | MoveFault::There
            | MoveFault::Unreachable
            | MoveFault::Unrecorded
            | MoveFault::Restless
            | MoveFault::Silent
            | MoveFault::Loaded => KeptV1::NotTaken,
        }
    }
}

impl From<KeptV1> for MoveFault {
    fn from(why: KeptV1) -> Self {
        match why {
            KeptV1::NotUp => MoveFault::NotUp,
            KeptV1::Stale => MoveFault::Stale,
            KeptV1::Moving => MoveFault::Moving,
            KeptV1::Crowded => MoveFault::Crowded,
            KeptV1::NotTaken => MoveFault::NotTaken,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct ImageV1 {
    header: HeaderV1,
    parts: Vec<(u8, u8, Bytes)>,
}

impl FrameV1 {
    /// Returns the form of what it has a word for, or nearly one.
    fn of(frame: &Frame) -> Option<FrameV1> {
        Some(match frame {
            Frame::Tell {
                from,
                origin,
                to,
                hops,
                message,
            } => FrameV1::Tell(
                from.clone(),
                (*origin).into(),
                to.clone(),
                *hops,
                message.clone(),
            ),
            Frame::Returned {
                to,
                from,
                message,
                why,
            } => {
                let is_busy = *why == Undelivered::Busy;
                FrameV1::Returned(to.clone(), from.clone(), message.clone(), is_busy)
            }
            Frame::Ask { number, request } => match request {
                HolderRequest::Commit(image) => FrameV1::Commit(*number, image.into()),
                HolderRequest::Claim { id, epoch } => {
                    FrameV1::Claim(*number, id.clone(), (*epoch).into())
                }
            },
            Frame::Reply { number, reply } => reply_form(*number, reply),
            Frame::Where { number, id } => FrameV1::Where(*number, id.clone()),
            Frame::Found {
                number,
                whereabouts,
            } => match whereabouts {
                Whereabouts::At { owner, version } => {
                    FrameV1::At(*number, (*owner).into(), (*version).into())
                }
                Whereabouts::None => FrameV1::None(*number),
                Whereabouts::Unsettled => FrameV1::Unsettled(*number),
            },
            Frame::Redirect { id, version, owner } => {
                FrameV1::Redirect(id.clone(), (*version).into(), (*owner).into())
            }
            Frame::Send { flow, bytes } => FrameV1::Send(*flow, bytes.clone()),
            Frame::Repair { number, exchange } => return exchange_form(*number, exchange),
            Frame::Take { number, id, epoch } => {
                FrameV1::Take(*number, id.clone(), (*epoch).into())
            }
            Frame::Taken { number, epoch } => FrameV1::Taken(*number, (*epoch).into()),
            Frame::Kept { number, why } => FrameV1::Kept(*number, (*why).into()),
            Frame::Left { number } => FrameV1::Left(*number),
            Frame::EventsHeld(_) | Frame::Events(_) => return None,
        })
    }
}

fn reply_form(number: u64, reply: &HolderReply) -> FrameV1 {
    match reply {
        HolderReply::Stored(version) => FrameV1::Stored(number, (*version).into()),
        HolderReply::Incomplete { missing } => FrameV1::Incomplete(number, missing.clone()),
        HolderReply::Granted { epoch, newest } => {
            let newest = newest.as_deref().map(ImageV1::from);
            FrameV1::Granted(number, (*epoch).into(), newest)
        }
        HolderReply::Fenced(epoch) => FrameV1::Fenced(number, (*epoch).into()),
    }
}

fn exchange_form(number: u64, exchange: &Exchange) -> Option<FrameV1> {
    Some(match exchange {
        Exchange::Glance(_) => return None,
        Exchange::Digests(look) => {
            let digests = look.digests.to_vec();
            FrameV1::Digests(number, look.round, look.in_step.words(), digests)
        }
        Exchange::Differing(shards) => FrameV1::Differing(number, shards.words()),
        Exchange::List(range) => FrameV1::List(number, range.into()),
        Exchange::Listed(page) => {
            let entries = page.entries.iter().map(EntryV1::from).collect();
            FrameV1::Listed(number, entries, page.until)
        }
        Exchange::Fetch(wanted) => {
            let wanted = wanted.iter();
            let wanted = wanted.map(|one| (one.id.clone(), one.than.into()));
            FrameV1::Fetch(number, wanted.collect())
        }
        Exchange::Images { images, passed } => {
            FrameV1::Images(number, images.iter().map(ImageV1::from).collect(), *passed)
        }
    })
}

impl From<&Image> for ImageV1 {
    fn from(image: &Image) -> Self {
        let parts = image.parts.iter().map(|(id, bytes)| {
            let (kind, side) = part_place(id);
            (kind, side, bytes.clone())
        });
        ImageV1 {
            header: HeaderV1::from(&image.header),
            parts: parts.collect(),
        }
    }
}

impl ImageV1 {
    fn read(self) -> Result<Image, FrameError> {
        let header = Header::try_from(self.header)?;
        let parts = self
            .parts
            .into_iter()
            .map(|(kind, side, bytes)| Ok((part_of(kind, side, &header.id)?, bytes)))
            .collect::<Result<_, Unread>>()?;
        let image = Image { header, parts };
        image
            .check()
            .map_err(|error| FrameError::Damaged(error.to_string()))?;
        Ok(image)
    }
}

impl FrameV1 {
    fn read(self) -> Result<Frame, FrameError> {
        let reply = |number, reply| Frame::Reply { number, reply };
        let found = |number, whereabouts| Frame::Found {
            number,
            whereabouts,
        };
        let repair = |number, exchange| Frame::Repair { number, exchange };
        Ok(match self {
            FrameV1::Tell(from, origin, to, hops, message) => Frame::Tell {
                from,
                origin: origin.into(),
                to,
                hops,
                message,
            },
            FrameV1::Returned(to, from, message, is_busy) => Frame::Returned {
                to,
                from,
                message,
                why: if is_busy {
                    Undelivered::Busy
                } else {
                    Undelivered::Absent
                },
            },
            FrameV1::Commit(number, image) => Frame::Ask {
                number,
                request: HolderRequest::Commit(image.read()?),
            },
            FrameV1::Claim(number, id, epoch) => read_claim(number, id, epoch.into())?,
            FrameV1::Stored(number, version) => reply(number, HolderReply::Stored(version.into())),
            FrameV1::Incomplete(number, missing) => {
                reply(number, HolderReply::Incomplete { missing })
            }
            FrameV1::Granted(number, epoch, newest) => {
                let newest = newest.map(ImageV1::read).transpose()?.map(Box::new);
                let epoch = epoch.into();
                reply(number, HolderReply::Granted { epoch, newest })
            }
            FrameV1::Fenced(number, epoch) => reply(number, HolderReply::Fenced(epoch.into())),
            FrameV1::Where(number, id) => Frame::Where { number, id },
            FrameV1::At(number, owner, version) => {
                let (owner, version) = (owner.into(), version.into());
                found(number, Whereabouts::At { owner, version })
            }
            FrameV1::None(number) => found(number, Whereabouts::None),
            FrameV1::Unsettled(number) => found(number, Whereabouts::Unsettled),
            FrameV1::Redirect(id, version, owner) => {
                let (version, owner) = (version.into(), owner.into());
                Frame::Redirect { id, version, owner }
            }
            FrameV1::Send(flow, bytes) => Frame::Send { flow, bytes },
            FrameV1::Digests(number, round, in_step, words) => {
                repair(number, read_digests(round, in_step, &words)?)
            }
            FrameV1::Differing(number, words) => {
                repair(number, Exchange::Differing(ShardSet::from_words(words)))
            }
            FrameV1::List(number, range) => repair(number, Exchange::List(range.read()?)),
            FrameV1::Listed(number, entries, until) => repair(number, read_page(entries, until)?),
            FrameV1::Fetch(number, wanted) => repair(number, read_wanted(wanted)?),
            FrameV1::Images(number, images, passed) => repair(number, read_images(images, passed)?),
            FrameV1::Take(number, id, epoch) => read_take(number, id, epoch.into())?,
            FrameV1::Taken(number, epoch) => read_taken(number, epoch.into()),
            FrameV1::Kept(number, why) => read_kept(number, why.into()),
            FrameV1::Left(number) => Frame::Left { number },
        })
    }
}

fn read_claim(number: u64, id: ActorId, epoch: Epoch) -> Result<Frame, FrameError> {
    let id = record_owner(id)?;
    let request = HolderRequest::Claim { id, epoch };
    Ok(Frame::Ask { number, request })
}

fn read_take(number: u64, id: ActorId, epoch: Epoch) -> Result<Frame, FrameError> {
    let id = record_owner(id)?;
    Ok(Frame::Take { number, id, epoch })
}

const fn read_taken(number: u64, epoch: Epoch) -> Frame {
    Frame::Taken { number, epoch }
}

const fn read_kept(number: u64, why: MoveFault) -> Frame {
    Frame::Kept { number, why }
}

fn read_images(images: Vec<ImageV1>, passed: u32) -> Result<Exchange, FrameError> {
    check_count(images.len(), REPAIR_FETCH_MAX)?;
    let images = images.into_iter().map(ImageV1::read);
    let images = images.collect::<Result<_, _>>()?;
    Ok(Exchange::Images { images, passed })
}

/// Returns the node whose system actor an ID names: connections, lanes, consoles and members never
/// move (`cluster.md` §1). `None` for actors with a record.
#[must_use]
pub const fn home(id: &ActorId) -> Option<NodeId> {
    match id {
        ActorId::Flow(node, _)
        | ActorId::DoorSession(node, _)
        | ActorId::Lane(node, _)
        | ActorId::Console(node)
        | ActorId::Member(node) => Some(*node),
        ActorId::Registration(_)
        | ActorId::Call(_)
        | ActorId::Dialog(_)
        | ActorId::MediaLeg(_)
        | ActorId::Gateway(_)
        | ActorId::Parking(_) => None,
    }
}
