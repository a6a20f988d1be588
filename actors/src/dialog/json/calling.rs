//! A call's beginning and end, with a JSON client as the caller or the callee.
//!
//! In: orders of the call, the client's own. Out: `trying` to `callAccepted`, `incoming`, ends.

use std::collections::BTreeMap;

use bytes::Bytes;
use doors::json::ServerMessage;

use super::core::{DialogCtx, GIVE_UP_AFTER, JsonDialog, Outcome, PARK, Role, State, Timer};
use crate::call::{self, outcome};
use crate::dialog::Invite;
use crate::dialog::wire::Wire;
use crate::dialog::writing::diversions;
use crate::door_session::first_number;

/// Returns a description as text; ours always is, and the writer of it lets no other through.
pub(super) fn text(sdp: &Bytes) -> String {
    String::from_utf8_lossy(sdp).into_owned()
}

impl JsonDialog {
    /// The client calls, or says so once more.
    pub(super) fn dial(&mut self, dial: call::Dial, ctx: &mut DialogCtx<'_>) {
        let fields = [dial.to.as_bytes(), dial.sdp.as_ref()];
        let asked = format!("{:032x}", ctx.site().ids.fingerprint(&fields));
        if self.data.number == 0 {
            self.data.number = first_number(ctx.rng().next_u64());
            self.data.asked = asked;
            self.watch(ctx);
            self.say_trying();
            return self.out.save();
        }
        self.rebind(dial.flow, ctx);
        if self.data.asked != asked || self.data.role != Role::Caller {
            return self.error(dial.request, 409, "another call has that name");
        }
        self.data.request = dial.request;
        self.out.save_first();
        self.say_state_again();
    }

    fn say_trying(&mut self) {
        let call_id = self.data.name.clone();
        let request = self.data.request.clone();
        self.reply(request, ServerMessage::Trying { call_id });
    }

    /// Says again what the caller's `call` has come to.
    pub(super) fn say_state_again(&mut self) {
        let (call_id, request) = (self.data.name.clone(), self.data.request.clone());
        let sdp = self.data.sdp.as_ref().map(|sdp| text(&sdp.0));
        match self.data.state {
            State::Incoming => self.say_trying(),
            State::Early => self.reply(request, ServerMessage::Ringing { call_id, sdp }),
            State::Confirmed => self.reply(request, ServerMessage::CallAccepted { call_id, sdp }),
            State::Calling | State::Proceeding | State::Ending | State::Ended => {
                self.error(request, 410, "that call is over");
            }
        }
    }

    /// The far end rings.
    pub(super) fn progress(&mut self, status: u16, sdp: Option<&Bytes>, ctx: &mut DialogCtx<'_>) {
        if !matches!(self.data.state, State::Incoming | State::Early) {
            return ctx.ignore("answered finally already");
        }
        if status != 180 && sdp.is_none() {
            return ctx.ignore("nothing that a client is told");
        }
        self.enter(State::Early, ctx);
        if sdp.is_some() {
            self.data.sdp = Wire::of(sdp);
        }
        self.out.save_first();
        let (call_id, request) = (self.data.name.clone(), self.data.request.clone());
        let sdp = sdp.map(text);
        self.reply(request, ServerMessage::Ringing { call_id, sdp });
    }

    /// The far end answered: there is no ACK to wait for.
    pub(super) fn accept(&mut self, sdp: Option<&Bytes>, ctx: &mut DialogCtx<'_>) {
        if !matches!(self.data.state, State::Incoming | State::Early) {
            return ctx.ignore("answered finally already");
        }
        let is_known = self.data.sdp.is_some() && self.data.sdp == Wire::of(sdp);
        self.data.sdp = Wire::of(sdp);
        self.enter(State::Confirmed, ctx);
        self.out.save_first();
        let (call_id, request) = (self.data.name.clone(), self.data.request.clone());
        let sdp = sdp.filter(|_| !is_known).map(text);
        self.reply(request, ServerMessage::CallAccepted { call_id, sdp });
        let side = self.number();
        self.out
            .call(call::Message::Acknowledged { side, sdp: None });
    }

