//! Digits that we play to a peer as telephone events (RFC 4733 §2.5.1).
//!
//! In: digits with their length, time. Out: what the next packet says. Each event comes every 20 ms
//! with its duration so far, the marker on the first and one timestamp on all; its end comes three
//! times; 40 ms lie between two events. It knows no numbers of the stream; `leg.rs` gives them.

use std::collections::VecDeque;
use std::time::Duration;

use contract::Time;
use contract::limits::DIGITS_QUEUED_MAX;

use crate::dtmf;

/// Octets of an event's report (RFC 4733 §2.3).
pub(super) const EVENT_BYTES: usize = 4;

/// Packets of an event come this often.
const STEP: Duration = Duration::from_millis(20);
const STEPS_PER_S: u32 = 50;
/// Silence between two events: the shortest that receivers must tell apart (ITU-T Q.24).
const PAUSE: Duration = Duration::from_millis(40);
/// Shortest event that receivers must take (ITU-T Q.24).
const LENGTH_MIN: Duration = Duration::from_millis(40);
/// The end is told so often (RFC 4733 §2.5.1.4).
const ENDS: u8 = 3;
/// Level below 0 dBm0: what phones send.
const VOLUME: u8 = 10;
const END_BIT: u8 = 0x80;
/// Delay after which the rhythm starts anew, so that late packets do not burst.
const LATE_MAX: Duration = Duration::from_millis(100);

/// The next packet of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventPacket {
    /// Counts events: each is a stream of its own to the sender.
    pub(super) event_number: u32,
    /// Number of the packet within the event.
    pub(super) number: u32,
    /// When the event began: its timestamp is of then.
    pub(super) began: Time,
    pub(super) report: [u8; EVENT_BYTES],
}

/// Digits that play, and that wait.
#[derive(Debug, Default)]
pub(super) struct Digits {
    waiting: VecDeque<(u8, Duration)>,
    playing: Option<Playing>,
    events: u32,
    /// The next event may begin from here.
    ready: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Playing {
    event: u8,
    length: Duration,
    began: Time,
    due: Time,
    packets: u32,
    ends: u8,
}

impl Digits {
    /// Takes digits to be played after those that are there; what is none, or does not fit any
    /// more, is left out.
    pub(super) fn add(&mut self, digits: &str, duration: Duration, now: Time) {
        let was_idle = !self.is_active();
        for event in digits.chars().filter_map(dtmf::code) {
            if self.waiting.len() >= DIGITS_QUEUED_MAX {
                break;
            }
            self.waiting.push_back((event, duration.max(LENGTH_MIN)));
        }
        if was_idle {
            self.ready = self.ready.max(Some(now));
        }
    }

    /// Stops at once.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.playing = None;
    }

    /// Tells whether digits take the place of other sound.
    pub(super) fn is_active(&self) -> bool {
        self.playing.is_some() || !self.waiting.is_empty()
    }

    /// Returns when the next packet is to be sent.
    pub(super) fn due(&self) -> Option<Time> {
        match &self.playing {
            Some(playing) => Some(playing.due),
            None if self.waiting.is_empty() => None,
            None => self.ready,
        }
    }

    /// Returns the next packet if it is due. Units: `clock_rate` in hertz.
    pub(super) fn next(&mut self, now: Time, clock_rate: u32) -> Option<EventPacket> {
        let due = self.due().filter(|due| *due <= now)?;
        let due = if now.since(due) > LATE_MAX { now } else { due };
        let mut playing = match self.playing {
            Some(playing) => playing,
            None => self.begin(due)?,
        };
        let step = u64::from((clock_rate / STEPS_PER_S).max(1));
        let total = ticks(playing.length, clock_rate).clamp(step, u64::from(u16::MAX));
        let so_far = (u64::from(playing.packets) + 1) * step;
        let is_end = so_far >= total;
        // At most u16::MAX.
        let duration = so_far.min(total) as u16;
        let [high, low] = duration.to_be_bytes();
        let flags = if is_end { END_BIT | VOLUME } else { VOLUME };
        let packet = EventPacket {
            event_number: self.events,
            number: playing.packets,
            began: playing.began,
            report: [playing.event, flags, high, low],
        };
        playing.packets += 1;
        playing.due = due + STEP;
        playing.ends += u8::from(is_end);
        self.playing = (playing.ends < ENDS).then_some(playing);
        if self.playing.is_none() {
            self.ready = Some(due + PAUSE);
        }
        Some(packet)
    }

    fn begin(&mut self, now: Time) -> Option<Playing> {
        let (event, length) = self.waiting.pop_front()?;
        self.events = self.events.wrapping_add(1);
        Some(Playing {
            event,
            length,
            began: now,
            due: now,
            packets: 0,
            ends: 0,
        })
    }
}

fn ticks(length: Duration, clock_rate: u32) -> u64 {
    let ticks = length.as_micros() * u128::from(clock_rate) / 1_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}
