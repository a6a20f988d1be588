//! No living node is proven dead: `NodeDown` with proof is never said of a life that runs, cut off
//! or not.

use std::sync::Arc;

use contract::{NodeId, NodeInst};

use crate::world::World;

/// Checks what node `teller` says of a life.
pub fn check(
    world: &Arc<World>,
    teller: NodeId,
    dead: NodeInst,
    is_proven: bool,
    running: &[NodeInst],
) {
    let is_running = running.contains(&dead);
    world.count(match (is_running, is_proven) {
        (_, true) => "deaths that were proven",
        (true, false) => "living nodes that were taken for dead",
        (false, false) => "deaths that were only presumed",
    });
    if is_running && is_proven {
        let how = format!("node {teller} says that {dead} is proven dead, and it runs");
        world.broken("no living node is proven dead", how);
    }
}
