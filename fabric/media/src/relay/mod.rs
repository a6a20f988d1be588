//! The relay table: what happens to every RTP and RTCP packet of every leg, protected or not.
//!
//! In: `LegConfig`s of media legs, packets with source and time, ticks. Out: a verdict for each
//! packet (rewritten in place), tone frames, digits, events of legs. The media plane's workers and
//! the simulator's media model run this same table. It owns no socket and no clock, and allocates
//! nothing for a packet. It neither finds paths nor shakes hands: STUN and DTLS never come here.
//!
//! ```text
//!  packet ▶ unprotect ▶ latch ▶ source ▶ events ▶ route ▶ sender ▶ protect ▶ verdict
//!           (of the     (whose) (RFC 3550 (digits) relay,  (our SSRC, (of the leg
//!            leg it              A.1, A.8)         echo,    sequence,  it goes to)
//!            came to)                              tone     reserve)
//! ```
//!
//! The rules stand alone: whose packets are taken in `latch.rs`, loss, jitter and doubles in
//! `source.rs`, our own numbers in `sender.rs`, keys and spent indices in `shield.rs`, what we play
//! ourselves in `digits.rs` and `played.rs`, legs that have moved in `linger.rs`; `leg.rs` joins them for one leg, `table.rs` for all. What ciphers is
//! behind `Srtp`.

mod digits;
mod latch;
mod leg;
mod linger;
mod played;
mod sender;
mod shield;
mod source;
mod srtp;
mod table;

#[cfg(test)]
mod digits_tests;
#[cfg(test)]
mod linger_tests;
#[cfg(test)]
mod protected_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod toy;

use std::net::SocketAddr;

use contract::{FaultClass, SideKey};

use crate::tone::ToneError;

pub use sender::recovered_timestamp;
pub use srtp::{NoSrtp, SRTP_TAIL_BYTES, Srtp, SrtpError, SrtpFault, SrtpMaker, SrtpStart};
pub use table::RelayTable;

/// What is to be done with a packet. The octets have been rewritten where they are to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it from the socket of another leg.
    Forward {
        /// That leg.
        to_leg: SideKey,
        /// Where to.
        to: SocketAddr,
        /// Octets to send, from the first.
        length: usize,
        /// It leaves from that leg's RTCP socket; else from the one of RTP, which multiplexed RTCP
        /// shares (RFC 5761).
        is_rtcp: bool,
    },
    /// Send it back from the RTP socket it came to.
    Reflect {
        /// Where to.
        to: SocketAddr,
        /// Octets to send, from the first.
        length: usize,
    },
    /// Send nothing.
    Drop(DropReason),
}

/// Why a packet is not sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// The leg is not open.
    UnknownLeg,
    /// The leg is open but not configured.
    Unconfigured,
    /// Not RTP on the RTP port, or not RTCP on the RTCP port.
    Malformed,
    /// The latching rules refuse the source (threats.md 17).
    WrongSource,
    /// The source may be latched, but is not yet: taken from nowhere we know.
    Latching,
    /// The packet was there before.
    Duplicate,
    /// The packet is too old to be placed.
    Late,
    /// The sequence jumped; the next packet in the new sequence is taken.
    SequenceJump,
    /// Our own packet came back while echoing.
    Looped,
    /// The direction of one of the legs forbids it.
    Direction,
    /// The route ends here: a tone is played, the leg is on hold or not joined.
    NoRoute,
    /// The other leg is not open or not configured.
    NoPeer,
    /// The other peer's address is not known.
    NoTarget,
    /// The payload type has no counterpart on the other leg.
    UnmappedPayload,
    /// The next block of sequence numbers is not recorded yet.
    ReserveExhausted,
    /// The keys of one of the legs are not there yet.
    Unkeyed,
    /// Its protection is wrong, or it was replayed.
    Unprotected,
    /// It could not be protected.
    Unprotectable,
    /// Digits are played to the peer instead.
    Digits,
}

impl DropReason {
    /// Every reason, in order.
    pub const ALL: [DropReason; 19] = [
        DropReason::UnknownLeg,
        DropReason::Unconfigured,
        DropReason::Malformed,
        DropReason::WrongSource,
        DropReason::Latching,
        DropReason::Duplicate,
        DropReason::Late,
        DropReason::SequenceJump,
        DropReason::Looped,
        DropReason::Direction,
        DropReason::NoRoute,
        DropReason::NoPeer,
        DropReason::NoTarget,
        DropReason::UnmappedPayload,
        DropReason::ReserveExhausted,
        DropReason::Unkeyed,
        DropReason::Unprotected,
        DropReason::Unprotectable,
        DropReason::Digits,
    ];

    /// Returns the reason's name, as a label of a metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DropReason::UnknownLeg => "unknown_leg",
            DropReason::Unconfigured => "unconfigured",
            DropReason::Malformed => "malformed",
            DropReason::WrongSource => "wrong_source",
            DropReason::Latching => "latching",
            DropReason::Duplicate => "duplicate",
            DropReason::Late => "late",
            DropReason::SequenceJump => "sequence_jump",
            DropReason::Looped => "looped",
            DropReason::Direction => "direction",
            DropReason::NoRoute => "no_route",
            DropReason::NoPeer => "no_peer",
            DropReason::NoTarget => "no_target",
            DropReason::UnmappedPayload => "unmapped_payload",
            DropReason::ReserveExhausted => "reserve_exhausted",
            DropReason::Unkeyed => "unkeyed",
            DropReason::Unprotected => "unprotected",
            DropReason::Unprotectable => "unprotectable",
            DropReason::Digits => "digits",
        }
    }
}

/// A command on the table cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// `MEDIA_LEGS_MAX` legs are open.
    #[error("opening media leg {0}: the table is full")]
    Full(SideKey),
    /// The leg is open already.
    #[error("opening media leg {0}: it is open")]
    AlreadyOpen(SideKey),
    /// The leg is not open.
    #[error("configuring media leg {0}: it is not open")]
    NotOpen(SideKey),
    /// The tone of its route cannot be made; the leg keeps its former configuration.
    #[error("configuring media leg {leg}")]
    Tone {
        /// The leg.
        leg: SideKey,
        /// Why.
        #[source]
        cause: ToneError,
    },
    /// The contexts of its keys cannot be made; the leg keeps its former configuration.
    #[error("configuring media leg {leg}")]
    Srtp {
        /// The leg.
        leg: SideKey,
        /// Why.
        #[source]
        cause: SrtpError,
    },
}

impl TableError {
    /// Tells whose fault it is.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            TableError::Full(_) => FaultClass::Overload,
            TableError::AlreadyOpen(_) | TableError::NotOpen(_) => FaultClass::Bug,
            TableError::Tone { cause, .. } => cause.class(),
            TableError::Srtp { cause, .. } => cause.class(),
        }
    }
}
