//! Offer/answer by the sections of RFC 3264, and the relay's codec and payload rules.

use contract::codec as stored;

use super::Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
use super::*;

fn read_offer(offer: &Session) -> Result<RemoteMedia, NegotiationError> {
    super::read_offer(offer, None, &|_| true)
}

fn session(media: &str) -> Session {
    let body =
        format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{media}");
    read(body.as_bytes()).expect("readable")
}

fn local(direction: Direction) -> LocalMedia {
    LocalMedia {
        address: "198.51.100.7".parse().expect("address"),
        port: 20_000,
        rtcp_mux: false,
        direction,
        ptime: Some(20),
        transport: LocalTransport::Plain,
    }
}

fn codec(name: &str, clock_rate: u32, channels: u8, payload: u8) -> Codec {
    let codec = Codec::new(name, clock_rate, payload).expect("token");
    Codec { channels, ..codec }
}

fn static_codecs(payloads: &[u8]) -> Vec<Codec> {
    payloads
        .iter()
        .map(|payload| Codec::from_static(*payload).expect("static"))
        .collect()
}

fn payloads(codecs: &[Codec]) -> Vec<u8> {
    codecs.iter().map(|codec| codec.payload).collect()
}

#[test]
fn answer_directions_follow_rfc_3264_section_6_1() {
    // Offered (as the peer sees it), wanted, answered (as we see it).
    let table = [
        (SendRecv, SendRecv, SendRecv),
        (SendRecv, SendOnly, SendOnly),
        (SendRecv, RecvOnly, RecvOnly),
        (SendRecv, Inactive, Inactive),
        (SendOnly, SendRecv, RecvOnly),
        (SendOnly, SendOnly, Inactive),
        (SendOnly, RecvOnly, RecvOnly),
        (SendOnly, Inactive, Inactive),
        (RecvOnly, SendRecv, SendOnly),
        (RecvOnly, SendOnly, SendOnly),
        (RecvOnly, RecvOnly, Inactive),
        (RecvOnly, Inactive, Inactive),
        (Inactive, SendRecv, Inactive),
        (Inactive, SendOnly, Inactive),
        (Inactive, RecvOnly, Inactive),
        (Inactive, Inactive, Inactive),
    ];
    for (offered, wanted, answered) in table {
        assert_eq!(
            answer_direction(offered, wanted),
            answered,
            "{offered:?} {wanted:?}"
        );
    }
}

#[test]
fn offers_are_read_as_rfc_3264_sections_5_and_8_4_say() {
    // Media part, then: direction, holding, RTP target, RTCP target.
    let table = [
        (
            "m=audio 4000 RTP/AVP 0\r\n",
            SendRecv,
            false,
            Some("192.0.2.1:4000"),
            Some("192.0.2.1:4001"),
        ),
        (
            "m=audio 4000 RTP/AVP 0\r\na=sendonly\r\n",
            SendOnly,
            true,
            Some("192.0.2.1:4000"),
            Some("192.0.2.1:4001"),
        ),
        (
            "m=audio 4000 RTP/AVP 0\r\na=recvonly\r\n",
            RecvOnly,
            false,
            Some("192.0.2.1:4000"),
            Some("192.0.2.1:4001"),
        ),
        (
            "m=audio 4000 RTP/AVP 0\r\na=inactive\r\n",
            Inactive,
            true,
            Some("192.0.2.1:4000"),
            Some("192.0.2.1:4001"),
        ),
        (
            "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n",
            SendOnly,
            true,
            None,
            None,
        ),
        (
            "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\na=recvonly\r\n",
            Inactive,
            true,
            None,
            None,
        ),
        (
            "m=audio 4000 RTP/AVP 0\r\nc=IN IP6 ::\r\n",
            SendOnly,
            true,
            None,
            None,
        ),
        (
            "m=audio 4000 RTP/AVP 0\r\na=rtcp:53020\r\n",
            SendRecv,
            false,
            Some("192.0.2.1:4000"),
            Some("192.0.2.1:53020"),
        ),
        (
            "m=audio 4000 RTP/AVP 0\r\na=rtcp:53020 IN IP4 192.0.2.9\r\n",
            SendRecv,
            false,
            Some("192.0.2.1:4000"),
            Some("192.0.2.9:53020"),
        ),
        (
            "m=audio 65535 RTP/AVP 0\r\n",
            SendRecv,
            false,
            Some("192.0.2.1:65535"),
            None,
        ),
        (
            "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 phone.example\r\n",
            SendRecv,
            false,
            None,
            None,
        ),
        (
            "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 224.2.1.1/127/3\r\n",
            SendRecv,
            false,
            None,
            None,
        ),
        (
            "m=audio 4000 RTP/AVP 0\r\nc=IN IP6 ::ffff:192.0.2.5\r\n",
            SendRecv,
            false,
            Some("192.0.2.5:4000"),
            Some("192.0.2.5:4001"),
        ),
    ];
    for (media, direction, holding, rtp, rtcp) in table {
        let remote = read_offer(&session(media)).expect(media);
        let address = |text: Option<&str>| text.map(|text| text.parse().expect("address"));
        assert_eq!(remote.direction, direction, "{media}");
        assert_eq!(remote.is_holding(), holding, "{media}");
        assert_eq!(remote.rtp, address(rtp), "{media}");
        assert_eq!(remote.rtcp, address(rtcp), "{media}");
    }
}

