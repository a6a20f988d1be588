//! What we say to clients.

use serde::{Deserialize, Serialize};

/// One frame of ours: the message, the id of the request it answers or its own, its number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outbound<'a> {
    /// What it says.
    #[serde(flatten)]
    pub message: &'a ServerMessage,
    /// Of the request, or `srv-N`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    /// Rises with each message that we start, within one connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

impl Outbound<'_> {
    /// Writes the frame.
    ///
    /// # Panics
    /// Never: every key is a text and every number finite.
    #[must_use]
    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("keys are texts and numbers are finite")
    }
}

/// A message of ours: `type` names the variant, `payload` is its content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    content = "payload",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum ServerMessage {
    /// The connection is bound to a number.
    Registered {
        /// Number with its domain.
        dn: String,
        /// Lifetime, in seconds.
        expires: u32,
        /// Address of this node.
        server: String,
        /// For `resumeSession`.
        session_token: String,
        /// STUN and TURN servers: none, since we are reachable.
        ice_servers: Vec<IceServer>,
        /// It was bound before.
        resumed: bool,
        /// Calls that were asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        calls: Option<Vec<CallState>>,
    },
    /// It is not.
    RegisterFailed {
        /// 401, 403, 410, 423, 429 or 503.
        code: u16,
        /// For people.
        reason: String,
    },
    /// The binding is gone.
    Unregistered {
        /// Number with its domain.
        dn: String,
        /// For people.
        reason: String,
    },
    /// The call is being made.
    Trying {
        /// Which call.
        call_id: String,
    },
    /// The far end rings.
    Ringing {
        /// Which call.
        call_id: String,
        /// Answer for early media.
        #[serde(skip_serializing_if = "Option::is_none")]
        sdp: Option<String>,
    },
    /// The far end answered.
    CallAccepted {
        /// Which call.
        call_id: String,
        /// Answer, unless it came with `ringing`.
        #[serde(skip_serializing_if = "Option::is_none")]
        sdp: Option<String>,
    },
    /// The call came to nothing.
    CallRejected {
        /// Which call.
        call_id: String,
        /// SIP status.
        code: u16,
        /// Q.850 word.
        cause: String,
        /// For people.
        reason: String,
    },
    /// Somebody calls. Acknowledged.
    Incoming {
        /// The call's name from now on.
        call_id: String,
        /// Who: `user@domain`.
        from: String,
        /// For people.
        display_name: String,
        /// Who was called: `user@domain`.
        to: String,
        /// Our offer.
        sdp: String,
        /// Header fields that applications set.
        headers: std::collections::BTreeMap<String, String>,
    },
    /// An incoming call is over before it was answered. Acknowledged.
    Cancelled {
        /// Which call.
        call_id: String,
        /// Q.850 word.
        reason: String,
    },
    /// The call is over. Acknowledged.
    Hangup {
        /// Which call.
        call_id: String,
        /// Q.850 word.
        cause: String,
        /// SIP status of that cause.
        code: u16,
    },
    /// The call is on hold.
    Held {
        /// Which call.
        call_id: String,
        /// Who did it.
        by: Party,
        /// Answer to the client's offer.
        #[serde(skip_serializing_if = "Option::is_none")]
        sdp: Option<String>,
    },
    /// It is not any more.
    Resumed {
        /// Which call.
        call_id: String,
        /// Who did it.
        by: Party,
        /// Answer to the client's offer.
        #[serde(skip_serializing_if = "Option::is_none")]
        sdp: Option<String>,
    },
    /// We offer anew. Acknowledged; answered by `reanswer`.
    Reoffer {
        /// Which call.
        call_id: String,
        /// Our offer.
        sdp: String,
        /// What it is for.
        why: Why,
    },
    /// Answers a client's `reoffer`.
    Reanswer {
        /// Which call.
        call_id: String,
        /// Our answer.
        sdp: String,
    },
    /// Digits: the client's own, or one of the far end.
    Dtmf {
        /// Which call.
        call_id: String,
        /// Those of the request that this answers.
        #[serde(skip_serializing_if = "Option::is_none")]
        digits: Option<String>,
        /// One of the far end.
        #[serde(skip_serializing_if = "Option::is_none")]
        digit: Option<char>,
    },
    /// How the transfer goes that the client wants.
    TransferProgress {
        /// Which call.
        call_id: String,
        /// SIP status of whom the far end is put through to: 100 to 199 on the way, 200 done, more: it did
        /// not come about.
        code: u16,
        /// For people.
        text: String,
    },
    /// Answers `settings`: as they are now.
    Settings(super::client::CallSettings),
    /// Answers `info`.
    Info(serde_json::Value),
    /// Answers `ping`.
    Pong {
        /// As it came.
        ts: serde_json::Number,
    },
    /// The same instance registered on another connection; this one is closed.
    Replaced {
        /// Number with its domain.
        dn: String,
    },
    /// The binding ends soon.
    Expiring {
        /// Number with its domain.
        dn: String,
        /// Seconds until then.
        #[serde(rename = "in")]
        in_s: u32,
    },
    /// A request failed.
    Error {
        /// As SIP and HTTP number them.
        code: u16,
        /// For people.
        message: String,
        /// Id of the request.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
}

/// A STUN or TURN server (RFC 8829 §4.1.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    /// `stun:host` or `turn:host`.
    pub urls: Vec<String>,
}

/// A call, as `registered` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallState {
    /// Which call.
    pub call_id: String,
    /// `calling`, `incoming`, `ringing`, `talking`, `held`, `ending` or `gone`.
    pub state: String,
}

/// Who did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Party {
    /// The client itself.
    Local,
    /// The far end.
    Remote,
}

/// What our new offer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The far end holds.
    Hold,
    /// It does not any more.
    Resume,
    /// Our address or keys are new.
    Migrate,
    /// The far end offered anew.
    SessionRefresh,
}
