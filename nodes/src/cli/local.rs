//! Commands that need no running node: check, defaults, init, version.
//!
//! In: arguments. Out: text for stdout.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use contract::Entropy;
use contract::SchemaVersion;
use serde_json::json;

use super::{Failure, InitArgs, LayerArgs};
use crate::config::{self, Interfaces, Sources};
use crate::env_os;

/// Schema of records that this program reads and writes (`cluster.md` §12).
const SCHEMA: (u16, u16) = (SchemaVersion::OLDEST.0, SchemaVersion::NEWEST.0);
/// Forms of frames between nodes that this program reads (`cluster.md` §10): they go by the schema.
const PROTOCOL: (u16, u16) = SCHEMA;

/// Turns arguments into what is loaded.
#[must_use]
pub(crate) fn sources(layers: &LayerArgs) -> Sources {
    Sources {
        files: layers.config.clone(),
        demo: layers.demo,
        sets: layers.set.clone(),
    }
}

/// Returns the effective configuration, and what is open now.
///
/// # Errors
/// What is wrong with it.
pub fn check(layers: &LayerArgs) -> Result<String, Failure> {
    let loaded = config::load(&sources(layers), &Interfaces::read()).map_err(Failure::input)?;
    crate::run::check_files(&loaded)?;
    let open = config::open(&loaded, env_os::Clock::start().now().utc);
    Ok(config::effective(&loaded) + &open)
}

/// Returns the documented default.
///
/// # Errors
/// If there is no such key.
pub fn defaults(key: Option<&str>) -> Result<String, Failure> {
    config::defaults(key).ok_or_else(|| {
        let key = key.unwrap_or_default();
        Failure::input(format!(
            "unknown key `{key}`; `weft defaults` prints all there are"
        ))
    })
}

/// Writes a first configuration and returns what to type into each phone.
///
/// # Errors
/// If the address is none, or the file is there or cannot be written.
pub fn initial(arguments: &InitArgs) -> Result<String, Failure> {
    let mut entropy = Entropy::from_seed(env_os::random());
    let made = config::initial(
        &arguments.address,
        arguments.domain.as_deref(),
        &mut entropy,
    )
    .map_err(Failure::input)?;
    let shown = arguments.output.display();
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&arguments.output)
        .map_err(|error| Failure::input(format!("--output {shown}: {error}")))?;
    file.write_all(made.file.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| Failure::run(format!("writing {shown}: {error}")))?;
    Ok(format!(
        "{}\nWritten to {shown}; start with: weft run --config {shown}\n",
        made.phones
    ))
}

/// Returns version, commit and ranges.
#[must_use]
pub fn version(is_json: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let commit = env!("WEFT_COMMIT");
    if is_json {
        let schema = json!({ "min": SCHEMA.0, "max": SCHEMA.1 });
        let protocol = json!({ "min": PROTOCOL.0, "max": PROTOCOL.1 });
        let value = json!({
            "version": version, "commit": commit, "schema": schema, "protocol": protocol,
        });
        return format!("{value}\n");
    }
    format!(
        "weft {version}\ncommit    {commit}\nschema    {}-{}\nprotocol  {}-{}\n",
        SCHEMA.0, SCHEMA.1, PROTOCOL.0, PROTOCOL.1
    )
}
