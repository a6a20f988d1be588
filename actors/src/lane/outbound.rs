//! Running transactions: responses and requests of users, responses of peers, deadlines.
//!
//! In: what users want sent, what peers answer, time, ends of connections. Out: octets on flows,
//! news for users. It judges no request; `inbound.rs` does.

use std::time::Duration;

use bytes::Bytes;
use contract::limits::{GONE_FLOWS_MAX, TRANSACTION_AGE_S_MAX, TRANSACTIONS_PER_TICK_MAX};
use contract::{ActorId, FlowRef, Time, TokenUse};
use rsip::Method;
use sip::Message;
use sip::transaction::{
    InviteClient, InviteServer, Key, Output, PlainClient, PlainServer, Reliability,
};

use super::adopted::Adopted;
use super::checks::merge_of;
use super::core::{Context, Lane};
use super::refusal::{self, Refusal};
use super::table::{Entry, Machine, Side, stream_of};
use crate::{TransactionRef, dialog, message};

/// Longest life of a server transaction whose user never answers: no client waits longer for it
/// (64 × T1, Timer F of RFC 3261).
const PATIENCE: Duration = Duration::from_secs(40);

impl Lane {
    /// Begins the server transaction of a request; `None` if there is no room.
    pub(super) fn open(
        &mut self,
        flow: FlowRef,
        key: Key,
        request: &Message,
        ctx: &Context<'_>,
    ) -> Option<u64> {
        let now = ctx.now().mono;
        let way_back = way_back(request, flow);
        let reliability = reliability(&flow);
        let machine = if request.method().is(Method::Invite) {
            Machine::InviteServer(InviteServer::new(request.clone(), reliability, now))
        } else {
            Machine::PlainServer(PlainServer::new(request.clone(), reliability, now))
        };
        let number = self.table.add(Entry {
            side: Side::Server,
            key,
            machine,
            flow: way_back,
            source: flow,
            user: None,
            branch: None,
            merge: merge_of(request),
            waiting: None,
            born: now,
            due: None,
            completed: false,
        })?;
        self.settle(number, &[], false);
        Some(number)
    }

    /// Whether an INVITE is for this node is not known yet: its 100 would keep the phone from asking again.
    /// Over a connection it does not in any case.
    pub(super) fn keep_silent(&mut self, number: u64) {
        let Some(entry) = self.table.entry(number) else {
            return;
        };
        let is_repeated = !entry.source.is_reliable();
        if let (Machine::InviteServer(machine), true) = (&mut entry.machine, is_repeated) {
            machine.keep_silent();
            self.settle(number, &[], false);
        }
    }

    /// Lets the machine repeat its answer to a copy of the request, or take an ACK.
    pub(super) fn repeat(&mut self, number: u64, request: &Message, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        let Some(entry) = self.table.entry(number) else {
            return;
        };
        let (flow, mut out) = (entry.flow, Vec::new());
        match &mut entry.machine {
            Machine::InviteServer(machine) => machine.on_request(request, now, &mut out),
            Machine::PlainServer(machine) => machine.on_request(request, now, &mut out),
            Machine::Adopted(adopted) if request.method().is(Method::Ack) => adopted.acknowledge(),
            Machine::Adopted(adopted) => out.push(Output::Send(adopted.last())),
            Machine::InviteClient(_) | Machine::PlainClient(_) => {}
        }
        self.carry_out(number, flow, out, false, ctx);
    }

