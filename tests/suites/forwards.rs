//! Do not disturb and forwarded calls: set by `/phone`, by feature codes of JsSIP and baresip, and over
//! HTTP; who hears whom is proven by sines (RFC 5806, RFC 7044).

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use std::net::SocketAddr;

use serde_json::{Value, json};

use weft_tests::baresip::{Baresip, Namespace};
use weft_tests::browser::{Browser, Page};
use weft_tests::lacks;
use weft_tests::node::Node;
use weft_tests::plain::Plain;
use weft_tests::wait::{self, PATIENCE};

/// The feature codes of the embedded default.
fn feature_codes() -> &'static str {
    let default = include_str!("../../cluster-config/default.toml");
    let from = default.find("[[route]]\nname = \"forward-always\"");
    let to = default.find("[[route]]\nname = \"users\"");
    let found = from.zip(to).and_then(|(from, to)| default.get(from..to));
    found.expect("the routes of feature codes")
}

/// Sets all of a user's settings over HTTP.
fn put(node: &Node, user: &str, settings: &Value) {
    let path = format!("/api/v1/users/{user}/settings");
    let (status, said) = node.order("PUT", &path, &settings.to_string());
    assert_eq!(status, 200, "{said}");
}

/// Waits until a page says what is set.
fn says(page: &Page<'_>, wanted: &str) {
    let now = json!({ "selector": "#settings-now" });
    wait::until(&format!("{wanted:?} on the page"), PATIENCE, || {
        (page.must("text", now.clone()) == wanted).then_some(())
    });
}

/// Calls a number, and returns the status it is refused with.
fn refused(plain: &mut Plain, number: &str) -> u16 {
    let calling = plain.phone.call(number, plain.port);
    let outcome = plain.phone.outcome(&calling, PATIENCE);
    outcome.expect("a response").status()
}

/// The plain phone calls a number, `reached` answers and both hear each other.
fn reaches(node: &Node, plain: &mut Plain, number: &str, reached: &Page<'_>, hertz: f64) {
    let side = plain.call(number, reached);
    reached.wait("active");
    reached.hears(700.0);
    plain.hears(hertz);
    reached.must("hangup", json!({}));
    assert!(plain.phone.serve(&side, "BYE", None, PATIENCE).is_some());
    node.no_calls_left();
}

/// Dials a feature code: it is answered, a tone confirms it, and the call is over.
fn dials_code(page: &Page<'_>, code: &str) {
    page.call(code);
    page.wait("ended");
    let end = page.details();
    let events = end["events"].as_array().expect("events");
    let last: Vec<&str> = events
        .iter()
        .rev()
        .filter_map(Value::as_str)
        .take(3)
        .collect();
    let wanted = [
        "ended remote Terminated",
        "confirmed local",
        "accepted remote",
    ];
    assert_eq!(last, wanted, "{code}");
}

#[test]
fn calls_go_where_users_want_them_from_pages_and_phones() {
    if lacks(&["chromium", "node"]) {
        return;
    }
    let mut node = Node::start(feature_codes());
    let browser = Browser::start();
    let json_page = browser.phone(node.http, "1000", 500.0);
    let url = format!("ws://{}/ws", node.http);
    let sip_page = browser.sip(node.http, &url, "1001", 600.0);
    let mut plain = Plain::new(node.sip, "1002", 700.0);

    // Set by the form of /phone, which says what is set.
    json_page.must("click", json!({ "selector": "#settings summary" }));
    json_page.must("click", json!({ "selector": "#s-dnd" }));
    says(&json_page, "do not disturb");
    assert_eq!(refused(&mut plain, "1000"), 486);
    json_page.must("click", json!({ "selector": "#s-dnd" }));
    says(&json_page, "");
    let save = |number: &str| {
        json_page.must("fill", json!({ "selector": "#s-always", "text": number }));
        json_page.must("click", json!({ "selector": "#settings [type=submit]" }));
    };
    save("1001");
    says(&json_page, "forwarded to 1001");
    reaches(&node, &mut plain, "1000", &sip_page, 600.0);
    save("555");
    let error = json!({ "selector": "#settings-error" });
    wait::until("the refusal", PATIENCE, || {
        let said = json_page.must("text", error.clone());
        said.as_str()?.contains("no route takes 555").then_some(())
    });
    if let Ok(folder) = std::env::var("WEFT_SHOTS") {
        let path = format!("{folder}/settings.png");
        json_page.must(
            "screenshot",
            json!({ "path": path, "width": 1280, "height": 1000 }),
        );
        let path = format!("{folder}/settings-narrow.png");
        json_page.must(
            "screenshot",
            json!({ "path": path, "width": 360, "height": 1200, "theme": "dark" }),
        );
    }
    save("");
    says(&json_page, "");

    // Set by JsSIP: the phone that declines is passed over.
    dials_code(&sip_page, "*901000");
    let calling = plain.phone.call("1001", plain.port);
    sip_page.wait("incoming");
    sip_page.must("reject", json!({ "code": 486 }));
    json_page.wait("incoming");
    let headers = &json_page.details()["headers"];
    let diversion = headers["Diversion"].as_str().unwrap_or_default();
    assert!(
        diversion.contains("sip:1001@") && diversion.contains("user-busy"),
        "{headers}"
    );
    json_page.must("answer", json!({}));
    let answer = plain.phone.outcome(&calling, PATIENCE).expect("an answer");
    let side = plain.phone.established(&calling, &answer);
    json_page.wait("active");
    json_page.must("hangup", json!({}));
    assert!(plain.phone.serve(&side, "BYE", None, PATIENCE).is_some());
    dials_code(&sip_page, "*91");
    let off = node.get("/api/v1/users/1001/settings");
    assert_eq!(off["busy"], Value::Null);

    // Set over HTTP: nobody answers, and nobody is there.
    put(
        &node,
        "1001",
        &json!({ "no_answer": "1000", "no_answer_s": 3 }),
    );
    reaches(&node, &mut plain, "1001", &json_page, 500.0);
    put(
        &node,
        "1005",
        &json!({ "unreachable": "1001", "busy": "1000" }),
    );
    reaches(&node, &mut plain, "1005", &sip_page, 600.0);

    // In a circle, and after a crash.
    put(&node, "1001", &json!({ "always": "1005" }));
    put(&node, "1005", &json!({ "always": "1001" }));
    assert_eq!(refused(&mut plain, "1005"), 482);
    node.kill();
    node.start_again();
    node.wait_ready();
    assert_eq!(node.get("/api/v1/users/1001/settings")["always"], "1005");
    assert_eq!(refused(&mut plain, "1001"), 482);
}

