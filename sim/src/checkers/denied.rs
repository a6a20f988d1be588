//! I12 at settle: no node answers `None` for an actor whose record its own disk had before it was
//! asked, and still has a second later (it may have known of an end that was not yet written). One that lags behind two others may: who asks needs two answers
//! (`cluster.md` §4); how often that is so is counted.
//!
//! In: questions and answers of nodes, disks. Out: broken promises.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::{Frame, Whereabouts};
use contract::{ActorId, IdHasher, NodeId, NodeInst, Time};

use crate::store::{Handle, SimStore};
use crate::world::{Witness, World};

/// Time in which what a node knows is on its disk.
const PATIENCE: Duration = Duration::from_secs(1);

/// The checker of all nodes.
#[derive(Debug)]
pub struct Denied {
    disks: Arc<[Arc<SimStore>]>,
    ids: IdHasher,
    /// Who asked whom, under which number, for what, and whose disks had it then.
    asked: BTreeMap<(NodeId, NodeId, u64), (ActorId, Vec<NodeId>)>,
    /// Who said that there is no such actor, and when its disk is looked at.
    doubted: Vec<(Time, NodeInst, ActorId)>,
}

impl Denied {
    /// Makes the checker.
    #[must_use]
    pub fn new(disks: &Arc<[Arc<SimStore>]>, ids: IdHasher) -> Denied {
        Denied {
            disks: Arc::clone(disks),
            ids,
            asked: BTreeMap::new(),
            doubted: Vec::new(),
        }
    }

    /// Returns which disks, by the number of their nodes, have a live record.
    fn known_at(&self, world: &World, id: &ActorId) -> Vec<NodeId> {
        let now = world.now().utc;
        let has = |disk: &Arc<SimStore>| {
            // A disk that cannot be read is another checker's affair.
            let loaded = cluster::load(Handle::open(disk).as_ref(), &self.ids, id);
            let header = loaded.ok().flatten().map(|loaded| loaded.header);
            header.is_some_and(|header| {
                !header.is_ended() && header.deadline().is_none_or(|until| until > now)
            })
        };
        let numbered = (1..).zip(self.disks.iter());
        let known = numbered.filter(|(_, disk)| has(disk));
        known.map(|(number, _)| NodeId(number)).collect()
    }
}

impl Witness for Denied {
    fn sent(&mut self, world: &World, from: NodeInst, to: NodeInst, frame: &Frame) {
        if !world.state().is_settled {
            return;
        }
        let now = world.now().mono;
        let due: Vec<_> = self
            .doubted
            .extract_if(.., |(at, _, _)| *at <= now)
            .collect();
        for (_, node, id) in due {
            if self.known_at(world, &id).contains(&node.node) {
                let how = format!("{node} said that there is no {id}, and its disk has it");
                world.broken("I12", how);
            }
        }
        if let Frame::Where { number, id } = frame {
            let known = self.known_at(world, id);
            let key = (from.node, to.node, *number);
            self.asked.insert(key, (id.clone(), known));
        }
        if let Frame::Found {
            number,
            whereabouts,
        } = frame
        {
            let asked = self.asked.remove(&(to.node, from.node, *number));
            let Some((id, known)) = asked else { return };
            world.count("questions where an actor is, at settle");
            if *whereabouts != Whereabouts::None {
                return;
            }
            let still = self.known_at(world, &id);
            if known.contains(&from.node) && still.contains(&from.node) {
                let at = world.now().mono + PATIENCE;
                self.doubted.push((at, from, id));
            } else if known.len() > 1 {
                world.count("answers of a node that lags behind two others");
            }
        }
    }
}
