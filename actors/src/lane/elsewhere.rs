//! What this lane has with lanes of other nodes: any node takes any packet (`cluster.md` §1, §3).
//!
//! In: requests over connections of other nodes, responses and ACKs of transactions that other
//! nodes hold, copies of INVITEs that other nodes took, what came back of all that, nodes that
//! died. Out: messages to other lanes, to dialogs, failures for users. It begins no transaction.
//!
//! | comes | goes | comes back | then |
//! |---|---|---|---|
//! | request of a user over another node's connection | to that node's lane: the transaction is beside the socket; again until that has it (`handed.rs`) | node is gone | `RequestFailed` |
//! | response, branch of another node | to its lane | node is gone | 2xx to INVITE: to its dialog; else dropped, counted |
//! | ACK, tag of another node, no transaction here | to its lane: the ACK of a refusal; else to its dialog | node is gone | to its dialog |
//! | INVITE whose digest is right and whose nonce was used | `Retransmitted` to the caller's side of its call | no such call | a new challenge |
//!
//! Each goes over one node at most: what has come from another lane is not passed on again. Nodes
//! may have different numbers of lanes; lane 0 they all have.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use contract::limits::NONCE_CHECKS_MAX;
use contract::{ActorId, FlowRef, NodeId, Time, TokenUse, Undelivered};
use rsip::Method;
use sip::Message;
use sip::transaction::Key;

use super::core::{Context, Lane};
use super::handed::{Handed, HandedRequests, Unheard};
use super::inbound::Waiting;
use super::outbound::{branch_to_tell, tell_failure};
use super::table::Side;
use super::{NonceVerdict, lane_of};
use crate::wire::FORM_3_SINCE;
use crate::{Inbound, Site, dialog};

/// How long the issuer of a nonce may take; then the phone is challenged anew, before it asks
/// again (T1 of RFC 3261).
const ISSUER_PATIENCE: Duration = Duration::from_millis(400);

/// How long a request without response may take at another node: Timers B and F of RFC 3261.
const ANSWER_PATIENCE: Duration = Duration::from_secs(33);

/// What is at other nodes.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Transactions whose nonce is being asked about, and until when. Bound: `NONCE_CHECKS_MAX`.
    asked: BTreeSet<(Time, u64)>,
    /// Requests that other nodes send.
    pub(super) handed: HandedRequests,
    /// Responses of which nobody was left to tell.
    dropped: u64,
}

impl Elsewhere {
    /// Returns when the patience with the first issuer ends.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.asked.first().map(|(at, _)| *at)
    }

    /// Returns how many requests other nodes send, and how many responses were dropped.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.handed.len(), self.dropped)
    }

    /// Notes that an issuer is asked; until when, if there is room.
    pub(super) fn ask(&mut self, number: u64, now: Time) -> Option<Time> {
        if self.asked.len() >= NONCE_CHECKS_MAX {
            return None;
        }
        let until = now + ISSUER_PATIENCE;
        self.asked.insert((until, number));
        Some(until)
    }

    /// Notes that an issuer has answered, or is not waited for any more.
    pub(super) fn answered(&mut self, until: Time, number: u64) {
        self.asked.remove(&(until, number));
    }
}

impl Lane {
    /// An issuer of nonces has said nothing for too long: as if it were gone.
    pub(super) fn on_issuer_due(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        while let Some((until, number)) = self.elsewhere.asked.first().copied()
            && until <= now
        {
            self.elsewhere.answered(until, number);
            let waiting = self.table.entry(number).and_then(|one| one.waiting.take());
            if let Some(waiting) = waiting {
                self.on_verdict(number, *waiting, NonceVerdict::Forgotten, ctx);
            }
        }
    }

