//! Legs with keys: of the signalling, and of a handshake.

use contract::{
    DtlsRole, KeyMaterial, LegSocket, LegTransport, ReceivedIndex, ReserveBlock, SrtpKeys,
    SrtpProfile, WebrtcConfig,
};

use super::*;

const PRINT: &str = "11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:\
                     11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00";

fn browser(ufrag: &str, print: &str, setup: &str) -> Bytes {
    Bytes::from(format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 0 101\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=rtcp-mux\r\n\
         a=ice-ufrag:{ufrag}\r\na=ice-pwd:h4jPPTE5DRn9Bqn1Qx6dSGmn\r\n\
         a=fingerprint:sha-256 {print}\r\na=setup:{setup}\r\na=rtpmap:101 telephone-event/8000\r\n"
    ))
}

fn followed(sdp: &Bytes) -> (Stage<MediaLeg>, Actions) {
    let start = Message::Start {
        listener: DIGEST,
        sip_source: "192.0.2.10".parse().expect("an address"),
        beside: None,
        offering: None,
    };
    let site = crate::script::site();
    let leg = MediaLeg::create(side(1), &start, &site).expect("a leg");
    let mut stage = Stage::new(leg, ActorId::MediaLeg(side(1)));
    assert!(media(&stage.tell(start)).is_empty(), "nothing is known yet");
    let actions = stage.tell(Message::TakeOffer { sdp: sdp.clone() });
    (stage, actions)
}

/// RFC 4568 §5.1.2, RFC 3264 §6: a phone that offers one stream protected and in clear is met in clear
/// where its suite is not ours, and the stream keeps its place when it offers anew.
#[test]
fn what_cannot_be_protected_as_offered_is_taken_in_clear_if_that_is_offered_too() {
    let start = Message::Start {
        listener: DIGEST,
        sip_source: "192.0.2.10".parse().expect("an address"),
        beside: None,
        offering: None,
    };
    let site = crate::script::site();
    let leg = MediaLeg::create(side(1), &start, &site).expect("a leg");
    let mut stage = Stage::new(leg, ActorId::MediaLeg(side(1)));
    stage.site.limits.srtp = vec![SrtpProfile::AeadAes256Gcm];
    stage.tell(start);
    let plain = "m=audio 40002 RTP/AVP 0\r\n";
    let secured = "m=audio 40000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 \
                   inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n";
    let head = SDP.split("m=").next().expect("a head");
    let both = Bytes::from(format!("{head}{secured}{plain}"));
    let again = Bytes::from(format!("{head}m=audio 40000 RTP/AVP 0\r\n{plain}"));
    for (offer, refused) in [
        (both, "m=audio 0 RTP/SAVP 0"),
        (again, "m=audio 0 RTP/AVP 0"),
    ] {
        let actions = stage.tell(Message::TakeOffer { sdp: offer });
        if socket(&actions) == Some(LegSocket::Own) {
            opened(&mut stage);
        }
        let (answer, config) = answered(&mut stage);
        let lines: Vec<&str> = answer
            .lines()
            .filter(|line| line.starts_with("m="))
            .collect();
        assert_eq!(lines, [refused, "m=audio 20000 RTP/AVP 0"], "{answer}");
        assert_eq!(config.transport, LegTransport::Plain);
        assert_eq!(config.remote.map(|to| to.port()), Some(40_002));
    }
}

fn socket(actions: &Actions) -> Option<LegSocket> {
    media(actions)
        .into_iter()
        .find_map(|command| match command {
            MediaCommand::Open { socket, .. } => Some(socket),
            _ => None,
        })
}

fn answered(stage: &mut Stage<MediaLeg>) -> (String, LegConfig) {
    let actions = stage.tell(Message::MakeAnswer {
        want: Want::both_ways(Codecs::Any),
    });
    (described(&actions), config(&actions))
}

fn described(actions: &Actions) -> String {
    match &reports(actions)[..] {
        [Report::Described { sdp }] => String::from_utf8(sdp.to_vec()).expect("text"),
        other => panic!("{other:?}"),
    }
}

fn webrtc(config: &LegConfig) -> &WebrtcConfig {
    match &config.transport {
        LegTransport::Webrtc(webrtc) => webrtc,
        other => panic!("{other:?}"),
    }
}

