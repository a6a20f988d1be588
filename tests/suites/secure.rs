//! Phones with protected media: baresip with DTLS-SRTP and ICE, with SDES, over TLS, against a phone
//! in clear. What the far end sends comes back through both legs, so each direction is proven by
//! the tone that is heard.

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use std::net::SocketAddr;
use std::time::Duration;

use weft_tests::baresip::{Baresip, Namespace, Setup};
use weft_tests::capture::tone;
use weft_tests::is_left_out;
use weft_tests::media::Pump;
use weft_tests::node::{self, Node};
use weft_tests::phone::Phone;
use weft_tests::sipp;
use weft_tests::wait;

/// What baresip says when the first packet that it could open has come.
const INCOMING: &str = "incoming rtp for 'audio' established";
const LIMIT: Duration = Duration::from_secs(20);

/// A node that listens on the namespace's side as well, over UDP and TLS; `media` is the policy of
/// the account 2002, `keys` are more of `[media]`.
fn start(space: &Namespace, media: &str, keys: &str) -> (Node, SocketAddr, SocketAddr) {
    let outside = SocketAddr::from((space.ours, 5060));
    let tls = SocketAddr::from((space.ours, 5061));
    let extra = format!(
        "[[profile]]\nname = \"outside\"\nudp = [\"{outside}\"]\ntls = [\"{tls}\"]\nauth = \"digest\"\n\
         acl = [\"10.77.0.0/16\"]\n[[user]]\nname = \"2002\"\npassword = \"weft-2002\"\nmedia = \"{media}\"\n\
         [[route]]\nname = \"outside\"\nmatch = {{ destination = \"^2002$\" }}\n\
         do = [{{ bridge = \"user/2002\" }}]\n"
    );
    let node = Node::set_up(&node::Setup {
        media: keys,
        extra: &extra,
        ..node::Setup::default()
    });
    (node, outside, tls)
}

/// The strongest tone that a socket of the pump has heard in its last second.
fn heard(pump: &Pump, number: usize) -> f64 {
    wait::until("a second of sound", LIMIT, || {
        (pump.heard(number).payload.len() >= 8_000).then_some(())
    });
    tone(&pump.heard(number).payload).0
}

/// The clear phone 1000 calls baresip 2002, which sends back what it hears; then baresip calls it,
/// or is refused before anybody rings where it cannot offer what is asked for.
fn both_ways(space: &Namespace, setup: &Setup<'_>, media: &str, keys: &str, markers: &[&str]) {
    let (node, outside, tls) = start(space, media, keys);
    let server = if setup.transport == "tls" {
        tls
    } else {
        outside
    };
    let mut far = Baresip::with(space, setup, server, 440);
    let pump = Pump::new();
    let mut alice = Phone::new(node.sip, "1000");
    assert_eq!(alice.register(300).status(), 200);

    let (a, port) = pump.add();
    pump.play(a, 600.0);
    let calling = alice.call("2002", port);
    let answer = alice
        .progress(&calling, 200, LIMIT)
        .unwrap_or_else(|| panic!("baresip answers\n{}\n{}", far.log(), node.log()));
    assert_eq!(answer.status(), 200, "{}\n{}", far.log(), node.log());
    let mut side = alice.established(&calling, &answer);
    pump.aim(a, Some(side.media));
    wait::until("the tone to come back", LIMIT, || {
        pump.forget_sound(a);
        ((heard(&pump, a) - 600.0).abs() < 3.0).then_some(())
    });
    for marker in markers {
        assert!(far.log().contains(marker), "no {marker}\n{}", far.log());
    }
    assert_eq!(alice.bye(&mut side), 200);
    node.no_calls_left();

    let (b, port) = pump.add();
    pump.play(b, 700.0);
    far.forget();
    far.command(
        "dial",
        &format!("sip:1000@{server};transport={}", setup.transport),
    );
    if setup.protection.starts_with("srtp") && keys.contains("GCM") {
        // It takes GCM, but does not offer it.
        wait::until("a refusal", LIMIT, || {
            far.log().contains("session closed: 488").then_some(())
        });
        assert!(alice.ringing(Duration::from_millis(200)).is_none());
        return node.no_calls_left();
    }
    let invite = alice
        .ringing(LIMIT)
        .unwrap_or_else(|| panic!("an INVITE\n{}\n{}", far.log(), node.log()));
    let mut side = alice.answer(&invite, port);
    pump.aim(b, Some(side.media));
    wait::until("the tone to come back", LIMIT, || {
        pump.forget_sound(b);
        ((heard(&pump, b) - 700.0).abs() < 3.0).then_some(())
    });
    assert_eq!(alice.bye(&mut side), 200);
    wait::until("baresip to be told", LIMIT, || {
        far.has_said("CALL_CLOSED").then_some(())
    });
    node.no_calls_left();
    if media == "webrtc" {
        node.webrtc_legs_were_set_up_by_the_crates();
    }
}

