//! The transitions of the console.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::limits::{
    API_WAIT_S, CONSOLE_PENDING_MAX, DETAIL_ROWS_MAX, PAGE_ROWS_MAX, ROWS_MERGED_MAX,
};
use contract::{
    ActorId, Answer, CallKey, Core, Ctx, Event, Kind, Lookup, Member, NodeId, Now, RestoreError,
    Time, Undelivered,
};
use sip::Aor;

use super::gather::{Part, Row};
use super::moving;
use super::reply::{end, finish, refuse};
use super::{Message, Page, Request, Snapshot};
use crate::registration::settings::Fault;
use crate::{Site, call, registration};

/// The inspector of a node.
#[derive(Debug, Default)]
pub struct Console {
    pub(super) pending: BTreeMap<u64, Pending>,
    pub(super) requests: u64,
}

/// A request that waits for nodes.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ticket: Ticket,
    pub(super) due: Time,
    pub(super) want: Want,
    /// What each node is to be asked, while it is not known which there are.
    pub(super) first: Option<Lookup>,
    /// The nodes asked; for details, the node of each row.
    pub(super) parts: Vec<Part>,
}

/// Who is answered.
#[derive(Clone, Debug)]
pub(super) enum Ticket {
    /// The HTTP door.
    Http(u64),
    /// The console of another node, under its number of the question.
    Console(ActorId, u64),
}

/// What is still to come.
#[derive(Debug)]
pub(super) enum Want {
    Nodes,
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
        rows: Vec<Row>,
        missing: Vec<String>,
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
    /// Where it is, before it is moved.
    Place {
        id: ActorId,
        to: String,
        epoch: Option<u64>,
    },
    /// Its node moves it.
    Moving {
        id: ActorId,
        to: String,
    },
    Drain,
    /// A registration says what is set.
    Settings,
    /// A call says whether it does what is ordered.
    Steered(CallKey),
    /// Another console wants to know: the answer goes there as it is.
    Other,
}

/// Which nodes are asked.
enum Scope<'a> {
    /// All.
    Cluster,
    /// The one of that name or number.
    Named(&'a str),
}

/// Names of its deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The oldest waiting request has waited long enough.
    Overdue,
}

/// Low bits of a token: which row of a page is asked for.
const ROW_BITS: u32 = 16;

