//! Chromium with JsSIP and with `/phone`: calls with plain phones, with sipp, with baresip, with each
//! other. Each direction is proven by the sine that is heard at its end.

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use std::net::SocketAddr;

use serde_json::{Value, json};

use weft_tests::baresip::{Baresip, Namespace, Setup};
use weft_tests::browser::{Browser, Page};
use weft_tests::capture::sine;
use weft_tests::lacks;
use weft_tests::node::{self, Node};
use weft_tests::plain::Plain;
use weft_tests::ports::free_port;
use weft_tests::sipp::{self, Sipp};
use weft_tests::wait::{self, PATIENCE};

fn is_held(details: &Value) -> bool {
    let hold = &details["hold"];
    hold["local"] == json!(true)
}

fn is_free(details: &Value) -> bool {
    let hold = &details["hold"];
    hold["local"] == json!(false) && hold["remote"] == json!(false)
}

/// Page 1000 with a sine of 500 Hz and a plain phone 1001 of 700 Hz: each calls, each hangs up once,
/// and what the page can do within a call.
fn with_a_plain_phone(node: &Node, page: &Page<'_>) {
    let mut plain = Plain::new(node.sip, "1001", 700.0);
    page.call("1001");
    let side = plain.take();
    page.wait("active");
    page.hears(700.0);
    plain.hears(500.0);

    page.must("dtmf", json!({ "digits": "5", "method": "rfc4733" }));
    wait::until("a telephone event", PATIENCE, || {
        (plain.pump.heard(plain.socket).events == [5]).then_some(())
    });

    plain.while_serving(&side, || {
        page.must("hold", json!({}));
        page.until("the hold", is_held);
    });
    plain.while_serving(&side, || {
        page.must("resume", json!({}));
        page.until("the end of the hold", is_free);
    });
    page.hears(700.0);
    plain.hears(500.0);

    plain.while_serving(&side, || {
        page.must("iceRestart", json!({}));
        page.hears(700.0);
    });
    plain.hears(500.0);

    page.must("hangup", json!({}));
    assert!(plain.phone.serve(&side, "BYE", None, PATIENCE).is_some());
    node.no_calls_left();

    let mut side = plain.call("1000", page);
    page.wait("active");
    page.hears(700.0);
    plain.hears(500.0);
    assert_eq!(plain.phone.bye(&mut side), 200);
    page.wait("ended");
    node.no_calls_left();
    assert_eq!(plain.phone.register(0).status(), 200);
}

/// Page 1000 with a sine of 500 Hz calls sipp, which sends back what it hears; and is called by sipp,
/// which sends 440 Hz.
fn with_sipp(node: &Node, page: &Page<'_>) {
    let callee = sipp::callee(node.sip, "answer.xml");
    page.call("1001");
    page.wait("active");
    page.hears(500.0);
    page.must("hangup", json!({}));
    callee.wait().must_succeed();
    node.no_calls_left();

    let running = Sipp::new("call_rtp.xml", node.sip)
        .file("tone.ul", &sine(440.0, 10_000.0, 8_000))
        .key("called", "1000")
        .lines(&["1002;[authentication username=1002 password=weft-1002]".to_owned()])
        .calls(1, 1)
        .start();
    page.wait("incoming");
    page.must("answer", json!({}));
    page.hears(440.0);
    running.wait().must_succeed();
    page.wait("ended");
    node.no_calls_left();
}

/// Two pages, 500 Hz and 600 Hz: each calls and each hangs up; digits arrive.
fn with_each_other(node: &Node, one: &Page<'_>, other: &Page<'_>, called: &str) {
    one.call(called);
    other.wait("incoming");
    other.must("answer", json!({}));
    one.wait("active");
    other.wait("active");
    one.hears(600.0);
    other.hears(500.0);
    one.must("dtmf", json!({ "digits": "42", "method": "info" }));
    other.until("digits", |it| it["digits"].to_string().contains('2'));
    other.must("hangup", json!({}));
    one.wait("ended");
    node.no_calls_left();
}

fn lacks_chromium() -> bool {
    lacks(&["chromium", "node", "sipp", "baresip"])
}

fn ws(node: &Node) -> String {
    format!("ws://{}/ws", node.http)
}

#[test]
fn jssip_over_ws() {
    if lacks_chromium() {
        return;
    }
    let node = Node::start("");
    let browser = Browser::start();
    let page = browser.sip(node.http, &ws(&node), "1000", 500.0);
    with_a_plain_phone(&node, &page);
    with_sipp(&node, &page);
    node.webrtc_legs_were_set_up_by_the_crates();
}

#[test]
fn jssip_over_wss_and_the_page() {
    if lacks_chromium() {
        return;
    }
    let secure = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let node = Node::start(&format!(
        "[[profile]]\nname = \"web\"\nwss = [\"{secure}\"]\nauth = \"digest\"\n"
    ));
    let browser = Browser::start();
    let url = format!("wss://{secure}/");
    let sip = browser.sip(node.http, &url, "1000", 500.0);
    with_a_plain_phone(&node, &sip);
    let json = browser.phone(node.http, "1003", 600.0);
    with_each_other(&node, &sip, &json, "1003");
    // The other way round: who calls has 500 Hz.
    json.must("unregister", json!({}));
    let json = browser.phone(node.http, "1004", 500.0);
    let sip = browser.sip(node.http, &url, "1005", 600.0);
    with_each_other(&node, &json, &sip, "1005");
    node.webrtc_legs_were_set_up_by_the_crates();
}

