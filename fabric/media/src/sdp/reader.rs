//! Reads a session description from untrusted octets.
//!
//! In: a body. Out: `Session` within the limits, or why it is refused. Lines whose value matters
//! are checked; attributes with a wrong value are left out (RFC 8866 §5.13 lets a reader ignore
//! attributes); a type letter of no standard refuses the whole (RFC 8866 §5).
//! Deviation: RFC 8866 §5 fixes the order of lines; here `v=` is first and the others of a section
//! may come in any order, and `s=` and `t=` may be missing, as phones in use do. Test:
//! `lines_in_any_order_are_read`.

use contract::FaultClass;
use contract::limits::{
    SDP_ATTRIBUTES_PER_SECTION_MAX, SDP_BODY_BYTES_MAX, SDP_LINE_BYTES_MAX, SDP_MEDIA_MAX,
};

use super::attribute::{Attribute, number};
use super::model::{
    Direction, Format, Formats, Host, Media, MediaKind, Origin, Protocol, RtpMap, Session,
};
use super::text::{Text, Token, Word};

/// Why a body is no session description that we accept. `line` counts from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The body is larger than `SDP_BODY_BYTES_MAX`.
    #[error("reading SDP: the body is larger than 64 KiB")]
    TooLarge,
    /// A line is longer than `SDP_LINE_BYTES_MAX`.
    #[error("reading SDP line {line}: longer than 8 KiB")]
    LineTooLong {
        /// Which line.
        line: usize,
    },
    /// More sections than `SDP_MEDIA_MAX`.
    #[error("reading SDP line {line}: more than 64 m= lines")]
    TooManyMedia {
        /// Which line.
        line: usize,
    },
    /// More attributes in a section than `SDP_ATTRIBUTES_PER_SECTION_MAX`.
    #[error("reading SDP line {line}: more than 256 attributes in a section")]
    TooManyAttributes {
        /// Which line.
        line: usize,
    },
    /// A line is not `x=value` with a letter of RFC 8866.
    #[error("reading SDP line {line}: no line of RFC 8866")]
    UnknownLine {
        /// Which line.
        line: usize,
    },
    /// A line whose value matters cannot be read.
    #[error("reading SDP line {line}: malformed {letter}=")]
    Malformed {
        /// Which line.
        line: usize,
        /// Its type letter.
        letter: char,
    },
    /// A line that must be there is missing.
    #[error("reading SDP: {letter}= is missing")]
    Missing {
        /// Its type letter.
        letter: char,
    },
}

impl SdpError {
    /// Tells whose fault it is: the peer's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Reject
    }

    /// Returns the SIP status that tells the peer: 400, or 413 for a body that is too large.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            SdpError::TooLarge => 413,
            SdpError::LineTooLong { .. }
            | SdpError::TooManyMedia { .. }
            | SdpError::TooManyAttributes { .. }
            | SdpError::UnknownLine { .. }
            | SdpError::Malformed { .. }
            | SdpError::Missing { .. } => 400,
        }
    }
}

