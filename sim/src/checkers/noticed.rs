//! A dead node is noticed: it is gone within 8 s from the view of every survivor that
//! was not cut off, and within 600 ms from the views
//! of survivors that no fault touched, if two of them were connected with it and with each other.
//!
//! In: deaths, views, times. Out: broken promises, and how long it took where it had to be quick.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use contract::{Member, NodeId, NodeInst, Time};

use crate::world::World;

/// Shortest outage that has to be noticed.
pub const AWAY: Duration = Duration::from_secs(1);
/// Longest time until an untouched survivor notices.
pub const PROMPT: Duration = Duration::from_millis(600);
/// Longest time in any case.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// A survivor that knew the dead node.
#[derive(Clone, Copy, Debug)]
pub struct Survivor {
    /// Which life.
    pub life: NodeInst,
    /// It has to notice at once.
    pub is_prompt: bool,
}

struct Death {
    dead: NodeInst,
    at: Time,
    waiting: BTreeMap<NodeId, Survivor>,
}

/// The deaths that not everybody has noticed yet.
#[derive(Default)]
pub struct Noticed {
    deaths: Vec<Death>,
    /// How long the quick ones took.
    times: Vec<Duration>,
}

impl Noticed {
    /// Takes that a life has ended and stays so for `AWAY`.
    pub fn died(&mut self, dead: NodeInst, at: Time, survivors: Vec<Survivor>) {
        let by_node = survivors.into_iter().map(|one| (one.life.node, one));
        self.deaths.push(Death {
            dead,
            at,
            waiting: by_node.collect(),
        });
    }

    /// Takes the view of a node.
    pub fn seen(&mut self, node: NodeId, members: &[Member], now: Time) {
        for death in &mut self.deaths {
            if members.iter().any(|member| member.peer.inst == death.dead) {
                continue;
            }
            let noticed = death.waiting.remove(&node);
            if noticed.is_some_and(|survivor| survivor.is_prompt) {
                self.times.push(now.since(death.at));
            }
        }
        self.deaths.retain(|death| !death.waiting.is_empty());
    }

    /// Another fault begins: nobody need be quick any more, as two witnesses must hear each other.
    pub fn disturb(&mut self) {
        for death in &mut self.deaths {
            for survivor in death.waiting.values_mut() {
                survivor.is_prompt = false;
            }
        }
    }

    /// A survivor has ended itself.
    pub fn gone(&mut self, life: NodeInst) {
        for death in &mut self.deaths {
            let is_same = |known: &Survivor| known.life == life;
            if death.waiting.get(&life.node).is_some_and(is_same) {
                death.waiting.remove(&life.node);
            }
        }
        self.deaths.retain(|death| !death.waiting.is_empty());
    }

    /// Requires that whoever is late is not; `is_cut` tells who was cut off since a death.
    pub fn check(&mut self, world: &Arc<World>, now: Time, is_cut: impl Fn(NodeId, Time) -> bool) {
        for death in &self.deaths {
            let age = now.since(death.at);
            for survivor in death.waiting.values() {
                // A node that hears and is not heard may be told that it is taken for dead; its
                // patience with all others then begins anew.
                let is_excused = is_cut(survivor.life.node, death.at);
                let is_late =
                    (survivor.is_prompt && age >= PROMPT) || (age >= PATIENCE && !is_excused);
                if is_late {
                    let how = format!(
                        "{} died {age:?} ago and {} still lists it",
                        death.dead, survivor.life
                    );
                    world.broken("a dead node is noticed", how);
                }
            }
        }
        self.deaths.retain(|death| now.since(death.at) < PATIENCE);
    }

    /// Takes how long the quick ones took.
    #[must_use]
    pub fn times(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.times)
    }
}
