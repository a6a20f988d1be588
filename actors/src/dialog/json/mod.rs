//! `dialog:<uuid>` of a JSON client: one side of a call whose signalling is JSON over WebSocket.
//!
//! In: orders of the client, by way of its session; orders of the call. Out: what is said to the
//! client, by way of its session; what happened for the call; its part of the record. The
//! vocabulary toward the call is that of a SIP dialog. What the client must not miss is numbered,
//! in the part, and said again when the client comes back; what it will learn is safe before it is
//! said. A callAccepted needs no ACK: the call is told at once that it was acknowledged.
//!
//! | state | event | does | next |
//! |---|---|---|---|
//! | – | Dial | `trying` | Incoming |
//! | Incoming, Early, Confirmed | the same Dial again | says again what it said | same |
//! | any | another Dial of that name | `error` 409 | same |
//! | Incoming, Early | Progress 180, or with SDP | gated, `ringing` | Early |
//! | Incoming, Early | Accept | gated, `callAccepted`; `Acknowledged` | Confirmed |
//! | Incoming, Early | End | `callRejected`, `Ended` | Ended |
//! | Incoming, Early | hangup | `Cancelled`, `hangup` | Ended |
//! | Incoming, Early | connection gone for 8 s | `Cancelled` | Ended |
//! | – | Invite | gated, `incoming` | Calling |
//! | Calling | ringing | `Progressed` 180 | Proceeding |
//! | Calling, Proceeding | answer | `Answered` | Confirmed |
//! | Calling, Proceeding | reject, hangup | `Failed`, `Ended` | Ended |
//! | Calling, Proceeding | End | `cancelled` | Ending |
//! | Calling, Proceeding | connection gone for 8 s | `Failed` 480 | Ended |
//! | Confirmed | hold, resume, reoffer | `Offered`; 491 if one is open | Confirmed |
//! | Confirmed | AcceptOffer | gated, `held`, `resumed`, `reanswer` | Confirmed |
//! | Confirmed | RefuseOffer | `error` | Confirmed |
//! | Confirmed | Offer | gated, `reoffer`; 491 if the client's is open | Confirmed |
//! | Confirmed | reanswer | `OfferAnswered`; `held`, `resumed` of the far end | Confirmed |
//! | Confirmed | no reanswer for 32 s, connection gone for 8 s | `OfferRefused` | Confirmed |
//! | Confirmed | hangup | `HungUp`, `hangup` | Ended |
//! | Confirmed | End | `hangup` | Ending |
//! | Confirmed | connection gone | media goes on; its silence ends the call | Confirmed |
//! | Ending | ack, 2 s, connection gone for 8 s | `Ended` | Ended |
//! | Confirmed | Move | gated, `reoffer` that says `migrate` | Confirmed |
//! | any | Restored, its connection another node's | the connection watched, what may be lost said again | same |
//! | any | Restored, taken over | an open offer of ours is forgotten, else the same | same |
//! | Confirmed | transfer | `Refer`; 491 if one is open | Confirmed |
//! | Confirmed | AcceptRefer, ReferProgress | `transferProgress` | Confirmed |
//! | Confirmed | RefuseRefer | `error` | Confirmed |
//! | any | dtmf, iceCandidate | `Digits` or `Info`, `Trickle` | same |
//! | any | Info, Digit | `dtmf` | same |
//! | any | order of another account or instance | `error` 404 | same |
//! | any | order over a new connection | the old one is forgotten, what is numbered is said again | same |
//! | any, connection gone | the instance is bound over another | the same | same |
//!
//! | file | rule |
//! |---|---|
//! | `orders.rs` | what the client wants |
//! | `calling.rs` | the call's beginning and end |
//! | `offers.rs` | new offers, both ways |
//! | `transfer.rs` | the far end is put through |
//! | `joining.rs` | a dialog that goes on in another call |
//! | `connection.rs` | a connection that goes and comes back |

mod calling;
mod connection;
mod core;
mod joining;
mod offers;
mod orders;
mod snapshot;
#[cfg(test)]
mod tests;
mod transfer;
pub(crate) use self::transfer::address;

use bytes::Bytes;
use contract::{ActorId, FlowRef, SideKey};
use doors::json::ServerMessage;
use serde::{Deserialize, Serialize};
use sip::{Aor, Uri};

pub(crate) use self::core::PARK;
pub use self::core::{JsonDialog, Timer};
pub use self::snapshot::{Snapshot, SnapshotV1};
use crate::door_session::{About, Delivery};
use crate::{Message, door_session};

