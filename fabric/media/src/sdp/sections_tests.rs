//! Sections of a description over the life of a session: which are taken, which refused, and that each
//! keeps its place (RFC 3264 §5-§8, RFC 5888, RFC 9143).

use contract::{IceCredentials, Secret};

use super::*;

const AUDIO: &str = "m=audio 4000 RTP/AVP 0\r\n";
const VIDEO: &str = "m=video 5000 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\n";
const IMAGE: &str = "m=image 6000 udptl t38\r\na=T38FaxVersion:0\r\n";
const TEXT: &str = "m=text 7000 RTP/AVP 98\r\na=rtpmap:98 t140/1000\r\n";
const CHANNEL: &str = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=sctp-port:5000\r\n";
const KEY: &str =
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n";
const PRINT: &str = "a=fingerprint:sha-256 11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:\
11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00\r\na=setup:actpass\r\na=rtcp-mux\r\n";

fn session(parts: &[&str]) -> Session {
    let body = format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{}",
        parts.concat()
    );
    read(body.as_bytes()).expect("readable")
}

fn ice(ufrag: &str) -> String {
    format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:h4jPPTE5DRn9Bqn1Qx6dSGmn\r\n")
}

fn web(kind: &str, mid: &str, rest: &str) -> String {
    let format = if kind == "video" { 96 } else { 0 };
    let map = if kind == "video" {
        "a=rtpmap:96 VP8/90000\r\n"
    } else {
        ""
    };
    format!("m={kind} 9 UDP/TLS/RTP/SAVPF {format}\r\n{map}a=mid:{mid}\r\n{rest}")
}

fn local(transport: LocalTransport) -> LocalMedia {
    LocalMedia {
        address: "198.51.100.7".parse().expect("address"),
        port: 20_000,
        rtcp_mux: false,
        direction: Direction::SendRecv,
        ptime: None,
        transport,
    }
}

fn webrtc() -> LocalTransport {
    LocalTransport::Webrtc(Box::new(LocalWebrtc {
        ice: IceCredentials {
            ufrag: "weft".to_owned(),
            pwd: Secret::new("0123456789012345678901"),
        },
        is_lite: true,
        fingerprint: vec![0xab; 32],
        setup: Setup::ActPass,
        ssrc: 7,
    }))
}

/// Answers an offer as a leg does that had its stream at `former`.
fn answered(state: &mut LocalSdp, offer: &Session, former: Option<usize>) -> Session {
    let remote = read_offer(offer, former, &|_| true).expect("audio");
    let transport = match &remote.transport {
        RemoteTransport::Plain => LocalTransport::Plain,
        RemoteTransport::Sdes(keys) => LocalTransport::Sdes(keys.clone()),
        RemoteTransport::Webrtc(_) => webrtc(),
    };
    let codecs = remote.all_codecs();
    state
        .answer(offer, &remote, &local(transport), &codecs)
        .expect("an answer")
}

/// Kind and whether there is a port, of each section.
fn sections(session: &Session) -> String {
    let words = session.media.iter().map(|media| {
        let sign = if media.port == 0 { '-' } else { '+' };
        format!("{}{sign}", media.kind.as_str())
    });
    words.collect::<Vec<_>>().join(" ")
}

fn group(session: &Session) -> Option<String> {
    let text = write(session);
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix("a=group:").map(str::to_owned))
}

#[test]
fn one_audio_section_is_taken_and_all_others_are_refused_in_place() {
    let second = "m=audio 4002 RTP/AVP 8\r\n";
    let gone = "m=audio 0 RTP/AVP 0\r\n";
    let secured = &format!("m=audio 4004 RTP/SAVP 0\r\n{KEY}");
    let unkeyed = "m=audio 4006 RTP/SAVP 0\r\n";
    let message = "m=message 2855 TCP/MSRP *\r\n";
    // Offer, answer; section of RFC 3264 unless another is named.
    let table: [(&[&str], &str, &str); 12] = [
        (&[AUDIO, VIDEO], "audio+ video-", "6"),
        (&[VIDEO, AUDIO], "video- audio+", "6"),
        (&[AUDIO, second], "audio+ audio-", "5, 6.1: a second stream"),
        (&[gone, second], "audio- audio+", "5.1: one is over"),
        (&[AUDIO, TEXT, CHANNEL], "audio+ text- application-", "6"),
        (&[IMAGE, AUDIO], "image- audio+", "6, T.38 D.2.3"),
        (&[message, AUDIO], "message- audio+", "6, RFC 4975"),
        (&[secured, AUDIO], "audio+ audio-", "6, RFC 4568 §5"),
        (&[unkeyed, AUDIO], "audio- audio+", "6: no usable keys"),
        (
            &[
                "m=audio 4000 RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\n",
                AUDIO,
            ],
            "audio- audio+",
            "6.1: nothing to speak with",
        ),
        (
            &["m=audio 4000/2 RTP/AVP 0\r\n", VIDEO],
            "audio+ video-",
            "RFC 8866 §5.14",
        ),
        (
            &["m=video 0 RTP/AVP 31\r\n", AUDIO],
            "video- audio+",
            "6: what is over stays over",
        ),
    ];
    for (offer, expected, rule) in table {
        let offer = session(offer);
        let answer = answered(&mut LocalSdp::new(1), &offer, None);
        assert_eq!(sections(&answer), expected, "{rule}");
        for (ours, theirs) in answer.media.iter().zip(&offer.media) {
            assert_eq!(
                (&ours.kind, &ours.protocol),
                (&theirs.kind, &theirs.protocol),
                "{rule}"
            );
            let is_bare = ours.attributes.is_empty() && ours.direction.is_none();
            assert!(ours.port != 0 || is_bare, "{rule}: {ours:?}");
        }
        // What we say is read as we mean it.
        assert_eq!(read(write(&answer).as_bytes()), Ok(answer), "{rule}");
    }
}

