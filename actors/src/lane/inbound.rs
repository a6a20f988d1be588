//! A request from the wire: the gate, and who is told.
//!
//! In: a message, stamped with its source. Out: an answer, or a transaction and one `Tell`. The
//! order of the gate is in the folder's table. It answers nothing that the policy gives to an actor.

use bytes::Bytes;
use contract::{ActorId, FlowRef, NodeId, Time, TokenUse};
use rsip::Method;
use sip::transaction::Key;
use sip::{Aor, Message, ReadError};

use super::auth::{self, Proof};
use super::checks::{call_key, check_passage, is_shed, merge_of, side_of};
use super::core::{Context, Lane};
use super::refusal::{self, Refusal};
use super::table::Side;
use super::{NonceVerdict, outbound};
use crate::policy::{self, Place, Ruling, Standing};
use crate::site::Auth;
use crate::{Inbound, TransactionRef, call, dialog, registration};

/// A request whose digest is right, while the issuer of its nonce is asked.
#[derive(Debug)]
pub(super) struct Waiting {
    pub request: Message,
    pub identity: Aor,
    pub ruling: Ruling,
    /// How long it waits.
    pub until: Option<Time>,
}

/// How far a request gets before there is a transaction.
enum Passage {
    /// Answered, or not, without a transaction.
    Answer(Option<Bytes>),
    /// Told to nobody, not answered.
    Drop(&'static str),
    /// Told without a transaction: the CANCEL of an INVITE that this lane does not know.
    Tell,
    /// A transaction begins.
    Enter {
        ruling: Ruling,
        identity: Option<Aor>,
        nonce: Option<auth::Use>,
    },
}

impl Lane {
    /// Takes a datagram or a framed message.
    pub(super) fn on_octets(&mut self, flow: FlowRef, bytes: Bytes, ctx: &mut Context<'_>) {
        if bytes
            .iter()
            .all(|octet| matches!(octet, b'\r' | b'\n' | b' ' | 0))
        {
            return ctx.ignore("keep-alive");
        }
        match Message::read(bytes.clone()) {
            Ok(message) if message.is_request() => self.on_request(flow, &message, ctx),
            Ok(message) => self.on_response(flow, message, false, ctx),
            Err(error) => refuse_unreadable(flow, bytes, error, ctx),
        }
    }

    fn on_request(&mut self, flow: FlowRef, request: &Message, ctx: &mut Context<'_>) {
        let request = sip::stamp_via(request, flow.remote());
        let Ok(key) = Key::of_request(&request) else {
            return ctx.ignore("no transaction key");
        };
        if request.method().is(Method::Ack) {
            return self.on_ack(flow, request, key, false, ctx);
        }
        if let Some(number) = self.table.find(Side::Server, &key) {
            return self.on_repeat(number, flow, &request, ctx);
        }
        match self.gate(flow, &request, ctx) {
            Passage::Answer(Some(response)) => {
                ctx.send(outbound::way_back(&request, flow), response);
            }
            Passage::Answer(None) => {}
            Passage::Drop(why) => ctx.ignore(why),
            Passage::Tell => self.tell_cancel(flow, key, request, ctx),
            Passage::Enter {
                ruling,
                identity,
                nonce,
            } => {
                let Some(number) = self.open(flow, key, &request, ctx) else {
                    let refusal = Refusal::busy("too many transactions", ctx);
                    let response = refusal::write(&request, &refusal, ctx);
                    return outbound::send_back(&request, flow, response, ctx);
                };
                match (nonce, identity) {
                    (Some(nonce), Some(identity)) => {
                        let waiting = Waiting {
                            request,
                            identity,
                            ruling,
                            until: None,
                        };
                        self.check_nonce(number, waiting, nonce, ctx);
                    }
                    (_, identity) => self.pass(number, request, ruling, identity, ctx),
                }
            }
        }
    }

