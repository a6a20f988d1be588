//! URIs: SIP, SIPS, tel and whatever else may stand where a URI stands (RFC 3261 §19.1, RFC 3966).
//!
//! In: text. Out: a typed URI that writes itself back as it was read, but for the case of host and
//! scheme. The user part is kept as escaped on the wire; unescaping happens in comparisons and in
//! `user()`. It does not judge whether a scheme can be served: that is 416 and the caller's.

mod escape;
mod host;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use escape::{escape_user, unescape};
pub use host::Host;

use crate::error::SyntaxError;
use crate::params::Params;
use crate::scan::number;
use escape::{check_escapes, normal};

/// The scheme of a URI.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `sip`.
    Sip,
    /// `sips`: TLS on every hop.
    Sips,
    /// `tel` (RFC 3966).
    Tel,
    /// Any other, lower case.
    Other(String),
}

impl Scheme {
    fn of(text: &str) -> Self {
        if text.eq_ignore_ascii_case("sip") {
            Scheme::Sip
        } else if text.eq_ignore_ascii_case("sips") {
            Scheme::Sips
        } else if text.eq_ignore_ascii_case("tel") {
            Scheme::Tel
        } else {
            Scheme::Other(text.to_ascii_lowercase())
        }
    }

    /// Returns the scheme as written, lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Scheme::Sip => "sip",
            Scheme::Sips => "sips",
            Scheme::Tel => "tel",
            Scheme::Other(text) => text,
        }
    }

    /// Returns rsip's name of it; `None` for schemes other than sip, sips and tel.
    #[must_use]
    pub const fn known(&self) -> Option<rsip::Scheme> {
        match self {
            Scheme::Sip => Some(rsip::Scheme::Sip),
            Scheme::Sips => Some(rsip::Scheme::Sips),
            Scheme::Tel | Scheme::Other(_) => None,
        }
    }
}

/// A URI. Two that are written differently may still be `equivalent`; `==` compares the text parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Uri {
    scheme: Scheme,
    form: Form,
    params: Params,
    headers: Option<String>,
}

/// What stands between scheme and parameters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Form {
    /// `user:password@host:port` of sip and sips.
    Address {
        user: Option<String>,
        password: Option<String>,
        host: Host,
        port: Option<u16>,
    },
    /// The number of tel, or all of an unknown scheme.
    Opaque(String),
}

impl Uri {
    /// Returns `sip:user@host:port`; the user is escaped where it must be.
    #[must_use]
    pub fn sip(user: Option<&str>, host: Host, port: Option<u16>) -> Self {
        let user = user.map(escape_user);
        Self {
            scheme: Scheme::Sip,
            form: Form::Address {
                user,
                password: None,
                host,
                port,
            },
            params: Params::new(),
            headers: None,
        }
    }

