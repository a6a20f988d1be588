//! State of a dialog and the way of its events; the table is in `mod.rs`.
//!
//! In: events. Out: actions, by way of the `Outbox`. Each file of the folder has the transitions of
//! one concern; this one sorts events to them.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use contract::limits::{CSEQ_EPOCHS_END, CSEQ_RANGE, DIALOG_RETELLS_MAX, NODES_MAX};
use contract::{
    ActorId, Core, Ctx, Deadlines, Event, FlowRef, Now, RestoreError, Restored, SideKey, Time,
    Undelivered,
};
use serde::{Deserialize, Serialize};
use sip::dialog::DialogState;
use sip::{Aor, HeaderName, Writer};

use super::joining::{Onward, Origin};
use super::outbox::Outbox;
use super::refer::Referral;
use super::session_timer::SessionTimer;
use super::wire::{Wire, WireMessage};
use super::{Message, Snapshot};
use crate::site::Listener;
use crate::{Inbound, Site, TransactionRef, call, flow, lane};

/// Deadlines of a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Timer {
    /// Send the 2xx again (RFC 3261 §13.3.1.4).
    RepeatAccepted,
    /// No ACK came for 64·T1.
    AwaitAck,
    /// Send the re-INVITE again after a 491 (RFC 3261 §14.1).
    Glare,
    /// What waits for a lost connection has waited long enough.
    Park,
    /// Refresh the session (RFC 4028 §10).
    Refresh,
    /// The peer did not refresh the session.
    SessionExpired,
    /// CANCEL or BYE led to nothing.
    GiveUp,
    /// Look again whether the peer's account has registered over another connection.
    LocateAgain,
    /// An inbox was full: tell it again.
    Retell,
    /// The ACK of a 2xx that another node sent did not come here.
    AssumeAcknowledged,
    /// Look whether a dialog that goes on elsewhere is still there.
    Look,
}

/// T1 of RFC 3261 §17.1.1.1: the first repetition of a 2xx.
pub(super) const T1: Duration = Duration::from_millis(500);
/// T2: the longest time between repetitions.
pub(super) const T2: Duration = Duration::from_secs(4);
/// 64·T1: how long an ACK is awaited.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(32);
/// 64·T1 and a little: how long the end of a transaction is awaited that a lane will report.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(34);
/// Time before a message to a full inbox is told again.
const RETELL_AFTER: Duration = Duration::from_millis(100);
/// How long requests wait for a lost connection (`architecture.md` §7).
pub(super) const PARK: Duration = Duration::from_secs(8);

pub(super) type DialogCtx<'a> = Ctx<'a, crate::Message, Site>;

/// Which end of the first INVITE we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    /// The peer called us.
    Server,
    /// We called the peer.
    Client,
}

/// State of a dialog; the words of RFC 3261 where it has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    /// Server: nothing but 100 was sent.
    Incoming,
    /// Server: an 18x was sent.
    Early,
    /// Server: a 2xx was sent, its ACK is awaited.
    Accepted,
    /// Client: the INVITE was sent.
    Calling,
    /// Client: a provisional response came.
    Proceeding,
    /// Client: CANCEL was sent.
    Cancelling,
    /// Both.
    Confirmed,
    /// BYE was sent.
    Ending,
    /// Nothing is left to do.
    Ended,
}

