//! Calls of JSON clients from `call` to talk: with SIP phones and with each other.

use std::time::Duration;

use bytes::Bytes;
use contract::{ActorId, Door, Event, FlowRef, LegTransport, MediaCommand, NodeId, Roster};
use serde_json::{Value, json};

use super::fixture::*;
use crate::AnyCore;

/// Connections of the two clients.
pub(super) const ALICE: u64 = 11;
pub(super) const BOB: u64 = 12;

pub(super) fn web(number: u64) -> FlowRef {
    let remote = format!("198.51.100.{number}:50000");
    FlowRef::Stream {
        node: NodeId(1),
        number,
        listener: WEB,
        remote: remote.parse().expect("an address"),
        door: Door::Json,
    }
}

/// What a browser describes.
pub(super) fn browser(setup: &str, direction: &str) -> String {
    let fingerprint = ["CD"; 32].join(":");
    format!(
        "v=0\r\no=- 7 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111 8 0 126\r\nc=IN IP4 0.0.0.0\r\na=rtcp-mux\r\n\
         a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\na=setup:{setup}\r\na=mid:0\r\na={direction}\r\n\
         a=rtpmap:111 opus/48000/2\r\na=rtpmap:126 telephone-event/8000\r\n"
    )
}

impl World {
    pub fn open(&mut self, number: u64) {
        let id = ActorId::DoorSession(NodeId(1), number);
        let core = AnyCore::create_system(&id, &self.site).expect("a session");
        self.cores.insert(id.clone(), core);
        let flow = web(number);
        self.give(id, Event::Opened { flow });
    }

    /// A client says something.
    pub fn say(&mut self, number: u64, kind: &str, payload: Value) {
        let id = format!("{kind}-{}", self.frames.len());
        self.say_as(number, kind, payload, &id);
    }

    pub fn say_as(&mut self, number: u64, kind: &str, payload: Value, id: &str) {
        let text = json!({ "type": kind, "payload": payload, "id": id }).to_string();
        let to = ActorId::DoorSession(NodeId(1), number);
        self.give(to, Event::Bytes(Bytes::from(text)));
    }

    pub fn drop_connection(&mut self, number: u64) {
        let id = ActorId::DoorSession(NodeId(1), number);
        let why = "reset".to_owned();
        self.give(id, Event::Closed { why });
    }

    /// Returns the frames of a kind that a client was sent.
    pub fn heard(&self, number: u64, kind: &str) -> Vec<Value> {
        let frames = self.frames.iter();
        frames
            .filter(|(to, frame)| *to == number && frame["type"] == kind)
            .map(|(_, frame)| frame.clone())
            .collect()
    }

    /// Returns the payload of the last one.
    pub fn told(&self, number: u64, kind: &str) -> Value {
        let last = self.heard(number, kind).pop();
        last.unwrap_or_else(|| panic!("no {kind} to {number} in {:#?}", self.frames))["payload"]
            .clone()
    }

    pub fn kinds(&self, number: u64) -> Vec<String> {
        let frames = self.frames.iter().filter(|(to, _)| *to == number);
        frames
            .map(|(_, frame)| frame["type"].as_str().expect("a type").to_owned())
            .collect()
    }

    pub fn register(&mut self, number: u64, dn: &str) -> String {
        self.open(number);
        let password = format!("weft-{dn}");
        let payload = json!({ "dn": dn, "password": password, "instance": format!("tab-{dn}") });
        self.say(number, "register", payload);
        let token = self.told(number, "registered")["sessionToken"].clone();
        token.as_str().expect("a token").to_owned()
    }

    /// The key of Alice's call `c1`.
    pub fn json_call(&self) -> ActorId {
        ActorId::Call(self.site.ids.json_call_key("1000@example.org", "c1"))
    }

    pub fn json_side(&self, number: u8) -> contract::SideKey {
        self.json_call().call().expect("a call").side(number)
    }

    pub fn dial(&mut self, to: &str) {
        self.is_json = true;
        let sdp = browser("actpass", "sendrecv");
        let payload = json!({ "to": to, "callId": "c1", "sdp": sdp });
        self.say_as(ALICE, "call", payload, "call-1");
    }

    /// Alice, a client, talks with 1001, a SIP phone.
    pub fn alice_and_phone() -> Self {
        let mut world = World::new();
        world.register(ALICE, "1000");
        world.dial("1001");
        world.answer(B, "INVITE", 180, "");
        world.answer(B, "INVITE", 200, SDP_B);
        assert_eq!(world.state(&world.json_call()), "talking");
        world
    }

