//! Transitions of a media leg; the table is in `mod.rs`.
//!
//! In: events. Out: commands to the media plane, reports to the call. Offers and answers are made
//! in `agreement.rs`, configurations in `plane.rs`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use contract::limits::CUT_OFF_BLOCKS_MAX;
use contract::{
    ActorId, Core, Ctx, Deadlines, Emitted, Event, LegSocket, ListenerId, MediaCommand, MediaEvent,
    Now, RestoreError, SideKey, SrtpKeys, Time,
};
use media::sdp::read_candidate;
use serde::{Deserialize, Serialize};

use super::agreement::{Agreement, End};
use super::numbers::Numbers;
use super::plane::Parts;
use super::protection::{Own, Protection};
use super::restart::Moved;
use super::{Destination, Message, Offering, Report, Snapshot, Stream, Want};
use crate::wire::FORM_3_SINCE;
use crate::{Site, call};

/// Deadlines of a media leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Timer {
    /// A recorded port could not be bound again: it is tried once more.
    Reopen,
}

/// What a leg keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Data {
    pub(super) side: SideKey,
    pub(super) listener: ListenerId,
    pub(super) sip_source: IpAddr,
    pub(super) beside: Option<SideKey>,
    /// What it offers, if that was ordered.
    pub(super) offering: Option<Offering>,
    pub(super) state: State,
    /// Our RTP address, once bound.
    pub(super) local: Option<SocketAddr>,
    pub(super) agreement: Agreement,
    pub(super) numbers: Option<Numbers>,
    pub(super) to: Destination,
    pub(super) is_watched: bool,
    /// Source that packets go to instead of the signalled address.
    pub(super) latched: Option<SocketAddr>,
    /// Packets go to `latched` as if it had been signalled: the node was started since.
    pub(super) is_carried: bool,
}

/// State of a leg.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum State {
    /// Which socket it needs is not known before the peer offers, or we shall.
    Undecided,
    /// The port is awaited.
    Opening {
        /// What waits for it.
        waiting: Option<Waiting>,
        /// Attempts to bind a recorded port again that failed.
        failures: u8,
    },
    /// The port is there.
    Open,
    /// No port, none wanted.
    Closed,
}

/// A description that waits for the port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Waiting {
    /// An offer.
    Offer(Want),
    /// An answer.
    Answer(Want),
}

/// The media side of one dialog.
#[derive(Debug)]
pub struct MediaLeg {
    pub(super) data: Data,
    pub(super) timers: Deadlines<Timer>,
    /// Another node had it.
    pub(super) moved: Option<Moved>,
    /// Its address came here with it: not recorded, since to tell the peer is no more than needless.
    pub(super) stays: bool,
    /// Blocks of numbers taken since the node is cut off.
    pub(super) cut_off_blocks: u8,
}

pub(super) type LegCtx<'a> = Ctx<'a, crate::Message, Site>;

/// Time between attempts to bind a recorded port again.
const REOPEN_AFTER: Duration = Duration::from_millis(200);
/// Attempts; with the time between them 2 s, as `cluster.md` §7 allows.
const REOPEN_TRIES_MAX: u8 = 10;
/// The same if the peer can be told of another port: its own may be a new call's by now, at an address
/// that came here.
const STAY_TRIES_MAX: u8 = 1;

impl MediaLeg {
    /// Builds the core if `first` is the message that begins a leg.
    #[must_use]
    pub fn create(side: SideKey, first: &Message, _site: &Site) -> Option<Self> {
        let Message::Start {
            listener,
            sip_source,
            beside,
            offering,
        } = first
        else {
            return None;
        };
        let data = Data {
            side,
            listener: *listener,
            sip_source: *sip_source,
            beside: *beside,
            offering: *offering,
            state: State::Undecided,
            local: None,
            agreement: Agreement::new(0),
            numbers: None,
            to: Destination::Nowhere,
            is_watched: false,
            latched: None,
            is_carried: false,
        };
        Some(MediaLeg {
            data,
            timers: Deadlines::default(),
            moved: None,
            stays: false,
            cut_off_blocks: 0,
        })
    }

