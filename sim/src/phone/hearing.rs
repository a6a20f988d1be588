//! What a simulated phone does when the node sends it something: responses, requests, sound.

use std::time::Duration;

use bytes::Bytes;
use contract::Time;
use sip::{HeaderName, Message};

use super::call::{Call, CallState, Role};
use super::text::{credentials, response};
use super::{Out, Phone};

impl Phone {
    #[allow(clippy::too_many_arguments, reason = "what a response says")]
    pub(super) fn call_on_response(
        &mut self,
        now: Time,
        call_id: &str,
        status: u16,
        cseq: u32,
        method: &str,
        message: &Message,
        out: &mut Vec<Out>,
    ) {
        if method == "BYE" && status >= 200 {
            return self.bye_answered(now, call_id, status, message, out);
        }
        if status == 401 && !self.calls.contains_key(call_id) {
            return self.prove_odd(now, method, message, out);
        }
        let Some(call) = self.calls.get(call_id) else {
            return;
        };
        if method != "INVITE" || status < 200 || cseq != call.cseq {
            if method == "INVITE" && (200..300).contains(&status) {
                self.repeat_ack(call_id, cseq, out);
            }
            return;
        }
        if status < 300 {
            self.accepted(now, call_id, cseq, message, out);
        } else {
            self.refused(now, call_id, status, cseq, message, out);
        }
    }

    /// The end of a call, or a challenge on the way to it: over a new connection the node wants to
    /// know who it is.
    fn bye_answered(
        &mut self,
        now: Time,
        call_id: &str,
        status: u16,
        message: &Message,
        out: &mut Vec<Out>,
    ) {
        let was_away = self.was_away(now);
        let user = self.user.clone();
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        if call.state != CallState::Ending {
            return;
        }
        let is_challenge =
            matches!(status, 401 | 407) && !std::mem::replace(&mut call.proved, true);
        let credentials = is_challenge
            .then(|| credentials(message, &user, "BYE", &call.target))
            .flatten();
        if let Some(credentials) = credentials {
            return self.in_dialog(call_id, "BYE", &credentials, now, out);
        }
        if status == 481 && !was_away && !call.was_cut {
            call.missing_since = Some(now);
        }
        call.over(status == 200, now);
    }

    fn repeat_ack(&self, call_id: &str, cseq: u32, out: &mut Vec<Out>) {
        if let Some(call) = self.calls.get(call_id)
            && let Some((of, ack)) = &call.ack
            && *of == cseq
        {
            out.push(Out::Sip(ack.clone()));
        }
    }

    fn accepted(
        &mut self,
        now: Time,
        call_id: &str,
        cseq: u32,
        message: &Message,
        out: &mut Vec<Out>,
    ) {
        let is_repeat = self
            .calls
            .get(call_id)
            .is_some_and(|call| call.ack.as_ref().is_some_and(|a| a.0 == cseq));
        if is_repeat {
            return self.repeat_ack(call_id, cseq, out);
        }
        let talk = self.habits.talk;
        let talk = self.up_to(talk);
        let contact = target_of(message);
        let is_offered = self.calls.get(call_id).is_some_and(|call| !call.offers);
        self.learn(call_id, message.body(), is_offered, now);
        let Some(call) = self.calls.get(call_id).cloned() else {
            return;
        };
        let remote = message
            .header(HeaderName::To)
            .unwrap_or_default()
            .to_owned();
        let target = contact.unwrap_or(call.target);
        let body = if call.offers {
            String::new()
        } else {
            self.describe(call_id, "sendrecv", false)
        };
        let ack = self.fields().request(
            "ACK",
            &target,
            &call.local,
            &remote,
            call_id,
            cseq,
            "",
            &body,
        );
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        call.remote = remote;
        call.target = target;
        call.ack = Some((cseq, ack.clone()));
        call.offers = true;
        out.push(Out::Sip(ack));
        match call.state {
            CallState::Ringing => {
                call.confirmed(now, talk);
                self.note_answer(call_id);
            }
            CallState::Ending => {
                // The CANCEL came too late: the call is ended as one that was answered.
                call.since = now;
                call.held = true;
                call.step_at = Some(now + Duration::from_secs(40));
                self.in_dialog(call_id, "BYE", "", now, out);
            }
            CallState::Confirmed => {
                call.agreed = now;
                call.is_offering = false;
            }
            CallState::Answered | CallState::Over { .. } => {}
        }
    }

