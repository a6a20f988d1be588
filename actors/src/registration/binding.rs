//! One binding: a contact of the AoR, how it is reached, and until when.
//!
//! In: what a REGISTER said. Out: targets, header values, comparisons. It changes nothing else.

use std::time::Duration;

use contract::{Door, FlowRef, Time};
use sip::Uri;

use super::past::{Key, Term};
use super::stamp::Stamp;
use crate::Target;

/// One contact of an AoR (RFC 3261 §10).
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The contact, as registered.
    pub contact: Uri,
    /// Call-ID of the REGISTER that set it last.
    pub call_id: String,
    /// CSeq number of that REGISTER.
    pub cseq: u32,
    /// Preference in thousandths, if the phone said one.
    pub q: Option<u16>,
    /// The phone's instance ID (RFC 5626 §4.1).
    pub instance: Option<String>,
    /// Which of its flows (RFC 5626 §4.2); only beside an instance.
    pub reg_id: Option<u32>,
    /// Route set toward it (RFC 3327).
    pub path: Vec<Uri>,
    /// The way its REGISTER came: requests go back there.
    pub flow: FlowRef,
    /// What the phone calls itself, cut to 64 characters.
    pub user_agent: String,
    /// The connection is gone and the phone has not come back.
    pub unreachable: bool,
    /// When that REGISTER was taken, and by which node: the newest is the latest.
    pub stamp: Stamp,
    /// How often its Call-ID has begun to count anew.
    pub era: u32,
    /// Changes since then that no REGISTER made: a connection that went, a crash.
    pub touched: u32,
    /// Another node's crash has lengthened it, and no REGISTER came since.
    pub is_extended: bool,
    /// When it ends, as stored.
    pub expires: Time,
    /// What it was granted, as stored.
    pub granted: Duration,
    /// How long it is remembered: as long as it, or what it replaced, could live on another node.
    pub until: Term,
}

/// Preference of a contact that says none (RFC 3261 §16.6 leaves it open): the highest.
const Q_DEFAULT: u16 = 1_000;

impl Binding {
    /// Returns what stands for it on every node.
    #[must_use]
    pub fn key(&self) -> Key {
        Binding::key_of(
            &self.contact,
            self.instance.as_deref(),
            self.reg_id,
            self.flow,
        )
    }

    pub(super) fn key_of(
        contact: &Uri,
        instance: Option<&str>,
        reg_id: Option<u32>,
        flow: FlowRef,
    ) -> Key {
        match (flow.door(), instance) {
            (Door::Json, Some(instance)) => Key::Client {
                instance: instance.to_owned(),
            },
            (Door::Sip | Door::Json, _) => Key::of(contact, instance, reg_id),
        }
    }

    /// Tells whether a REGISTER means this binding: of two flows of phones the same one, whatever
    /// their contacts (RFC 5626 §6: one phone has one contact over several flows, each to another
    /// node); else an equivalent contact (RFC 3261 §10.3, §19.1.4).
    #[must_use]
    pub fn is_of(&self, contact: &Uri, instance: Option<&str>, reg_id: Option<u32>) -> bool {
        let own = self.instance.as_deref().zip(self.reg_id);
        match (own, instance.zip(reg_id)) {
            (Some(own), Some(meant)) => own == meant,
            (_, _) => self.contact.equivalent(contact),
        }
    }

    /// Tells whether `other` differs from it in nothing but expiry and the REGISTER it came with.
    #[must_use]
    pub fn is_same_but_expiry(&self, other: &Binding) -> bool {
        self.contact == other.contact
            && self.q == other.q
            && self.instance == other.instance
            && self.reg_id == other.reg_id
            && self.path == other.path
            && self.flow == other.flow
            && self.user_agent == other.user_agent
            && self.unreachable == other.unreachable
    }

    /// Tells whether it has ended.
    #[must_use]
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires <= now
    }

    /// Returns what remains, in whole seconds, rounded up: what a response says.
    #[must_use]
    pub fn remaining_s(&self, now: Time) -> u64 {
        let remaining = self.expires.since(now);
        remaining.as_secs() + u64::from(remaining.subsec_nanos() > 0)
    }

    /// Tells whether more than half of what was granted is left (`cluster.md` §8).
    #[must_use]
    pub fn is_before_half_life(&self, now: Time) -> bool {
        self.expires.since(now) * 2 > self.granted
    }

    /// Returns the Contact header value of a 200 to REGISTER.
    #[must_use]
    pub fn header_value(&self, now: Time) -> String {
        let mut value = format!("<{}>;expires={}", self.contact, self.remaining_s(now));
        if let Some(q) = self.q {
            value.push_str(&format!(";q={}.{:03}", q / 1_000, q % 1_000));
        }
        if let Some(instance) = &self.instance {
            let escaped = instance.replace('\\', "\\\\").replace('"', "\\\"");
            value.push_str(&format!(";+sip.instance=\"{escaped}\""));
        }
        if let Some(reg_id) = self.reg_id {
            value.push_str(&format!(";reg-id={reg_id}"));
        }
        value
    }

    /// Returns how a call reaches it.
    #[must_use]
    pub fn target(&self) -> Target {
        Target {
            uri: self.contact.clone(),
            flow: self.flow,
            path: self.path.clone(),
            q: self.q.unwrap_or(Q_DEFAULT),
            unreachable: self.unreachable,
        }
    }

    /// Returns its octets in a record, without numbers.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.contact.to_string().len()
            + self.call_id.len()
            + self.instance.as_ref().map_or(0, String::len)
            + self.user_agent.len()
            + self
                .path
                .iter()
                .map(|uri| uri.to_string().len())
                .sum::<usize>()
    }
}
