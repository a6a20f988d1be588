//! The server transaction of INVITE (RFC 3261 §17.2.1, RFC 6026 §7.1).
//!
//! In: the INVITE and its copies, ACK, responses of the TU, transport errors, time. Out: responses
//! as often as needed. The TU has the INVITE already: it made this machine. The TU repeats a 2xx
//! itself until its ACK comes, which is no part of this transaction (RFC 3261 §13.3.1.4).
//!
//! | state | event | does | next | source |
//! |---|---|---|---|---|
//! | – | new | 200 ms timer | Proceeding | §17.2.1 |
//! | Proceeding | 200 ms without an answer | send 100 | Proceeding | §17.2.1 |
//! | Proceeding | INVITE | send last provisional, if any | Proceeding | §17.2.1 |
//! | Proceeding | 1xx of TU | send | Proceeding | §17.2.1 |
//! | Proceeding | 2xx of TU | send; L | Accepted | RFC 6026 §7.1 |
//! | Proceeding | 300–699 of TU | send; G (datagram), H | Completed | §17.2.1 |
//! | Accepted | INVITE | – | Accepted | RFC 6026 §7.1 |
//! | Accepted | ACK | deliver | Accepted | RFC 6026 §7.1 |
//! | Accepted | 2xx of TU | send | Accepted | RFC 6026 §7.1 |
//! | Accepted | L | – | Terminated | RFC 6026 §7.1 |
//! | Completed | INVITE | send response | Completed | §17.2.1 |
//! | Completed | G | send response, G doubled up to T2 | Completed | §17.2.1 |
//! | Completed | ACK | I | Confirmed | §17.2.1 |
//! | Completed | H | timed out | Terminated | §17.2.1 |
//! | Confirmed | I | – | Terminated | §17.2.1 |
//! | Proceeding, Accepted, Completed | transport error | failed | same | RFC 6026 §7.1 |
//!
//! Every other pair does nothing. On streams Confirmed is left at once (I is 0). An ACK for a 2xx
//! reaches Accepted only if its sender repeats the branch or makes none; it goes up to the TU.

use bytes::Bytes;
use contract::Time;
use rsip::Method;

use super::key::is_legacy;
use super::timers::Armed;
use super::{Class, Output, Reliability, Timers, class_of};
use crate::message::Message;
use crate::respond::respond;

/// The machine; see the table in the module's page.
#[derive(Debug)]
pub struct InviteServer {
    state: State,
    armed: Armed<Timer>,
    timers: Timers,
    reliability: Reliability,
}

#[derive(Debug)]
enum State {
    Proceeding(Progress),
    Accepted,
    Completed { response: Bytes },
    Confirmed,
    Terminated,
}

/// What the peer has heard so far.
#[derive(Clone, Debug)]
enum Progress {
    /// Nothing: the request is kept to answer it with 100.
    Silent(Message),
    /// This provisional response last.
    Told(Bytes),
}

#[derive(Clone, Copy, Debug)]
enum Timer {
    /// 200 ms.
    SendTrying,
    /// G.
    RetransmitFinal,
    /// H.
    AckTimeout,
    /// I.
    AbsorbAcks,
    /// L.
    AbsorbInvites,
}

enum Event {
    Invite,
    Ack(Message),
    Provisional(Message),
    Success(Message),
    Failure(Message),
    Timer(Timer),
    TransportError,
}

impl InviteServer {
    /// Begins with a new INVITE, with the timers of RFC 3261.
    #[must_use]
    pub fn new(request: Message, reliability: Reliability, now: Time) -> Self {
        Self::with_timers(request, reliability, Timers::default(), now)
    }

    /// Begins with a new INVITE, with other timers.
    #[must_use]
    pub fn with_timers(
        request: Message,
        reliability: Reliability,
        timers: Timers,
        now: Time,
    ) -> Self {
        let mut armed = Armed::default();
        armed.set_repeat(Timer::SendTrying, now, timers.trying_ms);
        Self {
            state: State::Proceeding(Progress::Silent(request)),
            armed,
            timers,
            reliability,
        }
    }

