//! What a node of a cluster does with records beside the other nodes: commits at holders, claims,
//! the way of messages to actors that move (`cluster.md` §3, §4, §7).
//!
//! In: commits and claims of this node's shells, messages for recorded actors, frames, the view.
//! Out: batches, frames, events in inboxes, verdicts for shells. The rules are the pure machines of
//! `weft-cluster`; here they are given their inputs one at a time and what they want is done.
//!
//! Whoever has an input puts it into the queue; one of them takes all that is there, the others go
//! on. So nothing here waits for a lock of a caller, and a machine sees one input after the other.
//! To put in is allowed under the lock of a record, to work is not.
//!
//! ```text
//!  shell: commit, begin ─┐                 ┌─▶ store (own desk)
//!  tell ─────────────────┼─▶ queue ─▶ turn ┼─▶ frames to holders, owners
//!  frames, view, clock ──┘                 └─▶ shells: safe, fenced, claimed
//! ```

mod claims;
mod commits;
mod frames;
mod moves;
mod post;
mod quarantine;
mod repair;
mod sweep;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use cluster::{
    Candidate, Conf, Desk, DeskAction, Directory, DirectoryAction, Epoch, Frame, HolderSet, Image,
    Repair, RepairAction, ReplicationAction, Replicator, Version, placement,
};
use contract::core::Roster;
use contract::limits::NODE_INBOX_FRAMES_MAX;
use contract::{
    ActorId, FrameClass, Member, MemberState, MoveFault, NodeId, NodeInst, Now, StoreFault, Time,
};

pub(crate) use claims::Claimed;
pub(crate) use commits::Done;
pub(crate) use moves::Moved;
pub(crate) use post::Parcel;

use crate::fabric::Fabric;
use crate::mesh::FIRST_VIEW;

/// What is to be taken in.
pub(crate) enum Input<R: Roster> {
    /// A change of a record that a shell of this node owns.
    Commit { delta: Box<Image>, done: Done },
    /// The own store has written a batch of the desk, or not.
    Stored {
        number: u64,
        result: Result<(), StoreFault>,
    },
    /// A shell wants to own a record; `Side::Claimed` answers it.
    Begin { id: ActorId },
    /// The same, after a while: what it won could not be written.
    BeginLater { id: ActorId },
    /// A message for a recorded actor that does not run here.
    Post(Parcel<R>),
    /// The same, of a node that it has passed.
    Posted { via: NodeInst, parcel: Parcel<R> },
    /// An actor of this node is to be handed over, if it has that epoch.
    Move {
        id: ActorId,
        to: NodeInst,
        epoch: Option<u64>,
        done: Moved,
    },
    /// A shell that is to be handed over rests, and what it knows is safe.
    AtRest { number: u64, epoch: Epoch },
    /// It could not come to rest.
    Unmoved { number: u64, why: MoveFault },
    /// A record that was found is this node's, and that is safe.
    TakenIn { id: ActorId },
    /// A shell whose record is another node's has ended; what it had not read was posted.
    ShellLeft { id: ActorId },
    /// A frame of another node.
    Frame { from: NodeInst, frame: Frame },
    /// The view is another one.
    View,
    /// A node is connected, or not any more.
    Connected { life: NodeInst, is_connected: bool },
    /// A node is gone: its records are up for others.
    Down { life: NodeInst, is_proven: bool },
    /// Calls of a node that is about to be told gone go on at this one: its address goes there.
    Heir { of: NodeInst, node: NodeId },
    /// An address that calls wait for is here, or cannot be.
    AddressSettled,
    /// An actor was not found on a life that was thought to have it.
    Absent { id: ActorId, life: NodeInst },
    /// A passive record's deadline has passed, or a tombstone's time.
    Wake { id: ActorId },
    /// Something may be due.
    Tick,
}

/// The queue, and what the one who works has.
pub(crate) struct Replicas<R: Roster> {
    inputs: Mutex<VecDeque<Input<R>>>,
    is_working: AtomicBool,
    state: Mutex<State<R>>,
    due: Mutex<Option<Time>>,
    /// Messages that wait for a search: while there are any, no message goes past the queue.
    parcels: AtomicUsize,
    /// The store had lost something when the node started: it owns nothing until that is mended.
    is_quarantined: AtomicBool,
    /// More nodes have fallen silent than are left.
    is_cut_off: AtomicBool,
}

struct State<R: Roster> {
    replicator: Replicator,
    desk: Desk,
    directory: Directory,
    commits: commits::Commits,
    claims: claims::Claims,
    parcels: BTreeMap<ActorId, Vec<Parcel<R>>>,
    repair: Repair,
    sweep: sweep::Sweep,
    moves: moves::Moves<R>,
    quarantine: quarantine::Quarantine,
    /// The lives that were in the view when it was looked at last.
    lives: Vec<NodeInst>,
    work: VecDeque<Work>,
}