/// sipp calls baresip 2002, which sends back what it hears; then baresip calls sipp, which does.
fn with_sipp(space: &Namespace, setup: &Setup<'_>, media: &str, keys: &str) {
    if weft_tests::lacks(&["sipp", "tshark"]) {
        return;
    }
    let (node, server, _) = start(space, media, keys);
    let mut far = Baresip::with(space, setup, server, 440);
    // Its own clock plays what it heard: here and there a packet of silence.
    let louder = sipp::hears_itself(&node, "2002");
    assert!(louder.abs() < 6.0, "{louder} dB");
    node.no_calls_left();

    if setup.protection.starts_with("srtp") && keys.contains("GCM") {
        return;
    }
    let callee = sipp::callee(node.sip, "answer.xml");
    let before = far.log().matches(INCOMING).count();
    far.command("dial", &format!("sip:1001@{server};transport=udp"));
    wait::until("sound from sipp", LIMIT, || {
        (far.log().matches(INCOMING).count() > before).then_some(())
    });
    far.command("hangup", "");
    callee.wait().must_succeed();
    node.no_calls_left();
}

fn is_ready() -> bool {
    let is_ready = !is_left_out("baresip");
    if !is_ready {
        println!("left out: baresip");
    }
    is_ready
}

const CM_FIRST: &str = "";
const GCM_128: &str = "srtp = [\"AEAD_AES_128_GCM\"]";
const GCM_256: &str = "srtp = [\"AEAD_AES_256_GCM\"]";

/// A baresip that sends back what it hears, protected so.
fn protected(protection: &'static str, path: &'static str) -> Setup<'static> {
    Setup {
        protection,
        path,
        loops: true,
        ..Setup::plain("2002")
    }
}

#[test]
fn baresip_with_dtls_srtp_and_ice() {
    if !is_ready() {
        return;
    }
    let (space, setup) = (Namespace::new(11), protected("dtls_srtp", "ice"));
    both_ways(&space, &setup, "webrtc", CM_FIRST, &["DTLS"]);
    with_sipp(&space, &setup, "webrtc", CM_FIRST);
}

#[test]
fn baresip_with_dtls_srtp_and_gcm() {
    if !is_ready() {
        return;
    }
    let (space, setup) = (Namespace::new(19), protected("dtls_srtp", "ice"));
    both_ways(&space, &setup, "webrtc", GCM_256, &["AEAD_AES_256_GCM"]);
    with_sipp(&space, &setup, "webrtc", GCM_128);
}

#[test]
fn baresip_with_sdes_mandatory() {
    if !is_ready() {
        return;
    }
    let (space, setup) = (Namespace::new(12), protected("srtp-mand", ""));
    both_ways(&space, &setup, "sdes", CM_FIRST, &["srtp"]);
    with_sipp(&space, &setup, "sdes", CM_FIRST);
}

#[test]
fn baresip_with_sdes_and_gcm() {
    if !is_ready() {
        return;
    }
    let (space, setup) = (Namespace::new(20), protected("srtp-mand", ""));
    both_ways(&space, &setup, "sdes", GCM_128, &["AEAD_AES_128_GCM"]);
    with_sipp(&space, &setup, "sdes", GCM_256);
}

/// The account says nothing of its media: a refusal of one kind of offer leads to the next.
#[test]
fn baresip_with_sdes_mandatory_is_found_out() {
    if !is_ready() {
        return;
    }
    let setup = protected("srtp-mand", "");
    both_ways(&Namespace::new(13), &setup, "auto", CM_FIRST, &["srtp"]);
}

#[test]
fn baresip_over_tls() {
    if !is_ready() {
        return;
    }
    let setup = Setup {
        transport: "tls",
        ..protected("srtp-mand", "")
    };
    both_ways(&Namespace::new(14), &setup, "sdes", CM_FIRST, &["srtp"]);
}
