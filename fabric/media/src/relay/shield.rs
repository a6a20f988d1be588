//! Which protection a leg has, and which numbers were spent under its keys.
//!
//! In: configurations, packets. Out: protected and unprotected packets, the SRTCP block, where our
//! stream has to start so that no (key, SSRC, index) is used twice: not over configurations with the
//! same keys, not when former keys come back. Across a restart the recorded block sees to that
//! (`cluster.md` §7): a start is never before its end.

use std::collections::VecDeque;

use contract::limits::{SRTCP_BLOCK, SRTP_KEYS_REMEMBERED};
use contract::{KeyMaterial, LegConfig, LegTransport, ReceivedIndex, SrtpKeys};

use super::DropReason;
use super::sender::{Floor, Sender, start_index};
use super::srtp::{Srtp, SrtpError, SrtpMaker, SrtpStart, further};

/// First SRTCP index that does not exist (RFC 3711 §3.4: 31 bits).
const RTCP_INDEX_END: u32 = 1 << 31;

/// Protection of a leg.
#[derive(Debug, Default)]
pub(super) struct Shield {
    state: State,
    spent: VecDeque<Spent>,
    /// Packets of former contexts.
    library_packets: u64,
}

#[derive(Debug, Default)]
enum State {
    /// RTP as it is.
    #[default]
    Open,
    /// Protected, but the keys are not recorded yet.
    Unkeyed,
    Keyed(Box<Keyed>),
}

#[derive(Debug)]
struct Keyed {
    keys: SrtpKeys,
    ssrc: u32,
    srtp: Box<dyn Srtp>,
    rtcp_limit: u32,
    rtcp_asked: u32,
}

/// How far we came under a key and SSRC that are not in use now.
#[derive(Debug)]
struct Spent {
    key: KeyMaterial,
    salt: KeyMaterial,
    ssrc: u32,
    floor: Floor,
    rtcp_next: u32,
    rtcp_limit: u32,
}

/// What a configuration changes, worked out before anything is changed.
#[derive(Debug)]
pub(super) struct ShieldChange {
    next: Option<State>,
    /// Where our stream starts anew; `None` if it goes on.
    pub(super) restart: Option<Floor>,
}

impl Shield {
    /// Works out what a configuration changes.
    ///
    /// # Errors
    /// `SrtpError` if the contexts cannot be made.
    pub(super) fn plan(
        &self,
        config: &LegConfig,
        sender: &Sender,
        maker: &dyn SrtpMaker,
    ) -> Result<ShieldChange, SrtpError> {
        let is_given_anew = !sender.is_given(config);
        let keys = match &config.transport {
            LegTransport::Plain => None,
            LegTransport::Sdes(keys) => Some(keys),
            LegTransport::Webrtc(webrtc) => match &webrtc.keys {
                Some(keys) => Some(keys),
                None => {
                    let restart = is_given_anew.then(Floor::default);
                    return Ok(ShieldChange {
                        next: Some(State::Unkeyed),
                        restart,
                    });
                }
            },
        };
        let Some(keys) = keys else {
            let is_new = is_given_anew || matches!(self.state, State::Keyed(_));
            return Ok(ShieldChange {
                next: Some(State::Open),
                restart: is_new.then(Floor::default),
            });
        };
        let current = match &self.state {
            State::Keyed(keyed) => Some(keyed),
            State::Open | State::Unkeyed => None,
        };
        let is_same = current.is_some_and(|keyed| keyed.is_same(keys, config.ssrc));
        if is_same && !is_given_anew {
            return Ok(ShieldChange {
                next: None,
                restart: None,
            });
        }
        self.plan_keys(config, keys, sender, maker)
    }

