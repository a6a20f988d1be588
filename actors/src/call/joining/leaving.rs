//! The call that a party leaves: it asks the other one, has dialog and leg stop, gives them over, and
//! ends but for the dialog, which passes requests on.
//!
//! | step | event | does | next |
//! |---|---|---|---|
//! | – | Refer with Replaces, refused as any (`transfer.rs`) | its status | – |
//! | – | the same, of a dialog of this call | 482 | – |
//! | – | Refer with Replaces | 202, `Ask` | Asking |
//! | Asking | 500 ms | `Ask` again, 60 times | Asking |
//! | Asking | Asked: 491 | the same | Asking |
//! | Asking | Asked: status, nobody is there | the status to who transfers; it talks on | – |
//! | – | an INVITE with Replaces | `Ask` | Asking |
//! | Asking | Asked: a place, the party is not answered | its 200, ACK | Answering |
//! | Answering | its ACK came | as the next row | Stopping |
//! | Asking | Asked: a place | legs are parted, the dialog is to stop | Stopping |
//! | Asking | who transfers hangs up | it leaves | Asking |
//! | Asking | the call ends | 487 to who transfers | – |
//! | Stopping, Coming | the call ends | the same, `NotComing` | – |
//! | – | Asked: a place | `NotComing`: it was given up meanwhile | – |
//! | Stopping | the dialog has stopped | the leg is to stop | Stopping |
//! | Stopping | the dialog stays | 488 to who transfers, `NotComing`; it talks on | – |
//! | Stopping | the leg has stopped | `Come` | Coming |
//! | Coming | Came | 200 to who transfers, BYE to all but who has gone | Gone |
//! | Coming | the other call is over | all parties end | – |
//! | Gone | the dialog there has ended | tombstone, call record | – |

use bytes::Bytes;
use contract::{Action, ActorId, CallNews, SideKey};
use serde::{Deserialize, Serialize};
use sip::Aor;

use super::super::core::{CALLER, Call, CallCtx, End, Peer, Stage, State, Timer};
use super::super::{Message, outcome};
use super::{Ask, Coming, REPEAT_AFTER, REPEATS_MAX, Replaces, Stopped, Word};
use crate::dialog;
use crate::media_leg::{self, Destination};
use crate::wire::FORM_3_SINCE;

/// A party that leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Leaving {
    /// Which.
    side: u8,
    /// In whose place.
    replaces: Replaces,
    /// Who transfers, while it is there; nobody: who goes has asked for it.
    by: Option<u8>,
    /// Whose account it was that wants it.
    account: Option<Aor>,
    /// To whom, as it says.
    to: String,
    step: Step,
    /// How often it was said.
    repeats: u8,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    /// The other call is asked.
    Asking,
    /// It lets the party in, which is answered first.
    Answering { place: SideKey },
    /// Its parts are to stop.
    Stopping {
        place: SideKey,
        dialog: Option<Bytes>,
    },
    /// The other call is given them.
    Coming { place: SideKey, coming: Box<Coming> },
    /// It is there.
    Gone,
}

impl Step {
    /// Returns where the party is awaited, as far as is known.
    const fn place(&self) -> Option<SideKey> {
        match self {
            Step::Answering { place }
            | Step::Stopping { place, .. }
            | Step::Coming { place, .. } => Some(*place),
            Step::Asking | Step::Gone => None,
        }
    }
}

impl Call {
    /// Who transfers refers the other party to somebody it talks to in another call.
    ///
    /// # Errors
    /// The status that the REFER is refused with.
    pub(in super::super) fn leave_for(
        &mut self,
        by: u8,
        replaces: &Replaces,
        to: String,
        ctx: &mut CallCtx<'_>,
    ) -> Result<(), u16> {
        let (State::Talking { .. }, Some(side)) = (&self.data.state, self.other_side(by)) else {
            return Err(491);
        };
        if self.is_busy() {
            return Err(491);
        }
        if ctx.health().schema < FORM_3_SINCE {
            return Err(503);
        }
        if self.data.is_bypassed {
            return Err(488);
        }
        if replaces.dialog.call() == self.data.key {
            return Err(482);
        }
        self.joining.leaving = Some(Box::new(Leaving {
            side,
            replaces: replaces.clone(),
            by: Some(by),
            account: self.account_of(by).cloned(),
            to: to.clone(),
            step: Step::Asking,
            repeats: 0,
        }));
        self.tell_dialog(by, dialog::Message::AcceptRefer);
        let by = self.word_of(by);
        self.emit(CallNews::Transferring { by, to });
        self.drive_leaving(ctx);
        Ok(())
    }

