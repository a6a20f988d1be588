//! The media-plane port of `Env`: what media legs ask, and what they are told.
//!
//! Only `media_leg` cores use it. The plane keeps no state that a leg could not give it again:
//! after a restart `Open` with the recorded port and `Configure` bring a leg back.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{LegSocket, LegTransport, ReceivedIndex, SideKey, SrtpKeys};

/// What a media leg asks of the plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediaCommand {
    /// Binds an RTP port (even) and its RTCP port; answered by `Opened` or `Failed`.
    Open {
        /// The leg.
        leg: SideKey,
        /// Address to bind.
        address: IpAddr,
        /// Port to bind again after a restart; `None` takes a free one of the range.
        port: Option<u16>,
        /// Leg whose worker this one shall share, so that packets stay on one core.
        beside: Option<SideKey>,
        /// A pair of ports of its own, or the worker's WebRTC port.
        socket: LegSocket,
    },
    /// Replaces what the plane knows of a leg.
    Configure {
        /// The leg.
        leg: SideKey,
        /// All of it.
        config: Box<LegConfig>,
    },
    /// Allows the block of sequence numbers that `Reserve` asked for: it is recorded now. Without
    /// it nothing is sent past the end of the last block.
    Reserved {
        /// The leg.
        leg: SideKey,
        /// As `Reserve` said.
        block: ReserveBlock,
    },
    /// Plays telephone events to the peer (RFC 4733), after those that play already. Digits that
    /// cannot be sent (no payload type agreed, queue of `DIGITS_QUEUED_MAX` full) are dropped.
    Digits {
        /// The leg.
        leg: SideKey,
        /// `0`–`9`, `*`, `#`, `A`–`D`.
        digits: String,
        /// Length of each.
        duration: Duration,
    },
    /// Another node has the leg now: what its peer still sends here is passed on as before, and nothing
    /// is told of it. Its ports are freed once the call is silent here, at the latest after
    /// `LINGER_S_MAX`, or when its recorded numbers are used up. `Open` takes it back.
    Linger {
        /// The leg.
        leg: SideKey,
    },
    /// Frees the leg's ports.
    Close {
        /// The leg.
        leg: SideKey,
    },
}

impl MediaCommand {
    /// Returns the leg a command is for.
    #[must_use]
    pub const fn leg(&self) -> SideKey {
        match self {
            MediaCommand::Open { leg, .. }
            | MediaCommand::Configure { leg, .. }
            | MediaCommand::Reserved { leg, .. }
            | MediaCommand::Digits { leg, .. }
            | MediaCommand::Linger { leg }
            | MediaCommand::Close { leg } => *leg,
        }
    }
}

/// What the plane knows of one leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegConfig {
    /// Where the peer's SDP says it receives RTP; `None` before it is known.
    pub remote: Option<SocketAddr>,
    /// Where it receives RTCP (RFC 3605); RTP port + 1 if it does not say.
    pub remote_rtcp: Option<SocketAddr>,
    /// Source address of the peer's signalling: RTP may be latched to it (`architecture.md` §5).
    pub sip_source: Option<IpAddr>,
    /// The profile's `nat`: other sources may be latched in the first 5 s.
    pub nat: bool,
    /// Counts the peer's offers and answers: a new one allows latching again.
    pub negotiation: u32,
    /// We send to the peer.
    pub sends: bool,
    /// We take packets from the peer.
    pub receives: bool,
    /// Payload types: what the peer sends, and what that is on the other leg's wire.
    pub payloads: Vec<(u8, u8)>,
    /// Our SSRC toward the peer.
    pub ssrc: u32,
    /// First sequence number of ours: the end of the recorded block after a restart. The block of
    /// `SEQUENCE_BLOCK` numbers from here is recorded with this configuration.
    pub sequence_start: u16,
    /// Roll-over counter of `sequence_start` (RFC 3711 §3.3.1); 0 where nothing is protected.
    pub rollover_start: u32,
    /// Sequence numbers from `sequence_start` that are recorded; 0 after a restart: the first packet
    /// asks for them, so that a leg which sends nothing does not run away from its peer, whose guess
    /// of the roll-over counter reaches no further than 2^15 (RFC 3711 §3.3.1).
    pub sequence_reserved: u16,
    /// First timestamp we send.
    pub timestamp_start: u32,
    /// Payload type of telephone events that the peer sends (RFC 4733).
    pub dtmf_payload: Option<u8>,
    /// Payload type of telephone events that we send to the peer.
    pub dtmf_send_payload: Option<u8>,
    /// RTP clock of the chosen codec, in hertz.
    pub clock_rate: u32,
    /// Where packets from the peer go.
    pub route: MediaRoute,
    /// Silence after which `Timeout` is told; `None` never.
    pub timeout: Option<Duration>,
    /// The peer sends and takes RTCP on the RTP port (RFC 5761); always with WebRTC.
    pub rtcp_mux: bool,
    /// How the path is found and packets are protected.
    pub transport: LegTransport,
}