/// What a machine wants done.
enum Work {
    Replication(ReplicationAction),
    Desk(DeskAction),
    Directory(DirectoryAction),
    Repair(RepairAction),
}

impl<R: Roster> Replicas<R> {
    pub(crate) fn new(parts: &crate::Parts<R>) -> Self {
        let me = parts.me;
        Replicas {
            inputs: Mutex::new(VecDeque::new()),
            is_working: AtomicBool::new(false),
            state: Mutex::new(State {
                replicator: Replicator::new(me.node, parts.commit),
                desk: Desk::new(me.node, parts.ids.clone()),
                directory: Directory::new(me),
                commits: commits::Commits::default(),
                claims: claims::Claims::default(),
                parcels: BTreeMap::new(),
                repair: Repair::new(me.node),
                sweep: sweep::Sweep::default(),
                moves: moves::Moves::default(),
                quarantine: quarantine::Quarantine::default(),
                lives: Vec::new(),
                work: VecDeque::new(),
            }),
            due: Mutex::new(None),
            parcels: AtomicUsize::new(0),
            is_quarantined: AtomicBool::new(false),
            is_cut_off: AtomicBool::new(false),
        }
    }

    /// Tells whether more nodes have fallen silent than are left.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.is_cut_off.load(Ordering::SeqCst)
    }

    fn inputs(&self) -> MutexGuard<'_, VecDeque<Input<R>>> {
        self.inputs.lock().expect("no holder of the queue panics")
    }

    /// Puts something into the queue; [`Fabric::work`] is to follow, outside the lock of a record.
    pub(crate) fn put(&self, input: Input<R>) {
        self.inputs().push_back(input);
    }

    /// Tells whether messages wait for a search.
    pub(crate) fn has_parcels(&self) -> bool {
        self.parcels.load(Ordering::SeqCst) > 0
    }

    /// Returns when something is due.
    pub(crate) fn due(&self) -> Option<Time> {
        *self.due_lock()
    }

    /// Tells whether something is due, once: the next time is known when that was done. Who asks again
    /// and again while another thread works would give it one tick after the other, for ever.
    pub(crate) fn take_due(&self, now: Time) -> bool {
        self.due_lock().take_if(|due| *due <= now).is_some()
    }

    fn due_lock(&self) -> MutexGuard<'_, Option<Time>> {
        self.due.lock().expect("no holder of the time panics")
    }
}

impl<R: Roster> Fabric<R> {
    /// Puts something into the queue and works; nothing happens on a node that is alone.
    pub(crate) fn give(&self, input: Input<R>) {
        if let Some(replicas) = &self.inner.replicas {
            replicas.put(input);
            self.work();
        }
    }

    /// Puts a frame into the queue, unless that is full: its sender asks again, or is told.
    pub(crate) fn give_frame(&self, from: NodeInst, frame: Frame) -> bool {
        let Some(replicas) = &self.inner.replicas else {
            return false;
        };
        {
            let mut inputs = replicas.inputs();
            if inputs.len() >= NODE_INBOX_FRAMES_MAX {
                return false;
            }
            inputs.push_back(Input::Frame { from, frame });
        }
        self.work();
        true
    }

    /// Takes what is in the queue, unless somebody does so already.
    pub(crate) fn work(&self) {
        let Some(replicas) = &self.inner.replicas else {
            return;
        };
        loop {
            if replicas.is_working.swap(true, Ordering::SeqCst) {
                return;
            }
            {
                let mut state = replicas.state.lock().expect("no holder of it panics");
                loop {
                    // The lock of the queue is not held while an input is taken.
                    let next = replicas.inputs().pop_front();
                    let Some(input) = next else { break };
                    if self.is_revoked() {
                        continue;
                    }
                    Turn::new(self, replicas, &mut state).take(input);
                }
                self.set_due(replicas, &state);
            }
            replicas.is_working.store(false, Ordering::SeqCst);
            if replicas.inputs().is_empty() {
                return;
            }
        }
    }

    fn set_due(&self, replicas: &Replicas<R>, state: &State<R>) {
        let next = [
            state.replicator.next_deadline(),
            state.directory.next_deadline(),
            state.claims.next_deadline(),
            state.repair.next_deadline(),
            state.sweep.next_deadline(),
            state.moves.next_deadline(),
            state.quarantine.next_deadline(),
        ];
        let next = next.into_iter().flatten().min();
        let former = std::mem::replace(&mut *replicas.due_lock(), next);
        if next.is_some_and(|next| former.is_none_or(|former| next < former)) {
            self.inner.index.changed.notify_one();
        }
    }
}

