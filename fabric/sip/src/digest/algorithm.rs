//! The hash algorithms of digest (RFC 7616 §3.2, RFC 8760 §2.1).
//!
//! In: text pieces. Out: their hash in hexadecimal. The `-sess` variants are not spoken.

use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512_256};

use super::to_hex;

/// A hash algorithm; a greater one is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// `MD5`: all that most phones know.
    Md5,
    /// `SHA-256`.
    Sha256,
    /// `SHA-512-256`: SHA-512/256 of FIPS 180-4, not SHA-512 cut short.
    Sha512_256,
}

impl Algorithm {
    /// Returns the name as written on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha512_256 => "SHA-512-256",
        }
    }

    /// Returns the algorithm of a name in any case; `None` for those not spoken here.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256]
            .into_iter()
            .find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name))
    }

    /// Returns the hash of the pieces joined by colons, in lower-case hexadecimal.
    pub(super) fn hash(self, pieces: &[&str]) -> String {
        #[cfg(test)]
        super::tests::count_hash();
        match self {
            Algorithm::Md5 => to_hex(&joined::<Md5>(pieces)),
            Algorithm::Sha256 => to_hex(&joined::<Sha256>(pieces)),
            Algorithm::Sha512_256 => to_hex(&joined::<Sha512_256>(pieces)),
        }
    }

    /// Returns the response of RFC 7616 §3.4.1 with qop=auth: `H(HA1:nonce:nc:cnonce:auth:HA2)`.
    pub(super) fn response(self, ha1: &str, proof: &Proof<'_>) -> String {
        let ha2 = self.hash(&[proof.method, proof.uri]);
        let count = format!("{:08x}", proof.count);
        self.hash(&[ha1, proof.nonce, &count, proof.cnonce, "auth", &ha2])
    }
}

/// What a response proves besides the password.
pub(super) struct Proof<'a> {
    pub(super) method: &'a str,
    pub(super) uri: &'a str,
    pub(super) nonce: &'a str,
    pub(super) cnonce: &'a str,
    pub(super) count: u32,
}

fn joined<D: Digest>(pieces: &[&str]) -> Vec<u8> {
    let mut hasher = D::new();
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            hasher.update(b":");
        }
        hasher.update(piece.as_bytes());
    }
    hasher.finalize().to_vec()
}
