//! A sine tone of a given level, coded for a stream.
//!
//! In: frequency, level, payload type. Out: G.711 octets at 8 kHz, continuous in phase from frame to
//! frame. Levels are dBm0: a sine that just fills the range is +3.17 dBm0 in µ-law and +3.14 dBm0 in
//! A-law (G.711 §5). Other codecs need an encoder and are refused.

use std::f64::consts::TAU;

use contract::FaultClass;

use crate::g711::Law;

/// Samples of a frame of 20 ms at 8 kHz.
pub const FRAME_SAMPLES: usize = 160;

const SAMPLE_RATE_HZ: u32 = 8_000;

/// Levels that can be made: below, less than one step of the code is left.
const LEVELS_DBM0: std::ops::RangeInclusive<i32> = -70..=3;

/// A tone cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToneError {
    /// The payload type is neither 0 (PCMU) nor 8 (PCMA).
    #[error("making a tone: payload type {payload} has no encoder")]
    UnsupportedCodec {
        /// Which one.
        payload: u8,
    },
    /// The frequency is not under half of the sample rate, or the level not in -70..=3 dBm0.
    #[error("making a tone: {hertz} Hz at {level_dbm0} dBm0 is out of range")]
    OutOfRange {
        /// Frequency.
        hertz: u32,
        /// Level.
        level_dbm0: i32,
    },
}

impl ToneError {
    /// Tells whose fault it is: the operator's, whose dial plan asked for it.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Config
    }
}

/// A tone that goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    law: Law,
    amplitude: f64,
    /// Turns of the phase a sample, in 2^-32.
    step: u32,
    phase: u32,
}

impl Tone {
    /// Makes a tone of `hertz` at `level_dbm0` for a payload type.
    ///
    /// # Errors
    /// `UnsupportedCodec`, `OutOfRange`.
    pub fn new(hertz: u32, level_dbm0: i32, payload: u8) -> Result<Tone, ToneError> {
        let law = Law::from_payload(payload).ok_or(ToneError::UnsupportedCodec { payload })?;
        if hertz == 0 || hertz >= SAMPLE_RATE_HZ / 2 || !LEVELS_DBM0.contains(&level_dbm0) {
            return Err(ToneError::OutOfRange { hertz, level_dbm0 });
        }
        // Virtual decision value (8159 and 4096 on the laws' own scales), and the level of a sine with
        // that peak.
        let (peak, peak_centibels) = match law {
            Law::Mu => (32_636.0, 317),
            Law::A => (32_768.0, 314),
        };
        let below_peak = f64::from(peak_centibels - level_dbm0 * 100) / 100.0;
        let amplitude = peak * 10_f64.powf(-below_peak / 20.0);
        let step = ((u64::from(hertz) << 32) / u64::from(SAMPLE_RATE_HZ)) as u32;
        Ok(Tone {
            law,
            amplitude,
            step,
            phase: 0,
        })
    }

    /// Writes the next samples, one octet each.
    pub fn fill(&mut self, frame: &mut [u8]) {
        for octet in frame {
            let angle = f64::from(self.phase) / 4_294_967_296.0 * TAU;
            let sample = (self.amplitude * angle.sin()).round() as i16;
            *octet = self.law.encode(sample);
            self.phase = self.phase.wrapping_add(self.step);
        }
    }
}

#[cfg(test)]
#[path = "tone_tests.rs"]
mod tests;
