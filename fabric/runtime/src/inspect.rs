//! What the node answers about itself: listings, views, traces, ractor's own tree.
//!
//! In: questions of the console actor. Out: `Answer` events. Live actors are asked by their own
//! inbox's side channel, passive ones are read from their record.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use contract::core::{Event, Roster};
use contract::limits::PAGE_ROWS_MAX;
use contract::{ActorId, ActorRow, ActorView, Answer, Kind, Lookup, NodeView, Space, TraceLine};
use ractor::ActorCell;

use crate::entry::{Entry, Side};
use crate::fabric::Fabric;
use crate::shell::State;

fn parent_name<R: Roster>(entry: &Entry<R>) -> String {
    match &entry.parent {
        Some(parent) => parent.to_string(),
        None => format!("{} supervisor", entry.id.kind().word()),
    }
}

/// Returns the row of an actor that is in a table. What is said to a side of a call that is not its own
/// yet waits there, too: nobody runs it, and ractor does not know it.
fn tabled_row<R: Roster>(entry: &Entry<R>) -> ActorRow {
    let live = entry.has_shell();
    let status = entry.status();
    let state = if live {
        status.state.clone()
    } else {
        "waiting".to_owned()
    };
    ActorRow {
        id: entry.id.clone(),
        parent: parent_name(entry),
        live,
        inbox: entry.len(),
        restarts: entry.restarts.load(Ordering::Relaxed),
        epoch: status.epoch,
        sequence: status.sequence,
        state,
    }
}

impl<R: Roster> Fabric<R> {
    /// Returns the events of an actor that were set aside, oldest first.
    pub(crate) fn quarantined(&self, id: &ActorId) -> Vec<String> {
        let lock = self.inner.quarantine.lock();
        let kept = lock.expect("no holder of the quarantine panics");
        let of = kept.iter().filter(|(of, _)| of == id);
        of.map(|(_, text)| text.clone()).collect()
    }

    /// Returns a row for each actor, live, waiting or passive, in the order of IDs.
    ///
    /// # Panics
    /// If a holder of a table panicked.
    #[must_use]
    pub fn rows(&self, kind: Option<Kind>) -> Vec<ActorRow> {
        let tabled = self.tabled_rows(kind).into_iter();
        let mut rows: BTreeMap<ActorId, ActorRow> =
            tabled.map(|row| (row.id.clone(), row)).collect();
        // A record that cannot be read is told in the log where it is needed.
        let me = self.me().node;
        let _ = cluster::scan(self.env().store().as_ref(), &mut |header| {
            // What it holds for other nodes is theirs to list.
            let is_own = header.owner.node == me;
            let is_wanted = is_own && kind.is_none_or(|kind| kind == header.id.kind());
            if is_wanted && !header.is_ended() && !rows.contains_key(&header.id) {
                let row = ActorRow {
                    id: header.id.clone(),
                    parent: format!("{} supervisor", header.id.kind().word()),
                    live: false,
                    inbox: 0,
                    restarts: 0,
                    epoch: header.version.epoch.n,
                    sequence: header.version.sequence,
                    state: "passive".to_owned(),
                };
                rows.insert(header.id.clone(), row);
            }
            ControlFlow::Continue(())
        });
        rows.into_values().collect()
    }

    /// Returns a row for each actor of a kind, or of all, that is live, and for each side that waits for
    /// its call: for all who have an inbox. Reads no record.
    ///
    /// # Panics
    /// If a holder of a table panicked.
    #[must_use]
    pub fn tabled_rows(&self, kind: Option<Kind>) -> Vec<ActorRow> {
        let kinds = Kind::ALL.into_iter();
        let kinds = kinds.filter(|of| kind.is_none_or(|kind| kind == *of));
        let mut rows = Vec::new();
        for of in kinds {
            let table = self.table(of).read().expect("no holder of a table panics");
            rows.extend(table.values().map(|entry| tabled_row(entry)));
        }
        rows
    }

    /// Returns ractor's own supervision tree: (child, supervisor), in the order of names.
    ///
    /// # Panics
    /// If a holder of the names panicked.
    #[must_use]
    pub fn tree(&self) -> Vec<(String, String)> {
        let names = self
            .inner
            .names
            .lock()
            .expect("no holder of the names panics")
            .clone();
        let root = self
            .inner
            .root
            .lock()
            .expect("no holder of the root panics")
            .clone();
        let mut pairs = Vec::new();
        let mut left: Vec<ActorCell> = root.iter().map(|root| root.get_cell()).collect();
        let name = |cell: &ActorCell| names.get(&cell.get_id().pid()).cloned().unwrap_or_default();
        while let Some(parent) = left.pop() {
            for child in parent.get_children() {
                pairs.push((name(&child), name(&parent)));
                left.push(child);
            }
        }
        pairs.sort();
        pairs
    }

    fn node_view(&self) -> NodeView {
        let now = self.now();
        let health = self.health();
        let store = self.env().store();
        let (_, free_bytes) = store.space();
        let state = if store.is_poisoned() {
            "poisoned"
        } else if store.is_quarantined() {
            "quarantined"
        } else if health.draining {
            "draining"
        } else if health.overloaded {
            "overloaded"
        } else if health.space == Space::Ample {
            "up"
        } else {
            "low on disk"
        };
        let rows = self.rows(None);
        let count = |kind: Kind| {
            let all = rows.iter().filter(|row| row.id.kind() == kind).count();
            (kind, self.live(kind), all)
        };
        // A console of the former release is told of none that it has no word for.
        let kinds = Kind::ALL
            .into_iter()
            .filter(|kind| kind.since() <= health.schema);
        NodeView {
            instance: self.me(),
            name: self.inner.parts.name.clone(),
            state: state.to_owned(),
            version: self.inner.parts.version.clone(),
            uptime_s: now.mono.since(self.inner.started.mono).as_secs(),
            actors: kinds.map(count).collect(),
            listeners: self
                .inner
                .listeners
                .lock()
                .expect("no holder of the list panics")
                .clone(),
            free_bytes,
        }
    }

