//! The transitions of the console.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::limits::{API_WAIT_S, CONSOLE_PENDING_MAX, DETAIL_ROWS_MAX, PAGE_ROWS_MAX};
use contract::{
    Action, ActorId, ActorRow, ActorView, Answer, Core, Ctx, Event, Kind, Lookup, Now,
    RestoreError, Time,
};
use serde_json::{Value, json};
use sip::Aor;

use super::{Message, Page, Request, Snapshot, answer};
use crate::{Site, call, registration};

/// The inspector of a node.
#[derive(Debug, Default)]
pub struct Console {
    pending: BTreeMap<u64, Pending>,
    requests: u64,
}

/// A request that waits for the node.
#[derive(Debug)]
struct Pending {
    ticket: u64,
    due: Time,
    want: Want,
}

/// What is still to come.
#[derive(Debug)]
enum Want {
    Node,
    Rows {
        page: Page,
    },
    /// Rows first, then the actor of each.
    DetailRows {
        page: Page,
    },
    Details {
        page: Page,
        total: usize,
        rows: Vec<(ActorRow, Value)>,
        waiting: usize,
    },
    Actor,
    Trace,
    User {
        aor: Aor,
    },
    Stop {
        id: ActorId,
        epoch: Option<u64>,
    },
}

/// Names of its deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The oldest waiting request has waited long enough.
    Overdue,
}

/// Low bits of a token: which row of a page is asked for.
const ROW_BITS: u32 = 16;

type Context<'a> = Ctx<'a, crate::Message, Site>;

impl Console {
    /// Makes the console of a node that starts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the state in a few words.
    #[must_use]
    pub fn state(&self) -> String {
        format!("{} waiting", self.pending.len())
    }

    fn on_request(&mut self, ticket: u64, request: Request, ctx: &mut Context<'_>) {
        if self.pending.len() >= CONSOLE_PENDING_MAX {
            return refuse(ticket, 503, "too many requests wait for the node", ctx);
        }
        match request {
            Request::Nodes => self.ask(ticket, Want::Node, Lookup::Node, ctx),
            Request::Actors {
                kind,
                node,
                contains,
                page,
            } => {
                let page = bounded(page, PAGE_ROWS_MAX);
                if node
                    .as_deref()
                    .is_some_and(|node| !is_this(node, ctx.site()))
                {
                    return reply(ticket, 200, &answer::page(Vec::new(), 0, page), ctx);
                }
                self.ask(ticket, Want::Rows { page }, rows(kind, contains, page), ctx);
            }
            Request::Calls { contains, page } => {
                self.ask_details(ticket, Kind::Call, contains, page, ctx);
            }
            Request::Registrations { contains, page } => {
                self.ask_details(ticket, Kind::Registration, contains, page, ctx);
            }
            Request::Inspect { id } => self.ask(ticket, Want::Actor, Lookup::Actor { id }, ctx),
            Request::Trace { id } => self.ask(ticket, Want::Trace, Lookup::Trace { id }, ctx),
            Request::Stop { id, epoch } => {
                let want = Want::Stop {
                    id: id.clone(),
                    epoch,
                };
                self.ask(ticket, want, Lookup::Actor { id }, ctx);
            }
            Request::User { dn } => self.on_user(ticket, &dn, ctx),
            Request::Move { id, .. } => {
                let detail = format!("{id} cannot move: this node is alone");
                refuse(ticket, 501, &detail, ctx);
            }
        }
    }

    fn on_user(&mut self, ticket: u64, dn: &str, ctx: &mut Context<'_>) {
        let (user, host) = dn.rsplit_once('@').unwrap_or((dn, ""));
        let Some(aor) = ctx.site().aor(user, host) else {
            return refuse(ticket, 400, "no user part", ctx);
        };
        let id = ActorId::Registration(aor.as_str().into());
        self.ask(ticket, Want::User { aor }, Lookup::Actor { id }, ctx);
    }

    fn ask_details(
        &mut self,
        ticket: u64,
        kind: Kind,
        contains: Option<String>,
        page: Page,
        ctx: &mut Context<'_>,
    ) {
        let page = bounded(page, DETAIL_ROWS_MAX);
        self.ask(
            ticket,
            Want::DetailRows { page },
            rows(Some(kind), contains, page),
            ctx,
        );
    }

    fn ask(&mut self, ticket: u64, want: Want, what: Lookup, ctx: &mut Context<'_>) {
        self.requests += 1;
        let due = ctx.now().mono + Duration::from_secs(API_WAIT_S);
        self.pending
            .insert(self.requests, Pending { ticket, due, want });
        ctx.look_up(self.requests << ROW_BITS, what);
    }