    fn plan_keys(
        &self,
        config: &LegConfig,
        keys: &SrtpKeys,
        sender: &Sender,
        maker: &dyn SrtpMaker,
    ) -> Result<ShieldChange, SrtpError> {
        let current = match &self.state {
            State::Keyed(keyed) => Some(keyed),
            State::Open | State::Unkeyed => None,
        };
        let ours = current.filter(|keyed| keyed.is_ours(keys, config.ssrc));
        let spent = match ours {
            Some(keyed) => Some((sender.floor(), keyed.srtp.rtcp_index(), keyed.rtcp_limit)),
            None => self.spent(keys, config.ssrc),
        };
        let (floor, rtcp_next, rtcp_limit) = spent.unwrap_or_default();
        let goes_on = ours.is_some() && sender.is_given(config);
        let start = if goes_on {
            floor.next
        } else {
            floor.next.max(start_index(config))
        };
        let received = match current.filter(|keyed| keyed.is_theirs(keys)) {
            Some(keyed) => further(keyed.srtp.received(), &keys.received),
            None => keys.received.clone(),
        };
        let effective = SrtpKeys {
            rtcp_index_start: keys.rtcp_index_start.max(rtcp_next),
            received,
            ..keys.clone()
        };
        let start = SrtpStart {
            ssrc: config.ssrc,
            sequence_start: start as u16,
            rollover_start: (start >> 16) as u32,
        };
        let srtp = maker.make(&effective, start)?;
        let recorded = keys.rtcp_index_start.saturating_add(SRTCP_BLOCK);
        let rtcp_limit = rtcp_limit.max(recorded).min(RTCP_INDEX_END);
        Ok(ShieldChange {
            next: Some(State::Keyed(Box::new(Keyed {
                keys: keys.clone(),
                ssrc: config.ssrc,
                srtp,
                rtcp_limit,
                rtcp_asked: rtcp_limit,
            }))),
            restart: (!goes_on).then_some(floor),
        })
    }

    /// Carries out a change. `sender` is still as it was before.
    pub(super) fn change(&mut self, change: ShieldChange, sender: &Sender) {
        let Some(next) = change.next else {
            return;
        };
        if let State::Keyed(keyed) = std::mem::replace(&mut self.state, next) {
            self.library_packets += keyed.srtp.library_packets();
            self.remember(*keyed, sender);
        }
    }

    fn remember(&mut self, keyed: Keyed, sender: &Sender) {
        let rtcp_next = keyed.srtp.rtcp_index();
        self.spent.retain(|spent| {
            spent.ssrc != keyed.ssrc
                || spent.key != keyed.keys.our_key
                || spent.salt != keyed.keys.our_salt
        });
        if self.spent.len() >= SRTP_KEYS_REMEMBERED {
            self.spent.pop_front();
        }
        self.spent.push_back(Spent {
            key: keyed.keys.our_key,
            salt: keyed.keys.our_salt,
            ssrc: keyed.ssrc,
            floor: sender.floor(),
            rtcp_next,
            rtcp_limit: keyed.rtcp_limit,
        });
    }

    fn spent(&self, keys: &SrtpKeys, ssrc: u32) -> Option<(Floor, u32, u32)> {
        let spent = self.spent.iter().find(|spent| {
            spent.ssrc == ssrc && spent.key == keys.our_key && spent.salt == keys.our_salt
        })?;
        Some((spent.floor, spent.rtcp_next, spent.rtcp_limit))
    }

    /// Tells whether packets are sent as they are: only there a collision of SSRCs matters.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Tells whether keys are missing.
    pub(super) const fn is_unkeyed(&self) -> bool {
        matches!(self.state, State::Unkeyed)
    }

