//! Media as a protocol: SDP and its offer/answer, RTP, RTCP, G.711, telephone events, STUN, the
//! core that keeps the path of a WebRTC leg, and the pure relay table that the media plane's workers
//! and the simulator's media model both run.
//!
//! In: octets from the wire, the configuration of a leg, time. Out: typed descriptions, verdicts on
//! packets, events of legs. It has no socket, clock or randomness and knows nobody's call. The
//! set-up of ICE, DTLS and SRTP are not here; their SDP attributes are read and kept typed.

pub mod dtmf;
pub mod g711;
pub mod path;
pub mod relay;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
pub mod stun;
pub mod tone;
