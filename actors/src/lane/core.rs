//! The events of a lane. Its states are those of its transactions (RFC 3261 §17).

use std::collections::BTreeSet;

use contract::{ActorId, Core, Ctx, Event, FlowRef, NodeId, Now, RestoreError, Time, Undelivered};

use super::auth::Auth;
use super::elsewhere::Elsewhere;
use super::table::Table;
use super::{Message, NonceVerdict, Snapshot};
use crate::{Site, call, dialog, flow, registration};

/// One transaction shard.
#[derive(Debug)]
pub struct Lane {
    pub(super) number: u16,
    pub(super) table: Table,
    pub(super) auth: Auth,
    /// Connections that are gone; numbers rise, so the first is the oldest of its node.
    pub(super) gone: BTreeSet<(NodeId, u64)>,
    pub(super) elsewhere: Elsewhere,
}

/// Names of its deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A transaction is due.
    Transaction,
    /// The issuer of a nonce has said nothing.
    Issuer,
    /// Another node does not say that it has a request.
    Handed,
}

pub(super) type Context<'a> = Ctx<'a, crate::Message, Site>;

impl Lane {
    /// Makes the lane of a number.
    #[must_use]
    pub fn new(number: u16, site: &Site) -> Self {
        Lane {
            number,
            table: Table::default(),
            auth: Auth::new(site),
            gone: BTreeSet::new(),
            elsewhere: Elsewhere::default(),
        }
    }

    /// Returns the state in a few words.
    #[must_use]
    pub fn state(&self) -> String {
        format!("{} transactions", self.table.len())
    }

    fn on_message(&mut self, from: &ActorId, message: Message, ctx: &mut Context<'_>) {
        match message {
            Message::Received { flow, message } => self.on_octets(flow, message, ctx),
            Message::Respond {
                transaction,
                flow,
                response,
            } => {
                self.on_respond(transaction, flow, response, ctx);
            }
            Message::Request {
                flow,
                request,
                user,
            } => {
                let key = self.on_send(flow, request, user, ctx);
                self.check_connection(flow, ctx);
                Self::check_handed(from, key, ctx);
            }
            Message::SendAck { flow, request } => ctx.send(flow, request),
            Message::Challenge {
                transaction,
                flow,
                request,
            } => {
                self.on_challenge(transaction, flow, &request, ctx);
            }
            Message::CheckNonce {
                nonce,
                count,
                transaction,
            } => {
                let verdict = self.auth.count(&nonce, count, ctx.now());
                let answer = Message::NonceChecked {
                    transaction,
                    verdict,
                };
                ctx.tell(from.clone(), answer.into());
            }
            Message::NonceChecked {
                transaction,
                verdict,
            } => {
                self.on_nonce_checked(&transaction, verdict, ctx);
            }
            Message::FlowGone { flow } => self.on_flow_gone(flow, ctx),
            Message::Strayed { flow, message } => self.on_strayed(flow, message, ctx),
            Message::NodeGone { node } => self.on_node_gone(node, ctx),
            Message::Taken { key } => self.elsewhere.handed.taken(&key),
        }
    }

    /// A message came back: the peer that waits behind it is told.
    fn on_undelivered(
        &mut self,
        to: &ActorId,
        message: crate::Message,
        why: Undelivered,
        ctx: &mut Context<'_>,
    ) {
        use crate::Message as Any;
        let (inbound, absent) = match message {
            Any::Registration(registration::Message::Register(inbound)) => (inbound, 503),
            Any::Call(call::Message::Invite(inbound)) => (inbound, 503),
            Any::Call(call::Message::Cancel(inbound)) => (inbound, 481),
            Any::Dialog(dialog::Message::Request(inbound)) => (inbound, 481),
            Any::Lane(Message::CheckNonce { transaction, .. }) => {
                return self.on_nonce_checked(&transaction, NonceVerdict::Forgotten, ctx);
            }
            Any::Lane(Message::Request {
                flow,
                request,
                user,
            }) => return self.on_not_handed(to, flow, request, user, why, ctx),
            Any::Lane(Message::Strayed { flow, message }) => {
                return self.on_not_passed(to, flow, message, why, ctx);
            }
            Any::Flow(flow::Message::Watch { flow, .. }) if why == Undelivered::Absent => {
                return self.on_flow_gone(flow, ctx);
            }
            Any::Dialog(dialog::Message::Retransmitted(inbound)) => {
                return self.on_no_caller(&inbound, why, ctx);
            }
            Any::Registration(_)
            | Any::Call(_)
            | Any::Dialog(_)
            | Any::MediaLeg(_)
            | Any::Flow(_)
            | Any::DoorSession(_)
            | Any::Lane(_)
            | Any::Console(_)
            | Any::Member(_)
            | Any::Parking(_) => return ctx.ignore("nobody waits for it"),
        };
        match why {
            Undelivered::Absent => self.on_not_taken(&inbound, absent, "no such actor", ctx),
            Undelivered::Busy => self.on_not_taken(&inbound, 503, "inbox full", ctx),
        }
    }
}

impl Core for Lane {
    type Event = Event<Message, Timer, crate::Message>;
    type Message = crate::Message;
    type Timer = Timer;
    type Snapshot = Snapshot;
    type Site = Site;

    fn handle(&mut self, event: Self::Event, ctx: &mut Context<'_>) {
        self.auth.wake(ctx.now());
        match event {
            Event::Message { from, message } => self.on_message(&from, message, ctx),
            Event::Datagram {
                listener,
                remote,
                bytes,
            } => {
                self.on_octets(FlowRef::Datagram { listener, remote }, bytes, ctx);
            }
            Event::Timer(Timer::Transaction) => self.on_due(ctx),
            Event::Timer(Timer::Issuer) => self.on_issuer_due(ctx),
            Event::Timer(Timer::Handed) => self.on_handed_due(ctx),
            Event::Undelivered { to, message, why } => self.on_undelivered(&to, message, why, ctx),
            Event::Opened { .. }
            | Event::Bytes(_)
            | Event::Closed { .. }
            | Event::Media(_)
            | Event::Answer { .. }
            | Event::ChildLost { .. }
            | Event::Restored(_) => ctx.ignore("nothing a lane asked for"),
        }
    }

    fn next_deadline(&self) -> Option<(Time, Timer)> {
        let transaction = self.table.next_deadline();
        let issuer = self.elsewhere.next_deadline();
        let handed = self.elsewhere.handed.next_deadline();
        let all = [
            transaction.map(|at| (at, Timer::Transaction)),
            issuer.map(|at| (at, Timer::Issuer)),
            handed.map(|at| (at, Timer::Handed)),
        ];
        all.into_iter().flatten().min()
    }

    fn snapshot(&self, _now: Now) -> Snapshot {
        let [servers, clients, completed, waiting] = self.table.counts();
        let (handed, dropped) = self.elsewhere.counts();
        Snapshot {
            number: self.number,
            servers,
            clients,
            completed,
            waiting,
            handed,
            dropped,
            failing_sources: self.auth.failing_sources(),
        }
    }

    fn restore(_snapshot: Snapshot, _now: Now) -> Result<Self, RestoreError> {
        Err(RestoreError {
            what: "lane",
            why: "a lane has no record".to_owned(),
        })
    }
}
