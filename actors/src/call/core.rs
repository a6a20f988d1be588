//! State of a call and the way of its events; the table is in `mod.rs`.
//!
//! In: events. Out: actions: the part is recorded before anybody is told. Each file of the folder
//! has the transitions of one concern; this one sorts events to them.

use contract::{
    Action, ActorId, CallKey, CallNews, Core, Ctx, Deadlines, Emitted, Event, ListenerId, Now,
    RestoreError, Restored, SideKey, Time, UtcMillis,
};
use serde::{Deserialize, Serialize};
use sip::{Aor, NameAddr};
use std::collections::{BTreeMap, VecDeque};

use super::admission::Arrival;
use super::diverting::Diverting;
use super::exchange::Exchange;
use super::hunting::Hunting;
use super::joining::Joining;
use super::parking::Parked;
use super::picking::Picking;
pub(super) use super::side::{Side, Stage};
use super::steering::Steering;
use super::takeover::Moves;
pub use super::timers::Timer;
use super::transfer::Roles;
use super::waiting::Waiting;
use super::{Message, Snapshot};
use crate::dialog::wire::Wire;
use crate::media_leg::Report;
use crate::site::Step;
use crate::{Site, Target, dialog, media_leg};

/// The caller's side of a call.
pub(crate) const CALLER: u8 = 1;

pub(super) type CallCtx<'a> = Ctx<'a, crate::Message, Site>;

/// What a call keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Data {
    pub(super) key: CallKey,
    pub(super) caller: Caller,
    pub(super) started: UtcMillis,
    pub(super) answered: Option<UtcMillis>,
    /// SDP is passed, no leg is opened.
    pub(super) is_bypassed: bool,
    /// Steps of the route that are left.
    pub(super) steps: VecDeque<Step>,
    pub(super) state: State,
    /// SDP of the caller's INVITE.
    pub(super) offer: Option<Wire>,
    /// Description the caller was given, in an 18x or 200.
    pub(super) answer: Option<Wire>,
    /// Callee whose early media the caller hears.
    pub(super) early: Option<u8>,
    /// Last 18x that was passed, and whether it had SDP.
    pub(super) passed: Option<(u16, bool)>,
    pub(super) sides: BTreeMap<u8, Side>,
    /// Number of the next side.
    pub(super) next_side: u8,
    pub(super) callee: Option<Aor>,
    /// Targets that were not tried yet.
    pub(super) targets: VecDeque<Target>,
    /// Best final response so far, as passed on.
    pub(super) best: Option<u16>,
    pub(super) exchange: Option<Exchange>,
    /// The caller needs another description than its early one.
    pub(super) owes_offer: bool,
    pub(super) is_held: bool,
}

/// Who calls, and whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Caller {
    /// From of the INVITEs to callees.
    pub(super) from: NameAddr,
    pub(super) domain: String,
    pub(super) dialled: String,
    /// The dialled address, for the record.
    pub(super) to: String,
    pub(super) sip_call_id: String,
    pub(super) listener: ListenerId,
    pub(super) max_forwards: u8,
    /// Whose account it is, if somebody's.
    pub(super) account: Option<Aor>,
}

/// Who the caller talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Peer {
    /// Another side.
    Side(u8),
    /// Itself.
    Echo,
    /// A tone.
    Tone { hertz: u32, level_dbm0: i32 },
    /// Nobody yet: the route goes on.
    Nobody,
    /// Nobody: it is parked, and hears that now and then.
    Parked,
}

/// State of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum State {
    /// Its INVITE is being looked at.
    New,
    /// The caller's leg reads the offer.
    Preparing,
    /// A registration is asked for targets.
    Locating { tries: u8 },
    /// Callees are called.
    Ringing,
    /// The caller's 200 is being made.
    Answering { peer: Peer, stage: AnswerStage },
    /// The caller has its 200.
    Talking { peer: Peer },
    /// Sides are ending.
    Ending(Box<End>),
    /// The record is a tombstone.
    Over,
}

