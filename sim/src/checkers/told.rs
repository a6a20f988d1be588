//! A reader of the event log who asks another node each second is told each event once, in the order
//! of its life; at settle every node tells the same, and of each call that talks it is told so, when
//! that is no longer under way, or of a gap.
//!
//! In: nodes that run, at each look and at settle. Out: broken promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cluster::{Cursor, Gap, Item};
use contract::{CallKey, CallNews, Kind, NodeInst, Time, What};

use crate::node::SimNode;
use crate::world::World;

/// What the promise is called.
const PROMISE: &str = "events are told once and in order";

/// What the promise is called that of a call the reader hears.
const CALLS: &str = "committed transitions are told";

/// What is counted of the calls that talk at settle.
const AGREE: &str = "calls whose events agree with them at settle";

/// Time in which an event is at every node.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// A reader who goes from node to node.
#[derive(Default)]
pub struct Reader {
    cursor: Cursor,
    /// The last number of each life.
    last: BTreeMap<NodeInst, u64>,
    calls: BTreeMap<CallKey, Heard>,
    /// Some end of a life may be lost.
    has_gap: bool,
    turn: usize,
    /// The calls that talk at settle of which it was not told so, with their states.
    owed: Vec<(CallKey, String)>,
    /// When it must have been.
    owed_until: Time,
}

/// What it was told of a call.
#[derive(Default)]
struct Heard {
    is_answered: bool,
    is_ended: bool,
}

impl Reader {
    /// Reads at one of the nodes: each in its turn.
    pub fn look(&mut self, world: &Arc<World>, nodes: &[&SimNode]) {
        self.turn += 1;
        let Some(node) = nodes.get(self.turn % nodes.len().max(1)) else {
            return;
        };
        let is_alone = node.is_alone();
        for item in node.events(&mut self.cursor) {
            self.hear(world, node.life(), &item, is_alone);
        }
        self.require_owed(world);
    }

    /// Requires that of each call that talked at settle it was told so, once it had the time.
    fn require_owed(&mut self, world: &Arc<World>) {
        if world.now().mono < self.owed_until {
            return;
        }
        for (call, state) in std::mem::take(&mut self.owed) {
            let heard = self.calls.get(&call);
            if heard.is_some_and(|heard| heard.is_answered) {
                world.count(AGREE);
            } else if !self.has_gap {
                let how = format!("{call} was {state} and no event says so");
                world.broken(CALLS, how);
            }
        }
    }

    fn hear(&mut self, world: &Arc<World>, at: NodeInst, item: &Item, is_alone: bool) {
        let (life, number, event) = match item {
            Item::Event {
                life,
                number,
                event,
            } => (*life, *number, event),
            Item::Gap(Gap { life, from, until }) => {
                match until {
                    None => {
                        self.has_gap = true;
                        world.count("mark: events: the end of a life may be lost");
                    }
                    // A node alone has nobody to ask for what its disk has lost.
                    Some(_) if is_alone => world.count("events that a disk has lost"),
                    Some(until) => {
                        let how = format!("{at} lacks {from} to {until} of {life}");
                        world.broken("events are kept", how);
                    }
                }
                return;
            }
        };
        let before = self.last.insert(life, number).unwrap_or(0);
        if number != before + 1 && !is_alone {
            let how = format!("{at} tells {number} of {life} after {before}");
            return world.broken(PROMISE, how);
        }
        world.count("events told");
        let What::Call { call, news } = &event.what else {
            return;
        };
        let heard = self.calls.entry(*call).or_default();
        match news {
            // Nobody is put through before.
            CallNews::Answered
            | CallNews::Held
            | CallNews::Resumed
            | CallNews::Parked { .. }
            | CallNews::Transferring { .. } => heard.is_answered = true,
            CallNews::Transferred { .. } => {
                world.count("calls transferred");
                heard.is_answered = true;
            }
            CallNews::TransferFailed { .. } => {
                world.count("calls that were not transferred");
                heard.is_answered = true;
            }
            CallNews::Replaced { .. } => {
                world.count("parties that came from another call");
                heard.is_answered = true;
            }
            CallNews::Diverted { .. } => world.count("calls sent elsewhere"),
            CallNews::Moved { state } | CallNews::TakenOver { state } => {
                world.count("mark: events: a call that came from another node, or life");
                let answered = [
                    "answering",
                    "talking",
                    "held",
                    "transferring",
                    "transferred",
                    "parked",
                ];
                heard.is_answered |= answered.contains(&state.as_str());
            }
            CallNews::Ended { .. } => heard.is_ended = true,
            CallNews::Started { .. } | CallNews::Ringing { .. } => {}
        }
    }

    /// At settle: every node tells the rest alike, and the log agrees with the calls that there are.
    pub fn check(&mut self, world: &Arc<World>, nodes: &[&SimNode]) {
        let utc = world.now().utc;
        let (mut rests, mut all) = (Vec::new(), BTreeSet::new());
        for node in nodes {
            let mut cursor = Cursor::default();
            let told = node.events(&mut cursor).into_iter();
            let ids = told.filter_map(|item| match item {
                Item::Event {
                    life,
                    number,
                    event,
                } => (event.at.after(UNDER_WAY) < utc).then_some((life, number)),
                Item::Gap(_) => None,
            });
            let ids: BTreeSet<_> = ids.collect();
            all.extend(ids.iter().copied());
            rests.push((node.life(), ids));
        }
        let lacking = rests.iter().find(|(_, ids)| ids.len() < all.len());
        if let Some((node, ids)) = lacking {
            let missing: Vec<_> = all.difference(ids).collect();
            let how = format!(
                "at settle {node} lacks {} events, the first {:?}",
                missing.len(),
                missing.first()
            );
            world.broken("every node has every event", how);
        }
        self.look(world, nodes);
        self.owed_until = world.now().mono + UNDER_WAY;
        for row in nodes.iter().flat_map(|node| node.rows()) {
            let is_talking = row.live && matches!(row.state.as_str(), "talking" | "held");
            let call = row.id.call().filter(|_| row.id.kind() == Kind::Call);
            let Some(call) = call.filter(|_| is_talking) else {
                continue;
            };
            match self.calls.get(&call) {
                Some(heard) if heard.is_ended => {
                    if !self.has_gap {
                        let how = format!("{call} is {} and its end was told", row.state);
                        world.broken(CALLS, how);
                    }
                }
                Some(heard) if heard.is_answered => world.count(AGREE),
                // It may talk since a moment ago, and the event be on its way to the node that the
                // reader is at, or wait for its commit.
                Some(_) | None => self.owed.push((call, row.state)),
            }
        }
    }

    /// At the end, when everybody has hung up: of each call the end was told, or of a gap.
    pub fn check_ends(&mut self, world: &Arc<World>, nodes: &[&SimNode]) {
        self.look(world, nodes);
        let (ended, open): (Vec<_>, Vec<_>) =
            self.calls.iter().partition(|(_, heard)| heard.is_ended);
        for _ in &ended {
            world.count("calls whose end was told");
        }
        let may_be_lost = self.has_gap || !world.state().set_aside.is_empty();
        if let Some((call, _)) = open.first().filter(|_| !may_be_lost) {
            let how = format!("of {call} no end was told");
            world.broken(CALLS, how);
        }
    }
}