/// What a client wants of a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientOrder {
    /// Its account.
    pub aor: Aor,
    /// Its binding: account and instance.
    pub contact: Uri,
    /// Its connection.
    pub flow: FlowRef,
    /// The call, as it names it.
    pub name: String,
    /// Id of its message, which the reply repeats.
    pub id: Option<String>,
    /// What it wants.
    pub command: ClientCommand,
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ClientCommand {
    /// The user is shown the call.
    Ringing,
    /// Answers it.
    Answer {
        /// Its answer.
        sdp: Bytes,
    },
    /// Refuses it.
    Reject {
        /// 400 to 699.
        status: u16,
    },
    /// Ends it, or gives it up.
    Hangup,
    /// Offers anew.
    Offer {
        /// Its offer.
        sdp: Bytes,
        /// What for.
        kind: OfferKind,
    },
    /// Answers our new offer.
    Reanswer {
        /// Its answer.
        sdp: Bytes,
    },
    /// Trickles.
    Candidate {
        /// Value of `a=candidate`; `None`: there is no further one.
        candidate: Option<String>,
    },
    /// Sends digits to the far end.
    Digits {
        /// `0`–`9`, `*`, `#`, `A`–`D`.
        digits: String,
        /// Length of each, in milliseconds.
        duration_ms: Option<u16>,
        /// By INFO, not in the media.
        is_info: bool,
    },
    /// What it has measured.
    Stats {
        /// JSON text.
        report: String,
    },
    /// It has a message of ours.
    Ack {
        /// Which.
        number: u64,
    },
    /// Its session asks how far the call is.
    Inquire,
    /// It is back: say again what it may have missed.
    Resumed,
    /// Puts the far end through.
    Transfer {
        /// To whom: `1000`, `1000@domain`, `sip:1000@domain`.
        to: String,
    },
    /// Joins the far end with that of another call of its own.
    Join {
        /// Its dialog of that call.
        dialog: SideKey,
        /// That call, as it names it.
        name: String,
    },
}

/// What a client's new offer is for: the word of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OfferKind {
    /// `held`.
    Hold,
    /// `resumed`.
    Resume,
    /// `reanswer`.
    Reoffer,
}

impl ClientCommand {
    /// Returns the word for it in traces.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            ClientCommand::Ringing => "ringing",
            ClientCommand::Answer { .. } => "answer",
            ClientCommand::Reject { .. } => "reject",
            ClientCommand::Hangup => "hangup",
            ClientCommand::Offer { .. } => "offer",
            ClientCommand::Reanswer { .. } => "reanswer",
            ClientCommand::Candidate { .. } => "candidate",
            ClientCommand::Digits { .. } => "digits",
            ClientCommand::Stats { .. } => "stats",
            ClientCommand::Ack { .. } => "ack",
            ClientCommand::Inquire => "inquire",
            ClientCommand::Resumed => "resumed",
            ClientCommand::Transfer { .. } | ClientCommand::Join { .. } => "transfer",
        }
    }

    /// Returns the octets of its description.
    #[must_use]
    pub const fn sdp_bytes(&self) -> usize {
        match self {
            ClientCommand::Answer { sdp }
            | ClientCommand::Offer { sdp, .. }
            | ClientCommand::Reanswer { sdp } => sdp.len(),
            ClientCommand::Ringing
            | ClientCommand::Reject { .. }
            | ClientCommand::Hangup
            | ClientCommand::Candidate { .. }
            | ClientCommand::Digits { .. }
            | ClientCommand::Stats { .. }
            | ClientCommand::Ack { .. }
            | ClientCommand::Inquire
            | ClientCommand::Resumed
            | ClientCommand::Transfer { .. }
            | ClientCommand::Join { .. } => 0,
        }
    }
}

/// Returns whom to tell that a client gets an `error` for an order, and what.
pub(super) fn refusal(order: &ClientOrder, code: u16, text: &str) -> Option<(ActorId, Message)> {
    let to = order.flow.actor()?;
    if order.command == ClientCommand::Inquire {
        let name = order.name.clone();
        let state = "gone".to_owned();
        return Some((to, door_session::Message::CallState { name, state }.into()));
    }
    let message = ServerMessage::Error {
        code,
        message: text.to_owned(),
        reference: order.id.clone(),
    };
    let delivery = Delivery {
        flow: order.flow,
        name: order.name.clone(),
        message,
        about: About::Reply(order.id.clone()),
        is_last: code == 404,
    };
    Some((
        to,
        door_session::Message::Deliver(Box::new(delivery)).into(),
    ))
}
