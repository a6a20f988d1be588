//! I19: a node whose store lacks something owns nothing, and answers for nobody else: it grants no
//! claim, confirms no commit, and of where an actor is it says only that it does not know.
//!
//! In: frames between nodes, rows of a quarantined node. Out: broken promises.

use std::sync::Arc;

use cluster::{Frame, Whereabouts};
use contract::{ActorRow, NodeInst};

use crate::store::SimStore;
use crate::world::{Witness, World};

/// Requires that no recorded actor lives on a quarantined node.
pub fn check(world: &World, rows: &[ActorRow]) {
    let mut owned = rows
        .iter()
        .filter(|row| row.live && row.id.kind().is_recorded());
    if let Some(row) = owned.next() {
        let what = format!("{} lives on a quarantined node", row.id);
        world.broken("I19", what);
    }
}

/// The checker of what quarantined nodes say.
#[derive(Debug)]
pub struct Quarantined {
    disks: Arc<[Arc<SimStore>]>,
}

impl Quarantined {
    /// Makes the checker.
    #[must_use]
    pub fn new(disks: &Arc<[Arc<SimStore>]>) -> Quarantined {
        Quarantined {
            disks: Arc::clone(disks),
        }
    }
}

impl Witness for Quarantined {
    fn sent(&mut self, world: &World, from: NodeInst, _to: NodeInst, frame: &Frame) {
        let disk = usize::from(from.node.0).checked_sub(1);
        let disk = disk.and_then(|at| self.disks.get(at));
        if !disk.is_some_and(|disk| disk.is_quarantined()) {
            return;
        }
        let is_answer = match frame {
            Frame::Reply { .. } => true,
            Frame::Found { whereabouts, .. } => match whereabouts {
                // One that runs on knows what runs on it.
                Whereabouts::At { owner, .. } => *owner != from,
                Whereabouts::None => true,
                Whereabouts::Unsettled => false,
            },
            Frame::Tell { .. }
            | Frame::Returned { .. }
            | Frame::Ask { .. }
            | Frame::Where { .. }
            | Frame::Redirect { .. }
            | Frame::Send { .. }
            | Frame::Repair { .. }
            | Frame::Take { .. }
            | Frame::Taken { .. }
            | Frame::Kept { .. }
            | Frame::Left { .. }
            | Frame::EventsHeld(_)
            | Frame::Events(_) => false,
        };
        if is_answer {
            world.broken("I19", format!("{from} is quarantined and says {frame:?}"));
        }
    }
}
