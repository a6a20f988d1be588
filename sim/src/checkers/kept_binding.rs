//! I6: a binding that was acknowledged is found until it expires.
//!
//! Nodes that are cut off from each other both accept (`cluster.md` §5), so the newest record may be of
//! the other side, and may have ended there. Until they have met again, what counts is what a merge makes
//! of both sides' records (§8); at settle only the newest record does.

use std::sync::Arc;
use std::time::Duration;

use actors::AnyCore;
use bytes::Bytes;
use cluster::Loaded;
use contract::core::Roster;
use contract::{ActorId, IdHasher, NodeId, Time};

use crate::store::{Handle, SimStore};
use crate::world::World;

/// Time after a cut in which nodes find each other, and hand over what only one side has.
const REUNION: Duration = Duration::from_secs(10);

/// What a phone was promised.
#[derive(Clone, Debug)]
pub struct Promised {
    /// Account.
    pub user: String,
    /// Its contact, as the node is to have it.
    pub contact: String,
    /// Until when.
    pub until: Option<Time>,
}

/// Checks what a phone was promised against the newest record that any disk has, and, while its owner
/// is cut off, against what the others' records add to it.
pub fn check(world: &Arc<World>, disks: &[Arc<SimStore>], ids: &IdHasher, phone: &Promised) {
    let now = world.now().mono;
    if phone.until.is_none_or(|until| until <= now) {
        return;
    }
    let id = ActorId::Registration(format!("{}@weft.test", phone.user).into());
    let copies = disks.iter().filter_map(|disk| {
        let handle = Handle::open(disk);
        cluster::load(handle.as_ref(), ids, &id).ok().flatten()
    });
    let copies: Vec<Loaded> = copies.collect();
    let newest = copies.iter().max_by_key(|copy| copy.header.version);
    let contact = &phone.contact;
    let has = |part: &Bytes| memchr::memmem::find(part, contact.as_bytes()).is_some();
    let is_there = newest.is_some_and(|newest| newest.parts.get(&id).is_some_and(has));
    if is_there {
        return world.count("bindings found again");
    }
    if newest.is_some_and(|newest| has(&merged(world, &id, newest, &copies))) {
        return world.count("bindings found on the other side of a cut");
    }
    world.broken(
        "I6",
        format!(
            "{} was promised {contact} and it is not on disk",
            phone.user
        ),
    );
}

/// Returns what the newest record becomes when its owner has met those it is cut off from: what they
/// own is merged into it. An ended one has nothing that could void a binding, as then.
fn merged(world: &World, id: &ActorId, newest: &Loaded, copies: &[Loaded]) -> Bytes {
    let owner = newest.header.owner.node;
    let is_apart = |copy: &&Loaded| are_apart(world, owner, copy.header.owner.node);
    let others = copies.iter().filter(is_apart);
    let alive = std::iter::once(newest).chain(others);
    let alive = alive.filter(|copy| !copy.header.is_ended());
    let parts: Vec<Bytes> = alive
        .filter_map(|copy| copy.parts.get(id).cloned())
        .collect();
    // Not the nodes' own roster: what is planted there must be found.
    AnyCore::merge(id, &parts, world.now())
}

/// Tells whether two nodes may not have told each other what they have: a cut is between them, or was
/// a moment ago.
fn are_apart(world: &World, one: NodeId, other: NodeId) -> bool {
    let pair = (one.0.min(other.0), one.0.max(other.0));
    let now = world.now().mono;
    let state = world.state();
    let mut cuts = state.cuts.iter().filter(|cut| cut.pair == pair);
    !state.is_settled && cuts.any(|cut| cut.from <= now && now <= cut.until + REUNION)
}
