//! Protected streams: what browsers and SRTP phones offer, what we write, and what is refused.

use contract::{IceCredentials, KeyMaterial, Secret, SrtpProfile};

use super::*;

/// As Chromium offers audio and video (shortened; the lines that matter are there).
const BROWSER: &str = "v=0\r\no=- 46117317 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
a=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n\
m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8 110 126\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
a=ice-ufrag:Yt2n\r\na=ice-pwd:h4jPPTE5DRn9Bqn1Qx6dSGmn\r\na=ice-options:trickle\r\n\
a=fingerprint:sha-256 \
11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00\r\n\
a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n\
a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:8 PCMA/8000\r\na=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\n\
a=candidate:1 1 udp 2113937151 0b1c2d3e.local 50000 typ host\r\n\
a=candidate:2 1 udp 2113937150 192.0.2.9 50001 typ host\r\n\
a=candidate:3 1 tcp 1518280447 192.0.2.9 9 typ host tcptype active\r\n\
a=candidate:4 2 udp 2113937150 192.0.2.9 50002 typ host\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n";

fn offer(text: &str) -> (Session, Result<RemoteMedia, NegotiationError>) {
    let session = read(text.as_bytes()).expect("readable");
    let remote = read_offer(&session, None, &|_| true);
    (session, remote)
}

fn credentials(name: &str) -> IceCredentials {
    IceCredentials {
        ufrag: name.to_owned(),
        pwd: Secret::new("0123456789012345678901"),
    }
}

fn webrtc(setup: Setup) -> LocalTransport {
    LocalTransport::Webrtc(Box::new(LocalWebrtc {
        ice: credentials("weft"),
        is_lite: true,
        fingerprint: vec![0xab; 32],
        setup,
        ssrc: 7,
    }))
}

fn local(transport: LocalTransport) -> LocalMedia {
    LocalMedia {
        address: "198.51.100.7".parse().expect("address"),
        port: 16_300,
        rtcp_mux: false,
        direction: Direction::SendRecv,
        ptime: None,
        transport,
    }
}

#[test]
fn what_a_browser_offers_is_read() {
    let (_, remote) = offer(BROWSER);
    let remote = remote.expect("audio");
    assert_eq!(remote.direction, Direction::SendRecv, "0.0.0.0 is no hold");
    assert!(remote.rtcp_mux && remote.is_bundled());
    let RemoteTransport::Webrtc(webrtc) = &remote.transport else {
        panic!("{:?}", remote.transport);
    };
    assert_eq!(webrtc.ice.ufrag, "Yt2n");
    assert_eq!(webrtc.setup, Setup::ActPass);
    assert_eq!(webrtc.fingerprints.len(), 1);
    assert_eq!(webrtc.fingerprints[0].hash, "sha-256");
    assert!(!webrtc.is_lite);
    let addresses: Vec<String> = webrtc
        .candidates
        .iter()
        .map(|candidate| candidate.address.to_string())
        .collect();
    assert_eq!(addresses, ["192.0.2.9:50001"], "UDP, component 1, literal");
}

/// S2-82 (no a=crypto toward WebRTC), S2-83 (BUNDLE and mid are there).
#[test]
fn the_answer_to_a_browser_is_bundled_and_has_no_crypto_line() {
    let (session, remote) = offer(BROWSER);
    let remote = remote.expect("audio");
    let answer = LocalSdp::new(4)
        .answer(
            &session,
            &remote,
            &local(webrtc(Setup::Passive)),
            &remote.all_codecs(),
        )
        .expect("codecs");
    let text = write(&answer);
    for line in [
        "a=group:BUNDLE 0\r\n",
        "a=ice-lite\r\n",
        "m=audio 16300 UDP/TLS/RTP/SAVPF 111 0 8 110 126\r\n",
        "c=IN IP4 198.51.100.7\r\n",
        "a=mid:0\r\n",
        "a=rtcp-mux\r\n",
        "a=setup:passive\r\n",
        "a=ice-ufrag:weft\r\n",
        "a=candidate:1 1 udp 2130706431 198.51.100.7 16300 typ host\r\n",
        "a=end-of-candidates\r\n",
        "a=fingerprint:sha-256 AB:AB",
        "a=ssrc:7 cname:weft\r\n",
        "m=video 0 UDP/TLS/RTP/SAVPF 96\r\n",
    ] {
        assert!(text.contains(line), "{line:?} is missing in\n{text}");
    }
    assert!(!text.contains("a=crypto"), "{text}");
    assert_eq!(read(text.as_bytes()), Ok(answer));
}

#[test]
fn our_offer_is_bundled_and_a_browser_s_answer_is_taken() {
    let mut state = LocalSdp::new(9);
    let codecs = [Codec::from_static(0).expect("static")];
    let made = state
        .offer(&local(webrtc(Setup::ActPass)), &codecs)
        .expect("a codec");
    let text = write(&made);
    assert!(text.contains("a=group:BUNDLE 0\r\n") && text.contains("a=mid:0\r\n"));
    assert!(text.contains("a=setup:actpass\r\n") && text.contains("a=rtcp-mux\r\n"));
    let answer = text
        .replace("a=setup:actpass", "a=setup:active")
        .replace("a=ice-lite\r\n", "")
        .replace("a=ice-ufrag:weft", "a=ice-ufrag:Brow");
    let answer = read(answer.as_bytes()).expect("readable");
    let remote = read_answer(&made, &answer).expect("taken");
    let RemoteTransport::Webrtc(webrtc) = &remote.transport else {
        panic!("{:?}", remote.transport);
    };
    assert_eq!((webrtc.setup, webrtc.is_lite), (Setup::Active, false));
    // A re-offer keeps section, mid and protocol.
    let again = state
        .offer(&local(self::webrtc(Setup::ActPass)), &codecs)
        .expect("a codec");
    assert_eq!(
        again, made,
        "nothing has changed, so neither has the version"
    );
}

