//! Codecs as two ends of a call compare them, and the payload types each end gives them.
//!
//! In: formats of a description. Out: `Codec`, the codecs two ends share, the map between their
//! payload types. A codec needs no support here to be relayed: its name, clock and parameters are
//! enough.

use serde::{Deserialize, Serialize};

use super::model::{Format, Formats, Media, RtpMap};
use super::negotiation::{NegotiationError, RemoteMedia};
use super::text::{Text, Token};

/// One codec with the payload type one end gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codec {
    /// Encoding name; compared without case.
    pub name: Token,
    /// RTP clock in hertz.
    pub clock_rate: u32,
    /// Channels.
    pub channels: u8,
    /// Payload type, 0..=127.
    pub payload: u8,
    /// Parameters (`a=fmtp`).
    pub parameters: Option<Text>,
}

/// What a codec is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecRole {
    /// Speech or music: one must be shared for a call.
    Audio,
    /// Telephone events (RFC 4733).
    Events,
    /// Comfort noise (RFC 3389).
    ComfortNoise,
    /// Redundancy or retransmission whose payload names payload types, which a relay that
    /// renumbers them would break: never offered or accepted.
    Redundancy,
}

/// Static audio payload types (RFC 3551 §6): type, name, clock, channels.
const STATIC_AUDIO: [(u8, &str, u32, u8); 17] = [
    (0, "PCMU", 8_000, 1),
    (3, "GSM", 8_000, 1),
    (4, "G723", 8_000, 1),
    (5, "DVI4", 8_000, 1),
    (6, "DVI4", 16_000, 1),
    (7, "LPC", 8_000, 1),
    (8, "PCMA", 8_000, 1),
    (9, "G722", 8_000, 1),
    (10, "L16", 44_100, 2),
    (11, "L16", 44_100, 1),
    (12, "QCELP", 8_000, 1),
    (13, "CN", 8_000, 1),
    (14, "MPA", 90_000, 1),
    (15, "G728", 8_000, 1),
    (16, "DVI4", 11_025, 1),
    (17, "DVI4", 22_050, 1),
    (18, "G729", 8_000, 1),
];

impl Codec {
    /// Makes a codec of one channel without parameters.
    ///
    /// # Errors
    /// `TextError` if the name is no token.
    pub fn new(name: &str, clock_rate: u32, payload: u8) -> Result<Codec, super::TextError> {
        let name = Token::new(name)?;
        Ok(Codec {
            name,
            clock_rate,
            channels: 1,
            payload: payload & 0x7f,
            parameters: None,
        })
    }

    /// Makes the codec of a static audio payload type (RFC 3551 §6).
    #[must_use]
    pub fn from_static(payload: u8) -> Option<Codec> {
        let (_, name, clock_rate, channels) = *STATIC_AUDIO
            .iter()
            .find(|(number, ..)| *number == payload)?;
        let codec = Codec::new(name, clock_rate, payload).ok()?;
        Some(Codec { channels, ..codec })
    }

    fn from_format(format: &Format) -> Option<Codec> {
        let parameters = format.parameters.clone();
        match &format.map {
            Some(map) => Some(Codec {
                name: map.name.clone(),
                clock_rate: map.clock_rate,
                channels: map.channels,
                payload: format.payload,
                parameters,
            }),
            None => Codec::from_static(format.payload).map(|codec| Codec {
                parameters,
                ..codec
            }),
        }
    }

    /// Returns every codec of a section whose name is known, in order of preference.
    #[must_use]
    pub fn of_media(media: &Media) -> Vec<Codec> {
        match &media.formats {
            Formats::Rtp(formats) => formats.iter().filter_map(Codec::from_format).collect(),
            Formats::Opaque(_) => Vec::new(),
        }
    }

    pub(super) fn to_format(&self) -> Format {
        let map = RtpMap {
            name: self.name.clone(),
            clock_rate: self.clock_rate,
            channels: self.channels.max(1),
        };
        Format {
            payload: self.payload & 0x7f,
            map: Some(map),
            parameters: self.parameters.clone(),
        }
    }

