//! State of a JSON dialog and the way of its events; the table is in `mod.rs`.
//!
//! In: events. Out: actions, by way of the `Outbox`. Each file of the folder has the transitions of
//! one concern; this one sorts events to them.

use std::collections::VecDeque;
use std::time::Duration;

use contract::limits::{JSON_UNACKNOWLEDGED_BYTES_MAX, JSON_UNACKNOWLEDGED_MAX};
use contract::{
    ActorId, Core, Ctx, Deadlines, Event, FlowRef, Now, RestoreError, Restored, SideKey, Time,
    Undelivered,
};
use doors::json::{ServerMessage, Why};
use serde::{Deserialize, Serialize};
use sip::{Aor, Uri};

use super::connection::Repeat;
use super::{OfferKind, Snapshot};
use crate::dialog::Message;
use crate::dialog::joining::{Onward, Origin};
use crate::dialog::outbox::Outbox;
use crate::dialog::wire::Wire;
use crate::door_session::{About, Delivery};
use crate::{Site, call, door_session};

/// Deadlines of a JSON dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Timer {
    /// The client did not answer our new offer.
    AwaitAnswer,
    /// Make an offer again that met one of the client.
    Glare,
    /// The connection did not come back.
    Park,
    /// Look again whether the client is bound over another connection.
    LocateAgain,
    /// The client does not acknowledge the end.
    GiveUp,
    /// An inbox was full: say it again.
    Retell,
    /// Look whether a dialog that goes on elsewhere is still there.
    Look,
}

/// How long a reanswer may take: as a final response to a re-INVITE.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(32);
/// How long a connection may be gone (`architecture.md` §7).
pub(crate) const PARK: Duration = Duration::from_secs(8);
/// How long the end waits to be acknowledged.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(2);
/// Time before a message to a full inbox is told again.
const RETELL_AFTER: Duration = Duration::from_millis(100);
/// Messages that wait because an inbox was full; further ones of which no number is kept are lost.
const RETELLS_MAX: usize = 16;

pub(super) type DialogCtx<'a> = Ctx<'a, crate::Message, Site>;

/// Who called whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    /// The client called us.
    Caller,
    /// We called the client.
    Callee,
}

/// State of a JSON dialog; the words are those of a SIP dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    /// Caller: nothing but `trying` was said.
    Incoming,
    /// Caller: `ringing` was said.
    Early,
    /// Callee: `incoming` was said.
    Calling,
    /// Callee: the client rings.
    Proceeding,
    /// Both.
    Confirmed,
    /// The end was said.
    Ending,
    /// Nothing is left to do.
    Ended,
}

/// What a JSON dialog keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Data {
    pub(super) side: SideKey,
    pub(super) role: Role,
    pub(super) account: Aor,
    /// The client's binding: whose orders count.
    pub(super) contact: Uri,
    pub(super) flow: FlowRef,
    pub(super) is_flow_gone: bool,
    /// The call, as the client names it.
    pub(super) name: String,
    pub(super) state: State,
    /// Caller: id of its `call`, which replies repeat.
    pub(super) request: Option<String>,
    /// Caller: hash of what it asked for, in hexadecimal, to know the same again.
    pub(super) asked: String,
    /// The last description we gave.
    pub(super) sdp: Option<Wire>,
    /// Caller: it has shown that it knows it was answered.
    pub(super) knows_answer: bool,
    /// Callee: its answer, told again after a restart.
    pub(super) remote_sdp: Option<Wire>,
    /// The open offer of the client.
    pub(super) incoming: Option<Incoming>,
    /// Our open offer.
    pub(super) outgoing: Option<Outgoing>,
    /// An offer of ours that met one of the client.
    pub(super) glare: Option<Wire>,
    /// The far end holds.
    pub(super) is_held: bool,
    /// What the client has not acknowledged. Bound: `JSON_UNACKNOWLEDGED_MAX`.
    pub(super) unacknowledged: VecDeque<Numbered>,
    /// Number of the last such message.
    pub(super) number: u64,
    /// What the client measured last.
    pub(super) stats: Option<String>,
    /// How it ended, told again after a restart.
    pub(super) outcome: Option<Outcome>,
}

