//! Browsers in a call that another node takes over: SIP over WebSocket, and JSON.

use std::time::Duration;

use contract::{
    Door, Event, FlowRef, KeyMaterial, LegConfig, LegSocket, LegTransport, MediaCommand,
    MediaEvent, NodeId, SrtpKeys, SrtpProfile, WebrtcConfig,
};
use serde_json::json;

use super::bequests::{handed_over, parts_of};
use super::fixture::*;
use super::json::{ALICE, BOB, browser, sdp_of};
use super::taken_over::{accept, body_of, is_from, line};
use crate::Target;

fn webrtc(config: &LegConfig) -> &WebrtcConfig {
    match &config.transport {
        LegTransport::Webrtc(webrtc) => webrtc,
        other => panic!("{other:?}"),
    }
}

fn keys() -> SrtpKeys {
    SrtpKeys {
        profile: SrtpProfile::AesCm128HmacSha1_80,
        peer_profile: SrtpProfile::AesCm128HmacSha1_80,
        our_key: KeyMaterial::new(vec![1; 16]),
        our_salt: KeyMaterial::new(vec![2; 14]),
        peer_key: KeyMaterial::new(vec![3; 16]),
        peer_salt: KeyMaterial::new(vec![4; 14]),
        rtcp_index_start: 0,
        received: Vec::new(),
    }
}

const PATH: &str = "198.51.100.12:50000";

/// The handshake of a side's leg is done, its path was selected.
fn establish(world: &mut World, side: u8) -> WebrtcConfig {
    let association = webrtc(&world.config(side)).association;
    let keys = Box::new(keys());
    let id = world.leg(side);
    world.give(
        id.clone(),
        Event::Media(MediaEvent::Keyed { keys, association }),
    );
    let remote = PATH.parse().expect("an address");
    let by_agent = true;
    world.give(
        id,
        Event::Media(MediaEvent::PathSelected { remote, by_agent }),
    );
    webrtc(&world.config(side)).clone()
}

fn answer_of(offer: &str, ufrag: &str) -> String {
    let direction = if offer.contains("a=sendrecv") {
        "sendrecv"
    } else {
        "recvonly"
    };
    browser("active", direction).replace("a=ice-ufrag:abcd", &format!("a=ice-ufrag:{ufrag}"))
}

/// A leg goes on at once: the same keys, the same credentials, checks to where its peer was.
fn goes_on(world: &World, side: u8, before: &WebrtcConfig) {
    let config = world.config(side);
    let after = webrtc(&config);
    assert_eq!(after.ice.local, before.ice.local);
    assert_eq!(after.ice.remote, before.ice.remote);
    assert_eq!(after.ice.candidates, before.ice.candidates);
    assert_eq!(after.ice.selected, Some(PATH.parse().expect("an address")));
    assert_eq!(after.association, before.association, "no new handshake");
    let keys = before.keys.clone().map(|keys| SrtpKeys {
        rtcp_index_start: 2_048,
        ..*keys
    });
    assert_eq!(after.keys.as_deref(), keys.as_ref(), "past the reserve");
    let key = world.side(side);
    let socket = world.media.iter().rev().find_map(|command| match command {
        MediaCommand::Open {
            leg, socket, port, ..
        } if *leg == key => Some((*socket, *port)),
        _ => None,
    });
    assert_eq!(socket, Some((LegSocket::Shared, None)));
}

/// What a browser answered to an ICE restart of ours is used, under the old keys.
fn is_restarted(world: &World, side: u8, before: &WebrtcConfig, offer: &str) {
    let config = world.config(side);
    let after = webrtc(&config);
    assert_eq!(after.ice.local.ufrag, line(offer, "a=ice-ufrag:"));
    assert_ne!(after.ice.local, before.ice.local);
    assert_eq!(after.ice.remote.as_ref().expect("its").ufrag, "wxyz");
    assert_eq!(after.ice.selected, None, "an agent finds the path");
    assert_eq!(after.association, before.association);
    let key = |config: &WebrtcConfig| config.keys.as_ref().map(|keys| keys.our_key.clone());
    assert_eq!(key(after), key(before));
}

