//! I7 as phones see it: a call that both ends agree on has sound; none is lost without a word.

use std::sync::Arc;
use std::time::Duration;

use crate::phone::Phone;
use crate::world::World;

/// Time in which sound must be back after the world has become calm.
const SETTLE: Duration = Duration::from_secs(10);

/// Passes on what a phone complains about. A BYE that came twice was heard the first time: only
/// its answer was lost (with a crash, or with an event that was set aside). And if an event of the
/// very call was set aside, our BYE may have been that event.
pub fn complaints(world: &Arc<World>, phone: &mut Phone) {
    for complaint in phone.complaints() {
        let excuse = complaint
            .unknown_bye
            .as_ref()
            .and_then(|call_id| excuse(world, call_id));
        match excuse {
            Some(excuse) => world.count(excuse),
            None => world.broken(complaint.promise, complaint.how),
        }
    }
}

fn excuse(world: &World, call_id: &str) -> Option<&'static str> {
    let state = world.state();
    if state.byes.get(call_id).is_some_and(|copies| *copies > 1) {
        return Some("BYEs heard, whose answer was lost");
    }
    let call = state.calls.get(call_id)?;
    let is_hit = state.set_aside.iter().any(|event| event.contains(call));
    is_hit.then_some("calls that lost an event that was set aside")
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
