//! V2 at settle: every phone can be called from every node.
//!
//! In: a phone that called everybody through one node, some time ago. Out: broken promises.

use std::sync::Arc;

use crate::phone::Phone;
use crate::world::World;

/// Account of who calls: no phone of a plan has it.
pub const USER: &str = "1019";

/// Requires that everybody has answered.
pub fn check(world: &Arc<World>, node: u16, users: &[String], probe: &Phone) {
    for user in users {
        let of_user = format!("sip:{user}@");
        let is_answered = probe
            .calls()
            .values()
            .any(|call| call.was_confirmed && call.called().contains(&of_user));
        if is_answered {
            world.count("phones reached from a node at settle");
        } else {
            let how = format!("{user} cannot be called from node {node}");
            world.broken("V2", how);
        }
    }
}
