//! The transitions of a registration.

use std::collections::VecDeque;
use std::time::Duration;

use contract::limits::{BINDINGS_PER_AOR, GROUP_RING_S_MAX, RINGING_CALLS_MAX};
use contract::{
    Action, ActorId, BindingNews, CallKey, Core, Ctx, Emitted, Event, FlowRef, NodeId, Now,
    RestoreError, Store, Time,
};
use rsip::Transport;
use sip::Aor;

use super::answer::{Asker, refuse};
use super::bind::{self, Client};
use super::binding::Binding;
use super::past::{Cause, Key, Past, Term};
use super::register::{self, Known, Outcome, Refusal};
use super::settings::{Kept, Settings};
use super::stamp::Stamp;
use super::watching::Watching;
use super::{Message, Snapshot, snapshot};
use crate::{Inbound, Site, call, dialog, door_session, flow};

/// All bindings of one AoR.
#[derive(Clone, Debug)]
pub struct Registration {
    pub(super) aor: Aor,
    pub(super) bindings: Vec<Binding>,
    pub(super) past: Past,
    /// The latest stamp that was seen here, but for those of the bindings.
    pub(super) clock: Stamp,
    pub(super) watching: Watching,
    /// Which calls have looked for it: not stored. Bound: `RINGING_CALLS_MAX`.
    pub(super) callers: VecDeque<Caller>,
    /// What the user has set, if it ever has.
    pub(super) settings: Option<Kept>,
    /// The calls that the user may be in, if it wants none beside another: the first known first. Bound:
    /// `ENGAGED_CALLS_MAX`.
    pub(super) engaged: Vec<CallKey>,
}

/// Names of its deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The binding that ends first ends.
    Expire,
    /// Nothing is bound, and nothing needs to be remembered any more.
    Forget,
    /// Connections are asked about once more.
    Watch,
}

/// Quiet time after which a registration is only its record.
const QUIET: Duration = Duration::from_secs(2);

/// How much longer than phones ring a call may do so that has looked for it: it is asked where they are again
/// and again, or goes on at another node.
const RINGS_LONGER: Duration = Duration::from_secs(45);

/// A call that has looked for a user. While it may ring it is remembered, and the actor stays.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    call: CallKey,
    since: Time,
    rings: Duration,
}

/// What a JSON client wants.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Bind { expires_s: Option<u32> },
    Resume,
    Unbind,
}

pub(super) type Context<'a> = Ctx<'a, crate::Message, Site>;

impl Registration {
    /// Starts the registration of an AoR: a REGISTER does, and a user who sets something.
    #[must_use]
    pub fn create(aor: &str, message: &Message, _site: &Site) -> Option<Self> {
        match message {
            Message::Register(_)
            | Message::Bind { .. }
            | Message::Merge { .. }
            | Message::Set { .. } => {
                let aor = aor.parse().ok()?;
                let (past, clock) = (Past::default(), Stamp::default());
                Some(Registration::known(aor, Vec::new(), past, clock))
            }
            Message::Resume { .. }
            | Message::Unbind { .. }
            | Message::Locate { .. }
            | Message::WhoCalls { .. }
            | Message::FlowGone { .. }
            | Message::InCall { .. }
            | Message::Clear => None,
        }
    }

    /// Puts one together.
    pub(super) fn known(aor: Aor, bindings: Vec<Binding>, past: Past, clock: Stamp) -> Self {
        let watching = Watching::default();
        Registration {
            aor,
            bindings,
            past,
            clock,
            watching,
            callers: VecDeque::new(),
            settings: None,
            engaged: Vec::new(),
        }
    }

    /// Returns the latest stamp that was seen here.
    pub(super) fn clock(&self) -> Stamp {
        let bindings = self.bindings.iter().map(|one| one.stamp);
        let settings = self.settings.iter().map(|one| one.stamp);
        bindings.chain(settings).fold(self.clock, Stamp::max)
    }

    /// Returns the state in a few words.
    #[must_use]
    pub fn state(&self) -> String {
        match self.bindings.len() {
            0 => "empty".to_owned(),
            1 => "1 binding".to_owned(),
            count => format!("{count} bindings"),
        }
    }

    /// Returns the quiet time after which it may passivate.
    #[must_use]
    pub fn passivates_after(&self) -> Option<Duration> {
        let ringing = self.callers.iter().map(|caller| caller.rings);
        Some(ringing.max().unwrap_or(QUIET))
    }

