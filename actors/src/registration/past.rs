//! What a registration remembers of bindings that are none any more, so that a copy of its record
//! that was cut off brings none of them back (`cluster.md` §8, I13).
//!
//! In: the bindings before and after a change, and what made it. Out: removals to keep, and order
//! numbers of the new bindings. Only a node in a cluster keeps any. It merges nothing: `merge.rs`
//! does.
//!
//! | what | is remembered as | what it voids elsewhere |
//! |---|---|---|
//! | a REGISTER or a client removes a binding | `Asked`, under the request's Call-ID | as a binding of that Call-ID, CSeq and stamp would |
//! | `*`, or the operator clears | `Asked` for `Key::All` | the same, of every contact |
//! | another Call-ID takes a binding over | `Void`, under the old Call-ID | that Call-ID up to that CSeq |
//! | a binding makes room, or ends before what it replaced | `Void` | the same |
//! | two Call-IDs were bound apart (a merge finds it) | the earlier one is `lost`, whole | nothing |

use std::time::Duration;

use contract::limits::{REMOVALS_BYTES_MAX, REMOVALS_PER_AOR_MAX};
use contract::{Now, StoredDeadline, Time};
use serde::{Deserialize, Serialize};
use sip::Uri;

use super::binding::Binding;
use super::stamp::Stamp;

/// What makes two bindings the same one, on any node.
///
/// The contact's text stands for it: equivalence of URIs (RFC 3261 §19.1.4) is not transitive, and
/// so cannot be what copies are merged by. Two equivalent texts that were bound apart are both
/// kept; the phone's next REGISTER makes one of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Key {
    /// Every binding of the AoR: `*`.
    All,
    /// A flow of a phone (RFC 5626 §6).
    Flow {
        /// The phone.
        instance: String,
        /// Which of its flows.
        reg_id: u32,
    },
    /// A JSON client.
    Client {
        /// Which of the account's devices.
        instance: String,
    },
    /// Any other contact.
    Contact(String),
}

impl Key {
    /// Returns the key of a contact that a SIP phone registers.
    #[must_use]
    pub fn of(contact: &Uri, instance: Option<&str>, reg_id: Option<u32>) -> Key {
        match (instance, reg_id) {
            (Some(instance), Some(reg_id)) => Key::Flow {
                instance: instance.to_owned(),
                reg_id,
            },
            (_, _) => Key::Contact(contact.to_string()),
        }
    }

    fn weight(&self) -> usize {
        match self {
            Key::All => 0,
            Key::Flow { instance, .. } | Key::Client { instance } => instance.len(),
            Key::Contact(text) => text.len(),
        }
    }
}

/// A deadline with the length it was set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// When it is due.
    pub at: Time,
    /// What it was set for: the most that may remain after a restart.
    pub length: Duration,
}

impl Term {
    pub(super) fn new(now: Time, length: Duration) -> Term {
        Term {
            at: now + length,
            length,
        }
    }

    pub(super) fn later(self, other: Term) -> Term {
        if other.at > self.at { other } else { self }
    }

    pub(super) fn store(self, now: Now) -> StoredDeadline {
        now.store_deadline(self.at, self.length)
    }

    pub(super) fn restore(stored: StoredDeadline, now: Now) -> Term {
        Term {
            at: now.restore_deadline(stored),
            length: Duration::from_millis(stored.length_ms),
        }
    }
}

/// How a binding went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Went {
    /// Somebody asked for it: it is later than what was bound before it.
    Asked,
    /// Nobody did: nothing of its own Call-ID up to its CSeq comes back, and no more.
    Void,
}

/// A binding that went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Of what.
    pub key: Key,
    /// Call-ID of the request that did it; of the binding itself if nobody asked.
    pub call_id: String,
    /// How often that Call-ID began to count anew.
    pub era: u32,
    /// Its CSeq number.
    pub cseq: u32,
    /// When it was written.
    pub stamp: Stamp,
    /// How.
    pub went: Went,
    /// How long it is kept: as long as another node may have the binding.
    pub until: Term,
}

impl Removal {
    const fn rank(&self) -> (u32, u32, Stamp, Went) {
        (self.era, self.cseq, self.stamp, self.went)
    }

    fn weight(&self) -> usize {
        self.key.weight() + self.call_id.len() + NUMBERS_BYTES
    }
}

/// Octets of the numbers of a binding or removal in a record, rounded up.
const NUMBERS_BYTES: usize = 160;

/// What made a change.
#[derive(Debug)]
pub(super) struct Cause<'a> {
    /// Call-ID of the request; a JSON client's instance; empty for the operator.
    pub call_id: &'a str,
    /// Its CSeq number.
    pub cseq: u32,
    /// When it is written.
    pub stamp: Stamp,
    /// What it removes.
    pub removes: &'a [Key],
    /// How long removals are kept.
    pub keep: Term,
}

/// What is remembered of bindings that are none any more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// Bindings that a merge found to be earlier than another one of the same key.
    pub lost: Vec<Binding>,
    /// Bindings that went.
    pub removals: Vec<Removal>,
}

