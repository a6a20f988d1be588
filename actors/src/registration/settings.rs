//! What a user has set for the calls to it: do not disturb, none beside another, and where they go instead.
//!
//! In: changes. Out: the settings as they are then, and as they are stored. It routes nothing: the
//! call that finds them does (`call/diverting.rs`).
//!
//! They belong to the record of the registration, as bindings do, but do not end with them: who is
//! reached nowhere may have said where else. Of two copies of a record those that were set later
//! count, as a whole.

use std::time::Duration;

use contract::limits::{DIVERT_TO_BYTES_MAX, NO_ANSWER_S_MAX, NO_ANSWER_S_MIN};
use contract::{ActorId, Now, Space, StoredDeadline, Time};
use serde::{Deserialize, Serialize};

use super::core::{Context, Registration, longest};
use super::past::Term;
use super::stamp::Stamp;
use crate::wire::FORM_3_SINCE;
use crate::{call, console, door_session, router};

/// What a user has set; in JSON what is missing is not set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// No phone of the user rings: it is busy.
    pub do_not_disturb: bool,
    /// Where every call goes.
    pub always: Option<String>,
    /// Where calls go that find the user busy, or that it declines.
    pub busy: Option<String>,
    /// Where calls go that nobody answers.
    pub no_answer: Option<String>,
    /// Where calls go that find no phone.
    pub unreachable: Option<String>,
    /// Seconds of ringing after which nobody answers; `None`: as long as any call rings.
    pub no_answer_s: Option<u16>,
    /// Phones ring also while the user is in another call; otherwise it is busy then.
    pub call_waiting: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            do_not_disturb: false,
            always: None,
            busy: None,
            no_answer: None,
            unreachable: None,
            no_answer_s: None,
            call_waiting: true,
        }
    }
}

/// Why a call goes elsewhere (RFC 5806: the reason of a diversion).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiversionReason {
    /// Every call.
    Always,
    /// The user is busy, or declines.
    Busy,
    /// Nobody answers.
    NoAnswer,
    /// No phone is there.
    Unreachable,
}

impl DiversionReason {
    /// All of them.
    pub const ALL: [DiversionReason; 4] = [
        DiversionReason::Always,
        DiversionReason::Busy,
        DiversionReason::NoAnswer,
        DiversionReason::Unreachable,
    ];

    /// Returns its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            DiversionReason::Always => "always",
            DiversionReason::Busy => "busy",
            DiversionReason::NoAnswer => "no_answer",
            DiversionReason::Unreachable => "unreachable",
        }
    }
}

/// A change of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// None: they are only asked for.
    Nothing,
    /// All at once.
    Replace(Box<Settings>),
    /// Whether phones ring.
    DoNotDisturb(bool),
    /// Whether they ring beside another call.
    CallWaiting(bool),
    /// Where calls go; `None`: they do not any more.
    Divert {
        /// On which occasion.
        on: DiversionReason,
        /// Where.
        to: Option<String>,
    },
}

impl Settings {
    /// Returns where a call goes on an occasion.
    #[must_use]
    pub fn target(&self, on: DiversionReason) -> Option<&str> {
        let target = match on {
            DiversionReason::Always => &self.always,
            DiversionReason::Busy => &self.busy,
            DiversionReason::NoAnswer => &self.no_answer,
            DiversionReason::Unreachable => &self.unreachable,
        };
        target.as_deref()
    }

    fn target_mut(&mut self, on: DiversionReason) -> &mut Option<String> {
        match on {
            DiversionReason::Always => &mut self.always,
            DiversionReason::Busy => &mut self.busy,
            DiversionReason::NoAnswer => &mut self.no_answer,
            DiversionReason::Unreachable => &mut self.unreachable,
        }
    }

    /// Returns them changed.
    ///
    /// # Errors
    /// What is wrong with the new ones, in words for people.
    pub fn changed(&self, change: Change) -> Result<Settings, String> {
        let mut new = self.clone();
        match change {
            Change::Nothing => {}
            Change::Replace(all) => new = *all,
            Change::DoNotDisturb(is_on) => new.do_not_disturb = is_on,
            Change::CallWaiting(is_on) => new.call_waiting = is_on,
            Change::Divert { on, to } => *new.target_mut(on) = to,
        }
        new.check().map(|()| new)
    }

    fn check(&self) -> Result<(), String> {
        let targets = DiversionReason::ALL
            .iter()
            .filter_map(|on| self.target(*on));
        for target in targets {
            if target.is_empty() || target.len() > DIVERT_TO_BYTES_MAX {
                let most = DIVERT_TO_BYTES_MAX;
                return Err(format!("a number to divert to has 1 to {most} characters"));
            }
            let is_odd = |letter: char| {
                letter.is_control() || letter.is_whitespace() || "@<>\"".contains(letter)
            };
            if target.contains(is_odd) {
                let why = "a number to divert to is dialled in the user's domain: no blanks, no @";
                return Err(why.to_owned());
            }
        }
        let is_patient = |s: u16| (NO_ANSWER_S_MIN..=NO_ANSWER_S_MAX).contains(&s);
        match self.no_answer_s {
            Some(s) if !is_patient(s) => Err(format!(
                "the ringing before no_answer lasts {NO_ANSWER_S_MIN} to {NO_ANSWER_S_MAX} seconds"
            )),
            Some(_) | None => Ok(()),
        }
    }
}

