//! Ends of JSON clients' calls: reject, cancel, hang-up of each side; what a name may do.

use std::time::Duration;

use serde_json::json;

use super::fixture::*;
use super::json::{ALICE, BOB, browser, sdp_of};

#[test]
fn a_client_rejects() {
    for (payload, status) in [
        (json!({ "code": 486 }), 486),
        (json!({}), 486),
        (json!({ "code": 603, "reason": "no" }), 603),
        (json!({ "code": 200 }), 486),
    ] {
        let mut world = World::new();
        world.register(BOB, "1001");
        world.call("1001", SDP_A);
        let mut payload = payload;
        payload["callId"] = json!(world.incoming());
        world.say(BOB, "reject", payload);
        assert_eq!(world.count(A, &status.to_string()), 1, "{status}");
        assert_eq!(world.record().status, Some(status));
    }
}

#[test]
fn a_hang_up_before_the_answer_rejects() {
    let mut world = World::new();
    world.register(BOB, "1001");
    world.call("1001", SDP_A);
    let call_id = world.incoming();
    world.say(BOB, "hangup", json!({ "callId": call_id }));
    assert_eq!(world.count(A, "603"), 1);
    assert_eq!(world.told(BOB, "hangup")["cause"], "CALL_REJECTED");
}

#[test]
fn a_caller_gives_up_and_the_client_hears_it() {
    let mut world = World::new();
    world.register(BOB, "1001");
    world.call("1001", SDP_A);
    let call_id = world.incoming();
    world.say(BOB, "ringing", json!({ "callId": call_id }));
    world.cancel(A);
    let cancelled = world.told(BOB, "cancelled");
    assert_eq!(
        cancelled,
        json!({ "callId": call_id, "reason": "ORIGINATOR_CANCEL" })
    );
    assert!(
        world.records().is_empty(),
        "the client has not heard it yet"
    );
    world.acknowledge(BOB, "cancelled");
    assert_eq!(world.record().cause, "ORIGINATOR_CANCEL");
    world.say(BOB, "answer", json!({ "callId": call_id, "sdp": "v=0" }));
    assert_eq!(world.told(BOB, "error")["code"], 404);
}

#[test]
fn a_client_gives_up() {
    for kind in ["cancel", "hangup"] {
        let mut world = World::new();
        world.register(ALICE, "1000");
        world.dial("1001");
        world.answer(B, "INVITE", 180, "");
        world.say(ALICE, kind, json!({ "callId": "c1" }));
        assert_eq!(world.told(ALICE, "hangup")["cause"], "ORIGINATOR_CANCEL");
        assert_eq!(world.count(B, "CANCEL"), 1, "{kind}");
        world.answer(B, "INVITE", 487, "");
        let record = world.record();
        assert_eq!(
            (record.cause.as_str(), record.status),
            ("ORIGINATOR_CANCEL", Some(487))
        );
        assert!(world.heard(ALICE, "callRejected").is_empty());
    }
}

#[test]
fn a_phone_is_busy() {
    let mut world = World::new();
    world.register(ALICE, "1000");
    world.dial("1001");
    world.answer(B, "INVITE", 486, "");
    let rejected = world.told(ALICE, "callRejected");
    assert_eq!(
        (&rejected["code"], &rejected["cause"]),
        (&json!(486), &json!("USER_BUSY"))
    );
    assert_eq!(rejected["reason"], "busy");
}

#[test]
fn a_client_hangs_up() {
    let mut world = World::alice_and_phone();
    world.say(
        ALICE,
        "hangup",
        json!({ "callId": "c1", "reason": "user_hangup" }),
    );
    assert_eq!(
        world.told(ALICE, "hangup"),
        json!({ "callId": "c1", "cause": "NORMAL_CLEARING", "code": 200 })
    );
    assert_eq!(world.count(B, "BYE"), 1);
    world.answer(B, "BYE", 200, "");
    let record = world.record();
    assert_eq!((record.ended_by.as_str(), record.status), ("caller", None));
}

#[test]
fn the_far_end_hangs_up() {
    let mut world = World::alice_and_phone();
    world.request(2, B, "BYE", 1, "");
    assert_eq!(world.told(ALICE, "hangup")["cause"], "NORMAL_CLEARING");
    world.acknowledge(ALICE, "hangup");
    assert_eq!(world.record().ended_by, "callee");

    let mut world = World::phone_and_bob();
    world.request(1, A, "BYE", 11, "");
    assert_eq!(world.heard(BOB, "hangup").len(), 1);
    world.pass(Duration::from_secs(3));
    assert_eq!(
        world.record().ended_by,
        "caller",
        "a client that acknowledges nothing"
    );
}

#[test]
fn either_of_two_clients_hangs_up() {
    for by in [ALICE, BOB] {
        let mut world = World::alice_and_bob();
        let (name, other) = if by == ALICE {
            ("c1".to_owned(), BOB)
        } else {
            (world.incoming(), ALICE)
        };
        world.say(by, "hangup", json!({ "callId": name }));
        assert_eq!(world.heard(other, "hangup").len(), 1);
        world.acknowledge(other, "hangup");
        assert_eq!(world.record().cause, "NORMAL_CLEARING");
    }
}

