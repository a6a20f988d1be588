//! A party of one call comes in the place of a party of another (RFC 3891; RFC 5589 §7: a transfer to
//! somebody whom the transferor talks to already).
//!
//! In: which dialog shall be replaced, and by whom. Out: the dialog and the media leg of the party that
//! goes, as they are stored, from the record of the call that it *leaves* to the record of the call that
//! it *joins*. Those two calls may run on two nodes: what they say is repeated until it is answered, and
//! each step can be asked for twice.
//!
//! ```text
//! the call that is left                     the call that is joined
//! Asking     ── Ask, to the dialog ───────▶ whose is it, may they? a number is kept for who comes
//!            ◀─ Asked ───────────────────── or a status: the parties talk on
//! Coming     dialog, then leg, stop and give what they have
//!            ── Come ─────────────────────▶ they go on under that number; the peer hears a re-INVITE
//!            ◀─ Came ────────────────────── who was replaced leaves
//!            ── PickUp, to the call ──────▶ rings whom? a number is kept for who comes as the callee
//!            ── Retrieve, to the call ────▶ is parked there? the same
//! given up   ── NotComing ───────────────▶ nobody is awaited any more
//! Gone       its dialog only passes requests on until the other one has ended
//! ```
//!
//! | file | rule |
//! |---|---|
//! | `leaving.rs` | the call that is left |
//! | `arriving.rs` | the call that is joined |

mod arriving;
mod leaving;

use std::time::Duration;

use bytes::Bytes;
use contract::{SideKey, TokenUse};
use serde::{Deserialize, Serialize};
use sip::{Aor, NameAddr};

use self::arriving::Awaited;
use self::leaving::Leaving;
use super::core::{Call, CallCtx};
pub use super::picking::PickUp;
use crate::Site;
use crate::parking::Retrieve;

/// Time between repetitions of what was not answered.
const REPEAT_AFTER: Duration = Duration::from_millis(500);
/// Repetitions; a node that dies meanwhile has its heir within that time.
const REPEATS_MAX: u8 = 60;
/// How long who was let in may take to come.
const COME_WITHIN: Duration = Duration::from_secs(32);

/// The dialog that shall be replaced (RFC 3891 §6.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaces {
    /// The side whose dialog it is, as our tag says.
    pub dialog: SideKey,
    /// Its Call-ID.
    pub call_id: String,
    /// Our tag in it.
    pub our_tag: String,
    /// The tag of its peer.
    pub peer_tag: String,
    /// Only if it was not answered (RFC 3891 §7.1).
    pub early_only: bool,
}

impl Replaces {
    /// Reads the value of the header. Which of the two tags is ours follows from the tag: some phones write
    /// them as they stood in the INVITE, whoever called.
    ///
    /// # Errors
    /// 400 if it is none, 481 if no tag is ours.
    pub(crate) fn read(value: &str, site: &Site) -> Result<Replaces, u16> {
        let mut pieces = value.split(';').map(str::trim);
        let call_id = pieces.next().filter(|id| !id.is_empty()).ok_or(400_u16)?;
        let (mut to, mut from, mut early_only) = (None, None, false);
        for piece in pieces {
            match piece.split_once('=') {
                Some((name, tag)) if name.eq_ignore_ascii_case("to-tag") => to = Some(tag),
                Some((name, tag)) if name.eq_ignore_ascii_case("from-tag") => from = Some(tag),
                None if piece.eq_ignore_ascii_case("early-only") => early_only = true,
                Some(_) | None => {}
            }
        }
        let (to, from) = (to.ok_or(400_u16)?, from.ok_or(400_u16)?);
        let ours = |tag: &str| site.tokens.read(TokenUse::Tag, tag);
        let (token, our_tag, peer_tag) = match (ours(to), ours(from)) {
            (Some(token), _) => (token, to, from),
            (None, Some(token)) => (token, from, to),
            (None, None) => return Err(481),
        };
        Ok(Replaces {
            dialog: token.side,
            call_id: call_id.to_owned(),
            our_tag: our_tag.to_owned(),
            peer_tag: peer_tag.to_owned(),
            early_only,
        })
    }
}

/// A party wants to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// In whose place.
    pub replaces: Replaces,
    /// Which party.
    pub from: SideKey,
    /// Who wants it.
    pub by: Option<Aor>,
    /// It has shown that it is that: it is not only what From says.
    pub is_proven: bool,
}

/// What a party goes on with elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stopped {
    /// Its dialog, as it is stored.
    Dialog(Bytes),
    /// Its media leg, as it is stored.
    Leg(Bytes),
    /// It does not stop: the dialog is not up, or cannot go.
    Stays,
}

