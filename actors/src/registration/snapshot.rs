//! The stored form of a registration, version 1. Frozen: a change is a new version.

use std::time::Duration;

use contract::{FlowRef, Now, RestoreError, StoredDeadline};
use serde::{Deserialize, Serialize};
use sip::{Aor, Uri};

use super::binding::Binding;
use super::core::Registration;

/// All bindings of one AoR.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    aor: Aor,
    bindings: Vec<BindingV1>,
    order: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct BindingV1 {
    contact: Uri,
    call_id: String,
    cseq: u32,
    q: Option<u16>,
    instance: Option<String>,
    reg_id: Option<u32>,
    path: Vec<Uri>,
    flow: FlowRef,
    user_agent: String,
    unreachable: bool,
    order: u64,
    expires: StoredDeadline,
}

pub(super) fn take(registration: &Registration, now: Now) -> Snapshot {
    let bindings = registration.bindings.iter().map(|one| BindingV1 {
        contact: one.contact.clone(),
        call_id: one.call_id.clone(),
        cseq: one.cseq,
        q: one.q,
        instance: one.instance.clone(),
        reg_id: one.reg_id,
        path: one.path.clone(),
        flow: one.flow,
        user_agent: one.user_agent.clone(),
        unreachable: one.unreachable,
        order: one.order,
        expires: now.store_deadline(one.expires, one.granted),
    });
    Snapshot {
        aor: registration.aor.clone(),
        bindings: bindings.collect(),
        order: registration.order,
    }
}

pub(super) fn restore(snapshot: Snapshot, now: Now) -> Result<Registration, RestoreError> {
    if snapshot
        .bindings
        .iter()
        .any(|one| one.order > snapshot.order)
    {
        let why = "a binding is newer than the registration".to_owned();
        return Err(RestoreError {
            what: "registration",
            why,
        });
    }
    let bindings = snapshot.bindings.into_iter().map(|one| Binding {
        contact: one.contact,
        call_id: one.call_id,
        cseq: one.cseq,
        q: one.q,
        instance: one.instance,
        reg_id: one.reg_id,
        path: one.path,
        flow: one.flow,
        user_agent: one.user_agent,
        unreachable: one.unreachable,
        order: one.order,
        expires: now.restore_deadline(one.expires),
        granted: Duration::from_millis(one.expires.length_ms),
    });
    Ok(Registration {
        aor: snapshot.aor,
        bindings: bindings.collect(),
        order: snapshot.order,
    })
}