    fn refused(
        &mut self,
        now: Time,
        call_id: &str,
        status: u16,
        cseq: u32,
        message: &Message,
        out: &mut Vec<Out>,
    ) {
        let gives_up = self.draw(self.habits.gives_up);
        let patience = if gives_up {
            self.up_to(Duration::from_secs(6))
        } else {
            Duration::from_secs(100)
        };
        let user = self.user.clone();
        let was_away = self.was_away(now);
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        out.push(Out::Sip(ack_refusal(call, call_id, cseq, message)));
        let challenge = (status == 407 || status == 401).then_some(message);
        let answered =
            challenge.and_then(|asked| credentials(asked, &user, "INVITE", &call.target));
        match (&call.state, answered) {
            (CallState::Ringing, Some(credentials)) if cseq < 4 => {
                call.cseq += 1;
                call.step_at = Some(now + patience);
                self.invite(call_id, now, &credentials, out);
            }
            (CallState::Confirmed, Some(credentials)) if cseq < 60 => {
                call.cseq += 1;
                self.invite(call_id, now, &credentials, out);
            }
            (CallState::Confirmed, _) => {
                // 481 ends the call (RFC 3261 §12.2.1.2); after other refusals the phone hangs up.
                if status == 481 {
                    call.missing_since = (!was_away && !call.was_cut).then_some(now);
                    call.over(false, now);
                } else {
                    call.unsure(now);
                }
            }
            (CallState::Ringing | CallState::Ending | CallState::Answered, _) => {
                call.over(true, now);
            }
            (CallState::Over { .. }, _) => {}
        }
    }

    pub(super) fn call_on_request(
        &mut self,
        now: Time,
        call_id: &str,
        method: &str,
        cseq: u32,
        message: &Message,
        out: &mut Vec<Out>,
    ) {
        // What ends another dialog of the same Call-ID does not end this one (RFC 3261 §12.2.2).
        let call = self.calls.get(call_id);
        let known = call.is_some_and(|call| method != "BYE" || !is_of_another(call, message));
        match (method, known) {
            ("INVITE", false) => self.rings(now, call_id, message, out),
            ("INVITE", true) => self.invited_again(now, call_id, cseq, message, out),
            ("ACK", true) => {
                let talk = self.habits.talk;
                let talk = self.up_to(talk);
                if !message.body().is_empty() {
                    self.learn(call_id, message.body(), false, now);
                }
                let Some(call) = self.calls.get_mut(call_id) else {
                    return;
                };
                if call.state == CallState::Answered {
                    call.confirmed(now, talk);
                    self.talked += 1;
                }
            }
            ("CANCEL", true) => {
                out.push(Out::Sip(response(message, "200 OK", "x", "", "")));
                let Some(call) = self.calls.get_mut(call_id) else {
                    return;
                };
                if call.state == CallState::Ringing
                    && let Some(invite) = &call.invite
                {
                    let tag = format!("a{}", call.port);
                    out.push(Out::Sip(response(
                        invite,
                        "487 Request Terminated",
                        &tag,
                        "",
                        "",
                    )));
                    call.over(true, now);
                }
            }
            ("BYE", true) => {
                out.push(Out::Sip(response(message, "200 OK", "x", "", "")));
                let Some(call) = self.calls.get_mut(call_id) else {
                    return;
                };
                call.missing_since = None;
                call.over(true, now);
            }
            ("BYE" | "CANCEL", false) => {
                out.push(Out::Sip(response(message, "481 No Such Call", "x", "", "")));
            }
            ("ACK", false) => {}
            _ => out.push(Out::Sip(response(message, "200 OK", "x", "", ""))),
        }
    }