    /// The caller comes in the place of a party of another call: its INVITE says so.
    pub(in super::super) fn leave_at_once(&mut self, replaces: Replaces, ctx: &mut CallCtx<'_>) {
        self.joining.leaving = Some(Box::new(Leaving {
            side: CALLER,
            replaces,
            by: None,
            account: self.data.caller.account.clone(),
            to: self.data.caller.to.clone(),
            step: Step::Asking,
            repeats: 0,
        }));
        self.drive_leaving(ctx);
    }

    /// Goes on with a caller that comes in somebody's place, in place of a route; tells whether it does.
    pub(in super::super) fn leaves_on(&mut self, ctx: &mut CallCtx<'_>) -> bool {
        let leaving = self.joining.leaving.as_deref();
        let step = leaving
            .filter(|leaving| leaving.by.is_none())
            .map(|one| one.step.clone());
        match (step, &self.data.state) {
            (None, _) => return false,
            (Some(Step::Answering { place }), State::Talking { .. }) => self.stop(place, ctx),
            (Some(_), _) => self.drive_leaving(ctx),
        }
        true
    }

    /// Says what the present step needs.
    pub(super) fn drive_leaving(&mut self, ctx: &mut CallCtx<'_>) {
        let Some(leaving) = self.joining.leaving.as_deref().cloned() else {
            return;
        };
        let side = leaving.side;
        self.is_changed = true;
        self.timers.set(Timer::Join, ctx.now().mono, REPEAT_AFTER);
        match leaving.step {
            Step::Asking => {
                let to = ActorId::Dialog(leaving.replaces.dialog);
                let ask = Ask {
                    replaces: leaving.replaces,
                    from: self.side_key(side),
                    by: leaving.account,
                };
                self.tell(to, dialog::Message::Replace(Box::new(ask)).into());
            }
            Step::Answering { .. } => {
                self.timers.clear(Timer::Join);
            }
            Step::Stopping { place, dialog } => match dialog {
                None => self.tell_dialog(side, dialog::Message::HandOver { to: place }),
                Some(_) => self.tell_leg(side, media_leg::Message::HandOver),
            },
            Step::Coming { place, coming } => {
                let (to, side) = (ActorId::Call(place.call()), place.number());
                let word = Word::Come(coming);
                self.tell(to, Message::Join { side, word }.into());
            }
            Step::Gone => {
                self.timers.clear(Timer::Join);
                self.tell_dialog(side, dialog::Message::HandedOver);
            }
        }
    }

    pub(super) fn repeat_leaving(&mut self, ctx: &mut CallCtx<'_>) {
        let Some(leaving) = &mut self.joining.leaving else {
            return;
        };
        leaving.repeats = leaving.repeats.saturating_add(1);
        if leaving.repeats <= REPEATS_MAX {
            return self.drive_leaving(ctx);
        }
        match leaving.step {
            Step::Asking | Step::Stopping { dialog: None, .. } => self.stay(408, ctx),
            Step::Stopping { .. } | Step::Coming { .. } => {
                self.end(504, "RECOVERY_ON_TIMER_EXPIRE", "weft", ctx);
            }
            Step::Answering { .. } | Step::Gone => ctx.ignore("nothing is asked"),
        }
    }

    fn leaving_of(&mut self, side: u8) -> Option<&mut Leaving> {
        self.joining
            .leaving
            .as_deref_mut()
            .filter(|leaving| leaving.side == side)
    }

    /// Takes the next step.
    fn step(&mut self, next: Step, ctx: &mut CallCtx<'_>) {
        if let Some(leaving) = &mut self.joining.leaving {
            leaving.step = next;
            leaving.repeats = 0;
            self.drive_leaving(ctx);
        }
    }

    /// The other call lets the party in.
    pub(super) fn on_let_in(&mut self, side: u8, place: SideKey, ctx: &mut CallCtx<'_>) {
        match self.leaving_of(side).map(|leaving| &leaving.step) {
            Some(Step::Asking) => {}
            Some(
                Step::Answering { .. } | Step::Stopping { .. } | Step::Coming { .. } | Step::Gone,
            ) => {
                return ctx.ignore("known already");
            }
            // It was given up meanwhile.
            None => return self.tell_not_coming(side, place),
        }
        if self.data.answered.is_none() {
            self.step(Step::Answering { place }, ctx);
            return self.begin_answer(Peer::Nobody, ctx);
        }
        self.stop(place, ctx);
    }

