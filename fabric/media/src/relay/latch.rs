//! Latching: whose packets a leg takes, and where it sends (`architecture.md` §5, threats.md 17).
//!
//! In: what signalling said, source and SSRC of each packet. Out: taken, held back or refused; the
//! address to send to. It never sends to a source of which it knows nothing until that one has won.
//!
//! | source | before the lock | after the lock |
//! |---|---|---|
//! | signalled address and port | taken; beats all others | taken if locked to it; within 5 s it wins a lock of the others after 5 packets |
//! | signalled or SIP source IP, any port | taken | taken if locked to it; within 5 s it wins a lock of a stranger after 5 packets |
//! | any other with `nat`, first 5 s | held back | taken if locked to it |
//! | any other | refused | refused |
//!
//! Locked after 5 packets of one SSRC. A source gives way before that to one of a higher
//! rank, and, once it is silent for 100 ms, to any. Only a new negotiation opens the lock. Packets of
//! protected legs come here once they are authentic; `refuses` says of some before that the source
//! cannot win anyway. WebRTC legs have no latch: the caller has validated each source by ICE.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use contract::limits::{LATCH_PACKETS, LATCH_WINDOW_MS};
use contract::{LegConfig, LegTransport, Time};

const WINDOW: Duration = Duration::from_millis(LATCH_WINDOW_MS);

/// Silence after which a source that has not won yet gives way to another of its rank.
const CANDIDATE_SILENCE: Duration = Duration::from_millis(100);

/// How much signalling knows of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Stranger,
    Expected,
    Signalled,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is the peer's.
    Taken,
    /// It counts for the latch, but its content is not used yet.
    Held,
    /// It is not the peer's.
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    address: SocketAddr,
    rank: Rank,
    ssrc: u32,
    packets: u8,
    heard: Time,
}

/// The latch of one leg.
#[derive(Clone, Debug)]
pub(super) struct Latch {
    remote: Option<SocketAddr>,
    remote_rtcp: Option<SocketAddr>,
    sip_source: Option<IpAddr>,
    nat: bool,
    negotiation: u32,
    opened: Time,
    candidate: Option<Candidate>,
    locked: Option<(SocketAddr, Rank)>,
    /// Where packets went before the negotiation, if the signalled address is the same.
    carried: Option<SocketAddr>,
    learned_rtcp: Option<SocketAddr>,
    rtcp_mux: bool,
    /// ICE has the say.
    is_validated: bool,
    /// Where ICE says that packets go.
    selected: Option<SocketAddr>,
}

impl Latch {
    pub(super) fn new(config: &LegConfig, now: Time) -> Self {
        Latch {
            remote: config.remote.map(canonical),
            remote_rtcp: config.remote_rtcp.map(canonical),
            sip_source: config.sip_source.map(|address| address.to_canonical()),
            nat: config.nat,
            negotiation: config.negotiation,
            opened: now,
            candidate: None,
            locked: None,
            carried: None,
            learned_rtcp: None,
            rtcp_mux: config.rtcp_mux,
            is_validated: matches!(config.transport, LegTransport::Webrtc(_)),
            selected: None,
        }
    }

    /// Takes a configuration; one of a new negotiation or with other addresses opens the lock.
    pub(super) fn update(&mut self, config: &LegConfig, now: Time) {
        let next = Latch::new(config, now);
        let is_same = self.negotiation == next.negotiation
            && self.remote == next.remote
            && self.sip_source == next.sip_source
            && self.nat == next.nat
            && self.is_validated == next.is_validated;
        if is_same {
            self.remote_rtcp = next.remote_rtcp;
            self.rtcp_mux = next.rtcp_mux;
            return;
        }
        let carried = if self.remote == next.remote {
            self.latched()
        } else {
            None
        };
        let selected = self.selected.filter(|_| self.is_validated);
        *self = Latch {
            carried,
            selected,
            ..next
        };
    }

    /// Sets where packets of a WebRTC leg go.
    pub(super) fn select(&mut self, to: Option<SocketAddr>) {
        self.selected = to.map(canonical);
    }

    /// Tells whether an RTP packet of this source is refused whatever it says; changes nothing.
    pub(super) fn refuses(&self, from: SocketAddr, now: Time) -> bool {
        let from = canonical(from);
        if self.is_validated || self.locked.is_some_and(|(address, _)| address == from) {
            return false;
        }
        let is_early = now.since(self.opened) <= WINDOW;
        let rank = self.rank(from);
        let is_unwanted = rank == Rank::Stranger && !(self.nat && is_early);
        let is_beaten = self
            .locked
            .is_some_and(|(_, locked)| !is_early || rank <= locked);
        is_unwanted || is_beaten
    }

