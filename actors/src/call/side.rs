//! One side of a call, as the call knows it.
//!
//! In: what its dialog and its leg tell. Out: how far it is, and what its peer has described.

use serde::{Deserialize, Serialize};

use super::offering::Attempt;
use crate::Target;
use crate::dialog::wire::Wire;
use crate::media_leg::Stream;

/// One side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Side {
    pub(super) stage: Stage,
    /// Its dialog has not ended; from the start, though one that is described has none yet.
    pub(super) has_dialog: bool,
    /// Its leg holds ports.
    pub(super) has_leg: bool,
    /// What the peer described last.
    pub(super) stream: Option<Stream>,
    /// SDP of the peer's answer, as its dialog told it.
    pub(super) sdp: Option<Wire>,
    /// 18x that came with it.
    pub(super) status: u16,
    /// A callee that may be tried once more with another kind of media.
    pub(super) attempt: Option<Attempt>,
}

/// How far a side is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Its leg makes the offer; there is no dialog yet.
    Describing(Box<Target>),
    /// It has a dialog.
    Active,
    /// It was told to end.
    Leaving,
}

impl Side {
    pub(super) const fn new(stage: Stage, has_leg: bool) -> Self {
        Side {
            stage,
            has_dialog: true,
            has_leg,
            stream: None,
            sdp: None,
            status: 0,
            attempt: None,
        }
    }
}
