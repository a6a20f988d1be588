//! The transitions of a registration.

use std::time::Duration;

use contract::limits::BINDINGS_PER_AOR;
use contract::{
    Action, ActorId, Core, Ctx, Emitted, Event, FlowRef, Now, RestoreError, Restored, Store, Time,
};
use rsip::Transport;
use sip::{Aor, HeaderName, Writer};

use super::bind::{self, Client};
use super::binding::Binding;
use super::register::{self, Known, Outcome, Refusal};
use super::{Message, Snapshot, snapshot};
use crate::{Inbound, Site, call, dialog, door_session, flow, lane, message};

/// All bindings of one AoR.
#[derive(Clone, Debug)]
pub struct Registration {
    pub(super) aor: Aor,
    pub(super) bindings: Vec<Binding>,
    pub(super) order: u64,
}

/// Names of its deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The binding that ends first ends.
    Expire,
}

/// Quiet time after which a registration is only its record.
const QUIET: Duration = Duration::from_secs(2);

/// Seconds after which a phone that was turned away for lack of room may come back; up to as many
/// again are added by chance, so that not all come at once.
const RETRY_AFTER_S: u32 = 10;

/// What a JSON client wants.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Bind { expires_s: Option<u32> },
    Resume,
    Unbind,
}

type Context<'a> = Ctx<'a, crate::Message, Site>;

