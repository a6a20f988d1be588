//! What a node that was cut off had of a call, and hands to whoever goes on with it (`crate::bequest`).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use contract::core::Rivals;
use contract::{ActorId, CallNews, Emitted, Roster};
use sip::HeaderName;

use super::fixture::*;
use super::taken_over::{accept, cseq, is_from};
use super::taken_over_rings::{field, from_tag, ringing};
use crate::{AnyCore, call};

pub(super) fn parts_of(world: &World) -> Vec<(ActorId, Bytes)> {
    let parts = world.stored.iter();
    parts
        .map(|(id, part)| (id.clone(), part.clone().into()))
        .collect()
}

fn bequest(parts: Vec<(ActorId, Bytes)>) -> call::Message {
    call::Message::Bequest {
        parts,
        unknown: Vec::new(),
    }
}

/// Two nodes that are cut apart: simulator, 3 nodes, seed 116.
#[test]
fn a_call_that_was_answered_where_it_could_not_be_heard_goes_on() {
    let mut world = ringing();
    let then = world.stored.clone();
    let early = parts_of(&world);
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
    let parts = parts_of(&world);
    world.be_cut_off(2, then);
    world.pass(Duration::from_secs(7));
    world.tell(world.call_id(), bequest(early));
    assert_eq!(world.state(&world.call_id()), "ringing");
    world.tell(world.call_id(), bequest(parts.clone()));
    for peer in [A, B] {
        is_from(&world, &world.last(peer, "INVITE"), 2);
    }
    accept(&mut world, A, SDP_A);
    accept(&mut world, B, SDP_B);
    world.pass(Duration::from_secs(20));
    assert_eq!(world.state(&world.call_id()), "talking");
    assert_eq!(world.count(B, "CANCEL") + world.count(B, "BYE"), 0);
    // Told once more, it stays as it is.
    let offers = world.count(B, "INVITE");
    world.tell(world.call_id(), bequest(parts));
    assert_eq!(world.count(B, "INVITE"), offers);
}

/// Its ACK comes to another node: simulator, 3 nodes, seed 2.
#[test]
fn a_call_whose_caller_has_its_200_goes_on_before_the_ack_is_there() {
    let mut world = ringing();
    let then = world.stored.clone();
    world.answer(B, "INVITE", 200, SDP_B);
    assert_eq!(world.state(&world.call_id()), "answering");
    let parts = parts_of(&world);
    world.be_cut_off(2, then);
    world.tell(world.call_id(), bequest(parts));
    world.ack("");
    world.pass(Duration::from_secs(20));
    assert_eq!(world.state(&world.call_id()), "talking");
    assert_eq!(world.count(B, "CANCEL") + world.count(B, "BYE"), 0);
}

/// The callee's 200 came to both nodes, and each answered the caller: it talks with the one whose 200 it
/// has acknowledged.
#[test]
fn a_call_that_was_answered_by_both_nodes_goes_on_as_it_was_acknowledged() {
    let mut world = ringing();
    let then = world.stored.clone();
    world.answer(B, "INVITE", 200, SDP_B);
    let early = parts_of(&world);
    world.ack("");
    let parts = parts_of(&world);
    world.be_cut_off(2, then);
    world.answer(B, "INVITE", 200, SDP_B);
    assert_eq!(world.count(A, "200"), 2);
    // Nobody knows whose 200 came first.
    world.tell(world.call_id(), bequest(early));
    assert_eq!(world.state(&world.call_id()), "answering");
    let word = handed_over(&world, &parts, &parts_of(&world));
    world.tell(world.call_id(), word.clone());
    assert_eq!(world.state(&world.call_id()), "talking");
    for peer in [A, B] {
        is_from(&world, &world.last(peer, "INVITE"), 2);
    }
    accept(&mut world, A, SDP_A);
    accept(&mut world, B, SDP_B);
    world.pass(Duration::from_secs(20));
    assert_eq!(world.state(&world.call_id()), "talking");
    for peer in [A, B] {
        assert_eq!(world.count(peer, "CANCEL") + world.count(peer, "BYE"), 0);
    }
    // Told once more, it stays as it is.
    let offers = [A, B].map(|peer| world.count(peer, "INVITE"));
    world.tell(world.call_id(), word);
    assert_eq!(offers, [A, B].map(|peer| world.count(peer, "INVITE")));
}

