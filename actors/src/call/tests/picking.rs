//! A caller picks up a call that rings somebody else: two stages, as of `joining.rs`. 1000 at A picks up
//! (`left`) what rings 1002 at C (`joined`), whose caller is at A, too.

use std::time::Duration;

use contract::{MediaRoute, SchemaVersion};

use super::fixture::*;
use super::joining::{Calls, other_call, settle};
use super::taken_over::body_of;
use crate::call;
use crate::site::{Group, GroupOrder, Step};

/// **NUMBER picks up a user's call, *8 one of the caller's groups, *9 one of a group that is named.
fn picking_world() -> World {
    let mut world = World::new();
    world.health.schema = SchemaVersion::NEWEST;
    world.has_other = true;
    let group = |members: &[&str]| Group {
        members: members.iter().map(|&name| name.to_owned()).collect(),
        order: GroupOrder::All,
        ring_s: 10,
    };
    let domain = &mut world.site.domains[0];
    for (name, members) in [
        ("sales", &["1000", "1002", "1003"][..]),
        ("board", &["1004", "1005"][..]),
    ] {
        domain.groups.insert(name.to_owned(), group(members));
    }
    for (pattern, target) in [
        (r"^\*\*(1...)$", "user/$1"),
        (r"^\*8$", "groups"),
        (r"^\*9$", "group/board"),
        (r"^\*7$", "group/none"),
    ] {
        let mut route = domain.routes[0].clone();
        route.destination = regex::Regex::new(pattern).expect("a pattern");
        route.steps = vec![Step::PickUp {
            target: target.to_owned(),
        }];
        domain.routes.push(route);
    }
    for number in ["1002", "1003", "1004"] {
        world.registered.push(aor(&format!("{number}@example.org")));
    }
    world
}

/// A call rings 1002 at C; 1000 has dialled what picks it up.
fn ringing() -> Calls {
    let mut joined = other_call();
    joined.call("1002", SDP_A);
    joined.answer(C, "INVITE", 180, "");
    let mut left = picking_world();
    let key = joined.call_id().call().expect("a call");
    left.callers.insert(aor("1002@example.org"), vec![key]);
    Calls { left, joined }
}

fn picked(dialled: &str) -> Calls {
    let mut calls = ringing();
    calls.left.call(dialled, SDP_A);
    calls.carry();
    calls
}

/// Takes the call through to its end: who picks up, and the caller, talk.
fn finish(calls: &mut Calls) {
    let offer = calls.joined.last(A, "INVITE");
    assert_eq!(
        offer.by,
        calls.joined.dialog(3),
        "{:#?}",
        calls.joined.lines()
    );
    calls.joined.answer(A, "INVITE", 200, SDP_A);
    let (first, come) = (calls.joined.side(1), calls.joined.side(3));
    assert_eq!(calls.joined.config(1).route, MediaRoute::Relay(come));
    assert_eq!(calls.joined.config(3).route, MediaRoute::Relay(first));
    assert_eq!(calls.joined.state(&calls.joined.call_id()), "talking");
}

#[test]
fn who_picks_up_talks_to_the_caller_and_nobody_rings_any_more() {
    for dialled in ["**1002", "*8"] {
        let mut calls = picked(dialled);
        assert_eq!(calls.left.count(A, "200"), 1, "{:#?}", calls.left.lines());
        assert_eq!(
            calls.joined.count(A, "200"),
            0,
            "who picks up is there first"
        );
        calls.left.ack("");
        calls.carry();
        assert_eq!(
            calls.joined.count(A, "200"),
            1,
            "{:#?}",
            calls.joined.lines()
        );
        let cancel = calls.joined.last(C, "CANCEL").message;
        let reason = cancel.header(sip::HeaderName::Reason).unwrap_or_default();
        assert!(reason.contains("Call completed elsewhere"), "{reason}");
        calls.joined.ack("");
        finish(&mut calls);
        let invite = calls.joined.last(C, "INVITE");
        calls.joined.answer_to(&invite, 487, "c1", "");
        calls.joined.request(1, A, "BYE", 11, "");
        assert_eq!(calls.joined.count(A, "BYE"), 1);
        calls.joined.answer(A, "BYE", 200, "");
        calls.carry();
        assert_eq!(calls.joined.record().ended_by, "caller");
        let record = calls.left.record();
        assert_eq!(record.cause, "PICKED_OFF");
        assert!(record.answered.is_some());
    }
}

