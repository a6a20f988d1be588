//! SRTP and SRTCP of one leg by webrtc-srtp contexts (RFC 3711, RFC 7714).
//!
//! In: keys, where numbers start, packets. Out: packets. What may be sent and who is a peer is decided
//! in `media::relay`. The library sets no index and trusts its caller in places; so here
//!
//! * restored contexts are walked to their index by dummies that nobody ever sees, RTP in steps under
//!   half of the sequence numbers, SRTCP one by one and only when the first RTCP packet goes out;
//! * each stream of the peer has contexts of its own, made by its first authentic packet: the
//!   library keeps an entry for each SSRC and starts its replay window before it checks a tag;
//! * SRTCP that is not encrypted is refused: the library would take it without a tag;
//! * headers are measured here, so that the library reads no extension of a peer.

use std::collections::VecDeque;
use std::fmt;

use contract::limits::{
    SRTCP_INDICES_WALKED_MAX, SRTP_RETIRED_MAX, SRTP_ROLLOVERS_WALKED_MAX, SRTP_STREAMS_MAX,
};
use contract::{KeyMaterial, ReceivedIndex, SrtpKeys, SrtpProfile};
use media::relay::{SRTP_TAIL_BYTES, Srtp, SrtpError, SrtpFault, SrtpMaker, SrtpStart};
use rtp::header::Header;
use webrtc_srtp::Error;
use webrtc_srtp::context::Context;
use webrtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use webrtc_srtp::protection_profile::ProtectionProfile;

/// Packets behind the newest that are told apart (RFC 3711 §3.3.2; `threats.md` 20).
const REPLAY_WINDOW: usize = 64;
/// Numbers of one step of a walk: under half of the sequence numbers, so that roll-overs count.
const STEP: u64 = 20_000;
/// Packets of unknown streams that one context tries: it keeps an entry for each of their SSRCs.
const TRIES_MAX: u32 = 64;
const RTP_HEADER_BYTES: usize = 12;
const RTCP_HEADER_BYTES: usize = 8;
const RTCP_INDEX_BYTES: usize = 4;
const ENCRYPTED_BIT: u8 = 0x80;

/// Makes protections of webrtc-srtp contexts.
#[derive(Clone, Copy, Debug, Default)]
pub struct LibraryMaker;

impl SrtpMaker for LibraryMaker {
    fn make(&self, keys: &SrtpKeys, start: SrtpStart) -> Result<Box<dyn Srtp>, SrtpError> {
        LibrarySrtp::new(keys, start).map(|made| Box::new(made) as Box<dyn Srtp>)
    }
}

/// The contexts of one leg.
pub struct LibrarySrtp {
    ssrc: u32,
    profile: SrtpProfile,
    sending: Context,
    /// Index of the last RTP packet that went through `sending`.
    at: Option<u64>,
    /// Index that the next RTCP packet gets, and the last one that went through `sending`.
    rtcp_next: u32,
    rtcp_at: u32,
    peer: PeerKeys,
    rtp: Streams,
    rtcp: Streams,
    packets: u64,
}

/// What the peer protects with.
struct PeerKeys {
    key: KeyMaterial,
    salt: KeyMaterial,
    profile: SrtpProfile,
}

/// The peer's streams, of RTP or of RTCP.
#[derive(Default)]
struct Streams {
    /// The latest first.
    known: Vec<Stream>,
    /// SSRCs of streams that gave way to others.
    retired: VecDeque<u32>,
    /// Tries packets of streams that are not known.
    trial: Option<Context>,
    tries: u32,
}

struct Stream {
    ssrc: u32,
    context: Context,
    index: u64,
    /// Packets up to here came before a restart.
    floor: Option<u64>,
}

/// What is read of an RTP packet.
#[derive(Clone, Copy)]
struct Head {
    ssrc: u32,
    sequence: u16,
    bytes: usize,
}

impl fmt::Debug for LibrarySrtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LibrarySrtp({} streams)", self.rtp.known.len())
    }
}

