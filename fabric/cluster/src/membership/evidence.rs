//! What the transport tells about peers: refused connections, and members that said good-bye.
//!
//! In: who saw whose connections refused, and when. Out: whether a member's death is proven: seen
//! so by two members, or by the one of two (`cluster.md` §2, §5).

use std::collections::BTreeMap;
use std::time::Duration;

use contract::{NodeId, NodeInst, Time};

/// How a member came to be down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// Nothing was heard of it: it may be dead, starved or cut off.
    Silent,
    /// Its process is gone: its connections were reset and new ones refused, seen by two members
    /// or by the one of two; or it said good-bye; or its node has started anew.
    Dead,
}

/// How long a refused connection counts: the peer's listener may have been away for a moment.
const EVIDENCE_LIFE: Duration = Duration::from_secs(10);

struct Case {
    inst: NodeInst,
    refused_to: BTreeMap<NodeId, Time>,
    has_left: bool,
}

/// The cases of all peers. Bound: one a node, one witness a node in each.
#[derive(Default)]
pub(super) struct Evidence {
    cases: BTreeMap<NodeId, Case>,
}

impl Evidence {
    fn case(&mut self, inst: NodeInst) -> Option<&mut Case> {
        let fresh = || Case {
            inst,
            refused_to: BTreeMap::new(),
            has_left: false,
        };
        let case = self.cases.entry(inst.node).or_insert_with(fresh);
        if case.inst.boot < inst.boot {
            *case = fresh();
        }
        (case.inst == inst).then_some(case)
    }

    /// Notes that `witness` was refused by `inst`. What is said of an earlier life is left out.
    pub(super) fn refused(&mut self, witness: NodeId, inst: NodeInst, now: Time) {
        if let Some(case) = self.case(inst) {
            case.refused_to.insert(witness, now);
        }
    }

    /// Takes back what `witness` said of `inst`: it is connected with it. Tells whether it had said
    /// anything.
    pub(super) fn withdraw(&mut self, witness: NodeId, inst: NodeInst) -> bool {
        let case = self.cases.get_mut(&inst.node);
        case.filter(|case| case.inst == inst)
            .is_some_and(|case| case.refused_to.remove(&witness).is_some())
    }

    /// Notes that `inst` said good-bye.
    pub(super) fn left(&mut self, inst: NodeInst) {
        if let Some(case) = self.case(inst) {
            case.has_left = true;
        }
    }

    /// Forgets what a life of a node did: it is back.
    pub(super) fn clear(&mut self, inst: NodeInst) {
        if self.cases.get(&inst.node).is_some_and(|c| c.inst == inst) {
            self.cases.remove(&inst.node);
        }
    }

    /// Judges `inst`; `alone` tells that only it and we are there, so that one witness is enough.
    pub(super) fn proof(&self, inst: NodeInst, alone: bool, now: Time) -> Proof {
        let Some(case) = self.cases.get(&inst.node).filter(|case| case.inst == inst) else {
            return Proof::Silent;
        };
        let witnesses = case
            .refused_to
            .values()
            .filter(|at| now.since(**at) <= EVIDENCE_LIFE)
            .count();
        let enough = if alone { 1 } else { 2 };
        if case.has_left || witnesses >= enough {
            Proof::Dead
        } else {
            Proof::Silent
        }
    }
}
