//! Panics at chosen events: a roster that stands before the real one, and hears what the nodes of a
//! cluster say.
//!
//! In: orders of the run (which kind, after how many events, how often). Out: a panic in `handle`,
//! where a fault of ours would be; views, deaths and answers for the checkers. A run is one thread,
//! so its orders are the thread's.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use actors::{AnyCore, Message, Site};
use bytes::Bytes;
use contract::core::{Ctx, Event, RestoreError, Restored, Rivals, Roster};
use contract::{
    Action, ActorId, Emitted, FrameClass, Kind, Member, NodeId, NodeInst, Now, SchemaVersion, Time,
};

use crate::planted;

/// Text of the panics: the log line of such a panic is expected.
pub const WORD: &str = "sabotage";

#[derive(Clone, Copy)]
struct Order {
    kind: Kind,
    after: u32,
    times: u32,
}

/// What a node of a cluster says.
#[derive(Debug)]
pub enum News {
    /// It sees the cluster so.
    View(Vec<Member>),
    /// It takes a life of a node for dead; with proof or without.
    Down(NodeInst, bool),
    /// Others took it for dead; it is back.
    Rejoined,
    /// Its console answers a question of this number.
    Answer(u64, Bytes),
    /// It builds a core from its record, in this state, for this reason.
    Restored(Kind, String, Restored),
}

thread_local! {
    static NEWS: RefCell<Vec<(NodeId, News)>> = const { RefCell::new(Vec::new()) };
    static FIRED: RefCell<BTreeMap<Kind, u64>> = const { RefCell::new(BTreeMap::new()) };
    static MERGES: RefCell<(u64, u64)> = const { RefCell::new((0, 0)) };
    static ORDERS: RefCell<Vec<Order>> = const { RefCell::new(Vec::new()) };
}

/// Orders a panic.
pub fn order(kind: Kind, after: u32, times: u32) {
    ORDERS.with_borrow_mut(|orders| orders.push(Order { kind, after, times }));
}

/// Takes what nodes of a cluster said since the last time, in order.
#[must_use]
pub fn news() -> Vec<(NodeId, News)> {
    NEWS.take()
}

/// Notes what of an actor's actions checkers want to know.
fn note(site: &Site, actions: &[Action<Message>]) {
    for action in actions {
        let news = match action {
            Action::Emit(Emitted::View(members)) => News::View(members.clone()),
            Action::Emit(Emitted::NodeDown {
                instance,
                is_proven,
            }) => News::Down(*instance, *is_proven),
            Action::Emit(Emitted::Rejoined) => News::Rejoined,
            Action::Http { ticket, body, .. } => News::Answer(*ticket, body.clone()),
            Action::Emit(_)
            | Action::Send { .. }
            | Action::Tell { .. }
            | Action::Spawn { .. }
            | Action::Stop { .. }
            | Action::Store(_)
            | Action::Lookup { .. }
            | Action::Media(_)
            | Action::Adopt { .. }
            | Action::Connect { .. }
            | Action::Close { .. } => continue,
        };
        NEWS.with_borrow_mut(|all| all.push((site.node, news)));
    }
}

/// Takes all orders back.
pub fn clear() {
    ORDERS.with_borrow_mut(Vec::clear);
}

/// Takes how many merges of copies that differ there were since the last time, and how many of them
/// gave what none of the copies had.
#[must_use]
pub fn merges() -> (u64, u64) {
    MERGES.take()
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

    fn merge(id: &ActorId, copies: &[Bytes], now: Now) -> Bytes {
        let merged = AnyCore::merge(id, planted::seen(copies), now);
        let differ = copies.windows(2).any(|pair| pair[0] != pair[1]);
        if differ {
            let is_new = copies.iter().all(|copy| *copy != merged);
            MERGES.with_borrow_mut(|merges| {
                merges.0 += 1;
                merges.1 += u64::from(is_new);
            });
        }
        merged
    }

    fn follows_the_end(message: &Message) -> bool {
        AnyCore::follows_the_end(message)
    }

    fn bequeath(id: &ActorId, copies: &Rivals<'_>, now: Now) -> Option<Message> {
        AnyCore::bequeath(id, copies, now)
    }

    fn handle(&mut self, event: Event<Message, ()>, ctx: &mut Ctx<'_, Message, Site>) {
        let is_first = matches!(event, Event::Restored(_));
        if planted::is_unheard(&event) {
            return;
        }
        if ctx.site().cluster.is_some() {
            if let Event::Restored(why) = &event {
                let news = News::Restored(self.kind, self.inner.state(), *why);
                NEWS.with_borrow_mut(|all| all.push((ctx.site().node, news)));
            }
            let (now, me, health, site) = (ctx.now(), ctx.me(), ctx.health(), ctx.site());
            let mut actions = Vec::new();
            let mut inner = Ctx::new(now, me, health, site, ctx.rng(), &mut actions);
            self.inner.handle(event, &mut inner);
            note(site, &actions);
            for action in actions {
                ctx.act(action);
            }
        } else {
            self.inner.handle(event, ctx);
        }
        // After the work, before its actions: the worst moment.
        assert!(is_first || !is_due(self.kind), "{WORD}");
    }

    fn next_deadline(&self) -> Option<Time> {
        self.inner.next_deadline()
    }

    fn snapshot(&self, now: Now, schema: SchemaVersion) -> Vec<u8> {
        self.inner.snapshot(now, schema)
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

    fn frame_class(message: &Message) -> FrameClass {
        AnyCore::frame_class(message)
    }

    fn encode(message: &Message, schema: SchemaVersion) -> Vec<u8> {
        AnyCore::encode(message, schema)
    }

    fn decode(bytes: &[u8]) -> Option<Message> {
        AnyCore::decode(bytes)
    }
}