impl LibrarySrtp {
    /// Makes the contexts and brings them to where `keys` and `start` say.
    ///
    /// # Errors
    /// `KeyLength`; `TooFar` if our numbers are further than is walked.
    pub fn new(keys: &SrtpKeys, start: SrtpStart) -> Result<Self, SrtpError> {
        let is_far = u64::from(start.rollover_start) > SRTP_ROLLOVERS_WALKED_MAX
            || keys.rtcp_index_start > SRTCP_INDICES_WALKED_MAX;
        if is_far {
            return Err(SrtpError::TooFar);
        }
        let sending = context(&keys.our_key, &keys.our_salt, keys.profile, false)?;
        let peer = PeerKeys {
            key: keys.peer_key.clone(),
            salt: keys.peer_salt.clone(),
            profile: keys.peer_profile,
        };
        let mut made = LibrarySrtp {
            ssrc: start.ssrc,
            profile: keys.profile,
            sending,
            at: None,
            // The library's first index is 1.
            rtcp_next: keys.rtcp_index_start.max(1),
            rtcp_at: 0,
            peer,
            rtp: Streams::default(),
            rtcp: Streams::default(),
            packets: 0,
        };
        let index = u64::from(start.rollover_start) << 16 | u64::from(start.sequence_start);
        made.walk(index).map_err(|_| SrtpError::TooFar)?;
        // Also tells whether the peer's key is one.
        made.rtp.trial = Some(made.peer.context(false)?);
        for stream in keys.received.iter().take(SRTP_STREAMS_MAX) {
            made.rtp.known.extend(restored(&made.peer, *stream)?);
        }
        Ok(made)
    }

    /// Brings our context near an index: within a step, in the right roll-over.
    fn walk(&mut self, index: u64) -> Result<(), SrtpFault> {
        let mut at = match self.at {
            Some(at) => at,
            // The first packet of a context is taken to be in roll-over 0.
            None if index >> 16 == 0 => return Ok(()),
            None => self.show(index % STEP)?,
        };
        if at.abs_diff(index) >> 16 > SRTP_ROLLOVERS_WALKED_MAX || at > index + STEP {
            return Err(SrtpFault::Numbers);
        }
        while index > at + STEP {
            at = self.show(at + STEP)?;
        }
        Ok(())
    }

    /// Shows our context a dummy. The dummy goes nowhere, so its index is not used.
    fn show(&mut self, index: u64) -> Result<u64, SrtpFault> {
        let (head, octets) = dummy(self.ssrc, index);
        let shown = self.sending.encrypt_rtp_with_header(&octets, &head);
        shown.map_err(|_| SrtpFault::Numbers)?;
        self.at = Some(index);
        Ok(index)
    }

    fn walk_rtcp(&mut self) -> Result<(), SrtpFault> {
        let mut dummy = [0x80, 201, 0, 1, 0, 0, 0, 0];
        dummy[4..].copy_from_slice(&self.ssrc.to_be_bytes());
        while self.rtcp_at + 1 < self.rtcp_next {
            let shown = self.sending.encrypt_rtcp(&dummy);
            shown.map_err(|_| SrtpFault::Numbers)?;
            self.rtcp_at += 1;
        }
        Ok(())
    }
}

impl Srtp for LibrarySrtp {
    fn protect_rtp(
        &mut self,
        buffer: &mut [u8],
        length: usize,
        rollover: u32,
    ) -> Result<usize, SrtpFault> {
        let packet = buffer.get(..length).ok_or(SrtpFault::Malformed)?;
        let head = Head::read(packet, 0)?;
        if buffer.len() - length < rtp_tail(self.profile) {
            return Err(SrtpFault::NoRoom);
        }
        if head.ssrc != self.ssrc {
            return Err(SrtpFault::Numbers);
        }
        let index = u64::from(rollover) << 16 | u64::from(head.sequence);
        self.walk(index)?;
        let done = self.sending.encrypt_rtp_with_header(packet, &head.header());
        let done = done.map_err(|_| SrtpFault::Numbers)?;
        self.at = Some(index);
        self.packets += 1;
        put(buffer, &done)
    }

    fn unprotect_rtp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpFault> {
        let packet = buffer.get(..length).ok_or(SrtpFault::Malformed)?;
        let head = Head::read(packet, rtp_tail(self.peer.profile))?;
        let header = head.header();
        let opened = self
            .rtp
            .open(&self.peer, head.ssrc, Some(head.sequence), |context| {
                context.decrypt_rtp_with_header(packet, &header)
            });
        let opened = opened?;
        self.packets += 1;
        put(buffer, &opened)
    }

    fn protect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpFault> {
        let packet = buffer.get(..length).ok_or(SrtpFault::Malformed)?;
        let head = packet
            .get(..RTCP_HEADER_BYTES)
            .ok_or(SrtpFault::Malformed)?;
        if buffer.len() - length < SRTP_TAIL_BYTES {
            return Err(SrtpFault::NoRoom);
        }
        // The library would begin again behind the last of 31 bits.
        if head[4..] != self.ssrc.to_be_bytes() || self.rtcp_next >> 31 != 0 {
            return Err(SrtpFault::Numbers);
        }
        self.walk_rtcp()?;
        let done = self.sending.encrypt_rtcp(packet);
        let done = done.map_err(|_| SrtpFault::Malformed)?;
        self.rtcp_at = self.rtcp_next;
        self.rtcp_next += 1;
        self.packets += 1;
        put(buffer, &done)
    }

