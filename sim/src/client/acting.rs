//! What a tab does of itself: it calls, answers, holds, dials digits, hangs up.

use std::time::Duration;

use contract::Time;
use serde_json::json;

use super::Client;
use super::call::{ClientCall, Stage};
use crate::line::{Line, Protection};
use crate::node::{GROUPS, PICK_UP, PLACES};
use crate::phone::{Complaint, Out, PACKET_EVERY, Role};

/// How long a reply to an offer is awaited.
const OFFER_WAIT: Duration = Duration::from_secs(40);

impl Client {
    /// Perhaps starts a call, or says something.
    pub(super) fn act(&mut self, now: Time, out: &mut Vec<Out>) {
        let idle = self.habits.idle;
        self.act_at = now + Duration::from_secs(1) + self.up_to(idle);
        if self.registered_until.is_none_or(|until| until <= now) {
            return;
        }
        let odd = self.habits.odd;
        if odd > 0 && self.draw(odd) {
            self.chat(now, out);
        }
        let is_busy = self.calls.values().any(|call| !call.is_over());
        if is_busy || !self.habits.calls {
            return;
        }
        let groups = self.habits.groups;
        let to = if groups > 0 && self.draw(groups) {
            let all = GROUPS.into_iter().chain([PICK_UP]);
            let drawn = self.rng.below(4) as usize;
            all.into_iter().nth(drawn).unwrap_or(PICK_UP).to_owned()
        } else if self.habits.parks > 0 && self.draw(self.habits.parks) {
            PLACES[self.rng.below(3) as usize].to_owned()
        } else if self.draw(self.habits.extensions) {
            ["9196", "9197", "9198", "sip:9196@weft.test", "4711"][self.rng.below(5) as usize]
                .to_owned()
        } else {
            let drawn = self.rng.below(12);
            (1000 + drawn).to_string()
        };
        let name = format!("call-{}-{}", self.user, self.rng.next_u64());
        let (line, port) = self.new_line();
        let mut call = ClientCall::new(Role::Caller, line, port, to, now);
        call.said = call.line.describe("sendrecv", true);
        let gives_up = self.draw(self.habits.gives_up);
        let patience = if gives_up { 6 } else { 100 };
        call.step_at = Some(now + self.up_to(Duration::from_secs(patience)));
        self.calls.insert(name.clone(), call);
        self.dial(&name, out);
    }

    pub(super) fn new_line(&mut self) -> (Line, u16) {
        self.next_port = if self.next_port > 60_000 {
            40_000
        } else {
            self.next_port + 2
        };
        let local = std::net::SocketAddr::new(self.address.ip(), self.next_port);
        let is_passive = self.draw(30);
        let line = Line::new(Protection::Web { is_passive }, local, &mut self.rng);
        (line, self.next_port)
    }

    /// Says `call`, for the first time or once more.
    pub(super) fn dial(&mut self, name: &str, out: &mut Vec<Out>) {
        let Some(call) = self.calls.get(name) else {
            return;
        };
        let candidate = call.line.candidate();
        let payload = json!({ "to": call.to, "callId": name, "sdp": call.said });
        self.ask("call", &payload, out);
        self.trickle(name, &candidate, out);
    }

