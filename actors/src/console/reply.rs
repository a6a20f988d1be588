//! The one answer to a request whose parts are there, as far as they come.
//!
//! In: what was wanted, what each node said. Out: an `Http` action, an answer to another console, an
//! order to an actor, or what is to be asked next.

use contract::{Action, ActorId, ActorView, Answer, Lookup, NodeId, Time};
use serde_json::{Value, json};
use sip::Aor;

use super::core::{Context, Pending, Ticket, Want};
use super::gather::{self, Part};
use super::moving::{self, Place};
use super::{Message, Page, answer};
use crate::registration::settings::Settings;
use crate::{call, registration};

/// Answers, or returns what is to be asked next.
pub(super) fn finish(pending: Pending, ctx: &mut Context<'_>) -> Option<(Pending, Lookup)> {
    let Pending {
        ticket,
        due,
        want,
        parts,
        ..
    } = pending;
    let ticket = match ticket {
        Ticket::Http(ticket) => ticket,
        Ticket::Console(asker, number) => {
            let mut answers = parts.into_iter().filter_map(|part| part.answer);
            if let Some(answer) = answers.next() {
                ctx.tell(asker, Message::Answered { number, answer }.into());
            }
            return None;
        }
    };
    let missing = gather::missing(&parts);
    match want {
        Want::DetailRows { page } => return Some(look_closer(ticket, due, page, parts, missing)),
        Want::Actor => match gather::actor(parts) {
            Some((view, part)) => reply(ticket, 200, &answer::actor(&view, &part.name), ctx),
            None => not_found(ticket, &missing, ctx),
        },
        Want::Stop { id, epoch } => match gather::actor(parts) {
            Some((view, part)) => stop(ticket, id, epoch, &view, part.node, ctx),
            None => not_found(ticket, &missing, ctx),
        },
        Want::Place { id, to, epoch } => {
            let place = Place { id, to, epoch };
            return moving::next(ticket, place, parts, &missing, ctx);
        }
        Want::Moving { id, to } => moving::tell_moved(ticket, &id, &to, &parts, ctx),
        Want::Drain => moving::tell_drain(ticket, &parts, ctx),
        Want::User { aor } => {
            let found = gather::actor(parts);
            let view = found.as_ref().map(|(view, _)| view.as_ref());
            tell_user(ticket, &aor, view, ctx);
        }
        Want::Nodes | Want::Rows { .. } | Want::Details { .. } | Want::Trace => {
            let (list, missing) = list(want, parts, missing);
            reply(ticket, 200, &answer::with_missing(list, &missing), ctx);
        }
        Want::Settings | Want::Steered(_) | Want::Other => {}
    }
    None
}

/// Rows are there: each one's actor is asked for where it is.
fn look_closer(
    ticket: u64,
    due: Time,
    page: Page,
    parts: Vec<Part>,
    missing: Vec<String>,
) -> (Pending, Lookup) {
    let (rows, total) = gather::rows(parts, page);
    let of_rows = rows.iter().map(|row| Part::new(row.node, row.name.clone()));
    let next = Pending {
        ticket: Ticket::Http(ticket),
        due,
        parts: of_rows.collect(),
        first: None,
        want: Want::Details {
            page,
            total,
            rows,
            missing,
        },
    };
    (next, Lookup::Node)
}

/// Returns a list, and the nodes that are missing from it.
fn list(want: Want, parts: Vec<Part>, missing: Vec<String>) -> (Value, Vec<String>) {
    let all = |items: Vec<Value>| {
        let total = items.len();
        let page = Page {
            offset: 0,
            limit: total,
        };
        answer::page(items, total, page)
    };
    match want {
        // Each has its row, silent ones too.
        Want::Nodes => {
            let items = parts.iter().map(answer::node_or_silence).collect();
            (all(items), Vec::new())
        }
        Want::Rows { page } => {
            let (rows, total) = gather::rows(parts, page);
            let items = rows.iter().map(|row| answer::row(&row.row, &row.name));
            (answer::page(items.collect(), total, page), missing)
        }
        Want::Details {
            page,
            total,
            rows,
            missing,
        } => {
            let items = rows.iter().zip(&parts).map(|(row, part)| {
                let mut item = answer::row(&row.row, &row.name);
                if let Some(Answer::Actor(Some(view))) = &part.answer {
                    item["snapshot"] = answer::snapshot(view);
                }
                item
            });
            (answer::page(items.collect(), total, page), missing)
        }
        Want::Trace
        | Want::DetailRows { .. }
        | Want::Actor
        | Want::User { .. }
        | Want::Stop { .. }
        | Want::Place { .. }
        | Want::Moving { .. }
        | Want::Drain
        | Want::Settings
        | Want::Steered(_)
        | Want::Other => {
            let lines = gather::trace(parts);
            (all(lines.iter().map(|line| json!(line)).collect()), missing)
        }
    }
}

