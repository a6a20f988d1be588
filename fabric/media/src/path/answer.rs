//! What comes from the peer: its checks, and its answers to ours.
//!
//! In: messages that were read, their source. Out: answers, and what they prove. Nothing is believed
//! whose integrity is wrong.

use std::net::SocketAddr;
use std::time::Duration;

use contract::Time;
use contract::limits::{PATH_REFUSALS_PER_S_MAX, STUN_MESSAGE_BYTES_MAX};

use crate::stun::{Class, Message, Role, Writer};

use super::Path;
use super::credentials::Credentials;
use super::keep::Phase;

/// Whose request it is.
enum Caller {
    /// The peer's.
    Peer,
    /// The peer's, with the credentials of before an ICE restart.
    PeerBefore,
    /// Nobody's: refused with this code.
    Stranger(u16),
}

impl Path {
    /// Handles a check of the peer (RFC 8445 §7.3).
    pub(super) fn on_request(
        &mut self,
        from: SocketAddr,
        now: Time,
        octets: usize,
        message: &Message<'_>,
    ) {
        let is_current = match self.caller(message, now) {
            Caller::Peer => true,
            Caller::PeerBefore => false,
            Caller::Stranger(code) => return self.refuse(from, now, octets, message, code),
        };
        if !message.unknown.is_empty() {
            return self.answer(from, octets, message, is_current, Some(420));
        }
        if is_current && self.is_conflict(message, now) {
            return self.answer(from, octets, message, is_current, Some(487));
        }
        self.answer(from, octets, message, is_current, None);
        if self.seen.is_copy(message.transaction, from) {
            return;
        }
        if is_current {
            self.learn(from, now, message);
        } else {
            self.remotes.hear_again(from, now);
        }
    }

    /// Handles an answer to a check of ours (RFC 8445 §7.2.5).
    pub(super) fn on_success(&mut self, from: SocketAddr, now: Time, message: &Message<'_>) {
        let Some(check) = self.pending.find(message.transaction, from) else {
            return;
        };
        if !self.is_answer(message) {
            return;
        }
        self.pending.remove(message.transaction);
        if !message.unknown.is_empty() {
            return;
        }
        self.round_trip.measure(now.since(check.sent));
        let keep = self.target();
        let remote = self.remotes.hear(from, keep, now);
        remote.proven = Some(now);
        remote.wants_check = false;
        self.on_proof(from, now);
    }

    /// Handles a refusal of a check of ours: of those, 487 alone means something (RFC 8445
    /// §7.2.5.1).
    pub(super) fn on_error(&mut self, from: SocketAddr, now: Time, message: &Message<'_>) {
        let Some(check) = self.pending.find(message.transaction, from) else {
            return;
        };
        if !self.is_answer(message) {
            return;
        }
        self.pending.remove(message.transaction);
        if message.error.is_some_and(|error| error.code == 487)
            && check.was_controlling == self.is_controlling
        {
            self.is_controlling = !self.is_controlling;
            // Both ends of one tie-breaker would else switch for ever.
            self.tie_breaker = self.entropy.next_u64();
            self.check(from, now);
        }
    }

    /// Learns the source of a valid check and follows a nomination.
    fn learn(&mut self, from: SocketAddr, now: Time, message: &Message<'_>) {
        let is_unheard = self.is_unheard(now);
        let keep = self.target();
        let is_kept = matches!(self.phase, Phase::Kept { to, .. } if to == from);
        let remote = self.remotes.hear(from, keep, now);
        let is_proven = remote.proven.is_some();
        // RFC 8445 §7.3.1.4: a pair that is not known to work is checked.
        remote.wants_check = !is_proven || (keep == Some(from) && !is_kept);
        if self.is_nomination(message) {
            self.on_nomination(from, is_unheard, now);
            return;
        }
        match self.phase {
            Phase::Lost { to, .. } if to == from => self.select(from, false, now),
            Phase::Kept { to, .. } if to != from && is_unheard => self.doubt(now),
            Phase::Searching { .. }
            | Phase::Checking { .. }
            | Phase::Kept { .. }
            | Phase::Lost { .. } => self.move_from_silence(now),
        }
    }

    /// Follows the latest nomination (RFC 8445 §7.3.1.5).
    fn on_nomination(&mut self, from: SocketAddr, is_unheard: bool, now: Time) {
        let is_proven = self.remotes.is_proven(from);
        match self.phase {
            Phase::Checking { to, .. } | Phase::Kept { to, .. } if to == from => {
                self.nominated = None;
            }
            Phase::Searching { .. }
            | Phase::Checking { .. }
            | Phase::Kept { .. }
            | Phase::Lost { .. } => {
                if is_proven || is_unheard {
                    self.select(from, is_proven, now);
                } else {
                    self.nominated = Some(from);
                }
            }
        }
    }

