//! What a tab does about messages of the node.

use std::time::Duration;

use bytes::Bytes;
use contract::Time;
use serde_json::{Value, json};

use super::call::{ClientCall, Stage};
use super::{Asked, Client, say};
use crate::phone::{Complaint, Out, Role};

/// How long after its beginning a call is made once more under its name.
const REDIAL: Duration = Duration::from_secs(15);

impl Client {
    /// Takes a frame of the node.
    pub(super) fn on_frame(&mut self, now: Time, bytes: &Bytes, out: &mut Vec<Out>) {
        let Ok(frame) = serde_json::from_slice::<Value>(bytes) else {
            let how = format!("{} got no JSON: {bytes:?}", self.user);
            self.complaints.push(Complaint::new("JSON", how));
            return;
        };
        let kind = frame["type"].as_str().unwrap_or_default().to_owned();
        let id = frame["id"].as_str().unwrap_or_default().to_owned();
        if let Some(seq) = frame["seq"].as_u64() {
            if seq <= self.last_seq {
                let how = format!("{}: seq {seq} after {}", self.user, self.last_seq);
                self.complaints.push(Complaint::new("JSON", how));
            }
            self.last_seq = seq;
        }
        let is_ours = frame["seq"].is_u64();
        if is_ours && matches!(&*kind, "incoming" | "cancelled" | "hangup" | "reoffer") {
            say("ack", &json!({}), &id, out);
            if !self.heard.insert(id.clone()) {
                // It came already, before the connection was lost.
                return;
            }
        }
        let payload = &frame["payload"];
        let name = payload["callId"].as_str().unwrap_or_default().to_owned();
        let asked = self.asked.remove(&id);
        match &*kind {
            "registered" => self.registered(now, payload, out),
            "registerFailed" => self.not_registered(now, payload),
            "unregistered" | "expiring" => {
                self.register_at = now + Duration::from_millis(100);
                if kind == "unregistered" {
                    self.registered_until = None;
                }
            }
            "incoming" => self.rings(now, &name, payload, out),
            "ringing" | "callAccepted" => self.progresses(now, &name, &kind, payload, out),
            "callRejected" | "cancelled" | "hangup" => self.told_end(now, &name),
            "held" | "resumed" | "reanswer" => self.offer_answered(now, &name, &kind, payload),
            "reoffer" => self.offered(now, &name, payload, out),
            "error" => self.refused(now, payload, asked),
            "trying" | "dtmf" | "pong" | "info" | "replaced" | "iceCandidate" => {}
            other => {
                let how = format!("{}: a message {other:?}", self.user);
                self.complaints.push(Complaint::new("JSON", how));
            }
        }
    }

    fn registered(&mut self, now: Time, payload: &Value, out: &mut Vec<Out>) {
        let expires = payload["expires"].as_u64().unwrap_or(60);
        let lifetime = Duration::from_secs(expires);
        self.registered_until = Some(now + lifetime);
        self.register_at = now + lifetime / 2;
        self.token = payload["sessionToken"].as_str().map(str::to_owned);
        if self.was_away(now) {
            for call in self.calls.values_mut() {
                call.was_cut = true;
            }
        }
        let was_lost = self.lost_at.take().is_some();
        for state in payload["calls"].as_array().into_iter().flatten() {
            let name = state["callId"].as_str().unwrap_or_default().to_owned();
            let state = state["state"].as_str().unwrap_or_default().to_owned();
            self.is_at(now, &name, &state, out);
        }
        if was_lost && payload["resumed"] == json!(false) {
            for name in self.open_calls() {
                // Whoever speaks of a call over a new connection has it there.
                let report = json!({ "back": true });
                self.ask("stats", &json!({ "callId": name, "report": report }), out);
                if self.calls[&name].stage == Stage::Ending {
                    self.end(&name, "hangup", now, out);
                }
            }
        }
    }

    /// The node says how far a call is.
    fn is_at(&mut self, now: Time, name: &str, state: &str, out: &mut Vec<Out>) {
        let dials_again = self.draw(50);
        let Some(call) = self.calls.get_mut(name) else {
            return;
        };
        match (call.stage, call.role, state) {
            // Soon only: the name of a call that is over is free again after a while.
            (Stage::Ringing, Role::Caller, "gone")
                if dials_again && now.since(call.since) < REDIAL =>
            {
                self.dial(name, out);
            }
            (Stage::Ending, _, "gone") => call.over(now),
            (Stage::Talking, _, "gone") => {
                if !call.was_cut {
                    call.missing_since = Some(now);
                }
                call.over(now);
            }
            (_, _, "gone") => call.over(now),
            (Stage::Ending, _, _) => self.end(name, "hangup", now, out),
            (Stage::Talking, Role::Callee, "incoming" | "ringing") => {
                let payload = json!({ "callId": name, "sdp": call.said });
                self.ask("answer", &payload, out);
            }
            (Stage::Ringing | Stage::Talking | Stage::Over, _, _) => {}
        }
    }