impl Registration {
    /// Starts the registration of an AoR; only a REGISTER does.
    #[must_use]
    pub fn create(aor: &str, message: &Message, _site: &Site) -> Option<Self> {
        match message {
            Message::Register(_) | Message::Bind { .. } => {
                let aor = aor.parse().ok()?;
                Some(Registration {
                    aor,
                    bindings: Vec::new(),
                    order: 0,
                })
            }
            Message::Resume { .. }
            | Message::Unbind { .. }
            | Message::Locate { .. }
            | Message::FlowGone { .. }
            | Message::Clear => None,
        }
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
    pub const fn passivates_after(&self) -> Option<Duration> {
        Some(QUIET)
    }

    fn on_message(&mut self, message: Message, ctx: &mut Context<'_>) {
        match message {
            Message::Register(inbound) => self.on_register(&inbound, ctx),
            Message::Bind { client, expires_s } => {
                self.on_client(&client, Wish::Bind { expires_s }, ctx);
            }
            Message::Resume { client } => self.on_client(&client, Wish::Resume, ctx),
            Message::Unbind { client } => self.on_client(&client, Wish::Unbind, ctx),
            Message::Locate { reply } => self.on_locate(reply, ctx),
            Message::FlowGone { flow } => self.on_flow_gone(flow, ctx),
            Message::Clear => self.on_clear(ctx),
        }
    }

    fn on_register(&mut self, inbound: &Inbound, ctx: &mut Context<'_>) {
        if inbound.identity.as_ref() != Some(&self.aor) {
            return refuse(
                inbound,
                Refusal {
                    status: 403,
                    why: "another's AoR",
                },
                ctx,
            );
        }
        self.drop_expired(ctx);
        let known = self.known(inbound.flow, ctx);
        match register::plan(inbound, &known) {
            Ok(outcome) => self.accept(inbound, outcome, ctx),
            Err(refusal) => refuse(inbound, refusal, ctx),
        }
    }

    fn drop_expired(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        if self.bindings.iter().any(|one| one.is_expired(now)) {
            self.on_expire(ctx);
        }
    }

    /// Returns what plans are made from.
    fn known<'k>(&'k self, flow: FlowRef, ctx: &Context<'k>) -> Known<'k> {
        let site = ctx.site();
        let listener = site.listener(flow.listener());
        let account = site.account(&self.aor);
        Known {
            bindings: &self.bindings,
            limits: &site.limits,
            max_contacts: account.map_or(BINDINGS_PER_AOR, |account| account.max_contacts),
            health: ctx.health(),
            now: ctx.now().mono,
            order: self.order + 1,
            nat: listener.is_some_and(|one| one.nat),
            is_websocket: listener
                .is_some_and(|one| matches!(one.transport, Transport::Ws | Transport::Wss)),
        }
    }

    /// A JSON client registers, comes back or leaves.
    fn on_client(&mut self, client: &Client, wish: Wish, ctx: &mut Context<'_>) {
        self.drop_expired(ctx);
        let known = self.known(client.flow, ctx);
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
        let was_empty = self.bindings.is_empty();
        self.bindings = outcome.bindings;
        if outcome.is_durable {
            self.order += 1;
            self.record(was_empty, true, ctx);
        }
        self.answer_client(client, ctx);
        if let Some((flow, false)) = before.filter(|(flow, _)| *flow != client.flow)
            && let Some(actor) = flow.actor()
        {
            ctx.tell(actor, door_session::Message::Replaced { flow }.into());
        }
        for (what, contact) in outcome.news {
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
    fn accept(&mut self, inbound: &Inbound, outcome: Outcome, ctx: &mut Context<'_>) {
        let was_empty = self.bindings.is_empty();
        self.bindings = outcome.bindings;
        if !outcome.is_durable {
            return self.answer(inbound, ctx);
        }
        self.order += 1;
        // The planted bug: the phone is told before the binding is safe. The simulator must find it.
        if cfg!(feature = "planted") {
            self.answer(inbound, ctx);
            self.record(was_empty, true, ctx);
        } else {
            self.record(was_empty, true, ctx);
            self.answer(inbound, ctx);
        }
        for (what, contact) in outcome.news {
            self.emit(what, contact, ctx);
        }
        if self.bindings.iter().any(|one| one.flow == inbound.flow) {
            self.watch(inbound.flow, ctx);
        }
    }

    /// Records the bindings; without any the record ends.
    fn record(&self, was_empty: bool, gate: bool, ctx: &mut Context<'_>) {
        if !self.bindings.is_empty() {
            ctx.act(Action::Store(Store::Put { gate }));
        } else if !was_empty {
            let keep = ctx
                .site()
                .limits
                .expires_max
                .max(Duration::from_secs(3_600));
            ctx.act(Action::Store(Store::End { gate, keep }));
        }
    }

    /// Answers 200 with every binding (RFC 3261 §10.3 (8)).
    fn answer(&self, inbound: &Inbound, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        let mut writer = begin(inbound, 200, ctx);
        for binding in self.bindings.iter().filter(|one| !one.is_expired(now)) {
            writer.header(HeaderName::Contact, binding.header_value(now));
        }
        if inbound.request.lists(HeaderName::Supported, "path") {
            for path in inbound.request.headers(HeaderName::Path) {
                writer.header(HeaderName::Path, path);
            }
        }
        let is_outbound = self
            .bindings
            .iter()
            .any(|one| one.reg_id.is_some() && one.flow == inbound.flow);
        if is_outbound && inbound.request.lists(HeaderName::Supported, "outbound") {
            // RFC 5626 §6: tells the phone that its flow is used.
            writer.header(HeaderName::Require, "outbound");
        }
        writer.header(HeaderName::Supported, "path, outbound");
        send(inbound, writer, ctx);
    }

    /// Asks the connection's actor to tell of its end.
    fn watch(&self, flow: FlowRef, ctx: &mut Context<'_>) {
        if let Some((actor, watch)) = message::watch(flow, ctx.me().clone()) {
            ctx.tell(actor, watch);
        }
    }

    fn on_locate(&self, reply: ActorId, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        let mut found: Vec<&Binding> = self
            .bindings
            .iter()
            .filter(|one| !one.is_expired(now))
            .collect();
        found.sort_by_key(|one| {
            (
                std::cmp::Reverse(one.target().q),
                std::cmp::Reverse(one.order),
            )
        });
        let targets = found.into_iter().map(Binding::target).collect();
        let located: crate::Message = if matches!(reply, ActorId::Dialog(_)) {
            dialog::Message::Located { targets }.into()
        } else {
            let aor = self.aor.clone();
            call::Message::Located { aor, targets }.into()
        };
        ctx.tell(reply, located);
    }

    fn on_flow_gone(&mut self, flow: FlowRef, ctx: &mut Context<'_>) {
        let lost = self
            .bindings
            .iter_mut()
            .filter(|one| one.flow == flow && !one.unreachable);
        let mut is_changed = false;
        for binding in lost {
            binding.unreachable = true;
            is_changed = true;
        }
        if is_changed {
            ctx.store();
        } else {
            ctx.ignore("no binding over this flow");
        }
    }

    fn on_clear(&mut self, ctx: &mut Context<'_>) {
        let removed = std::mem::take(&mut self.bindings);
        if removed.is_empty() {
            return ctx.ignore("nothing to clear");
        }
        self.record(false, true, ctx);
        for binding in removed {
            self.emit("removed", binding.contact.to_string(), ctx);
        }
    }

    fn on_expire(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        let (due, kept): (Vec<Binding>, Vec<Binding>) =
            self.bindings.drain(..).partition(|one| one.is_expired(now));
        self.bindings = kept;
        if due.is_empty() {
            return ctx.ignore("nothing is due");
        }
        self.record(false, false, ctx);
        for binding in due {
            self.emit("expired", binding.contact.to_string(), ctx);
        }
    }

    fn on_restored(&mut self, why: Restored, ctx: &mut Context<'_>) {
        match why {
            Restored::NodeStart => {
                let mut is_changed = false;
                for binding in self
                    .bindings
                    .iter_mut()
                    .filter(|one| one.flow.is_reliable())
                {
                    is_changed |= !std::mem::replace(&mut binding.unreachable, true);
                }
                if is_changed {
                    ctx.store();
                }
            }
            // A record from before the node's last start may name a connection that is another
            // one by now: its actor knows.
            Restored::Panic | Restored::Wake => {
                for binding in self.bindings.iter().filter(|one| !one.unreachable) {
                    self.watch(binding.flow, ctx);
                }
            }
        }
    }

    fn emit(&self, what: &'static str, contact: String, ctx: &mut Context<'_>) {
        let aor = self.aor.to_string();
        ctx.act(Action::Emit(Emitted::Registration { aor, what, contact }));
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
            Event::Message { message, .. } => self.on_message(message, ctx),
            Event::Timer(Timer::Expire) => self.on_expire(ctx),
            Event::Undelivered {
                message:
                    crate::Message::Flow(flow::Message::Watch { flow, .. })
                    | crate::Message::DoorSession(door_session::Message::Watch { flow, .. }),
                ..
            } => self.on_flow_gone(flow, ctx),
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
        self.bindings
            .iter()
            .map(|one| one.expires)
            .min()
            .map(|at| (at, Timer::Expire))
    }

    fn snapshot(&self, now: Now) -> Snapshot {
        snapshot::take(self, now)
    }

    fn restore(snapshot: Snapshot, now: Now) -> Result<Self, RestoreError> {
        snapshot::restore(snapshot, now)
    }
}

fn begin(inbound: &Inbound, status: u16, ctx: &mut Context<'_>) -> Writer {
    let tag = format!("{:016x}", ctx.rng().next_u64());
    let mut writer = sip::respond(&inbound.request, status, Some(&tag));
    writer.header(HeaderName::Server, &ctx.site().product);
    writer
}

fn refuse(inbound: &Inbound, refusal: Refusal, ctx: &mut Context<'_>) {
    let Refusal { status, why } = refusal;
    let mut writer = begin(inbound, status, ctx);
    if status == 423 {
        writer.header(
            HeaderName::MinExpires,
            ctx.site().limits.expires_min.as_secs(),
        );
    }
    if status == 503 {
        let after_s = RETRY_AFTER_S + ctx.rng().below(RETRY_AFTER_S);
        writer.header(HeaderName::RetryAfter, after_s);
    }
    let method = "REGISTER".to_owned();
    ctx.act(Action::Emit(Emitted::Refused {
        method,
        status,
        why,
    }));
    send(inbound, writer, ctx);
}

/// Hands the response to the lane that holds the transaction.
fn send(inbound: &Inbound, mut writer: Writer, ctx: &mut Context<'_>) {
    let node = ctx.site().node;
    match writer.finish() {
        Ok(response) => {
            let transaction = inbound.transaction.clone();
            let lane = ActorId::Lane(node, transaction.lane);
            let flow = inbound.flow;
            ctx.tell(
                lane,
                lane::Message::Respond {
                    transaction,
                    flow,
                    response,
                }
                .into(),
            );
        }
        Err(error) => tracing::debug!(%error, "a response was not written"),
    }
}
