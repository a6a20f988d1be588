//! What a simulated phone does of itself: it calls, answers, holds, hangs up, gives up, sends sound.

use std::time::Duration;

use bytes::Bytes;
use contract::Time;
use sip::{HeaderName, Message};

use super::call::{Call, CallState, Role};
use super::text::response;
use super::{Complaint, Out, PACKET_EVERY, Phone, T1};
use crate::node::{GROUPS, PICK_UP, PLACES};

/// Feature codes that undo do-not-disturb and the forwards.
const UNDO: [&str; 5] = ["*79", "*73", "*91", "*53", "*63"];

impl Phone {
    pub(super) fn draw(&mut self, percent: u32) -> bool {
        self.rng.below(100) < percent
    }

    pub(super) fn up_to(&mut self, longest: Duration) -> Duration {
        let millis = u32::try_from(longest.as_millis()).unwrap_or(u32::MAX);
        Duration::from_millis(500 + u64::from(self.rng.below(millis.max(1))))
    }

    /// Perhaps starts a call.
    pub(super) fn act(&mut self, now: Time, out: &mut Vec<Out>) {
        let idle = self.habits.idle;
        self.act_at = now + Duration::from_secs(1) + self.up_to(idle);
        let odd = self.habits.odd;
        if odd > 0 && self.draw(odd) {
            self.be_odd(now, out);
        }
        if self.registered_until.is_none_or(|until| until <= now) {
            return;
        }
        if let Some(code) = self.undone.first().copied() {
            return self.undo_next(code, now, out);
        }
        let is_busy = self.calls.values().any(Call::goes_on);
        if is_busy {
            return;
        }
        if !self.habits.calls {
            return;
        }
        let sets = self.habits.sets;
        if sets > 0 && self.draw(sets) {
            return self.set(now, out);
        }
        let groups = self.habits.groups;
        if groups > 0 && self.draw(groups) {
            let called = match self.rng.below(5) as usize {
                3 => PICK_UP.to_owned(),
                4 => format!("**{}", 1000 + self.rng.below(12)),
                group => GROUPS[group].to_owned(),
            };
            self.dial(&called, false, now, out);
            return;
        }
        let parks = self.habits.parks;
        if parks > 0 && self.draw(parks) {
            let place = PLACES[self.rng.below(3) as usize];
            self.dial(place, false, now, out);
            return;
        }
        let is_extension = self.draw(self.habits.extensions);
        let called = if let Some(friend) = self.habits.friend {
            friend.to_string()
        } else if is_extension {
            if self.rng.below(2) == 0 {
                "9196".to_owned()
            } else {
                "9197".to_owned()
            }
        } else {
            let drawn = self.rng.below(12);
            (1000 + drawn).to_string()
        };
        self.dial(&called, is_extension, now, out);
    }

    /// Sets something of the calls to it, or undoes it.
    fn set(&mut self, now: Time, out: &mut Vec<Out>) {
        const CODES: [&str; 5] = ["*78", "*72", "*90", "*52", "*62"];
        let drawn = self.rng.below(10) as usize;
        if let Some(code) = UNDO.get(drawn) {
            return self.dial_code(code, "", now, out);
        }
        let number = match drawn {
            5 => String::new(),
            _ => (1000 + self.rng.below(12)).to_string(),
        };
        self.dial_code(CODES[drawn - 5], &number, now, out);
    }

    fn dial_code(&mut self, code: &'static str, number: &str, now: Time, out: &mut Vec<Out>) {
        let call_id = self.dial(&format!("{code}{number}"), true, now, out);
        if let Some(call) = self.calls.get_mut(&call_id) {
            call.code = Some(code);
        }
    }

    /// A call was answered.
    pub(super) fn note_answer(&mut self, call_id: &str) {
        self.talked += 1;
        let code = self.calls.get(call_id).and_then(|call| call.code);
        self.undone.retain(|one| Some(*one) != code);
    }

    /// On another line if need be: the answer to an INVITE may have been lost with its connection.
    fn undo_next(&mut self, code: &'static str, now: Time, out: &mut Vec<Out>) {
        self.act_at = now + Duration::from_secs(2);
        let is_asked = |call: &Call| {
            let is_new = now.since(call.since) < Duration::from_secs(10);
            call.code.is_some() && is_new && call.goes_on()
        };
        if !self.calls.values().any(is_asked) {
            self.dial_code(code, "", now, out);
        }
    }

