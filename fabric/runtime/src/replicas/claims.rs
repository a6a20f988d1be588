//! How a shell of this node comes to own a record (`cluster.md` §4, `activate`).
//!
//! In: shells that begin, answers of holders, the time. Out: one outcome for each shell. The own
//! desk is asked first: its answer makes the epoch durable; the other holders are asked then.
//!
//! | what is held here | then |
//! |---|---|
//! | the record, owned by this very life | `Own`, at once |
//! | a record whose owner lives elsewhere | `Elsewhere` |
//! | a call of a node that is merely silent | `Failed` |
//! | nothing, and others say that a merely silent node has that call | `Failed`, but to what makes it |
//! | anything else | a claim: `Won`, `Lost` |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use cluster::{
    Activation, Epoch, Frame, Header, HolderReply, HolderSet, Image, Step, Verdict, Version,
};
use contract::core::Roster;
use contract::limits::{CLAIM_WAIT_CALL_MS, CLAIM_WAIT_MS, CLAIMS_LOST_MAX};
use contract::{ActorId, FrameClass, Kind, MoveFault, NodeId, NodeInst, Time};

use super::commits::Own;
use super::{Standing, Turn};
use crate::entry::Side;
use crate::mesh::FIRST_VIEW;

/// How long a node that has just started waits for the holders of its former life's records to be
/// reachable. For those of calls it waits until it has found the others (`FIRST_VIEW`): two holders
/// make each a quorum of its own, so that one which has seen this node die may run the call.
const FIRST_LINKS: Duration = Duration::from_secs(1);
/// Between two questions to them, as long as it may come to nothing more than a moment, and later: all of
/// a node's calls ask.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);
const ASK_LATER_AFTER: Duration = Duration::from_millis(500);

/// How long a call that another node has won is not claimed while its copy here still names this node:
/// in that time the views agree again.
pub(super) const LOST_LATELY: Duration = Duration::from_secs(5);

/// How often a claim of a call waits anew for holders that are silent and not proven dead: one that
/// was cut off while it started again would go on with what others have gone on with.
const WAITS_FOR_SILENT: u32 = 3;

/// What came of it.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// The record is this very life's: its shell was passive.
    Own(Box<Image>),
    /// It is this node's now, under this epoch.
    Won {
        epoch: Epoch,
        /// The newest record that was found, and the copies of its owner's part, the newest first.
        newest: Option<Box<Image>>,
        copies: Vec<Bytes>,
        /// Fewer holders than wanted have answered.
        degraded: bool,
        /// Who is to hold a record that is only begun.
        placed: HolderSet,
        /// The node that hands it over, if that lives.
        giver: Option<NodeInst>,
        /// Who owned it is not proven to be dead; or it was this node, and another may go on with it.
        may_live: bool,
        /// Most of its holders have not been heard: those that are thought dead may have started again
        /// and go on with it among themselves.
        may_be_outvoted: bool,
    },
    /// It is another node's.
    Elsewhere,
    /// It could not be claimed.
    Failed,
}

/// Claims under way, one an ID.
#[derive(Default)]
pub(super) struct Claims {
    claims: BTreeMap<ActorId, Claim>,
    numbers: BTreeMap<u64, (ActorId, NodeId)>,
    due: BTreeSet<(Time, ActorId)>,
    again: BTreeSet<(Time, ActorId)>,
    /// Records of a former life: whether others go on with them is asked before they are claimed.
    asked: BTreeSet<ActorId>,
    /// Calls that another node has won, and when. Bound: `CLAIMS_LOST_MAX`.
    lost: BTreeMap<ActorId, Time>,
    last: u64,
}

struct Claim {
    activation: Activation,
    placed: HolderSet,
    due: Time,
    /// The own desk has granted it.
    is_durable: bool,
    /// How often it was waited for holders that are merely silent.
    waits: u32,
}

