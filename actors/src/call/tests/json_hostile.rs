//! Hostile texts of JSON clients: none becomes a line of SIP or SDP (`threats.md` 10).

use std::path::{Path, PathBuf};

use serde_json::json;

use super::fixture::*;
use super::json::{ALICE, BOB, browser};

/// Returns hostile texts: those of the shared data, if it is there, and some of our own.
fn hostile() -> Vec<String> {
    let root = std::env::var("WEFT_DATA").map_or_else(
        |_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let mut texts: Vec<String> = std::fs::read_dir(root.join("injection-own"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path()).ok())
        .map(|octets| String::from_utf8_lossy(&octets).into_owned())
        .filter(|text| text.len() < 4_096)
        .collect();
    println!("{} hostile texts of the data", texts.len());
    for own in [
        "1001\r\nX-Admin: 1",
        "1001%0d%0aX-Admin: 1",
        "1001%0d%0a%0d%0aINVITE sip:x SIP/2.0",
        "1001;maddr=203.0.113.9",
        "1001@example.org\r\nVia: x",
        "\" <sip:evil@example.org>;x=\"",
        "1001?X-Admin=1",
        "sip:1001@example.org?X-Admin=1",
        "sip:1001@example.org;maddr=203.0.113.9",
        "\u{2028}X-Admin: 1",
    ] {
        texts.push(own.to_owned());
    }
    texts
}

/// Header fields that we write by ourselves.
const OURS: [&str; 16] = [
    "Via",
    "Max-Forwards",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Contact",
    "Allow",
    "Supported",
    "User-Agent",
    "Server",
    "Reason",
    "Content-Type",
    "Content-Length",
    "Retry-After",
    "Accept",
];

fn assert_clean(world: &World, text: &str) {
    for sent in &world.sent {
        let octets = sent.message.bytes();
        for (name, value) in sent.message.all_headers() {
            assert!(OURS.contains(&name), "{text:?} made {name}");
            assert!(!value.contains(['\r', '\n', '\0']), "{text:?} in {name}");
        }
        let whole = String::from_utf8_lossy(octets);
        assert!(!whole.contains("\nX-Admin"), "{text:?} made {whole}");
    }
}

#[test]
fn no_text_of_a_client_becomes_a_line_of_sip() {
    let texts = hostile();
    let mut calls = 0;
    let any = regex::Regex::new(".*").expect("a pattern");
    for text in &texts {
        let mut world = World::new();
        world.site.domains[0].routes.push(crate::site::Route {
            name: "any".to_owned(),
            profile: None,
            destination: any.clone(),
            hours: None,
            steps: vec![crate::site::Step::Bridge {
                target: "user/1001".to_owned(),
            }],
            bypass: false,
        });
        world.open(ALICE);
        let payload = json!({ "dn": "1000", "password": "weft-1000", "instance": "tab-1000",
            "displayName": text });
        world.say(ALICE, "register", payload);
        let payload = json!({ "dn": "1000", "password": "weft-1000", "instance": "tab-1000" });
        world.say(ALICE, "register", payload);
        let sdp = browser("actpass", "sendrecv");
        let payload = json!({ "to": text, "callId": "c1", "sdp": sdp, "displayName": text });
        world.say(ALICE, "call", payload);
        let payload = json!({ "to": text, "callId": "c1", "sdp": sdp });
        world.say(ALICE, "call", payload);
        calls += world.count(B, "INVITE");
        for kind in ["hangup", "hold", "dtmf", "iceCandidate", "reject"] {
            let payload = json!({ "callId": "c1", "reason": text, "sdp": text, "digits": text,
                "candidate": text, "code": 486 });
            world.say(ALICE, kind, payload);
        }
        assert_clean(&world, text);
    }
    println!("{} texts, {calls} calls", texts.len());
    assert!(calls > 0, "some may be dialled");
}

#[test]
fn no_line_of_a_clients_description_goes_on() {
    for text in hostile() {
        let mut world = World::new();
        world.register(BOB, "1001");
        world.call("1001", SDP_A);
        let sdp = browser("active", "sendrecv") + &format!("a=x-note:{text}\r\ni={text}\r\n");
        let payload = json!({ "callId": world.incoming(), "sdp": sdp });
        world.say(BOB, "answer", payload);
        assert_clean(&world, &text);
        for sent in &world.sent {
            let body = String::from_utf8_lossy(sent.message.body()).into_owned();
            assert!(!body.contains("x-note") && !body.contains("\ni="), "{body}");
        }
    }
}