/// Where packets of a leg go, or come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediaRoute {
    /// To the leg of the other side.
    Relay(SideKey),
    /// Back to the peer.
    Echo,
    /// A tone toward the peer.
    Tone {
        /// Frequency.
        hertz: u32,
        /// Level, in dBm0 (0 or less).
        level_dbm0: i32,
        /// Payload type it is sent as: 0 (PCMU) or 8 (PCMA).
        payload: u8,
    },
    /// Nowhere: on hold, or not joined yet.
    Drop,
    /// Ring-back toward the peer: what a caller hears while it rings elsewhere.
    RingBack {
        /// Payload type it is sent as: 0 (PCMU) or 8 (PCMA).
        payload: u8,
    },
    /// A short, quiet tone toward the peer now and then: its call is parked.
    Parked {
        /// Payload type it is sent as: 0 (PCMU) or 8 (PCMA).
        payload: u8,
    },
}

/// What the plane tells a media leg.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MediaEvent {
    /// The ports are bound.
    Opened {
        /// Local RTP address; RTCP is one port higher.
        rtp: SocketAddr,
    },
    /// The ports could not be bound.
    Failed {
        /// What was tried and why it failed.
        why: String,
    },
    /// The first packet of the peer came, or the first after a restart.
    FirstPacket {
        /// Its source.
        from: SocketAddr,
    },
    /// Packets now go to this source instead of the signalled address.
    Latched {
        /// The source.
        to: SocketAddr,
    },
    /// A telephone event ended (RFC 4733).
    Digit {
        /// `0`–`9`, `*`, `#`, `A`–`D`.
        digit: char,
        /// Duration in RTP clock ticks.
        duration: u16,
    },
    /// Nothing was heard for the configured time.
    Timeout,
    /// A current block of numbers is three quarters used: record this one (its end is where a
    /// restart goes on, `cluster.md` §7).
    Reserve {
        /// The new block.
        block: ReserveBlock,
        /// Last timestamp sent; a restart goes on from it by the time that passed.
        timestamp: u32,
        /// How far the peer's protected streams are; empty where nothing is protected.
        received: Vec<ReceivedIndex>,
    },
    /// Media of a WebRTC leg goes to this address now.
    PathSelected {
        /// The peer's address.
        remote: SocketAddr,
        /// The set-up was a webrtc-ice agent's; otherwise our path core moved it.
        by_agent: bool,
    },
    /// Nothing proves any more that the peer of a WebRTC leg consents (RFC 7675).
    PathLost,
    /// The DTLS handshake is done and the peer's certificate is the described one. Nothing is
    /// protected with the keys before they come back in a configuration: recorded, by then.
    Keyed {
        /// The keys.
        keys: Box<SrtpKeys>,
        /// `WebrtcConfig::association` they belong to.
        association: u32,
    },
    /// The handshake failed: another certificate than described, no common profile, no answer.
    Unkeyed {
        /// What was tried and why it failed.
        why: String,
    },
    /// Counters, when the leg closes and on demand.
    Counted(LegCounters),
}

/// The ends of a recorded block: the first numbers that may not be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReserveBlock {
    /// First RTP sequence number after it.
    pub sequence_end: u16,
    /// First SRTCP index after it; 0 where nothing is protected.
    pub rtcp_index_end: u32,
}

/// Counters of one leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegCounters {
    /// RTP packets taken from the peer.
    pub packets_in: u64,
    /// Their octets, headers included.
    pub octets_in: u64,
    /// RTP packets sent to the peer.
    pub packets_out: u64,
    /// Their octets, headers included.
    pub octets_out: u64,
    /// Packets dropped by the latching rules.
    pub refused: u64,
    /// Packets missing in the peer's sequence (RFC 3550 §6.4.1, never below 0).
    pub lost: u64,
    /// Interarrival jitter in RTP clock ticks (RFC 3550 §6.4.1).
    pub jitter: u32,
    /// Packets whose protection was wrong or that were replayed.
    pub unprotected: u64,
    /// Paths that webrtc-ice agents set up.
    pub paths_set_up: u32,
    /// DTLS handshakes that were completed.
    pub handshakes: u32,
    /// Packets protected and unprotected by webrtc-srtp contexts.
    pub srtp_packets: u64,
}
