//! What no message asks for: records of nodes that are gone are gone on with, records are given the
//! holders that placement wants, tombstones go (`cluster.md` §4, §5, §7).
//!
//! In: changes of the view, nodes that are gone, records that healed, the time. Out: shells that
//! begin, and shells that mend. It goes over the headers that this node holds whenever there may be
//! something to do, and works off what it found a few at a time.
//!
//! | record | then |
//! |---|---|
//! | owner gone, this node is its heir | its shell begins here |
//! | a call whose owner is merely silent | the same, after 1.2 s and with a majority only |
//! | owned here, held by others than placement wants, or degraded | its shell mends it |
//! | owned here, taken by a claim that nothing has followed | the same as of an owner that is gone |
//! | tombstone past its time, and a node that may have an older copy is away | kept, for an hour more |
//! | other tombstone, or copy of what others hold, past its time | forgotten |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::{Conf, Header, Missing, REPAIR_ORDER, Verdict, desk};
use contract::core::Roster;
use contract::limits::{
    ADDRESS_WAIT_MS, CLAIMS_LOST_MAX, CLAIMS_MAX, SHARDS, SWEEP_HEADERS_PER_TURN,
    SWEEP_JOBS_PER_TURN, TOMBSTONE_AWAITS_MS,
};
use contract::{ActorId, Kind, NodeId, NodeInst, Time};

use super::claims::LOST_LATELY;
use super::{Standing, Turn, Work};
use crate::entry::Side;
use crate::mesh::FIRST_VIEW;

/// Between two turns of work.
const TURN_EVERY: Duration = Duration::from_millis(20);
/// Between two looks at some shards.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// After which time the next one by rank goes on with what nobody went on with.
const NEXT_RANK_AFTER: Duration = Duration::from_secs(3);
/// When nothing else asks for it: tombstones of other nodes' records.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Between two looks at a lost record while somebody who may know more of it is missed.
const LOST_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// After a change of the view, so that several changes are one.
const AFTER_VIEW: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct Sweep {
    /// When the headers are looked at next.
    at: Option<Time>,
    /// How far they have been: kinds one after the other, each shard by shard.
    next: usize,
    /// A record of a node that is gone was seen on the way.
    is_left: bool,
    /// When the look began that is under way, or was the last one.
    began: Time,
    /// A look is over that began when the others should have been found: of whom a record is here, and
    /// who was not found, is missed.
    has_looked: bool,
    missing: Missing,
    /// Where calls of lives that are gone go on, and whether their address is there, or cannot be.
    heirs: BTreeMap<NodeInst, (NodeId, bool)>,
    calls: VecDeque<ActorId>,
    others: VecDeque<ActorId>,
    mends: BTreeSet<ActorId>,
    /// Records of this life that others have won, and when it is looked whether anybody goes on with
    /// them. Bound: `CLAIMS_LOST_MAX`.
    lost: BTreeSet<(Time, ActorId)>,
    work_at: Option<Time>,
}

impl Sweep {
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let lost = self.lost.first().map(|(at, _)| *at);
        [self.at, self.work_at, lost].into_iter().flatten().min()
    }

    fn look_at(&mut self, at: Time) {
        self.at = Some(self.at.map_or(at, |known| known.min(at)));
    }
}

/// How long a node that fell silent may come back with what nobody else has: calls that it began.
const MISSED_FOR: Duration = Duration::from_secs(60);

