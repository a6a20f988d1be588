//! `dialog:<uuid>`: one side of a call: its SIP dialog (RFC 3261 §12–15).
//!
//! In: requests and responses that lanes pass on, orders of the call. Out: requests and responses
//! for lanes, what happened for the call, its part of the record. It knows one peer and no other
//! side; SDP passes through it unread. What the outside will learn is safe on disk before a lane
//! is told it; only 100 Trying needs no record.
//!
//! | state | event | does | next | source |
//! |---|---|---|---|---|
//! | – | Serve | 100 | Incoming | RFC 3261 §13.3 |
//! | Incoming, Early | Progress | gated, 18x | Early | §13.3.1.1 |
//! | Incoming, Early | Accept | gated, 200, repeated from T1 to T2 | Accepted | §13.3.1.4 |
//! | Incoming, Early | End | final response, `Ended` | Ended | §13.3.1.3 |
//! | Incoming, Early | Cancelled, same source | 200, 487, `Cancelled`, `Ended` | Ended | §9.2 |
//! | Accepted | ACK | `Acknowledged` | Confirmed | §13.3.1.4 |
//! | Accepted | no ACK for 64·T1 | BYE, `HungUp` | Ending | §13.3.1.4 |
//! | Accepted | End | waits for the ACK | Accepted | §15 |
//! | – | Invite | gated, INVITE | Calling | §13.2.1 |
//! | Calling | provisional | `Progressed` if above 100; CANCEL if it waits | Proceeding | §13.2.2.1 |
//! | Calling | End | CANCEL waits for a provisional | Calling | §9.1 |
//! | Proceeding | End | CANCEL | Cancelling | §9.1 |
//! | Calling, Proceeding | 2xx | `Answered`, gated, ACK | Confirmed | §13.2.2.4 |
//! | Calling, Proceeding | 3xx–6xx, failure | `Failed`, `Ended` | Ended | §13.2.2.3, §8.1.3.1 |
//! | Cancelling | 2xx | ACK, BYE | Ending | §15 |
//! | Cancelling | 3xx–6xx, 34 s | `Ended` | Ended | §9.1 |
//! | Proceeding, connection gone | – | `Failed`; the CANCEL waits for the peer, at most 8 s | Cancelling | `architecture.md` §7 |
//! | Cancelling | 1 s, its Contact registered over another connection | CANCEL there, BYE of an early dialog | Ending | §15 |
//! | any | 2xx again, same tag | the ACK again | same | §13.2.2.4 |
//! | any | 2xx of another tag | ACK, BYE there | same | §13.2.2.4 |
//! | Confirmed | INVITE, UPDATE with SDP | `Offered`; 491 or 500 if one is open | Confirmed | §14.2, RFC 3311 §5.2 |
//! | Confirmed | AcceptOffer, RefuseOffer | gated, its response | Confirmed | §14.2 |
//! | Confirmed | Offer | gated, re-INVITE | Confirmed | §14.1 |
//! | Confirmed | 2xx to it | `OfferAnswered`, gated, ACK | Confirmed | §14.1 |
//! | Confirmed | other final to it | `OfferRefused`; 408, 481: BYE, `HungUp` | Confirmed | §12.2.1.2 |
//! | Confirmed | BYE | 200, `HungUp`, `Ended` | Ended | §15.1.2 |
//! | Confirmed | End | gated CSeq, BYE | Ending | §15.1.1 |
//! | Ending | final or failure of BYE, 34 s | `Ended` | Ended | §15.1.1 |
//! | any | request of another source | 481; 407 if it knows a connection, which may be gone | same | `threats.md` 24 |
//! | any | response of another source, or without our tag in From | nothing | same | `threats.md` 24, §8.2.6.2 |
//! | Confirmed | INFO with a digit, with candidates | `Info`, `Trickle` | Confirmed | RFC 8840 §4.4 |
//! | Confirmed | REFER | `Refer`; 491 if one is open | Confirmed | RFC 3515 §2.4.2 |
//! | Confirmed | AcceptRefer | gated, 202, NOTIFY 100 | Confirmed | RFC 3515 §2.4.4 |
//! | Confirmed | RefuseRefer | its status | Confirmed | RFC 3515 §2.4.2 |
//! | Confirmed | ReferProgress | NOTIFY with that status | Confirmed | RFC 3515 §2.4.5 |
//! | any | Replace, of another call | `Ask` if tags and Call-ID are its own | same | RFC 3891 §3 |
//! | Confirmed | HandOver | its part for the call; everything is passed on | same | `architecture.md` §4 |
//! | – | TakeUp | goes on, as after a take-over | Confirmed | `architecture.md` §4 |
//! | Confirmed | Move | gated, re-INVITE; tried again after a 491 | Confirmed | `cluster.md` §7, §14.1 |
//! | any | Restored, taken over | by state: `takeover.rs` | same | `cluster.md` §7 |
//! | any | a lane or the call is full | told again after 100 ms | same | – |
//! | any, connection gone | its Contact registered over another | what waits is sent there | same | `architecture.md` §7 |
//! | any, connection gone | a request or response over it | it is there: what waits is sent | same | `architecture.md` §7 |
//!
//! | file | rule |
//! |---|---|
//! | `server.rs` | the INVITE of a caller |
//! | `client.rs` | the INVITE to a callee |
//! | `ack.rs` | ACKs of 2xx, kept and repeated |
//! | `inside.rs` | requests in a dialog: whose they are, what each method does |
//! | `offer.rs` | re-INVITE and UPDATE, both ways |
//! | `finish.rs` | BYE, and what waits for a lost connection |
//! | `restart.rs` | what is sent again after a restart |
//! | `takeover.rs` | what is closed, and said anew, where another node had the call |
//! | `outbox.rs` | the order of stores and tells |
//! | `session_timer.rs` | Session-Expires (RFC 4028) |
//! | `writing.rs` | Via, Contact and the INVITE to a callee |
//! | `wire.rs` | stored octets |
//! | `signal.rs` | the digit of an INFO |
//! | `joining.rs` | a dialog that goes on in another call (RFC 3891) |
//! | `refer.rs` | REFER, and NOTIFY of how it goes (RFC 3515) |
//! | `trickle.rs` | candidates of an INFO (RFC 8840) |
//!
//! A side that speaks JSON has a core of its own with the same vocabulary: `json/`.

