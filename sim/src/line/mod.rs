//! A phone's end of protected media: SRTP with keys of the signalling, or ICE, DTLS and SRTP.
//!
//! In: descriptions of both ends, datagrams, time. Out: our descriptions, datagrams, sound that was
//! authentic. What the node sends is held against I8: no (key, SSRC, index) has two payloads; and
//! against the promise that a call goes on without another handshake.

mod describe;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use contract::{
    DtlsConfig, DtlsRole, Entropy, IceConfig, IceCredentials, KeyMaterial, PeerFingerprint,
    RemoteCandidate, SrtpKeys, SrtpProfile, Time, WebrtcConfig,
};
use media::relay::{SRTP_TAIL_BYTES, Srtp, SrtpMaker, SrtpStart};
use media::stun::is_stun;
use weft::media_plane::srtp::LibraryMaker;
use xxhash_rust::xxh3::xxh3_64;

use crate::handshake::is_handshake;
use crate::web::{WebEnd, WebOutput};
use describe::{Crypto, Described};

/// Octets of an RTP header without extensions.
const RTP_HEADER_BYTES: usize = 12;

/// How a line is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Keys in SDP (RFC 4568).
    Sdes(SrtpProfile),
    /// ICE, DTLS (RFC 8445, RFC 5764).
    Web {
        /// Takes the passive role where it is free to.
        is_passive: bool,
    },
}

/// What a line heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Authentic sound.
    Sound,
    /// Something else, or nothing that counts.
    Nothing,
}

/// One end.
#[derive(Debug)]
pub struct Line {
    protection: Protection,
    local: SocketAddr,
    number: u64,
    version: u32,
    ssrc: u32,
    sequence: u16,
    fingerprint: Vec<u8>,
    ice: IceCredentials,
    seed: u64,
    role: Option<DtlsRole>,
    ours: Crypto,
    keys: Option<SrtpKeys>,
    srtp: Option<Box<dyn Srtp>>,
    web: Option<WebEnd>,
    config: Option<WebrtcConfig>,
    /// Media address of the node's last description.
    remote: Option<SocketAddr>,
    handshakes: u32,
    seen: Seen,
    out: VecDeque<(SocketAddr, Bytes)>,
    complaints: Vec<(&'static str, String)>,
}

/// Indices that the node has used under one key.
#[derive(Debug, Default)]
struct Seen {
    highest: BTreeMap<u32, u64>,
    payloads: BTreeMap<(u32, u64), u64>,
}

impl Seen {
    /// Tells whether an index is used for another payload (RFC 3711 §3.3.1 estimates it).
    fn is_repeated(&mut self, octets: &[u8]) -> bool {
        let Some(head) = octets.first_chunk::<RTP_HEADER_BYTES>() else {
            return false;
        };
        let sequence = u64::from(u16::from_be_bytes([head[2], head[3]]));
        let ssrc = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        let highest = self.highest.entry(ssrc).or_insert(sequence);
        let (rollover, last) = (*highest >> 16, *highest & 0xffff);
        let rollover = if last < 0x8000 && sequence > last + 0x8000 {
            rollover.saturating_sub(1)
        } else if last >= 0x8000 && sequence + 0x8000 < last {
            rollover + 1
        } else {
            rollover
        };
        let index = rollover << 16 | sequence;
        *highest = (*highest).max(index);
        let payload = xxh3_64(octets);
        *self.payloads.entry((ssrc, index)).or_insert(payload) != payload
    }
}

impl Line {
    /// Makes an end that has described nothing yet.
    #[must_use]
    pub fn new(protection: Protection, local: SocketAddr, rng: &mut Entropy) -> Line {
        let mut octets = |count: usize| -> Vec<u8> {
            (0..count)
                .map(|_| rng.next_u64().to_le_bytes()[0])
                .collect()
        };
        let profile = match protection {
            Protection::Sdes(profile) => profile,
            Protection::Web { .. } => SrtpProfile::AesCm128HmacSha1_80,
        };
        let fingerprint = octets(32);
        let ours = Crypto {
            tag: 1,
            profile,
            key: octets(profile.key_bytes() + profile.salt_bytes()),
        };
        let ice = IceCredentials {
            ufrag: format!("{:08x}", rng.next_u64() >> 32),
            pwd: contract::Secret::new(format!("{:032x}", rng.next_u128())),
        };
        Line {
            protection,
            local,
            number: rng.next_u64() >> 2,
            version: 0,
            ssrc: rng.below(u32::MAX),
            sequence: 1,
            fingerprint,
            ice,
            seed: rng.next_u64(),
            role: None,
            ours,
            keys: None,
            srtp: None,
            web: None,
            config: None,
            remote: None,
            handshakes: 0,
            seen: Seen::default(),
            out: VecDeque::new(),
            complaints: Vec::new(),
        }
    }