impl State {
    /// Tells whether the caller has its 200, or it is on its way.
    pub(super) const fn is_answered(&self) -> bool {
        match self {
            State::Talking { .. } => true,
            State::Answering { stage, .. } => match stage {
                AnswerStage::Sent | AnswerStage::Closing(_) => true,
                AnswerStage::Caller | AnswerStage::Callee => false,
            },
            State::New
            | State::Preparing
            | State::Locating { .. }
            | State::Ringing
            | State::Ending(_)
            | State::Over => false,
        }
    }

    pub(super) const fn is_talking(&self) -> bool {
        matches!(self, State::Talking { .. })
    }

    pub(super) const fn is_unanswered(&self) -> bool {
        match self {
            State::New | State::Preparing | State::Locating { .. } | State::Ringing => true,
            State::Answering { .. } | State::Talking { .. } | State::Ending(_) | State::Over => {
                false
            }
        }
    }
}

/// How far the caller's 200 is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum AnswerStage {
    /// The callee's leg reads the answer.
    Callee,
    /// The caller's leg makes a description.
    Caller,
    /// It was sent; the ACK is awaited.
    Sent,
    /// The caller's leg reads the answer of the ACK.
    Closing(Wire),
}

/// How the call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) cause: String,
    pub(super) status: u16,
    pub(super) by: String,
    pub(super) at: UtcMillis,
}

/// The B2BUA of one call.
#[derive(Debug)]
pub struct Call {
    pub(super) data: Data,
    /// How often another node has taken the call over or been handed it.
    pub(super) changes_of_node: u32,
    /// When it came to this node from another one; not known after a restart.
    pub(super) came_at: Option<Time>,
    /// Who does not know yet where we are.
    pub(super) moves: Moves,
    /// What transfers have made of it.
    pub(super) roles: Roles,
    /// What users have set for it.
    pub(super) diverting: Diverting,
    /// Who leaves for another call, or comes from one.
    pub(super) joining: Joining,
    /// Who else is called, and whose phone a fork is, where several users are.
    pub(super) hunting: Option<Box<Hunting>>,
    /// Which calls the caller may pick up.
    pub(super) picking: Option<Box<Picking>>,
    /// What applications have ordered.
    pub(super) steering: Steering,
    /// Where it is parked, or is to be.
    pub(super) parked: Option<Box<Parked>>,
    /// Who was found, while other calls are asked whether they have them; not stored.
    pub(super) waiting: BTreeMap<Aor, Waiting>,
    pub(super) timers: Deadlines<Timer>,
    pub(super) is_changed: bool,
    pub(super) out: Vec<Action<crate::Message>>,
    /// Messages that met a full inbox. Bound: `CALL_RETELLS_MAX`.
    pub(super) retells: VecDeque<(ActorId, crate::Message)>,
}

impl Call {
    /// Builds the core if `first` is an INVITE.
    #[must_use]
    pub fn create(key: CallKey, first: &Message, site: &Site) -> Option<Self> {
        let caller = match first {
            Message::Invite(inbound) => super::admission::caller_of(inbound, site),
            Message::Dial(dial) => super::admission::caller_of_dial(dial, site),
            Message::Bequest { parts, .. } => return Call::begin_to_end(key, parts),
            Message::Cancel(_)
            | Message::Located { .. }
            | Message::Hangup { .. }
            | Message::Progressed { .. }
            | Message::Answered { .. }
            | Message::Failed { .. }
            | Message::Acknowledged { .. }
            | Message::Cancelled { .. }
            | Message::Offered { .. }
            | Message::OfferAnswered { .. }
            | Message::OfferRefused { .. }
            | Message::HungUp { .. }
            | Message::Info { .. }
            | Message::Trickle { .. }
            | Message::Digits { .. }
            | Message::Ended { .. }
            | Message::Media { .. }
            | Message::Refer { .. }
            | Message::LocatedAs { .. }
            | Message::IsSet(_)
            | Message::Join { .. }
            | Message::WhoCalls { .. }
            | Message::Steer(_)
            | Message::Park { .. }
            | Message::IsWith { .. }
            | Message::With { .. } => return None,
        };
        let data = Data {
            key,
            caller,
            started: UtcMillis::default(),
            answered: None,
            is_bypassed: false,
            steps: VecDeque::new(),
            state: State::New,
            offer: None,
            answer: None,
            early: None,
            passed: None,
            sides: BTreeMap::new(),
            next_side: CALLER + 1,
            callee: None,
            targets: VecDeque::new(),
            best: None,
            exchange: None,
            owes_offer: false,
            is_held: false,
        };
        Some(Call::of_data(data))
    }