    /// Uses the proof that an address answers.
    fn on_proof(&mut self, from: SocketAddr, now: Time) {
        if self.nominated == Some(from) {
            return self.select(from, true, now);
        }
        match self.phase {
            Phase::Searching { old, .. } => {
                let is_old = old.is_some_and(|old| old.address == from);
                if is_old || self.is_controlling || self.is_silent(now) {
                    self.select(from, true, now);
                }
            }
            Phase::Checking { to, .. } if to == from => self.keep(to, now),
            Phase::Checking { .. } => {
                if self.is_silent(now) {
                    self.select(from, true, now);
                }
            }
            Phase::Kept { to, .. } => {
                if to == from {
                    self.keep(to, now);
                }
            }
            Phase::Lost { .. } => self.select(from, true, now),
        }
    }

    /// Tells whether a check nominates its source: with NOMINATION the highest counts, else the
    /// latest USE-CANDIDATE. Only a controlling peer nominates.
    fn is_nomination(&mut self, message: &Message<'_>) -> bool {
        if self.is_controlling {
            return false;
        }
        match message.nomination {
            Some(number) if number < self.nomination => false,
            Some(number) => {
                self.nomination = number;
                true
            }
            None => message.is_nominated,
        }
    }

    /// Finds out whose request it is (RFC 8489 §9.1.3, RFC 8445 §7.3).
    fn caller(&self, message: &Message<'_>, now: Time) -> Caller {
        let Some((local, _)) = message.fragments() else {
            let code = if message.username.is_some() { 401 } else { 400 };
            return Caller::Stranger(code);
        };
        if !message.has_integrity() {
            return Caller::Stranger(400);
        }
        let is_of = |credentials: &Credentials| {
            local == credentials.local_ufrag() && message.is_authentic(credentials.incoming_key())
        };
        if is_of(&self.credentials) {
            return Caller::Peer;
        }
        match &self.previous {
            Some((before, until)) if now < *until && is_of(before) => Caller::PeerBefore,
            Some(_) | None => Caller::Stranger(401),
        }
    }

    /// Settles a role conflict; tells whether the peer is to switch (RFC 8445 §7.3.1.1).
    fn is_conflict(&mut self, message: &Message<'_>, now: Time) -> bool {
        let keeps = match (message.role, self.is_controlling) {
            (Some(Role::Controlling(peer)), true) => self.tie_breaker >= peer,
            (Some(Role::Controlled(peer)), false) => self.tie_breaker < peer,
            (Some(Role::Controlling(_)), false) | (Some(Role::Controlled(_)), true) | (None, _) => {
                return false;
            }
        };
        if !keeps {
            self.is_controlling = !self.is_controlling;
            if self.is_controlling {
                // We nominate now: the selected address has to hear it.
                self.doubt(now);
            }
        }
        keeps
    }

    /// Tells whether an answer is the peer's.
    fn is_answer(&self, message: &Message<'_>) -> bool {
        self.credentials
            .answer_key()
            .is_some_and(|key| message.is_authentic(key))
    }

    /// Answers an authentic request. To a source that has proven nothing goes no more than came.
    fn answer(
        &mut self,
        from: SocketAddr,
        octets: usize,
        message: &Message<'_>,
        is_current: bool,
        error: Option<u16>,
    ) {
        let credentials = match &self.previous {
            Some((before, _)) if !is_current => before,
            Some(_) | None => &self.credentials,
        };
        let mut buffer = [0u8; STUN_MESSAGE_BYTES_MAX];
        let class = if error.is_some() {
            Class::Error
        } else {
            Class::Success
        };
        let mut writer = Writer::new(&mut buffer, class, message.transaction);
        writer = match error {
            Some(420) => writer.error(420).unknown(message.unknown.named()),
            Some(code) => writer.error(code),
            None => writer.mapped(from),
        };
        let Ok(length) = writer.finish(Some(credentials.incoming_key())) else {
            return;
        };
        if length <= octets || self.remotes.is_proven(from) {
            self.send(from, buffer[..length].to_vec());
        }
    }

    /// Refuses a request that proves nothing: a few a second, with no more octets than came.
    fn refuse(
        &mut self,
        from: SocketAddr,
        now: Time,
        octets: usize,
        message: &Message<'_>,
        code: u16,
    ) {
        let (since, count) = self.refusals;
        if now.since(since) >= Duration::from_secs(1) {
            self.refusals = (now, 0);
        } else if count >= PATH_REFUSALS_PER_S_MAX {
            return;
        }
        let mut buffer = [0u8; STUN_MESSAGE_BYTES_MAX];
        let written = Writer::new(&mut buffer, Class::Error, message.transaction)
            .error(code)
            .finish(None);
        if let Ok(length) = written
            && length <= octets
        {
            self.refusals.1 += 1;
            self.send(from, buffer[..length].to_vec());
        }
    }
}
