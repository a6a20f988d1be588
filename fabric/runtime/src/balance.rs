//! Registrations go where placement wants them, after nodes have come (`cluster.md` §3).
//!
//! In: the view, the records of this node, placement. Out: moves, `BALANCE_AT_ONCE` at a time. Each
//! goes to the first node by its rank, and stays there: it is moved once for each change of the view,
//! whatever others do, so nothing is thrown to and fro. Calls are not touched: they end by themselves,
//! and to move one both of its ends must be told.
//!
//! A node that is drained, dies or comes anew leaves the others with more than their share, and gets
//! nothing back by itself. What it lacks is seen from what the others have of it.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::placement;
use contract::core::Roster;
use contract::limits::{BALANCE_AT_ONCE, BALANCE_PERCENT};
use contract::{ActorId, Kind, MemberState, NodeInst};

use crate::fabric::Fabric;

/// Between two batches: moves are not to be felt.
const PAUSE: Duration = Duration::from_millis(100);

/// When registrations are moved to where placement wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// How often the view is looked at; it must be the same twice.
    pub every: Duration,
    /// Fewer registrations that another node should have are left where they are.
    pub least: usize,
}

impl<R: Roster> Fabric<R> {
    /// Balances until the fabric ends; nothing is to be done on a node that is alone.
    pub async fn balance(&self, rule: Balance) {
        if self.inner.replicas.is_none() {
            return;
        }
        let (mut seen, mut balanced) = (Vec::new(), Vec::new());
        while !self.is_revoked() {
            self.env().sleep_until(self.now().mono + rule.every).await;
            let view = self.lives_up();
            let is_steady = view == seen;
            if is_steady && view != balanced && self.balance_once(&rule, &view).await {
                balanced.clone_from(&view);
            }
            seen = view;
        }
    }

    /// Returns the lives that are up, in the order of their numbers.
    fn lives_up(&self) -> Vec<NodeInst> {
        let members = self.members().into_iter();
        let up = members.filter(|member| member.state == MemberState::Up);
        up.map(|member| member.peer.inst).collect()
    }

    /// Moves what others lack; tells whether they lack nothing any more.
    async fn balance_once(&self, rule: &Balance, view: &[NodeInst]) -> bool {
        if !view.contains(&self.me()) || self.health().draining {
            return false;
        }
        let mut left = self.lacking(rule, view.len());
        let (count, mut moved) = (left.len(), 0);
        while !left.is_empty() {
            if self.is_revoked() || self.health().draining || self.lives_up() != view {
                return false;
            }
            let rest = left.split_off(left.len().min(BALANCE_AT_ONCE));
            moved += self.move_some(std::mem::replace(&mut left, rest)).await;
            self.env().sleep_until(self.now().mono + PAUSE).await;
        }
        if count > 0 {
            tracing::info!(
                moved,
                count,
                "registrations went where placement wants them"
            );
        }
        count == moved
    }

    /// Returns the registrations of this node that others should have, of those that lack more than
    /// `BALANCE_PERCENT` of their share.
    ///
    /// A node's share of what is here is what each of `nodes` has of all: if all others miss as much of
    /// its records as this one, it lacks the part of its share that is here.
    fn lacking(&self, rule: &Balance, nodes: usize) -> Vec<(ActorId, NodeInst)> {
        let all = self.owned(Kind::Registration);
        let count = all.len();
        let me = self.me();
        let mut away: BTreeMap<NodeInst, Vec<ActorId>> = BTreeMap::new();
        let candidates = self.candidates();
        for id in all {
            let key = self.inner.records.ids().record_key(&id);
            let first = placement::rank(key, &candidates).first().copied();
            let home = first.and_then(|node| self.inner.mesh.life(node));
            if let Some(home) = home.filter(|home| *home != me) {
                away.entry(home).or_default().push(id);
            }
        }
        let is_lacking = |ids: &Vec<ActorId>| {
            ids.len() >= rule.least.max(1) && ids.len() * nodes * 100 > count * BALANCE_PERCENT
        };
        let lacking = away.into_iter().filter(|(_, ids)| is_lacking(ids));
        lacking
            .flat_map(|(home, ids)| ids.into_iter().map(move |id| (id, home)))
            .collect()
    }
}
