//! SDP: the typed model of a session description, its reader and writer, and offer/answer.
//!
//! In: untrusted text (RFC 8866), local media of a leg. Out: `Session`, what a peer offers or
//! answers, and bodies written from the model alone, never from passed text (threats.md 22).
//! It does not resolve names, pick ports or keep calls. A new attribute goes to `attribute.rs`.

mod address;
mod attribute;
mod codec;
mod local;
mod model;
mod negotiation;
mod reader;
mod secure;
mod text;
mod writer;

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod negotiation_tests;
#[cfg(test)]
mod sections_tests;
#[cfg(test)]
mod secure_tests;

pub use address::{Network, Scope, may_send};
pub use attribute::{
    Attribute, Candidate, CandidateKind, Crypto, Fingerprint, Setup, fingerprint_digest,
};
pub use codec::{Codec, CodecRole, answer_codecs, payload_map};
pub use local::{LocalMedia, LocalSdp};
pub use model::{
    Direction, Format, Formats, Host, Media, MediaKind, Origin, Protocol, RtpMap, Session,
};
pub use negotiation::{NegotiationError, RemoteMedia, answer_direction, read_answer, read_offer};
pub use reader::{SdpError, read};
pub use secure::{
    LocalTransport, LocalWebrtc, RemoteTransport, RemoteWebrtc, SdesKey, answer_setup,
    read_candidate,
};
pub use text::{HostName, SecretText, Text, TextError, Token, Word};
pub use writer::write;
