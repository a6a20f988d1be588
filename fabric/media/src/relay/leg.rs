//! One leg of the relay table: its protection, its latch, its peer's stream, its sender, its deadlines.
//!
//! In: packets of its peer, packets for its peer, time. Out: accepted packets, placed and protected
//! packets, tone frames, digits, events. It does not know other legs; `table.rs` joins them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use contract::limits::MEDIA_EVENTS_MAX;
use contract::{LegConfig, LegCounters, MediaEvent, MediaRoute, ReserveBlock, SideKey, Time};

use super::DropReason;
use super::digits::Digits;
use super::latch::{Admission, Latch};
use super::played::PlayedTone;
use super::sender::{Origin, Placed, Sender, StreamId, Unplaced};
use super::shield::Shield;
use super::source::{Arrival, Source};
use super::srtp::{SRTP_TAIL_BYTES, SrtpError, SrtpMaker};
use crate::dtmf::{self, DtmfChange, DtmfReader};
use crate::rtp::{self, HEADER_BYTES, RtpHeader};
use crate::tone::{FRAME_SAMPLES, ToneError};

/// Events of all legs that wait to be taken.
pub(super) type Events = VecDeque<(SideKey, MediaEvent)>;

/// Sends a packet of our own from a leg's RTP socket: leg, where to, octets.
pub(super) type Send<'a> = &'a mut dyn FnMut(SideKey, SocketAddr, &[u8]);

/// A configuration cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unconfigurable {
    Tone(ToneError),
    Srtp(SrtpError),
}

/// Octets that a packet of our own needs at most.
const OWN_PACKET_BYTES: usize = HEADER_BYTES + FRAME_SAMPLES + SRTP_TAIL_BYTES;
/// Mark of a payload type that is not relayed.
const UNMAPPED: u8 = 0xff;

/// A packet of the peer that may be sent on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    pub(super) header: RtpHeader,
    pub(super) stream: StreamId,
    pub(super) sequence: u64,
    /// Payload type on the other leg's wire.
    pub(super) payload: Option<u8>,
    /// It is a telephone event: its marker has a meaning of its own.
    pub(super) is_event: bool,
}

/// A configured leg.
#[derive(Debug)]
pub(super) struct Leg {
    key: SideKey,
    pub(super) latch: Latch,
    pub(super) sender: Sender,
    shield: Shield,
    digits: Digits,
    source: Option<Source>,
    pub(super) route: MediaRoute,
    sends: bool,
    receives: bool,
    payloads: [u8; 128],
    dtmf_payload: Option<u8>,
    dtmf_send_payload: Option<u8>,
    dtmf: DtmfReader,
    clock_rate: u32,
    timeout: Option<Duration>,
    negotiation: u32,
    heard: Time,
    tone: Option<PlayedTone>,
    tones_played: u32,
    counters: LegCounters,
    /// Events not told yet; they wait here while the queue is full.
    first_from: Option<SocketAddr>,
    is_first_told: bool,
    latched_told: Option<SocketAddr>,
    is_timeout_told: bool,
}

/// A packet of our own that is to be placed.
struct Own<'a> {
    id: StreamId,
    /// Its number and timestamp in its own stream.
    sequence: u64,
    timestamp: u32,
    /// When its timestamp is of.
    at: Time,
    payload_type: u8,
    is_marked: bool,
    payload: &'a [u8],
}

impl Leg {
    pub(super) fn new(
        key: SideKey,
        config: &LegConfig,
        now: Time,
        maker: &dyn SrtpMaker,
    ) -> Result<Leg, Unconfigurable> {
        let mut leg = Leg {
            key,
            latch: Latch::new(config, now),
            sender: Sender::new(config),
            shield: Shield::default(),
            digits: Digits::default(),
            source: None,
            route: MediaRoute::Drop,
            sends: false,
            receives: false,
            payloads: [UNMAPPED; 128],
            dtmf_payload: None,
            dtmf_send_payload: None,
            dtmf: DtmfReader::default(),
            clock_rate: config.clock_rate,
            timeout: None,
            negotiation: config.negotiation,
            heard: now,
            tone: None,
            tones_played: 0,
            counters: LegCounters::default(),
            first_from: None,
            is_first_told: false,
            latched_told: None,
            is_timeout_told: false,
        };
        leg.update(config, now, maker)?;
        Ok(leg)
    }

