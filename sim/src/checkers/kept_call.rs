//! I7 as phones see it: a call that both ends agree on has sound; none is lost without a word.

use std::sync::Arc;
use std::time::Duration;

use contract::{ActorRow, Kind, NodeId, Time};

use super::durable::call_of;
use crate::client::Client;
use crate::node::number_of;
use crate::phone::{Complaint, Phone};
use crate::ways::Stay;
use crate::world::{Cut, State, World};

/// Time in which sound must be back after the world has become calm.
const SETTLE: Duration = Duration::from_secs(10);

/// Longest silence between two packets, or while both ends learn where to send.
const GAP: Duration = Duration::from_secs(1);

/// Time between two looks of the runner.
const LOOK: Duration = Duration::from_secs(1);

/// Highest number of a node.
const NODES_MAX: u16 = 7;

/// How long a call waits for a client whose connection ends at another node (`architecture.md` §7).
const WAITS: Duration = Duration::from_secs(8);

/// Passes on what a phone complains about; `stays` says which nodes it was connected with meanwhile, if
/// it connects: a complaint comes long after what it is about. A BYE
/// that came twice was heard the first time: only its answer was lost (with a crash, or with an event
/// that was set aside). If an event of the very call was set aside, our BYE may have been that event.
/// And a node that was cut off from the client's one for as long as a call waits for its client could
/// not say that it ends, wherever the client is when it notices. A node of the former release does not
/// know what another one, which was cut off from it, has done in its call.
pub fn complaints(
    world: &Arc<World>,
    stays: impl Fn((Time, Time)) -> Vec<Stay>,
    complaints: Vec<Complaint>,
) {
    for complaint in complaints {
        let excuse = complaint.unknown_bye.as_ref().and_then(|call_id| {
            let excuse = excuse(world, call_id).or_else(|| untold(world, call_id, complaint.life));
            excuse.or_else(|| {
                let was_cut = was_cut(world, call_id, &stays(complaint.life), complaint.life);
                was_cut.then_some("calls that ended while their nodes were cut for 8 s")
            })
        });
        match excuse {
            Some(excuse) => world.count(excuse),
            None => world.broken(complaint.promise, complaint.how),
        }
    }
}

/// Tells whether, while a call lived, a node that ran it and a node of its client could not hear each
/// other for so long.
fn was_cut(world: &World, call_id: &str, stays: &[Stay], life: (Time, Time)) -> bool {
    let state = world.state();
    let call = call_named(&state, call_id);
    // The own names of JSON callers are hashed: any node may have run such a call.
    let owners: Vec<NodeId> = match call.and_then(|call| state.owners.get(&call)) {
        Some(owners) => owners.iter().copied().collect(),
        None if call_id.starts_with("call-") => (1..=NODES_MAX).map(NodeId).collect(),
        None => return false,
    };
    let mut stays = stays.iter();
    stays.any(|stay| {
        let mut owners = owners.iter();
        owners.any(|owner| is_cut_from(stay, *owner, &state.cuts, life))
    })
}

/// Tells whether a cut that a client met at its node lasted for so long while its call lived: all of it
/// counts, as the client may have come only when its former connection was long gone.
fn is_cut_from(stay: &Stay, owner: NodeId, cuts: &[Cut], (from, until): (Time, Time)) -> bool {
    let here = number_of(stay.node.ip()).filter(|here| *here != owner.0);
    let Some(here) = here else {
        return false;
    };
    let pair = (owner.0.min(here), owner.0.max(here));
    // Cuts that overlap are one, and so are those between which the nodes did not find each other.
    let (mut start, mut end) = (from, from);
    let mut cuts = cuts.iter().filter(|cut| cut.pair == pair);
    cuts.any(|cut| {
        if cut.from > end {
            start = cut.from;
        }
        end = end.max(cut.until).min(until);
        let is_met = start < stay.until && end > stay.from;
        is_met && end.since(start) >= WAITS
    })
}

fn untold(world: &World, call_id: &str, (from, until): (Time, Time)) -> Option<&'static str> {
    let state = world.state();
    let owners = state.owners.get(&call_named(&state, call_id)?)?;
    let is_cut_from_former = owners.iter().any(|owner| {
        let former_until = state.former_until.get(&owner.0);
        let mut cuts = state.cuts.iter();
        former_until.is_some_and(|until| *until > from)
            && cuts.any(|cut| {
                let is_then = cut.from < until && cut.until > from;
                is_then && [cut.pair.0, cut.pair.1].contains(&owner.0)
            })
    });
    (owners.len() > 1 && is_cut_from_former)
        .then_some("calls that a node of the former release had beside one that was cut off")
}

fn excuse(world: &World, call_id: &str) -> Option<&'static str> {
    let state = world.state();
    if state.byes.get(call_id).is_some_and(|copies| *copies > 1) {
        return Some("BYEs heard, whose answer was lost");
    }
    // A JSON client's own names are hashed: any event that was set aside may have been its call's.
    let is_hit = match call_named(&state, call_id) {
        Some(call) => state.set_aside.iter().any(|event| event.contains(&call)),
        None => call_id.starts_with("call-") && !state.set_aside.is_empty(),
    };
    is_hit.then_some("calls that lost an event that was set aside")
}

