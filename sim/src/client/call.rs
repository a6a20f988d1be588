//! One call of a tab: what it knows of it.

use std::time::Duration;

use contract::Time;

use crate::line::Line;
use crate::phone::Role;

/// Where a call stands, as the tab sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `call` said, or `incoming` heard.
    Ringing,
    /// Answered by either.
    Talking,
    /// `hangup` said.
    Ending,
    /// Over.
    Over,
}

/// One call.
#[derive(Debug)]
pub struct ClientCall {
    /// Who called.
    pub role: Role,
    /// Where it stands.
    pub stage: Stage,
    /// Neither sends nor expects sound.
    pub held: bool,
    /// Both ends may disagree: the tab will hang up.
    pub is_unsure: bool,
    /// Since when it talks.
    pub since: Time,
    /// When both ends last agreed about hold.
    pub agreed: Time,
    /// When sound last came.
    pub heard: Option<Time>,
    /// An offer of ours is open since then.
    pub offering_since: Option<Time>,
    /// The connection was lost for so long that the call may have ended without word.
    pub was_cut: bool,
    /// `hangup` was answered 404 and nothing else was said: the call was lost without a word.
    pub missing_since: Option<Time>,
    pub(super) line: Line,
    pub(super) port: u16,
    pub(super) to: String,
    /// Our last description, repeated when it may have been lost.
    pub(super) said: String,
    pub(super) hangups: u32,
    pub(super) wants_hold: bool,
    pub(super) packet_at: Option<Time>,
    pub(super) step_at: Option<Time>,
    pub(super) forget_at: Option<Time>,
}

impl ClientCall {
    pub(super) fn new(role: Role, line: Line, port: u16, to: String, now: Time) -> ClientCall {
        ClientCall {
            role,
            stage: Stage::Ringing,
            held: false,
            is_unsure: false,
            since: now,
            agreed: now,
            heard: None,
            offering_since: None,
            was_cut: false,
            missing_since: None,
            line,
            port,
            to,
            said: String::new(),
            hangups: 0,
            wants_hold: false,
            packet_at: None,
            step_at: None,
            forget_at: None,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        let line = self.line.next_due().filter(|_| !self.is_over());
        [self.packet_at, self.step_at, self.forget_at, line]
            .into_iter()
            .flatten()
            .min()
    }

    /// Tells whether nothing is left of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Tells whether the tab expects sound.
    #[must_use]
    pub fn expects_sound(&self) -> bool {
        let is_agreed = self.stage == Stage::Talking && self.offering_since.is_none();
        is_agreed && !self.held && !self.is_unsure
    }

    pub(super) fn talks(&mut self, now: Time, talk: Duration) {
        self.stage = Stage::Talking;
        self.since = now;
        self.agreed = now;
        self.packet_at = Some(now);
        self.step_at = Some(now + talk);
    }

    pub(super) fn over(&mut self, now: Time) {
        self.stage = Stage::Over;
        self.packet_at = None;
        self.step_at = None;
        self.offering_since = None;
        self.forget_at = Some(now + Duration::from_secs(70));
    }

    /// Both ends may disagree: it is ended soon.
    pub(super) fn unsure(&mut self, now: Time) {
        self.is_unsure = true;
        self.offering_since = None;
        self.step_at = Some(now + Duration::from_secs(1));
    }
}