/// A party comes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coming {
    from: SideKey,
    dialog: Bytes,
    leg: Bytes,
    name: NameAddr,
    account: Option<Aor>,
}

#[cfg(test)]
impl Coming {
    pub(crate) fn of_test(from: SideKey, part: Bytes) -> Self {
        let account: Aor = "1001@weft.test".parse().expect("an account");
        Coming {
            from,
            dialog: part.clone(),
            leg: part,
            name: NameAddr::new(account.uri()),
            account: Some(account),
        }
    }
}

/// What calls, and their dialogs and legs, say of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Word {
    /// To the call that is joined, by the dialog that shall be replaced.
    Ask(Box<Ask>),
    /// To the call that is left: where its party may come, or the status why not.
    Asked(Result<SideKey, u16>),
    /// To the call that is left, by the dialog or the leg of the party.
    Stopped(Stopped),
    /// To the call that is joined.
    Come(Box<Coming>),
    /// To the call that is left: its party is there, or that call is over.
    Came(bool),
    /// To the call that is joined: who was let in does not come after all.
    NotComing(SideKey),
    /// To a call that rings somebody: a party wants to come as its callee.
    PickUp(Box<PickUp>),
    /// To a call that is parked: the same.
    Retrieve(Box<Retrieve>),
}

impl Word {
    /// Returns what a trace line says, and the weight in octets.
    pub(super) fn describe(&self) -> (String, usize) {
        match self {
            Word::Ask(ask) => (format!("{} asks to come", ask.from), 256),
            Word::Asked(Ok(side)) => (format!("it may come as {side}"), 32),
            Word::Asked(Err(status)) => (format!("it may not come: {status}"), 16),
            Word::Stopped(Stopped::Dialog(part)) => {
                ("its dialog has stopped".to_owned(), part.len())
            }
            Word::Stopped(Stopped::Leg(part)) => ("its leg has stopped".to_owned(), part.len()),
            Word::Stopped(Stopped::Stays) => ("it does not stop".to_owned(), 16),
            Word::Come(coming) => {
                let octets = coming.dialog.len() + coming.leg.len();
                (format!("{} comes", coming.from), octets)
            }
            Word::Came(is_there) => (format!("it has come: {is_there}"), 16),
            Word::NotComing(from) => (format!("{from} does not come"), 32),
            Word::PickUp(ask) => (format!("{} picks up", ask.from), 128),
            Word::Retrieve(ask) => (format!("{} takes it from {}", ask.from, ask.place), 128),
        }
    }
}

/// What a call knows of parties that leave and come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Joining {
    leaving: Option<Box<Leaving>>,
    awaited: Option<Awaited>,
    /// Who has come. Bound: `SIDES_PER_CALL_MAX`.
    arrived: Vec<Awaited>,
    /// Who is offered what the other party speaks, once that one knows where it is.
    unsettled: Option<u8>,
}

impl Joining {
    /// Tells whether a party leaves or is awaited.
    pub(super) const fn is_open(&self) -> bool {
        self.leaving.is_some() || self.awaited.is_some()
    }
}

impl Call {
    /// The other call, or a part of this one, says something.
    pub(super) fn on_join_word(&mut self, side: u8, word: Word, ctx: &mut CallCtx<'_>) {
        match word {
            Word::Ask(ask) => self.on_ask(side, &ask, ctx),
            Word::Asked(Ok(place)) => self.on_let_in(side, place, ctx),
            Word::Asked(Err(status)) => self.on_not_let_in(side, status, ctx),
            Word::Stopped(stopped) => self.on_stopped(side, stopped, ctx),
            Word::Come(coming) => self.on_come(*coming, ctx),
            Word::Came(is_there) => self.on_came(side, is_there, ctx),
            Word::NotComing(from) => self.on_not_coming(side, from, ctx),
            Word::PickUp(ask) => self.on_pick_up(&ask, ctx),
            Word::Retrieve(ask) => self.on_retrieve(&ask, ctx),
        }
    }

    /// What was said was not answered, or who was let in did not come.
    pub(super) fn on_join_timer(&mut self, ctx: &mut CallCtx<'_>) {
        if self.joining.leaving.is_some() {
            self.repeat_leaving(ctx);
        } else {
            self.stop_awaiting(ctx);
        }
    }

    /// Goes on after a restart, or where another node had the call.
    pub(super) fn resume_joining(&mut self, ctx: &mut CallCtx<'_>) {
        self.drive_leaving(ctx);
    }
}
