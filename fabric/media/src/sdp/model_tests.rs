//! The model survives writing and reading; nothing that starts a line can be in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use contract::{FaultClass, codec};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

fn token() -> impl Strategy<Value = Token> {
    "[a-zA-Z0-9!#$%&'*+.^_{|}~-]{1,12}".prop_map(|text| Token::new(&text).expect("token"))
}

fn word() -> impl Strategy<Value = Word> {
    "[!-~]{1,12}".prop_map(|text| Word::new(&text).expect("word"))
}

fn text() -> impl Strategy<Value = Text> {
    "[!-~é€]([ -~é€]{0,30}[!-~é€])?".prop_map(|text| Text::new(&text).expect("text"))
}

fn secret() -> impl Strategy<Value = SecretText> {
    "[!-~]([ -~]{0,30}[!-~])?".prop_map(|text| SecretText::new(&text).expect("secret"))
}

fn host() -> impl Strategy<Value = Host> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Host::Ip(IpAddr::V4(Ipv4Addr::from(bits)))),
        any::<u128>().prop_map(|bits| Host::Ip(IpAddr::V6(Ipv6Addr::from(bits)))),
        "[a-z][a-z0-9.-]{0,20}".prop_map(|name| Host::Name(HostName::new(&name).expect("name"))),
    ]
}

fn candidate() -> impl Strategy<Value = Candidate> {
    let kind = prop_oneof![
        Just(CandidateKind::Host),
        Just(CandidateKind::ServerReflexive),
        Just(CandidateKind::PeerReflexive),
        Just(CandidateKind::Relay),
    ];
    let extensions = vec(("[a-q]{1,6}", word()), 0..3);
    let first = (
        word(),
        any::<u16>(),
        token(),
        any::<u32>(),
        host(),
        any::<u16>(),
    );
    (first, kind, option::of((host(), any::<u16>())), extensions).prop_map(
        |((foundation, component, transport, priority, host, port), kind, related, pairs)| {
            let word = |name: String| Word::new(&name).expect("word");
            Candidate {
                foundation,
                component,
                transport,
                priority,
                host,
                port,
                kind,
                related,
                extensions: pairs
                    .into_iter()
                    .map(|(name, value)| (word(name), value))
                    .collect(),
            }
        },
    )
}

fn attribute() -> impl Strategy<Value = Attribute> {
    let setup = prop_oneof![
        Just(Setup::Active),
        Just(Setup::Passive),
        Just(Setup::ActPass),
        Just(Setup::HoldConn),
    ];
    prop_oneof![
        any::<u16>().prop_map(Attribute::Ptime),
        any::<u16>().prop_map(Attribute::MaxPtime),
        (any::<u16>(), option::of(host())).prop_map(|(port, host)| Attribute::Rtcp { port, host }),
        Just(Attribute::RtcpMux),
        Just(Attribute::IceLite),
        Just(Attribute::EndOfCandidates),
        token().prop_map(Attribute::Mid),
        (token(), vec(token(), 0..4))
            .prop_map(|(semantics, mids)| Attribute::Group { semantics, mids }),
        setup.prop_map(Attribute::Setup),
        ("sha-(1|256|512)", vec(any::<u8>(), 1..64)).prop_map(|(hash, digest)| {
            let hash = Token::new(&hash).expect("token");
            Attribute::Fingerprint(Fingerprint { hash, digest })
        }),
        word().prop_map(Attribute::IceUfrag),
        secret().prop_map(Attribute::IcePwd),
        vec(token(), 0..3).prop_map(Attribute::IceOptions),
        candidate().prop_map(|candidate| Attribute::Candidate(Box::new(candidate))),
        (any::<u32>(), token(), secret())
            .prop_map(|(tag, suite, keys)| Attribute::Crypto(Crypto { tag, suite, keys })),
        ("x-[a-z]{1,8}", option::of(text())).prop_map(|(name, value)| Attribute::Other {
            name: Token::new(&name).expect("token"),
            value,
        }),
    ]
}

fn direction() -> impl Strategy<Value = Option<Direction>> {
    option::of(prop_oneof![
        Just(Direction::SendRecv),
        Just(Direction::SendOnly),
        Just(Direction::RecvOnly),
        Just(Direction::Inactive),
    ])
}

