//! A party is put through to somebody else (RFC 3515, RFC 5589).
//!
//! In: who transfers, and to whom. Out: the party that stays (the *anchor*) hears the route of the new
//! number as its caller would; who has transferred hears how it goes, and leaves when it is through. If
//! it does not come about, those two talk on as before.
//!
//! | event | does |
//! |---|---|
//! | Refer, nobody talks, or an exchange or a transfer is open | 491 |
//! | Refer to another tenant's number, or to a feature code | 403 |
//! | Refer to what no route takes | 404 |
//! | Refer of a call without media legs | 488: nobody could play it what happens meanwhile |
//! | Refer | 202; both legs are parted, the route of the number begins for the anchor |
//! | 18x of a new callee | its status to who transferred; the anchor hears early media, or ring-back |
//! | the anchor talks to somebody | 200 to who transferred, then BYE |
//! | nobody answers, the route ends | the status to who transferred; it and the anchor talk on |
//! | the same, and who transferred has left | the call ends |
//! | who transferred hangs up | it leaves; the anchor is called for on |
//! | the anchor hangs up | the call ends |

use contract::{CallNews, ListenerId};
use serde::{Deserialize, Serialize};
use sip::{Aor, NameAddr, Uri};
use std::collections::VecDeque;

use super::core::{CALLER, Call, CallCtx, Caller, Peer, Stage, State, Timer};
use super::joining::Replaces;
use super::outcome;
use crate::media_leg::{self, Destination, Stream};
use crate::site::Step;
use crate::wire::FORM_3_SINCE;
use crate::{Site, dialog, router};
use media::sdp::{Codec, CodecRole, Direction};

/// What transfers have made of a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Roles {
    /// For whom others are called: the caller, or whom a transfer has left.
    pub(super) anchor: u8,
    /// What it calls as; `None`: as the call began.
    pub(super) identity: Option<Box<Caller>>,
    /// A transfer that has not come to its end.
    pub(super) transfer: Option<Box<Transfer>>,
}

impl Default for Roles {
    fn default() -> Self {
        Roles {
            anchor: CALLER,
            identity: None,
            transfer: None,
        }
    }
}

impl Roles {
    /// Tells whether no transfer has changed anything.
    pub(super) const fn is_first(&self) -> bool {
        self.anchor == CALLER && self.identity.is_none() && self.transfer.is_none()
    }
}

/// A transfer on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Transfer {
    /// What was asked for; `None`: an application ordered it, or nobody has to hear how it goes.
    refer: Option<Refer>,
    /// Who transfers, while it is there.
    by: Option<u8>,
    /// What the anchor speaks: the codecs that it has in common with the party that leaves.
    spoken: Vec<Codec>,
    /// How the call was, if it may be so again.
    before: Option<Before>,
}

/// What comes back if a transfer does not come about.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Before {
    anchor: u8,
    peer: u8,
    identity: Option<Box<Caller>>,
    callee: Option<Aor>,
    steps: VecDeque<Step>,
}

/// A party wants the other one put through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refer {
    /// To whom.
    pub to: Uri,
    /// Where its dialog comes in: routes may belong to one profile.
    pub listener: ListenerId,
    /// Its account has shown who it is: it is not only what From says.
    pub is_proven: bool,
    /// Whom it talks to in another call, in which the other party comes in its place.
    pub replaces: Option<Replaces>,
}

impl Call {
    /// Returns the side for which others are called.
    pub(super) const fn anchor(&self) -> u8 {
        self.roles.anchor
    }

    /// Returns what the anchor calls as.
    pub(super) fn identity(&self) -> &Caller {
        self.roles.identity.as_deref().unwrap_or(&self.data.caller)
    }

    /// Returns who has transferred and waits how it goes.
    pub(super) fn transferor(&self) -> Option<u8> {
        self.roles.transfer.as_ref()?.by
    }

    /// Returns who has transferred and is told how it goes: nobody of what an application ordered.
    fn hearer(&self) -> Option<u8> {
        let transfer = self.roles.transfer.as_ref()?;
        transfer.by.filter(|_| transfer.refer.is_some())
    }

    /// Returns whose account it is that transfers, whether it is there or has left.
    pub(super) fn transferor_account(&self) -> Option<Aor> {
        let before = self.roles.transfer.as_ref()?.before.as_ref()?;
        let stayed = self.anchor();
        let account = match before.anchor == stayed {
            true => &before.callee,
            false => {
                &before
                    .identity
                    .as_deref()
                    .unwrap_or(&self.data.caller)
                    .account
            }
        };
        account.clone()
    }

