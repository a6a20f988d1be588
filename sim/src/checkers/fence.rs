//! I1: the fence of a record never falls, over crashes too. I2: acknowledged commits of one record
//! have strictly rising versions. In a cluster a holder writes a record again when its fence rises,
//! so there a version may come twice, and never an older one.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use cluster::{Epoch, Version};
use contract::{ActorId, IdHasher};

use super::One;
use crate::store::OnDurable;
use crate::world::World;

/// Makes the visitor of durable values that checks both.
#[must_use]
pub fn watch(world: &Arc<World>, ids: IdHasher, is_cluster: bool) -> OnDurable {
    let world = Arc::clone(world);
    let mut known: BTreeMap<ActorId, (Epoch, Version)> = BTreeMap::new();
    Box::new(move |key, value| check(&world, &ids, &mut known, key, value, is_cluster))
}

fn check(
    world: &Arc<World>,
    ids: &IdHasher,
    known: &mut BTreeMap<ActorId, (Epoch, Version)>,
    key: &[u8],
    value: &Bytes,
    is_cluster: bool,
) {
    let one = One {
        key: key.to_vec(),
        value: value.clone(),
    };
    let mut found = None;
    let scanned = cluster::scan(&one, &mut |header| {
        found = Some((header.id.clone(), header.version));
        ControlFlow::Continue(())
    });
    if scanned.is_err() || scanned.is_ok_and(|scanned| scanned.unread > 0) {
        world.broken(
            "I1",
            "a header that became durable cannot be read".to_owned(),
        );
    }
    let Some((id, version)) = found else { return };
    let fence = cluster::hold(&one, ids, &id).map_or(version.epoch, |held| held.fence);
    if let Some((last_fence, last_version)) = known.get(&id) {
        if fence < *last_fence {
            world.broken(
                "I1",
                format!("the fence of {id} fell from {last_fence:?} to {fence:?}"),
            );
        }
        let is_again = is_cluster && version == *last_version;
        if version <= *last_version && !is_again {
            let how = format!("{id}: {version:?} was committed after {last_version:?}");
            world.broken("I2", how);
        }
    }
    known.insert(id, (fence, version));
}