#[test]
fn a_call_that_was_acknowledged_here_stays_as_it_is_here() {
    let mut world = ringing();
    let then = world.stored.clone();
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    let parts = parts_of(&world);
    world.be_cut_off(2, then);
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    let offers = [A, B].map(|peer| world.count(peer, "INVITE"));
    assert_eq!(offers, [0, 2], "who was called from there is told");
    world.tell(world.call_id(), bequest(parts));
    assert_eq!(world.state(&world.call_id()), "talking");
    assert_eq!(offers, [A, B].map(|peer| world.count(peer, "INVITE")));
}

#[test]
fn who_rang_where_it_could_not_be_heard_is_called_anew_after_a_while() {
    let mut world = ringing();
    let then = world.stored.clone();
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    let parts = parts_of(&world);
    world.be_cut_off(2, then);
    world.pass(Duration::from_secs(9));
    assert_eq!((world.count(B, "CANCEL"), world.count(B, "INVITE")), (1, 2));
    // What it had has been ended: nothing to go on with, and the caller does not know.
    world.tell(
        world.call_id(),
        handed_over(&world, &parts, &parts_of(&world)),
    );
    assert_eq!(world.count(A, "BYE"), 1);
    world.answer(B, "INVITE", 180, "");
    assert_eq!(world.count(B, "CANCEL"), 2);
    world.answer_to(&world.last(B, "INVITE"), 487, "b2", "");
    world.answer_to(&world.last(A, "BYE"), 200, "a", "");
    world.ack("");
    world.pass(Duration::from_secs(41));
    assert_eq!(world.record().cause, "NETWORK_OUT_OF_ORDER");
}

/// Each holder of the copy hands it over: simulator, 3 nodes, seed 234.
#[test]
fn a_caller_that_hears_bye_for_each_holder_of_a_copy_hears_no_number_twice() {
    let mut world = ringing();
    let then = world.stored.clone();
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    let parts = parts_of(&world);
    world.be_cut_off(2, then);
    world.pass(Duration::from_secs(9));
    let word = handed_over(&world, &parts, &parts_of(&world));
    world.tell(world.call_id(), word.clone());
    let first = world.last(A, "BYE");
    world.answer_to(&first, 200, "a", "");
    world.tell(world.call_id(), word);
    assert_eq!(world.count(A, "BYE"), 2);
    let second = world.last(A, "BYE");
    assert!(cseq(&second) > cseq(&first));
}

