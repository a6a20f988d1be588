//! V1 and I5 at settle: every holder of a record has its newest version, nothing is half done, and
//! each actor runs at most once, on the node that its record names.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use cluster::{Conf, Header, RecordState, Version};
use contract::{ActorId, ActorRow, NodeId, NodeInst};

use crate::store::{Handle, SimStore};
use crate::world::World;

/// Returns the newest version of each record.
#[must_use]
pub fn newest(disks: &[Arc<SimStore>]) -> BTreeMap<ActorId, Version> {
    let held = headers(disks);
    let newest = held.into_iter().filter_map(|(id, copies)| {
        let versions = copies.into_values().map(|header| header.version);
        Some((id, versions.max()?))
    });
    newest.collect()
}

/// Checks the records of all disks; `disks` in the order of the nodes' numbers, from 1 on.
///
/// In: `seen`, what was newest a moment ago: a call that goes on commits at any time, and a commit
/// that is under way just now is nothing amiss; one that was, and still is, is.
pub fn check(world: &Arc<World>, disks: &[Arc<SimStore>], seen: &BTreeMap<ActorId, Version>) {
    let held = headers(disks);
    for (id, copies) in &held {
        let Some(newest) = copies.values().max_by_key(|header| header.version) else {
            continue;
        };
        if seen.get(id) != Some(&newest.version) {
            world.count("records that changed at settle");
            check_passed(world, id, newest, copies, seen.get(id));
            continue;
        }
        // Holders forget it one after the other.
        if newest.is_ended() && newest.expires <= world.now().utc {
            continue;
        }
        // A tombstone changes no more.
        let is_ended = newest.is_ended();
        let broken = |how: String| world.broken("V1", format!("{id}: {how}"));
        if let (Conf::Joint { .. }, false) = (&newest.conf, is_ended) {
            broken(format!("its holders still change: {:?}", newest.conf));
        }
        match newest.state {
            RecordState::Active | RecordState::Ended => {}
            RecordState::Claimed | RecordState::Moving { .. } => {
                broken(format!("it is left {:?}", newest.state));
            }
        }
        if newest.degraded && !is_ended {
            broken("it still says that it is degraded".to_owned());
        }
        for node in newest.conf.nodes() {
            let version = copies.get(&node).map(|header| header.version);
            if version != Some(newest.version) {
                let (state, conf) = (newest.state, &newest.conf);
                let newest = newest.version;
                broken(format!(
                    "node {node} has {version:?} and not {newest:?}, {state:?} at {conf:?}"
                ));
            }
        }
        world.count("records that all holders have");
    }
}

/// Checks a record that is being written: each holder has what was newest a moment ago.
fn check_passed(
    world: &Arc<World>,
    id: &ActorId,
    newest: &Header,
    copies: &BTreeMap<NodeId, Header>,
    seen: Option<&Version>,
) {
    let Some(seen) = seen.filter(|_| matches!(newest.conf, Conf::Settled(_))) else {
        return;
    };
    for node in newest.conf.nodes() {
        let version = copies.get(&node).map(|header| header.version);
        if version < Some(*seen) {
            let how = format!("{id}: node {node} has {version:?}, and did not take {seen:?}");
            world.broken("V1", how);
        }
    }
}

/// Checks who runs each actor: `rows` by the life that lists them.
pub fn check_owners(
    world: &Arc<World>,
    disks: &[Arc<SimStore>],
    rows: &[(NodeInst, Vec<ActorRow>)],
) {
    let held = headers(disks);
    let mut runs: BTreeMap<&ActorId, NodeInst> = BTreeMap::new();
    for (life, rows) in rows {
        for row in rows
            .iter()
            .filter(|row| row.live && row.id.kind().is_recorded())
        {
            if let Some(other) = runs.insert(&row.id, *life) {
                let how = format!("{} runs at {other} and at {life}", row.id);
                world.broken("I5", how);
            }
            let copies = held.get(&row.id.record_owner());
            let newest = copies.and_then(|copies| copies.values().max_by_key(|one| one.version));
            if newest.is_some_and(|newest| newest.owner != *life && !newest.is_ended()) {
                let how = format!("{} runs at {life}, its record says {newest:?}", row.id);
                world.broken("I5", how);
            }
        }
    }
}

fn headers(disks: &[Arc<SimStore>]) -> BTreeMap<ActorId, BTreeMap<NodeId, Header>> {
    let mut held: BTreeMap<ActorId, BTreeMap<NodeId, Header>> = BTreeMap::new();
    for (number, disk) in (1..).zip(disks) {
        let handle = Handle::open(disk);
        // A disk that cannot be read is another checker's affair.
        let _ = cluster::scan(handle.as_ref(), &mut |header| {
            // A former holder keeps a while what says who the holders are.
            if cluster::desk::is_stray(header, NodeId(number)) {
                return ControlFlow::Continue(());
            }
            let copies = held.entry(header.id.clone()).or_default();
            copies.insert(NodeId(number), header.clone());
            ControlFlow::Continue(())
        });
    }
    held
}
