//! `[[route]]`: what a number that is dialled leads to, and which values its keys may have.

use actors::call::dial_string::{self, Word};
use actors::registration::settings::DiversionReason;
use contract::limits::{GROUP_MEMBERS_MAX, PLACE_BYTES_MAX};
use serde::{Deserialize, Serialize};

use super::schema::{HOST, Key, Kind, NAME, has, is_line_of_128, key};
use super::{hours, site};

/// `[[route]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Its domain; the first one if it says none.
    pub domain: Option<String>,
    /// Profile the call came in on.
    pub profile: Option<String>,
    /// What it matches.
    #[serde(rename = "match")]
    pub matches: Match,
    /// What is done.
    #[serde(rename = "do")]
    pub steps: Vec<Step>,
    /// Whether sound passes here.
    #[serde(default)]
    pub media: RouteMedia,
}

/// `route.match`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Regular expression for what is dialled.
    pub destination: String,
    /// Name of the hours at which it does; with `!`: outside of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hours: Option<String>,
}

/// One of `route.do`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Answers the caller (`false`: does nothing).
    Answer(bool),
    /// Calls targets and joins who answers.
    Bridge(String),
    /// Sends the caller's sound back (`false`: does nothing).
    Echo(bool),
    /// Sends a tone.
    Tone(Tone),
    /// Ends the call.
    Hangup(String),
    /// Writes a line to the log.
    Log(String),
    /// Picks up a call that rings somebody else.
    Pickup(String),
    /// Parks the caller, or takes who is parked.
    Park(String),
    /// Whether the caller is not to be disturbed.
    Dnd(bool),
    /// Whether the caller's phones ring beside another call.
    #[serde(rename = "call_waiting")]
    CallWaiting(bool),
    /// Where calls to the caller go.
    Forward(Forward),
}

/// A change of what the caller has set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// On which occasion.
    pub on: DiversionReason,
    /// Where; none: not any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A tone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tone {
    /// Frequency.
    pub hertz: u32,
    /// Level in dBm0.
    pub level_dbm0: i32,
    /// Milliseconds, then the route goes on; none: until the caller hangs up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u32>,
}

/// `route.media`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteMedia {
    /// Sound passes through this node.
    #[default]
    Anchor,
    /// SDP is passed on, no leg is opened.
    Bypass,
}

pub(super) const ROUTE: &[Key] = &[
    key("name", NAME),
    key("domain", HOST),
    key("profile", NAME),
    key(
        "match",
        Kind::Table(&[
            key(
                "destination",
                Kind::Text(
                    "a regular expression of linear time, 1-1024 characters",
                    is_pattern,
                ),
            ),
            key(
                "hours",
                Kind::Text(
                    "the name of an [[hours]], or `!` and its name",
                    hours::is_condition,
                ),
            ),
        ]),
    ),
    key("do", Kind::Steps(STEPS)),
    key(
        "media",
        Kind::Text("\"anchor\" or \"bypass\"", |text| {
            matches!(text, "anchor" | "bypass")
        }),
    ),
];

/// The words of a route's steps.
pub(super) const STEPS: &[Key] = &[
    key("answer", Kind::Truth),
    key(
        "bridge",
        Kind::Text(
            "`user/NAME` and `group/NAME`, with or without `@DOMAIN`, `,` and `|` between them",
            is_target,
        ),
    ),
    key("echo", Kind::Truth),
    key(
        "tone",
        Kind::Table(&[
            key("hertz", Kind::Number(20, 3_900)),
            key("level_dbm0", Kind::Number(-60, 0)),
            key("for_ms", Kind::Number(20, 60_000)),
        ]),
    ),
    key(
        "hangup",
        Kind::Text("a cause in Q.850 words, as USER_BUSY", is_cause),
    ),
    key(
        "log",
        Kind::Text("1-128 characters, no control ones", is_line_of_128),
    ),
    key(
        "pickup",
        Kind::Text(
            "`groups`, or what `bridge` takes: whose call is picked up",
            |text| text == "groups" || is_target(text),
        ),
    ),
    key(
        "park",
        Kind::Text(
            "the name of a place: 1-64 letters, digits, `.`, `_`, `-`, `+`, `*`, `#`, with `$1` groups",
            |text| has(text, PLACE_BYTES_MAX, "._-+*#${}"),
        ),
    ),
    key("dnd", Kind::Truth),
    key("call_waiting", Kind::Truth),
    key(
        "forward",
        Kind::Table(&[
            key(
                "on",
                Kind::Text("`always`, `busy`, `no_answer` or `unreachable`", |text| {
                    matches!(text, "always" | "busy" | "no_answer" | "unreachable")
                }),
            ),
            key(
                "to",
                Kind::Text("a number, with `$1` groups", is_line_of_128),
            ),
        ]),
    ),
];

fn is_pattern(text: &str) -> bool {
    (1..=1_024).contains(&text.len()) && site::pattern(text).is_ok()
}

fn is_target(text: &str) -> bool {
    let rounds = dial_string::words(text).unwrap_or_default();
    let mut words = rounds.iter().flatten();
    let is_name = |word: &Word<'_>| match word {
        Word::User(name) | Word::Group(name) => has(name, 320, "._-+*#$@{}"),
    };
    let count = words.clone().count();
    (1..=GROUP_MEMBERS_MAX).contains(&count) && words.all(is_name)
}

fn is_cause(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|octet| octet.is_ascii_uppercase() || octet.is_ascii_digit() || octet == b'_')
}
