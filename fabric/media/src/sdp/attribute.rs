//! The attributes that have a meaning here, each with its own type.
//!
//! In: name and value of an `a=` line. Out: `Attribute`, and the text of one. A known attribute
//! with a wrong value is left out; an unknown one is kept for inspection as `Other` and is never
//! copied into a description of ours.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::model::Host;
use super::text::{SecretText, Text, Token, Word};

/// One `a=` line other than directions, `rtpmap` and `fmtp`, which have places of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attribute {
    /// `ptime`, in milliseconds (RFC 8866 §6.4).
    Ptime(u16),
    /// `maxptime`, in milliseconds (RFC 8866 §6.5).
    MaxPtime(u16),
    /// `rtcp` (RFC 3605).
    Rtcp {
        /// Port of RTCP.
        port: u16,
        /// Address, where it is not that of RTP.
        host: Option<Host>,
    },
    /// `rtcp-mux` (RFC 5761).
    RtcpMux,
    /// `mid` (RFC 5888).
    Mid(Token),
    /// `group`, such as `BUNDLE` (RFC 5888, RFC 9143).
    Group {
        /// What the group means.
        semantics: Token,
        /// The `mid`s in it.
        mids: Vec<Token>,
    },
    /// `setup` (RFC 4145, RFC 5763).
    Setup(Setup),
    /// `fingerprint` (RFC 8122).
    Fingerprint(Fingerprint),
    /// `ice-ufrag` (RFC 8839).
    IceUfrag(Word),
    /// `ice-pwd` (RFC 8839).
    IcePwd(SecretText),
    /// `ice-options` (RFC 8839).
    IceOptions(Vec<Token>),
    /// `ice-lite` (RFC 8839).
    IceLite,
    /// `end-of-candidates` (RFC 8840).
    EndOfCandidates,
    /// `candidate` (RFC 8839).
    Candidate(Box<Candidate>),
    /// `crypto` (RFC 4568).
    Crypto(Crypto),
    /// An attribute nobody here reads; the reader puts no known name here.
    Other {
        /// Its name.
        name: Token,
        /// Its value, if it has one.
        value: Option<Text>,
    },
}

/// Role in setting up DTLS (RFC 5763 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setup {
    /// Starts the handshake.
    Active,
    /// Waits for it.
    Passive,
    /// Can do either; offers only.
    ActPass,
    /// No connection for now.
    HoldConn,
}

/// Hash of a certificate (RFC 8122 §5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Hash function, such as `sha-256`.
    pub hash: Token,
    /// The digest, 1 to 64 octets.
    pub digest: Vec<u8>,
}

/// A place where media can be sent (RFC 8839 §5.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Candidates of one base and kind share it.
    pub foundation: Word,
    /// 1 RTP, 2 RTCP.
    pub component: u16,
    /// `udp` or `tcp`.
    pub transport: Token,
    /// Priority.
    pub priority: u32,
    /// Address or mDNS name.
    pub host: Host,
    /// Port.
    pub port: u16,
    /// Kind.
    pub kind: CandidateKind,
    /// `raddr` and `rport`.
    pub related: Option<(Host, u16)>,
    /// Further pairs, such as `tcptype` and `generation`.
    pub extensions: Vec<(Word, Word)>,
}

/// Kind of a candidate (RFC 8839 §5.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CandidateKind {
    /// `host`.
    Host,
    /// `srflx`.
    ServerReflexive,
    /// `prflx`.
    PeerReflexive,
    /// `relay`.
    Relay,
    /// A kind not known here.
    Other(Token),
}

/// Keys of SDES (RFC 4568 §4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crypto {
    /// Tag that an answer repeats.
    pub tag: u32,
    /// Suite, such as `AES_CM_128_HMAC_SHA1_80`.
    pub suite: Token,
    /// Key and session parameters.
    pub keys: SecretText,
}

/// Longest digest in octets: SHA-512.
const DIGEST_BYTES_MAX: usize = 64;

/// Reads the hexadecimal digest of a fingerprint, `AB:CD:…`; `None` if it is none.
#[must_use]
pub fn fingerprint_digest(text: &str) -> Option<Vec<u8>> {
    let mut digest = Vec::with_capacity(DIGEST_BYTES_MAX.min(text.len() / 3 + 1));
    for pair in text.split(':') {
        let hexadecimal = pair.len() == 2 && pair.bytes().all(|c| c.is_ascii_hexdigit());
        if !hexadecimal || digest.len() == DIGEST_BYTES_MAX {
            return None;
        }
        digest.push(u8::from_str_radix(pair, 16).ok()?);
    }
    Some(digest)
}