    /// Answers a request in its transaction.
    pub(super) fn answer(&mut self, number: u64, response: Bytes, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        let message = match Message::read(response.clone()) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%error, "a response of ours cannot be read");
                return;
            }
        };
        let status = message.status().unwrap_or_default();
        let Some(entry) = self.table.entry(number) else {
            return;
        };
        let (flow, mut out) = (entry.flow, Vec::new());
        match &mut entry.machine {
            Machine::InviteServer(machine) => machine.respond(message, now, &mut out),
            Machine::PlainServer(machine) => machine.respond(message, now, &mut out),
            Machine::Adopted(adopted) => {
                let is_refused_invite = status >= 300 && message.method().is(Method::Invite);
                let wants_ack = is_refused_invite && !flow.is_reliable();
                adopted.keep(response.clone(), status >= 200, wants_ack, now);
                out.push(Output::Send(response));
            }
            Machine::InviteClient(_) | Machine::PlainClient(_) => {}
        }
        self.carry_out(number, flow, out, status >= 200, ctx);
    }

    /// Refuses a request in its transaction.
    pub(super) fn refuse(
        &mut self,
        number: u64,
        request: &Message,
        refusal: &Refusal,
        ctx: &mut Context<'_>,
    ) {
        if let Some(response) = refusal::write_final(request, refusal, ctx) {
            self.answer(number, response, ctx);
        }
    }

    /// A user answers; a transaction that is not known is adopted (`adopted.rs`).
    pub(super) fn on_respond(
        &mut self,
        transaction: TransactionRef,
        flow: FlowRef,
        response: Bytes,
        ctx: &mut Context<'_>,
    ) {
        let found = self.table.find(Side::Server, &transaction.key);
        match found.or_else(|| self.adopt(transaction.key, flow, &response, ctx)) {
            Some(number) => self.answer(number, response, ctx),
            None => ctx.ignore("no room for an adopted transaction"),
        }
    }

    fn adopt(
        &mut self,
        key: Key,
        flow: FlowRef,
        response: &Bytes,
        ctx: &mut Context<'_>,
    ) -> Option<u64> {
        let message = Message::read(response.clone()).ok()?;
        let now = ctx.now().mono;
        let patience = Duration::from_secs(TRANSACTION_AGE_S_MAX);
        self.table.add(Entry {
            side: Side::Server,
            key,
            machine: Machine::Adopted(Adopted::new(now, patience)),
            flow: way_back(&message, flow),
            source: flow,
            user: None,
            branch: None,
            merge: None,
            waiting: None,
            born: now,
            due: None,
            completed: false,
        })
    }

    /// A user wants proof of who sent a request.
    pub(super) fn on_challenge(
        &mut self,
        transaction: TransactionRef,
        flow: FlowRef,
        request: &Message,
        ctx: &mut Context<'_>,
    ) {
        let challenge = self.auth.challenge(request, flow, self.number, false, ctx);
        if let Some(response) = refusal::write(request, &challenge, ctx) {
            self.on_respond(transaction, flow, response, ctx);
        }
    }

    /// A user sends a request. Returns its transaction.
    pub(super) fn on_send(
        &mut self,
        flow: FlowRef,
        request: Bytes,
        user: ActorId,
        ctx: &mut Context<'_>,
    ) -> Option<Key> {
        let request = match Message::read(request) {
            Ok(request) => request,
            Err(error) => {
                tracing::debug!(%error, %user, "a request of ours cannot be read");
                return None;
            }
        };
        let Ok(key) = Key::of_sent(&request) else {
            tell_failure(&request, user, dialog::RequestFailure::Unreachable, ctx);
            return None;
        };
        self.send(flow, request, key.clone(), user, ctx);
        Some(key)
    }

    fn send(
        &mut self,
        flow: FlowRef,
        request: Message,
        key: Key,
        user: ActorId,
        ctx: &mut Context<'_>,
    ) {
        if let Some(known) = self.table.find(Side::Client, &key) {
            if self.table.entry(known).is_some_and(|one| one.flow == flow) {
                return ctx.ignore("this request is on its way already");
            }
            // Its user has found the peer elsewhere: where it was sent, nobody is.
            self.table.remove(known);
        }
        if let FlowRef::Stream { node, .. } = flow
            && node != ctx.site().node
        {
            return self.hand_on(node, flow, &request, key, user, ctx);
        }
        let why = dialog::RequestFailure::Unreachable;
        if stream_of(&flow).is_some_and(|stream| self.gone.contains(&stream)) {
            return tell_failure(&request, user, why, ctx);
        }
        if request.method().is(Method::Cancel) {
            self.on_cancel_sent(&request, ctx.now().mono);
        }
        let (now, mut out) = (ctx.now().mono, Vec::new());
        let reliability = reliability(&flow);
        let machine = if request.method().is(Method::Invite) {
            Machine::InviteClient(InviteClient::new(
                request.clone(),
                reliability,
                now,
                &mut out,
            ))
        } else {
            Machine::PlainClient(PlainClient::new(
                request.clone(),
                reliability,
                now,
                &mut out,
            ))
        };
        let number = self.table.add(Entry {
            side: Side::Client,
            key,
            machine,
            flow,
            source: flow,
            user: Some(user.clone()),
            branch: branch_to_tell(&request),
            merge: None,
            waiting: None,
            born: now,
            due: None,
            completed: false,
        });
        match number {
            Some(number) => self.carry_out(number, flow, out, false, ctx),
            None => tell_failure(&request, user, why, ctx),
        }
    }

    /// Asks whether a connection of this node that a request is sent on is there. Its end this lane may not
    /// know of: it was told before it panicked, has heard of too many since, or another node thinks of one
    /// of a former life of this node. Nothing repeats the request there: it would only time out.
    pub(super) fn check_connection(&self, flow: FlowRef, ctx: &mut Context<'_>) {
        let is_known = stream_of(&flow).is_some_and(|stream| self.gone.contains(&stream));
        if is_known || !flow.ends_at(ctx.site().node) {
            return;
        }
        if let Some((actor, watch)) = message::watch(flow, ctx.me().clone()) {
            ctx.tell(actor, watch);
        }
    }

    /// Limits how long the INVITE still waits once its CANCEL is sent (RFC 3261 §9.1).
    fn on_cancel_sent(&mut self, cancel: &Message, now: Time) {
        let via = cancel.via().ok();
        let branch = via.as_ref().and_then(|via| via.branch());
        let Some(number) = branch.and_then(|branch| self.table.find_branch(branch)) else {
            return;
        };
        if let Some(Machine::InviteClient(machine)) =
            self.table.entry(number).map(|entry| &mut entry.machine)
        {
            machine.on_cancel_sent(now);
        }
        self.settle(number, &[], false);
    }

    /// A peer answers: to the user of the transaction, or to the side that the branch names.
    pub(super) fn on_response(
        &mut self,
        flow: FlowRef,
        response: Message,
        is_strayed: bool,
        ctx: &mut Context<'_>,
    ) {
        let Ok(key) = Key::of_response(&response) else {
            return ctx.ignore("a response without a branch");
        };
        if response.vias().count() != 1 {
            // RFC 3261 §8.1.3.3: it was meant for somebody else.
            return ctx.ignore("a response with several Vias");
        }
        let Some(number) = self.table.find(Side::Client, &key) else {
            return self.on_late_response(flow, response, is_strayed, ctx);
        };
        let now = ctx.now().mono;
        let is_final = response.status().unwrap_or_default() >= 200;
        let Some(entry) = self.table.entry(number) else {
            return;
        };
        let mut out = Vec::new();
        match &mut entry.machine {
            Machine::InviteClient(machine) => machine.on_response(response, now, &mut out),
            Machine::PlainClient(machine) => machine.on_response(response, now, &mut out),
            Machine::InviteServer(_) | Machine::PlainServer(_) | Machine::Adopted(_) => {}
        }
        self.carry_out(number, flow, out, is_final, ctx);
    }

    /// A response without a transaction: its own is over, from before the node's last start, or at
    /// another node.
    fn on_late_response(
        &self,
        flow: FlowRef,
        response: Message,
        is_strayed: bool,
        ctx: &mut Context<'_>,
    ) {
        let via = response.via().ok();
        let branch = via.as_ref().and_then(|via| via.branch());
        let token = branch.and_then(|branch| ctx.site().tokens.read(TokenUse::Branch, branch));
        match token {
            Some(token) if token.hint != ctx.site().node && !is_strayed => {
                self.pass_on(ActorId::Lane(token.hint, token.lane), flow, &response, ctx);
            }
            Some(token) => {
                let news = dialog::Message::Response { response, flow };
                ctx.tell(ActorId::Dialog(token.side), news.into());
            }
            None => ctx.ignore("a response to nothing of ours"),
        }
    }

    /// Does what is due. What is more than one go's worth stays due.
    pub(super) fn on_due(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        for number in self.table.due(now, TRANSACTIONS_PER_TICK_MAX) {
            let Some(entry) = self.table.entry(number) else {
                continue;
            };
            let (flow, mut out) = (entry.flow, Vec::new());
            match &mut entry.machine {
                Machine::InviteServer(machine) => machine.on_timer(now, &mut out),
                Machine::PlainServer(machine) => machine.on_timer(now, &mut out),
                Machine::InviteClient(machine) => machine.on_timer(now, &mut out),
                Machine::PlainClient(machine) => machine.on_timer(now, &mut out),
                Machine::Adopted(adopted) => {
                    out.extend(adopted.on_timer(now).map(Output::Send));
                    out.extend(adopted.is_over(now).then_some(Output::Terminated));
                }
            }
            if !entry.completed && age_limit(entry) <= now {
                out.push(Output::Terminated);
            }
            self.carry_out(number, flow, out, false, ctx);
        }
    }

    /// A connection is gone: what waits for an answer on it fails.
    pub(super) fn on_flow_gone(&mut self, flow: FlowRef, ctx: &mut Context<'_>) {
        if let Some(stream) = stream_of(&flow) {
            if self.gone.len() >= GONE_FLOWS_MAX {
                self.gone.pop_first();
            }
            self.gone.insert(stream);
        }
        let now = ctx.now().mono;
        for number in self.table.clients_over(&flow) {
            let Some(entry) = self.table.entry(number) else {
                continue;
            };
            let mut out = Vec::new();
            match &mut entry.machine {
                Machine::InviteClient(machine) => {
                    machine.on_transport_error(now, &mut out);
                    // Proceeding waits for an answer that cannot come any more.
                    if out.is_empty() {
                        out.extend([Output::Failed, Output::Terminated]);
                    }
                }
                Machine::PlainClient(machine) => machine.on_transport_error(now, &mut out),
                Machine::InviteServer(_) | Machine::PlainServer(_) | Machine::Adopted(_) => {}
            }
            self.carry_out(number, flow, out, false, ctx);
        }
    }

    /// Sends and tells what a machine says, then notes its next deadline.
    fn carry_out(
        &mut self,
        number: u64,
        flow: FlowRef,
        out: Vec<Output>,
        is_final: bool,
        ctx: &mut Context<'_>,
    ) {
        for output in &out {
            match output {
                // What the machine sends goes where the transaction sends, not where this came from.
                Output::Send(bytes) => {
                    let to = self.table.entry(number).map_or(flow, |entry| entry.flow);
                    ctx.send(to, bytes.clone());
                }
                Output::Deliver(message) => self.deliver(number, flow, message, ctx),
                Output::TimedOut => {
                    self.fail(number, dialog::RequestFailure::TimedOut, ctx);
                }
                Output::Failed => self.fail(number, dialog::RequestFailure::Unreachable, ctx),
                Output::Terminated => {}
            }
        }
        self.settle(number, &out, is_final);
    }

    /// Notes the machine's next deadline, or forgets it.
    fn settle(&mut self, number: u64, out: &[Output], is_final: bool) {
        if out.contains(&Output::Terminated) {
            return self.table.remove(number);
        }
        let Some(entry) = self.table.entry(number) else {
            return;
        };
        let next = match &entry.machine {
            Machine::InviteServer(machine) => machine.next_deadline(),
            Machine::PlainServer(machine) => machine.next_deadline(),
            Machine::InviteClient(machine) => machine.next_deadline(),
            Machine::PlainClient(machine) => machine.next_deadline(),
            Machine::Adopted(adopted) => Some(adopted.next_deadline()),
        };
        let limit = (!entry.completed && !is_final).then(|| age_limit(entry));
        let due = next.into_iter().chain(limit).min();
        self.table.note(number, due, is_final);
    }

    fn deliver(&mut self, number: u64, flow: FlowRef, message: &Message, ctx: &mut Context<'_>) {
        let Some(entry) = self.table.entry(number) else {
            return;
        };
        match (&entry.user, message.is_request()) {
            (Some(user), false) => {
                let (user, response) = (user.clone(), message.clone());
                ctx.tell(user, dialog::Message::Response { response, flow }.into());
            }
            // The ACK of a 2xx whose sender repeats the branch of its INVITE (RFC 6026 §7.1).
            (None, true) => {
                let (source, key) = (entry.source, entry.key.clone());
                self.tell_ack(source, message.clone(), key, ctx);
            }
            (Some(_), true) | (None, false) => ctx.ignore("delivered to nobody"),
        }
    }

    fn fail(&mut self, number: u64, why: dialog::RequestFailure, ctx: &mut Context<'_>) {
        let Some(entry) = self.table.entry(number) else {
            return;
        };
        // A server transaction that ends without its ACK concerns nobody: a call waits by itself.
        let (Some(user), Some(branch)) = (entry.user.clone(), entry.branch.clone()) else {
            return;
        };
        ctx.tell(user, dialog::Message::RequestFailed { branch, why }.into());
    }
}

