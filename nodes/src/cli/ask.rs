//! Commands that ask a running node: nodes, actors, inspect, trace; those that steer are in
//! `steer.rs`.
//!
//! In: arguments. Out: text for stdout: tables for people, or the answer as JSON.

use serde_json::Value;

use super::client::{Call, call, escaped};
use super::ladder::{self, Line};
use super::table::{Paint, clean, table};
use super::{ActorsArgs, AskArgs, Command, Failure, OneArgs, TraceArgs, steer};

/// Carries out a command that asks a node; `None` for the others.
#[must_use]
pub fn ask(command: &Command, paint: Paint) -> Option<Result<String, Failure>> {
    match command {
        Command::Nodes(arguments) => Some(nodes(arguments, paint)),
        Command::Actors(arguments) => Some(actors(arguments, paint)),
        Command::Inspect(arguments) => Some(inspect(arguments, paint)),
        Command::Trace(arguments) => Some(trace(arguments, paint)),
        Command::Stop(arguments) => Some(steer::stop(arguments)),
        Command::Move(arguments) => Some(steer::move_actor(arguments)),
        Command::Drain(arguments) => Some(steer::drain(arguments)),
        Command::Run(_)
        | Command::Events(_)
        | Command::Local(_)
        | Command::Check(_)
        | Command::Defaults { .. }
        | Command::Init(_)
        | Command::Version(_) => None,
    }
}

fn get(arguments: &AskArgs, path: String) -> Result<Value, Failure> {
    call(
        arguments,
        &Call {
            method: "GET",
            path,
            body: String::new(),
        },
    )
}

fn as_json(value: &Value) -> String {
    format!("{value:#}\n")
}

fn items(value: &Value) -> &[Value] {
    value["items"].as_array().map_or(&[], Vec::as_slice)
}

/// Returns a field as a cell of a table.
fn cell(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => clean(text),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other @ (Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
    }
}

fn nodes(arguments: &AskArgs, paint: Paint) -> Result<String, Failure> {
    let value = get(arguments, "/api/v1/nodes".to_owned())?;
    if arguments.json {
        return Ok(as_json(&value));
    }
    let row = |node: &Value| {
        if node["version"].is_null() {
            let known = [cell(node, "name"), cell(node, "id"), cell(node, "state")];
            let unknown = std::iter::repeat_n("-".to_owned(), 4);
            return known.into_iter().chain(unknown).collect();
        }
        let kinds = node["actors"].as_array().map_or(&[][..], Vec::as_slice);
        let live: u64 = kinds.iter().filter_map(|kind| kind["live"].as_u64()).sum();
        let all: u64 = kinds.iter().filter_map(|kind| kind["all"].as_u64()).sum();
        let free = node["free_bytes"].as_u64().unwrap_or(0) >> 20;
        vec![
            cell(node, "name"),
            cell(node, "id"),
            cell(node, "state"),
            cell(node, "version"),
            format!("{} s", cell(node, "uptime_s")),
            format!("{live}/{all}"),
            format!("{free} MiB"),
        ]
    };
    let heads = ["NAME", "ID", "STATE", "VERSION", "UPTIME", "ACTORS", "FREE"];
    let rows: Vec<_> = items(&value).iter().map(row).collect();
    Ok(table(&heads, &rows, paint))
}

/// Says which nodes did not answer, if there are any: what is shown is not all there is.
fn silent(value: &Value) -> String {
    let names = value["missing"].as_array().map_or(&[][..], Vec::as_slice);
    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
    if names.is_empty() {
        return String::new();
    }
    format!("No answer from {}\n", clean(&names.join(", ")))
}

fn actors(arguments: &ActorsArgs, paint: Paint) -> Result<String, Failure> {
    let mut path = format!(
        "/api/v1/actors?limit={}&offset={}",
        arguments.limit, arguments.offset
    );
    let filters = [
        ("kind", &arguments.kind),
        ("node", &arguments.node),
        ("q", &arguments.query),
    ];
    for (name, value) in filters {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escaped(value)));
        }
    }
    let value = get(&arguments.ask, path)?;
    if arguments.ask.json {
        return Ok(as_json(&value));
    }
    let names = [
        "id", "state", "node", "live", "inbox", "restarts", "epoch", "sequence", "parent",
    ];
    let heads = [
        "ID", "STATE", "NODE", "LIVE", "INBOX", "RESTARTS", "EPOCH", "SEQUENCE", "PARENT",
    ];
    let row = |actor: &Value| names.iter().map(|name| cell(actor, name)).collect();
    let rows: Vec<Vec<String>> = items(&value).iter().map(row).collect();
    let mut text = table(&heads, &rows, paint);
    let total = value["total"].as_u64().unwrap_or(0);
    if total > rows.len() as u64 {
        let more = format!(
            "{} of {total} actors; --offset and --limit show others\n",
            rows.len()
        );
        text.push_str(&paint.faint(&more));
    }
    text.push_str(&silent(&value));
    Ok(text)
}

fn inspect(arguments: &OneArgs, paint: Paint) -> Result<String, Failure> {
    let value = get(
        &arguments.ask,
        format!("/api/v1/actors/{}", escaped(&arguments.id)),
    )?;
    if arguments.ask.json {
        return Ok(as_json(&value));
    }
    let names = [
        "id",
        "kind",
        "node",
        "parent",
        "state",
        "live",
        "inbox",
        "gated",
        "restarts",
        "epoch",
        "sequence",
        "next_deadline_ms",
    ];
    let mut text = String::new();
    for name in names {
        let label = format!("{name:<17}");
        text.push_str(&format!("{}{}\n", paint.bold(&label), cell(&value, name)));
    }
    for name in ["children", "quarantined"] {
        for entry in value[name].as_array().map_or(&[][..], Vec::as_slice) {
            let label = format!("{name:<17}");
            let entry = clean(entry.as_str().unwrap_or_default());
            text.push_str(&format!("{}{entry}\n", paint.bold(&label)));
        }
    }
    text.push_str(&format!(
        "{}\n{:#}\n",
        paint.bold("snapshot"),
        value["snapshot"]
    ));
    Ok(text)
}

fn trace(arguments: &TraceArgs, paint: Paint) -> Result<String, Failure> {
    let value = get(
        &arguments.ask,
        format!("/api/v1/actors/{}/trace", escaped(&arguments.id)),
    )?;
    if arguments.ask.json {
        return Ok(as_json(&value));
    }
    let lines: Result<Vec<Line>, _> = items(&value)
        .iter()
        .map(|line| serde_json::from_value(line.clone()))
        .collect();
    let lines = lines.map_err(|error| Failure::run(format!("reading the trace: {error}")))?;
    Ok(ladder::render(&lines, arguments.all, paint))
}
