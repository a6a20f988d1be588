//! A call that another node had (`cluster.md` §7): its parties are told where we are, its forks are
//! called anew.
//!
//! In: the record of the other node, what parties say to the new address. Out: one offer of ours a
//! party, all at once (`exchange.rs`); CANCEL and a new look-up for a callee that rings. Ports,
//! transactions and connections of the other node are gone; legs and dialogs see to their own.
//!
//! | state | does | row of `cluster.md` §7 |
//! |---|---|---|
//! | Preparing, Locating | asks again, as after a restart | early dialog |
//! | Ringing, a fork was answered | it wins | early dialog |
//! | Ringing | after 50 ms (8 s if the other node may live: `bequest.rs`) every fork is cancelled, the user is located again; the caller goes on hearing what it heard | early dialog |
//! | Answering | as after a restart; who was described the other node's address is told ours once the caller has its 200 | early, confirmed dialog |
//! | Talking | each party is offered what it has, from here; on hold stays on hold | confirmed dialog, media leg |
//! | Talking, an exchange open | who offered gets 491 and tries again; both parties are told | confirmed dialog |
//! | Ending | ends go out again | confirmed dialog |
//!
//! | a party that is told | does |
//! |---|---|
//! | accepts | its leg takes the answer; legs are joined |
//! | 491, 500 | offered again after 2.1 to 4 s, 8 times (RFC 3261 §14.1, §14.2) |
//! | 481 | its dialog hangs up; the other party too |
//! | says nothing or cannot be reached, and nobody of the call was told or heard | offered again, 16 times: the former owner may be alive beside them, cut off from us; their silence ends nothing |
//! | says nothing, but somebody was | its dialog hangs up; the other party too |
//! | 480, or cannot be reached, and is heard | offered again until it can: its silence ends the call |
//! | refuses, or cannot be reached and is not heard | the call ends: by it, with the cause of its status |
//! | knows a floating address that is here now | nothing: it is told nothing (`Report::Stays`) |
//!
//! Meanwhile offers of a party get 491.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::{CallNews, Restored};
use serde::{Deserialize, Serialize};

use super::core::{AnswerStage, Call, CallCtx, Peer, Stage, State, Timer};
use super::exchange::Exchange;
use super::outcome;
use crate::Site;
use crate::media_leg::{self, Want};

/// How often a party is offered anew that is busy with an offer.
const TRIES_MAX: u8 = 8;
/// How often parties are offered anew of whom nobody was reached: 9 min if they say nothing at all.
const UNREACHED_TRIES_MAX: u8 = 16;
/// How long a callee rings whose caller may have given up: its CANCEL goes to the other node
/// (`cluster.md` §7).
const RING_MAX: Duration = Duration::from_secs(35);

/// How long forks have to say that they were answered before the other node was gone: they do so at
/// once.
const CALL_ANEW_AFTER: Duration = Duration::from_millis(50);

/// The same where the other node may only be out of our reach: there they may be answered, and to call
/// them anew ends that. A cut of seconds heals meanwhile.
const CALL_ANEW_AFTER_DOUBT: Duration = Duration::from_secs(8);

/// Parties that do not know where we are, by side.
pub(super) type Moves = BTreeMap<u8, Move>;

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Move {
    step: Step,
    /// Offers that it has refused for now.
    tries: u8,
    /// Its packets come, since we have the call.
    is_heard: bool,
}

/// How far one is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    /// It will be told.
    Owed,
    /// It is being told.
    Open(Exchange),
    /// It will be told again.
    Paused,
}

impl Move {
    const fn owed() -> Self {
        Move {
            step: Step::Owed,
            tries: 0,
            is_heard: false,
        }
    }

    const fn exchange(&self) -> Option<&Exchange> {
        match &self.step {
            Step::Open(exchange) => Some(exchange),
            Step::Owed | Step::Paused => None,
        }
    }
}