fn keys() -> SrtpKeys {
    SrtpKeys {
        profile: SrtpProfile::AesCm128HmacSha1_80,
        peer_profile: SrtpProfile::AesCm128HmacSha1_80,
        our_key: KeyMaterial::new(vec![1; 16]),
        our_salt: KeyMaterial::new(vec![2; 14]),
        peer_key: KeyMaterial::new(vec![3; 16]),
        peer_salt: KeyMaterial::new(vec![4; 14]),
        rtcp_index_start: 0,
        received: Vec::new(),
    }
}

fn keyed(stage: &mut Stage<MediaLeg>, association: u32) -> Actions {
    stage.event(Event::Media(MediaEvent::Keyed {
        keys: Box::new(keys()),
        association,
    }))
}

#[test]
fn an_offer_decides_the_socket() {
    let (_, actions) = followed(&browser("abcd", PRINT, "actpass"));
    assert_eq!(socket(&actions), Some(LegSocket::Shared));
    let (_, actions) = followed(&Bytes::from(SDP));
    assert_eq!(socket(&actions), Some(LegSocket::Own));
}

#[test]
fn without_an_offer_the_order_or_the_listener_decides() {
    for (offering, wanted) in [
        (None, LegSocket::Own),
        (Some(Offering::Sdes), LegSocket::Own),
        (Some(Offering::Webrtc), LegSocket::Shared),
    ] {
        let start = Message::Start {
            listener: DIGEST,
            sip_source: "192.0.2.10".parse().expect("an address"),
            beside: None,
            offering,
        };
        let site = crate::script::site();
        let leg = MediaLeg::create(side(2), &start, &site).expect("a leg");
        let mut stage = Stage::new(leg, ActorId::MediaLeg(side(2)));
        let first = stage.tell(start);
        let want = Want::both_ways(Codecs::Tone);
        let second = stage.tell(Message::MakeOffer { want });
        assert_eq!(socket(&first).or(socket(&second)), Some(wanted));
        let text = described(&opened(&mut stage));
        assert_eq!(
            text.contains("a=crypto:1 "),
            offering == Some(Offering::Sdes)
        );
        assert_eq!(
            text.contains("a=setup:actpass"),
            wanted == LegSocket::Shared
        );
    }
}

/// `media.srtp` says what may be agreed on, and in which order, by either kind of keys.
#[test]
fn the_configured_profiles_are_offered_taken_and_shaken_hands_on() {
    let gcm = [SrtpProfile::AeadAes256Gcm, SrtpProfile::AeadAes128Gcm];
    let narrowed = |offering| {
        let start = Message::Start {
            listener: DIGEST,
            sip_source: "192.0.2.10".parse().expect("an address"),
            beside: None,
            offering,
        };
        let mut site = crate::script::site();
        site.limits.srtp = gcm.to_vec();
        let leg = MediaLeg::create(side(2), &start, &site).expect("a leg");
        let mut stage = Stage::new(leg, ActorId::MediaLeg(side(2)));
        stage.site = site;
        stage.tell(start);
        stage
    };
    let mut stage = narrowed(Some(Offering::Sdes));
    let want = Want::both_ways(Codecs::Tone);
    stage.tell(Message::MakeOffer { want });
    let text = described(&opened(&mut stage));
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("crypto"))
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].starts_with("a=crypto:1 AEAD_AES_256_GCM "),
        "{text}"
    );
    assert!(
        lines[1].starts_with("a=crypto:2 AEAD_AES_128_GCM "),
        "{text}"
    );

    let mut stage = narrowed(None);
    let sdp = browser("abcd", PRINT, "actpass");
    stage.tell(Message::TakeOffer { sdp });
    opened(&mut stage);
    let (_, config) = answered(&mut stage);
    assert_eq!(webrtc(&config).dtls.profiles, gcm);

    // A peer that has nothing else is refused before anybody rings.
    let mut stage = narrowed(None);
    let key =
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n";
    let sdp = SDP.replace("RTP/AVP", "RTP/SAVP") + key;
    let refused = stage.tell(Message::TakeOffer { sdp: sdp.into() });
    assert_eq!(reports(&refused), [Report::Unfit { status: 488 }]);
}

