//! Media as a protocol: SDP and its offer/answer, RTP, RTCP, G.711, telephone events, and the pure
//! relay table that the media plane's workers and the simulator's media model both run.
//!
//! In: octets from the wire, the configuration of a leg, time. Out: typed descriptions, verdicts on
//! packets, events of legs. It has no socket, clock or randomness and knows nobody's call. ICE,
//! DTLS and SRTP are not here yet; their SDP attributes are already read and kept typed.

pub mod dtmf;
pub mod g711;
pub mod relay;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
pub mod tone;
