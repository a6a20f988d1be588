//! The client transaction of INVITE (RFC 3261 §17.1.1, RFC 6026 §7.2).
//!
//! In: the INVITE, its responses, transport errors, time. Out: the INVITE as often as needed, the
//! ACK of 300–699, responses for the TU. It does not send the ACK of a 2xx, nor CANCEL.
//!
//! | state | event | does | next | source |
//! |---|---|---|---|---|
//! | – | new | send INVITE; A (datagram), B | Calling | §17.1.1.2 |
//! | Calling | 1xx | deliver | Proceeding | §17.1.1.2 |
//! | Calling, Proceeding | 2xx | deliver; M | Accepted | RFC 6026 §7.2 |
//! | Calling, Proceeding | 300–699 | send ACK, deliver; D | Completed | §17.1.1.2 |
//! | Calling | A | send INVITE, A doubled | Calling | §17.1.1.2 |
//! | Calling | B | timed out | Terminated | §17.1.1.2 |
//! | Calling | transport error | failed | Terminated | §17.1.4 |
//! | Proceeding | 1xx | deliver | Proceeding | §17.1.1.2 |
//! | Proceeding | 64·T1 after CANCEL | timed out | Terminated | §9.1 |
//! | Accepted | 2xx | deliver | Accepted | RFC 6026 §7.2 |
//! | Accepted | M | – | Terminated | RFC 6026 §7.2 |
//! | Completed | 300–699 | send ACK | Completed | §17.1.1.2 |
//! | Completed | transport error | failed | Terminated | §17.1.1.2 |
//! | Completed | D | – | Terminated | §17.1.1.2 |
//!
//! Every other pair does nothing. On streams Completed is left at once (D is 0).

use bytes::Bytes;
use contract::Time;

use super::timers::Armed;
use super::{Class, Output, Reliability, Timers, class_of};
use crate::message::Message;
use crate::request::ack_of_non2xx;

/// The machine; see the table in the module's page.
#[derive(Debug)]
pub struct InviteClient {
    state: State,
    armed: Armed<Timer>,
    timers: Timers,
    reliability: Reliability,
}

#[derive(Debug)]
enum State {
    Calling { request: Message },
    Proceeding { request: Message },
    Accepted,
    Completed { ack: Option<Bytes> },
    Terminated,
}

#[derive(Clone, Copy, Debug)]
enum Timer {
    /// A.
    RetransmitInvite,
    /// B.
    InviteTimeout,
    /// 64·T1 after CANCEL.
    CancelTimeout,
    /// D.
    AbsorbFinals,
    /// M.
    AbsorbSuccesses,
}

enum Event {
    Provisional(Message),
    Success(Message),
    Failure(Message),
    Timer(Timer),
    TransportError,
}

impl InviteClient {
    /// Sends the INVITE and begins to wait, with the timers of RFC 3261.
    #[must_use]
    pub fn new(
        request: Message,
        reliability: Reliability,
        now: Time,
        out: &mut Vec<Output>,
    ) -> Self {
        Self::with_timers(request, reliability, Timers::default(), now, out)
    }

    /// Sends the INVITE and begins to wait, with other timers.
    #[must_use]
    pub fn with_timers(
        request: Message,
        reliability: Reliability,
        timers: Timers,
        now: Time,
        out: &mut Vec<Output>,
    ) -> Self {
        let mut machine = Self {
            state: State::Terminated,
            armed: Armed::default(),
            timers,
            reliability,
        };
        out.push(Output::Send(request.bytes().clone()));
        machine.enter(State::Calling { request }, now, out);
        machine
    }

    /// Takes a response whose key is this transaction's.
    pub fn on_response(&mut self, response: Message, now: Time, out: &mut Vec<Output>) {
        let event = match class_of(&response) {
            Some(Class::Provisional) => Event::Provisional(response),
            Some(Class::Success) => Event::Success(response),
            Some(Class::Failure) => Event::Failure(response),
            None => return,
        };
        self.handle(event, now, out);
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

    /// Returns the INVITE if a CANCEL may be sent now: after a provisional response and before a
    /// final one (RFC 3261 §9.1). Before that the TU waits for `Deliver` of a 1xx.
    #[must_use]
    pub const fn cancellable(&self) -> Option<&Message> {
        match &self.state {
            State::Proceeding { request } => Some(request),
            State::Calling { .. }
            | State::Accepted
            | State::Completed { .. }
            | State::Terminated => None,
        }
    }

    /// Limits the wait for a final response after a CANCEL was sent to 64·T1 (RFC 3261 §9.1).
    pub fn on_cancel_sent(&mut self, now: Time) {
        if self.cancellable().is_some() {
            self.armed
                .set_limit(Timer::CancelTimeout, now, self.timers.limit_ms());
        }
    }

    /// Returns the name of the state, for logs and the console.
    #[must_use]
    pub const fn state_name(&self) -> &'static str {
        match self.state {
            State::Calling { .. } => "Calling",
            State::Proceeding { .. } => "Proceeding",
            State::Accepted => "Accepted",
            State::Completed { .. } => "Completed",
            State::Terminated => "Terminated",
        }
    }

