//! The transitions of a registration.

use std::time::Duration;

use contract::limits::BINDINGS_PER_AOR;
use contract::{
    Action, ActorId, Core, Ctx, Emitted, Event, FlowRef, Now, RestoreError, Restored, Store, Time,
};
use sip::{Aor, HeaderName, Writer};

use super::binding::Binding;
use super::register::{self, Known, Outcome, Refusal};
use super::{Message, Snapshot, snapshot};
use crate::{Inbound, Site, call, dialog, flow, lane};

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

type Context<'a> = Ctx<'a, crate::Message, Site>;

impl Registration {
    /// Starts the registration of an AoR; only a REGISTER does.
    #[must_use]
    pub fn create(aor: &str, message: &Message, _site: &Site) -> Option<Self> {
        match message {
            Message::Register(_) => {
                let aor = aor.parse().ok()?;
                Some(Registration {
                    aor,
                    bindings: Vec::new(),
                    order: 0,
                })
            }
            Message::Locate { .. } | Message::FlowGone { .. } | Message::Clear => None,
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
        if self
            .bindings
            .iter()
            .any(|one| one.is_expired(ctx.now().mono))
        {
            self.on_expire(ctx);
        }
        let account = ctx.site().account(&self.aor);
        let known = Known {
            bindings: &self.bindings,
            limits: &ctx.site().limits,
            max_contacts: account.map_or(BINDINGS_PER_AOR, |account| account.max_contacts),
            health: ctx.health(),
            now: ctx.now().mono,
            order: self.order + 1,
            nat: (ctx.site().listener(inbound.flow.listener())).is_some_and(|one| one.nat),
        };
        match register::plan(inbound, &known) {
            Ok(outcome) => self.accept(inbound, outcome, ctx),
            Err(refusal) => refuse(inbound, refusal, ctx),
        }
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
        if let Some(actor) = flow.actor() {
            let watch = flow::Message::Watch {
                watcher: ctx.me().clone(),
                flow,
            };
            ctx.tell(actor, watch.into());
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
            Event::Message {
                message: Message::Register(inbound),
                ..
            } => {
                self.on_register(&inbound, ctx);
            }
            Event::Message {
                message: Message::Locate { reply },
                ..
            } => {
                self.on_locate(reply, ctx);
            }
            Event::Message {
                message: Message::FlowGone { flow },
                ..
            } => {
                self.on_flow_gone(flow, ctx);
            }
            Event::Message {
                message: Message::Clear,
                ..
            } => self.on_clear(ctx),
            Event::Timer(Timer::Expire) => self.on_expire(ctx),
            Event::Undelivered {
                message: crate::Message::Flow(flow::Message::Watch { flow, .. }),
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
