//! Our own side of a leg's offer/answer: the descriptions we send.
//!
//! In: local address and codecs, a peer's offer. Out: `Session`s with one session id and a version
//! that rises when, and only when, the body changes (RFC 3264 §8). The state is stored with the leg,
//! so a take-over goes on with the next version. It picks no codecs by itself.

use std::net::IpAddr;

use contract::limits::SDP_CODECS_MAX;
use serde::{Deserialize, Serialize};

use super::attribute::Attribute;
use super::codec::{Codec, CodecRole};
use super::model::{Direction, Format, Formats, Host, Media, MediaKind, Origin, Protocol, Session};
use super::negotiation::{NegotiationError, RemoteMedia, answer_direction};
use super::secure::{LocalTransport, mid_of};
use super::text::{Text, Token, Word};

/// Our end of the audio stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalMedia {
    /// Address that the peer shall send to.
    pub address: IpAddr,
    /// RTP port; RTCP is one higher.
    pub port: u16,
    /// We offer, or accept where offered, RTP and RTCP on one port.
    pub rtcp_mux: bool,
    /// Direction we want, as we see it.
    pub direction: Direction,
    /// Packet time we want, in milliseconds.
    pub ptime: Option<u16>,
    /// How our end is reached and protected.
    pub transport: LocalTransport,
}

/// What must be kept of the descriptions we sent on one leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalSdp {
    session_id: u64,
    version: u64,
    last: Option<Session>,
    /// Every codec we ever described, with the payload type it keeps (RFC 3264 §8.3.2).
    /// Bound: `SDP_CODECS_MAX`.
    described: Vec<Codec>,
}

impl LocalSdp {
    /// Starts a leg with a session id made from random bits; 62 of them are used.
    #[must_use]
    pub const fn new(random: u64) -> Self {
        LocalSdp {
            session_id: random >> 2,
            version: 0,
            last: None,
            described: Vec::new(),
        }
    }

    /// Returns the last description we sent.
    #[must_use]
    pub const fn last(&self) -> Option<&Session> {
        self.last.as_ref()
    }

    /// Returns the codecs of our last description, with the payload types the peer sends with.
    #[must_use]
    pub fn codecs(&self) -> Vec<Codec> {
        let media = self
            .last
            .as_ref()
            .and_then(|last| last.media.get(audio_index(last)));
        media.map(Codec::of_media).unwrap_or_default()
    }

    /// Makes an offer: the first, or another that keeps all sections and payload types.
    ///
    /// # Errors
    /// `NothingToOffer` if there is no audio codec. Source: RFC 3264 §5, §8.
    pub fn offer(
        &mut self,
        local: &LocalMedia,
        codecs: &[Codec],
    ) -> Result<Session, NegotiationError> {
        let codecs = self.settle_payloads(codecs)?;
        let former = self.last.as_ref().and_then(|last| {
            let section = last.media.get(audio_index(last))?;
            Some((section.protocol.clone(), mid_line(section)))
        });
        let (protocol, mid) = match former {
            // What was agreed on stays: RFC 3264 §8.3.
            Some((protocol, mid)) if local.transport.fits(&protocol) => (protocol, mid),
            Some((_, mid)) => (local.transport.protocol(), mid),
            None => (local.transport.protocol(), None),
        };
        let is_webrtc = local.transport.is_webrtc();
        let mid = mid.or_else(|| free_mid(self.last.as_ref()).filter(|_| is_webrtc));
        let attributes = stream_attributes(local, local.rtcp_mux || is_webrtc, mid.clone());
        let bundled = mid.filter(|_| is_webrtc);
        let audio = audio_media(local, protocol, local.direction, &codecs, attributes);
        let mut media = Vec::new();
        match &self.last {
            None => media.push(audio),
            Some(last) => {
                let index = audio_index(last);
                media.extend(last.media.iter().map(refused));
                match media.get_mut(index) {
                    Some(section) => *section = audio,
                    None => media.push(audio),
                }
            }
        }
        Ok(self.stamp(local, media, bundled))
    }