    /// Returns the scheme.
    #[must_use]
    pub const fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Tells whether it is a `sips` URI.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.scheme == Scheme::Sips
    }

    /// Returns the user part with escapes taken off; the number of a tel URI.
    ///
    /// Escapes that hide a control character, a `%` or octets that are not UTF-8 stay.
    #[must_use]
    pub fn user(&self) -> Option<String> {
        self.user_raw().map(unescape)
    }

    /// Returns the user part as written; the number of a tel URI.
    #[must_use]
    pub fn user_raw(&self) -> Option<&str> {
        match &self.form {
            Form::Address { user, .. } => user.as_deref(),
            Form::Opaque(text) if self.scheme == Scheme::Tel => Some(text),
            Form::Opaque(_) => None,
        }
    }

    /// Returns the password as written; deprecated by RFC 3261 §19.1.1, kept when forwarding.
    #[must_use]
    pub fn password_raw(&self) -> Option<&str> {
        match &self.form {
            Form::Address { password, .. } => password.as_deref(),
            Form::Opaque(_) => None,
        }
    }

    /// Returns the host; none for tel and unknown schemes.
    #[must_use]
    pub const fn host(&self) -> Option<&Host> {
        match &self.form {
            Form::Address { host, .. } => Some(host),
            Form::Opaque(_) => None,
        }
    }

    /// Returns the port, if one is written.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        match &self.form {
            Form::Address { port, .. } => *port,
            Form::Opaque(_) => None,
        }
    }

    /// Returns the parameters.
    #[must_use]
    pub const fn params(&self) -> &Params {
        &self.params
    }

    /// Returns the parameters for change; values must hold characters a URI allows.
    pub const fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }

    /// Returns the header fields behind `?`, as written (RFC 3261 §19.1.1).
    #[must_use]
    pub fn headers(&self) -> Option<&str> {
        self.headers.as_deref()
    }

    /// Returns name and value of each header field behind `?`, unescaped.
    pub fn header_fields(&self) -> impl Iterator<Item = (String, String)> {
        self.headers
            .iter()
            .flat_map(|headers| headers.split('&'))
            .map(|field| {
                let (name, value) = field.split_once('=').unwrap_or((field, ""));
                (unescape(name), unescape(value))
            })
    }

    /// Removes the header fields behind `?`.
    pub fn clear_headers(&mut self) {
        self.headers = None;
    }

    /// Replaces the user part; escapes it where it must be. No effect without a host.
    pub fn set_user(&mut self, text: Option<&str>) {
        if let Form::Address { user, password, .. } = &mut self.form {
            *user = text.map(escape_user);
            *password = None;
        }
    }

    /// Replaces host and port. No effect on tel and unknown schemes.
    pub fn set_host(&mut self, new_host: Host, new_port: Option<u16>) {
        if let Form::Address { host, port, .. } = &mut self.form {
            *host = new_host;
            *port = new_port;
        }
    }

    /// Tells whether both name the same resource (RFC 3261 §19.1.4).
    #[must_use]
    pub fn equivalent(&self, other: &Uri) -> bool {
        if self.scheme != other.scheme {
            return false;
        }
        let is_same_form = match (&self.form, &other.form) {
            (
                Form::Address {
                    user,
                    password,
                    host,
                    port,
                },
                Form::Address {
                    user: other_user,
                    password: other_password,
                    host: other_host,
                    port: other_port,
                },
            ) => {
                host == other_host
                    && port == other_port
                    && same_text(user.as_deref(), other_user.as_deref())
                    && same_text(password.as_deref(), other_password.as_deref())
            }
            (Form::Opaque(text), Form::Opaque(other_text)) => self.same_opaque(text, other_text),
            (Form::Address { .. }, Form::Opaque(_)) | (Form::Opaque(_), Form::Address { .. }) => {
                false
            }
        };
        is_same_form && self.same_params(other) && self.same_headers(other)
    }

    /// Compares tel numbers without visual separators (RFC 3966 §4), other schemes by text.
    fn same_opaque(&self, text: &str, other: &str) -> bool {
        if self.scheme != Scheme::Tel {
            return normal(text) == normal(other);
        }
        let digits = |number: &str| {
            number
                .chars()
                .filter(|character| !matches!(character, '-' | '.' | '(' | ')'))
                .map(|character| character.to_ascii_lowercase())
                .collect::<String>()
        };
        digits(text) == digits(other)
    }

    /// Parameters in both must be equal; some must be in both or in none.
    fn same_params(&self, other: &Uri) -> bool {
        let must_pair = |name: &str| {
            ["user", "ttl", "method", "maddr", "transport"]
                .iter()
                .any(|paired| name.eq_ignore_ascii_case(paired))
                || self.scheme == Scheme::Tel
        };
        let agrees = |left: &Params, right: &Params| {
            left.iter().all(|(name, _)| {
                if !right.has(name) {
                    return !must_pair(name);
                }
                match (left.value(name), right.value(name)) {
                    (Some(one), Some(two)) => normal(one).eq_ignore_ascii_case(&normal(two)),
                    (None, None) => true,
                    (Some(_), None) | (None, Some(_)) => false,
                }
            })
        };
        agrees(&self.params, &other.params) && agrees(&other.params, &self.params)
    }

    /// Header fields must be the same set; names ignore case.
    fn same_headers(&self, other: &Uri) -> bool {
        let sorted = |uri: &Uri| {
            let mut fields: Vec<(String, String)> = uri
                .header_fields()
                .map(|(name, value)| (name.to_ascii_lowercase(), value))
                .collect();
            fields.sort();
            fields
        };
        match (&self.headers, &other.headers) {
            (None, None) => true,
            (Some(_), Some(_)) => sorted(self) == sorted(other),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Reads a URI that must fill all of `text`.
    pub(crate) fn read(text: &str) -> Result<Self, SyntaxError> {
        let (scheme, rest) = text.split_once(':').ok_or(SyntaxError::NoScheme)?;
        if !is_scheme(scheme) {
            return Err(SyntaxError::NoScheme);
        }
        match Scheme::of(scheme) {
            scheme @ (Scheme::Sip | Scheme::Sips) => read_address(scheme, rest),
            Scheme::Tel => read_tel(rest),
            scheme @ Scheme::Other(_) => Ok(Self {
                scheme,
                form: Form::Opaque(
                    checked(rest, |octet| octet == b'@' || is_uri_octet(octet))?.into(),
                ),
                params: Params::new(),
                headers: None,
            }),
        }
    }
}

impl FromStr for Uri {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Uri::read(text)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme.as_str())?;
        f.write_str(":")?;
        match &self.form {
            Form::Opaque(text) => f.write_str(text)?,
            Form::Address {
                user,
                password,
                host,
                port,
            } => {
                if let Some(user) = user {
                    f.write_str(user)?;
                    if let Some(password) = password {
                        write!(f, ":{password}")?;
                    }
                    f.write_str("@")?;
                }
                write!(f, "{host}")?;
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
            }
        }
        write!(f, "{}", self.params)?;
        match &self.headers {
            Some(headers) => write!(f, "?{headers}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Uri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads what follows `sip:`. The user part may hold `;`, `?` and `/`, so the one `@` is found
/// first.
fn read_address(scheme: Scheme, rest: &str) -> Result<Uri, SyntaxError> {
    let (userinfo, rest) = match rest.split_once('@') {
        Some((userinfo, rest)) => (Some(userinfo), rest),
        None => (None, rest),
    };
    let (user, password) = match userinfo {
        Some(userinfo) => read_userinfo(userinfo)?,
        None => (None, None),
    };
    let (rest, headers) = match rest.split_once('?') {
        Some((rest, headers)) => (rest, Some(checked(headers, is_uri_octet)?.to_owned())),
        None => (rest, None),
    };
    let split = rest.find(';').unwrap_or(rest.len());
    let (host_port, params) = rest.split_at(split);
    let (host, port) = read_host_port(host_port)?;
    let form = Form::Address {
        user,
        password,
        host,
        port,
    };
    Ok(Uri {
        scheme,
        form,
        params: read_params(params)?,
        headers,
    })
}

/// Reads what follows `tel:`: a number and parameters (RFC 3966 §3).
fn read_tel(rest: &str) -> Result<Uri, SyntaxError> {
    let split = rest.find(';').unwrap_or(rest.len());
    let (number, params) = rest.split_at(split);
    if number.is_empty() {
        return Err(SyntaxError::Empty);
    }
    let form = Form::Opaque(checked(number, is_uri_octet)?.to_owned());
    Ok(Uri {
        scheme: Scheme::Tel,
        form,
        params: read_params(params)?,
        headers: None,
    })
}

type UserInfo = (Option<String>, Option<String>);

fn read_userinfo(text: &str) -> Result<UserInfo, SyntaxError> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(checked(password, is_uri_octet)?.to_owned())),
        None => (text, None),
    };
    if user.is_empty() {
        return Err(SyntaxError::NoUser);
    }
    Ok((Some(checked(user, is_uri_octet)?.to_owned()), password))
}

