//! The model of a session description: what we understand of it, typed.
//!
//! In: nothing. Out: plain data that `reader` fills and `writer` turns into text; whatever can be
//! held here can be written safely. Lines that nobody here uses (`i u e p b t r z k`) are checked
//! and left out; we always write `t=0 0` as RFC 3264 §5 asks.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::attribute::Attribute;
use super::text::{HostName, Text, Token, Word};

/// A session description (RFC 8866 §5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// `o=`.
    pub origin: Origin,
    /// `s=`; `-` where there is none.
    pub name: Text,
    /// `c=` for all media without one of their own.
    pub connection: Option<Host>,
    /// Direction of all media without one of their own.
    pub direction: Option<Direction>,
    /// `a=` before the first `m=`. Bound: `SDP_ATTRIBUTES_PER_SECTION_MAX`.
    pub attributes: Vec<Attribute>,
    /// The `m=` sections in order. Bound: `SDP_MEDIA_MAX`.
    pub media: Vec<Media>,
}

/// Who made a description, and which version of it this is (RFC 8866 §5.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// User name; `-` where there is none.
    pub username: Word,
    /// Session id; a longer one of a peer is held as the largest number.
    pub session_id: u64,
    /// Version; rises with every change of the body (RFC 3264 §8).
    pub version: u64,
    /// Address of the maker; not used to send to.
    pub host: Host,
}

/// An address or name of `o=`, `c=`, `a=rtcp` or a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A name; it is not resolved here.
    Name(HostName),
}

impl Host {
    /// Reads an address literal or a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Host> {
        match text.parse::<IpAddr>() {
            Ok(address) => Some(Host::Ip(address)),
            Err(_) => HostName::new(text).ok().map(Host::Name),
        }
    }

    /// Returns the address, if it is one.
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Host::Ip(address) => Some(*address),
            Host::Name(_) => None,
        }
    }

    /// Tells whether this is the unspecified address, the old way to hold (RFC 3264 §8.4).
    #[must_use]
    pub const fn is_unspecified(&self) -> bool {
        match self {
            Host::Ip(address) => address.is_unspecified(),
            Host::Name(_) => false,
        }
    }
}

impl Default for Host {
    fn default() -> Self {
        Host::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

/// Direction of a stream as its describer sees it (RFC 8866 §6.7).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Direction {
    /// `a=sendrecv`, also where nothing is said.
    #[default]
    SendRecv,
    /// `a=sendonly`.
    SendOnly,
    /// `a=recvonly`.
    RecvOnly,
    /// `a=inactive`.
    Inactive,
}

impl Direction {
    /// Makes a direction from its two halves.
    #[must_use]
    pub const fn new(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// Tells whether the describer sends.
    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Tells whether the describer receives.
    #[must_use]
    pub const fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// Returns the same stream as the other end sees it.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Direction::new(self.receives(), self.sends())
    }

    /// Returns the attribute's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }
}

/// One `m=` section (RFC 8866 §5.14).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// What kind of media.
    pub kind: MediaKind,
    /// Port; 0 refuses or ends the stream (RFC 3264 §6, §8.2).
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Formats with their maps.
    pub formats: Formats,
    /// `c=` of this section.
    pub connection: Option<Host>,
    /// Direction of this section.
    pub direction: Option<Direction>,
    /// Other `a=` lines. Bound: `SDP_ATTRIBUTES_PER_SECTION_MAX`, maps included.
    pub attributes: Vec<Attribute>,
}

/// Kind of media (RFC 8866 §5.14).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediaKind {
    /// `audio`.
    Audio,
    /// `video`.
    Video,
    /// Any other kind; `audio` and `video` are never held here by the reader.
    Other(Token),
}

impl MediaKind {
    /// Returns the word on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
            MediaKind::Other(token) => token.as_str(),
        }
    }
}

/// Transport protocol of an `m=` line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// `RTP/AVP` (RFC 3551).
    RtpAvp,
    /// `RTP/AVPF` (RFC 4585).
    RtpAvpf,
    /// `RTP/SAVP` (RFC 3711).
    RtpSavp,
    /// `RTP/SAVPF` (RFC 5124).
    RtpSavpf,
    /// `UDP/TLS/RTP/SAVP` (RFC 5764).
    DtlsSavp,
    /// `UDP/TLS/RTP/SAVPF` (RFC 5764).
    DtlsSavpf,
    /// Anything else, such as `udptl`.
    Other(Word),
}

impl Protocol {
    const NAMED: [(&'static str, Protocol); 6] = [
        ("RTP/AVP", Protocol::RtpAvp),
        ("RTP/AVPF", Protocol::RtpAvpf),
        ("RTP/SAVP", Protocol::RtpSavp),
        ("RTP/SAVPF", Protocol::RtpSavpf),
        ("UDP/TLS/RTP/SAVP", Protocol::DtlsSavp),
        ("UDP/TLS/RTP/SAVPF", Protocol::DtlsSavpf),
    ];

    /// Reads a protocol; `None` if it is no word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Protocol> {
        for (name, protocol) in Self::NAMED {
            if text.eq_ignore_ascii_case(name) {
                return Some(protocol);
            }
        }
        Word::new(text).ok().map(Protocol::Other)
    }

    /// Returns the word on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Protocol::RtpAvp => "RTP/AVP",
            Protocol::RtpAvpf => "RTP/AVPF",
            Protocol::RtpSavp => "RTP/SAVP",
            Protocol::RtpSavpf => "RTP/SAVPF",
            Protocol::DtlsSavp => "UDP/TLS/RTP/SAVP",
            Protocol::DtlsSavpf => "UDP/TLS/RTP/SAVPF",
            Protocol::Other(word) => word.as_str(),
        }
    }

    /// Tells whether formats are RTP payload types.
    #[must_use]
    pub const fn is_rtp(&self) -> bool {
        !matches!(self, Protocol::Other(_))
    }

    /// Tells whether it is RTP without encryption.
    #[must_use]
    pub const fn is_plain_rtp(&self) -> bool {
        matches!(self, Protocol::RtpAvp | Protocol::RtpAvpf)
    }
}

/// Formats of an `m=` line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Formats {
    /// RTP payload types, each once, in order of preference.
    Rtp(Vec<Format>),
    /// Formats of another protocol, or RTP formats that are no payload types (0..=127): a section
    /// that can only be refused.
    Opaque(Vec<Word>),
}

/// One RTP payload type of an `m=` line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// Payload type, 0..=127.
    pub payload: u8,
    /// `a=rtpmap`; static types may go without (RFC 3551 §6).
    pub map: Option<RtpMap>,
    /// `a=fmtp`, as the codec's own specification defines it.
    pub parameters: Option<Text>,
}

/// `a=rtpmap` (RFC 8866 §6.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtpMap {
    /// Encoding name.
    pub name: Token,
    /// Clock rate in hertz, over 0.
    pub clock_rate: u32,
    /// Channels; 1 where nothing is said.
    pub channels: u8,
}