impl Call {
    /// Says that the call is here now, and in which state: who has missed what was said of it last
    /// knows it from here.
    pub(super) fn emit_arrival(&mut self, why: Restored) {
        if matches!(self.data.state, State::New | State::Over) || self.is_other_copy() {
            return;
        }
        let state = self.state();
        match why {
            Restored::Moved { .. } => self.emit(CallNews::Moved { state }),
            Restored::TakenOver { .. }
            | Restored::Adopted { .. }
            | Restored::NodeStart
            | Restored::StartedAlone => self.emit(CallNews::TakenOver { state }),
            Restored::Panic | Restored::Wake => {}
        }
    }

    /// Goes on with what another node had.
    pub(super) fn take_over(&mut self, may_live: bool, ctx: &mut CallCtx<'_>) {
        self.changes_of_node = self.changes_of_node.saturating_add(1);
        self.came_at = Some(ctx.now().mono);
        self.timers.clear(Timer::MoveAgain);
        match self.data.state.clone() {
            State::New | State::Over | State::Ending(_) => return self.resume(ctx),
            State::Preparing => {}
            State::Locating { .. } => self.owe_early(),
            State::Ringing => {
                self.owe_early();
                let after = match may_live {
                    true => CALL_ANEW_AFTER_DOUBT,
                    false => CALL_ANEW_AFTER,
                };
                self.timers.set(Timer::CallAnew, ctx.now().mono, after);
            }
            State::Answering { peer, stage } => self.owe_answered(peer, &stage),
            State::Talking { peer } => {
                self.refuse_open(ctx);
                self.owe(self.anchor());
                if let Peer::Side(side) = peer {
                    self.owe(side);
                }
            }
        }
        self.is_changed = true;
        self.resume(ctx);
    }

    pub(super) fn owe(&mut self, side: u8) {
        let has_dialog =
            |known: &super::core::Side| known.has_dialog && matches!(known.stage, Stage::Active);
        if self.data.sides.get(&side).is_some_and(has_dialog) && !self.is_going(side) {
            self.moves.insert(side, Move::owed());
        }
    }

    /// Who has a description of the other node's is told; who has none gets ours at once.
    fn owe_answered(&mut self, peer: Peer, stage: &AnswerStage) {
        let is_described = match stage {
            AnswerStage::Sent | AnswerStage::Closing(_) => true,
            // The leg may have made it already.
            AnswerStage::Caller => !self.data.is_bypassed,
            AnswerStage::Callee => self.is_caller_described(),
        };
        if is_described {
            self.owe(self.anchor());
        }
        if let Peer::Side(side) = peer {
            self.owe(side);
        }
        self.owe_transferor();
    }

    fn is_caller_described(&self) -> bool {
        let is_early = self.data.answer.is_some() || self.data.early.is_some();
        (is_early && !self.data.is_bypassed) || self.data.answered.is_some()
    }

    fn owe_early(&mut self) {
        if self.is_caller_described() {
            self.owe(self.anchor());
        }
        self.owe_transferor();
    }

    /// A fork was answered at the other node, and has said so before it was called anew.
    pub(super) fn owe_winner(&mut self, side: u8) {
        if self.timers.due(Timer::CallAnew).is_some() {
            self.timers.clear(Timer::CallAnew);
            self.owe(side);
        }
    }

    /// Forks are called by a branch whose responses go to the other node: each is cancelled and its
    /// user located again. The caller has heard that it rings.
    pub(super) fn call_anew(&mut self, ctx: &mut CallCtx<'_>) {
        if self.data.state != State::Ringing {
            return ctx.ignore("nobody rings any more");
        }
        self.timers.clear(Timer::CallAnew);
        self.seek_who_rang();
        self.end_forks("NORMAL_CLEARING");
        self.data.targets.clear();
        self.data.early = None;
        self.data.passed = None;
        self.timers.clear(Timer::LocateAgain);
        self.begin_to_wait(ctx);
        self.enter(State::Locating { tries: 0 });
        if self.is_hunting() && !self.is_anybody_sought() {
            // Everybody has refused by now.
            return self.go_on_without_ringing(ctx);
        }
        self.locate(ctx);
    }

