//! `media_leg:<uuid>`: the media side of one dialog: its SDP and its place in the media plane.
//!
//! In: descriptions that the call passes on, orders of the call, events of the media plane. Out:
//! reports to the call, commands to the media plane, its part of the record. It sends no SIP, and
//! decides nothing about the call.
//!
//! | state | event | does | next | source |
//! |---|---|---|---|---|
//! | – | Start with a kind of offer | `Open` | Opening | – |
//! | – | Start without | the peer's offer, or what the listener means, decides | Undecided | – |
//! | Undecided | TakeOffer, MakeOffer | `Open` | Opening | RFC 5763 §5, RFC 4568 §5 |
//! | Opening | Opened | port recorded; what waited is described | Open | – |
//! | Opening, Open | Failed | `NoPort` | Closed | `architecture.md` §5 |
//! | Opening, Open | TakeOffer | read and kept; `OfferTaken` or `Unfit` | same | RFC 3264 §5, §6 |
//! | Opening | MakeOffer, MakeAnswer | waits for the port | Opening | – |
//! | Open | MakeOffer | `Described`; the answer is awaited | Open | RFC 3264 §5, §8 |
//! | Open | MakeAnswer | answers what was taken; `Described`, `Configure` | Open | RFC 3264 §6 |
//! | Open | TakeAnswer | `AnswerTaken` or `Unfit`; `Configure` | Open | RFC 3264 §7 |
//! | Open | Join | where packets go; `Configure` | Open | – |
//! | Open | Rollback | an open offer is forgotten; the last agreement holds | Open | RFC 3261 §14.1 |
//! | Open | Reserve | recorded, then `Reserved` | Open | `cluster.md` §7 |
//! | Open | Digit, Timeout | told to the call | Open | RFC 4733 |
//! | Open | Digits | played to the peer | Open | RFC 4733 |
//! | Open | Candidate | `Configure` with it, if it may be sent to | Open | RFC 8838 §5 |
//! | Open | Keyed | recorded, then `Configure` with the keys | Open | RFC 5764 §4.2 |
//! | Open | PathSelected | recorded: a restart goes on from it | Open | `browser.md`, rule 1 |
//! | any | HandOver | `Close`; its part for the call | same | `architecture.md` §4 |
//! | – | TakeUp | as after a take-over | Opening | `architecture.md` §4 |
//! | any | Close | `Close`, `Closed`, Stop | Closed | – |
//! | any | Restored, node started | `Open` with the recorded port, `Configure` past the reserve | Opening | `cluster.md` §7 |
//! | any | Restored, taken over | `Open` of a new port, `Configure` past the reserve | Opening | `cluster.md` §7 |
//! | Open | FirstPacket after a take-over | `Heard` | Open | `cluster.md` §7 |
//! | Open | Restored, else | `Configure` | Open | – |
//!
//! | file | rule |
//! |---|---|
//! | `agreement.rs` | offers and answers of one leg, and what they agreed on |
//! | `settling.rs` | what an agreement changes: numbers, the latch |
//! | `restart.rs` | another start of the node, another node |
//! | `plane.rs` | what the media plane is told of an agreement |
//! | `numbers.rs` | our own stream's numbers, used once |
//! | `protection.rs` | keys, credentials and associations of a protected leg |
//! | `codecs.rs` | codecs by the names of the configuration |

mod agreement;
pub(crate) mod codecs;
mod core;
mod numbers;
mod plane;
mod protection;
mod restart;
mod settling;
mod snapshot;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use contract::{ListenerId, SideKey};
use media::sdp::{Codec, Direction, RemoteMedia};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

pub use self::core::{MediaLeg, Timer};
pub use self::snapshot::{Snapshot, SnapshotV1};

