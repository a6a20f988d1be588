//! A call that another node takes over while its parties talk: rows "confirmed dialog" and "media
//! leg" of `cluster.md` §7.

use std::net::IpAddr;
use std::time::Duration;

use contract::{Event, ListenerId, MediaCommand, MediaEvent, NodeInst, TokenUse};
use sip::HeaderName;

use super::fixture::*;
use crate::dialog;
use crate::script::{DIGEST, datagram};
use crate::site::{Cluster, CommitMode, FloatingAddress, FloatingListener};

pub(super) fn body_of(sent: &Sent) -> String {
    String::from_utf8_lossy(sent.message.body()).into_owned()
}

/// Value of a line of a description.
pub(super) fn line(sdp: &str, start: &str) -> String {
    let found = sdp.lines().find_map(|line| line.strip_prefix(start));
    found
        .unwrap_or_else(|| panic!("no {start} in {sdp}"))
        .to_owned()
}

/// The session of a description without its version, and the version.
fn session(sdp: &str) -> (String, u64) {
    let origin = line(sdp, "o=");
    let mut words: Vec<&str> = origin.split(' ').collect();
    let version = words.remove(2).parse().expect("a version");
    (words.join(" "), version)
}

pub(super) fn port(sdp: &str) -> u16 {
    let media = line(sdp, "m=audio ");
    let port = media.split(' ').next().expect("a port");
    port.parse().expect("a port")
}

pub(super) fn cseq(sent: &Sent) -> u32 {
    sent.message.cseq().expect("CSeq").number
}

pub(super) fn branch(sent: &Sent) -> String {
    let via = sent.message.via().expect("Via");
    via.branch().expect("a branch").to_owned()
}

/// Asserts that a request or response leads its peer to a node, by Contact and token.
pub(super) fn is_from(world: &World, sent: &Sent, node: u16) {
    let contact = sent.message.header(HeaderName::Contact).expect("Contact");
    let host = format!("@192.0.2.{node}:5060");
    assert!(contact.contains(&host), "{contact}");
    let user = contact
        .strip_prefix("<sip:")
        .and_then(|rest| rest.split('@').next());
    let token = world
        .site
        .tokens
        .read(TokenUse::Contact, user.expect("a user"));
    assert_eq!(token.expect("our token").hint.0, node);
}

/// Accepts the last offer to a peer.
pub(super) fn accept(world: &mut World, peer: &str, sdp: &str) {
    let tag = if peer == A { "a1" } else { "b1" };
    let offer = world.last(peer, "INVITE");
    world.answer_to(&offer, 200, tag, sdp);
}

#[test]
fn both_ends_are_told_at_once_with_new_contact_cseq_version_and_port() {
    let mut world = World::connected();
    let former = [
        body_of(&world.last(A, "200")),
        body_of(&world.last(B, "INVITE")),
    ];
    let used = cseq(&world.last(B, "INVITE"));
    world.take_over(2);
    for (peer, former) in [A, B].into_iter().zip(former) {
        let offer = world.last(peer, "INVITE");
        assert!(offer.is_gated, "{peer}: safe first");
        is_from(&world, &offer, 2);
        let via = offer.message.header(HeaderName::Via).expect("Via");
        assert!(via.starts_with("SIP/2.0/UDP 192.0.2.2:5060;"), "{via}");
        let sdp = body_of(&offer);
        let ((before, old), (after, new)) = (session(&former), session(&sdp));
        assert_eq!(before, after, "one session, RFC 3264 §8");
        assert_eq!(new, old + 1);
        assert_eq!(line(&sdp, "c="), "IN IP4 192.0.2.2");
        assert_ne!(port(&sdp), port(&former));
        assert!(sdp.contains("a=sendrecv"), "{sdp}");
    }
    assert!(cseq(&world.last(B, "INVITE")) > used);
    // Both agree on what they agreed on: PCMA and events.
    assert_eq!(
        line(&body_of(&world.last(A, "INVITE")), "m=audio ")
            .split(' ')
            .count(),
        4
    );
    accept(&mut world, A, SDP_A);
    accept(&mut world, B, SDP_B);
    for peer in [A, B] {
        let (offer, ack) = (world.last(peer, "INVITE"), world.last(peer, "ACK"));
        assert_eq!(cseq(&offer), cseq(&ack), "{peer}");
    }
    assert_eq!(world.state(&world.call_id()), "talking");
    world.request(1, A, "BYE", 12, "");
    assert_eq!(world.count(A, "200"), 2);
    world.answer(B, "BYE", 200, "");
    assert_eq!(world.record().ended_by, "caller");
}

