//! Where actors are, as far as one node knows: what it has learned, and searches for the rest
//! (`cluster.md` §3).
//!
//! In: frames of other nodes (`Redirect`, `Found`, the origin of `Tell`), nodes that go down, the
//! time. Out: routes and [`DirectoryAction`]s. It queues no messages: the runtime keeps those of an
//! ID under search until the verdict. What it knows is advice; epochs keep it harmless.
//!
//! | state of a search | event | action | next |
//! |---|---|---|---|
//! | Asking | `At`, or the ID is learned otherwise | `Found` | done |
//! | Asking | `None`, enough of them | `Nobody` | done |
//! | Asking | `None`, `Unsettled`, 300 ms over, node down; a node is left | `Ask` it | Asking |
//! | Asking | the same; none is left, every answer is in or 300 ms are over | `Unknown` | done |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::limits::{
    DIRECTORY_ENTRIES_MAX, HOLDERS_MAX, SEARCH_BEYOND, SEARCH_WAIT_MS, SEARCHES_MAX,
};
use contract::{ActorId, NodeId, NodeInst, Now, RecordKey, Time};

use crate::frame::HOPS_MAX;
use crate::placement::{Candidate, rank};
use crate::{Header, Version, Whereabouts, home};

/// Where a message for an actor goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// This node runs it, or its record says so.
    Here,
    /// That life of a node runs it.
    At(NodeInst),
    /// It never moves: it is on that node, whichever its life is.
    Home(NodeId),
    /// Nobody knows: these are to be asked, in this order ([`Directory::search`]).
    Ask {
        /// Whom: the first R + 2 ranks, without this node.
        nodes: Vec<NodeId>,
        /// How many of them have to say that there is none.
        quorum: usize,
    },
}

/// What the runtime has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryAction {
    /// Send a `Where`.
    Ask {
        /// Whom.
        to: NodeId,
        /// Comes back with the answer.
        number: u64,
        /// Which actor.
        id: ActorId,
    },
    /// It is there: send what waits for it.
    Found {
        /// Which actor.
        id: ActorId,
        /// Where.
        owner: NodeInst,
        /// Version of the record that says so; the default if only a hint does.
        version: Version,
    },
    /// It is nowhere: what waits for it may begin it, where placement says.
    Nobody {
        /// Which actor.
        id: ActorId,
    },
    /// It could not be found out: what waits is returned, or claims the record, which is safe.
    Unknown {
        /// Which actor.
        id: ActorId,
    },
}

/// Where actors are, as far as this node knows.
///
/// Bound: `DIRECTORY_ENTRIES_MAX`, in two generations: when the young one is full, the old one goes.
#[derive(Debug)]
pub struct Directory {
    me: NodeInst,
    young: BTreeMap<ActorId, Place>,
    old: BTreeMap<ActorId, Place>,
    searches: BTreeMap<ActorId, Search>,
    numbers: BTreeMap<u64, (ActorId, NodeId)>,
    due: BTreeSet<(Time, ActorId)>,
    last_number: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    owner: NodeInst,
    version: Version,
}

impl Place {
    /// Tells whether it counts beside a tombstone: where it was before it ended, nobody has it. Hints
    /// may be of what has begun since.
    fn is_after(&self, ended: Option<Version>) -> bool {
        let is_hint = self.version == Version::default();
        is_hint || ended.is_none_or(|ended| self.version > ended)
    }
}

#[derive(Debug)]
struct Search {
    /// Still to be asked, the next one last.
    left: Vec<NodeId>,
    /// The one that is waited for; earlier ones may still answer.
    current: Option<NodeId>,
    numbers: Vec<u64>,
    due: Time,
    nones: usize,
    quorum: usize,
    /// Whose lack of it counts: they are the first to be asked.
    counted: Vec<NodeId>,
}

impl Directory {
    /// Makes one that knows nothing.
    #[must_use]
    pub const fn new(me: NodeInst) -> Self {
        Directory {
            me,
            young: BTreeMap::new(),
            old: BTreeMap::new(),
            searches: BTreeMap::new(),
            numbers: BTreeMap::new(),
            due: BTreeSet::new(),
            last_number: 0,
        }
    }