fn is_restart(offer: &str, before: &WebrtcConfig) {
    assert_ne!(line(offer, "a=ice-ufrag:"), before.ice.local.ufrag);
    let print = ["AB"; 32].join(":");
    assert_eq!(line(offer, "a=fingerprint:"), format!("sha-256 {print}"));
    assert!(offer.contains("a=setup:actpass"), "{offer}");
    assert_eq!(line(offer, "c="), "IN IP4 192.0.2.2");
}

fn socket_of(number: u64, node: u16, remote: &str) -> Target {
    let mut target = target(B, 1000);
    target.flow = FlowRef::Stream {
        node: NodeId(node),
        number,
        listener: WEB,
        remote: remote.parse().expect("an address"),
        door: Door::Sip,
    };
    target
}

/// 1000, a phone, talks with a browser that speaks SIP over WebSocket to node `node`.
fn phone_and_web(node: u16) -> (World, WebrtcConfig) {
    let mut world = World::new();
    world.targets = vec![socket_of(7, node, B)];
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    let offered = body_of(&world.last(B, "INVITE"));
    assert!(offered.contains("UDP/TLS/RTP/SAVPF"), "{offered}");
    world.answer(B, "INVITE", 200, &browser("active", "sendrecv"));
    world.ack("");
    let before = establish(&mut world, 2);
    (world, before)
}

