//! The stored forms of a registration. Frozen: a change is a new version (`cluster.md` §12).
//!
//! In: a registration, or octets of a record. Out: the other. It merges nothing.

use std::time::Duration;

use contract::limits::ENGAGED_CALLS_MAX;
use contract::{CallKey, FlowRef, NodeId, Now, RestoreError, StoredDeadline};
use serde::{Deserialize, Serialize};
use sip::{Aor, Uri};

use super::binding::Binding;
use super::core::Registration;
use super::past::{Key, Past, Removal, Term, Went};
use super::settings::StoredSettings;
use super::stamp::Stamp;

/// All bindings of one AoR, version 1: still read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotV1 {
    pub(super) aor: Aor,
    pub(super) bindings: Vec<BindingV1>,
    pub(super) order: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct BindingV1 {
    pub(super) contact: Uri,
    pub(super) call_id: String,
    pub(super) cseq: u32,
    pub(super) q: Option<u16>,
    pub(super) instance: Option<String>,
    pub(super) reg_id: Option<u32>,
    pub(super) path: Vec<Uri>,
    pub(super) flow: FlowRef,
    pub(super) user_agent: String,
    pub(super) unreachable: bool,
    pub(super) order: u64,
    pub(super) expires: StoredDeadline,
}

/// All bindings of one AoR, version 2, and what copies of it are merged by; each list in the order
/// of its keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotV2 {
    aor: Aor,
    bindings: Vec<BindingV2>,
    lost: Vec<BindingV2>,
    removals: Vec<RemovalV2>,
    clock: Stamp,
}

