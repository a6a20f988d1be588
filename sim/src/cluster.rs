//! What a run of several nodes watches besides the promises of one: views, deaths, consoles.
//!
//! In: what nodes say (`sabotage::News`), starts, crashes and faults. Out: broken promises, counts,
//! how long deaths took to be noticed. A run of one node has nothing of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use contract::{NodeId, NodeInst, Time};

use crate::checkers::noticed::{AWAY, Noticed, Survivor};
use crate::checkers::{agree, console, proven};
use crate::marks;
use crate::node::SimNode;
use crate::sabotage::{self, News};
use crate::world::World;

/// Numbers of the questions that are asked at settle; others are lower.
const SETTLED: u64 = 1 << 40;

/// Time after the end of a fault in which what it did is put right.
const AFTERMATH: Duration = Duration::from_secs(10);

/// The watch over a cluster.
#[derive(Default)]
pub struct Watch {
    noticed: Noticed,
    /// Until when faults that touch what nodes tell each other last, and their aftermath.
    troubled_until: Time,
    /// Until when each node that was cut off was so.
    cut_until: BTreeMap<NodeId, Time>,
    answers: usize,
}

impl Watch {
    /// Takes what the nodes said since the last time.
    pub fn listen(&mut self, world: &Arc<World>, running: &[NodeInst]) {
        let now = world.now().mono;
        for (node, news) in sabotage::news() {
            match news {
                News::View(members) => self.noticed.seen(node, &members, now),
                News::Down(dead, is_proven) => proven::check(world, node, dead, is_proven, running),
                News::Rejoined => world.count("nodes that rejoined"),
                News::Restored(kind, state, why) => marks::restored(world, kind, &state, why),
                News::Answer(ticket, body) => self.answered(world, (node, ticket), &body, running),
            }
        }
    }

    fn answered(
        &mut self,
        world: &Arc<World>,
        (node, ticket): (NodeId, u64),
        body: &[u8],
        running: &[NodeInst],
    ) {
        if console::is_missing(body) {
            world.count("console answers that lack a node");
        }
        if ticket == SETTLED {
            self.answers += 1;
            console::check(world, node, body, running.len());
        }
    }

    /// A fault begins that touches what nodes tell each other.
    pub fn trouble(&mut self, until: Time) {
        self.troubled_until = self.troubled_until.max(until + AFTERMATH);
        self.noticed.disturb();
    }

    /// A node is cut off, in one direction or both.
    pub fn cut(&mut self, node: NodeId, until: Time) {
        let known = self.cut_until.entry(node).or_default();
        *known = until.max(*known);
        self.trouble(until);
    }

    /// A node's process ends and stays away for a time; `others` run on.
    pub fn died(&mut self, dead: NodeInst, away: Duration, others: &[&SimNode], now: Time) {
        self.noticed.disturb();
        self.noticed.gone(dead);
        if away < AWAY {
            return;
        }
        let knows = |node: &SimNode, life: NodeInst| {
            let members = node.members();
            members.iter().any(|member| member.peer.inst == life)
        };
        let is_witness =
            |node: &SimNode| node.is_connected(dead) && knows(node, dead) && self.is_calm(now);
        let survivors = others.iter().filter(|node| knows(node, dead));
        let survivors = survivors.map(|node| {
            let life = node.life();
            let mut rest = others.iter().filter(|other| other.life() != life);
            let is_seconded = rest.any(|other| {
                let is_linked = node.is_connected(other.life()) && other.is_connected(life);
                is_linked && is_witness(other) && knows(node, other.life())
            });
            Survivor {
                life,
                is_prompt: is_seconded && is_witness(node),
            }
        });
        self.noticed.died(dead, now, survivors.collect());
    }

    fn is_calm(&self, now: Time) -> bool {
        self.troubled_until <= now
    }

    /// Requires that whoever is late in noticing a death is not.
    pub fn check_deaths(&mut self, world: &Arc<World>) {
        let cut_until = &self.cut_until;
        let is_cut = |node, since| cut_until.get(&node).is_some_and(|until| *until > since);
        self.noticed.check(world, world.now().mono, is_cut);
    }

    /// Requires that all nodes see the same cluster.
    pub fn check_views(world: &Arc<World>, nodes: &[&SimNode]) {
        let running: Vec<_> = nodes.iter().map(|node| node.life()).collect();
        for node in nodes {
            agree::check(world, node.life(), &node.members(), &running);
        }
    }

    /// Asks each console for the nodes.
    pub fn ask_consoles(&mut self, world: &Arc<World>, nodes: &[&SimNode]) {
        self.answers = 0;
        for node in nodes {
            if !node.ask_nodes(SETTLED) {
                world.broken(
                    "the console knows all nodes",
                    format!("{} does not listen", node.life()),
                );
            }
        }
    }

    /// Requires that each of them has answered.
    pub fn check_answers(&self, world: &Arc<World>, nodes: &[&SimNode]) {
        if self.answers != nodes.len() {
            let how = format!("{} of {} consoles answered", self.answers, nodes.len());
            world.broken("the console knows all nodes", how);
        }
    }

    /// Takes how long deaths took to be noticed where that had to be quick.
    #[must_use]
    pub fn times(&mut self) -> Vec<Duration> {
        self.noticed.times()
    }
}
