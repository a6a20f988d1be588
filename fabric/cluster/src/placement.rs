//! Where an actor is first looked for, and who keeps its record (`cluster.md` §3).
//!
//! In: the key of a record, the nodes that may have it. Out: nodes in the order of their rank, by
//! weighted rendezvous hashing: a node that leaves or joins changes the rank of nobody else. The
//! same on every node and in every version of the program: the hash and its key never change.

use std::cmp::Ordering;
use std::hash::Hasher;

use contract::limits::HOLDERS_MAX;
use contract::{NodeId, RecordKey};
use siphasher::sip::SipHasher24;

use crate::HolderSet;

/// A node that may be given actors: `Up`, and neither joining nor draining.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub node: NodeId,
    /// How much it takes, beside the others; 0: nothing new.
    pub weight: u16,
    /// Where it stands: holders of one record are spread over zones where that can be.
    pub zone: String,
}

/// Returns the nodes by rank for a record, the first one first. Those of weight 0 are left out.
#[must_use]
pub fn rank(key: RecordKey, candidates: &[Candidate]) -> Vec<NodeId> {
    let mut scored: Vec<(f64, NodeId)> = candidates
        .iter()
        .filter(|candidate| candidate.weight > 0)
        .map(|candidate| (score(key, candidate), candidate.node))
        .collect();
    scored.sort_by(|one, other| {
        let by_score = other.0.partial_cmp(&one.0).unwrap_or(Ordering::Equal);
        by_score.then(one.1.cmp(&other.1))
    });
    scored.into_iter().map(|(_, node)| node).collect()
}

/// Returns who keeps a record of `owner`: itself, and so many of the first ranks that there are
/// `replicas`, of different zones where that can be. The others are always among the first
/// `replicas` ranks, so that whoever does not know the owner still finds one.
#[must_use]
pub fn holders(
    key: RecordKey,
    owner: NodeId,
    candidates: &[Candidate],
    replicas: usize,
) -> HolderSet {
    let replicas = replicas.clamp(1, HOLDERS_MAX);
    let ranked = rank(key, candidates);
    let zone = |node: NodeId| {
        let found = candidates.iter().find(|candidate| candidate.node == node);
        found.map(|candidate| candidate.zone.as_str())
    };
    let near: Vec<NodeId> = ranked.into_iter().take(replicas).collect();
    let mut chosen = vec![owner];
    let is_new_zone =
        |chosen: &[NodeId], node: NodeId| chosen.iter().all(|one| zone(*one) != zone(node));
    for wants_new_zone in [true, false] {
        for node in &near {
            let is_wanted = !wants_new_zone || is_new_zone(&chosen, *node);
            if chosen.len() < replicas && is_wanted && !chosen.contains(node) {
                chosen.push(*node);
            }
        }
    }
    HolderSet::new(chosen).unwrap_or_else(|| HolderSet::alone(owner))
}

/// Score of weighted rendezvous hashing: −weight / ln(u), u uniform in (0, 1) by key and node.
fn score(key: RecordKey, candidate: &Candidate) -> f64 {
    let mut hasher = SipHasher24::new_with_keys(0x7765_6674, 0x7261_6e6b);
    hasher.write(&key.to_bytes());
    hasher.write(&candidate.node.0.to_be_bytes());
    // 53 bits are what a double holds; the half keeps it off 0 and 1.
    let uniform = ((hasher.finish() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(candidate.weight) / uniform.ln()
}