    fn on_answer(&mut self, token: u64, answer: Answer, ctx: &mut Context<'_>) {
        let Some(pending) = self.pending.remove(&(token >> ROW_BITS)) else {
            return ctx.ignore("nobody waits for it");
        };
        let Pending { ticket, due, want } = pending;
        match (want, answer) {
            (Want::DetailRows { page }, Answer::Actors { rows, total }) => {
                let pending = Pending {
                    ticket,
                    due,
                    want: look_closer(page, total, rows),
                };
                self.ask_rows(token, pending, ctx);
            }
            (
                Want::Details {
                    page,
                    total,
                    rows,
                    waiting,
                },
                Answer::Actor(view),
            ) => {
                let want = Want::Details {
                    page,
                    total,
                    rows,
                    waiting,
                };
                self.on_detail(token, Pending { ticket, due, want }, view.as_deref(), ctx);
            }
            (want, answer) => tell_answer(ticket, want, answer, ctx),
        }
    }

    /// Asks for the actor of each row, or answers if there is none.
    fn ask_rows(&mut self, token: u64, pending: Pending, ctx: &mut Context<'_>) {
        let Want::Details {
            rows, page, total, ..
        } = &pending.want
        else {
            return;
        };
        if rows.is_empty() {
            return reply(
                pending.ticket,
                200,
                &answer::page(Vec::new(), *total, *page),
                ctx,
            );
        }
        for (number, (row, _)) in (0..).zip(rows) {
            ctx.look_up(token | number, Lookup::Actor { id: row.id.clone() });
        }
        self.pending.insert(token >> ROW_BITS, pending);
    }

    fn on_detail(
        &mut self,
        token: u64,
        mut pending: Pending,
        view: Option<&ActorView>,
        ctx: &mut Context<'_>,
    ) {
        let Want::Details {
            page,
            total,
            rows,
            waiting,
        } = &mut pending.want
        else {
            return;
        };
        let number = usize::try_from(token & ((1 << ROW_BITS) - 1)).unwrap_or(usize::MAX);
        if let (Some((_, snapshot)), Some(view)) = (rows.get_mut(number), view) {
            *snapshot = answer::snapshot(view);
        }
        *waiting = waiting.saturating_sub(1);
        if *waiting > 0 {
            self.pending.insert(token >> ROW_BITS, pending);
            return;
        }
        let node = ctx.site().name.clone();
        let items = rows.drain(..).map(|(row, snapshot)| {
            let mut item = answer::row(&row, &node);
            item["snapshot"] = snapshot;
            item
        });
        let list = answer::page(items.collect(), *total, *page);
        reply(pending.ticket, 200, &list, ctx);
    }

    fn on_overdue(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        let (due, kept) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, pending)| pending.due <= now);
        self.pending = kept;
        for pending in due.into_values() {
            refuse(pending.ticket, 504, "the node did not answer in time", ctx);
        }
    }
}

/// Returns the request for rows of a kind.
fn rows(kind: Option<Kind>, contains: Option<String>, page: Page) -> Lookup {
    Lookup::Actors {
        kind,
        contains,
        offset: page.offset,
        limit: page.limit,
    }
}

fn bounded(page: Page, most: usize) -> Page {
    Page {
        offset: page.offset,
        limit: page.limit.min(most),
    }
}

fn look_closer(page: Page, total: usize, rows: Vec<ActorRow>) -> Want {
    let rows: Vec<(ActorRow, Value)> = rows
        .into_iter()
        .take(DETAIL_ROWS_MAX)
        .map(|row| (row, Value::Null))
        .collect();
    let waiting = rows.len();
    Want::Details {
        page,
        total,
        rows,
        waiting,
    }
}

fn is_this(node: &str, site: &Site) -> bool {
    node == site.name || node == site.node.to_string()
}

/// Turns the node's one answer into the door's.
fn tell_answer(ticket: u64, want: Want, answer: Answer, ctx: &mut Context<'_>) {
    let node = ctx.site().name.clone();
    match (want, answer) {
        (Want::Node, Answer::Node(view)) => {
            let page = Page {
                offset: 0,
                limit: 1,
            };
            reply(
                ticket,
                200,
                &answer::page(vec![answer::node(&view)], 1, page),
                ctx,
            );
        }
        (Want::Rows { page }, Answer::Actors { rows, total }) => {
            let items = rows.iter().map(|row| answer::row(row, &node)).collect();
            reply(ticket, 200, &answer::page(items, total, page), ctx);
        }
        (Want::Actor, Answer::Actor(Some(view))) => {
            reply(ticket, 200, &answer::actor(&view, &node), ctx);
        }
        (Want::Trace, Answer::Trace(lines)) => {
            let total = lines.len();
            let items = lines.iter().map(|line| json!(line)).collect();
            let page = Page {
                offset: 0,
                limit: total,
            };
            reply(ticket, 200, &answer::page(items, total, page), ctx);
        }
        (Want::User { aor }, Answer::Actor(view)) => {
            tell_user(ticket, &aor, view.as_deref(), ctx);
        }
        (Want::Stop { id, epoch }, Answer::Actor(Some(view))) => {
            stop(ticket, id, epoch, &view, ctx);
        }
        (Want::Actor | Want::Stop { .. }, Answer::Actor(None)) => {
            refuse(ticket, 404, "no such actor", ctx);
        }
        (
            Want::Node
            | Want::Rows { .. }
            | Want::DetailRows { .. }
            | Want::Details { .. }
            | Want::Actor
            | Want::Trace
            | Want::User { .. }
            | Want::Stop { .. },
            _,
        ) => refuse(ticket, 503, "the node answered something else", ctx),
    }
}

