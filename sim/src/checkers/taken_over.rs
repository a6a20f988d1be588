//! V3: 15 s after a node crashed and left a majority behind, each of its confirmed calls was offered
//! anew, is heard, or has ended. Judged where no other fault came before or between.
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

/// How a phone sees a call: it expects sound; it has agreed on it, or heard sound, last then.
struct Side {
    user: String,
    name: String,
    expects_sound: bool,
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
        for side in sides(crowd) {
            let call = world.state().calls.get(&side.name).cloned();
            if side.expects_sound && call.is_some_and(|call| calls.contains(&call)) {
                self.0.push(Orphan {
                    crash,
                    user: side.user,
                    name: side.name,
                });
            }
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
