//! V3: 15 s after a node crashed and left a majority behind, each of its confirmed calls was offered
//! anew, is heard, or has ended. Judged where no other fault came before or between, and where each side
//! speaks: a node that is back at once offers nothing anew, and who is silent is heard nowhere.
//!
//! In: crashes with what the node ran, later what phones believe. Out: broken promises.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use contract::{ActorRow, Kind, NodeInst, Time};

use super::durable::call_of;
use crate::crowd::Crowd;
use crate::world::World;

/// Time in which a call is taken over.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A crash.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// Which life ended.
    pub life: NodeInst,
    /// How long the node stays away.
    pub away: Duration,
    /// When.
    pub at: Time,
    /// Faults so far, this one counted.
    pub faults: u64,
}

/// One side of a call of a dead node, as its phone has it.
struct Orphan {
    crash: Crash,
    user: String,
    /// The phone's own name of the call.
    name: String,
}

/// Calls of dead nodes.
#[derive(Default)]
pub struct Orphans(Vec<Orphan>);

/// How a phone sees a call: it expects sound; it sends none, and the far end is not told; it has agreed on
/// sound, or heard some, last then.
struct Side {
    user: String,
    name: String,
    expects_sound: bool,
    is_mute: bool,
    last: Time,
}

fn sides(crowd: &Crowd) -> Vec<Side> {
    let mut sides = Vec::new();
    for handset in crowd.handsets() {
        handset.with(|phone| {
            sides.extend(phone.calls().iter().map(|(name, call)| Side {
                user: phone.user.clone(),
                name: name.clone(),
                expects_sound: call.expects_sound(),
                is_mute: call.is_mute(),
                last: call.heard.unwrap_or(call.agreed).max(call.agreed),
            }));
        });
    }
    for tab in crowd.tabs() {
        tab.with(|client| {
            sides.extend(client.calls().iter().map(|(name, call)| Side {
                user: client.user.clone(),
                name: name.clone(),
                expects_sound: call.expects_sound(),
                is_mute: false,
                last: call.heard.unwrap_or(call.agreed).max(call.agreed),
            }));
        });
    }
    sides
}

impl Orphans {
    /// A node crashes that ran these actors.
    pub fn died(&mut self, world: &World, crowd: &Crowd, crash: Crash, rows: &[ActorRow]) {
        let talking = rows
            .iter()
            .filter(|row| row.live && row.id.kind() == Kind::Call && row.state == "talking");
        let keys = talking.filter_map(|row| row.id.call());
        let calls: BTreeSet<_> = keys.filter_map(|key| call_of(&key.to_string())).collect();
        let sides = sides(crowd);
        let named = |side: &Side| world.state().calls.get(&side.name).cloned();
        let mute = sides.iter().filter(|side| side.is_mute);
        let mute: BTreeSet<_> = mute.filter_map(named).collect();
        for side in sides {
            let call = named(&side).filter(|call| side.expects_sound && calls.contains(call));
            let Some(call) = call else { continue };
            if mute.contains(&call) {
                world.count("calls of dead nodes in which a side never spoke");
                continue;
            }
            self.0.push(Orphan {
                crash,
                user: side.user,
                name: side.name,
            });
        }
    }

    /// Judges the crashes that are long enough ago; `faults` is how many there were up to now.
    pub fn check(&mut self, world: &Arc<World>, crowd: &Crowd, faults: u64) {
        let now = world.now().mono;
        let (due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|orphan| now.since(orphan.crash.at) >= PATIENCE);
        self.0 = rest;
        let sides = sides(crowd);
        for orphan in due {
            if orphan.crash.faults != faults {
                world.count("calls of dead nodes that another fault met");
                continue;
            }
            let is_same = |side: &&Side| side.user == orphan.user && side.name == orphan.name;
            let side = sides.iter().find(is_same);
            let is_kept =
                side.is_none_or(|side| !side.expects_sound || side.last > orphan.crash.at);
            if is_kept {
                world.count("calls of dead nodes that others took over, or ended");
                continue;
            }
            let (life, away) = (orphan.crash.life, orphan.crash.away);
            let how = format!(
                "{life} crashed at {} and stayed away for {away:?}; {} has heard nothing since in {}",
                orphan.crash.at, orphan.user, orphan.name
            );
            world.broken("V3", how);
        }
    }
}