#[test]
fn direction_and_ptime_of_the_session_hold_where_the_section_says_nothing() {
    let offer = session("a=sendonly\r\na=ptime:30\r\nm=audio 4000 RTP/AVP 0\r\na=maxptime:60\r\n");
    let remote = read_offer(&offer).expect("audio");
    assert_eq!(
        (remote.direction, remote.ptime, remote.max_ptime),
        (SendOnly, Some(30), Some(60))
    );
}

#[test]
fn offers_without_audio_for_us_are_refused_with_488() {
    let table = [
        ("", NegotiationError::NoAudio),
        ("m=video 4000 RTP/AVP 31\r\n", NegotiationError::NoAudio),
        ("m=audio 0 RTP/AVP 0\r\n", NegotiationError::NoAudio),
        (
            "m=audio 4000 RTP/SAVP 0\r\n",
            NegotiationError::UnsupportedProtocol,
        ),
        (
            "m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n",
            NegotiationError::UnsupportedProtocol,
        ),
        (
            "m=audio 4000 RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\n",
            NegotiationError::NoSharedCodec,
        ),
        (
            "m=audio 4000 RTP/AVP 96\r\n",
            NegotiationError::NoSharedCodec,
        ),
        (
            "m=audio 4000 RTP/AVP 200\r\n",
            NegotiationError::NoSharedCodec,
        ),
    ];
    for (media, error) in table {
        assert_eq!(read_offer(&session(media)), Err(error), "{media}");
        assert_eq!(error.status(), 488);
    }
    let bare = read(b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\n").expect("sdp");
    assert_eq!(read_offer(&bare), Err(NegotiationError::NoConnection));
}

#[test]
fn codecs_are_read_in_order_with_static_and_unknown_ones() {
    let offer = session(
        "m=audio 4000 RTP/AVP 111 0 96 63 101 110 13 0 18\r\na=rtpmap:111 opus/48000/2\r\n\
         a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:96 X-Secret-7/16000\r\n\
         a=fmtp:96 what=ever\r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n\
         a=rtpmap:110 telephone-event/48000\r\n",
    );
    let remote = read_offer(&offer).expect("audio");
    assert_eq!(payloads(&remote.codecs), [111, 0, 96, 18]);
    assert_eq!(payloads(&remote.auxiliary), [101, 110, 13]);
    assert_eq!(remote.event_payload(8_000), Some(101));
    assert_eq!(remote.event_payload(48_000), Some(110));
    assert_eq!(remote.event_payload(16_000), None);
    assert_eq!(remote.codecs[2].name.as_str(), "X-Secret-7");
    let bytes = stored::encode(&remote).expect("fits");
    assert_eq!(
        stored::decode::<RemoteMedia>(&bytes).expect("own bytes"),
        remote
    );
}

#[test]
fn unwanted_sections_get_port_0_in_the_same_order() {
    let offer = session(
        "m=video 5000 RTP/AVP 31 34\r\na=mid:v\r\nm=audio 4000 RTP/AVP 8 0\r\na=mid:a\r\n\
         m=audio 4002 RTP/AVP 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
         m=audio 4004 RTP/AVP 300\r\n",
    );
    let remote = read_offer(&offer).expect("audio");
    assert_eq!(remote.index, 1);
    let codecs = answer_codecs(&remote, &static_codecs(&[0, 8])).expect("shared");
    assert_eq!(payloads(&codecs), [8, 0]);
    let answer = LocalSdp::new(9)
        .answer(&offer, &remote, &local(SendRecv), &codecs)
        .expect("answer");
    let body = write(&answer);
    let expected = "v=0\r\no=- 2 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n\
        m=video 0 RTP/AVP 31\r\na=mid:v\r\n\
        m=audio 20000 RTP/AVP 8 0\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n\
        a=ptime:20\r\na=mid:a\r\n\
        m=audio 0 RTP/AVP 0\r\nm=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\nm=audio 0 RTP/AVP 0\r\n";
    assert_eq!(body, expected);
}

#[test]
fn the_version_rises_when_and_only_when_the_body_changes() {
    let mut state = LocalSdp::new(0xffff_ffff_ffff_ffff);
    let codecs = static_codecs(&[0]);
    let steps = [
        (SendRecv, 1),
        (SendRecv, 1),
        (SendOnly, 2),
        (SendOnly, 2),
        (SendRecv, 3),
    ];
    for (direction, version) in steps {
        let offer = state.offer(&local(direction), &codecs).expect("offer");
        assert_eq!(
            (offer.origin.version, offer.origin.session_id),
            (version, u64::MAX >> 2)
        );
        assert_eq!(state.last(), Some(&offer));
        // The state is stored and restored between the steps.
        state = stored::decode(&stored::encode(&state).expect("fits")).expect("own bytes");
    }
    let moved = LocalMedia {
        address: "203.0.113.5".parse().expect("address"),
        ..local(SendRecv)
    };
    assert_eq!(
        state.offer(&moved, &codecs).expect("offer").origin.version,
        4
    );
}

#[test]
fn a_reoffer_keeps_all_sections_and_payload_types() {
    let first = session(
        "m=audio 4000 RTP/AVP 96 0\r\na=rtpmap:96 opus/48000/2\r\nm=video 5000 RTP/AVP 31\r\n",
    );
    let remote = read_offer(&first).expect("audio");
    let mut state = LocalSdp::new(1);
    state
        .answer(&first, &remote, &local(SendRecv), &remote.all_codecs())
        .expect("answer");
    // The other leg calls opus 111 and gives 96 to another codec.
    let wanted = [codec("opus", 48_000, 2, 111), codec("speex", 16_000, 1, 96)];
    let offer = state.offer(&local(SendRecv), &wanted).expect("offer");
    assert_eq!(offer.media.len(), 2);
    assert_eq!((offer.media[0].port, offer.media[1].port), (20_000, 0));
    let offered = Codec::of_media(&offer.media[0]);
    assert_eq!(offered[0].payload, 96);
    assert_eq!(offered[0].name.as_str(), "opus");
    assert_eq!(offered[1].payload, 97);
    assert_eq!(state.codecs(), offered);
}

#[test]
fn codecs_that_cannot_be_relayed_or_are_double_are_not_offered() {
    let mut state = LocalSdp::new(1);
    let wanted = [
        codec("red", 48_000, 2, 63),
        codec("opus", 48_000, 2, 96),
        codec("OPUS", 48_000, 2, 111),
        codec("telephone-event", 8_000, 1, 96),
    ];
    let offer = state.offer(&local(SendRecv), &wanted).expect("offer");
    assert_eq!(payloads(&Codec::of_media(&offer.media[0])), [96, 97]);
    let events_only = [codec("telephone-event", 8_000, 1, 101)];
    let refused = LocalSdp::new(1).offer(&local(SendRecv), &events_only);
    assert_eq!(refused, Err(NegotiationError::NothingToOffer));
}

#[test]
fn answers_are_read_as_rfc_3264_sections_6_and_7_say() {
    let mut state = LocalSdp::new(1);
    let mut wanted = static_codecs(&[0, 8]);
    wanted.push(codec("opus", 48_000, 2, 96));
    wanted.push(codec("telephone-event", 8_000, 1, 101));
    let offer = state.offer(&local(SendRecv), &wanted).expect("offer");
    let answer = |media: &str| read_answer(&offer, &session(media));
    let good = answer(
        "m=audio 4000 RTP/AVP 111 0 3 99\r\na=rtpmap:111 opus/48000/2\r\n\
         a=rtpmap:99 telephone-event/8000\r\n",
    )
    .expect("answer");
    assert_eq!(payloads(&good.codecs), [111, 0], "GSM was not offered");
    assert_eq!(good.event_payload(8_000), Some(99));
    let table = [
        ("", NegotiationError::Mismatch),
        (
            "m=audio 4000 RTP/AVP 0\r\nm=video 0 RTP/AVP 31\r\n",
            NegotiationError::Mismatch,
        ),
        ("m=video 4000 RTP/AVP 0\r\n", NegotiationError::Mismatch),
        ("m=audio 4000 RTP/AVPF 0\r\n", NegotiationError::Mismatch),
        ("m=audio 0 RTP/AVP 0\r\n", NegotiationError::Refused),
        (
            "m=audio 4000 RTP/AVP 3\r\n",
            NegotiationError::NoSharedCodec,
        ),
    ];
    for (media, error) in table {
        assert_eq!(answer(media), Err(error), "{media}");
    }
}

#[test]
fn an_answer_cannot_widen_the_offered_direction() {
    let mut state = LocalSdp::new(1);
    let offer = state
        .offer(&local(SendOnly), &static_codecs(&[0]))
        .expect("offer");
    for (said, taken) in [
        ("sendrecv", RecvOnly),
        ("recvonly", RecvOnly),
        ("sendonly", Inactive),
    ] {
        let media = format!("m=audio 4000 RTP/AVP 0\r\na={said}\r\n");
        let remote = read_answer(&offer, &session(&media)).expect("answer");
        assert_eq!(remote.direction, taken, "{said}");
    }
}

#[test]
fn rtcp_is_multiplexed_only_if_both_say_so() {
    let offer = session("m=audio 4000 RTP/AVP 0\r\na=rtcp-mux\r\n");
    let remote = read_offer(&offer).expect("audio");
    let codecs = remote.all_codecs();
    for ours in [true, false] {
        let local = LocalMedia {
            rtcp_mux: ours,
            ..local(SendRecv)
        };
        let answer = LocalSdp::new(1)
            .answer(&offer, &remote, &local, &codecs)
            .expect("answer");
        assert_eq!(
            answer.media[0].attributes.contains(&Attribute::RtcpMux),
            ours
        );
        let port = remote.rtcp_target(ours).map(|target| target.port());
        assert_eq!(port, Some(if ours { 4000 } else { 4001 }));
    }
    let mut state = LocalSdp::new(1);
    let offer = state.offer(&local(SendRecv), &codecs).expect("offer");
    let answer = session("m=audio 4000 RTP/AVP 0\r\na=rtcp-mux\r\n");
    assert!(
        !read_answer(&offer, &answer).expect("answer").rtcp_mux,
        "we did not offer it"
    );
}

#[test]
fn a_relay_maps_payload_types_between_its_legs() {
    // Leg A: the peer offered opus as 96 and we answered with its numbers.
    let a_ours = [
        codec("opus", 48_000, 2, 96),
        codec("telephone-event", 48_000, 1, 97),
        codec("X", 8_000, 1, 98),
    ];
    let a_theirs = a_ours.clone();
    // Leg B: we offered A's numbers, the peer answered with its own.
    let b_ours = a_ours.clone();
    let b_theirs = [
        codec("Opus", 48_000, 2, 111),
        codec("telephone-event", 48_000, 1, 126),
        codec("x", 8_000, 1, 98),
    ];
    assert_eq!(
        payload_map(&a_ours, &a_theirs, &b_theirs),
        [(96, 111), (97, 126), (98, 98)]
    );
    // B may send with our numbers or with its own.
    let back = payload_map(&b_ours, &b_theirs, &a_theirs);
    assert_eq!(back, [(96, 96), (97, 97), (98, 98), (111, 96), (126, 97)]);
    // A number that is another codec in our own description keeps that meaning.
    let b_crossed = [
        codec("opus", 48_000, 2, 97),
        codec("telephone-event", 48_000, 1, 96),
    ];
    assert_eq!(
        payload_map(&b_ours, &b_crossed, &a_theirs),
        [(96, 96), (97, 97), (98, 98)]
    );
    // Telephone events are matched by clock; what has no counterpart is left out.
    let c_theirs = [
        codec("opus", 48_000, 2, 96),
        codec("telephone-event", 8_000, 1, 101),
    ];
    assert_eq!(payload_map(&a_ours, &a_theirs, &c_theirs), [(96, 96)]);
}

#[test]
fn codecs_match_by_what_changes_their_payload() {
    let with = |name: &str, clock, parameters: &str| {
        let parameters = Text::new(parameters)
            .ok()
            .filter(|text| !text.as_str().is_empty());
        Codec {
            parameters,
            ..codec(name, clock, 1, 96)
        }
    };
    let table = [
        (
            with("AMR", 8_000, "octet-align=1"),
            with("amr", 8_000, ""),
            false,
        ),
        (
            with("AMR", 8_000, "octet-align=0"),
            with("AMR", 8_000, ""),
            true,
        ),
        (
            with("AMR", 8_000, "mode-set=0; octet-align=1"),
            with("AMR", 8_000, "octet-align=1"),
            true,
        ),
        (
            with("G7221", 16_000, "bitrate=24000"),
            with("G7221", 16_000, "bitrate=32000"),
            false,
        ),
        (
            with("opus", 48_000, "useinbandfec=1"),
            with("opus", 48_000, ""),
            true,
        ),
        (with("speex", 8_000, ""), with("speex", 16_000, ""), false),
        (with("PCMU", 8_000, ""), with("PCMA", 8_000, ""), false),
    ];
    for (one, other, same) in table {
        assert_eq!(one.matches(&other), same, "{one:?} {other:?}");
        assert_eq!(other.matches(&one), same, "{one:?} {other:?}");
    }
}

#[test]
fn answers_carry_the_parameters_of_the_other_leg_and_the_offers_numbers() {
    let offer = session(
        "m=audio 4000 RTP/AVP 96 101\r\na=rtpmap:96 iLBC/8000\r\na=fmtp:96 mode=20\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n",
    );
    let remote = read_offer(&offer).expect("audio");
    let mut other = codec("ilbc", 8_000, 1, 110);
    other.parameters = Text::new("mode=30").ok();
    let chosen = answer_codecs(&remote, &[other]).expect("shared");
    assert_eq!(payloads(&chosen), [96]);
    assert_eq!(
        chosen[0].parameters.as_ref().map(Text::as_str),
        Some("mode=30")
    );
    let none = answer_codecs(&remote, &[codec("telephone-event", 8_000, 1, 101)]);
    assert_eq!(none, Err(NegotiationError::NoSharedCodec));
}

#[test]
fn held_and_resumed_streams_are_answered_in_kind() {
    let mut state = LocalSdp::new(1);
    let steps = [
        ("", SendRecv, 1),
        ("a=sendonly\r\n", RecvOnly, 2),
        ("c=IN IP4 0.0.0.0\r\n", RecvOnly, 2),
        ("a=inactive\r\n", Inactive, 3),
        ("a=sendrecv\r\n", SendRecv, 4),
    ];
    for (line, direction, version) in steps {
        let offer = session(&format!("m=audio 4000 RTP/AVP 0\r\n{line}"));
        let remote = read_offer(&offer).expect("audio");
        let codecs = remote.all_codecs();
        let answer = state
            .answer(&offer, &remote, &local(SendRecv), &codecs)
            .expect("answer");
        assert_eq!(answer.media[0].direction, Some(direction), "{line}");
        assert_eq!(answer.origin.version, version, "{line}");
    }
}