/// What a dialog keeps; `T` names a server transaction, in the words of a stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Data<T = TransactionRef> {
    pub(super) side: SideKey,
    pub(super) role: Role,
    /// Whose digest counts as this peer's.
    pub(super) account: Option<Aor>,
    /// The way to the peer.
    pub(super) flow: FlowRef,
    /// The connection is gone.
    pub(super) is_flow_gone: bool,
    pub(super) state: State,
    /// Our tag.
    pub(super) tag: String,
    /// The INVITE that made the dialog: the peer's, or ours once it is written.
    pub(super) invite: Option<WireMessage>,
    /// Server: where the INVITE is answered.
    pub(super) transaction: Option<T>,
    /// Server: what it was answered last.
    pub(super) response: Option<Wire>,
    /// Client: number and branch of our INVITE.
    pub(super) birth: Option<Birth>,
    /// The dialog; the server has it from the start, the client from the 2xx on.
    pub(super) dialog: Option<DialogState>,
    /// The last description we sent, for refreshes.
    pub(super) sdp: Option<Wire>,
    /// SDP of the 2xx or ACK that confirmed the dialog, told again after a restart.
    pub(super) remote_sdp: Option<Wire>,
    /// A 2xx of ours that is not acknowledged.
    pub(super) accepted: Option<Accepted<T>>,
    /// The open offer of the peer.
    pub(super) incoming: Option<Incoming<T>>,
    /// Requests of ours without final response. Bound: `DIALOG_REQUESTS_MAX`.
    pub(super) outgoing: Vec<Outgoing>,
    /// Our ACKs, for 2xx that come again. Bound: 4.
    pub(super) acks: Vec<Acknowledgement>,
    /// CSeq of the 2xx whose ACK waits for an answer of the other side.
    pub(super) unacknowledged: Option<u32>,
    /// The end was ordered, but a provisional response or an ACK is awaited first.
    pub(super) end: Option<String>,
    /// Waits for the connection to come back.
    pub(super) parked: Vec<Parked>,
    /// A re-INVITE that met another one: sent again later.
    pub(super) glare: Option<Wire>,
    pub(super) session: Option<SessionTimer>,
    /// How it ended, told again after a restart.
    pub(super) outcome: Option<Outcome>,
}

/// Our INVITE.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Birth {
    pub(super) cseq: u32,
    pub(super) branch: String,
    pub(super) lane: u16,
}

/// A 2xx of ours that is sent again until its ACK comes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Accepted<T = TransactionRef> {
    pub(super) cseq: u32,
    pub(super) transaction: T,
    pub(super) response: Wire,
    /// Time to the next repetition, in milliseconds.
    pub(super) interval_ms: u64,
}

/// A re-INVITE or UPDATE of the peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Incoming<T = TransactionRef> {
    pub(super) transaction: T,
    pub(super) request: WireMessage,
    pub(super) cseq: u32,
    pub(super) is_update: bool,
}

/// What a request of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Purpose {
    /// A re-INVITE that the call ordered.
    Offer,
    /// A re-INVITE or UPDATE that keeps the session.
    Refresh,
    /// The end.
    Bye,
    /// A digit.
    Info,
    /// How what the peer has referred to goes.
    Notify,
}

/// A request of ours.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Outgoing {
    pub(super) purpose: Purpose,
    pub(super) is_invite: bool,
    pub(super) cseq: u32,
    pub(super) branch: String,
    pub(super) lane: u16,
    pub(super) request: Wire,
    pub(super) has_sdp: bool,
    /// A 491 leads to another try.
    pub(super) retries: bool,
}

/// An ACK of ours.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Acknowledgement {
    pub(super) cseq: u32,
    pub(super) tag: String,
    pub(super) request: Wire,
}

/// What waits for a lost connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Parked {
    /// A re-INVITE.
    Offer {
        /// Its SDP.
        sdp: Option<Wire>,
    },
    /// The BYE.
    Bye,
}

/// How a dialog ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// The caller cancelled.
    Cancelled,
    /// The callee refused.
    Failed(u16),
    /// The peer hung up, or was lost.
    HungUp(String),
}

/// One side of a call.
#[derive(Debug)]
pub struct Dialog {
    pub(super) data: Data,
    pub(super) timers: Deadlines<Timer>,
    pub(super) out: Outbox,
    /// Messages that met a full inbox. Bound: `DIALOG_RETELLS_MAX`.
    pub(super) retells: VecDeque<(ActorId, crate::Message)>,
    /// The peer is being told our new address: that it says nothing ends nothing, the call sees to it.
    pub(super) is_untold: bool,
    /// What the peer has referred to, until it has heard how that went.
    pub(super) referral: Option<Referral>,
    /// Where it goes on: here it only passes on what comes.
    pub(super) onward: Option<Onward>,
    /// Whence it comes.
    pub(super) origin: Option<Origin>,
}

