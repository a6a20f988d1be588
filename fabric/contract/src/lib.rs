//! What everything stands on: the shape of a core, its actions and its way out, identities, time,
//! chance, limits and fault classes.
//!
//! In: nothing. Out: types that every other crate shares. It does no I/O and knows no protocol.

pub mod action;
pub mod codec;
pub mod core;
pub mod entropy;
pub mod env;
pub mod event;
pub mod fault;
pub mod handover;
pub mod id;
pub mod keys;
pub mod limits;
pub mod media;
pub mod net;
pub mod peer;
pub mod schema;
pub mod secret;
pub mod secure;
pub mod time;
pub mod token;

#[cfg(test)]
mod tests;

pub use action::{
    Action, ActorRow, ActorView, AddressOrder, Answer, CallRecord, Emitted, Lookup, NodeView,
    Store, TraceLine,
};
pub use core::{Core, Ctx, Event, Health, RestoreError, Restored, Roster, Space, Undelivered};
pub use entropy::Entropy;
pub use env::{Batch, BindError, Env, MediaPlane, MediaSink, NetSink, StoreFault, Work};
pub use event::{BindingNews, CallNews, EVENT_KINDS, LogEvent, NodeNews, What};
pub use fault::FaultClass;
pub use handover::MoveFault;
pub use id::{
    ActorId, Boot, CallKey, IdError, IdHasher, Kind, NodeId, NodeInst, RecordKey, SideKey,
};
pub use keys::FabricKeys;
pub use media::{LegConfig, LegCounters, MediaCommand, MediaEvent, MediaRoute, ReserveBlock};
pub use net::{CloseCode, Door, FlowRef, ListenerId, StreamKind};
pub use peer::{FrameClass, Loss, Member, MemberState, Peer, PeerFault, PeerSink, Peers};
pub use schema::SchemaVersion;
pub use secret::{Private, Secret};
pub use secure::{
    DtlsConfig, DtlsRole, IceConfig, IceCredentials, KeyMaterial, LegSocket, LegTransport,
    PeerFingerprint, ReceivedIndex, RemoteCandidate, SrtpKeys, SrtpProfile, WebrtcConfig,
};
pub use time::{Deadlines, Now, StoredDeadline, Time, UtcMillis};
pub use token::{SessionToken, Token, TokenMaker, TokenUse};
