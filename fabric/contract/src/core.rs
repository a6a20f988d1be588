//! The shape of every entity: a pure core, and what runs it needs to know of all cores.
//!
//! In: an event and a [`Ctx`]. Out: actions and a new state. A core owns no socket, clock, disk,
//! task or channel; `fabric/runtime` runs it, in production and in the simulator alike.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{
    Action, ActorId, Answer, Entropy, FaultClass, FlowRef, FrameClass, ListenerId, Lookup,
    MediaCommand, MediaEvent, Now, SchemaVersion, Store, Time,
};

/// A pure state machine.
pub trait Core: Sized {
    /// All that can happen to it; usually [`Event`] of its own message and timer.
    type Event;
    /// What it may tell other actors.
    type Message;
    /// Names of its deadlines.
    type Timer: Copy + Debug + Ord;
    /// Its stored form.
    type Snapshot: Serialize + DeserializeOwned;
    /// Configuration it may read.
    type Site;

    /// Turns an event into actions and a new state. Runs to the end without waiting.
    fn handle(&mut self, event: Self::Event, ctx: &mut Ctx<'_, Self::Message, Self::Site>);
    /// Returns the next deadline and its name.
    fn next_deadline(&self) -> Option<(Time, Self::Timer)>;
    /// Returns the stored form.
    fn snapshot(&self, now: Now) -> Self::Snapshot;
    /// Builds a core from its stored form.
    ///
    /// # Errors
    /// If the snapshot contradicts itself.
    fn restore(snapshot: Self::Snapshot, now: Now) -> Result<Self, RestoreError>;
}

/// Why a stored form could not become a core.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("restoring {what}: {why}")]
pub struct RestoreError {
    /// Kind of core.
    pub what: &'static str,
    /// What is wrong with the stored form.
    pub why: String,
}

impl RestoreError {
    /// Tells whose fault it is: a form we wrote ourselves cannot be wrong by a peer's doing.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Bug
    }
}

/// All that can happen to a core: `M` its own messages, `T` its timers, `A` what it tells others.
#[derive(Clone, Debug)]
pub enum Event<M, T, A = M> {
    /// Another actor tells it something.
    Message {
        /// Who.
        from: ActorId,
        /// What.
        message: M,
    },
    /// A named deadline has passed. The core clears or sets it anew.
    Timer(T),
    /// A datagram came (lanes).
    Datagram {
        /// Our socket.
        listener: ListenerId,
        /// Its source.
        remote: SocketAddr,
        /// Its octets.
        bytes: Bytes,
    },
    /// The connection is open (flows); both addresses are known now.
    Opened {
        /// The connection.
        flow: FlowRef,
    },
    /// Octets came on the connection (flows).
    Bytes(Bytes),
    /// The connection is closed (flows).
    Closed {
        /// Why.
        why: String,
    },
    /// The media plane says something (media legs).
    Media(MediaEvent),
    /// The node answers a `Lookup`.
    Answer {
        /// Token of the question.
        token: u64,
        /// The answer.
        answer: Answer,
    },
    /// There is no such actor, or its inbox is full; the message comes back.
    Undelivered {
        /// Who was to be told.
        to: ActorId,
        /// What.
        message: A,
        /// Why not.
        why: Undelivered,
    },
    /// A child was given up by its supervisor.
    ChildLost {
        /// The child.
        id: ActorId,
    },
    /// First event of a core built from its stored form.
    Restored(Restored),
}

/// Why a message came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// No actor and no record of that ID, and the message starts none.
    Absent,
    /// Its inbox is full.
    Busy,
}

