//! The stored form of a dialog: all that is needed to answer after a kill -9.
//!
//! | form | since | has besides |
//! |---|---|---|
//! | `SnapshotV1` | 1.0 | – |
//! | `SnapshotV2` | requests come over any node | the node of each server transaction |
//! | `Snapshot` | schema 3 | what the peer has referred to, where it goes on, whence it comes |
//!
//! A dialog is written in the oldest form that holds it. No reference is taken before all nodes read
//! schema 3.

use std::collections::VecDeque;

use contract::limits::CSEQ_PER_SIDE;
use contract::{Deadlines, Now, SideKey, StoredDeadline};
use serde::{Deserialize, Serialize};

use super::core::{Accepted, Data, Dialog, Incoming, Role, State, Timer};
use super::joining::{Onward, Origin};
use super::outbox::Outbox;
use super::refer::Referral;
use crate::TransactionRef;
use crate::bequest::Callee;

/// The first stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotV1 {
    data: Data<TransactionV1>,
    timers: Vec<(Timer, StoredDeadline)>,
}

/// A server transaction at the node that ran the dialog.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct TransactionV1 {
    lane: u16,
    key: sip::transaction::Key,
}

/// The second stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotV2 {
    data: Data,
    timers: Vec<(Timer, StoredDeadline)>,
}

/// The stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    data: Data,
    timers: Vec<(Timer, StoredDeadline)>,
    referral: Option<Referral>,
    onward: Option<Onward>,
    origin: Option<Origin>,
}

/// The oldest form that holds a dialog.
#[derive(Clone, Debug)]
pub enum Form {
    /// The first.
    First(Box<SnapshotV1>),
    /// The second.
    Second(Box<SnapshotV2>),
    /// The third.
    Third(Box<Snapshot>),
}

impl From<SnapshotV2> for Snapshot {
    fn from(second: SnapshotV2) -> Self {
        Snapshot {
            data: second.data,
            timers: second.timers,
            referral: None,
            onward: None,
            origin: None,
        }
    }
}

impl From<TransactionV1> for TransactionRef {
    fn from(first: TransactionV1) -> Self {
        TransactionRef {
            node: None,
            lane: first.lane,
            key: first.key,
        }
    }
}

impl From<SnapshotV1> for Snapshot {
    fn from(first: SnapshotV1) -> Self {
        Snapshot {
            data: first.data.map(TransactionRef::from),
            timers: first.timers,
            referral: None,
            onward: None,
            origin: None,
        }
    }
}

impl Snapshot {
    /// Returns what another copy of the call needs to know of a callee; `None` of a caller's dialog.
    pub(crate) fn callee(&self) -> Option<Callee> {
        let data = &self.data;
        let invite = data.invite.as_ref().filter(|_| data.role == Role::Client)?;
        let call_id = invite.0.call_id().ok()?;
        Some(Callee {
            name: call_id.to_owned(),
            has_ended: data.state == State::Ended || self.onward.is_some(),
            has_answered: matches!(data.state, State::Confirmed | State::Ending),
            takes_bye: data.dialog.is_some(),
        })
    }

    /// Returns the oldest form that holds all of it.
    #[must_use]
    pub fn oldest(self) -> Form {
        if self.referral.is_some() || self.onward.is_some() || self.origin.is_some() {
            return Form::Third(Box::new(self));
        }
        let data = &self.data;
        let answers = [
            data.transaction.as_ref(),
            data.accepted.as_ref().map(|open| &open.transaction),
            data.incoming.as_ref().map(|open| &open.transaction),
        ];
        if answers.iter().flatten().any(|one| one.node.is_some()) {
            return Form::Second(Box::new(SnapshotV2 {
                data: self.data,
                timers: self.timers,
            }));
        }
        let first = |one: TransactionRef| TransactionV1 {
            lane: one.lane,
            key: one.key,
        };
        Form::First(Box::new(SnapshotV1 {
            data: self.data.map(first),
            timers: self.timers,
        }))
    }
}

impl<T> Data<T> {
    /// Names the server transactions in the words of another form.
    fn map<U>(self, name: impl Fn(T) -> U) -> Data<U> {
        Data {
            side: self.side,
            role: self.role,
            account: self.account,
            flow: self.flow,
            is_flow_gone: self.is_flow_gone,
            state: self.state,
            tag: self.tag,
            invite: self.invite,
            transaction: self.transaction.map(&name),
            response: self.response,
            birth: self.birth,
            dialog: self.dialog,
            sdp: self.sdp,
            remote_sdp: self.remote_sdp,
            accepted: self.accepted.map(|open| Accepted {
                cseq: open.cseq,
                transaction: name(open.transaction),
                response: open.response,
                interval_ms: open.interval_ms,
            }),
            incoming: self.incoming.map(|open| Incoming {
                transaction: name(open.transaction),
                request: open.request,
                cseq: open.cseq,
                is_update: open.is_update,
            }),
            outgoing: self.outgoing,
            acks: self.acks,
            unacknowledged: self.unacknowledged,
            end: self.end,
            parked: self.parked,
            glare: self.glare,
            session: self.session,
            outcome: self.outcome,
        }
    }
}

impl Dialog {
    pub(super) fn to_snapshot(&self, now: Now) -> Snapshot {
        Snapshot {
            data: self.data.clone(),
            timers: self.timers.to_stored(now),
            referral: self.referral.clone(),
            onward: self.onward,
            origin: self.origin,
        }
    }

    /// Builds the core of a side that goes on with a dialog of another copy of its call, to end it.
    pub(crate) fn inherit(snapshot: Snapshot, side: SideKey) -> Self {
        let mut data = Data {
            side,
            ..snapshot.data
        };
        if let Some(dialog) = &mut data.dialog {
            // That node may have used some more, and has lost them with the call.
            dialog.skip_reserve();
            dialog.skip_block();
            // Another holder may hand over the same dialog, or that one once more: a later side ends it
            // again, with later numbers.
            let earlier = CSEQ_PER_SIDE * u32::from(side.number());
            dialog.skip_to(dialog.local_cseq.saturating_add(earlier));
        }
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

    /// Builds the core of a side that goes on with a dialog of another call; `TakeUp` does the rest. What was
    /// open has been answered there, and its timers are set anew.
    pub(crate) fn goes_on_as(snapshot: Snapshot, side: SideKey) -> Self {
        let mut dialog = Dialog::inherit(snapshot, side);
        dialog.origin = None;
        dialog
    }

    pub(super) fn of_snapshot(snapshot: Snapshot, now: Now) -> Self {
        let timers = Deadlines::from_stored(&snapshot.timers, now);
        let mut data = snapshot.data;
        if let Some(dialog) = &mut data.dialog {
            // What was used of the block is not known: it is passed over.
            dialog.skip_reserve();
        }
        Dialog {
            data,
            timers,
            out: Outbox::default(),
            retells: VecDeque::new(),
            is_untold: false,
            referral: snapshot.referral,
            onward: snapshot.onward,
            origin: snapshot.origin,
        }
    }
}
