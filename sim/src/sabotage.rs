//! Panics at chosen events: a roster that stands before the real one.
//!
//! In: orders of the run (which kind, after how many events, how often). Out: a panic in `handle`,
//! where a fault of ours would be. A run is one thread, so its orders are the thread's.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use actors::{AnyCore, Message, Site};
use contract::core::{Ctx, Event, RestoreError, Roster};
use contract::{ActorId, Kind, Now, Time};

/// Text of the panics: the log line of such a panic is expected.
pub const WORD: &str = "sabotage";

#[derive(Clone, Copy)]
struct Order {
    kind: Kind,
    after: u32,
    times: u32,
}

thread_local! {
    static FIRED: RefCell<BTreeMap<Kind, u64>> = const { RefCell::new(BTreeMap::new()) };
    static ORDERS: RefCell<Vec<Order>> = const { RefCell::new(Vec::new()) };
}

/// Orders a panic.
pub fn order(kind: Kind, after: u32, times: u32) {
    ORDERS.with_borrow_mut(|orders| orders.push(Order { kind, after, times }));
}

/// Takes all orders back.
pub fn clear() {
    ORDERS.with_borrow_mut(Vec::clear);
}

/// Takes how many panics there were since the last time, by kind.
#[must_use]
pub fn fired() -> BTreeMap<Kind, u64> {
    FIRED.take()
}

/// Tells whether a core of this kind panics now.
fn is_due(kind: Kind) -> bool {
    ORDERS.with_borrow_mut(|orders| {
        let Some(at) = orders.iter().position(|order| order.kind == kind) else {
            return false;
        };
        let order = &mut orders[at];
        if order.after > 0 {
            order.after -= 1;
            return false;
        }
        order.times -= 1;
        FIRED.with_borrow_mut(|fired| *fired.entry(kind).or_default() += 1);
        if order.times == 0 {
            orders.remove(at);
        }
        true
    })
}

/// The real cores, made to panic.
#[derive(Debug)]
pub struct Saboteur {
    kind: Kind,
    inner: AnyCore,
}

impl Roster for Saboteur {
    type Message = Message;
    type Site = Site;

    fn create(id: &ActorId, first: &Message, site: &Site) -> Option<Self> {
        AnyCore::create(id, first, site).map(|inner| Saboteur {
            kind: id.kind(),
            inner,
        })
    }

    fn create_system(id: &ActorId, site: &Site) -> Option<Self> {
        AnyCore::create_system(id, site).map(|inner| Saboteur {
            kind: id.kind(),
            inner,
        })
    }

    fn restore(id: &ActorId, bytes: &[u8], now: Now) -> Result<Self, RestoreError> {
        AnyCore::restore(id, bytes, now).map(|inner| Saboteur {
            kind: id.kind(),
            inner,
        })
    }

    fn handle(&mut self, event: Event<Message, ()>, ctx: &mut Ctx<'_, Message, Site>) {
        let is_first = matches!(event, Event::Restored(_));
        self.inner.handle(event, ctx);
        // After the work, before its actions: the worst moment.
        assert!(is_first || !is_due(self.kind), "{WORD}");
    }

    fn next_deadline(&self) -> Option<Time> {
        self.inner.next_deadline()
    }

    fn snapshot(&self, now: Now) -> Vec<u8> {
        self.inner.snapshot(now)
    }

    fn view(&self, now: Now) -> serde_json::Value {
        self.inner.view(now)
    }

    fn state(&self) -> String {
        self.inner.state()
    }

    fn passivates_after(&self) -> Option<Duration> {
        self.inner.passivates_after()
    }

    fn describe(message: &Message) -> (String, usize) {
        AnyCore::describe(message)
    }

    fn is_new_work(message: &Message) -> bool {
        AnyCore::is_new_work(message)
    }
}
