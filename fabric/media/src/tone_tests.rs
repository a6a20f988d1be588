//! Tones measured with Goertzel's filter on the decoded octets.

use super::*;

/// Returns the amplitude of one frequency in samples at 8 kHz.
fn goertzel(samples: &[f64], hertz: f64) -> f64 {
    let coefficient = 2.0 * (TAU * hertz / 8_000.0).cos();
    let (mut one, mut two) = (0.0, 0.0);
    for sample in samples {
        (one, two) = (sample + coefficient * one - two, one);
    }
    let power = one * one + two * two - coefficient * one * two;
    power.max(0.0).sqrt() * 2.0 / samples.len() as f64
}

/// Returns two seconds of a tone, made frame by frame: whole periods of every whole frequency.
fn samples(hertz: u32, level_dbm0: i32, payload: u8) -> Vec<f64> {
    let mut tone = Tone::new(hertz, level_dbm0, payload).expect("in range");
    let law = Law::from_payload(payload).expect("a law");
    let mut samples = Vec::new();
    for _ in 0..100 {
        let mut frame = [0; FRAME_SAMPLES];
        tone.fill(&mut frame);
        samples.extend(frame.map(|code| f64::from(law.decode(code))));
    }
    samples
}

#[test]
fn frequency_and_level_are_as_asked() {
    for (payload, peak, centibels) in [(0, 32_636.0, 317), (8, 32_768.0, 314)] {
        for hertz in [204, 440, 1_004, 2_804, 3_404] {
            for level in [0, -10, -20, -40] {
                let samples = samples(hertz, level, payload);
                let amplitude = goertzel(&samples, f64::from(hertz));
                let measured = 20.0 * (amplitude / peak).log10() + f64::from(centibels) / 100.0;
                let error = (measured - f64::from(level)).abs();
                assert!(
                    error < 0.3,
                    "payload {payload}, {hertz} Hz, {level}: {measured} dBm0"
                );
                for off in [-5.0, 5.0] {
                    let beside = goertzel(&samples, f64::from(hertz) + off);
                    assert!(beside < amplitude / 50.0, "{hertz} Hz leaks by {off} Hz");
                }
            }
        }
    }
}

#[test]
fn frames_join_without_a_step_in_phase() {
    let mut whole = Tone::new(1_004, -10, 0).expect("in range");
    let mut parts = whole;
    let (mut one, mut many) = ([0; 480], [0; 480]);
    whole.fill(&mut one);
    for frame in many.chunks_mut(FRAME_SAMPLES) {
        parts.fill(frame);
    }
    assert_eq!(one, many);
}

#[test]
fn what_cannot_be_made_is_refused() {
    for payload in [9, 10, 11, 96, 101] {
        assert_eq!(
            Tone::new(1_004, 0, payload),
            Err(ToneError::UnsupportedCodec { payload })
        );
    }
    for (hertz, level_dbm0) in [
        (0, 0),
        (4_000, 0),
        (u32::MAX, 0),
        (1_004, 4),
        (1_004, i32::MIN),
    ] {
        let error = ToneError::OutOfRange { hertz, level_dbm0 };
        assert_eq!(Tone::new(hertz, level_dbm0, 0), Err(error));
        assert_eq!(error.class(), FaultClass::Config);
    }
    assert!(Tone::new(1_004, 3, 0).is_ok());
}