#[test]
fn no_number_of_the_former_node_is_used_again() {
    let mut world = World::connected();
    world.request(2, B, "INVITE", 1, SDP_B);
    let used = cseq(&world.last(A, "INVITE"));
    accept(&mut world, A, SDP_A);
    world.request(2, B, "ACK", 1, "");
    world.take_over(2);
    let next = cseq(&world.last(A, "INVITE"));
    assert!(next > used + 8, "past the block: {used}, {next}");
    let before = world.config(1);
    accept(&mut world, A, SDP_A);
    world.take_over(3);
    assert!(cseq(&world.last(A, "INVITE")) > next + 8);
    assert_eq!(
        world.config(1).sequence_start,
        before.sequence_start,
        "nothing was sent of the block that was not asked for"
    );
}

#[test]
fn a_leg_sends_from_its_new_port_before_anybody_has_answered() {
    let mut world = World::connected();
    let before = [world.config(1), world.config(2)];
    let latched = "192.0.2.10:45000".parse().expect("an address");
    let event = MediaEvent::Latched { to: latched };
    world.give(world.leg(1), Event::Media(event));
    world.take_over(2);
    let opened: Vec<_> = world
        .media
        .iter()
        .filter_map(|command| match command {
            MediaCommand::Open { address, port, .. } => Some((address.to_string(), *port)),
            _ => None,
        })
        .collect();
    let new = ("192.0.2.2".to_owned(), None);
    assert_eq!(opened[2..], [new.clone(), new], "of this node, and free");
    for (side, before) in (1..).zip(&before) {
        let after = world.config(side);
        assert_eq!(after.ssrc, before.ssrc);
        assert_eq!(
            after.sequence_start,
            before.sequence_start.wrapping_add(2_048)
        );
        assert_eq!(after.payloads, before.payloads);
        assert_eq!((after.route, after.sends), (before.route, true));
    }
    assert_eq!(world.config(1).remote, Some(latched));
    assert_eq!(world.config(2).remote, before[1].remote);
    // A peer that is where it was is sent to as before, and its packets may be latched to anew.
    let negotiation = world.config(1).negotiation;
    accept(&mut world, A, SDP_A);
    let told = world.config(1);
    assert_eq!(told.remote, Some(latched));
    assert!(told.negotiation > negotiation);
    // One that has moved is followed.
    world.take_over(3);
    accept(&mut world, A, &SDP_A.replace("40000", "40100"));
    let moved = "192.0.2.10:40100".parse().expect("an address");
    assert_eq!(world.config(1).remote, Some(moved));
}

