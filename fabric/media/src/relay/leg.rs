//! One leg of the relay table: its latch, its peer's stream, its sender, its deadlines.
//!
//! In: packets of its peer, packets for its peer, time. Out: accepted packets, placed packets, tone
//! frames, events. It does not know other legs; `table.rs` joins them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use contract::limits::MEDIA_EVENTS_MAX;
use contract::{LegConfig, LegCounters, MediaEvent, MediaRoute, SideKey, Time};

use super::DropReason;
use super::latch::{Admission, Latch};
use super::sender::{Placed, Sender, StreamId, Unplaced};
use super::source::{Arrival, Source};
use crate::dtmf::{self, DtmfChange, DtmfReader};
use crate::rtp::{self, DatagramKind, HEADER_BYTES, RtpHeader};
use crate::tone::{FRAME_SAMPLES, Tone, ToneError};

/// Events of all legs that wait to be taken.
pub(super) type Events = VecDeque<(SideKey, MediaEvent)>;

/// Length of a tone frame.
const FRAME: Duration = Duration::from_millis(20);
/// Frames that are sent late at most; more are left out, as if they had been lost.
const LATE_FRAMES_MAX: u64 = 5;
/// Octets of a tone packet.
const TONE_PACKET_BYTES: usize = HEADER_BYTES + FRAME_SAMPLES;
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
    source: Option<Source>,
    pub(super) route: MediaRoute,
    sends: bool,
    receives: bool,
    payloads: [u8; 128],
    dtmf_payload: Option<u8>,
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

#[derive(Clone, Copy, Debug)]
struct PlayedTone {
    route: MediaRoute,
    tone: Tone,
    payload: u8,
    frames: u64,
    due: Time,
    id: StreamId,
}

impl Leg {
    pub(super) fn new(key: SideKey, config: &LegConfig, now: Time) -> Result<Leg, ToneError> {
        let mut leg = Leg {
            key,
            latch: Latch::new(config, now),
            sender: Sender::new(config),
            source: None,
            route: MediaRoute::Drop,
            sends: false,
            receives: false,
            payloads: [UNMAPPED; 128],
            dtmf_payload: None,
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
        leg.update(config, now)?;
        Ok(leg)
    }

    /// Takes a configuration. Streams, latch and tone go on where it does not change them.
    pub(super) fn update(&mut self, config: &LegConfig, now: Time) -> Result<(), ToneError> {
        self.tone = self.tone_of(config, now)?;
        self.latch.update(config, now);
        if self.latch.diverted().is_none() {
            self.latched_told = None;
        }
        self.sender.update(config);
        self.route = config.route;
        self.sends = config.sends;
        self.receives = config.receives;
        self.dtmf_payload = config.dtmf_payload;
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
        let MediaRoute::Tone {
            hertz,
            level_dbm0,
            payload,
        } = config.route
        else {
            return Ok(None);
        };
        if let Some(played) = self.tone.filter(|played| played.route == config.route) {
            return Ok(Some(played));
        }
        let tone = Tone::new(hertz, level_dbm0, payload)?;
        self.tones_played = self.tones_played.wrapping_add(1);
        let id = StreamId {
            leg: self.key,
            ssrc: 0,
            restarts: self.tones_played,
        };
        Ok(Some(PlayedTone {
            route: config.route,
            tone,
            payload,
            frames: 0,
            due: now,
            id,
        }))
    }

    /// Takes an RTP packet of the leg's port.
    pub(super) fn accept(
        &mut self,
        from: SocketAddr,
        now: Time,
        packet: &[u8],
        events: &mut Events,
    ) -> Result<Accepted, DropReason> {
        if DatagramKind::of(packet) != DatagramKind::Rtp {
            return Err(DropReason::Malformed);
        }
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
                leg: self.key,
                ssrc: header.ssrc,
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
            if self.sender.is_ours(header.ssrc) {
                self.sender.collide();
            }
            let ended = self.dtmf.reset();
            self.tell_digits([ended, None, None], events);
        }
        let source = known.unwrap_or_else(|| Source::new(header, self.source.as_ref()));
        self.source.insert(source)
    }

    /// Takes an RTCP packet of the leg's port; true if it is the peer's.
    pub(super) fn accept_rtcp(&mut self, from: SocketAddr, now: Time) -> bool {
        let is_known = self.latch.admit_rtcp(from);
        if !is_known {
            self.counters.refused += 1;
        } else if !self.receives {
            // On hold the peer's reports are all that shows it is there.
            self.heard = now;
            self.is_timeout_told = false;
        }
        is_known
    }

