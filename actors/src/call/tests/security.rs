//! Requests of another source have no effect (threats.md 24).

use contract::FlowRef;

use super::fixture::*;
use crate::dialog;
use crate::script::{DIGEST, OPEN, datagram, stream};

const EVE: &str = "198.51.100.66:5060";

fn forge(world: &mut World, number: u8, method: &str, flow: FlowRef, identity: Option<&str>) {
    let text = world.request_text(number, method, 77, "", "");
    let inbound = world.inbound_on(flow, text, identity);
    let id = world.dialog(number);
    world.tell(id, dialog::Message::Request(inbound));
}

#[test]
fn a_forged_request_with_sniffed_ids_gets_481_and_does_nothing() {
    for number in [1, 2] {
        for method in ["BYE", "INVITE", "UPDATE", "INFO", "OPTIONS"] {
            let mut world = World::connected();
            let before = world.stored.clone();
            forge(&mut world, number, method, datagram(DIGEST, EVE), None);
            assert_eq!(world.count(EVE, "481"), 1, "{method}");
            assert_eq!(world.stored, before, "{method} changed something");
            assert_eq!(world.state(&world.call_id()), "talking");
        }
    }
}

#[test]
fn the_same_address_on_another_port_is_another_source() {
    let mut world = World::connected();
    forge(
        &mut world,
        1,
        "BYE",
        datagram(DIGEST, "192.0.2.10:5063"),
        None,
    );
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn a_name_that_nobody_proved_is_no_proof() {
    let mut world = World::connected();
    forge(
        &mut world,
        1,
        "BYE",
        datagram(OPEN, EVE),
        Some("1000@example.org"),
    );
    assert_eq!(world.count(EVE, "481"), 1);
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn the_digest_of_another_account_is_no_proof() {
    let mut world = World::connected();
    forge(
        &mut world,
        1,
        "BYE",
        datagram(DIGEST, EVE),
        Some("1001@example.org"),
    );
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn the_accounts_own_digest_counts_from_anywhere() {
    let mut world = World::connected();
    forge(
        &mut world,
        1,
        "BYE",
        datagram(DIGEST, EVE),
        Some("1000@example.org"),
    );
    assert_eq!(world.count(EVE, "200"), 1);
    assert_eq!(world.count(B, "BYE"), 1);
}

#[test]
fn a_forged_ack_does_not_stop_the_copies() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 200, SDP_B);
    world.request(1, EVE, "ACK", 10, "");
    assert_eq!(world.state(&world.dialog(1)), "accepted");
    assert_eq!(world.count(EVE, "481"), 0, "an ACK is never answered");
}

#[test]
fn a_forged_cancel_is_not_even_answered() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    world.cancel(EVE);
    assert_eq!(
        world
            .sent
            .iter()
            .filter(|sent| sent.flow.remote() == EVE.parse().expect("address"))
            .count(),
        0
    );
    assert_eq!(world.state(&world.call_id()), "ringing");
}

#[test]
fn wrong_tags_get_481_even_from_the_peer() {
    let mut world = World::connected();
    let text = world
        .request_text(1, "BYE", 11, "", "")
        .replace("tag=a1", "tag=a2");
    let inbound = world.inbound(A, text, None);
    let id = world.dialog(1);
    world.tell(id, dialog::Message::Request(inbound));
    assert_eq!(world.count(A, "481"), 1);
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn a_response_of_another_address_is_ignored() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    let mut invite = world.last(B, "INVITE");
    invite.flow = datagram(DIGEST, EVE);
    world.answer_to(&invite, 486, "b1", "");
    assert_eq!(world.state(&world.call_id()), "ringing");
}

#[test]
fn a_lost_connection_comes_back_by_digest_only() {
    let mut world = World::new();
    world.targets[0].flow = stream(7);
    world.call("1001", SDP_A);
    let phone = "192.0.2.7:40000";
    world.answer(phone, "INVITE", 200, SDP_B);
    world.ack("");
    world.restart();
    let back = match stream(8) {
        FlowRef::Stream {
            node,
            number,
            listener,
            ..
        } => {
            let remote = "192.0.2.7:40001".parse().expect("address");
            FlowRef::Stream {
                node,
                number,
                listener,
                remote,
                door: contract::Door::Sip,
            }
        }
        other => other,
    };
    forge(&mut world, 2, "OPTIONS", back, None);
    assert!(
        world.sent.iter().any(|sent| sent.what == Kind::Challenge),
        "{:#?}",
        world.lines()
    );
    forge(&mut world, 2, "OPTIONS", back, Some("1001@example.org"));
    world.request(1, A, "BYE", 11, "");
    let bye = world.last("192.0.2.7:40001", "BYE");
    assert_eq!(bye.flow, back);
}

#[test]
fn what_waits_for_a_lost_connection_is_sent_when_it_is_back() {
    let mut world = World::new();
    world.targets[0].flow = stream(7);
    world.call("1001", SDP_A);
    world.answer("192.0.2.7:40000", "INVITE", 200, SDP_B);
    world.ack("");
    world.restart();
    world.request(1, A, "BYE", 11, "");
    assert_eq!(
        world
            .sent
            .iter()
            .filter(|sent| is_of(&sent.message, "BYE"))
            .count(),
        0
    );
    forge(
        &mut world,
        2,
        "OPTIONS",
        stream(9),
        Some("1001@example.org"),
    );
    assert_eq!(world.last("192.0.2.7:40000", "BYE").flow, stream(9));
}

#[test]
fn a_connection_that_stays_away_holds_nothing_longer_than_8_s() {
    let mut world = World::new();
    world.targets[0].flow = stream(7);
    world.call("1001", SDP_A);
    world.answer("192.0.2.7:40000", "INVITE", 200, SDP_B);
    world.ack("");
    world.restart();
    world.request(1, A, "BYE", 11, "");
    world.pass(std::time::Duration::from_secs(8));
    assert_eq!(world.record().ended_by, "caller");
}

#[test]
fn nobody_dials_into_another_domain() {
    let mut world = World::new();
    let text = World::invite_text("1001", SDP_A, "");
    let inbound = world.inbound(A, text, Some("2000@hashed.example"));
    let id = world.call_id();
    world.tell(id, crate::call::Message::Invite(inbound));
    assert_eq!((world.count(A, "404"), world.count(B, "INVITE")), (1, 0));
}
