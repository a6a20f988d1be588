//! Descriptions of a protected end: written as browsers and desk phones do, read as far as needed.
//!
//! In: our end, or SDP of the node. Out: SDP, or what it says. Written apart from `media::sdp`, so that
//! the two cannot share a fault.

use std::fmt::Write as _;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::{DtlsRole, IceCredentials, Secret, SrtpProfile};

use super::Line;

/// One `a=crypto` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Crypto {
    pub(super) tag: u32,
    pub(super) profile: SrtpProfile,
    /// Master key and salt.
    pub(super) key: Vec<u8>,
}

/// What the node's description says.
#[derive(Clone, Debug, Default)]
pub(super) struct Described {
    pub(super) address: Option<SocketAddr>,
    pub(super) cryptos: Vec<Crypto>,
    pub(super) ice: Option<IceCredentials>,
    pub(super) digest: Option<Vec<u8>>,
    pub(super) setup: Option<String>,
    pub(super) candidates: Vec<SocketAddr>,
}

impl Described {
    /// Reads SDP; `None` if it describes no sound.
    pub(super) fn read(sdp: &str) -> Option<Described> {
        let value = |name: &str| {
            let line = sdp.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().to_owned())
        };
        let port: u16 = value("m=audio ")?.split(' ').next()?.parse().ok()?;
        let ip = value("c=IN IP4 ").and_then(|ip| ip.parse().ok());
        let ice = value("a=ice-ufrag:")
            .zip(value("a=ice-pwd:"))
            .map(|(ufrag, pwd)| IceCredentials {
                ufrag,
                pwd: Secret::new(pwd),
            });
        let digest = value("a=fingerprint:sha-256 ").map(|hex| {
            let octets = hex.split(':');
            octets
                .filter_map(|octet| u8::from_str_radix(octet, 16).ok())
                .collect()
        });
        let lines = |name: &'static str| {
            let lines = sdp.lines();
            lines.filter_map(move |line| line.strip_prefix(name))
        };
        Some(Described {
            address: ip.map(|ip| SocketAddr::new(ip, port)),
            cryptos: lines("a=crypto:").filter_map(crypto).collect(),
            ice,
            digest,
            setup: value("a=setup:"),
            candidates: lines("a=candidate:").filter_map(candidate_of).collect(),
        })
    }
}

fn crypto(line: &str) -> Option<Crypto> {
    let mut words = line.split_whitespace();
    let tag = words.next()?.parse().ok()?;
    let profile = SrtpProfile::of_suite(words.next()?)?;
    let key = words.next()?.strip_prefix("inline:")?;
    let key = STANDARD.decode(key.split('|').next()?).ok()?;
    let is_whole = key.len() == profile.key_bytes() + profile.salt_bytes();
    is_whole.then_some(Crypto { tag, profile, key })
}

fn candidate_of(line: &str) -> Option<SocketAddr> {
    let words: Vec<_> = line.split_whitespace().collect();
    let (ip, port) = (words.get(4)?, words.get(5)?);
    Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
}

/// Writes a host candidate (RFC 8839 §5.1).
pub(super) fn candidate(local: SocketAddr) -> String {
    format!(
        "candidate:1 1 udp 2130706431 {} {} typ host",
        local.ip(),
        local.port()
    )
}

impl Line {
    pub(super) fn describe_sdes(&self, direction: &str) -> String {
        let (ip, port, version) = (self.local.ip(), self.local.port(), self.version);
        let key = STANDARD.encode(&self.ours.key);
        format!(
            "v=0\r\no=p {} {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
             m=audio {port} RTP/SAVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n\
             a=crypto:{} {} inline:{key}\r\na={direction}\r\n",
            self.number,
            self.ours.tag,
            self.ours.profile.suite()
        )
    }

    pub(super) fn describe_web(&self, direction: &str, is_offer: bool) -> String {
        let setup = match self.role {
            _ if is_offer => "actpass",
            Some(DtlsRole::Passive) => "passive",
            Some(DtlsRole::Active) | None => "active",
        };
        let mut text = format!(
            "v=0\r\no=- {} {} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
             a=extmap-allow-mixed\r\na=msid-semantic: WMS *\r\n\
             m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8 126\r\nc=IN IP4 0.0.0.0\r\n\
             a=rtcp:9 IN IP4 0.0.0.0\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
             a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=ice-options:trickle\r\na=fingerprint:sha-256 ",
            self.number,
            self.version,
            self.ice.ufrag,
            self.ice.pwd.expose()
        );
        for (at, octet) in self.fingerprint.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            let _ = write!(text, "{colon}{octet:02X}");
        }
        let _ = write!(
            text,
            "\r\na=setup:{setup}\r\na=mid:0\r\na={direction}\r\na=rtpmap:111 opus/48000/2\r\n\
             a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
             a=rtpmap:126 telephone-event/8000\r\na=ssrc:{} cname:phone\r\n",
            self.ssrc
        );
        if self.version > 1 || self.seed.is_multiple_of(2) {
            // The others trickle.
            let _ = write!(text, "a={}\r\n", candidate(self.local));
        }
        text
    }
}