    fn on_message(&mut self, from: &ActorId, message: Message, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        self.callers
            .retain(|caller| now.since(caller.since) < caller.rings);
        match message {
            Message::Register(inbound) => self.on_register(from, &inbound, ctx),
            Message::Bind { client, expires_s } => {
                self.on_client(&client, Wish::Bind { expires_s }, ctx);
            }
            Message::Resume { client } => self.on_client(&client, Wish::Resume, ctx),
            Message::Unbind { client } => self.on_client(&client, Wish::Unbind, ctx),
            Message::Locate { reply } => self.on_locate(reply, ctx),
            Message::WhoCalls { reply } => self.on_who_calls(reply, ctx),
            Message::InCall { call, is_in } => self.on_in_call(call, is_in, ctx),
            Message::FlowGone { flow } => self.on_flow_gone(flow, ctx),
            Message::Clear => self.on_clear(ctx),
            Message::Set(set) => self.on_set(*set, ctx),
            Message::Merge { copy } => self.on_merge(&copy, ctx),
        }
    }

    fn on_register(&mut self, from: &ActorId, inbound: &Inbound, ctx: &mut Context<'_>) {
        let asker = Asker::new(from, inbound, ctx.site().node);
        if inbound.identity.as_ref() != Some(&self.aor) {
            let refusal = register::refusal(403, "another's AoR");
            return refuse(&asker, refusal, ctx);
        }
        self.drop_expired(ctx);
        let known = self.plan_with(inbound.flow, ctx);
        let stamp = known.stamp;
        match register::plan(inbound, &known) {
            Ok(outcome) => self.accept(&asker, outcome, stamp, ctx),
            Err(refusal) => refuse(&asker, refusal, ctx),
        }
    }

    fn drop_expired(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        if self.bindings.iter().any(|one| one.is_expired(now)) {
            self.on_expire(ctx);
        }
    }

    /// Returns what plans are made from.
    fn plan_with<'k>(&'k self, flow: FlowRef, ctx: &Context<'k>) -> Known<'k> {
        let site = ctx.site();
        let listener = site.listener(flow.listener());
        let account = site.account(&self.aor);
        Known {
            bindings: &self.bindings,
            limits: &site.limits,
            max_contacts: account.map_or(BINDINGS_PER_AOR, |account| account.max_contacts),
            health: ctx.health(),
            now: ctx.now().mono,
            stamp: self.clock().next(ctx.now().utc, site.node),
            nat: listener.is_some_and(|one| one.nat),
            is_websocket: listener
                .is_some_and(|one| matches!(one.transport, Transport::Ws | Transport::Wss)),
        }
    }

    /// A JSON client registers, comes back or leaves.
    fn on_client(&mut self, client: &Client, wish: Wish, ctx: &mut Context<'_>) {
        self.drop_expired(ctx);
        let known = self.plan_with(client.flow, ctx);
        let stamp = known.stamp;
        let planned = match wish {
            Wish::Bind { expires_s } => bind::bind(&self.aor, client, expires_s, &known),
            Wish::Resume => bind::resume(client, &known),
            Wish::Unbind => Ok(bind::unbind(client, &known)),
        };
        let outcome = match planned {
            Ok(outcome) => outcome,
            Err(Refusal { status, why }) => {
                let method = "REGISTER".to_owned();
                ctx.act(Action::Emit(Emitted::Refused {
                    method,
                    status,
                    why,
                }));
                let why = why.to_owned();
                let refused = door_session::Message::Refused { status, why };
                return ctx.tell(client.reply.clone(), refused.into());
            }
        };
        let before = bind::find(&self.bindings, client).map(|one| (one.flow, one.unreachable));
        let (was_empty, news) = (self.is_empty(), outcome.news.clone());
        if self.adopt(outcome, (&client.instance, 0), stamp, ctx) {
            self.record(was_empty, true, ctx);
        }
        self.answer_client(client, ctx);
        if let Some((flow, is_gone)) = before.filter(|(flow, _)| *flow != client.flow)
            && let Some(actor) = flow.actor()
            // One of another node may only have been out of reach.
            && !(is_gone && is_of_node(flow, ctx.site().node))
        {
            ctx.tell(actor, door_session::Message::Replaced { flow }.into());
        }
        for (what, contact) in news {
            self.emit(what, contact, ctx);
        }
    }

    fn answer_client(&self, client: &Client, ctx: &mut Context<'_>) {
        let Some(binding) = bind::find(&self.bindings, client) else {
            return ctx.tell(client.reply.clone(), door_session::Message::Unbound.into());
        };
        let remaining = binding.remaining_s(ctx.now().mono);
        let bound = door_session::Message::Bound {
            expires_s: u32::try_from(remaining).unwrap_or(u32::MAX),
        };
        ctx.tell(client.reply.clone(), bound.into());
        self.watch(client.flow, ctx);
    }