mod ack;
mod client;
mod core;
mod finish;
mod inside;
mod joining;
pub mod json;
mod offer;
mod outbox;
mod refer;
mod restart;
mod server;
mod session_timer;
pub(crate) mod signal;
mod snapshot;
mod takeover;
#[cfg(test)]
mod tests;
mod trickle;
pub(crate) mod wire;
mod writing;

use bytes::Bytes;
use contract::{FlowRef, SideKey};
use serde::{Deserialize, Serialize};
use sip::{Aor, NameAddr};

pub use self::core::{Dialog, Timer};
pub use self::json::{ClientCommand, ClientOrder, OfferKind};
pub use self::snapshot::{Form, Snapshot, SnapshotV1, SnapshotV2};
use crate::{Inbound, Target, call};

/// What a dialog may be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// A lane has a request with a tag of ours in To.
    Request(Inbound),
    /// A lane has a response to a request of ours.
    Response {
        /// The response.
        #[serde(with = "crate::wire::sip_message")]
        response: sip::Message,
        /// How it came.
        flow: FlowRef,
    },
    /// A request of ours ended without a response.
    RequestFailed {
        /// Branch of its Via.
        branch: String,
        /// Why.
        why: RequestFailure,
    },
    /// First message of side 1: the INVITE of the caller.
    Serve(Inbound),
    /// First message of the other sides: call somebody.
    Invite(Box<Invite>),
    /// The INVITE came again: its transaction was lost.
    Retransmitted(Inbound),
    /// A CANCEL came for the INVITE; answered only if it has the INVITE's source.
    Cancelled(Inbound),
    /// Send a provisional response.
    Progress {
        /// 101 to 199.
        status: u16,
        /// Its SDP.
        sdp: Option<Bytes>,
    },
    /// Send 200 to the INVITE.
    Accept {
        /// Its SDP.
        sdp: Option<Bytes>,
    },
    /// Send the ACK that waits for an answer: to a 2xx whose INVITE had no SDP.
    Acknowledge {
        /// Its SDP.
        sdp: Option<Bytes>,
    },
    /// Send a re-INVITE.
    Offer {
        /// Its SDP.
        sdp: Option<Bytes>,
        /// Try again after a 491, when RFC 3261 §14.1 says.
        retries: bool,
    },
    /// Accept the open re-INVITE or UPDATE.
    AcceptOffer {
        /// The answer's SDP.
        sdp: Option<Bytes>,
    },
    /// Refuse the open re-INVITE or UPDATE.
    RefuseOffer {
        /// 300 to 699.
        status: u16,
    },
    /// Send an INFO.
    Info {
        /// Type of its body.
        content_type: String,
        /// Its body.
        body: Bytes,
    },
    /// End this side, whatever its state: a final response, CANCEL or BYE.
    End {
        /// Final response if the INVITE has none yet.
        status: u16,
        /// Q.850 cause word for the Reason header (RFC 3326).
        cause: String,
    },
    /// A registration answers where its user can be reached: the peer's connection is gone.
    Located {
        /// The ways to reach it.
        targets: Vec<Target>,
    },
    /// First message of side 1 of a call that a JSON client makes, or the same once more.
    Dial(Box<call::Dial>),
    /// A JSON client wants something of its call.
    Client(Box<ClientOrder>),
    /// A connection that was watched is gone.
    FlowGone {
        /// Which.
        flow: FlowRef,
    },
    /// The far end sent a digit in its media: told to whom hears none in its own.
    Digit {
        /// `0`–`9`, `*`, `#`, `A`–`D`.
        digit: char,
    },
    /// Tell the call once more how far this side is (the call was restored).
    Report,
    /// Tell the peer our new address: another node had the call.
    Move {
        /// Our new offer; `None`: what the peer was described last holds.
        sdp: Option<Bytes>,
    },
    /// First message of a side that ends a dialog which a cut-off node had.
    Inherit {
        /// It, as that node has stored it.
        part: Bytes,
    },
    /// Take the open REFER.
    AcceptRefer,
    /// Refuse the open REFER.
    RefuseRefer {
        /// 300 to 699.
        status: u16,
    },
    /// Tell the peer how what it has referred to goes.
    ReferProgress {
        /// 100 to 699.
        status: u16,
        /// Nothing follows.
        is_last: bool,
    },
    /// First message of a side: call somebody to whom others have sent the call.
    InviteDiverted {
        /// Whom.
        invite: Box<Invite>,
        /// Who has sent it, the first one first.
        path: Vec<call::Diversion>,
    },
    /// A party of another call wants to come in the peer's place.
    Replace(Box<call::Ask>),
    /// Stop: the dialog goes on in another call.
    HandOver {
        /// As that side.
        to: SideKey,
    },
    /// It is there.
    HandedOver,
    /// First message of a side that goes on with a dialog of another call.
    TakeUp {
        /// It, as it is stored.
        part: Bytes,
        /// Its side there.
        from: SideKey,
    },
    /// The dialog has ended where it went on.
    Left,
    /// Is it still there?
    Look,
}

