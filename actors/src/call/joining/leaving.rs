//! The call that a party leaves: it asks the other one, has dialog and leg stop, gives them over, and
//! ends but for the dialog, which passes requests on.
//!
//! | step | event | does | next |
//! |---|---|---|---|
//! | – | Refer with Replaces, refused as any (`transfer.rs`) | its status | – |
//! | – | the same, of a dialog of this call | 482 | – |
//! | – | Refer with Replaces | 202, `Ask` | Asking |
//! | – | an INVITE with Replaces | `Ask` | Asking |
//! | – | a pick-up (`picking.rs`) | `PickUp`; refused: the next call is asked | Asking |
//! | – | a parked call is taken (`parking.rs`) | `Retrieve`; 481: the place is asked again | Asking |
//! | Asking | 500 ms; Asked: 491 | `Ask` again, 60 times, then as with 408 | Asking |
//! | Asking | Asked: status, nobody is there | the status to who transfers; it talks on. Else the end | – |
//! | Asking | Asked: a place, the party has no 200 | its 200 | Answering |
//! | Answering | its ACK came | as the next row | Coming |
//! | Asking | Asked: a place | legs are parted, the dialog is to stop | Coming |
//! | Asking, Coming | who transfers hangs up | it leaves | same |
//! | any but Gone | the call ends | 487 to who transfers; the other call hears it | – |
//! | Coming | the dialog stays | 488 to who transfers; it talks on | – |
//! | Coming | the dialog has stopped | the leg is to stop | Coming |
//! | Coming | both have stopped; 500 ms | `Come`, 60 times; then all parties end | Coming |
//! | Coming | Came | 200 to who transfers, BYE to all but who has gone | Gone |
//! | Coming | the other call is over | all parties end | – |
//! | Gone | the dialog there has ended | tombstone, call record | – |

use bytes::Bytes;
use contract::{Action, ActorId, CallKey, CallNews, SideKey};
use serde::{Deserialize, Serialize};
use sip::Aor;

use super::super::core::{CALLER, Call, CallCtx, End, Peer, Stage, State, Timer};
use super::super::{Message, outcome};
use super::{Ask, Coming, PickUp, REPEAT_AFTER, REPEATS_MAX, Replaces, Stopped, Word};
use crate::dialog;
use crate::media_leg::{self, Destination};
use crate::parking::Retrieve;

/// A party that leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Leaving {
    /// Which.
    side: u8,
    /// In whose place.
    goal: Goal,
    /// Who transfers, while it is there; nobody: who goes has asked for it.
    by: Option<u8>,
    /// Whose account it was that wants it, and whether that is proven.
    account: Option<Aor>,
    is_proven: bool,
    /// The call that is joined, for the log.
    to: String,
    step: Step,
    /// How often it was said.
    repeats: u8,
    /// What it goes on with: not recorded, since its dialog and its leg give the same once more.
    #[serde(skip)]
    parts: Parts,
}

/// In whose place a party comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Goal {
    /// That of the peer of a dialog.
    Replace(Replaces),
    /// That of whoever a call rings.
    PickUp { call: CallKey, whom: Aor },
    /// Beside who is parked.
    Retrieve { call: CallKey, place: ActorId },
}

impl Goal {
    const fn call(&self) -> CallKey {
        match self {
            Goal::Replace(replaces) => replaces.dialog.call(),
            Goal::PickUp { call, .. } | Goal::Retrieve { call, .. } => *call,
        }
    }
}

/// What a party goes on with.
#[derive(Clone, Debug, Default, PartialEq)]
struct Parts {
    dialog: Option<Bytes>,
    leg: Option<Bytes>,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    /// The other call is asked.
    Asking,
    /// It lets the party in, which is answered first.
    Answering { place: SideKey },
    /// Its parts are to stop, and are given to the other call.
    Coming { place: SideKey },
    /// It is there.
    Gone,
}

