//! I6: a binding that was acknowledged is found until it expires.

use std::sync::Arc;

use contract::{ActorId, IdHasher, Time};

use crate::store::{Handle, SimStore};
use crate::world::World;

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

/// Checks what a phone was promised against the newest record that any disk has.
pub fn check(world: &Arc<World>, disks: &[Arc<SimStore>], ids: &IdHasher, phone: &Promised) {
    let now = world.now().mono;
    if phone.until.is_none_or(|until| until <= now) {
        return;
    }
    let id = ActorId::Registration(format!("{}@weft.test", phone.user).into());
    let newest = disks.iter().filter_map(|disk| {
        let handle = Handle::open(disk);
        cluster::load(handle.as_ref(), ids, &id).ok().flatten()
    });
    let newest = newest.max_by_key(|loaded| loaded.header.version);
    let part = newest.and_then(|loaded| loaded.parts.get(&id).cloned());
    let contact = &phone.contact;
    let is_there =
        part.is_some_and(|part| memchr::memmem::find(&part, contact.as_bytes()).is_some());
    if !is_there {
        world.broken(
            "I6",
            format!(
                "{} was promised {contact} and it is not on disk",
                phone.user
            ),
        );
    }
    world.count("bindings found again");
}