impl Claims {
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let both = [self.due.first(), self.again.first()];
        both.into_iter().flatten().map(|(at, _)| *at).min()
    }

    pub(super) fn is_claiming(&self, id: &ActorId) -> bool {
        self.claims.contains_key(id)
    }

    pub(super) fn len(&self) -> usize {
        self.claims.len()
    }

    /// A record was won by another node: that one is alive, whatever this one has heard of it. Two
    /// that think each other gone would win a call from each other without end.
    pub(super) fn has_lost(&mut self, id: &ActorId, now: Time) {
        if id.kind() != Kind::Call {
            return;
        }
        if self.lost.len() >= CLAIMS_LOST_MAX {
            self.lost.retain(|_, at| *at + LOST_LATELY > now);
        }
        if self.lost.len() < CLAIMS_LOST_MAX {
            self.lost.insert(id.clone(), now);
        }
    }

    fn has_lost_lately(&self, id: &ActorId, now: Time) -> bool {
        let lost = self.lost.get(id);
        lost.is_some_and(|at| *at + LOST_LATELY > now)
    }

    fn remove(&mut self, id: &ActorId) -> Option<Claim> {
        let claim = self.claims.remove(id)?;
        self.due.remove(&(claim.due, id.clone()));
        self.numbers.retain(|_, (of, _)| of != id);
        Some(claim)
    }
}

