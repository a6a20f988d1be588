//! Requests of the HTTP API that wait for the console.
//!
//! In: a number for each request, then the console's answer to it. Out: the answer to the one who
//! waits. Bound: `TICKETS_MAX`; more are refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

/// Requests that wait at a time: as many as the console keeps.
const TICKETS_MAX: usize = 1_024;

/// The console's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// JSON, or a problem for 400 and above.
    pub body: Bytes,
}

/// The table of those who wait.
#[derive(Debug, Default)]
pub struct Tickets {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
}

impl Tickets {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a number; `None` if too many wait.
    pub(crate) fn open(self: &Arc<Self>) -> Option<Ticket> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.table();
        if table.waiting.len() >= TICKETS_MAX {
            return None;
        }
        table.last += 1;
        let number = table.last;
        table.waiting.insert(number, sender);
        drop(table);
        Some(Ticket {
            number,
            receiver,
            tickets: Arc::clone(self),
        })
    }

    /// Gives an answer to the one who waits; one that nobody waits for any more is dropped.
    pub fn answer(&self, ticket: u64, reply: Reply) {
        let waiting = self.table().waiting.remove(&ticket);
        if let Some(sender) = waiting {
            let _ = sender.send(reply);
        }
    }
}

/// One who waits; leaves the table when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub number: u64,
    receiver: oneshot::Receiver<Reply>,
    tickets: Arc<Tickets>,
}

impl Ticket {
    /// Waits; `None` if the node ends first.
    pub(crate) async fn wait(&mut self) -> Option<Reply> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.tickets.table().waiting.remove(&self.number);
    }
}
