//! What kind of media callees are offered, and which codecs.

use super::fixture::*;
use super::json::{ALICE, browser, sdp_of};
use crate::site::MediaPolicy;

fn body(sent: &Sent) -> String {
    String::from_utf8_lossy(sent.message.body()).into_owned()
}

fn account<'w>(world: &'w mut World, name: &str) -> &'w mut crate::site::Account {
    let users = &mut world.site.domains[0].users;
    users.get_mut(name).expect("an account")
}

#[test]
fn a_phone_that_refuses_plain_rtp_is_offered_sdes_then_webrtc() {
    for refusal in [488, 415, 606] {
        let mut world = World::new();
        world.call("1001", SDP_A);
        let kinds = ["RTP/AVP", "RTP/SAVP", "UDP/TLS/RTP/SAVPF"];
        for (attempt, kind) in kinds.into_iter().enumerate() {
            assert_eq!(world.count(B, "INVITE"), attempt + 1);
            let offer = body(&world.last(B, "INVITE"));
            assert!(offer.contains(&format!(" {kind} ")), "{offer}");
            world.answer(B, "INVITE", refusal, "");
        }
        assert_eq!(world.count(B, "INVITE"), 3, "and then no more");
        assert_eq!(world.count(A, &refusal.to_string()), 1);
    }
}

#[test]
fn a_phone_that_takes_sdes_is_talked_to() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 488, "");
    let offer = body(&world.last(B, "INVITE"));
    let crypto = offer.lines().find(|line| line.starts_with("a=crypto:"));
    let answer = SDP_B.replace("RTP/AVP", "RTP/SAVP") + crypto.expect("a key") + "\r\n";
    world.answer(B, "INVITE", 200, &answer);
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn a_busy_phone_is_not_called_again() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 486, "");
    assert_eq!(world.count(B, "INVITE"), 1);
    assert_eq!(world.count(A, "486"), 1);
}

#[test]
fn an_account_says_what_its_phones_are_offered() {
    for (policy, kind) in [
        (MediaPolicy::Rtp, "RTP/AVP"),
        (MediaPolicy::Sdes, "RTP/SAVP"),
        (MediaPolicy::Webrtc, "UDP/TLS/RTP/SAVPF"),
    ] {
        let mut world = World::new();
        account(&mut world, "1001").media = policy;
        world.call("1001", SDP_A);
        let offer = body(&world.last(B, "INVITE"));
        assert!(offer.contains(&format!(" {kind} ")), "{offer}");
        world.answer(B, "INVITE", 488, "");
        assert_eq!(world.count(B, "INVITE"), 1, "nothing else is tried");
    }
}

#[test]
fn a_phone_over_websocket_is_offered_webrtc() {
    let mut world = World::new();
    world.targets[0].flow = crate::script::datagram(WEB, B);
    account(&mut world, "1001").media = MediaPolicy::Rtp;
    world.call("1001", SDP_A);
    assert!(body(&world.last(B, "INVITE")).contains("UDP/TLS/RTP/SAVPF"));
}

#[test]
fn a_codec_that_an_account_may_not_use_is_in_no_description() {
    let list = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect());
    // The caller's browser offers opus; its account may not use it.
    let mut world = World::new();
    account(&mut world, "1000").codecs = list(&["pcma", "pcmu"]);
    world.register(ALICE, "1000");
    world.dial("1001");
    let offer = body(&world.last(B, "INVITE"));
    assert!(
        !offer.contains("opus") && offer.contains("m=audio"),
        "{offer}"
    );
    assert!(offer.contains("telephone-event"), "{offer}");
    world.answer(B, "INVITE", 200, SDP_B);
    let answer = sdp_of(&world.told(ALICE, "callAccepted"));
    assert!(!answer.contains("opus"), "{answer}");

    // The callee's account may use one only.
    let mut world = World::new();
    account(&mut world, "1001").codecs = list(&["PCMA"]);
    world.call("1001", SDP_A);
    let offer = body(&world.last(B, "INVITE"));
    let line = offer.lines().find(|line| line.starts_with("m=audio"));
    assert!(
        line.is_some_and(|line| line.ends_with(" RTP/AVP 8 101")),
        "{offer}"
    );

    // An application too.
    let mut world = World::new();
    account(&mut world, "1000").codecs = list(&["pcmu"]);
    world.register(ALICE, "1000");
    world.dial("9196");
    let answer = sdp_of(&world.told(ALICE, "callAccepted"));
    assert!(
        !answer.contains("opus") && !answer.contains("PCMA"),
        "{answer}"
    );
    assert_ne!(answer, browser("passive", "sendrecv"));
}

#[test]
fn accounts_without_a_common_codec_cannot_talk() {
    let mut world = World::new();
    account(&mut world, "1001").codecs = Some(vec!["g722".to_owned()]);
    world.call("1001", SDP_A);
    assert_eq!(world.count(B, "INVITE"), 0);
    assert_eq!(world.count(A, "488"), 1);
}

#[test]
fn a_delayed_offer_has_the_codecs_of_the_account() {
    let mut world = World::new();
    account(&mut world, "1001").codecs = Some(vec!["pcma".to_owned()]);
    world.call("1001", "");
    let offer = body(&world.last(B, "INVITE"));
    assert!(offer.contains(" RTP/AVP 8 101\r\n"), "{offer}");
}