    /// Gives a request to the node that has its connection.
    pub(super) fn hand_on(
        &mut self,
        node: NodeId,
        flow: FlowRef,
        request: &Message,
        key: Key,
        user: ActorId,
        ctx: &mut Context<'_>,
    ) {
        let now = ctx.now().mono;
        let rings = if request.method().is(Method::Invite) {
            ctx.site().limits.ring_timeout
        } else {
            Duration::ZERO
        };
        // The lane that its responses come to there; a CANCEL meets its INVITE, whoever sent that.
        let number = lane_of_branch(request, ctx.site()).unwrap_or(self.number);
        let order = super::Message::Request {
            flow,
            request: request.bytes().clone(),
            user: user.clone(),
        };
        let to = ActorId::Lane(node, number);
        let is_said = ctx.health().schema >= FORM_3_SINCE;
        let handed = Handed {
            node,
            user,
            branch: branch_to_tell(request),
            until: now + rings + ANSWER_PATIENCE,
            unheard: is_said.then(|| Unheard::new(to.clone(), order.clone(), now)),
        };
        self.elsewhere.handed.add(key, handed, now);
        ctx.tell(to, order.into());
    }

    /// What other nodes were given to send, and do not say that they have, they are given again:
    /// their transactions repeat nothing that never came there.
    pub(super) fn on_handed_due(&mut self, ctx: &mut Context<'_>) {
        for (to, order) in self.elsewhere.handed.due(ctx.now().mono) {
            ctx.tell(to, order.into());
        }
    }

    /// Another node's lane has handed on a request: it hears that this one has it.
    pub(super) fn check_handed(from: &ActorId, key: Option<Key>, ctx: &mut Context<'_>) {
        let own = ctx.site().node;
        let is_handed = matches!(from, ActorId::Lane(node, _) if *node != own);
        if let Some(key) = key.filter(|_| is_handed && ctx.health().schema >= FORM_3_SINCE) {
            ctx.tell(from.clone(), super::Message::Taken { key }.into());
        }
    }

    /// A request came back from the node that has its connection.
    pub(super) fn on_not_handed(
        &mut self,
        to: &ActorId,
        flow: FlowRef,
        request: Bytes,
        user: ActorId,
        why: Undelivered,
        ctx: &mut Context<'_>,
    ) {
        if let Some(first) = first_lane(to, why) {
            let order = super::Message::Request {
                flow,
                request,
                user,
            };
            return ctx.tell(first, order.into());
        }
        let Ok(request) = Message::read(request) else {
            return ctx.ignore("a request of ours cannot be read");
        };
        if let Ok(key) = Key::of_sent(&request) {
            self.elsewhere.handed.remove(&key);
        }
        tell_failure(&request, user, dialog::RequestFailure::Unreachable, ctx);
    }

    /// A node is dead: requests over its connections get no answer any more.
    pub(super) fn on_node_gone(&mut self, node: NodeId, ctx: &mut Context<'_>) {
        let now = ctx.now().mono;
        // One that was answered meanwhile: its user knows better. A CANCEL fails in silence.
        for handed in self.elsewhere.handed.take_of(node) {
            if let Some(branch) = handed.branch.filter(|_| handed.until > now) {
                let why = dialog::RequestFailure::Unreachable;
                let news = dialog::Message::RequestFailed { branch, why };
                ctx.tell(handed.user, news.into());
            }
        }
    }

    /// Passes a message to the lane of another node that holds its transaction.
    pub(super) fn pass_on(
        &self,
        to: ActorId,
        flow: FlowRef,
        message: &Message,
        ctx: &mut Context<'_>,
    ) {
        let message = message.bytes().clone();
        ctx.tell(to, super::Message::Strayed { flow, message }.into());
    }

    /// Another node got what belongs to a transaction of this one.
    pub(super) fn on_strayed(&mut self, flow: FlowRef, octets: Bytes, ctx: &mut Context<'_>) {
        let number = lane_of(ctx.site(), &octets);
        if number != self.number {
            let here = ActorId::Lane(ctx.site().node, number);
            let message = octets;
            return ctx.tell(here, super::Message::Strayed { flow, message }.into());
        }
        let Ok(message) = Message::read(octets) else {
            return ctx.ignore("no SIP message");
        };
        if !message.is_request() {
            return self.on_response(flow, message, true, ctx);
        }
        match Key::of_request(&message) {
            Ok(key) if message.method().is(Method::Ack) => {
                self.on_ack(flow, message, key, true, ctx);
            }
            Ok(_) | Err(_) => ctx.ignore("only ACKs are passed on"),
        }
    }

