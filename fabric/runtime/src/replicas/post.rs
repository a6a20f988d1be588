//! The way of a message to an actor that may run on any node (`cluster.md` §3).
//!
//! In: messages of this node's actors and of frames. Out: events in inboxes, frames, messages that
//! come back. What waits for a search waits here, in order.
//!
//! | where it is | then |
//! |---|---|
//! | here, live or by its record | its inbox |
//! | on another life that can be reached | there; whoever sent it here is told |
//! | on one that is gone | to its heir, who claims it |
//! | nobody knows | the holders are asked; a message that can begin it goes where placement says |

use std::sync::atomic::Ordering;

use cluster::{Conf, Directory, DirectoryAction, Frame, Header, Route, Whereabouts, desk};
use contract::core::{Event, Roster, Undelivered};
use contract::limits::{PARCELS_MAX, PARCELS_PER_ACTOR_MAX};
use contract::{ActorId, FrameClass, Kind, NodeId, NodeInst};

use super::{NO_VERSION, Standing, Turn};
use crate::entry::{Delivery, Letter};

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Parcel<R: Roster> {
    pub(crate) from: ActorId,
    /// Where it comes back to.
    pub(crate) origin: NodeInst,
    pub(crate) to: ActorId,
    /// Nodes it has passed.
    pub(crate) hops: u8,
    pub(crate) message: R::Message,
}

