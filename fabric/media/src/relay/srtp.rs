//! What protects the packets of one leg (RFC 3711, RFC 7714), as the relay table sees it.
//!
//! In: packets with tail room, the roll-over counter of each that is sent. Out: the same packets
//! protected, or taken out of their protection; how far both directions are. The table decides
//! which number a packet gets and whether it may be sent at all; an implementation only ciphers. The
//! media plane's is on webrtc-srtp; the table's own tests have a toy.

use std::fmt;

use contract::limits::SRTP_STREAMS_MAX;
use contract::{FaultClass, ReceivedIndex, SrtpKeys, SrtpProfile};

/// Octets that protection adds at most: the tag of GCM and the index word of SRTCP (RFC 7714 §9).
/// Buffers of packets that are to be sent need as many behind the packet.
pub const SRTP_TAIL_BYTES: usize = 20;

/// A packet was not protected, or not taken out of its protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum SrtpFault {
    /// It is too short, or no RTP or RTCP packet.
    #[error("reading SRTP: lengths do not fit the packet")]
    Malformed,
    /// The tag is wrong, or an SRTCP packet is not encrypted.
    #[error("reading SRTP: the packet is not authentic")]
    NotAuthentic,
    /// The packet was there before, or is older than the window can tell.
    #[error("reading SRTP: the packet was replayed or is too old")]
    Replayed,
    /// The buffer has no `SRTP_TAIL_BYTES` behind the packet.
    #[error("protecting a packet: no room behind it")]
    NoRoom,
    /// The packet's SSRC is not the one that the protection was made for, or all indices are used.
    #[error("protecting a packet: its numbers may not be used")]
    Numbers,
}

impl SrtpFault {
    /// Tells whose fault it is: the peer's, or ours where we cannot protect.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            SrtpFault::Malformed | SrtpFault::NotAuthentic | SrtpFault::Replayed => {
                FaultClass::Reject
            }
            SrtpFault::NoRoom | SrtpFault::Numbers => FaultClass::Bug,
        }
    }
}

/// A protection cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SrtpError {
    /// The implementation does not have the profile.
    #[error("making SRTP contexts: {} is not available", .0.suite())]
    Unsupported(SrtpProfile),
    /// A key or salt has not the octets of its profile.
    #[error("making SRTP contexts: a key or salt has not the length that {} wants", .0.suite())]
    KeyLength(SrtpProfile),
    /// Our numbers are so far that contexts cannot be brought there in reasonable time: the leg
    /// wants new keys.
    #[error("making SRTP contexts: the recorded indices are too far")]
    TooFar,
}

impl SrtpError {
    /// Tells whose fault it is: profiles and lengths are checked when keys are agreed on.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            SrtpError::Unsupported(_) | SrtpError::KeyLength(_) => FaultClass::Bug,
            SrtpError::TooFar => FaultClass::Overload,
        }
    }
}

/// Protection of one leg, both directions.
///
/// Nothing that fails changes any state: a forged packet teaches nothing.
pub trait Srtp: Send + fmt::Debug {
    /// Protects the RTP packet in the first `length` octets of `buffer` and returns its new length.
    /// `rollover` is the roll-over counter of its sequence number; packets may come out of order.
    ///
    /// # Errors
    /// `Malformed`, `NoRoom`, `Numbers`.
    fn protect_rtp(
        &mut self,
        buffer: &mut [u8],
        length: usize,
        rollover: u32,
    ) -> Result<usize, SrtpFault>;

    /// Checks an SRTP packet, takes it out of its protection and returns its new length.
    ///
    /// # Errors
    /// `Malformed`, `NotAuthentic`, `Replayed`.
    fn unprotect_rtp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpFault>;

    /// Protects an RTCP compound with the next index and returns its new length.
    ///
    /// # Errors
    /// `Malformed`, `NoRoom`, `Numbers`.
    fn protect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpFault>;

    /// Checks an SRTCP packet, takes it out of its protection and returns its new length.
    ///
    /// # Errors
    /// `Malformed`, `NotAuthentic`, `Replayed`.
    fn unprotect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpFault>;

    /// Returns the index that the next RTCP packet of ours gets.
    fn rtcp_index(&self) -> u32;

    /// Returns how far the peer's RTP streams are, the latest first. Bound: `SRTP_STREAMS_MAX`.
    fn received(&self) -> Vec<ReceivedIndex>;

    /// Returns how many packets webrtc-srtp contexts have protected and unprotected.
    fn library_packets(&self) -> u64;
}

/// Where a protection starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SrtpStart {
    /// Our SSRC.
    pub ssrc: u32,
    /// First sequence number of ours.
    pub sequence_start: u16,
    /// Its roll-over counter.
    pub rollover_start: u32,
}

/// Makes protections.
pub trait SrtpMaker: Send + Sync + fmt::Debug {
    /// Makes the protection of one leg. The peer's streams go on from `keys.received`, our RTCP from
    /// `keys.rtcp_index_start`.
    ///
    /// # Errors
    /// `SrtpError` if the profile is not available, a key has the wrong length or the numbers are too
    /// far.
    fn make(&self, keys: &SrtpKeys, start: SrtpStart) -> Result<Box<dyn Srtp>, SrtpError>;
}

/// Has no profile: for tables whose legs are all plain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoSrtp;

impl SrtpMaker for NoSrtp {
    fn make(&self, keys: &SrtpKeys, _: SrtpStart) -> Result<Box<dyn Srtp>, SrtpError> {
        Err(SrtpError::Unsupported(keys.profile))
    }
}

/// Joins what two sources know of the peer's streams: the further index counts.
pub(super) fn further(
    mut known: Vec<ReceivedIndex>,
    recorded: &[ReceivedIndex],
) -> Vec<ReceivedIndex> {
    for stream in recorded {
        match known.iter_mut().find(|known| known.ssrc == stream.ssrc) {
            Some(known) => known.index = known.index.max(stream.index),
            None => known.push(*stream),
        }
    }
    known.truncate(SRTP_STREAMS_MAX);
    known
}