#[test]
fn what_cannot_be_picked_up_is_refused_and_rings_on() {
    for (dialled, status, cause) in [
        ("**1003", "480", "NO_PICKUP"),
        ("**1009", "480", "NO_PICKUP"),
        ("*9", "480", "NO_PICKUP"),
        ("*7", "404", "NO_ROUTE_DESTINATION"),
    ] {
        let calls = picked(dialled);
        assert_eq!(calls.left.count(A, status), 1, "{dialled}");
        assert_eq!(calls.left.record().cause, cause, "{dialled}");
        assert_eq!(calls.joined.state(&calls.joined.call_id()), "ringing");
    }
    // It was answered, or its caller has given up.
    let mut calls = ringing();
    calls.joined.answer(C, "INVITE", 200, SDP_C);
    calls.left.call("**1002", SDP_A);
    calls.carry();
    assert_eq!(calls.left.record().cause, "NO_PICKUP");
    let mut calls = ringing();
    calls.joined.cancel(A);
    calls.left.call("**1002", SDP_A);
    calls.carry();
    assert_eq!(calls.left.record().cause, "NO_PICKUP");
}

/// Registrations that say nothing hold nobody up.
#[test]
fn a_pick_up_waits_half_a_second_for_registrations() {
    let mut calls = ringing();
    calls.left.is_deaf = true;
    calls.left.call("**1002", SDP_A);
    assert!(calls.left.records().is_empty());
    calls.left.pass(Duration::from_millis(600));
    assert_eq!(calls.left.record().cause, "NO_PICKUP");
}

#[test]
fn the_call_that_rings_longest_is_picked_up_and_the_next_if_it_does_not_ring_any_more() {
    let mut calls = ringing();
    let key = calls.joined.call_id().call().expect("a call");
    let gone = contract::CallKey::from_bits(7);
    let user = aor("1002@example.org");
    calls.left.callers.insert(user, vec![gone, key]);
    calls.left.call("**1002", SDP_A);
    let (from, to, message) = calls.left.abroad.remove(0);
    assert_eq!(to.call(), Some(gone));
    let why = contract::Undelivered::Absent;
    let back = contract::Event::Undelivered { to, message, why };
    calls.left.give(from.clone(), back.clone());
    // It was asked twice: the second word of it is none of the next call.
    calls.left.give(from, back);
    calls.carry();
    assert_eq!(calls.left.count(A, "200"), 1);
}

/// Who was asked to let the caller in.
fn asked(calls: &mut Calls) -> contract::CallKey {
    let (_, to, _) = calls.left.abroad.pop().expect("a question");
    assert!(calls.left.abroad.is_empty());
    to.call().expect("a call")
}

/// A call says that it cannot say now.
fn refuse(calls: &mut Calls, call: contract::CallKey) {
    let word = call::Word::Asked(Err(491));
    let message = call::Message::Join { side: 1, word }.into();
    let (from, id) = (contract::ActorId::Call(call), calls.left.call_id());
    calls
        .left
        .give(id, contract::Event::Message { from, message });
}

