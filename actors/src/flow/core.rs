//! The transitions of a flow.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use contract::limits::{FLOW_FIRST_MESSAGE_S, FLOW_IDLE_S, FLOW_WATCHERS_MAX, HEADER_DEADLINE_S};
use contract::{
    Action, ActorId, CloseCode, Core, Ctx, Deadlines, Emitted, Event, FlowRef, Now, RestoreError,
    Time,
};
use rsip::Transport;
use sip::{Frame, FrameError, Framer};

use super::whole::{Whole, judge};
use super::{Message, Snapshot};
use crate::{Site, lane, message};

/// One connection.
#[derive(Debug)]
pub struct Flow {
    state: State,
    watchers: BTreeSet<ActorId>,
    deadlines: Deadlines<Timer>,
    messages: u64,
}

#[derive(Debug)]
enum State {
    /// Not open yet.
    New,
    /// Octets come and go.
    Open { flow: FlowRef, cut: Cut },
    /// We have closed it, or it is closed: what still comes is not read.
    Closing { flow: Option<FlowRef> },
}

/// How messages are cut out of what comes.
#[derive(Debug)]
enum Cut {
    /// Out of a stream of octets, by Content-Length (RFC 3261 §18.3).
    Stream(Framer),
    /// Not at all: each piece is one WebSocket message (RFC 7118 §5).
    Whole,
}

impl Cut {
    fn of(flow: &FlowRef, site: &Site) -> Cut {
        let transport = site.listener(flow.listener()).map(|one| one.transport);
        match transport {
            Some(Transport::Ws | Transport::Wss) => Cut::Whole,
            Some(
                Transport::Udp
                | Transport::Tcp
                | Transport::Tls
                | Transport::Sctp
                | Transport::TlsSctp,
            )
            | None => Cut::Stream(Framer::new()),
        }
    }
}

/// Names of its deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The message that has begun is not whole (`threats.md` 8).
    Message,
    /// Nothing has come for too long.
    Idle,
}

type Context<'a> = Ctx<'a, crate::Message, Site>;

impl Flow {
    /// Makes the core of a connection that is not open yet.
    #[must_use]
    pub fn new() -> Self {
        Flow {
            state: State::New,
            watchers: BTreeSet::new(),
            deadlines: Deadlines::default(),
            messages: 0,
        }
    }

    /// Returns the state in a word.
    #[must_use]
    pub fn state(&self) -> String {
        match self.state {
            State::New => "new",
            State::Open { .. } => "open",
            State::Closing { .. } => "closing",
        }
        .to_owned()
    }

    fn in_new(&mut self, event: <Self as Core>::Event, ctx: &mut Context<'_>) {
        match event {
            Event::Opened { flow } => {
                let cut = Cut::of(&flow, ctx.site());
                // A WebSocket's own pings tell whether the peer lives: it may be silent for days.
                if let Cut::Stream(_) = cut {
                    let patience = Duration::from_secs(FLOW_FIRST_MESSAGE_S);
                    self.deadlines.set(Timer::Idle, ctx.now().mono, patience);
                }
                self.state = State::Open { flow, cut };
            }
            Event::Closed { .. } => self.on_closed(None, ctx),
            Event::Message {
                message: Message::Watch { watcher, flow },
                ..
            } => {
                tell_gone(watcher, flow, ctx);
            }
            Event::Bytes(_)
            | Event::Timer(_)
            | Event::Datagram { .. }
            | Event::Media(_)
            | Event::Answer { .. }
            | Event::Undelivered { .. }
            | Event::ChildLost { .. }
            | Event::Restored(_) => ctx.ignore("the connection is not open yet"),
        }
    }

    fn in_open(&mut self, event: <Self as Core>::Event, ctx: &mut Context<'_>) {
        let State::Open { flow, .. } = self.state else {
            return;
        };
        match event {
            Event::Bytes(octets) => self.on_bytes(flow, octets, ctx),
            Event::Timer(timer) => {
                let (code, why) = match timer {
                    Timer::Message => (CloseCode::Policy, "a message took too long"),
                    Timer::Idle => (CloseCode::Normal, "idle"),
                };
                self.close(flow, code, why, ctx);
            }
            Event::Closed { .. } => self.on_closed(Some(flow), ctx),
            Event::Message {
                message:
                    Message::Watch {
                        watcher,
                        flow: meant,
                    },
                ..
            } => {
                if meant != flow {
                    tell_gone(watcher, meant, ctx);
                } else if self.watchers.len() < FLOW_WATCHERS_MAX {
                    self.watchers.insert(watcher);
                } else {
                    ctx.ignore("too many watchers");
                }
            }
            Event::Opened { .. }
            | Event::Datagram { .. }
            | Event::Media(_)
            | Event::Answer { .. }
            | Event::Undelivered { .. }
            | Event::ChildLost { .. }
            | Event::Restored(_) => ctx.ignore("nothing an open connection waits for"),
        }
    }

    fn in_closing(&mut self, event: <Self as Core>::Event, ctx: &mut Context<'_>) {
        match event {
            Event::Closed { .. } => {
                let State::Closing { flow } = self.state else {
                    return;
                };
                self.on_closed(flow, ctx);
            }
            Event::Message {
                message: Message::Watch { watcher, flow },
                ..
            } => {
                tell_gone(watcher, flow, ctx);
            }
            Event::Bytes(_)
            | Event::Opened { .. }
            | Event::Timer(_)
            | Event::Datagram { .. }
            | Event::Media(_)
            | Event::Answer { .. }
            | Event::Undelivered { .. }
            | Event::ChildLost { .. }
            | Event::Restored(_) => ctx.ignore("the connection is closing"),
        }
    }

