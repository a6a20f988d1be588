//! Transfer by REFER and by JSON (requirement S3-11, RFC 3515, RFC 3891, RFC 5589): `/phone`, JsSIP and
//! baresip put a party through, to a number or to somebody they talk to; who hears whom is proven by sines.

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
use weft_tests::phone::Dialog;
use weft_tests::plain::Plain;
use weft_tests::wait::{self, PATIENCE};

/// A page, its number and its sine.
struct Party<'a> {
    page: Page<'a>,
    number: &'a str,
    hertz: f64,
}

fn went(outcome: Value) -> impl Fn(&Value) -> bool {
    move |details| details["transfer"] == outcome
}

/// A plain phone and a page that talk; the page was called, or has called.
fn talking(plain: &mut Plain, page: &Party<'_>, is_called: bool) -> Dialog {
    let side = if is_called {
        plain.call(page.number, &page.page)
    } else {
        page.page.call("1002");
        plain.take()
    };
    page.page.wait("active");
    page.page.hears(700.0);
    plain.hears(page.hertz);
    side
}

/// `by` puts the plain phone through to `to`: the first time that one is busy.
fn put_through(node: &Node, plain: &mut Plain, by: &Party<'_>, to: &Party<'_>, is_called: bool) {
    let side = talking(plain, by, is_called);
    plain.while_serving(&side, || {
        by.page.must("transfer", json!({ "to": to.number }));
        to.page.wait("incoming");
        to.page.must("reject", json!({ "code": 486 }));
        by.page.until("a busy signal", went(json!(486)));
        by.page.hears(700.0);
    });
    plain.hears(by.hertz);
    plain.while_serving(&side, || {
        by.page.must("transfer", json!({ "to": to.number }));
        to.page.wait("incoming");
        to.page.must("answer", json!({}));
        by.page
            .until("the end of the transfer", went(json!("done")));
        by.page.wait("ended");
        to.page.wait("active");
        to.page.hears(700.0);
    });
    plain.hears(to.hertz);
    to.page.must("hangup", json!({}));
    assert!(plain.phone.serve(&side, "BYE", None, PATIENCE).is_some());
    node.no_calls_left();
}

#[test]
fn s3_11_a_page_and_jssip_put_a_phone_through() {
    if lacks(&["chromium", "node"]) {
        return;
    }
    let node = Node::start("");
    let browser = Browser::start();
    let json = Party {
        page: browser.phone(node.http, "1000", 500.0),
        number: "1000",
        hertz: 500.0,
    };
    let url = format!("ws://{}/ws", node.http);
    let sip = Party {
        page: browser.sip(node.http, &url, "1001", 600.0),
        number: "1001",
        hertz: 600.0,
    };
    let mut plain = Plain::new(node.sip, "1002", 700.0);
    for is_called in [true, false] {
        put_through(&node, &mut plain, &sip, &json, is_called);
        put_through(&node, &mut plain, &json, &sip, is_called);
    }
    // A number that is not there is refused at once, and nothing has changed.
    let side = talking(&mut plain, &json, true);
    json.page.must("transfer", json!({ "to": "nobody" }));
    json.page.until("a refusal", went(json!(404)));
    plain.hears(json.hertz);
    json.page.must("hangup", json!({}));
    assert!(plain.phone.serve(&side, "BYE", None, PATIENCE).is_some());
    node.no_calls_left();
}

#[test]
fn baresip_puts_a_page_through_to_another() {
    if lacks(&["chromium", "node", "baresip", "ip"]) {
        return;
    }
    let space = Namespace::new(19);
    let outside = SocketAddr::from((space.ours, 5060));
    let node = Node::start(&format!(
        "[[profile]]\nname = \"outside\"\nudp = [\"{outside}\"]\nauth = \"digest\"\nacl = [\"10.77.0.0/16\"]\n"
    ));
    let mut phone = Baresip::start(&space, "1002", outside, 440);
    let browser = Browser::start();
    let json = browser.phone(node.http, "1000", 500.0);
    let url = format!("ws://{}/ws", node.http);
    let sip = browser.sip(node.http, &url, "1001", 600.0);
    // It calls one, and is called by the other.
    for (one, other, number, is_called) in
        [(&json, &sip, "1001", false), (&sip, &json, "1000", true)]
    {
        phone.forget();
        if is_called {
            one.call("1002");
        } else {
            phone.command("dial", &format!("sip:1000@{outside}"));
            one.wait("incoming");
            one.must("answer", json!({}));
        }
        one.wait("active");
        one.hears(440.0);
        phone.command("transfer", &format!("sip:{number}@{outside}"));
        other.wait("incoming");
        other.must("answer", json!({}));
        other.wait("active");
        let (mine, theirs) = if is_called {
            (500.0, 600.0)
        } else {
            (600.0, 500.0)
        };
        one.hears(mine);
        other.hears(theirs);
        wait::until("baresip's end", PATIENCE, || {
            phone.has_said("CALL_CLOSED").then_some(())
        });
        one.must("hangup", json!({}));
        other.wait("ended");
        node.no_calls_left();
    }
}