impl Dialog {
    /// Builds the core if `first` is a message that begins a side.
    #[must_use]
    pub fn create(side: SideKey, first: &Message, _site: &Site) -> Option<Self> {
        let (role, account, flow, state) = if let Message::Serve(inbound) = first {
            let account = inbound.identity.clone();
            (Role::Server, account, inbound.flow, State::Incoming)
        } else {
            let (invite, _) = first.invited()?;
            let account = Some(invite.callee.clone());
            (Role::Client, account, invite.target.flow, State::Calling)
        };
        let data = Data {
            side,
            role,
            account,
            flow,
            is_flow_gone: false,
            state,
            tag: String::new(),
            invite: None,
            transaction: None,
            response: None,
            birth: None,
            dialog: None,
            sdp: None,
            remote_sdp: None,
            accepted: None,
            incoming: None,
            outgoing: Vec::new(),
            acks: Vec::new(),
            unacknowledged: None,
            end: None,
            parked: Vec::new(),
            glare: None,
            session: None,
            outcome: None,
        };
        Some(Dialog::of_data(data))
    }

    fn of_data(data: Data) -> Self {
        Dialog {
            data,
            timers: Deadlines::default(),
            out: Outbox::default(),
            retells: VecDeque::new(),
            is_untold: false,
            referral: None,
            onward: None,
            origin: None,
        }
    }

    /// Returns the state in a word, for listings.
    #[must_use]
    pub fn state(&self) -> String {
        format!("{:?}", self.data.state).to_lowercase()
    }

    /// Changes the state and clears what belonged to the old one.
    pub(super) fn enter(&mut self, next: State, ctx: &DialogCtx<'_>) {
        let before = self.data.state;
        assert!(
            before != State::Ended || next == State::Ended,
            "an ended dialog stays ended, but was to become {next:?}"
        );
        tracing::debug!(actor = %ctx.me(), ?before, ?next, "enters");
        self.data.state = next;
        if next == State::Ended {
            self.timers.clear_all();
            self.data.outgoing.clear();
            self.data.accepted = None;
            self.data.incoming = None;
            self.data.parked.clear();
            self.out.call(call::Message::Ended {
                side: self.number(),
            });
            if let Some(origin) = self.origin {
                origin.tell_left(&mut self.out);
            }
        }
        self.out.save();
    }

    pub(super) const fn number(&self) -> u8 {
        self.data.side.number()
    }