/// What a media leg may be told: orders of its call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Begins a leg (its first message).
    Start {
        /// Listener of the dialog: it says which addresses RTP is bound to and advertised with.
        listener: ListenerId,
        /// Where the peer's signalling comes from.
        sip_source: IpAddr,
        /// Leg whose worker this one shall share.
        beside: Option<SideKey>,
        /// What it offers; `None`: it follows the peer's offer, or, if there is none, the
        /// transport of the listener.
        offering: Option<Offering>,
    },
    /// The peer offers.
    TakeOffer {
        /// Its SDP.
        sdp: Bytes,
    },
    /// The peer answers our offer; a later answer to the same offer replaces an earlier one
    /// (forks behind a proxy).
    TakeAnswer {
        /// Its SDP.
        sdp: Bytes,
    },
    /// Describe an offer.
    MakeOffer {
        /// What to offer.
        want: Want,
    },
    /// Describe the answer to the offer taken last.
    MakeAnswer {
        /// What to allow.
        want: Want,
    },
    /// Where packets of the peer go from now on.
    Join {
        /// Where.
        to: Destination,
        /// The call is answered: silence counts.
        is_watched: bool,
    },
    /// The exchange failed: the last agreement holds.
    Rollback,
    /// The peer trickles a candidate (RFC 8838).
    Candidate {
        /// Value of `a=candidate`, with or without its name.
        candidate: String,
    },
    /// It has no further candidate.
    EndOfCandidates,
    /// Play telephone events to the peer (RFC 4733).
    Digits {
        /// `0`–`9`, `*`, `#`, `A`–`D`.
        digits: String,
        /// Length of each.
        duration: Duration,
    },
    /// Tell the port once more whether it is there (the call was restored).
    Report,
    /// Ends the leg and frees its ports.
    Close,
    /// Stop: the leg goes on in another call.
    HandOver,
    /// First message of a leg that goes on with one of another call.
    TakeUp {
        /// It, as it is stored.
        part: Bytes,
        /// Leg whose worker it shall share.
        beside: Option<SideKey>,
    },
}

/// How an offer of ours is protected and its path found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Offering {
    /// RTP as it is: SIP phones, trunks.
    Rtp,
    /// Keys of the signalling (RFC 4568).
    Sdes,
    /// ICE and DTLS (RFC 8834): browsers.
    Webrtc,
}

/// What an offer or answer of ours shall hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Codecs by preference.
    pub codecs: Codecs,
    /// Direction, as we see it.
    pub direction: Direction,
    /// Packet time, in milliseconds.
    pub ptime: Option<u16>,
}

/// Which codecs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Codecs {
    /// Those of the other side.
    Only(Vec<Codec>),
    /// Those of the configuration.
    Configured,
    /// Those a tone can be played with: PCMU, PCMA.
    Tone,
    /// In an answer: all that were offered.
    Any,
    /// In an offer: those that the leg agreed on, in the direction that it agreed on; those of the
    /// configuration if it agreed on nothing.
    Agreed,
}

impl Want {
    /// Returns what offers or answers one side what the other side said.
    #[must_use]
    pub fn of(stream: &Stream) -> Want {
        Want {
            codecs: Codecs::Only(stream.codecs.clone()),
            direction: stream.direction,
            ptime: stream.ptime,
        }
    }

    /// Returns what the leg and its peer have agreed on already.
    #[must_use]
    pub const fn agreed(ptime: Option<u16>) -> Want {
        Want {
            codecs: Codecs::Agreed,
            direction: Direction::SendRecv,
            ptime,
        }
    }

    /// Returns a stream in both directions with these codecs.
    #[must_use]
    pub const fn both_ways(codecs: Codecs) -> Want {
        Want {
            codecs,
            direction: Direction::SendRecv,
            ptime: None,
        }
    }
}

/// Where packets of a leg's peer go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// To the peer of another leg.
    Relay {
        /// That leg.
        to: SideKey,
        /// What its peer described: the payload types on its wire.
        onward: Vec<Codec>,
    },
    /// Back to the peer.
    Echo,
    /// Nowhere; the peer hears a tone.
    Tone {
        /// Frequency.
        hertz: u32,
        /// Level.
        level_dbm0: i32,
    },
    /// Nowhere.
    Nowhere,
    /// Nowhere; the peer hears that it rings elsewhere, if its codec is one that we can make.
    RingBack,
    /// Nowhere; the peer hears that its call is parked, if its codec is one that we can make.
    Parked,
}