    /// Calls the client.
    pub(super) fn invite(
        &mut self,
        invite: &Invite,
        path: &[call::Diversion],
        ctx: &mut DialogCtx<'_>,
    ) {
        if self.data.number != 0 {
            return ctx.ignore("called already");
        }
        self.data.number = first_number(ctx.rng().next_u64());
        let Some(sdp) = &invite.sdp else {
            // A client is always offered something; a caller without offer needs legs of ours.
            return self.fail(488, ctx);
        };
        self.data.sdp = Wire::of(Some(sdp));
        let uri = &invite.from.uri;
        let host = uri.host().map(ToString::to_string).unwrap_or_default();
        let from = format!("{}@{host}", uri.user().unwrap_or_default());
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in diversions(path, &invite.callee) {
            let known = headers.entry(name.as_str().to_owned()).or_default();
            let comma = if known.is_empty() { "" } else { ", " };
            known.push_str(comma);
            known.push_str(&value);
        }
        let incoming = ServerMessage::Incoming {
            call_id: self.data.name.clone(),
            from,
            display_name: invite.from.display.clone().unwrap_or_default(),
            to: invite.callee.to_string(),
            sdp: text(sdp),
            headers,
        };
        self.say_numbered(incoming);
        self.watch(ctx);
        self.out.save_first();
    }

    /// The callee refused, or could not be reached.
    pub(super) fn fail(&mut self, status: u16, ctx: &DialogCtx<'_>) {
        self.data.outcome = Some(Outcome::Failed(status));
        let side = self.number();
        self.out.call(call::Message::Failed { side, status });
        self.enter(State::Ended, ctx);
    }

    /// The client wants to be called.
    pub(super) fn on_ringing(&mut self, ctx: &mut DialogCtx<'_>) {
        if self.data.state != State::Calling {
            return ctx.ignore("it rings already, or not any more");
        }
        self.enter(State::Proceeding, ctx);
        self.tell_ringing();
    }

    fn tell_ringing(&mut self) {
        self.out.call(call::Message::Progressed {
            side: self.number(),
            status: 180,
            sdp: None,
        });
    }

    /// The client answers.
    pub(super) fn on_answer(&mut self, id: Option<String>, sdp: Bytes, ctx: &mut DialogCtx<'_>) {
        match self.data.state {
            State::Calling | State::Proceeding => {
                self.data.remote_sdp = Some(Wire(sdp.clone()));
                self.enter(State::Confirmed, ctx);
                self.out.call(call::Message::Answered {
                    side: self.number(),
                    sdp: Some(sdp),
                });
            }
            State::Confirmed => ctx.ignore("answered already"),
            State::Incoming | State::Early => self.error(id, 400, "not an incoming call"),
            State::Ending | State::Ended => self.error(id, 487, "that call is over"),
        }
    }

    /// The client refuses.
    pub(super) fn on_reject(&mut self, id: Option<String>, status: u16, ctx: &mut DialogCtx<'_>) {
        match self.data.state {
            State::Calling | State::Proceeding => self.fail(status, ctx),
            State::Incoming | State::Early | State::Confirmed => {
                self.error(id, 400, "not an incoming call");
            }
            State::Ending | State::Ended => self.error(id, 487, "that call is over"),
        }
    }

    /// The client ends the call, whatever its state.
    pub(super) fn on_hangup(&mut self, ctx: &mut DialogCtx<'_>) {
        let side = self.number();
        let cause = match self.data.state {
            State::Incoming | State::Early => "ORIGINATOR_CANCEL",
            State::Calling | State::Proceeding => "CALL_REJECTED",
            State::Confirmed => "NORMAL_CLEARING",
            State::Ending | State::Ended => {
                self.say_end("NORMAL_CLEARING");
                return self.enter(State::Ended, ctx);
            }
        };
        match self.data.state {
            State::Calling | State::Proceeding => self.fail(603, ctx),
            State::Incoming | State::Early => {
                self.data.outcome = Some(Outcome::Cancelled);
                self.out.call(call::Message::Cancelled { side });
                self.enter(State::Ended, ctx);
            }
            State::Confirmed | State::Ending | State::Ended => {
                self.data.outcome = Some(Outcome::HungUp);
                let cause = cause.to_owned();
                self.out.call(call::Message::HungUp { side, cause });
                self.enter(State::Ended, ctx);
            }
        }
        self.say_end(cause);
    }

    fn say_end(&mut self, cause: &str) -> u64 {
        let call_id = self.data.name.clone();
        // The status of a call that nobody has refused.
        let code = match cause {
            "NORMAL_CLEARING" => 200,
            _ => outcome::status_of_cause(cause),
        };
        self.say_numbered(ServerMessage::Hangup {
            call_id,
            cause: cause.to_owned(),
            code,
        })
    }

