//! Groups of users: who rings when, who has the call, who hears whom by sines (RFC 3261 §16.6, §16.7).

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use std::net::SocketAddr;

use serde_json::json;

use weft_tests::baresip::{Baresip, Namespace};
use weft_tests::browser::{Browser, Page};
use weft_tests::lacks;
use weft_tests::node::Node;
use weft_tests::phone::{Calling, Dialog};
use weft_tests::plain::Plain;
use weft_tests::wait::PATIENCE;

const GROUPS: &str = r#"
[[group]]
name = "all"
members = ["1000", "1001", "1002"]
ring_s = 30

[[group]]
name = "turn"
members = ["1001", "1000", "1002"]
order = "in_turn"
ring_s = 3

[[route]]
name = "all"
match = { destination = "^2001$" }
do = [{ bridge = "group/all" }]

[[route]]
name = "turn"
match = { destination = "^2002$" }
do = [{ bridge = "group/turn" }]

[[route]]
name = "mine"
match = { destination = '^\*8$' }
do = [{ pickup = "groups" }]

[[route]]
name = "one"
match = { destination = '^\*\*(1...)$' }
do = [{ pickup = "user/$1" }]

[[route]]
name = "then"
match = { destination = "^2003$" }
do = [{ bridge = "user/1001,user/1009|user/1000" }]
"#;

/// Browsers of both doors ring at once for a phone, and for each other.
#[test]
fn a_group_rings_in_browsers_and_the_first_who_answers_has_the_call() {
    if lacks(&["chromium", "node"]) {
        return;
    }
    let node = Node::start(GROUPS);
    let browser = Browser::start();
    let json_page = browser.phone(node.http, "1000", 500.0);
    let url = format!("ws://{}/ws", node.http);
    let sip_page = browser.sip(node.http, &url, "1001", 600.0);
    let mut plain = Plain::new(node.sip, "1002", 700.0);

    // All at once; who calls is not called.
    let calling = plain.phone.call("2001", plain.port);
    json_page.wait("incoming");
    sip_page.wait("incoming");
    sip_page.must("answer", json!({}));
    let side = answered(&mut plain, &calling);
    json_page.wait("ended");
    sip_page.wait("active");
    sip_page.hears(700.0);
    plain.hears(600.0);
    hung_up(&node, &sip_page, &mut plain, &side);

    // One declines for good: the others ring on, and one of them has the call.
    json_page.call("2001");
    sip_page.wait("incoming");
    sip_page.must("reject", json!({ "code": 603 }));
    let side = plain.take();
    json_page.wait("active");
    json_page.hears(700.0);
    plain.hears(500.0);
    hung_up(&node, &json_page, &mut plain, &side);

    // One after another: the first lets it ring for its three seconds, the second declines.
    let calling = plain.phone.call("2002", plain.port);
    sip_page.wait("incoming");
    json_page.wait("incoming");
    sip_page.wait("ended");
    json_page.must("reject", json!({ "code": 486 }));
    let outcome = plain.phone.outcome(&calling, PATIENCE).expect("a response");
    assert_eq!(outcome.status(), 480, "nobody answered the first");
    node.no_calls_left();

    // A dial string: when nobody of the first has answered, the second is called.
    let calling = plain.phone.call("2003", plain.port);
    sip_page.wait("incoming");
    sip_page.must("reject", json!({ "code": 486 }));
    json_page.wait("incoming");
    json_page.must("answer", json!({}));
    let side = answered(&mut plain, &calling);
    json_page.wait("active");
    json_page.hears(700.0);
    plain.hears(500.0);
    hung_up(&node, &json_page, &mut plain, &side);
}

/// `/phone`, JsSIP and a plain phone pick up what rings another: they talk to the caller, nobody rings any more.
#[test]
fn a_call_that_rings_another_is_picked_up() {
    if lacks(&["chromium", "node"]) {
        return;
    }
    let node = Node::start(GROUPS);
    let browser = Browser::start();
    let json_page = browser.phone(node.http, "1000", 500.0);
    let url = format!("ws://{}/ws", node.http);
    let sip_page = browser.sip(node.http, &url, "1001", 600.0);
    let mut plain = Plain::new(node.sip, "1002", 700.0);
    let mut caller = Plain::new(node.sip, "1003", 800.0);

    // It rings JsSIP; the page picks it up.
    for code in ["**1001", "*8"] {
        let calling = caller.phone.call("1001", caller.port);
        sip_page.wait("incoming");
        json_page.call(code);
        let mine = answered(&mut caller, &calling);
        sip_page.wait("ended");
        let hears = || {
            json_page.wait("active");
            json_page.hears(800.0);
        };
        caller.while_serving(&mine, hears);
        caller.hears(500.0);
        hung_up(&node, &json_page, &mut caller, &mine);
    }
    let events = sip_page.details()["events"].to_string();
    assert!(
        events.contains("ended") || events.contains("failed"),
        "{events}"
    );

    // It rings the page; JsSIP picks it up.
    let calling = caller.phone.call("1000", caller.port);
    json_page.wait("incoming");
    sip_page.call("**1000");
    let mine = answered(&mut caller, &calling);
    json_page.wait("ended");
    caller.while_serving(&mine, || {
        sip_page.wait("active");
        sip_page.hears(800.0);
    });
    caller.hears(600.0);
    hung_up(&node, &sip_page, &mut caller, &mine);

    // JsSIP calls the page; a plain phone of their group picks it up.
    sip_page.call("1000");
    json_page.wait("incoming");
    let calling = plain.phone.call("*8", plain.port);
    let mine = answered(&mut plain, &calling);
    json_page.wait("ended");
    plain.while_serving(&mine, || {
        sip_page.wait("active");
        sip_page.hears(700.0);
    });
    plain.hears(600.0);
    hung_up(&node, &sip_page, &mut plain, &mine);

    // Nothing rings.
    let calling = plain.phone.call("**1000", plain.port);
    let outcome = plain.phone.outcome(&calling, PATIENCE).expect("a response");
    assert_eq!(outcome.status(), 480);
}