#[test]
fn one_of_two_phones_takes_the_call_and_the_client_is_told() {
    let mut world = World::new();
    world.register(ALICE, "1000");
    world.register(BOB, "1001");
    world.open(13);
    let payload = json!({ "dn": "1001", "password": "weft-1001", "instance": "other" });
    world.say(13, "register", payload);
    world.dial("1001");
    let (first, second) = (world.told(BOB, "incoming"), world.told(13, "incoming"));
    assert_ne!(first["callId"], second["callId"]);
    let payload = json!({ "callId": first["callId"], "sdp": browser("active", "sendrecv") });
    world.say(BOB, "answer", payload);
    assert_eq!(world.told(13, "cancelled")["callId"], second["callId"]);
    assert_eq!(world.state(&world.json_call()), "talking");
    // The other device may not touch the call.
    let payload = json!({ "callId": first["callId"] });
    world.say(13, "hangup", payload);
    assert_eq!(world.told(13, "error")["code"], 404);
    assert_eq!(world.state(&world.json_call()), "talking");
}

#[test]
fn a_call_of_somebody_else_is_none() {
    let mut world = World::alice_and_bob();
    let bobs = world.incoming();
    let own = |name: &str| json!({ "callId": name, "sdp": browser("active", "sendrecv") });
    // Bob under Alice's name, Alice under Bob's; a SIP phone's side; nobody's.
    for (who, name) in [
        (BOB, "c1".to_owned()),
        (ALICE, bobs),
        (ALICE, "c2".to_owned()),
    ] {
        for kind in ["hangup", "hold", "answer", "cancel", "reanswer"] {
            world.say(who, kind, own(&name));
            assert_eq!(world.told(who, "error")["code"], 404, "{who} {kind} {name}");
        }
    }
    assert_eq!(world.state(&world.json_call()), "talking");
    let mut world = World::phone_and_bob();
    let phone = world.side(1).to_string();
    world.say(BOB, "hangup", json!({ "callId": phone }));
    assert_eq!(world.told(BOB, "error")["code"], 404);
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn the_same_call_again_is_the_same_call() {
    let mut world = World::new();
    world.register(ALICE, "1000");
    world.dial("1001");
    world.dial("1001");
    assert_eq!(world.count(B, "INVITE"), 1);
    assert_eq!(world.heard(ALICE, "trying").len(), 2);
    world.answer(B, "INVITE", 180, "");
    world.dial("1001");
    assert_eq!(world.heard(ALICE, "ringing").len(), 2);
    world.answer(B, "INVITE", 200, SDP_B);
    world.dial("1001");
    let accepted = world.heard(ALICE, "callAccepted");
    assert_eq!(accepted.len(), 2);
    assert_eq!(accepted[0]["payload"], accepted[1]["payload"]);
    world.dial("1002");
    assert_eq!(world.told(ALICE, "error")["code"], 409);
    assert_eq!(world.state(&world.json_call()), "talking");
    world.say(ALICE, "hangup", json!({ "callId": "c1" }));
    world.answer(B, "BYE", 200, "");
    world.record();
    world.dial("1001");
    assert_eq!(world.told(ALICE, "error")["code"], 410);
}

#[test]
fn a_description_that_is_none_is_refused() {
    let mut world = World::new();
    world.register(ALICE, "1000");
    world.say(
        ALICE,
        "call",
        json!({ "to": "1001", "callId": "c1", "sdp": "hello" }),
    );
    let rejected = world.told(ALICE, "callRejected");
    assert!(
        [400, 488].contains(&rejected["code"].as_u64().unwrap_or_default()),
        "{rejected}"
    );
    assert!(world.cores.keys().all(|id| id.call().is_none()));

    let mut world = World::new();
    world.register(BOB, "1001");
    world.call("1001", SDP_A);
    let call_id = world.incoming();
    world.say(BOB, "answer", json!({ "callId": call_id, "sdp": "hello" }));
    assert_eq!(world.heard(BOB, "hangup").len(), 1);
    world.pass(Duration::from_secs(3));
    assert!(world.record().status.is_some_and(|status| status >= 400));
}

#[test]
fn what_a_client_may_do_depends_on_its_side() {
    let mut world = World::new();
    world.register(ALICE, "1000");
    world.dial("1001");
    let sdp = browser("active", "sendrecv");
    for (kind, code) in [
        ("answer", 400),
        ("reject", 400),
        ("hold", 481),
        ("dtmf", 481),
    ] {
        let payload = json!({ "callId": "c1", "sdp": sdp, "digits": "1" });
        world.say(ALICE, kind, payload);
        assert_eq!(world.told(ALICE, "error")["code"], code, "{kind}");
    }
    assert_eq!(world.state(&world.json_call()), "ringing");
}

#[test]
fn an_echo_is_a_call_like_any_other() {
    let mut world = World::new();
    world.register(ALICE, "1000");
    world.dial("9196");
    let sdp = sdp_of(&world.told(ALICE, "callAccepted"));
    assert!(sdp.contains("opus"), "{sdp}");
    assert_eq!(world.state(&world.json_call()), "talking");
    world.say(ALICE, "hangup", json!({ "callId": "c1" }));
    assert_eq!(world.record().cause, "NORMAL_CLEARING");
}
