//! `[[group]]`: users who are called for one another, and which values its keys may have.

use contract::limits::{GROUP_MEMBERS_MAX, GROUP_RING_S_MAX, GROUP_RING_S_MIN};
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::rules::Check;
use super::schema::{HOST, Key, Kind, NAME, is_user, key};
use actors::call::dial_string::{self, Word};

/// `[[group]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its domain; the first one if it says none.
    pub domain: Option<String>,
    /// Names of users of the domain.
    pub members: Vec<String>,
    /// Who is called when.
    #[serde(default)]
    pub order: Order,
    /// Seconds for which all, or each, ring.
    #[serde(default = "usual_ring_s")]
    pub ring_s: u16,
}

/// `group.order`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// All at once.
    #[default]
    All,
    /// One after another, as they are listed.
    InTurn,
    /// One after another, in an order that is drawn for each call.
    Random,
}

const fn usual_ring_s() -> u16 {
    20
}

pub(super) const GROUP: &[Key] = &[
    key("name", NAME),
    key("domain", HOST),
    key(
        "members",
        Kind::Texts("the name of a `[[user]]` of the domain", is_user),
    ),
    key(
        "order",
        Kind::Text("`all`, `in_turn` or `random`", |text| {
            matches!(text, "all" | "in_turn" | "random")
        }),
    ),
    key(
        "ring_s",
        Kind::Number(GROUP_RING_S_MIN as i64, GROUP_RING_S_MAX as i64),
    ),
];

impl Check<'_> {
    /// Members must be users: nobody else has phones here.
    pub(super) fn groups(&self) -> Result<(), ConfigError> {
        for group in &self.config.group {
            let key = format!("group.{}", group.name);
            self.has_domain(&key, group.domain.as_deref())?;
            let key = format!("{key}.members");
            let count = group.members.len();
            if !(1..=GROUP_MEMBERS_MAX).contains(&count) {
                let allowed = format!("1 to {GROUP_MEMBERS_MAX} members");
                return self.refusal(&key, &format!("{count} of them"), &allowed);
            }
            let domain = self.config.domain_name(group.domain.as_deref());
            let unknown = group.members.iter().find(|member| {
                let mut users = self.config.user.iter();
                !users.any(|user| {
                    user.name == **member
                        && self.config.domain_name(user.domain.as_deref()) == domain
                })
            });
            if let Some(unknown) = unknown {
                let allowed = "names of users of the group's domain";
                return self.refusal(&key, unknown, allowed);
            }
        }
        Ok(())
    }

    /// The groups that a route calls must be there; what `$1` stands for is seen when it is dialled.
    pub(super) fn targets(
        &self,
        key: &str,
        domain: Option<&str>,
        text: &str,
    ) -> Result<(), ConfigError> {
        let domain = self.config.domain_name(domain);
        let words = dial_string::words(text).unwrap_or_default();
        let unknown = words.into_iter().flatten().find_map(|word| {
            let Word::Group(name) = word else { return None };
            let (name, host) = name.rsplit_once('@').unwrap_or((name, domain.as_str()));
            let is_there = self.config.group.iter().any(|group| {
                group.name == name
                    && self.config.domain_name(group.domain.as_deref()) == domain
                    && host.eq_ignore_ascii_case(&domain)
            });
            (!is_there && !name.contains('$')).then_some(name)
        });
        match unknown {
            Some(unknown) => {
                let allowed = "the name of a [[group]] of the route's domain";
                self.refusal(&format!("{key}.do"), unknown, allowed)
            }
            None => Ok(()),
        }
    }
}