fn formats() -> impl Strategy<Value = (Protocol, Formats)> {
    let protocols = prop_oneof![
        Just(Protocol::RtpAvp),
        Just(Protocol::RtpAvpf),
        Just(Protocol::RtpSavp),
        Just(Protocol::RtpSavpf),
        Just(Protocol::DtlsSavp),
        Just(Protocol::DtlsSavpf),
    ];
    let map = (token(), 1_u32.., 1_u8..).prop_map(|(name, clock_rate, channels)| RtpMap {
        name,
        clock_rate,
        channels,
    });
    let rest = vec((option::of(map), option::of(text())), 10);
    let rtp = (protocols, btree_set(0_u8..128, 1..10), rest).prop_map(|(protocol, set, rest)| {
        let formats = set
            .into_iter()
            .zip(rest)
            .map(|(payload, (map, parameters))| Format {
                payload,
                map,
                parameters,
            });
        (protocol, Formats::Rtp(formats.collect()))
    });
    let other = vec(word(), 1..4).prop_map(|words| {
        let protocol = Protocol::Other(Word::new("udptl").expect("word"));
        (protocol, Formats::Opaque(words))
    });
    prop_oneof![4 => rtp, 1 => other]
}

fn media() -> impl Strategy<Value = Media> {
    let kind = prop_oneof![
        Just(MediaKind::Audio),
        Just(MediaKind::Video),
        "[b-u][a-z]{0,5}"
            .prop_map(|kind| MediaKind::Other(Token::new(&kind).expect("token")))
            .prop_filter("named kinds have variants", |kind| kind.as_str() != "video"),
    ];
    let lines = (option::of(host()), direction(), vec(attribute(), 0..8));
    (kind, any::<u16>(), formats(), lines).prop_map(
        |(kind, port, (protocol, formats), (connection, direction, attributes))| Media {
            kind,
            port,
            protocol,
            formats,
            connection,
            direction,
            attributes,
        },
    )
}

fn session() -> impl Strategy<Value = Session> {
    let origin = (word(), any::<u64>(), any::<u64>(), host()).prop_map(
        |(username, session_id, version, host)| Origin {
            username,
            session_id,
            version,
            host,
        },
    );
    let lines = (option::of(host()), direction(), vec(attribute(), 0..6));
    (origin, text(), lines, vec(media(), 0..5)).prop_map(
        |(origin, name, (connection, direction, attributes), media)| Session {
            origin,
            name,
            connection,
            direction,
            attributes,
            media,
        },
    )
}

proptest! {
    #[test]
    fn reading_what_was_written_gives_the_model_back(session in session()) {
        let body = write(&session);
        prop_assert_eq!(read(body.as_bytes()), Ok(session));
    }

    #[test]
    fn every_written_line_is_one_the_model_holds(session in session()) {
        let body = write(&session);
        let lines = body.strip_suffix("\r\n").expect("last line is ended");
        for line in lines.split("\r\n") {
            prop_assert!(!line.contains(['\r', '\n', '\0']));
            prop_assert!("vosctam".contains(&line[..1]) && &line[1..2] == "=");
        }
        let sections = lines.split("\r\n").filter(|line| line.starts_with("m=")).count();
        prop_assert_eq!(sections, session.media.len());
    }

    #[test]
    fn the_stored_form_gives_the_model_back(session in session()) {
        let bytes = codec::encode(&session).expect("fits");
        prop_assert_eq!(codec::decode::<Session>(&bytes).expect("own bytes"), session);
    }

    #[test]
    fn any_octets_are_read_or_refused(body in vec(any::<u8>(), 0..2_000)) {
        if let Ok(session) = read(&body) {
            prop_assert_eq!(read(write(&session).as_bytes()), Ok(session));
        }
    }

    #[test]
    fn any_lines_are_read_or_refused(
        lines in vec("[vosctamib]=[ -~]{0,40}", 0..30),
        attributes in vec("a=(rtpmap|fmtp|rtcp|candidate|crypto|fingerprint|group|mid|ptime|setup):[0-9A-F :/a-z]{0,40}", 0..30),
    ) {
        let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nm=audio 9 RTP/AVP 0\r\n";
        let body = format!("{head}{}\n{}", attributes.join("\r\n"), lines.join("\r\n"));
        if let Ok(session) = read(body.as_bytes()) {
            prop_assert_eq!(read(write(&session).as_bytes()), Ok(session));
        }
    }
}

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";

fn body(lines: &str) -> Vec<u8> {
    format!("{HEAD}{lines}").into_bytes()
}

