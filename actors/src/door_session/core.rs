//! State of a session and the way of its events; the table is in `mod.rs`.
//!
//! In: events. Out: frames, questions to registrations, orders for dialogs. Each file of the folder
//! has the transitions of one concern; this one sorts events to them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use contract::limits::{FLOW_WATCHERS_MAX, JSON_REGISTER_S};
use contract::{
    Action, ActorId, CloseCode, Core, Ctx, Deadlines, Emitted, Event, FlowRef, Now, RestoreError,
    SideKey, Time, Undelivered,
};
use doors::json::{self, ClientMessage, Outbound, Query, Request, ServerMessage};
use sip::{Aor, Uri};

use super::binding::Asked;
use super::rate::{Rate, Verdict};
use super::{About, Delivery, Message, Snapshot};
use crate::{Site, call, dialog, message, registration};

/// Names of its deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The client has not registered.
    Register,
    /// A registration, or the dialogs of its calls, did not answer.
    Answer,
    /// The binding ends soon.
    Expiring,
    /// The binding has ended.
    Expired,
    /// An inbox was full: tell it again.
    Retell,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The connection is not open yet.
    New,
    /// Nobody has registered.
    Open,
    /// Somebody has.
    Registered,
    /// We have closed it, or it is closed: what still comes is not read.
    Closing,
}

/// Who is registered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Who {
    pub(super) aor: Aor,
    pub(super) instance: String,
    /// What calls have as their target.
    pub(super) contact: Uri,
    /// For people, as the client said it.
    pub(super) display: String,
}

/// One connection.
#[derive(Debug)]
pub struct DoorSession {
    pub(super) state: State,
    pub(super) flow: Option<FlowRef>,
    pub(super) who: Option<Who>,
    /// A question that a registration or dialogs have not answered yet.
    pub(super) asked: Option<Asked>,
    pub(super) deadlines: Deadlines<Timer>,
    pub(super) wrong_passwords: u32,
    /// Calls that were named here. Bound: `JSON_CALLS_MAX` that the client makes, and its own
    /// incoming ones, of which as many.
    pub(super) calls: BTreeMap<String, SideKey>,
    /// Numbers of messages that the client shall acknowledge. Bound: `ACKS_MAX`.
    pub(super) acks: VecDeque<(u64, SideKey)>,
    /// What is said after `registered`. Bound: `HELD_MAX`.
    pub(super) held: VecDeque<Delivery>,
    /// Messages that met a full inbox. Bound: `RETELLS_MAX`.
    retells: VecDeque<(ActorId, crate::Message)>,
    watchers: BTreeSet<ActorId>,
    rate: Rate,
    messages: u64,
    seq: u64,
    number: u64,
}

pub(super) type Context<'a> = Ctx<'a, crate::Message, Site>;

/// The caller's side of a call.
pub(super) const CALLER: u8 = 1;
/// Numbers that are remembered: what all calls of a client may leave open.
const ACKS_MAX: usize = 1_024;
/// Messages that wait for `registered`: what all calls of a client may leave open.
pub(super) const HELD_MAX: usize = 1_024;
/// Orders that wait because an inbox was full; more are answered 503.
const RETELLS_MAX: usize = 64;
/// Time before a message to a full inbox is told again.
const RETELL_AFTER: Duration = Duration::from_millis(100);
/// Bits of a number that JavaScript keeps exactly.
const NUMBER_BITS: u32 = 52;

/// Draws where a run of numbers begins, so that no two runs meet.
pub(crate) const fn first_number(random: u64) -> u64 {
    random >> (u64::BITS - NUMBER_BITS)
}

impl DoorSession {
    /// Makes the core of a connection that is not open yet.
    #[must_use]
    pub fn new() -> Self {
        DoorSession {
            state: State::New,
            flow: None,
            who: None,
            asked: None,
            deadlines: Deadlines::default(),
            wrong_passwords: 0,
            calls: BTreeMap::new(),
            acks: VecDeque::new(),
            held: VecDeque::new(),
            retells: VecDeque::new(),
            watchers: BTreeSet::new(),
            rate: Rate::default(),
            messages: 0,
            seq: 0,
            number: 0,
        }
    }