    /// Returns how long callees ring.
    pub(super) fn ring_timeout(&self, site: &Site) -> Duration {
        let usual = site.limits.ring_timeout;
        let patience = self.diverting.patience();
        let patience = patience.filter(|_| self.data.state == State::Ringing);
        let usual = patience.map_or(usual, |wished| wished.min(usual));
        let usual = self.group_patience().unwrap_or(usual);
        if self.changes_of_node > 0 && self.data.answered.is_none() {
            usual.min(RING_MAX)
        } else {
            usual
        }
    }

    /// An exchange ends where the other node's did: who offered may try again.
    fn refuse_open(&mut self, ctx: &mut CallCtx<'_>) {
        let Some(open) = self.data.exchange.take() else {
            return ctx.ignore("no exchange is open");
        };
        if let Some(from) = open.offerer() {
            let refuse = crate::dialog::Message::RefuseOffer { status: 491 };
            self.tell_dialog(from, refuse);
        }
        if !self.data.is_bypassed {
            for side in open.sides() {
                self.tell_leg(side, media_leg::Message::Rollback);
            }
        }
    }

    /// Returns the open offer to a party that is told.
    pub(super) fn move_of(&self, side: u8) -> Option<&Exchange> {
        self.moves.get(&side)?.exchange()
    }

    pub(super) fn move_of_mut(&mut self, side: u8) -> Option<&mut Exchange> {
        match &mut self.moves.get_mut(&side)?.step {
            Step::Open(exchange) => Some(exchange),
            Step::Owed | Step::Paused => None,
        }
    }

    /// Tells whether a party is being told.
    pub(super) fn is_moving(&self, side: u8) -> bool {
        self.move_of(side).is_some()
    }

    /// Tells the parties that are owed it where we are, as soon as they may be offered anything.
    pub(super) fn begin_moves(&mut self, ctx: &mut CallCtx<'_>) {
        let owed: Vec<u8> = self.owed().collect();
        for side in owed {
            if self.may_be_moved(side) {
                self.begin_move(side, ctx);
            }
        }
    }

    fn owed(&self) -> impl Iterator<Item = u8> {
        let owed = self.moves.iter();
        owed.filter(|(_, party)| party.step == Step::Owed)
            .map(|(side, _)| *side)
    }

    /// A caller that has been answered may be told while another is called for it.
    fn may_be_moved(&self, side: u8) -> bool {
        match &self.data.state {
            State::Talking { .. } => true,
            State::Locating { .. }
            | State::Ringing
            | State::Answering {
                stage: AnswerStage::Callee,
                ..
            } => !self.is_fork(side) && self.data.answered.is_some(),
            State::Answering { .. }
            | State::New
            | State::Preparing
            | State::Ending(_)
            | State::Over => false,
        }
    }

    fn begin_move(&mut self, side: u8, ctx: &mut CallCtx<'_>) {
        let want = (!self.data.is_bypassed).then(|| self.want_of_move(side, ctx));
        let open = Exchange::to_move(side, want);
        if let Some(party) = self.moves.get_mut(&side) {
            party.step = Step::Open(open.clone());
            self.drive(open, ctx);
        }
    }

    /// Returns what a party is offered: what it has agreed on, so that both do so at once. Whose
    /// answer is not known is offered what the other one described.
    fn want_of_move(&self, side: u8, ctx: &CallCtx<'_>) -> Want {
        let other = self
            .other_side(side)
            .and_then(|other| self.stream_of(other));
        if let Some(want) = self.want_of_arrival(side, ctx.site()) {
            return want;
        }
        match (self.stream_of(side), other) {
            (Some(_), other) => Want::agreed(other.and_then(|other| other.ptime)),
            (None, Some(other)) => Want::of(other),
            (None, None) => Want::both_ways(self.configured(side, ctx.site())),
        }
    }