/// Reads a description.
///
/// Lines end with CRLF or LF; empty ones are skipped. Bound: linear in the body, which is at most
/// 64 KiB.
///
/// # Errors
/// See `SdpError`.
pub fn read(body: &[u8]) -> Result<Session, SdpError> {
    if body.len() > SDP_BODY_BYTES_MAX {
        return Err(SdpError::TooLarge);
    }
    let mut reader = Reader::default();
    let mut line = 0;
    for octets in body.split(|octet| *octet == b'\n') {
        line += 1;
        let octets = octets.strip_suffix(b"\r").unwrap_or(octets);
        if octets.len() > SDP_LINE_BYTES_MAX {
            return Err(SdpError::LineTooLong { line });
        }
        if !octets.is_empty() {
            reader.line(line, octets)?;
        }
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    has_version: bool,
    origin: Option<Origin>,
    name: Option<Text>,
    connection: Option<Host>,
    session: Section,
    media: Vec<(MediaLine, Section)>,
}

/// The attributes of a section while it is read.
#[derive(Default)]
struct Section {
    attributes_count: usize,
    direction: Option<Direction>,
    connection: Option<Host>,
    maps: Vec<(u8, RtpMap)>,
    parameters: Vec<(u8, Text)>,
    attributes: Vec<Attribute>,
}

struct MediaLine {
    kind: MediaKind,
    port: u16,
    protocol: Protocol,
    formats: Formats,
}

impl Reader {
    fn line(&mut self, line: usize, octets: &[u8]) -> Result<(), SdpError> {
        let [letter, b'=', value @ ..] = octets else {
            return Err(SdpError::UnknownLine { line });
        };
        let letter = char::from(*letter);
        // Only attributes and free text may be in an older character set; they are left out.
        let value = std::str::from_utf8(value).ok();
        if !self.has_version {
            self.has_version = letter == 'v' && value.map(str::trim) == Some("0");
            let missing = SdpError::Missing { letter: 'v' };
            return if self.has_version {
                Ok(())
            } else {
                Err(missing)
            };
        }
        let malformed = SdpError::Malformed { line, letter };
        match letter {
            'o' => {
                let origin = value.and_then(parse_origin).ok_or(malformed)?;
                self.origin.get_or_insert(origin);
            }
            's' => self.name = value.and_then(|text| Text::new(text.trim()).ok()),
            'c' => self.connection(value.and_then(parse_connection).ok_or(malformed)?),
            'a' => self.attribute(line, value)?,
            'm' => {
                if self.media.len() == SDP_MEDIA_MAX {
                    return Err(SdpError::TooManyMedia { line });
                }
                let media = value.and_then(parse_media).ok_or(malformed)?;
                self.media.push((media, Section::default()));
            }
            'i' | 'u' | 'e' | 'p' | 'b' | 't' | 'r' | 'z' | 'k' => {}
            _ => return Err(SdpError::UnknownLine { line }),
        }
        Ok(())
    }

    fn section(&mut self) -> &mut Section {
        match self.media.last_mut() {
            Some((_, section)) => section,
            None => &mut self.session,
        }
    }

    fn connection(&mut self, host: Host) {
        if self.media.is_empty() {
            self.connection.get_or_insert(host);
        } else {
            self.section().connection.get_or_insert(host);
        }
    }

    fn attribute(&mut self, line: usize, value: Option<&str>) -> Result<(), SdpError> {
        let section = self.section();
        if section.attributes_count == SDP_ATTRIBUTES_PER_SECTION_MAX {
            return Err(SdpError::TooManyAttributes { line });
        }
        section.attributes_count += 1;
        if let Some(value) = value {
            section.take(value);
        }
        Ok(())
    }

    fn finish(self) -> Result<Session, SdpError> {
        if !self.has_version {
            return Err(SdpError::Missing { letter: 'v' });
        }
        let origin = self.origin.ok_or(SdpError::Missing { letter: 'o' })?;
        Ok(Session {
            origin,
            name: self
                .name
                .filter(|name| !name.as_str().is_empty())
                .unwrap_or_else(dash_text),
            connection: self.connection,
            direction: self.session.direction,
            attributes: self.session.attributes,
            media: self
                .media
                .into_iter()
                .map(|(line, section)| section.into_media(line))
                .collect(),
        })
    }
}

impl Section {
    fn take(&mut self, line: &str) {
        let (name, value) = match line.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (line.trim_end(), None),
        };
        match (name, value) {
            ("sendrecv", None) => self.direction = Some(Direction::SendRecv),
            ("sendonly", None) => self.direction = Some(Direction::SendOnly),
            ("recvonly", None) => self.direction = Some(Direction::RecvOnly),
            ("inactive", None) => self.direction = Some(Direction::Inactive),
            ("rtpmap", Some(value)) => self.maps.extend(parse_rtpmap(value)),
            ("fmtp", Some(value)) => self.parameters.extend(parse_fmtp(value)),
            ("sendrecv" | "sendonly" | "recvonly" | "inactive" | "rtpmap" | "fmtp", _) => {}
            (name, value) => self.attributes.extend(Attribute::parse(name, value)),
        }
    }

    /// Joins the maps with the formats; the first map and the first parameters of a type count.
    fn into_media(self, line: MediaLine) -> Media {
        let mut formats = line.formats;
        if let Formats::Rtp(formats) = &mut formats {
            for format in formats {
                let payload = format.payload;
                let map = self.maps.iter().find(|(number, _)| *number == payload);
                let parameters = self
                    .parameters
                    .iter()
                    .find(|(number, _)| *number == payload);
                format.map = map.map(|(_, map)| map.clone());
                format.parameters = parameters.map(|(_, text)| text.clone());
            }
        }
        Media {
            kind: line.kind,
            port: line.port,
            protocol: line.protocol,
            formats,
            connection: self.connection,
            direction: self.direction,
            attributes: self.attributes,
        }
    }
}