    /// Returns the state in a word.
    #[must_use]
    pub fn state(&self) -> String {
        match self.state {
            State::New => "new",
            State::Open => "open",
            State::Registered => "registered",
            State::Closing => "closing",
        }
        .to_owned()
    }

    /// Changes the state and arms what belongs to the new one.
    pub(super) fn enter(&mut self, next: State, ctx: &Context<'_>) {
        assert!(
            self.state != State::Closing || next == State::Closing,
            "a session that is closed stays closed, but was to become {next:?}"
        );
        tracing::debug!(actor = %ctx.me(), before = ?self.state, ?next, "enters");
        self.state = next;
        for timer in [Timer::Register, Timer::Expiring, Timer::Expired] {
            self.deadlines.clear(timer);
        }
        match next {
            State::Open => {
                self.who = None;
                let patience = Duration::from_secs(JSON_REGISTER_S);
                self.deadlines
                    .set(Timer::Register, ctx.now().mono, patience);
            }
            State::Closing => self.deadlines.clear_all(),
            State::New | State::Registered => {}
        }
    }

    /// Writes a message that answers a request.
    pub(super) fn reply(
        &mut self,
        id: Option<&str>,
        message: &ServerMessage,
        ctx: &mut Context<'_>,
    ) {
        self.write(
            &Outbound {
                message,
                id,
                seq: None,
            },
            ctx,
        );
    }

    /// Writes a message that nobody asked for.
    pub(super) fn start(
        &mut self,
        number: Option<u64>,
        message: &ServerMessage,
        ctx: &mut Context<'_>,
    ) {
        self.seq += 1;
        let number = number.unwrap_or_else(|| {
            self.number += 1;
            self.number
        });
        let id = format!("srv-{number}");
        let outbound = Outbound {
            message,
            id: Some(&id),
            seq: Some(self.seq),
        };
        self.write(&outbound, ctx);
    }

    pub(super) fn error(&mut self, id: Option<&str>, code: u16, text: &str, ctx: &mut Context<'_>) {
        let message = ServerMessage::Error {
            code,
            message: text.to_owned(),
            reference: id.map(str::to_owned),
        };
        self.reply(id, &message, ctx);
    }

    fn write(&mut self, outbound: &Outbound<'_>, ctx: &mut Context<'_>) {
        match (self.state, self.flow) {
            (State::Open | State::Registered, Some(flow)) => {
                ctx.send(flow, Bytes::from(outbound.write()));
            }
            (State::New | State::Open | State::Registered | State::Closing, _) => {
                ctx.ignore("nobody to write to");
            }
        }
    }

    pub(super) fn close(&mut self, code: CloseCode, why: &'static str, ctx: &mut Context<'_>) {
        if let Some(flow) = self.flow {
            ctx.act(Action::Close { flow, code, why });
        }
        self.enter(State::Closing, ctx);
    }

    fn on_frame(&mut self, frame: &[u8], ctx: &mut Context<'_>) {
        self.messages += 1;
        let verdict = self.rate.count(ctx.now().mono);
        if verdict == Verdict::Flood {
            return self.close(CloseCode::Policy, "too many messages", ctx);
        }
        match json::read(frame) {
            Err(refused) if refused.error == json::JsonError::TooLong => {
                self.count_refused(400, "too long", ctx);
                self.close(CloseCode::TooLong, "a message is too long", ctx);
            }
            Ok(request) if verdict == Verdict::TooMany => {
                self.count_refused(429, "too many messages", ctx);
                self.error(request.id.as_deref(), 429, "too many messages", ctx);
            }
            Ok(request) => self.on_request(request, ctx),
            Err(refused) => {
                let code = refused.error.code();
                self.count_refused(code, "no message", ctx);
                let text = refused.error.to_string();
                self.error(refused.id.as_deref(), code, &text, ctx);
            }
        }
    }