    /// Makes the answer to an offer: the audio section that `remote` was read from is taken with
    /// `codecs` (see `answer_codecs`), all others are refused with port 0, in the same order.
    ///
    /// Deviation: RFC 3264 §8 lets no offer have fewer sections than the description before. One that
    /// has is answered by its own count, and so is what we offer next: phones that drop a stream which
    /// is over are heard rather than cut off (`an_offer_with_fewer_sections_is_answered_by_its_own_count`).
    ///
    /// # Errors
    /// `NothingToOffer` if `codecs` has no audio codec. Source: RFC 3264 §6.
    pub fn answer(
        &mut self,
        offer: &Session,
        remote: &RemoteMedia,
        local: &LocalMedia,
        codecs: &[Codec],
    ) -> Result<Session, NegotiationError> {
        if !codecs.iter().any(|codec| codec.role() == CodecRole::Audio) {
            return Err(NegotiationError::NothingToOffer);
        }
        let direction = answer_direction(remote.direction, local.direction);
        let mut media: Vec<Media> = offer.media.iter().map(refused).collect();
        let mut bundled = None;
        if let Some(section) = media.get_mut(remote.index) {
            let mid = section.attributes.pop();
            bundled = mid.clone().filter(|_| remote.is_bundled());
            let has_mux = local.transport.is_webrtc() || local.rtcp_mux;
            let attributes = stream_attributes(local, has_mux && remote.rtcp_mux, mid);
            let protocol = remote.protocol.clone();
            *section = audio_media(local, protocol, direction, codecs, attributes);
        }
        for codec in codecs {
            self.remember(codec);
        }
        Ok(self.stamp(local, media, bundled))
    }

    /// Gives each codec the payload type it had before, or the wanted one, or a free one.
    fn settle_payloads(&mut self, wanted: &[Codec]) -> Result<Vec<Codec>, NegotiationError> {
        let mut codecs: Vec<Codec> = Vec::with_capacity(wanted.len().min(SDP_CODECS_MAX));
        for codec in wanted {
            if codec.role() == CodecRole::Redundancy || codecs.iter().any(|c| c.matches(codec)) {
                continue;
            }
            let Some(payload) = self.payload_for(codec) else {
                continue;
            };
            let codec = Codec {
                payload,
                ..codec.clone()
            };
            self.remember(&codec);
            codecs.push(codec);
        }
        if codecs.iter().any(|codec| codec.role() == CodecRole::Audio) {
            Ok(codecs)
        } else {
            Err(NegotiationError::NothingToOffer)
        }
    }

    fn payload_for(&self, codec: &Codec) -> Option<u8> {
        if let Some(known) = self.described.iter().find(|known| known.matches(codec)) {
            return Some(known.payload);
        }
        let is_free = |payload: &u8| !self.described.iter().any(|c| c.payload == *payload);
        // 64..=95 are left out: with RTCP on the same port they look like RTCP (RFC 5761 §4).
        [codec.payload & 0x7f]
            .into_iter()
            .chain(96..=127)
            .chain(35..=63)
            .find(is_free)
    }

    fn remember(&mut self, codec: &Codec) {
        let is_known = self
            .described
            .iter()
            .any(|known| known.payload == codec.payload || known.matches(codec));
        if !is_known && self.described.len() < SDP_CODECS_MAX {
            self.described.push(codec.clone());
        }
    }

    /// Puts our origin on a body; the version rises if the body is not the last one.
    fn stamp(
        &mut self,
        local: &LocalMedia,
        media: Vec<Media>,
        bundled: Option<Attribute>,
    ) -> Session {
        let username = Word::new("-").expect("a dash is a word");
        let name = Text::new("-").expect("a dash is text");
        let host = Host::Ip(local.address);
        let mut session = Session {
            origin: Origin {
                username,
                session_id: self.session_id,
                version: self.version,
                host: host.clone(),
            },
            name,
            connection: Some(host),
            direction: None,
            attributes: session_attributes(local, bundled),
            media,
        };
        if self.last.as_ref() != Some(&session) {
            self.version += 1;
            session.origin.version = self.version;
            self.last = Some(session.clone());
        }
        session
    }
}

