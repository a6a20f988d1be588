//! `call:<uuid>`: joins dialogs and media legs (B2BUA): their supervisor.
//!
//! In: the INVITE that starts it, targets from registrations, what its dialogs and legs tell. Out:
//! orders to them, its part of the record, events, one call record. It reads no SDP and writes no
//! SIP; it decides who talks to whom, and when it ends.
//!
//! | state | event | does | next |
//! |---|---|---|---|
//! | – | Invite, limit reached | 503 with Retry-After, Stop | – |
//! | – | Invite, Dial | plan; side 1: dialog and leg | Preparing |
//! | Preparing | offer taken, or none | first step of the route | by step |
//! | Preparing, Answering | a leg says nothing for the ring timeout | 500 | Ending |
//! | any | step Answer, Echo, Tone | description for 200 | Answering |
//! | any | step Bridge | `Locate`; of several users: `hunting.rs` | Locating |
//! | any | step Hangup, no step left | end | Ending |
//! | Locating | Located | a leg and dialog a target, best q first | Ringing |
//! | Locating | LocatedAs | the same, or elsewhere as the user has set: `diverting.rs` | Ringing |
//! | any | step PickUp | `WhoCalls` to registrations, then that call is asked (`picking.rs`) | Locating |
//! | any | step Park | `Take` to a place, and waits there, or takes who does (`parking.rs`) | Locating |
//! | any | step Set | `Set` to the caller's own registration | Locating |
//! | Locating | no registration | 404 without such an account, else 480 | Ending |
//! | Locating | only unreachable ones | asks again each second, 8 times | Locating |
//! | Ringing | Progressed | 18x, early media | Ringing |
//! | Ringing | Answered | others are cancelled, description for 200 | Answering |
//! | Ringing | Failed with 415, 488, 606 | the same target with another kind of media | Ringing |
//! | Ringing | Failed | next group of targets; the best response at the end | Ringing, Ending |
//! | Ringing | ring timeout | 480, `NO_ANSWER` | Ending |
//! | Answering | 200 acknowledged | joined | Talking, or next step |
//! | Talking, Ringing | Ask, Come of another call | one of its parties comes: `joining/` | same |
//! | Talking | Offered | relayed to the other side (`exchange.rs`) | Talking |
//! | Talking | Restored, taken over | both parties are told where we are | Talking |
//! | Ringing | Restored, taken over | forks are cancelled, `Locate` | Locating |
//! | any | Trickle, Digits | to the leg that it is for | same |
//! | any | Steer | as an application orders (`steering.rs`) | by order |
//! | any | Cancelled, HungUp, Silent, Hangup, longest call | other sides end | Ending |
//! | Ending | all sides Ended, or 40 s | tombstone, call record, Stop | – |
//!
//! | file | rule |
//! |---|---|
//! | `side.rs` | one side |
//! | `admission.rs` | limits, domain and route of an INVITE |
//! | `steps.rs` | the steps of a route |
//! | `dial_string.rs` | whom the targets of a bridge mean |
//! | `bridge.rs` | targets, forks, who wins |
//! | `hunting.rs` | several users called for one another |
//! | `offering.rs` | what kind of media a callee is offered, which codecs |
//! | `digits.rs` | digits and candidates on their way |
//! | `early.rs` | 18x and early media for the caller |
//! | `answering.rs` | the 200 to the caller |
//! | `exchange.rs` | re-INVITE and UPDATE across the call |
//! | `ending.rs` | the end, its record |
//! | `restart.rs` | what is asked again after a restart |
//! | `takeover.rs` | what is said and asked where another node had the call |
//! | `bequest.rs` | what another node had answered meanwhile |
//! | `undelivered.rs` | what comes back |
//! | `transfer.rs` | a party is put through to somebody else |
//! | `waiting.rs` | whether a user who wants no call beside another is in one |
//! | `picking.rs` | a caller picks up a call that rings somebody else |
//! | `steering.rs` | what applications order |
//! | `parking.rs` | a call is parked, and taken from there |
//! | `joining/` | a party comes in the place of a party of another call |
//! | `timers.rs` | its deadlines |
//! | `outcome.rs` | best response, causes |

mod admission;
mod answering;
mod bequest;
mod bridge;
mod core;
pub mod dial_string;
mod digits;
mod diverting;
mod early;
mod ending;
mod exchange;
mod hunting;
mod joining;
mod offering;
pub(crate) mod outcome;
mod parking;
mod picking;
mod restart;
mod side;
mod snapshot;
mod steering;
mod steps;
mod takeover;
#[cfg(test)]
mod tests;
mod timers;
mod transfer;
mod undelivered;
mod waiting;

use std::time::Duration;