    pub(super) fn count_refused(&self, status: u16, why: &'static str, ctx: &mut Context<'_>) {
        ctx.act(Action::Emit(Emitted::Refused {
            method: "JSON".to_owned(),
            status,
            why,
        }));
    }

    fn on_request(&mut self, request: Request, ctx: &mut Context<'_>) {
        let Request { id, message } = request;
        match message {
            ClientMessage::Register(register) => self.on_register(id, register, ctx),
            ClientMessage::ResumeSession(resume) => self.on_resume(id, resume, ctx),
            ClientMessage::Unregister(unregister) => self.on_unregister(id, &unregister, ctx),
            ClientMessage::Ping(ping) => {
                let pong = ServerMessage::Pong { ts: ping.ts };
                self.reply(id.as_deref(), &pong, ctx);
            }
            ClientMessage::Info(info) => self.on_info(id, info.query, ctx),
            ClientMessage::Settings(wanted) => self.on_settings(id, wanted, ctx),
            ClientMessage::Unsupported => {
                self.error(id.as_deref(), 501, "not served yet", ctx);
            }
            order @ (ClientMessage::Call(_)
            | ClientMessage::Ringing(_)
            | ClientMessage::Answer(_)
            | ClientMessage::Reject(_)
            | ClientMessage::Cancel(_)
            | ClientMessage::Hangup(_)
            | ClientMessage::Hold(_)
            | ClientMessage::Resume(_)
            | ClientMessage::Reoffer(_)
            | ClientMessage::Reanswer(_)
            | ClientMessage::IceCandidate(_)
            | ClientMessage::IceComplete(_)
            | ClientMessage::Dtmf(_)
            | ClientMessage::Transfer(_)
            | ClientMessage::Stats(_)
            | ClientMessage::Ack(_)) => match self.who.clone() {
                Some(who) => self.on_order(id, order, &who, ctx),
                None => self.error(id.as_deref(), 401, "register first", ctx),
            },
        }
    }

    fn on_info(&mut self, id: Option<String>, query: Query, ctx: &mut Context<'_>) {
        let Some(who) = self.who.clone() else {
            return self.error(id.as_deref(), 401, "register first", ctx);
        };
        let site = ctx.site();
        let value = match query {
            Query::Calls => {
                serde_json::json!({ "calls": self.calls.keys().collect::<Vec<_>>() })
            }
            Query::Dn => {
                let account = site.account(&who.aor);
                let display = account.and_then(|account| account.display.clone());
                serde_json::json!({
                    "dn": who.aor.as_str(),
                    "displayName": display.unwrap_or(who.display),
                    "instance": who.instance,
                })
            }
            Query::Server => serde_json::json!({ "node": site.name, "product": site.product }),
        };
        self.reply(id.as_deref(), &ServerMessage::Info(value), ctx);
    }

    /// A dialog has something for the client.
    fn on_delivery(&mut self, from: &ActorId, delivery: Delivery, ctx: &mut Context<'_>) {
        let is_here = self.flow == Some(delivery.flow)
            && matches!(self.state, State::Open | State::Registered);
        let side = match from {
            ActorId::Dialog(side) => *side,
            // A call that is turned away has no dialog.
            ActorId::Call(key) if is_here => key.side(CALLER),
            ActorId::Call(_)
            | ActorId::Registration(_)
            | ActorId::MediaLeg(_)
            | ActorId::Gateway(_)
            | ActorId::Parking(_)
            | ActorId::Flow(..)
            | ActorId::DoorSession(..)
            | ActorId::Lane(..)
            | ActorId::Console(_)
            | ActorId::Member(_) => return ctx.ignore("nobody who has something to say"),
        };
        if !is_here {
            return ctx.tell(from.clone(), message::gone(from, delivery.flow));
        }
        if self.is_resuming() && self.held.len() < HELD_MAX {
            self.calls.insert(delivery.name.clone(), side);
            return self.held.push_back(delivery);
        }
        self.say(side, &delivery, ctx);
    }

