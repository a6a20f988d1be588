//! A connection that goes and comes back (`architecture.md` §7).
//!
//! In: news of connections, answers of the registration, orders over another connection. Out: what
//! is numbered, once more; the end of what may not wait longer than 8 s. A call that is up waits
//! for its client as long as media flows.

use std::time::Duration;

use contract::{ActorId, FlowRef, Time};
use doors::json::ServerMessage;

use super::core::{DialogCtx, JsonDialog, Outcome, PARK, Role, State, Timer};
use crate::door_session::{About, first_number};
use crate::{Target, call, message, registration};

/// After which time a client of another node is told again what it has not acknowledged, and how often.
const REPEAT_AFTER: Duration = Duration::from_secs(2);
const REPEATS_MAX: u8 = 3;

/// When that is; not stored, since who takes the dialog over says it all again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Repeat {
    /// Number of the newest message that waits.
    newest: u64,
    pub(super) at: Option<Time>,
    count: u8,
}

/// Time between look-ups for a client whose connection is gone.
const LOCATE_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl JsonDialog {
    /// Asks to be told of the connection's end.
    pub(super) fn watch(&mut self, ctx: &DialogCtx<'_>) {
        if self.data.is_flow_gone {
            return;
        }
        if let Some((to, watch)) = message::watch(self.data.flow, ctx.me().clone()) {
            self.out.other(to, watch);
        }
    }

    /// A connection is gone.
    pub(super) fn on_flow_gone(&mut self, flow: FlowRef, ctx: &mut DialogCtx<'_>) {
        if flow != self.data.flow || self.data.is_flow_gone {
            return ctx.ignore("another connection, or known");
        }
        self.lose_connection(ctx);
    }

    /// Another node had the call: its offer that was not answered is forgotten, since the call offers
    /// anew. Where the connection was there, its session is not, and what is said on it comes back.
    pub(super) fn take_over(&mut self, ctx: &mut DialogCtx<'_>) {
        self.data.glare = None;
        self.timers.clear(Timer::Glare);
        // The former copy may have said more than is recorded: a client that has heard a number does
        // not listen to it again.
        self.data.number = first_number(ctx.rng().next_u64());
        if let Some(open) = self.data.outgoing.take() {
            self.timers.clear(Timer::AwaitAnswer);
            let numbered = &mut self.data.unacknowledged;
            numbered.retain(|known| known.number != open.number);
        }
        self.out.save();
        if !self.data.is_flow_gone {
            self.go_on(ctx);
        } else if self.data.flow.ends_at(ctx.site().node) {
            // The other node may only have been cut off from it: the watch tells.
            self.rebind(self.data.flow, ctx);
        } else {
            self.lose_connection(ctx);
        }
    }

    /// Goes on over a connection that may be there. What was said on it last may be lost, with the
    /// former connection or with the node that said it: it is said again, and waits anew for its answer.
    pub(super) fn go_on(&mut self, ctx: &DialogCtx<'_>) {
        if self.data.is_flow_gone {
            // It is looked for; `rebind` says it then.
            return;
        }
        self.watch(ctx);
        if self.data.state == State::Ending {
            self.await_end_ack(ctx);
        }
        if self.data.outgoing.is_some() {
            self.timers
                .set(Timer::AwaitAnswer, ctx.now().mono, super::core::ANSWER_WAIT);
        }
        self.say_again();
    }

    /// What may wait waits for 8 s.
    pub(super) fn lose_connection(&mut self, ctx: &mut DialogCtx<'_>) {
        self.data.is_flow_gone = true;
        self.timers.clear(Timer::GiveUp);
        self.timers.clear(Timer::AwaitAnswer);
        self.out.save();
        match self.data.state {
            State::Confirmed if self.data.outgoing.is_none() => {}
            State::Ended => {}
            State::Confirmed
            | State::Incoming
            | State::Early
            | State::Calling
            | State::Proceeding
            | State::Ending => self.await_connection(ctx),
        }
    }

    pub(super) fn await_connection(&mut self, ctx: &DialogCtx<'_>) {
        self.timers.set(Timer::Park, ctx.now().mono, PARK);
        self.locate(ctx);
    }

    /// Asks the registration of the client's account where it is now.
    pub(super) fn locate(&mut self, ctx: &DialogCtx<'_>) {
        if self.timers.due(Timer::Park).is_none() {
            return;
        }
        let to = ActorId::Registration(self.data.account.as_str().into());
        let reply = ctx.me().clone();
        self.out.other(to, registration::Message::Locate { reply });
        self.timers
            .set(Timer::LocateAgain, ctx.now().mono, LOCATE_AGAIN_AFTER);
    }

    /// The registration answers: the client may be bound over another connection.
    pub(super) fn on_located(&mut self, targets: &[Target], ctx: &mut DialogCtx<'_>) {
        let lost = self.data.flow;
        // A connection of another node may have been out of reach for a moment only.
        // Not at once, though: it would be lost again at once.
        let waits_until = self.timers.due(Timer::Park);
        let may_be_back =
            waits_until.is_some_and(|until| until <= ctx.now().mono + (PARK - LOCATE_AGAIN_AFTER));
        let is_gone = lost.ends_at(ctx.site().node) || !may_be_back;
        let found = targets.iter().find(|target| {
            let may_be_it = !target.unreachable && (target.flow != lost || !is_gone);
            may_be_it
                && target.door() == contract::Door::Json
                && target.uri.equivalent(&self.data.contact)
        });
        match found.map(|target| target.flow) {
            Some(flow) if self.data.is_flow_gone => self.rebind(flow, ctx),
            Some(_) | None => ctx.ignore("it has not come back, or we know"),
        }
    }

    /// The client is there, perhaps over another connection: what it may have missed is said again.
    pub(super) fn rebind(&mut self, flow: FlowRef, ctx: &mut DialogCtx<'_>) {
        if flow == self.data.flow && !self.data.is_flow_gone {
            return;
        }
        self.data.flow = flow;
        self.data.is_flow_gone = false;
        self.timers.clear(Timer::Park);
        self.timers.clear(Timer::LocateAgain);
        self.out.save();
        self.go_on(ctx);
    }

    /// Says again what was not acknowledged. What came up while nobody listened was recorded
    /// without a gate: it is safe before it is said, now.
    pub(super) fn say_again(&mut self) {
        self.out.save_first();
        for known in self.data.unacknowledged.clone() {
            match serde_json::from_str::<ServerMessage>(&known.text) {
                Ok(message) => self.say(message, About::Numbered(known.number)),
                Err(error) => tracing::warn!(%error, "a kept message cannot be read"),
            }
        }
        let is_caller = self.data.role == Role::Caller;
        let is_early = matches!(self.data.state, State::Incoming | State::Early);
        let is_unheard = self.data.state == State::Confirmed && !self.data.knows_answer;
        if is_caller && (is_early || is_unheard) {
            self.say_state_again();
        }
    }

    /// Over another node's connection a message can get lost with the link between the nodes: what
    /// is not acknowledged is said again.
    pub(super) fn plan_repeat(&mut self, ctx: &DialogCtx<'_>) {
        let is_away = !self.data.is_flow_gone && !self.data.flow.ends_at(ctx.site().node);
        let newest = self.data.unacknowledged.back().map(|known| known.number);
        let Some(newest) = newest.filter(|_| is_away) else {
            self.repeat = Repeat::default();
            return;
        };
        if newest != self.repeat.newest {
            let at = Some(ctx.now().mono + REPEAT_AFTER);
            self.repeat = Repeat {
                newest,
                at,
                count: 0,
            };
        }
    }

    pub(super) fn repeat_if_due(&mut self, ctx: &DialogCtx<'_>) {
        let now = ctx.now().mono;
        if self.repeat.at.is_none_or(|at| at > now) {
            return;
        }
        self.repeat.count += 1;
        let is_last = self.repeat.count >= REPEATS_MAX;
        self.repeat.at = (!is_last).then_some(now + REPEAT_AFTER);
        self.say_again();
    }

    /// The connection did not come back.
    pub(super) fn give_up_on_connection(&mut self, ctx: &mut DialogCtx<'_>) {
        self.timers.clear(Timer::LocateAgain);
        match self.data.state {
            State::Incoming | State::Early => {
                self.data.outcome = Some(Outcome::Cancelled);
                let side = self.number();
                self.out.call(call::Message::Cancelled { side });
                self.enter(State::Ended, ctx);
            }
            State::Calling | State::Proceeding => self.fail(480, ctx),
            State::Confirmed => self.give_up_on_answer(480),
            State::Ending => self.enter(State::Ended, ctx),
            State::Ended => ctx.ignore("nothing waits"),
        }
    }
}