#[test]
fn limits_refuse_the_body() {
    let many = |line: &str, count: usize| body(&line.repeat(count));
    let media = "m=audio 9 RTP/AVP 0\r\n";
    let cases = [
        (vec![b'a'; 65_537], SdpError::TooLarge),
        (
            body(&format!("a={}", "x".repeat(8_191))),
            SdpError::LineTooLong { line: 6 },
        ),
        (many(media, 65), SdpError::TooManyMedia { line: 70 }),
        (
            many("a=x\r\n", 257),
            SdpError::TooManyAttributes { line: 262 },
        ),
        (body("x=1\r\n"), SdpError::UnknownLine { line: 6 }),
        (body("audio\r\n"), SdpError::UnknownLine { line: 6 }),
        (
            body("m=audio 65536 RTP/AVP 0\r\n"),
            SdpError::Malformed {
                line: 6,
                letter: 'm',
            },
        ),
        (
            body("m=audio -1 RTP/AVP 0\r\n"),
            SdpError::Malformed {
                line: 6,
                letter: 'm',
            },
        ),
        (
            body("m=audio 9 RTP/AVP\r\n"),
            SdpError::Malformed {
                line: 6,
                letter: 'm',
            },
        ),
        (
            body("c=IN IP4 1.2.3.4\0\r\n"),
            SdpError::Malformed {
                line: 6,
                letter: 'c',
            },
        ),
        (b"v=1\r\n".to_vec(), SdpError::Missing { letter: 'v' }),
        (b"".to_vec(), SdpError::Missing { letter: 'v' }),
        (
            b"v=0\r\ns=-\r\n".to_vec(),
            SdpError::Missing { letter: 'o' },
        ),
    ];
    for (body, error) in cases {
        assert_eq!(
            read(&body),
            Err(error),
            "{}",
            String::from_utf8_lossy(&body[..body.len().min(200)])
        );
        assert_eq!(error.class(), FaultClass::Reject);
        assert!([400, 413].contains(&error.status()));
    }
    assert_eq!(
        read(&many(media, 64)).expect("at the limit").media.len(),
        64
    );
    assert_eq!(
        read(&many("a=x\r\n", 256))
            .expect("at the limit")
            .attributes
            .len(),
        256
    );
}

#[test]
fn payload_types_over_127_refuse_their_section_only() {
    let read = read(&body("m=audio 9 RTP/AVP 0 128\r\nm=audio 9 RTP/AVP 8\r\n")).expect("readable");
    let words = ["0", "128"].map(|word| Word::new(word).expect("word"));
    assert_eq!(read.media[0].formats, Formats::Opaque(words.to_vec()));
    assert_eq!(Codec::of_media(&read.media[1])[0].payload, 8);
}

#[test]
fn values_that_would_start_a_line_cannot_be_made() {
    for text in [
        "a\rb",
        "a\nb",
        "a\0b",
        "a\u{85}b",
        "a\u{2028}b",
        "a\u{2029}b",
        "a\u{b}b",
        "\n",
    ] {
        assert!(Text::new(text).is_err(), "{text:?}");
        assert!(SecretText::new(text).is_err(), "{text:?}");
        assert!(
            Word::new(text).is_err() && Token::new(text).is_err(),
            "{text:?}"
        );
        assert!(HostName::new(text).is_err(), "{text:?}");
        let stored = codec::encode(&text.to_string()).expect("fits");
        assert!(codec::decode::<Text>(&stored).is_err(), "{text:?}");
        assert!(codec::decode::<SecretText>(&stored).is_err(), "{text:?}");
    }
    assert!(Text::new(&"x".repeat(9_000)).is_err());
}

#[test]
fn secrets_are_not_printed() {
    let secret = SecretText::new("canary").expect("text");
    assert_eq!(format!("{secret:?}"), "SecretText");
    let lines = "a=ice-pwd:canary\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:canary\r\n";
    let session = read(&body(lines)).expect("readable");
    assert_eq!(session.attributes.len(), 2);
    assert!(!format!("{session:?}").contains("canary"));
    assert!(write(&session).contains("inline:canary"));
}

#[test]
fn lines_in_any_order_are_read() {
    let lines = "v=0\na=sendonly\nt=0 0\nc=IN IP4 192.0.2.7\no=a 7 8 IN IP4 h.example\n\n\
                 m=audio 4000/2 RTP/AVP 96\na=rtpmap:96 opus/48000/2\nb=AS:64\nc=IN IP6 2001:db8::1\n\
                 a=fmtp:96 useinbandfec=1\ni=title\na=rtcp:4009 IN IP4 192.0.2.9\n";
    let session = read(lines.as_bytes()).expect("readable");
    assert_eq!(session.direction, Some(Direction::SendOnly));
    assert_eq!((session.origin.session_id, session.origin.version), (7, 8));
    assert_eq!(session.name.as_str(), "-");
    let media = &session.media[0];
    assert_eq!(
        (media.port, media.connection.clone()),
        (4000, Host::parse("2001:db8::1"))
    );
    let codec = &Codec::of_media(media)[0];
    assert_eq!(
        (codec.name.as_str(), codec.clock_rate, codec.channels),
        ("opus", 48_000, 2)
    );
    assert_eq!(
        codec.parameters.as_ref().map(Text::as_str),
        Some("useinbandfec=1")
    );
    let rtcp = Attribute::Rtcp {
        port: 4009,
        host: Host::parse("192.0.2.9"),
    };
    assert_eq!(media.attributes, vec![rtcp]);
}

