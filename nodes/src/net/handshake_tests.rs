//! Who may open a WebSocket: the tables of Origins, subprotocols and proxies.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use contract::Door;

use super::{Denied, Granted, WebRules, judge};

fn rules() -> WebRules {
    WebRules {
        hosts: vec!["pbx.example".to_owned()],
        origins: vec!["https://crm.example:8444".to_owned()],
        page_ports: vec![8_080, 8_443],
        trusted_proxies: vec!["10.0.0.0/8".parse().expect("a network")],
        require_sip_subprotocol: true,
    }
}

fn ask(remote: &str, lines: &[(&str, &str)]) -> Result<Granted, Denied> {
    let mut headers = HeaderMap::new();
    let plain = [
        ("upgrade", "websocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "SGVsbG8sIHdvcmxkIQ=="),
        ("host", "192.0.2.7:5066"),
    ];
    let missing = plain
        .iter()
        .filter(|(name, _)| !lines.iter().any(|(given, _)| given == name));
    for (name, value) in missing.chain(lines) {
        if !value.is_empty() {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
    }
    let remote: SocketAddr = remote.parse().expect("an address");
    judge(&rules(), &Method::GET, Version::HTTP_11, &headers, remote)
}

/// Header lines of a request.
type Lines = &'static [(&'static str, &'static str)];
/// The subprotocol of a 101, or the status of a refusal.
type Spoken = Result<Option<(&'static str, Door)>, u16>;

const BROWSER: &str = "198.51.100.1:40000";

#[test]
fn the_request_of_the_requirements_is_let_in() {
    // S0-30: its key has thirteen octets.
    let granted = ask(BROWSER, &[]).expect("101");
    // RFC 6455 §4.2.2: SHA-1 of key and GUID, by OpenSSL.
    assert_eq!(granted.accept, "qGEgH3En71di5rrssAZTmtRTyFk=");
    assert_eq!(granted.protocol, None);
    assert_eq!(
        granted.client,
        BROWSER.parse::<SocketAddr>().expect("an address")
    );
    let known = ask(
        BROWSER,
        &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")],
    );
    assert_eq!(
        known.expect("101").accept,
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "the example of RFC 6455 §1.3"
    );
}

#[test]
fn origins_are_let_in_as_the_table_says() {
    let table: [(Lines, u16); 20] = [
        (&[], 101),
        (&[("origin", "http://192.0.2.7:5066")], 101),
        (&[("origin", "http://192.0.2.7:8080")], 101),
        (&[("origin", "https://192.0.2.7:8443")], 101),
        (&[("origin", "https://crm.example:8444")], 101),
        (&[("origin", "HTTPS://CRM.example:8444")], 101),
        (
            &[("host", "pbx.example"), ("origin", "https://pbx.example")],
            101,
        ),
        (
            &[
                ("host", "localhost:5066"),
                ("origin", "http://localhost:8080"),
            ],
            101,
        ),
        (
            &[("host", "[::1]:5066"), ("origin", "http://[::1]:8080")],
            101,
        ),
        (&[("origin", "null")], 403),
        (&[("origin", "http://")], 403),
        (&[("origin", "https://evil.example")], 403),
        (&[("origin", "https://crm.example")], 403),
        (&[("origin", "https://crm.example:8444.evil.example")], 403),
        (&[("origin", "https://crm.example.evil:8444")], 403),
        (&[("origin", "http://192.0.2.7:8081")], 403),
        (&[("origin", "http://192.0.2.7.evil.example:8080")], 403),
        (&[("origin", "file://192.0.2.7:8080")], 403),
        (
            // A name that was rebound to us.
            &[
                ("host", "evil.example:5066"),
                ("origin", "http://evil.example:5066"),
            ],
            403,
        ),
        (
            &[
                ("origin", "https://crm.example:8444"),
                ("origin", "https://evil.example"),
            ],
            403,
        ),
    ];
    for (lines, expected) in table {
        let status = ask(BROWSER, lines).map_or_else(|denied| denied.status, |_| 101);
        assert_eq!(status, expected, "{lines:?}");
    }
}

#[test]
fn the_subprotocol_is_the_first_offered_that_is_spoken() {
    let sip = Ok(Some(("sip", Door::Sip)));
    let json = Ok(Some(("weft.json.v1", Door::Json)));
    let table: [(Lines, Spoken); 9] = [
        (&[], Ok(None)),
        (&[("sec-websocket-protocol", "sip")], sip),
        (&[("sec-websocket-protocol", "weft.json.v1")], json),
        (&[("sec-websocket-protocol", "msrp, sip")], sip),
        (&[("sec-websocket-protocol", "weft.json.v1,sip")], json),
        (
            &[
                ("sec-websocket-protocol", "chat"),
                ("sec-websocket-protocol", "sip"),
            ],
            sip,
        ),
        (&[("sec-websocket-protocol", "chat")], Err(400)),
        (
            &[("sec-websocket-protocol", "sipx, weft.json.v2")],
            Err(400),
        ),
        (&[("sec-websocket-protocol", ",")], Err(400)),
    ];
    for (lines, expected) in table {
        let protocol = ask(BROWSER, lines)
            .map(|granted| granted.protocol)
            .map_err(|denied| denied.status);
        assert_eq!(protocol, expected, "{lines:?}");
    }
}

#[test]
fn what_is_no_handshake_is_refused() {
    let long = "x".repeat(129);
    let table: [(&[(&str, &str)], u16); 7] = [
        (&[("upgrade", "")], 426),
        (&[("upgrade", "h2c")], 426),
        (&[("connection", "keep-alive")], 426),
        (&[("sec-websocket-version", "8")], 426),
        (&[("sec-websocket-version", "")], 426),
        (&[("sec-websocket-key", "")], 400),
        (&[("sec-websocket-key", &long)], 400),
    ];
    for (lines, expected) in table {
        let denied = ask(BROWSER, lines).expect_err("no handshake");
        assert_eq!(denied.status, expected, "{lines:?}");
    }
    let rules = rules();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "x"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    let remote = BROWSER.parse::<SocketAddr>().expect("an address");
    for (method, version) in [
        (Method::POST, Version::HTTP_11),
        (Method::GET, Version::HTTP_10),
    ] {
        let denied = judge(&rules, &method, version, &headers, remote).expect_err("refused");
        assert_eq!(denied.status, 400);
    }
}

#[test]
fn only_trusted_proxies_are_believed() {
    let table: [(&str, Lines, &str); 10] = [
        (BROWSER, &[("x-forwarded-for", "203.0.113.9")], BROWSER),
        (BROWSER, &[("x-real-ip", "203.0.113.9")], BROWSER),
        ("10.0.0.1:1", &[], "10.0.0.1:1"),
        (
            "10.0.0.1:1",
            &[("x-forwarded-for", "203.0.113.9")],
            "203.0.113.9:1",
        ),
        (
            // What the client itself wrote stands in front.
            "10.0.0.1:1",
            &[("x-forwarded-for", "127.0.0.1, 203.0.113.9, 10.0.0.2")],
            "203.0.113.9:1",
        ),
        (
            "10.0.0.1:1",
            &[
                ("x-forwarded-for", "127.0.0.1"),
                ("x-forwarded-for", "203.0.113.9:55"),
            ],
            "203.0.113.9:1",
        ),
        (
            "10.0.0.1:1",
            &[("x-real-ip", "2001:db8::9")],
            "[2001:db8::9]:1",
        ),
        (
            "[::ffff:10.0.0.1]:1",
            &[("x-real-ip", "::ffff:203.0.113.9")],
            "203.0.113.9:1",
        ),
        (
            "10.0.0.1:1",
            &[("x-forwarded-for", "unknown")],
            "10.0.0.1:1",
        ),
        ("10.0.0.1:1", &[("x-real-ip", "evil\t\"")], "10.0.0.1:1"),
    ];
    for (remote, lines, expected) in table {
        let granted = ask(remote, lines).expect("101");
        let expected: SocketAddr = expected.parse().expect("an address");
        assert_eq!(granted.client, expected, "{remote} {lines:?}");
    }
}