/// Only that node heard it ring and answer, and a CANCEL ends no call: simulator, 3 nodes, 10 minutes,
/// seed 13040.
#[test]
fn who_has_answered_where_it_could_not_be_heard_hears_bye() {
    let mut world = World::new();
    world.call("1001", SDP_A);
    let first = world.last(B, "INVITE");
    let then = world.stored.clone();
    world.answer(B, "INVITE", 180, "");
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    let parts = parts_of(&world);
    world.be_cut_off(2, then);
    world.pass(Duration::from_secs(9));
    assert_eq!((world.count(B, "CANCEL"), world.count(B, "BYE")), (1, 0));
    let word = handed_over(&world, &parts, &parts_of(&world));
    world.tell(world.call_id(), word);
    assert_eq!((world.count(A, "BYE"), world.count(B, "BYE")), (1, 1));
    let bye = world.last(B, "BYE");
    let of_call = |sent: &Sent| field(sent, HeaderName::CallId);
    assert_eq!(of_call(&bye), of_call(&first));
    let to = bye.message.to().expect("To");
    assert_eq!(to.tag(), Some("b1"));
    assert!(cseq(&bye) > cseq(&first));
    // Who knows of the dialog needs not be told again.
    let again = handed_over(&world, &parts, &parts_of(&world));
    let call::Message::Bequest { unknown, .. } = again else {
        panic!("not a bequest");
    };
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// What the runtime has `crate::bequest` make of both copies.
pub(super) fn handed_over(
    world: &World,
    former: &[(ActorId, Bytes)],
    newer: &[(ActorId, Bytes)],
) -> call::Message {
    let former = former.iter().cloned().collect();
    let newer: BTreeMap<_, _> = newer.iter().cloned().collect();
    let rivals = Rivals {
        former: &former,
        ran_here: true,
        newer: (!newer.is_empty()).then_some(&newer),
    };
    crate::bequest::of_call(&world.call_id(), &rivals).expect("something to tell")
}

/// Simulator, 3 nodes, seed 348.
#[test]
fn whom_only_the_loser_has_called_hears_that_it_is_over() {
    let mut world = ringing();
    let then = world.stored.clone();
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    let talking = world.stored.clone();
    world.be_cut_off(2, then);
    world.pass(Duration::from_secs(9));
    world.answer(B, "INVITE", 200, SDP_B);
    let again = world.last(B, "INVITE");
    let anew = parts_of(&world);
    // The other copy stands after all.
    world.be_cut_off(3, talking);
    let offers = [A, B].map(|peer| world.count(peer, "INVITE"));
    let byes = world.count(B, "BYE");
    let word = handed_over(&world, &anew, &parts_of(&world));
    world.tell(world.call_id(), word.clone());
    assert_eq!(world.count(B, "BYE"), byes + 1);
    let bye = world.last(B, "BYE");
    assert_eq!(
        field(&bye, HeaderName::CallId),
        field(&again, HeaderName::CallId)
    );
    assert_eq!(from_tag(&bye), from_tag(&again));
    assert!(cseq(&bye) > cseq(&again));
    world.answer_to(&bye, 200, "b1", "");
    assert_eq!(world.state(&world.call_id()), "talking");
    assert_eq!(offers, [A, B].map(|peer| world.count(peer, "INVITE")));
    // A former release has no word for it; told once more, nobody is called.
    let octets = AnyCore::encode(&word.into(), contract::SchemaVersion::OLDEST);
    assert!(octets.is_empty());
}

/// Simulator, 3 nodes, seed 237.
#[test]
fn a_call_that_has_ended_is_ended_where_it_was_heard_by_nobody_else() {
    let mut world = ringing();
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    let parts = parts_of(&world);
    // Its end, as the other node had it.
    world.request(1, A, "BYE", 11, "");
    world.answer_to(&world.last(B, "BYE"), 200, "b1", "");
    assert_eq!(world.record().cause, "NORMAL_CLEARING");
    let byes = [A, B].map(|peer| world.count(peer, "BYE"));
    let word = handed_over(&world, &parts, &[]);
    world.tell(world.call_id(), word);
    assert_eq!(
        [A, B].map(|peer| world.count(peer, "BYE")),
        byes.map(|count| count + 1)
    );
    for peer in [A, B] {
        world.answer_to(&world.last(peer, "BYE"), 481, "x", "");
    }
    assert_eq!(world.records().len(), 1, "it was told already");
    assert!(world.stored.is_empty());
    // The event log says nothing more of it.
    let is_news = |emitted: &&Emitted| matches!(emitted, Emitted::CallState { .. });
    let last = world.emitted.iter().rfind(is_news);
    let is_end = matches!(
        last,
        Some(Emitted::CallState {
            news: CallNews::Ended { .. },
            ..
        })
    );
    assert!(is_end, "{last:?}");
    // What is no copy of it begins nothing.
    world.tell(world.call_id(), bequest(Vec::new()));
    assert!(world.stored.is_empty());
}
