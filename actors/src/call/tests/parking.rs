//! Calls are parked, and taken from where they are: two stages, as of `joining.rs`. Who dials 5901 at A first
//! (`joined`) is parked; who dials it next (`left`), at A too, takes that call. The place itself is a real core,
//! on either stage.

use std::time::Duration;

use contract::{ActorId, CallKey, Event, MediaRoute, SchemaVersion, Undelivered};

use super::fixture::*;
use super::joining::{Calls, other_call, settle};
use super::taken_over::body_of;
use crate::parking::{self, Word};
use crate::site::Step;
use crate::{Message, call, dialog};

fn place() -> ActorId {
    ActorId::Parking("5901@example.org".into())
}

/// 590x are places; 592x too, with an echo for whom nobody takes.
fn with_places(mut world: World) -> World {
    world.health.schema = SchemaVersion::NEWEST;
    world.has_other = true;
    let domain = &mut world.site.domains[0];
    for (pattern, after) in [(r"^(590\d)$", vec![]), (r"^592(\d)$", vec![Step::Echo])] {
        let mut route = domain.routes[0].clone();
        route.destination = regex::Regex::new(pattern).expect("a pattern");
        let step = Step::Park {
            place: "$1".to_owned(),
        };
        route.steps = [vec![step], after].concat();
        domain.routes.push(route);
    }
    world
}

/// Two calls; the place is beside the one that is parked, or beside the other.
fn calls(is_beside_other: bool) -> Calls {
    let mut left = with_places(World::new());
    let mut joined = with_places(other_call());
    let away = if is_beside_other {
        &mut joined
    } else {
        &mut left
    };
    away.has_places = false;
    Calls { left, joined }
}

fn parked(is_beside_other: bool) -> Calls {
    let mut calls = calls(is_beside_other);
    calls.joined.call("5901", SDP_A);
    calls.carry();
    assert_eq!(calls.joined.count(A, "200"), 1);
    calls.joined.ack("");
    assert_eq!(calls.joined.state(&calls.joined.call_id()), "parked");
    let route = calls.joined.config(1).route;
    assert!(matches!(route, MediaRoute::Parked { .. }), "{route:?}");
    calls
}

fn refer(world: &mut World, side: u8, peer: &str, cseq: u32, number: &str) {
    let fields = format!("Refer-To: <sip:{number}@example.org>\r\n");
    let text = world.request_text(side, "REFER", cseq, "", &fields);
    let inbound = world.inbound(peer, text, None);
    let id = world.dialog(side);
    world.tell(id, dialog::Message::Request(inbound));
}

/// The state of the place, on whichever stage.
fn held(world: &World) -> String {
    world.state(&place())
}

#[test]
fn who_dials_the_place_talks_to_who_is_parked_there() {
    for is_beside_other in [false, true] {
        let mut calls = parked(is_beside_other);
        calls.left.call("5901", SDP_A);
        calls.carry();
        assert_eq!(calls.left.count(A, "200"), 1, "{:#?}", calls.left.lines());
        calls.left.ack("");
        calls.carry();
        let offer = calls.joined.last(A, "INVITE");
        assert_eq!(offer.by, calls.joined.dialog(2));
        calls.joined.answer(A, "INVITE", 200, SDP_A);
        let (first, come) = (calls.joined.side(1), calls.joined.side(2));
        assert_eq!(calls.joined.config(1).route, MediaRoute::Relay(come));
        assert_eq!(calls.joined.config(2).route, MediaRoute::Relay(first));
        assert_eq!(calls.joined.state(&calls.joined.call_id()), "talking");
        calls.carry();
        for world in [&calls.left, &calls.joined] {
            assert!(["", "empty"].contains(&held(world).as_str()));
        }
        calls.joined.request(1, A, "BYE", 11, "");
        calls.joined.answer(A, "BYE", 200, "");
        calls.carry();
        assert_eq!(calls.joined.record().ended_by, "caller");
        assert_eq!(calls.left.record().cause, "PICKED_OFF");
    }
}

#[test]
fn who_hangs_up_frees_the_place_and_the_next_is_parked_there() {
    let mut calls = parked(true);
    calls.joined.request(1, A, "BYE", 11, "");
    calls.carry();
    calls.joined.record();
    assert_eq!(held(&calls.left), "empty");
    calls.left.call("5901", SDP_A);
    calls.left.ack("");
    assert_eq!(calls.left.state(&calls.left.call_id()), "parked");
}