    fn unprotect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpFault> {
        let packet = buffer.get(..length).ok_or(SrtpFault::Malformed)?;
        let ssrc = read_rtcp(packet, self.peer.profile)?;
        let opened = self.rtcp.open(&self.peer, ssrc, None, |context| {
            context.decrypt_rtcp(packet)
        });
        let opened = opened?;
        self.packets += 1;
        put(buffer, &opened)
    }

    fn rtcp_index(&self) -> u32 {
        self.rtcp_next
    }

    fn received(&self) -> Vec<ReceivedIndex> {
        let streams = self.rtp.known.iter().map(|stream| ReceivedIndex {
            ssrc: stream.ssrc,
            index: stream.index,
        });
        streams.collect()
    }

    fn library_packets(&self) -> u64 {
        self.packets
    }
}

impl Streams {
    /// Opens a packet with the context of its stream. A stream that is not known is, once a packet
    /// of it is authentic; nothing else changes it.
    fn open<P>(
        &mut self,
        peer: &PeerKeys,
        ssrc: u32,
        sequence: Option<u16>,
        mut decrypt: impl FnMut(&mut Context) -> Result<P, Error>,
    ) -> Result<P, SrtpFault> {
        let Some(place) = self.known.iter().position(|stream| stream.ssrc == ssrc) else {
            return self.open_first(peer, ssrc, sequence, decrypt);
        };
        let stream = &mut self.known[place];
        let index = sequence.map_or(Some(0), |sequence| index_of(stream.index, sequence));
        let index = index.ok_or(SrtpFault::Replayed)?;
        if sequence.is_some() && stream.floor.is_some_and(|floor| index <= floor) {
            return Err(SrtpFault::Replayed);
        }
        let opened = decrypt(&mut stream.context).map_err(|error| fault(&error))?;
        stream.index = stream.index.max(index);
        self.known[..=place].rotate_right(1);
        Ok(opened)
    }

    fn open_first<P>(
        &mut self,
        peer: &PeerKeys,
        ssrc: u32,
        sequence: Option<u16>,
        mut decrypt: impl FnMut(&mut Context) -> Result<P, Error>,
    ) -> Result<P, SrtpFault> {
        if self.retired.contains(&ssrc) {
            return Err(SrtpFault::Replayed);
        }
        let made = || peer.context(false).map_err(|_| SrtpFault::NotAuthentic);
        let mut trial = match self.trial.take() {
            Some(trial) => trial,
            None => made()?,
        };
        if let Err(error) = decrypt(&mut trial) {
            self.tries += 1;
            if self.tries < TRIES_MAX {
                self.trial = Some(trial);
            } else {
                self.tries = 0;
            }
            return Err(fault(&error));
        }
        self.tries = 0;
        let mut context = peer.context(true).map_err(|_| SrtpFault::NotAuthentic)?;
        let opened = decrypt(&mut context).map_err(|error| fault(&error))?;
        if self.known.len() >= SRTP_STREAMS_MAX
            && let Some(oldest) = self.known.pop()
        {
            if self.retired.len() >= SRTP_RETIRED_MAX {
                self.retired.pop_front();
            }
            self.retired.push_back(oldest.ssrc);
        }
        let stream = Stream {
            ssrc,
            context,
            index: sequence.map_or(0, u64::from),
            floor: None,
        };
        self.known.insert(0, stream);
        Ok(opened)
    }
}

impl PeerKeys {
    fn context(&self, is_replay_kept: bool) -> Result<Context, SrtpError> {
        context(&self.key, &self.salt, self.profile, is_replay_kept)
    }
}

impl Head {
    /// Reads a packet with at least `tail` octets behind the header.
    fn read(packet: &[u8], tail: usize) -> Result<Head, SrtpFault> {
        let fixed: &[u8; RTP_HEADER_BYTES] = packet.first_chunk().ok_or(SrtpFault::Malformed)?;
        let mut bytes = RTP_HEADER_BYTES + 4 * usize::from(fixed[0] & 0x0f);
        if fixed[0] & 0x10 != 0 {
            let extension = packet.get(bytes..bytes + 4).ok_or(SrtpFault::Malformed)?;
            let words = u16::from_be_bytes([extension[2], extension[3]]);
            bytes += 4 + 4 * usize::from(words);
        }
        if fixed[0] >> 6 != 2 || bytes + tail > packet.len() {
            return Err(SrtpFault::Malformed);
        }
        Ok(Head {
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            bytes,
        })
    }

    /// Returns a header of the same size with the fields that the library uses.
    fn header(&self) -> Header {
        let is_longer = self.bytes > RTP_HEADER_BYTES;
        Header {
            ssrc: self.ssrc,
            sequence_number: self.sequence,
            // An extension has four octets and its words; a longer header has four at least.
            extension: is_longer,
            extensions_padding: self.bytes.saturating_sub(RTP_HEADER_BYTES + 4),
            ..Header::default()
        }
    }
}

