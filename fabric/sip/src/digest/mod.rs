//! Digest access authentication, both sides (RFC 3261 §22, RFC 7616, RFC 8760).
//!
//! In: challenges and credentials as text, passwords or HA1, nonces with key and time handed in.
//! Out: verdicts, challenges, answers. Only `qop=auth` is spoken: `auth-int` and the form without
//! qop (RFC 2069) are refused, since the one breaks at B2BUAs and the other cannot tell a replay.
//!
//! A server checks in this order: `NonceMaker::check` (whose nonce, how old, from where), `verify`
//! (or `verify_unknown`), `NonceCounts::accept` at the lane that made the nonce. The count comes
//! last so that only those who know a password fill the table.

mod algorithm;
mod answer;
mod challenge;
mod counts;
mod credentials;
mod fields;
mod nonce;
mod verify;

pub use algorithm::Algorithm;
pub use answer::{AnswerError, Question, answer, strongest};
pub use challenge::Challenge;
pub use counts::{CountError, NonceCounts};
pub use credentials::{Credentials, Qop};
pub use fields::DigestError;
pub use nonce::{NONCE_LIFETIME, NonceError, NonceInfo, NonceMaker};
pub use verify::{Refused, Secret, ha1, verify, verify_unknown};

/// Writes octets in lower-case hexadecimal.
pub(crate) fn to_hex(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len() * 2);
    for octet in octets {
        for half in [octet >> 4, octet & 15] {
            text.push(char::from(DIGITS[usize::from(half)]));
        }
    }
    text
}

/// Reads hexadecimal of either case; `None` if it is anything else or not `N` octets.
fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut octets = [0; N];
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *octet = u8::try_from(high * 16 + low).ok()?;
    }
    Some(octets)
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests;