    /// Takes a configuration. Streams, contexts, latch and tone go on where it does not change them.
    pub(super) fn update(
        &mut self,
        config: &LegConfig,
        now: Time,
        maker: &dyn SrtpMaker,
    ) -> Result<(), Unconfigurable> {
        let change = self.shield.plan(config, &self.sender, maker);
        let change = change.map_err(Unconfigurable::Srtp)?;
        self.tone = self.tone_of(config, now).map_err(Unconfigurable::Tone)?;
        let restart = change.restart;
        self.shield.change(change, &self.sender);
        if let Some(floor) = restart {
            self.sender.restart(config, floor);
        }
        self.latch.update(config, now);
        if self.latch.diverted().is_none() {
            self.latched_told = None;
        }
        self.route = config.route;
        self.sends = config.sends;
        self.receives = config.receives;
        self.dtmf_payload = config.dtmf_payload;
        self.dtmf_send_payload = config.dtmf_send_payload;
        if !self.may_send_digits() {
            self.digits.clear();
        }
        self.clock_rate = config.clock_rate;
        self.payloads = payload_table(config);
        if self.timeout != config.timeout || self.negotiation != config.negotiation {
            self.heard = now;
            self.is_timeout_told = false;
        }
        self.timeout = config.timeout;
        self.negotiation = config.negotiation;
        Ok(())
    }

    fn tone_of(&mut self, config: &LegConfig, now: Time) -> Result<Option<PlayedTone>, ToneError> {
        if let Some(played) = self.tone.filter(|played| played.route == config.route) {
            return Ok(Some(played));
        }
        self.tones_played = self.tones_played.wrapping_add(1);
        PlayedTone::begin(config.route, self.tones_played, now)
    }