/// Returns which call a phone or a tab means: a JSON callee knows it by the UUID of its side.
fn call_named(state: &State, name: &str) -> Option<String> {
    let by_uuid = || call_of(name).filter(|call| state.owners.contains_key(call));
    state.calls.get(name).cloned().or_else(by_uuid)
}

/// Notes in which calls a party is being put through.
pub fn look(world: &World, rows: &[ActorRow]) {
    let now = world.now().mono;
    let is_one =
        |row: &&ActorRow| row.live && row.id.kind() == Kind::Call && row.state == "transferring";
    let keys = rows.iter().filter(is_one).filter_map(|row| row.id.call());
    let calls = keys.filter_map(|key| call_of(&key.to_string()));
    let mut state = world.state();
    for call in calls {
        let seen = state.transferring.entry(call).or_insert((now, now));
        if now.since(seen.1) > LOOK {
            seen.0 = now;
        }
        seen.1 = now;
    }
}

/// Tells whether a silence is that of a transfer: nobody speaks to who has asked for it, nor to who is put
/// through before somebody rings (`actors/src/call/transfer.rs`).
fn is_of_transfer(world: &World, name: &str, silence: Duration) -> bool {
    let now = world.now().mono;
    let state = world.state();
    match call_named(&state, name) {
        Some(call) => {
            let seen = state.transferring.get(&call);
            seen.is_some_and(|seen| began_with(*seen, silence, now))
        }
        // The own names of JSON callers are hashed: any of these calls may be theirs.
        None if name.starts_with("call-") => {
            let mut seen = state.transferring.values();
            seen.any(|seen| began_with(*seen, silence, now))
        }
        None => false,
    }
}

/// Tells whether a silence began with what was seen from one look to another, and that is not long over.
fn began_with((from, until): (Time, Time), silence: Duration, now: Time) -> bool {
    now.since(until) <= LOOK && silence <= now.since(from) + LOOK + GAP
}

/// At settle: every call of a phone that expects sound has heard some within the last second.
pub fn check_sound(world: &Arc<World>, phone: &Phone) {
    for (call_id, call) in phone.calls() {
        if call.expects_sound() {
            let times = (call.since, call.agreed, call.heard);
            check_call(world, &phone.user, call_id, times);
            if phone.is_protected() {
                world.count("protected calls with sound at settle");
            }
        }
    }
}

/// The same for a JSON client.
pub fn check_client(world: &Arc<World>, client: &Client) {
    for (name, call) in client.calls() {
        if call.expects_sound() {
            let times = (call.since, call.agreed, call.heard);
            check_call(world, &client.user, name, times);
            world.count("JSON calls with sound at settle");
        }
    }
}

/// `times`: since when both ends talk, when they last agreed about hold, when sound last came.
fn check_call(world: &Arc<World>, user: &str, name: &str, times: (Time, Time, Option<Time>)) {
    let now = world.now().mono;
    let (since, agreed, heard) = times;
    if now.since(since) < SETTLE {
        return;
    }
    let agreed = now.since(agreed);
    let silence = heard.map_or(agreed, |heard| now.since(heard).min(agreed));
    if silence > GAP && is_of_transfer(world, name, silence) {
        return world.count("calls of which a party is being put through at settle");
    }
    if silence > GAP {
        let how = format!("{user}: no sound for {silence:?} in call {name}");
        world.broken("I7", how);
    }
    world.count("calls with sound at settle");
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn second(number: u64) -> Time {
        Time::from_micros(number * 1_000_000)
    }

    fn stay(number: u8, from: u64, until: u64) -> Stay {
        Stay {
            node: SocketAddr::from(([10, 0, 0, number], 5_060)),
            from: second(from),
            until: second(until),
        }
    }

    fn cut(pair: (u16, u16), from: u64, until: u64) -> Cut {
        Cut {
            pair,
            from: second(from),
            until: second(until),
        }
    }

    #[test]
    fn a_cut_counts_where_the_client_was_then() {
        let (cuts, life) = ([cut((1, 2), 115, 128)], (second(108), second(150)));
        let is_cut = |stay| is_cut_from(&stay, NodeId(1), &cuts, life);
        assert!(is_cut(stay(2, 108, 144)));
        // It came when its former connection was gone.
        assert!(is_cut(stay(2, 121, 150)));
        assert!(!is_cut(stay(2, 129, 150)));
        assert!(!is_cut(stay(2, 108, 115)));
        assert!(!is_cut(stay(3, 144, 150)));
        assert!(!is_cut(stay(1, 108, 150)));
    }

    #[test]
    fn a_silence_that_began_before_a_transfer_is_not_of_it() {
        let is_of_it = |from, until, silence| {
            let silence = Duration::from_secs(silence);
            began_with((second(from), second(until)), silence, second(181))
        };
        assert!(is_of_it(176, 181, 6));
        // It is over since less than a second.
        assert!(is_of_it(176, 180, 6));
        assert!(!is_of_it(176, 179, 6));
        assert!(!is_of_it(176, 181, 8));
    }

    #[test]
    fn only_what_a_call_lived_of_a_cut_counts() {
        let cuts = [cut((1, 2), 100, 112), cut((1, 2), 111, 117)];
        let is_cut = |from| {
            let life = (second(from), second(150));
            is_cut_from(&stay(2, from, 150), NodeId(1), &cuts, life)
        };
        assert!(is_cut(109));
        assert!(!is_cut(110));
    }
}
