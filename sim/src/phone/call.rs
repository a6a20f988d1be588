//! The calls of a simulated phone.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use contract::Time;
use sip::{HeaderName, Message};

use super::text::{credentials, media_of, response, sdp};
use super::{Complaint, Out, PACKET_EVERY, Phone, T1};

/// Which side of a call a phone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It called.
    Caller,
    /// It was called.
    Callee,
}

/// Where a call stands, as the phone sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallState {
    /// INVITE sent, or received and not answered.
    Ringing,
    /// Answered with 200, no ACK yet (callee).
    Answered,
    /// Both ends agree.
    Confirmed,
    /// BYE or CANCEL sent.
    Ending,
    /// Over.
    Over {
        /// The far end said so (BYE, CANCEL, or a final response).
        told: bool,
    },
}

/// One call of a phone.
#[derive(Clone, Debug)]
pub struct Call {
    /// Caller or callee.
    pub role: Role,
    /// Where it stands.
    pub state: CallState,
    /// Dialled an extension that answers itself.
    pub is_extension: bool,
    /// Neither sends nor expects sound.
    pub held: bool,
    /// A re-INVITE failed: the phone will hang up.
    pub is_unsure: bool,
    /// Since when both ends agree.
    pub since: Time,
    /// When the last packet of sound came.
    pub heard: Option<Time>,
    /// A BYE of ours was answered 481 and no BYE has come: the call was lost without a word.
    pub missing_since: Option<Time>,
    local: String,
    remote: String,
    target: String,
    cseq: u32,
    port: u16,
    media: Option<SocketAddr>,
    sequence: u16,
    version: u32,
    invite: Option<Message>,
    last: Option<Bytes>,
    ack: Option<(u32, Bytes)>,
    offers: bool,
    packet_at: Option<Time>,
    step_at: Option<Time>,
    again_at: Option<(Time, Duration)>,
    forget_at: Option<Time>,
}

impl Call {
    fn new(role: Role, now: Time, port: u16) -> Call {
        Call {
            role,
            state: CallState::Ringing,
            is_extension: false,
            held: false,
            is_unsure: false,
            since: now,
            heard: None,
            missing_since: None,
            local: String::new(),
            remote: String::new(),
            target: String::new(),
            cseq: 0,
            port,
            media: None,
            sequence: 1,
            version: 1,
            invite: None,
            last: None,
            ack: None,
            offers: true,
            packet_at: None,
            step_at: None,
            again_at: None,
            forget_at: None,
        }
    }

    /// Returns the next deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let again = self.again_at.map(|(at, _)| at);
        [self.packet_at, self.step_at, again, self.forget_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Tells whether the phone expects sound.
    #[must_use]
    pub fn expects_sound(&self) -> bool {
        self.state == CallState::Confirmed && !self.held && self.media.is_some()
    }

    fn over(&mut self, told: bool, now: Time) {
        self.state = CallState::Over { told };
        self.packet_at = None;
        self.step_at = None;
        self.again_at = None;
        self.forget_at = Some(now + Duration::from_secs(70));
    }

    /// Both ends may disagree about hold: no sound is expected, and the call is ended soon.
    fn unsure(&mut self, now: Time) {
        self.held = false;
        self.media = None;
        self.is_unsure = true;
        self.step_at = Some(now + Duration::from_secs(1));
    }

    fn confirmed(&mut self, now: Time, talk: Duration) {
        self.state = CallState::Confirmed;
        self.since = now;
        self.again_at = None;
        self.packet_at = Some(now);
        self.step_at = Some(now + talk);
    }
}

impl Phone {
    fn draw(&mut self, percent: u32) -> bool {
        self.rng.below(100) < percent
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        let millis = u32::try_from(longest.as_millis()).unwrap_or(u32::MAX);
        Duration::from_millis(500 + u64::from(self.rng.below(millis.max(1))))
    }

    /// Perhaps starts a call.
    pub(super) fn act(&mut self, now: Time, out: &mut Vec<Out>) {
        let idle = self.habits.idle;
        self.act_at = now + Duration::from_secs(1) + self.up_to(idle);
        let is_busy = self
            .calls
            .values()
            .any(|call| !matches!(call.state, CallState::Over { .. }));
        if is_busy || !self.habits.calls || self.registered_until.is_none_or(|until| until <= now) {
            return;
        }
        let is_extension = self.draw(self.habits.extensions);
        let called = if is_extension {
            if self.rng.below(2) == 0 {
                "9196".to_owned()
            } else {
                "9197".to_owned()
            }
        } else {
            (1000 + self.rng.below(12)).to_string()
        };
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
        self.invite(&call_id, now, "", out);
    }

    fn free_port(&mut self) -> u16 {
        self.next_port = if self.next_port > 60_000 {
            40_000
        } else {
            self.next_port + 2
        };
        self.next_port
    }