#[test]
fn offers_without_a_stream_for_us_are_refused_as_a_whole() {
    let table: [(&[&str], NegotiationError, &str); 5] = [
        (&[IMAGE], NegotiationError::NoAudio, "8.3: a fax alone"),
        (
            &["m=audio 0 RTP/AVP 0\r\n", IMAGE],
            NegotiationError::NoAudio,
            "8.2: audio is over",
        ),
        (&[VIDEO, TEXT, CHANNEL], NegotiationError::NoAudio, "6"),
        (
            &["m=audio 4000 RTP/SAVP 0\r\n", VIDEO],
            NegotiationError::UnsupportedProtocol,
            "6",
        ),
        (
            &["m=audio 4000 TCP/RTP/AVP 0\r\n"],
            NegotiationError::UnsupportedProtocol,
            "6",
        ),
    ];
    for (offer, why, rule) in table {
        assert_eq!(
            read_offer(&session(offer), None, &|_| true),
            Err(why),
            "{rule}"
        );
        assert_eq!(why.status(), 488, "{rule}");
    }
}

#[test]
fn what_cannot_be_used_gives_way_to_the_next_audio_section() {
    let secured = format!("m=audio 4004 RTP/SAVP 0\r\n{KEY}");
    let offer = session(&[&secured, AUDIO]);
    let plain_only = |transport: &RemoteTransport| *transport == RemoteTransport::Plain;
    let remote = read_offer(&offer, None, &plain_only).expect("the second");
    assert_eq!(remote.index, 1);
    let refused = read_offer(&session(&[&secured]), None, &plain_only);
    assert_eq!(refused, Err(NegotiationError::UnsupportedProtocol));
}

#[test]
fn a_stream_keeps_its_place_while_sections_come_and_go() {
    let mut state = LocalSdp::new(1);
    let second = "m=audio 4002 RTP/AVP 0\r\n";
    let over = "m=audio 0 RTP/AVP 0\r\n";
    let video_over = "m=video 0 RTP/AVP 99\r\n";
    // Offer, answer, what we offer next, and the section of RFC 3264.
    let steps: [(&[&str], &str, &str); 7] = [
        (&[AUDIO], "audio+", "5"),
        (&[AUDIO, VIDEO], "audio+ video-", "8.1: added"),
        (&[AUDIO, video_over], "audio+ video-", "8.2: removed"),
        (
            &[AUDIO, VIDEO, second],
            "audio+ video- audio-",
            "8.1, 8.2: its place is used again",
        ),
        (
            &[AUDIO, IMAGE, second],
            "audio+ image- audio-",
            "8.3.3: of another kind",
        ),
        (
            &[over, IMAGE, second],
            "audio- image- audio+",
            "8.2: the other one goes on",
        ),
        (
            &[AUDIO, IMAGE, second],
            "audio- image- audio+",
            "8.1: and keeps its place",
        ),
    ];
    let mut former = None;
    let mut count = 0;
    for (offer, expected, rule) in steps {
        let offer = session(offer);
        let answer = answered(&mut state, &offer, former);
        assert_eq!(sections(&answer), expected, "{rule}");
        assert!(answer.media.len() >= count, "{rule}");
        count = answer.media.len();
        former = answer.media.iter().position(|media| media.port != 0);
        let next = state
            .offer(
                &local(LocalTransport::Plain),
                &Codec::of_media(&answer.media[former.expect("one")]),
            )
            .expect("an offer");
        assert_eq!(sections(&next), expected, "{rule}: our next offer");
        // Refused again or accepted by mistake, only our stream counts.
        let text = write(&next).replace(" 0 RTP", " 9 RTP");
        let taken = read_answer(&next, &read(text.as_bytes()).expect("readable")).expect("taken");
        assert_eq!(Some(taken.index), former, "{rule}");
        let short = Session {
            media: next.media[1..].to_vec(),
            ..next.clone()
        };
        assert_eq!(
            read_answer(&next, &short),
            Err(NegotiationError::Mismatch),
            "6: {rule}"
        );
    }
}