    /// Takes an RTP packet out of its protection, if its source may be the peer's at all. Whatever
    /// fails here has changed nothing but counters.
    pub(super) fn unprotect(
        &mut self,
        from: SocketAddr,
        now: Time,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<usize, DropReason> {
        if self.latch.refuses(from, now) {
            self.counters.refused += 1;
            return Err(DropReason::WrongSource);
        }
        let done = self.shield.unprotect_rtp(buffer, length);
        self.noted(done)
    }

    /// Takes an RTCP packet out of its protection, if its source may be the peer's.
    pub(super) fn unprotect_rtcp(
        &mut self,
        from: SocketAddr,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<usize, DropReason> {
        if !self.latch.knows_rtcp(from) {
            self.counters.refused += 1;
            return Err(DropReason::WrongSource);
        }
        let done = self.shield.unprotect_rtcp(buffer, length);
        self.noted(done)
    }

    fn noted(&mut self, done: Result<usize, DropReason>) -> Result<usize, DropReason> {
        self.counters.unprotected += u64::from(done == Err(DropReason::Unprotected));
        done
    }

    /// Takes an RTP packet of the leg's port, out of its protection.
    pub(super) fn accept(
        &mut self,
        from: SocketAddr,
        now: Time,
        packet: &[u8],
        events: &mut Events,
    ) -> Result<Accepted, DropReason> {
        let header = RtpHeader::read(packet).map_err(|_| DropReason::Malformed)?;
        let admission = self.latch.admit(from, header.ssrc, now);
        if admission != Admission::Taken {
            self.counters.refused += 1;
            let is_held = admission == Admission::Held;
            return Err(if is_held {
                DropReason::Latching
            } else {
                DropReason::WrongSource
            });
        }
        self.note_heard(from, now, events);
        let stream = self.stream_of(&header, events);
        let (sequence, restarts) = match stream.place(&header) {
            Arrival::Fresh { sequence, restarts } => (sequence, restarts),
            Arrival::Duplicate => return Err(DropReason::Duplicate),
            Arrival::Late => return Err(DropReason::Late),
            Arrival::Jump => return Err(DropReason::SequenceJump),
        };
        self.counters.packets_in += 1;
        self.counters.octets_in += packet.len() as u64;
        let is_event = self.dtmf_payload == Some(header.payload_type);
        if is_event {
            let changes = self
                .dtmf
                .on_packet(header.timestamp, header.payload(packet), now);
            self.tell_digits(changes, events);
        } else if let Some(source) = &mut self.source {
            source.time(header.timestamp, now, self.clock_rate);
        }
        if !self.receives {
            return Err(DropReason::Direction);
        }
        let mapped = self.payloads[usize::from(header.payload_type)];
        Ok(Accepted {
            header,
            stream: StreamId {
                origin: Origin::Peer(self.key, header.ssrc),
                restarts,
            },
            sequence,
            payload: (mapped != UNMAPPED).then_some(mapped),
            is_event,
        })
    }

    /// Returns the stream of a packet; another SSRC starts a new one.
    fn stream_of(&mut self, header: &RtpHeader, events: &mut Events) -> &mut Source {
        let known = self.source.filter(|source| source.ssrc() == header.ssrc);
        if known.is_none() {
            // Each direction of a protected leg has a key of its own, and its SSRC is agreed on.
            if self.shield.is_open() && self.sender.is_ours(header.ssrc) {
                self.sender.collide();
            }
            let ended = self.dtmf.reset();
            self.tell_digits([ended, None, None], events);
        }
        let source = known.unwrap_or_else(|| Source::new(header, self.source.as_ref()));
        self.source.insert(source)
    }

    /// Takes an RTCP packet of the peer, out of its protection.
    pub(super) fn accept_rtcp(&mut self, from: SocketAddr, now: Time) {
        self.latch.learn_rtcp(from);
        if !self.receives {
            // On hold the peer's reports are all that shows it is there.
            self.heard = now;
            self.is_timeout_told = false;
        }
    }

    /// Protects an RTCP packet that goes to the peer; returns its length.
    pub(super) fn protect_rtcp(
        &mut self,
        buffer: &mut [u8],
        length: usize,
        events: &mut Events,
    ) -> Result<usize, DropReason> {
        let done = self.shield.protect_rtcp(buffer, length);
        self.reserve(events);
        done
    }

    /// Gives a packet that is to go to the peer its numbers, header and protection; returns where it
    /// goes and its length.
    pub(super) fn send(
        &mut self,
        accepted: &Accepted,
        now: Time,
        buffer: &mut [u8],
        length: usize,
        events: &mut Events,
    ) -> Result<(SocketAddr, usize), DropReason> {
        if !self.sends {
            return Err(DropReason::Direction);
        }
        if self.digits.is_active() {
            return Err(DropReason::Digits);
        }
        let payload_type = accepted.payload.ok_or(DropReason::UnmappedPayload)?;
        let to = self.latch.target().ok_or(DropReason::NoTarget)?;
        if self.shield.is_unkeyed() {
            return Err(DropReason::Unkeyed);
        }
        let (stream, sequence) = (accepted.stream, accepted.sequence);
        let timestamp = accepted.header.timestamp;
        let placed = self
            .sender
            .place(stream, sequence, timestamp, now, self.clock_rate);
        let placed = placed.map_err(|unplaced| match unplaced {
            Unplaced::Late => DropReason::Late,
            Unplaced::Exhausted => {
                self.reserve(events);
                DropReason::ReserveExhausted
            }
        })?;
        let mut header = accepted.header;
        header.marker |= placed.is_first && !accepted.is_event;
        header.payload_type = payload_type;
        header.sequence = placed.sequence;
        header.timestamp = placed.timestamp;
        header.ssrc = self.sender.ssrc();
        header.write(&mut buffer[..length]);
        self.note_sent(length, events);
        let length = self.shield.protect_rtp(buffer, length, placed.rollover)?;
        Ok((to, length))
    }

    /// Plays digits to the peer after those that play already.
    pub(super) fn play_digits(&mut self, digits: &str, duration: Duration, now: Time) {
        if self.may_send_digits() {
            self.digits.add(digits, duration, now);
        }
    }

    fn may_send_digits(&self) -> bool {
        self.sends && self.dtmf_send_payload.is_some()
    }

    /// Returns when the peer was heard last, or the leg was configured.
    pub(super) const fn heard(&self) -> Time {
        self.heard
    }

    /// Returns when the leg next has something to do.
    pub(super) fn next_due(&self) -> Option<Time> {
        let timeout = self.timeout.filter(|_| !self.is_timeout_told);
        let silent = timeout.map(|timeout| self.heard + timeout);
        let tone = self.tone.map(|tone| tone.due);
        [self.dtmf.deadline(), silent, tone, self.digits.due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due: lost ends of digits, the silence, tone frames, digits of ours.
    pub(super) fn on_time(&mut self, now: Time, events: &mut Events, send: Send<'_>) {
        let ended = self.dtmf.on_time(now);
        self.tell_digits([ended, None, None], events);
        let is_silent = self
            .timeout
            .is_some_and(|timeout| self.heard + timeout <= now);
        if is_silent && !self.is_timeout_told {
            self.is_timeout_told = tell(events, self.key, MediaEvent::Timeout);
        }
        if let Some(played) = &mut self.tone {
            played.skip_late(now);
        }
        while let Some(played) = self.tone.filter(|played| played.due <= now) {
            self.play_frame(played, events, send);
        }
        self.play_digit_packets(now, events, send);
    }

    /// Allows the numbers of a recorded block.
    pub(super) fn reserved(&mut self, block: ReserveBlock) {
        self.sender.extend(block.sequence_end);
        self.shield.extend(block.rtcp_index_end);
    }

    /// Returns the counters with what the present stream adds.
    pub(super) fn counters(&self) -> LegCounters {
        LegCounters {
            lost: self.source.map_or(0, |source| source.lost()),
            jitter: self.source.map_or(0, |source| source.jitter()),
            srtp_packets: self.shield.library_packets(),
            ..self.counters
        }
    }

    fn play_frame(&mut self, mut played: PlayedTone, events: &mut Events, send: Send<'_>) {
        let mut samples = [0; FRAME_SAMPLES];
        played.tone.fill(&mut samples);
        let own = Own {
            id: played.id,
            sequence: played.frames,
            timestamp: (played.frames as u32).wrapping_mul(FRAME_SAMPLES as u32),
            at: played.due,
            payload_type: played.payload,
            is_marked: false,
            payload: &samples,
        };
        played.advance();
        self.tone = Some(played);
        if !self.digits.is_active() {
            self.send_own(&own, events, send);
        }
    }

    fn play_digit_packets(&mut self, now: Time, events: &mut Events, send: Send<'_>) {
        let Some(payload_type) = self.dtmf_send_payload else {
            return;
        };
        while let Some(packet) = self.digits.next(now, self.clock_rate) {
            let own = Own {
                id: StreamId {
                    origin: Origin::Digits,
                    restarts: packet.event_number,
                },
                sequence: u64::from(packet.number),
                timestamp: 0,
                at: packet.began,
                payload_type,
                is_marked: packet.number == 0,
                payload: &packet.report,
            };
            self.send_own(&own, events, send);
        }
    }

    /// Sends a packet of our own; one that cannot be sent is lost.
    fn send_own(&mut self, own: &Own<'_>, events: &mut Events, send: Send<'_>) {
        let is_sent = self.sends && !self.shield.is_unkeyed();
        let Some(to) = self.latch.target().filter(|_| is_sent) else {
            return;
        };
        let placed =
            self.sender
                .place(own.id, own.sequence, own.timestamp, own.at, self.clock_rate);
        let Ok(Placed {
            sequence,
            rollover,
            timestamp,
            is_first,
        }) = placed
        else {
            return self.reserve(events);
        };
        let mut buffer = [0; OWN_PACKET_BYTES];
        let length = HEADER_BYTES + own.payload.len();
        let ssrc = self.sender.ssrc();
        let is_marked = own.is_marked || (is_first && own.id.origin == Origin::Tone);
        if let Some(head) = buffer.first_chunk_mut() {
            rtp::write_header(head, is_marked, own.payload_type, sequence, timestamp, ssrc);
        }
        if let Some(payload) = buffer.get_mut(HEADER_BYTES..length) {
            payload.copy_from_slice(own.payload);
        }
        self.note_sent(length, events);
        if let Ok(length) = self.shield.protect_rtp(&mut buffer, length, rollover) {
            send(self.key, to, &buffer[..length]);
        }
    }

    fn note_heard(&mut self, from: SocketAddr, now: Time, events: &mut Events) {
        self.heard = now;
        self.is_timeout_told = false;
        if !self.is_first_told {
            let from = *self.first_from.get_or_insert(from);
            self.is_first_told = tell(events, self.key, MediaEvent::FirstPacket { from });
        }
        let latched = self.latch.diverted();
        if latched != self.latched_told
            && let Some(to) = latched
            && tell(events, self.key, MediaEvent::Latched { to })
        {
            self.latched_told = latched;
        }
    }

    /// Counts a packet that is sent, and asks for the next block. Octets are those of RTP, as
    /// sender reports count them.
    fn note_sent(&mut self, octets: usize, events: &mut Events) {
        self.counters.packets_out += 1;
        self.counters.octets_out += octets as u64;
        self.reserve(events);
    }

    /// Asks for the next block once three quarters of either one are used. Where one is not due yet,
    /// its present end is told again.
    fn reserve(&mut self, events: &mut Events) {
        let (sequence_end, rtcp_index_end) =
            (self.sender.wanted_reserve(), self.shield.wanted_reserve());
        if sequence_end.is_none() && rtcp_index_end.is_none() {
            return;
        }
        let block = ReserveBlock {
            sequence_end: sequence_end.unwrap_or(self.sender.reserve_end()),
            rtcp_index_end: rtcp_index_end.unwrap_or(self.shield.reserve_end()),
        };
        let reserve = MediaEvent::Reserve {
            block,
            timestamp: self.sender.timestamp(),
            received: self.shield.received(),
        };
        if !tell(events, self.key, reserve) {
            return;
        }
        if sequence_end.is_some() {
            self.sender.reserve_asked();
        }
        if let Some(end) = rtcp_index_end {
            self.shield.reserve_asked(end);
        }
    }

    fn tell_digits(&self, changes: dtmf::DtmfChanges, events: &mut Events) {
        for change in changes.into_iter().flatten() {
            match change {
                DtmfChange::Started { .. } => {}
                DtmfChange::Ended { event, duration } => {
                    if let Some(digit) = dtmf::digit(event) {
                        tell(events, self.key, MediaEvent::Digit { digit, duration });
                    }
                }
            }
        }
    }
}

fn payload_table(config: &LegConfig) -> [u8; 128] {
    let mut table = [UNMAPPED; 128];
    for (from, to) in &config.payloads {
        if let Some(place) = table.get_mut(usize::from(*from))
            && *to < 128
        {
            *place = *to;
        }
    }
    table
}

/// Puts an event into the queue; false if it is full.
fn tell(events: &mut Events, leg: SideKey, event: MediaEvent) -> bool {
    let has_room = events.len() < MEDIA_EVENTS_MAX;
    if has_room {
        events.push_back((leg, event));
    }
    has_room
}