    /// Undoes whatever it has set, and sets nothing more.
    pub fn undo(&mut self) {
        if std::mem::take(&mut self.habits.sets) > 0 {
            self.undone = UNDO.to_vec();
        }
    }

    /// Calls somebody; returns the Call-ID.
    pub(super) fn dial(
        &mut self,
        called: &str,
        is_extension: bool,
        now: Time,
        out: &mut Vec<Out>,
    ) -> String {
        let call_id = self.rng.call_id();
        let port = self.free_port();
        let mut call = Call::new(Role::Caller, now, port);
        call.is_extension = is_extension;
        call.local = format!("<sip:{}@weft.test>;tag=c{}", self.user, self.counter);
        call.remote = format!("<sip:{called}@weft.test>");
        call.target = format!("sip:{called}@weft.test");
        call.offers = !self.draw(self.habits.delays_offer);
        call.cseq = 1;
        self.calls.insert(call_id.clone(), call);
        self.begin_media(&call_id, port);
        self.invite(&call_id, now, "", out);
        call_id
    }

    pub(super) fn free_port(&mut self) -> u16 {
        self.next_port = if self.next_port > 60_000 {
            40_000
        } else {
            self.next_port + 2
        };
        self.next_port
    }

    /// Sends the INVITE, or a re-INVITE, that the call's CSeq says.
    pub(super) fn invite(
        &mut self,
        call_id: &str,
        now: Time,
        credentials: &str,
        out: &mut Vec<Out>,
    ) {
        let Some(call) = self.calls.get(call_id).cloned() else {
            return;
        };
        let direction = if call.held { "sendonly" } else { "sendrecv" };
        let body = if call.is_odd && call.state == CallState::Ringing {
            self.odd_offer(&call)
        } else if call.offers {
            self.describe(call_id, direction, true)
        } else {
            String::new()
        };
        let fields = self.fields();
        let more = format!("{}{credentials}", fields.contact());
        let bytes = fields.request(
            "INVITE",
            &call.target,
            &call.local,
            &call.remote,
            call_id,
            call.cseq,
            &more,
            &body,
        );
        self.send_request(now, "INVITE", call_id, call.cseq, bytes, out);
    }

    pub(super) fn in_dialog(
        &mut self,
        call_id: &str,
        method: &'static str,
        credentials: &str,
        now: Time,
        out: &mut Vec<Out>,
    ) {
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        call.cseq += 1;
        let call = call.clone();
        let bytes = self.fields().request(
            method,
            &call.target,
            &call.local,
            &call.remote,
            call_id,
            call.cseq,
            credentials,
            "",
        );
        self.send_request(now, method, call_id, call.cseq, bytes, out);
    }

    /// Gives up a call that rings.
    fn cancel(&mut self, call_id: &str, now: Time, out: &mut Vec<Out>) {
        let invite = self
            .sent
            .iter()
            .find(|sent| sent.call_id == call_id && sent.method == "INVITE");
        let Some(invite) = invite.and_then(|sent| Message::read(sent.bytes.clone()).ok()) else {
            return;
        };
        let Ok(cseq) = invite.cseq() else { return };
        let header = |name| invite.header(name).unwrap_or_default().to_owned();
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        call.state = CallState::Ending;
        call.step_at = Some(now + Duration::from_secs(40));
        let text = format!(
            "CANCEL {} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {call_id}\r\n\
             CSeq: {} CANCEL\r\nContent-Length: 0\r\n\r\n",
            call.target,
            header(HeaderName::Via),
            header(HeaderName::From),
            header(HeaderName::To),
            cseq.number
        );
        self.send_request(now, "CANCEL", call_id, cseq.number, Bytes::from(text), out);
    }

    /// A request was never answered.
    pub(super) fn gave_up(&mut self, method: &'static str, call_id: &str, now: Time) {
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        if method == "INVITE" && call.state == CallState::Confirmed {
            // A re-INVITE that nobody answers: the phone hangs up.
            call.unsure(now);
        } else if method != "CANCEL" {
            call.over(false, now);
        }
    }