    pub(super) fn say(&mut self, side: SideKey, delivery: &Delivery, ctx: &mut Context<'_>) {
        if delivery.is_last {
            self.calls.remove(&delivery.name);
        } else {
            self.calls.insert(delivery.name.clone(), side);
        }
        match &delivery.about {
            About::Reply(id) => self.reply(id.as_deref(), &delivery.message, ctx),
            About::News => self.start(None, &delivery.message, ctx),
            About::Numbered(number) => {
                if self.acks.len() >= ACKS_MAX {
                    self.acks.pop_front();
                }
                self.acks.push_back((*number, side));
                self.start(Some(*number), &delivery.message, ctx);
            }
        }
    }

    fn on_message(&mut self, from: &ActorId, message: Message, ctx: &mut Context<'_>) {
        match message {
            Message::Deliver(delivery) => self.on_delivery(from, *delivery, ctx),
            Message::Watch { watcher, flow } => self.on_watch(watcher, flow, ctx),
            Message::Bound { expires_s } => self.on_bound(expires_s, ctx),
            Message::Unbound => self.on_unbound(ctx),
            Message::Refused { status, why } => self.on_refused(status, &why, ctx),
            Message::Replaced { flow } if self.flow == Some(flow) => self.on_replaced(ctx),
            Message::Replaced { .. } => ctx.ignore("another connection is meant"),
            Message::CallState { name, state } => self.on_call_state(name, state, ctx),
            Message::IsSet { echo, result } => self.on_set(&echo, result, ctx),
        }
    }

    fn on_watch(&mut self, watcher: ActorId, flow: FlowRef, ctx: &mut Context<'_>) {
        let is_here = self.flow == Some(flow) && self.state != State::Closing;
        if !is_here {
            let gone = message::gone(&watcher, flow);
            ctx.tell(watcher, gone);
        } else if self.watchers.len() < FLOW_WATCHERS_MAX {
            self.watchers.insert(watcher);
        } else {
            ctx.ignore("too many watchers");
        }
    }

    fn on_replaced(&mut self, ctx: &mut Context<'_>) {
        if let Some(who) = &self.who {
            let dn = who.aor.to_string();
            self.start(None, &ServerMessage::Replaced { dn }, ctx);
        }
        self.close(CloseCode::Normal, "replaced", ctx);
    }

    fn on_timer(&mut self, timer: Timer, ctx: &mut Context<'_>) {
        self.deadlines.clear(timer);
        match timer {
            Timer::Register => self.close(CloseCode::Policy, "nobody registered", ctx),
            Timer::Answer => self.on_no_answer(ctx),
            Timer::Expiring => self.on_expiring(ctx),
            Timer::Expired => self.on_expired(ctx),
            Timer::Retell => {
                for (to, message) in std::mem::take(&mut self.retells) {
                    ctx.tell(to, message);
                }
            }
        }
    }

