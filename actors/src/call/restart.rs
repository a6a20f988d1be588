//! What a call asks again after a restart: its sides how far they are, and whatever its state was
//! waiting for. All of it may be asked twice.

use super::core::{CALLER, Call, CallCtx, Stage, State};
use crate::media_leg::{self, Want};
use crate::dialog;

impl Call {
    /// Goes on from the recorded state.
    pub(super) fn resume(&mut self, ctx: &mut CallCtx<'_>) {
        self.report_all();
        match self.data.state.clone() {
            State::New | State::Over => ctx.ignore("nothing to go on with"),
            State::Preparing => self.prepare(ctx),
            State::Locating { .. } => self.locate(ctx),
            State::Ringing => self.ring_on(),
            State::Answering { .. } => self.drive_answer(ctx),
            State::Talking { .. } => {
                if self.data.exchange.is_some() {
                    self.drive_exchange(ctx);
                }
            }
            State::Ending(end) => {
                let sides: Vec<u8> = self.data.sides.keys().copied().collect();
                for side in sides {
                    self.close_leg(side);
                    self.tell_end(side, end.status, &end.cause);
                }
                self.finish_if_nobody_is_left();
            }
        }
    }

    fn report_all(&mut self) {
        let sides: Vec<(u8, bool)> = self
            .data
            .sides
            .iter()
            .map(|(side, known)| (*side, matches!(known.stage, Stage::Describing(_))))
            .collect();
        for (side, is_describing) in sides {
            if !is_describing {
                self.tell_dialog(side, dialog::Message::Report);
            }
            if !self.data.is_bypassed {
                self.tell_leg(side, media_leg::Message::Report);
            }
        }
    }

    /// Forks without a dialog get their offer; early media that was on its way is asked again.
    fn ring_on(&mut self) {
        let describing: Vec<u8> = self
            .data
            .sides
            .iter()
            .filter(|(_, side)| matches!(side.stage, Stage::Describing(_)))
            .map(|(side, _)| *side)
            .collect();
        for side in describing {
            self.ask_offer(side);
        }
        let early = self.data.early.and_then(|side| self.stream_of(side)).map(Want::of);
        if let (Some(want), None, true) =
            (early, &self.data.answer, self.data.offer.is_some())
        {
            self.tell_leg(CALLER, media_leg::Message::MakeAnswer { want });
        }
    }

    fn finish_if_nobody_is_left(&mut self) {
        if self.data.sides.is_empty() {
            self.finish();
        }
    }
}