#[test]
fn a_sip_client_over_websocket_is_told_when_its_new_connection_is_there() {
    let (mut world, before) = phone_and_web(1);
    world.targets[0].unreachable = true;
    world.take_over(2);
    goes_on(&world, 2, &before);
    assert_eq!(
        world.count(B, "INVITE"),
        1,
        "its connection died with the node"
    );
    accept(&mut world, A, SDP_A);
    world.pass(Duration::from_secs(3));
    world.targets = vec![socket_of(1, 2, C)];
    world.pass(Duration::from_secs(1));
    let offer = world.last(C, "INVITE");
    is_from(&world, &offer, 2);
    let text = body_of(&offer);
    is_restart(&text, &before);
    world.answer_to(&offer, 200, "b1", &answer_of(&text, "wxyz"));
    is_restarted(&world, 2, &before, &text);
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn a_client_whose_connection_is_at_a_living_node_is_told_at_once() {
    let (mut world, before) = phone_and_web(3);
    world.take_over(2);
    let offer = world.last(B, "INVITE");
    is_restart(&body_of(&offer), &before);
    assert_eq!(world.count(B, "INVITE"), 2);
    accept(&mut world, A, SDP_A);
    world.answer_to(&offer, 200, "b1", &answer_of(&body_of(&offer), "wxyz"));
    assert_eq!(world.state(&world.call_id()), "talking");
}

/// A node that the others did not hear connected the call; the callee's 200 came to its heir as well, which
/// answered the caller once more. Simulator, 3 nodes, 10 minutes, seed 81206: the heir began handshakes of
/// its own, which no browser answers whose association stands.
#[test]
fn keys_of_a_call_that_two_nodes_have_answered_are_gone_on_with() {
    let mut world = World::new();
    world.targets = vec![socket_of(7, 3, B)];
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    let then = world.stored.clone();
    let sdp = browser("active", "sendrecv");
    world.answer(B, "INVITE", 200, &sdp);
    world.ack("");
    let before = establish(&mut world, 2);
    let parts = parts_of(&world);
    world.be_cut_off(2, then);
    // No ACK has come to it: it says so again.
    world.answer(B, "INVITE", 200, &sdp);
    assert_eq!(world.state(&world.call_id()), "answering");
    assert!(webrtc(&world.config(2)).keys.is_none());
    let word = handed_over(&world, &parts, &parts_of(&world));
    world.tell(world.call_id(), word);
    assert_eq!(world.state(&world.call_id()), "talking");
    let key = |config: &WebrtcConfig| config.keys.as_ref().map(|keys| keys.our_key.clone());
    let after = webrtc(&world.config(2)).clone();
    assert_eq!(key(&after), key(&before));
    assert_eq!(after.association, before.association, "no new handshake");
    let offer = world.last(B, "INVITE");
    is_from(&world, &offer, 2);
    let text = body_of(&offer);
    is_restart(&text, &before);
    accept(&mut world, A, SDP_A);
    world.answer_to(&offer, 200, "b1", &answer_of(&text, "wxyz"));
    is_restarted(&world, 2, &before, &text);
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn a_client_that_is_neither_heard_nor_comes_back_ends_the_call() {
    let (mut world, _) = phone_and_web(1);
    world.targets[0].unreachable = true;
    world.take_over(2);
    accept(&mut world, A, SDP_A);
    world.pass(Duration::from_secs(9));
    assert_eq!(world.count(A, "BYE"), 1);
    world.answer(A, "BYE", 200, "");
    world.pass(Duration::from_secs(40));
    assert_eq!(world.record().cause, "NO_USER_RESPONSE");
}

#[test]
fn a_client_that_is_heard_may_come_back_later() {
    let (mut world, before) = phone_and_web(1);
    world.targets[0].unreachable = true;
    world.take_over(2);
    accept(&mut world, A, SDP_A);
    let from = PATH.parse().expect("an address");
    world.give(world.leg(2), Event::Media(MediaEvent::FirstPacket { from }));
    world.pass(Duration::from_secs(45));
    assert_eq!(world.count(A, "BYE"), 0);
    world.targets = vec![socket_of(1, 2, C)];
    world.pass(Duration::from_secs(6));
    let text = body_of(&world.last(C, "INVITE"));
    is_restart(&text, &before);
    world.answer_to(
        &world.last(C, "INVITE"),
        200,
        "b1",
        &answer_of(&text, "wxyz"),
    );
    is_restarted(&world, 2, &before, &text);
}

#[test]
fn a_refused_restart_is_offered_again_with_the_same_credentials() {
    let (mut world, before) = phone_and_web(3);
    world.take_over(2);
    let first = world.last(B, "INVITE");
    for _ in 0..2 {
        let offer = world.last(B, "INVITE");
        world.answer_to(&offer, 491, "b1", "");
        assert_eq!(webrtc(&world.config(2)).ice.local, before.ice.local);
        world.pass(Duration::from_secs(4));
    }
    assert_eq!(body_of(&world.last(B, "INVITE")), body_of(&first));
}

#[test]
fn a_json_client_that_comes_back_is_offered_our_new_address() {
    let mut world = World::new();
    let token = world.register(ALICE, "1000");
    world.dial("1001");
    world.answer(B, "INVITE", 200, SDP_B);
    let before = establish(&mut world, 1);
    world.take_over(2);
    goes_on(&world, 1, &before);
    accept(&mut world, B, SDP_B);
    world.pass(Duration::from_secs(3));
    world.open(21);
    world.say(
        21,
        "resumeSession",
        json!({ "token": token, "calls": ["c1"] }),
    );
    let reoffer = world.told(21, "reoffer");
    assert_eq!(reoffer["why"], "migrate");
    let text = sdp_of(&reoffer);
    is_restart(&text, &before);
    let payload = json!({ "callId": "c1", "sdp": answer_of(&text, "wxyz") });
    world.say(21, "reanswer", payload);
    is_restarted(&world, 1, &before, &text);
    assert_eq!(world.state(&world.json_call()), "talking");
    world.say(21, "hangup", json!({ "callId": "c1" }));
    world.answer(B, "BYE", 200, "");
    assert_eq!(world.record().cause, "NORMAL_CLEARING");
}

#[test]
fn a_json_client_that_rings_is_shown_the_call_anew() {
    let mut world = World::new();
    let token = world.register(BOB, "1001");
    world.call("1001", SDP_A);
    let first = world.incoming();
    world.say(BOB, "ringing", json!({ "callId": first }));
    world.take_over(2);
    world.pass(Duration::from_secs(2));
    world.open(22);
    world.say(
        22,
        "resumeSession",
        json!({ "token": token, "calls": [first] }),
    );
    world.pass(Duration::from_secs(2));
    assert_eq!(world.told(22, "cancelled")["callId"], first);
    let shown = world.told(22, "incoming");
    assert_ne!(shown["callId"], first);
    assert_eq!(line(&sdp_of(&shown), "c="), "IN IP4 192.0.2.2");
    let call_id = shown["callId"].clone();
    let sdp = browser("active", "sendrecv");
    world.say(22, "answer", json!({ "callId": call_id, "sdp": sdp }));
    assert_eq!(world.count(A, "200"), 1);
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
    assert_eq!(world.heard(22, "reoffer").len(), 0);
}

#[test]
fn a_json_clients_open_offer_is_refused_and_it_is_offered_ours() {
    let mut world = World::new();
    let token = world.register(ALICE, "1000");
    world.dial("1001");
    world.answer(B, "INVITE", 200, SDP_B);
    let sdp = browser("actpass", "sendonly");
    world.say(ALICE, "hold", json!({ "callId": "c1", "sdp": sdp }));
    world.take_over(2);
    accept(&mut world, B, SDP_B);
    world.pass(Duration::from_secs(1));
    world.open(21);
    world.say(
        21,
        "resumeSession",
        json!({ "token": token, "calls": ["c1"] }),
    );
    let text = sdp_of(&world.told(21, "reoffer"));
    let payload = json!({ "callId": "c1", "sdp": answer_of(&text, "wxyz") });
    world.say(21, "reanswer", payload);
    let sdp = browser("actpass", "sendonly").replace("abcd", "wxyz");
    world.say(21, "hold", json!({ "callId": "c1", "sdp": sdp }));
    accept(&mut world, B, &format!("{SDP_B}a=recvonly\r\n"));
    assert_eq!(world.told(21, "held")["by"], "local");
    assert_eq!(world.state(&world.json_call()), "held");
}

/// Both clients come back, on other connections, and answer what they are offered.
fn come_back(world: &mut World, connections: (u64, u64), tokens: &(String, String)) {
    let bobs = world.frames.iter().rev().find_map(|(_, frame)| {
        let is_incoming = frame["type"] == "incoming";
        is_incoming.then(|| frame["payload"]["callId"].clone())
    });
    let clients = [
        (connections.0, &tokens.0, json!(["c1"])),
        (
            connections.1,
            &tokens.1,
            json!(bobs.into_iter().collect::<Vec<_>>()),
        ),
    ];
    for (number, token, calls) in clients {
        world.open(number);
        world.say(
            number,
            "resumeSession",
            json!({ "token": token, "calls": calls }),
        );
    }
    world.pass(Duration::from_secs(3));
    for number in [connections.0, connections.1] {
        for reoffer in world.heard(number, "reoffer") {
            let payload = &reoffer["payload"];
            let sdp = answer_of(&sdp_of(payload), &format!("wx{number}"));
            let answer = json!({ "callId": payload["callId"], "sdp": sdp });
            world.say(number, "reanswer", answer);
        }
    }
}

#[test]
fn a_take_over_after_any_step_of_two_clients_ends_in_one_record() {
    const STEPS: usize = 7;
    for taken in 0..STEPS - 1 {
        let mut world = World::new();
        world.is_json = true;
        let tokens = (world.register(ALICE, "1000"), world.register(BOB, "1001"));
        let (mut alice, mut bob) = (ALICE, BOB);
        for number in 0..STEPS {
            let shown = |world: &World| {
                let mut frames = world.frames.iter().rev();
                let last = frames.find(|(_, frame)| frame["type"] == "incoming");
                last.expect("an incoming call").1["payload"]["callId"].clone()
            };
            let sdp = browser("active", "sendrecv");
            match number {
                0 => {
                    let sdp = browser("actpass", "sendrecv");
                    let payload = json!({ "to": "1001", "callId": "c1", "sdp": sdp });
                    world.say_as(alice, "call", payload, "call-1");
                }
                1 => {
                    let payload = json!({ "callId": shown(&world) });
                    world.say(bob, "ringing", payload);
                }
                2 => {
                    let payload = json!({ "callId": shown(&world), "sdp": sdp });
                    world.say(bob, "answer", payload);
                }
                3 => {
                    let sdp = browser("actpass", "sendonly");
                    world.say(alice, "hold", json!({ "callId": "c1", "sdp": sdp }));
                }
                // The take-over has refused that offer.
                4 if taken == 3 => {}
                4 => {
                    let sdp = browser("active", "recvonly");
                    let payload = json!({ "callId": shown(&world), "sdp": sdp });
                    world.say(bob, "reanswer", payload);
                }
                5 => {
                    let payload = json!({ "callId": shown(&world) });
                    world.say(bob, "hangup", payload);
                }
                _ => world.pass(Duration::from_secs(9)),
            }
            if number == taken {
                world.take_over(2);
                (alice, bob) = (alice + 10, bob + 10);
                come_back(&mut world, (alice, bob), &tokens);
            }
        }
        world.pass(Duration::from_secs(40));
        let record = world.record();
        assert_eq!(record.cause, "NORMAL_CLEARING", "taken over after {taken}");
        assert!(record.answered.is_some(), "taken over after {taken}");
    }
}
