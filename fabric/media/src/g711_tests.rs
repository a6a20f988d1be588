//! Every one of the 65,536 samples and 256 codes of both laws, against the tables of ITU-T G.711.

use super::*;

/// G.711 tables 2a and 1a, column 6 and 5: the decision values between segments, at full 16 bits,
/// with the step of the segment below each.
const MU_SEGMENTS: [(i32, i32); 8] = [
    (31 * 4, 2 * 4),
    (95 * 4, 4 * 4),
    (223 * 4, 8 * 4),
    (479 * 4, 16 * 4),
    (991 * 4, 32 * 4),
    (2_015 * 4, 64 * 4),
    (4_063 * 4, 128 * 4),
    (8_159 * 4, 256 * 4),
];
const A_SEGMENTS: [(i32, i32); 7] = [
    (64 * 8, 2 * 8),
    (128 * 8, 4 * 8),
    (256 * 8, 8 * 8),
    (512 * 8, 16 * 8),
    (1_024 * 8, 32 * 8),
    (2_048 * 8, 64 * 8),
    (4_096 * 8, 128 * 8),
];

fn step(segments: &[(i32, i32)], magnitude: i32) -> i32 {
    segments
        .iter()
        .find(|(end, _)| magnitude < *end)
        .map_or(0, |(_, step)| *step)
}

#[test]
fn all_samples_come_back_within_half_a_step() {
    let mut cases = 0;
    for (law, segments, clip) in [
        (Law::Mu, &MU_SEGMENTS[..], 8_159 * 4),
        (Law::A, &A_SEGMENTS[..], 32_768),
    ] {
        for sample in i16::MIN..=i16::MAX {
            let back = i32::from(law.decode(law.encode(sample)));
            let exact = i32::from(sample);
            let magnitude = if exact < 0 { -exact - 1 } else { exact };
            if magnitude >= clip {
                assert_eq!(back.abs(), 32_124, "{law:?} {sample}");
            } else {
                // Negative decision values are one sample off: mirrored about -1/2.
                let bound = step(segments, magnitude) / 2 + i32::from(exact < 0);
                assert!((back - exact).abs() <= bound, "{law:?} {sample}: {back}");
            }
            cases += 1;
        }
    }
    assert_eq!(cases, 2 * 65_536);
}

#[test]
fn encoding_is_monotonic_and_symmetric() {
    for law in [Law::Mu, Law::A] {
        let mut former = i16::MIN;
        for sample in i16::MIN..=i16::MAX {
            let back = law.decode(law.encode(sample));
            assert!(back >= former, "{law:?} {sample}");
            former = back;
            assert_eq!(
                law.encode(sample) ^ 0x80,
                law.encode(!sample),
                "{law:?} {sample}"
            );
        }
    }
}

#[test]
fn all_codes_come_back() {
    for law in [Law::Mu, Law::A] {
        for code in 0..=u8::MAX {
            let again = law.encode(law.decode(code));
            // µ-law has two zeroes; the positive one is sent.
            let expected = if law == Law::Mu && code == 0x7f {
                0xff
            } else {
                code
            };
            assert_eq!(again, expected, "{law:?} {code:#x}");
        }
    }
}

#[test]
fn character_signals_are_those_of_the_recommendation() {
    // Code, sample: the ends of segments in G.711 tables 1a, 1b, 2a, 2b.
    let mu = [
        (0xff, 0),
        (0x7f, 0),
        (0xfe, 8),
        (0xef, 132),
        (0x80, 32_124),
        (0x00, -32_124),
        (0x8f, 16_764),
    ];
    let a = [
        (0xd5, 8),
        (0x55, -8),
        (0xc5, 264),
        (0xaa, 32_256),
        (0x2a, -32_256),
        (0xba, 16_128),
    ];
    for (law, table) in [(Law::Mu, &mu[..]), (Law::A, &a[..])] {
        for (code, sample) in table {
            assert_eq!(law.decode(*code), *sample, "{law:?} {code:#x}");
        }
    }
    // G.711 tables 5 and 6: the periodic sequence of a 1 kHz sine at 0 dBm0 uses these codes.
    for code in [0x1e, 0x0b, 0x8b, 0x9e] {
        assert_eq!(Law::Mu.encode(Law::Mu.decode(code)), code);
    }
    assert_eq!(
        [0, 8, 9].map(Law::from_payload),
        [Some(Law::Mu), Some(Law::A), None]
    );
}

#[test]
fn the_standard_sine_is_0_dbm0() {
    // G.711 tables 5 and 6: one period of 1 kHz. Both give the power that our levels assume.
    let mu = [0x1e, 0x0b, 0x0b, 0x1e, 0x9e, 0x8b, 0x8b, 0x9e];
    let a = [0x34, 0x21, 0x21, 0x34, 0xb4, 0xa1, 0xa1, 0xb4];
    for (law, codes, peak, centibels) in
        [(Law::Mu, mu, 32_636.0, 317.0), (Law::A, a, 32_768.0, 314.0)]
    {
        let power: f64 = codes
            .iter()
            .map(|code| f64::from(law.decode(*code)).powi(2))
            .sum();
        let rms = (power / 8.0).sqrt();
        let level = 20.0 * (rms * 2_f64.sqrt() / peak).log10() + centibels / 100.0;
        assert!(level.abs() < 0.01, "{law:?}: {level} dBm0");
    }
}
