//! One text frame to one message. Two looks: first type and id, so that a refusal can name the
//! request it is of; then the whole, strictly.

use contract::FaultClass;
use contract::limits::{JSON_CALLS_MAX, JSON_ID_BYTES_MAX, JSON_MESSAGE_BYTES_MAX};
use serde::Deserialize;

use super::client::{ClientMessage, SERVED, UNSUPPORTED};

/// A message with the id that its reply repeats.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Chosen by the client.
    pub id: Option<String>,
    /// What it says.
    pub message: ClientMessage,
}

/// Why a frame is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Longer than `JSON_MESSAGE_BYTES_MAX`.
    #[error("the message is too long")]
    TooLong,
    /// No JSON object, or a field is missing or not what it should be.
    #[error("malformed: {detail}")]
    Malformed {
        /// Where.
        detail: String,
    },
    /// Nobody knows the type.
    #[error("unknown type")]
    Unknown,
}

impl JsonError {
    /// Returns the code of the `error` that answers it.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            JsonError::TooLong | JsonError::Malformed { .. } | JsonError::Unknown => 400,
        }
    }

    /// Tells whose fault it is.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Reject
    }
}

/// A frame that is no message, with the id it had, if that could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reading a JSON message: {error}")]
pub struct Refused {
    /// Chosen by the client.
    pub id: Option<String>,
    /// Why.
    pub error: JsonError,
}

impl Refused {
    /// Tells whose fault it is.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        self.error.class()
    }
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
}

/// Reads one frame.
///
/// # Errors
/// [`Refused`] for what is no message; each answered 400.
pub fn read(frame: &[u8]) -> Result<Request, Refused> {
    let refused = |id: Option<String>, error| Refused { id, error };
    if frame.len() > JSON_MESSAGE_BYTES_MAX {
        return Err(refused(None, JsonError::TooLong));
    }
    let head: Head =
        serde_json::from_slice(frame).map_err(|error| refused(None, malformed(&error)))?;
    let id = head.id;
    let is_fit = |id: &String| id.len() <= JSON_ID_BYTES_MAX && !id.contains(char::is_control);
    if !id.as_ref().is_none_or(is_fit) {
        let detail = "id".to_owned();
        return Err(refused(None, JsonError::Malformed { detail }));
    }
    if UNSUPPORTED.contains(&head.kind.as_str()) {
        let message = ClientMessage::Unsupported;
        return Ok(Request { id, message });
    }
    if !SERVED.contains(&head.kind.as_str()) {
        return Err(refused(id, JsonError::Unknown));
    }
    match serde_json::from_slice(frame) {
        Ok(message) if is_bounded(&message) => Ok(Request { id, message }),
        Ok(_) => {
            let detail = "too many calls, or a NUL in sdp".to_owned();
            Err(refused(id, JsonError::Malformed { detail }))
        }
        Err(error) => Err(refused(id, malformed(&error))),
    }
}

/// What the types of the fields do not bound.
fn is_bounded(message: &ClientMessage) -> bool {
    match message {
        ClientMessage::ResumeSession(resume) => resume.calls.len() <= JSON_CALLS_MAX,
        ClientMessage::Call(call) => is_text(&call.sdp),
        ClientMessage::Answer(one)
        | ClientMessage::Hold(one)
        | ClientMessage::Resume(one)
        | ClientMessage::Reanswer(one) => is_text(&one.sdp),
        ClientMessage::Reoffer(one) => is_text(&one.sdp),
        ClientMessage::Register(_)
        | ClientMessage::Unregister(_)
        | ClientMessage::Ringing(_)
        | ClientMessage::Reject(_)
        | ClientMessage::Cancel(_)
        | ClientMessage::Hangup(_)
        | ClientMessage::IceCandidate(_)
        | ClientMessage::IceComplete(_)
        | ClientMessage::Dtmf(_)
        | ClientMessage::Transfer(_)
        | ClientMessage::Settings(_)
        | ClientMessage::Stats(_)
        | ClientMessage::Info(_)
        | ClientMessage::Ping(_)
        | ClientMessage::Ack(_)
        | ClientMessage::Unsupported => true,
    }
}

fn is_text(sdp: &str) -> bool {
    !sdp.contains('\0')
}

/// Says where, never what: a password may be in it.
fn malformed(error: &serde_json::Error) -> JsonError {
    let what = match error.classify() {
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "syntax",
        serde_json::error::Category::Eof => "cut off",
        serde_json::error::Category::Data => "a field",
    };
    let detail = format!("{what} at {}:{}", error.line(), error.column());
    JsonError::Malformed { detail }
}