    /// A retransmission: the machine repeats what was answered; nobody is told again.
    fn on_repeat(&mut self, number: u64, flow: FlowRef, request: &Message, ctx: &mut Context<'_>) {
        let is_same = |source: &FlowRef| source.is_same_source(&flow);
        if !self
            .table
            .entry(number)
            .is_some_and(|entry| is_same(&entry.source))
        {
            return ctx.ignore("a repeat from another source");
        }
        self.repeat(number, request, ctx);
    }

    /// The ACK of a refusal ends its transaction; that may be where our tag was made. Any other is
    /// of a 2xx: most dialogs are still there as well.
    pub(super) fn on_ack(
        &mut self,
        flow: FlowRef,
        request: Message,
        key: Key,
        is_strayed: bool,
        ctx: &mut Context<'_>,
    ) {
        if let Some(number) = self.table.find(Side::Server, &key) {
            return self.on_repeat(number, flow, &request, ctx);
        }
        let to = request.to().ok();
        let tag = to.as_ref().and_then(|to| to.tag());
        let token = tag.and_then(|tag| ctx.site().tokens.read(TokenUse::Tag, tag));
        match token.map(|token| token.hint) {
            Some(hint) if hint != ctx.site().node && !is_strayed => {
                self.pass_on(ActorId::Lane(hint, self.number), flow, &request, ctx);
            }
            Some(_) | None => self.tell_ack(flow, request, key, ctx),
        }
    }

    /// Passes the ACK of a 2xx on to its dialog, which checks the source.
    pub(super) fn tell_ack(
        &self,
        flow: FlowRef,
        request: Message,
        key: Key,
        ctx: &mut Context<'_>,
    ) {
        match side_of(&request, ctx.site()) {
            (Place::Inside, Some(side)) => {
                let inbound = self.inbound(flow, key, request, None, ctx);
                ctx.tell(
                    ActorId::Dialog(side),
                    dialog::Message::Request(inbound).into(),
                );
            }
            (Place::Inside | Place::Outside | Place::Foreign, _) => {
                ctx.ignore("an ACK of nothing");
            }
        }
    }

    fn tell_cancel(&self, flow: FlowRef, key: Key, request: Message, ctx: &mut Context<'_>) {
        let call = ActorId::Call(call_key(&request, ctx.site()));
        let inbound = self.inbound(flow, key, request, None, ctx);
        ctx.tell(call, call::Message::Cancel(inbound).into());
    }

    pub(super) fn inbound(
        &self,
        flow: FlowRef,
        key: Key,
        request: Message,
        identity: Option<Aor>,
        ctx: &Context<'_>,
    ) -> Inbound {
        let transaction = self.transaction(key, ctx);
        Inbound {
            transaction,
            flow,
            request,
            identity,
        }
    }

    fn transaction(&self, key: Key, ctx: &Context<'_>) -> TransactionRef {
        TransactionRef {
            node: Some(ctx.site().node),
            lane: self.number,
            key,
        }
    }