    /// Tells whether a side is one that is called, and has not won.
    pub(super) fn is_fork(&self, side: u8) -> bool {
        !self.is_party(side) && self.transferor() != Some(side)
    }

    /// A party refers the other one to somebody.
    pub(super) fn on_refer(&mut self, side: u8, refer: &Refer, ctx: &mut CallCtx<'_>) {
        let open = self.roles.transfer.as_ref();
        if open.is_some_and(|open| open.by == Some(side) && open.refer.as_ref() == Some(refer)) {
            // Told once more after a restart, since its dialog had not heard.
            return self.tell_dialog(side, dialog::Message::AcceptRefer);
        }
        let leaving = self.joining_refer();
        if leaving
            .is_some_and(|(by, replaces)| by == side && Some(replaces) == refer.replaces.as_ref())
        {
            return self.tell_dialog(side, dialog::Message::AcceptRefer);
        }
        let result = match &refer.replaces {
            Some(replaces) => self.leave_for(side, replaces, refer.is_proven, ctx),
            None => self.transfer(side, refer, false, ctx),
        };
        if let Err(status) = result {
            self.tell_dialog(side, dialog::Message::RefuseRefer { status });
        }
    }

    /// Tells whether parties cannot be changed now.
    pub(super) fn is_busy(&self) -> bool {
        let is_changing = self.roles.transfer.is_some() || self.joining.is_open();
        is_changing || self.data.exchange.is_some() || !self.moves.is_empty()
    }

    /// Returns whom a party may put through now: the other one.
    ///
    /// # Errors
    /// The status that its REFER is refused with.
    pub(super) fn may_put_through(&self, by: u8, ctx: &CallCtx<'_>) -> Result<u8, u16> {
        let is_talking = self.data.state.is_talking() && !self.is_busy();
        let other = self.other_side(by).filter(|_| is_talking).ok_or(491_u16)?;
        if ctx.health().schema < FORM_3_SINCE {
            // Another node might have to go on with it that cannot read of it.
            return Err(503);
        }
        if self.data.is_bypassed {
            return Err(488);
        }
        Ok(other)
    }

    /// Begins a transfer, or says which status it is refused with.
    ///
    /// In: `is_ordered`: an application has said so; who leaves does not know.
    pub(super) fn transfer(
        &mut self,
        leaving: u8,
        refer: &Refer,
        is_ordered: bool,
        ctx: &mut CallCtx<'_>,
    ) -> Result<(), u16> {
        let anchor = self.may_put_through(leaving, ctx)?;
        let (identity, plan) = self.routed(leaving, anchor, refer, ctx)?;
        let before = Before {
            anchor: self.anchor(),
            peer: if self.anchor() == anchor {
                leaving
            } else {
                anchor
            },
            identity: self.roles.identity.take(),
            callee: self.data.callee.take(),
            steps: std::mem::replace(&mut self.data.steps, plan.into()),
        };
        let to = identity.to.clone();
        let codecs = |side| {
            self.stream_of(side)
                .map_or(&[][..], |stream| &stream.codecs)
        };
        let (theirs, its) = (codecs(leaving), codecs(anchor));
        let both = theirs
            .iter()
            .filter(|one| its.iter().any(|known| known.matches(one)));
        let spoken = both.cloned().collect();
        self.roles = Roles {
            anchor,
            identity: Some(Box::new(identity)),
            transfer: Some(Box::new(Transfer {
                refer: (!is_ordered).then(|| refer.clone()),
                by: Some(leaving),
                spoken,
                before: Some(before),
            })),
        };
        self.forget_forks();
        self.diverting.clear();
        if !is_ordered {
            self.tell_dialog(leaving, dialog::Message::AcceptRefer);
        }
        self.tell_leg(
            leaving,
            media_leg::Message::Join {
                to: Destination::Nowhere,
                is_watched: false,
            },
        );
        self.emit(CallNews::Transferring {
            by: self.word_of(leaving),
            to,
        });
        self.talk(Peer::Nobody, ctx);
        Ok(())
    }

