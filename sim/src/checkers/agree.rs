//! At settle every running node lists exactly the running nodes, each with its present boot.

use std::collections::BTreeSet;
use std::sync::Arc;

use contract::{Member, NodeInst};

use crate::world::World;

/// Checks the view of one node against the nodes that run.
pub fn check(world: &Arc<World>, me: NodeInst, members: &[Member], running: &[NodeInst]) {
    let listed: BTreeSet<_> = members.iter().map(|member| member.peer.inst).collect();
    let running: BTreeSet<_> = running.iter().copied().collect();
    if listed == running {
        return world.count("views that agree at settle");
    }
    let text = |nodes: &BTreeSet<NodeInst>| {
        let nodes: Vec<_> = nodes.iter().map(NodeInst::to_string).collect();
        nodes.join(" ")
    };
    let how = format!(
        "{me} lists {}, and there run {}",
        text(&listed),
        text(&running)
    );
    world.broken("views agree", how);
}