    /// Ends this side, whatever its state.
    pub(super) fn end(&mut self, status: u16, cause: &str, ctx: &mut DialogCtx<'_>) {
        match self.data.state {
            State::Incoming | State::Early => {
                self.enter(State::Ended, ctx);
                let request = self.data.request.clone();
                let rejected = ServerMessage::CallRejected {
                    call_id: self.data.name.clone(),
                    code: status,
                    cause: cause.to_owned(),
                    reason: reason_of(status).to_owned(),
                };
                self.reply(request, rejected);
            }
            State::Calling | State::Proceeding => {
                self.begin_end(ctx);
                let call_id = self.data.name.clone();
                let reason = cause.to_owned();
                self.say_numbered(ServerMessage::Cancelled { call_id, reason });
            }
            State::Confirmed => {
                if let Some(open) = self.data.incoming.take() {
                    self.error(open.id, 487, "the call ends");
                }
                self.begin_end(ctx);
                self.say_end(cause);
            }
            State::Ending => ctx.ignore("ending already"),
            State::Ended => self.out.call(call::Message::Ended {
                side: self.number(),
            }),
        }
    }

    /// Nothing said before matters any more; the end does.
    fn begin_end(&mut self, ctx: &mut DialogCtx<'_>) {
        self.data.unacknowledged.clear();
        self.enter(State::Ending, ctx);
        if self.data.is_flow_gone {
            self.await_connection(ctx);
        } else {
            self.await_end_ack(ctx);
        }
    }

    /// The client of another node may be out of reach for a moment: what is told it is repeated.
    pub(super) fn await_end_ack(&mut self, ctx: &DialogCtx<'_>) {
        let wait = match self.data.flow.ends_at(ctx.site().node) {
            true => GIVE_UP_AFTER,
            false => PARK,
        };
        self.timers.set(Timer::GiveUp, ctx.now().mono, wait);
    }

    /// The client has a message of ours.
    pub(super) fn on_ack(&mut self, number: u64, ctx: &mut DialogCtx<'_>) {
        let before = self.data.unacknowledged.len();
        self.data
            .unacknowledged
            .retain(|known| known.number != number);
        if before == self.data.unacknowledged.len() {
            return ctx.ignore("known already");
        }
        // Not worth a commit: what is said once more the client knows by its number.
        if self.data.state == State::Ending && self.data.unacknowledged.is_empty() {
            self.enter(State::Ended, ctx);
        }
    }

    /// Tells the call how far this side is; what it knows already it ignores.
    pub(super) fn announce(&mut self, ctx: &mut DialogCtx<'_>) {
        let side = self.number();
        match (self.data.state, self.data.outcome.clone()) {
            (State::Proceeding, _) => self.tell_ringing(),
            (State::Confirmed, _) => self.announce_confirmed(),
            (State::Ended, outcome) => {
                match outcome {
                    Some(Outcome::Cancelled) => self.out.call(call::Message::Cancelled { side }),
                    Some(Outcome::Failed(status)) => {
                        self.out.call(call::Message::Failed { side, status });
                    }
                    Some(Outcome::HungUp) => {
                        let cause = "NORMAL_CLEARING".to_owned();
                        self.out.call(call::Message::HungUp { side, cause });
                    }
                    None => {}
                }
                self.out.call(call::Message::Ended { side });
            }
            (State::Incoming | State::Early | State::Calling | State::Ending, _) => {
                ctx.ignore("nothing to tell");
            }
        }
    }

    fn announce_confirmed(&mut self) {
        let side = self.number();
        let sdp = Wire::bytes(self.data.remote_sdp.as_ref());
        self.out.call(match self.data.role {
            Role::Caller => call::Message::Acknowledged { side, sdp: None },
            Role::Callee => call::Message::Answered { side, sdp },
        });
        if let Some(open) = &self.data.incoming {
            let sdp = Some(open.sdp.0.clone());
            self.out.call(call::Message::Offered { side, sdp });
        }
    }
}

/// Returns words for people.
const fn reason_of(status: u16) -> &'static str {
    match status {
        403 => "not allowed",
        404 => "no such number",
        408 => "no answer in time",
        415 | 488 | 606 => "no common codec or protection",
        480 => "not available",
        486 | 600 => "busy",
        487 => "cancelled",
        503 => "too much to do",
        603 => "declined",
        _ => "failed",
    }
}
