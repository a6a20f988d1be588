//! A dialog whose call another node had (`cluster.md` §7): what was open between that node and the
//! peer is closed from here.
//!
//! In: the state as the other node recorded it. Out: responses and ACKs that it may not have sent,
//! with our Contact where the peer follows it; CANCEL of an INVITE whose responses cannot reach us.
//! That the call goes on elsewhere the call itself says, by an offer (`Move`).
//!
//! | state | does | source |
//! |---|---|---|
//! | Incoming, Early | nothing: the INVITE is answered here as it is recorded | RFC 3261 §18.2.2 |
//! | Accepted | the 2xx at once, with our Contact; without an ACK for 2 s it counts as come | §13.3.1.4 |
//! | Calling, Proceeding, Cancelling | CANCEL as soon as the end is ordered, with the recorded Via; BYE too if the early dialog is known; what the other node passes on if it lives is taken as ever | §9.1, §9.2, §15 |
//! | Confirmed | the last ACK again; an ACK for each offer of ours without a response; a 2xx without ACK again, with our Contact | §13.2.2.4 |
//! | Confirmed, only to be ended | the same, but for the 2xx | §15 |
//! | Ending | BYE with a new number | §15.1.1 |
//! | Ended | a final refusal again | §17.1.1.2 |
//! | any, over a connection of the other node | as after its loss: what is to be sent waits, the CANCEL too | `architecture.md` §7 |
//! | any, over a connection of this node | asks whether it is of this life; if not, as after its loss | |
//!
//! An offer of ours without a response may have been accepted: the peer sent its 2xx to the old
//! address, and would hang up without the ACK (RFC 3261 §14.2). One that it has not accepted is not
//! harmed by an ACK of nothing.

use std::time::Duration;

use bytes::Bytes;
use contract::{ActorId, FlowRef, NodeId, TokenUse};
use rsip::Method;
use sip::{HeaderName, Writer};

use super::RequestFailure;
use super::core::{Dialog, DialogCtx, Purpose, State, T1, Timer, written};
use super::offer::Content;
use super::wire::Wire;
use super::writing::lane_of_side;
use crate::{Site, TransactionRef, call, lane, message};

/// How long an ACK may take that goes to our Contact: the peer repeats it at each 2xx. One that went
/// to the other node's does not come.
const ACK_AFTER: Duration = Duration::from_secs(2);

impl Dialog {
    /// Goes on with what another node had.
    pub(super) fn take_over(&mut self, ctx: &mut DialogCtx<'_>) {
        let is_gone = self.is_flow_of_former(ctx);
        self.take_over_with(is_gone, ctx);
    }

    /// Goes on with what a node has given up that was cut off and is back, to end it: its connections
    /// are there.
    pub(super) fn inherit_open(&mut self, ctx: &mut DialogCtx<'_>) {
        // It came in a message, not in our record: that node has perhaps dropped its copy already, so
        // a 2xx to a later INVITE is on no disk. The BYE ends it unsaid, as in `send_bye`. One to the
        // first INVITE comes before any BYE: it is recorded first.
        if self.data.state == State::Confirmed {
            self.data.accepted = None;
        }
        self.take_over_with(false, ctx);
    }

    /// Goes on with what another call had: its connections are there, and so are its transactions.
    pub(super) fn go_on_here(&mut self, ctx: &mut DialogCtx<'_>) {
        self.take_over_with(false, ctx);
    }

    fn take_over_with(&mut self, is_flow_gone: bool, ctx: &mut DialogCtx<'_>) {
        // Of its own connections a node knows more than who could not reach it.
        self.data.is_flow_gone &= !self.data.flow.ends_at(ctx.site().node);
        self.data.is_flow_gone |= is_flow_gone;
        self.check_own_flow(ctx);
        self.find_lanes(ctx);
        self.out.save();
        match self.data.state {
            State::Incoming | State::Early => {}
            State::Accepted => self.accept_anew(ctx),
            State::Calling | State::Proceeding | State::Cancelling => self.cancel_anew(ctx),
            State::Confirmed => self.close_open(ctx),
            State::Ending => self.bye_again(ctx),
            State::Ended => self.refuse_again(ctx),
        }
    }

    /// Asks whether a connection of this node is there: it may be one of a former life, of whose end
    /// no lane has heard. Our lane is the watcher: it is told of each end, so one entry serves all.
    fn check_own_flow(&mut self, ctx: &DialogCtx<'_>) {
        let site = ctx.site();
        if self.data.is_flow_gone || !self.data.flow.ends_at(site.node) {
            return;
        }
        let lane = ActorId::Lane(site.node, lane_of_side(site, self.data.side));
        if let Some((to, watch)) = message::watch(self.data.flow, lane) {
            self.out.other(to, watch);
        }
    }

