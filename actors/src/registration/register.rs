//! What a REGISTER does to the bindings of its AoR (RFC 3261 §10.3), as a pure function.
//!
//! In: the request, the bindings, the limits. Out: the bindings as they shall be, or a refusal.
//! All or nothing: a request that is refused for one contact changes none. It changes no state.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use contract::limits::{BINDING_BYTES_MAX, BINDINGS_PER_AOR_MAX};
use contract::{BindingNews, FlowRef, Health, Space, Time};
use sip::{Contact, Contacts, HeaderName, Host, Uri};

use super::binding::Binding;
use super::past::{Key, Term};
use super::stamp::Stamp;
use crate::Inbound;
use crate::site::Limits;

/// Where SIP over UDP is listened for if a URI says no port (RFC 3261 §19.1.2).
const SIP_PORT: u16 = 5060;

/// Longest lifetime of a binding over WebSocket (`architecture.md` §7): a browser that is gone
/// without a word is soon no target any more.
const WEBSOCKET_EXPIRES: Duration = Duration::from_secs(600);

/// Why a REGISTER is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// SIP status.
    pub status: u16,
    /// For counters.
    pub why: &'static str,
}

pub(super) const fn refusal(status: u16, why: &'static str) -> Refusal {
    Refusal { status, why }
}

/// What a REGISTER comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    /// The bindings as they shall be.
    pub bindings: Vec<Binding>,
    /// What happened to which contact: `registered`, `refreshed`, `removed`.
    pub news: Vec<(BindingNews, String)>,
    /// What was asked to go, whether it was known here or not.
    pub removes: Vec<Key>,
    /// The change must be safe before it is told of.
    pub is_durable: bool,
}

/// What the registration knows when it plans.
pub(super) struct Known<'a> {
    pub bindings: &'a [Binding],
    pub limits: &'a Limits,
    pub max_contacts: usize,
    pub health: Health,
    pub now: Time,
    /// What is written now is stamped so.
    pub stamp: Stamp,
    /// Phones of the listener may be behind a NAT.
    pub nat: bool,
    /// The listener speaks WebSocket.
    pub is_websocket: bool,
}

/// One REGISTER, typed.
struct Asked<'a> {
    inbound: &'a Inbound,
    call_id: String,
    cseq: u32,
    path: Vec<Uri>,
    user_agent: String,
}

/// Works out what a REGISTER comes to.
pub(super) fn plan(inbound: &Inbound, known: &Known<'_>) -> Result<Outcome, Refusal> {
    let request = &inbound.request;
    let bad = |_| refusal(400, "malformed");
    let asked = Asked {
        inbound,
        call_id: request.call_id().map_err(bad)?.to_owned(),
        cseq: request.cseq().map_err(bad)?.number,
        path: request
            .paths()
            .map_err(bad)?
            .into_iter()
            .map(|path| path.uri)
            .collect(),
        user_agent: request
            .header(HeaderName::UserAgent)
            .unwrap_or("")
            .chars()
            .take(64)
            .collect(),
    };
    let expires = request.expires().map_err(bad)?;
    let mut outcome = Outcome {
        bindings: known.bindings.to_vec(),
        news: Vec::new(),
        removes: Vec::new(),
        is_durable: false,
    };
    match request.contacts().map_err(bad)? {
        Contacts::Star if expires == Some(0) => remove_all(&asked, &mut outcome)?,
        Contacts::Star => return Err(refusal(400, "star without Expires 0")),
        Contacts::List(contacts) => {
            check_list(&contacts)?;
            for contact in contacts {
                let wish = contact.expires.or(expires);
                let granted = granted(wish, known.limits, known.is_websocket)?;
                apply(&asked, contact, granted, known, &mut outcome)?;
            }
        }
    }
    make_room(&mut outcome, known);
    check_bounds(&outcome, known)?;
    Ok(outcome)
}

fn check_list(contacts: &[Contact]) -> Result<(), Refusal> {
    if contacts.len() > BINDINGS_PER_AOR_MAX {
        return Err(refusal(403, "too many contacts"));
    }
    // RFC 5626 §4.2: one flow a REGISTER.
    let flows = contacts
        .iter()
        .filter(|contact| contact.reg_id.is_some())
        .count();
    let is_sip = |contact: &Contact| contact.name_addr.uri.scheme().known().is_some();
    if flows > 1 {
        Err(refusal(400, "several reg-ids"))
    } else if !contacts.iter().all(is_sip) {
        Err(refusal(400, "contact is no SIP URI"))
    } else {
        Ok(())
    }
}