#[test]
fn a_side_on_hold_stays_on_hold() {
    let mut world = World::connected();
    world.request(1, A, "INVITE", 11, &format!("{SDP_A}a=sendonly\r\n"));
    accept(&mut world, B, &format!("{SDP_B}a=recvonly\r\n"));
    world.request(1, A, "ACK", 11, "");
    world.take_over(2);
    assert!(body_of(&world.last(A, "INVITE")).contains("a=recvonly"));
    assert!(body_of(&world.last(B, "INVITE")).contains("a=sendonly"));
    accept(&mut world, A, &format!("{SDP_A}a=sendonly\r\n"));
    accept(&mut world, B, &format!("{SDP_B}a=recvonly\r\n"));
    assert_eq!(world.state(&world.call_id()), "held");
    world.request(1, A, "INVITE", 12, SDP_A);
    accept(&mut world, B, SDP_B);
    world.request(1, A, "ACK", 12, "");
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn a_caller_that_holds_an_echo_is_told_too() {
    let mut world = World::new();
    world.call("9196", SDP_A);
    world.ack("");
    world.request(1, A, "INVITE", 11, &format!("{SDP_A}a=sendonly\r\n"));
    world.request(1, A, "ACK", 11, "");
    world.take_over(2);
    let offer = body_of(&world.last(A, "INVITE"));
    assert!(offer.contains("a=recvonly"), "{offer}");
    accept(&mut world, A, &format!("{SDP_A}a=sendonly\r\n"));
    assert_eq!(world.config(1).route, contract::MediaRoute::Echo);
    assert_eq!(world.state(&world.call_id()), "held");
}

#[test]
fn a_party_that_is_busy_with_an_offer_is_offered_again_when_the_standard_says() {
    let mut world = World::connected();
    world.take_over(2);
    accept(&mut world, A, SDP_A);
    let first = world.last(B, "INVITE");
    world.answer_to(&first, 491, "b1", "");
    world.pass(Duration::from_millis(2_090));
    assert_eq!(cseq(&world.last(B, "INVITE")), cseq(&first));
    world.pass(Duration::from_millis(1_920));
    let second = world.last(B, "INVITE");
    assert!(cseq(&second) > cseq(&first));
    assert_eq!(
        body_of(&second),
        body_of(&first),
        "nothing is new, so no version"
    );
    // And again: the dialog has waited once, the call goes on.
    world.answer_to(&second, 491, "b1", "");
    world.pass(Duration::from_millis(2_090));
    assert_eq!(cseq(&world.last(B, "INVITE")), cseq(&second));
    world.pass(Duration::from_millis(1_920));
    // RFC 3261 §14.2: another INVITE is open there.
    let third = world.last(B, "INVITE");
    world.answer_to(&third, 500, "b1", "");
    world.pass(Duration::from_secs(4));
    assert!(cseq(&world.last(B, "INVITE")) > cseq(&third));
    // Meanwhile the other party waits with offers of its own.
    world.request(1, A, "INVITE", 11, SDP_A);
    assert_eq!(world.count(A, "491"), 1);
    accept(&mut world, B, SDP_B);
    world.request(1, A, "INVITE", 12, SDP_A);
    assert_eq!(world.state(&world.call_id()), "talking");
    assert_eq!(world.count(A, "491"), 1);
}

#[test]
fn a_party_that_is_to_be_offered_again_is_so_after_another_start() {
    for is_panic in [false, true] {
        let mut world = World::connected();
        world.take_over(2);
        for _ in 0..2 {
            let offer = world.last(B, "INVITE");
            world.answer_to(&offer, 491, "b1", "");
            world.pass(Duration::from_millis(4_010));
        }
        let offer = world.last(B, "INVITE");
        world.answer_to(&offer, 500, "b1", "");
        if is_panic {
            world.panic(&world.call_id());
        } else {
            world.restart();
        }
        assert_eq!(cseq(&world.last(B, "INVITE")), cseq(&offer));
        world.pass(Duration::from_millis(4_010));
        assert!(cseq(&world.last(B, "INVITE")) > cseq(&offer));
    }
}

#[test]
fn a_session_timer_goes_on_from_here() {
    let mut world = World::new();
    let fields = "Supported: timer\r\nSession-Expires: 120\r\n";
    let text = World::invite_text("1001", SDP_A, fields);
    let inbound = world.inbound(A, text, Some("1000@example.org"));
    world.tell(world.call_id(), crate::call::Message::Invite(inbound));
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    world.pass(Duration::from_secs(60));
    world.take_over(2);
    let offer = world.last(A, "INVITE").message;
    let expires = offer.header(HeaderName::SessionExpires);
    assert_eq!(expires, Some("120;refresher=uas"), "who did so far");
    accept(&mut world, B, SDP_B);
    let offer = world.last(A, "INVITE");
    let mut writer = sip::respond(&offer.message, 200, Some("a1"));
    writer
        .header(HeaderName::Contact, format_args!("<sip:1000@{A}>"))
        .header(HeaderName::SessionExpires, "120;refresher=uas")
        .body("application/sdp", SDP_A.as_bytes());
    let response = sip::Message::read(writer.finish().expect("a response")).expect("readable");
    let flow = offer.flow;
    world.tell(
        world.dialog(1),
        dialog::Message::Response { response, flow },
    );
    world.pass(Duration::from_secs(80));
    assert_eq!(world.count(A, "BYE"), 0, "our offer has refreshed it");
    world.pass(Duration::from_secs(20));
    assert_eq!(world.count(A, "BYE"), 1);
}

#[test]
fn a_party_that_stays_busy_ends_the_call() {
    let mut world = World::connected();
    world.take_over(2);
    accept(&mut world, A, SDP_A);
    for _ in 0..40 {
        if world.count(A, "BYE") == 0 {
            let offer = world.last(B, "INVITE");
            world.answer_to(&offer, 491, "b1", "");
            world.pass(Duration::from_secs(5));
        }
    }
    assert_eq!((world.count(A, "BYE"), world.count(B, "BYE")), (1, 1));
}

#[test]
fn a_party_that_knows_nothing_of_the_call_ends_it_and_the_other_is_told() {
    for (status, cause) in [
        (481, "NORMAL_TEMPORARY_FAILURE"),
        (408, "RECOVERY_ON_TIMER_EXPIRE"),
        (488, "INCOMPATIBLE_DESTINATION"),
        (603, "CALL_REJECTED"),
    ] {
        let mut world = World::connected();
        world.take_over(2);
        accept(&mut world, A, SDP_A);
        let offer = world.last(B, "INVITE");
        world.answer_to(&offer, status, "b1", "");
        let bye = world.last(A, "BYE");
        let reason = bye.message.header(HeaderName::Reason).expect("Reason");
        assert!(reason.contains(cause), "{status}: {reason}");
        let via = bye.message.header(HeaderName::Via).expect("Via");
        assert!(via.contains("192.0.2.2"), "{via}");
        world.answer(A, "BYE", 200, "");
        world.answer(B, "BYE", 200, "");
        let record = world.record();
        assert_eq!(
            (record.cause.as_str(), record.ended_by.as_str()),
            (cause, "callee")
        );
    }
}

/// The last offer to a party has got no response.
fn is_silent(world: &mut World, peer: &str, side: u8) {
    let offer = world.last(peer, "INVITE");
    let failed = dialog::Message::RequestFailed {
        branch: branch(&offer),
        why: dialog::RequestFailure::TimedOut,
    };
    world.tell(world.dialog(side), failed);
}

#[test]
fn parties_that_only_the_former_owner_can_reach_are_not_hung_up_on() {
    let mut world = World::connected();
    world.take_over(2);
    for tries in 1..=3 {
        for (peer, side) in [(A, 1), (B, 2)] {
            is_silent(&mut world, peer, side);
            // Nor is their silence the end: they are heard there.
            world.give(world.leg(side), silence());
        }
        assert_eq!((world.count(A, "BYE"), world.count(B, "BYE")), (0, 0));
        world.pass(Duration::from_secs(5));
        assert_eq!(world.count(A, "INVITE"), 1 + tries, "told again");
    }
    // The network is whole again.
    accept(&mut world, A, SDP_A);
    accept(&mut world, B, SDP_B);
    assert_eq!(world.state(&world.call_id()), "talking");
    world.request(1, A, "BYE", 12, "");
    world.answer(B, "BYE", 200, "");
    assert_eq!(world.record().ended_by, "caller");
}

#[test]
fn parties_that_nobody_reaches_do_not_keep_a_call_for_ever() {
    let mut world = World::connected();
    world.take_over(2);
    for _ in 0..40 {
        if world.count(A, "BYE") == 0 {
            is_silent(&mut world, A, 1);
            world.pass(Duration::from_secs(5));
        }
    }
    assert_eq!((world.count(A, "BYE"), world.count(B, "BYE")), (1, 1));
}

#[test]
fn a_party_that_does_not_answer_is_hung_up_on() {
    let mut world = World::connected();
    world.take_over(2);
    accept(&mut world, B, SDP_B);
    is_silent(&mut world, A, 1);
    assert_eq!((world.count(A, "BYE"), world.count(B, "BYE")), (1, 1));
    world.answer(B, "BYE", 200, "");
    world.answer(A, "BYE", 200, "");
    let record = world.record();
    assert_eq!(record.cause, "RECOVERY_ON_TIMER_EXPIRE");
    assert_eq!(record.ended_by, "caller");
}

#[test]
fn a_call_whose_descriptions_pass_is_told_the_new_contact_with_the_same_descriptions() {
    let mut world = World::new();
    world.call("71001", SDP_A);
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    let former = [
        body_of(&world.last(A, "200")),
        body_of(&world.last(B, "INVITE")),
    ];
    world.take_over(2);
    for (peer, former) in [A, B].into_iter().zip(&former) {
        let offer = world.last(peer, "INVITE");
        is_from(&world, &offer, 2);
        assert_eq!(body_of(&offer), *former, "{peer}");
    }
    accept(&mut world, A, SDP_A);
    accept(&mut world, B, SDP_B);
    world.request(1, A, "BYE", 12, "");
    world.answer(B, "BYE", 200, "");
    assert_eq!(world.record().cause, "NORMAL_CLEARING");
}

#[test]
fn an_open_offer_of_a_party_gets_491_and_the_other_an_ack_of_what_it_may_have_answered() {
    let mut world = World::connected();
    world.request(1, A, "INVITE", 11, &format!("{SDP_A}a=sendonly\r\n"));
    let open = world.last(B, "INVITE");
    world.take_over(2);
    assert_eq!(world.count(A, "491"), 1);
    let ack = world.last(B, "ACK");
    assert_eq!(cseq(&ack), cseq(&open), "its 2xx went to the other node");
    let offers = [world.last(A, "INVITE"), world.last(B, "INVITE")];
    assert!(cseq(&offers[1]) > cseq(&open));
    for offer in &offers {
        assert!(body_of(offer).contains("a=sendrecv"), "what was agreed on");
        assert!(session(&body_of(offer)).1 > 1);
    }
    accept(&mut world, A, SDP_A);
    accept(&mut world, B, SDP_B);
    // A tries again, as RFC 3261 §14.1 says.
    world.request(1, A, "INVITE", 12, &format!("{SDP_A}a=sendonly\r\n"));
    accept(&mut world, B, &format!("{SDP_B}a=recvonly\r\n"));
    world.request(1, A, "ACK", 12, "");
    assert_eq!(world.state(&world.call_id()), "held");
}

#[test]
fn a_2xx_to_an_offer_whose_ack_is_missing_goes_out_again_with_our_contact() {
    let mut world = World::connected();
    world.request(1, A, "INVITE", 11, SDP_A);
    accept(&mut world, B, SDP_B);
    let before = world.count(A, "200");
    world.take_over(2);
    assert_eq!(world.count(A, "200"), before + 1);
    is_from(&world, &world.last(A, "200"), 2);
    assert_eq!(cseq(&world.last(A, "200")), 11);
    accept(&mut world, A, SDP_A);
    accept(&mut world, B, SDP_B);
    world.pass(Duration::from_secs(40));
    assert_eq!(
        world.count(A, "BYE"),
        0,
        "nobody waits for that ACK any more"
    );
    assert_eq!(world.count(A, "200"), before + 1);
}

#[test]
fn an_offer_that_waits_after_a_glare_is_made_from_here() {
    let mut world = World::connected();
    world.request(1, A, "INVITE", 11, &format!("{SDP_A}a=sendonly\r\n"));
    let open = world.last(B, "INVITE");
    world.answer_to(&open, 491, "b1", "");
    assert_eq!(
        world.count(A, "491"),
        1,
        "an offer of a party is not tried again by us"
    );
    world.take_over(2);
    assert_eq!(world.count(A, "491"), 1);
    assert_eq!(world.count(B, "INVITE"), 3);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.count(B, "INVITE"), 3);
}