    /// There is no such connection here: what was sent on it meanwhile waits for the peer.
    pub(super) fn on_own_flow_gone(&mut self, flow: FlowRef, ctx: &mut DialogCtx<'_>) {
        if flow != self.data.flow || self.data.is_flow_gone || self.data.state == State::Ended {
            return ctx.ignore("another connection, or known");
        }
        self.data.is_flow_gone = true;
        self.out.save();
        let is_fork = self.data.birth.is_some()
            && matches!(
                self.data.state,
                State::Calling | State::Proceeding | State::Cancelling
            );
        if is_fork {
            return self.lose_fork(ctx);
        }
        let sent = self.data.outgoing.iter().map(|one| one.branch.clone());
        for branch in sent.collect::<Vec<_>>() {
            self.on_inside_failed(&branch, RequestFailure::Unreachable, ctx);
        }
    }

    /// Requests of the peer that came to the other node are answered from here. This node may have
    /// fewer lanes: a copy of a request comes to the one that its branch falls to here, a response to
    /// the one that our branch names, or to the first.
    fn find_lanes(&mut self, ctx: &DialogCtx<'_>) {
        let (site, former) = (ctx.site(), self.former(ctx));
        let has_moved = |one: &TransactionRef| one.node.is_none() || one.node == former;
        let invite = self.data.invite.as_ref().map(|invite| invite.0.bytes());
        let transactions = [
            (self.data.transaction.as_mut(), invite),
            // Also of a later INVITE, which is not kept.
            (
                self.data
                    .accepted
                    .as_mut()
                    .map(|open| &mut open.transaction),
                None,
            ),
            (
                self.data
                    .incoming
                    .as_mut()
                    .map(|open| &mut open.transaction),
                None,
            ),
        ];
        for (transaction, request) in transactions {
            if let Some(transaction) = transaction.filter(|one| has_moved(one)) {
                let lane = request.map(|request| lane::lane_of(site, request));
                settle_here(transaction, lane, site);
            }
        }
        if let Some(birth) = &mut self.data.birth
            && birth.lane >= site.lanes
        {
            birth.lane = 0;
        }
    }

    /// Returns the node that the dialog began on, if that is another one: most likely it had it last.
    fn former(&self, ctx: &DialogCtx<'_>) -> Option<NodeId> {
        let token = ctx.site().tokens.read(TokenUse::Tag, &self.data.tag);
        let began = token.map(|token| token.hint);
        began.filter(|node| *node != ctx.site().node)
    }

    /// The node that a request came to is gone: it is answered from here, as its top Via says.
    pub(super) fn answer_from_here(&mut self, message: crate::Message, ctx: &mut DialogCtx<'_>) {
        let site = ctx.site();
        let crate::Message::Lane(lane::Message::Respond {
            mut transaction,
            flow,
            response,
        }) = message
        else {
            return ctx.ignore("what only that node could do");
        };
        let known = [
            self.data.transaction.as_mut(),
            self.data
                .accepted
                .as_mut()
                .map(|open| &mut open.transaction),
        ];
        for known in known.into_iter().flatten() {
            if known.key == transaction.key {
                settle_here(known, None, site);
                self.out.save();
            }
        }
        settle_here(&mut transaction, None, site);
        self.respond(transaction, flow, response, ctx);
    }

    /// Tells whether the connection ended at the node that the dialog began on. Of a connection to
    /// any other node its loss is told when something is sent on it.
    fn is_flow_of_former(&self, ctx: &DialogCtx<'_>) -> bool {
        let former = self.former(ctx);
        former.is_some_and(|former| self.data.flow.ends_at(former))
    }

    /// Tells whether another node sent our INVITE, so that its responses go there.
    pub(super) fn is_invite_of_former(&self, ctx: &DialogCtx<'_>) -> bool {
        let branch = self.data.birth.as_ref().map(|birth| birth.branch.as_str());
        let token = branch.and_then(|one| ctx.site().tokens.read(TokenUse::Branch, one));
        token.is_some_and(|token| token.hint != ctx.site().node)
    }

    /// The peer may have acknowledged our 2xx, or never had it.
    fn accept_anew(&mut self, ctx: &mut DialogCtx<'_>) {
        let known = self.data.response.take();
        self.data.response = known.map(|known| self.readdressed(known, ctx));
        let Some(accepted) = &mut self.data.accepted else {
            return;
        };
        if let Some(response) = &self.data.response {
            accepted.response = response.clone();
        }
        accepted.interval_ms = u64::try_from(T1.as_millis()).unwrap_or(u64::MAX);
        let (transaction, response) = (accepted.transaction.clone(), accepted.response.0.clone());
        let now = ctx.now().mono;
        self.timers.set(Timer::RepeatAccepted, now, T1);
        self.timers.set(Timer::AssumeAcknowledged, now, ACK_AFTER);
        self.out.save_first();
        self.respond(transaction, self.data.flow, response, ctx);
    }

