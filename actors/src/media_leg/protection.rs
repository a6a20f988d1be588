//! Keys, credentials and associations of a protected leg (RFC 4568, RFC 8839, RFC 8842).
//!
//! In: what the peer describes, chance. Out: how our end is described, how the media plane is
//! configured. It draws keys once and keeps them: a description that changes nothing leaves keys and
//! path as they are; new ICE credentials of the peer mean new ones of ours, a new certificate of the
//! peer a new handshake. Where another node had the leg before, the next offer brings new ones of ours.

use std::net::{IpAddr, SocketAddr};

use contract::limits::ICE_CANDIDATES_MAX;
use contract::{
    DtlsConfig, DtlsRole, Entropy, IceConfig, IceCredentials, KeyMaterial, LegSocket, LegTransport,
    PeerFingerprint, RemoteCandidate, Secret, SrtpKeys, SrtpProfile, WebrtcConfig,
};
use media::sdp::{
    LocalTransport, LocalWebrtc, RemoteTransport, RemoteWebrtc, SdesKey, Setup, answer_setup,
    fingerprint_digest, may_send,
};
use serde::{Deserialize, Serialize};

use super::Offering;
use super::numbers::Numbers;

/// What our end of any leg protects with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own<'a> {
    /// SSRC we send with.
    pub(super) ssrc: u32,
    /// Fingerprint of our certificate, as SDP writes it.
    pub(super) fingerprint: &'a str,
    /// Profiles of the configuration, the most wanted first.
    pub(super) profiles: &'a [SrtpProfile],
}

/// How a leg is protected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Protection {
    Plain,
    Sdes(Sdes),
    Webrtc(Box<Webrtc>),
}

/// Keys of the signalling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sdes {
    /// Ours, one for each profile, with the tags of our offer.
    offered: Vec<SdesKey>,
    /// What was agreed on: ours, and the peer's.
    agreed: Option<(SdesKey, SdesKey)>,
}

/// Path and handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Webrtc {
    local: IceCredentials,
    tie_breaker: u64,
    seed: u64,
    remote: Option<Remote>,
    role: DtlsRole,
    association: u32,
    keys: Option<SrtpKeys>,
    /// Address that media went to last.
    selected: Option<SocketAddr>,
    /// The path was there before the node was started.
    is_resumed: bool,
}

/// The peer's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remote {
    ice: IceCredentials,
    is_lite: bool,
    fingerprints: Vec<PeerFingerprint>,
    candidates: Vec<RemoteCandidate>,
}

impl Protection {
    /// Begins what is to be offered.
    pub(super) fn offered(offering: Offering, profiles: &[SrtpProfile], rng: &mut Entropy) -> Self {
        match offering {
            Offering::Rtp => Protection::Plain,
            Offering::Sdes => Protection::Sdes(Sdes::draw(profiles, rng)),
            Offering::Webrtc => Protection::Webrtc(Box::new(Webrtc::draw(rng))),
        }
    }

    /// Begins what fits the peer's offer.
    pub(super) fn fitting(
        remote: &RemoteTransport,
        profiles: &[SrtpProfile],
        rng: &mut Entropy,
    ) -> Self {
        let offering = match remote {
            RemoteTransport::Plain => Offering::Rtp,
            RemoteTransport::Sdes(_) => Offering::Sdes,
            RemoteTransport::Webrtc(_) => Offering::Webrtc,
        };
        Protection::offered(offering, profiles, rng)
    }

    /// Returns which socket such a leg has.
    pub(super) const fn socket(&self) -> LegSocket {
        match self {
            Protection::Plain | Protection::Sdes(_) => LegSocket::Own,
            Protection::Webrtc(_) => LegSocket::Shared,
        }
    }

    /// Tells whether a peer that describes `remote` can be met: a leg keeps its kind of socket.
    pub(super) const fn meets(&self, remote: &RemoteTransport) -> bool {
        matches!(
            (self, remote),
            (
                Protection::Plain | Protection::Sdes(_),
                RemoteTransport::Plain | RemoteTransport::Sdes(_)
            ) | (Protection::Webrtc(_), RemoteTransport::Webrtc(_))
        )
    }

    /// Returns how our end is offered; `ice`: with other credentials than the present ones.
    pub(super) fn to_offer(&self, own: &Own<'_>, ice: Option<IceCredentials>) -> LocalTransport {
        match self {
            Protection::Plain => LocalTransport::Plain,
            Protection::Sdes(sdes) => LocalTransport::Sdes(sdes.to_offer()),
            Protection::Webrtc(webrtc) => webrtc.describe(Setup::ActPass, ice, own),
        }
    }

