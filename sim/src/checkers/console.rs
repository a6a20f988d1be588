//! At settle the console of each node answers for all nodes, and all of them are up.

use std::sync::Arc;

use contract::NodeId;

use crate::world::World;

/// Tells whether an answer of a console lacks what a node would have said.
#[must_use]
pub fn is_missing(body: &[u8]) -> bool {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let silent = |item: &serde_json::Value| item["state"] == "no answer";
    let mut items = value["items"].as_array().into_iter().flatten();
    value.get("missing").is_some() || items.any(silent)
}

/// Checks the answer to `Nodes` that was asked at settle; `count` nodes run.
pub fn check(world: &Arc<World>, asked: NodeId, body: &[u8], count: usize) {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let items = value["items"].as_array().cloned().unwrap_or_default();
    if items.len() == count && items.iter().all(|item| item["state"] == "up") {
        return world.count("consoles that know all nodes at settle");
    }
    let how = format!("node {asked} answers {value}, and {count} nodes run");
    world.broken("the console knows all nodes", how);
}
