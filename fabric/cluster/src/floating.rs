//! Who has which floating address: one that moves with the calls of its node (`cluster.md` §7).
//!
//! In: the configuration, the view, nodes that are gone, what members say that they have, the time.
//! Out: orders to take and to give back, what is said to members, who goes on with the calls of a
//! node that is gone. It binds nothing and runs no program.
//!
//! | of an address | event | does |
//! |---|---|---|
//! | nobody has it | its home is up | its home takes it |
//! | nobody has it | its home is not | the first by rank takes it |
//! | its node is proven dead | at once | as if nobody had it |
//! | its node is silent | after 1.2 s, with a majority | the same |
//! | this node has it | another one has it in a later turn | gives it back |
//! | this node has it and is not its home | its home is up, no call is here | gives it back |
//! | the order failed | 10 s later | tries again, if nobody has it then |
//!
//! What a node has it says to all members whenever that changes, to each that is new, and every few
//! seconds; it passes on what it has heard, so that a node that starts learns of a holder that it
//! does not see yet. Turns rise with each taking: after a cut the later one stays. Where two nodes
//! believe that they have an address, packets go where the network says; records have one owner in any
//! case (§4).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use contract::limits::FLOATING_ADDRESSES_MAX;
use contract::{Kind, MemberState, NodeId, NodeInst, Now, RecordKey, Time};
use serde::{Deserialize, Serialize};

use crate::missing::{Missing, Verdict};
use crate::placement::{self, Candidate};

/// Time after its start in which a node has met the others, if they are there: one that is its own
/// only seed is found by them, who look for lost members every 5 s.
const FIRST_VIEW: Duration = Duration::from_secs(6);
/// How long members that are new may take to say what they have.
const HEAR_WITHIN: Duration = Duration::from_secs(3);
/// How long it is believed that a node that is not seen has an address.
const HEARSAY: Duration = Duration::from_secs(3);
/// After an order that failed.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How long an address stays before it goes home: the calls that it was taken for come after it.
const STAY: Duration = Duration::from_secs(5);
/// How long who goes on with the addresses of a node that is gone is not asked anew: the others may have
/// seen other nodes, and each wait for the next one.
const HEIR_FOR: Duration = Duration::from_secs(10);
/// Between two words to all, and two looks.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// One address of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatingAddress {
    /// The address.
    pub address: IpAddr,
    /// Name of the node that has it as long as it is up.
    pub home: String,
}

/// That a node has an address, as members tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenure {
    /// The address.
    pub address: IpAddr,
    /// The how manyeth taking it is.
    pub turn: u64,
    /// Who has it.
    pub holder: NodeInst,
}

/// A member, as far as addresses are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Which life.
    pub inst: NodeInst,
    /// Its name.
    pub name: String,
    /// Whether it takes new work.
    pub state: MemberState,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FloatingAction {
    /// This node takes an address; [`Floating::taken`] is told how it went.
    Take(IpAddr),
    /// This node gives it back, if no call needs it; [`Floating::given_back`] is told.
    GiveBack {
        /// The address.
        address: IpAddr,
        /// Also with calls on it: another node has it.
        at_once: bool,
    },
    /// Members are told who has what.
    Say {
        /// Whom.
        to: NodeInst,
        /// What.
        tenures: Vec<Tenure>,
    },
    /// Calls of a node that is gone go on where its addresses go.
    Heir {
        /// The life that is gone.
        of: NodeInst,
        /// The node that takes its addresses.
        node: NodeId,
    },
}

/// How this node stands to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It has not got it.
    Away,
    /// It is being taken.
    Taking { turn: u64 },
    /// It has it.
    Here { turn: u64 },
    /// It is being given back.
    Leaving { turn: u64 },
    /// It could not be taken.
    Failed { until: Time },
}

impl Standing {
    const fn turn(self) -> Option<u64> {
        match self {
            Standing::Here { turn } | Standing::Leaving { turn } => Some(turn),
            Standing::Away | Standing::Taking { .. } | Standing::Failed { .. } => None,
        }
    }
}

/// The addresses of the cluster, seen from one node.
#[derive(Debug)]
pub struct Floating {
    me: NodeInst,
    addresses: Vec<FloatingAddress>,
    standings: Vec<Standing>,
    /// The latest tenure of each address that was heard of, and when.
    known: BTreeMap<IpAddr, (Tenure, Time)>,
    /// Who goes on with addresses of a node that is gone, until when: all with one, as its calls do.
    heirs: BTreeMap<IpAddr, (NodeInst, Time)>,
    /// Since when this node has what it has.
    since: BTreeMap<IpAddr, Time>,
    /// Members that have said what they have.
    heard: BTreeSet<NodeInst>,
    view: Vec<Neighbour>,
    view_since: Time,
    missing: Missing,
    started: Time,
    next: Time,
}

