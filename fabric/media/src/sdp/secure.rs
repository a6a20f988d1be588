//! How a stream is protected and its path found, as descriptions say it: SDES (RFC 4568), and ICE
//! with DTLS-SRTP (RFC 8839, RFC 5763, RFC 8842).
//!
//! In: attributes of a peer, keys and credentials of ours. Out: typed transports, attributes. It
//! draws no keys and chooses no addresses; `local.rs` and `negotiation.rs` put both into sections.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use contract::limits::ICE_CANDIDATES_MAX;
use contract::{
    IceCredentials, KeyMaterial, PeerFingerprint, RemoteCandidate, Secret, SrtpProfile,
};
use serde::{Deserialize, Serialize};

use super::attribute::{Attribute, Candidate, CandidateKind, Crypto, Fingerprint, Setup};
use super::model::{Host, Media, Protocol, Session};
use super::text::{SecretText, Text, Token, Word};

/// How our end of a stream is reached and protected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LocalTransport {
    /// RTP as it is.
    Plain,
    /// Keys of the signalling: all that we offer, or the one of an answer.
    Sdes(Vec<SdesKey>),
    /// ICE and DTLS.
    Webrtc(Box<LocalWebrtc>),
}

/// Our end of a WebRTC stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalWebrtc {
    /// ICE user fragment and password.
    pub ice: IceCredentials,
    /// We answer checks and send none before a path is there (RFC 8445 §2.5).
    pub is_lite: bool,
    /// SHA-256 of our certificate.
    pub fingerprint: Vec<u8>,
    /// Our role in the handshake; `ActPass` in offers.
    pub setup: Setup,
    /// SSRC we send with.
    pub ssrc: u32,
}

/// How the peer's end of a stream is reached and protected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemoteTransport {
    /// RTP as it is.
    Plain,
    /// Its keys, in its order; at least one.
    Sdes(Vec<SdesKey>),
    /// ICE and DTLS.
    Webrtc(Box<RemoteWebrtc>),
}

/// The peer's end of a WebRTC stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteWebrtc {
    /// ICE user fragment and password.
    pub ice: IceCredentials,
    /// It is lite: we must check and nominate.
    pub is_lite: bool,
    /// UDP candidates of component 1 with literal addresses; whether they may be sent to is
    /// `may_send`'s decision. Bound: `ICE_CANDIDATES_MAX`.
    pub candidates: Vec<RemoteCandidate>,
    /// Hashes of its certificate; at least one.
    pub fingerprints: Vec<PeerFingerprint>,
    /// Its role in the handshake.
    pub setup: Setup,
    /// Its section is in a BUNDLE group.
    pub is_bundled: bool,
}

/// One `a=crypto` line that we can use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SdesKey {
    /// Tag that an answer repeats.
    pub tag: u32,
    /// Protection.
    pub profile: SrtpProfile,
    /// Master key.
    pub key: KeyMaterial,
    /// Master salt.
    pub salt: KeyMaterial,
}

impl SdesKey {
    /// Reads a line; `None` if the suite is unknown, a key has the wrong length, or a parameter
    /// asks for what is not done: MKI, several keys, unprotected packets (RFC 4568 §6).
    #[must_use]
    pub fn of(crypto: &Crypto) -> Option<SdesKey> {
        let profile = SrtpProfile::of_suite(crypto.suite.as_str())?;
        let mut words = crypto.keys.expose().split_ascii_whitespace();
        let inline = words.next()?.strip_prefix("inline:")?;
        // Only the window size may follow: it is advice.
        if inline.contains(';') || words.any(|word| !word.starts_with("WSH=")) {
            return None;
        }
        let mut fields = inline.split('|');
        let text = fields.next()?;
        // A field with a colon is an MKI, any other the lifetime, which is longer than any call.
        if fields.any(|field| field.contains(':')) {
            return None;
        }
        let octets = STANDARD
            .decode(text)
            .or_else(|_| STANDARD_NO_PAD.decode(text))
            .ok()?;
        if octets.len() != profile.key_bytes() + profile.salt_bytes() {
            return None;
        }
        let (key, salt) = octets.split_at(profile.key_bytes());
        Some(SdesKey {
            tag: crypto.tag,
            profile,
            key: KeyMaterial::new(key.to_vec()),
            salt: KeyMaterial::new(salt.to_vec()),
        })
    }

    fn attribute(&self) -> Option<Attribute> {
        let octets = [self.key.expose(), self.salt.expose()].concat();
        let keys = format!("inline:{}", STANDARD.encode(octets));
        Some(Attribute::Crypto(Crypto {
            tag: self.tag,
            suite: Token::new(self.profile.suite()).ok()?,
            keys: SecretText::new(&keys).ok()?,
        }))
    }
}