/// The call is lost with its node, without a word: the place finds that out.
#[test]
fn a_place_whose_call_is_lost_is_free() {
    let mut world = with_places(World::new());
    let gone = CallKey::from_bits(7 << 64);
    world.tell(place(), parking::Message::Take { call: gone });
    world.call("5901", SDP_A);
    assert_eq!(world.count(A, "200"), 0, "the other one is asked first");
    let word = Word::AreYouThere;
    let message = call::Message::Park {
        place: place(),
        word,
    };
    let back = Event::Undelivered {
        to: ActorId::Call(gone),
        message: message.into(),
        why: Undelivered::Absent,
    };
    world.give(place(), back);
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "parked");
}

#[test]
fn a_place_that_says_nothing_holds_nobody_up() {
    let mut calls = calls(false);
    calls.left.call("5901", SDP_A);
    for _ in 0..50 {
        calls.left.pass(Duration::from_millis(500));
    }
    assert_eq!(calls.left.count(A, "480"), 1);
    let asked = calls.left.abroad.len();
    assert!((30..45).contains(&asked), "{asked}");
    calls.left.record();
}

/// Nobody takes it for 30 s, and nobody has put it there: the route goes on, or the call ends.
#[test]
fn a_call_that_nobody_takes_goes_on() {
    let mut world = with_places(World::new());
    world.call("5901", SDP_A);
    world.ack("");
    world.pass(Duration::from_secs(29));
    assert_eq!(world.state(&world.call_id()), "parked");
    world.pass(Duration::from_secs(2));
    assert_eq!(world.count(A, "BYE"), 1);
    assert_eq!(held(&world), "empty");
    let mut world = with_places(World::new());
    world.call("5921", SDP_A);
    world.ack("");
    world.pass(Duration::from_secs(31));
    assert_eq!(world.config(1).route, MediaRoute::Echo);
    assert_eq!(world.state(&world.call_id()), "talking");
}

/// 1000 and 1001 talk; one of them parks the other.
fn put_there(by: u8) -> World {
    let mut world = with_places(World::new());
    world.connect();
    world
        .homes
        .insert(aor("1000@example.org"), vec![target(A, 1000)]);
    world.registered.push(aor("1000@example.org"));
    let peer = if by == 1 { A } else { B };
    refer(&mut world, by, peer, if by == 1 { 11 } else { 1 }, "5901");
    assert_eq!(world.count(peer, "202"), 1);
    let notify = world.last(peer, "NOTIFY");
    assert!(body_of(&notify).contains("200 OK"), "{}", body_of(&notify));
    assert_eq!(world.count(peer, "BYE"), 1);
    world.answer(peer, "BYE", 200, "");
    assert_eq!(world.state(&world.call_id()), "parked");
    let stays = if by == 1 { 2 } else { 1 };
    assert!(matches!(
        world.config(stays).route,
        MediaRoute::Parked { .. }
    ));
    world
}

#[test]
fn a_call_that_nobody_takes_goes_back_to_who_has_parked_it() {
    for by in [1, 2] {
        let (parker, party, name) = match by {
            1 => (A, 2, "sip:1001@example.org"),
            _ => (B, 1, "sip:1000@example.org"),
        };
        let mut world = put_there(by);
        world.pass(Duration::from_secs(31));
        let invite = world.last(parker, "INVITE");
        let from = invite.message.from().expect("From");
        assert_eq!(from.uri.to_string(), name);
        assert_eq!(held(&world), "empty");
        world.answer(parker, "INVITE", 180, "");
        let route = world.config(party).route;
        assert!(matches!(route, MediaRoute::RingBack { .. }), "{route:?}");
        world.answer(parker, "INVITE", 200, SDP_B);
        assert_eq!(world.config(party).route, MediaRoute::Relay(world.side(3)));
        assert_eq!(world.state(&world.call_id()), "talking");
        // It may be parked again.
        refer(&mut world, 3, parker, 1, "5902");
        assert_eq!(world.count(parker, "202"), 2, "{:#?}", world.lines());
        assert_eq!(world.state(&world.call_id()), "parked");
    }
}

#[test]
fn who_has_parked_a_call_and_does_not_answer_ends_it() {
    for status in [486, 0] {
        let mut world = put_there(2);
        world.pass(Duration::from_secs(31));
        assert_eq!(world.count(B, "INVITE"), 2);
        match status {
            0 => world.pass(Duration::from_secs(31)),
            status => world.answer(B, "INVITE", status, ""),
        }
        assert_eq!(world.count(A, "BYE"), 1, "{:#?}", world.lines());
    }
}