/// A call of a plain phone is answered.
fn answered(phone: &mut Plain, calling: &Calling) -> Dialog {
    let answer = phone.phone.outcome(calling, PATIENCE).expect("an answer");
    assert_eq!(answer.status(), 200, "{answer:?}");
    let side = phone.phone.established(calling, &answer);
    phone.pump.aim(phone.socket, Some(side.media));
    side
}

/// A page hangs up on a plain phone.
fn hung_up(node: &Node, page: &Page<'_>, phone: &mut Plain, side: &Dialog) {
    page.must("hangup", json!({}));
    assert!(phone.phone.serve(side, "BYE", None, PATIENCE).is_some());
    node.no_calls_left();
}

/// `kill -9` while a group rings: its phones ring on over the restart, and one of them may answer.
#[test]
fn a_group_rings_on_after_a_crash() {
    if lacks(&["chromium", "node"]) {
        return;
    }
    let mut node = Node::start(GROUPS);
    let browser = Browser::start();
    let url = format!("ws://{}/ws", node.http);
    let sip_page = browser.sip(node.http, &url, "1001", 600.0);
    let mut plain = Plain::new(node.sip, "1000", 700.0);
    let mut other = Plain::new(node.sip, "1002", 800.0);
    let calling = plain.phone.call("2001", plain.port);
    sip_page.wait("incoming");
    let invite = other.phone.ringing(PATIENCE).expect("an INVITE");
    let rings = plain.phone.progress(&calling, 180, PATIENCE);
    assert!(rings.is_some());
    node.kill();
    node.start_again();
    node.wait_ready();
    let side = other.phone.answer(&invite, other.port);
    other.pump.aim(other.socket, Some(side.media));
    let mine = answered(&mut plain, &calling);
    // Its connection was of the node's former life: it hears over the next one that others have the call.
    sip_page.wait("ended");
    plain.hears(800.0);
    other.hears(700.0);
    assert_eq!(plain.phone.bye(&mut { mine }), 200);
    assert!(other.phone.serve(&side, "BYE", None, PATIENCE).is_some());
    node.no_calls_left();
}

#[test]
fn baresip_takes_the_call_of_a_group_when_a_browser_has_not() {
    if lacks(&["chromium", "node", "baresip", "ip"]) {
        return;
    }
    let space = Namespace::new(24);
    let outside = SocketAddr::from((space.ours, 5060));
    let node = Node::start(&format!(
        "[[profile]]\nname = \"outside\"\nudp = [\"{outside}\"]\nauth = \"digest\"\nacl = [\"10.77.0.0/16\"]\n{GROUPS}"
    ));
    let _phone = Baresip::start(&space, "1002", outside, 440);
    let browser = Browser::start();
    let page = browser.phone(node.http, "1000", 500.0);
    let url = format!("ws://{}/ws", node.http);
    let other = browser.sip(node.http, &url, "1001", 600.0);
    page.call("2002");
    other.wait("incoming");
    page.wait("active");
    other.wait("ended");
    page.hears(440.0);
    page.must("hangup", json!({}));
    node.no_calls_left();
}

const HOURS: &str = r#"
[[hours]]
name = "always"
zone = "Pacific/Auckland"
open = ["mo-su 00:00-24:00"]

[[hours]]
name = "once"
zone = "Europe/Berlin"
also = ["2020-02-29 23:00-01:00"]

[[route]]
name = "day"
match = { destination = "^300[0-2]$", hours = "always" }
do = [{ bridge = "user/1001" }]

[[route]]
name = "night"
match = { destination = "^300[0-2]$", hours = "!always" }
do = [{ hangup = "USER_BUSY" }]

[[route]]
name = "feast"
match = { destination = "^3003$", hours = "once" }
do = [{ bridge = "user/1001" }]

[[route]]
name = "shut"
match = { destination = "^3003$", hours = "!once" }
do = [{ hangup = "USER_BUSY" }]

[[route]]
name = "nobody"
match = { destination = "^3004$", hours = "once" }
do = [{ bridge = "user/1001" }]
"#;

/// One number leads elsewhere while it is closed; a call to where no route is open is one to nowhere.
#[test]
fn a_number_leads_where_its_hours_say() {
    let node = Node::start(HOURS);
    let mut callee = Plain::new(node.sip, "1001", 600.0);
    let mut caller = Plain::new(node.sip, "1003", 800.0);
    let calling = caller.phone.call("3000", caller.port);
    let side = callee.take();
    let mut own = answered(&mut caller, &calling);
    callee.hears(800.0);
    caller.hears(600.0);
    assert_eq!(caller.phone.bye(&mut own), 200);
    assert!(callee.phone.serve(&side, "BYE", None, PATIENCE).is_some());
    for (number, status) in [("3003", 486), ("3004", 404)] {
        let calling = caller.phone.call(number, caller.port);
        let outcome = caller
            .phone
            .outcome(&calling, PATIENCE)
            .expect("a response");
        assert_eq!(outcome.status(), status, "{number}");
    }
    node.no_calls_left();
}
