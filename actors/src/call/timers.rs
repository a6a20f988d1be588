//! The deadlines of a call, and what each of them does.
//!
//! In: a deadline that has come. Out: what the file of that concern does.

use serde::{Deserialize, Serialize};

use super::core::{Call, CallCtx};

/// Deadlines of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Timer {
    /// Nobody answered, or a leg of ours that was asked said nothing.
    Ring,
    /// Look again for a phone whose connection is gone.
    LocateAgain,
    /// The longest call is over.
    Longest,
    /// Sides that should have ended did not.
    GiveUp,
    /// An inbox was full: tell it again.
    Retell,
    /// Tell parties that were busy once more where we are.
    MoveAgain,
    /// No fork has said that it was answered at the other node: call them anew.
    CallAnew,
    /// A tone of the route is over.
    Step,
    /// What was said to another call was not answered, or who was let in did not come.
    Join,
    /// It has been parked for long enough.
    Park,
    /// The place where it is parked hears again that it is there.
    Announce,
}

impl Call {
    /// A deadline has come.
    pub(super) fn on_timer(&mut self, timer: Timer, ctx: &mut CallCtx<'_>) {
        self.timers.clear(timer);
        match timer {
            Timer::Ring => self.on_waited(ctx),
            Timer::LocateAgain => self.locate_again(ctx),
            Timer::Longest => self.end(480, "ALLOTTED_TIMEOUT", "weft", ctx),
            Timer::GiveUp => self.finish(),
            Timer::MoveAgain => self.move_again(ctx),
            Timer::CallAnew => self.call_anew(ctx),
            Timer::Step => self.on_played(ctx),
            Timer::Join => self.on_join_timer(ctx),
            Timer::Park => self.on_parked_for_long(ctx),
            Timer::Announce => self.ask_place(ctx),
            Timer::Retell => {
                for (to, message) in std::mem::take(&mut self.retells) {
                    self.tell(to, message);
                }
            }
        }
    }
}