impl<R: Roster> Turn<'_, R> {
    pub(super) fn post(&mut self, parcel: Parcel<R>) {
        if parcel.origin != self.me() {
            // Whoever tells something is there: an answer finds it, before its record is anywhere.
            let learned = self.state.directory.hint(&parcel.from, parcel.origin);
            self.direct(learned);
        }
        let owner = parcel.to.record_owner();
        if self.state.directory.is_searching(&owner) {
            return self.keep(owner, parcel);
        }
        if self.fabric.find(&owner).is_some() {
            return self.hand_over(parcel);
        }
        let store = self.fabric.env().store();
        let held = self.state.desk.held(store.as_ref(), &owner).ok();
        let image = held.and_then(|held| held.image);
        let own = image.as_ref().map(|image| &image.header);
        // What a former holder still has of it is hearsay, too.
        let me = self.me().node;
        let own = own.filter(|header| parcel.hops == 0 || !desk::is_stray(header, me));
        let key = self.fabric.inner.records.ids().record_key(&owner);
        let is_settled = self.knows_all_of(&owner);
        let candidates = self.fabric.candidates();
        let directory = &mut self.state.directory;
        let conf = own.map(|header| header.conf.clone());
        match directory.route(&owner, key, &candidates, own, is_settled) {
            Route::Here => self.hand_over(parcel),
            Route::At(life) if life.node == self.me().node => {
                // A former life of this node: others may have gone on with it.
                let nodes = self.ranked(&owner);
                let others = nodes
                    .into_iter()
                    .filter(|node| *node != life.node)
                    .collect();
                self.search(owner, others, usize::MAX, parcel);
            }
            Route::At(life) => self.send_on(parcel, life, conf.as_ref()),
            Route::Home(_) => self.bounce(parcel, Undelivered::Absent),
            Route::Ask { nodes, quorum } => self.search(owner, nodes, quorum, parcel),
        }
    }

    /// A message has come a way already: what this node knows by hearsay only would make that longer,
    /// or a circle of two nodes that think the actor is at the other one. The holders know.
    pub(super) fn unlearn(&mut self, to: &ActorId) {
        let owner = to.record_owner();
        let Some((at, _)) = self.state.directory.known(&owner) else {
            return;
        };
        let store = self.fabric.env().store();
        let held = self.state.desk.held(store.as_ref(), &owner).ok();
        let header = held.and_then(|held| held.image).map(|image| image.header);
        let me = self.me().node;
        let is_so = |header: &Header| {
            header.owner == at && !header.is_ended() && !desk::is_stray(header, me)
        };
        if !header.is_some_and(|header| is_so(&header)) {
            self.state.directory.forget(&owner, at);
        }
    }

    fn search(&mut self, owner: ActorId, nodes: Vec<NodeId>, quorum: usize, parcel: Parcel<R>) {
        self.keep(owner.clone(), parcel);
        let directory = &mut self.state.directory;
        let actions = directory.search(self.now, &owner, nodes, quorum);
        self.direct(actions);
    }

    fn keep(&mut self, owner: ActorId, parcel: Parcel<R>) {
        let count = self.replicas.parcels.load(Ordering::SeqCst);
        let of_actor = self.state.parcels.get(&owner).map_or(0, Vec::len);
        if count >= PARCELS_MAX || of_actor >= PARCELS_PER_ACTOR_MAX {
            return self.bounce(parcel, Undelivered::Busy);
        }
        self.replicas.parcels.fetch_add(1, Ordering::SeqCst);
        self.state.parcels.entry(owner).or_default().push(parcel);
    }

    fn unkeep(&mut self, owner: &ActorId) -> Vec<Parcel<R>> {
        let parcels = self.state.parcels.remove(owner).unwrap_or_default();
        self.replicas
            .parcels
            .fetch_sub(parcels.len(), Ordering::SeqCst);
        parcels
    }

    pub(super) fn on_directory(&mut self, action: DirectoryAction) {
        match action {
            DirectoryAction::Ask { to, number, id } => {
                let frame = Frame::Where { number, id };
                if !self.send_to(to, FrameClass::InDialog, &frame) {
                    let found =
                        self.state
                            .directory
                            .found(self.now, to, number, Whereabouts::Unsettled);
                    self.direct(found);
                }
            }
            DirectoryAction::Found { id, owner, .. } => {
                self.asked_first(&id, Some(owner));
                for parcel in self.unkeep(&id) {
                    if owner.node == self.me().node {
                        // Of this life, or of a former one that nobody has gone on with.
                        self.hand_over(parcel);
                    } else {
                        self.send_on(parcel, owner, None);
                    }
                }
            }
            DirectoryAction::Nobody { id } => {
                self.asked_first(&id, None);
                self.nobody(&id, Undelivered::Absent);
            }
            DirectoryAction::Unknown { id } => {
                self.asked_first(&id, None);
                self.nobody(&id, Undelivered::Busy);
            }
        }
    }

    /// Nobody has it, or nobody could say so: a message that can begin it does, where placement
    /// says; a claim finds what there is all the same.
    fn nobody(&mut self, id: &ActorId, why: Undelivered) {
        let parcels = self.unkeep(id);
        let target = if self.has_been_ours(id) {
            self.me()
        } else if self.begins(id, &parcels) {
            self.birthplace(id)
        } else {
            for parcel in parcels {
                self.bounce(parcel, why);
            }
            return;
        };
        for parcel in parcels {
            if target == self.me() {
                self.hand_over(parcel);
            } else {
                self.pass(parcel, target);
            }
        }
    }

    /// Tells whether one of these messages makes the actor.
    fn begins(&self, id: &ActorId, parcels: &[Parcel<R>]) -> bool {
        let site = self.fabric.site();
        let makes = |parcel: &Parcel<R>| {
            parcel.to == *id && R::create(id, &parcel.message, site.as_ref()).is_some()
        };
        parcels.iter().any(makes)
    }

    /// Tells whether an actor is about to begin here: what makes it waits for a search, or has just
    /// made it and nothing is claimed yet.
    fn is_to_begin(&self, id: &ActorId) -> bool {
        let waiting = self.state.parcels.get(id);
        if waiting.is_some_and(|parcels| self.begins(id, parcels)) {
            return self.birthplace(id) == self.me();
        }
        self.fabric.find(id).is_some() && self.fabric.inner.records.of(id).is_none()
    }

    /// Tells whether a record is, as far as this node knows, its own, of this life or a former one.
    pub(super) fn has_been_ours(&self, id: &ActorId) -> bool {
        let store = self.fabric.env().store();
        let held = self.state.desk.held(store.as_ref(), id).ok();
        let image = held.and_then(|held| held.image);
        image.is_some_and(|image| {
            !image.header.is_ended() && image.header.owner.node == self.me().node
        })
    }

    /// Returns where an actor begins: a call where its INVITE came, others where placement says.
    fn birthplace(&self, id: &ActorId) -> NodeInst {
        if id.kind() == Kind::Call {
            return self.me();
        }
        let first = self.ranked(id).first().copied();
        let life = first.and_then(|node| self.life_of(node));
        let can_go = |life: &NodeInst| {
            let standing = self.standing(*life);
            matches!(standing, Standing::Me | Standing::Connected)
        };
        life.filter(can_go).unwrap_or(self.me())
    }

    /// Sends a message to the life that has the actor, or to whoever goes on with it.
    fn send_on(&mut self, parcel: Parcel<R>, owner: NodeInst, conf: Option<&Conf>) {
        match self.standing(owner) {
            Standing::Me => self.hand_over(parcel),
            Standing::Connected => self.pass(parcel, owner),
            Standing::Away => self.bounce(parcel, Undelivered::Busy),
            Standing::Gone => {
                let id = parcel.to.record_owner();
                let heir = self.heir_after(&id, owner, conf, 0);
                if heir == self.me() {
                    self.hand_over(parcel);
                } else if self.standing(heir) == Standing::Connected {
                    self.pass(parcel, heir);
                } else {
                    self.bounce(parcel, Undelivered::Busy);
                }
            }
        }
    }

    /// Puts a message into a frame; tells its origin, if that is another node, where it went.
    fn pass(&mut self, parcel: Parcel<R>, to: NodeInst) {
        let Some(hops) = Directory::pass_on(parcel.hops) else {
            tracing::debug!(actor = %parcel.to, "a message has passed enough nodes");
            // It is somewhere, but moves faster than what is said to it.
            return self.bounce(parcel, Undelivered::Busy);
        };
        let class = R::frame_class(&parcel.message);
        let Some(octets) = self.fabric.said_to(to, &parcel.message) else {
            return self.bounce(parcel, Undelivered::Absent);
        };
        let frame = Frame::Tell {
            from: parcel.from.clone(),
            origin: parcel.origin,
            to: parcel.to.clone(),
            hops,
            message: octets,
        };
        if self.fabric.frame(to, class, &frame).is_err() {
            return self.bounce(parcel, Undelivered::Busy);
        }
        if parcel.origin != self.me() && parcel.origin != to {
            let id = parcel.to.record_owner();
            let known = self.state.directory.known(&id);
            let version = known.filter(|(owner, _)| *owner == to);
            let redirect = Frame::Redirect {
                id,
                version: version.map_or(NO_VERSION, |(_, version)| version),
                owner: to,
            };
            self.send(parcel.origin, FrameClass::InDialog, &redirect);
        }
    }

    fn hand_over(&mut self, parcel: Parcel<R>) {
        let Parcel {
            from,
            origin,
            to,
            hops,
            message,
        } = parcel;
        let event = Event::Message { from, message };
        let letter = Letter { event, hops };
        let Err((Event::Message { from, message }, why)) = self.fabric.try_deliver(&to, letter)
        else {
            return;
        };
        let why = match why {
            Delivery::Busy => Undelivered::Busy,
            Delivery::Absent | Delivery::Accepted => Undelivered::Absent,
        };
        let parcel = Parcel {
            from,
            origin,
            to,
            hops,
            message,
        };
        self.bounce(parcel, why);
    }

    pub(super) fn bounce(&self, parcel: Parcel<R>, why: Undelivered) {
        let Parcel {
            from,
            origin,
            to,
            message,
            ..
        } = parcel;
        if origin == self.me() {
            return self.fabric.bounce(&from, to, message, why);
        }
        if let Some(message) = self.fabric.said_to(origin, &message) {
            let back = Frame::Returned {
                to,
                from,
                message,
                why,
            };
            self.send(origin, FrameClass::InDialog, &back);
        }
    }

    /// Tells whether a call that this node has nothing of may be a silent node's, which has begun it
    /// alone. Who asks may not miss that node: it may have come after it fell silent. What has ended is
    /// known.
    fn may_be_missed(&self, id: &ActorId) -> bool {
        if id.kind() != Kind::Call || self.knows_all_of(id) {
            return false;
        }
        let store = self.fabric.env().store();
        let held = self.state.desk.held(store.as_ref(), id).ok();
        held.is_none_or(|held| held.image.is_none())
    }

    /// Says where an actor is: one that begins here, or has stored nothing yet, is here. One that is
    /// about to begin here is not nowhere: else a copy of an INVITE would be taken for one without a
    /// call. It is not said to be here either: two nodes it may begin at would send each other to it.
    pub(super) fn where_is(&self, id: &ActorId) -> Whereabouts {
        let owner = id.record_owner();
        let me = self.me();
        if self.state.claims.is_claiming(&owner) {
            return Whereabouts::At {
                owner: me,
                version: NO_VERSION,
            };
        }
        let records = &self.fabric.inner.records;
        let version = records.change(&owner, |owned| {
            (!owned.header().is_ended()).then(|| owned.header().version)
        });
        if let Some(Some(version)) = version {
            return Whereabouts::At { owner: me, version };
        }
        let store = self.fabric.env().store();
        let held = self.state.desk.where_is(store.as_ref(), &owner);
        if self.is_in_doubt() {
            return Whereabouts::Unsettled;
        }
        match held {
            Whereabouts::None if self.is_to_begin(&owner) || self.may_be_missed(&owner) => {
                Whereabouts::Unsettled
            }
            Whereabouts::At { .. } | Whereabouts::None | Whereabouts::Unsettled => held,
        }
    }
}
