//! One registration out of the copies that holders have of it (`cluster.md` §8, I13).
//!
//! In: stored forms. Out: the one that all of them come to, whatever their order and however often
//! each is given. It reads no clock and knows no node.
//!
//! The rule, for the entries (bindings and removals) of all copies:
//!
//! 1. Of each key and Call-ID the entry with the highest CSeq stays; of equal ones the later
//!    stamp, then the one that was changed more often since, then the removal. It stays in mind as
//!    long as any of them would.
//! 2. `*` voids the entries of its own Call-ID with no higher CSeq, and those of others that are
//!    not later.
//! 3. Of each key the latest stamp wins, whatever its Call-ID: a binding is bound, a removal means
//!    that nothing is. `Void` entries take no part: they only hold their place in 1.
//!
//! 4. What the user has set: the latest as a whole; of equal ones that which is kept longer.
//!
//! A binding that has ended takes no part in 3 either; it is kept as `lost` as long as what it
//! replaced could live elsewhere.
//!
//! Rule 3 is no order that pairs could be compared by: with 1 it has cycles if clocks disagree.
//! So a binding that loses by 3 is kept whole (`lost`), as long as it lives: who wins is worked
//! out anew from all that is known, and merging stays associative. A merge keeps every binding
//! that wins, also more than the account's `max_contacts`: the account gets no new ones until it
//! is below it. Only of more than a record can hold the earliest are dropped.
//!
//! At the bounds (`BINDINGS_PER_AOR_MAX`, `REMOVALS_PER_AOR_MAX`, `REMOVALS_BYTES_MAX`) merging is
//! still the same for every order of the copies given, but no longer associative.

use std::collections::BTreeMap;

use contract::limits::{BINDINGS_PER_AOR_MAX, REMOVALS_BYTES_MAX, REMOVALS_PER_AOR_MAX};
use contract::{StoredDeadline, UtcMillis, codec};

use super::engaged;
use super::past::{Key, Went};
use super::settings::StoredSettings;
use super::snapshot::{BindingV2, RemovalV2, Snapshot};
use super::stamp::Stamp;

/// What one copy says of one key and Call-ID.
#[derive(Clone, Debug)]
struct Entry {
    era: u32,
    cseq: u32,
    stamp: Stamp,
    touched: u32,
    until: StoredDeadline,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    /// The binding, its own `until` taken out: two that differ in that only are the same one.
    Bound(Box<BindingV2>),
    Asked,
    Void,
}

/// What is known of `*` under one Call-ID: the most of everything, so that what is void stays so.
#[derive(Clone, Copy, Debug)]
struct Sweep {
    number: (u32, u32),
    stamp: Stamp,
    until: StoredDeadline,
}

const NEVER: StoredDeadline = StoredDeadline {
    at: UtcMillis(0),
    length_ms: 0,
};

type Place = (Key, String);

/// Merges copies of one registration; `None` if there is none.
#[must_use]
pub fn merge(copies: Vec<Snapshot>, now: UtcMillis) -> Option<Snapshot> {
    let aor = copies.first()?.aor.clone();
    let mut clock = Stamp::default();
    let mut entries = BTreeMap::new();
    let mut sweeps = BTreeMap::new();
    let mut settings = None;
    let mut calls = copies.first()?.engaged.clone();
    for copy in copies {
        calls = engaged::merged(calls, &copy.engaged);
        clock = clock.max(copy.newest());
        settings = later_settings(settings, copy.settings, now);
        for binding in copy.bindings.into_iter().chain(copy.lost) {
            take_binding(&mut entries, binding, now);
        }
        for removal in copy.removals.into_iter().filter(|one| one.until.at > now) {
            if removal.key == Key::All {
                sweep(&mut sweeps, removal);
            } else {
                take_removal(&mut entries, removal);
            }
        }
    }
    for ((_, call_id), entry) in &mut entries {
        if is_swept(&sweeps, call_id, entry) {
            entry.body = Body::Void;
        }
    }
    let mut merged = Snapshot {
        aor,
        bindings: Vec::new(),
        lost: Vec::new(),
        removals: sweeps.into_iter().map(of_sweep).collect(),
        clock,
        engaged: match &settings {
            Some(kept) if !kept.settings.call_waiting => calls,
            Some(_) | None => Vec::new(),
        },
        settings,
    };
    choose(entries, now, &mut merged);
    bound(&mut merged);
    Some(merged)
}

/// Rule 4.
fn later_settings(
    one: Option<StoredSettings>,
    other: Option<StoredSettings>,
    now: UtcMillis,
) -> Option<StoredSettings> {
    let other = other.filter(|other| other.until.is_none_or(|until| until.at > now));
    let rank = |one: &StoredSettings| {
        (
            one.stamp,
            one.until.map(|until| (until.at, until.length_ms)),
        )
    };
    match (one, other) {
        (Some(one), Some(other)) if rank(&other) > rank(&one) => Some(other),
        (one, other) => one.or(other),
    }
}

fn take_binding(entries: &mut BTreeMap<Place, Entry>, mut binding: BindingV2, now: UtcMillis) {
    let until = std::mem::replace(&mut binding.until, NEVER);
    let until = later(until, binding.expires);
    if until.at <= now {
        return;
    }
    let place = binding.place();
    let entry = Entry {
        era: binding.era,
        cseq: binding.cseq,
        stamp: binding.stamp,
        touched: binding.touched,
        until,
        body: Body::Bound(Box::new(binding)),
    };
    join(entries, place, entry);
}

