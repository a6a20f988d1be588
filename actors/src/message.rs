//! The one message type of all actors, and the values that several kinds share.

use contract::{ActorId, Door, FlowRef, NodeId};
use serde::{Deserialize, Serialize};
use sip::Aor;
use sip::uri::Uri;

use crate::{
    call, console, dialog, door_session, flow, lane, media_leg, member, parking, registration,
};

/// What any actor may be told. One variant a kind; the kind's folder has the vocabulary.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// For `registration:…`.
    Registration(registration::Message),
    /// For `call:…`.
    Call(call::Message),
    /// For `dialog:…`.
    Dialog(dialog::Message),
    /// For `media_leg:…`.
    MediaLeg(media_leg::Message),
    /// For `flow:…`.
    Flow(flow::Message),
    /// For `door_session:…`.
    DoorSession(door_session::Message),
    /// For `lane:…`.
    Lane(lane::Message),
    /// For `console:…`.
    Console(console::Message),
    /// For `member:…`.
    Member(member::Message),
    /// For `parking:…`.
    Parking(parking::Message),
}

macro_rules! wrap {
    ($($variant:ident: $kind:ident),*) => {$(
        impl From<$kind::Message> for Message {
            fn from(message: $kind::Message) -> Self {
                Message::$variant(message)
            }
        }
    )*};
}

wrap!(
    Registration: registration,
    Call: call,
    Dialog: dialog,
    MediaLeg: media_leg,
    Flow: flow,
    DoorSession: door_session,
    Lane: lane,
    Console: console,
    Member: member,
    Parking: parking
);

/// A server transaction: the lane that holds it, and its key there.
///
/// Stored with a part, it still answers after a restart: a lane that does not know the key sends
/// the response as its top Via says (RFC 3261 §18.2.2) and holds it as if it knew the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRef {
    /// Node of the lane, which need not be the one that runs the request's user; `None` if it was
    /// recorded before nodes passed requests on: then it was that one.
    pub node: Option<NodeId>,
    /// Number of the lane.
    pub lane: u16,
    /// The transaction in it.
    pub key: sip::transaction::Key,
}

impl TransactionRef {
    /// Returns the lane that answers; `own` is the node that runs the request's user.
    #[must_use]
    pub fn home(&self, own: NodeId) -> ActorId {
        ActorId::Lane(self.node.unwrap_or(own), self.lane)
    }
}

/// A request that passed the policy, on its way to the actor it is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inbound {
    /// Where to answer: `lane::Message::Respond`.
    pub transaction: TransactionRef,
    /// How it came.
    pub flow: FlowRef,
    /// The request, its top Via stamped with `received` and `rport`.
    #[serde(with = "crate::wire::sip_message")]
    pub request: sip::Message,
    /// The account whose digest it carries, or, on a listener with `auth = "none"`, the AoR in
    /// its From (To for REGISTER).
    pub identity: Option<Aor>,
}

/// One way to reach a registered user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Request-URI: the contact as registered.
    pub uri: Uri,
    /// How to send there.
    pub flow: FlowRef,
    /// Route set from the Path header (RFC 3327).
    pub path: Vec<Uri>,
    /// Preference in thousandths (RFC 3261 §20.10).
    pub q: u16,
    /// The connection is gone and the phone has not come back yet.
    pub unreachable: bool,
}

impl Target {
    /// Returns what is spoken with it.
    #[must_use]
    pub const fn door(&self) -> Door {
        self.flow.door()
    }
}

/// Returns whom to tell, and what, to be told of the end of a connection; `None` for datagrams.
pub(crate) fn watch(flow: FlowRef, watcher: ActorId) -> Option<(ActorId, Message)> {
    let actor = flow.actor()?;
    let message = match flow.door() {
        Door::Sip => flow::Message::Watch { watcher, flow }.into(),
        Door::Json => door_session::Message::Watch { watcher, flow }.into(),
    };
    Some((actor, message))
}

/// Returns what a watcher is told of the end of a connection.
pub(crate) fn gone(watcher: &ActorId, flow: FlowRef) -> Message {
    if matches!(watcher, ActorId::Dialog(_)) {
        dialog::Message::FlowGone { flow }.into()
    } else if matches!(watcher, ActorId::Lane(..)) {
        lane::Message::FlowGone { flow }.into()
    } else {
        registration::Message::FlowGone { flow }.into()
    }
}