impl Step {
    /// Returns where the party is awaited, as far as is known.
    const fn place(&self) -> Option<SideKey> {
        match self {
            Step::Answering { place } | Step::Coming { place } => Some(*place),
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
        is_proven: bool,
        ctx: &mut CallCtx<'_>,
    ) -> Result<(), u16> {
        let side = self.may_put_through(by, ctx)?;
        if replaces.dialog.call() == self.data.key {
            return Err(482);
        }
        let to = ActorId::Call(replaces.dialog.call()).to_string();
        self.joining.leaving = Some(Box::new(Leaving {
            side,
            goal: Goal::Replace(replaces.clone()),
            by: Some(by),
            account: self.account_of(by).cloned(),
            is_proven,
            to: to.clone(),
            step: Step::Asking,
            repeats: 0,
            parts: Parts::default(),
        }));
        self.tell_dialog(by, dialog::Message::AcceptRefer);
        let by = self.word_of(by);
        self.emit(CallNews::Transferring { by, to });
        self.drive_leaving(ctx);
        Ok(())
    }

    /// The caller comes in the place of a party of another call: its INVITE says so.
    pub(in super::super) fn leave_at_once(&mut self, replaces: Replaces, ctx: &mut CallCtx<'_>) {
        self.leave_by_itself(Goal::Replace(replaces), ctx);
    }

    /// The caller comes as the callee of a call that rings.
    pub(in super::super) fn leave_to_pick_up(
        &mut self,
        call: CallKey,
        whom: Aor,
        ctx: &mut CallCtx<'_>,
    ) {
        self.leave_by_itself(Goal::PickUp { call, whom }, ctx);
    }

    /// The caller comes to who is parked.
    pub(in super::super) fn leave_to_retrieve(
        &mut self,
        call: CallKey,
        place: ActorId,
        ctx: &mut CallCtx<'_>,
    ) {
        self.leave_by_itself(Goal::Retrieve { call, place }, ctx);
    }

    fn leave_by_itself(&mut self, goal: Goal, ctx: &mut CallCtx<'_>) {
        self.joining.leaving = Some(Box::new(Leaving {
            side: CALLER,
            by: None,
            account: self.data.caller.account.clone(),
            is_proven: ctx.site().is_proving(self.data.caller.listener),
            to: ActorId::Call(goal.call()).to_string(),
            goal,
            step: Step::Asking,
            repeats: 0,
            parts: Parts::default(),
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
            Step::Asking => self.ask(leaving),
            Step::Answering { .. } => {
                self.timers.clear(Timer::Join);
            }
            Step::Coming { place } => self.give(side, place, leaving.parts, ctx),
            Step::Gone => {
                self.timers.clear(Timer::Join);
                self.tell_dialog(side, dialog::Message::HandedOver);
            }
        }
    }

    /// Asks the other call whether the party may come.
    fn ask(&mut self, leaving: Leaving) {
        let (from, by) = (self.side_key(leaving.side), leaving.account);
        match leaving.goal {
            Goal::Replace(replaces) => {
                let to = ActorId::Dialog(replaces.dialog);
                let is_proven = leaving.is_proven;
                let ask = Ask {
                    replaces,
                    from,
                    by,
                    is_proven,
                };
                self.tell(to, dialog::Message::Replace(Box::new(ask)).into());
            }
            Goal::PickUp { call, whom } => {
                let is_proven = leaving.is_proven;
                let word = Word::PickUp(Box::new(PickUp {
                    whom,
                    from,
                    by,
                    is_proven,
                }));
                let side = CALLER;
                self.tell(ActorId::Call(call), Message::Join { side, word }.into());
            }
            Goal::Retrieve { call, place } => {
                let is_proven = leaving.is_proven;
                let word = Word::Retrieve(Box::new(Retrieve {
                    place,
                    from,
                    by,
                    is_proven,
                }));
                let side = CALLER;
                self.tell(ActorId::Call(call), Message::Join { side, word }.into());
            }
        }
    }

    /// Gives the other call the party, once its dialog and then its leg have stopped.
    fn give(&mut self, side: u8, place: SideKey, parts: Parts, ctx: &CallCtx<'_>) {
        let Some(dialog) = parts.dialog else {
            return self.tell_dialog(side, dialog::Message::HandOver { to: place });
        };
        let Some(leg) = parts.leg else {
            return self.tell_leg(side, media_leg::Message::HandOver);
        };
        let coming = Box::new(Coming {
            from: self.side_key(side),
            dialog,
            leg,
            name: self.name_of(side, ctx.site()),
            account: self.account_of(side).cloned(),
        });
        let (to, side) = (ActorId::Call(place.call()), place.number());
        let word = Word::Come(coming);
        self.tell(to, Message::Join { side, word }.into());
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
            Step::Asking => self.stay(408, ctx),
            Step::Coming { .. } if leaving.parts.dialog.is_none() => self.stay(408, ctx),
            Step::Coming { .. } => {
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
        let asked = self.leaving_of(side).map(|leaving| leaving.goal.clone());
        if let Some(Goal::PickUp { call, .. } | Goal::Retrieve { call, .. }) = asked
            && call != place.call()
        {
            // Of a call that was asked before, and said nothing then.
            return self.tell_not_coming(side, place);
        }
        match self.leaving_of(side).map(|leaving| &leaving.step) {
            Some(Step::Asking) => {}
            Some(Step::Answering { .. } | Step::Coming { .. } | Step::Gone) => {
                return ctx.ignore("known already");
            }
            // It was given up meanwhile.
            None => return self.tell_not_coming(side, place),
        }
        if self.picking.take().is_some() {
            // That limited the search.
            self.timers.clear(Timer::Ring);
        }
        self.parked = None;
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
        self.step(Step::Coming { place }, ctx);
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
        let is_picking = self.picking.is_some();
        let is_taking = self.is_parking();
        match self.leaving_of(side).map(|leaving| &leaving.step) {
            Some(Step::Asking) if is_picking => {
                self.joining.leaving = None;
                self.timers.clear(Timer::Join);
                self.on_not_picked_up(status, ctx);
            }
            Some(Step::Asking) if status == 481 && is_taking => {
                self.joining.leaving = None;
                self.timers.clear(Timer::Join);
                self.ask_place_again(ctx);
            }
            Some(Step::Asking) if status == 491 => ctx.ignore("it is asked again"),
            Some(Step::Asking) => self.stay(status, ctx),
            Some(Step::Answering { .. } | Step::Coming { .. } | Step::Gone) | None => {
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
                self.tell_transferor(by, status, true);
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
        let is_asked = matches!(leaving.step, Step::Coming { .. });
        match (stopped, &leaving.parts) {
            (Stopped::Dialog(part), Parts { dialog: None, .. }) if is_asked => {
                leaving.parts.dialog = Some(part);
            }
            (
                Stopped::Leg(part),
                Parts {
                    dialog: Some(_),
                    leg: None,
                },
            ) if is_asked => leaving.parts.leg = Some(part),
            (Stopped::Stays, Parts { dialog: None, .. }) if is_asked => return self.stay(488, ctx),
            (_, _) => return ctx.ignore("known already"),
        }
        leaving.repeats = 0;
        self.drive_leaving(ctx);
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
        let cause = match leaving.goal {
            Goal::Replace(_) => "ATTENDED_TRANSFER",
            Goal::PickUp { .. } | Goal::Retrieve { .. } => "PICKED_OFF",
        };
        leaving.parts = Parts::default();
        self.step(Step::Gone, ctx);
        self.out.push(Action::Stop {
            id: ActorId::MediaLeg(self.side_key(side)),
        });
        self.emit(CallNews::Transferred { to });
        if let Some(by) = by {
            self.tell_transferor(by, 200, true);
        }
        let end = End {
            cause: cause.to_owned(),
            status: 480,
            by: by.map_or_else(|| "weft".to_owned(), |by| self.word_of(by)),
            at: ctx.now().utc,
        };
        self.data.exchange = None;
        self.moves.clear();
        self.timers.clear_all();
        if let Some(known) = self.data.sides.get_mut(&side) {
            known.stage = Stage::Leaving;
            known.has_leg = false;
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
            Step::Asking | Step::Answering { .. } | Step::Coming { .. } => "transferring",
        })
    }

    /// Returns who transfers so, and to where, if somebody does.
    pub(in super::super) fn joining_refer(&self) -> Option<(u8, &Replaces)> {
        let leaving = self.joining.leaving.as_ref()?;
        let Goal::Replace(replaces) = &leaving.goal else {
            return None;
        };
        Some((leaving.by?, replaces))
    }

    /// Who transfers hangs up, or is gone: the other party leaves all the same.
    pub(in super::super) fn let_joining_transferor_go(&mut self, side: u8) -> bool {
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
            self.tell_transferor(by, status, true);
        }
    }

    /// Nobody is at the dialog that shall be replaced, or in the call that is joined.
    pub(in super::super) fn on_joined_absent(&mut self, to: &ActorId, ctx: &mut CallCtx<'_>) {
        let leaving = self.joining.leaving.as_deref();
        let asked = leaving.map(|leaving| leaving.goal.call());
        let Some((side, step)) = leaving.map(|leaving| (leaving.side, leaving.step.clone())) else {
            return self.on_awaited_absent(to, ctx);
        };
        match (step, to) {
            // Several calls may have been asked: only the one that is asked now counts.
            (Step::Asking, to) if to.call() == asked => self.on_not_let_in(side, 481, ctx),
            (Step::Coming { place }, ActorId::Call(key)) if *key == place.call() => {
                self.on_came(side, false, ctx);
            }
            (_, _) => ctx.ignore("not asked, or no longer"),
        }
    }
}