fn tell_user(ticket: u64, aor: &Aor, view: Option<&ActorView>, ctx: &mut Context<'_>) {
    let account = ctx.site().account(aor);
    if account.is_none() && view.is_none() {
        return refuse(ticket, 404, "no such user", ctx);
    }
    let display = account.and_then(|account| account.display.clone());
    let is_known = account.is_some();
    let bindings = view.map(|view| answer::snapshot(view)["bindings"].clone());
    let bindings = bindings
        .filter(Value::is_array)
        .unwrap_or_else(|| json!([]));
    let is_registered = bindings.as_array().is_some_and(|list| !list.is_empty());
    let user = json!({
        "aor": aor,
        "account": is_known,
        "display": display,
        "registered": is_registered,
        "bindings": bindings,
    });
    reply(ticket, 200, &user, ctx);
}

/// Ends what can be ended: a call, or all bindings of an AoR.
fn stop(ticket: u64, id: ActorId, epoch: Option<u64>, view: &ActorView, ctx: &mut Context<'_>) {
    if epoch.is_some_and(|epoch| epoch != view.row.epoch) {
        return refuse(ticket, 409, "the actor has another epoch by now", ctx);
    }
    let order: crate::Message = match &id {
        ActorId::Call(_) => call::Message::Hangup {
            cause: "NORMAL_CLEARING".to_owned(),
        }
        .into(),
        ActorId::Registration(_) => registration::Message::Clear.into(),
        ActorId::Dialog(_)
        | ActorId::MediaLeg(_)
        | ActorId::Gateway(_)
        | ActorId::Flow(..)
        | ActorId::DoorSession(..)
        | ActorId::Lane(..)
        | ActorId::Console(_)
        | ActorId::Member(_) => {
            let detail = format!("a {} is not stopped by hand", id.kind().word());
            return refuse(ticket, 409, &detail, ctx);
        }
    };
    ctx.tell(id.clone(), order);
    reply(ticket, 202, &json!({ "stopping": id }), ctx);
}

fn reply(ticket: u64, status: u16, value: &Value, ctx: &mut Context<'_>) {
    ctx.act(Action::Http {
        ticket,
        status,
        body: answer::body(value),
    });
}

fn refuse(ticket: u64, status: u16, detail: &str, ctx: &mut Context<'_>) {
    reply(ticket, status, &answer::problem(status, detail), ctx);
}

impl Core for Console {
    type Event = Event<Message, Timer, crate::Message>;
    type Message = crate::Message;
    type Timer = Timer;
    type Snapshot = Snapshot;
    type Site = Site;

    fn handle(&mut self, event: Self::Event, ctx: &mut Context<'_>) {
        match event {
            Event::Message {
                message: Message::Request { ticket, request },
                ..
            } => {
                self.on_request(ticket, request, ctx);
            }
            Event::Answer { token, answer } => self.on_answer(token, answer, ctx),
            Event::Timer(Timer::Overdue) => self.on_overdue(ctx),
            Event::Undelivered { .. } => ctx.ignore("it ended meanwhile"),
            Event::Datagram { .. }
            | Event::Opened { .. }
            | Event::Bytes(_)
            | Event::Closed { .. }
            | Event::Media(_)
            | Event::ChildLost { .. }
            | Event::Restored(_) => ctx.ignore("nothing a console asked for"),
        }
    }

    fn next_deadline(&self) -> Option<(Time, Timer)> {
        self.pending
            .values()
            .map(|pending| (pending.due, Timer::Overdue))
            .min()
    }

    fn snapshot(&self, _now: Now) -> Snapshot {
        Snapshot {
            waiting: self
                .pending
                .values()
                .map(|pending| pending.ticket)
                .collect(),
            requests: self.requests,
        }
    }

    fn restore(_snapshot: Snapshot, _now: Now) -> Result<Self, RestoreError> {
        Err(RestoreError {
            what: "console",
            why: "a console has no record".to_owned(),
        })
    }
}