impl LocalTransport {
    /// Returns the protocol of an offer of ours.
    #[must_use]
    pub(super) const fn protocol(&self) -> Protocol {
        match self {
            LocalTransport::Plain => Protocol::RtpAvp,
            LocalTransport::Sdes(_) => Protocol::RtpSavp,
            LocalTransport::Webrtc(_) => Protocol::DtlsSavpf,
        }
    }

    /// Tells whether a section of this protocol can be described with this transport.
    pub(super) const fn fits(&self, protocol: &Protocol) -> bool {
        match self {
            LocalTransport::Plain => protocol.is_plain_rtp(),
            LocalTransport::Sdes(_) => matches!(protocol, Protocol::RtpSavp | Protocol::RtpSavpf),
            LocalTransport::Webrtc(_) => protocol.is_rtp() && !protocol.is_plain_rtp(),
        }
    }

    /// Returns the attributes of our audio section.
    pub(super) fn attributes(&self, host: &Host, port: u16) -> Vec<Attribute> {
        match self {
            LocalTransport::Plain => Vec::new(),
            LocalTransport::Sdes(keys) => keys.iter().filter_map(SdesKey::attribute).collect(),
            LocalTransport::Webrtc(webrtc) => webrtc.attributes(host, port),
        }
    }

    /// Tells whether our end is lite: said once, for the session.
    pub(super) const fn is_lite(&self) -> bool {
        match self {
            LocalTransport::Webrtc(webrtc) => webrtc.is_lite,
            LocalTransport::Plain | LocalTransport::Sdes(_) => false,
        }
    }

    pub(super) const fn is_webrtc(&self) -> bool {
        matches!(self, LocalTransport::Webrtc(_))
    }
}

/// Name of our stream and track: one of each, so their names say nothing.
const MEDIA_STREAM: &str = "weft weft-audio";

