//! Commands that steer a running cluster: stop, move, drain.
//!
//! In: arguments. Out: text for stdout, or the answer as JSON; what the node refuses is a failure
//! with its reason. Each is one request of the HTTP API.

use serde_json::{Value, json};

use super::client::{Call, call, escaped};
use super::table::clean;
use super::{AskArgs, DrainArgs, Failure, MoveArgs, StopArgs};

/// Asks and says what came of it.
fn post(
    arguments: &AskArgs,
    path: String,
    body: &Value,
    say: impl FnOnce(&Value) -> String,
) -> Result<String, Failure> {
    let request = Call {
        method: "POST",
        path,
        body: body.to_string(),
    };
    let value = call(arguments, &request)?;
    Ok(if arguments.json {
        format!("{value:#}\n")
    } else {
        say(&value)
    })
}

fn word(value: &Value, name: &str, otherwise: &str) -> String {
    clean(value[name].as_str().unwrap_or(otherwise))
}

pub(super) fn stop(arguments: &StopArgs) -> Result<String, Failure> {
    let path = format!("/api/v1/actors/{}/stop", escaped(&arguments.id));
    let mut body = json!({});
    if let Some(epoch) = arguments.epoch {
        body["epoch"] = json!(epoch);
    }
    post(&arguments.ask, path, &body, |value| {
        format!("stopping {}\n", word(value, "stopping", &arguments.id))
    })
}

pub(super) fn move_actor(arguments: &MoveArgs) -> Result<String, Failure> {
    let path = format!("/api/v1/actors/{}/move", escaped(&arguments.id));
    let mut body = json!({ "to": arguments.to });
    if let Some(epoch) = arguments.epoch {
        body["epoch"] = json!(epoch);
    }
    post(&arguments.ask, path, &body, |value| {
        let id = word(value, "moved", &arguments.id);
        format!("{id} is on {} now\n", word(value, "to", &arguments.to))
    })
}

pub(super) fn drain(arguments: &DrainArgs) -> Result<String, Failure> {
    let node = arguments.node.as_deref().unwrap_or("self");
    let path = format!("/api/v1/nodes/{}/drain", escaped(node));
    let body = json!({ "max_s": arguments.max });
    post(&arguments.ask, path, &body, |value| {
        format!(
            "{} drains and ends when nothing is left on it, at the latest after {} s\n",
            word(value, "draining", node),
            arguments.max
        )
    })
}
