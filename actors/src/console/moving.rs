//! Moves and drains as an operator wants them (`interfaces.md` §4): where the actor is, whether the
//! node it is to go to is there, what came of it.
//!
//! In: what the nodes answered. Out: the question to the node that has the actor, or one `Http`
//! action. The move itself, and every rule of it, is the fabric's.

use std::time::Duration;

use contract::limits::{CLUSTER_WAIT_S, MOVE_WAIT_MS};
use contract::{ActorId, Answer, Lookup, MoveFault};
use serde_json::json;

use super::core::{Context, Pending, Ticket, Want};
use super::gather::{self, Part};
use super::reply::{not_found, refuse, reply};

/// What an operator wants moved.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: ActorId,
    pub(super) to: String,
    pub(super) epoch: Option<u64>,
}

/// Returns why an actor of that kind moves by no command; `None` if it may move.
pub(super) const fn never(id: &ActorId) -> Option<&'static str> {
    match id {
        ActorId::Registration(_) | ActorId::Call(_) | ActorId::Gateway(_) | ActorId::Parking(_) => {
            None
        }
        ActorId::Dialog(_) | ActorId::MediaLeg(_) => Some("it moves with its call only"),
        ActorId::Flow(..)
        | ActorId::DoorSession(..)
        | ActorId::Lane(..)
        | ActorId::Console(_)
        | ActorId::Member(_) => Some("it belongs to its node and never moves"),
    }
}

/// Returns how long a node has to answer.
pub(super) const fn wait(what: &Lookup) -> Duration {
    let usual = Duration::from_secs(CLUSTER_WAIT_S);
    match what {
        Lookup::Move { .. } => usual.saturating_add(Duration::from_millis(MOVE_WAIT_MS)),
        Lookup::Host { .. }
        | Lookup::Actors { .. }
        | Lookup::Actor { .. }
        | Lookup::Trace { .. }
        | Lookup::Node
        | Lookup::Members
        | Lookup::Drain { .. } => usual,
    }
}

/// It is known where the actor is: its node is told to move it.
pub(super) fn next(
    ticket: u64,
    place: Place,
    parts: Vec<Part>,
    missing: &[String],
    ctx: &mut Context<'_>,
) -> Option<(Pending, Lookup)> {
    let Place { id, to, epoch } = place;
    let is_target = |part: &&Part| part.name == to || part.node.to_string() == to;
    let target = parts.iter().find(is_target);
    let target = target.map(|part| (part.node, part.name.clone()));
    let Some((view, part)) = gather::actor(parts) else {
        not_found(ticket, missing, ctx);
        return None;
    };
    let Some((node, name)) = target else {
        refuse(ticket, 404, &format!("there is no node {to}"), ctx);
        return None;
    };
    if epoch.is_some_and(|epoch| epoch != view.row.epoch) {
        refuse(ticket, 409, "the actor has another epoch by now", ctx);
        return None;
    }
    if node == part.node {
        refuse(ticket, 409, &format!("{id} is on {name} already"), ctx);
        return None;
    }
    let what = Lookup::Move {
        id: id.clone(),
        to: node,
        // What is on the screen now, so that nothing of a newer owner is moved.
        epoch: Some(view.row.epoch),
    };
    let due = ctx.now().mono + wait(&what);
    let next = Pending {
        ticket: Ticket::Http(ticket),
        due,
        want: Want::Moving { id, to: name },
        first: None,
        parts: vec![Part::new(part.node, part.name)],
    };
    Some((next, what))
}

/// Says what came of a move.
pub(super) fn tell_moved(
    ticket: u64,
    id: &ActorId,
    to: &str,
    parts: &[Part],
    ctx: &mut Context<'_>,
) {
    let answer = parts.iter().find_map(|part| part.answer.as_ref());
    match answer {
        Some(Answer::Moved(Ok(()))) => {
            reply(ticket, 200, &json!({ "moved": id, "to": to }), ctx);
        }
        Some(Answer::Moved(Err(why))) => {
            let detail = format!("{id} was not moved to {to}: {why}");
            refuse(ticket, status(*why), &detail, ctx);
        }
        Some(_) | None => {
            let detail = format!("whether {id} was moved to {to} is not known: no answer");
            refuse(ticket, 504, &detail, ctx);
        }
    }
}

const fn status(why: MoveFault) -> u16 {
    match why {
        MoveFault::Unknown | MoveFault::NoNode => 404,
        MoveFault::Fixed
        | MoveFault::There
        | MoveFault::Stale
        | MoveFault::NotUp
        | MoveFault::Moving
        | MoveFault::Unrecorded => 409,
        MoveFault::Unreachable
        | MoveFault::Restless
        | MoveFault::NotTaken
        | MoveFault::Crowded
        | MoveFault::Loaded => 503,
        MoveFault::Silent => 504,
    }
}

/// Says whether a node drains now.
pub(super) fn tell_drain(ticket: u64, parts: &[Part], ctx: &mut Context<'_>) {
    let Some(part) = parts.first() else {
        return refuse(ticket, 404, "there is no such node", ctx);
    };
    match part.answer {
        Some(Answer::Draining) => reply(ticket, 202, &json!({ "draining": part.name }), ctx),
        Some(_) | None => {
            let detail = format!("no answer from {}", part.name);
            refuse(ticket, 504, &detail, ctx);
        }
    }
}
