//! Nonces that say who made them, when and for whom, and cannot be forged (`architecture.md` §7).
//!
//! In: the cluster's nonce key, time, source, node, lane and 64 random bits. Out: a text; later,
//! what it says. Every node can check every nonce; only the lane that made it knows its counts, so
//! credentials travel there in one hop. Nothing is stored for a nonce until it was used rightly.
//!
//! Octets: time in UTC ms (8), node (2), lane (2), random (8), MAC of the source (8), MAC (16); in
//! hexadecimal. Both MACs are HMAC-SHA-256 cut short, told apart by their first octet. The source
//! has its own so that a phone whose address changed hears `stale` and not "wrong password".

use std::time::Duration;

use contract::{FaultClass, UtcMillis};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::{from_hex, to_hex};

/// How long a nonce lives after it was made.
pub const NONCE_LIFETIME: Duration = Duration::from_secs(60);

/// Makes and checks nonces under the cluster's key.
#[derive(Clone)]
pub struct NonceMaker {
    key: [u8; 32],
}

impl std::fmt::Debug for NonceMaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NonceMaker")
    }
}

/// What a nonce of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NonceInfo {
    /// When it was made, by the clock of its node.
    pub made: UtcMillis,
    /// What tells nonces of one time apart.
    pub random: u64,
    /// The node that made it and counts its uses.
    pub node: u16,
    /// The lane of that node.
    pub lane: u16,
}

/// Why a nonce is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NonceError {
    /// Not made by this cluster.
    #[error("nonce was not made here")]
    Forged,
    /// Older than `NONCE_LIFETIME`, or from a future that clocks do not explain.
    #[error("nonce is too old")]
    Expired,
    /// Made for another address or connection.
    #[error("nonce was made for another source")]
    OtherSource,
}

impl NonceError {
    /// Tells whether the new challenge says `stale=true`: the nonce was good once.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        match self {
            NonceError::Forged => false,
            NonceError::Expired | NonceError::OtherSource => true,
        }
    }

    /// Returns whose fault it is: the peer's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Reject
    }
}

impl NonceMaker {
    /// Takes the key: `FabricKeys::nonces`.
    #[must_use]
    pub const fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// Makes a nonce.
    ///
    /// In: `source` is the peer's address and port for datagrams, its connection for streams, in
    /// whatever text form, always the same one; `random` is drawn from the caller's `Entropy`.
    #[must_use]
    pub fn make(&self, now: UtcMillis, source: &str, lane: u16, node: u16, random: u64) -> String {
        let mut octets = [0; NONCE_OCTETS];
        octets[..8].copy_from_slice(&now.0.to_be_bytes());
        octets[8..10].copy_from_slice(&node.to_be_bytes());
        octets[10..12].copy_from_slice(&lane.to_be_bytes());
        octets[12..20].copy_from_slice(&random.to_be_bytes());
        octets[20..28].copy_from_slice(&self.mac(SOURCE, source.as_bytes())[..8]);
        let mac = self.mac(NONCE, &octets[..SIGNED_OCTETS]);
        octets[SIGNED_OCTETS..].copy_from_slice(&mac[..16]);
        to_hex(&octets)
    }

    /// Checks a nonce and returns what it says.
    ///
    /// Errors: see `NonceError`; `Forged` if in doubt.
    pub fn check(
        &self,
        nonce: &str,
        source: &str,
        now: UtcMillis,
    ) -> Result<NonceInfo, NonceError> {
        let octets = from_hex::<NONCE_OCTETS>(nonce).ok_or(NonceError::Forged)?;
        let (signed, mac) = octets.split_at(SIGNED_OCTETS);
        if !bool::from(self.mac(NONCE, signed)[..16].ct_eq(mac)) {
            return Err(NonceError::Forged);
        }
        let info = read_info(&octets);
        if !bool::from(self.mac(SOURCE, source.as_bytes())[..8].ct_eq(&octets[20..28])) {
            return Err(NonceError::OtherSource);
        }
        if now > info.expiry() || info.made > now.after(NONCE_LIFETIME) {
            return Err(NonceError::Expired);
        }
        Ok(info)
    }

    fn mac(&self, purpose: u8, octets: &[u8]) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of every length");
        mac.update(&[purpose]);
        mac.update(octets);
        mac.finalize().into_bytes().into()
    }
}

impl NonceInfo {
    /// Returns the last moment of its life.
    #[must_use]
    pub fn expiry(&self) -> UtcMillis {
        self.made.after(NONCE_LIFETIME)
    }
}

fn read_info(octets: &[u8; NONCE_OCTETS]) -> NonceInfo {
    let number = |from: usize, to: usize| {
        octets[from..to]
            .iter()
            .fold(0_u64, |sum, octet| sum << 8 | u64::from(*octet))
    };
    let short = |from: usize| u16::from_be_bytes([octets[from], octets[from + 1]]);
    NonceInfo {
        made: UtcMillis(number(0, 8)),
        random: number(12, 20),
        node: short(8),
        lane: short(10),
    }
}

const SIGNED_OCTETS: usize = 28;
const NONCE_OCTETS: usize = SIGNED_OCTETS + 16;

/// First octet of what is signed.
const NONCE: u8 = 1;
const SOURCE: u8 = 2;