impl Attribute {
    /// Reads an attribute; `None` if a known one has a wrong value or the name is no token.
    #[must_use]
    pub fn parse(name: &str, value: Option<&str>) -> Option<Attribute> {
        match (name, value) {
            ("rtcp-mux", _) => Some(Attribute::RtcpMux),
            ("ice-lite", _) => Some(Attribute::IceLite),
            ("end-of-candidates", _) => Some(Attribute::EndOfCandidates),
            (_, Some(value)) if takes_value(name) => parse_known(name, value.trim()),
            (_, None) if takes_value(name) => None,
            (_, value) => {
                let value = match value {
                    Some(text) => Some(Text::new(text.trim()).ok()?),
                    None => None,
                };
                Some(Attribute::Other {
                    name: Token::new(name).ok()?,
                    value,
                })
            }
        }
    }

    /// Appends `name[:value]`.
    pub(super) fn write(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self {
            Attribute::Ptime(ms) => write!(out, "ptime:{ms}"),
            Attribute::MaxPtime(ms) => write!(out, "maxptime:{ms}"),
            Attribute::Rtcp { port, host: None } => write!(out, "rtcp:{port}"),
            Attribute::Rtcp {
                port,
                host: Some(host),
            } => write!(out, "rtcp:{port} {}", Net(host)),
            Attribute::RtcpMux => write!(out, "rtcp-mux"),
            Attribute::Mid(mid) => write!(out, "mid:{mid}"),
            Attribute::Group { semantics, mids } => {
                write!(out, "group:{semantics}").and_then(|()| write_list(out, mids, " ", true))
            }
            Attribute::Setup(setup) => write!(out, "setup:{}", setup.as_str()),
            Attribute::Fingerprint(print) => write!(out, "fingerprint:{} ", print.hash)
                .and_then(|()| write_digest(out, &print.digest)),
            Attribute::IceUfrag(ufrag) => write!(out, "ice-ufrag:{ufrag}"),
            Attribute::IcePwd(password) => write!(out, "ice-pwd:{}", password.expose()),
            Attribute::IceOptions(options) => {
                out.push_str("ice-options:");
                write_list(out, options, " ", false)
            }
            Attribute::IceLite => write!(out, "ice-lite"),
            Attribute::EndOfCandidates => write!(out, "end-of-candidates"),
            Attribute::Candidate(candidate) => candidate.write(out),
            Attribute::Crypto(crypto) => {
                write!(
                    out,
                    "crypto:{} {} {}",
                    crypto.tag,
                    crypto.suite,
                    crypto.keys.expose()
                )
            }
            Attribute::Other { name, value: None } => write!(out, "{name}"),
            Attribute::Other {
                name,
                value: Some(value),
            } => write!(out, "{name}:{value}"),
        };
    }
}

/// An address with its type, `IN IP4 192.0.2.1`; names are written as IP4.
pub(super) struct Net<'a>(pub(super) &'a Host);

impl std::fmt::Display for Net<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Host::Ip(address) if address.is_ipv6() => write!(f, "IN IP6 {address}"),
            Host::Ip(address) => write!(f, "IN IP4 {address}"),
            Host::Name(name) => write!(f, "IN IP4 {name}"),
        }
    }
}

impl Setup {
    fn parse(text: &str) -> Option<Setup> {
        [
            Setup::Active,
            Setup::Passive,
            Setup::ActPass,
            Setup::HoldConn,
        ]
        .into_iter()
        .find(|setup| setup.as_str().eq_ignore_ascii_case(text))
    }

    /// Returns the word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Setup::Active => "active",
            Setup::Passive => "passive",
            Setup::ActPass => "actpass",
            Setup::HoldConn => "holdconn",
        }
    }
}

impl CandidateKind {
    fn parse(text: &str) -> Option<CandidateKind> {
        match text {
            "host" => Some(CandidateKind::Host),
            "srflx" => Some(CandidateKind::ServerReflexive),
            "prflx" => Some(CandidateKind::PeerReflexive),
            "relay" => Some(CandidateKind::Relay),
            other => Token::new(other).ok().map(CandidateKind::Other),
        }
    }

    /// Returns the word on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            CandidateKind::Host => "host",
            CandidateKind::ServerReflexive => "srflx",
            CandidateKind::PeerReflexive => "prflx",
            CandidateKind::Relay => "relay",
            CandidateKind::Other(token) => token.as_str(),
        }
    }
}