fn dash_text() -> Text {
    Text::new("-").expect("a dash is text")
}

fn parse_origin(value: &str) -> Option<Origin> {
    let mut words = value.split_ascii_whitespace();
    let username = words.next()?;
    let session_id = parse_large_number(words.next()?)?;
    let version = parse_large_number(words.next()?)?;
    let host = parse_net(&mut words)?;
    let dash = || Word::new("-").expect("a dash is a word");
    let username = Word::new(username).unwrap_or_else(|_| dash());
    Some(Origin {
        username,
        session_id,
        version,
        host,
    })
}

/// Reads digits; what does not fit becomes the largest number, as RFC 8866 sets no bound.
fn parse_large_number(text: &str) -> Option<u64> {
    if text.bytes().all(|octet| octet.is_ascii_digit()) {
        Some(text.parse().unwrap_or(u64::MAX))
    } else {
        None
    }
}

fn parse_net<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Host> {
    let (network, kind, host) = (words.next()?, words.next()?, words.next()?);
    if network != "IN" || !(kind == "IP4" || kind == "IP6") {
        return None;
    }
    // Multicast adds `/ttl` and `/count`; a multicast address is never sent to, so they are
    // of no use.
    Host::parse(host.split('/').next()?)
}

fn parse_connection(value: &str) -> Option<Host> {
    parse_net(&mut value.split_ascii_whitespace())
}

fn parse_media(value: &str) -> Option<MediaLine> {
    let mut words = value.split_ascii_whitespace();
    let kind = match words.next()? {
        "audio" => MediaKind::Audio,
        "video" => MediaKind::Video,
        other => MediaKind::Other(Token::new(other).ok()?),
    };
    // `port/count` is for layered codecs; we use the first port.
    let port = number(words.next()?.split('/').next()?)?;
    let protocol = Protocol::parse(words.next()?)?;
    let formats = words
        .map(|word| Word::new(word).ok())
        .collect::<Option<Vec<Word>>>()?;
    if formats.is_empty() {
        return None;
    }
    let payloads = if protocol.is_rtp() {
        parse_payloads(&formats)
    } else {
        None
    };
    let formats = payloads.map_or(Formats::Opaque(formats), Formats::Rtp);
    Some(MediaLine {
        kind,
        port,
        protocol,
        formats,
    })
}

/// Reads payload types; `None` if one is over 127 (RFC 3550 §5.1 has seven bits).
fn parse_payloads(words: &[Word]) -> Option<Vec<Format>> {
    let mut seen = [false; 128];
    let mut formats = Vec::with_capacity(words.len().min(seen.len()));
    for word in words {
        let payload = number::<u8>(word.as_str()).filter(|payload| *payload < 128)?;
        if !std::mem::replace(&mut seen[usize::from(payload)], true) {
            formats.push(Format {
                payload,
                map: None,
                parameters: None,
            });
        }
    }
    Some(formats)
}

fn parse_rtpmap(value: &str) -> Option<(u8, RtpMap)> {
    let (payload, encoding) = value.trim().split_once(' ')?;
    let payload = number::<u8>(payload).filter(|payload| *payload < 128)?;
    let mut parts = encoding.trim().split('/');
    let name = Token::new(parts.next()?).ok()?;
    let clock_rate = number::<u32>(parts.next()?).filter(|clock| *clock > 0)?;
    let channels = match parts.next() {
        None | Some("") => 1,
        Some(channels) => number::<u8>(channels).filter(|channels| *channels > 0)?,
    };
    Some((
        payload,
        RtpMap {
            name,
            clock_rate,
            channels,
        },
    ))
}

fn parse_fmtp(value: &str) -> Option<(u8, Text)> {
    let (payload, parameters) = value.trim().split_once(' ')?;
    let payload = number::<u8>(payload).filter(|payload| *payload < 128)?;
    let parameters = Text::new(parameters.trim())
        .ok()
        .filter(|text| !text.as_str().is_empty())?;
    Some((payload, parameters))
}