/// `by` holds the plain phone, asks the other page, and joins both; or holds the page, asks the phone.
fn join(node: &Node, plain: &mut Plain, by: &Party<'_>, other: &Party<'_>, is_called: bool) {
    let side = talking(plain, by, is_called);
    plain.while_serving(&side, || {
        by.page.must("hold", json!({}));
        by.page.call(other.number);
        other.page.wait("incoming");
        other.page.must("answer", json!({}));
        by.page.wait("active");
        by.page.hears(other.hertz);
        other.page.hears(by.hertz);
        joined(by, other);
    });
    plain.hears(other.hertz);
    other.page.must("hangup", json!({}));
    assert!(plain.phone.serve(&side, "BYE", None, PATIENCE).is_some());
    node.no_calls_left();

    if is_called {
        other.page.call(by.number);
        by.page.wait("incoming");
        by.page.must("answer", json!({}));
    } else {
        by.page.call(other.number);
        other.page.wait("incoming");
        other.page.must("answer", json!({}));
    }
    by.page.hears(other.hertz);
    by.page.must("hold", json!({}));
    let side = talking(plain, by, false);
    plain.while_serving(&side, || joined(by, other));
    plain.hears(other.hertz);
    other.page.must("hangup", json!({}));
    assert!(plain.phone.serve(&side, "BYE", None, PATIENCE).is_some());
    node.no_calls_left();
}

/// Joins its former call with its last one: the plain phone and `other` talk.
fn joined(by: &Party<'_>, other: &Party<'_>) {
    by.page.must("transfer", json!({}));
    by.page
        .until("the end of the transfer", went(json!("done")));
    by.page.wait("ended");
    other.page.hears(700.0);
}

#[test]
fn s3_11_a_page_and_jssip_join_a_phone_and_a_page_that_they_talk_to() {
    if lacks(&["chromium", "node"]) {
        return;
    }
    let node = Node::start("");
    let browser = Browser::start();
    let json = Party {
        page: browser.phone(node.http, "1000", 500.0),
        number: "1000",
        hertz: 500.0,
    };
    let url = format!("ws://{}/ws", node.http);
    let sip = Party {
        page: browser.sip(node.http, &url, "1001", 600.0),
        number: "1001",
        hertz: 600.0,
    };
    let mut plain = Plain::new(node.sip, "1002", 700.0);
    for is_called in [true, false] {
        join(&node, &mut plain, &sip, &json, is_called);
        join(&node, &mut plain, &json, &sip, is_called);
    }
}

/// Who goes is a browser: its keys stay, its path is found anew.
#[test]
fn jssip_joins_another_and_baresip_that_it_talks_to() {
    if lacks(&["chromium", "node", "baresip", "ip"]) {
        return;
    }
    let space = Namespace::new(20);
    let outside = SocketAddr::from((space.ours, 5060));
    let node = Node::start(&format!(
        "[[profile]]\nname = \"outside\"\nudp = [\"{outside}\"]\nauth = \"digest\"\nacl = [\"10.77.0.0/16\"]\n"
    ));
    let mut phone = Baresip::start(&space, "1002", outside, 440);
    let browser = Browser::start();
    let url = format!("ws://{}/ws", node.http);
    let other = browser.sip(node.http, &url, "1000", 500.0);
    let sip = browser.sip(node.http, &url, "1001", 600.0);
    for is_called in [true, false] {
        phone.forget();
        let (caller, callee) = if is_called {
            (&other, &sip)
        } else {
            (&sip, &other)
        };
        caller.call(if is_called { "1001" } else { "1000" });
        callee.wait("incoming");
        callee.must("answer", json!({}));
        other.hears(600.0);
        sip.hears(500.0);
        sip.must("hold", json!({}));
        sip.call("1002");
        sip.wait("active");
        sip.hears(440.0);
        sip.must("transfer", json!({}));
        sip.until("the end of the transfer", went(json!("done")));
        sip.wait("ended");
        other.hears(440.0);
        if is_called {
            other.must("hangup", json!({}));
        } else {
            phone.command("hangup", "");
            other.wait("ended");
        }
        wait::until("baresip's end", PATIENCE, || {
            phone.has_said("CALL_CLOSED").then_some(())
        });
        node.no_calls_left();
    }
}

/// INVITE with Replaces (RFC 3891 §1): what one page of a user has, another one takes over.
#[test]
fn jssip_takes_over_a_call_that_another_page_of_its_user_has() {
    if lacks(&["chromium", "node"]) {
        return;
    }
    let node = Node::start("");
    let browser = Browser::start();
    let url = format!("ws://{}/ws", node.http);
    let desk = Party {
        page: browser.sip(node.http, &url, "1001", 600.0),
        number: "1001",
        hertz: 600.0,
    };
    let mut plain = Plain::new(node.sip, "1002", 700.0);
    for is_called in [true, false] {
        let side = talking(&mut plain, &desk, is_called);
        let replaces = desk.page.details()["replaces"].clone();
        let name = format!("other-{is_called}");
        let other = browser.sip_page(&name, (node.http, &url), "1001", 500.0);
        plain.while_serving(&side, || {
            other.must("call", json!({ "to": "1002", "replaces": replaces }));
            other.wait("active");
            desk.page.wait("ended");
            other.hears(700.0);
        });
        plain.hears(500.0);
        other.must("hangup", json!({}));
        assert!(plain.phone.serve(&side, "BYE", None, PATIENCE).is_some());
        other.must("unregister", json!({}));
        node.no_calls_left();
    }
}