    fn on_undelivered(
        &mut self,
        to: ActorId,
        message: crate::Message,
        why: Undelivered,
        ctx: &mut Context<'_>,
    ) {
        // New work that the node sheds is refused at once, and how far a call is is asked again in any
        // case; all else finds room soon.
        let is_new_work = matches!(
            &message,
            crate::Message::Registration(registration::Message::Bind { .. })
                | crate::Message::Call(call::Message::Dial(_))
        );
        let is_asked_again = matches!(
            &message,
            crate::Message::Dialog(dialog::Message::Client(order))
                if order.command == dialog::ClientCommand::Inquire
        );
        let is_told_once = is_new_work || is_asked_again;
        if why == Undelivered::Busy && !is_told_once && self.retells.len() < RETELLS_MAX {
            self.retells.push_back((to, message));
            return self
                .deadlines
                .set(Timer::Retell, ctx.now().mono, RETELL_AFTER);
        }
        match message {
            crate::Message::Registration(registration::Message::Set(set)) => {
                self.on_not_set(&set, why, ctx);
            }
            crate::Message::Registration(_) => self.on_no_registration(why, ctx),
            crate::Message::Call(call::Message::Dial(dial)) => {
                let (code, text) = match why {
                    Undelivered::Busy => (503, "too much to do"),
                    Undelivered::Absent => (410, "that call is over"),
                };
                self.calls.remove(&dial.name);
                self.error(dial.request.as_deref(), code, text, ctx);
            }
            crate::Message::Dialog(dialog::Message::Client(order)) => {
                self.on_no_dialog(*order, why, ctx);
            }
            crate::Message::Call(_)
            | crate::Message::Dialog(_)
            | crate::Message::MediaLeg(_)
            | crate::Message::Flow(_)
            | crate::Message::DoorSession(_)
            | crate::Message::Lane(_)
            | crate::Message::Console(_)
            | crate::Message::Member(_)
            | crate::Message::Parking(_) => ctx.ignore("nobody needs it"),
        }
    }

    /// Tells everybody who may wait for this connection, and ends.
    fn on_closed(&mut self, ctx: &mut Context<'_>) {
        self.enter(State::Closing, ctx);
        if let Some(flow) = self.flow {
            for watcher in std::mem::take(&mut self.watchers) {
                let gone = message::gone(&watcher, flow);
                ctx.tell(watcher, gone);
            }
        }
        ctx.act(Action::Stop {
            id: ctx.me().clone(),
        });
    }

    fn on_opened(&mut self, flow: FlowRef, ctx: &mut Context<'_>) {
        if self.state != State::New {
            return ctx.ignore("open already");
        }
        self.flow = Some(flow);
        self.number = first_number(ctx.rng().next_u64());
        self.enter(State::Open, ctx);
    }
}

impl Default for DoorSession {
    fn default() -> Self {
        Self::new()
    }
}

impl Core for DoorSession {
    type Event = Event<Message, Timer, crate::Message>;
    type Message = crate::Message;
    type Timer = Timer;
    type Snapshot = Snapshot;
    type Site = Site;

    fn handle(&mut self, event: Self::Event, ctx: &mut Context<'_>) {
        let is_read = matches!(self.state, State::Open | State::Registered);
        match event {
            Event::Opened { flow } => self.on_opened(flow, ctx),
            Event::Bytes(frame) if is_read => self.on_frame(&frame, ctx),
            Event::Bytes(_) => ctx.ignore("closing"),
            Event::Closed { .. } => self.on_closed(ctx),
            Event::Message { from, message } => self.on_message(&from, message, ctx),
            Event::Timer(timer) => self.on_timer(timer, ctx),
            Event::Undelivered { to, message, why } => self.on_undelivered(to, message, why, ctx),
            Event::Datagram { .. }
            | Event::Media(_)
            | Event::Answer { .. }
            | Event::ChildLost { .. }
            | Event::Restored(_) => ctx.ignore("not for a session"),
        }
    }

    fn next_deadline(&self) -> Option<(Time, Timer)> {
        self.deadlines.next()
    }

    fn snapshot(&self, _now: Now) -> Snapshot {
        Snapshot {
            state: self.state(),
            flow: self.flow.map(|flow| flow.to_string()),
            aor: self.who.as_ref().map(|who| who.aor.to_string()),
            instance: self.who.as_ref().map(|who| who.instance.clone()),
            messages: self.messages,
            seq: self.seq,
            calls: self.calls.keys().cloned().collect(),
        }
    }

    fn restore(_snapshot: Snapshot, _now: Now) -> Result<Self, RestoreError> {
        Err(RestoreError {
            what: "door session",
            why: "a connection has no record".to_owned(),
        })
    }
}
