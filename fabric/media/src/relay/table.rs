//! The table of all legs of one worker.
//!
//! In: commands on legs, packets, ticks. Out: verdicts, events, the next deadline. Slots are reused;
//! legs are found by key, and the other leg of a relay by the key in the route, so closing one leg
//! leaves no reference behind.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use contract::limits::MEDIA_LEGS_MAX;
use contract::{LegConfig, LegCounters, MediaEvent, MediaRoute, ReserveBlock, SideKey, Time};

use super::leg::{Accepted, Events, Leg, Unconfigurable};
use super::linger::Lingering;
use super::srtp::SrtpMaker;
use super::{DropReason, TableError, Verdict};
use crate::rtcp::{self, RtcpMap};
use crate::rtp::DatagramKind;

/// Events that fit before the queue has to grow.
const EVENTS_AT_START: usize = 1_024;

/// The relay table of one worker.
#[derive(Debug)]
pub struct RelayTable {
    maker: Arc<dyn SrtpMaker>,
    index: BTreeMap<SideKey, usize>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// At most one entry a slot; it may be earlier than what is due, never later.
    deadlines: BTreeSet<(Time, usize)>,
    /// Legs that another node has now.
    lingering: Lingering,
    events: Events,
    drops: [u64; DropReason::ALL.len()],
}

#[derive(Debug, Default)]
struct Slot {
    leg: Option<Leg>,
    scheduled: Option<Time>,
}

impl RelayTable {
    /// Makes an empty table; `maker` protects its legs.
    #[must_use]
    pub fn new(maker: Arc<dyn SrtpMaker>) -> Self {
        RelayTable {
            maker,
            index: BTreeMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            deadlines: BTreeSet::new(),
            lingering: Lingering::default(),
            events: Events::with_capacity(EVENTS_AT_START),
            drops: [0; DropReason::ALL.len()],
        }
    }

