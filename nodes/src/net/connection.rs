//! One connection, as others see it: a queue of what goes out, and its end.
//!
//! In: octets of cores, the order to close. Out: what the writing task puts on the wire next. A full
//! queue ends the connection. It touches no socket.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use contract::limits::CONNECTION_WRITE_BYTES_MAX;
use contract::{CloseCode, FlowRef};
use tokio::sync::Notify;

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    flow: FlowRef,
    queue: Mutex<Queue>,
    changed: Notify,
    broken: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Bytes>,
    octets: usize,
    wants_ping: bool,
    ending: Option<End>,
}

/// How a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Number that a WebSocket's peer is told (RFC 6455 §7.4.1).
    pub code: u16,
    /// Why.
    pub why: String,
}

impl End {
    pub(super) fn new(code: CloseCode, why: impl Into<String>) -> Self {
        End {
            code: code.number(),
            why: why.into(),
        }
    }
}

/// What the writing task does next.
#[derive(Debug)]
pub(super) enum Next {
    /// Writes octets.
    Write(Bytes),
    /// Pings (WebSockets only).
    Ping,
    /// Waits for [`Connection::changed`].
    Wait,
    /// Ends.
    End(End),
}

impl Connection {
    pub(super) fn new(flow: FlowRef) -> Self {
        Connection {
            flow,
            queue: Mutex::default(),
            changed: Notify::new(),
            broken: Notify::new(),
        }
    }

    pub(super) const fn flow(&self) -> &FlowRef {
        &self.flow
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues octets; a peer that takes too little loses the connection.
    pub(super) fn send(&self, bytes: Bytes) {
        let mut queue = self.queue();
        if queue.ending.is_some() {
            metrics::counter!("weft_stream_writes_lost_total").increment(1);
            return;
        }
        if queue.octets + bytes.len() > CONNECTION_WRITE_BYTES_MAX {
            queue.ending = Some(End::new(CloseCode::TryLater, "the peer takes too little"));
            queue.waiting.clear();
            queue.octets = 0;
            drop(queue);
            metrics::counter!("weft_connections_overrun_total").increment(1);
            self.broken.notify_one();
            return;
        }
        queue.octets += bytes.len();
        queue.waiting.push_back(bytes);
        drop(queue);
        self.changed.notify_one();
    }

    /// Has the writing task ping.
    pub(super) fn ping(&self) {
        self.queue().wants_ping = true;
        self.changed.notify_one();
    }

    /// Ends it once what is queued is written.
    pub(super) fn close(&self, code: CloseCode, why: &'static str) {
        let mut queue = self.queue();
        queue.ending.get_or_insert_with(|| End::new(code, why));
        drop(queue);
        self.changed.notify_one();
    }

    /// Returns what is to be written next.
    pub(super) fn next(&self) -> Next {
        let mut queue = self.queue();
        if let Some(bytes) = queue.waiting.pop_front() {
            queue.octets -= bytes.len();
            return Next::Write(bytes);
        }
        match queue.ending.clone() {
            Some(end) => Next::End(end),
            None if std::mem::take(&mut queue.wants_ping) => Next::Ping,
            None => Next::Wait,
        }
    }

    /// Tells whether it ends.
    pub(super) fn is_ending(&self) -> bool {
        self.queue().ending.is_some()
    }

    /// Ends when there may be something new to write.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Ends when the peer has taken too little.
    pub(super) async fn broken(&self) -> End {
        self.broken.notified().await;
        let end = self.queue().ending.clone();
        end.unwrap_or_else(|| End::new(CloseCode::Internal, "broken"))
    }
}
