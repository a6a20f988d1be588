//! The table of all legs of one worker.
//!
//! In: commands on legs, packets, ticks. Out: verdicts, events, the next deadline. Slots are reused;
//! legs are found by key, and the other leg of a relay by the key in the route, so closing one leg
//! leaves no reference behind.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use contract::limits::MEDIA_LEGS_MAX;
use contract::{LegConfig, LegCounters, MediaEvent, MediaRoute, SideKey, Time};

use super::leg::{Events, Leg};
use super::{DropReason, TableError, Verdict};
use crate::rtcp::{self, RtcpMap};
use crate::rtp::DatagramKind;

/// Events that fit before the queue has to grow.
const EVENTS_AT_START: usize = 1_024;

/// The relay table of one worker.
#[derive(Debug, Default)]
pub struct RelayTable {
    index: BTreeMap<SideKey, usize>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// At most one entry a slot; it may be earlier than what is due, never later.
    deadlines: BTreeSet<(Time, usize)>,
    events: Events,
    drops: [u64; DropReason::ALL.len()],
}

#[derive(Debug, Default)]
struct Slot {
    leg: Option<Leg>,
    scheduled: Option<Time>,
}

impl RelayTable {
    /// Makes an empty table.
    #[must_use]
    pub fn new() -> Self {
        RelayTable {
            events: Events::with_capacity(EVENTS_AT_START),
            ..RelayTable::default()
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
    /// `NotOpen`; `Tone` if the route's tone cannot be made: the former configuration stays.
    pub fn configure(
        &mut self,
        leg: SideKey,
        config: &LegConfig,
        now: Time,
    ) -> Result<(), TableError> {
        let slot = *self.index.get(&leg).ok_or(TableError::NotOpen(leg))?;
        let place = &mut self.slots[slot].leg;
        let done = match place {
            Some(known) => known.update(config, now),
            None => Leg::new(leg, config, now).map(|made| *place = Some(made)),
        };
        done.map_err(|cause| TableError::Tone { leg, cause })?;
        self.schedule(slot);
        Ok(())
    }

    /// Allows the sequence numbers of a block that `Reserve` asked for and that is now recorded.
    /// An unknown leg is ignored: it may have closed meanwhile.
    pub fn reserved(&mut self, leg: SideKey, sequence_end: u16) {
        if let Some(leg) = self.leg_mut(leg) {
            leg.reserved(sequence_end);
        }
    }

    /// Closes a leg and returns its last counters; `None` if it is not open.
    pub fn close(&mut self, leg: SideKey) -> Option<LegCounters> {
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

    /// Tells whether RTCP to a leg's peer leaves from the leg's RTP port (RFC 5761).
    #[must_use]
    pub fn is_muxed(&self, leg: SideKey) -> bool {
        let slot = self.index.get(&leg);
        let leg = slot.and_then(|slot| self.slots[*slot].leg.as_ref());
        leg.is_some_and(|leg| leg.latch.is_muxed())
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

    /// Decides on a packet that came to a leg's RTP port, and rewrites it where it is to be sent.
    ///
    /// Bound: no allocation, two look-ups.
    pub fn on_packet(
        &mut self,
        leg: SideKey,
        from: SocketAddr,
        now: Time,
        packet: &mut [u8],
    ) -> Verdict {
        let decided = self.decide(leg, from, now, packet);
        self.counted(decided)
    }

    /// Decides on a packet that came to a leg's RTCP port, and rewrites it where it is to be sent.
    pub fn on_rtcp(
        &mut self,
        leg: SideKey,
        from: SocketAddr,
        now: Time,
        packet: &mut [u8],
    ) -> Verdict {
        let decided = self.decide_rtcp(leg, from, now, packet);
        self.counted(decided)
    }

    /// Does what is due: ends digits whose end was lost, tells timeouts, plays tones through `send`
    /// (leg to send from, where to, the packet).
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
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// Takes the oldest event.
    pub fn poll_event(&mut self) -> Option<(SideKey, MediaEvent)> {
        self.events.pop_front()
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
        packet: &mut [u8],
    ) -> Result<Verdict, DropReason> {
        let slot = *self.index.get(&key).ok_or(DropReason::UnknownLeg)?;
        let leg = self.slots[slot]
            .leg
            .as_mut()
            .ok_or(DropReason::Unconfigured)?;
        if DatagramKind::of(packet) == DatagramKind::Rtcp && leg.latch.is_muxed() {
            return self.decide_rtcp(key, from, now, packet);
        }
        let (accepted, route) = (leg.accept(from, now, packet, &mut self.events), leg.route);
        self.schedule(slot);
        let mut accepted = accepted?;
        let length = packet.len();
        match route {
            MediaRoute::Relay(to_leg) => {
                let peer = self.leg_mut_with_events(to_leg).filter(|_| to_leg != key);
                let (peer, events) = peer.ok_or(DropReason::NoPeer)?;
                let to = peer.send(&accepted, now, packet, events)?;
                Ok(Verdict::Forward { to_leg, to, length })
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
                let to = leg.send(&accepted, now, packet, events)?;
                Ok(Verdict::Reflect { to, length })
            }
            MediaRoute::Tone { .. } | MediaRoute::Drop => Err(DropReason::NoRoute),
        }
    }

    fn decide_rtcp(
        &mut self,
        key: SideKey,
        from: SocketAddr,
        now: Time,
        packet: &mut [u8],
    ) -> Result<Verdict, DropReason> {
        let slot = *self.index.get(&key).ok_or(DropReason::UnknownLeg)?;
        let leg = self.slots[slot]
            .leg
            .as_mut()
            .ok_or(DropReason::Unconfigured)?;
        if rtcp::check(packet).is_err() {
            return Err(DropReason::Malformed);
        }
        if !leg.accept_rtcp(from, now) {
            return Err(DropReason::WrongSource);
        }
        let MediaRoute::Relay(to_leg) = leg.route else {
            return Err(DropReason::NoRoute);
        };
        let (ours, behind) = (leg.sender.ssrc(), leg.sender.behind(to_leg));
        self.schedule(slot);
        let peer = self
            .leg_mut(to_leg)
            .filter(|_| to_leg != key)
            .ok_or(DropReason::NoPeer)?;
        let to = peer.latch.rtcp_target().ok_or(DropReason::NoTarget)?;
        let sent = peer.counters();
        let map = RtcpMap {
            sender: peer.sender.ssrc(),
            timestamp_offset: peer
                .sender
                .behind(key)
                .map_or(0, |(_, _, timestamp)| timestamp),
            sent: (sent.packets_out as u32, sent.octets_out as u32),
            reported: behind.map(|(theirs, ..)| (ours, theirs)),
            sequence_offset: behind.map_or(0, |(_, sequence, _)| sequence),
        };
        let length = rtcp::rewrite(packet, &map).map_err(|_| DropReason::Malformed)?;
        Ok(Verdict::Forward { to_leg, to, length })
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
