//! I7 as phones see it: a call that both ends agree on has sound; none is lost without a word.

use std::sync::Arc;
use std::time::Duration;

use crate::phone::Phone;
use crate::world::World;

/// Time in which sound must be back after the world has become calm.
const SETTLE: Duration = Duration::from_secs(10);

/// Passes on what a phone complains about.
pub fn complaints(world: &Arc<World>, phone: &mut Phone) {
    for complaint in phone.complaints() {
        world.broken(complaint.promise, complaint.how);
    }
}

/// At settle: every call of a phone that expects sound has heard some within the last second.
pub fn check_sound(world: &Arc<World>, phone: &Phone) {
    let now = world.now().mono;
    for (call_id, call) in phone.calls() {
        if !call.expects_sound() || now.since(call.since) < SETTLE {
            continue;
        }
        let silence = call
            .heard
            .map_or(now.since(call.since), |heard| now.since(heard));
        if silence > Duration::from_secs(1) {
            let how = format!("{}: no sound for {silence:?} in call {call_id}", phone.user);
            world.broken("I7", how);
        }
        world.count("calls with sound at settle");
    }
}