#[test]
fn an_offer_with_fewer_sections_is_answered_by_its_own_count() {
    let mut state = LocalSdp::new(1);
    answered(&mut state, &session(&[AUDIO, VIDEO]), None);
    let answer = answered(&mut state, &session(&[AUDIO]), Some(0));
    assert_eq!(
        (sections(&answer).as_str(), answer.origin.version),
        ("audio+", 2)
    );
}

#[test]
fn only_what_is_taken_is_in_the_group() {
    let own = format!("{}{PRINT}", ice("Yt2n"));
    let audio = |mid: &str| web("audio", mid, &own);
    let video = |mid: &str| web("video", mid, &own);
    let channel =
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\na=bundle-only\r\n";
    let tagged = "a=group:BUNDLE v a\r\n";
    // Session's lines and sections, the answer's sections, its group; RFC 9143.
    let table: [(Vec<String>, &str, Option<&str>, &str); 5] = [
        (
            vec!["a=group:BUNDLE a v\r\n".into(), audio("a"), video("v")],
            "audio+ video-",
            Some("BUNDLE a"),
            "7.3.3: what is refused leaves the group",
        ),
        (
            vec![tagged.into(), video("v"), audio("a")],
            "video- audio+",
            Some("BUNDLE a"),
            "7.3.1: the tagged one is refused, the next is tagged",
        ),
        (
            vec!["a=group:BUNDLE a d\r\n".into(), audio("a"), channel.into()],
            "audio+ application-",
            Some("BUNDLE a"),
            "7.3.3",
        ),
        (
            vec![audio("a"), video("v")],
            "audio+ video-",
            None,
            "7.3: no group, none answered",
        ),
        (
            vec!["a=group:LS a v\r\n".into(), audio("a"), video("v")],
            "audio+ video-",
            None,
            "RFC 5888 §8.2: another group",
        ),
    ];
    for (parts, expected, bundle, rule) in table {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let mut state = LocalSdp::new(1);
        let answer = answered(&mut state, &session(&parts), None);
        assert_eq!(sections(&answer), expected, "{rule}");
        assert_eq!(group(&answer).as_deref(), bundle, "{rule}");
        let again = state
            .offer(&local(webrtc()), &state.codecs())
            .expect("an offer");
        assert_eq!(sections(&again), expected, "{rule}");
        assert_eq!(
            group(&again).as_deref(),
            Some("BUNDLE a"),
            "{rule}: our next offer"
        );
        let mids = write(&again).matches("a=mid:").count();
        assert_eq!(mids, again.media.len(), "RFC 5888 §9.1: {rule}");
    }
}

/// RFC 9143 §7.1.3, §7.2: once bundled, one section may say for all how they are reached; §7.3.1: what
/// is in the group only cannot be taken without the one that is refused.
#[test]
fn a_bundled_section_is_reached_as_the_tagged_one_says() {
    let tagged = web("video", "v", &format!("{}{PRINT}", ice("Yt2n")));
    let bundle = "a=group:BUNDLE v a\r\n";
    let bare = web("audio", "a", "");
    let remote = read_offer(&session(&[bundle, &tagged, &bare]), None, &|_| true).expect("audio");
    let ufrag = |remote: &RemoteMedia| match &remote.transport {
        RemoteTransport::Webrtc(webrtc) => webrtc.ice.ufrag.clone(),
        RemoteTransport::Plain | RemoteTransport::Sdes(_) => "none".to_owned(),
    };
    assert_eq!((remote.index, ufrag(&remote).as_str()), (1, "Yt2n"));
    assert!(remote.rtcp_mux && remote.is_bundled());
    let own = web("audio", "a", &format!("{}{PRINT}", ice("Own1")));
    let remote = read_offer(&session(&[bundle, &tagged, &own]), None, &|_| true).expect("audio");
    assert_eq!(ufrag(&remote), "Own1");
    let apart = read_offer(&session(&[&tagged, &bare]), None, &|_| true);
    assert_eq!(
        apart,
        Err(NegotiationError::UnsupportedProtocol),
        "no group"
    );
    let only = bare.replace("audio 9", "audio 0") + "a=bundle-only\r\n";
    let only = read_offer(&session(&[bundle, &tagged, &only]), None, &|_| true);
    assert_eq!(only, Err(NegotiationError::NoAudio));
}

/// RFC 5888 §4: no two sections have one identification, also where the peer gave ours none.
#[test]
fn our_offer_takes_an_identification_that_is_free() {
    let own = format!("{}{PRINT}", ice("Yt2n"));
    let audio = web("audio", "x", &own).replace("a=mid:x\r\n", "");
    let mut state = LocalSdp::new(1);
    let answer = answered(
        &mut state,
        &session(&[&web("video", "0", &own), &audio]),
        None,
    );
    assert_eq!(sections(&answer), "video- audio+");
    let next = state
        .offer(&local(webrtc()), &state.codecs())
        .expect("an offer");
    assert_eq!(group(&next).as_deref(), Some("BUNDLE 1"));
}