/// Why a core was built from its stored form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The node was started again: ports, connections and transactions are gone.
    NodeStart,
    /// As `NodeStart`, and another node may have gone on with the same copy, and used numbers behind it or
    /// behind the room that it left: one that holds it has not been heard since, or one has claimed it
    /// since and nothing has followed.
    StartedAlone,
    /// Another node ran it, which is dead or has given it up: its ports, its transactions and the
    /// connections that end there are gone, and this node has other addresses.
    TakenOver {
        /// That node is not proven to be dead: it may run it still, cut off from us.
        may_live: bool,
        /// Number of the epoch under which this node has it: no other node has it under the same.
        epoch: u64,
    },
    /// As `TakenOver`, and another node may have used numbers behind this copy: it is that of a node which
    /// went on with it for a while, cut off from the one that took it over; or another claim has passed
    /// it; or most of its holders were not heard, which may have started again and go on with it.
    Adopted {
        /// As there.
        epoch: u64,
    },
    /// Another node of ours handed it over and still lives: connections that end there are as they
    /// were, but its ports and transactions are gone, and this node has other addresses. Until it hears
    /// that this node has it, which may be late if it is cut off, it may go on with it.
    Moved {
        /// As for `TakenOver`.
        epoch: u64,
    },
    /// It panicked: the world outside is as it was.
    Panic,
    /// It was passive and is needed again: the world outside is as it was.
    Wake,
}

/// What the node tells every core with an event: its health, for admission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Room on disk (`cluster.md` §9).
    pub space: Space,
    /// The node takes no new work: it drains, its store is poisoned, or it is quarantined.
    pub draining: bool,
    /// Its store has lost entries, and is not repaired yet (`cluster.md` §9).
    pub quarantined: bool,
    /// More nodes have fallen silent than are left: they may have gone on with what is run here.
    pub cut_off: bool,
    /// It has more to do than it gets done: new calls and registrations are refused (`cluster.md`
    /// §11).
    pub overloaded: bool,
    /// Calls of this node that have not ended.
    pub calls: u32,
    /// What all nodes of the cluster read: nothing newer is begun (`cluster.md` §12).
    pub schema: SchemaVersion,
}

/// Room on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// Enough.
    #[default]
    Ample,
    /// No new calls and registrations: 503. Tombstones and renewals are kept.
    Low,
    /// Read only.
    Exhausted,
}

/// What a core sees of the world while it handles one event, and its only way out.
#[derive(Debug)]
pub struct Ctx<'a, M, S> {
    now: Now,
    me: &'a ActorId,
    health: Health,
    site: &'a S,
    entropy: &'a mut Entropy,
    actions: &'a mut Vec<Action<M>>,
}

impl<'a, M, S> Ctx<'a, M, S> {
    /// Puts a context together (the shell, and tests of cores).
    pub fn new(
        now: Now,
        me: &'a ActorId,
        health: Health,
        site: &'a S,
        entropy: &'a mut Entropy,
        actions: &'a mut Vec<Action<M>>,
    ) -> Self {
        Ctx {
            now,
            me,
            health,
            site,
            entropy,
            actions,
        }
    }

    /// Returns the clocks as they were when the event was taken.
    #[must_use]
    pub const fn now(&self) -> Now {
        self.now
    }

    /// Returns the ID of the actor.
    #[must_use]
    pub const fn me(&self) -> &'a ActorId {
        self.me
    }

    /// Returns the node's health.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// Returns the configuration.
    #[must_use]
    pub const fn site(&self) -> &'a S {
        self.site
    }

    /// Returns the actor's own generator.
    pub fn rng(&mut self) -> &mut Entropy {
        self.entropy
    }

    /// Adds an action.
    pub fn act(&mut self, action: Action<M>) {
        self.actions.push(action);
    }

    /// Tells another actor something, behind the commit gate if it is shut.
    pub fn tell(&mut self, to: ActorId, message: M) {
        self.act(Action::Tell {
            to,
            message,
            urgent: false,
        });
    }

    /// Puts octets on a flow.
    pub fn send(&mut self, flow: FlowRef, bytes: Bytes) {
        self.act(Action::Send { flow, bytes });
    }

    /// Records the actor's part; later actions wait for it.
    pub fn store_and_gate(&mut self) {
        self.act(Action::Store(Store::Put { gate: true }));
    }

    /// Records the actor's part; nothing waits.
    pub fn store(&mut self) {
        self.act(Action::Store(Store::Put { gate: false }));
    }

    /// Asks something of the media plane.
    pub fn media(&mut self, command: MediaCommand) {
        self.act(Action::Media(command));
    }

    /// Asks the node something.
    pub fn look_up(&mut self, token: u64, what: Lookup) {
        self.act(Action::Lookup { token, what });
    }

    /// Notes an event that means nothing in this state.
    pub fn ignore(&mut self, why: &'static str) {
        tracing::trace!(actor = %self.me, why, "ignored");
    }
}

