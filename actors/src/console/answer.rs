//! Answers of the node as JSON, and refusals as `application/problem+json` (RFC 9457).
//!
//! In: what the node answered. Out: JSON. It decides nothing.

use bytes::Bytes;
use contract::{ActorRow, ActorView, Answer, NodeView};
use serde_json::{Value, json};

use super::Page;
use super::gather::Part;

/// Returns a page of a list.
pub(super) fn page(items: Vec<Value>, total: usize, page: Page) -> Value {
    json!({ "items": items, "total": total, "offset": page.offset, "limit": page.limit })
}

/// Returns a node.
pub(super) fn node(view: &NodeView) -> Value {
    let actors: Vec<Value> = view
        .actors
        .iter()
        .map(|(kind, live, all)| json!({ "kind": kind.word(), "live": live, "all": all }))
        .collect();
    json!({
        "id": view.instance.node,
        "boot": view.instance.boot,
        "name": view.name,
        "state": view.state,
        "version": view.version,
        "uptime_s": view.uptime_s,
        "actors": actors,
        "listeners": view.listeners,
        "free_bytes": view.free_bytes,
    })
}

/// Returns a node as it answered, or what is known of one that did not.
pub(super) fn node_or_silence(part: &Part) -> Value {
    match &part.answer {
        Some(Answer::Node(view)) => node(view),
        Some(_) | None => json!({ "id": part.node, "name": part.name, "state": "no answer" }),
    }
}

/// Adds the names of nodes that did not answer.
pub(super) fn with_missing(mut list: Value, missing: &[String]) -> Value {
    if !missing.is_empty() {
        list["missing"] = json!(missing);
    }
    list
}

/// Returns one row of a listing.
pub(super) fn row(row: &ActorRow, node: &str) -> Value {
    json!({
        "id": row.id,
        "kind": row.id.kind().word(),
        "node": node,
        "parent": row.parent,
        "live": row.live,
        "inbox": row.inbox,
        "restarts": row.restarts,
        "epoch": row.epoch,
        "sequence": row.sequence,
        "state": row.state,
    })
}

/// Returns one actor in full.
pub(super) fn actor(view: &ActorView, node: &str) -> Value {
    let mut value = row(&view.row, node);
    value["snapshot"] = snapshot(view);
    value["next_deadline_ms"] = json!(view.next_deadline_ms);
    value["gated"] = json!(view.gated);
    value["quarantined"] = json!(view.quarantined);
    value["children"] = json!(view.children);
    value
}

/// Returns the snapshot of an actor; `null` if it is no JSON.
pub(super) fn snapshot(view: &ActorView) -> Value {
    serde_json::from_str(&view.snapshot).unwrap_or(Value::Null)
}

/// Returns a problem for an HTTP status.
pub(super) fn problem(status: u16, detail: &str) -> Value {
    let title = match status {
        400 => "Bad Request",
        404 => "Not Found",
        409 => "Conflict",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Error",
    };
    json!({ "type": "about:blank", "title": title, "status": status, "detail": detail })
}

/// Returns JSON as octets.
pub(super) fn body(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}
