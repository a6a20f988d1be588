//! Whom the targets of a `bridge` step mean, in the words of FreeSWITCH's dial strings.
//!
//! In: the text, the domain, who calls. Out: *rounds*: users that are called at once; the next round is
//! called when nobody of the former one has answered. It asks no registration.
//!
//! ```text
//! user/1001              one user; user/1001@example.org: of that domain, which must be the caller's
//! user/1001,user/1002    both at once
//! user/1001|user/1002    the second one when the first has not answered
//! group/sales            the members of a group, as it says: all at once, in turn, or drawn by lot
//! group/sales,user/1001  who is first of the group and 1001 at once; then the others of the group
//! ```
//!
//! What `,` joins goes on side by side: the first round of each at once, then the second of each. Nobody is
//! called twice in what is joined.

use std::collections::BTreeSet;

use contract::Entropy;
use contract::limits::GROUP_MEMBERS_MAX;
use sip::Aor;

use super::hunting::Round;
use crate::site::{Domain, Group, GroupOrder};

/// One of the targets, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// A user, perhaps with its domain.
    User(&'a str),
    /// A group, perhaps with its domain.
    Group(&'a str),
}

/// Reads the text: rounds, each of what is called at once; `None` if a piece of it is nothing that is known.
#[must_use]
pub fn words(text: &str) -> Option<Vec<Vec<Word<'_>>>> {
    let word = |text| -> Option<Word<'_>> {
        let (kind, name) = str::split_once(text, '/')?;
        let name = Some(name).filter(|name| !name.is_empty() && !name.contains('/'))?;
        match kind {
            "user" => Some(Word::User(name)),
            "group" => Some(Word::Group(name)),
            _ => None,
        }
    };
    let rounds = text.split('|');
    rounds
        .map(|round| round.split(',').map(word).collect())
        .collect()
}

/// Tells whether it is only one user: the calls to it follow what that has set.
pub(crate) fn is_one_user(text: &str) -> bool {
    matches!(words(text).as_deref(), Some([round]) if matches!(round[..], [Word::User(_)]))
}

/// Returns who is called, in which order; `None` for what nobody serves. Who calls, or has sent the call
/// there, is not called (`absent`).
pub(super) fn rounds(
    text: &str,
    domain: &Domain,
    absent: &BTreeSet<&Aor>,
    rng: &mut Entropy,
) -> Option<Vec<Round>> {
    let mut rounds: Vec<Round> = Vec::new();
    for at_once in words(text)? {
        let mut joined: Vec<Round> = Vec::new();
        for word in at_once {
            for (at, round) in rounds_of(word, domain, rng)?.into_iter().enumerate() {
                match joined.get_mut(at) {
                    Some(known) => known.join(round),
                    None => joined.push(round),
                }
            }
        }
        // Whoever is meant twice is called when it is its turn first.
        let mut called = BTreeSet::new();
        for round in &mut joined {
            let members = &mut round.members;
            members.retain(|one| !absent.contains(one) && called.insert(one.clone()));
        }
        rounds.extend(joined);
    }
    let mut room = GROUP_MEMBERS_MAX;
    for round in &mut rounds {
        round.members.truncate(room);
        room -= round.members.len();
    }
    rounds.retain(|round| !round.members.is_empty());
    Some(rounds)
}

/// Returns everybody whom a dial string means but who calls; `None` for what nobody serves.
pub(super) fn users(text: &str, domain: &Domain, caller: &Aor) -> Option<BTreeSet<Aor>> {
    let mut users = BTreeSet::new();
    for word in words(text)?.into_iter().flatten() {
        match word {
            Word::User(user) => {
                users.insert(aor(user, domain)?);
            }
            Word::Group(name) => users.extend(members(group(name, domain)?, domain)),
        }
    }
    users.remove(caller);
    Some(users)
}

/// Returns the rounds of one target.
fn rounds_of(word: Word<'_>, domain: &Domain, rng: &mut Entropy) -> Option<Vec<Round>> {
    let group = match word {
        Word::User(user) => {
            let members = vec![aor(user, domain)?];
            let ring_s = None;
            return Some(vec![Round { members, ring_s }]);
        }
        Word::Group(name) => group(name, domain)?,
    };
    let mut members: Vec<Aor> = members(group, domain).collect();
    if group.order == GroupOrder::Random {
        for at in (1..members.len()).rev() {
            let most = u32::try_from(at + 1).unwrap_or(u32::MAX);
            members.swap(at, rng.below(most) as usize);
        }
    }
    let ring_s = Some(group.ring_s);
    let one = |member| Round {
        members: vec![member],
        ring_s,
    };
    Some(match group.order {
        GroupOrder::All => vec![Round { members, ring_s }],
        GroupOrder::InTurn | GroupOrder::Random => members.into_iter().map(one).collect(),
    })
}

fn group<'d>(name: &str, domain: &'d Domain) -> Option<&'d Group> {
    domain.groups.get(domain.own_name(name)?)
}

pub(super) fn members(group: &Group, domain: &Domain) -> impl Iterator<Item = Aor> {
    let members = group.members.iter();
    members.filter_map(|name| domain.aor(name))
}

/// Returns the address of record of a user of a domain.
pub(super) fn aor(user: &str, domain: &Domain) -> Option<Aor> {
    domain.aor(domain.own_name(user)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dial_string_says_who_is_called_at_once_and_who_then() {
        use Word::{Group, User};
        let table: [(&str, Option<Vec<Vec<Word<'_>>>>); 9] = [
            ("user/1", Some(vec![vec![User("1")]])),
            ("user/1,user/2", Some(vec![vec![User("1"), User("2")]])),
            (
                "user/1|user/2",
                Some(vec![vec![User("1")], vec![User("2")]]),
            ),
            (
                "group/a@x,user/1|group/b",
                Some(vec![vec![Group("a@x"), User("1")], vec![Group("b")]]),
            ),
            ("", None),
            ("user/", None),
            ("user/1,", None),
            ("user/1/2", None),
            ("sofia/gateway/x", None),
        ];
        for (text, expected) in table {
            assert_eq!(words(text), expected, "{text}");
        }
        assert!(is_one_user("user/1@x") && !is_one_user("user/1,user/2"));
        assert!(!is_one_user("group/a"));
    }
}
