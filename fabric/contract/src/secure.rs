//! How a media leg's packets are protected and its path is found: ICE, DTLS and SRTP as data.
//!
//! In: nothing. Out: values that cores record and hand to the media plane. No packet is read here.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroize;

use crate::Secret;

/// Which socket a leg gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LegSocket {
    /// A pair of the configured range, for RTP and RTCP.
    #[default]
    Own,
    /// The WebRTC port of its worker, shared by ICE user fragment (RFC 8445).
    Shared,
}

/// How the path to the peer is found and packets are protected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LegTransport {
    /// RTP as it is (RFC 3550).
    #[default]
    Plain,
    /// SRTP with keys of the signalling (RFC 4568).
    Sdes(Box<SrtpKeys>),
    /// ICE, DTLS and SRTP (RFC 8445, RFC 5764).
    Webrtc(Box<WebrtcConfig>),
}

/// Protection of RTP and RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SrtpProfile {
    /// AES-128 in counter mode, HMAC-SHA1 with 80 bits (RFC 3711).
    AesCm128HmacSha1_80,
    /// AES-128 in counter mode, HMAC-SHA1 with 32 bits for RTP (RFC 3711).
    AesCm128HmacSha1_32,
    /// AES-128-GCM (RFC 7714).
    AeadAes128Gcm,
    /// AES-256-GCM (RFC 7714).
    AeadAes256Gcm,
}

impl SrtpProfile {
    /// All there are, the most wanted first: by what a packet costs, GCM three times as much with the
    /// crates we use (`cargo bench -p weft-tests --bench srtp`), and the short tag last.
    pub const ALL: [SrtpProfile; 4] = [
        SrtpProfile::AesCm128HmacSha1_80,
        SrtpProfile::AeadAes128Gcm,
        SrtpProfile::AeadAes256Gcm,
        SrtpProfile::AesCm128HmacSha1_32,
    ];

    /// Returns the octets of a master key.
    #[must_use]
    pub const fn key_bytes(self) -> usize {
        match self {
            SrtpProfile::AesCm128HmacSha1_80
            | SrtpProfile::AesCm128HmacSha1_32
            | SrtpProfile::AeadAes128Gcm => 16,
            SrtpProfile::AeadAes256Gcm => 32,
        }
    }

    /// Returns the octets of a master salt.
    #[must_use]
    pub const fn salt_bytes(self) -> usize {
        match self {
            SrtpProfile::AesCm128HmacSha1_80 | SrtpProfile::AesCm128HmacSha1_32 => 14,
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => 12,
        }
    }

    /// Returns the name of an `a=crypto` line (RFC 4568 §6.2, RFC 7714 §14.3).
    #[must_use]
    pub const fn suite(self) -> &'static str {
        match self {
            SrtpProfile::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            SrtpProfile::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            SrtpProfile::AeadAes128Gcm => "AEAD_AES_128_GCM",
            SrtpProfile::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// Returns the profile of a suite name.
    #[must_use]
    pub fn of_suite(name: &str) -> Option<Self> {
        let mut all = SrtpProfile::ALL.into_iter();
        all.find(|profile| profile.suite().eq_ignore_ascii_case(name))
    }
}

/// Octets of a key or salt: printed as nothing, wiped when dropped, masked for people.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct KeyMaterial(Vec<u8>);

impl KeyMaterial {
    /// Takes the octets.
    #[must_use]
    pub const fn new(octets: Vec<u8>) -> Self {
        KeyMaterial(octets)
    }

    /// Gives the octets to the one place that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for KeyMaterial {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyMaterial")
    }
}

impl Serialize for KeyMaterial {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str("***")
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for KeyMaterial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(KeyMaterial)
    }
}

/// Keys of both directions, and where our numbers go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrtpKeys {
    /// Protection of what we send.
    pub profile: SrtpProfile,
    /// Protection of what the peer sends: another one only with SDES.
    pub peer_profile: SrtpProfile,
    /// Master key of what we send.
    pub our_key: KeyMaterial,
    /// Master salt of what we send.
    pub our_salt: KeyMaterial,
    /// Master key of what the peer sends.
    pub peer_key: KeyMaterial,
    /// Master salt of what the peer sends.
    pub peer_salt: KeyMaterial,
    /// First SRTCP index of ours (RFC 3711 §3.4): the end of the recorded block after a restart.
    pub rtcp_index_start: u32,
    /// How far the peer's streams were when the last block was recorded: contexts start from here.
    pub received: Vec<ReceivedIndex>,
}

/// How far one protected stream of the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedIndex {
    /// Its SSRC.
    pub ssrc: u32,
    /// Roll-over counter times 65,536 plus the highest sequence number.
    pub index: u64,
}

/// What a WebRTC leg is set up with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebrtcConfig {
    /// The path.
    pub ice: IceConfig,
    /// The handshake.
    pub dtls: DtlsConfig,
    /// Counts DTLS associations: a new one needs a new handshake (RFC 8842 §4).
    pub association: u32,
    /// Keys of this association, once they are recorded.
    pub keys: Option<Box<SrtpKeys>>,
}

/// Credentials of one end (RFC 8445 §5.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceCredentials {
    /// User fragment: 4 to 256 characters.
    pub ufrag: String,
    /// Password: 22 to 256 characters.
    pub pwd: Secret,
}

/// One candidate of the peer: UDP, component 1, a literal address that may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteCandidate {
    /// Where.
    pub address: SocketAddr,
    /// Its priority (RFC 8445 §5.1.2).
    pub priority: u32,
}

/// The path of a WebRTC leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceConfig {
    /// Ours.
    pub local: IceCredentials,
    /// The peer's; `None` until its description is there.
    pub remote: Option<IceCredentials>,
    /// The peer's candidates so far. Bound: `ICE_CANDIDATES_MAX`.
    pub candidates: Vec<RemoteCandidate>,
    /// We nominate: only toward a lite peer.
    pub is_controlling: bool,
    /// Breaks role conflicts (RFC 8445 §16.1).
    pub tie_breaker: u64,
    /// Address that media went to before a restart: the path is there and needs no agent.
    pub selected: Option<SocketAddr>,
    /// Seed of transaction numbers.
    pub seed: u64,
}

/// Role in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DtlsRole {
    /// Client.
    Active,
    /// Server.
    Passive,
}

/// Hash of the peer's certificate as its SDP says (RFC 8122).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerFingerprint {
    /// `sha-256`, `sha-384`, `sha-512`, `sha-1`; lower case.
    pub hash: String,
    /// The digest.
    pub digest: Vec<u8>,
}

/// The handshake of a WebRTC leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DtlsConfig {
    /// Ours.
    pub role: DtlsRole,
    /// The peer's certificate must match one of them.
    pub fingerprints: Vec<PeerFingerprint>,
    /// Profiles that may be agreed on, the most wanted first.
    pub profiles: Vec<SrtpProfile>,
}