pub(super) fn not_found(ticket: u64, missing: &[String], ctx: &mut Context<'_>) {
    if missing.is_empty() {
        return refuse(ticket, 404, "no such actor", ctx);
    }
    let detail = format!(
        "no such actor where an answer came from; none from {}",
        missing.join(", ")
    );
    refuse(ticket, 504, &detail, ctx);
}

fn tell_user(ticket: u64, aor: &Aor, view: Option<&ActorView>, ctx: &mut Context<'_>) {
    let account = ctx.site().account(aor);
    if account.is_none() && view.is_none() {
        return refuse(ticket, 404, "no such user", ctx);
    }
    let display = account.and_then(|account| account.display.clone());
    let is_known = account.is_some();
    let bindings = view.map(|view| answer::snapshot(view)["bindings"].clone());
    let bindings = bindings
        .filter(Value::is_array)
        .unwrap_or_else(|| json!([]));
    let settings = view.map(|view| answer::snapshot(view)["settings"]["settings"].clone());
    let settings = settings
        .filter(Value::is_object)
        .unwrap_or_else(|| json!(Settings::default()));
    let is_registered = bindings.as_array().is_some_and(|list| !list.is_empty());
    let user = json!({
        "aor": aor,
        "account": is_known,
        "display": display,
        "registered": is_registered,
        "bindings": bindings,
        "settings": settings,
    });
    reply(ticket, 200, &user, ctx);
}

/// Ends what can be ended: a call, or all bindings of an AoR.
fn stop(
    ticket: u64,
    id: ActorId,
    epoch: Option<u64>,
    view: &ActorView,
    node: NodeId,
    ctx: &mut Context<'_>,
) {
    if epoch.is_some_and(|epoch| epoch != view.row.epoch) {
        return refuse(ticket, 409, "the actor has another epoch by now", ctx);
    }
    match &id {
        ActorId::Call(_) | ActorId::Registration(_) => {}
        ActorId::Dialog(_)
        | ActorId::MediaLeg(_)
        | ActorId::Gateway(_)
        | ActorId::Parking(_)
        | ActorId::Flow(..)
        | ActorId::DoorSession(..)
        | ActorId::Lane(..)
        | ActorId::Console(_)
        | ActorId::Member(_) => {
            let detail = format!("a {} is not stopped by hand", id.kind().word());
            return refuse(ticket, 409, &detail, ctx);
        }
    }
    if node == ctx.site().node {
        end(&id, ctx);
    } else {
        ctx.tell(
            ActorId::Console(node),
            Message::End { id: id.clone() }.into(),
        );
    }
    reply(ticket, 202, &json!({ "stopping": id }), ctx);
}

/// Tells an actor of this node to end.
pub(super) fn end(id: &ActorId, ctx: &mut Context<'_>) {
    let order: crate::Message = match id {
        ActorId::Call(_) => call::Message::Hangup {
            cause: "NORMAL_CLEARING".to_owned(),
        }
        .into(),
        ActorId::Registration(_) => registration::Message::Clear.into(),
        ActorId::Dialog(_)
        | ActorId::MediaLeg(_)
        | ActorId::Gateway(_)
        | ActorId::Parking(_)
        | ActorId::Flow(..)
        | ActorId::DoorSession(..)
        | ActorId::Lane(..)
        | ActorId::Console(_)
        | ActorId::Member(_) => return ctx.ignore("it is not ended by hand"),
    };
    ctx.tell(id.clone(), order);
}

pub(super) fn reply(ticket: u64, status: u16, value: &Value, ctx: &mut Context<'_>) {
    ctx.act(Action::Http {
        ticket,
        status,
        body: answer::body(value),
    });
}

pub(super) fn refuse(ticket: u64, status: u16, detail: &str, ctx: &mut Context<'_>) {
    reply(ticket, status, &answer::problem(status, detail), ctx);
}