/// Returns the lifetime a wish is granted; zero removes.
fn granted(wish_s: Option<u32>, limits: &Limits, is_websocket: bool) -> Result<Duration, Refusal> {
    let longest = if is_websocket {
        limits.expires_max.min(WEBSOCKET_EXPIRES)
    } else {
        limits.expires_max
    };
    match wish_s {
        None => Ok(limits.expires_default.min(longest)),
        Some(0) => Ok(Duration::ZERO),
        Some(seconds) => {
            let wish = Duration::from_secs(u64::from(seconds));
            // RFC 3261 §10.3 (7): a wish of an hour or more is never too brief.
            if wish < limits.expires_min && wish < Duration::from_secs(3_600) {
                return Err(refusal(423, "expiry too brief"));
            }
            Ok(wish.min(longest))
        }
    }
}

/// Refuses a REGISTER that is older than the one that set the binding; `true` if it is the same.
///
/// The same numbers over another connection are no repetition: a page that was loaded again may begin
/// with fixed ones, and its binding has to lead to it.
fn check_order(asked: &Asked<'_>, binding: &Binding) -> Result<bool, Refusal> {
    let is_elsewhere = binding.flow.is_reliable() && binding.flow != asked.inbound.flow;
    if binding.call_id != asked.call_id || asked.cseq > binding.cseq {
        Ok(false)
    } else if asked.cseq == binding.cseq {
        Ok(!is_elsewhere)
    } else {
        Err(refusal(500, "CSeq out of order"))
    }
}

fn remove_all(asked: &Asked<'_>, outcome: &mut Outcome) -> Result<(), Refusal> {
    for binding in &outcome.bindings {
        if check_order(asked, binding)? {
            return Err(refusal(500, "CSeq used before"));
        }
    }
    let removed = std::mem::take(&mut outcome.bindings);
    outcome.removes.push(Key::All);
    outcome.is_durable = !removed.is_empty();
    outcome.news.extend(
        removed
            .iter()
            .map(|one| (BindingNews::Removed, one.contact.to_string())),
    );
    Ok(())
}

fn apply(
    asked: &Asked<'_>,
    contact: Contact,
    granted: Duration,
    known: &Known<'_>,
    outcome: &mut Outcome,
) -> Result<(), Refusal> {
    let instance = contact.instance.as_deref();
    let reg_id = contact.reg_id.filter(|_| instance.is_some());
    let is_meant = |one: &Binding| one.is_of(&contact.name_addr.uri, instance, reg_id);
    let found = outcome.bindings.iter().position(is_meant);
    if let Some(at) = found {
        let is_repeat = check_order(asked, &outcome.bindings[at])?;
        if is_repeat && granted.is_zero() {
            return Err(refusal(500, "CSeq used before"));
        }
        if is_repeat {
            return Ok(());
        }
    }
    let key = Key::of(&contact.name_addr.uri, instance, reg_id);
    match found {
        Some(at) if granted.is_zero() => {
            drop_others(at, &key, is_meant, outcome);
            let found = outcome.bindings[at].key();
            if found != key {
                outcome.removes.push(key);
            }
            outcome.removes.push(found);
            remove(at, outcome);
        }
        None if granted.is_zero() => outcome.removes.push(key),
        Some(at) => {
            drop_others(at, &key, is_meant, outcome);
            let next = bound(asked, contact, granted, known);
            refresh(next, at, known.now, outcome);
        }
        None => {
            let next = bound(asked, contact, granted, known);
            outcome
                .news
                .push((BindingNews::Added, next.contact.to_string()));
            outcome.bindings.push(next);
            outcome.is_durable = true;
        }
    }
    Ok(())
}

/// Drops what is the same binding as the first one found and is listed beside it: equivalent texts
/// of one contact that were bound on nodes cut off from each other, or a plain contact that became
/// a phone's flow.
fn drop_others(
    found: usize,
    key: &Key,
    is_meant: impl Fn(&Binding) -> bool,
    outcome: &mut Outcome,
) {
    for at in (found + 1..outcome.bindings.len()).rev() {
        let (one, other) = (&outcome.bindings[found], &outcome.bindings[at]);
        let is_same = other.is_of(&one.contact, one.instance.as_deref(), one.reg_id);
        if other.key() == *key || (is_same && is_meant(other)) {
            remove(at, outcome);
        }
    }
}

fn remove(at: usize, outcome: &mut Outcome) {
    let removed = outcome.bindings.remove(at);
    outcome
        .news
        .push((BindingNews::Removed, removed.contact.to_string()));
    outcome.is_durable = true;
}

