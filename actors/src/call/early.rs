//! What a caller hears before its 200: 18x and early media (RFC 3261 §13.2.1, RFC 3960).
//!
//! In: provisional responses of forks, descriptions of legs. Out: 18x for the caller, joined legs.
//! Each fork's leg has its own answer; the caller hears the first that sends any media.

use bytes::Bytes;
use contract::CallNews;

use super::core::{CALLER, Call, CallCtx, Stage, State};
use crate::dialog::wire::Wire;
use crate::media_leg::{Destination, Want};
use crate::{dialog, media_leg};

impl Call {
    /// A fork progressed: 18x goes to the caller, with a description of ours if it has one.
    pub(super) fn on_progressed(
        &mut self,
        side: u8,
        status: u16,
        sdp: Option<Bytes>,
        ctx: &mut CallCtx<'_>,
    ) {
        let is_active = self
            .data
            .sides
            .get(&side)
            .is_some_and(|fork| fork.stage == Stage::Active);
        if self.data.state != State::Ringing || !is_active {
            return ctx.ignore("not a fork any more");
        }
        match sdp {
            Some(sdp) if self.data.is_bypassed => {
                if *self.data.early.get_or_insert(side) == side {
                    self.progress(status, rewritten(&sdp));
                }
            }
            Some(sdp) => {
                if let Some(fork) = self.data.sides.get_mut(&side) {
                    fork.status = status;
                    fork.sdp = Some(Wire(sdp.clone()));
                    self.is_changed = true;
                }
                self.tell_leg(side, media_leg::Message::TakeAnswer { sdp });
            }
            None => self.progress(status, None),
        }
    }

    /// The caller hears the first fork that has early media.
    pub(super) fn begin_early_media(&mut self, side: u8) {
        let Some(fork) = self.data.sides.get(&side) else {
            return;
        };
        let (status, want) = (fork.status, fork.stream.as_ref().map(Want::of));
        if *self.data.early.get_or_insert(side) != side {
            return self.progress(status, None);
        }
        if self.data.answered.is_some() {
            let passed = Some((status, true));
            if self.data.passed != passed {
                self.data.passed = passed;
                self.is_changed = true;
                self.report_transfer(status);
            }
            return self.join(side);
        }
        match (self.data.offer.is_some(), &self.data.answer, want) {
            // A caller without offer cannot be given one in an unreliable response.
            (false, _, _) => self.progress(status, None),
            (true, None, Some(want)) => {
                self.tell_leg(CALLER, media_leg::Message::MakeAnswer { want });
            }
            (true, _, _) => self.pass_early_media(),
        }
    }

    pub(super) fn pass_early_media(&mut self) {
        let Some(side) = self.data.early else { return };
        let status = self.data.sides.get(&side).map_or(183, |fork| fork.status);
        let sdp = Wire::bytes(self.data.answer.as_ref());
        self.join(side);
        self.progress(status, sdp);
    }

    /// Passes an 18x, each once.
    fn progress(&mut self, status: u16, sdp: Option<Bytes>) {
        let passed = Some((status, sdp.is_some()));
        let is_passed_on = (101..=189).contains(&status);
        if !is_passed_on || self.data.passed == passed {
            return;
        }
        if self.data.answered.is_some() {
            self.data.passed = passed;
            self.is_changed = true;
            self.ring_back();
            return self.report_transfer(status);
        }
        if self.data.passed.is_none() {
            self.emit(CallNews::Ringing { status });
        }
        self.data.passed = passed;
        self.is_changed = true;
        self.tell_dialog(CALLER, dialog::Message::Progress { status, sdp });
    }

    /// Joins the caller's leg and a callee's, as far as both have described themselves.
    pub(super) fn join(&mut self, side: u8) {
        if self.data.is_bypassed {
            return;
        }
        let is_watched = self.data.answered.is_some();
        let anchor = self.anchor();
        for (from, to) in [(anchor, side), (side, anchor)] {
            let Some(stream) = self.stream_of(to) else {
                continue;
            };
            let to = match self.is_parted(from, to) {
                true => Destination::Nowhere,
                false => Destination::Relay {
                    to: self.side_key(to),
                    onward: stream.codecs.clone(),
                },
            };
            self.tell_leg(from, media_leg::Message::Join { to, is_watched });
        }
    }
}

/// Returns a description as our model has it: a line that it does not know does not pass
/// (`threats.md` 22).
pub(super) fn rewritten(sdp: &Bytes) -> Option<Bytes> {
    let session = media::sdp::read(sdp).ok()?;
    Some(Bytes::from(media::sdp::write(&session)))
}
