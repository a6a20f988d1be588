//! Hostile values handed to the writer: either refused, or the message has no line more (threats.md
//! 10).

mod common;

use bytes::Bytes;
use common::{data, entries};
use sip::{Aor, HeaderName, Host, Message, MethodOwned, NameAddr, Uri, Writer};

fn base(uri: &Uri) -> Writer {
    let mut writer = Writer::request(&MethodOwned::Known(rsip::Method::Options), uri);
    writer
        .header(HeaderName::Via, "SIP/2.0/UDP c.example.org;branch=z9hG4bK1")
        .header(HeaderName::CallId, "1@c")
        .header(HeaderName::CSeq, "1 OPTIONS")
        .header(HeaderName::To, "<sip:a@example.org>");
    writer
}

fn plain_uri() -> Uri {
    "sip:a@example.org".parse().expect("a URI")
}

/// Checks a finished message: the six fields that were meant, no body, no injected name.
fn is_clean(octets: Bytes) -> bool {
    let message = Message::read(octets).expect("what we write, we read");
    let names: Vec<&str> = message.all_headers().map(|(name, _)| name).collect();
    names.len() == 6 && message.body().is_empty() && !names.contains(&"X-Admin")
}

#[test]
fn hostile_values_add_no_line() {
    let (mut refused, mut clean) = (0, 0);
    let hostile: Vec<String> = entries("injection-own")
        .iter()
        .filter_map(|entry| data(&format!("injection-own/{}", entry.file)))
        .map(|octets| String::from_utf8_lossy(&octets).into_owned())
        .collect();
    for value in &hostile {
        let mut messages = Vec::new();
        let from = NameAddr {
            display: Some(value.clone()),
            ..NameAddr::new(plain_uri())
        };
        messages.push(base(&plain_uri()).header(HeaderName::From, &from).finish());
        let user = Uri::sip(Some(value), Host::Name("example.org".to_owned()), None);
        messages.push(
            base(&user)
                .header(HeaderName::From, NameAddr::new(user.clone()))
                .finish(),
        );
        messages.push(base(&plain_uri()).header(HeaderName::From, value).finish());
        messages.push(base(&plain_uri()).other("X-Note", value).finish());
        messages.push(base(&plain_uri()).other(value, "x").finish());
        let mut tagged = NameAddr::new(plain_uri());
        tagged.set_tag(value);
        messages.push(
            base(&plain_uri())
                .header(HeaderName::From, &tagged)
                .finish(),
        );
        for result in messages {
            match result {
                Ok(octets) if Message::read(octets.clone()).is_ok() => {
                    assert!(is_clean(octets), "{value:?}");
                    clean += 1;
                }
                // Without From, or with one that is only text, the reader says no; no line is
                // added.
                Ok(octets) => {
                    let lines = octets.split(|octet| *octet == b'\n').count();
                    assert_eq!(lines, 9, "{value:?}");
                    clean += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    println!(
        "{} values: {refused} messages refused, {clean} clean",
        hostile.len()
    );
    assert!(hostile.is_empty() || (refused > 50 && clean > 50));
}

#[test]
fn line_ends_and_nul_are_refused_everywhere() {
    for value in ["a\rb", "a\nb", "a\r\nX-Admin: 1", "a\0b", "\r\n\r\n"] {
        assert!(
            base(&plain_uri())
                .header(HeaderName::Subject, value)
                .finish()
                .is_err()
        );
        assert!(base(&plain_uri()).other("X-Note", value).finish().is_err());
        assert!(base(&plain_uri()).other(value, "x").finish().is_err());
        assert!(base(&plain_uri()).body(value, b"x").finish().is_err());
        assert!(Writer::response(200, Some(value)).finish().is_err());
        let method = MethodOwned::Other(value.to_owned());
        assert!(Writer::request(&method, &plain_uri()).finish().is_err());
    }
}

#[test]
fn hostile_users_stay_one_user() {
    for value in [
        "a\r\nX: y",
        "a@b",
        "a>;tag=1",
        "a b",
        "a%0d%0aX: y",
        "a\"b",
        "ä",
    ] {
        let uri = Uri::sip(Some(value), Host::Name("example.org".to_owned()), None);
        let back: Uri = uri.to_string().parse().expect("what we write, we read");
        assert_eq!(back, uri);
        assert_eq!(back.host(), Some(&Host::Name("example.org".to_owned())));
        let aor = Aor::of(&back).expect("an address of record");
        assert_eq!(aor.domain(), "example.org");
        assert_eq!(aor.to_string().parse::<Aor>().expect("its text"), aor);
    }
}
