//! Applications steer calls by HTTP (`interfaces.md` §4): a phone and pages are held, put through and hung
//! up; who hears whom is proven by sines.

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use serde_json::{Value, json};

use weft_tests::browser::Browser;
use weft_tests::lacks;
use weft_tests::node::Node;
use weft_tests::plain::Plain;
use weft_tests::wait::{self, PATIENCE};

/// Returns the ID of the only call.
fn only_call(node: &Node) -> String {
    let calls = node.actors("call");
    let live: Vec<&Value> = calls.iter().filter(|call| call["live"] == true).collect();
    assert_eq!(live.len(), 1, "{calls:?}");
    live[0]["id"].as_str().expect("an ID").to_owned()
}

fn order(node: &Node, call: &str, what: &str, body: &Value) -> u16 {
    let path = format!("/api/v1/calls/{call}/{what}");
    let (status, text) = node.order("POST", &path, &body.to_string());
    if !(200..300).contains(&status) {
        assert!(text.contains("\"detail\""), "{text}");
    }
    status
}

fn is_in(node: &Node, call: &str, state: &str) {
    wait::until(&format!("{call} {state}"), PATIENCE, || {
        let calls = node.actors("call");
        let found = calls.iter().find(|row| row["id"] == call)?;
        (found["state"] == state).then_some(())
    });
}

#[test]
fn an_application_holds_puts_through_and_ends() {
    if lacks(&["chromium", "node"]) {
        return;
    }
    let node = Node::start("");
    let browser = Browser::start();
    let json = browser.phone(node.http, "1000", 500.0);
    let url = format!("ws://{}/ws", node.http);
    let sip = browser.sip(node.http, &url, "1001", 600.0);
    let mut plain = Plain::new(node.sip, "1002", 700.0);

    // The phone has called JsSIP; each is held and taken off by the application.
    let side = plain.call("1001", &sip);
    sip.wait("active");
    sip.hears(700.0);
    plain.hears(600.0);
    let call = only_call(&node);
    for party in ["callee", "caller"] {
        let party = json!({ "party": party });
        plain.while_serving(&side, || {
            assert_eq!(order(&node, &call, "hold", &party), 202);
            is_in(&node, &call, "held");
            sip.hears_nothing();
            assert_eq!(order(&node, &call, "hold", &party), 202, "it is");
            assert_eq!(order(&node, &call, "unhold", &party), 202);
            is_in(&node, &call, "talking");
            sip.hears(700.0);
        });
        plain.hears(600.0);
    }

    // The caller is put through to /phone; JsSIP is out of it. A repeat of the command does nothing.
    let wish = json!({ "party": "caller", "to": "1000", "command_id": "put-1" });
    plain.while_serving(&side, || {
        let nowhere = json!({ "party": "caller", "to": "555" });
        assert_eq!(order(&node, &call, "transfer", &nowhere), 422);
        assert_eq!(order(&node, &call, "transfer", &wish), 202);
        json.wait("incoming");
        assert_eq!(order(&node, &call, "transfer", &wish), 202, "the same");
        json.must("answer", json!({}));
        sip.wait("ended");
        json.wait("active");
        json.hears(700.0);
    });
    plain.hears(500.0);
    let digits = json!({ "party": "callee", "digits": "7" });
    assert_eq!(order(&node, &call, "dtmf", &digits), 202);

    let cause = json!({ "cause": "NORMAL_CLEARING" });
    assert_eq!(order(&node, &call, "hangup", &cause), 202);
    assert!(plain.phone.serve(&side, "BYE", None, PATIENCE).is_some());
    json.wait("ended");
    node.no_calls_left();
    wait::until("no such call", PATIENCE, || {
        (order(&node, &call, "hangup", &json!({})) == 404).then_some(())
    });
    let records = node.call_records();
    assert_eq!(records.last().expect("a record")["ended_by"], "application");
}