#[test]
fn a_call_that_cannot_say_now_is_asked_again_after_the_others() {
    let mut calls = ringing();
    let key = calls.joined.call_id().call().expect("a call");
    let anew = contract::CallKey::from_bits(7 << 64);
    let user = aor("1002@example.org");
    calls.left.callers.insert(user.clone(), vec![anew, key]);
    calls.left.call("**1002", SDP_A);
    assert_eq!(asked(&mut calls), anew);
    refuse(&mut calls, anew);
    calls.carry();
    assert_eq!(calls.left.count(A, "200"), 1, "the other one lets it in");
    // Nothing else rings.
    let mut calls = ringing();
    calls.left.callers.insert(user, vec![key]);
    calls.left.call("**1002", SDP_A);
    for _ in 0..4 {
        assert_eq!(asked(&mut calls), key);
        refuse(&mut calls, key);
        assert!(calls.left.abroad.is_empty());
        calls.left.pass(Duration::from_millis(550));
    }
    calls.carry();
    assert_eq!(calls.left.count(A, "200"), 1, "{:#?}", calls.left.lines());
}

#[test]
fn a_call_that_can_never_say_is_not_waited_for_for_ever() {
    let mut calls = ringing();
    let key = calls.joined.call_id().call().expect("a call");
    calls.left.call("**1002", SDP_A);
    for _ in 0..16 {
        assert_eq!(asked(&mut calls), key);
        refuse(&mut calls, key);
        calls.left.pass(Duration::from_millis(550));
    }
    assert_eq!(calls.left.record().cause, "NO_PICKUP");
}

#[test]
fn of_the_calls_of_several_users_the_oldest_is_picked_up_first() {
    let mut calls = ringing();
    let call = |number: u128| contract::CallKey::from_bits(number << 64);
    let known = [("1002", vec![call(7)]), ("1003", vec![call(8), call(9)])];
    for (name, list) in known {
        let user = aor(&format!("{name}@example.org"));
        calls.left.callers.insert(user, list);
    }
    calls.left.call("*8", SDP_A);
    assert_eq!(asked(&mut calls), call(8), "the first of two");
}

#[test]
fn a_registration_without_time_is_asked_again_who_calls() {
    let mut calls = ringing();
    calls.left.busy = 3;
    calls.left.call("**1002", SDP_A);
    assert!(calls.left.abroad.is_empty() && calls.left.records().is_empty());
    calls.left.pass(Duration::from_millis(350));
    calls.carry();
    assert_eq!(calls.left.count(A, "200"), 1);
    // One that has none at all is not waited for.
    let mut calls = ringing();
    calls.left.busy = 99;
    calls.left.call("**1002", SDP_A);
    calls.left.pass(Duration::from_millis(600));
    assert_eq!(calls.left.record().cause, "NO_PICKUP");
}

/// What limits the search does not end who was let in.
#[test]
fn who_was_let_in_after_an_answer_may_take_its_time() {
    let mut calls = ringing();
    let domain = &mut calls.left.site.domains[0];
    let mut route = domain.routes[0].clone();
    route.destination = regex::Regex::new(r"^\*6$").expect("a pattern");
    let target = "user/1002".to_owned();
    route.steps = vec![Step::Answer, Step::PickUp { target }];
    domain.routes.push(route);
    calls.left.site.limits.ring_timeout = Duration::from_secs(5);
    calls.left.call("*6", SDP_A);
    calls.left.ack("");
    // The question, and its answer.
    assert!(calls.carry_one() && calls.carry_one());
    calls.left.pass(Duration::from_secs(8));
    calls.carry();
    let state = calls.left.state(&calls.left.call_id());
    assert_eq!(state, "transferred", "{:#?}", calls.left.lines());
    calls.joined.ack("");
    finish(&mut calls);
}

/// Who was let in comes while the call, at another node now, looks for the phones that rang.
#[test]
fn who_comes_while_phones_are_looked_for_has_the_call() {
    let mut calls = picked("**1002");
    calls.joined.registered.clear();
    calls.joined.take_over(2);
    assert_eq!(calls.joined.state(&calls.joined.call_id()), "locating");
    calls.left.ack("");
    calls.carry();
    assert_eq!(calls.joined.count(A, "200"), 1);
    calls.joined.ack("");
    finish(&mut calls);
}