    /// Returns the state in a word, for listings.
    #[must_use]
    pub fn state(&self) -> String {
        match &self.data.state {
            State::Undecided => "undecided",
            State::Opening { .. } => "opening",
            State::Open if self.data.agreement.current().is_some() => "agreed",
            State::Open => "open",
            State::Closed => "closed",
        }
        .to_owned()
    }

    fn on_message(&mut self, message: Message, ctx: &mut LegCtx<'_>) {
        let is_last = matches!(message, Message::Close | Message::Report);
        if self.data.state == State::Closed && !is_last {
            return ctx.ignore("the leg is closed");
        }
        match message {
            Message::Start { .. } => self.begin(ctx),
            Message::TakeOffer { sdp } => {
                let taken = self.take_offer(&sdp, ctx);
                self.open_if_decided(ctx);
                ctx.store();
                self.tell(taken.map(Report::OfferTaken), ctx);
            }
            Message::TakeAnswer { sdp } => {
                let before = self.held();
                let taken = self.data.agreement.take_answer(&sdp, ctx.rng());
                self.agreed(&before, taken.map(Report::AnswerTaken), ctx);
            }
            Message::MakeOffer { .. } if std::mem::take(&mut self.stays) => {
                self.tell(Ok(Report::Stays), ctx);
            }
            Message::MakeOffer { want } => self.describe(Waiting::Offer(want), ctx),
            Message::MakeAnswer { want } => self.describe(Waiting::Answer(want), ctx),
            Message::Join { to, is_watched } => {
                // Another node might have to read of it.
                let is_unread = ctx.health().schema < FORM_3_SINCE;
                let is_new = matches!(to, Destination::RingBack | Destination::Parked);
                let to = match is_unread && is_new {
                    true => Destination::Nowhere,
                    false => to,
                };
                if self.data.to == to && self.data.is_watched == is_watched {
                    return ctx.ignore("joined like this already");
                }
                self.data.to = to;
                self.data.is_watched = is_watched;
                ctx.store();
                self.configure(ctx);
            }
            Message::Rollback => {
                self.data.agreement.roll_back();
                ctx.store();
            }
            Message::Candidate { candidate } => self.on_candidate(&candidate, ctx),
            Message::EndOfCandidates => ctx.ignore("each candidate is used as it comes"),
            Message::Digits { digits, duration } => {
                let leg = self.data.side;
                ctx.media(MediaCommand::Digits {
                    leg,
                    digits,
                    duration,
                });
            }
            Message::Report => self.report(ctx),
            Message::Close => self.close(ctx),
            Message::HandOver => self.hand_over(ctx),
            Message::TakeUp { beside, .. } => self.take_up(beside, ctx),
        }
    }

    fn take_offer(&mut self, sdp: &Bytes, ctx: &mut LegCtx<'_>) -> Result<Stream, u16> {
        let profiles = &ctx.site().limits.srtp;
        self.data.agreement.take_offer(sdp, profiles, ctx.rng())
    }

    /// The peer trickles: what may be sent to is checked too.
    fn on_candidate(&mut self, text: &str, ctx: &mut LegCtx<'_>) {
        let Some(candidate) = read_candidate(text) else {
            return ctx.ignore("no candidate that could be checked");
        };
        let protection = self.data.agreement.protection_mut();
        if protection.is_some_and(|protection| protection.add_candidate(candidate)) {
            ctx.store();
            self.configure(ctx);
        } else {
            ctx.ignore("known, too many, or not awaited");
        }
    }

    /// Asks for the port once it is known which.
    fn open_if_decided(&mut self, ctx: &mut LegCtx<'_>) {
        if self.data.state == State::Undecided && self.data.agreement.protection().is_some() {
            self.data.state = State::Opening {
                waiting: None,
                failures: 0,
            };
            self.open(ctx);
        }
    }