    pub(super) fn of_data(data: Data) -> Self {
        Call {
            data,
            changes_of_node: 0,
            came_at: None,
            moves: Moves::new(),
            roles: Roles::default(),
            diverting: Diverting::default(),
            joining: Joining::default(),
            hunting: None,
            picking: None,
            steering: Steering::default(),
            parked: None,
            waiting: BTreeMap::new(),
            timers: Deadlines::default(),
            is_changed: false,
            out: Vec::new(),
            retells: VecDeque::new(),
        }
    }

    /// Returns the state in a word or two, for listings.
    #[must_use]
    pub fn state(&self) -> String {
        if let Some(word) = self.leaving_word() {
            return word.to_owned();
        }
        match &self.data.state {
            State::Ending(_) | State::Over => "ending",
            _ if self.roles.transfer.is_some() => "transferring",
            State::New | State::Preparing => "preparing",
            State::Locating { .. } => "locating",
            State::Ringing => "ringing",
            State::Answering { .. } => "answering",
            State::Talking { peer: Peer::Parked } => "parked",
            State::Talking { .. } if self.data.is_held => "held",
            State::Talking { .. } => "talking",
        }
        .to_owned()
    }

    /// Changes the state.
    pub(super) fn enter(&mut self, next: State) {
        let before = &self.data.state;
        assert!(
            !matches!(before, State::Over),
            "a call that is over stays over, but was to become {next:?}"
        );
        tracing::debug!(call = %self.data.key, ?before, ?next, "enters");
        self.data.state = next;
        self.is_changed = true;
    }

    pub(super) const fn side_key(&self, side: u8) -> SideKey {
        self.data.key.side(side)
    }

    pub(super) fn tell_dialog(&mut self, side: u8, message: dialog::Message) {
        self.tell(ActorId::Dialog(self.side_key(side)), message.into());
    }

    pub(super) fn tell_leg(&mut self, side: u8, message: media_leg::Message) {
        self.tell(ActorId::MediaLeg(self.side_key(side)), message.into());
    }

    pub(super) fn tell(&mut self, to: ActorId, message: crate::Message) {
        self.out.push(Action::Tell {
            to,
            message,
            urgent: false,
        });
    }

    pub(super) fn spawn(&mut self, id: ActorId, first: crate::Message) {
        self.out.push(Action::Spawn { id, first });
    }

    pub(super) fn emit(&mut self, news: CallNews) {
        let call = self.data.key;
        self.out
            .push(Action::Emit(Emitted::CallState { call, news }));
    }

    /// Returns the side the caller talks to, or will.
    pub(super) const fn callee_side(&self) -> Option<u8> {
        match self.data.state {
            State::Answering {
                peer: Peer::Side(side),
                ..
            }
            | State::Talking {
                peer: Peer::Side(side),
            } => Some(side),
            State::New
            | State::Preparing
            | State::Locating { .. }
            | State::Ringing
            | State::Answering { .. }
            | State::Talking { .. }
            | State::Ending(_)
            | State::Over => None,
        }
    }

    /// Tells whether a side is the caller or the callee it talks to.
    pub(super) fn is_party(&self, side: u8) -> bool {
        side == self.anchor() || self.callee_side() == Some(side)
    }

