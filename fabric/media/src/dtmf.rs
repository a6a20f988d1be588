//! Telephone events (RFC 4733): each told once when it starts and once when it ends.
//!
//! In: timestamp and payload of packets of the event payload type, time. Out: `DtmfChange`s. Each
//! event comes in many packets, its end in three; lost, doubled and late ones change nothing. It
//! does not send events.
//!
//! | state | packet | out | next |
//! |---|---|---|---|
//! | idle or ended | newer timestamp | `Started`, also `Ended` if its end bit is set | active or ended |
//! | active | same timestamp | `Ended` if its end bit is set | active or ended |
//! | active | next segment of the same long event (§2.5.1.3) | none | active |
//! | active | newer timestamp | `Ended` of the old, then as for idle | active or ended |
//! | any | older timestamp, or same after the end | none | same |
//! | active | none for 200 ms | `Ended` | ended |

use std::time::Duration;

use contract::Time;

/// Silence after which an event whose end was lost counts as ended (RFC 4733 §2.6.2 leaves the time
/// open; senders repeat every 20 to 50 ms).
const END_LOST_AFTER: Duration = Duration::from_millis(200);

/// One packet's report of an event (RFC 4733 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// Event code; 0..=15 are the digits.
    pub event: u8,
    /// The event is over.
    pub is_end: bool,
    /// Level, 0..=63 below 0 dBm0.
    pub volume: u8,
    /// Duration so far, in clock ticks.
    pub duration: u16,
}

impl TelephoneEvent {
    /// Reads the first event of a payload; `None` if it is shorter than four octets.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<TelephoneEvent> {
        let [event, flags, high, low, ..] = payload else {
            return None;
        };
        Some(TelephoneEvent {
            event: *event,
            is_end: flags & 0x80 != 0,
            volume: flags & 0x3f,
            duration: u16::from_be_bytes([*high, *low]),
        })
    }
}

/// Returns the digit of an event code: `0`–`9`, `*`, `#`, `A`–`D` (RFC 4733 §3.2).
#[must_use]
pub fn digit(event: u8) -> Option<char> {
    const DIGITS: &[u8; 16] = b"0123456789*#ABCD";
    DIGITS
        .get(usize::from(event))
        .map(|digit| char::from(*digit))
}

/// Returns the event code of a digit; `None` if it is none.
#[must_use]
pub fn code(digit: char) -> Option<u8> {
    (0..16).find(|event| self::digit(*event) == Some(digit.to_ascii_uppercase()))
}

/// A change in what a peer presses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtmfChange {
    /// An event began.
    Started {
        /// Event code.
        event: u8,
    },
    /// It ended.
    Ended {
        /// Event code.
        event: u8,
        /// Whole duration in clock ticks; the largest number if it is longer.
        duration: u16,
    },
}

/// At most the end of one event and start and end of the next.
pub type DtmfChanges = [Option<DtmfChange>; 3];

/// Follows the events of one peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct DtmfReader {
    current: Option<Current>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    event: u8,
    /// Timestamp of the segment.
    timestamp: u32,
    /// Ticks of earlier segments.
    earlier: u32,
    duration: u16,
    is_ended: bool,
    heard: Time,
}

impl Current {
    fn total(&self) -> u16 {
        let total = self.earlier.saturating_add(u32::from(self.duration));
        u16::try_from(total).unwrap_or(u16::MAX)
    }

    fn end(&mut self) -> Option<DtmfChange> {
        if self.is_ended {
            return None;
        }
        self.is_ended = true;
        Some(DtmfChange::Ended {
            event: self.event,
            duration: self.total(),
        })
    }
}

impl DtmfReader {
    /// Takes the payload of a packet of the event payload type.
    pub fn on_packet(&mut self, timestamp: u32, payload: &[u8], now: Time) -> DtmfChanges {
        let Some(report) = TelephoneEvent::read(payload) else {
            return [None; 3];
        };
        let Some(current) = &mut self.current else {
            return self.start(report, timestamp, now, None);
        };
        let ahead = timestamp.wrapping_sub(current.timestamp);
        if ahead == 0 && report.event == current.event {
            current.heard = now;
            current.duration = current.duration.max(report.duration);
            let end = if report.is_end { current.end() } else { None };
            return [end, None, None];
        }
        if ahead == 0 || ahead > u32::MAX / 2 {
            return [None; 3];
        }
        let is_next_segment = !current.is_ended
            && report.event == current.event
            && current.duration == u16::MAX
            && ahead == u32::from(u16::MAX);
        if is_next_segment {
            current.earlier = current.earlier.saturating_add(u32::from(u16::MAX));
            current.timestamp = timestamp;
            current.duration = report.duration;
            current.heard = now;
            let end = if report.is_end { current.end() } else { None };
            return [end, None, None];
        }
        let ended = current.end();
        self.start(report, timestamp, now, ended)
    }

    /// Returns when an event whose end was lost is to be ended.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let current = self.current.filter(|current| !current.is_ended)?;
        Some(current.heard + END_LOST_AFTER)
    }

    /// Ends an event that has not been heard for 200 ms.
    pub fn on_time(&mut self, now: Time) -> Option<DtmfChange> {
        self.deadline().filter(|due| *due <= now)?;
        self.current.as_mut().and_then(Current::end)
    }

    /// Ends what is active and forgets timestamps: the peer's source has changed.
    pub fn reset(&mut self) -> Option<DtmfChange> {
        let ended = self.current.as_mut().and_then(Current::end);
        self.current = None;
        ended
    }

    fn start(
        &mut self,
        report: TelephoneEvent,
        timestamp: u32,
        now: Time,
        ended: Option<DtmfChange>,
    ) -> DtmfChanges {
        let mut current = Current {
            event: report.event,
            timestamp,
            earlier: 0,
            duration: report.duration,
            is_ended: false,
            heard: now,
        };
        let started = Some(DtmfChange::Started {
            event: report.event,
        });
        let end = if report.is_end { current.end() } else { None };
        self.current = Some(current);
        [ended, started, end]
    }
}

#[cfg(test)]
#[path = "dtmf_tests.rs"]
mod tests;