/// One input is taken.
struct Turn<'a, R: Roster> {
    fabric: &'a Fabric<R>,
    replicas: &'a Replicas<R>,
    state: &'a mut State<R>,
    now: Now,
}

/// What this node thinks of a life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// This very life.
    Me,
    /// Frames go there.
    Connected,
    /// It is a member, but cannot be reached right now.
    Away,
    /// It is gone.
    Gone,
}

impl<'a, R: Roster> Turn<'a, R> {
    fn new(fabric: &'a Fabric<R>, replicas: &'a Replicas<R>, state: &'a mut State<R>) -> Self {
        Turn {
            fabric,
            replicas,
            state,
            now: fabric.now(),
        }
    }

    fn take(&mut self, input: Input<R>) {
        match input {
            Input::Commit { delta, done } => self.commit(*delta, done),
            Input::Stored { number, result } => self.stored(number, result),
            Input::Begin { id } => self.begin(id),
            Input::BeginLater { id } => self.begin_later(id),
            Input::Post(parcel) => {
                if let Some(parcel) = self.wait_for_move(None, parcel) {
                    self.post(parcel);
                }
            }
            Input::Posted { via, parcel } => {
                if let Some(parcel) = self.wait_for_move(Some(via), parcel) {
                    self.unlearn(&parcel.to);
                    self.post(parcel);
                }
            }
            Input::Move {
                id,
                to,
                epoch,
                done,
            } => self.move_out(id, to, epoch, done),
            Input::AtRest { number, epoch } => self.at_rest(number, epoch),
            Input::Unmoved { number, why } => self.move_refused(number, why),
            Input::TakenIn { id } => {
                self.taken_in(&id);
                self.sweep_taken(id);
            }
            Input::ShellLeft { id } => self.shell_left(&id),
            Input::Frame { from, frame } => self.frame(from, frame),
            Input::View => self.view(),
            Input::Connected { life, is_connected } => self.connected(life, is_connected),
            Input::Down { life, is_proven } => {
                self.moves_lost(life);
                self.sweep_down(life, is_proven);
                self.claims_without_the_gone();
            }
            Input::Heir { of, node } => self.sweep_heir(of, node),
            Input::AddressSettled => self.sweep_address_settled(),
            Input::Absent { id, life } => self.state.directory.forget(&id, life),
            Input::Wake { id } => self.wake(&id),
            Input::Tick => {}
        }
        self.tick();
        self.drain();
    }

    fn tick(&mut self) {
        self.quarantine_due();
        let actions = self.state.replicator.tick(self.now);
        self.replicate(actions);
        let actions = self.state.directory.tick(self.now);
        self.direct(actions);
        let actions = self.state.repair.tick(self.now);
        self.repair(actions);
        self.drain();
        self.claims_due();
        self.moves_due();
        self.drain();
        self.sweep_due();
    }

    /// Does what the machines want, in their order, until they want nothing more.
    fn drain(&mut self) {
        while let Some(work) = self.state.work.pop_front() {
            match work {
                Work::Replication(action) => self.on_replication(action),
                Work::Desk(action) => self.on_desk(action),
                Work::Directory(action) => self.on_directory(action),
                Work::Repair(action) => self.on_repair(action),
            }
        }
    }

    fn replicate(&mut self, actions: Vec<ReplicationAction>) {
        let work = actions.into_iter().map(Work::Replication);
        self.state.work.extend(work);
    }

    fn direct(&mut self, actions: Vec<DirectoryAction>) {
        let work = actions.into_iter().map(Work::Directory);
        self.state.work.extend(work);
    }

    fn me(&self) -> NodeInst {
        self.fabric.me()
    }

    fn send(&self, to: NodeInst, class: FrameClass, frame: &Frame) -> bool {
        self.fabric.frame(to, class, frame).is_ok()
    }

    fn send_to(&self, to: NodeId, class: FrameClass, frame: &Frame) -> bool {
        let life = self.fabric.inner.mesh.life(to);
        life.is_some_and(|life| self.send(life, class, frame))
    }

    /// The nodes that are in the view have changed, or what they say of themselves.
    fn view(&mut self) {
        let members = self.fabric.members();
        let lives: Vec<NodeInst> = members.iter().map(|member| member.peer.inst).collect();
        let former = std::mem::replace(&mut self.state.lives, lives);
        let is_same = former == self.state.lives;
        let gone = former
            .into_iter()
            .filter(|life| !self.state.lives.contains(life));
        for life in gone.collect::<Vec<_>>() {
            let actions = self.state.directory.node_down(self.now, life);
            self.direct(actions);
        }
        if !is_same {
            let me = self.me().node;
            let has_others = members.iter().any(|member| member.peer.inst.node != me);
            self.state.desk.view_changed(has_others);
            self.repair_view();
            self.claims_without_the_gone();
        }
        self.sweep_view();
    }