#[test]
fn large_session_ids_are_held_as_the_largest_number() {
    let body = "v=0\r\no=- 99999999999999999999999 1 IN IP4 192.0.2.1\r\n";
    assert_eq!(
        read(body.as_bytes()).expect("readable").origin.session_id,
        u64::MAX
    );
}

#[test]
fn known_attributes_with_wrong_values_are_left_out() {
    let lines = [
        "ptime:x",
        "ptime",
        "rtcp:70000",
        "rtcp:1 IN IP9 h",
        "setup:maybe",
        "mid:",
        "group:",
        "fingerprint:sha-256 AB:C",
        "fingerprint:sha-256",
        "candidate:1 1 udp",
        "crypto:1 A",
        "crypto:x A inline:b",
        "ice-pwd:",
        "ice-ufrag:a b",
        "ice-ufrag",
        "a b:c",
        "",
    ];
    for line in lines {
        let session = read(&body(&format!("a={line}\r\n"))).expect("readable");
        assert_eq!(session.attributes, Vec::new(), "{line}");
    }
}

#[test]
fn media_goes_only_where_signalling_came_from_or_anyone_may() {
    let ip = |text: &str| text.parse::<IpAddr>().expect("address");
    let office: Network = "192.168.7.0/24".parse().expect("network");
    // Target, source of the signalling, configured networks, verdict (threats.md 21).
    let cases: [(&str, &str, &[Network], bool); 26] = [
        ("198.51.100.1", "203.0.113.9", &[], true),
        ("2001:db8::1", "203.0.113.9", &[], true),
        ("169.254.169.254", "203.0.113.9", &[], false),
        ("169.254.169.254", "192.168.1.4", &[], false),
        ("169.254.1.1", "169.254.7.7", &[], true),
        ("127.0.0.1", "203.0.113.9", &[], false),
        ("127.0.0.1", "127.0.0.1", &[], true),
        ("::1", "127.0.0.1", &[], true),
        ("::ffff:127.0.0.1", "203.0.113.9", &[], false),
        ("::ffff:169.254.169.254", "203.0.113.9", &[], false),
        ("0.0.0.0", "203.0.113.9", &[], false),
        ("0.0.0.0", "0.0.0.0", &[], false),
        ("::", "::", &[], false),
        ("224.0.0.1", "224.0.0.1", &[], false),
        ("255.255.255.255", "10.0.0.1", &[], false),
        ("ff02::1", "2001:db8::1", &[], false),
        ("fe80::1", "2001:db8::1", &[], false),
        ("10.0.0.1", "203.0.113.9", &[], false),
        ("10.0.0.1", "10.9.9.9", &[], true),
        ("10.0.0.1", "192.168.1.1", &[], false),
        ("192.168.7.3", "203.0.113.9", &[office], true),
        ("192.168.8.3", "203.0.113.9", &[office], false),
        ("100.64.0.1", "203.0.113.9", &[], false),
        ("fd00::1", "203.0.113.9", &[], false),
        ("64:ff9b::7f00:1", "203.0.113.9", &[], false),
        ("2002:a9fe:a9fe::1", "203.0.113.9", &[], false),
    ];
    for (target, source, allowed, verdict) in cases {
        assert_eq!(
            may_send(ip(target), ip(source), allowed),
            verdict,
            "{target} from {source}"
        );
    }
}

#[test]
fn networks_are_read_and_printed() {
    let ip = |text: &str| text.parse::<IpAddr>().expect("address");
    for text in [
        "10.0.0.0/8",
        "0.0.0.0/0",
        "2001:db8::/32",
        "::/0",
        "192.0.2.1/32",
    ] {
        let network: Network = text.parse().expect("network");
        assert_eq!(network.to_string(), text);
    }
    for text in [
        "10.0.0.0",
        "10.0.0.0/33",
        "::/129",
        "x/8",
        "10.0.0.0/-1",
        "10.0.0.0/",
    ] {
        assert!(text.parse::<Network>().is_err(), "{text}");
    }
    let all: Network = "0.0.0.0/0".parse().expect("network");
    assert!(all.contains(ip("203.0.113.1")) && !all.contains(ip("2001:db8::1")));
    let v6: Network = "2001:db8::/32".parse().expect("network");
    assert!(v6.contains(ip("2001:db8:1::1")) && !v6.contains(ip("2001:db9::1")));
}