impl Candidate {
    /// Reads the value of `a=candidate`, also as it comes by itself in trickle ICE.
    #[must_use]
    pub fn parse(value: &str) -> Option<Candidate> {
        let mut words = value.split_ascii_whitespace();
        let foundation = Word::new(words.next()?).ok()?;
        let component = number(words.next()?)?;
        let transport = Token::new(words.next()?).ok()?;
        let priority = number(words.next()?)?;
        let host = Host::parse(words.next()?)?;
        let port = number(words.next()?)?;
        if !words.next()?.eq_ignore_ascii_case("typ") {
            return None;
        }
        let kind = CandidateKind::parse(words.next()?)?;
        let mut candidate = Candidate {
            foundation,
            component,
            transport,
            priority,
            host,
            port,
            kind,
            related: None,
            extensions: Vec::new(),
        };
        let mut related_host = None;
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            match name {
                "raddr" => related_host = Some(Host::parse(value)?),
                "rport" => {
                    candidate.related = Some((related_host.take()?, number(value)?));
                }
                _ => candidate
                    .extensions
                    .push((Word::new(name).ok()?, Word::new(value).ok()?)),
            }
        }
        Some(candidate)
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let host = Bare(&self.host);
        write!(
            out,
            "candidate:{} {} {} {} {host} {} typ {}",
            self.foundation,
            self.component,
            self.transport,
            self.priority,
            self.port,
            self.kind.as_str()
        )?;
        if let Some((host, port)) = &self.related {
            write!(out, " raddr {} rport {port}", Bare(host))?;
        }
        for (name, value) in &self.extensions {
            write!(out, " {name} {value}")?;
        }
        Ok(())
    }
}

/// An address without its type.
struct Bare<'a>(&'a Host);

impl std::fmt::Display for Bare<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Host::Ip(address) => write!(f, "{address}"),
            Host::Name(name) => write!(f, "{name}"),
        }
    }
}

fn takes_value(name: &str) -> bool {
    matches!(
        name,
        "ptime"
            | "maxptime"
            | "rtcp"
            | "mid"
            | "group"
            | "setup"
            | "fingerprint"
            | "ice-ufrag"
            | "ice-pwd"
            | "ice-options"
            | "candidate"
            | "crypto"
    )
}

fn parse_known(name: &str, value: &str) -> Option<Attribute> {
    match name {
        "ptime" => number(value).map(Attribute::Ptime),
        "maxptime" => number(value).map(Attribute::MaxPtime),
        "rtcp" => parse_rtcp(value),
        "mid" => Token::new(value).ok().map(Attribute::Mid),
        "group" => {
            let mut tokens = tokens(value)?;
            if tokens.is_empty() {
                return None;
            }
            let semantics = tokens.remove(0);
            Some(Attribute::Group {
                semantics,
                mids: tokens,
            })
        }
        "setup" => Setup::parse(value).map(Attribute::Setup),
        "fingerprint" => {
            let (hash, digest) = value.split_once(' ')?;
            let hash = Token::new(&hash.to_ascii_lowercase()).ok()?;
            let digest = fingerprint_digest(digest.trim())?;
            Some(Attribute::Fingerprint(Fingerprint { hash, digest }))
        }
        "ice-ufrag" => Word::new(value).ok().map(Attribute::IceUfrag),
        "ice-pwd" => SecretText::new(value).ok().map(Attribute::IcePwd),
        "ice-options" => tokens(value).map(Attribute::IceOptions),
        "candidate" => Candidate::parse(value).map(|c| Attribute::Candidate(Box::new(c))),
        "crypto" => {
            let (tag, rest) = value.split_once(' ')?;
            let (suite, keys) = rest.trim_start().split_once(' ')?;
            Some(Attribute::Crypto(Crypto {
                tag: number(tag)?,
                suite: Token::new(suite).ok()?,
                keys: SecretText::new(keys.trim()).ok()?,
            }))
        }
        _ => None,
    }
}

fn parse_rtcp(value: &str) -> Option<Attribute> {
    let mut words = value.split_ascii_whitespace();
    let port = number(words.next()?)?;
    let host = match (words.next(), words.next(), words.next()) {
        (None, ..) => None,
        (Some("IN"), Some("IP4" | "IP6"), Some(host)) => Some(Host::parse(host)?),
        _ => return None,
    };
    Some(Attribute::Rtcp { port, host })
}

/// Reads a decimal number without sign.
pub(super) fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|octet| octet.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

fn tokens(value: &str) -> Option<Vec<Token>> {
    value
        .split_ascii_whitespace()
        .map(|word| Token::new(word).ok())
        .collect()
}

fn write_list(out: &mut String, tokens: &[Token], gap: &str, lead: bool) -> std::fmt::Result {
    for (index, token) in tokens.iter().enumerate() {
        if lead || index > 0 {
            out.push_str(gap);
        }
        out.push_str(token.as_str());
    }
    Ok(())
}

fn write_digest(out: &mut String, digest: &[u8]) -> std::fmt::Result {
    for (index, octet) in digest.iter().enumerate() {
        let colon = if index == 0 { "" } else { ":" };
        write!(out, "{colon}{octet:02X}")?;
    }
    Ok(())
}
