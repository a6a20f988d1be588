//! Who is there: the sorted list of members.
//!
//! In: members and what they said of themselves. Out: look-ups and a hash that is the same for the
//! same list on every node. Views are advice; safety never rests on their being equal.

use std::hash::Hasher;
use std::net::SocketAddr;

use contract::{MemberState, NodeId, NodeInst};
use siphasher::sip::SipHasher24;

use super::meta::NodeMeta;

/// One node that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which life of which node.
    pub inst: NodeInst,
    /// Where its cluster port is.
    pub address: SocketAddr,
    /// What it is doing.
    pub state: MemberState,
    /// What it said of itself.
    pub meta: NodeMeta,
}

/// The members, ourselves included, sorted by `NodeId`. Bound: `NODES_MAX`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The members, sorted by `NodeId`, at most one a node.
    pub members: Vec<Member>,
}

impl View {
    /// Makes a view of members in any order; of several with one `NodeId` the latest start stays.
    #[must_use]
    pub fn new(mut members: Vec<Member>) -> View {
        members.sort_by(|a, b| (a.inst.node, b.inst.boot).cmp(&(b.inst.node, a.inst.boot)));
        members.dedup_by_key(|member| member.inst.node);
        View { members }
    }

    /// Returns a hash of who is there and in which state: SipHash-2-4 with a fixed key, the same
    /// on every node and in every release.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(0x7765_6674_2076_6965, 0x7720_6f66_206e_6f64);
        for member in &self.members {
            hasher.write(&member.inst.node.0.to_le_bytes());
            hasher.write(&member.inst.boot.0.to_le_bytes());
            hasher.write(&[match member.state {
                MemberState::Joining => 0,
                MemberState::Up => 1,
                MemberState::Draining => 2,
            }]);
        }
        hasher.finish()
    }

    /// Returns the members that take their share, by `NodeId`.
    pub fn up(&self) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(|member| member.state == MemberState::Up)
    }

    /// Returns the member of this number.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        let found = self
            .members
            .binary_search_by_key(&node, |member| member.inst.node);
        found.ok().map(|index| &self.members[index])
    }

    /// Tells whether this life of this node is there.
    #[must_use]
    pub fn contains(&self, inst: NodeInst) -> bool {
        self.member(inst.node).is_some_and(|m| m.inst == inst)
    }

    /// Returns the newest schema that every member reads (`cluster.md` §12); 1 if nobody is there.
    #[must_use]
    pub fn schema(&self) -> u16 {
        let newest = self.members.iter().map(|m| m.meta.schema.high).min();
        newest.unwrap_or(1)
    }

    /// Returns the newest protocol that every member speaks; 1 if nobody is there.
    #[must_use]
    pub fn proto(&self) -> u16 {
        let newest = self.members.iter().map(|m| m.meta.proto.high).min();
        newest.unwrap_or(1)
    }
}