    /// Judges a new request. Nothing is stored for one whose sender has shown nothing.
    fn gate(&mut self, flow: FlowRef, request: &Message, ctx: &mut Context<'_>) -> Passage {
        if request.check().is_err() {
            return answer(request, &Refusal::new(400, "malformed header field"), ctx);
        }
        let (place, _) = side_of(request, ctx.site());
        if let Some(refusal) = self.check_arrival(request, place, ctx) {
            return answer(request, &refusal, ctx);
        }
        let auth = ctx
            .site()
            .listener(flow.listener())
            .map_or(Auth::Digest, |one| one.auth);
        match (
            policy::rule(request.method(), place, Standing::Unproven),
            auth,
        ) {
            (Ruling::Cancel, _) => self.gate_cancel(flow, request),
            (Ruling::Options, _) => Passage::Answer(refusal::options(request, ctx.site())),
            (Ruling::Refuse { status, why }, _) => answer(request, &Refusal::new(status, why), ctx),
            (Ruling::Prove { .. }, Auth::None) => {
                let ruling = policy::rule(request.method(), place, Standing::Proven);
                match auth::claimed(request, ctx.site()) {
                    Some(identity) => Passage::Enter {
                        ruling,
                        identity: Some(identity),
                        nonce: None,
                    },
                    None => answer(request, &Refusal::new(403, "nobody's name"), ctx),
                }
            }
            (Ruling::Prove { .. }, Auth::Digest) => self.gate_proof(flow, request, place, ctx),
            (Ruling::Dialog, Auth::Digest) => self.gate_dialog(flow, request, ctx),
            (ruling @ (Ruling::Dialog | Ruling::Acknowledge), _) => Passage::Enter {
                ruling,
                identity: None,
                nonce: None,
            },
            (Ruling::Register | Ruling::Call, Auth::Digest | Auth::None) => {
                answer(request, &Refusal::new(403, "denied by default"), ctx)
            }
        }
    }

    /// Refuses loops, merged requests, what a full node sheds, and requests without hops left.
    fn check_arrival(
        &self,
        request: &Message,
        place: Place,
        ctx: &mut Context<'_>,
    ) -> Option<Refusal> {
        if place != Place::Outside {
            return None;
        }
        let tokens = &ctx.site().tokens;
        let is_own = |via: &sip::Via| {
            via.branch()
                .is_some_and(|branch| tokens.read(TokenUse::Branch, branch).is_some())
        };
        if sip::is_loop(request, is_own) {
            return Some(Refusal::new(482, "loop"));
        }
        let is_invite = request.method().is(Method::Invite);
        if is_invite && merge_of(request).is_some_and(|id| self.table.find_merged(&id).is_some()) {
            return Some(Refusal::new(482, "merged request"));
        }
        if is_shed(request, ctx) {
            return Some(Refusal::busy("no new work", ctx));
        }
        let hops = sip::decrement_max_forwards(request)
            .err()
            .filter(|_| is_invite)?;
        Some(Refusal::new(hops.status(), "no hops left"))
    }

    /// A CANCEL needs the source of its INVITE (`threats.md` 24); of an INVITE from before the
    /// node's last start its call knows the source.
    fn gate_cancel(&mut self, flow: FlowRef, cancel: &Message) -> Passage {
        let invite = Key::cancelled_by(cancel).ok();
        let Some(number) = invite.and_then(|key| self.table.find(Side::Server, &key)) else {
            return Passage::Tell;
        };
        let is_same = |source: &FlowRef| source.is_same_source(&flow);
        if self
            .table
            .entry(number)
            .is_some_and(|entry| is_same(&entry.source))
        {
            Passage::Enter {
                ruling: Ruling::Cancel,
                identity: None,
                nonce: None,
            }
        } else {
            Passage::Drop("a CANCEL from another source")
        }
    }

    fn gate_proof(
        &mut self,
        flow: FlowRef,
        request: &Message,
        place: Place,
        ctx: &mut Context<'_>,
    ) -> Passage {
        let is_stale = match self.auth.examine(request, flow, ctx) {
            Proof::Right { identity, nonce } => {
                let ruling = policy::rule(request.method(), place, Standing::Proven);
                return Passage::Enter {
                    ruling,
                    identity: Some(identity),
                    nonce: Some(nonce),
                };
            }
            Proof::Limited => {
                return answer(request, &Refusal::new(403, "too many failures"), ctx);
            }
            Proof::Stale => true,
            Proof::Absent | Proof::Wrong => false,
        };
        let challenge = self
            .auth
            .challenge(request, flow, self.number, is_stale, ctx);
        answer(request, &challenge, ctx)
    }

