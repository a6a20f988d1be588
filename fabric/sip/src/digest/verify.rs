//! Whether credentials prove a password (RFC 7616 §3.4.1).
//!
//! In: credentials, realm, method and what is known of the user. Out: a verdict. Every call with
//! credentials of an algorithm spoken here costs three hashes, whether the user is known by
//! password, by HA1 or not at all, and the comparison takes the same time wherever the texts
//! differ: nobody can tell from outside which users there are (threats.md 6). Nonce and count are
//! checked elsewhere.

use contract::FaultClass;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::algorithm::{Algorithm, Proof};
use super::credentials::{Credentials, Qop};
use super::from_hex;

/// What is known of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Secret {
    /// The password: serves every realm and algorithm.
    Password(contract::Secret),
    /// The hash of user, realm and password: serves one realm and one algorithm.
    Ha1 {
        /// The algorithm it was made with.
        algorithm: Algorithm,
        /// The hash in hexadecimal.
        ha1: contract::Secret,
    },
}

/// Why credentials are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No qop, or none but `auth-int`: replays could not be told.
    #[error("qop is not auth")]
    Qop,
    /// An algorithm that is not spoken here.
    #[error("algorithm is not spoken")]
    Algorithm,
    /// The credentials are for another realm.
    #[error("other realm")]
    Realm,
    /// No cnonce, or a count of 0.
    #[error("no cnonce or nonce count")]
    Count,
    /// The user is unknown or the password wrong; which, nobody is told.
    #[error("wrong credentials")]
    Wrong,
}

impl Refused {
    /// Returns whose fault it is: the peer's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Reject
    }
}

/// Returns HA1: the hash of user, realm and password, in hexadecimal.
#[must_use]
pub fn ha1(algorithm: Algorithm, username: &str, realm: &str, password: &str) -> String {
    algorithm.hash(&[username, realm, password])
}

/// Checks the credentials of a known user.
///
/// In: the realm we asked for, the method of the request. Errors: `Refused`; only `Wrong` depends
/// on the secret.
pub fn verify(
    credentials: &Credentials,
    realm: &str,
    method: &str,
    secret: &Secret,
) -> Result<(), Refused> {
    check(credentials, realm, method, Some(secret))
}

/// Does the work of `verify` for a user that does not exist.
///
/// Errors: always one, the same as a known user's wrong password would give.
pub fn verify_unknown(credentials: &Credentials, realm: &str, method: &str) -> Result<(), Refused> {
    check(credentials, realm, method, None)
}

fn check(
    credentials: &Credentials,
    realm: &str,
    method: &str,
    secret: Option<&Secret>,
) -> Result<(), Refused> {
    let algorithm = credentials.algorithm.ok_or(Refused::Algorithm)?;
    match credentials.qop {
        Qop::Auth => {}
        Qop::Missing | Qop::AuthInt | Qop::Other => return Err(Refused::Qop),
    }
    if credentials.realm != realm {
        return Err(Refused::Realm);
    }
    if credentials.count == 0 || credentials.cnonce.is_empty() {
        return Err(Refused::Count);
    }
    let (ha1, is_usable) = ha1_of(credentials, algorithm, secret);
    let proof = Proof {
        method,
        uri: &credentials.uri,
        nonce: &credentials.nonce,
        cnonce: &credentials.cnonce,
        count: credentials.count,
    };
    let expected = algorithm.response(&ha1, &proof);
    let is_right = is_same(algorithm, &expected, &credentials.response);
    if is_right & is_usable {
        Ok(())
    } else {
        Err(Refused::Wrong)
    }
}

/// Returns HA1 and whether it is real, at the cost of one hash in any case.
fn ha1_of(
    credentials: &Credentials,
    algorithm: Algorithm,
    secret: Option<&Secret>,
) -> (String, bool) {
    let password = match secret {
        Some(Secret::Password(password)) => password.expose(),
        Some(Secret::Ha1 { .. }) | None => NO_PASSWORD,
    };
    let made = ha1(
        algorithm,
        &credentials.username,
        &credentials.realm,
        password,
    );
    match secret {
        Some(Secret::Password(_)) => (made, true),
        Some(Secret::Ha1 {
            algorithm: own,
            ha1,
        }) => (ha1.expose().to_ascii_lowercase(), *own == algorithm),
        None => (made, false),
    }
}

/// Compares two hashes in hexadecimal in constant time; the peer's may be in either case.
fn is_same(algorithm: Algorithm, expected: &str, given: &str) -> bool {
    match algorithm {
        Algorithm::Md5 => is_same_octets::<16>(expected, given),
        Algorithm::Sha256 | Algorithm::Sha512_256 => is_same_octets::<32>(expected, given),
    }
}

fn is_same_octets<const N: usize>(expected: &str, given: &str) -> bool {
    match (from_hex::<N>(expected), from_hex::<N>(given)) {
        (Some(expected), Some(given)) => bool::from(expected.ct_eq(&given)),
        (Some(_) | None, None) | (None, Some(_)) => false,
    }
}

/// Hashed in place of a password that is not there; never compared as if it were one.
const NO_PASSWORD: &str = "0123456789ab";