    /// Returns what the anchor calls as, and the steps of the route.
    fn routed(
        &self,
        leaving: u8,
        anchor: u8,
        refer: &Refer,
        ctx: &CallCtx<'_>,
    ) -> Result<(Caller, Vec<Step>), u16> {
        let site = ctx.site();
        let dialled = refer.to.user().unwrap_or_default();
        // As the router sees it: what is behind may be long.
        let dialled = dialled.split(';').next().unwrap_or_default().to_owned();
        let host = refer.to.host().map(ToString::to_string);
        let domain = match host {
            Some(host) => site.domain_of(&host),
            None => site.domain_of(&self.identity().domain),
        };
        let is_alien = |side| {
            self.account_of(side)
                .is_some_and(|account| account.domain() != domain.name)
        };
        if is_alien(leaving) || is_alien(anchor) {
            return Err(403);
        }
        let profile = site.listener(refer.listener);
        let profile = profile.map_or("", |listener| &listener.profile);
        let now = ctx.now().utc;
        let plan = router::plan(&dialled, domain, profile, now).ok_or(404_u16)?;
        if plan.bypass {
            return Err(488);
        }
        if plan.steps.iter().any(Step::is_personal) {
            return Err(403);
        }
        tracing::debug!(call = %self.data.key, route = plan.route, "routed for a transfer");
        let known = self.identity();
        let from = self.name_of(anchor, site);
        let identity = Caller {
            from,
            to: format!("{dialled}@{}", domain.name),
            domain: domain.name.clone(),
            dialled,
            account: self.account_of(anchor).cloned(),
            ..known.clone()
        };
        Ok((identity, plan.steps))
    }

    /// Returns what a party calls as.
    pub(super) fn name_of(&self, side: u8, site: &Site) -> NameAddr {
        match self.account_of(side).filter(|_| side != self.anchor()) {
            Some(account) => {
                let mut from = NameAddr::new(account.uri());
                from.display = site.account(account).and_then(|one| one.display.clone());
                from
            }
            None => self.identity().from.clone(),
        }
    }

    /// The route goes on for who has come in the place of the caller: it hears how it rings.
    pub(super) fn call_on(&mut self, ctx: &CallCtx<'_>) {
        self.roles.transfer = Some(Box::new(Transfer {
            refer: None,
            by: None,
            spoken: Vec::new(),
            before: None,
        }));
        self.count_from_now(ctx);
        self.data.early = None;
        self.is_changed = true;
        if self.data.passed.is_some() {
            self.ring_back();
        }
    }

    /// Returns whose account a party's is.
    pub(super) fn account_of(&self, side: u8) -> Option<&Aor> {
        if side == self.anchor() {
            self.identity().account.as_ref()
        } else {
            self.data.callee.as_ref()
        }
    }

    /// Returns what the log calls a side.
    pub(super) fn word_of(&self, side: u8) -> String {
        let mut side = side;
        while let Some(former) = self.stands_for(side) {
            side = former;
        }
        match side {
            CALLER => "caller",
            _ => "callee",
        }
        .to_owned()
    }

    /// What was known of callees counts no more.
    pub(super) fn forget_forks(&mut self) {
        self.data.targets.clear();
        self.hunting = None;
        self.data.best = None;
        self.data.early = None;
        self.data.passed = None;
        for timer in [Timer::Ring, Timer::LocateAgain, Timer::CallAnew] {
            self.timers.clear(timer);
        }
        self.is_changed = true;
    }

    /// A new callee progresses: who transferred hears how far it is.
    pub(super) fn report_transfer(&mut self, status: u16) {
        if let Some(by) = self.hearer() {
            self.tell_transferor(by, status, false);
        }
    }

    /// Somebody rings whom the anchor does not hear: it hears ring-back of ours (RFC 3960 §3.2).
    pub(super) fn ring_back(&mut self) {
        if self.data.is_bypassed || self.data.early.is_some() {
            return;
        }
        self.tell_leg(
            self.anchor(),
            media_leg::Message::Join {
                to: Destination::RingBack,
                is_watched: self.data.answered.is_some(),
            },
        );
    }

    /// The anchor talks to somebody: who has transferred leaves.
    pub(super) fn finish_transfer(&mut self, peer: Peer) {
        if peer == Peer::Nobody {
            return;
        }
        let Some(transfer) = self.roles.transfer.take() else {
            return;
        };
        self.is_changed = true;
        self.emit(CallNews::Transferred {
            to: self.identity().to.clone(),
        });
        if let Some(by) = transfer.by {
            if transfer.refer.is_some() {
                self.tell_transferor(by, 200, true);
            }
            self.leave(by, 200, "NORMAL_CLEARING");
        }
        if self.release_all() {
            self.connect(peer);
        }
        self.open_anchor(peer, &transfer.spoken);
    }

