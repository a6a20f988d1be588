//! `[[hours]]`: when somewhere is open, and which values its keys may have.

use std::sync::Arc;

use actors::hours;
use actors::site::AtHours;
use contract::limits::{HOURS_DAYS_MAX, HOURS_OPENINGS_MAX};
use serde::{Deserialize, Serialize};

use super::rules::Check;
use super::schema::{HOST, Key, Kind, NAME, key};
use super::{Config, ConfigError};

/// `[[hours]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// Its name.
    pub name: String,
    /// Its domain; the first one if it says none.
    pub domain: Option<String>,
    /// Name of its time zone.
    pub zone: String,
    /// Openings of the week.
    #[serde(default)]
    pub open: Vec<String>,
    /// Days on which none of these begins.
    #[serde(default)]
    pub holidays: Vec<String>,
    /// Openings of one day, holiday or not.
    #[serde(default)]
    pub also: Vec<String>,
}

pub(super) const HOURS: &[Key] = &[
    key("name", NAME),
    key("domain", HOST),
    key(
        "zone",
        Kind::Text("the name of a time zone as `Europe/Berlin`", hours::is_zone),
    ),
    key(
        "open",
        Kind::Texts(
            "days and times as `mo-fr 08:00-12:30` or `fr,sa 22:00-02:00`",
            hours::is_weekly,
        ),
    ),
    key(
        "holidays",
        Kind::Texts(
            "a day as `2026-12-25` or `12-25`, or two of a kind with `..` between them",
            hours::is_holiday,
        ),
    ),
    key(
        "also",
        Kind::Texts(
            "a day and times as `2026-12-19 10:00-16:00`",
            hours::is_extra,
        ),
    ),
];

/// Tells whether a text is what a route says of hours: their name, or `!` and their name.
pub(super) fn is_condition(text: &str) -> bool {
    super::schema::is_name(condition(text).1)
}

/// Returns whether it is to be open, and where.
fn condition(text: &str) -> (bool, &str) {
    match text.strip_prefix('!') {
        Some(name) => (false, name),
        None => (true, text),
    }
}

impl Hours {
    /// Returns what cores read of it; `None` if a line of it is none.
    #[must_use]
    pub fn read(&self) -> Option<hours::Hours> {
        hours::Hours::read(&self.zone, &self.open, &self.holidays, &self.also)
    }
}

impl Config {
    /// Returns the hours that a route is taken at.
    pub(super) fn at_hours(&self, domain: Option<&str>, text: &str) -> Option<AtHours> {
        let (while_open, name) = condition(text);
        let domain = self.domain_name(domain);
        let mut known = self.hours.iter();
        let known = known.find(|known| {
            known.name == name && self.domain_name(known.domain.as_deref()) == domain
        })?;
        let hours = Arc::new(known.read()?);
        Some(AtHours { hours, while_open })
    }
}

impl Check<'_> {
    /// Hours must say when it is open.
    pub(super) fn hours(&self) -> Result<(), ConfigError> {
        for hours in &self.config.hours {
            let key = format!("hours.{}", hours.name);
            self.has_domain(&key, hours.domain.as_deref())?;
            for (name, list, most) in [
                ("open", &hours.open, HOURS_OPENINGS_MAX),
                ("holidays", &hours.holidays, HOURS_DAYS_MAX),
                ("also", &hours.also, HOURS_DAYS_MAX),
            ] {
                if list.len() > most {
                    let (key, count) = (format!("{key}.{name}"), list.len());
                    let allowed = format!("at most {most}");
                    return self.refusal(&key, &format!("{count} of them"), &allowed);
                }
            }
            if hours.open.is_empty() && hours.also.is_empty() {
                let allowed = "at least one opening, in `open` or `also`";
                return self.refusal(&format!("{key}.open"), "(nothing)", allowed);
            }
        }
        Ok(())
    }

    /// The hours that a route is taken at must be there.
    pub(super) fn condition(
        &self,
        key: &str,
        domain: Option<&str>,
        text: &str,
    ) -> Result<(), ConfigError> {
        if self.config.at_hours(domain, text).is_some() {
            return Ok(());
        }
        let allowed = "the name of an [[hours]] of the route's domain, or `!` and its name";
        self.refusal(&format!("{key}.match.hours"), text, allowed)
    }
}