    /// Returns the listener of the peer's flow; none if a reload took it away.
    pub(super) fn listener<'s>(&self, site: &'s Site) -> Option<&'s Listener> {
        site.listener(self.data.flow.listener())
    }

    /// Answers a request of the peer, other than its first INVITE.
    pub(super) fn answer(
        &mut self,
        inbound: &Inbound,
        status: u16,
        ctx: &DialogCtx<'_>,
        fill: impl FnOnce(&mut Writer),
    ) {
        let mut response = sip::respond(&inbound.request, status, Some(&self.data.tag));
        response.header(HeaderName::Server, &ctx.site().product);
        fill(&mut response);
        if let Some(bytes) = written(response) {
            self.respond(inbound.transaction.clone(), inbound.flow, bytes, ctx);
        }
    }

    /// Gives a response to the lane of its request.
    pub(super) fn respond(
        &mut self,
        transaction: TransactionRef,
        flow: FlowRef,
        response: Bytes,
        ctx: &DialogCtx<'_>,
    ) {
        let to = transaction.home(ctx.site().node);
        self.out.peer(
            to,
            lane::Message::Respond {
                transaction,
                flow,
                response,
            },
        );
    }

    fn on_message(&mut self, message: Message, ctx: &mut DialogCtx<'_>) {
        if let Some(onward) = self.onward.filter(|_| self.data.state != State::Ended) {
            return self.pass_on(onward, message, ctx);
        }
        match message {
            Message::Request(inbound) => self.on_request(inbound, ctx),
            Message::Response { response, flow } => self.on_response(&response, flow, ctx),
            Message::RequestFailed { branch, why } => self.on_request_failed(&branch, why, ctx),
            Message::Serve(inbound) => self.serve(inbound, ctx),
            Message::Invite(invite) => self.invite(&invite, &[], ctx),
            Message::InviteDiverted { invite, path } => self.invite(&invite, &path, ctx),
            Message::Retransmitted(inbound) => self.on_retransmitted(inbound, ctx),
            Message::Cancelled(inbound) => self.on_cancelled(&inbound, ctx),
            Message::Progress { status, sdp } => self.progress(status, sdp.as_ref(), ctx),
            Message::Accept { sdp } => self.accept(sdp.as_ref(), ctx),
            Message::Acknowledge { sdp } => self.acknowledge_late(sdp.as_ref(), ctx),
            Message::Offer { sdp, retries } => self.offer(sdp.as_ref(), retries, ctx),
            Message::AcceptOffer { sdp } => self.accept_offer(sdp.as_ref(), ctx),
            Message::RefuseOffer { status } => self.refuse_offer(status, ctx),
            Message::Info { content_type, body } => self.send_info(&content_type, &body, ctx),
            Message::End { status, cause } => self.end(status, &cause, ctx),
            Message::Located { targets } => self.on_located(&targets, ctx),
            Message::Client(order) => {
                // A side that no JSON client has, whatever it says.
                if let Some((to, refusal)) = super::json::refusal(&order, 404, "no such call") {
                    ctx.tell(to, refusal);
                }
            }
            Message::Dial(_) | Message::FlowGone { .. } => ctx.ignore("JSON is not spoken here"),
            Message::Digit { .. } => ctx.ignore("a phone hears it in its media"),
            Message::Report => self.announce(ctx),
            Message::Move { sdp } => self.tell_address(sdp, ctx),
            Message::Inherit { .. } => self.inherit_open(ctx),
            Message::AcceptRefer => self.accept_refer(ctx),
            Message::RefuseRefer { status } => self.refuse_refer(status, ctx),
            Message::ReferProgress { status, is_last } => {
                self.tell_referral(status, is_last, ctx);
            }
            Message::Replace(ask) => self.on_replace(ask, ctx),
            Message::HandOver { to } => self.hand_over(to, ctx),
            Message::TakeUp { from, .. } => self.take_up(from, ctx),
            Message::HandedOver | Message::Left => ctx.ignore("it has not gone anywhere"),
            Message::Look => ctx.ignore("it is there"),
        }
    }

    fn on_timer(&mut self, timer: Timer, ctx: &mut DialogCtx<'_>) {
        self.timers.clear(timer);
        match timer {
            Timer::RepeatAccepted => self.repeat_accepted(ctx),
            Timer::AwaitAck => self.give_up_on_ack(ctx),
            Timer::Glare => self.offer_after_glare(ctx),
            Timer::Park => self.give_up_on_connection(ctx),
            Timer::LocateAgain => self.locate(ctx),
            Timer::Refresh => self.refresh(ctx),
            Timer::SessionExpired => self.lose("RECOVERY_ON_TIMER_EXPIRE", ctx),
            Timer::GiveUp => self.enter(State::Ended, ctx),
            Timer::AssumeAcknowledged => self.assume_acknowledged(ctx),
            Timer::Look => self.look(ctx),
            Timer::Retell => {
                for (to, message) in std::mem::take(&mut self.retells) {
                    ctx.tell(to, message);
                }
            }
        }
    }

    /// A lane's or the call's inbox is full: it is told again. Requests of ours fail by their own
    /// timers once no more of them can wait. Or a connection that was asked for is not there.
    fn on_undelivered(
        &mut self,
        to: ActorId,
        message: crate::Message,
        why: Undelivered,
        ctx: &mut DialogCtx<'_>,
    ) {
        if let (crate::Message::Flow(flow::Message::Watch { flow, .. }), Undelivered::Absent) =
            (&message, why)
        {
            return self.on_own_flow_gone(*flow, ctx);
        }
        if self.onward.is_some_and(|onward| onward.is_gone(&to, why)) {
            return self.on_onward_gone(message, ctx);
        }
        let is_meant = matches!(to, ActorId::Lane(..) | ActorId::Call(_));
        if let (ActorId::Lane(node, _), Undelivered::Absent) = (&to, why)
            && *node != ctx.site().node
        {
            return self.answer_from_here(message, ctx);
        }
        if !self.is_onward(&to) && (why == Undelivered::Absent || !is_meant) {
            return ctx.ignore("it is gone");
        }
        if self.retells.len() >= DIALOG_RETELLS_MAX {
            self.retells.pop_front();
        }
        self.retells.push_back((to, message));
        self.timers.set(Timer::Retell, ctx.now().mono, RETELL_AFTER);
    }

    /// Goes on behind one block of CSeq numbers, and where no other copy of an earlier epoch, nor
    /// another node's of the same, takes numbers from; `part` of that range is passed over.
    fn take_over_behind(&mut self, epoch: u64, part: u32, ctx: &mut DialogCtx<'_>) {
        let node = u64::from(ctx.site().node.0) % NODES_MAX as u64;
        let ranges = epoch.saturating_mul(NODES_MAX as u64).saturating_add(node);
        // The call that a dialog came from has other epochs: what it may use up is behind.
        let base = self.origin.map_or(0, |origin| origin.cseq);
        let first = ranges
            .saturating_mul(u64::from(CSEQ_RANGE))
            .saturating_add(part.into())
            .saturating_add(base.into());
        if let Some(dialog) = &mut self.data.dialog {
            dialog.skip_block();
            // So many epochs no call has, and numbers are left in any case.
            let first = u32::try_from(first).unwrap_or(u32::MAX);
            dialog.skip_to(first.min(CSEQ_EPOCHS_END));
        }
        self.take_over(ctx);
    }

    fn on_restored(&mut self, why: Restored, ctx: &mut DialogCtx<'_>) {
        if self.onward.is_some() && self.data.state != State::Ended {
            return ctx.ignore("it goes on elsewhere");
        }
        match why {
            Restored::NodeStart | Restored::StartedAlone => self.start_again(ctx),
            // Who has handed it over may go on with it, too, while it does not hear that it is here.
            Restored::TakenOver { epoch, .. } | Restored::Moved { epoch } => {
                self.take_over_behind(epoch, 0, ctx);
            }
            // What it did with the copy that it gives up has used the first half.
            Restored::Adopted { epoch } => self.take_over_behind(epoch, CSEQ_RANGE / 2, ctx),
            Restored::Panic | Restored::Wake => {}
        }
        self.announce(ctx);
    }
}

