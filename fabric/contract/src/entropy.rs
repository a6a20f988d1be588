//! Chance, split per actor: one more draw in one actor changes nothing elsewhere.
//!
//! In: a seed from `Env`. Out: numbers, and the named makers of what goes on the wire.

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

/// A cryptographic generator with a position of its own.
#[derive(Clone)]
pub struct Entropy {
    seed: [u8; 32],
    generator: ChaCha12Rng,
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy")
    }
}

impl Entropy {
    /// Starts a generator from a seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Entropy {
            seed,
            generator: ChaCha12Rng::from_seed(seed),
        }
    }

    /// Returns the generator of `label`: the same for the same seed and label, whatever was drawn
    /// here before.
    #[must_use]
    pub fn split(&self, label: &str) -> Entropy {
        let mut hasher = Sha256::new();
        hasher.update(self.seed);
        hasher.update(label.as_bytes());
        Entropy::from_seed(hasher.finalize().into())
    }

    /// Draws 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// Draws 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        self.generator.next_u32()
    }

    /// Draws a number below `bound`; 0 if the bound is 0. The bias is under 2^-32.
    pub fn below(&mut self, bound: u32) -> u32 {
        let wide = u64::from(self.generator.next_u32()) * u64::from(bound);
        u32::try_from(wide >> 32).unwrap_or(0)
    }

    /// Draws 128 bits, as for a call that starts here.
    pub fn next_u128(&mut self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }

    /// Makes a Call-ID: 128 random bits in hexadecimal (threats.md 24).
    pub fn call_id(&mut self) -> String {
        format!("{:032x}", self.next_u128())
    }

    /// Makes a text of `length` ice-chars (RFC 8839 §5.4), 6 random bits each: user fragments and
    /// passwords.
    pub fn ice_text(&mut self, length: usize) -> String {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        (0..length)
            .map(|_| char::from(ALPHABET[(self.next_u32() & 63) as usize]))
            .collect()
    }

    /// Makes a client nonce of digest access authentication (RFC 7616 §3.4): 64 random bits.
    pub fn cnonce(&mut self) -> String {
        format!("{:016x}", self.next_u64())
    }
}