/// The same with what the user has set: version 3, of schema 3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub(super) aor: Aor,
    pub(super) bindings: Vec<BindingV2>,
    pub(super) lost: Vec<BindingV2>,
    pub(super) removals: Vec<RemovalV2>,
    pub(super) clock: Stamp,
    pub(super) settings: Option<StoredSettings>,
    pub(super) engaged: Vec<CallKey>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct BindingV2 {
    pub(super) contact: Uri,
    pub(super) call_id: String,
    pub(super) era: u32,
    pub(super) cseq: u32,
    pub(super) stamp: Stamp,
    pub(super) touched: u32,
    pub(super) q: Option<u16>,
    pub(super) instance: Option<String>,
    pub(super) reg_id: Option<u32>,
    pub(super) path: Vec<Uri>,
    pub(super) flow: FlowRef,
    pub(super) user_agent: String,
    pub(super) unreachable: bool,
    pub(super) is_extended: bool,
    pub(super) expires: StoredDeadline,
    pub(super) until: StoredDeadline,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RemovalV2 {
    pub(super) key: Key,
    pub(super) call_id: String,
    pub(super) era: u32,
    pub(super) cseq: u32,
    pub(super) stamp: Stamp,
    pub(super) went: Went,
    pub(super) until: StoredDeadline,
}

impl Snapshot {
    /// Returns the latest stamp in it.
    pub(super) fn newest(&self) -> Stamp {
        let bindings = self.bindings.iter().chain(&self.lost).map(|one| one.stamp);
        let removals = self.removals.iter().map(|one| one.stamp);
        let settings = self.settings.iter().map(|one| one.stamp);
        bindings
            .chain(removals)
            .chain(settings)
            .fold(self.clock, Stamp::max)
    }

    /// Returns the oldest form that holds it: of a user who has set nothing the second.
    ///
    /// # Errors
    /// Not a fault: the registration itself, if the second form cannot hold it.
    pub(crate) fn oldest(self) -> Result<SnapshotV2, Box<Self>> {
        if self.settings.is_some() {
            return Err(Box::new(self));
        }
        Ok(SnapshotV2 {
            aor: self.aor,
            bindings: self.bindings,
            lost: self.lost,
            removals: self.removals,
            clock: self.clock,
        })
    }

    /// Tells whose it is.
    pub(crate) fn is_of(&self, aor: &str) -> bool {
        self.aor.as_str() == aor
    }
}

impl From<SnapshotV1> for Snapshot {
    /// Version 1 had its own order and no clock: what was written since is later.
    fn from(old: SnapshotV1) -> Self {
        let mut bindings: Vec<BindingV2> = old.bindings.into_iter().map(Into::into).collect();
        bindings.sort_by_cached_key(BindingV2::place);
        Snapshot {
            aor: old.aor,
            bindings,
            lost: Vec::new(),
            removals: Vec::new(),
            clock: stamp_of(old.order),
            settings: None,
            engaged: Vec::new(),
        }
    }
}

impl From<SnapshotV2> for Snapshot {
    fn from(old: SnapshotV2) -> Self {
        Snapshot {
            aor: old.aor,
            bindings: old.bindings,
            lost: old.lost,
            removals: old.removals,
            clock: old.clock,
            settings: None,
            engaged: Vec::new(),
        }
    }
}

impl From<BindingV1> for BindingV2 {
    fn from(old: BindingV1) -> Self {
        BindingV2 {
            contact: old.contact,
            call_id: old.call_id,
            era: 0,
            cseq: old.cseq,
            stamp: stamp_of(old.order),
            touched: 0,
            q: old.q,
            instance: old.instance,
            reg_id: old.reg_id,
            path: old.path,
            flow: old.flow,
            user_agent: old.user_agent,
            unreachable: old.unreachable,
            is_extended: false,
            expires: old.expires,
            until: old.expires,
        }
    }
}

fn stamp_of(order: u64) -> Stamp {
    Stamp {
        ms: 0,
        counter: u32::try_from(order).unwrap_or(u32::MAX),
        node: NodeId(0),
    }
}

impl BindingV2 {
    /// Returns its place in a list.
    pub(super) fn place(&self) -> (Key, String) {
        let key = Binding::key_of(
            &self.contact,
            self.instance.as_deref(),
            self.reg_id,
            self.flow,
        );
        (key, self.call_id.clone())
    }

    fn take(one: &Binding, now: Now) -> Self {
        BindingV2 {
            contact: one.contact.clone(),
            call_id: one.call_id.clone(),
            era: one.era,
            cseq: one.cseq,
            stamp: one.stamp,
            touched: one.touched,
            q: one.q,
            instance: one.instance.clone(),
            reg_id: one.reg_id,
            path: one.path.clone(),
            flow: one.flow,
            user_agent: one.user_agent.clone(),
            unreachable: one.unreachable,
            is_extended: one.is_extended,
            expires: now.store_deadline(one.expires, one.granted),
            until: one.until.store(now),
        }
    }

    fn restore(self, now: Now) -> Binding {
        Binding {
            contact: self.contact,
            call_id: self.call_id,
            era: self.era,
            cseq: self.cseq,
            stamp: self.stamp,
            touched: self.touched,
            q: self.q,
            instance: self.instance,
            reg_id: self.reg_id,
            path: self.path,
            flow: self.flow,
            user_agent: self.user_agent,
            unreachable: self.unreachable,
            is_extended: self.is_extended,
            expires: now.restore_deadline(self.expires),
            granted: Duration::from_millis(self.expires.length_ms),
            until: Term::restore(self.until, now),
        }
    }
}

fn bindings(list: &[Binding], now: Now) -> Vec<BindingV2> {
    let stored = list.iter().map(|one| BindingV2::take(one, now));
    let mut stored: Vec<BindingV2> = stored.collect();
    stored.sort_by_cached_key(BindingV2::place);
    stored
}

pub(super) fn take(registration: &Registration, now: Now) -> Snapshot {
    let past = &registration.past;
    let removals = past.removals.iter().map(|one| RemovalV2 {
        key: one.key.clone(),
        call_id: one.call_id.clone(),
        era: one.era,
        cseq: one.cseq,
        stamp: one.stamp,
        went: one.went,
        until: one.until.store(now),
    });
    let mut removals: Vec<RemovalV2> = removals.collect();
    removals.sort_by(|one, other| (&one.key, &one.call_id).cmp(&(&other.key, &other.call_id)));
    Snapshot {
        aor: registration.aor.clone(),
        bindings: bindings(&registration.bindings, now),
        lost: bindings(&past.lost, now),
        removals,
        clock: registration.clock(),
        settings: registration.settings.as_ref().map(|kept| kept.store(now)),
        engaged: registration.engaged.clone(),
    }
}

pub(super) fn restore(snapshot: Snapshot, now: Now) -> Result<Registration, RestoreError> {
    if snapshot.newest() > snapshot.clock {
        let why = "a binding is newer than the registration".to_owned();
        return Err(RestoreError {
            what: "registration",
            why,
        });
    }
    let removals = snapshot.removals.into_iter().map(|one| Removal {
        key: one.key,
        call_id: one.call_id,
        era: one.era,
        cseq: one.cseq,
        stamp: one.stamp,
        went: one.went,
        until: Term::restore(one.until, now),
    });
    let restored = |list: Vec<BindingV2>| list.into_iter().map(|one| one.restore(now)).collect();
    let past = Past {
        lost: restored(snapshot.lost),
        removals: removals.collect(),
    };
    let bindings = restored(snapshot.bindings);
    let settings = snapshot.settings.map(|one| one.restore(now));
    let mut engaged = snapshot.engaged;
    engaged.truncate(ENGAGED_CALLS_MAX);
    let known = Registration::known(snapshot.aor, bindings, past, snapshot.clock);
    Ok(Registration {
        settings,
        engaged,
        ..known
    })
}
