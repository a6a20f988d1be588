//! The supervisors: the root, and one a kind, whose children are the actors of that kind.
//!
//! In: panics of cores that their shells caught, deaths of ractor actors. Out: verdicts, restarts.
//! A call's shell is the supervisor of its sides and applies the same rule (`intensity.rs`).

use std::collections::BTreeMap;
use std::marker::PhantomData;

use contract::core::Roster;
use contract::{ActorId, Kind};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use crate::entry::Side;
use crate::fabric::Fabric;
use crate::intensity::{Intensity, Verdict};
use crate::shell::Wake;

pub(crate) struct Supervisor<R>(PhantomData<fn() -> R>);

pub(crate) struct Watched<R: Roster> {
    fabric: Fabric<R>,
    intensities: BTreeMap<ActorId, Intensity>,
}

impl<R: Roster> Supervisor<R> {
    pub(crate) async fn root(fabric: &Fabric<R>) -> Result<ActorRef<Wake>, SpawnErr> {
        let supervisor = Supervisor::<R>(PhantomData);
        Actor::spawn(None, supervisor, fabric.clone())
            .await
            .map(|(cell, _)| cell)
    }

    pub(crate) async fn of_kind(
        fabric: &Fabric<R>,
        root: &ActorRef<Wake>,
    ) -> Result<ActorRef<Wake>, SpawnErr> {
        let supervisor = Supervisor::<R>(PhantomData);
        let spawned = Actor::spawn_linked(None, supervisor, fabric.clone(), root.get_cell()).await;
        spawned.map(|(cell, _)| cell)
    }
}

impl<R: Roster> Actor for Supervisor<R> {
    type Msg = Wake;
    type State = Watched<R>;
    type Arguments = Fabric<R>;

    async fn pre_start(
        &self,
        _: ActorRef<Wake>,
        fabric: Fabric<R>,
    ) -> Result<Watched<R>, ActorProcessingErr> {
        Ok(Watched {
            fabric,
            intensities: BTreeMap::new(),
        })
    }

    async fn handle(
        &self,
        _: ActorRef<Wake>,
        wake: Wake,
        watched: &mut Watched<R>,
    ) -> Result<(), ActorProcessingErr> {
        match wake {
            Wake::Unwound { id, is_second } => {
                let now = watched.fabric.now().mono;
                let verdict = watched
                    .intensities
                    .entry(id.clone())
                    .or_default()
                    .judge(now, is_second);
                if let Some(child) = watched.fabric.find(&id) {
                    child.push_side(Side::Judged(verdict));
                }
                let fabric = watched.fabric.clone();
                watched
                    .intensities
                    .retain(|id, _| fabric.find(id).is_some());
            }
            Wake::Run => {}
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Wake>,
        event: SupervisionEvent,
        watched: &mut Watched<R>,
    ) -> Result<(), ActorProcessingErr> {
        on_child(&watched.fabric, &event, &mut watched.intensities);
        Ok(())
    }
}

/// A ractor actor ended: one that ended of itself is gone already. One that died takes its children
/// with it; its record stays for the next message, and a lane or console is started anew.
pub(crate) fn on_child<R: Roster>(
    fabric: &Fabric<R>,
    event: &SupervisionEvent,
    intensities: &mut BTreeMap<ActorId, Intensity>,
) {
    let Some(cell) = event.actor_cell() else {
        return;
    };
    let has_died = matches!(event, SupervisionEvent::ActorFailed(..));
    let is_over = has_died || matches!(event, SupervisionEvent::ActorTerminated(..));
    if !is_over || fabric.is_revoked() {
        return;
    }
    let Some(name) = fabric.unname(cell.get_id().pid()) else {
        return;
    };
    let Some(entry) = name.parse::<ActorId>().ok().and_then(|id| fabric.find(&id)) else {
        return;
    };
    tracing::error!(actor = %entry.id, event = ?event, "a shell died");
    fabric.abandon(&entry);
    let is_needed = matches!(entry.id.kind(), Kind::Lane | Kind::Console | Kind::Member);
    let now = fabric.now().mono;
    let verdict = intensities
        .entry(entry.id.clone())
        .or_default()
        .judge(now, false);
    if is_needed && verdict != Verdict::GiveUp {
        fabric.start_system(entry.id.clone());
    }
}
