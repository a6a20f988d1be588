//! What faults do to the world, and how it comes right again.
//!
//! In: a fault of the plan. Out: crashes, cuts, stalls, sick disks, bad weather, with their ends.

use std::net::IpAddr;
use std::time::Duration;

use contract::{NodeId, Time};

use super::{AFTERMATH, Change, Place, Run, at_place};
use crate::checkers::fence;
use crate::checkers::noticed::{PATIENCE, PROMPT};
use crate::checkers::taken_over::{self, Crash};
use crate::mesh::Mesh;
use crate::node::cluster_address;
use crate::plan::Fault;
use crate::sabotage;
use crate::store::Damage;
use crate::world::Cut;

/// Time in which a damaged disk is mended, and records have their holders again.
const MENDED: Duration = Duration::from_secs(60);

/// Longest time between two looks of a node for one that it took for dead
/// (`fabric/cluster/src/membership`: 5 s, and 1 to 2 s if it is alone).
const LOOKS_EVERY: Duration = Duration::from_secs(5);

impl Run {
    pub(super) fn begin(&mut self, fault: Fault, now: Time) {
        self.world.trace("fault", fault.to_string().as_bytes());
        let was_troubled = self.world.is_troubled();
        self.faults += 1;
        self.world.trouble(now + fault.lasts() + AFTERMATH);
        match fault {
            Fault::Crash { node, away } => {
                if !was_troubled {
                    self.note_orphans(at_place(node), away, now);
                }
                self.crash(at_place(node), away, now);
            }
            Fault::Panic { kind, after, times } => {
                self.world.count("panics ordered");
                sabotage::order(kind, after, times);
            }
            Fault::Weather { weather, lasts } => {
                self.world.count("spells of bad weather");
                self.world.state().weather = weather;
                self.plan_change(now + lasts, Change::ClearSky);
            }
            Fault::Disk { node, mood, lasts } => {
                self.world.count(if mood.full {
                    "full disks"
                } else {
                    "slow disks"
                });
                let at = at_place(node);
                self.places[at].disk.set_mood(mood);
                self.plan_change(now + lasts, Change::HealDisk(at));
            }
            Fault::Cut { node, lasts, .. } => {
                self.world.count("cuts between nodes");
                self.each_way(fault, |mesh, from, to| mesh.cut(from, to));
                self.watch.cut(NodeId(node), now + lasts);
                self.note_cut(node, now, now + lasts);
                self.plan_change(now + lasts, Change::Heal(fault));
            }
            Fault::SlowLink {
                extra_us, lasts, ..
            } => {
                self.world.count("slow links");
                self.each_way(fault, |mesh, from, to| mesh.slow_down(from, to, extra_us));
                self.watch.trouble(now + lasts);
                self.plan_change(now + lasts, Change::Heal(fault));
            }
            Fault::Damage { node, damage, away } => {
                if was_troubled {
                    // Something may have fewer copies than wanted just now.
                    return self.world.count("damages left out");
                }
                self.damage(at_place(node), damage, away, now);
            }
            Fault::Stall { node, lasts } => {
                let place = &self.places[at_place(node)];
                if let Some(node) = &place.node {
                    self.world.count("stalls");
                    node.stall(now + lasts);
                    place.disk.stall(now + lasts);
                    self.watch.trouble(now + lasts);
                }
            }
        }
    }

    fn note_cut(&self, node: u16, now: Time, until: Time) {
        let place = &self.places[at_place(node)];
        let others = self.places.iter().filter(|other| other.number != node);
        let mut state = self.world.state();
        for other in others {
            let pair = (node.min(other.number), node.max(other.number));
            let from = if are_apart(place, other) {
                parted(&state.cuts, pair, now)
            } else {
                now
            };
            state.cuts.push(Cut { pair, from, until });
        }
    }

    /// Notes which calls others must take over; where two others are left, who are a majority.
    fn note_orphans(&mut self, at: usize, away: Duration, now: Time) {
        let running = self.running().len();
        let Some(node) = &self.places[at].node else {
            return;
        };
        if self.places.len() < 3 || running < self.places.len() {
            return;
        }
        let (life, rows) = (node.life(), node.rows());
        let crash = Crash {
            life,
            away,
            at: now,
            faults: self.faults,
        };
        self.orphans.died(&self.world, &self.crowd, crash, &rows);
        self.plan_change(now + taken_over::PATIENCE, Change::Orphans);
    }

