//! What one actor says to another goes on in the order in which it was said, also after an actor that
//! has moved (`cluster.md` §6).
//!
//! In: frames. Out: broken promises. Looked at are messages that a node had received from another
//! one and passes on: it passes on none before one that it received earlier, but for those that
//! were said more than once.

use std::collections::{BTreeMap, VecDeque};

use cluster::Frame;
use contract::{ActorId, NodeInst};

use crate::world::{Witness, World};

/// Messages that are remembered of one way: more than wait for an actor.
const REMEMBERED: usize = 64;
/// Ways that are remembered; then it begins anew.
const WAYS: usize = 20_000;

/// Who receives, what from, and who says it to whom.
type Way = (NodeInst, NodeInst, ActorId, ActorId);

/// The checker of all nodes.
#[derive(Debug, Default)]
pub struct Order {
    received: BTreeMap<Way, VecDeque<Said>>,
    numbers: u64,
}

#[derive(Debug)]
struct Said {
    number: u64,
    message: Vec<u8>,
    is_passed_on: bool,
}

impl Order {
    fn received(&mut self, way: Way, message: &[u8]) {
        if self.received.len() >= WAYS {
            self.received.clear();
        }
        self.numbers += 1;
        let said = self.received.entry(way).or_default();
        if said.len() >= REMEMBERED {
            said.pop_front();
        }
        said.push_back(Said {
            number: self.numbers,
            message: message.to_vec(),
            is_passed_on: false,
        });
    }

    /// Returns whether something that was received later was passed on already.
    fn is_overtaken(&mut self, way: &Way, message: &[u8]) -> bool {
        let Some(said) = self.received.get_mut(way) else {
            return false;
        };
        let mut same = said.iter_mut().filter(|one| one.message == message);
        let (Some(one), None) = (same.next(), same.next()) else {
            return false;
        };
        // One that comes back is passed on once more.
        let is_first = !std::mem::replace(&mut one.is_passed_on, true);
        let number = one.number;
        is_first
            && said
                .iter()
                .any(|one| one.is_passed_on && one.number > number)
    }
}

impl Witness for Order {
    fn sent(&mut self, world: &World, from: NodeInst, to: NodeInst, frame: &Frame) {
        let Frame::Tell {
            from: sender,
            origin,
            to: actor,
            message,
            ..
        } = frame
        else {
            return;
        };
        let way = (from, *origin, sender.clone(), actor.clone());
        if self.is_overtaken(&way, message) {
            let how = format!("{from} passes on to {to} what {sender} said to {actor} later first");
            world.broken("order", how);
        }
        let way = (to, *origin, sender.clone(), actor.clone());
        self.received(way, message);
    }
}
