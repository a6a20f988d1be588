//! Keys derived from the cluster's one secret (`cluster.key`) by HKDF-SHA-256 (RFC 5869).

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroize;

use crate::{IdHasher, TokenMaker};

/// The keys of one cluster. Nothing of it is printed.
#[derive(Clone)]
pub struct FabricKeys {
    secret: [u8; 32],
}

impl std::fmt::Debug for FabricKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FabricKeys")
    }
}

impl Drop for FabricKeys {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl FabricKeys {
    /// Takes the 32 octets of `cluster.key`.
    #[must_use]
    pub const fn new(secret: [u8; 32]) -> Self {
        FabricKeys { secret }
    }

    fn derive<const N: usize>(&self, purpose: &[u8]) -> [u8; N] {
        let mut key = [0; N];
        Hkdf::<Sha256>::new(Some(b"weft"), &self.secret)
            .expand(purpose, &mut key)
            .expect("HKDF-SHA-256 gives up to 8160 octets");
        key
    }

    /// Returns the hasher of natural keys.
    #[must_use]
    pub fn ids(&self) -> IdHasher {
        IdHasher::new(self.derive(b"ids"))
    }

    /// Returns the maker of wire tokens.
    #[must_use]
    pub fn tokens(&self) -> TokenMaker {
        TokenMaker::new(self.derive(b"tokens"))
    }

    /// Returns the key with which nodes prove to each other that they are of one cluster.
    #[must_use]
    pub fn peers(&self) -> [u8; 32] {
        self.derive(b"peers")
    }

    /// Returns the key under which gossip is sealed.
    #[must_use]
    pub fn gossip(&self) -> [u8; 32] {
        self.derive(b"gossip")
    }

    /// Returns the key of the certificate of media.
    #[must_use]
    pub fn media(&self) -> [u8; 32] {
        self.derive(b"media")
    }

    /// Returns the key of digest nonces.
    #[must_use]
    pub fn nonces(&self) -> [u8; 32] {
        self.derive(b"nonces")
    }
}
