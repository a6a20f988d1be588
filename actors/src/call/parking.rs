//! A call is parked in a place of its domain, and taken from there.
//!
//! In: the name of a place, what the place says (`crate::parking`), time. Out: the party that came waits in the
//! place, or talks to who waits there. Who takes a parked call is the caller of another call: that one is left,
//! the parked one is joined (`joining/`), as with a pick-up.
//!
//! | stage | event | does | next |
//! |---|---|---|---|
//! | – | the step | the place is asked, again each 500 ms, for 20 s at most: 480 | Asking |
//! | Asking | Yours | the caller is answered, or a transfer is done; it hears a tone now and then | There |
//! | Asking | Taken, the caller has dialled it itself | the other call is asked to let it in | Taking |
//! | Asking | Taken, it was transferred or diverted there | 486: who transfers hears it and talks on; if it is gone, as after the time | – |
//! | Taking | the other call is parked no more | the place is asked again: who comes second is parked itself | Asking |
//! | There | Retrieve | let in: the parked party talks to it | – |
//! | There | every 20 s; another node has the call | the place hears that it is there | There |
//! | There | Taken: the other half of a parted cluster had given it away | as after the time | Back |
//! | There | the time is over | who has transferred it there is called | Back |
//! | There | the same, nobody has | the route goes on | – |
//! | Back | it answers | they talk | – |
//! | Back | it does not | the route goes on | – |
//! | any | the call ends, or goes on in another way | the place hears that it is free | – |

use std::time::Duration;

use contract::limits::PLACE_BYTES_MAX;
use contract::{ActorId, CallNews};
use serde::{Deserialize, Serialize};
use sip::Aor;

use super::core::{Call, CallCtx, Peer, State, Timer};
use crate::parking::{self, Retrieve, Word};
use crate::site::Step;
use crate::wire::FORM_3_SINCE;

/// Time between two questions to a place.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long a place is asked, and who is parked there: a node that dies meanwhile has its heir by then.
const ASK_WITHIN: Duration = Duration::from_secs(20);
/// Time between two words to the place that the call is there.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(20);
/// Time before the end of the parking is looked at again, while the parties are being changed.
const BUSY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A call that is parked, or is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Parked {
    place: ActorId,
    /// Who has put it there by a transfer.
    by: Option<Aor>,
    stage: Stage,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// The place is asked.
    Asking,
    /// It is parked.
    There,
    /// Who is parked there is asked.
    Taking,
    /// Who has parked it is called.
    Back,
}

/// Returns the place of a name in a domain; `None` for a name that no place has.
fn place(name: &str, domain: &str) -> Option<ActorId> {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"._-+*#".contains(&octet);
    let is_name = (1..=PLACE_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain);
    is_name.then(|| ActorId::Parking(format!("{name}@{domain}").into()))
}

impl Call {
    /// The anchor is parked in a place, or takes who is parked there.
    pub(super) fn park(&mut self, name: &str, ctx: &mut CallCtx<'_>) {
        if ctx.health().schema < FORM_3_SINCE {
            // Another node might have to go on with it that cannot read of it.
            return self.give_up(503, "SWITCH_CONGESTION", "weft", ctx);
        }
        if self.data.is_bypassed {
            return self.give_up(488, "INCOMPATIBLE_DESTINATION", "weft", ctx);
        }
        let domain = &ctx.site().domain_of(&self.identity().domain).name;
        let Some(place) = place(name, domain) else {
            return self.give_up(404, "NO_ROUTE_DESTINATION", "weft", ctx);
        };
        self.parked = Some(Box::new(Parked {
            place,
            by: self.transferor_account(),
            stage: Stage::Asking,
        }));
        self.enter(State::Locating { tries: 0 });
        self.timers.set(Timer::Ring, ctx.now().mono, ASK_WITHIN);
        self.ask_place(ctx);
    }

    fn stage(&self) -> Option<Stage> {
        self.parked.as_ref().map(|parked| parked.stage)
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(parked) = &mut self.parked {
            parked.stage = stage;
            self.is_changed = true;
        }
    }