    /// Takes a copy of the INVITE, or an ACK, whose key is this transaction's.
    pub fn on_request(&mut self, request: &Message, now: Time, out: &mut Vec<Output>) {
        let method = request.method();
        if method.is(Method::Ack) {
            self.handle(Event::Ack(request.clone()), now, out);
        } else if method.is(Method::Invite) {
            self.handle(Event::Invite, now, out);
        }
    }

    /// Takes a response of the TU. After a final response only copies of a 2xx are sent.
    pub fn respond(&mut self, response: Message, now: Time, out: &mut Vec<Output>) {
        let event = match class_of(&response) {
            Some(Class::Provisional) => Event::Provisional(response),
            Some(Class::Success) => Event::Success(response),
            Some(Class::Failure) => Event::Failure(response),
            None => return,
        };
        self.handle(event, now, out);
    }

    /// Sends no 100 by itself: another server may have the INVITE, and a client that hears 100 of this one
    /// repeats it to neither.
    pub fn keep_silent(&mut self) {
        if matches!(self.state, State::Proceeding(Progress::Silent(_))) {
            self.armed = Armed::default();
        }
    }

    /// Takes the news that what was sent last could not be sent.
    pub fn on_transport_error(&mut self, now: Time, out: &mut Vec<Output>) {
        self.handle(Event::TransportError, now, out);
    }

    /// Does what is due at `now`.
    pub fn on_timer(&mut self, now: Time, out: &mut Vec<Output>) {
        while let Some(timer) = self.armed.take_due(now) {
            self.handle(Event::Timer(timer), now, out);
        }
    }