impl<R: Roster> Turn<'_, R> {
    /// The view has changed.
    pub(super) fn sweep_view(&mut self) {
        let lives = &self.state.lives;
        let is_back = |life: NodeId| lives.iter().any(|other| other.node == life);
        self.state.sweep.missing.back(is_back, self.now.mono);
        let sweep = &mut self.state.sweep;
        sweep
            .heirs
            .retain(|life, _| !lives.iter().any(|other| other.node == life.node));
        self.sweep_reach();
        self.state.sweep.next = 0;
        self.state.sweep.look_at(self.now.mono + AFTER_VIEW);
    }

    /// A node is gone; the view without it may have come already.
    pub(super) fn sweep_down(&mut self, life: NodeInst, is_proven: bool) {
        let now = self.now.mono;
        self.state.sweep.missing.fell(life, is_proven, now, now);
        self.sweep_reach();
        self.state.sweep.next = 0;
        self.state.sweep.look_at(now);
    }

    /// Connections have come or gone, or who is missed. A node that is cut off has lost its
    /// connections before it has heard of everybody that is gone.
    pub(super) fn sweep_reach(&mut self) {
        let is_up =
            |life: &&NodeInst| matches!(self.standing(**life), Standing::Me | Standing::Connected);
        let up = self.state.lives.iter().filter(is_up).count();
        self.state.sweep.missing.reach(up.max(1), self.now.mono);
        if !self.state.sweep.missing.is_empty() {
            self.state.sweep.look_at(self.now.mono + AFTER_VIEW);
        }
        self.note_cut();
    }

    /// Its calls go on where its addresses go.
    pub(super) fn sweep_heir(&mut self, of: NodeInst, node: NodeId) {
        self.state.sweep.heirs.insert(of, (node, false));
    }

    /// What waits for an address goes on.
    pub(super) fn sweep_address_settled(&mut self) {
        let now = self.now.mono;
        for (_, is_settled) in self.state.sweep.heirs.values_mut() {
            *is_settled = true;
        }
        self.state.sweep.next = 0;
        self.state.sweep.look_at(now);
    }

    /// Returns the node at which the calls of a life go on because its addresses go there, if it has
    /// a copy.
    pub(super) fn heir_of_calls(
        &self,
        id: &ActorId,
        owner: NodeInst,
        conf: Option<&Conf>,
    ) -> Option<NodeInst> {
        let (node, _) = self.state.sweep.heirs.get(&owner)?;
        let is_of_call = id.record_owner().kind() == Kind::Call;
        let has_copy = conf.is_some_and(|conf| conf.nodes().contains(node));
        (is_of_call && has_copy).then(|| self.life_of(*node))?
    }

    /// Returns until when a call waits for an address that is to come here.
    fn waits_for_address(&self, owner: NodeInst) -> Option<Time> {
        let (node, is_settled) = self.state.sweep.heirs.get(&owner)?;
        let begins = self.state.sweep.missing.begins(owner)?;
        let until = begins + Duration::from_millis(ADDRESS_WAIT_MS);
        let waits = *node == self.me().node && !is_settled && until > self.now.mono;
        waits.then_some(until)
    }

    /// A record has what it lacked: its header is to say so.
    pub(super) fn sweep_mend(&mut self, id: ActorId) {
        self.state.sweep.mends.insert(id);
        self.state.sweep.work_at.get_or_insert(self.now.mono);
    }

    /// A record was taken over: its former owner may have been in the midst of a change of holders.
    pub(super) fn sweep_taken(&mut self, id: ActorId) {
        let records = &self.fabric.inner.records;
        let header = records.change(&id, |owned| owned.header().clone());
        if header.is_some_and(|header| !header.is_ended() && self.wants_mending(&header)) {
            self.sweep_mend(id);
        }
    }

    /// Another node has won a record. If that node dies before it has written anything, its claim is all
    /// there is of it, and nobody else would ever go on: the record still names this life.
    pub(super) fn sweep_lost(&mut self, id: &ActorId) {
        self.look_at_lost(id.clone(), LOST_LATELY);
    }

    fn look_at_lost(&mut self, id: ActorId, after: Duration) {
        let lost = &mut self.state.sweep.lost;
        if lost.len() < CLAIMS_LOST_MAX {
            lost.insert((self.now.mono + after, id));
        }
    }

    fn lost_due(&mut self) {
        for _ in 0..SWEEP_HEADERS_PER_TURN {
            let first = self.state.sweep.lost.first();
            if first.is_none_or(|(at, _)| *at > self.now.mono) {
                return;
            }
            let Some((_, id)) = self.state.sweep.lost.pop_first() else {
                return;
            };
            let records = &self.fabric.inner.records;
            let runs = records.change(&id, |owned| owned.epoch()).is_some();
            if runs || !self.has_been_ours(&id) {
                continue;
            }
            // A shell that only waits, or leaves.
            if self.fabric.find(&id).is_some() || !self.knows_all_of(&id) {
                self.look_at_lost(id, LOST_AGAIN_AFTER);
                continue;
            }
            tracing::info!(actor = %id, "a claim took it that nothing has followed: it is taken back");
            let sweep = &mut self.state.sweep;
            if id.kind() == Kind::Call {
                sweep.calls.push_back(id);
            } else {
                sweep.others.push_back(id);
            }
            sweep.work_at.get_or_insert(self.now.mono);
        }
    }

    /// Tells whether nobody has more of a record than this node: it was compared with the others, and
    /// no node is missed. One that is cut off from most others cannot say so.
    pub(super) fn knows_all_of(&self, id: &ActorId) -> bool {
        let shard = cluster::shard(self.fabric.inner.records.ids().record_key(id));
        let is_settled = self.state.desk.is_settled(shard) && !self.has_found_nobody();
        is_settled && !self.is_cut_off() && !self.is_in_doubt() && !self.misses_somebody()
    }

    /// Tells whether this node is alone since it started, and has not looked yet whom it misses: that
    /// there is nobody to compare with says nothing then.
    fn has_found_nobody(&self) -> bool {
        let me = self.me();
        let is_alone = self.state.lives.iter().all(|life| *life == me);
        is_alone && !self.state.sweep.has_looked
    }

    /// Tells whether a node is proven dead, and has not come back.
    pub(super) fn is_proven_gone(&self, node: NodeId) -> bool {
        let mut gone = self.state.sweep.missing.iter();
        self.life_of(node).is_none() && gone.any(|(life, gone)| life.node == node && gone.is_proven)
    }

    /// Tells whether more nodes have fallen silent than are left.
    pub(super) fn is_cut_off(&self) -> bool {
        let left = self.state.lives.len();
        self.state.sweep.missing.is_more_than(left)
    }

    /// Tells whether a node has fallen silent not long ago: what nobody else has, that one may.
    pub(super) fn misses_somebody(&self) -> bool {
        let mut gone = self.state.sweep.missing.iter();
        gone.any(|(_, gone)| !gone.is_proven && gone.since + MISSED_FOR > self.now.mono)
    }

    /// Cores are told with their next event.
    fn note_cut(&self) {
        let is_cut_off = self.is_cut_off();
        self.replicas.is_cut_off.store(is_cut_off, Ordering::SeqCst);
    }

    /// Tells whether it was noticed that a life is gone.
    pub(super) fn is_known_gone(&self, life: NodeInst) -> bool {
        let gone = self.state.sweep.missing.get(life);
        gone.is_some_and(|gone| gone.since <= self.now.mono)
    }

    /// Tells whether a call of that life may be gone on with here (§5).
    pub(super) fn may_take_call(&self, owner: NodeInst) -> Verdict {
        if self.life_of(owner.node).is_some_and(|life| life != owner) {
            // That node has started again: it has said itself that the life is over.
            return Verdict::Now;
        }
        self.state.sweep.missing.verdict(owner, self.now.mono)
    }

    pub(super) fn sweep_due(&mut self) {
        if self.fabric.is_quarantined() {
            // It looks when that is over.
            self.state.sweep.at = None;
            self.state.sweep.work_at = None;
            self.state.sweep.lost.clear();
            return;
        }
        self.lost_due();
        if self.state.sweep.at.is_some_and(|at| at <= self.now.mono) {
            self.state.sweep.at = None;
            self.look();
        }
        if self
            .state
            .sweep
            .work_at
            .is_some_and(|at| at <= self.now.mono)
        {
            self.work_off();
        }
    }

    /// Goes over the headers that are held here.
    fn look(&mut self) {
        if self.state.sweep.next == 0 {
            self.state.sweep.began = self.now.mono;
        }
        let found = self.fabric.inner.started.mono + FIRST_VIEW;
        let mut seen = 0;
        while seen < SWEEP_HEADERS_PER_TURN && self.state.sweep.next < REPAIR_ORDER.len() * SHARDS {
            let headers = self.headers(self.state.sweep.next);
            self.state.sweep.next += 1;
            seen += headers.len();
            for header in headers {
                let is_left = self.judge(&header);
                self.state.sweep.is_left |= is_left;
            }
        }
        let sweep = &mut self.state.sweep;
        if sweep.next < REPAIR_ORDER.len() * SHARDS {
            sweep.look_at(self.now.mono + LOOK_EVERY);
        } else {
            sweep.next = 0;
            let is_left = std::mem::take(&mut sweep.is_left);
            sweep.look_at(
                self.now.mono
                    + if is_left {
                        NEXT_RANK_AFTER
                    } else {
                        SWEEP_EVERY
                    },
            );
            if sweep.began < found {
                // Nobody says that a node is gone which was never found.
                sweep.look_at(found);
            } else {
                sweep.has_looked = true;
            }
        }
        if !(sweep.calls.is_empty() && sweep.others.is_empty() && sweep.mends.is_empty()) {
            sweep.work_at.get_or_insert(self.now.mono);
        }
    }

    fn headers(&self, step: usize) -> Vec<Header> {
        let kind = REPAIR_ORDER[step / SHARDS];
        let shard = u8::try_from(step % SHARDS).unwrap_or(u8::MAX);
        let store = self.fabric.env().store();
        let mut headers = Vec::new();
        let mut take = |_, header: &Header| {
            headers.push(header.clone());
            ControlFlow::Continue(())
        };
        let scanned = cluster::scan_shard(store.as_ref(), kind, shard, &|_| true, &mut take);
        if let Err(error) = scanned {
            tracing::error!(%error, shard, "the records of this node cannot be read");
        }
        headers
    }

    /// Notes what is to be done with a record; true if its owner is gone.
    fn judge(&mut self, header: &Header) -> bool {
        let id = &header.id;
        if header.is_ended() {
            if header.expires <= self.now.utc && self.fabric.find(id).is_none() {
                self.forget(header);
            }
            return false;
        }
        if desk::is_stray(header, self.me().node) {
            if header.expires <= self.now.utc && self.fabric.find(id).is_none() {
                self.forget(header);
            }
            return false;
        }
        if header.owner.node == self.me().node {
            // Of a former life, too: it is claimed by its shell then.
            if self.wants_mending(header) {
                self.state.sweep.mends.insert(id.clone());
            }
            return false;
        }
        if self.standing(header.owner) != Standing::Gone {
            return false;
        }
        let since = self.missed_since(header.owner);
        if since > self.now.mono {
            self.state.sweep.look_at(since);
            return true;
        }
        let waited = self.now.mono.since(since).as_millis() / NEXT_RANK_AFTER.as_millis();
        let round = usize::try_from(waited).unwrap_or(usize::MAX);
        if self.heir_after(id, header.owner, Some(&header.conf), round) == self.me() {
            if id.kind() != Kind::Call {
                self.state.sweep.others.push_back(id.clone());
            } else if let Some(until) = self.waits_for_address(header.owner) {
                self.state.sweep.look_at(until);
            } else {
                match self.may_take_call(header.owner) {
                    Verdict::Now => self.state.sweep.calls.push_back(id.clone()),
                    Verdict::At(at) => self.state.sweep.look_at(at),
                    Verdict::No => {}
                }
            }
        }
        true
    }

    /// Returns since when a life is missed: one that was never seen may not have found this node yet.
    fn missed_since(&mut self, owner: NodeInst) -> Time {
        let now = self.now.mono;
        let missing = &mut self.state.sweep.missing;
        if missing.get(owner).is_none() {
            let since = now.max(self.fabric.inner.started.mono + FIRST_VIEW);
            missing.fell(owner, false, since, now);
            self.note_cut();
        }
        let gone = self.state.sweep.missing.get(owner);
        gone.map_or(now, |gone| gone.since)
    }

    fn wants_mending(&self, header: &Header) -> bool {
        // What this life cannot mend yet it hears of when it can: `Healed`.
        let may_be_whole = header.owner != self.me() || self.reaches_enough(&header.conf);
        (header.degraded && may_be_whole)
            || match &header.conf {
                Conf::Joint { .. } => true,
                Conf::Settled(set) => {
                    let wanted = self.fabric.placed(&header.id);
                    let mut wanted = wanted.nodes().iter();
                    wanted.any(|node| !set.nodes().contains(node))
                }
            }
    }

    /// Forgets a tombstone, if the others have it: else the next look at it tries again.
    fn forget(&mut self, header: &Header) {
        let id = &header.id;
        if header.is_ended() && self.may_come_back(header) {
            return;
        }
        let shard = cluster::shard(self.fabric.inner.records.ids().record_key(id));
        let Some(until) = self.state.repair.known_until(self.now, shard) else {
            return;
        };
        let store = self.fabric.env().store();
        let actions = self.state.desk.forget(store.as_ref(), until, id);
        self.state.work.extend(actions.into_iter().map(Work::Desk));
    }

    /// Tells whether a node that is away may bring back what was before a tombstone: with that gone, its
    /// copy is the newest there is, and a call that has ended is there again.
    ///
    /// Who hears nothing of the others has nobody in its view to ask, and a holder that is away has not
    /// heard of the end. The tombstone names who holds it now: a node that is missed since a moment ago
    /// may have its copy from before the holders changed.
    fn may_come_back(&self, header: &Header) -> bool {
        let until = header
            .expires
            .after(Duration::from_millis(TOMBSTONE_AWAITS_MS));
        let mut holders = header.conf.nodes().into_iter();
        until > self.now.utc
            && (holders.any(|node| self.life_of(node).is_none())
                || self.is_cut_off()
                || self.misses_somebody())
    }

    /// Begins and mends a few.
    fn work_off(&mut self) {
        for _ in 0..SWEEP_JOBS_PER_TURN {
            if self.state.claims.len() >= CLAIMS_MAX {
                break;
            }
            let sweep = &mut self.state.sweep;
            if let Some(id) = sweep.calls.pop_front().or_else(|| sweep.others.pop_front()) {
                self.fabric.awaken(&id, &mut None);
            } else if let Some(id) = self.state.sweep.mends.pop_first() {
                let entry = self.fabric.find(&id);
                if entry.is_none() && self.has_ended(&id) {
                    continue;
                }
                let entry = entry.or_else(|| self.fabric.awaken(&id, &mut None));
                if let Some(entry) = entry {
                    entry.push_side(Side::Mend);
                }
            }
        }
        let sweep = &mut self.state.sweep;
        let is_done = sweep.calls.is_empty() && sweep.others.is_empty() && sweep.mends.is_empty();
        sweep.work_at = (!is_done).then_some(self.now.mono + TURN_EVERY);
    }

    fn has_ended(&self, id: &ActorId) -> bool {
        let store = self.fabric.env().store();
        let held = self.state.desk.held(store.as_ref(), id).ok();
        let image = held.and_then(|held| held.image);
        image.is_none_or(|image| image.header.is_ended())
    }

    /// A passive record's deadline has passed, or a tombstone's time.
    pub(super) fn wake(&mut self, id: &ActorId) {
        let store = self.fabric.env().store();
        let Ok(held) = self.state.desk.held(store.as_ref(), id) else {
            return;
        };
        let Some(image) = held.image else { return };
        let header = &image.header;
        if !header.is_ended() {
            if header.owner.node == self.me().node {
                self.fabric.awaken(id, &mut None);
            }
        } else if header.expires <= self.now.utc {
            self.forget(header);
        } else {
            self.fabric.inner.index.set_passive(id, header.expires);
        }
    }
}
