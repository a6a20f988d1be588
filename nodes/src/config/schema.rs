//! Which keys there are and what each may hold: the one table that files are checked against.
//!
//! In: one layer of configuration (a file, or `--set`). Out: every unknown key and every value out of
//! range, named with file, key, value and what is allowed. Rules between keys are in `rules.rs`.

use std::net::IpAddr;

use contract::limits::ZONE_BYTES_MAX;
use toml::{Table, Value};

use super::ConfigError;
use super::address::{Listen, Network, RtpPorts};
use super::group::GROUP;
use super::hours::HOURS;
use super::route::ROUTE;

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name in its table.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
}

/// What a key may hold.
#[derive(Debug)]
pub(super) enum Kind {
    /// A whole number of a range.
    Number(i64, i64),
    /// `true` or `false`.
    Truth,
    /// A text; what is allowed in words, and the check.
    Text(&'static str, fn(&str) -> bool),
    /// The same, but never printed.
    Secret(&'static str, fn(&str) -> bool),
    /// A text, or a whole number of 0-65535.
    TextOrNumber(&'static str, fn(&str) -> bool),
    /// A list of texts.
    Texts(&'static str, fn(&str) -> bool),
    /// A table.
    Table(&'static [Key]),
    /// An array of tables, each with a `name`.
    Named(&'static [Key]),
    /// An array of tables of one key each.
    Steps(&'static [Key]),
    /// An array of tables with these keys, replaced as a whole.
    Rows(&'static [Key]),
}

pub(super) const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

/// Elements of any list; more are refused.
const LIST_MAX: usize = 1_024;
/// Steps of one route; more are refused.
const STEPS_MAX: usize = 32;

pub(super) const NAME: Kind = Kind::Text("1-64 letters, digits, `.`, `_`, `-`", is_name);
pub(super) const HOST: Kind = Kind::Text("a host name in letters, digits, `.`, `-`", is_host);
const PATH: Kind = Kind::Text("a path of 1-4096 characters", is_path);
const ADVERTISE: Kind = Kind::Text(
    "an IP address or the name of an interface, with or without a port",
    is_advertise,
);
const NETWORKS: Kind = Kind::Texts("a network as `192.0.2.0/24`, or an address", is_network);
const CODECS: Kind = Kind::Texts("opus, g722, pcmu or pcma", |text| {
    matches!(text, "opus" | "g722" | "pcmu" | "pcma")
});
const SUITES: Kind = Kind::Texts(
    "AES_CM_128_HMAC_SHA1_80, AES_CM_128_HMAC_SHA1_32, AEAD_AES_128_GCM or AEAD_AES_256_GCM",
    |text| {
        contract::SrtpProfile::ALL
            .iter()
            .any(|profile| profile.suite() == text)
    },
);
/// A code point has six bits (RFC 2474 §3).
const DSCP: Kind = Kind::Number(0, 63);
const LISTEN: Kind = Kind::Texts("`address:port`, `interface:port` or `:port`", is_listen);

/// The whole configuration.
pub(super) const ROOT: &[Key] = &[
    key(
        "node",
        Kind::Table(&[
            key("name", NAME),
            key(
                "id",
                Kind::TextOrNumber("\"auto\" or 0-65535", |text| text == "auto"),
            ),
            key("data", PATH),
            key("advertise", ADVERTISE),
        ]),
    ),
    key(
        "cluster",
        Kind::Table(&[
            key(
                "listen",
                Kind::Text("`address:port` or `interface:port`", |text| {
                    is_listen(text) && !text.starts_with(':')
                }),
            ),
            key(
                "seeds",
                Kind::Texts("`address:port` or `host:port`", is_seed),
            ),
            key(
                "zone",
                Kind::Text("up to 32 letters, digits, `.`, `_`, `-`", |text| {
                    text.is_empty() || (is_name(text) && text.len() <= ZONE_BYTES_MAX)
                }),
            ),
            key("secret_file", PATH),
            key(
                "replicas",
                Kind::Number(1, contract::limits::HOLDERS_MAX as i64),
            ),
            key(
                "commit",
                Kind::Text("`available` or `strict`", |text| {
                    matches!(text, "available" | "strict")
                }),
            ),
            key(
                "rebalance",
                Kind::Text("`registrations` or `off`", |text| {
                    matches!(text, "registrations" | "off")
                }),
            ),
            key("schema", Kind::Number(1, 3)),
            key("floating", Kind::Rows(FLOATING)),
        ]),
    ),
    key("profile", Kind::Named(PROFILE)),
    key("media", Kind::Table(MEDIA)),
    key(
        "http",
        Kind::Table(&[
            key("listen", LISTEN),
            key("tls", LISTEN),
            key(
                "hosts",
                Kind::Texts("a host name in letters, digits, `.`, `-`", is_host),
            ),
            key(
                "origins",
                Kind::Texts("an origin as `https://console.example.org`", is_origin),
            ),
            key("trusted_proxies", NETWORKS),
            key("require_sip_subprotocol", Kind::Truth),
        ]),
    ),
    key(
        "tls",
        Kind::Table(&[
            key("certificate", PATH),
            key("key", PATH),
            key("verify_peers", Kind::Truth),
            key("authorities", PATH),
        ]),
    ),
    key("limits", Kind::Table(LIMITS)),
    key(
        "log",
        Kind::Table(&[
            key(
                "level",
                Kind::Text("error, warn, info, debug, trace, or a filter", is_filter),
            ),
            key(
                "format",
                Kind::Text("\"text\" or \"json\"", |text| {
                    matches!(text, "text" | "json")
                }),
            ),
        ]),
    ),
    key("domain", Kind::Named(DOMAIN)),
    key("user", Kind::Named(USER)),
    key("group", Kind::Named(GROUP)),
    key("hours", Kind::Named(HOURS)),
    key("route", Kind::Named(ROUTE)),
];

const FLOATING: &[Key] = &[
    key(
        "address",
        Kind::Text("an IP address", |text| text.parse::<IpAddr>().is_ok()),
    ),
    key("node", NAME),
    key("hook", PATH),
];

const PROFILE: &[Key] = &[
    key("name", NAME),
    key("udp", LISTEN),
    key("tcp", LISTEN),
    key("tls", LISTEN),
    key("ws", LISTEN),
    key("wss", LISTEN),
    key(
        "auth",
        Kind::Text("\"digest\" or \"none\"", |text| {
            matches!(text, "digest" | "none")
        }),
    ),
    key(
        "digest",
        Kind::Texts("MD5, SHA-256 or SHA-512-256", |text| {
            super::rules::algorithm(text).is_some()
        }),
    ),
    key("nat", Kind::Truth),
    key("acl", NETWORKS),
    key("advertise", ADVERTISE),
    key(
        "rtp_advertise",
        Kind::Text(
            "an IP address or the name of an interface",
            is_bare_advertise,
        ),
    ),
    key("dscp", DSCP),
];

const MEDIA: &[Key] = &[
    key(
        "rtp_ports",
        Kind::Text(
            "`first-last` within 1024-65535, the first even, four ports at least",
            |text| text.parse::<RtpPorts>().is_ok(),
        ),
    ),
    key("webrtc_port", Kind::Number(0, 65_472)),
    key("dscp", DSCP),
    key("workers", Kind::Number(0, 64)),
    key("rtp_timeout_s", Kind::Number(5, 86_400)),
    key("rtp_hold_timeout_s", Kind::Number(5, 86_400)),
    key("codecs", CODECS),
    key("srtp", SUITES),
];

const LIMITS: &[Key] = &[
    key("calls", Kind::Number(1, 1_000_000)),
    key("ring_timeout_s", Kind::Number(5, 600)),
    key("call_max_s", Kind::Number(0, 604_800)),
    key("park_timeout_s", Kind::Number(5, 86_400)),
    key("expires_min_s", Kind::Number(1, 3_600)),
    key("expires_default_s", Kind::Number(60, 86_400)),
    key("expires_max_s", Kind::Number(60, 86_400)),
];

const DOMAIN: &[Key] = &[
    key("name", HOST),
    key(
        "limits",
        Kind::Table(&[key("calls", Kind::Number(0, 1_000_000))]),
    ),
];

const USER: &[Key] = &[
    key(
        "name",
        Kind::Text(
            "1-64 letters, digits, `.`, `_`, `-`, `+`, `*`, `#`",
            is_user,
        ),
    ),
    key("domain", HOST),
    key(
        "password",
        Kind::Secret("1-128 characters, no control ones", is_line_of_128),
    ),
    key("password_file", PATH),
    key("ha1", Kind::Secret("32 hexadecimal digits", is_ha1)),
    key(
        "display",
        Kind::Text("up to 64 characters, no control ones", is_display),
    ),
    key(
        "max_contacts",
        Kind::Number(1, contract::limits::BINDINGS_PER_AOR_MAX as i64),
    ),
    key(
        "media",
        Kind::Text("\"auto\", \"rtp\", \"sdes\" or \"webrtc\"", |text| {
            matches!(text, "auto" | "rtp" | "sdes" | "webrtc")
        }),
    ),
    key("codecs", CODECS),
];

/// Checks one layer; `file` is named in the refusal.
///
/// # Errors
/// The first unknown key or value out of range.
pub(super) fn check(layer: &Table, file: &str) -> Result<(), ConfigError> {
    check_table(layer, ROOT, file, "")
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn check_table(table: &Table, keys: &[Key], file: &str, path: &str) -> Result<(), ConfigError> {
    for (name, value) in table {
        let Some(known) = keys.iter().find(|known| known.name == name) else {
            let allowed: Vec<_> = keys.iter().map(|known| known.name).collect();
            return Err(ConfigError::UnknownKey {
                file: file.to_owned(),
                key: join(path, name),
                allowed: allowed.join(", "),
            });
        };
        check_value(value, &known.kind, file, &join(path, name))?;
    }
    Ok(())
}

fn check_value(value: &Value, kind: &Kind, file: &str, path: &str) -> Result<(), ConfigError> {
    let shown = match kind {
        Kind::Secret(..) => "(a secret)".to_owned(),
        Kind::Number(..)
        | Kind::Truth
        | Kind::Text(..)
        | Kind::TextOrNumber(..)
        | Kind::Texts(..)
        | Kind::Table(_)
        | Kind::Named(_)
        | Kind::Steps(_)
        | Kind::Rows(_) => value.to_string(),
    };
    let refuse = |allowed: &str| {
        Err(ConfigError::Value {
            file: file.to_owned(),
            key: path.to_owned(),
            value: shown.clone(),
            allowed: allowed.to_owned(),
        })
    };
    match (kind, value) {
        (Kind::Number(low, high), Value::Integer(number)) if (low..=high).contains(&number) => {
            Ok(())
        }
        (Kind::Number(low, high), _) => refuse(&format!("a whole number, {low} to {high}")),
        (Kind::Truth, Value::Boolean(_)) => Ok(()),
        (Kind::Truth, _) => refuse("true or false"),
        (
            Kind::Text(_, is_fine) | Kind::Secret(_, is_fine) | Kind::TextOrNumber(_, is_fine),
            Value::String(text),
        ) if is_fine(text) => Ok(()),
        (Kind::TextOrNumber(..), Value::Integer(0..=65_535)) => Ok(()),
        (Kind::Text(allowed, _) | Kind::Secret(allowed, _) | Kind::TextOrNumber(allowed, _), _) => {
            refuse(allowed)
        }
        (Kind::Texts(allowed, is_fine), Value::Array(list)) => {
            let fits = list.len() <= LIST_MAX
                && list.iter().all(|value| value.as_str().is_some_and(is_fine));
            if fits {
                Ok(())
            } else {
                refuse(&format!("a list, each of it {allowed}"))
            }
        }
        (Kind::Texts(allowed, _), _) => refuse(&format!("a list, each of it {allowed}")),
        (Kind::Table(keys), Value::Table(table)) => check_table(table, keys, file, path),
        (Kind::Table(_), _) => refuse("a table"),
        (Kind::Named(keys), Value::Array(list)) => check_named(list, keys, file, path),
        (Kind::Named(_), _) => refuse("an array of tables, each with a `name`"),
        (Kind::Steps(keys), Value::Array(list)) if (1..=STEPS_MAX).contains(&list.len()) => {
            check_steps(list, keys, file, path)
        }
        (Kind::Rows(keys), Value::Array(list)) if list.len() <= LIST_MAX => {
            check_rows(list, keys, file, path)
        }
        (Kind::Rows(_), _) => refuse("a list of tables"),
        (Kind::Steps(_), _) => refuse(&format!("a list of 1-{STEPS_MAX} steps")),
    }
}

fn check_named(list: &[Value], keys: &[Key], file: &str, path: &str) -> Result<(), ConfigError> {
    let mut seen = std::collections::BTreeSet::new();
    for value in list {
        let table = value.as_table();
        let Some((table, name)) =
            table.and_then(|table| Some((table, table.get("name")?.as_str()?)))
        else {
            return Err(ConfigError::Value {
                file: file.to_owned(),
                key: path.to_owned(),
                value: value.to_string(),
                allowed: "a table with a `name`".to_owned(),
            });
        };
        let domain = table
            .get("domain")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !seen.insert((name, domain)) {
            return Err(ConfigError::Value {
                file: file.to_owned(),
                key: join(path, name),
                value: format!("name = {name:?}"),
                allowed: "each name once a file".to_owned(),
            });
        }
        let mut rest = table.clone();
        let removed = rest.remove("remove");
        if removed.is_some_and(|removed| !removed.is_bool()) {
            return Err(ConfigError::Value {
                file: file.to_owned(),
                key: join(&join(path, name), "remove"),
                value: "not a truth value".to_owned(),
                allowed: "true or false".to_owned(),
            });
        }
        check_table(&rest, keys, file, &join(path, name))?;
    }
    Ok(())
}

fn check_rows(list: &[Value], keys: &[Key], file: &str, path: &str) -> Result<(), ConfigError> {
    for value in list {
        match value.as_table() {
            Some(row) => check_table(row, keys, file, path)?,
            None => {
                return Err(ConfigError::Value {
                    file: file.to_owned(),
                    key: path.to_owned(),
                    value: value.to_string(),
                    allowed: "a list of tables".to_owned(),
                });
            }
        }
    }
    Ok(())
}

fn check_steps(list: &[Value], keys: &[Key], file: &str, path: &str) -> Result<(), ConfigError> {
    for value in list {
        match value.as_table() {
            Some(step) if step.len() == 1 => check_table(step, keys, file, path)?,
            Some(_) | None => {
                return Err(ConfigError::Value {
                    file: file.to_owned(),
                    key: path.to_owned(),
                    value: value.to_string(),
                    allowed: "a table of one step, as {answer = true}".to_owned(),
                });
            }
        }
    }
    Ok(())
}

pub(super) fn has(text: &str, most: usize, also: &str) -> bool {
    (1..=most).contains(&text.len())
        && text
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || also.contains(letter))
}

pub(super) fn is_name(text: &str) -> bool {
    has(text, 64, "._-")
}

pub(super) fn is_user(text: &str) -> bool {
    has(text, 64, "._-+*#")
}

fn is_host(text: &str) -> bool {
    has(text, 253, ".-") && !text.starts_with(['.', '-']) && !text.ends_with(['.', '-'])
}

fn is_path(text: &str) -> bool {
    (1..=4_096).contains(&text.len()) && !text.contains('\0')
}

fn is_line(text: &str, most: usize) -> bool {
    text.chars().count() <= most && !text.chars().any(char::is_control)
}

pub(super) fn is_line_of_128(text: &str) -> bool {
    !text.is_empty() && is_line(text, 128)
}

fn is_display(text: &str) -> bool {
    is_line(text, 64)
}

fn is_ha1(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|octet| octet.is_ascii_hexdigit())
}

fn is_listen(text: &str) -> bool {
    text.parse::<Listen>().is_ok()
}

/// Reads a node to join by: a host name or an address, and a port.
pub(super) fn seed(text: &str) -> Option<(String, u16)> {
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        return Some((address.ip().to_string(), address.port()));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    is_host(host).then(|| (host.to_owned(), port))
}

fn is_seed(text: &str) -> bool {
    seed(text).is_some()
}

fn is_advertise(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
        || text.parse::<std::net::SocketAddr>().is_ok()
        || text
            .parse::<Listen>()
            .is_ok_and(|listen| !listen.host.is_empty())
        || is_name(text)
}

fn is_bare_advertise(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || is_name(text)
}

fn is_network(text: &str) -> bool {
    text.parse::<Network>().is_ok()
}

fn is_origin(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| has(host, 300, ".-:[]"))
}

fn is_filter(text: &str) -> bool {
    (1..=256).contains(&text.len()) && tracing_subscriber::EnvFilter::builder().parse(text).is_ok()
}
