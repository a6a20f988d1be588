//! Who wants no call beside another is busy while it is in one (`waiting.rs`).

use std::time::Duration;

use contract::{ActorId, CallKey, Event, SchemaVersion, Undelivered};
use sip::Aor;

use super::fixture::*;
use crate::call::Message;
use crate::site::{Group, GroupOrder, Step};

const BUSY: &str = "1001@example.org";

fn other(number: u128) -> CallKey {
    CallKey::from_bits(number << 100)
}

/// 1001 wants no call beside another, and may be in those.
fn world(engaged: &[CallKey]) -> World {
    let mut world = World::new();
    world.health.schema = SchemaVersion::NEWEST;
    world.has_other = true;
    world.registered.push(aor("1002@example.org"));
    world.engaged = engaged.to_vec();
    world.settings.entry(aor(BUSY)).or_default().call_waiting = false;
    world
}

/// Takes what other calls were asked.
fn asked(world: &mut World) -> Vec<CallKey> {
    let own = world.call_id().call().expect("a call");
    let words = std::mem::take(&mut world.abroad).into_iter();
    let words = words.map(|(_, to, message)| match message {
        crate::Message::Call(Message::IsWith { aor, reply }) => {
            assert_eq!((aor.as_str(), reply), (BUSY, own));
            to.call().expect("a call")
        }
        other => panic!("{other:?}"),
    });
    words.collect()
}

fn says(world: &mut World, call: CallKey, is_with: bool) {
    let (aor, own) = (aor(BUSY), world.call_id());
    world.tell(own, Message::With { aor, call, is_with });
}

fn is_gone(world: &mut World, call: CallKey) {
    let own = world.call_id();
    let reply = own.call().expect("a call");
    let aor = aor(BUSY);
    let event = Event::Undelivered {
        to: ActorId::Call(call),
        message: Message::IsWith { aor, reply }.into(),
        why: Undelivered::Absent,
    };
    world.give(own, event);
}

/// What a registration was told of calls, of those of 1001.
fn told(world: &World) -> Vec<(CallKey, bool)> {
    let of = ActorId::Registration(BUSY.into());
    let told = world.in_calls.iter().filter(|(to, ..)| *to == of);
    told.map(|(_, call, is_in)| (*call, *is_in)).collect()
}

#[test]
fn who_is_in_another_call_is_busy_and_who_was_rings() {
    let mut busy = world(&[other(1), other(2)]);
    busy.call("1001", SDP_A);
    assert_eq!(asked(&mut busy), [other(1), other(2)]);
    assert_eq!((busy.count(B, "INVITE"), busy.count(A, "486")), (0, 0));
    says(&mut busy, other(2), true);
    assert_eq!((busy.count(B, "INVITE"), busy.count(A, "486")), (0, 1));
    assert_eq!(busy.record().cause, "USER_BUSY");
    let own = busy.call_id().call().expect("a call");
    assert_eq!(told(&busy), [(own, false)], "it is in that one no more");

    let mut free = world(&[other(1), other(2)]);
    free.call("1001", SDP_A);
    is_gone(&mut free, other(1));
    assert_eq!(free.count(B, "INVITE"), 0, "one has not answered");
    says(&mut free, other(2), false);
    assert_eq!(free.count(B, "INVITE"), 1);
    assert_eq!(told(&free), [(other(1), false), (other(2), false)]);
    free.answer(B, "INVITE", 200, SDP_B);
    free.ack("");
    assert_eq!(free.state(&free.call_id()), "talking");
    // It says so too late, or again.
    says(&mut free, other(2), true);
    assert_eq!(free.state(&free.call_id()), "talking");
}

#[test]
fn nobody_is_asked_where_it_does_not_matter() {
    // Calls are welcome beside others; none is known; an emergency service calls back (RFC 7090 §4).
    let mut welcome = world(&[other(1)]);
    welcome.settings.clear();
    welcome.call("1001", SDP_A);
    let mut idle = world(&[]);
    idle.call("1001", SDP_A);
    let mut callback = world(&[other(1)]);
    let text = World::invite_text("1001", SDP_A, "Priority: psap-callback\r\n");
    let inbound = callback.inbound(A, text, Some("1000@example.org"));
    let id = callback.call_id();
    callback.tell(id, Message::Invite(inbound));
    for mut world in [welcome, idle, callback] {
        assert_eq!(asked(&mut world), []);
        assert_eq!(world.count(B, "INVITE"), 1);
    }
    // Who is not to be disturbed is busy in any case.
    let mut quiet = world(&[other(1)]);
    quiet.settings.entry(aor(BUSY)).or_default().do_not_disturb = true;
    quiet.call("1001", SDP_A);
    assert_eq!((asked(&mut quiet), quiet.count(A, "486")), (vec![], 1));
}

