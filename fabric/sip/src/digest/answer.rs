//! The client side: answering a challenge of a gateway we have a password for (RFC 7616 §3.4).
//!
//! In: challenges, user and password, the request's method and URI, cnonce and count. Out: the
//! value of Authorization or Proxy-Authorization. Whether a peer may be answered at all is the
//! caller's decision (threats.md 4): it passes the realm it holds a password for.

use contract::FaultClass;

use super::algorithm::Proof;
use super::challenge::Challenge;
use super::fields::quote;
use super::verify::ha1;

/// What an answer is made from.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The user.
    pub username: &'a str,
    /// The user's password in the challenge's realm.
    pub password: &'a contract::Secret,
    /// The method of the request to be sent.
    pub method: &'a str,
    /// Its Request-URI, as written.
    pub uri: &'a str,
    /// A fresh client nonce: `Entropy::cnonce`.
    pub cnonce: &'a str,
    /// How often this nonce has been used, this time included; 1 for a new nonce.
    pub count: u32,
}

/// Why a challenge is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// A control character in what would become a header value.
    #[error("control character in a value")]
    ControlCharacter,
    /// A count of 0: counts begin with 1.
    #[error("nonce count 0")]
    Count,
}

impl AnswerError {
    /// Returns whose fault it is: the operator's, whose values these are.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Config
    }
}

/// Picks the strongest challenge that can be answered, of one realm.
///
/// In: the values of all WWW-Authenticate or Proxy-Authenticate fields; the realm a password is
/// held for, `None` if it serves any. Out: `None` if no challenge fits; those that cannot be read
/// or want what is not spoken here are passed over. Of equals the first. Source: RFC 8760 §2.4.
#[must_use]
pub fn strongest<'a>(
    values: impl Iterator<Item = &'a str>,
    realm: Option<&str>,
) -> Option<Challenge> {
    let mut best: Option<Challenge> = None;
    for challenge in values.filter_map(|value| Challenge::read(value).ok()) {
        let is_ours = realm.is_none_or(|realm| realm == challenge.realm);
        let is_better = best
            .as_ref()
            .is_none_or(|best| challenge.algorithm > best.algorithm);
        if is_ours && is_better {
            best = Some(challenge);
        }
    }
    best
}

/// Answers a challenge; returns the value of Authorization or Proxy-Authorization.
///
/// Errors: see `AnswerError`.
pub fn answer(challenge: &Challenge, question: &Question<'_>) -> Result<String, AnswerError> {
    if question.count == 0 {
        return Err(AnswerError::Count);
    }
    let algorithm = challenge.algorithm;
    let ha1 = ha1(
        algorithm,
        question.username,
        &challenge.realm,
        question.password.expose(),
    );
    let proof = Proof {
        method: question.method,
        uri: question.uri,
        nonce: &challenge.nonce,
        cnonce: question.cnonce,
        count: question.count,
    };
    let mut value = format!(
        "Digest username={}, realm={}, nonce={}, uri={}, response=\"{}\", algorithm={}, cnonce={}, \
         qop=auth, nc={:08x}",
        quote(question.username),
        quote(&challenge.realm),
        quote(&challenge.nonce),
        quote(question.uri),
        algorithm.response(&ha1, &proof),
        algorithm.as_str(),
        quote(question.cnonce),
        question.count,
    );
    if let Some(opaque) = &challenge.opaque {
        value.push_str(", opaque=");
        value.push_str(&quote(opaque));
    }
    if value.chars().any(char::is_control) {
        return Err(AnswerError::ControlCharacter);
    }
    Ok(value)
}