    fn on_message(&mut self, message: Message, ctx: &mut CallCtx<'_>) {
        match message {
            Message::Invite(inbound) if self.data.state == State::New => {
                self.admit(Arrival::Invite(inbound), ctx);
            }
            Message::Dial(dial) if self.data.state == State::New => {
                self.admit(Arrival::Dial(dial), ctx);
            }
            Message::Dial(dial) => self.tell_dialog(CALLER, dialog::Message::Dial(dial)),
            Message::Invite(inbound) => {
                self.tell_dialog(CALLER, dialog::Message::Retransmitted(inbound));
            }
            Message::Cancel(inbound) => {
                self.tell_dialog(CALLER, dialog::Message::Cancelled(inbound));
            }
            Message::Located { aor, targets } => self.on_located(&aor, targets, ctx),
            Message::Bequest { parts, unknown } => self.on_bequest(parts, unknown, ctx),
            Message::Hangup { cause } => {
                let cause = super::outcome::known_cause(&cause);
                self.end(super::outcome::status_of_cause(cause), cause, "weft", ctx);
            }
            Message::Progressed { side, status, sdp } => {
                self.on_progressed(side, status, sdp, ctx);
            }
            Message::Answered { side, sdp } => self.on_answered(side, sdp, ctx),
            Message::Failed { side, status } => self.on_failed(side, status, ctx),
            Message::Acknowledged { side, sdp } => self.on_acknowledged(side, sdp, ctx),
            Message::Cancelled { side } if self.let_replaced_go(side) => {}
            Message::Cancelled { .. } => self.end(487, "ORIGINATOR_CANCEL", "caller", ctx),
            Message::Offered { side, sdp } => self.on_offered(side, sdp, ctx),
            Message::OfferAnswered { side, sdp } => self.on_offer_answered(side, sdp, ctx),
            Message::OfferRefused { side, status } => self.on_offer_refused(side, status, ctx),
            Message::HungUp { side, cause } => self.on_hung_up(side, &cause, ctx),
            Message::Info {
                side,
                content_type,
                body,
            } => {
                self.on_info(side, content_type, body, ctx);
            }
            Message::Trickle { side, candidate } => self.on_trickle(side, candidate, ctx),
            Message::Digits {
                side,
                digits,
                duration,
            } => self.on_digits(side, digits, duration, ctx),
            Message::Ended { side } => self.on_ended(side, ctx),
            Message::Media { side, report } => self.on_report(side, report, ctx),
            Message::Refer { side, refer } => self.on_refer(side, &refer, ctx),
            Message::LocatedAs {
                aor,
                targets,
                settings,
                engaged,
            } => self.on_located_as(&aor, targets, settings, engaged, ctx),
            Message::IsSet(result) => self.on_set(result, ctx),
            Message::Join { side, word } => self.on_join_word(side, word, ctx),
            Message::WhoCalls { aor, calls } => self.on_who_calls(&aor, &calls, ctx),
            Message::Steer(steer) => self.on_steer(*steer, ctx),
            Message::Park { place, word } => self.on_place_word(place, word, ctx),
            Message::IsWith { aor, reply } => self.on_is_with(aor, reply),
            Message::With { aor, call, is_with } => self.on_with(&aor, call, is_with, ctx),
        }
    }