    /// Goes on with what was open when the call was restored.
    pub(super) fn drive_moves(&mut self, ctx: &mut CallCtx<'_>) {
        let open: Vec<Exchange> = self
            .moves
            .values()
            .filter_map(Move::exchange)
            .cloned()
            .collect();
        for exchange in open {
            self.drive(exchange, ctx);
        }
        self.begin_moves(ctx);
        let is_paused = self.moves.values().any(|party| party.step == Step::Paused);
        if is_paused && self.timers.due(Timer::MoveAgain).is_none() {
            self.pause_moves(ctx);
        }
    }

    /// A party was heard since we have the call: it lives, whether it can be told anything or not.
    pub(super) fn on_heard(&mut self, side: u8, ctx: &mut CallCtx<'_>) {
        match self.moves.get_mut(&side) {
            Some(party) if !party.is_heard => {
                party.is_heard = true;
                self.is_changed = true;
            }
            Some(_) | None => ctx.ignore("it knows where we are"),
        }
    }

    /// The address that a party knows came here with the call: it is told nothing.
    pub(super) fn on_stays(&mut self, side: u8, ctx: &mut CallCtx<'_>) {
        if self.is_moving(side) {
            self.moves.remove(&side);
            self.is_changed = true;
            return;
        }
        // Asked for something else: it answers that now.
        self.resume(ctx);
    }

    /// Tells whether another node's call was gone on with, and none of its parties knows it, or was
    /// heard here: they may still talk through that node, on the other side of a parted network.
    pub(super) fn is_nobody_reached(&self) -> bool {
        let State::Talking { peer } = &self.data.state else {
            return false;
        };
        let other = match peer {
            Peer::Side(side) => Some(*side),
            Peer::Echo | Peer::Tone { .. } | Peer::Parked | Peer::Nobody => None,
        };
        let is_out_of_reach = |side: u8| self.moves.get(&side).is_some_and(|one| !one.is_heard);
        is_out_of_reach(self.anchor()) && other.is_none_or(is_out_of_reach)
    }

    /// A party does not take our offer.
    pub(super) fn on_move_refused(&mut self, side: u8, status: u16, ctx: &mut CallCtx<'_>) {
        let is_nobody_reached = self.is_nobody_reached();
        let Some(party) = self.moves.get_mut(&side) else {
            return ctx.ignore("it is not told anything");
        };
        let is_busy = matches!(status, 491 | 500) && party.tries < TRIES_MAX;
        let is_cut_off =
            matches!(status, 408 | 480) && is_nobody_reached && party.tries < UNREACHED_TRIES_MAX;
        if is_busy || is_cut_off || (status == 480 && party.is_heard) {
            party.tries = party.tries.saturating_add(1);
            party.step = Step::Paused;
            self.is_changed = true;
            if !self.data.is_bypassed {
                self.tell_leg(side, media_leg::Message::Rollback);
            }
            return self.pause_moves(ctx);
        }
        let cause = outcome::cause_of_status(status);
        if self.transferor() == Some(side) {
            self.leave(side, 480, cause);
            self.let_transferor_go(side);
            return;
        }
        let by = self.word_of(side);
        self.end(outcome::passed(status), cause, &by, ctx);
    }

    /// RFC 3261 §14.1: 2.1 to 4 s, whoever made the Call-ID: the dialog has waited as it says once.
    fn pause_moves(&mut self, ctx: &mut CallCtx<'_>) {
        let wait = Duration::from_millis(2_100 + 10 * u64::from(ctx.rng().below(191)));
        self.timers.set(Timer::MoveAgain, ctx.now().mono, wait);
    }

    /// Those that were busy are offered anew.
    pub(super) fn move_again(&mut self, ctx: &mut CallCtx<'_>) {
        for party in self.moves.values_mut() {
            if party.step == Step::Paused {
                party.step = Step::Owed;
                self.is_changed = true;
            }
        }
        self.begin_moves(ctx);
    }
}
