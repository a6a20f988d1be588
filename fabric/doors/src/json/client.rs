//! What clients say.

use contract::Secret;
use serde::{Deserialize, Serialize};

use super::text::{CallName, CandidateText, Dialled, Digits, Instance, Label};

/// A message of a client: `type` names the variant, `payload` is its content.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", content = "payload", rename_all = "camelCase")]
pub enum ClientMessage {
    /// Binds the connection to a number.
    Register(Register),
    /// The same after the connection was lost, without the password.
    ResumeSession(Resume),
    /// Removes the binding.
    Unregister(Unregister),
    /// Calls somebody.
    Call(Call),
    /// An incoming call is shown to the user.
    Ringing(Named),
    /// Answers an incoming call.
    Answer(Describe),
    /// Refuses an incoming call.
    Reject(Reject),
    /// Gives up a call that rings.
    Cancel(Named),
    /// Ends a call in any state.
    Hangup(Hangup),
    /// Offers to send only, or nothing.
    Hold(Describe),
    /// Offers both directions again.
    Resume(Describe),
    /// Offers anew.
    Reoffer(Reoffer),
    /// Answers our `reoffer`.
    Reanswer(Describe),
    /// Trickles a candidate (RFC 8838).
    IceCandidate(Candidate),
    /// It has no further candidate.
    IceComplete(Named),
    /// Sends digits to the far end.
    Dtmf(Dtmf),
    /// Puts the far end through to somebody else.
    Transfer(Transfer),
    /// Asks what the user has set for the calls to it, or sets it.
    Settings(Settings),
    /// What the browser measured; kept for inspection.
    Stats(Stats),
    /// Asks about calls, number or server.
    Info(Info),
    /// Asks for a `pong`.
    Ping(Ping),
    /// Our message with the envelope's id has come.
    Ack(Empty),
    /// A type that is known, but not served.
    #[serde(skip)]
    Unsupported,
}

/// `register`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Register {
    /// Number: `1000` or `1000@domain`.
    pub dn: Dialled,
    /// Its password.
    pub password: Secret,
    /// For people.
    pub display_name: Option<Label>,
    /// Lifetime that is wished, in seconds.
    pub expires: Option<u32>,
    /// Whose binding an older one of the same instance was.
    pub instance: Option<Instance>,
}

/// `resumeSession`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resume {
    /// Token of the last `registered`.
    pub token: String,
    /// Highest `seq` that came.
    #[serde(default)]
    pub last_seq: u64,
    /// Calls that the client has.
    #[serde(default)]
    pub calls: Vec<CallName>,
}

/// `unregister`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unregister {
    /// Number.
    pub dn: Dialled,
}

/// `call`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// Whom.
    pub to: Dialled,
    /// Name of the call; the same once more is the same call.
    pub call_id: CallName,
    /// Offer.
    pub sdp: String,
    /// For people.
    pub display_name: Option<Label>,
}

/// A message that names a call and says nothing else.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    /// Which call.
    pub call_id: CallName,
}

/// A message with a description.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Describe {
    /// Which call.
    pub call_id: CallName,
    /// Offer or answer.
    pub sdp: String,
}

/// `reject`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reject {
    /// Which call.
    pub call_id: CallName,
    /// Final status, 400 to 699; busy without.
    pub code: Option<u16>,
    /// For people.
    pub reason: Option<Label>,
}

/// `hangup`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hangup {
    /// Which call.
    pub call_id: CallName,
    /// For people.
    pub reason: Option<Label>,
}

/// `reoffer`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reoffer {
    /// Which call.
    pub call_id: CallName,
    /// Offer.
    pub sdp: String,
    /// The client has a new transport (RFC 8445 §2.4).
    #[serde(default)]
    pub ice_restart: bool,
}

/// `iceCandidate`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Which call.
    pub call_id: CallName,
    /// The candidate; empty: there is no further one.
    pub candidate: CandidateText,
    /// Of which m-line, by its `a=mid`.
    pub sdp_mid: Option<Label>,
    /// The same by its number.
    #[serde(rename = "sdpMLineIndex")]
    pub sdp_m_line_index: Option<u16>,
}

/// `dtmf`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dtmf {
    /// Which call.
    pub call_id: CallName,
    /// The digits.
    pub digits: Digits,
    /// Length of each, in milliseconds.
    pub duration: Option<u16>,
    /// How the far end gets them.
    #[serde(default)]
    pub method: DigitMethod,
}

/// `transfer`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    /// Which call: its far end is put through.
    pub call_id: CallName,
    /// To whom: a number or address;
    pub to: Option<Dialled>,
    /// or the far end of this other call of the client, which ends as well.
    pub with: Option<CallName>,
}

/// `settings`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Settings {
    /// All of them as they shall be; none: they are only asked for.
    pub set: Option<CallSettings>,
}

/// What a user has set for the calls to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CallSettings {
    /// No phone rings.
    pub do_not_disturb: bool,
    /// Number that every call goes to.
    pub always: Option<Dialled>,
    /// Number that calls go to which find the user busy, or which it declines.
    pub busy: Option<Dialled>,
    /// Number that calls go to which nobody answers.
    pub no_answer: Option<Dialled>,
    /// Number that calls go to which find no phone.
    pub unreachable: Option<Dialled>,
    /// Seconds of ringing before nobody answers; none: as long as any call rings.
    pub no_answer_seconds: Option<u16>,
    /// Phones ring also while the user is in another call; otherwise it is busy then.
    pub call_waiting: bool,
}

impl Default for CallSettings {
    fn default() -> Self {
        CallSettings {
            do_not_disturb: false,
            always: None,
            busy: None,
            no_answer: None,
            unreachable: None,
            no_answer_seconds: None,
            call_waiting: true,
        }
    }
}

/// How digits go to the far end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DigitMethod {
    /// Telephone events in its media.
    #[default]
    Rfc4733,
    /// A message of its signalling.
    Info,
}

/// `stats`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Which call.
    pub call_id: CallName,
    /// Whatever was measured.
    pub report: serde_json::Value,
}

/// `info`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Info {
    /// About what.
    pub query: Query,
}

/// What `info` asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Query {
    /// Calls of this connection.
    Calls,
    /// The registered number.
    Dn,
    /// The server.
    Server,
}

/// `ping`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Ping {
    /// Comes back in the `pong`.
    pub ts: serde_json::Number,
}

/// A payload without fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Empty {}

/// Types that are known, but answered 501.
pub(super) const UNSUPPORTED: [&str; 5] = ["conference", "record", "message", "presence", "mute"];

/// Types that are served.
pub(super) const SERVED: [&str; 22] = [
    "register",
    "resumeSession",
    "unregister",
    "call",
    "ringing",
    "answer",
    "reject",
    "cancel",
    "hangup",
    "hold",
    "resume",
    "reoffer",
    "reanswer",
    "iceCandidate",
    "iceComplete",
    "dtmf",
    "transfer",
    "settings",
    "stats",
    "info",
    "ping",
    "ack",
];
