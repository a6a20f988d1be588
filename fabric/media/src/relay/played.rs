//! The tone that a leg plays: its frames and their rhythm.
//!
//! In: the route, time. Out: which frame is due. `leg.rs` gives frames their numbers and sends them.

use std::time::Duration;

use contract::{MediaRoute, Time};

use super::sender::{Origin, StreamId};
use crate::tone::{Tone, ToneError};

/// Length of a tone frame.
const FRAME: Duration = Duration::from_millis(20);
/// Frames that are sent late at most; more are left out, as if they had been lost.
const LATE_FRAMES_MAX: u64 = 5;

/// A tone that plays.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlayedTone {
    pub(super) route: MediaRoute,
    pub(super) tone: Tone,
    pub(super) payload: u8,
    pub(super) frames: u64,
    pub(super) due: Time,
    pub(super) id: StreamId,
}

impl PlayedTone {
    /// Begins the tone of a route, the leg's `number`th; `None` if the route has none.
    ///
    /// # Errors
    /// `ToneError` if it cannot be made.
    pub(super) fn begin(
        route: MediaRoute,
        number: u32,
        now: Time,
    ) -> Result<Option<Self>, ToneError> {
        let (tone, payload) = match route {
            MediaRoute::Tone {
                hertz,
                level_dbm0,
                payload,
            } => (Tone::new(hertz, level_dbm0, payload)?, payload),
            MediaRoute::RingBack { payload } => (Tone::ring_back(payload)?, payload),
            MediaRoute::Parked { payload } => (Tone::parked(payload)?, payload),
            MediaRoute::Relay(_) | MediaRoute::Echo | MediaRoute::Drop => return Ok(None),
        };
        Ok(Some(PlayedTone {
            route,
            tone,
            payload,
            frames: 0,
            due: now,
            id: StreamId {
                origin: Origin::Tone,
                restarts: number,
            },
        }))
    }

    /// Leaves frames out that are too late.
    pub(super) fn skip_late(&mut self, now: Time) {
        let frame_us = u64::try_from(FRAME.as_micros()).unwrap_or(1);
        let late = u64::try_from(now.since(self.due).as_micros()).unwrap_or(0) / frame_us;
        if late > LATE_FRAMES_MAX {
            self.frames += late;
            self.due = self.due + Duration::from_micros(late * frame_us);
        }
    }

    /// Goes on to the next frame.
    pub(super) fn advance(&mut self) {
        self.frames += 1;
        self.due = self.due + FRAME;
    }
}