    /// Decides what to offer where the peer did not.
    fn decide(&mut self, ctx: &mut LegCtx<'_>) {
        let site = ctx.site();
        let listener = site.listener(self.data.listener);
        let is_web = listener.is_some_and(|listener| {
            matches!(
                listener.transport,
                rsip::Transport::Ws | rsip::Transport::Wss
            )
        });
        let usual = if is_web {
            Offering::Webrtc
        } else {
            Offering::Rtp
        };
        let offering = self.data.offering.unwrap_or(usual);
        let protection = Protection::offered(offering, &site.limits.srtp, ctx.rng());
        self.data.agreement.decide(protection);
        self.open_if_decided(ctx);
    }

    fn begin(&mut self, ctx: &mut LegCtx<'_>) {
        if self.data.numbers.is_some() {
            return ctx.ignore("begun already");
        }
        self.data.agreement = Agreement::new(ctx.rng().next_u64());
        let now = ctx.now();
        self.data.numbers = Some(Numbers::draw(ctx.rng(), now));
        if self.data.offering.is_some() {
            self.decide(ctx);
        }
        ctx.store();
    }

    /// Asks for the port: the recorded one if there is one.
    pub(super) fn open(&mut self, ctx: &mut LegCtx<'_>) {
        let Some(listener) = ctx.site().listener(self.data.listener) else {
            return self.fail(ctx);
        };
        let address = self
            .data
            .local
            .map_or(listener.rtp_local, |local| local.ip());
        ctx.media(MediaCommand::Open {
            leg: self.data.side,
            address,
            port: self.data.local.map(|local| local.port()),
            beside: self.data.beside,
            socket: self
                .data
                .agreement
                .protection()
                .map_or(LegSocket::Own, Protection::socket),
        });
    }

    /// Tells whether a block may be taken: a protected leg of a node that is cut off gets few, because
    /// another node may go on with the call behind them.
    fn may_reserve(&mut self, block: contract::ReserveBlock, ctx: &LegCtx<'_>) -> bool {
        if !ctx.health().cut_off || self.data.agreement.protection().is_none() {
            self.cut_off_blocks = 0;
            return true;
        }
        let numbers = self.data.numbers.as_ref();
        if numbers.is_some_and(|numbers| numbers.end().sequence_end == block.sequence_end) {
            // SRTCP alone.
            return true;
        }
        let has_room = self.cut_off_blocks < CUT_OFF_BLOCKS_MAX;
        self.cut_off_blocks += u8::from(has_room);
        has_room
    }

    fn on_media(&mut self, event: MediaEvent, ctx: &mut LegCtx<'_>) {
        match event {
            MediaEvent::Opened { rtp } => self.opened(rtp, ctx),
            MediaEvent::Failed { why } => {
                tracing::debug!(leg = %self.data.side, why, "no port");
                self.reopen_or_fail(ctx);
            }
            MediaEvent::FirstPacket { .. } if self.moved.is_some() => {
                self.tell(Ok(Report::Heard), ctx);
            }
            MediaEvent::FirstPacket { .. } => ctx.ignore("media flows"),
            MediaEvent::Latched { to } => {
                self.data.latched = Some(to);
                self.data.is_carried = false;
                ctx.store();
            }
            MediaEvent::Digit { digit, .. } => {
                ctx.act(contract::Action::Emit(Emitted::Digit {
                    call: self.data.side.call(),
                    side: self.data.side.number(),
                    digit,
                }));
                self.tell(Ok(Report::Digit(digit)), ctx);
            }
            MediaEvent::Timeout => self.tell(Ok(Report::Silent), ctx),
            MediaEvent::Reserve {
                block,
                timestamp,
                received,
            } => {
                let now = ctx.now();
                if !self.may_reserve(block, ctx) {
                    return ctx.ignore("cut off, and others may use these numbers");
                }
                let Some(numbers) = &mut self.data.numbers else {
                    return ctx.ignore("no stream of ours");
                };
                numbers.reserve(block, timestamp, received, now);
                ctx.store_and_gate();
                ctx.media(MediaCommand::Reserved {
                    leg: self.data.side,
                    block,
                });
            }
            MediaEvent::PathSelected { remote, by_agent } => {
                tracing::debug!(leg = %self.data.side, %remote, by_agent, "path");
                let protection = self.data.agreement.protection_mut();
                if protection.is_some_and(|protection| protection.select(remote)) {
                    ctx.store();
                }
            }
            MediaEvent::PathLost => {
                // The path core goes on trying; a call that stays silent ends by its time-out.
                tracing::debug!(leg = %self.data.side, "path lost");
            }
            MediaEvent::Keyed { keys, association } => self.keyed(*keys, association, ctx),
            MediaEvent::Unkeyed { why } => {
                tracing::warn!(leg = %self.data.side, why, "no keys");
            }
            MediaEvent::Counted(counters) => {
                tracing::debug!(leg = %self.data.side, ?counters, "counted");
            }
        }
    }