    pub(super) fn call_on_time(&mut self, call_id: &str, now: Time, out: &mut Vec<Out>) {
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        if call.forget_at.is_some_and(|at| at <= now) {
            if let Some(since) = call.missing_since {
                let how = format!(
                    "{} ended call {call_id}: 481 at {since}, and no BYE",
                    self.user
                );
                self.complaints.push(Complaint {
                    unknown_bye: Some(call_id.to_owned()),
                    life: (call.since, since),
                    ..Complaint::new("I7", how)
                });
            }
            self.calls.remove(call_id);
            return;
        }
        let speaks = call.packet_at.is_some_and(|at| at <= now);
        if speaks {
            call.packet_at = call.media.map(|_| now + PACKET_EVERY);
        }
        if let Some((at, wait)) = call.again_at
            && at <= now
        {
            // 200 is repeated until the ACK comes (RFC 3261 §13.3.1.4).
            let wait = (wait * 2).min(Duration::from_secs(4));
            call.again_at = Some((now + wait, wait));
            out.extend(call.last.clone().map(Out::Sip));
            if now.since(call.since) > Duration::from_secs(40) {
                call.over(false, now);
            }
        }
        if speaks {
            self.speak(call_id, out);
        }
        if self
            .calls
            .get(call_id)
            .is_some_and(|call| call.step_at.is_some_and(|at| at <= now))
        {
            self.step(call_id, now, out);
        }
    }

    /// What a phone decides by itself in a call.
    fn step(&mut self, call_id: &str, now: Time, out: &mut Vec<Out>) {
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        call.step_at = None;
        let (role, state, held) = (call.role, call.state.clone(), call.held);
        let unsure = call.is_unsure;
        match (state, role) {
            (CallState::Ringing, Role::Caller) => self.cancel(call_id, now, out),
            (CallState::Ringing, Role::Callee) => self.answer(call_id, now, out),
            (CallState::Confirmed, _) => {
                let odd = self.habits.odd;
                if odd > 0 && self.draw(odd) {
                    self.odd_in_call(call_id, now, out);
                }
                if self.puts_through(call_id, now, out) {
                    return;
                }
                let is_odd = self.calls.get(call_id).is_some_and(|call| call.is_odd);
                let held = held && !is_odd;
                let wants_hold = !held && !unsure && !is_odd && self.draw(self.habits.holds);
                if held || wants_hold {
                    let next = now + self.up_to(Duration::from_secs(4));
                    let Some(call) = self.calls.get_mut(call_id) else {
                        return;
                    };
                    call.held = wants_hold;
                    call.is_offering = true;
                    call.offers = true;
                    call.version += 1;
                    call.cseq += 1;
                    call.step_at = Some(next);
                    self.invite(call_id, now, "", out);
                } else {
                    self.in_dialog(call_id, "BYE", "", now, out);
                    if let Some(call) = self.calls.get_mut(call_id) {
                        call.state = CallState::Ending;
                        call.packet_at = None;
                    }
                }
            }
            (CallState::Answered | CallState::Over { .. }, _) => {}
            (CallState::Ending, _) => {
                if let Some(call) = self.calls.get_mut(call_id) {
                    call.over(false, now);
                }
            }
        }
    }

    /// Answers a call that rings here, or refuses it.
    fn answer(&mut self, call_id: &str, now: Time, out: &mut Vec<Out>) {
        let refuses = self.draw(self.habits.refuses);
        let fields = self.fields();
        let contact = fields.contact();
        let Some(invite) = self.calls.get(call_id).and_then(|call| call.invite.clone()) else {
            return;
        };
        let is_offer = invite.body().is_empty();
        let body = self.describe(call_id, "sendrecv", is_offer);
        let Some(port) = self.calls.get(call_id).map(|call| call.port) else {
            return;
        };
        let tag = format!("a{port}");
        let refusal = if refuses && self.habits.odd > 0 {
            self.odd_refusal(&invite, &tag)
        } else {
            response(&invite, "486 Busy Here", &tag, "", "")
        };
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        let bytes = if refuses {
            call.over(true, now);
            refusal
        } else {
            call.state = CallState::Answered;
            call.since = now;
            call.again_at = Some((now + T1, T1));
            response(&invite, "200 OK", &tag, &contact, &body)
        };
        call.last = Some(bytes.clone());
        out.push(Out::Sip(bytes));
    }

    /// Hangs up whatever goes on.
    pub fn hang_up(&mut self, now: Time) {
        self.rest();
        for call in self.calls.values_mut() {
            call.is_unsure = true;
            call.held = false;
            if matches!(call.state, CallState::Confirmed | CallState::Ringing) {
                call.step_at = Some(now);
            }
        }
    }
}

/// Writes a packet of sound.
pub(crate) fn rtp(sequence: u16, ssrc: u32) -> Bytes {
    let mut packet = vec![0x80, 0];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&(u32::from(sequence) * 1_600).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.resize(172, 0xd5);
    Bytes::from(packet)
}
