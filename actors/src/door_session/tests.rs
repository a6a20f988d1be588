//! Clients come, prove who they are, come back and go; nobody else is let in.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it waits for"
)]

use std::time::Duration;

use bytes::Bytes;
use contract::{
    Action, ActorId, CallKey, CloseCode, Door, Event, FlowRef, NodeId, Secret, Undelivered,
};
use doors::json::ServerMessage;
use serde_json::{Value, json};
use sip::Aor;

use super::password::{HASHES, aor_of, check};
use super::*;
use crate::dialog::ClientCommand;
use crate::script::{Actions, STREAM, Stage, site, told};
use crate::{dialog, registration};

fn flow_of(number: u64) -> FlowRef {
    FlowRef::Stream {
        node: NodeId(1),
        number,
        listener: STREAM,
        remote: "192.0.2.7:40000".parse().expect("an address"),
        door: Door::Json,
    }
}

fn open(number: u64) -> Stage<DoorSession> {
    let me = ActorId::DoorSession(NodeId(1), number);
    let mut stage = Stage::new(DoorSession::new(), me);
    let flow = flow_of(number);
    assert!(stage.event(Event::Opened { flow }).is_empty());
    stage
}

fn frame(stage: &mut Stage<DoorSession>, kind: &str, payload: Value, id: &str) -> Actions {
    let text = json!({ "type": kind, "payload": payload, "id": id }).to_string();
    stage.event(Event::Bytes(Bytes::from(text)))
}

/// What the client is sent.
fn said(actions: &Actions) -> Vec<Value> {
    let frames = actions.iter().filter_map(|action| match action {
        Action::Send { bytes, .. } => Some(serde_json::from_slice(bytes).expect("JSON")),
        _ => None,
    });
    frames.collect()
}

fn kinds(actions: &Actions) -> Vec<String> {
    let kind = |value: &Value| value["type"].as_str().expect("a type").to_owned();
    said(actions).iter().map(kind).collect()
}

fn closed(actions: &Actions) -> Option<CloseCode> {
    actions.iter().find_map(|action| match action {
        Action::Close { code, .. } => Some(*code),
        _ => None,
    })
}

fn register(stage: &mut Stage<DoorSession>, dn: &str, password: &str) -> Actions {
    let payload = json!({ "dn": dn, "password": password, "instance": "tab-1" });
    frame(stage, "register", payload, "r1")
}

fn registered(number: u64) -> (Stage<DoorSession>, String) {
    let mut stage = open(number);
    register(&mut stage, "1000", "weft-1000");
    let actions = stage.tell(Message::Bound { expires_s: 3_600 });
    let token = said(&actions)[0]["payload"]["sessionToken"]
        .as_str()
        .expect("a token")
        .to_owned();
    (stage, token)
}