    /// Tells whether the place, or who is parked there, is asked.
    pub(super) fn is_parking(&self) -> bool {
        matches!(self.stage(), Some(Stage::Asking | Stage::Taking))
    }

    /// Asks for the place, or says that the call is there.
    pub(super) fn ask_place(&mut self, ctx: &CallCtx<'_>) {
        let (Some(parked), call) = (&self.parked, self.data.key) else {
            return;
        };
        let (timer, wait) = match parked.stage {
            Stage::Asking => (Timer::LocateAgain, ASK_AGAIN_AFTER),
            Stage::There => (Timer::Announce, ANNOUNCE_EVERY),
            Stage::Taking | Stage::Back => return,
        };
        let place = parked.place.clone();
        self.timers.set(timer, ctx.now().mono, wait);
        self.tell(place, parking::Message::Take { call }.into());
    }

    /// The place says something.
    pub(super) fn on_place_word(&mut self, place: ActorId, word: Word, ctx: &mut CallCtx<'_>) {
        let known = self.parked.as_ref().filter(|one| one.place == place);
        let stage = known.map(|one| one.stage);
        let call = self.data.key;
        match (word, stage) {
            (Word::Yours, Some(Stage::Asking)) => self.begin_waiting(ctx),
            (Word::Yours, Some(Stage::There)) => ctx.ignore("known already"),
            (Word::AreYouThere, Some(Stage::Asking | Stage::There)) => {
                self.tell(place, parking::Message::Take { call }.into());
            }
            (Word::Yours | Word::AreYouThere, Some(Stage::Taking | Stage::Back) | None) => {
                self.tell(place, parking::Message::Leave { call }.into());
            }
            (Word::Taken { by }, Some(Stage::Asking)) => self.on_taken(by, ctx),
            (Word::Taken { .. }, Some(Stage::There)) => self.come_back(ctx),
            (Word::Taken { .. }, Some(Stage::Taking | Stage::Back) | None) => {
                ctx.ignore("it is not asked for");
            }
        }
    }

    /// The place is this call's.
    fn begin_waiting(&mut self, ctx: &mut CallCtx<'_>) {
        self.set_stage(Stage::There);
        for timer in [Timer::Ring, Timer::LocateAgain] {
            self.timers.clear(timer);
        }
        let now = ctx.now().mono;
        self.timers
            .set(Timer::Park, now, ctx.site().limits.park_timeout);
        self.timers.set(Timer::Announce, now, ANNOUNCE_EVERY);
        self.begin_answer(Peer::Parked, ctx);
    }

    fn place_name(&self) -> Option<String> {
        match &self.parked.as_ref()?.place {
            ActorId::Parking(name) => Some(name.to_string()),
            ActorId::Registration(_)
            | ActorId::Call(_)
            | ActorId::Dialog(_)
            | ActorId::MediaLeg(_)
            | ActorId::Gateway(_)
            | ActorId::Flow(..)
            | ActorId::DoorSession(..)
            | ActorId::Lane(..)
            | ActorId::Console(_)
            | ActorId::Member(_) => None,
        }
    }

    /// Another call is parked there.
    fn on_taken(&mut self, by: contract::CallKey, ctx: &mut CallCtx<'_>) {
        self.timers.clear(Timer::LocateAgain);
        if self.own_account().is_some() {
            let Some(parked) = &self.parked else { return };
            let place = parked.place.clone();
            self.set_stage(Stage::Taking);
            return self.leave_to_retrieve(by, place, ctx);
        }
        let is_left = self.transferor().is_none();
        let is_put = self.parked.as_ref().is_some_and(|one| one.by.is_some());
        if is_left && is_put {
            return self.come_back(ctx);
        }
        let status = match self.identity().account {
            None if self.roles.transfer.is_none() => 403,
            _ => 486,
        };
        self.give_up(status, super::outcome::cause_of_status(status), "weft", ctx);
    }

    /// Who was parked there is not there any more.
    pub(super) fn ask_place_again(&mut self, ctx: &CallCtx<'_>) {
        self.set_stage(Stage::Asking);
        self.ask_place(ctx);
    }

