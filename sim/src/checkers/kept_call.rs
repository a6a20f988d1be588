//! I7 as phones see it: a call that both ends agree on has sound; none is lost without a word.

use std::sync::Arc;
use std::time::Duration;

use crate::phone::Phone;
use crate::world::World;

/// Time in which sound must be back after the world has become calm.
const SETTLE: Duration = Duration::from_secs(10);

/// Passes on what a phone complains about. A BYE that came twice was heard the first time: only
/// its answer was lost (with a crash, or with an event that was set aside).
pub fn complaints(world: &Arc<World>, phone: &mut Phone) {
    for complaint in phone.complaints() {
        let call_id = complaint.unknown_bye.as_ref();
        let copies = call_id.and_then(|call_id| world.state().byes.get(call_id).copied());
        if copies.is_some_and(|copies| copies > 1) {
            world.count("BYEs heard, whose answer was lost");
        } else {
            world.broken(complaint.promise, complaint.how);
        }
    }
}

/// At settle: every call of a phone that expects sound has heard some within the last second.
pub fn check_sound(world: &Arc<World>, phone: &Phone) {
    let now = world.now().mono;
    for (call_id, call) in phone.calls() {
        if !call.expects_sound() || now.since(call.since) < SETTLE {
            continue;
        }
        let agreed = now.since(call.agreed);
        let silence = call
            .heard
            .map_or(agreed, |heard| now.since(heard).min(agreed));
        if silence > Duration::from_secs(1) {
            let how = format!("{}: no sound for {silence:?} in call {call_id}", phone.user);
            world.broken("I7", how);
        }
        world.count("calls with sound at settle");
    }
}