/// What a peer said of its stream, as the other side needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Audio and auxiliary codecs with the payload types on the peer's wire.
    pub codecs: Vec<Codec>,
    /// Direction as the peer sees it.
    pub direction: Direction,
    /// Packet time it wants.
    pub ptime: Option<u16>,
}

impl From<&RemoteMedia> for Stream {
    fn from(remote: &RemoteMedia) -> Self {
        Stream {
            codecs: remote.all_codecs(),
            direction: remote.direction,
            ptime: remote.ptime,
        }
    }
}

/// What a leg tells its call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// The offer was read.
    OfferTaken(Stream),
    /// The answer was read.
    AnswerTaken(Stream),
    /// Our offer or answer.
    Described {
        /// The SDP.
        sdp: Bytes,
    },
    /// The description of the peer cannot be used, or none can be made from it.
    Unfit {
        /// SIP status that says so: 400, 488, 500.
        status: u16,
    },
    /// There is no port.
    NoPort,
    /// The ports are free again; the leg is gone.
    Closed,
    /// Nothing was heard for too long.
    Silent,
    /// A digit came.
    Digit(char),
    /// A packet of the peer came, the first since another node had the leg.
    Heard,
    /// Another node had the leg, and its address came along: the peer need not be told anything.
    Stays,
}

impl Message {
    /// Returns what a trace line says, and the weight in octets.
    #[must_use]
    pub fn describe(&self) -> (String, usize) {
        match self {
            Message::Start { sip_source, .. } => (format!("start for {sip_source}"), 48),
            Message::TakeOffer { sdp } => ("take offer".to_owned(), sdp.len()),
            Message::TakeAnswer { sdp } => ("take answer".to_owned(), sdp.len()),
            Message::MakeOffer { want } => (format!("make offer {:?}", want.direction), 64),
            Message::MakeAnswer { want } => (format!("make answer {:?}", want.direction), 64),
            Message::Join { to, is_watched } => {
                let to = match to {
                    Destination::Relay { to, .. } => format!("side {}", to.number()),
                    Destination::Echo => "echo".to_owned(),
                    Destination::Tone { hertz, .. } => format!("tone {hertz}"),
                    Destination::Nowhere => "nowhere".to_owned(),
                    Destination::RingBack => "ring-back".to_owned(),
                    Destination::Parked => "parked".to_owned(),
                };
                (format!("join {to}, watched {is_watched}"), 64)
            }
            Message::Rollback => ("rollback".to_owned(), 16),
            Message::Candidate { candidate } => ("candidate".to_owned(), candidate.len()),
            Message::EndOfCandidates => ("end of candidates".to_owned(), 16),
            Message::Digits { digits, .. } => (format!("{} digits", digits.len()), 32),
            Message::Report => ("report".to_owned(), 16),
            Message::Close => ("close".to_owned(), 16),
            Message::HandOver => ("hand over".to_owned(), 16),
            Message::TakeUp { part, .. } => ("take up".to_owned(), part.len()),
        }
    }
}

impl Report {
    /// Returns what a trace line says.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Report::OfferTaken(stream) => format!("offer taken, {:?}", stream.direction),
            Report::AnswerTaken(stream) => format!("answer taken, {:?}", stream.direction),
            Report::Described { .. } => "described".to_owned(),
            Report::Unfit { status } => format!("unfit {status}"),
            Report::NoPort => "no port".to_owned(),
            Report::Closed => "closed".to_owned(),
            Report::Silent => "silent".to_owned(),
            Report::Digit(_) => "digit".to_owned(),
            Report::Heard => "heard".to_owned(),
            Report::Stays => "stays".to_owned(),
        }
    }
}