/// Keys are on disk before anything is sent under them (I8, `cluster.md` §7).
#[test]
fn keys_of_a_handshake_are_recorded_before_they_are_used() {
    let (mut stage, _) = followed(&browser("abcd", PRINT, "actpass"));
    opened(&mut stage);
    let (text, config) = answered(&mut stage);
    assert!(text.contains("a=setup:passive\r\n"), "{text}");
    let before = webrtc(&config);
    assert_eq!(before.dtls.role, DtlsRole::Passive);
    assert!(before.keys.is_none() && before.ice.selected.is_none());
    let actions = keyed(&mut stage, before.association);
    let gate = actions
        .iter()
        .position(|action| matches!(action, Action::Store(Store::Put { gate: true })));
    let told = actions
        .iter()
        .position(|action| matches!(action, Action::Media(MediaCommand::Configure { .. })));
    assert!(gate.is_some() && gate < told, "{actions:?}");
    assert!(webrtc(&super::config(&actions)).keys.is_some());
    assert!(media(&keyed(&mut stage, before.association + 1)).is_empty());
}

#[test]
fn a_restart_goes_on_with_keys_path_and_indices() {
    let (mut stage, _) = followed(&browser("abcd", PRINT, "actpass"));
    opened(&mut stage);
    let (_, first) = answered(&mut stage);
    let first_webrtc = webrtc(&first).clone();
    keyed(&mut stage, first_webrtc.association);
    let remote = "192.0.2.10:50000".parse().expect("an address");
    stage.event(Event::Media(MediaEvent::PathSelected {
        remote,
        by_agent: true,
    }));
    let received = vec![ReceivedIndex {
        ssrc: 9,
        index: 70_000,
    }];
    let block = ReserveBlock {
        sequence_end: 5,
        rtcp_index_end: 4_096,
    };
    stage.event(Event::Media(MediaEvent::Reserve {
        block,
        timestamp: 1,
        received: received.clone(),
    }));
    let mut stage = restored(&stage);
    let actions = stage.event(Event::Restored(Restored::NodeStart));
    assert_eq!(socket(&actions), Some(LegSocket::Shared));
    let config = config(&opened(&mut stage));
    let after = webrtc(&config);
    assert_eq!(after.ice.local, first_webrtc.ice.local, "nobody is told");
    assert_eq!(after.ice.selected, Some(remote));
    assert_eq!(after.association, first_webrtc.association);
    let keys = after.keys.as_ref().expect("keys");
    assert_eq!(keys.our_key, super::protected::keys().our_key);
    assert_eq!((keys.rtcp_index_start, &keys.received), (4_096, &received));
    assert_eq!(
        (config.sequence_start, config.rollover_start),
        (5, 1),
        "the block rolled over"
    );
}

#[test]
fn new_credentials_keep_the_keys_and_a_new_certificate_does_not() {
    let (mut stage, _) = followed(&browser("abcd", PRINT, "actpass"));
    opened(&mut stage);
    let (_, first) = answered(&mut stage);
    let first = webrtc(&first).clone();
    keyed(&mut stage, first.association);
    stage.tell(Message::TakeOffer {
        sdp: browser("efgh", PRINT, "actpass"),
    });
    let (_, second) = answered(&mut stage);
    let second = webrtc(&second).clone();
    assert_ne!(second.ice.local, first.ice.local, "RFC 8839 §4.4.1.1.1");
    assert_eq!(second.association, first.association);
    assert!(second.keys.is_some());
    stage.tell(Message::TakeOffer {
        sdp: browser("efgh", &PRINT.replace("11:", "12:"), "active"),
    });
    let (_, third) = answered(&mut stage);
    let third = webrtc(&third);
    assert_eq!(third.association, first.association + 1);
    assert!(third.keys.is_none());
}

/// RFC 8445 §9: media goes where it went. A peer that answers with the credentials it had sends no
/// checks, and a node that goes on with the call then has no other address.
#[test]
fn an_address_is_known_while_a_restart_has_selected_no_other() {
    let (mut stage, _) = followed(&browser("abcd", PRINT, "actpass"));
    opened(&mut stage);
    let (_, first) = answered(&mut stage);
    keyed(&mut stage, webrtc(&first).association);
    let remote = "192.0.2.10:50000".parse().expect("an address");
    stage.event(Event::Media(MediaEvent::PathSelected {
        remote,
        by_agent: true,
    }));
    for (print, selected) in [
        (PRINT.to_owned(), Some(remote)),
        (PRINT.replace("11:", "12:"), None),
    ] {
        stage.tell(Message::TakeOffer {
            sdp: browser("efgh", &print, "actpass"),
        });
        let (_, anew) = answered(&mut stage);
        assert_eq!(webrtc(&anew).ice.selected, None, "an agent finds it");
        let mut next = restored(&stage);
        next.event(Event::Restored(Restored::NodeStart));
        let resumed = config(&opened(&mut next));
        assert_eq!(webrtc(&resumed).ice.selected, selected);
    }
}