    /// Decides on an RTP packet.
    pub(super) fn admit(&mut self, from: SocketAddr, ssrc: u32, now: Time) -> Admission {
        if self.is_validated {
            return Admission::Taken;
        }
        let from = canonical(from);
        if let Some((address, _)) = self.locked
            && address == from
        {
            return Admission::Taken;
        }
        let is_early = now.since(self.opened) <= WINDOW;
        let rank = self.rank(from);
        if rank == Rank::Stranger && !(self.nat && is_early) {
            return Admission::Refused;
        }
        let is_challenge = match self.locked {
            Some((_, locked)) if is_early && rank > locked => true,
            Some(_) => return Admission::Refused,
            None => false,
        };
        if !self.count(Candidate {
            address: from,
            rank,
            ssrc,
            packets: 1,
            heard: now,
        }) {
            return Admission::Refused;
        }
        if self
            .candidate
            .is_some_and(|candidate| candidate.packets >= LATCH_PACKETS)
        {
            self.candidate = None;
            self.locked = Some((from, rank));
            self.learned_rtcp = None;
            Admission::Taken
        } else if rank == Rank::Stranger || is_challenge {
            Admission::Held
        } else {
            Admission::Taken
        }
    }

    /// Decides on the source of an RTCP packet; changes nothing.
    pub(super) fn knows_rtcp(&self, from: SocketAddr) -> bool {
        if self.is_validated {
            return true;
        }
        let from = canonical(from);
        if self.is_muxed() {
            return self.target() == Some(from);
        }
        match self.locked {
            Some((address, _)) => {
                address.ip() == from.ip() && self.learned_rtcp.is_none_or(|known| known == from)
            }
            None => {
                self.rank(from) > Rank::Stranger
                    || self.remote_rtcp.is_some_and(|rtcp| rtcp.ip() == from.ip())
            }
        }
    }

    /// Learns where RTCP goes from the first packet that is the peer's.
    pub(super) fn learn_rtcp(&mut self, from: SocketAddr) {
        if !self.is_muxed() && self.locked.is_some() {
            self.learned_rtcp.get_or_insert(canonical(from));
        }
    }

    /// Returns where RTP goes.
    pub(super) fn target(&self) -> Option<SocketAddr> {
        if self.is_validated {
            return self.selected;
        }
        let waiting = || {
            self.candidate
                .filter(|c| c.rank > Rank::Stranger)
                .map(|c| c.address)
        };
        self.latched().or(self.remote).or_else(waiting)
    }

    /// Returns where RTCP goes.
    pub(super) fn rtcp_target(&self) -> Option<SocketAddr> {
        if self.is_muxed() {
            return self.target();
        }
        if self.learned_rtcp.is_some() {
            return self.learned_rtcp;
        }
        let is_elsewhere = self
            .latched()
            .is_some_and(|latched| self.remote.is_none_or(|remote| remote.ip() != latched.ip()));
        if is_elsewhere {
            return None;
        }
        self.remote_rtcp.or_else(|| {
            let remote = self.remote?;
            Some(SocketAddr::new(remote.ip(), remote.port().checked_add(1)?))
        })
    }

    /// Returns the source that packets go to, if it is not the signalled address.
    pub(super) fn diverted(&self) -> Option<SocketAddr> {
        self.latched()
            .filter(|latched| self.remote != Some(*latched))
    }

    /// Returns the source that has won, or had won before the negotiation.
    pub(super) fn latched(&self) -> Option<SocketAddr> {
        self.locked.map(|(address, _)| address).or(self.carried)
    }

    /// Tells whether RTCP shares the RTP port (RFC 5761).
    pub(super) fn is_muxed(&self) -> bool {
        let is_one_address = self.remote_rtcp.is_some() && self.remote_rtcp == self.remote;
        self.is_validated || self.rtcp_mux || is_one_address
    }

    fn rank(&self, from: SocketAddr) -> Rank {
        if self.remote == Some(from) {
            return Rank::Signalled;
        }
        let is_expected = self.carried == Some(from)
            || self.sip_source == Some(from.ip())
            || self.remote.is_some_and(|remote| remote.ip() == from.ip());
        if is_expected {
            Rank::Expected
        } else {
            Rank::Stranger
        }
    }

    /// Counts a packet for its source; false if another source is ahead of it.
    fn count(&mut self, packet: Candidate) -> bool {
        let Some(candidate) = &mut self.candidate else {
            self.candidate = Some(packet);
            return true;
        };
        if candidate.address == packet.address {
            let is_one_stream = candidate.ssrc == packet.ssrc;
            let packets = if is_one_stream {
                candidate.packets.saturating_add(1)
            } else {
                1
            };
            *candidate = Candidate { packets, ..packet };
            return true;
        }
        let is_silent = packet.heard.since(candidate.heard) >= CANDIDATE_SILENCE;
        let is_better = packet.rank > candidate.rank || is_silent;
        if is_better {
            *candidate = packet;
        }
        is_better
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
