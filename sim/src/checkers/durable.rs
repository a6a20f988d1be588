//! I4: whatever the outside is told is on as many disks as wanted at that instant: on two in a
//! cluster that nothing ails, else on one at least (there it says `degraded`).
//!
//! Seen on the wire: 200 to REGISTER (each contact it grants), an INVITE we send (its branch), 18x
//! to an INVITE (our tag), 2xx to an INVITE (every octet). A side may end, and leave its record,
//! while a lane still repeats what it sent, or a session that resumes holds what it is to say: what is
//! made once and never again (a branch, a tag, a 2xx, a description) counts as safe from the moment it
//! was on disk.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use contract::{ActorId, FabricKeys, IdHasher, Now, TokenMaker, TokenUse};
use memchr::memmem;
use sip::{Contacts, Message, MethodName};

use crate::store::{Handle, SimStore};
use crate::world::{Observer, World};

/// The checker of one node.
pub struct Durable {
    world: Arc<World>,
    /// The disks of all nodes.
    disks: Arc<[Arc<SimStore>]>,
    node: SocketAddr,
    web: SocketAddr,
    ids: IdHasher,
    tokens: TokenMaker,
    /// Branches, tags and 2xx that were on disk when they were first sent.
    safe: BTreeSet<Vec<u8>>,
}

impl Durable {
    /// Makes the checker of the node with these addresses, for datagrams and for WebSockets.
    #[must_use]
    pub fn new(
        world: &Arc<World>,
        disks: &Arc<[Arc<SimStore>]>,
        (node, web): (SocketAddr, SocketAddr),
        keys: &FabricKeys,
    ) -> Durable {
        Durable {
            world: Arc::clone(world),
            disks: Arc::clone(disks),
            node,
            web,
            ids: keys.ids(),
            tokens: keys.tokens(),
            safe: BTreeSet::new(),
        }
    }

    /// Returns how many disks must have what leaves a node now.
    fn wanted(&self) -> usize {
        if self.disks.len() > 1 && !self.world.is_troubled() {
            2
        } else {
            1
        }
    }

    fn have_been_durable(&self, octets: &[u8]) -> bool {
        self.have_had(|value| contains(value, octets))
    }

    /// Tells whether a value that became durable on as many disks as wanted has something.
    fn have_had(&self, has: impl Fn(&[u8]) -> bool) -> bool {
        let wanted = self.wanted();
        let disks = self.disks.iter();
        let having = disks.filter(|disk| disk.has_been_durable(&has));
        // No disk is looked through that does not matter any more.
        having.take(wanted).count() == wanted
    }

    /// The same for what is made once and never again: in any value that became durable.
    fn require_once(&mut self, id: &ActorId, octets: &[u8], told: &str) {
        if self.safe.contains(octets) {
            return;
        }
        if !self.have_been_durable(octets) {
            let text = String::from_utf8_lossy(octets);
            let how = format!("{told} was sent, but {id} on disk never had {text:?}");
            self.world.broken("I4", how);
        }
        self.safe.insert(octets.to_vec());
    }

    /// Requires that the durable part of an actor holds a text.
    fn require(&self, id: &ActorId, text: &str, told: &str) {
        let has = |disk: &&Arc<SimStore>| {
            let handle = Handle::open(disk);
            let loaded = cluster::load(handle.as_ref(), &self.ids, id).ok().flatten();
            let part = loaded.and_then(|loaded| loaded.parts.get(id).cloned());
            part.is_some_and(|part| contains(&part, text.as_bytes()))
        };
        let copies = self.disks.iter().filter(has).count();
        if copies < self.wanted() {
            self.world.broken(
                "I4",
                format!("{told} was sent, but {id} on disk has no {text:?}"),
            );
        }
    }

    /// Tells other checkers, and the reader of a trace, which call a Call-ID belongs to.
    fn note(&self, id: &ActorId, message: &Message) {
        let call_id = message.call_id().unwrap_or_default();
        let call = id.call().and_then(|call| call_of(&call.to_string()));
        if let Some(call) = call {
            let mut state = self.world.state();
            state.calls.insert(call_id.to_owned(), call);
        }
        self.world.note(&format!("{id} has Call-ID {call_id}"));
    }

    fn check_registered(&self, message: &Message) {
        let (Ok(Contacts::List(contacts)), Ok(to)) = (message.contacts(), message.to()) else {
            return;
        };
        let Some(user) = to.uri.user() else { return };
        let id = ActorId::Registration(format!("{user}@weft.test").into());
        for contact in contacts {
            let text = contact.name_addr.uri.to_string();
            self.require(&id, &text, "200 to REGISTER");
        }
    }