#[test]
fn baresip_is_not_disturbed_and_its_calls_go_elsewhere() {
    if lacks(&["chromium", "node", "baresip", "ip"]) {
        return;
    }
    let space = Namespace::new(20);
    let outside = SocketAddr::from((space.ours, 5060));
    let node = Node::start(&format!(
        "[[profile]]\nname = \"outside\"\nudp = [\"{outside}\"]\nauth = \"digest\"\nacl = [\"10.77.0.0/16\"]\n{}",
        feature_codes()
    ));
    let mut phone = Baresip::start(&space, "1002", outside, 440);
    let browser = Browser::start();
    let one = browser.phone(node.http, "1000", 500.0);
    let url = format!("ws://{}/ws", node.http);
    let other = browser.sip(node.http, &url, "1001", 600.0);
    let is_set = |wanted: &str, value: &Value| {
        wait::until(&format!("{wanted} to be set"), PATIENCE, || {
            (node.get("/api/v1/users/1002/settings")[wanted] == *value).then_some(())
        });
    };
    phone.command("dial", &format!("sip:*78@{outside}"));
    is_set("do_not_disturb", &json!(true));
    node.no_calls_left();
    one.call("1002");
    one.wait("ended");
    assert_eq!(one.details()["end"]["code"], 486);
    phone.command("dial", &format!("sip:*901001@{outside}"));
    is_set("busy", &json!("1001"));
    node.no_calls_left();
    one.call("1002");
    other.wait("incoming");
    other.must("answer", json!({}));
    one.wait("active");
    one.hears(600.0);
    other.hears(500.0);
    one.must("hangup", json!({}));
    other.wait("ended");
    node.no_calls_left();
}

/// Set on `/phone`, by a feature code of JsSIP and over HTTP; as caller and as callee, after `kill -9`, too.
#[test]
fn who_wants_no_call_beside_another_is_busy_while_in_one() {
    if lacks(&["chromium", "node"]) {
        return;
    }
    let mut node = Node::start(feature_codes());
    let browser = Browser::start();
    let json_page = browser.phone(node.http, "1000", 500.0);
    let url = format!("ws://{}/ws", node.http);
    let sip_page = browser.sip(node.http, &url, "1001", 600.0);
    let mut plain = Plain::new(node.sip, "1002", 700.0);
    let mut other = Plain::new(node.sip, "1003", 800.0);

    // The page calls: it is busy for the next, and is not when that is over.
    json_page.must("click", json!({ "selector": "#settings summary" }));
    json_page.must("click", json!({ "selector": "#s-waiting" }));
    says(&json_page, "one call");
    json_page.call("1003");
    let side = other.take();
    json_page.wait("active");
    assert_eq!(refused(&mut plain, "1000"), 486);
    json_page.must("hangup", json!({}));
    assert!(other.phone.serve(&side, "BYE", None, PATIENCE).is_some());
    node.no_calls_left();
    reaches(&node, &mut plain, "1000", &json_page, 500.0);

    // JsSIP rings, and is busy; where its calls go then, the next one goes.
    dials_code(&sip_page, "*44");
    put(
        &node,
        "1001",
        &json!({ "call_waiting": false, "busy": "1000" }),
    );
    let calling = other.phone.call("1001", other.port);
    sip_page.wait("incoming");
    reaches_beside(&mut plain, "1001", &json_page);
    other.phone.cancel(&calling);
    sip_page.wait("ended");
    node.no_calls_left();
    put(&node, "1001", &json!({}));
    assert_eq!(
        node.get("/api/v1/users/1001/settings")["call_waiting"],
        true
    );

    // It counts also after a crash, and no longer when the call is over.
    put(&node, "1003", &json!({ "call_waiting": false }));
    let mut side = other.call("1000", &json_page);
    assert_eq!(refused(&mut plain, "1003"), 486);
    node.kill();
    node.start_again();
    node.wait_ready();
    assert_eq!(refused(&mut plain, "1003"), 486);
    assert_eq!(other.phone.bye(&mut side), 200);
    node.no_calls_left();
    let calling = plain.phone.call("1003", plain.port);
    let side = other.take();
    let answer = plain.phone.outcome(&calling, PATIENCE).expect("an answer");
    let mut own = plain.phone.established(&calling, &answer);
    assert_eq!(plain.phone.bye(&mut own), 200);
    assert!(other.phone.serve(&side, "BYE", None, PATIENCE).is_some());
    node.no_calls_left();
}

/// The plain phone calls a number, and `reached` answers and hangs up.
fn reaches_beside(plain: &mut Plain, number: &str, reached: &Page<'_>) {
    let side = plain.call(number, reached);
    reached.wait("active");
    reached.must("hangup", json!({}));
    assert!(plain.phone.serve(&side, "BYE", None, PATIENCE).is_some());
}