/// Reads `host [":" port]`, as in URIs and, with white space already gone, in Via.
pub(crate) fn read_host_port(text: &str) -> Result<(Host, Option<u16>), SyntaxError> {
    let end = match text.strip_prefix('[') {
        Some(rest) => rest.find(']').ok_or(SyntaxError::BadHost)? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(end);
    let port = match port.strip_prefix(':') {
        Some(digits) => Some(number(digits).map_err(|_| SyntaxError::BadPort)?),
        None if port.is_empty() => None,
        None => return Err(SyntaxError::BadHost),
    };
    Ok((host.parse()?, port))
}

/// Checks `*( ";" uri-parameter )`.
fn read_params(text: &str) -> Result<Params, SyntaxError> {
    let mut names = text.split(';').skip(1);
    if names.any(|piece| piece.is_empty() || piece.starts_with('=') || piece.ends_with('=')) {
        return Err(SyntaxError::BadParameter);
    }
    Ok(Params::checked(checked(text, is_uri_octet)?))
}

/// Returns the text if all of it is allowed and its escapes are whole.
fn checked(text: &str, allowed: impl Fn(u8) -> bool) -> Result<&str, SyntaxError> {
    if !text.bytes().all(allowed) {
        return Err(SyntaxError::BadCharacter);
    }
    check_escapes(text)?;
    Ok(text)
}

/// What may stand in a part of a URI: more than the grammar (`#`, `{`, `|`, …), since phones send
/// it, but no white space, quotes, brackets or octets beyond ASCII, which would end or disguise it.
const fn is_uri_octet(octet: u8) -> bool {
    octet.is_ascii_graphic() && !matches!(octet, b'<' | b'>' | b'"' | b'@')
}

fn is_scheme(text: &str) -> bool {
    text.bytes()
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.'))
}

/// Compares parts of which the case counts, escapes aside.
fn same_text(one: Option<&str>, two: Option<&str>) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => one == two || normal(one) == normal(two),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Host::V4(address),
            IpAddr::V6(address) => Host::V6(address),
        }
    }
}

#[cfg(test)]
mod tests;
