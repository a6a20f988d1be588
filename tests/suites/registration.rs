//! Registrations by sipp and by the harness's phone, over UDP and TCP.

use weft_tests::lacks;
use weft_tests::node::Node;
use weft_tests::phone::Phone;
use weft_tests::sipp::Sipp;
use weft_tests::wait::{self, PATIENCE};

/// An AoR without bindings leaves the list when it has been quiet for a moment.
fn nobody_is_left(node: &Node) {
    wait::until("the registration to go", PATIENCE, || {
        node.actors("registration").is_empty().then_some(())
    });
}

fn line(user: u32, password: &str, expires: u32) -> String {
    format!("{user};[authentication username={user} password={password}];{expires};")
}

#[test]
fn sipp_registers_with_digest_over_udp() {
    if lacks(&["sipp"]) {
        return;
    }
    let node = Node::start("");
    let lines: Vec<_> = (1000..1010)
        .map(|user| line(user, &format!("weft-{user}"), 300))
        .collect();
    Sipp::new("register.xml", node.sip)
        .lines(&lines)
        .calls(10, 20)
        .run()
        .must_succeed();
    assert_eq!(node.actors("registration").len(), 10);
}

#[test]
fn sipp_registers_with_digest_over_tcp() {
    if lacks(&["sipp"]) {
        return;
    }
    let node = Node::start("");
    let lines = [line(1001, "weft-1001", 300)];
    let ended = Sipp::new("register.xml", node.sip)
        .tcp()
        .lines(&lines)
        .calls(1, 1)
        .run();
    ended.must_succeed();
    assert!(
        ended.messages.contains("SIP/2.0 200 OK"),
        "{}",
        ended.messages
    );
    assert_eq!(node.actors("registration").len(), 1);
}

#[test]
fn several_contacts_are_kept_refreshed_and_removed_by_a_star() {
    if lacks(&["sipp"]) {
        return;
    }
    let node = Node::start("");
    let lines = ["1002;[authentication username=1002 password=weft-1002];".to_owned()];
    Sipp::new("register_two.xml", node.sip)
        .lines(&lines)
        .calls(1, 1)
        .run()
        .must_succeed();
    nobody_is_left(&node);
}

#[test]
fn a_wrong_password_is_challenged_again_and_registers_nobody() {
    if lacks(&["sipp"]) {
        return;
    }
    let node = Node::start("");
    let lines = [line(1003, "wrong", 300), line(4711, "weft-4711", 300)];
    let ended = Sipp::new("register_refused.xml", node.sip)
        .lines(&lines)
        .calls(2, 2)
        .run();
    ended.must_succeed();
    assert!(node.actors("registration").is_empty());
}

#[test]
fn expires_zero_removes_and_too_short_an_expiry_is_refused_with_423() {
    let node = Node::start("");
    let mut phone = Phone::new(node.sip, "1004");
    let answer = phone.register(300);
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(
        answer
            .header("Contact")
            .is_some_and(|c| c.contains("expires=")),
        "{answer:?}"
    );
    let short = phone.register(10);
    assert_eq!(short.status(), 423, "{short:?}");
    assert_eq!(short.header("Min-Expires"), Some("60"));
    assert_eq!(phone.register(0).status(), 200);
    nobody_is_left(&node);
}

#[test]
fn a_binding_expires() {
    let node = Node::start("[limits]\nexpires_min_s = 1\n");
    let mut phone = Phone::new(node.sip, "1005");
    let answer = phone.register(1);
    assert_eq!(answer.status(), 200);
    let contact = answer.header("Contact").expect("a binding");
    assert!(contact.contains("expires=1"), "{answer:?}");
    nobody_is_left(&node);
}

#[test]
fn registrations_outlive_a_kill_and_refresh_after_it() {
    let mut node = Node::start("");
    let mut phones: Vec<_> = (1000..1020)
        .map(|user| Phone::new(node.sip, &user.to_string()))
        .collect();
    for phone in &mut phones {
        assert_eq!(phone.register(600).status(), 200);
    }
    node.kill();
    node.start_again();
    node.wait_ready();
    assert_eq!(node.actors("registration").len(), 20);
    for phone in &mut phones {
        let answer = phone.register(600);
        assert_eq!(answer.status(), 200);
        let contacts = answer
            .headers
            .iter()
            .filter(|(name, _)| name == "Contact")
            .count();
        assert_eq!(contacts, 1, "the same binding, refreshed: {answer:?}");
    }
}