/// The order that a dialog got.
fn order(actions: &Actions) -> (ActorId, dialog::ClientOrder) {
    match told(actions).pop() {
        Some((to, crate::Message::Dialog(dialog::Message::Client(order)))) => (to, *order),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_right_password_is_bound_and_then_told() {
    let mut stage = open(7);
    let actions = register(&mut stage, "1000", "weft-1000");
    assert!(
        said(&actions).is_empty(),
        "nothing is said before it is safe"
    );
    let (to, message) = told(&actions).pop().expect("a question");
    assert_eq!(to, ActorId::Registration("1000@example.org".into()));
    let crate::Message::Registration(registration::Message::Bind { client, expires_s }) = message
    else {
        panic!("{message:?}");
    };
    assert_eq!((client.instance.as_str(), expires_s), ("tab-1", None));
    assert_eq!((client.flow, &client.reply), (flow_of(7), &stage.me));
    let actions = stage.tell(Message::Bound { expires_s: 3_600 });
    let answer = &said(&actions)[0];
    assert_eq!(answer["type"], "registered");
    assert_eq!(answer["id"], "r1");
    assert_eq!(answer["payload"]["dn"], "1000@example.org");
    assert_eq!(answer["payload"]["expires"], 3_600);
    assert_eq!(answer["payload"]["server"], "192.0.2.1");
    assert_eq!(answer["payload"]["resumed"], false);
    assert_eq!(stage.core.state(), "registered");
}

#[test]
fn three_wrong_passwords_close_the_connection() {
    let mut stage = open(7);
    for (attempt, (dn, password)) in [("1000", "x"), ("4711", "x"), ("1000", "weft-1001")]
        .into_iter()
        .enumerate()
    {
        let actions = register(&mut stage, dn, password);
        let answer = &said(&actions)[0];
        assert_eq!(answer["type"], "registerFailed");
        assert_eq!(answer["payload"]["code"], 401);
        assert_eq!(answer["payload"]["reason"], "wrong number or password");
        assert!(told(&actions).is_empty(), "no registration hears of it");
        let wanted = (attempt == 2).then_some(CloseCode::Policy);
        assert_eq!(closed(&actions), wanted, "attempt {attempt}");
    }
    assert!(said(&register(&mut stage, "1000", "weft-1000")).is_empty());
}

#[test]
fn an_unknown_number_costs_and_hears_what_a_known_one_does() {
    let site = site();
    let table = [
        ("1000", "weft-1000", true),
        ("1000@example.org", "weft-1000", true),
        ("1000@EXAMPLE.org", "weft-1000", true),
        ("sip:1000@example.org", "weft-1000", true),
        ("1000", "weft-1001", false),
        ("1000", "", false),
        ("4711", "weft-1000", false),
        ("2000@hashed.example", "secret", true),
        ("2000@hashed.example", "Secret", false),
        ("1000@hashed.example", "weft-1000", false),
        ("@", "x", false),
    ];
    for (dn, password, is_right) in table {
        let aor = aor_of(dn, &site);
        let (found, hashes) = check(aor.as_ref(), &Secret::new(password), &site);
        assert_eq!(found, is_right, "{dn} {password}");
        assert_eq!(hashes, HASHES, "{dn} {password}");
    }
}

#[test]
fn who_does_not_register_is_closed_after_ten_seconds() {
    let mut stage = open(7);
    assert!(stage.pass(Duration::from_millis(9_900)).is_empty());
    let actions = stage.pass(Duration::from_millis(200));
    assert_eq!(closed(&actions), Some(CloseCode::Policy));
    let (mut stage, _) = registered(8);
    assert_eq!(closed(&stage.pass(Duration::from_secs(600))), None);
}

#[test]
fn nothing_is_served_before_registering_but_a_ping() {
    let mut stage = open(7);
    let table = [
        ("call", json!({ "to": "1001", "callId": "c", "sdp": "v=0" })),
        ("answer", json!({ "callId": "c", "sdp": "v=0" })),
        ("hangup", json!({ "callId": "c" })),
        ("ack", json!({})),
        ("info", json!({ "query": "server" })),
    ];
    for (kind, payload) in table {
        let actions = frame(&mut stage, kind, payload, "x");
        assert_eq!(said(&actions)[0]["payload"]["code"], 401, "{kind}");
        assert!(told(&actions).is_empty(), "{kind}");
    }
    let actions = frame(&mut stage, "ping", json!({ "ts": 5 }), "p");
    assert_eq!(
        said(&actions)[0],
        json!({ "type": "pong", "payload": { "ts": 5 }, "id": "p" })
    );
}

#[test]
fn what_is_no_message_is_answered_and_no_more() {
    let (mut stage, _) = registered(7);
    for (text, code) in [
        ("hello", 400),
        (r#"{"type":"frobnicate","payload":{},"id":"z"}"#, 400),
        (r#"{"type":"hangup","payload":{},"id":"z"}"#, 400),
        (
            r#"{"type":"conference","payload":{"callIds":["c"]},"id":"z"}"#,
            501,
        ),
    ] {
        let actions = stage.event(Event::Bytes(Bytes::from(text)));
        let answer = &said(&actions)[0];
        assert_eq!(answer["type"], "error", "{text}");
        assert_eq!(answer["payload"]["code"], code, "{text}");
        if text.contains("\"z\"") {
            assert_eq!(answer["payload"]["ref"], "z");
            assert_eq!(answer["id"], "z");
        }
        assert_eq!(stage.core.state(), "registered");
    }
    let long = Bytes::from(vec![b' '; 65_537]);
    assert_eq!(
        closed(&stage.event(Event::Bytes(long))),
        Some(CloseCode::TooLong)
    );
}

#[test]
fn the_fifty_first_message_of_a_second_is_refused_and_the_flood_ended() {
    let (mut stage, _) = registered(7);
    stage.pass(Duration::from_secs(2));
    for number in 0..50 {
        let actions = frame(&mut stage, "ping", json!({ "ts": number }), "p");
        assert_eq!(kinds(&actions), ["pong"]);
    }
    let actions = frame(&mut stage, "ping", json!({ "ts": 50 }), "p50");
    assert_eq!(said(&actions)[0]["payload"]["code"], 429);
    assert_eq!(said(&actions)[0]["payload"]["ref"], "p50");
    stage.pass(Duration::from_secs(1));
    assert_eq!(
        kinds(&frame(&mut stage, "ping", json!({ "ts": 1 }), "p")),
        ["pong"]
    );
    for _ in 0..99 {
        frame(&mut stage, "ping", json!({ "ts": 1 }), "p");
    }
    let actions = frame(&mut stage, "ping", json!({ "ts": 1 }), "p");
    assert_eq!(closed(&actions), Some(CloseCode::Policy));
}

#[test]
fn the_same_instance_elsewhere_ends_this_connection() {
    let (mut stage, _) = registered(7);
    assert!(
        stage
            .tell(Message::Replaced { flow: flow_of(8) })
            .is_empty()
    );
    let actions = stage.tell(Message::Replaced { flow: flow_of(7) });
    assert_eq!(kinds(&actions), ["replaced"]);
    assert_eq!(closed(&actions), Some(CloseCode::Normal));
}

#[test]
fn a_client_unregisters_and_may_register_again() {
    let (mut stage, _) = registered(7);
    let actions = frame(&mut stage, "unregister", json!({ "dn": "1001" }), "u");
    assert_eq!(said(&actions)[0]["payload"]["code"], 403);
    let actions = frame(&mut stage, "unregister", json!({ "dn": "1000" }), "u");
    assert!(matches!(
        told(&actions).as_slice(),
        [(
            _,
            crate::Message::Registration(registration::Message::Unbind { .. })
        )]
    ));
    let actions = stage.tell(Message::Unbound);
    assert_eq!(said(&actions)[0]["type"], "unregistered");
    assert_eq!(stage.core.state(), "open");
    register(&mut stage, "1001", "weft-1001");
    stage.tell(Message::Bound { expires_s: 60 });
    assert_eq!(stage.core.state(), "registered");
}

#[test]
fn one_connection_is_one_number() {
    let (mut stage, _) = registered(7);
    let actions = register(&mut stage, "1001", "weft-1001");
    assert_eq!(said(&actions)[0]["payload"]["code"], 403);
    let actions = register(&mut stage, "1000", "weft-1000");
    assert!(matches!(
        told(&actions).as_slice(),
        [(
            _,
            crate::Message::Registration(registration::Message::Bind { .. })
        )]
    ));
}

#[test]
fn a_binding_that_ends_is_announced() {
    let (mut stage, _) = registered(7);
    let actions = stage.pass(Duration::from_secs(3_541));
    assert_eq!(
        said(&actions)[0]["payload"],
        json!({ "dn": "1000@example.org", "in": 60 })
    );
    assert!(
        said(&actions)[0]["id"]
            .as_str()
            .is_some_and(|id| id.starts_with("srv-"))
    );
    assert_eq!(said(&actions)[0]["seq"], 1);
    let actions = stage.pass(Duration::from_secs(60));
    assert_eq!(kinds(&actions), ["unregistered"]);
    assert_eq!(stage.core.state(), "open");
}

#[test]
fn a_token_brings_a_client_back_and_its_calls() {
    let (_, token) = registered(7);
    let mut stage = open(8);
    let payload = json!({ "token": token, "lastSeq": 3, "calls": ["mine", "gone"] });
    let actions = frame(&mut stage, "resumeSession", payload, "s");
    assert!(matches!(
        told(&actions).as_slice(),
        [(_, crate::Message::Registration(registration::Message::Resume { client }))]
            if client.instance == "tab-1" && client.flow == flow_of(8)
    ));
    let actions = stage.tell(Message::Bound { expires_s: 1_800 });
    let asked = told(&actions);
    assert_eq!(asked.len(), 2, "both dialogs are asked");
    assert!(said(&actions).is_empty());
    let state = Message::CallState {
        name: "mine".to_owned(),
        state: "talking".to_owned(),
    };
    assert!(stage.tell(state).is_empty());
    let (to, message) = asked[1].clone();
    let why = Undelivered::Absent;
    let actions = stage.event(Event::Undelivered { to, message, why });
    let answer = &said(&actions)[0];
    assert_eq!(answer["payload"]["resumed"], true);
    assert_eq!(answer["payload"]["expires"], 1_800);
    assert_eq!(
        answer["payload"]["calls"],
        json!([{ "callId": "mine", "state": "talking" }, { "callId": "gone", "state": "gone" }])
    );
    let (to, order) = order(&actions);
    assert_eq!(
        (order.command, order.name.as_str()),
        (ClientCommand::Resumed, "mine")
    );
    let key = stage.site.ids.json_call_key("1000@example.org", "mine");
    assert_eq!(to, ActorId::Dialog(key.side(1)));
}

#[test]
fn a_dialog_that_says_nothing_does_not_keep_a_client_from_coming_back() {
    let (_, token) = registered(7);
    let mut stage = open(8);
    frame(
        &mut stage,
        "resumeSession",
        json!({ "token": token, "calls": ["mine"] }),
        "s",
    );
    let mut actions = stage.tell(Message::Bound { expires_s: 60 });
    // Its node may have died: it is asked again until somebody has gone on with it.
    let again = Duration::from_millis(500);
    let mut waited = Duration::ZERO;
    for why in [None, Some(Undelivered::Busy), None] {
        let (to, message) = told(&actions)[0].clone();
        if let Some(why) = why {
            assert!(said(&stage.event(Event::Undelivered { to, message, why })).is_empty());
        }
        actions = stage.pass(again);
        waited += again;
        assert_eq!(order(&actions).1.command, ClientCommand::Inquire);
        assert_eq!(told(&actions).len(), 1, "each time once");
    }
    while said(&actions).is_empty() && waited < Duration::from_secs(12) {
        actions = stage.pass(again);
        waited += again;
    }
    // Not before the dialog has given up too: its node may be out of reach for a moment only.
    assert!(waited >= crate::dialog::json::PARK, "{waited:?}");
    assert!(waited < Duration::from_secs(10), "clients wait so long");
    assert_eq!(said(&actions)[0]["payload"]["calls"][0]["state"], "gone");
    // It was bound for a minute before that wait, not after it.
    let left = Duration::from_secs(60).saturating_sub(waited).as_secs();
    assert_eq!(said(&actions)[0]["payload"]["expires"], left);
}

#[test]
fn a_client_is_not_told_of_a_binding_that_has_ended_while_its_calls_were_asked() {
    let (_, token) = registered(7);
    // 9 s that are 8 s and a little, and a dialog that says nothing for as long.
    let mut stage = open(8);
    let payload = json!({ "token": token, "calls": ["mine"] });
    frame(&mut stage, "resumeSession", payload, "s");
    let mut waited = Duration::from_millis(500);
    stage.pass(waited);
    stage.tell(Message::Bound { expires_s: 9 });
    let from = ActorId::Dialog(CallKey::from_bits(77 << 64).side(2));
    let message = delivery(flow_of(8), About::News);
    let actions = stage.event(Event::Message { from, message });
    assert!(said(&actions).is_empty(), "it follows the answer");
    let mut actions = Actions::new();
    while said(&actions).is_empty() && waited < Duration::from_secs(12) {
        actions = stage.pass(Duration::from_millis(500));
        waited += Duration::from_millis(500);
    }
    assert!(waited <= Duration::from_secs(9), "{waited:?}");
    assert_eq!(kinds(&actions), ["registerFailed", "trying"]);
    assert_eq!(said(&actions)[0]["payload"]["code"], 410);
    assert_eq!(stage.core.state(), "open");
    // It registers anew over the same connection.
    register(&mut stage, "1000", "weft-1000");
    let actions = stage.tell(Message::Bound { expires_s: 60 });
    assert_eq!(kinds(&actions), ["registered"]);
    assert_eq!(said(&actions)[0]["payload"]["expires"], 60);
}

#[test]
fn the_time_a_registration_took_to_answer_is_none_that_is_left() {
    let (_, token) = registered(7);
    let mut stage = open(8);
    frame(&mut stage, "resumeSession", json!({ "token": token }), "s");
    stage.pass(Duration::from_millis(2_500));
    let actions = stage.tell(Message::Bound { expires_s: 60 });
    assert_eq!(said(&actions)[0]["payload"]["expires"], 57);
}

#[test]
fn a_token_of_nobody_or_of_yesterday_is_refused() {
    let (_, token) = registered(7);
    let table = [("", 401), ("0000", 401), (&token[1..], 401)];
    for (token, code) in table {
        let mut stage = open(8);
        let actions = frame(&mut stage, "resumeSession", json!({ "token": token }), "s");
        assert_eq!(said(&actions)[0]["type"], "registerFailed");
        assert_eq!(said(&actions)[0]["payload"]["code"], code, "{token}");
    }
    let mut stage = open(8);
    stage.now.utc = stage.now.utc.after(Duration::from_secs(3_601));
    let actions = frame(&mut stage, "resumeSession", json!({ "token": token }), "s");
    assert_eq!(said(&actions)[0]["payload"]["code"], 410);
    let mut stage = open(9);
    stage.site.domains[0].users.remove("1000");
    let actions = frame(&mut stage, "resumeSession", json!({ "token": token }), "s");
    assert_eq!(said(&actions)[0]["payload"]["code"], 410);
    let mut stage = open(10);
    let actions = frame(&mut stage, "resumeSession", json!({ "token": token }), "s");
    let (to, message) = told(&actions).pop().expect("a question");
    let why = Undelivered::Absent;
    let actions = stage.event(Event::Undelivered { to, message, why });
    assert_eq!(
        said(&actions)[0]["payload"]["code"],
        410,
        "it was unregistered"
    );
}

#[test]
fn a_name_means_the_own_call_or_our_uuid() {
    let (mut stage, _) = registered(7);
    let side = CallKey::from_bits(77 << 64).side(2);
    let (to, _) = order(&frame(
        &mut stage,
        "answer",
        json!({ "callId": side.to_string(), "sdp": "v=0" }),
        "a",
    ));
    assert_eq!(to, ActorId::Dialog(side));
    // A UUID that the client made is its own name.
    let random = "550e8400-e29b-41d4-a716-446655440001";
    let (to, _) = order(&frame(
        &mut stage,
        "hangup",
        json!({ "callId": random }),
        "a",
    ));
    let key = stage.site.ids.json_call_key("1000@example.org", random);
    assert_eq!(to, ActorId::Dialog(key.side(1)));
    let payload = json!({ "to": "1001", "callId": side.to_string(), "sdp": "v=0" });
    let actions = frame(&mut stage, "call", payload, "c");
    assert_eq!(said(&actions)[0]["payload"]["code"], 400, "one of ours");
    let payload = json!({ "to": "1001", "callId": "c", "sdp": "x".repeat(7_000) });
    let actions = frame(&mut stage, "call", payload, "c");
    assert_eq!(
        said(&actions)[0]["payload"]["code"],
        400,
        "too long to keep"
    );
}

#[test]
fn a_client_has_thirty_two_calls() {
    let (mut stage, _) = registered(7);
    for number in 0..33 {
        let payload = json!({ "to": "1001", "callId": format!("c{number}"), "sdp": "v=0" });
        let actions = frame(&mut stage, "call", payload, "c");
        if number < 32 {
            assert!(matches!(told(&actions).as_slice(), [(ActorId::Call(_), _)]));
        } else {
            assert_eq!(said(&actions)[0]["payload"]["code"], 503);
        }
    }
}

fn delivery(flow: FlowRef, about: About) -> Message {
    Message::Deliver(Box::new(Delivery {
        flow,
        name: "c".to_owned(),
        message: ServerMessage::Trying {
            call_id: "c".to_owned(),
        },
        about,
        is_last: false,
    }))
}

#[test]
fn what_is_said_has_a_number_that_rises_and_an_ack_finds_its_dialog() {
    let (mut stage, _) = registered(7);
    let side = CallKey::from_bits(77 << 64).side(2);
    let from = ActorId::Dialog(side);
    let mut say = |about| {
        let (from, message) = (from.clone(), delivery(flow_of(7), about));
        let actions = stage.event(Event::Message { from, message });
        said(&actions)[0].clone()
    };
    let reply = say(About::Reply(Some("q".to_owned())));
    assert_eq!((&reply["id"], &reply["seq"]), (&json!("q"), &Value::Null));
    let first = say(About::News);
    let second = say(About::Numbered(12_345));
    assert_eq!((&first["seq"], &second["seq"]), (&json!(1), &json!(2)));
    assert_eq!(second["id"], "srv-12345");
    let (to, order) = order(&frame(&mut stage, "ack", json!({}), "srv-12345"));
    assert_eq!(
        (to, order.command),
        (ActorId::Dialog(side), ClientCommand::Ack { number: 12_345 })
    );
    for id in ["srv-12345", "srv-1", "srv-x", "12345"] {
        assert!(frame(&mut stage, "ack", json!({}), id).is_empty(), "{id}");
    }
}

#[test]
fn what_is_for_another_connection_goes_back() {
    let (mut stage, _) = registered(7);
    let from = ActorId::Dialog(CallKey::from_bits(77 << 64).side(2));
    let message = delivery(flow_of(8), About::News);
    let actions = stage.event(Event::Message {
        from: from.clone(),
        message,
    });
    assert!(said(&actions).is_empty());
    assert!(matches!(
        told(&actions).as_slice(),
        [(to, crate::Message::Dialog(dialog::Message::FlowGone { flow }))]
            if *to == from && *flow == flow_of(8)
    ));
}

#[test]
fn all_who_watch_are_told_of_the_end() {
    let (mut stage, _) = registered(7);
    let dialog = ActorId::Dialog(CallKey::from_bits(77 << 64).side(2));
    let registration = ActorId::Registration("1000@example.org".into());
    for watcher in [dialog.clone(), registration.clone()] {
        let flow = flow_of(7);
        assert!(stage.tell(Message::Watch { watcher, flow }).is_empty());
    }
    let early = stage.tell(Message::Watch {
        watcher: dialog.clone(),
        flow: flow_of(6),
    });
    assert_eq!(told(&early).len(), 1, "another life's connection is gone");
    let why = "reset".to_owned();
    let actions = stage.event(Event::Closed { why });
    let told: Vec<ActorId> = told(&actions).into_iter().map(|(to, _)| to).collect();
    assert_eq!(told, [registration, dialog]);
    assert!(matches!(actions.last(), Some(Action::Stop { id }) if *id == stage.me));
}

#[test]
fn orders_that_meet_a_full_inbox_are_given_again() {
    let (mut stage, _) = registered(7);
    let actions = frame(&mut stage, "hangup", json!({ "callId": "c" }), "h");
    let (to, message) = told(&actions).pop().expect("an order");
    let why = Undelivered::Busy;
    assert!(
        stage
            .event(Event::Undelivered { to, message, why })
            .is_empty()
    );
    let (_, order) = order(&stage.pass(Duration::from_millis(100)));
    assert_eq!(order.command, ClientCommand::Hangup);
}

#[test]
fn an_order_for_no_call_is_answered_404() {
    let (mut stage, _) = registered(7);
    for (kind, answered) in [("hangup", true), ("iceComplete", false)] {
        let actions = frame(&mut stage, kind, json!({ "callId": "c" }), "h");
        let (to, message) = told(&actions).pop().expect("an order");
        let why = Undelivered::Absent;
        let actions = stage.event(Event::Undelivered { to, message, why });
        let codes: Vec<Value> = said(&actions)
            .iter()
            .map(|value| value["payload"]["code"].clone())
            .collect();
        let wanted = if answered {
            vec![json!(404)]
        } else {
            Vec::new()
        };
        assert_eq!(codes, wanted, "{kind}");
    }
}

#[test]
fn info_tells_of_the_own_number_and_calls_only() {
    let (mut stage, _) = registered(7);
    let ask = |stage: &mut Stage<DoorSession>, query: &str| {
        let actions = frame(stage, "info", json!({ "query": query }), "i");
        said(&actions)[0]["payload"].clone()
    };
    frame(
        &mut stage,
        "call",
        json!({ "to": "1001", "callId": "c9", "sdp": "v=0" }),
        "c",
    );
    assert_eq!(ask(&mut stage, "calls"), json!({ "calls": ["c9"] }));
    assert_eq!(ask(&mut stage, "dn")["dn"], "1000@example.org");
    assert_eq!(
        ask(&mut stage, "server"),
        json!({ "node": "a", "product": "Weft" })
    );
}

#[test]
fn a_session_asks_for_the_account_it_proved() {
    let aor: Aor = "1000@example.org".parse().expect("an AoR");
    let (mut stage, _) = registered(7);
    let payload = json!({ "to": "1001", "callId": "c", "sdp": "v=0", "displayName": "Mallory" });
    let actions = frame(&mut stage, "call", payload, "c");
    let Some((_, crate::Message::Call(crate::call::Message::Dial(dial)))) = told(&actions).pop()
    else {
        panic!("no call: {actions:?}");
    };
    assert_eq!(dial.aor, aor);
    assert_eq!(dial.contact, registration::contact(&aor, "tab-1"));
    assert_eq!(dial.request.as_deref(), Some("c"));
}

#[test]
fn new_work_that_the_node_sheds_is_refused_at_once() {
    let (mut stage, _) = registered(7);
    let payload = json!({ "to": "1001", "callId": "c", "sdp": "v=0" });
    let actions = frame(&mut stage, "call", payload, "c");
    let (to, message) = told(&actions).pop().expect("a call");
    let why = Undelivered::Busy;
    let actions = stage.event(Event::Undelivered { to, message, why });
    assert_eq!(said(&actions)[0]["payload"]["code"], 503);
    assert!(stage.pass(Duration::from_secs(1)).is_empty());
    let mut stage = open(8);
    let actions = register(&mut stage, "1000", "weft-1000");
    let (to, message) = told(&actions).pop().expect("a question");
    let actions = stage.event(Event::Undelivered { to, message, why });
    assert_eq!(said(&actions)[0]["payload"]["code"], 503);
    assert_eq!(kinds(&actions), ["registerFailed"]);
}

#[test]
fn a_call_that_is_rejected_counts_no_more() {
    let (mut stage, _) = registered(7);
    for number in 0..100_u64 {
        let side = CallKey::from_bits(u128::from(number) << 64 << 20).side(2);
        let from = ActorId::Dialog(side);
        let message = Message::Deliver(Box::new(Delivery {
            flow: flow_of(7),
            name: side.to_string(),
            message: ServerMessage::Trying {
                call_id: side.to_string(),
            },
            about: About::News,
            is_last: false,
        }));
        stage.event(Event::Message { from, message });
        frame(
            &mut stage,
            "reject",
            json!({ "callId": side.to_string() }),
            "r",
        );
        stage.pass(Duration::from_secs(1));
    }
    assert!(stage.core.calls.is_empty());
}