    fn not_registered(&mut self, now: Time, payload: &Value) {
        let wait = if matches!(payload["code"].as_u64(), Some(401 | 410)) {
            self.token = None;
            300
        } else {
            2_000
        };
        self.register_at = now + Duration::from_millis(wait);
    }

    fn rings(&mut self, now: Time, name: &str, payload: &Value, out: &mut Vec<Out>) {
        if self.calls.contains_key(name) {
            return;
        }
        let (mut line, port) = self.new_line();
        line.learn(payload["sdp"].as_str().unwrap_or_default(), true, now);
        let mut call = ClientCall::new(Role::Callee, line, port, String::new(), now);
        let ignores = self.draw(self.habits.ignores);
        let wait = self.up_to(Duration::from_secs(3));
        call.step_at = (!ignores).then_some(now + wait);
        self.calls.insert(name.to_owned(), call);
        if self.draw(80) {
            self.ask("ringing", &json!({ "callId": name }), out);
        }
        self.send_media(out);
    }

    fn progresses(
        &mut self,
        now: Time,
        name: &str,
        kind: &str,
        payload: &Value,
        out: &mut Vec<Out>,
    ) {
        let talk = self.habits.talk;
        let talk = self.up_to(talk);
        let Some(call) = self.calls.get_mut(name) else {
            return;
        };
        if call.role != Role::Caller || call.stage == Stage::Over {
            return;
        }
        if let Some(sdp) = payload["sdp"].as_str() {
            call.line.learn(sdp, false, now);
        }
        if kind == "callAccepted" && call.stage == Stage::Ringing {
            call.talks(now, talk);
            self.talked += 1;
        }
        self.send_media(out);
    }

    fn told_end(&mut self, now: Time, name: &str) {
        if let Some(call) = self.calls.get_mut(name) {
            call.missing_since = None;
            if !call.is_over() {
                call.over(now);
            }
        }
    }

    fn offer_answered(&mut self, now: Time, name: &str, kind: &str, payload: &Value) {
        let Some(call) = self.calls.get_mut(name) else {
            return;
        };
        if payload["by"] == json!("remote") {
            return;
        }
        if let Some(sdp) = payload["sdp"].as_str() {
            call.line.learn(sdp, false, now);
        }
        if kind != "reanswer" {
            call.held = kind == "held";
        }
        call.offering_since = None;
        call.agreed = now;
    }

    fn offered(&mut self, now: Time, name: &str, payload: &Value, out: &mut Vec<Out>) {
        let call = self.calls.get_mut(name).filter(|call| !call.is_over());
        let Some(call) = call else {
            return self.ask("hangup", &json!({ "callId": name }), out);
        };
        let sdp = payload["sdp"].as_str().unwrap_or_default();
        call.line.learn(sdp, true, now);
        let direction = if sdp.contains("a=sendonly") {
            "recvonly"
        } else if sdp.contains("a=recvonly") {
            // RFC 3264 §6.1: who holds goes on to hold.
            "sendonly"
        } else if sdp.contains("a=inactive") {
            "inactive"
        } else {
            "sendrecv"
        };
        if direction == "sendonly" && payload["why"] == json!("hold") {
            let how = format!("{}: the far end is said to hold, which listens", self.user);
            self.complaints.push(Complaint::new("JSON", how));
        }
        call.held = direction != "sendrecv";
        call.agreed = now;
        let sdp = call.line.describe(direction, false);
        self.ask("reanswer", &json!({ "callId": name, "sdp": sdp }), out);
    }

    fn refused(&mut self, now: Time, payload: &Value, asked: Option<Asked>) {
        let code = payload["code"].as_u64().unwrap_or_default();
        let Some(asked) = asked else { return };
        let Some(call) = self.calls.get_mut(&asked.call_id) else {
            return;
        };
        match (asked.kind, call.stage, code) {
            (_, Stage::Over, _) => {}
            ("hold" | "resume" | "reoffer", _, 491) => {
                // RFC 3261 §14.1 in other words: later.
                call.offering_since = None;
                call.wants_hold = asked.kind == "resume";
                call.step_at = Some(now + Duration::from_secs(2));
            }
            ("cancel" | "hangup", _, _) => {
                if call.hangups == 1 && !call.was_cut && code == 404 && call.packets_were_sent() {
                    call.missing_since = Some(now);
                }
                call.over(now);
            }
            ("call", _, _) => call.over(now),
            (_, Stage::Ringing, _) => {}
            ("reanswer" | "answer" | "hold" | "resume" | "reoffer", _, _) => call.unsure(now),
            (_, _, _) => {}
        }
    }
}

impl ClientCall {
    /// Tells whether the call was one that both ends agreed on for a while.
    fn packets_were_sent(&self) -> bool {
        self.heard.is_some()
    }
}
