//! Session timers (RFC 4028): what a peer asks for is granted; who refreshes is its choice.
//!
//! In: INVITE and UPDATE requests of the peer. Out: the header fields of our 2xx, when to refresh,
//! when the session counts as dead. We ask no peer for a timer.

use std::time::Duration;

use rsip::Method;
use serde::{Deserialize, Serialize};
use sip::{HeaderName, Message, Writer};

/// A granted session timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SessionTimer {
    interval_s: u32,
    /// We refresh; otherwise the peer does.
    pub(super) is_ours: bool,
    /// The peer takes UPDATE.
    pub(super) has_update: bool,
}

/// Shortest interval (RFC 4028 §4): shorter ones are lengthened, which a 2xx may not do, so they
/// count as this long for us only.
const INTERVAL_S_MIN: u32 = 90;

impl SessionTimer {
    /// Returns what a request asks for; `None` without Session-Expires.
    pub(super) fn asked_by(request: &Message) -> Option<Self> {
        let (interval_s, refresher) = read(request)?;
        let knows_timer = request.lists(HeaderName::Supported, "timer")
            || request.lists(HeaderName::Require, "timer");
        let is_ours = match refresher {
            Some(refresher) => refresher.eq_ignore_ascii_case("uas"),
            None => !knows_timer,
        };
        let has_update = request.lists(HeaderName::Allow, Method::Update.to_string().as_str());
        Some(SessionTimer {
            interval_s,
            is_ours,
            has_update,
        })
    }

    /// Writes the fields of a 2xx (RFC 4028 §9).
    pub(super) fn write_answer(&self, response: &mut Writer) {
        let refresher = if self.is_ours { "uas" } else { "uac" };
        let value = format!("{};refresher={refresher}", self.interval_s);
        response.header(HeaderName::SessionExpires, value);
        if !self.is_ours {
            response.header(HeaderName::Require, "timer");
        }
    }

    /// Writes the fields of a request of ours that refreshes the session (RFC 4028 §7.4): who did
    /// so far goes on to.
    pub(super) fn write_refresh(&self, request: &mut Writer) {
        request.header(HeaderName::Supported, "timer");
        let refresher = if self.is_ours { "uac" } else { "uas" };
        let value = format!("{};refresher={refresher}", self.interval_s);
        request.header(HeaderName::SessionExpires, value);
    }

    /// Returns what a 2xx to such a request grants; `None`: nobody refreshes any more (RFC 4028
    /// §7.2).
    pub(super) fn granted_by(self, response: &Message) -> Option<Self> {
        let (interval_s, refresher) = read(response)?;
        let is_ours = refresher.map_or(self.is_ours, |one| one.eq_ignore_ascii_case("uac"));
        Some(SessionTimer {
            interval_s,
            is_ours,
            ..self
        })
    }

    /// Returns the time until we refresh, or until a peer that did not counts as dead (§10).
    pub(super) fn wait(&self) -> Duration {
        let interval = self.interval_s.max(INTERVAL_S_MIN);
        let seconds = if self.is_ours {
            interval / 2
        } else {
            interval - (interval / 3).min(32)
        };
        Duration::from_secs(u64::from(seconds))
    }
}

/// Returns the interval and the refresher that a message names.
fn read(message: &Message) -> Option<(u32, Option<&str>)> {
    let value = message.header(HeaderName::SessionExpires)?;
    let mut pieces = value.split(';').map(str::trim);
    let interval_s: u32 = pieces.next()?.parse().ok()?;
    let refresher = pieces.find_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("refresher")
            .then_some(value.trim())
    });
    Some((interval_s, refresher))
}
