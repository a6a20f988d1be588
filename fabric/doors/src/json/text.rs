//! Texts of a client, each checked once: length, characters, nothing that ends a line.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text is not what its field wants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {wanted}")]
pub struct TextError {
    /// What it should have been.
    pub wanted: &'static str,
}

impl TextError {
    /// Tells whose fault it is.
    #[must_use]
    pub const fn class(&self) -> contract::FaultClass {
        contract::FaultClass::Reject
    }
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "._-".contains(letter)
}

fn is_plain(letter: char) -> bool {
    // U+2028 and U+2029 end a line for some readers of logs.
    !letter.is_control() && !matches!(letter, '\u{2028}' | '\u{2029}')
}

fn is_dialled(letter: char) -> bool {
    is_plain(letter) && !letter.is_whitespace() && !"<>\"".contains(letter)
}

fn is_digit(letter: char) -> bool {
    "0123456789*#ABCD".contains(letter.to_ascii_uppercase())
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $wanted:literal, $min:literal..=$max:literal, $allows:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, TextError> {
                let allows: fn(char) -> bool = $allows;
                let is_fit = ($min..=$max).contains(&text.len()) && text.chars().all(allows);
                is_fit
                    .then(|| $name(text.to_owned()))
                    .ok_or(TextError { wanted: $wanted })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

text! {
    /// The name of a call: chosen by the client for the calls it makes, our dialog's UUID for others.
    CallName, "a callId: 1 to 64 of A-Z a-z 0-9 . _ -", 1..=64, is_word
}
text! {
    /// What a client calls itself, kept by it over reloads.
    Instance, "an instance: 1 to 64 of A-Z a-z 0-9 . _ -", 1..=64, is_word
}
text! {
    /// What an application calls a command: said once more, it is not carried out again.
    CommandName, "a command_id: 1 to 64 of A-Z a-z 0-9 . _ -", 1..=64, is_word
}
text! {
    /// A number or address: `1000`, `1000@example.org`, `sip:1000@example.org`.
    Dialled, "a number or address of at most 256 octets", 1..=256, is_dialled
}
text! {
    /// A text for people: display names, reasons.
    Label, "a text of at most 256 octets without control characters", 0..=256, is_plain
}
text! {
    /// An ICE candidate (RFC 8839 §5.1), or nothing: no further ones.
    CandidateText, "a candidate of at most 512 octets", 0..=512, is_plain
}
text! {
    /// Digits of a telephone (RFC 4733 §3.2).
    Digits, "1 to 64 of 0-9 * # A-D", 1..=64, is_digit
}
