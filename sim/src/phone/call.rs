//! One call of a simulated phone: what it knows of it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use contract::Time;
use sip::Message;

/// Which side of a call a phone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It called.
    Caller,
    /// It was called.
    Callee,
}

/// Where a call stands, as the phone sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallState {
    /// INVITE sent, or received and not answered.
    Ringing,
    /// Answered with 200, no ACK yet (callee).
    Answered,
    /// Both ends agree.
    Confirmed,
    /// BYE or CANCEL sent.
    Ending,
    /// Over.
    Over {
        /// The far end said so (BYE, CANCEL, or a final response).
        told: bool,
    },
}

/// One call of a phone.
#[derive(Clone, Debug)]
pub struct Call {
    /// Caller or callee.
    pub role: Role,
    /// Where it stands.
    pub state: CallState,
    /// Dialled an extension that answers itself.
    pub is_extension: bool,
    /// Feature code that was dialled.
    pub(super) code: Option<&'static str>,
    /// The call whose far end is to be joined with this one's.
    pub(super) consults_for: Option<String>,
    /// Neither sends nor expects sound.
    pub held: bool,
    /// A re-INVITE failed: the phone will hang up.
    pub is_unsure: bool,
    /// Since when both ends agree.
    pub since: Time,
    /// Both ends agreed once.
    pub was_confirmed: bool,
    /// When both ends last agreed about hold.
    pub agreed: Time,
    /// An offer of ours is not answered.
    pub is_offering: bool,
    /// The connection was lost for so long that the call may have ended without word.
    pub was_cut: bool,
    /// When the last packet of sound came.
    pub heard: Option<Time>,
    /// A BYE of ours was answered 481 and no BYE has come: the call was lost without a word.
    pub missing_since: Option<Time>,
    /// A BYE had credentials.
    pub(super) proved: bool,
    /// The offer was an odd one: sound is not expected.
    pub(super) is_odd: bool,
    pub(super) odd_offer: u32,
    pub(super) local: String,
    pub(super) remote: String,
    pub(super) target: String,
    pub(super) cseq: u32,
    pub(super) port: u16,
    pub(super) media: Option<SocketAddr>,
    pub(super) sequence: u16,
    pub(super) version: u32,
    pub(super) invite: Option<Message>,
    pub(super) last: Option<Bytes>,
    pub(super) ack: Option<(u32, Bytes)>,
    pub(super) offers: bool,
    pub(super) packet_at: Option<Time>,
    pub(super) step_at: Option<Time>,
    pub(super) again_at: Option<(Time, Duration)>,
    pub(super) forget_at: Option<Time>,
}

impl Call {
    pub(super) fn new(role: Role, now: Time, port: u16) -> Call {
        Call {
            role,
            state: CallState::Ringing,
            is_extension: false,
            code: None,
            consults_for: None,
            held: false,
            is_unsure: false,
            since: now,
            was_confirmed: false,
            agreed: now,
            is_offering: false,
            was_cut: false,
            heard: None,
            missing_since: None,
            proved: false,
            is_odd: false,
            odd_offer: 0,
            local: String::new(),
            remote: String::new(),
            target: String::new(),
            cseq: 0,
            port,
            media: None,
            sequence: 1,
            version: 1,
            invite: None,
            last: None,
            ack: None,
            offers: true,
            packet_at: None,
            step_at: None,
            again_at: None,
            forget_at: None,
        }
    }

    /// Tells whether it is not over yet.
    #[must_use]
    pub const fn goes_on(&self) -> bool {
        !matches!(self.state, CallState::Over { .. })
    }

    /// Returns who was called: To of the dialog.
    #[must_use]
    pub fn called(&self) -> &str {
        match self.role {
            Role::Caller => &self.remote,
            Role::Callee => &self.local,
        }
    }

    /// Returns the next deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let again = self.again_at.map(|(at, _)| at);
        [self.packet_at, self.step_at, again, self.forget_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Tells whether the phone expects sound.
    #[must_use]
    pub fn expects_sound(&self) -> bool {
        let is_agreed = self.state == CallState::Confirmed && !self.is_offering;
        is_agreed && !self.held && self.media.is_some()
    }

    /// Tells whether the phone sends no sound, and the far end is not told: its offer was an odd one, and
    /// the node has not offered anew.
    #[must_use]
    pub const fn is_mute(&self) -> bool {
        self.is_odd && self.held && self.goes_on()
    }

    pub(super) fn over(&mut self, told: bool, now: Time) {
        self.state = CallState::Over { told };
        self.packet_at = None;
        self.step_at = None;
        self.again_at = None;
        self.forget_at = Some(now + Duration::from_secs(70));
    }

    /// Both ends may disagree about hold: no sound is expected, and the call is ended soon.
    pub(super) fn unsure(&mut self, now: Time) {
        self.held = false;
        self.media = None;
        self.is_unsure = true;
        self.step_at = Some(now + Duration::from_secs(1));
    }

    pub(super) fn confirmed(&mut self, now: Time, talk: Duration) {
        self.state = CallState::Confirmed;
        self.was_confirmed = true;
        self.since = now;
        self.agreed = now;
        self.again_at = None;
        self.packet_at = Some(now);
        self.step_at = Some(now + talk);
    }
}