    /// Sends the INVITE, or a re-INVITE, that the call's CSeq says.
    fn invite(&mut self, call_id: &str, now: Time, credentials: &str, out: &mut Vec<Out>) {
        let Some(call) = self.calls.get(call_id).cloned() else {
            return;
        };
        let direction = if call.held { "sendonly" } else { "sendrecv" };
        let body = if call.offers {
            sdp(self.address, call.port, call.version, direction)
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

    fn in_dialog(&mut self, call_id: &str, method: &'static str, now: Time, out: &mut Vec<Out>) {
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
            "",
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
                self.complaints.push(Complaint { promise: "I7", how });
            }
            self.calls.remove(call_id);
            return;
        }
        if let (Some(at), Some(to)) = (call.packet_at, call.media)
            && at <= now
        {
            call.packet_at = Some(now + PACKET_EVERY);
            call.sequence = call.sequence.wrapping_add(1);
            if !call.held {
                let port = call.port;
                let packet = rtp(call.sequence, u32::from(port));
                out.push(Out::Rtp { port, to, packet });
            }
        } else if call.packet_at.is_some_and(|at| at <= now) {
            call.packet_at = None;
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
                let wants_hold = !held && !unsure && self.draw(self.habits.holds);
                if held || wants_hold {
                    let next = now + self.up_to(Duration::from_secs(4));
                    let Some(call) = self.calls.get_mut(call_id) else {
                        return;
                    };
                    call.held = wants_hold;
                    call.offers = true;
                    call.version += 1;
                    call.cseq += 1;
                    call.step_at = Some(next);
                    self.invite(call_id, now, "", out);
                } else {
                    self.in_dialog(call_id, "BYE", now, out);
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
        let address = self.address;
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        let Some(invite) = call.invite.clone() else {
            return;
        };
        let tag = format!("a{}", call.port);
        let bytes = if refuses {
            call.over(true, now);
            response(&invite, "486 Busy Here", &tag, "", "")
        } else {
            call.state = CallState::Answered;
            call.since = now;
            call.again_at = Some((now + T1, T1));
            let body = sdp(address, call.port, call.version, "sendrecv");
            response(&invite, "200 OK", &tag, &contact, &body)
        };
        call.last = Some(bytes.clone());
        out.push(Out::Sip(bytes));
    }

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
        let Some(call) = self.calls.get(call_id) else {
            return;
        };
        if method == "BYE" && status >= 200 {
            let Some(call) = self.calls.get_mut(call_id) else {
                return;
            };
            if status == 481 && call.state == CallState::Ending {
                call.missing_since = Some(now);
            }
            if call.state == CallState::Ending {
                call.over(status == 200, now);
            }
            return;
        }
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
        let address = self.address;
        let contact = target_of(message);
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
            sdp(address, call.port, call.version, "sendrecv")
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
        call.media = media_of(message.body()).or(call.media);
        call.ack = Some((cseq, ack.clone()));
        call.offers = true;
        out.push(Out::Sip(ack));
        match call.state {
            CallState::Ringing => {
                call.confirmed(now, talk);
                self.talked += 1;
            }
            CallState::Ending => {
                // The CANCEL came too late: the call is ended as one that was answered.
                call.state = CallState::Confirmed;
                call.since = now;
                call.step_at = Some(now);
                call.held = true;
                self.in_dialog(call_id, "BYE", now, out);
                if let Some(call) = self.calls.get_mut(call_id) {
                    call.state = CallState::Ending;
                    call.step_at = Some(now + Duration::from_secs(40));
                }
            }
            CallState::Answered | CallState::Confirmed | CallState::Over { .. } => {}
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
                    call.missing_since = Some(now);
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
        let known = self.calls.contains_key(call_id);
        match (method, known) {
            ("INVITE", false) => self.rings(now, call_id, message, out),
            ("INVITE", true) => self.invited_again(call_id, cseq, message, out),
            ("ACK", true) => {
                let talk = self.habits.talk;
                let talk = self.up_to(talk);
                let Some(call) = self.calls.get_mut(call_id) else {
                    return;
                };
                if call.state == CallState::Answered {
                    call.media = media_of(message.body()).or(call.media);
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
        call.media = media_of(message.body());
        call.cseq = 500;
        call.invite = Some(message.clone());
        call.step_at = (!ignores).then_some(now + wait);
        let bytes = response(message, "180 Ringing", &tag, &contact, "");
        call.last = Some(bytes.clone());
        out.push(Out::Sip(bytes));
        self.calls.insert(call_id.to_owned(), call);
    }

    /// A repeated INVITE, or an offer within the call.
    fn invited_again(&mut self, call_id: &str, cseq: u32, message: &Message, out: &mut Vec<Out>) {
        let contact = self.fields().contact();
        let address = self.address;
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
        let text = String::from_utf8_lossy(message.body()).into_owned();
        let direction = if text.contains("a=sendonly") {
            "recvonly"
        } else if text.contains("a=inactive") {
            "inactive"
        } else {
            "sendrecv"
        };
        call.held = direction != "sendrecv";
        call.media = media_of(message.body()).or(call.media);
        call.version += 1;
        let body = sdp(address, call.port, call.version, direction);
        out.push(Out::Sip(response(message, "200 OK", "x", &contact, &body)));
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

    /// A packet of sound came to a port.
    pub fn on_rtp(&mut self, now: Time, port: u16) {
        if let Some(call) = self.calls.values_mut().find(|call| call.port == port) {
            call.heard = Some(now);
        }
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

fn target_of(message: &Message) -> Option<String> {
    let contact = message.header(HeaderName::Contact)?;
    let inner = contact.split('<').nth(1)?;
    inner.split('>').next().map(str::to_owned)
}

fn rtp(sequence: u16, ssrc: u32) -> Bytes {
    let mut packet = vec![0x80, 0];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&(u32::from(sequence) * 1_600).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.resize(172, 0xd5);
    Bytes::from(packet)
}