    /// Takes an RTP packet out of its protection.
    pub(super) fn unprotect_rtp(
        &mut self,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<usize, DropReason> {
        self.transform(length, |keyed| {
            let done = keyed.srtp.unprotect_rtp(buffer, length);
            done.map_err(|_| DropReason::Unprotected)
        })
    }

    /// Takes an RTCP packet out of its protection.
    pub(super) fn unprotect_rtcp(
        &mut self,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<usize, DropReason> {
        self.transform(length, |keyed| {
            let done = keyed.srtp.unprotect_rtcp(buffer, length);
            done.map_err(|_| DropReason::Unprotected)
        })
    }

    /// Protects an RTP packet that has its numbers.
    pub(super) fn protect_rtp(
        &mut self,
        buffer: &mut [u8],
        length: usize,
        rollover: u32,
    ) -> Result<usize, DropReason> {
        self.transform(length, |keyed| {
            let done = keyed.srtp.protect_rtp(buffer, length, rollover);
            done.map_err(|_| DropReason::Unprotectable)
        })
    }

    /// Protects an RTCP packet with the next recorded index.
    pub(super) fn protect_rtcp(
        &mut self,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<usize, DropReason> {
        self.transform(length, |keyed| {
            if keyed.srtp.rtcp_index() >= keyed.rtcp_limit {
                return Err(DropReason::ReserveExhausted);
            }
            let done = keyed.srtp.protect_rtcp(buffer, length);
            done.map_err(|_| DropReason::Unprotectable)
        })
    }

    /// Changes a packet of `length` octets with the keys, if there is protection; returns its new
    /// length.
    fn transform(
        &mut self,
        length: usize,
        with_keys: impl FnOnce(&mut Keyed) -> Result<usize, DropReason>,
    ) -> Result<usize, DropReason> {
        match &mut self.state {
            State::Open => Ok(length),
            State::Unkeyed => Err(DropReason::Unkeyed),
            State::Keyed(keyed) => with_keys(keyed),
        }
    }

    /// Returns the end of the SRTCP block to be recorded next, once three quarters are used.
    pub(super) fn wanted_reserve(&self) -> Option<u32> {
        let State::Keyed(keyed) = &self.state else {
            return None;
        };
        let is_used = keyed.srtp.rtcp_index().saturating_add(SRTCP_BLOCK / 4) >= keyed.rtcp_limit;
        let next = (keyed.rtcp_limit + SRTCP_BLOCK).min(RTCP_INDEX_END);
        let is_due = is_used && keyed.rtcp_asked == keyed.rtcp_limit && next > keyed.rtcp_limit;
        is_due.then_some(next)
    }

    /// Returns the end of the SRTCP block that is recorded or asked for; 0 without protection.
    pub(super) const fn reserve_end(&self) -> u32 {
        match &self.state {
            State::Keyed(keyed) => keyed.rtcp_asked,
            State::Open | State::Unkeyed => 0,
        }
    }

    /// Notes that a block up to `end` has been asked for.
    pub(super) fn reserve_asked(&mut self, end: u32) {
        if let State::Keyed(keyed) = &mut self.state {
            keyed.rtcp_asked = end;
        }
    }

    /// Allows the indices of a recorded block, if it is the one that was asked for.
    pub(super) fn extend(&mut self, end: u32) {
        if let State::Keyed(keyed) = &mut self.state
            && end == keyed.rtcp_asked
        {
            keyed.rtcp_limit = end;
        }
    }

    /// Returns how far the peer's streams are.
    pub(super) fn received(&self) -> Vec<ReceivedIndex> {
        match &self.state {
            State::Keyed(keyed) => keyed.srtp.received(),
            State::Open | State::Unkeyed => Vec::new(),
        }
    }

    /// Returns how many packets webrtc-srtp contexts have handled.
    pub(super) fn library_packets(&self) -> u64 {
        let current = match &self.state {
            State::Keyed(keyed) => keyed.srtp.library_packets(),
            State::Open | State::Unkeyed => 0,
        };
        self.library_packets + current
    }
}

impl Keyed {
    fn is_same(&self, keys: &SrtpKeys, ssrc: u32) -> bool {
        self.is_ours(keys, ssrc)
            && self.is_theirs(keys)
            && self.keys.rtcp_index_start == keys.rtcp_index_start
    }

    fn is_ours(&self, keys: &SrtpKeys, ssrc: u32) -> bool {
        self.ssrc == ssrc
            && self.keys.profile == keys.profile
            && self.keys.our_key == keys.our_key
            && self.keys.our_salt == keys.our_salt
    }

    fn is_theirs(&self, keys: &SrtpKeys) -> bool {
        self.keys.peer_profile == keys.peer_profile
            && self.keys.peer_key == keys.peer_key
            && self.keys.peer_salt == keys.peer_salt
    }
}