    /// The handshake is done: the keys are recorded before anything is sent under them.
    fn keyed(&mut self, keys: SrtpKeys, association: u32, ctx: &mut LegCtx<'_>) {
        let protection = self.data.agreement.protection_mut();
        if !protection.is_some_and(|protection| protection.key(keys, association)) {
            return ctx.ignore("keys of another association");
        }
        self.rekey(ctx);
        ctx.store_and_gate();
        self.configure(ctx);
    }

    fn opened(&mut self, rtp: SocketAddr, ctx: &mut LegCtx<'_>) {
        let State::Opening { waiting, .. } = &mut self.data.state else {
            return ctx.ignore("open already");
        };
        let waiting = waiting.take();
        self.data.state = State::Open;
        self.data.local = Some(rtp);
        self.timers.clear(Timer::Reopen);
        ctx.store();
        // A stream that was agreed on goes on at once, whatever is described now.
        self.configure(ctx);
        if let Some(waiting) = waiting {
            self.describe(waiting, ctx);
        }
    }

    fn reopen_or_fail(&mut self, ctx: &mut LegCtx<'_>) {
        let now = ctx.now().mono;
        match &mut self.data.state {
            State::Opening { failures, .. } if self.stays && *failures >= STAY_TRIES_MAX => {
                self.stays = false;
                self.take_over(
                    contract::Restored::TakenOver {
                        may_live: false,
                        epoch: 2,
                    },
                    ctx,
                );
            }
            State::Opening { failures, .. }
                if self.data.local.is_some() && *failures < REOPEN_TRIES_MAX =>
            {
                *failures += 1;
                self.timers.set(Timer::Reopen, now, REOPEN_AFTER);
            }
            State::Opening { .. } | State::Open => self.fail(ctx),
            State::Undecided | State::Closed => ctx.ignore("no port is asked for"),
        }
    }

    fn fail(&mut self, ctx: &mut LegCtx<'_>) {
        self.data.state = State::Closed;
        self.timers.clear_all();
        ctx.store();
        self.tell(Ok(Report::NoPort), ctx);
    }

    /// Makes an offer or answer, at once or when the port is there.
    fn describe(&mut self, what: Waiting, ctx: &mut LegCtx<'_>) {
        if self.data.state == State::Undecided {
            self.decide(ctx);
        }
        if let State::Opening { waiting, .. } = &mut self.data.state {
            *waiting = Some(what);
            return ctx.store();
        }
        let site = ctx.site();
        let (Some(local), Some(listener)) = (self.data.local, site.listener(self.data.listener))
        else {
            return self.tell(Err(500), ctx);
        };
        let end = End {
            address: listener.rtp_advertise,
            port: local.port(),
            origin: self.moved.and_then(|moved| moved.origin),
            configured: &site.limits.codecs,
            own: Own {
                ssrc: self.data.numbers.as_ref().map_or(0, |numbers| numbers.ssrc),
                fingerprint: &site.media_fingerprint,
                profiles: &site.limits.srtp,
            },
        };
        let described = |sdp: Bytes| Report::Described { sdp };
        match what {
            Waiting::Offer(want) => {
                let made = self.data.agreement.make_offer(&end, &want, ctx.rng());
                ctx.store();
                self.tell(made.map(described), ctx);
            }
            Waiting::Answer(want) => {
                let before = self.held();
                let made = self.data.agreement.make_answer(&end, &want, ctx.rng());
                self.agreed(&before, made.map(described), ctx);
            }
        }
    }