    /// The party stops: nobody is heard any more.
    fn stop(&mut self, place: SideKey, ctx: &mut CallCtx<'_>) {
        for party in [Some(self.anchor()), self.callee_side()] {
            let nowhere = media_leg::Message::Join {
                to: Destination::Nowhere,
                is_watched: false,
            };
            if let Some(party) = party {
                self.tell_leg(party, nowhere);
            }
        }
        let dialog = None;
        self.step(Step::Stopping { place, dialog }, ctx);
    }

    /// The other call waits for its party, refuses whatever the others want meanwhile, and goes on
    /// without who was to be replaced: it hears that nobody comes.
    fn tell_not_coming(&mut self, side: u8, place: SideKey) {
        let word = Word::NotComing(self.side_key(side));
        let (to, side) = (ActorId::Call(place.call()), place.number());
        self.tell(to, Message::Join { side, word }.into());
    }

    /// It does not, or does not now.
    pub(super) fn on_not_let_in(&mut self, side: u8, status: u16, ctx: &mut CallCtx<'_>) {
        match self.leaving_of(side).map(|leaving| &leaving.step) {
            Some(Step::Asking) if status == 491 => ctx.ignore("it is asked again"),
            Some(Step::Asking) => self.stay(status, ctx),
            Some(
                Step::Answering { .. } | Step::Stopping { .. } | Step::Coming { .. } | Step::Gone,
            )
            | None => {
                ctx.ignore("not asked, or no longer");
            }
        }
    }

    /// The party does not leave: those who are there talk on.
    fn stay(&mut self, status: u16, ctx: &mut CallCtx<'_>) {
        let Some(leaving) = self.joining.leaving.take() else {
            return;
        };
        self.timers.clear(Timer::Join);
        self.is_changed = true;
        if let Some(place) = leaving.step.place() {
            self.tell_not_coming(leaving.side, place);
        }
        let status = outcome::passed(status);
        self.emit(CallNews::TransferFailed { status });
        match leaving.by {
            Some(by) => {
                self.tell_dialog(
                    by,
                    dialog::Message::ReferProgress {
                        status,
                        is_last: true,
                    },
                );
                if let State::Talking { peer } = self.data.state {
                    self.connect(peer);
                }
            }
            None => self.end(status, outcome::cause_of_status(status), "weft", ctx),
        }
    }

    /// A part of the party has stopped.
    pub(super) fn on_stopped(&mut self, side: u8, stopped: Stopped, ctx: &mut CallCtx<'_>) {
        let Some(leaving) = self.leaving_of(side) else {
            return ctx.ignore("nobody leaves");
        };
        match (leaving.step.clone(), stopped) {
            (
                Step::Stopping {
                    place,
                    dialog: None,
                },
                Stopped::Dialog(part),
            ) => {
                let dialog = Some(part);
                self.step(Step::Stopping { place, dialog }, ctx);
            }
            (Step::Stopping { dialog: None, .. }, Stopped::Stays) => self.stay(488, ctx),
            (
                Step::Stopping {
                    place,
                    dialog: Some(dialog),
                },
                Stopped::Leg(leg),
            ) => {
                let coming = Box::new(Coming {
                    from: self.side_key(side),
                    dialog,
                    leg,
                    name: self.name_of(side, ctx.site()),
                    account: self.account_of(side).cloned(),
                });
                self.step(Step::Coming { place, coming }, ctx);
                self.out.push(Action::Stop {
                    id: ActorId::MediaLeg(self.side_key(side)),
                });
                if let Some(known) = self.data.sides.get_mut(&side) {
                    known.has_leg = false;
                }
            }
            (_, _) => ctx.ignore("known already"),
        }
    }