/// Index of the audio section of a description of ours: the one with a port, else the first audio.
fn audio_index(session: &Session) -> usize {
    let is_audio = |media: &Media| media.kind == MediaKind::Audio;
    let live = session
        .media
        .iter()
        .position(|media| is_audio(media) && media.port != 0);
    live.or_else(|| session.media.iter().position(is_audio))
        .unwrap_or(session.media.len())
}

fn audio_media(
    local: &LocalMedia,
    protocol: Protocol,
    direction: Direction,
    codecs: &[Codec],
    attributes: Vec<Attribute>,
) -> Media {
    Media {
        kind: MediaKind::Audio,
        port: local.port,
        protocol,
        formats: Formats::Rtp(codecs.iter().map(Codec::to_format).collect()),
        connection: None,
        direction: Some(direction),
        attributes,
    }
}

fn stream_attributes(local: &LocalMedia, mux: bool, mid: Option<Attribute>) -> Vec<Attribute> {
    let mut attributes = Vec::new();
    attributes.extend(local.ptime.map(Attribute::Ptime));
    if mux {
        attributes.push(Attribute::RtcpMux);
    }
    attributes.extend(mid);
    let host = Host::Ip(local.address);
    attributes.extend(local.transport.attributes(&host, local.port));
    attributes
}

/// Returns what stands before the sections: the group that our one stream is in (RFC 9143 §7.2),
/// and that we are lite.
fn session_attributes(local: &LocalMedia, bundled: Option<Attribute>) -> Vec<Attribute> {
    let group = bundled.and_then(|mid| {
        // Callers give a mid or nothing.
        let Attribute::Mid(mid) = mid else {
            return None;
        };
        Some(Attribute::Group {
            semantics: Token::new("BUNDLE").ok()?,
            mids: vec![mid],
        })
    });
    let lite = local.transport.is_lite().then_some(Attribute::IceLite);
    group.into_iter().chain(lite).collect()
}

/// Returns an identification for our section where the peer has given none: the first number that no
/// other section has (RFC 5888 §4).
fn free_mid(last: Option<&Session>) -> Option<Attribute> {
    let sections = last.map_or(&[][..], |last| &last.media);
    let is_taken = |mid: &Token| sections.iter().any(|section| mid_of(section) == Some(mid));
    (0..=sections.len())
        .filter_map(|number| Token::new(&number.to_string()).ok())
        .find(|mid| !is_taken(mid))
        .map(Attribute::Mid)
}

fn mid_line(media: &Media) -> Option<Attribute> {
    mid_of(media).cloned().map(Attribute::Mid)
}

/// Returns the refusal of a section: port 0, one format, its `mid` and nothing else
/// (RFC 3264 §6, RFC 5888 §9.1).
fn refused(media: &Media) -> Media {
    let formats = match &media.formats {
        Formats::Rtp(formats) => {
            let first = formats
                .first()
                .map(|format| format.payload)
                .unwrap_or_default();
            Formats::Rtp(vec![Format {
                payload: first,
                map: None,
                parameters: None,
            }])
        }
        Formats::Opaque(_) if media.protocol.is_rtp() => Formats::Rtp(vec![Format {
            payload: 0,
            map: None,
            parameters: None,
        }]),
        Formats::Opaque(words) => Formats::Opaque(words.first().cloned().into_iter().collect()),
    };
    let mid = mid_line(media);
    Media {
        kind: media.kind.clone(),
        port: 0,
        protocol: media.protocol.clone(),
        formats,
        connection: None,
        direction: None,
        attributes: mid.into_iter().collect(),
    }
}