    /// Describes our end: as an offer, or as an answer to what was learnt last.
    pub fn describe(&mut self, direction: &str, is_offer: bool) -> String {
        self.version += 1;
        match self.protection {
            Protection::Sdes(_) => self.describe_sdes(direction),
            Protection::Web { .. } => self.describe_web(direction, is_offer),
        }
    }

    /// Learns the node's description.
    pub fn learn(&mut self, sdp: &str, is_offer: bool, now: Time) {
        let Some(theirs) = Described::read(sdp) else {
            return;
        };
        self.remote = theirs.address.or(self.remote);
        match self.protection {
            Protection::Sdes(profile) => self.learn_keys(&theirs, profile, is_offer),
            Protection::Web { is_passive } => self.learn_path(&theirs, is_passive, is_offer, now),
        }
    }

    /// Returns where the node's media is, once it has described it.
    #[must_use]
    pub const fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Returns our candidate as `iceCandidate` says it.
    #[must_use]
    pub fn candidate(&self) -> String {
        describe::candidate(self.local)
    }

    fn learn_keys(&mut self, theirs: &Described, profile: SrtpProfile, is_offer: bool) {
        let wanted = theirs.cryptos.iter().find(|line| line.profile == profile);
        let Some(found) = wanted.or_else(|| theirs.cryptos.first()) else {
            return;
        };
        if is_offer {
            self.ours.tag = found.tag;
        }
        if found.profile != self.ours.profile {
            // The node has only another one: our key must have its length.
            let wanted = found.profile.key_bytes() + found.profile.salt_bytes();
            self.ours.key.resize(wanted, 0x5a);
            self.ours.profile = found.profile;
        }
        self.be_keyed(SrtpKeys {
            profile: self.ours.profile,
            peer_profile: found.profile,
            our_key: self.ours.key(),
            our_salt: self.ours.salt(),
            peer_key: found.key(),
            peer_salt: found.salt(),
            rtcp_index_start: 0,
            received: Vec::new(),
        });
    }

    fn learn_path(&mut self, theirs: &Described, is_passive: bool, is_offer: bool, now: Time) {
        let (Some(ice), Some(digest)) = (theirs.ice.clone(), theirs.digest.clone()) else {
            return;
        };
        let role = *self.role.get_or_insert(match theirs.setup.as_deref() {
            Some("active") => DtlsRole::Passive,
            Some("actpass") if is_offer && is_passive => DtlsRole::Passive,
            _ => DtlsRole::Active,
        });
        let candidates = theirs.candidates.iter().map(|address| RemoteCandidate {
            address: *address,
            priority: 1,
        });
        let config = WebrtcConfig {
            ice: IceConfig {
                local: self.ice.clone(),
                remote: Some(ice),
                candidates: candidates.collect(),
                is_controlling: true,
                tie_breaker: self.seed | 1,
                selected: None,
                seed: self.seed,
            },
            dtls: DtlsConfig {
                role,
                fingerprints: vec![PeerFingerprint {
                    hash: "sha-256".to_owned(),
                    digest,
                }],
                profiles: SrtpProfile::ALL.to_vec(),
            },
            association: 1,
            keys: self.keys.clone().map(Box::new),
        };
        match &mut self.web {
            Some(end) => end.configure(&config, now),
            None => {
                let mut seed = [0; 32];
                seed[..8].copy_from_slice(&self.seed.to_le_bytes());
                self.web = Some(WebEnd::new(&config, self.fingerprint.clone(), seed, now));
            }
        }
        self.config = Some(config);
        self.settle(now);
    }

