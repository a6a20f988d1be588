//! Coverage marks: how often the rare branches of a cluster were reached (`cluster.md` §13).
//!
//! In: frames between nodes, what cores say of themselves, counts of the world. Out: counts, named
//! `mark: …`; `ALL` names them all, so that a sum also shows what was never reached.

use std::collections::{BTreeMap, BTreeSet};

use cluster::{Conf, Exchange, Frame, HolderReply, HolderRequest, Whereabouts};
use contract::core::Restored;
use contract::{ActorId, Kind, NodeId, NodeInst};

use crate::checkers::durable::call_of;
use crate::world::{Witness, World};

/// Merges of copies that differ.
pub const MERGED: &str = "mark: a merge of copies that differ";
/// Those that gave what none of the copies had.
pub const BROUGHT_BACK: &str = "mark: a merge that brought something back";

/// A node begins without what its store lacks.
pub const QUARANTINED: &str = "mark: quarantined: the others are asked for what the store has lost";
/// It has it again.
pub const LIFTED: &str = "mark: quarantine over: the others had these records";

/// What the product's log says where a rare branch is taken.
pub const SAID: [&str; 10] = [
    "quarantined: the others are asked for what the store has lost",
    "quarantine over: the others had these records",
    "registrations went where placement wants them",
    "another node has won the record",
    "claimed with fewer holders than wanted",
    "a message has passed enough nodes",
    "goes on as the node had it that was cut off",
    "ends as the node had it that was cut off",
    "ends a dialog that only the node had that was cut off",
    "a claim took it that nothing has followed: it is taken back",
];

/// Counts a core that was built from its record.
pub fn restored(world: &World, kind: Kind, state: &str, why: Restored) {
    if why == Restored::StartedAlone {
        world.count("mark: restored after a start, beside holders that were not heard");
    }
    if matches!(why, Restored::NodeStart | Restored::StartedAlone) {
        return world.count("mark: restored after a start of its node");
    }
    if matches!(why, Restored::Moved { .. }) {
        let what = match kind {
            Kind::Registration => "mark: a registration that moved",
            Kind::Call => "mark: a call that moved",
            Kind::Dialog
            | Kind::MediaLeg
            | Kind::Gateway
            | Kind::Parking
            | Kind::Flow
            | Kind::DoorSession
            | Kind::Lane
            | Kind::Console
            | Kind::Member => return,
        };
        return world.count(what);
    }
    if !matches!(why, Restored::TakenOver { .. }) {
        return;
    }
    match (kind, state) {
        (Kind::Registration, _) => world.count("mark: take-over of a registration"),
        (Kind::Call, "ringing" | "talking" | "held" | "answering") => {
            world.count(&format!("mark: take-over of a call: {state}"));
        }
        (Kind::Call, _) => world.count("mark: take-over of a call: another state"),
        // Sides come with their call.
        (
            Kind::Dialog
            | Kind::MediaLeg
            | Kind::Gateway
            | Kind::Parking
            | Kind::Flow
            | Kind::DoorSession
            | Kind::Lane
            | Kind::Console
            | Kind::Member,
            _,
        ) => {}
    }
}

/// Every mark.
pub const ALL: [&str; 38] = [
    "mark: restored after a start, beside holders that were not heard",
    "mark: a registration that moved",
    "mark: a call that moved",
    "mark: registrations went where placement wants them",
    "mark: take-over of a registration",
    "mark: take-over of a call: ringing",
    "mark: take-over of a call: talking",
    "mark: take-over of a call: held",
    "mark: take-over of a call: answering",
    "mark: take-over of a call: another state",
    "mark: restored after a start of its node",
    "mark: a commit is fenced",
    "mark: a claim is fenced",
    "mark: a degraded commit",
    "mark: a degraded record is healed",
    "mark: the holders change: joint",
    "mark: the holders change: done",
    "mark: a holder lacks parts",
    MERGED,
    BROUGHT_BACK,
    "mark: a search that found nobody",
    "mark: a search that met a holder that is not settled",
    "mark: a redirect",
    "mark: a repair that mended",
    "mark: another node has won the record",
    "mark: claimed with fewer holders than wanted",
    "mark: a message has passed enough nodes",
    "mark: goes on as the node had it that was cut off",
    "mark: ends as the node had it that was cut off",
    "mark: ends a dialog that only the node had that was cut off",
    "mark: a claim took it that nothing has followed: it is taken back",
    "mark: rot at a running node",
    "mark: rot while a node was away",
    "mark: a cut tail",
    "mark: a wiped disk",
    "mark: a look at a quarantined node",
    QUARANTINED,
    LIFTED,
];