/// A new offer of the client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Incoming {
    pub(super) id: Option<String>,
    pub(super) kind: OfferKind,
    pub(super) sdp: Wire,
}

/// A new offer of ours.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Outgoing {
    pub(super) number: u64,
    pub(super) sdp: Wire,
    pub(super) why: Why,
}

/// A message that must be acknowledged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Numbered {
    pub(super) number: u64,
    /// The message as JSON text.
    pub(super) text: String,
}

/// How a dialog ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// The caller gave up.
    Cancelled,
    /// The callee refused.
    Failed(u16),
    /// The client hung up.
    HungUp,
}

/// One side of a call.
#[derive(Debug)]
pub struct JsonDialog {
    pub(super) data: Data,
    pub(super) timers: Deadlines<Timer>,
    pub(super) out: Outbox,
    /// What met a full inbox. Bound: `RETELLS_MAX`.
    pub(super) retells: VecDeque<(ActorId, crate::Message)>,
    pub(super) repeat: Repeat,
    /// Id of the open `transfer`, which its reply repeats: who is restarted meanwhile repeats none.
    pub(super) transfer: Option<Option<String>>,
    /// Where it goes on: here it only passes on what comes.
    pub(super) onward: Option<Onward>,
    /// Whence it comes.
    pub(super) origin: Option<Origin>,
}

impl JsonDialog {
    /// Builds the core if `first` is a message that begins a side of a JSON client.
    #[must_use]
    pub fn create(side: SideKey, first: &Message, _site: &Site) -> Option<Self> {
        if let Message::Dial(dial) = first {
            return Some(Self::new(Data {
                role: Role::Caller,
                account: dial.aor.clone(),
                contact: dial.contact.clone(),
                name: dial.name.clone(),
                state: State::Incoming,
                request: dial.request.clone(),
                ..blank(side, dial.flow, &dial.aor)
            }));
        }
        let (invite, _) = first.invited()?;
        (invite.target.door() == contract::Door::Json).then(|| {
            Self::new(Data {
                contact: invite.target.uri.clone(),
                ..blank(side, invite.target.flow, &invite.callee)
            })
        })
    }

    pub(super) fn new(data: Data) -> Self {
        JsonDialog {
            data,
            timers: Deadlines::default(),
            out: Outbox::default(),
            retells: VecDeque::new(),
            repeat: Repeat::default(),
            transfer: None,
            onward: None,
            origin: None,
        }
    }

    /// Returns the state in a word, for listings.
    #[must_use]
    pub fn state(&self) -> String {
        format!("{:?}", self.data.state).to_lowercase()
    }