    /// In a dialog the right source is enough; a digest helps a phone whose source has changed.
    fn gate_dialog(&mut self, flow: FlowRef, request: &Message, ctx: &mut Context<'_>) -> Passage {
        let ruling = Ruling::Dialog;
        match self.auth.examine(request, flow, ctx) {
            Proof::Right { identity, nonce } => Passage::Enter {
                ruling,
                identity: Some(identity),
                nonce: Some(nonce),
            },
            Proof::Absent | Proof::Wrong | Proof::Stale | Proof::Limited => Passage::Enter {
                ruling,
                identity: None,
                nonce: None,
            },
        }
    }

    /// Has the nonce count checked where the nonce was made, on whichever node.
    fn check_nonce(
        &mut self,
        number: u64,
        mut waiting: Waiting,
        nonce: auth::Use,
        ctx: &mut Context<'_>,
    ) {
        let now = ctx.now();
        let own = ctx.site().node;
        let (node, lane) = (NodeId(nonce.info.node), nonce.info.lane);
        if (node, lane) == (own, self.number) {
            let verdict = self.auth.count(&nonce.info, nonce.count, now);
            return self.on_verdict(number, waiting, verdict, ctx);
        }
        waiting.until = self.elsewhere.ask(number, now.mono);
        if waiting.until.is_none() {
            return self.on_verdict(number, waiting, NonceVerdict::Forgotten, ctx);
        }
        let Some(entry) = self.table.entry(number) else {
            return;
        };
        let key = entry.key.clone();
        entry.waiting = Some(Box::new(waiting));
        self.keep_silent(number);
        let transaction = self.transaction(key, ctx);
        let (nonce, count) = (nonce.info, nonce.count);
        let question = super::Message::CheckNonce {
            nonce,
            count,
            transaction,
        };
        ctx.tell(ActorId::Lane(node, lane), question.into());
    }

    /// Goes on with a request that waited for the issuer of its nonce.
    pub(super) fn on_nonce_checked(
        &mut self,
        transaction: &TransactionRef,
        verdict: NonceVerdict,
        ctx: &mut Context<'_>,
    ) {
        let number = self.table.find(Side::Server, &transaction.key);
        let waiting = number.and_then(|number| self.table.entry(number)?.waiting.take());
        match (number, waiting) {
            (Some(number), Some(waiting)) => {
                if let Some(until) = waiting.until {
                    self.elsewhere.answered(until, number);
                }
                self.on_verdict(number, *waiting, verdict, ctx);
            }
            (_, _) => ctx.ignore("nothing waits for this nonce"),
        }
    }

    pub(super) fn on_verdict(
        &mut self,
        number: u64,
        waiting: Waiting,
        verdict: NonceVerdict,
        ctx: &mut Context<'_>,
    ) {
        let is_cluster = ctx.site().cluster.is_some();
        // Over a connection nothing is sent twice.
        let source = self.table.entry(number).map(|entry| entry.source);
        let may_be_copy = is_cluster && source.is_some_and(|source| !source.is_reliable());
        match (verdict, waiting.ruling) {
            (NonceVerdict::Fresh, ruling) => {
                let identity = Some(waiting.identity);
                self.pass(number, waiting.request, ruling, identity, ctx);
            }
            (_, Ruling::Dialog) => {
                self.pass(number, waiting.request, Ruling::Dialog, None, ctx);
            }
            (NonceVerdict::Replayed | NonceVerdict::Forgotten, Ruling::Call) if may_be_copy => {
                self.ask_caller(number, waiting, ctx);
            }
            (NonceVerdict::Replayed | NonceVerdict::Forgotten, _) => {
                // Another node may have taken the first copy: the phone is not to take the password
                // that it sent for wrong.
                let is_stale = is_cluster || verdict == NonceVerdict::Forgotten;
                self.challenge_anew(number, &waiting.request, is_stale, ctx);
            }
        }
    }