    /// Takes the peer's offer and returns how our end answers it; `None` if no key of the peer can
    /// be used.
    pub(super) fn answer(
        &mut self,
        remote: &RemoteTransport,
        own: &Own<'_>,
        rng: &mut Entropy,
    ) -> Option<LocalTransport> {
        match remote {
            RemoteTransport::Plain => {
                *self = Protection::Plain;
                Some(LocalTransport::Plain)
            }
            RemoteTransport::Sdes(keys) => {
                if !matches!(self, Protection::Sdes(_)) {
                    *self = Protection::Sdes(Sdes::draw(own.profiles, rng));
                }
                let Protection::Sdes(sdes) = self else {
                    return None;
                };
                let ours = sdes.answer(keys)?;
                Some(LocalTransport::Sdes(vec![ours]))
            }
            RemoteTransport::Webrtc(theirs) => {
                let Protection::Webrtc(webrtc) = self else {
                    return None;
                };
                let role = match answer_setup(theirs.setup) {
                    Setup::Active => DtlsRole::Active,
                    Setup::Passive | Setup::ActPass | Setup::HoldConn => DtlsRole::Passive,
                };
                webrtc.take(theirs, role, Taken::Offer, rng);
                let setup = match webrtc.role {
                    DtlsRole::Active => Setup::Active,
                    DtlsRole::Passive => Setup::Passive,
                };
                Some(webrtc.describe(setup, None, own))
            }
        }
    }

    /// Takes the peer's answer to our offer, which described `ice`; false if it does not fit.
    pub(super) fn answered(
        &mut self,
        remote: &RemoteTransport,
        ice: Option<IceCredentials>,
        rng: &mut Entropy,
    ) -> bool {
        match (self, remote) {
            (Protection::Plain, RemoteTransport::Plain) => true,
            (Protection::Sdes(sdes), RemoteTransport::Sdes(keys)) => sdes.answered(keys),
            (Protection::Webrtc(webrtc), RemoteTransport::Webrtc(theirs)) => {
                let role = match theirs.setup {
                    Setup::Passive => DtlsRole::Active,
                    Setup::Active | Setup::ActPass | Setup::HoldConn => DtlsRole::Passive,
                };
                webrtc.take(theirs, role, Taken::Answer(ice), rng);
                true
            }
            (Protection::Plain | Protection::Sdes(_) | Protection::Webrtc(_), _) => false,
        }
    }

    /// Tells what we send under: another value means other keys.
    pub(super) const fn sending(&self) -> SendingKey {
        match self {
            Protection::Sdes(Sdes {
                agreed: Some((ours, _)),
                ..
            }) => SendingKey::Signalled(ours.profile),
            Protection::Plain | Protection::Sdes(_) => SendingKey::Clear,
            Protection::Webrtc(_) => SendingKey::Handshake,
        }
    }

    /// Returns the transport that the media plane is configured with; `None` while keys or
    /// credentials of the peer are not there. `profiles` are those a handshake may agree on.
    pub(super) fn transport(
        &self,
        numbers: &Numbers,
        source: IpAddr,
        profiles: &[SrtpProfile],
    ) -> Option<LegTransport> {
        match self {
            Protection::Plain => Some(LegTransport::Plain),
            Protection::Sdes(sdes) => {
                let (ours, theirs) = sdes.agreed.as_ref()?;
                Some(LegTransport::Sdes(Box::new(SrtpKeys {
                    profile: ours.profile,
                    peer_profile: theirs.profile,
                    our_key: ours.key.clone(),
                    our_salt: ours.salt.clone(),
                    peer_key: theirs.key.clone(),
                    peer_salt: theirs.salt.clone(),
                    rtcp_index_start: numbers.rtcp_index_start,
                    received: numbers.received.clone(),
                })))
            }
            Protection::Webrtc(webrtc) => webrtc.transport(numbers, source, profiles),
        }
    }

    /// Adds a candidate that the peer trickled; false if it is not wanted.
    pub(super) fn add_candidate(&mut self, candidate: RemoteCandidate) -> bool {
        let Protection::Webrtc(webrtc) = self else {
            return false;
        };
        let Some(remote) = &mut webrtc.remote else {
            return false;
        };
        let is_new = !remote.candidates.contains(&candidate);
        let is_wanted = is_new && remote.candidates.len() < ICE_CANDIDATES_MAX;
        if is_wanted {
            remote.candidates.push(candidate);
        }
        is_wanted
    }

    /// Notes where media goes; false if it is known.
    pub(super) fn select(&mut self, address: SocketAddr) -> bool {
        match self {
            Protection::Webrtc(webrtc) => {
                webrtc.is_resumed = false;
                webrtc.selected.replace(address) != Some(address)
            }
            Protection::Plain | Protection::Sdes(_) => false,
        }
    }