/// Replaces a binding; one that differs in its expiry only, before half life, neither shortened nor
/// for a longer time than was granted, keeps its stored expiry (`cluster.md` §8: never more is
/// granted than is durable). Not what a take-over has lengthened: other copies of the same REGISTER
/// end earlier, and a merge may choose one of them, so what is answered is stored under a new stamp.
pub(super) fn refresh(next: Binding, at: usize, now: Time, outcome: &mut Outcome) {
    let old = &mut outcome.bindings[at];
    let keeps_expiry = !old.is_extended
        && old.is_same_but_expiry(&next)
        && old.is_before_half_life(now)
        && next.granted <= old.granted
        && next.expires >= old.expires;
    if keeps_expiry {
        if old.call_id != next.call_id {
            // Numbers of another Call-ID are compared by their stamps.
            old.stamp = next.stamp;
        }
        old.call_id = next.call_id;
        old.cseq = next.cseq;
        return;
    }
    outcome
        .news
        .push((BindingNews::Refreshed, next.contact.to_string()));
    *old = next;
    outcome.is_durable = true;
}

fn bound(asked: &Asked<'_>, contact: Contact, granted: Duration, known: &Known<'_>) -> Binding {
    let flow = way_to(asked, &contact, known.nat);
    Binding {
        contact: contact.name_addr.uri,
        call_id: asked.call_id.clone(),
        cseq: asked.cseq,
        q: contact.q,
        reg_id: contact.reg_id.filter(|_| contact.instance.is_some()),
        instance: contact.instance,
        path: asked.path.clone(),
        flow,
        user_agent: asked.user_agent.clone(),
        unreachable: false,
        stamp: known.stamp,
        era: 0,
        touched: 0,
        is_extended: false,
        expires: known.now + granted,
        granted,
        until: Term::new(known.now, granted),
    }
}

/// Returns how requests for a contact are sent: over the flow it was registered on, but over UDP to
/// the contact's own port if that is at the source's address and nothing says that the flow must be
/// kept: no Path (RFC 3327), no outbound (RFC 5626), no `nat` in the profile. A phone that sends
/// from another port than it listens on is reached, and a contact of somebody else never is.
fn way_to(asked: &Asked<'_>, contact: &Contact, nat: bool) -> FlowRef {
    let flow = asked.inbound.flow;
    let FlowRef::Datagram { listener, remote } = flow else {
        return flow;
    };
    let uri = &contact.name_addr.uri;
    let is_at_source = match uri.host() {
        Some(Host::V4(address)) => remote.ip() == IpAddr::V4(*address),
        Some(Host::V6(address)) => remote.ip() == IpAddr::V6(*address),
        Some(Host::Name(_)) | None => false,
    };
    if nat || !is_at_source || !asked.path.is_empty() || contact.reg_id.is_some() {
        return flow;
    }
    let port = uri.port().unwrap_or(SIP_PORT);
    let remote = SocketAddr::new(remote.ip(), port);
    FlowRef::Datagram { listener, remote }
}

/// Lets new bindings take the places of those whose connection is gone, the oldest first
/// (RFC 5626 §5.3): a browser's window that was closed said nothing.
pub(super) fn make_room(outcome: &mut Outcome, known: &Known<'_>) {
    let places = known.max_contacts.min(BINDINGS_PER_AOR_MAX);
    while outcome.bindings.len() > places {
        let gone = outcome.bindings.iter().enumerate();
        let gone = gone.filter(|(_, one)| one.unreachable);
        let Some((at, _)) = gone.min_by_key(|(_, one)| one.stamp) else {
            return;
        };
        remove(at, outcome);
    }
}

/// Refuses what does not fit the account, a record or the disk.
pub(super) fn check_bounds(outcome: &Outcome, known: &Known<'_>) -> Result<(), Refusal> {
    let adds = outcome
        .news
        .iter()
        .any(|(what, _)| *what == BindingNews::Added);
    let binds = adds
        || outcome
            .news
            .iter()
            .any(|(what, _)| *what == BindingNews::Refreshed);
    if adds && outcome.bindings.len() > known.max_contacts.min(BINDINGS_PER_AOR_MAX) {
        return Err(refusal(403, "too many contacts"));
    }
    if outcome
        .bindings
        .iter()
        .any(|one| one.weight() > BINDING_BYTES_MAX)
    {
        return Err(refusal(400, "contact too long"));
    }
    let is_short = match known.health.space {
        Space::Ample => adds && known.health.draining,
        Space::Low => adds,
        Space::Exhausted => binds,
    };
    if is_short {
        Err(refusal(503, "no room for bindings"))
    } else {
        Ok(())
    }
}
