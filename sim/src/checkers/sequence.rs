//! I8: per dialog and direction the CSeq that we send rises strictly; the same number is the same
//! transaction (a retransmission, its ACK or its CANCEL). A request is not said twice at once: what
//! repeats it is a timer of T1 at least (RFC 3261 §17.1.1.2, §17.1.2.2), and one that fires once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use contract::{Now, Time};
use sip::Message;

use crate::world::{Observer, World};

/// What is said again within this time was not repeated by a timer. A node that starts again says it
/// later.
const AT_ONCE: Duration = Duration::from_millis(1);

/// The checker of one node.
pub struct Sequence {
    world: Arc<World>,
    node: SocketAddr,
    web: SocketAddr,
    /// By Call-ID, our tag and the peer's: each callee that accepts one INVITE is a dialog of its own,
    /// and a 2xx too many gets its BYE in that (RFC 3261 §13.2.2.4).
    highest: BTreeMap<(String, String, String), (u32, String)>,
    /// When a datagram of a transaction was sent last, by its branch and method.
    sent_at: BTreeMap<(String, String), Time>,
}

impl Sequence {
    /// Makes the checker of the node with these addresses, for datagrams and for WebSockets.
    #[must_use]
    pub fn new(world: &Arc<World>, (node, web): (SocketAddr, SocketAddr)) -> Sequence {
        Sequence {
            world: Arc::clone(world),
            node,
            web,
            highest: BTreeMap::new(),
            sent_at: BTreeMap::new(),
        }
    }
}

impl Observer for Sequence {
    fn sent(&mut self, now: Now, from: SocketAddr, _to: SocketAddr, bytes: &Bytes) {
        if from != self.node && from != self.web {
            return;
        }
        let Ok(message) = Message::read(bytes.clone()) else {
            return;
        };
        if !message.is_request() {
            return;
        }
        let (Ok(call_id), Ok(cseq), Ok(sender), Ok(receiver), Ok(via)) = (
            message.call_id(),
            message.cseq(),
            message.from(),
            message.to(),
            message.via(),
        ) else {
            return;
        };
        let method = cseq.method.to_string();
        if method == "ACK" {
            return;
        }
        let branch = via.branch().unwrap_or_default().to_owned();
        if from == self.node {
            let transaction = (branch.clone(), method.clone());
            let before = self.sent_at.insert(transaction, now.mono);
            if before.is_some_and(|before| now.mono < before + AT_ONCE) {
                let how = format!("{method} {branch} was sent twice at once");
                self.world.broken("I8", how);
            }
        }
        if method == "CANCEL" {
            return;
        }
        let key = (
            call_id.to_owned(),
            sender.tag().unwrap_or_default().to_owned(),
            receiver.tag().unwrap_or_default().to_owned(),
        );
        // Its numbers go on from those of the INVITE that began it.
        let first = (key.0.clone(), key.1.clone(), String::new());
        let known = self.highest.get(&key).or_else(|| self.highest.get(&first));
        match known {
            Some((highest, known)) if cseq.number == *highest && *known != branch => {
                let how = format!("CSeq {} of {} was used twice", cseq.number, key.0);
                self.world.broken("I8", how);
            }
            Some((highest, _)) if cseq.number < *highest => {
                // An older request may be retransmitted while a newer one is under way.
                self.world.count("older requests retransmitted");
            }
            Some(_) | None => {
                self.highest.insert(key, (cseq.number, branch));
            }
        }
    }
}
