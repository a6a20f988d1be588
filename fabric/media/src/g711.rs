//! G.711: µ-law and A-law, both ways, exact to ITU-T G.711 (1988).
//!
//! In: octets or samples. Out: samples or octets. Shape: mono, i16; µ-law has 14 significant bits
//! and A-law 13, left-aligned. It keeps no state.

/// One of the two laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// µ-law, payload type 0.
    Mu,
    /// A-law, payload type 8.
    A,
}

/// Samples of the 256 µ-law codes (G.711 tables 2a and 2b, times 4).
const MU_SAMPLES: [i16; 256] = samples_of(Law::Mu);
/// Samples of the 256 A-law codes (G.711 tables 1a and 1b, times 8).
const A_SAMPLES: [i16; 256] = samples_of(Law::A);

impl Law {
    /// Returns the law of a static payload type: 0 or 8.
    #[must_use]
    pub const fn from_payload(payload: u8) -> Option<Law> {
        match payload {
            0 => Some(Law::Mu),
            8 => Some(Law::A),
            _ => None,
        }
    }

    /// Decodes one octet.
    #[must_use]
    pub const fn decode(self, code: u8) -> i16 {
        match self {
            Law::Mu => MU_SAMPLES[code as usize],
            Law::A => A_SAMPLES[code as usize],
        }
    }

    /// Encodes one sample to the nearest code; beyond the largest code it is clipped.
    #[must_use]
    pub const fn encode(self, sample: i16) -> u8 {
        match self {
            Law::Mu => encode_mu(sample),
            Law::A => encode_a(sample),
        }
    }
}

/// µ-law: the magnitude plus 33 has its highest bit at 5 + segment, four bits below are the step.
const fn encode_mu(sample: i16) -> u8 {
    // Negative samples are mirrored about -1/2, so that decision values fall on the same side.
    let mirrored = if sample < 0 { !sample } else { sample };
    let biased = (mirrored as u32 >> 2) + 33;
    let magnitude = if biased > 0x1fff { 0x1fff } else { biased };
    let segment = 26 - magnitude.leading_zeros();
    let step = (magnitude >> (segment + 1)) & 0x0f;
    let code = !((segment << 4 | step) as u8) & 0x7f;
    if sample < 0 { code } else { code | 0x80 }
}

/// A-law: segments 0 and 1 are linear, above each doubles the step; even bits are inverted.
const fn encode_a(sample: i16) -> u8 {
    let mirrored = if sample < 0 { !sample } else { sample };
    let magnitude = mirrored as u32 >> 4;
    let code = if magnitude < 16 {
        magnitude
    } else {
        let segment = 28 - magnitude.leading_zeros();
        segment << 4 | ((magnitude >> (segment - 1)) & 0x0f)
    };
    let code = code as u8 ^ 0x55;
    if sample < 0 { code } else { code | 0x80 }
}

const fn samples_of(law: Law) -> [i16; 256] {
    let mut samples = [0; 256];
    let mut code = 0;
    while code < 256 {
        samples[code] = match law {
            Law::Mu => decode_mu(code as u8),
            Law::A => decode_a(code as u8),
        };
        code += 1;
    }
    samples
}

const fn decode_mu(code: u8) -> i16 {
    let inverted = !code;
    let segment = (inverted >> 4) & 0x07;
    let step = (inverted & 0x0f) as i16;
    let magnitude = ((((step << 1) + 33) << segment) - 33) << 2;
    if inverted & 0x80 != 0 {
        -magnitude
    } else {
        magnitude
    }
}

const fn decode_a(code: u8) -> i16 {
    let plain = code ^ 0x55;
    let segment = (plain >> 4) & 0x07;
    let step = (plain & 0x0f) as i16;
    let magnitude = if segment == 0 {
        (step << 4) + 8
    } else {
        ((step << 4) + 0x108) << (segment - 1)
    };
    if plain & 0x80 != 0 {
        magnitude
    } else {
        -magnitude
    }
}

#[cfg(test)]
#[path = "g711_tests.rs"]
mod tests;
