//! Credentials: what Authorization and Proxy-Authorization hold (RFC 3261 §20.7, RFC 7616 §3.4).
//!
//! In: the value of a field. Out: typed credentials. Whether they are right is `verify`'s business.

use std::fmt;

use super::Algorithm;
use super::fields::{DigestError, Fields};

/// The quality of protection that a client chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qop {
    /// None: the form of RFC 2069.
    Missing,
    /// `auth`.
    Auth,
    /// `auth-int`.
    AuthInt,
    /// Anything else.
    Other,
}

/// One set of credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// What the password is for.
    pub realm: String,
    /// The server's nonce.
    pub nonce: String,
    /// The URI the client asked for, as it wrote it.
    pub uri: String,
    /// The proof, as written.
    pub response: String,
    /// The hash; `None` for one that is not spoken here.
    pub algorithm: Option<Algorithm>,
    /// The client's nonce; empty if there is none.
    pub cnonce: String,
    /// How often the client has used the nonce; 0 if it does not say.
    pub count: u32,
    /// The quality of protection.
    pub qop: Qop,
    /// The server's opaque, if the client repeated it.
    pub opaque: Option<String>,
}

impl Credentials {
    /// Reads the value of an Authorization or Proxy-Authorization field.
    ///
    /// Errors: see `DigestError`. Unknown parameters are ignored.
    pub fn read(value: &str) -> Result<Self, DigestError> {
        let fields = Fields::read(value)?;
        let is_hashed = fields
            .text("userhash")
            .is_some_and(|hashed| hashed.eq_ignore_ascii_case("true"));
        if is_hashed || fields.text("username*").is_some() {
            return Err(DigestError::UserForm);
        }
        let algorithm = fields.text("algorithm").unwrap_or_else(|| "MD5".to_owned());
        let qop = match fields.text("qop").as_deref() {
            None => Qop::Missing,
            Some(qop) if qop.eq_ignore_ascii_case("auth") => Qop::Auth,
            Some(qop) if qop.eq_ignore_ascii_case("auth-int") => Qop::AuthInt,
            Some(_) => Qop::Other,
        };
        let count = fields
            .text("nc")
            .map(|count| read_count(&count))
            .transpose()?;
        Ok(Self {
            username: fields.require("username")?,
            realm: fields.require("realm")?,
            nonce: fields.require("nonce")?,
            uri: fields.require("uri")?,
            response: fields.require("response")?,
            algorithm: Algorithm::of(&algorithm),
            cnonce: fields.text("cnonce").unwrap_or_default(),
            count: count.unwrap_or(0),
            qop,
            opaque: fields.text("opaque"),
        })
    }
}

impl fmt::Debug for Credentials {
    /// Names no user and shows no proof: passwords can be guessed from it (threats.md 29).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Credentials({:?}, {:?}, {:?})",
            self.realm, self.algorithm, self.qop
        )
    }
}

/// Reads `nc`: eight hexadecimal digits (RFC 7616 §3.4).
fn read_count(text: &str) -> Result<u32, DigestError> {
    let octets = super::from_hex::<4>(text).ok_or(DigestError::BadValue("nc"))?;
    Ok(u32::from_be_bytes(octets))
}