    /// Damages a disk, if that cannot take the last copy of something: all others run, and lack
    /// nothing (`cluster.md` §13, the budget).
    fn damage(&mut self, at: usize, damage: Damage, away: Duration, now: Time) {
        let others = || {
            self.places
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at)
        };
        let is_whole = others().all(|(_, place)| place.node.is_some() && !place.disk.is_damaged());
        let is_within = is_whole && self.places.len() > 2 && !self.was_hurt_lately(now);
        if !is_within || self.places[at].node.is_none() {
            return self.world.count("damages left out");
        }
        self.hurt_at = Some(now);
        let is_running = away.is_zero();
        if !is_running {
            self.crash(at, away, now);
        }
        let place = &self.places[at];
        if place.disk.damage(damage) {
            self.world.count(match (damage, is_running) {
                (Damage::Rot(_), true) => "mark: rot at a running node",
                (Damage::Rot(_), false) => "mark: rot while a node was away",
                (Damage::CutTail(_), _) => "mark: a cut tail",
                (Damage::Wipe, _) => "mark: a wiped disk",
            });
        }
        // What this disk has promised is not there any more; that is the damage.
        let is_cluster = self.is_cluster();
        let fresh = fence::watch(&self.world, self.keys.ids(), is_cluster);
        self.places[at].disk.watch(fresh);
    }

    /// Tells whether a damage before may not be mended yet, with what it has brought about.
    fn was_hurt_lately(&self, now: Time) -> bool {
        self.hurt_at.is_some_and(|at| now.since(at) < MENDED)
    }

    fn crash(&mut self, at: usize, away: Duration, now: Time) {
        let Some(node) = self.places[at].node.take() else {
            return;
        };
        self.world.count("crashes");
        if self.is_cluster() {
            let others = self.places.iter().filter_map(|place| place.node.as_ref());
            let others: Vec<_> = others.collect();
            self.watch.died(node.life(), away, &others, now);
            self.plan_change(now + PROMPT, Change::Deaths);
            self.plan_change(now + PATIENCE, Change::Deaths);
        }
        node.crash();
        self.places[at].disk.crash();
        self.plan_change(now + away, Change::Restart(at));
    }

    /// Does something to each way between hosts that a cut or a slow link is about.
    fn each_way(&self, fault: Fault, change: impl Fn(&Mesh, IpAddr, IpAddr)) {
        let host = |number| cluster_address(number).ip();
        let mesh = self.world.mesh();
        match fault {
            Fault::Cut {
                node,
                outward,
                inward,
                ..
            } => {
                let others = self.places.iter().map(|place| place.number);
                for other in others.filter(|other| *other != node) {
                    if outward {
                        change(mesh, host(node), host(other));
                    }
                    if inward {
                        change(mesh, host(other), host(node));
                    }
                }
            }
            Fault::SlowLink { node, other, .. } => {
                change(mesh, host(node), host(other));
                change(mesh, host(other), host(node));
            }
            Fault::Crash { .. }
            | Fault::Panic { .. }
            | Fault::Weather { .. }
            | Fault::Disk { .. }
            | Fault::Damage { .. }
            | Fault::Stall { .. } => {}
        }
    }

    pub(super) fn heal(&self, fault: Fault) {
        self.each_way(fault, |mesh, from, to| match fault {
            Fault::SlowLink { extra_us, .. } => mesh.speed_up(from, to, extra_us),
            Fault::Cut { .. }
            | Fault::Crash { .. }
            | Fault::Panic { .. }
            | Fault::Weather { .. }
            | Fault::Disk { .. }
            | Fault::Damage { .. }
            | Fault::Stall { .. } => mesh.heal(from, to),
        });
    }
}

/// Tells whether two nodes run, and neither has a connection with the other.
fn are_apart(one: &Place, other: &Place) -> bool {
    let (Some(one), Some(other)) = (&one.node, &other.node) else {
        return false;
    };
    !one.is_connected(other.life()) && !other.is_connected(one.life())
}

/// Returns since when two nodes cannot reach each other that have no connection as a cut begins: since the
/// end of the one before, if they need not have looked for each other between the two.
fn parted(cuts: &[Cut], pair: (u16, u16), now: Time) -> Time {
    let ends = cuts.iter().filter(|cut| cut.pair == pair);
    let last = ends.map(|cut| cut.until.min(now)).max();
    last.filter(|last| now.since(*last) < LOOKS_EVERY)
        .unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_did_not_find_each_other_are_still_parted() {
        let second = |number: u64| Time::from_micros(number * 1_000_000);
        let cut = |from, until| Cut {
            pair: (1, 2),
            from: second(from),
            until: second(until),
        };
        let cuts = [cut(80, 96), cut(89, 95)];
        let parted = |pair, now| parted(&cuts, pair, second(now));
        assert_eq!(parted((1, 2), 100), second(96));
        // They had the time to find each other.
        assert_eq!(parted((1, 2), 101), second(101));
        // The one before goes on.
        assert_eq!(parted((1, 2), 94), second(94));
        assert_eq!(parted((1, 3), 97), second(97));
    }
}
