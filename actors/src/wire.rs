//! Messages on their way to another node: their octets, frozen a version each (`cluster.md` §10,
//! §12).
//!
//! In: a message, or octets of a proven member. Out: the other. Octets that are no message are an
//! error, never a panic; a SIP message inside is read anew by our reader. It decides nothing, and
//! knows no frame: `fabric/cluster` puts the octets into one.
//!
//! ```text
//! form u16 little-endian | Message (bincode)
//! ```
//!
//! bincode writes variants by their number and fields by their order: a variant that is added at
//! the end of its enum makes a new form, of the schema it comes with, for the messages that have it
//! (`former`); all others are written in form 1 as before. Any other change needs a type of its
//! own for the former schema.
//! What is said to JSON clients has one frozen form already, and travels as that text.

use bytes::Bytes;
use contract::codec::{self, CodecError};
use contract::limits::FRAME_BYTES_MAX;
use contract::{Answer, FaultClass, MoveFault, SchemaVersion, UtcMillis};
use serde::{Deserialize, Serialize};

use crate::media_leg::{self, Destination};
use crate::{Message, call, console, dialog, door_session, lane, registration};

/// Form of messages that every program reads.
pub const WIRE_FORM: u16 = 1;
/// Form of messages that programs of schema 2 read.
pub const WIRE_FORM_2: u16 = 2;
/// The schema it came with.
const FORM_2_SINCE: SchemaVersion = SchemaVersion(2);
/// Form of messages that programs of schema 3 read; the newest one.
pub const WIRE_FORM_3: u16 = 3;
/// The schema it came with: that of transfers. Nobody begins any before all nodes read it.
pub(crate) const FORM_3_SINCE: SchemaVersion = SchemaVersion(3);

/// Octets of the number of the form.
const FORM_BYTES: usize = size_of::<u16>();

/// Why octets are no message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// More than `FRAME_BYTES_MAX`.
    #[error("a message of {octets} octets, at most {FRAME_BYTES_MAX} are read")]
    TooLong {
        /// How many.
        octets: usize,
    },
    /// Not even the number of a form.
    #[error("a message of {octets} octets has no number of its form")]
    NoForm {
        /// How many.
        octets: usize,
    },
    /// Written by another release.
    #[error("a message in form {form}, known up to {WIRE_FORM_3}")]
    UnknownForm {
        /// The form it says.
        form: u16,
    },
    /// No message in that form.
    #[error("reading a message")]
    Damaged(#[source] CodecError),
}

impl WireError {
    /// Tells whose fault it is: the peer's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            WireError::TooLong { .. }
            | WireError::NoForm { .. }
            | WireError::UnknownForm { .. }
            | WireError::Damaged(_) => FaultClass::Reject,
        }
    }
}

/// How a message is said to a node of schema 1.
enum Former {
    /// As it is.
    Same,
    /// By the nearest word that it knows.
    Instead(Message),
    /// Not at all: it would know no better than if the message were lost.
    Nothing,
}

fn former(message: &Message) -> Former {
    if let Message::Console(console::Message::Answered { number, answer }) = message
        && matches!(answer, Answer::Moved(Err(MoveFault::Loaded)))
    {
        let (number, answer) = (*number, Answer::Moved(Err(MoveFault::NotTaken)));
        return Former::Instead(console::Message::Answered { number, answer }.into());
    }
    let is_new = matches!(
        message,
        Message::Call(call::Message::Bequest { .. })
            | Message::Dialog(dialog::Message::Inherit { .. })
    );
    if is_new {
        return Former::Nothing;
    }
    Former::Same
}

/// Tells whether a message came with schema 3.
pub(crate) fn is_of_schema_3(message: &Message) -> bool {
    if let Message::Dialog(dialog::Message::Client(order)) = message {
        return matches!(
            order.command,
            dialog::ClientCommand::Transfer { .. } | dialog::ClientCommand::Join { .. }
        );
    }
    matches!(
        message,
        Message::Call(call::Message::Refer { .. })
            | Message::Call(
                call::Message::LocatedAs { .. }
                    | call::Message::IsSet(_)
                    | call::Message::Join { .. }
                    | call::Message::WhoCalls { .. }
                    | call::Message::Steer(_)
                    | call::Message::Park { .. }
                    | call::Message::IsWith { .. }
                    | call::Message::With { .. }
            )
            | Message::MediaLeg(media_leg::Message::HandOver | media_leg::Message::TakeUp { .. })
            | Message::Registration(
                registration::Message::Set(_)
                    | registration::Message::WhoCalls { .. }
                    | registration::Message::InCall { .. }
            )
            | Message::Console(console::Message::IsSet { .. } | console::Message::Steered { .. })
            | Message::DoorSession(door_session::Message::IsSet { .. })
            | Message::Lane(lane::Message::Taken { .. })
            | Message::MediaLeg(media_leg::Message::Join {
                to: Destination::RingBack | Destination::Parked,
                ..
            })
            | Message::Parking(_)
            | Message::Dialog(
                dialog::Message::InviteDiverted { .. }
                    | dialog::Message::AcceptRefer
                    | dialog::Message::RefuseRefer { .. }
                    | dialog::Message::ReferProgress { .. }
                    | dialog::Message::Replace(_)
                    | dialog::Message::HandOver { .. }
                    | dialog::Message::HandedOver
                    | dialog::Message::TakeUp { .. }
                    | dialog::Message::Left
                    | dialog::Message::Look
            )
    )
}