    /// Who was put on hold before it was transferred is taken off, and told of other codecs.
    fn open_anchor(&mut self, peer: Peer, spoken: &[Codec]) {
        let is_open = |stream: &Stream| stream.direction == Direction::SendRecv;
        let is_held = self
            .stream_of(self.anchor())
            .is_some_and(|one| !is_open(one));
        let speaks_else = match peer {
            Peer::Side(side) => self
                .stream_of(side)
                .is_some_and(|stream| !goes_on(spoken, &stream.codecs)),
            Peer::Echo | Peer::Tone { .. } | Peer::Parked | Peer::Nobody => false,
        };
        if is_held || speaks_else {
            self.data.owes_offer = true;
            self.is_changed = true;
        }
        self.note_hold();
    }

    /// Returns what the anchor speaks that is being put through.
    pub(super) fn spoken(&self) -> &[Codec] {
        self.roles
            .transfer
            .as_ref()
            .map_or(&[], |transfer| &transfer.spoken)
    }

    /// A route led to nobody: who has transferred talks on with the anchor; without it the call ends.
    pub(super) fn give_up(&mut self, status: u16, cause: &str, by: &str, ctx: &mut CallCtx<'_>) {
        if !self.goes_on_after_parking(ctx) && !self.return_from_transfer(status) {
            self.end(status, cause, by, ctx);
        }
    }

    fn return_from_transfer(&mut self, status: u16) -> bool {
        if self.transferor().is_none() {
            return false;
        }
        let hearer = self.hearer();
        let before = self.roles.transfer.take().and_then(|open| open.before);
        let Some(Before {
            anchor,
            peer,
            identity,
            callee,
            steps,
        }) = before
        else {
            return false;
        };
        // The side that had answered, if any, is no party any more.
        self.enter(State::Talking {
            peer: Peer::Side(peer),
        });
        self.roles = Roles {
            anchor,
            identity,
            transfer: None,
        };
        self.end_forks("NORMAL_CLEARING");
        self.forget_forks();
        self.data.callee = callee;
        self.data.steps = steps;
        if let Some(by) = hearer {
            self.tell_transferor(by, outcome::passed(status), true);
        }
        self.emit(CallNews::TransferFailed { status });
        self.connect(Peer::Side(peer));
        true
    }

    /// The call ends with a transfer open: who has transferred hears that it does.
    pub(super) fn close_transfer(&mut self, status: u16) {
        if let Some(by) = self.hearer() {
            self.tell_transferor(by, status, true);
        }
    }

    pub(super) fn tell_transferor(&mut self, by: u8, status: u16, is_last: bool) {
        self.tell_dialog(by, dialog::Message::ReferProgress { status, is_last });
    }

    /// Who has transferred is gone, or hangs up: the anchor is called for on.
    pub(super) fn let_transferor_go(&mut self, side: u8) -> bool {
        let Some(transfer) = self
            .roles
            .transfer
            .as_mut()
            .filter(|one| one.by == Some(side))
        else {
            return false;
        };
        transfer.by = None;
        self.let_side_go(side);
        true
    }

    /// Who transfers, or shall be replaced, is gone or hangs up: the others go on without it.
    pub(super) fn let_party_go(&mut self, side: u8) -> bool {
        self.let_transferor_go(side)
            || self.let_joining_transferor_go(side)
            || self.let_replaced_go(side)
    }

    pub(super) fn let_side_go(&mut self, side: u8) {
        self.moves.remove(&side);
        self.is_changed = true;
        if let Some(known) = self.data.sides.get_mut(&side) {
            known.stage = Stage::Leaving;
        }
        self.close_leg(side);
    }

    /// Another node had the call: who has transferred is told where we are, too.
    pub(super) fn owe_transferor(&mut self) {
        if let Some(by) = self.transferor() {
            self.owe(by);
        }
    }
}

/// Tells whether who speaks `spoken` and who answered `theirs` understand each other: one may send any of
/// the first list, the other sends the first of the second (RFC 3264 §7).
pub(super) fn goes_on(spoken: &[Codec], theirs: &[Codec]) -> bool {
    let is_sound = |codec: &&Codec| codec.role() == CodecRole::Audio;
    let knows = |list: &[Codec], codec: &Codec| list.iter().any(|known| known.matches(codec));
    let mut sent = spoken.iter().filter(is_sound);
    let first = theirs.iter().find(is_sound);
    sent.all(|codec| knows(theirs, codec)) && first.is_some_and(|first| knows(spoken, first))
}