pub(super) type Context<'a> = Ctx<'a, crate::Message, Site>;

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
            Request::Nodes => self.ask(ticket, Want::Nodes, Lookup::Node, &Scope::Cluster, ctx),
            Request::Actors {
                kind,
                node,
                contains,
                page,
            } => {
                let page = bounded(page, PAGE_ROWS_MAX);
                let scope = node.as_deref().map_or(Scope::Cluster, Scope::Named);
                self.ask_rows(
                    ticket,
                    Want::Rows { page },
                    (kind, contains, page),
                    &scope,
                    ctx,
                );
            }
            Request::Calls { contains, page } => {
                self.ask_details(ticket, Kind::Call, contains, page, ctx);
            }
            Request::Registrations { contains, page } => {
                self.ask_details(ticket, Kind::Registration, contains, page, ctx);
            }
            Request::Inspect { id } => self.ask_actor(ticket, Want::Actor, id, ctx),
            Request::Trace { id } => {
                let what = Lookup::Trace { id };
                self.ask(ticket, Want::Trace, what, &Scope::Cluster, ctx);
            }
            Request::Stop { id, epoch } => {
                let want = Want::Stop {
                    id: id.clone(),
                    epoch,
                };
                self.ask_actor(ticket, want, id, ctx);
            }
            Request::User { dn } => self.on_user(ticket, &dn, ctx),
            Request::Move { id, to, epoch } => {
                if let Some(why) = moving::never(&id) {
                    return refuse(ticket, 409, why, ctx);
                }
                let want = Want::Place {
                    id: id.clone(),
                    to,
                    epoch,
                };
                self.ask_actor(ticket, want, id, ctx);
            }
            Request::Drain { node, max_s } => {
                let node = node.unwrap_or_else(|| ctx.site().name.clone());
                let what = Lookup::Drain { max_s };
                self.ask(ticket, Want::Drain, what, &Scope::Named(&node), ctx);
            }
            Request::Settings { dn, set } => self.on_settings(ticket, &dn, set, ctx),
            Request::Steer {
                call,
                command,
                order,
            } => self.on_steer(ticket, call, command, order, ctx),
            Request::Here => {
                let node = ctx.site().name.clone();
                let scope = Scope::Named(&node);
                self.ask(ticket, Want::Nodes, Lookup::Node, &scope, ctx);
            }
        }
    }

    fn on_user(&mut self, ticket: u64, dn: &str, ctx: &mut Context<'_>) {
        let (user, host) = dn.rsplit_once('@').unwrap_or((dn, ""));
        let Some(aor) = ctx.site().aor(user, host) else {
            return refuse(ticket, 400, "no user part", ctx);
        };
        let id = ActorId::Registration(aor.as_str().into());
        self.ask_actor(ticket, Want::User { aor }, id, ctx);
    }

    fn ask_actor(&mut self, ticket: u64, want: Want, id: ActorId, ctx: &mut Context<'_>) {
        self.ask(ticket, want, Lookup::Actor { id }, &Scope::Cluster, ctx);
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
        let what = (Some(kind), contains, page);
        self.ask_rows(
            ticket,
            Want::DetailRows { page },
            what,
            &Scope::Cluster,
            ctx,
        );
    }

    /// Asks for rows: of one node that page, of several nodes all rows up to its end.
    fn ask_rows(
        &mut self,
        ticket: u64,
        want: Want,
        (kind, contains, page): (Option<Kind>, Option<String>, Page),
        scope: &Scope<'_>,
        ctx: &mut Context<'_>,
    ) {
        let limit = page.offset.saturating_add(page.limit);
        if limit > ROWS_MERGED_MAX {
            let detail =
                format!("rows up to {ROWS_MERGED_MAX} can be looked at; narrow the search");
            return refuse(ticket, 400, &detail, ctx);
        }
        let what = Lookup::Actors {
            kind,
            contains,
            offset: 0,
            limit,
        };
        self.ask(ticket, want, what, scope, ctx);
    }

    fn ask(
        &mut self,
        ticket: u64,
        want: Want,
        what: Lookup,
        scope: &Scope<'_>,
        ctx: &mut Context<'_>,
    ) {
        let mut pending = Pending {
            ticket: Ticket::Http(ticket),
            due: ctx.now().mono + Duration::from_secs(API_WAIT_S),
            want,
            first: None,
            parts: Vec::new(),
        };
        let site = ctx.site();
        if let Scope::Named(node) = scope {
            let is_number = |number: &str| number.parse().ok().map(NodeId);
            if is_this(node, site) {
                pending.parts = vec![Part::new(site.node, site.name.clone())];
                return self.put(pending, &what, ctx);
            }
            // Its name is found among the members, or nobody's.
            let part = Part::new(is_number(node).unwrap_or_default(), (*node).to_owned());
            pending.parts = vec![part];
        }
        if site.cluster.is_none() {
            let is_named = !pending.parts.is_empty();
            pending.parts = vec![Part::new(site.node, site.name.clone())];
            if is_named {
                pending.parts.clear();
                return finish(pending, ctx).map_or((), |(next, what)| self.put(next, &what, ctx));
            }
            return self.put(pending, &what, ctx);
        }
        pending.first = Some(what);
        self.requests += 1;
        self.pending.insert(self.requests, pending);
        ctx.look_up(self.requests << ROW_BITS, Lookup::Members);
    }

    /// Asks every part the same.
    fn put(&mut self, pending: Pending, what: &Lookup, ctx: &mut Context<'_>) {
        let whats = vec![what.clone(); pending.parts.len()];
        self.put_each(pending, whats, ctx);
    }

    /// Asks each part something; answers if there is none.
    fn put_each(&mut self, mut pending: Pending, whats: Vec<Lookup>, ctx: &mut Context<'_>) {
        let me = ctx.site().node;
        let is_alone = pending.parts.iter().all(|part| part.node == me);
        if !is_alone {
            let longest = whats.iter().map(moving::wait).max();
            pending.due = ctx.now().mono + longest.unwrap_or_default();
        }
        self.requests += 1;
        let token = self.requests << ROW_BITS;
        for (number, (part, what)) in (0..).zip(pending.parts.iter().zip(whats)) {
            if part.node == me {
                ctx.look_up(token | number, what);
            } else {
                let number = token | number;
                let ask = Message::Ask { number, what };
                ctx.tell(ActorId::Console(part.node), ask.into());
            }
        }
        let is_done = pending.parts.is_empty();
        self.pending.insert(self.requests, pending);
        if is_done {
            self.close(self.requests, ctx);
        }
    }

    /// Another console asks what only this node knows.
    fn on_ask(&mut self, from: ActorId, number: u64, what: Lookup, ctx: &mut Context<'_>) {
        if self.pending.len() >= CONSOLE_PENDING_MAX || matches!(what, Lookup::Host { .. }) {
            return ctx.ignore("too many requests wait, or none for a console");
        }
        let site = ctx.site();
        let pending = Pending {
            ticket: Ticket::Console(from, number),
            due: ctx.now().mono + moving::wait(&what),
            want: Want::Other,
            first: None,
            parts: vec![Part::new(site.node, site.name.clone())],
        };
        self.put(pending, &what, ctx);
    }

    fn on_answer(&mut self, token: u64, answer: Answer, ctx: &mut Context<'_>) {
        let request = token >> ROW_BITS;
        let Some(pending) = self.pending.get_mut(&request) else {
            return ctx.ignore("nobody waits for it");
        };
        if let (Some(what), Answer::Members(members)) = (&pending.first, &answer) {
            let (what, members) = (what.clone(), members.clone());
            if let Some(mut pending) = self.pending.remove(&request) {
                pending.first = None;
                pending.parts = parts(&members, &pending.parts, ctx.site());
                self.put(pending, &what, ctx);
            }
            return;
        }
        let number = usize::try_from(token & ((1 << ROW_BITS) - 1)).unwrap_or(usize::MAX);
        if let Some(part) = pending.parts.get_mut(number) {
            part.answer = Some(answer);
        }
        self.close_if_done(request, ctx);
    }

    /// A question did not reach its node.
    fn on_lost(&mut self, token: u64, ctx: &mut Context<'_>) {
        let request = token >> ROW_BITS;
        let number = usize::try_from(token & ((1 << ROW_BITS) - 1)).unwrap_or(usize::MAX);
        let pending = self.pending.get_mut(&request);
        if let Some(part) = pending.and_then(|pending| pending.parts.get_mut(number)) {
            part.is_lost = true;
            self.close_if_done(request, ctx);
        }
    }

    fn close_if_done(&mut self, request: u64, ctx: &mut Context<'_>) {
        let pending = self.pending.get(&request);
        if pending.is_some_and(|pending| pending.parts.iter().all(Part::is_done)) {
            self.close(request, ctx);
        }
    }

    /// Answers, or asks for what the answers so far have shown.
    fn close(&mut self, request: u64, ctx: &mut Context<'_>) {
        let Some(pending) = self.pending.remove(&request) else {
            return;
        };
        if let Some((next, what)) = finish(pending, ctx) {
            let whats = match &next.want {
                Want::Details { rows, .. } => {
                    let ids = rows.iter().map(|row| row.row.id.clone());
                    ids.map(|id| Lookup::Actor { id }).collect()
                }
                Want::Nodes
                | Want::Rows { .. }
                | Want::DetailRows { .. }
                | Want::Actor
                | Want::Trace
                | Want::User { .. }
                | Want::Stop { .. }
                | Want::Place { .. }
                | Want::Moving { .. }
                | Want::Drain
                | Want::Settings
                | Want::Steered(_)
                | Want::Other => vec![what; next.parts.len()],
            };
            self.put_each(next, whats, ctx);
        }
    }

    fn on_overdue(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        let due = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.due <= now);
        let due: Vec<u64> = due.map(|(request, _)| *request).collect();
        let me = ctx.site().node;
        for request in due {
            let is_own = |part: &Part| part.node == me && !part.is_done();
            let pending = self.pending.get(&request);
            let is_stuck = pending
                .is_none_or(|pending| pending.first.is_some() || pending.parts.iter().any(is_own));
            if !is_stuck {
                self.close(request, ctx);
            } else if let Some(pending) = self.pending.remove(&request)
                && let Ticket::Http(ticket) = pending.ticket
            {
                refuse(ticket, 504, "the node did not answer in time", ctx);
            }
        }
    }
}

