//! The one closed list of effects. Performed in the order given, in `nodes/src/perform.rs` only.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    ActorId, BindingNews, CallKey, CallNews, CloseCode, FlowRef, Kind, ListenerId, MediaCommand,
    Member, MoveFault, NodeId, NodeInst, Time, UtcMillis, What,
};

/// One effect of a core.
#[derive(Clone, Debug)]
pub enum Action<M> {
    /// Puts octets on a flow.
    Send {
        /// Way to the peer.
        flow: FlowRef,
        /// One datagram, or octets of a stream.
        bytes: Bytes,
    },
    /// Tells another actor something; `Undelivered` comes back if there is none.
    Tell {
        /// The actor.
        to: ActorId,
        /// What it is told.
        message: M,
        /// Does not wait behind a shut commit gate: 100 Trying and retransmissions only.
        urgent: bool,
    },
    /// Starts a child of this actor with its first message.
    Spawn {
        /// The child.
        id: ActorId,
        /// What it is told first.
        first: M,
    },
    /// Ends an actor: itself, or a child (whose part then leaves the record).
    Stop {
        /// Which.
        id: ActorId,
    },
    /// Records this actor's part as it is after the event.
    Store(Store),
    /// Goes on as another copy of this actor's record says, as after a take-over (records that have
    /// sides only): the sides end without a word, and all of them begin from these parts.
    Adopt {
        /// Parts of that copy: this actor's and its sides'.
        parts: Vec<(ActorId, Bytes)>,
    },
    /// Asks what only the node knows; `Answer` comes back with the token.
    Lookup {
        /// Comes back with the answer.
        token: u64,
        /// The question.
        what: Lookup,
    },
    /// Asks something of the media plane (media legs only).
    Media(MediaCommand),
    /// Says what happened: logs, metrics, doors, call records.
    Emit(Emitted),
    /// Opens a connection; `Opened` or `Closed` comes back to the flow actor made for it.
    Connect {
        /// The connection, with the number it will have.
        flow: FlowRef,
    },
    /// Closes a connection after what is queued is written.
    Close {
        /// The connection.
        flow: FlowRef,
        /// Why, for the peer.
        code: CloseCode,
        /// Why, for the log.
        why: &'static str,
    },
    /// Answers a request of the HTTP API (console only).
    Http {
        /// The request.
        ticket: u64,
        /// Status code.
        status: u16,
        /// JSON, or `problem+json` for 400 and above.
        body: Bytes,
    },
}

/// How a part is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Replaces this actor's part. `gate`: every later action, of this event and of later ones,
    /// waits until the part, and all stored before it on this node, is safe.
    Put {
        /// Shuts the commit gate.
        gate: bool,
    },
    /// Makes the whole record a tombstone that is kept for a while (owner of the record only).
    End {
        /// Shuts the commit gate.
        gate: bool,
        /// How long the tombstone is kept.
        keep: Duration,
    },
}

/// A question to the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lookup {
    /// Addresses of a host name.
    Host {
        /// The name.
        name: String,
    },
    /// Actors of this node, live and passivated, one row each.
    Actors {
        /// Of this kind only.
        kind: Option<Kind>,
        /// Whose ID contains this.
        contains: Option<String>,
        /// Rows to pass over.
        offset: usize,
        /// Most rows.
        limit: usize,
    },
    /// Everything about one actor.
    Actor {
        /// Which.
        id: ActorId,
    },
    /// Trace rings of an actor; of a call and its sides together.
    Trace {
        /// Which.
        id: ActorId,
    },
    /// This node.
    Node,
    /// The nodes of the cluster, this one included.
    Members,
    /// Not a question: this node is to hand an actor over to another one. Answered when it is there.
    Move {
        /// Which.
        id: ActorId,
        /// Where to.
        to: NodeId,
        /// Only if it has this epoch.
        epoch: Option<u64>,
    },
    /// Not a question: this node is to hand everything over and to end.
    Drain {
        /// Seconds after which it ends though something is left.
        max_s: u32,
    },
}

/// What the node answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Addresses, or what failed.
    Host(Result<Vec<IpAddr>, String>),
    /// Rows and the number of all that match.
    Actors {
        /// The page.
        rows: Vec<ActorRow>,
        /// How many match.
        total: usize,
    },
    /// The actor, or `None` if there is none.
    Actor(Option<Box<ActorView>>),
    /// Lines in the order of time.
    Trace(Vec<TraceLine>),
    /// The node.
    Node(Box<NodeView>),
    /// The nodes, in the order of their numbers.
    Members(Vec<Member>),
    /// The actor is where it was wanted, or why it is not.
    Moved(Result<(), MoveFault>),
    /// The node drains from now on.
    Draining,
}

/// One actor in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorRow {
    /// Its ID.
    pub id: ActorId,
    /// Its supervisor, as ractor has it: an actor's ID or the name of a kind's supervisor.
    pub parent: String,
    /// Runs; otherwise it is only its record, or a side that waits for its call to begin.
    pub live: bool,
    /// Events in its inbox.
    pub inbox: usize,
    /// Restarts since it was started.
    pub restarts: u32,
    /// Epoch of its ownership (0 for kinds without a record).
    pub epoch: u64,
    /// Sequence of its record.
    pub sequence: u64,
    /// What it is doing, in a word or two.
    pub state: String,
}

