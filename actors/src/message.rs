//! The one message type of all actors, and the values that several kinds share.

use contract::FlowRef;
use serde::{Deserialize, Serialize};
use sip::Aor;
use sip::uri::Uri;

use crate::{call, console, dialog, flow, lane, media_leg, registration};

/// What any actor may be told. One variant a kind; the kind's folder has the vocabulary.
#[derive(Clone, Debug)]
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
    /// For `lane:…`.
    Lane(lane::Message),
    /// For `console:…`.
    Console(console::Message),
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
    Lane: lane,
    Console: console
);

/// A server transaction: the lane that holds it, and its key there.
///
/// Stored with a part, it still answers after a restart: a lane that does not know the key sends
/// the response as its top Via says (RFC 3261 §18.2.2) and holds it as if it knew the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRef {
    /// Number of the lane.
    pub lane: u16,
    /// The transaction in it.
    pub key: sip::transaction::Key,
}

/// A request that passed the policy, on its way to the actor it is for.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// Where to answer: `lane::Message::Respond`.
    pub transaction: TransactionRef,
    /// How it came.
    pub flow: FlowRef,
    /// The request, its top Via stamped with `received` and `rport`.
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