/// The caller has heard early media of the former node: its 200 tells it where the call is now.
#[test]
fn a_call_with_early_media_is_picked_up_after_a_take_over() {
    let mut calls = ringing();
    calls.joined.answer(C, "INVITE", 183, SDP_C);
    calls.joined.take_over(2);
    let again = calls.joined.last(C, "INVITE");
    assert_eq!(again.by, calls.joined.dialog(3));
    calls.joined.answer_to(&again, 180, "c2", "");
    calls.left.call("**1002", SDP_A);
    calls.carry();
    calls.left.ack("");
    calls.carry();
    assert_eq!(
        calls.joined.count(A, "200"),
        1,
        "{:#?}",
        calls.joined.lines()
    );
    calls.joined.ack("");
    let offer = calls.joined.last(A, "INVITE");
    assert_eq!(offer.by, calls.joined.dialog(4));
    calls.joined.answer(A, "INVITE", 200, SDP_A);
    let come = calls.joined.side(4);
    assert_eq!(calls.joined.config(1).route, MediaRoute::Relay(come));
}

/// `threats.md` 24: on a closed network an account is what From says.
#[test]
fn who_has_not_proven_who_it_is_picks_up_nothing() {
    let mut calls = ringing();
    calls.left.call("**1002", SDP_A);
    let (from, to, message) = calls.left.abroad.remove(0);
    let crate::Message::Call(call::Message::Join { side, word }) = message else {
        panic!("{message:?}");
    };
    let call::Word::PickUp(mut ask) = word else {
        panic!("{word:?}");
    };
    ask.is_proven = false;
    let word = call::Word::PickUp(ask);
    let message = call::Message::Join { side, word }.into();
    calls
        .joined
        .give(to, contract::Event::Message { from, message });
    calls.carry();
    assert_eq!(calls.left.record().cause, "NO_PICKUP");
    assert_eq!(calls.joined.state(&calls.joined.call_id()), "ringing");
}

/// Somebody answers in the moment between.
#[test]
fn who_comes_too_late_is_hung_up() {
    let mut calls = picked("**1002");
    calls.joined.answer(C, "INVITE", 200, SDP_C);
    calls.joined.ack("");
    calls.left.ack("");
    calls.carry();
    assert_eq!(calls.left.count(A, "BYE"), 1);
    calls.left.answer(A, "BYE", 200, "");
    calls.left.record();
    assert_eq!(calls.joined.state(&calls.joined.call_id()), "talking");
    let c = calls.joined.side(2);
    assert_eq!(calls.joined.config(1).route, MediaRoute::Relay(c));
}

#[test]
fn a_call_rings_on_if_who_wanted_it_does_not_come() {
    let mut calls = picked("**1002");
    // It hangs up with its ACK.
    calls.left.request(1, A, "BYE", 11, "");
    calls.carry();
    assert_eq!(calls.joined.state(&calls.joined.call_id()), "ringing");
    calls.joined.answer(C, "INVITE", 200, SDP_C);
    calls.joined.ack("");
    assert_eq!(calls.joined.state(&calls.joined.call_id()), "talking");
    assert_eq!(calls.joined.count(A, "BYE"), 0);
}

/// Who is called for somebody else, or is sent here, picks up nothing in another's name.
#[test]
fn a_pick_up_is_only_dialled_by_oneself() {
    let mut world = picking_world();
    let user = aor("1001@example.org");
    world.settings.entry(user).or_default().always = Some("**1002".to_owned());
    world.call("1001", SDP_A);
    assert_eq!(
        world.count(B, "INVITE"),
        1,
        "no route that may be diverted to"
    );
    let mut world = picking_world();
    world.connect();
    let fields = "Refer-To: <sip:**1002@example.org>\r\n";
    let text = world.request_text(2, "REFER", 1, "", fields);
    let inbound = world.inbound(B, text, None);
    let id = world.dialog(2);
    world.tell(id, crate::dialog::Message::Request(inbound));
    assert_eq!(world.count(B, "403"), 1);
    // One without an account.
    let mut world = picking_world();
    let text = World::invite_text("**1002", SDP_A, "");
    let inbound = world.inbound(A, text, None);
    let id = world.call_id();
    world.tell(id, call::Message::Invite(inbound));
    assert_eq!(world.count(A, "403"), 1);
}