/// One actor in full.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActorView {
    /// The row.
    pub row: ActorRow,
    /// Its snapshot as JSON text, secrets masked.
    pub snapshot: String,
    /// Its next deadline, in milliseconds from now.
    pub next_deadline_ms: Option<u64>,
    /// Actions behind its commit gate.
    pub gated: usize,
    /// Events it was quarantined for, oldest first.
    pub quarantined: Vec<String>,
    /// Children.
    pub children: Vec<ActorId>,
}

/// One line of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    /// When.
    pub at: UtcMillis,
    /// The same on the node's clock: orders lines of equal milliseconds.
    pub mono: Time,
    /// The actor whose ring it is from.
    pub actor: ActorId,
    /// Who the message is from, or went to.
    pub peer: String,
    /// The message came in; otherwise it went out.
    pub inward: bool,
    /// What it was, in a few words.
    pub text: String,
}

/// One node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// Its life.
    pub instance: NodeInst,
    /// Its name.
    pub name: String,
    /// `up`, `draining`, `quarantined` or `poisoned`.
    pub state: String,
    /// Version of the program.
    pub version: String,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// Actors, a kind: live ones and all.
    pub actors: Vec<(Kind, usize, usize)>,
    /// Listeners, as `udp 127.0.0.1:5060`.
    pub listeners: Vec<String>,
    /// Octets free where the data lies.
    pub free_bytes: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Emitted {
    /// A call ended: exactly one a call, after its tombstone's commit.
    CallEnded(Box<CallRecord>),
    /// A binding came, was refreshed, or went.
    Registration {
        /// The AoR.
        aor: String,
        /// What happened to it.
        news: BindingNews,
        /// The contact.
        contact: String,
    },
    /// A call reached a state, or came to this node.
    CallState {
        /// The call.
        call: CallKey,
        /// What happened to it.
        news: CallNews,
    },
    /// A request was refused: counted by its status.
    Refused {
        /// SIP method.
        method: String,
        /// Status it was answered with.
        status: u16,
        /// Why.
        why: &'static str,
    },
    /// A node of the cluster is gone.
    NodeDown {
        /// Which life of which node.
        instance: NodeInst,
        /// Its death is proven; otherwise it is merely silent.
        is_proven: bool,
    },
    /// Others had declared this node down while it was alive; it is back.
    Rejoined,
    /// A later start of this very node runs elsewhere: this one must end.
    Superseded {
        /// The later one.
        by: NodeInst,
    },
    /// Gossip sees the cluster so, in the order of the nodes' numbers: the fabric routes by it.
    View(Vec<Member>),
    /// This node is to take a floating address, or to give it back.
    Address {
        /// The address.
        address: std::net::IpAddr,
        /// What is to be done.
        order: AddressOrder,
    },
    /// Calls of a node that is gone go on where its floating addresses go.
    Heir {
        /// The life that is gone.
        of: NodeInst,
        /// The node that takes its addresses.
        node: NodeId,
    },
    /// A digit came as a telephone event.
    Digit {
        /// The call.
        call: CallKey,
        /// Which side.
        side: u8,
        /// The digit.
        digit: char,
    },
}

impl Emitted {
    /// Returns what the event log says of it, if it says anything.
    #[must_use]
    pub fn logged(&self) -> Option<What> {
        match self {
            Emitted::CallState { call, news } => Some(What::Call {
                call: *call,
                news: news.clone(),
            }),
            Emitted::Registration { aor, news, contact } => Some(What::Registration {
                aor: aor.clone(),
                contact: contact.clone(),
                news: *news,
            }),
            // Of nodes the fabric says more than the member actor does.
            Emitted::CallEnded(_)
            | Emitted::Refused { .. }
            | Emitted::NodeDown { .. }
            | Emitted::Rejoined
            | Emitted::Superseded { .. }
            | Emitted::View(_)
            | Emitted::Address { .. }
            | Emitted::Heir { .. }
            | Emitted::Digit { .. } => None,
        }
    }
}

/// What is to be done with a floating address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressOrder {
    /// It is to be bound here.
    Take,
    /// It is to be left, unless there are calls.
    Return,
    /// It is to be left, calls or not: another node has it.
    Leave,
}

/// The record of a finished call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The call.
    pub call: CallKey,
    /// Caller's AoR or URI.
    pub from: String,
    /// What was dialled.
    pub to: String,
    /// SIP Call-ID of the caller's side.
    pub sip_call_id: String,
    /// When its INVITE came.
    pub started: UtcMillis,
    /// When it was answered.
    pub answered: Option<UtcMillis>,
    /// When it ended.
    pub ended: UtcMillis,
    /// Q.850 cause in FreeSWITCH's words: `NORMAL_CLEARING`, `USER_BUSY`, …
    pub cause: String,
    /// SIP status it ended with, if one did.
    pub status: Option<u16>,
    /// Which end ended it: `caller`, `callee`, `weft`.
    pub ended_by: String,
}

/// Where the requests of a listener's new connections and datagrams come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// Its number.
    pub listener: ListenerId,
    /// The address it is bound to.
    pub local: SocketAddr,
}
