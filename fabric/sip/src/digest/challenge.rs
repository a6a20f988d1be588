//! Challenges: what a 401 or 407 asks for (RFC 3261 §20.44, RFC 7616 §3.3, RFC 8760 §2.2).
//!
//! In: realm, algorithm and nonce, or a peer's field. Out: a field, or a typed challenge.

use std::fmt;

use super::Algorithm;
use super::fields::{DigestError, Fields, quote};

/// One challenge; `Display` writes the value of WWW-Authenticate or Proxy-Authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// What the password is for.
    pub realm: String,
    /// How to hash.
    pub algorithm: Algorithm,
    /// What to hash with.
    pub nonce: String,
    /// Whether only the nonce was too old: the client tries again without asking its user.
    pub stale: bool,
    /// What the client has to repeat.
    pub opaque: Option<String>,
}

impl Challenge {
    /// Reads a peer's challenge.
    ///
    /// Errors: `BadValue` for an algorithm or a qop that is not spoken here; see `DigestError`.
    pub fn read(value: &str) -> Result<Self, DigestError> {
        let fields = Fields::read(value)?;
        let algorithm = fields.text("algorithm").unwrap_or_else(|| "MD5".to_owned());
        let algorithm = Algorithm::of(&algorithm).ok_or(DigestError::BadValue("algorithm"))?;
        let qop = fields.require("qop")?;
        if !qop
            .split(',')
            .any(|offered| offered.trim().eq_ignore_ascii_case("auth"))
        {
            return Err(DigestError::BadValue("qop"));
        }
        let stale = fields
            .text("stale")
            .is_some_and(|stale| stale.eq_ignore_ascii_case("true"));
        Ok(Self {
            realm: fields.require("realm")?,
            algorithm,
            nonce: fields.require("nonce")?,
            stale,
            opaque: fields.text("opaque"),
        })
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Digest realm={}, nonce={}",
            quote(&self.realm),
            quote(&self.nonce)
        )?;
        if let Some(opaque) = &self.opaque {
            write!(f, ", opaque={}", quote(opaque))?;
        }
        if self.stale {
            f.write_str(", stale=true")?;
        }
        write!(f, ", algorithm={}, qop=\"auth\"", self.algorithm.as_str())
    }
}
