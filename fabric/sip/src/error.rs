//! What may be wrong with octets that claim to be SIP, and which status answers it.
//!
//! In: nothing. Out: error types of the readers. It decides no policy: the caller answers or drops.

use contract::FaultClass;

use crate::header::HeaderName;

/// What is wrong with one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// Nothing where something must be.
    #[error("empty")]
    Empty,
    /// No scheme before a colon (RFC 3261 §25.1 `absoluteURI`).
    #[error("no URI scheme")]
    NoScheme,
    /// `%` without two hexadecimal digits.
    #[error("bad percent escape")]
    BadEscape,
    /// Neither a host name nor an IPv4 address nor an IPv6 reference.
    #[error("bad host")]
    BadHost,
    /// Not a number of 0 to 65535.
    #[error("bad port")]
    BadPort,
    /// An octet that the grammar does not allow there.
    #[error("character not allowed")]
    BadCharacter,
    /// A quoted string or angle bracket that never ends.
    #[error("unterminated quote or bracket")]
    Unterminated,
    /// A separator with no parameter after it, or a parameter without a name.
    #[error("bad parameter")]
    BadParameter,
    /// A number with other characters, or out of its range.
    #[error("bad number")]
    BadNumber,
    /// Octets after the end of the value.
    #[error("text after the value")]
    Trailing,
    /// A Request-URI with header fields (RFC 3261 §19.1.1, table 1).
    #[error("header fields in a Request-URI")]
    UriHeaders,
    /// A user part is needed and missing.
    #[error("no user part")]
    NoUser,
}

/// What is wrong with one header field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The message does not have it.
    #[error("{0} is missing")]
    Missing(HeaderName),
    /// Its value does not follow the grammar.
    #[error("{header} is malformed: {cause}")]
    Malformed {
        /// Which field.
        header: HeaderName,
        /// What is wrong with it.
        cause: SyntaxError,
    },
    /// The Request-URI does not follow the grammar.
    #[error("Request-URI is malformed: {0}")]
    RequestUri(SyntaxError),
}

impl HeaderError {
    /// Returns whose fault it is: the peer's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Reject
    }

    /// Returns the status that answers it: 400 (RFC 3261 §21.4.1).
    #[must_use]
    pub const fn status(&self) -> u16 {
        400
    }
}

/// Why octets are not a SIP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// More octets than `SIP_MESSAGE_BYTES_MAX`.
    #[error("message too large")]
    TooLarge,
    /// More header fields than `SIP_HEADERS_MAX`.
    #[error("too many header fields")]
    TooManyHeaders,
    /// A line longer than `SIP_LINE_BYTES_MAX`.
    #[error("line too long")]
    LineTooLong,
    /// No empty line ends the header fields (RFC 3261 §7).
    #[error("header fields do not end")]
    NoEmptyLine,
    /// A line that does not end in CR LF, or a control octet outside a quoted pair.
    #[error("control character")]
    ControlCharacter,
    /// Header fields are not UTF-8 (RFC 3261 §7).
    #[error("not UTF-8")]
    NotUtf8,
    /// Neither a Request-Line nor a Status-Line (RFC 3261 §7.1, §7.2).
    #[error("malformed start line")]
    StartLine,
    /// A version of SIP other than 2.0 (RFC 3261 §21.5.6).
    #[error("SIP version not supported")]
    Version,
    /// A line without a field name and colon (RFC 3261 §7.3.1).
    #[error("malformed header field")]
    HeaderLine,
    /// A field that may stand once stands twice (RFC 4475 §3.3.8, §3.3.9).
    #[error("more than one {0}")]
    Duplicate(HeaderName),
    /// A mandatory or typed field is missing or malformed (RFC 3261 §8.1.1).
    #[error(transparent)]
    Header(HeaderError),
    /// The method of CSeq differs from the method of the request (RFC 3261 §8.1.1.5).
    #[error("CSeq names another method")]
    MethodMismatch,
    /// Fewer octets than Content-Length promises (RFC 3261 §18.3).
    #[error("body shorter than Content-Length")]
    ShortBody,
}

impl ReadError {
    /// Returns the status with which a request of this kind is answered.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            ReadError::TooLarge | ReadError::TooManyHeaders | ReadError::LineTooLong => 513,
            ReadError::Version => 505,
            ReadError::NoEmptyLine
            | ReadError::ControlCharacter
            | ReadError::NotUtf8
            | ReadError::StartLine
            | ReadError::HeaderLine
            | ReadError::Duplicate(_)
            | ReadError::Header(_)
            | ReadError::MethodMismatch
            | ReadError::ShortBody => 400,
        }
    }

    /// Returns the reason phrase for that answer; never text of the peer.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            ReadError::TooLarge | ReadError::TooManyHeaders | ReadError::LineTooLong => {
                "Message Too Large"
            }
            ReadError::Version => "Version Not Supported",
            ReadError::NoEmptyLine => "Header Fields Do Not End",
            ReadError::ControlCharacter => "Control Character",
            ReadError::NotUtf8 => "Not UTF-8",
            ReadError::StartLine => "Malformed Start Line",
            ReadError::HeaderLine => "Malformed Header Field",
            ReadError::Duplicate(_) => "Repeated Header Field",
            ReadError::Header(HeaderError::Missing(_)) => "Missing Header Field",
            ReadError::Header(HeaderError::Malformed { .. } | HeaderError::RequestUri(_)) => {
                "Malformed Header Field"
            }
            ReadError::MethodMismatch => "CSeq Method Mismatch",
            ReadError::ShortBody => "Content-Length Too Large",
        }
    }

    /// Returns whose fault it is: too much is overload, all else the peer's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            ReadError::TooLarge | ReadError::TooManyHeaders | ReadError::LineTooLong => {
                FaultClass::Overload
            }
            ReadError::NoEmptyLine
            | ReadError::ControlCharacter
            | ReadError::NotUtf8
            | ReadError::StartLine
            | ReadError::Version
            | ReadError::HeaderLine
            | ReadError::Duplicate(_)
            | ReadError::Header(_)
            | ReadError::MethodMismatch
            | ReadError::ShortBody => FaultClass::Reject,
        }
    }
}