    /// The time is over.
    pub(super) fn on_parked_for_long(&mut self, ctx: &mut CallCtx<'_>) {
        if self.stage() != Some(Stage::There) {
            return ctx.ignore("it is not parked");
        }
        let is_waiting = self.data.state == State::Talking { peer: Peer::Parked };
        if is_waiting && !self.joining.is_open() && self.data.exchange.is_none() {
            return self.come_back(ctx);
        }
        self.timers
            .set(Timer::Park, ctx.now().mono, BUSY_AGAIN_AFTER);
    }

    /// The call goes back to who has parked it, or else on.
    fn come_back(&mut self, ctx: &mut CallCtx<'_>) {
        let parked = self.leave_place();
        for timer in [Timer::Ring, Timer::LocateAgain] {
            self.timers.clear(timer);
        }
        if let Some(mut parked) = parked
            && let Some(by) = parked.by.take()
        {
            let target = format!("user/{by}");
            parked.stage = Stage::Back;
            self.parked = Some(parked);
            self.data.steps.push_front(Step::Bridge { target });
        }
        self.talk(Peer::Nobody, ctx);
    }

    /// The call is not parked any more, and the place hears that.
    pub(super) fn leave_place(&mut self) -> Option<Box<Parked>> {
        let parked = self.parked.take()?;
        self.is_changed = true;
        for timer in [Timer::Park, Timer::Announce] {
            self.timers.clear(timer);
        }
        match parked.stage {
            Stage::Asking | Stage::There => {
                let call = self.data.key;
                let place = parked.place.clone();
                self.tell(place, parking::Message::Leave { call }.into());
            }
            Stage::Taking | Stage::Back => {}
        }
        Some(parked)
    }

    /// Nobody has answered who was called: tells whether a route goes on all the same, since it was who has
    /// parked the call.
    pub(super) fn goes_on_after_parking(&mut self, ctx: &mut CallCtx<'_>) -> bool {
        let parked = self.leave_place();
        if !parked.is_some_and(|parked| parked.stage == Stage::Back) {
            return false;
        }
        self.end_forks("NORMAL_CLEARING");
        self.forget_forks();
        self.data.callee = None;
        self.talk(Peer::Nobody, ctx);
        true
    }

    /// The caller is through, to nobody but the place, or to somebody: who has parked the call talks to it.
    pub(super) fn note_parking(&mut self, peer: Peer) {
        if peer == Peer::Parked {
            if let Some(place) = self.place_name() {
                self.emit(CallNews::Parked { place });
            }
        } else if self.stage() == Some(Stage::Back) {
            self.parked = None;
            self.is_changed = true;
        }
    }

    /// Tells whether who wants to talk to who is parked here may.
    ///
    /// # Errors
    /// The status why it may not, 491 if it may in a moment.
    pub(super) fn may_retrieve(&self, ask: &Retrieve, ctx: &CallCtx<'_>) -> Result<(), u16> {
        let parked = self.parked.as_ref().filter(|one| one.place == ask.place);
        match (parked.map(|one| one.stage), &self.data.state) {
            (Some(Stage::There), State::Talking { .. }) => {}
            (_, State::Ending(_) | State::Over) => return Err(481),
            (Some(Stage::Asking | Stage::There), _) => return Err(491),
            (Some(Stage::Taking | Stage::Back) | None, _) => return Err(481),
        }
        if ask.from.call() == self.data.key {
            return Err(482);
        }
        let domain = &ctx.site().domain_of(&self.identity().domain).name;
        if ask.by.as_ref().map(Aor::domain) != Some(domain.as_str()) {
            return Err(403);
        }
        // Where the caller had to show who it is, nobody else comes by what From says.
        if ctx.site().is_proving(self.identity().listener) && !ask.is_proven {
            return Err(403);
        }
        if ctx.health().schema < FORM_3_SINCE {
            return Err(503);
        }
        if self.is_busy() {
            return Err(491);
        }
        Ok(())
    }
}
