//! Laying one configuration over another (`architecture.md` §7).
//!
//! In: layers, each a TOML table that `schema.rs` has passed. Out: one table, and which layer last
//! said each key. Tables merge by key, arrays of tables by `name` (`remove = true` takes one out,
//! new routes go before those that are there), plain arrays replace.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::ConfigError;
use super::schema::{self, Key, Kind};

/// Which layer last said a key, by its path (`user.1000.password`).
#[derive(Clone, Debug, Default)]
pub struct Origins {
    by_path: BTreeMap<String, String>,
}

impl Origins {
    /// Returns the layer that last said `path`, or the nearest table around it.
    #[must_use]
    pub fn file(&self, path: &str) -> &str {
        let mut at = path;
        loop {
            if let Some(file) = self.by_path.get(at) {
                return file;
            }
            match at.rsplit_once('.') {
                Some((around, _)) => at = around,
                None => return "the configuration",
            }
        }
    }

    fn set(&mut self, path: &str, file: &str) {
        self.by_path.insert(path.to_owned(), file.to_owned());
    }

    fn forget(&mut self, path: &str) {
        let inside = format!("{path}.");
        self.by_path
            .retain(|known, _| known != path && !known.starts_with(&inside));
    }
}

/// Lays `layer` over `base`.
///
/// # Errors
/// An unknown key, a value out of range, or the removal of what is not there.
pub(super) fn lay(
    base: &mut Table,
    layer: Table,
    file: &str,
    origins: &mut Origins,
) -> Result<(), ConfigError> {
    schema::check(&layer, file)?;
    lay_table(
        base,
        layer,
        schema::ROOT,
        &Place {
            file,
            path: String::new(),
        },
        origins,
    )
}

struct Place<'a> {
    file: &'a str,
    path: String,
}

impl Place<'_> {
    fn inside(&self, name: &str) -> Self {
        let path = if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        };
        Place {
            file: self.file,
            path,
        }
    }
}

fn lay_table(
    base: &mut Table,
    layer: Table,
    keys: &[Key],
    place: &Place<'_>,
    origins: &mut Origins,
) -> Result<(), ConfigError> {
    for (name, value) in layer {
        let place = place.inside(&name);
        let kind = keys
            .iter()
            .find(|known| known.name == name)
            .map(|known| &known.kind);
        match (kind, base.get_mut(&name), value) {
            (Some(Kind::Table(keys)), Some(Value::Table(into)), Value::Table(from)) => {
                lay_table(into, from, keys, &place, origins)?;
            }
            (Some(Kind::Named(keys)), into, Value::Array(from)) => {
                let list = match into {
                    Some(Value::Array(list)) => std::mem::take(list),
                    Some(_) | None => Vec::new(),
                };
                let list = lay_named(list, from, keys, &place, origins)?;
                base.insert(name, Value::Array(list));
            }
            (_, _, value) => {
                origins.forget(&place.path);
                origins.set(&place.path, place.file);
                base.insert(name, value);
            }
        }
    }
    Ok(())
}

/// Two entries are the same if name and, where one is said, domain are.
fn is_same(one: &Value, other: &Table) -> bool {
    one.get("name") == other.get("name") && one.get("domain") == other.get("domain")
}

/// A layer that says one form of an account's credential takes the place of every other form.
fn drop_other_credentials(into: &mut Table, from: &Table) {
    const FORMS: [&str; 3] = ["password", "password_file", "ha1"];
    if FORMS.iter().any(|form| from.contains_key(*form)) {
        into.retain(|name, _| !FORMS.contains(&name));
    }
}

fn lay_named(
    mut list: Vec<Value>,
    from: Vec<Value>,
    keys: &[Key],
    place: &Place<'_>,
    origins: &mut Origins,
) -> Result<Vec<Value>, ConfigError> {
    let mut new = Vec::new();
    for value in from {
        let Value::Table(mut entry) = value else {
            continue;
        };
        let removed = matches!(entry.remove("remove"), Some(Value::Boolean(true)));
        let name = entry
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let place = place.inside(&name);
        let known = list.iter().position(|known| is_same(known, &entry));
        match (known, removed) {
            (Some(at), true) => {
                list.remove(at);
                origins.forget(&place.path);
            }
            (None, true) => {
                return Err(ConfigError::Value {
                    file: place.file.to_owned(),
                    key: format!("{}.remove", place.path),
                    value: "true".to_owned(),
                    allowed: "a name that an earlier layer has".to_owned(),
                });
            }
            (Some(at), false) => {
                if let Some(Value::Table(into)) = list.get_mut(at) {
                    drop_other_credentials(into, &entry);
                    lay_table(into, entry, keys, &place, origins)?;
                }
            }
            (None, false) => {
                origins.set(&place.path, place.file);
                new.push(Value::Table(entry));
            }
        }
    }
    // The first match wins, so what an operator adds must come before what is built in.
    if place.path == "route" {
        new.append(&mut list);
        return Ok(new);
    }
    list.append(&mut new);
    Ok(list)
}

/// Reads `--set key=value` as a layer: the key as TOML writes it (`media.workers`,
/// `profile.internal.auth`, `domain."example.org".limits.calls`), the value as TOML or, if it is
/// none or the key wants a text, as text.
///
/// # Errors
/// If there is no `=` or the key cannot be read.
pub(super) fn read_set(text: &str) -> Result<Table, ConfigError> {
    let bad = |why: &str| ConfigError::Value {
        file: "--set".to_owned(),
        key: text.split('=').next().unwrap_or_default().to_owned(),
        value: text.to_owned(),
        allowed: why.to_owned(),
    };
    let (key, value) = text.split_once('=').ok_or_else(|| bad("key=value"))?;
    let mut nest: Table = format!("{key} = 0")
        .parse()
        .map_err(|_| bad("a key as media.rtp_timeout_s"))?;
    let mut path = Vec::new();
    loop {
        let Some((name, inner)) = nest.into_iter().next() else {
            return Err(bad("a key as media.rtp_timeout_s"));
        };
        path.push(name);
        match inner {
            Value::Table(table) => nest = table,
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_) => break,
        }
    }
    Ok(wrap(&path, value.trim(), schema::ROOT))
}

fn wrap(path: &[String], value: &str, keys: &[Key]) -> Table {
    let mut table = Table::new();
    let Some((name, rest)) = path.split_first() else {
        return table;
    };
    let kind = keys
        .iter()
        .find(|known| known.name == name)
        .map(|known| &known.kind);
    let inner = match (kind, rest) {
        (Some(Kind::Named(keys)), [entry, rest @ ..]) if !rest.is_empty() => {
            let mut inner = wrap(rest, value, keys);
            inner.insert("name".to_owned(), Value::String(entry.clone()));
            Value::Array(vec![Value::Table(inner)])
        }
        (Some(Kind::Table(keys)), rest) if !rest.is_empty() => {
            Value::Table(wrap(rest, value, keys))
        }
        (Some(Kind::Text(..) | Kind::Secret(..)), []) => Value::String(unquoted(value)),
        (_, []) => read_value(value),
        (_, rest) => Value::Table(wrap(rest, value, &[])),
    };
    table.insert(name.clone(), inner);
    table
}

fn read_value(value: &str) -> Value {
    let read = format!("value = {value}").parse::<Table>().ok();
    let read = read.and_then(|mut table| table.remove("value"));
    read.unwrap_or_else(|| Value::String(value.to_owned()))
}

fn unquoted(value: &str) -> String {
    match read_value(value) {
        Value::String(text) => text,
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_)
        | Value::Table(_) => value.to_owned(),
    }
}
