//! The client transaction of every method but INVITE and ACK (RFC 3261 §17.1.2).
//!
//! In: the request, its responses, transport errors, time. Out: the request as often as needed,
//! responses for the TU.
//!
//! | state | event | does | next | source |
//! |---|---|---|---|---|
//! | – | new | send request; E (datagram), F | Trying | §17.1.2.2 |
//! | Trying | 1xx | deliver | Proceeding | §17.1.2.2 |
//! | Trying, Proceeding | 200–699 | deliver; K | Completed | §17.1.2.2 |
//! | Trying | E | send request, E doubled up to T2 | Trying | §17.1.2.2 |
//! | Trying, Proceeding | F | timed out | Terminated | §17.1.2.2 |
//! | Trying, Proceeding | transport error | failed | Terminated | §17.1.4 |
//! | Proceeding | 1xx | deliver | Proceeding | §17.1.2.2 |
//! | Proceeding | E | send request, E = T2 | Proceeding | §17.1.2.2 |
//! | Completed | any response | – | Completed | §17.1.2.2 |
//! | Completed | K | – | Terminated | §17.1.2.2 |
//!
//! Every other pair does nothing. On streams Completed is left at once (K is 0). E and F run on
//! from Trying into Proceeding.

use bytes::Bytes;
use contract::Time;

use super::timers::Armed;
use super::{Class, Output, Reliability, Timers, class_of};
use crate::message::Message;

/// The machine; see the table in the module's page.
#[derive(Debug)]
pub struct PlainClient {
    state: State,
    armed: Armed<Timer>,
    timers: Timers,
    reliability: Reliability,
}

#[derive(Debug)]
enum State {
    Trying { request: Bytes },
    Proceeding { request: Bytes },
    Completed,
    Terminated,
}

#[derive(Clone, Copy, Debug)]
enum Timer {
    /// E.
    RetransmitRequest,
    /// F.
    RequestTimeout,
    /// K.
    AbsorbResponses,
}

enum Event {
    Provisional(Message),
    Final(Message),
    Timer(Timer),
    TransportError,
}

impl PlainClient {
    /// Sends the request and begins to wait, with the timers of RFC 3261.
    #[must_use]
    pub fn new(
        request: Message,
        reliability: Reliability,
        now: Time,
        out: &mut Vec<Output>,
    ) -> Self {
        Self::with_timers(request, reliability, Timers::default(), now, out)
    }

    /// Sends the request and begins to wait, with other timers.
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
        let request = request.bytes().clone();
        out.push(Output::Send(request.clone()));
        machine.enter(State::Trying { request }, now, out);
        machine
    }

    /// Takes a response whose key is this transaction's.
    pub fn on_response(&mut self, response: Message, now: Time, out: &mut Vec<Output>) {
        let event = match class_of(&response) {
            Some(Class::Provisional) => Event::Provisional(response),
            Some(Class::Success | Class::Failure) => Event::Final(response),
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

    /// Returns the name of the state, for logs and the console.
    #[must_use]
    pub const fn state_name(&self) -> &'static str {
        match self.state {
            State::Trying { .. } => "Trying",
            State::Proceeding { .. } => "Proceeding",
            State::Completed => "Completed",
            State::Terminated => "Terminated",
        }
    }

    fn handle(&mut self, event: Event, now: Time, out: &mut Vec<Output>) {
        match &self.state {
            State::Trying { request } => {
                let request = request.clone();
                self.in_trying(request, event, now, out);
            }
            State::Proceeding { request } => {
                let request = request.clone();
                self.in_proceeding(request, event, now, out);
            }
            State::Completed => self.in_completed(event, now, out),
            State::Terminated => {}
        }
    }

    fn in_trying(&mut self, request: Bytes, event: Event, now: Time, out: &mut Vec<Output>) {
        match event {
            Event::Provisional(response) => {
                out.push(Output::Deliver(response));
                self.enter(State::Proceeding { request }, now, out);
            }
            Event::Final(response) => self.complete(response, now, out),
            Event::Timer(Timer::RetransmitRequest) => {
                out.push(Output::Send(request));
                let interval_ms = self.timers.next_interval_ms(self.armed.interval_ms());
                self.armed
                    .set_repeat(Timer::RetransmitRequest, now, interval_ms);
            }
            Event::Timer(Timer::RequestTimeout) => self.fail(Output::TimedOut, now, out),
            Event::TransportError => self.fail(Output::Failed, now, out),
            Event::Timer(Timer::AbsorbResponses) => {}
        }
    }

    fn in_proceeding(&mut self, request: Bytes, event: Event, now: Time, out: &mut Vec<Output>) {
        match event {
            Event::Provisional(response) => out.push(Output::Deliver(response)),
            Event::Final(response) => self.complete(response, now, out),
            Event::Timer(Timer::RetransmitRequest) => {
                out.push(Output::Send(request));
                self.armed
                    .set_repeat(Timer::RetransmitRequest, now, self.timers.t2_ms);
            }
            Event::Timer(Timer::RequestTimeout) => self.fail(Output::TimedOut, now, out),
            Event::TransportError => self.fail(Output::Failed, now, out),
            Event::Timer(Timer::AbsorbResponses) => {}
        }
    }

    fn in_completed(&mut self, event: Event, now: Time, out: &mut Vec<Output>) {
        match event {
            Event::Timer(Timer::AbsorbResponses) => self.enter(State::Terminated, now, out),
            Event::Provisional(_) | Event::Final(_) | Event::TransportError => {}
            Event::Timer(Timer::RetransmitRequest | Timer::RequestTimeout) => {}
        }
    }

    fn complete(&mut self, response: Message, now: Time, out: &mut Vec<Output>) {
        out.push(Output::Deliver(response));
        let next = match self.reliability {
            Reliability::Datagram => State::Completed,
            Reliability::Stream => State::Terminated,
        };
        self.enter(next, now, out);
    }

    fn fail(&mut self, news: Output, now: Time, out: &mut Vec<Output>) {
        out.push(news);
        self.enter(State::Terminated, now, out);
    }

    fn enter(&mut self, next: State, now: Time, out: &mut Vec<Output>) {
        match &next {
            State::Trying { .. } => {
                if self.reliability == Reliability::Datagram {
                    self.armed
                        .set_repeat(Timer::RetransmitRequest, now, self.timers.t1_ms);
                }
                self.armed
                    .set_limit(Timer::RequestTimeout, now, self.timers.limit_ms());
            }
            State::Proceeding { .. } => {}
            State::Completed => {
                self.armed = Armed::default();
                self.armed
                    .set_limit(Timer::AbsorbResponses, now, self.timers.t4_ms);
            }
            State::Terminated => {
                self.armed = Armed::default();
                out.push(Output::Terminated);
            }
        }
        self.state = next;
    }
}