    /// The ACK went to the other node, it seems: the peer has the 2xx.
    pub(super) fn assume_acknowledged(&mut self, ctx: &mut DialogCtx<'_>) {
        if self.data.state != State::Accepted || self.data.accepted.take().is_none() {
            return ctx.ignore("acknowledged already");
        }
        self.timers.clear(Timer::RepeatAccepted);
        self.timers.clear(Timer::AwaitAck);
        self.enter(State::Confirmed, ctx);
        let side = self.number();
        self.out
            .call(call::Message::Acknowledged { side, sdp: None });
        if let Some(cause) = self.data.end.take() {
            self.send_bye(&cause, ctx);
        }
    }

    /// Responses to our INVITE go to the other node: it is of no use any more, unless that node lives
    /// and passes on that it was answered. Whether there was a provisional one is not known, and a
    /// CANCEL of an INVITE that never came harms nobody.
    pub(super) fn cancel_anew(&mut self, ctx: &mut DialogCtx<'_>) {
        // The record holds those that are called anew as well. The INVITE has it, too.
        self.data.sdp = None;
        if self.data.birth.is_none() {
            return self.enter(State::Ended, ctx);
        }
        if self.data.is_flow_gone {
            return self.lose_fork(ctx);
        }
        if self.data.state == State::Cancelling || self.data.end.is_some() {
            return self.cancel(ctx);
        }
        if self.data.state == State::Calling {
            self.enter(State::Proceeding, ctx);
        }
    }

    /// Closes what was open: the call begins anew.
    fn close_open(&mut self, ctx: &mut DialogCtx<'_>) {
        for timer in [Timer::Glare, Timer::Park, Timer::LocateAgain] {
            self.timers.clear(timer);
        }
        for timer in [Timer::RepeatAccepted, Timer::AwaitAck] {
            self.timers.clear(timer);
        }
        self.data.glare = None;
        self.data.parked.clear();
        let sent = std::mem::take(&mut self.data.outgoing);
        let accepted = self.data.accepted.take();
        let unacknowledged = self.data.unacknowledged.take();
        if self.data.is_flow_gone {
            return;
        }
        self.acknowledge_last(ctx);
        if let Some(accepted) = accepted {
            let response = self.readdressed(accepted.response, ctx);
            self.respond(accepted.transaction, self.data.flow, response.0, ctx);
        }
        let tag = self.remote_tag();
        let offers = sent.iter().filter(|one| one.is_invite && one.has_sdp);
        for cseq in offers.map(|one| one.cseq).chain(unacknowledged) {
            self.acknowledge(cseq, &tag, None, ctx);
        }
    }

    /// Returns a 2xx of the other node with our Contact: where its ACK goes.
    fn readdressed(&self, response: Wire, ctx: &DialogCtx<'_>) -> Wire {
        let contact = self.contact(ctx);
        let bytes = contact.and_then(|contact| with_contact(&response.0, &contact));
        bytes.map_or(response, Wire)
    }

    /// Tells the peer our new address: what it is offered is `sdp`, or what it was described last.
    pub(super) fn tell_address(&mut self, sdp: Option<Bytes>, ctx: &mut DialogCtx<'_>) {
        if sdp.is_none() && ctx.site().moves_along(self.data.flow.listener()) {
            let side = self.number();
            let news = call::Message::OfferAnswered { side, sdp: None };
            return self.out.call(news);
        }
        self.is_untold = true;
        if let Some(sdp) = sdp.or_else(|| Wire::bytes(self.data.sdp.as_ref())) {
            return self.offer(Some(&sdp), true, ctx);
        }
        // Our side never described anything: the Contact alone is new (RFC 3311 §5.1).
        let content = Content {
            purpose: Purpose::Refresh,
            method: Method::Update,
            body: None,
            reason: None,
            event: None,
            retries: false,
        };
        if self.data.state == State::Confirmed && !self.data.is_flow_gone {
            self.send(&content, ctx);
        }
        let side = self.number();
        self.out
            .call(call::Message::OfferAnswered { side, sdp: None });
    }
}

/// Makes a transaction one of this node, in `lane` if that is known.
fn settle_here(transaction: &mut TransactionRef, lane: Option<u16>, site: &Site) {
    transaction.node = Some(site.node);
    transaction.lane = lane.unwrap_or(transaction.lane);
    if transaction.lane >= site.lanes {
        transaction.lane = 0;
    }
}

/// Returns a response of ours with another Contact.
fn with_contact(response: &Bytes, contact: &str) -> Option<Bytes> {
    let read = sip::Message::read(response.clone()).ok()?;
    let mut writer = Writer::response(read.status()?, None);
    let is = |name: &str, known: HeaderName| name.eq_ignore_ascii_case(known.as_str());
    for (name, value) in read.all_headers() {
        if is(name, HeaderName::Contact) {
            writer.header(HeaderName::Contact, contact);
        } else if !is(name, HeaderName::ContentLength) && !is(name, HeaderName::ContentType) {
            writer.other(name, value);
        }
    }
    if let Some(content_type) = read.content_type() {
        writer.body(content_type, read.body());
    }
    written(writer)
}