/// Asks a registration to change them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// What.
    pub change: Change,
    /// Who is answered: a call, a console, the session of a JSON client.
    pub reply: ActorId,
    /// What the answer carries back as it is.
    pub echo: String,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// SIP or HTTP status.
    pub status: u16,
    /// For people.
    pub why: String,
}

impl Fault {
    pub(crate) fn new(status: u16, why: impl Into<String>) -> Self {
        Fault {
            status,
            why: why.into(),
        }
    }
}

impl Registration {
    /// Somebody sets something, or asks what is set.
    pub(super) fn on_set(&mut self, set: Set, ctx: &mut Context<'_>) {
        let Set {
            change,
            reply,
            echo,
        } = set;
        let result = self.set(change, ctx);
        let answer: crate::Message = match reply {
            ActorId::Call(_) => call::Message::IsSet(result.map(|_| ())).into(),
            ActorId::Console(_) => console::Message::IsSet { echo, result }.into(),
            ActorId::DoorSession(..) => door_session::Message::IsSet { echo, result }.into(),
            ActorId::Registration(_)
            | ActorId::Dialog(_)
            | ActorId::MediaLeg(_)
            | ActorId::Gateway(_)
            | ActorId::Parking(_)
            | ActorId::Flow(..)
            | ActorId::Lane(..)
            | ActorId::Member(_) => return ctx.ignore("who asks hears no answer"),
        };
        ctx.tell(reply, answer);
    }

    fn set(&mut self, change: Change, ctx: &mut Context<'_>) -> Result<Settings, Fault> {
        let known = self.settings.as_ref().map(|kept| kept.settings.clone());
        let known = known.unwrap_or_default();
        if change == Change::Nothing {
            return Ok(known);
        }
        let (site, health) = (ctx.site(), ctx.health());
        if site.account(&self.aor).is_none() && self.bindings.is_empty() {
            return Err(Fault::new(404, "no such user"));
        }
        let new = known.changed(change).map_err(|why| Fault::new(400, why))?;
        self.check_targets(&new, ctx)?;
        if new == known {
            return Ok(known);
        }
        if health.schema < FORM_3_SINCE {
            let why = "a node of the cluster cannot read settings yet";
            return Err(Fault::new(503, why));
        }
        if health.space > Space::Ample {
            return Err(Fault::new(503, "no room on disk"));
        }
        let stamp = self.clock().next(ctx.now().utc, site.node);
        let was_empty = self.is_empty();
        if new.call_waiting {
            self.engaged.clear();
        }
        self.settings = Some(Kept::new(new.clone(), stamp, ctx.now().mono, longest(site)));
        self.record(was_empty, true, ctx);
        Ok(new)
    }

    fn check_targets(&self, new: &Settings, ctx: &Context<'_>) -> Result<(), Fault> {
        let domain = ctx.site().domain_of(self.aor.domain());
        for on in DiversionReason::ALL {
            let Some(to) = new.target(on) else { continue };
            if to == self.aor.user() {
                let why = format!("{}: a user's calls cannot go to the user itself", on.word());
                return Err(Fault::new(400, why));
            }
            if !router::is_dialable(to, domain) {
                let why = format!("{}: no route takes {to}", on.word());
                return Err(Fault::new(400, why));
            }
        }
        Ok(())
    }
}

/// Settings as a registration keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) settings: Settings,
    /// When they were set.
    pub(super) stamp: Stamp,
    /// If there is nothing in them: how long a copy could live elsewhere that has something.
    pub(super) until: Option<Term>,
}

impl Kept {
    /// Makes what is kept of settings that were set now.
    pub(super) fn new(settings: Settings, stamp: Stamp, now: Time, keep: Duration) -> Self {
        let is_nothing = settings == Settings::default();
        Kept {
            until: is_nothing.then(|| Term::new(now, keep)),
            settings,
            stamp,
        }
    }

    /// Tells whether it needs to be kept no more.
    pub(super) fn is_over(&self, now: Time) -> bool {
        self.until.is_some_and(|until| until.at <= now)
    }

    pub(super) fn store(&self, now: Now) -> StoredSettings {
        StoredSettings {
            settings: self.settings.clone(),
            stamp: self.stamp,
            until: self.until.map(|until| until.store(now)),
        }
    }
}

/// Their stored form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredSettings {
    pub(super) settings: Settings,
    pub(super) stamp: Stamp,
    pub(super) until: Option<StoredDeadline>,
}

impl StoredSettings {
    pub(super) fn restore(self, now: Now) -> Kept {
        Kept {
            settings: self.settings,
            stamp: self.stamp,
            until: self.until.map(|until| Term::restore(until, now)),
        }
    }
}