    /// Says where a message for an actor goes. Sides of a call go where the call is.
    ///
    /// In: `own`, the header this node holds of it, if any; `is_settled`, whether this node may
    /// count its own lack of one as an answer ([`crate::Desk::is_settled`]).
    pub fn route(
        &mut self,
        id: &ActorId,
        key: RecordKey,
        candidates: &[Candidate],
        own: Option<&Header>,
        is_settled: bool,
    ) -> Route {
        if let Some(node) = home(id) {
            return match node == self.me.node {
                true => Route::Here,
                false => Route::Home(node),
            };
        }
        let id = id.record_owner();
        let (own, ended) = match own {
            Some(header) if header.is_ended() => (None, Some(header.version)),
            own => (own, None),
        };
        let own = own.map(|header| Place {
            owner: header.owner,
            version: header.version,
        });
        let known = self.look_up(&id).filter(|known| known.is_after(ended));
        let newest = match (own, known) {
            (Some(own), Some(known)) if known.version > own.version => Some(known),
            (own, known) => own.or(known),
        };
        match newest {
            Some(place) if place.owner == self.me => Route::Here,
            Some(place) => Route::At(place.owner),
            None => self.whom_to_ask(key, candidates, is_settled),
        }
    }

    fn whom_to_ask(&self, key: RecordKey, candidates: &[Candidate], is_settled: bool) -> Route {
        let ranked = rank(key, candidates);
        let replicas = ranked.len().min(HOLDERS_MAX);
        // All of the first R: the owner may be none of them, and then one of them holds nothing.
        let wanted = replicas;
        let is_holder = ranked[..replicas].contains(&self.me.node);
        let quorum = wanted - usize::from(is_settled && is_holder).min(wanted);
        let others = ranked.into_iter().take(HOLDERS_MAX + SEARCH_BEYOND);
        let nodes = others.filter(|node| *node != self.me.node).collect();
        Route::Ask { nodes, quorum }
    }

    /// Starts to look for an actor; one search an ID, a second one joins the first.
    ///
    /// In: what [`Route::Ask`] says. With a quorum of 0 the verdict is `Nobody` at once, with nobody
    /// to ask, or beyond `SEARCHES_MAX`, `Unknown`.
    pub fn search(
        &mut self,
        now: Now,
        id: &ActorId,
        mut nodes: Vec<NodeId>,
        quorum: usize,
    ) -> Vec<DirectoryAction> {
        let id = id.record_owner();
        if self.searches.contains_key(&id) {
            return Vec::new();
        }
        if quorum == 0 {
            return vec![DirectoryAction::Nobody { id }];
        }
        if self.searches.len() >= SEARCHES_MAX {
            return vec![DirectoryAction::Unknown { id }];
        }
        nodes.truncate(HOLDERS_MAX + SEARCH_BEYOND);
        let counted = nodes.iter().take(quorum).copied().collect();
        nodes.reverse();
        self.searches.insert(
            id.clone(),
            Search {
                left: nodes,
                current: None,
                numbers: Vec::new(),
                due: now.mono,
                nones: 0,
                quorum,
                counted,
            },
        );
        self.ask_next(now, &id)
    }

    /// Takes the answer of a node that was asked where an actor is.
    pub fn found(
        &mut self,
        now: Now,
        from: NodeId,
        number: u64,
        whereabouts: Whereabouts,
    ) -> Vec<DirectoryAction> {
        let asked = self.numbers.get(&number);
        let Some((id, _)) = asked.filter(|(_, node)| *node == from).cloned() else {
            return Vec::new();
        };
        self.numbers.remove(&number);
        let Some(search) = self.searches.get_mut(&id) else {
            return Vec::new();
        };
        match whereabouts {
            Whereabouts::At { owner, version } => return self.learn(&id, owner, version),
            Whereabouts::None if search.counted.contains(&from) => {
                search.nones += 1;
                if search.nones >= search.quorum {
                    self.end(&id);
                    return vec![DirectoryAction::Nobody { id }];
                }
            }
            Whereabouts::None | Whereabouts::Unsettled => {}
        }
        if search.current == Some(from) {
            return self.ask_next(now, &id);
        }
        Vec::new()
    }

    /// Learns where an actor is from a record's version; the highest version wins.
    pub fn learn(
        &mut self,
        id: &ActorId,
        owner: NodeInst,
        version: Version,
    ) -> Vec<DirectoryAction> {
        let id = id.record_owner();
        let known = self.look_up(&id);
        let place = match known {
            Some(known) if known.version >= version => known,
            Some(_) | None => Place { owner, version },
        };
        self.insert(id.clone(), place);
        if self.end(&id) {
            let Place { owner, version } = place;
            return vec![DirectoryAction::Found { id, owner, version }];
        }
        Vec::new()
    }