/// Returns what was written; what a peer's own values keep from being written is dropped, as the
/// reader lets nothing through that the writer refuses.
pub(super) fn written(mut writer: Writer) -> Option<Bytes> {
    match writer.finish() {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            tracing::warn!(%error, "a message could not be written");
            None
        }
    }
}

impl Core for Dialog {
    type Event = Event<Message, Timer, crate::Message>;
    type Message = crate::Message;
    type Timer = Timer;
    type Snapshot = Snapshot;
    type Site = Site;

    fn handle(&mut self, event: Self::Event, ctx: &mut DialogCtx<'_>) {
        match event {
            Event::Message { message, .. } => self.on_message(message, ctx),
            Event::Timer(timer) => self.on_timer(timer, ctx),
            Event::Restored(why) => self.on_restored(why, ctx),
            Event::Undelivered { to, message, why } => self.on_undelivered(to, message, why, ctx),
            Event::Media(_)
            | Event::Datagram { .. }
            | Event::Opened { .. }
            | Event::Bytes(_)
            | Event::Closed { .. }
            | Event::Answer { .. }
            | Event::ChildLost { .. } => ctx.ignore("not for a dialog"),
        }
        self.out.flush(&ActorId::Call(self.data.side.call()), ctx);
    }

    fn next_deadline(&self) -> Option<(Time, Timer)> {
        self.timers.next()
    }

    fn snapshot(&self, now: Now) -> Snapshot {
        self.to_snapshot(now)
    }

    fn restore(snapshot: Snapshot, now: Now) -> Result<Self, RestoreError> {
        Ok(Dialog::of_snapshot(snapshot, now))
    }
}
