//! The stored and shipped form of events, frozen a version each (`cluster.md` §12).
//!
//! ```text
//! key    e node u16 boot u64 number u64      big-endian; the number of the first event
//! value  form u16 little-endian | events (bincode)
//! ```

use contract::limits::EVENTS_PER_FRAME_MAX;
use contract::{
    BindingNews, Boot, CallKey, CallNews, LogEvent, NodeId, NodeInst, NodeNews, UtcMillis, What,
    codec,
};
use serde::{Deserialize, Serialize};

use super::log::{EventBatch, Numbered};
use crate::form::{InstV1, Unread};

/// Form of the values that this program writes.
const FORM: u16 = 1;
/// First octet of the keys.
pub(super) const PREFIX: &[u8] = b"e";

/// A batch as a frame carries it.
#[derive(Serialize, Deserialize)]
pub(crate) struct EventBatchV1 {
    life: InstV1,
    from: u64,
    until: u64,
    has_more: bool,
    events: Vec<EventFormV1>,
}

impl From<&EventBatch> for EventBatchV1 {
    fn from(batch: &EventBatch) -> Self {
        EventBatchV1 {
            life: batch.life.into(),
            from: batch.from,
            until: batch.until,
            has_more: batch.has_more,
            events: write_events(&batch.events),
        }
    }
}

impl EventBatchV1 {
    /// Reads what another node has sent: events of the numbers that it speaks for.
    pub(crate) fn read(self) -> Result<EventBatch, Unread> {
        let events = read_events(self.events)?;
        let spoken_for = self.from..=self.until;
        let is_inside = |(number, _): &Numbered| spoken_for.contains(number);
        if self.from == 0 || !events.iter().all(is_inside) {
            return Err("events that are not of their batch".into());
        }
        Ok(EventBatch {
            life: self.life.into(),
            from: self.from,
            until: self.until,
            has_more: self.has_more,
            events,
        })
    }
}

/// One event with its number.
#[derive(Serialize, Deserialize)]
struct EventFormV1 {
    number: u64,
    at_ms: u64,
    what: WhatV1,
}

#[derive(Serialize, Deserialize)]
enum WhatV1 {
    CallStarted(CallKey, String, String),
    CallRinging(CallKey, u16),
    CallAnswered(CallKey),
    CallHeld(CallKey),
    CallResumed(CallKey),
    CallMoved(CallKey, String),
    CallTakenOver(CallKey, String),
    CallEnded(CallKey, String, u16, String),
    BindingAdded(String, String),
    BindingRemoved(String, String),
    BindingExpired(String, String),
    NodeUp(InstV1, String),
    NodeDraining(InstV1, String),
    NodeGone(InstV1, String),
    NodeLeft(InstV1, String),
    CallTransferring(CallKey, String, String),
    CallTransferred(CallKey, String),
    CallTransferFailed(CallKey, u16),
    CallDiverted(CallKey, String, String, String),
    CallReplaced(CallKey, String, String),
    CallParked(CallKey, String),
}

impl From<&What> for WhatV1 {
    fn from(what: &What) -> Self {
        match what.clone() {
            What::Call { call, news } => match news {
                CallNews::Started { from, to } => WhatV1::CallStarted(call, from, to),
                CallNews::Ringing { status } => WhatV1::CallRinging(call, status),
                CallNews::Answered => WhatV1::CallAnswered(call),
                CallNews::Held => WhatV1::CallHeld(call),
                CallNews::Resumed => WhatV1::CallResumed(call),
                CallNews::Moved { state } => WhatV1::CallMoved(call, state),
                CallNews::TakenOver { state } => WhatV1::CallTakenOver(call, state),
                CallNews::Ended { cause, status, by } => WhatV1::CallEnded(call, cause, status, by),
                CallNews::Transferring { by, to } => WhatV1::CallTransferring(call, by, to),
                CallNews::Transferred { to } => WhatV1::CallTransferred(call, to),
                CallNews::TransferFailed { status } => WhatV1::CallTransferFailed(call, status),
                CallNews::Diverted { by, on, to } => WhatV1::CallDiverted(call, by, on, to),
                CallNews::Replaced { party, by } => WhatV1::CallReplaced(call, party, by),
                CallNews::Parked { place } => WhatV1::CallParked(call, place),
            },
            What::Registration { aor, contact, news } => match news {
                // A refresh is no event of the log; a binding that is there was added.
                BindingNews::Added | BindingNews::Refreshed => WhatV1::BindingAdded(aor, contact),
                BindingNews::Removed => WhatV1::BindingRemoved(aor, contact),
                BindingNews::Expired => WhatV1::BindingExpired(aor, contact),
            },
            What::Node { life, name, news } => match news {
                NodeNews::Up => WhatV1::NodeUp(life.into(), name),
                NodeNews::Draining => WhatV1::NodeDraining(life.into(), name),
                NodeNews::Gone => WhatV1::NodeGone(life.into(), name),
                NodeNews::Left => WhatV1::NodeLeft(life.into(), name),
            },
        }
    }
}