/// Another call is in the place already, which has said so.
fn taken(world: &mut World) {
    let call = CallKey::from_bits(7 << 64);
    world.tell(place(), parking::Message::Take { call });
}

fn is_there(world: &mut World) {
    taken(world);
    world.abroad.clear();
}

#[test]
fn nobody_is_put_through_to_a_stranger() {
    let mut world = with_places(World::new());
    world.connect();
    taken(&mut world);
    refer(&mut world, 2, B, 1, "5901");
    assert_eq!(world.count(B, "202"), 1);
    is_there(&mut world);
    let notify = world.last(B, "NOTIFY");
    assert!(body_of(&notify).contains("486"), "{}", body_of(&notify));
    assert_eq!(world.state(&world.call_id()), "talking");
    assert_eq!(world.config(1).route, MediaRoute::Relay(world.side(2)));
    assert_eq!(world.count(B, "BYE"), 0);
    // Who has left hears no NOTIFY: it is called.
    refer(&mut world, 2, B, 2, "5901");
    world.request(2, B, "BYE", 3, "");
    is_there(&mut world);
    assert_eq!(world.count(B, "INVITE"), 2, "{:#?}", world.lines());
    world.answer(B, "INVITE", 200, SDP_B);
    assert_eq!(world.state(&world.call_id()), "talking");
}

/// Who is sent there by somebody's settings, or has no account, takes nobody's call.
#[test]
fn only_who_dials_takes_a_call() {
    let mut world = with_places(World::new());
    taken(&mut world);
    let user = aor("1001@example.org");
    world.settings.entry(user).or_default().always = Some("5901".to_owned());
    world.call("1001", SDP_A);
    is_there(&mut world);
    assert_eq!(world.count(A, "486"), 1);
    let mut world = with_places(World::new());
    taken(&mut world);
    let text = World::invite_text("5901", SDP_A, "");
    let inbound = world.inbound(A, text, None);
    let id = world.call_id();
    world.tell(id, call::Message::Invite(inbound));
    is_there(&mut world);
    assert_eq!(world.count(A, "403"), 1);
}

/// The place was given away on the other side of a cut.
#[test]
fn who_has_lost_its_place_goes_back() {
    let mut world = put_there(2);
    let (call, word) = (
        world.call_id(),
        Word::Taken {
            by: CallKey::from_bits(7 << 64),
        },
    );
    let place = place();
    world.tell(call, call::Message::Park { place, word });
    assert_eq!(world.count(B, "INVITE"), 2);
}

#[test]
fn who_may_not_take_a_call_is_refused() {
    for (account, is_proven, status) in [
        ("1000@example.org", false, "403"),
        ("2000@hashed.example", true, "403"),
    ] {
        let mut calls = parked(false);
        calls.left.call("5901", SDP_A);
        while !calls
            .left
            .abroad
            .iter()
            .any(|(_, _, message)| matches!(message, Message::Call(call::Message::Join { .. })))
        {
            assert!(calls.carry_one());
        }
        let (from, to, message) = calls.left.abroad.remove(0);
        let Message::Call(call::Message::Join {
            side,
            word: call::Word::Retrieve(mut ask),
        }) = message
        else {
            panic!("{message:?}");
        };
        ask.is_proven = is_proven;
        ask.by = Some(aor(account));
        let word = call::Word::Retrieve(ask);
        let message = call::Message::Join { side, word }.into();
        calls.joined.give(to, Event::Message { from, message });
        calls.carry();
        assert_eq!(calls.left.count(A, status), 1);
        assert_eq!(calls.joined.state(&calls.joined.call_id()), "parked");
    }
}

/// Two dial the place in the same moment: one of them has the call, the other one is parked there.
#[test]
fn who_comes_second_is_parked_itself() {
    let mut calls = parked(false);
    calls.left.call("5901", SDP_A);
    while !calls
        .left
        .abroad
        .iter()
        .any(|(_, _, message)| matches!(message, Message::Call(call::Message::Join { .. })))
    {
        assert!(calls.carry_one());
    }
    // Somebody else was quicker: what is asked finds nobody parked any more.
    calls.left.abroad.clear();
    calls.joined.request(1, A, "BYE", 11, "");
    let (call, side, word) = (calls.left.call_id(), 1, call::Word::Asked(Err(481)));
    calls.left.tell(call, call::Message::Join { side, word });
    calls.carry();
    calls.left.ack("");
    calls.pass(Duration::from_secs(1));
    assert_eq!(calls.left.state(&calls.left.call_id()), "parked");
    assert_eq!(held(&calls.joined), "held");
}

