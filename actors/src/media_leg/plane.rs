//! What the media plane is told of a leg: an agreement and a destination, as `LegConfig`.
//!
//! In: both, addresses of the signalling, our own stream's numbers. Out: a configuration. It sends
//! nothing.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use contract::{LegConfig, MediaRoute};
use media::sdp::{Codec, CodecRole, may_send, payload_map};

use super::Destination;
use super::agreement::Agreed;
use super::numbers::Numbers;
use super::protection::Protection;
use crate::site::{Limits, Listener};

/// All that a configuration is made of.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) agreed: &'a Agreed,
    pub(super) to: &'a Destination,
    pub(super) is_watched: bool,
    pub(super) numbers: &'a Numbers,
    pub(super) protection: &'a Protection,
    pub(super) negotiation: u32,
    pub(super) sip_source: IpAddr,
    /// Source that packets went to before a restart.
    pub(super) latched: Option<SocketAddr>,
    pub(super) listener: &'a Listener,
    pub(super) limits: &'a Limits,
}

impl Parts<'_> {
    /// Puts the configuration together; `None` while the peer's keys or credentials are missing.
    pub(super) fn config(&self) -> Option<LegConfig> {
        let theirs = &self.agreed.theirs;
        // A private `c=` of a peer whose signalling is not from that network is never sent to: the
        // leg latches to the SIP source instead (`threats.md` 21).
        let is_allowed = |target: &SocketAddr| may_send(target.ip(), self.sip_source, &[]);
        let remote = theirs.rtp.filter(is_allowed);
        let clock_rate = clock_rate(&self.agreed.ours);
        let rtcp_mux = self.agreed.rtcp_mux;
        let rtcp = theirs.rtcp_target(rtcp_mux).filter(is_allowed);
        Some(LegConfig {
            remote: self.latched.or(remote),
            remote_rtcp: rtcp,
            sip_source: Some(self.sip_source),
            nat: self.listener.nat,
            negotiation: self.negotiation,
            sends: self.agreed.direction.sends(),
            receives: self.agreed.direction.receives(),
            payloads: self.payloads(),
            ssrc: self.numbers.ssrc,
            sequence_start: self.numbers.sequence_start,
            timestamp_start: self.numbers.timestamp_start,
            rollover_start: self.numbers.rollover_start,
            sequence_reserved: self.numbers.sequence_reserved(),
            dtmf_payload: event_payload(&self.agreed.ours, clock_rate),
            dtmf_send_payload: event_payload(&theirs.auxiliary, clock_rate),
            clock_rate,
            route: self.route(),
            timeout: self.timeout(),
            rtcp_mux,
            transport: self.protection.transport(
                self.numbers,
                self.sip_source,
                &self.limits.srtp,
            )?,
        })
    }

    fn payloads(&self) -> Vec<(u8, u8)> {
        let (ours, theirs) = (&self.agreed.ours, self.agreed.theirs.all_codecs());
        match self.to {
            Destination::Relay { onward, .. } => payload_map(ours, &theirs, onward),
            Destination::Echo => payload_map(ours, &theirs, &theirs),
            Destination::Tone { .. }
            | Destination::Nowhere
            | Destination::RingBack
            | Destination::Parked => Vec::new(),
        }
    }

    fn route(&self) -> MediaRoute {
        match self.to {
            Destination::Relay { to, .. } => MediaRoute::Relay(*to),
            Destination::Echo => MediaRoute::Echo,
            Destination::Tone { hertz, level_dbm0 } => MediaRoute::Tone {
                hertz: *hertz,
                level_dbm0: *level_dbm0,
                payload: self.g711().unwrap_or(0),
            },
            Destination::Nowhere => MediaRoute::Drop,
            Destination::RingBack => match self.g711() {
                Some(payload) => MediaRoute::RingBack { payload },
                None => MediaRoute::Drop,
            },
            Destination::Parked => match self.g711() {
                Some(payload) => MediaRoute::Parked { payload },
                None => MediaRoute::Drop,
            },
        }
    }

    /// Returns the payload type of the peer's first codec if it is one of G.711.
    fn g711(&self) -> Option<u8> {
        let first = self.agreed.theirs.codecs.first()?;
        let laws = [("PCMU", 0), ("PCMA", 8)];
        let known = laws.iter().find(|(name, _)| first.name.is(name));
        known.map(|(_, payload)| *payload)
    }

    /// Silence counts once the call is answered; longer while either way is shut (hold).
    fn timeout(&self) -> Option<Duration> {
        let direction = self.agreed.direction;
        let is_open = direction.sends() && direction.receives();
        let length = if is_open {
            self.limits.rtp_timeout
        } else {
            self.limits.rtp_hold_timeout
        };
        (self.is_watched && !length.is_zero()).then_some(length)
    }
}

/// Returns the clock of the first audio codec.
pub(super) fn clock_rate(codecs: &[Codec]) -> u32 {
    let audio = codecs.iter().find(|codec| codec.role() == CodecRole::Audio);
    audio.map_or(8_000, |codec| codec.clock_rate)
}

/// Returns the payload type the peer sends telephone events with: at the codec's clock if there is
/// one, else at any (RFC 4733 §2.1).
fn event_payload(ours: &[Codec], clock_rate: u32) -> Option<u8> {
    let mut events = ours
        .iter()
        .filter(|codec| codec.role() == CodecRole::Events);
    let first = events.clone().next();
    events
        .find(|codec| codec.clock_rate == clock_rate)
        .or(first)
        .map(|codec| codec.payload)
}