impl From<WhatV1> for What {
    fn from(form: WhatV1) -> Self {
        let of_call = |call, news| What::Call { call, news };
        let of_binding = |aor, contact, news| What::Registration { aor, contact, news };
        let of_node = |life: InstV1, name, news| What::Node {
            life: life.into(),
            name,
            news,
        };
        match form {
            WhatV1::CallStarted(call, from, to) => of_call(call, CallNews::Started { from, to }),
            WhatV1::CallRinging(call, status) => of_call(call, CallNews::Ringing { status }),
            WhatV1::CallAnswered(call) => of_call(call, CallNews::Answered),
            WhatV1::CallHeld(call) => of_call(call, CallNews::Held),
            WhatV1::CallResumed(call) => of_call(call, CallNews::Resumed),
            WhatV1::CallMoved(call, state) => of_call(call, CallNews::Moved { state }),
            WhatV1::CallTakenOver(call, state) => of_call(call, CallNews::TakenOver { state }),
            WhatV1::CallEnded(call, cause, status, by) => {
                of_call(call, CallNews::Ended { cause, status, by })
            }
            WhatV1::CallTransferring(call, by, to) => {
                of_call(call, CallNews::Transferring { by, to })
            }
            WhatV1::CallTransferred(call, to) => of_call(call, CallNews::Transferred { to }),
            WhatV1::CallTransferFailed(call, status) => {
                of_call(call, CallNews::TransferFailed { status })
            }
            WhatV1::CallDiverted(call, by, on, to) => {
                of_call(call, CallNews::Diverted { by, on, to })
            }
            WhatV1::CallReplaced(call, party, by) => {
                of_call(call, CallNews::Replaced { party, by })
            }
            WhatV1::CallParked(call, place) => of_call(call, CallNews::Parked { place }),
            WhatV1::BindingAdded(aor, contact) => of_binding(aor, contact, BindingNews::Added),
            WhatV1::BindingRemoved(aor, contact) => of_binding(aor, contact, BindingNews::Removed),
            WhatV1::BindingExpired(aor, contact) => of_binding(aor, contact, BindingNews::Expired),
            WhatV1::NodeUp(life, name) => of_node(life, name, NodeNews::Up),
            WhatV1::NodeDraining(life, name) => of_node(life, name, NodeNews::Draining),
            WhatV1::NodeGone(life, name) => of_node(life, name, NodeNews::Gone),
            WhatV1::NodeLeft(life, name) => of_node(life, name, NodeNews::Left),
        }
    }
}

fn write_events(events: &[Numbered]) -> Vec<EventFormV1> {
    let form = |(number, event): &Numbered| EventFormV1 {
        number: *number,
        at_ms: event.at.0,
        what: WhatV1::from(&event.what),
    };
    events.iter().map(form).collect()
}

/// Reads events that another node, or the disk, has: within bounds, numbers from 1 on and rising.
fn read_events(forms: Vec<EventFormV1>) -> Result<Vec<Numbered>, Unread> {
    if forms.len() > EVENTS_PER_FRAME_MAX {
        return Err(format!("{} events at once", forms.len()).into());
    }
    let mut last = 0;
    let mut events = Vec::with_capacity(forms.len());
    for form in forms {
        if form.number <= last {
            return Err("numbers of events do not rise".into());
        }
        last = form.number;
        let event = LogEvent {
            at: UtcMillis(form.at_ms),
            what: form.what.into(),
        };
        if !event.is_bounded() {
            return Err("a text of an event is too long".into());
        }
        events.push((last, event.into()));
    }
    Ok(events)
}

/// Returns the key of a stored batch.
pub(super) fn batch_key(life: NodeInst, first: u64) -> Vec<u8> {
    let NodeInst { node, boot } = life;
    [
        PREFIX,
        &node.0.to_be_bytes(),
        &boot.0.to_be_bytes(),
        &first.to_be_bytes(),
    ]
    .concat()
}

/// Returns the life and the first number that a key of a stored batch names.
pub(super) fn read_key(key: &[u8]) -> Option<(NodeInst, u64)> {
    let (node, rest) = key.strip_prefix(PREFIX)?.split_first_chunk()?;
    let (boot, rest) = rest.split_first_chunk()?;
    let life = NodeInst {
        node: NodeId(u16::from_be_bytes(*node)),
        boot: Boot(u64::from_be_bytes(*boot)),
    };
    Some((life, u64::from_be_bytes(rest.try_into().ok()?)))
}

/// Writes a stored batch.
pub(super) fn write_batch(events: &[Numbered]) -> Vec<u8> {
    let body = codec::encode(&write_events(events)).expect("64 events are below CODEC_BYTES_MAX");
    [&FORM.to_le_bytes()[..], &body].concat()
}

/// Reads a stored batch; `None` if it is none, or of a form that this program does not know.
pub(super) fn read_batch(key: &[u8], value: &[u8]) -> Option<(NodeInst, Vec<Numbered>)> {
    let (life, first) = read_key(key)?;
    let (form, body) = value.split_first_chunk()?;
    if u16::from_le_bytes(*form) != FORM {
        return None;
    }
    let events = read_events(codec::decode(body).ok()?).ok()?;
    let is_placed = events.first()?.0 == first;
    is_placed.then_some((life, events))
}