fn take_removal(entries: &mut BTreeMap<Place, Entry>, removal: RemovalV2) {
    let entry = Entry {
        era: removal.era,
        cseq: removal.cseq,
        stamp: removal.stamp,
        touched: 0,
        until: removal.until,
        body: match removal.went {
            Went::Asked => Body::Asked,
            Went::Void => Body::Void,
        },
    };
    join(entries, (removal.key, removal.call_id), entry);
}

/// Rule 1.
fn join(entries: &mut BTreeMap<Place, Entry>, place: Place, entry: Entry) {
    let Some(known) = entries.get_mut(&place) else {
        entries.insert(place, entry);
        return;
    };
    let until = later(known.until, entry.until);
    if entry.is_after(known) {
        *known = entry;
    }
    known.until = until;
}

impl Entry {
    fn rank(&self) -> (u32, u32, Stamp, u8, u32) {
        let (removed, touched) = match self.body {
            Body::Bound(_) => (0, self.touched),
            Body::Asked => (1, 0),
            Body::Void => (2, 0),
        };
        (self.era, self.cseq, self.stamp, removed, touched)
    }

    fn is_after(&self, other: &Entry) -> bool {
        match (self.rank().cmp(&other.rank()), &self.body, &other.body) {
            (std::cmp::Ordering::Equal, Body::Bound(one), Body::Bound(two)) => {
                // Changed apart, as often: any of them, but the same one everywhere.
                octets(one) > octets(two)
            }
            (order, _, _) => order.is_gt(),
        }
    }
}

fn octets(binding: &BindingV2) -> Vec<u8> {
    codec::encode(binding).unwrap_or_default()
}

fn later(one: StoredDeadline, other: StoredDeadline) -> StoredDeadline {
    let rank = |deadline: &StoredDeadline| (deadline.at, deadline.length_ms);
    if rank(&other) > rank(&one) {
        other
    } else {
        one
    }
}

fn sweep(sweeps: &mut BTreeMap<String, Sweep>, removal: RemovalV2) {
    let number = (removal.era, removal.cseq);
    let sweep = Sweep {
        number,
        stamp: removal.stamp,
        until: removal.until,
    };
    let known = sweeps.entry(removal.call_id).or_insert(sweep);
    known.number = known.number.max(number);
    known.stamp = known.stamp.max(sweep.stamp);
    known.until = later(known.until, sweep.until);
}

fn of_sweep((call_id, sweep): (String, Sweep)) -> RemovalV2 {
    RemovalV2 {
        key: Key::All,
        call_id,
        era: sweep.number.0,
        cseq: sweep.number.1,
        stamp: sweep.stamp,
        went: Went::Asked,
        until: sweep.until,
    }
}

/// Rule 2.
fn is_swept(sweeps: &BTreeMap<String, Sweep>, call_id: &str, entry: &Entry) -> bool {
    sweeps.iter().any(|(by, sweep)| {
        if by == call_id {
            (sweep.number, sweep.stamp) > ((entry.era, entry.cseq), entry.stamp)
        } else {
            sweep.stamp > entry.stamp
        }
    })
}

/// Rule 3.
fn choose(entries: BTreeMap<Place, Entry>, now: UtcMillis, merged: &mut Snapshot) {
    let mut latest: BTreeMap<Key, (Stamp, String)> = BTreeMap::new();
    for ((key, call_id), entry) in &entries {
        let takes_part = match &entry.body {
            Body::Bound(binding) => binding.expires.at > now,
            Body::Asked => true,
            Body::Void => false,
        };
        if takes_part {
            let rank = (entry.stamp, call_id.clone());
            let known = latest.entry(key.clone()).or_insert_with(|| rank.clone());
            *known = rank.max(known.clone());
        }
    }
    for ((key, call_id), entry) in entries {
        let is_latest = latest
            .get(&key)
            .is_some_and(|(_, winner)| *winner == call_id);
        let went = match entry.body {
            Body::Bound(mut binding) => {
                binding.until = entry.until;
                if is_latest {
                    merged.bindings.push(*binding);
                } else {
                    merged.lost.push(*binding);
                }
                continue;
            }
            Body::Asked => Went::Asked,
            Body::Void => Went::Void,
        };
        merged.removals.push(RemovalV2 {
            key,
            call_id,
            era: entry.era,
            cseq: entry.cseq,
            stamp: entry.stamp,
            went,
            until: entry.until,
        });
    }
}

/// Drops what a record cannot hold: the earliest bindings, and what would be forgotten first.
fn bound(merged: &mut Snapshot) {
    while merged.bindings.len() > BINDINGS_PER_AOR_MAX {
        let bindings = merged.bindings.iter().zip(0_usize..);
        let Some((_, at)) = bindings.min_by_key(|(one, at)| (one.stamp, *at)) else {
            return;
        };
        merged.bindings.remove(at);
    }
    loop {
        let removals = merged.removals.iter().map(octets_of);
        let lost = merged.lost.iter().map(|one| octets(one).len());
        let weight: usize = removals.chain(lost).sum();
        let count = merged.removals.len() + merged.lost.len();
        if count <= REMOVALS_PER_AOR_MAX && weight <= REMOVALS_BYTES_MAX {
            return;
        }
        let lost = merged.lost.iter().zip(0_usize..);
        let lost = lost.map(|(one, at)| (one.until.at, one.stamp, 0, at));
        let removals = merged.removals.iter().zip(0_usize..);
        let removals = removals.map(|(one, at)| (one.until.at, one.stamp, 1, at));
        match lost.chain(removals).min() {
            Some((_, _, 0, at)) => {
                merged.lost.remove(at);
            }
            Some((_, _, _, at)) => {
                merged.removals.remove(at);
            }
            None => return,
        }
    }
}

fn octets_of(removal: &RemovalV2) -> usize {
    codec::encode(removal).map_or(0, |octets| octets.len())
}
