//! I16: inboxes stay under their caps. At the very end nothing is left: no call, no open port
//! (the leak half of I14).

use std::sync::Arc;

use contract::limits::{FLOW_INBOX_EVENTS_MAX, INBOX_EVENTS_MAX, LANE_INBOX_EVENTS_MAX};
use contract::{ActorRow, Kind, SideKey};

use crate::world::World;

/// Checks the inboxes of a listing.
pub fn check(world: &Arc<World>, rows: &[ActorRow]) {
    for row in rows {
        let cap = match row.id.kind() {
            Kind::Registration
            | Kind::Call
            | Kind::Dialog
            | Kind::MediaLeg
            | Kind::Gateway
            | Kind::Parking => INBOX_EVENTS_MAX,
            Kind::Flow | Kind::DoorSession | Kind::Console | Kind::Member => FLOW_INBOX_EVENTS_MAX,
            Kind::Lane => LANE_INBOX_EVENTS_MAX,
        };
        if row.inbox > cap {
            world.broken(
                "I16",
                format!("{} has {} events waiting", row.id, row.inbox),
            );
        }
    }
}

/// Checks that nothing is left when every phone has hung up: nobody who runs, no side that waits for a call,
/// no place that a call is parked in.
pub fn check_empty(world: &Arc<World>, rows: &[ActorRow], legs: &[SideKey]) {
    let calls: Vec<_> = rows
        .iter()
        .filter(|row| (row.live || row.inbox > 0) && row.id.call().is_some())
        .map(|row| format!("{} ({})", row.id, row.state))
        .collect();
    if !calls.is_empty() {
        world.broken(
            "I7",
            format!("everybody has hung up, and there is {}", calls.join(", ")),
        );
    }
    let mut places = rows
        .iter()
        .filter(|row| row.id.kind() == Kind::Parking && row.live);
    if let Some(place) = places.find(|row| row.state != "empty") {
        let how = format!("everybody has hung up, and {} is {}", place.id, place.state);
        world.broken("I7", how);
    }
    if !legs.is_empty() {
        world.broken(
            "I14",
            format!("{} ports are open and no call needs them", legs.len()),
        );
    }
}