    fn on_bytes(&mut self, flow: FlowRef, octets: Bytes, ctx: &mut Context<'_>) {
        let framer = match &mut self.state {
            State::Open {
                cut: Cut::Stream(framer),
                ..
            } => framer,
            State::Open {
                cut: Cut::Whole, ..
            } => return self.on_whole(flow, octets, ctx),
            State::New | State::Closing { .. } => return,
        };
        let was_partial = framer.is_partial();
        framer.push(&octets);
        let mut has_frame = false;
        let broken = loop {
            match framer.next() {
                Some(Ok(Frame::Message(message))) => {
                    has_frame = true;
                    self.messages += 1;
                    let number = lane::lane_of(ctx.site(), &message);
                    let id = ActorId::Lane(ctx.site().node, number);
                    ctx.tell(id, lane::Message::Received { flow, message }.into());
                }
                Some(Ok(Frame::Ping)) => ctx.send(flow, Bytes::from_static(b"\r\n")),
                Some(Ok(Frame::Pong)) => {}
                Some(Err(error)) => break Some((error, framer.offending())),
                None => break None,
            }
        };
        if let Some((error, octets)) = broken {
            return self.on_broken(flow, error, octets, ctx);
        }
        let now = ctx.now().mono;
        if !framer.is_partial() {
            self.deadlines.clear(Timer::Message);
        } else if !was_partial || has_frame {
            // Counted from the first octet of each message: later ones do not prolong it.
            self.deadlines
                .set(Timer::Message, now, Duration::from_secs(HEADER_DEADLINE_S));
        }
        if self.messages > 0 {
            self.deadlines
                .set(Timer::Idle, now, Duration::from_secs(FLOW_IDLE_S));
        }
    }

    /// Takes a WebSocket message. A wrong one is refused and no more: the next one begins anew.
    fn on_whole(&mut self, flow: FlowRef, octets: Bytes, ctx: &mut Context<'_>) {
        match judge(&octets) {
            Whole::Message(message) => {
                self.messages += 1;
                let number = lane::lane_of(ctx.site(), &message);
                let id = ActorId::Lane(ctx.site().node, number);
                ctx.tell(id, lane::Message::Received { flow, message }.into());
            }
            Whole::Ping => ctx.send(flow, Bytes::from_static(b"\r\n")),
            Whole::Pong => {}
            Whole::Broken { status, octets } => refuse(flow, status, octets, ctx),
        }
    }

    /// Answers what broke the framing, if it can be answered, and closes: nothing is read by guess.
    fn on_broken(
        &mut self,
        flow: FlowRef,
        error: FrameError,
        octets: Bytes,
        ctx: &mut Context<'_>,
    ) {
        refuse(flow, error.status(), octets, ctx);
        self.close(flow, CloseCode::Protocol, "framing", ctx);
    }

    fn close(&mut self, flow: FlowRef, code: CloseCode, why: &'static str, ctx: &mut Context<'_>) {
        ctx.act(Action::Close { flow, code, why });
        self.deadlines.clear_all();
        self.state = State::Closing { flow: Some(flow) };
    }

    /// Tells everybody who may wait for this connection, and ends.
    fn on_closed(&mut self, flow: Option<FlowRef>, ctx: &mut Context<'_>) {
        self.deadlines.clear_all();
        self.state = State::Closing { flow: None };
        if let Some(flow) = flow {
            for number in 0..ctx.site().lanes {
                let id = ActorId::Lane(ctx.site().node, number);
                ctx.tell(id, lane::Message::FlowGone { flow }.into());
            }
            for watcher in std::mem::take(&mut self.watchers) {
                tell_gone(watcher, flow, ctx);
            }
        }
        ctx.act(Action::Stop {
            id: ctx.me().clone(),
        });
    }
}

impl Default for Flow {
    fn default() -> Self {
        Self::new()
    }
}

/// Answers what is no message, if it can be answered, and counts it.
fn refuse(flow: FlowRef, status: u16, octets: Bytes, ctx: &mut Context<'_>) {
    if let Some(request) = sip::Message::read_for_error(octets) {
        let request = sip::stamp_via(&request, flow.remote());
        let tag = format!("{:016x}", ctx.rng().next_u64());
        if let Ok(response) = sip::respond(&request, status, Some(&tag)).finish() {
            ctx.send(flow, response);
        }
    }
    ctx.act(Action::Emit(Emitted::Refused {
        method: String::new(),
        status,
        why: "framing",
    }));
}

fn tell_gone(watcher: ActorId, flow: FlowRef, ctx: &mut Context<'_>) {
    let gone = message::gone(&watcher, flow);
    ctx.tell(watcher, gone);
}

impl Core for Flow {
    type Event = Event<Message, Timer, crate::Message>;
    type Message = crate::Message;
    type Timer = Timer;
    type Snapshot = Snapshot;
    type Site = Site;

    fn handle(&mut self, event: Self::Event, ctx: &mut Context<'_>) {
        match self.state {
            State::New => self.in_new(event, ctx),
            State::Open { .. } => self.in_open(event, ctx),
            State::Closing { .. } => self.in_closing(event, ctx),
        }
    }

    fn next_deadline(&self) -> Option<(Time, Timer)> {
        self.deadlines.next()
    }

    fn snapshot(&self, _now: Now) -> Snapshot {
        let flow = match &self.state {
            State::New => None,
            State::Open { flow, .. } => Some(*flow),
            State::Closing { flow } => *flow,
        };
        Snapshot {
            state: self.state(),
            flow: flow.map(|flow| flow.to_string()),
            messages: self.messages,
            watchers: self.watchers.len(),
        }
    }

    fn restore(_snapshot: Snapshot, _now: Now) -> Result<Self, RestoreError> {
        Err(RestoreError {
            what: "flow",
            why: "a connection has no record".to_owned(),
        })
    }
}