/// A take-over of a parked call: its party is told, the place too; the time goes on.
#[test]
fn a_parked_call_survives_its_node() {
    for is_heir in [false, true] {
        let mut world = put_there(2);
        world.pass(Duration::from_secs(20));
        kill(&mut world, is_heir);
        if is_heir {
            settle(&mut world, A, SDP_A);
        }
        assert_eq!(world.state(&world.call_id()), "parked");
        assert_eq!(held(&world), "held");
        let route = world.config(1).route;
        assert!(matches!(route, MediaRoute::Parked { .. }), "{route:?}");
        world.pass(Duration::from_secs(12));
        assert_eq!(world.count(B, "INVITE"), 2, "{:#?}", world.lines());
        kill(&mut world, is_heir);
        world.pass(Duration::from_secs(2));
        settle(&mut world, A, SDP_A);
        world.answer(B, "INVITE", 200, SDP_B);
        assert_eq!(world.state(&world.call_id()), "talking");
    }
}

/// A node dies at any event while a call is parked: it is parked in the end, or talks on.
#[test]
fn a_kill_while_a_call_is_put_there_loses_nobody() {
    for heirs in [false, true] {
        for after in 1..40 {
            let mut world = with_places(World::new());
            world.connect();
            world.has_heirs = heirs;
            world.events = 0;
            world.kills_after = Some(after);
            refer(&mut world, 2, B, 1, "5901");
            world.kills_after = None;
            for _ in 0..6 {
                world.pass(Duration::from_millis(700));
                settle(&mut world, A, SDP_A);
                settle(&mut world, B, SDP_B);
            }
            let state = world.state(&world.call_id());
            let is_well = ["parked", "talking"].contains(&state.as_str());
            assert!(is_well, "{heirs} {after}: {state} {:#?}", world.lines());
            assert_eq!(held(&world) == "held", state == "parked", "{heirs} {after}");
        }
    }
}

/// Either node, or both, die between any two messages: who dials has the call in the end, or is parked itself, or
/// hears that it has not; whoever was parked still is, or talks.
#[test]
fn a_kill_while_a_parked_call_is_taken_leaves_nobody_in_between() {
    let (mut had, mut all) = (0, 0);
    for (is_beside_other, heirs) in [(false, false), (false, true), (true, false), (true, true)] {
        for killed in 0..42 {
            let mut calls = parked(is_beside_other);
            calls.left.call("5901", SDP_A);
            for carried in 0..50 {
                if carried == killed / 3 {
                    if killed % 3 != 1 {
                        kill(&mut calls.left, heirs);
                    }
                    if killed % 3 != 0 {
                        kill(&mut calls.joined, heirs);
                    }
                }
                if !calls.carry_one() {
                    if calls.left.count(A, "200") > 0 {
                        calls.left.ack("");
                    }
                    calls.pass(Duration::from_millis(700));
                    settle(&mut calls.joined, A, SDP_A);
                }
            }
            let what = format!("{is_beside_other} {heirs} {killed}");
            let state = calls.joined.state(&calls.joined.call_id());
            let other = calls.left.state(&calls.left.call_id());
            all += 1;
            if state == "talking" {
                assert_eq!(other, "transferred", "{what}");
                let mut places = (2..6).map(|side| MediaRoute::Relay(calls.joined.side(side)));
                let route = calls.joined.config(1).route;
                assert!(places.any(|place| place == route), "{what} {route:?}");
                had += 1;
            } else {
                assert_eq!(state, "parked", "{what}: {:#?}", calls.joined.lines());
                let lines = calls.left.lines();
                let heard = calls.left.count(A, "BYE") + calls.left.count(A, "480");
                assert!(heard > 0, "{what}: {other} {lines:#?}");
            }
        }
    }
    assert!(had * 4 >= all * 3, "{had} of {all}");
}

fn kill(world: &mut World, has_heirs: bool) {
    if has_heirs {
        world.take_over(world.site.node.0 + 1);
    } else {
        world.restart();
    }
}