#[test]
fn keys_of_the_signalling_are_read_or_left() {
    let key = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
    let long = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";
    let rows: [(String, Option<SrtpProfile>); 10] = [
        (
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}"),
            Some(SrtpProfile::AesCm128HmacSha1_80),
        ),
        (
            format!("1 aes_cm_128_hmac_sha1_32 inline:{key}|2^20"),
            Some(SrtpProfile::AesCm128HmacSha1_32),
        ),
        (
            format!("2 AEAD_AES_256_GCM inline:{long}"),
            Some(SrtpProfile::AeadAes256Gcm),
        ),
        (
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key} WSH=128"),
            Some(SrtpProfile::AesCm128HmacSha1_80),
        ),
        // RFC 4568 §6.3: what would change protection is not done.
        (
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key} UNENCRYPTED_SRTP"),
            None,
        ),
        (
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^20|1:4"),
            None,
        ),
        (
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key};inline:{key}"),
            None,
        ),
        (format!("1 AEAD_AES_128_GCM inline:{key}"), None),
        (format!("1 F8_128_HMAC_SHA1_80 inline:{key}"), None),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:@@@@".to_owned(), None),
    ];
    for (line, wanted) in rows {
        let (_, remote) = offer(&format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
             m=audio 4000 RTP/SAVP 0\r\na=crypto:{line}\r\n"
        ));
        let got = remote.ok().and_then(|remote| match remote.transport {
            RemoteTransport::Sdes(keys) => keys.first().map(|key| key.profile),
            RemoteTransport::Plain | RemoteTransport::Webrtc(_) => None,
        });
        assert_eq!(got, wanted, "{line}");
    }
}

#[test]
fn our_key_is_written_as_the_peer_reads_it() {
    let key = SdesKey {
        tag: 3,
        profile: SrtpProfile::AeadAes128Gcm,
        key: KeyMaterial::new((0..16).collect()),
        salt: KeyMaterial::new((16..28).collect()),
    };
    let made = LocalSdp::new(9)
        .offer(
            &local(LocalTransport::Sdes(vec![key.clone()])),
            &[Codec::from_static(8).expect("static")],
        )
        .expect("a codec");
    let text = write(&made);
    assert!(text.contains("m=audio 16300 RTP/SAVP 8\r\n"), "{text}");
    let (_, remote) = offer(&text);
    assert_eq!(
        remote.expect("audio").transport,
        RemoteTransport::Sdes(vec![key])
    );
}

/// What is protected is not answered in clear, and half of WebRTC is none.
#[test]
fn protected_sections_without_usable_keys_are_refused() {
    let cut = |line: &str| {
        let kept: Vec<&str> = BROWSER
            .split_inclusive("\r\n")
            .filter(|text| !text.starts_with(line))
            .collect();
        offer(&kept.concat()).1
    };
    for line in ["a=fingerprint", "a=ice-ufrag", "a=ice-pwd", "a=rtcp-mux"] {
        assert_eq!(
            cut(line),
            Err(NegotiationError::UnsupportedProtocol),
            "without {line}"
        );
    }
    let plain = BROWSER.replace("a=setup:actpass\r\n", "");
    let RemoteTransport::Webrtc(webrtc) = offer(&plain).1.expect("audio").transport else {
        panic!("no WebRTC");
    };
    assert_eq!(webrtc.setup, Setup::Active, "RFC 4145 §4: the default");
}

#[test]
fn lines_of_the_session_count_for_its_sections() {
    let moved: String = {
        let (mut head, mut rest) = (Vec::new(), Vec::new());
        for line in BROWSER.split_inclusive("\r\n") {
            let is_moved = ["a=fingerprint", "a=ice-ufrag", "a=ice-pwd", "a=setup"]
                .iter()
                .any(|name| line.starts_with(name));
            if is_moved {
                head.push(line)
            } else {
                rest.push(line)
            }
        }
        let at = rest
            .iter()
            .position(|line| line.starts_with("m="))
            .expect("m=");
        [&rest[..at], &head, &rest[at..]].concat().concat()
    };
    assert_eq!(
        offer(&moved).1.expect("audio").transport,
        offer(BROWSER).1.expect("audio").transport
    );
}

#[test]
fn a_trickled_candidate_is_read_in_every_form() {
    let wanted = "192.0.2.9:50001".parse().ok();
    for text in [
        "candidate:2 1 udp 2113937150 192.0.2.9 50001 typ host generation 0 ufrag Yt2n network-cost 999",
        "a=candidate:2 1 UDP 2113937150 192.0.2.9 50001 typ srflx raddr 10.0.0.1 rport 5",
        "2 1 udp 2113937150 192.0.2.9 50001 typ host",
    ] {
        let got = read_candidate(text).map(|candidate| candidate.address);
        assert_eq!(got, wanted, "{text}");
    }
    for text in [
        "",
        "candidate:",
        "candidate:1 1 udp 1 x.local 5 typ host",
        "candidate:1 1 tcp 1 192.0.2.9 9 typ host tcptype active",
        "candidate:1 2 udp 1 192.0.2.9 9 typ host",
        "candidate:1 1 udp 1 192.0.2.9 0 typ host",
        "candidate:1 1 udp 99999999999 192.0.2.9 9 typ host",
    ] {
        assert_eq!(read_candidate(text), None, "{text}");
    }
}

#[test]
fn we_are_passive_where_we_may() {
    assert_eq!(answer_setup(Setup::ActPass), Setup::Passive);
    assert_eq!(answer_setup(Setup::Active), Setup::Passive);
    assert_eq!(answer_setup(Setup::Passive), Setup::Active);
}
