//! Which route a dialled number takes: the first of its domain that matches.
//!
//! In: the dialled user part, the domain it was dialled in, the profile the call came in on, when. Out:
//! a [`Plan`]. It asks no actor and looks up no registration; calls carry the plan out.
//!
//! What is dialled is brought to one form before any rule sees it, so that no spelling of a number
//! passes a rule that its plain form does not (`threats.md` 23): parameters of the user part go
//! (`;phone-context=…`), escapes were undone by the reader, and numbers in other scripts or with
//! control characters match nothing.

use contract::UtcMillis;
use regex::Captures;

use crate::call::Replaces;
use crate::registration::settings::Change;
use crate::site::{Domain, Route, Step};

/// What is done with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Name of the route, for traces.
    pub route: String,
    /// What is done, in order; no `$n` is left in them.
    pub steps: Vec<Step>,
    /// Pass the SDP and open no media legs.
    pub bypass: bool,
}

impl Plan {
    /// Returns what is done with a call whose INVITE replaces a dialog: no route is asked.
    pub(crate) fn of_replaces(replaces: Replaces) -> Plan {
        let replaces = Box::new(replaces);
        Plan {
            route: "replaces".to_owned(),
            steps: vec![Step::Replace { replaces }],
            bypass: false,
        }
    }
}

/// Octets of a dialled user part; no number or name is longer, and longer ones match nothing.
const DIALLED_BYTES_MAX: usize = 256;

/// Returns the plan for what was dialled (unescaped); `None` if no route takes it: 404.
#[must_use]
pub fn plan(dialled: &str, domain: &Domain, profile: &str, now: UtcMillis) -> Option<Plan> {
    let dialled = normal_form(dialled)?;
    domain.routes.iter().find_map(|route| {
        if route
            .profile
            .as_deref()
            .is_some_and(|wanted| wanted != profile)
        {
            return None;
        }
        let groups = route.destination.captures(dialled)?;
        if !is_due(route, now) {
            return None;
        }
        let steps: Option<Vec<Step>> = route
            .steps
            .iter()
            .map(|step| expand_step(step, &groups))
            .collect();
        Some(Plan {
            route: route.name.clone(),
            steps: steps?,
            bypass: route.bypass,
        })
    })
}

fn is_due(route: &Route, now: UtcMillis) -> bool {
    let hours = route.hours.as_ref();
    hours.is_none_or(|at| at.hours.is_open(now) == at.while_open)
}

/// Returns what the rules see of a dialled user part; `None` for what no rule may see.
fn normal_form(dialled: &str) -> Option<&str> {
    let plain = dialled.split(';').next().unwrap_or_default();
    let is_odd = |letter: char| {
        letter.is_control()
            || (!letter.is_ascii() && (letter.is_numeric() || !letter.is_alphanumeric()))
    };
    let is_fit = !plain.is_empty() && plain.len() <= DIALLED_BYTES_MAX && !plain.contains(is_odd);
    is_fit.then_some(plain)
}

fn expand_step(step: &Step, groups: &Captures<'_>) -> Option<Step> {
    Some(match step {
        Step::Bridge { target } => Step::Bridge {
            target: expand(target, groups, is_plain)?,
        },
        Step::Hangup { cause } => Step::Hangup {
            cause: expand(cause, groups, is_plain)?,
        },
        Step::Log { text } => Step::Log {
            text: expand(text, groups, |_| true)?,
        },
        Step::Play {
            hertz,
            level_dbm0,
            for_ms,
        } => Step::Play {
            hertz: *hertz,
            level_dbm0: *level_dbm0,
            for_ms: *for_ms,
        },
        Step::PickUp { target } => Step::PickUp {
            target: expand(target, groups, is_plain)?,
        },
        Step::Park { place } => Step::Park {
            place: expand(place, groups, is_plain)?,
        },
        Step::Set { change } => Step::Set {
            change: Box::new(expand_change(change, groups)?),
        },
        Step::Answer | Step::Replace { .. } => step.clone(),
        Step::Echo => Step::Echo,
        Step::Tone { hertz, level_dbm0 } => Step::Tone {
            hertz: *hertz,
            level_dbm0: *level_dbm0,
        },
    })
}

fn expand_change(change: &Change, groups: &Captures<'_>) -> Option<Change> {
    Some(match change {
        Change::Divert { on, to: Some(to) } => Change::Divert {
            on: *on,
            to: Some(expand(to, groups, is_plain)?),
        },
        Change::Divert { to: None, .. }
        | Change::Nothing
        | Change::Replace(_)
        | Change::DoNotDisturb(_)
        | Change::CallWaiting(_) => change.clone(),
    })
}

/// Tells whether a number may be diverted to: a route takes it, on whatever profile, and, at whatever time,
/// does no more than call somebody.
#[must_use]
pub fn is_dialable(dialled: &str, domain: &Domain) -> bool {
    let Some(dialled) = normal_form(dialled) else {
        return false;
    };
    let is_personal = |route: &Route| route.steps.iter().any(Step::is_personal);
    let routes = domain.routes.iter();
    let mut is_taken = false;
    for route in routes.filter(|route| route.destination.is_match(dialled)) {
        if is_personal(route) {
            return false;
        }
        is_taken = true;
        if route.hours.is_none() {
            break;
        }
    }
    is_taken
}

/// Tells whether a dialled character cannot change the meaning of a target: no `@` that picks
/// another domain, no `/` or `,` that begins another target.
fn is_plain(letter: char) -> bool {
    letter.is_alphanumeric() || "+*#.-_~!".contains(letter)
}

/// Replaces `$0` to `$9` by the groups of the match and `$$` by `$`; `None` if a group has a
/// character that `allows` refuses.
fn expand(text: &str, groups: &Captures<'_>, allows: fn(char) -> bool) -> Option<String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(letter) = rest.next() {
        let next = rest.peek().copied();
        match (letter, next.and_then(|digit| digit.to_digit(10))) {
            ('$', Some(number)) => {
                rest.next();
                let group = groups.get(usize::try_from(number).ok()?);
                let group = group.map(|group| group.as_str()).unwrap_or_default();
                if !group.chars().all(allows) {
                    return None;
                }
                expanded.push_str(group);
            }
            ('$', None) if next == Some('$') => {
                rest.next();
                expanded.push('$');
            }
            (other, _) => expanded.push(other),
        }
    }
    Some(expanded)
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