/// Two copies of one record that came to be beside each other.
#[derive(Clone, Copy, Debug)]
pub struct Rivals<'a> {
    /// Parts of the copy that is given up.
    pub former: &'a BTreeMap<ActorId, Bytes>,
    /// It ran on this node, which was not asked before another one went on with it: nobody else may know
    /// what it has done.
    pub ran_here: bool,
    /// Parts of the one that stands; `None` if it has ended.
    pub newer: Option<&'a BTreeMap<ActorId, Bytes>>,
}

/// Any core of any kind: the one type the shell runs. Implemented once, in `actors`.
pub trait Roster: Send + Sized + 'static {
    /// The one message type of all actors.
    type Message: Clone + Debug + Send + Sync + 'static;
    /// The configuration that cores may read.
    type Site: Send + Sync + 'static;

    /// Builds a new core for `id` if `first` is a message that starts one.
    fn create(id: &ActorId, first: &Self::Message, site: &Self::Site) -> Option<Self>;
    /// Builds the core of a connection, lane or console.
    fn create_system(id: &ActorId, site: &Self::Site) -> Option<Self>;
    /// Builds a core from its stored form.
    ///
    /// # Errors
    /// If the bytes are no snapshot of that kind.
    fn restore(id: &ActorId, bytes: &[u8], now: Now) -> Result<Self, RestoreError>;
    /// Makes one part of the copies that several holders have of it, the newest first
    /// (`cluster.md` §8): the same whatever their order, and nothing newer is lost. For kinds
    /// whose newest copy is the truth, that is the first one.
    fn merge(id: &ActorId, copies: &[Bytes], now: Now) -> Bytes;
    /// Makes the message that hands its owner a copy that a holder had beside it: after a partition,
    /// what the other side accepted. `None` if there is nothing in it that the owner has not, or should
    /// have or end.
    fn bequeath(id: &ActorId, copies: &Rivals<'_>, now: Now) -> Option<Self::Message>;
    /// Handles an event; `Timer(())` stands for the earliest due deadline.
    fn handle(
        &mut self,
        event: Event<Self::Message, ()>,
        ctx: &mut Ctx<'_, Self::Message, Self::Site>,
    );
    /// Returns the next deadline.
    fn next_deadline(&self) -> Option<Time>;
    /// Returns the stored form, in one that a program of that schema reads (`cluster.md` §12).
    fn snapshot(&self, now: Now, schema: SchemaVersion) -> Vec<u8>;
    /// Returns the snapshot for people: JSON, secrets masked.
    fn view(&self, now: Now) -> serde_json::Value;
    /// Returns the state in a word or two, for listings.
    fn state(&self) -> String;
    /// Returns the quiet time after which the actor may passivate to its record; `None` if never.
    fn passivates_after(&self) -> Option<Duration>;
    /// Returns what a trace line says of a message, and its weight in octets.
    fn describe(message: &Self::Message) -> (String, usize);
    /// Tells whether a message begins an actor once more whose record has ended.
    fn follows_the_end(message: &Self::Message) -> bool;
    /// Tells whether a message is a new piece of work that a full node sheds first.
    fn is_new_work(message: &Self::Message) -> bool;
    /// Returns how urgent a message is on its way to another node.
    fn frame_class(message: &Self::Message) -> FrameClass;
    /// Returns a message as octets for another node, in a form that a program of that schema reads
    /// (`cluster.md` §12).
    ///
    /// Bound: `FRAME_BYTES_MAX`. A longer message gives no octets at all: it cannot be delivered,
    /// and `decode` refuses them.
    fn encode(message: &Self::Message, schema: SchemaVersion) -> Vec<u8>;
    /// Reads what `encode` of another node wrote; `None` if it is no message, or one of a form
    /// that is not known here.
    fn decode(bytes: &[u8]) -> Option<Self::Message>;
}
