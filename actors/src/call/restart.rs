//! What a call asks again after a restart: its sides how far they are, and whatever its state was
//! waiting for. All of it may be asked twice.

use super::core::{CALLER, Call, CallCtx, Stage, State, Timer};
use crate::dialog;
use crate::media_leg::{self, Want};

impl Call {
    /// Goes on from the recorded state.
    pub(super) fn resume(&mut self, ctx: &mut CallCtx<'_>) {
        self.report_all();
        match self.data.state.clone() {
            State::New | State::Over => ctx.ignore("nothing to go on with"),
            State::Preparing => self.prepare(ctx),
            State::Locating { .. } => self.locate(ctx),
            State::Ringing if self.timers.due(Timer::CallAnew).is_some() => {
                ctx.ignore("its forks are called anew");
            }
            State::Ringing => {
                self.ring_on(ctx);
                self.locate_members(ctx);
            }
            State::Answering { .. } => self.drive_answer(ctx),
            State::Talking { .. } => {
                self.end_leaving();
                self.ask_place(ctx);
                if self.data.exchange.is_some() {
                    self.drive_exchange(ctx);
                }
            }
            State::Ending(end) => {
                let sides: Vec<(u8, bool)> = self
                    .data
                    .sides
                    .iter()
                    .map(|(side, known)| (*side, known.has_dialog))
                    .collect();
                for (side, has_dialog) in sides {
                    self.close_leg(side);
                    if has_dialog && !self.has_gone(side) {
                        self.tell_end(side, end.status, &end.cause);
                    }
                }
                self.finish_if_empty();
            }
        }
        self.resume_joining(ctx);
        self.drive_moves(ctx);
    }

    /// Sides that were told to end before may not have heard it.
    fn end_leaving(&mut self) {
        let leaving: Vec<(u8, bool)> = self
            .data
            .sides
            .iter()
            .filter(|(_, known)| known.stage == Stage::Leaving)
            .map(|(side, known)| (*side, known.has_dialog))
            .collect();
        for (side, has_dialog) in leaving {
            self.close_leg(side);
            if has_dialog {
                self.tell_end(side, 487, "NORMAL_CLEARING");
            }
        }
    }

    fn report_all(&mut self) {
        let sides: Vec<(u8, bool, bool)> = self
            .data
            .sides
            .iter()
            .map(|(side, known)| {
                let is_described = !matches!(known.stage, Stage::Describing(_));
                (*side, known.has_dialog && is_described, known.has_leg)
            })
            .collect();
        for (side, has_dialog, has_leg) in sides {
            if has_dialog {
                self.tell_dialog(side, dialog::Message::Report);
            }
            if has_leg {
                self.tell_leg(side, media_leg::Message::Report);
            }
        }
    }

    /// Forks without a dialog get their offer; early media that was on its way is asked again.
    fn ring_on(&mut self, ctx: &CallCtx<'_>) {
        // What was passed last may not have been safe: the forks' next 18x is passed in any case.
        self.data.passed = None;
        let describing: Vec<u8> = self
            .data
            .sides
            .iter()
            .filter(|(_, side)| matches!(side.stage, Stage::Describing(_)))
            .map(|(side, _)| *side)
            .collect();
        for side in describing {
            self.ask_offer(side, ctx);
        }
        let early = self
            .data
            .early
            .and_then(|side| self.stream_of(side))
            .map(Want::of);
        if let (Some(want), None, true) = (early, &self.data.answer, self.data.offer.is_some()) {
            self.tell_leg(CALLER, media_leg::Message::MakeAnswer { want });
        }
    }
}
