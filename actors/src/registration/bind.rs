//! What a JSON client's `register`, `resumeSession` and `unregister` do to the bindings of its AoR,
//! as pure functions: the rules of `register.rs` for a client that has one binding an instance.
//!
//! In: who asks, the bindings, the limits. Out: the bindings as they shall be, or a refusal. The
//! password was checked by the session. It changes no state.

use std::time::Duration;

use contract::{ActorId, BindingNews, Door, FlowRef};
use serde::{Deserialize, Serialize};
use sip::{Aor, Host, Uri};

use super::binding::Binding;
use super::past::Term;
use super::register::{self, Known, Outcome, Refusal, refresh, refusal};

/// Longest and usual lifetime of a JSON client's binding (`architecture.md` §7).
const EXPIRES: Duration = Duration::from_secs(3_600);
/// Octets of a DNS label (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// A JSON client that asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Which of the account's devices.
    pub instance: String,
    /// Its connection.
    pub flow: FlowRef,
    /// Its session: told the outcome.
    pub reply: ActorId,
}

/// Returns the contact that stands for a client: what calls have as their target.
#[must_use]
pub fn contact(aor: &Aor, instance: &str) -> Uri {
    let label: String = instance
        .chars()
        .take(LABEL_BYTES_MAX)
        .map(|letter| {
            let is_kept = letter.is_ascii_alphanumeric();
            if is_kept {
                letter.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let label = label.trim_matches('-');
    let label = if label.is_empty() { "client" } else { label };
    // RFC 7118 §5: a client without an address of its own has a name in `.invalid`.
    let plain = Uri::sip(
        Some(aor.user()),
        Host::Name(format!("{label}.invalid")),
        None,
    );
    let text = format!("{plain};transport=ws");
    text.parse().unwrap_or(plain)
}

fn is_of(binding: &Binding, client: &Client) -> bool {
    binding.flow.door() == Door::Json && binding.instance.as_deref() == Some(&client.instance)
}

/// Returns the binding of a client.
pub(super) fn find<'b>(bindings: &'b [Binding], client: &Client) -> Option<&'b Binding> {
    bindings.iter().find(|one| is_of(one, client))
}

/// Works out what `register` comes to.
pub(super) fn bind(
    aor: &Aor,
    client: &Client,
    wish_s: Option<u32>,
    known: &Known<'_>,
) -> Result<Outcome, Refusal> {
    let granted = match wish_s {
        None => EXPIRES,
        Some(seconds) => Duration::from_secs(u64::from(seconds)),
    };
    if granted < known.limits.expires_min.min(EXPIRES) {
        return Err(refusal(423, "expiry too brief"));
    }
    let granted = granted.min(EXPIRES);
    let mut outcome = unchanged(known);
    let next = Binding {
        contact: contact(aor, &client.instance),
        call_id: client.instance.clone(),
        cseq: 0,
        q: None,
        instance: Some(client.instance.clone()),
        reg_id: None,
        path: Vec::new(),
        flow: client.flow,
        user_agent: "weft.json.v1".to_owned(),
        unreachable: false,
        stamp: known.stamp,
        era: 0,
        touched: 0,
        is_extended: false,
        expires: known.now + granted,
        granted,
        until: Term::new(known.now, granted),
    };
    match outcome.bindings.iter().position(|one| is_of(one, client)) {
        Some(at) => refresh(next, at, known.now, &mut outcome),
        None => {
            outcome
                .news
                .push((BindingNews::Added, next.contact.to_string()));
            outcome.bindings.push(next);
            outcome.is_durable = true;
        }
    }
    register::make_room(&mut outcome, known);
    register::check_bounds(&outcome, known)?;
    Ok(outcome)
}

/// Works out what `resumeSession` comes to: the binding is reached over another connection, and
/// lives no longer than before.
pub(super) fn resume(client: &Client, known: &Known<'_>) -> Result<Outcome, Refusal> {
    let mut outcome = unchanged(known);
    let Some(at) = outcome.bindings.iter().position(|one| is_of(one, client)) else {
        return Err(refusal(410, "no such binding"));
    };
    let binding = &mut outcome.bindings[at];
    if binding.flow != client.flow || binding.unreachable {
        binding.flow = client.flow;
        binding.unreachable = false;
        binding.stamp = known.stamp;
        binding.touched = 0;
        outcome.is_durable = true;
        outcome
            .news
            .push((BindingNews::Refreshed, binding.contact.to_string()));
        register::check_bounds(&outcome, known)?;
    }
    Ok(outcome)
}

/// Works out what `unregister` comes to; only the connection that has the binding ends it.
pub(super) fn unbind(client: &Client, known: &Known<'_>) -> Outcome {
    let mut outcome = unchanged(known);
    let is_meant = |one: &Binding| is_of(one, client) && one.flow == client.flow;
    if let Some(at) = outcome.bindings.iter().position(is_meant) {
        let removed = outcome.bindings.remove(at);
        outcome.removes.push(removed.key());
        outcome
            .news
            .push((BindingNews::Removed, removed.contact.to_string()));
        outcome.is_durable = true;
    }
    outcome
}

fn unchanged(known: &Known<'_>) -> Outcome {
    Outcome {
        bindings: known.bindings.to_vec(),
        news: Vec::new(),
        removes: Vec::new(),
        is_durable: false,
    }
}