    /// What was passed on came back: it is for the dialog then, wherever that runs by now.
    pub(super) fn on_not_passed(
        &mut self,
        to: &ActorId,
        flow: FlowRef,
        octets: Bytes,
        why: Undelivered,
        ctx: &mut Context<'_>,
    ) {
        let Ok(message) = Message::read(octets) else {
            return ctx.ignore("no SIP message");
        };
        if !message.is_request() {
            return self.on_lost_response(flow, message, ctx);
        }
        if let Some(first) = first_lane(to, why) {
            return self.pass_on(first, flow, &message, ctx);
        }
        if let Ok(key) = Key::of_request(&message) {
            self.tell_ack(flow, message, key, ctx);
        }
    }

    /// The node that sent the request is gone. A 2xx to its INVITE makes a dialog, which somebody
    /// must acknowledge and may have to end (RFC 3261 §13.2.2.4); anything else ends by itself.
    fn on_lost_response(&mut self, flow: FlowRef, response: Message, ctx: &mut Context<'_>) {
        let is_accepted = response
            .status()
            .is_some_and(|status| (200..300).contains(&status))
            && response
                .cseq()
                .is_ok_and(|cseq| cseq.method.is(Method::Invite));
        let via = response.via().ok();
        let branch = via.as_ref().and_then(|via| via.branch());
        let token = branch.and_then(|branch| ctx.site().tokens.read(TokenUse::Branch, branch));
        match token {
            Some(token) if is_accepted => {
                let news = dialog::Message::Response { response, flow };
                ctx.tell(ActorId::Dialog(token.side), news.into());
            }
            Some(_) | None => {
                self.elsewhere.dropped += 1;
                ctx.ignore("a response to a node that is gone");
            }
        }
    }

    /// An INVITE with a right digest and a used nonce may be a copy of one that another node took:
    /// if its call is there, the caller's side answers once more.
    pub(super) fn ask_caller(&mut self, number: u64, waiting: Waiting, ctx: &mut Context<'_>) {
        self.keep_silent(number);
        let Some(entry) = self.table.entry(number) else {
            return;
        };
        let (flow, key) = (entry.source, entry.key.clone());
        let call = super::checks::call_key(&waiting.request, ctx.site());
        let inbound = self.inbound(flow, key, waiting.request, Some(waiting.identity), ctx);
        let side = ActorId::Dialog(call.side(crate::call::CALLER));
        ctx.tell(side, dialog::Message::Retransmitted(inbound).into());
    }

    /// There is no such call, or it is too busy: then the copy is forgotten, and the next one asks.
    pub(super) fn on_no_caller(
        &mut self,
        inbound: &Inbound,
        why: Undelivered,
        ctx: &mut Context<'_>,
    ) {
        let key = &inbound.transaction.key;
        let Some(number) = self.table.find(Side::Server, key) else {
            return ctx.ignore("nothing waits for this call");
        };
        match why {
            Undelivered::Absent => self.challenge_anew(number, &inbound.request, true, ctx),
            Undelivered::Busy => self.table.remove(number),
        }
    }
}

/// Returns the lane that the branch of a request of ours names.
fn lane_of_branch(request: &Message, site: &Site) -> Option<u16> {
    let via = request.via().ok()?;
    let token = site.tokens.read(TokenUse::Branch, via.branch()?)?;
    Some(token.lane)
}

/// Returns the lane that is tried next if the addressed one is not there.
fn first_lane(to: &ActorId, why: Undelivered) -> Option<ActorId> {
    match to {
        ActorId::Lane(node, number) if *number != 0 && why == Undelivered::Absent => {
            Some(ActorId::Lane(*node, 0))
        }
        ActorId::Lane(..)
        | ActorId::Registration(_)
        | ActorId::Call(_)
        | ActorId::Dialog(_)
        | ActorId::MediaLeg(_)
        | ActorId::Gateway(_)
        | ActorId::Parking(_)
        | ActorId::Flow(..)
        | ActorId::DoorSession(..)
        | ActorId::Console(_)
        | ActorId::Member(_) => None,
    }
}