#[test]
fn a_bye_under_way_goes_out_from_here_with_a_new_number() {
    let mut world = World::connected();
    world.request(1, A, "BYE", 11, "");
    let first = world.last(B, "BYE");
    world.take_over(2);
    let second = world.last(B, "BYE");
    assert!(cseq(&second) > cseq(&first));
    assert!(branch(&second) != branch(&first));
    let via = second.message.header(HeaderName::Via).expect("Via");
    assert!(via.contains("192.0.2.2"), "{via}");
    assert_eq!(
        world.count(A, "INVITE") + world.count(B, "INVITE"),
        1,
        "nobody is told"
    );
    world.answer(B, "BYE", 200, "");
    assert_eq!(world.record().ended_by, "caller");
}

#[test]
fn a_call_that_is_over_is_not_there_to_be_taken_over() {
    let mut world = World::connected();
    world.request(1, A, "BYE", 11, "");
    world.answer(B, "BYE", 200, "");
    let sent = world.sent.len();
    world.take_over(2);
    assert_eq!(world.sent.len(), sent);
    assert_eq!(world.records().len(), 1);
}

#[test]
fn a_take_over_twice_a_panic_and_a_new_start_leave_one_call() {
    for panicked in 0..5 {
        let mut world = World::connected();
        world.take_over(2);
        let first = session(&body_of(&world.last(B, "INVITE")));
        let id = match panicked {
            0 => world.call_id(),
            1 => world.dialog(1),
            2 => world.dialog(2),
            3 => world.leg(1),
            _ => world.leg(2),
        };
        world.panic(&id);
        assert_eq!(world.count(B, "INVITE"), 2, "{id}: told once");
        accept(&mut world, A, SDP_A);
        world.take_over(3);
        is_from(&world, &world.last(A, "INVITE"), 3);
        let second = session(&body_of(&world.last(B, "INVITE")));
        assert_eq!(first.0, second.0, "{id}: the session is the first node's");
        assert!(second.1 > first.1);
        world.panic(&id);
        let offers = [world.last(A, "INVITE"), world.last(B, "INVITE")];
        world.restart();
        for (peer, offer) in [A, B].into_iter().zip(&offers) {
            let again = world.last(peer, "INVITE").message;
            assert_eq!(
                again.bytes(),
                offer.message.bytes(),
                "{id}: a retransmission"
            );
        }
        accept(&mut world, B, SDP_B);
        accept(&mut world, A, SDP_A);
        assert_eq!(world.state(&world.call_id()), "talking");
        world.request(1, A, "BYE", 12, "");
        world.answer(B, "BYE", 200, "");
        assert_eq!(world.record().cause, "NORMAL_CLEARING", "{id}");
    }
}