#[test]
fn the_page_over_ws() {
    if lacks_chromium() {
        return;
    }
    let node = Node::start("");
    let browser = Browser::start();
    let page = browser.phone(node.http, "1000", 500.0);
    with_a_plain_phone(&node, &page);
    with_sipp(&node, &page);
    node.webrtc_legs_were_set_up_by_the_crates();
    for (service, hertz) in [("9196", 500.0), ("9197", 1004.0)] {
        page.call(service);
        page.wait("active");
        page.hears(hertz);
        page.must("hangup", json!({}));
        node.no_calls_left();
    }
}

/// A page of JsSIP registers again after a reload, as the same user from another connection.
#[test]
fn jssip_registers_again_after_a_reload() {
    if lacks_chromium() {
        return;
    }
    let node = Node::start("");
    let browser = Browser::start();
    let page = browser.sip(node.http, &ws(&node), "1000", 500.0);
    page.must("reload", json!({}));
    // The page's script starts again, with another connection.
    let page = browser.sip(node.http, &ws(&node), "1000", 500.0);
    with_a_plain_phone(&node, &page);
}

#[test]
fn the_page_is_reloaded() {
    if lacks_chromium() {
        return;
    }
    let node = Node::start("");
    let browser = Browser::start();
    let page = browser.phone(node.http, "1000", 500.0);
    let mut plain = Plain::new(node.sip, "1001", 700.0);
    page.call("1001");
    let side = plain.take();
    page.wait("active");
    page.hears(700.0);
    plain.while_serving(&side, || {
        page.must("reload", json!({}));
        page.until("the registration", |it| it["registered"] == json!(true));
        page.wait("active");
        page.hears(700.0);
    });
    page.must("hangup", json!({}));
    assert!(plain.phone.serve(&side, "BYE", None, PATIENCE).is_some());
    node.no_calls_left();
}

/// A page of each kind and a baresip whose account has a policy for its media; `keys` are more of
/// `[media]`.
fn pages_and_baresip(space: &Namespace, protection: &str, path: &str, media: &str, keys: &str) {
    let outside = SocketAddr::from((space.ours, 5060));
    let extra = format!(
        "[[profile]]\nname = \"outside\"\nudp = [\"{outside}\"]\nauth = \"digest\"\n\
         acl = [\"10.77.0.0/16\"]\n\
         [[user]]\nname = \"2002\"\npassword = \"weft-2002\"\nmedia = \"{media}\"\n\
         [[route]]\nname = \"outside\"\nmatch = {{ destination = \"^2002$\" }}\n\
         do = [{{ bridge = \"user/2002\" }}]\n"
    );
    let node = Node::set_up(&node::Setup {
        media: keys,
        extra: &extra,
        ..node::Setup::default()
    });
    let setup = Setup {
        protection,
        path,
        loops: true,
        ..Setup::plain("2002")
    };
    let mut far = Baresip::with(space, &setup, outside, 440);
    let browser = Browser::start();
    let sip = browser.sip(node.http, &ws(&node), "1000", 500.0);
    let json = browser.phone(node.http, "1001", 600.0);
    for (page, user, hertz) in [(sip, "1000", 500.0), (json, "1001", 600.0)] {
        page.call("2002");
        page.wait("active");
        // It sends back what it hears.
        page.hears(hertz);
        if keys.contains("GCM") {
            let stats = page.must("stats", json!({}));
            let cipher = &stats["transport"]["srtpCipher"];
            assert!(cipher.to_string().contains("GCM"), "{stats}");
        }
        page.must("hangup", json!({}));
        node.no_calls_left();

        if protection.starts_with("srtp") && keys.contains("GCM") {
            // It takes GCM, but does not offer it.
            continue;
        }
        far.forget();
        far.command("dial", &format!("sip:{user}@{outside};transport=udp"));
        page.wait("incoming");
        page.must("answer", json!({}));
        page.hears(hertz);
        far.command("hangup", "");
        page.wait("ended");
        node.no_calls_left();
    }
    node.webrtc_legs_were_set_up_by_the_crates();
}

#[test]
fn pages_and_baresip_with_dtls() {
    if !lacks_chromium() {
        pages_and_baresip(&Namespace::new(15), "dtls_srtp", "ice", "webrtc", "");
    }
}

#[test]
fn pages_and_baresip_with_sdes() {
    if !lacks_chromium() {
        pages_and_baresip(&Namespace::new(16), "srtp-mand", "", "auto", "");
    }
}

#[test]
fn pages_and_baresip_with_dtls_and_gcm() {
    if !lacks_chromium() {
        let keys = "srtp = [\"AEAD_AES_128_GCM\"]";
        pages_and_baresip(&Namespace::new(17), "dtls_srtp", "ice", "webrtc", keys);
    }
}

#[test]
fn pages_and_baresip_with_sdes_and_gcm() {
    if !lacks_chromium() {
        let keys = "srtp = [\"AEAD_AES_256_GCM\"]";
        pages_and_baresip(&Namespace::new(18), "srtp-mand", "", "auto", keys);
    }
}
