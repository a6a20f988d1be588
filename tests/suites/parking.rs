//! Park and retrieve (issue 5): `/phone`, JsSIP and a plain phone park a party by a transfer, and take it from any
//! other; who hears whom is proven by sines.

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use serde_json::json;

use weft_tests::browser::Browser;
use weft_tests::lacks;
use weft_tests::node::Node;
use weft_tests::phone::Dialog;
use weft_tests::plain::Plain;
use weft_tests::wait::{self, PATIENCE};

/// What a parked party hears now and then.
const PARKED_HERTZ: f64 = 440.0;

const PLACES: &str = "[[route]]\nname = \"park\"\nmatch = { destination = \"^(590[1-9])$\" }\ndo = [{ park = \"$1\" }]\n";

/// Calls come back soon, but not before the node is there again.
const SOON: &str = "[limits]\npark_timeout_s = 8\n";

fn state(node: &Node) -> Vec<String> {
    let calls = node.actors("call");
    let states = calls.iter().map(|call| call["state"].as_str());
    states
        .map(|state| state.unwrap_or_default().to_owned())
        .collect()
}

fn wait_for(node: &Node, word: &str) {
    wait::until(&format!("a call that is {word}"), PATIENCE, || {
        state(node).iter().any(|state| state == word).then_some(())
    });
}

/// A plain phone dials, and is answered.
fn dial(phone: &mut Plain, number: &str) -> Dialog {
    let calling = phone.phone.call(number, phone.port);
    let answer = phone.phone.outcome(&calling, PATIENCE).expect("an answer");
    assert_eq!(answer.status(), 200, "{answer:?}");
    let side = phone.phone.established(&calling, &answer);
    phone.pump.aim(phone.socket, Some(side.media));
    side
}

#[test]
fn a_page_parks_a_phone_and_another_page_takes_it() {
    if lacks(&["chromium", "node"]) {
        return;
    }
    let node = Node::start(PLACES);
    let browser = Browser::start();
    let json_page = browser.phone(node.http, "1000", 500.0);
    let url = format!("ws://{}/ws", node.http);
    let sip_page = browser.sip(node.http, &url, "1001", 600.0);
    let mut plain = Plain::new(node.sip, "1002", 700.0);
    for (by, number, taker, hertz) in [
        (&json_page, "1000", &sip_page, 600.0),
        (&sip_page, "1001", &json_page, 500.0),
    ] {
        let side = plain.call(number, by);
        by.wait("active");
        by.hears(700.0);
        plain.while_serving(&side, || {
            by.must("transfer", json!({ "to": "5901" }));
            by.wait("ended");
            wait_for(&node, "parked");
        });
        plain.hears(PARKED_HERTZ);
        assert_eq!(node.actors("parking")[0]["id"], "parking:5901@weft.test");
        plain.while_serving(&side, || {
            taker.call("5901");
            taker.wait("active");
            taker.hears(700.0);
        });
        plain.hears(hertz);
        taker.must("hangup", json!({}));
        assert!(plain.phone.serve(&side, "BYE", None, PATIENCE).is_some());
        node.no_calls_left();
    }
    let places = node.actors("parking");
    let is_free = places.iter().all(|place| place["state"] == "empty");
    assert!(is_free, "{places:?}");
}

/// Who dials an empty place is parked; a transfer into a taken one is refused; a plain phone takes the call.
#[test]
fn a_place_holds_one_call_and_a_transfer_into_it_is_refused() {
    if lacks(&["chromium", "node"]) {
        return;
    }
    let node = Node::start(PLACES);
    let browser = Browser::start();
    let json_page = browser.phone(node.http, "1000", 500.0);
    let url = format!("ws://{}/ws", node.http);
    let sip_page = browser.sip(node.http, &url, "1001", 600.0);
    let mut plain = Plain::new(node.sip, "1002", 700.0);
    let parked = dial(&mut plain, "5905");
    plain.hears(PARKED_HERTZ);
    json_page.call("1001");
    sip_page.wait("incoming");
    sip_page.must("answer", json!({}));
    json_page.wait("active");
    json_page.must("transfer", json!({ "to": "5905" }));
    json_page.until("a busy signal", |details| details["transfer"] == json!(486));
    json_page.hears(600.0);
    sip_page.hears(500.0);
    json_page.must("hangup", json!({}));
    sip_page.wait("ended");
    plain.while_serving(&parked, || {
        json_page.call("5905");
        json_page.wait("active");
        json_page.hears(700.0);
    });
    plain.hears(500.0);
    assert_eq!(plain.phone.bye(&mut { parked }), 200);
    json_page.wait("ended");
    node.no_calls_left();
}

/// Nobody takes it in time: it comes back to who has parked it, over a `kill -9` of the node.
#[test]
fn a_parked_call_comes_back_also_after_a_crash() {
    if lacks(&["chromium", "node"]) {
        return;
    }
    let mut node = Node::start(&format!("{PLACES}{SOON}"));
    let browser = Browser::start();
    let url = format!("ws://{}/ws", node.http);
    let page = browser.sip(node.http, &url, "1001", 600.0);
    let mut plain = Plain::new(node.sip, "1002", 700.0);
    let side = plain.call("1001", &page);
    page.wait("active");
    plain.while_serving(&side, || {
        page.must("transfer", json!({ "to": "5909" }));
        page.wait("ended");
        wait_for(&node, "parked");
    });
    node.kill();
    node.start_again();
    node.wait_ready();
    plain.while_serving(&side, || {
        page.wait("incoming");
        page.must("answer", json!({}));
        page.wait("active");
        page.hears(700.0);
    });
    plain.hears(600.0);
    page.must("hangup", json!({}));
    assert!(plain.phone.serve(&side, "BYE", None, PATIENCE).is_some());
    node.no_calls_left();
}
