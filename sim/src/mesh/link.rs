//! One node's end of its connection with another: what is under way, when the far end was heard.
//!
//! In: frames. Out: when each of them arrives at the earliest. A frame counts against the bound of
//! its class until it has arrived.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use contract::limits::{PEER_QUEUE_BYTES_MAX, PEER_QUEUE_FRAMES_MAX};
use contract::{FrameClass, Peer, PeerFault, Time};

/// One end of a connection.
pub(super) struct Link {
    /// The far end.
    pub(super) peer: Peer,
    /// Number of the connection: the same at both ends, and no other's.
    pub(super) number: u64,
    pub(super) opened: Time,
    pub(super) heard: Time,
    /// Before this the far end does not know of the connection.
    ready: Time,
    classes: BTreeMap<FrameClass, Queue>,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    octets: usize,
    last: Time,
}

impl Link {
    pub(super) fn new(peer: Peer, number: u64, now: Time, ready: Time) -> Link {
        Link {
            peer,
            number,
            opened: now,
            heard: now,
            ready,
            classes: BTreeMap::new(),
        }
    }

    /// Queues a frame whose trip ends at `at`; returns when it arrives, behind those before it.
    pub(super) fn push(
        &mut self,
        class: FrameClass,
        frame: Bytes,
        at: Time,
    ) -> Result<Time, PeerFault> {
        let queue = self.classes.entry(class).or_default();
        let is_full = queue.frames.len() >= PEER_QUEUE_FRAMES_MAX
            || queue.octets + frame.len() > PEER_QUEUE_BYTES_MAX;
        if is_full {
            return Err(PeerFault::Busy);
        }
        queue.octets += frame.len();
        queue.frames.push_back(frame);
        queue.last = at.max(queue.last).max(self.ready);
        Ok(queue.last)
    }

    /// Takes the frame of a class that arrives next.
    pub(super) fn pop(&mut self, class: FrameClass) -> Option<Bytes> {
        let queue = self.classes.get_mut(&class)?;
        let frame = queue.frames.pop_front()?;
        queue.octets -= frame.len();
        Some(frame)
    }
}