impl Floating {
    /// Begins with nothing; addresses over the limit are left out.
    #[must_use]
    pub fn new(me: NodeInst, mut addresses: Vec<FloatingAddress>, now: Now) -> Self {
        addresses.truncate(FLOATING_ADDRESSES_MAX);
        addresses.sort_by_key(|one| one.address);
        let standings = vec![Standing::Away; addresses.len()];
        Floating {
            me,
            addresses,
            standings,
            known: BTreeMap::new(),
            heirs: BTreeMap::new(),
            since: BTreeMap::new(),
            heard: BTreeSet::new(),
            view: Vec::new(),
            view_since: now.mono,
            missing: Missing::default(),
            started: now.mono,
            next: now.mono,
        }
    }

    /// Returns when something is due; nothing ever without addresses.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        (!self.addresses.is_empty()).then_some(self.next)
    }

    /// Returns each address with who has it, as far as that is known here.
    #[must_use]
    pub fn holders(&self) -> Vec<(IpAddr, Option<NodeInst>)> {
        let holder = |at: usize| {
            let address = self.addresses[at].address;
            let mine = self.standings[at].turn().map(|_| self.me);
            (address, mine.or_else(|| self.holder(address)))
        };
        (0..self.addresses.len()).map(holder).collect()
    }

    /// Takes another view.
    pub fn view(&mut self, view: Vec<Neighbour>, now: Now) -> Vec<FloatingAction> {
        let is_new = |one: &&Neighbour| {
            one.inst != self.me && !self.view.iter().any(|known| known.inst == one.inst)
        };
        let new: Vec<NodeInst> = view.iter().filter(is_new).map(|one| one.inst).collect();
        if !new.is_empty() {
            self.view_since = now.mono;
        }
        self.heard
            .retain(|life| view.iter().any(|one| one.inst == *life));
        let nodes: BTreeSet<NodeId> = view.iter().map(|one| one.inst.node).collect();
        let left = self.view.iter().map(|one| one.inst);
        for life in left.filter(|life| !nodes.contains(&life.node)) {
            // Whether its death is proven is told apart.
            self.missing.fell(life, false, now.mono, now.mono);
        }
        self.missing.back(|node| nodes.contains(&node), now.mono);
        self.missing.reach(nodes.len(), now.mono);
        self.heirs
            .retain(|_, (heir, _)| view.iter().any(|one| one.inst == *heir));
        self.view = view;
        let mut actions = self.say(&new);
        actions.extend(self.judge(now));
        actions
    }

    /// A node is gone; the view that lacks it may come before or after.
    pub fn down(&mut self, life: NodeInst, is_proven: bool, now: Now) -> Vec<FloatingAction> {
        self.missing.fell(life, is_proven, now.mono, now.mono);
        let mut actions: Vec<FloatingAction> = self.inherit(life, now.mono).into_iter().collect();
        actions.extend(self.judge(now));
        actions
    }

    /// All addresses of a node that is gone go to the node that is to have the first of them: its
    /// calls may have legs at several.
    fn inherit(&mut self, life: NodeInst, now: Time) -> Option<FloatingAction> {
        let of_life = |one: &&FloatingAddress| {
            let known = self.known.get(&one.address);
            known.is_some_and(|(tenure, _)| tenure.holder == life)
        };
        let left: Vec<FloatingAddress> = self.addresses.iter().filter(of_life).cloned().collect();
        let heir = self.candidate(left.first()?, Some(life), now)?;
        let until = now + HEIR_FOR;
        self.heirs
            .extend(left.iter().map(|one| (one.address, (heir, until))));
        Some(FloatingAction::Heir {
            of: life,
            node: heir.node,
        })
    }

    /// A connection with a node is there: words to it arrive from now on.
    pub fn met(&mut self, life: NodeInst) -> Vec<FloatingAction> {
        self.say(&[life])
    }

    /// A member says who has what.
    pub fn told(&mut self, from: NodeInst, tenures: &[Tenure], now: Now) -> Vec<FloatingAction> {
        self.heard.insert(from);
        // What it had, and does not name any more, it has given back.
        self.known.retain(|address, (tenure, _)| {
            let is_same = |said: &Tenure| said.address == *address && said.holder == from;
            tenure.holder != from || tenures.iter().any(is_same)
        });
        for tenure in tenures.iter().take(FLOATING_ADDRESSES_MAX) {
            let is_ours = self
                .addresses
                .iter()
                .any(|one| one.address == tenure.address);
            let is_later = self.known.get(&tenure.address).is_none_or(|(known, _)| {
                (tenure.turn, tenure.holder) >= (known.turn, known.holder)
            });
            // That the one that is gone had it is no news.
            if is_ours && is_later && self.missing.get(tenure.holder).is_none() {
                self.heirs.remove(&tenure.address);
            }
            if is_ours && is_later && tenure.holder.node != self.me.node {
                self.known.insert(tenure.address, (*tenure, now.mono));
            }
        }
        self.judge(now)
    }

    /// An order to take an address has been carried out, or not.
    pub fn taken(&mut self, address: IpAddr, is_here: bool, now: Now) -> Vec<FloatingAction> {
        let Some(at) = self.place(address) else {
            return Vec::new();
        };
        if let Standing::Taking { turn } = self.standings[at] {
            self.heirs.remove(&address);
            self.since.insert(address, now.mono);
            self.standings[at] = if is_here {
                Standing::Here { turn }
            } else {
                Standing::Failed {
                    until: now.mono + AGAIN_AFTER,
                }
            };
        }
        let mut actions = self.say_all();
        actions.extend(self.judge(now));
        actions
    }

    /// An order to give an address back has been carried out; or calls need it.
    pub fn given_back(&mut self, address: IpAddr, is_gone: bool, now: Now) -> Vec<FloatingAction> {
        let Some(at) = self.place(address) else {
            return Vec::new();
        };
        if let Standing::Leaving { turn } = self.standings[at] {
            self.standings[at] = if is_gone {
                Standing::Away
            } else {
                Standing::Here { turn }
            };
        }
        if !is_gone {
            self.next = now.mono + SAY_EVERY;
            return Vec::new();
        }
        let mut actions = self.say_all();
        actions.extend(self.judge(now));
        actions
    }

    /// This node goes: all that it has is given back.
    pub fn leave(&mut self) -> Vec<FloatingAction> {
        let mut actions = Vec::new();
        for (standing, one) in self.standings.iter_mut().zip(&self.addresses) {
            if let Some(turn) = standing.turn() {
                *standing = Standing::Leaving { turn };
                actions.push(FloatingAction::GiveBack {
                    address: one.address,
                    at_once: true,
                });
            }
        }
        actions
    }

    /// The deadline has come.
    pub fn tick(&mut self, now: Now) -> Vec<FloatingAction> {
        if self.next_deadline().is_none_or(|next| next > now.mono) {
            return Vec::new();
        }
        self.next = now.mono + SAY_EVERY;
        let mut actions = self.say_all();
        actions.extend(self.judge(now));
        actions
    }

    fn place(&self, address: IpAddr) -> Option<usize> {
        let mut addresses = self.addresses.iter();
        addresses.position(|one| one.address == address)
    }

    fn look_at(&mut self, at: Time) {
        self.next = self.next.min(at);
    }

    fn say_all(&self) -> Vec<FloatingAction> {
        let all: Vec<NodeInst> = self.view.iter().map(|one| one.inst).collect();
        self.say(&all)
    }

    fn say(&self, to: &[NodeInst]) -> Vec<FloatingAction> {
        if self.addresses.is_empty() {
            return Vec::new();
        }
        let mut tenures: BTreeMap<IpAddr, Tenure> = self
            .known
            .iter()
            .filter(|(address, _)| self.holder(**address).is_some())
            .map(|(address, (tenure, _))| (*address, *tenure))
            .collect();
        for (standing, one) in self.standings.iter().zip(&self.addresses) {
            if let Some(turn) = standing.turn() {
                let mine = Tenure {
                    address: one.address,
                    turn,
                    holder: self.me,
                };
                tenures.insert(one.address, mine);
            }
        }
        let tenures: Vec<Tenure> = tenures.into_values().collect();
        let others = to.iter().filter(|life| **life != self.me);
        others
            .map(|to| FloatingAction::Say {
                to: *to,
                tenures: tenures.clone(),
            })
            .collect()
    }

    /// Returns which member has an address, besides this node.
    fn holder(&self, address: IpAddr) -> Option<NodeInst> {
        let (tenure, _) = self.known.get(&address)?;
        let mut view = self.view.iter();
        view.any(|one| one.inst == tenure.holder)
            .then_some(tenure.holder)
    }

    /// Tells whether a node that this one has not met yet is said to have an address.
    fn is_hearsay(&self, address: IpAddr, now: Time) -> bool {
        let Some((tenure, heard)) = self.known.get(&address) else {
            return false;
        };
        let of_node = |one: &Neighbour| one.inst.node == tenure.holder.node;
        now < *heard + HEARSAY
            && self.missing.get(tenure.holder).is_none()
            && !self.view.iter().any(of_node)
    }

    /// Returns who is to have an address that nobody has.
    fn candidate(
        &self,
        of: &FloatingAddress,
        without: Option<NodeInst>,
        now: Time,
    ) -> Option<NodeInst> {
        let is_up = |one: &&Neighbour| one.state == MemberState::Up && Some(one.inst) != without;
        let up: Vec<&Neighbour> = self.view.iter().filter(is_up).collect();
        let heir = self
            .heirs
            .get(&of.address)
            .filter(|(_, until)| now < *until);
        let heir = heir.and_then(|(heir, _)| up.iter().find(|one| one.inst == *heir));
        let home = up.iter().find(|one| one.name == of.home);
        if let Some(chosen) = heir.or(home) {
            return Some(chosen.inst);
        }
        let candidates: Vec<Candidate> = up
            .iter()
            .map(|one| Candidate {
                node: one.inst.node,
                weight: 1,
                zone: String::new(),
            })
            .collect();
        let first = placement::rank(key(of.address), &candidates)
            .first()
            .copied()?;
        up.iter()
            .find(|one| one.inst.node == first)
            .map(|one| one.inst)
    }

    /// Tells whether the holder that is gone may still answer at the address (§5).
    fn is_barred(&mut self, address: IpAddr, now: Time) -> bool {
        let Some((tenure, _)) = self.known.get(&address) else {
            return false;
        };
        if self.missing.get(tenure.holder).is_none() {
            return false;
        }
        match self.missing.verdict(tenure.holder, now) {
            Verdict::Now => false,
            Verdict::At(at) => {
                self.look_at(at);
                true
            }
            Verdict::No => true,
        }
    }

    fn judge(&mut self, now: Now) -> Vec<FloatingAction> {
        let mut actions = Vec::new();
        for at in 0..self.addresses.len() {
            actions.extend(self.judge_one(at, now.mono));
        }
        actions
    }

    fn judge_one(&mut self, at: usize, now: Time) -> Option<FloatingAction> {
        let one = self.addresses[at].clone();
        let address = one.address;
        match self.standings[at] {
            Standing::Here { turn } => {
                let rival = self.known.get(&address).map(|(tenure, _)| *tenure);
                let rival = rival.filter(|rival| self.holder(address) == Some(rival.holder));
                let at_once =
                    rival.is_some_and(|rival| (rival.turn, rival.holder) > (turn, self.me));
                if !at_once && !self.is_home_elsewhere(&one) {
                    return None;
                }
                let since = self.since.get(&address).copied().unwrap_or_default();
                if !at_once && now < since + STAY {
                    self.look_at(since + STAY);
                    return None;
                }
                self.standings[at] = Standing::Leaving { turn };
                Some(FloatingAction::GiveBack { address, at_once })
            }
            Standing::Taking { .. } | Standing::Leaving { .. } => None,
            Standing::Failed { .. } if self.holder(address).is_some() => {
                // Once that one leaves it, there is no reason why it should fail again.
                self.standings[at] = Standing::Away;
                None
            }
            Standing::Failed { until } if now < until => {
                self.look_at(until);
                None
            }
            Standing::Away | Standing::Failed { .. } => {
                if !self.may_take(&one, now) {
                    return None;
                }
                let known = self
                    .known
                    .get(&address)
                    .map_or(0, |(tenure, _)| tenure.turn);
                self.standings[at] = Standing::Taking { turn: known + 1 };
                Some(FloatingAction::Take(address))
            }
        }
    }

    fn is_home_elsewhere(&self, of: &FloatingAddress) -> bool {
        let mut view = self.view.iter();
        view.any(|one| one.inst != self.me && one.name == of.home && one.state == MemberState::Up)
    }

    /// Tells whether the node that had an address last is known to be gone: nobody else can have it.
    fn is_left(&self, address: IpAddr) -> bool {
        let known = self.known.get(&address);
        known.is_some_and(|(tenure, _)| self.missing.get(tenure.holder).is_some())
    }

    fn may_take(&mut self, one: &FloatingAddress, now: Time) -> bool {
        if self.holder(one.address).is_some() || self.candidate(one, None, now) != Some(self.me) {
            return false;
        }
        if self.is_hearsay(one.address, now) {
            self.look_at(now + HEARSAY);
            return false;
        }
        if self.is_barred(one.address, now) {
            return false;
        }
        if self.is_left(one.address) {
            return true;
        }
        let met = self.started + FIRST_VIEW;
        if self.view.len() < 2 && self.missing.is_empty() && now < met {
            self.look_at(met);
            return false;
        }
        let is_heard = |one: &Neighbour| one.inst == self.me || self.heard.contains(&one.inst);
        let heard = self.view_since + HEAR_WITHIN;
        if now < heard && !self.view.iter().all(is_heard) {
            self.look_at(heard);
            return false;
        }
        true
    }
}

/// Returns what an address is ranked by: the same on every node.
fn key(address: IpAddr) -> RecordKey {
    let bits = match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().to_bits(),
        IpAddr::V6(six) => six.to_bits(),
    };
    RecordKey {
        kind: Kind::Member,
        hash: bits,
    }
}

#[cfg(test)]
#[path = "floating_tests.rs"]
mod tests;