    /// Takes the keys of an association; false if it is another one by now.
    pub(super) fn key(&mut self, keys: SrtpKeys, association: u32) -> bool {
        match self {
            Protection::Webrtc(webrtc) if webrtc.association == association => {
                webrtc.keys = Some(keys);
                true
            }
            Protection::Webrtc(_) | Protection::Plain | Protection::Sdes(_) => false,
        }
    }

    /// Tells whether a handshake has not come to its end: it cannot go on elsewhere.
    pub(super) const fn is_unkeyed(&self) -> bool {
        match self {
            Protection::Webrtc(webrtc) => webrtc.keys.is_none(),
            Protection::Plain | Protection::Sdes(_) => false,
        }
    }

    /// Returns our key and the peer's, where they are those of the signalling.
    pub(super) fn signalled_keys(&self) -> Option<(&KeyMaterial, &KeyMaterial)> {
        match self {
            Protection::Sdes(sdes) => {
                let (ours, theirs) = sdes.agreed.as_ref()?;
                Some((&ours.key, &theirs.key))
            }
            Protection::Plain | Protection::Webrtc(_) => None,
        }
    }

    /// Another node had the leg: keys of the signalling are new in our next description. Those that
    /// were agreed on hold until its answer is there.
    pub(super) fn renew(&mut self, rng: &mut Entropy) {
        if let Protection::Sdes(sdes) = self
            && sdes.agreed.is_some()
        {
            let profiles: Vec<SrtpProfile> = sdes.offered.iter().map(|key| key.profile).collect();
            sdes.offered = Sdes::draw(&profiles, rng).offered;
        }
    }

    /// The node was started again: a path that was there is resumed.
    pub(super) fn resume(&mut self) {
        if let Protection::Webrtc(webrtc) = self {
            webrtc.is_resumed = webrtc.selected.is_some() && webrtc.keys.is_some();
        }
    }
}

/// What a description of the peer is.
enum Taken {
    Offer,
    /// The answer to an offer of ours with these credentials.
    Answer(Option<IceCredentials>),
}

/// What a leg sends under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendingKey {
    /// No key.
    Clear,
    /// Our key of a profile: one each in the life of a leg.
    Signalled(SrtpProfile),
    /// Keys of a handshake, told by an event of their own.
    Handshake,
}

impl Sdes {
    fn draw(profiles: &[SrtpProfile], rng: &mut Entropy) -> Self {
        let offered = (1..)
            .zip(profiles.iter().copied())
            .map(|(tag, profile)| SdesKey {
                tag,
                profile,
                key: octets(rng, profile.key_bytes()),
                salt: octets(rng, profile.salt_bytes()),
            })
            .collect();
        Sdes {
            offered,
            agreed: None,
        }
    }

    fn to_offer(&self) -> Vec<SdesKey> {
        let Some((ours, _)) = &self.agreed else {
            return self.offered.clone();
        };
        if self.offered.iter().any(|one| one.key == ours.key) {
            return vec![ours.clone()];
        }
        let is_renewed = |one: &&SdesKey| one.profile == ours.profile;
        self.offered.iter().filter(is_renewed).cloned().collect()
    }

    /// The peer's first line that we can use counts; our key of that profile goes with its tag.
    fn answer(&mut self, theirs: &[SdesKey]) -> Option<SdesKey> {
        let usable = theirs.iter().find_map(|key| {
            let ours = self.offered.iter().find(|one| one.profile == key.profile)?;
            Some((ours, key))
        });
        let (ours, theirs) = usable?;
        let ours = SdesKey {
            tag: theirs.tag,
            ..ours.clone()
        };
        self.agreed = Some((ours.clone(), theirs.clone()));
        Some(ours)
    }

    fn answered(&mut self, theirs: &[SdesKey]) -> bool {
        let offered = self.to_offer();
        let usable = theirs.iter().find_map(|key| {
            let ours = offered
                .iter()
                .find(|one| one.tag == key.tag && one.profile == key.profile)?;
            Some((ours.clone(), key.clone()))
        });
        self.agreed = usable.or(self.agreed.take());
        self.agreed
            .as_ref()
            .is_some_and(|(_, agreed)| theirs.contains(agreed))
    }
}

impl Webrtc {
    fn draw(rng: &mut Entropy) -> Self {
        Webrtc {
            local: credentials(rng),
            tie_breaker: rng.next_u64(),
            seed: rng.next_u64(),
            remote: None,
            role: DtlsRole::Passive,
            association: 0,
            keys: None,
            selected: None,
            is_resumed: false,
        }
    }