impl Past {
    pub(super) fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.removals.is_empty()
    }

    /// Returns when nothing of it is needed any more.
    pub(super) fn end(&self) -> Option<Time> {
        let lost = self.lost.iter().map(|one| one.until.at);
        lost.chain(self.removals.iter().map(|one| one.until.at))
            .max()
    }

    /// Forgets what no copy elsewhere can contradict any more, and at the bound what would be
    /// forgotten first.
    pub(super) fn forget(&mut self, now: Time) {
        self.lost.retain(|one| one.until.at > now);
        self.removals.retain(|one| one.until.at > now);
        while self.removals.len() + self.lost.len() > REMOVALS_PER_AOR_MAX
            || self.weight() > REMOVALS_BYTES_MAX
        {
            let lost = self.lost.iter().map(|one| (one.until.at, one.stamp));
            let gone = self.removals.iter().map(|one| (one.until.at, one.stamp));
            let (lost, gone) = (earliest(lost), earliest(gone));
            match (lost, gone) {
                (Some((first, at)), Some((other, _))) if first <= other => {
                    self.lost.remove(at);
                }
                (_, Some((_, at))) => {
                    self.removals.remove(at);
                }
                (Some((_, at)), None) => {
                    self.lost.remove(at);
                }
                (None, None) => return,
            }
        }
    }

    fn weight(&self) -> usize {
        let lost = self.lost.iter().map(|one| one.weight() + NUMBERS_BYTES);
        lost.chain(self.removals.iter().map(Removal::weight)).sum()
    }

    /// Takes note of a change of the bindings.
    pub(super) fn note(&mut self, before: &[Binding], after: &mut [Binding], cause: &Cause<'_>) {
        for next in after.iter_mut().filter(|one| one.stamp == cause.stamp) {
            next.era = self.era(&next.key(), &next.call_id, next.cseq, before);
        }
        for old in before {
            let key = old.key();
            match after.iter_mut().find(|one| one.key() == key) {
                Some(next) if next.call_id == old.call_id => {
                    next.until = next.until.later(old.until);
                }
                Some(_) | None => self.void(old),
            }
        }
        for key in cause.removes {
            let era = self.era(key, cause.call_id, cause.cseq, before);
            self.add(Removal {
                key: key.clone(),
                call_id: cause.call_id.to_owned(),
                era,
                cseq: cause.cseq,
                stamp: cause.stamp,
                went: Went::Asked,
                until: cause.keep,
            });
        }
        let is_changed = |key: &Key| {
            let written = after.iter().find(|one| one.key() == *key);
            let was = before.iter().any(|one| one.key() == *key);
            cause
                .removes
                .iter()
                .any(|one| one == key || *one == Key::All)
                || written.is_some_and(|one| one.stamp == cause.stamp)
                || (was && written.is_none())
        };
        for lost in std::mem::take(&mut self.lost) {
            if is_changed(&lost.key()) {
                self.void(&lost);
            } else {
                self.lost.push(lost);
            }
        }
        for next in after {
            let key = next.key();
            let rank = (next.era, next.cseq, next.stamp);
            self.removals.retain(|one| {
                let is_older = one.key == key
                    && one.call_id == next.call_id
                    && (one.era, one.cseq, one.stamp) <= rank;
                if is_older {
                    next.until = next.until.later(one.until);
                }
                !is_older
            });
        }
    }

    /// Remembers that nothing of a binding's Call-ID up to its CSeq comes back.
    pub(super) fn void(&mut self, binding: &Binding) {
        self.add(Removal {
            key: binding.key(),
            call_id: binding.call_id.clone(),
            era: binding.era,
            cseq: binding.cseq,
            stamp: binding.stamp,
            went: Went::Void,
            until: binding.until,
        });
    }

    /// Adds a removal, or joins it to what is known of its key and Call-ID.
    fn add(&mut self, removal: Removal) {
        let known = self
            .removals
            .iter_mut()
            .find(|one| one.key == removal.key && one.call_id == removal.call_id);
        let Some(known) = known else {
            return self.removals.push(removal);
        };
        let until = known.until.later(removal.until);
        if removal.rank() > known.rank() {
            *known = removal;
        }
        known.until = until;
    }

    /// Returns how often a Call-ID has begun to count anew: a number below one that is remembered
    /// is of a phone that forgot, and newer than what it has forgotten.
    fn era(&self, key: &Key, call_id: &str, cseq: u32, before: &[Binding]) -> u32 {
        let is_meant = |other: &Key| other == key || *other == Key::All || *key == Key::All;
        let removals = self
            .removals
            .iter()
            .filter(|one| one.call_id == call_id && is_meant(&one.key))
            .map(|one| (one.era, one.cseq));
        let bindings = before
            .iter()
            .chain(&self.lost)
            .filter(|one| one.call_id == call_id && is_meant(&one.key()))
            .map(|one| (one.era, one.cseq));
        match removals.chain(bindings).max() {
            Some((era, highest)) if cseq < highest => era.saturating_add(1),
            Some((era, _)) => era,
            None => 0,
        }
    }
}

fn earliest<T: Ord>(items: impl Iterator<Item = T>) -> Option<(T, usize)> {
    items.zip(0..).min()
}
