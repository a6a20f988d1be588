//! What kind of media a callee is offered, and which codecs either side may use.
//!
//! In: the callee's binding and account. Out: plain RTP, SDES or WebRTC; for an account that leaves
//! it open the next kind when a phone refuses one. A browser speaks WebRTC only, and no account
//! makes it speak anything else.

use contract::Door;
use media::sdp::{Codec, CodecRole, Direction};
use rsip::Transport;
use serde::{Deserialize, Serialize};
use sip::Aor;

use super::core::{Call, CallCtx};
use crate::media_leg::{Codecs, Offering, Stream, Want, codecs};
use crate::site::MediaPolicy;
use crate::{Site, Target};

/// A fork that may be tried once more with another kind of media.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Attempt {
    pub(super) target: Target,
    pub(super) offering: Offering,
}

/// Returns what a target is offered first, and whether other kinds may follow.
pub(super) fn first(target: &Target, callee: Option<&Aor>, site: &Site) -> (Offering, bool) {
    let listener = site.listener(target.flow.listener());
    let is_browser = target.door() == Door::Json
        || listener.is_some_and(|one| matches!(one.transport, Transport::Ws | Transport::Wss));
    if is_browser {
        return (Offering::Webrtc, false);
    }
    let account = callee.and_then(|callee| site.account(callee));
    match account.map_or(MediaPolicy::Auto, |account| account.media) {
        MediaPolicy::Auto => (Offering::Rtp, true),
        MediaPolicy::Rtp => (Offering::Rtp, false),
        MediaPolicy::Sdes => (Offering::Sdes, false),
        MediaPolicy::Webrtc => (Offering::Webrtc, false),
    }
}

/// Returns what follows a refusal.
const fn next(offering: Offering) -> Option<Offering> {
    match offering {
        Offering::Rtp => Some(Offering::Sdes),
        Offering::Sdes => Some(Offering::Webrtc),
        Offering::Webrtc => None,
    }
}

impl Call {
    /// Calls the target of a fork that refused the kind of media once more, with the next kind;
    /// tells whether there is one.
    pub(super) fn try_next_kind(&mut self, former: u8, status: u16, ctx: &mut CallCtx<'_>) -> bool {
        if !matches!(status, 415 | 488 | 606) {
            return false;
        }
        let fork = self.data.sides.get_mut(&former);
        let Some(attempt) = fork.and_then(|fork| fork.attempt.take()) else {
            return false;
        };
        let (Some(offering), Some(side)) = (next(attempt.offering), self.take_side()) else {
            return false;
        };
        tracing::debug!(call = %self.data.key, side, ?offering, "the next kind of media");
        self.follow_fork(former, side);
        self.describe(side, attempt.target, offering, true, ctx);
        true
    }

    /// Leaves of what a side described what its account, and that of the other side, allow.
    pub(super) fn allowed(&self, side: u8, mut stream: Stream, site: &Site) -> Stream {
        for list in self.lists(side, site) {
            stream.codecs.retain(|codec| {
                codec.role() != CodecRole::Audio
                    || list
                        .iter()
                        .any(|name| codec.name.as_str().eq_ignore_ascii_case(name))
            });
        }
        stream
    }

    /// Returns what an application answers the caller with: all that it may use of its offer.
    pub(super) fn any_codec(&self) -> Codecs {
        let stream = self.stream_of(self.anchor());
        stream.map_or(Codecs::Any, |stream| Codecs::Only(stream.codecs.clone()))
    }

    /// Returns the codecs of a side whose peer's are not known.
    pub(super) fn configured(&self, side: u8, site: &Site) -> Codecs {
        let aor = if side == self.anchor() {
            self.identity().account.as_ref()
        } else {
            self.callee_of(side)
        };
        let own = aor
            .and_then(|aor| site.account(aor))
            .and_then(|account| account.codecs.as_deref());
        own.map_or(Codecs::Configured, |names| {
            Codecs::Only(codecs::named(names))
        })
    }

    /// Returns what somebody is offered whom the anchor is put through to: both directions, whether it is
    /// on hold or not; what it speaks now, then whatever else both may.
    pub(super) fn want_of_transfer(&self, side: u8, site: &Site) -> Want {
        let anchor = self.stream_of(self.anchor());
        let known = anchor.into_iter().flat_map(|stream| stream.codecs.clone());
        let known = self.spoken().iter().cloned().chain(known);
        self.want_of_all(side, known, anchor.and_then(|stream| stream.ptime), site)
    }

    /// Returns what offers a side in both directions what is known to be spoken, then what the configuration
    /// has besides.
    pub(super) fn want_of_all(
        &self,
        side: u8,
        known: impl Iterator<Item = Codec>,
        ptime: Option<u16>,
        site: &Site,
    ) -> Want {
        let others = match self.configured(side, site) {
            Codecs::Only(codecs) => codecs,
            Codecs::Configured | Codecs::Tone | Codecs::Any | Codecs::Agreed => {
                codecs::named(&site.limits.codecs)
            }
        };
        let mut wanted: Vec<Codec> = Vec::new();
        for codec in known.chain(others) {
            if !wanted.iter().any(|known| known.matches(&codec)) {
                let payload = free_payload(&wanted, codec.payload);
                wanted.extend(payload.map(|payload| Codec { payload, ..codec }));
            }
        }
        let stream = Stream {
            codecs: wanted,
            direction: Direction::SendRecv,
            ptime,
        };
        Want::of(&self.allowed(side, stream, site))
    }

    fn lists<'s>(&'s self, side: u8, site: &'s Site) -> impl Iterator<Item = &'s [String]> {
        self.accounts_of(side)
            .filter_map(|aor| site.account(aor)?.codecs.as_deref())
    }
}

/// Returns a payload type for one more codec: its own, or a dynamic one that nobody has (RFC 3551 §6).
fn free_payload(known: &[Codec], own: u8) -> Option<u8> {
    let is_free = |payload: &u8| !known.iter().any(|codec| codec.payload == *payload);
    std::iter::once(own).chain(96..=127).find(is_free)
}
