//! Handing over: one actor as an operator wants it, and all of them when the node is to end.
//!
//! In: wishes of the console, the time. Out: moves (`replicas/moves.rs`), answers. Which node gets
//! what is placement's affair.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use cluster::placement;
use contract::core::{Event, Roster};
use contract::limits::{DRAIN_MAX_S, MOVES_AT_ONCE};
use contract::{ActorId, Answer, Kind, MoveFault, NodeId, NodeInst, Time};
use tokio::sync::{Notify, oneshot};

use crate::fabric::Fabric;
use crate::replicas::{Input, Moved};

/// What moves, in this order: calls come last, so that their users are moved before them.
const ORDER: [Kind; 4] = [Kind::Registration, Kind::Gateway, Kind::Parking, Kind::Call];
/// After which time what could not be moved is tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// The wish that this node hands everything over and ends.
#[derive(Default)]
pub(crate) struct Wish {
    patience: Mutex<Option<Duration>>,
    changed: Notify,
}

impl<R: Roster> Fabric<R> {
    /// Hands an actor of this node over to a life of another one; `done` hears once, at most two
    /// seconds later, that its claim is safe there, or why the actor has stayed.
    ///
    /// In: `epoch`, the one it must have, so that a stale screen moves nothing of a newer owner.
    pub fn move_to(
        &self,
        id: &ActorId,
        to: NodeInst,
        epoch: Option<u64>,
        done: impl FnOnce(Result<(), MoveFault>) + Send + 'static,
    ) {
        if self.inner.replicas.is_none() {
            let is_here = to == self.me();
            return done(Err(if is_here {
                MoveFault::There
            } else {
                MoveFault::NoNode
            }));
        }
        let (id, done): (ActorId, Moved) = (id.clone(), Box::new(done));
        self.give(Input::Move {
            id,
            to,
            epoch,
            done,
        });
    }

    pub(crate) fn wish_drain(&self, max_s: u32) {
        let patience = Duration::from_secs(max_s.min(DRAIN_MAX_S).into());
        let wish = &self.inner.wish;
        *wish.patience.lock().expect("no holder of a wish panics") = Some(patience);
        wish.changed.notify_one();
    }

    /// Waits until somebody wants the node to hand everything over and to end; returns how long
    /// that may take.
    ///
    /// # Panics
    /// If a holder of the wish panicked.
    pub async fn drain_wished(&self) -> Duration {
        let wish = &self.inner.wish;
        loop {
            let patience = *wish.patience.lock().expect("no holder of a wish panics");
            if let Some(patience) = patience {
                return patience;
            }
            wish.changed.notified().await;
        }
    }

    /// Hands all that can move over to the nodes that are up, `MOVES_AT_ONCE` at a time: users and
    /// trunks first, then calls. Ends when nothing is left, when nobody is there to take it, or at
    /// `until`; returns how much is left.
    pub async fn move_away(&self, until: Time) -> usize {
        loop {
            let mut left: VecDeque<ActorId> = ORDER.iter().flat_map(|of| self.owned(*of)).collect();
            let count = left.len();
            let mut moved = 0;
            while !left.is_empty() && self.now().mono < until && !self.is_revoked() {
                let next = left.drain(..left.len().min(MOVES_AT_ONCE));
                let to = |id: ActorId| self.taker(&id).map(|to| (id, to));
                let next = next.filter_map(to).collect();
                moved += self.move_some(next).await;
            }
            let has_takers = self.candidates_beside().next().is_some();
            if count == moved || !has_takers || self.now().mono >= until || self.is_revoked() {
                return count - moved;
            }
            self.env().sleep_until(self.now().mono + AGAIN).await;
        }
    }

    /// Returns the actors of a kind that this node has, live ones and records.
    pub(crate) fn owned(&self, kind: Kind) -> Vec<ActorId> {
        let rows = self.rows(Some(kind)).into_iter();
        rows.map(|row| row.id).collect()
    }

    /// Hands actors over at once; returns how many are not here any more.
    pub(crate) async fn move_some(&self, moves: Vec<(ActorId, NodeInst)>) -> usize {
        let mut answers = Vec::new();
        for (id, to) in moves {
            let (tell, told) = oneshot::channel();
            self.move_to(&id, to, None, move |result| {
                // Nobody listens any more once the drain is over.
                let _ = tell.send(result);
            });
            answers.push((id, told));
        }
        let mut moved = 0;
        for (id, told) in answers {
            match told.await {
                // It ended meanwhile, or was never more than a first message: nothing is left of it.
                Ok(Ok(()) | Err(MoveFault::Unknown | MoveFault::Unrecorded)) => moved += 1,
                Ok(Err(why)) => tracing::debug!(actor = %id, %why, "not moved yet"),
                Err(_) => {}
            }
        }
        moved
    }

    /// Returns who is to have an actor: the first by rank of those that are up and can be reached.
    fn taker(&self, id: &ActorId) -> Option<NodeInst> {
        let candidates: Vec<_> = self.candidates_beside().collect();
        let key = self.inner.records.ids().record_key(id);
        let first = placement::rank(key, &candidates).first().copied()?;
        self.inner.mesh.life(first)
    }

    fn candidates_beside(&self) -> impl Iterator<Item = cluster::Candidate> {
        let me = self.me().node;
        let all = self.candidates().into_iter();
        let reachable = |node: NodeId| self.inner.mesh.life(node).is_some();
        let others = all.filter(move |one| one.node != me && reachable(one.node));
        others.collect::<Vec<_>>().into_iter()
    }
}

/// Hands an actor over as the console wants, and answers it.
pub(crate) fn hand_over<R: Roster>(
    fabric: &Fabric<R>,
    from: &ActorId,
    token: u64,
    id: &ActorId,
    to: NodeId,
    epoch: Option<u64>,
) {
    let (asker, teller) = (from.clone(), fabric.clone());
    let answer = move |result| {
        let answer = Answer::Moved(result);
        teller.deliver(&asker, Event::Answer { token, answer });
    };
    let life = if to == fabric.me().node {
        Some(fabric.me())
    } else {
        let members = fabric.members().into_iter();
        let mut lives = members.map(|member| member.peer.inst);
        lives.find(|life| life.node == to)
    };
    match life {
        Some(life) => fabric.move_to(id, life, epoch, answer),
        None => answer(Err(MoveFault::NoNode)),
    }
}