impl LocalWebrtc {
    fn attributes(&self, host: &Host, port: u16) -> Vec<Attribute> {
        let hash = Token::new("sha-256").ok();
        let fingerprint = hash.map(|hash| {
            Attribute::Fingerprint(Fingerprint {
                hash,
                digest: self.fingerprint.clone(),
            })
        });
        let candidate = host_candidate(host, port);
        [
            Word::new(&self.ice.ufrag).ok().map(Attribute::IceUfrag),
            SecretText::new(self.ice.pwd.expose())
                .ok()
                .map(Attribute::IcePwd),
            fingerprint,
            Some(Attribute::Setup(self.setup)),
            other("msid", MEDIA_STREAM),
            other("ssrc", &format!("{} cname:weft", self.ssrc)),
            candidate.map(|candidate| Attribute::Candidate(Box::new(candidate))),
            Some(Attribute::EndOfCandidates),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn other(name: &str, value: &str) -> Option<Attribute> {
    Some(Attribute::Other {
        name: Token::new(name).ok()?,
        value: Some(Text::new(value).ok()?),
    })
}

/// Priority of our only candidate: type preference 126, local preference 65,535, component 1
/// (RFC 8445 §5.1.2.1).
const HOST_PRIORITY: u32 = (126 << 24) | (65_535 << 8) | 255;

fn host_candidate(host: &Host, port: u16) -> Option<Candidate> {
    Some(Candidate {
        foundation: Word::new("1").ok()?,
        component: 1,
        transport: Token::new("udp").ok()?,
        priority: HOST_PRIORITY,
        host: host.clone(),
        port,
        kind: CandidateKind::Host,
        related: None,
        extensions: Vec::new(),
    })
}

/// Reads a candidate that can be checked: UDP, component 1, a literal address.
///
/// In: `a=candidate` without its name, or with it, as trickle ICE sends it.
#[must_use]
pub fn read_candidate(text: &str) -> Option<RemoteCandidate> {
    let text = text.trim();
    let text = text.strip_prefix("a=").unwrap_or(text);
    let text = text.strip_prefix("candidate:").unwrap_or(text);
    usable(&Candidate::parse(text)?)
}

fn usable(candidate: &Candidate) -> Option<RemoteCandidate> {
    let is_udp = candidate.transport.is("udp");
    let address = candidate.host.ip()?.to_canonical();
    let is_usable = is_udp && candidate.component == 1 && candidate.port != 0;
    is_usable.then(|| RemoteCandidate {
        address: (address, candidate.port).into(),
        priority: candidate.priority,
    })
}

/// Reads how the peer's section is reached and protected; `None` if not in a way we can take.
///
/// ICE is asked for with DTLS, and RTCP on the same port: WebRTC has both (RFC 8834, RFC 8835).
pub(super) fn read_transport(session: &Session, media: &Media) -> Option<RemoteTransport> {
    if media.protocol.is_plain_rtp() {
        return Some(RemoteTransport::Plain);
    }
    let is_dtls = matches!(media.protocol, Protocol::DtlsSavp | Protocol::DtlsSavpf);
    let keys: Vec<SdesKey> = media
        .attributes
        .iter()
        .filter_map(|attribute| {
            let Attribute::Crypto(crypto) = attribute else {
                return None;
            };
            SdesKey::of(crypto)
        })
        .collect();
    if let Some(webrtc) = read_webrtc(session, media) {
        return Some(RemoteTransport::Webrtc(Box::new(webrtc)));
    }
    (media.protocol.is_rtp() && !is_dtls && !keys.is_empty()).then_some(RemoteTransport::Sdes(keys))
}

fn read_webrtc(session: &Session, media: &Media) -> Option<RemoteWebrtc> {
    let mut found = Found::default();
    session.attributes.iter().for_each(|one| found.note(one));
    // The media section's own lines replace those of the session (RFC 8839 §5.4, RFC 8122 §5); how it is
    // reached may be said for all of its BUNDLE group by another one (RFC 9143 §7.1.3).
    let outer = tagged(session, media).filter(|_| !has_credentials(media));
    for section in outer.into_iter().chain([media]) {
        let known = std::mem::take(&mut found.fingerprints);
        section.attributes.iter().for_each(|one| found.note(one));
        if found.fingerprints.is_empty() {
            found.fingerprints = known;
        }
    }
    let is_whole = found.has_mux && !found.fingerprints.is_empty();
    let is_bundled = found
        .mid
        .as_ref()
        .is_some_and(|mid| found.bundles.contains(mid));
    is_whole.then_some(RemoteWebrtc {
        ice: IceCredentials {
            ufrag: found.ufrag?,
            pwd: found.pwd?,
        },
        is_lite: found.is_lite,
        candidates: found.candidates,
        fingerprints: found.fingerprints,
        setup: found.setup.unwrap_or(Setup::Active),
        is_bundled,
    })
}

/// Returns the section that a section's BUNDLE group is tagged with, if that is another one: the one
/// the group names first.
fn tagged<'a>(session: &'a Session, media: &Media) -> Option<&'a Media> {
    let own = mid_of(media)?;
    let first = session.attributes.iter().find_map(|one| {
        let Attribute::Group { semantics, mids } = one else {
            return None;
        };
        let is_own = semantics.is("BUNDLE") && mids.contains(own);
        mids.first().filter(|_| is_own)
    })?;
    let mut sections = session.media.iter();
    sections.find(|section| first != own && mid_of(section) == Some(first))
}

fn has_credentials(media: &Media) -> bool {
    let mut attributes = media.attributes.iter();
    attributes.any(|attribute| matches!(attribute, Attribute::IceUfrag(_)))
}

/// Returns the identification of a section (RFC 5888 §4).
pub(super) fn mid_of(media: &Media) -> Option<&Token> {
    media.attributes.iter().find_map(|attribute| {
        if let Attribute::Mid(mid) = attribute {
            Some(mid)
        } else {
            None
        }
    })
}

#[derive(Default)]
struct Found {
    ufrag: Option<String>,
    pwd: Option<Secret>,
    is_lite: bool,
    has_mux: bool,
    setup: Option<Setup>,
    fingerprints: Vec<PeerFingerprint>,
    candidates: Vec<RemoteCandidate>,
    mid: Option<Token>,
    bundles: Vec<Token>,
}

impl Found {
    fn note(&mut self, attribute: &Attribute) {
        match attribute {
            Attribute::IceUfrag(ufrag) => self.ufrag = Some(ufrag.as_str().to_owned()),
            Attribute::IcePwd(pwd) => self.pwd = Some(Secret::new(pwd.expose())),
            Attribute::IceLite => self.is_lite = true,
            Attribute::RtcpMux => self.has_mux = true,
            Attribute::Setup(setup) => self.setup = Some(*setup),
            Attribute::Fingerprint(print) => self.fingerprints.push(PeerFingerprint {
                hash: print.hash.as_str().to_ascii_lowercase(),
                digest: print.digest.clone(),
            }),
            Attribute::Candidate(candidate) if self.candidates.len() < ICE_CANDIDATES_MAX => {
                self.candidates.extend(usable(candidate));
            }
            Attribute::Mid(mid) => self.mid = Some(mid.clone()),
            Attribute::Group { semantics, mids } if semantics.is("BUNDLE") => {
                self.bundles.extend(mids.iter().cloned());
            }
            Attribute::Candidate(_)
            | Attribute::Group { .. }
            | Attribute::Ptime(_)
            | Attribute::MaxPtime(_)
            | Attribute::Rtcp { .. }
            | Attribute::IceOptions(_)
            | Attribute::EndOfCandidates
            | Attribute::Crypto(_)
            | Attribute::Other { .. } => {}
        }
    }
}

/// Returns our role in the handshake, given the peer's in an offer (RFC 5763 §5, RFC 8842 §5.3):
/// passive wherever the offer allows.
#[must_use]
pub const fn answer_setup(offered: Setup) -> Setup {
    match offered {
        Setup::Passive => Setup::Active,
        Setup::Active | Setup::ActPass | Setup::HoldConn => Setup::Passive,
    }
}