    /// Tells what the codec is for.
    #[must_use]
    pub fn role(&self) -> CodecRole {
        let names: [(&str, CodecRole); 8] = [
            ("telephone-event", CodecRole::Events),
            ("CN", CodecRole::ComfortNoise),
            ("red", CodecRole::Redundancy),
            ("rtx", CodecRole::Redundancy),
            ("ulpfec", CodecRole::Redundancy),
            ("parityfec", CodecRole::Redundancy),
            ("flexfec", CodecRole::Redundancy),
            ("flexfec-03", CodecRole::Redundancy),
        ];
        names
            .iter()
            .find(|(name, _)| self.name.is(name))
            .map_or(CodecRole::Audio, |(_, role)| *role)
    }

    /// Tells whether both name the same coding: name, clock, channels, and those parameters that
    /// change the form of the payload. Payload types may differ.
    #[must_use]
    pub fn matches(&self, other: &Codec) -> bool {
        self.name.is(other.name.as_str())
            && self.clock_rate == other.clock_rate
            && self.channels == other.channels
            && self.format_parameters().iter().all(|name| {
                parameter(self.parameters.as_ref(), name)
                    == parameter(other.parameters.as_ref(), name)
            })
    }

    /// Names of the parameters that both ends must agree on (RFC 4867 §8.3.1, RFC 5577 §6).
    fn format_parameters(&self) -> &'static [&'static str] {
        if self.name.is("AMR") || self.name.is("AMR-WB") {
            &["octet-align", "crc", "robust-sorting", "interleaving"]
        } else if self.name.is("G7221") {
            &["bitrate"]
        } else {
            &[]
        }
    }
}

/// Returns the value of `name=value` in a list of parameters; a missing one counts as `0`.
fn parameter<'a>(parameters: Option<&'a Text>, name: &str) -> &'a str {
    let Some(parameters) = parameters else {
        return "0";
    };
    parameters
        .as_str()
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map_or("0", |(_, value)| value.trim())
}

/// Chooses the codecs of an answer: those offered that match one of `allowed`, in the offer's order
/// and with its payload types, with the parameters of `allowed` (of the other leg or ours).
///
/// # Errors
/// `NoSharedCodec` if no audio codec is shared; it maps to 488.
/// Source: RFC 3264 §6.1.
pub fn answer_codecs(
    offered: &RemoteMedia,
    allowed: &[Codec],
) -> Result<Vec<Codec>, NegotiationError> {
    let shared: Vec<Codec> = offered
        .codecs
        .iter()
        .chain(&offered.auxiliary)
        .filter_map(|codec| {
            let other = allowed.iter().find(|other| other.matches(codec))?;
            Some(Codec {
                parameters: other.parameters.clone(),
                ..codec.clone()
            })
        })
        .collect();
    if shared.iter().any(|codec| codec.role() == CodecRole::Audio) {
        Ok(shared)
    } else {
        Err(NegotiationError::NoSharedCodec)
    }
}

/// Maps payload types of packets from one peer to those the other peer wants.
///
/// In: `ours` and `theirs`, both descriptions of the leg that packets come from, and `onward`, the
/// description of the peer they go to. A peer sends with the types of our description; many send
/// with those of their own, so these are mapped too where ours do not use them. Types without a
/// counterpart are left out and not relayed. Telephone events are matched by their clock.
/// Bound: 128 pairs. Source: RFC 3264 §5.1, §6.1.
#[must_use]
pub fn payload_map(ours: &[Codec], theirs: &[Codec], onward: &[Codec]) -> Vec<(u8, u8)> {
    let mut map: Vec<(u8, u8)> = Vec::new();
    for codec in ours.iter().chain(theirs) {
        let is_mapped = map.iter().any(|(from, _)| *from == codec.payload);
        let is_other = ours
            .iter()
            .any(|o| o.payload == codec.payload && !o.matches(codec));
        if is_mapped || is_other {
            continue;
        }
        if let Some(target) = onward.iter().find(|target| target.matches(codec)) {
            map.push((codec.payload, target.payload));
        }
    }
    map
}
