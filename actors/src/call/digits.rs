//! Digits and candidates on their way: from a peer to its own leg, or to the other side.
//!
//! In: what dialogs and legs tell. Out: orders for a leg, a digit for the other dialog.

use std::time::Duration;

use bytes::Bytes;
use contract::{Action, Emitted};

use super::core::{Call, CallCtx, Stage, State};
use crate::dialog::signal::signal_of;
use crate::{dialog, media_leg};

impl Call {
    /// A digit by INFO goes on to the other side.
    pub(super) fn on_info(
        &mut self,
        side: u8,
        content_type: String,
        body: Bytes,
        ctx: &mut CallCtx<'_>,
    ) {
        let call = self.data.key;
        if let Some(digit) = signal_of(&body) {
            self.out
                .push(Action::Emit(Emitted::Digit { call, side, digit }));
        }
        match self.talks_with(side) {
            Some(other) => {
                self.tell_dialog(other, dialog::Message::Info { content_type, body });
            }
            None => ctx.ignore("nobody to tell the digit"),
        }
    }

    /// A digit in the media of a side: its leg has told the world, the relay carries it on; a peer
    /// that hears none in its own is told.
    pub(super) fn on_digit(&mut self, side: u8, digit: char, ctx: &mut CallCtx<'_>) {
        match self.talks_with(side) {
            Some(other) => self.tell_dialog(other, dialog::Message::Digit { digit }),
            None => ctx.ignore("nobody to tell the digit"),
        }
    }

    /// A peer wants digits played to the other.
    pub(super) fn on_digits(
        &mut self,
        side: u8,
        digits: String,
        duration: Duration,
        ctx: &mut CallCtx<'_>,
    ) {
        let call = self.data.key;
        for digit in digits.chars() {
            self.out
                .push(Action::Emit(Emitted::Digit { call, side, digit }));
        }
        match self.talks_with(side).filter(|_| !self.data.is_bypassed) {
            Some(other) => self.play_digits(other, digits, duration),
            None => ctx.ignore("nobody to play the digits to"),
        }
    }

    /// A peer's candidate is for its own leg.
    pub(super) fn on_trickle(
        &mut self,
        side: u8,
        candidate: Option<String>,
        ctx: &mut CallCtx<'_>,
    ) {
        let is_wanted = (self.data.sides.get(&side))
            .is_some_and(|known| known.has_leg && known.stage == Stage::Active);
        if !is_wanted {
            return ctx.ignore("no leg that wants it");
        }
        let message = match candidate {
            Some(candidate) => media_leg::Message::Candidate { candidate },
            None => media_leg::Message::EndOfCandidates,
        };
        self.tell_leg(side, message);
    }

    fn talks_with(&self, side: u8) -> Option<u8> {
        let is_talking = matches!(self.data.state, State::Talking { .. });
        self.other_side(side).filter(|_| is_talking)
    }
}