    /// 1000, a SIP phone, talks with Bob, a client.
    pub fn phone_and_bob() -> Self {
        let mut world = World::new();
        world.register(BOB, "1001");
        world.call("1001", SDP_A);
        let call_id = world.told(BOB, "incoming")["callId"].clone();
        world.say(BOB, "ringing", json!({ "callId": call_id }));
        let sdp = browser("active", "sendrecv");
        world.say(BOB, "answer", json!({ "callId": call_id, "sdp": sdp }));
        world.ack("");
        assert_eq!(
            world.state(&world.call_id()),
            "talking",
            "{:#?}",
            world.lines()
        );
        world
    }

    pub fn alice_and_bob() -> Self {
        let mut world = World::new();
        world.register(ALICE, "1000");
        world.register(BOB, "1001");
        world.dial("1001");
        let call_id = world.incoming();
        let sdp = browser("active", "sendrecv");
        world.say(BOB, "answer", json!({ "callId": call_id, "sdp": sdp }));
        assert_eq!(world.state(&world.json_call()), "talking");
        world
    }

    /// Returns the name of Bob's call.
    pub fn incoming(&self) -> String {
        let call_id = &self.told(BOB, "incoming")["callId"];
        call_id.as_str().expect("a name").to_owned()
    }

    /// A client acknowledges the last message of a kind.
    pub fn acknowledge(&mut self, number: u64, kind: &str) {
        let last = self.heard(number, kind).pop().expect("a message");
        let id = last["id"].as_str().expect("an id").to_owned();
        self.say_as(number, "ack", json!({}), &id);
    }
}

pub(super) fn sdp_of(payload: &Value) -> String {
    payload["sdp"].as_str().expect("a description").to_owned()
}

fn is_webrtc(sdp: &str) -> bool {
    [
        "UDP/TLS/RTP/SAVPF",
        "a=ice-lite",
        "a=fingerprint:sha-256",
        "a=rtcp-mux",
        "a=end-of-candidates",
    ]
    .iter()
    .all(|wanted| sdp.contains(wanted))
}

#[test]
fn a_client_calls_a_phone_and_they_talk() {
    let mut world = World::new();
    world.register(ALICE, "1000");
    world.dial("1001");
    assert_eq!(world.kinds(ALICE), ["registered", "trying"]);
    assert_eq!(world.heard(ALICE, "trying")[0]["id"], "call-1");
    let invite = world.last(B, "INVITE").message;
    assert_eq!(
        invite
            .header(sip::HeaderName::From)
            .map(|from| from.split(';').next().map(str::to_owned)),
        Some(Some("<sip:1000@example.org>".to_owned()))
    );
    assert!(String::from_utf8_lossy(invite.body()).contains("RTP/AVP"));
    world.answer(B, "INVITE", 180, "");
    assert_eq!(
        world.heard(ALICE, "ringing")[0]["payload"],
        json!({ "callId": "c1" })
    );
    world.answer(B, "INVITE", 200, SDP_B);
    let accepted = world.heard(ALICE, "callAccepted");
    assert_eq!(accepted[0]["id"], "call-1");
    let sdp = sdp_of(&accepted[0]["payload"]);
    assert!(is_webrtc(&sdp) && sdp.contains("a=setup:passive"), "{sdp}");
    assert_eq!(world.count(B, "ACK"), 1);
    assert_eq!(world.state(&world.json_call()), "talking");
    let protected = world.media.iter().any(|command| {
        matches!(command, MediaCommand::Configure { config, leg }
            if *leg == world.json_side(1) && matches!(config.transport, LegTransport::Webrtc(_)))
    });
    assert!(protected);
}

