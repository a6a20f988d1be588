//! The configuration for people: the effective one with secrets masked, and the documented default.
//!
//! In: a loaded configuration, or the name of a key; when it is. Out: TOML text.

use contract::UtcMillis;
use toml::{Table, Value};

use super::schema::{self, Key, Kind};
use super::{DEFAULT, Loaded};

/// Returns what is open at a moment, and until when: comments of TOML.
#[must_use]
pub fn open(loaded: &Loaded, at: UtcMillis) -> String {
    let config = &loaded.config;
    let lines = config.hours.iter().map(|hours| {
        let domain = config.domain_name(hours.domain.as_deref());
        let now = hours.read().map(|read| read.describe(at));
        let now = now.unwrap_or_default();
        format!("# hours {} of {domain}: {now}\n", hours.name)
    });
    lines.collect()
}

/// Returns the effective configuration as TOML, secrets masked.
#[must_use]
pub fn effective(loaded: &Loaded) -> String {
    let mut table = loaded.table.clone();
    mask(&mut table, schema::ROOT);
    toml::to_string(&table).unwrap_or_default()
}

fn mask(table: &mut Table, keys: &[Key]) {
    for (name, value) in table.iter_mut() {
        let kind = keys
            .iter()
            .find(|known| known.name == name)
            .map(|known| &known.kind);
        match (kind, value) {
            (Some(Kind::Secret(..)), value) => *value = Value::String("***".to_owned()),
            (Some(Kind::Table(keys)), Value::Table(inner)) => mask(inner, keys),
            (Some(Kind::Named(keys)), Value::Array(list)) => {
                for inner in list.iter_mut().filter_map(Value::as_table_mut) {
                    mask(inner, keys);
                }
            }
            (_, _) => {}
        }
    }
}

/// Returns the documented default: all of it, one table (`media`), or one key (`media.workers`).
/// `None` if there is no such key.
#[must_use]
pub fn defaults(key: Option<&str>) -> Option<String> {
    let Some(key) = key else {
        return Some(DEFAULT.to_owned());
    };
    let (table, name) = match key.split_once('.') {
        Some((table, name)) => (table, Some(name)),
        None => (key, None),
    };
    let section = section(table)?;
    match name {
        None => Some(section),
        Some(name) => entry(&section, name),
    }
}

/// Returns the first table of that name, with its comments.
fn section(table: &str) -> Option<String> {
    let heads = [format!("[{table}]"), format!("[[{table}]]")];
    let lines = DEFAULT
        .lines()
        .skip_while(|line| !heads.iter().any(|head| head == line));
    let mut section: Vec<_> = lines.clone().take(1).collect();
    section.extend(
        lines
            .skip(1)
            .take_while(|line| !line.starts_with('[') && !line.starts_with("#==")),
    );
    while section.last().is_some_and(|line| line.is_empty()) {
        section.pop();
    }
    (!section.is_empty()).then(|| section.join("\n") + "\n")
}

/// Returns one key's lines: its comment and its value.
fn entry(section: &str, name: &str) -> Option<String> {
    let mut comment = Vec::new();
    for line in section.lines() {
        let set = line.strip_prefix('#').unwrap_or(line);
        let is_it = set
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(" ="));
        if line.starts_with("# ") {
            comment.push(line);
        } else if is_it {
            comment.push(line);
            return Some(comment.join("\n") + "\n");
        } else {
            comment.clear();
        }
    }
    None
}