    /// Returns the state as clients name it.
    pub(super) const fn word(&self) -> &'static str {
        match self.data.state {
            State::Incoming => "calling",
            State::Early | State::Proceeding => "ringing",
            State::Calling => "incoming",
            State::Confirmed if self.data.is_held => "held",
            State::Confirmed => "talking",
            State::Ending => "ending",
            State::Ended => "gone",
        }
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
        if matches!(next, State::Confirmed | State::Ending | State::Ended) {
            self.timers.clear_all();
        }
        if matches!(next, State::Ending | State::Ended) {
            self.data.incoming = None;
            self.data.outgoing = None;
            self.data.glare = None;
        }
        if next == State::Ended {
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

    /// Answers an order of the client.
    pub(super) fn reply(&mut self, id: Option<String>, message: ServerMessage) {
        self.say(message, About::Reply(id));
    }

    pub(super) fn error(&mut self, id: Option<String>, code: u16, text: &str) {
        let message = ServerMessage::Error {
            code,
            message: text.to_owned(),
            reference: id.clone(),
        };
        self.reply(id, message);
    }

    /// Says something that the client must not miss; returns its number.
    pub(super) fn say_numbered(&mut self, message: ServerMessage) -> u64 {
        self.data.number += 1;
        let number = self.data.number;
        let text = serde_json::to_string(&message).unwrap_or_default();
        self.data
            .unacknowledged
            .push_back(Numbered { number, text });
        self.drop_oldest();
        self.say(message, About::Numbered(number));
        number
    }

    /// Keeps the part small: the newest message stays in any case.
    fn drop_oldest(&mut self) {
        let octets =
            |kept: &VecDeque<Numbered>| kept.iter().map(|one| one.text.len()).sum::<usize>();
        while self.data.unacknowledged.len() > 1
            && (self.data.unacknowledged.len() > JSON_UNACKNOWLEDGED_MAX
                || octets(&self.data.unacknowledged) > JSON_UNACKNOWLEDGED_BYTES_MAX)
        {
            self.data.unacknowledged.pop_front();
        }
    }

    pub(super) fn say(&mut self, message: ServerMessage, about: About) {
        if self.data.is_flow_gone {
            // What is numbered is said when the client is back; the rest it learns by its state.
            return;
        }
        let Some(to) = self.data.flow.actor() else {
            return;
        };
        let delivery = Delivery {
            flow: self.data.flow,
            name: self.data.name.clone(),
            message,
            about,
            is_last: matches!(self.data.state, State::Ending | State::Ended),
        };
        let message = door_session::Message::Deliver(Box::new(delivery));
        self.out.peer(to, message);
    }

    fn on_message(&mut self, message: Message, ctx: &mut DialogCtx<'_>) {
        if let Some(onward) = self.onward.filter(|_| self.data.state != State::Ended) {
            return self.pass_on(onward, message, ctx);
        }
        match message {
            Message::Dial(dial) => self.dial(*dial, ctx),
            Message::Invite(invite) => self.invite(&invite, &[], ctx),
            Message::InviteDiverted { invite, path } => self.invite(&invite, &path, ctx),
            Message::Client(order) => self.on_order(*order, ctx),
            Message::FlowGone { flow } => self.on_flow_gone(flow, ctx),
            Message::Located { targets } => self.on_located(&targets, ctx),
            Message::Progress { status, sdp } => self.progress(status, sdp.as_ref(), ctx),
            Message::Accept { sdp } => self.accept(sdp.as_ref(), ctx),
            Message::Offer { sdp, retries } => self.offer(sdp.as_ref(), retries, None, ctx),
            Message::Move { sdp } => self.tell_address(sdp, ctx),
            Message::Inherit { .. } => self.take_over(ctx),
            Message::Replace(ask) => self.on_replace(ask),
            Message::HandOver { to } => self.hand_over(to, ctx),
            Message::TakeUp { from, .. } => self.take_up(from, ctx),
            Message::AcceptOffer { sdp } => self.accept_offer(sdp.as_ref(), ctx),
            Message::RefuseOffer { status } => self.refuse_offer(status, ctx),
            Message::Info { body, .. } => self.on_info(&body, ctx),
            Message::Digit { digit } => self.say_digit(digit),
            Message::End { status, cause } => self.end(status, &cause, ctx),
            Message::Report => self.announce(ctx),
            Message::AcceptRefer => self.say_transfer(100),
            Message::RefuseRefer { status } => self.refuse_transfer(status, ctx),
            Message::ReferProgress { status, .. } => self.say_transfer(status),
            Message::Acknowledge { .. } => ctx.ignore("a client's answer needs no ACK"),
            Message::Request(_)
            | Message::Response { .. }
            | Message::RequestFailed { .. }
            | Message::Serve(_)
            | Message::Retransmitted(_)
            | Message::Cancelled(_) => ctx.ignore("SIP is not spoken here"),
            Message::HandedOver | Message::Left => ctx.ignore("it has not gone anywhere"),
            Message::Look => ctx.ignore("it is there"),
        }
    }

    fn on_timer(&mut self, timer: Timer, ctx: &mut DialogCtx<'_>) {
        self.timers.clear(timer);
        match timer {
            Timer::AwaitAnswer => self.give_up_on_answer(408),
            Timer::Glare => self.offer_after_glare(ctx),
            Timer::Park => self.give_up_on_connection(ctx),
            Timer::LocateAgain => self.locate(ctx),
            Timer::GiveUp => self.enter(State::Ended, ctx),
            Timer::Look => self.look(ctx),
            Timer::Retell => {
                self.repeat_if_due(ctx);
                for (to, message) in std::mem::take(&mut self.retells) {
                    self.out.other(to, message);
                }
            }
        }
    }

    fn on_undelivered(
        &mut self,
        to: ActorId,
        message: crate::Message,
        why: Undelivered,
        ctx: &mut DialogCtx<'_>,
    ) {
        if self.onward.is_some_and(|onward| onward.is_gone(&to, why)) {
            return self.on_onward_gone(&message, ctx);
        }
        let is_onward = self.onward.is_some_and(|onward| to == onward.dialog());
        let is_again = why == Undelivered::Busy || is_onward;
        if is_again && self.retells.len() < RETELLS_MAX {
            self.retells.push_back((to, message));
            return self.timers.set(Timer::Retell, ctx.now().mono, RETELL_AFTER);
        }
        match message {
            crate::Message::DoorSession(door_session::Message::Deliver(delivery)) => {
                self.on_flow_gone(delivery.flow, ctx);
            }
            crate::Message::DoorSession(door_session::Message::Watch { flow, .. }) => {
                self.on_flow_gone(flow, ctx);
            }
            crate::Message::DoorSession(_)
            | crate::Message::Registration(_)
            | crate::Message::Call(_)
            | crate::Message::Dialog(_)
            | crate::Message::MediaLeg(_)
            | crate::Message::Flow(_)
            | crate::Message::Lane(_)
            | crate::Message::Console(_)
            | crate::Message::Member(_)
            | crate::Message::Parking(_) => ctx.ignore("nobody needs it"),
        }
    }

    fn on_restored(&mut self, why: Restored, ctx: &mut DialogCtx<'_>) {
        if self.onward.is_some() && self.data.state != State::Ended {
            return ctx.ignore("it goes on elsewhere");
        }
        match why {
            Restored::NodeStart | Restored::StartedAlone
                if self.data.flow.ends_at(ctx.site().node) =>
            {
                self.lose_connection(ctx);
            }
            // Its connection is another node's: that may live.
            Restored::NodeStart | Restored::StartedAlone => self.go_on(ctx),
            Restored::TakenOver { .. } | Restored::Adopted { .. } | Restored::Moved { .. } => {
                self.take_over(ctx);
            }
            Restored::Panic | Restored::Wake => self.watch(ctx),
        }
        self.announce(ctx);
    }
}

/// Returns what a callee's dialog begins with.
fn blank(side: SideKey, flow: FlowRef, account: &Aor) -> Data {
    Data {
        side,
        role: Role::Callee,
        account: account.clone(),
        contact: account.uri(),
        flow,
        is_flow_gone: false,
        name: side.to_string(),
        state: State::Calling,
        request: None,
        asked: String::new(),
        sdp: None,
        knows_answer: false,
        remote_sdp: None,
        incoming: None,
        outgoing: None,
        glare: None,
        is_held: false,
        unacknowledged: VecDeque::new(),
        number: 0,
        stats: None,
        outcome: None,
    }
}

impl Core for JsonDialog {
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
        self.plan_repeat(ctx);
        self.out.flush(&ActorId::Call(self.data.side.call()), ctx);
    }

    fn next_deadline(&self) -> Option<(Time, Timer)> {
        let repeat = self.repeat.at.map(|at| (at, Timer::Retell));
        self.timers.next().into_iter().chain(repeat).min()
    }

    fn snapshot(&self, now: Now) -> Snapshot {
        self.to_snapshot(now)
    }

    fn restore(snapshot: Snapshot, now: Now) -> Result<Self, RestoreError> {
        Ok(JsonDialog::of_snapshot(snapshot, now))
    }
}