    pub(super) fn configure(&self, ctx: &mut LegCtx<'_>) {
        let site = ctx.site();
        let (Some(agreed), Some(protection), Some(numbers), Some(listener)) = (
            self.data.agreement.current(),
            self.data.agreement.protection(),
            &self.data.numbers,
            site.listener(self.data.listener),
        ) else {
            return;
        };
        if self.data.state != State::Open {
            return;
        }
        let config = Parts {
            agreed,
            to: &self.data.to,
            is_watched: self.data.is_watched,
            numbers,
            protection,
            negotiation: self.data.agreement.negotiation(),
            sip_source: self.data.sip_source,
            latched: self.data.latched.filter(|_| self.data.is_carried),
            listener,
            limits: &site.limits,
        }
        .config();
        let Some(config) = config else {
            return ctx.ignore("the peer's keys are missing");
        };
        ctx.media(MediaCommand::Configure {
            leg: self.data.side,
            config: Box::new(config),
        });
    }

    fn report(&self, ctx: &mut LegCtx<'_>) {
        if self.data.state == State::Closed {
            self.tell(Ok(Report::NoPort), ctx);
        }
    }

    /// Stops, and gives the call what it goes on with elsewhere; ordered again, it gives the same. The
    /// call removes it once it is there.
    fn hand_over(&self, ctx: &mut LegCtx<'_>) {
        let protection = self.data.agreement.protection();
        if protection.is_some_and(Protection::is_unkeyed) {
            return ctx.ignore("its handshake is under way: it is ordered again");
        }
        ctx.media(MediaCommand::Close {
            leg: self.data.side,
        });
        let part = crate::roster::part_of_leg(self.to_snapshot(ctx.now()));
        let side = self.data.side.number();
        let word = call::Word::Stopped(call::Stopped::Leg(part));
        let message = call::Message::Join { side, word };
        ctx.tell(ActorId::Call(self.data.side.call()), message.into());
    }

    fn close(&mut self, ctx: &mut LegCtx<'_>) {
        self.data.state = State::Closed;
        self.timers.clear_all();
        ctx.media(MediaCommand::Close {
            leg: self.data.side,
        });
        self.tell(Ok(Report::Closed), ctx);
        ctx.act(contract::Action::Stop {
            id: ctx.me().clone(),
        });
    }

    pub(super) fn tell(&self, report: Result<Report, u16>, ctx: &mut LegCtx<'_>) {
        let report = report.unwrap_or_else(|status| Report::Unfit { status });
        let side = self.data.side.number();
        let message = call::Message::Media { side, report };
        ctx.tell(ActorId::Call(self.data.side.call()), message.into());
    }
}

impl Core for MediaLeg {
    type Event = Event<Message, Timer, crate::Message>;
    type Message = crate::Message;
    type Timer = Timer;
    type Snapshot = Snapshot;
    type Site = Site;

    fn handle(&mut self, event: Self::Event, ctx: &mut LegCtx<'_>) {
        match event {
            Event::Message { message, .. } => self.on_message(message, ctx),
            Event::Media(event) => self.on_media(event, ctx),
            Event::Timer(Timer::Reopen) => {
                self.timers.clear(Timer::Reopen);
                self.open(ctx);
            }
            Event::Restored(why) => self.restored(why, ctx),
            Event::Undelivered { .. } => ctx.ignore("the call is gone or busy"),
            Event::Datagram { .. }
            | Event::Opened { .. }
            | Event::Bytes(_)
            | Event::Closed { .. }
            | Event::Answer { .. }
            | Event::ChildLost { .. } => ctx.ignore("not for a media leg"),
        }
    }

    fn next_deadline(&self) -> Option<(Time, Timer)> {
        self.timers.next()
    }

    fn snapshot(&self, now: Now) -> Snapshot {
        self.to_snapshot(now)
    }

    fn restore(snapshot: Snapshot, now: Now) -> Result<Self, RestoreError> {
        Ok(MediaLeg::of_snapshot(snapshot, now))
    }
}
