//! Offer/answer as seen from one leg of a B2BUA: what a peer offers or answers.
//!
//! In: `Session`s of a peer. Out: `RemoteMedia`, the one audio stream we take, or an error that
//! maps to a SIP status. Making our own offers and answers is in `local.rs`. Sections that cannot be
//! taken are refused one by one, not the whole (`architecture.md` §5).

use std::net::{IpAddr, SocketAddr};

use contract::FaultClass;
use serde::{Deserialize, Serialize};

use super::attribute::Attribute;
use super::codec::{Codec, CodecRole};
use super::model::{Direction, Host, Media, MediaKind, Protocol, Session};
use super::secure::{RemoteTransport, read_transport};

/// The audio stream of a peer's description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteMedia {
    /// Index of its `m=` section.
    pub index: usize,
    /// Transport protocol.
    pub protocol: Protocol,
    /// How it is reached and protected.
    pub transport: RemoteTransport,
    /// Where the peer says it receives RTP; `None` if it gives the unspecified address or a name.
    /// Whether it may be sent to is `may_send`'s decision.
    pub rtp: Option<SocketAddr>,
    /// Where it receives RTCP if that is not multiplexed (RFC 3605).
    pub rtcp: Option<SocketAddr>,
    /// It offers or accepts RTP and RTCP on one port (RFC 5761).
    pub rtcp_mux: bool,
    /// Audio codecs in order of preference. Bound: 128.
    pub codecs: Vec<Codec>,
    /// Telephone events and comfort noise, one for each clock. Bound: 128.
    pub auxiliary: Vec<Codec>,
    /// Direction as the peer sees it; the unspecified address counts as not receiving.
    pub direction: Direction,
    /// Packet time it wants, in milliseconds.
    pub ptime: Option<u16>,
    /// Longest packet time it takes, in milliseconds.
    pub max_ptime: Option<u16>,
}

impl RemoteMedia {
    /// Tells whether the peer does not want to hear us: on hold (RFC 3264 §8.4).
    #[must_use]
    pub const fn is_holding(&self) -> bool {
        !self.direction.receives()
    }

    /// Tells whether its section is in a BUNDLE group (RFC 9143).
    #[must_use]
    pub fn is_bundled(&self) -> bool {
        match &self.transport {
            RemoteTransport::Webrtc(webrtc) => webrtc.is_bundled,
            RemoteTransport::Plain | RemoteTransport::Sdes(_) => false,
        }
    }

    /// Returns audio codecs and auxiliary ones.
    #[must_use]
    pub fn all_codecs(&self) -> Vec<Codec> {
        self.codecs.iter().chain(&self.auxiliary).cloned().collect()
    }

    /// Returns the payload type of telephone events at a clock rate (RFC 4733 §2.5.1).
    #[must_use]
    pub fn event_payload(&self, clock_rate: u32) -> Option<u8> {
        self.auxiliary
            .iter()
            .find(|codec| codec.role() == CodecRole::Events && codec.clock_rate == clock_rate)
            .map(|codec| codec.payload)
    }

    /// Returns where RTCP goes, given what we said of multiplexing.
    #[must_use]
    pub fn rtcp_target(&self, our_mux: bool) -> Option<SocketAddr> {
        if our_mux && self.rtcp_mux {
            self.rtp
        } else {
            self.rtcp
        }
    }
}

/// Why offer and answer do not lead to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// The description has no audio stream with a port.
    #[error("negotiating media: no audio offered")]
    NoAudio,
    /// Audio is there, but only over a protocol that is not taken.
    #[error("negotiating media: no audio over a protocol that is taken")]
    UnsupportedProtocol,
    /// No audio codec is shared.
    #[error("negotiating media: no shared codec")]
    NoSharedCodec,
    /// The audio section has no `c=`, nor has the session.
    #[error("negotiating media: the audio section has no connection address")]
    NoConnection,
    /// The peer refused our audio with port 0.
    #[error("negotiating media: the peer refused the audio stream")]
    Refused,
    /// The answer has not the offer's sections (RFC 3264 §6).
    #[error("negotiating media: the answer does not match the offer's m= lines")]
    Mismatch,
    /// Our own offer or answer would have no audio codec.
    #[error("negotiating media: no codec to offer")]
    NothingToOffer,
}