    fn on_report(&mut self, side: u8, report: Report, ctx: &mut CallCtx<'_>) {
        let report = match report {
            Report::OfferTaken(stream) => {
                Report::OfferTaken(self.allowed(side, stream, ctx.site()))
            }
            Report::AnswerTaken(stream) => {
                Report::AnswerTaken(self.allowed(side, stream, ctx.site()))
            }
            other @ (Report::Described { .. }
            | Report::Unfit { .. }
            | Report::NoPort
            | Report::Closed
            | Report::Silent
            | Report::Digit(_)
            | Report::Heard
            | Report::Stays) => other,
        };
        match report {
            Report::NoPort => return self.on_leg_lost(side, ctx),
            Report::Closed => return self.on_closed_word(side, ctx),
            Report::Silent => return self.on_silence(side, ctx),
            Report::Digit(digit) => return self.on_digit(side, digit, ctx),
            Report::Heard => return self.on_heard(side, ctx),
            Report::Stays => return self.on_stays(side, ctx),
            Report::OfferTaken(_)
            | Report::AnswerTaken(_)
            | Report::Described { .. }
            | Report::Unfit { .. } => {}
        }
        if self.is_moving(side) {
            return self.on_exchange_report(side, report, ctx);
        }
        match self.data.state {
            State::Preparing => self.on_prepared(side, report, ctx),
            State::Ringing | State::Locating { .. } => self.on_fork_report(side, report, ctx),
            State::Answering { .. } => self.on_answer_report(side, report, ctx),
            State::Talking { .. } => self.on_exchange_report(side, report, ctx),
            State::New | State::Ending(_) | State::Over => ctx.ignore("the call is over"),
        }
    }

    /// Starts the caller's dialog.
    pub(super) fn serve(&mut self, arrival: Arrival) {
        let id = ActorId::Dialog(self.side_key(CALLER));
        let first = match arrival {
            Arrival::Invite(inbound) => dialog::Message::Serve(inbound),
            Arrival::Dial(dial) => dialog::Message::Dial(dial),
        };
        self.spawn(id, first.into());
    }

    fn flush(&mut self, ctx: &mut CallCtx<'_>) {
        if std::mem::take(&mut self.is_changed) && self.data.state != State::Over {
            ctx.store();
        }
        for action in self.out.drain(..) {
            ctx.act(action);
        }
    }
}

impl Core for Call {
    type Event = Event<Message, Timer, crate::Message>;
    type Message = crate::Message;
    type Timer = Timer;
    type Snapshot = Snapshot;
    type Site = Site;

    fn handle(&mut self, event: Self::Event, ctx: &mut CallCtx<'_>) {
        if self.data.state == State::Over {
            return ctx.ignore("the call is over");
        }
        match event {
            Event::Message { message, .. } => self.on_message(message, ctx),
            Event::Timer(timer) => self.on_timer(timer, ctx),
            Event::Undelivered { to, message, why } => self.on_undelivered(to, message, why, ctx),
            Event::ChildLost { id } => match id {
                ActorId::Dialog(side) => self.on_side_lost(side.number(), ctx),
                ActorId::MediaLeg(side) => self.on_leg_closed(side.number(), ctx),
                ActorId::Registration(_)
                | ActorId::Call(_)
                | ActorId::Gateway(_)
                | ActorId::Parking(_)
                | ActorId::Flow(..)
                | ActorId::DoorSession(..)
                | ActorId::Lane(..)
                | ActorId::Console(_)
                | ActorId::Member(_) => ctx.ignore("not a child"),
            },
            Event::Restored(why) => {
                self.emit_arrival(why);
                match why {
                    Restored::TakenOver { may_live, .. } => self.take_over(may_live, ctx),
                    Restored::Moved { .. } | Restored::Adopted { .. } => self.take_over(false, ctx),
                    Restored::NodeStart
                    | Restored::StartedAlone
                    | Restored::Panic
                    | Restored::Wake => self.resume(ctx),
                }
            }
            Event::Media(_)
            | Event::Datagram { .. }
            | Event::Opened { .. }
            | Event::Bytes(_)
            | Event::Closed { .. }
            | Event::Answer { .. } => ctx.ignore("not for a call"),
        }
        self.flush(ctx);
    }

    fn next_deadline(&self) -> Option<(Time, Timer)> {
        self.timers.next()
    }

    fn snapshot(&self, now: Now) -> Snapshot {
        self.to_snapshot(now)
    }

    fn restore(snapshot: Snapshot, now: Now) -> Result<Self, RestoreError> {
        Ok(Call::of_snapshot(snapshot, now))
    }
}