    fn check_invite(&mut self, message: &Message) {
        let Ok(via) = message.via() else { return };
        let branch = via.branch().unwrap_or_default().to_owned();
        if let Some(token) = self.tokens.read(TokenUse::Branch, &branch) {
            let id = ActorId::Dialog(token.side);
            self.note(&id, message);
            self.require_once(&id, branch.as_bytes(), "INVITE");
        }
    }

    /// The same for JSON: bindings, and every description of ours.
    fn check_frame(&mut self, bytes: &Bytes) {
        let Ok(frame) = serde_json::from_slice::<serde_json::Value>(bytes) else {
            let how = "a frame is no JSON".to_owned();
            return self.world.broken("JSON", how);
        };
        let (kind, payload) = (
            frame["type"].as_str().unwrap_or_default(),
            &frame["payload"],
        );
        let name = payload["callId"].as_str().unwrap_or_default();
        if kind == "registered"
            && let Some(dn) = payload["dn"].as_str()
        {
            let id = ActorId::Registration(dn.into());
            self.require(&id, ".invalid", "registered");
        }
        if kind == "incoming"
            && let Some(call) = call_of(name)
        {
            let mut state = self.world.state();
            state.calls.insert(name.to_owned(), call);
        }
        let Some(sdp) = payload["sdp"].as_str() else {
            return;
        };
        if !self.safe.contains(sdp.as_bytes()) {
            if !self.have_been_durable(sdp.as_bytes()) {
                let how = format!("{kind} of {name} was sent, but its SDP was never on disk");
                self.world.broken("I4", how);
            }
            self.safe.insert(sdp.as_bytes().to_vec());
        }
    }

    /// Tells whether a 2xx is one that was on disk, but for its Contact: that is of who says it now,
    /// which may also be the node that the dialog began on and has come back to.
    fn is_said_again(&self, message: &Message) -> bool {
        let Ok(Contacts::List(contacts)) = message.contacts() else {
            return false;
        };
        let user = contacts.first().and_then(|one| one.name_addr.uri.user());
        let is_ours = user.is_some_and(|user| self.tokens.read(TokenUse::Contact, &user).is_some());
        let bytes = message.bytes();
        let Some((before, after)) = around(bytes, b"\r\nContact: ", b"\r\n") else {
            return false;
        };
        let is_it = |value: &[u8]| contains(value, before) && contains(value, after);
        is_ours && self.have_had(is_it)
    }

    fn check_response(&mut self, status: u16, message: &Message) {
        let Ok(to) = message.to() else { return };
        let Some(tag) = to.tag().map(str::to_owned) else {
            return;
        };
        if let Some(token) = self.tokens.read(TokenUse::Tag, &tag) {
            let told = format!("{status} to INVITE");
            let id = ActorId::Dialog(token.side);
            self.note(&id, message);
            self.require_once(&id, tag.as_bytes(), &told);
            // The tag is known since the first 18x. Who takes the call over says a 2xx again with
            // its own Contact: of that one, all the rest.
            if status >= 200 {
                let bytes = message.bytes();
                let is_new = !self.safe.contains(&bytes[..]) && !self.have_been_durable(bytes);
                if is_new && self.is_said_again(message) {
                    self.safe.insert(bytes.to_vec());
                }
                self.require_once(&id, bytes, &told);
            }
        }
    }
}

/// Returns the name of a call without the number of a side.
pub(crate) fn call_of(name: &str) -> Option<String> {
    name.get(..name.len().checked_sub(2)?).map(str::to_owned)
}

/// Returns what is before the first `begin`, and what is from the next `end` on.
fn around<'a>(octets: &'a [u8], begin: &[u8], end: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let find = memmem::find;
    let from = find(octets, begin)?;
    let inside = from + begin.len();
    let until = inside + find(&octets[inside..], end)?;
    Some((&octets[..from], &octets[until..]))
}

fn contains(octets: &[u8], text: &[u8]) -> bool {
    memmem::find(octets, text).is_some()
}

impl Observer for Durable {
    fn sent(&mut self, _now: Now, from: SocketAddr, _to: SocketAddr, bytes: &Bytes) {
        if from != self.node && from != self.web {
            return;
        }
        if from == self.web && bytes.starts_with(b"{") {
            return self.check_frame(bytes);
        }
        let Ok(message) = Message::read(bytes.clone()) else {
            return;
        };
        let is = |method: rsip::Method| message.method() == MethodName::Known(method);
        match message.status() {
            Some(200) if is(rsip::Method::Register) => self.check_registered(&message),
            Some(status) if (101..300).contains(&status) && is(rsip::Method::Invite) => {
                self.check_response(status, &message);
            }
            None if is(rsip::Method::Invite) => self.check_invite(&message),
            Some(_) | None => {}
        }
    }
}
