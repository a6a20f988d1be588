//! I11 at settle: no message passes more than two nodes on its way to an actor.
//!
//! In: frames. Out: broken promises.

use cluster::Frame;
use contract::NodeInst;

use crate::world::{Witness, World};

/// Nodes that a message may pass when everybody knows where everything is, or learns it.
const HOPS: u8 = 2;

/// The checker of all nodes.
#[derive(Debug)]
pub struct Forwarding;

impl Witness for Forwarding {
    fn sent(&mut self, world: &World, from: NodeInst, to: NodeInst, frame: &Frame) {
        let Frame::Tell {
            to: actor, hops, ..
        } = frame
        else {
            return;
        };
        if *hops > HOPS && world.state().is_settled {
            let how = format!("a message for {actor} goes from {from} on to {to}: node {hops}");
            world.broken("I11", how);
        }
    }
}