impl NegotiationError {
    /// Tells whose fault it is.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            NegotiationError::NoAudio
            | NegotiationError::UnsupportedProtocol
            | NegotiationError::NoSharedCodec
            | NegotiationError::NoConnection
            | NegotiationError::Refused
            | NegotiationError::Mismatch => FaultClass::Reject,
            NegotiationError::NothingToOffer => FaultClass::Config,
        }
    }

    /// Returns the SIP status that tells the peer: 488 Not Acceptable Here (RFC 3261 §21.4.26).
    #[must_use]
    pub const fn status(&self) -> u16 {
        488
    }
}

/// Reads what a peer offers.
///
/// Takes one audio section with a port, an audio codec, and a transport that `is_taken` says can be
/// used: the section at `former` if it is still one, since a stream keeps its place for as long as the
/// session lasts (RFC 3264 §8), else the first. A peer that offers one stream protected and in clear,
/// in two sections, is met in the one that fits.
///
/// # Errors
/// `NoAudio`, `UnsupportedProtocol`, `NoSharedCodec`, `NoConnection`: why the last section is none.
/// Source: RFC 3264 §5, §6, §8.
pub fn read_offer(
    offer: &Session,
    former: Option<usize>,
    is_taken: &dyn Fn(&RemoteTransport) -> bool,
) -> Result<RemoteMedia, NegotiationError> {
    let read = |index: usize| {
        let media = offer.media.get(index)?;
        let is_live = media.kind == MediaKind::Audio && media.port != 0;
        is_live.then(|| match read_media(offer, index, media) {
            Ok(remote) if !is_taken(&remote.transport) => {
                Err(NegotiationError::UnsupportedProtocol)
            }
            read => read,
        })
    };
    let mut why = NegotiationError::NoAudio;
    for read in former
        .into_iter()
        .chain(0..offer.media.len())
        .filter_map(read)
    {
        match read {
            Ok(remote) => return Ok(remote),
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Reads a peer's answer to our offer.
///
/// Codecs that we did not offer are left out; directions that our offer does not allow are reduced.
///
/// # Errors
/// `Mismatch`, `Refused`, `NoSharedCodec`, `NoConnection`. Source: RFC 3264 §6, §7.
pub fn read_answer(offer: &Session, answer: &Session) -> Result<RemoteMedia, NegotiationError> {
    if offer.media.len() != answer.media.len() {
        return Err(NegotiationError::Mismatch);
    }
    let is_ours = |media: &Media| media.kind == MediaKind::Audio && media.port != 0;
    let index = offer
        .media
        .iter()
        .position(is_ours)
        .ok_or(NegotiationError::NoAudio)?;
    let (ours, theirs) = (&offer.media[index], &answer.media[index]);
    if theirs.kind != ours.kind {
        return Err(NegotiationError::Mismatch);
    }
    if theirs.port == 0 {
        return Err(NegotiationError::Refused);
    }
    if theirs.protocol != ours.protocol {
        return Err(NegotiationError::Mismatch);
    }
    let mut remote = read_media(answer, index, theirs)?;
    let offered = Codec::of_media(ours);
    remote
        .codecs
        .retain(|codec| offered.iter().any(|ours| ours.matches(codec)));
    remote
        .auxiliary
        .retain(|codec| offered.iter().any(|ours| ours.matches(codec)));
    if remote.codecs.is_empty() {
        return Err(NegotiationError::NoSharedCodec);
    }
    remote.rtcp_mux &= ours.attributes.contains(&Attribute::RtcpMux);
    let possible = media_direction(offer, ours).reversed();
    remote.direction = intersect(remote.direction, possible);
    Ok(remote)
}

/// Returns the direction of an answer, as we see it, from the offered one, as the peer sees it, and
/// the one we want.
///
/// Source: RFC 3264 §6.1 (`sendonly` is answered `recvonly` or `inactive`, and so on).
#[must_use]
pub const fn answer_direction(offered: Direction, wanted: Direction) -> Direction {
    intersect(offered.reversed(), wanted)
}

const fn intersect(one: Direction, other: Direction) -> Direction {
    Direction::new(
        one.sends() && other.sends(),
        one.receives() && other.receives(),
    )
}

fn media_direction(session: &Session, media: &Media) -> Direction {
    media.direction.or(session.direction).unwrap_or_default()
}

fn read_media(
    session: &Session,
    index: usize,
    media: &Media,
) -> Result<RemoteMedia, NegotiationError> {
    let transport = read_transport(session, media).ok_or(NegotiationError::UnsupportedProtocol)?;
    let is_webrtc = matches!(transport, RemoteTransport::Webrtc(_));
    let host = media.connection.as_ref().or(session.connection.as_ref());
    let host = host.ok_or(NegotiationError::NoConnection)?;
    let (codecs, auxiliary) = split_codecs(media);
    if codecs.is_empty() {
        return Err(NegotiationError::NoSharedCodec);
    }
    let mut direction = media_direction(session, media);
    // Before candidates are known WebRTC gives the unspecified address (RFC 8839 §4.3.1).
    if host.is_unspecified() && !is_webrtc {
        direction = Direction::new(direction.sends(), false);
    }
    let rtp = sendable(host, media.port);
    let mut remote = RemoteMedia {
        index,
        protocol: media.protocol.clone(),
        transport,
        rtp,
        rtcp: rtp.and_then(next_port),
        rtcp_mux: false,
        codecs,
        auxiliary,
        direction,
        ptime: None,
        max_ptime: None,
    };
    apply_attributes(&mut remote, host, &media.attributes);
    // Said by the section itself or for all of its BUNDLE group.
    remote.rtcp_mux |= is_webrtc;
    remote.ptime = remote
        .ptime
        .or_else(|| session.attributes.iter().find_map(ptime_of));
    Ok(remote)
}

fn apply_attributes(remote: &mut RemoteMedia, rtp_host: &Host, attributes: &[Attribute]) {
    for attribute in attributes {
        match attribute {
            Attribute::Ptime(ms) => remote.ptime = Some(*ms),
            Attribute::MaxPtime(ms) => remote.max_ptime = Some(*ms),
            Attribute::RtcpMux => remote.rtcp_mux = true,
            Attribute::Rtcp { port, host } => {
                remote.rtcp = sendable(host.as_ref().unwrap_or(rtp_host), *port);
            }
            Attribute::Mid(_)
            | Attribute::Group { .. }
            | Attribute::Setup(_)
            | Attribute::Fingerprint(_)
            | Attribute::IceUfrag(_)
            | Attribute::IcePwd(_)
            | Attribute::IceOptions(_)
            | Attribute::IceLite
            | Attribute::EndOfCandidates
            | Attribute::Candidate(_)
            | Attribute::Crypto(_)
            | Attribute::Other { .. } => {}
        }
    }
}

fn ptime_of(attribute: &Attribute) -> Option<u16> {
    if let Attribute::Ptime(ms) = attribute {
        Some(*ms)
    } else {
        None
    }
}

/// Splits audio from auxiliary codecs; redundancy is left out, and doubles after the first.
fn split_codecs(media: &Media) -> (Vec<Codec>, Vec<Codec>) {
    let (mut audio, mut auxiliary): (Vec<Codec>, Vec<Codec>) = (Vec::new(), Vec::new());
    for codec in Codec::of_media(media) {
        let list = match codec.role() {
            CodecRole::Audio => &mut audio,
            CodecRole::Events | CodecRole::ComfortNoise => &mut auxiliary,
            CodecRole::Redundancy => continue,
        };
        if !list.iter().any(|known| known.matches(&codec)) {
            list.push(codec);
        }
    }
    (audio, auxiliary)
}

fn sendable(host: &Host, port: u16) -> Option<SocketAddr> {
    let address: IpAddr = host.ip()?.to_canonical();
    let is_target = port != 0 && !address.is_unspecified() && !address.is_multicast();
    is_target.then(|| SocketAddr::new(address, port))
}

fn next_port(rtp: SocketAddr) -> Option<SocketAddr> {
    rtp.port()
        .checked_add(1)
        .map(|port| SocketAddr::new(rtp.ip(), port))
}