use bytes::Bytes;
use contract::{ActorId, CallKey, FlowRef};
use serde::{Deserialize, Serialize};
use sip::{Aor, Uri};

pub(crate) use self::core::CALLER;
pub use self::core::{Call, Timer};
pub use self::diverting::Diversion;
pub use self::joining::{Ask, Coming, PickUp, Replaces, Stopped, Word};
pub use self::snapshot::{Snapshot, SnapshotV1, SnapshotV2, SnapshotV3};
pub use self::steering::{Order, Party, Steer};
pub use self::transfer::Refer;
use crate::registration::settings::{Fault, Settings};
use crate::{Inbound, Target, media_leg, parking as places};

/// What a call may be told. `side` is the number of the side that tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// An INVITE that starts the call, or the same once more.
    Invite(Inbound),
    /// A JSON client calls somebody, or the same once more.
    Dial(Box<Dial>),
    /// A CANCEL of that INVITE.
    Cancel(Inbound),
    /// A registration answers `Locate`; targets by q, then the newest first.
    Located {
        /// Whose.
        aor: Aor,
        /// The ways to reach it.
        targets: Vec<Target>,
    },
    /// The operator ends the call.
    Hangup {
        /// Q.850 cause word.
        cause: String,
    },
    /// A callee's dialog got a provisional response above 100.
    Progressed {
        /// Which.
        side: u8,
        /// 101 to 199.
        status: u16,
        /// Its SDP.
        sdp: Option<Bytes>,
    },
    /// A callee's dialog got its first 2xx.
    Answered {
        /// Which.
        side: u8,
        /// Its SDP.
        sdp: Option<Bytes>,
    },
    /// A callee's dialog got a final refusal, or none in time.
    Failed {
        /// Which.
        side: u8,
        /// 300 to 699.
        status: u16,
    },
    /// The peer acknowledged our 2xx, to the first or a later INVITE.
    Acknowledged {
        /// Which.
        side: u8,
        /// SDP of the ACK.
        sdp: Option<Bytes>,
    },
    /// The caller cancelled; the dialog has answered both requests.
    Cancelled {
        /// Which: 1.
        side: u8,
    },
    /// A peer offers anew.
    Offered {
        /// Which.
        side: u8,
        /// Its SDP; `None`: it wants our offer.
        sdp: Option<Bytes>,
    },
    /// A peer accepted our new offer.
    OfferAnswered {
        /// Which.
        side: u8,
        /// Its SDP.
        sdp: Option<Bytes>,
    },
    /// A peer refused our new offer; the dialog lives.
    OfferRefused {
        /// Which.
        side: u8,
        /// 300 to 699.
        status: u16,
    },
    /// A peer hung up, or its dialog is lost.
    HungUp {
        /// Which.
        side: u8,
        /// Q.850 cause word.
        cause: String,
    },
    /// A peer sent a digit by INFO.
    Info {
        /// Which.
        side: u8,
        /// Type of the body.
        content_type: String,
        /// The body.
        body: Bytes,
    },
    /// A peer trickles a candidate (RFC 8838), for its own leg.
    Trickle {
        /// Which.
        side: u8,
        /// Value of `a=candidate`; `None`: there is no further one.
        candidate: Option<String>,
    },
    /// A peer wants digits played to the other.
    Digits {
        /// Which.
        side: u8,
        /// `0`–`9`, `*`, `#`, `A`–`D`.
        digits: String,
        /// Length of each.
        duration: Duration,
    },
    /// A dialog has nothing left to do.
    Ended {
        /// Which.
        side: u8,
    },
    /// A media leg tells something.
    Media {
        /// Which.
        side: u8,
        /// What.
        report: media_leg::Report,
    },
    /// A node that was cut off had the call, too: what it has done meanwhile.
    Bequest {
        /// Parts of its record.
        parts: Vec<(ActorId, Bytes)>,
        /// Its dialogs with whom it alone has called.
        unknown: Vec<ActorId>,
    },
    /// A peer wants the other one put through (RFC 3515).
    Refer {
        /// Which.
        side: u8,
        /// To whom.
        refer: Box<Refer>,
    },
    /// A registration answers `Locate`, whose user has set something for its calls.
    LocatedAs {
        /// Whose.
        aor: Aor,
        /// The ways to reach it.
        targets: Vec<Target>,
        /// What it has set.
        settings: Box<Settings>,
        /// Other calls that it may be in, if it wants none beside another. Bound: `ENGAGED_CALLS_MAX`.
        engaged: Vec<CallKey>,
    },
    /// A registration answers `Set`.
    IsSet(Result<(), Fault>),
    /// A party of one call comes in the place of a party of another.
    Join {
        /// Which one of this call it is about.
        side: u8,
        /// What is said.
        word: Word,
    },
    /// A registration answers `WhoCalls`.
    WhoCalls {
        /// Whose.
        aor: Aor,
        /// The calls that have looked for it, the oldest first, and for how many milliseconds they do.
        calls: Vec<(CallKey, u32)>,
    },
    /// An application orders something.
    Steer(Box<Steer>),
    /// A place where calls are parked answers, or asks.
    Park {
        /// Which.
        place: ActorId,
        /// What it says.
        word: places::Word,
    },
    /// Another call asks whether a user is with this one; answered by `With`.
    IsWith {
        /// Who.
        aor: Aor,
        /// The call that asks.
        reply: CallKey,
    },
    /// Another call answers `IsWith`.
    With {
        /// Who.
        aor: Aor,
        /// The call that answers.
        call: CallKey,
        /// The user calls, is called, rings or talks there.
        is_with: bool,
    },
}