    fn take(&mut self, theirs: &RemoteWebrtc, role: DtlsRole, taken: Taken, rng: &mut Entropy) {
        let former = self.remote.as_ref();
        let is_theirs_new = former.is_some_and(|former| former.ice != theirs.ice);
        let is_ours_new = match &taken {
            Taken::Answer(Some(ours)) => *ours != self.local,
            Taken::Answer(None) | Taken::Offer => false,
        };
        let is_restart = is_theirs_new || is_ours_new;
        let is_same_end = former.is_some_and(|former| former.fingerprints == theirs.fingerprints);
        if is_restart {
            // RFC 8839 §4.4.1.1.1: an answer to an ICE restart restarts as well.
            match taken {
                Taken::Offer => self.local = credentials(rng),
                Taken::Answer(Some(ours)) => self.local = ours,
                Taken::Answer(None) => {}
            }
            self.seed = rng.next_u64();
            // Media goes where it went until the restart has selected an address (RFC 8445 §9): the
            // next node resumes that if this one ends meanwhile.
            self.is_resumed = false;
        }
        if !is_same_end {
            self.association = self.association.wrapping_add(1);
            self.keys = None;
            self.selected = None;
            self.role = role;
        }
        let mut candidates = theirs.candidates.clone();
        if let Some(former) = former.filter(|_| !is_restart) {
            candidates.extend(&former.candidates);
        }
        let mut kept: Vec<RemoteCandidate> = Vec::new();
        for candidate in candidates {
            if !kept.contains(&candidate) && kept.len() < ICE_CANDIDATES_MAX {
                kept.push(candidate);
            }
        }
        self.remote = Some(Remote {
            ice: theirs.ice.clone(),
            is_lite: theirs.is_lite,
            fingerprints: theirs.fingerprints.clone(),
            candidates: kept,
        });
    }

    fn describe(&self, setup: Setup, ice: Option<IceCredentials>, own: &Own<'_>) -> LocalTransport {
        let print = own.fingerprint;
        let digest = print.split_once(' ').map_or(print, |(_, hex)| hex);
        LocalTransport::Webrtc(Box::new(LocalWebrtc {
            ice: ice.unwrap_or_else(|| self.local.clone()),
            is_lite: self.remote.as_ref().is_none_or(|remote| !remote.is_lite),
            fingerprint: fingerprint_digest(digest).unwrap_or_default(),
            setup,
            ssrc: own.ssrc,
        }))
    }

    fn transport(
        &self,
        numbers: &Numbers,
        source: IpAddr,
        profiles: &[SrtpProfile],
    ) -> Option<LegTransport> {
        let remote = self.remote.as_ref()?;
        let is_allowed =
            |candidate: &RemoteCandidate| may_send(candidate.address.ip(), source, &[]);
        let keys = self.keys.clone().map(|keys| {
            Box::new(SrtpKeys {
                rtcp_index_start: numbers.rtcp_index_start,
                received: numbers.received.clone(),
                ..keys
            })
        });
        let candidates = remote.candidates.iter().copied().filter(is_allowed);
        Some(LegTransport::Webrtc(Box::new(WebrtcConfig {
            ice: IceConfig {
                local: self.local.clone(),
                remote: Some(remote.ice.clone()),
                candidates: candidates.collect(),
                is_controlling: remote.is_lite,
                tie_breaker: self.tie_breaker,
                selected: self.selected.filter(|_| self.is_resumed),
                seed: self.seed,
            },
            dtls: DtlsConfig {
                role: self.role,
                fingerprints: remote.fingerprints.clone(),
                profiles: profiles.to_vec(),
            },
            association: self.association,
            keys,
        })))
    }
}

/// Tells whether an offer's keys, if it brings any, have a profile of ours.
pub(super) fn has_usable_keys(remote: &RemoteTransport, profiles: &[SrtpProfile]) -> bool {
    match remote {
        RemoteTransport::Sdes(keys) => keys.iter().any(|key| profiles.contains(&key.profile)),
        RemoteTransport::Plain | RemoteTransport::Webrtc(_) => true,
    }
}

/// Makes ICE credentials: 48 and 144 random bits (RFC 8445 §5.3 asks for 24 and 128).
pub(super) fn credentials(rng: &mut Entropy) -> IceCredentials {
    IceCredentials {
        ufrag: rng.ice_text(8),
        pwd: Secret::new(rng.ice_text(24)),
    }
}

fn octets(rng: &mut Entropy, count: usize) -> KeyMaterial {
    let mut drawn = Vec::with_capacity(count + 8);
    while drawn.len() < count {
        drawn.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    drawn.truncate(count);
    KeyMaterial::new(drawn)
}