#[test]
fn a_phone_calls_a_client_and_they_talk() {
    let mut world = World::new();
    world.register(BOB, "1001");
    world.call("1001", SDP_A);
    let incoming = world.heard(BOB, "incoming")[0].clone();
    let payload = &incoming["payload"];
    assert_eq!(payload["callId"], world.side(2).to_string());
    assert_eq!(payload["from"], "1000@example.org");
    assert_eq!(
        payload["displayName"], "",
        "what a caller claims is not passed on"
    );
    assert_eq!(payload["to"], "1001@example.org");
    let sdp = sdp_of(payload);
    assert!(is_webrtc(&sdp) && sdp.contains("a=setup:actpass"), "{sdp}");
    assert!(
        incoming["id"]
            .as_str()
            .is_some_and(|id| id.starts_with("srv-"))
    );
    assert_eq!(incoming["seq"], 1);
    let call_id = payload["callId"].clone();
    world.say(BOB, "ringing", json!({ "callId": call_id }));
    assert_eq!(world.count(A, "180"), 1);
    let sdp = browser("active", "sendrecv");
    world.say(BOB, "answer", json!({ "callId": call_id, "sdp": sdp }));
    let ok = world.last(A, "200");
    assert!(String::from_utf8_lossy(ok.message.body()).contains("RTP/AVP"));
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
    assert!(world.heard(BOB, "error").is_empty());
}

#[test]
fn two_clients_talk() {
    let world = World::alice_and_bob();
    assert_eq!(world.kinds(ALICE), ["registered", "trying", "callAccepted"]);
    assert_eq!(world.kinds(BOB), ["registered", "incoming"]);
    assert!(is_webrtc(&sdp_of(&world.told(ALICE, "callAccepted"))));
    assert!(world.sent.is_empty(), "no SIP is spoken");
}

#[test]
fn early_media_comes_with_ringing_and_its_answer_once() {
    let mut world = World::new();
    world.register(ALICE, "1000");
    world.dial("1001");
    world.answer(B, "INVITE", 183, SDP_B);
    let early = sdp_of(&world.told(ALICE, "ringing"));
    assert!(is_webrtc(&early));
    world.answer(B, "INVITE", 200, SDP_B);
    assert_eq!(world.told(ALICE, "callAccepted"), json!({ "callId": "c1" }));
}

#[test]
fn a_number_that_nobody_has_is_rejected() {
    let mut world = World::new();
    world.register(ALICE, "1000");
    world.dial("4711");
    let rejected = world.heard(ALICE, "callRejected")[0].clone();
    assert_eq!(rejected["id"], "call-1");
    assert_eq!(rejected["payload"]["code"], 404);
    assert_eq!(rejected["payload"]["cause"], "NO_ROUTE_DESTINATION");
    let record = world.record();
    assert_eq!(
        (record.sip_call_id.as_str(), record.status),
        ("c1", Some(404))
    );
    assert_eq!(record.from, "sip:1000@example.org");
}

#[test]
fn another_domain_is_not_dialled_into() {
    for to in ["2000@hashed.example", "sip:2000@hashed.example"] {
        let mut world = World::new();
        world.register(ALICE, "1000");
        world.dial(to);
        assert_eq!(world.told(ALICE, "callRejected")["code"], 404, "{to}");
    }
    for to in ["1001@example.org", "sip:1001@example.org", "1001"] {
        let mut world = World::new();
        world.register(ALICE, "1000");
        world.dial(to);
        assert_eq!(world.count(B, "INVITE"), 1, "{to}");
    }
}

#[test]
fn a_full_node_rejects_at_once_and_leaves_no_record() {
    let mut world = World::new();
    world.register(ALICE, "1000");
    world.health.draining = true;
    world.dial("1001");
    let rejected = world.told(ALICE, "callRejected");
    assert_eq!(
        (&rejected["code"], &rejected["reason"]),
        (&json!(503), &json!("draining"))
    );
    assert!(world.records().is_empty());
    assert!(world.stored.keys().all(|id| id.call().is_none()));
}

#[test]
fn a_client_holds_and_takes_back() {
    let mut world = World::alice_and_phone();
    let payload = json!({ "callId": "c1", "sdp": browser("actpass", "sendonly") });
    world.say_as(ALICE, "hold", payload, "h1");
    let offer = world.last(B, "INVITE");
    assert!(String::from_utf8_lossy(offer.message.body()).contains("a=sendonly"));
    world.answer(B, "INVITE", 200, &format!("{SDP_B}a=recvonly\r\n"));
    let held = world.heard(ALICE, "held")[0].clone();
    assert_eq!(
        (&held["id"], &held["payload"]["by"]),
        (&json!("h1"), &json!("local"))
    );
    assert!(sdp_of(&held["payload"]).contains("a=recvonly"));
    assert_eq!(world.state(&world.json_call()), "held");
    let payload = json!({ "callId": "c1", "sdp": browser("actpass", "sendrecv") });
    world.say_as(ALICE, "resume", payload, "h2");
    world.answer(B, "INVITE", 200, SDP_B);
    assert_eq!(world.told(ALICE, "resumed")["by"], "local");
    assert_eq!(world.state(&world.json_call()), "talking");
    assert!(world.heard(ALICE, "reoffer").is_empty());
}