/// threats.md 21.
#[test]
fn candidates_that_may_not_be_sent_to_are_left_out() {
    let (mut stage, _) = followed(&browser("abcd", PRINT, "actpass"));
    opened(&mut stage);
    answered(&mut stage);
    let mut last = Vec::new();
    for address in ["198.51.100.9", "169.254.169.254", "10.0.0.1", "127.0.0.1"] {
        let candidate = format!("candidate:1 1 udp 1 {address} 5000 typ host");
        let actions = stage.tell(Message::Candidate { candidate });
        last = webrtc(&config(&actions)).ice.candidates.clone();
    }
    let addresses: Vec<_> = last.iter().map(|one| one.address.to_string()).collect();
    assert_eq!(addresses, ["198.51.100.9:5000"]);
    let again = "candidate:1 1 udp 1 198.51.100.9 5000 typ host".to_owned();
    assert!(media(&stage.tell(Message::Candidate { candidate: again })).is_empty());
}

#[test]
fn a_leg_keeps_its_kind_of_socket() {
    let (mut stage, _) = followed(&browser("abcd", PRINT, "actpass"));
    opened(&mut stage);
    answered(&mut stage);
    let actions = stage.tell(Message::TakeOffer {
        sdp: Bytes::from(SDP),
    });
    assert_eq!(reports(&actions), [Report::Unfit { status: 488 }]);
}

fn savp(key: &str) -> Bytes {
    Bytes::from(format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
         m=audio 40000 RTP/SAVP 0\r\na=crypto:7 AEAD_AES_128_GCM inline:{key}\r\n\
         a=crypto:8 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n"
    ))
}

#[test]
fn the_first_key_that_can_be_used_is_answered_with_its_tag() {
    let (mut stage, _) = followed(&savp("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="));
    opened(&mut stage);
    let (text, config) = answered(&mut stage);
    assert!(
        text.contains("a=crypto:7 AEAD_AES_128_GCM inline:"),
        "{text}"
    );
    assert_eq!(text.matches("a=crypto").count(), 1);
    let LegTransport::Sdes(keys) = &config.transport else {
        panic!("{:?}", config.transport);
    };
    assert_eq!(keys.peer_key, KeyMaterial::new(vec![0; 16]));
    assert_ne!(keys.our_key, keys.peer_key);
    // The same again changes no key of ours.
    stage.tell(Message::TakeOffer {
        sdp: savp("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="),
    });
    let (_, again) = answered(&mut stage);
    assert_eq!(again.transport, config.transport);
    assert_eq!(again.sequence_start, config.sequence_start);
}

#[test]
fn nothing_secret_is_shown() {
    let (mut stage, _) = followed(&browser("abcd", PRINT, "actpass"));
    opened(&mut stage);
    let (_, config) = answered(&mut stage);
    keyed(&mut stage, webrtc(&config).association);
    let shown = format!(
        "{:?}{}",
        stage.core,
        serde_json::to_string(&stage.core.snapshot(stage.now)).expect("JSON")
    );
    for secret in [
        webrtc(&config).ice.local.pwd.expose(),
        "h4jPPTE5DRn9Bqn1Qx6dSGmn",
    ] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(!shown.contains("[1,1,1,1,1,1"), "{shown}");
}

/// A handshake is between two ends: half of one is worth nothing elsewhere.
#[test]
fn a_leg_is_handed_over_once_it_has_its_keys() {
    let (mut stage, _) = followed(&browser("abcd", PRINT, "actpass"));
    opened(&mut stage);
    let (_, config) = answered(&mut stage);
    assert!(media(&stage.tell(Message::HandOver)).is_empty());
    keyed(&mut stage, webrtc(&config).association);
    let actions = stage.tell(Message::HandOver);
    let leg = side(1);
    assert_eq!(media(&actions), [MediaCommand::Close { leg }]);
}