impl<R: Roster> Turn<'_, R> {
    pub(super) fn begin(&mut self, id: ActorId) {
        if self.state.claims.is_claiming(&id) || self.state.claims.asked.contains(&id) {
            return;
        }
        if self.is_in_doubt() {
            // Its own fence may be lost.
            return self.begin_later(id);
        }
        let others = self.others_of_former_life(&id);
        if others.is_empty() {
            return self.claim(id);
        }
        // Its epoch may be higher than that of who goes on with it, and would end that.
        self.state.claims.asked.insert(id.clone());
        let directory = &mut self.state.directory;
        let actions = directory.search(self.now, &id, others, usize::MAX);
        self.direct(actions);
    }

    /// Returns the other holders of a record that a former life of this node owned.
    fn others_of_former_life(&self, id: &ActorId) -> Vec<NodeId> {
        let (store, me) = (self.fabric.env().store(), self.me());
        let held = self.state.desk.held(store.as_ref(), id).ok();
        let header = held.and_then(|held| held.image).map(|image| image.header);
        let is_former = |header: &Header| {
            !header.is_ended() && header.owner.node == me.node && header.owner != me
        };
        let header = header.filter(is_former);
        let mut others = header.map(|header| header.conf.nodes()).unwrap_or_default();
        others.retain(|node| *node != me.node);
        others
    }

    /// The others have said where it is, if they know; true if it was asked for a claim.
    pub(super) fn asked_first(&mut self, id: &ActorId, owner: Option<NodeInst>) {
        if !self.state.claims.asked.remove(id) {
            return;
        }
        let patience = if is_of_call(id) {
            FIRST_VIEW
        } else {
            FIRST_LINKS
        };
        match owner {
            Some(owner) if owner.node != self.me().node && self.lives(owner) => {
                self.tell_claimed(id, Claimed::Elsewhere);
            }
            None if self.now.mono < self.fabric.inner.started.mono + patience => {
                let is_soon = self.now.mono < self.fabric.inner.started.mono + FIRST_LINKS;
                let after = if is_soon {
                    ASK_AGAIN_AFTER
                } else {
                    ASK_LATER_AFTER
                };
                let at = self.now.mono + after;
                self.state.claims.again.insert((at, id.clone()));
            }
            Some(_) | None => self.claim(id.clone()),
        }
    }

    fn claim(&mut self, id: ActorId) {
        let store = self.fabric.env().store();
        let mut held = match self.state.desk.held(store.as_ref(), &id) {
            Ok(held) => held,
            Err(error) => {
                tracing::error!(actor = %id, %error, "a record cannot be read");
                return self.tell_claimed(&id, Claimed::Failed);
            }
        };
        // A fence that was seen, and that the own disk may not have taken.
        let seen = self.state.replicator.lost_to_epoch(&id);
        held.fence = held.fence.max(seen.unwrap_or_default());
        let giver = self.state.moves.giver(&id);
        // Its owner has said under which epoch it is given away.
        let given = giver.map(|(_, epoch)| epoch);
        let is_given = |header: &Header| given.is_some_and(|epoch| header.version.epoch <= epoch);
        let me = self.me();
        let current = held.image.as_ref().map(|image| &image.header);
        match current.filter(|header| !header.is_ended()) {
            Some(header) if header.owner == me && header.version.epoch == held.fence => {
                let image = held.image.map(Box::new);
                return match image {
                    Some(image) => self.tell_claimed(&id, Claimed::Own(image)),
                    None => self.tell_claimed(&id, Claimed::Failed),
                };
            }
            Some(_) if self.state.moves.is_given_away(&id) => {
                return self.tell_claimed(&id, Claimed::Elsewhere);
            }
            Some(header) if is_given(header) => {}
            Some(header) if header.owner.node != me.node && self.lives(header.owner) => {
                return self.tell_claimed(&id, Claimed::Elsewhere);
            }
            Some(header) if self.is_barred(&id, header.owner) => {
                return self.tell_claimed(&id, Claimed::Failed);
            }
            Some(_) => {}
            None if giver.is_some() => {}
            None => {
                let ended = current.map(|header| header.version);
                if let Some(outcome) = self.by_word_of_others(&id, ended) {
                    return self.tell_claimed(&id, outcome);
                }
            }
        }
        held.fence = held.fence.max(given.unwrap_or_default());
        let placed = self.fabric.placed(&id);
        let ids = self.fabric.inner.records.ids();
        // The desk writes the fence itself, and answers when it is durable.
        let (activation, _) = Activation::begin(&id, &held, placed.clone(), me.node, ids);
        let request = activation.request();
        let due = self.now.mono + wait(&id);
        self.state.claims.due.insert((due, id.clone()));
        let claim = Claim {
            activation,
            placed,
            due,
            is_durable: false,
            waits: 0,
        };
        self.state.claims.claims.insert(id.clone(), claim);
        self.ask_own(request, Own::Claim(id));
    }

    /// A call that may well be alive on a node that is merely silent is left alone (§5).
    fn is_barred(&self, id: &ActorId, owner: NodeInst) -> bool {
        if owner.node == self.me().node {
            return self.state.claims.has_lost_lately(id, self.now.mono);
        }
        id.kind() == Kind::Call && self.may_take_call(owner) != Verdict::Now
    }

    /// Returns what comes of a claim of what is not held here, if others have said where it is; `ended` is
    /// the version of its tombstone here. A call that is on a merely silent node is left alone, as if
    /// a copy were here: the claim would find nothing, say that there is no such call, and fence
    /// its owner.
    fn by_word_of_others(&mut self, id: &ActorId, ended: Option<Version>) -> Option<Claimed> {
        // A message that is sent after it goes by the same: else it would come back here.
        let owner = self.state.directory.known_after(id, ended)?;
        if owner.node == self.me().node {
            return None;
        }
        if self.lives(owner) {
            return Some(Claimed::Elsewhere);
        }
        if ended.is_some() || !self.is_barred(id, owner) || self.is_made_anew(id) {
            return None;
        }
        // It may have gone on elsewhere meanwhile: who comes again asks the holders.
        self.state.directory.forget(id, owner);
        Some(Claimed::Failed)
    }

    /// Tells whether what waits for an actor here makes it: an INVITE is served by whoever hears it.
    fn is_made_anew(&self, id: &ActorId) -> bool {
        let first = self.fabric.find(id).and_then(|entry| entry.first_message());
        let site = self.fabric.site();
        first.is_some_and(|first| R::create(id, &first, site.as_ref()).is_some())
    }

    fn lives(&self, life: NodeInst) -> bool {
        self.standing(life) != Standing::Gone
    }

    /// The own desk, or another holder, has answered.
    pub(super) fn claim_answer(&mut self, id: &ActorId, from: NodeId, reply: HolderReply) {
        let me = self.me().node;
        let Some(claim) = self.state.claims.claims.get_mut(id) else {
            return;
        };
        let is_first = from == me && !claim.is_durable;
        claim.is_durable |= from == me && matches!(reply, HolderReply::Granted { .. });
        let step = claim.activation.answer(from, reply);
        let others = if is_first {
            claim.activation.unanswered()
        } else {
            Vec::new()
        };
        match step {
            Step::Wait => self.ask_claim(id, others),
            Step::Ask(more) => self.ask_claim(id, more),
            Step::Won { newest, degraded } => self.won(id, newest, degraded),
            Step::Lost(epoch) => self.claim_fenced(id, epoch),
        }
    }

    pub(super) fn claim_reply(&mut self, from: NodeId, number: u64, reply: HolderReply) {
        let asked = self.state.claims.numbers.get(&number);
        let Some((id, _)) = asked.filter(|(_, node)| *node == from).cloned() else {
            return;
        };
        self.state.claims.numbers.remove(&number);
        self.claim_answer(&id, from, reply);
    }

    fn ask_claim(&mut self, id: &ActorId, nodes: Vec<NodeId>) {
        let me = self.me().node;
        let Some(claim) = self.state.claims.claims.get(id) else {
            return;
        };
        let request = claim.activation.request();
        for node in nodes {
            if node == me {
                let own = Own::Claim(id.clone());
                self.ask_own(request.clone(), own);
                continue;
            }
            let claims = &mut self.state.claims;
            // Odd, so that commits can use even ones.
            claims.last += 2;
            let number = claims.last - 1;
            claims.numbers.insert(number, (id.clone(), node));
            let request = request.clone();
            self.send_to(node, FrameClass::Commit, &Frame::Ask { number, request });
        }
    }

    /// A node is connected: what it has not answered it is asked again.
    pub(super) fn claim_again_at(&mut self, node: NodeId) {
        // Whoever waits for anybody to ask.
        let waiting = std::mem::take(&mut self.state.claims.again);
        let now = self.now.mono;
        let due = waiting.into_iter().map(|(at, id)| (at.min(now), id));
        self.state.claims.again = due.collect();
        let claims = self.state.claims.claims.iter();
        let waiting = claims
            .filter(|(_, claim)| claim.is_durable && claim.activation.unanswered().contains(&node));
        let waiting: Vec<ActorId> = waiting.map(|(id, _)| id.clone()).collect();
        for id in waiting {
            self.ask_claim(&id, vec![node]);
        }
    }

    pub(super) fn begin_later(&mut self, id: ActorId) {
        let at = self.now.mono + Duration::from_millis(CLAIM_WAIT_MS);
        self.state.claims.again.insert((at, id));
    }

    pub(super) fn claims_due(&mut self) {
        while let Some((at, id)) = self.state.claims.again.pop_first() {
            if at > self.now.mono {
                self.state.claims.again.insert((at, id));
                break;
            }
            self.begin(id);
        }
        while let Some((at, id)) = self.state.claims.due.first().cloned() {
            if at > self.now.mono {
                return;
            }
            self.state.claims.due.pop_first();
            let Some(claim) = self.state.claims.claims.get_mut(&id) else {
                continue;
            };
            if !claim.is_durable {
                // The own disk is slow; without it there is no claim.
                claim.due = self.now.mono + wait(&id);
                let due = (claim.due, id.clone());
                self.state.claims.due.insert(due);
                continue;
            }
            let silent = claim.activation.unanswered();
            if is_of_call(&id) && claim.waits < WAITS_FOR_SILENT && self.may_live(&silent) {
                self.wait_again(&id);
                continue;
            }
            self.win_with_what_there_is(&id);
        }
    }

    /// Nodes have left the view: a claim that waits for nobody else waits in vain. Of a call that
    /// nobody has heard of, the members of the new view alone would be asked now; what exists may be
    /// alive on a node that is merely silent (§5).
    pub(super) fn claims_without_the_gone(&mut self) {
        let is_vain = |id: &ActorId, claim: &Claim| {
            let silent = claim.activation.unanswered();
            let is_new_call = id.kind() == Kind::Call && !claim.activation.knows_a_record();
            let is_out = |node: &NodeId| {
                self.life_of(*node).is_none() && (is_new_call || self.is_proven_gone(*node))
            };
            claim.is_durable && silent.iter().all(is_out)
        };
        let claims = self.state.claims.claims.iter();
        let vain = claims.filter(|(id, claim)| is_vain(id, claim));
        let vain: Vec<ActorId> = vain.map(|(id, _)| id.clone()).collect();
        for id in vain {
            let placed = self.fabric.placed(&id);
            if let Some(claim) = self.state.claims.claims.get_mut(&id) {
                claim.placed = placed;
            }
            self.win_with_what_there_is(&id);
        }
    }

    fn win_with_what_there_is(&mut self, id: &ActorId) {
        let Some(claim) = self.state.claims.claims.get_mut(id) else {
            return;
        };
        match claim.activation.give_up_waiting() {
            Step::Won { newest, degraded } => self.won(id, newest, degraded),
            Step::Lost(epoch) => self.claim_fenced(id, epoch),
            Step::Wait | Step::Ask(_) => {}
        }
    }

    /// Tells whether a holder that has not answered could not: it is not connected, nor proven dead.
    fn is_unheard(&self, activation: &Activation) -> bool {
        let is_away = |node: &NodeId| self.fabric.inner.mesh.life(*node).is_none();
        let mut silent = activation.unanswered();
        silent.retain(is_away);
        self.may_live(&silent)
    }

    /// Tells whether one of these nodes may have gone on with what is claimed: it is not proven dead.
    fn may_live(&self, nodes: &[NodeId]) -> bool {
        nodes.iter().any(|node| !self.is_proven_gone(*node))
    }

    fn wait_again(&mut self, id: &ActorId) {
        let due = self.now.mono + wait(id);
        if let Some(claim) = self.state.claims.claims.get_mut(id) {
            claim.waits += 1;
            claim.due = due;
            self.state.claims.due.insert((due, id.clone()));
        }
    }

    fn won(&mut self, id: &ActorId, newest: Option<Box<Image>>, degraded: bool) {
        let Some(claim) = self.state.claims.remove(id) else {
            return;
        };
        let epoch = claim.activation.epoch();
        let store = self.fabric.env().store();
        let held = self.state.desk.held(store.as_ref(), id);
        if held.is_ok_and(|held| held.fence != epoch) {
            return self.tell_claimed(id, Claimed::Elsewhere);
        }
        if degraded {
            tracing::warn!(actor = %id, %epoch, "claimed with fewer holders than wanted");
        }
        // Where it was: once it has ended here, nothing is to be sent there any more.
        if let Some((owner, _)) = self.state.directory.known(id) {
            self.state.directory.forget(id, owner);
        }
        let giver = self.state.moves.giver(id).map(|(giver, _)| giver);
        let giver = giver.filter(|giver| self.standing(*giver) == Standing::Connected);
        let former = newest.as_ref().map(|image| image.header.owner);
        let has_rival = claim.activation.may_have_rival() && self.is_unheard(&claim.activation);
        let may_live = former.is_some_and(|life| {
            if life.node == self.me().node {
                return has_rival;
            }
            // One that has started again has said itself that its former life is over.
            self.life_of(life.node).is_none_or(|now| now == life) && !self.is_proven_gone(life.node)
        });
        let may_be_outvoted = claim.activation.may_be_outvoted();
        let mut images: Vec<&Image> = claim.activation.images().collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.header.version));
        let parts = images.into_iter().filter(|image| !image.header.is_ended());
        let copies = parts.filter_map(|image| image.parts.get(id)).cloned();
        let won = Claimed::Won {
            epoch,
            copies: copies.collect(),
            newest,
            degraded,
            placed: claim.placed,
            giver,
            may_live,
            may_be_outvoted,
        };
        self.tell_claimed(id, won);
    }

    /// A higher epoch is known, or that of the claim was used before: if a claim of this node is under
    /// way, it is lost.
    pub(super) fn claim_fenced(&mut self, id: &ActorId, epoch: Epoch) {
        let claims = &self.state.claims.claims;
        if claims
            .get(id)
            .is_none_or(|claim| claim.activation.epoch() > epoch)
        {
            return;
        }
        self.state.claims.remove(id);
        let is_own = epoch.by == self.me().node;
        if !is_own {
            self.sweep_lost(id);
        }
        if let Some(winner) = self.life_of(epoch.by) {
            let actions = self.state.directory.hint(id, winner);
            self.direct(actions);
        }
        self.tell_claimed(id, Claimed::Elsewhere);
        if is_own {
            // Of a record that is forgotten here: the next claim goes above it.
            let actions = self.state.replicator.saw(id, epoch);
            self.replicate(actions);
        }
    }

    pub(super) fn claim_failed(&mut self, id: &ActorId, why: &'static str) {
        if self.state.claims.remove(id).is_some() {
            tracing::error!(actor = %id, why, "a claim failed");
            self.tell_claimed(id, Claimed::Failed);
        }
    }

    fn tell_claimed(&mut self, id: &ActorId, outcome: Claimed) {
        match &outcome {
            Claimed::Elsewhere => self.not_taken(id, MoveFault::Stale),
            Claimed::Failed => self.not_taken(id, MoveFault::NotTaken),
            Claimed::Own(_) | Claimed::Won { .. } => {}
        }
        if let Some(entry) = self.fabric.find(id) {
            entry.push_side(Side::Claimed(outcome));
        }
    }
}

const fn is_of_call(id: &ActorId) -> bool {
    matches!(
        id,
        ActorId::Call(_) | ActorId::Dialog(_) | ActorId::MediaLeg(_)
    )
}

fn wait(id: &ActorId) -> Duration {
    let ms = match id.kind() {
        Kind::Call | Kind::Dialog | Kind::MediaLeg => CLAIM_WAIT_CALL_MS,
        Kind::Registration
        | Kind::Gateway
        | Kind::Parking
        | Kind::Flow
        | Kind::DoorSession
        | Kind::Lane
        | Kind::Console
        | Kind::Member => CLAIM_WAIT_MS,
    };
    Duration::from_millis(ms)
}
