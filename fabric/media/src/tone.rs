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

/// Frequencies and level of ring-back, each, and its rhythm in samples: what callers in North America
/// hear, and callers elsewhere know (ITU-T E.180 §4).
const RING_BACK_HERTZ: [u32; 2] = [440, 480];
const RING_BACK_DBM0: i32 = -19;
const RING_BACK_RHYTHM: Rhythm = Rhythm {
    sound: 2 * SAMPLE_RATE_HZ,
    whole: 6 * SAMPLE_RATE_HZ,
};

/// What a parked party hears, so that it knows that the line is up: 0.2 s in 10 s, well below speech.
const PARKED_HERTZ: u32 = 440;
const PARKED_DBM0: i32 = -30;
const PARKED_RHYTHM: Rhythm = Rhythm {
    sound: SAMPLE_RATE_HZ / 5,
    whole: 10 * SAMPLE_RATE_HZ,
};

/// Sound and silence in turn, in samples.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rhythm {
    sound: u32,
    whole: u32,
}

/// A tone that goes on: one sine or two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    law: Law,
    amplitude: f64,
    /// Turns of each phase a sample, in 2^-32; the second may stand still.
    steps: [u32; 2],
    phases: [u32; 2],
    rhythm: Option<Rhythm>,
    /// Samples since the rhythm began.
    at: u32,
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
        Ok(Tone {
            law,
            amplitude,
            steps: [step(hertz), 0],
            phases: [0; 2],
            rhythm: None,
            at: 0,
        })
    }

    /// Makes ring-back for a payload type.
    ///
    /// # Errors
    /// `UnsupportedCodec`.
    pub fn ring_back(payload: u8) -> Result<Tone, ToneError> {
        let [low, high] = RING_BACK_HERTZ;
        Ok(Tone {
            steps: [step(low), step(high)],
            rhythm: Some(RING_BACK_RHYTHM),
            ..Tone::new(low, RING_BACK_DBM0, payload)?
        })
    }

    /// Makes what a parked party hears, for a payload type.
    ///
    /// # Errors
    /// `UnsupportedCodec`.
    pub fn parked(payload: u8) -> Result<Tone, ToneError> {
        Ok(Tone {
            rhythm: Some(PARKED_RHYTHM),
            ..Tone::new(PARKED_HERTZ, PARKED_DBM0, payload)?
        })
    }

    /// Writes the next samples, one octet each.
    pub fn fill(&mut self, frame: &mut [u8]) {
        for octet in frame {
            *octet = self.law.encode(self.sample());
        }
    }

    fn sample(&mut self) -> i16 {
        let is_sound = self.rhythm.is_none_or(|rhythm| self.at < rhythm.sound);
        if let Some(rhythm) = self.rhythm {
            self.at = (self.at + 1) % rhythm.whole;
        }
        if !is_sound {
            return 0;
        }
        let sines = self
            .phases
            .map(|phase| (f64::from(phase) / 4_294_967_296.0 * TAU).sin());
        for (phase, step) in self.phases.iter_mut().zip(self.steps) {
            *phase = phase.wrapping_add(step);
        }
        (self.amplitude * (sines[0] + sines[1])).round() as i16
    }
}

/// Returns the turns of a phase a sample, in 2^-32.
fn step(hertz: u32) -> u32 {
    ((u64::from(hertz) << 32) / u64::from(SAMPLE_RATE_HZ)) as u32
}

#[cfg(test)]
#[path = "tone_tests.rs"]
mod tests;