    fn trickle(&mut self, name: &str, candidate: &str, out: &mut Vec<Out>) {
        let payload =
            json!({ "callId": name, "candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0 });
        self.ask("iceCandidate", &payload, out);
        if self.draw(50) {
            self.ask("iceComplete", &json!({ "callId": name }), out);
        }
    }

    pub(super) fn call_on_time(&mut self, name: &str, now: Time, out: &mut Vec<Out>) {
        let Some(call) = self.calls.get_mut(name) else {
            return;
        };
        if call.forget_at.is_some_and(|at| at <= now) {
            if let Some(since) = call.missing_since {
                let how = format!("{} ended {name}: 404 at {since}, and no word", self.user);
                self.complaints.push(Complaint {
                    unknown_bye: Some(name.to_owned()),
                    life: (call.since, since),
                    ..Complaint::new("I7", how)
                });
            }
            self.calls.remove(name);
            return;
        }
        if call.is_over() {
            return;
        }
        call.line.on_time(now);
        if call.packet_at.is_some_and(|at| at <= now) {
            call.packet_at = Some(now + PACKET_EVERY);
            if !call.held {
                call.line.speak();
            }
        }
        let waits = call.offering_since;
        if waits.is_some_and(|since| now.since(since) > OFFER_WAIT) {
            call.unsure(now);
        }
        if call.step_at.is_some_and(|at| at <= now) {
            self.step(name, now, out);
        }
    }

    /// What a tab decides by itself in a call.
    fn step(&mut self, name: &str, now: Time, out: &mut Vec<Out>) {
        let is_registered = self.registered_until.is_some();
        let Some(call) = self.calls.get_mut(name) else {
            return;
        };
        call.step_at = None;
        if !is_registered {
            // Nothing can be said now.
            call.step_at = Some(now + Duration::from_secs(1));
            return;
        }
        match (call.stage, call.role) {
            (Stage::Ringing, Role::Callee) => self.answer(name, now, out),
            (Stage::Ringing, Role::Caller) => self.end(name, "cancel", now, out),
            (Stage::Talking, _) => self.talk_on(name, now, out),
            (Stage::Ending, _) => call.over(now),
            (Stage::Over, _) => {}
        }
    }

    fn talk_on(&mut self, name: &str, now: Time, out: &mut Vec<Out>) {
        let next = now + self.up_to(Duration::from_secs(4));
        let wants_hold = self.draw(self.habits.holds);
        let wants_digits = self.draw(20);
        let Some(call) = self.calls.get_mut(name) else {
            return;
        };
        let is_offering = call.offering_since.is_some();
        if call.is_unsure || is_offering {
            return self.end(name, "hangup", now, out);
        }
        if call.wants_hold {
            call.wants_hold = false;
            call.step_at = Some(next);
            self.offer(name, "resume", "sendrecv", now, out);
        } else if wants_hold && !call.held {
            call.wants_hold = true;
            call.step_at = Some(next);
            self.offer(name, "hold", "sendonly", now, out);
        } else if wants_digits {
            call.step_at = Some(next);
            self.digits(name, out);
        } else {
            self.end(name, "hangup", now, out);
        }
    }

    fn digits(&mut self, name: &str, out: &mut Vec<Out>) {
        match self.rng.below(5) {
            0 => self.ask(
                "dtmf",
                &json!({ "callId": name, "digits": "12#", "method": "info" }),
                out,
            ),
            1 => {
                let report = json!({ "rtt_ms": 12, "lost": 0 });
                self.ask("stats", &json!({ "callId": name, "report": report }), out);
            }
            2 => {
                // Page reload is not simulated; a new offer without other news is.
                let Some(call) = self.calls.get_mut(name).filter(|call| !call.held) else {
                    return;
                };
                let sdp = call.line.describe("sendrecv", true);
                let payload = json!({ "callId": name, "sdp": sdp });
                self.ask("reoffer", &payload, out);
            }
            _ => self.ask(
                "dtmf",
                &json!({ "callId": name, "digits": "5*", "duration": 100 }),
                out,
            ),
        }
    }

    fn offer(
        &mut self,
        name: &str,
        kind: &'static str,
        direction: &str,
        now: Time,
        out: &mut Vec<Out>,
    ) {
        let Some(call) = self.calls.get_mut(name) else {
            return;
        };
        call.offering_since = Some(now);
        let sdp = call.line.describe(direction, true);
        self.ask(kind, &json!({ "callId": name, "sdp": sdp }), out);
    }

    /// Answers a call that rings here, or refuses it.
    fn answer(&mut self, name: &str, now: Time, out: &mut Vec<Out>) {
        let refuses = self.draw(self.habits.refuses);
        let code = [486, 603, 480][self.rng.below(3) as usize];
        let talk = self.habits.talk;
        let talk = self.up_to(talk);
        let Some(call) = self.calls.get_mut(name) else {
            return;
        };
        if refuses {
            call.over(now);
            let payload = json!({ "callId": name, "code": code, "reason": "busy" });
            return self.ask("reject", &payload, out);
        }
        call.said = call.line.describe("sendrecv", false);
        call.talks(now, talk);
        let candidate = call.line.candidate();
        let payload = json!({ "callId": name, "sdp": call.said });
        self.talked += 1;
        self.ask("answer", &payload, out);
        self.trickle(name, &candidate, out);
    }

    pub(super) fn end(&mut self, name: &str, kind: &'static str, now: Time, out: &mut Vec<Out>) {
        let Some(call) = self.calls.get_mut(name) else {
            return;
        };
        call.stage = Stage::Ending;
        call.packet_at = None;
        call.hangups += 1;
        call.step_at = Some(now + Duration::from_secs(40));
        self.ask(kind, &json!({ "callId": name }), out);
    }
}