    /// Challenges a request whose nonce is of no use, in its transaction.
    pub(super) fn challenge_anew(
        &mut self,
        number: u64,
        request: &Message,
        is_stale: bool,
        ctx: &mut Context<'_>,
    ) {
        let Some(entry) = self.table.entry(number) else {
            return;
        };
        let source = entry.source;
        let challenge = self
            .auth
            .challenge(request, source, self.number, is_stale, ctx);
        self.refuse(number, request, &challenge, ctx);
    }

    /// Tells the actor that the policy names.
    fn pass(
        &mut self,
        number: u64,
        request: Message,
        ruling: Ruling,
        identity: Option<Aor>,
        ctx: &mut Context<'_>,
    ) {
        let Some(entry) = self.table.entry(number) else {
            return;
        };
        let (flow, key) = (entry.source, entry.key.clone());
        if let Some(refusal) = check_passage(&request, flow, ruling, identity.as_ref(), ctx) {
            return self.refuse(number, &request, &refusal, ctx);
        }
        if request.method().is(Method::Invite)
            && let Some(trying) = refusal::trying(&request)
        {
            self.answer(number, trying, ctx);
        }
        let (to, message) = match (ruling, side_of(&request, ctx.site()).1, &identity) {
            (Ruling::Register, _, Some(aor)) => {
                let id = ActorId::Registration(aor.as_str().into());
                let inbound = self.inbound(flow, key, request, identity, ctx);
                (id, registration::Message::Register(inbound).into())
            }
            (Ruling::Call, _, Some(_)) => {
                let id = ActorId::Call(call_key(&request, ctx.site()));
                let inbound = self.inbound(flow, key, request, identity, ctx);
                (id, call::Message::Invite(inbound).into())
            }
            (Ruling::Cancel, _, _) => {
                let id = ActorId::Call(call_key(&request, ctx.site()));
                let inbound = self.inbound(flow, key, request, identity, ctx);
                (id, call::Message::Cancel(inbound).into())
            }
            (Ruling::Dialog, Some(side), _) => {
                let inbound = self.inbound(flow, key, request, identity, ctx);
                (
                    ActorId::Dialog(side),
                    dialog::Message::Request(inbound).into(),
                )
            }
            (
                Ruling::Register
                | Ruling::Call
                | Ruling::Dialog
                | Ruling::Acknowledge
                | Ruling::Options
                | Ruling::Prove { .. }
                | Ruling::Refuse { .. },
                _,
                _,
            ) => {
                let refusal = Refusal::new(403, "denied by default");
                return self.refuse(number, &request, &refusal, ctx);
            }
        };
        ctx.tell(to, message);
    }

    /// Answers a request that its actor did not take.
    pub(super) fn on_not_taken(
        &mut self,
        inbound: &Inbound,
        status: u16,
        why: &'static str,
        ctx: &mut Context<'_>,
    ) {
        let number = self.table.find(Side::Server, &inbound.transaction.key);
        let (Some(number), false) = (number, inbound.request.method().is(Method::Ack)) else {
            return ctx.ignore("nobody to tell that it was not taken");
        };
        let refusal = if status == 503 {
            Refusal::busy(why, ctx)
        } else {
            Refusal::new(status, why)
        };
        self.refuse(number, &inbound.request, &refusal, ctx);
    }
}

/// Answers what is no SIP message, if it can be answered.
fn refuse_unreadable(flow: FlowRef, bytes: Bytes, error: ReadError, ctx: &mut Context<'_>) {
    let Some(request) = Message::read_for_error(bytes) else {
        return ctx.ignore("no SIP message");
    };
    let request = sip::stamp_via(&request, flow.remote());
    let refusal = Refusal::new(error.status(), error.reason());
    let response = refusal::write(&request, &refusal, ctx);
    outbound::send_back(&request, flow, response, ctx);
}

fn answer(request: &Message, refusal: &Refusal, ctx: &mut Context<'_>) -> Passage {
    Passage::Answer(refusal::write(request, refusal, ctx))
}