/// Returns the octets of a message for a node that reads that schema.
///
/// Bound: `FRAME_BYTES_MAX`. What messages of calls carry came in messages of 64 KiB or from a
/// record, so none comes near it; the traces of a call with many sides, as one console answers
/// another, may. A longer message is logged and gives no octets, which `decode` refuses; nor does
/// one that a node of that schema has no word for.
#[must_use]
pub fn encode(message: &Message, schema: SchemaVersion) -> Vec<u8> {
    if is_of_schema_3(message) {
        // Nobody says any of it before all nodes read it.
        return match schema >= FORM_3_SINCE {
            true => encode_as(WIRE_FORM_3, message),
            false => Vec::new(),
        };
    }
    match former(message) {
        Former::Same => encode_as(WIRE_FORM, message),
        Former::Instead(_) | Former::Nothing if schema >= FORM_2_SINCE => {
            encode_as(WIRE_FORM_2, message)
        }
        Former::Instead(former) => encode_as(WIRE_FORM, &former),
        Former::Nothing => Vec::new(),
    }
}

fn encode_as(form: u16, message: &Message) -> Vec<u8> {
    let form = form.to_le_bytes().to_vec();
    match codec::encode(message).map(|body| [form, body].concat()) {
        Ok(octets) if octets.len() <= FRAME_BYTES_MAX => octets,
        Ok(octets) => {
            tracing::warn!(octets = octets.len(), "a message longer than a frame");
            Vec::new()
        }
        Err(error) => {
            let cause = &error as &dyn std::error::Error;
            tracing::warn!(cause, "a message without a wire form");
            Vec::new()
        }
    }
}

/// Reads a message.
///
/// Bound: `FRAME_BYTES_MAX`; what a length inside claims is checked before anything is allocated.
///
/// # Errors
/// If the octets are too many, of a form that is not known, or no message.
pub fn decode(bytes: &[u8]) -> Result<Message, WireError> {
    let octets = bytes.len();
    if octets > FRAME_BYTES_MAX {
        return Err(WireError::TooLong { octets });
    }
    let Some((form, body)) = bytes.split_first_chunk::<FORM_BYTES>() else {
        return Err(WireError::NoForm { octets });
    };
    let form = u16::from_le_bytes(*form);
    if !(WIRE_FORM..=WIRE_FORM_3).contains(&form) {
        return Err(WireError::UnknownForm { form });
    }
    codec::decode(body).map_err(WireError::Damaged)
}

/// What a nonce of ours says, as the lane that issued it is asked.
#[derive(Serialize, Deserialize)]
#[serde(remote = "sip::digest::NonceInfo")]
pub(crate) struct NonceForm {
    made: UtcMillis,
    random: u64,
    node: u16,
    lane: u16,
}

/// A SIP message as its octets; for people only their first line, since header fields may hold
/// credentials.
pub(crate) mod sip_message {
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    use super::{Bytes, Deserialize};

    pub(crate) fn serialize<S: Serializer>(
        message: &sip::Message,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&crate::lane::first_line(message.bytes()))
        } else {
            serializer.serialize_bytes(message.bytes())
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<sip::Message, D::Error> {
        let octets = Bytes::deserialize(deserializer)?;
        sip::Message::read(octets).map_err(D::Error::custom)
    }
}

/// What is said to a JSON client, as the text that the client gets.
pub(crate) mod json_text {
    use doors::json::ServerMessage;
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserializer, Serializer};

    use super::Deserialize;

    pub(crate) fn serialize<S: Serializer>(
        message: &ServerMessage,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(message).map_err(S::Error::custom)?;
        serializer.serialize_str(&text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ServerMessage, D::Error> {
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text).map_err(D::Error::custom)
    }
}