    /// Learns where an actor was when it said something: counts only as long as no version does.
    pub fn hint(&mut self, id: &ActorId, owner: NodeInst) -> Vec<DirectoryAction> {
        if home(id).is_some() {
            return Vec::new();
        }
        self.learn(id, owner, Version::default())
    }

    /// Forgets where an actor is, if it still is thought to be there: a message came back.
    pub fn forget(&mut self, id: &ActorId, owner: NodeInst) {
        let id = id.record_owner();
        if self.look_up(&id).is_some_and(|place| place.owner == owner) {
            self.young.remove(&id);
            self.old.remove(&id);
        }
    }

    /// Forgets everything on a life of a node that is down, and asks it nothing more.
    pub fn node_down(&mut self, now: Now, inst: NodeInst) -> Vec<DirectoryAction> {
        self.young.retain(|_, place| place.owner != inst);
        self.old.retain(|_, place| place.owner != inst);
        let waiting = self.searches.iter_mut();
        let mut hit = Vec::new();
        for (id, search) in waiting {
            search.left.retain(|node| *node != inst.node);
            if search.current == Some(inst.node) {
                hit.push(id.clone());
            }
        }
        let next = hit.iter().flat_map(|id| self.ask_next(now, id));
        next.collect()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) -> Vec<DirectoryAction> {
        let mut actions = Vec::new();
        while let Some((at, id)) = self.due.first().cloned() {
            if at > now.mono {
                break;
            }
            actions.extend(self.ask_next(now, &id));
        }
        actions
    }

    /// Returns when [`Directory::tick`] is to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Tells whether an actor is being looked for: messages for it wait.
    #[must_use]
    pub fn is_searching(&self, id: &ActorId) -> bool {
        self.searches.contains_key(&id.record_owner())
    }

    /// Returns where an actor is thought to be, and by which version.
    #[must_use]
    pub fn known(&self, id: &ActorId) -> Option<(NodeInst, Version)> {
        let id = id.record_owner();
        let place = self.young.get(&id).or_else(|| self.old.get(&id))?;
        Some((place.owner, place.version))
    }

    /// Returns whom a message would be sent to that comes now, if nothing but what was learned says so:
    /// as [`Directory::route`] judges it.
    ///
    /// In: `ended`, the version of the tombstone that this node holds, if it holds one.
    #[must_use]
    pub fn known_after(&self, id: &ActorId, ended: Option<Version>) -> Option<NodeInst> {
        let id = id.record_owner();
        let place = self.young.get(&id).or_else(|| self.old.get(&id))?;
        place.is_after(ended).then_some(place.owner)
    }

    /// Returns the hop count of a message that is passed on; `None` if it has passed enough nodes
    /// and counts as lost.
    #[must_use]
    pub const fn pass_on(hops: u8) -> Option<u8> {
        if hops < HOPS_MAX {
            Some(hops + 1)
        } else {
            None
        }
    }

    /// Asks the next node; ends the search if there is none.
    fn ask_next(&mut self, now: Now, id: &ActorId) -> Vec<DirectoryAction> {
        let Some(search) = self.searches.get_mut(id) else {
            return Vec::new();
        };
        self.due.remove(&(search.due, id.clone()));
        let Some(to) = search.left.pop() else {
            self.end(id);
            return vec![DirectoryAction::Unknown { id: id.clone() }];
        };
        self.last_number += 1;
        let number = self.last_number;
        search.current = Some(to);
        search.numbers.push(number);
        search.due = now.mono + Duration::from_millis(SEARCH_WAIT_MS);
        self.due.insert((search.due, id.clone()));
        self.numbers.insert(number, (id.clone(), to));
        vec![DirectoryAction::Ask {
            to,
            number,
            id: id.clone(),
        }]
    }

    fn end(&mut self, id: &ActorId) -> bool {
        let Some(search) = self.searches.remove(id) else {
            return false;
        };
        self.due.remove(&(search.due, id.clone()));
        for number in &search.numbers {
            self.numbers.remove(number);
        }
        true
    }

    /// Returns a place and makes it young again.
    fn look_up(&mut self, id: &ActorId) -> Option<Place> {
        if let Some(place) = self.young.get(id) {
            return Some(*place);
        }
        let place = self.old.remove(id)?;
        self.insert(id.clone(), place);
        Some(place)
    }

    fn insert(&mut self, id: ActorId, place: Place) {
        self.old.remove(&id);
        self.young.insert(id, place);
        if self.young.len() > DIRECTORY_ENTRIES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
    }
}
