//! Text that may stand in an SDP line: checked once when made, so that no writer can be tricked.
//!
//! In: untrusted strings, also from snapshots. Out: values without line ends or controls. A value
//! that would start a line of its own cannot exist (threats.md 10 and 22).

use std::fmt;

use contract::limits::SDP_LINE_BYTES_MAX;
use contract::{FaultClass, Secret};
use serde::{Deserialize, Serialize};

/// A string is not allowed where it was to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reading SDP {what}: a character or the length is not allowed")]
pub struct TextError {
    /// Which kind of text was to be made.
    pub what: &'static str,
}

impl TextError {
    /// Tells whose fault it is: the peer's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Reject
    }
}

/// Longest value, so that a line with its name fits the limit of a line.
const VALUE_BYTES_MAX: usize = SDP_LINE_BYTES_MAX - 128;

macro_rules! checked_text {
    ($name:ident, $what:literal, $check:path, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks and takes a string.
            ///
            /// # Errors
            /// `TextError` if it is too long or a character is not allowed.
            pub fn new(text: &str) -> Result<Self, TextError> {
                if text.len() <= VALUE_BYTES_MAX && $check(text) {
                    Ok($name(text.into()))
                } else {
                    Err(TextError { what: $what })
                }
            }

            /// Returns the string.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = TextError;

            fn try_from(text: String) -> Result<Self, TextError> {
                $name::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

checked_text!(
    Token,
    "token",
    is_token,
    "A token: the name of an attribute, codec or media kind (RFC 8866 §9, `token`)."
);
checked_text!(
    Word,
    "word",
    is_word,
    "Visible ASCII without a space: a user name, protocol or format (RFC 8866 §9, `non-ws-string`)."
);
checked_text!(
    Text,
    "text",
    is_text,
    "The rest of a line: UTF-8 without controls and without any character that ends a line."
);
checked_text!(
    HostName,
    "host name",
    is_host_name,
    "A name in place of an address: letters, digits, `.`, `-`, `_`; never resolved here."
);

impl Token {
    /// Tells whether the token is `name`, in any case of letters.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }
}

/// A password or key in an SDP value: checked like `Text`, never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Secret", into = "Secret")]
pub struct SecretText(Secret);

impl SecretText {
    /// Checks and takes a secret string without spaces.
    ///
    /// # Errors
    /// `TextError` if it is too long or a character is not allowed.
    pub fn new(text: &str) -> Result<Self, TextError> {
        if text.len() <= VALUE_BYTES_MAX && is_text(text) && !text.is_empty() {
            Ok(SecretText(Secret::new(text)))
        } else {
            Err(TextError { what: "secret" })
        }
    }

    /// Gives the string to the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl TryFrom<Secret> for SecretText {
    type Error = TextError;

    fn try_from(secret: Secret) -> Result<Self, TextError> {
        SecretText::new(secret.expose())
    }
}

impl From<SecretText> for Secret {
    fn from(text: SecretText) -> Secret {
        text.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_octet)
}

/// RFC 8866 §9 `token-char`: visible ASCII but `"(),/:;<=>?@[\]`.
fn is_token_octet(octet: u8) -> bool {
    octet.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]".contains(&octet)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_graphic())
}

/// No controls at all, so no CR, LF or NUL; also none of the line ends of Unicode (U+0085 is a
/// control, U+2028 and U+2029 are not). Outer spaces are refused because a reader trims them.
fn is_text(text: &str) -> bool {
    text.trim() == text
        && text
            .chars()
            .all(|c| !c.is_control() && c != '\u{2028}' && c != '\u{2029}')
}

fn is_host_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || b".-_".contains(&octet))
        && text.parse::<std::net::IpAddr>().is_err()
}