    fn handle(&mut self, event: Event, now: Time, out: &mut Vec<Output>) {
        match &self.state {
            State::Calling { request } => {
                let request = request.clone();
                self.in_calling(request, event, now, out);
            }
            State::Proceeding { request } => {
                let request = request.clone();
                self.in_proceeding(request, event, now, out);
            }
            State::Accepted => self.in_accepted(event, now, out),
            State::Completed { ack } => {
                let ack = ack.clone();
                self.in_completed(ack, event, now, out);
            }
            State::Terminated => {}
        }
    }

    fn in_calling(&mut self, request: Message, event: Event, now: Time, out: &mut Vec<Output>) {
        match event {
            Event::Provisional(response) => {
                out.push(Output::Deliver(response));
                self.enter(State::Proceeding { request }, now, out);
            }
            Event::Success(response) => self.accept(response, now, out),
            Event::Failure(response) => self.complete(&request, response, now, out),
            Event::Timer(Timer::RetransmitInvite) => {
                out.push(Output::Send(request.bytes().clone()));
                let interval_ms = self.armed.interval_ms().saturating_mul(2);
                self.armed
                    .set_repeat(Timer::RetransmitInvite, now, interval_ms);
            }
            Event::Timer(Timer::InviteTimeout) => self.fail(Output::TimedOut, now, out),
            Event::TransportError => self.fail(Output::Failed, now, out),
            Event::Timer(Timer::CancelTimeout | Timer::AbsorbFinals | Timer::AbsorbSuccesses) => {}
        }
    }

    fn in_proceeding(&mut self, request: Message, event: Event, now: Time, out: &mut Vec<Output>) {
        match event {
            Event::Provisional(response) => out.push(Output::Deliver(response)),
            Event::Success(response) => self.accept(response, now, out),
            Event::Failure(response) => self.complete(&request, response, now, out),
            Event::Timer(Timer::CancelTimeout) => self.fail(Output::TimedOut, now, out),
            // The INVITE did arrive: an error of an earlier copy means nothing.
            Event::TransportError => {}
            Event::Timer(
                Timer::RetransmitInvite
                | Timer::InviteTimeout
                | Timer::AbsorbFinals
                | Timer::AbsorbSuccesses,
            ) => {}
        }
    }

    fn in_accepted(&mut self, event: Event, now: Time, out: &mut Vec<Output>) {
        match event {
            Event::Success(response) => out.push(Output::Deliver(response)),
            Event::Timer(Timer::AbsorbSuccesses) => self.enter(State::Terminated, now, out),
            Event::Provisional(_) | Event::Failure(_) | Event::TransportError => {}
            Event::Timer(
                Timer::RetransmitInvite
                | Timer::InviteTimeout
                | Timer::CancelTimeout
                | Timer::AbsorbFinals,
            ) => {}
        }
    }

    fn in_completed(&mut self, ack: Option<Bytes>, event: Event, now: Time, out: &mut Vec<Output>) {
        match event {
            Event::Failure(_) => out.extend(ack.map(Output::Send)),
            Event::Timer(Timer::AbsorbFinals) => self.enter(State::Terminated, now, out),
            Event::TransportError => self.fail(Output::Failed, now, out),
            Event::Provisional(_) | Event::Success(_) => {}
            Event::Timer(
                Timer::RetransmitInvite
                | Timer::InviteTimeout
                | Timer::CancelTimeout
                | Timer::AbsorbSuccesses,
            ) => {}
        }
    }

    fn accept(&mut self, response: Message, now: Time, out: &mut Vec<Output>) {
        out.push(Output::Deliver(response));
        self.enter(State::Accepted, now, out);
    }

    /// Answers a failure with ACK. A response from which none can be made is delivered all the
    /// same.
    fn complete(&mut self, request: &Message, response: Message, now: Time, out: &mut Vec<Output>) {
        let ack = ack_of_non2xx(request, &response).ok();
        out.extend(ack.clone().map(Output::Send));
        out.push(Output::Deliver(response));
        let next = match self.reliability {
            Reliability::Datagram => State::Completed { ack },
            Reliability::Stream => State::Terminated,
        };
        self.enter(next, now, out);
    }

    fn fail(&mut self, news: Output, now: Time, out: &mut Vec<Output>) {
        out.push(news);
        self.enter(State::Terminated, now, out);
    }

    fn enter(&mut self, next: State, now: Time, out: &mut Vec<Output>) {
        self.armed = Armed::default();
        match &next {
            State::Calling { .. } => {
                if self.reliability == Reliability::Datagram {
                    self.armed
                        .set_repeat(Timer::RetransmitInvite, now, self.timers.t1_ms);
                }
                self.armed
                    .set_limit(Timer::InviteTimeout, now, self.timers.limit_ms());
            }
            State::Proceeding { .. } => {}
            State::Accepted => {
                self.armed
                    .set_limit(Timer::AbsorbSuccesses, now, self.timers.limit_ms());
            }
            State::Completed { .. } => {
                self.armed
                    .set_limit(Timer::AbsorbFinals, now, self.timers.d_ms);
            }
            State::Terminated => out.push(Output::Terminated),
        }
        self.state = next;
    }
}
