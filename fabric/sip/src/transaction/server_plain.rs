//! The server transaction of every method but INVITE and ACK (RFC 3261 §17.2.2).
//!
//! In: the request and its copies, responses of the TU, transport errors, time. Out: responses as
//! often as needed. The TU has the request already: it made this machine. That a 1xx other than 100
//! and a 408 are not to be sent (RFC 4320 §4) is the TU's business.
//!
//! | state | event | does | next | source |
//! |---|---|---|---|---|
//! | – | new | – | Trying | §17.2.2 |
//! | Trying | request | – | Trying | §17.2.2 |
//! | Trying, Proceeding | 1xx of TU | send | Proceeding | §17.2.2 |
//! | Trying, Proceeding | 200–699 of TU | send; J | Completed | §17.2.2 |
//! | Proceeding | request | send last provisional | Proceeding | §17.2.2 |
//! | Completed | request | send response | Completed | §17.2.2 |
//! | Completed | any response of TU | – | Completed | §17.2.2 |
//! | Completed | J | – | Terminated | §17.2.2 |
//! | Proceeding, Completed | transport error | failed | same | §17.2.4 as of RFC 6026 §8.8 |
//!
//! Every other pair does nothing. On streams Completed is left at once (J is 0).

use bytes::Bytes;
use contract::Time;

use super::timers::Armed;
use super::{Class, Output, Reliability, Timers, class_of};
use crate::message::Message;

/// The machine; see the table in the module's page.
#[derive(Debug)]
pub struct PlainServer {
    state: State,
    armed: Armed<Timer>,
    timers: Timers,
    reliability: Reliability,
}

#[derive(Debug)]
enum State {
    Trying,
    Proceeding { last: Bytes },
    Completed { response: Bytes },
    Terminated,
}

#[derive(Clone, Copy, Debug)]
enum Timer {
    /// J.
    AbsorbRequests,
}

enum Event {
    Request,
    Provisional(Message),
    Final(Message),
    Timer(Timer),
    TransportError,
}

impl PlainServer {
    /// Begins with a new request, with the timers of RFC 3261.
    #[must_use]
    pub fn new(request: Message, reliability: Reliability, now: Time) -> Self {
        Self::with_timers(request, reliability, Timers::default(), now)
    }

    /// Begins with a new request, with other timers. Request and time are taken so that all
    /// machines are made alike; nothing of them is kept.
    #[must_use]
    pub fn with_timers(_: Message, reliability: Reliability, timers: Timers, _: Time) -> Self {
        Self {
            state: State::Trying,
            armed: Armed::default(),
            timers,
            reliability,
        }
    }

    /// Takes a copy of the request.
    pub fn on_request(&mut self, _: &Message, now: Time, out: &mut Vec<Output>) {
        self.handle(Event::Request, now, out);
    }

    /// Takes a response of the TU. After a final response nothing more is sent.
    pub fn respond(&mut self, response: Message, now: Time, out: &mut Vec<Output>) {
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
            State::Trying => "Trying",
            State::Proceeding { .. } => "Proceeding",
            State::Completed { .. } => "Completed",
            State::Terminated => "Terminated",
        }
    }

    fn handle(&mut self, event: Event, now: Time, out: &mut Vec<Output>) {
        match &self.state {
            State::Trying => self.in_trying(event, now, out),
            State::Proceeding { last } => {
                let last = last.clone();
                self.in_proceeding(last, event, now, out);
            }
            State::Completed { response } => {
                let response = response.clone();
                self.in_completed(response, event, now, out);
            }
            State::Terminated => {}
        }
    }

    fn in_trying(&mut self, event: Event, now: Time, out: &mut Vec<Output>) {
        match event {
            Event::Provisional(response) => self.tell(&response, now, out),
            Event::Final(response) => self.complete(&response, now, out),
            // Nothing has been sent that could fail.
            Event::TransportError => {}
            Event::Request | Event::Timer(Timer::AbsorbRequests) => {}
        }
    }

    fn in_proceeding(&mut self, last: Bytes, event: Event, now: Time, out: &mut Vec<Output>) {
        match event {
            Event::Request => out.push(Output::Send(last)),
            Event::Provisional(response) => self.tell(&response, now, out),
            Event::Final(response) => self.complete(&response, now, out),
            Event::TransportError => out.push(Output::Failed),
            Event::Timer(Timer::AbsorbRequests) => {}
        }
    }

    fn in_completed(&mut self, response: Bytes, event: Event, now: Time, out: &mut Vec<Output>) {
        match event {
            Event::Request => out.push(Output::Send(response)),
            Event::TransportError => out.push(Output::Failed),
            Event::Timer(Timer::AbsorbRequests) => self.enter(State::Terminated, now, out),
            Event::Provisional(_) | Event::Final(_) => {}
        }
    }

    fn tell(&mut self, response: &Message, now: Time, out: &mut Vec<Output>) {
        let last = response.bytes().clone();
        out.push(Output::Send(last.clone()));
        self.enter(State::Proceeding { last }, now, out);
    }

    fn complete(&mut self, response: &Message, now: Time, out: &mut Vec<Output>) {
        let response = response.bytes().clone();
        out.push(Output::Send(response.clone()));
        let next = match self.reliability {
            Reliability::Datagram => State::Completed { response },
            Reliability::Stream => State::Terminated,
        };
        self.enter(next, now, out);
    }

    fn enter(&mut self, next: State, now: Time, out: &mut Vec<Output>) {
        self.armed = Armed::default();
        match &next {
            State::Trying | State::Proceeding { .. } => {}
            State::Completed { .. } => {
                self.armed
                    .set_limit(Timer::AbsorbRequests, now, self.timers.limit_ms());
            }
            State::Terminated => out.push(Output::Terminated),
        }
        self.state = next;
    }
}