impl Message {
    /// Returns whom a first message calls, and who has sent the call there.
    pub(super) fn invited(&self) -> Option<(&Invite, &[call::Diversion])> {
        if let Message::Invite(invite) = self {
            return Some((invite, &[]));
        }
        if let Message::InviteDiverted { invite, path } = self {
            return Some((invite, path));
        }
        None
    }
}

/// Why a request ended without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestFailure {
    /// No response for 64·T1.
    TimedOut,
    /// The connection is gone, or could not be used.
    Unreachable,
}

/// Whom to call, and as whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invite {
    /// The way to the callee.
    pub target: Target,
    /// The callee's address of record: To, and whose digest counts in the dialog.
    pub callee: Aor,
    /// From, without tag.
    pub from: NameAddr,
    /// Hops left.
    pub max_forwards: u8,
    /// Our offer, if any.
    pub sdp: Option<Bytes>,
}

impl Message {
    /// Returns what a trace line says, and the weight in octets.
    #[must_use]
    pub fn describe(&self) -> (String, usize) {
        let weight = |sdp: &Option<Bytes>| sdp.as_ref().map_or(16, Bytes::len);
        let inbound = |what: &str, inbound: &Inbound| {
            let request = &inbound.request;
            (
                format!("{what} {} on {}", request.method(), inbound.flow),
                request.bytes().len(),
            )
        };
        match self {
            Message::Request(request) => inbound("request", request),
            Message::Serve(request) => inbound("serve", request),
            Message::Retransmitted(request) => inbound("again", request),
            Message::Cancelled(request) => inbound("cancelled by", request),
            Message::Response { response, flow } => {
                let status = response.status().unwrap_or_default();
                (
                    format!("{status} to {} on {flow}", response.method()),
                    response.bytes().len(),
                )
            }
            Message::RequestFailed { why, .. } => (format!("request failed: {why:?}"), 64),
            Message::Invite(invite) | Message::InviteDiverted { invite, .. } => (
                format!("invite over {}", invite.target.flow),
                weight(&invite.sdp),
            ),
            Message::Progress { status, sdp } => (format!("progress {status}"), weight(sdp)),
            Message::Accept { sdp } => ("accept".to_owned(), weight(sdp)),
            Message::Acknowledge { sdp } => ("acknowledge".to_owned(), weight(sdp)),
            Message::Offer { sdp, .. } => ("offer".to_owned(), weight(sdp)),
            Message::AcceptOffer { sdp } => ("accept offer".to_owned(), weight(sdp)),
            Message::RefuseOffer { status } => (format!("refuse offer {status}"), 16),
            Message::Info { body, .. } => ("info".to_owned(), body.len()),
            Message::End { status, cause } => (format!("end {status} {cause}"), 32),
            Message::Located { targets } => (format!("located {}", targets.len()), 64),
            Message::Dial(dial) => (format!("dial over {}", dial.flow), dial.sdp.len() + 128),
            Message::Client(order) => (
                format!("client wants {}", order.command.word()),
                order.command.sdp_bytes() + 128,
            ),
            Message::FlowGone { flow } => (format!("gone: {flow}"), 32),
            Message::Digit { .. } => ("digit".to_owned(), 16),
            Message::Report => ("report".to_owned(), 16),
            Message::Move { sdp } => ("move".to_owned(), weight(sdp)),
            Message::Inherit { part } => ("inherit".to_owned(), part.len()),
            Message::AcceptRefer => ("accept REFER".to_owned(), 16),
            Message::RefuseRefer { status } => (format!("refuse REFER {status}"), 16),
            Message::ReferProgress { status, is_last } => {
                (format!("referred: {status}, last {is_last}"), 16)
            }
            Message::Replace(ask) => (format!("replaced by {}?", ask.from), 256),
            Message::HandOver { to } => (format!("hand over to {to}"), 32),
            Message::HandedOver => ("handed over".to_owned(), 16),
            Message::TakeUp { part, from } => (format!("take up {from}"), part.len()),
            Message::Left => ("left".to_owned(), 16),
            Message::Look => ("look".to_owned(), 16),
        }
    }
}