    fn connected(&mut self, life: NodeInst, is_connected: bool) {
        let actions = if is_connected {
            self.claim_again_at(life.node);
            let actions = self.state.repair.connected(self.now, life.node);
            self.repair(actions);
            self.state.replicator.peer_back(life.node)
        } else if self.fabric.inner.mesh.life(life.node).is_some() {
            // A later life is connected by now.
            Vec::new()
        } else {
            self.moves_lost(life);
            let actions = self.state.repair.lost(self.now, life.node);
            self.repair(actions);
            self.state.replicator.peer_lost(self.now, life.node)
        };
        self.replicate(actions);
        self.sweep_reach();
    }

    fn standing(&self, life: NodeInst) -> Standing {
        if life == self.me() {
            Standing::Me
        } else if self.fabric.inner.mesh.life(life.node) == Some(life) {
            Standing::Connected
        } else if self.state.lives.contains(&life) || self.is_unseen(life) {
            Standing::Away
        } else {
            Standing::Gone
        }
    }

    /// Tells whether this node has not been here for long enough to know that a life is gone.
    fn is_unseen(&self, life: NodeInst) -> bool {
        let is_new = self.now.mono < self.fabric.inner.started.mono + FIRST_VIEW;
        is_new && self.life_of(life.node).is_none() && !self.is_known_gone(life)
    }

    /// Returns the life of a node that is in the view, this one included.
    fn life_of(&self, node: NodeId) -> Option<NodeInst> {
        if node == self.me().node {
            return Some(self.me());
        }
        let mut lives = self.state.lives.iter();
        lives.find(|life| life.node == node).copied()
    }

    /// Returns who goes on with a record whose owner is gone: a later life of that node, else the
    /// first of its holders by rank that is up, else the first node by rank. Passes over the first
    /// `round` of them, which have had their time.
    fn heir_after(
        &self,
        id: &ActorId,
        owner: NodeInst,
        conf: Option<&Conf>,
        round: usize,
    ) -> NodeInst {
        let later = self.life_of(owner.node).filter(|life| *life != owner);
        let later = later.filter(|life| !self.fabric.is_unfit(life.node));
        if let (Some(later), 0) = (later, round) {
            return later;
        }
        if let (Some(heir), 0) = (self.heir_of_calls(id, owner, conf), round) {
            return heir;
        }
        let ranked = self.ranked(id);
        // While holders change, those of the old set have it; the new ones may not have heard of it.
        let sets = conf.into_iter().flat_map(Conf::sets);
        let mut holders: Vec<NodeId> = Vec::new();
        for set in sets {
            let of_set = ranked.iter().filter(|node| set.nodes().contains(node));
            let more: Vec<NodeId> = of_set
                .filter(|node| !holders.contains(node))
                .copied()
                .collect();
            holders.extend(more);
        }
        let chosen = holders.get(round).or(holders.last()).or(ranked.first());
        chosen
            .and_then(|node| self.life_of(*node))
            .unwrap_or(self.me())
    }

    /// Returns the nodes that may have a record, by rank.
    fn ranked(&self, id: &ActorId) -> Vec<NodeId> {
        let key = self.fabric.inner.records.ids().record_key(id);
        placement::rank(key, &self.fabric.candidates())
    }
}

impl<R: Roster> Fabric<R> {
    /// Returns the nodes that may be given records, this one in any case if nobody else may.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let members = self.members();
        let me = self.me();
        let is_up = |member: &&Member| member.state == MemberState::Up;
        let mut candidates: Vec<Candidate> = members
            .iter()
            .filter(is_up)
            .map(|member| Candidate {
                node: member.peer.inst.node,
                weight: member.weight,
                zone: member.zone.clone(),
            })
            .collect();
        if candidates.iter().all(|candidate| candidate.weight == 0) {
            candidates = vec![Candidate {
                node: me.node,
                weight: 1,
                zone: String::new(),
            }];
        }
        candidates
    }

    /// Returns who holds a record of this node, as placement names them.
    pub(crate) fn placed(&self, id: &ActorId) -> HolderSet {
        let key = self.inner.records.ids().record_key(id);
        let candidates = self.candidates();
        placement::holders(key, self.me().node, &candidates, self.inner.parts.holders)
    }
}

/// A version that any record's is above.
const NO_VERSION: Version = Version {
    epoch: cluster::Epoch::ZERO,
    sequence: 0,
};