/// Sees the marks that are in frames.
#[derive(Debug, Default)]
pub struct Marks {
    degraded: BTreeSet<ActorId>,
    joint: BTreeSet<ActorId>,
    /// What was asked: a claim or a commit.
    claims: BTreeMap<(NodeInst, NodeInst, u64), bool>,
    /// A node that comes when the others have records already, and what it was given whole.
    newcomer: Option<NodeId>,
    given: BTreeSet<ActorId>,
}

impl Marks {
    /// Watches a cluster that a node joins late, if one does.
    #[must_use]
    pub fn with_newcomer(newcomer: Option<NodeId>) -> Marks {
        Marks {
            newcomer,
            ..Marks::default()
        }
    }

    fn newcomer_is_given(&mut self, world: &World, to: NodeInst, frame: &Frame) {
        if self.newcomer != Some(to.node) {
            return;
        }
        let images = if let Frame::Ask {
            request: HolderRequest::Commit(image),
            ..
        } = frame
        {
            std::slice::from_ref(image)
        } else if let Frame::Repair {
            exchange: Exchange::Images { images, .. },
            ..
        } = frame
        {
            images
        } else {
            return;
        };
        for image in images {
            let is_whole = image.parts.len() == image.header.parts.len();
            if is_whole && !image.header.is_ended() {
                world.count("whole records sent to the newcomer");
                if self.given.insert(image.header.id.clone()) {
                    world.count("records that the newcomer was given");
                }
            }
        }
    }

    fn asked(&mut self, world: &World, request: &HolderRequest) {
        let HolderRequest::Commit(image) = request else {
            return;
        };
        let header = &image.header;
        let id = &header.id;
        let call = id.call().and_then(|call| call_of(&call.to_string()));
        if let Some(call) = call {
            let mut state = world.state();
            let owners = state.owners.entry(call).or_default();
            owners.insert(header.owner.node);
        }
        if header.degraded {
            if self.degraded.insert(id.clone()) {
                world.count("mark: a degraded commit");
            }
        } else if self.degraded.remove(id) {
            world.count("mark: a degraded record is healed");
        }
        match header.conf {
            Conf::Joint { .. } => {
                if self.joint.insert(id.clone()) {
                    world.count("mark: the holders change: joint");
                }
            }
            Conf::Settled(_) => {
                if self.joint.remove(id) {
                    world.count("mark: the holders change: done");
                }
            }
        }
    }
}

impl Witness for Marks {
    fn sent(&mut self, world: &World, from: NodeInst, to: NodeInst, frame: &Frame) {
        if let Frame::Tell { hops, .. } = frame {
            world.count(&format!("messages on way {hops} of theirs"));
        }
        self.newcomer_is_given(world, to, frame);
        if let Frame::Ask { number, request } = frame {
            let is_claim = matches!(request, HolderRequest::Claim { .. });
            self.claims.insert((from, to, *number), is_claim);
            self.asked(world, request);
        } else if let Frame::Reply { number, reply } = frame {
            let is_claim = self.claims.remove(&(to, from, *number)) == Some(true);
            match reply {
                HolderReply::Fenced(_) if is_claim => world.count("mark: a claim is fenced"),
                HolderReply::Fenced(_) => world.count("mark: a commit is fenced"),
                HolderReply::Incomplete { .. } => world.count("mark: a holder lacks parts"),
                HolderReply::Stored(_) | HolderReply::Granted { .. } => {}
            }
        } else if let Frame::Found { whereabouts, .. } = frame {
            match whereabouts {
                Whereabouts::None => world.count("mark: a search that found nobody"),
                Whereabouts::Unsettled => {
                    world.count("mark: a search that met a holder that is not settled");
                }
                Whereabouts::At { .. } => {}
            }
        } else if let Frame::Redirect { .. } = frame {
            world.count("mark: a redirect");
        } else if let Frame::Repair { exchange, .. } = frame
            && matches!(exchange, Exchange::Images { images, .. } if !images.is_empty())
        {
            world.count("mark: a repair that mended");
        }
    }
}