    /// Returns when `on_timer` is to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.armed.next()
    }

    /// Tells whether a CANCEL still has an effect: no final response was sent (RFC 3261 §9.2).
    #[must_use]
    pub const fn is_cancellable(&self) -> bool {
        matches!(self.state, State::Proceeding(_))
    }

    /// Returns the name of the state, for logs and the console.
    #[must_use]
    pub const fn state_name(&self) -> &'static str {
        match self.state {
            State::Proceeding(_) => "Proceeding",
            State::Accepted => "Accepted",
            State::Completed { .. } => "Completed",
            State::Confirmed => "Confirmed",
            State::Terminated => "Terminated",
        }
    }

    fn handle(&mut self, event: Event, now: Time, out: &mut Vec<Output>) {
        match &self.state {
            State::Proceeding(progress) => {
                let progress = progress.clone();
                self.in_proceeding(progress, event, now, out);
            }
            State::Accepted => self.in_accepted(event, now, out),
            State::Completed { response } => {
                let response = response.clone();
                self.in_completed(response, event, now, out);
            }
            State::Confirmed => self.in_confirmed(event, now, out),
            State::Terminated => {}
        }
    }

    fn in_proceeding(
        &mut self,
        progress: Progress,
        event: Event,
        now: Time,
        out: &mut Vec<Output>,
    ) {
        match event {
            Event::Invite => match progress {
                Progress::Told(response) => out.push(Output::Send(response)),
                Progress::Silent(_) => {}
            },
            Event::Provisional(response) => self.tell(response.bytes().clone(), now, out),
            Event::Success(response) => {
                out.push(Output::Send(response.bytes().clone()));
                self.enter(State::Accepted, now, out);
            }
            Event::Failure(response) => {
                let response = response.bytes().clone();
                out.push(Output::Send(response.clone()));
                self.enter(State::Completed { response }, now, out);
            }
            Event::Timer(Timer::SendTrying) => {
                if let Progress::Silent(request) = progress
                    && let Ok(trying) = respond(&request, 100, None).finish()
                {
                    self.tell(trying, now, out);
                }
            }
            Event::TransportError => out.push(Output::Failed),
            Event::Ack(_) => {}
            Event::Timer(
                Timer::RetransmitFinal
                | Timer::AckTimeout
                | Timer::AbsorbAcks
                | Timer::AbsorbInvites,
            ) => {}
        }
    }

    fn in_accepted(&mut self, event: Event, now: Time, out: &mut Vec<Output>) {
        match event {
            Event::Ack(ack) => out.push(Output::Deliver(ack)),
            Event::Success(response) => out.push(Output::Send(response.bytes().clone())),
            Event::TransportError => out.push(Output::Failed),
            Event::Timer(Timer::AbsorbInvites) => self.enter(State::Terminated, now, out),
            Event::Invite | Event::Provisional(_) | Event::Failure(_) => {}
            Event::Timer(
                Timer::SendTrying | Timer::RetransmitFinal | Timer::AckTimeout | Timer::AbsorbAcks,
            ) => {}
        }
    }

    fn in_completed(&mut self, response: Bytes, event: Event, now: Time, out: &mut Vec<Output>) {
        match event {
            Event::Invite => out.push(Output::Send(response)),
            Event::Ack(ack) => {
                if !is_legacy(&ack) || has_tag_of(&ack, response) {
                    self.confirm(now, out);
                }
            }
            Event::Timer(Timer::RetransmitFinal) => {
                out.push(Output::Send(response));
                let interval_ms = self.timers.next_interval_ms(self.armed.interval_ms());
                self.armed
                    .set_repeat(Timer::RetransmitFinal, now, interval_ms);
            }
            Event::Timer(Timer::AckTimeout) => {
                out.push(Output::TimedOut);
                self.enter(State::Terminated, now, out);
            }
            Event::TransportError => out.push(Output::Failed),
            Event::Provisional(_) | Event::Success(_) | Event::Failure(_) => {}
            Event::Timer(Timer::SendTrying | Timer::AbsorbAcks | Timer::AbsorbInvites) => {}
        }
    }

    fn in_confirmed(&mut self, event: Event, now: Time, out: &mut Vec<Output>) {
        match event {
            Event::Timer(Timer::AbsorbAcks) => self.enter(State::Terminated, now, out),
            Event::Invite
            | Event::Ack(_)
            | Event::Provisional(_)
            | Event::Success(_)
            | Event::Failure(_)
            | Event::TransportError => {}
            Event::Timer(
                Timer::SendTrying
                | Timer::RetransmitFinal
                | Timer::AckTimeout
                | Timer::AbsorbInvites,
            ) => {}
        }
    }

    fn tell(&mut self, response: Bytes, now: Time, out: &mut Vec<Output>) {
        out.push(Output::Send(response.clone()));
        self.enter(State::Proceeding(Progress::Told(response)), now, out);
    }

    fn confirm(&mut self, now: Time, out: &mut Vec<Output>) {
        let next = match self.reliability {
            Reliability::Datagram => State::Confirmed,
            Reliability::Stream => State::Terminated,
        };
        self.enter(next, now, out);
    }

    fn enter(&mut self, next: State, now: Time, out: &mut Vec<Output>) {
        self.armed = Armed::default();
        match &next {
            State::Proceeding(_) => {}
            State::Accepted => {
                self.armed
                    .set_limit(Timer::AbsorbInvites, now, self.timers.limit_ms());
            }
            State::Completed { .. } => {
                if self.reliability == Reliability::Datagram {
                    self.armed
                        .set_repeat(Timer::RetransmitFinal, now, self.timers.t1_ms);
                }
                self.armed
                    .set_limit(Timer::AckTimeout, now, self.timers.limit_ms());
            }
            State::Confirmed => self
                .armed
                .set_limit(Timer::AbsorbAcks, now, self.timers.t4_ms),
            State::Terminated => out.push(Output::Terminated),
        }
        self.state = next;
    }
}

/// Tells whether an ACK has the To tag of a response (RFC 3261 §17.2.3, peers without branches).
fn has_tag_of(ack: &Message, response: Bytes) -> bool {
    let response_to = Message::read(response)
        .ok()
        .and_then(|response| response.to().ok());
    match (ack.to(), response_to) {
        (Ok(ack_to), Some(response_to)) => ack_to.tag() == response_to.tag(),
        (Ok(_) | Err(_), None) | (Err(_), Some(_)) => false,
    }
}