    fn trace(&self, id: &ActorId) -> Vec<TraceLine> {
        let mut lines = Vec::new();
        let mut add = |entry: &Entry<R>| {
            let ring = entry.ring.lock().expect("no holder of a ring panics");
            lines.extend(ring.lines(&entry.id));
        };
        let mut ids = vec![id.clone()];
        if let (ActorId::Call(_), Some(entry)) = (id, self.find(id)) {
            ids.extend(entry.status().children.clone());
        }
        for id in ids {
            if let Some(entry) = self.find(&id) {
                add(&entry);
            }
        }
        lines.sort_by_key(|line| line.mono);
        lines
    }
}

/// Answers a question; `Host` is not among those that come here.
pub(crate) fn answer<R: Roster>(fabric: &Fabric<R>, from: &ActorId, token: u64, what: Lookup) {
    let answer = match what {
        Lookup::Host { name } => Answer::Host(Err(format!("{name} was not looked up"))),
        Lookup::Actors {
            kind,
            contains,
            offset,
            limit,
        } => {
            let mut rows = fabric.rows(kind);
            if let Some(text) = contains {
                rows.retain(|row| row.id.to_string().contains(&text));
            }
            let total = rows.len();
            let limit = limit.min(PAGE_ROWS_MAX);
            Answer::Actors {
                rows: rows.into_iter().skip(offset).take(limit).collect(),
                total,
            }
        }
        Lookup::Actor { id } => match fabric.find(&id) {
            Some(entry) => {
                let asker = from.clone();
                if entry.push_side(Side::Inspect { asker, token }) {
                    return;
                }
                Answer::Actor(passive_view(fabric, &id).map(Box::new))
            }
            None => Answer::Actor(passive_view(fabric, &id).map(Box::new)),
        },
        Lookup::Trace { id } => Answer::Trace(fabric.trace(&id)),
        Lookup::Node => Answer::Node(Box::new(fabric.node_view())),
        Lookup::Members => Answer::Members(fabric.members()),
        Lookup::Move { id, to, epoch } => {
            return crate::drain::hand_over(fabric, from, token, &id, to, epoch);
        }
        Lookup::Drain { max_s } => {
            fabric.wish_drain(max_s);
            Answer::Draining
        }
    };
    fabric.deliver(from, Event::Answer { token, answer });
}

/// Answers for an actor that is passive, or gone.
pub(crate) fn answer_passive<R: Roster>(
    fabric: &Fabric<R>,
    asker: &ActorId,
    token: u64,
    id: &ActorId,
) {
    let answer = Answer::Actor(passive_view(fabric, id).map(Box::new));
    fabric.deliver(asker, Event::Answer { token, answer });
}

/// Answers for a live actor, from inside its shell.
pub(crate) fn show_live<R: Roster>(state: &State<R>, asker: &ActorId, token: u64) {
    let now = state.fabric.now();
    let status = state.entry.status().clone();
    let snapshot = state
        .core
        .as_ref()
        .map(|core| core.view(now))
        .unwrap_or_default();
    let mut row = tabled_row(&state.entry);
    if let Some(core) = &state.core {
        row.state = core.state();
    }
    let view = ActorView {
        row,
        snapshot: snapshot.to_string(),
        next_deadline_ms: state
            .core
            .as_ref()
            .and_then(R::next_deadline)
            .map(|at| u64::try_from(at.since(now.mono).as_millis()).unwrap_or(u64::MAX)),
        gated: state.gate.len(),
        quarantined: state.fabric.quarantined(&state.entry.id),
        children: status.children,
    };
    let answer = Answer::Actor(Some(Box::new(view)));
    state.fabric.deliver(asker, Event::Answer { token, answer });
}

fn passive_view<R: Roster>(fabric: &Fabric<R>, id: &ActorId) -> Option<ActorView> {
    if !id.kind().is_recorded() {
        return None;
    }
    let now = fabric.now();
    let ids = fabric.inner.records.ids();
    let loaded = cluster::load(fabric.env().store().as_ref(), ids, id).ok()??;
    if loaded.header.is_ended() || loaded.header.owner.node != fabric.me().node {
        return None;
    }
    let core = R::restore(id, loaded.parts.get(id)?, now).ok()?;
    let header = &loaded.header;
    let deadline = header.part(id).and_then(|part| part.deadline);
    Some(ActorView {
        row: ActorRow {
            id: id.clone(),
            parent: format!("{} supervisor", id.kind().word()),
            live: false,
            inbox: 0,
            restarts: 0,
            epoch: header.version.epoch.n,
            sequence: header.version.sequence,
            state: core.state(),
        },
        snapshot: core.view(now).to_string(),
        next_deadline_ms: deadline.map(|at| at.0.saturating_sub(now.utc.0)),
        gated: 0,
        quarantined: fabric.quarantined(id),
        children: Vec::new(),
    })
}
