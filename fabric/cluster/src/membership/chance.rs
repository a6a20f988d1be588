//! Our seeded generator behind the trait that foca draws from.
//!
//! In: an [`Entropy`]. Out: the same draws, as `rand_core` 0.10 names them.

use std::convert::Infallible;

use contract::Entropy;
use rand_core_foca::TryRng;

/// The generator that foca owns: a split of the node's, so that both stay repeatable.
pub(super) struct Chance(pub(super) Entropy);

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, octets: &mut [u8]) -> Result<(), Infallible> {
        for chunk in octets.chunks_mut(8) {
            let drawn = self.0.next_u64().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
        Ok(())
    }
}
