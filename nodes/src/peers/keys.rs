//! The cluster's secret, and the one before or after it: what proofs and seals are checked with.
//!
//! In: secrets, values of TLS exporters. Out: proofs (HMAC-SHA-256), verdicts, sealing ciphers.
//! To change the secret, every node is first given both with the old one current, then both with the
//! new one current, then the new one alone: at each step neighbours understand each other.

use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use contract::FabricKeys;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Octets of a proof, and of the exporter's value that it is over.
pub(super) const PROOF_BYTES: usize = 32;
/// What proofs are for: no other HMAC under this key reads the same.
const PROOF_LABEL: &[u8] = b"weft peer proof 1";

/// The secrets that count.
#[derive(Clone, Debug)]
pub struct KeyRing {
    /// Proves and seals.
    pub current: FabricKeys,
    /// Believed as well, while the secret is changed.
    pub previous: Option<FabricKeys>,
}

/// Who of the two proves: a proof that is sent back is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The one who dialled.
    Dialler,
    /// The one who was dialled.
    Listener,
}

/// Keys made from a ring. Nothing of it is printed.
pub(super) struct Keys {
    current: Pair,
    previous: Option<Pair>,
}

struct Pair {
    proof: Zeroizing<[u8; 32]>,
    /// Wipes its key itself.
    seal: XChaCha20Poly1305,
}

impl Pair {
    fn of(keys: &FabricKeys) -> Self {
        let seal = Zeroizing::new(keys.gossip());
        Pair {
            proof: Zeroizing::new(keys.peers()),
            seal: XChaCha20Poly1305::new((&*seal).into()),
        }
    }

    fn mac(&self, role: Role, exported: &[u8; PROOF_BYTES]) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&*self.proof)
            .expect("HMAC takes keys of any length");
        mac.update(PROOF_LABEL);
        mac.update(match role {
            Role::Dialler => b"d",
            Role::Listener => b"l",
        });
        mac.update(exported);
        mac
    }
}

impl Keys {
    pub(super) fn of(ring: &KeyRing) -> Self {
        Keys {
            current: Pair::of(&ring.current),
            previous: ring.previous.as_ref().map(Pair::of),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Pair> {
        std::iter::once(&self.current).chain(self.previous.as_ref())
    }

    /// Proves the current secret on one connection.
    pub(super) fn prove(&self, role: Role, exported: &[u8; PROOF_BYTES]) -> [u8; PROOF_BYTES] {
        self.current
            .mac(role, exported)
            .finalize()
            .into_bytes()
            .into()
    }

    /// Tells whether a proof is one, in constant time.
    pub(super) fn believes(&self, role: Role, exported: &[u8; PROOF_BYTES], proof: &[u8]) -> bool {
        self.all()
            .any(|pair| pair.mac(role, exported).verify_slice(proof).is_ok())
    }

    /// Returns the cipher to seal gossip with.
    pub(super) fn seal(&self) -> &XChaCha20Poly1305 {
        &self.current.seal
    }

    /// Returns the ciphers to open gossip with, the current one first.
    pub(super) fn seals(&self) -> impl Iterator<Item = &XChaCha20Poly1305> {
        self.all().map(|pair| &pair.seal)
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