    fn rings(&mut self, now: Time, call_id: &str, message: &Message, out: &mut Vec<Out>) {
        let port = self.free_port();
        let ignores = self.draw(self.habits.ignores);
        let wait = self.up_to(Duration::from_secs(3));
        let contact = self.fields().contact();
        let mut call = Call::new(Role::Callee, now, port);
        let tag = format!("a{port}");
        call.local = format!(
            "{};tag={tag}",
            message.header(HeaderName::To).unwrap_or_default()
        );
        call.remote = message
            .header(HeaderName::From)
            .unwrap_or_default()
            .to_owned();
        call.target = target_of(message).unwrap_or_default();
        call.cseq = 500;
        call.invite = Some(message.clone());
        call.step_at = (!ignores).then_some(now + wait);
        let bytes = response(message, "180 Ringing", &tag, &contact, "");
        call.last = Some(bytes.clone());
        out.push(Out::Sip(bytes));
        self.calls.insert(call_id.to_owned(), call);
        self.begin_media(call_id, port);
        if !message.body().is_empty() {
            self.learn(call_id, message.body(), true, now);
        }
    }

    /// A repeated INVITE, or an offer within the call.
    fn invited_again(
        &mut self,
        now: Time,
        call_id: &str,
        cseq: u32,
        message: &Message,
        out: &mut Vec<Out>,
    ) {
        let contact = self.fields().contact();
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        let first = call.invite.as_ref().and_then(|invite| invite.cseq().ok());
        if call.role == Role::Callee && first.is_some_and(|first| first.number == cseq) {
            out.extend(call.last.clone().map(Out::Sip));
            return;
        }
        if call.state != CallState::Confirmed {
            out.push(Out::Sip(response(message, "481 No Such Call", "x", "", "")));
            return;
        }
        if call.is_offering {
            // RFC 3261 §14.2: an offer of ours is under way.
            let refusal = response(message, "491 Request Pending", "x", "", "");
            return out.push(Out::Sip(refusal));
        }
        call.agreed = now;
        // RFC 3261 §12.2.2: a re-INVITE moves the remote target.
        if let Some(target) = target_of(message) {
            call.target = target;
        }
        let text = String::from_utf8_lossy(message.body()).into_owned();
        let direction = if text.contains("a=sendonly") {
            "recvonly"
        } else if text.contains("a=recvonly") {
            // RFC 3264 §6.1: who holds goes on to hold.
            "sendonly"
        } else if text.contains("a=inactive") {
            "inactive"
        } else {
            "sendrecv"
        };
        call.held = direction != "sendrecv";
        call.version += 1;
        let is_asked = message.body().is_empty();
        if !is_asked {
            self.learn(call_id, message.body(), true, now);
        }
        let body = self.describe(call_id, direction, is_asked);
        out.push(Out::Sip(response(message, "200 OK", "x", &contact, &body)));
    }
}

fn ack_refusal(call: &Call, call_id: &str, cseq: u32, response: &Message) -> Bytes {
    let via = response.header(HeaderName::Via).unwrap_or_default();
    // The response's Via is ours with what the node stamped into it; the branch is what matters.
    let to = response.header(HeaderName::To).unwrap_or_default();
    Bytes::from(format!(
        "ACK {} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {to}\r\n\
         Call-ID: {call_id}\r\nCSeq: {cseq} ACK\r\nContent-Length: 0\r\n\r\n",
        call.target, call.local
    ))
}

/// Tells whether a request is of another dialog than the call's, if that has one yet.
fn is_of_another(call: &Call, request: &Message) -> bool {
    let sender = request.from().ok();
    let tag = sender.as_ref().and_then(|from| from.tag());
    call.remote.contains(";tag=") && tag.is_some_and(|tag| !call.remote.contains(tag))
}

fn target_of(message: &Message) -> Option<String> {
    let contact = message.header(HeaderName::Contact)?;
    let inner = contact.split('<').nth(1)?;
    inner.split('>').next().map(str::to_owned)
}