    /// The party is there, or nobody is.
    pub(super) fn on_came(&mut self, side: u8, is_there: bool, ctx: &mut CallCtx<'_>) {
        let Some(leaving) = self.leaving_of(side) else {
            return ctx.ignore("nobody leaves");
        };
        if !matches!(leaving.step, Step::Coming { .. }) {
            return ctx.ignore("known already");
        }
        if !is_there {
            return self.end(481, "NORMAL_CLEARING", "weft", ctx);
        }
        let (by, to) = (leaving.by.take(), leaving.to.clone());
        self.step(Step::Gone, ctx);
        self.emit(CallNews::Transferred { to });
        if let Some(by) = by {
            self.tell_dialog(
                by,
                dialog::Message::ReferProgress {
                    status: 200,
                    is_last: true,
                },
            );
        }
        let end = End {
            cause: "ATTENDED_TRANSFER".to_owned(),
            status: 480,
            by: by.map_or_else(|| "weft".to_owned(), |by| self.word_of(by)),
            at: ctx.now().utc,
        };
        self.data.exchange = None;
        self.moves.clear();
        self.timers.clear_all();
        if let Some(known) = self.data.sides.get_mut(&side) {
            known.stage = Stage::Leaving;
        }
        self.enter(State::Ending(Box::new(end)));
        let sides: Vec<u8> = self.data.sides.keys().copied().collect();
        for other in sides.into_iter().filter(|other| *other != side) {
            self.leave(other, 200, "NORMAL_CLEARING");
        }
        self.finish_if_empty();
    }

    /// Tells whether a side has stopped here, or is to.
    pub(in super::super) fn is_going(&self, side: u8) -> bool {
        let leaving = self.joining.leaving.as_ref();
        leaving.is_some_and(|leaving| {
            let is_here = matches!(leaving.step, Step::Asking | Step::Answering { .. });
            leaving.side == side && !is_here
        })
    }

    /// Tells whether a side is somewhere else, and here only passes requests on.
    pub(in super::super) fn has_gone(&self, side: u8) -> bool {
        let leaving = self.joining.leaving.as_ref();
        leaving.is_some_and(|leaving| leaving.side == side && leaving.step == Step::Gone)
    }

    /// Returns the state in a word if a party leaves or has left.
    pub(in super::super) fn leaving_word(&self) -> Option<&'static str> {
        let leaving = self.joining.leaving.as_ref()?;
        Some(match leaving.step {
            Step::Gone => "transferred",
            Step::Asking | Step::Answering { .. } if leaving.by.is_none() => return None,
            Step::Asking | Step::Answering { .. } | Step::Stopping { .. } | Step::Coming { .. } => {
                "transferring"
            }
        })
    }

    /// Returns who transfers so, and to where, if somebody does.
    pub(in super::super) fn joining_refer(&self) -> Option<(u8, &Replaces)> {
        let leaving = self.joining.leaving.as_ref()?;
        Some((leaving.by?, &leaving.replaces))
    }

    /// Who transfers hangs up, or is gone: the other party leaves all the same.
    pub(in super::super) fn let_go_who_transfers(&mut self, side: u8) -> bool {
        let leaving = self.joining.leaving.as_deref_mut();
        let Some(leaving) = leaving.filter(|leaving| leaving.by == Some(side)) else {
            return false;
        };
        leaving.by = None;
        self.let_side_go(side);
        true
    }

    /// The call ends: who transfers hears that it does, and so does who waits for its party.
    pub(in super::super) fn close_joining(&mut self, status: u16) {
        self.joining.awaited = None;
        let Some(leaving) = self.joining.leaving.take() else {
            return;
        };
        if let Some(place) = leaving.step.place() {
            self.tell_not_coming(leaving.side, place);
        }
        if let Some(by) = leaving.by {
            self.tell_dialog(
                by,
                dialog::Message::ReferProgress {
                    status,
                    is_last: true,
                },
            );
        }
    }

    /// Nobody is at the dialog that shall be replaced, or in the call that is joined.
    pub(in super::super) fn on_joined_absent(&mut self, to: &ActorId, ctx: &mut CallCtx<'_>) {
        let leaving = self.joining.leaving.as_deref();
        let Some((side, step)) = leaving.map(|leaving| (leaving.side, leaving.step.clone())) else {
            return self.on_awaited_absent(to, ctx);
        };
        match (step, to) {
            (Step::Asking, ActorId::Dialog(_)) => self.on_not_let_in(side, 481, ctx),
            (Step::Coming { place, .. }, ActorId::Call(key)) if *key == place.call() => {
                self.on_came(side, false, ctx);
            }
            (_, _) => ctx.ignore("not asked, or no longer"),
        }
    }
}