    /// Takes over the planned bindings: safe on disk first, then the 200 that tells of them.
    fn accept(&mut self, asker: &Asker<'_>, outcome: Outcome, stamp: Stamp, ctx: &mut Context<'_>) {
        let inbound = asker.inbound;
        let (was_empty, news) = (self.is_empty(), outcome.news.clone());
        let call_id = inbound.request.call_id().unwrap_or_default();
        let cseq = inbound.request.cseq().map_or(0, |cseq| cseq.number);
        if !self.adopt(outcome, (call_id, cseq), stamp, ctx) {
            return self.answer(asker, ctx);
        }
        self.record(was_empty, true, ctx);
        self.answer(asker, ctx);
        for (what, contact) in news {
            self.emit(what, contact, ctx);
        }
        if self.bindings.iter().any(|one| one.flow == inbound.flow) {
            self.watch(inbound.flow, ctx);
        }
    }

    /// Takes over bindings, and remembers what went; tells whether that must be safe first.
    fn adopt(
        &mut self,
        outcome: Outcome,
        (call_id, cseq): (&str, u32),
        stamp: Stamp,
        ctx: &Context<'_>,
    ) -> bool {
        let before = std::mem::replace(&mut self.bindings, outcome.bindings);
        let is_remembered = ctx.site().cluster.is_some();
        let is_durable = outcome.is_durable || (is_remembered && !outcome.removes.is_empty());
        if is_durable {
            self.clock = stamp;
        }
        if is_durable && is_remembered {
            let cause = Cause {
                call_id,
                cseq,
                stamp,
                removes: &outcome.removes,
                keep: Term::new(ctx.now().mono, longest(ctx.site())),
            };
            self.past.note(&before, &mut self.bindings, &cause);
        }
        is_durable
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.past.is_empty() && self.settings.is_none()
    }

    /// Records the bindings; without any, and nothing to remember, the record ends.
    pub(super) fn record(&mut self, was_empty: bool, gate: bool, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        self.past.forget(now);
        self.settings.take_if(|kept| kept.is_over(now));
        if !self.is_empty() {
            ctx.act(Action::Store(Store::Put { gate }));
        } else if !was_empty {
            let keep = longest(ctx.site());
            ctx.act(Action::Store(Store::End { gate, keep }));
        }
    }

    fn on_locate(&mut self, reply: ActorId, ctx: &mut Context<'_>) {
        self.ask_unreachable(ctx);
        let now = ctx.now().mono;
        let mut engaged = Vec::new();
        if let ActorId::Call(call) = reply {
            self.note_caller(call, ctx);
            engaged = self.engage(call, ctx);
        }
        let mut found: Vec<&Binding> = self
            .bindings
            .iter()
            .filter(|one| !one.is_expired(now))
            .collect();
        found.sort_by_key(|one| {
            (
                std::cmp::Reverse(one.target().q),
                std::cmp::Reverse(one.stamp),
            )
        });
        let targets = found.into_iter().map(Binding::target).collect();
        let aor = self.aor.clone();
        let set = self.settings.as_ref().map(|kept| &kept.settings);
        let located: crate::Message = match set.filter(|set| **set != Settings::default()) {
            _ if matches!(reply, ActorId::Dialog(_)) => dialog::Message::Located { targets }.into(),
            Some(set) => call::Message::LocatedAs {
                aor,
                targets,
                settings: Box::new(set.clone()),
                engaged,
            }
            .into(),
            None => call::Message::Located { aor, targets }.into(),
        };
        ctx.tell(reply, located);
    }

    /// A call looks for the user, perhaps once more.
    fn note_caller(&mut self, call: CallKey, ctx: &Context<'_>) {
        if self.callers.iter().any(|known| known.call == call) {
            return;
        }
        let longest = Duration::from_secs(GROUP_RING_S_MAX.into());
        let rings = ctx.site().limits.ring_timeout.max(longest) + RINGS_LONGER;
        if self.callers.len() >= RINGING_CALLS_MAX {
            self.callers.pop_front();
        }
        let since = ctx.now().mono;
        self.callers.push_back(Caller { call, since, rings });
    }