/// The call is a transferred one: who waits hears that it is done.
#[test]
fn a_call_that_rings_for_a_transfer_is_picked_up() {
    let mut calls = ringing();
    calls.joined = other_call();
    calls.joined.registered.push(aor("1001@example.org"));
    calls
        .joined
        .homes
        .insert(aor("1001@example.org"), vec![target(B, 1000)]);
    calls.joined.connect();
    let fields = "Refer-To: <sip:1002@example.org>\r\n";
    let text = calls.joined.request_text(2, "REFER", 1, "", fields);
    let inbound = calls.joined.inbound(B, text, None);
    let id = calls.joined.dialog(2);
    calls
        .joined
        .tell(id, crate::dialog::Message::Request(inbound));
    calls.joined.answer(C, "INVITE", 180, "");
    calls.left.call("**1002", SDP_A);
    calls.carry();
    calls.left.ack("");
    calls.carry();
    let notify = calls.joined.last(B, "NOTIFY");
    assert!(body_of(&notify).contains("200 OK"), "{}", body_of(&notify));
    let offer = calls.joined.last(A, "INVITE");
    assert_eq!(
        offer.by,
        calls.joined.dialog(4),
        "{:#?}",
        calls.joined.lines()
    );
    calls.joined.answer(A, "INVITE", 200, SDP_A);
    let come = calls.joined.side(4);
    assert_eq!(calls.joined.config(1).route, MediaRoute::Relay(come));
    assert_eq!(calls.joined.count(B, "BYE"), 1);
}

/// Either node dies between any two messages: who picks up has the call in the end, or hears that it has not;
/// nobody is left with nothing.
#[test]
fn a_kill_while_a_call_is_picked_up_leaves_nobody_in_between() {
    let mut had = 0;
    for heirs in [false, true] {
        for killed in 0..10 {
            let mut calls = ringing();
            calls.left.has_heirs = heirs;
            calls.joined.has_heirs = heirs;
            calls.left.call("**1002", SDP_A);
            for carried in 0..40 {
                if carried == killed {
                    kill(&mut calls.left, heirs);
                    kill(&mut calls.joined, heirs);
                }
                if !calls.carry_one() {
                    for world in [&mut calls.left, &mut calls.joined] {
                        if world.count(A, "200") > 0 {
                            world.ack("");
                        }
                    }
                    calls.pass(Duration::from_millis(700));
                    settle(&mut calls.joined, A, SDP_A);
                }
            }
            let state = calls.joined.state(&calls.joined.call_id());
            let places = (3..6).map(|side| MediaRoute::Relay(calls.joined.side(side)));
            let is_let_in = calls.left.state(&calls.left.call_id()) == "transferred";
            let talks = state == "talking" && is_let_in;
            if talks {
                let route = calls.joined.config(1).route;
                assert!(
                    places.clone().any(|place| place == route),
                    "{heirs} {killed}"
                );
            }
            let rings = ["ringing", "locating"].contains(&state.as_str());
            assert!(talks || rings, "{heirs} {killed}: {state}");
            had += u8::from(talks);
            if rings {
                let lines = calls.left.lines();
                let heard = calls.left.count(A, "BYE") + calls.left.count(A, "480");
                assert!(heard > 0, "{heirs} {killed}: {lines:#?}");
            }
        }
    }
    assert!(had >= 14, "{had} of 20");
}

fn kill(world: &mut World, has_heirs: bool) {
    if has_heirs {
        world.take_over(world.site.node.0 + 1);
    } else {
        world.restart();
    }
}