#[test]
fn the_far_end_holds_and_takes_back() {
    let mut world = World::phone_and_bob();
    let call_id = world.incoming();
    world.request(1, A, "INVITE", 11, &format!("{SDP_A}a=sendonly\r\n"));
    let reoffer = world.told(BOB, "reoffer");
    assert_eq!(reoffer["why"], "hold");
    assert!(sdp_of(&reoffer).contains("a=sendonly"));
    let payload = json!({ "callId": call_id, "sdp": browser("active", "recvonly") });
    world.say(BOB, "reanswer", payload);
    let ok = world.last(A, "200");
    assert!(String::from_utf8_lossy(ok.message.body()).contains("a=recvonly"));
    assert_eq!(
        world.told(BOB, "held"),
        json!({ "callId": call_id, "by": "remote" })
    );
    world.request(1, A, "ACK", 11, "");
    world.request(1, A, "INVITE", 12, &format!("{SDP_A}a=sendrecv\r\n"));
    assert_eq!(world.told(BOB, "reoffer")["why"], "resume");
    let payload = json!({ "callId": call_id, "sdp": browser("active", "sendrecv") });
    world.say(BOB, "reanswer", payload);
    assert_eq!(
        world.told(BOB, "resumed"),
        json!({ "callId": call_id, "by": "remote" })
    );
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn a_client_holds_another() {
    let mut world = World::alice_and_bob();
    let call_id = world.incoming();
    let payload = json!({ "callId": "c1", "sdp": browser("actpass", "sendonly") });
    world.say(ALICE, "hold", payload);
    assert_eq!(world.told(BOB, "reoffer")["why"], "hold");
    assert!(world.heard(ALICE, "held").is_empty());
    let payload = json!({ "callId": call_id, "sdp": browser("active", "recvonly") });
    world.say(BOB, "reanswer", payload);
    assert_eq!(world.told(ALICE, "held")["by"], "local");
    assert_eq!(world.told(BOB, "held")["by"], "remote");
}

#[test]
fn offers_that_cross_are_refused_with_491() {
    let mut world = World::alice_and_bob();
    let call_id = world.incoming();
    let hold = |name: &str| json!({ "callId": name, "sdp": browser("actpass", "sendonly") });
    world.say_as(ALICE, "hold", hold("c1"), "h1");
    world.say_as(BOB, "hold", hold(&call_id), "h2");
    let refused = world.told(BOB, "error");
    assert_eq!(
        (&refused["code"], &refused["ref"]),
        (&json!(491), &json!("h2"))
    );
    world.say_as(ALICE, "hold", hold("c1"), "h3");
    assert_eq!(world.told(ALICE, "error")["ref"], "h3");
    let payload = json!({ "callId": call_id, "sdp": browser("active", "recvonly") });
    world.say(BOB, "reanswer", payload);
    assert_eq!(world.heard(ALICE, "held").len(), 1);
    world.say(BOB, "reanswer", json!({ "callId": call_id, "sdp": "v=0" }));
    assert_eq!(world.told(BOB, "error")["code"], 481, "nothing is open");
}

#[test]
fn a_phone_that_refuses_an_offer_leaves_all_as_it_was() {
    let mut world = World::alice_and_phone();
    let payload = json!({ "callId": "c1", "sdp": browser("actpass", "sendonly") });
    world.say_as(ALICE, "hold", payload, "h1");
    world.answer(B, "INVITE", 488, "");
    let refused = world.told(ALICE, "error");
    assert_eq!(
        (&refused["code"], &refused["ref"]),
        (&json!(488), &json!("h1"))
    );
    assert_eq!(world.state(&world.json_call()), "talking");
}

#[test]
fn a_reoffer_that_is_not_answered_ends_nothing() {
    let mut world = World::phone_and_bob();
    world.request(1, A, "INVITE", 11, &format!("{SDP_A}a=sendonly\r\n"));
    world.pass(Duration::from_secs(33));
    assert_eq!(world.count(A, "408"), 1);
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn a_client_that_comes_back_with_a_new_transport_reoffers() {
    let mut world = World::alice_and_phone();
    let sdp = browser("actpass", "sendrecv").replace("abcd", "wxyz");
    let payload = json!({ "callId": "c1", "sdp": sdp, "iceRestart": true });
    world.say_as(ALICE, "reoffer", payload, "r1");
    world.answer(B, "INVITE", 200, SDP_B);
    let reanswer = world.heard(ALICE, "reanswer")[0].clone();
    assert_eq!(reanswer["id"], "r1");
    let first = sdp_of(&world.told(ALICE, "callAccepted"));
    let second = sdp_of(&reanswer["payload"]);
    let ufrag = |sdp: &str| {
        let line = sdp.lines().find(|line| line.starts_with("a=ice-ufrag"));
        line.expect("a user fragment").to_owned()
    };
    assert_ne!(ufrag(&first), ufrag(&second), "new credentials of ours too");
}

#[test]
fn digits_go_both_ways() {
    let mut world = World::alice_and_phone();
    let payload = json!({ "callId": "c1", "digits": "12#", "duration": 100 });
    world.say_as(ALICE, "dtmf", payload, "d1");
    let echo = world.heard(ALICE, "dtmf")[0].clone();
    assert_eq!(echo["id"], "d1");
    assert_eq!(echo["payload"], json!({ "callId": "c1", "digits": "12#" }));
    let leg = world.json_side(2);
    assert!(world.media.contains(&MediaCommand::Digits {
        leg,
        digits: "12#".to_owned(),
        duration: Duration::from_millis(100),
    }));
    let payload = json!({ "callId": "c1", "digits": "5", "method": "info" });
    world.say(ALICE, "dtmf", payload);
    let info = world.last(B, "INFO").message;
    assert!(String::from_utf8_lossy(info.body()).starts_with("Signal=5"));
    world.answer(B, "INFO", 200, "");
    let digit = contract::MediaEvent::Digit {
        digit: '7',
        duration: 640,
    };
    world.give(ActorId::MediaLeg(leg), Event::Media(digit));
    assert_eq!(
        world.told(ALICE, "dtmf"),
        json!({ "callId": "c1", "digit": "7" })
    );
}

#[test]
fn an_info_of_a_phone_reaches_a_client() {
    let mut world = World::phone_and_bob();
    let fields = "Content-Type: application/dtmf-relay\r\n";
    let text = world.request_text(1, "INFO", 11, "Signal=9\r\nDuration=160\r\n", fields);
    let inbound = world.inbound(A, text, None);
    let id = world.dialog(1);
    world.tell(id, crate::dialog::Message::Request(inbound));
    let call_id = world.incoming();
    assert_eq!(
        world.told(BOB, "dtmf"),
        json!({ "callId": call_id, "digit": "9" })
    );
}

#[test]
fn candidates_reach_the_own_leg() {
    let mut world = World::alice_and_phone();
    let candidate = "candidate:1 1 udp 2122260223 198.51.100.11 50001 typ host";
    let payload =
        json!({ "callId": "c1", "candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0 });
    world.say(ALICE, "iceCandidate", payload);
    world.say(ALICE, "iceComplete", json!({ "callId": "c1" }));
    let leg = world.json_side(1);
    let last = world.media.iter().rev().find_map(|command| match command {
        MediaCommand::Configure { leg: of, config } if *of == leg => Some(config.clone()),
        _ => None,
    });
    let transport = format!("{:?}", last.expect("a configuration").transport);
    assert!(transport.contains("198.51.100.11:50001"), "{transport}");
    assert!(world.heard(ALICE, "error").is_empty());
}

#[test]
fn statistics_are_kept_for_inspection() {
    let mut world = World::alice_and_phone();
    world.say(
        ALICE,
        "stats",
        json!({ "callId": "c1", "report": { "rtt": 0.02 } }),
    );
    let dialog = ActorId::Dialog(world.json_side(1));
    let view = world.cores[&dialog].view(world.now).to_string();
    assert!(view.contains("rtt"), "{view}");
}

#[test]
fn a_caller_without_offer_reaches_a_client_with_ours() {
    let mut world = World::new();
    world.register(BOB, "1001");
    world.call("1001", "");
    assert!(is_webrtc(&sdp_of(&world.told(BOB, "incoming"))));
    let payload = json!({ "callId": world.incoming(), "sdp": browser("active", "sendrecv") });
    world.say(BOB, "answer", payload);
    let ok = world.last(A, "200");
    assert!(String::from_utf8_lossy(ok.message.body()).contains("RTP/AVP"));
    world.ack(SDP_A);
    assert_eq!(world.state(&world.call_id()), "talking");
}
