//! What the media plane is told of a leg: an agreement and a destination, as `LegConfig`.
//!
//! In: both, addresses of the signalling, our own stream's numbers. Out: a configuration. It sends
//! nothing.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use contract::limits::SEQUENCE_BLOCK;
use contract::{Entropy, LegConfig, MediaRoute, Now, UtcMillis};
use media::relay::recovered_timestamp;
use media::sdp::{Codec, CodecRole, may_send, payload_map};
use serde::{Deserialize, Serialize};

use super::Destination;
use super::agreement::Agreed;
use crate::site::{Limits, Listener};

/// SSRC, sequence and timestamps of what we send to the peer; a number is used once, whatever
/// happens to the node (`cluster.md` §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Numbers {
    ssrc: u32,
    /// What the plane was given to start from.
    sequence_start: u16,
    timestamp_start: u32,
    /// End of the last recorded block.
    reserved_end: u16,
    /// Last timestamp known to be sent, and when that was.
    timestamp: u32,
    at: UtcMillis,
}

impl Numbers {
    /// Draws the numbers of a new stream (RFC 3550 §5.1: all three at random).
    pub(super) fn draw(rng: &mut Entropy, now: Now) -> Self {
        let sequence_start = (rng.next_u32() & 0x7fff) as u16;
        let timestamp_start = rng.next_u32();
        Numbers {
            ssrc: rng.next_u32(),
            sequence_start,
            timestamp_start,
            reserved_end: sequence_start.wrapping_add(SEQUENCE_BLOCK),
            timestamp: timestamp_start,
            at: now.utc,
        }
    }

    /// Notes the next block.
    pub(super) const fn reserve(&mut self, sequence_end: u16, timestamp: u32, now: Now) {
        self.reserved_end = sequence_end;
        self.timestamp = timestamp;
        self.at = now.utc;
    }

    /// Goes on past the recorded block: the node was started again.
    pub(super) fn skip(&mut self, clock_rate: u32, now: Now) {
        let passed = Duration::from_millis(now.utc.0.saturating_sub(self.at.0));
        let timestamp = recovered_timestamp(self.timestamp, passed, clock_rate);
        self.sequence_start = self.reserved_end;
        self.timestamp_start = timestamp;
        self.reserve(
            self.sequence_start.wrapping_add(SEQUENCE_BLOCK),
            timestamp,
            now,
        );
    }

    /// Returns the end of the last recorded block.
    #[cfg(test)]
    pub(super) const fn reserved_end(&self) -> u16 {
        self.reserved_end
    }
}

/// All that a configuration is made of.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) agreed: &'a Agreed,
    pub(super) to: &'a Destination,
    pub(super) is_watched: bool,
    pub(super) numbers: Numbers,
    pub(super) negotiation: u32,
    pub(super) sip_source: IpAddr,
    /// Source that packets went to before a restart.
    pub(super) latched: Option<SocketAddr>,
    pub(super) listener: &'a Listener,
    pub(super) limits: &'a Limits,
}

impl Parts<'_> {
    /// Puts the configuration together.
    pub(super) fn config(&self) -> LegConfig {
        let theirs = &self.agreed.theirs;
        // A private `c=` of a peer whose signalling is not from that network is never sent to: the
        // leg latches to the SIP source instead (`threats.md` 21).
        let is_allowed = |target: &SocketAddr| may_send(target.ip(), self.sip_source, &[]);
        let remote = theirs.rtp.filter(is_allowed);
        let clock_rate = clock_rate(&self.agreed.ours);
        LegConfig {
            remote: self.latched.or(remote),
            remote_rtcp: theirs.rtcp_target(false).filter(is_allowed),
            sip_source: Some(self.sip_source),
            nat: self.listener.nat,
            negotiation: self.negotiation,
            sends: self.agreed.direction.sends(),
            receives: self.agreed.direction.receives(),
            payloads: self.payloads(),
            ssrc: self.numbers.ssrc,
            sequence_start: self.numbers.sequence_start,
            timestamp_start: self.numbers.timestamp_start,
            dtmf_payload: event_payload(&self.agreed.ours, clock_rate),
            clock_rate,
            route: self.route(),
            timeout: self.timeout(),
        }
    }

    fn payloads(&self) -> Vec<(u8, u8)> {
        let (ours, theirs) = (&self.agreed.ours, self.agreed.theirs.all_codecs());
        match self.to {
            Destination::Relay { onward, .. } => payload_map(ours, &theirs, onward),
            Destination::Echo => payload_map(ours, &theirs, &theirs),
            Destination::Tone { .. } | Destination::Nowhere => Vec::new(),
        }
    }

    fn route(&self) -> MediaRoute {
        match self.to {
            Destination::Relay { to, .. } => MediaRoute::Relay(*to),
            Destination::Echo => MediaRoute::Echo,
            Destination::Tone { hertz, level_dbm0 } => {
                let theirs = &self.agreed.theirs.codecs;
                let is_a_law = theirs.first().is_some_and(|codec| codec.name.is("PCMA"));
                let payload = if is_a_law { 8 } else { 0 };
                MediaRoute::Tone {
                    hertz: *hertz,
                    level_dbm0: *level_dbm0,
                    payload,
                }
            }
            Destination::Nowhere => MediaRoute::Drop,
        }
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