    /// Gives a packet that is to go to the peer its numbers and header; returns where it goes.
    pub(super) fn send(
        &mut self,
        accepted: &Accepted,
        now: Time,
        packet: &mut [u8],
        events: &mut Events,
    ) -> Result<SocketAddr, DropReason> {
        if !self.sends {
            return Err(DropReason::Direction);
        }
        let payload_type = accepted.payload.ok_or(DropReason::UnmappedPayload)?;
        let to = self.latch.target().ok_or(DropReason::NoTarget)?;
        let (stream, sequence) = (accepted.stream, accepted.sequence);
        let timestamp = accepted.header.timestamp;
        let placed = self
            .sender
            .place(stream, sequence, timestamp, now, self.clock_rate);
        let placed = placed.map_err(|unplaced| match unplaced {
            Unplaced::Late => DropReason::Late,
            Unplaced::Exhausted => DropReason::ReserveExhausted,
        })?;
        let mut header = accepted.header;
        header.marker |= placed.is_first && !accepted.is_event;
        header.payload_type = payload_type;
        header.sequence = placed.sequence;
        header.timestamp = placed.timestamp;
        header.ssrc = self.sender.ssrc();
        header.write(packet);
        self.note_sent(packet.len(), events);
        Ok(to)
    }

    /// Returns when the leg next has something to do.
    pub(super) fn next_due(&self) -> Option<Time> {
        let timeout = self.timeout.filter(|_| !self.is_timeout_told);
        let silent = timeout.map(|timeout| self.heard + timeout);
        let tone = self.tone.map(|tone| tone.due);
        [self.dtmf.deadline(), silent, tone]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due: lost ends of digits, the silence, tone frames.
    pub(super) fn on_time(
        &mut self,
        now: Time,
        events: &mut Events,
        send: &mut dyn FnMut(SideKey, SocketAddr, &[u8]),
    ) {
        let ended = self.dtmf.on_time(now);
        self.tell_digits([ended, None, None], events);
        let is_silent = self
            .timeout
            .is_some_and(|timeout| self.heard + timeout <= now);
        if is_silent && !self.is_timeout_told {
            self.is_timeout_told = tell(events, self.key, MediaEvent::Timeout);
        }
        self.skip_late_frames(now);
        while let Some(played) = self.tone.filter(|played| played.due <= now) {
            self.play_frame(played, events, send);
        }
    }

    /// Allows the numbers of a recorded block.
    pub(super) fn reserved(&mut self, sequence_end: u16) {
        self.sender.extend(sequence_end);
    }

    /// Returns the counters with what the present stream adds.
    pub(super) fn counters(&self) -> LegCounters {
        LegCounters {
            lost: self.source.map_or(0, |source| source.lost()),
            jitter: self.source.map_or(0, |source| source.jitter()),
            ..self.counters
        }
    }

    fn skip_late_frames(&mut self, now: Time) {
        let Some(played) = &mut self.tone else {
            return;
        };
        let frame_us = u64::try_from(FRAME.as_micros()).unwrap_or(1);
        let late = u64::try_from(now.since(played.due).as_micros()).unwrap_or(0) / frame_us;
        if late > LATE_FRAMES_MAX {
            played.frames += late;
            played.due = played.due + Duration::from_micros(late * frame_us);
        }
    }

    fn play_frame(
        &mut self,
        mut played: PlayedTone,
        events: &mut Events,
        send: &mut dyn FnMut(SideKey, SocketAddr, &[u8]),
    ) {
        let mut packet = [0; TONE_PACKET_BYTES];
        let (head, samples) = packet.split_at_mut(HEADER_BYTES);
        played.tone.fill(samples);
        let timestamp = (played.frames as u32).wrapping_mul(FRAME_SAMPLES as u32);
        let (sequence, at) = (played.frames, played.due);
        played.frames += 1;
        played.due = played.due + FRAME;
        self.tone = Some(played);
        let Some(to) = self.latch.target().filter(|_| self.sends) else {
            return;
        };
        let placed = self
            .sender
            .place(played.id, sequence, timestamp, at, self.clock_rate);
        let Ok(Placed {
            sequence,
            timestamp,
            is_first,
        }) = placed
        else {
            return;
        };
        if let Ok(head) = head.try_into() {
            let ssrc = self.sender.ssrc();
            rtp::write_header(head, is_first, played.payload, sequence, timestamp, ssrc);
        }
        self.note_sent(packet.len(), events);
        send(self.key, to, &packet);
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

    fn note_sent(&mut self, octets: usize, events: &mut Events) {
        self.counters.packets_out += 1;
        self.counters.octets_out += octets as u64;
        if let Some(sequence_end) = self.sender.wanted_reserve() {
            let timestamp = self.sender.timestamp();
            if tell(
                events,
                self.key,
                MediaEvent::Reserve {
                    sequence_end,
                    timestamp,
                },
            ) {
                self.sender.reserve_asked();
            }
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
