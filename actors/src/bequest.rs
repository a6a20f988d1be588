//! What a node that was cut off had of a call, beside the copy that stands (`cluster.md` §5, §8).
//!
//! In: both copies, as they are stored. Out: the message that hands the former one over, if its parties
//! would never hear of the other.
//!
//! | the former copy | the copy that stands | handed over |
//! |---|---|---|
//! | has connected the caller | rings still | all of it, to be gone on with |
//! | has the ACK of the caller's 200 | answers the caller too, for the same callee, and has no ACK | the same |
//! | ran here, and has called somebody | has not called them | their dialogs, to be ended |
//! | ran here, and was answered by them | cannot say BYE to them | the same |
//! | ran here | has ended | all of it, to be ended |

use bytes::Bytes;
use contract::core::Rivals;
use contract::{ActorId, SideKey, codec};

use crate::roster::{AnyCore, Stored, stored_call};
use crate::{call, dialog};

/// Makes the message for the owner of a call; `None` if it needs to know nothing.
pub(crate) fn of_call(id: &ActorId, copies: &Rivals<'_>) -> Option<call::Message> {
    let theirs = stored_call(copies.former.get(id)?)?;
    let mut unknown = Vec::new();
    if let Some(newer) = copies.newer {
        let ours = stored_call(newer.get(id)?)?;
        let is_better = (theirs.is_answered() && ours.is_unanswered()) || theirs.is_ahead_of(&ours);
        if copies.ran_here {
            unknown = called_only_by(copies);
        }
        if !is_better && unknown.is_empty() {
            return None;
        }
    } else if !copies.ran_here {
        return None;
    }
    let parts = copies.former.clone().into_iter().collect();
    Some(call::Message::Bequest { parts, unknown })
}

/// A dialog with a callee.
pub(crate) struct Callee {
    /// What tells it from all others.
    pub(crate) name: String,
    /// Nothing is left to do.
    pub(crate) has_ended: bool,
    /// The callee has answered: CANCEL does not end it any more (RFC 3261 §9.2).
    pub(crate) has_answered: bool,
    /// All that BYE needs is known.
    pub(crate) takes_bye: bool,
}

/// Returns the dialogs of the former copy with parties that the other copy cannot end: it does not
/// know of them, or would only cancel what they have answered.
fn called_only_by(copies: &Rivals<'_>) -> Vec<ActorId> {
    let newer = copies.newer.into_iter().flatten();
    let known: Vec<Callee> = newer.filter_map(|(_, part)| callee(part)).collect();
    let is_ended_there = |theirs: &Callee| {
        let mut same = known.iter().filter(|ours| ours.name == theirs.name);
        same.any(|ours| ours.takes_bye || !theirs.has_answered)
    };
    let former = copies.former.iter();
    let unknown = former.filter(|(_, part)| {
        callee(part).is_some_and(|theirs| !theirs.has_ended && !is_ended_there(&theirs))
    });
    unknown.map(|(id, _)| id.clone()).collect()
}

/// A dialog of either kind, as it is stored.
enum StoredDialog {
    Sip(Box<dialog::Snapshot>),
    Json(Box<dialog::json::Snapshot>),
}

/// Reads a dialog as it was stored; `None` if it is none.
fn stored_dialog(part: &Bytes) -> Option<StoredDialog> {
    match codec::decode(part).ok()? {
        Stored::DialogV1(dialog) => Some(StoredDialog::Sip(Box::new(dialog.into()))),
        Stored::DialogV2(dialog) => Some(StoredDialog::Sip(Box::new(dialog.into()))),
        Stored::DialogV3(dialog) => Some(StoredDialog::Sip(Box::new(dialog))),
        Stored::JsonDialogV1(dialog) => Some(StoredDialog::Json(Box::new(dialog.into()))),
        Stored::JsonDialogV2(dialog) => Some(StoredDialog::Json(Box::new(dialog))),
        Stored::RegistrationV1(_)
        | Stored::RegistrationV2(_)
        | Stored::RegistrationV3(_)
        | Stored::CallV1(_)
        | Stored::CallV2(_)
        | Stored::CallV3(_)
        | Stored::CallV4(_)
        | Stored::MediaLegV1(_)
        | Stored::MediaLegV2(_)
        | Stored::ParkingV1(_) => None,
    }
}

/// Reads a dialog with a callee; `None` if it is a caller's, or none.
fn callee(part: &Bytes) -> Option<Callee> {
    match stored_dialog(part)? {
        StoredDialog::Sip(dialog) => dialog.callee(),
        StoredDialog::Json(dialog) => dialog.callee(),
    }
}

/// Builds the core of a side that ends a dialog of another copy.
pub(crate) fn inherit(side: SideKey, part: &Bytes) -> Option<AnyCore> {
    Some(match stored_dialog(part)? {
        StoredDialog::Sip(stored) => {
            AnyCore::Dialog(Box::new(dialog::Dialog::inherit(*stored, side)))
        }
        StoredDialog::Json(stored) => {
            AnyCore::JsonDialog(Box::new(dialog::json::JsonDialog::inherit(*stored, side)))
        }
    })
}

/// Builds the core of a side that goes on with a dialog of another call.
pub(crate) fn taken_up(side: SideKey, part: &Bytes) -> Option<AnyCore> {
    Some(match stored_dialog(part)? {
        StoredDialog::Sip(stored) => {
            AnyCore::Dialog(Box::new(dialog::Dialog::goes_on_as(*stored, side)))
        }
        StoredDialog::Json(stored) => {
            AnyCore::JsonDialog(Box::new(dialog::json::JsonDialog::inherit(*stored, side)))
        }
    })
}

/// Writes a call in the schema in which another was read.
pub(crate) fn in_words_of(copy: &Bytes, call: call::Snapshot) -> Option<Bytes> {
    let stored = match codec::decode(copy) {
        Ok(Stored::CallV3(_) | Stored::CallV4(_)) => match call.oldest() {
            Ok(third) => Stored::CallV3(third),
            Err(fourth) => Stored::CallV4(*fourth),
        },
        _ => match call.into_schema_1() {
            Ok(first) => Stored::CallV1(first),
            Err(second) => Stored::CallV2(*second),
        },
    };
    codec::encode(&stored).ok().map(Bytes::from)
}
