//! What waits to be written on one connection: a bounded queue for each class.
//!
//! In: frames of any task. Out: octets for the writing task, the most urgent class first. A full
//! queue takes nothing and says so. It touches no socket.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use contract::limits::{PEER_QUEUE_BYTES_MAX, PEER_QUEUE_FRAMES_MAX};
use contract::{FrameClass, PeerFault};
use tokio::sync::Notify;

use super::wire::{self, Kind, Track};

/// Octets that are put together for one write; a frame that begins below it still goes with it.
const BATCH_BYTES: usize = 64 * 1024;

/// The queues of one connection.
#[derive(Debug)]
pub(super) struct Outbox {
    queues: Mutex<Queues>,
    changed: Notify,
}

#[derive(Debug)]
struct Queues {
    classes: [Queue; 3],
    is_ending: bool,
}

#[derive(Debug)]
struct Queue {
    class: FrameClass,
    frames: VecDeque<Bytes>,
    octets: usize,
}

impl Outbox {
    pub(super) fn new(track: Track) -> Self {
        let classes = track.classes().map(|class| Queue {
            class,
            frames: VecDeque::new(),
            octets: 0,
        });
        Outbox {
            queues: Mutex::new(Queues {
                classes,
                is_ending: false,
            }),
            changed: Notify::new(),
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        // A panic while the lock was held left whole queues: each change is one push or pop.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame of one of the track's classes.
    ///
    /// # Errors
    /// `Busy` if the queue of the class is full, `Absent` if the connection ends.
    pub(super) fn push(&self, class: FrameClass, frame: Bytes) -> Result<(), PeerFault> {
        let mut queues = self.queues();
        if queues.is_ending {
            return Err(PeerFault::Absent);
        }
        let Some(queue) = queues.classes.iter_mut().find(|queue| queue.class == class) else {
            return Err(PeerFault::Absent);
        };
        if queue.frames.len() >= PEER_QUEUE_FRAMES_MAX
            || queue.octets + frame.len() > PEER_QUEUE_BYTES_MAX
        {
            return Err(PeerFault::Busy);
        }
        queue.octets += frame.len();
        queue.frames.push_back(frame);
        drop(queues);
        self.changed.notify_one();
        Ok(())
    }

    /// Moves frames to `out`, up to a batch. Tells whether the connection is to end after them.
    pub(super) fn take(&self, out: &mut BytesMut) -> bool {
        let mut queues = self.queues();
        for queue in &mut queues.classes {
            while out.len() < BATCH_BYTES {
                let Some(frame) = queue.frames.pop_front() else {
                    break;
                };
                queue.octets -= frame.len();
                wire::put(out, Kind::Frame(queue.class), &frame);
            }
        }
        queues.is_ending && queues.classes.iter().all(|queue| queue.frames.is_empty())
    }

    /// Takes no frame any more; the connection ends in order after what is queued.
    pub(super) fn end(&self) {
        self.queues().is_ending = true;
        self.changed.notify_one();
    }

    /// Ends when there may be something to take.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