    /// Opens a leg; until it is configured, its packets are dropped.
    ///
    /// # Errors
    /// `Full`, `AlreadyOpen`.
    pub fn open(&mut self, leg: SideKey) -> Result<(), TableError> {
        if self.index.contains_key(&leg) {
            return Err(TableError::AlreadyOpen(leg));
        }
        if self.index.len() >= MEDIA_LEGS_MAX {
            return Err(TableError::Full(leg));
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        self.index.insert(leg, slot);
        Ok(())
    }

    /// Replaces what is known of a leg; streams go on where the numbers given are the same.
    ///
    /// # Errors
    /// `NotOpen`; `Tone`, `Srtp` if the route's tone or the contexts of the keys cannot be made: the
    /// former configuration stays.
    pub fn configure(
        &mut self,
        leg: SideKey,
        config: &LegConfig,
        now: Time,
    ) -> Result<(), TableError> {
        let slot = *self.index.get(&leg).ok_or(TableError::NotOpen(leg))?;
        let (place, maker) = (&mut self.slots[slot].leg, self.maker.as_ref());
        let done = match place {
            Some(known) => known.update(config, now, maker),
            None => Leg::new(leg, config, now, maker).map(|made| *place = Some(made)),
        };
        done.map_err(|cause| match cause {
            Unconfigurable::Tone(cause) => TableError::Tone { leg, cause },
            Unconfigurable::Srtp(cause) => TableError::Srtp { leg, cause },
        })?;
        self.schedule(slot);
        Ok(())
    }

    /// Allows the sequence numbers of a block that `Reserve` asked for and that is now recorded.
    /// An unknown leg is ignored: it may have closed meanwhile.
    pub fn reserved(&mut self, leg: SideKey, block: ReserveBlock) {
        if let Some(leg) = self.leg_mut(leg) {
            leg.reserved(block);
        }
    }

    /// Sets where packets of a WebRTC leg go: the address that ICE has validated and selected;
    /// `None` while there is none. Other legs and unknown ones are not changed by it.
    pub fn set_target(&mut self, leg: SideKey, target: Option<SocketAddr>) {
        if let Some(leg) = self.leg_mut(leg) {
            leg.latch.select(target);
        }
    }

    /// Plays digits to a leg's peer, after those that play already; other sound to it is left out
    /// meanwhile. What cannot be sent, is no digit or does not fit into the queue is left out.
    pub fn digits(&mut self, leg: SideKey, digits: &str, duration: Duration, now: Time) {
        let Some(slot) = self.index.get(&leg).copied() else {
            return;
        };
        if let Some(leg) = &mut self.slots[slot].leg {
            leg.play_digits(digits, duration, now);
        }
        self.schedule(slot);
    }

    /// Another node has the leg now: what comes here is passed on for a while, and nothing is told of
    /// it; [`RelayTable::over`] says when it is to be closed. False if it passes nothing on, so that
    /// it is to be closed at once: a tone goes on from the other node.
    pub fn linger(&mut self, leg: SideKey, now: Time) -> bool {
        let route = self.leg_mut(leg).map(|leg| leg.route);
        let passes_on = match route {
            Some(MediaRoute::Relay(_) | MediaRoute::Echo) => true,
            Some(
                MediaRoute::Tone { .. }
                | MediaRoute::RingBack { .. }
                | MediaRoute::Parked { .. }
                | MediaRoute::Drop,
            )
            | None => false,
        };
        if passes_on {
            self.lingering.add(leg, now);
        }
        passes_on
    }

    /// The leg is this node's again.
    pub fn resume(&mut self, leg: SideKey) {
        self.lingering.forget(leg);
    }

    /// Tells whether another node has the leg.
    #[must_use]
    pub fn is_lingering(&self, leg: SideKey) -> bool {
        self.lingering.has(leg)
    }

    /// Returns how many legs another node has.
    #[must_use]
    pub fn lingering(&self) -> usize {
        self.lingering.len()
    }

    /// Returns the legs that another node has and nobody needs here any more: they are to be closed.
    pub fn over(&mut self, now: Time) -> Vec<SideKey> {
        let (index, slots) = (&self.index, &self.slots);
        self.lingering.over(now, |leg| {
            let slot = *index.get(&leg)?;
            slots[slot].leg.as_ref().map(Leg::heard)
        })
    }

    /// Closes a leg and returns its last counters; `None` if it is not open.
    pub fn close(&mut self, leg: SideKey) -> Option<LegCounters> {
        self.lingering.forget(leg);
        let slot = self.index.remove(&leg)?;
        let closed = std::mem::take(&mut self.slots[slot]);
        if let Some(due) = closed.scheduled {
            self.deadlines.remove(&(due, slot));
        }
        self.free.push(slot);
        Some(closed.leg.map(|leg| leg.counters()).unwrap_or_default())
    }

    /// Returns the counters of a leg; `None` if it is not open.
    #[must_use]
    pub fn counters(&self, leg: SideKey) -> Option<LegCounters> {
        let slot = *self.index.get(&leg)?;
        Some(
            self.slots[slot]
                .leg
                .as_ref()
                .map(Leg::counters)
                .unwrap_or_default(),
        )
    }

    /// Returns where RTP to a leg's peer goes now; `None` if that is not known.
    #[must_use]
    pub fn target(&self, leg: SideKey) -> Option<SocketAddr> {
        let slot = *self.index.get(&leg)?;
        self.slots[slot].leg.as_ref()?.latch.target()
    }

    /// Returns how many legs are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Tells whether no leg is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Returns how many packets were dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Decides on a packet that came to a leg's RTP port, in the first `length` octets of `buffer`,
    /// and rewrites it where it is to be sent. `SRTP_TAIL_BYTES` behind it are needed where it is
    /// sent on protected. Packets of a WebRTC leg are RTP or RTCP of a source that ICE has validated.
    ///
    /// Bound: no allocation but those of an `Srtp`, two look-ups.
    pub fn on_packet(
        &mut self,
        leg: SideKey,
        from: SocketAddr,
        now: Time,
        buffer: &mut [u8],
        length: usize,
    ) -> Verdict {
        let length = length.min(buffer.len());
        let decided = self.decide(leg, from, now, buffer, length);
        self.counted(decided)
    }

    /// Decides on a packet that came to a leg's RTCP port, and rewrites it where it is to be sent.
    pub fn on_rtcp(
        &mut self,
        leg: SideKey,
        from: SocketAddr,
        now: Time,
        buffer: &mut [u8],
        length: usize,
    ) -> Verdict {
        let length = length.min(buffer.len());
        let decided = self.decide_rtcp(leg, from, now, buffer, length);
        self.counted(decided)
    }

    /// Does what is due: ends digits whose end was lost, tells timeouts, plays tones and digits
    /// through `send` (leg from whose RTP socket it leaves, where to, the packet).
    pub fn on_tick(&mut self, now: Time, send: &mut dyn FnMut(SideKey, SocketAddr, &[u8])) {
        while let Some((due, slot)) = self.deadlines.first().copied() {
            if due > now {
                return;
            }
            self.deadlines.pop_first();
            self.slots[slot].scheduled = None;
            if let Some(leg) = &mut self.slots[slot].leg {
                leg.on_time(now, &mut self.events, send);
            }
            if !self.schedule_after(slot, now) {
                return;
            }
        }
    }

    /// Returns when `on_tick` is to be called next; it may be earlier than anything is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let due = self.deadlines.first().map(|(due, _)| *due);
        [due, self.lingering.next_look()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes the oldest event of a leg that this node has.
    pub fn poll_event(&mut self) -> Option<(SideKey, MediaEvent)> {
        let lingering = &self.lingering;
        std::iter::from_fn(|| self.events.pop_front()).find(|(leg, _)| !lingering.has(*leg))
    }

    fn leg_mut(&mut self, leg: SideKey) -> Option<&mut Leg> {
        let slot = *self.index.get(&leg)?;
        self.slots[slot].leg.as_mut()
    }

    fn counted(&mut self, decided: Result<Verdict, DropReason>) -> Verdict {
        decided.unwrap_or_else(|reason| {
            self.drops[reason as usize] += 1;
            Verdict::Drop(reason)
        })
    }

    fn decide(
        &mut self,
        key: SideKey,
        from: SocketAddr,
        now: Time,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<Verdict, DropReason> {
        let slot = *self.index.get(&key).ok_or(DropReason::UnknownLeg)?;
        let leg = self.slots[slot]
            .leg
            .as_mut()
            .ok_or(DropReason::Unconfigured)?;
        match DatagramKind::of(&buffer[..length]) {
            DatagramKind::Rtp => {}
            DatagramKind::Rtcp if leg.latch.is_muxed() => {
                return self.decide_rtcp(key, from, now, buffer, length);
            }
            DatagramKind::Rtcp
            | DatagramKind::Stun
            | DatagramKind::Zrtp
            | DatagramKind::Dtls
            | DatagramKind::TurnChannel
            | DatagramKind::Unknown => return Err(DropReason::Malformed),
        }
        let length = leg.unprotect(from, now, buffer, length)?;
        let accepted = leg.accept(from, now, &buffer[..length], &mut self.events);
        let route = leg.route;
        self.schedule(slot);
        self.route(key, route, accepted?, now, buffer, length)
    }

    fn route(
        &mut self,
        key: SideKey,
        route: MediaRoute,
        mut accepted: Accepted,
        now: Time,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<Verdict, DropReason> {
        match route {
            MediaRoute::Relay(to_leg) => {
                let peer = self.leg_mut_with_events(to_leg).filter(|_| to_leg != key);
                let (peer, events) = peer.ok_or(DropReason::NoPeer)?;
                let (to, length) = peer.send(&accepted, now, buffer, length, events)?;
                Ok(Verdict::Forward {
                    to_leg,
                    to,
                    length,
                    is_rtcp: false,
                })
            }
            MediaRoute::Echo => {
                let (leg, events) = self
                    .leg_mut_with_events(key)
                    .ok_or(DropReason::UnknownLeg)?;
                if leg.sender.is_ours(accepted.header.ssrc) {
                    return Err(DropReason::Looped);
                }
                // What is not mapped goes back as it came.
                accepted.payload.get_or_insert(accepted.header.payload_type);
                let (to, length) = leg.send(&accepted, now, buffer, length, events)?;
                Ok(Verdict::Reflect { to, length })
            }
            MediaRoute::Tone { .. }
            | MediaRoute::RingBack { .. }
            | MediaRoute::Parked { .. }
            | MediaRoute::Drop => Err(DropReason::NoRoute),
        }
    }

    fn decide_rtcp(
        &mut self,
        key: SideKey,
        from: SocketAddr,
        now: Time,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<Verdict, DropReason> {
        let slot = *self.index.get(&key).ok_or(DropReason::UnknownLeg)?;
        let leg = self.slots[slot]
            .leg
            .as_mut()
            .ok_or(DropReason::Unconfigured)?;
        if DatagramKind::of(&buffer[..length]) != DatagramKind::Rtcp {
            return Err(DropReason::Malformed);
        }
        let length = leg.unprotect_rtcp(from, buffer, length)?;
        if rtcp::check(&buffer[..length]).is_err() {
            return Err(DropReason::Malformed);
        }
        leg.accept_rtcp(from, now);
        let MediaRoute::Relay(to_leg) = leg.route else {
            return Err(DropReason::NoRoute);
        };
        let (ours, behind) = (leg.sender.ssrc(), leg.sender.behind(to_leg));
        self.schedule(slot);
        let peer = self.leg_mut_with_events(to_leg).filter(|_| to_leg != key);
        let (peer, events) = peer.ok_or(DropReason::NoPeer)?;
        let to = peer.latch.rtcp_target().ok_or(DropReason::NoTarget)?;
        let map = rtcp_map(key, peer, ours, behind);
        let rewritten = rtcp::rewrite(&mut buffer[..length], &map);
        let length = rewritten.map_err(|_| DropReason::Malformed)?;
        let length = peer.protect_rtcp(buffer, length, events)?;
        Ok(Verdict::Forward {
            to_leg,
            to,
            length,
            is_rtcp: !peer.latch.is_muxed(),
        })
    }

    fn leg_mut_with_events(&mut self, leg: SideKey) -> Option<(&mut Leg, &mut Events)> {
        let slot = *self.index.get(&leg)?;
        Some((self.slots[slot].leg.as_mut()?, &mut self.events))
    }

    /// Moves a slot's deadline forward if something is due earlier than it says.
    fn schedule(&mut self, slot: usize) {
        let place = &mut self.slots[slot];
        let Some(due) = place.leg.as_ref().and_then(Leg::next_due) else {
            return;
        };
        if place.scheduled.is_none_or(|scheduled| due < scheduled) {
            if let Some(former) = place.scheduled.replace(due) {
                self.deadlines.remove(&(former, slot));
            }
            self.deadlines.insert((due, slot));
        }
    }

    /// Schedules a slot that has just been served; false if it could not be served because the
    /// event queue is full, so that serving the others waits too.
    fn schedule_after(&mut self, slot: usize, now: Time) -> bool {
        self.schedule(slot);
        self.slots[slot].scheduled.is_none_or(|due| due > now)
    }
}

/// Returns how a report of leg `from` is rewritten toward the peer of `to`. `ours` is the SSRC that
/// the reporter hears, `behind` whose stream that is, with the offsets of its numbers.
fn rtcp_map(from: SideKey, to: &Leg, ours: u32, behind: Option<(u32, u32, u32)>) -> RtcpMap {
    let sent = to.counters();
    RtcpMap {
        sender: to.sender.ssrc(),
        timestamp_offset: to
            .sender
            .behind(from)
            .map_or(0, |(_, _, timestamp)| timestamp),
        sent: (sent.packets_out as u32, sent.octets_out as u32),
        reported: behind.map(|(theirs, ..)| (ours, theirs)),
        sequence_offset: behind.map_or(0, |(_, sequence, _)| sequence),
    }
}