/// Returns whom to ask: the one that was named, or all; this node in any case knows itself.
fn parts(members: &[Member], named: &[Part], site: &Site) -> Vec<Part> {
    let mut all: Vec<Part> = members
        .iter()
        .map(|member| Part::new(member.peer.inst.node, member.name.clone()))
        .collect();
    if !all.iter().any(|part| part.node == site.node) {
        all.insert(0, Part::new(site.node, site.name.clone()));
    }
    if let [named] = named {
        let number = named.name.parse().ok().map(NodeId);
        all.retain(|part| part.name == named.name || Some(part.node) == number);
    }
    all
}

fn bounded(page: Page, most: usize) -> Page {
    Page {
        offset: page.offset,
        limit: page.limit.min(most),
    }
}

fn is_this(node: &str, site: &Site) -> bool {
    node == site.name || node == site.node.to_string()
}

impl Core for Console {
    type Event = Event<Message, Timer, crate::Message>;
    type Message = crate::Message;
    type Timer = Timer;
    type Snapshot = Snapshot;
    type Site = Site;

    fn handle(&mut self, event: Self::Event, ctx: &mut Context<'_>) {
        match event {
            Event::Message { from, message } => match message {
                Message::Request { ticket, request } => self.on_request(ticket, request, ctx),
                Message::Ask { number, what } => self.on_ask(from, number, what, ctx),
                Message::Answered { number, answer } => self.on_answer(number, answer, ctx),
                Message::End { id } => end(&id, ctx),
                Message::IsSet { echo, result } => self.on_set(&echo, result, ctx),
                Message::Steered { echo, result } => self.on_steered(&echo, result, ctx),
            },
            Event::Answer { token, answer } => self.on_answer(token, answer, ctx),
            Event::Undelivered {
                message: crate::Message::Console(Message::Ask { number, .. }),
                ..
            } => self.on_lost(number, ctx),
            Event::Undelivered {
                message: crate::Message::Registration(registration::Message::Set(set)),
                why,
                ..
            } => {
                let fault = match why {
                    Undelivered::Busy => Fault::new(503, "the registration is too busy"),
                    Undelivered::Absent => Fault::new(404, "no such user"),
                };
                self.on_set(&set.echo, Err(fault), ctx);
            }
            Event::Undelivered {
                message: crate::Message::Call(call::Message::Steer(steer)),
                why,
                ..
            } => {
                let fault = match why {
                    Undelivered::Busy => Fault::new(503, "the call is too busy"),
                    Undelivered::Absent => Fault::new(404, "no such call"),
                };
                self.on_steered(&steer.echo, Err(fault), ctx);
            }
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
                .filter_map(|pending| match pending.ticket {
                    Ticket::Http(ticket) => Some(ticket),
                    Ticket::Console(..) => None,
                })
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