/// Returns when a transaction that nobody has ended is forgotten.
fn age_limit(entry: &Entry) -> Time {
    let is_invite = match entry.machine {
        Machine::InviteServer(_) | Machine::InviteClient(_) | Machine::Adopted(_) => true,
        Machine::PlainServer(_) | Machine::PlainClient(_) => false,
    };
    entry.born
        + if is_invite {
            Duration::from_secs(TRANSACTION_AGE_S_MAX)
        } else {
            PATIENCE
        }
}

/// Tells the user of a request that never left, unless it is a CANCEL.
pub(super) fn tell_failure(
    request: &Message,
    user: ActorId,
    why: dialog::RequestFailure,
    ctx: &mut Context<'_>,
) {
    match branch_to_tell(request) {
        Some(branch) => ctx.tell(user, dialog::Message::RequestFailed { branch, why }.into()),
        None => ctx.ignore("a CANCEL fails in silence"),
    }
}

/// Returns the branch by which a failure is told; none for CANCEL, which shares its INVITE's.
pub(super) fn branch_to_tell(request: &Message) -> Option<String> {
    if request.method().is(Method::Cancel) {
        return None;
    }
    request.via().ok()?.branch().map(str::to_owned)
}

/// Returns where responses go: back on a connection, for datagrams as the top Via says.
pub(super) fn way_back(message: &Message, flow: FlowRef) -> FlowRef {
    match flow {
        FlowRef::Stream { .. } => flow,
        FlowRef::Datagram { listener, remote } => match message.via() {
            Ok(via) => FlowRef::Datagram {
                listener,
                remote: sip::response_target(&via, remote),
            },
            Err(_) => flow,
        },
    }
}

/// Sends an answer that has no transaction.
pub(super) fn send_back(
    request: &Message,
    flow: FlowRef,
    response: Option<Bytes>,
    ctx: &mut Context<'_>,
) {
    if let Some(response) = response {
        ctx.send(way_back(request, flow), response);
    }
}

const fn reliability(flow: &FlowRef) -> Reliability {
    if flow.is_reliable() {
        Reliability::Stream
    } else {
        Reliability::Datagram
    }
}