/// Checks the lengths of an SRTCP packet and that it is encrypted; returns its SSRC.
fn read_rtcp(packet: &[u8], profile: SrtpProfile) -> Result<u32, SrtpFault> {
    let (tag, behind_index) = match profile {
        SrtpProfile::AesCm128HmacSha1_80 | SrtpProfile::AesCm128HmacSha1_32 => (10, 10),
        SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => (16, 0),
    };
    let is_whole = packet.len() >= RTCP_HEADER_BYTES + RTCP_INDEX_BYTES + tag;
    let head: Option<&[u8; RTCP_HEADER_BYTES]> = packet.first_chunk();
    let head = head.filter(|head| is_whole && head[0] >> 6 == 2);
    let head = head.ok_or(SrtpFault::Malformed)?;
    let word = packet.len() - behind_index - RTCP_INDEX_BYTES;
    if packet[word] & ENCRYPTED_BIT == 0 {
        return Err(SrtpFault::NotAuthentic);
    }
    Ok(u32::from_be_bytes([head[4], head[5], head[6], head[7]]))
}

/// Octets that the protection of an RTP packet adds.
const fn rtp_tail(profile: SrtpProfile) -> usize {
    match profile {
        SrtpProfile::AesCm128HmacSha1_80 => 10,
        SrtpProfile::AesCm128HmacSha1_32 => 4,
        SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => 16,
    }
}

/// Estimates the index of a sequence number near the highest one (RFC 3711 §3.3.1); `None` if it
/// would be from before the first roll-over.
fn index_of(highest: u64, sequence: u16) -> Option<u64> {
    let ahead = i64::from(sequence.wrapping_sub(highest as u16) as i16);
    highest.checked_add_signed(ahead)
}

/// Makes a context that was where the peer's stream was recorded; `None` if that is too far.
fn restored(peer: &PeerKeys, received: ReceivedIndex) -> Result<Option<Stream>, SrtpError> {
    if received.index >> 16 > SRTP_ROLLOVERS_WALKED_MAX {
        return Ok(None);
    }
    let (mut theirs, mut ours) = (peer.context(false)?, peer.context(true)?);
    let mut at = received.index % STEP;
    loop {
        let (head, octets) = dummy(received.ssrc, at);
        let protected = theirs.encrypt_rtp_with_header(&octets, &head);
        let walked = protected.and_then(|dummy| ours.decrypt_rtp_with_header(&dummy, &head));
        if walked.is_err() {
            return Ok(None);
        }
        if at >= received.index {
            break;
        }
        at += STEP;
    }
    Ok(Some(Stream {
        ssrc: received.ssrc,
        context: ours,
        index: received.index,
        floor: Some(received.index),
    }))
}

/// Returns an empty packet of a stream.
fn dummy(ssrc: u32, index: u64) -> (Header, [u8; RTP_HEADER_BYTES]) {
    let [high, low] = (index as u16).to_be_bytes();
    let [a, b, c, d] = ssrc.to_be_bytes();
    let octets = [0x80, 0, high, low, 0, 0, 0, 0, a, b, c, d];
    let header = Header {
        ssrc,
        sequence_number: index as u16,
        ..Header::default()
    };
    (header, octets)
}

fn context(
    key: &KeyMaterial,
    salt: &KeyMaterial,
    profile: SrtpProfile,
    is_replay_kept: bool,
) -> Result<Context, SrtpError> {
    let name = match profile {
        SrtpProfile::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        SrtpProfile::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
    };
    let rtp = is_replay_kept.then(|| srtp_replay_protection(REPLAY_WINDOW));
    let rtcp = is_replay_kept.then(|| srtcp_replay_protection(REPLAY_WINDOW));
    let made = Context::new(key.expose(), salt.expose(), name, rtp, rtcp);
    made.map_err(|_| SrtpError::KeyLength(profile))
}

/// Puts what a context made into the caller's buffer.
fn put(buffer: &mut [u8], octets: &[u8]) -> Result<usize, SrtpFault> {
    let place = buffer.get_mut(..octets.len()).ok_or(SrtpFault::NoRoom)?;
    place.copy_from_slice(octets);
    Ok(octets.len())
}

fn fault(error: &Error) -> SrtpFault {
    let is_replay = matches!(
        error,
        Error::SrtpSsrcDuplicated(..) | Error::SrtcpSsrcDuplicated(..)
    );
    // Whatever else the library says, the packet is not the peer's.
    if is_replay {
        SrtpFault::Replayed
    } else {
        SrtpFault::NotAuthentic
    }
}

#[cfg(test)]
#[path = "srtp_tests.rs"]
mod tests;