/// A floating address came here with the call: nobody is told anything, and either end may go on.
#[test]
fn nobody_is_told_when_their_address_came_along() {
    let mut world = World::connected();
    let former = [world.config(1).ssrc, world.config(2).ssrc];
    let offers = [world.count(A, "INVITE"), world.count(B, "INVITE")];
    for listener in &mut world.site.listeners {
        listener.floating = Some(crate::site::FloatingListener {
            base: contract::ListenerId(0),
            is_here: true,
        });
    }
    world.come_along(2);
    world.pass(Duration::from_secs(5));
    let now = [world.count(A, "INVITE"), world.count(B, "INVITE")];
    assert_eq!(now, offers, "{:?}", world.lines());
    assert_eq!([world.config(1).ssrc, world.config(2).ssrc], former);
    world.request(1, A, "BYE", 12, "");
    world.answer(B, "BYE", 200, "");
    assert_eq!(world.record().cause, "NORMAL_CLEARING");
}

/// Adds listeners at a floating address of this node, which is here, and at one of another node.
fn with_addresses(world: &mut World) -> [ListenerId; 2] {
    let listeners = &mut world.site.listeners;
    let first = listeners.len();
    for (host, is_here) in [(13, false), (11, true)] {
        let mut listener = listeners[usize::from(DIGEST.0)].clone();
        let address = IpAddr::from([192, 0, 2, host]);
        listener.local.set_ip(address);
        listener.advertise.set_ip(address);
        listener.rtp_local = address;
        listener.rtp_advertise = address;
        listener.floating = Some(FloatingListener {
            base: DIGEST,
            is_here,
        });
        listeners.push(listener);
    }
    let floating = |host: u8, home: &str| FloatingAddress {
        address: IpAddr::from([192, 0, 2, host]),
        home: home.to_owned(),
    };
    world.site.cluster = Some(Cluster {
        instance: NodeInst::default(),
        address: "192.0.2.1:7100".parse().expect("an address"),
        seeds: Vec::new(),
        zone: String::new(),
        replicas: 3,
        commit: CommitMode::Available,
        schema: contract::SchemaVersion::NEWEST,
        floating: vec![floating(13, "another"), floating(11, &world.site.name)],
    });
    [first, first + 1].map(|at| ListenerId(u16::try_from(at).expect("a few")))
}

#[test]
fn a_callee_at_an_address_that_is_elsewhere_is_called_from_that_of_this_node() {
    for by in [1, 2] {
        let mut world = World::new();
        let [elsewhere, here] = with_addresses(&mut world);
        let mut callee = target(B, 1_000);
        callee.flow = datagram(elsewhere, B);
        world.targets = vec![callee];
        world.connect();
        let invite = world.last(B, "INVITE");
        assert_eq!(invite.flow, datagram(here, B));
        let contact = invite.message.header(HeaderName::Contact);
        assert!(contact.is_some_and(|contact| contact.contains("@192.0.2.11:5060")));
        assert_eq!(line(&body_of(&invite), "c="), "IN IP4 192.0.2.11");
        // It may answer to either address of the node.
        let text = world.request_text(2, "BYE", 1, "", "");
        let flow = datagram(if by == 1 { here } else { DIGEST }, B);
        let inbound = world.inbound_on(flow, text, None);
        world.tell(world.dialog(2), dialog::Message::Request(inbound));
        assert_eq!(world.count(B, "481"), 0);
        world.answer(A, "BYE", 200, "");
        assert_eq!(world.record().ended_by, "callee");
    }
}