    fn on_who_calls(&mut self, reply: ActorId, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        let age = |caller: &Caller| {
            let age = now.since(caller.since).as_millis();
            (caller.call, u32::try_from(age).unwrap_or(u32::MAX))
        };
        let calls = self.callers.iter().map(age).collect();
        let aor = self.aor.clone();
        ctx.tell(reply, call::Message::WhoCalls { aor, calls }.into());
    }

    fn on_clear(&mut self, ctx: &mut Context<'_>) {
        if self.bindings.is_empty() {
            return ctx.ignore("nothing to clear");
        }
        let stamp = self.clock().next(ctx.now().utc, ctx.site().node);
        let news = self.bindings.iter();
        let outcome = Outcome {
            bindings: Vec::new(),
            news: news
                .map(|one| (BindingNews::Removed, one.contact.to_string()))
                .collect(),
            removes: vec![Key::All],
            is_durable: true,
        };
        let news = outcome.news.clone();
        self.adopt(outcome, ("", 0), stamp, ctx);
        self.record(false, true, ctx);
        for (what, contact) in news {
            self.emit(what, contact, ctx);
        }
    }

    fn on_expire(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        let clock = self.clock();
        let (due, kept): (Vec<Binding>, Vec<Binding>) =
            self.bindings.drain(..).partition(|one| one.is_expired(now));
        self.bindings = kept;
        if due.is_empty() {
            return ctx.ignore("nothing is due");
        }
        self.clock = clock;
        for binding in due.iter().filter(|one| one.until.at > now) {
            self.past.void(binding);
        }
        self.record(false, false, ctx);
        for binding in due {
            self.emit(BindingNews::Expired, binding.contact.to_string(), ctx);
        }
    }

    /// Nothing is bound, and nothing is left to remember.
    fn on_forget(&mut self, ctx: &mut Context<'_>) {
        if !self.is_empty() {
            self.record(false, false, ctx);
        }
    }

    fn emit(&self, news: BindingNews, contact: String, ctx: &mut Context<'_>) {
        let aor = self.aor.to_string();
        ctx.act(Action::Emit(Emitted::Registration { aor, news, contact }));
    }
}

impl Core for Registration {
    type Event = Event<Message, Timer, crate::Message>;
    type Message = crate::Message;
    type Timer = Timer;
    type Snapshot = Snapshot;
    type Site = Site;

    fn handle(&mut self, event: Self::Event, ctx: &mut Context<'_>) {
        match event {
            Event::Message { from, message } => self.on_message(&from, message, ctx),
            Event::Timer(Timer::Expire) => self.on_expire(ctx),
            Event::Timer(Timer::Forget) => self.on_forget(ctx),
            Event::Timer(Timer::Watch) => self.on_watch_due(ctx),
            Event::Undelivered {
                message:
                    crate::Message::Flow(flow::Message::Watch { flow, .. })
                    | crate::Message::DoorSession(door_session::Message::Watch { flow, .. }),
                why,
                ..
            } => self.on_unwatched(flow, why, ctx),
            Event::Restored(why) => self.on_restored(why, ctx),
            Event::Undelivered { .. } => ctx.ignore("the asker is gone"),
            Event::Datagram { .. }
            | Event::Opened { .. }
            | Event::Bytes(_)
            | Event::Closed { .. }
            | Event::Media(_)
            | Event::Answer { .. }
            | Event::ChildLost { .. } => ctx.ignore("nothing a registration asked for"),
        }
    }

    fn next_deadline(&self) -> Option<(Time, Timer)> {
        let expire = self.bindings.iter().map(|one| one.expires).min();
        let past = self.past.end().filter(|_| self.bindings.is_empty());
        let set = self.settings.as_ref().and_then(|kept| kept.until);
        let forget = past.into_iter().chain(set.map(|until| until.at)).min();
        let expire = expire.map(|at| (at, Timer::Expire));
        let forget = forget.map(|at| (at, Timer::Forget));
        let watch = self.watching.due().map(|at| (at, Timer::Watch));
        expire.into_iter().chain(forget).chain(watch).min()
    }

    fn snapshot(&self, now: Now) -> Snapshot {
        snapshot::take(self, now)
    }

    fn restore(snapshot: Snapshot, now: Now) -> Result<Self, RestoreError> {
        snapshot::restore(snapshot, now)
    }
}

/// Tells whether a connection ends at a node.
pub(super) fn is_of_node(flow: FlowRef, own: NodeId) -> bool {
    matches!(flow, FlowRef::Stream { node, .. } if node == own)
}

/// Returns the longest that a binding may live on any node.
pub(super) fn longest(site: &Site) -> Duration {
    site.limits.expires_max.max(Duration::from_secs(3_600))
}