#[test]
fn calls_that_do_not_answer_keep_nobody_busy() {
    let mut world = world(&[other(1)]);
    world.call("1001", SDP_A);
    assert_eq!(asked(&mut world), [other(1)]);
    world.pass(Duration::from_millis(499));
    assert_eq!(world.count(B, "INVITE"), 0);
    world.pass(Duration::from_millis(2));
    assert_eq!(world.count(B, "INVITE"), 1);
    assert_eq!(told(&world), [], "it may be with that one all the same");
}

#[test]
fn a_call_to_who_is_in_another_goes_where_that_sends_it_when_busy() {
    let mut world = world(&[other(1)]);
    world.settings.entry(aor(BUSY)).or_default().busy = Some("1002".to_owned());
    world.call("1001", SDP_A);
    says(&mut world, other(1), true);
    assert_eq!(world.count(A, "181"), 1);
    let to = world.last(B, "INVITE").message.to().expect("To").uri;
    assert_eq!(to.user().as_deref(), Some("1002"));
}

#[test]
fn a_group_passes_over_who_is_in_another_call() {
    let group = |world: &mut World| {
        let domain = &mut world.site.domains[0];
        let group = Group {
            members: ["1001", "1002"].map(str::to_owned).to_vec(),
            order: GroupOrder::InTurn,
            ring_s: 10,
        };
        domain.groups.insert("team".to_owned(), group);
        let mut route = domain.routes[0].clone();
        route.destination = regex::Regex::new("^2000$").expect("a pattern");
        let target = "group/team".to_owned();
        route.steps = vec![Step::Bridge { target }];
        domain.routes.push(route);
    };
    for is_with in [Some(true), Some(false), None] {
        let mut world = world(&[other(1)]);
        group(&mut world);
        world.call("2000", SDP_A);
        assert_eq!(asked(&mut world), [other(1)]);
        match is_with {
            Some(is_with) => says(&mut world, other(1), is_with),
            None => world.pass(Duration::from_millis(501)),
        }
        let to = world.last(B, "INVITE").message.to().expect("To").uri;
        let wanted = if is_with == Some(true) {
            "1002"
        } else {
            "1001"
        };
        assert_eq!(to.user().as_deref(), Some(wanted), "{is_with:?}");
    }
}

#[test]
fn whoever_goes_on_with_a_call_asks_again() {
    for is_moved in [false, true] {
        let mut world = world(&[other(1)]);
        world.call("1001", SDP_A);
        assert_eq!(asked(&mut world), [other(1)]);
        match is_moved {
            true => world.take_over(2),
            false => world.restart(),
        }
        assert_eq!(asked(&mut world), [other(1)], "{is_moved}");
        assert_eq!(world.count(B, "INVITE"), 0);
        says(&mut world, other(1), true);
        assert_eq!(world.count(A, "486"), 1, "{is_moved}");
    }
}

/// Returns what a call says to another one that asks for a user.
fn is_with(world: &mut World, user: &str) -> Option<bool> {
    let (aor, own): (Aor, _) = (aor(user), world.call_id());
    let reply = other(9);
    world.abroad.clear();
    world.tell(own, Message::IsWith { aor, reply });
    let words = std::mem::take(&mut world.abroad).into_iter();
    let mut words = words.filter_map(|(_, to, message)| match message {
        crate::Message::Call(Message::With { is_with, .. }) => {
            assert_eq!(to, ActorId::Call(other(9)));
            Some(is_with)
        }
        _ => None,
    });
    words.next()
}

#[test]
fn a_call_knows_who_calls_is_called_rings_and_talks_in_it() {
    let mut world = world(&[]);
    world.call("1001", SDP_A);
    let users = ["1000@example.org", BUSY, "1002@example.org"];
    let all = |world: &mut World| users.map(|user| is_with(world, user));
    let both = [Some(true), Some(true), Some(false)];
    assert_eq!(all(&mut world), both, "called");
    world.answer(B, "INVITE", 180, "");
    assert_eq!(all(&mut world), both, "rings");
    world.take_over(2);
    assert_eq!(all(&mut world), both, "rings, and was taken over");
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    assert_eq!(all(&mut world), both, "talks");
    world.take_over(3);
    assert_eq!(all(&mut world), both, "talks, and was taken over");
    let own = world.call_id();
    let cause = "NORMAL_CLEARING".to_owned();
    world.tell(own, Message::Hangup { cause });
    let said = all(&mut world);
    assert!(said.iter().all(|said| *said != Some(true)), "{said:?}");
}

#[test]
fn the_registration_of_who_calls_is_told_if_it_may_count() {
    let own = ActorId::Registration("1000@example.org".into());
    let mut world = self::world(&[]);
    world.call("9196", SDP_A);
    let call = world.call_id().call().expect("a call");
    assert_eq!(world.in_calls, [(own, call, true)]);
    // A node of the cluster could not read it.
    let mut older = self::world(&[]);
    older.health.schema = SchemaVersion(2);
    older.settings.clear();
    older.call("9196", SDP_A);
    assert_eq!(older.in_calls, []);
}
