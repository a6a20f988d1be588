//! Percent escapes (RFC 3261 §19.1.2, RFC 2396 §2).
//!
//! In: text of a URI. Out: the same text unescaped, escaped, or in the one form that compares.

use crate::error::SyntaxError;

/// Succeeds if every `%` is followed by two hexadecimal digits.
pub(super) fn check_escapes(text: &str) -> Result<(), SyntaxError> {
    let octets = text.as_bytes();
    let is_whole = |at: usize| {
        octets.get(at + 1).is_some_and(u8::is_ascii_hexdigit)
            && octets.get(at + 2).is_some_and(u8::is_ascii_hexdigit)
    };
    if memchr::memchr_iter(b'%', octets).all(is_whole) {
        Ok(())
    } else {
        Err(SyntaxError::BadEscape)
    }
}

/// Returns text with its escapes taken off, but for those of controls, `%` and broken UTF-8.
///
/// What stays escaped is written with upper-case digits, so that the result is one form of many.
#[must_use]
pub(crate) fn unescape(text: &str) -> String {
    decode(text, |octet| {
        octet >= 0x20 && octet != 0x7f && octet != b'%'
    })
}

/// Returns the form in which two texts compare: unreserved characters plain, all others escaped
/// in upper case or plain as they were (RFC 3261 §19.1.4).
pub(super) fn normal(text: &str) -> String {
    decode(text, |octet| {
        octet.is_ascii_graphic()
            && !matches!(
                octet,
                b'%' | b';' | b'/' | b'?' | b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b','
            )
    })
}

/// Escapes what must not stand in a user part (RFC 3261 §25.1 `user`).
#[must_use]
pub(crate) fn escape_user(text: &str) -> String {
    let is_plain = |octet: u8| {
        octet.is_ascii_alphanumeric()
            || matches!(
                octet,
                b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')' | b'&' | b'=' | b'+'
            )
            || matches!(octet, b'$' | b',' | b';' | b'?' | b'/')
    };
    let octets = text.as_bytes();
    let mut escaped = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&octet) = octets.get(at) {
        let is_kept_escape = octet == b'%' && escaped_octet(octets, at).is_some_and(is_kept);
        if is_plain(octet) || is_kept_escape {
            escaped.push(octet as char);
        } else {
            push_escape(&mut escaped, octet);
        }
        at += 1;
    }
    escaped
}

/// Escapes that `unescape` leaves in place, which therefore go back as they are.
const fn is_kept(octet: u8) -> bool {
    octet < 0x20 || octet >= 0x7f || octet == b'%'
}

/// Takes off the escapes of ASCII octets that `wanted` accepts and, if `wanted` accepts 0xFF, of
/// whole UTF-8 characters.
fn decode(text: &str, wanted: impl Fn(u8) -> bool) -> String {
    let octets = text.as_bytes();
    let mut plain = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(character) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let Some(octet) = escaped_octet(octets, at).filter(|_| character == '%') else {
            plain.push(character);
            at += character.len_utf8();
            continue;
        };
        if octet.is_ascii() && wanted(octet) {
            plain.push(octet as char);
            at += 3;
        } else if let Some(wide) = escaped_character(octets, at).filter(|_| wanted(0xff)) {
            plain.push(wide);
            at += 3 * wide.len_utf8();
        } else {
            push_escape(&mut plain, octet);
            at += 3;
        }
    }
    plain
}

/// Returns the octet of the escape that begins at `at`.
fn escaped_octet(octets: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| {
        octets
            .get(at)
            .and_then(|octet| (*octet as char).to_digit(16))
            .map(|value| value as u8)
    };
    (octets.get(at) == Some(&b'%')).then_some(())?;
    Some(digit(at + 1)? << 4 | digit(at + 2)?)
}

/// Returns the character beyond ASCII whose octets are escaped one after the other from `at` on.
fn escaped_character(octets: &[u8], at: usize) -> Option<char> {
    let first = escaped_octet(octets, at)?;
    let width = match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let mut buffer = [0; 4];
    for (index, slot) in buffer.iter_mut().enumerate().take(width) {
        *slot = escaped_octet(octets, at + 3 * index)?;
    }
    let text = std::str::from_utf8(buffer.get(..width)?).ok()?;
    text.chars()
        .next()
        .filter(|character| !character.is_control())
}

fn push_escape(text: &mut String, octet: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(DIGITS[usize::from(octet >> 4)] as char);
    text.push(DIGITS[usize::from(octet & 15)] as char);
}