    fn be_keyed(&mut self, keys: SrtpKeys) {
        if self.keys.as_ref() == Some(&keys) {
            return;
        }
        let is_new = self.keys.as_ref().map(|known| &known.peer_key) != Some(&keys.peer_key);
        if is_new {
            self.seen = Seen::default();
        }
        let start = SrtpStart {
            ssrc: self.ssrc,
            sequence_start: self.sequence,
            rollover_start: 0,
        };
        self.srtp = LibraryMaker.make(&keys, start).ok();
        self.keys = Some(keys);
    }

    /// Carries out what path and handshake want.
    fn settle(&mut self, now: Time) {
        while let Some(output) = self.web.as_mut().and_then(WebEnd::poll) {
            match output {
                WebOutput::Send { to, octets } => self.out.push_back((to, Bytes::from(octets))),
                WebOutput::Selected { .. } | WebOutput::Lost => {}
                WebOutput::Keyed { keys, .. } => {
                    self.handshakes += 1;
                    if self.handshakes > 1 {
                        self.complain("I7", "a second handshake in one call");
                    }
                    self.be_keyed((*keys).clone());
                    if let (Some(config), Some(end)) = (&mut self.config, &mut self.web) {
                        config.keys = Some(keys);
                        end.configure(config, now);
                    }
                }
                WebOutput::Refused if self.keys.is_some() => {
                    self.complain("I7", "the node begins another handshake in a call");
                }
                WebOutput::Refused => self.complain("I7", "the node shows another certificate"),
            }
        }
    }

    fn complain(&mut self, promise: &'static str, how: &str) {
        let how = format!("{} at {}", how, self.local);
        self.complaints.push((promise, how));
    }

    /// Takes a datagram of the node.
    pub fn datagram(&mut self, from: SocketAddr, octets: &[u8], now: Time) -> Heard {
        if is_stun(octets) || is_handshake(octets) {
            if let Some(end) = &mut self.web {
                end.datagram(from, octets, now);
            }
            self.settle(now);
            return Heard::Nothing;
        }
        let is_rtcp = octets.get(1).is_some_and(|kind| (192..=223).contains(kind));
        let Some(srtp) = self.srtp.as_mut().filter(|_| !is_rtcp) else {
            return Heard::Nothing;
        };
        let mut buffer = octets.to_vec();
        buffer.resize(octets.len() + SRTP_TAIL_BYTES, 0);
        let opened = srtp.unprotect_rtp(&mut buffer, octets.len());
        let is_ours = opened.is_ok() || opened == Err(media::relay::SrtpFault::Replayed);
        if is_ours && self.seen.is_repeated(octets) {
            self.complain("I8", "an SRTP index has two payloads");
        }
        match opened {
            Ok(_) => Heard::Sound,
            Err(_) => Heard::Nothing,
        }
    }

    /// Sends one packet of sound, if there is a way and a key.
    pub fn speak(&mut self) {
        let to = match self.protection {
            Protection::Sdes(_) => self.remote,
            Protection::Web { .. } => self.web.as_ref().and_then(WebEnd::target),
        };
        let (Some(to), Some(srtp)) = (to, self.srtp.as_mut()) else {
            return;
        };
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = super::phone::rtp(self.sequence, self.ssrc).to_vec();
        let length = packet.len();
        packet.resize(length + SRTP_TAIL_BYTES, 0);
        if let Ok(length) = srtp.protect_rtp(&mut packet, length, 0) {
            packet.truncate(length);
            self.out.push_back((to, Bytes::from(packet)));
        }
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: Time) {
        if let Some(end) = self.web.as_mut()
            && end.next_due().is_some_and(|due| due <= now)
        {
            end.on_time(now);
        }
        self.settle(now);
    }

    /// Returns when `on_time` is to be called next.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        self.web.as_ref().and_then(WebEnd::next_due)
    }

    /// Takes the next datagram to send.
    pub fn poll(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.out.pop_front()
    }

    /// Takes what broke: the promise and how.
    pub fn complaints(&mut self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.complaints)
    }
}

impl Crypto {
    fn key(&self) -> KeyMaterial {
        KeyMaterial::new(self.key[..self.profile.key_bytes()].to_vec())
    }

    fn salt(&self) -> KeyMaterial {
        KeyMaterial::new(self.key[self.profile.key_bytes()..].to_vec())
    }
}

#[cfg(test)]
mod tests;