/// A JSON client calls somebody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dial {
    /// Its account: From of the call, whatever it says of itself.
    pub aor: Aor,
    /// Its binding.
    pub contact: Uri,
    /// Its connection.
    pub flow: FlowRef,
    /// Its name of the call: with the account, the call's key.
    pub name: String,
    /// Id of its message, which replies repeat.
    pub request: Option<String>,
    /// Whom: `1000`, `1000@domain`, `sip:1000@domain`.
    pub to: String,
    /// Its offer.
    pub sdp: Bytes,
}

impl Message {
    /// Returns what a trace line says, and the weight in octets.
    #[must_use]
    pub fn describe(&self) -> (String, usize) {
        let weight = |sdp: &Option<Bytes>| sdp.as_ref().map_or(16, Bytes::len);
        match self {
            Message::Invite(inbound) => (
                format!("INVITE on {}", inbound.flow),
                inbound.request.bytes().len(),
            ),
            Message::Dial(dial) => (format!("dial on {}", dial.flow), dial.sdp.len() + 128),
            Message::Cancel(inbound) => (
                format!("CANCEL on {}", inbound.flow),
                inbound.request.bytes().len(),
            ),
            Message::Located { targets, .. } | Message::LocatedAs { targets, .. } => {
                (format!("located {}", targets.len()), 64)
            }
            Message::IsSet(Ok(())) => ("is set".to_owned(), 16),
            Message::IsSet(Err(fault)) => (format!("is not set: {}", fault.why), 64),
            Message::Hangup { cause } => (format!("hang up {cause}"), 32),
            Message::Progressed { side, status, sdp } => {
                (format!("side {side} progressed {status}"), weight(sdp))
            }
            Message::Answered { side, sdp } => (format!("side {side} answered"), weight(sdp)),
            Message::Failed { side, status } => (format!("side {side} failed {status}"), 16),
            Message::Acknowledged { side, sdp } => {
                (format!("side {side} acknowledged"), weight(sdp))
            }
            Message::Cancelled { side } => (format!("side {side} cancelled"), 16),
            Message::Offered { side, sdp } => (format!("side {side} offers"), weight(sdp)),
            Message::OfferAnswered { side, sdp } => {
                (format!("side {side} answered the offer"), weight(sdp))
            }
            Message::OfferRefused { side, status } => {
                (format!("side {side} refused the offer {status}"), 16)
            }
            Message::HungUp { side, cause } => (format!("side {side} hung up {cause}"), 32),
            Message::Info { side, body, .. } => (format!("side {side} info"), body.len()),
            Message::Trickle { side, candidate } => (
                format!("side {side} trickles"),
                candidate.as_ref().map_or(16, String::len),
            ),
            Message::Digits { side, digits, .. } => {
                (format!("side {side}: {} digits", digits.len()), 32)
            }
            Message::Ended { side } => (format!("side {side} ended"), 16),
            Message::Media { side, report } => (format!("leg {side}: {}", report.describe()), 64),
            Message::Bequest { parts, .. } => {
                let octets = parts.iter().map(|(_, part)| part.len()).sum();
                (format!("bequest of {} parts", parts.len()), octets)
            }
            Message::Refer { side, refer } => (format!("side {side} refers to {}", refer.to), 64),
            Message::IsWith { reply, .. } => (format!("is it with this one, for {reply}"), 64),
            Message::With { call, is_with, .. } => (format!("with {call}: {is_with}"), 64),
            Message::WhoCalls { calls, .. } => (format!("{} call", calls.len()), 64),
            Message::Steer(steer) => (format!("order {:?}", steer.order), 128),
            Message::Park { place, word } => (format!("{place}: {}", word.describe()), 64),
            Message::Join { side, word } => {
                let (what, octets) = word.describe();
                (format!("side {side}: {what}"), octets)
            }
        }
    }
}
